//! Replay of production: recordings made as a hub makes them, with the real journal and trace, and gone through again.

// Recordings are files.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use sheratan_core::limits::Limits;
use sheratan_core::{
    Caller, Command, Complete, Envelope, Extend, Health, Heartbeat, Hub, Idempotency, JobSeq, LeaseRef, Millis, Name,
    NameSet, OnDuplicate, OnFailed, Outcome, Payload, Pull, ResultMark, Submit, Submitted, Timestamp, Utc, Zone,
};
use sheratan_io::config::Changes;
use sheratan_io::journal::{self, Appender, Batch, Options, Store};
use sheratan_io::trace::{self, Pending, Trace};
use sheratan_sim::production::replay::{Replay, replay};
use sheratan_sim::production::what_if::{Assumptions, WhatIf, what_if};
use tempfile::TempDir;

/// Commands that become durable together.
const BATCH_RECORDS: u32 = 64;

/// A hub that records the commands that it is given.
struct Recorder {
    folder: TempDir,
    hub: Hub,
    store: Store,
    appender: Appender,
    trace: Trace,
    batch: Batch,
    next_seq: u64,
    hash_before: [u8; 16],
}

impl Recorder {
    fn start(folder: TempDir, now: u64, limits: Limits) -> Recorder {
        let options = Options { segment_bytes: 1 << 20, ..Options::default() };
        let recovery = journal::recover(folder.path(), options, &mut |_| {}).unwrap();
        let next_seq = recovery.report.next_seq;
        let settings = trace::Settings { folder: trace::path(folder.path()), bytes_max: 16 << 20 };
        let trace = Trace::start(settings, recovery.store.identity().hub_id, next_seq - 1, at(now)).unwrap();
        let hash_before = recovery.hub.outcome_hash();
        let (hub, store, appender) = (recovery.hub, recovery.store, recovery.appender);
        let mut recorder = Recorder { folder, hub, store, appender, trace, batch: Batch::new(), next_seq, hash_before };
        recorder.apply(now, Command::Set(limits.differences(recorder.hub.limits())));
        recorder
    }

    fn new(limits: Limits) -> Recorder {
        Recorder::start(TempDir::new().unwrap(), 1_000_000, limits)
    }

    fn apply(&mut self, now: u64, command: Command) -> Outcome {
        let now = at(now).max(self.hub.now());
        Envelope::encode(self.hub.rules(), Caller::HUB, &command, self.batch.begin(self.next_seq, now));
        let outcome = self.hub.apply(now, command);
        if outcome.is_durable() {
            self.batch.commit();
            self.next_seq += 1;
        } else {
            let mut pending = Pending::default();
            pending.push(self.next_seq - 1, now, self.batch.begun());
            self.trace.record(pending);
            self.batch.abort();
        }
        if self.batch.records() >= BATCH_RECORDS {
            self.flush();
        }
        outcome
    }

    fn flush(&mut self) {
        let Some(first_seq) = self.batch.first_seq() else { return };
        self.appender.append(first_seq, &mut self.batch, self.hash_before).unwrap();
        self.batch.clear();
        self.hash_before = self.hub.outcome_hash();
    }

    /// Stops as a hub does: sealed, with a snapshot.
    fn stop(self) -> TempDir {
        let hash = self.hub.outcome_hash();
        self.stop_sealed_with(hash)
    }

    fn stop_sealed_with(mut self, hash: [u8; 16]) -> TempDir {
        self.flush();
        self.trace.end(self.next_seq - 1, self.hub.now());
        self.appender.seal(hash);
        let report = self.store.write_snapshot(self.next_seq - 1, &self.hub).unwrap();
        self.store.truncate(&report).unwrap();
        self.folder
    }

    fn submit(&mut self, now: u64) -> Option<JobSeq> {
        match self.apply(now, submit()) {
            Outcome::Submitted(Submitted::Accepted { job, .. }) => Some(job),
            _ => None,
        }
    }

    fn pull(&mut self, now: u64, jobs_max: u32) -> Vec<LeaseRef> {
        match self.apply(now, Command::Pull(pull("n", jobs_max))) {
            Outcome::Pulled(pulled) => pulled.leases.into_iter().map(|leased| leased.lease).collect(),
            other => panic!("{other:?}"),
        }
    }
}

fn at(ms: u64) -> Timestamp {
    Timestamp::from_millis(ms)
}

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn submit() -> Command {
    Command::Submit(Box::new(Submit::new(name("k"), Some(Payload::new(b"{}")))))
}

