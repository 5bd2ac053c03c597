//! The bus over a scripted backend, in virtual time.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use coordinator_core::trust::Trust;
use coordinator_core::{
    Backend, Capabilities, Clock, Cursor, Feed, FeedEvent, Frame, FrameKind, GapCause, Group,
    MemberId, Moment, async_trait,
};
use futures_util::future::join_all;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};

use super::*;
use crate::context::Parts;
use crate::tasks::{Tasks, TokioExecutor};

const NEWS: Topic<String> = Topic::new("news");

/// What the broker makes of one publish.
enum Reply {
    Accept,
    /// Delivers so many frames of the batch, and then fails so.
    Fail(usize, fn(Topic) -> BusError),
    /// Delivers the frames that pass, and says that all is well.
    Deliver(Box<dyn Fn(&Frame) -> bool + Send>),
    /// Never answers.
    Hang,
    /// Answers after so long.
    Slow(Duration),
    Panic,
}

type Script = Box<dyn FnMut(&[Frame]) -> Reply + Send>;

/// A broker with a script for what happens to each publish.
#[derive(Clone)]
struct Broker(Arc<Mutex<Inside>>);

struct Inside {
    script: Script,
    feeds: Vec<(BTreeSet<Topic>, mpsc::UnboundedSender<FeedEvent>)>,
    /// Every batch that was published, whatever came of it.
    batches: Vec<Vec<Frame>>,
    /// What a durable broker keeps.
    log: Vec<Frame>,
    capabilities: Capabilities,
    /// How subscribing fails now.
    unreachable: Option<fn(Topic) -> BusError>,
    starts: Vec<Start>,
}

impl Broker {
    fn new() -> Self {
        Self::with(Capabilities::new())
    }

    fn with(capabilities: Capabilities) -> Self {
        Self(Arc::new(Mutex::new(Inside {
            script: Box::new(|_| Reply::Accept),
            feeds: Vec::new(),
            batches: Vec::new(),
            log: Vec::new(),
            capabilities,
            unreachable: None,
            starts: Vec::new(),
        })))
    }

    fn script(&self, script: impl FnMut(&[Frame]) -> Reply + Send + 'static) {
        lock(&self.0).script = Box::new(script);
    }

    /// Fails so from now on.
    fn always(&self, delivered: usize, error: fn(Topic) -> BusError) {
        self.script(move |_| Reply::Fail(delivered, error));
    }

    fn heal(&self) {
        lock(&self.0).unreachable = None;
        self.script(|_| Reply::Accept);
    }

    /// Tells every feed something.
    fn tell(&self, event: &FeedEvent) {
        for (_, feed) in &lock(&self.0).feeds {
            feed.send(event.clone()).ok();
        }
    }

    /// Ends every feed.
    fn end_feeds(&self) {
        lock(&self.0).feeds.clear();
    }

    fn open_feeds(&self) -> usize {
        let mut inside = lock(&self.0);
        inside.feeds.retain(|(_, feed)| !feed.is_closed());
        inside.feeds.len()
    }

    fn batches(&self) -> Vec<Vec<Frame>> {
        lock(&self.0).batches.clone()
    }

    /// A node on this broker, of one group.
    fn node(&self, name: &str) -> Member {
        Member::start(self, "g", name)
    }
}

impl Inside {
    fn deliver(&mut self, frame: &Frame) {
        let cursor = self.capabilities.durable.then(|| {
            self.log.push(frame.clone());
            Cursor::new(self.log.len().to_string())
        });
        for (topics, feed) in &self.feeds {
            if topics.contains(&frame.topic) {
                let (frame, cursor) = (frame.clone(), cursor.clone());
                feed.send(FeedEvent::Frame { frame, cursor }).ok();
            }
        }
    }

    fn replay(&self, topics: &BTreeSet<Topic>, from: usize, to: &mpsc::UnboundedSender<FeedEvent>) {
        for (index, frame) in self.log.iter().enumerate().skip(from) {
            if topics.contains(&frame.topic) {
                let cursor = Some(Cursor::new((index + 1).to_string()));
                let frame = frame.clone();
                to.send(FeedEvent::Frame { frame, cursor }).ok();
            }
        }
    }
}

#[async_trait]
impl ClusterBus for Broker {
    async fn publish(&self, batch: &[Frame]) -> Result<(), BusError> {
        let reply = {
            let mut inside = lock(&self.0);
            inside.batches.push(batch.to_vec());
            (inside.script)(batch)
        };
        let (pass, answer): (Box<dyn Fn(usize, &Frame) -> bool + Send>, _) = match reply {
            Reply::Accept => (Box::new(|_, _| true), Ok(())),
            Reply::Deliver(pass) => (Box::new(move |_, frame| pass(frame)), Ok(())),
            Reply::Fail(count, error) => (
                Box::new(move |index, _| index < count),
                Err(error(batch[0].topic.clone())),
            ),
            Reply::Hang => std::future::pending().await,
            Reply::Slow(span) => {
                sleep(span).await;
                (Box::new(|_, _| true), Ok(()))
            }
            Reply::Panic => panic!("the broker's client is broken"),
        };
        let mut inside = lock(&self.0);
        for (index, frame) in batch.iter().enumerate() {
            if pass(index, frame) {
                inside.deliver(frame);
            }
        }
        answer
    }

