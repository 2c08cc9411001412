//! Sightings: outcomes and effects counted by kind, so that a simulator that exercises nothing does not pass for one
//! that finds nothing.

use sheratan_core::{
    Audit, CompletedStatus, Effect, Extended, FinalStatus, Gate, Hub, JobSeq, Outcome, Refusal, Submitted,
};
use std::collections::BTreeMap;

/// How often each kind of outcome and effect was seen.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Sightings(BTreeMap<&'static str, u64>);

impl Sightings {
    /// The kinds that many runs together must have seen.
    pub const EXPECTED: [&'static str; 105] = [
        "token changed",
        "refused: order about the token",
        "act began",
        "act begun",
        "act ended",
        "act waiting",
        "attempt retried",
        "attempts exhausted",
        "backpressure",
        "completed: completed",
        "completed: dead",
        "completed: expired",
        "completed: lease lost",
        "completed: otherwise",
        "completed: repeated",
        "completed: retry scheduled",
        "configured",
        "dead letter",
        "dead letter completed",
        "dead letter discarded",
        "dead letter evicted",
        "dead letter requeued",
        "heard of",
        "idempotency hit",
        "inflight saturated",
        "job aged",
        "job cancelled",
        "job ended",
        "key collision",
        "kind changed",
        "kind full",
        "kind paused",
        "kind rate limited",
        "kind resumed",
        "kind set",
        "lease cancelled",
        "lease extended",
        "lease held",
        "lease not extended",
        "lease reaped",
        "lease revoked",
        "leases released",
        "long poll woken",
        "node dead",
        "node drained",
        "node online again",
        "node registered",
        "node removed",
        "node resumed",
        "node stale",
        "orphan adopted",
        "orphan discarded",
        "parked",
        "parked: repeated",
        "pulled: deferred",
        "pulled: drained",
        "pulled: jobs",
        "pulled: nothing",
        "refused: act ended",
        "refused: already final",
        "refused: bytes of letters full",
        "refused: classes full",
        "refused: job too large",
        "refused: keys full",
        "refused: kind changed",
        "refused: lease lost",
        "refused: letters full",
        "refused: node bytes full",
        "refused: node in use",
        "refused: nodes full",
        "refused: not dead",
        "refused: queue bytes full",
        "refused: queue full",
        "refused: rules not taken",
        "refused: too many letters",
        "refused: unknown act",
        "refused: unknown job",
        "refused: unknown node",
        "refused: unknown orphan",
        "result orphaned",
        "result without a lease",
        "retry postponed",
        "snapshot within a visit",
        "submitted: accepted",
        "submitted: final",
        "submitted: in progress",
        "submitted: replacing",
        "submitted: superseding",
        "turns taken",
        "waits: backoff",
        "waits: delay",
        "waits: hub full",
        "waits: kind full",
        "waits: kind paused",
        "waits: kind rate",
        "waits: no node",
        "waits: nodes drained",
        "waits: nodes full",
        "waits: nodes offline",
        "waits: reserved",
        "waits: retry budget",
        "waits: run at",
        "waits: turn",
        "waits: zone full",
        "weights count",
    ];

    /// How often a kind was seen.
    pub fn of(&self, what: &str) -> u64 {
        self.0.get(what).copied().unwrap_or(0)
    }

