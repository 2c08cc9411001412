//! Long polls: parked up to their limit, and others woken when a woken one leased nothing.

use crate::scene::{Scene, job, names, pull};
use sheratan_core::limits::WAITERS_MAX;
use sheratan_core::{Pull, WaiterId};

fn park(scene: &mut Scene, id: u64, node: &str) {
    assert!(scene.hub.park(WaiterId(id), &pull(node, 1)));
}

#[test]
fn polls_are_parked_up_to_their_limit() {
    let mut scene = Scene::new();
    for id in 0..WAITERS_MAX as u64 {
        park(&mut scene, id, "a");
    }
    assert!(!scene.hub.park(WaiterId(u64::MAX), &pull("a", 1)));
    scene.hub.unpark(WaiterId(7));
    park(&mut scene, u64::MAX, "a");
}

#[test]
fn parking_does_not_change_the_durable_state() {
    let mut scene = Scene::new();
    let digest = scene.hub.digest();
    park(&mut scene, 1, "a");
    scene.hub.unpark(WaiterId(1));
    assert_eq!(scene.hub.digest(), digest);
}

#[test]
fn another_poll_of_a_node_with_room_for_one_lease_is_woken_when_the_first_leased_nothing() {
    let mut scene = Scene::with(|limits| limits.leases_per_node_max = 1);
    park(&mut scene, 1, "a");
    park(&mut scene, 2, "a");
    scene.submit(job("k"));
    scene.submit(job("k"));
    assert_eq!(scene.woken(), [1], "a node has room for one lease");
    // The client of the first disconnected before its pull was repeated.
    assert_eq!(scene.woken(), [2]);
    scene.lease("a");
}

#[test]
fn a_node_whose_leases_end_has_its_polls_woken_one_by_one() {
    let mut scene = Scene::with(|limits| limits.leases_per_node_max = 2);
    (0..2).for_each(|_| _ = scene.submit(job("k")));
    let leases = scene.pull("a", 2);
    [1, 2, 3].iter().for_each(|id| park(&mut scene, *id, "a"));
    (0..3).for_each(|_| _ = scene.submit(job("k")));
    assert_eq!(scene.woken(), [0; 0], "the node is full");
    leases.iter().for_each(|leased| _ = scene.succeed(leased.lease));
    assert_eq!(scene.woken(), [1]);
    scene.lease("a");
    assert_eq!(scene.woken(), [2]);
    scene.lease("a");
    assert_eq!(scene.woken(), [0; 0], "it is full again");
}

#[test]
fn when_a_node_has_room_again_the_poll_that_has_a_job_is_woken() {
    let mut scene = Scene::with(|limits| limits.leases_per_node_max = 1);
    scene.submit(job("y"));
    let lease = scene.lease("a").lease;
    assert!(scene.hub.park(WaiterId(1), &Pull { kinds: names(&["x"]), ..pull("a", 1) }));
    assert!(scene.hub.park(WaiterId(2), &Pull { kinds: names(&["y"]), ..pull("a", 1) }));
    scene.submit(job("y"));
    assert_eq!(scene.woken(), [0; 0]);
    scene.succeed(lease);
    assert_eq!(scene.woken(), [2]);
}

#[test]
fn room_in_the_hub_that_one_node_does_not_use_goes_to_the_next_one() {
    let mut scene = Scene::with(|limits| (limits.leases_per_node_max, limits.inflight_max) = (1, 3));
    (0..3).for_each(|_| _ = scene.submit(job("k")));
    let leases: Vec<_> = ["a", "b", "c"].iter().map(|node| scene.lease(node)).collect();
    park(&mut scene, 1, "a");
    park(&mut scene, 2, "b");
    scene.submit(job("k"));
    scene.limit(|limits| limits.inflight_max = 2);
    scene.woken();
    leases[..2].iter().for_each(|leased| _ = scene.succeed(leased.lease));
    assert_eq!(scene.woken(), [1], "the hub has room for one lease");
    // The client of the first disconnected before its pull was repeated.
    assert_eq!(scene.woken(), [2]);
}

#[test]
fn a_poll_passed_over_for_another_one_of_its_node_is_woken_when_that_one_leased_nothing() {
    let mut scene = Scene::with(|limits| limits.leases_per_node_max = 1);
    for (id, kind) in [(1, "x"), (2, "y")] {
        assert!(scene.hub.park(WaiterId(id), &Pull { kinds: names(&[kind]), ..pull("a", 1) }));
    }
    scene.submit(job("x"));
    scene.submit(job("y"));
    assert_eq!(scene.woken(), [1], "a node has room for one lease");
    // The client of the first disconnected before its pull was repeated.
    assert_eq!(scene.woken(), [2]);
}
