//! Run: a plan, from its beginning until all work has ended or something is wrong.

use super::fault::Injected;
use super::oracle::Violation;
use super::plan::Plan;
use super::trail::Note;
use super::world::{Tally, World};
use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Steps between two reports of progress: some milliseconds of real time.
pub const PROGRESS_STEPS: u64 = 4_096;

/// How a run without a violation ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Report {
    /// The run's plan.
    pub plan: Plan,
    /// The run in numbers.
    pub tally: Tally,
    /// The hash over all events.
    pub trail_hash: u128,
    /// The durable state at the end.
    pub digest: [u8; 32],
}

/// How a run with a violation ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failure {
    /// The run's plan.
    pub plan: Plan,
    /// The run in numbers.
    pub tally: Tally,
    /// The invariant that was violated.
    pub violation: Violation,
    /// The last events.
    pub last: Vec<Note>,
}

/// Runs a plan. `progress` is called with the virtual time in microseconds, every [`PROGRESS_STEPS`] steps.
pub fn run(plan: &Plan, mut progress: impl FnMut(u64)) -> Result<Report, Box<Failure>> {
    let mut steps = 0u64;
    let goes_on = |world: &World| {
        steps += 1;
        if steps.is_multiple_of(PROGRESS_STEPS) {
            progress(world.now());
        }
        true
    };
    run_while(plan, goes_on).expect("`goes_on` is always true")
}

/// A run that was stopped, in numbers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Stopped(pub Box<Tally>);

/// Runs a plan for as long as `goes_on` returns true; it is called with the world after each step without a violation.
///
/// # Errors
/// `goes_on` returned false.
pub fn run_while(
    plan: &Plan,
    mut goes_on: impl FnMut(&World) -> bool,
) -> Result<Result<Report, Box<Failure>>, Stopped> {
    let mut world = World::new(plan.clone());
    let ended = loop {
        match catch_unwind(AssertUnwindSafe(|| world.step())) {
            Ok(Ok(true)) if goes_on(&world) => {}
            Ok(Ok(true)) => return Err(Stopped(Box::new(world.tally()))),
            Ok(Ok(false)) => {
                goes_on(&world);
                break Ok(());
            }
            Ok(Err(violation)) => break Err(violation),
            Err(panic) => break Err(Violation { invariant: "no panic", detail: panic_message(panic.as_ref()) }),
        }
    };
    Ok(match ended {
        Ok(()) => Ok(Report {
            plan: plan.clone(),
            tally: world.tally(),
            trail_hash: world.trail().hash(),
            digest: world.digest(),
        }),
        Err(violation) => Err(Box::new(Failure {
            plan: plan.clone(),
            tally: world.tally(),
            violation,
            last: world.trail().last().copied().collect(),
        })),
    })
}

fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("without a message").to_owned()
}

/// The sums of many runs' numbers.
#[derive(Clone, Debug, Default)]
pub struct Totals {
    /// Runs.
    pub runs: u64,
    /// Events.
    pub events: u64,
    /// Requests.
    pub requests: u64,
    /// Virtual time in microseconds.
    pub virtual_us: u64,
    /// Starts of the hub.
    pub hub_starts: u64,
    /// Jobs that ended.
    pub ended: u64,
    /// Faults that were injected, by name.
    pub injected: Injected,
    /// Events that were counted by name.
    pub marks: BTreeMap<&'static str, u64>,
    /// The wrapping sum of all runs' trail hashes.
    pub trail_hash: u128,
}

impl Totals {
    /// Adds a run.
    pub fn add(&mut self, report: &Report) {
        let Tally { events, requests, virtual_us, hub_starts, ended, injected, marks, .. } = &report.tally;
        self.runs += 1;
        self.events += events;
        self.requests += requests;
        self.virtual_us += virtual_us;
        self.hub_starts += hub_starts;
        self.ended += ended;
        for (name, count) in injected {
            *self.injected.entry(name).or_default() += count;
        }
        for (name, count) in marks {
            *self.marks.entry(name).or_default() += count;
        }
        // A sum does not depend on the order in which threads finish.
        self.trail_hash = self.trail_hash.wrapping_add(report.trail_hash);
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = self.tally.virtual_us as f64 / 1e6;
        write!(f, "seed {} failed at {at:.6} s: {}", self.plan.seed, self.violation)
    }
}

impl std::error::Error for Failure {}
