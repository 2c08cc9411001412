//! Limits: backpressure, leases at a time, and how much of the past is kept.

use crate::scene::{Scene, failure, heartbeat, job, keyed, pull, success};
use sheratan_core::limits::{
    ATTEMPT_BYTES, CLASS_BYTES, DEFER_MS, HEAP_HEADER_BYTES, JOB_BYTES, KIND_BYTES, LANE_BYTES, NODE_BYTES, RUN_BYTES,
    SHARED_BYTES_MAX, TERMS_BYTES,
};
use sheratan_core::{
    Account, AttemptEnd, Audit, Command, Complete, DropReason, Heartbeat, JobSeq, Millis, OnDuplicate, OnFailed,
    Outcome, Payload, Pull, Pulled, Refusal, Submit, Submitted,
};

fn payload(bytes: usize) -> Option<Payload> {
    Some(Payload::new(&vec![b'1'; bytes]))
}

fn sized(bytes: usize) -> Submit {
    Submit { params: payload(bytes), ..job("k") }
}

/// What a waiting job of so many bytes is charged.
const fn waiting(bytes: u64) -> u64 {
    JOB_BYTES + HEAP_HEADER_BYTES + bytes
}

/// What a lease of a node with a name of one letter, or an outcome, is charged in addition.
const RUN: u64 = RUN_BYTES + HEAP_HEADER_BYTES + 1;

#[test]
fn the_queue_takes_jobs_up_to_its_limit_and_refuses_one_more() {
    let mut scene = Scene::with(|limits| limits.queue_depth_max = 3);
    // What waits for an instant counts like what waits for a node.
    scene.submit(job("k"));
    scene.submit(Submit { delay_ms: Millis::new(10), ..job("k") });
    scene.submit(job("k"));
    let digest = scene.hub.digest();
    scene.audits();
    assert_eq!(scene.try_submit(job("k")), Err(Refusal::QueueFull { depth: 3, depth_max: 3 }));
    assert_eq!(
        scene.audits(),
        [Audit::BackpressureDrop { reason: DropReason::QueueDepth, held: 3, max: 3, queue_depth: 3 }]
    );
    assert_eq!(scene.hub.digest(), digest, "a refusal changes nothing");
    // A leased job does not wait.
    let lease = scene.lease("a").lease;
    scene.submit(job("k"));
    assert!(scene.try_submit(job("k")).is_err());
    scene.succeed(lease);
    assert!(scene.try_submit(job("k")).is_err());
}

#[test]
fn the_queue_takes_bytes_up_to_its_limit_and_refuses_one_more() {
    let bytes_max = waiting(60) + waiting(40);
    let mut scene = Scene::with(|limits| limits.queue_bytes_max = bytes_max);
    scene.submit(sized(60));
    let refusal = Refusal::QueueBytesFull { bytes: waiting(60), bytes_max, depth: 1 };
    assert_eq!(scene.try_submit(sized(41)), Err(refusal));
    scene.submit(sized(40));
    assert_eq!(scene.hub.ledger().get(Account::Waiting), bytes_max);
}

#[test]
fn bytes_under_lease_count_until_the_job_is_final() {
    let mut scene = Scene::with(|limits| limits.queue_bytes_max = 10 * waiting(1_000));
    for _ in 0..10 {
        scene.submit(sized(1_000));
    }
    let leases = scene.pull("a", 10);
    assert_eq!(scene.hub.ledger().get(Account::Waiting), 0);
    assert_eq!(scene.hub.ledger().get(Account::Leased), 10 * (waiting(1_000) + RUN));
    assert!(matches!(scene.try_submit(sized(1)), Err(Refusal::QueueBytesFull { .. })), "payloads under lease are held");
    // A lease that ends finds its way back, however full the queue is.
    scene.fail(leases[0].lease);
    assert_eq!(scene.status(leases[0].lease.job), "scheduled");
    for leased in &leases[1..] {
        scene.succeed(leased.lease);
    }
    scene.submit(sized(1_000));
}

