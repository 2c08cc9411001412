//! Idempotency keys: the table of the wire contract, row by row.

use crate::scene::{Scene, at, failure, job, keyed, name, success, zone};
use sheratan_core::limits::CLASSES_MAX;
use sheratan_core::{
    Audit, Complete, FinalStatus, JobSeq, Millis, OnDuplicate, OnFailed, Payload, Refusal, Submit, Submitted,
};

fn same(key: &str, payload: u8) -> Submit {
    keyed(key, payload, OnDuplicate::SameResult, OnFailed::SameResult)
}

fn latest(key: &str, payload: u8) -> Submit {
    keyed(key, payload, OnDuplicate::LatestWins, OnFailed::SameResult)
}

fn or_new(key: &str, payload: u8) -> Submit {
    keyed(key, payload, OnDuplicate::SameResult, OnFailed::NewJob)
}

fn accepted(job: u64, supersedes: Option<JobSeq>, replaces: Option<JobSeq>) -> Result<Submitted, Refusal> {
    Ok(Submitted::Accepted { job: JobSeq::new(job), supersedes, replaces })
}

fn ended(job: JobSeq, status: FinalStatus, result: &[u8], error: &[u8]) -> Result<Submitted, Refusal> {
    Ok(Submitted::Final { job, status, result: some(result), error: some(error) })
}

fn some(bytes: &[u8]) -> Option<Payload> {
    (!bytes.is_empty()).then(|| Payload::new(bytes))
}

#[test]
fn an_unknown_key_makes_a_new_job() {
    let mut scene = Scene::new();
    assert_eq!(scene.try_submit(same("one", 1)), accepted(1, None, None));
    assert_eq!(scene.try_submit(same("two", 1)), accepted(2, None, None));
}

#[test]
fn a_submit_without_a_key_is_always_new() {
    let mut scene = Scene::new();
    assert_eq!(scene.try_submit(job("k")), accepted(1, None, None));
    assert_eq!(scene.try_submit(job("k")), accepted(2, None, None));
}

#[test]
fn ten_identical_submits_are_one_job_however_far_it_got() {
    let mut scene = Scene::new();
    let seq = scene.submit(same("key", 1));
    let in_progress = Ok(Submitted::InProgress { job: seq });
    let digest = scene.hub.digest();
    scene.audits();
    for submit in [same("key", 1), latest("key", 1), or_new("key", 1)] {
        for _ in 0..3 {
            assert_eq!(scene.try_submit(submit.clone()), in_progress);
        }
    }
    assert_eq!(scene.hub.digest(), digest, "nothing was enqueued");
    assert_eq!(scene.audits(), vec![Audit::IdempotencyHit { job: seq, is_final: false }; 9]);
    let lease = scene.lease("a").lease;
    assert_eq!(scene.try_submit(same("key", 1)), in_progress, "leased");
    scene.fail(lease);
    assert_eq!(scene.try_submit(same("key", 1)), in_progress, "scheduled");
}

#[test]
fn a_final_jobs_submit_is_answered_with_its_outcome() {
    let mut scene = Scene::new();
    let (done, dead) = (scene.submit(same("done", 1)), scene.submit(same("dead", 1)));
    let leases = scene.pull("a", 2);
    scene.succeed(leases[0].lease);
    scene.complete(Complete { is_retryable: false, ..failure(leases[1].lease) }).unwrap();
    assert_eq!(scene.try_submit(same("done", 1)), ended(done, FinalStatus::Completed, b"\"done\"", b""));
    assert_eq!(scene.try_submit(latest("done", 1)), ended(done, FinalStatus::Completed, b"\"done\"", b""));
    assert_eq!(scene.try_submit(same("dead", 1)), ended(dead, FinalStatus::Dead, b"", b"\"broken\""));
}

