//! Answers as text: the outcome of a command, and effects, each on one line.

use crate::tokens;
use crate::values;
use crate::words::Printed;
use sheratan_core::integrity::stored::ResultIntegrity;
use sheratan_core::{
    Audit, Completed, CompletedStatus, Drift, Effect, Extended, FinalStatus, LeftOut, Outcome, Payload, Pulled,
    Refusal, Released, Submitted,
};

/// The separator of the parts of an answer.
const BETWEEN: &str = ", ";

/// The answer without parts.
pub(crate) const NOTHING: &str = "nothing";

/// The text of an outcome. A pull's node is not in it, since its line names the node.
pub fn print_outcome(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Done => "done".to_owned(),
        Outcome::Heard { node } => format!("node {}", node.get()),
        Outcome::Submitted(submitted) => print_submitted(submitted),
        Outcome::Pulled(pulled) => print_pulled(pulled),
        Outcome::Extended(leases) => join(leases.iter().map(|extended| match extended {
            Extended::Until { until, is_last } => {
                format!("until={}{}", values::instant(*until), if *is_last { " last" } else { "" })
            }
            Extended::LeaseLost => "lost".to_owned(),
            Extended::Cancelled => "cancelled".to_owned(),
            Extended::Revoked => "revoked".to_owned(),
        })),
        Outcome::Released(leases) => join(leases.iter().map(|released| match released {
            Released::Given => "given".to_owned(),
            Released::Acknowledged => "acknowledged".to_owned(),
            Released::LeaseLost => "lost".to_owned(),
        })),
        Outcome::KindSet { version } => format!("version {version}"),
        Outcome::ActBegun { act, matched } => format!("act {act} matched={matched}"),
        Outcome::Parked { orphan, is_duplicate } => {
            Printed::new("orphan").word(orphan).flag(*is_duplicate, "again").end()
        }
        Outcome::PolicyAdded { version, is_duplicate } => {
            Printed::new("policy").word(version).flag(*is_duplicate, "again").end()
        }
        Outcome::PolicyActivated { version, previous } => {
            Printed::new("active").word(version).option("previous", previous).end()
        }
        Outcome::Completed(completed) => print_completed(completed),
        Outcome::Reclaimed(jobs) => join(jobs.iter().map(|job| format!("{} reclaimed", job.get()))),
        Outcome::Refused(refusal) => print_refusal(refusal),
    }
}

/// The texts of effects, in their order.
pub fn print_effects(effects: &[Effect]) -> String {
    join(effects.iter().map(print_effect))
}

/// Parts of an answer on one line.
pub(crate) fn join(parts: impl Iterator<Item = String>) -> String {
    let parts: Vec<_> = parts.collect();
    if parts.is_empty() { NOTHING.to_owned() } else { parts.join(BETWEEN) }
}

fn print_submitted(submitted: &Submitted) -> String {
    match submitted {
        Submitted::Accepted { job, supersedes, replaces } => Printed::new(&job.get().to_string())
            .maybe("supersedes", supersedes, |job| job.get().to_string())
            .maybe("replaces", replaces, |job| job.get().to_string())
            .end(),
        Submitted::InProgress { job } => format!("in_progress {}", job.get()),
        Submitted::Final { job, status, result, error, integrity, left_out } => {
            let line = Printed::new("final").word(job.get()).word(status.as_str());
            let line = print_end(line, result, error, integrity);
            line.maybe("left_out", left_out, |left_out| match left_out {
                LeftOut::InJob => "in_job".to_owned(),
                LeftOut::Gone(Some(at)) => format!("gone@{}", values::instant(*at)),
                LeftOut::Gone(None) => "gone".to_owned(),
            })
            .end()
        }
    }
}

/// A job's result and error with their checksum, after its status.
pub(crate) fn print_end(
    line: Printed,
    result: &Option<Payload>,
    error: &Option<Payload>,
    integrity: &Option<ResultIntegrity>,
) -> Printed {
    let line = line.maybe("result", result, values::payload).maybe("error", error, values::payload);
    line.maybe("integrity", integrity, values::integrity)
}

fn print_pulled(pulled: &Pulled) -> String {
    let leases = join(
        pulled
            .leases
            .iter()
            .map(|leased| format!("{} until={}", values::lease(leased.lease), values::instant(leased.until))),
    );
    Printed::new(&leases)
        .unless(&sheratan_core::Millis::ZERO, "defer", &pulled.defer_ms, |ms| values::duration(*ms))
        .maybe("reason", &pulled.withheld, |withheld| withheld.as_str().to_owned())
        .end()
}

