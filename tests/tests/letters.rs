//! Dead letters over HTTP: listed, looked at, requeued and discarded, one by one and many at once, and what happens when
//! there is no room for more.
#![cfg(unix)]
// The lists in `clippy.toml` are for the core.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use serde_json::{Value, json};
use sheratan_tests::client::{failure, result};
use sheratan_tests::{Hub, until};

const DLQ: &str = "/mesh/dlq";
const REQUEUE: &str = "/mesh/dlq/requeue";
const DISCARD: &str = "/mesh/dlq/discard";

/// The ids of the letters of a page.
fn ids(page: &Value) -> Vec<&str> {
    page["letters"].as_array().unwrap().iter().map(|letter| letter["job_id"].as_str().unwrap()).collect()
}

fn total(hub: &Hub) -> u64 {
    hub.data().get(DLQ).ok()["total"].as_u64().unwrap()
}

/// The details of the event's lines, once there are so many.
#[track_caller]
fn audited(hub: &Hub, event: &str, count: usize) -> Vec<Value> {
    until(event, || hub.audit(event).len() >= count);
    hub.audit(event).into_iter().map(|line| line["details"].clone()).collect()
}

/// An act, once it has ended.
#[track_caller]
fn until_ended(hub: &Hub, act: &Value) -> Value {
    let path = format!("{DLQ}/acts/{}", act["act_id"]);
    until("the act has ended", || hub.data().get(&path).ok()["act"]["status"] != "running");
    hub.data().get(&path).ok()["act"].clone()
}

#[test]
fn a_letter_is_looked_at_with_every_attempt_and_begins_anew_when_it_is_requeued() {
    let hub = Hub::start();
    let mut data = hub.data();
    let job = hub.leased("one", json!({"kind": "k", "max_attempts": 2, "params": {"n": 1}}));
    hub.fail(&job, "one", "first", json!({"retry_after_ms": 0})).ok();
    let job_id = job["job_id"].as_str().unwrap();
    until("the retry is ready", || hub.status(job_id) == "queued");
    let job = hub.lease("two", "k");
    assert_eq!(hub.fail(&job, "two", "second", json!({})).ok()["status"], "dead");

    let page = data.get(DLQ).ok();
    assert_eq!((ids(&page), page["total"].as_u64(), &page["next_cursor"]), (vec![job_id], Some(1), &Value::Null));
    let letter = &page["letters"][0];
    assert_eq!([&letter["kind"], &letter["status"], &letter["reason"]], ["k", "dead", "attempts"]);
    let looked_at = data.get(&format!("{DLQ}/{job_id}")).ok()["job"].clone();
    let of_attempts = |key: &str| -> Vec<Value> {
        looked_at["attempts"].as_array().unwrap().iter().map(|attempt| attempt[key].clone()).collect()
    };
    assert_eq!(of_attempts("node_id"), ["one", "two"]);
    assert_eq!(of_attempts("error"), ["first", "second"]);
    assert!(of_attempts("start_utc").iter().chain(&of_attempts("end_utc")).all(Value::is_string), "{looked_at}");
    assert_eq!([&looked_at["error"], &looked_at["params"]], [&json!("second"), &json!({"n": 1})]);

    let requeued = data.post(&format!("{DLQ}/{job_id}/requeue"), &json!({})).ok();
    assert_eq!([&requeued["job_id"], &requeued["status"]], [job_id, "queued"]);
    assert_eq!(total(&hub), 0);
    data.get(&format!("{DLQ}/{job_id}")).refused(404, "unknown_job");
    data.post(&format!("{DLQ}/{job_id}/requeue"), &json!({})).refused(409, "not_dead");
    // Both attempts are there again: one failure does not end it.
    let job = hub.lease("one", "k");
    assert_eq!(hub.fail(&job, "one", "third", json!({"retry_after_ms": 0})).ok()["status"], "retry_scheduled");
    assert_eq!(hub.job(job_id)["attempts"].as_array().unwrap().len(), 3, "its history stays");
    until("the retry is ready", || hub.status(job_id) == "queued");
    hub.complete(&hub.lease("two", "k"), "two").ok();
    let refused = data.post(&format!("{DLQ}/{job_id}/requeue"), &json!({})).refused(409, "already_final");
    assert_eq!(refused["job_status"], "completed");

    let enqueued = &audited(&hub, "DLQ_ENQUEUE", 1)[0];
    assert_eq!(*enqueued, json!({"job_id": job_id, "kind": "k", "reason": "attempts", "attempts": 2}));
    let requeued = &audited(&hub, "DLQ_REQUEUE", 1)[0];
    assert_eq!(*requeued, json!({"job_id": job_id, "kind": "k", "by": "shared_token"}));
}

