//! A job: what to do, and the state that it is in.
//!
//! ```text
//!             ┌────────── retry ──────────┐
//!             ▼                           │
//! submit ► Scheduled ► Queued ► Leased ───┴► Final(completed | failed | dead | cancelled | expired | superseded)
//!             └───────────┴─────── expire, supersede, cancel ──────────▲
//! ```
//! The record is small, since there may be millions: 88 bytes, with kind and class as numbers and members that few jobs
//! have in a box. The lease and the outcome share a second box, which is allocated with the lease, so that a job's end
//! allocates nothing. Other modules read a job as a [`JobView`], which adds the names.

use crate::command::{Complete, Priority, ResultMark};
use crate::dedup::KeyPlace;
use crate::encoding::numbered;
use crate::ids::{JobSeq, LeaseRef, NodeIndex};
use crate::integrity::stored::ResultIntegrity;
use crate::ledger::Account;
use crate::limits::{
    JOB_BYTES, LEASE_DURATION_MAX, LEASE_DURATION_MIN, RARE_TERMS_BYTES, REPORT_BYTES, RUN_BYTES, TERMS_BYTES,
};
use crate::name::Name;
use crate::outcome::{CompletedStatus, FinalStatus};
use crate::payload::Payload;
use crate::queue::class::{ClassIndex, ClassKey, JobPlace, LaneIndex};
use crate::queue::client::ClientRef;
use crate::queue::kind::KindIndex;
use crate::queue::lane::Rank;
use crate::queue::lease::{Attempt, AttemptEnd, AttemptHistory, Revocation, Toll};
use crate::queue::tally::Status;
use crate::rules;
use crate::time::{Millis, Timestamp, Utc};
use std::num::{NonZeroU32, NonZeroU64};
use std::sync::LazyLock;

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
    pub(super) history: AttemptHistory,
    pub(super) terms: Option<Box<Terms>>,
    pub(super) priority: Priority,
    /// At most [`crate::limits::ATTEMPTS_MAX`].
    pub(super) attempts_max: u8,
    pub(super) standing: Standing,
    /// The state that it was last counted under.
    pub(super) counted: Option<Status>,
}

/// Two small counts in one byte.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Standing(u8);

impl Standing {
    /// How many levels higher than its priority the job counts: 0 to 3.
    pub fn aged(self) -> u8 {
        self.0 & 0xf
    }

    pub fn set_aged(&mut self, levels: u8) {
        self.0 = self.0 & 0xf0 | levels;
    }

    /// How many leases in a row were taken from jobs of its key by newer ones: up to
    /// [`REVOCATIONS_MAX`](crate::limits::REVOCATIONS_MAX).
    pub fn revocations(self) -> u8 {
        self.0 >> 4
    }

    pub fn set_revocations(&mut self, count: u8) {
        self.0 = self.0 & 0xf | count << 4;
    }
}

/// Members that few jobs have; the default is that of all other jobs.
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
    /// The place in the order of submission that it took from an older job, or that it got when it was requeued.
    place: Option<NonZeroU64>,
    pub client: Option<ClientRef>,
    rare: Option<Box<Rare>>,
}

/// Terms that very few jobs have.
#[derive(Clone, PartialEq, Default, Debug)]
pub(crate) struct Rare {
    /// How long one attempt may take, from its lease on.
    pub max_run_ms: Option<Millis>,
    /// When it was requeued last: its time to live and its retry budget began anew.
    pub requeued_at: Option<Timestamp>,
    /// The hash of its idempotency key, of a dead job.
    pub dead_key: Option<Hash>,
    /// Its turn, if groups take turns.
    pub turn: Option<NonZeroU64>,
}

/// 128 bits in two halves: an alignment of 8 instead of 16.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Hash([u64; 2]);

impl Hash {
    pub fn new(hash: u128) -> Hash {
        Hash([hash as u64, (hash >> 64) as u64])
    }

    pub fn get(self) -> u128 {
        u128::from(self.0[1]) << 64 | u128::from(self.0[0])
    }
}

/// The state of a job.
#[derive(Debug)]
pub(super) enum Stage {
    /// It waits until the calendar shows this instant; [`crate::timers`] has the instant at which its delay ends.
    Dated {
        run_at: Utc,
    },
    Scheduled {
        due_at: Timestamp,
    },
    Queued {
        since: Timestamp,
    },
    /// As `Queued`, but only for other nodes than that of the last attempt.
    Reserved {
        since: Timestamp,
    },
    /// A retry that is due, and waits for a credit of the retry budget.
    Postponed {
        since: Timestamp,
    },
    Leased(Box<Run>),
    Final(Box<Run>),
}

