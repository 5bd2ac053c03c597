//! Starts a server in a container, prints its URL, and removes it when the input ends.
//!
//! `cargo xtask test` runs this on machines that have a container engine and no server, with the word
//! `postgres` or `redis`. The image is `postgres:17` or `redis:7`, or what
//! `COORDINATOR_TEST_POSTGRES_IMAGE` or `COORDINATOR_TEST_REDIS_IMAGE` names.

use std::env;
use std::error::Error;
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Write};
use std::process;

use testcontainers::core::{IntoContainerPort, WaitFor};
use testcontainers::runners::AsyncRunner;
use testcontainers::{ContainerRequest, GenericImage, ImageExt};

/// What the Postgres server for all tests has.
const POSTGRES_SETTINGS: &[&str] = &[
    "fsync=off",
    "max_connections=500",
    "max_prepared_transactions=10",
    "shared_preload_libraries=pg_stat_statements",
];

/// A store that can be started.
struct Store {
    request: ContainerRequest<GenericImage>,
    port: u16,
    /// What comes before the password in its URL, and after the port.
    url: [&'static str; 2],
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let password = format!("{:016x}", RandomState::new().hash_one(process::id()));
    let store = match env::args().nth(1).as_deref() {
        Some("postgres") => postgres(&password),
        Some("redis") => redis(&password),
        other => return Err(format!("`postgres` or `redis`, not {other:?}").into()),
    };
    let container = store.request.start().await?;
    let host = container.get_host().await?;
    let port = container.get_host_port_ipv4(store.port.tcp()).await?;
    let [before, after] = store.url;
    let mut output = io::stdout();
    writeln!(output, "{before}:{password}@{host}:{port}{after}")?;
    output.flush()?;
    // Nothing else is to be done meanwhile.
    io::copy(&mut io::stdin(), &mut io::sink())?;
    Ok(container.rm().await?)
}

fn postgres(password: &str) -> Store {
    const READY: &str = "database system is ready to accept connections";
    let port = 5432;
    let command = POSTGRES_SETTINGS.iter().flat_map(|setting| ["-c", setting]);
    let request = image("COORDINATOR_TEST_POSTGRES_IMAGE", "postgres:17")
        // A first server, without a port, makes the cluster, and writes to the other output.
        .with_wait_for(WaitFor::message_on_stdout(READY))
        .with_wait_for(WaitFor::message_on_stderr(READY))
        .with_exposed_port(port.tcp())
        .with_env_var("POSTGRES_PASSWORD", password)
        .with_cmd(command);
    Store {
        request,
        port,
        url: ["postgres://postgres", "/postgres"],
    }
}

fn redis(password: &str) -> Store {
    let port = 6379;
    // The images of Valkey have a program of this name as well.
    let command = ["redis-server", "--save", "", "--requirepass", password];
    let request = image("COORDINATOR_TEST_REDIS_IMAGE", "redis:7")
        .with_wait_for(WaitFor::message_on_stdout("Ready to accept connections"))
        .with_exposed_port(port.tcp())
        .with_cmd(command);
    Store {
        request,
        port,
        url: ["redis://", ""],
    }
}

/// The image that a variable names, or this one.
fn image(variable: &str, default: &str) -> GenericImage {
    let image = env::var(variable).unwrap_or_else(|_| default.to_owned());
    let (name, tag) = name_and_tag(&image);
    GenericImage::new(name, tag)
}

/// `registry:5000/postgres:17` is `registry:5000/postgres` and `17`.
fn name_and_tag(image: &str) -> (&str, &str) {
    match image.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, tag),
        _ => (image, "latest"),
    }
}

#[cfg(test)]
mod tests {
    use super::name_and_tag;

    #[test]
    fn a_colon_before_a_slash_is_a_port() {
        assert_eq!(name_and_tag("postgres:17"), ("postgres", "17"));
        assert_eq!(
            name_and_tag("h:5000/a/postgres:16"),
            ("h:5000/a/postgres", "16")
        );
        assert_eq!(
            name_and_tag("h:5000/postgres"),
            ("h:5000/postgres", "latest")
        );
        assert_eq!(name_and_tag("postgres"), ("postgres", "latest"));
    }
}
