//! The queue: jobs from submission to retention's end.
//!
//! It owns what must agree about jobs: their table, the lanes of ready ones, the leases, the order of final ones. What
//! follows from a transition for others (nodes, keys, budgets, telemetry) it tells as an [`Event`]; it reaches into no
//! other room. Operations come in the order a job lives through them. Submit, lease, extend, complete and each timer are
//! O(log n) in the jobs held.

pub(crate) mod class;
pub(crate) mod event;
mod heads;
pub(crate) mod job;
pub(crate) mod kind;
pub(crate) mod lane;
pub(crate) mod lease;
pub(crate) mod profile;
mod record;
mod retention;
mod retry;
mod table;
pub(crate) mod waiter;

use crate::command::{Complete, Extend, Pull, Submit};
use crate::context::Context;
use crate::dedup::KeyPlace;
use crate::ids::{JobSeq, LeaseRef, NodeIndex};
use crate::ledger::{Account, Ledger};
use crate::limits::{
    ATTEMPT_ERROR_BYTES_MAX, ATTEMPTS_MAX, JOB_BYTES, LEASE_DURATION_MAX, LEASE_DURATION_MIN, Limits, SHARED_BYTES_MAX,
    TERMS_BYTES,
};
use crate::name::Name;
use crate::name_set::NameSet;
use crate::outcome::{Completed, CompletedStatus, Extended, FinalStatus, Leased, Refusal};
use crate::payload::Payload;
use crate::rules;
use crate::time::{Millis, Timestamp};
use crate::timers::Timer;
use class::{ClassIndex, ClassKey, Classes, JobPlace, LaneIndex, Lowered};
use event::Event;
pub(crate) use job::EndedJob;
use job::{EndedLease, Job, JobView, Outcome, Run, Stage, Standing, Terms};
use kind::{KindIndex, Kinds};
use lane::Rank;
use lease::{AttemptEnd, Leases, Revocation, Tries};
use profile::{ProfileIndex, Profiles, Wanted};
pub(crate) use record::JobRecord;
use retention::Retention;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::{Arc, LazyLock};
use table::JobTable;
use waiter::{Offer, Waiter, WaiterId, Waiters};

