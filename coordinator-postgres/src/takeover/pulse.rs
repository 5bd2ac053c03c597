//! The pings that keep a lease, and what their answers mean (P2, P8).

use std::time::Duration;

/// The shortest time in which a client must be heard after a grant.
const LEAST_CONFIRM: Duration = Duration::from_millis(250);

/// P2: how long a session may hold the lock without a word from its client before its term begins.
///
/// It is shorter than a TTL because each waiter that froze is granted the lock in turn.
pub fn confirm(ttl: Duration) -> Duration {
    (ttl / 4).max(LEAST_CONFIRM)
}

/// How far a session has come that holds the lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// It waits until it may start; the server ends it after [`confirm`] of silence.
    Confirming,
    /// Its term has begun; the server ends it after a TTL of silence.
    Holding,
}

/// P4 and P8: how often the client is heard, a third of the silence that the server allows.
pub fn ping_every(ttl: Duration, phase: Phase) -> Duration {
    match phase {
        Phase::Confirming => confirm(ttl) / 3,
        Phase::Holding => ttl / 3,
    }
}

/// What a ping returned: one row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pong {
    /// `pg_backend_pid()`.
    pub pid: i32,
    /// `idle_session_timeout`, if [`milliseconds`] could read it.
    pub idle_timeout: Option<Duration>,
}

/// Why a ping's answer ends the term.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// There is no beat row of this token any more: a successor's has replaced it, or a crash of the
    /// server has emptied the table.
    Gone,
    /// Another session answered: a pooler lies between, and the lock is held by who knows whom.
    Moved,
    /// The session would no longer be ended when its client is silent.
    Reset,
}

/// P8: whether the answer to a ping says that the term lasts. `due` is what it has to say.
pub fn judge(answer: Option<Pong>, due: Pong) -> Result<(), Ended> {
    let pong = answer.ok_or(Ended::Gone)?;
    if pong.pid != due.pid {
        return Err(Ended::Moved);
    }
    // Zero is no limit at all, so a longer one is not taken for a better one.
    if pong.idle_timeout.is_none() || pong.idle_timeout != due.idle_timeout {
        return Err(Ended::Reset);
    }
    Ok(())
}

/// Reads a setting that is a time, as `current_setting` writes it: `0`, `1500ms`, `10s`, `5min`.
/// A number without a unit is of milliseconds.
pub fn milliseconds(setting: &str) -> Option<Duration> {
    let setting = setting.trim();
    let end = setting
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(setting.len());
    let (number, unit) = setting.split_at(end);
    let number: u64 = number.parse().ok()?;
    let factor = match unit {
        "" | "ms" => 1,
        "s" => 1_000,
        "min" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    Some(Duration::from_millis(number.checked_mul(factor)?))
}
