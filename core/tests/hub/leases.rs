//! Leases: who may answer for a job, and until when.

use crate::scene::{Scene, at, failure, job, name, pull, success};
use sheratan_core::limits::{LEASE_DURATION_MAX, LEASE_DURATION_MIN, PULL_JOBS_MAX};
use sheratan_core::{
    Audit, Completed, CompletedStatus, Extended, FinalStatus, JobSeq, LeaseRef, Millis, Pull, Refusal, Submit,
    Timestamp,
};

const DONE: CompletedStatus = CompletedStatus::Final(FinalStatus::Completed);

#[test]
fn a_job_is_leased_to_one_node_at_a_time() {
    let mut scene = Scene::new();
    let seq = scene.submit(job("k"));
    assert_eq!(scene.status(seq), "queued");
    let leased = scene.lease("a");
    assert_eq!(leased.lease, LeaseRef { job: seq, generation: 1 });
    assert_eq!(scene.status(seq), "leased");
    assert_eq!(scene.hub.queue().get(seq).unwrap().leased_to(), Some(&name("a")));
    assert!(scene.pull("a", 5).is_empty());
    assert!(scene.pull("b", 5).is_empty());
    assert_eq!(scene.succeed(leased.lease), DONE);
    assert_eq!(scene.status(seq), "completed");
    assert!(scene.pull("b", 5).is_empty());
}

#[test]
fn a_lease_fences_the_ones_before_it() {
    let mut scene = Scene::new();
    let seq = scene.submit(job("k"));
    let first = scene.lease("a");
    scene.at(first.until.as_millis() + 15_000);
    let second = scene.lease("b");
    assert_eq!(second.lease, LeaseRef { job: seq, generation: 2 });
    assert_eq!(scene.complete(success(first.lease)), Err(Refusal::LeaseLost));
    assert_eq!(scene.complete(failure(first.lease)), Err(Refusal::LeaseLost));
    assert_eq!(scene.extend("a", &[first.lease], None), [Extended::LeaseLost]);
    assert_eq!(scene.status(seq), "leased");
    assert_eq!(scene.succeed(second.lease), DONE);
    assert_eq!(scene.complete(success(first.lease)), Err(Refusal::LeaseLost));
}

#[test]
fn a_lease_ends_at_its_instant_and_not_a_millisecond_before() {
    for (ms_before, expected) in
        [(1, Ok(Completed { job: JobSeq::FIRST, status: DONE, is_duplicate: false })), (0, Err(Refusal::LeaseLost))]
    {
        let mut scene = Scene::new();
        scene.at(1_000).submit(job("k"));
        let leased = scene.lease("a");
        assert_eq!(leased.until, at(301_000));
        scene.at(301_000 - ms_before);
        assert_eq!(scene.complete(success(leased.lease)), expected);
    }
}

#[test]
fn an_expired_lease_cannot_complete_its_job() {
    let mut scene = Scene::new();
    let seq = scene.submit(job("k"));
    let leased = scene.lease("a");
    scene.audits();
    scene.at(300_000);
    let reaped = Audit::LeaseReap { job: seq, node: name("a"), attempt: 1 };
    assert!(scene.audits().contains(&reaped));
    assert_eq!(scene.complete(success(leased.lease)), Err(Refusal::LeaseLost));
    assert_eq!(scene.status(seq), "scheduled");
}

#[test]
fn a_lease_that_was_never_given_is_lost() {
    let mut scene = Scene::new();
    let (seq, other) = (scene.submit(job("k")), scene.submit(job("k")));
    let leased = scene.lease("a").lease;
    assert_eq!(leased.job, seq);
    for (job, generation) in [(seq, 0), (seq, 2), (seq, u32::MAX), (other, 0), (other, 1)] {
        let lease = LeaseRef { job, generation };
        assert_eq!(scene.complete(success(lease)), Err(Refusal::LeaseLost), "{lease:?}");
        assert_eq!(scene.extend("a", &[lease], None), [Extended::LeaseLost], "{lease:?}");
    }
    // The lease of one job does not answer for another.
    let mut crossed = success(leased);
    crossed.job = other;
    assert_eq!(scene.complete(crossed), Err(Refusal::LeaseLost));
    let unknown = LeaseRef { job: JobSeq::new(99), generation: 1 };
    assert_eq!(scene.complete(success(unknown)), Err(Refusal::UnknownJob));
    assert_eq!(scene.extend("a", &[unknown], None), [Extended::LeaseLost]);
}

