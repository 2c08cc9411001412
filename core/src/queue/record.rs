//! Records: jobs as a snapshot stores them, and the queue restored from them. Lanes, timers, leases and counts are not
//! written: they are derived from the jobs.

use super::class::{ClassKey, JobPlace, LaneIndex};
use super::client::ClientRef;
use super::job::{EndReason, Hash, Job, Outcome, Rare, Report, Run, Stage, Standing, Terms};
use super::kind::KindRecord;
use super::lane::TURN_MAX;
use super::lease::{Attempt, AttemptEnd, AttemptHistory};
use super::letters::Letter;
use super::{Queue, insert_reservation};
use crate::command::Priority;
use crate::context::Context;
use crate::encoding::{members, numbered};
use crate::ids::{JobSeq, NodeIndex};
use crate::integrity::stored::ResultIntegrity;
use crate::limits::{ATTEMPTS_KEPT_MAX, REVOCATIONS_MAX};
use crate::name::Name;
use crate::name_set::NameSet;
use crate::outcome::FinalStatus;
use crate::payload::Payload;
use crate::registry::Registry;
use crate::rules;
use crate::time::{Millis, Timestamp, Utc};
use crate::timers::{Timer, Timers};
use crate::zone::Zone;
use std::collections::BTreeSet;
use std::num::NonZeroU64;

/// A job as a snapshot stores it. Which members are present depends on its state.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct JobRecord {
    seq: JobSeq,
    kind: Name,
    params: Option<Payload>,
    priority: Priority,
    zone: Zone,
    requires: NameSet,
    submitted_at: Timestamp,
    expires_at: Option<Timestamp>,
    retry_until: Option<Timestamp>,
    lease_duration_ms: Option<Millis>,
    place: Option<JobSeq>,
    attempts_max: u32,
    generation: u32,
    charged: u32,
    /// The kept attempts, oldest first.
    attempts: Vec<Attempt>,
    stage: StageKind,
    /// By stage: when it is due, when it became ready, when its lease ends, or when it ended.
    at: Timestamp,
    node: Option<NodeIndex>,
    /// Whether the last attempt is that of the current lease or, of a final job, the one that ended it.
    has_run: bool,
    status: Option<FinalStatus>,
    result: Option<Payload>,
    error: Option<Payload>,
    final_number: Option<u64>,
    /// The instant of the calendar that it waits for; `at` is the end of its delay then.
    run_at: Option<Utc>,
    client: Option<Name>,
    /// The checksum of the result that ended it.
    integrity: Option<Box<ResultIntegrity>>,
    losses: u32,
    /// Absent if these are all leases that were neither charged nor lost.
    returns: Option<u32>,
    max_run_ms: Option<Millis>,
    requeued_at: Option<Timestamp>,
    /// The hash of the idempotency key that a dead job had.
    dead_key: Option<u128>,
    reason: Option<EndReason>,
    progress: Option<u8>,
    note: Option<Name>,
    /// When the held lease of a final job ends; `node` holds it.
    held_until: Option<Timestamp>,
    turn: Option<u64>,
    /// How many levels higher than its priority it counts.
    aged: u8,
    revocations: u8,
    /// The job whose run it waits for.
    after: Option<JobSeq>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum StageKind {
    Scheduled,
    Queued,
    Leased,
    Final,
    Reserved,
    Postponed,
}

members!(JobRecord {
    1 seq: required,
    2 kind: required,
    3 params,
    4 priority,
    5 zone,
    6 requires,
    7 submitted_at: required,
    8 expires_at,
    9 retry_until,
    10 lease_duration_ms,
    11 place,
    12 attempts_max: required,
    13 generation,
    14 charged,
    15 attempts,
    16 stage: required,
    17 at: required,
    18 node,
    19 has_run,
    20 status,
    21 result,
    22 error,
    23 final_number,
    24 run_at,
    25 client,
    26 integrity,
    27 losses,
    28 returns,
    29 max_run_ms,
    30 requeued_at,
    31 dead_key,
    32 reason,
    33 progress,
    34 note,
    35 held_until,
    36 turn,
    37 aged,
    38 revocations,
    39 after,
});

