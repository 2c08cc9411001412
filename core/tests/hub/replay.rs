//! Replay: the state is a function of the commands that changed something, and of nothing else.

use crate::scene::{KEY, at, failure, heartbeat, job, keyed, name, names, pull, replay, restore, success};
use proptest::prelude::*;
use sheratan_core::integrity::stored::{Origin, ResultIntegrity};
use sheratan_core::limits::{ANSWER_BYTES, HEAP_HEADER_BYTES, KEY_BYTES, Limits, NODE_BYTES, PROFILE_BYTES};
use sheratan_core::{
    Account, ActOn, AdoptOrphan, BeginAct, Command, Complete, Drain, Extend, Heartbeat, Hub, HubKey, JobSeq, KindRules,
    LeaseRef, LetterFilter, Liveness, Millis, NameSet, OnDuplicate, OnExhausted, OnFailed, Outcome, ParkResult, Pause,
    Payload, Priority, Pull, Release, Restore, RestoreError, RulesVersion, SetKind, Setting, Submit, Timestamp,
    WaiterId, Weight,
};

/// Limits so low that short histories reach all of them.
fn narrow() -> Limits {
    Limits {
        queue_depth_max: 6,
        queue_bytes_max: 1_700,
        inflight_max: 4,
        inflight_bytes_max: 1_100,
        leases_per_node_max: 3,
        lease_duration_ms: Millis::new(4_000),
        attempts_max: 2,
        node_ttl_ms: Millis::new(2_000),
        node_dead_ms: Millis::new(5_000),
        job_retention_ms: Millis::new(10_000),
        retained_jobs_max: 5,
        retained_bytes_max: 2_000,
        dead_jobs_max: 3,
        dead_bytes_max: 1_500,
        idempotency_ttl_ms: Millis::new(7_000),
        idempotency_cached_bytes_max: 5,
        idempotency_keys_max: 3,
        idempotency_floor_ms: Millis::new(1_500),
        answers_bytes_max: 3 * KEY_BYTES + 2 * (ANSWER_BYTES + HEAP_HEADER_BYTES + 5),
        nodes_max: 2,
        nodes_bytes_max: 2 * NODE_BYTES + PROFILE_BYTES + 300,
        ..Limits::default()
    }
}

fn node_names() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["a", "b", "c"])
}

fn submits() -> impl Strategy<Value = Submit> {
    let key = (prop::sample::select(vec!["one", "two", "three", "four"]), 0..3_u8, any::<bool>(), any::<bool>());
    let key = prop::option::of(key).prop_map(|key| {
        key.map_or(job("k"), |(key, payload, is_latest, is_new)| {
            let on_duplicate = if is_latest { OnDuplicate::LatestWins } else { OnDuplicate::SameResult };
            keyed(key, payload, on_duplicate, if is_new { OnFailed::NewJob } else { OnFailed::SameResult })
        })
    });
    let times =
        (prop::sample::select(vec![0, 0, 500, 3_000]), prop::option::of(0..6_000_u64), prop::option::of(0..9_000_u64));
    let priority = prop::sample::select(vec![Priority::High, Priority::Normal, Priority::Low]);
    (key, times, priority, prop::sample::select(vec!["x", "y"]), any::<bool>(), 0..15_usize).prop_map(
        |(keyed, (delay_ms, ttl_ms, budget_ms), priority, kind, is_special, bytes)| Submit {
            kind: name(kind),
            params: (bytes > 0).then(|| Payload::new(&vec![b'1'; bytes])),
            priority: Some(priority),
            requires: if is_special { names(&["gpu"]) } else { NameSet::EMPTY },
            delay_ms: Millis::new(delay_ms),
            ttl_ms: ttl_ms.map(Millis::new),
            retry_budget_ms: budget_ms.map(Millis::new),
            client: (bytes % 3 == 1).then(|| name(["p", "q"][bytes % 2])),
            ..keyed
        },
    )
}

