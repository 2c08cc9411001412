//! Model: what a hub should do, written so that it is obviously right, however slow.
//!
//! Everything is a `Vec` and every question a loop over it: no lanes, timers, counts or indexes that could be out of
//! step. It gives the same [`Outcome`]s as the hub, so a run compares them one by one, and the rows and accounts of
//! both once in a while. One thing it shares with the hub on purpose, computed again here from its description: the
//! keyed hash that spreads retries. It has no account of names that jobs share: no run comes near that limit. Nor has it
//! more groups that take turns than a level remembers.

mod budget;
mod ending;
mod job;
mod key;
mod kind;
mod lease;
mod node;
mod operator;
mod order;
mod orphan;
mod submit;
mod token;

use budget::ModelBudget;
use ending::Sent;
use job::ModelJob;
use key::ModelKeys;
use kind::ModelKinds;
use node::ModelNodes;
use operator::ModelAct;
use order::ModelOrder;
use orphan::ModelOrphans;
use sheratan_core::limits::{
    HEAP_HEADER_BYTES, LEASE_DURATION_MAX, LEASE_DURATION_MIN, Limits, RESERVED_EXAMINED_MAX, RESERVED_JOBS_MAX,
    RUN_BYTES,
};
use sheratan_core::{
    Account, AttemptEnd, Command, Counts, Extended, FinalStatus, HubKey, Ids, JobSeq, Liveness, Millis, Name,
    NodeIndex, Outcome, ParkResult, Pull, Refusal, Released, Revocation, RulesVersion, State, Timestamp, TokenDigest,
    TokenVerdict, Utc,
};
use token::ModelTokens;

pub use job::{ModelJob as Job, Toll};
pub use kind::ModelKind as Kind;
pub use node::{ModelNode as Node, liveness_at};
pub use operator::ModelAct as Act;

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
    kinds: ModelKinds,
    budget: ModelBudget,
    acts: Vec<ModelAct>,
    next_act: u32,
    orphans: ModelOrphans,
    order: ModelOrder,
    tokens: ModelTokens,
    next_seq: JobSeq,
    rules: RulesVersion,
    next_final_number: u64,
    /// Jobs that ended within the current command or timer, with what their keys answer from then on.
    ended_now: Vec<(JobSeq, FinalStatus, Option<Sent>)>,
    /// Jobs that ended since the last call of `drain_ended`.
    ended_lately: Vec<JobSeq>,
}

/// From these rules on losses are counted apart, retries have a budget, letters rules of their own.
const CONTROLLED_DEGRADATION: RulesVersion = RulesVersion::new(3);

