//! Why a job does not run: a client asks, does what the answer names, and the job is leased.
#![cfg(unix)]
// The lists in `clippy.toml` are for the core.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use serde_json::{Value, json};
use sheratan_tests::client::{failure, result};
use sheratan_tests::{Hub, Options, until};
use tempfile::TempDir;

struct Mesh {
    hub: Hub,
}

impl Mesh {
    fn start(env: &[(&str, &str)]) -> Mesh {
        let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Mesh { hub: Hub::start_in(TempDir::new().unwrap(), Options { args: Vec::new(), env }) }
    }

    fn submit(&self, job: &Value) -> String {
        let answer = self.hub.data().post("/mesh/submit_request", job).ok();
        answer["job_id"].as_str().unwrap().to_owned()
    }

    fn explain(&self, job_id: &str) -> Value {
        self.hub.data().get(&format!("/mesh/jobs/{job_id}/explain")).ok()
    }

    /// The codes of all reasons.
    fn codes(&self, job_id: &str) -> Vec<String> {
        let explained = self.explain(job_id);
        let reasons = explained["reasons"].as_array().unwrap_or_else(|| panic!("{explained}"));
        for reason in reasons {
            let detail = reason["detail"].as_str().unwrap();
            assert!(detail.ends_with('.') && detail.len() > 10, "{reason}");
        }
        reasons.iter().map(|reason| reason["code"].as_str().unwrap().to_owned()).collect()
    }

    fn heartbeat(&self, node: &str, capabilities: &[&str]) {
        let body = json!({"node_id": node, "capabilities": capabilities});
        self.hub.control().post("/mesh/heartbeat", &body).ok();
    }

    fn pull(&self, node: &str) -> Vec<Value> {
        let answer = self.hub.data().post("/mesh/pull_requests", &json!({"node_id": node, "max": 10}));
        answer.ok()["jobs"].as_array().unwrap().clone()
    }

    fn set_kind(&self, kind: &str, rules: &Value) {
        let path = format!("/mesh/kinds/{kind}");
        self.hub.data().try_request("PUT", &path, Some(rules)).expect("the hub answers").ok();
    }

    fn operate(&self, path: &str) {
        self.hub.control().post(path, &json!({})).ok();
    }
}

#[test]
fn each_reason_is_lifted_by_what_it_names_and_by_nothing_less() {
    let mesh = Mesh::start(&[]);
    mesh.set_kind("k", &json!({"paused": true, "pause_reason": "the model is updated", "max_inflight": 0}));
    let job = mesh.submit(&json!({"kind": "k", "requires": ["gpu"]}));
    // All of them: to lift some is not enough.
    assert_eq!(mesh.codes(&job), ["kind_paused", "kind_full", "no_node"]);
    assert_eq!(mesh.explain(&job)["reasons"][0]["pause_reason"], "the model is updated");
    assert_eq!(mesh.explain(&job)["estimated_start_utc"], Value::Null);

    mesh.heartbeat("a", &[]);
    let lacking = &mesh.explain(&job)["reasons"][2]["nodes_lacking"];
    assert_eq!(*lacking, json!([{"capability": "gpu", "nodes": 1}]));
    mesh.heartbeat("a", &["gpu"]);
    assert_eq!((mesh.codes(&job), mesh.pull("a").len()), (vec!["kind_paused".to_owned(), "kind_full".to_owned()], 0));
    mesh.set_kind("k", &json!({"paused": false}));
    assert_eq!((mesh.codes(&job), mesh.pull("a").len()), (vec!["kind_full".to_owned()], 0));
    mesh.operate("/api/nodes/a/drain");
    assert_eq!(mesh.codes(&job), ["kind_full", "nodes_drained"]);
    mesh.set_kind("k", &json!({"max_inflight": null, "rate_per_sec": 0}));
    let stopped = mesh.explain(&job)["reasons"][0].clone();
    assert_eq!((&stopped["code"], stopped.get("until_utc")), (&json!("kind_rate"), None));
    assert_eq!(stopped["lifted_by"], "a larger rate_per_sec of the kind", "time does not lift a rate of 0");
    mesh.set_kind("k", &json!({"rate_per_sec": null}));
    assert_eq!((mesh.codes(&job), mesh.pull("a").len()), (vec!["nodes_drained".to_owned()], 0));
    mesh.operate("/api/nodes/a/resume");
    assert_eq!(mesh.codes(&job), ["turn"]);
    assert_eq!(mesh.pull("a").len(), 1);
    let leased = mesh.explain(&job);
    assert_eq!(leased["reasons"][0]["node_id"], "a", "{leased}");
    assert_eq!((leased["status"].as_str(), mesh.codes(&job)), (Some("leased"), vec!["leased".to_owned()]));
}

