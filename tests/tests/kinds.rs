//! Kinds over HTTP: their rules are read and set, and what each rule does to jobs, at one below its limit, at it and one
//! beyond.
#![cfg(unix)]
// The lists in `clippy.toml` are for the core.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use serde_json::{Value, json};
use sheratan_tests::{Hub, Options, run, until};
use std::fs;
use std::time::{Duration, Instant};
use tempfile::TempDir;

fn put(hub: &Hub, kind: &str, rules: Value) -> Value {
    hub.data().put(&format!("/mesh/kinds/{kind}"), &rules, None).ok()
}

fn kind(hub: &Hub, kind: &str) -> Value {
    hub.data().get(&format!("/mesh/kinds/{kind}")).ok()
}

/// How many jobs a pull gets.
fn pulled(hub: &Hub, node: &str, max: u64) -> usize {
    hub.pull(node, json!({"max": max}))["jobs"].as_array().unwrap().len()
}

fn submit(hub: &Hub, kind: &str, count: usize) {
    let requests = vec![json!({"kind": kind}); count];
    hub.data().post("/mesh/submit_requests", &json!({"requests": requests})).ok();
}

#[test]
fn rules_are_merged_null_removes_one_and_a_version_keeps_two_operators_apart() {
    let hub = Hub::start();
    let mut data = hub.data();
    let path = "/mesh/kinds/k";
    let none = data.get(path);
    assert_eq!(none.header("etag"), Some("\"0\""));
    let none = none.ok();
    assert_eq!([&none["kind"], &none["gate"], &none["rules"]], [&json!("k"), &json!("open"), &json!({})]);
    assert_eq!([&none["version"], &none["paused"], &none["inflight"]], [&json!(0), &json!(false), &json!(0)]);

    let rules = json!({
        "max_inflight": 7, "rate_per_sec": 0.5, "burst": 3, "priority": "high", "lease_sec": 2.5, "ttl_sec": 60,
        "max_attempts": 4, "max_losses": 2, "max_run_sec": 30, "backoff_base_ms": 10, "backoff_cap_ms": 20,
        "on_exhausted": "drop", "max_letters": 9, "on_letters_full": "refuse",
    });
    let set = data.put(path, &rules, None);
    assert_eq!(set.header("etag"), Some("\"1\""));
    assert_eq!(set.ok()["rules"], rules);
    let set = put(&hub, "k", json!({"max_inflight": 8, "ttl_sec": null}));
    let mut merged = rules.clone();
    merged["max_inflight"] = json!(8);
    merged.as_object_mut().unwrap().remove("ttl_sec");
    assert_eq!((&set["rules"], &set["version"]), (&merged, &json!(2)));
    assert_eq!(data.get("/mesh/kinds").ok()["kinds"][0]["rules"], merged);

    let refused = data.put(path, &json!({"burst": 4}), Some("\"1\"")).refused(412, "version_mismatch");
    assert!(refused["detail"].as_str().unwrap().contains("version 2"), "{refused}");
    data.put(path, &json!({"burst": 4}), Some("\"2\"")).ok();
    data.put(path, &json!({"burst": 5}), Some("3")).ok();
    for tag in ["x", "\"\"", "*", "W/\"3\""] {
        data.put(path, &json!({"burst": 6}), Some(tag)).refused(400, "bad_request");
    }
    assert_eq!(kind(&hub, "k")["rules"]["burst"], 5);

    until("the changes are in the audit log", || hub.audit("ADMIN_KIND_CHANGED").len() == 4);
    let details = hub.audit("ADMIN_KIND_CHANGED")[1]["details"].clone();
    let with_pause = |mut rules: Value| {
        rules["paused"] = json!(false);
        rules
    };
    assert_eq!(
        details,
        json!({"kind": "k", "version": 2, "by": "shared_token", "old": with_pause(rules), "new": with_pause(merged)})
    );
}

