//! The diagnose bundle of a hub that is running, stopped, killed, or was never there; it never has a secret in it.
#![cfg(unix)]
// The lists in `clippy.toml` are for the core.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use sheratan_tests::client::result;
use sheratan_tests::{Bundle, Client, Hub, Options, Run, command, leak, until};
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use tempfile::TempDir;

/// Files that only a running hub can fill.
const ONLY_UP: [&str; 5] =
    ["health.json", "metrics_control.json", "metrics_data.json", "metrics_control.txt", "metrics_data.txt"];

/// Files that say nothing of the hub itself.
const OF_THE_MACHINE: [&str; 6] =
    ["README.txt", "manifest.json", "config.json", "environment.txt", "versions.json", "os.json"];

/// Runs `diagnose` in a folder of its own, where it finds no `hub.toml`.
fn diagnose(place: &Path, args: &[&str], variables: &[(&str, &str)]) -> Run {
    let mut command = command(&[&["diagnose"], args].concat());
    command.current_dir(place).envs(variables.iter().copied());
    Run::from(command.output().expect("the binary starts"))
}

/// The bundle of a hub, written to `name`.
#[track_caller]
fn bundle_of(hub: &Hub, place: &TempDir, name: &str) -> Bundle {
    let run = diagnose(place.path(), &["--data-dir", text(hub.folder()), "--output", name], &[]);
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    // The token, and the key of the digests of tokens.
    assert!(run.stderr.contains("nothing secret: 2 secrets in"), "{}", run.stderr);
    Bundle::open(&place.path().join(name))
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a temporary folder's path is text")
}

/// A hub that has something to show: a node, a job under lease, a refused token, a wrong port.
fn busy_hub() -> Hub {
    let hub = Hub::start();
    let node =
        json!({"node_id": "n1", "zone": "z", "capabilities": ["c"], "labels": {"where": "x"}, "endpoint": "http://n1"});
    hub.control().post("/mesh/heartbeat", &node).ok();
    hub.data().post("/mesh/submit_request", &json!({"kind": "k", "zone": "z"})).ok();
    hub.data().get("/mesh/pull_requests/n1").ok();
    assert_eq!(Client::new(hub.data, Some("wrong".into())).get("/mesh/jobs").status, 403);
    assert_eq!(Client::new(hub.control, None).get("/mesh/jobs").status, 410);
    until("the audit log has it", || !hub.audit("PORT_MISMATCH").is_empty());
    hub
}

fn missing(bundle: &Bundle) -> BTreeSet<String> {
    let manifest = bundle.json("manifest.json");
    let files = manifest["files"].as_array().unwrap().iter().filter(|file| file["missing"].is_string());
    files.map(|file| file["name"].as_str().unwrap().to_owned()).collect()
}

/// The manifest without its time, the only difference between two bundles of a stopped hub.
fn timeless(bundle: &Bundle) -> Value {
    let mut manifest = bundle.json("manifest.json");
    assert!(manifest["created_utc"].take().is_string());
    manifest
}