    /// All kinds that were seen, with their counts.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.0.iter().map(|(what, count)| (*what, *count))
    }

    /// Adds another run's sightings.
    pub fn add(&mut self, other: &Sightings) {
        other.iter().for_each(|(what, count)| *self.0.entry(what).or_default() += count);
    }

    /// Counts an outcome.
    pub fn outcome(&mut self, outcome: &Outcome) {
        if let Outcome::Extended(leases) = outcome {
            leases.iter().for_each(|lease| {
                self.count(match lease {
                    Extended::Until { .. } => "lease extended",
                    Extended::LeaseLost => "lease not extended",
                    Extended::Cancelled => "lease cancelled",
                    Extended::Revoked => "lease revoked",
                });
            });
            return;
        }
        self.count(match outcome {
            Outcome::Done => "configured",
            Outcome::Heard { .. } => "heard of",
            Outcome::Submitted(submitted) => name_of_submitted(submitted),
            Outcome::Pulled(pulled) if !pulled.leases.is_empty() => "pulled: jobs",
            Outcome::Pulled(pulled) if pulled.withheld.is_some() => "pulled: drained",
            Outcome::Pulled(pulled) if pulled.defer_ms.get() > 0 => "pulled: deferred",
            Outcome::Pulled(_) => "pulled: nothing",
            Outcome::Completed(completed) if completed.is_duplicate => "completed: repeated",
            Outcome::Completed(completed) => name_of_completed(completed.status),
            Outcome::Reclaimed(jobs) if jobs.is_empty() => "reclaimed: nothing",
            Outcome::Reclaimed(_) => "reclaimed",
            Outcome::Released(_) => "leases released",
            Outcome::KindSet { .. } => "kind set",
            Outcome::ActBegun { .. } => "act begun",
            Outcome::Parked { is_duplicate: true, .. } => "parked: repeated",
            Outcome::Parked { .. } => "parked",
            Outcome::PolicyAdded { .. } => "policy added",
            Outcome::PolicyActivated { .. } => "policy active",
            Outcome::Refused(refusal) => name_of_refusal(refusal),
            Outcome::Extended(_) => unreachable!("counted above, lease by lease"),
        });
    }

    /// Counts what a hub's state shows that no outcome or effect reports.
    pub fn state(&mut self, hub: &Hub) {
        let seen = [
            ("lease held", hub.counts().held > 0),
            ("retry postponed", hub.queue().postponed_count() > 0),
            ("act waiting", hub.acts().iter().any(|act| act.is_running())),
        ];
        seen.into_iter().filter(|(_, is_seen)| *is_seen).for_each(|(what, _)| self.count(what));
        for (kind, _, _) in hub.queue().ruled_kinds() {
            match hub.queue().kind_gate(hub.now(), kind) {
                Gate::Open => {}
                Gate::Paused(_) => self.count("kind paused"),
                Gate::Full => self.count("kind full"),
                Gate::RateLimited(_) => self.count("kind rate limited"),
            }
        }
    }

    /// Counts what somebody else saw.
    pub fn note(&mut self, what: &'static str) {
        self.count(what);
    }

    /// Counts the reasons why a job waits.
    pub fn explanation(&mut self, hub: &Hub, job: JobSeq) {
        reasons_of(hub, job).for_each(|reason| self.count(reason));
    }

    /// How often the rarest of the reasons was seen why a job waits.
    pub fn rarest_reason(&self, hub: &Hub, job: JobSeq) -> u64 {
        reasons_of(hub, job).map(|reason| self.of(reason)).min().unwrap_or(0)
    }

    /// Counts an effect.
    pub fn effect(&mut self, effect: &Effect) {
        self.count(match effect {
            Effect::Wake(_) => "long poll woken",
            Effect::Ended { .. } => "job ended",
            Effect::Audit(_, Audit::BackpressureDrop { .. }) => "backpressure",
            Effect::Audit(_, Audit::InflightSaturated { .. } | Audit::InflightBytesSaturated { .. }) => {
                "inflight saturated"
            }
            Effect::Audit(_, Audit::LeaseReap { .. }) => "lease reaped",
            Effect::Audit(_, Audit::ResultUnleased { .. }) => "result without a lease",
            Effect::Audit(_, Audit::RetryScheduled { .. }) => "attempt retried",
            Effect::Audit(_, Audit::RetryExhausted { .. }) => "attempts exhausted",
            Effect::Audit(_, Audit::IdempotencyHit { .. }) => "idempotency hit",
            Effect::Audit(_, Audit::IdempotencyKeyCollision { .. }) => "key collision",
            Effect::Audit(_, Audit::NodeRegistered { .. }) => "node registered",
            Effect::Audit(_, Audit::NodeOnline { .. }) => "node online again",
            Effect::Audit(_, Audit::NodeStale { .. }) => "node stale",
            Effect::Audit(_, Audit::NodeDead { .. }) => "node dead",
            Effect::Audit(_, Audit::DeadLetterAdded { .. }) => "dead letter",
            Effect::Audit(_, Audit::DeadLetterRequeued { .. }) => "dead letter requeued",
            Effect::Audit(_, Audit::DeadLetterDiscarded { .. }) => "dead letter discarded",
            Effect::Audit(_, Audit::DeadLetterEvicted { .. }) => "dead letter evicted",
            Effect::Audit(_, Audit::DeadLetterCompleted { .. }) => "dead letter completed",
            Effect::Audit(_, Audit::ActBegan { .. }) => "act began",
            Effect::Audit(_, Audit::ActEnded { .. }) => "act ended",
            Effect::Audit(_, Audit::ResultOrphaned { .. }) => "result orphaned",
            Effect::Audit(_, Audit::OrphanAdopted { .. }) => "orphan adopted",
            Effect::Audit(_, Audit::OrphanDiscarded { .. }) => "orphan discarded",
            Effect::Audit(_, Audit::OrphansEvicted { .. }) => "orphans evicted",
            Effect::Audit(_, Audit::JobCancelled { .. }) => "job cancelled",
            Effect::Audit(_, Audit::WeightsChanged { .. }) => "weights changed",
            Effect::Audit(_, Audit::KindChanged { .. }) => "kind changed",
            Effect::Audit(_, Audit::KindResumed { .. }) => "kind resumed",
            Effect::Audit(_, Audit::NodeDrained { .. }) => "node drained",
            Effect::Audit(_, Audit::NodeResumed { .. }) => "node resumed",
            Effect::Audit(_, Audit::NodeRemoved { .. }) => "node removed",
            Effect::Audit(_, Audit::AttestationFirstSeen { .. }) => "attestation first seen",
            Effect::Audit(_, Audit::AttestationDrift { .. }) => "attestation drift",
            Effect::Audit(_, Audit::AttestationSpoofSuspect { .. }) => "attestation spoof suspect",
            Effect::Audit(_, Audit::AttestationRestored { .. }) => "attestation restored",
            Effect::Audit(_, Audit::AttestationMissing { .. }) => "attestation missing",
            Effect::Audit(_, Audit::AttestationAccepted { .. }) => "attestation accepted",
            Effect::Audit(_, Audit::IdentityPinned { .. }) => "identity pinned",
            Effect::Audit(_, Audit::IdentityFault { .. }) => "identity fault",
            Effect::Audit(_, Audit::IdentityRekeyed { .. }) => "identity rekeyed",
            Effect::Audit(_, Audit::NodeWarned { .. }) => "node warned about",
            Effect::Audit(_, Audit::NodeQuarantined { .. }) => "node in quarantine",
            Effect::Audit(_, Audit::NodeNormal { .. }) => "node normal",
            Effect::Audit(_, Audit::NodeCleared { .. }) => "node cleared",
            Effect::Audit(_, Audit::TokenChanged { .. }) => "token changed",
            Effect::Audit(_, Audit::PolicyAdded { .. }) => "policy added",
            Effect::Audit(_, Audit::PolicyActivated { .. }) => "policy activated",
            Effect::Audit(_, Audit::PolicyTampered { .. }) => "policy tampered with",
        });
    }

    fn count(&mut self, what: &'static str) {
        *self.0.entry(what).or_default() += 1;
    }
}