#[test]
fn rules_that_are_not_understood_change_nothing() {
    let hub = Hub::start();
    let mut data = hub.data();
    for body in [
        json!({}),
        json!([]),
        json!({"max_inflight": -1}),
        json!({"max_inflight": "3"}),
        json!({"rate_per_sec": -0.1}),
        json!({"rate_per_sec": 0.0004}),
        json!({"rate_per_sec": 0.0009}),
        json!({"rate_per_sec": "fast"}),
        json!({"burst": 0}),
        json!({"priority": "urgent"}),
        json!({"lease_sec": 0}),
        json!({"ttl_sec": 0}),
        json!({"max_attempts": 0}),
        json!({"max_losses": 0}),
        json!({"max_run_sec": 0}),
        json!({"backoff_base_ms": 0.5}),
        json!({"on_exhausted": "forget"}),
        json!({"on_letters_full": "drop"}),
        json!({"paused": "yes"}),
        json!({"paused": false, "pause_reason": "why"}),
        json!({"paused_until_utc": "2020-01-01T00:00:00Z"}),
        json!({"paused": true, "paused_until_utc": "soon"}),
        json!({"max_inflght": 3}),
        json!({"max_inflight": 3, "rate": 1}),
    ] {
        data.put("/mesh/kinds/k", &body, None).refused(400, "bad_request");
    }
    assert_eq!(data.get("/mesh/kinds").ok()["kinds"], json!([]));
    for path in ["/mesh/kinds/%20", "/mesh/kinds/%ff", "/mesh/kinds/a%00"] {
        data.put(path, &json!({"burst": 1}), None).refused(400, "bad_request");
    }
    let refused = data.post("/mesh/kinds/k", &json!({"burst": 1}));
    assert_eq!((refused.status, refused.header("allow")), (405, Some("GET, HEAD, PUT")));
    hub.control().get("/mesh/kinds").refused(410, "port_mismatch");
    put(&hub, "a%20b%2Fc", json!({"burst": 1}));
    assert_eq!(data.get("/mesh/kinds").ok()["kinds"][0]["kind"], "a b/c");
}

#[test]
fn a_paused_kind_leases_nothing_on_any_path_and_its_leases_finish() {
    let mut hub = Hub::start();
    let held = hub.leased("worker", json!({"kind": "k"}));
    let other = hub.leased("worker", json!({"kind": "k"}));
    let mut parked = hub.data();
    let poll = json!({"node_id": "parked", "kinds": ["k", "last"], "wait_ms": 30000});
    parked.send_request("POST", "/mesh/pull_requests", Some(&poll)).unwrap();
    until("the poll waits", || hub.metric("sheratan_hub_long_polls", "") == 1.0);
    let set = put(&hub, "k", json!({"paused": true, "pause_reason": "upgrade"}));
    assert_eq!(
        [&set["gate"], &set["paused"], &set["pause_reason"]],
        [&json!("paused"), &json!(true), &json!("upgrade")]
    );
    submit(&hub, "k", 2);
    submit(&hub, "free", 1);
    assert_eq!(hub.lease("worker", "free")["kind"], "free", "no other kind waits for it");
    let extended =
        hub.data().post("/mesh/extend_lease", &json!({"node_id": "worker", "leases": [held["lease_id"]]})).ok();
    assert_eq!(extended["leases"][0]["ok"], true);
    assert_eq!(hub.complete(&held, "worker").ok()["status"], "completed");
    assert_eq!(hub.fail(&other, "worker", "broken", json!({"retry_after_ms": 0})).ok()["status"], "retry_scheduled");

    submit(&hub, "last", 1);
    let jobs = parked.receive().unwrap().ok()["jobs"].clone();
    assert_eq!([&jobs[0]["kind"], &jobs[1]], [&json!("last"), &Value::Null], "a poll from before the pause");

    hub.kill();
    hub.restart();
    assert_eq!(kind(&hub, "k")["pause_reason"], "upgrade", "a pause survives");
    let counts = hub.pull("worker", json!({"kinds": ["k"], "wait_ms": 50}));
    assert_eq!(counts["jobs"], json!([]));
    let mut waits = hub.data();
    waits
        .send_request("POST", "/mesh/pull_requests", Some(&json!({"node_id": "w", "kinds": ["k"], "wait_ms": 30000})))
        .unwrap();
    until("the poll waits", || hub.metric("sheratan_hub_long_polls", "") == 1.0);
    let resumed = put(&hub, "k", json!({"paused": false}));
    assert_eq!([&resumed["gate"], &resumed["paused"]], [&json!("open"), &json!(false)]);
    assert_eq!(waits.receive().unwrap().ok()["jobs"].as_array().unwrap().len(), 1, "it is woken at once");
}

