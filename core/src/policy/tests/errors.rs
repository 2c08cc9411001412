//! Documents that are refused: where, and with what expectation.

use super::super::limits::*;
use super::super::*;
use serde_json::{Value, json};

fn refusal(document: &Value) -> Option<PolicyError> {
    Snapshot::parse(document.to_string().as_bytes()).err()
}

/// A document with some members more.
fn with(members: Value) -> Value {
    let mut document = json!({"version": 2, "default": "deny"});
    let Value::Object(members) = members else { panic!("members are an object") };
    document.as_object_mut().expect("an object").extend(members);
    document
}

fn with_rule(members: Value) -> Value {
    let mut rule = json!({"id": "r", "effect": "deny"});
    let Value::Object(members) = members else { panic!("members are an object") };
    rule.as_object_mut().expect("an object").extend(members);
    with(json!({"rules": [{"id": "first", "effect": "allow"}, rule]}))
}

fn with_request(request: Value) -> Value {
    with(json!({"cases": [{"name": "c", "request": request, "expect": "allow"}]}))
}

#[test]
fn a_refusal_names_the_place_and_what_is_expected_there() {
    let request = json!({"operation": "read", "role": "admin", "origin": "local"});
    let table = [
        (json!([]), "", "must be an object"),
        (json!({"default": "deny"}), "", "must have the member version"),
        (json!({"version": 2}), "", "must have the member default"),
        (with(json!({"versoin": 3})), "/versoin", "is not a member"),
        (with(json!({"a/b~c": 3})), "/a~1b~0c", "is not a member"),
        (with(json!({"version": 0})), "/version", "must be a whole number from 1"),
        (with(json!({"version": "2"})), "/version", "must be a whole number"),
        (with(json!({"version": 1.5})), "/version", "must be a whole number"),
        (with(json!({"default": "Allow"})), "/default", "must be one of allow, deny"),
        (with(json!({"description": null})), "/description", "must be a string"),
        (with(json!({"description": ""})), "/description", "must have 1 to 1000 characters"),
        (with(json!({"description": "a\nb"})), "/description", "must not contain control characters"),
        (with(json!({"rules": {}})), "/rules", "must be a list"),
        (with(json!({"rules": [1]})), "/rules/0", "must be an object"),
        (with(json!({"rules": [{"effect": "deny"}]})), "/rules/0", "must have the member id"),
        (with_rule(json!({"id": "first"})), "/rules/1/id", "must be unique: rule 0"),
        (with_rule(json!({"id": "a b"})), "/rules/1/id", "must be a word"),
        (
            with_rule(json!({"zone": ["a"]})),
            "/rules/1/zone",
            "is not a member of this object, whose members are id, effect,",
        ),
        (with_rule(json!({"zones": []})), "/rules/1/zones", "must not be empty"),
        (with_rule(json!({"zones": null})), "/rules/1/zones", "must be a list"),
        (with_rule(json!({"zones": "a"})), "/rules/1/zones", "must be a list"),
        (with_rule(json!({"kinds": ["a", 7]})), "/rules/1/kinds/1", "must be a string"),
        (with_rule(json!({"nodes": [""]})), "/rules/1/nodes/0", "must have 1 to 256 characters"),
        (with_rule(json!({"capabilities": []})), "/rules/1/capabilities", "must not be empty"),
        (with_rule(json!({"operations": []})), "/rules/1/operations", "must not be empty"),
        (
            with_rule(json!({"operations": ["read", "write"]})),
            "/rules/1/operations/1",
            "must match one of read, submit",
        ),
        (with_rule(json!({"operations": ["w*"]})), "/rules/1/operations/0", "must match one of"),
        (with_rule(json!({"roles": []})), "/rules/1/roles", "must not be empty"),
        (with_rule(json!({"roles": ["root"]})), "/rules/1/roles/0", "must be one of observer"),
        (with_rule(json!({"origin": "loopback"})), "/rules/1/origin", "must be one of local, lan, any"),
        (with_rule(json!({"origin": []})), "/rules/1/origin", "must not be empty"),
        (with_rule(json!({"origin": ["lan", "LAN"]})), "/rules/1/origin/1", "must be one of"),
        (with_rule(json!({"attestation": ["ok"]})), "/rules/1/attestation/0", "must be one of OK, MISSING"),
        (
            with_rule(json!({"effect": "allow", "attestation": ["OK", "none"]})),
            "/rules/1/attestation/1",
            "must not be none",
        ),
        (with_rule(json!({"reason": 1})), "/rules/1/reason", "must be a string"),
        (with(json!({"gates": {"write": ["local"]}})), "/gates/write", "is not a member"),
        (with(json!({"gates": {"admin": []}})), "/gates/admin", "must not be empty"),
        (with(json!({"gates": {"admin": ["role:root"]}})), "/gates/admin/0", "must be one of local, role:observer"),
        (
            with(json!({"gates": {"heartbeat": ["role:node", "attestation_ok"]}})),
            "/gates/heartbeat/1",
            "must be a role",
        ),
        (with(json!({"gates": {"heartbeat": ["local"]}})), "/gates/heartbeat/0", "must be a role"),
        (
            with(json!({"node_states": {"attestation": {"OK": "WARN"}}})),
            "/node_states/attestation/OK",
            "is not a member",
        ),
        (
            with(json!({"node_states": {"identity": {"VALID": "WARN"}}})),
            "/node_states/identity/VALID",
            "is not a member",
        ),
        (
            with(json!({"node_states": {"attestation": {"DRIFT": "BAD"}}})),
            "/node_states/attestation/DRIFT",
            "must be one of NORMAL, WARN",
        ),
        (
            with(json!({"node_states": {"quarantine_min": [10, 30]}})),
            "/node_states/quarantine_min",
            "must have 3 elements",
        ),
        (
            with(json!({"node_states": {"quarantine_min": [10, 30, 20]}})),
            "/node_states/quarantine_min",
            "must not get shorter",
        ),
        (
            with(json!({"node_states": {"quarantine_min": [0, 1, 2]}})),
            "/node_states/quarantine_min/0",
            "must be a whole number from 1",
        ),
        (
            with(json!({"node_states": {"defer_ms": {"first": 99}}})),
            "/node_states/defer_ms/first",
            "must be a whole number from 100",
        ),
        (
            with(json!({"node_states": {"defer_ms": {"max": 1000}}})),
            "/node_states/defer_ms",
            "must have a max that is not less than first: 1000 and 2000",
        ),
        (with(json!({"hub_token": {"role": []}})), "/hub_token/role", "is not a member"),
        (with(json!({"no_token": {"local_roles": ["x"]}})), "/no_token/local_roles/0", "must be one of"),
        (with(json!({"pinning": "last"})), "/pinning", "must be one of first, token_bound, listed"),
        (with(json!({"cases": [{"request": request, "expect": "allow"}]})), "/cases/0", "must have the member name"),
        (
            with(json!({"cases": [{"name": "c", "request": request, "expect": "allow", "rule": "r"}]})),
            "/cases/0/rule",
            "must be the id of a rule",
        ),
        (
            with_request(json!({"operation": "read", "origin": "local"})),
            "/cases/0/request",
            "must have either role or roles",
        ),
        (
            with_request(json!({"operation": "read", "role": "node", "roles": [], "origin": "local"})),
            "/cases/0/request",
            "must have either",
        ),
        (
            with_request(json!({"operation": "r*", "role": "node", "origin": "local"})),
            "/cases/0/request/operation",
            "must be one of read",
        ),
        (with_request(json!({"operation": "read", "role": "node"})), "/cases/0/request", "must have the member origin"),
        (
            with_request(json!({"operation": "read", "role": "node", "origin": "local", "signed": 1})),
            "/cases/0/request/signed",
            "must be true or false",
        ),
    ];
    for (document, pointer, reason) in table {
        let error = refusal(&document).unwrap_or_else(|| panic!("{document} is refused"));
        assert_eq!(error.pointer, pointer, "{document}: {error}");
        assert!(error.reason.starts_with(reason), "{document}: {error}");
    }
}

