//! The queue: jobs from submission to retention's end.
//!
//! One owner for all that must agree about a job: the table of jobs, the lanes of ready ones, the counts, the order of
//! final ones. Operations come in the order a job lives through them. Submit, lease, extend, complete and each timer are
//! O(log n) in the jobs held; a pull adds one look at each class of jobs (see [`lane`]).

pub mod job;
pub mod lane;
mod record;
mod retry;
mod table;
pub mod waiter;

use crate::command::{Complete, Extend, Submit};
use crate::context::Context;
use crate::dedup::Dedup;
use crate::effect::{Audit, Effect, Stage};
use crate::ids::{JobSeq, LeaseRef, NodeNo};
use crate::limits::{ATTEMPT_ERROR_BYTES_MAX, ATTEMPTS_MAX, LEASE_DURATION_MAX, LEASE_DURATION_MIN, Limits};
use crate::mutants::{self, Mutant};
use crate::name::Name;
use crate::outcome::{Completed, CompletedStatus, Extended, FinalStatus, Leased, Refusal};
use crate::payload::Payload;
use crate::registry::Registry;
use crate::registry::node::Node;
use crate::time::{Millis, Timestamp};
use crate::timers::Timer;
use job::{AttemptEnd, Job, Standing, State, Terms};
use lane::{Lanes, Profile};
pub(crate) use record::JobRecord;
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, VecDeque};
use table::JobTable;
use waiter::{Waiter, WaiterId};

/// All jobs.
#[derive(Debug)]
pub struct Queue {
    table: JobTable,
    lanes: Lanes,
    /// Kinds, one text for all jobs that have it, and how many those are.
    kinds: BTreeMap<Name, u64>,
    /// Final jobs, the first to go in front.
    finals: VecDeque<(Timestamp, JobSeq)>,
    next_seq: JobSeq,
    next_final_no: u64,
    counts: Counts,
}

/// How many jobs are where. Sums of the table, kept up to date.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// Jobs that wait for an instant.
    pub scheduled: u64,
    /// Jobs that wait for a node.
    pub queued: u64,
    /// Bytes of payload of both.
    pub waiting_bytes: u64,
    /// Jobs under lease.
    pub leased: u64,
    /// Final jobs that are still readable.
    pub retained: u64,
    /// Their bytes.
    pub retained_bytes: u64,
}

impl Counts {
    /// Jobs that wait, for an instant or for a node: what the queue's limit is about.
    pub fn waiting(&self) -> u64 {
        if mutants::is_active(Mutant::ScheduledNotCounted) {
            return self.queued;
        }
        self.scheduled + self.queued
    }
}

impl Default for Queue {
    fn default() -> Self {
        Queue {
            table: JobTable::default(),
            lanes: Lanes::default(),
            kinds: BTreeMap::new(),
            finals: VecDeque::new(),
            next_seq: JobSeq::FIRST,
            next_final_no: 0,
            counts: Counts::default(),
        }
    }
}

impl Queue {
    /// The job of that number.
    pub fn get(&self, seq: JobSeq) -> Option<&Job> {
        self.table.get(seq)
    }

    /// The jobs from `first` on, in order of submission.
    pub fn iter_from(&self, first: JobSeq) -> impl Iterator<Item = &Job> {
        self.table.iter_from(first)
    }

    /// The jobs up to `last`, newest first.
    pub fn iter_back_from(&self, last: JobSeq) -> impl Iterator<Item = &Job> {
        self.table.iter_back_from(last)
    }

    /// The number that the next job gets.
    pub fn next_seq(&self) -> JobSeq {
        self.next_seq
    }

    /// How many jobs are where.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// How many jobs the hub knows, final ones included.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether the hub knows no job.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many long polls are parked.
    pub fn waiter_count(&self) -> usize {
        self.lanes.waiter_count()
    }

    /// Whether one more job may wait, with the one that it supersedes gone. Then nothing refuses it, so what is refused
    /// has changed nothing.
    pub(crate) fn admit(&self, limits: &Limits, submit: &Submit, leaving: Option<&Job>) -> Result<(), Refusal> {
        let waiting = leaving.filter(|job| job.is_waiting());
        // The client is told what waits now, the one that would leave included.
        let (depth, bytes) = (self.counts.waiting(), self.counts.waiting_bytes);
        let depth_max = limits.queue_depth_max;
        let depth_max = depth_max.saturating_add(u64::from(mutants::is_active(Mutant::QueueLimitOffByOne)));
        if depth - u64::from(waiting.is_some()) >= depth_max {
            return Err(Refusal::QueueFull { depth, depth_max: limits.queue_depth_max });
        }
        let leaving_bytes = waiting.map_or(0, Job::waiting_bytes);
        let leaving_bytes = if mutants::is_active(Mutant::LeavingBytesCounted) { 0 } else { leaving_bytes };
        if bytes - leaving_bytes + submit.params.len() as u64 > limits.queue_bytes_max {
            return Err(Refusal::QueueBytesFull { bytes, bytes_max: limits.queue_bytes_max, depth });
        }
        let (zone, requires) = (zone_of(submit.zone.as_ref()), &submit.requires);
        if self.lanes.has_room_for(zone, requires, leaving.map(|job| job.class_no)) {
            Ok(())
        } else {
            Err(Refusal::ClassesFull)
        }
    }