#[test]
fn a_pause_ends_by_itself_and_says_so() {
    let hub = Hub::start();
    submit(&hub, "k", 1);
    let until_utc = hub.job(hub.data().get("/mesh/jobs").ok()["jobs"][0]["job_id"].as_str().unwrap())["submitted_utc"]
        .as_str()
        .unwrap()
        .parse::<jiff::Timestamp>()
        .unwrap()
        + jiff::SignedDuration::from_secs(2);
    let set = put(&hub, "k", json!({"paused": true, "paused_until_utc": until_utc.to_string()}));
    assert_eq!((&set["gate"], &set["opens_utc"]), (&json!("paused"), &set["paused_until_utc"]));
    let pulled = hub.pull("worker", json!({"wait_ms": 20000}));
    assert_eq!(pulled["jobs"].as_array().unwrap().len(), 1);
    until("its end is in the audit log", || !hub.audit("KIND_RESUMED").is_empty());
    assert_eq!(hub.audit("KIND_RESUMED")[0]["details"], json!({"kind": "k"}));
    assert_eq!(kind(&hub, "k")["paused"], false);
}

#[test]
fn a_kinds_and_a_zones_limit_of_leases_hold_at_one_below_at_and_beyond() {
    let hub = Hub::set(&[("MAX_LEASES_PER_ZONE", "5")]);
    put(&hub, "k", json!({"max_inflight": 3}));
    submit(&hub, "k", 5);
    submit(&hub, "x", 9);
    let first: Vec<_> = (0..2).map(|_| hub.lease("a", "k")).collect();
    assert_eq!((&kind(&hub, "k")["gate"], &kind(&hub, "k")["inflight"]), (&json!("open"), &json!(2)));
    hub.lease("b", "k");
    assert_eq!((&kind(&hub, "k")["gate"], &kind(&hub, "k")["inflight"]), (&json!("full"), &json!(3)));
    let beyond = hub.pull("c", json!({"kinds": ["k"]}));
    assert_eq!(beyond["jobs"], json!([]));
    assert!((100..=10_000).contains(&beyond["defer_ms"].as_u64().unwrap()), "{beyond}");
    assert_eq!(hub.pull("c", json!({"kinds": ["k", "other"]}))["defer_ms"], 0, "one of them is open");
    assert_eq!(hub.metric("sheratan_hub_inflight_saturated_total", ""), 2.0);
    until("the audit log has it", || !hub.audit("INFLIGHT_SATURATED").is_empty());
    let details = hub.audit("INFLIGHT_SATURATED")[0]["details"].clone();
    assert_eq!(details, json!({"node_id": "c", "kind": "k", "inflight": 3, "max": 3}));
    hub.complete(&first[0], "a").ok();
    hub.lease("c", "k");
    assert_eq!(kind(&hub, "k")["gate"], "full");

    // In the zone there are three leases of five, of all kinds.
    assert_eq!(pulled(&hub, "a", 9), 2);
    let beyond = hub.pull("b", json!({"max": 9}));
    assert_eq!(beyond["jobs"], json!([]));
    assert!(beyond["defer_ms"].as_u64().unwrap() > 0, "{beyond}");
    assert_eq!(hub.metric("sheratan_hub_inflight_saturated_total", ""), 3.0);
    // Events of ten seconds are one line, with a count.
    until("the audit log has it", || {
        hub.audit("INFLIGHT_SATURATED")
            .iter()
            .any(|line| line["details"]["inflight"] == 5 && line["details"]["max"] == 5)
    });
    // Another zone has its own.
    hub.control().post("/mesh/heartbeat", &json!({"node_id": "far", "zone": "far"})).ok();
    hub.submit(json!({"kind": "x", "zone": "far"}));
    assert_eq!(pulled(&hub, "far", 9), 1);
    // A lower limit revokes nothing, a higher one wakes those that wait.
    put(&hub, "k", json!({"max_inflight": 1}));
    assert_eq!(kind(&hub, "k")["inflight"], 3);
    hub.complete(&first[1], "a").ok();
    let mut waits = hub.data();
    waits
        .send_request("POST", "/mesh/pull_requests", Some(&json!({"node_id": "d", "kinds": ["k"], "wait_ms": 30000})))
        .unwrap();
    until("the poll waits", || hub.metric("sheratan_hub_long_polls", "") == 1.0);
    put(&hub, "k", json!({"max_inflight": null}));
    assert_eq!(waits.receive().unwrap().ok()["jobs"].as_array().unwrap().len(), 1);
}

