//! Telemetry: what happens in the hub, counted. Ephemeral: it starts empty, no journal holds it, a replay has none, and
//! nothing of it is asked when a command is decided.
//!
//! Fed by the hub with what happens to jobs and by [`Telemetry::observe`] with what the shell saw. Each costs O(1);
//! memory is bounded (some 3 MB) whatever happens.

pub mod kinds;
pub mod timing;
pub mod window;

use crate::effect::Audit;
use crate::name::Name;
use crate::outcome::{DropReason, FinalStatus};
use crate::time::{Millis, Timestamp};
use kinds::{Kinds, Place};
use std::net::IpAddr;
use timing::{Timing, Unit};
use window::Window;

/// The queue counts as full for so long after it refused something: longer than the `Retry-After` of the refusal, so
/// that it does not flicker while clients wait.
const BACKPRESSURE_LINGER: Millis = Millis::from_secs(2);

/// What the shell saw that is no command: it may come from anybody, so no journal holds it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Observation {
    /// An address came without a token, or with one that is not the hub's.
    AuthFailure {
        /// Who.
        address: IpAddr,
        /// Whether there was a token at all.
        is_token_present: bool,
    },
    /// An address was turned away for its many failures.
    AuthBlocked,
    /// A token was right.
    AuthSuccess,
    /// A path was asked of the wrong plane.
    PortMismatch,
    /// A result's checksum or signature was right.
    IntegrityVerified,
    /// A result had neither, though one was needed.
    IntegrityMissing,
    /// A result's checksum or signature was wrong.
    IntegrityFailed,
    /// The journal holds one more batch.
    JournalCommit {
        /// How long it took, from the hand-over to the disk's answer.
        took_us: u64,
    },
    /// The journal's disk takes nothing.
    JournalFailure,
}

/// What is counted since the start and in the last minute.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Counter {
    /// Requests without a token.
    AuthFailureMissing,
    /// Requests with a token that is not the hub's.
    AuthFailureBad,
    /// Requests that were turned away for their address' failures.
    AuthBlocked,
    /// Requests with the active token.
    AuthSuccess,
    /// Requests for a path of the other plane.
    PortMismatch,
    /// Jobs that came in.
    Submitted,
    /// Jobs that ended with a result.
    Completed,
    /// Jobs that ended without success, whatever their attempts.
    Failed,
    /// Submits, and nodes' first words, that were refused because something is full.
    Dropped(DropReason),
    /// Pulls that got nothing because too much is under lease.
    InflightSaturated,
    /// Leases given.
    Leased,
    /// Attempts that ended, however.
    AttemptEnded,
    /// Attempts after which the job is tried again.
    RetryScheduled,
    /// Jobs whose attempts or time for retries are spent.
    RetryExhausted,
    /// Leases that ended without a result.
    LeaseReaped,
    /// Submits that repeated one whose job is not final.
    IdempotentInProgress,
    /// Submits that repeated one whose job is final.
    IdempotentCompleted,
    /// Submits whose key belongs to another payload.
    IdempotentCollision,
    /// Results with the right checksum or signature.
    IntegrityVerified,
    /// Results without the checksum or signature that is needed.
    IntegrityMissing,
    /// Results with a wrong checksum or signature.
    IntegrityFailed,
    /// Batches that the journal holds.
    JournalCommit,
    /// Times that the journal's disk began to take nothing.
    JournalFailure,
}

/// How many counters there are.
const COUNTERS: usize = 22 + DropReason::ALL.len();

/// All counts.
#[derive(Clone, Debug)]
pub struct Telemetry {
    meters: Vec<Meter>,
    queue_wait: Timing,
    run: Timing,
    journal_commit: Timing,
    kinds: Kinds,
    dropped_at: Option<Timestamp>,
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
        }
    }
}

