//! Encrypted connections: they work for whoever is trusted, and whoever is not is told what to do.

mod authority;

use std::path::Path;
use std::time::{Duration, Instant};

use coordinator_node::{Incoming, LockConfig, Node, Topic};
use coordinator_redis::{ConnectError, RedisConfig};
use coordinator_servers::free_port;
use coordinator_tests::servers::Redis;
use coordinator_tests::servers::redis::Cluster;
use tokio::time::timeout;

use crate::errors::refusal;
use crate::kit::{CLIENTS, LONG, Place, Tested};
use authority::Authority;

const NEWS: Topic<String> = Topic::new("news");

/// A server that also speaks TLS.
struct Server {
    redis: Redis,
    port: u16,
}

impl Server {
    /// With a certificate for these names. `wants_ours`: clients must show one as well.
    async fn start(
        authority: &Authority,
        names: &[&str],
        wants_ours: bool,
    ) -> Tested<Option<Self>> {
        let (certificate, key) = authority.certify("server", names)?;
        let port = free_port()?;
        let (number, ca) = (port.to_string(), authority.ca());
        let settings = [
            ("tls-port", number.as_str()),
            ("tls-cert-file", text(&certificate)),
            ("tls-key-file", text(&key)),
            ("tls-ca-cert-file", text(ca)),
            ("tls-auth-clients", if wants_ours { "yes" } else { "no" }),
        ];
        let redis = Redis::start(&settings).await?;
        Ok(redis.map(|redis| Self { redis, port }))
    }

