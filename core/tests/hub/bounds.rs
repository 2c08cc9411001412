//! The program's own bounds, and those of accounts: one below, at the bound, one beyond.

use crate::scene::{Scene, failure, heartbeat, job, keyed, name, names, pull, success, zone};
use sheratan_core::limits::{
    ANSWER_BYTES, ATTEMPT_BYTES, ATTEMPTS_KEPT_MAX, CLASSES_MAX, CLASSES_PER_ZONE_MAX, HEAP_HEADER_BYTES, JOB_BYTES,
    KEY_BYTES, PULL_KINDS_MAX, RUN_BYTES, VIEW_HEADS_MAX, VIEWS_MAX, WAITER_LINES_MAX, WAITER_PLACES_MAX,
};
use sheratan_core::{
    Account, Complete, FinalStatus, Heartbeat, JobSeq, Millis, NameSet, OnDuplicate, OnFailed, Payload, Pull, Refusal,
    Submit, Submitted, WaiterId,
};

fn payload(bytes: usize) -> Option<Payload> {
    Some(Payload::new(&vec![b'1'; bytes]))
}

fn kinds(numbers: impl IntoIterator<Item = usize>) -> NameSet {
    numbers.into_iter().map(|n| name(&format!("kind {n}"))).collect()
}

fn park(scene: &mut Scene, id: usize, kinds: NameSet) -> bool {
    scene.hub.park(WaiterId(id as u64), &Pull { kinds, ..pull("a", 1) })
}

#[test]
fn parked_polls_have_places_up_to_their_limit() {
    let mut scene = Scene::new();
    let polls = WAITER_PLACES_MAX / PULL_KINDS_MAX;
    for id in 0..polls - 1 {
        assert!(park(&mut scene, id, kinds(0..PULL_KINDS_MAX)), "{id}");
    }
    assert!(park(&mut scene, polls, kinds(1..PULL_KINDS_MAX)));
    assert!(!park(&mut scene, polls + 1, kinds(0..2)), "one place is left");
    assert!(park(&mut scene, polls + 1, NameSet::EMPTY));
    assert!(!park(&mut scene, polls + 2, NameSet::EMPTY), "no place is left");
    scene.hub.unpark(WaiterId(polls as u64 + 1));
    assert!(park(&mut scene, polls + 2, kinds(0..1)));
}

#[test]
fn parked_polls_have_lines_up_to_their_limit() {
    // Each kind is a line, whether jobs of it exist or not.
    for known in [0, WAITER_LINES_MAX] {
        let mut scene = Scene::new();
        let late = Millis::from_secs(86_400);
        (0..known).for_each(|n| _ = scene.submit(Submit { delay_ms: late, ..job(&format!("kind {n}")) }));
        assert!(park(&mut scene, 0, NameSet::EMPTY));
        let polls = WAITER_LINES_MAX / PULL_KINDS_MAX;
        for id in 1..polls {
            assert!(park(&mut scene, id, kinds((id - 1) * PULL_KINDS_MAX..id * PULL_KINDS_MAX)), "{id}");
        }
        let left = (polls - 1) * PULL_KINDS_MAX;
        assert!(!park(&mut scene, polls, kinds(left..left + PULL_KINDS_MAX)), "one line too few is left");
        assert!(park(&mut scene, polls, kinds(left..left + PULL_KINDS_MAX - 1)));
        assert!(!park(&mut scene, polls + 1, kinds([WAITER_LINES_MAX])), "no line is left");
        assert!(park(&mut scene, polls + 1, kinds(0..PULL_KINDS_MAX)), "in lines that exist");
        scene.hub.unpark(WaiterId(0));
        assert!(park(&mut scene, 0, kinds([WAITER_LINES_MAX])));
    }
}

