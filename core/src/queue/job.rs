//! A job: what to do, and how far it got.
//!
//! ```text
//!             ┌────────── retry ──────────┐
//!             ▼                           │
//! submit ► Scheduled ► Queued ► Leased ───┴► Final(completed | failed | dead | cancelled | expired | superseded)
//!             └───────────┴─────── expire, supersede ──────────────────▲
//! ```
//! The record is small, since there may be millions: 88 bytes, kind and class by number, what few jobs have in a box of
//! its own. A lease and the outcome share a second box, made when the lease begins, so that an end allocates nothing.
//! Others see a job as a [`JobView`], which has the names at hand.

use crate::command::{Complete, Priority, ResultMark};
use crate::dedup::KeyPlace;
use crate::ids::{JobSeq, LeaseRef, NodeIndex};
use crate::ledger::Account;
use crate::limits::{JOB_BYTES, LEASE_DURATION_MAX, LEASE_DURATION_MIN, RUN_BYTES, TERMS_BYTES};
use crate::name::Name;
use crate::outcome::{CompletedStatus, FinalStatus};
use crate::payload::Payload;
use crate::queue::class::{ClassIndex, ClassKey, JobPlace, LaneIndex};
use crate::queue::kind::KindIndex;
use crate::queue::lane::Rank;
use crate::queue::lease::{Attempt, AttemptEnd, Tries};
use crate::rules;
use crate::time::{Millis, Timestamp};
use std::num::{NonZeroU32, NonZeroU64};

/// One job, as the table holds it.
#[derive(Debug)]
pub(crate) struct Job {
    pub(super) seq: JobSeq,
    pub(super) params: Option<Payload>,
    pub(super) submitted_at: Timestamp,
    pub(super) kind: KindIndex,
    pub(super) class: ClassIndex,
    /// [`LaneIndex::NONE`] once it is final.
    pub(super) lane: LaneIndex,
    pub(super) stage: Stage,
    pub(super) tries: Tries,
    pub(super) terms: Option<Box<Terms>>,
    pub(super) priority: Priority,
    /// At most [`crate::limits::ATTEMPTS_MAX`].
    pub(super) attempts_max: u8,
}

/// What few jobs ask for; the default is what the others have.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Terms {
    /// When its time to live is over.
    pub expires_at: Timestamp,
    /// No retry starts after it.
    pub retry_until: Timestamp,
    /// At most a day.
    lease_duration_ms: Option<NonZeroU32>,
    /// The place of its idempotency key, while the key is bound to it and not spent.
    pub key: Option<KeyPlace>,
    /// The place of an older job that it took, in the order of submission.
    place: Option<NonZeroU64>,
}

/// How far a job got.
#[derive(Debug)]
pub(super) enum Stage {
    Scheduled { due_at: Timestamp },
    Queued { since: Timestamp },
    Leased(Box<Run>),
    Final(Box<Run>),
}

/// The latest attempt, and the outcome.
#[derive(Debug)]
pub(super) struct Run {
    /// Absent if the job ended while it waited.
    pub attempt: Option<Attempt>,
    pub node: NodeIndex,
    /// The lease's place among its node's.
    pub place: u32,
    /// When the lease ends.
    pub until: Timestamp,
    pub outcome: Outcome,
}

/// What came of a job. Meaningful once it is final.
#[derive(Debug)]
pub(super) struct Outcome {
    pub status: FinalStatus,
    pub at: Timestamp,
    pub result: Option<Payload>,
    pub error: Option<Payload>,
    /// Its place in the order of ending, for retention.
    pub number: u64,
}

/// How far a job got, for those who look.
#[derive(Clone, PartialEq, Debug)]
pub enum State {
    /// It waits for an instant: a delayed start, or the next attempt.
    Scheduled { due_at: Timestamp },
    /// It waits for a node.
    Queued { since: Timestamp },
    /// A node works on it.
    Leased { node: NodeIndex, until: Timestamp },
    /// It ended.
    Final {
        status: FinalStatus,
        at: Timestamp,
        result: Option<Payload>,
        error: Option<Payload>,
        /// Its place in the order of ending.
        number: u64,
    },
}

