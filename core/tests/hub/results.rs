//! Results: those that come twice, late, or without a lease.

use crate::scene::{Scene, failure, job, name, success};
use sheratan_core::limits::Limits;
use sheratan_core::{
    Complete, Completed, CompletedStatus, FinalStatus, LeaseRef, Millis, Payload, Refusal, ResultMark, State, Submit,
};

const DONE: CompletedStatus = CompletedStatus::Final(FinalStatus::Completed);

fn without_lease(complete: Complete, node: Option<&str>) -> Complete {
    Complete { lease: None, node: node.map(name), ..complete }
}

#[test]
fn a_result_that_comes_again_has_the_same_answer_and_changes_nothing() {
    let mut scene = Scene::new();
    let seq = scene.submit(job("k"));
    let lease = scene.lease("a").lease;
    let first = scene.complete(success(lease));
    assert_eq!(first, Ok(Completed { job: seq, status: DONE, is_duplicate: false }));
    let digest = scene.hub.digest();
    for _ in 0..3 {
        let again = scene.complete(success(lease));
        assert_eq!(again, Ok(Completed { job: seq, status: DONE, is_duplicate: true }));
    }
    assert_eq!(scene.hub.digest(), digest);
    assert_eq!(scene.hub.counts().retained, 1);
}

#[test]
fn a_failure_that_comes_again_costs_no_second_attempt() {
    let mut scene = Scene::new();
    let seq = scene.submit(job("k"));
    let lease = scene.lease("a").lease;
    let first = scene.complete(failure(lease)).unwrap();
    let CompletedStatus::RetryScheduled(due_at) = first.status else { panic!("it has attempts left") };
    let again = Completed { is_duplicate: true, ..first };
    assert_eq!(scene.complete(failure(lease)), Ok(again));
    scene.at(due_at.as_millis());
    assert_eq!(scene.complete(failure(lease)), Ok(again), "queued");
    scene.lease("b");
    assert_eq!(scene.complete(failure(lease)), Ok(again), "leased");
    assert_eq!(scene.hub.queue().get(seq).unwrap().attempts().count(), 2);
    assert_eq!(scene.status(seq), "leased");
}

#[test]
fn the_result_is_kept_as_the_bytes_that_came() {
    let mut scene = Scene::new();
    let seq = scene.submit(job("k"));
    let lease = scene.lease("a").lease;
    scene.complete(Complete { result: Some(Payload::new(b"{ \"a\" : 1.50 }")), ..success(lease) }).unwrap();
    let State::Final { result, error, .. } = scene.hub.queue().get(seq).unwrap().state() else { panic!("it is done") };
    assert_eq!((result, error), (Some(Payload::new(b"{ \"a\" : 1.50 }")), None));
}

#[test]
fn without_a_lease_a_result_is_taken_from_the_node_that_holds_the_job() {
    for node in [Some("a"), None] {
        let mut scene = Scene::new();
        let seq = scene.submit(job("k"));
        let lease = scene.lease("a").lease;
        assert_eq!(scene.complete(without_lease(success(lease), Some("b"))), Err(Refusal::LeaseLost));
        let first = scene.complete(without_lease(success(lease), node));
        assert_eq!(first, Ok(Completed { job: seq, status: DONE, is_duplicate: false }));
        let again = scene.complete(without_lease(success(lease), node));
        assert_eq!(again, Ok(Completed { job: seq, status: DONE, is_duplicate: true }));
    }
}

#[test]
fn without_a_lease_another_result_for_a_final_job_is_refused() {
    let mut scene = Scene::new();
    let lease = {
        scene.submit(job("k"));
        scene.lease("a").lease
    };
    scene.succeed(lease);
    let completed = FinalStatus::Completed;
    for other in [
        without_lease(failure(lease), Some("a")),
        without_lease(Complete { mark: ResultMark::Content(9), ..success(lease) }, None),
        without_lease(success(lease), Some("b")),
    ] {
        assert_eq!(scene.complete(other), Err(Refusal::AlreadyFinal { status: completed }));
    }
}

#[test]
fn without_a_lease_a_job_that_nobody_holds_takes_no_result() {
    let mut scene = Scene::new();
    let seq = scene.submit(Submit { attempts_max: Some(2), ..job("k") });
    let none = LeaseRef { job: seq, generation: 0 };
    assert_eq!(scene.complete(without_lease(success(none), Some("a"))), Err(Refusal::LeaseLost), "never leased");
    let until = scene.lease("a").until.as_millis();
    scene.at(until);
    assert_eq!(scene.complete(without_lease(success(none), Some("a"))), Err(Refusal::LeaseLost), "expired");
    scene.at(until + 15_000);
    let until = scene.lease("a").until.as_millis();
    scene.at(until);
    let refusal = Refusal::AlreadyFinal { status: FinalStatus::Dead };
    assert_eq!(scene.complete(without_lease(success(none), Some("a"))), Err(refusal));
}

#[test]
fn a_job_that_is_gone_before_anybody_was_told_of_its_end_is_told_with_it() {
    let by_count = |limits: &mut Limits| limits.retained_jobs_max = 1;
    let by_age = |limits: &mut Limits| limits.job_retention_ms = Millis::ZERO;
    for set in [by_count as fn(&mut Limits), by_age] {
        let mut scene = Scene::with(set);
        let jobs: Vec<_> =
            (1..=3).map(|ms| scene.submit(Submit { ttl_ms: Some(Millis::new(ms)), ..job("k") })).collect();
        scene.ends();
        // All three end before the shell settles.
        scene.at(5);
        let ends = scene.ends();
        assert_eq!(ends.iter().map(|(job, _)| *job).collect::<Vec<_>>(), jobs);
        for (job, gone) in ends {
            assert_eq!(gone.is_none(), scene.hub.queue().get(job).is_some(), "{job:?}");
            assert!(gone.is_none_or(|gone| gone.view().seq() == job && gone.view().status() == "expired"));
        }
    }
}
