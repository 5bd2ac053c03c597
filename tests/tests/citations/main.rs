//! What code and tests cite is what the documents define, and the documents point at what is there.
//!
//! `docs/protocols.md` defines rules, `docs/scenarios.md` scenarios; sources cite their ids. With
//! `COORDINATOR_UPDATE_DOCS=1` the tests write the tables of both documents anew.

mod index;
mod scan;

use std::collections::BTreeSet;
use std::env;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

use index::{Defined, Index};
use scan::{Citation, Place};

type Checked = Result<(), Box<dyn Error>>;

/// Scenarios marked C that the memory backend cannot show, and why. There is none at present.
const NOT_SHOWN: &[(&str, &str)] = &[];

/// Scenarios marked S that no simulation can show, and why. There is none at present.
const NOT_SIMULATED: &[(&str, &str)] = &[];

/// Scenarios marked F that no test on a real server shows, and why.
const NOT_FAULTED: &[(&str, &str)] = &[(
    "B20",
    "what publishing costs the host application is measured, not tested",
)];

/// Those that no test on a real Redis shows, and why.
const NOT_FAULTED_ON_REDIS: &[(&str, &str)] = &[
    ("L6", "there is no pooler in front of a Redis"),
    ("B15", "a Redis has no transactions of the caller's"),
    ("B19", "a Redis has no long transactions"),
    ("B20", "a Redis has no transactions of the host application"),
];

/// Where tests are that break real servers.
const FAULTS: &str = "tests/tests/postgres";
const FAULTS_ON_REDIS: &str = "tests/tests/redis";

/// Where tests are that simulate.
const SIMULATION: &str = "tests/";

/// Rules that no test can show yet, and why.
const RULES_NOT_SHOWN: &[(&str, &str)] = &[];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn document(name: &str) -> Result<(PathBuf, String), Box<dyn Error>> {
    let path = root().join("docs").join(name);
    let text = fs::read_to_string(&path).map_err(|error| format!("{name}: {error}"))?;
    Ok((path, text))
}

fn no_complaints(complaints: &[String]) -> Checked {
    if complaints.is_empty() {
        return Ok(());
    }
    Err(format!("\n{}\n", complaints.join("\n")).into())
}

/// Who shows an id: tests and checks.
fn shown<'a>(citations: &'a [Citation], id: &'a str) -> impl Iterator<Item = &'a Citation> {
    let shows = |place: &Place| matches!(place, Place::Test(_) | Place::Check(_));
    citations
        .iter()
        .filter(move |cited| cited.id == id && shows(&cited.place))
}

#[test]
fn every_id_that_a_source_cites_is_defined() -> Checked {
    let mut defined = index::rules(&document("protocols.md")?.1);
    defined.extend(index::scenarios(&document("scenarios.md")?.1));
    let known: BTreeSet<_> = defined.iter().map(|defined| defined.id.as_str()).collect();
    let citations = scan::citations(&root())?;
    let unknown = citations
        .iter()
        .filter(|cited| !known.contains(cited.id.as_str()));
    let complain = |cited: &Citation| {
        format!(
            "{}:{} cites {}, which no document defines",
            cited.file, cited.line, cited.id
        )
    };
    no_complaints(&unknown.map(complain).collect::<Vec<_>>())
}

#[test]
fn every_conformance_scenario_is_shown_by_a_test_or_named_with_the_reason() -> Checked {
    let scenarios = index::scenarios(&document("scenarios.md")?.1);
    let conformance = scenarios
        .iter()
        .filter(|scenario| scenario.marks.contains('C'));
    complete(&conformance.collect::<Vec<_>>(), "", NOT_SHOWN)
}

