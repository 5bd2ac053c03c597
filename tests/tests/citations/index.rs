//! What the documents define, and the tables that say where each of it is kept and shown.

use std::collections::{BTreeMap, BTreeSet};

use crate::scan::{Citation, Place};

/// A rule or scenario, as its document defines it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Defined {
    pub(crate) id: String,
    /// Of a scenario: who is to show it.
    pub(crate) marks: String,
}

/// The rules: `- **T1 — …`.
pub(crate) fn rules(text: &str) -> Vec<Defined> {
    let heads = text.lines().filter_map(|line| line.strip_prefix("- **"));
    let ids = heads.filter_map(|head| Some(head.split_once(" — ")?.0.to_owned()));
    ids.map(|id| Defined {
        id,
        marks: String::new(),
    })
    .collect()
}

/// The scenarios: `| E1 | C | …`.
pub(crate) fn scenarios(text: &str) -> Vec<Defined> {
    let rows = text
        .lines()
        .map(|line| line.split('|').map(str::trim).collect::<Vec<_>>());
    let rows = rows.filter(|cells| cells.len() == 5 && is_marks(cells[2]));
    rows.map(|cells| Defined {
        id: cells[1].to_owned(),
        marks: cells[2].to_owned(),
    })
    .collect()
}

fn is_marks(cell: &str) -> bool {
    !cell.is_empty() && cell.split(' ').all(|mark| ["C", "S", "F"].contains(&mark))
}

/// Rows of a table: an id, and cells of entries.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Index {
    head: String,
    rows: Vec<(String, Vec<BTreeSet<String>>)>,
}

impl Index {
    pub(crate) fn of_rules(rules: &[Defined], citations: &[Citation]) -> Self {
        let row = |rule: &Defined| {
            let cells = vec![code(&rule.id, citations), tests(&rule.id, citations)];
            (rule.id.clone(), cells)
        };
        let head = "| rule | kept in | shown by |\n|---|---|---|\n".to_owned();
        Self {
            head,
            rows: rules.iter().map(row).collect(),
        }
    }

    pub(crate) fn of_scenarios(scenarios: &[Defined], citations: &[Citation]) -> Self {
        let row = |one: &Defined| (one.id.clone(), vec![tests(&one.id, citations)]);
        let head = "| scenario | shown by |\n|---|---|\n".to_owned();
        Self {
            head,
            rows: scenarios.iter().map(row).collect(),
        }
    }

    /// Reads the table between the marks of that name.
    pub(crate) fn read(name: &str, text: &str) -> Result<Self, String> {
        let (_, table, _) = parts(name, text)?;
        let rows = table
            .lines()
            .skip(3)
            .filter(|line| line.starts_with('|'))
            .map(|line| {
                let mut cells = line.trim_matches('|').split('|').map(str::trim);
                let id = cells.next().unwrap_or_default().to_owned();
                (id, cells.map(entries).collect())
            });
        Ok(Self {
            head: String::new(),
            rows: rows.collect(),
        })
    }

    /// The document with this table between the marks of that name.
    pub(crate) fn written_into(&self, name: &str, text: &str) -> Result<String, String> {
        let (before, _, after) = parts(name, text)?;
        let join = |entries: &BTreeSet<String>| {
            let entries: Vec<_> = entries.iter().map(String::as_str).collect();
            if entries.is_empty() {
                "–".to_owned()
            } else {
                entries.join("; ")
            }
        };
        let row = |(id, cells): &(String, Vec<BTreeSet<String>>)| {
            let cells: Vec<_> = cells.iter().map(join).collect();
            format!("| {id} | {} |\n", cells.join(" | "))
        };
        let rows: Vec<_> = self.rows.iter().map(row).collect();
        let table = format!("\n{}{}", self.head, rows.concat());
        Ok(format!("{before}{table}{after}"))
    }

    pub(crate) fn ids(&self) -> impl Iterator<Item = &str> {
        self.rows.iter().map(|(id, _)| id.as_str())
    }

    /// Every entry, with the id of its row.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (&str, &str)> {
        self.rows.iter().flat_map(|(id, cells)| {
            let entries = cells.iter().flatten();
            entries.map(move |entry| (id.as_str(), entry.as_str()))
        })
    }

    pub(crate) fn has(&self, entry: &(&str, &str)) -> bool {
        self.entries().any(|own| own == *entry)
    }
}

fn entries(cell: &str) -> BTreeSet<String> {
    cell.split("; ")
        .filter(|entry| *entry != "–")
        .map(str::to_owned)
        .collect()
}

fn parts<'a>(name: &str, text: &'a str) -> Result<(&'a str, &'a str, &'a str), String> {
    let begin = format!("<!-- {name}: begin -->");
    let end = format!("<!-- {name}: end -->");
    let (start, stop) = text
        .find(&begin)
        .zip(text.find(&end))
        .ok_or_else(|| format!("no table between {begin} and {end}"))?;
    let start = start + begin.len();
    Ok((&text[..start], &text[start..stop], &text[stop..]))
}

/// The files whose code cites an id.
fn code(id: &str, citations: &[Citation]) -> BTreeSet<String> {
    let cited = citations
        .iter()
        .filter(|cited| cited.id == id && cited.place == Place::Code);
    let ours = cited.filter(|cited| !cited.file.starts_with("coordinator-conformance"));
    ours.map(|cited| format!("`{}`", cited.file)).collect()
}

/// The tests that cite an id, by file.
fn tests(id: &str, citations: &[Citation]) -> BTreeSet<String> {
    let mut files: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for cited in citations.iter().filter(|cited| cited.id == id) {
        let name = match &cited.place {
            Place::Test(name) => name.clone(),
            Place::Check(name) => format!("check {name}"),
            Place::Code | Place::Elsewhere => continue,
        };
        files.entry(&cited.file).or_default().insert(name);
    }
    let one = |file: &str, name: &str| format!("{name} (`{file}`)");
    files
        .iter()
        .flat_map(|(file, names)| names.iter().map(move |name| one(file, name)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_read_as_it_was_written() {
        let defined = [Defined {
            id: "T1".to_owned(),
            marks: String::new(),
        }];
        let place = Place::Test("a_test".to_owned());
        let cited = Citation {
            id: "T1".to_owned(),
            file: "x.rs".to_owned(),
            line: 1,
            place,
        };
        let index = Index::of_rules(&defined, &[cited]);
        let text = "a\n<!-- rules: begin -->\n<!-- rules: end -->\nb";
        let written = index.written_into("rules", text).unwrap();
        assert!(written.contains("| T1 | – | a_test (`x.rs`) |\n"));
        let read = Index::read("rules", &written).unwrap();
        assert!(read.entries().eq(index.entries()));
        assert_eq!(read.ids().collect::<Vec<_>>(), ["T1"]);
    }
}
