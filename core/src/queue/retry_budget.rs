//! The retry budget: how many retries become ready, so that a dependency that fails is not stormed.
//!
//! A retry spends one credit when it becomes ready, not when it is promised. A kind earns a fifth of a credit (by default)
//! with each fresh job, up to those of the last minute or two; beside that there is a floor of credits a second for all
//! kinds, of which ten seconds' worth are saved. So a kind that fails spends its own share and not that of others, and a
//! quiet day does not pay for a storm. A retry without a credit is *postponed*, never ended: its kind's oldest is released
//! when the kind earns a credit, and the kinds take turns at the floor. Lost and returned leases, requeued letters and
//! delayed jobs spend nothing. (The idea of a budget over live work: Google's SRE book, chapter 21; Envoy's retry budgets.)

use crate::encoding::members;
use crate::ids::JobSeq;
use crate::limits::{CREDIT_UNITS, Limits};
use crate::queue::kind::KindIndex;
use crate::rules;
use crate::time::{Millis, Timestamp};
use std::collections::{BTreeMap, BTreeSet};

/// The credits of the floor, and the retries that wait for one.
#[derive(Debug)]
pub(crate) struct RetryBudget {
    floor: Floor,
    /// Kinds with postponed retries: the one to get the next credit of the floor is first. The kind that got one longest ago
    /// goes first, then that with the oldest retry.
    turns: BTreeSet<(u64, Timestamp, JobSeq, KindIndex)>,
    postponed: BTreeMap<KindIndex, BTreeSet<(Timestamp, JobSeq)>>,
    /// How many credits of the floor were granted to postponed retries.
    granted_count: u64,
    /// When its timer fires; [`Timestamp::NEVER`] while nothing is postponed.
    pub(super) wakes_at: Timestamp,
    count: u64,
}

/// Credits that come with time.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Floor {
    /// In millionths of a credit, at the instant `at`.
    level: u64,
    at: Timestamp,
}

/// What a kind earned with fresh jobs.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Earned {
    /// In millionths of a credit.
    level: u64,
    /// The minute, and the fresh jobs of it and of the one before.
    minute: u64,
    fresh: u64,
    fresh_before: u64,
    /// Which credit of the floor it got last.
    pub granted: u64,
}

/// The state of the budget as a snapshot holds it.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct BudgetRecord {
    pub floor: Floor,
    pub granted_count: u64,
}

members!(Floor { 1 level, 2 at });
members!(Earned { 1 level, 2 minute, 3 fresh, 4 fresh_before, 5 granted });
members!(BudgetRecord { 1 floor, 2 granted_count });

const MINUTE_MS: u64 = 60_000;

impl Floor {
    fn full(limits: &Limits, now: Timestamp) -> Floor {
        Floor { level: Floor::level_max(limits), at: now }
    }

    fn level_max(limits: &Limits) -> u64 {
        rules::saved_credits_max(limits.retries_per_sec_min.into()).saturating_mul(CREDIT_UNITS)
    }

    fn level_at(self, limits: &Limits, now: Timestamp) -> u64 {
        // A thousandth of a second earns a thousandth of the credits of a second.
        let gained =
            now.since(self.at).get().saturating_mul(u64::from(limits.retries_per_sec_min) * (CREDIT_UNITS / 1_000));
        self.level.saturating_add(gained).min(Floor::level_max(limits))
    }

    /// Takes one credit, if there is one.
    fn take(&mut self, limits: &Limits, now: Timestamp) -> bool {
        let level = self.level_at(limits, now);
        let has_credit = level >= CREDIT_UNITS;
        if has_credit {
            *self = Floor { level: rules::credits_left(level), at: now };
        }
        has_credit
    }

    /// When there is a whole credit.
    fn next_at(self, limits: &Limits) -> Timestamp {
        self.credits_at(limits, 1)
    }

    /// When there are so many credits, counting those beyond what is saved.
    fn credits_at(self, limits: &Limits, count: u64) -> Timestamp {
        let a_millisecond = u64::from(limits.retries_per_sec_min) * (CREDIT_UNITS / 1_000);
        if a_millisecond == 0 {
            return Timestamp::NEVER;
        }
        let lacking = count.saturating_mul(CREDIT_UNITS).saturating_sub(self.level);
        self.at + Millis::new(lacking.div_ceil(a_millisecond))
    }
}

