//! Policies: documents are checked and compared without a hub; a hub keeps, activates and asks them.
#![cfg(unix)]
// The lists in `clippy.toml` are for the core.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use serde_json::{Value, json};
use sheratan_tests::tools::{own_address, skipped};
use sheratan_tests::{Client, Hub, Options, Response, run, until};
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

fn shipped(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../policies").join(name);
    path.to_str().expect("the path is a text").to_owned()
}

fn written(folder: &TempDir, name: &str, document: &Value) -> PathBuf {
    let path = folder.path().join(name);
    fs::write(&path, document.to_string()).unwrap();
    path
}

#[test]
fn what_ships_is_valid_and_its_cases_hold() {
    let checked = run(&["policy", "check", &shipped("policy_v1.json"), &shipped("policy_v2.json")]);
    assert_eq!(checked.code, Some(0), "{}{}", checked.stdout, checked.stderr);
    let said = checked.stdout;
    assert!(said.contains("version 1, 0 rules, 7 cases") && said.contains("version 2"), "{said}");
    let one = run(&["policy", "check", "--json", &shipped("policy_v1.json")]).document();
    assert_eq!((&one["ok"], &one["can_recover"], &one["cases_failed"]), (&json!(true), &json!(true), &json!([])));
    assert_eq!(one["sha256"].as_str().unwrap().len(), 64);
    let tested = run(&["policy", "test", &shipped("policy_v1.json")]);
    assert_eq!((tested.code, tested.stdout.lines().filter(|line| line.starts_with('✓')).count()), (Some(0), 7));
}

#[test]
fn an_error_names_its_place_and_a_case_that_fails_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let rule = json!({"id": "r", "effect": "permit"});
    let wrong = written(&folder, "wrong.json", &json!({"version": 3, "default": "allow", "rules": [rule]}));
    let checked = run(&["policy", "check", wrong.to_str().unwrap()]);
    assert_eq!(checked.code, Some(1), "{}", checked.stdout);
    assert!(checked.stderr.contains("/rules/0/effect"), "{}", checked.stderr);
    let case = json!({"name": "nobody submits", "expect": "deny",
        "request": {"operation": "submit", "role": "submitter", "origin": "lan"}});
    let failing = written(&folder, "failing.json", &json!({"version": 3, "default": "allow", "cases": [case]}));
    let checked = run(&["policy", "check", failing.to_str().unwrap()]);
    assert_eq!(checked.code, Some(1), "{}", checked.stdout);
    assert!(checked.stderr.contains("nobody submits"), "{}", checked.stderr);
    let tested = run(&["policy", "test", failing.to_str().unwrap()]);
    assert_eq!(tested.code, Some(1));
    assert!(tested.stdout.starts_with('✗') && tested.stdout.contains("nobody submits"), "{}", tested.stdout);
    assert_eq!(run(&["policy", "check", "no-such-file"]).code, Some(1));
}

#[test]
fn a_policy_under_which_nobody_administrates_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let rule = json!({"id": "locks-out", "effect": "deny", "operations": ["admin"]});
    let path = written(&folder, "locked.json", &json!({"version": 9, "default": "allow", "rules": [rule]}));
    let checked = run(&["policy", "check", path.to_str().unwrap()]);
    assert_eq!(checked.code, Some(1), "{}", checked.stdout);
    assert!(checked.stderr.contains("could not activate another one"), "{}", checked.stderr);
}

#[test]
fn a_comparison_shows_what_becomes_allowed_and_denied() {
    let folder = tempfile::tempdir().unwrap();
    let first = written(&folder, "first.json", &json!({"version": 1, "default": "allow"}));
    let rule = json!({"id": "no-batch", "effect": "deny", "operations": ["submit"], "kinds": ["batch"]});
    let second = written(&folder, "second.json", &json!({"version": 2, "default": "allow", "rules": [rule]}));
    let diff = |before: &Path, after: &Path| {
        run(&["policy", "diff", "--json", before.to_str().unwrap(), after.to_str().unwrap()])
    };
    let compared = diff(&first, &second);
    assert_eq!(compared.code, Some(1), "{}", compared.stderr);
    let shown: Value = serde_json::from_str(&compared.stdout).unwrap();
    assert_eq!(shown["allowed_count"], 0);
    let denied = shown["denied"].as_array().unwrap();
    assert!(!denied.is_empty() && denied.iter().all(|one| one["operation"] == "submit" && one["kind"] == "batch"));
    assert_eq!(diff(&first, &first).code, Some(0));
    let back: Value = serde_json::from_str(&diff(&second, &first).stdout).unwrap();
    assert_eq!((&back["allowed_count"], &back["denied_count"]), (&shown["denied_count"], &json!(0)));
}

