//! The metrics of both planes, as scripts, Prometheus and operators read them.
// The lists in `clippy.toml` are for the core.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]
// One object has all keys of the data plane.
#![recursion_limit = "256"]

use serde_json::{Value, json};
use sheratan_tests::client::{failure, result};
use sheratan_tests::prometheus::Prometheus;
use sheratan_tests::tools::{own_address, skipped, tool};
use sheratan_tests::{Client, Hub, Options, until};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use tempfile::TempDir;

const TEXT: &str = "text/plain";
const OPEN_METRICS: &str = "application/openmetrics-text";
const FORMS: [&str; 3] = ["application/json", TEXT, OPEN_METRICS];

/// Asks without a token, as a Prometheus on this machine does.
fn scrape(plane: SocketAddr, accept: &str) -> String {
    let reply = Client::new(plane, None).ask("GET", "/metrics", &[("Accept", accept)]);
    assert_eq!(reply.status, 200, "{reply:?}");
    String::from_utf8(reply.body).unwrap()
}

/// The samples of a text form: name with labels, and value.
fn samples(text: &str) -> BTreeMap<String, f64> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| line.rsplit_once(' ').unwrap())
        .map(|(name, value)| (name.into(), value.parse().unwrap()))
        .collect()
}

/// One sample of a plane.
fn sample(plane: SocketAddr, name: &str) -> f64 {
    *samples(&scrape(plane, TEXT)).get(name).unwrap_or_else(|| panic!("{name} is served"))
}

fn metrics_json(plane: SocketAddr) -> Value {
    let mut metrics = Client::new(plane, None).get("/api/metrics").ok();
    let ts = metrics.as_object_mut().unwrap().remove("ts").expect("when they were counted");
    assert!(ts.as_str().unwrap().ends_with('Z'), "{ts}");
    metrics
}

/// Removes a distribution, after a check of it.
fn take_quantiles(of: &mut Value, key: &str) {
    let taken = of.as_object_mut().unwrap().remove(key).unwrap_or_else(|| panic!("{key}"));
    let values: Vec<_> =
        ["p50", "p90", "p99", "max"].iter().map(|quantile| taken[quantile].as_f64().unwrap()).collect();
    assert!(values.is_sorted() && values[0] >= 0.0 && values[3] < 60_000.0, "{key}: {taken}");
    assert_eq!(taken.as_object().unwrap().len(), 4, "{key}: {taken}");
}

fn submit(data: &mut Client, body: &Value) -> u16 {
    data.post("/mesh/submit_request", body).status
}

/// A hub after some of everything: two jobs, one completed and one to be retried, repeats, refusals, foreign clients.
fn busy_hub() -> Hub {
    let backoff = ["--retry-backoff-base-ms", "50000", "--retry-backoff-cap-ms", "50000"];
    let hub = Hub::start_with(&backoff);
    let (mut data, mut control) = (hub.data(), hub.control());
    control.post("/mesh/heartbeat", &json!({"node_id": "n"})).ok();
    data.put("/mesh/kinds/r", &json!({"max_inflight": 5}), None).ok();
    let keyed = json!({"kind": "a", "params": {"n": 1}, "idempotency_key": "k"});
    assert_eq!(submit(&mut data, &keyed), 200);
    assert_eq!(submit(&mut data, &keyed), 200);
    assert_eq!(submit(&mut data, &json!({"kind": "a", "params": {"n": 2}, "idempotency_key": "k"})), 409);
    assert_eq!(submit(&mut data, &json!({"kind": "b", "params": "12345"})), 200);
    let jobs = data.post("/mesh/pull_requests", &json!({"node_id": "n", "max": 5})).ok();
    let (a, b) = (&jobs["jobs"][0], &jobs["jobs"][1]);
    let mut wrong = result(a, "n", &json!(1));
    wrong["result"] = json!(2);
    let mut bare = result(a, "n", &json!(1));
    bare.as_object_mut().unwrap().remove("integrity");
    let results = [(wrong, 403), (bare, 403), (result(a, "n", &json!(1)), 200), (failure(b, "n", &json!("no")), 200)];
    for (body, status) in results {
        assert_eq!(data.post("/mesh/submit_result", &body).status, status);
    }
    assert_eq!(submit(&mut data, &keyed), 200);
    for (plane, token, path, status) in [
        (hub.data, None, "/mesh/jobs", 403),
        (hub.control, None, "/api/registry", 403),
        (hub.data, Some("not the token"), "/mesh/jobs", 403),
        (hub.data, None, "/api/registry", 410),
        (hub.control, Some("not the token"), "/mesh/jobs", 410),
    ] {
        assert_eq!(Client::new(plane, token.map(str::to_owned)).get(path).status, status, "{path}");
    }
    hub
}

