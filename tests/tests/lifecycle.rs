//! A job's way through the hub, as clients and nodes see it.
// The lists in `clippy.toml` are for the core.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use serde_json::{Value, json};
use sheratan_tests::client::{failure, result};
use sheratan_tests::{Client, Hub, until};
use std::time::{Duration, Instant};

fn submit(data: &mut Client, body: &Value) -> String {
    let answer = data.post("/mesh/submit_request", body).ok();
    answer["job_id"].as_str().expect("a job has an id").to_owned()
}

fn pull(data: &mut Client, node: &str) -> Option<Value> {
    let answer = data.post("/mesh/pull_requests", &json!({"node_id": node})).ok();
    answer["jobs"].as_array().expect("a list").first().cloned()
}

#[test]
fn a_job_goes_from_submit_to_its_result() {
    let hub = Hub::start();
    let mut data = hub.data();
    let answer = data.post("/mesh/submit_request", &json!({"kind": "echo", "params": {"b": 1.50, "a": "é"}})).ok();
    assert_eq!(answer["ok"], true);
    assert_eq!(answer["dedup"], false);
    assert_eq!(answer["status"], "accepted");
    let id = answer["job_id"].as_str().unwrap();
    assert!(id.starts_with("job_"));
    assert_eq!(answer["request_id"].as_str().unwrap().len(), 36);

    let job = pull(&mut data, "n1").expect("it is there");
    assert_eq!(job["job_id"], id);
    assert_eq!(job["request_id"], answer["request_id"]);
    assert_eq!(job["kind"], "echo");
    assert_eq!(job["params"], json!({"b": 1.5, "a": "é"}));
    assert_eq!(job["attempt"], 1);
    assert_eq!(job["priority"], "normal");
    assert!(job["lease_until_utc"].as_str().unwrap().ends_with('Z'));
    assert!(pull(&mut data, "n2").is_none(), "a leased job is given once");

    let taken = data.post("/mesh/submit_result", &result(&job, "n1", &json!({"said": "é"}))).ok();
    assert_eq!(taken["status"], "completed");
    let again = data.post("/mesh/submit_result", &result(&job, "n1", &json!({"said": "é"}))).ok();
    assert_eq!(again["duplicate"], true);
    assert_eq!(again["status"], "completed");
    let other = data.post("/mesh/submit_result", &result(&job, "n1", &json!({"said": "x"})));
    assert_eq!((other.status, other.error().as_str()), (409, "already_final"));

    let shown = data.get(&format!("/mesh/jobs/{id}")).ok();
    assert_eq!(shown["job"]["status"], "completed");
    assert_eq!(shown["job"]["result"], json!({"said": "é"}));
    assert_eq!(shown["job"]["attempts"][0]["node_id"], "n1");
    assert_eq!(shown["job"]["attempts"][0]["outcome"], "completed");
}

