//! Bytes under lease: a job that would exceed their limit waits, and one that exceeds it alone runs alone.

use crate::scene::{Scene, job, name, names, pull};
use sheratan_core::explain::Reason;
use sheratan_core::limits::{DEFER_MS, DEFER_MS_MIN, HEAP_HEADER_BYTES, JOB_BYTES, RUN_BYTES};
use sheratan_core::{Account, JobSeq, Millis, Payload, Priority, Pull, Pulled, Refusal, Submit, WaiterId};

fn sized(bytes: usize) -> Submit {
    Submit { params: Some(Payload::new(&vec![b'1'; bytes])), ..job("k") }
}

/// What a job of so many bytes is charged while it waits.
const fn waiting(bytes: u64) -> u64 {
    JOB_BYTES + HEAP_HEADER_BYTES + bytes
}

/// What it is charged under a lease of a node with a name of one letter.
const fn leased(bytes: u64) -> u64 {
    waiting(bytes) + RUN_BYTES + HEAP_HEADER_BYTES + 1
}

fn bytes_max(bytes: u64) -> Scene {
    Scene::with(|limits| limits.inflight_bytes_max = bytes)
}

fn defers(pulled: &Pulled) -> bool {
    pulled.leases.is_empty() && pulled.defer_ms == DEFER_MS
}

#[test]
fn jobs_are_leased_up_to_the_limit_of_their_bytes_and_not_one_byte_beyond_it() {
    for (room, count) in [(leased(60) - 1, 2), (leased(60), 3), (leased(60) + 1, 3)] {
        for kinds in [names(&[]), names(&["k", "other"])] {
            let mut scene = bytes_max(2 * leased(60) + room);
            (0..5).for_each(|_| _ = scene.submit(sized(60)));
            let as_many = Pull { kinds, ..pull("a", 5) };
            assert_eq!(scene.pull_as(as_many.clone()).leases.len(), count, "{room}");
            assert_eq!(scene.hub.ledger().get(Account::Leased), count as u64 * leased(60));
            assert!(defers(&scene.pull_as(as_many)));
            assert!(defers(&scene.pull_as(pull("b", 1))), "another node, which is not registered for nothing");
            assert!(scene.hub.registry().by_name(&name("b")).is_none());
        }
    }
}

#[test]
fn whatever_ends_a_lease_makes_room_for_bytes() {
    let mut scene = bytes_max(2 * leased(60));
    (0..4).for_each(|_| _ = scene.submit(sized(60)));
    let first = scene.pull("a", 4);
    scene.fail(first[0].lease);
    assert_eq!(scene.pull("a", 4).len(), 1);
    scene.succeed(first[1].lease);
    assert_eq!(scene.pull("a", 4).len(), 1);
}

#[test]
fn a_job_that_does_not_fit_is_not_passed_over_for_a_smaller_one() {
    let mut scene = bytes_max(leased(600) + leased(100));
    let small = scene.submit(sized(100));
    let lease = scene.lease("a").lease;
    let large = scene.submit(sized(700));
    let behind = scene.submit(sized(1));
    assert!(defers(&scene.pull_as(pull("a", 9))));
    scene.succeed(lease);
    assert_eq!(scene.pull_jobs("a", 9), [large, behind][..1].to_vec());
    assert_eq!(scene.status(small), "completed");
}

#[test]
fn a_job_that_exceeds_the_limit_alone_is_refused_and_runs_alone_if_it_waits_already() {
    let mut scene = bytes_max(waiting(60));
    let refusal = Refusal::JobTooLarge { bytes: waiting(61), bytes_max: waiting(60) };
    assert_eq!(scene.try_submit(sized(61)), Err(refusal));
    scene.limit(|limits| limits.queue_depth_max = 0);
    assert!(matches!(scene.try_submit(sized(61)), Err(Refusal::JobTooLarge { .. })), "waiting does not help it");
    scene.limit(|limits| limits.queue_depth_max = 9);
    let exact = scene.submit(sized(60));
    let other = scene.submit(Submit { priority: Some(Priority::Low), ..sized(60) });
    let lease = scene.lease("a");
    assert_eq!((lease.lease.job, scene.hub.ledger().get(Account::Leased)), (exact, leased(60)));
    assert!(defers(&scene.pull_as(pull("a", 9))));
    scene.succeed(lease.lease);
    assert_eq!(scene.pull_jobs("a", 9), [other]);
}

