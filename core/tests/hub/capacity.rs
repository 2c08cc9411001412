//! Limits: backpressure, leases at a time, and how much of the past is kept.

use crate::scene::{Scene, failure, heartbeat, job, keyed, pull, success};
use sheratan_core::command::{Command, Complete, OnDuplicate, OnFailed, Submit};
use sheratan_core::effect::Audit;
use sheratan_core::ids::JobSeq;
use sheratan_core::limits::{DEFER_MS, JOB_OVERHEAD_BYTES};
use sheratan_core::outcome::{DropReason, Outcome, Pulled, Refusal, Submitted};
use sheratan_core::payload::Payload;
use sheratan_core::time::Millis;

fn sized(bytes: usize) -> Submit {
    Submit { params: Payload::new(&vec![b'1'; bytes]), ..job("k") }
}

#[test]
fn the_queue_takes_jobs_up_to_its_limit_and_refuses_one_more() {
    let mut scene = Scene::with(|limits| limits.queue_depth_max = 3);
    // What waits for an instant counts like what waits for a node.
    scene.submit(job("k"));
    scene.submit(Submit { delay_ms: Millis::new(10), ..job("k") });
    scene.submit(job("k"));
    let digest = scene.hub.digest();
    scene.audits();
    assert_eq!(scene.try_submit(job("k")), Err(Refusal::QueueFull { depth: 3, depth_max: 3 }));
    assert_eq!(
        scene.audits(),
        [Audit::BackpressureDrop { reason: DropReason::QueueDepth, queue_depth: 3, queue_depth_max: 3 }]
    );
    assert_eq!(scene.hub.digest(), digest, "a refusal changes nothing");
    // A leased job does not wait.
    let lease = scene.lease("a").lease;
    scene.submit(job("k"));
    assert!(scene.try_submit(job("k")).is_err());
    scene.succeed(lease);
    assert!(scene.try_submit(job("k")).is_err());
}

#[test]
fn the_queue_takes_bytes_up_to_its_limit_and_refuses_one_more() {
    let mut scene = Scene::with(|limits| limits.queue_bytes_max = 100);
    scene.submit(sized(60));
    let refusal = Refusal::QueueBytesFull { bytes: 60, bytes_max: 100, depth: 1 };
    assert_eq!(scene.try_submit(sized(41)), Err(refusal));
    scene.submit(sized(40));
    scene.submit(sized(0));
    assert_eq!(scene.hub.counts().waiting_bytes, 100);
    scene.lease("a");
    assert_eq!(scene.hub.counts().waiting_bytes, 40);
    scene.submit(sized(60));
}

#[test]
fn a_superseded_job_makes_room_for_its_own_depth_and_bytes_and_no_more() {
    let under_key = |payload: u8, bytes: usize| {
        let submit = keyed("key", payload, OnDuplicate::LatestWins, OnFailed::SameResult);
        Submit { params: Payload::new(&vec![b'1'; bytes]), ..submit }
    };
    let mut scene = Scene::with(|limits| (limits.queue_depth_max, limits.queue_bytes_max) = (2, 100));
    let first = scene.submit(under_key(1, 30));
    scene.submit(sized(50));
    let refusal = Refusal::QueueBytesFull { bytes: 80, bytes_max: 100, depth: 2 };
    assert_eq!(scene.try_submit(under_key(2, 51)), Err(refusal));
    assert_eq!(scene.status(first), "queued", "what is refused supersedes nothing");
    let second = scene.submit(under_key(2, 50));
    assert_eq!((scene.status(first), scene.hub.counts().waiting_bytes), ("superseded", 100));
    // A leased job waits no more, so superseding it makes no room.
    scene.pull("a", 2);
    scene.submit(sized(10));
    scene.submit(sized(10));
    assert_eq!(scene.try_submit(under_key(3, 0)), Err(Refusal::QueueFull { depth: 2, depth_max: 2 }));
    assert_eq!(scene.status(second), "leased");
}

#[test]
fn a_limit_that_is_lowered_refuses_until_enough_has_left() {
    let mut scene = Scene::new();
    (0..4).for_each(|_| _ = scene.submit(job("k")));
    scene.limit(|limits| limits.queue_depth_max = 2);
    for depth in [4, 3, 2] {
        assert_eq!(scene.try_submit(job("k")), Err(Refusal::QueueFull { depth, depth_max: 2 }));
        scene.lease("a");
    }
    scene.submit(job("k"));
}

