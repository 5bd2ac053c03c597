//! What a node tells the process that has started it: one line for each event, on its standard
//! output. Every line begins with the time of the machine's monotonic clock, which all processes
//! share.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// The time by the clock that all processes of this machine share.
pub(super) fn machine_time() -> Duration {
    let time = clock_gettime(ClockId::Monotonic);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// One line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Said {
    /// By the machine's clock.
    pub(super) at: Duration,
    pub(super) what: What,
}

/// What happened. Tenures are numbered by the node, times are of the machine's clock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum What {
    /// Nothing: all that happened before has been told.
    Tick,
    /// The node is a member.
    Live,
    /// The work on a shard begins.
    Begins {
        tenure: u64,
        shard: usize,
        token: u64,
        trusted_until: Duration,
    },
    /// The shard is trusted for longer.
    Trusts { tenure: u64, until: Duration },
    /// The database has answered the claim: the work goes on from this place.
    Claimed { tenure: u64, place: usize },
    /// One more event is folded.
    Folded { tenure: u64 },
    /// The transaction is committed that brings the shard to this place.
    Saved { tenure: u64, place: usize },
    /// The work on a shard has ended; `drained`: in good order.
    Ended { tenure: u64, drained: bool },
    /// The work on a shard that is still held failed, and why. It is begun again.
    Stumbled { shard: usize, why: String },
    /// The node has finished, and left.
    Left,
    /// The node cannot go on, and why.
    Failed(String),
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.at.as_nanos())?;
        match &self.what {
            What::Tick => f.write_str("tick"),
            What::Live => f.write_str("live"),
            What::Begins {
                tenure,
                shard,
                token,
                trusted_until,
            } => {
                let until = trusted_until.as_nanos();
                write!(f, "begins {tenure} {shard} {token} {until}")
            }
            What::Trusts { tenure, until } => write!(f, "trusts {tenure} {}", until.as_nanos()),
            What::Claimed { tenure, place } => write!(f, "claimed {tenure} {place}"),
            What::Folded { tenure } => write!(f, "folded {tenure}"),
            What::Saved { tenure, place } => write!(f, "saved {tenure} {place}"),
            What::Ended { tenure, drained } => write!(f, "ended {tenure} {drained}"),
            What::Left => f.write_str("left"),
            What::Stumbled { shard, why } => write!(f, "stumbled {shard} {}", in_a_line(why)),
            What::Failed(why) => write!(f, "failed {}", in_a_line(why)),
        }
    }
}

fn in_a_line(why: &str) -> String {
    why.replace('\n', "; ")
}

/// A line that no node would tell.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a node said `{0}`")]
pub(super) struct Nonsense(String);

impl FromStr for Said {
    type Err = Nonsense;

    fn from_str(line: &str) -> Result<Self, Nonsense> {
        parse(line).ok_or_else(|| Nonsense(line.to_owned()))
    }
}

fn parse(line: &str) -> Option<Said> {
    let (at, rest) = line.split_once(' ')?;
    let (word, rest) = rest.split_once(' ').unwrap_or((rest, ""));
    let mut words = Words(rest);
    let what = match word {
        "tick" => What::Tick,
        "live" => What::Live,
        "begins" => What::Begins {
            tenure: words.next()?,
            shard: words.next()?,
            token: words.next()?,
            trusted_until: words.time()?,
        },
        "trusts" => What::Trusts {
            tenure: words.next()?,
            until: words.time()?,
        },
        "claimed" => What::Claimed {
            tenure: words.next()?,
            place: words.next()?,
        },
        "folded" => What::Folded {
            tenure: words.next()?,
        },
        "saved" => What::Saved {
            tenure: words.next()?,
            place: words.next()?,
        },
        "ended" => What::Ended {
            tenure: words.next()?,
            drained: words.next()?,
        },
        "left" => What::Left,
        "stumbled" => What::Stumbled {
            shard: words.next()?,
            why: words.rest(),
        },
        "failed" => What::Failed(words.rest()),
        _ => return None,
    };
    let at = time(at)?;
    words.0.is_empty().then_some(Said { at, what })
}

/// The words that are left of a line.
struct Words<'a>(&'a str);

impl Words<'_> {
    fn next<T: FromStr>(&mut self) -> Option<T> {
        let (word, rest) = self.0.split_once(' ').unwrap_or((self.0, ""));
        self.0 = rest;
        word.parse().ok()
    }

    fn rest(&mut self) -> String {
        std::mem::take(&mut self.0).to_owned()
    }

    fn time(&mut self) -> Option<Duration> {
        self.next().map(Duration::from_nanos)
    }
}

fn time(word: &str) -> Option<Duration> {
    word.parse().ok().map(Duration::from_nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_is_understood() {
        let tenure = 7;
        let until = Duration::new(3, 5);
        for what in [
            What::Tick,
            What::Live,
            What::Begins {
                tenure,
                shard: 31,
                token: 1 << 52,
                trusted_until: until,
            },
            What::Trusts { tenure, until },
            What::Claimed { tenure, place: 0 },
            What::Folded { tenure },
            What::Saved { tenure, place: 16 },
            What::Ended {
                tenure,
                drained: true,
            },
            What::Left,
            What::Stumbled {
                shard: 3,
                why: "pool timed out".into(),
            },
            What::Failed("no connection left (53300)".into()),
        ] {
            let at = machine_time();
            let said = Said { at, what };
            assert_eq!(said.to_string().parse(), Ok(said));
        }
    }

    #[test]
    fn a_failure_is_one_line() {
        let what = What::Failed("one\ntwo".into());
        let at = Duration::ZERO;
        assert_eq!(Said { at, what }.to_string(), "0 failed one; two");
    }

    #[test]
    fn any_other_line_is_nonsense() {
        for line in [
            "",
            "tick",
            "5",
            "5 tick 1",
            "x tick",
            "5 folded",
            "5 ended 1 maybe",
        ] {
            let error = line.parse::<Said>().unwrap_err().to_string();
            assert_eq!(error, format!("a node said `{line}`"));
        }
    }
}
