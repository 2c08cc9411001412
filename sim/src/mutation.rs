//! Mutation: checks that the simulator finds mistakes. Each [`Mutant`] is activated in turn, and seeds are run until
//! one fails.
//!
//! The switch is global to the process, so mutants are hunted one after the other, each with its seeds on all threads.
//! A panic of a mutated hub counts as a find in the dev profile, where it does not abort.

use crate::journal_check;
use crate::loss_check;
use crate::mesh::{self, plan::Plan};
use crate::model_check::check::SeedRange;
use crate::model_check::run::{STEPS_DEFAULT, run_seed};
use sheratan_mutants::{Mutant, activate};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

/// Within how many seeds each mutant has to be found.
pub const SEEDS_MAX: u64 = 2_000;

/// A simulator that mutants are hunted with.
pub struct Hunter {
    /// Its name.
    pub name: &'static str,
    /// Whether it runs the code that this mutant is in.
    pub sees: fn(Mutant) -> bool,
    /// Runs a seed; an error says what is wrong.
    pub run: fn(u64) -> Result<(), String>,
}

/// All hunters, the fastest first.
pub const HUNTERS: &[Hunter] = &[
    Hunter { name: "model", sees: Mutant::is_in_core, run: check_model },
    Hunter { name: "journal", sees: is_in_journal, run: check_journal },
    Hunter { name: "loss", sees: |mutant| mutant == Mutant::SaltRepeated, run: check_losses },
    Hunter { name: "mesh", sees: |_| true, run: run_mesh },
];

/// Minutes of chaos of a hunt's run.
const MESH_MINUTES: u64 = 2;

/// The result of a hunt.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// A seed failed.
    Found {
        /// The hunter that found it.
        by: &'static str,
        /// The first seed that failed.
        seed: u64,
        /// How many seeds that hunter ran.
        seeds: u64,
        /// What was wrong.
        what: String,
    },
    /// A seed failed, but also fails without the mutant: the mutant cannot be judged until that is fixed.
    Unclear {
        /// The hunter whose run fails.
        by: &'static str,
        /// The seed.
        seed: u64,
        /// What is wrong without the mutant.
        what: String,
    },
    /// No seed failed.
    Missed,
    /// No hunter runs the code that it is in.
    Unhunted,
}

/// Hunts a mutant on `jobs` threads: each hunter that sees it runs the seeds until one fails.
pub fn hunt(hunters: &[Hunter], mutant: Mutant, seeds: &SeedRange, jobs: usize) -> Verdict {
    let mut verdict = Verdict::Unhunted;
    for hunter in hunters.iter().filter(|hunter| (hunter.sees)(mutant)) {
        let by = hunter.name;
        activate(Some(mutant));
        let failure = first_failure(hunter, seeds, jobs);
        activate(None);
        verdict = match failure {
            None => Verdict::Missed,
            Some((seed, what)) => match guarded(|| (hunter.run)(seed)) {
                Ok(()) => return Verdict::Found { by, seed, seeds: seed - seeds.first() + 1, what },
                Err(what) => return Verdict::Unclear { by, seed, what },
            },
        };
    }
    verdict
}

/// The lowest seed that fails. Threads take seeds in order and finish each, so the result does not depend on their
/// number.
fn first_failure(hunter: &Hunter, seeds: &SeedRange, jobs: usize) -> Option<(u64, String)> {
    let next = AtomicU64::new(seeds.first());
    let failed: Mutex<Option<(u64, String)>> = Mutex::new(None);
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end() {
                return;
            }
            let Err(what) = guarded(|| (hunter.run)(seed)) else { continue };
            let mut failed = failed.lock().expect("no thread panics with it");
            if failed.as_ref().is_none_or(|(lowest, _)| seed < *lowest) {
                *failed = Some((seed, what));
            }
            next.store(seeds.end(), Ordering::Relaxed);
            return;
        }
    };
    thread::scope(|scope| (0..jobs.max(1)).for_each(|_| _ = scope.spawn(work)));
    failed.into_inner().expect("no thread panics with it")
}

/// Turns a panic into an error: a mutated hub may panic where no run catches it.
fn guarded(run: impl FnOnce() -> Result<(), String>) -> Result<(), String> {
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
        Err(format!("panic: {}", text.unwrap_or("without a message")))
    })
}

fn check_journal(seed: u64) -> Result<(), String> {
    journal_check::run_seed(seed);
    Ok(())
}

fn check_losses(seed: u64) -> Result<(), String> {
    loss_check::run_seed(seed).map(drop)
}

/// Whether the mistake is in files: the journal's, its snapshots', their folders'.
fn is_in_journal(mutant: Mutant) -> bool {
    matches!(
        mutant,
        Mutant::AppendNotSynced
            | Mutant::SegmentNotSynced
            | Mutant::FolderNotSynced
            | Mutant::TornTailIgnored
            | Mutant::LastBatchNotRewritten
            | Mutant::SnapshotCoversTooMuch
            | Mutant::SnapshotCoversTooLittle
    )
}

fn check_model(seed: u64) -> Result<(), String> {
    run_seed(seed, STEPS_DEFAULT, |_, _| ()).map(drop).map_err(|failure| failure.to_string())
}

fn run_mesh(seed: u64) -> Result<(), String> {
    mesh::run::run(&Plan::of(seed, MESH_MINUTES), |_| {}).map(drop).map_err(|failure| failure.to_string())
}
