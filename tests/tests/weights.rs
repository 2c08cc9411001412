//! `sheratan-hub weights`: operators show and set how many turns clients or kinds have.
#![cfg(unix)]
// The lists in `clippy.toml` are for the core.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use serde_json::{Value, json};
use sheratan_tests::{Hub, run};

fn weights(hub: &Hub) -> Value {
    hub.data().get("/mesh/weights").ok()["weights"].clone()
}

#[test]
fn weights_are_set_one_by_one_and_all_at_once_and_say_what_changed() {
    let mut hub = Hub::set(&[("FAIR_BY", "client")]);
    let shown = hub.run(&["weights", "show"]);
    assert_eq!((shown.code, shown.stdout.as_str()), (Some(0), ""), "{}", shown.stderr);
    assert!(shown.stderr.contains("version 0"), "{}", shown.stderr);
    assert!(shown.stderr.contains("all have 1") && shown.stderr.contains("take turns by client"), "{}", shown.stderr);

    let set = |args: &[&str]| hub.run(&[&["weights", "set"], args].concat());
    let run = set(&["web=5", " a=b =100"]);
    assert_eq!((run.code, run.stdout.as_str()), (Some(0), "a=b  default → 100\nweb  default → 5\n"), "{}", run.stderr);
    assert_eq!(set(&["web=3"]).stdout, "web  5 → 3\n");
    assert_eq!(weights(&hub), json!({"web": 3, "a=b": 100}), "what is not named stays");
    assert_eq!(set(&["a=b=default", "c=1"]).stdout, "a=b  100 → default\nc  default → 1\n");
    let table = hub.run(&["weights", "show"]).stdout;
    let rows: Vec<Vec<_>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows, [["NAME", "WEIGHT"], ["c", "1"], ["web", "3"]]);
    let document = hub.run(&["weights", "show", "--json"]).document();
    assert_eq!(document, hub.data().get("/mesh/weights").ok());

    assert_eq!(set(&["--replace", "batch=2", "--json"]).document()["weights"], json!({"batch": 2}));
    assert_eq!(set(&["--replace"]).stdout, "batch  2 → default\n");
    assert_eq!(set(&["web=9"]).code, Some(0));
    hub.kill();
    hub.restart();
    assert_eq!(weights(&hub), json!({"web": 9}), "they are in the journal");
}

#[test]
fn weights_that_are_not_understood_are_refused_and_those_without_effect_say_so() {
    let hub = Hub::start();
    for (args, said) in [
        (&[][..], "NAME=WEIGHT"),
        (&["web"], "NAME=WEIGHT"),
        (&["web=0"], "from 1 to 100"),
        (&["web=101"], "from 1 to 100"),
        (&["web=1.5"], "from 1 to 100"),
        (&["=2"], "a name is empty"),
        (&["a=2", " a=3"], "a is named twice"),
    ] {
        hub.run(&[&["weights", "set"], args].concat()).is_refused(2, said);
    }
    assert_eq!(weights(&hub), json!({}));
    let set = hub.run(&["weights", "set", "web=2"]);
    assert!(set.stderr.contains("no jobs take turns: fair_by is none"), "{}", set.stderr);
    for args in [&["weights", "--help"][..], &["weights", "set", "--help"]] {
        assert!(run(args).stdout.contains("sheratan-hub weights set batch=1 web=5"), "{args:?}");
    }
}

#[test]
fn weights_that_others_set_meanwhile_are_not_undone() {
    let mut hub = Hub::start();
    let path = "/mesh/weights";
    let put = |hub: &Hub, weights: Value, tag: &str| hub.data().put(path, &json!({ "weights": weights }), Some(tag));
    let never = hub.data().get(path).header("etag").unwrap().to_owned();
    let first = put(&hub, json!({"a": 2}), &never);
    assert_eq!((first.status, &first.json()["version"], first.header("etag")), (200, &json!(1), Some("\"1\"")));
    let refused = put(&hub, json!({"a": 3}), &never).refused(412, "version_mismatch");
    assert!(refused["detail"].as_str().unwrap().contains("the weights have version 1"), "{refused}");
    for tag in ["x", "\"\"", "*", "W/\"1\"", "\"1\", \"2\"", "+1"] {
        put(&hub, json!({"a": 3}), tag).refused(400, "bad_request");
    }
    assert_eq!(weights(&hub), json!({"a": 2}), "a refused change sets nothing");
    assert_eq!(put(&hub, json!({}), "1").ok()["version"], 2);
    hub.kill();
    hub.restart();
    let shown = hub.data().get(path);
    assert_eq!((shown.header("etag"), &shown.json()["version"]), (Some("\"2\""), &json!(2)), "no version comes twice");
    for stale in ["0", "1"] {
        put(&hub, json!({"a": 2}), stale).refused(412, "version_mismatch");
    }

    let set = |args: &[&str]| hub.run(&[&["weights", "set"], args].concat());
    set(&["web=3", "--if-version", "1"]).is_refused(1, "412 version_mismatch");
    set(&["--replace", "web=3", "--if-version", "3"]).is_refused(1, "412 version_mismatch");
    assert_eq!(set(&["web=3", "--if-version", "2", "--json"]).document()["version"], 3);
    assert_eq!(set(&["web=4"]).code, Some(0));
    assert_eq!(weights(&hub), json!({"web": 4}));
}