/// The error of an attempt whose lease ended without a result.
static LEASE_EXPIRED: LazyLock<Payload> = LazyLock::new(|| Payload::new(br#""lease expired""#));

/// Boxes that are kept for the next leases: some 40 kB.
const SPARE_RUNS_MAX: usize = 256;

/// All jobs.
#[derive(Debug)]
pub struct Queue {
    table: JobTable,
    kinds: Kinds,
    classes: Classes,
    profiles: Profiles,
    waiters: Waiters,
    leases: Leases,
    retention: Retention,
    /// What final jobs that went have left for the next leases.
    #[expect(clippy::vec_box, reason = "jobs hold boxes, and these are theirs")]
    spare_runs: Vec<Box<Run>>,
    scheduled: u64,
    queued: u64,
    next_seq: JobSeq,
}

/// That a job may come, and what is there already of what it names. Nothing that only finishes jobs makes it untrue.
#[derive(Clone, Copy)]
pub(crate) struct Admitted {
    kind: Option<KindIndex>,
    class: Option<ClassIndex>,
}

/// How many jobs are where.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// Jobs that wait for an instant.
    pub scheduled: u64,
    /// Jobs that wait for a node.
    pub queued: u64,
    /// Jobs under lease.
    pub leased: u64,
    /// Final jobs that are readable, dead ones not counted.
    pub retained: u64,
    /// Dead jobs that are readable.
    pub dead: u64,
}

impl Counts {
    /// Jobs that wait, for an instant or for a node: what the queue's depth is about.
    pub fn waiting(&self) -> u64 {
        rules::waiting(self.scheduled, self.queued)
    }
}

impl Default for Queue {
    fn default() -> Self {
        Queue {
            table: JobTable::default(),
            kinds: Kinds::default(),
            classes: Classes::default(),
            profiles: Profiles::default(),
            waiters: Waiters::default(),
            leases: Leases::default(),
            retention: Retention::default(),
            spare_runs: Vec::new(),
            scheduled: 0,
            queued: 0,
            next_seq: JobSeq::FIRST,
        }
    }
}

impl Queue {
    /// The job of that number. O(log n).
    pub fn get(&self, seq: JobSeq) -> Option<JobView<'_>> {
        self.table.get(seq).map(|job| self.view(job))
    }

    /// The jobs from `first` on, in order of submission.
    pub fn iter_from(&self, first: JobSeq) -> impl Iterator<Item = JobView<'_>> {
        self.table.iter_from(first).map(|job| self.view(job))
    }

    /// The jobs up to `last`, newest first.
    pub fn iter_back_from(&self, last: JobSeq) -> impl Iterator<Item = JobView<'_>> {
        self.table.iter_back_from(last).map(|job| self.view(job))
    }

    /// The number that the next job gets.
    pub fn next_seq(&self) -> JobSeq {
        self.next_seq
    }

    /// How many jobs are where.
    pub fn counts(&self) -> Counts {
        Counts {
            scheduled: self.scheduled,
            queued: self.queued,
            leased: self.leases.count(),
            retained: self.retention.final_count(),
            dead: self.retention.dead_count(),
        }
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
        self.waiters.len()
    }

    /// The jobs that a node has under lease, in no order that means something.
    pub fn leases_of(&self, node: NodeIndex) -> &[JobSeq] {
        self.leases.of(node)
    }

    /// What came of a final job.
    pub(crate) fn outcome_of(&self, seq: JobSeq) -> (Option<&Payload>, Option<&Payload>) {
        match self.table.get(seq).map(|job| &job.stage) {
            Some(Stage::Final(run)) => (run.outcome.result.as_ref(), run.outcome.error.as_ref()),
            _ => unreachable!("a job whose end is followed up is final"),
        }
    }

    /// The kinds that something names.
    pub(crate) fn kinds_mut(&mut self) -> &mut Kinds {
        &mut self.kinds
    }

    /// What nodes can do.
    pub(crate) fn profiles_mut(&mut self) -> &mut Profiles {
        &mut self.profiles
    }

    /// The long polls.
    pub(crate) fn waiters_mut(&mut self) -> &mut Waiters {
        &mut self.waiters
    }

    /// The leases.
    pub(crate) fn leases_mut(&mut self) -> &mut Leases {
        &mut self.leases
    }

    /// Whether one more job may come, with the one that it supersedes gone. Then nothing refuses it, so what is refused
    /// has changed nothing. A job is admitted once: what happens to it later never refuses it its place.
    pub(crate) fn admit(
        &self,
        limits: &Limits,
        ledger: &Ledger,
        submit: &Submit,
        leaving: Option<JobSeq>,
    ) -> Result<Admitted, Refusal> {
        let leaving = leaving.and_then(|seq| self.table.get(seq));
        let counts = self.counts();
        let waiting = leaving.filter(|job| job.is_waiting());
        // The client is told what waits now, the one that would leave included.
        let (depth, depth_max) = (counts.waiting(), limits.queue_depth_max);
        if rules::is_full(depth - u64::from(waiting.is_some()), depth_max) {
            return Err(Refusal::QueueFull { depth, depth_max });
        }
        let (bytes, bytes_max) = (ledger.unfinished(), limits.queue_bytes_max);
        let leaving_bytes = leaving.map_or(0, |job| job.charge().1);
        if rules::bytes_after(bytes, leaving_bytes, bytes_of(submit)) > bytes_max {
            return Err(Refusal::QueueBytesFull { bytes, bytes_max, depth });
        }
        let key = class_key(submit);
        let class = self.classes.admit(&key, leaving.map(|job| job.class))?;
        let kind = self.kinds.find(&submit.kind);
        let shared = ledger.get(Account::Shared);
        let new = self.kinds.bytes_if_new(kind, &submit.kind) + self.classes.bytes_if_new(&key, class, kind);
        if new > 0 && shared + new > SHARED_BYTES_MAX {
            return Err(Refusal::SharedBytesFull { bytes: shared, bytes_max: SHARED_BYTES_MAX });
        }
        Ok(Admitted { kind, class })
    }

    /// A job comes in that was admitted, in the place of an older one or at the end. Its idempotency key is bound after it.
    pub(crate) fn submit(
        &mut self,
        cx: &mut Context,
        submit: Box<Submit>,
        admitted: Admitted,
        place: Option<JobSeq>,
    ) -> JobSeq {
        let seq = self.next_seq;
        self.next_seq = seq.next();
        let kind = self.kinds.enter(cx.ledger, admitted.kind, &submit.kind);
        let key = class_key(&submit);
        let (class, lane) = self.classes.enter(cx.ledger, &mut self.kinds, admitted.class, key, kind);
        let due_at = (cx.now + submit.delay_ms).max(submit.run_at);
        let terms = Terms::new(
            submit.ttl_ms.map_or(Timestamp::NEVER, |ttl| rules::expires_at(cx.now, ttl)),
            submit.retry_budget_ms.map_or(Timestamp::NEVER, |budget| cx.now + budget),
            submit.lease_duration_ms,
            place,
        );
        cx.timers.set(terms.expires_at, Timer::JobExpires(seq));
        cx.events.push(Event::Submitted { kind });
        let has_terms = submit.idempotency.is_some() || terms != Terms::default();
        let job = Job {
            seq,
            params: submit.params,
            submitted_at: cx.now,
            kind,
            class,
            lane,
            stage: Stage::Scheduled { due_at },
            tries: Tries::default(),
            terms: has_terms.then(|| Box::new(terms)),
            priority: submit.priority,
            attempts_max: submit.attempts_max.unwrap_or(cx.limits.attempts_max).clamp(1, ATTEMPTS_MAX) as u8,
        };
        let (account, bytes) = job.charge();
        cx.ledger.charge(account, bytes);
        self.scheduled += 1;
        let job = self.table.insert(job);
        if due_at > cx.now {
            cx.timers.set(due_at, Timer::JobDue(seq));
        } else {
            job.stage = Stage::Queued { since: cx.now };
            let (place, rank) = (job.place(), job.rank());
            self.make_ready(place, rank, seq);
        }
        seq
    }

    /// The key that a job was submitted under is bound to it.
    pub(crate) fn set_key(&mut self, seq: JobSeq, key: KeyPlace) {
        self.table.get_mut(seq).expect("a job that was just submitted is known").set_key(Some(key));
    }

    /// The key of a snapshot is bound to its job again; `false` if the job is not there, is final, or has a key.
    pub(crate) fn restore_key(&mut self, ledger: &mut Ledger, seq: JobSeq, key: KeyPlace) -> bool {
        let Some(job) = self.table.get_mut(seq) else { return false };
        if job.key().is_some() || matches!(job.stage, Stage::Final(_)) {
            return false;
        }
        let before = job.charge();
        job.set_key(Some(key));
        ledger.transfer(before, job.charge());
        true
    }

    /// A scheduled job's instant has come.
    pub(crate) fn job_due(&mut self, cx: &mut Context, seq: JobSeq) {
        let job = self.table.get_mut(seq).expect("a job that becomes ready is known");
        assert!(matches!(job.stage, Stage::Scheduled { .. }), "only a scheduled job becomes ready");
        job.stage = Stage::Queued { since: cx.now };
        let (place, rank) = (job.place(), job.rank());
        self.make_ready(place, rank, seq);
    }

    /// Whether there is a job for a node of this profile that takes these kinds (all if none is named).
    pub(crate) fn has_any(&mut self, profile: ProfileIndex, kinds: &NameSet) -> bool {
        if kinds.is_empty() {
            return self.profiles.first(&self.classes, &self.kinds, profile, Wanted::Any).is_some();
        }
        let wanted = kinds.iter().filter_map(|name| self.kinds.find(name));
        wanted
            .into_iter()
            .any(|kind| self.profiles.first(&self.classes, &self.kinds, profile, Wanted::Kind(kind)).is_some())
    }

    /// Up to `jobs_max` jobs for a node, each under a new lease, in the order of their ranks over all that it may run.
    pub(crate) fn lease(
        &mut self,
        cx: &mut Context,
        (node, name): (NodeIndex, &Name),
        profile: ProfileIndex,
        pull: &Pull,
        jobs_max: usize,
    ) -> Vec<Leased> {
        let mut leased = Vec::new();
        if pull.kinds.is_empty() {
            while leased.len() < jobs_max
                && let Some((_, slot)) = self.profiles.first(&self.classes, &self.kinds, profile, Wanted::Any)
            {
                let (_, seq) = self.classes.head(slot, None).expect("a view's first head is there");
                leased.push(self.lease_one(cx, seq, node, name, pull.lease_duration_ms));
            }
            return leased;
        }
        let mut firsts = BinaryHeap::new();
        for kind in pull.kinds.iter().filter_map(|name| self.kinds.find(name)) {
            let first = self.profiles.first(&self.classes, &self.kinds, profile, Wanted::Kind(kind));
            firsts.extend(first.map(|(rank, slot)| Reverse((rank, slot, kind))));
        }
        while leased.len() < jobs_max
            && let Some(Reverse((_, slot, kind))) = firsts.pop()
        {
            let (_, seq) = self.classes.head(slot, Some(kind)).expect("a view's first head is there");
            leased.push(self.lease_one(cx, seq, node, name, pull.lease_duration_ms));
            if leased.len() < jobs_max {
                let next = self.profiles.first(&self.classes, &self.kinds, profile, Wanted::Kind(kind));
                firsts.extend(next.map(|(rank, slot)| Reverse((rank, slot, kind))));
            }
        }
        leased
    }

    /// Leases are kept longer; one that has ended, or is another node's, is lost.
    pub(crate) fn extend(&mut self, cx: &mut Context, extend: &Extend) -> Vec<Extended> {
        extend.leases.iter().map(|lease| self.extend_one(cx, extend, *lease)).collect()
    }

    /// How a job ended, as its node says; the node that had the lease comes with the answer.
    pub(crate) fn complete(
        &mut self,
        cx: &mut Context,
        complete: Complete,
    ) -> Result<(Completed, Option<NodeIndex>), Refusal> {
        let seq = complete.job;
        let job = self.table.get_mut(seq).ok_or(Refusal::UnknownJob)?;
        match job.standing(&complete) {
            Standing::Lost => return Err(Refusal::LeaseLost),
            Standing::Final(status) => return Err(Refusal::AlreadyFinal { status }),
            Standing::Repeat(status) => return Ok((Completed { job: seq, status, is_duplicate: true }, None)),
            Standing::Current => {}
        }
        let before = job.charge();
        let (at, mark) = (cx.now, complete.mark);
        let Complete { ok, result, error, is_retryable, .. } = complete;
        let end = if ok {
            AttemptEnd::Completed { at, mark }
        } else {
            let is_kept = error.as_ref().is_some_and(|error| {
                let bytes = cx.ledger.unfinished() + error.len() as u64;
                error.len() <= ATTEMPT_ERROR_BYTES_MAX && bytes <= cx.limits.queue_bytes_max
            });
            AttemptEnd::Failed { at, mark, error: error.clone().filter(|_| is_kept), retry_at: None }
        };
        let ended = end_lease(cx, &mut self.leases, job, end, false);
        let status = if ok {
            let rooms = (&mut self.classes, &mut self.kinds, &mut self.retention);
            finish(cx, rooms, job, before, Ending { status: FinalStatus::Completed, result, error: None });
            CompletedStatus::Final(FinalStatus::Completed)
        } else {
            self.retry_or_finish(cx, seq, before, is_retryable, result, error)
        };
        self.lease_ended(&ended);
        Ok((Completed { job: seq, status, is_duplicate: false }, Some(ended.lease.node)))
    }

    /// A lease's time is over: that counts as an attempt, so that a job that kills its nodes comes to an end.
    pub(crate) fn lease_ends(&mut self, cx: &mut Context, seq: JobSeq) {
        let job = self.table.get_mut(seq).expect("a job with a lease timer is known");
        let before = job.charge();
        let ended = end_lease(cx, &mut self.leases, job, AttemptEnd::Expired { at: cx.now }, true);
        self.lease_ended(&ended);
        self.retry_or_finish(cx, seq, before, true, None, Some(LEASE_EXPIRED.clone()));
    }

    /// A job's time to live is over. A leased one may still be finished; it will not be tried again.
    pub(crate) fn expire(&mut self, cx: &mut Context, seq: JobSeq) {
        let job = self.table.get(seq).expect("a job with a timer is known");
        if job.is_waiting() {
            let before = job.charge();
            self.stop_waiting(cx, seq);
            self.finish(cx, seq, before, Ending::of(FinalStatus::Expired));
        }
    }

    /// A newer job takes this one's place, if it waits; the place that it had then.
    pub(crate) fn supersede(&mut self, cx: &mut Context, seq: JobSeq) -> Option<JobSeq> {
        let job = self.table.get_mut(seq).expect("the job of a key that is not spent is known");
        let before = job.charge();
        // The key belongs to the newer job: this one's end must not answer for it.
        job.set_key(None);
        let place = job.is_waiting().then(|| job.rank().seq());
        if job.is_waiting() {
            self.stop_waiting(cx, seq);
        } else {
            let end = AttemptEnd::Revoked { at: cx.now, why: Revocation::Superseded };
            let ended = end_lease(cx, &mut self.leases, job, end, false);
            self.lease_ended(&ended);
        }
        self.finish(cx, seq, before, Ending::of(FinalStatus::Superseded));
        place
    }

    /// When the oldest final job goes by its age.
    pub(crate) fn next_retention_at(&self, limits: &Limits) -> Option<Timestamp> {
        self.retention.next_at(limits.job_retention_ms)
    }

    /// Drops the final job that ended first. It comes back if it ended as number `first` or later.
    pub(crate) fn drop_oldest_final(&mut self, ledger: &mut Ledger, first: u64) -> Option<EndedJob> {
        self.retention.pop_oldest().and_then(|seq| self.drop_final(ledger, seq, first))
    }

    /// Drops final jobs until counts and bytes are within their limits; those that ended as number `first` or later go to
    /// `gone`.
    pub(crate) fn enforce_retention(
        &mut self,
        limits: &Limits,
        ledger: &mut Ledger,
        first: u64,
        mut gone: impl FnMut(EndedJob),
    ) {
        while rules::keeps_too_many(self.retention.final_count(), limits.retained_jobs_max)
            || ledger.get(Account::Retained) > limits.retained_bytes_max
        {
            let seq = self.retention.pop_final().expect("what is too much is something");
            self.drop_final(ledger, seq, first).into_iter().for_each(&mut gone);
        }
        while rules::keeps_too_many(self.retention.dead_count(), limits.dead_jobs_max)
            || ledger.get(Account::Dead) > limits.dead_bytes_max
        {
            let seq = self.retention.pop_dead().expect("what is too much is something");
            self.drop_final(ledger, seq, first).into_iter().for_each(&mut gone);
        }
        while self.kinds.idle_bytes() + self.classes.idle_bytes() > SHARED_BYTES_MAX / 2
            && let Some(seq) = self.retention.pop_final().or_else(|| self.retention.pop_dead())
        {
            self.drop_final(ledger, seq, first).into_iter().for_each(&mut gone);
        }
    }

    /// Parks a long poll; `false` if too many are.
    pub(crate) fn park(&mut self, ledger: &mut Ledger, id: WaiterId, pull: &Pull, profile: ProfileIndex) -> bool {
        let mut known: Vec<_> = pull.kinds.iter().filter_map(|name| self.kinds.find(name)).map(Wanted::Kind).collect();
        let unknown_count = pull.kinds.len() - known.len();
        known.extend(pull.kinds.is_empty().then_some(Wanted::Any));
        if !self.waiters.has_room_for(profile, &known, unknown_count) {
            return false;
        }
        let wanted = if pull.kinds.is_empty() {
            vec![Wanted::Any]
        } else {
            pull.kinds.iter().map(|name| Wanted::Kind(self.kinds.enter_place(ledger, name))).collect()
        };
        self.profiles.enter_again(profile);
        let jobs_max = u64::from(pull.jobs_max).max(1);
        self.waiters.park(ledger, id, Waiter { node: pull.node.clone(), profile, wanted, jobs_max });
        true
    }

    /// Forgets a long poll, if it is parked; whether it was.
    pub(crate) fn unpark(&mut self, ledger: &mut Ledger, id: WaiterId) -> bool {
        let Some(waiter) = self.waiters.unpark(ledger, id) else { return false };
        waiter.wanted.iter().filter_map(|wanted| wanted.kind()).for_each(|kind| self.kinds.leave_place(ledger, kind));
        self.profiles.leave(waiter.profile);
        true
    }

    /// Takes out the long polls of a node whose profile changed: it may take other jobs now.
    pub(crate) fn take_waiters_of(&mut self, ledger: &mut Ledger, node: &Name) -> Vec<WaiterId> {
        let ids = self.waiters.of_node(node);
        ids.iter().for_each(|id| _ = self.unpark(ledger, *id));
        ids
    }

    /// Limits were changed, or a saturated hub has room: everything is looked at again for those who wait.
    pub(crate) fn stir_all(&mut self) {
        for (slot, kind) in self.classes.ready_lanes() {
            self.waiters.stir(slot, kind);
        }
        self.waiters.free_all();
    }

    /// Takes out the long polls to wake: as many as there are ready jobs that they could take and room for leases, the
    /// longest waiting first. `room_at` is the room at a node.
    pub(crate) fn take_waiters_to_wake(
        &mut self,
        ledger: &mut Ledger,
        room_in_hub: u64,
        room_at: impl Fn(&Name) -> u64,
    ) -> Vec<WaiterId> {
        let mut woken = Vec::new();
        let mut granted: BTreeMap<Name, u64> = BTreeMap::new();
        if room_in_hub == 0 || self.waiters.is_empty() {
            if self.waiters.is_empty() {
                self.waiters.clear_stirred();
            }
            return woken;
        }
        let mut room = room_in_hub;
        for node in self.waiters.take_freed() {
            let id = if room > 0 && room_at(&node) > 0 { self.first_with_job(&node) } else { None };
            if let Some(id) = id {
                self.unpark(ledger, id);
                woken.push(id);
                granted.insert(node.clone(), 1);
                room -= 1;
            }
            // It may have room for more than one, and who was woken may take nothing.
            if id.is_some() || room == 0 {
                self.waiters.free(&node);
            }
        }
        // Lanes for which there is no room any more stay noted: a full hub pays for each lane once.
        let mut again = Vec::new();
        while room > 0
            && let Some((slot, kind)) = self.waiters.pop_stirred()
        {
            let mut left = rules::jobs_to_wake_for(self.classes.ready(slot, kind), room);
            let offered = left;
            let (mut chosen, mut full, mut has_stood_back) = (Vec::new(), Vec::new(), false);
            if left > 0 {
                self.waiters.choose(&self.classes, &mut self.profiles, (slot, kind), |id, waiter| {
                    if left == 0 {
                        return Offer::NoneLeft;
                    }
                    let (room_here, taken) = (room_at(&waiter.node), granted.get(&waiter.node).copied().unwrap_or(0));
                    if room_here == 0 {
                        full.push(waiter.node.clone());
                        return Offer::NodeFull;
                    }
                    let takes = room_here.saturating_sub(taken).min(waiter.jobs_max).min(left);
                    if takes == 0 {
                        has_stood_back = true;
                        return Offer::StoodBack;
                    }
                    left -= takes;
                    *granted.entry(waiter.node.clone()).or_default() += takes;
                    chosen.push(id);
                    Offer::Taken
                });
            }
            full.iter().for_each(|node| self.waiters.note_full(node));
            room -= offered - left;
            // Who was woken may take nothing, and so may the one for whom another stood back.
            if rules::is_looked_at_again(!chosen.is_empty() || has_stood_back) {
                again.push((slot, kind));
            }
            chosen.iter().for_each(|id| _ = self.unpark(ledger, *id));
            woken.extend(chosen);
        }
        again.into_iter().for_each(|(slot, kind)| self.waiters.stir(slot, kind));
        woken
    }

    /// What the jobs, their texts and the long polls are charged, walked. O(n).
    pub(crate) fn recount(&self, ledger: &mut Ledger) {
        for job in self.table.iter_from(JobSeq::FIRST) {
            let (account, bytes) = job.charge();
            ledger.charge(account, bytes);
        }
        let (of_jobs, of_places) = self.kinds.bytes();
        ledger.charge(Account::Shared, of_jobs + self.classes.bytes());
        ledger.charge(Account::Waiters, of_places + self.waiters.bytes());
    }

    fn view<'a>(&'a self, job: &'a Job) -> JobView<'a> {
        JobView::new(job, self.kinds.name(job.kind), self.classes.key(job.class))
    }

    /// The longest waiting poll of a node for which there is a job.
    fn first_with_job(&mut self, node: &Name) -> Option<WaiterId> {
        let Queue { waiters, profiles, classes, kinds, .. } = self;
        waiters.first_of_node(node, |profile, wanted| profiles.first(classes, kinds, profile, wanted).is_some())
    }

    fn lease_one(
        &mut self,
        cx: &mut Context,
        seq: JobSeq,
        node: NodeIndex,
        name: &Name,
        lease_duration_ms: Option<Millis>,
    ) -> Leased {
        let job = self.table.get_mut(seq).expect("a ready job is known");
        let Stage::Queued { since } = job.stage else { unreachable!("only a queued job is ready") };
        self.classes.remove(job.place(), job.rank());
        let before = job.charge();
        let until = cx.now + lease_duration(lease_duration_ms, job, cx.limits);
        let place = self.leases.insert(node, seq);
        let lease = job.lease_to(self.spare_runs.pop(), cx.now, node, name.clone(), place, until);
        self.queued -= 1;
        cx.ledger.transfer(before, job.charge());
        cx.timers.set(until, Timer::LeaseEnds(seq));
        cx.events.push(Event::Leased { node, waited: cx.now.since(since) });
        Leased { lease, until }
    }

    fn extend_one(&mut self, cx: &mut Context, extend: &Extend, lease: LeaseRef) -> Extended {
        let Some(job) = self.table.get_mut(lease.job) else { return Extended::LeaseLost };
        if job.lease() != lease {
            return Extended::LeaseLost;
        }
        let duration = lease_duration(extend.lease_duration_ms, job, cx.limits);
        let expires_at = job.expires_at();
        let Stage::Leased(run) = &mut job.stage else { return Extended::LeaseLost };
        let holder = &run.attempt.as_ref().expect("a leased job has an attempt").node;
        if !rules::may_extend(holder, &extend.node) {
            return Extended::LeaseLost;
        }
        let until = rules::extended_until(run.until, cx.now, duration, expires_at);
        if until != run.until {
            cx.timers.cancel(run.until, Timer::LeaseEnds(lease.job));
            cx.timers.set(until, Timer::LeaseEnds(lease.job));
            run.until = until;
        }
        Extended::Until(until)
    }

    /// After an attempt that did not succeed: another one, or the end. A real error is never hidden behind an expiry, and
    /// no retry is promised for an instant at which the job will have expired.
    fn retry_or_finish(
        &mut self,
        cx: &mut Context,
        seq: JobSeq,
        before: (Account, u64),
        is_retryable: bool,
        result: Option<Payload>,
        error: Option<Payload>,
    ) -> CompletedStatus {
        let job = self.table.get_mut(seq).expect("its attempt has just ended");
        let lease = job.lease();
        let delay = retry::delay(cx.key, cx.limits, seq, lease.generation);
        let due_at = rules::retry_at(cx.now, delay);
        let status = if !is_retryable || !job.may_retry_at(due_at) {
            cx.events.push(Event::Exhausted { job: seq, attempts: job.tries.charged() });
            FinalStatus::Dead
        } else if rules::is_too_late(job.expires_at(), due_at) {
            FinalStatus::Expired
        } else {
            // A job is not refused its place for what it tried, so what it tried has to fit.
            let spare = job.schedule(due_at, cx.ledger.unfinished() <= cx.limits.queue_bytes_max);
            if self.spare_runs.len() < SPARE_RUNS_MAX {
                self.spare_runs.push(spare);
            }
            self.scheduled += 1;
            cx.ledger.transfer(before, job.charge());
            cx.timers.set(due_at, Timer::JobDue(seq));
            cx.events.push(Event::RetryScheduled { lease, delay });
            return CompletedStatus::RetryScheduled(due_at);
        };
        let rooms = (&mut self.classes, &mut self.kinds, &mut self.retention);
        finish(cx, rooms, job, before, Ending { status, result, error });
        CompletedStatus::Final(status)
    }

    /// The job is ready: into its lane. Who may take it is told when the shell settles.
    fn make_ready(&mut self, place: JobPlace, rank: Rank, seq: JobSeq) {
        let kind = place.kind;
        self.scheduled -= 1;
        self.queued += 1;
        let (slot, lowered) = self.classes.push(place, rank, seq);
        if lowered != Lowered::Neither {
            self.profiles.tell(&self.classes, Wanted::Kind(kind), slot, rank);
        }
        if lowered == Lowered::LaneAndClass {
            self.profiles.tell(&self.classes, Wanted::Any, slot, rank);
        }
        self.waiters.stir(slot, kind);
    }

    /// Another lease of the node may have the place now of the one that ended.
    fn lease_ended(&mut self, ended: &LeaseEnd) {
        let Some(moved) = ended.moved else { return };
        let job = self.table.get_mut(moved).expect("a leased job is known");
        let Stage::Leased(run) = &mut job.stage else { unreachable!("only a leased job is among its node's leases") };
        run.place = ended.lease.place;
    }

    /// A waiting job is taken out of its lane or its timer.
    fn stop_waiting(&mut self, cx: &mut Context, seq: JobSeq) {
        let job = self.table.get(seq).expect("a waiting job is known");
        match job.stage {
            Stage::Scheduled { due_at } => {
                cx.timers.cancel(due_at, Timer::JobDue(seq));
                self.scheduled -= 1;
            }
            Stage::Queued { .. } => {
                self.classes.remove(job.place(), job.rank());
                self.queued -= 1;
            }
            _ => unreachable!("only a scheduled or queued job waits"),
        }
    }

    /// A job ends; `before` is what it was charged.
    fn finish(&mut self, cx: &mut Context, seq: JobSeq, before: (Account, u64), ending: Ending) {
        let job = self.table.get_mut(seq).expect("a job that ends is known");
        finish(cx, (&mut self.classes, &mut self.kinds, &mut self.retention), job, before, ending);
    }

    /// Drops a final job; it comes back if it ended as number `first` or later.
    fn drop_final(&mut self, ledger: &mut Ledger, seq: JobSeq, first: u64) -> Option<EndedJob> {
        let job = self.table.remove(seq).expect("a retained job is known");
        let (account, bytes) = job.charge();
        ledger.release(account, bytes);
        let (kind, class) = (job.kind, job.class);
        let ended = if job.final_number().is_some_and(|number| number >= first) {
            Some(EndedJob::new(job, self.kinds.name(kind).clone(), Arc::clone(self.classes.key(class))))
        } else {
            let spare = job.into_spare().filter(|_| self.spare_runs.len() < SPARE_RUNS_MAX);
            self.spare_runs.extend(spare);
            None
        };
        self.classes.forget(ledger, class);
        self.kinds.leave(ledger, kind);
        ended
    }
}

