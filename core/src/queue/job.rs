//! A job: what to do, and how far it got.
//!
//! ```text
//!             ┌────────── retry ──────────┐
//!             ▼                           │
//! submit ► Scheduled ► Queued ► Leased ───┴► Final(completed | failed | dead | cancelled | expired | superseded)
//!             └───────────┴─────── expire, supersede ──────────────────▲
//! ```
//! Each lease is an attempt; its number is the lease's generation and fences the ones before it. The record takes about
//! 250 bytes besides its texts, and 64 for each attempt.

use crate::command::{Complete, Priority};
use crate::ids::{JobSeq, LeaseRef, NodeNo};
use crate::limits::JOB_OVERHEAD_BYTES;
use crate::mutants::{self, Mutant};
use crate::name::Name;
use crate::outcome::{CompletedStatus, FinalStatus};
use crate::payload::Payload;
use crate::queue::lane::{ClassKey, ClassNo, Rank};
use crate::time::{Millis, Timestamp};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// One job.
#[derive(Debug)]
pub struct Job {
    pub(super) seq: JobSeq,
    pub(super) kind: Name,
    pub(super) params: Payload,
    pub(super) priority: Priority,
    pub(super) class: Arc<ClassKey>,
    /// Meaningful until the job is final.
    pub(super) class_no: ClassNo,
    pub(super) terms: Terms,
    pub(super) state: State,
    pub(super) attempts: Vec<Attempt>,
}

/// What the client asked for and the hub granted; it never changes.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) struct Terms {
    pub submitted_at: Timestamp,
    /// Set for a job with a time to live.
    pub expires_at: Timestamp,
    /// No retry starts after it.
    pub retry_until: Timestamp,
    pub attempts_max: u32,
    pub lease_duration_ms: Option<Millis>,
    pub idempotency_key: Option<u128>,
}

/// How far a job got.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub enum State {
    /// Waits for an instant: a delayed start, or the next attempt.
    Scheduled {
        /// When it may run.
        due_at: Timestamp,
    },
    /// Waits for a node.
    Queued {
        /// Since when.
        since: Timestamp,
    },
    /// A node works on it.
    Leased {
        /// Which.
        node: NodeNo,
        /// Until when.
        until: Timestamp,
    },
    /// It ended.
    Final {
        /// How.
        status: FinalStatus,
        /// When.
        at: Timestamp,
        /// What came of it.
        result: Payload,
        /// What went wrong.
        error: Payload,
        /// Its place in the order of ending, for retention.
        final_no: u64,
    },
}

/// One lease of a job.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Attempt {
    /// The node that tried.
    pub node: Name,
    /// From when.
    pub started_at: Timestamp,
    /// How it ended.
    pub end: AttemptEnd,
}

/// How an attempt ended.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub enum AttemptEnd {
    /// Not yet.
    Running,
    /// With a result.
    Completed {
        /// When.
        at: Timestamp,
        /// Tells the result from another.
        mark: u64,
    },
    /// With an error.
    Failed {
        /// When.
        at: Timestamp,
        /// Tells the result from another.
        mark: u64,
        /// What the node said; absent if it was long.
        error: Payload,
    },
    /// Its lease ended without a result.
    Expired {
        /// When.
        at: Timestamp,
    },
    /// Its lease was taken back.
    Revoked {
        /// When.
        at: Timestamp,
    },
}

/// How a result compares with what is known of its job.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Standing {
    /// It is the current lease's: to be taken.
    Current,
    /// It was taken before.
    Repeat,
    /// Its lease is not (or no longer) the job's.
    Lost,
    /// Without a lease, for a job that ended otherwise.
    Final(FinalStatus),
}

impl Job {
    /// The job's number.
    pub fn seq(&self) -> JobSeq {
        self.seq
    }

    /// What it is called.
    pub fn kind(&self) -> &Name {
        &self.kind
    }

    /// With what it was submitted.
    pub fn params(&self) -> &Payload {
        &self.params
    }

    /// How urgent it is.
    pub fn priority(&self) -> Priority {
        self.priority
    }

    /// Which nodes may run it.
    pub fn class(&self) -> &ClassKey {
        &self.class
    }

    /// When it was submitted.
    pub fn submitted_at(&self) -> Timestamp {
        self.terms.submitted_at
    }

    /// When it expires; [`Timestamp::NEVER`] if it does not.
    pub fn expires_at(&self) -> Timestamp {
        self.terms.expires_at
    }

    /// How many attempts it has in all.
    pub fn attempts_max(&self) -> u32 {
        self.terms.attempts_max
    }

    /// How far it got.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Its attempts, oldest first.
    pub fn attempts(&self) -> &[Attempt] {
        &self.attempts
    }

