//! Dead letters that wait again: a letter leaves with its event or counted by an act, and its job begins anew.

use super::{Oracle, Violation, holds};
use crate::model_check::letters::Letters;
use crate::model_check::violation::Violation as Found;
use sheratan_core::{Audit, JobSeq, State};
use std::collections::BTreeMap;

/// The dead letters, and jobs that were some.
#[derive(Debug, Default)]
pub struct Revivals {
    letters: Letters,
    /// Jobs that were requeued, with the leases that they had had then.
    revived: BTreeMap<u64, u32>,
    /// The last record with which an operator requeued or discarded each letter.
    handled: BTreeMap<u64, u64>,
    /// How many letters were requeued: each takes a new place in the queue.
    count: u64,
    /// Whether an act ran at the last look, and the latest act's number.
    acts: (bool, Option<u32>),
}

impl Revivals {
    /// How many letters were requeued.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// How many leases a job had when it was requeued last; 0 if it never was.
    pub fn leases_before(&self, job: u64) -> u32 {
        self.revived.get(&job).copied().unwrap_or(0)
    }

    /// Whether a job was requeued.
    pub fn has(&self, job: u64) -> bool {
        self.revived.contains_key(&job)
    }

    /// The last record with which an operator requeued or discarded a letter.
    pub fn handled(&self, job: u64) -> u64 {
        self.handled.get(&job).copied().unwrap_or(0)
    }
}

fn unreported(found: Found) -> Violation {
    Violation { invariant: "no dead letter leaves without its event", detail: found.to_string() }
}

impl Oracle {
    /// Follows an event of the audit log.
    pub(super) fn follow_letter(&mut self, audit: &Audit) -> Result<(), Violation> {
        if let Audit::DeadLetterRequeued { job, .. } | Audit::DeadLetterDiscarded { job, .. } = audit {
            self.revivals.handled.insert(job.get(), self.seq);
        }
        if let Some(job) = self.revivals.letters.note(audit).map_err(unreported)? {
            self.revive(job);
        }
        Ok(())
    }

    /// A job ended: if it was a dead letter, an act has requeued it since.
    pub(super) fn note_letter_end(&mut self, job: JobSeq) {
        if self.revivals.letters.note_end(job) {
            self.revive(job);
        }
    }

    /// Follows what acts did since the last call: they have no events for single letters. O(letters).
    pub(super) fn follow_acts(&mut self) -> Result<(), Violation> {
        let acts = (self.is_acting(), self.shadow.acts().iter().last().map(|act| act.id));
        let before = std::mem::replace(&mut self.revivals.acts, acts);
        if before == acts && !acts.0 {
            return Ok(());
        }
        for job in self.revivals.letters.check(&self.shadow).map_err(unreported)? {
            if self.shadow.queue().get(job).is_some_and(|job| !matches!(job.state(), State::Final { .. })) {
                self.revive(job);
            }
        }
        Ok(())
    }

    /// Notes the rules after a record.
    pub(super) fn note_letter_rules(&mut self) -> Result<(), Violation> {
        self.revivals.letters.note_rules(&self.shadow).map_err(unreported)
    }

    /// Whether an act on many letters runs.
    pub(super) fn is_acting(&self) -> bool {
        self.shadow.acts().iter().any(|act| act.is_running())
    }

    /// A dead letter waits again: it has not ended any more, and its attempts count anew.
    fn revive(&mut self, job: JobSeq) {
        let generation = self.shadow.queue().get(job).map_or(0, |job| job.generation());
        self.finals.remove(&job.get());
        self.reads.revived(job.get());
        self.leases.remove(&job.get());
        self.revivals.revived.insert(job.get(), generation);
        self.revivals.count += 1;
    }

    /// Checks that a letter was requeued or discarded since `durable` records were durable.
    pub(super) fn check_handled(&self, durable: u64, job_id: &str) -> Result<(), Violation> {
        let job = self.shadow.ids().parse_job_id(job_id).map_or(0, JobSeq::get);
        let handled = self.revivals.handled(job);
        holds(handled > durable, "an acknowledged act of an operator is durable", || {
            format!("letter {job} was answered as handled; the last record that did so is {handled}")
        })
    }

    /// Whether what was reported of a job as dead may be another end, or none, by now.
    pub(super) fn may_live_again(&self, job: u64, reported: &str) -> bool {
        reported == "dead" && self.revivals.has(job)
    }

    /// Checks an act on many letters that was shown.
    pub(super) fn check_act(&self, before: Option<&ShownAct>, act: &ShownAct) -> Result<(), Violation> {
        let ShownAct { id, matched, done, skipped, is_running } = *act;
        holds(done + skipped <= matched, "an act covers the letters of its beginning", || format!("{act:?}"))?;
        let is_kept = self.shadow.acts().iter().next().is_some_and(|oldest| oldest.id <= id);
        let known = self.shadow.acts().get(id);
        holds(known.is_some() || !is_kept, "an acknowledged act of an operator is durable", || {
            format!("{act:?} was shown, the journal does not know it")
        })?;
        let Some(before) = before else { return Ok(()) };
        let goes_on = before.done <= done && before.matched == matched && (before.is_running || !is_running);
        holds(goes_on, "what was reported never goes back", || format!("{before:?} was shown, then {act:?}"))
    }
}

/// An act on many letters, as it was shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ShownAct {
    /// Its number.
    pub id: u32,
    /// Letters that it covers.
    pub matched: u64,
    /// Letters that it has changed.
    pub done: u64,
    /// Letters that it has passed over.
    pub skipped: u64,
    /// Whether it has not ended.
    pub is_running: bool,
}