impl Telemetry {
    /// The shell saw something.
    pub fn observe(&mut self, at: Timestamp, observation: Observation) {
        let counter = match observation {
            Observation::AuthFailure { is_token_present: false, .. } => Counter::AuthFailureMissing,
            Observation::AuthFailure { is_token_present: true, .. } => Counter::AuthFailureBad,
            Observation::AuthBlocked => Counter::AuthBlocked,
            Observation::AuthSuccess => Counter::AuthSuccess,
            Observation::PortMismatch => Counter::PortMismatch,
            Observation::IntegrityVerified => Counter::IntegrityVerified,
            Observation::IntegrityMissing => Counter::IntegrityMissing,
            Observation::IntegrityFailed => Counter::IntegrityFailed,
            Observation::JournalCommit { took_us } => {
                self.journal_commit.record(at, took_us);
                Counter::JournalCommit
            }
            Observation::JournalFailure => Counter::JournalFailure,
        };
        self.count(at, counter);
    }

    /// A job of a kind came in. `place` remembers where the kind is counted.
    pub(crate) fn submitted(&mut self, at: Timestamp, kind: &Name, place: &mut Option<Place>) {
        self.kinds.of(at, kind, place).submitted += 1;
        self.count(at, Counter::Submitted);
    }

    /// A job was leased, after it had been ready for so long.
    pub(crate) fn leased(&mut self, at: Timestamp, waited: Millis) {
        self.queue_wait.record(at, waited.get());
        self.count(at, Counter::Leased);
    }

    /// An attempt ended, however, after so long.
    pub(crate) fn attempt_ended(&mut self, at: Timestamp, ran: Millis) {
        self.run.record(at, ran.get());
        self.count(at, Counter::AttemptEnded);
    }

    /// A job of a kind is final.
    pub(crate) fn ended(&mut self, at: Timestamp, kind: &Name, place: &mut Option<Place>, status: FinalStatus) {
        self.kinds.of(at, kind, place).ended[status as usize] += 1;
        match status {
            FinalStatus::Completed => self.count(at, Counter::Completed),
            FinalStatus::Failed | FinalStatus::Dead => self.count(at, Counter::Failed),
            FinalStatus::Cancelled | FinalStatus::Expired | FinalStatus::Superseded => {}
        }
    }

    /// How many there were since the start.
    pub fn total(&self, counter: Counter) -> u64 {
        self.meters[counter.place()].total
    }

    /// How many there were in the last 60 seconds.
    pub fn last_minute(&self, now: Timestamp, counter: Counter) -> u64 {
        self.meters[counter.place()].window.sum(now)
    }

    /// How many submits were refused in the last 60 seconds because something is full.
    pub fn dropped_last_minute(&self, now: Timestamp) -> u64 {
        DropReason::ALL.iter().map(|reason| self.last_minute(now, Counter::Dropped(*reason))).sum()
    }

    /// Whether something was refused so short a time ago that it would be again.
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

    /// How long the journal took for a batch.
    pub fn journal_commit(&self) -> &Timing {
        &self.journal_commit
    }

    /// What became of the jobs of each kind.
    pub fn kinds(&self) -> &Kinds {
        &self.kinds
    }

    /// The audit log gets a line.
    pub(crate) fn audit(&mut self, at: Timestamp, audit: &Audit) {
        let counter = match audit {
            Audit::BackpressureDrop { reason, .. } => {
                self.dropped_at = self.dropped_at.max(Some(at));
                Counter::Dropped(*reason)
            }
            Audit::InflightSaturated { .. } => Counter::InflightSaturated,
            Audit::LeaseReap { .. } => Counter::LeaseReaped,
            Audit::RetryScheduled { .. } => Counter::RetryScheduled,
            Audit::RetryExhausted { .. } => Counter::RetryExhausted,
            Audit::IdempotencyHit { is_final: false, .. } => Counter::IdempotentInProgress,
            Audit::IdempotencyHit { is_final: true, .. } => Counter::IdempotentCompleted,
            Audit::IdempotencyKeyCollision { .. } => Counter::IdempotentCollision,
            Audit::NodeRegistered { .. }
            | Audit::NodeOnline { .. }
            | Audit::NodeStale { .. }
            | Audit::NodeDead { .. } => return,
        };
        self.count(at, counter);
    }

    fn count(&mut self, at: Timestamp, counter: Counter) {
        let meter = &mut self.meters[counter.place()];
        meter.total += 1;
        meter.window.add(at, 1);
    }
}

impl Counter {
    fn place(self) -> usize {
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
            Counter::Dropped(reason) => 22 + reason as usize,
        }
    }
}