/// A job, for those who look.
#[derive(Clone, Copy, Debug)]
pub struct JobView<'a> {
    job: &'a Job,
    kind: &'a Name,
    class: &'a ClassKey,
}

/// A job that is not in the table any more.
#[derive(Debug)]
pub struct EndedJob {
    job: Job,
    kind: Name,
    class: std::sync::Arc<ClassKey>,
}

/// How a result compares with what is known of its job.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Standing {
    /// It is the current lease's: to be taken.
    Current,
    /// It was taken before, and answered so.
    Repeat(CompletedStatus),
    /// Its lease is not (or no longer) the job's.
    Lost,
    /// Without a lease, for a job that ended otherwise.
    Final(FinalStatus),
}

impl Default for Terms {
    fn default() -> Self {
        Terms::new(Timestamp::NEVER, Timestamp::NEVER, None, None)
    }
}

impl Terms {
    /// Terms without a key. A lease duration is kept as far as one may be short or long.
    pub(super) fn new(
        expires_at: Timestamp,
        retry_until: Timestamp,
        lease_duration_ms: Option<Millis>,
        place: Option<JobSeq>,
    ) -> Terms {
        let clamped = |duration: Millis| duration.clamp(LEASE_DURATION_MIN, LEASE_DURATION_MAX).get();
        let lease_duration_ms = lease_duration_ms.map(clamped).and_then(|ms| NonZeroU32::new(ms as u32));
        let place = place.and_then(|place| NonZeroU64::new(place.get()));
        Terms { expires_at, retry_until, lease_duration_ms, key: None, place }
    }

    pub fn lease_duration_ms(&self) -> Option<Millis> {
        self.lease_duration_ms.map(|ms| Millis::new(ms.get().into()))
    }

    pub fn place(&self) -> Option<JobSeq> {
        self.place.map(|place| JobSeq::new(place.get()))
    }
}

const _: () = assert!(LEASE_DURATION_MIN.get() > 0 && LEASE_DURATION_MAX.get() <= u32::MAX as u64);

impl Job {
    pub fn expires_at(&self) -> Timestamp {
        self.terms.as_ref().map_or(Timestamp::NEVER, |terms| terms.expires_at)
    }

    pub fn retry_until(&self) -> Timestamp {
        self.terms.as_ref().map_or(Timestamp::NEVER, |terms| terms.retry_until)
    }

    pub fn lease_duration_ms(&self) -> Option<Millis> {
        self.terms.as_ref().and_then(|terms| terms.lease_duration_ms())
    }

    /// The place of its idempotency key, while that is bound to it and not spent.
    pub fn key(&self) -> Option<KeyPlace> {
        self.terms.as_ref().and_then(|terms| terms.key)
    }

    pub(super) fn set_key(&mut self, key: Option<KeyPlace>) {
        let mut terms = self.terms.take().unwrap_or_default();
        terms.key = key;
        // What a job is charged follows from what it asks for, so a box that says nothing goes.
        self.terms = (*terms != Terms::default()).then_some(terms);
    }

    pub fn rank(&self) -> Rank {
        let place = self.terms.as_ref().and_then(|terms| terms.place());
        Rank::new(self.priority, place.unwrap_or(self.seq))
    }

    /// Where it belongs, until it is final.
    pub fn place(&self) -> JobPlace {
        JobPlace { class: self.class, kind: self.kind, lane: self.lane }
    }

    /// The latest lease.
    pub fn lease(&self) -> LeaseRef {
        LeaseRef { job: self.seq, generation: self.tries.generation() }
    }

    /// Whether it waits for an instant or a node.
    pub fn is_waiting(&self) -> bool {
        matches!(self.stage, Stage::Scheduled { .. } | Stage::Queued { .. })
    }

    /// Its place in the order of ending, if it is final.
    pub(super) fn final_number(&self) -> Option<u64> {
        match &self.stage {
            Stage::Final(run) => Some(run.outcome.number),
            _ => None,
        }
    }

