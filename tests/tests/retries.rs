//! Retries over HTTP: what a worker asks for, what is charged, what is lost, and the budget that all retries share.
#![cfg(unix)]
// The lists in `clippy.toml` are for the core.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use serde_json::{Value, json};
use sheratan_tests::{Hub, until};

fn id(job: &Value) -> &str {
    job["job_id"].as_str().unwrap()
}

fn at(value: &Value) -> jiff::Timestamp {
    value.as_str().unwrap().parse().unwrap()
}

/// How long after its end the attempt's retry may start, in milliseconds.
fn delay_ms(hub: &Hub, job: &Value, answer: &Value) -> i128 {
    let attempts = hub.job(id(job))["attempts"].clone();
    let ended = &attempts.as_array().unwrap().last().unwrap()["end_utc"];
    at(&answer["next_attempt_utc"]).duration_since(at(ended)).as_millis()
}

fn release(hub: &Hub, node: &str, job: &Value) -> Value {
    let named = json!({"node_id": node, "leases": [job["lease_id"]]});
    hub.data().post("/mesh/release_lease", &named).ok()["leases"][0].clone()
}

#[test]
fn a_worker_names_when_the_next_attempt_may_start_within_the_cap() {
    let hub = Hub::set(&[("RETRY_AFTER_MAX_SEC", "100")]);
    // The delay of the backoff would be half a second; the one that is named may be a tenth longer.
    for (asked, shortest, longest) in [(60_000, 60_000, 66_000), (3_600_000, 100_000, 110_000), (0, 0, 0)] {
        let job = hub.leased("worker", json!({"kind": "k", "max_attempts": 2}));
        let answer = hub.fail(&job, "worker", "busy", json!({"retry_after_ms": asked})).ok();
        assert_eq!(answer["status"], "retry_scheduled");
        let delay = delay_ms(&hub, &job, &answer);
        assert!((shortest..=longest).contains(&delay), "{delay} of {asked}");
    }
    // It is charged: the second failure is the last.
    let job = hub.lease("worker", "k");
    assert_eq!(hub.fail(&job, "worker", "busy", json!({"retry_after_ms": 0})).ok()["status"], "dead");
    for bad in [json!(-1), json!("soon"), json!(0.5)] {
        let job = hub.leased("worker", json!({"kind": "bad"}));
        hub.fail(&job, "worker", "busy", json!({"retry_after_ms": bad})).refused(400, "bad_request");
    }
    // An instant at which the job will have expired is never promised.
    let job = hub.leased("worker", json!({"kind": "short", "ttl_sec": 30}));
    assert_eq!(hub.fail(&job, "worker", "busy", json!({"retry_after_ms": 60000})).ok()["status"], "expired");
}

#[test]
fn an_attempt_has_a_bound_and_the_extension_that_reaches_it_is_the_last() {
    let hub = Hub::start();
    hub.data().put("/mesh/kinds/k", &json!({"max_run_sec": 600, "backoff_base_ms": 1, "backoff_cap_ms": 1}), None).ok();
    let extend = |job: &Value, secs: u64| {
        let named = json!({"node_id": "worker", "leases": [job["lease_id"]], "lease_sec": secs, "progress": 40, "note": "halfway"});
        hub.data().post("/mesh/extend_lease", &named).ok()["leases"][0].clone()
    };
    let job = hub.leased("worker", json!({"kind": "k"}));
    assert_eq!(extend(&job, 400).get("last"), None);
    let last = extend(&job, 3600);
    assert_eq!(last["last"], true);
    let shown = hub.job(id(&job));
    let runs = at(&last["lease_until_utc"]).duration_since(at(&shown["attempts"][0]["start_utc"]));
    assert_eq!(runs.as_secs(), 600);
    assert_eq!([&shown["progress"], &shown["note"]], [&json!(40), &json!("halfway")]);

    // A job's own bound goes first.
    let job = hub.leased("worker", json!({"kind": "k", "max_run_sec": 1, "max_attempts": 2}));
    until("the attempt has taken too long", || hub.status(id(&job)) != "leased");
    let attempt = hub.job(id(&job))["attempts"][0].clone();
    assert_eq!([&attempt["outcome"], &attempt["reason"]], ["revoked", "max_run"]);
    assert_eq!(extend(&job, 60)["error"], "lease_lost");
    hub.complete(&job, "worker").refused(409, "lease_lost");
    let again = hub.pull("worker", json!({"wait_ms": 20000}))["jobs"][0].clone();
    until("so has the second", || hub.status(id(&again)) == "dead");
    let dead = hub.job(id(&again));
    assert_eq!([&dead["error"], &dead["reason"]], ["max_run", "attempts"], "it is charged");
}

#[test]
fn lost_leases_are_counted_apart_and_a_job_that_loses_too_many_is_dead_as_lost() {
    let hub = Hub::set(&[("RETRY_MAX_LOSSES", "2"), ("RETRY_BACKOFF_BASE_MS", "1"), ("RETRY_BACKOFF_CAP_MS", "1")]);
    // One attempt only: a loss is none.
    let job_id = hub.submit(json!({"kind": "k", "max_attempts": 1, "lease_sec": 1}));
    for losses in 1..=2 {
        let pulled = hub.pull("worker", json!({"wait_ms": 20000}));
        assert_eq!(pulled["jobs"].as_array().unwrap().len(), 1, "loss {losses}");
        until("the lease has run out", || hub.job(&job_id)["losses"] == losses);
    }
    let dead = hub.job(&job_id);
    assert_eq!([&dead["status"], &dead["reason"], &dead["error"]], ["dead", "lost", "lease expired"]);
    let listed = hub.data().get("/mesh/dlq?reason=lost").ok();
    assert_eq!(listed["letters"][0]["job_id"], job_id.as_str());
    until("the audit log says so", || !hub.audit("DLQ_ENQUEUE").is_empty());
    assert_eq!(hub.audit("DLQ_ENQUEUE")[0]["details"]["reason"], "lost");
    // Requeued, it may lose as many again.
    hub.data().post(&format!("/mesh/dlq/{job_id}/requeue"), &json!({})).ok();
    assert_eq!(hub.job(&job_id).get("losses"), None);
}