/// A lease that ended, and the job whose lease has its place among the node's now, if another one does.
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
    result: Option<Payload>,
    error: Option<Payload>,
}

impl Ending {
    /// Without anything that a node said.
    fn of(status: FinalStatus) -> Ending {
        Ending { status, result: None, error: None }
    }
}

/// The job ends, and stays readable for its retention; `before` is what it was charged.
fn finish(
    cx: &mut Context,
    (classes, kinds, retention): (&mut Classes, &mut Kinds, &mut Retention),
    job: &mut Job,
    before: (Account, u64),
    ending: Ending,
) {
    if job.expires_at() > cx.now {
        cx.timers.cancel(job.expires_at(), Timer::JobExpires(job.seq));
    }
    let Ending { status, result, error } = ending;
    let number = retention.insert(cx.now, job.seq, status);
    job.finish(Outcome { status, at: cx.now, result, error, number });
    let (place, key) = (job.place(), job.key());
    job.set_key(None);
    job.lane = LaneIndex::NONE;
    cx.ledger.transfer(before, job.charge());
    classes.finish(cx.ledger, kinds, place);
    cx.events.push(Event::Ended { job: job.seq, kind: place.kind, status, key });
}

fn class_key(submit: &Submit) -> ClassKey {
    ClassKey { zone: submit.zone.clone(), requires: submit.requires.clone() }
}

/// What a job that is submitted so will be charged.
fn bytes_of(submit: &Submit) -> u64 {
    let has_terms = submit.idempotency.is_some()
        || submit.ttl_ms.is_some()
        || submit.retry_budget_ms.is_some()
        || submit.lease_duration_ms.is_some();
    JOB_BYTES + Payload::bytes_of(&submit.params) + if has_terms { TERMS_BYTES } else { 0 }
}

fn lease_duration(asked: Option<Millis>, job: &Job, limits: &Limits) -> Millis {
    let duration = asked.or(job.lease_duration_ms()).unwrap_or(limits.lease_duration_ms);
    duration.clamp(LEASE_DURATION_MIN, LEASE_DURATION_MAX)
}
