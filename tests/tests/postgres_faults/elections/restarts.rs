//! Servers that restart and crash.

use coordinator_tests::servers::process::now;
use coordinator_tests::servers::{Postgres, Stop};

use super::TTL;
use crate::kit::{Member, Place, Sessions, Tested, first_of, ms, one_at_a_time, reigns};

/// Three that campaign on a server of their own.
async fn three(place: &Place) -> Tested<Vec<Member>> {
    let members = super::campaigning(place, &["a", "b", "c"]).await?;
    Sessions::of(place).await?.until_waiting(2).await?;
    Ok(members)
}

/// E7: the server restarts, in an orderly way, at once, and after a crash. Nobody ends, and one leads.
#[tokio::test]
async fn e7_after_each_restart_of_the_server_one_leads_and_nobody_has_ended() -> Tested {
    let Some(server) = Postgres::start(&[]).await? else {
        return Ok(());
    };
    let place = Place::on(&server);
    let mut members = three(&place).await?;
    for how in ["fast", "immediate", "crash"] {
        let down = now();
        match how {
            "fast" => server.restart(Stop::Fast).await?,
            "immediate" => server.restart(Stop::Immediate).await?,
            _ => {
                server.crash().await?;
                server.start_again().await?;
            }
        }
        let (_, elected) = first_of(&mut members, "elected x").await?;
        println!("E7 {how} to next: {:?}", elected.at.saturating_sub(down));
        for member in &mut members {
            member.listen(ms(700)).await;
        }
    }
    one_at_a_time(&reigns(&mut members, "x").await, 4);
    for member in &mut members {
        member.quit().await?;
    }
    Ok(())
}

/// I1, I3: one process of the server is killed, and the server ends all sessions and begins anew
/// with its start time unchanged. Its holders are waited for.
#[tokio::test]
async fn i1_a_server_that_begins_anew_under_its_old_start_time_has_one_leader() -> Tested {
    let Some(server) = Postgres::start(&[]).await? else {
        return Ok(());
    };
    let place = Place::on(&server);
    let mut members = three(&place).await?;
    for _ in 0..3 {
        let sessions = Sessions::of(&place).await?;
        let victim = sessions
            .client
            .query_one("select pg_backend_pid()", &[])
            .await?;
        let down = now();
        server
            .kill_session(u32::try_from(victim.get::<_, i32>(0))?)
            .await?;
        let (_, elected) = first_of(&mut members, "elected x").await?;
        println!(
            "I1 re-initialisation to next: {:?}",
            elected.at.saturating_sub(down)
        );
        for member in &mut members {
            member.listen(TTL).await;
        }
    }
    one_at_a_time(&reigns(&mut members, "x").await, 4);
    for member in &mut members {
        member.quit().await?;
    }
    Ok(())
}
