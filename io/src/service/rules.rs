//! Rules: the service's decisions that a mutant bends, one pure function each. Nothing else in the service knows of mutants.

use sheratan_core::mutants::{self, Mutant};
use sheratan_core::outcome::Outcome;
use sheratan_core::time::Timestamp;

/// Whether a command that had this outcome is a record of the journal.
pub(crate) fn is_journaled(outcome: &Outcome) -> bool {
    let is_bent = || mutants::is_active(Mutant::RecordNotJournaled) && matches!(outcome, Outcome::Extended(_));
    outcome.is_durable() && !is_bent()
}

/// Whether a record must be made for what time alone ended: something ended after the last record.
pub(crate) fn must_record_time(ended_at: Timestamp, recorded_at: Timestamp) -> bool {
    ended_at > recorded_at && !mutants::is_active(Mutant::TimeNotRecorded)
}

/// Whether all that was done may be shown while the journal takes nothing.
pub(crate) fn may_show_all(durable_seq: u64, last_seq: u64, is_time_ahead: bool) -> bool {
    durable_seq == last_seq && !is_time_ahead || mutants::is_active(Mutant::UndurableShown)
}

/// Whether a request that waits for a job's end is answered.
pub(crate) fn is_wait_over(is_final: bool) -> bool {
    is_final && !mutants::is_active(Mutant::EndNotTold)
}

/// Whether an effect of the hub is counted.
pub(crate) fn is_counted() -> bool {
    !mutants::is_active(Mutant::EffectNotCounted)
}

/// The entries of a batch in the order in which they are carried out.
pub(crate) fn entries_in_order<T>(mut entries: Vec<T>) -> Vec<T> {
    if mutants::is_active(Mutant::BatchReversed) {
        entries.reverse();
    }
    entries
}

/// The lines of the audit log that those who listen are sent, of these lines.
pub(crate) fn lines_to_send(lines: &[u8]) -> impl Iterator<Item = &[u8]> {
    let is_bent = |line: &[u8]| {
        mutants::is_active(Mutant::LineNotTold) && crate::audit::seq_of(line).is_some_and(|seq| seq.is_multiple_of(4))
    };
    lines.split(|byte| *byte == b'\n').filter(move |line| !line.is_empty() && !is_bent(line))
}
