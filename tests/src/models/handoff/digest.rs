//! What of a state decides how it goes on.

use std::collections::BTreeSet;
use std::fmt::Debug;

use xxhash_rust::xxh3::xxh3_128;

use super::node::{Node, RELATIVE, Read};
use super::{State, TTL};
use crate::models::clock::{UNIT, moment};
use crate::models::outline::{Look, Outline, Scale};

/// So many classes of numbers are only compared with each other.
const RANKED: usize = 3;

impl State {
    pub(super) fn digest(&self) -> u128 {
        let facts = Outline::of(&self.facts(), RELATIVE);
        let processes = || self.nodes.iter().filter_map(|node| node.process.as_ref());
        let mut outlines = vec![&facts, self.store.outline()];
        for process in processes() {
            outlines.extend([process.keeper.outline(), process.planner.outline()]);
            outlines.extend(process.asks.iter().map(|ask| &*ask.outline));
        }
        outlines.extend(self.late.iter().map(|late| &*late.ask.outline));
        let numbers: Vec<Vec<u64>> = (0..RANKED)
            .map(|class| {
                let numbers = outlines.iter().flat_map(|outline| outline.numbers(class));
                let all: BTreeSet<u64> = numbers.chain([0]).collect();
                all.into_iter().collect()
            })
            .collect();
        let mut scales: Vec<Scale<'_>> = numbers
            .iter()
            .map(|all| Scale::Rank {
                all,
                open: u64::MAX,
            })
            .collect();
        let mut out = Vec::with_capacity(4096);
        scales.extend([Scale::Behind(0); 4]);
        self.look(&scales, &facts, &mut out);
        self.look(&scales, self.store.outline(), &mut out);
        for process in processes() {
            let requests = Scale::Behind(process.requests);
            scales.truncate(RANKED);
            scales.extend([requests; 4]);
            self.look(&scales, process.keeper.outline(), &mut out);
            self.look(&scales, process.planner.outline(), &mut out);
            for ask in &process.asks {
                self.look(&scales, &ask.outline, &mut out);
            }
        }
        for late in &self.late {
            self.look(&scales, &late.ask.outline, &mut out);
            out.extend((self.now - late.since).to_le_bytes());
        }
        xxh3_128(&out)
    }

    fn look(&self, scales: &[Scale<'_>], outline: &Outline, out: &mut Vec<u8>) {
        let look = Look {
            now: moment(self.now),
            grain: UNIT,
            past: u128::from(4 * TTL),
            scales,
        };
        outline.write(look, out);
    }

    /// All that decides and is no machine's.
    fn facts(&self) -> impl Debug {
        let nodes: Vec<_> = self.nodes.iter().map(|node| self.facts_of(node)).collect();
        (self.faults, self.leader, self.dark, nodes)
    }

    fn facts_of(&self, node: &Node) -> impl Debug {
        let process = node.process.as_ref().map(|process| {
            let life = process.life.map(|(life, until)| (life, moment(until)));
            let news = node.has_news(self.store.machine());
            let stored = self
                .store
                .machine()
                .bytes
                .as_ref()
                .map(|stored| stored.epoch);
            let read = process.read == Read::Seen(stored);
            let beat_at = moment(process.beat_at);
            let asks = process.asks.len();
            (
                life,
                beat_at,
                news,
                read,
                process.runs.clone(),
                process.asleep,
                asks,
            )
        });
        (process, node.cut, node.deaf, node.blind, node.away)
    }
}
