//! Members as texts: what is told of a profile and a report, and what the store answers.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use coordinator_core::{
    EndReason, Epoch, Incarnation, Instance, Keyspace, KeyspaceReport, Member, MemberId,
    MemberState, Profile, Report, ShardId, Snapshot, Version, Versions,
};

use crate::client::Value;
use crate::fields::{Fields, split};
use crate::reply::Read;
use crate::trouble::Trouble;

/// The first field of a profile: how the rest is to be read.
const LAYOUT: &str = "1";

/// A profile as one text. Equal profiles give equal texts: the store compares them.
pub(super) fn of_profile(profile: &Profile) -> Bytes {
    let mut fields = Fields::new();
    fields.push(LAYOUT);
    fields.push(profile.weight.to_string());
    fields.push(profile.format.to_string());
    match &profile.zone {
        Some(zone) => fields.push(format!("+{zone}")),
        None => fields.push("-"),
    };
    fields.push(profile.keyspaces.len().to_string());
    for keyspace in &profile.keyspaces {
        fields.push(keyspace.as_str());
    }
    for (key, value) in &profile.metadata {
        fields.push(key).push(value);
    }
    fields.done()
}

/// A report as one text: keyspace, `seen`, and the draining shards with commas between, in turn.
pub(super) fn of_report(report: &Report) -> Bytes {
    let mut fields = Fields::new();
    for (keyspace, told) in report {
        let shards: Vec<String> = told.draining.iter().map(ToString::to_string).collect();
        fields.push(keyspace.as_str());
        fields.push(told.seen.to_string());
        fields.push(shards.join(","));
    }
    fields.done()
}

fn unreadable(what: &[u8]) -> Trouble {
    let what: String = String::from_utf8_lossy(what).chars().take(120).collect();
    Trouble::unreadable(&what)
}

fn number<T: std::str::FromStr>(text: &[u8]) -> Result<T, Trouble> {
    let parsed = std::str::from_utf8(text)
        .ok()
        .and_then(|text| text.parse().ok());
    parsed.ok_or_else(|| unreadable(text))
}

fn utf8(text: &[u8]) -> Result<&str, Trouble> {
    std::str::from_utf8(text).map_err(|_| unreadable(text))
}

fn read_profile(text: &[u8]) -> Result<Profile, Trouble> {
    let fields = split(text).ok_or_else(|| unreadable(text))?;
    let [layout, weight, format, zone, keyspaces, rest @ ..] = fields.as_slice() else {
        return Err(unreadable(text));
    };
    if *layout != LAYOUT.as_bytes() {
        return Err(unreadable(text));
    }
    let keyspaces: usize = number(keyspaces)?;
    let (keyspaces, metadata) = rest
        .split_at_checked(keyspaces)
        .ok_or_else(|| unreadable(text))?;
    let mut profile = Profile::new();
    profile.weight = number(weight)?;
    profile.format = number(format)?;
    profile.zone = utf8(zone)?.strip_prefix('+').map(str::to_owned);
    for keyspace in keyspaces {
        profile.keyspaces.insert(Keyspace::from(utf8(keyspace)?));
    }
    for entry in metadata.chunks_exact(2) {
        if let [key, value] = entry {
            let (key, value) = (utf8(key)?.to_owned(), utf8(value)?.to_owned());
            profile.metadata.insert(key, value);
        }
    }
    Ok(profile)
}

fn read_report(text: &[u8]) -> Result<Report, Trouble> {
    let fields = split(text).ok_or_else(|| unreadable(text))?;
    let mut report = Report::new();
    for told in fields.chunks_exact(3) {
        if let [keyspace, seen, draining] = told {
            let told = KeyspaceReport {
                seen: Epoch::new(number(seen)?),
                draining: read_shards(draining)?,
            };
            report.insert(Keyspace::from(utf8(keyspace)?), told);
        }
    }
    Ok(report)
}

fn read_shards(text: &[u8]) -> Result<BTreeSet<ShardId>, Trouble> {
    let shards = text.split(|byte| *byte == b',');
    shards
        .filter(|shard| !shard.is_empty())
        .map(|shard| number(shard).map(ShardId::new))
        .collect()
}

/// The parts of one life that the store keeps apart. Times in microseconds of its clock.
#[derive(Debug)]
struct Parts<'a> {
    life: &'a [u8],
    record: &'a [u8],
    expires: u64,
    profile: &'a [u8],
    report: &'a [u8],
    now: u64,
}

