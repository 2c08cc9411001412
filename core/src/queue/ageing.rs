//! Ageing: a job that has been ready for long counts one priority higher, so that no priority starves; and changes of
//! [turns](super::turns) and ageing while jobs wait.
//!
//! A change does not stop the hub: jobs that are ready then are visited in steps, in the order of their numbers, and those
//! that become ready meanwhile follow the new settings at once. Turns begin anew behind all that were given, so that a group
//! which comes then is not before those that wait. Beside turns a job that ages gets a turn at its new level, so
//! that what has aged does not go before all that others have waiting there.

use super::Queue;
use super::job::{Job, Stage};
use super::lane::LEVELS;
use super::turns::{Clocks, Group, TurnsRecord};
use crate::command::Priority;
use crate::context::Context;
use crate::encoding::members;
use crate::ids::JobSeq;
use crate::ledger::Account;
use crate::limits::{AGEING_BYTES, Limits, VISITED_JOBS_MAX};
use crate::name::Name;
use crate::queue::class::ClassKey;
use crate::rules;
use crate::time::{Millis, Timestamp};
use crate::timers::Timer;
use std::collections::{BTreeMap, BTreeSet};

/// The order of ready jobs beyond their priorities.
#[derive(Debug)]
pub(super) struct Order {
    /// Ready jobs that may age, by when they came to their levels.
    ageing: BTreeSet<(Timestamp, JobSeq)>,
    /// Whether each of them is charged [`AGEING_BYTES`], as jobs that wait.
    charges_ageing: bool,
    /// When the timer of the first is set for.
    ages_at: Timestamp,
    pub clocks: Clocks,
    /// Weights of groups; that of all others is 1.
    weights: BTreeMap<Name, u32>,
    /// How often they were set.
    weights_version: u64,
    visit: Option<Visit>,
}

/// Jobs that are visited since the settings changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Visit {
    /// The next one.
    next: JobSeq,
    /// The first that was submitted after the change.
    end: JobSeq,
    /// When the next step is.
    at: Timestamp,
}

/// The order's state as a snapshot stores it.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct OrderRecord {
    clocks: Vec<u64>,
    groups: Vec<Name>,
    weights: Vec<u32>,
    visit_next: Option<JobSeq>,
    visit_end: Option<JobSeq>,
    visit_at: Option<Timestamp>,
    weights_version: u64,
}

members!(OrderRecord {
    1 clocks,
    2 groups,
    3 weights,
    4 visit_next,
    5 visit_end,
    6 visit_at,
    7 weights_version,
});

/// Whose jobs take turns.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum FairBy {
    Client,
    Kind,
}

impl FairBy {
    fn of(limits: &Limits) -> Option<FairBy> {
        match limits.fair_by {
            1 => Some(FairBy::Client),
            2 => Some(FairBy::Kind),
            _ => None,
        }
    }
}

impl Default for Order {
    fn default() -> Self {
        let ages_at = Timestamp::NEVER;
        let (ageing, weights) = (BTreeSet::new(), BTreeMap::new());
        Order { ageing, charges_ageing: false, ages_at, clocks: [0; LEVELS], weights, weights_version: 0, visit: None }
    }
}

impl Order {
    /// Whether a ready job may be among those that age now: not before it was visited.
    fn has_visited(&self, seq: JobSeq) -> bool {
        self.visit.is_none_or(|visit| seq < visit.next || seq >= visit.end)
    }

    /// What so many of those that age are charged.
    fn ageing_bytes(&self, jobs: usize) -> u64 {
        if self.charges_ageing { jobs as u64 * AGEING_BYTES } else { 0 }
    }
}

impl Queue {
    /// Those that age are charged from now on.
    pub(crate) fn begin_charging_ageing(&mut self, cx: &mut Context) {
        self.order.charges_ageing = true;
        cx.ledger.charge(Account::Waiting, self.ageing_bytes());
    }