#[test]
fn a_letter_that_exceeds_the_limit_alone_is_not_requeued() {
    let mut scene = Scene::new();
    scene.submit(Submit { attempts_max: Some(1), ..sized(100) });
    let lease = scene.lease("a").lease;
    scene.fail(lease);
    scene.limit(|limits| limits.inflight_bytes_max = waiting(50));
    let requeued = scene.apply(sheratan_core::Command::Requeue(lease.job));
    assert!(matches!(requeued, sheratan_core::Outcome::Refused(Refusal::JobTooLarge { .. })), "{requeued:?}");
}

#[test]
fn an_explanation_names_the_bytes_under_lease_as_long_as_they_keep_the_job() {
    let mut scene = bytes_max(2 * leased(60));
    let jobs: Vec<JobSeq> = (0..3).map(|_| scene.submit(sized(60))).collect();
    let leases = scene.pull("a", 9);
    let reasons = |scene: &Scene| scene.hub.explain(jobs[2]).unwrap().reasons;
    let full = Reason::HubBytesFull { bytes: 2 * leased(60), bytes_max: 2 * leased(60) };
    assert_eq!(reasons(&scene), [full]);
    scene.limit(|limits| limits.inflight_bytes_max = 3 * leased(60));
    assert!(matches!(reasons(&scene)[..], [Reason::Turn { .. }]));
    scene.limit(|limits| limits.inflight_bytes_max = 3 * leased(60) - 1);
    assert!(matches!(reasons(&scene)[..], [Reason::HubBytesFull { .. }]));
    scene.succeed(leases[0].lease);
    assert!(matches!(reasons(&scene)[..], [Reason::Turn { .. }]));
    assert_eq!(scene.pull_jobs("a", 9), [jobs[2]]);
}

#[test]
fn a_long_poll_is_woken_when_the_job_that_it_waits_for_fits() {
    let mut scene = bytes_max(leased(600));
    scene.submit(sized(500));
    let lease = scene.lease("a").lease;
    assert!(scene.hub.park(WaiterId(1), &pull("b", 1)));
    assert!(scene.hub.park(WaiterId(2), &Pull { kinds: names(&["other"]), ..pull("c", 1) }));
    scene.submit(sized(500));
    assert_eq!(scene.woken(), [0; 0], "its job does not fit");
    scene.submit(job("other"));
    assert_eq!(scene.woken(), [0; 0], "nor does that of another kind");
    scene.limit(|limits| limits.inflight_bytes_max = 2 * leased(600));
    assert_eq!(scene.woken().len(), 2);
    scene.succeed(lease);
}

#[test]
fn a_hub_whose_bytes_are_under_lease_defers_until_enough_leases_end_at_the_pace_of_the_last_minute() {
    let mut scene = bytes_max(4 * leased(60));
    (0..200).for_each(|_| _ = scene.submit(sized(60)));
    // One every two seconds.
    for n in 1..=60 {
        scene.at(n * 2_000);
        let lease = scene.lease("a").lease;
        scene.succeed(lease);
    }
    scene.pull("a", 9);
    let deferrals = |scene: &Scene| {
        let waits = (0..2_000).map(|number| scene.hub.defer_for(scene.hub.now(), &name("b"), number));
        let waits: std::collections::BTreeSet<Millis> = waits.collect();
        (waits.first().unwrap().get(), waits.last().unwrap().get())
    };
    let (least, most) = deferrals(&scene);
    assert!((1_800..=2_100).contains(&least) && most <= 3_200, "{least} to {most}");
    // Two of the four have to end after the limit was lowered.
    scene.limit(|limits| limits.inflight_bytes_max = 3 * leased(60));
    let (least, most) = deferrals(&scene);
    assert!((3_600..=4_200).contains(&least) && most <= 6_400 && least > DEFER_MS_MIN.get(), "{least} to {most}");
}
