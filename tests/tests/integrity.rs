//! The integrity of results, from the worker through the hub's files to the submitter.
// The lists in `clippy.toml` are for the core.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use serde_json::{Value, json};
use sheratan_tests::alter::alter_stored;
use sheratan_tests::client::{checksum, failure, hmac, result};
use sheratan_tests::{Fault, Hub, Options, Proxy, command, until};
use std::fs;
use tempfile::TempDir;

fn keyed(key: &str) -> Value {
    json!({"kind": "k", "params": {"n": 1}, "idempotency_key": key, "max_attempts": 1, "client": {"node_id": "c"}})
}

/// Submits a job under this key and ends it.
fn end(hub: &Hub, key: &str, body: impl Fn(&Value) -> Value) -> String {
    let job_id = hub.submit(keyed(key));
    let job = hub.data().get("/mesh/pull_requests/n").ok()["jobs"][0].clone();
    hub.data().post("/mesh/submit_result", &body(&job)).ok();
    job_id
}

/// A job whose success, and one whose failure is changed in the hub's files; and one that is not.
fn ended_jobs(hub: &Hub) -> [String; 3] {
    let changed = end(hub, "changed", |job| result(job, "n", &json!({"sum": 41})));
    let failed = end(hub, "failed", |job| failure(job, "n", &json!("no such file")));
    [changed, failed, end(hub, "whole", |job| result(job, "n", &json!({"sum": 7})))]
}

fn change(hub: &Hub) {
    assert!(alter_stored(hub.folder(), "{\"sum\":41}", "{\"sum\":42}") > 0, "the result is stored");
    assert!(alter_stored(hub.folder(), "no such file", "no such disk") > 0, "so is the error");
}

/// The hub shows and reports the two results that were changed, and the third job as it was.
fn shows_what_was_changed(hub: &Hub, [changed, failed, whole]: &[String; 3]) {
    for (job_id, status) in [(changed, "completed"), (failed, "dead")] {
        for query in ["", "?wait_ms=1000"] {
            let shown = hub.data().get(&format!("/mesh/jobs/{job_id}{query}"));
            assert_eq!((shown.status, shown.error().as_str()), (500, "result_corrupt"));
            let job = &shown.json()["job"];
            assert_eq!(
                (&job["job_id"], &job["status"], &job["params"]),
                (&json!(job_id), &json!(status), &json!({"n": 1}))
            );
            assert!(job.get("result").is_none() && job.get("error").is_none() && job["attempts"][0]["error"].is_null());
            assert_eq!(job["integrity"]["mode"], "sha256");
        }
    }
    for key in ["changed", "failed"] {
        let repeat = hub.data().post("/mesh/submit_request", &keyed(key));
        assert_eq!((repeat.status, repeat.error().as_str()), (500, "result_corrupt"));
        assert!(repeat.json().get("result").is_none() && repeat.json().get("job_error").is_none());
    }
    let list = hub.data().get("/mesh/results/c").ok();
    let is_corrupt = |index: usize| list["results"][index]["corrupt"] == true;
    assert_eq!([0, 1, 2].map(is_corrupt), [true, true, false]);
    assert_eq!(hub.job(whole)["result"], json!({"sum": 7}));
    assert_eq!(hub.data().post("/mesh/submit_request", &keyed("whole")).ok()["result"], json!({"sum": 7}));

    until("each has one line in the audit log", || hub.audit("RESULT_CORRUPT").len() == 2);
    let metrics = hub.data().get("/metrics").ok();
    assert_eq!(metrics["result_corrupt_1m"], 8, "two reads, a repeat and a list of each");
    until("an alert is open", || {
        let alerts = hub.control().get("/api/alerts").ok();
        alerts["open"].as_array().is_some_and(|open| open.iter().any(|alert| alert["event"] == "BURST_RESULT_CORRUPT"))
    });
}

