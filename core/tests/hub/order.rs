//! Which jobs a pull gets, over all nodes and all classes.

use crate::scene::{Scene, heartbeat, job, keyed, name, names, zone};
use sheratan_core::limits::{CLASSES_MAX, CLASSES_PER_ZONE_MAX};
use sheratan_core::{Heartbeat, OnDuplicate, OnFailed, Refusal, Submit};

#[test]
fn a_job_is_leased_only_to_nodes_of_its_zone_with_all_capabilities_that_it_requires() {
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
fn classes_are_refused_beyond_the_limit_until_another_one_has_no_unfinished_jobs() {
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
    assert_eq!(scene.try_submit(zoned(CLASSES_MAX)), full(CLASSES_MAX), "a leased job may be queued again");
    scene.succeed(lease);
    let newest = scene.submit(zoned(CLASSES_MAX));
    assert_eq!(scene.try_submit(zoned(3)), full(3));
    scene.heartbeat(Heartbeat { zone: zone(&format!("z{CLASSES_MAX}")), ..heartbeat("b") });
    assert_eq!(scene.pull_jobs("b", 9), [newest]);
    assert_eq!(scene.status(known), "queued");
}

#[test]
fn one_zone_does_not_use_up_the_classes_of_all_others() {
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
fn a_job_that_is_superseded_faster_than_its_turn_comes_still_runs() {
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
        // One job is served per second, and two wait ahead of it.
        let lease = scene.lease("a").lease;
        let kind = scene.hub.queue().get(lease.job).unwrap().kind().to_string();
        runs += usize::from(kind == "k");
        scene.succeed(lease);
    }
    assert!(runs >= 200, "it ran {runs} times");
}
