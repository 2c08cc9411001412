//! What refused clients and saturated nodes are told: when there will be room, from what ended in the last minute.

use crate::scene::{Scene, at, heartbeat, job, keyed, name, names, pull, zone};
use sheratan_core::limits::{DEFER_MS_MAX, DEFER_MS_MIN, RETRY_AFTER_SECS_MAX};
use sheratan_core::{
    Command, Heartbeat, KindRules, Millis, OnDuplicate, OnFailed, Pause, Payload, Pull, Refusal, SetKind, Submit,
};
use std::collections::BTreeSet;

/// The shortest and the longest of many waits, in seconds.
fn waits(scene: &Scene, refusal: &Refusal) -> (u64, u64) {
    let wait = |number| scene.hub.retry_after(scene.hub.now(), refusal, number).expect("there may be room").get();
    let waits: BTreeSet<_> = (0..500).map(wait).collect();
    assert!(waits.iter().all(|ms| ms % 1_000 == 0), "whole seconds");
    (waits.first().unwrap() / 1_000, waits.last().unwrap() / 1_000)
}

fn deferrals(scene: &Scene, node: &str) -> (u64, u64) {
    let wait = |number| scene.hub.defer_for(scene.hub.now(), &name(node), number).get();
    let waits: BTreeSet<_> = (0..2_000).map(wait).collect();
    (*waits.first().unwrap(), *waits.last().unwrap())
}

fn full_queue(depth: u64) -> Scene {
    let mut scene = Scene::with(|limits| limits.queue_depth_max = depth);
    (0..depth).for_each(|_| _ = scene.submit(job("k")));
    scene
}

/// A job is leased and done every `every_ms`, and another one takes its place, `count` times.
fn work(scene: &mut Scene, from_ms: u64, every_ms: u64, count: u64) {
    for n in 1..=count {
        scene.at(from_ms + n * every_ms);
        let lease = scene.lease("a").lease;
        scene.succeed(lease);
        scene.submit(job("k"));
    }
}

#[test]
fn a_full_queue_tells_when_one_has_left_at_the_pace_of_the_last_minute() {
    let mut scene = full_queue(10);
    // One every ten seconds.
    work(&mut scene, 0, 10_000, 12);
    let refusal = scene.try_submit(job("k")).unwrap_err();
    let (least, most) = waits(&scene, &refusal);
    assert!((8..=10).contains(&least) && most <= 16 && most > least, "{least} to {most}");
    // Ten a second: less than a second is one.
    work(&mut scene, 120_000, 100, 700);
    assert_eq!(waits(&scene, &refusal), (1, 2));
}

#[test]
fn a_limit_that_was_lowered_is_reached_again_when_all_that_are_too_many_have_left() {
    let mut scene = full_queue(100);
    work(&mut scene, 0, 1_000, 60);
    scene.limit(|limits| limits.queue_depth_max = 81);
    let refusal = scene.try_submit(job("k")).unwrap_err();
    assert_eq!(refusal, Refusal::QueueFull { depth: 100, depth_max: 81 });
    let (least, most) = waits(&scene, &refusal);
    assert!((19..=21).contains(&least) && (28..=31).contains(&most), "{least} to {most}");
}

#[test]
fn without_any_drain_the_wait_grows_with_the_time_that_nothing_left_and_is_the_longest_after_a_minute() {
    let mut scene = Scene::with(|limits| limits.queue_depth_max = 1);
    // A hub that was empty for an hour has not failed to drain.
    scene.at(3_600_000).submit(job("k"));
    let refusal = scene.try_submit(job("k")).unwrap_err();
    assert_eq!(waits(&scene, &refusal), (1, 2));
    for (after_ms, expected) in [(10_000, (10, 15)), (59_000, (59, 88)), (60_000, (150, 300)), (900_000, (150, 300))] {
        scene.at(3_600_000 + after_ms);
        assert_eq!(waits(&scene, &refusal), expected, "after {after_ms} ms");
    }
    assert_eq!(RETRY_AFTER_SECS_MAX, 300);
    // The window forgets: one that leaves now is what counts.
    let lease = scene.lease("a").lease;
    scene.succeed(lease);
    assert_eq!(waits(&scene, &refusal), (1, 2));
}

