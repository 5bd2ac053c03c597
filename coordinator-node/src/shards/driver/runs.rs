//! The runs of shards: begun, asked to end, and gone.

use std::num::NonZeroU16;

use coordinator_core::machine::keeper::KeeperEvent as Event;
use coordinator_core::{Epoch, LostCause, ShardId};
use tracing::{debug, info};

use super::super::seat::{Seat, SeatId, SeatParts};
use super::{Driver, Run};
use crate::telemetry;

impl Driver {
    pub(super) fn start(&mut self, shard: ShardId, token: Epoch, count: u16) {
        let (Some(offer), Some(count)) = (&self.offer, NonZeroU16::new(count)) else {
            return self.never_began((shard, token));
        };
        // The grant is to the life that the keeper knows, and to no later one.
        let trusted = self.line.membership.trusted();
        let Some((_, until)) = trusted.filter(|(life, _)| self.life == Some(*life)) else {
            return self.never_began((shard, token));
        };
        let parts = SeatParts {
            shard,
            token,
            count,
            routing: offer.config.routing,
            until,
            drain_timeout: offer.config.drain_timeout,
        };
        let seat = Seat::new(&self.line, &offer.node, &parts);
        info!(keyspace = %self.line.keyspace, %shard, %token, "shard owned");
        let run = Run {
            grip: seat.grip.clone(),
            life: self.life,
            asked: None,
            cause: None,
            resting: false,
        };
        self.runs.insert(seat.id(), run);
        self.line.membership.busy(&self.line.keyspace, true);
        offer.host.start(seat);
    }

    /// The grant came when nobody was there to take it any more.
    pub(super) fn never_began(&self, id: SeatId) {
        self.line.seat_gone(id);
    }

    /// Tells a run to finish, or, with a cause, to stop.
    pub(super) fn ask_to_end(&mut self, id: SeatId, cause: Option<LostCause>) {
        let now = self.now();
        let Some(run) = self.runs.get_mut(&id) else {
            return; // It has ended, and the keeper is about to hear of it.
        };
        let (shard, token) = id;
        run.asked.get_or_insert(now);
        if let Some(cause) = cause {
            let cause = run.grip.lose(cause);
            run.cause = Some(cause);
            info!(keyspace = %self.line.keyspace, %shard, %token, %cause, "shard lost");
        } else {
            run.grip.drain();
            debug!(keyspace = %self.line.keyspace, %shard, %token, "shard draining");
        }
        let resting = run.resting;
        if let Some(offer) = &self.offer {
            offer.host.withdraw(id);
        }
        if resting {
            // Nothing of it is left. Not now: the keeper is in the middle of its step.
            self.line.seat_gone(id);
        }
    }

    /// Nobody holds any of it any more.
    pub(super) fn seat_gone(&mut self, id: SeatId) {
        let now = self.now();
        let (shard, token) = id;
        if let Some(run) = self.runs.get_mut(&id) {
            // Its own clock said so before the keeper did: the keeper decides what comes next.
            let lost = run.grip.lease().err().map(|lost| lost.cause);
            if lost == Some(LostCause::Expired) {
                run.asked.get_or_insert(now);
                run.cause.get_or_insert(LostCause::Expired);
            }
            let Some(asked) = run.asked else {
                run.resting = true;
                debug!(keyspace = %self.line.keyspace, %shard, %token, "shard rests");
                return;
            };
            let cause = run
                .cause
                .map_or_else(|| "drained".into(), |cause| cause.to_string());
            let keyspace = self.line.keyspace.as_str();
            let labels = [("keyspace", keyspace), ("cause", &cause)];
            telemetry::count(telemetry::HANDOFFS, 1, &labels);
            let seconds = now.since(asked).as_secs_f64();
            telemetry::observe(telemetry::DRAIN_SECONDS, seconds, &[("keyspace", keyspace)]);
            info!(%keyspace, %shard, %token, %cause, "shard given back");
            // Whatever is left of it, a view or a clone of its signals, is of no use any more.
            run.grip.lose(LostCause::Released);
            self.runs.remove(&id);
        }
        self.step(Event::Ended { shard, token });
    }

    pub(super) fn tell_state(&mut self) {
        let busy = !self.runs.is_empty();
        let changed = self.line.state.send_if_modified(|state| {
            let changed = state.busy != busy;
            state.busy = busy;
            changed
        });
        if changed && !busy {
            self.line.membership.busy(&self.line.keyspace, false);
        }
        #[expect(clippy::cast_precision_loss, reason = "at most 65,535")]
        let owned = self.runs.values().filter(|run| run.asked.is_none()).count() as f64;
        let keyspace = self.line.keyspace.as_str();
        telemetry::gauge(telemetry::SHARDS_OWNED, owned, &[("keyspace", keyspace)]);
    }
}