    /// A job comes in that was admitted.
    pub(crate) fn submit(&mut self, cx: &mut Context, submit: Submit) -> JobSeq {
        let zone = zone_of(submit.zone.as_ref()).cloned();
        let entered = self.lanes.enter_class(zone, submit.requires);
        let (class_no, class) = entered.expect("a job that was admitted finds room for its class");
        let seq = self.next_seq;
        self.next_seq = seq.next();
        let due_at = (cx.now + submit.delay_ms).max(submit.run_at);
        let terms = Terms {
            submitted_at: cx.now,
            expires_at: submit.ttl_ms.map_or(Timestamp::NEVER, |ttl| cx.now + ttl),
            retry_until: submit.retry_budget_ms.map_or(Timestamp::NEVER, |budget| cx.now + budget),
            attempts_max: submit.attempts_max.unwrap_or(cx.limits.attempts_max).clamp(1, ATTEMPTS_MAX),
            lease_duration_ms: submit.lease_duration_ms,
            idempotency_key: submit.idempotency.as_ref().map(|idempotency| cx.key.idempotency_key(&idempotency.key)),
        };
        cx.timers.set(terms.expires_at, Timer::JobExpires(seq));
        let kind = self.intern(submit.kind);
        cx.stage(&kind, Stage::Submitted);
        let params = submit.params;
        self.counts.waiting_bytes += params.len() as u64;
        self.counts.scheduled += 1;
        let state = State::Scheduled { due_at };
        let attempts = Vec::new();
        let priority = submit.priority;
        self.table.insert(Job { seq, kind, params, priority, class, class_no, terms, state, attempts });
        if due_at > cx.now {
            cx.timers.set(due_at, Timer::JobDue(seq));
        } else {
            self.make_ready(cx, seq);
        }
        seq
    }

    /// A scheduled job's instant has come.
    pub(crate) fn job_due(&mut self, cx: &mut Context, seq: JobSeq) {
        self.make_ready(cx, seq);
    }

    /// Up to `jobs_max` jobs for a node, each under a new lease.
    pub(crate) fn lease(
        &mut self,
        cx: &mut Context,
        node: (NodeNo, &Name),
        profile: &Profile,
        jobs_max: usize,
        lease_duration_ms: Option<Millis>,
    ) -> Vec<Leased> {
        let taken = self.lanes.take(profile, jobs_max);
        taken.into_iter().map(|seq| self.lease_one(cx, seq, node, lease_duration_ms)).collect()
    }

    /// Whether there is a job that the node could take.
    pub(crate) fn has_any(&self, profile: &Profile) -> bool {
        self.lanes.has_any(profile)
    }

    /// Leases are kept longer; one that has ended, or is another node's, is lost.
    pub(crate) fn extend(&mut self, cx: &mut Context, extend: &Extend) -> Vec<Extended> {
        extend.leases.iter().map(|lease| self.extend_one(cx, extend, *lease)).collect()
    }

    /// How a job ended, as its node says.
    pub(crate) fn complete(
        &mut self,
        cx: &mut Context,
        registry: &mut Registry,
        dedup: &mut Dedup,
        complete: Complete,
    ) -> Result<Completed, Refusal> {
        let seq = complete.job;
        let job = self.table.get_mut(seq).ok_or(Refusal::UnknownJob)?;
        match job.standing(&complete) {
            Standing::Lost => return Err(Refusal::LeaseLost),
            Standing::Final(status) => return Err(Refusal::AlreadyFinal { status }),
            Standing::Repeat => {
                return Ok(Completed { job: seq, status: job.status_after_result(), is_duplicate: true });
            }
            Standing::Current => {}
        }
        let (at, mark) = (cx.now, complete.mark);
        let status = if complete.ok {
            job.end_attempt(AttemptEnd::Completed { at, mark });
            self.end_lease(cx, registry, seq);
            self.finish(cx, dedup, seq, FinalStatus::Completed, complete.result, Payload::ABSENT);
            CompletedStatus::Final(FinalStatus::Completed)
        } else {
            let is_short = complete.error.len() <= ATTEMPT_ERROR_BYTES_MAX;
            let error = if is_short { complete.error.clone() } else { Payload::ABSENT };
            job.end_attempt(AttemptEnd::Failed { at, mark, error });
            self.end_lease(cx, registry, seq);
            self.retry_or_finish(cx, dedup, seq, complete.is_retryable, complete.result, complete.error)
        };
        Ok(Completed { job: seq, status, is_duplicate: false })
    }

