//! Signed heartbeats over HTTP: the field's check of identity, impostors, replays, and what operators do about keys.
#![cfg(unix)]
// The lists in `clippy.toml` are for the core.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use ed25519_dalek::{Signer, SigningKey};
use serde_json::{Value, json};
use sheratan_tests::tools::{own_address, skipped};
use sheratan_tests::{Client, Hub, Options, Response, Worker, until};
use std::os::unix::fs::PermissionsExt;
use tempfile::TempDir;

fn key(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn public(seed: u8) -> String {
    hex(key(seed).verifying_key().as_bytes())
}

/// The body with a key and its signature; keys of `json!` are sorted, as the canonical form needs them.
fn signed(seed: u8, mut body: Value) -> Value {
    body["public_key"] = public(seed).into();
    body["signature"] = hex(&key(seed).sign(body.to_string().as_bytes()).to_bytes()).into();
    body
}

fn beat(hub: &Hub, body: &Value) -> Value {
    hub.control().post("/mesh/heartbeat", body).ok()
}

fn registered(hub: &Hub, node: &str) -> Value {
    hub.control().get("/registry").ok()["nodes"][node].clone()
}

fn rekey(hub: &Hub, node: &str, body: Value) -> Response {
    hub.control().post(&format!("/api/nodes/{node}/rekey"), &body)
}

fn details(hub: &Hub, event: &str) -> Value {
    until(event, || !hub.audit(event).is_empty());
    hub.audit(event)[0]["details"].clone()
}

fn alerted(hub: &Hub) -> Vec<Value> {
    let text = std::fs::read_to_string(hub.folder().join("logs/alerts.jsonl")).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The field's check, request by request: no token, no time, and both faults in the alerts' file.
#[test]
fn the_fields_check_of_identity_passes() {
    let env = vec![("SHERATAN_HUB_TOKEN_REQUIRED".to_owned(), "0".to_owned())];
    let hub = Hub::start_in(TempDir::new().unwrap(), Options { args: Vec::new(), env });
    let mut client = Client::new(hub.control, None);
    let body = json!({"host_id": "A4", "attestation": {"build_id": "b1", "capability_hash": "h1"}});
    let mut host = |body: &Value| client.post("/api/hosts/heartbeat", body).ok()["identity_status"].clone();
    assert_eq!(host(&signed(1, body.clone())), "VALID");
    assert_eq!(host(&signed(2, body.clone())), "KEY_MISMATCH");
    let mut tampered = signed(1, body.clone());
    tampered["attestation"]["build_id"] = "b2".into();
    assert_eq!(host(&tampered), "INVALID_SIGNATURE");
    for event in ["IDENTITY_KEY_MISMATCH", "IDENTITY_INVALID_SIGNATURE"] {
        until(event, || alerted(&hub).iter().any(|line| line["event"] == event));
        let lines = alerted(&hub);
        let line = lines.iter().find(|line| line["event"] == event).unwrap();
        assert_eq!(line["details"]["host_id"], "A4", "{line}");
    }
    let mismatch = details(&hub, "IDENTITY_KEY_MISMATCH");
    let expected = json!({"node_id": "A4", "host_id": "A4", "key_prefix": public(2)[..8], "status": "KEY_MISMATCH",
            "ip": "127.0.0.1"});
    assert_eq!(mismatch, expected);
    assert_eq!(details(&hub, "IDENTITY_PINNED")["key_prefix"], public(1)[..8]);
}

/// What the unchanged clients of the field sign, with their own key.
#[test]
fn heartbeats_of_the_field_are_valid() {
    let hub = Hub::start();
    let public_key = "03a107bff3ce10be1d70dd18e74bc09967e4d6309ba50d5f1ddc8664125531b8";
    let body = |id: &str, more: &str, runtime: &str, signature: &str| {
        format!(
            r#"{{"host_id":"{id}","status":"online","timestamp":"2026-01-15T20:52:03.348248Z","public_key":"{public_key}",{more}"attestation":{{"build_id":"b1","capability_hash":"h1"{runtime}}},"signature":"{signature}"}}"#
        )
    };
    let bodies = [
        body(
            "n1",
            "",
            "",
            "32f0bbbf388171a0cfe4eb650af845b1ae85e5b7192be966d4a768b4bcdf7133f149982f4cb06c8071233ceba99ce6a5da865a28634f9467b3e3c2ada3575c0b",
        ),
        body(
            "knoten-ü😀",
            r#""endpoint":null,"#,
            r#","runtime":{"python":3.1,"n":1e-07}"#,
            "ead32d086766c9eb3dff1fb21deea8e2345fd53f5fbaa62797c5c95658e70ae1c9f3c1d7be9df26adf76aaa2928c264023a286b6935dc1b8e024a9440ab6060a",
        ),
    ];
    for body in bodies {
        let mut client = hub.control();
        let head = format!(
            "POST /api/hosts/heartbeat HTTP/1.1\r\nHost: h\r\nX-Sheratan-Token: {}\r\nContent-Length: {}\r\n\r\n",
            hub.token(),
            body.len()
        );
        client.send(format!("{head}{body}").as_bytes()).unwrap();
        assert_eq!(client.receive().unwrap().ok()["identity_status"], "VALID", "{body}");
    }
    let statuses: Vec<_> =
        ["n1", "knoten-ü😀"].map(|node| registered(&hub, node)["identity"]["status"].clone()).to_vec();
    assert_eq!(statuses, ["VALID", "VALID"]);
}

#[test]
fn an_impostor_changes_nothing_of_the_node_and_its_own_key_ends_the_quarantine() {
    let mut hub = Hub::start();
    hub.submit(json!({"kind": "k"}));
    let own =
        |build: &str| json!({"node_id": "a", "zone": "default", "endpoint": "own", "attestation": {"build_id": build}});
    assert_eq!(beat(&hub, &signed(1, own("b1")))["identity_status"], "VALID");
    let before = registered(&hub, "a");
    let evil = json!({"node_id": "a", "zone": "z", "endpoint": "evil", "attestation": {"build_id": "evil"}});
    let answer = beat(&hub, &signed(2, evil.clone()));
    assert_eq!([&answer["identity_status"], &answer["policy_state"]], ["KEY_MISMATCH", "QUARANTINED"]);
    for (body, status) in
        [(evil.clone(), "MISSING_IDENTITY"), (json!({"node_id": "a", "public_key": public(1)}), "MISSING_SIGNATURE")]
    {
        assert_eq!(beat(&hub, &body)["identity_status"], status);
    }
    assert_eq!(beat(&hub, &signed(2, evil))["identity_status"], "KEY_MISMATCH");
    let after = registered(&hub, "a");
    for member in ["zone", "endpoint", "last_seen_utc", "attestation", "capabilities"] {
        assert_eq!(after[member], before[member], "{member}");
    }
    assert_eq!([&after["policy_reason"], &after["health"]], ["KEY_MISMATCH", "YELLOW"]);
    assert_eq!(hub.pull("a", json!({}))["reason"], "quarantined");
    hub.kill();
    hub.restart();
    assert_eq!(registered(&hub, "a")["identity"]["key_prefix"], public(1)[..8], "a pin outlives a crash");
    let metrics = hub.control().get("/api/metrics").ok();
    assert_eq!([&metrics["identity_key_mismatch"], &metrics["identity_valid"]], [&json!(1), &json!(0)]);
    let text = hub.control().ask("GET", "/metrics", &[("Accept", "text/plain")]).body;
    let text = String::from_utf8_lossy(&text).into_owned();
    assert!(text.contains("sheratan_hub_nodes_identity{status=\"KEY_MISMATCH\"} 1\n"));
    let back = beat(&hub, &signed(1, own("b1")));
    assert_eq!([&back["identity_status"], &back["policy_state"], &back["health"]], ["VALID", "NORMAL", "GREEN"]);
    assert_eq!(hub.pull("a", json!({}))["jobs"].as_array().unwrap().len(), 1);
    details(&hub, "IDENTITY_MISSING");
}

#[test]
fn a_recorded_heartbeat_is_told_to_be_one_and_the_latest_one_again_has_no_effect() {
    let hub = Hub::start();
    let at = |second: u32| signed(1, json!({"node_id": "a", "ts_utc": format!("2026-01-15T20:52:{second:02}Z")}));
    beat(&hub, &at(1));
    assert_eq!(beat(&hub, &at(2))["identity_status"], "VALID");
    assert_eq!(beat(&hub, &at(2))["identity_status"], "VALID", "its answer was lost");
    let replayed = beat(&hub, &at(1));
    assert_eq!([&replayed["identity_status"], &replayed["policy_state"]], ["INVALID_SIGNATURE", "WARN"]);
    assert_eq!(registered(&hub, "a")["identity"]["reason"], "replayed");
    assert_eq!(details(&hub, "IDENTITY_INVALID_SIGNATURE")["reason"], "replayed");
    let counted = |second: u32, counter: u64| {
        signed(1, json!({"counter": counter, "node_id": "a", "ts_utc": format!("2026-01-15T20:52:{second:02}Z")}))
    };
    assert_eq!(beat(&hub, &counted(0, 7))["identity_status"], "VALID", "the clock was set back, the counter was not");
    assert_eq!(beat(&hub, &counted(0, 6))["identity_status"], "INVALID_SIGNATURE");
    rekey(&hub, "a", json!({"public_key": public(1)})).ok();
    assert_eq!(beat(&hub, &counted(0, 6))["identity_status"], "VALID", "what was signed before counts no more");
}

#[test]
fn an_operator_changes_a_key_and_a_node_its_own() {
    let hub = Hub::start();
    beat(&hub, &signed(1, json!({"node_id": "a"})));
    let answer = rekey(&hub, "a", json!({"public_key": public(2)})).ok();
    assert_eq!([&answer["identity_status"], &answer["node_id"]], ["UNPINNED", "a"]);
    assert_eq!(rekey(&hub, "a", json!({"public_key": public(2)})).ok(), answer, "a repeat is answered alike");
    assert_eq!(hub.audit("IDENTITY_REKEYED").len(), 1);
    let told = details(&hub, "IDENTITY_REKEYED");
    assert_eq!([&told["key_prefix"], &told["by"]], [&json!(public(2)[..8]), &json!("shared_token")]);
    assert_eq!(beat(&hub, &signed(1, json!({"node_id": "a"})))["identity_status"], "KEY_MISMATCH");
    assert_eq!(beat(&hub, &signed(2, json!({"node_id": "a"})))["identity_status"], "VALID");
    let next = signed(2, json!({"next_public_key": public(3), "node_id": "a"}));
    assert_eq!(beat(&hub, &next)["identity_status"], "VALID");
    assert_eq!(registered(&hub, "a")["identity"]["next_key_prefix"], public(3)[..8]);
    for seed in [2, 3] {
        assert_eq!(beat(&hub, &signed(seed, json!({"node_id": "a"})))["identity_status"], "VALID", "{seed}");
    }
    assert_eq!(beat(&hub, &signed(2, json!({"node_id": "a"})))["identity_status"], "KEY_MISMATCH");
    let run = hub.run(&["nodes", "rekey", "a"]);
    assert_eq!((run.code, run.stdout.trim()), (Some(0), "a is in service"), "{}", run.stderr);
    assert_eq!(beat(&hub, &signed(4, json!({"node_id": "a"})))["identity_status"], "VALID");
    assert_eq!(hub.run(&["nodes", "rekey", "a", "--key", &public(5)]).code, Some(0));
    assert_eq!(registered(&hub, "a")["identity"]["key_prefix"], public(5)[..8]);
    assert!(hub.run(&["nodes", "show", "a"]).stdout.contains(&public(5)));
    let weak = format!("01{}", "00".repeat(31));
    for wrong in [json!({"public_key": "00"}), json!({"public_key": weak}), json!({"key": public(1)})] {
        assert_eq!(rekey(&hub, "a", wrong.clone()).status, 400, "{wrong}");
    }
    assert_eq!(rekey(&hub, "nobody", json!({})).status, 404);
}

#[test]
fn keys_are_changed_from_the_hubs_own_machine_only() {
    let Some(address) = own_address() else { return skipped("an address of its own beside loopback") };
    let token = "a-token-of-twenty-four-b";
    let env = vec![("SHERATAN_HUB_TOKEN".to_owned(), token.to_owned())];
    let args = ["--control-addr", "0.0.0.0:0"].map(str::to_owned).to_vec();
    let hub = Hub::start_in(TempDir::new().unwrap(), Options { args, env });
    let mut far = Client::new((address, hub.control.port()).into(), Some(token.to_owned()));
    assert_eq!(far.post("/mesh/heartbeat", &signed(1, json!({"node_id": "a"}))).ok()["identity_status"], "VALID");
    far.post("/api/nodes/a/rekey", &json!({})).refused(403, "admin_local_only");
}

#[test]
fn a_worker_keeps_its_key_and_signs_its_heartbeats() {
    let hub = Hub::start();
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("w.key");
    let args = ["--node", "w", "--identity-key", file.to_str().unwrap(), "--exec", "echo 1"];
    let worker = Worker::start(&hub, &args);
    let identity = registered(&hub, "w")["identity"].clone();
    assert_eq!(identity["status"], "VALID", "{identity}");
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let job = hub.submit(json!({"kind": "k"}));
    assert_eq!(hub.until_final(&job)["status"], "completed");
    drop(worker);
    let _again = Worker::start(&hub, &args);
    let later = registered(&hub, "w")["identity"].clone();
    assert_eq!([&later["status"], &later["key_prefix"]], [&json!("VALID"), &identity["key_prefix"]]);
}