/// A document of a version, with a rule that denies what is called `gpu…`.
fn no_gpu(version: u64) -> Value {
    let rule = json!({"id": "no-gpu", "effect": "deny", "kinds": ["gpu*"], "operations": ["submit", "pull"],
        "reason": "the cards are away"});
    json!({"version": version, "default": "allow", "rules": [rule]})
}

fn add(hub: &Hub, document: &Value) -> Response {
    hub.control().post("/api/policies", document)
}

fn activate(hub: &Hub, version: u64, body: Value) -> Response {
    hub.control().post(&format!("/api/policies/{version}/activate"), &body)
}

#[test]
fn a_version_is_added_activated_and_taken_back_over_kill_9() {
    let mut hub = Hub::start();
    let registry = hub.control().get("/api/registry").ok();
    assert_eq!(registry["policy"]["version"], 1);
    assert_eq!(registry["policy"]["activated_utc"], Value::Null);
    let first = hub.control().get("/api/policies/1").ok();
    assert_eq!((&first["active"], &first["sha256"]), (&json!(true), &registry["policy"]["sha256"]));
    let added = add(&hub, &no_gpu(2)).ok();
    assert_eq!((&added["version"], &added["active"], &added["duplicate"]), (&json!(2), &json!(false), &json!(false)));
    assert_eq!(add(&hub, &no_gpu(2)).ok()["duplicate"], true);
    activate(&hub, 2, json!({"expect_active": 3})).refused(409, "policy_not_active");
    activate(&hub, 3, json!({})).refused(404, "unknown_policy");
    let activated = activate(&hub, 2, json!({"expect_active": 1})).ok();
    assert_eq!((&activated["version"], &activated["previous"]), (&json!(2), &json!(1)));
    // What is durable is in the journal; the audit log follows it.
    until("the first audit line", || hub.audit("POLICY_ACTIVATED").len() == 1);
    hub.kill();
    hub.restart();
    let registry = hub.control().get("/api/registry").ok();
    assert_eq!((&registry["policy"]["version"], &registry["policy"]["sha256"]), (&json!(2), &added["sha256"]));
    assert!(registry["policy"]["activated_utc"].is_string(), "{registry}");
    assert_eq!(hub.control().post("/mesh/heartbeat", &json!({"node_id": "n"})).ok()["policy_version"], 2);
    assert_eq!(hub.control().get("/api/metrics").ok()["policy_version"], 2);
    activate(&hub, 1, json!({"expect_active": 2})).ok();
    let listed = hub.control().get("/api/policies").ok();
    assert_eq!((&listed["active"], listed["policies"].as_array().unwrap().len()), (&json!(1), 2));
    let history: Vec<_> = listed["history"].as_array().unwrap().iter().map(|one| &one["version"]).collect();
    assert_eq!(history, [&json!(2), &json!(1)]);
    until("the audit lines", || hub.audit("POLICY_ACTIVATED").len() == 2);
    let noted: Vec<_> = hub.audit("POLICY_ACTIVATED").iter().map(|line| line["details"].clone()).collect();
    assert_eq!(
        (&noted[0]["version"], &noted[0]["previous"], &noted[0]["by"]),
        (&json!(2), &json!(1), &json!("shared_token"))
    );
    assert_eq!(noted[0]["sha256"], added["sha256"]);
}

#[test]
fn a_version_is_never_edited_and_a_document_is_shown_byte_for_byte() {
    let hub = Hub::start();
    let text = "{ \"version\": 7,\n  \"default\": \"allow\" }";
    let mut client = hub.control();
    client.send(raw_post(&hub, "/api/policies", text).as_bytes()).unwrap();
    assert_eq!(client.receive().unwrap().status, 200);
    let shown = String::from_utf8(hub.control().get("/api/policies/7").body).unwrap();
    assert!(shown.contains(text), "{shown}");
    add(&hub, &json!({"version": 7, "default": "deny"})).refused(409, "policy_version_exists");
    add(&hub, &json!({"version": 1, "default": "allow"})).refused(409, "policy_version_exists");
    add(&hub, &json!({"version": 5, "default": "allow"})).refused(409, "policy_version_too_low");
    let wrong = add(&hub, &json!({"version": 8, "default": "allow", "rules": [{"id": "x", "effect": "permit"}]}));
    assert_eq!((wrong.status, &wrong.json()["pointer"]), (400, &json!("/rules/0/effect")));
    let locked = json!({"version": 9, "default": "allow", "hub_token": {"local_roles": ["operator"]}});
    add(&hub, &locked).ok();
    activate(&hub, 9, json!({})).refused(409, "policy_locks_out");
    until("the audit lines", || hub.audit("POLICY_TAMPERED").len() == 2);
}