numbered!(StageKind { 0 Scheduled, 1 Queued, 2 Leased, 3 Final, 4 Reserved, 5 Postponed });

impl Queue {
    /// The records of the kinds with rules, in the order of their names.
    pub(crate) fn kind_records(&self) -> impl Iterator<Item = KindRecord> {
        self.kinds.records()
    }

    /// The version of kinds without rules.
    pub(crate) fn kind_version_floor(&self) -> u64 {
        self.kinds.version_floor()
    }

    pub(crate) fn restore_kind_version_floor(&mut self, version: u64) {
        self.kinds.restore_version_floor(version);
    }

    /// The records of all jobs, in order of submission.
    pub(crate) fn records(&self, timers: &Timers) -> impl Iterator<Item = JobRecord> {
        self.table.iter_from(JobSeq::FIRST).map(|job| self.record(timers, job))
    }

    /// The numbers that the next job and the next final job get.
    pub(crate) fn next_numbers(&self) -> (JobSeq, u64) {
        (self.next_seq, self.retention.next_number())
    }

    pub(crate) fn restore_next_numbers(&mut self, (next_seq, next_final_number): (JobSeq, u64)) {
        self.next_seq = next_seq;
        self.retention.restore_next_number(next_final_number);
    }

    /// Restores a job of a snapshot; `taken_places` are the places of older jobs that earlier records took. The error
    /// says what contradicts earlier records, or the record itself.
    pub(crate) fn restore(
        &mut self,
        cx: &mut Context,
        registry: &mut Registry,
        taken_places: &mut BTreeSet<JobSeq>,
        record: JobRecord,
    ) -> Result<(), &'static str> {
        let seq = record.seq;
        if !(JobSeq::FIRST..self.next_seq).contains(&seq)
            || self.table.iter_back_from(self.next_seq).next().is_some_and(|last| seq <= last.seq)
        {
            return Err(
                "jobs are not in the order of their numbers, or one has a number that the hub has not given yet",
            );
        }
        let key = ClassKey { zone: record.zone.clone(), requires: record.requires.clone() };
        if record.stage != StageKind::Final && self.classes.admit(&key, None).is_err() {
            return Err("there are more classes of jobs than the hub may have");
        }
        if record.stage != StageKind::Final {
            // A requeued job has a place after its own, whose number no job has.
            let is_taken = match record.place {
                None => taken_places.contains(&seq),
                Some(place) => {
                    let older = self.table.get(place);
                    place == seq
                        || place >= self.next_seq
                        || older.is_some_and(|older| older.final_number().is_none())
                        || !taken_places.insert(place)
                }
            };
            if is_taken {
                return Err("two jobs have the same place in the order, or one has a place that was not given yet");
            }
        }
        if record.final_number.is_some_and(|number| number >= self.retention.next_number()) {
            return Err("a job ended with a number that the hub has not given yet");
        }
        let place = match (record.stage, record.node) {
            (_, Some(node)) if registry.get(node).is_none() => {
                return Err("a job is leased to a node that does not exist");
            }
            (StageKind::Leased | StageKind::Final, Some(node)) => self.leases.insert(node, &record.zone, seq),
            _ => 0,
        };
        let kind = self.kinds.add_job(cx.ledger, self.kinds.find(&record.kind), &record.kind);
        let (class, lane) = match record.stage {
            StageKind::Final => (self.classes.add_retained(cx.ledger, key), LaneIndex::NONE),
            _ => self.classes.add_unfinished(cx.ledger, &mut self.kinds, None, key, kind),
        };
        let not_before = record.at;
        if let Some(older) = record.after {
            let is_leased = |job: &Job| matches!(job.stage, Stage::Leased(_));
            let is_first = self.successors.newer(older).is_none();
            if record.stage != StageKind::Scheduled || !is_first || !self.table.get(older).is_some_and(is_leased) {
                return Err("a job waits for a run that there is not");
            }
            self.successors.insert(older, seq);
        }
        let client = record.client.as_ref().map(|name| self.clients.add_job(name));
        let job = record.into_job(registry, JobPlace { class, kind, lane }, place, client)?;
        // At this very instant a leased job's timer may have fired; a waiting job's has not, or the job would be final.
        let is_final = matches!(job.stage, Stage::Final(_));
        if job.is_waiting() || (!is_final && job.expires_at() > cx.now) {
            cx.timers.set(job.expires_at(), Timer::JobExpires(seq));
        }
        let (account, bytes) = job.charge();
        cx.ledger.charge(account, bytes);
        match &job.stage {
            Stage::Dated { run_at } => {
                self.scheduled += 1;
                cx.timers.set_dated(*run_at, seq, not_before);
            }
            Stage::Scheduled { due_at } => {
                self.scheduled += 1;
                cx.timers.set(*due_at, Timer::JobDue(seq));
            }
            Stage::Postponed { .. } => self.scheduled += 1,
            Stage::Queued { .. } => {
                self.scheduled += 1;
                self.make_ready(job.place(), job.rank(), seq);
            }
            Stage::Reserved { .. } => {
                if !self.reserved.has_room() {
                    return Err("more retries are reserved than the hub may reserve");
                }
                self.queued += 1;
                insert_reservation(&mut self.reserved, cx.timers, &job);
            }
            Stage::Leased(run) => {
                registry.add_lease(run.node);
                self.kinds.row_mut(job.kind).add_lease();
                cx.timers.set(run.until, Timer::LeaseEnds(seq));
            }
            Stage::Final(run) => {
                if let Some(client) = job.client() {
                    self.clients.add_result(client, run.outcome.number, seq);
                }
                if run.outcome.is_held {
                    self.leases.held += 1;
                    registry.add_lease(run.node);
                    self.kinds.row_mut(job.kind).add_lease();
                    cx.timers.set(run.until, Timer::LeaseEnds(seq));
                }
                if run.outcome.status == FinalStatus::Dead {
                    let letter = Letter { at: run.outcome.at, job: seq, kind: job.kind, bytes };
                    self.retention.restore_letter(run.outcome.number, letter)?;
                } else {
                    self.retention.restore(run.outcome.at, seq);
                }
            }
        }
        self.table.insert(job);
        Ok(())
    }

    /// All jobs of a snapshot are restored: puts the final ones in the order in which they ended, and closes the kinds
    /// whose gates are closed. O(n log n).
    pub(crate) fn restored(&mut self, cx: &mut Context) {
        self.count_changes();
        self.clients.restored(self.first_number_after_gaps());
        self.restore_postponed(cx);
        self.restore_ageing(cx);
        self.kinds.ruled_indexes().into_iter().for_each(|kind| self.update_gate(cx, kind));
        let table = &self.table;
        self.retention.restored(|seq| match table.get(seq).map(|job| &job.stage) {
            Some(Stage::Final(run)) => rules::retention_order(run.outcome.number),
            _ => unreachable!("only final jobs are among the final ones"),
        });
    }

    /// The first final number from which on no final job is missing.
    fn first_number_after_gaps(&self) -> u64 {
        let mut numbers: Vec<_> = self.table.iter_from(JobSeq::FIRST).filter_map(Job::final_number).collect();
        numbers.sort_unstable();
        let mut first = self.retention.next_number();
        while numbers.pop().is_some_and(|number| number + 1 == first) {
            first -= 1;
        }
        first
    }

    fn record(&self, timers: &Timers, job: &Job) -> JobRecord {
        let class = self.classes.key(job.class);
        let terms = job.terms.as_deref();
        let mut record = JobRecord {
            seq: job.seq,
            kind: self.kinds.name(job.kind).clone(),
            params: job.params.clone(),
            priority: job.priority,
            zone: class.zone.clone(),
            requires: class.requires.clone(),
            submitted_at: job.submitted_at,
            expires_at: Some(job.expires_at()).filter(|at| *at != Timestamp::NEVER),
            retry_until: Some(job.retry_until()).filter(|at| *at != Timestamp::NEVER),
            lease_duration_ms: job.lease_duration_ms(),
            place: terms.and_then(Terms::place),
            attempts_max: job.attempts_max.into(),
            generation: job.history.generation(),
            charged: job.history.charged(),
            attempts: job.attempts().cloned().collect(),
            stage: StageKind::Scheduled,
            at: Timestamp::ZERO,
            node: None,
            has_run: false,
            status: None,
            result: None,
            error: None,
            final_number: None,
            run_at: None,
            client: job.client().map(|client| self.clients.name(client.index).clone()),
            integrity: None,
            losses: job.history.losses(),
            returns: Some(job.history.returns()).filter(|returns| *returns != job.history.unpaid()),
            max_run_ms: job.max_run_ms(),
            requeued_at: terms.and_then(Terms::rare).and_then(|rare| rare.requeued_at),
            dead_key: job.dead_key(),
            reason: None,
            progress: None,
            note: None,
            held_until: None,
            turn: Some(job.turn()).filter(|turn| *turn > 0),
            aged: job.standing.aged(),
            revocations: job.standing.revocations(),
            after: self.successors.older(job.seq),
        };
        if let Stage::Leased(run) | Stage::Final(run) = &job.stage {
            let report = run.report.as_deref().cloned().unwrap_or_default();
            (record.progress, record.note) = (report.progress, report.note);
        }
        match &job.stage {
            Stage::Dated { run_at } => {
                (record.at, record.run_at) = (timers.not_before(*run_at, job.seq), Some(*run_at));
            }
            Stage::Scheduled { due_at } => (record.stage, record.at) = (StageKind::Scheduled, *due_at),
            Stage::Queued { since } => (record.stage, record.at) = (StageKind::Queued, *since),
            Stage::Postponed { since } => (record.stage, record.at) = (StageKind::Postponed, *since),
            Stage::Reserved { since } => (record.stage, record.at) = (StageKind::Reserved, *since),
            Stage::Leased(run) => {
                (record.stage, record.at) = (StageKind::Leased, run.until);
                (record.node, record.has_run) = (Some(run.node), true);
            }
            Stage::Final(run) => {
                let Outcome { status, at, result, error, integrity, number, reason, .. } = &run.outcome;
                record.reason = *reason;
                if run.outcome.is_held {
                    (record.node, record.held_until) = (Some(run.node), Some(run.until));
                }
                (record.stage, record.at, record.has_run) = (StageKind::Final, *at, run.attempt.is_some());
                (record.status, record.final_number) = (Some(*status), Some(*number));
                (record.result, record.error) = (result.clone(), error.clone());
                record.integrity.clone_from(integrity);
            }
        }
        record
    }
}

