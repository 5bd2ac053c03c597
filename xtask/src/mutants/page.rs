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

#[cfg(test)]
mod tests {
    use super::*;

    /// The rows of the first table.
    fn rows(text: &str) -> Vec<Vec<String>> {
        let (_, table) = text.split_once(BEGIN).unwrap();
        let lines = table.lines().skip(2);
        let lines = lines.take_while(|line| line.starts_with('|'));
        let cells = |line: &str| -> Vec<String> {
            let line = line.trim_matches('|');
            line.split('|').map(|cell| cell.trim().to_owned()).collect()
        };
        lines.map(cells).collect()
    }

    #[test]
    fn the_page_shows_every_mutant_as_it_is_declared_and_by_what_it_was_caught() {
        let rows = rows(&text().unwrap());
        let mutants = super::super::list::all();
        assert_eq!(rows.len(), mutants.len(), "{HINT}");
        for (row, mutant) in rows.iter().zip(&mutants) {
            let [name, rules, does, world, invariant, seeds] = &row[..] else {
                panic!("{row:?} has not six cells");
            };
            let shown = [name.trim_matches('`'), rules, does, world];
            let rules = mutant.rules.join(", ");
            let declared = [mutant.name, &rules, mutant.does, mutant.world];
            assert_eq!(shown, declared, "{HINT}");
            assert!(
                mutant.caught_by.contains(&invariant.as_str()),
                "{name} is caught by {invariant}: {HINT}"
            );
            assert!(seeds.parse::<u64>().unwrap() <= 1_000, "{name}: {seeds}");
        }
    }

    #[test]
    fn the_page_names_every_exception() {
        let text = text().unwrap();
        for (rule, why) in EXCEPTIONS {
            let row = text.lines().find(|line| {
                let start = format!("| {rule} ");
                line.starts_with(&start) && line.contains(why)
            });
            assert!(row.is_some(), "{rule} is no exception there: {HINT}");
        }
    }

    const HINT: &str = "`cargo xtask mutants --write` writes docs/mutants.md anew";
}
