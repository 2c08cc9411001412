//! Audit events of the hub: their names and details in the audit log.

use crate::object::Object;
use crate::redact::Redactor;
use crate::service::{kind_rules, letter_filter, nodes};
use sheratan_core::{
    Audit, Calendar, Drift, FinalStatus, IdentityStatus, Ids, JobSeq, Name, Principal, PublicKey, TokenChange,
    TokenRotation, Utc,
};

/// Characters of an idempotency key in the audit log.
const KEY_PREFIX_CHARS: usize = 8;

/// The characters of a capability hash that are shown.
const CAPABILITY_PREFIX_CHARS: usize = 8;

/// Writes the details of an event; returns its name.
pub fn write_details(
    out: &mut Object,
    (at, calendar): (Utc, Calendar),
    ids: &Ids,
    redactor: &Redactor,
    audit: &Audit,
) -> &'static str {
    match audit {
        Audit::BackpressureDrop { reason, held, max, queue_depth, count: _ } => {
            out.number("queue_depth", *queue_depth).number("max", *max).plain("reason", reason.as_str());
            out.number("held", *held);
            "BACKPRESSURE_DROP"
        }
        Audit::InflightBytesSaturated { node, bytes, bytes_max } => {
            out.text("node_id", node).number("inflight_bytes", *bytes).number("max", *bytes_max);
            "INFLIGHT_SATURATED"
        }
        Audit::InflightSaturated { node, inflight, max } => {
            out.text("node_id", node).number("inflight", *inflight).number("max", *max);
            "INFLIGHT_SATURATED"
        }
        Audit::LeaseReap { job, node, attempt } => {
            out.plain("job_id", ids.job_id(*job)).text("node_id", node).number("attempt", u64::from(*attempt));
            "LEASE_REAP"
        }
        Audit::RetryScheduled { job, attempt, delay_ms } => {
            out.plain("job_id", ids.job_id(*job)).number("attempt", u64::from(*attempt));
            out.number("delay_ms", delay_ms.get()).time("next_retry_utc", at + *delay_ms);
            "RETRY_SCHEDULED"
        }
        Audit::ResultUnleased { job, node } => {
            out.plain("job_id", ids.job_id(*job));
            match node {
                Some(node) => out.text("node_id", node),
                None => out.raw("node_id", b"null"),
            };
            "RESULT_UNLEASED"
        }
        Audit::RetryExhausted { job, attempts } => {
            out.plain("job_id", ids.job_id(*job)).number("attempts", u64::from(*attempts));
            "RETRY_EXHAUSTED"
        }
        Audit::IdempotencyHit { job, key, ended } => {
            out.plain("job_id", ids.job_id(*job)).text("key_prefix", key_prefix(redactor, key));
            out.plain("status", submit_status(*ended)).flag("is_final", ended.is_some());
            "IDEMPOTENCY_HIT"
        }
        Audit::IdempotencyKeyCollision { key, old_hash_prefix, new_hash_prefix } => {
            out.text("key_prefix", key_prefix(redactor, key)).plain("old_hash_prefix", hex::encode(old_hash_prefix));
            out.plain("new_hash_prefix", hex::encode(new_hash_prefix));
            "IDEMPOTENCY_KEY_COLLISION"
        }
        Audit::DeadLetterAdded { job, kind, reason, attempts } => {
            letter(out, ids, *job, kind).plain("reason", reason.as_str()).number("attempts", u64::from(*attempts));
            "DLQ_ENQUEUE"
        }
        Audit::DeadLetterRequeued { job, kind, by } => {
            letter(out, ids, *job, kind).plain("by", by.as_str());
            "DLQ_REQUEUE"
        }
        Audit::DeadLetterDiscarded { job, kind, by } => {
            letter(out, ids, *job, kind).plain("by", by.as_str());
            "DLQ_DISCARD"
        }
        Audit::DeadLetterEvicted { job, kind, is_aged } => {
            letter(out, ids, *job, kind).plain("reason", if *is_aged { "age" } else { "room" });
            "DLQ_EVICT"
        }
        Audit::DeadLetterCompleted { job, kind } => {
            letter(out, ids, *job, kind);
            "DLQ_COMPLETED"
        }
        Audit::ActBegan { act, what, filter, matched, by } => {
            out.number("act_id", (*act).into()).plain("act", what.as_str()).number("matched", *matched);
            out.object("filter", |out| letter_filter::write(out, filter, calendar)).plain("by", by.as_str());
            "DLQ_ACT_BEGAN"
        }
        Audit::ActEnded { act, what, filter, done, skipped, jobs, is_cancelled, by } => {
            out.number("act_id", (*act).into()).plain("act", what.as_str()).number("done", *done);
            out.number("skipped", *skipped).flag("cancelled", *is_cancelled);
            out.object("filter", |out| letter_filter::write(out, filter, calendar)).plain("by", by.as_str());
            if let Some((first, last)) = jobs {
                out.plain("first_job_id", ids.job_id(*first)).plain("last_job_id", ids.job_id(*last));
            }
            "DLQ_ACT_ENDED"
        }
        Audit::ResultOrphaned { orphan, job_id, node, evicted } => {
            out.text("job_id", redacted(redactor, job_id));
            match node {
                Some(node) => out.text("node_id", node),
                None => out.raw("node_id", b"null"),
            };
            out.number("orphan_id", *orphan).number("evicted", *evicted);
            "RESULT_ORPHANED"
        }
        Audit::OrphansEvicted { orphans } => {
            out.number("evicted", *orphans);
            "ORPHANS_EVICTED"
        }
        Audit::OrphanAdopted { orphan, job, node, by } => {
            out.number("orphan_id", *orphan).plain("job_id", ids.job_id(*job)).plain("by", by.as_str());
            if let Some(node) = node {
                out.text("node_id", node);
            }
            "ORPHAN_ADOPTED"
        }
        Audit::OrphanDiscarded { orphan, by } => {
            out.number("orphan_id", *orphan).plain("by", by.as_str());
            "ORPHAN_DISCARDED"
        }
        Audit::JobCancelled { job, by } => {
            out.plain("job_id", ids.job_id(*job)).plain("by", by.as_str());
            "JOB_CANCELLED"
        }
        Audit::WeightsChanged { groups, by } => {
            out.number("groups", *groups).plain("by", by.as_str());
            "ADMIN_WEIGHTS_CHANGED"
        }
        Audit::KindChanged { kind, version, rules, by } => {
            out.text("kind", kind).number("version", *version).plain("by", by.as_str());
            for (key, rules) in [("old", &rules.0), ("new", &rules.1)] {
                out.object(key, |out| {
                    kind_rules::write_pause(out, rules, calendar);
                    kind_rules::write(out, rules);
                });
            }
            "ADMIN_KIND_CHANGED"
        }
        Audit::KindResumed { kind } => {
            out.text("kind", kind);
            "KIND_RESUMED"
        }
        Audit::NodeDrained { node, until, reason, by } => {
            if let Some(reason) = reason {
                out.text("reason", reason);
            }
            if let Some(until) = until {
                out.time("deadline_utc", calendar.utc(*until));
            }
            by_operator(out, node, *by, "NODE_DRAINED")
        }
        Audit::NodeResumed { node, by } => by_operator(out, node, *by, "NODE_RESUMED"),
        Audit::NodeRemoved { node, by } => by_operator(out, node, *by, "NODE_REMOVED"),
        Audit::AttestationFirstSeen { node, build_id, capability_hash } => {
            of_host(out, node);
            out.text_or_null("build", build_id.as_deref());
            out.text_or_null("cap_prefix", capability_hash.as_deref().map(prefix));
            "ATTESTATION_FIRST_SEEN"
        }
        Audit::AttestationDrift { node, drift } => {
            of_host(out, node);
            write_drift(out, drift);
            "ATTESTATION_DRIFT"
        }
        Audit::AttestationSpoofSuspect { node, flips } => {
            of_host(out, node).number("spoof_count", u64::from(*flips));
            "ATTESTATION_SPOOF_SUSPECT"
        }
        Audit::AttestationRestored { node } => {
            of_host(out, node);
            "ATTESTATION_RESTORED"
        }
        Audit::AttestationMissing { node } => {
            of_host(out, node);
            "ATTESTATION_MISSING"
        }
        Audit::AttestationAccepted { node, drift, by } => {
            of_host(out, node);
            write_drift(out, drift);
            out.plain("by", by.as_str());
            "ATTESTATION_ACCEPTED"
        }
        Audit::IdentityPinned { node, key } => {
            write_identity(out, node, Some(key), IdentityStatus::Valid);
            "IDENTITY_PINNED"
        }
        Audit::IdentityFault { node, key, status, is_replayed } => {
            write_identity(out, node, key.as_ref(), *status);
            if *is_replayed {
                out.plain("reason", "replayed");
            }
            match status {
                IdentityStatus::KeyMismatch => "IDENTITY_KEY_MISMATCH",
                IdentityStatus::MissingSignature | IdentityStatus::MissingIdentity => "IDENTITY_MISSING",
                _ => "IDENTITY_INVALID_SIGNATURE",
            }
        }
        Audit::IdentityRekeyed { node, key, status, by } => {
            write_identity(out, node, key.as_ref(), *status);
            out.plain("by", by.as_str());
            "IDENTITY_REKEYED"
        }
        Audit::NodeWarned { node, reason, attestation } => {
            of_host(out, node).plain("reason", reason.as_str()).plain("attestation", attestation.as_str());
            "POLICY_WARN"
        }
        Audit::NodeQuarantined { node, reason, attestation, until, note, by } => {
            of_host(out, node).plain("reason", reason.as_str()).plain("attestation", attestation.as_str());
            if let Some(until) = until {
                out.time("until_utc", calendar.utc(*until));
            }
            if let Some(note) = note {
                out.text("note", note);
            }
            out.plain("by", by.as_str());
            "POLICY_QUARANTINED"
        }
        Audit::NodeNormal { node, attestation } => {
            of_host(out, node).plain("attestation", attestation.as_str());
            "POLICY_NORMAL"
        }
        Audit::NodeCleared { node, by } => {
            of_host(out, node).plain("by", by.as_str());
            "POLICY_CLEARED_MANUAL"
        }
        Audit::TokenChanged { change, by } => {
            let of_rotation = |out: &mut Object, rotation: &TokenRotation| {
                out.plain("next", rotation.next).time("until_utc", rotation.until);
            };
            let event = match change {
                TokenChange::Replaced { active } => {
                    out.plain("active", active);
                    "TOKEN_REPLACED"
                }
                TokenChange::Begun(rotation) => {
                    of_rotation(out, rotation);
                    "TOKEN_ROTATION_BEGUN"
                }
                TokenChange::Moved(rotation) => {
                    of_rotation(out, rotation);
                    "TOKEN_ROTATION_MOVED"
                }
                TokenChange::Aborted(rotation) => {
                    of_rotation(out, rotation);
                    "TOKEN_ROTATION_ABORTED"
                }
                TokenChange::Finalized { active, retired } => {
                    out.plain("active", active).plain("retired", retired);
                    "TOKEN_ROTATION_FINALIZED"
                }
            };
            out.plain("by", by.as_str());
            event
        }
        Audit::PolicyAdded { version, sha256, by } => {
            out.number("version", *version).plain("sha256", hex::encode(sha256)).plain("by", by.as_str());
            "POLICY_ADDED"
        }
        Audit::PolicyActivated { version, sha256, previous, by } => {
            out.number("version", *version).plain("sha256", hex::encode(sha256));
            out.number("previous", *previous).plain("by", by.as_str());
            "POLICY_ACTIVATED"
        }
        Audit::PolicyTampered { version, sha256, by } => {
            out.number("version", *version).plain("sha256_held", hex::encode(sha256)).plain("by", by.as_str());
            "POLICY_TAMPERED"
        }
        Audit::NodeRegistered { node } => about(out, node, "NODE_REGISTERED"),
        Audit::NodeOnline { node } => about(out, node, "NODE_ONLINE"),
        Audit::NodeStale { node } => about(out, node, "NODE_STALE"),
        Audit::NodeDead { node } => about(out, node, "NODE_DEAD"),
    }
}

