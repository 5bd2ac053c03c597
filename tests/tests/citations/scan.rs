//! Finds the ids that sources cite, and in which test each citation stands.

use std::fs;
use std::io;
use std::path::Path;

/// Letters of rules, and of scenarios.
const LETTERS: &str = "TKIPRFDVGSCUWELMHB";

/// Directories whose sources are read.
const ROOTS: &[&str] = &[
    "coordinator-core",
    "coordinator-node",
    "coordinator-memory",
    "coordinator-conformance",
    "examples",
    "tests",
];

/// The directory of this test, which names ids without citing them.
const OURSELVES: &str = "tests/tests/citations";

/// One mention of an id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Citation {
    pub(crate) id: String,
    pub(crate) file: String,
    pub(crate) line: usize,
    pub(crate) place: Place,
}

/// Where a mention stands.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Place {
    /// In a test of this name.
    Test(String),
    /// In the list of conformance checks, beside a check of this name.
    Check(String),
    /// In code that is no test.
    Code,
    /// Among tests, but in none of them.
    Elsewhere,
}

/// All citations in the sources below `root`.
pub(crate) fn citations(root: &Path) -> io::Result<Vec<Citation>> {
    let mut found = Vec::new();
    for directory in ROOTS {
        read_directory(root, directory, &mut found)?;
    }
    Ok(found)
}

fn read_directory(root: &Path, directory: &str, found: &mut Vec<Citation>) -> io::Result<()> {
    let mut names = Vec::new();
    for entry in fs::read_dir(root.join(directory))? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        names.push((format!("{directory}/{name}"), entry.file_type()?.is_dir()));
    }
    names.sort();
    for (path, is_directory) in names {
        if is_directory && path != OURSELVES {
            read_directory(root, &path, found)?;
        } else if Path::new(&path)
            .extension()
            .is_some_and(|extension| extension == "rs")
        {
            found.extend(in_file(&path, &fs::read_to_string(root.join(&path))?));
        }
    }
    Ok(())
}

/// All citations in one source.
pub(crate) fn in_file(path: &str, text: &str) -> Vec<Citation> {
    let lines: Vec<&str> = text.lines().collect();
    let mut reader = Reader {
        path,
        lines: &lines,
        is_test: is_test_file(path),
        function: None,
    };
    let mut found = Vec::new();
    for number in 0..lines.len() {
        reader.read(number, &mut found);
    }
    found
}

fn is_test_file(path: &str) -> bool {
    let in_directory = path.split('/').skip(1).any(|part| part == "tests");
    in_directory || path.trim_end_matches(".rs").ends_with("tests")
}

/// Goes through one source from top to bottom.
struct Reader<'a> {
    path: &'a str,
    lines: &'a [&'a str],
    is_test: bool,
    /// The function that began last, and whether it is a test.
    function: Option<(&'a str, bool)>,
}

impl<'a> Reader<'a> {
    fn read(&mut self, number: usize, found: &mut Vec<Citation>) {
        let line = self.lines[number];
        if line.trim() == "#[cfg(test)]" && self.begins_module(number + 1) {
            self.is_test = true;
        }
        if let Some(name) = function_name(line) {
            self.function = Some((name, self.is_test_function(number)));
            self.cite_name(number, name, found);
        }
        if let Some((check, covers)) = self.check(number) {
            let place = Place::Check(check.to_owned());
            self.cite(number, covers, &place, found);
        } else if let Some((_, comment)) = line.split_once("//") {
            let place = self.place(number);
            self.cite(number, comment, &place, found);
        }
    }

    /// Whether a module's text begins in this line. One that lies in a file of its own does not.
    fn begins_module(&self, number: usize) -> bool {
        let line = self.lines.get(number).map_or("", |line| line.trim());
        line.starts_with("mod ") && line.ends_with('{')
    }

    fn cite(&self, number: usize, text: &str, place: &Place, found: &mut Vec<Citation>) {
        found.extend(ids(text).map(|id| Citation {
            id,
            file: self.path.to_owned(),
            line: number + 1,
            place: place.clone(),
        }));
    }

    /// A test may carry a scenario's id at the head of its name: `e1_one_member_campaigns_alone`.
    fn cite_name(&self, number: usize, name: &str, found: &mut Vec<Citation>) {
        if let (Some((_, true)), Some((head, _))) = (self.function, name.split_once('_')) {
            let place = Place::Test(name.to_owned());
            self.cite(number, &head.to_uppercase(), &place, found);
        }
    }

    /// Conformance checks are listed as `file::name ["lock 3", "K1", "L2"] "what it shows";`.
    fn check(&self, number: usize) -> Option<(&'a str, &'a str)> {
        if !self.path.starts_with("coordinator-conformance/src") {
            return None;
        }
        let line = self.lines[number].trim();
        let (name, rest) = line.split_once(" [\"")?;
        let (covers, _) = rest.split_once(']')?;
        let name = name.rsplit("::").next().unwrap_or(name);
        let is_name = name
            .chars()
            .all(|letter| letter.is_alphanumeric() || letter == '_');
        is_name.then_some((name, covers))
    }

