//! Cancelling over HTTP: a job that is not wanted any more ends at once, and its worker learns it.
#![cfg(unix)]
// The lists in `clippy.toml` are for the core.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use serde_json::{Value, json};
use sheratan_tests::client::result;
use sheratan_tests::{Client, Hub, Response, until};

fn cancel(hub: &Hub, job_id: &str) -> Response {
    hub.data().post(&format!("/mesh/jobs/{job_id}/cancel"), &json!({}))
}

fn id(job: &Value) -> &str {
    job["job_id"].as_str().unwrap()
}

#[test]
fn a_waiting_job_is_cancelled_and_never_leased() {
    let mut hub = Hub::start();
    let queued = hub.submit(json!({"kind": "k", "idempotency_key": "one"}));
    let delayed = hub.submit(json!({"kind": "k", "delay_ms": 60000}));
    let dated = hub.submit(json!({"kind": "k", "run_at_utc": "2099-01-01T00:00:00Z"}));
    for job_id in [&queued, &delayed, &dated] {
        let cancelled = cancel(&hub, job_id).ok();
        assert_eq!([&cancelled["job_id"], &cancelled["status"]], [job_id.as_str(), "cancelled"]);
        assert_eq!(cancel(&hub, job_id).refused(409, "already_final")["job_status"], "cancelled");
    }
    assert_eq!(hub.pull("worker", json!({}))["jobs"], json!([]));
    until("all are in the audit log", || hub.audit("JOB_CANCELLED").len() == 3);
    assert_eq!(hub.audit("JOB_CANCELLED")[0]["details"], json!({"job_id": queued, "by": "shared_token"}));

    hub.kill();
    hub.restart();
    assert!([&queued, &delayed, &dated].iter().all(|job_id| hub.status(job_id) == "cancelled"));
    let repeated = hub.data().post("/mesh/submit_request", &json!({"kind": "k", "idempotency_key": "one"})).ok();
    assert_eq!([&repeated["status"], &repeated["job_id"]], ["failed", queued.as_str()]);
    let again = json!({"kind": "k", "idempotency_key": "one", "on_failed": "new_job"});
    let again = hub.data().post("/mesh/submit_request", &again).ok();
    assert_eq!(again["replaces"], queued.as_str());
}

#[test]
fn the_worker_of_a_cancelled_job_learns_it_and_its_result_changes_nothing() {
    let hub = Hub::start();
    let mut data = hub.data();
    hub.data().post("/mesh/submit_requests", &json!({"requests": vec![json!({"kind": "k"}); 4]})).ok();
    let pulled = hub.pull("worker", json!({"max": 4}));
    let jobs = pulled["jobs"].as_array().unwrap();
    jobs.iter().for_each(|job| _ = cancel(&hub, id(job)).ok());
    // By the answer to a pull, as long as it holds the leases, whether there are jobs, or none at the end of a wait.
    let leases: Vec<_> = jobs.iter().map(|job| job["lease_id"].clone()).collect();
    for wait_ms in [0, 50] {
        assert_eq!(hub.pull("worker", json!({"wait_ms": wait_ms}))["cancelled"], json!(leases));
    }
    hub.submit(json!({"kind": "k"}));
    let more = hub.pull("worker", json!({}));
    assert_eq!((&more["cancelled"], more["jobs"].as_array().unwrap().len()), (&json!(leases), 1));
    assert_eq!(hub.pull("another", json!({})).get("cancelled"), None);
    // By an extension, a release, or its result; with a lease, or without one as of v1.5.
    let named = |job: &Value| json!({"node_id": "worker", "leases": [job["lease_id"]]});
    let extended = data.post("/mesh/extend_lease", &named(&jobs[0])).ok();
    assert_eq!(extended["leases"][0]["error"], "cancelled");
    let released = data.post("/mesh/release_lease", &named(&jobs[1])).ok();
    assert_eq!(released["leases"][0]["ok"], false);
    hub.complete(&jobs[2], "worker").refused(409, "lease_lost");
    let mut unleased = result(&jobs[3], "worker", &json!("done"));
    unleased.as_object_mut().unwrap().remove("lease_id");
    data.post("/mesh/submit_result", &unleased).refused(409, "lease_lost");
    for job in jobs {
        let shown = hub.job(id(job));
        assert_eq!((&shown["status"], &shown["result"]), (&json!("cancelled"), &Value::Null));
        let attempt = &shown["attempts"][0];
        assert_eq!([&attempt["outcome"], &attempt["reason"]], ["revoked", "cancelled"]);
    }
    assert_eq!(data.get("/mesh/orphans").ok()["total"], 0, "no orphan");
    assert_eq!(hub.pull("worker", json!({})).get("cancelled"), None, "it has learnt it");
}

/// Sends a pull that waits long, and returns its connection.
fn waiting_pull(hub: &Hub, node: &str) -> Client {
    let mut client = hub.data();
    client.send_request("POST", "/mesh/pull_requests", Some(&json!({"node_id": node, "wait_ms": 50000}))).unwrap();
    client
}

fn waits(hub: &Hub, polls: f64) {
    until("the polls wait", || hub.metric("sheratan_hub_long_polls", "") == polls);
}