#[test]
fn a_superseded_job_makes_room_for_its_own_depth_and_bytes_and_no_more() {
    let under_key = |payload_hash: u8, bytes: usize| {
        let submit = keyed("key", payload_hash, OnDuplicate::LatestWins, OnFailed::SameResult);
        Submit { params: payload(bytes), ..submit }
    };
    let bytes_max = waiting(50) + TERMS_BYTES + waiting(50);
    let mut scene = Scene::with(|limits| (limits.queue_depth_max, limits.queue_bytes_max) = (2, bytes_max));
    let first = scene.submit(under_key(1, 30));
    scene.submit(sized(50));
    let refusal = Refusal::QueueBytesFull { bytes: bytes_max - 20, bytes_max, depth: 2 };
    assert_eq!(scene.try_submit(under_key(2, 51)), Err(refusal));
    assert_eq!(scene.status(first), "queued", "what is refused supersedes nothing");
    let second = scene.submit(under_key(2, 50));
    assert_eq!((scene.status(first), scene.hub.ledger().get(Account::Waiting)), ("superseded", bytes_max));
    // A leased job waits no more, so superseding it makes no room in the line.
    scene.limit(|limits| limits.queue_bytes_max = 1 << 20);
    scene.pull("a", 2);
    scene.submit(sized(10));
    scene.submit(sized(10));
    assert_eq!(scene.try_submit(under_key(3, 0)), Err(Refusal::QueueFull { depth: 2, depth_max: 2 }));
    assert_eq!(scene.status(second), "leased");
}

#[test]
fn a_limit_that_is_lowered_refuses_until_enough_has_left() {
    let mut scene = Scene::new();
    (0..4).for_each(|_| _ = scene.submit(job("k")));
    scene.limit(|limits| limits.queue_depth_max = 2);
    for depth in [4, 3, 2] {
        assert_eq!(scene.try_submit(job("k")), Err(Refusal::QueueFull { depth, depth_max: 2 }));
        scene.lease("a");
    }
    scene.submit(job("k"));
}

#[test]
fn a_hub_that_is_saturated_gives_no_job_and_says_how_long_to_wait() {
    let mut scene = Scene::with(|limits| limits.inflight_max = 2);
    (0..4).for_each(|_| _ = scene.submit(job("k")));
    let leases = scene.pull("a", 10);
    assert_eq!(leases.len(), 2);
    scene.audits();
    assert_eq!(scene.pull_as(pull("b", 1)), Pulled { node: None, leases: vec![], defer_ms: DEFER_MS });
    let event = Audit::InflightSaturated { node: crate::scene::name("b"), inflight: 2 };
    assert_eq!(scene.audits(), [event]);
    scene.succeed(leases[0].lease);
    assert_eq!(scene.pull("b", 10).len(), 1);
}

#[test]
fn a_node_that_is_saturated_gets_no_job_while_others_do() {
    let mut scene = Scene::with(|limits| limits.leases_per_node_max = 2);
    (0..6).for_each(|_| _ = scene.submit(job("k")));
    let leases = scene.pull("a", 10);
    assert_eq!(leases.len(), 2);
    assert_eq!(scene.pull_as(pull("a", 1)), Pulled { node: None, leases: vec![], defer_ms: DEFER_MS });
    assert_eq!(scene.pull("b", 1).len(), 1);
    // Whatever ends a lease makes room: a result, a failure, the lease's own end.
    scene.succeed(leases[0].lease);
    assert_eq!(scene.pull("a", 10).len(), 1);
    scene.fail(leases[1].lease);
    assert_eq!(scene.pull("a", 10).len(), 1);
    scene.at(300_000);
    assert_eq!(scene.pull("a", 10).len(), 2);
}

#[test]
fn a_pull_that_finds_nothing_need_not_wait_and_leaves_no_trace() {
    let mut scene = Scene::new();
    let digest = scene.hub.digest();
    assert_eq!(scene.pull_as(pull("a", 1)), Pulled { node: None, leases: vec![], defer_ms: Millis::ZERO });
    assert_eq!(scene.hub.digest(), digest);
    assert!(scene.hub.registry().by_name("a").is_none());
}

#[test]
fn a_final_job_is_readable_for_its_retention_and_then_gone() {
    let mut scene = Scene::with(|limits| limits.job_retention_ms = Millis::new(10_000));
    let seq = scene.submit(job("k"));
    let lease = scene.lease("a").lease;
    scene.at(1_000);
    scene.succeed(lease);
    scene.at(10_999);
    assert_eq!(scene.status(seq), "completed");
    scene.at(11_000);
    assert_eq!(scene.status(seq), "gone");
    assert_eq!(scene.complete(success(lease)), Err(Refusal::UnknownJob));
    assert_eq!((scene.hub.counts().retained, scene.hub.ledger().get(Account::Retained)), (0, 0));
}

