//! The hub: one deterministic state machine that is given the time.
//!
//! How to drive it:
//! - [`Hub::apply`] with the instant and a command changes durable state and returns the outcome. Due timers fire
//!   before the command, in order, each at its own instant; timers that the command itself made due fire after it. So
//!   the state is a function of the commands that changed something (the journal) and of nothing else: calls in between
//!   do not matter.
//! - [`Hub::advance`] fires due timers without a command: call it at [`Hub::next_deadline`], or long polls wake late.
//! - [`Hub::park`], [`Hub::unpark`], [`Hub::observe`], [`Hub::note_results_read`] change ephemeral state, which no journal holds.
//! - After any of these, call [`Hub::settle`] until it returns no more effects. [`Hub::next_deadline`] panics before
//!   that: a shell that sleeps before it has carried out all effects leaves a client without its answer.
//! - All other methods only read.
//!
//! A new hub replays a journal: it has no effects and counts nothing. [`Hub::serve`] makes it serve clients.
//!
//! `now` never goes back: an earlier instant counts as the latest one seen. The shell journals `max(now, hub.now())`.

use crate::access::guard::AuthGuard;
use crate::acts::{Act, ActOn, Acts, BeginAct};
use crate::chain::Chain;
use crate::command::{
    AdoptOrphan, Command, Complete, Drain, Extend, Heartbeat, Idempotency, Pull, Release, SetKind, Submit, Weight,
};
use crate::context::Context;
use crate::dedup::{Binding, Dedup, KeyPlace, KeyRecord, RepeatAnswer};
use crate::effect::{Audit, Effect};
use crate::envelope::Caller;
use crate::ids::{HubKey, Ids, JobSeq, LeaseRef, NodeIndex};
use crate::integrity::stored::ResultIntegrity;
use crate::ledger::{Account, Ledger};
use crate::limits::{ACT_STEP_EXAMINED, ACT_WAIT_MS, DEFER_MS, DRAINED_DEFER_MS, Limits, PULL_JOBS_MAX, WEIGHTS_MAX};
use crate::name::Name;
use crate::orphans::{Orphan, Orphans, ParkResult};
use crate::outcome::{DropReason, FinalStatus, Full, LeftOut, Outcome, Pulled, Refusal, Submitted, Withheld};
use crate::queue::ageing::OrderRecord;
use crate::queue::ending::Ended;
use crate::queue::event::{Event, LetterLeft};
use crate::queue::job::{EndReason, JobView, State};
use crate::queue::kind::KindRecord;
use crate::queue::letter_filter::LetterFilter;
use crate::queue::profile::{ProfileIndex, Profiles};
use crate::queue::retry_budget::Earned;
use crate::queue::successor::Taken;
use crate::queue::turns::WEIGHT_MAX;
use crate::queue::waiter::WaiterId;
use crate::queue::{Counts, EndedJob, JobRecord, Queue};
use crate::registry::node::{Drained, Liveness, Node, NodeRecord};
use crate::registry::{NodeContext, Registry};
use crate::rules::{self, KnownKey, RulesVersion};
use crate::salts::Salt;
use crate::settings::Setting;
use crate::telemetry::drops::Drops;
use crate::telemetry::{Observation, Telemetry};
use crate::time::{Calendar, Millis, Timestamp};
use crate::timers::{Timer, Timers};
use crate::zone::Zone;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// The state of a hub.
#[derive(Debug)]
pub struct Hub {
    pub(crate) ids: Ids,
    pub(crate) rules: RulesVersion,
    pub(crate) now: Timestamp,
    pub(crate) limits: Limits,
    pub(crate) registry: Registry,
    pub(crate) queue: Queue,
    pub(crate) dedup: Dedup,
    pub(crate) acts: Acts,
    pub(crate) orphans: Orphans,
    pub(crate) chain: Chain,
    pub(crate) timers: Timers,
    ledger: Ledger,
    /// Who sent the command that is handled.
    caller: Caller,
    /// What happened to jobs in the current transition.
    events: Vec<Event>,
    guard: AuthGuard,
    telemetry: Telemetry,
    /// Refusals of the current round.
    drops: Drops,
    effects: Vec<Effect>,
    /// When an attempt or a job ended last, a dead letter left, an act went on or a pause ended.
    ended_at: Timestamp,
    undelivered_ends: UndeliveredEnds,
    /// Whether it serves clients; otherwise it replays a journal.
    is_serving: bool,
    is_settled: bool,
    /// Whether all that is due at `now` is done; of a restored hub it is not known.
    is_advanced: bool,
}

/// The [`Effect::Ended`] effects that are not delivered to the shell yet.
#[derive(Default, Debug)]
struct UndeliveredEnds {
    /// The final number of the first of their jobs.
    first_number: u64,
    /// Their positions among the effects, in the order of ending; `None` for a dead letter that got another number and
    /// whose end was delivered before.
    positions: Vec<Option<usize>>,
}

/// What is due next.
#[derive(Clone, Copy)]
enum Due {
    Timer,
    OldestFinal,
    OldestKey,
}

impl Hub {
    /// A hub without jobs or nodes, under the first rules and their default limits, that replays a journal.
    pub fn new(key: HubKey) -> Self {
        Hub {
            ids: Ids::new(key),
            rules: RulesVersion::FIRST,
            now: Timestamp::ZERO,
            limits: Limits::default(),
            registry: Registry::default(),
            queue: Queue::default(),
            dedup: Dedup::default(),
            acts: Acts::default(),
            orphans: Orphans::default(),
            chain: Chain::START,
            timers: Timers::default(),
            ledger: Ledger::default(),
            caller: Caller::HUB,
            events: Vec::new(),
            guard: AuthGuard::new(60, true),
            telemetry: Telemetry::default(),
            drops: Drops::default(),
            effects: Vec::new(),
            ended_at: Timestamp::ZERO,
            undelivered_ends: UndeliveredEnds::default(),
            is_serving: false,
            is_settled: true,
            is_advanced: false,
        }
    }

    /// Whether nothing is left for [`Hub::settle`].
    pub fn is_settled(&self) -> bool {
        self.is_settled
    }

    /// From now on it serves clients: it produces effects and counts what happens.
    pub fn serve(&mut self) {
        self.is_serving = true;
        // What happened before was not counted.
        self.telemetry.begin_waiting(self.now);
        self.undelivered_ends.clear(self.queue.next_numbers().1);
    }

    /// Carries out a command of the hub itself.
    pub fn apply(&mut self, now: Timestamp, command: Command) -> Outcome {
        self.apply_for(Caller::HUB, now, command)
    }

