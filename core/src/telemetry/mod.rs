//! Telemetry: counts of what happens in the hub. Ephemeral: it starts empty, is neither journaled nor filled by a
//! replay, and no decision depends on it.
//!
//! The hub reports what happens to jobs, and the shell reports what it observes ([`Telemetry::observe`]). Each report
//! costs O(1); memory is bounded by about 3 MB.

pub(crate) mod drops;
pub mod kinds;
pub mod timing;
pub mod window;

use crate::effect::Audit;
use crate::name::Name;
use crate::outcome::{DropReason, FinalStatus};
use crate::queue::lease::Toll;
use crate::time::{Millis, Timestamp};
use kinds::{Kinds, RowRef};
use std::net::IpAddr;
use timing::{Timing, Unit};
use window::Window;

/// The queue counts as full for so long after a refusal, so that the state does not flicker while clients that were told
/// to wait a second are away.
const BACKPRESSURE_LINGER: Millis = Millis::from_secs(2);

/// What the shell observes beside commands. Unauthenticated callers can cause it, so it is not journaled.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Observation {
    /// A request had no token, or a wrong one.
    AuthFailure { address: IpAddr, is_token_present: bool },
    /// A request was refused because its address is blocked for its authentication failures.
    AuthBlocked,
    /// A request had a token that a rotation has replaced.
    AuthRetired,
    /// A request had the active token, also within the window of a rotation.
    AuthSuccess,
    /// A request had the next token of a rotation.
    AuthSuccessNext,
    /// A request for a path of the other plane.
    PortMismatch,
    /// A result's checksum or signature was right.
    IntegrityVerified,
    /// A result had no checksum or signature, though it was required.
    IntegrityMissing,
    /// A result's checksum or signature was wrong.
    IntegrityFailed,
    /// A pull got no jobs, because as many of the kinds that it names are under lease as may be.
    KindSaturated,
    /// A stored result that was to be shown no longer matches its checksum.
    ResultCorrupt,
    /// A result's signature was right, by the only key or by the next one of a rotation.
    SignedByNewKey,
    /// A result's signature was right, by the key that a rotation replaces.
    SignedByOldKey,
    /// A batch is durable in the journal.
    JournalCommit {
        /// From the hand-over until the disk has confirmed it.
        took_us: u64,
        /// The loop's thread wrote it, since the disk is fast.
        is_in_loop: bool,
    },
    /// The loop's thread was still at the disk, so the other one took the loop.
    LoopTakenOver,
    /// Writes to the journal's disk began to fail.
    JournalFailure,
}

/// Counters, each since the start and for the last minute.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Counter {
    /// Requests without a token.
    AuthFailureMissing,
    /// Requests with a wrong token.
    AuthFailureBad,
    /// Requests that were refused because their address is blocked for its authentication failures.
    AuthBlocked,
    /// Requests with a token that a rotation has replaced.
    AuthRetired,
    /// Requests with the active token, also within the window of a rotation.
    AuthSuccess,
    /// Requests with the next token of a rotation.
    AuthSuccessNext,
    /// Requests for a path of the other plane.
    PortMismatch,
    /// Jobs that were accepted.
    Submitted,
    /// Jobs that ended with success.
    Completed,
    /// Jobs that ended because attempts failed.
    Failed,
    /// Jobs that were cancelled, expired or were superseded.
    EndedOtherwise,
    /// Submits and heartbeats that were refused because a limit is reached.
    Dropped(DropReason),
    /// Pulls that got no jobs because too many are under lease.
    InflightSaturated,
    /// Leases given.
    Leased,
    /// Attempts that ended, for whatever reason.
    AttemptEnded,
    /// Attempts after which a retry was scheduled.
    RetryScheduled,
    /// Jobs whose attempts or retry budget were exhausted.
    RetryExhausted,
    /// Leases that ended without a result.
    LeaseReaped,
    /// Leases that are counted as losses: they expired, or their nodes died.
    LeaseLost,
    /// Leases that were given back and are not charged: released, drained, or never delivered.
    LeaseReturned,
    /// Submits that repeated one whose job is not final.
    IdempotentInProgress,
    /// Submits that repeated one whose job is final.
    IdempotentCompleted,
    /// Submits whose key is bound to another payload.
    IdempotentCollision,
    /// Results with the right checksum or signature.
    IntegrityVerified,
    /// Results without the checksum or signature that is required.
    IntegrityMissing,
    /// Results with a wrong checksum or signature.
    IntegrityFailed,
    /// Reads of stored results that no longer match their checksum.
    ResultCorrupt,
    /// Results signed with the only key, or with the next one of a rotation.
    SignedByNewKey,
    /// Results signed with the key that a rotation replaces.
    SignedByOldKey,
    /// Batches that are durable in the journal.
    JournalCommit,
    /// Those that the loop's thread wrote.
    JournalCommitInLoop,
    /// Times that the loop was taken over from a thread that was at the disk.
    LoopTakenOver,
    /// Times that writes to the journal's disk began to fail.
    JournalFailure,
    /// Jobs that became dead letters.
    DeadLetterAdded,
    /// Dead letters that were requeued, one by one or by an act on many.
    DeadLetterRequeued,
    /// Dead letters that were discarded, one by one or by an act on many.
    DeadLetterDiscarded,
    /// Dead letters that went for others, or for their age.
    DeadLetterEvicted,
    /// Dead letters for which a result came.
    DeadLetterCompleted,
    /// Jobs that were cancelled.
    Cancelled,
    /// New attestations that differ from their nodes' baselines.
    AttestationDrift,
    /// Times that a node became suspect of being several.
    AttestationSpoof,
    /// Times that a node was warned about.
    NodeWarned,
    /// Times that a node was put in quarantine.
    NodeQuarantined,
    /// Results of unknown jobs.
    ResultOrphaned,
}