    async fn subscribe(&self, topics: &[Topic], start: Start) -> Result<Box<dyn Feed>, BusError> {
        let mut inside = lock(&self.0);
        if let Some(error) = inside.unreachable {
            return Err(error(topics[0].clone()));
        }
        let (send, receive) = mpsc::unbounded_channel();
        let topics: BTreeSet<_> = topics.iter().cloned().collect();
        inside.starts.push(start.clone());
        match start {
            Start::Now => {}
            _ if !inside.capabilities.durable => start.must_be_now()?,
            Start::Oldest => inside.replay(&topics, 0, &send),
            Start::After(cursor) => {
                inside.replay(&topics, cursor.as_str().parse().unwrap(), &send);
            }
        }
        inside.feeds.push((topics, send));
        Ok(Box::new(BrokerFeed(receive)))
    }

    fn capabilities(&self) -> Capabilities {
        lock(&self.0).capabilities
    }
}

struct BrokerFeed(mpsc::UnboundedReceiver<FeedEvent>);

#[async_trait]
impl Feed for BrokerFeed {
    async fn next(&mut self) -> Option<FeedEvent> {
        self.0.recv().await
    }
}

struct VirtualClock(Instant);

impl Clock for VirtualClock {
    fn now(&self) -> Moment {
        Moment::ZERO + self.0.elapsed()
    }

    fn steady(&self) -> Moment {
        self.now()
    }

    fn wall_millis(&self) -> u64 {
        0
    }
}

/// A node's bus, without the rest of the node.
struct Member {
    context: Arc<Context>,
    hub: Hub,
    bus: Bus,
}

impl Member {
    fn start(broker: &Broker, group: &str, name: &str) -> Self {
        let bits = name
            .bytes()
            .fold(7, |bits, byte| bits * 31 + u64::from(byte));
        let context = Arc::new(Context::new(Parts {
            group: Group::from(group),
            me: Some(MemberId::from(name)),
            backend: Backend::from_bus(broker.clone()),
            clock: Arc::new(VirtualClock(Instant::now())),
            tasks: Tasks::new(Arc::new(TokioExecutor::current())),
            trust: Trust::new(Duration::from_secs(10)).unwrap(),
            drain_timeout: Duration::from_secs(10),
            required: Vec::new(),
            random: StdRng::seed_from_u64(bits),
        }));
        let hub = Hub::start(&context).unwrap();
        let bus = hub.bus();
        Self { context, hub, bus }
    }

    async fn publish(&self, text: &str) {
        self.bus.publish(&NEWS, &text.to_owned()).await.unwrap();
    }

    async fn subscribe(&self) -> Subscription<String> {
        let subscription = self.bus.subscribe(&NEWS).await.unwrap();
        // In virtual time nothing takes time: a stream that begins at the very moment in which we
        // are live would be one whose start we saw.
        sleep(Duration::from_millis(1)).await;
        subscription
    }
}

fn unavailable(topic: Topic) -> BusError {
    BusError::unavailable("publish", topic, "cut off")
}

fn indeterminate(topic: Topic) -> BusError {
    BusError::indeterminate("publish", topic, "no answer")
}

fn rejected(topic: Topic) -> BusError {
    BusError::rejected("publish", topic, "no permission")
}

/// What a subscriber is told, in short.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Told {
    Text(String),
    Gap(GapCause, Option<u64>),
    Malformed,
}

fn text(text: &str) -> Told {
    Told::Text(text.to_owned())
}

fn short(incoming: Incoming<String>) -> Told {
    match incoming {
        Incoming::Message(message) => Told::Text(message.payload),
        Incoming::Gap(gap) => Told::Gap(gap.cause, gap.missing),
        Incoming::Malformed(_) => Told::Malformed,
    }
}

async fn next(subscription: &mut Subscription<String>) -> Told {
    let incoming = timeout(Duration::from_mins(1), subscription.next()).await;
    short(
        incoming
            .expect("something arrives within a minute")
            .expect("the bus is open"),
    )
}

/// Everything that arrives within so long.
async fn within(span: Duration, subscription: &mut Subscription<String>) -> Vec<Told> {
    let end = Instant::now() + span;
    let mut told = Vec::new();
    while let Ok(Some(incoming)) = tokio::time::timeout_at(end, subscription.next()).await {
        told.push(short(incoming));
    }
    told
}

async fn nothing_more(subscription: &mut Subscription<String>) {
    assert_eq!(within(Duration::from_secs(10), subscription).await, []);
}

/// B1, B2, B17.
#[tokio::test(start_paused = true)]
async fn every_subscriber_gets_a_message_and_ones_own_unless_it_wants_only_others() {
    let broker = Broker::new();
    let (a, b) = (broker.node("a"), broker.node("b"));
    let mut own = a.subscribe().await;
    let mut second = a.subscribe().await;
    let mut others = a.bus.subscribe(&NEWS).others_only().await.unwrap();
    let mut far = b.subscribe().await;
    a.publish("hello").await;
    b.publish("world").await;
    for subscription in [&mut own, &mut second, &mut far] {
        assert_eq!(next(subscription).await, text("hello"));
        assert_eq!(next(subscription).await, text("world"));
    }
    assert_eq!(next(&mut others).await, text("world"));
    nothing_more(&mut others).await;
}