#[test]
fn the_bundle_of_a_running_hub_has_all_that_it_can_say() {
    let (hub, place) = (busy_hub(), TempDir::new().unwrap());
    let bundle = bundle_of(&hub, &place, "x.zip");
    let missing = missing(&bundle);
    assert!(missing.is_empty(), "{missing:?}");
    assert_eq!(bundle.json("metrics_control.json")["nodes_online"], 1);
    assert_eq!(bundle.json("metrics_data.json")["inflight"], 1);
    let control = bundle.text("metrics_control.txt");
    for series in ["sheratan_hub_nodes{status=\"online\"} 1", "sheratan_hub_alerts_open{rule=\"auth_failure_burst\"} 0"]
    {
        assert!(control.contains(series), "{control}");
    }
    assert!(bundle.text("metrics_data.txt").contains("sheratan_hub_jobs_submitted_total{kind=\"k\"} 1"));
    assert_eq!(bundle.json("manifest.json")["hub"], format!("up, at http://{}", hub.control));
    for plane in ["control", "data"] {
        let health = &bundle.json("health.json")[plane];
        assert_eq!(
            (&health["health"]["status_code"], &health["health"]["body"]["plane"]),
            (&200.into(), &plane.into())
        );
        assert_eq!(health["readyz"]["body"]["status"], "ready");
    }
    let registry = bundle.json("registry.json");
    let node = &registry["nodes"]["n1"];
    assert_eq!((&node["status"], &node["zone"], &node["leases"]), (&"ONLINE".into(), &"z".into(), &1.into()));
    assert!(node["labels"].is_null() && node["endpoint"].is_null(), "{node}");
    let events = bundle.lines("audit_tail.jsonl");
    let failure = events.iter().find(|line| line["event"] == "AUTH_FAILURE").unwrap();
    assert_eq!((&failure["details"]["path"], &failure["seq"].is_u64()), (&"/mesh/jobs".into(), &true));
    assert_eq!(bundle.json("journal.json")["is_ok"], true);
    assert_eq!(bundle.json("audit_chain.json")["is_ok"], true);
    assert!(bundle.json("disk.json")["bytes_of_parts"]["journal"].as_u64().unwrap() > 0);
    assert!(bundle.json("disk.json")["file_system"]["bytes"].as_u64().unwrap() > 0);
    assert_eq!(bundle.json("policy.json")["policy_version"], 1);
    assert_eq!(bundle.json("versions.json")["executable"]["sha256"].as_str().unwrap().len(), 64);
}

#[test]
fn the_manifest_and_the_readme_list_each_file() {
    let (hub, place) = (busy_hub(), TempDir::new().unwrap());
    let bundle = bundle_of(&hub, &place, "x.zip");
    assert_eq!(bundle.names[..2], ["README.txt", "manifest.json"]);
    for (name, bytes) in bundle.files.iter().filter(|(name, _)| *name != "manifest.json") {
        let entry = bundle.entry(name);
        let sha256: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!((entry["bytes"].as_u64(), &entry["sha256"]), (Some(bytes.len() as u64), &sha256.into()), "{name}");
        assert!(name == "README.txt" || bundle.text("README.txt").contains(name.as_str()), "{name}");
    }
    let mode = fs::metadata(place.path().join("x.zip")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 1, "nothing else is left behind");
}

/// Keeps the list of the log's fields complete: each field that the hub's own lines have is shown.
#[test]
fn the_log_is_shown_line_by_line_with_all_its_fields() {
    let (mut hub, place) = (busy_hub(), TempDir::new().unwrap());
    // A burst, which is reported in the log too.
    (0..25).for_each(|_| assert_eq!(Client::new(hub.control, None).get("/mesh/jobs").status, 410));
    until("the burst is reported", || hub.said().contains("a burst: PORT_MISMATCH"));
    hub.kill();
    hub.restart();
    assert!(hub.stop().success());
    let bundle = bundle_of(&hub, &place, "x.zip");
    let log = fs::read_to_string(hub.folder().join("logs/hub.jsonl")).unwrap();
    let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(lines.len() > 5);
    assert_eq!(bundle.lines("hub_log_tail.jsonl"), lines);
}

#[test]
fn only_the_last_200_whole_lines_of_a_log_are_shown() {
    let (mut hub, place) = (Hub::start(), TempDir::new().unwrap());
    assert!(hub.stop().success());
    let log = hub.folder().join("logs/hub.jsonl");
    let line =
        |n| json!({"timestamp": "t", "level": "INFO", "message": format!("line {n}"), "field": "of somebody else"});
    let lines: Vec<String> = (0..500).map(|n| line(n).to_string()).collect();
    fs::write(&log, lines.join("\n") + "\nno line\n{\"torn").unwrap();
    let bundle = bundle_of(&hub, &place, "x.zip");
    let shown = bundle.lines("hub_log_tail.jsonl");
    assert_eq!(shown.len(), 200);
    assert_eq!(shown[0], json!({"timestamp": "t", "level": "INFO", "message": "line 301"}));
    assert_eq!(shown[199], json!({"unreadable_bytes": 7}));
}

