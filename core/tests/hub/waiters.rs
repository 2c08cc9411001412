//! Long polls: parked while there is no job, woken one by one.

use crate::scene::{Scene, heartbeat, job, names, pull, zone};
use sheratan_core::limits::WAITERS_MAX;
use sheratan_core::{Heartbeat, Millis, NameSet, Pull, Submit, WaiterId};

fn park(scene: &mut Scene, id: u64, node: &str) {
    assert!(scene.hub.park(WaiterId(id), &pull(node, 1)));
}

#[test]
fn a_job_wakes_the_poll_that_waits_longest_and_no_other() {
    let mut scene = Scene::new();
    [1, 2, 3].iter().for_each(|id| park(&mut scene, *id, "a"));
    scene.submit(job("k"));
    assert_eq!(scene.woken(), [1]);
    scene.submit(job("k"));
    scene.submit(job("k"));
    assert_eq!(scene.woken(), [2, 3]);
    scene.submit(job("k"));
    assert_eq!(scene.woken(), [0; 0]);
    assert_eq!(scene.hub.queue().waiter_count(), 0);
}

#[test]
fn polls_for_a_kind_and_for_any_kind_stand_in_one_line() {
    let mut scene = Scene::new();
    for id in 1..=4 {
        let kinds = if id % 2 == 0 { names(&["x"]) } else { NameSet::EMPTY };
        assert!(scene.hub.park(WaiterId(id), &Pull { kinds, ..pull("a", 1) }));
    }
    (0..4).for_each(|_| _ = scene.submit(job("x")));
    assert_eq!(scene.woken(), [1, 2, 3, 4]);
}

#[test]
fn a_job_wakes_only_who_could_take_it() {
    let mut scene = Scene::new();
    scene.heartbeat(Heartbeat { zone: zone("west"), ..heartbeat("west") });
    scene.heartbeat(Heartbeat { capabilities: names(&["gpu"]), ..heartbeat("gpu") });
    park(&mut scene, 1, "west");
    assert!(scene.hub.park(WaiterId(2), &Pull { kinds: names(&["y", "z"]), ..pull("plain", 1) }));
    park(&mut scene, 3, "plain");
    park(&mut scene, 4, "gpu");
    scene.woken();
    scene.submit(Submit { requires: names(&["gpu"]), ..job("x") });
    assert_eq!(scene.woken(), [4]);
    scene.submit(job("x"));
    assert_eq!(scene.woken(), [3]);
    scene.submit(job("z"));
    assert_eq!(scene.woken(), [2]);
    scene.submit(job("x"));
    assert_eq!(scene.woken(), [0; 0]);
    scene.submit(Submit { zone: zone("west"), ..job("x") });
    assert_eq!(scene.woken(), [1]);
}

#[test]
fn a_poll_is_woken_by_whatever_makes_a_job_ready() {
    let mut scene = Scene::new();
    scene.submit(job("k"));
    scene.submit(Submit { delay_ms: Millis::new(1_000), ..job("k") });
    let lease = scene.lease("a").lease;
    [1, 2, 3].iter().for_each(|id| park(&mut scene, *id, "b"));
    scene.at(999);
    assert_eq!(scene.woken(), [0; 0]);
    scene.at(1_000);
    assert_eq!(scene.woken(), [1], "its instant");
    let second = scene.lease("a").lease;
    scene.fail(second);
    scene.at(16_000);
    assert_eq!(scene.woken(), [2], "a retry");
    scene.at(300_000 + 15_000);
    assert_eq!(scene.woken(), [3], "an expired lease");
    assert_eq!(scene.complete(crate::scene::success(lease)), Err(sheratan_core::Refusal::LeaseLost));
}

#[test]
fn a_poll_is_not_parked_while_there_is_a_job_for_it() {
    let mut scene = Scene::new();
    scene.submit(job("k"));
    assert!(!scene.hub.park(WaiterId(1), &pull("a", 1)));
    assert!(scene.hub.park(WaiterId(2), &Pull { kinds: names(&["other"]), ..pull("a", 1) }));
    assert_eq!(scene.hub.queue().waiter_count(), 1);
}