#[test]
fn a_text_that_two_readers_could_read_two_ways_is_refused() {
    for text in [
        "",
        "{",
        r#"{"version":2,"default":"deny"} x"#,
        r#"{"version":2,"default":"deny","default":"allow"}"#,
        r#"{"version":2,"default":"deny","d\u0065fault":"allow"}"#,
        r#"{"version":2,"default":"deny","rules":[{"id":"r","effect":"deny","effect":"allow"}]}"#,
    ] {
        let error = Snapshot::parse(text.as_bytes()).expect_err(text);
        assert_eq!(error.pointer, "");
        assert!(error.reason.starts_with("is not JSON as it must be"), "{text}: {error}");
    }
}

#[test]
fn each_limit_holds_at_its_edge() {
    let rules = |count: usize| {
        let rules: Vec<Value> = (0..count).map(|id| json!({"id": id.to_string(), "effect": "deny"})).collect();
        with(json!({"rules": rules}))
    };
    let cases = |count: usize| {
        let case =
            json!({"name": "c", "request": {"operation": "read", "role": "node", "origin": "lan"}, "expect": "deny"});
        with(json!({"cases": vec![case; count]}))
    };
    let text = |count: usize| "é".repeat(count);
    // A list, a limit, the pointer of the refusal.
    type Make<'a> = &'a dyn Fn(usize) -> Value;
    let table: [(Make, usize, &str); 9] = [
        (&rules, RULES_MAX, "/rules"),
        (&cases, CASES_MAX, "/cases"),
        (&|count| with_rule(json!({"zones": vec!["z"; count]})), GLOBS_MAX, "/rules/1/zones"),
        (&|count| with_rule(json!({"operations": vec!["*"; count]})), GLOBS_MAX, "/rules/1/operations"),
        (&|count| with_rule(json!({"kinds": [text(count)]})), GLOB_CHARS_MAX, "/rules/1/kinds/0"),
        (&|count| with_rule(json!({"id": "i".repeat(count)})), ID_CHARS_MAX, "/rules/1/id"),
        (&|count| with_rule(json!({"reason": text(count)})), TEXT_CHARS_MAX, "/rules/1/reason"),
        (&|count| with(json!({"description": text(count)})), TEXT_CHARS_MAX, "/description"),
        (&|count| with(json!({"version": count})), VERSION_MAX as usize, "/version"),
    ];
    for (make, limit, pointer) in table {
        assert_eq!(refusal(&make(limit - 1)), None, "{pointer}");
        assert_eq!(refusal(&make(limit)), None, "{pointer}");
        assert_eq!(refusal(&make(limit + 1)).map(|error| error.pointer).as_deref(), Some(pointer));
    }
    for (bytes, is_valid) in
        [(DOCUMENT_BYTES_MAX - 1, true), (DOCUMENT_BYTES_MAX, true), (DOCUMENT_BYTES_MAX + 1, false)]
    {
        let document = with(json!({})).to_string();
        let padded = document.clone() + &" ".repeat(bytes - document.len());
        assert_eq!(Snapshot::parse(padded.as_bytes()).is_ok(), is_valid, "{bytes}");
    }
}

#[test]
fn formatting_does_not_change_the_hash_and_every_member_does() {
    let hash = |text: &str| *Snapshot::parse(text.as_bytes()).expect("it is valid").sha256();
    let plain = hash(r#"{"default":"deny","version":2}"#);
    assert_eq!(hash("{ \"version\" : 2.0,\n\t\"default\" : \"d\\u0065ny\" }"), plain);
    assert_ne!(hash(r#"{"default":"allow","version":2}"#), plain);
    assert_ne!(hash(r#"{"default":"deny","version":3}"#), plain);
    // What says the same in more words is another document.
    assert_ne!(hash(r#"{"default":"deny","version":2,"pinning":"first"}"#), plain);
}
