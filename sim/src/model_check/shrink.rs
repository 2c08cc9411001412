//! Shrink: a shorter list of steps that still shows the same kind of violation.
//!
//! Delta debugging (Zeller and Hildebrandt 2002) over whole steps: parts are left out, larger ones first, as long as
//! the same kind of violation shows. Steps hold instants and numbers, not references to each other, so any part of a
//! run is a run.

use crate::model_check::run::{Failure, run_steps};
use sheratan_history::{History, Step};

/// The history of a run without the steps that its violation does not need; its title says what is violated. A run with
/// a panic can only be shrunk where a panic unwinds.
pub fn shrink(key_seed: u64, failure: &Failure) -> History {
    let kind = failure.violation.kind();
    let steps = shortest(&failure.steps, |steps| {
        let found = run_steps(key_seed, steps).err().filter(|found| found.violation.kind() == kind);
        found.map(|found| found.steps.len())
    });
    let found = run_steps(key_seed, &steps).expect_err("a shrunk run fails");
    let title = found.violation.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
    History::of_steps(&title, key_seed, &steps)
}

/// The steps without those that can be left out, one part after the other. `fails` returns how many of the given steps
/// are enough to fail, if they fail. It is called O(n log n) times or more.
fn shortest(steps: &[Step], mut fails: impl FnMut(&[Step]) -> Option<usize>) -> Vec<Step> {
    let mut steps = steps.to_vec();
    let mut part = steps.len().div_ceil(2).max(1);
    loop {
        let mut is_shorter = false;
        let mut first = 0;
        while first < steps.len() {
            let mut fewer = steps.clone();
            fewer.drain(first..(first + part).min(fewer.len()));
            match fails(&fewer) {
                Some(enough) => {
                    fewer.truncate(enough);
                    steps = fewer;
                    is_shorter = true;
                }
                None => first += part,
            }
        }
        if part == 1 && !is_shorter {
            return steps;
        }
        part = if is_shorter { part } else { part / 2 }.max(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sheratan_core::WaiterId;

    fn unpark(id: u64) -> Step {
        Step::Unpark(WaiterId(id))
    }

    #[test]
    fn only_the_steps_that_a_failure_needs_are_left() {
        let steps: Vec<_> = (0..100).map(unpark).collect();
        let needed = [unpark(3), unpark(50), unpark(51)];
        let fails = |steps: &[Step]| {
            let last = needed.iter().map(|step| steps.iter().position(|one| one == step)).max()?;
            let has_all = needed.iter().all(|step| steps.contains(step));
            last.filter(|_| has_all).map(|last| last + 1)
        };
        assert_eq!(shortest(&steps, fails), needed);
    }

    #[test]
    fn a_failure_that_needs_no_step_leaves_none() {
        assert_eq!(shortest(&[unpark(1), unpark(2)], |steps| Some(steps.len())), []);
    }
}
