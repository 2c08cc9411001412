//! The wire as users of v1.5 know it, where the recordings (`tests/v15.rs`) do not reach: results without a lease,
//! tokens on public paths, words that nodes in use send, details of audit events.
// The lists in `clippy.toml` are for the core.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use serde_json::{Value, json};
use sheratan_tests::client::{failure, hmac, result};
use sheratan_tests::{Client, Hub, Options, until};
use tempfile::TempDir;

fn submit(hub: &Hub, body: &Value) -> Value {
    hub.data().post("/mesh/submit_request", body).ok()
}

/// A result's body as v1.5 sends it: without a lease, and perhaps without a node.
fn without_lease(mut body: Value, node: Option<&str>) -> Value {
    body.as_object_mut().unwrap().remove("lease_id");
    body["node_id"] = json!(node);
    body
}

fn job_of(hub: &Hub, job: &Value) -> Value {
    hub.data().get(&format!("/mesh/jobs/{}", job["job_id"].as_str().unwrap())).ok()["job"].clone()
}

#[test]
fn a_result_without_a_lease_completes_a_job_that_waits_and_outlives_a_crash() {
    let mut hub = Hub::start();
    let (queued, retried) =
        (submit(&hub, &json!({"kind": "k", "idempotency_key": "a"})), submit(&hub, &json!({"kind": "r"})));
    let leased = hub.data().get("/mesh/pull_requests/n?kinds=r").ok()["jobs"][0].clone();
    hub.data().post("/mesh/submit_result", &failure(&leased, "n", &json!("no"))).ok();
    assert_eq!(job_of(&hub, &retried)["status"], "scheduled");
    let queued_result = without_lease(result(&queued, "", &json!({"value": 42})), None);
    let retried_result = without_lease(result(&retried, "", &json!(1)), Some("m"));
    for (body, job) in [(&queued_result, &queued), (&retried_result, &retried)] {
        let answer = hub.data().post("/mesh/submit_result", body).ok();
        assert_eq!((&answer["status"], &answer["job_id"]), (&json!("completed"), &job["job_id"]));
    }
    until("both are in the audit log", || hub.audit("RESULT_UNLEASED").len() == 2);
    let details: Vec<_> = hub.audit("RESULT_UNLEASED").iter().map(|line| line["details"].clone()).collect();
    assert_eq!(details[0], json!({"job_id": queued["job_id"], "node_id": null}));
    assert_eq!(details[1], json!({"job_id": retried["job_id"], "node_id": "m"}));
    hub.kill();
    hub.restart();
    assert_eq!(
        (&job_of(&hub, &queued)["status"], &job_of(&hub, &queued)["result"]),
        (&json!("completed"), &json!({"value": 42}))
    );
    let again = hub.data().post("/mesh/submit_result", &queued_result).ok();
    assert_eq!((&again["status"], &again["duplicate"]), (&json!("completed"), &json!(true)));
    let repeated = submit(&hub, &json!({"kind": "k", "idempotency_key": "a"}));
    assert_eq!((&repeated["status"], &repeated["result"]), (&json!("completed"), &json!({"value": 42})));
    assert_eq!(hub.data().get("/mesh/pull_requests/n").ok()["jobs"], json!([]));
}

#[test]
fn a_failure_without_a_lease_costs_one_attempt_also_when_it_is_sent_twice() {
    let hub = Hub::start_with(&[
        "--retry-max-attempts",
        "2",
        "--retry-backoff-base-ms",
        "600000",
        "--retry-backoff-cap-ms",
        "600000",
    ]);
    let job = submit(&hub, &json!({"kind": "k"}));
    let body = without_lease(failure(&job, "", &json!("no")), Some("n"));
    let first = hub.data().post("/mesh/submit_result", &body).ok();
    let again = hub.data().post("/mesh/submit_result", &body).ok();
    assert_eq!(
        (&first["status"], &again["status"], &again["duplicate"]),
        (&json!("retry_scheduled"), &first["status"], &json!(true))
    );
    let shown = job_of(&hub, &job);
    assert_eq!(
        (&shown["status"], &shown["attempt"], &shown["attempts"][0]["node_id"]),
        (&json!("scheduled"), &json!(1), &json!("n"))
    );
}

