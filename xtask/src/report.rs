//! Steps with their times, in a table at the end; and tables at all.

use std::time::{Duration, Instant};

use crate::error::Error;

/// What has been done so far, how long it took, and how it ended.
#[derive(Default)]
pub(crate) struct Steps {
    done: Vec<(&'static str, Duration, Result<(), Error>)>,
}

impl Steps {
    /// Does a step. A failure is noted, and does not stop the steps that follow: one run shows all
    /// that is wrong.
    pub(crate) fn step(&mut self, name: &'static str, work: impl FnOnce() -> Result<(), Error>) {
        println!("\n==> {name}");
        let started = Instant::now();
        let outcome = work();
        if let Err(error) = &outcome {
            println!("==> {name}: {error}");
        }
        self.done.push((name, started.elapsed(), outcome));
    }

    /// Shows the table. An error names the steps that failed.
    pub(crate) fn finish(self) -> Result<(), Error> {
        let total: Duration = self.done.iter().map(|(_, took, _)| *took).sum();
        let mut rows = vec![];
        for (name, took, outcome) in &self.done {
            let outcome = if outcome.is_ok() { "ok" } else { "FAILED" };
            rows.push(vec![(*name).to_owned(), seconds(*took), outcome.to_owned()]);
        }
        rows.push(vec!["all".to_owned(), seconds(total), String::new()]);
        println!("\n{}", table(&["step", "time", "outcome"], &rows));
        // An error may be long, and has no place in a column.
        for (name, _, outcome) in &self.done {
            if let Err(error) = outcome {
                println!("{name}: {error}");
            }
        }
        let failed = self
            .done
            .into_iter()
            .filter(|(_, _, outcome)| outcome.is_err());
        let failed: Vec<_> = failed.map(|(name, _, _)| name).collect();
        if failed.is_empty() {
            Ok(())
        } else {
            Err(Error::Steps(failed))
        }
    }
}

fn seconds(span: Duration) -> String {
    format!("{:.1} s", span.as_secs_f64())
}

/// A table with aligned columns, in Markdown, so that it can be pasted into a document.
pub(crate) fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells
            .map(|cell| cell.chars().count())
            .chain([head[column].chars().count()])
            .max()
    };
    let widths: Vec<usize> = (0..head.len())
        .map(|column| width(column).unwrap_or(0))
        .collect();
    let line = |cells: &[String]| {
        let cells = cells.iter().zip(&widths);
        let cells: Vec<_> = cells
            .map(|(cell, width)| format!("{cell:<width$}"))
            .collect();
        format!("| {} |\n", cells.join(" | "))
    };
    let mut table = line(&head.iter().map(|&cell| cell.to_owned()).collect::<Vec<_>>());
    table.push_str(&line(
        &widths
            .iter()
            .map(|&width| "-".repeat(width))
            .collect::<Vec<_>>(),
    ));
    for row in rows {
        table.push_str(&line(row));
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_as_wide_as_its_widest_cell() {
        let rows = [vec!["a".to_owned(), "long cell".to_owned()]];
        let expected = "| name | x         |\n| ---- | --------- |\n| a    | long cell |\n";
        assert_eq!(table(&["name", "x"], &rows), expected);
    }

    #[test]
    fn one_failed_step_fails_the_run_and_is_named() {
        let mut steps = Steps::default();
        steps.step("good", || Ok(()));
        steps.step("bad", || Err(Error::Unexpected("no".to_owned())));
        steps.step("after", || Ok(()));
        assert!(matches!(steps.finish(), Err(Error::Steps(names)) if names == ["bad"]));
    }
}