    /// Carries out a command. Never fails: a refusal is an outcome and changes nothing.
    pub fn apply_for(&mut self, caller: Caller, now: Timestamp, command: Command) -> Outcome {
        if now > self.now || !self.is_advanced {
            self.advance(now);
        }
        debug_assert!(self.next_due().is_none_or(|(at, _)| at > self.now), "something is due at {:?}", self.now);
        self.is_settled = false;
        self.caller = caller;
        let outcome = match command {
            Command::Set(settings) => self.set(&settings),
            Command::Heartbeat(heartbeat) => self.heartbeat(heartbeat),
            Command::NodesSeen(nodes) => {
                for node in nodes {
                    self.note_seen(node);
                    self.note_heartbeat(node);
                }
                Outcome::Done
            }
            Command::Tick => Outcome::Done,
            Command::Submit(submit) => match self.queue.full_depth(&self.limits, &submit) {
                Some(depth) => return self.refuse_full(depth),
                None => self.submit(submit).map_or_else(Outcome::Refused, Outcome::Submitted),
            },
            Command::Pull(pull) => self.pull(&pull).map_or_else(Outcome::Refused, Outcome::Pulled),
            Command::Extend(extend) => self.extend(&extend),
            Command::Complete(complete) => self.complete(complete),
            Command::AdoptRules(version) => self.adopt_rules(version),
            Command::BeginSalt(salt) => self.begin_salt(salt),
            Command::Reclaim(leases) => Outcome::Reclaimed(self.with_queue(|queue, cx| queue.reclaim(cx, &leases))),
            Command::SetCalendar(calendar) => {
                self.timers.set_calendar(calendar);
                Outcome::Done
            }
            Command::Slept(duration) => self.sleep(duration),
            Command::Cancel(job) => self.cancel(job),
            Command::Release(release) => self.release(&release),
            Command::SetKind(set) => self.set_kind(*set),
            Command::Requeue(job) => done_or_refused(self.requeue(job, LetterLeft::Requeued)),
            Command::Discard(job) => {
                done_or_refused(self.with_queue(|queue, cx| queue.discard(cx, job, LetterLeft::Discarded)))
            }
            Command::Drain(drain) => self.drain(drain),
            Command::Resume(node) => self.resume(&node),
            Command::RemoveNode(node) => self.remove_node(&node),
            Command::BeginAct(begin) => self.begin_act(*begin),
            Command::CancelAct(act) => self.cancel_act(act),
            Command::ParkResult(parked) => self.park_result(*parked),
            Command::AdoptOrphan(adopt) => self.adopt_orphan(&adopt),
            Command::DiscardOrphan(orphan) => self.discard_orphan(orphan),
            Command::SetWeights(weights) => self.set_weights(weights),
        };
        if let Outcome::Refused(refusal) = &outcome {
            // Nothing has changed, so nothing follows.
            self.note_drops(refusal, 1);
            return outcome;
        }
        self.handle_events();
        self.advance(self.now);
        if outcome.is_durable() {
            self.extend_chain(&outcome);
        }
        outcome
    }

    /// Counts `count` more refusals like this one, of submits that were not read: the queue has not changed since.
    pub fn refuse_unread(&mut self, refusal: &Refusal, count: u32) {
        self.is_settled = false;
        self.note_drops(refusal, count);
    }