fn print_completed(completed: &Completed) -> String {
    let line = match completed.status {
        CompletedStatus::Final(status) => Printed::new(status.as_str()),
        CompletedStatus::RetryScheduled(at) => Printed::new("retry").option("at", values::instant(at)),
        CompletedStatus::Acknowledged => Printed::new("acknowledged"),
    };
    line.flag(completed.is_duplicate, "again").end()
}

fn print_refusal(refusal: &Refusal) -> String {
    let refused = |why: &str| Printed::new("refused").word(why);
    match refusal {
        Refusal::QueueFull { depth, depth_max } => {
            refused("queue_full").option("depth", depth).option("max", depth_max)
        }
        Refusal::QueueBytesFull { bytes, bytes_max, depth, over } => refused("queue_bytes_full")
            .option("bytes", bytes)
            .option("max", bytes_max)
            .option("depth", depth)
            .option("over", over),
        Refusal::JobTooLarge { bytes, bytes_max } => {
            refused("job_too_large").option("bytes", bytes).option("max", bytes_max)
        }
        Refusal::NodeTooLarge { bytes, bytes_max } => {
            refused("node_too_large").option("bytes", bytes).option("max", bytes_max)
        }
        Refusal::SharedBytesFull { bytes, bytes_max } => {
            refused("shared_bytes_full").option("bytes", bytes).option("max", bytes_max)
        }
        Refusal::ClassesFull { classes, zone, zone_classes } => refused("classes_full")
            .option("classes", classes)
            .option("zone", values::zone(zone))
            .option("zone_classes", zone_classes),
        Refusal::NodesFull { nodes, nodes_max } => {
            refused("nodes_full").option("nodes", nodes).option("max", nodes_max)
        }
        Refusal::NodeBytesFull { bytes, bytes_max } => {
            refused("node_bytes_full").option("bytes", bytes).option("max", bytes_max)
        }
        Refusal::KeysFull { keys, keys_max } => refused("keys_full").option("keys", keys).option("max", keys_max),
        Refusal::RulesNotTaken => refused("rules_not_taken"),
        Refusal::KeyCollision { job, old_hash_prefix } => {
            refused("key_collision").option("job", job.get()).option("old", values::hex(old_hash_prefix))
        }
        Refusal::UnknownJob => refused("unknown_job"),
        Refusal::LeaseLost => refused("lease_lost"),
        Refusal::AlreadyFinal { status } => refused("already_final").word(FinalStatus::as_str(*status)),
        Refusal::NotDead => refused("not_dead"),
        Refusal::KindChanged { version } => refused("kind_changed").option("version", version),
        Refusal::RuledKindsFull { kinds } => refused("ruled_kinds_full").option("kinds", kinds),
        Refusal::LetterBytesFull { bytes, bytes_max } => {
            refused("letter_bytes_full").option("bytes", bytes).option("max", bytes_max)
        }
        Refusal::LettersFull { letters, letters_max, kind } => {
            let refused = refused("letters_full").option("letters", letters).option("max", letters_max);
            refused.maybe("kind", kind, |kind| values::name(kind))
        }
        Refusal::TooManyLetters { matched, max } => {
            refused("too_many_letters").option("matched", matched).option("max", max)
        }
        Refusal::TooManyActs { running } => refused("too_many_acts").option("running", running),
        Refusal::UnknownAct => refused("unknown_act"),
        Refusal::ActEnded => refused("act_ended"),
        Refusal::UnknownOrphan => refused("unknown_orphan"),
        Refusal::Token(refusal) => refused(tokens::refusal(refusal)),
        Refusal::UnknownNode => refused("unknown_node"),
        Refusal::NeverAttested => refused("never_attested"),
        Refusal::AttestationChanged => refused("attestation_changed"),
        Refusal::SpoofSuspect => refused("spoof_suspect"),
        Refusal::PolicyDenied(denial) => {
            let refused = refused("policy_denied").option("policy", denial.version);
            refused.maybe("rule", &denial.rule, |rule| values::name(rule))
        }
        Refusal::PolicyMalformed(error) => refused("policy_malformed").option("at", values::name(&error.pointer)),
        Refusal::PolicyVersionExists { version, .. } => refused("policy_version_exists").option("version", version),
        Refusal::PolicyVersionTooLow { version, highest } => {
            refused("policy_version_too_low").option("version", version).option("highest", highest)
        }
        Refusal::PoliciesFull { policies, bytes } => {
            refused("policies_full").option("policies", policies).option("bytes", bytes)
        }
        Refusal::UnknownPolicy => refused("unknown_policy"),
        Refusal::PolicyNotActive { active } => refused("policy_not_active").option("active", active),
        Refusal::PolicyLocksOut => refused("policy_locks_out"),
        Refusal::NodeInUse { leases } => refused("node_in_use").option("leases", leases),
    }
    .end()
}