fn pull(node: &str, jobs_max: u32) -> Pull {
    Pull { node: name(node), jobs_max, kinds: NameSet::EMPTY, lease_duration_ms: None }
}

fn complete(node: &str, lease: LeaseRef, ok: bool) -> Complete {
    Complete {
        job: lease.job,
        lease: Some(lease),
        node: Some(name(node)),
        ok,
        result: None,
        error: None,
        is_retryable: false,
        mark: ResultMark::Content(7),
        integrity: None,
        retry_after_ms: None,
    }
}

fn depth(queue_depth_max: u64) -> Limits {
    Limits { queue_depth_max, ..Limits::default() }
}

fn both(folder: &TempDir, sets: &[&str]) -> (Replay, WhatIf) {
    let replayed = replay(folder.path(), None, &mut |_, _| {}).unwrap();
    assert_eq!(replayed.diverged, None);
    let changes = Changes::parse(sets).unwrap();
    let other = what_if(folder.path(), None, &changes, &replayed, &mut |_, _| {}).unwrap();
    assert_eq!(other.recorded.rows, replayed.rows, "given the same commands again, the recorded hub does the same");
    (replayed, other)
}

#[test]
fn results_find_their_leases_though_the_jobs_have_other_numbers() {
    let mut hub = Recorder::new(depth(2));
    let jobs: Vec<_> = (0..3).map(|n| hub.submit(1_000_100 + n)).collect();
    assert!(jobs[1].is_some() && jobs[2].is_none());
    let first = hub.pull(1_000_200, 1)[0];
    // The fourth submit is the third that was accepted.
    assert_eq!(hub.submit(1_000_300), Some(JobSeq::new(3)));
    hub.apply(1_000_400, Command::Complete(complete("n", first, true)));
    let leases = hub.pull(1_000_500, 2);
    assert_eq!(leases.iter().map(|lease| lease.job.get()).collect::<Vec<_>>(), [2, 3]);
    hub.apply(1_000_600, Command::Complete(complete("n", leases[0], true)));
    // A client of v1.5 names no lease.
    hub.apply(1_000_700, Command::Complete(Complete { lease: None, ..complete("n", leases[1], false) }));
    let folder = hub.stop();
    let (_, other) = both(&folder, &["max_queue_depth=10"]);
    let tally = |side: &sheratan_sim::production::what_if::Side| {
        let total = side.total;
        [total.accepted, total.refused, total.leased, total.completed, total.failed]
    };
    assert_eq!(tally(&other.recorded), [3, 1, 3, 2, 1]);
    // Two of the four are done and one failed, as recorded; the fourth waits, since no node pulled again.
    assert_eq!(tally(&other.changed), [4, 0, 3, 2, 1]);
    assert_eq!(other.changed.state.counts.queued, 1);
    assert_eq!(other.assumptions, Assumptions::default());
}

#[test]
fn the_result_of_a_lease_that_a_lower_limit_does_not_give_is_left_out() {
    let mut hub = Recorder::new(depth(10));
    (0..2).for_each(|n| _ = hub.submit(1_000_000 + n));
    let leases = hub.pull(1_001_000, 2);
    hub.apply(
        1_002_000,
        Command::Extend(Extend {
            node: name("n"),
            leases: leases.clone(),
            lease_duration_ms: None,
            progress: None,
            note: None,
        }),
    );
    for lease in leases {
        hub.apply(1_003_000, Command::Complete(complete("n", lease, true)));
    }
    let (_, other) = both(&hub.stop(), &["max_inflight=1"]);
    assert_eq!((other.recorded.total.completed, other.changed.total.completed), (2, 1));
    let expected = Assumptions { results_left_out: 1, extensions_left_out: 1, ..Assumptions::default() };
    assert_eq!(other.assumptions, expected);
}

