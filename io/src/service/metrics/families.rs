//! Families: the metrics as Prometheus names them, `sheratan_hub_*` in base units.

use super::family::{Families, Family, Series, Value};
use super::{held_back, kinds};
use crate::service::{Plane, Service};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Unit;
use sheratan_core::telemetry::Counter;
use sheratan_core::telemetry::kinds::{KindCounts, OTHER};
use sheratan_core::{
    Account, AttestationStatus, DropReason, FinalStatus, IdentityStatus, Liveness, PolicyState, Timestamp,
};
use std::collections::BTreeMap;

impl Service {
    /// The metrics of a plane.
    pub(super) fn families(&self, now: Timestamp, plane: Plane) -> Vec<Family> {
        let mut families = Families::default();
        self.common(&mut families, now, plane);
        match plane {
            Plane::Control => self.control(&mut families),
            Plane::Data => {
                self.waiting(&mut families, now);
                self.lifecycle(&mut families);
                held_back::add(&mut families, self, now);
                self.journal(&mut families);
                self.trace(&mut families);
            }
        }
        families.into_vec()
    }

    /// The metrics of both planes.
    fn common(&self, out: &mut Families, now: Timestamp, plane: Plane) {
        let version = ("version", env!("CARGO_PKG_VERSION").to_owned());
        let build = Series { labels: vec![version], value: Value::Number(1) };
        out.add(MetricType::Info, "build", None, "The hub's version", vec![build]);
        let started = self.settings.started_at.as_millis() as f64 / 1_000.0;
        let started = Series { labels: Vec::new(), value: Value::Seconds(started) };
        let help = "When the hub started, in seconds since the Unix epoch";
        out.add(MetricType::Gauge, "start_time", Some(Unit::Seconds), help, vec![started]);
        out.gauge(
            "ready",
            "1 while the hub takes work: it is not stopping, and its journal is written",
            self.is_ready().into(),
        );
        let help = "1 if other machines reach the hub with a token of less than 16 bytes";
        out.gauge("token_is_short", help, self.settings.has_short_token.into());
        out.gauge("connections", "Connections of both planes", self.shell_counts.connections);
        let help = "Connections that were refused because their address has too many";
        out.counter("connections_refused", help, self.shell_counts.connections_refused);
        let help = "Connections and requests refused because connections, bytes or long polls are at their limit";
        out.counters("overloaded", help, "what", self.overloads.totals());
        let bytes = vec![Series::one(self.shell_counts.buffered_bytes)];
        let help = "Bytes of requests and replies that all connections hold (max_buffered_bytes)";
        out.add(MetricType::Gauge, "buffered", Some(Unit::Bytes), help, bytes);
        self.writes(out, now);
        let answered = self.traffic.of(plane).map(|(route, status, count)| Series {
            labels: vec![("route", route.to_owned()), ("status", status.to_string())],
            value: Value::Number(count),
        });
        let help = "Requests of this plane that were answered";
        out.add(MetricType::Counter, "requests", None, help, answered.collect());
        let help = "Time from a request's arrival until its reply may be sent, without long polls";
        out.timing("request", help, self.traffic.timing(plane));
    }