#[test]
fn a_signature_is_never_ignored() {
    let key = "0123456789abcdef0123456789abcdef";
    let with_key = || {
        let env = vec![("SHERATAN_RESULT_HMAC_KEY".into(), key.into())];
        Hub::start_in(TempDir::new().unwrap(), Options { args: Vec::new(), env })
    };
    for (hub, has_key) in [(Hub::start(), false), (with_key(), true)] {
        let lease = || {
            submit(&hub, &json!({"kind": "k"}));
            hub.data().get("/mesh/pull_requests/n").ok()["jobs"][0].clone()
        };
        let job = lease();
        let mut body = result(&job, "n", &json!(7));
        for sig in [json!("00".repeat(32)), json!("x")] {
            body["integrity"]["sig"] = sig;
            let refused = hub.data().post("/mesh/submit_result", &body);
            assert_eq!(
                (refused.status, &refused.json()["reason"]),
                (403, &json!("sig_mismatch")),
                "with a key: {has_key}"
            );
        }
        let canonical = json!({"error": null, "job_id": job["job_id"], "ok": true, "result": 7}).to_string();
        body["integrity"]["sig"] = json!(hmac(key.as_bytes(), canonical.as_bytes()));
        assert_eq!(hub.data().post("/mesh/submit_result", &body).status, if has_key { 200 } else { 403 });
        let mut blank = result(&lease(), "n", &json!(8));
        blank["integrity"]["sig"] = json!(" ");
        hub.data().post("/mesh/submit_result", &blank).ok();
    }
}

#[test]
fn a_wrong_token_is_refused_on_public_paths_and_never_on_probes() {
    let hub = Hub::start();
    for addr in [hub.control, hub.data] {
        for (path, status) in [("/health", 403), ("/metrics", 403), ("/livez", 200), ("/readyz", 200)] {
            let ask = |token: Option<&str>| Client::new(addr, token.map(str::to_owned)).get(path).status;
            assert_eq!((ask(Some("an old token")), ask(Some(&hub.token())), ask(None)), (status, 200, 200), "{path}");
        }
        let health = Client::new(addr, None).ask("GET", "/health", &[("X-Sheratan-Token", "")]);
        assert_eq!(health.status, 200, "an empty token is none");
    }
    until("the refusals are in the audit log", || hub.audit("AUTH_FAILURE").len() == 4);
    assert_eq!(hub.audit("AUTH_FAILURE")[0]["details"]["path"], "/health");
}

#[test]
fn heartbeats_of_nodes_in_use_are_taken_as_they_come() {
    let hub = Hub::start_with(&["--node-ttl-sec", "1"]);
    let beat = |body: Value| hub.control().post("/mesh/heartbeat", &body);
    assert_eq!(beat(json!({"name": "by-name", "health": "STALE", "endpoint": ""})).ok()["node_id"], "by-name");
    assert_eq!(beat(json!({"host_id": "h", "name": "n", "health": 7})).ok()["node_id"], "h");
    assert_eq!(beat(json!({"node_id": "id", "host_id": "h2", "name": "n2", "health": "red"})).ok()["health"], "RED");
    let attested = json!({"attestation": {"capabilities": ["mesh", "gpu:false"]}, "node_id": "attested"});
    beat(attested.clone()).ok();
    let mut own = attested;
    (own["node_id"], own["capabilities"]) = (json!("own"), json!(["cpu"]));
    beat(own).ok();
    beat(json!({"node_id": "odd", "attestation": {"capabilities": [{"kind": "a", "cost": 1}]}})).ok();
    assert_eq!(beat(json!({"health": "GREEN"})).status, 400);
    let registry = hub.control().get("/registry").ok();
    let nodes = registry["nodes"].as_object().unwrap();
    assert_eq!(nodes.keys().collect::<Vec<_>>(), ["attested", "by-name", "h", "id", "odd", "own"]);
    assert_eq!(nodes["attested"]["capabilities"], json!(["gpu:false", "mesh"]));
    assert_eq!((&nodes["own"]["capabilities"], &nodes["odd"]["capabilities"]), (&json!(["cpu"]), &json!([])));
    submit(&hub, &json!({"kind": "k", "requires": ["mesh"]}));
    let job = hub.data().get("/mesh/pull_requests/attested").ok()["jobs"][0].clone();
    assert_eq!(job["kind"], "k");
    assert_eq!(hub.control().get("/registry").ok()["nodes"]["attested"]["queue"]["inbound_requests"], 1);
    until("the nodes are stale", || hub.control().get("/registry").ok()["nodes"]["id"]["health"] == "STALE");
    let counts = hub.control().get("/metrics").ok()["node_counts"].clone();
    let sum: u64 = counts.as_object().unwrap().values().map(|count| count.as_u64().unwrap()).sum();
    assert_eq!(sum, nodes.len() as u64, "{counts}");
}