    /// Its URL by TLS, or without at the same port.
    fn url(&self, scheme: &str, host: &str, parameters: &str) -> String {
        let (password, port) = (self.redis.password(), self.port);
        format!("{scheme}://:{password}@{host}:{port}{parameters}")
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a temporary folder has a plain name")
}

/// The URL of a node whose client trusts this authority.
fn trusting(server: &Server, authority: &Authority, client: &str) -> String {
    let ca = format!("?ca={}", authority.ca().display());
    let place = Place::on(client, &server.redis).with("trust_empty_store", "true");
    place.at(&server.url("rediss", "localhost", &ca))
}

/// Leases and messages over TLS, also after the server has broken the connections off.
#[tokio::test]
async fn a_node_works_over_tls_and_comes_back() -> Tested {
    let authority = Authority::new("ours")?;
    let names = ["localhost", "127.0.0.1"];
    for client in CLIENTS {
        let Some(server) = Server::start(&authority, &names, false).await? else {
            return Ok(());
        };
        works(&trusting(&server, &authority, client), &server.redis).await?;
    }
    Ok(())
}

/// The same with a node of a cluster, which says itself where it listens for clients that come over TLS.
#[tokio::test]
async fn a_node_of_a_cluster_is_reached_over_tls_alone() -> Tested {
    let authority = Authority::new("ours")?;
    let (certificate, key) = authority.certify("server", &["localhost", "127.0.0.1"])?;
    let port = free_port()?;
    let number = port.to_string();
    let settings = [
        ("tls-cluster", "yes"),
        ("tls-port", number.as_str()),
        ("tls-cert-file", text(&certificate)),
        ("tls-key-file", text(&key)),
        ("tls-ca-cert-file", text(authority.ca())),
        ("tls-auth-clients", "no"),
    ];
    let Some(cluster) = Cluster::start(1, &settings).await? else {
        return Ok(());
    };
    let [node] = cluster.nodes() else {
        anyhow::bail!("there is one");
    };
    for client in CLIENTS {
        let place = Place::on(client, node).with("trust_empty_store", "true");
        let (password, ca) = (node.password(), authority.ca().display());
        let url = format!("rediss-cluster://:{password}@localhost:{port}?ca={ca}");
        works(&place.at(&url), node).await?;
    }
    Ok(())
}

/// A lease and messages, also after the server has broken all connections off.
async fn works(url: &str, server: &Redis) -> Tested {
    let node = Node::builder("g").url(url).start().await?;
    let mut news = node.bus().subscribe(&NEWS).await?;
    for round in ["first", "second"] {
        let lock = node.lock(LockConfig::new(round));
        timeout(LONG, lock.acquire()).await??.release().await?;
        // What is said while nobody is connected is lost, so it is said again until it is heard.
        let heard = async {
            loop {
                node.bus().publish(&NEWS, &round.to_owned()).await.ok();
                let next = timeout(Duration::from_millis(200), news.next()).await;
                if matches!(next, Ok(Some(Incoming::Message(got))) if got.payload == round) {
                    return anyhow::Ok(());
                }
            }
        };
        timeout(LONG, heard).await??;
        for kind in ["normal", "pubsub"] {
            server.ask(&["CLIENT", "KILL", "TYPE", kind]).await?;
        }
    }
    node.shutdown().await?;
    Ok(())
}

/// A user of the server's own, by its address, whose certificate names that.
#[tokio::test]
async fn a_user_comes_over_tls_with_a_certificate_where_one_is_wanted() -> Tested {
    let authority = Authority::new("ours")?;
    let Some(server) = Server::start(&authority, &["127.0.0.1"], true).await? else {
        return Ok(());
    };
    server
        .redis
        .ask(&[
            "ACL",
            "SETUSER",
            "guest",
            "on",
            ">open-sesame",
            "~*",
            "&*",
            "+@all",
        ])
        .await?;
    let (certificate, key) = authority.certify("guest", &["guest"])?;
    for client in CLIENTS {
        let place = Place::on(client, &server.redis).with("trust_empty_store", "true");
        let ca = format!("?ca={}", authority.ca().display());
        let address = format!("rediss://guest:open-sesame@127.0.0.1:{}", server.port);
        let (error, text) =
            refusal(RedisConfig::from_url(&place.at(&format!("{address}{ca}")))?).await;
        assert!(matches!(error, ConnectError::Tls { .. }), "{error:?}");
        assert!(text.contains("`cert=`"), "{text}");
        let ours = format!("&cert={}&key={}", certificate.display(), key.display());
        let url = place.at(&format!("{address}{ca}{ours}"));
        let node = timeout(LONG, Node::builder("g").url(&url).start()).await??;
        node.lock("l").acquire().await?.release().await?;
        node.shutdown().await?;
    }
    Ok(())
}

/// Whoever answers is not believed unless the right one has signed for the right name.
#[tokio::test]
async fn a_stranger_is_not_believed_and_what_to_do_is_told() -> Tested {
    let authority = Authority::new("ours")?;
    // Another, and one that took the name of ours.
    let (other, alike) = (Authority::new("other")?, Authority::new("ours")?);
    let Some(server) = Server::start(&authority, &["localhost"], false).await? else {
        return Ok(());
    };
    let other_ca = format!("?ca={}", other.ca().display());
    let alike_ca = format!("?ca={}", alike.ca().display());
    let right_ca = format!("?ca={}", authority.ca().display());
    for client in CLIENTS {
        let place = Place::on(client, &server.redis);
        for (host, ca, advice) in [
            ("localhost", other_ca.as_str(), "`ca=`"),
            ("localhost", alike_ca.as_str(), "`ca=`"),
            // The system's own.
            ("localhost", "", "`ca=`"),
            ("127.0.0.1", right_ca.as_str(), "another name"),
        ] {
            let url = place.at(&server.url("rediss", host, ca));
            let (error, text) = refusal(RedisConfig::from_url(&url)?).await;
            assert!(matches!(error, ConnectError::Tls { .. }), "{error:?}");
            assert!(!error.is_transient() && text.contains(advice), "{text}");
        }
    }
    Ok(())
}

/// TLS where there is none, and none where there is: told soon, both ways.
#[tokio::test]
async fn a_port_of_the_other_kind_is_told_and_nobody_hangs() -> Tested {
    let authority = Authority::new("ours")?;
    let Some(server) = Server::start(&authority, &["localhost"], false).await? else {
        return Ok(());
    };
    let plain = format!("rediss://localhost:{}", server.redis.port());
    for client in CLIENTS {
        let place = Place::on(client, &server.redis);
        let began = Instant::now();
        let url = place.at(&format!("{plain}?ca={}", authority.ca().display()));
        // Redis waits for the end of a line that is none.
        let within = Duration::from_secs(1);
        let config = RedisConfig::from_url(&url)?.connect_timeout(within);
        let (error, text) = refusal(config).await;
        assert!(error.is_transient(), "{error:?}");
        assert!(text.contains("write `redis` for `rediss`"), "{text}");
        let url = place.at(&server.url("redis", "localhost", ""));
        let (error, text) = refusal(RedisConfig::from_url(&url)?).await;
        assert!(error.is_transient(), "{error:?}");
        assert!(text.contains("write `rediss` for `redis`"), "{text}");
        assert!(
            began.elapsed() < Duration::from_secs(4),
            "{:?}",
            began.elapsed()
        );
    }
    Ok(())
}

/// Files that are not there, or hold no certificate, are named.
#[tokio::test]
async fn a_file_that_is_none_is_named() -> Tested {
    let authority = Authority::new("ours")?;
    let key = authority.certify("key", &["x"])?.1;
    for client in CLIENTS {
        for (parameters, file) in [
            ("ca=/no/such/file".to_owned(), "/no/such/file"),
            (format!("ca={}", key.display()), text(&key)),
            (format!("cert=/nowhere&key={}", key.display()), "/nowhere"),
        ] {
            let url = format!("rediss://localhost:1?{parameters}&client={client}");
            let (error, text) = refusal(RedisConfig::from_url(&url)?).await;
            assert!(
                matches!(error, ConnectError::BadSetting { .. }),
                "{error:?}"
            );
            assert!(text.contains(file), "{text}");
        }
    }
    Ok(())
}