#[test]
fn a_letter_that_is_discarded_is_a_failed_job_and_one_that_was_done_after_all_is_completed() {
    let hub = Hub::start();
    let mut data = hub.data();
    let job_id = hub.dead(json!({"kind": "k"}), "broken");
    let discarded = data.delete(&format!("{DLQ}/{job_id}")).ok();
    assert_eq!([&discarded["job_id"], &discarded["status"]], [job_id.as_str(), "failed"]);
    let job = hub.job(&job_id);
    assert_eq!([&job["status"], &job["error"], &job["reason"]], ["failed", "broken", "not_retryable"]);
    assert_eq!(data.delete(&format!("{DLQ}/{job_id}")).refused(409, "already_final")["job_status"], "failed");
    let line = audited(&hub, "DLQ_DISCARD", 1)[0].clone();
    assert_eq!(line, json!({"job_id": job_id, "kind": "k", "by": "shared_token"}));

    // A repeat says how its job ended, as the job does.
    let keyed = json!({"kind": "keyed", "idempotency_key": "a"});
    let job_id = hub.dead(keyed.clone(), "broken");
    assert_eq!(data.post("/mesh/submit_request", &keyed).ok()["job_status"], "dead");
    data.delete(&format!("{DLQ}/{job_id}")).ok();
    let repeated = data.post("/mesh/submit_request", &keyed).ok();
    assert_eq!([&repeated["status"], &repeated["job_status"], &repeated["job_error"]], ["failed", "failed", "broken"]);

    // A v1.5 worker, which names no lease, has done the work.
    let job_id = hub.dead(json!({"kind": "k"}), "timed out");
    let mut late = result(&json!({"job_id": job_id}), "worker", &json!("done"));
    late.as_object_mut().unwrap().remove("lease_id");
    assert_eq!(data.post("/mesh/submit_result", &late).ok()["status"], "completed");
    assert_eq!((hub.status(&job_id), total(&hub)), ("completed".into(), 0));
    assert_eq!(audited(&hub, "DLQ_COMPLETED", 1)[0], json!({"job_id": job_id, "kind": "k"}));

    for path in ["job_000000000001deadbeef", "x"].map(|id| format!("{DLQ}/{id}")) {
        data.get(&path).refused(404, "unknown_job");
        data.delete(&path).refused(404, "unknown_job");
        data.post(&format!("{path}/requeue"), &json!({})).refused(404, "unknown_job");
    }
    let refused = data.post(DLQ, &json!({}));
    assert_eq!((refused.status, refused.header("allow")), (405, Some("GET, HEAD")));
    let elsewhere = hub.control().get(&format!("{DLQ}/{job_id}"));
    elsewhere.refused(410, "port_mismatch");
}

