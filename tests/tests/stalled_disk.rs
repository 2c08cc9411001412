//! A disk whose syncs neither return nor fail: changes wait for it in bounded memory until the hub knows that it hangs,
//! and reads of health and metrics are answered.
//!
//! So it is with the logs: nothing that is only reported keeps liveness and metrics from being answered.
#![cfg(target_os = "linux")]
// The lists in `clippy.toml` are for the core.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use serde_json::{Value, json};
use sheratan_tests::stall::{Call, Stall};
use sheratan_tests::{Client, Hub, Options, Response, until};
use tempfile::TempDir;

/// Bytes that wait for the journal before the loop accepts no more changes.
const BATCH_BYTES_MAX: u64 = 8 << 20;

/// Bytes of a job's params: nine jobs have more than that.
const PARAMS_BYTES: usize = 1_000_000;

/// The sample of that name in the data plane's text.
fn sample(hub: &Hub, name: &str) -> u64 {
    let text = Client::new(hub.data, None).ask("GET", "/metrics", &[("Accept", "text/plain")]);
    let text = String::from_utf8(text.body).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')).unwrap();
    line.parse().unwrap()
}

fn submit(client: &mut Client, params: &Value) {
    client.send_request("POST", "/mesh/submit_request", Some(&json!({"kind": "k", "params": params}))).unwrap();
}

#[test]
fn reads_are_answered_while_the_disk_is_stalled() {
    let Some(stall) = Stall::build() else { return };
    let args = vec!["--max-body-bytes".into(), "2MiB".into()];
    let hub = Hub::start_in(TempDir::new().unwrap(), Options { args, env: stall.env() });
    hub.data().post("/mesh/submit_request", &json!({"kind": "k"})).ok();

    stall.begin(Call::Sync);
    let mut waiting = vec![hub.data()];
    submit(&mut waiting[0], &json!(1));
    until("a record waits for the disk", || sample(&hub, "sheratan_hub_journal_pending_records") == 1);
    let params = json!("x".repeat(PARAMS_BYTES));
    for _ in 0..20 {
        let mut client = hub.data();
        submit(&mut client, &params);
        waiting.push(client);
    }
    until("the journal is behind", || sample(&hub, "sheratan_hub_queue_bytes") > BATCH_BYTES_MAX);
    // All requests have arrived; as many as fit were accepted, and the rest wait.
    for _ in 0..20 {
        assert!(sample(&hub, "sheratan_hub_queue_bytes") < BATCH_BYTES_MAX + 2 * PARAMS_BYTES as u64);
        for plane in [hub.control, hub.data] {
            for path in ["/metrics", "/health", "/livez"] {
                assert_eq!(Client::new(plane, None).get(path).status, 200, "{path}");
            }
        }
    }
    until("the hub says that the disk hangs", || Client::new(hub.control, None).get("/readyz").status == 503);
    let ready = Client::new(hub.control, None).get("/readyz");
    assert!(ready.json()["detail"].as_str().unwrap().contains("has not answered since 20"), "{}", ready.json());

    stall.end(Call::Sync);
    let replies: Vec<_> = waiting.iter_mut().map(|client| client.receive().unwrap()).collect();
    let accepted = replies.iter().filter(|reply| reply.status == 200).count();
    // What fitted was applied and is acknowledged now; the rest was refused when the disk was known to hang.
    assert!((9..=12).contains(&accepted), "{accepted} were accepted");
    for reply in replies.iter().filter(|reply| reply.status != 200) {
        assert_eq!((reply.status, reply.json()["applied"].as_str()), (503, Some("no")));
    }
    until("the hub is ready again", || Client::new(hub.control, None).get("/readyz").status == 200);
    assert_eq!(sample(&hub, "sheratan_hub_journal_pending_records"), 0);
    let depth = Client::new(hub.data, None).get("/api/metrics").ok()["queue_depth"].as_u64();
    assert_eq!(depth, Some(accepted as u64 + 1));
}

