//! Which programs cargo builds for a command, read from its JSON messages.
//!
//! Running the programs ourselves gives each a time limit, and keeps benchmark arguments away from
//! programs that are no benchmarks.

use std::path::PathBuf;
use std::process::Command;

use crate::error::Error;
use crate::process;

/// A program that cargo has built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Artifact {
    /// The name of its target.
    pub(crate) name: String,
    /// Where it is.
    pub(crate) executable: PathBuf,
    /// The directory of its package.
    pub(crate) package: PathBuf,
}

/// Builds by a cargo command, and returns the programs of that kind: `example`,
/// `bench`, `bin`.
pub(crate) fn build(kind: &str, arguments: &[&str]) -> Result<Vec<Artifact>, Error> {
    build_by(kind, &mut process::cargo(arguments))
}

/// As [`build`], by a command that is set up already.
pub(crate) fn build_by(kind: &str, command: &mut Command) -> Result<Vec<Artifact>, Error> {
    process::announce(command);
    command.arg("--message-format=json-render-diagnostics");
    let mut found = Vec::new();
    let status = process::read_lines(command, |line| found.extend(artifact(kind, line)))?;
    process::succeeded(command, status)?;
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

/// What one message of cargo says, if it is about a program of that kind.
fn artifact(kind: &str, message: &str) -> Option<Artifact> {
    if !message.starts_with(r#"{"reason":"compiler-artifact""#) {
        return None;
    }
    let target = &message[message.find(r#""target":"#)?..];
    if !target.contains(&format!(r#""kind":["{kind}"]"#)) {
        return None;
    }
    let manifest = PathBuf::from(string(message, "manifest_path")?);
    Some(Artifact {
        name: string(target, "name")?,
        executable: string(message, "executable")?.into(),
        package: manifest.parent()?.to_path_buf(),
    })
}

/// The string under a key, at its first place in `json`. Enough of JSON for paths and names.
pub(crate) fn string(json: &str, key: &str) -> Option<String> {
    let key = format!(r#""{key}":""#);
    let text = &json[json.find(&key)? + key.len()..];
    let mut value = String::new();
    let mut letters = text.chars();
    loop {
        match letters.next()? {
            '"' => return Some(value),
            '\\' => value.push(letters.next()?),
            letter => value.push(letter),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MESSAGE: &str = r#"{"reason":"compiler-artifact","package_id":"p","manifest_path":"/w/examples/Cargo.toml","target":{"kind":["example"],"crate_types":["bin"],"name":"leader","src_path":"/w/examples/leader.rs"},"profile":{"test":false},"filenames":["x"],"executable":"/w/target/debug/examples/leader","fresh":true}"#;

    #[test]
    fn an_example_is_found_with_its_program_and_package() {
        let expected = Artifact {
            name: "leader".to_owned(),
            executable: "/w/target/debug/examples/leader".into(),
            package: "/w/examples".into(),
        };
        assert_eq!(artifact("example", MESSAGE), Some(expected));
    }

    #[test]
    fn another_kind_and_a_library_are_passed_over() {
        assert_eq!(artifact("bench", MESSAGE), None);
        let library = MESSAGE.replace(
            r#""executable":"/w/target/debug/examples/leader""#,
            r#""executable":null"#,
        );
        assert_eq!(artifact("example", &library), None);
    }

    #[test]
    fn a_backslash_is_read_as_what_it_stands_for() {
        assert_eq!(
            string(r#"{"path":"C:\\w\\a"}"#, "path").as_deref(),
            Some(r"C:\w\a")
        );
    }
}