#[test]
fn a_result_that_was_changed_in_a_snapshot_is_found_when_it_is_read() {
    let mut hub = Hub::start();
    let jobs = ended_jobs(&hub);
    assert!(hub.stop().success());
    change(&hub);
    hub.restart();
    shows_what_was_changed(&hub, &jobs);
}

#[test]
fn a_result_that_was_changed_in_the_journal_is_found_when_it_is_read() {
    let mut hub = Hub::start();
    let jobs = ended_jobs(&hub);
    hub.kill();
    change(&hub);
    hub.restart();
    shows_what_was_changed(&hub, &jobs);
}

#[test]
fn a_job_shows_the_checksum_of_its_worker_also_after_a_restart() {
    let mut hub = Hub::start();
    let jobs = ended_jobs(&hub);
    let expected = [
        (true, json!({"sum": 41}), Value::Null),
        (false, Value::Null, json!("no such file")),
        (true, json!({"sum": 7}), Value::Null),
    ];
    let check = |hub: &Hub| {
        for (job_id, (ok, result, error)) in jobs.iter().zip(&expected) {
            let job = hub.job(job_id);
            let sha256 = checksum(&json!(job_id), *ok, result, error);
            assert_eq!(job["integrity"], json!({"mode": "sha256", "sha256": sha256}));
            assert_eq!((&job["result"], &job["error"]), (result, error));
        }
    };
    check(&hub);
    hub.kill();
    hub.restart();
    check(&hub);
    assert!(hub.stop().success());
    hub.restart();
    check(&hub);
}

/// How many records the journal has.
fn records(hub: &Hub) -> String {
    let text = hub.data().ask("GET", "/metrics", &[("Accept", "text/plain")]);
    let text = String::from_utf8(text.body).expect("metrics are text");
    let line = text.lines().find(|line| line.starts_with("sheratan_hub_journal_records_total"));
    line.expect("the journal's records are counted").to_owned()
}

#[test]
fn a_tampered_result_changes_nothing_and_one_under_a_used_id_is_no_repeat() {
    let hub = Hub::start();
    let job_id = hub.submit(keyed("tampered"));
    let job = hub.data().get("/mesh/pull_requests/n").ok()["jobs"][0].clone();
    let (before, count) = (hub.job(&job_id), records(&hub));
    let mut honest = result(&job, "n", &json!({"sum": 41}));
    honest["result_id"] = json!("r-1");
    let changes =
        [("result", json!({"sum": 42})), ("result", Value::Null), ("error", json!("e")), ("ok", json!(false))];
    for (member, value) in &changes {
        let mut tampered = honest.clone();
        tampered[*member] = value.clone();
        for (path, body) in
            [("/mesh/submit_result", tampered.clone()), ("/mesh/submit_results", json!({"results": [tampered]}))]
        {
            let answer = hub.data().post(path, &body);
            let refused = if answer.status == 200 { answer.json()["results"][0].clone() } else { answer.json() };
            assert_eq!(
                (&refused["error"], &refused["reason"]),
                (&json!("result_integrity_fail"), &json!("sha_mismatch"))
            );
        }
        assert_eq!((hub.job(&job_id), records(&hub)), (before.clone(), count.clone()), "{member}");
    }
    until("each is in the audit log", || hub.audit("RESULT_INTEGRITY_FAIL").len() == 2 * changes.len());
    assert_eq!(hub.data().post("/mesh/submit_result", &honest).ok()["status"], "completed");
    assert_eq!(hub.data().post("/mesh/submit_result", &honest).ok()["duplicate"], true);
    let mut other = result(&job, "n", &json!({"sum": 42}));
    other["result_id"] = json!("r-1");
    let refused = hub.data().post("/mesh/submit_result", &other);
    assert_eq!((refused.status, refused.error().as_str()), (409, "already_final"));
    other["result"] = json!({"sum": 43});
    assert_eq!(hub.data().post("/mesh/submit_result", &other).error(), "result_integrity_fail");
    assert_eq!(hub.job(&job_id)["result"], json!({"sum": 41}));
}