    fn control(&self, out: &mut Families) {
        let (registry, telemetry) = (self.hub.registry(), self.hub.telemetry());
        let nodes = [("online", Liveness::Online), ("stale", Liveness::Stale), ("dead", Liveness::Dead)];
        let nodes = nodes.map(|(word, liveness)| (word, registry.count(liveness)));
        out.gauges("nodes", "Nodes by liveness", "status", nodes);
        let help = "Nodes that an operator drained, whatever their liveness";
        out.gauge("nodes_drained", help, registry.drained_count());
        let attested = AttestationStatus::ALL.map(|status| (status.as_str(), registry.count_attested(status)));
        out.gauges("nodes_attestation", "Nodes by the status of their attestation", "status", attested);
        let identified = IdentityStatus::ALL.map(|status| (status.as_str(), registry.count_identified(status)));
        out.gauges("nodes_identity", "Nodes by the status of their identity", "status", identified);
        let states = [PolicyState::Normal, PolicyState::Warn, PolicyState::Quarantined];
        let states = states.map(|state| (state.as_str(), registry.count_in(state)));
        out.gauges("nodes_policy", "Nodes by their state", "state", states);
        let help = "New attestations that differ from their nodes' baselines";
        out.counter("attestation_drifts", help, telemetry.total(Counter::AttestationDrift));
        let help = "Times that a node became suspect of being several: its capability hash changed too often";
        out.counter("attestation_spoof_suspects", help, telemetry.total(Counter::AttestationSpoof));
        let help = "Version of the active policy";
        out.gauge("policy_version", help, self.hub.policies().active().version());
        let help = "Times that a node was warned about";
        out.counter("policy_warnings", help, telemetry.total(Counter::NodeWarned));
        let help = "Times that a node was put in quarantine";
        out.counter("policy_quarantines", help, telemetry.total(Counter::NodeQuarantined));
        let failures = [
            ("missing_token", Counter::AuthFailureMissing),
            ("bad_token", Counter::AuthFailureBad),
            ("old_token_after_rotation", Counter::AuthRetired),
        ];
        let failures = failures.map(|(word, counter)| (word, telemetry.total(counter)));
        out.counters("auth_failures", "Requests of both planes that failed to authenticate", "reason", failures);
        let successes = [("active", Counter::AuthSuccess), ("next", Counter::AuthSuccessNext)];
        let successes = successes.map(|(word, counter)| (word, telemetry.total(counter)));
        out.counters("auth_successes", "Requests of both planes with a valid token", "token", successes);
        let (calendar, tokens) = (self.hub.calendar(), self.hub.tokens());
        let left = tokens.ends_at(calendar).map_or(0, |at| at.since(self.hub.now()).as_secs_ceil());
        out.gauge("token_rotation_seconds", "Seconds until a rotation of the token ends; 0 if none is under way", left);
        let help = "Requests of both planes that were refused because of their address's failures";
        out.counter("auth_blocked", help, telemetry.total(Counter::AuthBlocked));
        let help = "Requests of both planes for a path of the other one";
        out.counter("port_mismatches", help, telemetry.total(Counter::PortMismatch));
        let help = "Clients of GET /api/events";
        out.gauge("event_streams", help, self.notifications.streams().open_count() as u64);
        let help = "Clients of GET /api/events that were disconnected because they read too slowly";
        out.counter("event_streams_dropped", help, self.notifications.streams().dropped_total());
        // The rules' names are the operator's, and there are at most 32.
        let rule = |name: &str, value| Series { labels: vec![("rule", name.to_owned())], value: Value::Number(value) };
        let open = self.notifications.alerts().rules().map(|(of, open, _)| rule(&of.name, open as u64)).collect();
        out.add(MetricType::Gauge, "alerts_open", None, "Open alerts, by rule", open);
        let help = "Changes of alerts that did not reach their file or the webhook";
        out.counter("alerts_lost", help, self.shell_counts.alerts_lost);
        let opened = self.notifications.alerts().rules().map(|(of, _, opened)| rule(&of.name, opened)).collect();
        out.add(MetricType::Counter, "alerts_opened", None, "Alerts that were opened, by rule", opened);
    }

    /// The queue and its limits.
    fn waiting(&self, out: &mut Families, now: Timestamp) {
        let (counts, limits) = (self.hub.counts(), self.hub.limits());
        let jobs = [("queued", counts.queued), ("scheduled", counts.scheduled)];
        out.gauges("queue_jobs", "Waiting jobs: queued for a node, or scheduled", "state", jobs);
        out.gauge("queue_jobs_max", "Maximum number of waiting jobs (max_queue_depth)", limits.queue_depth_max);
        let of = |account: Account, bytes| Series {
            labels: vec![("account", account.as_str().to_owned())],
            value: Value::Number(bytes),
        };
        let held = Account::ALL.map(|account| of(account, self.hub.ledger().get(account)));
        let help = "Bytes held for clients and nodes, by account";
        out.add(MetricType::Gauge, "account", Some(Unit::Bytes), help, held.into());
        let may_be_held = Account::ALL.map(|account| of(account, account.bytes_max(limits)));
        let help = "Maximum bytes by account; waiting and leased share one limit, and leased may have a smaller one";
        out.add(MetricType::Gauge, "account_max", Some(Unit::Bytes), help, may_be_held.into());
        out.bytes("queue", "Bytes of waiting jobs", self.hub.ledger().get(Account::Waiting));
        out.bytes("queue_max", "Maximum bytes of unfinished jobs (max_queue_bytes)", limits.queue_bytes_max);
        out.gauge("inflight_jobs", "Jobs under lease", counts.leased);
        out.gauge("inflight_jobs_max", "Maximum number of jobs under lease (max_inflight)", limits.inflight_max);
        out.bytes("inflight", "Bytes of jobs under lease", self.hub.ledger().get(Account::Leased));
        let help = "Maximum bytes of jobs under lease (max_inflight_bytes, or max_queue_bytes)";
        out.bytes("inflight_max", help, Account::Leased.bytes_max(limits));
        out.gauge("retained_jobs", "Readable final jobs", counts.retained);
        out.gauge("retained_jobs_max", "Maximum number of readable final jobs", limits.retained_jobs_max);
        out.bytes("retained", "Bytes of readable final jobs", self.hub.ledger().get(Account::Retained));
        out.bytes("retained_max", "Maximum bytes of readable final jobs", limits.retained_bytes_max);
        out.gauge("idempotency_keys", "Remembered idempotency keys", self.hub.dedup().len() as u64);
        out.gauge("idempotency_keys_max", "Maximum number of remembered idempotency keys", limits.idempotency_keys_max);
        out.gauge("long_polls", "Requests that wait for a job, or for a job's end", self.long_polls.len() as u64);
        let help = "1 while the queue is full: at a limit, or it refused something in the last two seconds";
        out.gauge("backpressure_active", help, self.is_backpressure_active(now).into());
        let dropped =
            DropReason::ALL.map(|reason| (reason.as_str(), self.hub.telemetry().total(Counter::Dropped(reason))));
        out.counters(
            "backpressure_drops",
            "Requests refused with backpressure, by the limit that was reached",
            "reason",
            dropped,
        );
    }