#[test]
fn beyond_their_number_the_final_jobs_that_ended_first_go_first() {
    let mut scene = Scene::with(|limits| limits.retained_jobs_max = 2);
    let seqs: Vec<JobSeq> = (0..4).map(|_| scene.submit(job("k"))).collect();
    let leases = scene.pull("a", 4);
    // The last one submitted ends first.
    for leased in leases.iter().rev() {
        scene.succeed(leased.lease);
    }
    let statuses: Vec<_> = seqs.iter().map(|seq| scene.status(*seq)).collect();
    assert_eq!(statuses, ["completed", "completed", "gone", "gone"]);
    scene.limit(|limits| limits.retained_jobs_max = 1);
    assert_eq!((scene.status(seqs[0]), scene.status(seqs[1])), ("completed", "gone"));
    scene.limit(|limits| limits.retained_jobs_max = 0);
    assert!(scene.hub.queue().is_empty());
}

#[test]
fn beyond_their_bytes_the_final_jobs_that_ended_first_go_first() {
    let one = waiting(100) + RUN + HEAP_HEADER_BYTES + 10;
    for (bytes_max, kept) in [(2 * one, 2), (2 * one - 1, 1), (one - 1, 0)] {
        let mut scene = Scene::with(|limits| limits.retained_bytes_max = bytes_max);
        for _ in 0..2 {
            scene.submit(sized(100));
            let lease = scene.lease("a").lease;
            scene.complete(Complete { result: payload(10), ..success(lease) }).unwrap();
        }
        let retained = (scene.hub.counts().retained, scene.hub.ledger().get(Account::Retained));
        assert_eq!(retained, (kept, kept * one));
    }
}

#[test]
fn the_errors_of_all_attempts_count_among_a_jobs_bytes() {
    let mut scene = Scene::new();
    scene.submit(Submit { attempts_max: Some(2), ..sized(100) });
    let error = HEAP_HEADER_BYTES + 20;
    let attempt = ATTEMPT_BYTES + HEAP_HEADER_BYTES + 1 + error;
    for (at, account, bytes) in [
        (15_000, Account::Waiting, waiting(100) + attempt),
        (30_000, Account::Dead, waiting(100) + attempt + RUN + error),
    ] {
        scene.at(at);
        let lease = scene.lease("a").lease;
        scene.complete(Complete { error: payload(20), ..failure(lease) }).unwrap();
        assert_eq!(scene.hub.ledger().get(account), bytes);
    }
}

#[test]
fn an_error_for_which_unfinished_jobs_have_no_room_is_not_kept_in_the_history() {
    for (room, is_kept) in [(2_000, true), (1_999, false)] {
        let leased = waiting(100) + RUN;
        let mut scene = Scene::with(|limits| limits.queue_bytes_max = leased + room);
        let seq = scene.submit(sized(100));
        let lease = scene.lease("a").lease;
        scene.complete(Complete { error: payload(2_000), ..failure(lease) }).unwrap();
        let job = scene.hub.queue().get(seq).unwrap();
        let end = &job.attempts().next().unwrap().end;
        assert_eq!(matches!(end, AttemptEnd::Failed { error: Some(_), .. }), is_kept, "{room}");
    }
}

#[test]
fn dead_jobs_have_limits_of_their_own_and_a_day_of_success_does_not_push_them_out() {
    let mut scene = Scene::with(|limits| (limits.retained_jobs_max, limits.dead_jobs_max) = (2, 2));
    let die = |scene: &mut Scene| {
        let seq = scene.submit(job("k"));
        let lease = scene.lease("a").lease;
        scene.complete(Complete { is_retryable: false, ..failure(lease) }).unwrap();
        seq
    };
    let dead: Vec<_> = (0..2).map(|_| die(&mut scene)).collect();
    for _ in 0..5 {
        scene.submit(job("k"));
        let lease = scene.lease("a").lease;
        scene.succeed(lease);
    }
    assert_eq!((scene.hub.counts().retained, scene.hub.counts().dead), (2, 2));
    let third = die(&mut scene);
    assert_eq!([dead[0], dead[1], third].map(|seq| scene.status(seq)), ["gone", "dead", "dead"]);
}