#[test]
fn the_json_has_the_keys_of_the_contract_and_counts_what_happened() {
    let hub = busy_hub();
    let control = json!({
        "ok": true, "plane": "control", "nodes_online": 1, "nodes_stale": 0, "nodes_dead": 0, "nodes_drained": 0,
        "auth_fail_rate_1m": 3, "auth_failure": {"old_token_1m": 0, "invalid_1m": 1, "missing_1m": 2},
        "auth_success_active_1m": 12, "auth_success_next_1m": 0, "auth_fail_old_token_1m": 0,
        "token_rotation_open": false, "port_mismatch_rate_1m": 2,
        "node_counts": {"GREEN": 1, "YELLOW": 0, "RED": 0, "STALE": 0, "DEAD": 0},
        "security": {"auth_fail_1m": 3, "port_mismatch_1m": 2},
        "attestation_ok": 0, "attestation_missing": 1, "attestation_drift": 0, "attestation_spoof_suspect": 0,
        "identity_valid": 0, "identity_key_mismatch": 0, "identity_invalid_signature": 0,
        "identity_missing_signature": 0, "identity_missing_identity": 0, "identity_unpinned": 1,
        "attestation_drift_1m": 0, "attestation_spoof_1m": 0, "policy_version": 1, "policy_warn_active": 0, "policy_quarantine_active": 0,
        "policy_warn_1m": 0, "policy_quarantine_1m": 0,
    });
    assert_eq!(metrics_json(hub.control), control);
    let mut data = metrics_json(hub.data);
    ["queue_wait_ms", "run_ms", "journal_commit_ms"].iter().for_each(|key| take_quantiles(&mut data, key));
    let queue_bytes = data.as_object_mut().unwrap().remove("queue_bytes").and_then(|bytes| bytes.as_u64());
    assert!(queue_bytes.is_some_and(|bytes| (100..1_000).contains(&bytes)), "a job with its record: {queue_bytes:?}");
    let expected = json!({
        "ok": true, "plane": "data", "queue_depth": 1, "scheduled": 1, "inflight": 0, "inflight_jobs": 0, "inflight_bytes": 0,
        "queue": {"depth": 1, "results_pending": 0},
        "backpressure_active": false, "queue_drop_1m": 0, "drops_1m": 0, "inflight_saturated_1m": 0,
        "submitted_1m": 2, "completed_1m": 1, "failed_1m": 0,
        "retry_scheduled_1m": 1, "retry_rate_1m": 0.5, "reaped_leases_1m": 0,
        "lost_leases_1m": 0, "returned_leases_1m": 0, "retries_postponed": 0, "cancelled_1m": 0,
        "dlq_size": 0, "dlq_bytes": 0, "dlq_added_1m": 0, "dlq_requeued_1m": 0, "dlq_discarded_1m": 0, "dlq_evicted_1m": 0,
        "orphans": 0, "orphaned_1m": 0,
        "idempotent_hits_1m": 2, "idempotent_in_progress_1m": 1, "idempotent_completed_1m": 1,
        "idempotent_collisions_1m": 1, "idempotency_store_size": 1,
        "integrity_fail_1m": 1, "integrity_missing_1m": 1, "integrity_verified_1m": 2,
        "result_corrupt_1m": 0, "result_signed_new_key_1m": 0, "result_signed_old_key_1m": 0,
        "integrity": {"fail_1m": 1, "missing_1m": 1, "verified_1m": 2},
    });
    assert_eq!(data, expected);
    assert_eq!(data, {
        let mut short = hub.data().get("/metrics").ok();
        ["queue_wait_ms", "run_ms", "journal_commit_ms"].iter().for_each(|key| take_quantiles(&mut short, key));
        ["queue_bytes", "ts"].iter().for_each(|key| _ = short.as_object_mut().unwrap().remove(*key));
        short
    });
}

