//! What worker, hub and command tell each other while a job runs: that it is cancelled, how long it may run, that its node
//! is drained, how far it is, when to try again.
#![cfg(unix)]
// The lists in `clippy.toml` are for the core.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use serde_json::{Value, json};
use sheratan_tests::family::{family, family_command, is_running};
use sheratan_tests::{Fault, Hub, Proxy, Worker, until};
use std::fs;
use tempfile::TempDir;

#[test]
fn the_command_of_a_cancelled_job_is_stopped_with_its_children_and_the_worker_goes_on() {
    let hub = Hub::start();
    let folder = TempDir::new().unwrap();
    let exec = format!("read x; test \"$x\" = 1 || {{ echo 2; exit; }}; {}", family_command(folder.path()));
    let worker = Worker::start(&hub, &["--lease-sec", "2", "--exec", &exec]);
    let job_id = hub.submit(json!({"kind": "k", "params": 1}));
    until("the command runs", || family(folder.path()).len() == 2);
    let processes = family(folder.path());
    hub.data().post(&format!("/mesh/jobs/{job_id}/cancel"), &json!({})).ok();
    until("both have ended", || !processes.iter().any(|pid| is_running(pid)));
    until("the worker says so", || !worker.events("cancelled").is_empty());
    assert_eq!(worker.events("cancelled")[0]["job_id"], job_id);
    assert_eq!(hub.until_final(&hub.submit(json!({"kind": "k", "params": 2})))["result"], 2);
}

#[test]
fn a_worker_says_that_its_node_is_drained_and_goes_on_when_it_is_resumed() {
    let hub = Hub::start();
    let worker = Worker::start(&hub, &["--node", "n", "--concurrency", "2", "--exec", "cat"]);
    assert_eq!(hub.run(&["nodes", "drain", "n"]).code, Some(0));
    until("the worker says so", || !worker.events("jobs_withheld").is_empty());
    let mut other = Worker::start(&hub, &["--node", "n", "--drain-when-empty", "--exec", "cat"]);
    assert_eq!(other.wait(), Some(0), "for a drained node there is nothing to wait for");
    let job_id = hub.submit(json!({"kind": "k", "params": 1}));
    assert_eq!(hub.run(&["nodes", "resume", "n"]).code, Some(0));
    assert_eq!(hub.until_final(&job_id)["result"], 1);
    until("the worker says that too", || worker.events("jobs_withheld").len() == 2);
    let reasons: Vec<_> = worker.events("jobs_withheld").iter().map(|event| event["reason"].clone()).collect();
    assert_eq!(reasons, [json!("drained"), Value::Null], "once for both slots");
}

#[test]
fn a_command_has_stopped_when_its_time_to_run_is_over() {
    let hub = Hub::start();
    // A lease that is granted for less than was asked, and one that is extended until the hub extends it no further.
    for (kind, lease_sec) in [("granted", "60"), ("extended", "2")] {
        hub.data().try_request("PUT", &format!("/mesh/kinds/{kind}"), Some(&json!({"max_run_sec": 5}))).unwrap().ok();
        let folder = TempDir::new().unwrap();
        let exec = family_command(folder.path());
        let worker = Worker::start(&hub, &["--kinds", kind, "--lease-sec", lease_sec, "--exec", &exec]);
        let job_id = hub.submit(json!({"kind": kind, "max_attempts": 1}));
        until("the command runs", || family(folder.path()).len() == 2);
        let processes = family(folder.path());
        let job = hub.until_final(&job_id);
        let left: Vec<_> = processes.iter().filter(|pid| is_running(pid)).collect();
        assert!(left.is_empty(), "{kind}: {left:?} still run");
        assert_eq!(
            (&job["status"], &job["attempts"][0]["reason"]),
            (&json!("dead"), &json!("max_run")),
            "{kind}: {job}"
        );
        until("the worker says so", || !worker.events("lease_lost").is_empty());
        let reason = worker.events("lease_lost")[0]["reason"].as_str().unwrap().to_owned();
        assert!(reason.contains("max_run_sec"), "{reason}");
    }
}

