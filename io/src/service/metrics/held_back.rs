//! What is held back in the metrics: dead letters, orphans, postponed retries, held leases, and kinds that are closed.

use super::family::{Families, Series, Value};
use crate::service::Service;
use prometheus_client::metrics::MetricType;
use sheratan_core::limits::METRIC_KINDS_MAX;
use sheratan_core::telemetry::Counter;
use sheratan_core::telemetry::kinds::OTHER;
use sheratan_core::{Account, Gate, KindRules, Name, Timestamp};
use std::collections::BTreeMap;

/// The metrics, in the order in which a job meets what holds it back.
pub fn add(out: &mut Families, service: &Service, now: Timestamp) {
    let hub = &service.hub;
    let (queue, limits, ledger) = (hub.queue(), hub.limits(), hub.ledger());
    let total = |counter| hub.telemetry().total(counter);
    let help = "Leases of final jobs that count until their nodes learn that the jobs have ended; they are among inflight_jobs";
    out.gauge("leases_held", help, hub.counts().held);
    out.gauge("retries_postponed", "Retries that wait for the retry budget", queue.postponed_count());
    let help = "Retries that the floor of the retry budget would let through at once, over all kinds";
    out.gauge("retry_budget_credits", help, queue.retry_credits(limits, now));

    out.gauge("dead_letters", "Dead letters", hub.counts().dead);
    out.gauge("dead_letters_max", "Maximum number of dead letters (dlq_max_items)", limits.dead_jobs_max);
    out.bytes("dead_letters", "Bytes of dead letters", ledger.get(Account::Dead));
    out.bytes("dead_letters_max", "Maximum bytes of dead letters (dlq_max_bytes)", limits.dead_bytes_max);
    out.counter("dead_letters_added", "Jobs that became dead letters", total(Counter::DeadLetterAdded));
    let left = [
        ("requeued", Counter::DeadLetterRequeued),
        ("discarded", Counter::DeadLetterDiscarded),
        ("evicted", Counter::DeadLetterEvicted),
        ("completed", Counter::DeadLetterCompleted),
    ];
    let left = left.map(|(word, counter)| (word, total(counter)));
    let help = "Dead letters that left: evicted ones made room or were kept long enough, completed ones got a result after all";
    out.counters("dead_letters_left", help, "how", left);
    let running = hub.acts().iter().filter(|act| act.is_running()).count() as u64;
    out.gauge("dead_letter_acts", "Acts on many dead letters that run", running);

    out.gauge("orphans", "Results of unknown jobs that are kept", hub.orphans().len() as u64);
    out.gauge("orphans_max", "Maximum number of results of unknown jobs (orphans_max)", limits.orphans_max);
    out.bytes("orphans", "Bytes of results of unknown jobs", ledger.get(Account::Orphans));
    out.bytes("orphans_max", "Maximum bytes of results of unknown jobs (orphans_bytes_max)", limits.orphans_bytes_max);
    out.counter("results_orphaned", "Results of unknown jobs that came", total(Counter::ResultOrphaned));
    kinds(out, service, now);
}

/// Kinds with rules. Their names are an operator's, but there may be a thousand of them, so those beyond the first
/// [`METRIC_KINDS_MAX`] are summed.
fn kinds(out: &mut Families, service: &Service, now: Timestamp) {
    let queue = service.hub.queue();
    let mut leases: BTreeMap<String, u64> = BTreeMap::new();
    let mut limits: BTreeMap<String, u64> = BTreeMap::new();
    let mut gates: BTreeMap<(String, &str), u64> = BTreeMap::new();
    let labelled = |(index, (name, rules, _)): (usize, (&Name, &KindRules, u64))| {
        let label = match index < METRIC_KINDS_MAX {
            true => service.settings.redactor.redact_text(name).into_owned(),
            false => OTHER.to_owned(),
        };
        (label, queue.leases_of_kind(name), rules.inflight_max, gate_word(queue.kind_gate(now, name)))
    };
    for (label, leased, inflight_max, gate) in queue.ruled_kinds().enumerate().map(labelled) {
        *leases.entry(label.clone()).or_default() += leased;
        if let Some(max) = inflight_max {
            let sum = limits.entry(label.clone()).or_default();
            *sum = sum.saturating_add(max);
        }
        *gates.entry((label, gate)).or_default() += 1;
    }
    let series = |label: String, value| Series { labels: vec![("kind", label)], value: Value::Number(value) };
    let help = "Jobs under lease of kinds that have rules; kinds beyond the first 200 are counted as other";
    let leases = leases.into_iter().map(|(label, leased)| series(label, leased)).collect();
    out.add(MetricType::Gauge, "kind_leases", None, help, leases);
    let help = "Maximum number of jobs under lease of a kind (max_inflight)";
    let limits = limits.into_iter().map(|(label, max)| series(label, max)).collect();
    out.add(MetricType::Gauge, "kind_leases_max", None, help, limits);
    let help = "Kinds that have rules by their gate: open, paused, full or rate_limited";
    let gates = gates.into_iter().map(|((label, gate), count)| Series {
        labels: vec![("kind", label), ("gate", gate.to_owned())],
        value: Value::Number(count),
    });
    out.add(MetricType::Gauge, "kind_gate", None, help, gates.collect());
}

fn gate_word(gate: Gate) -> &'static str {
    match gate {
        Gate::Open => "open",
        Gate::Paused(_) => "paused",
        Gate::Full => "full",
        Gate::RateLimited(_) => "rate_limited",
    }
}
