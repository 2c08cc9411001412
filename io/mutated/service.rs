//! The service's rules, with mutants.

#[path = "../src/service/rules.rs"]
mod real;

use crate::audit;
use crate::http::Reply;
use crate::service::Answer;
use crate::service::kind_rules;
use sheratan_core::integrity::checksum::{self, Claimed, Failure, Mode, Verified};
use sheratan_core::integrity::json::Value;
use sheratan_core::integrity::stored::{Origin, ResultIntegrity};
use sheratan_core::{Audit, Calendar, KindRules, Outcome, Salt, Timestamp};
use sheratan_mutants::{Mutant, is_active};

pub(crate) fn is_journaled(outcome: &Outcome) -> bool {
    let is_forgotten = is_active(Mutant::RecordNotJournaled) && matches!(outcome, Outcome::Extended(_));
    real::is_journaled(outcome) && !is_forgotten
}

pub(crate) fn must_record_time(ended_at: Timestamp, recorded_at: Timestamp) -> bool {
    real::must_record_time(ended_at, recorded_at) && !is_active(Mutant::TimeNotRecorded)
}

pub(crate) fn may_show_all(durable_seq: u64, last_seq: u64, is_time_ahead: bool) -> bool {
    real::may_show_all(durable_seq, last_seq, is_time_ahead) || is_active(Mutant::UndurableShown)
}

pub(crate) fn salt_of_start(random: Salt) -> Salt {
    if is_active(Mutant::SaltRepeated) { Salt::new([0; 8]) } else { real::salt_of_start(random) }
}

pub(crate) fn is_wait_over(is_final: bool) -> bool {
    real::is_wait_over(is_final) && !is_active(Mutant::EndNotTold)
}

pub(crate) fn entries_in_order<T>(entries: Vec<T>) -> Vec<T> {
    let mut entries = real::entries_in_order(entries);
    if is_active(Mutant::BatchReversed) {
        entries.reverse();
    }
    entries
}

pub(crate) fn verify_result(
    mode: Mode,
    keys: &[&[u8]],
    claimed: &Claimed,
    error: Option<Value>,
    job_id: &str,
    ok: bool,
    result: Option<Value>,
) -> Result<Verified, Failure> {
    let verified = real::verify_result(mode, keys, claimed, error, job_id, ok, result);
    if is_active(Mutant::IntegrityNotChecked) {
        // Whatever came is stored as if it had been right.
        let sha256 = checksum::result_sha256(error, job_id, ok, result);
        let integrity = ResultIntegrity { origin: Origin::Worker, sha256 };
        return Ok(Verified { sha256, integrity, signed_with: None });
    }
    verified
}

pub(crate) fn is_sent(line: &[u8]) -> bool {
    let is_fourth = || audit::seq_of(line).is_some_and(|seq| seq.is_multiple_of(4));
    real::is_sent(line) && !(is_active(Mutant::LineNotTold) && is_fourth())
}

pub(crate) fn acknowledgement(reply: Reply) -> Answer {
    if is_active(Mutant::ActNotHeld) { Answer::Now(reply) } else { real::acknowledgement(reply) }
}

pub(crate) fn told_to_log(audit: &Audit) -> Option<&Audit> {
    let forgotten = match audit {
        Audit::JobCancelled { .. } => Mutant::CancelNotLogged,
        Audit::NodeDrained { .. } => Mutant::DrainNotLogged,
        Audit::KindChanged { .. } => Mutant::KindNotLogged,
        Audit::WeightsChanged { .. } => Mutant::WeightsNotLogged,
        Audit::DeadLetterEvicted { .. } => Mutant::EvictionNotLogged,
        Audit::ActEnded { .. } => Mutant::ActEndNotLogged,
        _ => return real::told_to_log(audit),
    };
    real::told_to_log(audit).filter(|_| !is_active(forgotten))
}

pub(crate) fn is_reconfigured(before: &KindRules, after: &KindRules) -> bool {
    real::is_reconfigured(before, after) || is_active(Mutant::KindConfiguredAgain)
}

pub(crate) fn reconfigured(
    rules: &KindRules,
    change: (&KindRules, &KindRules),
    clock: (Timestamp, Calendar),
) -> KindRules {
    if is_active(Mutant::KindSetAnew) {
        // All that the configuration says, whatever operators have set since.
        return kind_rules::merged(rules, (&KindRules::NONE, change.1), clock);
    }
    real::reconfigured(rules, change, clock)
}
