//! The text of each answer and each effect: a change of the language is read here first.

use sheratan_core::{
    Audit, Completed, CompletedStatus, DropReason, Effect, Extended, FinalStatus, JobSeq, LeaseRef, Leased, LeftOut,
    Millis, Name, NodeIndex, Outcome, Payload, Pulled, Refusal, Submitted, Timestamp, WaiterId, Zone,
};
use sheratan_history::{print_effects, print_outcome};

const JOB: JobSeq = JobSeq::new(7);

fn at(ms: u64) -> Timestamp {
    Timestamp::from_millis(ms)
}

fn name(text: &str) -> Name {
    Name::new(text).expect("a valid name")
}

fn leased(job: u64) -> Leased {
    Leased { lease: LeaseRef { job: JobSeq::new(job), generation: 2 }, until: at(9) }
}

fn ended(result: Option<Payload>, left_out: Option<LeftOut>) -> Submitted {
    let (status, error, integrity) = (FinalStatus::Completed, None, None);
    Submitted::Final { job: JOB, status, result, error, integrity, left_out }
}

#[test]
fn each_outcome_has_its_text() {
    let left_out = |left_out| ended(None, Some(left_out));
    let ended = |result| ended(result, None);
    let submitted = [
        (Submitted::Accepted { job: JOB, supersedes: None, replaces: None }, "7"),
        (Submitted::Accepted { job: JOB, supersedes: Some(JobSeq::new(3)), replaces: None }, "7 supersedes=3"),
        (Submitted::Accepted { job: JOB, supersedes: None, replaces: Some(JobSeq::new(3)) }, "7 replaces=3"),
        (Submitted::InProgress { job: JOB }, "in_progress 7"),
        (ended(None), "final 7 completed"),
        (left_out(LeftOut::InJob), "final 7 completed left_out=in_job"),
        (left_out(LeftOut::Gone(Some(at(9)))), "final 7 completed left_out=gone@9"),
        (left_out(LeftOut::Gone(None)), "final 7 completed left_out=gone"),
        (ended(Some(Payload::new(b"{\"a\":\"b c\"}"))), "final 7 completed result={\"a\":\"b c\"}"),
    ];
    let pulled = |leases, ms| Outcome::Pulled(Pulled { node: None, leases, defer_ms: Millis::new(ms), withheld: None });
    let completed = |status, is_duplicate| Outcome::Completed(Completed { job: JOB, status, is_duplicate });
    let table = [
        (Outcome::Done, "done"),
        (Outcome::Heard { node: NodeIndex::new(4) }, "node 4"),
        (pulled(vec![], 0), "nothing"),
        (pulled(vec![], 500), "nothing defer=500"),
        (pulled(vec![leased(1), leased(2)], 0), "1@2 until=9, 2@2 until=9"),
        (Outcome::Extended(vec![]), "nothing"),
        (
            Outcome::Extended(vec![
                Extended::Until { until: Timestamp::NEVER, is_last: true },
                Extended::LeaseLost,
                Extended::Cancelled,
            ]),
            "until=NEVER last, lost, cancelled",
        ),
        (completed(CompletedStatus::Final(FinalStatus::Dead), false), "dead"),
        (completed(CompletedStatus::RetryScheduled(at(5)), true), "retry at=5 again"),
    ];
    let submitted = submitted.into_iter().map(|(submitted, text)| (Outcome::Submitted(submitted), text));
    for (outcome, text) in table.into_iter().chain(submitted) {
        assert_eq!(print_outcome(&outcome), text);
    }
}

