//! Random policies and requests, decided by the module and by the naive evaluator.

use super::super::*;
use super::naive::{self, Ask};
use crate::envelope::Origin;
use crate::name::Name;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use serde_json::{Map, Value, json};

const OPERATIONS: [&str; 8] = ["read", "submit", "pull", "extend", "result", "heartbeat", "operate", "admin"];
const ROLES: [&str; 5] = ["observer", "submitter", "node", "operator", "admin"];
const ORIGINS: [&str; 3] = ["local", "lan", "any"];
const NAMES: [&str; 5] = ["a", "b", "ab", "none", "A"];
const ATTESTATIONS: [&str; 4] = ["OK", "MISSING", "DRIFT", "SPOOF_SUSPECT"];
const GATES: [&str; 5] = ["local", "attestation_ok", "signed_identity", "role:admin", "role:node"];

fn list(of: &'static [&'static str]) -> impl Strategy<Value = Value> {
    vec(select(of), 1..3).prop_map(|list| json!(list))
}

fn globs() -> impl Strategy<Value = Option<Value>> {
    option::weighted(0.25, list(&["a", "b", "none", "*", "a*", "?", "*b"]))
}

fn rule() -> impl Strategy<Value = Map<String, Value>> {
    let operations = [
        "read",
        "submit",
        "pull",
        "extend",
        "result",
        "heartbeat",
        "operate",
        "admin",
        "pull",
        "*",
        "re*",
        "????",
        "adm*",
    ];
    let operations = vec(select(operations.to_vec()), 1..4).prop_map(|list| json!(list));
    let origin = prop_oneof![select(&ORIGINS[..]).prop_map(|word| json!(word)), list(&ORIGINS)];
    let attestation = list(&["OK", "MISSING", "DRIFT", "SPOOF_SUSPECT", "none"]);
    let callers = (
        option::weighted(0.7, operations),
        option::weighted(0.3, list(&ROLES)),
        option::weighted(0.3, origin),
        option::weighted(0.25, attestation),
    );
    let effect = prop_oneof![2 => Just("allow"), 1 => Just("deny")];
    (effect, callers, (globs(), globs(), globs(), globs())).prop_map(|(effect, callers, lists)| {
        let (operations, roles, origin, attestation) = callers;
        let (zones, capabilities, kinds, nodes) = lists;
        let attestation = attestation.filter(|list| effect == "deny" || !list.to_string().contains("none"));
        let members = [
            ("effect", Some(json!(effect))),
            ("operations", operations),
            ("roles", roles),
            ("origin", origin),
            ("attestation", attestation),
            ("zones", zones),
            ("capabilities", capabilities),
            ("kinds", kinds),
            ("nodes", nodes),
        ];
        members.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
    })
}

fn document() -> impl Strategy<Value = Value> {
    let gate = (select(&OPERATIONS[..]), vec(select(&GATES[..]), 1..3));
    let gates = vec(gate, 0..3).prop_map(|gates| {
        let is_valid = |(operation, list): &(&str, Vec<&str>)| {
            *operation != "heartbeat" || list.iter().all(|gate| gate.starts_with("role:"))
        };
        gates.into_iter().filter(is_valid).map(|(operation, list)| (operation.to_owned(), json!(list))).collect()
    });
    let local_roles = subsequence(ROLES.to_vec(), 0..=5);
    (select(&["allow", "deny"][..]), vec(rule(), 0..7), gates, local_roles).prop_map(
        |(default, mut rules, gates, local_roles): (_, Vec<_>, Map<String, Value>, _)| {
            for (index, rule) in rules.iter_mut().enumerate() {
                rule.insert("id".into(), json!(format!("r{index}")));
            }
            let hub_token = json!({"local_roles": local_roles});
            json!({"version": 3, "default": default, "rules": rules, "gates": gates, "hub_token": hub_token})
        },
    )
}

fn ask() -> impl Strategy<Value = Ask> {
    let name = || option::weighted(0.8, select(&NAMES[..]));
    let caller = (select(&OPERATIONS[..]), subsequence(ROLES.to_vec(), 0..=5), select(&ORIGINS[..]));
    let node = (name(), vec(select(&NAMES[..]), 0..3), name(), option::of(select(&ATTESTATIONS[..])), any::<bool>());
    (caller, name(), name(), node).prop_map(|((operation, roles, origin), zone, kind, node)| {
        let (node_zone, capabilities, node, attestation, is_signed) = node;
        Ask { operation, roles, origin, zone, node_zone, capabilities, kind, node, attestation, is_signed }
    })
}

fn word<T: Word>(text: &str) -> T {
    T::parse(text).expect("a word of the list")
}

/// The request of the module that says the same, for its capabilities.
fn request<'a>(ask: &Ask, capabilities: &'a [Name]) -> Request<'a> {
    Request {
        operation: word(ask.operation),
        roles: ask.roles.iter().map(|role| word(role)).collect(),
        origin: match ask.origin {
            "local" => Origin::Loopback,
            "lan" => Origin::LocalNetwork,
            _ => Origin::Anywhere,
        },
        zone: ask.zone,
        node_zone: ask.node_zone,
        capabilities,
        kind: ask.kind,
        node: ask.node,
        attestation: ask.attestation.map(word),
        is_signed: ask.is_signed,
    }
}

