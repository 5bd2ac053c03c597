//! The strategy without memory: the highest random weight.

use xxhash_rust::xxh3::xxh3_64;

use super::{Candidate, Question, Strategy, index};
use crate::document::MemberIndex;

/// Gives each shard to the member with the highest hash over (shard, member), by weight.
///
/// The target depends on who takes part and on nothing else, so anyone can compute it, and a
/// member that comes back gets the same shards again. The price: members own only about the same
/// number of shards, where [`Sticky`](super::Sticky) is exact. A join moves only shards to the
/// newcomer, a leave only those of the member that left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Rendezvous;

impl Rendezvous {
    /// The strategy; it has no settings.
    pub const fn new() -> Self {
        Self
    }
}

impl Strategy for Rendezvous {
    fn target(&self, question: &Question<'_>) -> Vec<Option<MemberIndex>> {
        let seeds: Vec<u64> = question
            .candidates
            .iter()
            .map(|candidate| xxh3_64(candidate.id.as_bytes()))
            .collect();
        let equal = question
            .candidates
            .windows(2)
            .all(|two| two[0].weight == two[1].weight);
        let winner = |(shard, held): (u64, &Option<MemberIndex>)| {
            let holder = question.holder(*held);
            let score = |at: usize, candidate: &Candidate<'_>| {
                let takes_part = candidate.receives || holder == Some(at);
                (takes_part && candidate.weight > 0).then(|| {
                    let hash = mix(seeds[at] ^ mix(shard));
                    if equal {
                        Score::Hash(hash)
                    } else {
                        Score::Weighted(weighted(hash, candidate.weight))
                    }
                })
            };
            let mut best: Option<(Score, usize)> = None;
            for (at, candidate) in question.candidates.iter().enumerate() {
                if let Some(score) = score(at, candidate)
                    && best.is_none_or(|(highest, _)| score.beats(highest))
                {
                    best = Some((score, at));
                }
            }
            best.and_then(|(_, at)| index(at))
        };
        (0..).zip(question.held).map(winner).collect()
    }
}

#[derive(Clone, Copy)]
enum Score {
    /// Among equal weights: no need for logarithms.
    Hash(u64),
    Weighted(f64),
}

impl Score {
    /// A tie goes to the one that came first, which is the lower id.
    fn beats(self, other: Self) -> bool {
        match (self, other) {
            (Self::Hash(one), Self::Hash(other)) => one > other,
            (Self::Weighted(one), Self::Weighted(other)) => one > other,
            (Self::Hash(_), Self::Weighted(_)) | (Self::Weighted(_), Self::Hash(_)) => false,
        }
    }
}

/// The logarithmic method: `−w / ln u`, with `u` uniform in (0, 1), wins in proportion to `w`.
fn weighted(hash: u64, weight: u32) -> f64 {
    /// 2^53, as many as a double tells apart.
    const STEPS: f64 = 9_007_199_254_740_992.0;
    #[expect(clippy::cast_precision_loss, reason = "53 bits are exact")]
    let uniform = ((hash >> 11) as f64 + 0.5) / STEPS;
    -f64::from(weight) / natural_log(uniform)
}

/// The logarithm of a number in (0, 1), from operations that every machine rounds alike: the one
/// of the standard library may differ from platform to platform in the last bit.
fn natural_log(number: f64) -> f64 {
    let bits = number.to_bits();
    #[expect(clippy::cast_precision_loss, reason = "an exponent has eleven bits")]
    let exponent = (bits >> 52) as f64 - 1_022.0;
    let mantissa = f64::from_bits((bits & ((1 << 52) - 1)) | (1_022 << 52));
    // ln m = 2 atanh((m − 1)/(m + 1)), for m in [0.5, 1).
    let ratio = (mantissa - 1.0) / (mantissa + 1.0);
    let square = ratio * ratio;
    let mut sum = 0.0;
    for odd in (0..16).rev() {
        sum = sum * square + 1.0 / f64::from(2 * odd + 1);
    }
    2.0 * ratio * sum + exponent * std::f64::consts::LN_2
}

/// Spreads every bit over all others (the finalizer of SplitMix64).
const fn mix(mut bits: u64) -> u64 {
    bits = bits.wrapping_add(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owned(target: &[Option<MemberIndex>], at: MemberIndex) -> usize {
        target.iter().filter(|owner| **owner == Some(at)).count()
    }

    #[test]
    fn a_join_moves_only_shards_to_the_newcomer() {
        let ids: Vec<String> = (0..20).map(|at| format!("m{at:02}")).collect();
        let all: Vec<_> = ids.iter().map(|id| Candidate::new(id)).collect();
        let before = Rendezvous.target(&Question::new(&all[..19], &vec![None; 4_096]));
        let after = Rendezvous.target(&Question::new(&all, &before));
        let moved = before.iter().zip(&after).filter(|(from, to)| from != to);
        let (moved, gained) = (moved.count(), owned(&after, 19));
        assert_eq!(moved, gained);
        assert!((120..=290).contains(&gained), "{gained} of 4096 / 20 = 205");
    }

    #[test]
    fn shards_follow_the_weights() {
        let all = [
            Candidate::new("a").weight(1),
            Candidate::new("b").weight(3),
            Candidate::new("c").weight(0),
        ];
        let target = Rendezvous.target(&Question::new(&all, &vec![None; 8_000]));
        let (light, heavy) = (owned(&target, 0), owned(&target, 1));
        assert_eq!(light + heavy, 8_000);
        assert!((1_800..=2_200).contains(&light), "{light} of 2000");
    }

    /// S7: it keeps what it holds, and gets nothing new.
    #[test]
    fn a_member_that_receives_nothing_keeps_only_what_it_holds() {
        let all = [Candidate::new("a"), Candidate::new("b").keeps_only()];
        let none = Rendezvous.target(&Question::new(&all, &[None; 64]));
        assert_eq!(owned(&none, 1), 0);
        let kept = Rendezvous.target(&Question::new(&all, &[Some(1); 64]));
        assert!(owned(&kept, 1) > 0);
    }

    #[test]
    fn the_logarithm_is_the_standard_one() {
        for number in [1e-16, 0.001, 0.25, 0.499_999, 0.5, 0.7, 0.999_999_999] {
            let (ours, theirs) = (natural_log(number), f64::ln(number));
            assert!((ours - theirs).abs() <= 1e-13 * theirs.abs(), "{number}");
        }
    }
}
