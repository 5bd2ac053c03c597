//! scratch
#![allow(clippy::print_stdout, reason = "a command line speaks to its user")]
use coordinator_tests::models::{explore, handoff, lease, vote};

fn main() {
    let args: Vec<String> = std::env::args().collect();
    for it in &args[2..] {
        let d: Vec<u8> = it.bytes().map(|b| b - b'0').collect();
        let start = std::time::Instant::now();
        let r = if args[1] == "lease" {
            let faults = lease::Faults {
                crashes: d[0],
                sleeps: d[1],
                losses: d[2],
                delays: d[3],
                forgets: d[4],
                resigns: d[5],
            };
            explore(
                &lease::Election {
                    members: 3,
                    faults,
                    defect: None,
                    backed: true,
                },
                30_000_000,
            )
        } else if args[1] == "handoff" {
            let faults = handoff::Faults {
                crashes: d[0],
                sleeps: d[1],
                cuts: d[2],
                losses: d[3],
                delays: d[4],
                coups: d[5],
                forgets: d[6],
            };
            explore(
                &handoff::Handoff {
                    faults,
                    defect: None,
                },
                30_000_000,
            )
        } else {
            let faults = vote::Faults {
                crashes: d[0],
                sleeps: d[1],
                losses: d[2],
                delays: d[3],
                copies: d[4],
                jumps: d[5],
                resigns: d[6],
                cuts: d[7],
            };
            explore(
                &vote::Election {
                    faults,
                    defect: None,
                },
                30_000_000,
            )
        };
        match r {
            Ok(explored) => println!("{it}: {explored:?} {:?}", start.elapsed()),
            Err(c) => println!("{it} {c} {:?}", start.elapsed()),
        }
    }
}
