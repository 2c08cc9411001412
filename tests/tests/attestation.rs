//! What nodes attest, and what follows from it, over HTTP: the field's checks, and what operators do.
#![cfg(unix)]
// The lists in `clippy.toml` are for the core.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use serde_json::{Value, json};
use sheratan_tests::tools::{own_address, skipped};
use sheratan_tests::{Client, Hub, Options, Response, until};
use tempfile::TempDir;

fn beat(hub: &Hub, body: Value) -> Value {
    hub.control().post("/mesh/heartbeat", &body).ok()
}

fn attest(hub: &Hub, node: &str, build: &str, capabilities: &str) -> Value {
    let attestation = json!({"build_id": build, "capability_hash": capabilities, "runtime": {"os": "windows"}});
    beat(hub, json!({"node_id": node, "health": "GREEN", "attestation": attestation}))
}

fn registered(hub: &Hub, node: &str) -> Value {
    hub.control().get("/registry").ok()["nodes"][node].clone()
}

fn act(hub: &Hub, node: &str, act: &str, body: Value) -> Response {
    hub.control().post(&format!("/api/nodes/{node}/{act}"), &body)
}

fn details(hub: &Hub, event: &str) -> Value {
    until(event, || !hub.audit(event).is_empty());
    hub.audit(event)[0]["details"].clone()
}

/// The field's check of attestation, request by request.
#[test]
fn the_first_attestation_is_the_baseline_and_drift_is_yellow_and_audited() {
    let hub = Hub::start();
    let first = attest(&hub, "A2", "b1", "h1");
    assert_eq!([&first["attestation_status"], &first["policy_state"], &first["health"]], ["OK", "NORMAL", "GREEN"]);
    assert_eq!(registered(&hub, "A2")["attestation"]["status"], "OK");
    assert_eq!(
        details(&hub, "ATTESTATION_FIRST_SEEN"),
        json!({"node_id": "A2", "host_id": "A2", "build": "b1", "cap_prefix": "h1"})
    );
    let drift = attest(&hub, "A2", "b2", "h1");
    assert_eq!([&drift["attestation_status"], &drift["policy_state"], &drift["health"]], ["DRIFT", "WARN", "YELLOW"]);
    let node = registered(&hub, "A2");
    assert_eq!([&node["health"], &node["status"], &node["policy_reason"]], ["YELLOW", "ONLINE", "DRIFT"], "{node}");
    assert_eq!(node["policy_until_utc"], Value::Null);
    let expected = json!({"node_id": "A2", "host_id": "A2", "old_build": "b1", "new_build": "b2", "old_cap": "h1",
        "new_cap": "h1"});
    assert_eq!(details(&hub, "ATTESTATION_DRIFT"), expected);
    assert_eq!(
        details(&hub, "POLICY_WARN"),
        json!({"node_id": "A2", "host_id": "A2", "reason": "DRIFT", "attestation": "DRIFT"})
    );
    let seen = &registered(&hub, "A2")["attestation"];
    assert_eq!([&seen["first_seen"]["build_id"], &seen["last_seen"]["build_id"]], ["b1", "b2"], "{seen}");
    assert_eq!((&seen["drift_count"], &seen["first_seen"]["runtime"]["os"]), (&json!(1), &json!("windows")));
    let back = attest(&hub, "A2", "b1", "h1");
    assert_eq!([&back["attestation_status"], &back["policy_state"], &back["health"]], ["OK", "NORMAL", "GREEN"]);
    details(&hub, "ATTESTATION_RESTORED");
}

#[test]
fn a_node_without_attestation_is_missing_and_works_as_before() {
    let hub = Hub::start();
    let answer = beat(&hub, json!({"node_id": "old"}));
    assert_eq!([&answer["attestation_status"], &answer["policy_state"]], ["MISSING", "NORMAL"]);
    let shown = registered(&hub, "old");
    assert_eq!([&shown["attestation"]["status"], &shown["health"]], ["MISSING", "GREEN"]);
    assert_eq!([&shown["policy_reason"], &shown["policy_until_utc"], &shown["policy_by"]], [&Value::Null; 3]);
    hub.submit(json!({"kind": "k"}));
    assert_eq!(hub.pull("old", json!({}))["jobs"].as_array().unwrap().len(), 1);
    // What other releases put there is no reason to refuse a heartbeat.
    for odd in [json!(7), json!([]), json!({}), json!({"build_id": {}}), json!({"capability_hash": ""}), json!("b1")] {
        let answer = beat(&hub, json!({"node_id": "old", "attestation": odd}));
        assert_eq!(answer["attestation_status"], "MISSING", "{odd}");
    }
    let numbered = beat(&hub, json!({"node_id": "old", "attestation": {"build_id": 7}}));
    assert_eq!(numbered["attestation_status"], "OK");
}

