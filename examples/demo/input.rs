//! The input: commits as comma-separated values, read strictly.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use csv::{ReaderBuilder, StringRecord, Trim};

/// The columns, in their order.
pub(crate) const COLUMNS: [&str; 7] = [
    "seq",
    "committed_at",
    "author",
    "area",
    "files",
    "insertions",
    "deletions",
];

/// The longest author, in bytes.
const MAX_AUTHOR_BYTES: usize = 100;

/// One commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) seq: u64,
    pub(crate) author: String,
    pub(crate) files: u64,
    pub(crate) insertions: u64,
    pub(crate) deletions: u64,
}

/// Why the input cannot be used. Says where, what was found, and what is allowed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InputError {
    #[error("cannot open the input {}", file.display())]
    Open { file: PathBuf, source: io::Error },
    #[error("cannot read {}, line {line}", file.display())]
    Read {
        file: PathBuf,
        line: u64,
        source: csv::Error,
    },
    #[error(
        "{}, line 1: the columns are `{found}`, needed are `{}`",
        file.display(),
        COLUMNS.join(",")
    )]
    Header { file: PathBuf, found: String },
    #[error("{}, line {line}: {found} fields, needed are {}", file.display(), COLUMNS.len())]
    FieldCount {
        file: PathBuf,
        line: u64,
        found: usize,
    },
    #[error("{}, line {line}, field `{field}`: found `{found}`, allowed is {allowed}", file.display())]
    Field {
        file: PathBuf,
        line: u64,
        field: &'static str,
        found: String,
        allowed: String,
    },
    #[error("{}, line {line}, field `{field}`: found bytes that are not UTF-8", file.display())]
    Encoding {
        file: PathBuf,
        line: u64,
        field: &'static str,
    },
    #[error("{} has no commits: needed is at least one line after the first", file.display())]
    Empty { file: PathBuf },
}

/// Reads all commits of a file.
pub(crate) fn read(file: &Path) -> Result<Vec<Event>, InputError> {
    let open = File::open(file).map_err(|source| InputError::Open {
        file: file.to_owned(),
        source,
    })?;
    parse(file, open)
}

/// Reads all commits; `file` is what errors call the source.
fn parse(file: &Path, source: impl io::Read) -> Result<Vec<Event>, InputError> {
    let mut reader = ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .trim(Trim::All)
        .from_reader(source);
    let mut record = StringRecord::new();
    let mut events: Vec<Event> = Vec::new();
    let mut first = true;
    loop {
        let line = reader.position().line();
        let more = reader.read_record(&mut record);
        let more = more.map_err(|source| read_error(file, line, source))?;
        if std::mem::take(&mut first) {
            check_header(file, &record)?;
        } else if more {
            let line = record.position().map_or(line, csv::Position::line);
            let last = events.last().map_or(0, |event| event.seq);
            events.push(Line { file, line }.event(&record, last)?);
        }
        if !more {
            break;
        }
    }
    if events.is_empty() {
        let file = file.to_owned();
        return Err(InputError::Empty { file });
    }
    Ok(events)
}

fn read_error(file: &Path, line: u64, source: csv::Error) -> InputError {
    let line = source.position().map_or(line, csv::Position::line);
    let file = file.to_owned();
    if let csv::ErrorKind::Utf8 { err, .. } = source.kind()
        && let Some(field) = COLUMNS.get(err.field())
    {
        return InputError::Encoding { file, line, field };
    }
    InputError::Read { file, line, source }
}

fn check_header(file: &Path, record: &StringRecord) -> Result<(), InputError> {
    // Files of some programs begin with a byte order mark.
    let found: Vec<&str> = record
        .iter()
        .map(|name| name.trim_start_matches('\u{feff}'))
        .collect();
    if found == COLUMNS {
        return Ok(());
    }
    Err(InputError::Header {
        file: file.to_owned(),
        found: found.join(","),
    })
}

/// One line of the file, for errors.
struct Line<'a> {
    file: &'a Path,
    line: u64,
}