#[test]
fn attempts_that_fail_bring_their_jobs_back_and_do_not_drain_the_queue() {
    let mut scene = Scene::with(|limits| limits.queue_depth_max = 5);
    (0..5).for_each(|_| _ = scene.submit(Submit { attempts_max: Some(100), ..job("k") }));
    for n in 1..=100 {
        scene.at(n * 1_000);
        for _ in 0..3 {
            let Some(leased) = scene.pull("a", 1).pop() else { continue };
            scene.fail(leased.lease);
        }
    }
    let refusal = scene.try_submit(job("k")).unwrap_err();
    assert_eq!(waits(&scene, &refusal), (150, 300));
}

#[test]
fn bytes_become_free_with_the_jobs_that_have_them() {
    let sized = |bytes: usize| Submit { params: Some(Payload::new(&vec![b'1'; bytes])), ..job("k") };
    let mut scene = Scene::new();
    (0..20).for_each(|_| _ = scene.submit(sized(1_000)));
    let bytes = scene.hub.ledger().get(sheratan_core::Account::Waiting);
    for n in 1..=60 {
        scene.at(n * 1_000);
        let lease = scene.lease("a").lease;
        scene.succeed(lease);
        scene.submit(sized(1_000));
    }
    scene.limit(|limits| limits.queue_bytes_max = bytes);
    let small = scene.try_submit(sized(1)).unwrap_err();
    assert_eq!(waits(&scene, &small), (1, 2));
    // As many bytes as ten of the jobs have take ten seconds.
    let large = scene.try_submit(sized(12_000)).unwrap_err();
    let (least, most) = waits(&scene, &large);
    assert!((10..=11).contains(&least) && (15..=17).contains(&most), "{least} to {most}");
}

#[test]
fn places_of_dead_letters_become_free_with_the_jobs_that_end_without_one() {
    let mut scene = Scene::with(|limits| (limits.dead_full_refuses, limits.dead_jobs_max) = (1, 10));
    let dying = || Submit { attempts_max: Some(1), ..job("k") };
    (0..10).for_each(|_| _ = scene.submit(dying()));
    let refusal = scene.try_submit(dying()).unwrap_err();
    assert!(matches!(refusal, Refusal::LettersFull { letters: 10, letters_max: 10, kind: None }), "{refusal:?}");
    assert_eq!(waits(&scene, &refusal), (1, 2), "nothing has failed to leave yet");
    // Each ten seconds one job is done, and its place is taken; those that die leave no place.
    for n in 1..=12 {
        scene.at(n * 10_000);
        let lease = scene.lease("a").lease;
        if n % 2 == 0 {
            scene.fail(lease)
        } else {
            scene.succeed(lease)
        };
        _ = scene.try_submit(dying());
    }
    let (least, most) = waits(&scene, &refusal);
    assert!((15..=20).contains(&least) && most <= 30, "one in 20 seconds: {least} to {most}");
    let more = Refusal::LettersFull { letters: 12, letters_max: 10, kind: None };
    let (least, most) = waits(&scene, &more);
    assert!((45..=60).contains(&least) && most <= 90, "three in a minute: {least} to {most}");
    let hopeless = Refusal::LettersFull { letters: 20, letters_max: 10, kind: None };
    assert_eq!(waits(&scene, &hopeless), (150, 300), "more than all unfinished jobs would have to end");
    let bytes = Refusal::LetterBytesFull { bytes: 1_000, bytes_max: 1_000 };
    let (least, most) = waits(&scene, &bytes);
    assert!((15..=20).contains(&least) && most <= 30, "{least} to {most}");
    scene.at(600_000);
    assert_eq!(waits(&scene, &refusal), (150, 300), "the window forgets");
}

