//! The hub: one deterministic state machine that is given the time.
//!
//! How to drive it:
//! - [`Hub::apply`] with the instant and a command changes durable state and says what came of it. First due timers fire,
//!   in order, each at its own instant, and last what the command itself made due at once: so the state is a function of
//!   the commands that changed something (the journal) and of nothing else, and it does not matter whether anybody looked
//!   in between.
//! - [`Hub::advance`] fires due timers without a command: call it at [`Hub::next_deadline`], or long polls wake late.
//! - [`Hub::park`], [`Hub::unpark`], [`Hub::observe`] change ephemeral state, which no journal holds.
//! - After any of these, [`Hub::settle`] until it gives nothing more. [`Hub::next_deadline`] panics before that: whoever
//!   sleeps over an effect leaves a client without its answer.
//! - The rest only looks.
//!
//! A new hub follows a journal: it has no effects and counts nothing. [`Hub::serve`] makes it one that clients talk to.
//!
//! `now` never goes back: an earlier instant counts as the latest one seen. The shell journals `max(now, hub.now())`.

use crate::access::guard::AuthGuard;
use crate::chain::Chain;
use crate::command::{Command, Complete, Extend, Heartbeat, Idempotency, Pull, Submit};
use crate::context::Context;
use crate::dedup::{Binding, Dedup, KeyPlace, KeyRecord};
use crate::effect::{Audit, Effect};
use crate::ids::{HubKey, JobSeq, NodeIndex};
use crate::ledger::{Account, Ledger};
use crate::limits::{DEFER_MS, Limits, PULL_JOBS_MAX};
use crate::name::Name;
use crate::outcome::{Outcome, Pulled, Refusal, Submitted};
use crate::queue::event::Event;
use crate::queue::profile::{ProfileIndex, Profiles};
use crate::queue::waiter::WaiterId;
use crate::queue::{Counts, EndedJob, JobRecord, Queue};
use crate::registry::node::{Node, NodeRecord};
use crate::registry::{NodeContext, Registry};
use crate::rules::{self, KnownKey, RulesVersion};
use crate::settings::Setting;
use crate::telemetry::{Observation, Telemetry};
use crate::time::{Millis, Timestamp};
use crate::timers::{Timer, Timers};
use std::collections::BTreeSet;
use std::net::IpAddr;

/// The state of a hub.
#[derive(Debug)]
pub struct Hub {
    pub(crate) key: HubKey,
    pub(crate) rules: RulesVersion,
    pub(crate) now: Timestamp,
    pub(crate) limits: Limits,
    pub(crate) registry: Registry,
    pub(crate) queue: Queue,
    pub(crate) dedup: Dedup,
    pub(crate) chain: Chain,
    timers: Timers,
    ledger: Ledger,
    /// What happened to jobs in the transition under way.
    events: Vec<Event>,
    guard: AuthGuard,
    telemetry: Telemetry,
    effects: Vec<Effect>,
    /// When an attempt or a job ended last.
    ended_at: Timestamp,
    untold: Untold,
    /// Whether clients talk to it; else it follows a journal.
    is_serving: bool,
    is_settled: bool,
}

/// The ends among the effects that the shell has not taken yet.
#[derive(Default, Debug)]
struct Untold {
    /// The number of the first one among all jobs that ended.
    first_number: u64,
    /// Where they are among the effects, in the order of ending.
    places: Vec<usize>,
}

/// What falls due.
#[derive(Clone, Copy)]
enum Due {
    Timer,
    OldestFinal,
    OldestKey,
}

impl Hub {
    /// A hub without jobs or nodes, under the first rules and their default limits, that follows a journal.
    pub fn new(key: HubKey) -> Self {
        Hub {
            key,
            rules: RulesVersion::FIRST,
            now: Timestamp::ZERO,
            limits: Limits::default(),
            registry: Registry::default(),
            queue: Queue::default(),
            dedup: Dedup::default(),
            chain: Chain::START,
            timers: Timers::default(),
            ledger: Ledger::default(),
            events: Vec::new(),
            guard: AuthGuard::new(60, true),
            telemetry: Telemetry::default(),
            effects: Vec::new(),
            ended_at: Timestamp::ZERO,
            untold: Untold::default(),
            is_serving: false,
            is_settled: true,
        }
    }

    /// From now on clients talk to it: what it does has effects, and is counted.
    pub fn serve(&mut self) {
        self.is_serving = true;
        self.untold.all_told(self.queue.next_numbers().1);
    }

