//! Mutants: mistakes that can be activated one at a time, to check that the simulator finds them.
//!
//! No production code knows of them. With the feature `sim-mutants`, core and shell compile some modules of rules from
//! a mutated twin (`core/mutated`, `io/mutated`), which asks [`is_active`] and otherwise calls the real rule; the
//! simulated disk asks it before a sync. At most one mutant is active in the whole process.

mod table;

pub use table::{Mutant, Place};

use std::sync::atomic::{AtomicU8, Ordering};

/// The active mutant's number; zero for none.
static ACTIVE: AtomicU8 = AtomicU8::new(0);

/// Activates that mutant, or none.
pub fn activate(mutant: Option<Mutant>) {
    ACTIVE.store(mutant.map_or(0, number), Ordering::Relaxed);
}

/// Whether this mutant is active.
#[inline]
pub fn is_active(mutant: Mutant) -> bool {
    ACTIVE.load(Ordering::Relaxed) == number(mutant)
}

const fn number(mutant: Mutant) -> u8 {
    1 + mutant as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    fn active() -> Vec<Mutant> {
        Mutant::ALL.iter().copied().filter(|mutant| is_active(*mutant)).collect()
    }

    /// One test, since the switch is one for the whole process.
    #[test]
    fn a_mutant_is_active_when_it_was_switched_on_and_no_other_is() {
        assert_eq!(active(), []);
        for mutant in Mutant::ALL.iter().copied() {
            activate(Some(mutant));
            assert_eq!(active(), [mutant]);
        }
        activate(None);
        assert_eq!(active(), []);
    }
}
