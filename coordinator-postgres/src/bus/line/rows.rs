//! Rows of the durable log, as columns.

use coordinator_core::{Bytes, Frame, FrameKind};
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use crate::names::id_of;

/// The id of a topic: what its rows are found by.
pub(in crate::bus) fn topic_id(name: &str) -> Uuid {
    id_of("topic", name)
}

/// One row: a frame, checked.
#[derive(Debug)]
pub(in crate::bus) struct Row {
    pub(in crate::bus) topic: Uuid,
    pub(in crate::bus) name: Vec<u8>,
    pub(in crate::bus) origin: Vec<u8>,
    pub(in crate::bus) instance: Uuid,
    pub(in crate::bus) stream: i64,
    pub(in crate::bus) sequence: i64,
    pub(in crate::bus) age: i64,
    pub(in crate::bus) beacon: bool,
    pub(in crate::bus) payload: Payload,
}

/// The values of each column, for a statement.
pub(super) type Parameters<'a> = [&'a (dyn ToSql + Sync); 9];

/// A number that no column holds.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("the frame's {field} does not fit 63 bits")]
pub(in crate::bus) struct TooHigh {
    field: &'static str,
}

impl Row {
    pub(in crate::bus) fn new(frame: &Frame) -> Result<Self, TooHigh> {
        let number = |field, number: u64| i64::try_from(number).map_err(|_| TooHigh { field });
        let age = u64::try_from(frame.age.as_micros()).unwrap_or(u64::MAX);
        Ok(Self {
            topic: topic_id(frame.topic.name()),
            name: frame.topic.name().as_bytes().to_vec(),
            origin: frame.origin.as_str().as_bytes().to_vec(),
            instance: Uuid::from_bytes(frame.instance.to_bytes()),
            stream: number("stream", frame.stream)?,
            sequence: number("sequence", frame.sequence)?,
            age: number("age", age)?,
            beacon: frame.kind == FrameKind::Beacon,
            payload: Payload(frame.payload.clone()),
        })
    }

    pub(super) fn parameters(&self) -> Parameters<'_> {
        [
            &self.topic,
            &self.name,
            &self.origin,
            &self.instance,
            &self.stream,
            &self.sequence,
            &self.age,
            &self.beacon,
            &self.payload,
        ]
    }
}

/// Rows that are stored together, column by column.
#[derive(Debug, Default)]
pub(super) struct Columns<'a> {
    topics: Vec<&'a Uuid>,
    names: Vec<&'a [u8]>,
    origins: Vec<&'a [u8]>,
    instances: Vec<&'a Uuid>,
    streams: Vec<i64>,
    sequences: Vec<i64>,
    ages: Vec<i64>,
    beacons: Vec<bool>,
    payloads: Vec<&'a Payload>,
}

impl<'a> Columns<'a> {
    pub(super) fn of(rows: &'a [Row]) -> Self {
        let mut columns = Self::default();
        for row in rows {
            columns.topics.push(&row.topic);
            columns.names.push(&row.name);
            columns.origins.push(&row.origin);
            columns.instances.push(&row.instance);
            columns.streams.push(row.stream);
            columns.sequences.push(row.sequence);
            columns.ages.push(row.age);
            columns.beacons.push(row.beacon);
            columns.payloads.push(&row.payload);
        }
        columns
    }

    pub(super) fn parameters(&self) -> Parameters<'_> {
        [
            &self.topics,
            &self.names,
            &self.origins,
            &self.instances,
            &self.streams,
            &self.sequences,
            &self.ages,
            &self.beacons,
            &self.payloads,
        ]
    }
}
/// Bytes, as the driver writes them.
#[derive(Debug)]
pub(in crate::bus) struct Payload(pub(in crate::bus) Bytes);

impl ToSql for Payload {
    fn to_sql(
        &self,
        ty: &tokio_postgres::types::Type,
        out: &mut bytes::BytesMut,
    ) -> Result<tokio_postgres::types::IsNull, Box<dyn std::error::Error + Sync + Send>> {
        (&*self.0).to_sql(ty, out)
    }

    fn accepts(ty: &tokio_postgres::types::Type) -> bool {
        <&[u8] as ToSql>::accepts(ty)
    }

    tokio_postgres::types::to_sql_checked!();
}
