//! Mutants: each mistake in the core is found by the model check. One test: the switch is one for the whole process.
#![cfg(feature = "sim-mutants")]

use sheratan_mutants::{Mutant, is_active};
use sheratan_sim::model_check::check::SeedRange;
use sheratan_sim::mutation::{HUNTERS, SEEDS_MAX, Verdict, hunt};
use std::num::NonZero;
use std::thread;

#[test]
fn every_mistake_in_the_core_is_found_within_two_thousand_seeds() {
    std::panic::set_hook(Box::new(|_| ()));
    let jobs = thread::available_parallelism().map_or(1, NonZero::get);
    let in_core = Mutant::ALL.iter().copied().filter(|mutant| mutant.is_in_core());
    let hunted: Vec<_> =
        in_core.map(|mutant| (mutant, hunt(HUNTERS, mutant, &SeedRange::new(0, SEEDS_MAX), jobs))).collect();
    drop(std::panic::take_hook());
    for (mutant, verdict) in &hunted {
        println!("{}: {verdict:?}", mutant.name());
    }
    let missed: Vec<_> = hunted.iter().filter(|(_, verdict)| !matches!(verdict, Verdict::Found { .. })).collect();
    assert!(hunted.len() >= 16 && missed.is_empty(), "{missed:?}");
    assert!(!Mutant::ALL.iter().any(|mutant| is_active(*mutant)), "none stays switched on");
}