    /// Jobs by how they were submitted and ended.
    fn lifecycle(&self, out: &mut Families) {
        let telemetry = self.hub.telemetry();
        let total = |counter| telemetry.total(counter);
        let kinds = self.kinds();
        let submitted = kinds.iter().map(|(kind, counts)| Series {
            labels: vec![("kind", kind.clone())],
            value: Value::Number(counts.submitted),
        });
        let help = "Submitted jobs by kind; kinds beyond the first 200 are counted as other";
        out.add(MetricType::Counter, "jobs_submitted", None, help, submitted.collect());
        let help = "Final jobs by status and kind; kinds beyond the first 200 are counted as other";
        let ended = kinds.iter().flat_map(|(kind, counts)| ended_series(kind, counts)).collect();
        out.add(MetricType::Counter, "jobs_ended", None, help, ended);
        let help = "Jobs that are held, by kind and state; kinds beyond the first 200 are counted as other";
        out.add(MetricType::Gauge, "kind_jobs", None, help, kinds::held_jobs(self));
        out.counter("leases_given", "Leases given", total(Counter::Leased));
        out.counter("leases_reaped", "Leases that ended without a result", total(Counter::LeaseReaped));
        let help = "Leases that were lost: they expired, or their nodes died";
        out.counter("leases_lost", help, total(Counter::LeaseLost));
        let help = "Leases that came back and are not charged: released, drained, or never delivered";
        out.counter("leases_returned", help, total(Counter::LeaseReturned));
        out.counter("jobs_cancelled", "Jobs that were cancelled", total(Counter::Cancelled));
        out.counter(
            "attempts_ended",
            "Attempts that ended, by a result, a failure or a timeout",
            total(Counter::AttemptEnded),
        );
        out.counter("retries_scheduled", "Attempts after which the job is retried", total(Counter::RetryScheduled));
        let help = "Jobs that have no attempts or no time for retries left";
        out.counter("retries_exhausted", help, total(Counter::RetryExhausted));
        let help = "Pulls without a job because the hub or the node holds as many leases as its limit";
        out.counter("inflight_saturated", help, total(Counter::InflightSaturated));
        let repeats = [
            ("in_progress", Counter::IdempotentInProgress),
            ("completed", Counter::IdempotentCompleted),
            ("collision", Counter::IdempotentCollision),
        ];
        let repeats = repeats.map(|(word, counter)| (word, total(counter)));
        out.counters("idempotent_submits", "Submits with a known key, by outcome", "outcome", repeats);
        let results = [
            ("verified", Counter::IntegrityVerified),
            ("missing", Counter::IntegrityMissing),
            ("failed", Counter::IntegrityFailed),
        ];
        let results = results.map(|(word, counter)| (word, total(counter)));
        out.counters("result_integrity_checks", "Results by their checksum or signature", "outcome", results);
        let signed = [("new", Counter::SignedByNewKey), ("old", Counter::SignedByOldKey)];
        let signed = signed.map(|(word, counter)| (word, total(counter)));
        let help = "Signed results by key: old is the one that a rotation replaces";
        out.counters("results_signed", help, "key", signed);
        if let Some(until) = self.settings.result_keys.ends_at() {
            let until = Series { labels: Vec::new(), value: Value::Seconds(until.as_millis() as f64 / 1_000.0) };
            let help = "Until when the old key of results is accepted, in seconds since the Unix epoch; absent without a rotation";
            out.add(MetricType::Gauge, "result_key_rotation_end_time", Some(Unit::Seconds), help, vec![until]);
        }
        let help = "Reads of stored results that no longer match their checksum";
        out.counter("results_corrupt", help, total(Counter::ResultCorrupt));
        out.timing("queue_wait", "Time that jobs wait for a node, from ready to leased", telemetry.queue_wait());
        out.timing("run", "Time that attempts take, from the lease to its end", telemetry.run());
    }

