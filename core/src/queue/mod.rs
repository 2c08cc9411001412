//! The queue: jobs from submission to the end of retention.
//!
//! It owns all state about jobs that must be consistent: their table, the lanes of ready ones, the leases, the order of
//! final ones. It changes nothing else: what a transition means to nodes, keys and telemetry it reports as an
//! [`Event`]. Operations come in the order in which a job passes through them. Submit, lease, extend, complete and each
//! timer are O(log n) in the jobs held.

pub(crate) mod class;
mod client;
pub(crate) mod ending;
pub(crate) mod event;
mod heads;
pub(crate) mod job;
pub(crate) mod kind;
pub(crate) mod lane;
pub(crate) mod lease;
pub(crate) mod profile;
mod record;
mod reserved;
mod retention;
mod retry;
mod rows;
pub(crate) mod scan;
mod table;
pub(crate) mod tally;
pub(crate) mod waiter;
mod waking;

use crate::command::{Extend, Pull, Submit};
use crate::context::Context;
use crate::dedup::{Answered, KeyPlace};
use crate::ids::{JobSeq, LeaseRef, NodeIndex};
use crate::ledger::{Account, Ledger};
use crate::limits::{
    ATTEMPTS_MAX, CLIENT_BYTES, JOB_BYTES, LEASE_DURATION_MAX, LEASE_DURATION_MIN, Limits, SHARED_BYTES_MAX,
    TERMS_BYTES,
};
use crate::name::Name;
use crate::name_set::NameSet;
use crate::outcome::{Extended, Leased, Refusal};
use crate::payload::Payload;
use crate::rules;
use crate::time::{Millis, Timestamp};
use crate::timers::{Timer, Timers};
use class::{ClassIndex, ClassKey, Classes, JobPlace, Lowered};
use client::Clients;
use event::Event;
pub(crate) use job::EndedJob;
use job::{Job, JobView, Outcome, Run, Stage, Terms};
use kind::{KindIndex, Kinds};
use lane::Rank;
use lease::{AttemptHistory, Leases};
use profile::{ProfileIndex, Profiles, Wanted};
pub(crate) use record::JobRecord;
use reserved::{Reservation, Reserved};
use retention::Retention;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use table::JobTable;
use tally::Tally;
use waiter::Waiters;

/// All jobs.
#[derive(Debug)]
pub struct Queue {
    table: JobTable,
    kinds: Kinds,
    classes: Classes,
    clients: Clients,
    profiles: Profiles,
    reserved: Reserved,
    waiters: Waiters,
    leases: Leases,
    retention: Retention,
    /// Boxes of dropped jobs and ended attempts, for the next leases.
    #[expect(clippy::vec_box, reason = "jobs hold their runs in boxes, which are reused")]
    spare_runs: Vec<Box<Run>>,
    /// Final jobs that were dropped since the last [`Queue::take_dropped`].
    dropped: Vec<JobSeq>,
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
            clients: Clients::default(),
            profiles: Profiles::default(),
            reserved: Reserved::default(),
            waiters: Waiters::default(),
            leases: Leases::default(),
            retention: Retention::default(),
            spare_runs: Vec::new(),
            dropped: Vec::new(),
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

    /// Jobs by state.
    pub fn tally(&self) -> &Tally {
        self.table.tally()
    }

    /// The kinds that jobs are of, in the order of their names, with their jobs by state. O(kinds).
    pub fn kind_counts(&self) -> impl Iterator<Item = (&Name, &Tally)> {
        self.kinds.tallies()
    }

    /// How many kinds jobs and long polls name.
    pub fn kind_count(&self) -> usize {
        self.kinds.len()
    }

    /// The jobs of a kind by state, with its name; `None` if there are none. O(log n).
    pub fn kind_tally(&self, kind: &str) -> Option<(&Name, &Tally)> {
        self.kinds.tally(kind)
    }

    /// The final jobs that were dropped since the last call.
    pub(crate) fn take_dropped(&mut self) -> impl Iterator<Item = JobSeq> {
        self.dropped.drain(..)
    }

    /// Counts the jobs that a transition may have changed.
    pub(crate) fn count_changes(&mut self) {
        let Queue { table, kinds, .. } = self;
        table.count_changes(|kind, before, after| kinds.count(kind, before, after));
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

    /// The result and the error of a final job, and the checksum that they are stored with.
    pub(crate) fn outcome_of(&self, seq: JobSeq) -> Answered<'_> {
        match self.table.get(seq).map(|job| &job.stage) {
            Some(Stage::Final(run)) => {
                let Outcome { result, error, integrity, .. } = &run.outcome;
                Answered { result: result.as_ref(), error: error.as_ref(), integrity: integrity.as_deref() }
            }
            _ => unreachable!("a job whose end is handled is final"),
        }
    }