#[tokio::test(start_paused = true)]
async fn a_message_says_where_it_comes_from() {
    let broker = Broker::new();
    let (a, b) = (broker.node("a"), broker.node("b"));
    let mut inbox = b.subscribe().await;
    a.publish("x").await;
    let Some(Incoming::Message(message)) = inbox.next().await else {
        panic!("a message arrives");
    };
    assert_eq!(message.topic, NEWS);
    assert_eq!(message.origin, MemberId::from("a"));
    assert_eq!(message.cursor, None);
}

/// Topics belong to a group.
#[tokio::test(start_paused = true)]
async fn another_groups_topic_of_the_same_name_is_another_topic() {
    let broker = Broker::new();
    let (ours, theirs) = (broker.node("a"), Member::start(&broker, "other", "b"));
    let mut inbox = ours.subscribe().await;
    theirs.publish("secret").await;
    ours.publish("ours").await;
    assert_eq!(next(&mut inbox).await, text("ours"));
    nothing_more(&mut inbox).await;
    let wire = broker.batches()[0][0].topic.to_string();
    assert_eq!(wire, "other/topic/news");
}

/// B3: and the backend's subscription ends with the last one.
#[tokio::test(start_paused = true)]
async fn a_dropped_subscription_gets_nothing_and_the_last_one_unsubscribes() {
    let broker = Broker::new();
    let a = broker.node("a");
    let first = a.subscribe().await;
    let mut second = a.subscribe().await;
    assert_eq!(broker.open_feeds(), 1, "one feed for all");
    drop(first);
    a.publish("x").await;
    assert_eq!(next(&mut second).await, text("x"));
    assert_eq!(broker.open_feeds(), 1);
    drop(second);
    sleep(Duration::from_millis(1)).await;
    assert_eq!(broker.open_feeds(), 0);
    let mut again = a.subscribe().await;
    a.publish("y").await;
    assert_eq!(next(&mut again).await, text("y"));
}

/// B16: no poll, no window: a message waits for nothing when the bus is idle.
#[tokio::test(start_paused = true)]
async fn an_idle_bus_sends_at_once() {
    let broker = Broker::new();
    let a = broker.node("a");
    let mut inbox = a.subscribe().await;
    let began = Instant::now();
    a.publish("x").await;
    assert_eq!(next(&mut inbox).await, text("x"));
    assert_eq!(began.elapsed(), Duration::ZERO);
}

/// B16: 2,000 rapid messages; and what is queued while a batch is in flight leaves together.
#[tokio::test(start_paused = true)]
async fn messages_that_wait_leave_together_and_in_order() {
    let broker = Broker::new();
    broker.script(|_| Reply::Slow(Duration::from_millis(10)));
    let a = broker.node("a");
    let mut inbox = a.bus.subscribe(&NEWS).capacity(2_000).await.unwrap();
    sleep(Duration::from_millis(1)).await;
    let publish = |number: usize| a.bus.publish(&NEWS, &number.to_string());
    let sent = join_all((0..2_000).map(publish)).await;
    assert!(sent.iter().all(Result::is_ok));
    for number in 0..2_000 {
        assert_eq!(next(&mut inbox).await, text(&number.to_string()));
    }
    assert!(broker.batches().len() <= 3, "{}", broker.batches().len());
}

/// API: the message leaves although nobody waits.
#[tokio::test(start_paused = true)]
async fn a_publish_whose_future_is_dropped_is_sent_in_the_background() {
    let broker = Broker::new();
    let a = broker.node("a");
    let mut inbox = a.subscribe().await;
    drop(a.bus.publish(&NEWS, &"x".to_owned()));
    assert_eq!(next(&mut inbox).await, text("x"));
}

/// U2: same sequences, before anything newer, and no repetition at the subscriber.
#[tokio::test(start_paused = true)]
async fn an_unknown_outcome_is_sent_again_under_the_same_numbers_and_arrives_once() {
    let broker = Broker::new();
    let a = broker.node("a");
    let mut inbox = a.subscribe().await;
    let mut calls = 0;
    broker.script(move |_| {
        calls += 1;
        match calls {
            1 => Reply::Fail(1, indeterminate),
            2 => Reply::Fail(0, unavailable),
            _ => Reply::Accept,
        }
    });
    let first = a.bus.publish(&NEWS, &"first".to_owned());
    let second = a.bus.publish(&NEWS, &"second".to_owned());
    let (first, second) = tokio::join!(first, second);
    first.unwrap();
    second.unwrap();
    a.publish("third").await;
    for word in ["first", "second", "third"] {
        assert_eq!(next(&mut inbox).await, text(word));
    }
    nothing_more(&mut inbox).await;
    let batches = broker.batches();
    assert_eq!(batches[0], batches[1]);
    assert_eq!(batches[0], batches[2]);
}

