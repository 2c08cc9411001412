//! Model: what a hub should do, written so that it is obviously right, however slow.
//!
//! Everything is a `Vec` and every question a loop over it: no lanes, timers, counts or indexes that could be out of
//! step. It gives the same [`Outcome`]s as the hub, so a run compares them one by one, and the rows and accounts of
//! both once in a while. One thing it shares with the hub on purpose, computed again here from its description: the
//! keyed hash that spreads retries. It has no account of names that jobs share: no run comes near that limit.

mod job;
mod key;
mod node;

use job::ModelJob;
use key::ModelKeys;
use node::ModelNodes;
use sheratan_core::integrity::stored::ResultIntegrity;
use sheratan_core::limits::{
    ATTEMPT_ERROR_BYTES_MAX, CLASSES_MAX, CLASSES_PER_ZONE_MAX, DEFER_MS, LEASE_DURATION_MAX, LEASE_DURATION_MIN,
    Limits, PULL_JOBS_MAX, RECLAIMS_MAX, RESERVED_EXAMINED_MAX, RESERVED_JOBS_MAX,
};
use sheratan_core::{
    Account, Attempt, AttemptEnd, Command, Complete, Completed, CompletedStatus, Counts, Extend, Extended, FinalStatus,
    HubKey, Idempotency, JobSeq, LeaseRef, Leased, LeftOut, Liveness, Millis, Name, NodeIndex, OnDuplicate, OnFailed,
    Outcome, Payload, Pull, Pulled, Refusal, Revocation, RulesVersion, State, Submit, Submitted, Timestamp, Utc,
};

pub use job::ModelJob as Job;
pub use node::{ModelNode as Node, liveness_at};

/// The naive hub.
#[derive(Debug)]
pub struct Model {
    key: HubKey,
    now: Timestamp,
    /// How far the calendar is ahead of `now`.
    offset_ms: i128,
    limits: Limits,
    nodes: ModelNodes,
    jobs: Vec<ModelJob>,
    keys: ModelKeys,
    next_seq: JobSeq,
    rules: RulesVersion,
    /// Final jobs that are still readable, in the order in which they ended, and the dead ones apart.
    ended: Vec<(Timestamp, JobSeq)>,
    dead: Vec<(Timestamp, JobSeq)>,
    next_final_number: u64,
    /// Jobs that ended since the last call of `drain_ended`.
    ended_lately: Vec<JobSeq>,
}

/// What a job ends with.
#[derive(Default)]
struct Sent {
    result: Option<Payload>,
    error: Option<Payload>,
    integrity: Option<ResultIntegrity>,
}

/// The timers. Of two at one instant the variant that is first here fires first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Due {
    JobExpires(JobSeq),
    LeaseEnds(JobSeq),
    JobRuns(JobSeq),
    NodeCheck(NodeIndex),
    KeyForgotten(JobSeq),
    ReservationEnds(JobSeq),
    OldestFinalGoes,
}

impl Model {
    /// A hub without jobs or nodes, under the default limits.
    pub fn new(key: HubKey) -> Self {
        Model {
            key,
            now: Timestamp::ZERO,
            offset_ms: 0,
            limits: Limits::default(),
            nodes: ModelNodes::default(),
            jobs: Vec::new(),
            keys: ModelKeys::default(),
            next_seq: JobSeq::FIRST,
            rules: RulesVersion::FIRST,
            ended: Vec::new(),
            dead: Vec::new(),
            next_final_number: 0,
            ended_lately: Vec::new(),
        }
    }

    /// Applies a command: the outcome that the hub should return. Timers that it makes due at once fire before it
    /// returns.
    pub fn apply(&mut self, now: Timestamp, command: &Command) -> Outcome {
        self.advance(now);
        let outcome = self.carry_out(command);
        self.advance(self.now);
        outcome
    }