#[test]
fn no_more_nodes_are_known_than_the_operator_says() {
    let mut scene = Scene::with(|limits| limits.nodes_max = 2);
    scene.heartbeat(heartbeat("a"));
    scene.heartbeat(heartbeat("b"));
    let third = || Command::Heartbeat(heartbeat("c"));
    let refusal = Refusal::NodesFull { nodes: 2, nodes_max: 2 };
    assert_eq!(scene.apply(third()), Outcome::Refused(refusal));
    scene.heartbeat(heartbeat("a"));
    scene.limit(|limits| limits.nodes_max = 3);
    assert!(matches!(scene.apply(third()), Outcome::Heard { .. }));
}

#[test]
fn a_dead_node_without_leases_makes_room_the_one_that_was_seen_longest_ago_first() {
    let mut scene = Scene::with(|limits| limits.nodes_max = 3);
    scene.submit(job("k"));
    scene.heartbeat(heartbeat("busy"));
    scene.pull_as(Pull { lease_duration_ms: Some(Millis::from_secs(86_400)), ..pull("busy", 1) });
    scene.at(1).heartbeat(heartbeat("late"));
    scene.heartbeat(heartbeat("early"));
    scene.at(2).heartbeat(heartbeat("late"));
    scene.at(599_999);
    assert!(matches!(scene.apply(Command::Heartbeat(heartbeat("new"))), Outcome::Refused(Refusal::NodesFull { .. })));
    scene.at(700_000).heartbeat(heartbeat("new"));
    let known = |scene: &Scene, node: &str| scene.hub.registry().by_name(node).is_some();
    assert!(!known(&scene, "early") && known(&scene, "late") && known(&scene, "busy"));
    scene.heartbeat(heartbeat("newer"));
    assert!(!known(&scene, "late") && known(&scene, "busy"), "one with a lease stays");
    let refused = scene.apply(Command::Heartbeat(heartbeat("newest")));
    assert_eq!(refused, Outcome::Refused(Refusal::NodesFull { nodes: 3, nodes_max: 3 }));
}

#[test]
fn nodes_say_no_more_of_themselves_than_there_is_room_for() {
    let labelled = |node: &str, bytes: usize| Heartbeat { labels: payload(bytes), ..heartbeat(node) };
    let one = NODE_BYTES + 2 * HEAP_HEADER_BYTES + 1 + 100;
    for (room, is_taken) in [(0, true), (1, false)] {
        let mut scene = Scene::with(|limits| limits.nodes_bytes_max = 2 * one - room);
        scene.heartbeat(labelled("a", 100));
        let outcome = scene.apply(Command::Heartbeat(labelled("b", 100)));
        assert_eq!(matches!(outcome, Outcome::Heard { .. }), is_taken, "{room}");
        let refusal = Refusal::NodeBytesFull { bytes: one, bytes_max: 2 * one - room };
        assert!(is_taken || outcome == Outcome::Refused(refusal));
        // Whoever says as much as before, or less, is heard.
        scene.heartbeat(labelled("a", 100));
        scene.heartbeat(labelled("a", 10));
        let sum: u64 = scene.hub.ledger().get(Account::Nodes);
        assert_eq!(sum, if is_taken { 2 * one - 90 } else { one - 90 });
        // A dead node makes room for what others say.
        scene.at(700_000).heartbeat(labelled("c", 100));
        assert!(scene.hub.ledger().get(Account::Nodes) <= 2 * one - room);
    }
}