#[test]
fn a_node_that_is_drained_and_full_is_named_with_both() {
    let mesh = Mesh::start(&[("SHERATAN_MAX_LEASES_PER_NODE", "1")]);
    mesh.heartbeat("a", &[]);
    mesh.submit(&json!({"kind": "k"}));
    let job = mesh.submit(&json!({"kind": "k"}));
    let leased = mesh.pull("a");
    assert_eq!((leased.len(), mesh.codes(&job)), (1, vec!["nodes_full".to_owned()]));
    mesh.operate("/api/nodes/a/drain");
    assert_eq!(mesh.codes(&job), ["nodes_drained", "nodes_full"]);
    let reasons = mesh.explain(&job)["reasons"].clone();
    assert_eq!([&reasons[0]["nodes_drained"], &reasons[1]["nodes_full"]], [&json!(1), &json!(1)]);
    assert_ne!(reasons[0]["lifted_by"], reasons[1]["lifted_by"]);
    mesh.operate("/api/nodes/a/resume");
    assert_eq!((mesh.codes(&job), mesh.pull("a").len()), (vec!["nodes_full".to_owned()], 0));
    mesh.hub.data().post("/mesh/submit_result", &result(&leased[0], "a", &json!(1))).ok();
    assert_eq!((mesh.codes(&job), mesh.pull("a").len()), (vec!["turn".to_owned()], 1));
}

#[test]
fn a_job_that_does_not_fit_beside_the_bytes_under_lease_says_so_until_it_does() {
    let mesh = Mesh::start(&[("SHERATAN_MAX_INFLIGHT_BYTES", "150KiB")]);
    mesh.heartbeat("a", &[]);
    let large = json!({"kind": "k", "params": "x".repeat(100_000)});
    let jobs = [mesh.submit(&large), mesh.submit(&large)];
    let leased = mesh.pull("a");
    assert_eq!((leased.len(), mesh.codes(&jobs[1])), (1, vec!["hub_bytes_full".to_owned()]));
    let reason = mesh.explain(&jobs[1])["reasons"][0].clone();
    let bytes = reason["leased_bytes"].as_f64().unwrap();
    assert!(bytes > 100_000.0 && reason["max"] == 150 * 1_024, "{reason}");
    assert_eq!(mesh.hub.metric("sheratan_hub_inflight_bytes", ""), bytes);
    assert_eq!(mesh.hub.metric("sheratan_hub_inflight_max_bytes", ""), 150.0 * 1_024.0);
    mesh.hub.data().post("/mesh/submit_result", &result(&leased[0], "a", &json!(1))).ok();
    assert_eq!((mesh.codes(&jobs[1]), mesh.pull("a").len()), (vec!["turn".to_owned()], 1));
}

#[test]
fn retries_wait_for_their_delay_and_then_for_the_budget() {
    // Of a hundred retries the floor of one a second lets most wait.
    let mesh = Mesh::start(&[("SHERATAN_RETRY_BUDGET_PERCENT", "0"), ("SHERATAN_RETRY_BUDGET_MIN_PER_SEC", "1")]);
    mesh.heartbeat("a", &[]);
    let jobs: Vec<_> = (0..100).map(|n| mesh.submit(&json!({"kind": "k", "params": n}))).collect();
    let job = &jobs[99];
    let mut data = mesh.hub.data();
    let leased = data.post("/mesh/pull_requests", &json!({"node_id": "a", "max": 100})).ok();
    for leased in leased["jobs"].as_array().unwrap() {
        let mut failed = failure(leased, "a", &json!("busy"));
        failed["retry_after_ms"] = json!(1_000);
        data.post("/mesh/submit_result", &failed).ok();
    }
    let explained = mesh.explain(job);
    assert_eq!(explained["reasons"][0]["code"], "backoff", "{explained}");
    assert!(explained["reasons"][0]["until_utc"].is_string(), "{explained}");
    until("it waits for the budget", || mesh.codes(job) == ["retry_budget"]);
    let explained = mesh.explain(job);
    let ahead = explained["reasons"][0]["retries_ahead"].as_u64().unwrap();
    assert!(ahead > 0 && explained["reasons"][0]["until_utc"].is_string(), "{explained}");
}

#[test]
fn what_is_ahead_is_counted_and_a_job_that_has_ended_says_so() {
    let mesh = Mesh::start(&[]);
    mesh.heartbeat("a", &[]);
    let jobs: Vec<_> = (0..3).map(|n| mesh.submit(&json!({"kind": "k", "params": n}))).collect();
    assert_eq!(mesh.explain(&jobs[2])["ahead"], 2);
    let leased = mesh.pull("a");
    mesh.hub.data().post("/mesh/submit_result", &result(&leased[0], "a", &json!(1))).ok();
    let ended = mesh.explain(&jobs[0]);
    assert_eq!((ended["status"].as_str(), ended.get("estimated_start_utc")), (Some("completed"), None));
    assert_eq!(mesh.codes(&jobs[0]), ["final"]);
    let unknown = mesh.hub.data().get("/mesh/jobs/job_00000000-0000-4000-8000-000000000000/explain");
    assert_eq!((unknown.status, unknown.error().as_str()), (404, "unknown_job"));
}