#[test]
fn a_poll_that_was_unparked_is_not_woken() {
    let mut scene = Scene::new();
    park(&mut scene, 1, "a");
    park(&mut scene, 2, "a");
    scene.hub.unpark(WaiterId(1));
    scene.hub.unpark(WaiterId(1));
    scene.submit(job("k"));
    assert_eq!(scene.woken(), [2]);
    scene.hub.unpark(WaiterId(2));
}

#[test]
fn a_woken_poll_that_took_nothing_leaves_the_job_to_the_next() {
    let mut scene = Scene::new();
    park(&mut scene, 1, "a");
    park(&mut scene, 2, "b");
    scene.submit(job("k"));
    assert_eq!(scene.woken(), [1]);
    // The client of the first went away before its pull was repeated.
    assert_eq!(scene.woken(), [2]);
    assert_eq!(scene.woken(), [0; 0]);
    scene.lease("b");
}

#[test]
fn others_are_woken_for_each_class_and_kind_that_has_a_job() {
    let mut scene = Scene::new();
    scene.heartbeat(Heartbeat { capabilities: names(&["gpu"]), ..heartbeat("gpu") });
    scene.submit(job("x"));
    scene.submit(job("y"));
    scene.submit(Submit { requires: names(&["gpu"]), ..job("x") });
    let taken = scene.pull("gpu", 3);
    for id in 1..=3 {
        park(&mut scene, id, "plain");
    }
    park(&mut scene, 4, "gpu");
    scene.woken();
    taken.iter().for_each(|leased| _ = scene.fail(leased.lease));
    scene.at(15_000);
    let mut woken = scene.woken();
    woken.sort_unstable();
    assert_eq!(woken, [1, 2, 4]);
    // None of them pulls: one plain poll is left for the two jobs that it could take.
    assert_eq!(scene.woken(), [3]);
}

#[test]
fn a_node_that_can_do_more_than_before_looks_again() {
    let mut scene = Scene::new();
    scene.heartbeat(heartbeat("a"));
    scene.submit(Submit { requires: names(&["gpu"]), ..job("k") });
    park(&mut scene, 1, "a");
    park(&mut scene, 2, "b");
    scene.heartbeat(heartbeat("a"));
    assert_eq!(scene.woken(), [0; 0], "nothing changed");
    scene.heartbeat(Heartbeat { capabilities: names(&["gpu"]), ..heartbeat("a") });
    assert_eq!(scene.woken(), [1]);
    scene.lease("a");
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
fn parking_leaves_no_trace_in_the_durable_state() {
    let mut scene = Scene::new();
    let digest = scene.hub.digest();
    park(&mut scene, 1, "a");
    scene.hub.unpark(WaiterId(1));
    assert_eq!(scene.hub.digest(), digest);
}

#[test]
fn a_node_with_room_for_one_is_not_forgotten_when_its_woken_poll_took_nothing() {
    let mut scene = Scene::with(|limits| limits.leases_per_node_max = 1);
    park(&mut scene, 1, "a");
    park(&mut scene, 2, "a");
    scene.submit(job("k"));
    scene.submit(job("k"));
    assert_eq!(scene.woken(), [1], "a node has room for one lease");
    // The client of the first went away before its pull was repeated.
    assert_eq!(scene.woken(), [2]);
    scene.lease("a");
}

#[test]
fn as_many_polls_of_a_node_are_woken_as_leases_of_it_ended() {
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
fn a_node_that_has_room_again_gets_a_job_for_whichever_of_its_polls_wants_one() {
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
fn room_in_the_hub_that_one_node_left_is_the_next_ones() {
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
    // The client of the first went away before its pull was repeated.
    assert_eq!(scene.woken(), [2]);
}