#[test]
fn a_kinds_rate_limits_leases_and_never_submits() {
    let hub = Hub::start();
    put(&hub, "never", json!({"rate_per_sec": 0}));
    put(&hub, "k", json!({"rate_per_sec": 10}));
    submit(&hub, "never", 20);
    submit(&hub, "k", 20);
    assert_eq!(kind(&hub, "never")["gate"], "rate_limited");
    assert_eq!(kind(&hub, "never")["opens_utc"], Value::Null);
    // The bucket begins empty and holds one: n leases take n tenths of a second at least.
    let start = Instant::now();
    for leases in 1..=8_u32 {
        let pulled = hub.pull("worker", json!({"max": 5, "wait_ms": 20000}));
        assert_eq!(pulled["jobs"].as_array().unwrap().len(), 1, "{pulled}");
        assert_eq!(pulled["jobs"][0]["kind"], "k");
        // The first tenth may have begun before the clock here.
        assert!(start.elapsed() >= Duration::from_millis(100) * (leases - 1), "{leases} in {:?}", start.elapsed());
    }
    assert_eq!(kind(&hub, "k")["inflight"], 8);
    put(&hub, "k", json!({"rate_per_sec": null}));
    assert_eq!(pulled(&hub, "worker", 100), 12);
}

#[test]
fn a_kinds_rules_are_bound_to_its_jobs_when_they_are_submitted() {
    let hub = Hub::start();
    put(&hub, "k", json!({"priority": "critical", "ttl_sec": 3600, "lease_sec": 60, "max_attempts": 2}));
    let plain = hub.job(&hub.submit(json!({"kind": "k"})));
    let seconds = |job: &Value, from: &str, to: &str| {
        let at = |key: &str| job[key].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
        at(to).duration_since(at(from)).as_secs()
    };
    assert_eq!([&plain["priority"], &plain["attempts_max"]], [&json!("critical"), &json!(2)]);
    assert_eq!(seconds(&plain, "submitted_utc", "expires_utc"), 3600);
    let own = json!({"kind": "k", "priority": "low", "ttl_sec": 60, "lease_sec": 30, "max_attempts": 7});
    let own = hub.job(&hub.submit(own));
    assert_eq!([&own["priority"], &own["attempts_max"]], [&json!("low"), &json!(7)]);
    assert_eq!(seconds(&own, "submitted_utc", "expires_utc"), 60);
    put(&hub, "k", json!({"priority": null, "ttl_sec": null, "max_attempts": null}));
    assert_eq!(hub.job(plain["job_id"].as_str().unwrap())["attempts_max"], 2, "what is bound stays");
    hub.lease("worker", "k");
    let leased = hub.job(plain["job_id"].as_str().unwrap());
    let start = leased["attempts"][0].clone();
    let lasts = json!({"start_utc": start["start_utc"], "lease_until_utc": leased["lease_until_utc"]});
    assert_eq!(seconds(&lasts, "start_utc", "lease_until_utc"), 60);
}

#[test]
fn the_list_of_kinds_says_what_is_held_of_each() {
    let hub = Hub::start();
    put(&hub, "ruled", json!({"max_inflight": 1}));
    hub.dead(json!({"kind": "k"}), "broken");
    hub.leased("worker", json!({"kind": "k"}));
    submit(&hub, "k", 2);
    hub.submit(json!({"kind": "k", "delay_ms": 60000}));
    let listed = hub.data().get("/mesh/kinds").ok()["kinds"].clone();
    let names: Vec<_> = listed.as_array().unwrap().iter().map(|kind| kind["kind"].as_str().unwrap()).collect();
    assert_eq!(names, ["k", "ruled"]);
    assert_eq!(listed[0]["jobs"], json!({"scheduled": 1, "queued": 2, "leased": 1, "dead": 1}));
    assert_eq!(listed[1]["jobs"], json!({}));
    assert_eq!(kind(&hub, "k")["jobs"], listed[0]["jobs"]);
}

#[test]
fn the_list_of_kinds_goes_on_where_a_page_ended() {
    let hub = Hub::start();
    let mut data = hub.data();
    for name in ["a", "b%20c", "d"] {
        put(&hub, name, json!({"burst": 2}));
    }
    hub.submit(json!({"kind": "c"}));
    let names = |page: &Value| -> Vec<String> {
        page["kinds"].as_array().unwrap().iter().map(|kind| kind["kind"].as_str().unwrap().to_owned()).collect()
    };
    let first = data.get("/mesh/kinds?limit=2").ok();
    assert_eq!((names(&first), &first["next_cursor"]), (vec!["a".into(), "b c".into()], &json!("c")));
    // One that only a long poll names is not listed, nor need the cursor be the name of a kind.
    let mut waits = hub.data();
    let pull = json!({"node_id": "n", "kinds": ["bb", "e"], "wait_ms": 50000});
    waits.send_request("POST", "/mesh/pull_requests", Some(&pull)).unwrap();
    until("the poll waits", || hub.metric("sheratan_hub_long_polls", "") == 1.0);
    assert_eq!(names(&data.get("/mesh/kinds?limit=1&cursor=ba").ok()), ["c"]);
    assert_eq!(data.get("/mesh/kinds?cursor=e").ok()["kinds"], json!([]));
    let second = data.get("/mesh/kinds?limit=2&cursor=c").ok();
    assert_eq!((names(&second), &second["next_cursor"]), (vec!["c".into(), "d".into()], &Value::Null));
    for query in ["limit=0", "limit=1001", "cursor="] {
        data.get(&format!("/mesh/kinds?{query}")).refused(400, "bad_request");
    }
}

