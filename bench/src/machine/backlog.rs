//! A hub with a backlog: the core under a steady load, its operations timed in batches.
//!
//! Each cycle submits as many jobs as it completes, so the number of queued jobs stays. Jobs have one priority, so a
//! pull leases the oldest, whose memory was not touched for the longest time. That is the worst case for a large hub;
//! new jobs that overtake old ones would still be in the processor's cache.
//!
//! The hub serves: its commands have effects and are counted. Effects are drained when the hub is settled, as the shell
//! does after each round of requests: in a batch of commands once, or after each command, which is a round of one.
//!
//! The benchmarks' only way to the core, but for `recovery`, which is about its encodings.

use sheratan_core::{
    Caller, Command, Complete, CompletedStatus, Effect, Envelope, FinalStatus, Health, Heartbeat, Hub, HubKey,
    Idempotency, LeaseRef, Limits, Millis, Name, NameSet, OnDuplicate, OnFailed, Origin, Outcome, Payload, Principal,
    Pull, ResultMark, RulesVersion, Setting, Submit, Submitted, Timestamp, WaiterId, Zone,
};
use std::hint::black_box;
use std::time::{Duration, Instant};

/// What the jobs are like.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// A kind and a payload. 1,000 final jobs are retained.
    Plain,
    /// Each with an idempotency key and a time to live as well. As many final jobs are retained as wait, and each
    /// submit finds the table of keys full and evicts the oldest key.
    Keyed,
}

/// When the hub is settled.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Settles {
    /// Once after all commands of a batch, in the batch's time.
    EachBatch,
    /// After each command, as a shell does whose clients send one at a time.
    EachCommand,
}

/// How many sorts of jobs there are, and which of them the node pulls.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Variety {
    /// Sets of requirements (classes), at most 1,024.
    pub classes: usize,
    /// Kinds that the node names, each of which has jobs in every class; 0: it pulls any.
    pub kinds_named: usize,
    /// Which classes the node may serve.
    pub served: Served,
}

/// Which classes a node may serve.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Served {
    All,
    /// The first. The others require what the node does not have, and their jobs stay.
    One,
}

/// A hub whose queue holds a number of jobs.
pub struct Backlog {
    hub: Hub,
    shape: Shape,
    settles: Settles,
    /// A buffer for effects, kept to reuse its memory.
    effects: Vec<Effect>,
    now: Timestamp,
    kinds: Vec<Name>,
    /// What the jobs of each class require.
    classes: Vec<NameSet>,
    kinds_named: NameSet,
    node: Name,
    params: Vec<u8>,
    submitted: u64,
    leases: Vec<LeaseRef>,
    parked: Vec<WaiterId>,
    polls: u64,
    /// When commands are recorded: their encodings, each with its instant.
    record: Option<Vec<(Timestamp, Vec<u8>)>>,
}

/// How many kinds the jobs are of, in turn.
const KINDS: usize = 16;
/// A payload of usual size.
pub const PARAMS_BYTES: usize = 200;
/// What a node can do in a hub of many classes: 2^10 sets of requirements.
const CAPABILITIES: usize = 10;
/// The fewest jobs in a hub of many classes, besides those that no node may serve: more than a batch leases.
const VARIED_JOBS_MIN: usize = 2_000;
/// Short, so that a run of thousands of expiries stays within the jobs' time to live and retention.
const LEASE: Millis = Millis::from_secs(2);
/// Longer than the longest delay of a first retry.
const RETRY_WAIT: Millis = Millis::from_secs(1);
const TTL: Millis = Millis::from_secs(86_400);
/// How much time passes from batch to batch.
const TICK: Millis = Millis::new(1);
/// 2026-01-15, an instant with as many bytes as those of production.
const START: Timestamp = Timestamp::from_millis(1_768_500_000_000);

impl Backlog {
    /// A hub with `depth` queued jobs.
    pub fn new(shape: Shape, depth: u64) -> Self {
        let mut backlog = Backlog::empty(shape, depth);
        backlog.submit(depth);
        backlog.fill_retention(depth);
        backlog
    }

