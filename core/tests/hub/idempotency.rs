//! Idempotency keys at the limit of classes; the table of the wire contract is in `tests/histories`.

use crate::scene::{Scene, job, keyed, zone};
use sheratan_core::limits::CLASSES_MAX;
use sheratan_core::{JobSeq, OnDuplicate, OnFailed, Refusal, Submit, Submitted};

fn latest(key: &str, payload: u8) -> Submit {
    keyed(key, payload, OnDuplicate::LatestWins, OnFailed::SameResult)
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
    assert_eq!(
        submitted,
        Ok(Submitted::Accepted { job: JobSeq::new(CLASSES_MAX as u64 + 2), supersedes: Some(old), replaces: None })
    );
}
