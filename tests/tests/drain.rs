//! Nodes taken out of service over HTTP: drained with or without a deadline, resumed, removed.
#![cfg(unix)]
// The lists in `clippy.toml` are for the core.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use serde_json::{Value, json};
use sheratan_tests::tools::{own_address, skipped};
use sheratan_tests::{Client, Hub, Options, Response, until};
use tempfile::TempDir;

fn act(hub: &Hub, node: &str, act: &str, body: Value) -> Response {
    hub.control().post(&format!("/api/nodes/{node}/{act}"), &body)
}

fn beat(hub: &Hub, node: &str) {
    hub.control().post("/mesh/heartbeat", &json!({"node_id": node})).ok();
}

fn extend(hub: &Hub, node: &str, job: &Value) -> Value {
    let named = json!({"node_id": node, "leases": [job["lease_id"]], "lease_sec": 60});
    hub.data().post("/mesh/extend_lease", &named).ok()["leases"][0].clone()
}

fn node(hub: &Hub, node: &str) -> Value {
    hub.control().get(&format!("/api/nodes/{node}")).ok()["nodes"][node].clone()
}

#[test]
fn a_drained_node_gets_no_jobs_says_why_and_stays_drained() {
    let mut hub = Hub::start();
    beat(&hub, "a");
    let mut waits = hub.data();
    waits.send_request("POST", "/mesh/pull_requests", Some(&json!({"node_id": "a", "wait_ms": 30000}))).unwrap();
    until("the poll waits", || hub.metric("sheratan_hub_long_polls", "") == 1.0);
    let drained = act(&hub, "a", "drain", json!({"reason": "new disk"})).ok();
    assert_eq!([&drained["node_id"], &drained["drained"], &drained["leases"]], [&json!("a"), &json!(true), &json!(0)]);
    let answer = waits.receive().unwrap().ok();
    assert_eq!([&answer["jobs"], &answer["reason"]], [&json!([]), &json!("drained")], "it is answered at once");
    hub.submit(json!({"kind": "k"}));
    let is_withheld = |hub: &Hub| {
        let answer = hub.pull("a", json!({"wait_ms": 30000}));
        assert_eq!([&answer["jobs"], &answer["reason"]], [&json!([]), &json!("drained")]);
        assert!(answer["defer_ms"].as_u64().unwrap() > 0, "{answer}");
    };
    is_withheld(&hub);
    beat(&hub, "a");
    is_withheld(&hub);
    until("it is in the audit log", || !hub.audit("NODE_DRAINED").is_empty());
    hub.kill();
    hub.restart();
    beat(&hub, "a");
    is_withheld(&hub);
    let shown = node(&hub, "a");
    assert_eq!((&shown["drain_reason"], shown["drained_utc"].is_string()), (&json!("new disk"), true), "{shown}");
    let resumed = act(&hub, "a", "resume", json!({})).ok();
    assert_eq!(resumed["drained"], false);
    assert_eq!(hub.pull("a", json!({}))["jobs"].as_array().unwrap().len(), 1);
    until("both are in the audit log", || !hub.audit("NODE_RESUMED").is_empty());
    for event in ["NODE_DRAINED", "NODE_RESUMED"] {
        let details = hub.audit(event)[0]["details"].clone();
        assert_eq!([&details["node_id"], &details["by"]], ["a", "shared_token"]);
    }
    assert_eq!(hub.audit("NODE_DRAINED")[0]["details"]["reason"], "new disk");
}

#[test]
fn the_leases_of_a_drained_node_end_by_the_deadline_at_no_cost() {
    let hub = Hub::start();
    beat(&hub, "a");
    let job = hub.leased("a", json!({"kind": "k", "max_attempts": 1}));
    let done = hub.leased("a", json!({"kind": "k"}));
    let drained = act(&hub, "a", "drain", json!({"deadline_sec": 1.5})).ok();
    assert_eq!(drained["leases"], 2);
    until("it is in the audit log", || !hub.audit("NODE_DRAINED").is_empty());
    assert_eq!(hub.audit("NODE_DRAINED")[0]["details"]["deadline_utc"], node(&hub, "a")["drain_deadline_utc"]);
    let extended = extend(&hub, "a", &job);
    assert_eq!([&extended["ok"], &extended["last"]], [true, true]);
    assert_eq!(hub.complete(&done, "a").ok()["status"], "completed", "results are taken");
    let job_id = job["job_id"].as_str().unwrap();
    until("the deadline is over", || hub.status(job_id) == "queued");
    assert_eq!(extend(&hub, "a", &job)["error"], "lease_lost");
    hub.complete(&job, "a").refused(409, "lease_lost");
    let attempt = hub.job(job_id)["attempts"][0].clone();
    assert_eq!([&attempt["outcome"], &attempt["reason"]], ["revoked", "drained"]);
    // Its only attempt was not charged.
    let again = hub.lease("b", "k");
    assert_eq!(again["job_id"], job_id);
    assert_eq!(hub.complete(&again, "b").ok()["status"], "completed");
}