/// The latest attempt, its lease, and the outcome.
#[derive(Debug)]
pub(super) struct Run {
    /// Absent if the job ended while it waited.
    pub attempt: Option<Attempt>,
    pub node: NodeIndex,
    /// The lease's place in its node's list.
    pub place: u32,
    /// When the lease ends.
    pub until: Timestamp,
    pub outcome: Outcome,
    /// What its node says about its work.
    pub report: Option<Box<Report>>,
}

/// What a node says about its work.
#[derive(Clone, PartialEq, Default, Debug)]
pub(super) struct Report {
    /// Percent.
    pub progress: Option<u8>,
    pub note: Option<Name>,
}

/// How a job ended. Meaningful only if it is final.
#[derive(Debug)]
pub(super) struct Outcome {
    pub status: FinalStatus,
    pub at: Timestamp,
    pub result: Option<Payload>,
    pub error: Option<Payload>,
    /// The checksum of the result that ended it.
    pub integrity: Option<Box<ResultIntegrity>>,
    /// Its place in the order of ending, for retention.
    pub number: u64,
    /// Why no attempt follows, if it ended without success.
    pub reason: Option<EndReason>,
    /// Whether its lease still counts: its node has not learnt yet that the job was cancelled or superseded, and may
    /// still be at work.
    pub is_held: bool,
}

/// The state of a job, as other modules see it.
#[derive(Clone, PartialEq, Debug)]
pub enum State {
    /// It waits until the calendar shows an instant.
    Dated {
        run_at: Utc,
    },
    /// It waits for an instant: a delayed start, or the next attempt.
    Scheduled {
        due_at: Timestamp,
    },
    /// It waits for a credit of the retry budget.
    Postponed {
        since: Timestamp,
    },
    /// It waits for a node.
    Queued {
        since: Timestamp,
    },
    Leased {
        node: NodeIndex,
        until: Timestamp,
    },
    Final {
        status: FinalStatus,
        at: Timestamp,
        result: Option<Payload>,
        error: Option<Payload>,
        /// The checksum of the result that ended it.
        integrity: Option<ResultIntegrity>,
        /// Its place in the order of ending.
        number: u64,
    },
}

/// A job, as other modules see it.
#[derive(Clone, Copy, Debug)]
pub struct JobView<'a> {
    job: &'a Job,
    kind: &'a Name,
    class: &'a ClassKey,
    client: Option<&'a Name>,
}

/// A final job that was dropped from the table.
#[derive(Debug)]
pub struct EndedJob {
    job: Job,
    kind: Name,
    class: std::sync::Arc<ClassKey>,
    client: Option<Name>,
}

/// Why a job that ended without success gets no further attempt.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EndReason {
    /// Its attempts are spent.
    Attempts,
    /// Its node said that no retry will help.
    NotRetryable,
    /// The next attempt would start after its retry budget.
    RetryBudget,
    /// Too many of its leases were lost.
    Lost,
    /// Its time to live was over while it waited for a retry.
    Expired,
}

/// How a submitted result relates to the state of its job.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum ResultMatch {
    /// It is the result of the current lease: it is accepted.
    Current,
    /// It was accepted before, and answered like this.
    Repeat(CompletedStatus),
    /// The job waits, and the result names no lease: it is accepted, since the work is done.
    Unleased,
    /// Its lease is held: its node learns by the answer that it is lost.
    Held,
    /// Its lease is not (or no longer) the job's.
    Lost,
    /// The job ended with another result, or without one.
    Final(FinalStatus),
}

/// The node of an attempt for which a result came without a lease and without a name.
static UNNAMED_NODE: LazyLock<Name> = LazyLock::new(|| Name::new("unnamed").expect("a valid name"));

impl Default for Terms {
    fn default() -> Self {
        Terms::new(Timestamp::NEVER, Timestamp::NEVER, None, None)
    }
}

