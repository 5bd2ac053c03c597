//! Every clause of every backend trait of Coordinator, as a runnable check.
//!
//! The contracts stand in the documentation of the traits of `coordinator-core`, in numbered
//! clauses. Here each clause is a *check* with a name: a test that a backend passes or fails, over
//! nothing but the trait. Add this crate as a dev-dependency, say how to connect to your backend,
//! and each check is a test of your own.
//!
//! # How to test your own backend
//!
//! One line in a test file, with no other dependency; here for locks:
//!
//! ```
//! # struct AcmeLocks;
//! # impl AcmeLocks {
//! #     async fn dial(_namespace: &str) -> std::io::Result<Self> { Ok(Self) }
//! # }
//! // tests/conformance.rs: makes the tests `acme::a_grant_lasts_its_whole_ttl`, ….
//! coordinator_conformance::lock_backend!(acme, async |namespace: &str| {
//!     AcmeLocks::dial(namespace).await.unwrap()
//! });
//! ```
//!
//! | macro | for | the closure gives |
//! |---|---|---|
//! | [`lock_backend!`] | `LockBackend` | a connection |
//! | [`membership_store!`] | `MembershipStore` | a connection |
//! | [`assignment_store!`] | `AssignmentStore`, with the members in its store | a pair: members, assignments |
//! | [`checkpoint_store!`] | `CheckpointStore` | a connection |
//! | [`cluster_bus!`] | `ClusterBus` | a connection |
//! | [`backend!`] | a whole `Backend`: all of these | what is `Into<Backend>` |
//!
//! The closure makes *one more connection* to the store, in the namespace it is given. Each check
//! has a namespace of its own, connects several times, and takes that for several processes; some
//! ask for a second namespace, which must share nothing with the first. Nothing is cleaned up:
//! a test against a server that is kept drops old namespaces itself.
//!
//! A store to which an emptied server looks like a new one, and which therefore waits when it first
//! starts (rule I5), must be told to trust an empty one.
//!
//! # Time and faults
//!
//! The checks run in real time by default: TTLs of some hundred milliseconds, a deadline on every
//! call ([`Fixture::patience`]) so that a backend that hangs fails, and experiments that repeat
//! themselves with a longer TTL where the store answered too late to tell anything. If the store's
//! clock is tokio's, say [`Fixture::virtual_time`]: then nothing is waited for, and more can be
//! checked: that tombstones are kept for an hour, that random calls match a model to the
//! millisecond.
//!
//! What a store does when it loses its memory, its last writes or a connection can be checked only
//! if the fixture can do that to it: implement [`Faults`]. Such checks wait out the store's
//! quarantine, in real time too.
//!
//! ```
//! use coordinator_conformance::{Fault, Faults, Fixture, lock};
//! use coordinator_core::{Backend, async_trait};
//! use coordinator_memory::MemoryStore;
//!
//! /// All checks here share one store; each has its own in a real fixture.
//! struct Server(MemoryStore);
//!
//! #[async_trait]
//! impl Faults for Server {
//!     async fn restart(&self, _namespace: &str) -> Fault {
//!         self.0.restart();
//!         Fault::Done
//!     }
//! }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build()?.block_on(async {
//! let store = MemoryStore::new();
//! let connections = store.clone();
//! let fixture: Fixture<Backend> =
//!     Fixture::from(async move |namespace: &str| connections.connect(namespace));
//! let fixture = fixture.faults(Server(store)).virtual_time();
//!
//! // As a value, instead of as tests: how each check ended.
//! let a_check = &lock::CHECKS[0];
//! println!("{}: {}", a_check.full_name(), a_check.shows);
//! let outcome = a_check.run(fixture.locks()).await;
//! assert_eq!(outcome, coordinator_conformance::Outcome::Passed);
//! # Ok(())
//! # })
//! # }
//! ```
//!
//! `lock::check_all(fixture).await` runs all checks of a part and gives a [`Report`].
//!
//! # Skipped is not passed
//!
//! What a backend may lack (waking waiters, keeping messages, a limit for payloads) and what the
//! fixture cannot do is skipped: the test prints a line with the reason, and the report has an
//! entry. Where the contract says how a lacking capability is refused, that refusal is checked.
//!
//! # When a check fails
//!
//! A [`Failure`] says which clauses are broken, what was expected and what was seen, in which
//! namespace and with which seed. [`Fixture::seed`] plays the same random choices again, or others.

// Macros are found by order of text: these come first.
mod macros;

pub mod assignments;
pub mod backend;
pub mod bus;
mod check;
pub mod checkpoints;
mod fixture;
mod join;
mod lab;
pub mod lock;
pub mod members;
mod probe;
mod random;
mod report;

pub use check::Check;
#[doc(hidden)]
pub use coordinator_core as core;
pub use fixture::{Fault, Faults, Fixture, Planning};
pub use report::{Failure, Outcome, Report};