#[test]
fn an_outcome_up_to_the_cached_bytes_outlives_its_job_and_a_larger_one_is_left_out() {
    for (bytes, is_cached) in [(16_384, true), (16_385, false)] {
        let mut scene = Scene::with(|limits| limits.retained_jobs_max = 0);
        let seq = scene.submit(same("key", 1));
        let lease = scene.lease("a").lease;
        let result = vec![b'1'; bytes];
        scene.complete(Complete { result: some(&result), ..success(lease) }).unwrap();
        assert_eq!(scene.status(seq), "gone");
        let expected = if is_cached { &result[..] } else { b"" };
        assert_eq!(scene.try_submit(same("key", 1)), ended(seq, FinalStatus::Completed, expected, b""), "{bytes}");
    }
}

#[test]
fn another_payload_under_a_key_is_a_collision_that_changes_nothing() {
    let mut scene = Scene::new();
    let seq = scene.submit(same("a long key", 1));
    let collision = Err(Refusal::KeyCollision { job: seq, old_hash_prefix: [1; 4] });
    scene.audits();
    for submit in [same("a long key", 2), or_new("a long key", 2)] {
        assert_eq!(scene.try_submit(submit), collision);
        let (key, old_hash_prefix, new_hash_prefix) = (name("a long key"), [1; 4], [2; 4]);
        let event = Audit::IdempotencyKeyCollision { key, old_hash_prefix, new_hash_prefix };
        assert_eq!(scene.audits(), [event]);
    }
    assert_eq!((scene.status(seq), scene.hub.queue().len()), ("queued", 1));
    let lease = scene.lease("a").lease;
    scene.succeed(lease);
    assert_eq!(scene.try_submit(same("a long key", 2)), collision, "a final job's key too");
}

#[test]
fn the_latest_payload_supersedes_a_waiting_job() {
    for submit in [latest("key", 1), Submit { delay_ms: Millis::new(50), ..latest("key", 1) }] {
        let mut scene = Scene::new();
        let old = scene.submit(submit);
        assert_eq!(scene.try_submit(latest("key", 2)), accepted(2, Some(old), None));
        assert_eq!(scene.status(old), "superseded");
        assert_eq!(scene.try_submit(latest("key", 2)), Ok(Submitted::InProgress { job: JobSeq::new(2) }));
        scene.at(50);
        assert_eq!(scene.pull_jobs("a", 9), [JobSeq::new(2)]);
    }
}

#[test]
fn the_latest_payload_revokes_a_leased_jobs_lease() {
    let mut scene = Scene::new();
    let old = scene.submit(latest("key", 1));
    let lease = scene.lease("a").lease;
    assert_eq!(scene.try_submit(latest("key", 2)), accepted(2, Some(old), None));
    assert_eq!(scene.status(old), "superseded");
    assert_eq!(scene.hub.registry().by_name("a").unwrap().leases(), 0);
    assert_eq!(scene.complete(success(lease)), Err(Refusal::LeaseLost));
    assert_eq!(scene.complete(failure(lease)), Err(Refusal::LeaseLost));
    scene.at(400_000);
    assert_eq!(scene.pull_jobs("a", 9), [JobSeq::new(2)], "the old lease's end brings nothing back");
}

#[test]
fn the_latest_payload_after_a_final_job_is_a_new_job_in_its_place() {
    let mut scene = Scene::new();
    let old = scene.submit(latest("key", 1));
    let lease = scene.lease("a").lease;
    scene.succeed(lease);
    assert_eq!(scene.try_submit(latest("key", 2)), accepted(2, None, Some(old)));
    assert_eq!(scene.status(old), "completed");
    assert_eq!(scene.try_submit(same("key", 2)), Ok(Submitted::InProgress { job: JobSeq::new(2) }));
}

