//! The hub: one deterministic state machine that is given the time.
//!
//! How to drive it:
//! - [`Hub::apply`] with the instant and a command changes durable state and says what came of it. First whatever fell
//!   due up to that instant happens, each thing at its own instant, and last what the command itself made due at once:
//!   so the state is a function of the commands that changed something (the journal) and of nothing else, and it does
//!   not matter whether anybody looked in between.
//! - [`Hub::advance`] lets due things happen without a command: call it at [`Hub::next_deadline`], or long polls wake late.
//! - [`Hub::park`], [`Hub::unpark`], [`Hub::observe`], [`Hub::count`] change ephemeral state, which no journal holds.
//! - After any of these, drain [`Hub::effects`]. A replay throws them away.
//! - The rest only looks.
//!
//! `now` never goes back: an earlier instant counts as the latest one seen. The shell journals `max(now, hub.now())`.

use crate::access::guard::AuthGuard;
use crate::command::{Command, Complete, Extend, Heartbeat, Idempotency, OnDuplicate, OnFailed, Pull, Submit};
use crate::context::Context;
use crate::dedup::Dedup;
use crate::effect::{Audit, Effect};
use crate::ids::{HubKey, JobSeq};
use crate::limits::{BACKPRESSURE_RETRY_MS, DEFER_MS, Limits, PULL_JOBS_MAX};
use crate::mutants::{self, Mutant};
use crate::name::Name;
use crate::outcome::{FinalStatus, Outcome, Pulled, Refusal, Submitted};
use crate::queue::lane::Profile;
use crate::queue::waiter::WaiterId;
use crate::queue::{Counts, Queue};
use crate::registry::Registry;
use crate::registry::node::Node;
use crate::telemetry::{Observation, Telemetry};
use crate::time::{Millis, Timestamp};
use crate::timers::{Timer, Timers};
use std::net::IpAddr;

/// The state of a hub.
#[derive(Debug)]
pub struct Hub {
    pub(crate) key: HubKey,
    pub(crate) now: Timestamp,
    pub(crate) limits: Limits,
    pub(crate) registry: Registry,
    pub(crate) queue: Queue,
    pub(crate) dedup: Dedup,
    pub(crate) timers: Timers,
    pub(crate) outcome_chain: u128,
    guard: AuthGuard,
    telemetry: Telemetry,
    effects: Vec<Effect>,
}

impl Hub {
    /// A hub without jobs or nodes, under the default limits.
    pub fn new(key: HubKey) -> Self {
        Hub {
            key,
            now: Timestamp::ZERO,
            limits: Limits::default(),
            registry: Registry::default(),
            queue: Queue::default(),
            dedup: Dedup::default(),
            timers: Timers::default(),
            outcome_chain: 0,
            guard: AuthGuard::new(60, true),
            telemetry: Telemetry::default(),
            effects: Vec::new(),
        }
    }

    /// Carries out a command. Never fails: a refusal is an outcome, and changes nothing.
    pub fn apply(&mut self, now: Timestamp, command: Command) -> Outcome {
        self.advance(now);
        let outcome = match command {
            Command::Configure(limits) => self.configure(*limits),
            Command::Heartbeat(heartbeat) => self.heartbeat(heartbeat),
            Command::NodesSeen(nodes) => {
                let (mut cx, parts) = self.split();
                nodes.into_iter().for_each(|no| parts.registry.seen(&mut cx, no));
                Outcome::Done
            }
            Command::Submit(submit) => self.submit(*submit).map_or_else(Outcome::Refused, Outcome::Submitted),
            Command::Pull(pull) => self.pull(pull).map_or_else(Outcome::Refused, Outcome::Pulled),
            Command::Extend(extend) => self.extend(&extend),
            Command::Complete(complete) => self.complete(complete),
            Command::LimitNodes(nodes_max) => {
                self.registry.limit(nodes_max);
                Outcome::Done
            }
        };
        self.advance(self.now);
        if let Outcome::Refused(refusal) = &outcome {
            self.report_drop(refusal);
        }
        if outcome.is_durable() {
            self.chain(&outcome);
        }
        outcome
    }

    /// Lets everything happen that falls due up to `now`, each thing at its own instant, earliest first.
    pub fn advance(&mut self, now: Timestamp) {
        let now = if mutants::is_active(Mutant::TimeGoesBack) { now } else { now.max(self.now) };
        while let Some(at) = self.next_deadline().filter(|at| *at <= now) {
            self.now = self.now.max(at);
            if self.timers.next_at().is_some_and(|timer_at| timer_at <= at) {
                let (_, timer) = self.timers.pop().expect("it has a next one");
                self.fire(timer);
            } else {
                self.queue.drop_oldest_final();
            }
        }
        self.now = now;
    }