fn lease_refs() -> impl Strategy<Value = LeaseRef> {
    (1..15_u64, 1..3_u32).prop_map(|(job, generation)| LeaseRef { job: JobSeq::new(job), generation })
}

fn completes() -> impl Strategy<Value = Complete> {
    (lease_refs(), any::<bool>(), any::<bool>(), any::<bool>(), prop::option::of(node_names()), 0..8_usize).prop_map(
        |(lease, ok, has_lease, is_retryable, node, bytes)| {
            let complete = if ok { success(lease) } else { failure(lease) };
            let result = (bytes > 0).then(|| Payload::new(&vec![b'1'; bytes]));
            let lease = has_lease.then_some(lease);
            let sha256 = [bytes as u8; 32];
            let integrity = (bytes > 2).then(|| Box::new(ResultIntegrity { origin: Origin::Worker, sha256 }));
            Complete { lease, node: node.map(name), result, is_retryable, integrity, ..complete }
        },
    )
}

fn commands() -> impl Strategy<Value = Command> {
    let order = (0..3_u32, prop::sample::select(vec![0, 0, 700, 3_000]));
    let configure = (1..8_u64, 1..6_u64, 500..6_000_u64, order).prop_map(|(depth, retained, ttl_ms, order)| {
        let (queue_depth_max, retained_jobs_max, node_ttl_ms) = (depth, retained, Millis::new(ttl_ms));
        let (fair_by, priority_age_ms) = (order.0, Millis::new(order.1));
        let limits = Limits { queue_depth_max, retained_jobs_max, node_ttl_ms, fair_by, priority_age_ms, ..narrow() };
        Command::Set(Setting::all(&limits))
    });
    let heartbeats = (node_names(), any::<bool>(), 0..200_usize).prop_map(|(node, is_special, bytes)| {
        let capabilities = if is_special { names(&["gpu"]) } else { NameSet::EMPTY };
        let labels = (bytes > 0).then(|| Payload::new(&vec![b'1'; bytes]));
        let endpoint = (bytes % 3 == 0).then(|| name("http://a.node:1"));
        Command::Heartbeat(Heartbeat { capabilities, labels, endpoint, ..heartbeat(node) })
    });
    let pulls = (node_names(), 1..4_u32, any::<bool>()).prop_map(|(node, jobs_max, is_picky)| {
        Command::Pull(Pull { kinds: if is_picky { names(&["x"]) } else { NameSet::EMPTY }, ..pull(node, jobs_max) })
    });
    let extends =
        (node_names(), prop::collection::vec(lease_refs(), 0..3), 1_000..9_000_u64).prop_map(|(node, leases, ms)| {
            Command::Extend(Extend {
                node: name(node),
                leases,
                lease_duration_ms: Some(Millis::new(ms)),
                progress: None,
                note: None,
            })
        });
    prop_oneof![
        1 => configure,
        2 => heartbeats,
        6 => submits().prop_map(|submit| Command::Submit(Box::new(submit))),
        5 => pulls,
        2 => extends,
        5 => completes().prop_map(Command::Complete),
        3 => operations(),
    ]
}

