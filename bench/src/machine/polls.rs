//! What a long poll costs: parked, forgotten, woken by a job; and what it costs to settle a hub in which
//! some are parked and nothing happened.

use super::backlog::{Backlog, Served, Variety};
use crate::report::Report;
use crate::sample::Samples;
use serde_json::json;
use std::time::Duration;

/// Polls parked at a time.
const PARKED: u64 = 8;
/// Cycles of a turn in the small hub. In the large one a cycle may take long, and its cost hides the clock's.
const SMALL_CYCLES: u32 = 20;

const OPERATIONS: [&str; 4] = ["park", "unpark", "submit that wakes one", "settle, nothing happened"];

const SMALL: Variety = Variety { classes: 1, kinds_named: 0, served: Served::All };
/// The most classes that there can be, and the most kinds that a pull can name.
const LARGE: Variety = Variety { classes: 1_024, kinds_named: 64, served: Served::All };

/// Polls of any kind where there is one class, in turns with polls of 64 kinds where there are 1,024.
pub fn measure(report: &mut Report, rounds: u32) {
    let (mut small, mut large) = (Backlog::waiting(SMALL), Backlog::waiting(LARGE));
    let mut costs: [[Samples; OPERATIONS.len()]; 2] = Default::default();
    _ = turn(&mut small, SMALL_CYCLES);
    _ = turn(&mut large, 1);
    for _ in 0..rounds {
        for (samples, ns) in costs[0].iter_mut().zip(turn(&mut small, SMALL_CYCLES)) {
            samples.push(ns);
        }
        for (samples, ns) in costs[1].iter_mut().zip(turn(&mut large, 1)) {
            samples.push(ns);
        }
    }
    let (mut rows, mut figures) = (Vec::new(), serde_json::Map::new());
    for ((operation, small), large) in OPERATIONS.iter().zip(&costs[0]).zip(&costs[1]) {
        let (small_ns, large_ns, ratio) = (small.median(), large.median(), large.paired_ratio(small));
        let cells = [format!("{small_ns:.0} ns"), format!("{large_ns:.0} ns"), format!("{ratio:.2}")];
        rows.push([(*operation).to_owned()].into_iter().chain(cells).collect());
        figures.insert((*operation).to_owned(), json!({"small_ns": small_ns, "large_ns": large_ns, "ratio": ratio}));
    }
    let title = format!("A long poll, {PARKED} of them parked (medians of {rounds} rounds)");
    let heads = ["", "1 class, any kind", "1,024 classes, 64 kinds named", "ratio"];
    report.table(title, &heads, rows);
    report.figure("long_poll", figures);
}

/// Nanoseconds an operation, in the order of [`OPERATIONS`].
fn turn(backlog: &mut Backlog, cycles: u32) -> [f64; OPERATIONS.len()] {
    let mut sums = [Duration::ZERO; OPERATIONS.len()];
    for _ in 0..cycles {
        let park = backlog.park(PARKED);
        let settle = backlog.settle_idle();
        let unpark = backlog.unpark();
        backlog.park(PARKED);
        let wake = backlog.wake();
        sums.iter_mut().zip([park, unpark, wake, settle]).for_each(|(sum, time)| *sum += time);
    }
    let each = |sum: Duration, count: u64| sum.as_secs_f64() * 1e9 / (f64::from(cycles) * count as f64);
    let [park, unpark, wake, settle] = sums;
    [each(park, PARKED), each(unpark, PARKED), each(wake, PARKED), each(settle, 1)]
}