    /// A hub that is about to hold `depth` queued jobs.
    pub fn empty(shape: Shape, depth: u64) -> Self {
        let retained = if shape == Shape::Keyed { depth } else { 1_000 };
        let limits = Limits {
            queue_depth_max: u64::MAX,
            queue_bytes_max: u64::MAX,
            inflight_max: u64::MAX,
            leases_per_node_max: u64::MAX,
            attempts_max: 100,
            retained_jobs_max: retained,
            retained_bytes_max: u64::MAX,
            dead_jobs_max: u64::MAX,
            dead_bytes_max: u64::MAX,
            // A full table evicts its oldest spent key, however young.
            idempotency_floor_ms: Millis::ZERO,
            idempotency_keys_max: depth + retained,
            answers_bytes_max: u64::MAX,
            nodes_max: u64::MAX,
            nodes_bytes_max: u64::MAX,
            ..Limits::default()
        };
        let mut backlog = Backlog {
            hub: Hub::new(HubKey::new(*b"benchmark-hubkey")),
            shape,
            settles: Settles::EachBatch,
            effects: Vec::new(),
            now: START,
            kinds: kinds(KINDS),
            classes: vec![NameSet::EMPTY],
            kinds_named: NameSet::EMPTY,
            node: name("node-1"),
            params: format!("{{\"text\":\"{}\"}}", "x".repeat(PARAMS_BYTES - 11)).into_bytes(),
            submitted: 0,
            leases: Vec::new(),
            parked: Vec::new(),
            polls: 0,
            record: None,
        };
        backlog.hub.serve();
        let commands = vec![Command::Set(Setting::all(&limits)), Command::AdoptRules(RulesVersion::NEWEST)];
        backlog.apply_all(commands, |outcome| assert_eq!(outcome, Outcome::Done));
        backlog
    }

    /// A hub with ready jobs of each class and kind, at least two of each that the node may take.
    pub fn varied(variety: Variety) -> Self {
        let mut backlog = Backlog::of_variety(variety);
        if variety.served == Served::One {
            backlog.submit((variety.classes * backlog.kinds.len()) as u64);
            backlog.classes.truncate(1);
        }
        let lanes = backlog.classes.len() * backlog.kinds.len();
        backlog.submit((2 * lanes).max(VARIED_JOBS_MIN).next_multiple_of(lanes) as u64);
        backlog
    }

    /// A hub whose classes have one job each, which is not ready: long polls are parked.
    pub fn waiting(variety: Variety) -> Self {
        let mut backlog = Backlog::of_variety(variety);
        let mut commands: Vec<_> = (0..variety.classes).map(|_| backlog.a_submit()).collect();
        for command in &mut commands {
            let Command::Submit(submit) = command else { unreachable!("all are submits") };
            submit.delay_ms = TTL;
        }
        backlog.apply_all(commands, |outcome| assert!(is_accepted(&outcome), "{outcome:?}"));
        backlog
    }

    fn of_variety(variety: Variety) -> Self {
        assert!((1..=1 << CAPABILITIES).contains(&variety.classes), "a class is a set of the node's capabilities");
        let capabilities: Vec<_> = (0..CAPABILITIES).map(|index| name(&format!("capability-{index}"))).collect();
        let mut backlog = Backlog::empty(Shape::Plain, 0);
        backlog.kinds = kinds(variety.kinds_named.max(1));
        backlog.kinds_named = kinds(variety.kinds_named).into();
        backlog.classes = (0..variety.classes)
            .map(|class| {
                let is_bit_set = |index: &usize| class >> index & 1 == 1;
                let of_node = (0..CAPABILITIES).filter(is_bit_set).map(|i| capabilities[i].clone());
                let of_none = (variety.served == Served::One && class > 0).then(|| name("what no node has"));
                of_node.chain(of_none).collect()
            })
            .collect();
        let heartbeat = Heartbeat {
            node: backlog.node.clone(),
            zone: Zone::DEFAULT,
            capabilities: capabilities.into(),
            health: Health::Green,
            endpoint: None,
            labels: None,
            attestation: None,
            signing: None,
        };
        backlog.apply_all(vec![Command::Heartbeat(heartbeat)], |outcome| {
            assert!(!matches!(outcome, Outcome::Refused(_)), "{outcome:?}");
        });
        backlog
    }

    /// Sets when the hub is settled.
    pub fn set_settles(&mut self, settles: Settles) {
        self.settles = settles;
    }

    /// Records the commands that are applied from now on.
    pub fn start_record(&mut self) {
        self.record = Some(Vec::new());
    }