fn raw_post(hub: &Hub, path: &str, body: &str) -> String {
    let (token, length) = (hub.token(), body.len());
    format!(
        "POST {path} HTTP/1.1\r\nHost: {}\r\nX-Sheratan-Token: {token}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}",
        hub.control
    )
}

#[test]
fn what_a_rule_denies_is_refused_with_its_id_and_reason_and_other_work_goes_on() {
    let hub = Hub::start();
    let before = hub.submit(json!({"kind": "gpu_train"}));
    hub.submit(json!({"kind": "cpu"}));
    add(&hub, &no_gpu(2)).ok();
    activate(&hub, 2, json!({})).ok();
    let refused = hub.data().post("/mesh/submit_request", &json!({"kind": "gpu_train", "params": {}}));
    let said = refused.json();
    assert_eq!((refused.status, &said["error"]), (403, &json!("policy_denied")));
    assert_eq!((&said["policy_version"], &said["rule"]), (&json!(2), &json!("no-gpu")));
    assert_eq!(said["reason"], "the cards are away");
    let requests = json!([{"kind": "gpu_train"}, {"kind": "cpu"}]);
    let many = hub.data().post("/mesh/submit_requests", &json!({"requests": requests})).ok();
    let (denied, taken) = (&many["results"][0], &many["results"][1]);
    assert_eq!((&denied["status_code"], &denied["rule"], &taken["ok"]), (&json!(403), &json!("no-gpu"), &json!(true)));
    let pulled = hub.pull("n", json!({"max": 5}));
    let kinds: Vec<_> = pulled["jobs"].as_array().unwrap().iter().map(|job| &job["kind"]).collect();
    assert_eq!(kinds, ["cpu", "cpu"]);
    let denied = hub.pull("n", json!({"wait_ms": 30000}));
    assert_eq!((&denied["jobs"], &denied["reason"]), (&json!([]), &json!("policy_denied")));
    assert!(denied["defer_ms"].as_u64().unwrap() >= 100, "{denied}");
    activate(&hub, 1, json!({})).ok();
    let pulled = hub.pull("n", json!({}));
    assert_eq!(pulled["jobs"][0]["job_id"], before);
}

#[test]
fn a_long_poll_that_waits_is_told_that_the_policy_denies_what_came_for_it() {
    let hub = Hub::start();
    let rule = json!({"id": "not-n", "effect": "deny", "nodes": ["n"], "operations": ["pull"]});
    add(&hub, &json!({"version": 2, "default": "allow", "rules": [rule]})).ok();
    let mut waiting = hub.data();
    waiting.send_request("POST", "/mesh/pull_requests", Some(&json!({"node_id": "n", "wait_ms": 30000}))).unwrap();
    until("the poll is parked", || {
        let text = hub.data().ask("GET", "/metrics", &[("Accept", "text/plain")]).body;
        String::from_utf8_lossy(&text).contains("sheratan_hub_long_polls 1\n")
    });
    activate(&hub, 2, json!({})).ok();
    hub.submit(json!({"kind": "k"}));
    let told = waiting.receive().unwrap().ok();
    assert_eq!((&told["jobs"], &told["reason"]), (&json!([]), &json!("policy_denied")));
    assert_eq!(hub.pull("other", json!({}))["jobs"].as_array().unwrap().len(), 1);
}

#[test]
fn a_policy_explains_what_it_decides_with_what_the_hub_knows_of_the_node() {
    let hub = Hub::start();
    let rule = json!({"id": "no-west", "effect": "deny", "operations": ["pull"], "zones": ["west"], "reason": "far"});
    add(&hub, &json!({"version": 2, "default": "allow", "rules": [rule]})).ok();
    hub.control().post("/mesh/heartbeat", &json!({"node_id": "w", "zone": "west"})).ok();
    let explain = |body: Value| hub.control().post("/api/policies/explain", &body);
    let request = json!({"operation": "pull", "origin": "lan", "node": "w", "kind": "k"});
    let now = explain(json!({"request": request})).ok();
    assert_eq!((&now["policy_version"], &now["allowed"], &now["zone"]), (&json!(1), &json!(true), &json!("west")));
    let then = explain(json!({"version": 2, "request": request})).ok();
    assert_eq!((&then["allowed"], &then["rule"], &then["reason"]), (&json!(false), &json!("no-west"), &json!("far")));
    let admin = explain(json!({"request": {"operation": "admin", "origin": "lan", "role": "admin"}})).ok();
    assert_eq!((&admin["allowed"], &admin["rule"]), (&json!(false), &Value::Null));
    assert_eq!(explain(json!({"request": {"operation": "fly", "origin": "lan"}})).status, 400);
    explain(json!({"version": 9, "request": request})).refused(404, "unknown_policy");
}