/// Ends a new job with a result that is signed with this key; the answer.
fn end_signed(hub: &Hub, key: &str) -> (u16, Value) {
    hub.submit(json!({"kind": "signed"}));
    let job = hub.data().get("/mesh/pull_requests/n?kinds=signed").ok()["jobs"][0].clone();
    let mut body = result(&job, "n", &json!(1));
    let canonical = json!({"error": null, "job_id": job["job_id"], "ok": true, "result": 1}).to_string();
    body["integrity"]["sig"] = json!(hmac(key.as_bytes(), canonical.as_bytes()));
    let answer = hub.data().post("/mesh/submit_result", &body);
    (answer.status, answer.json())
}

fn in_ms(ms: i64) -> String {
    let at = jiff::Timestamp::now() + jiff::SignedDuration::from_millis(ms);
    at.to_string()
}

const OLD: &str = "the-key-that-is-replaced";
const NEW: &str = "the-key-that-replaces-it";
const NEWEST: &str = "the-key-that-comes-last";

#[cfg(unix)]
#[test]
fn the_key_of_results_is_replaced_without_a_restart_and_without_a_refusal() {
    let folder = TempDir::new().unwrap();
    let file = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let names = ["KEY_FILE", "KEY_NEXT_FILE", "KEY_ROTATION_UNTIL_FILE"];
    let [key, next, deadline] = names.map(file);
    let write = |path: &str, text: &str| fs::write(path, text).unwrap();
    write(&key, OLD);
    [&next, &deadline].into_iter().for_each(|path| write(path, "\n"));
    let env = names.map(|name| (format!("SHERATAN_RESULT_HMAC_{name}"), file(name)));
    let options = Options { args: vec!["--result-integrity-mode".into(), "hmac".into()], env: env.to_vec() };
    let mut hub = Hub::start_in(TempDir::new().unwrap(), options);
    let accepted = |hub: &Hub| [OLD, NEW].map(|key| end_signed(hub, key).0 == 200);
    let reload = |hub: &Hub, event: &str, count: usize| {
        hub.reload();
        until_event(hub, event, count);
    };
    assert_eq!(accepted(&hub), [true, false]);

    write(&next, NEW);
    write(&deadline, &in_ms(3_600_000));
    reload(&hub, "RESULT_KEY_ROTATION_BEGUN", 1);
    assert_eq!(accepted(&hub), [true, true]);
    until_event(&hub, "RESULT_KEY_OLD_ACCEPTED_IN_WINDOW", 1);
    let metrics = hub.data().get("/metrics").ok();
    assert_eq!((&metrics["result_signed_old_key_1m"], &metrics["result_signed_new_key_1m"]), (&json!(1), &json!(2)));
    // A key that was read by a reload is shown nowhere.
    hub.submit(json!({"kind": "other", "idempotency_key": NEW}));
    hub.data().post("/mesh/submit_request", &json!({"kind": "another", "idempotency_key": NEW}));
    until_event(&hub, "IDEMPOTENCY_KEY_COLLISION", 1);
    assert_ne!(hub.audit("IDEMPOTENCY_KEY_COLLISION")[0]["details"]["key_prefix"], NEW[..8]);

    write(&deadline, &in_ms(7_200_000));
    reload(&hub, "RESULT_KEY_ROTATION_BEGUN", 2);
    assert_eq!(accepted(&hub), [true, true], "it is extended");
    write(&deadline, &in_ms(300));
    reload(&hub, "RESULT_KEY_ROTATION_FINALIZED", 1);
    let (status, refused) = end_signed(&hub, OLD);
    assert_eq!((status, &refused["reason"]), (403, &json!("sig_mismatch")));
    assert!(refused["detail"].as_str().unwrap().contains("was replaced"), "{refused}");
    assert_eq!(accepted(&hub), [false, true]);
    hub.kill();
    hub.restart();
    assert_eq!(accepted(&hub), [false, true], "the window is over at the start");
    assert_eq!(hub.audit("RESULT_KEY_ROTATION_FINALIZED").len(), 1);

    write(&next, OLD);
    let changes = hub.audit("RESULT_KEYS_CHANGED").len();
    hub.reload();
    until("a reload that cannot be is refused", || hub.log().contains("is the same key as result_hmac_key"));
    assert_eq!(accepted(&hub), [false, true], "what was stays");

    write(&key, NEWEST);
    [&next, &deadline].into_iter().for_each(|path| write(path, ""));
    reload(&hub, "RESULT_KEYS_CHANGED", changes + 1);
    assert_eq!((accepted(&hub), end_signed(&hub, NEWEST).0), ([false, false], 200));
}