/// A hub on this folder whose file of settings has this text.
fn with_file(folder: TempDir, text: &str) -> Hub {
    let file = folder.path().join("hub.toml");
    fs::write(&file, text).unwrap();
    let args = vec!["--config".to_owned(), file.to_str().unwrap().to_owned()];
    Hub::start_in(folder, Options { args, env: Vec::new() })
}

/// Starts the hub again with this text in its file of settings.
fn restart_with(hub: &mut Hub, text: &str) {
    hub.kill();
    fs::write(hub.folder().join("hub.toml"), text).unwrap();
    hub.restart();
}

#[test]
fn the_file_of_settings_sets_every_rule() {
    let file = "[kinds.k]\nmax_inflight = 7\nrate_per_sec = 0.5\nburst = 3\npriority = \"high\"\nlease_sec = 2.5\n\
        ttl_sec = 60\nmax_attempts = 4\nmax_losses = 2\nmax_run_sec = 30\nbackoff_base_ms = 10\nbackoff_cap_ms = 20\n\
        on_exhausted = \"drop\"\nmax_letters = 9\non_letters_full = \"refuse\"\npaused = true\npause_reason = \"not yet\"\n\
        paused_until_utc = 2999-01-01T00:00:00Z\n\
        [kinds.\"a b\"]\npaused_until_utc = \"2001-01-01T00:00:00Z\"\nburst = 2";
    let hub = with_file(TempDir::new().unwrap(), file);
    let shown = kind(&hub, "k");
    let mut rules = json!({
        "max_inflight": 7, "rate_per_sec": 0.5, "burst": 3, "priority": "high", "lease_sec": 2.5, "ttl_sec": 60,
        "max_attempts": 4, "max_losses": 2, "max_run_sec": 30, "backoff_base_ms": 10, "backoff_cap_ms": 20,
        "on_exhausted": "drop", "max_letters": 9, "on_letters_full": "refuse",
    });
    assert_eq!((&shown["rules"], &shown["gate"], &shown["version"]), (&rules, &json!("paused"), &json!(1)));
    assert_eq!([&shown["pause_reason"], &shown["paused_until_utc"]], ["not yet", "2999-01-01T00:00:00.000Z"]);
    rules["paused"] = json!(true);
    rules["pause_reason"] = json!("not yet");
    rules["paused_until_utc"] = json!("2999-01-01T00:00:00.000Z");
    assert_eq!(shown["configured"], rules);
    let past = kind(&hub, "a%20b");
    assert_eq!([&past["gate"], &past["paused"], &past["rules"]], [&json!("open"), &json!(false), &json!({"burst": 2})]);
    until("the audit log says from where", || hub.audit("ADMIN_KIND_CHANGED").len() == 2);
    assert!(hub.audit("ADMIN_KIND_CHANGED").iter().all(|line| line["details"]["by"] == "config"));

    let file = hub.folder().join("hub.toml");
    let config = run(&["config", "--json", "--config", file.to_str().unwrap()]).document();
    assert_eq!(config["kinds.k.max_inflight"], json!({"value": "7", "source": file.to_str().unwrap()}));
    let table = hub.run(&["kinds", "show", "k"]).stdout;
    assert!(table.contains("in hub.toml") && table.contains("not yet"), "{table}");
}

