//! Results of unknown jobs over HTTP: kept, listed, bounded, and adopted or discarded only by an operator.
#![cfg(unix)]
// The lists in `clippy.toml` are for the core.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use serde_json::{Value, json};
use sheratan_tests::client::{checksum, failure, result};
use sheratan_tests::{Hub, Response, until};

const UNKNOWN: &str = "job_000000000001deadbeef";

/// A result of a job, without a lease.
fn unleased(job_id: &str, value: &Value) -> Value {
    let mut body = result(&json!({"job_id": job_id}), "worker", value);
    body.as_object_mut().unwrap().remove("lease_id");
    body
}

fn send(hub: &Hub, body: &Value) -> Response {
    hub.data().post("/mesh/submit_result", body)
}

fn orphans(hub: &Hub) -> Vec<Value> {
    hub.data().get("/mesh/orphans").ok()["orphans"].as_array().unwrap().clone()
}

#[test]
fn a_result_of_an_unknown_job_is_kept_once_and_survives() {
    let mut hub = Hub::start();
    let body = unleased(UNKNOWN, &json!({"sum": 41}));
    let first = send(&hub, &body).ok();
    assert_eq!(first, json!({"ok": true, "job_id": UNKNOWN, "status": "orphaned"}));
    let again = send(&hub, &body).ok();
    assert_eq!(again, json!({"ok": true, "job_id": UNKNOWN, "status": "orphaned", "duplicate": true}));
    // A worker that names a lease learns that it is lost; the work is kept all the same.
    let mut leased = result(&json!({"job_id": "job-of-v1.5", "lease_id": "x"}), "worker", &json!("done"));
    send(&hub, &leased).refused(409, "lease_lost");
    leased["integrity"]["sha256"] = json!("0".repeat(64));
    send(&hub, &leased).refused(403, "result_integrity_fail");
    assert_eq!(orphans(&hub).len(), 2, "what was tampered with is not kept");

    // A line is written after its answer, and one that is not written yet goes with the process.
    until("they are in the audit log", || hub.audit("RESULT_ORPHANED").len() == 2);
    hub.kill();
    hub.restart();
    let listed = orphans(&hub);
    assert_eq!(
        [&listed[0]["job_id"], &listed[0]["node_id"], &listed[0]["result_ok"]],
        [&json!(UNKNOWN), &json!("worker"), &json!(true)]
    );
    assert!(listed[0]["received_utc"].is_string() && listed[0].get("result").is_none(), "{}", listed[0]);
    let shown = hub.data().get(&format!("/mesh/orphans/{}", listed[0]["orphan_id"])).ok()["orphan"].clone();
    assert_eq!(shown["result"], json!({"sum": 41}));
    assert_eq!(send(&hub, &body).ok()["duplicate"], true);
    let details = hub.audit("RESULT_ORPHANED")[0]["details"].clone();
    assert_eq!([&details["job_id"], &details["node_id"], &details["ip"]], [UNKNOWN, "worker", "127.0.0.1"]);
}

#[test]
fn an_operator_adopts_an_orphan_as_the_result_of_a_job() {
    let hub = Hub::start();
    let mut data = hub.data();
    send(&hub, &unleased(UNKNOWN, &json!("done"))).ok();
    let orphan = orphans(&hub)[0]["orphan_id"].clone();
    let path = format!("/mesh/orphans/{orphan}/adopt");
    data.post(&path, &json!({})).refused(404, "unknown_job");
    data.post(&path, &json!({"job": "x"})).refused(400, "bad_request");
    let done = hub.leased("worker", json!({"kind": "k"}));
    hub.complete(&done, "worker").ok();
    data.post(&path, &json!({"job_id": done["job_id"]})).refused(409, "already_final");
    assert_eq!(orphans(&hub).len(), 1, "a refusal keeps it");

    let job_id = hub.submit(json!({"kind": "k"}));
    let adopted = data.post(&path, &json!({"job_id": job_id})).ok();
    assert_eq!([&adopted["job_id"], &adopted["status"]], [job_id.as_str(), "completed"]);
    assert_eq!(hub.job(&job_id)["result"], "done");
    assert_eq!(orphans(&hub), [Value::Null; 0]);
    data.post(&path, &json!({"job_id": job_id})).refused(404, "unknown_orphan");
    until("it is in the audit log", || !hub.audit("ORPHAN_ADOPTED").is_empty());
    let details = hub.audit("ORPHAN_ADOPTED")[0]["details"].clone();
    assert_eq!([&details["job_id"], &details["by"], &details["node_id"]], [job_id.as_str(), "shared_token", "worker"]);
    assert_eq!(details["orphan_id"], orphan);
}

/// An operator holds no lease, and cannot pull.
#[test]
fn an_orphan_is_not_adopted_for_a_job_that_ended_however_it_did() {
    let hub = Hub::start();
    send(&hub, &unleased(UNKNOWN, &json!("done"))).ok();
    let path = format!("/mesh/orphans/{}/adopt", orphans(&hub)[0]["orphan_id"]);
    let cancelled = hub.submit(json!({"kind": "k"}));
    hub.data().post(&format!("/mesh/jobs/{cancelled}/cancel"), &json!({})).ok();
    let expired = hub.submit(json!({"kind": "k", "ttl_sec": 1}));
    until("it has expired", || hub.job(&expired)["status"] == "expired");
    let leased = hub.leased("worker", json!({"kind": "k"}));
    hub.data().post(&format!("/mesh/jobs/{}/cancel", leased["job_id"].as_str().unwrap()), &json!({})).ok();
    let completed = hub.leased("worker", json!({"kind": "k"}));
    hub.complete(&completed, "worker").ok();
    for (job, status) in [
        (json!(cancelled), "cancelled"),
        (json!(expired), "expired"),
        (leased["job_id"].clone(), "cancelled"),
        (completed["job_id"].clone(), "completed"),
    ] {
        let refused = hub.data().post(&path, &json!({ "job_id": job })).refused(409, "already_final");
        assert_eq!(refused["job_status"], status);
        let detail = refused["detail"].as_str().unwrap();
        assert!(detail.contains("another job, or discard it") && !detail.contains("pull"), "{detail}");
    }
    assert_eq!(orphans(&hub).len(), 1);
}