impl JobRecord {
    fn into_job(
        mut self,
        registry: &Registry,
        job_place: JobPlace,
        place: u32,
        client: Option<ClientRef>,
    ) -> Result<Job, &'static str> {
        for attempt in &mut self.attempts {
            // All attempts of a known node share the text of its name.
            if let Some(node) = registry.by_name(&attempt.node) {
                attempt.node = node.name().clone();
            }
        }
        let attempt = if self.has_run { self.attempts.pop() } else { None };
        let is_running = |attempt: &Attempt| attempt.end == AttemptEnd::Running;
        if self.has_run != attempt.is_some()
            || (self.has_run && !matches!(self.stage, StageKind::Leased | StageKind::Final))
            || self.attempts.iter().any(is_running)
            || attempt.as_ref().is_some_and(is_running) != (self.stage == StageKind::Leased)
            || u64::from(self.charged) + u64::from(self.losses) > u64::from(self.generation)
            || self.attempts.len() + usize::from(self.has_run) > ATTEMPTS_KEPT_MAX.min(self.generation as usize)
        {
            return Err("a job's attempts contradict its state");
        }
        if self.run_at.is_some() && self.stage != StageKind::Scheduled {
            return Err("a job that does not wait for an instant has one");
        }
        if self.integrity.is_some() && self.stage != StageKind::Final {
            return Err("a job that has not ended has the checksum of a result");
        }
        let has_report = self.progress.is_some() || self.note.is_some();
        let report = has_report.then(|| Box::new(Report { progress: self.progress, note: self.note }));
        let stage = match (self.stage, self.node, self.status, self.final_number) {
            (StageKind::Scheduled, None, None, None) => match self.run_at {
                Some(run_at) => Stage::Dated { run_at },
                None => Stage::Scheduled { due_at: self.at },
            },
            (StageKind::Queued, None, None, None) => Stage::Queued { since: self.at },
            (StageKind::Postponed, None, None, None) => Stage::Postponed { since: self.at },
            (StageKind::Reserved, None, None, None) => Stage::Reserved { since: self.at },
            (StageKind::Leased, Some(node), None, None) => {
                Stage::Leased(Box::new(Run { node, place, report, ..Run::new(attempt, self.at, Outcome::NONE) }))
            }
            (StageKind::Final, node, Some(status), Some(number))
                if node.is_some() == self.held_until.is_some() && (node.is_none() || attempt.is_some()) =>
            {
                let (result, error, integrity, reason) = (self.result, self.error, self.integrity, self.reason);
                let is_held = node.is_some();
                let outcome = Outcome { status, at: self.at, result, error, integrity, number, reason, is_held };
                let (node, until) = (node.unwrap_or(NodeIndex::new(0)), self.held_until.unwrap_or(self.at));
                Stage::Final(Box::new(Run { node, place, report, ..Run::new(attempt, until, outcome) }))
            }
            _ => return Err("a job's members contradict its state"),
        };
        let terms = Terms::new(
            self.expires_at.unwrap_or(Timestamp::NEVER),
            self.retry_until.unwrap_or(Timestamp::NEVER),
            self.lease_duration_ms,
            self.place,
        );
        if self.aged > self.priority as u8 {
            return Err("a job has aged into a level that there is not");
        }
        if self.revocations > REVOCATIONS_MAX {
            return Err("more leases were taken from jobs of a key than may be");
        }
        let mut standing = Standing::default();
        standing.set_aged(self.aged);
        standing.set_revocations(self.revocations);
        if self.turn.is_some_and(|turn| turn > TURN_MAX) {
            return Err("a job has a turn that there is not");
        }
        let rare = Rare {
            max_run_ms: self.max_run_ms,
            requeued_at: self.requeued_at,
            dead_key: self.dead_key.map(Hash::new),
            turn: self.turn.and_then(NonZeroU64::new),
        };
        let mut terms = terms.with_rare(rare);
        terms.client = client;
        let unpaid = self.generation.saturating_sub(self.charged + self.losses);
        let counts = [self.charged, self.losses, self.returns.unwrap_or(unpaid.min(u16::MAX.into()))];
        let history = AttemptHistory::restore(self.generation, counts, self.attempts);
        let job = Job {
            seq: self.seq,
            params: self.params,
            submitted_at: self.submitted_at,
            kind: job_place.kind,
            class: job_place.class,
            lane: job_place.lane,
            stage,
            history: history.ok_or("a job has more attempts than can be counted")?,
            terms: (terms != Terms::default()).then(|| Box::new(terms)),
            priority: self.priority,
            attempts_max: u8::try_from(self.attempts_max).map_err(|_| "a job may have more attempts than the limit")?,
            standing,
            counted: None,
        };
        if matches!(job.stage, Stage::Postponed { .. }) && job.attempts().next_back().is_none() {
            return Err("a retry is postponed although there was no attempt");
        }
        if matches!(job.stage, Stage::Reserved { .. }) && job.failed_at().is_none() {
            return Err("a job is reserved although no attempt failed");
        }
        Ok(job)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encoding::{Encoded, Reader};
    use crate::hub::Hub;
    use crate::ids::HubKey;
    use crate::queue::lease::tests::attempt;