#[test]
fn three_changes_of_the_capability_hash_put_a_node_in_quarantine_over_kill_9() {
    let mut hub = Hub::start();
    hub.submit(json!({"kind": "k"}));
    let statuses: Vec<_> = ["h1", "h2", "h3", "h4", "h5"]
        .map(|capabilities| attest(&hub, "a", "b1", capabilities)["attestation_status"].clone())
        .to_vec();
    assert_eq!(statuses, ["OK", "DRIFT", "DRIFT", "SPOOF_SUSPECT", "SPOOF_SUSPECT"]);
    let is_withheld = |hub: &Hub| {
        let answer = hub.pull("a", json!({"wait_ms": 30000}));
        assert_eq!([&answer["jobs"], &answer["reason"]], [&json!([]), &json!("quarantined")]);
        let defer = answer["defer_ms"].as_u64().unwrap();
        assert!((2_000..=10_000).contains(&defer), "{answer}");
    };
    is_withheld(&hub);
    let spoof = details(&hub, "ATTESTATION_SPOOF_SUSPECT");
    assert_eq!([&spoof["node_id"], &spoof["spoof_count"]], [&json!("a"), &json!(3)]);
    let quarantined = details(&hub, "POLICY_QUARANTINED");
    assert_eq!([&quarantined["host_id"], &quarantined["reason"]], ["a", "SPOOF_SUSPECT"]);
    assert_eq!(hub.audit("POLICY_QUARANTINED").len(), 1, "once, and silent while it lasts");
    hub.kill();
    hub.restart();
    is_withheld(&hub);
    let listed = hub.control().get("/api/admin/policies").ok();
    let listed = listed.as_array().expect("a bare list");
    assert_eq!((listed.len(), &listed[0]["id"], &listed[0]["policy_state"]), (1, &json!("a"), &json!("QUARANTINED")));
    assert!(listed[0]["policy_until_utc"].is_string() && listed[0]["policy_updated_utc"].is_string(), "{listed:?}");
    let metrics = hub.control().get("/api/metrics").ok();
    assert_eq!([&metrics["attestation_spoof_suspect"], &metrics["policy_quarantine_active"]], [&json!(1), &json!(1)]);
    let text = hub.control().ask("GET", "/metrics", &[("Accept", "text/plain")]).body;
    let text = String::from_utf8_lossy(&text).into_owned();
    for series in ["nodes_policy{state=\"QUARANTINED\"} 1", "nodes_attestation{status=\"SPOOF_SUSPECT\"} 1"] {
        assert!(text.contains(&format!("sheratan_hub_{series}\n")), "{series}");
    }
    hub.control().post("/api/admin/policies/clear", &json!({"host_id": "a"})).ok();
    assert_eq!(details(&hub, "POLICY_CLEARED_MANUAL")["host_id"], "a");
    assert_eq!(hub.control().get("/api/admin/policies").ok(), json!([]));
    assert_eq!(hub.pull("a", json!({}))["jobs"].as_array().unwrap().len(), 1);
    assert_eq!(hub.control().post("/api/admin/policies/clear", &json!({})).status, 400);
    assert_eq!(hub.control().post("/api/admin/policies/clear", &json!({"host_id": "x"})).status, 404);
}

#[test]
fn a_suspect_node_keeps_its_leases_and_its_results_are_taken() {
    let hub = Hub::start();
    hub.submit(json!({"kind": "k"}));
    attest(&hub, "a", "b", "h1");
    let job = hub.pull("a", json!({}))["jobs"][0].clone();
    ["h2", "h3", "h4"].iter().for_each(|capabilities| _ = attest(&hub, "a", "b", capabilities));
    let named = json!({"node_id": "a", "leases": [job["lease_id"]], "lease_sec": 600});
    assert!(hub.data().post("/mesh/extend_lease", &named).ok()["leases"][0]["lease_until_utc"].is_string());
    assert_eq!(hub.complete(&job, "a").ok()["status"], "completed");
}

#[test]
fn an_operator_accepts_quarantines_and_releases() {
    let hub = Hub::start();
    attest(&hub, "a", "b1", "h1");
    attest(&hub, "a", "b2", "h1");
    let other = act(&hub, "a", "accept", json!({"expect": {"build_id": "b1", "capability_hash": "h1"}}));
    assert_eq!((other.status, &other.json()["error"]), (409, &json!("attestation_changed")));
    let accepted = act(&hub, "a", "accept", json!({"expect": {"build_id": "b2", "capability_hash": "h1"}})).ok();
    assert_eq!([&accepted["attestation_status"], &accepted["policy_state"]], ["OK", "NORMAL"]);
    let noted = details(&hub, "ATTESTATION_ACCEPTED");
    assert_eq!([&noted["old_build"], &noted["new_build"], &noted["by"]], ["b1", "b2", "shared_token"]);
    let shown = hub.control().get("/api/nodes/a").ok()["nodes"]["a"]["attestation"].clone();
    assert_eq!(shown["first_seen"]["accepted_by"], "shared_token", "{shown}");
    let builds: Vec<_> = shown["changes"].as_array().unwrap().iter().map(|change| &change["build_id"]).collect();
    assert_eq!(builds, ["b1", "b2"]);
    ["h2", "h3", "h4"].iter().for_each(|capabilities| _ = attest(&hub, "a", "b2", capabilities));
    let refused = act(&hub, "a", "accept", json!({}));
    assert_eq!((refused.status, &refused.json()["error"]), (409, &json!("spoof_suspect")));
    act(&hub, "a", "accept", json!({"force": true})).ok();
    beat(&hub, json!({"node_id": "plain"}));
    let never = act(&hub, "plain", "accept", json!({}));
    assert_eq!((never.status, &never.json()["error"]), (409, &json!("never_attested")));
    let kept = act(&hub, "plain", "quarantine", json!({"minutes": 5, "reason": "odd results"})).ok();
    assert_eq!(
        [&kept["policy_state"], &kept["policy_reason"], &kept["policy_note"]],
        ["QUARANTINED", "ADMIN", "odd results"]
    );
    hub.submit(json!({"kind": "k"}));
    assert_eq!(hub.pull("plain", json!({}))["reason"], "quarantined");
    let released = act(&hub, "plain", "release", json!({})).ok();
    assert_eq!(released["policy_state"], "NORMAL");
    assert_eq!(hub.pull("plain", json!({}))["jobs"].as_array().unwrap().len(), 1);
    for wrong in [json!({"minutes": 0}), json!({"minutes": 10081}), json!({"minute": 5})] {
        assert_eq!(act(&hub, "plain", "quarantine", wrong.clone()).status, 400, "{wrong}");
    }
    assert_eq!(act(&hub, "nobody", "quarantine", json!({})).status, 404);
}