impl Earned {
    /// A fresh job of the kind was submitted.
    pub fn earn(&mut self, limits: &Limits, now: Timestamp) {
        self.update(limits, now);
        self.fresh += 1;
        self.level = self.level.saturating_add(credit_of_one(limits)).min(self.level_max(limits));
    }

    /// Takes one credit, if there is one.
    fn take(&mut self, limits: &Limits, now: Timestamp) -> bool {
        self.update(limits, now);
        let has_credit = self.level >= CREDIT_UNITS;
        if has_credit {
            self.level = rules::credits_left(self.level);
        }
        has_credit
    }

    fn update(&mut self, limits: &Limits, now: Timestamp) {
        let minute = now.as_millis() / MINUTE_MS;
        if minute != self.minute {
            self.fresh_before = if minute == self.minute + 1 { self.fresh } else { 0 };
            (self.minute, self.fresh) = (minute, 0);
        }
        self.level = self.level.min(self.level_max(limits));
    }

    fn level_max(&self, limits: &Limits) -> u64 {
        (self.fresh + self.fresh_before).saturating_mul(credit_of_one(limits))
    }
}

fn credit_of_one(limits: &Limits) -> u64 {
    u64::from(limits.retry_share_percent) * (CREDIT_UNITS / 100)
}

impl Default for RetryBudget {
    fn default() -> Self {
        RetryBudget {
            floor: Floor::default(),
            turns: BTreeSet::new(),
            postponed: BTreeMap::new(),
            granted_count: 0,
            wakes_at: Timestamp::NEVER,
            count: 0,
        }
    }
}

impl RetryBudget {
    /// The rules begin that have a budget: the floor has all that it can save.
    pub fn begin(&mut self, limits: &Limits, now: Timestamp) {
        self.floor = Floor::full(limits, now);
    }

    /// The limits are about to change: what the floor has earned so far was by the old ones.
    pub fn settle(&mut self, limits: &Limits, now: Timestamp) {
        self.floor = Floor { level: self.floor.level_at(limits, now), at: now };
    }

    /// Whole credits that the floor has.
    pub fn credits(&self, limits: &Limits, now: Timestamp) -> u64 {
        self.floor.level_at(limits, now) / CREDIT_UNITS
    }

    /// Retries that wait for a credit.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Of one kind.
    pub fn count_of(&self, kind: KindIndex) -> u64 {
        self.postponed.get(&kind).map_or(0, |retries| retries.len() as u64)
    }

    /// Retries of a kind that wait longer than one.
    pub fn ahead_of(&self, kind: KindIndex, since: Timestamp, seq: JobSeq) -> u64 {
        self.postponed.get(&kind).map_or(0, |retries| retries.range(..(since, seq)).count() as u64)
    }

    /// When a retry of a kind, of which `ahead` go before it, gets a credit of the floor, while the kinds take turns. O(kinds
    /// with postponed retries · log n).
    pub fn credit_at(&self, limits: &Limits, kind: KindIndex, ahead: u64) -> Timestamp {
        let mut before = ahead;
        // In the round in which it gets its own, only kinds whose turns are earlier get another one.
        let mut is_earlier = true;
        for (_, _, _, other) in &self.turns {
            if *other == kind {
                is_earlier = false;
            } else {
                before += rules::credits_in_rounds(self.count_of(*other), ahead + u64::from(is_earlier));
            }
        }
        self.floor.credits_at(limits, before + 1)
    }

    /// When the floor has its next credit.
    pub fn next_at(&self, limits: &Limits) -> Timestamp {
        self.floor.next_at(limits)
    }

    /// Whether a retry of a kind may become ready now; it has spent a credit then.
    pub fn take(&mut self, limits: &Limits, now: Timestamp, kind: KindIndex, earned: &mut Earned) -> bool {
        if self.postponed.contains_key(&kind) {
            // Others of the kind have waited longer.
            return false;
        }
        earned.take(limits, now) || (self.turns.is_empty() && self.floor.take(limits, now))
    }

    /// A kind earned credits: returns its oldest postponed retry, if there is a credit for it.
    pub fn release_of(
        &mut self,
        limits: &Limits,
        now: Timestamp,
        kind: KindIndex,
        earned: &mut Earned,
    ) -> Option<JobSeq> {
        let oldest = *self.postponed.get(&kind)?.first()?;
        earned.take(limits, now).then_some(oldest.1)
    }

