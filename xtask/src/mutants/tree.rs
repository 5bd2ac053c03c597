//! A copy of the workspace with all mutants in it, and the simulation built from that copy.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::list::Mutant;
use super::splice::{Numbered, splice};
use crate::artifacts;
use crate::error::Error;
use crate::process;

/// The crates in which mutants live, by their roots.
const CRATES: &[&str] = &[
    "coordinator-core/src/lib.rs",
    "coordinator-memory/src/lib.rs",
    "coordinator-node/src/lib.rs",
];

/// Both arms of a switch compile, and neither is to be commented on.
const QUIET: &str = "#![allow(warnings)]\n";

/// What the core has in the copy, besides its own: its name for itself, and the switch.
const SWITCH: &str = "\nextern crate self as coordinator_core;\npub mod mutant;\n";

const SWITCH_FILE: &str = "coordinator-core/src/mutant.rs";

const SWITCH_CODE: &str = r#"//! Which mutant lives: the one whose number the environment names.

use std::sync::OnceLock;

/// Whether this one lives.
pub fn is(number: u32) -> bool {
    static ALIVE: OnceLock<Option<u32>> = OnceLock::new();
    let alive = ALIVE.get_or_init(|| std::env::var("COORDINATOR_MUTANT").ok()?.parse().ok());
    *alive == Some(number)
}
"#;

/// Writes the copy. Returns where it is.
pub(crate) fn write(mutants: &[Mutant]) -> Result<PathBuf, Error> {
    let tree = process::target_dir().join("mutants/tree");
    let sources = sources(mutants)?;
    remove_others(&tree, &tree, &sources)?;
    for (path, text) in &sources {
        write_if_changed(&tree.join(path), text)?;
    }
    Ok(tree)
}

/// The files of the copy.
fn sources(mutants: &[Mutant]) -> Result<BTreeMap<String, Vec<u8>>, Error> {
    let mut sources = BTreeMap::new();
    for path in listed()? {
        let file = process::root().join(&path);
        // A file that was deleted, and is still listed.
        if file.exists() {
            sources.insert(path, read(&file)?);
        }
    }
    for (path, edits) in by_file(mutants) {
        let text = sources.get(path).map(|text| String::from_utf8_lossy(text));
        let text = text.ok_or_else(|| Error::Unexpected(format!("{path} is not there")))?;
        let spliced = splice(&text, &edits).map_err(Error::Unexpected)?;
        sources.insert(path.to_owned(), spliced.into_bytes());
    }
    for root in CRATES {
        if let Some(text) = sources.get_mut(*root) {
            text.splice(0..0, QUIET.bytes());
        }
    }
    if let Some(core) = sources.get_mut(CRATES[0]) {
        core.extend(SWITCH.bytes());
    }
    sources.insert(SWITCH_FILE.to_owned(), SWITCH_CODE.into());
    if let Some(manifest) = sources.get_mut("Cargo.toml") {
        *manifest = renumbered(&String::from_utf8_lossy(manifest)).into_bytes();
    }
    Ok(sources)
}

/// The edits of each file, with the numbers of their mutants.
pub(crate) fn by_file(mutants: &[Mutant]) -> BTreeMap<&'static str, Vec<Numbered>> {
    let mut files: BTreeMap<&'static str, Vec<Numbered>> = BTreeMap::new();
    for (number, mutant) in (1..).zip(mutants) {
        for edit in mutant.edits {
            files.entry(edit.file).or_default().push((number, *edit));
        }
    }
    files
}

/// Crates of another version are other crates, so that the copy and the workspace can be built in
/// one directory, and share what they depend on.
fn renumbered(manifest: &str) -> String {
    manifest.replacen("\nversion = \"", "\nversion = \"0.0.0-mutants+", 1)
}

/// All files of the workspace, those that are not committed yet included.
fn listed() -> Result<Vec<String>, Error> {
    let mut git = Command::new("git");
    git.args([
        "ls-files",
        "-z",
        "--cached",
        "--others",
        "--exclude-standard",
    ]);
    let output = git.current_dir(process::root()).output();
    let output = output.map_err(Error::io("start `git`"))?;
    process::succeeded(&git, output.status)?;
    let names = output.stdout.split(|byte| *byte == 0);
    let names = names.filter(|name| !name.is_empty());
    Ok(names
        .map(|name| String::from_utf8_lossy(name).into_owned())
        .collect())
}

/// Removes what a former copy has left, and is not to be there any more.
fn remove_others(
    tree: &Path,
    directory: &Path,
    sources: &BTreeMap<String, Vec<u8>>,
) -> Result<(), Error> {
    let Ok(entries) = fs::read_dir(directory) else {
        return Ok(()); // There is no former copy.
    };
    for entry in entries.flatten() {
        let path = entry.path();
        if path.is_dir() {
            remove_others(tree, &path, sources)?;
            continue;
        }
        let name = path.strip_prefix(tree).unwrap_or(&path);
        let name = name.to_string_lossy().replace('\\', "/");
        if !sources.contains_key(&name) && name != "Cargo.lock" {
            let doing = format!("remove {}", path.display());
            fs::remove_file(&path).map_err(Error::io(doing))?;
        }
    }
    Ok(())
}

/// What is the same keeps its time, and is not built again.
fn write_if_changed(path: &Path, text: &[u8]) -> Result<(), Error> {
    if fs::read(path).is_ok_and(|present| present == text) {
        return Ok(());
    }
    let doing = || format!("write {}", path.display());
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory).map_err(Error::io(doing()))?;
    }
    fs::write(path, text).map_err(Error::io(doing()))
}

pub(crate) fn read(path: &Path) -> Result<Vec<u8>, Error> {
    fs::read(path).map_err(Error::io(format!("read {}", path.display())))
}

/// Builds the simulation from the copy. The program is put aside: the next build of the workspace
/// would replace it.
pub(crate) fn build(tree: &Path) -> Result<PathBuf, Error> {
    let arguments = [
        "build",
        "--release",
        "-p",
        "coordinator-tests",
        "--bin",
        "sim",
    ];
    let mut command = process::cargo(arguments);
    command.current_dir(tree);
    command.env("CARGO_TARGET_DIR", process::target_dir());
    let built = artifacts::build_by("bin", &mut command)?;
    let names: BTreeSet<_> = built.iter().map(|program| program.name.as_str()).collect();
    let [program] = &built[..] else {
        let error = format!("one program was to be built, not {names:?}");
        return Err(Error::Unexpected(error));
    };
    let aside = tree
        .with_file_name("sim")
        .with_extension(std::env::consts::EXE_EXTENSION);
    let copied = fs::copy(&program.executable, &aside);
    copied.map_err(Error::io(format!("write {}", aside.display())))?;
    Ok(aside)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_copy_has_a_version_of_its_own() {
        let manifest = "[workspace.package]\nversion = \"0.1.0\"\nedition = \"2024\"\n";
        assert_eq!(
            renumbered(manifest),
            "[workspace.package]\nversion = \"0.0.0-mutants+0.1.0\"\nedition = \"2024\"\n"
        );
    }
}
