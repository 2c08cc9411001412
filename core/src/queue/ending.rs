//! Endings: how attempts and jobs end, by a result or by time, and how final jobs are dropped.

use super::{Queue, cancel_reservation};
use crate::command::Complete;
use crate::context::Context;
use crate::ids::{JobSeq, LeaseRef, NodeIndex};
use crate::integrity::stored::ResultIntegrity;
use crate::ledger::{Account, Ledger};
use crate::limits::{ATTEMPT_ERROR_BYTES_MAX, Limits, SHARED_BYTES_MAX};
use crate::outcome::{Completed, CompletedStatus, FinalStatus, Refusal};
use crate::payload::Payload;
use crate::queue::class::{Classes, LaneIndex};
use crate::queue::event::Event;
use crate::queue::job::{EndedJob, EndedLease, Job, Outcome, ResultMatch, Stage};
use crate::queue::kind::Kinds;
use crate::queue::lease::{AttemptEnd, Leases, Revocation};
use crate::queue::retention::Retention;
use crate::queue::retry;
use crate::queue::waiter::Waiters;
use crate::rules;
use crate::time::Timestamp;
use crate::timers::Timer;
use std::sync::{Arc, LazyLock};

/// The error of an attempt whose lease expired.
static LEASE_EXPIRED: LazyLock<Payload> = LazyLock::new(|| Payload::new(br#""lease expired""#));

/// Boxes kept for reuse: about 40 kB.
const SPARE_RUNS_MAX: usize = 256;

impl Queue {
    /// Accepts a result; returns the answer, and what it ended.
    pub(crate) fn complete(&mut self, cx: &mut Context, complete: Complete) -> Result<(Completed, Ended), Refusal> {
        let seq = complete.job;
        let job = self.table.get_mut(seq).ok_or(Refusal::UnknownJob)?;
        match job.match_result(&complete) {
            ResultMatch::Lost => return Err(Refusal::LeaseLost),
            ResultMatch::Final(status) => return Err(Refusal::AlreadyFinal { status }),
            ResultMatch::Repeat(status) => {
                return Ok((Completed { job: seq, status, is_duplicate: true }, Ended::Nothing));
            }
            ResultMatch::Current | ResultMatch::Unleased => {}
        }
        let (at, mark, before) = (cx.now, complete.mark, job.charge());
        let is_waiting = job.is_waiting();
        let Complete { ok, node, result, error, is_retryable, integrity, .. } = complete;
        let end = if ok {
            AttemptEnd::Completed { at, mark }
        } else {
            let is_kept = error.as_ref().is_some_and(|error| {
                let bytes = cx.ledger.unfinished() + error.len() as u64;
                error.len() <= ATTEMPT_ERROR_BYTES_MAX && bytes <= cx.limits.queue_bytes_max
            });
            AttemptEnd::Failed { at, mark, error: error.clone().filter(|_| is_kept), retry_at: None }
        };
        let ended = if is_waiting {
            self.stop_waiting(cx, seq);
            let spare = self.spare_runs.pop();
            self.table.get_mut(seq).expect("found above").attempt_unleased(spare, cx.now, node, end);
            None
        } else {
            Some(end_lease(cx, &mut self.leases, job, end, false))
        };
        let status = if ok {
            let sent = Sent { result, error: None, integrity };
            self.finish(cx, seq, before, Ending { status: FinalStatus::Completed, sent });
            CompletedStatus::Final(FinalStatus::Completed)
        } else {
            self.retry_or_finish(cx, seq, before, is_retryable, Sent { result, error, integrity })
        };
        ended.iter().for_each(|ended| self.update_moved_lease(ended));
        let ended = ended.map_or(Ended::Wait, |ended| Ended::Lease(ended.lease.node));
        Ok((Completed { job: seq, status, is_duplicate: false }, ended))
    }

    /// A lease's timer fired. The attempt is charged, so that a job that crashes its nodes is not retried for ever.
    pub(crate) fn expire_lease(&mut self, cx: &mut Context, seq: JobSeq) {
        let job = self.table.get_mut(seq).expect("a job with a lease timer is held");
        let before = job.charge();
        let ended = end_lease(cx, &mut self.leases, job, AttemptEnd::Expired { at: cx.now }, true);
        self.update_moved_lease(&ended);
        let sent = Sent { error: Some(LEASE_EXPIRED.clone()), ..Sent::NOTHING };
        self.retry_or_finish(cx, seq, before, true, sent);
    }

    /// Takes back those of the leases that still run: their jobs wait again, at their old places, as if they had not
    /// been leased. A lease of a job that had [`RECLAIMS_MAX`](crate::limits::RECLAIMS_MAX) leases uncharged stays until its end and is charged, so
    /// that a job whose reply always fails does not circle for ever. Returns the jobs.
    pub(crate) fn reclaim(&mut self, cx: &mut Context, leases: &[LeaseRef]) -> Vec<JobSeq> {
        leases.iter().filter(|lease| self.reclaim_one(cx, **lease)).map(|lease| lease.job).collect()
    }

    fn reclaim_one(&mut self, cx: &mut Context, lease: LeaseRef) -> bool {
        let is_running = |job: &&mut Job| matches!(job.stage, Stage::Leased(_)) && job.lease() == lease;
        let Some(job) = self.table.get_mut(lease.job).filter(is_running) else { return false };
        if !rules::may_reclaim(job.history.uncharged()) {
            return false;
        }
        let before = job.charge();
        let end = AttemptEnd::Revoked { at: cx.now, why: Revocation::Undelivered };
        let ended = end_lease(cx, &mut self.leases, job, end, false);
        self.update_moved_lease(&ended);
        let job = self.table.get(lease.job).expect("its attempt has just ended");
        if rules::is_too_late(job.expires_at(), cx.now) {
            self.finish(cx, lease.job, before, Ending::without_result(FinalStatus::Expired));
        } else {
            self.schedule(cx, lease.job, before, cx.now);
            self.enqueue_scheduled(cx, lease.job);
        }
        true
    }

    /// A job's time to live is over. A leased job may still be completed; it is not retried.
    pub(crate) fn expire(&mut self, cx: &mut Context, seq: JobSeq) {
        let job = self.table.get(seq).expect("a job with a timer is held");
        if job.is_waiting() {
            let before = job.charge();
            self.stop_waiting(cx, seq);
            self.finish(cx, seq, before, Ending::without_result(FinalStatus::Expired));
        }
    }

    /// Ends a job that a newer one supersedes; returns its place in the order of submission if it was waiting.
    pub(crate) fn supersede(&mut self, cx: &mut Context, seq: JobSeq) -> Option<JobSeq> {
        let job = self.table.get_mut(seq).expect("the job of a key that is not spent is held");
        let before = job.charge();
        // The key belongs to the newer job: the end of this one must not spend it.
        job.set_key(None);
        let place = job.is_waiting().then(|| job.rank().seq());
        if job.is_waiting() {
            self.stop_waiting(cx, seq);
        } else {
            let end = AttemptEnd::Revoked { at: cx.now, why: Revocation::Superseded };
            let ended = end_lease(cx, &mut self.leases, job, end, false);
            self.update_moved_lease(&ended);
        }
        self.finish(cx, seq, before, Ending::without_result(FinalStatus::Superseded));
        place
    }

    /// When the oldest final job is dropped for its age.
    pub(crate) fn next_retention_at(&self, limits: &Limits) -> Option<Timestamp> {
        self.retention.next_at(limits.job_retention_ms)
    }

    /// Drops the final job that ended first; returns it if its final number is `first` or above.
    pub(crate) fn drop_oldest_final(&mut self, ledger: &mut Ledger, first: u64) -> Option<EndedJob> {
        self.retention.pop_oldest().and_then(|seq| self.drop_final(ledger, seq, first))
    }

    /// Drops final jobs until counts and bytes are within their limits; those with final number `first` or above are
    /// passed to `dropped`.
    pub(crate) fn enforce_retention(
        &mut self,
        limits: &Limits,
        ledger: &mut Ledger,
        first: u64,
        mut dropped: impl FnMut(EndedJob),
    ) {
        while rules::retains_too_many(self.retention.final_count(), limits.retained_jobs_max)
            || ledger.get(Account::Retained) > limits.retained_bytes_max
        {
            let seq = self.retention.pop_final().expect("a limit that is exceeded has jobs");
            self.drop_final(ledger, seq, first).into_iter().for_each(&mut dropped);
        }
        while rules::retains_too_many(self.retention.dead_count(), limits.dead_jobs_max)
            || ledger.get(Account::Dead) > limits.dead_bytes_max
        {
            let seq = self.retention.pop_dead().expect("a limit that is exceeded has jobs");
            self.drop_final(ledger, seq, first).into_iter().for_each(&mut dropped);
        }
        while self.kinds.idle_bytes() + self.classes.idle_bytes() > SHARED_BYTES_MAX / 2
            && let Some(seq) = self.retention.pop_final().or_else(|| self.retention.pop_dead())
        {
            self.drop_final(ledger, seq, first).into_iter().for_each(&mut dropped);
        }
    }

    /// After an attempt that did not succeed, schedules a retry or ends the job. A job that may not be retried ends as
    /// dead with its error, also if it would have expired; no retry is scheduled for an instant at which the job has
    /// expired.
    fn retry_or_finish(
        &mut self,
        cx: &mut Context,
        seq: JobSeq,
        before: (Account, u64),
        is_retryable: bool,
        sent: Sent,
    ) -> CompletedStatus {
        let job = self.table.get_mut(seq).expect("its attempt has just ended");
        let lease = job.lease();
        let delay = retry::delay(cx.key, cx.limits, seq, lease.generation);
        let due_at = rules::retry_at(cx.now, delay);
        let status = if !is_retryable || !job.may_retry_at(due_at) {
            cx.events.push(Event::Exhausted { job: seq, attempts: job.history.charged() });
            FinalStatus::Dead
        } else if rules::is_too_late(job.expires_at(), due_at) {
            FinalStatus::Expired
        } else {
            self.schedule(cx, seq, before, due_at);
            cx.timers.set(due_at, Timer::JobDue(seq));
            cx.events.push(Event::RetryScheduled { lease, delay });
            return CompletedStatus::RetryScheduled(due_at);
        };
        let parts = (&mut self.classes, &mut self.kinds, &mut self.waiters, &mut self.retention);
        finish(cx, parts, job, before, Ending { status, sent });
        CompletedStatus::Final(status)
    }

    /// Lets a job wait for an instant after its attempt ended; `before` is what it was charged so far. The timer is the
    /// caller's.
    fn schedule(&mut self, cx: &mut Context, seq: JobSeq, before: (Account, u64), due_at: Timestamp) {
        let job = self.table.get_mut(seq).expect("its attempt has just ended");
        // The job is never refused, so its history is kept only if it fits within the limit.
        let spare = job.schedule_retry(due_at, cx.ledger.unfinished() <= cx.limits.queue_bytes_max);
        if self.spare_runs.len() < SPARE_RUNS_MAX {
            self.spare_runs.push(spare);
        }
        self.scheduled += 1;
        cx.ledger.transfer(before, job.charge());
    }

    /// Another lease of the node may have been moved to the place of the one that ended.
    fn update_moved_lease(&mut self, ended: &LeaseEnd) {
        let Some(moved) = ended.moved else { return };
        let job = self.table.get_mut(moved).expect("a leased job is held");
        let Stage::Leased(run) = &mut job.stage else { unreachable!("only a leased job is among its node's leases") };
        run.place = ended.lease.place;
    }

    /// Removes a waiting job from its lane, or cancels its timer.
    fn stop_waiting(&mut self, cx: &mut Context, seq: JobSeq) {
        let job = self.table.get(seq).expect("a waiting job is held");
        match job.stage {
            Stage::Dated { run_at } => {
                cx.timers.cancel_dated(run_at, seq);
                self.scheduled -= 1;
            }
            Stage::Scheduled { due_at } => {
                cx.timers.cancel(due_at, Timer::JobDue(seq));
                self.scheduled -= 1;
            }
            Stage::Queued { .. } => {
                self.classes.remove(job.place(), job.rank());
                self.queued -= 1;
            }
            Stage::Reserved { .. } => {
                cancel_reservation(&mut self.reserved, cx.timers, job);
                self.queued -= 1;
            }
            _ => unreachable!("only a scheduled or queued job waits"),
        }
    }

    /// Ends a job; `before` is what it was charged so far.
    fn finish(&mut self, cx: &mut Context, seq: JobSeq, before: (Account, u64), ending: Ending) {
        let job = self.table.get_mut(seq).expect("a job that ends is held");
        finish(cx, (&mut self.classes, &mut self.kinds, &mut self.waiters, &mut self.retention), job, before, ending);
    }

    /// Drops a final job; returns it if its final number is `first` or above.
    fn drop_final(&mut self, ledger: &mut Ledger, seq: JobSeq, first: u64) -> Option<EndedJob> {
        let job = self.table.remove(seq).expect("a retained job is held");
        let (account, bytes) = job.charge();
        ledger.release(account, bytes);
        let (kind, class) = (job.kind, job.class);
        self.dropped.push(seq);
        self.kinds.count(job.kind, job.counted, None);
        let (client, number) = (job.client(), job.final_number().expect("a retained job is final"));
        let ended = if number >= first {
            let name = client.map(|client| self.clients.name(client.index).clone());
            Some(EndedJob::new(job, self.kinds.name(kind).clone(), Arc::clone(self.classes.key(class)), name))
        } else {
            let spare = job.into_spare_run().filter(|_| self.spare_runs.len() < SPARE_RUNS_MAX);
            self.spare_runs.extend(spare);
            None
        };
        if let Some(client) = client {
            self.clients.drop_result(client, number);
            self.clients.remove_job(client);
        }
        self.classes.remove_retained(ledger, class);
        if self.kinds.remove_job(ledger, kind) {
            self.profiles.drop_views_of(kind);
        }
        ended
    }
}

/// What an accepted result ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Ended {
    /// It repeats an earlier one.
    Nothing,
    /// The lease of this node.
    Lease(NodeIndex),
    /// The wait of a job that was under no lease.
    Wait,
}

/// A lease that ended, and the job whose lease was moved to its place in the node's list, if there is one.
struct LeaseEnd {
    lease: EndedLease,
    moved: Option<JobSeq>,
}

/// Ends the running attempt of a leased job.
fn end_lease(cx: &mut Context, leases: &mut Leases, job: &mut Job, end: AttemptEnd, is_reaped: bool) -> LeaseEnd {
    let lease = job.end_attempt(end);
    if !is_reaped {
        cx.timers.cancel(lease.until, Timer::LeaseEnds(job.seq));
    }
    let moved = leases.remove(lease.node, lease.place);
    let ran = cx.now.since(lease.started_at);
    cx.events.push(Event::AttemptEnded { lease: job.lease(), node: lease.node, ran, is_reaped });
    LeaseEnd { lease, moved }
}

/// How a job ends.
struct Ending {
    status: FinalStatus,
    sent: Sent,
}

/// What a job ends with.
struct Sent {
    result: Option<Payload>,
    error: Option<Payload>,
    integrity: Option<Box<ResultIntegrity>>,
}

impl Sent {
    const NOTHING: Sent = Sent { result: None, error: None, integrity: None };
}

impl Ending {
    /// An end without a result or error of a node.
    fn without_result(status: FinalStatus) -> Ending {
        Ending { status, sent: Sent::NOTHING }
    }
}

/// Ends a job, which is retained from now on; `before` is what it was charged so far.
fn finish(
    cx: &mut Context,
    (classes, kinds, waiters, retention): (&mut Classes, &mut Kinds, &mut Waiters, &mut Retention),
    job: &mut Job,
    before: (Account, u64),
    ending: Ending,
) {
    if job.expires_at() > cx.now {
        cx.timers.cancel(job.expires_at(), Timer::JobExpires(job.seq));
    }
    let Ending { status, sent: Sent { result, error, integrity } } = ending;
    let number = retention.insert(cx.now, job.seq, status);
    job.finish(Outcome { status, at: cx.now, result, error, integrity, number });
    let (place, key) = (job.place(), job.key());
    job.set_key(None);
    job.lane = LaneIndex::NONE;
    cx.ledger.transfer(before, job.charge());
    if let Some(slot) = classes.finish(cx.ledger, kinds, place) {
        waiters.unmark_lane(slot, place.kind);
    }
    cx.events.push(Event::Ended { job: job.seq, kind: place.kind, status, key });
}