impl Terms {
    /// Terms without a key. The lease duration is clamped to its limits.
    pub(super) fn new(
        expires_at: Timestamp,
        retry_until: Timestamp,
        lease_duration_ms: Option<Millis>,
        place: Option<JobSeq>,
    ) -> Terms {
        let clamped = |duration: Millis| duration.clamp(LEASE_DURATION_MIN, LEASE_DURATION_MAX).get();
        let lease_duration_ms = lease_duration_ms.map(clamped).and_then(|ms| NonZeroU32::new(ms as u32));
        let place = place.and_then(|place| NonZeroU64::new(place.get()));
        Terms { expires_at, retry_until, lease_duration_ms, key: None, place, client: None, rare: None }
    }

    /// With these rare terms.
    pub(super) fn with_rare(self, rare: Rare) -> Terms {
        Terms { rare: (rare != Rare::default()).then(|| Box::new(rare)), ..self }
    }

    pub fn rare(&self) -> Option<&Rare> {
        self.rare.as_deref()
    }

    pub(super) fn bytes(&self) -> u64 {
        let rare = if self.rare.is_some() { RARE_TERMS_BYTES } else { 0 };
        TERMS_BYTES + self.client.map_or(0, ClientRef::bytes) + rare
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

    pub fn client(&self) -> Option<ClientRef> {
        self.terms.as_ref().and_then(|terms| terms.client)
    }

    pub(super) fn set_key(&mut self, key: Option<KeyPlace>) {
        let mut terms = self.terms.take().unwrap_or_default();
        terms.key = key;
        // A job is charged for its terms by whether it has a box: one that holds only defaults is removed.
        self.terms = (*terms != Terms::default()).then_some(terms);
    }

    /// The hash of its idempotency key, of a dead job.
    pub(super) fn dead_key(&self) -> Option<u128> {
        self.terms.as_ref()?.rare()?.dead_key.map(Hash::get)
    }

    pub(super) fn set_dead_key(&mut self, key: Option<u128>) {
        self.change_rare(|rare| rare.dead_key = key.map(Hash::new));
    }

    fn change_rare(&mut self, change: impl FnOnce(&mut Rare)) {
        let mut terms = self.terms.take().unwrap_or_default();
        let mut rare = terms.rare.take().unwrap_or_default();
        change(&mut rare);
        terms.rare = (*rare != Rare::default()).then_some(rare);
        // A job is charged for its terms by whether it has a box: one that holds only defaults is removed.
        self.terms = (*terms != Terms::default()).then_some(terms);
    }

    /// Where it counts in the order to run jobs: its priority, or higher.
    pub fn level(&self) -> usize {
        self.priority as usize - usize::from(self.standing.aged())
    }

    /// Its turn; 0 if it has none.
    pub fn turn(&self) -> u64 {
        self.terms.as_ref().and_then(|terms| terms.rare()?.turn).map_or(0, NonZeroU64::get)
    }

    pub(super) fn set_turn(&mut self, turn: u64) {
        self.change_rare(|rare| rare.turn = NonZeroU64::new(turn));
    }

    pub fn rank(&self) -> Rank {
        let place = self.terms.as_ref().and_then(|terms| terms.place());
        Rank::new(self.level(), self.turn(), place.unwrap_or(self.seq))
    }

    /// Its class, kind and lane; the lane only until it is final.
    pub fn place(&self) -> JobPlace {
        JobPlace { class: self.class, kind: self.kind, lane: self.lane }
    }

    /// The latest lease.
    pub fn lease(&self) -> LeaseRef {
        LeaseRef { job: self.seq, generation: self.history.generation() }
    }

    pub fn status(&self) -> Status {
        match &self.stage {
            Stage::Dated { .. } | Stage::Scheduled { .. } | Stage::Postponed { .. } => Status::Scheduled,
            Stage::Queued { .. } | Stage::Reserved { .. } => Status::Queued,
            Stage::Leased(_) => Status::Leased,
            Stage::Final(run) => Status::Final(run.outcome.status),
        }
    }

    /// The error of its end or, if it has none, of its latest attempt.
    pub fn last_error(&self) -> Option<&Payload> {
        let of_end = match &self.stage {
            Stage::Final(run) => run.outcome.error.as_ref(),
            _ => None,
        };
        let of_attempt = || match &self.attempts().next_back()?.end {
            AttemptEnd::Failed { error, .. } => error.as_ref(),
            _ => None,
        };
        of_end.or_else(of_attempt)
    }

    /// How long one attempt may take, if the job says so.
    pub fn max_run_ms(&self) -> Option<Millis> {
        self.terms.as_ref()?.rare()?.max_run_ms
    }

    /// When its clocks began: when it was submitted, or requeued last.
    pub fn clock_from(&self) -> Timestamp {
        let requeued_at = self.terms.as_ref().and_then(|terms| terms.rare()?.requeued_at);
        requeued_at.unwrap_or(self.submitted_at)
    }

    /// Whether it waits for an instant or a node.
    pub fn is_waiting(&self) -> bool {
        matches!(
            self.stage,
            Stage::Dated { .. }
                | Stage::Scheduled { .. }
                | Stage::Postponed { .. }
                | Stage::Queued { .. }
                | Stage::Reserved { .. }
        )
    }

    /// The node whose attempt failed or was lost before this retry.
    pub(super) fn failed_at(&self) -> Option<&Name> {
        let latest = self.history.earlier().next_back()?;
        let is_bad_sign = match latest.end {
            AttemptEnd::Failed { .. } | AttemptEnd::Expired { .. } => true,
            AttemptEnd::Revoked { why, .. } => matches!(why, Revocation::MaxRun | Revocation::NodeDead),
            AttemptEnd::Running | AttemptEnd::Completed { .. } => false,
        };
        is_bad_sign.then_some(&latest.node)
    }

    /// When its reservation ends, if it is reserved.
    pub(super) fn reserved_until(&self) -> Option<Timestamp> {
        match self.stage {
            Stage::Reserved { since } => Some(rules::reserved_until(since, self.history.generation())),
            _ => None,
        }
    }

    /// Its place in the order of ending, if it is final.
    pub(super) fn final_number(&self) -> Option<u64> {
        match &self.stage {
            Stage::Final(run) => Some(run.outcome.number),
            _ => None,
        }
    }

    /// The account that it is charged to, and how many bytes. O(attempts kept).
    pub fn charge(&self) -> (Account, u64) {
        let (account, run) = match &self.stage {
            Stage::Dated { .. }
            | Stage::Scheduled { .. }
            | Stage::Postponed { .. }
            | Stage::Queued { .. }
            | Stage::Reserved { .. } => (Account::Waiting, 0),
            Stage::Leased(run) => (Account::Leased, run.bytes()),
            Stage::Final(run) if run.outcome.status == FinalStatus::Dead => (Account::Dead, run.bytes()),
            Stage::Final(run) => (Account::Retained, run.bytes()),
        };
        let terms = self.terms.as_ref().map_or(0, |terms| terms.bytes());
        (account, JOB_BYTES + Payload::bytes_of(&self.params) + terms + self.history.bytes() + run)
    }

    /// Leases it to a node, in a spare box if there is one.
    pub(super) fn lease_to(
        &mut self,
        spare: Option<Box<Run>>,
        now: Timestamp,
        node: NodeIndex,
        name: Name,
        place: u32,
        until: Timestamp,
    ) -> LeaseRef {
        assert!(matches!(self.stage, Stage::Queued { .. } | Stage::Reserved { .. }), "only a queued job is leased");
        let attempt = Attempt { node: name, started_at: now, end: AttemptEnd::Running };
        self.begin(spare, Run { node, place, ..Run::new(Some(attempt), until, Outcome::NONE) });
        self.lease()
    }

    /// A node worked on it without a lease: an attempt that began and ended now. Without a name it is of the node that
    /// had the latest lease, whose result comes late.
    pub(super) fn attempt_unleased(
        &mut self,
        spare: Option<Box<Run>>,
        now: Timestamp,
        node: Option<Name>,
        end: AttemptEnd,
        toll: Toll,
    ) {
        assert!(self.is_waiting(), "the result of a job under lease ends its lease");
        let latest = || self.attempts().next_back().map(|attempt| attempt.node.clone());
        let node = node.or_else(latest).unwrap_or_else(|| UNNAMED_NODE.clone());
        let attempt = Attempt { node, started_at: now, end: AttemptEnd::Running };
        self.begin(spare, Run::new(Some(attempt), now, Outcome::NONE));
        self.end_attempt(end, toll);
    }

    fn begin(&mut self, spare: Option<Box<Run>>, run: Run) {
        self.history.begin();
        self.stage = Stage::Leased(match spare {
            Some(mut spare) => {
                *spare = run;
                spare
            }
            None => Box::new(run),
        });
    }

    /// Ends the running attempt; returns its lease.
    pub(super) fn end_attempt(&mut self, end: AttemptEnd, toll: Toll) -> EndedLease {
        let Stage::Leased(run) = &mut self.stage else { unreachable!("only a leased job's attempt ends") };
        let attempt = run.attempt.as_mut().expect("a leased job has an attempt");
        assert!(attempt.end == AttemptEnd::Running, "an attempt ends once");
        self.history.end(toll);
        attempt.end = end;
        EndedLease { node: run.node, place: run.place, until: run.until, started_at: attempt.started_at }
    }

    /// Schedules the next attempt. The ended one is added to the history; without `has_room` the earlier ones are
    /// dropped. Returns the emptied box of the run.
    pub(super) fn schedule_retry(&mut self, due_at: Timestamp, has_room: bool) -> Box<Run> {
        self.note_retry(due_at);
        let stage = std::mem::replace(&mut self.stage, Stage::Scheduled { due_at });
        let Stage::Leased(mut run) = stage else { unreachable!("only a job whose attempt ended is retried") };
        self.history.keep(run.attempt.take().expect("a leased job has an attempt"), has_room);
        run
    }

    /// Makes it final. Allocates only if it was waiting.
    pub(super) fn finish(&mut self, outcome: Outcome) {
        let now = outcome.at;
        let stage = std::mem::replace(&mut self.stage, Stage::Queued { since: now });
        self.stage = Stage::Final(match stage {
            Stage::Leased(mut run) => {
                let is_held = run.outcome.is_held;
                run.outcome = Outcome { is_held, ..outcome };
                run
            }
            Stage::Dated { .. }
            | Stage::Scheduled { .. }
            | Stage::Postponed { .. }
            | Stage::Queued { .. }
            | Stage::Reserved { .. } => Box::new(Run::new(None, now, outcome)),
            Stage::Final(_) => unreachable!("a job ends once"),
        });
    }

    /// A final job waits again and begins anew, with this place in the order of submission: its clocks and counts start
    /// again. Returns when it expires now, and the emptied box of its run.
    pub(super) fn begin_anew(&mut self, now: Timestamp, place: JobSeq, has_room: bool) -> (Timestamp, Box<Run>) {
        let stage = std::mem::replace(&mut self.stage, Stage::Scheduled { due_at: now });
        let Stage::Final(mut run) = stage else { unreachable!("only a final job begins anew") };
        if let Some(attempt) = run.attempt.take() {
            self.history.keep(attempt, has_room);
        }
        (run.outcome, run.report) = (Outcome::NONE, None);
        self.history.reset_counts();
        self.standing.set_aged(0);
        let from = self.clock_from();
        self.change_rare(|rare| {
            *rare = Rare { max_run_ms: rare.max_run_ms, requeued_at: Some(now), ..Rare::default() }
        });
        let terms = self.terms.as_mut().expect("it has rare terms");
        let again = |at| rules::restarted_clock(at, from, now);
        (terms.expires_at, terms.retry_until) = (again(terms.expires_at), again(terms.retry_until));
        terms.place = NonZeroU64::new(place.get());
        (terms.expires_at, run)
    }

    /// A dead job ends as failed.
    pub(super) fn refile(&mut self, now: Timestamp, number: u64) {
        let Stage::Final(run) = &mut self.stage else { unreachable!("a dead job is final") };
        (run.outcome.status, run.outcome.at, run.outcome.number) = (FinalStatus::Failed, now, number);
        self.set_dead_key(None);
    }

    /// The node whose lease it is, running or held.
    pub(super) fn holder(&self) -> Option<&Name> {
        match &self.stage {
            Stage::Leased(run) => run.attempt.as_ref().map(|attempt| &attempt.node),
            Stage::Final(run) if run.outcome.is_held => run.attempt.as_ref().map(|attempt| &attempt.node),
            _ => None,
        }
    }

    /// The emptied box of a final job's run.
    pub(super) fn into_spare_run(self) -> Option<Box<Run>> {
        let Stage::Final(mut run) = self.stage else { return None };
        (run.attempt, run.report, run.outcome) = (None, None, Outcome::NONE);
        Some(run)
    }

    /// Why no attempt follows at this instant; `None` if one may.
    pub(super) fn refuses_retry(&self, due_at: Timestamp, losses_max: u32) -> Option<EndReason> {
        if rules::is_exhausted(self.history.charged(), self.attempts_max.into()) {
            return Some(EndReason::Attempts);
        }
        if rules::is_lost(self.history.losses(), losses_max) {
            return Some(EndReason::Lost);
        }
        (due_at > self.retry_until()).then_some(EndReason::RetryBudget)
    }

    pub(super) fn match_result(&self, complete: &Complete) -> ResultMatch {
        match complete.lease {
            Some(lease) => self.match_result_of_lease(lease, complete),
            None => self.match_result_without_lease(complete),
        }
    }

    /// The attempts that are kept, oldest first; the last one is of the latest lease.
    pub fn attempts(&self) -> impl DoubleEndedIterator<Item = &Attempt> {
        let latest = match &self.stage {
            Stage::Leased(run) | Stage::Final(run) => run.attempt.as_ref(),
            _ => None,
        };
        self.history.earlier().chain(latest)
    }

    /// The answer to the result that ended this attempt. A repeat gets the same answer, whatever happened to the job
    /// since.
    fn answer_of(&self, attempt: &Attempt) -> CompletedStatus {
        match (&attempt.end, &self.stage) {
            (AttemptEnd::Failed { retry_at, .. }, _) if *retry_at != Timestamp::NEVER => {
                CompletedStatus::RetryScheduled(*retry_at)
            }
            (_, Stage::Final(run)) if run.attempt.as_ref() == Some(attempt) => {
                CompletedStatus::Final(run.outcome.status)
            }
            // It made the job a dead letter, which was requeued or completed since.
            (AttemptEnd::Failed { .. }, _) => CompletedStatus::Final(FinalStatus::Dead),
            _ => unreachable!("a result that scheduled no retry ended its job"),
        }
    }

    /// Records with the latest attempt, if it failed, when the next one may start.
    fn note_retry(&mut self, due_at: Timestamp) {
        if let Stage::Leased(run) = &mut self.stage
            && let Some(Attempt { end: AttemptEnd::Failed { retry_at, .. }, .. }) = &mut run.attempt
        {
            *retry_at = due_at;
        }
    }

    fn match_result_of_lease(&self, lease: LeaseRef, complete: &Complete) -> ResultMatch {
        let is_own = lease.job == self.seq && lease.generation > 0;
        let age = rules::leases_since(lease.generation, self.history.generation());
        let Some(age) = age.filter(|_| is_own) else {
            return ResultMatch::Lost;
        };
        let Some(attempt) = self.attempts().nth_back(age as usize) else { return ResultMatch::Lost };
        if complete.node.as_ref().is_some_and(|node| *node != attempt.node) {
            return ResultMatch::Lost;
        }
        match (&attempt.end, attempt.end.mark(), &self.stage) {
            (AttemptEnd::Running, _, _) => ResultMatch::Current,
            (_, _, Stage::Final(run)) if age == 0 && run.outcome.is_held => ResultMatch::Held,
            (_, Some(mark), _) if complete.mark.repeats(mark) => ResultMatch::Repeat(self.answer_of(attempt)),
            // Another result than the one that was accepted.
            (_, Some(_), Stage::Final(run)) if age == 0 => ResultMatch::Final(run.outcome.status),
            _ => ResultMatch::Lost,
        }
    }

    /// Clients of v1.5 send no lease: the result is accepted if the job is leased (to their node, if they name it), or
    /// waits.
    fn match_result_without_lease(&self, complete: &Complete) -> ResultMatch {
        let is_same_node = |attempt: &Attempt| complete.node.as_ref().is_none_or(|node| *node == attempt.node);
        let is_mark = |mark: ResultMark| complete.mark.repeats(mark);
        let is_repeat = |attempt: &Attempt| attempt.end.mark().is_some_and(is_mark) && is_same_node(attempt);
        // A result with an id of its node repeats any attempt that ended with that id. A result without an id can only
        // repeat the latest attempt, since two attempts may fail with the same error.
        if complete.mark.has_id()
            && let Some(attempt) = self.attempts().find(|attempt| is_repeat(attempt))
        {
            return ResultMatch::Repeat(self.answer_of(attempt));
        }
        match (&self.stage, self.attempts().next_back()) {
            (Stage::Leased(_), Some(latest)) if is_same_node(latest) => ResultMatch::Current,
            (Stage::Final(run), Some(latest)) if run.outcome.is_held && is_same_node(latest) => ResultMatch::Held,
            (Stage::Final(run), _) if run.outcome.status == FinalStatus::Cancelled => ResultMatch::Lost,
            (_, Some(latest)) if is_repeat(latest) => ResultMatch::Repeat(self.answer_of(latest)),
            (Stage::Final(run), Some(_)) => ResultMatch::Final(run.outcome.status),
            _ if self.is_waiting() => ResultMatch::Unleased,
            _ => ResultMatch::Lost,
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
    /// The outcome of a job that is not final.
    pub(super) const NONE: Outcome = Outcome {
        status: FinalStatus::Failed,
        at: Timestamp::ZERO,
        result: None,
        error: None,
        integrity: None,
        number: 0,
        reason: None,
        is_held: false,
    };
}

impl Run {
    /// A run of no node, with this attempt.
    pub(super) fn new(attempt: Option<Attempt>, until: Timestamp, outcome: Outcome) -> Run {
        let node = NodeIndex::new(0);
        Run { attempt, node, place: 0, until, outcome, report: None }
    }

    fn bytes(&self) -> u64 {
        // The attempt shares its error with the outcome.
        let node = self.attempt.as_ref().map_or(0, |attempt| attempt.node.bytes());
        let Outcome { result, error, integrity, .. } = &self.outcome;
        let outcome = Payload::bytes_of(result) + Payload::bytes_of(error) + ResultIntegrity::bytes_of(integrity);
        let note = |report: &Report| REPORT_BYTES + report.note.as_ref().map_or(0, Name::bytes);
        let report = self.report.as_deref().map_or(0, note);
        RUN_BYTES + node + report + outcome
    }
}

impl<'a> JobView<'a> {
    pub(super) fn new(job: &'a Job, kind: &'a Name, class: &'a ClassKey, client: Option<&'a Name>) -> Self {
        JobView { job, kind, class, client }
    }

    pub fn seq(&self) -> JobSeq {
        self.job.seq
    }

    pub fn kind(&self) -> &'a Name {
        self.kind
    }

    /// The attempt of the job's lease of that generation, if it is kept.
    pub(crate) fn attempt(&self, generation: u32) -> Option<&'a Attempt> {
        let age = rules::leases_since(generation, self.job.history.generation()).filter(|_| generation > 0)?;
        self.job.attempts().nth_back(age as usize)
    }

    pub fn params(&self) -> Option<&'a Payload> {
        self.job.params.as_ref()
    }