    /// The counts by label. Kinds share a label if their names hold secrets, or are the label of all further kinds.
    fn kinds(&self) -> BTreeMap<String, KindCounts> {
        let kinds = self.hub.telemetry().kinds();
        let mut by_label: BTreeMap<String, KindCounts> = BTreeMap::new();
        for (kind, counts) in kinds.iter().chain(kinds.other().map(|counts| (OTHER, counts))) {
            let label = self.settings.redactor.redact_text(kind).into_owned();
            by_label.entry(label).or_default().add(counts);
        }
        by_label
    }

    fn journal(&self, out: &mut Families) {
        let telemetry = self.hub.telemetry();
        out.gauge("journal_up", "1 while the journal is written", self.uncommitted.journal_down().is_none().into());
        out.counter("journal_records", "Records since the journal began, including pending ones", self.last_seq());
        let help = "Records that are not durable yet; their replies wait";
        out.gauge("journal_pending_records", help, self.uncommitted.record_count());
        out.counter("journal_commits", "Batches that were written", telemetry.total(Counter::JournalCommit));
        let help = "Batches that the loop's thread wrote, since the disk is fast";
        out.counter("journal_commits_in_loop", help, telemetry.total(Counter::JournalCommitInLoop));
        let help = "Times that the loop was taken over from a thread that was at the disk";
        out.counter("loop_takeovers", help, telemetry.total(Counter::LoopTakenOver));
        let help = "Times that writing the journal began to fail";
        out.counter("journal_failures", help, telemetry.total(Counter::JournalFailure));
        let help = "Time to write and sync a batch";
        out.timing("journal_commit", help, telemetry.journal_commit());
    }

    /// Writes that are under way: the age of one that does not return grows.
    fn writes(&self, out: &mut Families, now: Timestamp) {
        let seconds = |labels, value| Series { labels, value: Value::Seconds(value) };
        let age = self.stalls.commit_age(now).get() as f64 / 1_000.0;
        let help = "How long the commit under way has taken so far";
        out.add(MetricType::Gauge, "journal_commit_age", Some(Unit::Seconds), help, vec![seconds(Vec::new(), age)]);
        let ages = self.stalls.ages().map(|(what, age)| seconds(vec![("of", what.to_owned())], age));
        let help = "How long the write under way to a log has taken so far";
        out.add(MetricType::Gauge, "write_age", Some(Unit::Seconds), help, ages.into());
    }

    fn trace(&self, out: &mut Families) {
        if !self.uncommitted.is_traced() {
            return;
        }
        let help = "Records written to the trace since the hub started";
        out.counter("trace_records", help, self.shell_counts.traced.records);
        let bytes = vec![Series::one(self.shell_counts.traced.bytes)];
        out.add(MetricType::Counter, "trace", Some(Unit::Bytes), "Bytes of these records", bytes);
        let help = "Records that the trace dropped because a write failed or its buffer was full";
        out.counter("trace_records_dropped", help, self.shell_counts.traced.dropped);
    }
}

/// Series only for final states with a count: most kinds have one.
fn ended_series<'a>(kind: &'a str, counts: &'a KindCounts) -> impl Iterator<Item = Series> {
    let happened = FinalStatus::ALL.into_iter().filter(|status| counts.ended[*status as usize] > 0);
    happened.map(move |status| Series {
        labels: vec![("kind", kind.to_owned()), ("status", status.as_str().to_owned())],
        value: Value::Number(counts.ended[status as usize]),
    })
}
