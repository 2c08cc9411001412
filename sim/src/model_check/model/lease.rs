//! Leases in the model: pulls, and what nodes say of their leases.

use super::ending::{Failure, Sent};
use super::job::{Judged, Toll};
use super::{Model, leases_of};
use sheratan_core::limits::{ATTEMPT_ERROR_BYTES_MAX, DEFER_MS, DRAINED_DEFER_MS, PULL_JOBS_MAX, RECLAIMS_MAX};
use sheratan_core::{
    AttemptEnd, Complete, Completed, CompletedStatus, Extend, Extended, FinalStatus, JobSeq, LeaseRef, Leased, Millis,
    Name, NodeIndex, Payload, Pull, Pulled, Refusal, Released, Revocation, State, Timestamp, Withheld,
};

impl Model {
    pub(super) fn pull(&mut self, pull: &Pull) -> Result<Pulled, Refusal> {
        let nothing = |defer_ms, withheld| Ok(Pulled { node: None, leases: Vec::new(), defer_ms, withheld });
        if self.is_drained(&pull.node) {
            return nothing(DRAINED_DEFER_MS, Some(Withheld::Drained));
        }
        let room = self.room_for(&pull.node);
        if room == 0 {
            return nothing(DEFER_MS, None);
        }
        let Some(first) = self.ready_for(pull) else { return nothing(Millis::ZERO, None) };
        if !self.fits_under_lease(first, &pull.node) {
            return nothing(DEFER_MS, None);
        }
        let jobs = &self.jobs;
        let is_idle = |index| leases_of(jobs, index) == 0;
        let node = self.nodes.note_heard(self.now, &self.limits, &pull.node, None, is_idle)?.index;
        let jobs_max = room.min(u64::from(pull.jobs_max.clamp(1, PULL_JOBS_MAX)));
        let mut leases = Vec::new();
        while leases.len() < jobs_max as usize
            && let Some(seq) = self.ready_for(pull).filter(|seq| self.fits_under_lease(*seq, &pull.node))
        {
            let until = self.now + self.lease_duration(pull.lease_duration_ms, seq);
            let until = until.min(self.run_ends_at(seq, self.now));
            let now = self.now;
            self.note_turn(seq);
            let was_in_lane = self.is_in_lane(seq);
            let job = self.job_mut(seq);
            job.begin_attempt(&pull.node, now);
            job.state = State::Leased { node, until };
            leases.push(Leased { lease: job.last_lease(), until });
            let kind = job.asked.kind.clone();
            self.note_left_lane(was_in_lane, seq);
            self.kinds.spend(now, &kind);
        }
        Ok(Pulled { node: Some(node), leases, defer_ms: Millis::ZERO, withheld: None })
    }

    /// When an attempt that began at an instant has taken too long.
    pub(super) fn run_ends_at(&self, seq: JobSeq, started_at: Timestamp) -> Timestamp {
        let asked = &self.job(seq).asked;
        let max_run = asked.max_run_ms.or(self.kinds.rules(&asked.kind).max_run_ms);
        max_run.map_or(Timestamp::NEVER, |max_run| started_at + max_run)
    }

    pub(super) fn extend(&mut self, extend: &Extend, lease: LeaseRef) -> Extended {
        let Some(job) = self.jobs.iter_mut().find(|job| job.seq == lease.job) else { return Extended::LeaseLost };
        if job.last_lease() != lease || job.holder() != Some(&extend.node) {
            return Extended::LeaseLost;
        }
        let State::Leased { node, until } = job.state else {
            job.held = None;
            let is_cancelled = matches!(job.state, State::Final { status: FinalStatus::Cancelled, .. });
            return if is_cancelled { Extended::Cancelled } else { Extended::Revoked };
        };
        if extend.progress.is_some() || extend.note.is_some() {
            let (progress, note) = job.report.take().unwrap_or_default();
            job.report = Some((extend.progress.or(progress), extend.note.clone().or(note)));
        }
        let is_over = job.expires_at <= self.now;
        let started_at = job.attempts.last().expect("a leased job has an attempt").started_at;
        let drain = self.nodes.get(&extend.node).and_then(|node| node.drain.as_ref());
        let drain_at = drain.map_or(Timestamp::NEVER, |(_, until)| until.unwrap_or(self.now));
        let latest = self.run_ends_at(lease.job, started_at).min(drain_at);
        let asked = self.now + self.lease_duration(extend.lease_duration_ms, lease.job);
        let until = if is_over { until } else { until.max(asked.min(latest)) };
        self.job_mut(lease.job).state = State::Leased { node, until };
        Extended::Until { until, is_last: is_over || until >= latest }
    }