const COUNTERS: usize = 43 + DropReason::ALL.len();

/// All counts.
#[derive(Clone, Debug)]
pub struct Telemetry {
    meters: Vec<Meter>,
    queue_wait: Timing,
    run: Timing,
    journal_commit: Timing,
    kinds: Kinds,
    dropped_at: Option<Timestamp>,
    /// Since when jobs wait: when there was none before.
    waits_since: Timestamp,
    /// When the latest lease was given.
    leased_at: Timestamp,
}

#[derive(Clone, Default, Debug)]
struct Meter {
    total: u64,
    window: Window,
}

impl Default for Telemetry {
    fn default() -> Self {
        Telemetry {
            meters: vec![Meter::default(); COUNTERS],
            queue_wait: Timing::new(Unit::Millis),
            run: Timing::new(Unit::Millis),
            journal_commit: Timing::new(Unit::Micros),
            kinds: Kinds::default(),
            dropped_at: None,
            waits_since: Timestamp::ZERO,
            leased_at: Timestamp::ZERO,
        }
    }
}

impl Telemetry {
    /// Counts what the shell observed.
    pub fn observe(&mut self, at: Timestamp, observation: Observation) {
        let counter = match observation {
            Observation::AuthFailure { is_token_present: false, .. } => Counter::AuthFailureMissing,
            Observation::AuthFailure { is_token_present: true, .. } => Counter::AuthFailureBad,
            Observation::AuthBlocked => Counter::AuthBlocked,
            Observation::AuthRetired => Counter::AuthRetired,
            Observation::AuthSuccess => Counter::AuthSuccess,
            Observation::AuthSuccessNext => Counter::AuthSuccessNext,
            Observation::PortMismatch => Counter::PortMismatch,
            Observation::IntegrityVerified => Counter::IntegrityVerified,
            Observation::IntegrityMissing => Counter::IntegrityMissing,
            Observation::IntegrityFailed => Counter::IntegrityFailed,
            Observation::KindSaturated => Counter::InflightSaturated,
            Observation::ResultCorrupt => Counter::ResultCorrupt,
            Observation::SignedByNewKey => Counter::SignedByNewKey,
            Observation::SignedByOldKey => Counter::SignedByOldKey,
            Observation::LoopTakenOver => Counter::LoopTakenOver,
            Observation::JournalCommit { took_us, is_in_loop } => {
                self.journal_commit.record(at, took_us);
                if is_in_loop {
                    self.count(at, Counter::JournalCommitInLoop);
                }
                Counter::JournalCommit
            }
            Observation::JournalFailure => Counter::JournalFailure,
        };
        self.count(at, counter);
    }

    /// Counts a job that was accepted. `row_ref` caches the kind's row.
    pub(crate) fn count_submitted(&mut self, at: Timestamp, kind: &Name, row_ref: &mut Option<RowRef>) {
        self.kinds.counts_mut(at, kind, row_ref).submitted += 1;
        self.count(at, Counter::Submitted);
    }

    /// Counts a lease; `waited` is the time since the job became ready.
    pub(crate) fn count_leased(&mut self, at: Timestamp, waited: Millis) {
        self.leased_at = self.leased_at.max(at);
        self.queue_wait.record(at, waited.get());
        self.count(at, Counter::Leased);
    }

