//! Uncommitted commands: what the hub has done and the journal does not hold yet.
//!
//! A command becomes a record between [`Uncommitted::begin`] and [`Uncommitted::end`]: its bytes are written before the hub
//! applies it, so that it need not be copied, and dropped if it changed nothing. Records wait in a batch until
//! [`Uncommitted::take_batch`] hands them over, and are durable with [`Uncommitted::set_durable`].
//!
//! While the journal takes records, whatever shows a job waits for it. While it takes none nothing would come of waiting,
//! and a crash would take back what was shown: then the jobs that such records changed are hidden, and all others are shown.
//!
//! Time has no records of its own. A job that expires does so again after a crash, unless the clock is set back: so what
//! time alone ended must become a record before it is shown ([`Uncommitted::must_record_time`]).

use super::rules;
use crate::journal::Batch;
use crate::trace::Pending;
use sheratan_core::command::Command;
use sheratan_core::effect::Effect;
use sheratan_core::ids::JobSeq;
use sheratan_core::outcome::{Outcome, Submitted};
use sheratan_core::queue::job::{AttemptEnd, Job, State};
use sheratan_core::time::Timestamp;
use std::collections::VecDeque;

/// Commands that were applied and that the journal is to hold.
#[derive(Debug)]
pub struct Handover {
    /// The commands.
    pub batch: Batch,
    /// The number of the first: the journal takes it only if that follows what it has.
    pub first_seq: u64,
    /// The outcome hash before the first.
    pub hash_before: [u8; 16],
}

/// What the journal does not hold.
#[derive(Debug)]
pub struct Uncommitted {
    /// Records that are not handed to the journal yet.
    batch: Batch,
    /// The number of the first record of `batch`, and the outcome hash before it.
    batch_first_seq: u64,
    batch_hash_before: [u8; 16],
    next_seq: u64,
    /// The last record that the journal holds, as far as the shell said.
    durable_seq: u64,
    /// Why the journal takes nothing, while it does not.
    journal_down: Option<String>,
    /// Jobs by the record that changed them, the earliest first. As long as what waits for the journal, whose bytes have a
    /// bound: a record changes one job, or the thousand of a pull or an extension.
    changed_jobs: VecDeque<(u64, JobSeq)>,
    /// The jobs of the leases that the command between `begin` and `end` extends.
    extended_jobs: Vec<JobSeq>,
    /// The instant of the last record, which holds all that time did until then.
    recorded_at: Timestamp,
    /// When an attempt or a job ended last.
    ended_at: Timestamp,
    /// Of the effects that are not drained, so many were read.
    effects_read: usize,
    /// Commands that changed nothing; `None` where nobody keeps a trace.
    trace: Option<Pending>,
}

impl Uncommitted {
    /// The journal holds all that happened until `now`; `next_seq` is the number of its next record.
    pub fn new(now: Timestamp, next_seq: u64, outcome_hash: [u8; 16]) -> Self {
        Uncommitted {
            batch: Batch::new(),
            batch_first_seq: next_seq,
            batch_hash_before: outcome_hash,
            next_seq,
            durable_seq: next_seq - 1,
            journal_down: None,
            changed_jobs: VecDeque::new(),
            extended_jobs: Vec::new(),
            recorded_at: now,
            ended_at: now,
            effects_read: 0,
            trace: None,
        }
    }

    /// Writes a command that the hub is about to apply. The journal must not be down.
    pub fn begin(&mut self, now: Timestamp, command: &Command) {
        assert!(self.journal_down.is_none(), "nothing is done while the journal takes nothing");
        command.encode(self.batch.begin(self.next_seq, now));
        self.extended_jobs.clear();
        if let Command::Extend(extend) = command {
            self.extended_jobs.extend(extend.leases.iter().map(|lease| lease.job));
        }
    }

    /// The hub applied the command that was begun, with this outcome: if it changed something it is a record, else it goes
    /// to the trace.
    pub fn end(&mut self, now: Timestamp, outcome: &Outcome) {
        if rules::is_journaled(outcome) {
            self.commit(now, outcome);
        } else {
            self.abort(now);
        }
    }

    fn commit(&mut self, now: Timestamp, outcome: &Outcome) {
        self.batch.commit();
        self.recorded_at = now;
        let seq = self.next_seq;
        self.next_seq += 1;
        let mut change = |job| self.changed_jobs.push_back((seq, job));
        match outcome {
            Outcome::Submitted(Submitted::Accepted { job, supersedes, .. }) => {
                change(*job);
                supersedes.iter().copied().for_each(change);
            }
            Outcome::Pulled(pulled) => pulled.leases.iter().for_each(|leased| change(leased.lease.job)),
            Outcome::Completed(completed) => change(completed.job),
            Outcome::Extended(_) => self.extended_jobs.drain(..).for_each(change),
            Outcome::Done | Outcome::Heard { .. } | Outcome::Submitted(_) | Outcome::Refused(_) => {}
        }
    }

