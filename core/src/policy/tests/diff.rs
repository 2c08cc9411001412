//! What differs between two policies.

use super::super::limits::*;
use super::super::*;
use crate::envelope::Origin;
use serde_json::{Value, json};

fn policy(members: Value) -> Policy {
    let mut document = json!({"version": 2, "default": "allow"});
    let Value::Object(members) = members else { panic!("members are an object") };
    document.as_object_mut().expect("an object").extend(members);
    Policy::compile(&Snapshot::parse(document.to_string().as_bytes()).expect("it is valid"))
}

#[test]
fn a_policy_does_not_differ_from_itself() {
    let example = include_str!("../../../../policies/policy_v2.json");
    let example = Policy::compile(&Snapshot::parse(example.as_bytes()).expect("it is valid"));
    let diff = Diff::between(&example, &example);
    assert_eq!((diff.allowed_count, diff.denied_count), (0, 0));
    assert!(diff.compared > 1_000, "{}", diff.compared);
}

#[test]
fn a_new_deny_is_listed_with_exactly_the_requests_that_it_denies() {
    let rule = json!({"id": "no", "effect": "deny", "operations": ["submit"], "origin": "any", "zones": ["vault*"],
        "kinds": ["a", "b"]});
    let (open, closed) = (policy(json!({})), policy(json!({"rules": [rule]})));
    let diff = Diff::between(&open, &closed);
    assert_eq!(diff.allowed_count, 0);
    // Two roles may submit, from three origins, two kinds.
    assert_eq!(diff.denied_count, 2 * 3 * 2);
    assert_eq!(diff.denied.len(), 12);
    for request in &diff.denied {
        assert_eq!((request.operation, request.zone.as_deref()), (Operation::Submit, Some("vault")));
    }
    assert_eq!(u128::from(diff.compared), diff.total);
    let back = Diff::between(&closed, &open);
    assert_eq!((back.allowed, back.denied_count), (diff.denied, 0));
}

#[test]
fn a_lifted_floor_and_an_attestation_that_is_asked_for_are_seen() {
    let lift = json!({"id": "lift", "effect": "allow", "operations": ["admin"], "origin": ["lan"]});
    let diff = Diff::between(&policy(json!({})), &policy(json!({"rules": [lift]})));
    let listed: Vec<_> = diff.allowed.iter().map(|request| (request.operation, request.origin)).collect();
    assert_eq!(listed, [(Operation::Admin, Origin::LocalNetwork)]);

    let diff = Diff::between(&policy(json!({})), &policy(json!({"gates": {"pull": ["attestation_ok"]}})));
    assert!(diff.denied_count > 0);
    let is_seen = |request: &CaseRequest| {
        request.operation == Operation::Pull && request.attestation != Some(AttestationStatus::Ok)
    };
    assert!(diff.denied.iter().all(is_seen));

    let drift = json!({"id": "no", "effect": "deny", "operations": ["pull"], "attestation": ["DRIFT"]});
    let diff = Diff::between(&policy(json!({})), &policy(json!({"rules": [drift]})));
    let attestations: Vec<_> = diff.denied.iter().map(|request| request.attestation).collect();
    // Two roles may pull, from three origins.
    assert_eq!(attestations, [Some(AttestationStatus::Drift); 6]);
}

#[test]
fn a_comparison_of_too_many_requests_is_spread_over_them() {
    let zones: Vec<String> = (0..100).map(|zone| format!("z{zone}")).collect();
    let kinds: Vec<String> = (0..100).map(|kind| format!("k{kind}")).collect();
    let rule = json!({"id": "no", "effect": "deny", "operations": ["result"], "zones": zones, "kinds": kinds,
        "capabilities": ["a", "b", "c"]});
    let diff = Diff::between(&policy(json!({})), &policy(json!({"rules": [rule]})));
    assert!(diff.total > 500_000, "{}", diff.total);
    assert!((50_000..=DIFF_REQUESTS_MAX).contains(&diff.compared), "{}", diff.compared);
    assert!(diff.denied_count > diff.denied.len() as u64);
    assert_eq!(diff.denied.len(), DIFF_LISTED_MAX);
}
