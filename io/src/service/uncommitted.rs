//! Uncommitted commands: commands that the hub has applied and that are not durable yet.
//!
//! A command becomes a record between [`Uncommitted::begin`] and [`Uncommitted::end`]: it is encoded before the hub
//! applies it, so that it need not be copied, and the bytes are dropped if it changed nothing. Records wait in a batch
//! until [`Uncommitted::take_batch`] hands them over, and are durable with [`Uncommitted::set_durable`].
//!
//! While the journal can be written, a reply that shows a job waits for the job's record. While it cannot, waiting
//! would be in vain and a crash would undo what was shown: then the jobs that such records changed are hidden, and all
//! others are shown.
//!
//! Time has no records of its own. A job that expired does so again after a crash, unless the clock is set back: so
//! what expired by time alone must become a record before it is shown ([`Uncommitted::must_record_time`]). The hub
//! keeps the instant of the latest such end ([`Hub::ended_at`](sheratan_core::Hub::ended_at)).

use super::rules;
use crate::journal::Batch;
use crate::trace::Pending;
use sheratan_core::{
    AttemptEnd, Caller, Command, Envelope, Extend, JobSeq, JobView, Outcome, Release, RulesVersion, State, Submitted,
    Timestamp,
};
use std::collections::VecDeque;

/// Applied commands for the journal.
#[derive(Debug)]
pub struct Handover {
    /// The commands.
    pub batch: Batch,
    /// The number of the first: it must follow the journal's last record.
    pub first_seq: u64,
    /// The outcome hash before the first.
    pub hash_before: [u8; 16],
}

/// The uncommitted commands.
#[derive(Debug)]
pub struct Uncommitted {
    /// Records that were not handed to the journal yet.
    batch: Batch,
    /// The number of the first record of `batch`, and the outcome hash before it.
    batch_first_seq: u64,
    batch_hash_before: [u8; 16],
    next_seq: u64,
    /// The last record that the shell has reported as durable.
    durable_seq: u64,
    /// Why the journal cannot be written, while it cannot.
    journal_down: Option<String>,
    /// Jobs by the record that changed them, the earliest first. Bounded by the uncommitted records, whose bytes are
    /// bounded: a record changes one job, or up to a thousand for a pull or an extension.
    changed_jobs: VecDeque<(u64, JobSeq)>,
    /// The jobs that the command between `begin` and `end` names.
    named_jobs: Vec<JobSeq>,
    /// The instant of the last record, which covers everything that expired until then.
    recorded_at: Timestamp,
    /// The instant of the last durable record, likewise; at most too early.
    durable_at: Timestamp,
    /// The instants of the records that are not durable, each with its last record, the earliest first.
    instants: VecDeque<(u64, Timestamp)>,
    /// Commands that changed nothing; `None` if there is no trace.
    trace: Option<Pending>,
}

impl Uncommitted {
    /// No uncommitted commands at `now`; `next_seq` is the number of the journal's next record.
    pub fn new(now: Timestamp, next_seq: u64, outcome_hash: [u8; 16]) -> Self {
        Uncommitted {
            batch: Batch::new(),
            batch_first_seq: next_seq,
            batch_hash_before: outcome_hash,
            next_seq,
            durable_seq: next_seq - 1,
            journal_down: None,
            changed_jobs: VecDeque::new(),
            named_jobs: Vec::new(),
            recorded_at: now,
            durable_at: now,
            instants: VecDeque::new(),
            trace: None,
        }
    }

    /// Encodes a command that the hub is about to apply. The journal must not be down.
    pub fn begin(&mut self, now: Timestamp, rules: RulesVersion, caller: Caller, command: &Command) {
        assert!(self.journal_down.is_none(), "no command is applied while the journal is down");
        Envelope::encode(rules, caller, command, self.batch.begin(self.next_seq, now));
        self.named_jobs.clear();
        match command {
            Command::Extend(Extend { leases, .. }) | Command::Release(Release { leases, .. }) => {
                self.named_jobs.extend(leases.iter().map(|lease| lease.job));
            }
            Command::Cancel(job) | Command::Requeue(job) | Command::Discard(job) => self.named_jobs.push(*job),
            _ => {}
        }
    }