#[test]
fn names_that_jobs_share_are_refused_beyond_their_bytes_and_go_with_final_jobs() {
    let long = |n: usize| format!("{n:0256}");
    let each = KIND_BYTES + HEAP_HEADER_BYTES + 256 + LANE_BYTES;
    let mut scene = Scene::with(|limits| {
        (limits.queue_depth_max, limits.queue_bytes_max) = (u64::MAX, u64::MAX);
    });
    let mut taken = 0;
    let refusal = loop {
        match scene.try_submit(Submit { ttl_ms: Some(Millis::new(1_000)), ..job(&long(taken)) }) {
            Ok(_) => taken += 1,
            Err(refusal) => break refusal,
        }
    };
    assert!(matches!(refusal, Refusal::SharedBytesFull { bytes_max: SHARED_BYTES_MAX, .. }), "{refusal:?}");
    assert!(taken as u64 >= SHARED_BYTES_MAX / each && taken as u64 <= SHARED_BYTES_MAX / (each - LANE_BYTES));
    scene.submit(job(&long(0)));
    // Final jobs may have half of it: the oldest go. The one that waits has its kind, lane and class.
    scene.at(1_000);
    let shared = scene.hub.ledger().get(Account::Shared);
    assert!(shared <= SHARED_BYTES_MAX / 2 + each + CLASS_BYTES && shared >= SHARED_BYTES_MAX / 2 - each, "{shared}");
    scene.submit(job(&long(taken)));
    assert_eq!(scene.hub.recount(), *scene.hub.ledger());
    scene.journal.clear();
    std::mem::forget(scene);
}

#[test]
fn names_of_waiting_jobs_push_no_final_job_out() {
    let mut scene = Scene::with(|limits| {
        (limits.queue_depth_max, limits.queue_bytes_max) = (u64::MAX, u64::MAX);
    });
    let dead = scene.submit(job("dead"));
    let lease = scene.lease("a").lease;
    scene.complete(Complete { is_retryable: false, ..failure(lease) }).unwrap();
    let mut n = 0;
    while scene.try_submit(job(&format!("{n:0256}"))).is_ok() {
        n += 1;
    }
    assert!(scene.hub.ledger().get(Account::Shared) > SHARED_BYTES_MAX * 99 / 100);
    assert_eq!(scene.status(dead), "dead");
    // A replay and a snapshot of so many jobs say nothing that smaller ones do not.
    scene.journal.clear();
    std::mem::forget(scene);
}

#[test]
fn idempotency_keys_of_final_jobs_make_room_and_others_do_not() {
    let key = |text: &str| keyed(text, 1, OnDuplicate::SameResult, OnFailed::SameResult);
    let mut scene =
        Scene::with(|limits| (limits.idempotency_keys_max, limits.idempotency_floor_ms) = (2, Millis::new(5_000)));
    let full = Refusal::KeysFull { keys: 2, keys_max: 2 };
    scene.submit(key("one"));
    scene.submit(key("two"));
    assert_eq!(scene.try_submit(key("three")), Err(full.clone()));
    scene.submit(job("k"));
    let lease = scene.lease("a").lease;
    scene.succeed(lease);
    // A spent key makes room when it is old enough, so that a flood does not make honest repeats run again.
    scene.at(4_999);
    assert_eq!(scene.try_submit(key("three")), Err(full.clone()));
    assert!(matches!(scene.try_submit(key("one")), Ok(Submitted::Final { .. })), "a known key is answered");
    scene.at(5_000).submit(key("three"));
    assert_eq!(scene.hub.dedup().len(), 2);
    assert_eq!(scene.try_submit(key("one")), Err(full), "the oldest was forgotten");
    assert!(matches!(scene.try_submit(key("two")), Ok(Submitted::InProgress { .. })));
}

#[test]
fn whatever_waits_and_runs_is_counted_once() {
    let mut scene = Scene::new();
    scene.heartbeat(heartbeat("a"));
    scene.submit(Submit { delay_ms: Millis::new(5), ..sized(7) });
    scene.submit(sized(11));
    scene.submit(sized(13));
    let leases = scene.pull("a", 1);
    let counts = scene.hub.counts();
    assert_eq!((counts.scheduled, counts.queued, counts.leased, counts.retained), (1, 1, 1, 0));
    assert_eq!(scene.hub.ledger().get(Account::Waiting), waiting(7) + waiting(13));
    assert_eq!(scene.hub.registry().by_name("a").unwrap().leases(), 1);
    scene.succeed(leases[0].lease);
    let counts = scene.hub.counts();
    assert_eq!((counts.scheduled, counts.queued, counts.leased, counts.retained), (1, 1, 0, 1));
    assert_eq!(scene.hub.registry().by_name("a").unwrap().leases(), 0);
}