fn names(of: &[&str]) -> Vec<Name> {
    of.iter().map(|name| Name::new(name).expect("a name")).collect()
}

fn words(policy: &Policy, decision: Decision) -> String {
    let id = |rule| &policy.rule(rule).id;
    match decision {
        Decision::Allow { rule: None } => "allow".into(),
        Decision::Allow { rule: Some(rule) } => format!("allow by {}", id(rule)),
        Decision::Deny { by: DeniedBy::Rule(rule) } => format!("deny by {}", id(rule)),
        Decision::Deny { by: DeniedBy::Gate(gate) } => format!("deny: {gate}"),
        Decision::Deny { by: DeniedBy::Floor } => "deny: floor".into(),
        Decision::Deny { by: DeniedBy::Roles } => "deny: roles".into(),
        Decision::Deny { by: DeniedBy::Default } => "deny: default".into(),
    }
}

fn compile(document: &Value) -> Policy {
    Policy::compile(&Snapshot::parse(document.to_string().as_bytes()).expect("a document that is valid"))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn decisions_are_those_of_the_naive_evaluator(document in document(), asks in vec(ask(), 8)) {
        let policy = compile(&document);
        for ask in &asks {
            let capabilities = names(&ask.capabilities);
            let decision = policy.decide(&request(ask, &capabilities));
            prop_assert_eq!(words(&policy, decision), naive::decide(&document, ask), "{:?} {}", ask, &document);
        }
    }

    #[test]
    fn grants_are_those_of_the_naive_evaluator(document in document(), ask in ask(), zone in select(&NAMES[..])) {
        let policy = compile(&document);
        let ask = Ask { operation: "heartbeat", ..ask };
        for capability in NAMES.map(Some).into_iter().chain([None]) {
            let decision = policy.grant(&request(&ask, &[]), zone, capability);
            let expected = naive::grant(&document, &ask, zone, capability);
            prop_assert_eq!(words(&policy, decision), expected, "{:?} {:?} {}", ask, capability, &document);
        }
    }

    #[test]
    fn a_row_decides_as_its_policy_does_and_again_the_same(document in document(), ask in ask()) {
        let policy = compile(&document);
        let capabilities = names(&ask.capabilities);
        let ask = Ask { operation: "pull", ..ask };
        let of = request(&ask, &capabilities);
        let Request { node, node_zone, capabilities, roles, origin, attestation, is_signed, .. } = of;
        let mut row = policy.row(&NodeProfile { node, zone: node_zone, capabilities, roles, origin, attestation, is_signed });
        for _ in 0..2 {
            for (zone, kind) in NAMES.iter().flat_map(|zone| NAMES.iter().map(move |kind| (zone, kind))) {
                let expected = policy.decide(&Request { zone: Some(zone), kind: Some(kind), ..of });
                prop_assert_eq!(row.decide(zone, kind), expected, "{} {} {}", zone, kind, &document);
            }
        }
        prop_assert_eq!(row.verdicts_count(), NAMES.len() * NAMES.len());
    }

    #[test]
    fn a_policy_can_be_undone_exactly_if_the_shared_token_administrates_on_loopback(document in document()) {
        let policy = compile(&document);
        let roles = document["hub_token"]["local_roles"].as_array().expect("a list");
        let roles = ROLES.into_iter().filter(|role| roles.contains(&json!(role))).collect();
        let ask = Ask {
            operation: "admin",
            roles,
            origin: "local",
            zone: None,
            node_zone: None,
            capabilities: vec![],
            kind: None,
            node: None,
            attestation: None,
            is_signed: false,
        };
        let is_allowed = naive::decide(&document, &ask).starts_with("allow");
        prop_assert_eq!(policy.can_recover(&[]), is_allowed, "{}", &document);
    }
}

#[test]
fn a_token_of_an_administrator_is_a_way_back_where_the_shared_token_is_none() {
    let policy = compile(&json!({"version": 2, "default": "allow", "hub_token": {"local_roles": ["node"]}}));
    let admin = [Role::Admin].into_iter().collect();
    let operator = [Role::Operator].into_iter().collect();
    assert!(!policy.can_recover(&[]));
    assert!(!policy.can_recover(&[operator]));
    assert!(policy.can_recover(&[operator, admin]));
    let closed = compile(&json!({"version": 2, "default": "allow", "rules": [{"id": "no", "effect": "deny"}]}));
    assert!(!closed.can_recover(&[admin]));
}

#[test]
fn a_row_remembers_so_many_verdicts_and_no_more() {
    let policy = compile(&json!({"version": 2, "default": "allow",
        "rules": [{"id": "odd", "effect": "deny", "kinds": ["*1", "*3", "*5", "*7", "*9"]}]}));
    let node = NodeProfile {
        node: None,
        zone: None,
        capabilities: &[],
        roles: [Role::Node].into_iter().collect(),
        origin: Origin::Loopback,
        attestation: None,
        is_signed: false,
    };
    let mut row = policy.row(&node);
    for number in 0..2 * limits::ROW_VERDICTS_MAX + 1 {
        assert_eq!(row.decide("default", &number.to_string()).is_allowed(), number % 2 == 0);
        assert!(row.verdicts_count() <= limits::ROW_VERDICTS_MAX);
    }
    assert_eq!(row.verdicts_count(), 1);
}
