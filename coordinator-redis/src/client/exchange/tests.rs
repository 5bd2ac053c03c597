use tokio::time::timeout;

use super::*;
use crate::client::fake::{Fake, FakeLine};

const CHANNEL: Bytes = Bytes::from_static(b"c");

/// Two servers, one of which has all channels.
#[derive(Debug)]
struct Two {
    servers: [Arc<Fake>; 2],
    at: watch::Sender<u64>,
}

impl Routes for Two {
    fn route(&self, _: &[u8]) -> Option<(u64, Arc<dyn Client>)> {
        let at = *self.at.borrow();
        let server = self.servers.get(usize::try_from(at).ok()?)?;
        Some((at, server.clone()))
    }

    fn suspect(&self) {}
}

struct Scene {
    two: Arc<Two>,
    lines: [mpsc::UnboundedReceiver<FakeLine>; 2],
    listener: Listener,
}

impl Scene {
    fn new() -> Self {
        let ((one, first), (other, second)) = (Fake::new(), Fake::new());
        let two = Arc::new(Two {
            servers: [one, other],
            at: watch::Sender::new(0),
        });
        let how = PubSub::Plain.always();
        let listener = open(two.clone(), two.at.subscribe(), how, 1_000_000);
        Self {
            two,
            lines: [first, second],
            listener,
        }
    }

    async fn line(&mut self, server: usize) -> FakeLine {
        self.lines[server].recv().await.unwrap()
    }

    fn subscribe(&self) -> tokio::task::JoinHandle<Result<(), Trouble>> {
        let channels = self.listener.channels();
        tokio::spawn(async move { channels.subscribe(CHANNEL).await })
    }

    async fn next(&mut self) -> String {
        let next = timeout(Duration::from_secs(60), self.listener.next()).await;
        match next.expect("it is told").expect("it goes on") {
            ListenEvent::Message { .. } => "message",
            ListenEvent::Lost(_) => "lost",
            ListenEvent::Live => "live",
            ListenEvent::Refused { .. } => "refused",
            ListenEvent::Admitted(_) => "admitted",
            ListenEvent::Gone(_) => "gone",
        }
        .to_owned()
    }

    /// The channel is heard at the first server.
    async fn heard(&mut self) -> FakeLine {
        let subscribed = self.subscribe();
        let mut line = self.line(0).await;
        line.answer("+c", Ok(())).await;
        subscribed.await.unwrap().unwrap();
        line
    }
}

fn denied() -> Trouble {
    Trouble::Denied("NOPERM".into())
}

fn refused() -> ListenEvent {
    let why = Arc::from("NOPERM");
    ListenEvent::Refused {
        channel: CHANNEL,
        why,
    }
}

/// One who asks for a channel that the server has refused in the meantime is told what the server says to it.
#[tokio::test(start_paused = true)]
async fn a_channel_that_is_refused_is_asked_for_anew_by_who_comes() {
    let mut scene = Scene::new();
    let mut line = scene.heard().await;
    line.tell(refused());
    assert_eq!(scene.next().await, "refused");
    let again = scene.subscribe();
    let asked = timeout(TRY_EVERY, line.answer("+c", Err(denied())));
    asked.await.expect("the server is asked");
    assert!(matches!(again.await.unwrap(), Err(Trouble::Denied(_))));
    let again = scene.subscribe();
    let (_again, confirms) = line.asked().await;
    line.tell(ListenEvent::Admitted(CHANNEL));
    confirms(Ok(()));
    again.await.unwrap().unwrap();
    assert_eq!(scene.next().await, "admitted");
}

/// Where a channel lies by now, the user may have no right to it: it is told, and tried again.
#[tokio::test(start_paused = true)]
async fn a_channel_that_is_refused_where_it_has_moved_is_tried_again() {
    let mut scene = Scene::new();
    let _first = scene.heard().await;
    scene.two.at.send_replace(1);
    let mut second = scene.line(1).await;
    second.answer("+c", Err(denied())).await;
    let mut told = Vec::new();
    while told.last().is_none_or(|last| last != "live") {
        told.push(scene.next().await);
    }
    assert_eq!(told, ["lost", "refused", "live"]);
    for answer in [Err(denied()), Ok(())] {
        let tried = timeout(Duration::from_secs(60), second.answer("+c", answer));
        tried.await.expect("it is tried again");
    }
    assert_eq!(scene.next().await, "admitted");
}

/// A refusal ends where it was said: another server may hear the channel at once.
#[tokio::test(start_paused = true)]
async fn a_channel_that_was_refused_is_admitted_where_it_has_moved() {
    let mut scene = Scene::new();
    let first = scene.heard().await;
    first.tell(refused());
    assert_eq!(scene.next().await, "refused");
    scene.two.at.send_replace(1);
    let mut second = scene.line(1).await;
    second.answer("+c", Ok(())).await;
    let mut told: Vec<String> = Vec::new();
    while !["live", "admitted"]
        .iter()
        .all(|wanted| told.iter().any(|told| told == wanted))
    {
        told.push(scene.next().await);
    }
    assert_eq!(told.first().map(String::as_str), Some("lost"));
}