fn print_effect(effect: &Effect) -> String {
    match effect {
        Effect::Audit(at, audit) => {
            let (event, line) = print_audit(audit);
            format!("audit {event} at={}{line}", values::instant(*at))
        }
        Effect::Wake(waiter) => format!("wake {}", waiter.0),
        Effect::Ended { job, gone } => Printed::new("ended").word(job.get()).flag(gone.is_some(), "gone").end(),
    }
}

fn print_audit(audit: &Audit) -> (&'static str, String) {
    let line = Printed::new("");
    let (event, line) = match audit {
        Audit::BackpressureDrop { reason, held, max, queue_depth, count } => (
            "BACKPRESSURE_DROP",
            line.option("reason", reason.as_str())
                .option("held", held)
                .option("max", max)
                .option("depth", queue_depth)
                .unless(&1, "count", count, u64::to_string),
        ),
        Audit::InflightSaturated { node, inflight, max } => (
            "INFLIGHT_SATURATED",
            line.option("node", values::name(node)).option("inflight", inflight).option("max", max),
        ),
        Audit::InflightBytesSaturated { node, bytes, bytes_max } => (
            "INFLIGHT_SATURATED",
            line.option("node", values::name(node)).option("bytes", bytes).option("max", bytes_max),
        ),
        Audit::LeaseReap { job, node, attempt } => {
            ("LEASE_REAP", line.option("job", job.get()).option("node", values::name(node)).option("attempt", attempt))
        }
        Audit::RetryScheduled { job, attempt, delay_ms } => (
            "RETRY_SCHEDULED",
            line.option("job", job.get()).option("attempt", attempt).option("delay", values::duration(*delay_ms)),
        ),
        Audit::ResultUnleased { job, node } => {
            let line = line.option("job", job.get());
            ("RESULT_UNLEASED", node.iter().fold(line, |line, node| line.option("node", values::name(node))))
        }
        Audit::RetryExhausted { job, attempts } => {
            ("RETRY_EXHAUSTED", line.option("job", job.get()).option("attempts", attempts))
        }
        Audit::IdempotencyHit { job, ended, .. } => {
            ("IDEMPOTENCY_HIT", line.option("job", job.get()).flag(ended.is_some(), "final"))
        }
        Audit::IdempotencyKeyCollision { key, old_hash_prefix, new_hash_prefix } => (
            "IDEMPOTENCY_KEY_COLLISION",
            line.option("key", values::name(key))
                .option("old", values::hex(old_hash_prefix))
                .option("new", values::hex(new_hash_prefix)),
        ),
        Audit::DeadLetterAdded { job, kind, reason, attempts } => (
            "DLQ_ENQUEUE",
            line.option("job", job.get())
                .option("kind", values::name(kind))
                .option("reason", reason.as_str())
                .option("attempts", attempts),
        ),
        Audit::DeadLetterRequeued { job, kind, .. } => {
            ("DLQ_REQUEUE", line.option("job", job.get()).option("kind", values::name(kind)))
        }
        Audit::DeadLetterDiscarded { job, kind, .. } => {
            ("DLQ_DISCARD", line.option("job", job.get()).option("kind", values::name(kind)))
        }
        Audit::DeadLetterEvicted { job, kind, is_aged } => {
            ("DLQ_EVICT", line.option("job", job.get()).option("kind", values::name(kind)).flag(*is_aged, "aged"))
        }
        Audit::DeadLetterCompleted { job, kind } => {
            ("DLQ_COMPLETED", line.option("job", job.get()).option("kind", values::name(kind)))
        }
        Audit::ActBegan { act, what, matched, .. } => {
            ("DLQ_ACT_BEGAN", line.option("act", act).option("what", what.as_str()).option("matched", matched))
        }
        Audit::ActEnded { act, what, done, skipped, jobs, is_cancelled, .. } => (
            "DLQ_ACT_ENDED",
            line.option("act", act)
                .option("what", what.as_str())
                .option("done", done)
                .option("skipped", skipped)
                .maybe("jobs", jobs, |(first, last)| format!("{}..{}", first.get(), last.get()))
                .flag(*is_cancelled, "cancelled"),
        ),
        Audit::ResultOrphaned { orphan, job_id, node, evicted } => (
            "RESULT_ORPHANED",
            line.option("orphan", orphan)
                .option("id", values::name(job_id))
                .maybe("node", node, |name| values::name(name))
                .unless(&0, "evicted", evicted, u64::to_string),
        ),
        Audit::OrphanAdopted { orphan, job, .. } => {
            ("ORPHAN_ADOPTED", line.option("orphan", orphan).option("job", job.get()))
        }
        Audit::OrphanDiscarded { orphan, .. } => ("ORPHAN_DISCARDED", line.option("orphan", orphan)),
        Audit::OrphansEvicted { orphans } => ("ORPHANS_EVICTED", line.option("orphans", orphans)),
        Audit::JobCancelled { job, .. } => ("JOB_CANCELLED", line.option("job", job.get())),
        Audit::WeightsChanged { groups, .. } => ("ADMIN_WEIGHTS_CHANGED", line.option("groups", groups)),
        Audit::KindChanged { kind, version, .. } => {
            ("ADMIN_KIND_CHANGED", line.option("kind", values::name(kind)).option("version", version))
        }
        Audit::KindResumed { kind } => ("KIND_RESUMED", line.option("kind", values::name(kind))),
        Audit::NodeDrained { node, .. } => ("NODE_DRAINED", line.option("node", values::name(node))),
        Audit::NodeResumed { node, .. } => ("NODE_RESUMED", line.option("node", values::name(node))),
        Audit::NodeRemoved { node, .. } => ("NODE_REMOVED", line.option("node", values::name(node))),
        Audit::AttestationFirstSeen { node, build_id, capability_hash } => (
            "ATTESTATION_FIRST_SEEN",
            line.option("node", values::name(node)).maybe("build", build_id, |name| values::name(name)).maybe(
                "cap",
                capability_hash,
                |name| values::name(name),
            ),
        ),
        Audit::AttestationDrift { node, drift } => {
            ("ATTESTATION_DRIFT", print_drift(line.option("node", values::name(node)), drift))
        }
        Audit::AttestationAccepted { node, drift, .. } => {
            ("ATTESTATION_ACCEPTED", print_drift(line.option("node", values::name(node)), drift))
        }
        Audit::AttestationSpoofSuspect { node, flips } => {
            ("ATTESTATION_SPOOF_SUSPECT", line.option("node", values::name(node)).option("flips", flips))
        }
        Audit::AttestationRestored { node } => ("ATTESTATION_RESTORED", line.option("node", values::name(node))),
        Audit::AttestationMissing { node } => ("ATTESTATION_MISSING", line.option("node", values::name(node))),
        Audit::IdentityPinned { node, key } => {
            ("IDENTITY_PINNED", line.option("node", values::name(node)).option("key", values::key(key)))
        }
        Audit::IdentityFault { node, key, status, is_replayed } => (
            "IDENTITY_FAULT",
            line.option("node", values::name(node))
                .maybe("key", key, values::key)
                .option("status", status.as_str())
                .flag(*is_replayed, "replayed"),
        ),
        Audit::IdentityRekeyed { node, key, .. } => {
            ("IDENTITY_REKEYED", line.option("node", values::name(node)).maybe("key", key, values::key))
        }
        Audit::NodeWarned { node, reason, .. } => {
            ("POLICY_WARN", line.option("node", values::name(node)).option("reason", reason.as_str()))
        }
        Audit::NodeQuarantined { node, reason, until, note, .. } => (
            "POLICY_QUARANTINED",
            line.option("node", values::name(node))
                .option("reason", reason.as_str())
                .maybe("until", until, |at| values::instant(*at))
                .maybe("note", note, |name| values::name(name)),
        ),
        Audit::NodeNormal { node, .. } => ("POLICY_NORMAL", line.option("node", values::name(node))),
        Audit::NodeCleared { node, .. } => ("POLICY_CLEARED_MANUAL", line.option("node", values::name(node))),
        Audit::TokenChanged { change, .. } => tokens::change(line, change),
        Audit::PolicyAdded { version, .. } => ("POLICY_ADDED", line.option("version", version)),
        Audit::PolicyActivated { version, previous, .. } => {
            ("POLICY_ACTIVATED", line.option("version", version).option("previous", previous))
        }
        Audit::PolicyTampered { version, .. } => ("POLICY_TAMPERED", line.option("version", version)),
        Audit::NodeRegistered { node } => ("NODE_REGISTERED", line.option("node", values::name(node))),
        Audit::NodeOnline { node } => ("NODE_ONLINE", line.option("node", values::name(node))),
        Audit::NodeStale { node } => ("NODE_STALE", line.option("node", values::name(node))),
        Audit::NodeDead { node } => ("NODE_DEAD", line.option("node", values::name(node))),
    };
    (event, line.end())
}

fn print_drift(line: Printed, drift: &Drift) -> Printed {
    line.maybe("old_build", &drift.old_build, |name| values::name(name))
        .maybe("new_build", &drift.new_build, |name| values::name(name))
        .maybe("old_cap", &drift.old_capability_hash, |name| values::name(name))
        .maybe("new_cap", &drift.new_capability_hash, |name| values::name(name))
}