    /// When the next thing falls due.
    pub fn next_deadline(&self) -> Option<Timestamp> {
        let retention_at = self.queue.next_retention_at(&self.limits);
        self.timers.next_at().into_iter().chain(retention_at).min()
    }

    /// Parks a long poll that found nothing: [`Effect::Wake`] says when to repeat its pull. `false` if too many are parked,
    /// or there is a job for it already: repeat the pull, or answer it.
    pub fn park(&mut self, id: WaiterId, pull: &Pull) -> bool {
        let record = self.registry.by_name(&pull.node);
        if self.queue.has_any(&profile(record, &pull.kinds)) {
            return false;
        }
        self.queue.park(id, pull.node.clone(), record, pull.kinds.clone())
    }

    /// Forgets a long poll: it was answered, or its client went away.
    pub fn unpark(&mut self, id: WaiterId) {
        self.queue.unpark(id);
    }

    /// Wakes others that could take what woken long polls left: call it once their pulls were repeated, and again until it
    /// wakes nobody. A woken one may be gone by then, have become saturated, or have found a more urgent job than the one
    /// that it was woken for.
    pub fn wake_others(&mut self) {
        if mutants::is_active(Mutant::SecondWakeForgotten) {
            return;
        }
        let woken = self.queue.take_waiters_with_jobs();
        self.effects.extend(woken.into_iter().map(Effect::Wake));
    }

    /// Counts what the shell saw.
    pub fn observe(&mut self, now: Timestamp, observation: Observation) {
        if let Observation::AuthFailure { address, .. } = observation {
            self.guard.failed(now, address);
        }
        self.telemetry.observe(now, observation);
    }

    /// Counts an effect that was drained. A replay does not, so it starts with no counts.
    pub fn count(&mut self, effect: &Effect) {
        self.telemetry.effect(effect);
    }

    /// What was counted.
    pub fn telemetry(&self) -> &Telemetry {
        &self.telemetry
    }

    /// Sets how many authentication failures an address has a minute.
    pub fn set_guard(&mut self, failures_max: u32, is_loopback_exempt: bool) {
        self.guard = AuthGuard::new(failures_max, is_loopback_exempt);
    }

    /// How long an address is turned away for its authentication failures.
    pub fn auth_blocked_for(&self, now: Timestamp, address: IpAddr) -> Option<Millis> {
        self.guard.blocked_for(now, address)
    }

    /// What else follows from what was done; the caller drains it.
    pub fn effects(&mut self) -> &mut Vec<Effect> {
        &mut self.effects
    }

    /// The latest instant seen.
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// The hub's key, by which ids are read and written.
    pub fn key(&self) -> &HubKey {
        &self.key
    }

    /// The operator's limits.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The nodes.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// The jobs.
    pub fn queue(&self) -> &Queue {
        &self.queue
    }

    /// The idempotency keys.
    pub fn dedup(&self) -> &Dedup {
        &self.dedup
    }

    /// How many jobs are where.
    pub fn counts(&self) -> Counts {
        self.queue.counts()
    }

    /// How many timers are set.
    pub fn timer_count(&self) -> usize {
        self.timers.len()
    }

    /// A hash over the outcomes of all commands that changed something: two runs of one journal agree on it at each
    /// command, or did not decide alike.
    pub fn outcome_hash(&self) -> [u8; 16] {
        self.outcome_chain.to_le_bytes()
    }

    fn configure(&mut self, limits: Limits) -> Outcome {
        self.registry.reconfigure(&mut self.timers, self.now);
        self.limits = limits;
        self.queue.enforce_retention(&self.limits);
        Outcome::Done
    }

    fn heartbeat(&mut self, heartbeat: Heartbeat) -> Outcome {
        let name = heartbeat.node.clone();
        let (mut cx, parts) = self.split();
        match parts.registry.heartbeat(&mut cx, heartbeat) {
            Err(refusal) => Outcome::Refused(refusal),
            Ok((node, is_changed)) => {
                if is_changed {
                    parts.queue.wake_waiters_of(&mut cx, &name);
                }
                Outcome::Heard { node }
            }
        }
    }

