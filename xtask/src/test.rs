//! `cargo xtask test`: every test of the workspace, doctests included.

use std::collections::BTreeMap;
use std::env;
use std::io::IsTerminal;
use std::io::stdout;

use crate::error::Error;
use crate::process;
use crate::servers::Servers;

/// What a conformance check prints when the backend does not claim what it checks.
const SKIPPED: &str = "skipped ";
/// So many are shown that were skipped for one reason, or only the first: a suite that a variable leaves out has hundreds.
const MANY: usize = 50;

pub(crate) fn run(arguments: &[String]) -> Result<(), Error> {
    let servers = Servers::for_tests(arguments)?;
    let mut command = process::cargo(["test", "--all-features", "--no-fail-fast"]);
    if !arguments
        .iter()
        .any(|argument| argument == "-p" || argument.starts_with("--package"))
    {
        command.arg("--workspace");
    }
    command.args(arguments);
    process::announce(&command);
    // Tests that pass keep their output to themselves; this makes the harness hand it to us, who
    // show nothing of it but the skipped checks.
    let ours = !has_own_output(arguments);
    if ours {
        if !arguments.iter().any(|argument| argument == "--") {
            command.arg("--");
        }
        command.arg("--show-output");
    }
    if stdout().is_terminal() && env::var_os("CARGO_TERM_COLOR").is_none() {
        command.env("CARGO_TERM_COLOR", "always");
    }
    servers.tell(&mut command);
    let mut tally = Tally::default();
    let status = process::read_lines(&mut command, |line| {
        if tally.read(line) || !ours {
            println!("{line}");
        }
    })?;
    tally.show();
    process::succeeded(&command, status)?;
    if tally.passed == 0 && arguments.is_empty() {
        return Err(Error::Unexpected("not a single test was run".to_owned()));
    }
    Ok(())
}

fn has_own_output(arguments: &[String]) -> bool {
    let own = [
        "--show-output",
        "--nocapture",
        "--no-capture",
        "--list",
        "--no-run",
    ];
    arguments
        .iter()
        .any(|argument| own.contains(&argument.as_str()))
}

/// What the test programs have said so far.
#[derive(Debug, Default, PartialEq, Eq)]
struct Tally {
    passed: u64,
    failed: u64,
    ignored: u64,
    skipped: Vec<String>,
    in_output_of_passed: bool,
}

impl Tally {
    /// Reads one line, and says whether it is worth showing.
    fn read(&mut self, line: &str) -> bool {
        let line = without_colours(line);
        if let Some(counts) = line.strip_prefix("test result: ") {
            self.in_output_of_passed = false;
            self.passed += count(counts, "passed");
            self.failed += count(counts, "failed");
            self.ignored += count(counts, "ignored");
        } else if line == "successes:" {
            self.in_output_of_passed = true;
        } else if line == "failures:" {
            self.in_output_of_passed = false;
        } else if self.in_output_of_passed
            && let Some(check) = line.strip_prefix(SKIPPED)
        {
            self.skipped.push(check.to_owned());
        }
        !self.in_output_of_passed
    }

    fn show(&self) {
        if !self.skipped.is_empty() {
            println!("tests and checks skipped, each with its reason:");
            for check in folded(&self.skipped) {
                println!("  {check}");
            }
        }
        let skipped = self.ignored + self.skipped.len() as u64;
        let passed = self.passed - (self.skipped.len() as u64).min(self.passed);
        println!(
            "tests: {passed} passed, {} failed, {skipped} skipped",
            self.failed
        );
    }
}

/// The same, but of many with one reason only the first.
fn folded(skipped: &[String]) -> Vec<String> {
    let reason = |check: &str| check.split_once(": ").map(|(_, why)| why.to_owned());
    let mut lines = Vec::new();
    let mut counts = BTreeMap::<Option<String>, usize>::new();
    for check in skipped {
        *counts.entry(reason(check)).or_default() += 1;
    }
    for check in skipped {
        match counts.get_mut(&reason(check)) {
            Some(count) if *count > MANY => {
                lines.push(format!("{check} (and {} more)", *count - 1));
                *count = 0;
            }
            Some(0) | None => {}
            Some(_) => lines.push(check.clone()),
        }
    }
    lines
}

/// The number before a word: `12 passed; 0 failed;`.
fn count(counts: &str, word: &str) -> u64 {
    let mut before = "";
    for part in counts.split([' ', ';']).filter(|part| !part.is_empty()) {
        if part == word {
            return before.parse().unwrap_or(0);
        }
        before = part;
    }
    0
}

/// The text without terminal colour codes.
fn without_colours(line: &str) -> String {
    let mut plain = String::new();
    let mut letters = line.chars();
    while let Some(letter) = letters.next() {
        if letter == '\u{1b}' {
            let _ = letters.find(char::is_ascii_alphabetic);
        } else {
            plain.push(letter);
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(lines: &[&str]) -> (Tally, Vec<String>) {
        let mut tally = Tally::default();
        let shown = lines
            .iter()
            .filter(|line| tally.read(line))
            .map(|&line| line.to_owned());
        let shown = shown.collect();
        (tally, shown)
    }

    #[test]
    fn results_of_several_programs_add_up_also_in_colour() {
        let (tally, _) = tally(&[
            "test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s",
            "test result: \u{1b}[31mFAILED\u{1b}(B\u{1b}[m. 3 passed; 2 failed; 0 ignored; 0 measured; 7 filtered out",
        ]);
        assert_eq!((tally.passed, tally.failed, tally.ignored), (15, 2, 1));
    }

    #[test]
    fn skipped_checks_are_collected_and_other_output_of_passed_tests_is_not_shown() {
        let (tally, shown) = tally(&[
            "test a ... ok",
            "successes:",
            "---- a stdout ----",
            "skipped lock 9: the backend does not claim wake-ups",
            "chatter",
            "failures:",
            "---- b stdout ----",
            "test result: FAILED. 1 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out",
        ]);
        assert_eq!(
            tally.skipped,
            ["lock 9: the backend does not claim wake-ups"]
        );
        assert_eq!(shown.len(), 4);
    }

    #[test]
    fn many_that_were_skipped_for_one_reason_take_one_line() {
        let mut skipped: Vec<String> = (0..=MANY).map(|at| format!("bus {at}: why")).collect();
        skipped.insert(1, "lock 9: other".to_owned());
        assert_eq!(
            folded(&skipped),
            ["bus 0: why (and 50 more)", "lock 9: other"]
        );
        skipped.truncate(3);
        assert_eq!(folded(&skipped), skipped);
    }
}
