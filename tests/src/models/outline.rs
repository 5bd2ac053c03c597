//! What of a machine decides how it goes on: its state, without what is only a name.
//!
//! A machine's `Debug` output is its whole state, a generator's excepted. Two machines behave alike
//! if their outputs differ only by a shift of what is never looked at by itself: moments mean
//! something only against now, numbers of requests only against the newest one, tokens only against
//! the store's last. So these are written as differences.

use std::cell::OnceCell;
use std::fmt::{Debug, Write};
use std::rc::Rc;
use std::time::Duration;

use coordinator_core::Moment;
use xxhash_rust::xxh3::xxh3_128;

/// In grains. What is further ahead never comes.
const NEVER: u128 = 1 << 20;

/// What differs between states that are otherwise alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mark {
    /// A moment, in nanoseconds since the origin.
    Moment(u128),
    /// A number of this class.
    Number(usize, u64),
}

/// The outline of a value, whenever it is looked at.
#[derive(Debug, Clone, Default)]
pub(super) struct Outline {
    /// All that means the same at any time.
    plain: u128,
    marks: Vec<Mark>,
}

/// The instant from which an outline is looked at.
#[derive(Debug, Clone, Copy)]
pub(super) struct Look<'a> {
    /// The present.
    pub(super) now: Moment,
    /// How much time passes at once. Deadlines within one such step are one.
    pub(super) grain: Duration,
    /// Further back than so many grains, all is equally long ago.
    pub(super) past: u128,
    /// What the numbers of each class mean here, in the order of what stands before them.
    pub(super) scales: &'a [Scale<'a>],
}

/// What of a number decides.
#[derive(Debug, Clone, Copy)]
pub(super) enum Scale<'a> {
    /// How far it is behind this one.
    Behind(u64),
    /// Which of these it is, counted from the highest; those from `open` on, by how much above it.
    /// For numbers that are compared with each other, while new ones are no lower than `open`.
    Rank { all: &'a [u64], open: u64 },
}

impl Scale<'_> {
    pub(super) fn write(self, number: u64, out: &mut Vec<u8>) {
        match self {
            Self::Behind(base) => out.extend(base.wrapping_sub(number).to_le_bytes()),
            Self::Rank { open, .. } if number >= open => {
                out.push(b'>');
                out.extend((number - open).to_le_bytes());
            }
            Self::Rank { all, .. } => {
                let rank = all.len() - all.partition_point(|it| *it < number);
                out.push(b'#');
                out.extend(rank.to_le_bytes());
            }
        }
    }
}

impl Outline {
    /// The outline of `value`. What stands in `before` tells the classes of numbers by what they
    /// follow.
    pub(super) fn of(value: &impl Debug, before: &[&str]) -> Self {
        let mut text = String::with_capacity(1024);
        if write!(text, "{value:?}").is_err() {
            return Self::default(); // A `String` takes whatever it is given.
        }
        let bytes = text.as_bytes();
        let (mut plain, mut marks) = (Vec::with_capacity(bytes.len()), Vec::new());
        let mut at = 0;
        while let Some(&byte) = bytes.get(at) {
            let end = if byte == b'@' {
                let (nanos, end) = span(bytes, at + 1);
                marks.push(Mark::Moment(nanos));
                plain.push(byte);
                end
            } else if byte.is_ascii_digit() {
                let (number, end) = digits(bytes, at);
                let is_before = |it: &&str| bytes[..at].ends_with(it.as_bytes());
                match (before.iter().position(is_before), u64::try_from(number)) {
                    (Some(base), Ok(number)) => marks.push(Mark::Number(base, number)),
                    (Some(_) | None, _) => plain.extend(&bytes[at..end]),
                }
                end
            } else {
                plain.push(byte);
                at + 1
            };
            at = end;
        }
        Self {
            plain: xxh3_128(&plain),
            marks,
        }
    }

    /// Adds what it looks like to `out`.
    pub(super) fn write(&self, look: Look<'_>, out: &mut Vec<u8>) {
        out.extend(self.plain.to_le_bytes());
        for mark in &self.marks {
            match *mark {
                Mark::Moment(nanos) => look.moment(nanos, out),
                Mark::Number(class, number) => {
                    let scale = look.scales.get(class).copied();
                    scale.unwrap_or(Scale::Behind(0)).write(number, out);
                }
            }
        }
    }

    /// The numbers of one class.
    pub(super) fn numbers(&self, class: usize) -> impl Iterator<Item = u64> {
        self.marks.iter().filter_map(move |mark| match *mark {
            Mark::Number(it, number) if it == class => Some(number),
            Mark::Number(..) | Mark::Moment(_) => None,
        })
    }
}

impl Look<'_> {
    /// The distance from now in grains, rounded up: a deadline is met with the grain it lies in.
    fn moment(&self, nanos: u128, out: &mut Vec<u8>) {
        let (now, grain) = (self.now.as_duration().as_nanos(), self.grain.as_nanos());
        if nanos > now {
            out.push(b'+');
            out.extend((nanos - now).div_ceil(grain).min(NEVER).to_le_bytes());
        } else {
            out.push(b'-');
            out.extend(((now - nanos) / grain).min(self.past).to_le_bytes());
        }
    }
}

/// A machine that can be taken up again where it stood.
pub(super) trait Fork: Debug {
    /// The same machine once more.
    fn fork(&self) -> Self;
}