#[test]
fn a_lease_is_its_own_nodes_to_extend_and_to_complete() {
    let mut scene = Scene::new();
    scene.submit(job("k"));
    let lease = scene.lease("a").lease;
    assert_eq!(scene.extend("b", &[lease], None), [Extended::LeaseLost]);
    let mut foreign = success(lease);
    foreign.node = Some(name("b"));
    assert_eq!(scene.complete(foreign.clone()), Err(Refusal::LeaseLost));
    let mut own = success(lease);
    own.node = Some(name("a"));
    assert_eq!(scene.complete(own.clone()).map(|completed| completed.is_duplicate), Ok(false));
    assert_eq!(scene.complete(own).map(|completed| completed.is_duplicate), Ok(true));
    assert_eq!(scene.complete(foreign), Err(Refusal::LeaseLost));
}

#[test]
fn an_extended_lease_lasts_until_its_new_instant() {
    let mut scene = Scene::new();
    let seq = scene.submit(job("k"));
    let lease = scene.lease("a").lease;
    scene.at(299_999);
    assert_eq!(scene.extend("a", &[lease], None), [Extended::Until(at(599_999))]);
    scene.at(599_998);
    assert_eq!(scene.status(seq), "leased");
    scene.at(599_999);
    assert_eq!(scene.status(seq), "scheduled");
    assert_eq!(scene.extend("a", &[lease], None), [Extended::LeaseLost]);
}

#[test]
fn an_extension_never_shortens_a_lease() {
    let mut scene = Scene::new();
    scene.submit(job("k"));
    let leased = scene.lease("a");
    assert_eq!(scene.extend("a", &[leased.lease], Some(5_000)), [Extended::Until(leased.until)]);
}

#[test]
fn each_lease_of_an_extension_is_answered_in_its_place() {
    let mut scene = Scene::new();
    scene.submit(job("k"));
    scene.submit(job("k"));
    let leases: Vec<_> = scene.pull("a", 2).iter().map(|leased| leased.lease).collect();
    scene.succeed(leases[0]);
    scene.at(1);
    let until = Extended::Until(at(10_001));
    // Twice the same lease in one request is harmless.
    let asked = [leases[1], leases[0], leases[1]];
    scene.limit(|limits| limits.lease_duration_ms = Millis::new(1_000));
    let extended = scene.extend("a", &asked, Some(10_000));
    assert_eq!(extended[1], Extended::LeaseLost);
    assert_eq!([extended[0], extended[2]], [Extended::Until(at(300_000)); 2], "{until:?} would be shorter");
}

#[test]
fn a_lease_lasts_as_the_pull_says_else_as_the_job_says_else_as_the_hub_says() {
    let duration = |pull_ms: Option<u64>, job_ms: Option<u64>| {
        let mut scene = Scene::with(|limits| limits.lease_duration_ms = Millis::new(7_000));
        scene.submit(Submit { lease_duration_ms: job_ms.map(Millis::new), ..job("k") });
        let asked = Pull { lease_duration_ms: pull_ms.map(Millis::new), ..pull("a", 1) };
        scene.pull_as(asked).leases[0].until.since(Timestamp::ZERO)
    };
    assert_eq!(duration(Some(3_000), Some(5_000)), Millis::new(3_000));
    assert_eq!(duration(None, Some(5_000)), Millis::new(5_000));
    assert_eq!(duration(None, None), Millis::new(7_000));
    assert_eq!(duration(Some(0), None), LEASE_DURATION_MIN);
    assert_eq!(duration(Some(u64::MAX), None), LEASE_DURATION_MAX);
}

#[test]
fn a_pull_gets_at_most_what_it_asks_for_and_what_one_pull_may() {
    let mut scene = Scene::new();
    for _ in 0..PULL_JOBS_MAX + 10 {
        scene.submit(job("k"));
    }
    scene.limit(|limits| limits.leases_per_node_max = u64::from(PULL_JOBS_MAX) + 10);
    assert_eq!(scene.pull("a", 3).len(), 3);
    assert_eq!(scene.pull("a", 0).len(), 1, "a pull for none is one for one");
    assert_eq!(scene.pull("b", u32::MAX).len(), PULL_JOBS_MAX as usize);
    assert_eq!(scene.pull("a", u32::MAX).len(), 6);
}

#[test]
fn time_never_goes_back() {
    let mut scene = Scene::new();
    scene.at(10_000);
    scene.submit(job("k"));
    scene.at(5_000);
    let seq = scene.submit(job("k"));
    assert_eq!(scene.hub.now(), at(10_000));
    assert_eq!(scene.hub.queue().get(seq).unwrap().submitted_at(), at(10_000));
    assert_eq!(scene.lease("a").until, at(310_000));
    scene.hub.advance(Timestamp::ZERO);
    assert_eq!(scene.hub.now(), at(10_000));
}