fn reasons_of(hub: &Hub, job: JobSeq) -> impl Iterator<Item = &'static str> {
    let explanation = hub.explain(job).map_or(Vec::new(), |explanation| explanation.reasons);
    explanation.into_iter().map(|reason| match reason.code() {
        "run_at" => "waits: run at",
        "delay" => "waits: delay",
        "previous_run" => "waits: previous run",
        "backoff" => "waits: backoff",
        "released" => "waits: released",
        "retry_budget" => "waits: retry budget",
        "reserved" => "waits: reserved",
        "kind_paused" => "waits: kind paused",
        "kind_full" => "waits: kind full",
        "kind_rate" => "waits: kind rate",
        "hub_full" => "waits: hub full",
        "zone_full" => "waits: zone full",
        "nodes_full" => "waits: nodes full",
        "nodes_drained" => "waits: nodes drained",
        "nodes_offline" => "waits: nodes offline",
        "no_node" => "waits: no node",
        "turn" => "waits: turn",
        _ => "waits: otherwise",
    })
}

fn name_of_submitted(submitted: &Submitted) -> &'static str {
    match submitted {
        Submitted::Accepted { supersedes: Some(_), .. } => "submitted: superseding",
        Submitted::Accepted { replaces: Some(_), .. } => "submitted: replacing",
        Submitted::Accepted { .. } => "submitted: accepted",
        Submitted::InProgress { .. } => "submitted: in progress",
        Submitted::Final { .. } => "submitted: final",
    }
}