#[test]
fn unfinished_jobs_have_classes_up_to_the_limits() {
    let of_class = |zone_number: usize, n: usize| Submit {
        zone: zone(&format!("z{zone_number}")),
        requires: names(&[&format!("r{n}")]),
        ..job("k")
    };
    let mut scene = Scene::new();
    let zones = CLASSES_MAX / CLASSES_PER_ZONE_MAX;
    for n in 0..CLASSES_PER_ZONE_MAX {
        (0..zones).for_each(|zone| {
            // Jobs of the last zone expire later.
            let ttl_ms = (zone == zones - 1).then_some(Millis::new(1_000));
            scene.submit(Submit { ttl_ms, ..of_class(zone, n) });
        });
    }
    let full = |zone_number: usize, in_zone: usize| {
        let (classes, zone_classes) = (CLASSES_MAX as u64, in_zone as u64);
        Err(Refusal::ClassesFull { classes, zone: zone(&format!("z{zone_number}")), zone_classes })
    };
    assert_eq!(scene.try_submit(of_class(0, CLASSES_PER_ZONE_MAX)), full(0, CLASSES_PER_ZONE_MAX));
    assert_eq!(scene.try_submit(of_class(zones, 0)), full(zones, 0));
    scene.submit(of_class(0, 0));
    scene.at(1_000).submit(of_class(zones, 0));
    let classes = (CLASSES_MAX - CLASSES_PER_ZONE_MAX + 1) as u64;
    let refusal = Refusal::ClassesFull { classes, zone: zone("z0"), zone_classes: CLASSES_PER_ZONE_MAX as u64 };
    assert_eq!(scene.try_submit(of_class(0, CLASSES_PER_ZONE_MAX)), Err(refusal), "one zone is full by itself");
    let lease = {
        scene.heartbeat(Heartbeat { zone: zone("z0"), capabilities: names(&["r1"]), ..heartbeat("a") });
        scene.lease("a").lease
    };
    scene.succeed(lease);
    scene.submit(of_class(0, CLASSES_PER_ZONE_MAX));
}

#[test]
fn the_latest_attempts_are_kept_up_to_the_limit() {
    for attempts in [ATTEMPTS_KEPT_MAX - 1, ATTEMPTS_KEPT_MAX, ATTEMPTS_KEPT_MAX + 1] {
        let mut scene = Scene::new();
        let seq = scene.submit(Submit { attempts_max: Some(100), ..job("k") });
        for n in 0..attempts {
            scene.at(n as u64 * 20_000);
            let lease = scene.lease("a").lease;
            scene.fail(lease);
        }
        let job = scene.hub.queue().get(seq).unwrap();
        assert_eq!(
            job.attempts().count(),
            attempts.min(ATTEMPTS_KEPT_MAX - 1),
            "with the next attempt these are the limit"
        );
        assert_eq!(job.attempts_charged() as usize, attempts);
        let last = job.attempts().next_back().unwrap().started_at;
        assert_eq!(last.as_millis(), (attempts as u64 - 1) * 20_000);
    }
}

#[test]
fn earlier_attempts_are_kept_while_unfinished_jobs_have_room() {
    // Two attempts of a node with a name of one letter and errors of ten bytes; the lease of the third.
    let attempt = ATTEMPT_BYTES + 2 * HEAP_HEADER_BYTES + 1 + 10;
    let bytes_max = JOB_BYTES + attempt + RUN_BYTES + HEAP_HEADER_BYTES + 1;
    for (lack, kept) in [(0, 2), (1, 1)] {
        let mut scene = Scene::with(|limits| limits.queue_bytes_max = bytes_max - lack);
        let seq = scene.submit(Submit { attempts_max: Some(5), ..job("k") });
        for n in 0..2 {
            scene.at(n * 20_000);
            let lease = scene.lease("a").lease;
            let unfinished = scene.hub.ledger().unfinished();
            assert_eq!(unfinished > bytes_max - lack, n == 1 && lack > 0, "a lease is given in any case");
            scene.complete(Complete { error: (n == 0).then(|| payload(10)).flatten(), ..failure(lease) }).unwrap();
        }
        assert_eq!(scene.hub.queue().get(seq).unwrap().attempts().count(), kept, "{lack}");
        scene.at(60_000);
        assert_eq!(scene.lease("a").lease.generation, 3, "nothing else changes");
    }
}

#[test]
fn beyond_their_bytes_the_oldest_answers_are_dropped_and_their_keys_are_kept() {
    let key = |n: usize| keyed(&format!("key {n}"), 1, OnDuplicate::SameResult, OnFailed::SameResult);
    let answer = ANSWER_BYTES + HEAP_HEADER_BYTES + 100;
    for (lack, kept) in [(0, [true, true]), (1, [false, true])] {
        let mut scene = Scene::with(|limits| limits.answers_bytes_max = 2 * KEY_BYTES + 2 * answer - lack);
        for n in 0..2 {
            scene.submit(key(n));
            let lease = scene.lease("a").lease;
            scene.complete(Complete { result: payload(100), ..success(lease) }).unwrap();
        }
        let is_kept = |scene: &mut Scene, n: usize| match scene.try_submit(key(n)) {
            Ok(Submitted::Final { status: FinalStatus::Completed, result, .. }) => result.is_some(),
            other => panic!("the key is not known any more: {other:?}"),
        };
        assert_eq!([0, 1].map(|n| is_kept(&mut scene, n)), kept, "{lack}");
        // A new key is charged to the account as well.
        scene.submit(key(2));
        assert_eq!([0, 1].map(|n| is_kept(&mut scene, n)), [false, true], "{lack}");
        assert!(scene.hub.ledger().get(Account::Answers) <= scene.hub.limits().answers_bytes_max);
    }
}