    /// Fires the timers that are due up to `now`, each at its own instant, earliest first.
    pub fn advance(&mut self, now: Timestamp) {
        let now = rules::later(self.now, now);
        self.is_advanced = true;
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
                    let first = self.undelivered_ends.first_number;
                    let dropped = self.with_queue(|queue, cx| queue.drop_oldest_final(cx, first));
                    let ends = &self.undelivered_ends;
                    dropped.into_iter().for_each(|dropped| ends.attach_dropped(&mut self.effects, dropped));
                    self.note_dropped();
                    self.handle_events();
                }
                Due::OldestKey => self.dedup.evict_oldest(&self.limits, &mut self.timers, &mut self.ledger),
            }
        }
        self.now = now;
    }

    /// When the next timer is due.
    ///
    /// # Panics
    /// If the hub is not settled.
    pub fn next_deadline(&self) -> Option<Timestamp> {
        assert!(self.is_settled || !self.is_serving, "a hub is settled before its shell sleeps until the deadline");
        self.next_due_at()
    }

    /// As [`Hub::next_deadline`], also for a hub that is not settled: for callers that do not sleep until then.
    pub fn next_due_at(&self) -> Option<Timestamp> {
        self.next_due().map(|(at, _)| at)
    }

    /// Parks a long poll that found no job: [`Effect::Wake`] says when to repeat its pull. `false` if too many are
    /// parked or a job is ready for it already: then repeat the pull, or answer it.
    pub fn park(&mut self, id: WaiterId, pull: &Pull) -> bool {
        let profile = self.profile_of(&pull.node);
        !self.queue.has_any(&pull.node, profile, &pull.kinds) && self.queue.park(&mut self.ledger, id, pull, profile)
    }

    /// Removes a long poll that was answered or whose client disconnected.
    pub fn unpark(&mut self, id: WaiterId) {
        self.queue.unpark(&mut self.ledger, id);
    }

    /// Delivers the effects since the last call to `effects`, each once. Wakes as many long polls as there are ready
    /// jobs and room for leases. A woken poll may lease none of them (its client disconnected, or it got a more urgent
    /// job), so call this again until it adds nothing.
    pub fn settle(&mut self, effects: &mut Vec<Effect>) {
        let room = rules::room_in_hub(self.limits.inflight_max, self.queue.counts().leased);
        let (registry, limits) = (&self.registry, &self.limits);
        let room_at = |node: &Name| {
            let node = registry.by_name(node);
            if node.is_some_and(|node| node.drain().is_some()) {
                return 0;
            }
            rules::room_at_node(limits.leases_per_node_max, node.map_or(0, Node::leases))
        };
        let woken = self.queue.unpark_waiters_to_wake(&mut self.ledger, self.now, (room, limits), room_at);
        self.effects.extend(woken.into_iter().map(Effect::Wake));
        self.effects.extend(self.drops.drain().map(|(at, audit)| Effect::Audit(at, audit)));
        self.is_settled = self.effects.is_empty();
        self.undelivered_ends.clear(self.queue.next_numbers().1);
        effects.append(&mut self.effects);
    }

    /// A client has read its results before a position.
    pub fn note_results_read(&mut self, client: &str, position: u64) {
        self.queue.clients_mut().note_read(client, position);
    }

    /// Counts what the shell observed.
    pub fn observe(&mut self, now: Timestamp, observation: Observation) {
        if let Observation::AuthFailure { address, .. } = observation {
            self.guard.record_failure(now, address);
        }
        self.telemetry.observe(now, observation);
    }

    pub fn telemetry(&self) -> &Telemetry {
        &self.telemetry
    }

    /// Sets how many authentication failures an address may have in a minute.
    pub fn set_guard(&mut self, failures_max: u32, is_loopback_exempt: bool) {
        self.guard = AuthGuard::new(failures_max, is_loopback_exempt);
    }

    /// How long an address is still blocked for its authentication failures.
    pub fn auth_blocked_for(&self, now: Timestamp, address: IpAddr) -> Option<Millis> {
        self.guard.blocked_for(now, address)
    }

    /// The latest instant seen.
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// What the calendar shows at an instant of the hub's time.
    pub fn calendar(&self) -> Calendar {
        self.timers.calendar()
    }

    /// When an attempt or a job ended last, a dead letter left, an act went on or a pause ended, by a timer or a command, since
    /// this hub was created: what time alone may do, and replies may show.
    pub fn ended_at(&self) -> Timestamp {
        self.ended_at
    }

    pub fn key(&self) -> &HubKey {
        self.ids.key()
    }

    /// By which ids are written, and job ids are read.
    pub fn ids(&self) -> &Ids {
        &self.ids
    }

    /// The lease that a text names; `None` if it names none of those that the hub still knows.
    pub fn parse_lease_id(&self, text: &str) -> Option<LeaseRef> {
        self.ids.parse_lease_id(text, |lease| Some(self.queue.get(lease.job)?.attempt(lease.generation)?.started_at))
    }

    /// The version of the rules that are in force.
    pub fn rules(&self) -> RulesVersion {
        self.rules
    }

    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    pub fn queue(&self) -> &Queue {
        &self.queue
    }

    /// Acts on many dead letters.
    pub fn acts(&self) -> &Acts {
        &self.acts
    }

    /// Results of unknown jobs.
    pub fn orphans(&self) -> &Orphans {
        &self.orphans
    }

    /// How many dead letters match a filter. O(letters), of its kind if it names one.
    pub fn count_letters(&self, filter: &LetterFilter) -> u64 {
        let letters = self.queue.letters_from(0, filter.kind.as_deref());
        letters.filter(|(_, letter)| filter.matches(letter)).count() as u64
    }

    /// The idempotency keys.
    pub fn dedup(&self) -> &Dedup {
        &self.dedup
    }

    /// How many bytes are held, by account.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// The ledger, recomputed by a walk over every store: it must equal [`Hub::ledger`]. O(n).
    pub fn recount(&self) -> Ledger {
        let mut ledger = Ledger::default();
        self.queue.recount(&mut ledger);
        ledger.charge(Account::Answers, self.dedup.bytes());
        ledger.charge(Account::Nodes, self.registry.bytes());
        ledger.charge(Account::Orphans, self.orphans.bytes());
        ledger
    }

    /// The job that an idempotency key is bound to. O(1).
    pub fn job_of_key(&self, key: &Name) -> Option<JobSeq> {
        self.dedup.get(self.key().idempotency_key(key)).map(|(_, entry)| entry.job)
    }

    /// Jobs by state.
    pub fn counts(&self) -> Counts {
        self.queue.counts()
    }

    /// How many timers are set.
    pub fn timer_count(&self) -> usize {
        self.timers.len()
    }

    /// A hash over the outcomes of all commands that changed something, zero before the first. Two runs of one journal
    /// that differ in it at some command decided differently.
    pub fn outcome_hash(&self) -> [u8; 16] {
        if self.chain == Chain::START {
            return [0; 16];
        }
        self.key().outcome_hash(self.chain.words()).to_le_bytes()
    }

    fn set(&mut self, settings: &[Setting]) -> Outcome {
        let old = self.limits.clone();
        self.with_queue(Queue::settle_budget);
        settings.iter().for_each(|setting| self.limits.set(*setting));
        self.with_queue(Queue::update_credit_timer);
        self.with_queue(|queue, cx| queue.reorder(cx, &old));
        self.orphans.enforce(&mut self.ledger, &self.limits);
        self.registry.reconfigure(&mut self.timers, self.now);
        self.dedup.reconfigure(self.now, (&old, &self.limits), (&mut self.timers, &mut self.ledger));
        // Lanes for which the hub had no room are marked still.
        self.queue.waiters_mut().note_all_freed();
        Outcome::Done
    }

    /// The machine slept. Leases and the liveness of nodes stand still: nobody could work or be heard. All other time
    /// passes. O((leases + nodes) log n).
    fn sleep(&mut self, duration: Millis) -> Outcome {
        self.with_queue(|queue, cx| queue.postpone_leases(cx, duration));
        self.registry.postpone_checks(&mut self.timers, duration);
        self.advance(self.now + duration);
        Outcome::Done
    }

    fn adopt_rules(&mut self, version: RulesVersion) -> Outcome {
        if version < self.rules || version > RulesVersion::NEWEST {
            return Outcome::Refused(Refusal::RulesNotTaken);
        }
        let had_budget = rules::limits_retries(self.rules);
        let charged_ageing = rules::charges_ageing(self.rules);
        self.rules = version;
        if rules::limits_retries(version) && !had_budget {
            self.with_queue(Queue::begin_budget);
        }
        if rules::charges_ageing(version) && !charged_ageing {
            self.with_queue(Queue::begin_charging_ageing);
        }
        Outcome::Done
    }

    fn begin_salt(&mut self, salt: Salt) -> Outcome {
        self.advance(self.now + Millis::new(1));
        self.ids.salts.begin(self.queue.next_seq(), self.now, salt);
        Outcome::Done
    }

    fn heartbeat(&mut self, heartbeat: Heartbeat) -> Outcome {
        let (name, zone, capabilities) =
            (heartbeat.node.clone(), heartbeat.zone.clone(), heartbeat.capabilities.clone());
        let (index, is_changed) = match self.with_registry(|registry, cx| registry.heartbeat(cx, heartbeat)) {
            Err(refusal) => return Outcome::Refused(refusal),
            Ok(accepted) => accepted,
        };
        self.note_heartbeat(index);
        if is_changed {
            let profile = self.queue.profiles_mut().acquire(&zone, &capabilities);
            let node = self.registry.get_mut(index).expect("its heartbeat was just accepted");
            let old = node.profile();
            node.set_profile(profile);
            self.queue.profiles_mut().release(old);
            self.wake_waiters_of(&name);
        }
        Outcome::Heard { node: index }
    }

    fn submit(&mut self, submit: Box<Submit>) -> Result<Submitted, Refusal> {
        match submit.idempotency.clone() {
            Some(idempotency) => self.submit_with_key(submit, idempotency),
            None => {
                let admitted = self.queue.admit(&self.limits, &self.ledger, &submit, None)?;
                let job = self.with_queue(|queue, cx| queue.submit(cx, submit, admitted, Taken::default()));
                Ok(Submitted::Accepted { job, supersedes: None, replaces: None })
            }
        }
    }

    /// A known key is answered before the limits are looked at, and a refused submit binds no key.
    fn submit_with_key(&mut self, submit: Box<Submit>, idempotency: Idempotency) -> Result<Submitted, Refusal> {
        let key = self.key().idempotency_key(&idempotency.key);
        let Some((place, entry)) = self.dedup.get(key) else {
            self.dedup.admit(self.now, &self.limits)?;
            let admitted = self.queue.admit(&self.limits, &self.ledger, &submit, None)?;
            let job = self.with_queue(|queue, cx| queue.submit(cx, submit, admitted, Taken::default()));
            let binding = Binding::new(&idempotency, job);
            let stores = (&mut self.timers, &mut self.ledger);
            let place = self.dedup.bind((self.now, &self.limits), stores, key, binding);
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
                let answer = entry.answer();
                let ended = answer.as_ref().map(|answer| answer.status);
                self.audit(Audit::IdempotencyHit { job: old, key: idempotency.key, ended });
                Ok(match answer {
                    None => Submitted::InProgress { job: old },
                    Some(answer) => {
                        let RepeatAnswer { status, result, error, integrity, lacks_since } = answer;
                        let left_out = match (self.queue.get(old).map(|job| job.state()), lacks_since) {
                            (Some(State::Final { result: whole, error: reason, .. }), _) => {
                                // Earlier versions did not record what an answer lacks.
                                let lacks = |of_job: bool, of_answer: bool| of_job && !of_answer;
                                let is_part = lacks(whole.is_some(), result.is_some())
                                    || lacks(reason.is_some(), error.is_some());
                                is_part.then_some(LeftOut::InJob)
                            }
                            (_, Some(gone_at)) => {
                                Some(LeftOut::Gone(Some(gone_at).filter(|at| *at != Timestamp::NEVER)))
                            }
                            (_, None) => None,
                        };
                        Submitted::Final { job: old, status, result, error, integrity, left_out }
                    }
                })
            }
            KnownKey::Supersedes => {
                // The superseded job frees the room that the new one needs.
                let is_bounded = self.queue.must_finish(self.rules, old);
                let leaving = Some(old).filter(|_| !is_bounded);
                let admitted = self.queue.admit(&self.limits, &self.ledger, &submit, leaving)?;
                let job = self.with_queue(|queue, cx| {
                    if is_bounded {
                        return queue.submit_after(cx, submit, admitted, old);
                    }
                    let taken = queue.supersede(cx, old);
                    queue.submit(cx, submit, admitted, taken)
                });
                self.bind_again(place, &idempotency, job);
                Ok(Submitted::Accepted { job, supersedes: leaving, replaces: None })
            }
            KnownKey::Replaces => {
                let admitted = self.queue.admit(&self.limits, &self.ledger, &submit, None)?;
                let job = self.with_queue(|queue, cx| queue.submit(cx, submit, admitted, Taken::default()));
                self.bind_again(place, &idempotency, job);
                Ok(Submitted::Accepted { job, supersedes: None, replaces: Some(old) })
            }
        }
    }

    fn bind_again(&mut self, place: KeyPlace, idempotency: &Idempotency, job: JobSeq) {
        let stores = (&mut self.timers, &mut self.ledger);
        let place = self.dedup.bind_again((self.now, &self.limits), stores, place, Binding::new(idempotency, job));
        self.queue.set_key(job, place);
    }

    fn pull(&mut self, pull: &Pull) -> Result<Pulled, Refusal> {
        let nothing = |defer_ms| Ok(Pulled { node: None, leases: Vec::new(), defer_ms, withheld: None });
        let node = self.registry.by_name(&pull.node);
        if node.is_some_and(|node| rules::is_withheld(node.drain().is_some())) {
            let withheld = Some(Withheld::Drained);
            return Ok(Pulled { node: None, leases: Vec::new(), defer_ms: DRAINED_DEFER_MS, withheld });
        }
        let (held, profile) = node.map_or((0, Profiles::UNKNOWN), |node| (node.leases(), node.profile()));
        let (inflight, inflight_max) = (self.queue.counts().leased, self.limits.inflight_max);
        let held_max = self.limits.leases_per_node_max;
        let room_in_hub = rules::room_in_hub(inflight_max, inflight);
        let in_zone = self.queue.leases_in_zone(node.map_or(&Zone::DEFAULT, Node::zone));
        let in_zone_max = self.limits.leases_per_zone_max;
        let room_in_zone = rules::room_in_zone(in_zone_max, in_zone);
        let room = room_in_hub.min(room_in_zone).min(rules::room_at_node(held_max, held));
        if room == 0 {
            let (inflight, max) = match (room_in_hub, room_in_zone) {
                (0, _) => (inflight, inflight_max),
                (_, 0) => (in_zone, in_zone_max),
                _ => (held, held_max),
            };
            self.audit(Audit::InflightSaturated { node: pull.node.clone(), inflight, max });
            return nothing(DEFER_MS);
        }
        if self.queue.waits_for_bytes((&self.limits, &self.ledger), profile, pull) {
            let (bytes, bytes_max) = (self.ledger.get(Account::Leased), self.limits.inflight_bytes_max);
            self.audit(Audit::InflightBytesSaturated { node: pull.node.clone(), bytes, bytes_max });
            return nothing(DEFER_MS);
        }
        let jobs_max = room.min(u64::from(pull.jobs_max.clamp(1, PULL_JOBS_MAX))) as usize;
        let index = match node.map(Node::index) {
            Some(index) => index,
            // A node that sends no heartbeats is registered with its first lease.
            None if self.queue.has_any(&pull.node, profile, &pull.kinds) => {
                self.with_registry(|registry, cx| registry.register(cx, &pull.node))?
            }
            None => return nothing(Millis::ZERO),
        };
        let Hub { ids, now, rules, limits, registry, queue, timers, ledger, events, .. } = self;
        let name = registry.get(index).expect("it is registered").name();
        let cx = &mut Context { now: *now, key: ids.key(), rules: *rules, limits, timers, ledger, events };
        let leases = queue.lease(cx, (index, name), profile, pull, jobs_max);
        if leases.is_empty() {
            return nothing(Millis::ZERO);
        }
        self.ids.salts.note_lease();
        self.note_seen(index);
        Ok(Pulled { node: Some(index), leases, defer_ms: Millis::ZERO, withheld: None })
    }

    fn extend(&mut self, extend: &Extend) -> Outcome {
        let drain_at = self.registry.by_name(&extend.node).and_then(|node| node.extensions_end_at(self.now));
        let outcome = Outcome::Extended(self.with_queue(|queue, cx| queue.extend(cx, extend, drain_at)));
        // An extension that changes nothing is not journaled, so it must not change when the node was last seen either.
        if outcome.is_durable()
            && let Some(index) = self.registry.by_name(&extend.node).map(Node::index)
        {
            self.note_seen(index);
        }
        outcome
    }

    fn complete(&mut self, complete: Complete) -> Outcome {
        // Only a lease or a node name shows that the node itself sent the result; a v1.5 client sends neither.
        let is_from_node = complete.lease.is_some() || complete.node.is_some();
        let (job, name) = (complete.job, complete.node.clone());
        if rules::refiles_letters(self.rules) && self.queue.completes_letter(&complete) {
            self.revive_for_result(job);
        }
        let (completed, ended) = match self.with_queue(|queue, cx| queue.complete(cx, complete)) {
            Err(refusal) => return Outcome::Refused(refusal),
            Ok(accepted) => accepted,
        };
        let node = match ended {
            Ended::Nothing => None,
            Ended::Lease(node) => Some(node),
            Ended::Wait => {
                let node = name.as_ref().and_then(|name| self.registry.by_name(name)).map(Node::index);
                self.audit(Audit::ResultUnleased { job, node: name });
                node
            }
        };
        if let Some(node) = node.filter(|_| is_from_node) {
            self.note_seen(node);
        }
        Outcome::Completed(completed)
    }

    fn cancel(&mut self, job: JobSeq) -> Outcome {
        let outcome = done_or_refused(self.with_queue(|queue, cx| queue.cancel(cx, job)));
        if outcome == Outcome::Done {
            self.audit(Audit::JobCancelled { job, by: self.caller.by });
        }
        outcome
    }

    fn release(&mut self, release: &Release) -> Outcome {
        let released = self.with_queue(|queue, cx| queue.release(cx, &release.node, &release.leases));
        let outcome = Outcome::Released(released);
        if outcome.is_durable()
            && let Some(index) = self.registry.by_name(&release.node).map(Node::index)
        {
            self.note_seen(index);
        }
        outcome
    }

    fn set_weights(&mut self, weights: Vec<Weight>) -> Outcome {
        let weights = weights.into_iter().take(WEIGHTS_MAX);
        let weights = weights.map(|Weight { group, weight }| (group, weight.clamp(1, WEIGHT_MAX)));
        let weights = weights.collect();
        self.with_queue(|queue, cx| queue.set_weights(cx, weights));
        let groups = self.queue.weights().len() as u64;
        self.audit(Audit::WeightsChanged { groups, by: self.caller.by });
        Outcome::Done
    }

    /// The weights of clients or kinds that take turns, by name; that of all others is 1.
    pub fn weights(&self) -> &BTreeMap<Name, u32> {
        self.queue.weights()
    }

    /// The version of the weights, from 0 on: no version of theirs comes twice.
    pub fn weights_version(&self) -> u64 {
        self.queue.weights_version()
    }

    fn set_kind(&mut self, set: SetKind) -> Outcome {
        let SetKind { kind, rules, expected, configured } = set;
        let changed = Box::new((self.queue.kind_rules(&kind).0.clone(), rules.clone()));
        if let Err(refusal) =
            self.with_queue(|queue, cx| queue.set_kind_rules(cx, &kind, (rules, configured), expected))
        {
            return Outcome::Refused(refusal);
        }
        let version = self.queue.kind_rules(&kind).1;
        self.audit(Audit::KindChanged { kind, version, rules: changed, by: self.caller.by });
        Outcome::KindSet { version }
    }

    /// Requeues a dead letter; its idempotency key, if it is held still, is bound to it again.
    fn requeue(&mut self, job: JobSeq, how: LetterLeft) -> Result<(), Refusal> {
        let place = self.place_of_dead_key(job)?;
        self.with_queue(|queue, cx| queue.admit_again(cx, job))?;
        self.with_queue(|queue, cx| queue.requeue(cx, job, how));
        self.bind_revived(job, place);
        Ok(())
    }

    /// A result of an attempt without a lease came for a dead letter: the work is done.
    fn revive_for_result(&mut self, job: JobSeq) {
        let place = self.place_of_dead_key(job).unwrap_or(None);
        self.with_queue(|queue, cx| queue.revive_for_result(cx, job));
        self.bind_revived(job, place);
    }

    /// The place of the key that a dead letter had, if it is held still; a refusal if it belongs to another job.
    fn place_of_dead_key(&self, job: JobSeq) -> Result<Option<KeyPlace>, Refusal> {
        let Some(key) = self.queue.letter_key(job)? else { return Ok(None) };
        match self.dedup.get(key) {
            Some((place, entry)) if entry.job == job => Ok(Some(place)),
            Some((_, entry)) => Err(Refusal::KeyCollision { job: entry.job, old_hash_prefix: entry.hash_prefix() }),
            None => Ok(None),
        }
    }

    fn bind_revived(&mut self, job: JobSeq, place: Option<KeyPlace>) {
        if let Some(place) = place {
            let stores = (&mut self.timers, &mut self.ledger);
            let place = self.dedup.unspend(&self.limits, stores, place);
            self.queue.set_key(job, place);
        }
    }

    fn begin_act(&mut self, begin: BeginAct) -> Outcome {
        let BeginAct { what, filter, rate_per_sec, count_max } = begin;
        if let Err(refusal) = self.acts.admit() {
            return Outcome::Refused(refusal);
        }
        let matched = self.count_letters(&filter);
        let audited = filter.clone();
        if let Some(max) = count_max.filter(|max| matched > *max) {
            return Outcome::Refused(Refusal::TooManyLetters { matched, max });
        }
        let (id, now) = (self.acts.next_id(), self.now);
        let act = Act {
            id,
            what,
            filter,
            rate_per_sec,
            by: self.caller.by,
            began_at: now,
            matched,
            done: 0,
            skipped: 0,
            first: None,
            last: None,
            ended_at: None,
            is_cancelled: false,
            next_number: 0,
            end_number: rules::act_ends_before(self.queue.next_numbers().1),
            step_at: now,
        };
        self.acts.insert(act);
        self.timers.set(now, Timer::ActSteps(id));
        self.audit(Audit::ActBegan { act: id, what, filter: audited, matched, by: self.caller.by });
        Outcome::ActBegun { act: id, matched }
    }

    fn cancel_act(&mut self, id: u32) -> Outcome {
        match self.acts.get(id) {
            None => Outcome::Refused(Refusal::UnknownAct),
            Some(act) if !act.is_running() => Outcome::Refused(Refusal::ActEnded),
            Some(act) => {
                self.timers.cancel(act.step_at, Timer::ActSteps(id));
                self.end_act(id, true);
                Outcome::Done
            }
        }
    }

    /// The timer of an act fired: it handles the next letters.
    fn step_act(&mut self, id: u32) {
        let act = self.acts.get(id).expect("an act with a timer runs").clone();
        let from = self.queue.letters_from(act.next_number, act.filter.kind.as_deref());
        let mut examined = from.take_while(|(number, _)| *number < act.end_number).peekable();
        let (mut chosen, mut next_number, mut count) = (Vec::new(), act.end_number, 0);
        while let Some((number, letter)) = examined.next() {
            count += 1;
            if act.filter.matches(&letter) {
                chosen.push((number, letter.seq()));
            }
            if chosen.len() as u64 >= act.step_letters() || count >= ACT_STEP_EXAMINED {
                next_number = examined.peek().map_or(act.end_number, |(number, _)| *number);
                break;
            }
        }
        drop(examined);
        let (mut changed, mut has_room) = (0, true);
        for (number, job) in chosen {
            let handled = match act.what {
                ActOn::Requeue => self.requeue(job, LetterLeft::ByAct { is_requeued: true }),
                ActOn::Discard => {
                    self.with_queue(|queue, cx| queue.discard(cx, job, LetterLeft::ByAct { is_requeued: false }))
                }
            };
            let act = self.acts.get_mut(id).expect("it runs");
            match handled {
                Ok(()) => {
                    act.done += 1;
                    changed += 1;
                    act.first = act.first.or(Some(job));
                    act.last = Some(job);
                }
                Err(refusal) if refusal.full().is_some() => {
                    (next_number, has_room) = (number, false);
                    break;
                }
                Err(_) => act.skipped += 1,
            }
        }
        let act = self.acts.get_mut(id).expect("it runs");
        if std::mem::replace(&mut act.next_number, next_number) != next_number {
            self.ended_at = self.now;
        }
        if has_room && next_number >= act.end_number {
            self.end_act(id, false);
        } else {
            act.step_at = self.now + if has_room { act.pause_after(changed) } else { ACT_WAIT_MS };
            self.timers.set(act.step_at, Timer::ActSteps(id));
        }
    }

    fn end_act(&mut self, id: u32, is_cancelled: bool) {
        let now = self.now;
        let act = self.acts.get_mut(id).expect("it runs");
        (act.ended_at, act.is_cancelled, act.step_at) = (Some(now), is_cancelled, Timestamp::NEVER);
        self.ended_at = now;
        let by = if is_cancelled { self.caller.by } else { act.by };
        let audit = Audit::ActEnded {
            act: id,
            what: act.what,
            filter: act.filter.clone(),
            done: act.done,
            skipped: act.skipped,
            jobs: act.first.zip(act.last),
            is_cancelled,
            by,
        };
        self.audit(audit);
    }

    fn park_result(&mut self, parked: ParkResult) -> Outcome {
        let (job_id, node) = (parked.job_id.clone(), parked.node.clone());
        let (orphan, is_duplicate, evicted) = self.orphans.park(&mut self.ledger, &self.limits, self.now, parked);
        if !is_duplicate {
            self.audit(Audit::ResultOrphaned { orphan, job_id, node, evicted });
        }
        Outcome::Parked { orphan, is_duplicate }
    }

    /// An operator adopts an orphan: it becomes the result of this job, as if its node had sent it now.
    fn adopt_orphan(&mut self, adopt: &AdoptOrphan) -> Outcome {
        let Some(orphan) = self.orphans.get(adopt.orphan) else { return Outcome::Refused(Refusal::UnknownOrphan) };
        // No node learns by an operator's call that its job has ended.
        if let Some(job) = self.queue.get(adopt.job).filter(JobView::is_held)
            && let State::Final { status, .. } = job.state()
        {
            return Outcome::Refused(Refusal::AlreadyFinal { status });
        }
        let ParkResult { job_id, node, ok, result, error, mark, mut integrity } = orphan.parked.clone();
        let adopting = self.ids().job_id(adopt.job).to_string();
        if *job_id != *adopting {
            // The worker's checksum is of the job that it named.
            integrity = ResultIntegrity::of_hub(error.as_ref(), &adopting, ok, result.as_ref()).map(Box::new);
        }
        let complete = Complete {
            job: adopt.job,
            lease: None,
            node: None,
            ok,
            result,
            error,
            is_retryable: true,
            mark,
            integrity,
            retry_after_ms: None,
        };
        let outcome = self.complete(complete);
        if outcome.is_durable() {
            self.orphans.remove(&mut self.ledger, adopt.orphan);
            self.audit(Audit::OrphanAdopted { orphan: adopt.orphan, job: adopt.job, node, by: self.caller.by });
        }
        outcome
    }

    fn discard_orphan(&mut self, orphan: u64) -> Outcome {
        if self.orphans.remove(&mut self.ledger, orphan).is_none() {
            return Outcome::Refused(Refusal::UnknownOrphan);
        }
        self.audit(Audit::OrphanDiscarded { orphan, by: self.caller.by });
        Outcome::Done
    }

    fn drain(&mut self, drain: Drain) -> Outcome {
        let Drain { node, deadline_ms, reason } = drain;
        let Some(index) = self.registry.by_name(&node).map(Node::index) else {
            return Outcome::Refused(Refusal::UnknownNode);
        };
        let until = deadline_ms.map(|deadline| self.now + deadline);
        let drained = Drained { since: self.now, until, reason: reason.clone() };
        self.registry.set_drain(&mut self.ledger, index, Some(drained));
        if let Some(until) = until {
            self.with_queue(|queue, cx| queue.end_leases_by(cx, index, until));
        }
        self.wake_waiters_of(&node);
        self.audit(Audit::NodeDrained { node, until, reason, by: self.caller.by });
        Outcome::Done
    }

    fn resume(&mut self, node: &Name) -> Outcome {
        let Some(index) = self.registry.by_name(node).map(Node::index) else {
            return Outcome::Refused(Refusal::UnknownNode);
        };
        self.registry.set_drain(&mut self.ledger, index, None);
        self.audit(Audit::NodeResumed { node: node.clone(), by: self.caller.by });
        Outcome::Done
    }

    fn remove_node(&mut self, node: &Name) -> Outcome {
        let Some(known) = self.registry.by_name(node) else { return Outcome::Refused(Refusal::UnknownNode) };
        if known.leases() > 0 || known.liveness() == Liveness::Online {
            return Outcome::Refused(Refusal::NodeInUse { leases: known.leases() });
        }
        let index = known.index();
        self.with_registry(|registry, cx| registry.forget(cx, index));
        self.audit(Audit::NodeRemoved { node: node.clone(), by: self.caller.by });
        Outcome::Done
    }

    /// A node's timer fired. If it is dead now, the leases come back that it got before its last heartbeat: it would
    /// have sent another one. A node without heartbeats (of v1.5) keeps its leases to their ends.
    fn check_liveness(&mut self, index: NodeIndex) {
        let before = self.registry.get(index).map(Node::liveness);
        self.with_registry(|registry, cx| registry.check_liveness(cx, index));
        let Some(node) = self.registry.get(index) else { return };
        let has_died = node.liveness() == Liveness::Dead && before != Some(Liveness::Dead);
        if let Some(heartbeat_at) =
            node.heartbeat_at().filter(|_| has_died && rules::returns_leases_of_dead(self.rules))
        {
            self.with_queue(|queue, cx| queue.return_leases(cx, index, heartbeat_at));
        }
    }

    fn fire(&mut self, timer: Timer) {
        match timer {
            Timer::JobExpires(seq) => self.with_queue(|queue, cx| queue.expire(cx, seq)),
            Timer::LeaseEnds(seq) => {
                let node = self.queue.node_of_lease(seq).and_then(|node| self.registry.get(node));
                let is_drained = node.is_some_and(|node| node.drain().is_some());
                self.with_queue(|queue, cx| queue.expire_lease(cx, seq, is_drained));
            }
            Timer::JobDue(seq) if rules::limits_retries(self.rules) => {
                if self.with_queue(|queue, cx| queue.spend_credit(cx, seq)) {
                    self.make_due(seq);
                }
            }
            Timer::JobDue(seq) | Timer::JobReleased(seq) => self.make_due(seq),
            Timer::RetryCredit => self.with_queue(Queue::grant_credits),
            Timer::ActSteps(act) => self.step_act(act),
            Timer::ReservationEnds(seq) => self.with_queue(|queue, cx| queue.end_reservation(cx, seq)),
            Timer::JobsVisited => self.with_queue(Queue::visit_jobs),
            Timer::JobsAge => self.with_queue(Queue::age_jobs),
            Timer::JobDated(seq, not_before) => {
                self.with_queue(|queue, cx| queue.reach_date(cx, seq, not_before));
            }
            Timer::NodeLiveness(node) => self.check_liveness(node),
            Timer::KindOpens(kind) => {
                if let Some(kind) = self.with_queue(|queue, cx| queue.open_kind(cx, kind)) {
                    self.ended_at = self.now;
                    self.audit(Audit::KindResumed { kind });
                }
            }
            Timer::KeyExpires(place) => self.dedup.expire(&mut self.ledger, place),
        }
        self.handle_events();
    }

    /// A scheduled job becomes ready. A retry is reserved for other nodes than that of its last attempt, if that node
    /// and another one that could run it are online.
    fn make_due(&mut self, seq: JobSeq) {
        if self.queue.waits_for_run(seq) {
            return;
        }
        let reservable = self.queue.reservable(seq).filter(|_| rules::prefers_another_node(self.rules));
        let is_reserved = reservable.is_some_and(|(node, class)| self.registry.has_alternative_to(node, class));
        self.with_queue(|queue, cx| match is_reserved {
            true => queue.reserve_scheduled(cx, seq),
            false => queue.enqueue_scheduled(cx, seq),
        });
    }

    /// Passes what happened to jobs on to nodes, keys, telemetry and clients: events are handled here and nowhere else.
    /// Retention is enforced last, so that a job's end is among the effects before the job may be dropped.
    fn handle_events(&mut self) {
        loop {
            let mut events = std::mem::take(&mut self.events);
            events.drain(..).for_each(|event| self.handle_event(event));
            self.events = events;
            let Hub { ids, now, rules, limits, queue, timers, ledger, undelivered_ends: ends, effects, .. } = self;
            let (key, events) = (ids.key(), &mut self.events);
            let cx = &mut Context { now: *now, key, rules: *rules, limits, timers, ledger, events };
            queue.enforce_letters(cx, ends.first_number, |dropped| ends.attach_dropped(effects, dropped));
            if cx.events.is_empty() {
                queue.enforce_retention(cx, ends.first_number, |dropped| ends.attach_dropped(effects, dropped));
            }
            if self.events.is_empty() {
                break;
            }
        }
        self.queue.count_changes();
        self.note_dropped();
    }

    fn handle_event(&mut self, event: Event) {
        if matches!(event, Event::AttemptEnded { .. } | Event::Ended { .. } | Event::LetterLeft { .. }) {
            self.ended_at = self.now;
        }
        match event {
            Event::Submitted { kind } => {
                if self.is_serving {
                    if self.queue.counts().waiting() == 1 {
                        self.telemetry.begin_waiting(self.now);
                    }
                    let kind = self.queue.kinds_mut().row_mut(kind);
                    kind.count(|name, row_ref| self.telemetry.count_submitted(self.now, name, row_ref));
                }
            }
            Event::Leased { node, waited } => {
                self.registry.add_lease(node);
                if self.is_serving {
                    self.telemetry.count_leased(self.now, waited);
                }
            }
            Event::AttemptEnded { lease, node, ran, is_reaped, toll } => {
                if self.is_serving {
                    self.telemetry.count_attempt_ended(self.now, ran, toll);
                }
                if is_reaped {
                    let node = self.registry.get(node).expect("a node with a lease is known").name().clone();
                    self.audit(Audit::LeaseReap { job: lease.job, node, attempt: lease.generation });
                }
            }
            Event::LeaseFreed { node } => {
                let name = self.registry.remove_lease(node).name();
                self.queue.waiters_mut().note_freed(name);
            }
            Event::RetryScheduled { lease, delay } => {
                self.audit(Audit::RetryScheduled { job: lease.job, attempt: lease.generation, delay_ms: delay });
            }
            Event::Exhausted { job, attempts } => self.audit(Audit::RetryExhausted { job, attempts }),
            Event::Ended { job, kind, status, key } => {
                self.queue.add_result(job);
                if let Some(place) = key {
                    if status == FinalStatus::Dead && rules::refiles_letters(self.rules) {
                        let key = self.dedup.key_in(place);
                        self.with_queue(|queue, cx| queue.keep_dead_key(cx, job, key));
                    }
                    let outcome = self.queue.outcome_of(job);
                    let stores = (&mut self.timers, &mut self.ledger);
                    self.dedup.spend((self.now, &self.limits), stores, place, status, outcome);
                }
                if self.is_serving {
                    let kind = self.queue.kinds_mut().row_mut(kind);
                    kind.count(|name, row_ref| self.telemetry.count_ended(self.now, name, row_ref, status));
                    self.undelivered_ends.positions.push(Some(self.effects.len()));
                    self.effects.push(Effect::Ended { job, gone: None });
                }
                if status == FinalStatus::Dead {
                    let view = self.queue.get(job).expect("a job whose end is handled is held");
                    let (kind, attempts) = (view.kind().clone(), view.generation());
                    // Under older rules it is not kept.
                    let reason = view.end_reason().unwrap_or(EndReason::Attempts);
                    self.audit(Audit::DeadLetterAdded { job, kind, reason, attempts });
                }
            }
            Event::LetterLeft { job, kind, how, renumbered_from } => {
                if let Some(number) = renumbered_from
                    && self.is_serving
                {
                    self.undelivered_ends.renumber(number);
                }
                let (kind, by) = (self.queue.kinds_mut().name(kind).clone(), self.caller.by);
                match how {
                    LetterLeft::Requeued => self.audit(Audit::DeadLetterRequeued { job, kind, by }),
                    LetterLeft::Discarded => self.audit(Audit::DeadLetterDiscarded { job, kind, by }),
                    LetterLeft::Evicted => self.audit(Audit::DeadLetterEvicted { job, kind, is_aged: false }),
                    LetterLeft::Aged => self.audit(Audit::DeadLetterEvicted { job, kind, is_aged: true }),
                    LetterLeft::Completed => self.audit(Audit::DeadLetterCompleted { job, kind }),
                    LetterLeft::ByAct { is_requeued } => {
                        if self.is_serving {
                            self.telemetry.count_left_by_act(self.now, is_requeued);
                        }
                    }
                }
            }
        }
    }

    fn note_heartbeat(&mut self, node: NodeIndex) {
        if rules::returns_leases_of_dead(self.rules) {
            self.registry.note_heartbeat(self.now, node);
        }
    }

    /// Tells the keys which jobs were dropped.
    fn note_dropped(&mut self) {
        let Hub { now, queue, dedup, .. } = self;
        queue.take_dropped().for_each(|job| dedup.note_dropped(*now, job));
    }

    fn note_seen(&mut self, node: NodeIndex) {
        self.with_registry(|registry, cx| registry.note_seen(cx, node));
    }

    fn wake_waiters_of(&mut self, node: &Name) {
        let woken = self.queue.unpark_all_of_node(&mut self.ledger, node);
        self.effects.extend(woken.into_iter().map(Effect::Wake));
    }

    fn profile_of(&self, node: &Name) -> ProfileIndex {
        self.registry.by_name(node).map_or(Profiles::UNKNOWN, Node::profile)
    }

    fn with_queue<T>(&mut self, act: impl FnOnce(&mut Queue, &mut Context) -> T) -> T {
        let Hub { ids, now, rules, limits, queue, timers, ledger, events, .. } = self;
        act(queue, &mut Context { now: *now, key: ids.key(), rules: *rules, limits, timers, ledger, events })
    }

    /// Runs `act` on the registry, then handles what it reports: audit events, and nodes that were forgotten.
    fn with_registry<T>(&mut self, act: impl FnOnce(&mut Registry, &mut NodeContext) -> T) -> T {
        let (mut audits, mut forgotten) = (Vec::new(), Vec::new());
        let Hub { now, limits, registry, timers, ledger, .. } = self;
        let mut cx = NodeContext { now: *now, limits, timers, ledger, audits: &mut audits, forgotten: &mut forgotten };
        let answer = act(registry, &mut cx);
        audits.into_iter().for_each(|audit| self.audit(audit));
        for node in forgotten {
            self.queue.leases_mut().forget(node.index());
            self.wake_waiters_of(node.name());
            self.queue.profiles_mut().release(node.profile());
        }
        answer
    }

    fn audit(&mut self, event: Audit) {
        if self.is_serving {
            self.telemetry.count_audit(self.now, &event);
            self.effects.push(Effect::Audit(self.now, event));
        }
    }

    /// Counts refusals that say that something is full; they are reported when the hub is settled.
    /// Refuses a submit as [`Queue::admit`] would, in a tenth of what an accepted one costs.
    fn refuse_full(&mut self, depth: u64) -> Outcome {
        let depth_max = self.limits.queue_depth_max;
        self.note_drops_of(Full { reason: DropReason::QueueDepth, held: depth, max: depth_max }, 1);
        Outcome::Refused(Refusal::QueueFull { depth, depth_max })
    }

    fn note_drops(&mut self, refusal: &Refusal, count: u32) {
        if let Some(full) = refusal.full() {
            self.note_drops_of(full, count);
        }
    }

    fn note_drops_of(&mut self, full: Full, count: u32) {
        if !self.is_serving {
            return;
        }
        self.telemetry.count_dropped(self.now, full.reason, count);
        self.drops.add(self.now, full, self.queue.counts().waiting(), u64::from(count));
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

    /// Whether nothing is due up to `now`: true for most calls, and cheaper to find out than what is due next.
    fn is_nothing_due(&self, now: Timestamp) -> bool {
        let or_never = |at: Option<Timestamp>| at.unwrap_or(Timestamp::NEVER);
        let retention_at = or_never(self.queue.next_retention_at(&self.limits, self.rules));
        let expiry_at = or_never(self.dedup.next_expiry_at(&self.limits));
        or_never(self.timers.next_at()).min(retention_at).min(expiry_at) > now
    }

    fn next_due(&self) -> Option<(Timestamp, Due)> {
        let mut first = (self.timers.next_at(), Due::Timer);
        // Ties are broken in this order.
        let others = [
            (self.queue.next_retention_at(&self.limits, self.rules), Due::OldestFinal),
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
        let profile = self.queue.profiles_mut().acquire(node.zone(), node.capabilities());
        node.set_profile(profile);
        self.registry.restore(&mut self.timers, &mut self.ledger, node)
    }

    pub(crate) fn restore_job(
        &mut self,
        taken_places: &mut BTreeSet<JobSeq>,
        record: JobRecord,
    ) -> Result<(), &'static str> {
        let Hub { ids, now, rules, limits, registry, queue, timers, ledger, events, .. } = self;
        queue.restore(
            &mut Context { now: *now, key: ids.key(), rules: *rules, limits, timers, ledger, events },
            registry,
            taken_places,
            record,
        )
    }

    pub(crate) fn restore_key(&mut self, record: KeyRecord) -> Result<(), &'static str> {
        let stores = (&mut self.timers, &mut self.ledger);
        let (place, job) = self.dedup.restore(&self.limits, stores, record)?;
        match place {
            Some(place) if !self.queue.restore_key(&mut self.ledger, job, place) => {
                Err("a key is bound to a job that does not exist or has another key")
            }
            _ => Ok(()),
        }
    }

    pub(crate) fn restore_earned(&mut self, kind: &str, earned: Earned) -> Result<(), &'static str> {
        self.queue.restore_earned(kind, earned)
    }

    pub(crate) fn restore_orphan(&mut self, orphan: Orphan) -> Result<(), &'static str> {
        if orphan.id < self.orphans.next_id() {
            return Err("orphans are not in the order of their ids");
        }
        self.orphans.insert(&mut self.ledger, orphan);
        Ok(())
    }

    pub(crate) fn restore_act(&mut self, act: Act) -> Result<(), &'static str> {
        if act.id < self.acts.next_id() {
            return Err("acts are not in the order of their ids");
        }
        if act.is_running() == (act.step_at == Timestamp::NEVER) {
            return Err("an act that has ended goes on, or one that runs does not");
        }
        self.timers.set(act.step_at, Timer::ActSteps(act.id));
        self.acts.insert(act);
        Ok(())
    }

    pub(crate) fn restore_order(&mut self, record: OrderRecord) -> Result<(), &'static str> {
        self.with_queue(|queue, cx| queue.restore_order(cx, record))
    }

    pub(crate) fn restore_kind(&mut self, record: KindRecord) -> Result<(), &'static str> {
        self.queue.kinds_mut().restore(&mut self.ledger, record)
    }

    pub(crate) fn restored(&mut self) {
        self.with_queue(Queue::restored);
        self.registry.restored();
    }
}

