//! What goes wrong, and when: all from one seed.

use std::fmt;
use std::time::Duration;

use rand::RngExt;
use rand::rngs::StdRng;

use super::fleet::MORTALS;

/// One thing that goes wrong.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Fault {
    /// `kill -9`; it starts again so much later.
    Kill(usize, Duration),
    /// SIGSTOP, for so long.
    Suspend(usize, Duration),
    /// A session is ended by the server: which one, of all that there are.
    Terminate(f64),
    /// Nothing passes this node's network for so long; then everything does.
    Hold(usize, Duration),
    /// What passes this node's network is lost for so long, and then its connections are reset.
    Lose(usize, Duration),
    /// Its connections are reset.
    Reset(usize),
    /// They are closed on the server's side alone, and on the client's so much later.
    HalfClose(usize, Duration),
    /// The server is stopped and started, in an orderly way or not.
    Restart(bool),
}

impl Fault {
    /// The next one, among so many nodes, some of which are behind a network that fails.
    pub(super) fn random(random: &mut StdRng, nodes: usize, proxied: &[usize]) -> Self {
        let mortal = random.random_range(0..MORTALS);
        let any = random.random_range(0..nodes);
        let behind = proxied[random.random_range(0..proxied.len())];
        let short = Duration::from_millis(random.random_range(50..1_500));
        let long = Duration::from_millis(random.random_range(200..4_000));
        match random.random_range(0..100) {
            0..22 => Self::Kill(mortal, short),
            22..44 => Self::Suspend(any, long),
            44..64 => Self::Terminate(random.random()),
            64..74 => Self::Hold(behind, long),
            74..84 => Self::Lose(behind, long),
            84..90 => Self::Reset(behind),
            90..96 => Self::HalfClose(behind, short),
            _ => Self::Restart(random.random()),
        }
    }

    /// How long until the next one.
    pub(super) fn pause(random: &mut StdRng) -> Duration {
        Duration::from_millis(random.random_range(300..3_000))
    }

    /// What it is called in the count of them.
    pub(super) fn kind(self) -> &'static str {
        match self {
            Self::Kill(..) => "kill",
            Self::Suspend(..) => "suspend",
            Self::Terminate(_) => "terminate",
            Self::Hold(..) => "hold",
            Self::Lose(..) => "lose",
            Self::Reset(_) => "reset",
            Self::HalfClose(..) => "half-close",
            Self::Restart(_) => "restart",
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kill(node, back) => write!(f, "node {node} is killed, back in {back:?}"),
            Self::Suspend(node, span) => write!(f, "node {node} is suspended for {span:?}"),
            Self::Terminate(_) => f.write_str("a session is terminated"),
            Self::Hold(node, span) => write!(f, "the network of node {node} stalls for {span:?}"),
            Self::Lose(node, span) => write!(f, "node {node} is cut off for {span:?}"),
            Self::Reset(node) => write!(f, "the connections of node {node} are reset"),
            Self::HalfClose(node, span) => {
                write!(
                    f,
                    "the server's halves of node {node}'s connections close, ours in {span:?}"
                )
            }
            Self::Restart(true) => f.write_str("the server restarts"),
            Self::Restart(false) => f.write_str("the server crashes and starts again"),
        }
    }
}