#[test]
fn a_page_of_letters_is_filtered_and_goes_on_where_it_ended() {
    let hub = Hub::start();
    let mut data = hub.data();
    let of_k: Vec<_> = (0..3).map(|n| hub.dead(json!({"kind": "k"}), &format!("no route {n}"))).collect();
    let of_x = hub.dead(json!({"kind": "x"}), "disk is full");
    let mut get = |query: &str| data.get(&format!("{DLQ}?{query}"));
    assert_eq!(ids(&get("kind=k").ok()), of_k);
    assert_eq!(ids(&get("kind=nothing").ok()), [""; 0]);
    assert_eq!(ids(&get("error=no%20route").ok()), of_k);
    assert_eq!(ids(&get("error=route%201").ok()), [&of_k[1]]);
    assert_eq!(ids(&get("reason=not_retryable&kind=x").ok()), [&of_x]);
    assert_eq!(ids(&get("reason=lost").ok()), [""; 0]);
    let at = hub.job(&of_x)["final_utc"].as_str().unwrap().to_owned();
    assert_eq!(ids(&get(&format!("after_utc={at}")).ok()).last(), Some(&of_x.as_str()));
    assert!(!ids(&get(&format!("before_utc={at}")).ok()).contains(&of_x.as_str()));

    let first = get("limit=2").ok();
    assert_eq!(ids(&first), &of_k[..2]);
    // What leaves meanwhile changes nothing for those that follow.
    hub.data().delete(&format!("{DLQ}/{}", of_k[0])).ok();
    let second = get(&format!("limit=2&cursor={}", first["next_cursor"].as_str().unwrap())).ok();
    assert_eq!(ids(&second), [&of_k[2], &of_x]);
    assert_eq!(second["next_cursor"], Value::Null);
    for query in ["limit=0", "limit=1001", "cursor=x", "reason=other", "before_utc=now", "kinds=k", "kind=k&kind=x"] {
        get(query).refused(400, "bad_request");
    }
}

#[test]
fn an_act_on_many_that_is_not_understood_does_nothing() {
    let hub = Hub::start();
    let mut data = hub.data();
    for n in 0..3 {
        hub.dead(json!({"kind": "k"}), &format!("broken {n}"));
    }
    for path in [REQUEUE, DISCARD] {
        for body in [
            json!({}),
            json!({"kind": null}),
            json!({"all": false}),
            json!({"knd": "k"}),
            json!({"kind": "k", "errors": "x"}),
            json!({"kind": ""}),
            json!({"kind": " "}),
            json!({"error": ""}),
            json!({"error": " "}),
            json!({"reason": ""}),
            json!({"reason": "other"}),
            json!({"before_utc": ""}),
            json!({"before_utc": "yesterday"}),
            json!({"all": true, "kind": "k"}),
            json!({"all": "yes"}),
            json!({"kind": "k", "rate_per_sec": 0}),
            json!({"kind": "k", "rate_per_sec": 0.5}),
            json!({"kind": "k", "max_count": -1}),
            json!({"kind": "k", "dry_run": "yes"}),
            json!({"kind": ["k"]}),
        ] {
            data.post(path, &body).refused(400, "bad_request");
        }
        // A filter or a `dry_run` in the query would be missed.
        for query in ["kind=other", "dry_run=true", "x"] {
            let refused = data.post(&format!("{path}?{query}"), &json!({"all": true})).refused(400, "bad_request");
            assert!(refused["detail"].as_str().unwrap().contains("query"), "{refused}");
        }
        let unknown = data.post(path, &json!({"knd": "k"})).refused(400, "bad_request");
        assert!(unknown["detail"].as_str().unwrap().starts_with("the member knd is not known here"), "{unknown}");
        let refused = data.post(path, &json!({"kind": "k", "max_count": 2})).refused(409, "too_many_matches");
        assert_eq!(refused["matched"], 3);
        for (max, exceeds) in [(2, true), (3, false), (4, false)] {
            let asked = data.post(path, &json!({"all": true, "max_count": max, "dry_run": true})).ok();
            assert_eq!(asked, json!({"ok": true, "dry_run": true, "matched": 3, "exceeds_max_count": exceeds}));
        }
        let counted = data.post(path, &json!({"error": "broken 1", "dry_run": true})).ok();
        assert_eq!((&counted["matched"], &counted["exceeds_max_count"]), (&json!(1), &json!(false)));
        data.try_request("POST", path, None).unwrap().refused(400, "bad_request");
    }
    assert_eq!(total(&hub), 3);
    assert_eq!(data.get(&format!("{DLQ}/acts")).ok()["acts"], json!([]));
    for id in ["0", "7", "x", "-1", "+0", "99999999999"] {
        data.get(&format!("{DLQ}/acts/{id}")).refused(404, "unknown_act");
        data.post(&format!("{DLQ}/acts/{id}/cancel"), &json!({})).refused(404, "unknown_act");
    }
}