impl Line<'_> {
    fn event(&self, record: &StringRecord, last: u64) -> Result<Event, InputError> {
        if record.len() != COLUMNS.len() {
            return Err(InputError::FieldCount {
                file: self.file.to_owned(),
                line: self.line,
                found: record.len(),
            });
        }
        let whole = "a whole number from 0";
        let seq: u64 = self.number(record, 0, "a whole number from 1")?;
        if seq <= last {
            let allowed = format!("a number above {last}, the line before");
            return Err(self.bad_field(record, 0, allowed));
        }
        let _: i64 = self.number(record, 1, "a whole number of seconds")?;
        let author = &record[2];
        if author.is_empty()
            || author.len() > MAX_AUTHOR_BYTES
            || author.chars().any(char::is_control)
        {
            let allowed =
                format!("a name of 1 to {MAX_AUTHOR_BYTES} bytes without control characters");
            return Err(self.bad_field(record, 2, allowed));
        }
        // Totals add up to 64 bits; no single commit may come near that.
        let counts = [4, 5, 6].map(|column| self.number::<u32>(record, column, whole));
        let [files, insertions, deletions] = counts;
        Ok(Event {
            seq,
            author: author.to_owned(),
            files: files?.into(),
            insertions: insertions?.into(),
            deletions: deletions?.into(),
        })
    }

    fn number<T: FromStr>(
        &self,
        record: &StringRecord,
        column: usize,
        allowed: &str,
    ) -> Result<T, InputError> {
        record[column]
            .parse()
            .map_err(|_| self.bad_field(record, column, allowed.to_owned()))
    }

    fn bad_field(&self, record: &StringRecord, column: usize, allowed: String) -> InputError {
        InputError::Field {
            file: self.file.to_owned(),
            line: self.line,
            field: COLUMNS[column],
            found: record[column].chars().take(60).collect(),
            allowed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = "seq,committed_at,author,area,files,insertions,deletions\n";

    fn parse_lines(lines: &str) -> Result<Vec<Event>, String> {
        let text = format!("{HEADER}{lines}");
        parse(Path::new("x.csv"), text.as_bytes()).map_err(|error| error.to_string())
    }

    #[test]
    fn a_commit_is_read_with_its_numbers() {
        let events = parse_lines("7,1370565812,dev-1,.,3,205,1\n").unwrap();
        let expected = Event {
            seq: 7,
            author: "dev-1".into(),
            files: 3,
            insertions: 205,
            deletions: 1,
        };
        assert_eq!(events, [expected]);
    }

    #[test]
    fn the_input_of_the_demo_is_whole() {
        let events = read(Path::new(crate::options::DEFAULT_INPUT)).unwrap();
        let authors: std::collections::BTreeSet<_> = events.iter().map(|e| &e.author).collect();
        assert_eq!((events.len(), authors.len()), (9_208, 506));
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = read(Path::new("no/such.csv")).unwrap_err().to_string();
        assert_eq!(error, "cannot open the input no/such.csv");
    }

    #[test]
    fn a_bad_number_names_file_line_field_and_what_is_allowed() {
        let error = parse_lines("1,5,a,.,1,1,1\n2,5,a,.,1,many,1\n").unwrap_err();
        assert_eq!(
            error,
            "x.csv, line 3, field `insertions`: found `many`, allowed is a whole number from 0"
        );
    }

    #[test]
    fn bytes_that_are_no_text_are_named_with_file_line_and_field() {
        let bytes = [HEADER.as_bytes(), b"1,5,\xff,.,1,1,1\n"].concat();
        let error = parse(Path::new("x.csv"), bytes.as_slice()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "x.csv, line 2, field `author`: found bytes that are not UTF-8"
        );
    }

    #[test]
    fn a_sequence_must_rise() {
        let error = parse_lines("4,5,a,.,1,1,1\n4,5,a,.,1,1,1\n").unwrap_err();
        assert_eq!(
            error,
            "x.csv, line 3, field `seq`: found `4`, allowed is a number above 4, the line before"
        );
    }

    #[test]
    fn an_author_needs_a_name() {
        let error = parse_lines("1,5,,.,1,1,1\n").unwrap_err();
        assert!(
            error.starts_with("x.csv, line 2, field `author`: found ``, allowed is a name"),
            "{error}"
        );
    }

    #[test]
    fn a_line_with_too_few_fields_is_named() {
        let error = parse_lines("1,5,a,.,1,1\n").unwrap_err();
        assert_eq!(error, "x.csv, line 2: 6 fields, needed are 7");
    }

    #[test]
    fn other_columns_are_refused_by_name() {
        let error = parse(Path::new("x.csv"), "a,b\n1,2\n".as_bytes()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "x.csv, line 1: the columns are `a,b`, needed are \
             `seq,committed_at,author,area,files,insertions,deletions`"
        );
    }

    #[test]
    fn text_that_is_no_utf8_names_its_line() {
        let mut bytes = format!("{HEADER}1,5,a,.,1,1,1\n2,5,").into_bytes();
        bytes.extend([0xff, b'\n']);
        let error = parse(Path::new("x.csv"), &bytes[..])
            .unwrap_err()
            .to_string();
        assert_eq!(
            error,
            "x.csv, line 3, field `author`: found bytes that are not UTF-8"
        );
    }

    #[test]
    fn a_file_without_commits_is_refused() {
        assert!(parse_lines("").unwrap_err().contains("has no commits"));
        let error = parse(Path::new("x.csv"), &b""[..]).unwrap_err();
        assert!(
            error.to_string().contains("line 1: the columns are ``"),
            "{error}"
        );
    }
}
