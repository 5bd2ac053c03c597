//! What a shard's worker computes: totals per author, together with how far it has come.
//!
//! A [`Ledger`] is its own checkpoint: the fenced store keeps totals and position as one text, so
//! that an event is either in both or in neither. That is what makes the effect exactly-once.

use std::collections::BTreeMap;
use std::fmt;
use std::num::{NonZeroU16, ParseIntError};
use std::str::FromStr;

use coordinator_node::Routing;

use crate::input::Event;

/// The sums over one author's commits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Totals {
    pub(crate) commits: u64,
    pub(crate) files: u64,
    pub(crate) insertions: u64,
    pub(crate) deletions: u64,
}

impl Totals {
    /// Adds one commit.
    pub(crate) fn add(&mut self, event: &Event) {
        self.commits += 1;
        self.files += event.files;
        self.insertions += event.insertions;
        self.deletions += event.deletions;
    }
}

/// The state of one shard: everything that has been folded into it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ledger {
    /// How many of the shard's events are folded: the place of the next one.
    pub(crate) folded: usize,
    /// A hash over the sequence numbers in the order of folding. Two ledgers agree on it only if
    /// the same events were folded, each once, in the same order.
    pub(crate) chain: u64,
    pub(crate) authors: BTreeMap<String, Totals>,
}

impl Ledger {
    /// Nothing folded.
    pub(crate) fn new() -> Self {
        Self {
            folded: 0,
            // The offset basis of FNV-1a.
            chain: 0xcbf2_9ce4_8422_2325,
            authors: BTreeMap::new(),
        }
    }

    /// Adds the next sequence number to the chain.
    pub(crate) fn chain_on(&mut self, seq: u64) {
        for byte in seq.to_le_bytes() {
            self.chain = (self.chain ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
        }
    }

    /// Adds one event.
    pub(crate) fn fold(&mut self, event: &Event) {
        self.folded += 1;
        self.chain_on(event.seq);
        let totals = self.authors.entry(event.author.clone()).or_default();
        totals.add(event);
    }
}

/// The ledgers of all shards, computed by one loop in one process: what the fleet must arrive at.
pub(crate) fn reference(shards: &[Vec<Event>]) -> Vec<Ledger> {
    let fold_all = |events: &Vec<Event>| {
        let mut ledger = Ledger::new();
        for event in events {
            ledger.fold(event);
        }
        ledger
    };
    shards.iter().map(fold_all).collect()
}

/// Cuts the events: each goes to its author's shard, in order.
pub(crate) fn cut(events: Vec<Event>, shards: NonZeroU16) -> Vec<Vec<Event>> {
    let mut cut = vec![Vec::new(); usize::from(shards.get())];
    for event in events {
        let shard = Routing::default().shard_of(&event.author, shards);
        cut[usize::from(shard.get())].push(event);
    }
    cut
}

/// The first line is `folded chain`, each other one `commits files insertions deletions author`.
impl fmt::Display for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:016x}", self.folded, self.chain)?;
        for (author, sums) in &self.authors {
            let Totals {
                commits,
                files,
                insertions,
                deletions,
            } = sums;
            write!(f, "\n{commits} {files} {insertions} {deletions} {author}")?;
        }
        Ok(())
    }
}

/// A text that is no ledger.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadLedger {
    #[error("line {line} of the ledger has too few words")]
    Short { line: usize },
    #[error("line {line} of the ledger has a bad number: {source}")]
    Number { line: usize, source: ParseIntError },
}

impl FromStr for Ledger {
    type Err = BadLedger;

    fn from_str(text: &str) -> Result<Self, BadLedger> {
        let mut lines = text.split('\n').zip(1..);
        let mut ledger = Self::new();
        let mut head = Words::of(lines.next());
        ledger.folded = head.number()?;
        let chain = head.word()?;
        ledger.chain = u64::from_str_radix(chain, 16).map_err(|source| head.bad(source))?;
        for line in lines {
            let mut words = Words::of(Some(line));
            let totals = Totals {
                commits: words.number()?,
                files: words.number()?,
                insertions: words.number()?,
                deletions: words.number()?,
            };
            ledger.authors.insert(words.rest()?.to_owned(), totals);
        }
        Ok(ledger)
    }
}