#[test]
fn an_act_requeues_and_discards_what_matches_and_says_who_began_it_and_what_it_did() {
    let hub = Hub::start();
    let mut data = hub.data();
    let of_k: Vec<_> = (0..3).map(|n| hub.dead(json!({"kind": "k"}), &format!("broken {n}"))).collect();
    let of_x = hub.dead(json!({"kind": "x"}), "broken");
    let begun = data.post(REQUEUE, &json!({"kind": "k", "error": "broken", "max_count": 3})).ok()["act"].clone();
    assert_eq!([&begun["act"], &begun["by"]], ["requeue", "shared_token"]);
    assert_eq!([&begun["matched"], &begun["filter"]], [&json!(3), &json!({"kind": "k", "error": "broken"})]);
    let ended = until_ended(&hub, &begun);
    assert_eq!([&ended["done"], &ended["skipped"]], [3, 0]);
    assert_eq!([&ended["first_job_id"], &ended["last_job_id"]], [&of_k[0], &of_k[2]]);
    assert!(of_k.iter().all(|job_id| hub.status(job_id) == "queued"));

    let begun = data.post(DISCARD, &json!({"all": true})).ok()["act"].clone();
    assert_eq!(until_ended(&hub, &begun)["done"], 1);
    assert_eq!((hub.status(&of_x), total(&hub)), ("failed".into(), 0));
    let listed = data.get(&format!("{DLQ}/acts")).ok();
    let acts: Vec<_> = listed["acts"].as_array().unwrap().iter().map(|act| &act["act"]).collect();
    assert_eq!(acts, ["requeue", "discard"]);

    let (began, done) = (audited(&hub, "DLQ_ACT_BEGAN", 2), audited(&hub, "DLQ_ACT_ENDED", 2));
    let filter = json!({"kind": "k", "error": "broken"});
    assert_eq!(began[0], json!({"act_id": 0, "act": "requeue", "filter": filter, "matched": 3, "by": "shared_token"}));
    assert_eq!(
        done[0],
        json!({"act_id": 0, "act": "requeue", "filter": filter, "done": 3, "skipped": 0, "cancelled": false,
            "by": "shared_token", "first_job_id": of_k[0], "last_job_id": of_k[2]})
    );
    assert_eq!(began[1]["filter"], json!({}), "all of them");
    assert_eq!(done[1]["first_job_id"], of_x.as_str());
}

#[test]
fn an_act_keeps_its_rate_and_can_be_cancelled() {
    let hub = Hub::start();
    let mut data = hub.data();
    (0..3).for_each(|_| _ = hub.dead(json!({"kind": "k"}), "broken"));
    let begun = data.post(REQUEUE, &json!({"kind": "k", "rate_per_sec": 1})).ok()["act"].clone();
    let cancelled = data.post(&format!("{DLQ}/acts/{}/cancel", begun["act_id"]), &json!({})).ok()["act"].clone();
    assert_eq!(cancelled["status"], "cancelled");
    // The first one is due at once.
    let done = cancelled["done"].as_u64().unwrap();
    assert!((1..3).contains(&done), "{cancelled}");
    assert_eq!(total(&hub), 3 - done, "what it had not reached stays");
    data.post(&format!("{DLQ}/acts/{}/cancel", begun["act_id"]), &json!({})).refused(409, "already_final");
    let line = &audited(&hub, "DLQ_ACT_ENDED", 1)[0];
    assert_eq!([&line["cancelled"], &line["done"]], [&json!(true), &json!(done)]);
    let refused = data.post(&format!("{DLQ}/acts"), &json!({}));
    assert_eq!((refused.status, refused.header("allow")), (405, Some("GET, HEAD")));
}

