//! The documents speak of what is there: paths and links lead somewhere, and tables are the code's.

use std::env;
use std::error::Error;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use coordinator_node::telemetry::{METRICS, MetricKind};

type Checked = Result<(), Box<dyn Error>>;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// All documents of the project: those at the top, and those in `docs`.
fn documents() -> Result<Vec<PathBuf>, Box<dyn Error>> {
    let mut found = Vec::new();
    for directory in [root(), root().join("docs")] {
        for entry in fs::read_dir(directory)? {
            found.push(entry?.path());
        }
    }
    found.retain(|path| path.extension().is_some_and(|extension| extension == "md"));
    found.sort();
    assert!(
        found.len() >= 4,
        "these are all the documents that were found: {found:?}"
    );
    Ok(found)
}

#[test]
fn every_file_that_a_document_names_or_links_to_exists() -> Checked {
    let mut complaints = String::new();
    for document in documents()? {
        let text = fs::read_to_string(&document)?;
        for path in named(&text) {
            if !root().join(path).exists() {
                writeln!(complaints, "{} names {path}", document.display())?;
            }
        }
        let directory = document.parent().ok_or("a document has no directory")?;
        for path in linked(&text) {
            if !directory.join(path).exists() {
                writeln!(complaints, "{} links to {path}", document.display())?;
            }
        }
    }
    if complaints.is_empty() {
        Ok(())
    } else {
        Err(complaints.into())
    }
}

/// Paths in backticks: with a slash and a known ending, from the top of the project.
fn named(text: &str) -> impl Iterator<Item = &str> {
    let code = text.split('`').skip(1).step_by(2);
    let endings = [".rs", ".md", ".toml", ".csv"];
    code.filter(move |code| {
        let is_path = code.contains('/') && !code.contains([' ', '*', '<', ':', '\n']);
        is_path && endings.iter().any(|ending| code.ends_with(ending))
    })
}

/// Targets of links that stay within the project.
fn linked(text: &str) -> impl Iterator<Item = &str> {
    let targets = text
        .split("](")
        .skip(1)
        .filter_map(|rest| rest.split_once(')'));
    let targets = targets.map(|(target, _)| target.split('#').next().unwrap_or_default());
    targets.filter(|target| !target.is_empty() && !target.contains(':'))
}

#[test]
fn the_table_of_metrics_is_the_codes_own() -> Checked {
    let path = root().join("docs/metrics.md");
    let text = fs::read_to_string(&path)?;
    let (before, rest) = text
        .split_once("begin -->\n")
        .ok_or("no beginning of the table")?;
    let (_, after) = rest
        .split_once("<!-- metrics: end")
        .ok_or("no end of the table")?;
    let expected = format!("{before}begin -->\n{}<!-- metrics: end{after}", metrics()?);
    if env::var_os("COORDINATOR_UPDATE_DOCS").is_some() {
        fs::write(path, expected)?;
        return Ok(());
    }
    let hint = "COORDINATOR_UPDATE_DOCS=1 cargo test -p coordinator-tests";
    assert!(
        text == expected,
        "docs/metrics.md is not the code's table; {hint} writes it"
    );
    Ok(())
}

fn metrics() -> Result<String, Box<dyn Error>> {
    let mut table =
        String::from("| metric | kind | labels | what it counts |\n|---|---|---|---|\n");
    for metric in METRICS {
        let kind = match metric.kind {
            MetricKind::Counter => "counter",
            MetricKind::Gauge => "gauge",
            MetricKind::Histogram => "histogram",
        };
        let labels: Vec<_> = metric
            .labels
            .iter()
            .map(|label| format!("`{label}`"))
            .collect();
        let labels = labels.join(", ");
        writeln!(
            table,
            "| `{}` | {kind} | {labels} | {} |",
            metric.name, metric.help
        )?;
    }
    Ok(table)
}