#[test]
fn an_adopted_result_has_a_checksum_that_its_submitter_can_verify() {
    let hub = Hub::start();
    send(&hub, &unleased(UNKNOWN, &json!("done"))).ok();
    let job_id = hub.submit(json!({"kind": "k"}));
    let path = format!("/mesh/orphans/{}/adopt", orphans(&hub)[0]["orphan_id"]);
    hub.data().post(&path, &json!({"job_id": job_id})).ok();
    // The worker's checksum is over another id; the hub, which has verified it, makes one for this job.
    let shown = hub.data().get(&format!("/mesh/jobs/{job_id}"));
    assert_eq!(shown.status, 200, "{}", shown.json());
    let job = shown.json()["job"].clone();
    let sha256 = checksum(&job["job_id"], true, &json!("done"), &Value::Null);
    assert_eq!((&job["result"], &job["integrity"]), (&json!("done"), &json!({"mode": "hub", "sha256": sha256})));
}

#[test]
fn an_operator_discards_an_orphan() {
    let hub = Hub::start();
    let mut data = hub.data();
    let mut failed = failure(&json!({"job_id": UNKNOWN}), "worker", &json!("broken"));
    failed.as_object_mut().unwrap().remove("lease_id");
    send(&hub, &failed).ok();
    let listed = orphans(&hub);
    assert_eq!(listed[0]["result_ok"], false);
    let path = format!("/mesh/orphans/{}", listed[0]["orphan_id"]);
    assert_eq!(data.get(&path).ok()["orphan"]["error"], "broken");
    data.delete(&path).ok();
    data.delete(&path).refused(404, "unknown_orphan");
    data.get(&path).refused(404, "unknown_orphan");
    until("it is in the audit log", || !hub.audit("ORPHAN_DISCARDED").is_empty());
    let details = hub.audit("ORPHAN_DISCARDED")[0]["details"].clone();
    assert_eq!([&details["orphan_id"], &details["by"]], [&listed[0]["orphan_id"], &json!("shared_token")]);

    for (path, query) in [("/mesh/orphans", "limit=0"), ("/mesh/orphans", "cursor=x"), ("/mesh/orphans", "limits=3")] {
        let refused = data.get(&format!("{path}?{query}"));
        assert!(refused.status == 400 || query == "limits=3", "{query}: {refused:?}");
    }
    data.get("/mesh/orphans/x").refused(400, "bad_request");
    let refused = data.post("/mesh/orphans", &json!({}));
    assert_eq!((refused.status, refused.header("allow")), (405, Some("GET, HEAD")));
    hub.control().get("/mesh/orphans").refused(410, "port_mismatch");
}

/// All others would go for it, and then it.
#[test]
fn a_result_that_alone_is_beyond_the_limit_evicts_nothing() {
    let hub = Hub::set(&[("ORPHANS_BYTES_MAX", "12000")]);
    send(&hub, &unleased("job-1", &json!("small"))).ok();
    let large = json!("x".repeat(12_000));
    let refused = send(&hub, &unleased("job-2", &large)).refused(413, "payload_too_large");
    assert!(refused["detail"].as_str().unwrap().contains("orphans_bytes_max"), "{refused}");
    send(&hub, &result(&json!({"job_id": "job-3", "lease_id": "x"}), "worker", &large)).refused(409, "lease_lost");
    let ids: Vec<_> = orphans(&hub).iter().map(|orphan| orphan["job_id"].clone()).collect();
    assert_eq!(ids, ["job-1"]);
    send(&hub, &unleased("job-4", &json!("x".repeat(11_000)))).ok();

    let hub = Hub::set(&[("ORPHANS_MAX", "0")]);
    send(&hub, &unleased("job-1", &json!("small"))).refused(404, "unknown_job");
    assert!(orphans(&hub).is_empty());
}

#[test]
fn beyond_their_limit_the_oldest_orphan_goes() {
    for (setting, value) in [("ORPHANS_MAX", "3"), ("ORPHANS_BYTES_MAX", "32000")] {
        let hub = Hub::set(&[(setting, value)]);
        let send_number = |n: u64| {
            let value = json!(format!("{n}{}", "x".repeat(10_000)));
            send(&hub, &unleased(&format!("job-{n}"), &value)).ok();
        };
        (1..=3).for_each(send_number);
        let ids =
            || orphans(&hub).iter().map(|orphan| orphan["job_id"].as_str().unwrap().to_owned()).collect::<Vec<_>>();
        assert_eq!(ids(), ["job-1", "job-2", "job-3"], "{setting}: at its limit");
        send_number(4);
        assert_eq!(ids(), ["job-2", "job-3", "job-4"], "{setting}: one beyond");
        until("the audit log says so", || {
            hub.audit("RESULT_ORPHANED").iter().any(|line| line["details"]["evicted"] == 1)
        });
        let first = hub.data().get("/mesh/orphans?limit=2").ok();
        let next = hub.data().get(&format!("/mesh/orphans?cursor={}", first["next_cursor"].as_str().unwrap())).ok();
        assert_eq!((next["orphans"].as_array().unwrap().len(), &next["next_cursor"]), (1, &Value::Null));
        assert_eq!(next["orphans"][0]["job_id"], "job-4");
    }
}