/// The status of the answer to a submit that repeats one whose job ended so.
pub const fn submit_status(ended: Option<FinalStatus>) -> &'static str {
    match ended {
        None => "in_progress",
        Some(FinalStatus::Completed) => "completed",
        Some(_) => "failed",
    }
}

/// A text that a client chose, or `redacted` if it holds a secret.
fn redacted<'a>(redactor: &Redactor, text: &'a str) -> &'a str {
    if redactor.contains(text.as_bytes()) { "redacted" } else { text }
}

/// The beginning of an idempotency key, or `redacted` if the key holds a secret or begins like one.
fn key_prefix<'a>(redactor: &Redactor, key: &'a str) -> &'a str {
    let end = key.char_indices().nth(KEY_PREFIX_CHARS).map_or(key.len(), |(at, _)| at);
    let prefix = &key[..end];
    let is_secret = redactor.contains(key.as_bytes()) || redactor.is_part(prefix.as_bytes());
    if is_secret { "redacted" } else { prefix }
}

fn letter<'a, 'b>(out: &'a mut Object<'b>, ids: &Ids, job: JobSeq, kind: &Name) -> &'a mut Object<'b> {
    out.plain("job_id", ids.job_id(job)).text("kind", kind)
}

/// A node under both names that readers know.
fn of_host<'a, 'b>(out: &'a mut Object<'b>, node: &Name) -> &'a mut Object<'b> {
    out.text("node_id", node).text("host_id", node)
}