#[test]
fn a_spent_key_does_not_block_honest_work() {
    let mut scene = Scene::new();
    let dead = scene.submit(same("dead", 1));
    let expired = scene.submit(Submit { ttl_ms: Some(Millis::new(1_000)), ..same("expired", 1) });
    let done = scene.submit(same("done", 1));
    let leases = scene.pull("a", 1);
    scene.complete(Complete { is_retryable: false, ..failure(leases[0].lease) }).unwrap();
    scene.at(1_000);
    let leases = scene.pull("a", 1);
    scene.succeed(leases[0].lease);
    assert_eq!(scene.try_submit(same("dead", 1)), ended(dead, FinalStatus::Dead, b"", b"\"broken\""));
    assert_eq!(scene.try_submit(or_new("dead", 1)), accepted(4, None, Some(dead)));
    assert_eq!(scene.try_submit(same("dead", 1)), Ok(Submitted::InProgress { job: JobSeq::new(4) }));
    assert_eq!(scene.try_submit(or_new("expired", 1)), accepted(5, None, Some(expired)));
    assert_eq!(scene.try_submit(or_new("done", 1)), ended(done, FinalStatus::Completed, b"\"done\"", b""));
    let collision = Refusal::KeyCollision { job: JobSeq::new(5), old_hash_prefix: [1; 4] };
    assert_eq!(scene.try_submit(or_new("expired", 2)), Err(collision));
}

#[test]
fn a_key_is_forgotten_its_time_after_its_job_became_final_and_not_before() {
    let mut scene = Scene::with(|limits| limits.idempotency_ttl_ms = Millis::new(10_000));
    let seq = scene.submit(same("key", 1));
    scene.at(50_000);
    assert_eq!(scene.try_submit(same("key", 1)), Ok(Submitted::InProgress { job: seq }), "not final, never forgotten");
    let lease = scene.lease("a").lease;
    scene.succeed(lease);
    scene.at(59_999);
    assert!(matches!(scene.try_submit(same("key", 1)), Ok(Submitted::Final { .. })));
    assert_eq!(scene.next_deadline(), Some(at(60_000)));
    scene.at(60_000);
    assert!(scene.hub.dedup().is_empty());
    assert_eq!(scene.try_submit(same("key", 1)), accepted(2, None, None));
}

#[test]
fn a_key_that_was_bound_again_lives_by_its_new_job() {
    let mut scene = Scene::with(|limits| limits.idempotency_ttl_ms = Millis::new(10_000));
    scene.submit(latest("key", 1));
    let lease = scene.lease("a").lease;
    scene.succeed(lease);
    scene.at(5_000);
    let new = scene.submit(latest("key", 2));
    scene.at(20_000);
    assert_eq!(scene.try_submit(same("key", 2)), Ok(Submitted::InProgress { job: new }));
}

#[test]
fn a_refused_submit_leaves_its_key_free_and_supersedes_nothing() {
    let mut scene = Scene::with(|limits| limits.queue_depth_max = 1);
    scene.submit(job("k"));
    assert!(scene.try_submit(same("key", 1)).is_err());
    scene.lease("a");
    assert_eq!(scene.try_submit(same("key", 2)), accepted(2, None, None));
}

#[test]
fn a_submit_refused_for_its_class_supersedes_nothing() {
    let zoned = |submit: Submit, n: usize| Submit { zone: zone(&format!("z{n}")), ..submit };
    let mut scene = Scene::new();
    for n in 0..CLASSES_MAX {
        scene.submit(zoned(job("k"), n));
    }
    let old = scene.submit(zoned(latest("key", 1), 0));
    let digest = scene.hub.digest();
    let refusal =
        Refusal::ClassesFull { classes: CLASSES_MAX as u64, zone: zone(&format!("z{CLASSES_MAX}")), zone_classes: 0 };
    assert_eq!(scene.try_submit(zoned(latest("key", 2), CLASSES_MAX)), Err(refusal));
    assert_eq!(scene.status(old), "queued");
    assert_eq!(scene.hub.digest(), digest, "a refusal changes nothing");
    let submitted = scene.try_submit(zoned(latest("key", 2), 1));
    assert_eq!(submitted, accepted(CLASSES_MAX as u64 + 2, Some(old), None));
}
