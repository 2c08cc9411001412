//! Clients: the nodes that submits name, whose the results are.

use crate::scene::{Scene, job, keyed, name};
use sheratan_core::limits::{CLIENT_BYTES, HEAP_HEADER_BYTES, TERMS_BYTES};
use sheratan_core::{Account, JobSeq, OnDuplicate, OnFailed, Submit, Submitted};

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
