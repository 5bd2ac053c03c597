//! How beats leave: one frame at a time.

use std::any::Any;
use std::future::{Future, pending};
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use coordinator_core::{ClusterBus, Frame};
use futures_util::FutureExt;
use tokio::time::timeout;

use crate::tasks::panic_message;

/// The last word may take so long: a shutdown waits for it.
const GOODBYE_WITHIN: Duration = Duration::from_secs(1);

type Flight = Pin<Box<dyn Future<Output = Result<(), String>> + Send>>;

fn panicked(panic: &(dyn Any + Send)) -> String {
    format!("the backend panicked: {}", panic_message(panic))
}

/// What is under way to the bus: one frame, and behind it the newest one alone. An older one has
/// nothing to say that the newest does not.
pub(super) struct Sending {
    bus: Arc<dyn ClusterBus>,
    within: Duration,
    flight: Option<Flight>,
    next: Option<Frame>,
}

impl Sending {
    /// Each frame may take so long.
    pub(super) fn new(bus: Arc<dyn ClusterBus>, within: Duration) -> Self {
        Self {
            bus,
            within,
            flight: None,
            next: None,
        }
    }

    pub(super) fn send(&mut self, frame: Frame) {
        if self.flight.is_some() {
            self.next = Some(frame);
        } else {
            self.start(frame);
        }
    }

    /// Sends this last one, past whatever is under way, and within the time of a shutdown.
    pub(super) fn send_last(&mut self, frame: Frame) {
        self.within = self.within.min(GOODBYE_WITHIN);
        self.next = None;
        self.start(frame);
    }

    pub(super) fn is_idle(&self) -> bool {
        self.flight.is_none()
    }

    /// How the frame under way fared; for ever if there is none. Cancel safe.
    pub(super) async fn sent(&mut self) -> Result<(), String> {
        let Some(flight) = &mut self.flight else {
            return pending().await;
        };
        let outcome = flight.await;
        self.flight = None;
        if let Some(frame) = self.next.take() {
            self.start(frame);
        }
        outcome
    }

    fn start(&mut self, frame: Frame) {
        let (bus, within) = (self.bus.clone(), self.within);
        self.flight = Some(Box::pin(async move {
            let batch = [frame];
            let publish = AssertUnwindSafe(bus.publish(&batch)).catch_unwind();
            match timeout(within, publish).await {
                Ok(Ok(answer)) => answer.map_err(|error| error.to_string()),
                Ok(Err(panic)) => Err(panicked(&*panic)),
                Err(_) => Err(format!("no answer within {within:?}")),
            }
        }));
    }
}
