//! Postponed retries: those that are due and wait for a credit of the [budget](super::retry_budget).

use super::Queue;
use crate::context::Context;
use crate::ids::JobSeq;
use crate::limits::Limits;
use crate::queue::job::Stage;
use crate::queue::kind::KindIndex;
use crate::queue::lease::Toll;
use crate::queue::retry_budget::{BudgetRecord, Earned};
use crate::rules;
use crate::time::Timestamp;
use crate::timers::Timer;

impl Queue {
    /// Retries that wait for a credit.
    pub fn postponed_count(&self) -> u64 {
        self.budget.count()
    }

    /// Credits that the floor has saved for retries, of all kinds.
    pub fn retry_credits(&self, limits: &Limits, now: Timestamp) -> u64 {
        self.budget.credits(limits, now)
    }

    /// Retries of a kind that wait for a credit.
    pub fn postponed_of(&self, kind: &str) -> u64 {
        self.kinds.find(kind).map_or(0, |kind| self.budget.count_of(kind))
    }

    /// How many retries of a postponed job's kind wait longer than it, and when the floor has a credit for it, unless the
    /// floor is changed, other kinds join or retries before it end. O(n) in those of the kind.
    pub(crate) fn budget_wait(&self, limits: &Limits, seq: JobSeq) -> (u64, Timestamp) {
        let job = self.table.get(seq).expect("a postponed job is held");
        let Stage::Postponed { since } = job.stage else { unreachable!("it is postponed") };
        let ahead = self.budget.ahead_of(job.kind, since, seq);
        (ahead, self.budget.credit_at(limits, job.kind, ahead))
    }

    /// A scheduled job is due: whether it may become ready. A retry spends a credit; without one it is postponed.
    pub(crate) fn spend_credit(&mut self, cx: &mut Context, seq: JobSeq) -> bool {
        let job = self.table.get_mut(seq).expect("a job that becomes due is held");
        let latest = job.attempts().next_back();
        if latest.is_none_or(|attempt| attempt.end.toll(cx.rules) != Toll::Charge) {
            return true;
        }
        let kind = job.kind;
        let earned = self.kinds.row_mut(kind).earned_mut();
        if self.budget.take(cx.limits, cx.now, kind, earned) {
            return true;
        }
        let granted = earned.granted;
        job.stage = Stage::Postponed { since: cx.now };
        self.budget.postpone(kind, granted, cx.now, seq);
        self.update_credit_timer(cx);
        false
    }

    /// A kind earned credits with a fresh job: returns its postponed retry that gets one. It is scheduled, without a
    /// timer.
    pub(super) fn earn_credit(&mut self, cx: &mut Context, kind: KindIndex) {
        let earned = self.kinds.row_mut(kind).earned_mut();
        earned.earn(cx.limits, cx.now);
        if let Some(seq) = self.budget.release_of(cx.limits, cx.now, kind, earned) {
            let granted = earned.granted;
            self.release_postponed(cx, seq, granted);
            // If it was the last one, nothing waits for the floor any more.
            self.update_credit_timer(cx);
        }
    }

    /// The timer of the floor fired: its credits are granted.
    pub(crate) fn grant_credits(&mut self, cx: &mut Context) {
        self.budget.wakes_at = Timestamp::NEVER;
        while let Some((_, seq, grant)) = self.budget.release_next(cx.limits, cx.now) {
            self.release_postponed(cx, seq, grant);
        }
        self.update_credit_timer(cx);
    }

    /// The limits changed, or the rules: when the floor has a credit may have changed too.
    pub(crate) fn update_credit_timer(&mut self, cx: &mut Context) {
        let wakes_at = if self.budget.count() == 0 { Timestamp::NEVER } else { self.budget.next_at(cx.limits) };
        // A credit that is there already is granted by the timer at this instant.
        let wakes_at = if wakes_at == Timestamp::NEVER { wakes_at } else { wakes_at.max(cx.now) };
        if wakes_at != self.budget.wakes_at {
            cx.timers.cancel(self.budget.wakes_at, Timer::RetryCredit);
            cx.timers.set(wakes_at, Timer::RetryCredit);
            self.budget.wakes_at = wakes_at;
        }
    }

    /// The limits are about to change.
    pub(crate) fn settle_budget(&mut self, cx: &mut Context) {
        if Queue::has_budget(cx) {
            self.budget.settle(cx.limits, cx.now);
        }
    }

    /// The rules begin that have a budget.
    pub(crate) fn begin_budget(&mut self, cx: &mut Context) {
        self.budget.begin(cx.limits, cx.now);
    }

    /// A postponed job ends.
    pub(super) fn cancel_postponed(&mut self, cx: &mut Context, seq: JobSeq) {
        self.take_postponed(seq, None);
        self.update_credit_timer(cx);
    }

    fn release_postponed(&mut self, cx: &mut Context, seq: JobSeq, grant: u64) {
        self.take_postponed(seq, Some(grant));
        let job = self.table.get_mut(seq).expect("a postponed job is held");
        job.stage = Stage::Scheduled { due_at: cx.now };
        // It becomes ready as any job that is due, but spends nothing more.
        cx.timers.set(cx.now, Timer::JobReleased(seq));
    }

    /// Removes a job from the postponed ones; its kind got this grant, if any.
    fn take_postponed(&mut self, seq: JobSeq, grant: Option<u64>) {
        let job = self.table.get(seq).expect("a postponed job is held");
        let Stage::Postponed { since } = job.stage else { unreachable!("it is postponed") };
        let kind = job.kind;
        let earned = self.kinds.row_mut(kind).earned_mut();
        let before = earned.granted;
        earned.granted = grant.unwrap_or(before);
        self.budget.remove(kind, (before, earned.granted), since, seq);
    }

    /// The state of the budget, for the snapshot, and what kinds earned, in the order of their names.
    pub(crate) fn budget_record(&self) -> BudgetRecord {
        self.budget.record()
    }

    pub(crate) fn earned_records(&self) -> impl Iterator<Item = (&crate::name::Name, Earned)> {
        self.kinds.earned()
    }

    pub(crate) fn restore_budget(&mut self, record: BudgetRecord) {
        self.budget.restore(record);
    }

    pub(crate) fn restore_earned(&mut self, kind: &str, earned: Earned) -> Result<(), &'static str> {
        let kind = self.kinds.find(kind).filter(|kind| self.kinds.row(*kind).has_jobs());
        let kind = kind.ok_or("a kind without jobs earned credits")?;
        if self.budget.count_of(kind) > 0 {
            return Err("the credits of a kind come after its postponed retries");
        }
        *self.kinds.row_mut(kind).earned_mut() = earned;
        Ok(())
    }

    /// Jobs of a snapshot that are postponed, once their kinds' credits are known.
    pub(super) fn restore_postponed(&mut self, cx: &mut Context) {
        let postponed: Vec<_> = self
            .table
            .iter_from(JobSeq::FIRST)
            .filter_map(|job| match job.stage {
                Stage::Postponed { since } => Some((job.kind, since, job.seq)),
                _ => None,
            })
            .collect();
        for (kind, since, seq) in postponed {
            let granted = self.kinds.row(kind).earned().granted;
            self.budget.postpone(kind, granted, since, seq);
        }
        self.update_credit_timer(cx);
    }

    /// Whether the rules have a budget.
    pub(super) fn has_budget(cx: &Context) -> bool {
        rules::limits_retries(cx.rules)
    }
}
