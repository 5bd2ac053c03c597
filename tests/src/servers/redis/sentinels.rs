//! A primary, its replica, and Sentinels that promote the replica when the primary is gone.

use std::time::{Duration, Instant};

use coordinator_servers::{self as local, Error};
use tokio::time::sleep;

use super::{LOOK, PATIENCE, Redis};

pub use coordinator_servers::SENTINEL_NAME;

/// Sentinels that watch one primary, called [`SENTINEL_NAME`].
#[derive(Debug, Clone)]
pub struct Sentinels {
    sentinels: Vec<Redis>,
}

impl Sentinels {
    /// Starts so many, who hold the primary for gone when most of them have heard nothing of it for
    /// so long; and waits until they know each other and that one replica.
    pub async fn of(primary: &Redis, count: u32, silent: Duration) -> Result<Self, Error> {
        let silent = u32::try_from(silent.as_millis()).unwrap_or(u32::MAX);
        let mut sentinels = Vec::new();
        for _ in 0..count {
            let start =
                move |primary: &mut local::Redis| local::sentinel(primary, count / 2 + 1, silent);
            sentinels.push(Redis::from(primary.with(start).await?));
        }
        let sentinels = Self { sentinels };
        let known = format!("slaves=1,sentinels={count}");
        for sentinel in &sentinels.sentinels {
            let began = Instant::now();
            loop {
                let said = sentinel.info("sentinel", "master0").await?;
                if said.contains("status=ok") && said.ends_with(&known) {
                    break;
                }
                if began.elapsed() >= PATIENCE {
                    return Err(Error::Missing(format!("a Sentinel knows only {said}")));
                }
                sleep(LOOK).await;
            }
        }
        Ok(sentinels)
    }

    /// The URL by which clients find whoever is the primary now, with the password of the servers.
    pub fn url(&self, server: &Redis) -> String {
        let ports = self.sentinels.iter().map(Redis::port);
        let hosts: Vec<_> = ports.map(|port| format!("127.0.0.1:{port}")).collect();
        let (password, hosts) = (server.password(), hosts.join(","));
        format!("redis-sentinel://:{password}@{hosts}/{SENTINEL_NAME}")
    }

    /// The Sentinels themselves.
    pub fn all(&self) -> &[Redis] {
        &self.sentinels
    }

    /// Waits until they name the server at that port as the primary.
    pub async fn until_primary(&self, port: u16) -> Result<(), Error> {
        for sentinel in &self.sentinels {
            let began = Instant::now();
            loop {
                let command = ["SENTINEL", "GET-MASTER-ADDR-BY-NAME", SENTINEL_NAME];
                let said = sentinel.ask(&command).await?;
                if said.list().last().map(local::Reply::text) == Some(port.to_string()) {
                    break;
                }
                if began.elapsed() >= PATIENCE {
                    return Err(Error::Missing(format!("a Sentinel still names {said:?}")));
                }
                sleep(LOOK).await;
            }
        }
        Ok(())
    }
}