    /// Where its bytes are, and how many they are. O(attempts kept).
    pub fn charge(&self) -> (Account, u64) {
        let (account, run) = match &self.stage {
            Stage::Scheduled { .. } | Stage::Queued { .. } => (Account::Waiting, 0),
            Stage::Leased(run) => (Account::Leased, run.bytes()),
            Stage::Final(run) if run.outcome.status == FinalStatus::Dead => (Account::Dead, run.bytes()),
            Stage::Final(run) => (Account::Retained, run.bytes()),
        };
        let terms = if self.terms.is_some() { TERMS_BYTES } else { 0 };
        (account, JOB_BYTES + Payload::bytes_of(&self.params) + terms + self.tries.bytes() + run)
    }

    /// A node gets it: the lease of this attempt, in a box that another job has left or a new one.
    pub(super) fn lease_to(
        &mut self,
        spare: Option<Box<Run>>,
        now: Timestamp,
        node: NodeIndex,
        name: Name,
        place: u32,
        until: Timestamp,
    ) -> LeaseRef {
        assert!(matches!(self.stage, Stage::Queued { .. }), "only a queued job is leased");
        self.tries.begin();
        let attempt = Some(Attempt { node: name, started_at: now, end: AttemptEnd::Running });
        let run = Run { attempt, node, place, until, outcome: Outcome::NONE };
        self.stage = Stage::Leased(match spare {
            Some(mut spare) => {
                *spare = run;
                spare
            }
            None => Box::new(run),
        });
        self.lease()
    }

    /// Ends the running attempt; what its lease was.
    pub(super) fn end_attempt(&mut self, end: AttemptEnd) -> EndedLease {
        let Stage::Leased(run) = &mut self.stage else { unreachable!("only a leased job's attempt ends") };
        let attempt = run.attempt.as_mut().expect("a leased job has an attempt");
        assert!(attempt.end == AttemptEnd::Running, "an attempt ends once");
        self.tries.end(&end);
        attempt.end = end;
        EndedLease { node: run.node, place: run.place, until: run.until, started_at: attempt.started_at }
    }

    /// After an ended attempt it waits for the next; without room it keeps only that one in its history. The box of the run,
    /// emptied.
    pub(super) fn schedule(&mut self, due_at: Timestamp, has_room: bool) -> Box<Run> {
        self.note_retry(due_at);
        let stage = std::mem::replace(&mut self.stage, Stage::Scheduled { due_at });
        let Stage::Leased(mut run) = stage else { unreachable!("only a job whose attempt ended is tried again") };
        self.tries.keep(run.attempt.take().expect("a leased job has an attempt"), has_room);
        run
    }

    /// It is final. Allocates only if it was never leased, or waited.
    pub(super) fn finish(&mut self, outcome: Outcome) {
        let now = outcome.at;
        let stage = std::mem::replace(&mut self.stage, Stage::Queued { since: now });
        self.stage = Stage::Final(match stage {
            Stage::Leased(mut run) => {
                run.outcome = outcome;
                run
            }
            Stage::Scheduled { .. } | Stage::Queued { .. } => {
                let node = NodeIndex::new(0);
                Box::new(Run { attempt: None, node, place: 0, until: now, outcome })
            }
            Stage::Final(_) => unreachable!("a job ends once"),
        });
    }

    /// The box of a final job's run, emptied.
    pub(super) fn into_spare(self) -> Option<Box<Run>> {
        let Stage::Final(mut run) = self.stage else { return None };
        run.attempt = None;
        run.outcome = Outcome::NONE;
        Some(run)
    }

    /// Whether the job may be tried again, as far as its attempts and its time for retries say.
    pub(super) fn may_retry_at(&self, due_at: Timestamp) -> bool {
        !rules::is_spent(self.tries.charged(), self.attempts_max.into()) && due_at <= self.retry_until()
    }

    /// How a result compares with what is known of the job.
    pub(super) fn standing(&self, complete: &Complete) -> Standing {
        match complete.lease {
            Some(lease) => self.standing_of_lease(lease, complete),
            None => self.standing_without_lease(complete),
        }
    }

    /// The attempts that are kept, oldest first; the last one has the latest lease's generation.
    pub fn attempts(&self) -> impl DoubleEndedIterator<Item = &Attempt> {
        let latest = match &self.stage {
            Stage::Leased(run) | Stage::Final(run) => run.attempt.as_ref(),
            _ => None,
        };
        self.tries.earlier().chain(latest)
    }

