//! Explores every scope of every model, and prints one line for each.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command line speaks to its user"
)]

use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use coordinator_tests::models::scopes::{Scope, all};

fn main() -> ExitCode {
    let wanted = std::env::args().nth(1).unwrap_or_default();
    let mut scopes = all();
    scopes.retain(|scope| scope.model.contains(&wanted));
    if scopes.is_empty() {
        eprintln!("models: no model is named `{wanted}`");
        return ExitCode::from(2);
    }
    scopes.reverse();
    let left = Mutex::new(scopes);
    let (states, failed) = (AtomicUsize::new(0), AtomicBool::new(false));
    let began = Instant::now();
    let next = || left.lock().ok().and_then(|mut left| left.pop());
    let work = || {
        while let Some(scope) = next() {
            match show(&scope) {
                Some(seen) => drop(states.fetch_add(seen, Ordering::Relaxed)),
                None => failed.store(true, Ordering::Relaxed),
            }
        }
    };
    let jobs = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|threads| {
        for _ in 0..jobs {
            threads.spawn(work);
        }
    });
    let seconds = began.elapsed().as_secs_f32();
    println!(
        "{} states in {seconds:.0} s",
        states.load(Ordering::Relaxed)
    );
    ExitCode::from(u8::from(failed.load(Ordering::Relaxed)))
}

/// Explores one scope. So many states, unless it shows what it should not.
fn show(scope: &Scope) -> Option<usize> {
    let began = Instant::now();
    let explored = scope.explore();
    let seconds = began.elapsed().as_secs_f32();
    let what = format!(
        "{}, {} members, {}",
        scope.model, scope.members, scope.faults
    );
    match (explored, &scope.planted) {
        (Ok(seen), None) => {
            println!(
                "{what}: {} states, {} steps, depth {}, at most {} units without a good state; \
                 {seconds:.1} s",
                seen.states, seen.steps, seen.depth, seen.longest_without
            );
            Some(seen.states)
        }
        (Err(found), Some((planted, property))) if found.property.starts_with(property) => {
            let actions = found.trace.len();
            println!(
                "{what}, {planted}: found after {actions} actions by {property}; {seconds:.1} s"
            );
            Some(0)
        }
        (Ok(_), Some((planted, _))) => {
            println!("{what}, {planted}: goes unnoticed");
            None
        }
        (Err(counterexample), None | Some(_)) => {
            println!("{what}: {counterexample}");
            None
        }
    }
}