    fn carry_out(&mut self, command: &Command) -> Outcome {
        match command {
            Command::Set(settings) => {
                settings.iter().for_each(|setting| self.limits.set(*setting));
                self.nodes.schedule_checks(self.now);
                self.keys.drop_answers(self.now, &self.limits);
                self.drop_beyond_retention();
                Outcome::Done
            }
            Command::AdoptRules(version) if *version >= self.rules && *version <= RulesVersion::NEWEST => {
                self.rules = *version;
                Outcome::Done
            }
            Command::AdoptRules(_) => Outcome::Refused(Refusal::RulesNotTaken),
            Command::Tick => Outcome::Done,
            Command::BeginSalt(_) => {
                self.advance(self.now + Millis::new(1));
                Outcome::Done
            }
            Command::SetCalendar(calendar) => {
                self.offset_ms = calendar.offset_ms().into();
                Outcome::Done
            }
            Command::Slept(duration) => {
                for job in &mut self.jobs {
                    if let State::Leased { until, .. } = &mut job.state {
                        *until = *until + *duration;
                    }
                }
                self.nodes.sleep(*duration);
                self.advance(self.now + *duration);
                Outcome::Done
            }
            Command::Heartbeat(heartbeat) => {
                let bytes = Some(node::bytes_of(heartbeat));
                let jobs = &self.jobs;
                let is_idle = |index| leases_of(jobs, index) == 0;
                match self.nodes.note_heard(self.now, &self.limits, &heartbeat.node, bytes, is_idle) {
                    Err(refusal) => Outcome::Refused(refusal),
                    Ok(node) => {
                        node.zone = heartbeat.zone.clone();
                        node.capabilities = heartbeat.capabilities.clone();
                        Outcome::Heard { node: node.index }
                    }
                }
            }
            Command::NodesSeen(nodes) => {
                nodes.iter().for_each(|node| self.nodes.seen(self.now, &self.limits, *node));
                Outcome::Done
            }
            Command::Submit(submit) => self.submit(submit).map_or_else(Outcome::Refused, Outcome::Submitted),
            Command::Pull(pull) => self.pull(pull).map_or_else(Outcome::Refused, Outcome::Pulled),
            Command::Extend(extend) => {
                let extended: Vec<_> = extend.leases.iter().map(|lease| self.extend(extend, *lease)).collect();
                if extended.iter().any(|lease| matches!(lease, Extended::Until { .. })) {
                    self.note_seen(&extend.node);
                }
                Outcome::Extended(extended)
            }
            Command::Complete(complete) => self.complete(complete).map_or_else(Outcome::Refused, Outcome::Completed),
            Command::Reclaim(leases) => {
                let taken = leases.iter().filter(|lease| self.reclaim(**lease)).map(|lease| lease.job);
                Outcome::Reclaimed(taken.collect())
            }
            other => unreachable!("the traffic has no {other:?}"),
        }
    }

    /// Notes that a node acted, which shows that it is alive.
    fn note_seen(&mut self, node: &Name) {
        if let Some(index) = self.nodes.get(node).map(|node| node.index) {
            self.nodes.seen(self.now, &self.limits, index);
        }
    }

    /// Fires the timers that are due up to `now`, each at its own instant.
    pub fn advance(&mut self, now: Timestamp) {
        let now = now.max(self.now);
        while let Some((at, due)) = self.next_due().filter(|(at, _)| *at <= now) {
            self.now = self.now.max(at);
            self.fire(due);
        }
        self.now = now;
    }

    /// The latest instant seen.
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// The instant of the next timer.
    pub fn next_due_at(&self) -> Option<Timestamp> {
        self.next_due().map(|(at, _)| at)
    }

    /// The jobs in order of submission.
    pub fn jobs(&self) -> &[ModelJob] {
        &self.jobs
    }

    /// The nodes in order of their numbers.
    pub fn nodes(&self) -> &[node::ModelNode] {
        self.nodes.rows()
    }

    /// How many idempotency keys are remembered.
    pub fn key_count(&self) -> usize {
        self.keys.len()
    }

