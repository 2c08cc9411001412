//! What the hub says: outcomes and records as the wire contract spells them.

use super::problem::Problem;
use crate::object::{Object, object, write_text};
use crate::redact::Redactor;
use sheratan_core::effect::Audit;
use sheratan_core::hub::Hub;
use sheratan_core::ids::{HubKey, JobSeq};
use sheratan_core::name::Name;
use sheratan_core::outcome::{Completed, CompletedStatus, Extended, FinalStatus, Leased, Pulled, Submitted};
use sheratan_core::payload::Payload;
use sheratan_core::queue::job::{AttemptEnd, Job, State};
use sheratan_core::queue::lane::ZONE_DEFAULT;
use sheratan_core::registry::node::Node;
use sheratan_core::time::{Millis, Timestamp};

/// Characters of an idempotency key that the audit log is told.
const KEY_PREFIX_CHARS: usize = 8;

/// The members of a submit's answer.
pub fn submitted(out: &mut Object, key: &HubKey, submitted: &Submitted) {
    let ids = |out: &mut Object, job: JobSeq, is_repeat: bool| {
        out.flag("ok", true).plain("request_id", key.request_id(job)).plain("job_id", key.job_id(job));
        out.flag("dedup", is_repeat);
    };
    match submitted {
        Submitted::Accepted { job, supersedes, replaces } => {
            ids(out, *job, false);
            out.plain("status", "accepted");
            for (member, older) in [("supersedes", supersedes), ("replaces", replaces)] {
                if let Some(older) = older {
                    out.plain(member, key.job_id(*older));
                }
            }
        }
        Submitted::InProgress { job } => {
            ids(out, *job, true);
            out.plain("status", "in_progress");
        }
        Submitted::Final { job, status, result, error } => {
            ids(out, *job, true);
            let is_completed = *status == FinalStatus::Completed;
            out.plain("status", if is_completed { "completed" } else { "failed" });
            out.plain("job_status", status.as_str());
            match (is_completed, result.is_empty()) {
                (true, true) => _ = out.plain("result_ref", format_args!("/mesh/jobs/{}", key.job_id(*job))),
                _ => _ = out.raw("result", result.as_json()),
            }
            if !is_completed {
                out.raw("job_error", error.as_json());
            }
        }
    }
}

/// The members of a pull's answer that come after what is known already.
pub fn pulled(out: &mut Object, hub: &Hub, pulled: &Pulled) {
    out.array("jobs", &pulled.leases, |out, lease| leased(out, hub, lease));
    out.number("defer_ms", pulled.defer_ms.get());
}

/// A pull's answer when no job came in time.
pub fn pulled_nothing(out: &mut Object) {
    out.raw("jobs", b"[]").number("defer_ms", 0);
}

fn leased(out: &mut Vec<u8>, hub: &Hub, leased: &Leased) {
    let job = hub.queue().get(leased.lease.job).expect("a job that was just leased is known");
    let key = hub.key();
    object(out, |out| {
        out.plain("job_id", key.job_id(job.seq())).plain("request_id", key.request_id(job.seq()));
        out.text("kind", job.kind()).raw("params", job.params().as_json());
        out.number("attempt", u64::from(leased.lease.generation)).plain("lease_id", key.lease_id(leased.lease));
        out.time("lease_until_utc", leased.until).plain("priority", job.priority().as_str());
    });
}

/// One entry of an extension's answer.
pub fn extended(out: &mut Vec<u8>, lease_id: &str, extended: Extended) {
    object(out, |out| {
        out.text("lease_id", lease_id);
        match extended {
            Extended::Until(until) => out.flag("ok", true).time("lease_until_utc", until),
            Extended::LeaseLost => out.flag("ok", false).plain("error", "lease_lost"),
        };
    });
}

