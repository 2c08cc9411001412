//! Rules: the service's decisions that a mutant bends, one pure function each. Nothing else in the service knows of mutants.

use sheratan_core::mutants::{self, Mutant};

/// Whether a command becomes a record of the journal. `is_first` says that the batch has no record yet.
pub fn is_journaled(has_changed: bool, is_first: bool) -> bool {
    has_changed && (is_first || !mutants::is_active(Mutant::RecordNotJournaled))
}

/// Whether a record is made for what time alone ended, given whether something ended after the last record.
pub fn is_time_recorded(is_time_ahead: bool) -> bool {
    is_time_ahead && !mutants::is_active(Mutant::TimeNotRecorded)
}

/// Whether the hub's state is shown while the journal takes nothing, given whether all of it is durable.
pub fn is_shown(is_durable: bool) -> bool {
    is_durable || mutants::is_active(Mutant::UndurableShown)
}

/// Whether a request that waits for a job's end is answered.
pub fn is_wait_over(is_final: bool) -> bool {
    is_final && !mutants::is_active(Mutant::EndNotTold)
}

/// Whether an effect of the hub is counted.
pub fn is_counted() -> bool {
    !mutants::is_active(Mutant::EffectNotCounted)
}

/// The entries of a batch in the order in which they are carried out.
pub fn entries_in_order<T>(mut entries: Vec<T>) -> Vec<T> {
    if mutants::is_active(Mutant::BatchReversed) {
        entries.reverse();
    }
    entries
}

/// Whether the audit log's line of this sequence number is sent to those who listen.
pub fn is_line_sent(seq: Option<u64>) -> bool {
    !(seq.is_some_and(|seq| seq.is_multiple_of(4)) && mutants::is_active(Mutant::LineNotTold))
}