    /// A lease's time is over: that counts as an attempt, so that a job that kills its nodes comes to an end.
    pub(crate) fn lease_ends(&mut self, cx: &mut Context, registry: &mut Registry, dedup: &mut Dedup, seq: JobSeq) {
        if mutants::is_active(Mutant::LeaseExpirySkipped) {
            return;
        }
        let job = self.table.get_mut(seq).expect("a job with a lease timer is known");
        job.end_attempt(AttemptEnd::Expired { at: cx.now });
        let attempt = job.attempts().last().expect("it has just ended");
        let event = Audit::LeaseReap { job: seq, node: attempt.node.clone(), attempt: job.lease().generation };
        cx.stage(&job.kind, Stage::AttemptEnded { ran: cx.now.since(attempt.started_at) });
        cx.audit(event);
        self.leave_leased(registry, seq);
        self.retry_or_finish(cx, dedup, seq, true, Payload::ABSENT, Payload::new(br#""lease expired""#));
    }

    /// A job's time to live is over. A leased one may still be finished; it will not be tried again.
    pub(crate) fn expire(&mut self, cx: &mut Context, dedup: &mut Dedup, seq: JobSeq) {
        if mutants::is_active(Mutant::JobTtlSkipped) {
            return;
        }
        let job = self.table.get(seq).expect("a job with a timer is known");
        match job.state() {
            State::Scheduled { .. } | State::Queued { .. } => {
                self.stop_waiting(cx, seq);
                self.finish(cx, dedup, seq, FinalStatus::Expired, Payload::ABSENT, Payload::ABSENT);
            }
            State::Leased { .. } => {}
            State::Final { .. } => unreachable!("a final job has no timer"),
        }
    }

    /// A newer job takes this one's place.
    pub(crate) fn supersede(&mut self, cx: &mut Context, registry: &mut Registry, dedup: &mut Dedup, seq: JobSeq) {
        let job = self.table.get_mut(seq).expect("the job of a key that is not settled is known");
        if matches!(job.state(), State::Leased { .. }) {
            job.end_attempt(AttemptEnd::Revoked { at: cx.now });
            self.end_lease(cx, registry, seq);
        } else {
            self.stop_waiting(cx, seq);
        }
        self.finish(cx, dedup, seq, FinalStatus::Superseded, Payload::ABSENT, Payload::ABSENT);
    }

    /// When the oldest final job goes by its age.
    pub(crate) fn next_retention_at(&self, limits: &Limits) -> Option<Timestamp> {
        self.finals.front().map(|(at, _)| *at + limits.job_retention_ms)
    }

    /// Drops the oldest final job.
    pub(crate) fn drop_oldest_final(&mut self) {
        let Some((_, seq)) = self.finals.pop_front() else { return };
        let job = self.table.remove(seq).expect("a retained job is known");
        self.counts.retained -= 1;
        self.counts.retained_bytes -= job.retained_bytes();
        let jobs = self.kinds.get_mut(&job.kind).expect("the kind of a known job is held");
        *jobs -= 1;
        if *jobs == 0 {
            self.kinds.remove(&job.kind);
        }
    }

    /// Drops final jobs until count and bytes are within their limits.
    pub(crate) fn enforce_retention(&mut self, limits: &Limits) {
        let jobs_max = limits.retained_jobs_max;
        let jobs_max = jobs_max.saturating_add(u64::from(mutants::is_active(Mutant::RetainedJobsOffByOne)));
        while self.counts.retained > jobs_max || self.counts.retained_bytes > limits.retained_bytes_max {
            self.drop_oldest_final();
        }
    }

    /// Parks a long poll; `false` if too many are.
    pub(crate) fn park(&mut self, id: WaiterId, node: Name, record: Option<&Node>, kinds: Vec<Name>) -> bool {
        let zone = record.and_then(Node::zone).cloned();
        let capabilities = record.map_or(Vec::new(), |node| node.capabilities().to_vec());
        self.lanes.park(id, Waiter { node, zone, capabilities, kinds })
    }

    /// Forgets a long poll.
    pub(crate) fn unpark(&mut self, id: WaiterId) {
        self.lanes.unpark(id);
    }

    /// Wakes the long polls of a node whose zone or capabilities changed: it may take other jobs now.
    pub(crate) fn wake_waiters_of(&mut self, cx: &mut Context, node: &str) {
        cx.effects.extend(self.lanes.take_waiters_of(node).into_iter().map(Effect::Wake));
    }

    /// The long polls that could take jobs which are ready.
    pub(crate) fn take_waiters_with_jobs(&mut self) -> Vec<WaiterId> {
        self.lanes.take_waiters_with_jobs()
    }

    fn lease_one(
        &mut self,
        cx: &mut Context,
        seq: JobSeq,
        (node, name): (NodeNo, &Name),
        lease_duration_ms: Option<Millis>,
    ) -> Leased {
        let job = self.table.get_mut(seq).expect("a ready job is known");
        let State::Queued { since } = job.state else { unreachable!("only a queued job is ready") };
        cx.stage(&job.kind, Stage::Leased { waited: cx.now.since(since) });
        let duration = lease_duration(lease_duration_ms, job, cx.limits);
        let until = cx.now + duration;
        let lease = job.lease_to(cx.now, node, name.clone(), until);
        self.counts.queued -= 1;
        self.counts.leased += 1;
        self.counts.waiting_bytes -= job.waiting_bytes();
        cx.timers.set(until, Timer::LeaseEnds(seq));
        Leased { lease, until }
    }

    fn extend_one(&mut self, cx: &mut Context, extend: &Extend, lease: LeaseRef) -> Extended {
        let Some(job) = self.table.get_mut(lease.job) else { return Extended::LeaseLost };
        let is_current = job.lease() == lease
            && (job.leased_to() == Some(&extend.node) || mutants::is_active(Mutant::ExtensionByAnotherNode));
        let duration = lease_duration(extend.lease_duration_ms, job, cx.limits);
        match &mut job.state {
            State::Leased { until, .. } if is_current => {
                cx.timers.cancel(*until, Timer::LeaseEnds(lease.job));
                // An extension never shortens a lease: the node may rely on what it was promised.
                *until = match mutants::is_active(Mutant::ExtensionShortensLease) {
                    true => cx.now + duration,
                    false => (*until).max(cx.now + duration),
                };
                cx.timers.set(*until, Timer::LeaseEnds(lease.job));
                Extended::Until(*until)
            }
            _ => Extended::LeaseLost,
        }
    }

    /// After an attempt that did not succeed: another one, or the end.
    fn retry_or_finish(
        &mut self,
        cx: &mut Context,
        dedup: &mut Dedup,
        seq: JobSeq,
        is_retryable: bool,
        result: Payload,
        error: Payload,
    ) -> CompletedStatus {
        let job = self.table.get_mut(seq).expect("its attempt has just ended");
        let attempt = job.lease().generation;
        let mut delay_ms = retry::delay(cx.key, cx.limits, seq, attempt);
        if mutants::is_active(Mutant::RetryDelayIgnored) {
            delay_ms = Millis::ZERO;
        }
        let due_at = cx.now + delay_ms;
        if job.expires_at() <= cx.now && !mutants::is_active(Mutant::ExpiredJobRetried) {
            self.finish(cx, dedup, seq, FinalStatus::Expired, result, error);
            return CompletedStatus::Final(FinalStatus::Expired);
        }
        if is_retryable && job.may_retry_at(due_at) {
            job.state = State::Scheduled { due_at };
            self.counts.scheduled += 1;
            self.counts.waiting_bytes += job.waiting_bytes();
            cx.timers.set(due_at, Timer::JobDue(seq));
            cx.audit(Audit::RetryScheduled { job: seq, attempt, delay_ms });
            return CompletedStatus::RetryScheduled(due_at);
        }
        cx.audit(Audit::RetryExhausted { job: seq, attempts: attempt });
        self.finish(cx, dedup, seq, FinalStatus::Dead, result, error);
        CompletedStatus::Final(FinalStatus::Dead)
    }

    /// The job is ready: into its lane, and the long poll that it is for is woken.
    fn make_ready(&mut self, cx: &mut Context, seq: JobSeq) {
        let job = self.table.get_mut(seq).expect("a job that becomes ready is known");
        assert!(matches!(job.state, State::Scheduled { .. }), "only a scheduled job becomes ready");
        job.state = State::Queued { since: cx.now };
        self.counts.scheduled -= 1;
        self.counts.queued += 1;
        if let Some(waiter) = self.lanes.push(job.class_no, &job.kind, job.rank())
            && !mutants::is_active(Mutant::WakeForgotten)
        {
            cx.effects.push(Effect::Wake(waiter));
        }
    }

    /// The lease ends before its timer.
    fn end_lease(&mut self, cx: &mut Context, registry: &mut Registry, seq: JobSeq) {
        let job = self.table.get(seq).expect("a leased job is known");
        let attempt = job.attempts().last().expect("a leased job has an attempt");
        cx.stage(&job.kind, Stage::AttemptEnded { ran: cx.now.since(attempt.started_at) });
        let until = self.leave_leased(registry, seq);
        cx.timers.cancel(until, Timer::LeaseEnds(seq));
    }

    /// The job is no longer counted as leased; when its lease would have ended.
    fn leave_leased(&mut self, registry: &mut Registry, seq: JobSeq) -> Timestamp {
        let job = self.table.get(seq).expect("a leased job is known");
        let State::Leased { node, until } = *job.state() else { unreachable!("only a leased job's lease ends") };
        registry.lease_ended(node);
        self.counts.leased -= 1;
        until
    }

    /// A waiting job is taken out of its lane or its timer.
    fn stop_waiting(&mut self, cx: &mut Context, seq: JobSeq) {
        let job = self.table.get(seq).expect("a waiting job is known");
        match *job.state() {
            State::Scheduled { due_at } => {
                cx.timers.cancel(due_at, Timer::JobDue(seq));
                self.counts.scheduled -= 1;
            }
            State::Queued { .. } => {
                self.lanes.remove(job.class_no, &job.kind, job.rank());
                self.counts.queued -= 1;
            }
            _ => unreachable!("only a scheduled or queued job waits"),
        }
        self.counts.waiting_bytes -= job.waiting_bytes();
    }

    /// The job ends: its outcome is kept for its retention and for its key.
    fn finish(
        &mut self,
        cx: &mut Context,
        dedup: &mut Dedup,
        seq: JobSeq,
        status: FinalStatus,
        result: Payload,
        error: Payload,
    ) {
        let job = self.table.get_mut(seq).expect("a job that ends is known");
        if job.expires_at() > cx.now {
            cx.timers.cancel(job.expires_at(), Timer::JobExpires(seq));
        }
        if let Some(key) = job.terms.idempotency_key {
            dedup.settle(cx, key, seq, status, &result, &error);
        }
        cx.stage(&job.kind, Stage::Ended(status));
        let final_no = self.next_final_no;
        self.next_final_no += 1;
        job.state = State::Final { status, at: cx.now, result, error, final_no };
        self.counts.retained += 1;
        self.counts.retained_bytes += job.retained_bytes();
        self.lanes.leave_class(job.class_no);
        self.finals.push_back((cx.now, seq));
        cx.effects.push(Effect::Final(seq));
        self.enforce_retention(cx.limits);
    }

    fn intern(&mut self, kind: Name) -> Name {
        match self.kinds.entry(kind) {
            Entry::Occupied(mut known) => {
                *known.get_mut() += 1;
                known.key().clone()
            }
            Entry::Vacant(new) => {
                let kind = new.key().clone();
                new.insert(1);
                kind
            }
        }
    }
}

/// A job's zone, where it is not the default one: spelled out or left away, that is the same.
fn zone_of(zone: Option<&Name>) -> Option<&Name> {
    zone.filter(|zone| ***zone != *lane::ZONE_DEFAULT)
}

fn lease_duration(asked: Option<Millis>, job: &Job, limits: &Limits) -> Millis {
    let duration = asked.or(job.terms.lease_duration_ms).unwrap_or(limits.lease_duration_ms);
    duration.clamp(LEASE_DURATION_MIN, LEASE_DURATION_MAX)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use lane::ClassKey;
    use std::sync::Arc;

    /// A job as it is when it was just submitted, for the tests of rooms that only hold jobs.
    pub(crate) fn a_job(seq: u64) -> Job {
        let (_, class) = Lanes::default().enter_class(None, Vec::new()).expect("an empty table has room");
        let class: Arc<ClassKey> = class;
        Job {
            seq: JobSeq::new(seq),
            kind: Name::new("k").expect("a valid name"),
            params: Payload::ABSENT,
            priority: crate::command::Priority::Normal,
            class,
            class_no: lane::ClassNo::FIRST,
            terms: Terms {
                submitted_at: Timestamp::ZERO,
                expires_at: Timestamp::NEVER,
                retry_until: Timestamp::NEVER,
                attempts_max: 1,
                lease_duration_ms: None,
                idempotency_key: None,
            },
            state: State::Queued { since: Timestamp::ZERO },
            attempts: Vec::new(),
        }
    }
}