#[test]
fn a_waiting_node_is_assumed_to_do_what_was_refused_as_long_as_jobs_ran_and_to_keep_its_leases() {
    let mut hub = Recorder::new(Limits { lease_duration_ms: Millis::from_secs(6), ..depth(1) });
    let accepted = (0..4).filter(|n| hub.submit(1_000_000 + n).is_some()).count();
    assert_eq!(accepted, 1);
    let leases = hub.pull(1_000_000, 1);
    let extend =
        Extend { node: name("n"), leases: leases.clone(), lease_duration_ms: None, progress: None, note: None };
    hub.apply(1_005_000, Command::Extend(extend));
    hub.apply(1_010_000, Command::Complete(complete("n", leases[0], true)));
    assert!(hub.pull(1_020_000, 1).is_empty());
    assert!(hub.pull(1_021_000, 1).is_empty(), "a pull while the node would have been busy");
    hub.apply(1_100_000, Command::Heartbeat(heartbeat("m")));
    let (replayed, other) = both(&hub.stop(), &["max_queue_depth=10"]);
    assert_eq!(replayed.covered.percent, 100.0);
    let assumptions =
        Assumptions { assumed_leases: 3, assumed_completions: 3, pulls_left_out: 1, ..Assumptions::default() };
    assert_eq!(other.assumptions, assumptions);
    assert_eq!((other.changed.total.accepted, other.changed.total.completed, other.changed.total.failed), (4, 4, 0));
    // They began at 20, 30 and 40 s, and had been ready since the first.
    let p99_ms = other.changed.waits.unwrap().p99_ms;
    assert!(p99_ms.abs_diff(40_000) <= 40, "{p99_ms}");
}

#[test]
fn a_recording_whose_beginning_is_gone_begins_with_its_snapshot() {
    let mut hub = Recorder::new(depth(3));
    (0..5).for_each(|n| _ = hub.submit(1_000_000 + n));
    let mut folder = hub.stop();
    let held;
    {
        let mut hub = Recorder::start(folder, 2_000_000, depth(3));
        held = hub.pull(2_000_100, 1);
        folder = hub.stop();
    }
    let mut hub = Recorder::start(folder, 2_100_000, depth(3));
    hub.apply(2_100_200, Command::Complete(complete("n", held[0], true)));
    (0..4).for_each(|n| _ = hub.submit(2_100_300 + n));
    let (replayed, other) = both(&hub.stop(), &["max_queue_depth=4"]);
    assert!(replayed.snapshot_seq.is_some_and(|seq| seq > 1), "{:?}", replayed.snapshot_seq);
    assert_eq!(replayed.covered.percent, 100.0);
    assert_eq!((other.recorded.total.accepted, other.changed.total.accepted), (1, 2));
    assert_eq!((other.recorded.total.completed, other.changed.total.completed), (1, 1));
    assert_eq!(other.assumptions, Assumptions::default());
}

#[test]
fn a_replay_stops_at_the_moment_and_the_digest_there_is_always_the_same() {
    let mut hub = Recorder::new(depth(10));
    (0..5).for_each(|n| _ = hub.submit(1_000_000 + n * 60_000));
    let folder = hub.stop();
    let until = |ms| replay(folder.path(), Some(Utc::from_millis(ms)), &mut |_, _| {}).unwrap();
    let found = until(1_130_000);
    assert_eq!((found.total.accepted, found.state.now, found.state.seq), (3, at(1_130_000), 4));
    assert_eq!(found.state.digest, until(1_130_000).state.digest);
    assert_eq!(until(1_180_000).total.accepted, 4, "the instant itself is in it");
    let end = replay(folder.path(), None, &mut |_, _| {}).unwrap();
    assert_eq!(until(9_000_000).state.digest, end.state.digest);
    let verified = journal::verify(folder.path(), true).unwrap().replay.unwrap();
    let hex: String = end.state.digest.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, verified.digest);
}

#[test]
fn a_hub_that_decided_otherwise_is_reported() {
    let mut hub = Recorder::new(depth(10));
    hub.submit(1_000_000);
    let folder = hub.stop_sealed_with([9; 16]);
    let diverged = replay(folder.path(), None, &mut |_, _| {}).unwrap().diverged.unwrap();
    assert_eq!((diverged.seq, diverged.expected), (2, [9; 16]));
}

/// Under the recorded limits both hubs agree: nothing is assumed, and no result is left out.
#[test]
fn under_the_recorded_limits_both_hubs_agree() {
    for seed in 0..30 {
        let mut hub = Recorder::new(Limits { inflight_max: 6, leases_per_node_max: 4, ..depth(8) });
        let mut traffic = Traffic { numbers: ChaCha8Rng::seed_from_u64(seed), leases: Vec::new(), now: 1_000_000 };
        (0..400).for_each(|_| traffic.step(&mut hub));
        let (replayed, other) = both(&hub.stop(), &["max_queue_depth=8"]);
        assert!(replayed.traced > 50 && replayed.total.refused > 0 && replayed.total.completed > 0, "seed {seed}");
        assert_eq!(other.changed.rows, other.recorded.rows, "seed {seed}");
        assert_eq!(other.changed.refusals, other.recorded.refusals, "seed {seed}");
        assert_eq!(other.changed.state.counts, other.recorded.state.counts, "seed {seed}");
        assert_eq!(other.changed.state.nodes, other.recorded.state.nodes, "seed {seed}");
        let assumptions = Assumptions { pulls_left_out: other.assumptions.pulls_left_out, ..Assumptions::default() };
        assert_eq!(other.assumptions, assumptions, "seed {seed}");
    }
}