    /// What all that age are charged.
    pub(super) fn ageing_bytes(&self) -> u64 {
        self.order.ageing_bytes(self.order.ageing.len())
    }

    /// What a job is charged if it ages.
    pub(super) fn ageing_bytes_if(&self, limits: &Limits, job: &Job) -> u64 {
        let ages = ages_from(job, limits).is_some_and(|from| self.order.ageing.contains(&(from, job.seq)));
        self.order.ageing_bytes(ages.into())
    }

    /// What a job of a priority will be charged when it is ready, since it ages then.
    pub(super) fn ageing_bytes_of(&self, limits: &Limits, priority: Priority) -> u64 {
        let ages = limits.priority_age_ms > Millis::ZERO && priority as usize > 0;
        self.order.ageing_bytes(ages.into())
    }

    /// Whether jobs are charged for a turn when they are submitted.
    pub(crate) fn has_turns(limits: &Limits) -> bool {
        FairBy::of(limits).is_some()
    }

    pub(crate) fn weights(&self) -> &BTreeMap<Name, u32> {
        &self.order.weights
    }

    /// The version of the weights: no version of theirs comes twice.
    pub(crate) fn weights_version(&self) -> u64 {
        self.order.weights_version
    }

    /// Sets the weights of all groups; jobs that are ready follow step by step.
    pub(crate) fn set_weights(&mut self, cx: &mut Context, weights: BTreeMap<Name, u32>) {
        if rules::counts_weights(cx.rules) {
            self.order.weights_version += 1;
        }
        let old = std::mem::replace(&mut self.order.weights, weights);
        if rules::begins_turns_anew(cx.rules) && Queue::has_turns(cx.limits) && old != self.order.weights {
            self.begin_visit(cx);
        }
    }

    /// The settings changed: jobs that are ready follow them step by step.
    pub(crate) fn reorder(&mut self, cx: &mut Context, old: &Limits) {
        if old.fair_by == cx.limits.fair_by && old.priority_age_ms == cx.limits.priority_age_ms {
            return;
        }
        self.begin_visit(cx);
    }

    fn begin_visit(&mut self, cx: &mut Context) {
        cx.ledger.release(Account::Waiting, self.ageing_bytes());
        self.order.ageing.clear();
        self.arm_ageing(cx);
        if let Some(visit) = self.order.visit.take() {
            cx.timers.cancel(visit.at, Timer::JobsVisited);
        }
        if rules::begins_turns_anew(cx.rules) {
            self.classes.begin_turns_anew(&mut self.order.clocks);
        }
        let at = cx.now;
        self.order.visit = Some(Visit { next: JobSeq::FIRST, end: self.next_seq, at });
        cx.timers.set(at, Timer::JobsVisited);
    }

    /// The timer fired: visits the next jobs.
    pub(crate) fn visit_jobs(&mut self, cx: &mut Context) {
        let visit = self.order.visit.expect("the timer is set while jobs are visited");
        let seqs: Vec<_> = self.table.iter_from(visit.next).map(|job| job.seq).take(VISITED_JOBS_MAX).collect();
        let next = match seqs.last().filter(|last| last.next() < visit.end && seqs.len() == VISITED_JOBS_MAX) {
            Some(last) => {
                let at = cx.now + Millis::new(1);
                cx.timers.set(at, Timer::JobsVisited);
                Some(Visit { next: last.next(), at, ..visit })
            }
            None => None,
        };
        self.order.visit = next;
        for seq in seqs.into_iter().filter(|seq| *seq < visit.end) {
            if !matches!(self.table.get(seq).expect("it was just found").stage, Stage::Queued { .. }) {
                continue;
            }
            self.move_in_order(cx, seq, |queue, cx| {
                queue.change(cx, seq, |job| job.set_turn(0));
                if Queue::has_turns(cx.limits) {
                    queue.give_turn(cx, seq);
                }
            });
        }
    }