fn name_of_completed(status: CompletedStatus) -> &'static str {
    match status {
        CompletedStatus::Acknowledged => "completed: lease lost",
        CompletedStatus::RetryScheduled(_) => "completed: retry scheduled",
        CompletedStatus::Final(FinalStatus::Completed) => "completed: completed",
        CompletedStatus::Final(FinalStatus::Dead) => "completed: dead",
        CompletedStatus::Final(FinalStatus::Expired) => "completed: expired",
        CompletedStatus::Final(_) => "completed: otherwise",
    }
}

fn name_of_refusal(refusal: &Refusal) -> &'static str {
    match refusal {
        Refusal::QueueFull { .. } => "refused: queue full",
        Refusal::QueueBytesFull { .. } => "refused: queue bytes full",
        Refusal::JobTooLarge { .. } => "refused: job too large",
        Refusal::NodeTooLarge { .. } => "refused: node too large",
        Refusal::ClassesFull { .. } => "refused: classes full",
        Refusal::NodesFull { .. } => "refused: nodes full",
        Refusal::NodeBytesFull { .. } => "refused: node bytes full",
        Refusal::SharedBytesFull { .. } => "refused: shared bytes full",
        Refusal::RulesNotTaken => "refused: rules not taken",
        Refusal::KeysFull { .. } => "refused: keys full",
        Refusal::KeyCollision { .. } => "refused: key collision",
        Refusal::UnknownJob => "refused: unknown job",
        Refusal::LeaseLost => "refused: lease lost",
        Refusal::AlreadyFinal { .. } => "refused: already final",
        Refusal::LettersFull { .. } => "refused: letters full",
        Refusal::LetterBytesFull { .. } => "refused: bytes of letters full",
        Refusal::NotDead => "refused: not dead",
        Refusal::KindChanged { .. } => "refused: kind changed",
        Refusal::RuledKindsFull { .. } => "refused: too many kinds",
        Refusal::UnknownNode => "refused: unknown node",
        Refusal::NeverAttested => "refused: never attested",
        Refusal::AttestationChanged => "refused: attestation changed",
        Refusal::SpoofSuspect => "refused: spoof suspect",
        Refusal::Token(_) => "refused: order about the token",
        Refusal::PolicyDenied(_) => "refused: denied by policy",
        Refusal::PolicyMalformed(_) => "refused: policy malformed",
        Refusal::PolicyVersionExists { .. } => "refused: policy version exists",
        Refusal::PolicyVersionTooLow { .. } => "refused: policy version too low",
        Refusal::PoliciesFull { .. } => "refused: policies full",
        Refusal::UnknownPolicy => "refused: unknown policy",
        Refusal::PolicyNotActive { .. } => "refused: policy not active",
        Refusal::PolicyLocksOut => "refused: policy locks out",
        Refusal::NodeInUse { .. } => "refused: node in use",
        Refusal::TooManyLetters { .. } => "refused: too many letters",
        Refusal::TooManyActs { .. } => "refused: too many acts",
        Refusal::UnknownAct => "refused: unknown act",
        Refusal::ActEnded => "refused: act ended",
        Refusal::UnknownOrphan => "refused: unknown orphan",
    }
}