/// What operators and nodes ask for beside jobs.
fn operations() -> impl Strategy<Value = Command> {
    let jobs = || (1..15_u64).prop_map(JobSeq::new);
    let nodes = || node_names().prop_map(name);
    let small = |max: u64| prop::option::of(0..max);
    let rules = (small(4), small(3_000), small(3), small(9_000), any::<bool>(), prop::option::of(0..9_000_u64));
    let set_kind = rules.prop_map(|(inflight_max, rate, letters_max, max_run, is_dropped, paused_until)| {
        let rules = KindRules {
            inflight_max,
            leases_per_1000_sec: rate,
            letters_max,
            max_run_ms: max_run.map(|ms| Millis::new(ms + 1)),
            on_exhausted: is_dropped.then_some(OnExhausted::Drop),
            pause: paused_until.map(|ms| Pause { reason: None, until: Some(at(ms)) }),
            ..KindRules::default()
        };
        Command::SetKind(Box::new(SetKind { kind: name("x"), rules, expected: None, configured: None }))
    });
    let begin = (any::<bool>(), small(3)).prop_map(|(is_requeue, rate)| {
        let what = if is_requeue { ActOn::Requeue } else { ActOn::Discard };
        let filter = LetterFilter::default();
        Command::BeginAct(Box::new(BeginAct {
            what,
            filter,
            rate_per_sec: rate.map(|rate| rate as u32),
            count_max: None,
        }))
    });
    let parked = (0..3_u8, any::<bool>()).prop_map(|(n, ok)| {
        let complete = if ok { success } else { failure }(LeaseRef { job: JobSeq::new(1), generation: 1 });
        Command::ParkResult(Box::new(ParkResult {
            job_id: name(&format!("x-{n}")),
            node: None,
            ok,
            result: complete.result,
            error: complete.error,
            mark: complete.mark,
            integrity: None,
        }))
    });
    prop_oneof![
        2 => Just(Command::AdoptRules(RulesVersion::NEWEST)),
        2 => jobs().prop_map(Command::Cancel),
        2 => (nodes(), prop::collection::vec(lease_refs(), 0..3))
            .prop_map(|(node, leases)| Command::Release(Release { node, leases })),
        3 => set_kind,
        2 => jobs().prop_map(Command::Requeue),
        1 => jobs().prop_map(Command::Discard),
        1 => (nodes(), prop::option::of(0..5_000_u64)).prop_map(|(node, ms)| {
            Command::Drain(Drain { node, deadline_ms: ms.map(Millis::new), reason: None })
        }),
        2 => nodes().prop_map(Command::Resume),
        1 => nodes().prop_map(Command::RemoveNode),
        1 => begin,
        1 => (0..3_u32).prop_map(Command::CancelAct),
        1 => parked,
        1 => (0..3_u64, jobs()).prop_map(|(orphan, job)| Command::AdoptOrphan(AdoptOrphan { orphan, job })),
        1 => (0..3_u64).prop_map(Command::DiscardOrphan),
        1 => (1..9_u32).prop_map(|weight| Command::SetWeights(vec![Weight { group: name("p"), weight }])),
    ]
}

/// Steps of time, most of them short, each with a command.
pub fn histories() -> impl Strategy<Value = Vec<(u64, Command)>> {
    let step = prop_oneof![4 => Just(0), 4 => 0..300_u64, 2 => 0..3_000_u64, 1 => 0..20_000_u64];
    prop::collection::vec((step, commands()), 0..120)
}

pub fn start() -> Hub {
    let mut hub = Hub::new(KEY);
    hub.apply(Timestamp::ZERO, Command::Set(Setting::all(&narrow())));
    hub
}

