//! A place in the line of those who wait for a lease (D2).

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use coordinator_core::Claim;
use tokio::runtime::Handle;
use tokio::time::timeout;

use super::{LEAVE, Place, WAIT};
use crate::bells::{Bell, TURN};
use crate::hub::Hub;
use crate::reply::{Read, hex, microseconds, part, verdict};
use crate::trouble::Trouble;

/// How long a free lease is kept for the first waiter, at least: then it is the next one's turn.
const LEAST_TURN: Duration = Duration::from_millis(250);
/// How often a waiter looks, at most: a wake-up may be lost in a fail-over.
const LEAST_POLL: Duration = Duration::from_secs(1);

/// When a look that failed is made again, unless the connection is back before.
const AGAIN: Duration = Duration::from_millis(250);

/// A place in line. Dropped, it is left, and the turn is given back.
pub(super) struct Line {
    hub: Arc<Hub>,
    place: Place,
    ticket: Bytes,
    left: bool,
}

/// What a look at the line says.
enum Look {
    /// Ask for the lease.
    Now,
    /// For so long nothing will happen that nobody tells.
    Wait(Duration),
}

impl Line {
    /// Waits for the turn of a claim.
    ///
    /// The bell is listened for first, so that no call falls between the look and the wait.
    pub(super) async fn wait(hub: &Arc<Hub>, claim: &Claim) -> Result<(), Trouble> {
        // One a wait, not one a claim: the end of a dropped wait must not end its successor.
        let ticket = format!(
            "{}/{}/{}",
            hex(claim.instance),
            claim.id,
            hub.bells.ticket()
        );
        let mut hearing = hub.bells.listen(Bell::ticket(&ticket)).await?;
        let mut line = Self {
            hub: hub.clone(),
            place: Place::of(hub, &claim.key),
            ticket: ticket.into(),
            left: false,
        };
        let poll = LEAST_POLL.max(claim.ttl / 2);
        loop {
            let span = match line.look(claim, poll).await {
                Ok(Look::Now) => break,
                Ok(Look::Wait(span)) => span,
                // Given up, nothing would be heard until the lease has run out, although it may be free by now.
                Err(Trouble::Unavailable(_) | Trouble::Indeterminate(_)) => AGAIN,
                Err(trouble) => return Err(trouble),
            };
            // Woken for another reason, or not at all: it looks again.
            if timeout(span.min(poll), hearing.rung()).await == Ok(Some(TURN)) {
                break;
            }
        }
        line.left = true;
        Ok(())
    }

    async fn look(&self, claim: &Claim, poll: Duration) -> Result<Look, Trouble> {
        let args = vec![
            claim.owner.as_str().to_owned().into(),
            hex(claim.instance).into(),
            self.ticket.clone(),
            microseconds(LEAST_TURN.max(claim.ttl / 4)).into(),
            // A waiter that is gone is in nobody's way for longer.
            microseconds(poll * 2 + LEAST_POLL).into(),
            self.hub.bells.own_channel(),
        ];
        let (tag, keys) = (&self.place.tag, &self.place.keys);
        let answer = self.hub.run(&WAIT, tag, keys, args).await?;
        match verdict(&answer)? {
            ("now", _) => Ok(Look::Now),
            ("wait", parts) => Ok(Look::Wait(part(parts, 0)?.span()?)),
            (other, _) => Err(Trouble::unreadable(other)),
        }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        // Without a runtime the place's own deadline ends it.
        let Some(runtime) = Handle::try_current().ok().filter(|_| !self.left) else {
            return;
        };
        let (hub, ticket) = (self.hub.clone(), self.ticket.clone());
        let (tag, keys) = (self.place.tag.clone(), self.place.keys.clone());
        runtime.spawn(async move {
            if let Err(trouble) = hub.run(&LEAVE, &tag, &keys, vec![ticket]).await {
                tracing::debug!(?trouble, "a place in line is not left, and lapses");
            }
        });
    }
}
