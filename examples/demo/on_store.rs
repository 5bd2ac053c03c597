//! A run on a store: a process for each node, in real time.
//!
//! | module | its part |
//! |---|---|
//! | `node` | what each process does |
//! | `processes` | the fleet of them, and what is done to it |
//! | `pretended` | a guard with a token that is not its own |
//! | `said`, `reporter`, `recorder` | what they tell, the telling, and the listening |

mod node;
mod pretended;
mod processes;
mod recorder;
mod reporter;
mod said;

use std::io::{self, Write};
use std::time::Duration;

use tokio::time::Instant;

use crate::camera::Camera;
use crate::director::Director;
use crate::faults::Fault;
use crate::options::Options;
use crate::run::{Ended, Run, Stage};
use crate::screen::Screen;
use crate::source::Source;
use crate::watch::{Store, Watch};
use crate::world::World;

pub(crate) use node::{Desk, Setup, Tools, be_node, take_effort};
pub(crate) use pretended::{Pretended, lease_key};

use processes::Processes;
use recorder::Recorder;
use said::machine_time;

/// How long events keep coming.
const SPAN: Duration = Duration::from_secs(50);

/// How long the fleet may then take to fold what is left, before it counts as stuck.
const PATIENCE: Duration = Duration::from_mins(1);

/// How long a member lives without a heartbeat, unless the store sees that it is dead.
const TTL: Duration = Duration::from_secs(3);

/// How long a node may take to leave.
const DRAIN: Duration = Duration::from_secs(5);

/// How often the observer looks at what nobody tells it.
const LOOK: Duration = Duration::from_millis(100);

/// The faults that a process can suffer.
const KINDS: [Fault; 4] = [Fault::Join, Fault::Leave, Fault::Crash, Fault::Pause];

/// What a run has for itself in a store: made for it, and gone after it.
pub(crate) trait Ground: Sized {
    /// What the store is called.
    const STORE: &'static str;
    /// What such a ground is called there.
    const KIND: &'static str;
    /// How the observer sees it.
    type Books: Store;

    /// Connects, and makes a new one.
    fn make(url: &str) -> impl Future<Output = anyhow::Result<Self>>;

    /// Its name, which no other has.
    fn name(&self) -> &str;

    fn books(&self) -> Self::Books;

    /// Removes it with all that is in it.
    fn remove(self) -> impl Future<Output = anyhow::Result<()>>;
}

/// Lets a fleet of processes run, shows it, and judges it; unless `interrupted` ends first. Leaves
/// nothing behind, unless it is told to keep the ground.
pub(crate) async fn play<G: Ground>(
    run: Run,
    url: &str,
    options: &Options,
    screen: impl FnOnce() -> io::Result<Screen>,
    interrupted: impl Future<Output = ()>,
) -> anyhow::Result<Ended> {
    // What goes wrong here is to be read on a plain terminal.
    let ground = G::make(url).await?;
    let played = match screen() {
        Ok(screen) => play_in(&ground, run, url, options, screen, interrupted).await,
        Err(error) => Err(error.into()),
    };
    if options.keep {
        writeln!(io::stdout(), "kept: {} {}", G::KIND, ground.name())?;
        return played;
    }
    let removed = ground.remove().await;
    let ended = played?;
    removed.map(|()| ended)
}

async fn play_in<G: Ground>(
    ground: &G,
    run: Run,
    url: &str,
    options: &Options,
    screen: Screen,
    interrupted: impl Future<Output = ()>,
) -> anyhow::Result<Ended> {
    let kinds = run.kinds(&KINDS);
    let faults = run.schedule(kinds, SPAN, TTL);
    let (began, shown) = (Instant::now(), machine_time());
    let source = Source::new(began, SPAN, run.events);
    let world = World::new(began, source, run.shards.get());
    let setup = Setup {
        began: shown,
        ground: ground.name().to_owned(),
        url: url.to_owned(),
    };
    let recorder = Recorder::new(world.clone(), shown);
    let input = options.input.clone();
    let fleet = Processes::new(world.clone(), recorder, setup, input, run.shards);
    let director = Director {
        world: world.clone(),
        fleet,
        watch: Watch::new(world.clone(), ground.books(), LOOK),
        seed: run.seed,
        nodes: run.nodes,
        faults,
        deadline: SPAN + PATIENCE,
    };
    let camera = Camera::new(world.clone(), run.seed, format!("on {}", G::STORE), SPAN);
    let stage = Stage {
        world,
        camera,
        screen,
        expected: run.expected,
        kinds,
    };
    stage.play(director, interrupted).await
}
