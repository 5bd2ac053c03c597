//! What of a state decides how it goes on.

use coordinator_core::machine::vote::Body;
use xxhash_rust::xxh3::xxh3_128;

use super::node::{Letter, Node, Process, TERMS, wall};
use super::{Defect, Faults, State, WINDOW};
use crate::models::clock::{UNIT, moment};
use crate::models::outline::{Look, Scale};

impl State {
    pub(super) fn digest(&self, defect: Option<Defect>) -> u128 {
        let processes = || self.nodes.iter().filter_map(|node| node.process.as_ref());
        let machines = processes().map(|process| process.vote.outline());
        let outlines = machines.chain(self.letters.iter().map(|it| &*it.outline));
        let mut terms = vec![self.led.0];
        for outline in outlines {
            terms.extend((0..TERMS).flat_map(|class| outline.numbers(class)));
        }
        terms.sort_unstable();
        terms.dedup();
        let open = wall(self.now, defect);
        let rank = Scale::Rank { all: &terms, open };
        let look = |seq: u64| {
            let seq = Scale::Behind(seq);
            [rank, rank, rank, seq, seq, seq]
        };
        let mut out = Vec::with_capacity(1024);
        rank.write(self.led.0, &mut out);
        out.extend(self.led.1.to_le_bytes());
        out.extend(self.led.2.to_le_bytes());
        out.push(self.dark);
        for node in &self.nodes {
            self.outline(node, &look, &mut out);
        }
        let mut letters: Vec<u128> = (self.letters.iter())
            .map(|letter| self.letter(letter, &look))
            .collect();
        letters.sort_unstable();
        out.extend(letters.iter().flat_map(|digest| digest.to_le_bytes()));
        let Faults {
            crashes,
            sleeps,
            losses,
            delays,
            copies,
            jumps,
            resigns,
            cuts,
        } = self.faults;
        out.extend([
            crashes, sleeps, losses, delays, copies, jumps, resigns, cuts,
        ]);
        out.extend(self.cut.unwrap_or(usize::MAX).to_le_bytes());
        xxh3_128(&out)
    }

    fn outline<'a>(&self, node: &Node, look: &impl Fn(u64) -> [Scale<'a>; 6], out: &mut Vec<u8>) {
        out.extend(node.starts.to_le_bytes());
        let Some(process) = &node.process else {
            return out.push(0);
        };
        let Process {
            vote,
            asleep,
            confirm_at,
            ahead,
            seq,
        } = process;
        out.extend([1, u8::from(*asleep)]);
        let confirm_in = confirm_at.map_or(u32::MAX, |at| at.saturating_sub(self.now));
        out.extend(confirm_in.to_le_bytes());
        out.extend(ahead.to_le_bytes());
        vote.outline().write(self.look(&look(*seq)), out);
    }

    fn letter<'a>(&self, letter: &Letter, look: &impl Fn(u64) -> [Scale<'a>; 6]) -> u128 {
        let leader = if matches!(letter.message.body, Body::HeartbeatReply { .. }) {
            letter.to
        } else {
            letter.from
        };
        let process = self.nodes[leader].process.as_ref();
        let seq = process.map_or(0, |process| process.seq);
        let mut out = vec![u8::from(letter.slow)];
        out.extend(letter.to.to_le_bytes());
        out.extend(letter.round.to_le_bytes());
        out.extend((self.now - letter.since).to_le_bytes());
        letter.outline.write(self.look(&look(seq)), &mut out);
        xxh3_128(&out)
    }

    fn look<'a>(&self, scales: &'a [Scale<'a>]) -> Look<'a> {
        Look {
            now: moment(self.now),
            grain: UNIT,
            past: u128::from(2 * WINDOW),
            scales,
        }
    }
}