/// The members of a result's answer.
pub fn completed(out: &mut Object, key: &HubKey, completed: &Completed) {
    out.flag("ok", true).plain("job_id", key.job_id(completed.job));
    match completed.status {
        CompletedStatus::Final(status) => _ = out.plain("status", status.as_str()),
        CompletedStatus::RetryScheduled(at) => {
            out.plain("status", "retry_scheduled").time("next_attempt_utc", at);
        }
    }
    if completed.is_duplicate {
        out.flag("duplicate", true);
    }
}

/// An entry of a batch that was refused.
pub fn refused_entry(out: &mut Object, problem: &Problem) {
    out.flag("ok", false).plain("error", problem.code).text("detail", &problem.detail);
    out.number("status_code", u64::from(problem.status));
    if let Some(wait) = problem.retry_after_ms {
        out.number("retry_after_ms", wait.get());
    }
}

/// A job with its attempts and, if `is_whole`, its payloads.
pub fn job(out: &mut Vec<u8>, key: &HubKey, job: &Job, is_whole: bool) {
    object(out, |out| {
        out.plain("job_id", key.job_id(job.seq())).plain("request_id", key.request_id(job.seq()));
        out.text("kind", job.kind()).plain("status", job.status()).plain("priority", job.priority().as_str());
        out.text("zone", job.class().zone_name());
        out.array("requires", &job.class().requires, |out, name: &Name| write_text(out, name));
        out.time("submitted_utc", job.submitted_at());
        if job.expires_at() != Timestamp::NEVER {
            out.time("expires_utc", job.expires_at());
        }
        out.number("attempts_max", u64::from(job.attempts_max()));
        out.number("attempt", job.attempts().len() as u64);
        if let Some(node) = job.leased_to() {
            out.text("node_id", node);
        }
        state(out, job.state(), is_whole);
        if is_whole {
            out.raw("params", job.params().as_json());
            attempts(out, job);
        }
    });
}

fn state(out: &mut Object, state: &State, is_whole: bool) {
    match state {
        State::Scheduled { due_at } => _ = out.time("run_at_utc", *due_at),
        State::Queued { since } => _ = out.time("queued_utc", *since),
        State::Leased { until, .. } => _ = out.time("lease_until_utc", *until),
        State::Final { at, result, error, .. } => {
            out.time("final_utc", *at);
            if is_whole {
                out.raw("result", result.as_json()).raw("error", error.as_json());
            }
        }
    }
}

fn attempts(out: &mut Object, job: &Job) {
    out.array("attempts", job.attempts().iter().enumerate(), |out, (index, attempt)| {
        object(out, |out| {
            out.number("attempt", index as u64 + 1).text("node_id", &attempt.node);
            out.time("start_utc", attempt.started_at);
            let absent = Payload::ABSENT;
            let (word, end, error) = match &attempt.end {
                AttemptEnd::Running => ("running", None, &absent),
                AttemptEnd::Completed { at, .. } => ("completed", Some(*at), &absent),
                AttemptEnd::Failed { at, error, .. } => ("failed", Some(*at), error),
                AttemptEnd::Expired { at } => ("lease_expired", Some(*at), &absent),
                AttemptEnd::Revoked { at } => ("revoked", Some(*at), &absent),
            };
            out.plain("outcome", word);
            match end {
                Some(at) => out.time("end_utc", at),
                None => out.raw("end_utc", b"null"),
            };
            out.raw("error", error.as_json());
        });
    });
}

/// The members of the registry's answer; `seen_at` says when a node was heard of.
pub fn registry(out: &mut Object, hub: &Hub, seen_at: impl Fn(&Node) -> Timestamp) {
    let limits = hub.limits();
    out.flag("ok", true);
    out.number("node_ttl_sec", limits.node_ttl_ms.as_secs_ceil());
    out.number("node_dead_sec", limits.node_dead_ms.as_secs_ceil());
    out.object("nodes", |out| {
        for record in hub.registry().iter() {
            node(out, record, seen_at(record));
        }
    });
}