    /// What the node was answered whose result ended this attempt: whatever became of the job since, a repeat is answered
    /// the same.
    fn answer_of(&self, attempt: &Attempt) -> CompletedStatus {
        match (&attempt.end, &self.stage) {
            (AttemptEnd::Failed { retry_at: Some(at), .. }, _) => CompletedStatus::RetryScheduled(*at),
            (_, Stage::Final(run)) => CompletedStatus::Final(run.outcome.status),
            _ => unreachable!("a result that scheduled no retry ended its job"),
        }
    }

    /// The latest attempt failed, and the next one may start then.
    fn note_retry(&mut self, due_at: Timestamp) {
        if let Stage::Leased(run) = &mut self.stage
            && let Some(Attempt { end: AttemptEnd::Failed { retry_at, .. }, .. }) = &mut run.attempt
        {
            *retry_at = Some(due_at);
        }
    }

    fn standing_of_lease(&self, lease: LeaseRef, complete: &Complete) -> Standing {
        let is_own = lease.job == self.seq && lease.generation > 0;
        let age = rules::leases_since(lease.generation, self.tries.generation());
        let Some(age) = age.filter(|_| is_own) else {
            return Standing::Lost;
        };
        let Some(attempt) = self.attempts().nth_back(age as usize) else { return Standing::Lost };
        if complete.node.as_ref().is_some_and(|node| *node != attempt.node) {
            return Standing::Lost;
        }
        match (&attempt.end, attempt.end.mark(), &self.stage) {
            (AttemptEnd::Running, _, _) => Standing::Current,
            (_, Some(mark), _) if mark == complete.mark => Standing::Repeat(self.answer_of(attempt)),
            // Another result than the one that was taken.
            (_, Some(_), Stage::Final(run)) if age == 0 => Standing::Final(run.outcome.status),
            _ => Standing::Lost,
        }
    }

    /// Clients of v1.5 send no lease: the result is taken if the job is leased (to their node, where they say which).
    fn standing_without_lease(&self, complete: &Complete) -> Standing {
        let is_same_node = |attempt: &Attempt| complete.node.as_ref().is_none_or(|node| *node == attempt.node);
        let is_repeat = |attempt: &Attempt| attempt.end.mark() == Some(complete.mark) && is_same_node(attempt);
        // A result that its node gave an id is a repeat wherever that id was seen; by its content alone it is one only if
        // nothing came after it, since two attempts may well fail alike.
        if matches!(complete.mark, ResultMark::Id(_))
            && let Some(attempt) = self.attempts().find(|attempt| is_repeat(attempt))
        {
            return Standing::Repeat(self.answer_of(attempt));
        }
        let Some(latest) = self.attempts().next_back() else { return Standing::Lost };
        match &self.stage {
            Stage::Leased(_) if is_same_node(latest) => Standing::Current,
            _ if is_repeat(latest) => Standing::Repeat(self.answer_of(latest)),
            Stage::Final(run) => Standing::Final(run.outcome.status),
            _ => Standing::Lost,
        }
    }
}

/// A lease that has just ended.
pub(super) struct EndedLease {
    pub node: NodeIndex,
    pub place: u32,
    pub until: Timestamp,
    pub started_at: Timestamp,
}

impl Outcome {
    /// That of a job which is not final.
    pub(super) const NONE: Outcome =
        Outcome { status: FinalStatus::Failed, at: Timestamp::ZERO, result: None, error: None, number: 0 };
}

impl Run {
    fn bytes(&self) -> u64 {
        // The error of the attempt that ended the job is shared with the outcome.
        let node = self.attempt.as_ref().map_or(0, |attempt| attempt.node.bytes());
        RUN_BYTES + node + Payload::bytes_of(&self.outcome.result) + Payload::bytes_of(&self.outcome.error)
    }
}

impl<'a> JobView<'a> {
    pub(super) fn new(job: &'a Job, kind: &'a Name, class: &'a ClassKey) -> Self {
        JobView { job, kind, class }
    }

    /// The job's number.
    pub fn seq(&self) -> JobSeq {
        self.job.seq
    }