    fn at(ms: u64) -> Timestamp {
        Timestamp::from_millis(ms)
    }

    /// A job that waits.
    fn queued(seq: u64) -> JobRecord {
        let mut bytes = Vec::new();
        let record = JobRecord {
            seq: JobSeq::new(seq),
            kind: Name::new("k").unwrap(),
            params: None,
            priority: Priority::Normal,
            zone: Zone::DEFAULT,
            requires: NameSet::EMPTY,
            submitted_at: at(1),
            expires_at: None,
            retry_until: None,
            lease_duration_ms: None,
            place: None,
            attempts_max: 3,
            generation: 0,
            charged: 0,
            attempts: Vec::new(),
            stage: StageKind::Queued,
            at: at(1),
            node: None,
            has_run: false,
            status: None,
            result: None,
            error: None,
            final_number: None,
            run_at: None,
            client: None,
            integrity: None,
            losses: 0,
            returns: None,
            max_run_ms: None,
            requeued_at: None,
            dead_key: None,
            reason: None,
            progress: None,
            note: None,
            held_until: None,
            turn: None,
            aged: 0,
            revocations: 0,
            after: None,
        };
        record.encode(&mut bytes);
        let decoded = JobRecord::decode(&mut Reader::new(&bytes));
        assert_eq!(decoded.as_ref(), Ok(&record));
        record
    }