    pub fn priority(&self) -> Priority {
        self.job.priority
    }

    /// Which nodes may run it.
    pub fn class(&self) -> &'a ClassKey {
        self.class
    }

    /// The node that submitted it, as its submit named it.
    pub fn client(&self) -> Option<&'a Name> {
        self.client
    }

    pub fn submitted_at(&self) -> Timestamp {
        self.job.submitted_at
    }

    /// When its time to live is over; [`Timestamp::NEVER`] if it has none.
    pub fn expires_at(&self) -> Timestamp {
        self.job.expires_at()
    }

    pub fn attempts_max(&self) -> u32 {
        self.job.attempts_max.into()
    }

    /// The error of its end or, if it has none, of its latest attempt.
    pub fn last_error(&self) -> Option<&'a Payload> {
        self.job.last_error()
    }

    /// When it was requeued last, if it was a dead letter.
    pub fn requeued_at(&self) -> Option<Timestamp> {
        self.job.terms.as_ref()?.rare()?.requeued_at
    }

    /// How many leases it had; this is the generation of the latest one.
    pub fn generation(&self) -> u32 {
        self.job.history.generation()
    }

    /// How many of them were charged as attempts.
    pub fn attempts_charged(&self) -> u32 {
        self.job.history.charged()
    }

    /// How many of them were lost: they expired, or their nodes died.
    pub fn losses(&self) -> u32 {
        self.job.history.losses()
    }

    /// How long one attempt may take, if the job says so.
    pub fn max_run_ms(&self) -> Option<Millis> {
        self.job.max_run_ms()
    }

    /// Progress in percent and a note, as the node of its latest lease reported them.
    pub fn progress(&self) -> (Option<u8>, Option<&'a Name>) {
        match &self.job.stage {
            Stage::Leased(run) | Stage::Final(run) => {
                let report = run.report.as_deref();
                (report.and_then(|report| report.progress), report.and_then(|report| report.note.as_ref()))
            }
            _ => (None, None),
        }
    }

    /// Why no attempt followed, if it ended without success.
    pub fn end_reason(&self) -> Option<EndReason> {
        match &self.job.stage {
            Stage::Final(run) => run.outcome.reason,
            _ => None,
        }
    }

    /// Whether its lease still counts although it is final: its node has not learnt yet that it ended.
    pub fn is_held(&self) -> bool {
        self.held_by().is_some()
    }

    /// The node whose lease still counts although the job is final.
    pub fn held_by(&self) -> Option<NodeIndex> {
        match &self.job.stage {
            Stage::Final(run) if run.outcome.is_held => Some(run.node),
            _ => None,
        }
    }

    /// The latest attempts, oldest first: at most [`crate::limits::ATTEMPTS_KEPT_MAX`].
    pub fn attempts(&self) -> impl DoubleEndedIterator<Item = &'a Attempt> + use<'a> {
        self.job.attempts()
    }

    pub fn state(&self) -> State {
        match &self.job.stage {
            Stage::Dated { run_at } => State::Dated { run_at: *run_at },
            Stage::Scheduled { due_at } => State::Scheduled { due_at: *due_at },
            Stage::Postponed { since } => State::Postponed { since: *since },
            Stage::Queued { since } | Stage::Reserved { since } => State::Queued { since: *since },
            Stage::Leased(run) => State::Leased { node: run.node, until: run.until },
            Stage::Final(run) => {
                let Outcome { status, at, result, error, integrity, number, .. } = &run.outcome;
                let (result, error, integrity) = (result.clone(), error.clone(), integrity.as_deref().copied());
                State::Final { status: *status, at: *at, result, error, integrity, number: *number }
            }
        }
    }

    pub fn is_final(&self) -> bool {
        matches!(self.job.stage, Stage::Final(_))
    }

    /// The name of its state, for a final job that of its [`FinalStatus`].
    pub fn status(&self) -> &'static str {
        self.job.status().as_str()
    }

    /// The latest lease.
    pub fn lease(&self) -> LeaseRef {
        self.job.lease()
    }

    /// The node that does not get it before an instant, if it is a retry that is reserved for other nodes.
    pub fn withheld_from(&self) -> Option<(&'a Name, Timestamp)> {
        Some((self.job.failed_at()?, self.job.reserved_until()?))
    }

    /// The node that holds its lease.
    pub fn leased_to(&self) -> Option<&'a Name> {
        match &self.job.stage {
            Stage::Leased(run) => run.attempt.as_ref().map(|attempt| &attempt.node),
            _ => None,
        }
    }
}

