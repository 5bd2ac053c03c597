//! Members as rows: profiles and reports flat, answers read.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use coordinator_core::{
    Beat, EndReason, Epoch, Heartbeat, Incarnation, Instance, Joined, Keyspace, KeyspaceReport,
    Member, MemberId, MemberState, MemoryId, Profile, Report, ShardId, Snapshot, Version, Versions,
};
use tokio_postgres::Row;
use tokio_postgres::types::FromSql;
use uuid::Uuid;

use crate::trouble::{Trouble, unsigned};

/// A profile, as parameters.
#[derive(Debug, Default)]
pub(super) struct FlatProfile<'a> {
    /// Keys and values by turns.
    pub(super) metadata: Vec<&'a str>,
    pub(super) zone: Option<&'a str>,
    pub(super) weight: i64,
    pub(super) keyspaces: Vec<&'a str>,
    pub(super) format: i32,
}

impl<'a> FlatProfile<'a> {
    pub(super) fn of(profile: &'a Profile) -> Self {
        let entries = profile.metadata.iter();
        Self {
            metadata: entries
                .flat_map(|(key, value)| [key.as_str(), value])
                .collect(),
            zone: profile.zone.as_deref(),
            weight: i64::from(profile.weight),
            keyspaces: profile.keyspaces.iter().map(Keyspace::as_str).collect(),
            format: i32::from(profile.format),
        }
    }
}

/// A report, as parameters.
#[derive(Debug)]
pub(super) struct FlatReport<'a> {
    pub(super) keyspaces: Vec<&'a str>,
    pub(super) seen: Vec<i64>,
    /// Numbers of shards, with commas between.
    pub(super) draining: Vec<String>,
}

impl<'a> FlatReport<'a> {
    pub(super) fn of(report: &'a Report) -> Self {
        let draining = |told: &KeyspaceReport| {
            let shards = told.draining.iter().map(ToString::to_string);
            shards.collect::<Vec<_>>().join(",")
        };
        Self {
            keyspaces: report.keys().map(Keyspace::as_str).collect(),
            seen: report.values().map(|told| i64::from(told.seen)).collect(),
            draining: report.values().map(draining).collect(),
        }
    }
}

/// An answer about members.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) verdict: String,
    /// How long it still lasts, in milliseconds.
    pub(super) quarantine: Option<i64>,
    memory: Option<String>,
    begun: Option<i64>,
    versions: Versions,
    members: Vec<Member>,
}

impl Answer {
    pub(super) fn read(rows: &[Row]) -> Result<Self, Trouble> {
        let Some(first) = rows.first() else {
            // Only where the group's row is gone under the call.
            return Err(Trouble::unreadable("nothing"));
        };
        let version = |column| -> Result<Version, Trouble> {
            let number: Option<i64> = first.try_get(column)?;
            Ok(Version::new(unsigned(number.unwrap_or_default())))
        };
        let mut members = Vec::with_capacity(rows.len());
        for row in rows {
            members.extend(member(row)?);
        }
        members.sort_by(|a: &Member, b| (&a.id, a.incarnation).cmp(&(&b.id, b.incarnation)));
        Ok(Self {
            verdict: first.try_get(0)?,
            quarantine: first.try_get(1)?,
            memory: first.try_get(2)?,
            begun: first.try_get(3)?,
            versions: Versions {
                members: version(4)?,
                reports: version(5)?,
            },
            members,
        })
    }

    fn memory(&self) -> Result<MemoryId, Trouble> {
        let memory = self.memory.as_deref();
        let memory = memory.ok_or_else(|| Trouble::unreadable("no memory"))?;
        Ok(MemoryId::from(memory))
    }

    pub(super) fn snapshot(self) -> Snapshot {
        Snapshot {
            versions: self.versions,
            members: self.members,
        }
    }

    pub(super) fn joined(self) -> Result<Joined, Trouble> {
        let number = self.begun;
        let number = number.ok_or_else(|| Trouble::unreadable("no incarnation"))?;
        Ok(Joined::Member {
            incarnation: Incarnation::new(unsigned(number)),
            memory: self.memory()?,
            snapshot: self.snapshot(),
        })
    }

