//! Idempotency keys: one job for one key, whoever repeats the submit, however often, and whatever happens to the hub.
// The lists in `clippy.toml` are for the core.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use serde_json::{Value, json};
use sheratan_tests::client::{failure, result};
use sheratan_tests::{Client, Hub, until};
use std::collections::BTreeSet;
use std::fs;
use std::sync::RwLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

const SUBMIT: &str = "/mesh/submit_request";

fn pull(data: &mut Client, kind: &str) -> Value {
    let pulled = data.post("/mesh/pull_requests", &json!({"node_id": "worker", "kinds": [kind]})).ok();
    pulled["jobs"][0].clone()
}

fn keyed(key: &str, more: Value) -> Value {
    let mut body = json!({"kind": "k", "params": {"n": 1}, "idempotency_key": key});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

/// The members of an answer that are asked for.
fn members<const N: usize>(answer: &Value, names: [&str; N]) -> [Value; N] {
    names.map(|name| answer[name].clone())
}

#[test]
fn each_row_of_the_contracts_table_is_answered_as_it_says() {
    let hub = Hub::start();
    let mut data = hub.data();
    let new = data.post(SUBMIT, &keyed("a", json!({}))).ok();
    assert_eq!(members(&new, ["status", "dedup"]), [json!("accepted"), json!(false)]);
    let ids = members(&new, ["job_id", "request_id"]);
    let again = data.post(SUBMIT, &keyed("a", json!({}))).ok();
    assert_eq!(members(&again, ["job_id", "request_id"]), ids);
    assert_eq!(members(&again, ["status", "dedup"]), [json!("in_progress"), json!(true)]);
    assert_eq!(data.get("/mesh/jobs").ok()["jobs"].as_array().unwrap().len(), 1, "nothing was enqueued");

    let collision = data.post(SUBMIT, &keyed("a", json!({"params": {"n": 2}})));
    assert_eq!((collision.status, collision.error().as_str()), (409, "idempotency_key_collision"));
    assert_eq!(collision.json()["existing_job_id"], ids[0]);
    until("the collision is in the audit log", || !hub.audit("IDEMPOTENCY_KEY_COLLISION").is_empty());
    let details = hub.audit("IDEMPOTENCY_KEY_COLLISION")[0]["details"].clone();
    assert_eq!(details["key_prefix"], "a");
    for prefix in ["old_hash_prefix", "new_hash_prefix"] {
        assert_eq!(details[prefix].as_str().map(str::len), Some(8), "{details}");
    }
    assert_ne!(details["old_hash_prefix"], details["new_hash_prefix"]);

    let job = pull(&mut data, "k");
    data.post("/mesh/submit_result", &result(&job, "worker", &json!({"said": "é"}))).ok();
    let first = data.post(SUBMIT, &keyed("a", json!({})));
    let second = data.post(SUBMIT, &keyed("a", json!({"on_failed": "new_job"})));
    assert_eq!(first.body, second.body, "byte for byte");
    let done = first.ok();
    assert_eq!(members(&done, ["job_id", "request_id"]), ids);
    assert_eq!(members(&done, ["status", "dedup", "result"]), [json!("completed"), json!(true), json!({"said": "é"})]);

    let newer = data.post(SUBMIT, &keyed("a", json!({"params": 2, "on_duplicate": "latest_wins"}))).ok();
    assert_eq!(newer["dedup"], false);
    assert_eq!(data.get(&format!("/mesh/jobs/{}", ids[0].as_str().unwrap())).ok()["job"]["status"], "completed");
}

#[test]
fn the_latest_payload_wins_over_a_queued_and_a_leased_job() {
    let hub = Hub::start();
    let mut data = hub.data();
    let submit = |data: &mut Client, n: u64| {
        data.post(SUBMIT, &keyed("a", json!({"params": n, "on_duplicate": "latest_wins"}))).ok()
    };
    let first = submit(&mut data, 1)["job_id"].clone();
    let other = data.post(SUBMIT, &json!({"kind": "k"})).ok()["job_id"].clone();
    let second = submit(&mut data, 2);
    assert_eq!(members(&second, ["supersedes", "status"]), [first.clone(), json!("accepted")]);
    assert_eq!(hub.job(first.as_str().unwrap())["status"], "superseded");
    let job = pull(&mut data, "k");
    assert_eq!(job["job_id"], second["job_id"], "it took the older one's place in line");
    let third = submit(&mut data, 3);
    assert_eq!(third["supersedes"], second["job_id"]);
    let late = data.post("/mesh/submit_result", &result(&job, "worker", &json!("late")));
    assert_eq!((late.status, late.error().as_str()), (409, "lease_lost"));
    let rest: Vec<_> = (0..2).map(|_| pull(&mut data, "k")["job_id"].clone()).collect();
    assert_eq!(rest, [other, third["job_id"].clone()], "the older one did not wait: the newer is last");
}

#[test]
fn a_key_whose_job_ended_without_success_answers_the_same_or_takes_a_new_job() {
    let hub = Hub::start();
    let mut data = hub.data();
    let dead = data.post(SUBMIT, &keyed("dead", json!({}))).ok()["job_id"].clone();
    let mut failed = failure(&pull(&mut data, "k"), "worker", &json!({"code": "E"}));
    failed["retryable"] = json!(false);
    data.post("/mesh/submit_result", &failed).ok();
    let expired = data.post(SUBMIT, &keyed("expired", json!({"ttl_sec": 1}))).ok()["job_id"].clone();
    hub.until_final(expired.as_str().unwrap());
    for (key, job, status) in [("dead", dead, "dead"), ("expired", expired, "expired")] {
        let same = data.post(SUBMIT, &keyed(key, json!({}))).ok();
        assert_eq!(members(&same, ["job_id", "status", "job_status"]), [job.clone(), json!("failed"), json!(status)]);
        let other = data.post(SUBMIT, &keyed(key, json!({"params": 2, "on_failed": "new_job"})));
        assert_eq!((other.status, other.error().as_str()), (409, "idempotency_key_collision"));
        let new = data.post(SUBMIT, &keyed(key, json!({"on_failed": "new_job"}))).ok();
        assert_eq!(members(&new, ["replaces", "dedup", "status"]), [job, json!(false), json!("accepted")]);
        let again = data.post(SUBMIT, &keyed(key, json!({"on_failed": "new_job"}))).ok();
        assert_eq!(members(&again, ["job_id", "status"]), [new["job_id"].clone(), json!("in_progress")]);
    }
}

#[test]
fn payloads_are_compared_as_they_are_and_keys_wherever_they_come_from() {
    let hub = Hub::start();
    let mut data = hub.data();
    let mut send = |header: Option<&str>, body: &str| {
        let header = header.map_or(String::new(), |key| format!("Idempotency-Key: {key}\r\n"));
        let head = format!("POST {SUBMIT} HTTP/1.1\r\nHost: h\r\nX-Sheratan-Token: {}\r\n{header}", hub.token());
        data.send(format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()).as_bytes()).unwrap();
        data.receive().unwrap()
    };
    let missing = send(Some("a"), r#"{"kind":"k"}"#).ok()["job_id"].clone();
    let null = send(None, r#"{"params":null,"idempotency_key":" a ","kind":"k"}"#).ok();
    assert_eq!(members(&null, ["job_id", "dedup"]), [missing, json!(true)], "null is absent, and keys are trimmed");
    let empty = send(Some("a"), r#"{"kind":"k","params":{}}"#);
    assert_eq!((empty.status, empty.error().as_str()), (409, "idempotency_key_collision"), "missing is not {{}}");
    assert_eq!(send(Some("a"), r#"{"kind":"other"}"#).status, 409, "the kind is part of the payload");

    let first = send(None, r#"{"kind":"k","params":{"a":1.0,"b":[1,2]},"idempotency_key":"b"}"#).ok()["job_id"].clone();
    let same =
        send(Some("b"), r#"{"idempotency_key":"b","priority":"low","params":{ "b":[1, 2],"a":1.0 },"kind":"k"}"#);
    assert_eq!(same.ok()["job_id"], first, "spaces, order and other members are not part of it");
    let both = send(Some("b"), r#"{"kind":"k","idempotency_key":"c"}"#);
    assert_eq!((both.status, both.error().as_str()), (400, "bad_request"));
}

#[test]
fn a_refused_submit_binds_no_key_and_a_known_key_is_answered_while_the_queue_is_full() {
    let hub = Hub::start_with(&["--max-queue-depth", "1"]);
    let mut data = hub.data();
    for refused in [json!({"priority": "urgent"}), json!({"delay_ms": -1}), json!({"kind": ""})] {
        assert_eq!(data.post(SUBMIT, &keyed("a", refused)).status, 400);
    }
    let waits = data.post(SUBMIT, &keyed("waits", json!({}))).ok()["job_id"].clone();
    let full = data.post(SUBMIT, &keyed("a", json!({})));
    assert_eq!((full.status, full.error().as_str()), (429, "backpressure"));
    let batch = json!({"requests": [keyed("a", json!({})), keyed("waits", json!({}))]});
    let answers = data.post("/mesh/submit_requests", &batch).ok()["results"].clone();
    assert_eq!(members(&answers[0], ["status_code"]), [json!(429)]);
    assert_eq!(members(&answers[1], ["job_id", "status"]), [waits.clone(), json!("in_progress")]);
    let newer = data.post(SUBMIT, &keyed("waits", json!({"params": 2, "on_duplicate": "latest_wins"}))).ok();
    assert_eq!(newer["supersedes"], waits, "it adds nothing to a full queue");
    pull(&mut data, "k");
    let accepted = data.post(SUBMIT, &keyed("a", json!({"params": "another"}))).ok();
    assert_eq!(members(&accepted, ["status", "dedup"]), [json!("accepted"), json!(false)]);
}

#[test]
fn a_key_and_its_answer_survive_kills_snapshots_and_the_truncation_of_the_journal() {
    let mut hub = Hub::start_with(&["--journal-segment-bytes", "1MiB"]);
    let mut data = hub.data();
    let open = data.post(SUBMIT, &keyed("open", json!({"kind": "open"}))).ok()["job_id"].clone();
    data.post(SUBMIT, &keyed("done", json!({}))).ok();
    let job = pull(&mut data, "k");
    data.post("/mesh/submit_result", &result(&job, "worker", &json!({"said": 1.50}))).ok();
    let done = data.post(SUBMIT, &keyed("done", json!({}))).body;
    let segments = |hub: &Hub| {
        let names = fs::read_dir(hub.folder().join("journal")).unwrap().map(|entry| entry.unwrap().file_name());
        names.map(|name| name.into_string().unwrap()).filter(|name| name.ends_with(".seg")).collect::<BTreeSet<_>>()
    };
    let first = segments(&hub).into_iter().find(|name| name.starts_with("journal-")).expect("there is one");
    let junk = "x".repeat(100 << 10);
    until("the first segment was truncated", || {
        data.post(SUBMIT, &json!({"kind": "junk", "params": junk})).ok();
        !segments(&hub).contains(&first)
    });
    for restarts in 0..3 {
        let mut data = hub.data();
        assert_eq!(data.post(SUBMIT, &keyed("done", json!({}))).body, done, "after {restarts} restarts");
        let again = data.post(SUBMIT, &keyed("open", json!({"kind": "open"}))).ok();
        assert_eq!(members(&again, ["job_id", "status"]), [open.clone(), json!("in_progress")]);
        if restarts == 1 {
            _ = hub.stop()
        } else {
            hub.kill()
        }
        hub.restart();
    }
}

#[test]
fn a_result_that_is_too_large_for_the_answer_is_read_at_its_ref_until_the_answer_says_when_it_went() {
    let hub = Hub::start_with(&["--idempotency-max-cached-bytes", "100", "--retained-jobs-max", "2"]);
    let mut data = hub.data();
    let complete = |data: &mut Client, key: &str, said: &str| {
        data.post(SUBMIT, &keyed(key, json!({}))).ok();
        let job = pull(data, "k");
        data.post("/mesh/submit_result", &result(&job, "worker", &json!(said))).ok();
    };
    let large = "y".repeat(200);
    complete(&mut data, "large", &large);
    complete(&mut data, "small", "y");
    let answer = data.post(SUBMIT, &keyed("large", json!({}))).ok();
    let at = answer["result_ref"].as_str().expect("it has one").to_owned();
    assert_eq!(answer["result"], Value::Null);
    assert_eq!(data.get(&at).ok()["job"]["result"], large);
    complete(&mut data, "another", "y");
    let gone = data.post(SUBMIT, &keyed("large", json!({}))).ok();
    assert_eq!(data.get(&at).status, 404);
    assert_eq!(
        members(&gone, ["job_id", "status", "result_ref"]),
        [answer["job_id"].clone(), json!("completed"), Value::Null]
    );
    assert!(gone["result_gone_utc"].as_str().is_some_and(|at| at.ends_with('Z')), "{gone}");
    let whole = data.post(SUBMIT, &keyed("small", json!({}))).ok();
    assert_eq!((&whole["result"], whole.get("result_ref")), (&json!("y"), None));
}

/// How long a storm may take: where the machine is too slow for all submits, it ends early.
const STORM_MAX: Duration = Duration::from_secs(60);

/// What the clients of a storm share.
struct Storm {
    hub: RwLock<Hub>,
    submits: usize,
    begun: Instant,
    answered: AtomicUsize,
    accepted: AtomicUsize,
    is_over: AtomicBool,
}

impl Storm {
    /// Whether there is a further submit to send.
    fn goes_on(&self) -> bool {
        self.answered.load(Ordering::Relaxed) < self.submits && self.begun.elapsed() < STORM_MAX
    }

    /// Waits until a share of the submits is answered, or the time that it may take is over.
    fn await_share(&self, numerator: usize, denominator: usize) {
        let (answers, time) =
            (self.submits * numerator / denominator, STORM_MAX * numerator as u32 / denominator as u32);
        while self.answered.load(Ordering::Relaxed) < answers && self.begun.elapsed() < time {
            thread::yield_now();
        }
    }

    /// A request that is repeated until the hub answers it.
    fn send(&self, data: &mut Client, path: &str, body: &Value) -> Vec<u8> {
        loop {
            if let Ok(response) = data.try_request("POST", path, Some(body)) {
                assert_eq!(response.status, 200, "{}", String::from_utf8_lossy(&response.body));
                return response.body;
            }
            *data = self.hub.read().unwrap().data();
        }
    }

    /// Repeats one submit; returns the bodies of the answers.
    fn repeat(&self) -> BTreeSet<Vec<u8>> {
        let (mut data, mut bodies) = (self.hub.read().unwrap().data(), BTreeSet::new());
        let submit = json!({"kind": "one", "params": {"n": 1}, "idempotency_key": "one"});
        while self.goes_on() {
            let body = self.send(&mut data, SUBMIT, &submit);
            let answer: Value = serde_json::from_slice(&body).unwrap();
            self.accepted.fetch_add(usize::from(answer["dedup"] == false), Ordering::Relaxed);
            bodies.insert(body);
            self.answered.fetch_add(1, Ordering::Relaxed);
        }
        bodies
    }

    /// Submits jobs under keys of their own and completes them; returns how many.
    fn work(&self) -> usize {
        let (mut data, mut done) = (self.hub.read().unwrap().data(), 0);
        while !self.is_over.load(Ordering::Relaxed) {
            let submit = json!({"kind": "other", "idempotency_key": format!("other {done}")});
            self.send(&mut data, SUBMIT, &submit);
            let pulled = self.send(&mut data, "/mesh/pull_requests", &json!({"node_id": "w", "kinds": ["other"]}));
            let pulled: Value = serde_json::from_slice(&pulled).unwrap();
            // A pull whose answer the kill took has leased the job: it is submitted without its lease then.
            let job = match pulled["jobs"][0].clone() {
                Value::Null => serde_json::from_slice(&self.send(&mut data, SUBMIT, &submit)).unwrap(),
                job => job,
            };
            let mut completed = result(&job, "w", &json!(done));
            completed.as_object_mut().unwrap().remove("lease_id");
            self.send(&mut data, "/mesh/submit_result", &completed);
            done += 1;
        }
        done
    }
}

/// Sends a submit many times over some connections, kills the hub in the middle, and completes the job later.
fn storm(submits: usize, connections: usize) {
    let (hub, begun) = (RwLock::new(Hub::start()), Instant::now());
    let (answered, accepted, is_over) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicBool::new(false));
    let storm = Storm { hub, submits, begun, answered, accepted, is_over };
    let (bodies, done) = thread::scope(|scope| {
        let clients: Vec<_> = (0..connections).map(|_| scope.spawn(|| storm.repeat())).collect();
        let other = scope.spawn(|| storm.work());
        storm.await_share(1, 3);
        let mut hub = storm.hub.write().unwrap();
        hub.kill();
        hub.restart();
        drop(hub);
        storm.await_share(2, 3);
        let mut data = storm.hub.read().unwrap().data();
        let job = pull(&mut data, "one");
        assert_eq!((&job["attempt"], pull(&mut data, "one")), (&json!(1), Value::Null), "it is processed once");
        storm.send(&mut data, "/mesh/submit_result", &result(&job, "worker", &json!({"said": "é"})));
        let bodies: BTreeSet<_> = clients.into_iter().flat_map(|client| client.join().unwrap()).collect();
        storm.is_over.store(true, Ordering::Relaxed);
        (bodies, other.join().unwrap())
    });
    assert!(storm.accepted.into_inner() <= 1, "it is accepted once");
    let hub = storm.hub.into_inner().unwrap();
    let mut data = hub.data();
    let last = data.post(SUBMIT, &json!({"kind": "one", "params": {"n": 1}, "idempotency_key": "one"}));
    let answers: Vec<Value> = bodies.iter().map(|body| serde_json::from_slice(body).unwrap()).collect();
    let last_answer = last.json();
    for status in ["accepted", "in_progress", "completed"] {
        let bodies = answers.iter().filter(|answer| answer["status"] == status).count();
        assert!(bodies <= 1, "all answers of one state are the same bytes: {answers:?}");
    }
    assert!(answers.iter().all(|answer| answer["job_id"] == last_answer["job_id"]), "{answers:?}");
    assert!(answers.iter().all(|answer| answer["request_id"] == last_answer["request_id"]), "{answers:?}");
    let completed = bodies.iter().zip(&answers).find(|(_, answer)| answer["status"] == "completed");
    assert!(completed.is_none_or(|(body, _)| *body == last.body), "{answers:?}");
    assert_eq!(last_answer["result"], json!({"said": "é"}));
    let jobs = data.get("/mesh/jobs?kind=one").ok()["jobs"].clone();
    assert_eq!((jobs.as_array().unwrap().len(), &jobs[0]["attempt"]), (1, &json!(1)), "{jobs}");
    assert!(done > 0, "other keys' work went on");
    for n in [0, done - 1] {
        let submit = json!({"kind": "other", "idempotency_key": format!("other {n}")});
        assert_eq!(data.post(SUBMIT, &submit).ok()["result"], n);
    }
    assert_eq!(
        data.get("/mesh/jobs?kind=other&status=completed&limit=1000").ok()["jobs"].as_array().unwrap().len(),
        done.min(1_000)
    );
}

#[test]
fn ten_submits_of_one_key_at_once_are_one_job_although_the_hub_is_killed_in_their_middle() {
    storm(10, 10);
}

#[test]
fn ten_thousand_submits_of_one_key_are_one_job_although_the_hub_is_killed_in_their_middle() {
    storm(10_000, 64);
}
