//! What is asked of a listener: from any task, one after the other.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use super::Channels;
use crate::trouble::Trouble;

/// So many changes of channels wait.
const MOST: usize = 64;

/// Who waits for an answer.
pub(super) type Done = oneshot::Sender<Result<(), Trouble>>;

/// A change of the channels, and who waits for it.
#[derive(Debug)]
pub(super) struct Want {
    pub(super) channel: Bytes,
    pub(super) hears: bool,
    pub(super) done: Done,
}

/// The end that asks, and the end that does it.
pub(super) fn wants() -> (Arc<dyn Channels>, mpsc::Receiver<Want>) {
    let (wanted, wants) = mpsc::channel(MOST);
    (Arc::new(Wanted(wanted)), wants)
}

#[derive(Debug)]
struct Wanted(mpsc::Sender<Want>);

impl Wanted {
    async fn ask(&self, channel: Bytes, hears: bool) -> Result<(), Trouble> {
        let (done, answer) = oneshot::channel();
        let want = Want {
            channel,
            hears,
            done,
        };
        let sent = self.0.send(want).await;
        sent.map_err(|_| Trouble::closed())?;
        answer.await.map_err(|_| Trouble::closed())?
    }
}

#[async_trait]
impl Channels for Wanted {
    async fn subscribe(&self, channel: Bytes) -> Result<(), Trouble> {
        self.ask(channel, true).await
    }

    async fn unsubscribe(&self, channel: Bytes) -> Result<(), Trouble> {
        self.ask(channel, false).await
    }
}
