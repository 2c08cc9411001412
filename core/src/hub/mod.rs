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

mod act;
mod events;
mod operate;
mod policy;
mod restore;
mod submit;
mod work;

use crate::access::guard::AuthGuard;
use crate::acts::Acts;
use crate::chain::Chain;
use crate::command::{Command, Pull};
use crate::context::Context;
use crate::dedup::Dedup;
use crate::effect::{Audit, Effect};
use crate::envelope::Caller;
use crate::ids::{HubKey, Ids, JobSeq, LeaseRef};
use crate::ledger::{Account, Ledger};
use crate::limits::Limits;
use crate::name::Name;
use crate::orphans::Orphans;
use crate::outcome::{DropReason, Full, Outcome, Refusal};
use crate::policies::Policies;
use crate::queue::event::{Event, LetterLeft};
use crate::queue::letter_filter::LetterFilter;
use crate::queue::waiter::WaiterId;
use crate::queue::{Counts, EndedJob, Queue};
use crate::registry::node::Node;
use crate::registry::{NodeContext, Registry};
use crate::rules::{self, RulesVersion};
use crate::salts::Salt;
use crate::settings::Setting;
use crate::telemetry::drops::Drops;
use crate::telemetry::{Observation, Telemetry};
use crate::time::{Calendar, Millis, Timestamp};
use crate::timers::{Timer, Timers};
use crate::tokens::Tokens;
use std::collections::BTreeMap;
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
    pub(crate) tokens: Tokens,
    pub(crate) policies: Policies,
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
    TokenWindow,
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
            tokens: Tokens::default(),
            policies: Policies::default(),
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
                Some(depth) if self.denial_of_submit(&submit).is_none() => return self.refuse_full(depth),
                _ => self.submit(submit).map_or_else(Outcome::Refused, Outcome::Submitted),
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
            Command::Accept(accept) => self.accept(&accept),
            Command::Quarantine(order) => self.quarantine(order),
            Command::ClearNode(node) => self.clear_node(&node),
            Command::Tokens(order) => self.order_tokens(*order),
            Command::AddPolicy(document) => self.add_policy(document),
            Command::ActivatePolicy(order) => self.activate_policy(&order),
            Command::RekeyNode(rekey) => self.rekey_node(&rekey),
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
                Due::TokenWindow => self.end_token_window(),
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
            if node.is_some_and(|node| node.withheld().is_some()) {
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

    /// The policies that are held, and which one is active.
    pub fn policies(&self) -> &Policies {
        &self.policies
    }

    /// How many dead letters match a filter. O(letters), of its kind if it names one.
    pub fn count_letters(&self, filter: &LetterFilter) -> u64 {
        let letters = self.queue.letters_from(0, filter.kind.as_deref());
        letters.filter(|(_, letter)| filter.matches(letter)).count() as u64
    }

    /// The shared token, as digests.
    pub fn tokens(&self) -> &Tokens {
        &self.tokens
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
        let orphans = self.orphans.enforce(&mut self.ledger, &self.limits);
        if orphans > 0 {
            self.audit(Audit::OrphansEvicted { orphans });
        }
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

    /// The weights of clients or kinds that take turns, by name; that of all others is 1.
    pub fn weights(&self) -> &BTreeMap<Name, u32> {
        self.queue.weights()
    }

    /// The version of the weights, from 0 on: no version of theirs comes twice.
    pub fn weights_version(&self) -> u64 {
        self.queue.weights_version()
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
            Timer::QuarantineEnds(node) => {
                self.with_registry(|registry, cx| registry.end_quarantine(cx, node));
                self.ended_at = self.now;
            }
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

    fn with_queue<T>(&mut self, act: impl FnOnce(&mut Queue, &mut Context) -> T) -> T {
        let Hub { ids, now, rules, limits, queue, timers, ledger, events, .. } = self;
        act(queue, &mut Context { now: *now, key: ids.key(), rules: *rules, limits, timers, ledger, events })
    }

    /// Runs `act` on the registry, then handles what it reports: audit events, and nodes that were forgotten.
    fn with_registry<T>(&mut self, act: impl FnOnce(&mut Registry, &mut NodeContext) -> T) -> T {
        let (mut audits, mut forgotten) = (Vec::new(), Vec::new());
        let Hub { now, limits, policies, registry, timers, ledger, .. } = self;
        let (states, audits_of, forgotten_of) = (policies.node_states(), &mut audits, &mut forgotten);
        let mut cx =
            NodeContext { now: *now, limits, states, timers, ledger, audits: audits_of, forgotten: forgotten_of };
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
        let window_at = or_never(self.tokens.ends_at(self.calendar()));
        or_never(self.timers.next_at()).min(retention_at).min(expiry_at).min(window_at) > now
    }

    fn next_due(&self) -> Option<(Timestamp, Due)> {
        let mut first = (self.timers.next_at(), Due::Timer);
        // Ties are broken in this order.
        let others = [
            (self.queue.next_retention_at(&self.limits, self.rules), Due::OldestFinal),
            (self.dedup.next_expiry_at(&self.limits), Due::OldestKey),
            (self.tokens.ends_at(self.calendar()), Due::TokenWindow),
        ];
        for other in others {
            if other.0.is_some_and(|at| first.0.is_none_or(|first| at < first)) {
                first = other;
            }
        }
        Some((first.0?, first.1))
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