#[test]
fn a_letter_whose_key_belongs_to_another_job_stays() {
    let hub = Hub::start();
    let mut data = hub.data();
    let keyed = |on_failed: &str| json!({"kind": "k", "idempotency_key": "one", "on_failed": on_failed});
    let old = hub.dead(keyed("same_result"), "broken");
    let other = hub.dead(json!({"kind": "k"}), "broken");
    let new = hub.submit(keyed("new_job"));
    let refused = data.post(&format!("{DLQ}/{old}/requeue"), &json!({})).refused(409, "idempotency_key_collision");
    assert_eq!(refused["existing_job_id"], new.as_str());
    assert!(refused["detail"].as_str().unwrap().contains("the letter stays"), "{refused}");
    let begun = data.post(REQUEUE, &json!({"all": true})).ok()["act"].clone();
    let ended = until_ended(&hub, &begun);
    assert_eq!([&ended["done"], &ended["skipped"]], [1, 1]);
    assert_eq!([&old, &other, &new].map(|job_id| hub.status(job_id)), ["dead", "queued", "queued"]);

    // Once requeued a job has its key again.
    let dead = hub.dead(json!({"kind": "y", "idempotency_key": "two"}), "broken");
    data.post(&format!("{DLQ}/{dead}/requeue"), &json!({})).ok();
    let repeated = data.post("/mesh/submit_request", &json!({"kind": "y", "idempotency_key": "two"})).ok();
    assert_eq!([&repeated["job_id"], &repeated["status"]], [dead.as_str(), "in_progress"]);
}

#[test]
fn a_full_queue_refuses_one_letter_and_lets_an_act_wait() {
    let hub = Hub::set(&[("MAX_QUEUE_DEPTH", "2")]);
    let mut data = hub.data();
    let dead: Vec<_> = (0..3).map(|_| hub.dead(json!({"kind": "k"}), "broken")).collect();
    // At one below the limit there is room.
    hub.submit(json!({"kind": "x"}));
    data.post(&format!("{DLQ}/{}/requeue", dead[0]), &json!({})).ok();
    let refused = data.post(&format!("{DLQ}/{}/requeue", dead[1]), &json!({}));
    assert_eq!(refused.refused(429, "backpressure")["reason"], "queue_depth");
    assert!(refused.header("retry-after").is_some_and(|secs| secs.parse::<u64>().is_ok_and(|secs| secs >= 1)));
    let begun = data.post(REQUEUE, &json!({"kind": "k"})).ok()["act"].clone();
    assert_eq!([&begun["status"], &begun["matched"]], [&json!("running"), &json!(2)]);
    // Workers make room, and the act goes on.
    until("the act has gone on", || {
        let pulled = hub.pull("worker", json!({"kinds": ["k", "x"], "max": 9}));
        pulled["jobs"].as_array().unwrap().iter().for_each(|job| _ = hub.complete(job, "worker").ok());
        dead.iter().all(|job_id| hub.status(job_id) == "completed")
    });
    assert_eq!(until_ended(&hub, &begun)["done"], 2);
}

#[test]
fn an_act_survives_kill_9_and_requeues_each_letter_once() {
    let mut hub = Hub::start();
    let dead: Vec<_> = (0..12).map(|_| hub.dead(json!({"kind": "k"}), "broken")).collect();
    let begun = hub.data().post(REQUEUE, &json!({"kind": "k", "rate_per_sec": 10})).ok()["act"].clone();
    until("it has begun", || total(&hub) <= 10);
    hub.kill();
    hub.restart();
    let ended = until_ended(&hub, &begun);
    assert_eq!([&ended["done"], &ended["skipped"], &ended["matched"]], [12, 0, 12]);
    assert_eq!(total(&hub), 0);
    let pulled = hub.pull("worker", json!({"max": 1000}));
    let mut jobs: Vec<_> =
        pulled["jobs"].as_array().unwrap().iter().map(|job| job["job_id"].as_str().unwrap()).collect();
    jobs.sort_unstable();
    let mut expected: Vec<_> = dead.iter().map(String::as_str).collect();
    expected.sort_unstable();
    assert_eq!(jobs, expected);
    let audited = audited(&hub, "DLQ_ACT_ENDED", 1);
    assert_eq!(audited.len(), 1);
    // Who began it is not forgotten.
    assert_eq!([&begun["by"], &ended["by"], &audited[0]["by"]], ["shared_token"; 3]);
}