    /// The commands applied since the record was started.
    pub fn drain_record(&mut self) -> Vec<(Timestamp, Vec<u8>)> {
        self.record.take().expect("a record was started")
    }

    /// When the hub's limits were set.
    pub fn started_at() -> Timestamp {
        START + TICK
    }

    /// The hub.
    pub fn hub(&self) -> &Hub {
        &self.hub
    }

    /// Submits jobs; returns the time it took.
    pub fn submit(&mut self, count: u64) -> Duration {
        let commands = (0..count).map(|_| self.a_submit()).collect();
        self.apply_all(commands, |outcome| assert!(is_accepted(&outcome), "{outcome:?}"))
    }

    /// Lets no more jobs wait than do now, or as many as come.
    pub fn set_full(&mut self, is_full: bool) {
        let depth_max = if is_full { self.hub.counts().waiting() } else { u64::MAX };
        let set = vec![Command::Set(vec![Setting::QueueDepthMax(depth_max)])];
        self.apply_all(set, |outcome| assert_eq!(outcome, Outcome::Done));
    }

    /// Submits jobs that are refused; returns the time it took.
    pub fn refuse(&mut self, count: u64) -> Duration {
        let commands = (0..count).map(|_| self.a_submit()).collect();
        self.apply_all(commands, |outcome| assert!(matches!(outcome, Outcome::Refused(_)), "{outcome:?}"))
    }

    /// Makes submits and drops them; returns the time that dropping took.
    pub fn drop_submits(&mut self, count: u64) -> Duration {
        let commands: Vec<_> = (0..count).map(|_| self.a_submit()).collect();
        let start = Instant::now();
        commands.into_iter().for_each(|command| drop(black_box(command)));
        start.elapsed()
    }

    /// Submits jobs as a hub has them that reads them from a socket or a journal: each with texts of its own. In small
    /// batches, so that commands add little to the measured memory; `observe` is called after each.
    pub fn fill(&mut self, count: u64, mut observe: impl FnMut(&Hub)) {
        const WINDOW: u64 = 100;
        for first in (0..count).step_by(WINDOW as usize) {
            let commands = (first..count.min(first + WINDOW)).map(|_| {
                let submit = self.a_submit();
                Envelope::decode(&self.envelope(&submit)).expect("what was encoded decodes").command
            });
            let commands = commands.collect();
            self.apply_all(commands, |outcome| assert!(is_accepted(&outcome), "{outcome:?}"));
            observe(&self.hub);
        }
    }

    /// Leases jobs, one a pull; returns the time it took.
    pub fn pull(&mut self, count: u64) -> Duration {
        let commands = vec![Command::Pull(self.a_pull()); count as usize];
        let mut leases = Vec::with_capacity(commands.len());
        let time = self.apply_all(commands, |outcome| match outcome {
            Outcome::Pulled(pulled) if pulled.leases.len() == 1 => leases.push(pulled.leases[0].lease),
            other => panic!("a pull gets a job: {other:?}"),
        });
        self.leases = leases;
        time
    }

    /// Completes each leased job; returns the time it took.
    pub fn complete(&mut self) -> Duration {
        let leases = std::mem::take(&mut self.leases);
        let commands = leases.iter().map(|lease| self.a_complete(*lease)).collect();
        self.apply_all(commands, |outcome| match outcome {
            Outcome::Completed(completed) => {
                assert_eq!(completed.status, CompletedStatus::Final(FinalStatus::Completed));
            }
            other => panic!("a result is taken: {other:?}"),
        })
    }

    /// Expires all leases, so that their jobs wait for a retry; returns the time it took.
    pub fn expire(&mut self) -> Duration {
        let expected = self.leases.len() as u64;
        self.leases.clear();
        let before = self.hub.counts();
        let time = self.pass(LEASE);
        let after = self.hub.counts();
        assert_eq!((after.leased, after.waiting()), (before.leased - expected, before.waiting() + expected));
        time
    }

    /// Advances time until the retries are due; returns the time it took.
    pub fn retry(&mut self) -> Duration {
        let time = self.pass(RETRY_WAIT);
        assert_eq!(self.hub.counts().scheduled, 0, "all retries are due");
        time
    }

