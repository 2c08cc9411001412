//! Each limit at one below it, at it and one beyond: how it refuses, what the client is told, and what the operator sees.
#![cfg(unix)]
// The lists in `clippy.toml` are for the core.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use serde_json::{Value, json};
use sheratan_tests::client::{failure, result};
use sheratan_tests::{Client, Hub, Options, Response, until};
use tempfile::TempDir;

/// How a limit refuses.
#[derive(Clone, Copy)]
enum Refuses {
    /// With `backpressure` and this reason.
    Backpressure(&'static str),
    /// A pull gets no job, and is told to wait.
    Defers,
    /// With `overloaded` on a connection that closes.
    Overloaded(&'static str),
}

struct Limit {
    setting: &'static str,
    value: u64,
    refuses: Refuses,
    /// Before the first act.
    prepare: fn(&Hub),
    /// The act with this number, from 1. What it returns is kept until all are done.
    act: fn(&Hub, u64) -> (Response, Client),
}

const LIMITS: &[Limit] = &[
    Limit {
        setting: "MAX_QUEUE_DEPTH",
        value: 3,
        refuses: Refuses::Backpressure("queue_depth"),
        prepare: |_| (),
        act: |hub, _| post(hub.data(), "/mesh/submit_request", &json!({"kind": "k"})),
    },
    Limit {
        setting: "MAX_QUEUE_BYTES",
        // Each job is charged its 100,000 bytes and less than a kilobyte.
        value: 303_000,
        refuses: Refuses::Backpressure("queue_bytes"),
        prepare: |_| (),
        act: |hub, _| post(hub.data(), "/mesh/submit_request", &json!({"kind": "k", "params": "x".repeat(99_998)})),
    },
    Limit {
        setting: "IDEMPOTENCY_STORE_MAX_ITEMS",
        value: 3,
        refuses: Refuses::Backpressure("idempotency_store"),
        prepare: |_| (),
        act: |hub, n| {
            post(hub.data(), "/mesh/submit_request", &json!({"kind": "k", "idempotency_key": format!("k{n}")}))
        },
    },
    Limit {
        setting: "MAX_NODES",
        value: 3,
        refuses: Refuses::Backpressure("nodes"),
        prepare: |_| (),
        act: |hub, n| post(hub.control(), "/mesh/heartbeat", &json!({"node_id": format!("n{n}")})),
    },
    Limit {
        setting: "MAX_NODE_BYTES",
        // Each node is charged its 4,096 bytes and less than a kilobyte.
        value: 15_500,
        refuses: Refuses::Backpressure("node_bytes"),
        prepare: |_| (),
        act: |hub, n| {
            let labels = json!({"text": "x".repeat(4_085)});
            post(hub.control(), "/mesh/heartbeat", &json!({"node_id": format!("n{n}"), "labels": labels}))
        },
    },
    Limit {
        setting: "MAX_INFLIGHT",
        value: 3,
        refuses: Refuses::Defers,
        prepare: submit_ten,
        act: |hub, n| post(hub.data(), "/mesh/pull_requests", &json!({"node_id": format!("n{n}")})),
    },
    Limit {
        setting: "MAX_INFLIGHT_BYTES",
        // As the bytes of waiting jobs, with those of a lease.
        value: 303_000,
        refuses: Refuses::Defers,
        prepare: |hub| {
            let large = json!({"kind": "k", "params": "x".repeat(99_998)});
            hub.data().post("/mesh/submit_requests", &json!({"requests": vec![large; 5]})).ok();
        },
        act: |hub, n| post(hub.data(), "/mesh/pull_requests", &json!({"node_id": format!("n{n}")})),
    },
    Limit {
        setting: "MAX_LEASES_PER_NODE",
        value: 3,
        refuses: Refuses::Defers,
        prepare: submit_ten,
        act: |hub, _| post(hub.data(), "/mesh/pull_requests", &json!({"node_id": "n"})),
    },
    Limit {
        setting: "MAX_CONNECTIONS",
        // Of five connections four may be those of clients that submit.
        value: 5,
        refuses: Refuses::Overloaded("connections_of_submits_and_polls"),
        prepare: |_| (),
        act: |hub, _| post(hub.data(), "/mesh/submit_request", &json!({"kind": "k"})),
    },
];

fn post(mut client: Client, path: &str, body: &Value) -> (Response, Client) {
    (client.post(path, body), client)
}

fn submit_ten(hub: &Hub) {
    let ten = json!({"requests": vec![json!({"kind": "k"}); 10]});
    hub.data().post("/mesh/submit_requests", &ten).ok();
}

fn hub_with(setting: &str, value: u64) -> Hub {
    let env = vec![(format!("SHERATAN_{setting}"), value.to_string())];
    Hub::start_in(TempDir::new().unwrap(), Options { args: Vec::new(), env })
}

/// The sum of a metric's series whose labels contain a text.
fn metric(hub: &Hub, name: &str, labels: &str) -> f64 {
    let body = hub.data().ask("GET", "/metrics", &[("Accept", "text/plain")]).body;
    let text = String::from_utf8(body).unwrap();
    let lines = text.lines().filter(|line| line.starts_with(name) && line.contains(labels));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

fn is_accepted(response: &Response) -> bool {
    response.status == 200 && response.json()["defer_ms"].as_u64().unwrap_or(0) == 0
}

/// What is left of an event, in the lines of the audit log.
fn audited(hub: &Hub, event: &str, member: &str, value: &str) -> bool {
    hub.audit(event).iter().any(|line| member.is_empty() || line["details"][member] == value)
}

#[test]
fn each_limit_takes_what_it_says_and_refuses_one_more_with_a_time_to_come_back_a_metric_and_an_event() {
    for Limit { setting, value, refuses, prepare, act } in LIMITS {
        let hub = hub_with(setting, *value);
        prepare(&hub);
        let room = match (refuses, *value) {
            (Refuses::Overloaded(_), value) => value - value / 5,
            (_, value) if value > 1_000 => 3,
            (_, value) => value,
        };
        let mut kept = Vec::new();
        for n in 1..=room {
            let (response, client) = act(&hub, n);
            assert!(is_accepted(&response), "{setting}: {n} of {room}: {response:?}");
            kept.push(client);
        }
        let (refused, _client) = act(&hub, room + 1);
        assert!(!is_accepted(&refused), "{setting}: {refused:?}");
        let retry_after = refused.header("retry-after").and_then(|value| value.parse::<u64>().ok());
        match refuses {
            Refuses::Backpressure(reason) => {
                let body = refused.json();
                assert_eq!((refused.status, refused.error().as_str()), (429, "backpressure"), "{setting}");
                assert_eq!(body["reason"], *reason, "{setting}");
                assert!(body["queue_depth"].is_u64() && body["max"].is_u64(), "{setting}: {body}");
                assert!(retry_after.is_some_and(|secs| (1..=300).contains(&secs)), "{setting}: {retry_after:?}");
                drop(kept);
                let labels = format!("reason=\"{reason}\"");
                assert_eq!(metric(&hub, "sheratan_hub_backpressure_drops_total", &labels), 1.0, "{setting}");
                until("the event is in the audit log", || audited(&hub, "BACKPRESSURE_DROP", "reason", reason));
            }
            Refuses::Defers => {
                let defer_ms = refused.json()["defer_ms"].as_u64();
                assert!(defer_ms.is_some_and(|ms| (100..=10_000).contains(&ms)), "{setting}: {defer_ms:?}");
                assert_eq!((refused.status, &refused.json()["jobs"]), (200, &json!([])), "{setting}");
                drop(kept);
                assert_eq!(metric(&hub, "sheratan_hub_inflight_saturated_total", ""), 1.0, "{setting}");
                until("the event is in the audit log", || audited(&hub, "INFLIGHT_SATURATED", "", ""));
            }
            Refuses::Overloaded(what) => {
                assert_eq!((refused.status, refused.error().as_str()), (503, "overloaded"), "{setting}");
                assert_eq!((retry_after, refused.header("connection")), (Some(1), Some("close")), "{setting}");
                drop(kept);
                let labels = format!("what=\"{what}\"");
                assert_eq!(metric(&hub, "sheratan_hub_overloaded_total", &labels), 1.0, "{setting}");
                until("the event is in the audit log", || audited(&hub, "OVERLOADED", "what", what));
            }
        }
    }
}

#[test]
fn a_zone_takes_a_thousand_and_twenty_four_sets_of_requirements() {
    let hub = Hub::start();
    let batch = |from: usize, to: usize| {
        let requests: Vec<_> = (from..to).map(|n| json!({"kind": "k", "requires": [format!("c{n}")]})).collect();
        let results =
            hub.data().post("/mesh/submit_requests", &json!({ "requests": requests })).ok()["results"].clone();
        results.as_array().unwrap().clone()
    };
    let mut answers = batch(0, 1_000);
    answers.extend(batch(1_000, 1_026));
    let accepted = answers.iter().take_while(|answer| answer["status_code"] == 200).count();
    assert_eq!((accepted, answers.len()), (1_024, 1_026));
    for refused in &answers[1_024..] {
        assert_eq!((&refused["status_code"], &refused["reason"]), (&json!(429), &json!("classes")));
        assert!(refused["retry_after_ms"].as_u64().is_some_and(|ms| (1_000..=300_000).contains(&ms)), "{refused}");
    }
}

#[test]
fn what_finishes_work_is_never_refused_for_a_full_queue() {
    let hub = hub_with("MAX_QUEUE_DEPTH", 2);
    let mut data = hub.data();
    let submit = |data: &mut Client| data.post("/mesh/submit_request", &json!({"kind": "k"})).status;
    assert_eq!([submit(&mut data), submit(&mut data)], [200, 200]);
    let jobs = data.post("/mesh/pull_requests", &json!({"node_id": "n", "max": 2})).ok()["jobs"].clone();
    assert_eq!([submit(&mut data), submit(&mut data), submit(&mut data)], [200, 200, 429]);
    let lease = json!({"node_id": "n", "leases": [jobs[0]["lease_id"]]});
    assert_eq!(data.post("/mesh/extend_lease", &lease).status, 200);
    assert_eq!(hub.control().post("/mesh/heartbeat", &json!({"node_id": "n"})).status, 200);
    assert_eq!(data.post("/mesh/submit_result", &result(&jobs[0], "n", &json!(1))).status, 200);
    // A retry joins a queue that is full already.
    let failed = data.post("/mesh/submit_result", &failure(&jobs[1], "n", &json!("no"))).ok();
    assert_eq!(failed["status"], "retry_scheduled");
    assert_eq!(submit(&mut data), 429);
}

#[test]
fn a_repeat_is_answered_by_a_full_queue_and_a_refused_submit_binds_no_key() {
    let hub = hub_with("MAX_QUEUE_DEPTH", 1);
    let mut data = hub.data();
    let mut submit = |body: Value| data.post("/mesh/submit_request", &body);
    let first = submit(json!({"kind": "k", "params": 1, "idempotency_key": "a"})).ok();
    let repeat = submit(json!({"kind": "k", "params": 1, "idempotency_key": "a"})).ok();
    assert_eq!((&repeat["dedup"], &repeat["job_id"]), (&json!(true), &first["job_id"]));
    assert_eq!(submit(json!({"kind": "k", "params": 1, "idempotency_key": "b"})).status, 429);
    let newer = json!({"kind": "k", "params": 2, "idempotency_key": "a", "on_duplicate": "latest_wins"});
    assert_eq!(submit(newer).ok()["supersedes"], first["job_id"]);
    hub.data().post("/mesh/pull_requests", &json!({"node_id": "n"})).ok();
    let other = submit(json!({"kind": "k", "params": "another", "idempotency_key": "b"})).ok();
    assert_eq!(other["dedup"], json!(false), "the refused submit bound nothing");
}

#[test]
fn a_job_that_can_never_fit_is_too_large() {
    for setting in ["MAX_QUEUE_BYTES", "MAX_INFLIGHT_BYTES"] {
        let hub = hub_with(setting, 100_000);
        let refused = hub.data().post("/mesh/submit_request", &json!({"kind": "k", "params": "x".repeat(100_000)}));
        assert_eq!((refused.status, refused.error().as_str()), (413, "payload_too_large"), "{setting}");
        assert!(refused.json()["detail"].as_str().unwrap().contains(&setting.to_lowercase()), "{refused:?}");
        assert_eq!(refused.header("retry-after"), None);
    }
}