#[test]
fn a_dead_node_returns_its_leases_at_once_if_it_sends_heartbeats() {
    let hub = Hub::set(&[
        ("NODE_TTL_SEC", "1"),
        ("NODE_DEAD_SEC", "2"),
        ("RETRY_BACKOFF_BASE_MS", "1"),
        ("RETRY_BACKOFF_CAP_MS", "1"),
    ]);
    hub.control().post("/mesh/heartbeat", &json!({"node_id": "beats"})).ok();
    let of_v15 = hub.leased("silent", json!({"kind": "old"}));
    let job = hub.leased("beats", json!({"kind": "k"}));
    hub.control().post("/mesh/heartbeat", &json!({"node_id": "beats"})).ok();
    let pulled = hub.pull("other", json!({"kinds": ["k"], "wait_ms": 20000}));
    assert_eq!(pulled["jobs"][0]["job_id"], job["job_id"]);
    let shown = hub.job(id(&job));
    let attempt = &shown["attempts"][0];
    assert_eq!(
        [&attempt["outcome"], &attempt["reason"], &shown["losses"]],
        [&json!("revoked"), &json!("node_dead"), &json!(1)]
    );
    assert_eq!(hub.status(id(&of_v15)), "leased", "a worker without heartbeats keeps its lease");
}

#[test]
fn a_released_lease_is_not_charged_and_each_further_one_waits_longer() {
    let hub = Hub::start();
    let job = hub.leased("worker", json!({"kind": "k", "max_attempts": 1}));
    let job_id = id(&job).to_owned();
    assert_eq!(release(&hub, "other", &job)["error"], "lease_lost", "only its node gives it back");
    assert_eq!(release(&hub, "worker", &job)["ok"], true);
    assert_eq!(release(&hub, "worker", &job)["error"], "lease_lost");
    assert_eq!(hub.status(&job_id), "queued", "the first one waits for nothing");
    let mut waits = Vec::new();
    for _ in 0..2 {
        let pulled = hub.pull("worker", json!({"wait_ms": 20000}))["jobs"][0].clone();
        assert_eq!(release(&hub, "worker", &pulled)["ok"], true);
        let shown = hub.job(&job_id);
        assert_eq!(shown["status"], "scheduled");
        let ended = &shown["attempts"].as_array().unwrap().last().unwrap()["end_utc"];
        waits.push(at(&shown["run_at_utc"]).duration_since(at(ended)).as_millis());
    }
    assert_eq!(waits, [1_000, 2_000]);
    // Its only attempt is there still.
    let pulled = hub.pull("worker", json!({"wait_ms": 20000}))["jobs"][0].clone();
    assert_eq!(hub.complete(&pulled, "worker").ok()["status"], "completed");
}

#[test]
fn beyond_the_budget_retries_are_postponed_and_never_ended() {
    let settings = |min: &'static str| {
        [
            ("RETRY_BUDGET_PERCENT", "0"),
            ("RETRY_BUDGET_MIN_PER_SEC", min),
            ("RETRY_BACKOFF_BASE_MS", "1"),
            ("RETRY_BACKOFF_CAP_MS", "1"),
        ]
    };
    let mut hub = Hub::set(&settings("1"));
    let requests = vec![json!({"kind": "k", "max_attempts": 2}); 40];
    hub.data().post("/mesh/submit_requests", &json!({"requests": requests})).ok();
    let jobs = hub.pull("worker", json!({"max": 1000}))["jobs"].as_array().unwrap().clone();
    jobs.iter().for_each(|job| _ = hub.fail(job, "worker", "broken", json!({})).ok());
    let last = id(&jobs[39]);
    until("the last one is postponed", || hub.job(last)["postponed_utc"].is_string());
    assert_eq!(hub.status(last), "scheduled");
    let postponed = jobs.iter().filter(|job| hub.job(id(job))["postponed_utc"].is_string()).count();
    assert!((20..40).contains(&postponed), "{postponed} of 40");
    // Fresh work is not held back.
    let fresh = hub.leased("worker", json!({"kind": "fresh"}));
    hub.complete(&fresh, "worker").ok();

    hub.kill();
    hub.set_env(settings("1000").map(|(name, value)| (format!("SHERATAN_{name}"), value.to_owned())).to_vec());
    hub.restart();
    let mut ran = Vec::new();
    while ran.len() < 40 {
        let pulled = hub.pull("worker", json!({"wait_ms": 20000, "max": 100}));
        for job in pulled["jobs"].as_array().unwrap() {
            ran.push(id(job).to_owned());
            assert_eq!(hub.complete(job, "worker").ok()["status"], "completed");
        }
    }
    let postponed: Vec<_> = jobs[40 - postponed..].iter().map(id).collect();
    assert!(ran.ends_with(&postponed[1..].iter().map(|id| (*id).to_owned()).collect::<Vec<_>>()), "the oldest first");
}
