//! Nodes: known by name, and online, stale or dead by when they were last heard of.

use crate::scene::{Scene, at, heartbeat, job, name, names, zone};
use sheratan_core::limits::NODE_FORGET_MS;
use sheratan_core::{Audit, Command, Health, Heartbeat, Liveness, Millis, NodeIndex, Outcome};

fn liveness(scene: &Scene, node: &str) -> Option<Liveness> {
    scene.hub.registry().by_name(node).map(|node| node.liveness())
}

fn counts(scene: &Scene) -> [u64; 3] {
    [Liveness::Online, Liveness::Stale, Liveness::Dead].map(|liveness| scene.hub.registry().count(liveness))
}

#[test]
fn a_node_is_stale_and_dead_at_the_instant_and_not_a_millisecond_before() {
    let mut scene = Scene::new();
    scene.at(1_000).heartbeat(heartbeat("a"));
    assert_eq!(scene.audits(), [Audit::NodeRegistered { node: name("a") }]);
    let table = [
        (1_000, Liveness::Online, [1, 0, 0]),
        (120_999, Liveness::Online, [1, 0, 0]),
        (121_000, Liveness::Stale, [0, 1, 0]),
        (600_999, Liveness::Stale, [0, 1, 0]),
        (601_000, Liveness::Dead, [0, 0, 1]),
    ];
    for (ms, expected, expected_counts) in table {
        scene.at(ms);
        assert_eq!(liveness(&scene, "a"), Some(expected), "at {ms}");
        assert_eq!(counts(&scene), expected_counts, "at {ms}");
    }
    assert_eq!(scene.audits(), [Audit::NodeStale { node: name("a") }, Audit::NodeDead { node: name("a") }]);
}

#[test]
fn being_heard_of_keeps_a_node_online_and_brings_it_back() {
    let mut scene = Scene::new();
    scene.heartbeat(heartbeat("a"));
    scene.at(100_000).heartbeat(heartbeat("a"));
    scene.at(219_999);
    assert_eq!(liveness(&scene, "a"), Some(Liveness::Online));
    scene.at(220_000);
    assert_eq!(liveness(&scene, "a"), Some(Liveness::Stale));
    scene.audits();
    scene.heartbeat(heartbeat("a"));
    assert_eq!(scene.audits(), [Audit::NodeOnline { node: name("a") }]);
    scene.at(339_999);
    assert_eq!(liveness(&scene, "a"), Some(Liveness::Online));
    scene.at(820_000);
    assert_eq!(liveness(&scene, "a"), Some(Liveness::Dead));
    scene.heartbeat(heartbeat("a"));
    assert_eq!(counts(&scene), [1, 0, 0]);
}

#[test]
fn nodes_are_seen_by_number_in_one_command() {
    let mut scene = Scene::new();
    ["a", "b"].iter().for_each(|node| scene.heartbeat(heartbeat(node)));
    let index = |node: &str, scene: &Scene| scene.hub.registry().by_name(node).unwrap().index();
    let seen: Vec<NodeIndex> = vec![index("b", &scene)];
    scene.at(119_999);
    assert_eq!(scene.apply(Command::NodesSeen(seen)), Outcome::Done);
    scene.at(120_000);
    assert_eq!((liveness(&scene, "a"), liveness(&scene, "b")), (Some(Liveness::Stale), Some(Liveness::Online)));
    assert_eq!(scene.hub.registry().by_name("b").unwrap().last_seen_at(), at(119_999));
}

#[test]
fn a_heartbeat_repeats_while_it_says_nothing_new_of_an_online_node() {
    let mut scene = Scene::new();
    let first = Heartbeat { capabilities: names(&["gpu"]), ..heartbeat("a") };
    assert_eq!(scene.hub.registry().repeats(&first), None, "unknown");
    scene.heartbeat(first.clone());
    let index = scene.hub.registry().by_name("a").unwrap().index();
    assert_eq!(scene.hub.registry().repeats(&first), Some(index));
    for other in [
        Heartbeat { zone: zone("west"), ..first.clone() },
        Heartbeat { capabilities: names(&[]), ..first.clone() },
        Heartbeat { health: Health::Red, ..first.clone() },
        Heartbeat { endpoint: Some(name("10.0.0.1:80")), ..first.clone() },
    ] {
        assert_eq!(scene.hub.registry().repeats(&other), None, "{other:?}");
    }
    scene.at(120_000);
    assert_eq!(scene.hub.registry().repeats(&first), None, "stale");
}

#[test]
fn a_node_that_only_pulls_is_known_from_its_first_job_on() {
    let mut scene = Scene::new();
    scene.pull("a", 1);
    assert_eq!(liveness(&scene, "a"), None);
    scene.submit(job("k"));
    scene.at(5_000).lease("a");
    assert_eq!(scene.hub.registry().by_name("a").unwrap().last_seen_at(), at(5_000));
    scene.at(125_000);
    assert_eq!(liveness(&scene, "a"), Some(Liveness::Stale));
}

#[test]
fn a_dead_node_without_leases_is_forgotten_after_its_week() {
    let forgotten_ms = 600_000 + NODE_FORGET_MS.get();
    let mut scene = Scene::new();
    scene.heartbeat(heartbeat("a"));
    scene.at(forgotten_ms - 1);
    assert_eq!(liveness(&scene, "a"), Some(Liveness::Dead));
    scene.at(forgotten_ms);
    assert_eq!(liveness(&scene, "a"), None);
    assert_eq!(counts(&scene), [0, 0, 0]);
    scene.heartbeat(heartbeat("a"));
    assert_eq!(scene.hub.registry().by_name("a").unwrap().index().get(), 1, "numbers are never used again");
}

#[test]
fn other_limits_move_every_nodes_instants() {
    let mut scene = Scene::new();
    scene.heartbeat(heartbeat("a"));
    scene.at(50_000).heartbeat(heartbeat("b"));
    scene.at(60_000).limit(|limits| limits.node_ttl_ms = Millis::new(30_000));
    scene.at(60_000);
    assert_eq!((liveness(&scene, "a"), liveness(&scene, "b")), (Some(Liveness::Stale), Some(Liveness::Online)));
    scene.at(79_999);
    assert_eq!(liveness(&scene, "b"), Some(Liveness::Online));
    scene.at(80_000);
    assert_eq!(counts(&scene), [0, 2, 0]);
    scene.audits();
    scene.limit(|limits| limits.node_ttl_ms = Millis::new(200_000));
    scene.at(80_001);
    assert_eq!(counts(&scene), [2, 0, 0]);
    let online = [Audit::NodeOnline { node: name("a") }, Audit::NodeOnline { node: name("b") }];
    assert_eq!(scene.audits(), online);
}
