//! Programs to kill and to suspend.

use std::process::Command;
use std::time::Duration;

use coordinator_tests::servers::Program;
use coordinator_tests::servers::process::now;

use crate::support::{LONG, Tested};

fn shell(script: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", script]);
    command
}

#[tokio::test]
async fn events_come_in_order_with_their_own_moments() -> Tested {
    let mut program = Program::start(&mut shell("echo 5000000000 began; echo plain; exit 3"))?;
    let began = program.next().await.unwrap();
    assert_eq!(
        (began.at, began.text.as_str()),
        (Duration::from_secs(5), "began")
    );
    let before = now();
    let plain = program.until("pl", LONG).await?;
    assert_eq!(plain.text, "plain");
    assert!(plain.at > Duration::from_secs(5) && plain.at <= before.max(now()));
    assert_eq!(program.end().await?.code(), Some(3));
    assert!(program.kill().is_err());
    Ok(())
}

#[tokio::test]
async fn what_was_passed_over_can_still_be_read_and_what_does_not_come_is_told() -> Tested {
    let mut program = Program::start(&mut shell("echo one; echo two; echo three"))?;
    assert_eq!(program.until("three", LONG).await?.text, "three");
    assert_eq!(program.until("one", LONG).await?.text, "one");
    assert_eq!(program.next().await.unwrap().text, "two");
    let missing = program.until("four", LONG).await.unwrap_err().to_string();
    assert!(missing.contains("it has ended"), "{missing}");
    Ok(())
}

#[tokio::test]
async fn a_suspended_program_says_nothing_until_it_is_resumed() -> Tested {
    let mut program = Program::start(&mut shell("while read -r word; do echo $word; done"))?;
    program.tell("first")?;
    program.until("first", LONG).await?;
    program.suspend()?;
    program.tell("second")?;
    assert!(
        program
            .until("second", Duration::from_millis(200))
            .await
            .is_err()
    );
    program.resume()?;
    program.until("second", LONG).await?;
    Ok(())
}

#[tokio::test]
async fn a_program_that_is_killed_ends_by_it() -> Tested {
    let mut program = Program::start(&mut shell("echo up; exec sleep 600"))?;
    program.until("up", LONG).await?;
    let at = program.kill()?;
    assert!(at <= now());
    let ended = program.end().await?;
    assert_eq!(
        std::os::unix::process::ExitStatusExt::signal(&ended),
        Some(9)
    );
    Ok(())
}