#[test]
fn without_a_deadline_leases_run_to_their_end_and_a_resumed_node_keeps_them() {
    let hub = Hub::start();
    beat(&hub, "a");
    let job = hub.leased("a", json!({"kind": "k", "lease_sec": 60}));
    act(&hub, "a", "drain", json!({})).ok();
    let until_utc = hub.job(job["job_id"].as_str().unwrap())["lease_until_utc"].clone();
    let extended = extend(&hub, "a", &job);
    assert_eq!([&extended["last"], &extended["lease_until_utc"]], [&json!(true), &until_utc], "it is not extended");
    act(&hub, "a", "resume", json!({})).ok();
    let extended = extend(&hub, "a", &job);
    assert_eq!((&extended["ok"], extended.get("last")), (&json!(true), None));
    assert_eq!(hub.complete(&job, "a").ok()["status"], "completed");
    // A drain with a deadline that is undone before it.
    let job = hub.leased("a", json!({"kind": "k"}));
    act(&hub, "a", "drain", json!({"deadline_sec": 3600})).ok();
    act(&hub, "a", "resume", json!({})).ok();
    assert_eq!(extend(&hub, "a", &job).get("last"), None);
    assert_eq!(node(&hub, "a")["leases"], 1);
}

#[test]
fn a_node_that_is_unknown_or_a_body_that_is_not_understood_is_refused() {
    let hub = Hub::start();
    beat(&hub, "a");
    for body in [
        json!({"deadline_sec": -1}),
        json!({"deadline_sec": 604801}),
        json!({"deadline": 5}),
        json!({"reason": 5}),
        json!([]),
    ] {
        act(&hub, "a", "drain", body).refused(400, "bad_request");
    }
    for what in ["drain", "resume"] {
        act(&hub, "nobody", what, json!({})).refused(404, "unknown_node");
        act(&hub, "%ff", what, json!({})).refused(400, "bad_request");
        let refused = hub.control().get(&format!("/api/nodes/a/{what}"));
        assert_eq!((refused.status, refused.header("allow")), (405, Some("POST")));
    }
    hub.control().get("/api/nodes/nobody").refused(404, "unknown_node");
    hub.control().delete("/api/nodes/nobody").refused(404, "unknown_node");
    assert_eq!(node(&hub, "a")["status"], "ONLINE");
    hub.data().get("/api/nodes/a").refused(410, "port_mismatch");
}

#[test]
fn a_node_is_removed_once_it_is_quiet_and_has_no_leases() {
    let hub = Hub::set(&[("NODE_TTL_SEC", "1")]);
    beat(&hub, "a");
    hub.control().delete("/api/nodes/a").refused(409, "node_in_use");
    let job = hub.leased("b", json!({"kind": "k"}));
    until("both are stale", || ["a", "b"].iter().all(|name| node(&hub, name)["status"] == "STALE"));
    let refused = hub.control().delete("/api/nodes/b").refused(409, "node_in_use");
    assert!(refused["detail"].as_str().unwrap().contains("1 lease"), "{refused}");
    hub.control().delete("/api/nodes/a").ok();
    hub.control().get("/api/nodes/a").refused(404, "unknown_node");
    hub.control().delete("/api/nodes/a").refused(404, "unknown_node");
    assert_eq!(hub.status(job["job_id"].as_str().unwrap()), "leased");
    until("it is in the audit log", || !hub.audit("NODE_REMOVED").is_empty());
    assert_eq!(hub.audit("NODE_REMOVED")[0]["details"], json!({"node_id": "a", "by": "shared_token"}));
}

#[test]
fn only_the_hubs_own_machine_removes_nodes() {
    let Some(address) = own_address() else {
        return skipped("this machine has no address but loopback");
    };
    let token = "a-token-of-the-test";
    let env = vec![("SHERATAN_HUB_TOKEN".to_owned(), token.to_owned())];
    let args = ["--control-addr", "0.0.0.0:0"].map(str::to_owned).to_vec();
    let hub = Hub::start_in(TempDir::new().unwrap(), Options { args, env });
    let client = |ip| Client::new((ip, hub.control.port()).into(), Some(token.to_owned()));
    client(address).post("/mesh/heartbeat", &json!({"node_id": "a"})).ok();
    client(address).delete("/api/nodes/a").refused(403, "admin_local_only");
    client(address).delete("/api/nodes/nobody").refused(403, "admin_local_only");
    // An operator may drain and resume from elsewhere.
    client(address).post("/api/nodes/a/drain", &json!({})).ok();
    client(address).post("/api/nodes/a/resume", &json!({})).ok();
    client([127, 0, 0, 1].into()).delete("/api/nodes/a").refused(409, "node_in_use");
}