/// A machine and its outline. Copies share both, until one of them takes a step.
#[derive(Debug)]
pub(super) struct Outlined<M> {
    machine: Rc<M>,
    /// Made when it is asked for first.
    outline: Rc<OnceCell<Outline>>,
    before: &'static [&'static str],
}

impl<M> Clone for Outlined<M> {
    fn clone(&self) -> Self {
        Self {
            machine: self.machine.clone(),
            outline: self.outline.clone(),
            before: self.before,
        }
    }
}

impl<M: Fork> Outlined<M> {
    /// `before` as for [`Outline::of`].
    pub(super) fn new(machine: M, before: &'static [&'static str]) -> Self {
        Self {
            machine: Rc::new(machine),
            outline: Rc::default(),
            before,
        }
    }

    pub(super) fn machine(&self) -> &M {
        &self.machine
    }

    pub(super) fn outline(&self) -> &Outline {
        let outline = || Outline::of(&*self.machine, self.before);
        self.outline.get_or_init(outline)
    }

    /// Changes this copy alone.
    pub(super) fn change<T>(&mut self, change: impl FnOnce(&mut M) -> T) -> T {
        self.outline = Rc::default();
        if let Some(machine) = Rc::get_mut(&mut self.machine) {
            return change(machine);
        }
        let mut machine = self.machine.fork();
        let answer = change(&mut machine);
        self.machine = Rc::new(machine);
        answer
    }
}

fn digits(bytes: &[u8], from: usize) -> (u128, usize) {
    let mut at = from;
    let mut number = 0_u128;
    while let Some(digit) = bytes.get(at).filter(|byte| byte.is_ascii_digit()) {
        number = number.saturating_mul(10) + u128::from(digit - b'0');
        at += 1;
    }
    (number, at)
}

/// Reads a `Duration` as `Debug` writes it, in nanoseconds.
fn span(bytes: &[u8], from: usize) -> (u128, usize) {
    let (whole, mut at) = digits(bytes, from);
    let (mut fraction, mut places) = (0, 0);
    if bytes.get(at) == Some(&b'.') {
        let (number, end) = digits(bytes, at + 1);
        (fraction, places) = (number, end - at - 1);
        at = end;
    }
    let rest = &bytes[at..];
    let (unit, letters) = match rest {
        [b's', ..] => (9, 1),
        [b'm', b's', ..] => (6, 2),
        [b'n', b's', ..] => (0, 2),
        // Of the units that are left, only this one exists.
        _ => (3, "µs".len()),
    };
    let power = |exponent: usize| 10_u128.pow(u32::try_from(exponent).unwrap_or(0));
    let nanos = whole * power(unit) + fraction * power(unit) / power(places);
    (nanos, at + letters)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(seconds: u64, value: &impl Debug) -> Vec<u8> {
        let mut out = Vec::new();
        let look = Look {
            now: Moment::since_origin(Duration::from_secs(seconds)),
            grain: Duration::from_secs(2),
            past: 3,
            scales: &[Scale::Behind(seconds)],
        };
        Outline::of(value, &["request: "]).write(look, &mut out);
        out
    }

    #[derive(Debug)]
    #[expect(dead_code, reason = "read by `Debug`")]
    struct Machine {
        at: Moment,
        request: u64,
        phase: u8,
    }

    fn machine(millis: u64, request: u64, phase: u8) -> Machine {
        let at = Moment::since_origin(Duration::from_millis(millis));
        Machine { at, request, phase }
    }

    #[test]
    fn a_shift_of_time_and_of_the_numbers_of_requests_makes_no_difference() {
        let one = look(100, &machine(103_000, 98, 1));
        assert_eq!(one, look(200, &machine(203_000, 198, 1)));
        assert_eq!(one, look(200, &machine(203_999, 198, 1)));
        assert_ne!(one, look(200, &machine(204_001, 198, 1)));
        assert_ne!(one, look(200, &machine(203_000, 197, 1)));
        assert_ne!(one, look(200, &machine(203_000, 198, 2)));
    }

    #[test]
    fn what_is_long_ago_is_all_the_same() {
        let long_ago = look(100, &machine(1_500, 98, 1));
        assert_eq!(long_ago, look(100, &machine(1, 98, 1)));
        assert_ne!(long_ago, look(100, &machine(98_000, 98, 1)));
    }

    #[test]
    fn ranks_keep_the_order_of_what_is_over_and_the_distance_of_what_is_new() {
        let rank = |number, all, open| {
            let mut out = Vec::new();
            Scale::Rank { all, open }.write(number, &mut out);
            out
        };
        assert_eq!(rank(5, &[5, 7], 9), rank(1, &[1, 3], 4));
        assert_ne!(rank(5, &[5, 7], 9), rank(3, &[1, 3], 4));
        assert_eq!(rank(10, &[5, 10], 9), rank(5, &[5], 4));
        assert_ne!(rank(10, &[5, 10], 9), rank(6, &[6], 4));
    }

    #[test]
    fn spans_are_read_in_every_unit() {
        for nanos in [
            1,
            1_500,
            2_000_000,
            12_345_678,
            1_000_000_000,
            90_000_000_001,
        ] {
            let text = format!("{:?}", Duration::from_nanos(nanos));
            assert_eq!(span(text.as_bytes(), 0), (u128::from(nanos), text.len()));
        }
    }
}