#[test]
fn a_fast_disk_that_hangs_does_not_take_the_loop_with_it() {
    let Some(stall) = Stall::build() else { return };
    let mut hub = Hub::start_in(TempDir::new().unwrap(), Options { args: Vec::new(), env: stall.env_of_fast_disk() });
    let in_loop = |hub: &Hub| sample(hub, "sheratan_hub_journal_commits_in_loop_total");
    for round in 1..=3 {
        let before = in_loop(&hub);
        until("the loop's thread writes the journal", || {
            submit_anything(&hub).ok();
            in_loop(&hub) > before
        });
        stall.begin(Call::Sync);
        let mut waiting = hub.data();
        submit(&mut waiting, &json!(round));
        until("the other thread has the loop", || sample(&hub, "sheratan_hub_loop_takeovers_total") >= round);
        // This waits for the disk as well, and so do reads of what it changes.
        let mut second = hub.data();
        submit(&mut second, &json!(round));
        for plane in [hub.control, hub.data] {
            for path in ["/metrics", "/health", "/livez"] {
                assert_eq!(Client::new(plane, None).get(path).status, 200, "{path}");
            }
        }
        if round == 1 {
            until("the hub says what hangs", || Client::new(hub.control, None).get("/readyz").status == 503);
        }
        stall.end(Call::Sync);
        assert_eq!(waiting.receive().unwrap().status, 200);
        let answer = second.receive().unwrap();
        assert!(answer.status == 200 || answer.json()["applied"] == "no", "{}", answer.json());
    }
    let depth = |hub: &Hub| Client::new(hub.data, None).get("/api/metrics").ok()["queue_depth"].as_u64();
    let before = depth(&hub);
    assert_eq!(hub.stop().code(), Some(0));
    hub.restart();
    assert_eq!(depth(&hub), before);
}

/// A hub with the library, whose records of the start are on the disk.
fn hub(stall: &Stall) -> Hub {
    let hub = Hub::start_in(TempDir::new().unwrap(), Options { args: Vec::new(), env: stall.env() });
    until("the start is on the disk", || sample(&hub, "sheratan_hub_journal_pending_records") == 0);
    hub
}

/// The names of what `/health` says does not answer.
fn stalled(hub: &Hub) -> Vec<String> {
    let health = Client::new(hub.control, None).get("/health").ok();
    let stalled = health["stalled"].as_array().into_iter().flatten();
    stalled.map(|stalled| stalled["what"].as_str().unwrap().to_owned()).collect()
}

fn submit_anything(hub: &Hub) -> Response {
    hub.data().post("/mesh/submit_request", &json!({"kind": "k"}))
}

/// Repeats a job's key with other params, each time an event, until events are refused; returns how many there were.
fn fill_audit_log(hub: &Hub) -> u64 {
    const AT_ONCE: u64 = 1_000;
    let mut client = hub.data();
    let entry = |params: u64| json!({"kind": "k", "params": params, "idempotency_key": "key"});
    client.post("/mesh/submit_request", &entry(0)).ok();
    let entries: Vec<_> = (1..=AT_ONCE).map(entry).collect();
    let mut events = 0;
    while Client::new(hub.data, None).get("/readyz").json()["error"] != "overloaded" {
        let answers = client.post("/mesh/submit_requests", &json!({"requests": entries})).ok();
        events +=
            answers["results"].as_array().unwrap().iter().filter(|answer| answer["status_code"] == 409).count() as u64;
        assert!(events < 100_000, "the audit log never fills");
    }
    events
}

