//! What there is to see at one moment: plain data, from which the view is drawn.

use std::time::Duration;

/// Everything that is shown.
#[derive(Debug, Clone, Default)]
pub(crate) struct State {
    pub(crate) seed: u64,
    /// The pace or the place, as words.
    pub(crate) pace: String,
    /// Virtual time since the beginning.
    pub(crate) now: Duration,
    /// How long events keep coming.
    pub(crate) span: Duration,
    /// Events that exist by now, that are saved, and that there will be.
    pub(crate) released: usize,
    pub(crate) saved: usize,
    pub(crate) total: usize,
    /// Events saved per virtual second, of late.
    pub(crate) rate: f64,
    /// Who plans, under which token.
    pub(crate) planner: Option<(String, u64)>,
    /// How many terms of planners there were.
    pub(crate) terms: usize,
    pub(crate) hand_offs: usize,
    pub(crate) refused: usize,
    pub(crate) overlaps: usize,
    pub(crate) nodes: Vec<NodeState>,
    pub(crate) shards: Vec<ShardState>,
    /// What happened, oldest first.
    pub(crate) log: Vec<LogLine>,
}

impl State {
    /// How many shards a node works on.
    pub(crate) fn shards_of(&self, node: usize) -> usize {
        let owned = |shard: &&ShardState| shard.owner == Some(node);
        self.shards.iter().filter(owned).count()
    }
}

/// One node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NodeState {
    pub(crate) name: String,
    pub(crate) phase: Phase,
    /// Events that it has folded and saved.
    pub(crate) saved: usize,
}

/// What a node is doing, or what has been done to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    Joining,
    Live,
    Leaving,
    Left,
    Crashed,
    Paused,
    Cut,
}

impl Phase {
    /// One word for people.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Joining => "joining",
            Self::Live => "live",
            Self::Leaving => "leaving",
            Self::Left => "left",
            Self::Crashed => "crashed",
            Self::Paused => "paused",
            Self::Cut => "cut off",
        }
    }
}

/// One shard.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct ShardState {
    /// The node that works on it, or is stopped in mid-work and not yet replaced.
    pub(crate) owner: Option<usize>,
    /// Whether its owner has been asked to finish.
    pub(crate) draining: bool,
    pub(crate) saved: usize,
    pub(crate) total: usize,
}

impl ShardState {
    /// How much of it is saved, 0 to 1. One without events is done.
    pub(crate) fn fraction(&self) -> f64 {
        fraction(self.saved, self.total)
    }
}

/// `part` of `whole`, 0 to 1; all of nothing is 1.
#[expect(clippy::cast_precision_loss, reason = "drawn with a few digits")]
pub(crate) fn fraction(part: usize, whole: usize) -> f64 {
    match whole {
        0 => 1.0,
        whole => (part as f64 / whole as f64).min(1.0),
    }
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LogLine {
    pub(crate) at: Duration,
    pub(crate) tone: Tone,
    pub(crate) text: String,
}

/// What kind of news it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tone {
    /// Somebody comes, or comes back.
    Good,
    /// Something was done to somebody.
    Bad,
    /// The fleet deals with it.
    Plain,
    /// A promise is broken.
    Wrong,
}

/// Minutes and seconds: `2:07`.
pub(crate) fn minutes(span: Duration) -> String {
    let seconds = span.as_secs();
    format!("{}:{:02}", seconds / 60, seconds % 60)
}

/// So many of a thing: `1 shard`, `1,000 shards`.
pub(crate) fn counted(number: usize, thing: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{} {thing}{plural}", thousands(number))
}

/// A number with its thousands set apart: `9,208`.
pub(crate) fn thousands(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_for_people() {
        assert_eq!(thousands(0), "0");
        assert_eq!(thousands(999), "999");
        assert_eq!(thousands(9_208), "9,208");
        assert_eq!(thousands(1_234_567), "1,234,567");
        assert_eq!(counted(1, "shard"), "1 shard");
        assert_eq!(counted(0, "shard"), "0 shards");
        assert_eq!(minutes(Duration::from_millis(127_900)), "2:07");
    }
}