    /// Gives a job that becomes ready a turn, if it has none. Its stage is changed before or afterwards.
    pub(super) fn take_turn(&mut self, cx: &mut Context, seq: JobSeq) {
        if !Queue::has_turns(cx.limits) {
            return;
        }
        let job = self.table.get(seq).expect("a job that becomes ready is held");
        if job.turn() == 0 {
            self.give_turn(cx, seq);
        }
    }

    /// A job is in its lane from now on: it may age.
    pub(super) fn begin_ageing(&mut self, cx: &mut Context, seq: JobSeq) {
        if cx.limits.priority_age_ms == Millis::ZERO {
            return;
        }
        let job = self.table.get(seq).expect("a ready job is held");
        if let Some(from) = ages_from(job, cx.limits).filter(|_| self.order.has_visited(seq)) {
            if self.order.ageing.insert((from, seq)) {
                cx.ledger.charge(Account::Waiting, self.order.ageing_bytes(1));
            }
            self.arm_ageing(cx);
        }
    }

    /// A job is not in its lane any more.
    pub(super) fn leave_lane(&mut self, cx: &mut Context, seq: JobSeq) {
        let job = self.table.get(seq).expect("a ready job is held");
        let (place, rank, from) = (job.place(), job.rank(), ages_from(job, cx.limits));
        self.classes.remove(place, rank);
        if let Some(from) = from
            && !self.order.ageing.is_empty()
            && self.order.ageing.remove(&(from, seq))
        {
            cx.ledger.release(Account::Waiting, self.order.ageing_bytes(1));
            self.arm_ageing(cx);
        }
    }

    /// The timer fired: jobs age that have been ready for long enough.
    pub(crate) fn age_jobs(&mut self, cx: &mut Context) {
        self.order.ages_at = Timestamp::NEVER;
        while let Some((from, seq)) = self.order.ageing.first().copied() {
            if rules::ages_at(from, cx.limits.priority_age_ms) > cx.now {
                break;
            }
            self.move_in_order(cx, seq, |queue, cx| {
                let job = queue.table.get_mut(seq).expect("a ready job is held");
                job.standing.set_aged(rules::aged_once_more(job.standing.aged(), job.priority as u8));
                if Queue::has_turns(cx.limits) {
                    queue.give_turn(cx, seq);
                }
            });
        }
        self.arm_ageing(cx);
    }

    /// Takes a ready job from its lane, changes its place in the order and puts it back.
    fn move_in_order(&mut self, cx: &mut Context, seq: JobSeq, change: impl FnOnce(&mut Queue, &mut Context)) {
        self.leave_lane(cx, seq);
        change(self, cx);
        let job = self.table.get(seq).expect("a ready job is held");
        let (place, rank) = (job.place(), job.rank());
        self.enter_lane(place, rank, seq);
        self.begin_ageing(cx, seq);
    }

    fn give_turn(&mut self, cx: &mut Context, seq: JobSeq) {
        let job = self.table.get(seq).expect("a job that gets a turn is held");
        let (level, class) = (job.level(), job.class);
        let group: Group = match FairBy::of(cx.limits) {
            Some(FairBy::Client) => job.client().map(|client| self.clients.name(client.index).clone()),
            Some(FairBy::Kind) => Some(self.kinds.name(job.kind).clone()),
            None => return,
        };
        let weight = group.as_ref().and_then(|group| self.order.weights.get(group)).copied().unwrap_or(1);
        let turn = self.classes.next_turn(class, level, &self.order.clocks, cx.key, (group, weight));
        self.change(cx, seq, |job| job.set_turn(turn));
    }

    /// Changes a job and what it is charged, unless there is no room for that.
    fn change(&mut self, cx: &mut Context, seq: JobSeq, change: impl FnOnce(&mut Job)) {
        let job = self.table.get_mut(seq).expect("a job that is changed is held");
        let (before, terms) = (job.charge(), job.terms.clone());
        change(job);
        let after = job.charge();
        if after.1 > before.1 && cx.ledger.unfinished() + (after.1 - before.1) > cx.limits.queue_bytes_max {
            job.terms = terms;
        } else {
            cx.ledger.transfer(before, after);
        }
    }