/// Under any limits no job is invented or lost: each accepted job is completed, ended, or still there.
#[test]
fn under_other_limits_every_job_is_accounted_for() {
    for seed in 100..120 {
        let mut hub = Recorder::new(Limits { inflight_max: 6, leases_per_node_max: 4, ..depth(8) });
        let mut traffic = Traffic { numbers: ChaCha8Rng::seed_from_u64(seed), leases: Vec::new(), now: 1_000_000 };
        (0..400).for_each(|_| traffic.step(&mut hub));
        let folder = hub.stop();
        for sets in [["max_queue_depth=2"], ["max_queue_depth=20"], ["max_queue_depth=1000"], ["max_inflight=1"]] {
            let changed = both(&folder, &sets).1.changed;
            let (total, counts) = (changed.total, changed.state.counts);
            let there = counts.queued + counts.scheduled + counts.leased;
            assert_eq!(total.accepted, total.completed + total.failed + there, "seed {seed} {sets:?}");
            assert_eq!(sets == ["max_queue_depth=1000"], !changed.refusals.contains_key("queue_depth"), "seed {seed}");
        }
    }
}

fn heartbeat(node: &str) -> Heartbeat {
    Heartbeat {
        node: name(node),
        zone: Zone::DEFAULT,
        capabilities: NameSet::EMPTY,
        health: Health::Green,
        endpoint: None,
        labels: None,
        attestation: None,
        signing: None,
    }
}

/// Clients and nodes of some kinds and habits.
struct Traffic {
    numbers: ChaCha8Rng,
    leases: Vec<(String, LeaseRef)>,
    now: u64,
}

impl Traffic {
    fn step(&mut self, hub: &mut Recorder) {
        self.now += [0, 1, 50, 2_000, 30_000][self.below(5)];
        let node = format!("n{}", self.below(3));
        match self.below(10) {
            0..4 => {
                hub.apply(self.now, self.submit());
            }
            4..7 => {
                let command = Command::Pull(pull(&node, 1 + self.below(3) as u32));
                if let Outcome::Pulled(pulled) = hub.apply(self.now, command) {
                    self.leases.extend(pulled.leases.iter().map(|leased| (node.clone(), leased.lease)));
                }
            }
            7..9 if !self.leases.is_empty() => {
                let at = self.below(self.leases.len());
                let (node, lease) = self.leases[at].clone();
                match self.below(8) {
                    0 => {
                        let extend = Extend {
                            node: name(&node),
                            leases: vec![lease],
                            lease_duration_ms: None,
                            progress: None,
                            note: None,
                        };
                        hub.apply(self.now, Command::Extend(extend));
                    }
                    // Sent twice, or never.
                    1 => _ = hub.apply(self.now, Command::Complete(complete(&node, lease, true))),
                    2 => _ = self.leases.swap_remove(at),
                    what => {
                        self.leases.swap_remove(at);
                        let lease_sent = (what != 3).then_some(lease);
                        let is_retryable = self.below(2) == 0;
                        let complete = complete(&node, lease, what > 4);
                        let complete = Complete { lease: lease_sent, is_retryable, ..complete };
                        hub.apply(self.now, Command::Complete(complete));
                    }
                }
            }
            7..9 => {}
            _ => {
                hub.apply(self.now, Command::Heartbeat(heartbeat(&node)));
                let index = hub.hub.registry().by_name(&node).unwrap().index();
                hub.apply(self.now, Command::NodesSeen(vec![index]));
            }
        }
    }

    fn submit(&mut self) -> Command {
        let kind = ["a", "b"][self.below(2)];
        let mut submit = Submit::new(name(kind), Some(Payload::new(b"{}")));
        submit.delay_ms = Millis::new([0, 0, 5_000][self.below(3)]);
        submit.ttl_ms = (self.below(4) == 0).then(|| Millis::from_secs(60));
        submit.idempotency = (self.below(3) == 0).then(|| Idempotency {
            key: name(&format!("key{}", self.below(20))),
            payload_hash: [self.below(2) as u8; 32],
            on_duplicate: [OnDuplicate::SameResult, OnDuplicate::LatestWins][self.below(2)],
            on_failed: OnFailed::NewJob,
            ttl_ms: None,
        });
        Command::Submit(Box::new(submit))
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.numbers.next_u64() % bound as u64) as usize
    }
}