    pub(super) fn release(&mut self, node: &Name, lease: LeaseRef) -> Released {
        let Some(job) = self.jobs.iter_mut().find(|job| job.seq == lease.job) else { return Released::LeaseLost };
        if job.last_lease() != lease || job.holder() != Some(node) {
            return Released::LeaseLost;
        }
        if job.is_final() {
            job.held = None;
            return Released::Acknowledged;
        }
        self.take_lease(lease.job, AttemptEnd::Revoked { at: self.now, why: Revocation::Released });
        Released::Given
    }

    pub(super) fn complete(&mut self, complete: &Complete) -> Result<Completed, Refusal> {
        let seq = complete.job;
        let known = self.jobs.iter().find(|job| job.seq == seq);
        if let Some(job) = known.filter(|job| job.is_dead() && self.has_degradation())
            && complete.ok
            && complete.lease.is_none()
            && !matches!(job.judge(complete), Ok(Judged::Repeat(_)))
            && self.check_class(None, &job.class()).is_ok()
        {
            self.begin_anew(seq);
        }
        let job = self.jobs.iter().find(|job| job.seq == seq).ok_or(Refusal::UnknownJob)?;
        match job.judge(complete)? {
            Judged::First => {}
            Judged::Repeat(attempt) => {
                return Ok(Completed { job: seq, status: job.answer_of(attempt), is_duplicate: true });
            }
            Judged::Held => {
                let (node, _) = self.job_mut(seq).held.take().expect("its lease is held");
                if complete.lease.is_some() || complete.node.is_some() {
                    self.nodes.seen(self.now, &self.limits, node);
                }
                return Ok(Completed { job: seq, status: CompletedStatus::Acknowledged, is_duplicate: false });
            }
        }
        let (at, mark) = (self.now, complete.mark);
        let latest = job.attempts.last().map(|attempt| attempt.node.clone());
        let unfinished = self.unfinished_bytes();
        let node = if job.is_waiting() {
            let node = complete.node.clone().or(latest).unwrap_or_else(|| Name::new("unnamed").expect("a name"));
            let was_in_lane = self.is_in_lane(seq);
            let job = self.job_mut(seq);
            job.begin_attempt(&node, at);
            job.is_released = false;
            job.state = State::Leased { node: NodeIndex::new(u32::MAX), until: at };
            self.note_left_lane(was_in_lane, seq);
            node
        } else {
            latest.expect("a leased job has an attempt")
        };
        let sent = Sent {
            result: complete.result.clone(),
            error: complete.error.clone(),
            integrity: complete.integrity.as_deref().copied(),
        };
        let status = if complete.ok {
            self.end_attempt(seq, AttemptEnd::Completed { at, mark });
            self.finish(seq, FinalStatus::Completed, Sent { error: None, ..sent }, None);
            CompletedStatus::Final(FinalStatus::Completed)
        } else {
            let is_kept = |error: &Payload| {
                error.len() <= ATTEMPT_ERROR_BYTES_MAX && unfinished + error.len() as u64 <= self.limits.queue_bytes_max
            };
            let error = complete.error.clone().filter(is_kept);
            self.end_attempt(seq, AttemptEnd::Failed { at, mark, error, retry_at: Timestamp::NEVER });
            let has_room = unfinished <= self.limits.queue_bytes_max;
            let failure = Failure {
                has_room,
                is_retryable: complete.is_retryable,
                retry_after_ms: complete.retry_after_ms,
                sent,
            };
            self.retry_or_finish(seq, failure)
        };
        if complete.lease.is_some() || complete.node.is_some() {
            self.note_seen(&node);
        }
        Ok(Completed { job: seq, status, is_duplicate: false })
    }

    pub(super) fn reclaim(&mut self, lease: LeaseRef) -> bool {
        let Some(job) = self.jobs.iter().find(|job| job.seq == lease.job) else { return false };
        let is_running = matches!(job.state, State::Leased { .. }) && job.last_lease() == lease;
        if !is_running || job.count(Toll::Return) >= RECLAIMS_MAX {
            return false;
        }
        let has_room = self.unfinished_bytes() <= self.limits.queue_bytes_max;
        self.end_attempt(lease.job, AttemptEnd::Revoked { at: self.now, why: Revocation::Undelivered });
        if self.job(lease.job).expires_at <= self.now {
            self.finish(lease.job, FinalStatus::Expired, Sent::default(), None);
        } else {
            self.wait_again(lease.job, self.now, has_room);
            self.become_ready_for_all(lease.job);
        }
        true
    }
}