    fn arm_ageing(&mut self, cx: &mut Context) {
        let first = self.order.ageing.first();
        let at = first.map_or(Timestamp::NEVER, |(from, _)| rules::ages_at(*from, cx.limits.priority_age_ms));
        if at != self.order.ages_at {
            cx.timers.cancel(self.order.ages_at, Timer::JobsAge);
            cx.timers.set(at, Timer::JobsAge);
            self.order.ages_at = at;
        }
    }

    /// The records of the turns of classes, in the order of the classes.
    pub(crate) fn turn_records(&self) -> impl Iterator<Item = TurnsRecord> {
        self.classes.turn_records()
    }

    /// The record of the order, if it is not that of a new hub.
    pub(crate) fn order_record(&self) -> Option<OrderRecord> {
        let Order { clocks, weights, weights_version, visit, .. } = &self.order;
        let weights = if rules::stores_weights() { weights } else { &BTreeMap::new() };
        let is_new = *clocks == [0; LEVELS] && weights.is_empty() && *weights_version == 0 && visit.is_none();
        (!is_new).then(|| OrderRecord {
            clocks: clocks.to_vec(),
            groups: weights.keys().cloned().collect(),
            weights: weights.values().copied().collect(),
            visit_next: visit.map(|visit| visit.next),
            visit_end: visit.map(|visit| visit.end),
            visit_at: visit.map(|visit| visit.at),
            weights_version: *weights_version,
        })
    }

    pub(crate) fn restore_turns(&mut self, record: TurnsRecord) -> Result<(), &'static str> {
        let key = ClassKey { zone: record.zone.clone(), requires: record.requires.clone() };
        self.classes.restore_turns(&key, record)
    }

    pub(crate) fn restore_order(&mut self, cx: &mut Context, record: OrderRecord) -> Result<(), &'static str> {
        let OrderRecord { clocks, groups, weights, visit_next, visit_end, visit_at, weights_version } = record;
        self.order.clocks = clocks.try_into().map_err(|_| "there is another number of clocks than levels")?;
        if groups.len() != weights.len() {
            return Err("groups have other weights than one each");
        }
        self.order.weights_version = weights_version;
        self.order.weights = groups.into_iter().zip(weights).collect();
        self.order.visit = match (visit_next, visit_end, visit_at) {
            (None, None, None) => None,
            (Some(next), Some(end), Some(at)) => Some(Visit { next, end, at }),
            _ => return Err("jobs are visited from nowhere"),
        };
        if let Some(visit) = self.order.visit {
            cx.timers.set(visit.at, Timer::JobsVisited);
        }
        Ok(())
    }

    /// All records are restored: the jobs that age are found again.
    pub(crate) fn restore_ageing(&mut self, cx: &mut Context) {
        self.order.charges_ageing = rules::charges_ageing(cx.rules);
        if cx.limits.priority_age_ms == Millis::ZERO {
            return;
        }
        let ready = self.table.iter_from(JobSeq::FIRST).filter(|job| self.order.has_visited(job.seq));
        let ageing = ready.filter_map(|job| Some((ages_from(job, cx.limits)?, job.seq))).collect();
        self.order.ageing = ageing;
        cx.ledger.charge(Account::Waiting, self.ageing_bytes());
        self.arm_ageing(cx);
    }
}

/// Since when a job that is in its lane has been at its level, if there is a higher one.
fn ages_from(job: &Job, limits: &Limits) -> Option<Timestamp> {
    let Stage::Queued { since } = job.stage else { return None };
    let before = Millis::new(limits.priority_age_ms.get().saturating_mul(job.standing.aged().into()));
    (job.level() > 0).then(|| since + before)
}