#[test]
fn two_bundles_of_a_stopped_hub_differ_only_in_the_time() {
    let (mut hub, place) = (busy_hub(), TempDir::new().unwrap());
    let up = bundle_of(&hub, &place, "up.zip");
    assert!(hub.stop().success());
    let (first, second) = (bundle_of(&hub, &place, "1.zip"), bundle_of(&hub, &place, "2.zip"));
    assert_eq!(first.names, second.names);
    assert_eq!(timeless(&first), timeless(&second));
    for (name, bytes) in first.files.iter().filter(|(name, _)| *name != "manifest.json") {
        assert!(second.files[name] == *bytes, "{name} differs");
    }
    let missing = missing(&first);
    assert!(ONLY_UP.iter().all(|name| missing.contains(*name)), "{missing:?}");
    assert!(first.missing("health.json").unwrap().starts_with("no hub runs on "));
    // The registry comes from the journal, and is what the hub itself said.
    let node = |bundle: &Bundle| bundle.json("registry.json")["nodes"]["n1"].clone();
    assert_eq!(node(&first), node(&up));
    assert_eq!(first.json("journal.json")["replay"]["problem"], Value::Null);
    assert_eq!(first.json("journal.json")["is_ok"], true);
}

#[test]
fn a_killed_hub_s_folder_is_read_without_changing_it() {
    let (mut hub, place) = (busy_hub(), TempDir::new().unwrap());
    hub.kill();
    // It left addresses at which no process listens, and perhaps half a line.
    assert!(hub.folder().join("hub.addr").exists());
    let bundle = bundle_of(&hub, &place, "x.zip");
    assert_eq!(bundle.json("registry.json")["nodes"]["n1"]["leases"], 1);
    assert_eq!(bundle.json("journal.json")["is_in_use"], false);
    assert!(bundle.json("manifest.json")["hub"].as_str().unwrap().starts_with("down: no hub runs on "));
    hub.restart();
    assert_eq!(hub.data().get("/readyz").status, 200, "its folder was only read");
}

#[test]
fn without_a_data_folder_and_a_hub_the_bundle_describes_the_machine() {
    let place = TempDir::new().unwrap();
    let nobody = "127.0.0.1:1";
    let args = ["--data-dir", "none", "--control", nobody, "--data", nobody, "--json"];
    let run = diagnose(place.path(), &args, &[]);
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    let summary: Value = serde_json::from_str(&run.stdout).unwrap();
    let path = summary["path"].as_str().unwrap();
    assert!(
        path.starts_with("diag_bundle_2")
            && path.ends_with("Z.zip")
            && path.len() == "diag_bundle_YYYYMMDDTHHMMSSZ.zip".len()
    );
    assert_eq!(summary["files"], json!(OF_THE_MACHINE));
    assert_eq!(summary["secrets_searched"], 0);
    let missing: Vec<_> = summary["missing"].as_array().unwrap().iter().map(|line| &line["name"]).collect();
    assert_eq!(missing.len(), 13);
    let bundle = Bundle::open(&place.path().join(path));
    assert_eq!(bundle.names, OF_THE_MACHINE);
    assert_eq!(bundle.missing("journal.json").unwrap(), "there is no data folder none");
    assert!(bundle.missing("health.json").unwrap().contains("connection refused"));
}