    pub(super) fn taken(mut self) -> Result<Joined, Trouble> {
        let incumbent = self.members.pop();
        let incumbent = incumbent.ok_or_else(|| Trouble::unreadable("taken by nobody"))?;
        Ok(Joined::Taken(Box::new(incumbent)))
    }

    /// There is news if, and only if, the member does not know the newest: the same rule as in the
    /// function, for a group without a single life has no row to tell.
    pub(super) fn alive(self, beat: &Heartbeat) -> Result<Beat, Trouble> {
        let news = self.versions.members != beat.known.members
            || (beat.wants_reports && self.versions.reports != beat.known.reports);
        Ok(Beat::Alive {
            memory: self.memory()?,
            news: news.then(|| self.snapshot()),
        })
    }
}

/// The columns of one life, in order.
struct Columns<'a> {
    row: &'a Row,
    next: usize,
}

impl<'a> Columns<'a> {
    fn take<T: FromSql<'a>>(&mut self) -> Result<T, Trouble> {
        let column = self.next;
        self.next += 1;
        Ok(self.row.try_get(column)?)
    }
}

/// The life that a row tells of, if it does.
fn member(row: &Row) -> Result<Option<Member>, Trouble> {
    let mut columns = Columns { row, next: 6 };
    let Some(name) = columns.take::<Option<&str>>()? else {
        return Ok(None);
    };
    let incarnation = Incarnation::new(unsigned(columns.take()?));
    let instance = Instance::from_bytes(columns.take::<Uuid>()?.into_bytes());
    let fixed: bool = columns.take()?;
    let evicted: bool = columns.take()?;
    let ttl = Duration::from_micros(unsigned(columns.take()?));
    let mut member = Member::new(MemberId::from(name), incarnation, instance, ttl);
    member.fixed = fixed;
    member.beat = unsigned(columns.take()?);
    member.state = state(&mut columns, evicted)?;
    member.profile = profile(&mut columns)?;
    member.report = report(&mut columns)?;
    Ok(Some(member))
}

fn state(columns: &mut Columns<'_>, evicted: bool) -> Result<MemberState, Trouble> {
    let state: &str = columns.take()?;
    let span = Duration::from_micros(unsigned(columns.take()?));
    let reason: Option<&str> = columns.take()?;
    let flaps: Option<i32> = columns.take()?;
    Ok(match state {
        "live" => MemberState::Live {
            expires_in: span,
            evicted,
        },
        "due" => MemberState::Due,
        "ended" => MemberState::Ended {
            ago: span,
            reason: end_reason(reason.unwrap_or_default())?,
            flaps: u32::try_from(flaps.unwrap_or_default()).unwrap_or_default(),
        },
        other => return Err(Trouble::unreadable(other)),
    })
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

fn profile(columns: &mut Columns<'_>) -> Result<Profile, Trouble> {
    let mut profile = Profile::new();
    let metadata: Vec<String> = columns.take()?;
    let mut texts = metadata.into_iter();
    while let (Some(key), Some(value)) = (texts.next(), texts.next()) {
        profile.metadata.insert(key, value);
    }
    profile.zone = columns.take()?;
    profile.weight = u32::try_from(columns.take::<i64>()?).unwrap_or(u32::MAX);
    let keyspaces: Vec<&str> = columns.take()?;
    profile.keyspaces = keyspaces.into_iter().map(Keyspace::from).collect();
    profile.format = u16::try_from(columns.take::<i32>()?).unwrap_or(u16::MAX);
    Ok(profile)
}

fn report(columns: &mut Columns<'_>) -> Result<Report, Trouble> {
    let keyspaces: Vec<&str> = columns.take()?;
    let seen: Vec<i64> = columns.take()?;
    let draining: Vec<&str> = columns.take()?;
    let mut report = BTreeMap::new();
    for ((keyspace, seen), draining) in keyspaces.into_iter().zip(seen).zip(draining) {
        let told = KeyspaceReport {
            seen: Epoch::new(unsigned(seen)),
            draining: shards(draining)?,
        };
        report.insert(Keyspace::from(keyspace), told);
    }
    Ok(report)
}

fn shards(text: &str) -> Result<BTreeSet<ShardId>, Trouble> {
    let numbers = text.split(',').filter(|number| !number.is_empty());
    let shards = numbers.map(str::parse::<ShardId>);
    shards
        .collect::<Result<_, _>>()
        .map_err(|_| Trouble::unreadable(text))
}