    fn submit(&mut self, submit: Submit) -> Result<Submitted, Refusal> {
        let known = match &submit.idempotency {
            Some(idempotency) => match self.recognise(idempotency)? {
                Known::Repeat(submitted) => return Ok(submitted),
                Known::New(known) => known,
            },
            None => Replaced::default(),
        };
        // A superseded job makes room for the one that takes its place.
        let leaving = known.supersedes.and_then(|job| self.queue.get(job));
        self.queue.admit(&self.limits, &submit, leaving)?;
        let idempotency = submit.idempotency.clone();
        let (mut cx, parts) = self.split();
        if let Some(job) = known.supersedes
            && !mutants::is_active(Mutant::SupersedeForgotten)
        {
            parts.queue.supersede(&mut cx, parts.registry, parts.dedup, job);
        }
        let job = parts.queue.submit(&mut cx, submit);
        if let Some(idempotency) = idempotency {
            let key = cx.key.idempotency_key(&idempotency.key);
            parts.dedup.bind(&mut cx, key, idempotency.payload_hash, job);
        }
        Ok(Submitted::Accepted { job, supersedes: known.supersedes, replaces: known.replaces })
    }

    /// What the hub knows of a submit's key: the table in the wire contract, row by row.
    fn recognise(&mut self, idempotency: &Idempotency) -> Result<Known, Refusal> {
        let key = self.key.idempotency_key(&idempotency.key);
        let Some(entry) = self.dedup.get(key) else {
            self.dedup.admit(self.limits.idempotency_keys_max)?;
            return Ok(Known::New(Replaced::default()));
        };
        let job = entry.job;
        let is_same = entry.payload_hash == idempotency.payload_hash || mutants::is_active(Mutant::KeyHashIgnored);
        match (&entry.answer, is_same, idempotency.on_duplicate) {
            (_, false, OnDuplicate::SameResult) => {
                let old_hash_prefix = prefix(&entry.payload_hash);
                let event = Audit::IdempotencyKeyCollision {
                    key: idempotency.key.clone(),
                    old_hash_prefix,
                    new_hash_prefix: prefix(&idempotency.payload_hash),
                };
                self.effects.push(Effect::Audit(self.now, event));
                Err(Refusal::KeyCollision { old_hash_prefix })
            }
            (None, false, OnDuplicate::LatestWins) => {
                Ok(Known::New(Replaced { supersedes: Some(job), replaces: None }))
            }
            (Some(_), false, OnDuplicate::LatestWins) => {
                Ok(Known::New(Replaced { supersedes: None, replaces: Some(job) }))
            }
            (Some(answer), true, _)
                if idempotency.on_failed == OnFailed::NewJob && answer.status != FinalStatus::Completed =>
            {
                Ok(Known::New(Replaced { supersedes: None, replaces: Some(job) }))
            }
            (Some(answer), true, _) => {
                let (status, result, error) = (answer.status, answer.result.clone(), answer.error.clone());
                self.effects.push(Effect::Audit(self.now, Audit::IdempotencyHit { job, is_final: true }));
                Ok(Known::Repeat(Submitted::Final { job, status, result, error }))
            }
            (None, true, _) => {
                self.effects.push(Effect::Audit(self.now, Audit::IdempotencyHit { job, is_final: false }));
                Ok(Known::Repeat(Submitted::InProgress { job }))
            }
        }
    }

    fn pull(&mut self, pull: Pull) -> Result<Pulled, Refusal> {
        let Pull { node: name, jobs_max, kinds, lease_duration_ms } = pull;
        let inflight = self.queue.counts().leased;
        let held = self.registry.by_name(&name).map_or(0, Node::leases);
        let mut room = self.limits.inflight_max.saturating_sub(inflight);
        if mutants::is_active(Mutant::InflightLimitOffByOne) {
            room = room.saturating_add(1);
        }
        let mut room_at_node = self.limits.leases_per_node_max.saturating_sub(held);
        if mutants::is_active(Mutant::NodeLeasesOffByOne) {
            room_at_node = room_at_node.saturating_add(1);
        }
        let room = room.min(room_at_node);
        if room == 0 {
            self.effects.push(Effect::Audit(self.now, Audit::InflightSaturated { node: name, inflight }));
            return Ok(Pulled { leases: Vec::new(), defer_ms: DEFER_MS });
        }
        let record = self.registry.by_name(&name);
        if !self.queue.has_any(&profile(record, &kinds)) {
            return Ok(Pulled { leases: Vec::new(), defer_ms: Millis::ZERO });
        }
        let jobs_max = room.min(u64::from(jobs_max.clamp(1, PULL_JOBS_MAX))) as usize;
        let (mut cx, parts) = self.split();
        // A node that only pulls is known from its first job on.
        let no = parts.registry.enrol(&mut cx, &name)?;
        parts.registry.seen(&mut cx, no);
        let record = parts.registry.get(no);
        let name = record.expect("enrolled above").name();
        let leases = parts.queue.lease(&mut cx, (no, name), &profile(record, &kinds), jobs_max, lease_duration_ms);
        leases.iter().for_each(|_| parts.registry.lease_given(no));
        Ok(Pulled { leases, defer_ms: Millis::ZERO })
    }

