//! Mutants, for the code that still asks for them: the crate `sheratan-mutants` under the feature, else the constant `false`.

#[cfg(not(feature = "sim-mutants"))]
#[path = "../../sim/mutants/src/table.rs"]
mod table;

#[cfg(feature = "sim-mutants")]
pub use sheratan_mutants::{Mutant, is_active};
#[cfg(not(feature = "sim-mutants"))]
pub use table::Mutant;

/// Whether this mistake is made.
#[cfg(not(feature = "sim-mutants"))]
#[inline(always)]
pub const fn is_active(_mutant: Mutant) -> bool {
    false
}