#[test]
fn payloads_are_returned_byte_for_byte() {
    let hub = Hub::start();
    let mut data = hub.data();
    let params = r#"{"z": 1.0e2,  "a":[1 ,2],"t":"\u00e9\/"}"#;
    let body = format!(r#"{{"kind":"k","params":{params}}}"#);
    let head = format!(
        "POST /mesh/submit_request HTTP/1.1\r\nHost: h\r\nX-Sheratan-Token: {}\r\nContent-Length: {}\r\n\r\n",
        hub.token(),
        body.len()
    );
    data.send(format!("{head}{body}").as_bytes()).unwrap();
    data.receive().unwrap().ok();
    let answer = data.post("/mesh/pull_requests", &json!({"node_id": "n"}));
    let text = String::from_utf8(answer.body).unwrap();
    assert!(text.contains(params), "{text}");
}

#[test]
fn critical_comes_before_high_normal_and_low_and_the_first_before_the_second() {
    let hub = Hub::start();
    let mut data = hub.data();
    let mut expected = Vec::new();
    for priority in ["low", "normal", "high", "critical"] {
        let ids: Vec<_> = (0..3).map(|_| submit(&mut data, &json!({"kind": "k", "priority": priority}))).collect();
        expected.splice(0..0, ids);
    }
    let answer = data.post("/mesh/pull_requests", &json!({"node_id": "n", "max": 100})).ok();
    let order: Vec<_> = answer["jobs"].as_array().unwrap().iter().map(|job| job["job_id"].clone()).collect();
    assert_eq!(order, expected);
}

#[test]
fn a_pull_by_get_takes_its_parameters_from_the_query() {
    let hub = Hub::start();
    let mut data = hub.data();
    for kind in ["a", "b", "c", "a"] {
        submit(&mut data, &json!({"kind": kind}));
    }
    let answer = data.get("/mesh/pull_requests/node%201?max=5&kinds=a,c&lease_sec=30").ok();
    let kinds: Vec<_> = answer["jobs"].as_array().unwrap().iter().map(|job| job["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["a", "c", "a"]);
    assert_eq!(answer["defer_ms"], 0);
}

#[test]
fn a_long_poll_is_answered_when_a_job_is_ready_and_when_its_wait_is_over() {
    let hub = Hub::start();
    let (mut node, mut data) = (hub.data(), hub.data());
    let start = Instant::now();
    let empty = node.post("/mesh/pull_requests", &json!({"node_id": "n", "wait_ms": 150})).ok();
    assert_eq!(empty["jobs"], json!([]));
    assert!(start.elapsed() >= Duration::from_millis(150));

    let waiting = std::thread::spawn(move || {
        node.post("/mesh/pull_requests", &json!({"node_id": "n", "wait_ms": 20_000, "kinds": ["k"]})).ok()
    });
    let start = Instant::now();
    submit(&mut data, &json!({"kind": "other"}));
    let id = submit(&mut data, &json!({"kind": "k"}));
    assert_eq!(waiting.join().unwrap()["jobs"][0]["job_id"], id);
    assert!(start.elapsed() < Duration::from_secs(15), "it was woken, not timed out");
}

#[test]
fn a_delayed_job_wakes_a_long_poll_when_it_is_due() {
    let hub = Hub::start();
    let mut data = hub.data();
    let id = submit(&mut data, &json!({"kind": "k", "delay_ms": 300}));
    assert!(pull(&mut data, "n").is_none());
    assert_eq!(data.get(&format!("/mesh/jobs/{id}")).ok()["job"]["status"], "scheduled");
    let answer = data.post("/mesh/pull_requests", &json!({"node_id": "n", "wait_ms": 20_000})).ok();
    assert_eq!(answer["jobs"][0]["job_id"], id);
}

#[test]
fn a_waiter_is_answered_when_its_job_ends() {
    let hub = Hub::start();
    let (mut client, mut node) = (hub.data(), hub.data());
    let id = submit(&mut client, &json!({"kind": "k"}));
    let path = format!("/mesh/jobs/{id}?wait_ms=20000");
    let waiting = std::thread::spawn(move || client.get(&path).ok());
    let job = pull(&mut node, "n").unwrap();
    node.post("/mesh/submit_result", &result(&job, "n", &json!(42))).ok();
    let shown = waiting.join().unwrap();
    assert_eq!(shown["job"]["status"], "completed");
    assert_eq!(shown["job"]["result"], 42);
}

#[test]
fn an_expired_lease_is_given_to_another_node_and_fences_the_first() {
    let hub = Hub::start_with(&["--retry-backoff-base-ms", "10"]);
    let mut data = hub.data();
    submit(&mut data, &json!({"kind": "k", "lease_sec": 1}));
    let first = pull(&mut data, "n1").unwrap();
    let answer = data.post("/mesh/pull_requests", &json!({"node_id": "n2", "wait_ms": 20_000})).ok();
    let second = &answer["jobs"][0];
    assert_eq!(second["job_id"], first["job_id"]);
    assert_eq!(second["attempt"], 2);
    let late = data.post("/mesh/submit_result", &result(&first, "n1", &json!(1)));
    assert_eq!((late.status, late.error().as_str()), (409, "lease_lost"));
    let taken = data.post("/mesh/submit_result", &result(second, "n2", &json!(2))).ok();
    assert_eq!(taken["status"], "completed");
    let job = data.get(&format!("/mesh/jobs/{}", first["job_id"].as_str().unwrap())).ok();
    assert_eq!(job["job"]["result"], 2);
    assert_eq!(job["job"]["attempts"][0]["outcome"], "lease_expired");
    until("the reaper is in the audit log", || !hub.audit("LEASE_REAP").is_empty());
}

#[test]
fn an_extended_lease_outlives_its_first_end() {
    let hub = Hub::start();
    let mut data = hub.data();
    submit(&mut data, &json!({"kind": "k", "lease_sec": 1}));
    let job = pull(&mut data, "n").unwrap();
    let body = json!({"node_id": "n", "leases": [job["lease_id"], "lease_x"], "lease_sec": 60});
    let answer = data.post("/mesh/extend_lease", &body).ok();
    assert_eq!(answer["leases"][0]["ok"], true);
    assert!(answer["leases"][0]["lease_until_utc"].as_str() > job["lease_until_utc"].as_str());
    assert_eq!(answer["leases"][1]["error"], "lease_lost");
    let empty = data.post("/mesh/pull_requests", &json!({"node_id": "n2", "wait_ms": 1_500})).ok();
    assert_eq!(empty["jobs"], json!([]), "the lease did not end after its first second");
    data.post("/mesh/submit_result", &result(&job, "n", &json!(null))).ok();
}

#[test]
fn a_failure_is_retried_until_the_attempts_are_spent() {
    let hub = Hub::start_with(&["--retry-backoff-base-ms", "10", "--retry-backoff-cap-ms", "20"]);
    let mut data = hub.data();
    let id = submit(&mut data, &json!({"kind": "k", "max_attempts": 2}));
    for expected in ["retry_scheduled", "dead"] {
        let answer = data.post("/mesh/pull_requests", &json!({"node_id": "n", "wait_ms": 20_000})).ok();
        let answer = data.post("/mesh/submit_result", &failure(&answer["jobs"][0], "n", &json!({"why": "x"}))).ok();
        assert_eq!(answer["status"], expected);
        assert_eq!(answer["next_attempt_utc"].is_string(), expected == "retry_scheduled");
    }
    let job = data.get(&format!("/mesh/jobs/{id}")).ok();
    assert_eq!(job["job"]["status"], "dead");
    assert_eq!(job["job"]["error"], json!({"why": "x"}));
}

#[test]
fn a_retry_is_given_to_another_node_than_the_one_that_failed_its_job() {
    let hub = Hub::start_with(&["--retry-backoff-base-ms", "10"]);
    let mut data = hub.data();
    for node in ["broken", "good"] {
        hub.control().post("/mesh/heartbeat", &json!({"node_id": node})).ok();
    }
    let id = submit(&mut data, &json!({"kind": "k"}));
    let job = pull(&mut data, "broken").expect("it is there");
    data.post("/mesh/submit_result", &failure(&job, "broken", &json!("no such program"))).ok();
    until("the retry is ready", || data.get(&format!("/mesh/jobs/{id}")).ok()["job"]["status"] == "queued");
    assert!(pull(&mut data, "broken").is_none(), "the other node is alive and may run it");
    assert_eq!(pull(&mut data, "good").expect("it is ready")["job_id"], id.as_str());
}

#[test]
fn a_failure_that_is_not_retryable_is_final() {
    let hub = Hub::start();
    let mut data = hub.data();
    submit(&mut data, &json!({"kind": "k"}));
    let job = pull(&mut data, "n").unwrap();
    let mut body = failure(&job, "n", &json!("no"));
    body["retryable"] = json!(false);
    assert_eq!(data.post("/mesh/submit_result", &body).ok()["status"], "dead");
}

#[test]
fn batches_answer_each_entry_for_itself() {
    let hub = Hub::start();
    let mut data = hub.data();
    let body = json!({"requests": [{"kind": "a"}, {"kind": ""}, {"params": 1}, {"kind": "b"}]});
    let answer = data.post("/mesh/submit_requests", &body).ok();
    let codes: Vec<_> =
        answer["results"].as_array().unwrap().iter().map(|entry| entry["status_code"].clone()).collect();
    assert_eq!(codes, [200, 400, 400, 200]);
    let jobs = data.post("/mesh/pull_requests", &json!({"node_id": "n", "max": 10})).ok();
    let mut entries: Vec<_> = jobs["jobs"].as_array().unwrap().iter().map(|job| result(job, "n", &json!(1))).collect();
    entries[1]["integrity"]["sha256"] = json!("00");
    submit(&mut data, &json!({"kind": "c"}));
    let body = json!({"results": entries, "node_id": "n", "pull": {"max": 5}});
    let answer = data.post("/mesh/submit_results", &body).ok();
    assert_eq!(answer["results"][0]["status"], "completed");
    assert_eq!(answer["results"][1]["status_code"], 403);
    assert_eq!(answer["results"][1]["error"], "result_integrity_fail");
    assert_eq!(answer["jobs"][0]["kind"], "c", "the pull that came with the results is answered");
}

#[test]
fn jobs_are_paged_newest_first_and_filtered() {
    let hub = Hub::start();
    let mut data = hub.data();
    let ids: Vec<_> =
        (0..5).map(|n| submit(&mut data, &json!({"kind": if n % 2 == 0 { "even" } else { "odd" }}))).collect();
    pull(&mut data, "n1").unwrap();
    let first = data.get("/mesh/jobs?limit=3").ok();
    let page: Vec<_> = first["jobs"].as_array().unwrap().iter().map(|job| job["job_id"].as_str().unwrap()).collect();
    assert_eq!(page, [&ids[4], &ids[3], &ids[2]]);
    let cursor = first["next_cursor"].as_str().expect("there are more");
    let second = data.get(&format!("/mesh/jobs?limit=3&cursor={cursor}")).ok();
    let page: Vec<_> = second["jobs"].as_array().unwrap().iter().map(|job| job["job_id"].as_str().unwrap()).collect();
    assert_eq!(page, [&ids[1], &ids[0]]);
    assert!(second["next_cursor"].is_null());
    let count = |data: &mut Client, query: &str| {
        data.get(&format!("/mesh/jobs?{query}")).ok()["jobs"].as_array().unwrap().len()
    };
    assert_eq!(count(&mut data, "kind=odd"), 2);
    assert_eq!(count(&mut data, "status=leased"), 1);
    assert_eq!(count(&mut data, "status=queued&kind=even"), 2);
    assert_eq!(count(&mut data, "node=n1"), 1);
}

#[test]
fn ten_identical_submits_are_one_job_and_another_payload_is_a_collision() {
    let hub = Hub::start();
    let mut data = hub.data();
    let body = json!({"kind": "k", "params": {"a": 1, "b": 2}, "idempotency_key": "key-1"});
    let first = data.post("/mesh/submit_request", &body).ok();
    for _ in 0..9 {
        let again = data.post("/mesh/submit_request", &body).ok();
        assert_eq!(again["job_id"], first["job_id"]);
        assert_eq!(again["request_id"], first["request_id"]);
        assert_eq!((&again["dedup"], &again["status"]), (&json!(true), &json!("in_progress")));
    }
    let other = json!({"kind": "k", "params": {"a": 2}, "idempotency_key": "key-1"});
    let refused = data.post("/mesh/submit_request", &other);
    assert_eq!((refused.status, refused.error().as_str()), (409, "idempotency_key_collision"));
    let job = pull(&mut data, "n").unwrap();
    assert!(pull(&mut data, "n").is_none(), "one job in all");
    data.post("/mesh/submit_result", &result(&job, "n", &json!({"r": 1}))).ok();
    let after = data.post("/mesh/submit_request", &body).ok();
    assert_eq!((&after["status"], &after["result"]), (&json!("completed"), &json!({"r": 1})));
}

#[test]
fn a_node_is_online_then_stale_then_dead_and_online_again() {
    let hub = Hub::start_with(&["--node-ttl-sec", "1", "--node-dead-sec", "2"]);
    let mut control = hub.control();
    let body = json!({
        "node_id": "NODE_A", "health": "GREEN", "zone": "z1", "capabilities": ["gpu:false", "heartbeat"],
        "status": "online", "timestamp": "2026-01-15T20:52:03.348Z", "endpoint": null,
    });
    let answer = control.post("/mesh/heartbeat", &body).ok();
    assert_eq!(
        (&answer["node_id"], &answer["status"], &answer["health"]),
        (&json!("NODE_A"), &json!("ONLINE"), &json!("GREEN"))
    );
    assert!(answer["next_heartbeat_ms"].as_u64().unwrap() < 1_000);
    let status = |control: &mut Client| control.get("/api/registry").ok()["nodes"]["NODE_A"]["status"].clone();
    assert_eq!(status(&mut control), "ONLINE");
    until("it is stale", || status(&mut control) == "STALE");
    until("it is dead", || status(&mut control) == "DEAD");
    let by_its_old_name = json!({"host_id": "NODE_A", "zone": "z1", "capabilities": ["heartbeat", "gpu:false"]});
    control.post("/api/hosts/heartbeat", &by_its_old_name).ok();
    let registry = control.get("/registry").ok();
    let node = &registry["nodes"]["NODE_A"];
    assert_eq!((&node["status"], &node["zone"]), (&json!("ONLINE"), &json!("z1")));
    assert_eq!(node["capabilities"], json!(["gpu:false", "heartbeat"]));
    for event in ["NODE_REGISTERED", "NODE_STALE", "NODE_DEAD", "NODE_ONLINE"] {
        until(event, || !hub.audit(event).is_empty());
    }
}

#[test]
fn jobs_go_only_to_nodes_of_their_zone_with_what_they_require() {
    let hub = Hub::start();
    let (mut data, mut control) = (hub.data(), hub.control());
    let id = submit(&mut data, &json!({"kind": "k", "zone": "lab", "requires": ["gpu"]}));
    control.post("/mesh/heartbeat", &json!({"node_id": "plain", "zone": "lab"})).ok();
    control.post("/mesh/heartbeat", &json!({"node_id": "elsewhere", "capabilities": ["gpu"]})).ok();
    for node in ["plain", "elsewhere", "unknown"] {
        assert!(pull(&mut data, node).is_none(), "{node}");
    }
    control.post("/mesh/heartbeat", &json!({"node_id": "right", "zone": "lab", "capabilities": ["gpu"]})).ok();
    assert_eq!(pull(&mut data, "right").unwrap()["job_id"], id);
}

#[test]
fn the_hub_remembers_nodes_jobs_leases_and_keys_over_a_restart() {
    let mut hub = Hub::start();
    let mut data = hub.data();
    hub.control().post("/mesh/heartbeat", &json!({"node_id": "n", "capabilities": ["x"]})).ok();
    let done = submit(&mut data, &json!({"kind": "done", "idempotency_key": "key", "params": [1]}));
    let job = pull(&mut data, "n").unwrap();
    data.post("/mesh/submit_result", &result(&job, "n", &json!({"r": [1, 2]}))).ok();
    submit(&mut data, &json!({"kind": "leased"}));
    let leased = pull(&mut data, "n").unwrap();
    let queued = submit(&mut data, &json!({"kind": "queued", "priority": "high"}));
    for is_clean in [true, false] {
        if is_clean {
            assert_eq!(hub.stop().code(), Some(0));
        } else {
            hub.kill();
        }
        hub.restart();
        let mut data = hub.data();
        let nodes = hub.control().get("/api/registry").ok();
        assert_eq!(nodes["nodes"]["n"]["capabilities"], json!(["x"]));
        assert_eq!(nodes["nodes"]["n"]["leases"], 1);
        assert_eq!(data.get(&format!("/mesh/jobs/{done}")).ok()["job"]["result"], json!({"r": [1, 2]}));
        assert_eq!(data.get(&format!("/mesh/jobs/{queued}")).ok()["job"]["priority"], "high");
        let again = json!({"kind": "done", "idempotency_key": "key", "params": [1]});
        assert_eq!(data.post("/mesh/submit_request", &again).ok()["job_id"], done.as_str());
    }
    let mut data = hub.data();
    data.post("/mesh/submit_result", &result(&leased, "n", &json!("kept"))).ok();
    assert_eq!(pull(&mut data, "n").unwrap()["job_id"], queued);
}

#[test]
fn a_full_queue_refuses_and_accepts_again_when_there_is_room() {
    for (mode, status) in [("429", 429), ("503", 503)] {
        let hub = Hub::start_with(&["--max-queue-depth", "2", "--backpressure-mode", mode]);
        let mut data = hub.data();
        submit(&mut data, &json!({"kind": "k"}));
        submit(&mut data, &json!({"kind": "k"}));
        let refused = data.post("/mesh/submit_request", &json!({"kind": "k"}));
        assert_eq!((refused.status, refused.error().as_str()), (status, "backpressure"));
        assert_eq!((&refused.json()["queue_depth"], &refused.json()["max"]), (&json!(2), &json!(2)));
        assert!(refused.header("retry-after").unwrap().parse::<u64>().unwrap() >= 1);
        pull(&mut data, "n").unwrap();
        submit(&mut data, &json!({"kind": "k"}));
        until("the drop is in the audit log", || !hub.audit("BACKPRESSURE_DROP").is_empty());
    }
}

#[test]
fn a_saturated_node_is_told_to_come_back_later_with_status_200() {
    let hub = Hub::start_with(&["--max-leases-per-node", "1"]);
    let mut data = hub.data();
    submit(&mut data, &json!({"kind": "k"}));
    submit(&mut data, &json!({"kind": "k"}));
    pull(&mut data, "n").unwrap();
    let answer = data.post("/mesh/pull_requests", &json!({"node_id": "n", "wait_ms": 20_000})).ok();
    assert_eq!(answer["jobs"], json!([]));
    assert!(answer["defer_ms"].as_u64().unwrap() > 0);
    assert!(pull(&mut data, "n2").is_some());
}