#[test]
fn what_is_held_back_is_counted() {
    let hub = Hub::set(&[
        ("DLQ_MAX_ITEMS", "2"),
        ("RETRY_BUDGET_PERCENT", "0"),
        ("RETRY_BUDGET_MIN_PER_SEC", "1"),
        ("RETRY_BACKOFF_BASE_MS", "1"),
        ("RETRY_BACKOFF_CAP_MS", "1"),
    ]);
    let (mut data, mut control) = (hub.data(), hub.control());
    let metric = |name: &str, labels: &str| hub.metric(&format!("sheratan_hub_{name}"), labels);
    // Four letters of two: two are evicted, one is requeued, one is discarded.
    let dead: Vec<_> = (0..4).map(|_| hub.dead(json!({"kind": "k"}), "broken")).collect();
    assert_eq!([metric("dead_letters", ""), metric("dead_letters_max", "")], [2.0, 2.0]);
    assert_eq!(metric("dead_letters_bytes", ""), metric("account_bytes", "dead"));
    assert!(metric("dead_letters_bytes", "") > 500.0);
    data.post(&format!("/mesh/dlq/{}/requeue", dead[2]), &json!({})).ok();
    data.delete(&format!("/mesh/dlq/{}", dead[3])).ok();
    // Another is discarded by an act, one is completed after all.
    hub.complete(&hub.lease("n", "k"), "n").ok();
    hub.dead(json!({"kind": "k"}), "broken");
    data.post("/mesh/dlq/discard", &json!({"all": true})).ok();
    until("the act has ended", || metric("dead_letter_acts", "") == 0.0 && metric("dead_letters", "") == 0.0);
    let late = hub.dead(json!({"kind": "k"}), "broken");
    let mut done = result(&json!({"job_id": late}), "n", &json!(1));
    done.as_object_mut().unwrap().remove("lease_id");
    data.post("/mesh/submit_result", &done).ok();
    let left = ["evicted", "requeued", "discarded", "completed"].map(|how| metric("dead_letters_left_total", how));
    assert_eq!((left, metric("dead_letters_added_total", "")), ([2.0, 1.0, 2.0, 1.0], 6.0));

    // Leases: one is lost, one is given back, one is held by a job that was cancelled.
    let lost = hub.leased("n", json!({"kind": "lost", "lease_sec": 1}));
    let named = |job: &Value| json!({"node_id": "n", "leases": [job["lease_id"]]});
    let released = hub.leased("n", json!({"kind": "released"}));
    data.post("/mesh/release_lease", &named(&released)).ok();
    let cancelled = hub.leased("n", json!({"kind": "cancelled"}));
    data.post(&format!("/mesh/jobs/{}/cancel", cancelled["job_id"].as_str().unwrap()), &json!({})).ok();
    assert_eq!([metric("leases_held", ""), metric("jobs_cancelled_total", "")], [1.0, 1.0]);
    until("the lease is lost", || hub.status(lost["job_id"].as_str().unwrap()) != "leased");
    assert_eq!([metric("leases_lost_total", ""), metric("leases_returned_total", "")], [1.0, 1.0]);

    // An orphan, a drained node, retries beyond the budget, and kinds with rules.
    data.post("/mesh/submit_result", &result(&json!({"job_id": "x"}), "n", &json!(1)));
    assert_eq!([metric("orphans", ""), metric("results_orphaned_total", "")], [1.0, 1.0]);
    assert_eq!(metric("orphans_bytes", ""), metric("account_bytes", "orphans"));
    control.post("/mesh/heartbeat", &json!({"node_id": "d"})).ok();
    control.post("/api/nodes/d/drain", &json!({})).ok();
    let nodes_drained = || metrics_json(hub.control)["nodes_drained"].clone();
    assert_eq!(nodes_drained(), 1);
    control.post("/api/nodes/d/drain", &json!({})).ok();
    control.post("/api/nodes/d/resume", &json!({})).ok();
    assert_eq!(nodes_drained(), 0);
    let requests = vec![json!({"kind": "r"}); 30];
    data.post("/mesh/submit_requests", &json!({"requests": requests})).ok();
    let jobs = hub.pull("n", json!({"max": 100, "kinds": ["r"]}));
    jobs["jobs"].as_array().unwrap().iter().for_each(|job| _ = hub.fail(job, "n", "no", json!({})).ok());
    until("some are postponed", || metric("retries_postponed", "") > 0.0);
    assert!(metric("retry_budget_credits", "") <= 10.0);
    data.put("/mesh/kinds/full", &json!({"max_inflight": 1}), None).ok();
    data.put("/mesh/kinds/closed", &json!({"paused": true}), None).ok();
    hub.leased("n", json!({"kind": "full"}));
    assert_eq!([metric("kind_leases", "full"), metric("kind_leases_max", "full")], [1.0, 1.0]);
    let gates = [("full", "gate=\"full\""), ("closed", "gate=\"paused\"")];
    for (kind, gate) in gates {
        assert_eq!(hub.metric(&format!("sheratan_hub_kind_gate{{kind=\"{kind}\""), gate), 1.0, "{kind}");
    }
}

