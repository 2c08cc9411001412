//! Clients: the nodes that submits name, whose the results are.

use crate::scene::{Scene, job, keyed, name, restore};
use sheratan_core::limits::{CLIENT_BYTES, HEAP_HEADER_BYTES, TERMS_BYTES};
use sheratan_core::{Account, Hub, JobSeq, Millis, OnDuplicate, OnFailed, Submit, Submitted};

fn by(client: &str) -> Submit {
    Submit { client: Some(name(client)), ..job("k") }
}

fn client_of(scene: &Scene, seq: JobSeq) -> Option<String> {
    scene.hub.queue().get(seq).expect("it is held").client().map(ToString::to_string)
}

#[test]
fn a_job_names_its_client_from_its_submit_to_its_end() {
    let mut scene = Scene::new();
    let (own, others, nobodys) = (scene.submit(by("a")), scene.submit(by("b")), scene.submit(job("k")));
    let lease = scene.lease("n").lease;
    assert_eq!(client_of(&scene, own).as_deref(), Some("a"));
    scene.succeed(lease);
    let clients = [own, others, nobodys].map(|seq| client_of(&scene, seq));
    assert_eq!(clients, [Some("a".to_owned()), Some("b".to_owned()), None]);
}

#[test]
fn a_job_is_charged_for_its_client_also_if_another_names_it() {
    let mut scene = Scene::new();
    scene.submit(job("k"));
    let without = scene.hub.ledger().get(Account::Waiting);
    for number in 1..=3 {
        scene.submit(by("abc"));
        let more = scene.hub.ledger().get(Account::Waiting) - (number + 1) * without;
        assert_eq!(more, number * (TERMS_BYTES + CLIENT_BYTES + HEAP_HEADER_BYTES + 3));
    }
}

#[test]
fn a_job_whose_client_does_not_fit_into_the_bytes_is_refused_and_one_byte_less_is_accepted() {
    let mut scene = Scene::new();
    scene.submit(by("abc"));
    let bytes = scene.hub.ledger().get(Account::Waiting);
    scene.limit(|limits| limits.queue_bytes_max = 2 * bytes);
    assert!(scene.try_submit(by("abcd")).is_err());
    scene.submit(by("abc"));
}

#[test]
fn a_repeat_that_names_another_client_refers_to_the_same_job() {
    let mut scene = Scene::new();
    let of = |client: &str| Submit {
        client: Some(name(client)),
        ..keyed("key", 1, OnDuplicate::SameResult, OnFailed::SameResult)
    };
    let first = scene.submit(of("a"));
    assert_eq!(scene.try_submit(of("b")), Ok(Submitted::InProgress { job: first }));
    assert_eq!(client_of(&scene, first).as_deref(), Some("a"));
}

/// The jobs whose results a client reads from a position on.
fn results(scene: &Hub, client: &str, position: u64) -> Vec<u64> {
    scene.queue().results_from(client, position).map(|job| job.seq().get()).collect()
}

#[test]
fn results_are_read_in_the_order_of_ending_and_survive_a_restart_from_a_snapshot() {
    let mut scene = Scene::new();
    let [late, early] = ["a", "a"].map(|client| scene.submit(Submit { attempts_max: Some(1), ..by(client) }));
    let leases: Vec<_> = scene.pull("n", 2).into_iter().map(|leased| leased.lease).collect();
    scene.fail(leases[1]);
    scene.succeed(leases[0]);
    scene.submit(Submit { ttl_ms: Some(Millis::ZERO), ..by("a") });
    let order = [early.get(), late.get(), 3];
    assert_eq!(results(&scene.hub, "a", 0), order);
    let restored = restore(&scene.hub);
    for (position, left) in [(0, &order[..]), (1, &order[1..]), (3, &[])] {
        assert_eq!(results(&restored, "a", position), left);
    }
    assert_eq!((restored.queue().results_end(), restored.queue().results_unread_by("a")), (3, 3));
}

#[test]
fn a_hub_that_starts_takes_every_final_number_that_is_gone_for_a_result_of_any_client() {
    let mut scene = Scene::with(|limits| limits.dead_jobs_max = 0);
    let submit = |scene: &mut Scene, client, ok| {
        scene.submit(Submit { attempts_max: Some(1), ..by(client) });
        let lease = scene.lease("n").lease;
        if ok { scene.succeed(lease) } else { scene.fail(lease) }
    };
    for (client, ok) in [("a", true), ("b", false), ("a", true), ("a", true)] {
        submit(&mut scene, client, ok);
    }
    let dropped = |hub: &Hub| ["a", "b"].map(|client| hub.queue().results_dropped_before(client));
    assert_eq!(dropped(&scene.hub), [0, 2]);
    let restored = restore(&scene.hub);
    assert_eq!(dropped(&restored), [2, 2]);
    assert_eq!(restored.queue().results_unread(), 3);
}