#[test]
fn places_of_the_dead_letters_of_a_kind_become_free_with_its_own_jobs() {
    let mut scene = Scene::new();
    let refuses = KindRules {
        letters_max: Some(3),
        on_letters_full: Some(sheratan_core::OnLettersFull::Refuse),
        ..KindRules::NONE
    };
    let set = SetKind { kind: name("slow"), rules: refuses, expected: None, configured: None };
    scene.apply(Command::SetKind(Box::new(set)));
    let run = |scene: &mut Scene, kind: &str| {
        scene.submit(job(kind));
        scene.pull_as(Pull { kinds: names(&[kind]), ..pull("a", 1) }).leases[0].lease
    };
    let mut running: Vec<_> = (0..3).map(|_| run(&mut scene, "slow")).collect();
    let refusal = scene.try_submit(job("slow")).unwrap_err();
    assert_eq!(refusal, Refusal::LettersFull { letters: 3, letters_max: 3, kind: Some(name("slow")) });
    assert_eq!(waits(&scene, &refusal), (1, 2), "nothing has failed to leave yet");
    // Others end every second, and of this kind one.
    for n in 1..=120 {
        scene.at(n * 1_000);
        let lease = run(&mut scene, "fast");
        scene.succeed(lease);
        if n == 90 {
            scene.succeed(running.pop().unwrap());
            running.push(run(&mut scene, "slow"));
        }
    }
    let refusal = scene.try_submit(job("slow")).unwrap_err();
    let (least, most) = waits(&scene, &refusal);
    assert!((29..=31).contains(&least) && most <= 46, "one in the 30 seconds since the first: {least} to {most}");
    let hopeless = Refusal::LettersFull { letters: 9, letters_max: 3, kind: Some(name("slow")) };
    assert_eq!(waits(&scene, &hopeless), (150, 300), "more than all of its unfinished jobs would have to end");
    scene.at(151_000);
    assert_eq!(waits(&scene, &refusal), (150, 300), "none of it has ended in the last minute");
}

#[test]
fn a_full_table_of_keys_tells_when_the_oldest_spent_key_may_go() {
    let mut scene = Scene::with(|limits| {
        limits.idempotency_keys_max = 1;
        limits.idempotency_floor_ms = Millis::from_secs(120);
    });
    let under = |key| keyed(key, 1, OnDuplicate::SameResult, OnFailed::SameResult);
    scene.submit(under("a"));
    let refusal = scene.try_submit(under("b")).unwrap_err();
    assert_eq!(waits(&scene, &refusal), (150, 300), "its job is not final");
    let lease = scene.lease("n").lease;
    scene.succeed(lease);
    assert_eq!(waits(&scene, &refusal), (120, 180));
    scene.at(100_000);
    assert_eq!(waits(&scene, &refusal), (20, 30));
    scene.at(120_000).submit(under("b"));
}

#[test]
fn what_waiting_does_not_help_has_no_wait() {
    let scene = Scene::new();
    for refusal in [Refusal::UnknownJob, Refusal::LeaseLost, Refusal::JobTooLarge { bytes: 2, bytes_max: 1 }] {
        assert_eq!(scene.hub.retry_after(at(0), &refusal, 1), None);
    }
}

#[test]
fn a_saturated_hub_defers_until_a_lease_ends_at_the_pace_of_the_last_minute() {
    let mut scene = Scene::with(|limits| limits.inflight_max = 2);
    (0..200).for_each(|_| _ = scene.submit(job("k")));
    let first = scene.pull("a", 2);
    // At first all that is known is that no lease has ended yet.
    let (least, most) = deferrals(&scene, "b");
    assert!(least == DEFER_MS_MIN.get() && most == 150, "{least} to {most}");
    scene.at(3_000);
    assert!((3_000..=3_010).contains(&deferrals(&scene, "b").0));
    first.iter().for_each(|leased| _ = scene.succeed(leased.lease));
    // One every two seconds.
    scene.pull("a", 1);
    for n in 1..=60 {
        scene.at(3_000 + n * 2_000);
        let lease = scene.lease("a").lease;
        scene.succeed(lease);
    }
    scene.lease("a");
    let (least, most) = deferrals(&scene, "b");
    assert!((1_800..=2_100).contains(&least) && (2_700..=3_150).contains(&most), "{least} to {most}");
    // None for a minute.
    scene.at(3_000 + 120_000 + 61_000);
    let (least, most) = deferrals(&scene, "b");
    assert!(least >= DEFER_MS_MAX.get() / 2 && most <= DEFER_MS_MAX.get() && most - least > 4_000, "{least} to {most}");
}

