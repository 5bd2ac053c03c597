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
    pub(in crate::bus) payload: Bytes,
}

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
            payload: frame.payload.clone(),
        })
    }
}

/// Rows that are stored together.
#[derive(Debug, Default)]
pub(in crate::bus) struct Rows {
    topics: Vec<Uuid>,
    names: Vec<Vec<u8>>,
    origins: Vec<Vec<u8>>,
    instances: Vec<Uuid>,
    streams: Vec<i64>,
    sequences: Vec<i64>,
    ages: Vec<i64>,
    beacons: Vec<bool>,
    payloads: Vec<Payload>,
}

impl Rows {
    pub(in crate::bus) fn push(&mut self, row: Row) {
        self.topics.push(row.topic);
        self.names.push(row.name);
        self.origins.push(row.origin);
        self.instances.push(row.instance);
        self.streams.push(row.stream);
        self.sequences.push(row.sequence);
        self.ages.push(row.age);
        self.beacons.push(row.beacon);
        self.payloads.push(Payload(row.payload));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.topics.is_empty()
    }

    pub(super) fn parameters(&self) -> [&(dyn ToSql + Sync); 9] {
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
struct Payload(Bytes);

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
