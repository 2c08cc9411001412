//! JSON: the keys of the wire contract. `*_1m` is the last 60 seconds.

use crate::object::Object;
use crate::service::Service;
use sheratan_core::telemetry::Counter;
use sheratan_core::telemetry::timing::{Timing, Unit};
use sheratan_core::{Account, AttestationStatus, Health, IdentityStatus, Liveness, PolicyState, Timestamp};

/// The metrics of the control plane.
pub fn control(out: &mut Object, service: &Service, now: Timestamp) {
    let (registry, telemetry) = (service.hub.registry(), service.hub.telemetry());
    let minute = |counter| telemetry.last_minute(now, counter);
    out.number("nodes_online", registry.count(Liveness::Online)).number("nodes_stale", registry.count(Liveness::Stale));
    out.number("nodes_dead", registry.count(Liveness::Dead)).number("nodes_drained", registry.drained_count());
    let (missing, bad) = (minute(Counter::AuthFailureMissing), minute(Counter::AuthFailureBad));
    out.number("auth_fail_rate_1m", missing + bad);
    let retired = minute(Counter::AuthRetired);
    out.object("auth_failure", |out| {
        out.number("old_token_1m", retired).number("invalid_1m", bad).number("missing_1m", missing);
    });
    out.number("auth_success_active_1m", minute(Counter::AuthSuccess));
    out.number("auth_success_next_1m", minute(Counter::AuthSuccessNext));
    out.number("auth_fail_old_token_1m", retired);
    out.flag("token_rotation_open", service.hub.tokens().window().is_some());
    out.number("port_mismatch_rate_1m", minute(Counter::PortMismatch));
    for status in AttestationStatus::ALL {
        let key = format!("attestation_{}", status.as_str().to_lowercase());
        out.number(&key, registry.count_attested(status));
    }
    for status in IdentityStatus::ALL {
        let key = format!("identity_{}", status.as_str().to_lowercase());
        out.number(&key, registry.count_identified(status));
    }
    out.number("attestation_drift_1m", minute(Counter::AttestationDrift));
    out.number("attestation_spoof_1m", minute(Counter::AttestationSpoof));
    out.number("policy_version", service.hub.policies().active().version());
    out.number("policy_warn_active", registry.count_in(PolicyState::Warn));
    out.number("policy_quarantine_active", registry.count_in(PolicyState::Quarantined));
    out.number("policy_warn_1m", minute(Counter::NodeWarned));
    out.number("policy_quarantine_1m", minute(Counter::NodeQuarantined));
    out.object("node_counts", |out| {
        for health in [Health::Green, Health::Yellow, Health::Red] {
            out.number(health.as_str(), registry.count_online(health));
        }
        for liveness in [Liveness::Stale, Liveness::Dead] {
            out.number(liveness.as_str(), registry.count(liveness));
        }
    });
    out.object("security", |out| {
        out.number("auth_fail_1m", missing + bad).number("port_mismatch_1m", minute(Counter::PortMismatch));
    });
}

/// The metrics of the data plane.
pub fn data(out: &mut Object, service: &Service, now: Timestamp) {
    let (counts, telemetry) = (service.hub.counts(), service.hub.telemetry());
    let minute = |counter| telemetry.last_minute(now, counter);
    out.number("queue_depth", counts.waiting()).number("queue_bytes", service.hub.ledger().get(Account::Waiting));
    out.number("scheduled", counts.scheduled).number("inflight", counts.leased).number("inflight_jobs", counts.leased);
    out.number("inflight_bytes", service.hub.ledger().get(Account::Leased));
    out.flag("backpressure_active", service.is_backpressure_active(now));
    let drops = telemetry.dropped_last_minute(now);
    out.number("queue_drop_1m", drops).number("drops_1m", drops);
    let pending = service.hub.queue().results_unread();
    out.object("queue", |out| _ = out.number("depth", counts.waiting()).number("results_pending", pending));
    out.number("inflight_saturated_1m", minute(Counter::InflightSaturated));
    out.number("submitted_1m", minute(Counter::Submitted)).number("completed_1m", minute(Counter::Completed));
    out.number("failed_1m", minute(Counter::Failed));
    let (retried, ended) = (minute(Counter::RetryScheduled), minute(Counter::AttemptEnded));
    out.number("retry_scheduled_1m", retried).raw("retry_rate_1m", ratio(retried, ended).as_bytes());
    out.number("reaped_leases_1m", minute(Counter::LeaseReaped));
    out.number("lost_leases_1m", minute(Counter::LeaseLost))
        .number("returned_leases_1m", minute(Counter::LeaseReturned));
    out.number("retries_postponed", service.hub.queue().postponed_count());
    out.number("cancelled_1m", minute(Counter::Cancelled));
    out.number("dlq_size", counts.dead).number("dlq_bytes", service.hub.ledger().get(Account::Dead));
    out.number("dlq_added_1m", minute(Counter::DeadLetterAdded));
    out.number("dlq_requeued_1m", minute(Counter::DeadLetterRequeued));
    out.number("dlq_discarded_1m", minute(Counter::DeadLetterDiscarded));
    out.number("dlq_evicted_1m", minute(Counter::DeadLetterEvicted));
    out.number("orphans", service.hub.orphans().len() as u64).number("orphaned_1m", minute(Counter::ResultOrphaned));
    let (in_progress, completed) = (minute(Counter::IdempotentInProgress), minute(Counter::IdempotentCompleted));
    out.number("idempotent_hits_1m", in_progress + completed).number("idempotent_in_progress_1m", in_progress);
    out.number("idempotent_completed_1m", completed);
    out.number("idempotent_collisions_1m", minute(Counter::IdempotentCollision));
    out.number("idempotency_store_size", service.hub.dedup().len() as u64);
    let integrity = [
        ("fail", minute(Counter::IntegrityFailed)),
        ("missing", minute(Counter::IntegrityMissing)),
        ("verified", minute(Counter::IntegrityVerified)),
    ];
    for (word, count) in integrity {
        out.number(&format!("integrity_{word}_1m"), count);
    }
    out.object("integrity", |out| {
        integrity.iter().for_each(|(word, count)| _ = out.number(&format!("{word}_1m"), *count));
    });
    let (new, old) = (minute(Counter::SignedByNewKey), minute(Counter::SignedByOldKey));
    out.number("result_signed_new_key_1m", new).number("result_signed_old_key_1m", old);
    out.number("result_corrupt_1m", minute(Counter::ResultCorrupt));
    quantiles(out, "queue_wait_ms", telemetry.queue_wait(), now);
    quantiles(out, "run_ms", telemetry.run(), now);
    quantiles(out, "journal_commit_ms", telemetry.journal_commit(), now);
}

/// `{p50,p90,p99,max}` in milliseconds.
fn quantiles(out: &mut Object, key: &str, timing: &Timing, now: Timestamp) {
    let quantiles = timing.quantiles(now);
    let millis = |value: u64| match timing.unit() {
        Unit::Millis => value.to_string(),
        Unit::Micros => format!("{}.{:03}", value / 1_000, value % 1_000),
    };
    out.object(key, |out| {
        let all = [("p50", quantiles.p50), ("p90", quantiles.p90), ("p99", quantiles.p99), ("max", quantiles.max)];
        all.into_iter().for_each(|(key, value)| _ = out.raw(key, millis(value).as_bytes()));
    });
}

/// A share of 0 to 1 with four digits; 0 if `whole` is 0.
fn ratio(part: u64, whole: u64) -> String {
    let share = if whole == 0 { 0.0 } else { (part as f64 / whole as f64).min(1.0) };
    format!("{share:.4}")
}
