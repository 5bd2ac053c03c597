//! What the backend warns of, which an operator reads in the log and a test reads here.

use std::fmt::{Debug, Write as _};
use std::sync::{Once, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

/// The warnings of this process since the first of this was made, those of other tests among them.
pub(crate) struct Warnings(watch::Receiver<Vec<String>>);

impl Warnings {
    pub(crate) fn listen() -> Self {
        static ONCE: Once = Once::new();
        static HEARD: std::sync::Mutex<Option<watch::Receiver<Vec<String>>>> =
            std::sync::Mutex::new(None);
        let heard = || HEARD.lock().unwrap_or_else(PoisonError::into_inner);
        ONCE.call_once(|| {
            let (tell, receiver) = watch::channel(Vec::new());
            *heard() = Some(receiver);
            tracing::subscriber::set_global_default(Listener(tell)).expect("nobody else listens");
        });
        let receiver = heard().clone();
        Self(receiver.expect("it was made"))
    }

    /// Waits until one says all of these; gives it.
    pub(crate) async fn until(&mut self, said: &[&str], within: Duration) -> String {
        let texts = self.0.clone();
        let is_it = |text: &&String| said.iter().all(|part| text.contains(part));
        let heard = self
            .0
            .wait_for(|texts| texts.iter().any(|text| is_it(&text)));
        let Ok(heard) = timeout(within, heard).await else {
            panic!("nothing says {said:?}, but: {:?}", *texts.borrow());
        };
        let texts = heard.expect("it is kept");
        texts.iter().find(is_it).cloned().unwrap_or_default()
    }
}

struct Listener(watch::Sender<Vec<String>>);

impl Subscriber for Listener {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::WARN && metadata.target().starts_with("coordinator_postgres")
    }

    fn event(&self, event: &Event<'_>) {
        let mut text = Text(String::new());
        event.record(&mut text);
        self.0.send_modify(|texts| texts.push(text.0));
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        write!(self.0, "{field}={value:?} ").expect("a text grows");
    }
}
