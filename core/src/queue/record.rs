//! Records: jobs as a snapshot holds them, and the queue made from them again. Lanes, timers and counts are not written:
//! they follow from the jobs' states.

use super::Queue;
use super::job::{Attempt, Job, State, Terms};
use crate::command::Priority;
use crate::context::Context;
use crate::ids::JobSeq;
use crate::mutants::{self, Mutant};
use crate::name::Name;
use crate::payload::Payload;
use crate::registry::Registry;
use crate::timers::Timer;
use serde::{Deserialize, Serialize};

/// A job as a snapshot holds it.
#[derive(Serialize, Deserialize)]
pub(crate) struct JobRecord {
    seq: JobSeq,
    kind: Name,
    params: Payload,
    priority: Priority,
    zone: Option<Name>,
    requires: Vec<Name>,
    terms: Terms,
    state: State,
    attempts: Vec<Attempt>,
}

impl Queue {
    /// The record of each job, in order of submission, for the snapshot.
    pub(crate) fn records(&self) -> impl Iterator<Item = JobRecord> {
        self.table.iter_from(JobSeq::FIRST).map(JobRecord::of)
    }

    /// The numbers that the next job and the next final job get.
    pub(crate) fn next_numbers(&self) -> (JobSeq, u64) {
        (self.next_seq, self.next_final_no)
    }

    /// Puts back the numbers of a snapshot.
    pub(crate) fn restore_next_numbers(&mut self, (next_seq, next_final_no): (JobSeq, u64)) {
        (self.next_seq, self.next_final_no) = (next_seq, next_final_no);
    }

    /// Puts back a job of a snapshot: its place in lanes, timers and counts follows from its state. The error says what
    /// contradicts the records before it.
    pub(crate) fn restore(
        &mut self,
        cx: &mut Context,
        registry: &mut Registry,
        record: JobRecord,
    ) -> Result<(), &'static str> {
        if matches!(record.state, State::Leased { node, .. } if registry.get(node).is_none()) {
            return Err("a job is leased to a node that is not there");
        }
        let seq = record.seq;
        let is_final = matches!(record.state, State::Final { .. });
        let entered = if is_final {
            self.lanes.recall_class(record.zone, record.requires)
        } else {
            self.lanes
                .enter_class(record.zone, record.requires)
                .ok_or("more classes of jobs than the hub has room for")?
        };
        let (class_no, class) = entered;
        let mut attempts = record.attempts;
        for attempt in &mut attempts {
            if let Some(node) = registry.by_name(&attempt.node) {
                attempt.node = node.name().clone();
            }
        }
        let kind = self.intern(record.kind);
        let JobRecord { params, priority, terms, state, .. } = record;
        let job = Job { seq, kind, params, priority, class, class_no, terms, state, attempts };
        // A leased job's timer of this instant may have fired; a waiting job's has not, or the job would be final.
        if job.is_waiting() || (!is_final && job.expires_at() > cx.now) {
            cx.timers.set(job.expires_at(), Timer::JobExpires(seq));
        }
        match job.state {
            State::Scheduled { due_at } => {
                self.counts.scheduled += 1;
                self.counts.waiting_bytes += job.waiting_bytes();
                cx.timers.set(due_at, Timer::JobDue(seq));
            }
            State::Queued { .. } => {
                self.counts.queued += 1;
                self.counts.waiting_bytes += job.waiting_bytes();
                let woken = self.lanes.push(class_no, &job.kind, job.rank());
                assert!(woken.is_none(), "nobody waits before the state is restored");
            }
            State::Leased { node, until } => {
                self.counts.leased += 1;
                registry.lease_given(node);
                cx.timers.set(until, Timer::LeaseEnds(seq));
            }
            State::Final { at, .. } => {
                self.counts.retained += 1;
                self.counts.retained_bytes += job.retained_bytes();
                self.finals.push_back((at, seq));
            }
        }
        self.table.insert(job);
        Ok(())
    }

    /// All jobs of a snapshot are back: final ones go in the order in which they ended. O(n log n).
    pub(crate) fn restored(&mut self) {
        if mutants::is_active(Mutant::FinalOrderLost) {
            return;
        }
        let table = &self.table;
        self.finals.make_contiguous().sort_by_key(|(_, seq)| match table.get(*seq).map(Job::state) {
            Some(State::Final { final_no, .. }) => *final_no,
            _ => unreachable!("only final jobs are among the final ones"),
        });
    }
}

impl JobRecord {
    fn of(job: &Job) -> JobRecord {
        JobRecord {
            seq: job.seq,
            kind: job.kind.clone(),
            params: job.params.clone(),
            priority: job.priority,
            zone: job.class.zone.clone(),
            requires: job.class.requires.clone(),
            terms: job.terms.clone(),
            state: job.state.clone(),
            attempts: job.attempts.clone(),
        }
    }
}
