//! Shrink: the shortest list of steps that still shows what a run found.
//!
//! Delta debugging (Zeller and Hildebrandt 2002) over whole steps: parts are left out, larger ones first, as long as the
//! same kind of violation shows. Steps hold instants and numbers, not references to each other, so any part of a run is
//! a run.

use crate::run::{Failure, run_steps};
use crate::scenario::Scenario;

/// The scenario with all steps left out that its violation does not need. Runs it O(n log n) times and more; a run with a
/// panic can only be shrunk where a panic unwinds.
pub fn shrink(key_seed: u64, failure: &Failure) -> Scenario {
    let mut steps = failure.steps.clone();
    let mut part = steps.len().div_ceil(2).max(1);
    loop {
        let mut is_shorter = false;
        let mut first = 0;
        while first < steps.len() {
            let mut fewer = steps.clone();
            fewer.drain(first..(first + part).min(fewer.len()));
            match run_steps(key_seed, &fewer) {
                Err(found) if found.violation.kind() == failure.violation.kind() => {
                    steps = found.steps;
                    is_shorter = true;
                }
                _ => first += part,
            }
        }
        if part == 1 && !is_shorter {
            return Scenario { key_seed, steps };
        }
        part = if is_shorter { part } else { part / 2 }.max(1);
    }
}
