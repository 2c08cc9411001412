//! Reserved retries: how many are reserved at a time, and how many of them a pull and a long poll can get.

use crate::scene::{Scene, heartbeat, job, pull};
use sheratan_core::limits::{RESERVED_EXAMINED_MAX, RESERVED_JOBS_MAX};
use sheratan_core::{Command, JobSeq, Millis, RulesVersion, Submit, WaiterId};

/// Nodes `a` and `b`, of which `a` failed the one attempt of each of `count` jobs of these kinds, in turns.
fn scene_with_reserved(count: usize, kinds: &[&str]) -> Scene {
    let mut scene = Scene::with(|limits| {
        limits.retry_delay_ms_cap = Millis::new(1);
        limits.leases_per_node_max = 10_000;
        limits.retries_per_sec_min = 10_000;
    });
    scene.apply(Command::AdoptRules(RulesVersion::NEWEST));
    ["a", "b"].into_iter().for_each(|node| scene.heartbeat(heartbeat(node)));
    kinds.iter().cycle().take(count).for_each(|kind| _ = scene.submit(job(kind)));
    let mut leases = Vec::new();
    while leases.len() < count {
        leases.extend(scene.pull("a", 1_000));
    }
    leases.iter().for_each(|leased| _ = scene.fail(leased.lease));
    scene.at(1);
    scene
}

#[test]
fn so_many_retries_are_reserved_and_the_next_one_is_for_all_nodes() {
    let mut scene = scene_with_reserved(RESERVED_JOBS_MAX + 1, &["k"]);
    let last = JobSeq::new(RESERVED_JOBS_MAX as u64 + 1);
    assert_eq!(scene.pull_jobs("a", 1_000), [last]);
    assert_eq!(scene.pull_jobs("b", 3), [1, 2, 3].map(JobSeq::new));
}

#[test]
fn a_pull_finds_its_kind_among_the_first_reserved_retries_only() {
    let kinds: Vec<_> = std::iter::repeat_n("k", RESERVED_EXAMINED_MAX).chain(["x"]).collect();
    let mut scene = scene_with_reserved(kinds.len(), &kinds);
    let of_x = || sheratan_core::Pull { kinds: crate::scene::names(&["x"]), ..pull("b", 1) };
    assert_eq!(scene.pull_as(of_x()).leases, []);
    assert!(scene.hub.park(WaiterId(1), &of_x()), "there is none that its pull would find");
    assert_eq!(scene.woken(), [0; 0]);
    scene.lease("b");
    assert_eq!(scene.woken(), [1], "it is among the first now");
    assert_eq!(scene.pull_as(of_x()).leases.len(), 1);
}

#[test]
fn as_many_polls_are_woken_as_retries_are_reserved_the_longest_waiting_first() {
    let mut scene = scene_with_reserved(0, &[]);
    (0..3).for_each(|_| _ = scene.submit(Submit { attempts_max: Some(2), ..job("k") }));
    let leases = scene.pull("a", 3);
    for (id, node) in [(1, "a"), (2, "b"), (3, "b"), (4, "c"), (5, "c")] {
        assert!(scene.hub.park(WaiterId(id), &pull(node, 1)));
    }
    leases.iter().for_each(|leased| _ = scene.fail(leased.lease));
    scene.at(2);
    assert_eq!(scene.woken(), [2, 3, 4]);
    // Their clients disconnected.
    assert_eq!(scene.woken(), [5]);
    assert_eq!(scene.woken(), [0; 0]);
    scene.at(5_002);
    assert_eq!(scene.woken(), [1]);
}