#[test]
fn missing_logs_are_lines_in_the_manifest() {
    let (mut hub, place) = (busy_hub(), TempDir::new().unwrap());
    assert!(hub.stop().success());
    fs::remove_dir_all(hub.folder().join("logs")).unwrap();
    let bundle = bundle_of(&hub, &place, "x.zip");
    for name in ["audit_tail.jsonl", "alerts_tail.jsonl", "hub_log_tail.jsonl", "audit_chain.json"] {
        assert!(bundle.missing(name).unwrap().starts_with("there is no /"), "{name}");
    }
    assert!(bundle.json("registry.json")["nodes"]["n1"].is_object());
}

#[test]
fn a_damaged_journal_is_reported_and_the_bundle_is_written() {
    let (mut hub, place) = (busy_hub(), TempDir::new().unwrap());
    hub.kill();
    let journal = hub.folder().join("journal");
    let segment = fs::read_dir(journal).unwrap().map(|entry| entry.unwrap().path());
    let segment = segment.filter(|path| path.extension().is_some_and(|ending| ending == "seg")).min().unwrap();
    let mut bytes = fs::read(&segment).unwrap();
    // In the first of several batches: an end would be torn, not damaged.
    let at = bytes.windows(9).position(|part| part == b"http://n1").unwrap();
    bytes[at] ^= 1;
    fs::write(&segment, bytes).unwrap();
    let bundle = bundle_of(&hub, &place, "x.zip");
    assert_eq!(bundle.json("journal.json")["is_ok"], false);
    assert!(bundle.missing("registry.json").unwrap().contains("journal.json says why"));
}

#[test]
fn secrets_of_the_settings_are_absent_and_settings_that_do_not_load_are_a_line() {
    let place = TempDir::new().unwrap();
    let (token, key) = ("the-token-of-the-hub-0123", "the-key-of-the-results-0123");
    let settings = format!("max_queue_depth = 77\nresult_hmac_key = \"{key}\"\n");
    fs::write(place.path().join("hub.toml"), &settings).unwrap();
    let variables = [("SHERATAN_HUB_TOKEN", token), ("SHERATAN_LOG_LEVEL", "debug"), ("OTHER", "value-of-the-other")];
    let run = diagnose(place.path(), &["--output", "1.zip"], &variables);
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    let bundle = Bundle::open(&place.path().join("1.zip"));
    let config = bundle.json("config.json");
    let setting = |name: &str| {
        let mut settings = config["settings"].as_array().unwrap().iter();
        settings.find(|setting| setting["name"] == name).unwrap().clone()
    };
    assert_eq!(setting("hub_token"), json!({"name": "hub_token", "is_set": true, "source": "environment"}));
    assert_eq!(setting("result_hmac_key"), json!({"name": "result_hmac_key", "is_set": true, "source": "hub.toml"}));
    assert_eq!(setting("max_queue_depth"), json!({"name": "max_queue_depth", "value": "77", "source": "hub.toml"}));
    let names: Vec<_> = bundle.text("environment.txt").lines().collect();
    assert!(names.contains(&"OTHER") && names.contains(&"SHERATAN_HUB_TOKEN") && names.is_sorted());
    for (name, bytes) in &bundle.files {
        leak::assert_none(name, bytes, &[token, key, "value-of-the-other"]);
    }

    fs::write(place.path().join("hub.toml"), format!("{settings}no_such_setting = 1\n")).unwrap();
    let run = diagnose(place.path(), &["--output", "2.zip", "--json"], &variables);
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    let bundle = Bundle::open(&place.path().join("2.zip"));
    assert!(bundle.missing("config.json").unwrap().contains("no_such_setting"));
    let summary: Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!(summary["secrets_searched"], 2, "they are known all the same");
}

#[test]
fn a_secret_in_the_name_of_a_variable_keeps_the_archive_from_being_written() {
    let place = TempDir::new().unwrap();
    let token = "correct_horse_battery_staple";
    let encoded = "Y29ycmVjdF9ob3JzZV9iYXR0ZXJ5X3N0YXBsZQ";
    for name in [token, encoded, "name_correct%5Fhorse_battery_staple"] {
        let run = diagnose(place.path(), &["--output", "x.zip"], &[("SHERATAN_HUB_TOKEN", token), (name, "1")]);
        assert_eq!(run.code, Some(1), "{}", run.stderr);
        assert!(run.stderr.contains("a secret is in environment.txt: nothing was written"), "{}", run.stderr);
        leak::assert_none("standard error", run.stderr.as_bytes(), &[token]);
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 0);
    }
}

