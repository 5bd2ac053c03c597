//! A run on a database: a process for each node, in real time.
//!
//! | module | its part |
//! |---|---|
//! | `projection` | the program of a user of the library: all that one writes to share such work |
//! | `node` | what each process does |
//! | `processes` | the fleet of them, and what is done to it |
//! | `said`, `reporter`, `recorder` | what they tell, the telling, and the listening |
//! | `books`, `schema` | the tables, and the schema that they are in |

mod books;
mod node;
mod processes;
mod projection;
mod recorder;
mod reporter;
mod said;
mod schema;

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
use crate::watch::Watch;
use crate::world::World;

pub(crate) use node::be_node;

use books::Books;
use node::Setup;
use processes::Processes;
use recorder::Recorder;
use said::machine_time;
use schema::Schema;

/// How long events keep coming.
const SPAN: Duration = Duration::from_secs(50);

/// How long the fleet may then take to fold what is left, before it counts as stuck.
const PATIENCE: Duration = Duration::from_mins(1);

/// How long a member lives without a heartbeat, unless the database sees that it is dead.
const TTL: Duration = Duration::from_secs(3);

/// How long a node may take to leave.
const DRAIN: Duration = Duration::from_secs(5);

/// How often the observer looks at what nobody tells it.
const LOOK: Duration = Duration::from_millis(100);

/// The faults that a process can suffer.
const KINDS: [Fault; 4] = [Fault::Join, Fault::Leave, Fault::Crash, Fault::Pause];

/// Lets a fleet of processes run, shows it, and judges it; unless `interrupted` ends first. Leaves
/// nothing behind, unless it is told to keep the schema.
pub(crate) async fn play(
    run: Run,
    url: &str,
    options: &Options,
    screen: impl FnOnce() -> io::Result<Screen>,
    interrupted: impl Future<Output = ()>,
) -> anyhow::Result<Ended> {
    // What goes wrong here is to be read on a plain terminal.
    let schema = Schema::make(url).await?;
    let played = match screen() {
        Ok(screen) => play_in(&schema, run, url, options, screen, interrupted).await,
        Err(error) => Err(error.into()),
    };
    if options.keep {
        writeln!(io::stdout(), "kept: schema {}", schema.scratch.schema())?;
        return played;
    }
    let removed = schema.remove().await;
    let ended = played?;
    removed.map(|()| ended)
}

async fn play_in(
    schema: &Schema,
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
        schema: schema.scratch.schema().to_owned(),
        url: url.to_owned(),
    };
    let recorder = Recorder::new(world.clone(), shown);
    let input = options.input.clone();
    let fleet = Processes::new(world.clone(), recorder, setup, input, run.shards);
    let books = Books::new(&schema.postgres, schema.scratch.pool().clone());
    let director = Director {
        world: world.clone(),
        fleet,
        watch: Watch::new(world.clone(), books, LOOK),
        seed: run.seed,
        nodes: run.nodes,
        faults,
        deadline: SPAN + PATIENCE,
    };
    let camera = Camera::new(world.clone(), run.seed, "on Postgres".into(), SPAN);
    let stage = Stage {
        world,
        camera,
        screen,
        expected: run.expected,
        kinds,
    };
    stage.play(director, interrupted).await
}