impl UndeliveredEnds {
    /// Retention dropped a job: if the effect of its end is not delivered yet, the job is attached to it.
    fn attach_dropped(&self, effects: &mut [Effect], dropped: EndedJob) {
        if let Some(position) = self.position(dropped.number()) {
            let Effect::Ended { gone, .. } = &mut effects[position] else { unreachable!("its position was recorded") };
            *gone = Some(Box::new(dropped));
        }
    }

    /// Where the effect of the end with this number is; `None` if it is delivered.
    fn position(&self, number: u64) -> Option<usize> {
        let index = number.checked_sub(self.first_number)?;
        self.positions.get(index as usize).copied().flatten()
    }

    /// The job that ended with this number gets the next one.
    fn renumber(&mut self, number: u64) {
        self.positions.push(self.position(number));
    }

    /// All effects are delivered; the next job that ends gets this final number.
    fn clear(&mut self, next_number: u64) {
        self.first_number = next_number;
        self.positions.clear();
    }
}

fn done_or_refused(result: Result<(), Refusal>) -> Outcome {
    result.map_or_else(Outcome::Refused, |()| Outcome::Done)
}

impl Binding {
    fn new(idempotency: &Idempotency, job: JobSeq) -> Binding {
        Binding { payload_hash: idempotency.payload_hash, job, ttl_ms: idempotency.ttl_ms }
    }
}