    /// Parks long polls. If kinds are named, all name the first kind, and each other name is in one poll only.
    pub fn park(&mut self, count: u64) -> Duration {
        let polls: Vec<_> = (self.polls..self.polls + count)
            .map(|id| {
                let mut pull = self.a_pull();
                let of_poll = |index| name(&format!("of-poll-{id}-{index:02}"));
                let own = (1..pull.kinds.len()).map(of_poll);
                pull.kinds = pull.kinds.iter().take(1).cloned().chain(own).collect();
                (WaiterId(id), pull)
            })
            .collect();
        self.polls += count;
        self.parked.extend(polls.iter().map(|(id, _)| *id));
        let start = Instant::now();
        for (id, pull) in &polls {
            assert!(self.hub.park(*id, pull), "nothing is ready, and there is room");
        }
        start.elapsed()
    }

    /// Removes the parked long polls.
    pub fn unpark(&mut self) -> Duration {
        let polls = std::mem::take(&mut self.parked);
        let start = Instant::now();
        polls.iter().for_each(|id| self.hub.unpark(*id));
        start.elapsed()
    }

    /// Settles a hub without changes since its last settling: the cost of parked polls in each round.
    pub fn settle_idle(&mut self) -> Duration {
        let start = Instant::now();
        self.settle_once();
        let time = start.elapsed();
        assert!(self.effects.is_empty(), "nothing is ready");
        time
    }

    /// Submits a job for each parked long poll: the time of the submits and of the settling that wakes one each. Each
    /// job is leased before the next is submitted.
    pub fn wake(&mut self) -> Duration {
        let polls = std::mem::take(&mut self.parked);
        let mut woken = Vec::with_capacity(polls.len());
        let mut time = Duration::ZERO;
        for _ in &polls {
            let mut submit = self.a_submit();
            let Command::Submit(job) = &mut submit else { unreachable!("it is a submit") };
            job.kind = self.kinds[0].clone();
            self.now = self.now + TICK;
            let start = Instant::now();
            let outcome = self.hub.apply(self.now, submit);
            self.settle_once();
            time += start.elapsed();
            assert!(is_accepted(&outcome), "{outcome:?}");
            woken.extend(self.effects.iter().filter_map(|effect| match effect {
                Effect::Wake(id) => Some(*id),
                _ => None,
            }));
            self.pull(1);
            self.complete();
        }
        assert_eq!(woken, polls, "each wakes the one that waits longest");
        time
    }

    /// Computes the hash of all outcomes; returns the time it took.
    pub fn outcome_hash(&self, calls: u32) -> Duration {
        let start = Instant::now();
        (0..calls).for_each(|_| _ = black_box(black_box(&self.hub).outcome_hash()));
        start.elapsed()
    }

    /// Adds final jobs up to the limit, so that each further one drops the oldest.
    fn fill_retention(&mut self, depth: u64) {
        let retained = self.hub.limits().retained_jobs_max;
        while self.hub.counts().retained < retained {
            let count = (retained - self.hub.counts().retained).min(1_000);
            self.submit(count);
            self.pull(count);
            self.complete();
        }
        assert_eq!(self.hub.counts().queued, depth);
    }

    fn apply_all(&mut self, commands: Vec<Command>, mut observe: impl FnMut(Outcome)) -> Duration {
        self.now = self.now + TICK;
        if let Some(mut record) = self.record.take() {
            record.extend(commands.iter().map(|command| (self.now, self.envelope(command))));
            self.record = Some(record);
        }
        let start = Instant::now();
        for command in commands {
            observe(self.hub.apply(self.now, command));
            if self.settles == Settles::EachCommand {
                self.settle();
            }
        }
        self.settle();
        start.elapsed()
    }

    fn pass(&mut self, time: Millis) -> Duration {
        self.now = self.now + time;
        let start = Instant::now();
        self.hub.advance(self.now);
        self.settle();
        start.elapsed()
    }

    /// Settles until there are no effects.
    fn settle(&mut self) {
        self.settle_once();
        while !self.effects.is_empty() {
            self.settle_once();
        }
    }

    fn settle_once(&mut self) {
        self.effects.clear();
        self.hub.settle(&mut self.effects);
    }

