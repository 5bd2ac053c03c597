use coordinator_core::FeedEvent;

use super::*;
use crate::bus::router::{Router, Seat};
use crate::client::PubSub;
use crate::client::fake::{Fake, FakeLine};

const HEARD: Bytes = Bytes::from_static(b"heard");
const NEW: Bytes = Bytes::from_static(b"new");
const SLOW: Bytes = Bytes::from_static(b"slow");

/// One who listens to a server that has answered nothing but to its own channel.
async fn open() -> (Arc<Ear>, FakeLine, Arc<Router>) {
    let (client, mut lines) = Fake::new();
    let names = Names::new("ns").unwrap();
    let router = Router::new(Box::new(|_, _| {}));
    let hears = router.clone();
    let opened = tokio::spawn(async move {
        let how = PubSub::Plain.always();
        Ear::open(client, &names, how, hears).await.unwrap()
    });
    let mut line = lines.recv().await.unwrap();
    let (_own, reply) = line.asked().await;
    reply(Ok(()));
    (Arc::new(opened.await.unwrap()), line, router)
}

type Subscribed = tokio::task::JoinHandle<Result<(Seat, Hearing), Trouble>>;

/// Subscribes to these, as a feed does.
fn subscribe(ear: &Arc<Ear>, router: &Arc<Router>, channels: &[Bytes]) -> Subscribed {
    let channels: BTreeSet<Bytes> = channels.iter().cloned().collect();
    let seat = Seat::new(router.clone(), channels.clone());
    let queue = Arc::downgrade(seat.queue());
    let (ear, router) = (ear.clone(), router.clone());
    tokio::spawn(async move {
        let then = Box::new(move || router.add(&queue));
        let hearing = ear.listen(channels, then).await?;
        Ok((seat, hearing))
    })
}

fn refused(channel: Bytes) -> ListenEvent {
    let why = Arc::from("NOPERM");
    ListenEvent::Refused { channel, why }
}

/// U17: a channel that others hear is not asked for anew; but it may be refused until the subscription begins.
#[tokio::test]
async fn one_who_comes_while_a_channel_is_refused_is_told() {
    let (ear, mut line, router) = open().await;
    let first = subscribe(&ear, &router, &[HEARD]);
    line.answer("+heard", Ok(())).await;
    let (first, _hears) = first.await.unwrap().unwrap();
    assert_eq!(first.queue().pop(), None);

    let slow = subscribe(&ear, &router, &[SLOW]);
    let (_slow, fails) = line.asked().await;
    let second = subscribe(&ear, &router, &[HEARD, NEW]);
    tokio::task::yield_now().await;
    line.tell(ListenEvent::Lost("cut".into()));
    fails(Err(Trouble::unavailable("cut")));
    assert!(slow.await.unwrap().is_err());
    let (_new, confirms) = line.asked().await;
    line.tell(refused(HEARD));
    line.tell(ListenEvent::Live);
    confirms(Ok(()));
    let (second, _hears) = second.await.unwrap().unwrap();
    assert_eq!(first.queue().pop(), Some(FeedEvent::Disconnected));
    assert_eq!(second.queue().pop(), Some(FeedEvent::Disconnected));
    assert_eq!(second.queue().pop(), None);
    line.tell(ListenEvent::Admitted(HEARD));
    for seat in [first, second] {
        let told = loop {
            match seat.queue().pop() {
                Some(told) => break told,
                None => seat.queue().arrived().await,
            }
        };
        assert_eq!(told, FeedEvent::Connected);
    }
}