#[test]
fn a_poll_that_waits_is_answered_when_a_lease_of_its_node_is_cancelled() {
    let hub = Hub::start();
    let (first, second) = (hub.leased("worker", json!({"kind": "k"})), hub.leased("worker", json!({"kind": "k"})));
    let mut polls = [waiting_pull(&hub, "worker"), waiting_pull(&hub, "worker"), waiting_pull(&hub, "another")];
    waits(&hub, 3.0);
    cancel(&hub, id(&first)).ok();
    // Both: either may be of the process that works on it.
    for poll in &mut polls[..2] {
        let answer = poll.receive().unwrap().ok();
        assert_eq!((&answer["jobs"], &answer["cancelled"]), (&json!([]), &json!([first["lease_id"]])));
    }
    waits(&hub, 1.0);
    // The worker takes its time: it is not told again at once, but of another lease.
    let mut poll = waiting_pull(&hub, "worker");
    waits(&hub, 2.0);
    cancel(&hub, id(&second)).ok();
    let told = poll.receive().unwrap().ok()["cancelled"].clone();
    assert_eq!(told.as_array().unwrap().len(), 2, "it holds both: {told}");
    let job = hub.submit(json!({"kind": "k"}));
    assert_eq!(polls[2].receive().unwrap().ok()["jobs"][0]["job_id"], job.as_str(), "no other node was disturbed");
}

#[test]
fn a_poll_that_comes_after_the_cancel_does_not_wait_to_tell_it_and_the_next_one_does() {
    let mut hub = Hub::start();
    let job = hub.leased("worker", json!({"kind": "k"}));
    cancel(&hub, id(&job)).ok();
    let leases = json!([job["lease_id"]]);
    assert_eq!(waiting_pull(&hub, "worker").receive().unwrap().ok()["cancelled"], leases);
    let mut poll = waiting_pull(&hub, "worker");
    waits(&hub, 1.0);
    let next = hub.submit(json!({"kind": "k"}));
    let answer = poll.receive().unwrap().ok();
    assert_eq!(
        (&answer["jobs"][0]["job_id"], &answer["cancelled"]),
        (&json!(next), &leases),
        "it is told all the same"
    );
    // A result that carries a pull.
    let other = hub.leased("worker", json!({"kind": "k"}));
    cancel(&hub, id(&other)).ok();
    let mut done = result(&answer["jobs"][0], "worker", &json!(1));
    done["pull"] = json!({"wait_ms": 50000});
    let answer = hub.data().post("/mesh/submit_result", &done).ok();
    assert_eq!((&answer["status"], answer["cancelled"].as_array().unwrap().len()), (&json!("completed"), 2));
    // A hub that starts does not know who was told.
    hub.kill();
    hub.restart();
    let told = waiting_pull(&hub, "worker").receive().unwrap().ok()["cancelled"].clone();
    assert_eq!(told.as_array().unwrap().len(), 2, "{told}");
    let named = json!({"node_id": "worker", "leases": told});
    hub.data().post("/mesh/release_lease", &named).ok();
    let mut poll = waiting_pull(&hub, "worker");
    waits(&hub, 1.0);
    hub.submit(json!({"kind": "k"}));
    assert_eq!(poll.receive().unwrap().ok().get("cancelled"), None);
}

#[test]
fn of_a_result_and_a_cancel_the_first_one_wins() {
    let hub = Hub::start();
    let job = hub.leased("worker", json!({"kind": "k"}));
    hub.complete(&job, "worker").ok();
    assert_eq!(cancel(&hub, id(&job)).refused(409, "already_final")["job_status"], "completed");
    assert_eq!(hub.status(id(&job)), "completed");
    let dead = hub.dead(json!({"kind": "k"}), "broken");
    assert_eq!(cancel(&hub, &dead).refused(409, "already_final")["job_status"], "dead");
    for job_id in ["job_000000000001deadbeef", "x"] {
        cancel(&hub, job_id).refused(404, "unknown_job");
    }
    let refused = hub.data().get(&format!("/mesh/jobs/{dead}/cancel"));
    assert_eq!((refused.status, refused.header("allow")), (405, Some("POST")));
}

#[test]
fn a_cancelled_jobs_lease_counts_until_its_worker_acknowledges() {
    let mut hub = Hub::set(&[("MAX_LEASES_PER_NODE", "1")]);
    hub.data().put("/mesh/kinds/k", &json!({"max_inflight": 1}), None).ok();
    let job = hub.leased("worker", json!({"kind": "k"}));
    let next = hub.submit(json!({"kind": "k"}));
    cancel(&hub, id(&job)).ok();
    assert_eq!(hub.pull("worker", json!({}))["jobs"], json!([]), "the node may work on it still");
    assert_eq!(hub.pull("other", json!({}))["jobs"], json!([]), "and the kind has one at a time");
    hub.kill();
    hub.restart();
    assert_eq!(hub.pull("other", json!({}))["jobs"], json!([]));
    let mut waits = hub.data();
    waits.send_request("POST", "/mesh/pull_requests", Some(&json!({"node_id": "other", "wait_ms": 30000}))).unwrap();
    until("the poll waits", || hub.metric("sheratan_hub_long_polls", "") == 1.0);
    let named = json!({"node_id": "worker", "leases": [job["lease_id"]]});
    assert_eq!(hub.data().post("/mesh/extend_lease", &named).ok()["leases"][0]["error"], "cancelled");
    assert_eq!(waits.receive().unwrap().ok()["jobs"][0]["job_id"], next.as_str(), "it is woken at once");
    assert_eq!(hub.data().post("/mesh/extend_lease", &named).ok()["leases"][0]["error"], "lease_lost");
}

#[test]
fn who_waits_for_a_jobs_end_is_answered_when_it_is_cancelled() {
    let hub = Hub::start();
    let job_id = hub.submit(json!({"kind": "k"}));
    let mut waits = hub.data();
    waits.send_request("GET", &format!("/mesh/jobs/{job_id}?wait_ms=30000"), None).unwrap();
    until("the read waits", || hub.metric("sheratan_hub_long_polls", "") == 1.0);
    cancel(&hub, &job_id).ok();
    assert_eq!(waits.receive().unwrap().ok()["job"]["status"], "cancelled");
}