    fn ended(seq: u64, number: u64) -> JobRecord {
        let (status, final_number) = (Some(FinalStatus::Expired), Some(number));
        JobRecord { stage: StageKind::Final, status, final_number, ..queued(seq) }
    }

    fn restore(records: Vec<JobRecord>) -> Result<(), &'static str> {
        let (mut hub, mut taken_places) = (Hub::new(HubKey::new([1; 16])), BTreeSet::new());
        hub.queue.restore_next_numbers((JobSeq::new(9), 5));
        records.into_iter().try_for_each(|record| hub.restore_job(&mut taken_places, record))
    }

    #[test]
    fn jobs_that_contradict_each_other_or_themselves_are_refused() {
        let in_place = |seq, place| JobRecord { place: Some(JobSeq::new(place)), ..queued(seq) };
        let tried = |generation, attempts: usize| {
            let attempts = vec![attempt(AttemptEnd::Expired { at: at(2) }); attempts];
            JobRecord { generation, charged: generation, attempts, ..queued(3) }
        };
        let good = [
            vec![queued(1), queued(8)],
            vec![ended(1, 4), in_place(3, 1), in_place(4, 2)],
            vec![in_place(3, 7), queued(6)],
            vec![tried(1, 1)],
            vec![tried(40, ATTEMPTS_KEPT_MAX)],
            vec![JobRecord { stage: StageKind::Reserved, ..tried(1, 1) }],
        ];
        for records in good {
            assert_eq!(restore(records.clone()), Ok(()), "{records:?}");
        }
        let bad = [
            vec![queued(0)],
            vec![queued(9)],
            vec![queued(2), queued(2)],
            vec![queued(2), queued(1)],
            vec![in_place(3, 9)],
            vec![in_place(3, 4), queued(4)],
            vec![queued(1), in_place(3, 1)],
            vec![in_place(3, 1), in_place(4, 1)],
            vec![ended(1, 5)],
            vec![tried(0, 1)],
            vec![tried(1, 2)],
            vec![tried(40, ATTEMPTS_KEPT_MAX + 1)],
            vec![JobRecord { charged: 1, ..queued(1) }],
            vec![JobRecord { node: Some(NodeIndex::new(0)), ..queued(1) }],
            vec![JobRecord { has_run: true, ..queued(1) }],
            vec![JobRecord { has_run: true, ..tried(2, 2) }],
            vec![JobRecord { stage: StageKind::Leased, ..queued(1) }],
            vec![JobRecord { stage: StageKind::Leased, node: Some(NodeIndex::new(0)), ..queued(1) }],
            vec![JobRecord { final_number: None, ..ended(1, 0) }],
            vec![JobRecord { attempts_max: 256, ..queued(1) }],
            vec![JobRecord { run_at: Some(Utc::from_millis(5)), ..queued(1) }],
            vec![JobRecord { stage: StageKind::Reserved, ..queued(1) }],
        ];
        for records in bad {
            assert!(restore(records.clone()).is_err(), "{records:?}");
        }
    }
}
