//! The queue: jobs from submission to the end of retention.
//!
//! It owns all state about jobs that must be consistent: their table, the lanes of ready ones, the leases, the order of
//! final ones. It changes nothing else: what a transition means to nodes, keys and telemetry it reports as an
//! [`Event`]. Operations come in the order in which a job passes through them. Submit, lease, extend, complete and each
//! timer are O(log n) in the jobs held.

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
mod rows;
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
use job::{EndedLease, Job, JobView, Outcome, ResultMatch, Run, Stage, Terms};
use kind::{KindIndex, Kinds};
use lane::Rank;
use lease::{AttemptEnd, AttemptHistory, Leases, Revocation};
use profile::{ProfileIndex, Profiles, Wanted};
pub(crate) use record::JobRecord;
use retention::Retention;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::{Arc, LazyLock};
use table::JobTable;
use waiter::{Offer, Waiter, WaiterId, Waiters};

/// The error of an attempt whose lease expired.
static LEASE_EXPIRED: LazyLock<Payload> = LazyLock::new(|| Payload::new(br#""lease expired""#));

/// Boxes kept for reuse: about 40 kB.
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
    /// Boxes of dropped jobs and ended attempts, for the next leases.
    #[expect(clippy::vec_box, reason = "jobs hold their runs in boxes, which are reused")]
    spare_runs: Vec<Box<Run>>,
    scheduled: u64,
    queued: u64,
    next_seq: JobSeq,
}

/// Proof that a job was admitted, with the rows of its kind and class if they exist. It stays valid while jobs are only
/// finished.
#[derive(Clone, Copy)]
pub(crate) struct Admitted {
    kind: Option<KindIndex>,
    class: Option<ClassIndex>,
}

/// Jobs by state.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// Jobs that wait for an instant.
    pub scheduled: u64,
    /// Jobs that wait for a node.
    pub queued: u64,
    /// Jobs under lease.
    pub leased: u64,
    /// Final jobs that are retained, dead ones not counted.
    pub retained: u64,
    /// Dead jobs that are retained.
    pub dead: u64,
}

impl Counts {
    /// Jobs that wait, for an instant or for a node: the queue's depth.
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

    pub fn counts(&self) -> Counts {
        Counts {
            scheduled: self.scheduled,
            queued: self.queued,
            leased: self.leases.count(),
            retained: self.retention.final_count(),
            dead: self.retention.dead_count(),
        }
    }

    /// Jobs held, final ones included.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Parked long polls.
    pub fn waiter_count(&self) -> usize {
        self.waiters.len()
    }

    /// The jobs that a node has under lease, in no particular order.
    pub fn leases_of(&self, node: NodeIndex) -> &[JobSeq] {
        self.leases.of(node)
    }

    /// The result and the error of a final job.
    pub(crate) fn outcome_of(&self, seq: JobSeq) -> (Option<&Payload>, Option<&Payload>) {
        match self.table.get(seq).map(|job| &job.stage) {
            Some(Stage::Final(run)) => (run.outcome.result.as_ref(), run.outcome.error.as_ref()),
            _ => unreachable!("a job whose end is handled is final"),
        }
    }

    pub(crate) fn kinds_mut(&mut self) -> &mut Kinds {
        &mut self.kinds
    }

    pub(crate) fn profiles_mut(&mut self) -> &mut Profiles {
        &mut self.profiles
    }

    pub(crate) fn waiters_mut(&mut self) -> &mut Waiters {
        &mut self.waiters
    }

    pub(crate) fn leases_mut(&mut self) -> &mut Leases {
        &mut self.leases
    }

    /// Whether a job may be submitted, after the job `leaving` that it supersedes has ended. An admitted job is never
    /// refused afterwards, so a refusal changes nothing.
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
        // A refusal reports the current depth, which includes the job that would leave.
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