    fn abort(&mut self, now: Timestamp) {
        if let Some(trace) = &mut self.trace {
            trace.push(self.next_seq - 1, now, self.batch.begun());
        }
        self.batch.abort();
    }

    /// The number of the last record.
    pub fn last_seq(&self) -> u64 {
        self.next_seq - 1
    }

    /// How many records the journal does not hold.
    pub fn record_count(&self) -> u64 {
        self.last_seq() - self.durable_seq
    }

    /// Whether there are records that were not handed over.
    pub fn has_batch(&self) -> bool {
        !self.batch.is_empty()
    }

    /// Bytes of the records that were not handed over.
    pub fn batch_bytes(&self) -> usize {
        self.batch.bytes()
    }

    /// Hands over the records since the last call. `spare` is an empty batch whose room is used again, `outcome_hash` the
    /// hash after the last record.
    pub fn take_batch(&mut self, spare: Batch, outcome_hash: [u8; 16]) -> Option<Handover> {
        if self.batch.is_empty() {
            return None;
        }
        Some(Handover {
            batch: std::mem::replace(&mut self.batch, spare),
            first_seq: std::mem::replace(&mut self.batch_first_seq, self.next_seq),
            hash_before: std::mem::replace(&mut self.batch_hash_before, outcome_hash),
        })
    }

    /// The journal holds all up to this record.
    pub fn set_durable(&mut self, up_to: u64) {
        self.durable_seq = up_to;
        while self.changed_jobs.front().is_some_and(|(seq, _)| *seq <= up_to) {
            self.changed_jobs.pop_front();
        }
    }

    /// The journal takes nothing until [`Uncommitted::journal_recovered`].
    pub fn journal_failed(&mut self, reason: String) {
        self.journal_down = Some(reason);
    }

    /// The journal takes records again.
    pub fn journal_recovered(&mut self) {
        self.journal_down = None;
    }

    /// Why the journal takes nothing, while it does not.
    pub fn journal_down(&self) -> Option<&str> {
        self.journal_down.as_deref()
    }

    /// Reads the effects that came since this was last called; `effects` are all that are not drained. Each is read once.
    pub fn read_effects(&mut self, effects: &[Effect]) {
        for effect in &effects[self.effects_read..] {
            if let Effect::Stage(at, ..) = effect {
                self.ended_at = self.ended_at.max(*at);
            }
        }
        self.effects_read = effects.len();
    }

    /// The effects that were read are drained.
    pub fn effects_drained(&mut self) {
        self.effects_read = 0;
    }

    /// Whether a record must be made for what time alone ended after the last one.
    pub fn must_record_time(&self) -> bool {
        rules::must_record_time(self.ended_at, self.recorded_at)
    }

    /// Why lists of jobs, and that a job is unknown, may not be shown: the journal takes nothing, and does not hold all that
    /// was done.
    pub fn hidden_because(&self) -> Option<&str> {
        let may_show_all = rules::may_show_all(self.durable_seq, self.last_seq(), self.is_time_ahead());
        self.journal_down().filter(|_| !may_show_all)
    }

    /// Why a job may not be shown: the journal takes nothing, and does not hold how the job is now. O(n) in the jobs that it
    /// does not hold.
    pub fn job_hidden_because(&self, job: &Job) -> Option<&str> {
        self.hidden_because().filter(|_| self.has_changed(job))
    }

    /// Keeps commands that change nothing for [`Uncommitted::take_trace`] from now on.
    pub fn begin_trace(&mut self) {
        self.trace.get_or_insert_default();
    }

    /// Whether they are kept.
    pub fn is_traced(&self) -> bool {
        self.trace.is_some()
    }

    /// The commands since the last call that changed nothing.
    pub fn take_trace(&mut self) -> Option<Pending> {
        self.trace.as_mut().filter(|trace| !trace.is_empty()).map(std::mem::take)
    }

    fn is_time_ahead(&self) -> bool {
        self.ended_at > self.recorded_at
    }

    fn has_changed(&self, job: &Job) -> bool {
        let ended_at = match (job.state(), job.attempts().last().map(|attempt| &attempt.end)) {
            (State::Final { at, .. }, _) => *at,
            (_, Some(AttemptEnd::Expired { at })) => *at,
            _ => Timestamp::ZERO,
        };
        ended_at > self.recorded_at || self.changed_jobs.iter().any(|(_, changed)| *changed == job.seq())
    }
}
