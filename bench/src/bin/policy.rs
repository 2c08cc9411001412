//! Policies: what a decision costs with as many rules as a document may have.
//!
//! Every rule is about pulls and about the node, and none but the last allows, so each decision looks at all of them.
//! The median of many rounds is printed: other work on the machine only adds to it.
// The lists in clippy.toml are the core's; this measures it.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use serde_json::json;
use sheratan_core::policy::{NodeProfile, Operation, Policy, Request, Role, Row, Snapshot};
use sheratan_core::{Name, Origin};
use std::hint::black_box;
use std::time::{Duration, Instant};

const RULES: usize = sheratan_core::policy::limits::RULES_MAX;
const KINDS: usize = 1_000;
const ROUNDS: usize = 50;

fn main() {
    let kinds: Vec<String> = (0..KINDS).map(|kind| format!("kind.of.a.usual.length.{kind}")).collect();
    let patterns = |index: usize| json!([format!("kind.of.an?other.{index}.*")]);
    let names = |index: usize| json!([format!("kind.of.another.{index}"), format!("kind.{index}")]);
    for (form, globs) in [("a glob of kinds each", &patterns as &dyn Fn(usize) -> _), ("two kinds each", &names)] {
        let policy = policy(globs);
        let capabilities = [Name::new("gpu:true").expect("a name")];
        let node = NodeProfile {
            node: Some("NODE_7"),
            zone: Some("default"),
            capabilities: &capabilities,
            roles: [Role::Node].into_iter().collect(),
            origin: Origin::LocalNetwork,
            attestation: None,
            is_signed: false,
        };
        let NodeProfile { roles, origin, attestation, is_signed, .. } = node;
        println!("{RULES} rules, {form}");
        report(
            "decide",
            median(&kinds, |kind| {
                let zone = Some("default");
                let request = Request {
                    operation: Operation::Pull,
                    roles,
                    origin,
                    zone,
                    node_zone: zone,
                    capabilities: &capabilities,
                    kind: Some(kind),
                    node: node.node,
                    attestation,
                    is_signed,
                };
                black_box(policy.decide(&request));
            }),
        );
        report("make a row", median(&kinds[..10], |_| drop(black_box(policy.row(&node)))));
        let mut row: Row = policy.row(&node);
        report(
            "row, not cached",
            median(&kinds, |kind| {
                black_box(row.decide_anew("default", kind));
            }),
        );
        report(
            "row, cached",
            median(&kinds, |kind| {
                black_box(row.decide("default", kind));
            }),
        );
    }
}

fn policy(kinds: &dyn Fn(usize) -> serde_json::Value) -> Policy {
    let deny = |index| json!({"id": format!("d{index}"), "effect": "deny", "operations": ["pull"], "zones": ["default"], "kinds": kinds(index)});
    let mut rules: Vec<_> = (0..RULES - 1).map(deny).collect();
    rules.push(json!({"id": "all", "effect": "allow"}));
    let document = json!({"version": 2, "default": "deny", "rules": rules}).to_string();
    let started = Instant::now();
    let snapshot = Snapshot::parse(document.as_bytes()).expect("it is a valid document");
    report("parse", started.elapsed());
    Policy::compile(&snapshot)
}

/// The median over rounds of the mean over names.
fn median(names: &[String], mut act: impl FnMut(&str)) -> Duration {
    let mut round = || {
        let started = Instant::now();
        names.iter().for_each(|name| act(name));
        started.elapsed() / names.len() as u32
    };
    let mut rounds: Vec<Duration> = (0..ROUNDS).map(|_| round()).collect();
    rounds.sort_unstable();
    rounds[ROUNDS / 2]
}

fn report(what: &str, took: Duration) {
    println!("  {what:<18} {took:>10.1?}");
}
