//! `sheratan-hub policy`: documents are checked and compared without a hub.
#![cfg(unix)]
// The lists in `clippy.toml` are for the core.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use serde_json::{Value, json};
use sheratan_tests::Hub;
use std::fs;
use std::path::{Path, PathBuf};

fn shipped(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../policies").join(name);
    path.to_str().expect("the path is a text").to_owned()
}

fn written(hub: &Hub, name: &str, document: &Value) -> PathBuf {
    let path = hub.folder().join(name);
    fs::write(&path, document.to_string()).unwrap();
    path
}

#[test]
fn what_ships_is_valid_and_its_cases_hold() {
    let hub = Hub::start();
    let run = hub.run(&["policy", "check", &shipped("policy_v1.json"), &shipped("policy_v2.json")]);
    assert_eq!(run.code, Some(0), "{}{}", run.stdout, run.stderr);
    assert!(run.stdout.contains("version 1, 0 rules, 7 cases") && run.stdout.contains("version 2"), "{}", run.stdout);
    let one = hub.run(&["policy", "check", "--json", &shipped("policy_v1.json")]).document();
    assert_eq!((&one["ok"], &one["can_recover"], &one["cases_failed"]), (&json!(true), &json!(true), &json!([])));
    assert_eq!(one["sha256"].as_str().unwrap().len(), 64);
}

#[test]
fn an_error_names_its_place_and_a_case_that_fails_is_named() {
    let hub = Hub::start();
    let rule = json!({"id": "r", "effect": "permit"});
    let wrong = written(&hub, "wrong.json", &json!({"version": 3, "default": "allow", "rules": [rule]}));
    let run = hub.run(&["policy", "check", wrong.to_str().unwrap()]);
    assert_eq!(run.code, Some(1), "{}", run.stdout);
    assert!(run.stderr.contains("/rules/0/effect"), "{}", run.stderr);
    let case = json!({"name": "nobody submits", "expect": "deny",
        "request": {"operation": "submit", "role": "submitter", "origin": "lan"}});
    let failing = written(&hub, "failing.json", &json!({"version": 3, "default": "allow", "cases": [case]}));
    let run = hub.run(&["policy", "check", failing.to_str().unwrap()]);
    assert_eq!(run.code, Some(1), "{}", run.stdout);
    assert!(run.stderr.contains("nobody submits"), "{}", run.stderr);
    assert_eq!(hub.run(&["policy", "check", "no-such-file"]).code, Some(1));
}

#[test]
fn a_policy_under_which_nobody_administrates_is_told() {
    let hub = Hub::start();
    let rule = json!({"id": "locks-out", "effect": "deny", "operations": ["admin"]});
    let path = written(&hub, "locked.json", &json!({"version": 9, "default": "allow", "rules": [rule]}));
    let run = hub.run(&["policy", "check", path.to_str().unwrap()]);
    assert_eq!(run.code, Some(1), "{}", run.stdout);
    assert!(run.stderr.contains("could not activate another one"), "{}", run.stderr);
}

#[test]
fn a_comparison_shows_what_becomes_allowed_and_denied() {
    let hub = Hub::start();
    let first = written(&hub, "first.json", &json!({"version": 1, "default": "allow"}));
    let rule = json!({"id": "no-batch", "effect": "deny", "operations": ["submit"], "kinds": ["batch"]});
    let second = written(&hub, "second.json", &json!({"version": 2, "default": "allow", "rules": [rule]}));
    let diff = |before: &Path, after: &Path| {
        hub.run(&["policy", "diff", "--json", before.to_str().unwrap(), after.to_str().unwrap()])
    };
    let run = diff(&first, &second);
    assert_eq!(run.code, Some(1), "{}", run.stderr);
    let shown: Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!(shown["allowed_count"], 0);
    let denied = shown["denied"].as_array().unwrap();
    assert!(!denied.is_empty() && denied.iter().all(|one| one["operation"] == "submit" && one["kind"] == "batch"));
    assert_eq!(diff(&first, &first).code, Some(0));
    let back: Value = serde_json::from_str(&diff(&second, &first).stdout).unwrap();
    assert_eq!((&back["allowed_count"], &back["denied_count"]), (&shown["denied_count"], &json!(0)));
}