/// The timers. Of two at one instant the variant that is first here fires first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Due {
    JobExpires(JobSeq),
    LeaseEnds(JobSeq),
    JobRuns(JobSeq),
    NodeCheck(NodeIndex),
    /// Of a key with a time to live of its own.
    KeyForgotten(JobSeq),
    ReservationEnds(JobSeq),
    PauseEnds(usize),
    RetryReleased(JobSeq),
    CreditComes,
    ActSteps(u32),
    JobsVisited,
    JobsAge,
    OldestFinalGoes,
    OldestKeyGoes(JobSeq),
    RotationEnds,
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
            kinds: ModelKinds::default(),
            budget: ModelBudget::default(),
            acts: Vec::new(),
            next_act: 0,
            orphans: ModelOrphans::default(),
            order: ModelOrder::default(),
            tokens: ModelTokens::default(),
            next_seq: JobSeq::FIRST,
            rules: RulesVersion::FIRST,
            next_final_number: 0,
            ended_now: Vec::new(),
            ended_lately: Vec::new(),
        }
    }

    /// Applies a command: the outcome that the hub should return. Timers that it makes due at once fire before it
    /// returns. `ids` are the hub's, which alone knows how it spells them.
    pub fn apply(&mut self, now: Timestamp, command: &Command, ids: &Ids) -> Outcome {
        self.advance(now);
        let outcome = self.carry_out(command, ids);
        if !matches!(outcome, Outcome::Refused(_)) {
            self.follow_up();
            self.advance(self.now);
        }
        outcome
    }

    fn carry_out(&mut self, command: &Command, ids: &Ids) -> Outcome {
        match command {
            Command::Set(settings) => {
                self.settle_budget();
                let (fair_by, priority_age_ms) = (self.limits.fair_by, self.limits.priority_age_ms);
                settings.iter().for_each(|setting| self.limits.set(*setting));
                self.reorder(fair_by, priority_age_ms);
                self.orphans.enforce(&self.limits);
                self.nodes.schedule_checks(self.now);
                self.keys.drop_answers(self.now, &self.limits);
                Outcome::Done
            }
            Command::AdoptRules(version) if *version >= self.rules && *version <= RulesVersion::NEWEST => {
                let is_first = !self.has_degradation() && *version >= CONTROLLED_DEGRADATION;
                self.rules = *version;
                if is_first {
                    self.budget.begin(self.now, &self.limits);
                }
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
                    if let Some((_, until)) = &mut job.held {
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
                let index = match self.nodes.note_heard(self.now, &self.limits, &heartbeat.node, bytes, is_idle) {
                    Err(refusal) => return Outcome::Refused(refusal),
                    Ok(node) => {
                        node.zone = heartbeat.zone.clone();
                        node.capabilities = heartbeat.capabilities.clone();
                        node.index
                    }
                };
                self.note_heartbeat(index);
                Outcome::Heard { node: index }
            }
            Command::NodesSeen(nodes) => {
                for node in nodes {
                    self.nodes.seen(self.now, &self.limits, *node);
                    self.note_heartbeat(*node);
                }
                Outcome::Done
            }
            Command::Submit(submit) => self.submit(submit).map_or_else(Outcome::Refused, Outcome::Submitted),
            Command::Pull(pull) => self.pull(pull).map_or_else(Outcome::Refused, Outcome::Pulled),
            Command::Extend(extend) => {
                let extended: Vec<_> = extend.leases.iter().map(|lease| self.extend(extend, *lease)).collect();
                if extended.iter().any(|lease| *lease != Extended::LeaseLost) {
                    self.note_seen(&extend.node);
                }
                Outcome::Extended(extended)
            }
            Command::Release(release) => {
                let released: Vec<_> = release.leases.iter().map(|lease| self.release(&release.node, *lease)).collect();
                if released.iter().any(|lease| *lease != Released::LeaseLost) {
                    self.note_seen(&release.node);
                }
                Outcome::Released(released)
            }
            Command::Complete(complete) => self.complete(complete).map_or_else(Outcome::Refused, Outcome::Completed),
            Command::Reclaim(leases) => {
                let taken = leases.iter().filter(|lease| self.reclaim(**lease)).map(|lease| lease.job);
                Outcome::Reclaimed(taken.collect())
            }
            Command::Tokens(order) => match self.tokens.order(order) {
                Ok(()) => Outcome::Done,
                Err(refusal) => Outcome::Refused(Refusal::Token(refusal)),
            },
            Command::Cancel(job) => done_or_refused(self.cancel(*job)),
            Command::SetKind(set) => match self.kinds.set(self.now, set) {
                Err(refusal) => Outcome::Refused(refusal),
                Ok(()) => {
                    self.kinds.remove_empty();
                    Outcome::KindSet { version: self.kinds.version(&set.kind) }
                }
            },
            Command::Requeue(job) => done_or_refused(self.requeue(*job)),
            Command::Discard(job) => done_or_refused(self.discard(*job)),
            Command::Drain(drain) => done_or_refused(self.drain(drain)),
            Command::Resume(node) => done_or_refused(self.resume(node)),
            Command::RemoveNode(node) => done_or_refused(self.remove_node(node)),
            Command::BeginAct(begin) => self.begin_act(begin),
            Command::CancelAct(act) => done_or_refused(self.cancel_act(*act)),
            Command::ParkResult(parked) => {
                let (orphan, is_duplicate) = self.orphans.park(&self.limits, parked);
                Outcome::Parked { orphan, is_duplicate }
            }
            Command::AdoptOrphan(adopt) => {
                let id = ids.job_id(adopt.job);
                self.adopt_orphan(adopt, id.as_str()).map_or_else(Outcome::Refused, Outcome::Completed)
            }
            Command::SetWeights(weights) => {
                self.set_weights(weights);
                Outcome::Done
            }
            Command::Accept(_)
            | Command::Quarantine(_)
            | Command::ClearNode(_)
            | Command::RekeyNode(_)
            | Command::AddPolicy(_)
            | Command::ActivatePolicy(_) => {
                unreachable!("the traffic has none of these")
            }
            Command::DiscardOrphan(orphan) => match self.orphans.get(*orphan) {
                None => Outcome::Refused(Refusal::UnknownOrphan),
                Some(_) => {
                    self.orphans.remove(*orphan);
                    Outcome::Done
                }
            },
        }
    }

    fn has_degradation(&self) -> bool {
        self.rules >= CONTROLLED_DEGRADATION
    }

    fn settle_budget(&mut self) {
        if self.has_degradation() {
            self.budget.settle(self.now, &self.limits);
        }
    }

    /// Notes that a node acted, which shows that it is alive.
    fn note_seen(&mut self, node: &Name) {
        if let Some(index) = self.nodes.get(node).map(|node| node.index) {
            self.nodes.seen(self.now, &self.limits, index);
        }
    }

    fn note_heartbeat(&mut self, node: NodeIndex) {
        if self.has_degradation() {
            self.nodes.note_heartbeat(self.now, node);
        }
    }

    /// Fires the timers that are due up to `now`, each at its own instant.
    pub fn advance(&mut self, now: Timestamp) {
        let now = now.max(self.now);
        while let Some((at, due)) = self.next_due().filter(|(at, _)| *at <= now) {
            self.now = self.now.max(at);
            self.fire(due);
            self.follow_up();
        }
        self.now = now;
    }

    /// The latest instant seen.
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// The rules in force.
    pub fn rules(&self) -> RulesVersion {
        self.rules
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

    /// The kinds with rules, in no particular order.
    pub fn kinds(&self) -> &[kind::ModelKind] {
        self.kinds.rows()
    }

    /// What a token is.
    pub fn token_verdict(&self, of: TokenDigest) -> TokenVerdict {
        self.tokens.verdict(of)
    }

    /// The acts that are kept, the oldest first.
    pub fn acts(&self) -> &[ModelAct] {
        &self.acts
    }

    /// The results of unknown jobs, the oldest first.
    pub fn orphans(&self) -> &[(u64, ParkResult)] {
        self.orphans.rows()
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
            if job.held.is_some() {
                counts.leased += 1;
                counts.held += 1;
            }
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
            (State::Leased { .. }, Account::Leased) => true,
            (State::Final { status, .. }, Account::Dead) => *status == FinalStatus::Dead,
            (State::Final { status, .. }, Account::Retained) => *status != FinalStatus::Dead,
            (_, Account::Waiting) => job.is_waiting(),
            _ => false,
        };
        let sum = || self.jobs.iter().filter(is_on).map(ModelJob::bytes).sum::<u64>();
        match account {
            Account::Answers => self.keys.bytes(),
            Account::Nodes => self.nodes.bytes(),
            Account::Orphans => self.orphans.bytes(),
            Account::Waiting => sum() + self.ageing_bytes(),
            _ => sum(),
        }
    }

    fn unfinished_bytes(&self) -> u64 {
        self.bytes(Account::Waiting) + self.bytes(Account::Leased)
    }

    /// The bytes of the largest job: it must fit among the waiting ones, and alone under lease.
    fn job_bytes_max(&self) -> u64 {
        self.limits.queue_bytes_max.min(self.limits.inflight_bytes_max)
    }

    /// Whether a ready job's bytes, as they will be under the lease of a node, fit beside those of all that are leased.
    fn fits_under_lease(&self, seq: JobSeq, node: &Name) -> bool {
        let max = self.limits.inflight_bytes_max;
        if max == u64::MAX {
            return true;
        }
        let leased = self.bytes(Account::Leased);
        let coming = self.job(seq).bytes() + RUN_BYTES + HEAP_HEADER_BYTES + node.len() as u64;
        leased == 0 || leased + coming <= max
    }

    /// Whether a job is ready that this pull could take.
    pub fn has_job_for(&self, pull: &Pull) -> bool {
        self.ready_for(pull).is_some()
    }

    /// Whether a job is ready that this pull could take, and fits under the limit of bytes.
    pub fn has_fitting_job_for(&self, pull: &Pull) -> bool {
        self.ready_for(pull).is_some_and(|seq| self.fits_under_lease(seq, &pull.node))
    }

    /// Whether a node is drained.
    pub fn is_drained(&self, node: &Name) -> bool {
        self.nodes.get(node).is_some_and(|node| node.drain.is_some())
    }

    /// How many more leases hub, zone and node may have, and whether none since the node is drained.
    pub fn room_for(&self, node: &Name) -> u64 {
        if self.is_drained(node) {
            return 0;
        }
        let Limits { inflight_max, leases_per_node_max, leases_per_zone_max, .. } = self.limits;
        let known = self.nodes.get(node);
        let zone = known.map(|node| node.zone.clone()).unwrap_or_default();
        let of_node = known.map_or(0, |node| leases_of(&self.jobs, node.index));
        let in_zone = self.jobs.iter().filter(|job| job.counts_at().is_some() && job.asked.zone == zone).count();
        let in_hub = inflight_max.saturating_sub(self.counts().leased);
        let in_zone = leases_per_zone_max.saturating_sub(in_zone as u64);
        in_hub.min(in_zone).min(leases_per_node_max.saturating_sub(of_node))
    }

    fn next_due(&self) -> Option<(Timestamp, Due)> {
        let jobs = self.jobs.iter().flat_map(|job| {
            let expiry = job.is_waiting().then_some((job.expires_at, Due::JobExpires(job.seq)));
            let next = match job.state {
                State::Dated { run_at } => Some((self.instant_of(run_at), Due::JobRuns(job.seq))),
                State::Scheduled { due_at } if job.is_released => Some((due_at, Due::RetryReleased(job.seq))),
                State::Scheduled { due_at } => Some((due_at, Due::JobRuns(job.seq))),
                _ => job.counts_at().map(|(_, until)| (until, Due::LeaseEnds(job.seq))),
            };
            let reserved = job.withheld_from.as_ref().map(|(_, until)| (*until, Due::ReservationEnds(job.seq)));
            expiry.into_iter().chain(next).chain(reserved)
        });
        let nodes = self.nodes.rows().iter().map(|node| (node.next_check_at, Due::NodeCheck(node.index)));
        let keys = self.keys.expiries(&self.limits).map(|(at, job, is_own)| match is_own {
            true => (at, Due::KeyForgotten(job)),
            false => (at, Due::OldestKeyGoes(job)),
        });
        let pauses = self.kinds.pause_ends().map(|(at, kind)| (at, Due::PauseEnds(kind)));
        let is_any_postponed = self.jobs.iter().any(|job| matches!(job.state, State::Postponed { .. }));
        let credit_at = self.budget.next_at(&self.limits).max(self.now);
        let credit = is_any_postponed.then_some((credit_at, Due::CreditComes));
        let acts = self.acts.iter().map(|act| (act.step_at, Due::ActSteps(act.id)));
        let visit = self.order.visits_at().map(|at| (at, Due::JobsVisited));
        let ageing = self.ages_at().map(|at| (at, Due::JobsAge));
        let timed = jobs.chain(nodes).chain(keys).chain(pauses).chain(credit).chain(acts).chain(visit).chain(ageing);
        let rotation = self.tokens.coming().map(|rotation| (self.instant_of(rotation.until), Due::RotationEnds));
        // Until and including its instant.
        let rotation = rotation.map(|(at, due)| (at + Millis::new(1), due));
        let timed = timed.chain(rotation).filter(|(at, _)| *at != Timestamp::NEVER);
        let oldest = self.next_retention_at().map(|(at, _)| (at, Due::OldestFinalGoes));
        timed.chain(oldest).min()
    }

    fn fire(&mut self, due: Due) {
        match due {
            Due::JobExpires(seq) => self.expire(seq),
            Due::LeaseEnds(seq) => self.expire_lease(seq),
            Due::JobRuns(seq) => self.become_due(seq),
            Due::RetryReleased(seq) => self.become_ready(seq),
            Due::NodeCheck(node) => self.check_node(node),
            Due::KeyForgotten(job) | Due::OldestKeyGoes(job) => self.keys.remove(job),
            Due::ReservationEnds(seq) => self.job_mut(seq).withheld_from = None,
            Due::PauseEnds(kind) => self.kinds.end_pause(kind),
            Due::CreditComes => self.grant_credits(),
            Due::ActSteps(act) => self.step_act(act),
            Due::JobsVisited => self.visit_jobs(),
            Due::JobsAge => self.age_jobs(),
            Due::OldestFinalGoes => self.drop_oldest_final(),
            Due::RotationEnds => self.tokens.end(),
        }
    }

    fn check_node(&mut self, node: NodeIndex) {
        let is_idle = leases_of(&self.jobs, node) == 0;
        let died_after = self.nodes.update_liveness(self.now, &self.limits, node, is_idle);
        if let Some(heartbeat_at) = died_after.filter(|_| self.has_degradation()) {
            self.return_leases(node, heartbeat_at);
        }
    }

    /// A job that waited for an instant is due. A retry needs a credit of the budget.
    fn become_due(&mut self, seq: JobSeq) {
        let since = self.now;
        let job = self.job_mut(seq);
        if matches!(job.state, State::Dated { .. }) && job.not_before > since {
            job.state = State::Scheduled { due_at: job.not_before };
            return;
        }
        let is_retry = job.attempts.last().is_some_and(|attempt| {
            matches!(attempt.end, AttemptEnd::Failed { .. } | AttemptEnd::Revoked { why: Revocation::MaxRun, .. })
        });
        let kind = job.asked.kind.clone();
        if is_retry && self.has_degradation() && !self.take_credit(&kind) {
            self.job_mut(seq).state = State::Postponed { since };
        } else {
            self.become_ready(seq);
        }
    }

    fn become_ready(&mut self, seq: JobSeq) {
        let since = self.now;
        let job = self.job_mut(seq);
        if job.after.is_some() {
            (job.state, job.is_released) = (State::Scheduled { due_at: Timestamp::NEVER }, false);
            return;
        }
        let withheld_from = self.withheld_from(self.job(seq));
        let job = self.job_mut(seq);
        job.withheld_from = withheld_from;
        (job.state, job.is_released) = (State::Queued { since }, false);
        self.take_turn(seq);
    }

    /// A kind with postponed retries gets none for another; the floor is for them first.
    fn take_credit(&mut self, kind: &Name) -> bool {
        let is_any_postponed = self.jobs.iter().any(|job| matches!(job.state, State::Postponed { .. }));
        self.oldest_postponed(kind).is_none()
            && (self.budget.take_earned(self.now, &self.limits, kind)
                || !is_any_postponed && self.budget.take_of_floor(self.now, &self.limits))
    }

    fn oldest_postponed(&self, kind: &Name) -> Option<(Timestamp, JobSeq)> {
        let postponed = self.jobs.iter().filter(|job| job.asked.kind == *kind).filter_map(|job| match job.state {
            State::Postponed { since } => Some((since, job.seq)),
            _ => None,
        });
        postponed.min()
    }

    fn release_postponed(&mut self, seq: JobSeq) {
        let due_at = self.now;
        let job = self.job_mut(seq);
        (job.state, job.is_released) = (State::Scheduled { due_at }, true);
    }

    /// The floor has a credit: the kind that got one longest ago goes first, then that with the oldest retry.
    fn grant_credits(&mut self) {
        loop {
            let turns = self.jobs.iter().filter_map(|job| match job.state {
                State::Postponed { since } => {
                    Some((self.budget.granted_to(&job.asked.kind), since, job.seq, job.asked.kind.clone()))
                }
                _ => None,
            });
            let Some((_, _, seq, kind)) = turns.min() else { return };
            if !self.budget.take_of_floor(self.now, &self.limits) {
                return;
            }
            self.budget.note_grant(&kind);
            self.release_postponed(seq);
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

    /// The job that this pull leases first, of those whose kinds may be leased. Of the reserved jobs only the most urgent
    /// ones are looked at.
    fn ready_for(&self, pull: &Pull) -> Option<JobSeq> {
        let node = self.nodes.get(&pull.node);
        let is_withheld = |job: &&ModelJob| matches!(&job.withheld_from, Some((from, _)) if *from == pull.node);
        let leased: Vec<_> =
            self.jobs.iter().filter(|job| job.counts_at().is_some()).map(|job| &job.asked.kind).collect();
        let is_open = |job: &&ModelJob| self.is_open(&job.asked.kind, &leased);
        let reserved = self.reserved().into_iter().filter(is_open);
        let reserved = reserved.take(RESERVED_EXAMINED_MAX).filter(|job| !is_withheld(job));
        let for_all = self.jobs.iter().filter(|job| matches!(job.state, State::Queued { .. }));
        let for_all = for_all.filter(|job| job.withheld_from.is_none()).filter(is_open);
        let wanted = for_all.chain(reserved);
        let wanted = wanted.filter(|job| pull.kinds.is_empty() || pull.kinds.contains(&job.asked.kind));
        wanted.filter(|job| job.may_run_on(node)).min_by_key(|job| job.order()).map(|job| job.seq)
    }

    /// Whether a job of a kind may be leased now, by the kinds of all that are.
    fn is_open(&self, kind: &Name, leased: &[&Name]) -> bool {
        let of_kind = leased.iter().filter(|leased| **leased == kind);
        self.kinds.is_open(self.now, kind, of_kind.count() as u64)
    }

    fn lease_duration(&self, asked: Option<Millis>, seq: JobSeq) -> Millis {
        let own = self.job(seq).lease_duration_ms;
        asked.or(own).unwrap_or(self.limits.lease_duration_ms).clamp(LEASE_DURATION_MIN, LEASE_DURATION_MAX)
    }

    fn job(&self, seq: JobSeq) -> &ModelJob {
        self.jobs.iter().find(|job| job.seq == seq).expect("the model looks up jobs that it has")
    }

    fn job_mut(&mut self, seq: JobSeq) -> &mut ModelJob {
        self.jobs.iter_mut().find(|job| job.seq == seq).expect("the model looks up jobs that it has")
    }

    /// The limits in force.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }
}

/// Jobs at a node, those included whose leases are held.
fn leases_of(jobs: &[ModelJob], index: NodeIndex) -> u64 {
    jobs.iter().filter(|job| job.counts_at().is_some_and(|(node, _)| node == index)).count() as u64
}

/// No instant is before 1970.
fn clamped(ms: i128) -> u64 {
    ms.clamp(0, u64::MAX.into()) as u64
}

fn done_or_refused(result: Result<(), Refusal>) -> Outcome {
    result.map_or_else(Outcome::Refused, |()| Outcome::Done)
}