impl EndReason {
    pub const fn as_str(self) -> &'static str {
        match self {
            EndReason::Attempts => "attempts",
            EndReason::NotRetryable => "not_retryable",
            EndReason::RetryBudget => "retry_budget",
            EndReason::Lost => "lost",
            EndReason::Expired => "expired",
        }
    }

    /// The inverse of [`EndReason::as_str`].
    pub fn from_word(word: &str) -> Option<Self> {
        use EndReason::{Attempts, Expired, Lost, NotRetryable, RetryBudget};
        [Attempts, NotRetryable, RetryBudget, Lost, Expired].into_iter().find(|reason| reason.as_str() == word)
    }
}

numbered!(EndReason { 0 Attempts, 1 NotRetryable, 2 RetryBudget, 3 Lost, 4 Expired });

impl EndedJob {
    pub(super) fn new(job: Job, kind: Name, class: std::sync::Arc<ClassKey>, client: Option<Name>) -> Self {
        EndedJob { job, kind, class, client }
    }

    /// Its place in the order of ending.
    pub(crate) fn number(&self) -> u64 {
        self.job.final_number().expect("a dropped job is final")
    }

    pub fn view(&self) -> JobView<'_> {
        JobView::new(&self.job, &self.kind, &self.class, self.client.as_ref())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A job that was just submitted, for the tests of modules that only hold jobs.
    pub fn a_job(seq: u64) -> Job {
        Job {
            seq: JobSeq::new(seq),
            params: None,
            submitted_at: Timestamp::ZERO,
            kind: KindIndex(0),
            class: ClassIndex(0),
            lane: LaneIndex::NONE,
            stage: Stage::Queued { since: Timestamp::ZERO },
            history: AttemptHistory::default(),
            terms: None,
            priority: Priority::Normal,
            attempts_max: 1,
            standing: Standing::default(),
            counted: None,
        }
    }

    #[test]
    fn a_record_is_small() {
        assert!(size_of::<Option<Job>>() <= 88, "{} bytes", size_of::<Option<Job>>());
        assert!(size_of::<Run>() <= 160, "{} bytes", size_of::<Run>());
        assert!(size_of::<Terms>() <= 48, "{} bytes", size_of::<Terms>());
    }
}
