//! Idempotency keys: their limits, and the answers to repeats; the table of the wire contract is in `tests/histories`.

use crate::scene::{Scene, failure, job, keyed, names, restore, success, zone};
use sheratan_core::limits::{ANSWER_BYTES, CLASSES_MAX, CLASSES_PER_ZONE_MAX, HEAP_HEADER_BYTES, KEY_BYTES};
use sheratan_core::{
    Account, Complete, Idempotency, JobSeq, Millis, OnDuplicate, OnFailed, Payload, Refusal, Submit, Submitted,
};

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

fn a_key(key: &str) -> Submit {
    keyed(key, 1, OnDuplicate::SameResult, OnFailed::SameResult)
}

/// A key that is remembered for so long after its job ended.
fn a_key_for(key: &str, ms: u64) -> Submit {
    let submit = a_key(key);
    let idempotency = submit.idempotency.map(|key| Idempotency { ttl_ms: Some(Millis::new(ms)), ..key });
    Submit { idempotency, ..submit }
}

/// A job is submitted under the key and ends with this result.
fn spend(scene: &mut Scene, submit: Submit, result: &[u8]) {
    scene.submit(submit);
    let lease = scene.lease("a").lease;
    scene.complete(Complete { result: Some(Payload::new(result)), ..success(lease) }).expect("the lease is the job's");
}

/// What a repeat is answered, `gone` if it has no answer any more; `None` if the key is forgotten.
fn answer(scene: &mut Scene, key: &str) -> Option<String> {
    match scene.try_submit(a_key(key)) {
        Ok(Submitted::Final { result, .. }) => {
            let text = result.map(|result| String::from_utf8(result.as_bytes().to_vec()).expect("it is a text"));
            Some(text.unwrap_or_else(|| "gone".to_owned()))
        }
        Ok(Submitted::Accepted { .. }) => None,
        other => panic!("neither answered nor accepted: {other:?}"),
    }
}

/// The limit of an account with room for so many keys and so many answers of five bytes.
fn room_for(keys: u64, answers: u64) -> u64 {
    keys * KEY_BYTES + answers * (ANSWER_BYTES + HEAP_HEADER_BYTES + 5)
}

#[test]
fn a_key_with_a_time_of_its_own_follows_the_hubs_limit_when_that_is_changed() {
    for (changed_ms, forgotten_at_ms) in [(5_000, 5_000), (20_000, 10_000)] {
        let mut scene = Scene::with(|limits| limits.idempotency_ttl_ms = Millis::new(8_000));
        spend(&mut scene, a_key_for("own", 10_000), b"11111");
        scene.limit(|limits| limits.idempotency_ttl_ms = Millis::new(changed_ms));
        scene.at(forgotten_at_ms - 1);
        assert_eq!((scene.hub.dedup().len(), scene.hub.dedup().is_empty()), (1, false), "{changed_ms}");
        scene.at(forgotten_at_ms);
        assert_eq!((scene.hub.dedup().len(), scene.hub.dedup().is_empty()), (0, true), "{changed_ms}");
    }
}

#[test]
fn answers_go_oldest_first_when_their_limit_is_lowered() {
    let mut scene = Scene::new();
    (1..=3).for_each(|n| spend(&mut scene, a_key(&n.to_string()), b"11111"));
    scene.limit(|limits| limits.answers_bytes_max = room_for(3, 1));
    assert_eq!(["1", "2", "3"].map(|key| answer(&mut scene, key).unwrap()), ["gone", "gone", "11111"]);
}

#[test]
fn answers_go_oldest_first_in_a_restored_hub_as_well() {
    let too_large = [b'2'; 60];
    let histories: [&[&[u8]]; 4] =
        [&[b"11111"], &[b"11111", &too_large], &[&too_large, b"11111"], &[&too_large, &too_large, b"11111"]];
    for before in histories {
        let mut scene = Scene::with(|limits| {
            limits.idempotency_cached_bytes_max = 50;
            limits.answers_bytes_max = room_for(before.len() as u64 + 2, 2);
        });
        for (n, result) in before.iter().enumerate() {
            spend(&mut scene, a_key(&format!("before {n}")), result);
        }
        let mut hub = restore(&scene.hub);
        hub.serve();
        scene.hub = hub;
        spend(&mut scene, a_key("x"), b"33333");
        spend(&mut scene, a_key("y"), b"44444");
        for n in 0..before.len() {
            assert_eq!(answer(&mut scene, &format!("before {n}")).as_deref(), Some("gone"), "{before:?}");
        }
        assert_eq!(["x", "y"].map(|key| answer(&mut scene, key).unwrap()), ["33333", "44444"], "{before:?}");
    }
}

#[test]
fn keys_may_be_beyond_the_limit_of_their_answers() {
    let mut scene = Scene::with(|limits| limits.answers_bytes_max = KEY_BYTES);
    (0..3).for_each(|n| spend(&mut scene, a_key(&n.to_string()), b"11111"));
    assert_eq!(scene.hub.ledger().get(Account::Answers), 3 * KEY_BYTES);
    assert_eq!(answer(&mut scene, "0").as_deref(), Some("gone"));
}

