//! The reference backend of Coordinator, in memory: all five parts, for any number of members in
//! one process, with time and faults in the caller's hands.
//!
//! It is what the other backends are measured by, and what tests run on: Coordinator's own, and
//! yours. A test of code that elects a leader, locks, or owns shards needs no server, waits for no
//! real second, and can show the code what it will meet: a leader that is cut off, a process that
//! is frozen past its lease, a store that comes back empty.
//!
//! # A first test
//!
//! A [`MemoryStore`] is the store, [`connect`](MemoryStore::connect) gives one member's
//! [`Backend`](coordinator_core::Backend), and [`link`](MemoryStore::link) is where that member's
//! faults are set. On a paused runtime, time is virtual: it jumps from timer to timer, and two
//! minutes pass in a few milliseconds.
//!
//! ```
//! use std::sync::Mutex;
//! use std::time::Duration;
//!
//! use coordinator_memory::MemoryStore;
//! use coordinator_node::{Node, RunError};
//! use tokio::time::sleep;
//!
//! /// The code under test: whoever leads writes its name down, once a second.
//! async fn schedule(node: &Node, jobs: &Mutex<Vec<String>>) -> Result<(), RunError> {
//!     let election = node.election("scheduler");
//!     let work = async |term: coordinator_node::Leadership| {
//!         while term.tick(Duration::from_secs(1)).await {
//!             jobs.lock().unwrap().push(node.id().to_string());
//!         }
//!         Ok(())
//!     };
//!     election.run(work).await
//! }
//!
//! # tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap().block_on(async {
//! // In a test of yours: #[tokio::test(start_paused = true)]
//! let store = MemoryStore::new();
//! let start = async |name: &str| {
//!     let node = Node::builder("test").member(name).backend(store.connect(name));
//!     node.start().await.unwrap()
//! };
//! let (a, b) = (start("a").await, start("b").await);
//! let jobs = Mutex::new(Vec::new());
//! let last = || -> Option<String> { jobs.lock().unwrap().last().cloned() };
//! let script = async {
//!     sleep(Duration::from_secs(60)).await;
//!     let first = last().expect("one of them leads");
//!     store.link(first.as_str()).cut();
//!     sleep(Duration::from_secs(60)).await;
//!     assert_ne!(last(), Some(first), "a cut-off leader stops, and the other one takes over");
//! };
//! tokio::select! {
//!     biased;
//!     () = script => {}
//!     _ = async { tokio::join!(schedule(&a, &jobs), schedule(&b, &jobs)) } => unreachable!(),
//! }
//! # });
//! ```
//!
//! # Faults
//!
//! | what goes wrong | how to bring it about |
//! |---|---|
//! | a member is cut off; or one way only, or from the bus only | [`Link::cut`], [`Link::cut_requests`], [`Link::cut_replies`], [`Link::cut_bus`]; then [`Link::heal`] |
//! | the network is slow, with jitter | [`Link::delay`] |
//! | a request takes effect, and its reply is lost | [`Link::lose_replies`] |
//! | requests, replies or messages are lost now and then | [`Link::lose_requests`], [`Link::request_loss`], [`Link::bus_loss`] |
//! | a process freezes (garbage collection, `SIGSTOP`, a closed lid) | [`Link::pause`], [`Link::resume`] |
//! | a process is killed | [`Link::crash`] |
//! | a machine's clock runs fast, slow, or jumps | [`Link::clock_rate`], [`Link::clock_jump`], [`Link::wall_step`] |
//! | the bus is parted between members | [`MemoryStore::partition`] |
//! | the store is down, or restarts | [`MemoryStore::stop`], [`MemoryStore::start`], [`MemoryStore::restart`] |
//! | the store comes back empty | [`MemoryStore::forget_everything`] |
//! | a replica without the last writes takes over | [`MemoryStore::replica`], [`MemoryStore::fail_over`] |
//! | the store's wall clock is set | [`MemoryStore::step_forward`], [`MemoryStore::step_back`] |
//! | somebody meddles with the store's tables | [`MemoryStore::erase_member`], [`MemoryStore::expire_lease`] |
//!
//! A request meets its link when it leaves, and again when it arrives. If it cannot leave, it is
//! `Unavailable` at once: nothing has happened. If it has left, it takes effect, even when its
//! sender is paused, killed, or has given up; and when no reply gets back within
//! [`request_timeout`](MemoryStoreBuilder::request_timeout), it is `Indeterminate`. So nothing
//! hangs for ever, and a retry shows whether the code under test asks again safely:
//!
//! ```
//! use std::time::Duration;
//!
//! use coordinator_core::{Acquisition, Claim, ClaimId, ErrorKind, Instance};
//! use coordinator_memory::MemoryStore;
//!
//! # tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap().block_on(async {
//! let store = MemoryStore::new();
//! let locks = store.connect("a").locks.expect("it has all five parts");
//! let (instance, ttl) = (Instance::from_random(1), Duration::from_secs(10));
//! let claim = Claim::new("account/42".into(), "a".into(), instance, ClaimId::new(1), ttl);
//!
//! store.link("a").lose_replies(true);
//! let error = locks.acquire(&claim).await.unwrap_err();
//! assert_eq!(error.kind(), ErrorKind::Indeterminate);
//!
//! store.link("a").lose_replies(false);
//! let answer = locks.acquire(&claim).await.unwrap();
//! assert!(matches!(answer, Acquisition::Granted(_)), "the same claim is the same grant");
//! assert_eq!(store.history().len(), 1, "there was one");
//! # });
//! ```
//!
//! # Time
//!
//! The store's clock, the clocks of its members and all its timers are tokio's. Make the store
//! inside the runtime that it is used in; with `start_paused = true` time is virtual, otherwise it
//! is real. Leases end by the store's wall clock, which begins at a fixed moment of the year 2023
//! and can be set; members trust by clocks of their own, which can run fast or slow.
//!
//! A paused member is not polled at all: [`Backend::executor`](coordinator_core::Backend) runs
//! everything that its node spawns behind a gate, requests and feeds of a paused member wait there
//! as well, and [`Link::run`] puts what a test itself awaits behind the same gate.
//!
//! # The same seed, the same run
//!
//! All random choices come from [`seed`](MemoryStoreBuilder::seed), and from nothing else: delays
//! and losses, and the seed that each start of each member gets for its own choices. On a paused
//! runtime with one thread, two runs of one test are equal, and so are their
//! [`history`](MemoryStore::history). [`MemoryStore::history`] tells, in true time, what was
//! granted when: a test can check what overlapped. An
//! [`observer`](MemoryStoreBuilder::observer) is called at each of these acts, and can look at
//! what the store knows at that moment.
//!
//! # What it guarantees
//!
//! All clauses of all five contracts, and honestly no more: it survives no crash of its own
//! process, has no replica, and cannot tell a dead holder from a silent one; its
//! [`Guarantees`](coordinator_core::Guarantees) say so. A process that grew out of it changes
//! nothing but the backend.
//!
//! After a loss of memory it grants nothing for one
//! [`max_ttl`](MemoryStoreBuilder::max_ttl), for its members may still trust what it forgot; they
//! may re-register their leases meanwhile. A new store has forgotten nothing, and grants at once.
//!
//! # Bounds
//!
//! - A key's last token is kept for a week after its lease ended; then the clock alone makes the
//!   next one higher. Expect a few hundred bytes for each key of that time.
//! - Tombstones of members are kept for an hour, incarnations for a week. A group has at most
//!   4,096 members.
//! - Assignments, checkpoints and links are kept as long as the store: one for each keyspace,
//!   shard and member's name.
//! - A feed queues what [`feed_limit`](MemoryStoreBuilder::feed_limit) says, by default 65,536
//!   messages or 64 MiB and one batch; then the newest are dropped, and a gap tells how many. A
//!   publisher is never held up.
//! - The history keeps as many entries as [`history`](MemoryStoreBuilder::history) says.

mod assignments;
mod bells;
mod bus;
mod checkpoints;
mod connection;
mod faults;
mod feed;
mod gate;
mod history;
mod link;
mod locks;
mod members;
mod observe;
mod ports;
mod refusal;
mod state;
mod store;
mod sync;
mod time;
mod turns;

pub use faults::Delay;
pub use history::{Entry, Event};
pub use link::Link;
pub use observe::Observed;
pub use state::Replica;
pub use store::{MemoryStore, MemoryStoreBuilder};
