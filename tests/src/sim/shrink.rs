//! Cuts a failing schedule down to the faults that it takes.

use std::io;
use std::time::{Duration, Instant};

use super::run::{Plan, run};
use super::witness::Violation;

/// A schedule that cannot be made smaller by leaving out any part, or not in the time there was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shrunk {
    /// The faults that are left, by number.
    pub keep: Vec<usize>,
    /// What they lead to.
    pub violation: Violation,
    /// How many runs it took.
    pub runs: usize,
}

/// Leaves out faults for as long as the same invariant is violated: first halves, then smaller
/// parts, then each alone.
///
/// # Errors
/// A runtime could not be made.
pub fn shrink(plan: &Plan, violation: &Violation, limit: Duration) -> io::Result<Shrunk> {
    let all = plan.schedule().iter().map(|fault| fault.number).collect();
    let fails = |keep: &[usize]| {
        let plan = Plan {
            keep: Some(keep.to_vec()),
            ..plan.clone()
        };
        let found = run(&plan)?.violation;
        Ok(found.filter(|found| found.invariant == violation.invariant))
    };
    let mut shrinker = Shrinker {
        began: Instant::now(),
        limit,
        runs: 0,
        fails,
    };
    let (keep, found) = shrinker.shrink(all)?;
    Ok(Shrunk {
        keep,
        violation: found.unwrap_or_else(|| violation.clone()),
        runs: shrinker.runs,
    })
}

struct Shrinker<F> {
    began: Instant,
    limit: Duration,
    runs: usize,
    fails: F,
}

impl<F> Shrinker<F>
where
    F: Fn(&[usize]) -> io::Result<Option<Violation>>,
{
    /// Delta debugging: of the faults and of their violation what is left.
    fn shrink(&mut self, mut keep: Vec<usize>) -> io::Result<(Vec<usize>, Option<Violation>)> {
        let mut found = None;
        let mut parts = 2;
        while keep.len() > 1 && self.began.elapsed() < self.limit {
            let Some((less, violation)) = self.leave_out(&keep, parts)? else {
                if parts >= keep.len() {
                    break;
                }
                parts = (parts * 2).min(keep.len());
                continue;
            };
            keep = less;
            found = Some(violation);
            parts = (parts - 1).max(2);
        }
        Ok((keep, found))
    }

    /// The first part that can be left out, if there is one.
    fn leave_out(
        &mut self,
        keep: &[usize],
        parts: usize,
    ) -> io::Result<Option<(Vec<usize>, Violation)>> {
        let size = keep.len().div_ceil(parts);
        for from in (0..keep.len()).step_by(size) {
            if self.began.elapsed() >= self.limit {
                return Ok(None);
            }
            let to = (from + size).min(keep.len());
            let less = [&keep[..from], &keep[to..]].concat();
            self.runs += 1;
            if let Some(violation) = (self.fails)(&less)? {
                return Ok(Some((less, violation)));
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn violation() -> Violation {
        Violation {
            invariant: "ONE-LEADER",
            what: "two".into(),
            at: Duration::from_secs(1),
        }
    }

    #[test]
    fn what_is_left_is_what_it_takes() {
        let needed = [3, 17, 21];
        let mut shrinker = Shrinker {
            began: Instant::now(),
            limit: Duration::from_secs(60),
            runs: 0,
            fails: |keep: &[usize]| {
                let all = needed.iter().all(|number| keep.contains(number));
                Ok(all.then(violation))
            },
        };
        let (keep, found) = shrinker.shrink((0..40).collect()).unwrap();
        assert_eq!((keep, found), (needed.to_vec(), Some(violation())));
        assert!(shrinker.runs < 200, "{}", shrinker.runs);
    }

    #[test]
    fn without_time_nothing_is_left_out() {
        let mut shrinker = Shrinker {
            began: Instant::now(),
            limit: Duration::ZERO,
            runs: 0,
            fails: |_: &[usize]| Ok(Some(violation())),
        };
        let (keep, _) = shrinker.shrink(vec![1, 2, 3]).unwrap();
        assert_eq!(keep, [1, 2, 3]);
    }
}