    /// The hub applied the command that was begun, with this outcome: if it changed the state it becomes a record,
    /// otherwise it is added to the trace.
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
        match self.instants.back_mut() {
            Some((last, at)) if *at == now => *last = seq,
            _ => self.instants.push_back((seq, now)),
        }
        let mut change = |job| self.changed_jobs.push_back((seq, job));
        match outcome {
            Outcome::Submitted(Submitted::Accepted { job, supersedes, .. }) => {
                change(*job);
                supersedes.iter().copied().for_each(change);
            }
            Outcome::Pulled(pulled) => pulled.leases.iter().for_each(|leased| change(leased.lease.job)),
            Outcome::Completed(completed) => change(completed.job),
            Outcome::Reclaimed(jobs) => jobs.iter().copied().for_each(change),
            Outcome::Extended(_) | Outcome::Released(_) | Outcome::Done => self.named_jobs.drain(..).for_each(change),
            Outcome::Heard { .. }
            | Outcome::Submitted(_)
            | Outcome::KindSet { .. }
            | Outcome::ActBegun { .. }
            | Outcome::Parked { .. }
            | Outcome::PolicyAdded { .. }
            | Outcome::PolicyActivated { .. }
            | Outcome::Refused(_) => {}
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

    /// The number of the last durable record.
    pub fn durable_seq(&self) -> u64 {
        self.durable_seq
    }

    /// How many records are not durable.
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

    /// Hands over the records since the last call. `spare` is an empty batch whose capacity is reused, `outcome_hash`
    /// the hash after the last record.
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

    /// All records up to this one are durable.
    pub fn set_durable(&mut self, up_to: u64) {
        self.durable_seq = up_to;
        while self.changed_jobs.front().is_some_and(|(seq, _)| *seq <= up_to) {
            self.changed_jobs.pop_front();
        }
        while let Some((_, at)) = self.instants.front().copied().filter(|(seq, _)| *seq <= up_to) {
            self.durable_at = at;
            self.instants.pop_front();
        }
    }

    /// The journal cannot be written until [`Uncommitted::journal_recovered`].
    pub fn journal_failed(&mut self, reason: String) {
        self.journal_down = Some(reason);
    }

    /// The journal can be written again.
    pub fn journal_recovered(&mut self) {
        self.journal_down = None;
    }

    /// Why the journal cannot be written, while it cannot.
    pub fn journal_down(&self) -> Option<&str> {
        self.journal_down.as_deref()
    }

    /// Whether a record must be made for what expired by time alone after the last record; the latest did at
    /// `ended_at`.
    pub fn must_record_time(&self, ended_at: Timestamp) -> bool {
        rules::must_record_time(ended_at, self.recorded_at)
    }

    /// Why lists, and the fact that a job is unknown, may not be shown: the journal cannot be written, and some
    /// commands are not durable.
    pub fn hidden_because(&self, ended_at: Timestamp) -> Option<&str> {
        let is_time_ahead = ended_at > self.recorded_at;
        let may_show_all = rules::may_show_all(self.durable_seq, self.last_seq(), is_time_ahead);
        self.journal_down().filter(|_| !may_show_all)
    }

    /// Why a job may not be shown: the journal cannot be written, and the job's last change is not durable. O(n) in the
    /// changed jobs that are not durable.
    pub fn job_hidden_because(&self, ended_at: Timestamp, job: JobView<'_>) -> Option<&str> {
        self.hidden_because(ended_at).filter(|_| self.has_changed(job))
    }

    /// Whether a job's last change is durable. O(n) in the changed jobs that are not.
    pub fn is_durable(&self, job: JobView<'_>) -> bool {
        !self.has_changed(job)
    }

    /// Collects commands that change nothing for [`Uncommitted::take_trace`] from now on.
    pub fn begin_trace(&mut self) {
        self.trace.get_or_insert_default();
    }

    /// Whether commands that change nothing are collected.
    pub fn is_traced(&self) -> bool {
        self.trace.is_some()
    }

    /// The commands since the last call that changed nothing.
    pub fn take_trace(&mut self) -> Option<Pending> {
        self.trace.as_mut().filter(|trace| !trace.is_empty()).map(std::mem::take)
    }

    fn has_changed(&self, job: JobView<'_>) -> bool {
        let ended_at = match (job.state(), job.attempts().next_back().map(|attempt| &attempt.end)) {
            (State::Final { at, .. }, _) => at,
            (_, Some(AttemptEnd::Expired { at })) => *at,
            _ => Timestamp::ZERO,
        };
        // An act may have requeued it by time alone.
        let changed_at = ended_at.max(job.requeued_at().unwrap_or(Timestamp::ZERO));
        changed_at > self.durable_at || self.changed_jobs.iter().any(|(_, changed)| *changed == job.seq())
    }
}
