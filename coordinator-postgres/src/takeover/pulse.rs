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

/// P6: what a ping, or the fence statement, says of the witness. `heard_since` is the time since that
/// probe of the witness was sent whose answer was the last to come; `probe` how often it is probed
/// and how long an answer may take, together (U5).
///
/// A witness that is not heard may be gone on the server's side already, and its lock with it.
/// A process that was frozen finds that out by its clock, before any probe does.
pub fn claims_witness(holds: bool, heard_since: Duration, probe: Duration) -> bool {
    holds && heard_since <= probe
}

/// P6: whether the client may close a witness of its own accord, be it that a probe had no answer in
/// time. `may_say`: the beat may still say that there is a witness, for no ping that denies it was
/// answered since one that claims it was sent.
///
/// A holder that has lost the session of its lease can deny nothing any more, and keeps its witness
/// until its work has stopped. One that closes it sooner makes the very evidence of death that a
/// successor looks for.
pub const fn may_close_witness(work_may_run: bool, may_say: bool) -> bool {
    !work_may_run || !may_say
}

/// P1: how long the server bears the silence of a witness: longer than any trust that was renewed
/// while it was still claimed.
///
/// With less, a holder whose witness alone is cut off has its term lock freed while it trusts. No
/// fail-over waits for this: a session that is closed ends at once, and the silent holder's lease
/// is free a TTL after its last ping, whatever its witness.
pub fn witness_silence(max_ttl: Duration, probe: Duration) -> Duration {
    max_ttl + probe
}

/// P1: the server's `tcp_keepalives_idle`, in seconds, for a session whose silence it bears for so
/// long. Never less: whoever is cut off still trusts, and is not to be taken for dead. (Linux
/// servers go by `tcp_user_timeout` alone where it is set; others by the keepalive.)
pub fn server_keepalive(silence: Duration) -> u64 {
    silence
        .as_millis()
        .div_ceil(1_000)
        .try_into()
        .unwrap_or(u64::MAX)
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
