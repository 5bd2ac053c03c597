//! scratch
#![allow(clippy::print_stdout, reason = "a command line speaks to its user")]
use coordinator_tests::models::explore;
use coordinator_tests::models::lease::{Election, Faults};

fn main() {
    let args: Vec<String> = std::env::args().collect();
    for it in &args[1..] {
        let d: Vec<u8> = it.bytes().map(|b| b - b'0').collect();
        let faults = Faults {
            crashes: d[0],
            sleeps: d[1],
            losses: d[2],
            delays: d[3],
            forgets: d[4],
            resigns: d[5],
        };
        let start = std::time::Instant::now();
        match explore(
            &Election {
                members: 3,
                faults,
                defect: None,
                backed: true,
            },
            30_000_000,
        ) {
            Ok(explored) => println!("{it}: {explored:?} {:?}", start.elapsed()),
            Err(c) => println!("{it} {c} {:?}", start.elapsed()),
        }
    }
}