/// Applies a history to a hub; returns all outcomes, and the journal that a shell would have written.
pub fn drive(hub: &mut Hub, from_ms: u64, history: &[(u64, Command)]) -> (Vec<Outcome>, Vec<(Timestamp, Command)>) {
    let (mut ms, mut outcomes, mut journal) = (from_ms, Vec::new(), Vec::new());
    for (step, command) in history {
        ms += step;
        let outcome = hub.apply(at(ms), command.clone());
        if outcome.is_durable() {
            journal.push((at(ms), command.clone()));
        }
        outcomes.push(outcome);
    }
    (outcomes, journal)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a_replay_of_what_changed_something_ends_in_the_same_state(history in histories()) {
        let mut hub = start();
        let (_, mut journal) = drive(&mut hub, 0, &history);
        journal.insert(0, (Timestamp::ZERO, Command::Set(Setting::all(&narrow()))));
        let mut replayed = replay(&journal);
        replayed.advance(hub.now());
        prop_assert_eq!(replayed.digest(), hub.digest());
        prop_assert_eq!(replayed.outcome_hash(), hub.outcome_hash());
    }

    #[test]
    fn a_command_that_is_not_durable_does_not_change_the_digest(history in histories()) {
        let mut hub = start();
        let mut ms = 0;
        for (step, command) in history {
            ms += step;
            hub.advance(at(ms));
            let before = hub.digest();
            let outcome = hub.apply(at(ms), command);
            prop_assert!(outcome.is_durable() || hub.digest() == before, "{:?}", outcome);
        }
    }

    #[test]
    fn calls_between_commands_change_nothing(history in histories(), steps in prop::collection::vec(0..700_u64, 1..20)) {
        let (mut quiet, mut busy) = (start(), start());
        let (outcomes, _) = drive(&mut quiet, 0, &history);
        let mut ms = 0;
        for ((step, command), expected) in history.into_iter().zip(outcomes) {
            let mut called_at = ms;
            ms += step;
            for step in steps.iter().cycle() {
                if called_at == ms {
                    break;
                }
                called_at = (called_at + step + 1).min(ms);
                busy.advance(at(called_at));
                let id = WaiterId(called_at);
                if busy.park(id, &pull("a", 1)) {
                    busy.unpark(id);
                }
                // A poll that stays parked names kinds, on which no decision depends.
                busy.park(WaiterId(u64::MAX - called_at), &Pull { kinds: names(&["never"]), ..pull("a", 1) });
                busy.settle(&mut Vec::new());
            }
            while let Some(deadline) = busy.next_deadline().filter(|deadline| *deadline <= at(ms)) {
                busy.advance(deadline);
            }
            prop_assert_eq!(busy.apply(at(ms), command), expected);
        }
        prop_assert_eq!(busy.digest(), quiet.digest());
        prop_assert_eq!(busy.outcome_hash(), quiet.outcome_hash());
    }

    #[test]
    fn a_restored_hub_decides_as_the_original_does(before in histories(), after in histories()) {
        let mut hub = start();
        drive(&mut hub, 0, &before);
        let mut restored = restore(&hub);
        prop_assert_eq!(restored.digest(), hub.digest());
        prop_assert_eq!(restored.counts(), hub.counts());
        let from_ms = hub.now().as_millis();
        let (expected, _) = drive(&mut hub, from_ms, &after);
        let (outcomes, _) = drive(&mut restored, from_ms, &after);
        prop_assert_eq!(outcomes, expected);
        prop_assert_eq!(restored.digest(), hub.digest());
        prop_assert_eq!(restored.outcome_hash(), hub.outcome_hash());
    }

    #[test]
    fn the_counts_are_those_of_the_jobs(history in histories()) {
        let mut hub = start();
        let mut ms = 0;
        for (id, (step, command)) in history.into_iter().enumerate() {
            ms += step;
            let outcome = hub.apply(at(ms), command);
            let count = |word: &str| hub.queue().iter_from(JobSeq::FIRST).filter(|job| job.status() == word).count() as u64;
            let counts = hub.counts();
            let running = counts.leased - counts.held;
            prop_assert_eq!([counts.scheduled, counts.queued, running], ["scheduled", "queued", "leased"].map(count));
            prop_assert_eq!(counts.waiting() + running + counts.retained + counts.dead, hub.queue().len() as u64);
            prop_assert_eq!(hub.recount(), hub.ledger().clone());
            let held: u64 = hub.registry().iter().map(|node| node.leases()).sum();
            prop_assert_eq!(held, counts.leased);
            prop_assert!(counts.leased <= narrow().inflight_max);
            if matches!(&outcome, Outcome::Pulled(pulled) if !pulled.leases.is_empty()) {
                let (bytes, bytes_max) = (hub.ledger().get(Account::Leased), narrow().inflight_bytes_max);
                prop_assert!(bytes <= bytes_max || running == 1, "{bytes} bytes of {running} jobs");
            }
            prop_assert!(counts.retained <= narrow().retained_jobs_max + 1);
            prop_assert!(hub.dedup().len() as u64 <= narrow().idempotency_keys_max);
            let nodes: Vec<_> = hub.registry().iter().map(|node| node.liveness()).collect();
            prop_assert_eq!((hub.registry().len(), hub.registry().is_empty()), (nodes.len(), nodes.is_empty()));
            for liveness in [Liveness::Online, Liveness::Stale, Liveness::Dead] {
                let count = nodes.iter().filter(|other| **other == liveness).count() as u64;
                prop_assert_eq!(hub.registry().count(liveness), count);
            }
            // Polls for kinds of jobs and for kinds without jobs are parked; some of them are woken.
            let kinds = if id % 2 == 0 { names(&["x"]) } else { names(&["never", "y"]) };
            hub.park(WaiterId(id as u64), &Pull { kinds, ..pull("a", 1) });
            hub.settle(&mut Vec::new());
            prop_assert_eq!(hub.recount(), hub.ledger().clone());
        }
    }
}