#[test]
fn accepting_and_clearing_are_for_the_hubs_own_machine_and_quarantine_is_not() {
    let Some(address) = own_address() else { return skipped("an address of its own beside loopback") };
    let token = "a-token-of-twenty-four-b";
    let env = vec![("SHERATAN_HUB_TOKEN".to_owned(), token.to_owned())];
    let args = ["--control-addr", "0.0.0.0:0"].map(str::to_owned).to_vec();
    let hub = Hub::start_in(TempDir::new().unwrap(), Options { args, env });
    let mut far = Client::new((address, hub.control.port()).into(), Some(token.to_owned()));
    let body = json!({"node_id": "a", "attestation": {"build_id": "b"}});
    far.post("/mesh/heartbeat", &body).ok();
    for (path, body) in [("/api/nodes/a/accept", json!({})), ("/api/admin/policies/clear", json!({"host_id": "a"}))] {
        far.post(path, &body).refused(403, "admin_local_only");
    }
    far.post("/api/nodes/a/quarantine", &json!({})).ok();
    far.post("/api/nodes/a/release", &json!({})).ok();
}

#[test]
fn the_window_and_the_number_of_changes_are_settings() {
    let env = vec![("SHERATAN_ATTESTATION_SPOOF_THRESHOLD".to_owned(), "2".to_owned())];
    let hub = Hub::start_in(TempDir::new().unwrap(), Options { args: Vec::new(), env });
    let statuses =
        ["h1", "h2", "h3"].map(|capabilities| attest(&hub, "a", "b", capabilities)["attestation_status"].clone());
    assert_eq!(statuses, ["OK", "DRIFT", "SPOOF_SUSPECT"]);
}

/// The field's check of policy states: the last line of the alerts' file.
#[test]
fn warnings_and_quarantines_have_lines_in_the_alerts_file() {
    let hub = Hub::start();
    let lines = || {
        let text = std::fs::read_to_string(hub.folder().join("logs/alerts.jsonl")).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect::<Vec<Value>>()
    };
    let is_last = |event: &str| {
        until(event, || lines().last().is_some_and(|line| line["event"] == event));
        let details = lines().last().unwrap()["details"].clone();
        assert_eq!(details["host_id"], "A3", "{details}");
        assert!(details["reason"].is_string() && details["attestation"].is_string(), "{details}");
    };
    let host = |capabilities: &str| {
        let body = json!({"host_id": "A3", "attestation": {"build_id": "b", "capability_hash": capabilities}});
        hub.control().post("/api/hosts/heartbeat", &body).ok()
    };
    host("h1");
    host("h2");
    is_last("POLICY_WARN");
    host("h3");
    host("h4");
    is_last("POLICY_QUARANTINED");
    let open = hub.control().get("/api/alerts").ok()["open"].clone();
    let rules: Vec<_> = open.as_array().unwrap().iter().map(|alert| alert["rule"].as_str().unwrap()).collect();
    assert_eq!(rules, ["node_quarantined"]);
}

#[test]
fn many_nodes_that_drift_to_one_build_are_one_alert_and_a_line_each() {
    let hub = Hub::start();
    for node in 0..8 {
        attest(&hub, &format!("n{node}"), "b1", "h");
        attest(&hub, &format!("n{node}"), "b2", "h");
    }
    until("all are in the audit log", || hub.audit("ATTESTATION_DRIFT").len() == 8);
    let open = hub.control().get("/api/alerts").ok()["open"].clone();
    let open = open.as_array().unwrap();
    assert_eq!((open.len(), &open[0]["rule"], &open[0]["total"]), (1, &json!("deploy_wave"), &json!(8)), "{open:?}");
    assert_eq!(open[0]["group"], json!({"new_build": "b2"}));
}