#[test]
fn every_simulated_scenario_is_shown_by_a_test_of_its_name_or_named_with_the_reason() -> Checked {
    let scenarios = index::scenarios(&document("scenarios.md")?.1);
    let simulated = scenarios
        .iter()
        .filter(|scenario| scenario.marks.contains('S'));
    let simulated = simulated.collect::<Vec<_>>();
    complete(&simulated, SIMULATION, NOT_SIMULATED)?;
    let citations = scan::citations(&root())?;
    let nameless = simulated.iter().filter(|scenario| {
        let head = format!("{}_", scenario.id.to_lowercase());
        let named = |cited: &Citation| match &cited.place {
            Place::Test(name) => cited.file.starts_with(SIMULATION) && name.starts_with(&head),
            _ => false,
        };
        !citations.iter().any(named)
    });
    let complain = |scenario: &&Defined| format!("{}: no test bears its name", scenario.id);
    no_complaints(&nameless.map(complain).collect::<Vec<_>>())
}

#[test]
fn every_fault_scenario_is_shown_on_a_real_server_or_named_with_the_reason() -> Checked {
    let scenarios = index::scenarios(&document("scenarios.md")?.1);
    let faulted = scenarios
        .iter()
        .filter(|scenario| scenario.marks.contains('F'));
    let faulted = faulted.collect::<Vec<_>>();
    complete(&faulted, FAULTS, NOT_FAULTED)?;
    complete(&faulted, FAULTS_ON_REDIS, NOT_FAULTED_ON_REDIS)
}

#[test]
fn every_rule_is_shown_by_a_test_or_named_with_the_reason() -> Checked {
    let rules = index::rules(&document("protocols.md")?.1);
    complete(&rules.iter().collect::<Vec<_>>(), "", RULES_NOT_SHOWN)
}

/// Whether each is shown by a test below a directory, or is an exception.
fn complete(wanted: &[&Defined], below: &str, exceptions: &[(&str, &str)]) -> Checked {
    assert!(!wanted.is_empty(), "the document defines nothing");
    let citations = scan::citations(&root())?;
    let mut complaints = Vec::new();
    for defined in wanted {
        let tests = shown(&citations, &defined.id)
            .filter(|cited| cited.file.starts_with(below))
            .count();
        let exception = exceptions.iter().find(|(id, _)| *id == defined.id);
        match (tests, exception) {
            (0, None) => complaints.push(format!("{}: no test cites it", defined.id)),
            (0, Some(_)) | (1.., None) => {}
            (1.., Some((id, reason))) => complaints.push(format!(
                "{id} is an exception (\"{reason}\"), but tests cite it: strike it from the list"
            )),
        }
    }
    for (id, _) in exceptions
        .iter()
        .filter(|(id, _)| wanted.iter().all(|one| one.id != *id))
    {
        complaints.push(format!(
            "{id} is an exception, but not among what must be shown"
        ));
    }
    no_complaints(&complaints)
}

#[test]
fn the_table_of_rules_tells_the_truth() -> Checked {
    let (path, text) = document("protocols.md")?;
    let citations = scan::citations(&root())?;
    let rows = index::rules(&text);
    truthful("rules", &path, &text, &Index::of_rules(&rows, &citations))
}

#[test]
fn the_table_of_scenarios_tells_the_truth() -> Checked {
    let (path, text) = document("scenarios.md")?;
    let citations = scan::citations(&root())?;
    let rows = index::scenarios(&text);
    truthful(
        "scenarios",
        &path,
        &text,
        &Index::of_scenarios(&rows, &citations),
    )
}

/// What the table says is so. It may lack what has been cited since: that is no lie.
fn truthful(name: &str, path: &Path, text: &str, now: &Index) -> Checked {
    if env::var_os("COORDINATOR_UPDATE_DOCS").is_some() {
        fs::write(path, now.written_into(name, text)?)?;
        return Ok(());
    }
    let written = Index::read(name, text)?;
    let false_entries = written.entries().filter(|entry| !now.has(entry));
    let mut complaints: Vec<_> = false_entries
        .map(|(id, entry)| format!("{id}: not so any more: {entry}"))
        .collect();
    let missing = now
        .ids()
        .filter(|id| !written.ids().any(|written| written == *id));
    complaints.extend(missing.map(|id| format!("{id}: has no row")));
    if !complaints.is_empty() {
        complaints.push("COORDINATOR_UPDATE_DOCS=1 cargo test -p coordinator-tests".to_owned());
    }
    no_complaints(&complaints)
}