#[test]
fn an_answer_is_charged_with_its_result_and_its_error() {
    let mut scene = Scene::new();
    scene.submit(Submit { attempts_max: Some(1), ..a_key("both") });
    let lease = scene.lease("a").lease;
    let (result, error) = (Some(Payload::new(b"11111")), Some(Payload::new(b"2222222")));
    scene.complete(Complete { result, error, ..failure(lease) }).expect("the lease is the job's");
    let expected = KEY_BYTES + ANSWER_BYTES + 2 * HEAP_HEADER_BYTES + 5 + 7;
    assert_eq!(scene.hub.ledger().get(Account::Answers), expected);
}

#[test]
fn answers_are_found_and_go_in_their_order_after_many_keys_in_between_are_gone() {
    // The first keys lose their answers to the limit before the keys behind them are gone.
    for stripped in [false, true] {
        let mut scene = Scene::new();
        spend(&mut scene, a_key("first"), b"11111");
        for n in 0..150 {
            spend(&mut scene, a_key_for(&format!("short {n}"), 1_000), b"22222");
        }
        if stripped {
            scene.limit(|limits| limits.answers_bytes_max = room_for(151, 50));
            scene.limit(|limits| limits.answers_bytes_max = u64::MAX);
        }
        scene.at(1_000);
        assert_eq!(scene.hub.dedup().len(), 1);
        scene.limit(|limits| limits.answers_bytes_max = room_for(4, 2));
        (0..3).for_each(|n| spend(&mut scene, a_key(&format!("last {n}")), b"33333"));
        assert!(scene.hub.ledger().get(Account::Answers) <= room_for(4, 2), "stripped: {stripped}");
        let found = ["first", "last 0", "last 1", "last 2"].map(|key| answer(&mut scene, key).unwrap());
        assert_eq!(found, ["gone", "gone", "33333", "33333"], "stripped: {stripped}");
    }
}

#[test]
fn a_class_that_a_superseded_job_leaves_is_room_for_the_next_ones() {
    let with = |key: Option<&str>, zone_name: &str, n: usize| {
        let submit = key.map_or_else(|| job("k"), |key| latest(key, n as u8));
        Submit { zone: zone(zone_name), requires: names(&[&format!("r{n}")]), ..submit }
    };
    // A zone is full of classes, and one of the others is full of them as well.
    let zones = CLASSES_MAX / CLASSES_PER_ZONE_MAX;
    let mut scene = Scene::new();
    for n in 0..CLASSES_MAX - 1 {
        scene.submit(with(None, &format!("z{}", n % zones), n));
    }
    let last = CLASSES_MAX - 1;
    scene.submit(with(Some("key"), &format!("z{}", last % zones), last));
    // The only job of its class leaves it: for one of the same zone, but not for one of a zone that is full.
    let refusal = scene.try_submit(with(Some("key"), "z0", 5_000));
    assert!(matches!(refusal, Err(Refusal::ClassesFull { .. })), "{refusal:?}");
    scene.submit(with(Some("key"), &format!("z{}", last % zones), 5_001));
    scene.submit(with(Some("key"), "another", 5_002));
    // A class that other jobs are of stays.
    scene.submit(with(None, "another", 5_002));
    let refusal = scene.try_submit(with(Some("key"), "another", 5_003));
    assert!(matches!(refusal, Err(Refusal::ClassesFull { .. })), "{refusal:?}");
}

/// A flood of fresh keys, each of whose jobs ends at once, against a store that is full: honest work that is repeated
/// within the floor is done once; the flood is refused instead.
#[test]
fn a_flood_of_fresh_keys_makes_no_work_of_the_last_ten_minutes_run_twice() {
    const KEYS_MAX: u64 = 300;
    const FLOOR_MS: u64 = 600_000;
    let mut scene = Scene::with(|limits| limits.idempotency_keys_max = KEYS_MAX);
    let (mut honest, mut refused, mut fresh) = (Vec::new(), 0, 0);
    for minute in 0..40 {
        for second in 0..60 {
            let now = (minute * 60 + second) * 1_000;
            scene.at(now);
            if second == 0 {
                let key = format!("honest {minute}");
                if let Ok(Submitted::Accepted { job, .. }) = scene.try_submit(a_key(&key)) {
                    let lease = scene.lease("n").lease;
                    assert_eq!(lease.job, job);
                    scene.succeed(lease);
                    honest.push((key, job, now));
                }
            }
            for _ in 0..3 {
                fresh += 1;
                match scene.try_submit(a_key(&format!("fresh {fresh}"))) {
                    Ok(_) => {
                        _ = {
                            let lease = scene.lease("n").lease;
                            scene.succeed(lease)
                        }
                    }
                    Err(refusal) => {
                        assert!(matches!(refusal, Refusal::KeysFull { .. }), "{refusal:?}");
                        refused += 1;
                    }
                }
            }
            for (key, job, ended_at) in honest.iter().filter(|(.., ended_at)| now - ended_at < FLOOR_MS) {
                match scene.try_submit(a_key(key)) {
                    Ok(Submitted::Final { job: same, .. }) => assert_eq!(same, *job),
                    other => panic!("{key} of {} s ago: {other:?}", (now - ended_at) / 1_000),
                }
            }
        }
    }
    assert!(scene.hub.dedup().len() as u64 <= KEYS_MAX);
    assert!(honest.len() > 3 && refused > 1_000, "{} honest ones, {refused} refused", honest.len());
}
