//! Which jobs a pull gets, and in which order.

use crate::scene::{Scene, at, heartbeat, job, keyed, name, names, pull, zone};
use sheratan_core::limits::{CLASSES_MAX, CLASSES_PER_ZONE_MAX};
use sheratan_core::{Heartbeat, Millis, OnDuplicate, OnFailed, Priority, Pull, Refusal, Submit, Timestamp};

#[test]
fn jobs_go_by_priority_and_within_one_by_order_of_submission() {
    use Priority::{Critical, High, Low, Normal};
    let mut scene = Scene::new();
    let priorities = [Low, Normal, High, Critical, Low, Normal, High, Critical];
    let seqs = priorities.map(|priority| scene.submit(Submit { priority, ..job("k") }));
    let expected = [3, 7, 2, 6, 1, 5, 0, 4].map(|at| seqs[at]);
    assert_eq!(scene.pull_jobs("a", 3), expected[..3]);
    assert_eq!(scene.pull_jobs("a", 100), expected[3..]);
}

#[test]
fn the_order_holds_over_kinds_and_classes() {
    let mut scene = Scene::new();
    scene.heartbeat(Heartbeat { capabilities: names(&["gpu", "ssd"]), ..heartbeat("a") });
    let all = [
        scene.submit(job("x")),
        scene.submit(Submit { requires: names(&["gpu"]), ..job("y") }),
        scene.submit(job("y")),
        scene.submit(Submit { requires: names(&["gpu", "ssd"]), ..job("x") }),
        scene.submit(Submit { requires: names(&["gpu"]), ..job("x") }),
        scene.submit(job("z")),
    ];
    assert_eq!(scene.pull_jobs("a", 100), all);
}

#[test]
fn a_pull_that_names_kinds_gets_only_those_in_the_order_over_all_of_them() {
    let mut scene = Scene::new();
    let [x, y, z, x2] = ["x", "y", "z", "x"].map(|kind| scene.submit(job(kind)));
    let urgent = scene.submit(Submit { priority: Priority::High, ..job("y") });
    let asked = Pull { kinds: names(&["x", "y"]), ..pull("a", 100) };
    let leases: Vec<_> = scene.pull_as(asked.clone()).leases.iter().map(|leased| leased.lease.job).collect();
    assert_eq!(leases, [urgent, x, y, x2]);
    assert!(scene.pull_as(asked).leases.is_empty());
    assert_eq!(scene.pull_jobs("a", 100), [z]);
}

#[test]
fn a_job_goes_only_to_nodes_of_its_zone_that_can_do_all_it_requires() {
    let nodes = [
        ("plain", None, vec![]),
        ("default", Some("default"), vec![]),
        ("gpu", None, vec!["gpu"]),
        ("gpu+ssd", None, vec!["gpu", "ssd"]),
        ("west", Some("west"), vec![]),
        ("west+gpu", Some("west"), vec!["gpu"]),
    ];
    let table = [
        (None, vec![], vec!["plain", "default", "gpu", "gpu+ssd", "unknown"]),
        (Some("default"), vec![], vec!["plain", "default", "gpu", "gpu+ssd", "unknown"]),
        (None, vec!["gpu"], vec!["gpu", "gpu+ssd"]),
        (None, vec!["gpu", "ssd"], vec!["gpu+ssd"]),
        (Some("west"), vec![], vec!["west", "west+gpu"]),
        (Some("west"), vec!["gpu"], vec!["west+gpu"]),
        (Some("west"), vec!["ssd"], vec![]),
        (Some("east"), vec![], vec![]),
    ];
    for (zone, requires, served_by) in table {
        for node in nodes.iter().map(|(node, ..)| *node).chain(["unknown"]) {
            let mut scene = Scene::new();
            for (node, zone, capabilities) in &nodes {
                let (zone, capabilities) = (zone.map(name).into(), names(capabilities));
                scene.heartbeat(Heartbeat { zone, capabilities, ..heartbeat(node) });
            }
            scene.submit(Submit { zone: zone.map(name).into(), requires: names(&requires), ..job("k") });
            let is_served = !scene.pull(node, 1).is_empty();
            assert_eq!(is_served, served_by.contains(&node), "{node} for {zone:?} {requires:?}");
        }
    }
}

#[test]
fn a_node_serves_what_its_latest_heartbeat_says() {
    let mut scene = Scene::new();
    scene.heartbeat(Heartbeat { capabilities: names(&["gpu"]), ..heartbeat("a") });
    scene.submit(Submit { requires: names(&["gpu"]), ..job("k") });
    scene.heartbeat(heartbeat("a"));
    assert!(scene.pull("a", 1).is_empty());
    scene.heartbeat(Heartbeat { capabilities: names(&["gpu"]), ..heartbeat("a") });
    scene.lease("a");
}

#[test]
fn a_delayed_job_is_ready_at_its_instant_and_not_before() {
    let table = [
        (Millis::new(500), Timestamp::ZERO, 1_500),
        (Millis::ZERO, at(1_700), 1_700),
        (Millis::new(500), at(1_700), 1_700),
        (Millis::new(900), at(1_700), 1_900),
    ];
    for (delay_ms, run_at, due_ms) in table {
        let mut scene = Scene::new();
        let seq = scene.at(1_000).submit(Submit { delay_ms, run_at, ..job("k") });
        assert_eq!(scene.status(seq), "scheduled");
        assert_eq!(scene.next_deadline(), Some(at(due_ms)));
        scene.at(due_ms - 1);
        assert!(scene.pull("a", 1).is_empty());
        scene.at(due_ms);
        assert_eq!(scene.pull_jobs("a", 1), [seq]);
    }
}

