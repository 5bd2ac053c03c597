//! A server that does what a test says.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::mpsc;

use super::wants::{Want, wants};
use super::{Chosen, Client, ListenEvent, Listener, PubSub, Teller, Value, queue};
use crate::error::ConnectError;
use crate::script::Script;
use crate::trouble::Trouble;

/// A client of it. What is published is heard by who listened last.
#[derive(Debug)]
pub(crate) struct Fake {
    lines: mpsc::UnboundedSender<FakeLine>,
    last: std::sync::Mutex<Option<Arc<Teller>>>,
}

/// A connection that listens to it.
#[derive(Debug)]
pub(crate) struct FakeLine {
    teller: Arc<Teller>,
    wants: mpsc::Receiver<Want>,
}

impl Fake {
    pub(crate) fn new() -> (Arc<Self>, mpsc::UnboundedReceiver<FakeLine>) {
        let (lines, opened) = mpsc::unbounded_channel();
        let last = std::sync::Mutex::default();
        (Arc::new(Self { lines, last }), opened)
    }
}

impl FakeLine {
    pub(crate) fn tell(&self, event: ListenEvent) {
        self.teller.tell(event);
    }

    /// The next question: `+` and the channel that is to be heard, or `-` and one that is not; and what answers it.
    pub(crate) async fn asked(&mut self) -> (String, impl FnOnce(Result<(), Trouble>) + use<>) {
        let want = self.wants.recv().await.expect("somebody listens");
        let sign = if want.hears { '+' } else { '-' };
        let text = format!("{sign}{}", String::from_utf8_lossy(&want.channel));
        (text, move |answer| {
            want.done.send(answer).ok();
        })
    }

    /// Answers the next question, which is this one.
    pub(crate) async fn answer(&mut self, wanted: &str, answer: Result<(), Trouble>) {
        let (asked, reply) = self.asked().await;
        assert_eq!(asked, wanted);
        reply(answer);
    }
}

#[async_trait]
impl Client for Fake {
    fn shown(&self) -> String {
        "fake".to_owned()
    }

    async fn reach(&self) -> Result<(), ConnectError> {
        Ok(())
    }

    async fn eval(
        &self,
        _: &'static Script,
        _: Vec<Bytes>,
        _: Vec<Bytes>,
    ) -> Result<Value, Trouble> {
        Err(Trouble::closed())
    }

    async fn publish(&self, _: PubSub, batch: Vec<(Bytes, Bytes)>) -> Vec<Result<(), Trouble>> {
        let last = self.last.lock().unwrap();
        let sent = batch.into_iter().map(|(channel, payload)| {
            if let Some(teller) = &*last {
                teller.tell(ListenEvent::Message { channel, payload });
            }
            Ok(())
        });
        sent.collect()
    }

    async fn pipeline(&self, _: Vec<Vec<Bytes>>) -> Result<Vec<Result<Value, Trouble>>, Trouble> {
        Err(Trouble::closed())
    }

    async fn listen(&self, _: Chosen) -> Result<Listener, Trouble> {
        let (teller, heard) = queue(1_000_000);
        let (channels, wants) = wants();
        let teller = Arc::new(teller);
        *self.last.lock().unwrap() = Some(teller.clone());
        self.lines.send(FakeLine { teller, wants }).ok();
        Ok(Listener::new(channels, heard))
    }
}