    fn extend(&mut self, extend: &Extend) -> Outcome {
        let (mut cx, parts) = self.split();
        Outcome::Extended(parts.queue.extend(&mut cx, extend))
    }

    fn complete(&mut self, complete: Complete) -> Outcome {
        let (mut cx, parts) = self.split();
        let completed = parts.queue.complete(&mut cx, parts.registry, parts.dedup, complete);
        completed.map_or_else(Outcome::Refused, Outcome::Completed)
    }

    fn fire(&mut self, timer: Timer) {
        let (mut cx, parts) = self.split();
        match timer {
            Timer::JobExpires(seq) => parts.queue.expire(&mut cx, parts.dedup, seq),
            Timer::LeaseEnds(seq) => parts.queue.lease_ends(&mut cx, parts.registry, parts.dedup, seq),
            Timer::JobDue(seq) => parts.queue.job_due(&mut cx, seq),
            Timer::NodeLiveness(no) => {
                if let Some(forgotten) = parts.registry.check_liveness(&mut cx, no) {
                    parts.queue.wake_waiters_of(&mut cx, &forgotten);
                }
            }
            Timer::KeyExpires(key) => parts.dedup.expire(cx.now, key),
        }
    }

    /// Notes a refusal that says that something is full.
    fn report_drop(&mut self, refusal: &Refusal) {
        let Some(reason) = refusal.drop_reason() else { return };
        let event = Audit::BackpressureDrop {
            reason,
            queue_depth: self.queue.counts().waiting(),
            queue_depth_max: self.limits.queue_depth_max,
        };
        self.effects.push(Effect::Audit(self.now, event));
    }

    fn chain(&mut self, outcome: &Outcome) {
        let [kind, what, when] = outcome.fingerprint();
        let counts = self.queue.counts();
        let words = [
            self.now.as_millis(),
            kind,
            what,
            when,
            counts.scheduled,
            counts.queued,
            counts.leased,
            counts.retained,
            counts.retained_bytes,
        ];
        self.outcome_chain = self.key.outcome_link(self.outcome_chain, &words);
    }

    pub(crate) fn split(&mut self) -> (Context<'_>, Parts<'_>) {
        let Hub { key, now, limits, registry, queue, dedup, timers, effects, .. } = self;
        (Context { now: *now, key, limits, timers, effects }, Parts { registry, queue, dedup })
    }
}

/// The rooms that a command goes through, beside what they share.
pub(crate) struct Parts<'a> {
    pub registry: &'a mut Registry,
    pub queue: &'a mut Queue,
    pub dedup: &'a mut Dedup,
}

/// What a submit's key says of it.
enum Known {
    Repeat(Submitted),
    New(Replaced),
}

/// The job that a new one under the same key takes the place of.
#[derive(Default, Clone, Copy)]
struct Replaced {
    supersedes: Option<JobSeq>,
    replaces: Option<JobSeq>,
}

impl Refusal {
    /// How long the client should wait before it asks again; `None` if waiting does not help.
    pub fn retry_after_ms(&self) -> Option<Millis> {
        match self {
            Refusal::QueueFull { .. }
            | Refusal::QueueBytesFull { .. }
            | Refusal::ClassesFull
            | Refusal::NodesFull
            | Refusal::KeysFull { .. } => Some(BACKPRESSURE_RETRY_MS),
            Refusal::KeyCollision { .. } | Refusal::UnknownJob | Refusal::LeaseLost | Refusal::AlreadyFinal { .. } => {
                None
            }
        }
    }
}

/// What a node may take: an unknown one is of the default zone and can do nothing special.
fn profile<'a>(record: Option<&'a Node>, kinds: &'a [Name]) -> Profile<'a> {
    Profile { zone: record.and_then(Node::zone), capabilities: record.map_or(&[], Node::capabilities), kinds }
}

fn prefix(hash: &[u8; 32]) -> [u8; 4] {
    *hash.first_chunk().expect("a hash has 32 bytes")
}