#[test]
fn what_is_set_since_the_file_was_read_holds_until_the_file_says_otherwise() {
    let file = |inflight: u32| {
        format!(
            "[kinds.k]\nmax_inflight = {inflight}\nrate_per_sec = 2.5\npriority = \"high\"\n[kinds.p]\npaused = true\n"
        )
    };
    let mut hub = with_file(TempDir::new().unwrap(), &file(3));
    let rules = |hub: &Hub| kind(hub, "k")["rules"].clone();
    assert_eq!(kind(&hub, "p")["gate"], "paused");
    // An operator changes one member, sets another and removes a third.
    put(&hub, "k", json!({"max_inflight": 7, "max_attempts": 2, "priority": null, "paused": true}));
    put(&hub, "p", json!({"paused": false}));
    for _ in 0..2 {
        hub.kill();
        hub.restart();
        assert_eq!(rules(&hub), json!({"max_inflight": 7, "rate_per_sec": 2.5, "max_attempts": 2}));
        let k = kind(&hub, "k");
        assert_eq!(k["version"], 2, "a restart changes nothing");
        assert_eq!(k["configured"], json!({"max_inflight": 3, "rate_per_sec": 2.5, "priority": "high"}));
        assert_eq!(kind(&hub, "p")["gate"], "open");
    }
    // The file changes in one member: that one holds, and nothing else is touched.
    restart_with(&mut hub, &file(4));
    assert_eq!(rules(&hub), json!({"max_inflight": 4, "rate_per_sec": 2.5, "max_attempts": 2}));
    assert_eq!([&kind(&hub, "k")["paused"], &kind(&hub, "p")["paused"]], [true, false]);
    // A table that is gone takes back what it had set.
    restart_with(&mut hub, "");
    assert_eq!((rules(&hub), kind(&hub, "k").get("configured")), (json!({"max_attempts": 2}), None));
    let kinds = hub.data().get("/mesh/kinds").ok()["kinds"].clone();
    let names: Vec<_> = kinds.as_array().unwrap().iter().map(|kind| kind["kind"].as_str().unwrap()).collect();
    assert_eq!(names, ["k"]);
}

#[test]
fn a_file_with_rules_that_are_not_understood_starts_no_hub() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("hub.toml");
    for (text, said) in [
        ("[kinds.k]\nmax_inflght = 3", "[kinds.k]: max_inflght: there is no such rule"),
        ("[kinds.k]\nmax_inflight = \"many\"", "[kinds.k]: max_inflight must be"),
        ("[kinds.k]\nrate_per_sec = -0.5", "[kinds.k]: rate_per_sec must be"),
        ("[kinds.k]\nburst = [1]", "[kinds.k]: burst must be"),
        ("[kinds.k]\non_exhausted = \"forget\"", "[kinds.k]: on_exhausted must be"),
        ("[kinds.k]\npaused_until_utc = 2030-01-01", "[kinds.k]: paused_until_utc: expected"),
        ("[kinds.k]\npaused = false\npause_reason = \"r\"", "[kinds.k]: pause_reason and paused_until_utc need"),
        ("[kinds.\" k\"]\nburst = 1\n[kinds.k]\nburst = 2", "[kinds.k]: there is another table of this kind"),
        ("[kinds.\" \"]\nburst = 1", "the kind's name"),
        ("[kinds]\nk = 3", "kinds.k must be a table"),
        ("kinds = 3", "kinds must be a table"),
    ] {
        fs::write(&file, text).unwrap();
        let (file, data) = (file.to_str().unwrap(), folder.path().join("data"));
        let config = run(&["config", "--config", file]);
        for run in [run(&["serve", "--config", file, "--data-dir", data.to_str().unwrap()]), config] {
            assert_eq!(run.code, Some(2), "{text}: {}", run.stderr);
            assert!(run.stderr.contains(said) && run.stderr.contains("hub.toml"), "{text}: {}", run.stderr);
        }
        assert!(!data.exists(), "{text}: nothing is made");
    }
}

#[test]
fn a_version_that_was_read_before_the_rules_were_removed_sets_none() {
    let mut hub = Hub::start();
    let path = "/mesh/kinds/k";
    let set = |hub: &Hub, version: &str| hub.data().put(path, &json!({"burst": 9}), Some(version));
    let never = hub.data().get(path).header("etag").unwrap().to_owned();
    let first = hub.data().put(path, &json!({"burst": 4}), Some(&never)).header("etag").unwrap().to_owned();
    put(&hub, "k", json!({"burst": null}));
    hub.kill();
    hub.restart();
    let removed = hub.data().get(path).header("etag").unwrap().to_owned();
    for version in [&never, &first] {
        set(&hub, version).refused(412, "version_mismatch");
    }
    assert_eq!(kind(&hub, "k")["rules"], json!({}));
    // Set again, the rules have another version than the first ones.
    set(&hub, &removed).ok();
    for version in [&never, &first, &removed] {
        set(&hub, version).refused(412, "version_mismatch");
    }
}