/// The words of one line.
struct Words<'a> {
    left: &'a str,
    line: usize,
}

impl<'a> Words<'a> {
    fn of(line: Option<(&'a str, usize)>) -> Self {
        let (left, line) = line.unwrap_or(("", 1));
        Self { left, line }
    }

    fn word(&mut self) -> Result<&'a str, BadLedger> {
        let (word, left) = self.left.split_once(' ').unwrap_or((self.left, ""));
        self.left = left;
        match word {
            "" => Err(BadLedger::Short { line: self.line }),
            word => Ok(word),
        }
    }

    fn number<T: FromStr<Err = ParseIntError>>(&mut self) -> Result<T, BadLedger> {
        self.word()?.parse().map_err(|source| self.bad(source))
    }

    fn rest(&self) -> Result<&'a str, BadLedger> {
        match self.left {
            "" => Err(BadLedger::Short { line: self.line }),
            rest => Ok(rest),
        }
    }

    fn bad(&self, source: ParseIntError) -> BadLedger {
        let line = self.line;
        BadLedger::Number { line, source }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(seq: u64, author: &str) -> Event {
        Event {
            seq,
            author: author.into(),
            files: 2,
            insertions: 30,
            deletions: 4,
        }
    }

    fn folded(seqs: &[u64]) -> Ledger {
        let mut ledger = Ledger::new();
        for seq in seqs {
            ledger.fold(&event(*seq, "a b"));
        }
        ledger
    }

    #[test]
    fn a_ledger_is_read_back_as_it_was_written() {
        let mut ledger = folded(&[1, 2, 3]);
        ledger.fold(&event(4, "c"));
        assert_eq!(ledger.to_string().parse(), Ok(ledger));
        assert_eq!(Ledger::new().to_string().parse(), Ok(Ledger::new()));
    }

    #[test]
    fn the_chain_tells_another_order_a_repetition_and_an_omission() {
        let right = folded(&[1, 2, 3]);
        let same_totals = folded(&[1, 3, 2]);
        assert_eq!(right.authors, same_totals.authors);
        for wrong in [same_totals, folded(&[1, 2, 2]), folded(&[1, 2])] {
            assert_ne!(right.chain, wrong.chain);
        }
    }

    #[test]
    fn text_that_is_no_ledger_is_refused_with_its_line() {
        for (text, said) in [
            ("", "line 1 of the ledger has too few words"),
            ("3", "line 1 of the ledger has too few words"),
            ("3 xyz", "line 1 of the ledger has a bad number"),
            ("1 00\n1 2 3 dev", "line 2 of the ledger has a bad number"),
            ("1 00\n1 2 3 4", "line 2 of the ledger has too few words"),
        ] {
            let error = text.parse::<Ledger>().unwrap_err().to_string();
            assert!(error.starts_with(said), "{text:?}: {error}");
        }
    }

    #[test]
    fn an_author_has_one_shard_and_keeps_the_order_of_its_events() {
        let events: Vec<Event> = (1..=60)
            .map(|seq| event(seq, ["a", "b", "c"][usize::try_from(seq % 3).unwrap()]))
            .collect();
        let shards = cut(events, NonZeroU16::new(7).unwrap());
        assert_eq!(shards.iter().map(Vec::len).sum::<usize>(), 60);
        for author in ["a", "b", "c"] {
            let has = |shard: &&Vec<Event>| shard.iter().any(|event| event.author == author);
            assert_eq!(shards.iter().filter(has).count(), 1);
        }
        assert!(
            shards
                .iter()
                .all(|shard| shard.is_sorted_by_key(|event| event.seq))
        );
    }
}
