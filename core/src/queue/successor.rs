//! Successors: a newer job of a key that waits until the run of the older one has ended.
//!
//! A newer job with `latest_wins` takes the lease of the older one away. If updates come faster than the job runs, it would
//! never be done: after [`REVOCATIONS_MAX`] leases in a row that were taken away, the older job goes on, and the newer one
//! waits for the end of that lease. A still newer one takes the place of the one that waits. What the older job is worth is
//! its lease alone: it has no key any more, and is not retried.

use super::ending::Ending;
use super::job::Stage;
use super::{Admitted, Queue};
use crate::command::Submit;
use crate::context::Context;
use crate::ids::JobSeq;
use crate::limits::REVOCATIONS_MAX;
use crate::outcome::FinalStatus;
use crate::queue::lane::Rank;
use crate::rules;
use crate::time::Timestamp;
use crate::timers::Timer;
use std::collections::BTreeMap;

/// What a newer job gets from the older one of its key.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Taken {
    /// The rank of one that waited.
    pub rank: Option<Rank>,
    /// How many leases were taken from jobs of the key, without a run that ended.
    pub revocations: u8,
    /// The job whose run it waits for.
    pub after: Option<JobSeq>,
}

/// The jobs that wait for the run of another, and the other way round.
#[derive(Default, Debug)]
pub(super) struct Successors {
    by_older: BTreeMap<JobSeq, JobSeq>,
    by_newer: BTreeMap<JobSeq, JobSeq>,
}

impl Successors {
    pub fn insert(&mut self, older: JobSeq, newer: JobSeq) {
        let (of_older, of_newer) = (self.by_older.insert(older, newer), self.by_newer.insert(newer, older));
        assert!(of_older.is_none() && of_newer.is_none(), "one job waits for the run of one other");
    }

    /// The job whose run this one waits for.
    pub fn older(&self, newer: JobSeq) -> Option<JobSeq> {
        self.by_newer.get(&newer).copied()
    }

    /// The job that waits for the run of this one.
    pub fn newer(&self, older: JobSeq) -> Option<JobSeq> {
        self.by_older.get(&older).copied()
    }

    fn remove_newer(&mut self, newer: JobSeq) -> Option<JobSeq> {
        let older = self.by_newer.remove(&newer)?;
        self.by_older.remove(&older);
        Some(older)
    }
}

impl Queue {
    /// Whether a newer job must wait for the run of this one of its key.
    pub(crate) fn must_finish(&self, rules: rules::RulesVersion, seq: JobSeq) -> bool {
        let job = self.table.get(seq).expect("the job of a key that is not spent is held");
        let is_leased = matches!(job.stage, Stage::Leased(_));
        rules::bounds_revocations(rules) && is_leased && job.standing.revocations() >= REVOCATIONS_MAX
    }

    /// Adds a job that was admitted, and that waits for the run of the older one of its key.
    pub(crate) fn submit_after(
        &mut self,
        cx: &mut Context,
        submit: Box<Submit>,
        admitted: Admitted,
        older: JobSeq,
    ) -> JobSeq {
        let job = self.table.get_mut(older).expect("the job of a key that is not spent is held");
        let (before, revocations) = (job.charge(), job.standing.revocations());
        job.set_key(None);
        cx.ledger.transfer(before, job.charge());
        self.submit(cx, submit, admitted, Taken { rank: None, revocations, after: Some(older) })
    }

    /// The job whose run a job waits for.
    pub(crate) fn waits_for(&self, seq: JobSeq) -> Option<JobSeq> {
        self.successors.older(seq)
    }

    /// Whether a job that is due waits for another's run: if so, it is due when that has ended.
    pub(crate) fn waits_for_run(&mut self, seq: JobSeq) -> bool {
        let waits = self.successors.older(seq).is_some();
        if waits {
            let job = self.table.get_mut(seq).expect("a job that becomes due is held");
            job.stage = Stage::Scheduled { due_at: Timestamp::NEVER };
        }
        waits
    }

    /// The end of a job that another one waits for, if its attempt did not succeed: it is not retried.
    pub(super) fn ending_with_successor(&self, seq: JobSeq) -> Option<Ending> {
        self.successors.newer(seq).map(|_| Ending::without_result(FinalStatus::Superseded))
    }

    /// A job ends: the one that waits for it is due, and it waits for none any more.
    pub(super) fn release_successor(&mut self, cx: &mut Context, seq: JobSeq, status: FinalStatus) {
        self.successors.remove_newer(seq);
        let Some(newer) = self.successors.newer(seq) else { return };
        self.successors.remove_newer(newer);
        let job = self.table.get_mut(newer).expect("a job that waits is held");
        if status == FinalStatus::Completed {
            job.standing.set_revocations(0);
        }
        if matches!(job.stage, Stage::Scheduled { due_at: Timestamp::NEVER }) {
            job.stage = Stage::Scheduled { due_at: cx.now };
            cx.timers.set(cx.now, Timer::JobDue(newer));
        }
    }
}