/// A node's record in the registry; `seen_at` is later than the record's own where a heartbeat is not journaled yet.
fn node(out: &mut Object, node: &Node, seen_at: Timestamp) {
    out.object(node.name(), |out| {
        out.plain("status", node.liveness().as_str()).plain("health", node.health().as_str());
        out.plain("policy_state", "NORMAL").raw("policy_reason", b"null").raw("policy_until_utc", b"null");
        out.text("zone", node.zone().map_or(ZONE_DEFAULT, |zone| zone));
        out.array("capabilities", node.capabilities(), |out, name: &Name| write_text(out, name));
        if !node.labels().is_empty() {
            out.raw("labels", node.labels().as_json());
        }
        if let Some(endpoint) = node.endpoint() {
            out.text("endpoint", endpoint);
        }
        out.time("registered_utc", node.registered_at()).time("last_seen_utc", seen_at);
        out.number("leases", node.leases());
    });
}

/// How often a node should send a heartbeat: three times within its time to live, at most every 10 s.
pub fn next_heartbeat(node_ttl: Millis) -> Millis {
    Millis::new((node_ttl.get() / 3).clamp(100, 10_000))
}

/// The details of an audit event; gives its name.
pub fn audit(out: &mut Object, key: &HubKey, redactor: &Redactor, audit: &Audit) -> &'static str {
    match audit {
        Audit::BackpressureDrop { reason, queue_depth, queue_depth_max } => {
            out.number("queue_depth", *queue_depth).number("max", *queue_depth_max).plain("reason", reason.as_str());
            "BACKPRESSURE_DROP"
        }
        Audit::InflightSaturated { node, inflight } => {
            out.text("node_id", node).number("inflight", *inflight);
            "INFLIGHT_SATURATED"
        }
        Audit::LeaseReap { job, node, attempt } => {
            out.plain("job_id", key.job_id(*job)).text("node_id", node).number("attempt", u64::from(*attempt));
            "LEASE_REAP"
        }
        Audit::RetryScheduled { job, attempt, delay_ms } => {
            out.plain("job_id", key.job_id(*job)).number("attempt", u64::from(*attempt));
            out.number("delay_ms", delay_ms.get());
            "RETRY_SCHEDULED"
        }
        Audit::RetryExhausted { job, attempts } => {
            out.plain("job_id", key.job_id(*job)).number("attempts", u64::from(*attempts));
            "RETRY_EXHAUSTED"
        }
        Audit::IdempotencyHit { job, is_final } => {
            out.plain("job_id", key.job_id(*job)).flag("is_final", *is_final);
            "IDEMPOTENCY_HIT"
        }
        Audit::IdempotencyKeyCollision { key, old_hash_prefix, new_hash_prefix } => {
            out.text("key_prefix", key_prefix(redactor, key)).plain("old_hash_prefix", hex::encode(old_hash_prefix));
            out.plain("new_hash_prefix", hex::encode(new_hash_prefix));
            "IDEMPOTENCY_KEY_COLLISION"
        }
        Audit::NodeRegistered { node } => about(out, node, "NODE_REGISTERED"),
        Audit::NodeOnline { node } => about(out, node, "NODE_ONLINE"),
        Audit::NodeStale { node } => about(out, node, "NODE_STALE"),
        Audit::NodeDead { node } => about(out, node, "NODE_DEAD"),
    }
}

/// The beginning of an idempotency key; of one that holds a secret, or begins as one does, a word as long.
fn key_prefix<'a>(redactor: &Redactor, key: &'a str) -> &'a str {
    let end = key.char_indices().nth(KEY_PREFIX_CHARS).map_or(key.len(), |(at, _)| at);
    let prefix = &key[..end];
    let is_secret = redactor.contains(key.as_bytes()) || redactor.is_part(prefix.as_bytes());
    if is_secret { "redacted" } else { prefix }
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
    fn the_beginning_of_a_key_is_shown_unless_it_is_a_secrets() {
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