#[test]
fn a_hub_that_is_saturated_gives_no_job_and_says_how_long_to_wait() {
    let mut scene = Scene::with(|limits| limits.inflight_max = 2);
    (0..4).for_each(|_| _ = scene.submit(job("k")));
    let leases = scene.pull("a", 10);
    assert_eq!(leases.len(), 2);
    scene.audits();
    assert_eq!(scene.pull_as(pull("b", 1)), Pulled { leases: vec![], defer_ms: DEFER_MS });
    let event = Audit::InflightSaturated { node: crate::scene::name("b"), inflight: 2 };
    assert_eq!(scene.audits(), [event]);
    scene.succeed(leases[0].lease);
    assert_eq!(scene.pull("b", 10).len(), 1);
}

#[test]
fn a_node_that_is_saturated_gets_no_job_while_others_do() {
    let mut scene = Scene::with(|limits| limits.leases_per_node_max = 2);
    (0..6).for_each(|_| _ = scene.submit(job("k")));
    let leases = scene.pull("a", 10);
    assert_eq!(leases.len(), 2);
    assert_eq!(scene.pull_as(pull("a", 1)), Pulled { leases: vec![], defer_ms: DEFER_MS });
    assert_eq!(scene.pull("b", 1).len(), 1);
    // Whatever ends a lease makes room: a result, a failure, the lease's own end.
    scene.succeed(leases[0].lease);
    assert_eq!(scene.pull("a", 10).len(), 1);
    scene.fail(leases[1].lease);
    assert_eq!(scene.pull("a", 10).len(), 1);
    scene.at(300_000);
    assert_eq!(scene.pull("a", 10).len(), 2);
}

#[test]
fn a_pull_that_finds_nothing_need_not_wait_and_leaves_no_trace() {
    let mut scene = Scene::new();
    let digest = scene.hub.digest();
    assert_eq!(scene.pull_as(pull("a", 1)), Pulled { leases: vec![], defer_ms: Millis::ZERO });
    assert_eq!(scene.hub.digest(), digest);
    assert!(scene.hub.registry().by_name("a").is_none());
}

#[test]
fn a_final_job_is_readable_for_its_retention_and_then_gone() {
    let mut scene = Scene::with(|limits| limits.job_retention_ms = Millis::new(10_000));
    let seq = scene.submit(job("k"));
    let lease = scene.lease("a").lease;
    scene.at(1_000);
    scene.succeed(lease);
    scene.at(10_999);
    assert_eq!(scene.status(seq), "completed");
    scene.at(11_000);
    assert_eq!(scene.status(seq), "gone");
    assert_eq!(scene.complete(success(lease)), Err(Refusal::UnknownJob));
    assert_eq!((scene.hub.counts().retained, scene.hub.counts().retained_bytes), (0, 0));
}

#[test]
fn beyond_their_number_the_final_jobs_that_ended_first_go_first() {
    let mut scene = Scene::with(|limits| limits.retained_jobs_max = 2);
    let seqs: Vec<JobSeq> = (0..4).map(|_| scene.submit(job("k"))).collect();
    let leases = scene.pull("a", 4);
    // The last one submitted ends first.
    for leased in leases.iter().rev() {
        scene.succeed(leased.lease);
    }
    let statuses: Vec<_> = seqs.iter().map(|seq| scene.status(*seq)).collect();
    assert_eq!(statuses, ["completed", "completed", "gone", "gone"]);
    scene.limit(|limits| limits.retained_jobs_max = 1);
    assert_eq!((scene.status(seqs[0]), scene.status(seqs[1])), ("completed", "gone"));
    scene.limit(|limits| limits.retained_jobs_max = 0);
    assert!(scene.hub.queue().is_empty());
}

#[test]
fn beyond_their_bytes_the_final_jobs_that_ended_first_go_first() {
    let one = JOB_OVERHEAD_BYTES + 100 + 10;
    for (bytes_max, kept) in [(2 * one, 2), (2 * one - 1, 1), (one - 1, 0)] {
        let mut scene = Scene::with(|limits| limits.retained_bytes_max = bytes_max);
        for _ in 0..2 {
            scene.submit(sized(100));
            let lease = scene.lease("a").lease;
            scene.complete(Complete { result: Payload::new(&[b'1'; 10]), ..success(lease) }).unwrap();
        }
        let counts = scene.hub.counts();
        assert_eq!((counts.retained, counts.retained_bytes), (kept, kept * one));
    }
}

