//! Rules: decisions of the service, one pure function each.

use crate::http::Reply;
use crate::service::Answer;
use crate::service::kind_rules;
use sheratan_core::integrity::checksum::{self, Claimed, Failure, Mode, Verified};
use sheratan_core::integrity::json::Value;
use sheratan_core::{Audit, Calendar, KindRules, Outcome, Salt, Timestamp};

/// Whether a command that had this outcome is a record of the journal.
pub(crate) fn is_journaled(outcome: &Outcome) -> bool {
    outcome.is_durable()
}

/// Whether a record must be made for jobs and leases that expired by time alone: the latest did so after the last
/// record.
pub(crate) fn must_record_time(ended_at: Timestamp, recorded_at: Timestamp) -> bool {
    ended_at > recorded_at
}

/// Whether the whole state may be shown while the journal cannot be written.
pub(crate) fn may_show_all(durable_seq: u64, last_seq: u64, is_time_ahead: bool) -> bool {
    durable_seq == last_seq && !is_time_ahead
}

/// The salt of the ids that a start gives.
pub(crate) fn salt_of_start(random: Salt) -> Salt {
    random
}

/// Whether a request that waits for a job's end is to be answered.
pub(crate) fn is_wait_over(is_final: bool) -> bool {
    is_final
}

/// The entries of a batch in the order in which they are applied.
pub(crate) fn entries_in_order<T>(entries: Vec<T>) -> Vec<T> {
    entries
}

/// Whether a result is as its checksum and signature say.
pub(crate) fn verify_result(
    mode: Mode,
    keys: &[&[u8]],
    claimed: &Claimed,
    error: Option<Value>,
    job_id: &str,
    ok: bool,
    result: Option<Value>,
) -> Result<Verified, Failure> {
    checksum::verify_result(mode, keys, claimed, error, job_id, ok, result)
}

/// Whether a line of the audit log is sent to event streams.
pub(crate) fn is_sent(line: &[u8]) -> bool {
    !line.is_empty()
}

/// How the reply to an operator's act is sent: when the act's record is durable.
pub(crate) fn acknowledgement(reply: Reply) -> Answer {
    Answer::Reply(reply)
}

/// What the audit log is told of an event of the hub.
pub(crate) fn told_to_log(audit: &Audit) -> Option<&Audit> {
    Some(audit)
}

/// Whether the configuration says something else of a kind than at the last start.
pub(crate) fn is_reconfigured(before: &KindRules, after: &KindRules) -> bool {
    before != after
}

/// The rules of a kind of which the configuration says `after`, and said `before` at the last start.
pub(crate) fn reconfigured(
    rules: &KindRules,
    change: (&KindRules, &KindRules),
    clock: (Timestamp, Calendar),
) -> KindRules {
    kind_rules::merged(rules, change, clock)
}
