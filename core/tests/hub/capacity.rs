//! Limits of bytes: what is refused or dropped at the limit and one byte beyond it, computed from what records are
//! charged.

use crate::scene::{Scene, failure, heartbeat, job, keyed, name, names, pull, success, zone};
use sheratan_core::limits::{
    ATTEMPT_BYTES, CLASS_BYTES, HEAP_HEADER_BYTES, JOB_BYTES, KIND_BYTES, LANE_BYTES, NODE_BYTES, RUN_BYTES,
    SHARED_BYTES_MAX, TERMS_BYTES,
};
use sheratan_core::{
    Account, AttemptEnd, Command, Complete, Health, Heartbeat, JobSeq, Millis, OnDuplicate, OnFailed, Outcome, Payload,
    Priority, Refusal, RulesVersion, Submit, Timestamp, Zone,
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
fn the_queue_accepts_bytes_up_to_its_limit_and_refuses_one_more() {
    let bytes_max = waiting(60) + waiting(40);
    let mut scene = Scene::with(|limits| limits.queue_bytes_max = bytes_max);
    scene.submit(sized(60));
    let refusal = Refusal::QueueBytesFull { bytes: waiting(60), bytes_max, depth: 1, over: 1 };
    assert_eq!(scene.try_submit(sized(41)), Err(refusal));
    scene.submit(sized(40));
    assert_eq!(scene.hub.ledger().get(Account::Waiting), bytes_max);
}

#[test]
fn a_job_that_never_fits_is_not_told_to_wait() {
    let bytes_max = waiting(60);
    let mut scene = Scene::with(|limits| (limits.queue_bytes_max, limits.queue_depth_max) = (bytes_max, 1));
    scene.submit(sized(10));
    for (bytes, fits) in [(60, true), (61, false)] {
        let refusal = scene.try_submit(sized(bytes)).unwrap_err();
        match fits {
            true => assert_eq!(refusal, Refusal::QueueFull { depth: 1, depth_max: 1 }),
            false => assert_eq!(refusal, Refusal::JobTooLarge { bytes: waiting(61), bytes_max }),
        }
        assert_eq!(scene.hub.retry_after(Timestamp::ZERO, &refusal, 1).is_some(), fits);
    }
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
    // A job whose attempt failed is scheduled again, however full the queue is.
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
    let refusal = Refusal::QueueBytesFull { bytes: bytes_max - 20, bytes_max, depth: 2, over: 1 };
    assert_eq!(scene.try_submit(under_key(2, 51)), Err(refusal));
    assert_eq!(scene.status(first), "queued", "a refused submit supersedes nothing");
    let second = scene.submit(under_key(2, 50));
    assert_eq!((scene.status(first), scene.hub.ledger().get(Account::Waiting)), ("superseded", bytes_max));
    // A leased job is not waiting, so to supersede it does not lower the depth.
    scene.limit(|limits| limits.queue_bytes_max = 1 << 20);
    scene.pull("a", 2);
    scene.submit(sized(10));
    scene.submit(sized(10));
    assert_eq!(scene.try_submit(under_key(3, 0)), Err(Refusal::QueueFull { depth: 2, depth_max: 2 }));
    assert_eq!(scene.status(second), "leased");
}

#[test]
fn beyond_their_bytes_the_final_jobs_that_ended_first_are_dropped() {
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
fn the_errors_of_all_attempts_are_charged_to_the_job() {
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
fn heartbeats_are_refused_beyond_the_bytes_of_nodes() {
    let labelled = |node: &str, bytes: usize| Heartbeat { labels: payload(bytes), ..heartbeat(node) };
    let one = NODE_BYTES + 2 * HEAP_HEADER_BYTES + 1 + 100;
    for (room, is_accepted) in [(0, true), (1, false)] {
        let mut scene = Scene::with(|limits| limits.nodes_bytes_max = 2 * one - room);
        scene.heartbeat(labelled("a", 100));
        let outcome = scene.apply(Command::Heartbeat(labelled("b", 100)));
        assert_eq!(matches!(outcome, Outcome::Heard { .. }), is_accepted, "{room}");
        let refusal = Refusal::NodeBytesFull { bytes: one, bytes_max: 2 * one - room };
        assert!(is_accepted || outcome == Outcome::Refused(refusal));
        // A heartbeat that needs no more bytes than before is accepted.
        scene.heartbeat(labelled("a", 100));
        scene.heartbeat(labelled("a", 10));
        let sum: u64 = scene.hub.ledger().get(Account::Nodes);
        assert_eq!(sum, if is_accepted { 2 * one - 90 } else { one - 90 });
        // A dead node is evicted for another one.
        scene.at(700_000).heartbeat(labelled("c", 100));
        assert!(scene.hub.ledger().get(Account::Nodes) <= 2 * one - room);
    }
}

#[test]
fn a_node_that_is_known_says_as_much_as_there_is_room_for() {
    let labelled = |bytes: usize| Heartbeat { labels: payload(bytes), ..heartbeat("a") };
    let with = |bytes: u64| NODE_BYTES + 2 * HEAP_HEADER_BYTES + 1 + bytes;
    let mut scene = Scene::with(|limits| limits.nodes_bytes_max = with(200));
    scene.heartbeat(labelled(100));
    scene.heartbeat(labelled(200));
    let outcome = scene.apply(Command::Heartbeat(labelled(201)));
    assert_eq!(outcome, Outcome::Refused(Refusal::NodeTooLarge { bytes: with(201), bytes_max: with(200) }));
    // Beyond a limit that was lowered a node may say something else of the same size.
    scene.limit(|limits| limits.nodes_bytes_max = with(100));
    scene.heartbeat(Heartbeat { health: Health::Red, ..labelled(200) });
    assert_eq!(scene.hub.ledger().get(Account::Nodes), with(200));
}

#[test]
fn a_node_that_only_pulls_needs_room_among_the_nodes() {
    let mut scene = Scene::with(|limits| limits.nodes_max = 1);
    (0..3).for_each(|_| _ = scene.submit(job("k")));
    scene.lease("a");
    scene.lease("a");
    let refusal = Refusal::NodesFull { nodes: 1, nodes_max: 1 };
    assert_eq!(scene.apply(Command::Pull(pull("b", 1))), Outcome::Refused(refusal));
    assert_eq!(scene.hub.registry().len(), 1);
}

#[test]
fn names_that_jobs_share_are_refused_beyond_their_bytes_and_dropped_with_final_jobs() {
    let long = |n: usize| format!("{n:0256}");
    let each = KIND_BYTES + HEAP_HEADER_BYTES + 256 + LANE_BYTES;
    let mut scene = Scene::with(|limits| {
        (limits.queue_depth_max, limits.queue_bytes_max) = (u64::MAX, u64::MAX);
    });
    let mut accepted = 0;
    let refusal = loop {
        match scene.try_submit(Submit { ttl_ms: Some(Millis::new(1_000)), ..job(&long(accepted)) }) {
            Ok(_) => accepted += 1,
            Err(refusal) => break refusal,
        }
    };
    assert!(matches!(refusal, Refusal::SharedBytesFull { bytes_max: SHARED_BYTES_MAX, .. }), "{refusal:?}");
    assert!(accepted as u64 >= SHARED_BYTES_MAX / each && accepted as u64 <= SHARED_BYTES_MAX / (each - LANE_BYTES));
    scene.submit(job(&long(0)));
    // Names of final jobs only may take half of it: the oldest jobs are dropped. The waiting job keeps its kind, lane
    // and class.
    scene.at(1_000);
    let shared = scene.hub.ledger().get(Account::Shared);
    assert!(shared <= SHARED_BYTES_MAX / 2 + each + CLASS_BYTES && shared >= SHARED_BYTES_MAX / 2 - each, "{shared}");
    scene.submit(job(&long(accepted)));
    assert_eq!(scene.hub.recount(), *scene.hub.ledger());
    scene.journal.clear();
    std::mem::forget(scene);
}

#[test]
fn names_of_waiting_jobs_cause_no_final_job_to_be_dropped() {
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
    // A replay and a snapshot of so many jobs prove no more than smaller ones.
    scene.journal.clear();
    std::mem::forget(scene);
}

#[test]
fn a_class_is_charged_for_its_zone_and_its_requirements() {
    let charged = |zone_name: Option<&str>, requires: &[&str]| {
        let mut scene = Scene::new();
        let zone = zone_name.map_or(Zone::DEFAULT, zone);
        scene.submit(Submit { zone, requires: names(requires), ..job("k") });
        scene.hub.ledger().get(Account::Shared)
    };
    let neither = charged(None, &[]);
    let (of_zone, of_requires) = (charged(Some("zone"), &[]) - neither, charged(None, &["gpu"]) - neither);
    assert!(of_zone > 0 && of_requires > 0);
    assert_eq!(charged(Some("zone"), &["gpu"]), neither + of_zone + of_requires);
}

#[test]
fn a_class_is_refused_one_byte_beyond_what_jobs_may_share() {
    let of_class = |bytes: usize| Submit { requires: names(&[&"r".repeat(bytes)]), ..job("k") };
    let without_limits =
        || Scene::with(|limits| (limits.queue_depth_max, limits.queue_bytes_max) = (u64::MAX, u64::MAX));
    let shared = |scene: &Scene| scene.hub.ledger().get(Account::Shared);
    let class_bytes = {
        let mut scene = without_limits();
        scene.submit(job("k"));
        let before = shared(&scene);
        scene.submit(of_class(100));
        shared(&scene) - before
    };
    let mut scene = without_limits();
    scene.submit(job("k"));
    // Kinds with names of up to 256 bytes take all but the bytes of the class.
    let base = KIND_BYTES + HEAP_HEADER_BYTES + LANE_BYTES;
    let fill = SHARED_BYTES_MAX - shared(&scene) - class_bytes;
    let count = fill.div_ceil(base + 256);
    let mut too_many = count * (base + 256) - fill;
    for n in 0..count {
        let less = too_many.min(240);
        too_many -= less;
        scene.submit(job(&format!("{n:0width$}", width = 256 - less as usize)));
    }
    assert_eq!(shared(&scene), SHARED_BYTES_MAX - class_bytes);
    let refusal = Refusal::SharedBytesFull { bytes: shared(&scene), bytes_max: SHARED_BYTES_MAX };
    assert_eq!(scene.try_submit(of_class(101)), Err(refusal));
    scene.submit(of_class(100));
    assert_eq!(shared(&scene), SHARED_BYTES_MAX);
    // What is there already costs nothing more.
    scene.submit(of_class(100));
}

#[test]
fn classes_that_only_final_jobs_are_of_take_half_of_what_jobs_may_share() {
    let mut scene = Scene::with(|limits| limits.job_retention_ms = Millis::from_secs(86_400));
    let requires = |n: usize| (0..32).map(|i| name(&format!("{n}-{i:0200}"))).collect();
    let mut most = 0;
    for n in 0..12_000 {
        let submit = Submit { requires: requires(n), ttl_ms: Some(Millis::ZERO), ..job("k") };
        scene.submit(submit);
        let shared = scene.hub.ledger().get(Account::Shared);
        assert!(shared <= SHARED_BYTES_MAX / 2 + 10_000, "{shared}");
        most = most.max(shared);
    }
    assert!(most > SHARED_BYTES_MAX / 2 - 10_000, "{most}");
    assert!(scene.hub.counts().retained < 12_000);
}

#[test]
fn a_ready_job_that_ages_is_charged_for_its_place_until_it_leaves() {
    use sheratan_core::limits::AGEING_BYTES;
    let ageing = waiting(60) + AGEING_BYTES;
    let bytes = |scene: &Scene| scene.hub.ledger().get(Account::Waiting);
    for (bytes_max, fits) in [(3 * ageing - 1, false), (3 * ageing, true)] {
        let mut scene =
            Scene::with(|limits| (limits.priority_age_ms, limits.queue_bytes_max) = (Millis::new(10), bytes_max));
        let first = scene.submit(sized(60));
        assert_eq!(bytes(&scene), waiting(60), "under earlier rules it is not");
        scene.apply(Command::AdoptRules(RulesVersion::NEWEST));
        assert_eq!(bytes(&scene), ageing);
        // One of the highest priority, and one that is not ready, do not age.
        scene.submit(Submit { priority: Some(Priority::Critical), ..sized(60) });
        assert_eq!(bytes(&scene), ageing + waiting(60));
        scene.apply(Command::Cancel(JobSeq::new(2)));
        scene.submit(Submit { delay_ms: Millis::new(5), ..sized(60) });
        assert_eq!(bytes(&scene), ageing + waiting(60));
        scene.at(5);
        assert_eq!(bytes(&scene), 2 * ageing);
        assert_eq!(scene.try_submit(sized(60)).is_ok(), fits, "{bytes_max}");
        let count = if fits { 3 } else { 2 };
        // It ages twice, and no more.
        scene.at(25);
        assert!(bytes(&scene) < count * ageing);
        scene.at(100);
        assert_eq!(bytes(&scene), count * waiting(60));
        scene.limit(|limits| limits.priority_age_ms = Millis::from_secs(1));
        scene.at(101);
        let lease = scene.lease("a");
        assert_eq!(lease.lease.job, first);
        scene.limit(|limits| limits.priority_age_ms = Millis::ZERO);
        scene.at(102);
        assert_eq!(bytes(&scene), (count - 1) * waiting(60));
    }
}
