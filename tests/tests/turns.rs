//! Who comes first: clients that take turns, their weights, and jobs that have waited for long.
#![cfg(unix)]
// The lists in `clippy.toml` are for the core.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use serde_json::{Value, json};
use sheratan_tests::{Hub, Options, until};
use tempfile::TempDir;

fn start(env: &[(&str, &str)]) -> Hub {
    let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Hub::start_in(TempDir::new().unwrap(), Options { args: Vec::new(), env })
}

/// Submits so many jobs of a client.
fn submit(hub: &Hub, client: &str, count: usize) {
    let job = json!({"kind": "k", "params": client, "client": {"node_id": client}});
    let jobs = vec![job; count];
    hub.data().post("/mesh/submit_requests", &json!({"requests": jobs})).ok();
}

/// The params of the next jobs, in their order.
fn pull(hub: &Hub, count: usize) -> Vec<Value> {
    let pulled = hub.data().post("/mesh/pull_requests", &json!({"node_id": "n1", "max": count})).ok();
    pulled["jobs"].as_array().unwrap().iter().map(|job| job["params"].clone()).collect()
}

fn put_weights(hub: &Hub, weights: Value) -> sheratan_tests::Response {
    let body = json!({ "weights": weights });
    hub.data().try_request("PUT", "/mesh/weights", Some(&body)).expect("the hub answers")
}

#[test]
fn a_client_with_much_to_do_does_not_make_another_wait_for_all_of_it() {
    let mut hub = start(&[("SHERATAN_FAIR_BY", "client")]);
    submit(&hub, "large", 500);
    submit(&hub, "small", 2);
    assert_eq!(pull(&hub, 3), ["large", "small", "large"]);
    // The turns are durable.
    hub.kill();
    hub.restart();
    assert_eq!(pull(&hub, 3), ["small", "large", "large"]);
}

#[test]
fn without_turns_the_first_in_is_the_first_out() {
    let hub = start(&[]);
    submit(&hub, "large", 100);
    submit(&hub, "small", 1);
    assert!(pull(&hub, 100).iter().all(|client| client == "large"));
    assert_eq!(pull(&hub, 2), ["small"]);
}

#[test]
fn weights_are_set_in_the_settings_and_at_run_time() {
    let mut hub = start(&[("SHERATAN_FAIR_BY", "client"), ("SHERATAN_FAIR_WEIGHTS", "a=3")]);
    let shown = hub.data().get("/mesh/weights").ok();
    assert_eq!(shown, json!({"ok": true, "fair_by": "client", "version": 1, "weights": {"a": 3}}));
    submit(&hub, "a", 30);
    submit(&hub, "b", 30);
    assert_eq!(pull(&hub, 16).iter().filter(|client| *client == "a").count(), 12);

    let answer = put_weights(&hub, json!({"b": 5})).ok();
    assert_eq!(answer["weights"], json!({"b": 5}));
    until("it is in the audit log", || !hub.audit("ADMIN_WEIGHTS_CHANGED").is_empty());
    for wrong in [json!({"a": 0}), json!({"a": 101}), json!({"a": "3"}), json!({"": 1}), json!([1]), json!(null)] {
        let refused = put_weights(&hub, wrong.clone());
        assert_eq!((refused.status, refused.error().as_str()), (400, "bad_request"), "{wrong}");
    }
    let refused = hub.data().try_request("PUT", "/mesh/weights", Some(&json!({"a": 3}))).unwrap();
    assert_eq!(refused.status, 400, "a member that is not known is refused");
    assert_eq!(hub.data().get("/mesh/weights").ok()["weights"], json!({"b": 5}));
    // The settings hold from the next start on.
    hub.kill();
    hub.restart();
    assert_eq!(hub.data().get("/mesh/weights").ok()["weights"], json!({"a": 3}));
}

#[test]
fn jobs_that_wait_follow_a_change_of_weights_and_are_not_behind_all_that_come_later() {
    let hub = start(&[("SHERATAN_FAIR_BY", "client")]);
    submit(&hub, "a", 300);
    submit(&hub, "b", 300);
    put_weights(&hub, json!({"a": 3})).ok();
    let next = || pull(&hub, 40);
    until("three of four are of the client whose weight is three", || {
        next().iter().filter(|client| *client == "a").count() == 30
    });
    submit(&hub, "c", 20);
    let of_c = next().iter().filter(|client| *client == "c").count();
    assert!((1..=10).contains(&of_c), "{of_c} of 40 turns are of one of the other weight");
}

#[test]
fn a_job_that_has_waited_for_long_comes_before_fresh_ones_of_a_higher_priority() {
    let hub = start(&[("SHERATAN_PRIORITY_AGE_SEC", "1")]);
    hub.submit(json!({"kind": "k", "params": "old", "priority": "low"}));
    let mut fresh = 0;
    until("the old job comes first", || {
        fresh += 1;
        hub.submit(json!({"kind": "k", "params": "fresh", "priority": "high"}));
        pull(&hub, 1) == ["old"]
    });
    assert!(fresh > 1, "a fresh one came before it");
}

#[test]
fn jobs_that_wait_when_turns_begin_follow() {
    let mut hub = start(&[]);
    submit(&hub, "large", 900);
    submit(&hub, "small", 3);
    hub.set_env(vec![("SHERATAN_FAIR_BY".to_owned(), "client".to_owned())]);
    hub.kill();
    hub.restart();
    let mut clients = Vec::new();
    until("one of the small client's comes", || {
        clients.extend(pull(&hub, 1));
        clients.last().is_some_and(|client| client == "small")
    });
    assert!(clients.len() < 900, "{} came before it", clients.len() - 1);
}
