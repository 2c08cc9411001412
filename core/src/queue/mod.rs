//! The queue: jobs from submission to the end of retention.
//!
//! It owns all state about jobs that must be consistent: their table, the lanes of ready ones, the leases, the order of
//! final ones. It changes nothing else: what a transition means to nodes, keys and telemetry it reports as an
//! [`Event`]. Operations come in the order in which a job passes through them. Submit, lease, extend, complete and each
//! timer are O(log n) in the jobs held.

pub(crate) mod ageing;
mod cancel;
pub(crate) mod class;
mod client;
mod dead;
pub(crate) mod ending;
pub(crate) mod event;
mod heads;
mod inflight;
pub(crate) mod job;
pub(crate) mod kind;
pub(crate) mod kind_rules;
pub(crate) mod lane;
pub(crate) mod lease;
pub(crate) mod letter_filter;
mod letters;
mod postponed;
pub(crate) mod profile;
mod record;
mod reserved;
mod retention;
mod retry;
pub(crate) mod retry_budget;
mod rows;
pub(crate) mod scan;
pub(crate) mod successor;
mod table;
pub(crate) mod tally;
pub(crate) mod turns;
pub(crate) mod waiter;
mod waking;

use crate::command::{Extend, Pull, Submit};
use crate::context::Context;
use crate::dedup::{Answered, KeyPlace};
use crate::ids::{JobSeq, LeaseRef, NodeIndex};
use crate::ledger::{Account, Ledger};
use crate::limits::{
    AGEING_BYTES, ATTEMPTS_MAX, CLIENT_BYTES, JOB_BYTES, LEASE_DURATION_MAX, LEASE_DURATION_MIN, Limits,
    RARE_TERMS_BYTES, REVOCATIONS_MAX, SHARED_BYTES_MAX, TERMS_BYTES,
};
use crate::name::Name;
use crate::name_set::NameSet;
use crate::outcome::{Extended, FinalStatus, Leased, Refusal};
use crate::payload::Payload;
use crate::rules;
use crate::time::{Millis, Timestamp};
use crate::timers::{Timer, Timers};
use crate::zone::Zone;
use ageing::Order;
use class::{ClassIndex, ClassKey, Classes, JobPlace, Lowered};
use client::Clients;
use event::Event;
pub(crate) use job::EndedJob;
use job::{Job, JobView, Outcome, Rare, Run, Stage, Standing, Terms};
use kind::{KindIndex, Kinds};
use kind_rules::{Gate, KindRules};
use lane::Rank;
use lease::{AttemptHistory, Leases};
use profile::{ProfileIndex, Profiles, Wanted};
pub(crate) use record::JobRecord;
use reserved::{Reservation, Reserved};
use retention::Retention;
use retry_budget::RetryBudget;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::num::NonZeroU64;
use successor::{Successors, Taken};
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
    budget: RetryBudget,
    /// Boxes of dropped jobs and ended attempts, for the next leases.
    #[expect(clippy::vec_box, reason = "jobs hold their runs in boxes, which are reused")]
    spare_runs: Vec<Box<Run>>,
    /// Final jobs that were dropped since the last [`Queue::take_dropped`].
    dropped: Vec<JobSeq>,
    /// Kinds that may have more dead letters than their rules allow.
    kinds_with_new_letters: Vec<KindIndex>,
    scheduled: u64,
    queued: u64,
    next_seq: JobSeq,
    order: Order,
    successors: Successors,
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
    /// Jobs under lease, those included whose leases are held.
    pub leased: u64,
    /// Final jobs whose leases are held: their nodes have not learnt yet that they ended.
    pub held: u64,
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
            budget: RetryBudget::default(),
            spare_runs: Vec::new(),
            dropped: Vec::new(),
            kinds_with_new_letters: Vec::new(),
            scheduled: 0,
            queued: 0,
            next_seq: JobSeq::FIRST,
            order: Order::default(),
            successors: Successors::default(),
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
            held: self.leases.held,
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

    /// Jobs of a zone under lease.
    pub fn leases_in_zone(&self, zone: &Zone) -> u64 {
        self.leases.in_zone(zone)
    }

    /// Jobs under lease by zone.
    pub fn leases_by_zone(&self) -> impl Iterator<Item = (&Zone, u64)> {
        self.leases.zones()
    }

    /// The rules of a kind, and their version, which also a kind without rules has: no version of a kind comes twice.
    pub fn kind_rules(&self, kind: &str) -> (&KindRules, u64) {
        self.kinds.rules_of(kind)
    }

    /// What `hub.toml` set last for a kind: nothing, unless it names it. The end of a pause in it is an instant of the
    /// calendar.
    pub fn configured_rules(&self, kind: &str) -> &KindRules {
        self.kinds.configured(kind)
    }

    /// The gate of a kind: whether a job of it may be leased now.
    pub fn kind_gate(&self, now: Timestamp, kind: &str) -> Gate {
        self.kinds.find(kind).map_or(Gate::Open, |kind| self.kinds.row(kind).gate(now))
    }

    /// The final jobs whose leases a node still holds: it has not learnt yet that they ended. O(leases of the node) if there
    /// are such jobs at all.
    pub fn held_by(&self, node: NodeIndex) -> impl Iterator<Item = JobView<'_>> {
        let leased = if self.leases.held > 0 { self.leases.of(node) } else { &[] };
        leased.iter().filter_map(|seq| self.get(*seq)).filter(JobView::is_held)
    }

    /// All for which no job of a kind may be leased; none of a kind that is open.
    pub fn kind_closed(&self, now: Timestamp, kind: &str) -> impl Iterator<Item = Gate> {
        self.kinds.find(kind).into_iter().flat_map(move |kind| self.kinds.row(kind).closed(now))
    }

    /// Jobs of a kind under lease.
    pub fn leases_of_kind(&self, kind: &str) -> u64 {
        self.kinds.find(kind).map_or(0, |kind| self.kinds.row(kind).leased())
    }

    /// Kinds with rules, in the order of their names, each with its rules and their version. O(log kinds) for each.
    pub fn ruled_kinds(&self) -> impl Iterator<Item = (&Name, &KindRules, u64)> {
        self.kinds.ruled()
    }

    /// The names of kinds that have rules or jobs, from one on, in order. O(log kinds), and O(1) for each, and for each kind
    /// between them that only long polls name.
    pub fn kinds_from(&self, from: Option<&str>) -> impl Iterator<Item = &Name> {
        self.kinds.named_from(from)
    }

    /// Sets the rules of a kind, if their version is `expected`. Lowering a limit revokes nothing; raising one opens the
    /// kind at once.
    pub(crate) fn set_kind_rules(
        &mut self,
        cx: &mut Context,
        kind: &Name,
        (rules, configured): (KindRules, Option<KindRules>),
        expected: Option<u64>,
    ) -> Result<(), Refusal> {
        let kind = self.kinds.set_rules(cx.ledger, cx.now, (kind, rules, configured), expected)?;
        self.update_gate(cx, kind);
        self.kinds.remove_empty_rules(cx.ledger, kind);
        Ok(())
    }

    /// A kind's timer fired; returns its name if its pause is over. A kind without jobs and other rules is removed.
    pub(crate) fn open_kind(&mut self, cx: &mut Context, kind: KindIndex) -> Option<Name> {
        self.kinds.row_mut(kind).set_opens_at(Timestamp::NEVER);
        let is_resumed = self.kinds.row_mut(kind).end_pause(cx.ledger, cx.now);
        let resumed = is_resumed.then(|| self.kinds.name(kind).clone());
        self.update_gate(cx, kind);
        self.kinds.remove_empty_rules(cx.ledger, kind);
        resumed
    }

    /// Opens or closes the lanes of a kind as its gate says now, and sets the timer for when it opens by itself. O(1) if
    /// nothing changes, O(log n) for each class with jobs of the kind otherwise.
    fn update_gate(&mut self, cx: &mut Context, kind: KindIndex) {
        let row = self.kinds.row_mut(kind);
        if !row.has_rules() && row.is_open {
            return;
        }
        let gate = row.gate(cx.now);
        let (opens_at, is_open) = (gate.opens_at(), gate == Gate::Open);
        if opens_at != row.opens_at() {
            cx.timers.cancel(row.opens_at(), Timer::KindOpens(kind));
            cx.timers.set(opens_at, Timer::KindOpens(kind));
            row.set_opens_at(opens_at);
        }
        if std::mem::replace(&mut row.is_open, is_open) == is_open {
            return;
        }
        if is_open && self.reserved.has_any() {
            self.reserved.mark_all();
        }
        for slot in self.kinds.row(kind).lanes().to_vec() {
            if !is_open {
                self.classes.close_lane(slot, kind);
            } else if let Some((rank, lowered)) = self.classes.open_lane(slot, kind) {
                self.profiles.notify_views(&self.classes, Wanted::Kind(kind), slot, rank);
                if lowered == Lowered::LaneAndClass {
                    self.profiles.notify_views(&self.classes, Wanted::Any, slot, rank);
                }
                self.waiters.mark_lane(slot, kind);
            }
        }
    }

    /// Ready jobs of its class that are leased before a ready job, those of other kinds whose gates are closed not counted.
    /// O(jobs of the class before it + reserved jobs).
    pub(crate) fn ahead_of(&self, seq: JobSeq) -> u64 {
        let job = self.table.get(seq).expect("a ready job is held");
        self.classes.ahead_of(job.class, job.kind, job.rank())
            + self.reserved.ahead_of(&self.kinds, job.place(), job.rank())
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

    /// The depth of a queue that has no room for a job without a key, whatever its kind: the usual refusal under load.
    pub(crate) fn full_depth(&self, limits: &Limits, submit: &Submit) -> Option<u64> {
        let depth = self.counts().waiting();
        let is_full = rules::is_full(depth, limits.queue_depth_max) && submit.idempotency.is_none();
        (is_full && most_bytes_of(submit) <= limits.job_bytes_max()).then_some(depth)
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
        let waiting = leaving.filter(|job| job.is_waiting());
        // A refusal reports the current depth, which includes the job that would leave.
        let (depth, depth_max, bytes_max) = (self.counts().waiting(), limits.queue_depth_max, limits.queue_bytes_max);
        let own_bytes_max = limits.job_bytes_max();
        let is_full = rules::is_full(depth - u64::from(waiting.is_some()), depth_max);
        if is_full && most_bytes_of(submit) <= own_bytes_max {
            return Err(Refusal::QueueFull { depth, depth_max });
        }
        let kind = self.kinds.find(&submit.kind);
        let rules = kind.map_or(&KindRules::NONE, |kind| self.kinds.row(kind).rules());
        let priority = submit.priority.or(rules.priority).unwrap_or_default();
        let own_bytes = bytes_of(submit, rules, limits) + self.ageing_bytes_of(limits, priority);
        if own_bytes > own_bytes_max {
            return Err(Refusal::JobTooLarge { bytes: own_bytes, bytes_max: own_bytes_max });
        }
        if is_full {
            return Err(Refusal::QueueFull { depth, depth_max });
        }
        let bytes = ledger.unfinished();
        let leaving_bytes = leaving.map_or(0, |job| job.charge().1 + self.ageing_bytes_if(limits, job));
        let bytes_after = rules::bytes_after(bytes, leaving_bytes, own_bytes);
        if bytes_after > bytes_max {
            return Err(Refusal::QueueBytesFull { bytes, bytes_max, depth, over: bytes_after - bytes_max });
        }
        let key = class_key(submit);
        let class = self.classes.admit(&key, leaving.map(|job| job.class))?;
        self.admit_letters((limits, ledger), kind, own_bytes, leaving)?;
        let shared = ledger.get(Account::Shared);
        let new = self.kinds.bytes_if_new(kind, &submit.kind) + self.classes.bytes_if_new(&key, class, kind);
        if new > 0 && shared + new > SHARED_BYTES_MAX {
            return Err(Refusal::SharedBytesFull { bytes: shared, bytes_max: SHARED_BYTES_MAX });
        }
        Ok(Admitted { kind, class })
    }

    /// Adds a job that was admitted, with what it took from an older one. The rules of its kind that are bound at
    /// submission are asked here. Its idempotency key is bound afterwards.
    pub(crate) fn submit(&mut self, cx: &mut Context, submit: Box<Submit>, admitted: Admitted, taken: Taken) -> JobSeq {
        let seq = self.next_seq;
        self.next_seq = seq.next();
        let kind = self.kinds.add_job(cx.ledger, admitted.kind, &submit.kind);
        let rules = self.kinds.row(kind).rules();
        let priority = submit.priority.or(rules.priority).unwrap_or_default();
        let ttl_ms = submit.ttl_ms.or(rules.ttl_ms);
        let lease_duration_ms = submit.lease_duration_ms.or(rules.lease_duration_ms);
        let attempts_max = submit.attempts_max.or(rules.attempts_max).unwrap_or(cx.limits.attempts_max);
        let key = class_key(&submit);
        let (class, lane) = self.classes.add_unfinished(cx.ledger, &mut self.kinds, admitted.class, key, kind);
        let due_at = cx.now + submit.delay_ms;
        let is_dated = due_at != Timestamp::NEVER && submit.run_at > cx.timers.calendar().utc(cx.now);
        let due_at = if taken.after.is_some() && due_at == cx.now && !is_dated { Timestamp::NEVER } else { due_at };
        let stage = if is_dated { Stage::Dated { run_at: submit.run_at } } else { Stage::Scheduled { due_at } };
        let terms = Terms::new(
            ttl_ms.map_or(Timestamp::NEVER, |ttl| rules::expires_at(cx.now, ttl)),
            submit.retry_budget_ms.map_or(Timestamp::NEVER, |budget| cx.now + budget),
            lease_duration_ms,
            taken.rank.map(Rank::seq),
        );
        let turn =
            taken.rank.filter(|rank| rank.level() == priority as usize).and_then(|rank| NonZeroU64::new(rank.turn()));
        let mut terms = terms.with_rare(Rare { max_run_ms: submit.max_run_ms, turn, ..Rare::default() });
        terms.client = submit.client.as_ref().map(|name| self.clients.add_job(name));
        cx.timers.set(terms.expires_at, Timer::JobExpires(seq));
        cx.events.push(Event::Submitted { kind });
        if Queue::has_budget(cx) {
            self.earn_credit(cx, kind);
        }
        let has_terms = submit.idempotency.is_some() || terms != Terms::default();
        let mut standing = Standing::default();
        standing.set_revocations(taken.revocations.min(REVOCATIONS_MAX));
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
            priority,
            attempts_max: attempts_max.clamp(1, ATTEMPTS_MAX) as u8,
            standing,
            counted: None,
        };
        let (account, bytes) = job.charge();
        cx.ledger.charge(account, bytes);
        self.scheduled += 1;
        if let Some(older) = taken.after {
            self.successors.insert(older, seq);
        }
        let job = self.table.insert(job);
        if is_dated {
            cx.timers.set_dated(submit.run_at, seq, due_at);
        } else if due_at > cx.now || taken.after.is_some() {
            cx.timers.set(due_at, Timer::JobDue(seq));
        } else {
            job.stage = Stage::Queued { since: cx.now };
            self.become_ready(cx, seq);
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
        self.become_ready(cx, seq);
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
        self.take_turn(cx, seq);
        let job = self.table.get(seq).expect("a job that becomes ready is held");
        insert_reservation(&mut self.reserved, cx.timers, job);
    }

    /// A reservation's timer fired: the job is for all nodes.
    pub(crate) fn end_reservation(&mut self, cx: &mut Context, seq: JobSeq) {
        let job = self.table.get_mut(seq).expect("a job with a timer is held");
        let Stage::Reserved { since } = job.stage else { unreachable!("only a reserved job has this timer") };
        job.stage = Stage::Queued { since };
        let (place, rank) = (job.place(), job.rank());
        self.reserved.remove(rank);
        self.enter_lane(place, rank, seq);
        self.begin_ageing(cx, seq);
    }

    /// The calendar shows the instant that a job is scheduled for.
    pub(crate) fn reach_date(&mut self, cx: &mut Context, seq: JobSeq, not_before: Timestamp) {
        let job = self.table.get_mut(seq).expect("a job that is scheduled is held");
        assert!(matches!(job.stage, Stage::Dated { .. }), "only a job with a date reaches it");
        job.stage = Stage::Scheduled { due_at: not_before };
        if not_before > cx.now {
            cx.timers.set(not_before, Timer::JobDue(seq));
        } else if !self.waits_for_run(seq) {
            self.enqueue_scheduled(cx, seq);
        }
    }

    /// Whether a job of these kinds (all if none is named) is ready that this node of this profile may run.
    pub(crate) fn has_any(&mut self, node: &Name, profile: ProfileIndex, kinds: &NameSet) -> bool {
        let Queue { profiles, classes, reserved, kinds: rows, .. } = self;
        if kinds.is_empty() {
            return profiles.first(classes, rows, profile, Wanted::Any).is_some()
                || reserved.first_for((classes, rows), profiles, (node, profile), None).is_some();
        }
        let mut wanted = kinds.iter().filter_map(|name| rows.find(name));
        wanted.any(|kind| {
            profiles.first(classes, rows, profile, Wanted::Kind(kind)).is_some()
                || reserved.first_for((classes, rows), profiles, (node, profile), Some(&[kind])).is_some()
        })
    }

    /// Leases up to `jobs_max` jobs to a node, in the order of rank among all that it may run, until one does not fit under
    /// the limit of bytes.
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
                && self.fits_under_lease((cx.limits, cx.ledger), seq, name.bytes())
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
            let stores = (&self.classes, &self.kinds);
            let reserved = self.reserved.first_for(stores, &mut self.profiles, (name, profile), Some(&kinds));
            let in_lanes = firsts.peek().map(|Reverse((rank, slot, kind))| (*rank, *slot, *kind));
            let (slot, kind) = match (in_lanes, reserved) {
                (in_lanes, Some((rank, seq))) if in_lanes.is_none_or(|(first, _, _)| rank < first) => {
                    if !self.fits_under_lease((cx.limits, cx.ledger), seq, name.bytes()) {
                        break;
                    }
                    leased.push(self.lease_one(cx, seq, node, name, pull.lease_duration_ms));
                    continue;
                }
                (Some((_, slot, kind)), _) => (slot, kind),
                (None, _) => break,
            };
            firsts.pop();
            // A lease may have closed the kind: its reserved jobs go through the same gate.
            let Some((_, seq)) = self.classes.head(slot, Some(kind)) else { continue };
            if !self.fits_under_lease((cx.limits, cx.ledger), seq, name.bytes()) {
                break;
            }
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
        let reserved = reserved.first_for((classes, kinds), profiles, (node, profile), None);
        in_lanes.into_iter().chain(reserved).min()
    }

    /// Extends leases, those of a node that is to be drained up to `drain_at`. A lease that has ended, or that another node
    /// holds, is answered as lost.
    pub(crate) fn extend(&mut self, cx: &mut Context, extend: &Extend, drain_at: Option<Timestamp>) -> Vec<Extended> {
        extend.leases.iter().map(|lease| self.extend_one(cx, extend, *lease, drain_at)).collect()
    }

    /// A node is to be drained by an instant: its leases end by then, those that it holds for jobs that ended as well.
    /// O(leases of the node · log n).
    pub(crate) fn end_leases_by(&mut self, cx: &mut Context, node: NodeIndex, drain_at: Timestamp) {
        for seq in self.leases.of(node) {
            let job = self.table.get_mut(*seq).expect("a leased job is held");
            let (Stage::Leased(run) | Stage::Final(run)) = &mut job.stage else {
                unreachable!("only a leased job is among its node's leases")
            };
            if drain_at < run.until {
                cx.timers.cancel(run.until, Timer::LeaseEnds(*seq));
                cx.timers.set(drain_at, Timer::LeaseEnds(*seq));
                run.until = drain_at;
            }
        }
    }

    /// The node whose lease a timer ends.
    pub(crate) fn node_of_lease(&self, seq: JobSeq) -> Option<NodeIndex> {
        match &self.table.get(seq)?.stage {
            Stage::Leased(run) | Stage::Final(run) => Some(run.node),
            _ => None,
        }
    }

    /// The machine slept for `duration`: each lease ends as much later. O(leases · log n).
    pub(crate) fn postpone_leases(&mut self, cx: &mut Context, duration: Millis) {
        for seq in self.leases.iter() {
            let job = self.table.get_mut(seq).expect("a leased job is held");
            let (Stage::Leased(run) | Stage::Final(run)) = &mut job.stage else {
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
        ledger.charge(Account::Waiting, self.ageing_bytes());
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
        let job = self.table.get(seq).expect("a ready job is held");
        self.classes.advance(job.class, job.rank(), &mut self.order.clocks);
        let since = match job.stage {
            Stage::Queued { since } => {
                self.leave_lane(cx, seq);
                since
            }
            Stage::Reserved { since } => {
                cancel_reservation(&mut self.reserved, cx.timers, job);
                since
            }
            _ => unreachable!("only a queued job is ready"),
        };
        let job = self.table.get_mut(seq).expect("a ready job is held");
        let (before, kind) = (job.charge(), job.kind);
        let max_run = job.max_run_ms().or(self.kinds.row(kind).rules().max_run_ms);
        let until = cx.now + lease_duration(lease_duration_ms, job, cx.limits);
        let until = until.min(rules::run_ends_at(cx.now, max_run));
        let place = self.leases.insert(node, &self.classes.key(job.class).zone, seq);
        let lease = job.lease_to(self.spare_runs.pop(), cx.now, node, name.clone(), place, until);
        self.queued -= 1;
        cx.ledger.transfer(before, job.charge());
        cx.timers.set(until, Timer::LeaseEnds(seq));
        cx.events.push(Event::Leased { node, waited: cx.now.since(since) });
        let row = self.kinds.row_mut(kind);
        row.add_lease();
        row.spend_rate(cx.now);
        self.update_gate(cx, kind);
        Leased { lease, until }
    }

    fn extend_one(
        &mut self,
        cx: &mut Context,
        extend: &Extend,
        lease: LeaseRef,
        drain_at: Option<Timestamp>,
    ) -> Extended {
        let Some(job) = self.table.get_mut(lease.job) else { return Extended::LeaseLost };
        if job.lease() != lease {
            return Extended::LeaseLost;
        }
        if let Stage::Final(run) = &job.stage
            && run.outcome.is_held
            && job.holder() == Some(&extend.node)
        {
            let is_cancelled = run.outcome.status == FinalStatus::Cancelled;
            self.end_hold(cx, lease.job);
            return if is_cancelled { Extended::Cancelled } else { Extended::Revoked };
        }
        let before = job.charge();
        let max_run = job.max_run_ms().or(self.kinds.row(job.kind).rules().max_run_ms);
        let duration = lease_duration(extend.lease_duration_ms, job, cx.limits);
        let expires_at = job.expires_at();
        let Stage::Leased(run) = &mut job.stage else { return Extended::LeaseLost };
        let attempt = run.attempt.as_ref().expect("a leased job has an attempt");
        if !rules::may_extend(&attempt.node, &extend.node) {
            return Extended::LeaseLost;
        }
        let run_ends_at = rules::run_ends_at(attempt.started_at, max_run);
        let latest = run_ends_at.min(drain_at.unwrap_or(Timestamp::NEVER));
        let until = rules::extended_until(run.until, cx.now, duration, (expires_at, latest));
        let is_last = until >= latest || expires_at <= cx.now;
        if extend.progress.is_some() || extend.note.is_some() {
            let report = run.report.get_or_insert_default();
            report.progress = extend.progress.or(report.progress);
            report.note = extend.note.clone().or_else(|| report.note.take());
        }
        if until != run.until {
            cx.timers.cancel(run.until, Timer::LeaseEnds(lease.job));
            cx.timers.set(until, Timer::LeaseEnds(lease.job));
            run.until = until;
        }
        cx.ledger.transfer(before, job.charge());
        Extended::Until { until, is_last }
    }

    /// A job whose stage is queued from now on is for all nodes.
    fn become_ready(&mut self, cx: &mut Context, seq: JobSeq) {
        self.take_turn(cx, seq);
        let job = self.table.get(seq).expect("a job that becomes ready is held");
        let (place, rank) = (job.place(), job.rank());
        self.make_ready(place, rank, seq);
        self.begin_ageing(cx, seq);
    }

    /// A job that was scheduled is in its lane.
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

/// The most that the job of a submit may be charged, whatever the rules of its kind.
fn most_bytes_of(submit: &Submit) -> u64 {
    let client = submit.client.as_ref().map_or(0, |name| CLIENT_BYTES + name.bytes());
    JOB_BYTES + Payload::bytes_of(&submit.params) + RARE_TERMS_BYTES + TERMS_BYTES + client + AGEING_BYTES
}

/// What the job of a submit will be charged under the rules of its kind.
fn bytes_of(submit: &Submit, rules: &KindRules, limits: &Limits) -> u64 {
    let has_terms = submit.idempotency.is_some()
        || submit.ttl_ms.or(rules.ttl_ms).is_some()
        || submit.retry_budget_ms.is_some()
        || submit.lease_duration_ms.or(rules.lease_duration_ms).is_some()
        || submit.client.is_some()
        || submit.max_run_ms.is_some()
        || Queue::has_turns(limits);
    let client = submit.client.as_ref().map_or(0, |name| CLIENT_BYTES + name.bytes());
    let rare = if submit.max_run_ms.is_some() || Queue::has_turns(limits) { RARE_TERMS_BYTES } else { 0 };
    JOB_BYTES + Payload::bytes_of(&submit.params) + rare + if has_terms { TERMS_BYTES } else { 0 } + client
}

fn lease_duration(asked: Option<Millis>, job: &Job, limits: &Limits) -> Millis {
    let duration = asked.or(job.lease_duration_ms()).unwrap_or(limits.lease_duration_ms);
    duration.clamp(LEASE_DURATION_MIN, LEASE_DURATION_MAX)
}