#[test]
fn policies_are_added_and_activated_from_the_hub_s_own_machine_only() {
    let Some(address) = own_address() else { return skipped("an address of its own beside loopback") };
    let token = "a-token-of-twenty-four-b";
    let env = vec![("SHERATAN_HUB_TOKEN".to_owned(), token.to_owned())];
    let args = ["--control-addr", "0.0.0.0:0"].map(str::to_owned).to_vec();
    let hub = Hub::start_in(TempDir::new().unwrap(), Options { args, env });
    let mut far = Client::new((address, hub.control.port()).into(), Some(token.to_owned()));
    far.post("/api/policies", &no_gpu(2)).refused(403, "admin_local_only");
    far.post("/api/policies/1/activate", &json!({})).refused(403, "admin_local_only");
    assert_eq!(far.get("/api/policies").ok()["active"], 1);
}

#[test]
fn a_start_adds_the_files_that_are_new_and_serves_on_where_one_was_tampered_with() {
    let mut hub = Hub::start();
    let policies = hub.folder().join("policies");
    fs::create_dir(&policies).unwrap();
    let path = policies.join("policy_v2.json");
    fs::write(&path, no_gpu(2).to_string()).unwrap();
    fs::write(policies.join("policy_v3.json"), "{").unwrap();
    hub.stop();
    hub.restart();
    let listed = hub.control().get("/api/policies").ok();
    assert_eq!((&listed["active"], listed["policies"].as_array().unwrap().len()), (&json!(1), 2), "added, not active");
    assert_eq!(listed["policies"][1]["by"], "hub");
    activate(&hub, 2, json!({})).ok();
    let sha256 = hub.control().get("/api/registry").ok()["policy"]["sha256"].clone();
    fs::write(&path, json!({"version": 2, "default": "allow"}).to_string()).unwrap();
    hub.kill();
    hub.restart();
    let policy = hub.control().get("/api/registry").ok()["policy"].clone();
    assert_eq!((&policy["version"], &policy["sha256"]), (&json!(2), &sha256), "from the journal");
    until("the audit line", || !hub.audit("POLICY_TAMPERED").is_empty());
    let tampered = hub.audit("POLICY_TAMPERED")[0]["details"].clone();
    assert_eq!((&tampered["version"], &tampered["sha256_held"]), (&json!(2), &sha256));
    fs::remove_dir_all(&policies).unwrap();
    hub.kill();
    hub.restart();
    assert_eq!(hub.control().get("/api/registry").ok()["policy"]["version"], 2);
}

#[test]
fn the_command_line_adds_compares_activates_and_explains() {
    let hub = Hub::start();
    let folder = tempfile::tempdir().unwrap();
    let file = written(&folder, "next.json", &no_gpu(2));
    let file = file.to_str().unwrap();
    assert!(hub.run(&["policy", "add", file]).stdout.contains("policy 2 is added"));
    assert!(hub.run(&["policy", "add", file]).stdout.contains("was there already"));
    let listed = hub.run(&["policy", "list", "--json"]).document();
    assert_eq!((&listed["active"], listed["policies"].as_array().unwrap().len()), (&json!(1), 2));
    hub.run(&["policy", "activate", "2"]).is_refused(2, "--yes");
    hub.run(&["policy", "activate", "2", "--yes", "--expect-active", "7"]).is_refused(1, "policy_not_active");
    let activated = hub.run(&["policy", "activate", "2", "--yes"]);
    assert_eq!(activated.code, Some(0), "{}", activated.stderr);
    assert!(activated.stdout.contains("becomes denied") && activated.stdout.contains("policy 2 is active"));
    let denied = hub.run(&["policy", "explain", "--operation", "submit", "--kind", "gpu_1", "--origin", "lan"]);
    assert_eq!(denied.code, Some(1), "{}", denied.stderr);
    assert!(denied.stdout.contains("denied by rule no-gpu of policy 2: the cards are away"), "{}", denied.stdout);
    let kind = ["policy", "explain", "--operation", "submit", "--kind", "gpu_1", "--policy", "1"];
    assert_eq!(hub.run(&kind).code, Some(0));
    let document: Value = serde_json::from_str(&hub.run(&["policy", "show", "2", "--document"]).stdout).unwrap();
    assert_eq!(document, no_gpu(2));
    assert!(hub.run(&["policy", "show", "2"]).stdout.contains("sha256"));
    assert_eq!(hub.run(&["policy", "activate", "1", "--yes", "--json"]).document()["previous"], 2);
    let history = hub.run(&["policy", "history"]).stdout;
    assert_eq!(history.lines().count(), 3, "{history}");
}