    /// Carries out a command. Never fails: a refusal is an outcome, and changes nothing.
    pub fn apply(&mut self, now: Timestamp, command: Command) -> Outcome {
        self.advance(now);
        self.is_settled = false;
        let outcome = match command {
            Command::Set(settings) => self.set(&settings),
            Command::Heartbeat(heartbeat) => self.heartbeat(heartbeat),
            Command::NodesSeen(nodes) => {
                nodes.into_iter().for_each(|node| self.seen(node));
                Outcome::Done
            }
            Command::Tick => Outcome::Done,
            Command::Submit(submit) => self.submit(submit).map_or_else(Outcome::Refused, Outcome::Submitted),
            Command::Pull(pull) => self.pull(&pull).map_or_else(Outcome::Refused, Outcome::Pulled),
            Command::Extend(extend) => self.extend(&extend),
            Command::Complete(complete) => self.complete(complete),
            Command::AdoptRules(version) => self.adopt_rules(version),
        };
        self.follow_events();
        self.advance(self.now);
        if let Outcome::Refused(refusal) = &outcome {
            self.report_drop(refusal);
        }
        if outcome.is_durable() {
            self.extend_chain(&outcome);
        }
        outcome
    }

    /// Fires the timers that are due up to `now`, each at its own instant, earliest first.
    pub fn advance(&mut self, now: Timestamp) {
        let now = rules::later(self.now, now);
        if self.is_nothing_due(now) {
            self.now = now;
            return;
        }
        while let Some((at, due)) = self.next_due().filter(|(at, _)| *at <= now) {
            self.now = self.now.max(at);
            self.is_settled = false;
            match due {
                Due::Timer => {
                    let (_, timer) = self.timers.pop().expect("it has a next one");
                    self.fire(timer);
                }
                Due::OldestFinal => {
                    let ended = self.queue.drop_oldest_final(&mut self.ledger, self.untold.first_number);
                    ended.into_iter().for_each(|ended| self.untold.job_went(&mut self.effects, ended));
                }
                Due::OldestKey => self.dedup.forget_oldest(&self.limits, &mut self.timers, &mut self.ledger),
            }
        }
        self.now = now;
    }

    /// When the next timer is due. The hub has to be settled.
    pub fn next_deadline(&self) -> Option<Timestamp> {
        assert!(self.is_settled || !self.is_serving, "a hub is settled before anybody sleeps until its deadline");
        self.next_due_at()
    }

    /// When the next timer is due, for those who do not sleep until then.
    pub fn next_due_at(&self) -> Option<Timestamp> {
        self.next_due().map(|(at, _)| at)
    }

    /// Parks a long poll that found nothing: [`Effect::Wake`] says when to repeat its pull. `false` if too many are parked,
    /// or there is a job for it already: repeat the pull, or answer it.
    pub fn park(&mut self, id: WaiterId, pull: &Pull) -> bool {
        let profile = self.profile_of(&pull.node);
        !self.queue.has_any(profile, &pull.kinds) && self.queue.park(&mut self.ledger, id, pull, profile)
    }

    /// Forgets a long poll: it was answered, or its client went away.
    pub fn unpark(&mut self, id: WaiterId) {
        self.queue.unpark(&mut self.ledger, id);
    }

    /// Appends what is to be done now, and not again: long polls are woken for as many ready jobs as there are, and as
    /// leases may be given. Whoever was woken may leave its job (its client is gone, or there was a more urgent one), so
    /// ask again until nothing comes.
    pub fn settle(&mut self, effects: &mut Vec<Effect>) {
        let room = rules::room_in_hub(self.limits.inflight_max, self.queue.counts().leased);
        let (registry, limits) = (&self.registry, &self.limits);
        let room_at = |node: &Name| {
            let held = registry.by_name(node).map_or(0, Node::leases);
            rules::room_at_node(limits.leases_per_node_max, held)
        };
        let woken = self.queue.take_waiters_to_wake(&mut self.ledger, room, room_at);
        self.effects.extend(woken.into_iter().map(Effect::Wake));
        self.is_settled = self.effects.is_empty();
        self.untold.all_told(self.queue.next_numbers().1);
        effects.append(&mut self.effects);
    }

