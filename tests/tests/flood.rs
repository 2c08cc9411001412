//! Floods: requests that need no token neither fill the audit log nor hide from the alerts.
#![cfg(unix)]
// The lists in `clippy.toml` are for the core.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use serde_json::{Value, json};
use sheratan_tests::{Client, Hub};
use std::fs;

/// Requests of each kind, many more than an address has lines.
const REQUESTS: u64 = 150;

/// All lines of the audit log, of all its files.
fn lines(hub: &Hub) -> Vec<Value> {
    let entries = fs::read_dir(hub.folder().join("logs")).expect("the folder of logs is there");
    let files = entries.map(|entry| entry.expect("it can be listed").path());
    let logs = files.filter(|path| path.to_string_lossy().contains("hub_security_audit.jsonl"));
    let texts: Vec<_> = logs.map(|path| fs::read_to_string(path).expect("it can be read")).collect();
    let lines = texts.iter().flat_map(|text| text.lines());
    lines.map(|line| serde_json::from_str(line).expect("a line is JSON")).collect()
}

#[test]
fn a_flood_without_a_token_leaves_a_hundred_lines_and_counts_and_what_an_intruder_did_stays() {
    // 80 KiB in all; a line of the flood has more than half a KiB.
    let mut hub = Hub::start_with(&["--audit-file-bytes", "16KiB", "--audit-files-kept", "4"]);
    let mut intruder = hub.data();
    for params in [1, 2] {
        intruder.post("/mesh/submit_request", &json!({"kind": "k", "params": params, "idempotency_key": "order-1"}));
    }
    let path = |start: &str| format!("{start}/{}", "x".repeat(300));
    let (mut wrong_plane, mut wrong_token) = (Client::new(hub.control, None), Client::new(hub.data, Some("x".into())));
    for _ in 0..REQUESTS {
        assert_eq!(wrong_plane.get(&path("/mesh/jobs")).status, 410);
        assert_eq!(wrong_token.get(&path("/mesh/jobs")).status, 403);
    }
    let open = hub.control().get("/api/alerts").ok()["open"].clone();
    let total = |rule: &str| open.as_array()?.iter().find(|alert| alert["rule"] == rule)?["total"].as_u64();
    assert_eq!(total("port_mismatch_burst"), Some(REQUESTS), "the alert counts every request");
    assert!(hub.stop().success());
    let lines = lines(&hub);
    let events = |name: &str| lines.iter().filter(|line| line["event"] == name).collect::<Vec<_>>();
    assert_eq!(events("IDEMPOTENCY_KEY_COLLISION").len(), 1, "what the intruder did is in the log");
    let (mut single, mut closing) = (Vec::new(), Vec::new());
    for name in ["PORT_MISMATCH", "AUTH_FAILURE"] {
        let is_count = |line: &&Value| line["details"]["count"].is_u64();
        let (counts, singles): (Vec<_>, Vec<_>) = events(name).into_iter().partition(is_count);
        let counted: u64 = counts.iter().filter_map(|line| line["details"]["count"].as_u64()).sum();
        assert_eq!(singles.len() as u64 + counted, REQUESTS, "{name}: each request is in a line or in a count");
        assert!(counts.iter().all(|line| line["details"]["ip"] == "127.0.0.1"), "{counts:?}");
        single.extend(singles);
        closing.extend(counts);
    }
    // A slow flood has a count of each kind after ten seconds, and after fifty.
    assert!(single.len() == 100 && (2..=6).contains(&closing.len()), "{closing:?}");
    let last = single.iter().filter(|line| line["details"]["counted_until_utc"].is_string());
    assert_eq!(last.count(), 1, "the last single line says that later requests are counted");
    assert_eq!(hub.run(&["audit", "verify"]).code, Some(0));
}
