//! What one read of the log brings.

use coordinator_core::{Bytes, Frame, FrameKind, Instance, MemberId};
use sqlx::Row as _;
use sqlx::postgres::PgRow;
use uuid::Uuid;

use super::cursor::Identity;
use super::place::{Snapshot, Wanted};

/// Rows in order, and how things stand.
#[derive(Debug, Clone)]
pub(super) struct Batch {
    pub(super) identity: Identity,
    pub(super) snapshot: Snapshot,
    /// Up to where rows were deleted that the reader had not read.
    pub(super) floor: Option<Floor>,
    /// Whether rows are there that may not be delivered yet.
    pub(super) waiting: bool,
    pub(super) rows: Vec<LogRow>,
    pub(super) bytes: usize,
}

/// A place below which rows were deleted (U14).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Floor {
    pub(super) xid: u64,
    pub(super) id: i64,
    pub(super) number: Option<i64>,
}

/// One message.
#[derive(Debug, Clone)]
pub(super) struct LogRow {
    pub(super) topic: usize,
    pub(super) xid: u64,
    pub(super) id: i64,
    pub(super) number: Option<i64>,
    pub(super) at: i64,
    pub(super) frame: Frame,
}

impl Batch {
    /// Reads what the server answered. `None`: with nothing, which no function of ours does.
    pub(super) fn of(rows: &[PgRow], wanted: &Wanted) -> Result<Option<Self>, sqlx::Error> {
        let Some(first) = rows.first() else {
            return Ok(None);
        };
        let mut batch = Self {
            identity: Identity::of(first.try_get(0)?),
            snapshot: Snapshot::parse(first.try_get(1)?),
            floor: floor(first)?,
            waiting: first.try_get(5)?,
            rows: Vec::with_capacity(rows.len()),
            bytes: 0,
        };
        for row in rows {
            if let Some(row) = log_row(row, wanted)? {
                batch.bytes += row.frame.payload.len();
                batch.rows.push(row);
            }
        }
        Ok(Some(batch))
    }
}

fn floor(row: &PgRow) -> Result<Option<Floor>, sqlx::Error> {
    let Some(xid) = row.try_get::<Option<&str>, _>(2)? else {
        return Ok(None);
    };
    Ok(Some(Floor {
        xid: number(xid),
        id: row.try_get(3)?,
        number: row.try_get(4)?,
    }))
}

fn log_row(row: &PgRow, wanted: &Wanted) -> Result<Option<LogRow>, sqlx::Error> {
    let Some(xid) = row.try_get::<Option<&str>, _>(7)? else {
        return Ok(None);
    };
    let id = Uuid::from_bytes(sixteen(row.try_get(6)?));
    let (Some(index), Some(topic)) = (wanted.index(id), wanted.topics.get(&id)) else {
        return Ok(None);
    };
    let origin = String::from_utf8_lossy(row.try_get(11)?);
    let instance = Instance::from_bytes(sixteen(row.try_get(12)?));
    let payload: Vec<u8> = row.try_get(17)?;
    let mut frame = Frame::new(
        topic.clone(),
        MemberId::new(origin),
        instance,
        Bytes::from(payload),
    );
    frame.stream = row.try_get::<i64, _>(13)?.unsigned_abs();
    frame.sequence = row.try_get::<i64, _>(14)?.unsigned_abs();
    frame.age = std::time::Duration::from_micros(row.try_get::<i64, _>(15)?.unsigned_abs());
    if row.try_get(16)? {
        frame.kind = FrameKind::Beacon;
    }
    Ok(Some(LogRow {
        topic: index,
        xid: number(xid),
        id: row.try_get(8)?,
        number: row.try_get(9)?,
        at: row.try_get(10)?,
        frame,
    }))
}

/// The server writes numbers of transactions as digits.
fn number(digits: &str) -> u64 {
    digits.parse().unwrap_or(0)
}

fn sixteen(bytes: &[u8]) -> [u8; 16] {
    bytes.try_into().unwrap_or_default()
}
