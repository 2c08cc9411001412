//! The checksum of a result: with which jobs and answers it is stored, and how repeats are told from other results.

use crate::scene::{Scene, failure, job, keyed, replay, restore, success};
use sheratan_core::integrity::stored::{Origin, ResultIntegrity};
use sheratan_core::limits::{ANSWER_BYTES, HEAP_HEADER_BYTES, INTEGRITY_BYTES, KEY_BYTES};
use sheratan_core::{
    Account, Complete, CompletedStatus, FinalStatus, Hub, JobSeq, LeaseRef, OnDuplicate, OnFailed, Payload, Refusal,
    ResultMark, State, Submit, Submitted,
};

fn integrity(byte: u8) -> Option<Box<ResultIntegrity>> {
    Some(Box::new(ResultIntegrity { origin: Origin::Worker, sha256: [byte; 32] }))
}

fn with_integrity(complete: Complete) -> Complete {
    Complete { integrity: integrity(7), ..complete }
}

fn stored(hub: &Hub, job: JobSeq) -> Option<ResultIntegrity> {
    match hub.queue().get(job).map(|job| job.state()) {
        Some(State::Final { integrity, .. }) => integrity,
        other => panic!("it is not final: {other:?}"),
    }
}

fn a_key() -> Submit {
    keyed("key", 1, OnDuplicate::SameResult, OnFailed::SameResult)
}

fn remembered(scene: &mut Scene) -> Option<ResultIntegrity> {
    match scene.try_submit(a_key()) {
        Ok(Submitted::Final { integrity, .. }) => integrity,
        other => panic!("the key's job is final: {other:?}"),
    }
}

#[test]
fn a_result_that_ends_its_job_leaves_its_checksum_with_the_job_and_with_the_answer() {
    for dead in [false, true] {
        let mut scene = Scene::new();
        let job = scene.submit(a_key());
        let lease = scene.lease("n").lease;
        let result = if dead { Complete { is_retryable: false, ..failure(lease) } } else { success(lease) };
        scene.complete(with_integrity(result)).unwrap();
        let expected = integrity(7).map(|integrity| *integrity);
        assert_eq!(stored(&scene.hub, job), expected);
        assert_eq!(remembered(&mut scene), expected);
        assert_eq!(stored(&restore(&scene.hub), job), expected, "a snapshot has it");
        assert_eq!(stored(&replay(&scene.journal), job), expected, "so has the journal");
    }
}

#[test]
fn a_job_that_ends_otherwise_has_no_checksum_of_an_earlier_failure() {
    let mut scene = Scene::new();
    let job = scene.submit(Submit { attempts_max: Some(2), ..job("k") });
    let lease = scene.lease("n").lease;
    scene.complete(with_integrity(failure(lease))).unwrap();
    scene.at(60_000);
    scene.lease("n");
    scene.at(10_000_000);
    assert_eq!((scene.status(job), stored(&scene.hub, job)), ("dead", None));
}

#[test]
fn a_checksum_costs_bytes_with_the_job_and_with_the_answer_and_none_where_it_is_absent() {
    let held = |complete: fn(LeaseRef) -> Complete| {
        let mut scene = Scene::new();
        scene.submit(a_key());
        let lease = scene.lease("n").lease;
        scene.complete(complete(lease)).unwrap();
        [Account::Retained, Account::Answers].map(|account| scene.hub.ledger().get(account))
    };
    let (without, with) = (held(success), held(|lease| with_integrity(success(lease))));
    assert_eq!(with, without.map(|bytes| bytes + INTEGRITY_BYTES));
    assert_eq!(without[1], KEY_BYTES + ANSWER_BYTES + HEAP_HEADER_BYTES + 6);
}

#[test]
fn an_answer_that_is_a_part_of_the_result_has_no_checksum() {
    let text = |bytes: usize| Some(Payload::new(&vec![b'1'; bytes]));
    for (result, error, is_whole) in [(4, 4, true), (5, 4, false), (4, 5, false), (5, 5, false)] {
        let mut scene = Scene::with(|limits| limits.idempotency_cached_bytes_max = 4);
        scene.submit(a_key());
        let lease = scene.lease("n").lease;
        let ended = Complete { result: text(result), error: text(error), is_retryable: false, ..failure(lease) };
        scene.complete(with_integrity(ended)).unwrap();
        assert_eq!(remembered(&mut scene).is_some(), is_whole, "{result} {error}");
    }
}

fn marked(id: u32, content: u64, complete: Complete) -> Complete {
    Complete { mark: ResultMark::IdAndContent { id, content }, ..complete }
}

#[test]
fn another_result_under_a_used_id_is_no_repeat() {
    let mut scene = Scene::new();
    scene.submit(job("k"));
    let lease = scene.lease("n").lease;
    let unleased = |complete: Complete| Complete { lease: None, ..complete };
    let sent = marked(1, 1, success(lease));
    assert!(!scene.complete(sent.clone()).unwrap().is_duplicate);
    for repeat in [sent.clone(), unleased(sent)] {
        assert!(scene.complete(repeat).unwrap().is_duplicate);
    }
    let final_already = Err(Refusal::AlreadyFinal { status: FinalStatus::Completed });
    for other in [marked(1, 2, success(lease)), marked(2, 1, success(lease)), marked(1, 2, failure(lease))] {
        assert_eq!(scene.complete(other.clone()), final_already);
        assert_eq!(scene.complete(unleased(other)), final_already);
    }
}

#[test]
fn another_failure_under_a_used_id_is_no_repeat_of_the_one_that_is_retried() {
    let mut scene = Scene::new();
    scene.submit(job("k"));
    let lease = scene.lease("n").lease;
    let retried = scene.complete(marked(1, 1, failure(lease))).unwrap().status;
    assert!(matches!(retried, CompletedStatus::RetryScheduled(_)));
    let again = scene.complete(marked(1, 1, failure(lease))).unwrap();
    assert!(again.is_duplicate && again.status == retried);
    assert_eq!(scene.complete(marked(1, 2, failure(lease))), Err(Refusal::LeaseLost));
}

#[test]
fn a_result_that_an_earlier_build_accepted_is_repeated_by_its_id() {
    let mut scene = Scene::new();
    scene.submit(job("k"));
    let lease = scene.lease("n").lease;
    scene.complete(Complete { mark: ResultMark::Id(0xffff_ffff_0000_0001), ..success(lease) }).unwrap();
    assert!(scene.complete(marked(1, 5, success(lease))).unwrap().is_duplicate);
    let other = scene.complete(marked(2, 5, success(lease)));
    assert_eq!(other, Err(Refusal::AlreadyFinal { status: FinalStatus::Completed }));
}