#[test]
fn beyond_their_limit_the_oldest_letter_of_the_kind_with_the_most_is_evicted() {
    let hub = Hub::set(&[("DLQ_MAX_ITEMS", "3")]);
    let rare = hub.dead(json!({"kind": "rare"}), "broken");
    let of_k: Vec<_> = (0..2).map(|_| hub.dead(json!({"kind": "k"}), "broken")).collect();
    assert_eq!(total(&hub), 3, "at the limit nothing goes");
    let last = hub.dead(json!({"kind": "k"}), "broken");
    assert_eq!(total(&hub), 3);
    let statuses = [&rare, &of_k[0], &of_k[1], &last].map(|job_id| hub.status(job_id));
    assert_eq!(statuses, ["dead", "failed", "dead", "dead"]);
    assert_eq!(audited(&hub, "DLQ_EVICT", 1), [json!({"job_id": of_k[0], "kind": "k", "reason": "room"})]);
}

#[test]
fn a_flood_of_evictions_is_counted_in_the_audit_log_to_the_last_one() {
    let hub = Hub::set(&[("DLQ_MAX_ITEMS", "1")]);
    let many: Vec<_> = (0..131).map(|_| json!({"kind": "k"})).collect();
    hub.data().post("/mesh/submit_requests", &json!({"requests": many})).ok();
    let pulled = hub.pull("worker", json!({"max": 1000}));
    let fail = |job: &Value| {
        let mut body = failure(job, "worker", &json!("broken"));
        body["retryable"] = json!(false);
        body
    };
    let results: Vec<_> = pulled["jobs"].as_array().unwrap().iter().map(fail).collect();
    hub.data().post("/mesh/submit_results", &json!({"results": results})).ok();
    assert_eq!(total(&hub), 1);
    until("each eviction is in a line or in the count of one", || {
        let lines = hub.audit("DLQ_EVICT");
        lines.iter().map(|line| line["details"]["count"].as_u64().unwrap_or(1)).sum::<u64>() == 130
    });
}

#[test]
fn a_hub_that_keeps_its_letters_refuses_submits_at_the_limit() {
    let hub = Hub::set(&[("DLQ_MAX_ITEMS", "3"), ("DLQ_WHEN_FULL", "refuse")]);
    let mut data = hub.data();
    let dead = hub.dead(json!({"kind": "k"}), "broken");
    let waits = hub.submit(json!({"kind": "k"}));
    hub.submit(json!({"kind": "k"}));
    let refused = data.post("/mesh/submit_request", &json!({"kind": "k", "idempotency_key": "a"}));
    let problem = refused.refused(429, "backpressure");
    assert_eq!([&problem["reason"], &problem["max"]], [&json!("dead_letters"), &json!(3)]);
    assert!(refused.header("retry-after").is_some());
    assert!(audited(&hub, "BACKPRESSURE_DROP", 1).iter().any(|line| line["reason"] == "dead_letters"));
    assert_eq!(hub.metric("sheratan_hub_backpressure_drops_total", "dead_letters"), 1.0);
    // What waits finds its place, and nothing is evicted.
    for _ in 0..2 {
        let job = hub.lease("worker", "k");
        assert_eq!(hub.fail(&job, "worker", "broken", json!({"retryable": false})).ok()["status"], "dead");
    }
    assert_eq!((total(&hub), hub.status(&dead), hub.status(&waits)), (3, "dead".into(), "dead".into()));
    data.delete(&format!("{DLQ}/{dead}")).ok();
    let answer = data.post("/mesh/submit_request", &json!({"kind": "k", "idempotency_key": "a"})).ok();
    assert_eq!(answer["dedup"], false, "a refused submit bound no key");
    assert_eq!(hub.audit("DLQ_EVICT").len(), 0);

    // Waiting does not help a job that is larger than all letters together may be.
    let hub = Hub::set(&[("DLQ_MAX_BYTES", "20000"), ("DLQ_WHEN_FULL", "refuse")]);
    let sized = |bytes: usize| json!({"kind": "k", "params": "x".repeat(bytes)});
    let large = hub.data().post("/mesh/submit_request", &sized(20_000));
    let detail = large.refused(413, "payload_too_large")["detail"].clone();
    assert!(detail.as_str().unwrap().contains("dlq_max_bytes") && large.header("retry-after").is_none(), "{detail}");
    hub.submit(sized(19_000));
    hub.data().post("/mesh/submit_request", &sized(1_000)).refused(429, "backpressure");
}