#[test]
fn a_full_audit_log_refuses_only_what_would_add_to_it() {
    let Some(stall) = Stall::build() else { return };
    let hub = hub(&stall);
    stall.begin(Call::Audit);
    let events = fill_audit_log(&hub);
    for plane in [hub.control, hub.data] {
        for path in ["/livez", "/health", "/metrics"] {
            assert_eq!(Client::new(plane, None).get(path).status, 200, "{path}");
        }
        assert_eq!(Client::new(plane, None).get("/readyz").error(), "overloaded");
    }
    submit_anything(&hub).ok();
    assert_eq!(hub.data().get("/mesh/jobs").status, 200);
    let refused = Client::new(hub.data, Some("not the token".into())).get("/mesh/jobs");
    assert_eq!(refused.error(), "overloaded", "a refusal that is not in the audit log is not given");
    assert_eq!(Client::new(hub.data, None).get("/api/registry").error(), "overloaded");
    until("the hub says what hangs", || stalled(&hub) == ["audit_log"]);

    stall.end(Call::Audit);
    until("the hub is ready again", || Client::new(hub.control, None).get("/readyz").status == 200);
    until("all events are written", || {
        let count = |line: &Value| line["details"]["count"].as_u64().unwrap_or(1);
        hub.audit("IDEMPOTENCY_KEY_COLLISION").iter().map(count).sum::<u64>() == events
    });
    assert_eq!(hub.run(&["audit", "verify"]).code, Some(0));
    until("the end of the stall is an event", || !hub.audit("WRITE_RESUMED").is_empty());
}

#[test]
fn a_log_that_hangs_is_reported_and_keeps_nobody_waiting() {
    let Some(stall) = Stall::build() else { return };
    let hub = hub(&stall);
    for (call, what) in [(Call::Log, "log"), (Call::Stderr, "stderr")] {
        stall.begin(call);
        until("the hub says what hangs", || {
            // A hub that stops a stream, or fails to read a body, has a line to write; so does each reload.
            hub.reload();
            submit_anything(&hub).ok();
            stalled(&hub) == [what]
        });
        assert!(age(&hub, what) >= 5.0);
        stall.end(call);
        until("it is no longer reported", || stalled(&hub).is_empty());
    }
}

/// How long the write under way to a log has taken.
fn age(hub: &Hub, what: &str) -> f64 {
    let text = Client::new(hub.data, None).ask("GET", "/metrics", &[("Accept", "text/plain")]);
    let text = String::from_utf8(text.body).unwrap();
    let name = format!("sheratan_hub_write_age_seconds{{of=\"{what}\"}} ");
    text.lines().find_map(|line| line.strip_prefix(&*name)).unwrap().parse().unwrap()
}

#[test]
fn a_second_signal_ends_a_hub_whose_disk_hangs() {
    let Some(stall) = Stall::build() else { return };
    let mut hub = hub(&stall);
    stall.begin(Call::Sync);
    let mut client = hub.data();
    submit(&mut client, &json!(1));
    until("a record waits for the disk", || sample(&hub, "sheratan_hub_journal_pending_records") == 1);
    hub.terminate();
    // The first signal closes the listeners.
    until("the hub stops", || std::net::TcpStream::connect(hub.control).is_err());
    assert_eq!(hub.stop().code(), Some(1));
}

#[test]
fn one_signal_ends_a_hub_whose_disk_hangs_after_a_while() {
    let Some(stall) = Stall::build() else { return };
    for call in [Call::Sync, Call::Audit, Call::Log, Call::Stderr] {
        let mut hub = hub(&stall);
        stall.begin(call);
        let mut client = hub.data();
        submit(&mut client, &json!(1));
        assert_eq!(Client::new(hub.data, None).get("/api/registry").status, 410);
        if call == Call::Sync {
            until("a record waits for the disk", || sample(&hub, "sheratan_hub_journal_pending_records") == 1);
        } else {
            assert_eq!(client.receive().unwrap().status, 200);
        }
        let code = hub.stop().code();
        assert_eq!(code, Some(i32::from(call == Call::Sync)), "{call:?}: what is not durable is said");
        stall.end(call);
    }
}
