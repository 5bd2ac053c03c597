//! What was published, and what arrived.

use std::collections::{BTreeMap, BTreeSet};

/// So many numbers belong to one life of a publisher, so that no number is used twice.
pub(super) const LIFE: u64 = 1_000_000;

/// What one subscriber has received from each life.
#[derive(Debug, Default)]
struct Heard {
    /// Life to the last number.
    last: BTreeMap<u64, u64>,
    /// Numbers that were passed over, and of which nothing was told.
    silent: BTreeSet<u64>,
    /// Whether it was told of something missing since the last message, by life.
    told: BTreeSet<u64>,
    count: u64,
    gaps: u64,
    violations: Vec<String>,
}

/// The messages of one topic.
#[derive(Debug, Default)]
pub(super) struct Messages {
    accepted: BTreeSet<u64>,
    failed: BTreeSet<u64>,
    heard: Heard,
}

impl Messages {
    pub(super) fn accepted(&mut self, number: u64) {
        self.accepted.insert(number);
    }

    /// It was not sent, or nobody knows.
    pub(super) fn failed(&mut self, number: u64) {
        self.failed.insert(number);
    }

    /// The subscriber has received this.
    pub(super) fn received(&mut self, number: u64) {
        let heard = &mut self.heard;
        let life = number / LIFE;
        heard.count += 1;
        let was_told = heard.told.remove(&life);
        match heard.last.insert(life, number) {
            Some(last) if number <= last => {
                heard.last.insert(life, last);
                heard
                    .violations
                    .push(format!("message {number} came after {last}"));
            }
            Some(last) if !was_told => heard.silent.extend(last + 1..number),
            _ => (),
        }
    }

    /// The subscriber was told that something is missing, of all origins: which one is not looked at,
    /// for one may be known under several lives.
    pub(super) fn gap(&mut self) {
        self.heard.gaps += 1;
        self.heard.told.extend(self.heard.last.keys());
    }

    /// How many were accepted, failed, arrived, and how many gaps were told.
    pub(super) fn counts(&self) -> [u64; 4] {
        let of = |set: &BTreeSet<u64>| set.len() as u64;
        [
            of(&self.accepted),
            of(&self.failed),
            self.heard.count,
            self.heard.gaps,
        ]
    }

    /// Everything accepted must have arrived, in order and once, and nothing may be missing.
    pub(super) fn lost_durably(&self, received: &BTreeSet<u64>) -> Vec<String> {
        let mut found = self.heard.violations.clone();
        let missing: Vec<_> = self.accepted.difference(received).take(10).collect();
        if !missing.is_empty() {
            let count = self.accepted.difference(received).count();
            found.push(format!(
                "{count} accepted messages are not in the log: {missing:?}…"
            ));
        }
        found
    }

    /// Accepted messages that the subscriber, which was there all along, has not received yet.
    pub(super) fn outstanding(&self) -> usize {
        let last = |number: &u64| self.heard.last.get(&(number / LIFE)).copied().unwrap_or(0);
        self.accepted
            .iter()
            .filter(|number| **number > last(number))
            .count()
    }

    /// What was passed over without a word though it was accepted.
    pub(super) fn lost_silently(&self) -> Vec<String> {
        let mut found = self.heard.violations.clone();
        let lost: Vec<_> = self.heard.silent.difference(&self.failed).collect();
        // Of one whose publisher was killed before it was answered nobody knows.
        let lost: Vec<_> = lost
            .iter()
            .filter(|number| self.accepted.contains(number))
            .collect();
        if !lost.is_empty() {
            let shown: Vec<_> = lost.iter().take(10).collect();
            found.push(format!(
                "{} messages are missing and no gap was told: {shown:?}…",
                lost.len()
            ));
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_without_a_word_is_found() {
        let mut messages = Messages::default();
        (1..9).for_each(|number| messages.accepted(number));
        (1..=2).for_each(|number| messages.received(number));
        assert!(messages.lost_silently().is_empty());
        messages.gap();
        messages.received(5);
        assert!(messages.lost_silently().is_empty(), "it was told");
        messages.received(8);
        assert_eq!(messages.lost_silently().len(), 1);
        assert_eq!(messages.outstanding(), 0);
        messages.received(8);
        assert_eq!(messages.lost_silently().len(), 2, "twice");
    }

    #[test]
    fn what_was_refused_may_be_missing_and_what_was_accepted_must_be_there() {
        let mut messages = Messages::default();
        messages.accepted(1);
        messages.failed(2);
        messages.accepted(3);
        for number in [1, 3] {
            messages.received(number);
        }
        assert!(messages.lost_silently().is_empty());
        let log = BTreeSet::from([1, 3]);
        assert!(messages.lost_durably(&log).is_empty());
        assert_eq!(messages.lost_durably(&BTreeSet::from([1])).len(), 1);
        assert_eq!(messages.outstanding(), 0);
    }
}