#[test]
fn what_is_there_is_overwritten_only_by_force_and_standard_output_takes_no_archive() {
    let place = TempDir::new().unwrap();
    let path = place.path().join("x.zip");
    fs::write(&path, "precious").unwrap();
    let run = diagnose(place.path(), &["--output", "x.zip"], &[]);
    assert_eq!(run.code, Some(1));
    assert!(run.stderr.contains("--force"), "{}", run.stderr);
    assert_eq!(fs::read(&path).unwrap(), b"precious");
    assert_eq!(diagnose(place.path(), &["--output", "x.zip", "--force"], &[]).code, Some(0));
    assert!(Bundle::open(&path).names.len() > 2);
    let run = diagnose(place.path(), &["--output", "-"], &[]);
    assert_eq!(run.code, Some(2), "{}", run.stderr);
}

#[test]
fn a_hub_without_a_folder_here_is_asked_by_its_address() {
    let (hub, place) = (busy_hub(), TempDir::new().unwrap());
    fs::write(place.path().join("token"), hub.token()).unwrap();
    let (control, data) = (hub.control.to_string(), hub.data.to_string());
    let args = ["--control", &control, "--data", &data, "--token-file", "token", "--output", "x.zip"];
    let run = diagnose(place.path(), &args, &[]);
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    let bundle = Bundle::open(&place.path().join("x.zip"));
    assert_eq!(bundle.json("registry.json")["nodes"]["n1"]["status"], "ONLINE");
    assert!(bundle.lines("audit_tail.jsonl").iter().any(|line| line["event"] == "PORT_MISMATCH"));
    assert_eq!(bundle.missing("journal.json").unwrap(), "there is no data folder .sheratan");
}

#[test]
fn a_token_short_enough_to_be_a_word_is_warned_of() {
    let place = TempDir::new().unwrap();
    let run = diagnose(place.path(), &["--output", "x.zip"], &[("SHERATAN_HUB_TOKEN", "short")]);
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    assert!(run.stderr.contains("1 secrets have fewer than 8 bytes"), "{}", run.stderr);
    let options = Options { args: Vec::new(), env: vec![("SHERATAN_HUB_TOKEN".into(), "short".into())] };
    let hub = Hub::start_in(TempDir::new().unwrap(), options);
    until("the log reports it", || hub.said().contains("a secret with fewer than 8 bytes"));
}

#[test]
fn a_token_that_is_not_the_hubs_is_not_shown_in_the_path_that_it_came_with() {
    let hub = Hub::start();
    let foreign = "somebody-elses-token-0123456789";
    let encoded = foreign.replace('-', "%2D");
    let mut data = Client::new(hub.data, Some(foreign.into()));
    assert_eq!(data.get(&format!("/mesh/jobs/{foreign}")).status, 403);
    assert_eq!(data.get(&format!("/mesh/jobs/{encoded}")).status, 403);
    // The path is cut at 256 bytes, within the token.
    assert_eq!(data.get(&format!("/mesh/jobs/{}{foreign}", "x".repeat(230))).status, 403);
    let mut control = Client::new(hub.control, None);
    let request = format!("GET /mesh/jobs/{foreign} HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {foreign}\r\n\r\n");
    control.send(request.as_bytes()).unwrap();
    assert_eq!(control.receive().unwrap().status, 410);
    until("the audit log has it", || hub.audit("AUTH_FAILURE").len() == 3 && hub.audit("PORT_MISMATCH").len() == 1);
    let log = fs::read(hub.folder().join("logs/hub_security_audit.jsonl")).unwrap();
    leak::assert_none("the audit log", &log, &[foreign, &foreign[..16]]);
    assert!(hub.audit("PORT_MISMATCH")[0]["details"]["path"].as_str().unwrap().starts_with("/mesh/jobs/sha256:"));
}