    /// The timer fired: returns the kind and the retry that get a credit of the floor, if it has one.
    pub fn release_next(&mut self, limits: &Limits, now: Timestamp) -> Option<(KindIndex, JobSeq, u64)> {
        let (_, _, seq, kind) = *self.turns.first()?;
        if !self.floor.take(limits, now) {
            return None;
        }
        self.granted_count += 1;
        Some((kind, seq, self.granted_count))
    }

    pub fn postpone(&mut self, kind: KindIndex, granted: u64, since: Timestamp, seq: JobSeq) {
        self.change(kind, granted, granted, |retries| _ = retries.insert((since, seq)));
        self.count += 1;
    }

    /// Removes a retry that is released or ends; the kind's last grant was `before`, and is `after` now.
    pub fn remove(&mut self, kind: KindIndex, (before, after): (u64, u64), since: Timestamp, seq: JobSeq) {
        self.change(kind, before, after, |retries| {
            let was_there = retries.remove(&(since, seq));
            assert!(was_there, "a postponed retry is among them");
        });
        self.count -= 1;
    }

    fn change(
        &mut self,
        kind: KindIndex,
        before: u64,
        after: u64,
        change: impl FnOnce(&mut BTreeSet<(Timestamp, JobSeq)>),
    ) {
        let retries = self.postponed.entry(kind).or_default();
        if let Some((since, seq)) = retries.first() {
            self.turns.remove(&(before, *since, *seq, kind));
        }
        change(retries);
        match retries.first() {
            Some((since, seq)) => _ = self.turns.insert((after, *since, *seq, kind)),
            None => _ = self.postponed.remove(&kind),
        }
    }

    pub fn record(&self) -> BudgetRecord {
        BudgetRecord { floor: self.floor, granted_count: self.granted_count }
    }

    pub fn restore(&mut self, record: BudgetRecord) {
        (self.floor, self.granted_count) = (record.floor, record.granted_count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Timestamp {
        Timestamp::from_millis(ms)
    }

    #[test]
    fn the_floor_saves_ten_seconds_and_empties_a_backlog_without_any_fresh_work() {
        let limits = Limits { retries_per_sec_min: 2, ..Limits::default() };
        let mut floor = Floor::full(&limits, at(0));
        let taken = (0..30).filter(|_| floor.take(&limits, at(100_000))).count();
        assert_eq!(taken, 20);
        assert_eq!(floor.next_at(&limits), at(100_500));
        assert!(!floor.take(&limits, at(100_499)));
        assert!(floor.take(&limits, at(100_500)));
        assert!(!floor.take(&limits, at(100_500)));
    }

    #[test]
    fn a_kind_earns_a_fifth_of_its_fresh_jobs_and_no_more_than_those_of_two_minutes() {
        let limits = Limits::default();
        let mut earned = Earned::default();
        (0..50).for_each(|_| earned.earn(&limits, at(0)));
        assert_eq!((0..50).filter(|_| earned.take(&limits, at(1))).count(), 10);
        (0..50).for_each(|_| earned.earn(&limits, at(60_000)));
        assert_eq!((0..50).filter(|_| earned.take(&limits, at(179_999))).count(), 10, "it is the next minute");
        (0..50).for_each(|_| earned.earn(&limits, at(180_000)));
        assert!(!earned.take(&limits, at(300_000)), "a quiet time pays for nothing");
    }

    #[test]
    fn kinds_take_turns_at_the_floor_and_each_releases_its_oldest() {
        let limits = Limits { retries_per_sec_min: 1, ..Limits::default() };
        let (mut budget, mut granted) = (RetryBudget::default(), BTreeMap::new());
        for seq in 1..=4 {
            budget.postpone(KindIndex(0), 0, at(seq), JobSeq::new(seq));
        }
        budget.postpone(KindIndex(1), 0, at(9), JobSeq::new(9));
        let mut order = Vec::new();
        for second in 1..=5 {
            let (kind, seq, grant) = budget.release_next(&limits, at(second * 1_000)).expect("a credit a second");
            let before = granted.insert(kind, grant).unwrap_or(0);
            budget.remove(kind, (before, grant), at(seq.get()), seq);
            order.push(seq.get());
            assert_eq!(budget.release_next(&limits, at(second * 1_000)), None);
        }
        assert_eq!((order, budget.count()), (vec![1, 9, 2, 3, 4], 0));
    }
}