    /// Counts an attempt that ended, for whatever reason.
    pub(crate) fn count_attempt_ended(&mut self, at: Timestamp, ran: Millis, toll: Toll) {
        self.run.record(at, ran.get());
        self.count(at, Counter::AttemptEnded);
        match toll {
            Toll::Charge => {}
            Toll::Loss => self.count(at, Counter::LeaseLost),
            Toll::Return => self.count(at, Counter::LeaseReturned),
        }
    }

    /// Counts a job that became final. `row_ref` caches the kind's row.
    pub(crate) fn count_ended(
        &mut self,
        at: Timestamp,
        kind: &Name,
        row_ref: &mut Option<RowRef>,
        status: FinalStatus,
    ) {
        self.kinds.counts_mut(at, kind, row_ref).ended[status as usize] += 1;
        if !matches!(status, FinalStatus::Failed | FinalStatus::Dead) {
            self.kinds.count_without_letter(at, *row_ref);
        }
        match status {
            FinalStatus::Completed => self.count(at, Counter::Completed),
            FinalStatus::Failed | FinalStatus::Dead => self.count(at, Counter::Failed),
            FinalStatus::Cancelled | FinalStatus::Expired | FinalStatus::Superseded => {
                self.count(at, Counter::EndedOtherwise)
            }
        }
    }

    /// Counts a dead letter that an act requeued or discarded.
    pub(crate) fn count_left_by_act(&mut self, at: Timestamp, is_requeued: bool) {
        self.count(at, if is_requeued { Counter::DeadLetterRequeued } else { Counter::DeadLetterDiscarded });
    }

    /// The count since the start.
    pub fn total(&self, counter: Counter) -> u64 {
        self.meters[counter.index()].total
    }

    /// The count of the last 60 seconds.
    pub fn last_minute(&self, now: Timestamp, counter: Counter) -> u64 {
        self.meters[counter.index()].window.sum(now)
    }

    /// When the oldest second began in which the last 60 seconds have such an event.
    pub(crate) fn oldest_of_minute(&self, now: Timestamp, counter: Counter) -> Option<Timestamp> {
        self.meters[counter.index()].window.oldest_at(now)
    }

    /// Notes that jobs wait from now on, and did not before.
    pub(crate) fn begin_waiting(&mut self, at: Timestamp) {
        self.waits_since = at;
    }

    /// Since when jobs wait, as far as it was seen.
    pub(crate) fn waits_since(&self) -> Timestamp {
        self.waits_since
    }

    /// When the latest lease was given, as far as it was seen.
    pub fn leased_at(&self) -> Timestamp {
        self.leased_at
    }

    /// Submits and heartbeats that were refused in the last 60 seconds because a limit is reached.
    pub fn dropped_last_minute(&self, now: Timestamp) -> u64 {
        DropReason::ALL.iter().map(|reason| self.last_minute(now, Counter::Dropped(*reason))).sum()
    }

    /// Whether the latest such refusal was less than two seconds ago.
    pub fn has_just_dropped(&self, now: Timestamp) -> bool {
        self.dropped_at.is_some_and(|at| now < at + BACKPRESSURE_LINGER)
    }

    /// How long jobs waited for a node, from ready to leased.
    pub fn queue_wait(&self) -> &Timing {
        &self.queue_wait
    }

    /// How long attempts took, from the lease to its end.
    pub fn run(&self) -> &Timing {
        &self.run
    }

    /// How long it took until a batch was durable in the journal.
    pub fn journal_commit(&self) -> &Timing {
        &self.journal_commit
    }

    pub fn kinds(&self) -> &Kinds {
        &self.kinds
    }

