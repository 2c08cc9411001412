//! Letters: no dead letter leaves without a line of the audit log.
//!
//! It knows nothing but the effects and the acts' own counts: a job of which the log says that it became a dead letter is
//! one until the log says how it left, or an act that handles many has counted it. Under the first rules the oldest
//! letters are dropped beyond a limit, and the log does not say so.

use crate::model_check::violation::{Violation, holds};
use sheratan_core::{Audit, FinalStatus, Hub, JobSeq, RulesVersion, State};
use std::collections::BTreeSet;

/// The first rules under which each letter that leaves is reported.
const REPORTED: RulesVersion = RulesVersion::new(3);

/// The dead letters, as the audit log tells of them.
#[derive(Default, Debug)]
pub struct Letters {
    dead: BTreeSet<JobSeq>,
    /// Letters that acts changed, by the lines about their ends.
    by_ended_acts: u64,
    /// Letters that left without a line of their own.
    by_acts: u64,
    are_reported: bool,
}

impl Letters {
    /// Notes a line; returns the job that has not ended any more, if it is one.
    pub fn note(&mut self, audit: &Audit) -> Result<Option<JobSeq>, Violation> {
        let (job, is_unfinished) = match audit {
            Audit::DeadLetterAdded { job, .. } => {
                let is_new = self.dead.insert(*job);
                holds(is_new, || format!("job {} became a dead letter twice", job.get()))?;
                return Ok(None);
            }
            Audit::ActEnded { done, .. } => {
                self.by_ended_acts += done;
                return Ok(None);
            }
            Audit::DeadLetterRequeued { job, .. } | Audit::DeadLetterCompleted { job, .. } => (*job, true),
            Audit::DeadLetterDiscarded { job, .. } | Audit::DeadLetterEvicted { job, .. } => (*job, false),
            _ => return Ok(None),
        };
        let was_dead = self.dead.remove(&job);
        holds(was_dead, || format!("job {} left the dead letters and was none", job.get()))?;
        Ok(is_unfinished.then_some(job))
    }

    /// A job ended: if it was a dead letter, an act has requeued it. Returns whether it was.
    pub fn note_end(&mut self, job: JobSeq) -> bool {
        let was_dead = self.dead.remove(&job);
        self.by_acts += u64::from(was_dead);
        was_dead
    }

    /// Notes under which rules the hub is after a command: those that left before they were adopted are not reported.
    pub fn note_rules(&mut self, hub: &Hub) -> Result<(), Violation> {
        if !self.are_reported && hub.rules() >= REPORTED {
            self.check(hub)?;
            self.are_reported = true;
        }
        Ok(())
    }

    /// Checks that each letter is there, or was counted by an act; returns the jobs that acts requeued. O(letters).
    pub fn check(&mut self, hub: &Hub) -> Result<Vec<JobSeq>, Violation> {
        let is_dead = |job: &JobSeq| {
            let state = hub.queue().get(*job).map(|job| job.state());
            matches!(state, Some(State::Final { status: FinalStatus::Dead, .. }))
        };
        let left: Vec<_> = self.dead.iter().copied().filter(|job| !is_dead(job)).collect();
        left.iter().for_each(|job| _ = self.dead.remove(job));
        if !self.are_reported {
            return Ok(left);
        }
        self.by_acts += left.len() as u64;
        let running = hub.acts().iter().filter(|act| act.is_running()).map(|act| act.done).sum::<u64>();
        let counted = self.by_ended_acts + running;
        holds(self.by_acts <= counted, || {
            format!(
                "{} dead letters left without a line, and acts changed {counted}; the last are {left:?}",
                self.by_acts
            )
        })?;
        Ok(left)
    }
}