fn write_identity(out: &mut Object, node: &Name, key: Option<&PublicKey>, status: IdentityStatus) {
    let key = key.map(nodes::key_prefix);
    of_host(out, node).text_or_null("key_prefix", key.as_deref()).plain("status", status.as_str());
}

fn write_drift(out: &mut Object, drift: &Drift) {
    out.text_or_null("old_build", drift.old_build.as_deref());
    out.text_or_null("new_build", drift.new_build.as_deref());
    out.text_or_null("old_cap", drift.old_capability_hash.as_deref().map(prefix));
    out.text_or_null("new_cap", drift.new_capability_hash.as_deref().map(prefix));
}

/// The beginning of a capability hash.
fn prefix(hash: &str) -> &str {
    let end = hash.char_indices().nth(CAPABILITY_PREFIX_CHARS).map_or(hash.len(), |(at, _)| at);
    &hash[..end]
}

fn by_operator(out: &mut Object, node: &Name, by: Principal, event: &'static str) -> &'static str {
    out.text("node_id", node).plain("by", by.as_str());
    event
}

fn about(out: &mut Object, node: &Name, event: &'static str) -> &'static str {
    out.text("node_id", node);
    event
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Secret;

    #[test]
    fn the_beginning_of_a_key_is_shown_unless_it_may_be_part_of_a_secret() {
        let redactor = Redactor::new(&[&Secret::new(*b"correct-horse")]);
        for (key, prefix) in [
            ("", ""),
            ("order-1", "order-1"),
            ("order-12345", "order-12"),
            ("äöüßäöüßä", "äöüßäöüß"),
            ("correct", "correct"),
            ("correct-", "redacted"),
            ("correct-house", "redacted"),
            ("order of correct-horse", "redacted"),
            ("order of correct%2Dhorse", "redacted"),
        ] {
            assert_eq!(key_prefix(&redactor, key), prefix, "{key}");
        }
    }
}