    /// Counts an event of the audit log.
    pub(crate) fn count_audit(&mut self, at: Timestamp, audit: &Audit) {
        let counter = match audit {
            Audit::InflightSaturated { .. } | Audit::InflightBytesSaturated { .. } => Counter::InflightSaturated,
            Audit::LeaseReap { .. } => Counter::LeaseReaped,
            Audit::RetryScheduled { .. } => Counter::RetryScheduled,
            Audit::RetryExhausted { .. } => Counter::RetryExhausted,
            Audit::IdempotencyHit { ended: None, .. } => Counter::IdempotentInProgress,
            Audit::IdempotencyHit { ended: Some(_), .. } => Counter::IdempotentCompleted,
            Audit::IdempotencyKeyCollision { .. } => Counter::IdempotentCollision,
            Audit::DeadLetterAdded { .. } => Counter::DeadLetterAdded,
            Audit::DeadLetterRequeued { .. } => Counter::DeadLetterRequeued,
            Audit::DeadLetterDiscarded { .. } => Counter::DeadLetterDiscarded,
            Audit::DeadLetterEvicted { .. } => Counter::DeadLetterEvicted,
            Audit::DeadLetterCompleted { .. } => Counter::DeadLetterCompleted,
            Audit::JobCancelled { .. } => Counter::Cancelled,
            Audit::ResultOrphaned { .. } => Counter::ResultOrphaned,
            Audit::AttestationDrift { .. } => Counter::AttestationDrift,
            Audit::AttestationSpoofSuspect { .. } => Counter::AttestationSpoof,
            Audit::NodeWarned { .. } => Counter::NodeWarned,
            Audit::NodeQuarantined { .. } => Counter::NodeQuarantined,
            // Counted when they are refused, by `count_dropped`.
            Audit::BackpressureDrop { .. }
            | Audit::ResultUnleased { .. }
            | Audit::ActBegan { .. }
            | Audit::ActEnded { .. }
            | Audit::OrphanAdopted { .. }
            | Audit::OrphanDiscarded { .. }
            | Audit::OrphansEvicted { .. }
            | Audit::KindChanged { .. }
            | Audit::WeightsChanged { .. }
            | Audit::KindResumed { .. }
            | Audit::NodeDrained { .. }
            | Audit::NodeResumed { .. }
            | Audit::NodeRemoved { .. }
            | Audit::AttestationFirstSeen { .. }
            | Audit::AttestationRestored { .. }
            | Audit::AttestationMissing { .. }
            | Audit::AttestationAccepted { .. }
            | Audit::IdentityPinned { .. }
            | Audit::IdentityFault { .. }
            | Audit::IdentityRekeyed { .. }
            | Audit::NodeNormal { .. }
            | Audit::NodeCleared { .. }
            | Audit::TokenChanged { .. }
            | Audit::PolicyAdded { .. }
            | Audit::PolicyActivated { .. }
            | Audit::PolicyTampered { .. }
            | Audit::NodeRegistered { .. }
            | Audit::NodeOnline { .. }
            | Audit::NodeStale { .. }
            | Audit::NodeDead { .. } => return,
        };
        self.count(at, counter);
    }

    /// Counts refusals because a limit is reached.
    pub(crate) fn count_dropped(&mut self, at: Timestamp, reason: DropReason, count: u32) {
        self.dropped_at = self.dropped_at.max(Some(at));
        self.count_many(at, Counter::Dropped(reason), count);
    }

    fn count(&mut self, at: Timestamp, counter: Counter) {
        self.count_many(at, counter, 1);
    }

    fn count_many(&mut self, at: Timestamp, counter: Counter, count: u32) {
        let meter = &mut self.meters[counter.index()];
        meter.total += u64::from(count);
        meter.window.add(at, count);
    }
}

impl Counter {
    fn index(self) -> usize {
        match self {
            Counter::AuthFailureMissing => 0,
            Counter::AuthFailureBad => 1,
            Counter::AuthBlocked => 2,
            Counter::AuthSuccess => 3,
            Counter::PortMismatch => 4,
            Counter::Submitted => 5,
            Counter::Completed => 6,
            Counter::Failed => 7,
            Counter::InflightSaturated => 8,
            Counter::Leased => 9,
            Counter::AttemptEnded => 10,
            Counter::RetryScheduled => 11,
            Counter::RetryExhausted => 12,
            Counter::LeaseReaped => 13,
            Counter::IdempotentInProgress => 14,
            Counter::IdempotentCompleted => 15,
            Counter::IdempotentCollision => 16,
            Counter::IntegrityVerified => 17,
            Counter::IntegrityMissing => 18,
            Counter::IntegrityFailed => 19,
            Counter::JournalCommit => 20,
            Counter::JournalFailure => 21,
            Counter::JournalCommitInLoop => 22,
            Counter::LoopTakenOver => 23,
            Counter::ResultCorrupt => 24,
            Counter::SignedByNewKey => 25,
            Counter::SignedByOldKey => 26,
            Counter::EndedOtherwise => 27,
            Counter::DeadLetterAdded => 28,
            Counter::DeadLetterRequeued => 29,
            Counter::DeadLetterEvicted => 30,
            Counter::Cancelled => 31,
            Counter::ResultOrphaned => 32,
            Counter::LeaseLost => 33,
            Counter::LeaseReturned => 34,
            Counter::DeadLetterDiscarded => 35,
            Counter::DeadLetterCompleted => 36,
            Counter::AttestationDrift => 37,
            Counter::AttestationSpoof => 38,
            Counter::NodeWarned => 39,
            Counter::NodeQuarantined => 40,
            Counter::AuthRetired => 41,
            Counter::AuthSuccessNext => 42,
            Counter::Dropped(reason) => 43 + reason as usize,
        }
    }
}