#[test]
fn each_refusal_has_its_text() {
    let zone = Zone::new(name("far west"));
    let table = [
        (Refusal::QueueFull { depth: 1, depth_max: 2 }, "queue_full depth=1 max=2"),
        (
            Refusal::QueueBytesFull { bytes: 1, bytes_max: 2, depth: 3, over: 4 },
            "queue_bytes_full bytes=1 max=2 depth=3 over=4",
        ),
        (Refusal::JobTooLarge { bytes: 3, bytes_max: 2 }, "job_too_large bytes=3 max=2"),
        (Refusal::NodeTooLarge { bytes: 3, bytes_max: 2 }, "node_too_large bytes=3 max=2"),
        (Refusal::SharedBytesFull { bytes: 1, bytes_max: 2 }, "shared_bytes_full bytes=1 max=2"),
        (
            Refusal::ClassesFull { classes: 1, zone, zone_classes: 2 },
            "classes_full classes=1 zone=\"far west\" zone_classes=2",
        ),
        (Refusal::NodesFull { nodes: 1, nodes_max: 2 }, "nodes_full nodes=1 max=2"),
        (Refusal::NodeBytesFull { bytes: 1, bytes_max: 2 }, "node_bytes_full bytes=1 max=2"),
        (Refusal::KeysFull { keys: 1, keys_max: 2 }, "keys_full keys=1 max=2"),
        (Refusal::RulesNotTaken, "rules_not_taken"),
        (Refusal::KeyCollision { job: JOB, old_hash_prefix: [0xa, 0, 1, 2] }, "key_collision job=7 old=0a000102"),
        (Refusal::UnknownJob, "unknown_job"),
        (Refusal::LeaseLost, "lease_lost"),
        (Refusal::AlreadyFinal { status: FinalStatus::Superseded }, "already_final superseded"),
    ];
    for (refusal, text) in table {
        assert_eq!(print_outcome(&Outcome::Refused(refusal)), format!("refused {text}"));
    }
}

#[test]
fn each_effect_has_its_text() {
    let node = || name("a b");
    let (old_hash_prefix, new_hash_prefix) = ([1; 4], [2; 4]);
    let audits = [
        (
            Audit::BackpressureDrop { reason: DropReason::Keys, held: 1, max: 2, queue_depth: 3, count: 1 },
            "BACKPRESSURE_DROP at=5 reason=idempotency_store held=1 max=2 depth=3",
        ),
        (
            Audit::InflightSaturated { node: node(), inflight: 2, max: 3 },
            "INFLIGHT_SATURATED at=5 node=\"a b\" inflight=2 max=3",
        ),
        (Audit::ResultUnleased { job: JOB, node: Some(node()) }, "RESULT_UNLEASED at=5 job=7 node=\"a b\""),
        (Audit::ResultUnleased { job: JOB, node: None }, "RESULT_UNLEASED at=5 job=7"),
        (Audit::LeaseReap { job: JOB, node: node(), attempt: 1 }, "LEASE_REAP at=5 job=7 node=\"a b\" attempt=1"),
        (
            Audit::RetryScheduled { job: JOB, attempt: 1, delay_ms: Millis::new(9) },
            "RETRY_SCHEDULED at=5 job=7 attempt=1 delay=9",
        ),
        (Audit::RetryExhausted { job: JOB, attempts: 3 }, "RETRY_EXHAUSTED at=5 job=7 attempts=3"),
        (Audit::IdempotencyHit { job: JOB, key: node(), ended: None }, "IDEMPOTENCY_HIT at=5 job=7"),
        (
            Audit::IdempotencyHit { job: JOB, key: node(), ended: Some(FinalStatus::Dead) },
            "IDEMPOTENCY_HIT at=5 job=7 final",
        ),
        (
            Audit::IdempotencyKeyCollision { key: name("k"), old_hash_prefix, new_hash_prefix },
            "IDEMPOTENCY_KEY_COLLISION at=5 key=k old=01010101 new=02020202",
        ),
        (Audit::NodeRegistered { node: node() }, "NODE_REGISTERED at=5 node=\"a b\""),
        (Audit::NodeOnline { node: node() }, "NODE_ONLINE at=5 node=\"a b\""),
        (Audit::NodeStale { node: node() }, "NODE_STALE at=5 node=\"a b\""),
        (Audit::NodeDead { node: node() }, "NODE_DEAD at=5 node=\"a b\""),
    ];
    for (audit, text) in audits {
        assert_eq!(print_effects(&[Effect::Audit(at(5), audit)]), format!("audit {text}"));
    }
    assert_eq!(print_effects(&[]), "nothing");
    let effects = [Effect::Wake(WaiterId(3)), Effect::Ended { job: JOB, gone: None }];
    assert_eq!(print_effects(&effects), "wake 3, ended 7");
}