    /// Where a comment in this line stands.
    fn place(&self, number: usize) -> Place {
        if !self.is_test {
            return Place::Code;
        }
        // A comment above a function belongs to it, whatever stands between.
        let own_line = self.lines[number].trim_start().starts_with("//");
        let below = || {
            self.lines[number..]
                .iter()
                .position(|line| !is_above_function(line))
        };
        if own_line
            && let Some(offset) = below()
            && let Some(name) = function_name(self.lines[number + offset])
        {
            return test(name, self.is_test_function(number + offset));
        }
        self.function
            .map_or(Place::Elsewhere, |(name, is_test)| test(name, is_test))
    }

    /// Whether an attribute above this line makes its function a test.
    fn is_test_function(&self, number: usize) -> bool {
        let above = self.lines[..number].iter().rev();
        let mut above = above.take_while(|line| is_above_function(line));
        above.any(|line| {
            let line = line.trim();
            line.starts_with("#[test]") || line.starts_with("#[tokio::test")
        })
    }
}

fn test(name: &str, is_test: bool) -> Place {
    if is_test {
        Place::Test(name.to_owned())
    } else {
        Place::Elsewhere
    }
}

/// Comments and attributes stand above a function.
fn is_above_function(line: &str) -> bool {
    let line = line.trim_start();
    line.starts_with("//") || line.starts_with("#[") || line.starts_with(")]")
}

/// The name of the function that begins in this line.
fn function_name(line: &str) -> Option<&str> {
    let line = line.trim_start();
    if line.starts_with("//") {
        return None;
    }
    let (before, after) = line.split_once("fn ")?;
    let is_head = before.split_whitespace().all(|word| {
        word.starts_with("pub") || ["async", "const", "in", "super)", "crate)"].contains(&word)
    });
    let end = after.find(|letter: char| !(letter.is_alphanumeric() || letter == '_'))?;
    (is_head && end > 0).then_some(&after[..end])
}

/// The ids in a text: a letter and a number of one or two digits, in a word of their own.
fn ids(text: &str) -> impl Iterator<Item = String> {
    let words = text.split(|letter: char| !(letter.is_alphanumeric() || letter == '_'));
    words.filter(|word| is_id(word)).map(str::to_owned)
}

fn is_id(word: &str) -> bool {
    let mut letters = word.chars();
    let letter = letters
        .next()
        .is_some_and(|letter| LETTERS.contains(letter));
    let number = letters.as_str();
    let digits = number.chars().all(|digit| digit.is_ascii_digit());
    letter && digits && matches!(number.len(), 1 | 2) && !number.starts_with('0')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: &str, text: &str) -> Vec<(String, Place)> {
        in_file(path, text)
            .into_iter()
            .map(|cited| (cited.id, cited.place))
            .collect()
    }

    #[test]
    fn what_follows_the_name_of_a_test_module_elsewhere_is_code() {
        let text = "#[cfg(test)]\nmod tests;\n\n/// T1.\nfn window() {}\n";
        assert_eq!(found("a.rs", text), [("T1".into(), Place::Code)]);
    }

    #[test]
    fn a_comment_above_a_test_belongs_to_the_test_below_it() {
        let text = "/// S4, H8.\n#[tokio::test(start_paused = true)]\nasync fn a_drain_ends() {\n";
        let test = Place::Test("a_drain_ends".to_owned());
        let expected = [("S4".to_owned(), test.clone()), ("H8".to_owned(), test)];
        assert_eq!(found("x/tests/drain.rs", text), expected);
    }

    #[test]
    fn a_comment_within_a_helper_shows_nothing() {
        let text = "fn helper() {\n    // T1\n    x();\n}\n";
        assert_eq!(
            found("x/tests/a.rs", text),
            [("T1".to_owned(), Place::Elsewhere)]
        );
        assert_eq!(found("x/src/a.rs", text), [("T1".to_owned(), Place::Code)]);
    }

    #[test]
    fn a_check_cites_what_it_covers() {
        let text = "        tokens::fenced [\"lock 3\", \"K1\"] \"an old token is refused\";\n";
        let expected = [("K1".to_owned(), Place::Check("fenced".to_owned()))];
        assert_eq!(found("coordinator-conformance/src/lock.rs", text), expected);
    }

    #[test]
    fn words_that_only_look_like_ids_are_none() {
        let text = "// SHA1, U128, B2B, T01, e1, Z9, and K2's own.\n";
        assert_eq!(found("x/src/a.rs", text), [("K2".to_owned(), Place::Code)]);
    }
}
