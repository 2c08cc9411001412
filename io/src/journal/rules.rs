//! Rules of the journal: how a start treats its end, and which records a snapshot covers.

use crate::journal::Tail;

/// Whether a start may append to the last run's segment: only after a complete batch.
pub(crate) fn may_resume(tail: &Tail) -> bool {
    *tail == Tail::Clean
}

/// The records that a start writes again before it appends: those of the last batch, which may have been read from the
/// system's cache without having reached the disk.
pub(crate) fn records_to_rewrite(last_batch: Option<(u64, Vec<u8>)>) -> Vec<u8> {
    last_batch.map_or_else(Vec::new, |(_, records)| records)
}

/// Whether a lock still excludes others: its file is the one that its path leads to.
pub(crate) fn is_still_locked(is_at_path: bool) -> bool {
    is_at_path
}

/// The last record in a state whose next record is `next_seq`, which a snapshot of it covers.
pub(crate) fn covered_seq(next_seq: u64) -> u64 {
    next_seq - 1
}
