//! Telemetry: it counts what happens, and no decision depends on it.

use crate::scene::{KEY, Scene, at, job, keyed, pull};
use sheratan_core::telemetry::timing::Quantiles;
use sheratan_core::telemetry::{Counter, Observation};
use sheratan_core::{DropReason, Effect, FinalStatus, Hub, Millis, OnDuplicate, OnFailed, Submit};
use std::net::{IpAddr, Ipv4Addr};

fn settle(scene: &mut Scene) -> Vec<Effect> {
    let mut effects = Vec::new();
    scene.hub.settle(&mut effects);
    effects
}

#[test]
fn each_stage_of_a_job_is_counted_when_it_happens_and_leaves_the_window_a_minute_later() {
    let mut scene = Scene::with(|limits| (limits.attempts_max, limits.queue_depth_max) = (2, 2));
    scene.at(10_000);
    let submits = ["a", "b", "c"].map(|kind| scene.try_submit(job(kind)).is_ok());
    assert_eq!(submits, [true, true, false]);
    scene.at(12_500);
    let (first, second) = (scene.lease("n").lease, scene.lease("n").lease);
    scene.at(13_000);
    scene.succeed(first);
    scene.fail(second);
    settle(&mut scene);
    let (hub, now) = (&scene.hub, scene.hub.now());
    let minute = |counter| hub.telemetry().last_minute(now, counter);
    let table = [
        (Counter::Submitted, 2),
        (Counter::Dropped(DropReason::QueueDepth), 1),
        (Counter::Dropped(DropReason::QueueBytes), 0),
        (Counter::Leased, 2),
        (Counter::AttemptEnded, 2),
        (Counter::RetryScheduled, 1),
        (Counter::Completed, 1),
        (Counter::Failed, 0),
    ];
    for (counter, count) in table {
        assert_eq!((minute(counter), hub.telemetry().total(counter)), (count, count), "{counter:?}");
    }
    let waits = hub.telemetry().queue_wait().quantiles(now);
    assert_eq!((waits.p50, waits.max, hub.telemetry().queue_wait().totals().count), (2_511, 2_511, 2));
    let runs = hub.telemetry().run().quantiles(now);
    assert_eq!((runs.p50, runs.max), (501, 501));
    let kinds: Vec<_> = hub.telemetry().kinds().iter().collect();
    assert_eq!(kinds.iter().map(|(kind, counts)| (*kind, counts.submitted)).collect::<Vec<_>>(), [("a", 1), ("b", 1)]);
    assert_eq!(kinds[0].1.ended[FinalStatus::Completed as usize], 1);

    scene.at(73_000);
    settle(&mut scene);
    let now = scene.hub.now();
    for (counter, _) in table {
        assert_eq!(scene.hub.telemetry().last_minute(now, counter), 0, "{counter:?}");
    }
    assert_eq!(scene.hub.telemetry().run().quantiles(now), Quantiles::default());
    assert_eq!(scene.hub.telemetry().total(Counter::Submitted), 2);
}

#[test]
fn each_attempt_is_counted_as_ended_once() {
    let mut scene = Scene::with(|limits| limits.attempts_max = 1);
    let under_key = |payload| keyed("key", payload, OnDuplicate::LatestWins, OnFailed::SameResult);
    scene.submit(job("reaped"));
    scene.lease("n");
    scene.submit(under_key(1));
    scene.lease("n");
    scene.submit(under_key(2));
    scene.submit(Submit { ttl_ms: Some(Millis::new(5)), ..job("expires") });
    scene.at(1_000_000);
    settle(&mut scene);
    let total = |counter| scene.hub.telemetry().total(counter);
    assert_eq!((total(Counter::Leased), total(Counter::AttemptEnded)), (2, 2));
    assert_eq!((total(Counter::LeaseReaped), total(Counter::RetryExhausted), total(Counter::Failed)), (1, 1, 1));
    let ended: u64 = scene.hub.telemetry().kinds().iter().flat_map(|(_, counts)| counts.ended).sum();
    assert_eq!(ended, 3, "dead, superseded, expired");
}

#[test]
fn repeated_submits_are_counted_by_whether_their_job_is_final() {
    let mut scene = Scene::new();
    let under_key = |payload| keyed("key", payload, OnDuplicate::SameResult, OnFailed::SameResult);
    scene.submit(under_key(1));
    scene.try_submit(under_key(1)).unwrap();
    scene.try_submit(under_key(2)).unwrap_err();
    let lease = scene.lease("n").lease;
    scene.succeed(lease);
    scene.try_submit(under_key(1)).unwrap();
    scene.try_submit(under_key(1)).unwrap();
    settle(&mut scene);
    let total = |counter| scene.hub.telemetry().total(counter);
    assert_eq!(total(Counter::IdempotentInProgress), 1);
    assert_eq!(total(Counter::IdempotentCompleted), 2);
    assert_eq!(total(Counter::IdempotentCollision), 1);
    assert_eq!(scene.hub.telemetry().dropped_last_minute(scene.hub.now()), 0, "a collision is not backpressure");
}

#[test]
fn drops_are_counted_by_the_limit_that_is_reached() {
    let mut scene = Scene::with(|limits| (limits.idempotency_keys_max, limits.queue_bytes_max) = (1, 1_000));
    scene.submit(keyed("a", 1, OnDuplicate::SameResult, OnFailed::SameResult));
    scene.try_submit(keyed("b", 1, OnDuplicate::SameResult, OnFailed::SameResult)).unwrap_err();
    scene.try_submit(Submit { params: Some(sheratan_core::Payload::new(&[b'1'; 700])), ..job("k") }).unwrap_err();
    settle(&mut scene);
    let telemetry = scene.hub.telemetry();
    assert_eq!(telemetry.total(Counter::Dropped(DropReason::Keys)), 1);
    assert_eq!(telemetry.total(Counter::Dropped(DropReason::QueueBytes)), 1);
    assert_eq!(telemetry.dropped_last_minute(scene.hub.now()), 2);
    assert!(telemetry.has_just_dropped(at(1_999)) && !telemetry.has_just_dropped(at(2_000)));
}

#[test]
fn observations_and_counts_are_not_part_of_the_state() {
    let mut scene = Scene::new();
    scene.submit(job("k"));
    scene.pull_as(pull("n", 1));
    let (digest, hash) = (scene.hub.digest(), scene.hub.outcome_hash());
    settle(&mut scene);
    let address = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
    for observation in [
        Observation::AuthFailure { address, is_token_present: true },
        Observation::AuthFailure { address, is_token_present: false },
        Observation::AuthSuccess,
        Observation::PortMismatch,
        Observation::IntegrityFailed,
        Observation::JournalCommit { took_us: 130, is_in_loop: true },
        Observation::LoopTakenOver,
    ] {
        scene.hub.observe(at(1), observation);
    }
    assert_eq!((scene.hub.digest(), scene.hub.outcome_hash()), (digest, hash));
    let telemetry = scene.hub.telemetry();
    assert_eq!(telemetry.total(Counter::AuthFailureBad), 1);
    assert_eq!(telemetry.total(Counter::AuthFailureMissing), 1);
    assert_eq!(telemetry.journal_commit().totals().count, 1);
    let mut replayed = Hub::new(KEY);
    for (now, command) in scene.journal.clone() {
        replayed.apply(now, command);
    }
    assert_eq!(replayed.telemetry().total(Counter::Submitted), 0, "a replay counts nothing");
}