    /// What it is called.
    pub fn kind(&self) -> &'a Name {
        self.kind
    }

    /// With what it was submitted.
    pub fn params(&self) -> Option<&'a Payload> {
        self.job.params.as_ref()
    }

    /// How urgent it is.
    pub fn priority(&self) -> Priority {
        self.job.priority
    }

    /// Which nodes may run it.
    pub fn class(&self) -> &'a ClassKey {
        self.class
    }

    /// When it was submitted.
    pub fn submitted_at(&self) -> Timestamp {
        self.job.submitted_at
    }

    /// When its time to live is over; [`Timestamp::NEVER`] if it has none.
    pub fn expires_at(&self) -> Timestamp {
        self.job.expires_at()
    }

    /// How many attempts it may have.
    pub fn attempts_max(&self) -> u32 {
        self.job.attempts_max.into()
    }

    /// How many leases it had; the last attempt has this generation.
    pub fn generation(&self) -> u32 {
        self.job.tries.generation()
    }

    /// How many of them count as attempts.
    pub fn attempts_charged(&self) -> u32 {
        self.job.tries.charged()
    }

    /// The attempts that are kept, oldest first: at most [`crate::limits::ATTEMPTS_KEPT_MAX`], up to the latest.
    pub fn attempts(&self) -> impl DoubleEndedIterator<Item = &'a Attempt> + use<'a> {
        self.job.attempts()
    }

    /// How far it got.
    pub fn state(&self) -> State {
        match &self.job.stage {
            Stage::Scheduled { due_at } => State::Scheduled { due_at: *due_at },
            Stage::Queued { since } => State::Queued { since: *since },
            Stage::Leased(run) => State::Leased { node: run.node, until: run.until },
            Stage::Final(run) => {
                let Outcome { status, at, result, error, number } = &run.outcome;
                let (result, error) = (result.clone(), error.clone());
                State::Final { status: *status, at: *at, result, error, number: *number }
            }
        }
    }

    /// Whether it ended.
    pub fn is_final(&self) -> bool {
        matches!(self.job.stage, Stage::Final(_))
    }

    /// The word for its state.
    pub fn status(&self) -> &'static str {
        match &self.job.stage {
            Stage::Scheduled { .. } => "scheduled",
            Stage::Queued { .. } => "queued",
            Stage::Leased(_) => "leased",
            Stage::Final(run) => run.outcome.status.as_str(),
        }
    }

    /// The latest lease.
    pub fn lease(&self) -> LeaseRef {
        self.job.lease()
    }

    /// The node that works on it.
    pub fn leased_to(&self) -> Option<&'a Name> {
        match &self.job.stage {
            Stage::Leased(run) => run.attempt.as_ref().map(|attempt| &attempt.node),
            _ => None,
        }
    }
}

impl EndedJob {
    pub(super) fn new(job: Job, kind: Name, class: std::sync::Arc<ClassKey>) -> Self {
        EndedJob { job, kind, class }
    }

    /// Its place in the order of ending.
    pub(crate) fn number(&self) -> u64 {
        self.job.final_number().expect("a job that ended is final")
    }

    /// The job as it was when it ended.
    pub fn view(&self) -> JobView<'_> {
        JobView::new(&self.job, &self.kind, &self.class)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A job that was just submitted, for the tests of rooms that only hold jobs.
    pub fn a_job(seq: u64) -> Job {
        Job {
            seq: JobSeq::new(seq),
            params: None,
            submitted_at: Timestamp::ZERO,
            kind: KindIndex(0),
            class: ClassIndex(0),
            lane: LaneIndex::NONE,
            stage: Stage::Queued { since: Timestamp::ZERO },
            tries: Tries::default(),
            terms: None,
            priority: Priority::Normal,
            attempts_max: 1,
        }
    }

    #[test]
    fn a_record_is_small() {
        assert!(size_of::<Option<Job>>() <= 88, "{} bytes", size_of::<Option<Job>>());
        assert!(size_of::<Run>() <= 152, "{} bytes", size_of::<Run>());
        assert!(size_of::<Terms>() <= 32, "{} bytes", size_of::<Terms>());
    }
}
