//! Where a run is shown: on a live screen, or as lines.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use ratatui::DefaultTerminal;

use crate::options::Speed;
use crate::state::{State, thousands};
use crate::view;

/// Frames per real second.
const FRAMES: f64 = 20.0;

/// Virtual time between two looks where nothing sets the pace.
const LOOK: Duration = Duration::from_millis(500);

/// What the viewer wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wish {
    GoOn,
    Quit,
}

/// Shows a run at its pace.
pub(crate) struct Screen {
    surface: Surface,
    pace: Option<Pace>,
}

enum Surface {
    Live(DefaultTerminal),
    Lines(Lines<Box<dyn Write>>),
}

/// How virtual time follows real time.
struct Pace {
    began: Instant,
    times: f64,
}

impl Screen {
    /// A live view. The terminal is given back when this is dropped, and in a panic.
    pub(crate) fn live(speed: Speed) -> io::Result<Self> {
        Ok(Self {
            surface: Surface::Live(ratatui::try_init()?),
            pace: Pace::of(speed),
        })
    }

    /// Plain lines, written there.
    pub(crate) fn lines(speed: Speed, out: impl Write + 'static) -> Self {
        Self {
            surface: Surface::Lines(Lines::new(Box::new(out))),
            pace: Pace::of(speed),
        }
    }

    /// Virtual time from one picture to the next.
    pub(crate) fn step(&self) -> Duration {
        match &self.pace {
            None => LOOK,
            Some(pace) => Duration::from_secs_f64((pace.times / FRAMES).max(0.001)),
        }
    }

    /// Shows the state, and blocks until its moment has come in real time too. Nothing else is to
    /// be done meanwhile: in virtual time no moment passes.
    pub(crate) fn show(&mut self, state: &State) -> io::Result<Wish> {
        let wait = self
            .pace
            .as_ref()
            .map_or(Duration::ZERO, |pace| pace.wait(state.now));
        match &mut self.surface {
            Surface::Live(terminal) => {
                terminal.draw(|frame| view::draw(frame, state))?;
                wait_for_key(wait)
            }
            Surface::Lines(lines) => {
                lines.print(state)?;
                std::thread::sleep(wait);
                Ok(Wish::GoOn)
            }
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        match self.surface {
            Surface::Live(_) => ratatui::restore(),
            Surface::Lines(_) => {}
        }
    }
}

impl Pace {
    fn of(speed: Speed) -> Option<Self> {
        match speed {
            Speed::Max => None,
            Speed::Times(times) => Some(Self {
                began: Instant::now(),
                times,
            }),
        }
    }

    /// How long real time still has to go until it is as late as virtual time.
    fn wait(&self, now: Duration) -> Duration {
        let due = Duration::from_secs_f64(now.as_secs_f64() / self.times);
        due.saturating_sub(self.began.elapsed())
    }
}

/// Waits, and looks for the keys that end the run. A raw terminal sends ctrl-c as a key.
fn wait_for_key(wait: Duration) -> io::Result<Wish> {
    let until = Instant::now() + wait;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if !event::poll(left)? {
            return Ok(Wish::GoOn);
        }
        // Other events are a resize at most: the next picture fits.
        if let Event::Key(key) = event::read()?
            && ends_the_run(key)
        {
            return Ok(Wish::Quit);
        }
    }
}

fn ends_the_run(key: KeyEvent) -> bool {
    let control = key.modifiers.contains(KeyModifiers::CONTROL);
    let quit = match key.code {
        KeyCode::Char('c') => control,
        KeyCode::Char('q') | KeyCode::Esc => true,
        _ => false,
    };
    quit && key.kind == KeyEventKind::Press
}

/// What has been printed so far, and where.
struct Lines<W> {
    out: W,
    log: usize,
    tenths: usize,
}

impl<W: Write> Lines<W> {
    fn new(out: W) -> Self {
        Self {
            out,
            log: 0,
            tenths: 0,
        }
    }

    fn print(&mut self, state: &State) -> io::Result<()> {
        let out = &mut self.out;
        for line in &state.log[self.log..] {
            writeln!(out, "{:>7.2} {}", line.at.as_secs_f64(), line.text)?;
        }
        self.log = state.log.len();
        // Ten lines in all: one whenever another tenth is saved.
        let tenths = state.saved * 10 / state.total.max(1);
        if tenths > self.tenths {
            self.tenths = tenths;
            writeln!(
                out,
                "{:>7.2} {} of {} events are saved",
                state.now.as_secs_f64(),
                thousands(state.saved),
                thousands(state.total)
            )?;
        }
        out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::{LogLine, Tone};

    #[test]
    fn each_event_is_one_line_and_each_tenth_another() {
        let mut lines = Lines::new(Vec::new());
        let mut state = State {
            total: 1_000,
            ..State::default()
        };
        state.log.push(LogLine {
            at: Duration::from_millis(1_500),
            tone: Tone::Good,
            text: "node-1 joins".into(),
        });
        lines.print(&state).unwrap();
        state.now = Duration::from_secs(20);
        state.saved = 250;
        lines.print(&state).unwrap();
        lines.print(&state).unwrap();
        let text = String::from_utf8(lines.out).unwrap();
        assert_eq!(
            text,
            "   1.50 node-1 joins\n  20.00 250 of 1,000 events are saved\n"
        );
    }

    #[test]
    fn real_time_waits_for_virtual_time_at_its_pace() {
        let pace = Pace::of(Speed::Times(10.0)).unwrap();
        let wait = pace.wait(Duration::from_secs(1_000));
        assert!(wait <= Duration::from_secs(100), "{wait:?}");
        assert!(wait > Duration::from_secs(90), "{wait:?}");
        assert_eq!(pace.wait(Duration::ZERO), Duration::ZERO);
        assert!(Pace::of(Speed::Max).is_none());
    }

    #[test]
    fn q_escape_and_control_c_end_the_run_and_nothing_else() {
        let plain = |code| KeyEvent::new(code, KeyModifiers::NONE);
        assert!(ends_the_run(plain(KeyCode::Char('q'))));
        assert!(ends_the_run(plain(KeyCode::Esc)));
        assert!(!ends_the_run(plain(KeyCode::Char('c'))));
        let control_c = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        assert!(ends_the_run(control_c));
    }
}