#[test]
fn an_instant_that_is_past_is_now() {
    let mut scene = Scene::new();
    let seq = scene.at(1_000).submit(Submit { run_at: at(999), ..job("k") });
    assert_eq!(scene.status(seq), "queued");
}

#[test]
fn a_delay_beyond_all_time_never_comes() {
    let mut scene = Scene::new();
    let seq = scene.submit(Submit { delay_ms: Millis::MAX, ..job("k") });
    let other = scene.submit(Submit { run_at: Timestamp::NEVER, ..job("k") });
    scene.at(u64::MAX / 2);
    assert_eq!((scene.status(seq), scene.status(other)), ("scheduled", "scheduled"));
}

#[test]
fn a_waiting_job_expires_at_its_time_to_live_and_not_before() {
    for submit in [job("k"), Submit { delay_ms: Millis::from_secs(9), ..job("k") }] {
        let mut scene = Scene::new();
        let seq = scene.at(1_000).submit(Submit { ttl_ms: Some(Millis::new(5_000)), ..submit });
        scene.at(5_999);
        assert_ne!(scene.status(seq), "expired");
        scene.at(6_000);
        assert_eq!(scene.status(seq), "expired");
        assert_eq!(scene.hub.counts().waiting(), 0);
        assert!(scene.pull("a", 1).is_empty());
    }
}

#[test]
fn a_job_with_no_time_to_live_left_is_never_leased() {
    let mut scene = Scene::new();
    let seq = scene.at(1_000).submit(Submit { ttl_ms: Some(Millis::ZERO), ..job("k") });
    // The next command comes in the same millisecond, perhaps after a restart from a snapshot.
    let mut restored = crate::scene::restore(&scene.hub);
    restored.advance(at(1_000));
    assert_eq!(restored.queue().get(seq).unwrap().status(), "expired");
    assert!(scene.pull("a", 1).is_empty());
    assert_eq!(scene.status(seq), "expired");
}

#[test]
fn classes_are_refused_beyond_the_limit_and_a_finished_ones_room_is_used_again() {
    let zoned = |n: usize| Submit { zone: zone(&format!("z{n}")), ..job("k") };
    let mut scene = Scene::new();
    for n in 0..CLASSES_MAX {
        scene.submit(zoned(n));
    }
    let known = scene.submit(zoned(7));
    let full = |n: usize| {
        Err(Refusal::ClassesFull { classes: CLASSES_MAX as u64, zone: zone(&format!("z{n}")), zone_classes: 0 })
    };
    assert_eq!(scene.try_submit(zoned(CLASSES_MAX)), full(CLASSES_MAX));
    scene.heartbeat(Heartbeat { zone: zone("z3"), ..heartbeat("a") });
    let lease = scene.lease("a").lease;
    assert_eq!(scene.try_submit(zoned(CLASSES_MAX)), full(CLASSES_MAX), "a leased job may come back");
    scene.succeed(lease);
    let newest = scene.submit(zoned(CLASSES_MAX));
    assert_eq!(scene.try_submit(zoned(3)), full(3));
    scene.heartbeat(Heartbeat { zone: zone(&format!("z{CLASSES_MAX}")), ..heartbeat("b") });
    assert_eq!(scene.pull_jobs("b", 9), [newest]);
    assert_eq!(scene.status(known), "queued");
}

#[test]
fn one_zone_does_not_take_the_classes_of_all_others() {
    let in_zone =
        |zone_name: &str, n: usize| Submit { zone: zone(zone_name), requires: names(&[&format!("c{n}")]), ..job("k") };
    let mut scene = Scene::new();
    for n in 0..CLASSES_PER_ZONE_MAX {
        scene.submit(in_zone("west", n));
    }
    let (classes, zone_classes) = (CLASSES_PER_ZONE_MAX as u64, CLASSES_PER_ZONE_MAX as u64);
    let refusal = Refusal::ClassesFull { classes, zone: zone("west"), zone_classes };
    assert_eq!(scene.try_submit(in_zone("west", CLASSES_PER_ZONE_MAX)), Err(refusal));
    scene.submit(in_zone("west", 0));
    scene.submit(in_zone("east", CLASSES_PER_ZONE_MAX));
}

#[test]
fn a_replaced_job_passes_on_its_place_while_it_waits_and_no_longer() {
    let latest = |payload| keyed("key", payload, OnDuplicate::LatestWins, OnFailed::SameResult);
    let mut scene = Scene::new();
    let first = scene.submit(job("k"));
    scene.submit(latest(1));
    let last = scene.submit(job("k"));
    let newer = scene.submit(latest(2));
    let newest = scene.submit(latest(3));
    assert_eq!(scene.status(newer), "superseded");
    assert_eq!(scene.pull_jobs("a", 2), [first, newest]);
    // A job that is at work has no place in the line to pass on.
    let behind = scene.submit(job("k"));
    let after = scene.submit(latest(4));
    assert_eq!(scene.pull_jobs("a", 3), [last, behind, after]);
}

#[test]
fn a_job_that_is_replaced_faster_than_it_is_reached_runs_all_the_same() {
    let mut scene = Scene::with(|limits| limits.retained_jobs_max = 100);
    let mut runs = 0;
    scene.submit(job("other"));
    scene.submit(job("other"));
    for second in 0..1_000_u64 {
        scene.at(second * 1_000);
        while scene.hub.counts().queued < 3 {
            scene.submit(job("other"));
        }
        scene.submit(keyed("key", (second % 250) as u8, OnDuplicate::LatestWins, OnFailed::SameResult));
        // One job is served a second, two wait ahead.
        let lease = scene.lease("a").lease;
        let kind = scene.hub.queue().get(lease.job).unwrap().kind().to_string();
        runs += usize::from(kind == "k");
        scene.succeed(lease);
    }
    assert!(runs >= 200, "it ran {runs} times");
}
