//! Run: applies steps one after the other, to their end or to the first violation.

use crate::model_check::sightings::Sightings;
use crate::model_check::traffic::Traffic;
use crate::model_check::violation::Violation;
use crate::model_check::world::{Tally, World};
use sheratan_history::{Step, hub_key};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// The default number of steps of a run.
pub const STEPS_DEFAULT: u64 = 1_000;

/// How a run without a violation ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Report {
    /// The run in numbers.
    pub tally: Tally,
    /// Outcomes and effects, counted by kind.
    pub sightings: Sightings,
    /// Jobs that were accepted.
    pub accepted: u64,
    /// Jobs that were completed.
    pub completed: u64,
    /// The state at the end.
    pub digest: [u8; 32],
    /// The hash over all outcomes.
    pub outcome_hash: [u8; 16],
}

/// How a run with a violation ended.
#[derive(Clone, PartialEq, Debug)]
pub struct Failure {
    /// The steps up to the one that showed it.
    pub steps: Vec<Step>,
    /// What was wrong; found after the last step if the final check showed it.
    pub violation: Violation,
}

/// Runs a seed. `observe` is called with each step before it is applied.
pub fn run_seed(seed: u64, steps_planned: u64, mut observe: impl FnMut(u64, &Step)) -> Result<Report, Failure> {
    let mut traffic = Traffic::new(seed, steps_planned);
    let mut world = World::new(hub_key(seed));
    let mut steps = Vec::new();
    while !traffic.is_over() {
        let step = traffic.next(world.hub());
        steps.push(step);
        observe(steps.len() as u64, steps.last().expect("it was just pushed"));
        let step = steps.last().expect("it was just pushed");
        if let Err(violation) = guarded(|| world.step(step)) {
            return Err(Failure { steps, violation });
        }
        traffic.note_granted(world.drain_granted());
    }
    end(world, steps)
}

/// Runs given steps, with the key that a hub has in that seed's run.
pub fn run_steps(key_seed: u64, steps: &[Step]) -> Result<Report, Failure> {
    let mut world = World::new(hub_key(key_seed));
    for (index, step) in steps.iter().enumerate() {
        if let Err(violation) = guarded(|| world.step(step)) {
            return Err(Failure { steps: steps[..=index].to_vec(), violation });
        }
    }
    end(world, steps.to_vec())
}

fn end(mut world: World, steps: Vec<Step>) -> Result<Report, Failure> {
    if let Err(violation) = guarded(|| world.finish()) {
        return Err(Failure { steps, violation });
    }
    Ok(Report {
        tally: world.tally(),
        sightings: world.sightings().clone(),
        accepted: world.ledger().accepted(),
        completed: world.ledger().completed(),
        digest: world.hub().digest(),
        outcome_hash: world.hub().outcome_hash(),
    })
}

/// A panic of the hub is a violation like any other. (Where a panic aborts, as in the release profile, the caller's
/// panic hook has to say which run it was.)
fn guarded(act: impl FnOnce() -> Result<(), Violation>) -> Result<(), Violation> {
    catch_unwind(AssertUnwindSafe(act)).unwrap_or_else(|cause| {
        let text = cause.downcast_ref::<String>().cloned();
        let text = text.or_else(|| cause.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Err(Violation::Panic(text.unwrap_or_else(|| "without a message".to_owned())))
    })
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "step {}: {}", self.steps.len(), self.violation)
    }
}

impl std::error::Error for Failure {}
