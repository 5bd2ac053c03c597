//! What the tests share: short words for requests.

use std::sync::Arc;
use std::time::Duration;

use coordinator_core::{
    Acquisition, Backend, Claim, ClaimId, FencingToken, Frame, Group, Heartbeat, Incarnation,
    Instance, Join, Joined, Key, LockBackend, MemberId, MembershipStore, Topic,
};

pub(crate) const TTL: Duration = Duration::from_secs(10);

pub(crate) fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

pub(crate) fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}

pub(crate) fn locks(backend: &Backend) -> Arc<dyn LockBackend> {
    backend.locks.clone().expect("it has locks")
}

pub(crate) fn members(backend: &Backend) -> Arc<dyn MembershipStore> {
    backend.members.clone().expect("it has members")
}

pub(crate) fn group() -> Group {
    Group::from("fleet")
}

/// A claim to the key `scheduler`; the instance is told by its number.
pub(crate) fn claim(owner: &str, instance: u8, id: u64) -> Claim {
    let instance = Instance::from_bytes([instance; 16]);
    Claim::new(
        Key::from("scheduler"),
        MemberId::from(owner),
        instance,
        ClaimId::new(id),
        TTL,
    )
}

/// The token of a claim that must be granted.
pub(crate) async fn granted(backend: &Backend, claim: &Claim) -> FencingToken {
    match locks(backend).acquire(claim).await {
        Ok(Acquisition::Granted(token)) => token,
        other => panic!("not granted: {other:?}"),
    }
}

/// Joins as a member that must not be refused.
pub(crate) async fn joined(backend: &Backend, name: &str, instance: u8) -> Incarnation {
    let instance = Instance::from_bytes([instance; 16]);
    let join = Join::new(group(), name.into(), instance, TTL);
    match members(backend).join(&join).await {
        Ok(Joined::Member { incarnation, .. }) => incarnation,
        other => panic!("not joined: {other:?}"),
    }
}

pub(crate) fn heartbeat(name: &str, incarnation: Incarnation, beat: u64) -> Heartbeat {
    Heartbeat::new(group(), name.into(), incarnation, beat, TTL)
}

pub(crate) const NEWS: Topic = Topic::new("news");

/// The frame that is number `sequence` of a member's stream.
pub(crate) fn frame(origin: &str, sequence: u64) -> Frame {
    let instance = Instance::from_bytes([7; 16]);
    let payload = sequence.to_string().into_bytes().into();
    Frame::new(NEWS, origin.into(), instance, payload).sequence(sequence)
}