    /// Counts what the shell saw.
    pub fn observe(&mut self, now: Timestamp, observation: Observation) {
        if let Observation::AuthFailure { address, .. } = observation {
            self.guard.failed(now, address);
        }
        self.telemetry.observe(now, observation);
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

    /// The latest instant seen.
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// When an attempt or a job ended last, by time alone or by a command, since this hub was made.
    pub fn ended_at(&self) -> Timestamp {
        self.ended_at
    }

    /// The hub's key, by which ids are read and written.
    pub fn key(&self) -> &HubKey {
        &self.key
    }

    /// The rules that decide.
    pub fn rules(&self) -> RulesVersion {
        self.rules
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

    /// How many bytes are kept, and for what.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// The ledger, from a walk over every store: what [`Hub::ledger`] must say. O(n).
    pub fn recount(&self) -> Ledger {
        let mut ledger = Ledger::default();
        self.queue.recount(&mut ledger);
        ledger.charge(Account::Answers, self.dedup.bytes());
        ledger.charge(Account::Nodes, self.registry.bytes());
        ledger
    }

    /// How many jobs are where.
    pub fn counts(&self) -> Counts {
        self.queue.counts()
    }

    /// How many timers are set.
    pub fn timer_count(&self) -> usize {
        self.timers.len()
    }

    /// A hash over the outcomes of all commands that changed something, zero before the first: two runs of one journal
    /// agree on it at each command, or did not decide alike.
    pub fn outcome_hash(&self) -> [u8; 16] {
        if self.chain == Chain::START {
            return [0; 16];
        }
        self.key.outcome_hash(self.chain.words()).to_le_bytes()
    }

    fn set(&mut self, settings: &[Setting]) -> Outcome {
        let old = self.limits.clone();
        settings.iter().for_each(|setting| self.limits.set(*setting));
        self.registry.reconfigure(&mut self.timers, self.now);
        self.dedup.reconfigure(&old, &self.limits, &mut self.timers, &mut self.ledger);
        self.queue.stir_all();
        Outcome::Done
    }

    fn adopt_rules(&mut self, version: RulesVersion) -> Outcome {
        if version < self.rules || version > RulesVersion::NEWEST {
            return Outcome::Refused(Refusal::RulesNotTaken);
        }
        self.rules = version;
        Outcome::Done
    }

    fn heartbeat(&mut self, heartbeat: Heartbeat) -> Outcome {
        let (name, zone, capabilities) =
            (heartbeat.node.clone(), heartbeat.zone.clone(), heartbeat.capabilities.clone());
        let (index, is_changed) = match self.with_registry(|registry, cx| registry.heartbeat(cx, heartbeat)) {
            Err(refusal) => return Outcome::Refused(refusal),
            Ok(heard) => heard,
        };
        if is_changed {
            let profile = self.queue.profiles_mut().enter(&zone, &capabilities);
            let node = self.registry.get_mut(index).expect("it was just heard of");
            let old = node.profile();
            node.set_profile(profile);
            self.queue.profiles_mut().leave(old);
            self.wake_waiters_of(&name);
        }
        Outcome::Heard { node: index }
    }

    fn submit(&mut self, submit: Box<Submit>) -> Result<Submitted, Refusal> {
        let Some(idempotency) = submit.idempotency.clone() else {
            let admitted = self.queue.admit(&self.limits, &self.ledger, &submit, None)?;
            let job = self.with_queue(|queue, cx| queue.submit(cx, submit, admitted, None));
            return Ok(Submitted::Accepted { job, supersedes: None, replaces: None });
        };
        let key = self.key.idempotency_key(&idempotency.key);
        let Some((place, entry)) = self.dedup.get(key) else {
            self.dedup.admit(self.now, &self.limits)?;
            let admitted = self.queue.admit(&self.limits, &self.ledger, &submit, None)?;
            let job = self.with_queue(|queue, cx| queue.submit(cx, submit, admitted, None));
            let binding = Binding::new(&idempotency, job);
            let rooms = (&mut self.timers, &mut self.ledger);
            let place = self.dedup.bind((self.now, &self.limits), rooms, key, binding);
            self.queue.set_key(job, place);
            return Ok(Submitted::Accepted { job, supersedes: None, replaces: None });
        };
        let (old, ended) = (entry.job, entry.ended());
        let is_same = entry.has_payload(&idempotency.payload_hash);
        match rules::known_key(is_same, ended, idempotency.on_duplicate, idempotency.on_failed) {
            KnownKey::Collision => {
                let old_hash_prefix = entry.hash_prefix();
                self.audit(Audit::IdempotencyKeyCollision {
                    key: idempotency.key,
                    old_hash_prefix,
                    new_hash_prefix: *idempotency.payload_hash.first_chunk().expect("a hash has 32 bytes"),
                });
                Err(Refusal::KeyCollision { job: old, old_hash_prefix })
            }
            KnownKey::Repeats => {
                let answered = entry.answered();
                self.audit(Audit::IdempotencyHit { job: old, is_final: answered.is_some() });
                Ok(match answered {
                    None => Submitted::InProgress { job: old },
                    Some(answered) => Submitted::Final {
                        job: old,
                        status: answered.status,
                        result: answered.result,
                        error: answered.error,
                    },
                })
            }
            KnownKey::Supersedes => {
                // The superseded job makes room for the one that takes its place.
                let admitted = self.queue.admit(&self.limits, &self.ledger, &submit, Some(old))?;
                let job = self.with_queue(|queue, cx| {
                    let line = queue.supersede(cx, old);
                    queue.submit(cx, submit, admitted, line)
                });
                self.bind_again(place, &idempotency, job);
                Ok(Submitted::Accepted { job, supersedes: Some(old), replaces: None })
            }
            KnownKey::Replaces => {
                let admitted = self.queue.admit(&self.limits, &self.ledger, &submit, None)?;
                let job = self.with_queue(|queue, cx| queue.submit(cx, submit, admitted, None));
                self.bind_again(place, &idempotency, job);
                Ok(Submitted::Accepted { job, supersedes: None, replaces: Some(old) })
            }
        }
    }

    fn bind_again(&mut self, place: KeyPlace, idempotency: &Idempotency, job: JobSeq) {
        let rooms = (&mut self.timers, &mut self.ledger);
        let place = self.dedup.bind_again(&self.limits, rooms, place, Binding::new(idempotency, job));
        self.queue.set_key(job, place);
    }

    fn pull(&mut self, pull: &Pull) -> Result<Pulled, Refusal> {
        let nothing = |defer_ms| Ok(Pulled { node: None, leases: Vec::new(), defer_ms });
        let node = self.registry.by_name(&pull.node);
        let (held, profile) = node.map_or((0, Profiles::UNKNOWN), |node| (node.leases(), node.profile()));
        let inflight = self.queue.counts().leased;
        let room = rules::room_in_hub(self.limits.inflight_max, inflight)
            .min(rules::room_at_node(self.limits.leases_per_node_max, held));
        if room == 0 {
            self.audit(Audit::InflightSaturated { node: pull.node.clone(), inflight });
            return nothing(DEFER_MS);
        }
        if !self.queue.has_any(profile, &pull.kinds) {
            return nothing(Millis::ZERO);
        }
        let jobs_max = room.min(u64::from(pull.jobs_max.clamp(1, PULL_JOBS_MAX))) as usize;
        // A node that only pulls is known from its first job on.
        let known = node.map(Node::index);
        let index = self.with_registry(|registry, cx| {
            let index = known.map_or_else(|| registry.enrol(cx, &pull.node), Ok)?;
            registry.seen(cx, index);
            Ok(index)
        })?;
        let Hub { key, now, limits, registry, queue, timers, ledger, events, .. } = self;
        let name = registry.get(index).expect("enrolled above").name();
        let cx = &mut Context { now: *now, key, limits, timers, ledger, events };
        let leases = queue.lease(cx, (index, name), profile, pull, jobs_max);
        Ok(Pulled { node: Some(index), leases, defer_ms: Millis::ZERO })
    }

    fn extend(&mut self, extend: &Extend) -> Outcome {
        let outcome = Outcome::Extended(self.with_queue(|queue, cx| queue.extend(cx, extend)));
        // What changes nothing is not journaled, and must not change when the node was seen.
        if outcome.is_durable()
            && let Some(index) = self.registry.by_name(&extend.node).map(Node::index)
        {
            self.seen(index);
        }
        outcome
    }

    fn complete(&mut self, complete: Complete) -> Outcome {
        // With its lease or its name a node shows that it is the one; a v1.5 client may be anybody.
        let is_nodes_own = complete.lease.is_some() || complete.node.is_some();
        match self.with_queue(|queue, cx| queue.complete(cx, complete)) {
            Err(refusal) => Outcome::Refused(refusal),
            Ok((completed, node)) => {
                if let Some(node) = node.filter(|_| is_nodes_own) {
                    self.seen(node);
                }
                Outcome::Completed(completed)
            }
        }
    }

    fn fire(&mut self, timer: Timer) {
        match timer {
            Timer::JobExpires(seq) => self.with_queue(|queue, cx| queue.expire(cx, seq)),
            Timer::LeaseEnds(seq) => self.with_queue(|queue, cx| queue.lease_ends(cx, seq)),
            Timer::JobDue(seq) => self.with_queue(|queue, cx| queue.job_due(cx, seq)),
            Timer::NodeLiveness(node) => self.with_registry(|registry, cx| registry.check_liveness(cx, node)),
            Timer::KeyExpires(place) => self.dedup.expire(&mut self.ledger, place),
        }
        self.follow_events();
    }

    /// What happened to jobs concerns nodes, keys, telemetry and clients: each event is followed up here, and nowhere
    /// else. Retention comes last, so that a job's end is told before it may go.
    fn follow_events(&mut self) {
        let mut events = std::mem::take(&mut self.events);
        events.drain(..).for_each(|event| self.follow(event));
        self.events = events;
        let Hub { limits, queue, ledger, untold, effects, .. } = self;
        queue.enforce_retention(limits, ledger, untold.first_number, |ended| untold.job_went(effects, ended));
    }

    fn follow(&mut self, event: Event) {
        if matches!(event, Event::AttemptEnded { .. } | Event::Ended { .. }) {
            self.ended_at = self.now;
        }
        match event {
            Event::Submitted { kind } => {
                if self.is_serving {
                    let kind = self.queue.kinds_mut().row_mut(kind);
                    kind.count(|name, place| self.telemetry.submitted(self.now, name, place));
                }
            }
            Event::Leased { node, waited } => {
                self.registry.lease_given(node);
                if self.is_serving {
                    self.telemetry.leased(self.now, waited);
                }
            }
            Event::AttemptEnded { lease, node, ran, is_reaped } => {
                let name = self.registry.lease_ended(node).name();
                self.queue.waiters_mut().free(name);
                if self.is_serving {
                    self.telemetry.attempt_ended(self.now, ran);
                }
                if is_reaped {
                    let node = name.clone();
                    self.audit(Audit::LeaseReap { job: lease.job, node, attempt: lease.generation });
                }
            }
            Event::RetryScheduled { lease, delay } => {
                self.audit(Audit::RetryScheduled { job: lease.job, attempt: lease.generation, delay_ms: delay });
            }
            Event::Exhausted { job, attempts } => self.audit(Audit::RetryExhausted { job, attempts }),
            Event::Ended { job, kind, status, key } => {
                if let Some(place) = key {
                    let outcome = self.queue.outcome_of(job);
                    let rooms = (&mut self.timers, &mut self.ledger);
                    self.dedup.settle((self.now, &self.limits), rooms, place, status, outcome);
                }
                if self.is_serving {
                    let kind = self.queue.kinds_mut().row_mut(kind);
                    kind.count(|name, place| self.telemetry.ended(self.now, name, place, status));
                    self.untold.places.push(self.effects.len());
                    self.effects.push(Effect::Ended { job, gone: None });
                }
            }
        }
    }

    fn seen(&mut self, node: NodeIndex) {
        self.with_registry(|registry, cx| registry.seen(cx, node));
    }

    fn wake_waiters_of(&mut self, node: &Name) {
        let woken = self.queue.take_waiters_of(&mut self.ledger, node);
        self.effects.extend(woken.into_iter().map(Effect::Wake));
    }

    fn profile_of(&self, node: &Name) -> ProfileIndex {
        self.registry.by_name(node).map_or(Profiles::UNKNOWN, Node::profile)
    }

    fn with_queue<T>(&mut self, act: impl FnOnce(&mut Queue, &mut Context) -> T) -> T {
        let Hub { key, now, limits, queue, timers, ledger, events, .. } = self;
        act(queue, &mut Context { now: *now, key, limits, timers, ledger, events })
    }

    /// Lets the registry act, then follows up what it reports: lines for the audit log, and nodes that were forgotten.
    fn with_registry<T>(&mut self, act: impl FnOnce(&mut Registry, &mut NodeContext) -> T) -> T {
        let (mut audits, mut forgotten) = (Vec::new(), Vec::new());
        let Hub { now, limits, registry, timers, ledger, .. } = self;
        let mut cx = NodeContext { now: *now, limits, timers, ledger, audits: &mut audits, forgotten: &mut forgotten };
        let answer = act(registry, &mut cx);
        audits.into_iter().for_each(|audit| self.audit(audit));
        for node in forgotten {
            self.queue.leases_mut().forget(node.index());
            self.wake_waiters_of(node.name());
            self.queue.profiles_mut().leave(node.profile());
        }
        answer
    }

    fn audit(&mut self, event: Audit) {
        if self.is_serving {
            self.telemetry.audit(self.now, &event);
            self.effects.push(Effect::Audit(self.now, event));
        }
    }

    /// Reports a refusal that says that something is full.
    fn report_drop(&mut self, refusal: &Refusal) {
        let Some(full) = refusal.full() else { return };
        let queue_depth = self.queue.counts().waiting();
        self.audit(Audit::BackpressureDrop { reason: full.reason, held: full.held, max: full.max, queue_depth });
    }

    fn extend_chain(&mut self, outcome: &Outcome) {
        let counts = self.queue.counts();
        let counts = [
            self.now.as_millis(),
            counts.scheduled,
            counts.queued,
            counts.leased,
            counts.retained,
            counts.dead,
            self.dedup.len() as u64,
            self.dedup.spent_count() as u64,
            self.registry.len() as u64,
            self.timers.len() as u64,
            self.ledger.durable(),
        ];
        self.chain.fold_outcome(outcome, counts);
    }

    /// Whether nothing falls due up to `now`: what most calls find, and cheaper than to find out what comes next.
    fn is_nothing_due(&self, now: Timestamp) -> bool {
        let or_never = |at: Option<Timestamp>| at.unwrap_or(Timestamp::NEVER);
        let retention_at = or_never(self.queue.next_retention_at(&self.limits));
        let expiry_at = or_never(self.dedup.next_expiry_at(&self.limits));
        or_never(self.timers.next_at()).min(retention_at).min(expiry_at) > now
    }

    fn next_due(&self) -> Option<(Timestamp, Due)> {
        let mut first = (self.timers.next_at(), Due::Timer);
        // Of two at one instant the one that is first here comes first.
        let others = [
            (self.queue.next_retention_at(&self.limits), Due::OldestFinal),
            (self.dedup.next_expiry_at(&self.limits), Due::OldestKey),
        ];
        for other in others {
            if other.0.is_some_and(|at| first.0.is_none_or(|first| at < first)) {
                first = other;
            }
        }
        Some((first.0?, first.1))
    }

    pub(crate) fn restore_node(&mut self, record: NodeRecord) -> Result<(), &'static str> {
        let mut node = record.into_node();
        let profile = self.queue.profiles_mut().enter(node.zone(), node.capabilities());
        node.set_profile(profile);
        self.registry.restore(&mut self.timers, &mut self.ledger, node)
    }

    pub(crate) fn restore_job(
        &mut self,
        taken_places: &mut BTreeSet<JobSeq>,
        record: JobRecord,
    ) -> Result<(), &'static str> {
        let Hub { key, now, limits, registry, queue, timers, ledger, events, .. } = self;
        queue.restore(&mut Context { now: *now, key, limits, timers, ledger, events }, registry, taken_places, record)
    }

