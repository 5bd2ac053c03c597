//! What is modelled: how many processes, what they believe, what befalls them, what is planted.

use super::Policy;

/// How often what goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Faults {
    /// Processes that are killed.
    pub kills: u8,
    /// Processes that stop to run for a while.
    pub freezes: u8,
    /// Sessions that end on the server's side alone.
    pub closes: u8,
    /// Processes all of whose sessions end at once, on the server's side alone.
    pub sweeps: u8,
    /// Sessions in which nothing passes any more.
    pub cuts: u8,
    /// Probes of a witness that are not answered in time.
    pub doubts: u8,
    /// Statements or answers that take any time.
    pub delays: u8,
    /// Restarts of the server.
    pub restarts: u8,
    /// Crashes of the server, which empty unlogged tables.
    pub crashes: u8,
    /// Holders that resign.
    pub resigns: u8,
    /// Waiters that give up.
    pub cancels: u8,
}

macro_rules! faults {
    ($($field:ident)*) => {
        impl Faults {
            /// Nothing goes wrong.
            pub const NONE: Self = Self { $($field: 0),* };

            $(
                /// The same, with so many of these.
                pub const fn $field(mut self, $field: u8) -> Self {
                    self.$field = $field;
                    self
                }
            )*

            pub(super) const fn to_bytes(self) -> [u8; 11] {
                [$(self.$field),*]
            }
        }
    };
}

faults! { kills freezes closes sweeps cuts doubts delays restarts crashes resigns cancels }

/// Which sessions of a living process the server may end (A-CLOSE).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Closes {
    /// That of the lease, while the witness holds the term lock or the beat says that it does not;
    /// and the witness, while that of the lease is open.
    Witnessed,
    /// Any, while another one of the process is open.
    NotTheLast,
    /// Any.
    Any,
}

/// A mistake in what surrounds the decisions, which the model must find.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Defect {
    /// A term begins whenever the lock is free (P5).
    FreeLock,
    /// The term lock is believed although the beat has no witness (P5.3).
    WitnessAssumed,
    /// The term lock is believed although the server has restarted (P5.3).
    RunIgnored,
    /// Without a beat, nothing is waited for (P5.4).
    NoBeatNoRest,
    /// The fence is written over another session than that of the lock (P4).
    FencesElsewhere,
    /// A waiter that gives up keeps its session for later (P3).
    KeepsSession,
    /// A ping updates the row that fenced transactions hold.
    RenewsFence,
    /// A take-over is not announced (F2).
    NoClosing,
    /// Transactions do not look at what is announced (F1).
    ClosingUnread,
    /// Transactions read the fence without a lock (F1).
    UnlockedRead,
    /// Trust is counted from the wait for the lock (T3).
    TrustFromWait,
    /// Trust is counted from the answer (T1).
    TrustFromReply,
    /// The term lock is given back before the work has stopped (P6).
    YieldsEarly,
    /// The server allows a waiter a whole TTL of silence (P2).
    PatientServer,
    /// A witness is claimed however long it was not heard (P6).
    ClaimsUnheard,
    /// A witness that does not answer is closed before a ping has denied it (P6).
    ClosesWitness,
    /// The server bears the silence of a witness for a TTL alone (P1).
    ShortWitness,
    /// The server's keepalive ends what is cut off within a unit (P1).
    HastyKeepalive,
}

/// Processes that campaign for one key.
#[derive(Debug, Clone, Copy)]
pub struct Succession {
    /// How many.
    pub processes: usize,
    /// What they were told to believe.
    pub policy: Policy,
    /// What the server may do to the sessions of the living.
    pub closes: Closes,
    /// What goes wrong.
    pub faults: Faults,
    /// For how many units at most others write in one transaction, if there are any.
    pub writes: Option<u16>,
    /// What is planted.
    pub defect: Option<Defect>,
}

impl Succession {
    /// So many processes that believe evidence, and to which nothing happens.
    pub const fn of(processes: usize) -> Self {
        Self {
            processes,
            policy: Policy::Evidence,
            closes: Closes::Witnessed,
            faults: Faults::NONE,
            writes: None,
            defect: None,
        }
    }

    /// The same, with these faults.
    pub const fn faults(mut self, faults: Faults) -> Self {
        self.faults = faults;
        self
    }

    /// The same, under another policy, and another assumption on what the server closes.
    pub const fn policy(mut self, policy: Policy, closes: Closes) -> Self {
        self.policy = policy;
        self.closes = closes;
        self
    }

    /// The same, and others write, for so many units at most in one transaction.
    pub const fn writes(mut self, most: u16) -> Self {
        self.writes = Some(most);
        self
    }

    /// The same, with a mistake.
    pub const fn defect(mut self, defect: Defect) -> Self {
        self.defect = Some(defect);
        self
    }
}
