//! The document: when it is read, and what a read brings.

use coordinator_core::machine::keeper::KeeperEvent as Event;
use coordinator_core::{AssignmentError, Document, MemoryId, Moment, StoredDocument};
use tracing::{debug, warn};

use super::super::line::Stop;
use super::Driver;
use crate::tasks::sleep_until;

/// The first pause after a failed read; it grows up to the pace of heartbeats.
pub(super) const FIRST_PAUSE: std::time::Duration = std::time::Duration::from_millis(100);

/// What a read brings.
pub(super) type Read = Result<Option<StoredDocument>, AssignmentError>;

impl Driver {
    pub(super) fn tick(&mut self) {
        let now = self.now();
        self.step(Event::Tick);
        if self.reading.is_none() && self.life.is_some() && now >= self.read_at {
            self.begin_reading(now);
        }
    }

    /// Reads the document. What is read counts under the memory that was known before (S12).
    pub(super) fn begin_reading(&mut self, now: Moment) {
        let Some(under) = self.memory.clone() else {
            return;
        };
        self.reread = false;
        let line = self.line.clone();
        self.reading = Some(Box::pin(async move {
            let context = &line.context;
            let deadline = context.trust.until(now);
            let read = tokio::select! {
                biased;
                read = line.store.load(&context.group, &line.keyspace) => read,
                () = sleep_until(&*context.clock, Some(deadline), context.trust.look_every()) => {
                    let silence = "no answer within the trust window";
                    Err(AssignmentError::unavailable("load", &line.keyspace, silence))
                }
            };
            (under, read)
        }));
    }

    pub(super) fn read(&mut self, under: MemoryId, answer: Read) {
        self.reading = None;
        let now = self.now();
        match answer {
            Ok(stored) => {
                self.backoff.reset();
                let epoch = stored.as_ref().map(|stored| stored.epoch);
                let idle_hint = std::mem::take(&mut self.hinted) && epoch == self.known;
                self.known = epoch;
                self.read_at = if self.reread {
                    now
                } else if idle_hint {
                    // A hint for no reason: read again, but do not listen in a hot loop.
                    now + FIRST_PAUSE
                } else {
                    self.listen();
                    now + self.line.context.trust.renew_every()
                };
                self.act_on(under, stored);
            }
            Err(error) => {
                debug!(keyspace = %self.line.keyspace, error = %error, "document not read");
                self.read_at = now + self.backoff.next(&mut self.random);
            }
        }
    }

    pub(super) fn act_on(&mut self, under: MemoryId, stored: Option<StoredDocument>) {
        let document = stored.map(|stored| Document::decode(stored.epoch, &stored.document));
        let document = match document.transpose() {
            Ok(document) => document,
            // Who cannot read it does not set `seen` (S10).
            Err(error) => {
                warn!(keyspace = %self.line.keyspace, error = %error, "document not understood");
                return;
            }
        };
        if let (Some(document), Some(offer)) = (&document, &self.offer)
            && let Err(mismatch) = document.agrees(offer.layout, offer.config.routing)
        {
            warn!(keyspace = %self.line.keyspace, error = %mismatch, "refused");
            self.line
                .state
                .send_modify(|state| state.refused = Some(mismatch));
            self.stop_serving(Stop::Drain);
        }
        let document = document.map(Box::new);
        self.step(Event::Read { document, under });
    }

    /// Waits for the store to say that the document may be another.
    pub(super) fn listen(&mut self) {
        let (line, known) = (self.line.clone(), self.known);
        self.hint = Some(Box::pin(async move {
            let group = &line.context.group;
            line.store
                .changed(group, &line.keyspace, known)
                .await
                .is_ok()
        }));
    }

    pub(super) fn hinted(&mut self, news: bool) {
        self.hint = None;
        if news {
            self.hinted = true;
            self.reload();
        }
    }

    pub(super) fn reload(&mut self) {
        self.reread = self.reading.is_some();
        self.read_at = self.now();
    }
}