#[test]
fn a_kind_has_a_limit_of_letters_of_its_own() {
    let hub = Hub::start();
    let mut data = hub.data();
    data.put("/mesh/kinds/evicts", &json!({"max_letters": 2}), None).ok();
    data.put("/mesh/kinds/refuses", &json!({"max_letters": 2, "on_letters_full": "refuse"}), None).ok();
    let dead: Vec<_> = (0..3).map(|_| hub.dead(json!({"kind": "evicts"}), "broken")).collect();
    assert_eq!([&dead[0], &dead[1], &dead[2]].map(|job_id| hub.status(job_id)), ["failed", "dead", "dead"]);
    let dead: Vec<_> = (0..2).map(|_| hub.dead(json!({"kind": "refuses"}), "broken")).collect();
    let problem = data.post("/mesh/submit_request", &json!({"kind": "refuses"})).refused(429, "backpressure");
    assert_eq!([&problem["reason"], &problem["max"]], [&json!("dead_letters"), &json!(2)]);
    hub.submit(json!({"kind": "other"}));
    // A limit that is lowered while work runs does not make the hub break its word to keep letters.
    data.delete(&format!("{DLQ}/{}", dead[0])).ok();
    let job = hub.leased("worker", json!({"kind": "refuses"}));
    data.put("/mesh/kinds/refuses", &json!({"max_letters": 1}), None).ok();
    assert_eq!(hub.fail(&job, "worker", "broken", json!({"retryable": false})).ok()["status"], "dead");
    assert_eq!(hub.status(&dead[1]), "dead", "a kind that refuses gives up no letter");
}

#[test]
fn without_dead_letters_a_job_ends_as_failed_and_a_kind_may_drop_its_own() {
    let hub = Hub::set(&[("DLQ_ENABLED", "0")]);
    let job = hub.leased("worker", json!({"kind": "k"}));
    assert_eq!(hub.fail(&job, "worker", "broken", json!({"retryable": false})).ok()["status"], "dropped");
    assert_eq!((hub.status(job["job_id"].as_str().unwrap()), total(&hub)), ("failed".into(), 0));

    let hub = Hub::start();
    hub.data().put("/mesh/kinds/k", &json!({"on_exhausted": "drop"}), None).ok();
    let job = hub.leased("worker", json!({"kind": "k", "max_attempts": 1}));
    assert_eq!(hub.fail(&job, "worker", "broken", json!({})).ok()["status"], "dropped");
    let job_id = job["job_id"].as_str().unwrap();
    let shown = hub.job(job_id);
    assert_eq!([&shown["status"], &shown["reason"], &shown["error"]], ["failed", "attempts", "broken"]);
    assert_eq!(total(&hub), 0);
    let refused = hub.data().post(&format!("{DLQ}/{job_id}/requeue"), &json!({})).refused(409, "already_final");
    assert_eq!(refused["job_status"], "failed");
}
