//! Installing servers by the system's package manager, where that is allowed.

use std::env;
use std::process::Command;
use std::time::Duration;

use coordinator_servers::{find_program, is_root};

use crate::error::Error;
use crate::process;

/// How long one command of a package manager may take.
const LIMIT: Duration = Duration::from_mins(10);

/// What can be installed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Package {
    Postgres,
    PgBouncer,
    Redis,
}

/// A package manager, and what it calls things.
struct Manager {
    program: &'static str,
    /// What makes it know its packages, where that is a step of its own.
    refresh: Option<&'static str>,
    install: &'static [&'static str],
    postgres: &'static [&'static str],
    pgbouncer: &'static [&'static str],
    redis: &'static [&'static str],
    /// Whether it wants the rights of root; Homebrew refuses them.
    as_root: bool,
}

const MANAGERS: &[Manager] = &[
    Manager {
        program: "apt-get",
        refresh: Some("update"),
        install: &["install", "--yes", "--no-install-recommends"],
        postgres: &["postgresql"],
        pgbouncer: &["pgbouncer"],
        redis: &["redis-server"],
        as_root: true,
    },
    Manager {
        program: "dnf",
        refresh: None,
        install: &["install", "--assumeyes"],
        postgres: &["postgresql-server", "postgresql-contrib"],
        pgbouncer: &["pgbouncer"],
        redis: &["redis"],
        as_root: true,
    },
    Manager {
        program: "apk",
        refresh: None,
        install: &["add", "--no-cache"],
        postgres: &["postgresql", "postgresql-contrib"],
        pgbouncer: &["pgbouncer"],
        redis: &["redis"],
        as_root: true,
    },
    Manager {
        program: "brew",
        refresh: None,
        install: &["install"],
        postgres: &["postgresql@17"],
        pgbouncer: &["pgbouncer"],
        redis: &["redis"],
        as_root: false,
    },
];

/// Who we are, as far as it decides what may be installed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Rights {
    root: bool,
    ci: bool,
}

/// Installs it if we may: as root, or on a machine that is there for tests (`CI` is set). Says
/// whether it did; a failure is an error.
pub(crate) fn install(package: Package) -> Result<bool, Error> {
    let rights = Rights {
        root: is_root()?,
        ci: env::var_os("CI").is_some(),
    };
    let Some(manager) = manager() else {
        return Ok(false);
    };
    let Some(commands) = manager.commands(package, rights) else {
        return Ok(false);
    };
    let mut done = Ok(());
    for words in commands {
        // A list that could not be refreshed, of some other source perhaps, may still have it: what
        // counts is the last command.
        if let Err(error) = &done {
            eprintln!("{error}");
        }
        let mut command = Command::new(&words[0]);
        done = process::run_for(command.args(&words[1..]), LIMIT);
    }
    done.map(|()| true)
}

/// What the user would type.
pub(crate) fn by_hand(packages: &[Package]) -> String {
    let Some(manager) = manager() else {
        return "by the package manager of your system".to_owned();
    };
    let mut words = vec![];
    words.extend(manager.as_root.then_some("sudo"));
    words.push(manager.program);
    words.push(manager.install[0]);
    let names = packages
        .iter()
        .flat_map(|package| manager.packages(*package));
    words.extend(names);
    words.join(" ")
}

fn manager() -> Option<&'static Manager> {
    MANAGERS
        .iter()
        .find(|manager| find_program(manager.program, &[]).is_some())
}

impl Manager {
    /// What it calls it.
    fn packages(&self, package: Package) -> &'static [&'static str] {
        match package {
            Package::Postgres => self.postgres,
            Package::PgBouncer => self.pgbouncer,
            Package::Redis => self.redis,
        }
    }

    /// The commands that install it; none if we may not.
    fn commands(&self, package: Package, rights: Rights) -> Option<Vec<Vec<String>>> {
        let before: &[&str] = match rights {
            Rights { root: true, .. } if self.as_root => &[],
            Rights {
                root: false,
                ci: true,
            } if self.as_root => &["sudo", "-n"],
            Rights {
                root: false,
                ci: true,
            } => &[],
            Rights { .. } => return None,
        };
        // `sudo` drops the environment: it is set behind it. No question must be asked.
        let before = [
            before,
            &["env", "DEBIAN_FRONTEND=noninteractive", self.program],
        ]
        .concat();
        let packages = self.packages(package);
        let mut commands = vec![];
        commands.extend(
            self.refresh
                .map(|refresh| [&before[..], &[refresh]].concat()),
        );
        commands.push([&before, self.install, packages].concat());
        let owned = |words: Vec<&str>| words.into_iter().map(str::to_owned).collect();
        Some(commands.into_iter().map(owned).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOT: Rights = Rights {
        root: true,
        ci: false,
    };
    const CI: Rights = Rights {
        root: false,
        ci: true,
    };
    const USER: Rights = Rights {
        root: false,
        ci: false,
    };

    fn lines(program: &str, package: Package, rights: Rights) -> Option<Vec<String>> {
        let manager = MANAGERS.iter().find(|manager| manager.program == program)?;
        let commands = manager.commands(package, rights)?;
        Some(commands.into_iter().map(|words| words.join(" ")).collect())
    }

    #[test]
    fn root_installs_without_a_question() {
        let expected = [
            "env DEBIAN_FRONTEND=noninteractive apt-get update",
            "env DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends postgresql",
        ];
        assert_eq!(lines("apt-get", Package::Postgres, ROOT).unwrap(), expected);
    }

    #[test]
    fn a_machine_for_tests_asks_for_the_rights_and_never_for_a_password() {
        let found = lines("apk", Package::Redis, CI).unwrap();
        let expected = "sudo -n env DEBIAN_FRONTEND=noninteractive apk add --no-cache redis";
        assert_eq!(found, [expected]);
        let found = lines("dnf", Package::PgBouncer, CI).unwrap();
        let expected =
            "sudo -n env DEBIAN_FRONTEND=noninteractive dnf install --assumeyes pgbouncer";
        assert_eq!(found, [expected]);
    }

    #[test]
    fn homebrew_is_never_run_as_root() {
        assert_eq!(lines("brew", Package::Postgres, ROOT), None);
        let found = lines("brew", Package::Postgres, CI).unwrap();
        assert!(!found[0].contains("sudo"), "{found:?}");
    }

    #[test]
    fn nothing_is_installed_on_a_users_machine() {
        for manager in MANAGERS {
            assert_eq!(lines(manager.program, Package::Postgres, USER), None);
        }
    }
}