#[test]
fn both_text_forms_say_what_the_json_says() {
    let hub = busy_hub();
    // What a scrape itself changes, and how long a write under way has taken.
    let is_of_scrapes = |name: &str| ["_request", "_connections", "write_age"].iter().any(|part| name.contains(part));
    for (plane, json, table) in [
        (
            hub.control,
            metrics_json(hub.control),
            &[
                ("/nodes_online", r#"nodes{status="online"}"#),
                ("/nodes_stale", r#"nodes{status="stale"}"#),
                ("/nodes_dead", r#"nodes{status="dead"}"#),
                ("/auth_failure/missing_1m", r#"auth_failures_total{reason="missing_token"}"#),
                ("/auth_failure/invalid_1m", r#"auth_failures_total{reason="bad_token"}"#),
                ("/auth_success_active_1m", r#"auth_successes_total{token="active"}"#),
                ("/port_mismatch_rate_1m", "port_mismatches_total"),
            ][..],
        ),
        (
            hub.data,
            metrics_json(hub.data),
            &[
                ("/queue_depth", r#"queue_jobs{state="scheduled"}"#),
                ("/queue_bytes", "queue_bytes"),
                ("/inflight", "inflight_jobs"),
                ("/inflight_bytes", "inflight_bytes"),
                ("/submitted_1m", "leases_given_total"),
                ("/completed_1m", r#"jobs_ended_total{kind="a",status="completed"}"#),
                ("/completed_1m", r#"jobs_submitted_total{kind="b"}"#),
                ("/failed_1m", "retries_exhausted_total"),
                ("/retry_scheduled_1m", "retries_scheduled_total"),
                ("/reaped_leases_1m", "leases_reaped_total"),
                ("/queue_drop_1m", r#"backpressure_drops_total{reason="queue_depth"}"#),
                ("/inflight_saturated_1m", "inflight_saturated_total"),
                ("/idempotent_in_progress_1m", r#"idempotent_submits_total{outcome="in_progress"}"#),
                ("/idempotent_completed_1m", r#"idempotent_submits_total{outcome="completed"}"#),
                ("/idempotent_collisions_1m", r#"idempotent_submits_total{outcome="collision"}"#),
                ("/idempotency_store_size", "idempotency_keys"),
                ("/integrity/fail_1m", r#"result_integrity_checks_total{outcome="failed"}"#),
                ("/integrity/missing_1m", r#"result_integrity_checks_total{outcome="missing"}"#),
                ("/integrity/verified_1m", r#"result_integrity_checks_total{outcome="verified"}"#),
                ("/submitted_1m", "queue_wait_seconds_count"),
                ("/submitted_1m", "run_seconds_count"),
            ][..],
        ),
    ] {
        let (mut text, mut open) = (samples(&scrape(plane, TEXT)), samples(&scrape(plane, OPEN_METRICS)));
        for (pointer, name) in table {
            let value = text.get(&format!("sheratan_hub_{name}")).copied();
            assert_eq!(value, json.pointer(pointer).and_then(Value::as_f64), "{pointer} and {name}");
        }
        text.retain(|name, _| !is_of_scrapes(name));
        open.retain(|name, _| !is_of_scrapes(name));
        assert_eq!(text, open);
    }
}

#[test]
fn the_form_is_what_accept_names_and_json_without() {
    let hub = Hub::start();
    let prometheus = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,\
                      text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
    for plane in [hub.control, hub.data] {
        for path in ["/metrics", "/api/metrics"] {
            for (accept, form) in [
                ("*/*", "application/json"),
                ("application/json", "application/json"),
                ("text/html, */*;q=0.8", "application/json"),
                ("text/plain", "text/plain; version=0.0.4; charset=utf-8"),
                (prometheus, "application/openmetrics-text; version=1.0.0; charset=utf-8"),
            ] {
                let mut client = Client::new(plane, None);
                let reply = client.ask("GET", path, &[("Accept", accept)]);
                assert_eq!((reply.status, reply.header("content-type")), (200, Some(form)), "{path} {accept}");
                assert_eq!(reply.header("vary"), Some("Accept"));
                let head = client.ask("HEAD", path, &[("Accept", accept)]);
                assert_eq!((head.status, head.header("content-type"), head.body.len()), (200, Some(form), 0));
            }
            let bare = Client::new(plane, None).get(path);
            assert_eq!(bare.header("content-type"), Some("application/json"));
            let posted = Client::new(plane, None).post(path, &json!({}));
            assert_eq!((posted.status, posted.header("allow")), (405, Some("GET, HEAD")));
        }
    }
    assert!(scrape(hub.data, OPEN_METRICS).ends_with("# EOF\n"));
}

#[test]
fn another_machine_needs_the_token_unless_the_metrics_are_public() {
    let Some(address) = own_address() else {
        return skipped("this machine has no address but loopback; io/tests/metrics.rs checks the rule without one");
    };
    let token = "a-token-of-the-test";
    for is_public in [false, true] {
        let mut args = vec!["--control-addr", "0.0.0.0:0", "--data-addr", "0.0.0.0:0"];
        if is_public {
            args.extend(["--metrics-public", "1"]);
        }
        let args = args.into_iter().map(str::to_owned).collect();
        let env = vec![("SHERATAN_HUB_TOKEN".to_owned(), token.to_owned())];
        let hub = Hub::start_in(TempDir::new().unwrap(), Options { args, env });
        for port in [hub.control.port(), hub.data.port()] {
            let status = |ip: IpAddr, token: Option<&str>| {
                Client::new((ip, port).into(), token.map(str::to_owned)).get("/metrics").status
            };
            assert_eq!(status(address, None), if is_public { 200 } else { 403 });
            assert_eq!(status(address, Some("another token")), 403, "a token that is sent is checked");
            assert_eq!(status(address, Some(token)), 200);
            assert_eq!(status([127, 0, 0, 1].into(), None), 200);
        }
        // As the commented part of the scrape configuration has Prometheus send it.
        let bearer = format!("Bearer {token}");
        let mut client = Client::new((address, hub.data.port()).into(), None);
        assert_eq!(client.ask("GET", "/metrics", &[("Authorization", &bearer), ("Accept", OPEN_METRICS)]).status, 200);
    }
}

/// The digest and the number of records by a replay of the journal.
fn replayed(hub: &Hub) -> (String, u64) {
    let run = hub.run(&["journal", "verify", "--replay", "--json"]);
    assert_eq!(run.code, Some(0), "{run:?}");
    let report: Value = serde_json::from_str(&run.stdout).unwrap();
    (report["replay"]["digest"].as_str().unwrap().to_owned(), report["replay"]["records"].as_u64().unwrap())
}

#[test]
fn a_thousand_scrapes_change_nothing() {
    let hub = busy_hub();
    until("the audit log has all that happened", || hub.audit("PORT_MISMATCH").len() == 2);
    let (before, jobs) = (replayed(&hub), hub.data().get("/mesh/jobs").ok());
    let audit_lines =
        |hub: &Hub| hub.control().get("/api/audit?after=0&limit=1000").ok()["events"].as_array().unwrap().len();
    let lines = audit_lines(&hub);
    let mut planes = [Client::new(hub.control, None), Client::new(hub.data, None)];
    for n in 0..1_000 {
        let reply = planes[n % 2].ask("GET", "/metrics", &[("Accept", FORMS[n % 3])]);
        assert_eq!(reply.status, 200);
    }
    assert_eq!(replayed(&hub), before);
    assert_eq!(hub.data().get("/mesh/jobs").ok(), jobs);
    assert_eq!(audit_lines(&hub), lines);
    assert_eq!(sample(hub.data, "sheratan_hub_journal_records_total"), before.1 as f64);
}

#[cfg(target_os = "linux")]
#[test]
fn scrapes_do_not_wait_for_a_full_disk() {
    use rustix::process::{Pid, Resource, Rlimit, prlimit};
    let hub = Hub::start();
    let limit_files = |bytes| {
        let pid = Pid::from_raw(hub.pid() as i32).unwrap();
        prlimit(Some(pid), Resource::Fsize, Rlimit { current: bytes, maximum: None }).unwrap();
    };
    let job = json!({"kind": "k"});
    let mut data = hub.data();
    assert_eq!(submit(&mut data, &job), 200);
    limit_files(Some(0));
    assert_eq!(submit(&mut data, &job), 503);
    // The journal accepts nothing until the limit is removed: a scrape that waited for it would not return.
    for (plane, name, value) in [
        (hub.data, "sheratan_hub_journal_up", 0.0),
        (hub.data, "sheratan_hub_journal_failures_total", 1.0),
        (hub.data, "sheratan_hub_journal_pending_records", 1.0),
        (hub.data, "sheratan_hub_ready", 0.0),
        (hub.control, "sheratan_hub_ready", 0.0),
    ] {
        assert_eq!(sample(plane, name), value, "{name}");
    }
    for plane in [hub.control, hub.data] {
        FORMS.iter().for_each(|form| assert!(!scrape(plane, form).is_empty()));
        assert_eq!(Client::new(plane, None).get("/readyz").status, 503);
    }
    limit_files(None);
    until("the journal is written again", || sample(hub.data, "sheratan_hub_journal_up") == 1.0);
    assert_eq!(sample(hub.data, "sheratan_hub_journal_pending_records"), 0.0);
    for plane in [hub.control, hub.data] {
        assert_eq!(sample(plane, "sheratan_hub_ready"), 1.0);
        assert_eq!(Client::new(plane, None).get("/readyz").status, 200);
    }
}

#[test]
fn nothing_that_clients_and_nodes_say_is_in_the_metrics_but_kinds_and_of_those_two_hundred() {
    let hub = Hub::start();
    let (mut data, mut control) = (hub.data(), hub.control());
    let heartbeat = json!({
        "node_id": "MARKER-node", "zone": "MARKER-zone", "capabilities": ["MARKER:capability"],
        "labels": {"MARKER-label": "MARKER"}, "endpoint": "http://MARKER/",
    });
    control.post("/mesh/heartbeat", &heartbeat).ok();
    let request = |kind: &str, n: usize| {
        json!({"kind": kind, "params": {"MARKER": "MARKER"}, "idempotency_key": format!("MARKER-{n}"),
            "zone": "MARKER-zone", "requires": ["MARKER:capability"], "client": {"node_id": "MARKER-client"}})
    };
    // A kind may be called as the rest is, and may hold what a label's value must escape.
    let kinds = ["a\"b\\c", "other"].map(str::to_owned).into_iter().chain((0..250).map(|n| format!("kind-{n}")));
    let requests: Vec<_> = kinds.enumerate().map(|(n, kind)| request(&kind, n)).collect();
    let answers = data.post("/mesh/submit_requests", &json!({"requests": requests})).ok();
    assert!(answers["results"].as_array().unwrap().iter().all(|answer| answer["status_code"] == 200));
    let jobs = data.post("/mesh/pull_requests?MARKER=MARKER", &json!({"node_id": "MARKER-node", "max": 2})).ok();
    data.post("/mesh/submit_result", &result(&jobs["jobs"][0], "MARKER-node", &json!("MARKER"))).ok();
    data.post("/mesh/submit_result", &failure(&jobs["jobs"][1], "MARKER-node", &json!("MARKER"))).ok();
    for path in ["/mesh/jobs?MARKER=MARKER", "/mesh/MARKER", "/MARKER", "/mesh/jobs/MARKER"] {
        data.get(path);
        Client::new(hub.control, Some("MARKER".to_owned())).get(path);
    }
    let token = hub.token();
    for plane in [hub.control, hub.data] {
        for form in FORMS {
            let reply = Client::new(plane, None).ask("GET", "/metrics?MARKER=MARKER", &[("Accept", form)]);
            let text = String::from_utf8(reply.body).unwrap();
            assert!(!text.contains("MARKER") && !text.contains(&token), "{text}");
        }
    }
    let served = samples(&scrape(hub.data, TEXT));
    let submitted: Vec<_> =
        served.iter().filter(|(name, _)| name.starts_with("sheratan_hub_jobs_submitted_total")).collect();
    assert_eq!(submitted.len(), 201);
    let of = |kind: &str| served.get(&format!("sheratan_hub_jobs_submitted_total{{kind=\"{kind}\"}}")).copied();
    assert_eq!(
        [of("a\\\"b\\\\c"), of("kind-198"), of("kind-199"), of("other")],
        [Some(1.0), Some(1.0), None, Some(52.0)]
    );
}

fn scripts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/prometheus")
}

fn script(name: &str) -> String {
    fs::read_to_string(scripts().join(name)).unwrap()
}

/// Runs promtool; panics with what it said if it does not accept.
fn promtool(promtool: &Path, args: &[&str], input: &str) {
    let mut command = Command::new(promtool);
    command.args(args).current_dir(scripts()).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "promtool {args:?}: {said}");
}

#[test]
fn promtool_accepts_what_the_hub_serves_and_the_files_for_prometheus() {
    let Some(program) = tool("promtool", "prometheus") else { return };
    let hub = busy_hub();
    for plane in [hub.control, hub.data] {
        promtool(&program, &["check", "metrics"], &scrape(plane, TEXT));
    }
    promtool(&program, &["check", "config", "prometheus.yml"], "");
    promtool(&program, &["check", "rules", "sheratan_hub.rules.yml"], "");
    promtool(&program, &["test", "rules", "sheratan_hub.rules.test.yml"], "");
    // The commented parts too.
    let config = script("prometheus.yml");
    let (head, comments) = config.split_once("  # - job_name").unwrap();
    let uncommented: String = format!("  # - job_name{comments}")
        .lines()
        .filter_map(|line| match line.split_once("# ") {
            Some((_, text)) if text.starts_with("Where alerts go") => None,
            Some((indent, text)) => Some(format!("{indent}{text}\n")),
            None => Some("\n".to_owned()),
        })
        .collect();
    let folder = TempDir::new().unwrap();
    fs::copy(scripts().join("sheratan_hub.rules.yml"), folder.path().join("sheratan_hub.rules.yml")).unwrap();
    let whole = folder.path().join("prometheus.yml");
    let token = folder.path().join("token");
    fs::write(&token, "a token").unwrap();
    let head = format!("{head}{}", uncommented.replace("/etc/prometheus/sheratan_hub_token", token.to_str().unwrap()));
    assert!(head.contains("\nalerting:") && head.contains("\n    authorization:"), "{head}");
    fs::write(&whole, head).unwrap();
    promtool(&program, &["check", "config", whole.to_str().unwrap()], "");
}

/// Words that are names of series: of the hub's own, and those that rules record, which have a colon.
fn series_names(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != ':');
    words.filter(|word| word.contains("sheratan_hub_")).map(str::to_owned).collect()
}

/// Each `key: value` of a YAML file's lines, however deep.
fn yaml_values<'a>(text: &'a str, key: &'a str) -> impl Iterator<Item = &'a str> {
    text.lines().filter_map(move |line| line.trim_start_matches([' ', '-']).strip_prefix(key)?.strip_prefix(": "))
}

#[test]
fn rules_and_dashboard_use_series_that_exist() {
    let hub = busy_hub();
    let served = [hub.control, hub.data].map(|plane| scrape(plane, TEXT)).concat();
    let served: BTreeSet<_> =
        samples(&served).into_keys().map(|name| name.split('{').next().unwrap().to_owned()).collect();
    let rules = script("sheratan_hub.rules.yml");
    let recorded: BTreeSet<_> = yaml_values(&rules, "record").map(str::to_owned).collect();
    let files = ["sheratan_hub.rules.yml", "sheratan_hub.rules.test.yml", "grafana-dashboard.json", "README.md"];
    for file in files {
        let names = series_names(&script(file));
        assert!(!names.is_empty(), "{file}");
        let unknown: Vec<_> =
            names.into_iter().filter(|name| !served.contains(name) && !recorded.contains(name)).collect();
        assert!(unknown.is_empty(), "{file} asks for {unknown:?}");
    }
}

#[test]
fn the_runbook_explains_each_metric_and_each_alert() {
    let hub = busy_hub();
    let runbook = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/runbook.md")).unwrap();
    for plane in [hub.control, hub.data] {
        let families = scrape(plane, TEXT);
        let families = families.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
        families.for_each(|family| assert!(runbook.contains(&format!("`{family}`")), "{family}"));
        let json = metrics_json(plane);
        let keys = json.as_object().unwrap().keys().filter(|key| !["ok", "plane", "ts"].contains(&key.as_str()));
        keys.for_each(|key| assert!(runbook.contains(&format!("`{key}`")), "{key}"));
    }
    let rules = script("sheratan_hub.rules.yml");
    let (alerts, links): (Vec<_>, Vec<_>) =
        (yaml_values(&rules, "alert").collect(), yaml_values(&rules, "runbook_url").collect());
    for (alert, link) in alerts.iter().zip(&links) {
        assert!(runbook.contains(&format!("\n### {alert}\n")), "{alert}");
        assert_eq!(*link, format!("docs/runbook.md#{}", alert.to_lowercase()));
    }
    assert_eq!(alerts.len(), links.len());
}

/// The files for Prometheus with this hub's addresses, in seconds instead of minutes.
fn quick_files(hub: &Hub) -> TempDir {
    let folder = TempDir::new().unwrap();
    let config = script("prometheus.yml").replace("15s", "1s");
    let config = config.replace("\"127.0.0.1:8787\"", &format!("\"{}\"", hub.control));
    let config = config.replace("\"127.0.0.1:8788\"", &format!("\"{}\"", hub.data));
    fs::write(folder.path().join("prometheus.yml"), config).unwrap();
    let rules = script("sheratan_hub.rules.yml").replace("for: 1m", "for: 1s");
    fs::write(folder.path().join("sheratan_hub.rules.yml"), rules).unwrap();
    folder
}

#[test]
fn a_prometheus_scrapes_a_hub_shows_its_jobs_and_alerts_when_it_is_gone() {
    let Some(program) = tool("prometheus", "prometheus") else { return };
    let mut hub = Hub::start();
    let mut data = hub.data();
    (0..3).for_each(|_| assert_eq!(submit(&mut data, &json!({"kind": "k"})), 200));
    let files = quick_files(&hub);
    let prometheus = Prometheus::start(&program, &files.path().join("prometheus.yml"));
    let value = |expression: &str| match &prometheus.query(expression)[..] {
        [(_, value)] => Some(*value),
        _ => None,
    };
    for plane in ["control", "data"] {
        until("it reaches the plane", || value(&format!("up{{instance=\"hub-1\",plane=\"{plane}\"}}")) == Some(1.0));
    }
    until("it has the jobs", || value("sheratan_hub_jobs_submitted_total{kind=\"k\"}") == Some(3.0));
    assert_eq!(value("sheratan_hub_queue_jobs{state=\"queued\"}"), Some(3.0));

    // Each panel shows something while there is something to show: a kind with a rule is one.
    data.put("/mesh/kinds/w", &json!({"max_inflight": 1000}), None).ok();
    let dashboard: Value = serde_json::from_str(&script("grafana-dashboard.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap().iter().flat_map(|panel| panel["targets"].as_array()).flatten();
    let mut expressions: Vec<_> = panels.map(|target| target["expr"].as_str().unwrap()).collect();
    assert!(expressions.len() > 40, "{}", expressions.len());
    let mut n = 0;
    until("each panel has a sample", || {
        n += 1;
        assert_eq!(submit(&mut data, &json!({"kind": "w", "priority": "high", "max_attempts": 2})), 200);
        let jobs = data.post("/mesh/pull_requests", &json!({"node_id": "n", "kinds": ["w"]})).ok();
        let sent = if n % 2 == 0 {
            result(&jobs["jobs"][0], "n", &json!(1))
        } else {
            failure(&jobs["jobs"][0], "n", &json!(1))
        };
        data.post("/mesh/submit_result", &sent).ok();
        expressions.retain(|expression| {
            let asked = expression.replace("$instance", "hub-1").replace("$__rate_interval", "1m");
            prometheus.query(&asked).is_empty()
        });
        expressions.is_empty()
    });
    let rules_file = script("sheratan_hub.rules.yml");
    let is_rule = |line: &&str| ["- alert:", "- record:"].iter().any(|start| line.trim_start().starts_with(start));
    let rule_count = rules_file.lines().filter(is_rule).count();
    until("each rule was evaluated without an error", || {
        let answer = prometheus.api("rules").unwrap();
        let rules =
            answer["data"]["groups"].as_array().unwrap().iter().flat_map(|group| group["rules"].as_array().unwrap());
        let health: Vec<_> = rules.map(|rule| rule["health"].as_str().unwrap().to_owned()).collect();
        assert!(!health.iter().any(|health| health == "err"), "{answer}");
        health.len() == rule_count && health.iter().all(|health| health == "ok")
    });
    assert_eq!(value("count(ALERTS{alertname=\"SheratanHubDown\"})"), None);

    hub.kill();
    until("the alert fires for both planes", || {
        value("count(ALERTS{alertname=\"SheratanHubDown\",alertstate=\"firing\",severity=\"critical\"})") == Some(2.0)
    });
}
