//! Asking again for a row that somebody's transaction holds.
//!
//! All calls share one session, heartbeats, too. A statement that waited there for a lock would hold them
//! all up, for as long as a stranger's transaction lasts; so it is refused, and asked again.

use std::time::Duration;

use tokio::time::sleep;

const FIRST: Duration = Duration::from_millis(2);
const LONGEST: Duration = Duration::from_millis(100);

/// How often it was asked already.
#[derive(Debug, Default)]
pub(crate) struct Turns(u32);

impl Turns {
    /// Whether it was asked once only.
    pub(crate) fn is_first(&self) -> bool {
        self.0 == 0
    }

    /// Waits until it is worth asking again. Cancel safe.
    pub(crate) async fn pass(&mut self) {
        let pause = FIRST * 2_u32.pow(self.0.min(6));
        self.0 += 1;
        sleep(pause.min(LONGEST)).await;
    }
}