    /// The word for its state.
    pub fn status(&self) -> &'static str {
        self.state.as_str()
    }

    /// Its latest lease.
    pub fn lease(&self) -> LeaseRef {
        let generation = self.attempts.len() as u32;
        if mutants::is_active(Mutant::LeaseGenerationReused) {
            return LeaseRef { job: self.seq, generation: generation.min(1) };
        }
        LeaseRef { job: self.seq, generation }
    }

    /// The node that works on it.
    pub fn leased_to(&self) -> Option<&Name> {
        match self.state {
            State::Leased { .. } => self.attempts.last().map(|attempt| &attempt.node),
            _ => None,
        }
    }

    /// Whether it waits for an instant or a node.
    pub(super) fn is_waiting(&self) -> bool {
        matches!(self.state, State::Scheduled { .. } | State::Queued { .. })
    }

    pub(super) fn rank(&self) -> Rank {
        (self.priority, self.seq)
    }

    /// What it counts for among the waiting jobs' bytes.
    pub(super) fn waiting_bytes(&self) -> u64 {
        self.params.len() as u64
    }

    /// What it counts for among the final jobs' bytes. O(attempts).
    pub(super) fn retained_bytes(&self) -> u64 {
        let outcome = match &self.state {
            State::Final { result, error, .. } => result.len() + error.len(),
            _ => 0,
        };
        let errors: usize = self.attempts.iter().map(Attempt::error_bytes).sum();
        JOB_OVERHEAD_BYTES + (self.params.len() + outcome + errors) as u64
    }

    /// A node gets it: the lease of this attempt.
    pub(super) fn lease_to(&mut self, now: Timestamp, node: NodeNo, name: Name, until: Timestamp) -> LeaseRef {
        assert!(matches!(self.state, State::Queued { .. }), "only a queued job is leased");
        self.attempts.push(Attempt { node: name, started_at: now, end: AttemptEnd::Running });
        self.state = State::Leased { node, until };
        self.lease()
    }

    /// Ends the current attempt.
    pub(super) fn end_attempt(&mut self, end: AttemptEnd) {
        let attempt = self.attempts.last_mut().expect("a leased job has an attempt");
        assert!(attempt.end == AttemptEnd::Running, "an attempt ends once");
        attempt.end = end;
    }

    /// Whether the job may be tried again at `due_at`.
    pub(super) fn may_retry_at(&self, due_at: Timestamp) -> bool {
        let attempts = self.attempts.len() as u32 + u32::from(mutants::is_active(Mutant::AttemptCountedTwice));
        attempts < self.terms.attempts_max && due_at <= self.terms.retry_until
    }

    /// How a result stands to this job.
    pub(super) fn standing(&self, complete: &Complete) -> Standing {
        match complete.lease {
            Some(lease) => self.standing_of_lease(lease, complete),
            None => self.standing_without_lease(complete),
        }
    }

    /// What a result that was taken before is told now.
    pub(super) fn status_after_result(&self) -> CompletedStatus {
        match self.state {
            State::Final { status, .. } => CompletedStatus::Final(status),
            State::Scheduled { due_at } => CompletedStatus::RetryScheduled(due_at),
            State::Queued { since } => CompletedStatus::RetryScheduled(since),
            State::Leased { .. } => {
                let attempt = self.attempts.last().expect("a leased job has an attempt");
                CompletedStatus::RetryScheduled(attempt.started_at)
            }
        }
    }

    fn standing_of_lease(&self, lease: LeaseRef, complete: &Complete) -> Standing {
        if lease.job != self.seq {
            return Standing::Lost;
        }
        let Some(attempt) = (lease.generation as usize).checked_sub(1).and_then(|index| self.attempts.get(index))
        else {
            return Standing::Lost;
        };
        match attempt.end {
            _ if complete.node.as_ref().is_some_and(|node| *node != attempt.node) => Standing::Lost,
            AttemptEnd::Running => Standing::Current,
            AttemptEnd::Completed { mark, .. } | AttemptEnd::Failed { mark, .. } if mark == complete.mark => {
                Standing::Repeat
            }
            AttemptEnd::Expired { .. } | AttemptEnd::Revoked { .. } => Standing::Lost,
            // Another result than the one that was taken.
            AttemptEnd::Completed { .. } | AttemptEnd::Failed { .. } => match self.state {
                State::Final { status, .. } if lease == self.lease() => Standing::Final(status),
                _ => Standing::Lost,
            },
        }
    }

    /// Clients of v1.5 send no lease: the result is taken if the job is leased (to their node, where they say which).
    fn standing_without_lease(&self, complete: &Complete) -> Standing {
        let Some(attempt) = self.attempts.last() else { return Standing::Lost };
        let is_same_node = complete.node.as_ref().is_none_or(|node| *node == attempt.node);
        match (&self.state, &attempt.end) {
            (State::Leased { .. }, _) if is_same_node => Standing::Current,
            (_, AttemptEnd::Completed { mark, .. } | AttemptEnd::Failed { mark, .. })
                if is_same_node && *mark == complete.mark =>
            {
                Standing::Repeat
            }
            (State::Final { status, .. }, _) => Standing::Final(*status),
            _ => Standing::Lost,
        }
    }
}

impl Attempt {
    fn error_bytes(&self) -> usize {
        match &self.end {
            AttemptEnd::Failed { error, .. } => error.len(),
            _ => 0,
        }
    }
}

impl State {
    /// The word for it.
    pub const fn as_str(&self) -> &'static str {
        match self {
            State::Scheduled { .. } => "scheduled",
            State::Queued { .. } => "queued",
            State::Leased { .. } => "leased",
            State::Final { status, .. } => status.as_str(),
        }
    }
}
