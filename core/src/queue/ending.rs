//! Endings: how attempts and jobs end, by a result or by time, and how final jobs are dropped.

use super::{Queue, cancel_reservation};
use crate::command::Complete;
use crate::context::Context;
use crate::ids::{JobSeq, LeaseRef, NodeIndex};
use crate::integrity::stored::ResultIntegrity;
use crate::ledger::Account;
use crate::limits::{ATTEMPT_ERROR_BYTES_MAX, Limits, SHARED_BYTES_MAX};
use crate::outcome::{Completed, CompletedStatus, FinalStatus, Refusal};
use crate::payload::Payload;
use crate::queue::class::{ClassIndex, LaneIndex};
use crate::queue::event::{Event, LetterLeft};
use crate::queue::job::{EndReason, EndedJob, EndedLease, Job, Outcome, ResultMatch, Stage};
use crate::queue::kind::KindIndex;
use crate::queue::kind_rules::{KindRules, OnExhausted};
use crate::queue::lease::{AttemptEnd, Revocation, Toll};
use crate::queue::letters::Letter;
use crate::queue::retention::Oldest;
use crate::queue::retry;
use crate::rules;
use crate::time::{Millis, Timestamp};
use crate::timers::Timer;
use std::sync::{Arc, LazyLock};

/// The error of an attempt whose lease expired.
static LEASE_EXPIRED: LazyLock<Payload> = LazyLock::new(|| Payload::new(br#""lease expired""#));

/// The error of an attempt whose node died.
static NODE_DEAD: LazyLock<Payload> = LazyLock::new(|| Payload::new(br#""node dead""#));

/// The error of an attempt that took longer than its `max_run`.
static MAX_RUN: LazyLock<Payload> = LazyLock::new(|| Payload::new(br#""max_run""#));

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
            ResultMatch::Held => {
                let node = self.end_hold(cx, seq);
                return Ok((
                    Completed { job: seq, status: rules::status_of_late_result(), is_duplicate: false },
                    Ended::Lease(node),
                ));
            }
            ResultMatch::Current | ResultMatch::Unleased => {}
        }
        let (at, mark, before) = (cx.now, complete.mark, job.charge());
        let is_waiting = job.is_waiting();
        let Complete { ok, node, result, error, is_retryable, retry_after_ms, integrity, .. } = complete;
        let end = if ok {
            AttemptEnd::Completed { at, mark }
        } else {
            let is_kept = error.as_ref().is_some_and(|error| {
                let bytes = cx.ledger.unfinished() + error.len() as u64;
                error.len() <= ATTEMPT_ERROR_BYTES_MAX && bytes <= cx.limits.queue_bytes_max
            });
            AttemptEnd::Failed { at, mark, error: error.clone().filter(|_| is_kept), retry_at: Timestamp::NEVER }
        };
        let ended = if is_waiting {
            self.stop_waiting(cx, seq);
            let spare = self.spare_runs.pop();
            let job = self.table.get_mut(seq).expect("found above");
            job.attempt_unleased(spare, cx.now, node, end, Toll::Charge);
            None
        } else {
            Some(self.end_lease(cx, seq, end, false))
        };
        let status = if ok {
            let sent = Sent { result, error: None, integrity };
            self.finish(cx, seq, before, Ending { status: FinalStatus::Completed, sent, reason: None });
            CompletedStatus::Final(FinalStatus::Completed)
        } else {
            let failure = Failure { is_retryable, retry_after_ms, sent: Sent { result, error, integrity } };
            self.retry_or_finish(cx, seq, before, Toll::Charge, failure)
        };
        let ended = ended.map_or(Ended::Wait, Ended::Lease);
        Ok((Completed { job: seq, status, is_duplicate: false }, ended))
    }

    /// A lease's timer fired; `is_drained` if its node is. The attempt took too long, or came back since its node leaves,
    /// or is lost.
    pub(crate) fn expire_lease(&mut self, cx: &mut Context, seq: JobSeq, is_drained: bool) {
        let job = self.table.get(seq).expect("a job with a lease timer is held");
        let (run, is_final) = match &job.stage {
            Stage::Leased(run) => (run, false),
            Stage::Final(run) if run.outcome.is_held => (run, true),
            _ => unreachable!("only a leased job has a lease timer"),
        };
        if is_final {
            self.free_hold(cx, seq, true);
            return;
        }
        let started_at = run.attempt.as_ref().expect("a leased job has an attempt").started_at;
        let at = cx.now;
        if at >= rules::run_ends_at(started_at, self.max_run(job)) {
            self.take_lease(cx, seq, AttemptEnd::Revoked { at, why: Revocation::MaxRun }, true);
        } else if is_drained {
            self.take_lease(cx, seq, AttemptEnd::Revoked { at, why: Revocation::Drained }, true);
        } else {
            self.take_lease(cx, seq, AttemptEnd::Expired { at }, true);
        }
    }

    /// A node died: the leases come back that it got before its last heartbeat. O(leases of the node · log n).
    pub(crate) fn return_leases(&mut self, cx: &mut Context, node: NodeIndex, heartbeat_at: Timestamp) {
        // In the order of the jobs: a node's list has none that is durable.
        let mut jobs = self.leases.of(node).to_vec();
        jobs.sort_unstable();
        for seq in jobs {
            let job = self.table.get(seq).expect("a leased job is held");
            let Stage::Leased(run) = &job.stage else {
                self.free_hold(cx, seq, false);
                continue;
            };
            if run.attempt.as_ref().is_some_and(|attempt| rules::is_lost_with_node(attempt.started_at, heartbeat_at)) {
                self.take_lease(cx, seq, AttemptEnd::Revoked { at: cx.now, why: Revocation::NodeDead }, false);
            }
        }
    }

    /// Takes back those of the leases that still run: their jobs wait again, at their old places, as if they had not
    /// been leased. A lease of a job that had [`RECLAIMS_MAX`](crate::limits::RECLAIMS_MAX) leases returned stays until its end and is charged, so
    /// that a job whose reply always fails does not circle for ever. Returns the jobs.
    pub(crate) fn reclaim(&mut self, cx: &mut Context, leases: &[LeaseRef]) -> Vec<JobSeq> {
        leases.iter().filter(|lease| self.reclaim_one(cx, **lease)).map(|lease| lease.job).collect()
    }

    fn reclaim_one(&mut self, cx: &mut Context, lease: LeaseRef) -> bool {
        let is_running = |job: &&Job| matches!(job.stage, Stage::Leased(_)) && job.lease() == lease;
        let Some(job) = self.table.get(lease.job).filter(is_running) else { return false };
        if !rules::may_reclaim(job.history.returns()) {
            return false;
        }
        let before = job.charge();
        self.end_lease(cx, lease.job, AttemptEnd::Revoked { at: cx.now, why: Revocation::Undelivered }, false);
        let job = self.table.get(lease.job).expect("its attempt has just ended");
        if rules::is_too_late(job.expires_at(), cx.now) {
            self.finish(cx, lease.job, before, Ending::without_result(FinalStatus::Expired));
        } else {
            self.schedule(cx, lease.job, before, cx.now);
            self.enqueue_scheduled(cx, lease.job);
        }
        true
    }

    /// Ends a lease that ends without a result, and schedules the next attempt or ends the job.
    pub(super) fn take_lease(&mut self, cx: &mut Context, seq: JobSeq, end: AttemptEnd, is_reaped: bool) {
        let before = self.table.get(seq).expect("a leased job is held").charge();
        let toll = end.toll(cx.rules);
        let error = match &end {
            AttemptEnd::Expired { .. } => Some(LEASE_EXPIRED.clone()),
            AttemptEnd::Revoked { why: Revocation::NodeDead, .. } => Some(NODE_DEAD.clone()),
            AttemptEnd::Revoked { why: Revocation::MaxRun, .. } => Some(MAX_RUN.clone()),
            _ => None,
        };
        self.end_lease(cx, seq, end, is_reaped);
        self.retry_or_finish(
            cx,
            seq,
            before,
            toll,
            Failure { sent: Sent { error, ..Sent::NOTHING }, ..Failure::RETRYABLE },
        );
    }

    /// A job's time to live is over. A leased job may still be completed; it is not retried.
    pub(crate) fn expire(&mut self, cx: &mut Context, seq: JobSeq) {
        let job = self.table.get(seq).expect("a job with a timer is held");
        if job.is_waiting() {
            let (before, kind) = (job.charge(), job.kind);
            // What the budget kept from being retried in time ends with its error: that is not hidden behind the expiry.
            let failed = matches!(job.stage, Stage::Postponed { .. }).then(|| job.last_error().cloned());
            self.stop_waiting(cx, seq);
            let ending = match failed {
                Some(error) => {
                    let attempts = job_of(&self.table, seq).history.charged();
                    cx.events.push(Event::Exhausted { job: seq, attempts });
                    let status = exhausted_status(self.kinds.row(kind).rules(), cx.limits);
                    Ending { status, sent: Sent { error, ..Sent::NOTHING }, reason: Some(EndReason::Expired) }
                }
                None => Ending::without_result(FinalStatus::Expired),
            };
            self.finish(cx, seq, before, ending);
        }
    }

    /// When the next final job is dropped for its age.
    pub(crate) fn next_retention_at(&self, limits: &Limits, rules: rules::RulesVersion) -> Option<Timestamp> {
        let dead_retention = rules::dead_retention(rules, limits);
        self.retention.next(limits.job_retention_ms, dead_retention).map(|(at, _)| at)
    }

    /// Drops the final job that is due for its age; returns it if its final number is `first` or above.
    pub(crate) fn drop_oldest_final(&mut self, cx: &mut Context, first: u64) -> Option<EndedJob> {
        let dead_retention = rules::dead_retention(cx.rules, cx.limits);
        match self.retention.next(cx.limits.job_retention_ms, dead_retention)?.1 {
            Oldest::Final => self.retention.pop_final().and_then(|seq| self.drop_final(cx, seq, first)),
            Oldest::Letter(number) if rules::refiles_letters(cx.rules) => {
                self.refile_letter(cx, number, LetterLeft::Aged);
                None
            }
            Oldest::Letter(number) => self.drop_letter(cx, number, first),
        }
    }

    /// Lets dead letters go until counts and bytes are within their limits, those of kinds first. Under the first rules
    /// they are dropped: see [`Queue::enforce_retention`] for `first` and `dropped`.
    pub(crate) fn enforce_letters(&mut self, cx: &mut Context, first: u64, mut dropped: impl FnMut(EndedJob)) {
        for kind in std::mem::take(&mut self.kinds_with_new_letters) {
            self.enforce_letters_of(cx, kind);
        }
        let limits = cx.limits;
        loop {
            let is_one_too_many = rules::retains_too_many(self.retention.dead_count(), limits.dead_jobs_max);
            if !is_one_too_many && cx.ledger.get(Account::Dead) <= limits.dead_bytes_max {
                break;
            }
            let letters = self.retention.letters();
            if rules::refiles_letters(cx.rules) {
                let gives_up = |kind| self.gives_up_letters(limits, Some(kind));
                let oldest = match is_one_too_many {
                    true => letters.oldest_of_most(gives_up),
                    false => letters.oldest_of_largest(gives_up),
                };
                // All are of kinds that keep them. How large errors are is not known when jobs are submitted, so beyond
                // the limit of bytes even such a kind gives up its letters.
                let is_too_large = cx.ledger.get(Account::Dead) > limits.dead_bytes_max;
                let largest = || letters.oldest_of_largest(|_| true).filter(|_| is_too_large);
                let Some(number) = oldest.or_else(largest) else { break };
                self.refile_letter(cx, number, LetterLeft::Evicted);
            } else {
                let (number, _) = letters.oldest().expect("a limit that is exceeded has jobs");
                self.drop_letter(cx, number, first).into_iter().for_each(&mut dropped);
            }
        }
    }

    /// Drops final jobs until counts and bytes are within their limits; those with final number `first` or above are
    /// passed to `dropped`. All events are handled before, since they name kinds that go with their last jobs.
    pub(crate) fn enforce_retention(&mut self, cx: &mut Context, first: u64, mut dropped: impl FnMut(EndedJob)) {
        let limits = cx.limits;
        while rules::retains_too_many(self.retention.final_count(), limits.retained_jobs_max)
            || cx.ledger.get(Account::Retained) > limits.retained_bytes_max
        {
            let seq = self.retention.pop_final().expect("a limit that is exceeded has jobs");
            self.drop_final(cx, seq, first).into_iter().for_each(&mut dropped);
        }
        while self.kinds.idle_bytes() + self.classes.idle_bytes() > SHARED_BYTES_MAX / 2 {
            if let Some(seq) = self.retention.pop_final() {
                self.drop_final(cx, seq, first).into_iter().for_each(&mut dropped);
            } else if let Some((number, _)) = self.retention.letters().oldest() {
                if rules::refiles_letters(cx.rules) {
                    // It is dropped as a failed job, once its event is handled.
                    self.refile_letter(cx, number, LetterLeft::Evicted);
                    break;
                }
                self.drop_letter(cx, number, first).into_iter().for_each(&mut dropped);
            } else {
                break;
            }
        }
    }

    /// After an attempt that did not succeed, schedules a retry or ends the job. A job that may not be retried ends as
    /// dead with its error, also if it would have expired; no retry is scheduled for an instant at which the job has
    /// expired.
    pub(super) fn retry_or_finish(
        &mut self,
        cx: &mut Context,
        seq: JobSeq,
        before: (Account, u64),
        toll: Toll,
        failure: Failure,
    ) -> CompletedStatus {
        let Failure { is_retryable, retry_after_ms, sent } = failure;
        if let Some(ending) = self.ending_with_successor(seq) {
            let status = ending.status;
            self.finish(cx, seq, before, Ending { sent, ..ending });
            return CompletedStatus::Final(status);
        }
        let job = self.table.get_mut(seq).expect("its attempt has just ended");
        let lease = job.lease();
        let kind = self.kinds.row(job.kind).rules();
        let delay = match (retry_after_ms, toll) {
            (_, Toll::Return) => rules::release_delay(job.history.returns(), cx.limits.retry_delay_ms_cap),
            (Some(named), _) => retry::named_delay(cx.key, cx.limits, seq, lease.generation, named),
            (None, toll) => {
                let base = kind.retry_delay_ms_base.unwrap_or(cx.limits.retry_delay_ms_base);
                let cap = kind.retry_delay_ms_cap.unwrap_or(cx.limits.retry_delay_ms_cap);
                let counted = if toll == Toll::Loss { job.history.losses() } else { job.history.charged() };
                let exponent = if rules::counts_losses(cx.rules) { counted } else { lease.generation };
                retry::delay(cx.key, (base, cap), (seq, lease.generation), exponent)
            }
        };
        let due_at = rules::retry_at(cx.now, delay);
        let losses_max = kind.losses_max.unwrap_or(cx.limits.losses_max);
        let refused = if is_retryable { job.refuses_retry(due_at, losses_max) } else { Some(EndReason::NotRetryable) };
        let (status, reason) = if let Some(reason) = refused.filter(|_| toll != Toll::Return) {
            cx.events.push(Event::Exhausted { job: seq, attempts: job.history.charged() });
            (exhausted_status(kind, cx.limits), Some(reason).filter(|_| rules::counts_losses(cx.rules)))
        } else if rules::is_too_late(job.expires_at(), due_at) {
            (FinalStatus::Expired, None)
        } else {
            self.schedule(cx, seq, before, due_at);
            // What was given back is ready at once; a retry asks the budget first.
            if due_at > cx.now || toll != Toll::Return {
                cx.timers.set(due_at, Timer::JobDue(seq));
            } else {
                self.enqueue_scheduled(cx, seq);
            }
            cx.events.push(Event::RetryScheduled { lease, delay });
            return CompletedStatus::RetryScheduled(due_at);
        };
        self.finish(cx, seq, before, Ending { status, sent, reason });
        CompletedStatus::Final(status)
    }

    /// How long one attempt of a job may take.
    pub(super) fn max_run(&self, job: &Job) -> Option<Millis> {
        job.max_run_ms().or(self.kinds.row(job.kind).rules().max_run_ms)
    }

    /// Ends the running attempt of a leased job, and its lease; returns the node.
    pub(super) fn end_lease(&mut self, cx: &mut Context, seq: JobSeq, end: AttemptEnd, is_reaped: bool) -> NodeIndex {
        let job = self.table.get_mut(seq).expect("a leased job is held");
        let toll = end.toll(cx.rules);
        let lease = job.end_attempt(end, toll);
        let ran = cx.now.since(lease.started_at);
        cx.events.push(Event::AttemptEnded { lease: job.lease(), node: lease.node, ran, is_reaped, toll });
        let job = (seq, job.kind, job.class);
        self.free_lease(cx, job, &lease, is_reaped);
        lease.node
    }

    /// Gives back what a lease counts on: its node's, its kind's, its zone's and the hub's limit.
    pub(super) fn free_lease(
        &mut self,
        cx: &mut Context,
        (seq, kind, class): (JobSeq, KindIndex, ClassIndex),
        lease: &EndedLease,
        is_reaped: bool,
    ) {
        if !is_reaped {
            cx.timers.cancel(lease.until, Timer::LeaseEnds(seq));
        }
        let zone = &self.classes.key(class).zone;
        if let Some(moved) = self.leases.remove(lease.node, zone, lease.place) {
            // Another lease of the node was moved to its place.
            let job = self.table.get_mut(moved).expect("a leased job is held");
            let (Stage::Leased(run) | Stage::Final(run)) = &mut job.stage else {
                unreachable!("only a leased job is among its node's leases")
            };
            run.place = lease.place;
        }
        cx.events.push(Event::LeaseFreed { node: lease.node });
        self.waiters.mark_lanes_of_zone(zone);
        self.kinds.row_mut(kind).remove_lease();
        self.update_gate(cx, kind);
    }

    /// Lets a job wait for an instant after its attempt ended; `before` is what it was charged so far. The timer is the
    /// caller's.
    pub(super) fn schedule(&mut self, cx: &mut Context, seq: JobSeq, before: (Account, u64), due_at: Timestamp) {
        let job = self.table.get_mut(seq).expect("its attempt has just ended");
        // The job is never refused, so its history is kept only if it fits within the limit.
        let spare = job.schedule_retry(due_at, cx.ledger.unfinished() <= cx.limits.queue_bytes_max);
        cx.ledger.transfer(before, job.charge());
        self.keep_spare(spare);
        self.scheduled += 1;
    }

    /// Removes a waiting job from its lane, or cancels its timer.
    pub(super) fn stop_waiting(&mut self, cx: &mut Context, seq: JobSeq) {
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
            Stage::Postponed { .. } => {
                self.cancel_postponed(cx, seq);
                self.scheduled -= 1;
            }
            Stage::Queued { .. } => {
                self.leave_lane(cx, seq);
                self.queued -= 1;
            }
            Stage::Reserved { .. } => {
                cancel_reservation(&mut self.reserved, cx.timers, job);
                self.queued -= 1;
            }
            _ => unreachable!("only a scheduled or queued job waits"),
        }
    }

    /// Ends a job, which is retained from now on; `before` is what it was charged so far.
    pub(super) fn finish(&mut self, cx: &mut Context, seq: JobSeq, before: (Account, u64), ending: Ending) {
        let job = self.table.get_mut(seq).expect("a job that ends is held");
        if job.expires_at() > cx.now {
            cx.timers.cancel(job.expires_at(), Timer::JobExpires(seq));
        }
        let Ending { status, sent: Sent { result, error, integrity }, reason } = ending;
        let number = self.retention.number();
        job.finish(Outcome { status, at: cx.now, result, error, integrity, number, reason, is_held: false });
        let (place, key) = (job.place(), job.key());
        job.set_key(None);
        job.lane = LaneIndex::NONE;
        let (account, bytes) = job.charge();
        cx.ledger.transfer(before, (account, bytes));
        if status == FinalStatus::Dead {
            let letter = Letter { at: cx.now, job: seq, kind: place.kind, bytes };
            self.retention.letters_mut().insert(number, letter);
        } else {
            self.retention.push(cx.now, seq);
        }
        if let Some(slot) = self.classes.finish(cx.ledger, &mut self.kinds, place) {
            self.waiters.unmark_lane(slot, place.kind);
        }
        cx.events.push(Event::Ended { job: seq, kind: place.kind, status, key });
        self.release_successor(cx, seq, status);
        if status == FinalStatus::Dead && rules::refiles_letters(cx.rules) {
            self.kinds_with_new_letters.push(place.kind);
        }
    }

    /// Drops a dead letter; returns it if its final number is `first` or above.
    pub(super) fn drop_letter(&mut self, cx: &mut Context, number: u64, first: u64) -> Option<EndedJob> {
        let letter = self.retention.letters_mut().remove(number);
        self.drop_final(cx, letter.job, first)
    }

    /// Drops a final job; returns it if its final number is `first` or above.
    fn drop_final(&mut self, cx: &mut Context, seq: JobSeq, first: u64) -> Option<EndedJob> {
        if matches!(&job_of(&self.table, seq).stage, Stage::Final(run) if run.outcome.is_held) {
            self.free_hold(cx, seq, false);
        }
        let job = self.table.remove(seq).expect("a retained job is held");
        let (account, bytes) = job.charge();
        cx.ledger.release(account, bytes);
        let (kind, class) = (job.kind, job.class);
        self.dropped.push(seq);
        self.kinds.count(job.kind, job.counted, None);
        let (client, number) = (job.client(), job.final_number().expect("a retained job is final"));
        let ended = if number >= first {
            let name = client.map(|client| self.clients.name(client.index).clone());
            Some(EndedJob::new(job, self.kinds.name(kind).clone(), Arc::clone(self.classes.key(class)), name))
        } else {
            if let Some(spare) = job.into_spare_run() {
                self.keep_spare(spare);
            }
            None
        };
        if let Some(client) = client {
            self.clients.drop_result(client, number);
            self.clients.remove_job(client);
        }
        self.classes.remove_retained(cx.ledger, class);
        if self.kinds.remove_job(cx.ledger, kind) {
            self.profiles.drop_views_of(kind);
        }
        ended
    }

    pub(super) fn keep_spare(&mut self, spare: Box<super::Run>) {
        if self.spare_runs.len() < SPARE_RUNS_MAX {
            self.spare_runs.push(spare);
        }
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

/// An attempt that did not succeed.
pub(super) struct Failure {
    pub is_retryable: bool,
    /// When its node wants the next attempt.
    pub retry_after_ms: Option<Millis>,
    pub sent: Sent,
}

impl Failure {
    /// A failure of which its node said nothing.
    pub const RETRYABLE: Failure = Failure { is_retryable: true, retry_after_ms: None, sent: Sent::NOTHING };
}

/// How a job ends.
pub(super) struct Ending {
    pub status: FinalStatus,
    pub sent: Sent,
    pub reason: Option<EndReason>,
}

/// What a job ends with.
pub(super) struct Sent {
    pub result: Option<Payload>,
    pub error: Option<Payload>,
    pub integrity: Option<Box<ResultIntegrity>>,
}

impl Sent {
    pub const NOTHING: Sent = Sent { result: None, error: None, integrity: None };
}

impl Ending {
    /// An end without a result or error of a node.
    pub fn without_result(status: FinalStatus) -> Ending {
        Ending { status, sent: Sent::NOTHING, reason: None }
    }
}

fn exhausted_status(kind: &KindRules, limits: &Limits) -> FinalStatus {
    let is_parked = match kind.on_exhausted {
        Some(on_exhausted) => on_exhausted == OnExhausted::Park,
        None => limits.dead_letters_enabled != 0,
    };
    if is_parked { FinalStatus::Dead } else { FinalStatus::Failed }
}

fn job_of(table: &super::table::JobTable, seq: JobSeq) -> &Job {
    table.get(seq).expect("a job that is named is held")
}