#[test]
fn equal_states_have_snapshots_of_equal_bytes() {
    let records = |hub: &Hub| {
        let mut records = Vec::new();
        hub.snapshot(|record| records.push(record.to_vec()));
        records
    };
    let mut hub = Hub::new(KEY);
    for kind in ["x", "y", "x"] {
        hub.apply(at(5), Command::Submit(Box::new(job(kind))));
    }
    hub.apply(at(6), Command::Pull(pull("a", 2)));
    assert_eq!(records(&restore(&hub)), records(&hub));
    assert_eq!(records(&hub).len(), 1 + 1 + 3 + 1, "head, node, jobs, end");
    let limits = Limits { nodes_max: 7, ..Limits::default() };
    hub.apply(at(7), Command::Set(Setting::all(&limits)));
    assert_eq!(records(&restore(&hub)), records(&hub));
    assert_eq!(records(&hub).len(), 1 + 1 + 1 + 3 + 1, "a setting that is not at its default is written");
    hub.apply(at(8), Command::Set(Setting::all(&Limits::default())));
    assert_eq!(records(&hub).len(), 1 + 1 + 3 + 1, "a setting at its default is not written");
}

#[test]
fn a_snapshot_that_is_truncated_or_out_of_order_is_refused() {
    let mut hub = Hub::new(KEY);
    hub.apply(at(5), Command::Submit(Box::new(job("k"))));
    hub.apply(at(6), Command::Pull(pull("a", 1)));
    let mut records = Vec::new();
    hub.snapshot(|record| records.push(record.to_vec()));
    let read = |records: &[Vec<u8>]| {
        let mut reader = Restore::new(KEY);
        records.iter().try_for_each(|record| reader.record(record))?;
        reader.finish().map(|hub| hub.digest())
    };
    assert_eq!(read(&records), Ok(hub.digest()));
    for cut in 0..records.len() {
        assert_eq!(read(&records[..cut]), Err(RestoreError::Incomplete), "{cut} of {} records", records.len());
    }
    let mut swapped = records.clone();
    swapped.swap(1, 2);
    assert!(matches!(read(&swapped), Err(RestoreError::Contradiction(_))), "a job before its node");
    let mut swapped = records.clone();
    swapped.swap(0, 1);
    assert_eq!(read(&swapped), Err(RestoreError::OutOfOrder));
    let twice = [&records[..], &records[..1]].concat();
    assert_eq!(read(&twice), Err(RestoreError::OutOfOrder));
    let mut broken = records.clone();
    broken[2].truncate(3);
    assert!(matches!(read(&broken), Err(RestoreError::Malformed(_))));
}

#[test]
fn another_hub_key_gives_other_retry_delays_and_chains() {
    let run = |key: HubKey| {
        let mut hub = Hub::new(key);
        hub.apply(at(0), Command::Submit(Box::new(job("k"))));
        hub.apply(at(0), Command::Pull(pull("a", 1)));
        hub.apply(at(0), Command::Complete(failure(LeaseRef { job: JobSeq::FIRST, generation: 1 })));
        (hub.next_deadline(), hub.outcome_hash())
    };
    assert_eq!(run(KEY), run(KEY));
    let (one, other) = (run(KEY), run(HubKey::new([7; 16])));
    assert_ne!(one.0, other.0);
    assert_ne!(one.1, other.1);
}
