//! The page of the documentation that shows what was caught.

use std::fs;
use std::path::PathBuf;

use super::hunt::Verdict;
use super::list::{EXCEPTIONS, Mutant};
use crate::error::Error;
use crate::process;
use crate::report;

const BEGIN: &str = "<!-- mutants: begin -->\n";
const END: &str = "<!-- mutants: end -->";

fn path() -> PathBuf {
    process::root().join("docs/mutants.md")
}

fn text() -> Result<String, Error> {
    let path = path();
    let doing = format!("read {}", path.display());
    fs::read_to_string(path).map_err(Error::io(doing))
}

/// Writes the tables into the page.
pub(crate) fn write(mutants: &[Mutant], verdicts: &[Verdict]) -> Result<(), Error> {
    let text = text()?;
    let (before, after) = around(&text)?;
    let text = format!("{before}{BEGIN}{}{END}{after}", tables(mutants, verdicts));
    let path = path();
    let doing = format!("write {}", path.display());
    fs::write(path, text).map_err(Error::io(doing))
}

fn around(text: &str) -> Result<(&str, &str), Error> {
    let parts = text.split_once(BEGIN).and_then(|(before, rest)| {
        let (_, after) = rest.split_once(END)?;
        Some((before, after))
    });
    parts.ok_or_else(|| Error::Unexpected("docs/mutants.md has no place for its tables".to_owned()))
}

fn tables(mutants: &[Mutant], verdicts: &[Verdict]) -> String {
    let rows = mutants.iter().zip(verdicts);
    let rows: Vec<_> = rows.map(|(mutant, verdict)| row(mutant, verdict)).collect();
    let mut text = report::table(&HEAD, &rows);
    if !EXCEPTIONS.is_empty() {
        let rows: Vec<_> = EXCEPTIONS
            .iter()
            .map(|(rule, why)| vec![(*rule).to_owned(), (*why).to_owned()])
            .collect();
        text.push_str("\nRules that forbid something, and have no mutant here:\n\n");
        text.push_str(&report::table(&["rule", "why"], &rows));
    }
    text
}

pub(crate) const HEAD: [&str; 6] = [
    "mutant",
    "rule",
    "what it does",
    "world",
    "caught by",
    "seeds",
];

/// One row: what the declaration says, and what was found.
pub(crate) fn row(mutant: &Mutant, verdict: &Verdict) -> Vec<String> {
    let (invariant, tried) = match verdict {
        Verdict::Caught {
            invariant, tried, ..
        } => (invariant.clone(), tried.to_string()),
        Verdict::Clean { seeds } => ("nothing".to_owned(), format!("> {seeds}")),
        Verdict::Mute(_) => ("no verdict".to_owned(), "?".to_owned()),
    };
    vec![
        format!("`{}`", mutant.name),
        mutant.rules.join(", "),
        mutant.does.to_owned(),
        mutant.world.to_owned(),
        invariant,
        tried,
    ]
}