/// U2, U3: then the publisher is told, and the subscribers too.
#[tokio::test(start_paused = true)]
async fn an_outcome_that_stays_unknown_is_told_to_the_publisher_and_the_gap_to_subscribers() {
    let broker = Broker::new();
    let a = broker.node("a");
    let mut inbox = a.subscribe().await;
    a.publish("before").await;
    broker.always(0, indeterminate);
    let began = Instant::now();
    let error = a.bus.publish(&NEWS, &"lost".to_owned()).await.unwrap_err();
    assert!(matches!(error, BusError::Indeterminate { .. }), "{error}");
    assert!(began.elapsed() <= Duration::from_secs(5));
    broker.heal();
    assert_eq!(next(&mut inbox).await, text("before"));
    assert_eq!(next(&mut inbox).await, Told::Gap(GapCause::Lost, Some(1)));
    assert!(
        began.elapsed() <= Duration::from_secs(7),
        "a beacon tells soon"
    );
}

/// E16: what waited through an outage for longer than its publisher does is not sent.
#[tokio::test(start_paused = true)]
async fn nothing_old_is_sent_as_new_after_an_outage() {
    let broker = Broker::new();
    let a = broker.node("a");
    let mut inbox = a.subscribe().await;
    broker.always(0, unavailable);
    let began = Instant::now();
    let claim = a.bus.publish(&NEWS, &"I lead".to_owned());
    sleep(Duration::from_millis(1)).await;
    let late = a.bus.publish(&NEWS, &"I still lead".to_owned());
    let (claim, late) = tokio::join!(claim, late);
    assert!(matches!(claim, Err(BusError::Unavailable { .. })));
    assert!(matches!(late, Err(BusError::Unavailable { .. })));
    assert!(began.elapsed() <= Duration::from_secs(11));
    sleep(Duration::from_secs(30)).await;
    broker.heal();
    a.publish("new").await;
    let told = within(Duration::from_secs(20), &mut inbox).await;
    let texts: Vec<_> = told
        .iter()
        .filter(|told| matches!(told, Told::Text(_)))
        .collect();
    assert_eq!(texts, [&text("new")]);
}