    /// The results of a client from a position on: its final jobs whose final numbers are not below it, in the order of
    /// ending. O(log n).
    pub fn results_from(&self, client: &str, position: u64) -> impl Iterator<Item = JobView<'_>> {
        let held = |seq| self.get(seq).expect("a result that is held is that of a job that is held");
        self.clients.results_from(client, position).map(held)
    }

    /// The position after all results.
    pub fn results_end(&self) -> u64 {
        self.retention.next_number()
    }

    /// The position before which results of this client may have been dropped.
    pub fn results_dropped_before(&self, client: &str) -> u64 {
        self.clients.dropped_before(client)
    }

    /// How many results of this client it has not read since the hub started.
    pub fn results_unread_by(&self, client: &str) -> u64 {
        self.clients.unread_by(client)
    }

    /// How many results their clients have not read since the hub started.
    pub fn results_unread(&self) -> u64 {
        self.clients.unread()
    }

    pub(crate) fn clients_mut(&mut self) -> &mut Clients {
        &mut self.clients
    }

    /// A job ended: if it names a client, its result is for that one.
    pub(crate) fn add_result(&mut self, seq: JobSeq) {
        let job = self.table.get(seq).expect("a job whose end is handled is held");
        if let (Some(client), Some(number)) = (job.client(), job.final_number()) {
            self.clients.add_result(client, number, seq);
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
        let (own_bytes, bytes_max) = (bytes_of(submit), limits.queue_bytes_max);
        if own_bytes > bytes_max {
            return Err(Refusal::JobTooLarge { bytes: own_bytes, bytes_max });
        }
        let leaving = leaving.and_then(|seq| self.table.get(seq));
        let counts = self.counts();
        let waiting = leaving.filter(|job| job.is_waiting());
        // A refusal reports the current depth, which includes the job that would leave.
        let (depth, depth_max) = (counts.waiting(), limits.queue_depth_max);
        if rules::is_full(depth - u64::from(waiting.is_some()), depth_max) {
            return Err(Refusal::QueueFull { depth, depth_max });
        }
        let bytes = ledger.unfinished();
        let leaving_bytes = leaving.map_or(0, |job| job.charge().1);
        let bytes_after = rules::bytes_after(bytes, leaving_bytes, own_bytes);
        if bytes_after > bytes_max {
            return Err(Refusal::QueueBytesFull { bytes, bytes_max, depth, over: bytes_after - bytes_max });
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
        let due_at = cx.now + submit.delay_ms;
        let is_dated = due_at != Timestamp::NEVER && submit.run_at > cx.timers.calendar().utc(cx.now);
        let stage = if is_dated { Stage::Dated { run_at: submit.run_at } } else { Stage::Scheduled { due_at } };
        let mut terms = Terms::new(
            submit.ttl_ms.map_or(Timestamp::NEVER, |ttl| rules::expires_at(cx.now, ttl)),
            submit.retry_budget_ms.map_or(Timestamp::NEVER, |budget| cx.now + budget),
            submit.lease_duration_ms,
            place,
        );
        terms.client = submit.client.as_ref().map(|name| self.clients.add_job(name));
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
            stage,
            history: AttemptHistory::default(),
            terms: has_terms.then(|| Box::new(terms)),
            priority: submit.priority,
            attempts_max: submit.attempts_max.unwrap_or(cx.limits.attempts_max).clamp(1, ATTEMPTS_MAX) as u8,
            counted: None,
        };
        let (account, bytes) = job.charge();
        cx.ledger.charge(account, bytes);
        self.scheduled += 1;
        let job = self.table.insert(job);
        if is_dated {
            cx.timers.set_dated(submit.run_at, seq, due_at);
        } else if due_at > cx.now {
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

    /// The node whose attempt failed or was lost before this retry, and the class of the job, if one more job may be
    /// reserved for other nodes.
    pub(crate) fn reservable(&self, seq: JobSeq) -> Option<(&Name, &ClassKey)> {
        let job = self.table.get(seq).filter(|_| self.reserved.has_room())?;
        Some((job.failed_at()?, self.classes.key(job.class)))
    }

    /// A retry's timer fired, and it is reserved for other nodes than that of its last attempt.
    pub(crate) fn reserve_scheduled(&mut self, cx: &mut Context, seq: JobSeq) {
        let job = self.table.get_mut(seq).expect("a job that becomes ready is held");
        assert!(matches!(job.stage, Stage::Scheduled { .. }), "only a scheduled job becomes ready");
        job.stage = Stage::Reserved { since: cx.now };
        self.scheduled -= 1;
        self.queued += 1;
        insert_reservation(&mut self.reserved, cx.timers, job);
    }

    /// A reservation's timer fired: the job is for all nodes.
    pub(crate) fn end_reservation(&mut self, seq: JobSeq) {
        let job = self.table.get_mut(seq).expect("a job with a timer is held");
        let Stage::Reserved { since } = job.stage else { unreachable!("only a reserved job has this timer") };
        job.stage = Stage::Queued { since };
        let (place, rank) = (job.place(), job.rank());
        self.reserved.remove(rank);
        self.enter_lane(place, rank, seq);
    }

    /// The calendar shows the instant that a job is scheduled for.
    pub(crate) fn reach_date(&mut self, cx: &mut Context, seq: JobSeq, not_before: Timestamp) {
        let job = self.table.get_mut(seq).expect("a job that is scheduled is held");
        assert!(matches!(job.stage, Stage::Dated { .. }), "only a job with a date reaches it");
        job.stage = Stage::Scheduled { due_at: not_before };
        if not_before > cx.now {
            cx.timers.set(not_before, Timer::JobDue(seq));
        } else {
            self.enqueue_scheduled(cx, seq);
        }
    }

    /// Whether a job of these kinds (all if none is named) is ready that this node of this profile may run.
    pub(crate) fn has_any(&mut self, node: &Name, profile: ProfileIndex, kinds: &NameSet) -> bool {
        let Queue { profiles, classes, reserved, kinds: rows, .. } = self;
        if kinds.is_empty() {
            return profiles.first(classes, rows, profile, Wanted::Any).is_some()
                || reserved.first_for(classes, profiles, (node, profile), None).is_some();
        }
        let mut wanted = kinds.iter().filter_map(|name| rows.find(name));
        wanted.any(|kind| {
            profiles.first(classes, rows, profile, Wanted::Kind(kind)).is_some()
                || reserved.first_for(classes, profiles, (node, profile), Some(&[kind])).is_some()
        })
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
                && let Some((_, seq)) = self.first_of_any(name, profile)
            {
                leased.push(self.lease_one(cx, seq, node, name, pull.lease_duration_ms));
            }
            return leased;
        }
        let kinds: Vec<_> = pull.kinds.iter().filter_map(|name| self.kinds.find(name)).collect();
        let mut firsts = BinaryHeap::new();
        for kind in &kinds {
            let first = self.profiles.first(&self.classes, &self.kinds, profile, Wanted::Kind(*kind));
            firsts.extend(first.map(|(rank, slot)| Reverse((rank, slot, *kind))));
        }
        while leased.len() < jobs_max {
            let reserved = self.reserved.first_for(&self.classes, &mut self.profiles, (name, profile), Some(&kinds));
            let in_lanes = firsts.peek().map(|Reverse((rank, slot, kind))| (*rank, *slot, *kind));
            let (slot, kind) = match (in_lanes, reserved) {
                (in_lanes, Some((rank, seq))) if in_lanes.is_none_or(|(first, _, _)| rank < first) => {
                    leased.push(self.lease_one(cx, seq, node, name, pull.lease_duration_ms));
                    continue;
                }
                (Some((_, slot, kind)), _) => (slot, kind),
                (None, _) => break,
            };
            firsts.pop();
            let (_, seq) = self.classes.head(slot, Some(kind)).expect("the first head of a view is a ready job");
            leased.push(self.lease_one(cx, seq, node, name, pull.lease_duration_ms));
            if leased.len() < jobs_max {
                let next = self.profiles.first(&self.classes, &self.kinds, profile, Wanted::Kind(kind));
                firsts.extend(next.map(|(rank, slot)| Reverse((rank, slot, kind))));
            }
        }
        leased
    }

    /// The first job of any kind that a node may run.
    fn first_of_any(&mut self, node: &Name, profile: ProfileIndex) -> Option<(Rank, JobSeq)> {
        let Queue { profiles, classes, reserved, kinds, .. } = self;
        let first = profiles.first(classes, kinds, profile, Wanted::Any);
        let in_lanes =
            first.map(|(_, slot)| classes.head(slot, None).expect("the first head of a view is a ready job"));
        let reserved = reserved.first_for(classes, profiles, (node, profile), None);
        in_lanes.into_iter().chain(reserved).min()
    }

    /// Extends leases. A lease that has ended, or that another node holds, is answered as lost.
    pub(crate) fn extend(&mut self, cx: &mut Context, extend: &Extend) -> Vec<Extended> {
        extend.leases.iter().map(|lease| self.extend_one(cx, extend, *lease)).collect()
    }

    /// The machine slept for `duration`: each lease ends as much later. O(leases · log n).
    pub(crate) fn postpone_leases(&mut self, cx: &mut Context, duration: Millis) {
        for seq in self.leases.iter() {
            let job = self.table.get_mut(seq).expect("a leased job is held");
            let Stage::Leased(run) = &mut job.stage else {
                unreachable!("only a leased job is among its node's leases")
            };
            let until = rules::until_after_sleep(run.until, duration);
            cx.timers.cancel(run.until, Timer::LeaseEnds(seq));
            cx.timers.set(until, Timer::LeaseEnds(seq));
            run.until = until;
        }
    }

    /// What the jobs, their texts and the long polls are charged, recomputed. O(n).
    pub(crate) fn recount(&self, ledger: &mut Ledger) {
        let (mut results, mut tallies) = (0, BTreeMap::<_, Tally>::new());
        for job in self.table.iter_from(JobSeq::FIRST) {
            let (account, bytes) = job.charge();
            ledger.charge(account, bytes);
            tallies.entry(self.kinds.name(job.kind)).or_default().count(None, Some(job.status()));
            if let (Some(client), Some(number)) = (job.client(), job.final_number()) {
                assert_eq!(self.clients.result(client, number), Some(job.seq), "a result is that of its job");
                results += 1;
            }
        }
        assert!(self.kinds.tallies().eq(tallies.iter().map(|(kind, tally)| (*kind, tally))), "each job is counted");
        self.table.check_tallies();
        assert_eq!(self.clients.result_count(), results, "each result is that of a final job");
        let (of_jobs, of_places) = self.kinds.bytes();
        ledger.charge(Account::Shared, of_jobs + self.classes.bytes());
        ledger.charge(Account::Waiters, of_places + self.waiters.bytes());
    }

    fn view<'a>(&'a self, job: &'a Job) -> JobView<'a> {
        let client = job.client().map(|client| self.clients.name(client.index));
        JobView::new(job, self.kinds.name(job.kind), self.classes.key(job.class), client)
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
        let since = match job.stage {
            Stage::Queued { since } => {
                self.classes.remove(job.place(), job.rank());
                since
            }
            Stage::Reserved { since } => {
                cancel_reservation(&mut self.reserved, cx.timers, job);
                since
            }
            _ => unreachable!("only a queued job is ready"),
        };
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

    /// A job that was scheduled is for all nodes.
    fn make_ready(&mut self, place: JobPlace, rank: Rank, seq: JobSeq) {
        self.scheduled -= 1;
        self.queued += 1;
        self.enter_lane(place, rank, seq);
    }

    /// Puts a job into its lane and marks the lane: long polls are woken when the shell settles.
    fn enter_lane(&mut self, place: JobPlace, rank: Rank, seq: JobSeq) {
        let kind = place.kind;
        let (slot, lowered) = self.classes.push(place, rank, seq);
        if lowered != Lowered::Neither {
            self.profiles.notify_views(&self.classes, Wanted::Kind(kind), slot, rank);
        }
        if lowered == Lowered::LaneAndClass {
            self.profiles.notify_views(&self.classes, Wanted::Any, slot, rank);
        }
        self.waiters.mark_lane(slot, kind);
    }
}

/// Reserves a job for other nodes than that of its last attempt, and sets the timer at which that ends.
fn insert_reservation(reserved: &mut Reserved, timers: &mut Timers, job: &Job) {
    let node = job.failed_at().expect("a retry is reserved after an attempt that failed").clone();
    let until = job.reserved_until().expect("it is reserved");
    timers.set(until, Timer::ReservationEnds(job.seq));
    reserved.insert(job.rank(), Reservation::new(job.seq, job.place(), node));
}

/// Ends the reservation of a job that is leased or ends.
fn cancel_reservation(reserved: &mut Reserved, timers: &mut Timers, job: &Job) {
    let until = job.reserved_until().expect("it is reserved");
    timers.cancel(until, Timer::ReservationEnds(job.seq));
    reserved.remove(job.rank());
}

fn class_key(submit: &Submit) -> ClassKey {
    ClassKey { zone: submit.zone.clone(), requires: submit.requires.clone() }
}

/// What the job of a submit will be charged.
fn bytes_of(submit: &Submit) -> u64 {
    let has_terms = submit.idempotency.is_some()
        || submit.ttl_ms.is_some()
        || submit.retry_budget_ms.is_some()
        || submit.lease_duration_ms.is_some()
        || submit.client.is_some();
    let client = submit.client.as_ref().map_or(0, |name| CLIENT_BYTES + name.bytes());
    JOB_BYTES + Payload::bytes_of(&submit.params) + if has_terms { TERMS_BYTES } else { 0 } + client
}

fn lease_duration(asked: Option<Millis>, job: &Job, limits: &Limits) -> Millis {
    let duration = asked.or(job.lease_duration_ms()).unwrap_or(limits.lease_duration_ms);
    duration.clamp(LEASE_DURATION_MIN, LEASE_DURATION_MAX)
}
