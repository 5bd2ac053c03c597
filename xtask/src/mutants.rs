//! `cargo xtask mutants`: is the simulation able to see what it is there to see?
//!
//! For each rule that forbids a definite bad outcome there is a mutant: the code without that rule.
//! All of them are put into one copy of the workspace, each behind a switch, so that the simulation
//! is built once, and production code has no switch at all. Then each is to be caught.

mod hunt;
mod list;
mod page;
mod splice;
mod tree;

use std::env;
use std::path::Path;
use std::time::Instant;

use self::hunt::{Verdict, healthy, hunt, on_all_cores};
use self::list::Mutant;
use crate::error::Error;
use crate::report;

/// So many runs are enough to catch each of them.
const SEEDS: u64 = 1_000;

/// What the command line asks for.
#[derive(Debug, Default, PartialEq, Eq)]
struct Wish {
    names: Vec<String>,
    seeds: Option<u64>,
    write: bool,
    tree_only: bool,
}

impl Wish {
    fn read(arguments: &[String]) -> Result<Self, Error> {
        let mut wish = Self::default();
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--seeds" => {
                    let seeds = arguments.next().and_then(|seeds| seeds.parse().ok());
                    wish.seeds = Some(seeds.ok_or_else(|| usage("`--seeds` wants a number"))?);
                }
                "--write" => wish.write = true,
                "--tree" => wish.tree_only = true,
                name if !name.starts_with('-') => wish.names.push(name.to_owned()),
                unknown => return Err(usage(&format!("`mutants` takes no `{unknown}`"))),
            }
        }
        if wish.write && !wish.names.is_empty() {
            return Err(usage("the page is written when all mutants are hunted"));
        }
        Ok(wish)
    }
}

fn usage(text: &str) -> Error {
    Error::Usage(text.to_owned())
}

pub(crate) fn run(arguments: &[String]) -> Result<(), Error> {
    let mut wish = Wish::read(arguments)?;
    wish.write |= wish.names.is_empty() && env::var_os("COORDINATOR_UPDATE_DOCS").is_some();
    let mutants = list::all();
    let chosen = chosen(&mutants, &wish.names)?;
    let tree = tree::write(&mutants)?;
    if wish.tree_only {
        show_tree(&tree, &mutants);
        return Ok(());
    }
    let program = tree::build(&tree)?;
    let seeds = wish.seeds.unwrap_or(SEEDS);
    println!("$ sim --seeds {seeds} --until-violation, with no mutant");
    match healthy(&program, seeds) {
        Verdict::Clean { .. } => {}
        verdict @ (Verdict::Caught { .. } | Verdict::Mute(_)) => {
            let error = format!("without any mutant, the simulation ends with {verdict:?}");
            return Err(Error::Unexpected(error));
        }
    }
    let hunted: Vec<(usize, Mutant)> = chosen;
    let verdicts = on_all_cores(hunted.len(), |at| {
        let (number, mutant) = hunted[at];
        let started = Instant::now();
        let verdict = hunt(&program, number, &mutant, seeds);
        let took = started.elapsed().as_secs_f64();
        let outcome = verdict.complaint(&mutant).map_or_else(
            || "caught".to_owned(),
            |complaint| format!("FAILED: {complaint}"),
        );
        println!("{number:>3} {} {took:.1} s: {outcome}", mutant.name);
        verdict
    });
    let mutants: Vec<Mutant> = hunted.into_iter().map(|(_, mutant)| mutant).collect();
    finish(&mutants, &verdicts, wish.write)
}

/// Shows all, and fails if one was not caught as it should be.
fn finish(mutants: &[Mutant], verdicts: &[Verdict], write: bool) -> Result<(), Error> {
    let pairs = || mutants.iter().zip(verdicts);
    let rows: Vec<_> = pairs()
        .map(|(mutant, verdict)| page::row(mutant, verdict))
        .collect();
    println!("\n{}", report::table(&page::HEAD, &rows));
    let complaints: Vec<_> = pairs()
        .filter_map(|(mutant, verdict)| {
            let complaint = verdict.complaint(mutant)?;
            Some(format!("{}: {complaint}", mutant.name))
        })
        .collect();
    if write {
        page::write(mutants, verdicts)?;
    }
    if complaints.is_empty() {
        println!("all {} mutants are caught", mutants.len());
        return Ok(());
    }
    Err(Error::Unexpected(complaints.join("\n")))
}