fn until_event(hub: &Hub, event: &str, count: usize) {
    until(event, || hub.audit(event).len() == count);
}

/// `submit --wait` of a hub whose worker sums up, and whose data plane is behind a proxy.
fn submit_through(hub: &Hub, proxy: &Proxy, args: &[&str]) -> (Option<i32>, Vec<Value>, String) {
    let (control, data) = (hub.control.to_string(), proxy.addr.to_string());
    let mut submit = command(&[args, &["--wait", "--control", &control, "--data", &data]].concat());
    submit.env("SHERATAN_HUB_TOKEN", hub.token());
    let run = sheratan_tests::Run::from(submit.output().expect("it runs"));
    let lines = run.stdout.lines().map(|line| serde_json::from_str(line).expect("each line is JSON"));
    (run.code, lines.collect(), run.stderr)
}

#[cfg(unix)]
#[test]
fn submit_wait_ends_with_a_code_of_its_own_if_the_result_was_changed_on_its_way_back() {
    let hub = Hub::start();
    let _worker = sheratan_tests::Worker::start(&hub, &["--exec", "cat"]);
    let alterations = [
        ("{\"sum\":41}", "{\"sum\":42}"),
        ("\"status\":\"completed\"", "\"status\":\"cancelled\""),
        ("\"error\":null", "\"error\":1234"),
    ];
    for (from, to) in alterations {
        let proxy = Proxy::to(hub.data);
        let (code, lines, said) = submit_through(&hub, &proxy, &["submit", "k", "{\"sum\":41}"]);
        assert_eq!(
            (code, &lines[0]["ok"], &lines[0]["result"]),
            (Some(0), &json!(true), &json!({"sum": 41})),
            "{said}"
        );
        proxy.fail("/mesh/jobs/", 1, Fault::Alter(from, to));
        let (code, lines, said) = submit_through(&hub, &proxy, &["submit", "k", "{\"sum\":41}"]);
        assert_eq!((code, &lines[0]["ok"], &lines[0]["status"]), (Some(3), &json!(false), &json!("corrupt")), "{from}");
        assert!(lines[0].get("result").is_none() && lines[0]["problem"].as_str().unwrap().contains("checksum"));
        assert!(said.contains("1 result(s) do not match the checksum"), "{said}");
    }
}

#[cfg(unix)]
#[test]
fn submit_wait_ends_with_the_same_code_if_the_hub_finds_its_stored_result_changed() {
    let mut hub = Hub::start();
    let worker = sheratan_tests::Worker::start(&hub, &["--exec", "cat"]);
    let args = ["submit", "k", "{\"sum\":41}", "--idempotency-key", "a-1", "--wait"];
    assert_eq!(hub.run(&args).code, Some(0));
    drop(worker);
    assert!(hub.stop().success());
    assert!(alter_stored(hub.folder(), "{\"sum\":41}", "{\"sum\":42}") > 0);
    hub.restart();
    let run = hub.run(&args);
    assert_eq!(run.code, Some(3), "{}{}", run.stdout, run.stderr);
    assert!(run.stderr.contains("result_corrupt"), "{}", run.stderr);
}