    pub(crate) fn restore_key(&mut self, record: KeyRecord) -> Result<(), &'static str> {
        let rooms = (&mut self.timers, &mut self.ledger);
        let (place, job) = self.dedup.restore(&self.limits, rooms, record)?;
        match place {
            Some(place) if !self.queue.restore_key(&mut self.ledger, job, place) => {
                Err("a key is bound to a job that is not there, or to two")
            }
            _ => Ok(()),
        }
    }

    pub(crate) fn restored(&mut self) {
        self.queue.restored();
        self.registry.restored();
    }
}

impl Untold {
    /// A job's retention took it: if the shell was not told of its end yet, the effect takes the job along.
    fn job_went(&self, effects: &mut [Effect], ended: EndedJob) {
        let index = ended.number().checked_sub(self.first_number);
        if let Some(place) = index.and_then(|index| self.places.get(index as usize)) {
            let Effect::Ended { gone, .. } = &mut effects[*place] else { unreachable!("an end is where it was put") };
            *gone = Some(Box::new(ended));
        }
    }

    /// The shell takes all effects; the next job that ends gets this number.
    fn all_told(&mut self, next_number: u64) {
        self.first_number = next_number;
        self.places.clear();
    }
}

impl Binding {
    fn new(idempotency: &Idempotency, job: JobSeq) -> Binding {
        Binding { payload_hash: idempotency.payload_hash, job, ttl_ms: idempotency.ttl_ms }
    }
}
