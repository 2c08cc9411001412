//! `sheratan-hub policy`: documents are checked and compared without a hub.
#![cfg(unix)]
// The lists in `clippy.toml` are for the core.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use serde_json::{Value, json};
use sheratan_tests::run;
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