/// E16, U8: behind two batches that fail, a third has waited too long.
#[tokio::test(start_paused = true)]
async fn a_message_that_waited_too_long_behind_others_is_never_sent() {
    const MIB: usize = 1024 * 1024;
    let broker = Broker::new();
    broker.always(0, unavailable);
    let a = broker.node("a");
    let topic: Topic = Topic::new("big");
    let publish = |tag: u8| a.bus.publish(&topic, &Bytes::from(vec![tag; MIB]));
    let (first, second, third) = tokio::join!(publish(1), publish(2), publish(3));
    for outcome in [first, second, third] {
        assert!(matches!(outcome, Err(BusError::Unavailable { .. })));
    }
    let mut tags: Vec<_> = broker.batches().into_iter().flatten().collect();
    tags.retain(|frame| frame.kind == FrameKind::Message);
    let tags: BTreeSet<_> = tags.iter().map(|frame| frame.payload[0]).collect();
    assert_eq!(tags, BTreeSet::from([1, 2]));
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_hangs_or_panics_has_an_unknown_outcome_and_the_bus_goes_on() {
    for broken in [|| Reply::Hang, || Reply::Panic] {
        let broker = Broker::new();
        let a = broker.node("a");
        broker.script(move |_| broken());
        let error = a.bus.publish(&NEWS, &"x".to_owned()).await.unwrap_err();
        assert!(matches!(error, BusError::Indeterminate { .. }), "{error}");
        broker.heal();
        a.publish("y").await;
    }
}

/// B13, B5: fails at once, consumes no number, and hurts nobody.
#[tokio::test(start_paused = true)]
async fn an_oversized_payload_is_rejected_with_both_sizes_and_is_harmless() {
    let broker = Broker::with(Capabilities::new().payload_limit(8));
    let a = broker.node("a");
    let mut inbox = a.subscribe().await;
    a.publish("12345678").await;
    // Counted in bytes, not in characters.
    for (payload, given) in [("123456789", 9), ("ééééé", 10)] {
        let error = a.bus.publish(&NEWS, &payload.to_owned()).await.unwrap_err();
        let BusError::Rejected { source, .. } = error else {
            panic!("rejected: {error}");
        };
        let expected = PayloadTooLarge { given, allowed: 8 };
        assert_eq!(source.downcast_ref(), Some(&expected));
    }
    a.publish("éééé").await;
    assert_eq!(next(&mut inbox).await, text("12345678"));
    assert_eq!(next(&mut inbox).await, text("éééé"));
    nothing_more(&mut inbox).await;
}

/// B13: the backend refuses one message of a batch.
#[tokio::test(start_paused = true)]
async fn a_refused_message_does_not_take_its_batch_with_it() {
    let broker = Broker::new();
    let a = broker.node("a");
    let mut inbox = a.subscribe().await;
    broker.script(|batch| {
        let bad = batch.iter().position(|frame| &frame.payload[..] == b"bad");
        bad.map_or(Reply::Accept, |at| Reply::Fail(at, rejected))
    });
    let publish = |word: &str| a.bus.publish(&NEWS, &word.to_owned());
    let (first, bad, last) = tokio::join!(publish("first"), publish("bad"), publish("last"));
    first.unwrap();
    assert!(matches!(bad, Err(BusError::Rejected { .. })));
    last.unwrap();
    assert_eq!(next(&mut inbox).await, text("first"));
    assert_eq!(next(&mut inbox).await, Told::Gap(GapCause::Lost, Some(1)));
    assert_eq!(next(&mut inbox).await, text("last"));
    // Alone, with nothing behind it, it has used no number, and nobody misses it.
    publish("bad").await.unwrap_err();
    publish("next").await.unwrap();
    publish("bad").await.unwrap_err();
    assert_eq!(next(&mut inbox).await, text("next"));
    nothing_more(&mut inbox).await;
}

/// U8: a publish waits for room for so long, and no longer.
#[tokio::test(start_paused = true)]
async fn a_full_publish_queue_makes_publishers_wait_and_then_say_unavailable() {
    const MIB: usize = 1024 * 1024;
    let broker = Broker::new();
    broker.script(|_| Reply::Hang);
    let a = broker.node("a");
    let topic: Topic = Topic::new("big");
    let publish = |size| a.bus.publish(&topic, &Bytes::from(vec![0; size]));
    let waiting: Vec<_> = (0..15).map(|_| publish(MIB)).collect();
    let began = Instant::now();
    let error = publish(8 * MIB).await.unwrap_err();
    assert!(matches!(error, BusError::Unavailable { .. }), "{error}");
    assert_eq!(began.elapsed(), QUEUE_PATIENCE);
    broker.heal();
    // Those that waited in the queue for as long are told so, and it moves again.
    drop(waiting);
    sleep(Duration::from_secs(10)).await;
    a.publish("x").await;
}

const QUEUE_PATIENCE: Duration = Duration::from_secs(5);

/// U3: a lost tail is seen by the beacon, half a second later.
#[tokio::test(start_paused = true)]
async fn a_lost_tail_is_reported_by_the_beacon() {
    let broker = Broker::new();
    let (a, b) = (broker.node("a"), broker.node("b"));
    let mut inbox = b.subscribe().await;
    a.publish("first").await;
    broker.script(|_| Reply::Deliver(Box::new(|frame| frame.kind == FrameKind::Beacon)));
    a.publish("lost").await;
    a.publish("lost too").await;
    let began = Instant::now();
    assert_eq!(next(&mut inbox).await, text("first"));
    assert_eq!(next(&mut inbox).await, Told::Gap(GapCause::Lost, Some(2)));
    assert_eq!(began.elapsed(), Duration::from_millis(500));
}

/// U3: a node that ends cannot be asked later.
#[tokio::test(start_paused = true)]
async fn a_tail_lost_just_before_a_shutdown_is_reported() {
    let broker = Broker::new();
    let (a, b) = (broker.node("a"), broker.node("b"));
    let mut inbox = b.subscribe().await;
    broker.script(|_| Reply::Deliver(Box::new(|frame| frame.kind == FrameKind::Beacon)));
    a.publish("lost").await;
    a.hub.close().await;
    assert_eq!(next(&mut inbox).await, Told::Gap(GapCause::Lost, Some(1)));
}

/// U4, B9.
#[tokio::test(start_paused = true)]
async fn a_reconnect_is_a_gap_of_unknown_size_and_what_is_known_to_be_missing_is_counted() {
    let broker = Broker::new();
    let (a, b) = (broker.node("a"), broker.node("b"));
    let mut inbox = b.subscribe().await;
    a.publish("first").await;
    assert_eq!(next(&mut inbox).await, text("first"));
    broker.tell(&FeedEvent::Disconnected);
    broker.script(|_| Reply::Deliver(Box::new(|_| false)));
    a.publish("in the cut").await;
    // B9: one that subscribes meanwhile is live once it has subscribed.
    let late = b.bus.clone();
    let late = tokio::spawn(async move { late.subscribe(&NEWS).await.unwrap() });
    sleep(Duration::from_millis(100)).await;
    assert!(!late.is_finished(), "not live, so not subscribed");
    broker.heal();
    broker.tell(&FeedEvent::Connected);
    let mut late = late.await.unwrap();
    a.publish("second").await;
    let unknown = Told::Gap(GapCause::Disconnected, None);
    let counted = Told::Gap(GapCause::Disconnected, Some(1));
    assert_eq!(next(&mut inbox).await, unknown);
    assert_eq!(next(&mut inbox).await, counted);
    assert_eq!(next(&mut inbox).await, text("second"));
    assert_eq!(next(&mut late).await, counted);
    assert_eq!(next(&mut late).await, text("second"));
}

/// B13: 100 reconnects leak nothing and repeat nothing.
#[tokio::test(start_paused = true)]
async fn a_feed_that_ends_is_opened_again_with_a_gap_a_hundred_times() {
    let broker = Broker::new();
    let (a, b) = (broker.node("a"), broker.node("b"));
    let mut inbox = b.subscribe().await;
    for round in 0..100 {
        broker.end_feeds();
        assert_eq!(
            next(&mut inbox).await,
            Told::Gap(GapCause::Disconnected, None)
        );
        sleep(Duration::from_millis(1)).await;
        a.publish(&round.to_string()).await;
        assert_eq!(next(&mut inbox).await, text(&round.to_string()));
        assert_eq!(broker.open_feeds(), 1);
    }
    nothing_more(&mut inbox).await;
}

#[tokio::test(start_paused = true)]
async fn subscribing_waits_for_an_outage_to_end_and_then_says_unavailable() {
    let broker = Broker::new();
    let a = broker.node("a");
    lock(&broker.0).unreachable = Some(unavailable);
    let began = Instant::now();
    let error = a.bus.subscribe(&NEWS).await.unwrap_err();
    assert!(matches!(error, BusError::Unavailable { .. }), "{error}");
    assert_eq!(began.elapsed(), Duration::from_secs(5));
    let patient = a.bus.clone();
    let patient = tokio::spawn(async move { patient.subscribe(&NEWS).await });
    sleep(Duration::from_secs(1)).await;
    broker.heal();
    let mut inbox = patient.await.unwrap().unwrap();
    sleep(Duration::from_millis(1)).await;
    a.publish("x").await;
    assert_eq!(next(&mut inbox).await, text("x"));
}

#[tokio::test(start_paused = true)]
async fn a_subscription_that_is_refused_says_so_at_once_and_a_later_one_is_tried_anew() {
    let broker = Broker::new();
    let a = broker.node("a");
    lock(&broker.0).unreachable = Some(rejected);
    let error = a.bus.subscribe(&NEWS).await.unwrap_err();
    assert!(matches!(error, BusError::Rejected { .. }), "{error}");
    broker.heal();
    let mut inbox = a.subscribe().await;
    a.publish("x").await;
    assert_eq!(next(&mut inbox).await, text("x"));
    let past = a.bus.subscribe(&NEWS).start(Start::Oldest).await;
    assert!(
        matches!(past, Err(BusError::Rejected { .. })),
        "keeps nothing"
    );
}

/// B11, U8: the slow one is told the exact number; the quick one gets all.
#[tokio::test(start_paused = true)]
async fn a_slow_subscriber_is_told_how_many_it_missed_and_hurts_nobody() {
    let broker = Broker::new();
    let a = broker.node("a");
    let mut slow = a.bus.subscribe(&NEWS).capacity(10).await.unwrap();
    let mut quick = a.subscribe().await;
    for number in 0..25 {
        a.publish(&number.to_string()).await;
        assert_eq!(next(&mut quick).await, text(&number.to_string()));
    }
    for number in 0..10 {
        assert_eq!(next(&mut slow).await, text(&number.to_string()));
    }
    assert_eq!(next(&mut slow).await, Told::Gap(GapCause::Slow, Some(15)));
    a.publish("on").await;
    assert_eq!(next(&mut slow).await, text("on"));
}

/// A payload whose decoder fails, or panics.
#[derive(Debug)]
struct Picky(String);

impl Payload for Picky {
    fn encode(&self) -> Result<Bytes, BoxError> {
        self.0.encode()
    }

    fn decode(bytes: Bytes) -> Result<Self, BoxError> {
        match String::decode(bytes)?.as_str() {
            "bad" => Err("cannot be read".into()),
            "worse" => panic!("the decoder is broken"),
            word => Ok(Self(word.to_owned())),
        }
    }
}

/// B11.
#[tokio::test(start_paused = true)]
async fn a_bad_payload_or_a_panicking_decoder_hurts_only_its_subscriber() {
    const PICKY: Topic<Picky> = Topic::new("news");
    let broker = Broker::new();
    let a = broker.node("a");
    let mut picky = a.bus.subscribe(&PICKY).await.unwrap();
    let mut inbox = a.subscribe().await;
    for word in ["bad", "worse", "good"] {
        a.publish(word).await;
    }
    let Some(Incoming::Malformed(malformed)) = picky.next().await else {
        panic!("the bad one is reported");
    };
    assert_eq!(malformed.origin, Some(MemberId::from("a")));
    assert_eq!(&malformed.bytes[..], b"bad");
    assert_eq!(malformed.error.to_string(), "cannot be read");
    let panicked = tokio::spawn(async move {
        let caught =
            futures_util::FutureExt::catch_unwind(std::panic::AssertUnwindSafe(picky.next()));
        assert!(caught.await.is_err());
        picky.next().await
    });
    let Ok(Some(Incoming::Message(message))) = panicked.await else {
        panic!("the next one arrives");
    };
    assert_eq!(message.payload.0, "good");
    for word in ["bad", "worse", "good"] {
        assert_eq!(next(&mut inbox).await, text(word));
    }
}

#[tokio::test(start_paused = true)]
async fn rubbish_from_the_broker_is_reported_and_the_feed_goes_on() {
    let broker = Broker::new();
    let a = broker.node("a");
    let mut inbox = a.subscribe().await;
    broker.tell(&FeedEvent::from_bytes(Bytes::from_static(b"rubbish")));
    a.publish("x").await;
    assert_eq!(next(&mut inbox).await, Told::Malformed);
    assert_eq!(next(&mut inbox).await, text("x"));
}

/// B4, B10.
#[tokio::test(start_paused = true)]
async fn odd_payloads_and_odd_topics_arrive_as_they_were() {
    let broker = Broker::new();
    let a = broker.node("a");
    let long = "é".repeat(256);
    for name in [
        " ",
        "a/b/../c",
        "\0",
        "émoji 🦀",
        "'; drop table x; --",
        &long,
    ] {
        let topic: Topic = Topic::named(name);
        let mut inbox = a.bus.subscribe(&topic).await.unwrap();
        let large = vec![0; 70_000];
        for payload in [&b""[..], b"\0", b"\xFF\xFE", &large] {
            let payload = Bytes::copy_from_slice(payload);
            a.bus.publish(&topic, &payload).await.unwrap();
            let Some(Incoming::Message(message)) = inbox.next().await else {
                panic!("a message arrives");
            };
            assert_eq!(message.payload, payload);
            assert_eq!(message.topic.name(), name);
        }
    }
}

/// B10: a name that no store takes is refused with what is allowed.
#[tokio::test(start_paused = true)]
async fn an_empty_or_over_long_topic_is_rejected() {
    let broker = Broker::new();
    let a = broker.node("a");
    for name in [String::new(), "x".repeat(513)] {
        let topic: Topic = Topic::named(name);
        let published = a.bus.publish(&topic, &Bytes::new()).await;
        assert!(matches!(published, Err(BusError::Rejected { .. })));
        let subscribed = a.bus.subscribe(&topic).await;
        assert!(matches!(subscribed, Err(BusError::Rejected { .. })));
    }
    assert_eq!(broker.batches().len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_node_without_a_bus_says_which_part_is_missing() {
    let bus = Bus::missing();
    let error = bus.publish(&NEWS, &"x".to_owned()).await.unwrap_err();
    let BusError::Rejected { source, .. } = error else {
        panic!("rejected: {error}");
    };
    assert!(
        source.to_string().contains("the backend's `bus`"),
        "{source}"
    );
    let error = bus.subscribe(&NEWS).await.unwrap_err();
    assert!(matches!(error, BusError::Rejected { .. }), "{error}");
}

/// H17: what is queued leaves first; then every subscription yields `None`, not even what waited.
#[tokio::test(start_paused = true)]
async fn a_closed_bus_sends_what_is_queued_and_delivers_nothing_more() {
    let broker = Broker::new();
    broker.script(|_| Reply::Slow(Duration::from_millis(100)));
    let (a, b) = (broker.node("a"), broker.node("b"));
    let mut far = b.subscribe().await;
    let mut own = a.subscribe().await;
    let mut held = a.subscribe().await;
    let publish = |number: usize| a.bus.publish(&NEWS, &number.to_string());
    let sent: Vec<_> = (0..1_500).map(publish).collect();
    sleep(Duration::from_millis(150)).await;
    assert_eq!(
        next(&mut held).await,
        text("0"),
        "the rest of the chunk is at hand"
    );
    a.hub.close().await;
    assert!(own.next().await.is_none());
    assert!(held.next().await.is_none());
    assert!(join_all(sent).await.iter().all(Result::is_ok));
    assert_eq!(next(&mut far).await, text("0"));
    let error = a.bus.publish(&NEWS, &"late".to_owned()).await.unwrap_err();
    assert!(matches!(error, BusError::Rejected { .. }), "{error}");
    let error = a.bus.subscribe(&NEWS).await.unwrap_err();
    assert!(matches!(error, BusError::Rejected { .. }), "{error}");
    a.hub.close().await;
    a.context.stopping.cancel();
    a.context.tasks.idle().await;
}

/// BOUNDED: a broker that does not answer holds up no shutdown.
#[tokio::test(start_paused = true)]
async fn closing_is_bounded_and_those_who_wait_are_told() {
    let broker = Broker::new();
    broker.script(|_| Reply::Hang);
    let a = broker.node("a");
    let waiting = a.bus.publish(&NEWS, &"x".to_owned());
    let mut inbox = a.subscribe().await;
    let began = Instant::now();
    a.hub.close().await;
    assert!(began.elapsed() <= Duration::from_secs(6));
    assert!(matches!(waiting.await, Err(BusError::Indeterminate { .. })));
    assert!(inbox.next().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn next_is_cancel_safe() {
    let broker = Broker::new();
    let a = broker.node("a");
    let mut inbox = a.subscribe().await;
    for number in 0..20 {
        assert!(
            timeout(Duration::from_millis(1), inbox.next())
                .await
                .is_err()
        );
        a.publish(&number.to_string()).await;
        assert_eq!(next(&mut inbox).await, text(&number.to_string()));
    }
}

/// B12's other half, U10, U11: from the oldest, then from a cursor; nothing is dropped for slowness.
#[tokio::test(start_paused = true)]
async fn a_durable_subscription_replays_from_its_start_and_stops_reading_when_it_is_full() {
    let broker = Broker::with(Capabilities::new().durable());
    let a = broker.node("a");
    for number in 0..500 {
        a.publish(&number.to_string()).await;
    }
    let all = a.bus.subscribe(&NEWS).start(Start::Oldest).capacity(8);
    let mut all = all.await.unwrap();
    sleep(Duration::from_secs(10)).await;
    let mut cursor = None;
    for number in 0..500 {
        let Some(Incoming::Message(message)) = all.next().await else {
            panic!("every message arrives");
        };
        assert_eq!(message.payload, number.to_string());
        if number == 249 {
            cursor = message.cursor;
        }
    }
    let rest = a.bus.subscribe(&NEWS).start(Start::After(cursor.unwrap()));
    let mut rest = rest.await.unwrap();
    assert_eq!(next(&mut rest).await, text("250"));
    let kinds = broker
        .batches()
        .into_iter()
        .flatten()
        .map(|frame| frame.kind);
    assert!(
        kinds.into_iter().all(|kind| kind == FrameKind::Message),
        "no beacons (U11)"
    );
}

/// U8: nor for size.
#[tokio::test(start_paused = true)]
async fn a_durable_subscription_drops_nothing_however_large() {
    const MIB: usize = 1024 * 1024;
    let broker = Broker::with(Capabilities::new().durable());
    let a = broker.node("a");
    let topic: Topic = Topic::new("big");
    for number in 0..30 {
        // The queue is not filled exactly by a whole number of them.
        let payload = Bytes::from(vec![number; 3 * MIB / 2]);
        a.bus.publish(&topic, &payload).await.unwrap();
    }
    let mut all = a.bus.subscribe(&topic).start(Start::Oldest).await.unwrap();
    sleep(Duration::from_secs(1)).await;
    for number in 0..30 {
        let Some(Incoming::Message(message)) = all.next().await else {
            panic!("every message arrives");
        };
        assert_eq!(message.payload.first(), Some(&number));
    }
}

/// U10: a durable feed that ends goes on behind its last cursor, without a gap.
#[tokio::test(start_paused = true)]
async fn a_durable_feed_that_ends_goes_on_where_it_was() {
    let broker = Broker::with(Capabilities::new().durable());
    let a = broker.node("a");
    let mut past = a.bus.subscribe(&NEWS).start(Start::Oldest).await.unwrap();
    let mut live = a.subscribe().await;
    a.publish("first").await;
    assert_eq!(next(&mut past).await, text("first"));
    assert_eq!(next(&mut live).await, text("first"));
    broker.end_feeds();
    a.publish("second").await;
    for inbox in [&mut past, &mut live] {
        assert_eq!(next(inbox).await, text("second"));
        nothing_more(inbox).await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_nodes_own_messages_travel_on_topics_named_in_full() {
    let broker = Broker::new();
    let (a, b) = (broker.node("a"), broker.node("b"));
    let topic = Topic::named("g/control/transfer");
    let mut inbox = b.bus.subscribe_raw(&topic).await.unwrap();
    a.bus
        .publish_raw(&topic, Bytes::from_static(b"x"))
        .await
        .unwrap();
    assert!(matches!(inbox.next().await, Some(Incoming::Message(_))));
    assert_eq!(broker.batches()[0][0].topic, topic);
}

/// NO-SILENT-LOSS, between two nodes over a bus that loses a quarter of everything, by seed.
#[tokio::test(start_paused = true)]
async fn every_loss_is_reported_with_its_size() {
    for seed in 0..60 {
        let broker = Broker::new();
        let (a, b) = (broker.node("a"), broker.node("b"));
        let mut inbox = b.bus.subscribe(&NEWS).capacity(10_000).await.unwrap();
        sleep(Duration::from_millis(1)).await;
        let mut random = StdRng::seed_from_u64(seed);
        let lost = Arc::new(AtomicUsize::new(0));
        let counter = lost.clone();
        broker.script(move |batch| {
            let lose: Vec<_> = batch.iter().map(|_| random.random_ratio(1, 4)).collect();
            let messages = batch.iter().zip(&lose);
            let losses =
                messages.filter(|(frame, lost)| **lost && frame.kind == FrameKind::Message);
            counter.fetch_add(losses.count(), Ordering::Relaxed);
            let pass: BTreeSet<_> = batch
                .iter()
                .zip(lose)
                .filter(|(_, lost)| !lost)
                .map(|(frame, _)| (frame.kind == FrameKind::Beacon, frame.sequence))
                .collect();
            Reply::Deliver(Box::new(move |frame| {
                pass.contains(&(frame.kind == FrameKind::Beacon, frame.sequence))
            }))
        });
        for number in 0..200 {
            drop(a.bus.publish(&NEWS, &number.to_string()));
            if number % 7 == 0 {
                sleep(Duration::from_millis(3)).await;
            }
        }
        sleep(Duration::from_millis(1)).await;
        broker.heal();
        let (mut expected, mut missing) = (0, 0);
        for told in within(Duration::from_secs(6), &mut inbox).await {
            match told {
                Told::Text(text) => {
                    assert_eq!(
                        text,
                        expected.to_string(),
                        "seed {seed}: in order, or a gap before"
                    );
                    expected += 1;
                }
                Told::Gap(GapCause::Lost, Some(count)) => {
                    expected += count;
                    missing += count;
                }
                other => panic!("seed {seed}: {other:?}"),
            }
        }
        assert_eq!(expected, 200, "seed {seed}: the tail too");
        assert_eq!(missing, lost.load(Ordering::Relaxed) as u64, "seed {seed}");
    }
}
