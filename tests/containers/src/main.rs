//! Starts a Postgres server in a container, prints its URL, and removes it when the input ends.
//!
//! `cargo xtask test` runs this on machines that have a container engine and no server. The image is
//! `postgres:17`, or what `COORDINATOR_TEST_POSTGRES_IMAGE` names.

use std::env;
use std::error::Error;
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Write};
use std::process;

use testcontainers::core::{IntoContainerPort, WaitFor};
use testcontainers::runners::AsyncRunner;
use testcontainers::{GenericImage, ImageExt};

const IMAGE: &str = "COORDINATOR_TEST_POSTGRES_IMAGE";
const DEFAULT_IMAGE: &str = "postgres:17";
const PORT: u16 = 5432;
const READY: &str = "database system is ready to accept connections";

/// What the server for all tests has.
const SETTINGS: &[&str] = &[
    "fsync=off",
    "max_connections=500",
    "max_prepared_transactions=10",
    "shared_preload_libraries=pg_stat_statements",
];

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let image = env::var(IMAGE).unwrap_or_else(|_| DEFAULT_IMAGE.to_owned());
    let (name, tag) = name_and_tag(&image);
    let password = format!("{:016x}", RandomState::new().hash_one(process::id()));
    let command = SETTINGS.iter().flat_map(|setting| ["-c", setting]);
    let container = GenericImage::new(name, tag)
        // A first server, without a port, makes the cluster, and writes to the other output.
        .with_wait_for(WaitFor::message_on_stdout(READY))
        .with_wait_for(WaitFor::message_on_stderr(READY))
        .with_exposed_port(PORT.tcp())
        .with_env_var("POSTGRES_PASSWORD", &password)
        .with_cmd(command)
        .start()
        .await?;
    let host = container.get_host().await?;
    let port = container.get_host_port_ipv4(PORT.tcp()).await?;
    let mut output = io::stdout();
    writeln!(
        output,
        "postgres://postgres:{password}@{host}:{port}/postgres"
    )?;
    output.flush()?;
    // Nothing else is to be done meanwhile.
    io::copy(&mut io::stdin(), &mut io::sink())?;
    Ok(container.rm().await?)
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