    /// The command as a journal holds it.
    fn envelope(&self, command: &Command) -> Vec<u8> {
        let caller = Caller { by: Principal::SharedToken, origin: Origin::LocalNetwork };
        let mut bytes = Vec::new();
        Envelope::encode(self.hub.rules(), caller, command, &mut bytes);
        bytes
    }

    fn a_submit(&mut self) -> Command {
        self.submitted += 1;
        let index = self.submitted as usize;
        let is_keyed = self.shape == Shape::Keyed;
        let idempotency = is_keyed.then(|| Idempotency {
            key: name(&format!("client-7/order-{}", self.submitted)),
            payload_hash: [7; 32],
            on_duplicate: OnDuplicate::SameResult,
            on_failed: OnFailed::SameResult,
            ttl_ms: None,
        });
        // Every class has jobs of every kind.
        let kind = self.kinds[index / self.classes.len() % self.kinds.len()].clone();
        Command::Submit(Box::new(Submit {
            requires: self.classes[index % self.classes.len()].clone(),
            ttl_ms: is_keyed.then_some(TTL),
            idempotency,
            ..Submit::new(kind, Some(Payload::new(&self.params)))
        }))
    }

    fn a_pull(&self) -> Pull {
        Pull { node: self.node.clone(), jobs_max: 1, kinds: self.kinds_named.clone(), lease_duration_ms: Some(LEASE) }
    }

    fn a_complete(&self, lease: LeaseRef) -> Command {
        Command::Complete(Complete {
            job: lease.job,
            lease: Some(lease),
            node: Some(self.node.clone()),
            ok: true,
            result: Some(Payload::new(&self.params)),
            error: None,
            is_retryable: true,
            mark: ResultMark::Content(1),
            integrity: None,
            retry_after_ms: None,
        })
    }
}

fn is_accepted(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Submitted(Submitted::Accepted { .. }))
}

/// Sorted, as a pull names them.
fn kinds(count: usize) -> Vec<Name> {
    (0..count).map(|index| name(&format!("kind-{index:02}"))).collect()
}

fn name(text: &str) -> Name {
    Name::new(text).expect("a short text without control characters")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cycle_leaves_the_backlog_as_deep_as_it_was() {
        for shape in [Shape::Plain, Shape::Keyed] {
            let mut backlog = Backlog::new(shape, 50);
            for _ in 0..3 {
                backlog.submit(10);
                backlog.pull(10);
                backlog.expire();
                backlog.retry();
                backlog.pull(10);
                backlog.complete();
                assert_eq!(backlog.hub().counts().queued, 50);
                assert_eq!(backlog.hub().counts().leased, 0);
            }
        }
    }

    #[test]
    fn a_cycle_leaves_jobs_of_every_sort_that_the_node_may_take() {
        for served in [Served::All, Served::One] {
            let mut backlog = Backlog::varied(Variety { classes: 5, kinds_named: 3, served });
            let before = backlog.hub().counts().queued;
            for _ in 0..3 {
                backlog.pull(40);
                backlog.complete();
                backlog.submit(40);
            }
            assert_eq!(backlog.hub().counts().queued, before);
        }
    }

    #[test]
    fn jobs_that_no_node_may_serve_stay() {
        let mut backlog = Backlog::varied(Variety { classes: 4, kinds_named: 2, served: Served::One });
        let others = 3 * 2;
        backlog.pull(backlog.hub().counts().queued - others);
        assert_eq!(backlog.hub().counts().queued, others);
        let outcome = backlog.hub.apply(backlog.now, Command::Pull(backlog.a_pull()));
        assert!(matches!(&outcome, Outcome::Pulled(pulled) if pulled.leases.is_empty()), "{outcome:?}");
    }

    #[test]
    fn each_submit_wakes_the_poll_that_waits_longest() {
        let mut backlog = Backlog::waiting(Variety { classes: 8, kinds_named: 4, served: Served::All });
        backlog.park(3);
        backlog.settle_idle();
        backlog.wake();
        assert_eq!(backlog.hub().queue().waiter_count(), 0);
        backlog.park(2);
        backlog.unpark();
        assert_eq!(backlog.hub().queue().waiter_count(), 0);
    }

    #[test]
    fn a_keyed_hub_holds_no_more_keys_than_it_may() {
        let mut backlog = Backlog::new(Shape::Keyed, 50);
        backlog.submit(1);
        assert_eq!(backlog.hub().dedup().len(), 100);
    }
}