#[test]
fn what_a_command_reports_is_shown_with_its_job_at_once_and_is_no_message() {
    let hub = Hub::start();
    let gate = TempDir::new().unwrap();
    let reports = "printf 'sheratan-progress: 10\\nsheratan-progress: 40 half way\\noops\\n' >&2";
    let exec = format!("{reports}; until test -e {}/go; do sleep 0.05; done; exit 1", gate.path().display());
    // An extension by itself would come after minutes.
    let _worker = Worker::start(&hub, &["--lease-sec", "3600", "--exec", &exec]);
    let job_id = hub.submit(json!({"kind": "k", "max_attempts": 1}));
    until("the hub shows it", || hub.job(&job_id)["progress"] == 40);
    assert_eq!(hub.job(&job_id)["note"], "half way");
    fs::write(gate.path().join("go"), "").unwrap();
    assert_eq!(hub.until_final(&job_id)["error"], json!({"exit_code": 1, "stderr": "oops"}));
}

#[test]
fn a_lease_is_kept_where_a_hub_does_not_take_a_report() {
    const REFUSAL: &str = r#"{"ok":false,"error":"bad_request","status":400,"detail":"progress"}"#;
    let hub = Hub::start();
    let proxy = Proxy::to(hub.data);
    proxy.fail("extend_lease", 1, Fault::Answer(400, REFUSAL));
    let exec = "echo 'sheratan-progress: 40' >&2; sleep 4; echo 1";
    let worker = Worker::through(&hub, hub.control, proxy.addr, &["--lease-sec", "2", "--exec", exec]);
    worker.until_registered();
    let job = hub.until_final(&hub.submit(json!({"kind": "k", "max_attempts": 1})));
    assert_eq!((&job["result"], job["attempts"].as_array().unwrap().len()), (&json!(1), 1), "{job}");
}

#[test]
fn a_command_says_when_another_attempt_may_succeed() {
    let hub = Hub::start();
    let _worker = Worker::start(&hub, &["--exec", "echo 'sheratan-retry-after: 1800' >&2; exit 1"]);
    let job_id = hub.submit(json!({"kind": "k"}));
    until("it waits for its retry", || hub.job(&job_id)["status"] == "scheduled");
    let job = hub.job(&job_id);
    let at = |member: &Value| member.as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    let wait = at(&job["run_at_utc"]).duration_since(at(&job["attempts"][0]["end_utc"]));
    assert!(wait.as_secs() >= 1_800, "{wait:?}: {job}");
}

#[test]
fn a_worker_that_has_little_time_to_stop_gives_back_what_it_does_not_finish() {
    let hub = Hub::start();
    let folder = TempDir::new().unwrap();
    let exec = format!("read x; test \"$x\" = 1 || {{ sleep 0.2; echo 2; exit; }}; {}", family_command(folder.path()));
    let mut worker = Worker::start(&hub, &["--grace-sec", "3", "--concurrency", "2", "--exec", &exec]);
    let long = hub.submit(json!({"kind": "k", "params": 1, "max_attempts": 1}));
    until("the command runs", || family(folder.path()).len() == 2);
    let processes = family(folder.path());
    let short = hub.submit(json!({"kind": "k", "params": 2, "max_attempts": 1}));
    until("the other one, too", || worker.events("started").len() == 2);
    worker.interrupt();
    assert_eq!(worker.wait(), Some(0));
    assert_eq!(hub.job(&short)["result"], 2, "there was time for it");
    assert_eq!(hub.job(&long)["attempts"][0]["reason"], "released");
    assert!(!processes.iter().any(|pid| is_running(pid)));
}

#[test]
fn a_job_that_arrives_when_the_worker_is_asked_to_stop_is_not_begun() {
    let hub = Hub::start();
    for _ in 0..5 {
        let mut worker = Worker::start(&hub, &["--exec", "cat"]);
        worker.interrupt();
        until("the worker stops", || !worker.events("stopping").is_empty());
        // Its last pull is open for another moment.
        let job_id = hub.submit(json!({"kind": "k", "max_attempts": 1}));
        assert_eq!(worker.wait(), Some(0));
        assert!(worker.events("started").is_empty());
        let job = hub.job(&job_id);
        assert!(["queued", "scheduled"].contains(&job["status"].as_str().unwrap()), "{job}");
        hub.data().post(&format!("/mesh/jobs/{job_id}/cancel"), &json!({})).ok();
    }
}