    /// Removes the jobs that ended since the last call, in that order.
    pub fn drain_ended(&mut self) -> Vec<JobSeq> {
        std::mem::take(&mut self.ended_lately)
    }

    /// Jobs by state, counted one by one.
    pub fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for job in &self.jobs {
            match job.state {
                State::Dated { .. } | State::Scheduled { .. } | State::Postponed { .. } => counts.scheduled += 1,
                State::Queued { .. } => counts.queued += 1,
                State::Leased { .. } => counts.leased += 1,
                State::Final { status: FinalStatus::Dead, .. } => counts.dead += 1,
                State::Final { .. } => counts.retained += 1,
            }
        }
        counts
    }

    /// The bytes charged to an account, summed.
    pub fn bytes(&self, account: Account) -> u64 {
        let is_on = |job: &&ModelJob| match (&job.state, account) {
            (State::Dated { .. } | State::Scheduled { .. } | State::Queued { .. }, Account::Waiting) => true,
            (State::Leased { .. }, Account::Leased) => true,
            (State::Final { status, .. }, Account::Dead) => *status == FinalStatus::Dead,
            (State::Final { status, .. }, Account::Retained) => *status != FinalStatus::Dead,
            _ => false,
        };
        match account {
            Account::Answers => self.keys.bytes(),
            Account::Nodes => self.nodes.bytes(),
            _ => self.jobs.iter().filter(is_on).map(ModelJob::bytes).sum(),
        }
    }

    fn unfinished_bytes(&self) -> u64 {
        self.bytes(Account::Waiting) + self.bytes(Account::Leased)
    }

    /// Whether a job is ready that this pull could take.
    pub fn has_job_for(&self, pull: &Pull) -> bool {
        self.ready_for(pull).is_some()
    }

    /// Whether hub and node may have one more lease.
    pub fn has_room_for(&self, node: &Name) -> bool {
        self.counts().leased < self.limits.inflight_max && self.lease_count(node) < self.limits.leases_per_node_max
    }

    fn next_due(&self) -> Option<(Timestamp, Due)> {
        let jobs = self.jobs.iter().flat_map(|job| {
            let expiry = job.is_waiting().then_some((job.expires_at, Due::JobExpires(job.seq)));
            let next = match job.state {
                State::Dated { run_at } => Some((self.instant_of(run_at), Due::JobRuns(job.seq))),
                State::Scheduled { due_at } => Some((due_at, Due::JobRuns(job.seq))),
                State::Leased { until, .. } => Some((until, Due::LeaseEnds(job.seq))),
                _ => None,
            };
            let reserved = job.withheld_from.as_ref().map(|(_, until)| (*until, Due::ReservationEnds(job.seq)));
            expiry.into_iter().chain(next).chain(reserved)
        });
        let nodes = self.nodes.rows().iter().map(|node| (node.next_check_at, Due::NodeCheck(node.index)));
        let keys = self.keys.expiries(&self.limits).map(|(at, job)| (at, Due::KeyForgotten(job)));
        let timed = jobs.chain(nodes).chain(keys).filter(|(at, _)| *at != Timestamp::NEVER);
        let oldest = self.ended.first().into_iter().chain(self.dead.first());
        let oldest = oldest.map(|(at, _)| (*at + self.limits.job_retention_ms, Due::OldestFinalGoes));
        timed.chain(oldest).min()
    }

    fn fire(&mut self, due: Due) {
        match due {
            Due::JobExpires(seq) => self.finish(seq, FinalStatus::Expired, Sent::default()),
            Due::LeaseEnds(seq) => {
                let has_room = self.unfinished_bytes() <= self.limits.queue_bytes_max;
                self.end_attempt(seq, AttemptEnd::Expired { at: self.now });
                let error = Some(Payload::new(b"\"lease expired\""));
                self.retry_or_finish((seq, has_room), true, Sent { error, ..Sent::default() });
            }
            Due::JobRuns(seq) => {
                let since = self.now;
                let withheld_from = self.withheld_from(self.job(seq));
                let job = self.job_mut(seq);
                job.withheld_from = withheld_from;
                job.state = match job.state {
                    State::Dated { .. } if job.not_before > since => State::Scheduled { due_at: job.not_before },
                    _ => State::Queued { since },
                };
            }
            Due::NodeCheck(node) => {
                let is_idle = leases_of(&self.jobs, node) == 0;
                self.nodes.update_liveness(self.now, &self.limits, node, is_idle);
            }
            Due::KeyForgotten(job) => self.keys.remove(job),
            Due::ReservationEnds(seq) => self.job_mut(seq).withheld_from = None,
            Due::OldestFinalGoes => self.drop_oldest_final(),
        }
    }

    /// From which node a job that becomes ready is withheld, and until when: a retry from that of the last attempt, if
    /// another node that could run it is online as well.
    fn withheld_from(&self, job: &ModelJob) -> Option<(Name, Timestamp)> {
        let failed_at = job.failed_at().filter(|_| self.rules >= RulesVersion::new(2))?;
        let is_online = |node: &&node::ModelNode| node.liveness == Liveness::Online;
        self.nodes.get(failed_at).filter(is_online)?;
        let others = self.nodes.rows().iter().filter(|node| node.name != *failed_at).filter(is_online);
        let has_other = others.into_iter().any(|node| job.may_run_on(Some(node)));
        let has_room = self.reserved().len() < RESERVED_JOBS_MAX;
        (has_other && has_room).then(|| (failed_at.clone(), self.now + job::reservation(job.attempts.len() as u32)))
    }

    /// The reserved jobs, the most urgent first.
    fn reserved(&self) -> Vec<&ModelJob> {
        let mut reserved: Vec<_> = self.jobs.iter().filter(|job| job.withheld_from.is_some()).collect();
        reserved.sort_by_key(|job| job.order());
        reserved
    }

    /// What the calendar shows now.
    fn calendar_now(&self) -> Utc {
        let shown = i128::from(self.now.as_millis()) + self.offset_ms;
        if self.now == Timestamp::NEVER { Utc::NEVER } else { Utc::from_millis(clamped(shown)) }
    }

    /// When the calendar shows an instant.
    fn instant_of(&self, utc: Utc) -> Timestamp {
        let at = i128::from(utc.as_millis()) - self.offset_ms;
        if utc == Utc::NEVER { Timestamp::NEVER } else { Timestamp::from_millis(clamped(at)) }
    }

    fn submit(&mut self, submit: &Submit) -> Result<Submitted, Refusal> {
        let mut supersedes = None;
        let mut replaces = None;
        if let Some(idempotency) = &submit.idempotency {
            match self.recognise(idempotency)? {
                Known::No => {}
                Known::Repeat(submitted) => return Ok(submitted),
                Known::Supersedes(job) => supersedes = Some(job),
                Known::Replaces(job) => replaces = Some(job),
            }
        }
        self.check_room(submit, supersedes)?;
        let mut place = None;
        if let Some(old) = supersedes {
            let job = self.job_mut(old);
            job.is_keyed = false;
            if job.is_waiting() {
                place = Some(job.place.unwrap_or(job.seq));
            } else {
                self.end_attempt(old, AttemptEnd::Revoked { at: self.now, why: Revocation::Superseded });
            }
            self.finish_unkeyed(old, FinalStatus::Superseded, Sent::default());
        }
        let seq = self.next_seq;
        self.next_seq = JobSeq::new(seq.get() + 1);
        self.jobs.push(ModelJob::new(seq, (self.now, self.calendar_now()), &self.limits, submit, place));
        if let Some(idempotency) = &submit.idempotency {
            self.keys.bind(self.now, &self.limits, idempotency, seq);
        }
        self.drop_beyond_retention();
        Ok(Submitted::Accepted { job: seq, supersedes, replaces })
    }

    fn recognise(&self, idempotency: &Idempotency) -> Result<Known, Refusal> {
        let Some(row) = self.keys.get(&idempotency.key) else {
            let (keys, keys_max) = (self.keys.len() as u64, self.limits.idempotency_keys_max);
            let has_room = self.keys.has_room(self.now, &self.limits);
            return if has_room { Ok(Known::No) } else { Err(Refusal::KeysFull { keys, keys_max }) };
        };
        let is_same = row.payload_hash == idempotency.payload_hash;
        if !is_same {
            return match (idempotency.on_duplicate, &row.answer) {
                (OnDuplicate::SameResult, _) => {
                    let old_hash_prefix = *row.payload_hash.first_chunk().expect("a hash has 32 bytes");
                    Err(Refusal::KeyCollision { job: row.job, old_hash_prefix })
                }
                (OnDuplicate::LatestWins, None) => Ok(Known::Supersedes(row.job)),
                (OnDuplicate::LatestWins, Some(_)) => Ok(Known::Replaces(row.job)),
            };
        }
        let Some(answer) = &row.answer else {
            return Ok(Known::Repeat(Submitted::InProgress { job: row.job }));
        };
        if answer.status != FinalStatus::Completed && idempotency.on_failed == OnFailed::NewJob {
            return Ok(Known::Replaces(row.job));
        }
        let (status, result, error) = (answer.status, answer.result.clone(), answer.error.clone());
        let integrity = answer.integrity;
        let is_held = self.jobs.iter().any(|job| job.seq == row.job);
        let left_out = match answer.is_whole {
            true => None,
            false if is_held => Some(LeftOut::InJob),
            // At the end of time no instant is told from none.
            false => Some(LeftOut::Gone(answer.gone_at.filter(|at| *at != Timestamp::NEVER))),
        };
        Ok(Known::Repeat(Submitted::Final { job: row.job, status, result, error, integrity, left_out }))
    }

    /// Whether there would be room for the job without the one that it supersedes.
    fn check_room(&self, submit: &Submit, supersedes: Option<JobSeq>) -> Result<(), Refusal> {
        let others = || self.jobs.iter().filter(|job| Some(job.seq) != supersedes);
        let depth_without = others().filter(|job| job.is_waiting()).count() as u64;
        let bytes_without: u64 = others().filter(|job| !job.is_final()).map(ModelJob::bytes).sum();
        let asked_again = Submit { delay_ms: Millis::ZERO, ..submit.clone() };
        let at_start = (Timestamp::ZERO, Utc::ZERO);
        let mut coming = ModelJob::new(self.next_seq, at_start, &self.limits, &asked_again, None);
        // A job whose time to live never ends is charged for its timer all the same.
        coming.is_keyed |= submit.ttl_ms.is_some() || submit.retry_budget_ms.is_some();
        let bytes_max = self.limits.queue_bytes_max;
        if coming.bytes() > bytes_max {
            return Err(Refusal::JobTooLarge { bytes: coming.bytes(), bytes_max });
        }
        // The client is answered with the current numbers.
        let (depth, depth_max) = (self.counts().waiting(), self.limits.queue_depth_max);
        if depth_without >= depth_max {
            return Err(Refusal::QueueFull { depth, depth_max });
        }
        let bytes_with = bytes_without + coming.bytes();
        if bytes_with > bytes_max {
            let (bytes, over) = (self.unfinished_bytes(), bytes_with - bytes_max);
            return Err(Refusal::QueueBytesFull { bytes, bytes_max, depth, over });
        }
        let classes_of = |jobs: &mut dyn Iterator<Item = &ModelJob>| {
            let mut classes: Vec<_> = jobs.filter(|job| !job.is_final()).map(ModelJob::class).collect();
            classes.sort();
            classes.dedup();
            classes
        };
        let (with, without) = (classes_of(&mut self.jobs.iter()), classes_of(&mut others()));
        let own = job::class_of(submit);
        let in_zone =
            |classes: &[sheratan_core::ClassKey]| classes.iter().filter(|class| class.zone == own.zone).count();
        let has_room = without.len() < CLASSES_MAX && in_zone(&without) < CLASSES_PER_ZONE_MAX;
        if with.contains(&own) || has_room {
            return Ok(());
        }
        let (classes, zone_classes) = (with.len() as u64, in_zone(&with) as u64);
        Err(Refusal::ClassesFull { classes, zone: own.zone, zone_classes })
    }

    fn pull(&mut self, pull: &Pull) -> Result<Pulled, Refusal> {
        let inflight = self.jobs.iter().filter(|job| matches!(job.state, State::Leased { .. })).count() as u64;
        let held = self.nodes.get(&pull.node).map_or(0, |node| leases_of(&self.jobs, node.index));
        let nothing = |defer_ms| Ok(Pulled { node: None, leases: Vec::new(), defer_ms, withheld: None });
        if inflight >= self.limits.inflight_max || held >= self.limits.leases_per_node_max {
            return nothing(DEFER_MS);
        }
        if !self.has_job_for(pull) {
            return nothing(Millis::ZERO);
        }
        let jobs = &self.jobs;
        let is_idle = |index| leases_of(jobs, index) == 0;
        let node = self.nodes.note_heard(self.now, &self.limits, &pull.node, None, is_idle)?.index;
        let room = (self.limits.inflight_max - inflight).min(self.limits.leases_per_node_max - held);
        let jobs_max = room.min(u64::from(pull.jobs_max.clamp(1, PULL_JOBS_MAX)));
        let mut leases = Vec::new();
        while leases.len() < jobs_max as usize
            && let Some(seq) = self.ready_for(pull)
        {
            let until = self.now + self.lease_duration(pull.lease_duration_ms, seq);
            let started_at = self.now;
            let job = self.job_mut(seq);
            job.attempts.push(Attempt { node: pull.node.clone(), started_at, end: AttemptEnd::Running });
            job.state = State::Leased { node, until };
            job.withheld_from = None;
            leases.push(Leased { lease: job.last_lease(), until });
        }
        Ok(Pulled { node: Some(node), leases, defer_ms: Millis::ZERO, withheld: None })
    }

    fn extend(&mut self, extend: &Extend, lease: LeaseRef) -> Extended {
        let Some(job) = self.jobs.iter().find(|job| job.seq == lease.job) else { return Extended::LeaseLost };
        let State::Leased { node, until } = job.state else { return Extended::LeaseLost };
        let holder = &job.attempts.last().expect("a leased job has an attempt").node;
        if job.last_lease() != lease || *holder != extend.node {
            return Extended::LeaseLost;
        }
        let is_over = job.expires_at <= self.now;
        let later = until.max(self.now + self.lease_duration(extend.lease_duration_ms, lease.job));
        let until = if is_over { until } else { later };
        self.job_mut(lease.job).state = State::Leased { node, until };
        Extended::Until { until, is_last: is_over }
    }

    fn complete(&mut self, complete: &Complete) -> Result<Completed, Refusal> {
        let seq = complete.job;
        let job = self.jobs.iter().find(|job| job.seq == seq).ok_or(Refusal::UnknownJob)?;
        if let Some(repeated) = job.judge(complete)? {
            return Ok(Completed { job: seq, status: job.answer_of(repeated), is_duplicate: true });
        }
        let (at, mark) = (self.now, complete.mark);
        let latest = job.attempts.last().map(|attempt| attempt.node.clone());
        let unfinished = self.unfinished_bytes();
        let node = if job.is_waiting() {
            let node = complete.node.clone().or(latest).unwrap_or_else(|| Name::new("unnamed").expect("a name"));
            let job = self.job_mut(seq);
            job.attempts.push(Attempt { node: node.clone(), started_at: at, end: AttemptEnd::Running });
            job.state = State::Leased { node: NodeIndex::new(u32::MAX), until: at };
            job.withheld_from = None;
            node
        } else {
            latest.expect("a leased job has an attempt")
        };
        let sent = Sent {
            result: complete.result.clone(),
            error: complete.error.clone(),
            integrity: complete.integrity.as_deref().copied(),
        };
        let status = if complete.ok {
            self.end_attempt(seq, AttemptEnd::Completed { at, mark });
            self.finish(seq, FinalStatus::Completed, Sent { error: None, ..sent });
            CompletedStatus::Final(FinalStatus::Completed)
        } else {
            let is_kept = |error: &Payload| {
                error.len() <= ATTEMPT_ERROR_BYTES_MAX && unfinished + error.len() as u64 <= self.limits.queue_bytes_max
            };
            let error = complete.error.clone().filter(is_kept);
            self.end_attempt(seq, AttemptEnd::Failed { at, mark, error, retry_at: Timestamp::NEVER });
            let has_room = unfinished <= self.limits.queue_bytes_max;
            self.retry_or_finish((seq, has_room), complete.is_retryable, sent)
        };
        if complete.lease.is_some() || complete.node.is_some() {
            self.note_seen(&node);
        }
        Ok(Completed { job: seq, status, is_duplicate: false })
    }

    fn reclaim(&mut self, lease: LeaseRef) -> bool {
        let Some(job) = self.jobs.iter().find(|job| job.seq == lease.job) else { return false };
        let is_running = matches!(job.state, State::Leased { .. }) && job.last_lease() == lease;
        if !is_running || job.uncharged() >= RECLAIMS_MAX {
            return false;
        }
        let has_room = self.unfinished_bytes() <= self.limits.queue_bytes_max;
        self.end_attempt(lease.job, AttemptEnd::Revoked { at: self.now, why: Revocation::Undelivered });
        let now = self.now;
        if self.job(lease.job).expires_at <= now {
            self.finish(lease.job, FinalStatus::Expired, Sent::default());
            return true;
        }
        let job = self.job_mut(lease.job);
        job.state = State::Queued { since: now };
        if !has_room {
            job.forgotten = job.attempts.len() - 1;
        }
        true
    }

    fn retry_or_finish(&mut self, (seq, has_room): (JobSeq, bool), is_retryable: bool, sent: Sent) -> CompletedStatus {
        let job = self.job(seq);
        let attempt = job.attempts.len() as u32;
        let due_at = self.now + job::retry_delay(&self.key, &self.limits, seq, attempt);
        let charged = attempt - job.uncharged();
        let may_retry = is_retryable && charged < job.attempts_max && due_at <= job.retry_until;
        let status = match may_retry {
            false => FinalStatus::Dead,
            true if job.expires_at <= due_at => FinalStatus::Expired,
            true => {
                let job = self.job_mut(seq);
                job.state = State::Scheduled { due_at };
                if !has_room {
                    job.forgotten = job.attempts.len() - 1;
                }
                if let Some(Attempt { end: AttemptEnd::Failed { retry_at, .. }, .. }) = job.attempts.last_mut() {
                    *retry_at = due_at;
                }
                return CompletedStatus::RetryScheduled(due_at);
            }
        };
        self.finish(seq, status, sent);
        CompletedStatus::Final(status)
    }

    fn finish(&mut self, seq: JobSeq, status: FinalStatus, sent: Sent) {
        self.keys.spend(self.now, &self.limits, seq, status, &sent);
        self.job_mut(seq).is_keyed = false;
        self.finish_unkeyed(seq, status, sent);
        self.drop_beyond_retention();
    }

    fn finish_unkeyed(&mut self, seq: JobSeq, status: FinalStatus, sent: Sent) {
        let (at, number) = (self.now, self.next_final_number);
        self.next_final_number += 1;
        let job = self.job_mut(seq);
        job.ended_under_lease = !job.is_waiting();
        let Sent { result, error, integrity } = sent;
        job.state = State::Final { status, at, result, error, integrity, number };
        job.withheld_from = None;
        let ended = if status == FinalStatus::Dead { &mut self.dead } else { &mut self.ended };
        ended.push((at, seq));
        self.ended_lately.push(seq);
    }

    fn drop_beyond_retention(&mut self) {
        while self.ended.len() as u64 > self.limits.retained_jobs_max
            || self.bytes(Account::Retained) > self.limits.retained_bytes_max
        {
            let (_, seq) = self.ended.remove(0);
            self.drop_job(seq);
        }
        while self.dead.len() as u64 > self.limits.dead_jobs_max
            || self.bytes(Account::Dead) > self.limits.dead_bytes_max
        {
            let (_, seq) = self.dead.remove(0);
            self.drop_job(seq);
        }
    }

    /// Of two that ended at one instant the dead one is dropped later.
    fn drop_oldest_final(&mut self) {
        let is_dead = match (self.ended.first(), self.dead.first()) {
            (Some((ended, _)), Some((dead, _))) => dead < ended,
            (ended, _) => ended.is_none(),
        };
        let (_, seq) = if is_dead { self.dead.remove(0) } else { self.ended.remove(0) };
        self.drop_job(seq);
    }

    fn drop_job(&mut self, seq: JobSeq) {
        self.jobs.retain(|job| job.seq != seq);
        self.keys.note_dropped(self.now, seq);
    }

    fn end_attempt(&mut self, seq: JobSeq, end: AttemptEnd) {
        self.job_mut(seq).attempts.last_mut().expect("a leased job has an attempt").end = end;
    }

    /// The job that this pull leases first. Of the reserved jobs only the most urgent ones are looked at.
    fn ready_for(&self, pull: &Pull) -> Option<JobSeq> {
        let node = self.nodes.get(&pull.node);
        let is_withheld = |job: &&ModelJob| matches!(&job.withheld_from, Some((from, _)) if *from == pull.node);
        let reserved = self.reserved().into_iter().take(RESERVED_EXAMINED_MAX).filter(|job| !is_withheld(job));
        let for_all = self.jobs.iter().filter(|job| matches!(job.state, State::Queued { .. }));
        let ready = for_all.filter(|job| job.withheld_from.is_none()).chain(reserved);
        let wanted = ready.filter(|job| pull.kinds.is_empty() || pull.kinds.contains(&job.asked.kind));
        wanted.filter(|job| job.may_run_on(node)).min_by_key(|job| job.order()).map(|job| job.seq)
    }

    fn lease_duration(&self, asked: Option<Millis>, seq: JobSeq) -> Millis {
        let own = self.job(seq).asked.lease_duration_ms;
        asked.or(own).unwrap_or(self.limits.lease_duration_ms).clamp(LEASE_DURATION_MIN, LEASE_DURATION_MAX)
    }

    fn job(&self, seq: JobSeq) -> &ModelJob {
        self.jobs.iter().find(|job| job.seq == seq).expect("the model looks up jobs that it has")
    }

    fn job_mut(&mut self, seq: JobSeq) -> &mut ModelJob {
        self.jobs.iter_mut().find(|job| job.seq == seq).expect("the model looks up jobs that it has")
    }

    /// How many leases a node holds.
    pub fn lease_count(&self, node: &Name) -> u64 {
        self.nodes.get(node).map_or(0, |node| leases_of(&self.jobs, node.index))
    }

    /// The limits in force.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }
}

fn leases_of(jobs: &[ModelJob], index: NodeIndex) -> u64 {
    let is_its = |job: &&ModelJob| matches!(job.state, State::Leased { node, .. } if node == index);
    jobs.iter().filter(is_its).count() as u64
}

/// No instant is before 1970.
fn clamped(ms: i128) -> u64 {
    ms.clamp(0, u64::MAX.into()) as u64
}

/// What the lookup of a submit's key returns.
enum Known {
    No,
    Repeat(Submitted),
    Supersedes(JobSeq),
    Replaces(JobSeq),
}