#[test]
fn the_details_of_audit_events_say_what_scripts_look_for() {
    let hub = Hub::start_with(&["--max-queue-depth", "2", "--max-inflight", "1", "--retry-backoff-base-ms", "5000"]);
    for _ in 0..2 {
        submit(&hub, &json!({"kind": "k", "params": 1, "idempotency_key": "key-of-a-client"}));
    }
    submit(&hub, &json!({"kind": "k"}));
    let refused = hub.data().post("/mesh/submit_requests", &json!({"requests": [{"kind": "full"}]})).ok();
    let refused = &refused["results"][0];
    assert_eq!(
        (&refused["error"], &refused["reason"], &refused["max"]),
        (&json!("backpressure"), &json!("queue_depth"), &json!(2))
    );
    let collision = json!({"requests": [{"kind": "k", "params": 2, "idempotency_key": "key-of-a-client"}]});
    let collision = hub.data().post("/mesh/submit_requests", &collision).ok()["results"][0].clone();
    assert!(collision["existing_job_id"].as_str().unwrap().starts_with("job_"), "{collision}");
    let job = hub.data().get("/mesh/pull_requests/n").ok()["jobs"][0].clone();
    assert_eq!(hub.data().get("/mesh/pull_requests/m").ok()["defer_ms"].as_u64().map(|ms| ms > 0), Some(true));
    let failed = hub.data().post("/mesh/submit_result", &failure(&job, "n", &json!("no"))).ok();
    let details = |event: &str| {
        until("the event is in the audit log", || !hub.audit(event).is_empty());
        hub.audit(event)[0]["details"].clone()
    };
    let hit = details("IDEMPOTENCY_HIT");
    assert_eq!(
        (&hit["key_prefix"], &hit["status"], &hit["job_id"]),
        (&json!("key-of-a"), &json!("in_progress"), &job["job_id"])
    );
    let drop = details("BACKPRESSURE_DROP");
    assert_eq!((&drop["path"], &drop["ip"]), (&json!("/mesh/submit_requests"), &json!("127.0.0.1")));
    assert_eq!((&drop["queue_depth"], &drop["max"], &drop["reason"]), (&json!(2), &json!(2), &json!("queue_depth")));
    let saturated = details("INFLIGHT_SATURATED");
    assert_eq!(saturated, json!({"node_id": "m", "inflight": 1, "max": 1}));
    assert_eq!(details("RETRY_SCHEDULED")["next_retry_utc"], failed["next_attempt_utc"]);
}

#[test]
fn paths_of_the_data_plane_are_gone_on_the_control_plane_whether_or_not_they_are_served() {
    let hub = Hub::start();
    for path in [
        "/mesh/results/n",
        "/mesh/results/submit",
        "/mesh/dlq",
        "/mesh/dlq/x/requeue",
        "/mesh/jobs",
        "/mesh/jobs/x/cancel",
        "/admin/x",
    ] {
        let mut client = Client::new(hub.control, None);
        assert_eq!((path, client.get(path).status), (path, 410));
        assert_eq!((path, client.post(path, &json!({})).status), (path, 410));
    }
}
