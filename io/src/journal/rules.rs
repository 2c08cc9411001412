//! Rules of the journal: what a start may trust of its end, and what a snapshot stands for.

use crate::journal::Tail;

/// Whether a start may append to the segment that the last one wrote to: only behind a whole batch.
pub(crate) fn may_resume(tail: &Tail) -> bool {
    *tail == Tail::Clean
}

/// The records that a start writes again before it appends: the last batch's. They may have been read from the system's
/// memory and never have reached the disk.
pub(crate) fn records_to_rewrite(last_batch: Option<(u64, Vec<u8>)>) -> Vec<u8> {
    last_batch.map_or_else(Vec::new, |(_, records)| records)
}

/// The last record in a state that takes `next_seq` next: so far goes a snapshot of it.
pub(crate) fn covered_seq(next_seq: u64) -> u64 {
    next_seq - 1
}
