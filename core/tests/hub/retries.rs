//! Retries: attempts that did not succeed, and how they end.

use crate::scene::{Scene, at, failure, job, success};
use sheratan_core::{AttemptEnd, Audit, Completed, CompletedStatus, FinalStatus, Millis, Payload, State, Submit};

const DEAD: CompletedStatus = CompletedStatus::Final(FinalStatus::Dead);

/// The longest retry delay: after it every retry is ready.
const CAP: u64 = 15_000;

#[test]
fn a_failed_job_is_tried_again_at_the_instant_that_its_node_was_told() {
    let mut scene = Scene::new();
    let seq = scene.submit(job("k"));
    let lease = scene.lease("a").lease;
    scene.at(1_000);
    let CompletedStatus::RetryScheduled(due_at) = scene.fail(lease) else { panic!("it has attempts left") };
    assert!((at(1_250)..=at(1_500)).contains(&due_at), "half of the delay is fixed: {due_at:?}");
    assert_eq!(scene.next_deadline(), Some(due_at));
    scene.at(due_at.as_millis() - 1);
    assert!(scene.pull("a", 1).is_empty());
    scene.at(due_at.as_millis());
    assert_eq!(scene.lease("a").lease.job, seq);
}

#[test]
fn an_expiry_counts_as_an_attempt() {
    let mut scene = Scene::new();
    let seq = scene.submit(Submit { attempts_max: Some(2), ..job("k") });
    let first = scene.lease("a");
    scene.at(first.until.as_millis() + CAP);
    let second = scene.lease("a");
    scene.audits();
    scene.at(second.until.as_millis());
    assert_eq!(scene.status(seq), "dead");
    assert!(scene.audits().contains(&Audit::RetryExhausted { job: seq, attempts: 2 }));
    let ends: Vec<_> = scene.hub.queue().get(seq).unwrap().attempts().map(|attempt| attempt.end.clone()).collect();
    assert_eq!(ends, [AttemptEnd::Expired { at: first.until }, AttemptEnd::Expired { at: second.until }]);
    let State::Final { error, .. } = scene.hub.queue().get(seq).unwrap().state() else { panic!("it is dead") };
    assert_eq!(error, Some(Payload::new(br#""lease expired""#)));
}

#[test]
fn a_job_whose_attempts_are_spent_is_dead() {
    for attempts_max in [1, 2, 5] {
        let mut scene = Scene::new();
        let seq = scene.submit(Submit { attempts_max: Some(attempts_max), ..job("k") });
        for attempt in 1..=attempts_max {
            scene.at(u64::from(attempt) * CAP);
            let lease = scene.lease("a").lease;
            assert_eq!(lease.generation, attempt);
            assert_eq!(scene.fail(lease) == DEAD, attempt == attempts_max);
        }
        assert_eq!(scene.status(seq), "dead");
        scene.at(100 * CAP);
        assert!(scene.pull("a", 1).is_empty());
    }
}

#[test]
fn a_job_that_does_not_say_has_the_hubs_attempts_and_none_has_no_attempt() {
    let mut scene = Scene::with(|limits| limits.attempts_max = 3);
    for (asked, granted) in [(None, 3), (Some(0), 1), (Some(7), 7), (Some(u32::MAX), 100)] {
        let seq = scene.submit(Submit { attempts_max: asked, ..job("k") });
        assert_eq!(scene.hub.queue().get(seq).unwrap().attempts_max(), granted);
    }
}

#[test]
fn a_failure_that_is_not_retryable_makes_a_job_dead_at_once() {
    let mut scene = Scene::new();
    let seq = scene.submit(job("k"));
    let mut complete = failure(scene.lease("a").lease);
    complete.is_retryable = false;
    assert_eq!(scene.complete(complete), Ok(Completed { job: seq, status: DEAD, is_duplicate: false }));
    let State::Final { error, .. } = scene.hub.queue().get(seq).unwrap().state() else { panic!("it is dead") };
    assert_eq!(error, Some(Payload::new(b"\"broken\"")));
}

#[test]
fn no_retry_starts_after_the_retry_budget() {
    // With a cap of a millisecond the retry comes that long after the failure, without any spread.
    for (budget_ms, is_retried) in [(0, false), (1_000, false), (1_001, true)] {
        let mut scene = Scene::with(|limits| limits.retry_delay_ms_cap = Millis::new(1));
        scene.submit(Submit { retry_budget_ms: Some(Millis::new(budget_ms)), ..job("k") });
        let lease = scene.lease("a").lease;
        scene.at(1_000);
        assert_eq!(scene.fail(lease) != DEAD, is_retried, "{budget_ms} ms");
    }
}

#[test]
fn a_retried_job_keeps_its_place_before_younger_ones() {
    let mut scene = Scene::new();
    let (old, young) = (scene.submit(job("k")), scene.submit(job("k")));
    let lease = scene.lease("a").lease;
    scene.fail(lease);
    scene.at(CAP);
    assert_eq!(scene.pull_jobs("a", 2), [old, young]);
}

#[test]
fn retries_do_not_need_room_in_a_full_queue() {
    let mut scene = Scene::with(|limits| limits.queue_depth_max = 1);
    let seq = scene.submit(job("k"));
    let lease = scene.lease("a").lease;
    scene.submit(job("k"));
    assert!(matches!(scene.fail(lease), CompletedStatus::RetryScheduled(_)));
    assert_eq!(scene.status(seq), "scheduled");
    assert_eq!(scene.hub.counts().waiting(), 2);
}

#[test]
fn an_attempt_keeps_a_short_error_and_drops_a_long_one() {
    for (bytes, is_kept) in [(4_096, true), (4_097, false)] {
        let mut scene = Scene::new();
        let seq = scene.submit(job("k"));
        let mut complete = failure(scene.lease("a").lease);
        complete.error = Some(Payload::new(&vec![b'1'; bytes]));
        scene.complete(complete).unwrap();
        let attempt = scene.hub.queue().get(seq).unwrap().attempts().next().unwrap().clone();
        let AttemptEnd::Failed { error, .. } = attempt.end else { panic!("it failed") };
        assert_eq!(error.is_some(), is_kept, "{bytes} bytes");
    }
}

#[test]
fn a_job_past_its_time_to_live_may_still_be_finished_but_is_not_tried_again() {
    let expiring = || Submit { ttl_ms: Some(Millis::new(1_000)), ..job("k") };
    let mut scene = Scene::new();
    let (done, failed) = (scene.submit(expiring()), scene.submit(expiring()));
    let leases = scene.pull("a", 2);
    scene.at(1_000);
    assert_eq!((scene.status(done), scene.status(failed)), ("leased", "leased"));
    assert_eq!(
        scene.complete(success(leases[0].lease)).unwrap().status,
        CompletedStatus::Final(FinalStatus::Completed)
    );
    assert_eq!(scene.fail(leases[1].lease), CompletedStatus::Final(FinalStatus::Expired));
    assert_eq!((scene.status(done), scene.status(failed)), ("completed", "expired"));
}

#[test]
fn a_lease_that_ends_with_its_jobs_time_to_live_ends_the_job() {
    let mut scene = Scene::new();
    let seq = scene.submit(Submit { ttl_ms: Some(Millis::new(300_000)), ..job("k") });
    assert_eq!(scene.lease("a").until, at(300_000));
    scene.at(299_999);
    assert_eq!(scene.status(seq), "leased");
    scene.at(300_000);
    assert_eq!(scene.status(seq), "expired");
}