#[test]
fn the_errors_of_all_attempts_count_among_a_final_jobs_bytes() {
    let mut scene = Scene::new();
    scene.submit(Submit { attempts_max: Some(2), ..sized(100) });
    for attempt in 1..=2 {
        scene.at(attempt * 15_000);
        let lease = scene.lease("a").lease;
        scene.complete(Complete { error: Payload::new(&[b'1'; 20]), ..failure(lease) }).unwrap();
    }
    // The last error is the job's own as well.
    assert_eq!(scene.hub.counts().retained_bytes, JOB_OVERHEAD_BYTES + 100 + 2 * 20 + 20);
}

/// Whether a snapshot says how many nodes may be known: its fifth kind of record.
fn has_nodes_record(scene: &Scene) -> bool {
    let mut has = false;
    scene.hub.snapshot(|record| has |= record[0] == 5);
    has
}

#[test]
fn no_more_nodes_are_known_than_the_operator_says() {
    let mut scene = Scene::new();
    assert_eq!(scene.hub.registry().nodes_max(), 100_000);
    assert_eq!(scene.apply(Command::LimitNodes(2)), Outcome::Done);
    scene.heartbeat(heartbeat("a"));
    scene.heartbeat(heartbeat("b"));
    let third = || Command::Heartbeat(heartbeat("c"));
    assert_eq!(scene.apply(third()), Outcome::Refused(Refusal::NodesFull));
    scene.heartbeat(heartbeat("a"));
    scene.limit(|limits| limits.inflight_max = 7);
    assert_eq!(scene.hub.registry().nodes_max(), 2, "the other limits leave it as it is");
    assert_eq!(scene.apply(Command::LimitNodes(3)), Outcome::Done);
    assert!(matches!(scene.apply(third()), Outcome::Heard { .. }));
    // A hub that is under the default limit again writes the snapshots of one that always was.
    assert_eq!(scene.apply(Command::LimitNodes(100_000)), Outcome::Done);
    assert!(!has_nodes_record(&scene));
    assert_eq!(scene.apply(Command::LimitNodes(5)), Outcome::Done);
    assert!(has_nodes_record(&scene));
}

#[test]
fn idempotency_keys_of_final_jobs_make_room_and_others_do_not() {
    let key = |text: &str| keyed(text, 1, OnDuplicate::SameResult, OnFailed::SameResult);
    let mut scene = Scene::with(|limits| limits.idempotency_keys_max = 2);
    scene.submit(key("one"));
    scene.submit(key("two"));
    assert_eq!(scene.try_submit(key("three")), Err(Refusal::KeysFull { keys_max: 2 }));
    scene.submit(job("k"));
    let lease = scene.lease("a").lease;
    scene.succeed(lease);
    scene.submit(key("three"));
    assert_eq!(scene.hub.dedup().len(), 2);
    assert_eq!(scene.try_submit(key("one")), Err(Refusal::KeysFull { keys_max: 2 }), "the oldest was forgotten");
    assert!(matches!(scene.try_submit(key("two")), Ok(Submitted::InProgress { .. })));
}

#[test]
fn whatever_waits_and_runs_is_counted_once() {
    let mut scene = Scene::new();
    scene.heartbeat(heartbeat("a"));
    scene.submit(Submit { delay_ms: Millis::new(5), ..sized(7) });
    scene.submit(sized(11));
    scene.submit(sized(13));
    let leases = scene.pull("a", 1);
    let counts = scene.hub.counts();
    assert_eq!((counts.scheduled, counts.queued, counts.leased, counts.retained), (1, 1, 1, 0));
    assert_eq!(counts.waiting_bytes, 7 + 13);
    assert_eq!(scene.hub.registry().by_name("a").unwrap().leases(), 1);
    scene.succeed(leases[0].lease);
    let counts = scene.hub.counts();
    assert_eq!((counts.scheduled, counts.queued, counts.leased, counts.retained), (1, 1, 0, 1));
    assert_eq!(scene.hub.registry().by_name("a").unwrap().leases(), 0);
}