/// Those named, or all; each with its number.
fn chosen(mutants: &[Mutant], names: &[String]) -> Result<Vec<(usize, Mutant)>, Error> {
    let numbered = || (1..).zip(mutants.iter().copied());
    if names.is_empty() {
        return Ok(numbered().collect());
    }
    let find = |name: &String| {
        let found = numbered().find(|(_, mutant)| mutant.name == *name);
        found.ok_or_else(|| usage(&format!("there is no mutant `{name}`")))
    };
    names.iter().map(find).collect()
}

/// For whoever wants to run something else against a mutant.
fn show_tree(tree: &Path, mutants: &[Mutant]) {
    for (number, mutant) in (1..).zip(mutants) {
        println!("COORDINATOR_MUTANT={number:<3} {}", mutant.name);
    }
    println!("{}", tree.display());
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;
    use crate::process;

    fn read(file: &str) -> String {
        std::fs::read_to_string(process::root().join(file)).unwrap()
    }

    #[test]
    fn every_mutant_changes_what_is_there_and_only_once() {
        let mut complaints = Vec::new();
        for (file, edits) in tree::by_file(&list::all()) {
            let source = read(file);
            for (_, edit) in &edits {
                complaints.extend(splice::locate(&source, edit).err());
            }
            complaints.extend(splice::splice(&source, &edits).err());
        }
        assert!(complaints.is_empty(), "{complaints:#?}");
    }

    #[test]
    fn mutants_have_names_of_their_own_and_say_what_they_do() {
        let mut names = BTreeSet::new();
        for mutant in list::all() {
            let in_words = |letter: char| letter.is_ascii_lowercase() || letter == '-';
            assert!(mutant.name.chars().all(in_words), "{}", mutant.name);
            assert!(names.insert(mutant.name), "{} is there twice", mutant.name);
            assert!(mutant.does.ends_with('.'), "{}", mutant.does);
            assert!(!mutant.caught_by.is_empty() && !mutant.edits.is_empty());
        }
    }

    /// The ids of all rules, and whether each names what it forbids.
    fn rules() -> BTreeMap<String, bool> {
        let text = read("docs/protocols.md");
        let mut rules = BTreeMap::new();
        let mut present = None;
        for line in text.lines() {
            if let Some((id, _)) = line
                .strip_prefix("- **")
                .and_then(|rest| rest.split_once(" — "))
            {
                present = Some(id.to_owned());
                rules.insert(id.to_owned(), false);
            } else if line.starts_with("`Live`: ") {
                // The one rule without a number.
                present = Some("Live".to_owned());
            } else if line.is_empty() {
                present = None;
            }
            if let Some(id) = &present
                && line.contains("*Forbids:*")
            {
                rules.insert(id.clone(), true);
            }
        }
        rules
    }

    #[test]
    fn every_rule_that_forbids_something_has_a_mutant_or_is_named_with_the_reason() {
        let rules = rules();
        assert!(rules.values().filter(|forbids| **forbids).count() > 30);
        let mutants = list::all();
        let broken: BTreeSet<&str> = mutants.iter().flat_map(|it| it.rules).copied().collect();
        for rule in &broken {
            assert!(rules.contains_key(*rule), "no document defines {rule}");
        }
        let excepted = |rule: &str| list::EXCEPTIONS.iter().any(|(id, _)| *id == rule);
        for (rule, forbids) in &rules {
            let (has, excepted) = (broken.contains(rule.as_str()), excepted(rule));
            assert!(!(has && excepted), "{rule} has a mutant: no exception");
            assert!(!forbids || has || excepted, "{rule} has no mutant");
        }
    }

    #[test]
    fn the_command_line_is_read() {
        let wish = |line: &str| {
            let words: Vec<_> = line.split_whitespace().map(str::to_owned).collect();
            Wish::read(&words)
        };
        let expected = Wish {
            names: vec!["no-margin".to_owned()],
            seeds: Some(20),
            ..Wish::default()
        };
        assert_eq!(wish("no-margin --seeds 20").unwrap(), expected);
        assert!(wish("--seeds many").is_err());
        assert!(wish("--write no-margin").is_err());
        assert!(wish("--fast").is_err());
    }
}