#[test]
fn beyond_their_count_or_bytes_the_dead_jobs_that_ended_first_are_dropped() {
    let error = HEAP_HEADER_BYTES + 100;
    let one = JOB_BYTES + RUN_BYTES + HEAP_HEADER_BYTES + 1 + error;
    for (jobs_max, bytes_max, kept) in
        [(3, 3 * one, 3), (2, 3 * one, 2), (3, 3 * one - 1, 2), (4, 4 * one - 1, 3), (0, 3 * one, 0), (3, 0, 0)]
    {
        let mut scene = Scene::with(|limits| (limits.dead_jobs_max, limits.dead_bytes_max) = (jobs_max, bytes_max));
        let mut dead = Vec::new();
        for _ in 0..4 {
            dead.push(scene.submit(job("k")));
            let lease = scene.lease("a").lease;
            let error = payload(100);
            scene.complete(Complete { is_retryable: false, error, ..failure(lease) }).unwrap();
        }
        let is_kept: Vec<_> = dead.iter().map(|job| scene.status(*job) == "dead").collect();
        assert_eq!(is_kept, (0..4).map(|n| n >= 4 - kept).collect::<Vec<_>>(), "{jobs_max} jobs, {bytes_max} bytes");
        assert_eq!(scene.hub.ledger().get(Account::Dead), kept as u64 * one);
    }
}

#[test]
fn views_beyond_their_limit_change_no_answer() {
    let mut scene = Scene::new();
    let (profiles, kinds_of_each) = (40, VIEWS_MAX / 40 + PULL_KINDS_MAX);
    for n in 0..kinds_of_each {
        scene.submit(Submit { requires: names(&["none"]), ..job(&format!("kind {n}")) });
    }
    let mut pulled = 0;
    for node in 0..profiles {
        let node = format!("node {node}");
        scene.heartbeat(Heartbeat { capabilities: names(&[&node]), ..heartbeat(&node) });
        for first in (0..kinds_of_each).step_by(PULL_KINDS_MAX) {
            let kinds = kinds(first..(first + PULL_KINDS_MAX).min(kinds_of_each));
            pulled += kinds.len();
            assert!(scene.pull_as(Pull { kinds, ..pull(&node, 1) }).leases.is_empty());
        }
    }
    assert!(pulled > VIEWS_MAX, "{pulled} views were made");
    // The first and the last node that pulled get their jobs in order.
    for node in ["node 0", "node 39"] {
        let first = scene.submit(Submit { requires: names(&[node]), ..job("kind 7") });
        let second = scene.submit(Submit { requires: names(&[node]), ..job("kind 3") });
        let kinds = kinds(0..PULL_KINDS_MAX);
        let leases = scene.pull_as(Pull { kinds, ..pull(node, 5) }).leases;
        assert_eq!(leases.iter().map(|leased| leased.lease.job).collect::<Vec<_>>(), [first, second]);
    }
}

#[test]
fn heads_in_views_beyond_their_limit_change_no_answer() {
    let mut scene = Scene::new();
    // Each pair of capabilities is a class that all nodes may serve.
    let capabilities: Vec<_> = (0..45).map(|n| format!("c{n}")).collect();
    let pairs: Vec<_> = (0..45).flat_map(|one| (0..one).map(move |other| (one, other))).collect();
    let classes = pairs.len();
    let nodes = VIEW_HEADS_MAX / classes + 10;
    for _ in 0..2 {
        for (one, other) in &pairs {
            scene.submit(Submit { requires: names(&[&capabilities[*one], &capabilities[*other]]), ..job("k") });
        }
    }
    for n in 0..nodes {
        let node = format!("node {n}");
        let all = capabilities.iter().chain([&node]).map(|text| name(text)).collect();
        scene.heartbeat(Heartbeat { capabilities: all, ..heartbeat(&node) });
        assert_eq!(scene.pull_jobs(&node, 1), [JobSeq::new(n as u64 + 1)]);
    }
    assert!(nodes * classes > VIEW_HEADS_MAX);
    let rest: Vec<_> = (nodes..2 * classes).map(|n| JobSeq::new(n as u64 + 1)).collect();
    scene.limit(|limits| limits.leases_per_node_max = u64::MAX);
    let mut pulled = Vec::new();
    for n in (0..nodes).cycle() {
        match scene.pull_jobs(&format!("node {n}"), 7)[..] {
            [] => break,
            ref jobs => pulled.extend_from_slice(jobs),
        }
    }
    assert_eq!(pulled, rest);
}
