//! A hub with a backlog: the core under a steady load, its operations timed in batches.
//!
//! Each cycle puts in as many jobs as it takes out, so the number of queued jobs stays. Jobs have one priority, so a
//! pull gets the oldest: the one whose memory was not touched for as long as the backlog is. That is the worst case
//! for a large hub; new jobs that overtake old ones would be found in the processor's cache.

use sheratan_core::command::{Command, Complete, Idempotency, OnDuplicate, OnFailed, Priority, Pull, Submit};
use sheratan_core::hub::Hub;
use sheratan_core::ids::{HubKey, LeaseRef};
use sheratan_core::limits::Limits;
use sheratan_core::name::Name;
use sheratan_core::outcome::{CompletedStatus, FinalStatus, Outcome, Submitted};
use sheratan_core::payload::Payload;
use sheratan_core::time::{Millis, Timestamp};
use std::time::{Duration, Instant};

/// What the jobs are like.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// A kind and a payload. 1,000 final jobs are retained.
    Plain,
    /// Each with an idempotency key and a time to live as well. As many final jobs are retained as wait, and each submit
    /// finds the table of keys full and evicts the oldest key.
    Keyed,
}

/// A hub whose queue holds a number of jobs.
pub struct Backlog {
    hub: Hub,
    shape: Shape,
    now: Timestamp,
    kinds: Vec<Name>,
    node: Name,
    params: Vec<u8>,
    submitted: u64,
    leases: Vec<LeaseRef>,
    /// When commands are recorded: their encodings, each with its instant.
    record: Option<Vec<(Timestamp, Vec<u8>)>>,
}

/// How many kinds the jobs are of, in turn.
const KINDS: usize = 16;
/// A payload of usual size.
pub const PARAMS_BYTES: usize = 200;
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
            idempotency_keys_max: depth + retained,
            ..Limits::default()
        };
        let mut backlog = Backlog {
            hub: Hub::new(HubKey::new(*b"benchmark-hubkey")),
            shape,
            now: START,
            kinds: (0..KINDS).map(|no| name(&format!("kind-{no}"))).collect(),
            node: name("node-1"),
            params: format!("{{\"text\":\"{}\"}}", "x".repeat(PARAMS_BYTES - 11)).into_bytes(),
            submitted: 0,
            leases: Vec::new(),
            record: None,
        };
        backlog.apply_all(vec![Command::Configure(Box::new(limits))], |outcome| assert_eq!(outcome, Outcome::Done));
        backlog
    }

    /// Keeps what is applied from now on.
    pub fn start_record(&mut self) {
        self.record = Some(Vec::new());
    }

    /// The commands applied since the record was started.
    pub fn take_record(&mut self) -> Vec<(Timestamp, Vec<u8>)> {
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

    /// Submits jobs; the time it took.
    pub fn submit(&mut self, count: u64) -> Duration {
        let commands = (0..count).map(|_| self.a_submit()).collect();
        self.apply_all(commands, |outcome| assert!(is_accepted(&outcome), "{outcome:?}"))
    }

    /// Submits jobs as a hub has them that read them from a socket or a journal: each with texts of its own. In small
    /// batches, so that memory of commands is not taken for that of jobs; `look` is called after each.
    pub fn fill(&mut self, count: u64, mut look: impl FnMut(&Hub)) {
        const WINDOW: u64 = 100;
        for first in (0..count).step_by(WINDOW as usize) {
            let commands = (first..count.min(first + WINDOW)).map(|_| {
                let mut bytes = Vec::new();
                self.a_submit().encode(&mut bytes);
                Command::decode(&bytes).expect("what was encoded decodes")
            });
            let commands = commands.collect();
            self.apply_all(commands, |outcome| assert!(is_accepted(&outcome), "{outcome:?}"));
            look(&self.hub);
        }
    }

    /// Leases jobs, one a pull; the time it took.
    pub fn pull(&mut self, count: u64) -> Duration {
        let pull = Pull { node: self.node.clone(), jobs_max: 1, kinds: Vec::new(), lease_duration_ms: Some(LEASE) };
        let commands = vec![Command::Pull(pull); count as usize];
        let mut leases = Vec::with_capacity(commands.len());
        let time = self.apply_all(commands, |outcome| match outcome {
            Outcome::Pulled(pulled) if pulled.leases.len() == 1 => leases.push(pulled.leases[0].lease),
            other => panic!("a pull gets a job: {other:?}"),
        });
        self.leases = leases;
        time
    }

    /// Hands in a result for each job leased; the time it took.
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

    /// Lets all leases end, so that their jobs wait for a retry; the time it took.
    pub fn expire(&mut self) -> Duration {
        let expected = self.leases.len() as u64;
        self.leases.clear();
        let before = self.hub.counts();
        let time = self.pass(LEASE);
        let after = self.hub.counts();
        assert_eq!((after.leased, after.waiting()), (before.leased - expected, before.waiting() + expected));
        time
    }

    /// Lets the retries fall due; the time it took.
    pub fn retry(&mut self) -> Duration {
        let time = self.pass(RETRY_WAIT);
        assert_eq!(self.hub.counts().scheduled, 0, "all retries are due");
        time
    }

    /// Final jobs up to the limit, so that each further one makes the oldest go.
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

    fn apply_all(&mut self, commands: Vec<Command>, mut look: impl FnMut(Outcome)) -> Duration {
        self.now = self.now + TICK;
        if let Some(record) = &mut self.record {
            record.extend(commands.iter().map(|command| {
                let mut bytes = Vec::new();
                command.encode(&mut bytes);
                (self.now, bytes)
            }));
        }
        let start = Instant::now();
        for command in commands {
            look(self.hub.apply(self.now, command));
            self.hub.effects().clear();
        }
        start.elapsed()
    }

    fn pass(&mut self, time: Millis) -> Duration {
        self.now = self.now + time;
        let start = Instant::now();
        self.hub.advance(self.now);
        self.hub.effects().clear();
        start.elapsed()
    }

    fn a_submit(&mut self) -> Command {
        self.submitted += 1;
        let is_keyed = self.shape == Shape::Keyed;
        let idempotency = is_keyed.then(|| Idempotency {
            key: name(&format!("client-7/order-{}", self.submitted)),
            payload_hash: [7; 32],
            on_duplicate: OnDuplicate::SameResult,
            on_failed: OnFailed::SameResult,
        });
        Command::Submit(Box::new(Submit {
            kind: self.kinds[self.submitted as usize % KINDS].clone(),
            params: Payload::new(&self.params),
            priority: Priority::Normal,
            zone: None,
            requires: Vec::new(),
            delay_ms: Millis::ZERO,
            run_at: Timestamp::ZERO,
            ttl_ms: is_keyed.then_some(TTL),
            attempts_max: None,
            retry_budget_ms: None,
            lease_duration_ms: None,
            idempotency,
        }))
    }

    fn a_complete(&self, lease: LeaseRef) -> Command {
        Command::Complete(Complete {
            job: lease.job,
            lease: Some(lease),
            node: Some(self.node.clone()),
            ok: true,
            result: Payload::new(&self.params),
            error: Payload::ABSENT,
            is_retryable: true,
            mark: 1,
        })
    }
}

fn is_accepted(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Submitted(Submitted::Accepted { .. }))
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
    fn a_keyed_hub_holds_no_more_keys_than_it_may() {
        let mut backlog = Backlog::new(Shape::Keyed, 50);
        backlog.submit(1);
        assert_eq!(backlog.hub().dedup().len(), 100);
    }
}