#[test]
fn a_key_that_begins_as_the_token_is_not_shown_by_its_beginning() {
    let hub = Hub::start();
    let keys = [hub.token(), format!("{}-2", &hub.token()[..12]), "an-honest-key".into()];
    for key in &keys {
        for (params, status) in [(1, 200), (2, 409)] {
            let submit = json!({"kind": "k", "params": params, "idempotency_key": key});
            assert_eq!(hub.data().post("/mesh/submit_request", &submit).status, status);
        }
    }
    until("the audit log has it", || hub.audit("IDEMPOTENCY_KEY_COLLISION").len() == 3);
    let shown: Vec<_> =
        hub.audit("IDEMPOTENCY_KEY_COLLISION").iter().map(|line| line["details"]["key_prefix"].clone()).collect();
    assert_eq!(shown, ["redacted", "redacted", "an-hones"]);
}

#[test]
fn a_token_that_is_used_as_everything_else_is_shown_nowhere() {
    let (mut hub, place) = (Hub::start(), TempDir::new().unwrap());
    let token = hub.token();
    let name = format!("node {token}");
    let node = json!({"node_id": name, "zone": token, "capabilities": [token], "labels": {token.clone(): token}});
    hub.control().post("/mesh/heartbeat", &node).ok();
    let submit = json!({"kind": token, "zone": token, "params": {token.clone(): token}, "idempotency_key": token});
    hub.data().post("/mesh/submit_request", &submit).ok();
    let pulled = hub.data().post("/mesh/pull_requests", &json!({"node_id": name})).ok();
    let job = &pulled["jobs"][0];
    let wrong = json!({"job_id": token, "ok": true, "result": token, "integrity": {"mode": "sha256", "sha256": "0"}});
    assert_eq!(hub.data().post("/mesh/submit_result", &wrong).status, 403);
    hub.data().post("/mesh/submit_result", &result(job, &name, &json!({token.clone(): token}))).ok();
    let encoded: String = token.bytes().map(|byte| format!("%{byte:02x}")).collect();
    let mixed = format!("{}%{:02X}{}", &token[..5], token.as_bytes()[5], &token[6..]);
    for path in [&token, &encoded, &mixed] {
        assert_eq!(Client::new(hub.data, None).get(&format!("/mesh/jobs/{path}?token={token}")).status, 403);
        assert_eq!(Client::new(hub.control, None).get(&format!("/mesh/pull_requests/{path}")).status, 410);
    }
    until("the audit log has it", || {
        hub.audit("PORT_MISMATCH").len() == 3 && !hub.audit("RESULT_INTEGRITY_FAIL").is_empty()
    });
    let up = bundle_of(&hub, &place, "up.zip");
    assert!(hub.stop().success());
    let down = bundle_of(&hub, &place, "down.zip");
    for bundle in [up, down] {
        let registry = bundle.json("registry.json");
        let names: Vec<_> = registry["nodes"].as_object().unwrap().keys().collect();
        assert!(names.len() == 1 && names[0].starts_with("node sha256:"), "{names:?}");
        for (name, bytes) in &bundle.files {
            leak::assert_none(name, bytes, &[&token]);
        }
    }
    for log in ["hub.jsonl", "hub_security_audit.jsonl"] {
        leak::assert_none(log, &fs::read(hub.folder().join("logs").join(log)).unwrap(), &[&token]);
    }
    leak::assert_none("standard error", hub.said().as_bytes(), &[&token]);
    assert!(hub.audit("NODE_REGISTERED")[0]["details"]["node_id"].as_str().unwrap().starts_with("node sha256:"));
}
