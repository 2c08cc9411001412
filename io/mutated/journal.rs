//! The journal's rules, with mutants.

#[path = "../src/journal/rules.rs"]
mod real;

use crate::journal::Tail;
use sheratan_mutants::{Mutant, is_active};

pub(crate) fn may_resume(tail: &Tail) -> bool {
    real::may_resume(tail) || is_active(Mutant::TornTailIgnored) && matches!(tail, Tail::Torn(_))
}

pub(crate) fn records_to_rewrite(last_batch: Option<(u64, Vec<u8>)>) -> Vec<u8> {
    if is_active(Mutant::LastBatchNotRewritten) { Vec::new() } else { real::records_to_rewrite(last_batch) }
}

pub(crate) fn is_still_locked(is_at_path: bool) -> bool {
    real::is_still_locked(is_at_path) || is_active(Mutant::LostLockIgnored)
}

pub(crate) fn covered_seq(next_seq: u64) -> u64 {
    let covered_seq = real::covered_seq(next_seq);
    if is_active(Mutant::SnapshotCoversTooMuch) {
        covered_seq + 1
    } else if is_active(Mutant::SnapshotCoversTooLittle) {
        covered_seq.saturating_sub(1)
    } else {
        covered_seq
    }
}