impl Parts<'_> {
    fn member(&self) -> Result<Member, Trouble> {
        let life = utf8(self.life)?;
        let (incarnation, id) = life.split_once(':').ok_or_else(|| unreadable(self.life))?;
        let record: Vec<&str> = utf8(self.record)?.split(' ').collect();
        let [instance, fixed, evicted, beat, ttl, ended, reason, flaps] = record.as_slice() else {
            return Err(unreadable(self.record));
        };
        let instance: Instance = instance.parse().map_err(|_| unreadable(self.record))?;
        let incarnation = Incarnation::new(number(incarnation.as_bytes())?);
        let ttl = Duration::from_micros(number(ttl.as_bytes())?);
        let mut member = Member::new(MemberId::from(id), incarnation, instance, ttl);
        member.fixed = *fixed == "1";
        member.beat = number(beat.as_bytes())?;
        member.state = match *ended {
            "0" => self.standing(ttl, *evicted == "1"),
            ended => MemberState::Ended {
                ago: Duration::from_micros(self.now.saturating_sub(number(ended.as_bytes())?)),
                reason: end_reason(reason)?,
                flaps: number(flaps.as_bytes())?,
            },
        };
        member.profile = read_profile(self.profile)?;
        member.report = read_report(self.report)?;
        Ok(member)
    }

    /// Never more than its TTL is left, also if the store's clock was set back.
    fn standing(&self, ttl: Duration, evicted: bool) -> MemberState {
        match self.expires.saturating_sub(self.now) {
            0 => MemberState::Due,
            left => MemberState::Live {
                expires_in: Duration::from_micros(left).min(ttl),
                evicted,
            },
        }
    }
}

fn end_reason(reason: &str) -> Result<EndReason, Trouble> {
    Ok(match reason {
        "left" => EndReason::Left,
        "expired" => EndReason::Expired,
        "evicted" => EndReason::Evicted,
        "died" => EndReason::Died,
        other => return Err(Trouble::unreadable(other)),
    })
}

/// One life: its name, record, expiry, profile and report.
pub(super) fn read_life(now: &Value, life: &Value) -> Result<Member, Trouble> {
    let [name, record, expires, profile, report] = life.list()? else {
        return Err(Trouble::unreadable("a life without all of its parts"));
    };
    let parts = Parts {
        life: name.bytes()?,
        record: record.bytes()?,
        expires: expires.number()?,
        profile: profile.bytes()?,
        report: report.bytes()?,
        now: now.number()?,
    };
    parts.member()
}

/// Fields and values, by turns.
fn pairs(reply: &Value) -> Result<BTreeMap<&[u8], &Value>, Trouble> {
    let mut map = BTreeMap::new();
    for pair in reply.list()?.chunks_exact(2) {
        if let [field, value] = pair {
            map.insert(field.bytes()?.as_ref(), value);
        }
    }
    Ok(map)
}

/// What is told of a life; nothing: it has told nothing.
fn text_of<'a>(told: &BTreeMap<&[u8], &'a Value>, life: &[u8]) -> Result<&'a [u8], Trouble> {
    told.get(life)
        .map_or(Ok(&[]), |text| text.bytes().map(AsRef::as_ref))
}

/// All lives: the moment, both versions, records, expiries, profiles, reports.
pub(super) fn read_snapshot(reply: &Value) -> Result<Snapshot, Trouble> {
    let [now, members, reports, lives, expiry, profiles, told] = reply.list()? else {
        return Err(Trouble::unreadable("a snapshot without all of its parts"));
    };
    let (expiry, profiles, told) = (pairs(expiry)?, pairs(profiles)?, pairs(told)?);
    let now = now.number()?;
    let mut snapshot = Snapshot {
        versions: Versions {
            members: Version::new(members.number()?),
            reports: Version::new(reports.number()?),
        },
        members: Vec::new(),
    };
    for (life, record) in pairs(lives)? {
        let expires = expiry.get(life).map_or(Ok(0), |at| at.number())?;
        let profile = text_of(&profiles, life)?;
        let report = text_of(&told, life)?;
        let parts = Parts {
            life,
            record: record.bytes()?,
            expires,
            profile,
            report,
            now,
        };
        snapshot.members.push(parts.member()?);
    }
    let by_name = |a: &Member, b: &Member| (&a.id, a.incarnation).cmp(&(&b.id, b.incarnation));
    snapshot.members.sort_by(by_name);
    Ok(snapshot)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn profiles_and_reports_are_read_as_they_were_written() {
        let mut profile = Profile::new();
        profile.weight = 7;
        profile.zone = Some("-".to_owned());
        profile.keyspaces = ["b:1", "a"].into_iter().map(Keyspace::from).collect();
        profile.metadata.insert(String::new(), "3:x\0".to_owned());
        profile.metadata.insert("é".to_owned(), String::new());
        assert_eq!(read_profile(&of_profile(&profile)).unwrap(), profile);
        profile.zone = None;
        assert_eq!(read_profile(&of_profile(&profile)).unwrap(), profile);
        let told = KeyspaceReport {
            seen: Epoch::new(5),
            draining: [ShardId::new(0), ShardId::new(65_535)].into(),
        };
        let report = Report::from([
            (Keyspace::from("orders"), told),
            (Keyspace::from("x"), KeyspaceReport::default()),
        ]);
        assert_eq!(read_report(&of_report(&report)).unwrap(), report);
        assert_eq!(read_report(b"").unwrap(), Report::new());
    }
}
