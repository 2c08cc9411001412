//! A job in the model: one row, with the submit it came from.

use super::node::ModelNode;
use sheratan_core::limits::{ATTEMPTS_MAX, JOB_OVERHEAD_BYTES, Limits};
use sheratan_core::{
    Attempt, AttemptEnd, Complete, CompletedStatus, HubKey, JobSeq, LeaseRef, Millis, Name, Refusal, State, Submit,
    Timestamp, ZONE_DEFAULT,
};
use siphasher::sip128::{Hasher128, SipHasher24};
use std::hash::Hasher;

/// One job.
#[derive(Clone, Debug)]
pub struct ModelJob {
    /// Its number.
    pub seq: JobSeq,
    /// What the client asked for.
    pub asked: Submit,
    /// When it expires.
    pub expires_at: Timestamp,
    /// No retry starts after it.
    pub retry_until: Timestamp,
    /// Attempts in all.
    pub attempts_max: u32,
    /// How far it got.
    pub state: State,
    /// Its attempts, oldest first.
    pub attempts: Vec<Attempt>,
}

impl ModelJob {
    pub(super) fn new(seq: JobSeq, now: Timestamp, limits: &Limits, submit: &Submit) -> Self {
        let due_at = (now + submit.delay_ms).max(submit.run_at);
        let state = if due_at > now { State::Scheduled { due_at } } else { State::Queued { since: now } };
        ModelJob {
            seq,
            asked: submit.clone(),
            expires_at: submit.ttl_ms.map_or(Timestamp::NEVER, |ttl| now + ttl),
            retry_until: submit.retry_budget_ms.map_or(Timestamp::NEVER, |budget| now + budget),
            attempts_max: submit.attempts_max.unwrap_or(limits.attempts_max).clamp(1, ATTEMPTS_MAX),
            state,
            attempts: Vec::new(),
        }
    }

    /// Whether it waits for an instant or a node.
    pub fn is_waiting(&self) -> bool {
        matches!(self.state, State::Scheduled { .. } | State::Queued { .. })
    }

    /// Whether it ended.
    pub fn is_final(&self) -> bool {
        matches!(self.state, State::Final { .. })
    }

    /// Its latest lease; of generation 0 before the first.
    pub fn last_lease(&self) -> LeaseRef {
        LeaseRef { job: self.seq, generation: self.attempts.len() as u32 }
    }

    /// What decides which nodes may run it.
    pub(super) fn class(&self) -> (String, Vec<Name>) {
        class_of(&self.asked)
    }

    pub(super) fn may_run_on(&self, node: Option<&ModelNode>) -> bool {
        let (zone, requires) = self.class();
        let nodes_zone = node.and_then(|node| node.zone.as_deref()).unwrap_or(ZONE_DEFAULT);
        let has = |name: &Name| node.is_some_and(|node| node.capabilities.contains(name));
        zone == nodes_zone && requires.iter().all(has)
    }

    /// What it counts for among the final jobs' bytes.
    pub(super) fn retained_bytes(&self) -> u64 {
        let mut bytes = self.asked.params.len();
        if let State::Final { result, error, .. } = &self.state {
            bytes += result.len() + error.len();
        }
        for attempt in &self.attempts {
            if let AttemptEnd::Failed { error, .. } = &attempt.end {
                bytes += error.len();
            }
        }
        JOB_OVERHEAD_BYTES + bytes as u64
    }

    /// Whether a result repeats one that was taken, or the refusal; `false` if it is the one that is waited for.
    pub(super) fn judge(&self, complete: &Complete) -> Result<bool, Refusal> {
        let other = match self.state {
            State::Final { status, .. } => Refusal::AlreadyFinal { status },
            _ => Refusal::LeaseLost,
        };
        let taken = |attempt: &Attempt| match attempt.end {
            AttemptEnd::Completed { mark, .. } | AttemptEnd::Failed { mark, .. } => Some(mark),
            _ => None,
        };
        if let Some(lease) = complete.lease {
            let is_one_of_its = lease.job == self.seq && (1..=self.last_lease().generation).contains(&lease.generation);
            if !is_one_of_its {
                return Err(Refusal::LeaseLost);
            }
            let attempt = &self.attempts[lease.generation as usize - 1];
            if complete.node.as_ref().is_some_and(|node| *node != attempt.node) {
                return Err(Refusal::LeaseLost);
            }
            return match (&attempt.end, taken(attempt)) {
                (AttemptEnd::Running, _) => Ok(false),
                (_, Some(mark)) if mark == complete.mark => Ok(true),
                // Another result than the one that was taken.
                (_, Some(_)) if lease == self.last_lease() => Err(other),
                _ => Err(Refusal::LeaseLost),
            };
        }
        let Some(attempt) = self.attempts.last() else { return Err(Refusal::LeaseLost) };
        let is_its_node = complete.node.as_ref().is_none_or(|node| *node == attempt.node);
        if is_its_node && attempt.end == AttemptEnd::Running {
            return Ok(false);
        }
        if is_its_node && taken(attempt) == Some(complete.mark) { Ok(true) } else { Err(other) }
    }

    /// What a result that was taken before is told: how the job ended, or when it runs again.
    pub(super) fn status_for_repeat(&self) -> CompletedStatus {
        match self.state {
            State::Final { status, .. } => CompletedStatus::Final(status),
            State::Scheduled { due_at } => CompletedStatus::RetryScheduled(due_at),
            State::Queued { since } => CompletedStatus::RetryScheduled(since),
            State::Leased { .. } => {
                let started_at = self.attempts.last().expect("a leased job has an attempt").started_at;
                CompletedStatus::RetryScheduled(started_at)
            }
        }
    }
}

pub(super) fn class_of(submit: &Submit) -> (String, Vec<Name>) {
    (submit.zone.as_deref().unwrap_or(ZONE_DEFAULT).to_owned(), submit.requires.clone())
}

/// `d = min(cap, base * 2^(attempt - 1))`: its larger half, and of the other half a part that the hub's key, the job and
/// the attempt choose.
pub(super) fn retry_delay(key: &HubKey, limits: &Limits, seq: JobSeq, attempt: u32) -> Millis {
    let mut full = limits.retry_delay_ms_base.get();
    for _ in 1..attempt {
        full = full.saturating_mul(2);
    }
    let full = full.min(limits.retry_delay_ms_cap.get());
    let half = full / 2;
    let mut hasher = SipHasher24::new_with_key(key.as_bytes());
    hasher.write(&[4]);
    hasher.write(&seq.get().to_le_bytes());
    hasher.write(&attempt.to_le_bytes());
    let part = hasher.finish128().as_u128() & u128::from(u64::MAX);
    Millis::new(full - half + ((part * u128::from(half + 1)) >> 64) as u64)
}