    /// Adds a job that was admitted, in the place of an older one or at the end. Its idempotency key is bound
    /// afterwards.
    pub(crate) fn submit(
        &mut self,
        cx: &mut Context,
        submit: Box<Submit>,
        admitted: Admitted,
        place: Option<JobSeq>,
    ) -> JobSeq {
        let seq = self.next_seq;
        self.next_seq = seq.next();
        let kind = self.kinds.add_job(cx.ledger, admitted.kind, &submit.kind);
        let key = class_key(&submit);
        let (class, lane) = self.classes.add_unfinished(cx.ledger, &mut self.kinds, admitted.class, key, kind);
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
            history: AttemptHistory::default(),
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

    /// Records the idempotency key that was bound to a job.
    pub(crate) fn set_key(&mut self, seq: JobSeq, key: KeyPlace) {
        self.table.get_mut(seq).expect("a job that was just submitted is held").set_key(Some(key));
    }

    /// Records the key of a snapshot with its job; `false` if the job does not exist, is final, or has a key.
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

    /// A scheduled job's timer fired.
    pub(crate) fn enqueue_scheduled(&mut self, cx: &mut Context, seq: JobSeq) {
        let job = self.table.get_mut(seq).expect("a job that becomes ready is held");
        assert!(matches!(job.stage, Stage::Scheduled { .. }), "only a scheduled job becomes ready");
        job.stage = Stage::Queued { since: cx.now };
        let (place, rank) = (job.place(), job.rank());
        self.make_ready(place, rank, seq);
    }

    /// Whether a job of these kinds (all if none is named) is ready that a node of this profile may run.
    pub(crate) fn has_any(&mut self, profile: ProfileIndex, kinds: &NameSet) -> bool {
        if kinds.is_empty() {
            return self.profiles.first(&self.classes, &self.kinds, profile, Wanted::Any).is_some();
        }
        let wanted = kinds.iter().filter_map(|name| self.kinds.find(name));
        wanted
            .into_iter()
            .any(|kind| self.profiles.first(&self.classes, &self.kinds, profile, Wanted::Kind(kind)).is_some())
    }

    /// Leases up to `jobs_max` jobs to a node, in the order of rank among all that it may run.
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
                let (_, seq) = self.classes.head(slot, None).expect("the first head of a view is a ready job");
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
            let (_, seq) = self.classes.head(slot, Some(kind)).expect("the first head of a view is a ready job");
            leased.push(self.lease_one(cx, seq, node, name, pull.lease_duration_ms));
            if leased.len() < jobs_max {
                let next = self.profiles.first(&self.classes, &self.kinds, profile, Wanted::Kind(kind));
                firsts.extend(next.map(|(rank, slot)| Reverse((rank, slot, kind))));
            }
        }
        leased
    }

    /// Extends leases. A lease that has ended, or that another node holds, is answered as lost.
    pub(crate) fn extend(&mut self, cx: &mut Context, extend: &Extend) -> Vec<Extended> {
        extend.leases.iter().map(|lease| self.extend_one(cx, extend, *lease)).collect()
    }

    /// Accepts a result; returns the answer, and the node whose lease it ended.
    pub(crate) fn complete(
        &mut self,
        cx: &mut Context,
        complete: Complete,
    ) -> Result<(Completed, Option<NodeIndex>), Refusal> {
        let seq = complete.job;
        let job = self.table.get_mut(seq).ok_or(Refusal::UnknownJob)?;
        match job.match_result(&complete) {
            ResultMatch::Lost => return Err(Refusal::LeaseLost),
            ResultMatch::Final(status) => return Err(Refusal::AlreadyFinal { status }),
            ResultMatch::Repeat(status) => return Ok((Completed { job: seq, status, is_duplicate: true }, None)),
            ResultMatch::Current => {}
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
            let parts = (&mut self.classes, &mut self.kinds, &mut self.waiters, &mut self.retention);
            finish(cx, parts, job, before, Ending { status: FinalStatus::Completed, result, error: None });
            CompletedStatus::Final(FinalStatus::Completed)
        } else {
            self.retry_or_finish(cx, seq, before, is_retryable, result, error)
        };
        self.update_moved_lease(&ended);
        Ok((Completed { job: seq, status, is_duplicate: false }, Some(ended.lease.node)))
    }

    /// A lease's timer fired. The attempt is charged, so that a job that crashes its nodes is not retried for ever.
    pub(crate) fn expire_lease(&mut self, cx: &mut Context, seq: JobSeq) {
        let job = self.table.get_mut(seq).expect("a job with a lease timer is held");
        let before = job.charge();
        let ended = end_lease(cx, &mut self.leases, job, AttemptEnd::Expired { at: cx.now }, true);
        self.update_moved_lease(&ended);
        self.retry_or_finish(cx, seq, before, true, None, Some(LEASE_EXPIRED.clone()));
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
            pull.kinds.iter().map(|name| Wanted::Kind(self.kinds.add_place(ledger, name))).collect()
        };
        self.profiles.acquire_again(profile);
        let jobs_max = u64::from(pull.jobs_max).max(1);
        self.waiters.park(ledger, id, Waiter { node: pull.node.clone(), profile, wanted, jobs_max });
        true
    }

    /// Removes a long poll; returns whether it was parked.
    pub(crate) fn unpark(&mut self, ledger: &mut Ledger, id: WaiterId) -> bool {
        let Some(waiter) = self.waiters.unpark(ledger, id) else { return false };
        for kind in waiter.wanted.iter().filter_map(|wanted| wanted.kind()) {
            if self.kinds.remove_place(ledger, kind) {
                self.profiles.drop_views_of(kind);
            }
        }
        self.profiles.release(waiter.profile);
        true
    }

    /// Removes and returns the long polls of a node whose profile changed: it may run other jobs now.
    pub(crate) fn unpark_all_of_node(&mut self, ledger: &mut Ledger, node: &Name) -> Vec<WaiterId> {
        let ids = self.waiters.of_node(node);
        ids.iter().for_each(|id| _ = self.unpark(ledger, *id));
        ids
    }

    /// Removes and returns the long polls to wake: as many as there are ready jobs that they may lease and room for
    /// leases, the longest waiting first. `room_at` is the room at a node.
    pub(crate) fn unpark_waiters_to_wake(
        &mut self,
        ledger: &mut Ledger,
        room_in_hub: u64,
        room_at: impl Fn(&Name) -> u64,
    ) -> Vec<WaiterId> {
        let mut woken = Vec::new();
        let mut granted: BTreeMap<Name, u64> = BTreeMap::new();
        if room_in_hub == 0 || self.waiters.is_empty() {
            if self.waiters.is_empty() {
                self.waiters.clear_marked_lanes();
            }
            return woken;
        }
        let mut room = room_in_hub;
        for node in self.waiters.drain_freed_nodes() {
            let id = if room > 0 && room_at(&node) > 0 { self.first_with_job(&node) } else { None };
            if let Some(id) = id {
                self.unpark(ledger, id);
                woken.push(id);
                granted.insert(node.clone(), 1);
                room -= 1;
            }
            // The node may have room for more leases, and the woken poll may lease nothing.
            if id.is_some() || room == 0 {
                self.waiters.note_freed(&node);
            }
        }
        // Lanes for which there is no room stay marked, so that a full hub does not walk them at each result.
        let mut marked_again = Vec::new();
        while room > 0
            && let Some((slot, kind)) = self.waiters.pop_marked_lane()
        {
            let mut left = rules::jobs_to_wake_for(self.classes.ready(slot, kind), room);
            let offered = left;
            let (mut chosen, mut full, mut is_any_passed_over) = (Vec::new(), Vec::new(), false);
            if left > 0 {
                self.waiters.offer_jobs(&self.classes, &mut self.profiles, (slot, kind), |id, waiter| {
                    if left == 0 {
                        return Offer::NoneLeft;
                    }
                    let (room_here, used) = (room_at(&waiter.node), granted.get(&waiter.node).copied().unwrap_or(0));
                    if room_here == 0 {
                        full.push(waiter.node.clone());
                        return Offer::NodeFull;
                    }
                    let jobs = room_here.saturating_sub(used).min(waiter.jobs_max).min(left);
                    if jobs == 0 {
                        is_any_passed_over = true;
                        return Offer::PassedOver;
                    }
                    left -= jobs;
                    *granted.entry(waiter.node.clone()).or_default() += jobs;
                    chosen.push(id);
                    Offer::Accepted
                });
            }
            full.iter().for_each(|node| self.waiters.note_full(node));
            room -= offered - left;
            // A woken poll may lease nothing, also one for which another of its node was passed over.
            if rules::stays_marked(!chosen.is_empty() || is_any_passed_over) {
                marked_again.push((slot, kind));
            }
            chosen.iter().for_each(|id| _ = self.unpark(ledger, *id));
            woken.extend(chosen);
        }
        marked_again.into_iter().for_each(|(slot, kind)| self.waiters.mark_lane(slot, kind));
        woken
    }

    /// What the jobs, their texts and the long polls are charged, recomputed. O(n).
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

    /// The longest waiting poll of a node that may lease a ready job.
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
        let job = self.table.get_mut(seq).expect("a ready job is held");
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

    /// After an attempt that did not succeed, schedules a retry or ends the job. A job that may not be retried ends as
    /// dead with its error, also if it would have expired; no retry is scheduled for an instant at which the job has
    /// expired.
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
            cx.events.push(Event::Exhausted { job: seq, attempts: job.history.charged() });
            FinalStatus::Dead
        } else if rules::is_too_late(job.expires_at(), due_at) {
            FinalStatus::Expired
        } else {
            // A retry is never refused, so the history is kept only if it fits within the limit.
            let spare = job.schedule_retry(due_at, cx.ledger.unfinished() <= cx.limits.queue_bytes_max);
            if self.spare_runs.len() < SPARE_RUNS_MAX {
                self.spare_runs.push(spare);
            }
            self.scheduled += 1;
            cx.ledger.transfer(before, job.charge());
            cx.timers.set(due_at, Timer::JobDue(seq));
            cx.events.push(Event::RetryScheduled { lease, delay });
            return CompletedStatus::RetryScheduled(due_at);
        };
        let parts = (&mut self.classes, &mut self.kinds, &mut self.waiters, &mut self.retention);
        finish(cx, parts, job, before, Ending { status, result, error });
        CompletedStatus::Final(status)
    }

    /// Puts a job into its lane and marks the lane: long polls are woken when the shell settles.
    fn make_ready(&mut self, place: JobPlace, rank: Rank, seq: JobSeq) {
        let kind = place.kind;
        self.scheduled -= 1;
        self.queued += 1;
        let (slot, lowered) = self.classes.push(place, rank, seq);
        if lowered != Lowered::Neither {
            self.profiles.notify_views(&self.classes, Wanted::Kind(kind), slot, rank);
        }
        if lowered == Lowered::LaneAndClass {
            self.profiles.notify_views(&self.classes, Wanted::Any, slot, rank);
        }
        self.waiters.mark_lane(slot, kind);
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
        let ended = if job.final_number().is_some_and(|number| number >= first) {
            Some(EndedJob::new(job, self.kinds.name(kind).clone(), Arc::clone(self.classes.key(class))))
        } else {
            let spare = job.into_spare_run().filter(|_| self.spare_runs.len() < SPARE_RUNS_MAX);
            self.spare_runs.extend(spare);
            None
        };
        self.classes.remove_retained(ledger, class);
        if self.kinds.remove_job(ledger, kind) {
            self.profiles.drop_views_of(kind);
        }
        ended
    }
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
    result: Option<Payload>,
    error: Option<Payload>,
}

impl Ending {
    /// An end without a result or error of a node.
    fn without_result(status: FinalStatus) -> Ending {
        Ending { status, result: None, error: None }
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
    let Ending { status, result, error } = ending;
    let number = retention.insert(cx.now, job.seq, status);
    job.finish(Outcome { status, at: cx.now, result, error, number });
    let (place, key) = (job.place(), job.key());
    job.set_key(None);
    job.lane = LaneIndex::NONE;
    cx.ledger.transfer(before, job.charge());
    if let Some(slot) = classes.finish(cx.ledger, kinds, place) {
        waiters.unmark_lane(slot, place.kind);
    }
    cx.events.push(Event::Ended { job: job.seq, kind: place.kind, status, key });
}

fn class_key(submit: &Submit) -> ClassKey {
    ClassKey { zone: submit.zone.clone(), requires: submit.requires.clone() }
}

/// What the job of a submit will be charged.
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