#[test]
fn a_saturated_node_waits_for_its_share_of_the_leases_that_end() {
    let mut scene = Scene::with(|limits| limits.leases_per_node_max = 1);
    (0..200).for_each(|_| _ = scene.submit(job("k")));
    let nodes = ["b", "c", "d"];
    nodes.iter().for_each(|node| _ = scene.lease(node));
    for n in 1..=100 {
        scene.at(n * 1_000);
        let lease = scene.lease("a").lease;
        scene.succeed(lease);
    }
    // One of three leases is its own, and one ends a second.
    let (least, most) = deferrals(&scene, "b");
    assert!((2_900..=3_100).contains(&least) && most <= 4_700, "{least} to {most}");
}

#[test]
fn a_saturated_zone_waits_for_its_share_of_the_leases_that_end() {
    let mut scene = Scene::with(|limits| limits.leases_per_zone_max = 2);
    (0..200).for_each(|_| _ = scene.submit(job("k")));
    scene.heartbeat(Heartbeat { zone: zone("far"), ..heartbeat("f") });
    (0..2).for_each(|_| _ = scene.submit(Submit { zone: zone("far"), ..job("k") }));
    scene.pull("f", 2);
    scene.lease("b");
    for n in 1..=100 {
        scene.at(n * 1_000);
        let lease = scene.lease("a").lease;
        scene.succeed(lease);
    }
    scene.lease("a");
    // Of four leases half are of either zone, and one ends a second; "c" has none of its own.
    for node in ["c", "f"] {
        let (least, most) = deferrals(&scene, node);
        assert!((1_900..=2_100).contains(&least) && most <= 3_200, "{node}: {least} to {most}");
    }
}

#[test]
fn whoever_names_closed_kinds_only_is_told_when_one_of_them_opens() {
    let mut scene = Scene::new();
    let set = |scene: &mut Scene, kind: &str, rules: KindRules| {
        scene.apply(Command::SetKind(Box::new(SetKind { kind: name(kind), rules, expected: None, configured: None })));
    };
    set(&mut scene, "full", KindRules { inflight_max: Some(1), ..KindRules::NONE });
    let pause = |until| KindRules { pause: Some(Pause { reason: None, until }), ..KindRules::NONE };
    set(&mut scene, "paused", pause(Some(at(104_000))));
    set(&mut scene, "stopped", pause(None));
    (0..200).for_each(|_| _ = scene.submit(job("k")));
    scene.submit(job("full"));
    scene.pull_as(Pull { kinds: names(&["full"]), ..pull("b", 1) });
    for n in 1..=100 {
        scene.at(n * 1_000);
        let leased = scene.pull_as(Pull { kinds: names(&["k"]), ..pull("a", 1) }).leases[0];
        scene.succeed(leased.lease);
    }
    let waits = |kinds: &[&str]| {
        let kinds = names(kinds);
        let waits: Vec<_> =
            (0..2_000).map(|n| scene.hub.defer_for_kinds(scene.hub.now(), &kinds, n).map(Millis::get)).collect();
        (waits.iter().min().copied().flatten(), waits.iter().max().copied().flatten())
    };
    assert_eq!([waits(&[]), waits(&["k"]), waits(&["full", "k"]), waits(&["unknown"])], [(None, None); 4]);
    let within = |(least, most): (Option<u64>, Option<u64>), from: u64, to: u64| {
        let (least, most) = least.zip(most).expect("all of them are closed");
        assert!(from <= least && most <= to && most - least > (to - from) / 3, "{least} to {most}");
    };
    within(waits(&["full"]), 900, 1_600);
    within(waits(&["paused"]), 4_000, 6_000);
    within(waits(&["stopped"]), 5_000, 10_000);
    within(waits(&["full", "paused", "stopped"]), 900, 1_600);
}
