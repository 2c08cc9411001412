//! The trace's rules, with mutants.

#[path = "../src/trace/rules.rs"]
mod real;

use sheratan_mutants::{Mutant, is_active};

pub(crate) fn after_gap(gap: Vec<u8>, records: Vec<u8>) -> Vec<u8> {
    if is_active(Mutant::TraceGapUntold) {
        records
    } else if is_active(Mutant::TraceGapToldLate) {
        [records, gap].concat()
    } else {
        real::after_gap(gap, records)
    }
}
