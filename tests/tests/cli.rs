//! The command line against a real hub: worker, submit, smoke, demo.
#![cfg(unix)]
// The lists in `clippy.toml` are for the core.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use serde_json::{Value, json};
use sheratan_tests::hub::{self, Hub, Run, command, until};
use sheratan_tests::streams::with_input;
use sheratan_tests::{Client, Fault, Proxy, Worker};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Stdio;
use tempfile::TempDir;

/// Runs `submit` with lines on its standard input.
fn submit_lines(hub: &Hub, args: &[&str], lines: &str) -> Run {
    let folder = hub.folder().to_str().expect("a temporary folder's path is text");
    with_input(command(&[&["submit", "--data-dir", folder], args].concat()), lines.as_bytes())
}

fn json_lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

#[test]
fn a_worker_runs_what_is_submitted_and_its_output_is_the_result() {
    let hub = Hub::start();
    let _worker = Worker::start(&hub, &["--concurrency", "3", "--exec", "read x; echo $((x * 2))"]);
    let lines: String = (1..=50).map(|n| format!("{n}\n")).collect();
    let run = submit_lines(&hub, &["double", "-", "--wait"], &lines);
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    let results: BTreeSet<_> = json_lines(&run.stdout)
        .iter()
        .map(|line| {
            (line["line"].as_u64().unwrap(), line["result"].as_u64().unwrap(), line["attempts"].as_u64().unwrap())
        })
        .collect();
    assert_eq!(results, (1..=50).map(|n| (n, 2 * n, 1)).collect());
}

#[test]
fn a_job_that_fails_is_tried_again_unless_its_exit_code_is_fatal() {
    let hub = Hub::start();
    let program = "read x; echo no >&2; test \"$SHERATAN_ATTEMPT\" = 1 || { echo '\"late\"'; exit 0; }; exit \"$x\"";
    let _worker = Worker::start(&hub, &["--fatal-exit", "65", "--exec", program]);
    let run = submit_lines(&hub, &["k", "-", "--wait"], "3\n65\n");
    assert_eq!(run.code, Some(1), "one job did not complete");
    let mut ends = json_lines(&run.stdout);
    ends.sort_by_key(|end| end["line"].as_u64());
    assert_eq!(
        (&ends[0]["status"], &ends[0]["result"], &ends[0]["attempts"]),
        (&json!("completed"), &json!("late"), &json!(2))
    );
    assert_eq!(ends[1]["ok"], false);
    assert_eq!((&ends[1]["error"], &ends[1]["attempts"]), (&json!({"exit_code": 65, "stderr": "no"}), &json!(1)));
}

#[test]
fn a_job_that_runs_longer_than_its_lease_keeps_it() {
    let hub = Hub::start();
    let _worker = Worker::start(&hub, &["--lease-sec", "1", "--exec", "sleep 3; cat"]);
    let run = hub.run(&["submit", "long", "7", "--wait"]);
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    assert_eq!(json_lines(&run.stdout)[0]["attempts"], 1);
}

#[test]
fn a_worker_that_is_asked_to_stop_finishes_its_job_first() {
    let hub = Hub::start();
    let gate = TempDir::new().unwrap();
    let exec = format!("until test -e {}; do sleep 0.05; done; cat", gate.path().join("go").display());
    let mut worker = Worker::start(&hub, &["--exec", &exec]);
    let submitted = hub.run(&["submit", "k", "1"]);
    until("the job runs", || !worker.events("started").is_empty());
    worker.interrupt();
    until("the worker stops", || !worker.events("stopping").is_empty());
    hub.run(&["submit", "k", "2"]);
    fs::write(gate.path().join("go"), "").unwrap();
    assert_eq!(worker.wait(), Some(0));
    let job_id = submitted.stdout.split(' ').next().unwrap();
    assert_eq!((&hub.job(job_id)["status"], &hub.job(job_id)["result"]), (&json!("completed"), &json!(1)));
    assert_eq!(worker.events("started").len(), 1, "it took no other job");
}

#[test]
fn a_worker_that_is_asked_twice_kills_its_job_and_gives_it_back_uncharged() {
    let hub = Hub::start();
    let mut worker = Worker::start(&hub, &["--exec", "sleep 600"]);
    let submitted = hub.run(&["submit", "k", "1", "--max-attempts", "1"]);
    until("the job runs", || !worker.events("started").is_empty());
    worker.interrupt();
    until("the worker stops", || !worker.events("stopping").is_empty());
    worker.interrupt();
    assert_eq!(worker.wait(), Some(0));
    let job_id = submitted.stdout.split(' ').next().unwrap();
    assert_eq!(worker.events("released")[0]["job_id"], job_id);
    assert_eq!(worker.events("stopped")[0]["released"], 1);
    let job = hub.job(job_id);
    assert_eq!(
        (&job["attempts"][0]["outcome"], &job["attempts"][0]["reason"]),
        (&json!("revoked"), &json!("released"))
    );
    let _other = Worker::start(&hub, &["--exec", "cat"]);
    assert_eq!(hub.until_final(job_id)["result"], 1, "its only attempt is left");
}

#[test]
fn an_idle_worker_stops_at_once() {
    let hub = Hub::start();
    let mut worker = Worker::start(&hub, &["--concurrency", "4", "--exec", "cat"]);
    let asked = std::time::Instant::now();
    worker.interrupt();
    assert_eq!(worker.wait(), Some(0));
    assert!(asked.elapsed().as_secs() < 5, "its long polls of 30 s are left behind");
}

#[test]
fn submit_waits_for_room_in_a_full_queue() {
    let hub = Hub::start_with(&["--max-queue-depth", "5"]);
    let _worker = Worker::start(&hub, &["--exec", "cat"]);
    let lines: String = (1..=12).map(|n| format!("{n}\n")).collect();
    let run = submit_lines(&hub, &["k", "-", "--wait"], &lines);
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    let results: BTreeSet<_> = json_lines(&run.stdout).iter().map(|line| line["result"].as_u64().unwrap()).collect();
    assert_eq!(results.len(), 12);
    until("the full queue is in the audit log", || !hub.audit("BACKPRESSURE_DROP").is_empty());
}

#[test]
fn submitting_the_same_lines_twice_under_their_own_keys_does_nothing_twice() {
    let hub = Hub::start();
    let first = submit_lines(&hub, &["k", "-", "--key-from-line", "--json"], "1\n2\n");
    let second = submit_lines(&hub, &["k", "-", "--key-from-line", "--json"], "2\n1\n3\n");
    let ids = |run: &Run| json_lines(&run.stdout).iter().map(|line| line["job_id"].clone()).collect::<Vec<_>>();
    let (first, second) = (ids(&first), ids(&second));
    assert_eq!(&second[..2], &[first[1].clone(), first[0].clone()]);
    assert_eq!(hub.data().get("/mesh/jobs").ok()["jobs"].as_array().unwrap().len(), 3);
}

#[test]
fn a_line_that_is_not_json_is_refused_alone_and_by_its_number() {
    let hub = Hub::start();
    let run = submit_lines(&hub, &["k", "-"], "1\n\nhello\n3\n");
    assert_eq!(run.code, Some(1));
    assert!(run.stderr.contains("line 3: not JSON"), "{}", run.stderr);
    assert!(run.stderr.contains("2 submitted, 1 refused"), "{}", run.stderr);
}

#[test]
fn smoke_passes_on_a_fresh_hub_and_fails_without_one() {
    let mut hub = Hub::start_with(&["--node-ttl-sec", "2"]);
    let run = hub.run(&["smoke", "--json"]);
    assert_eq!(run.code, Some(0), "{}", run.stdout);
    let lines = json_lines(&run.stdout);
    let summary = lines.last().unwrap();
    assert_eq!((&summary["failed"], &summary["skipped"]), (&json!(0), &json!(0)), "{}", run.stdout);
    let letter = "a job that failed for good is a dead letter, and completes once it is requeued";
    assert!(lines.iter().any(|line| line["check"] == letter && line["outcome"] == "passed"), "{}", run.stdout);
    assert_eq!(hub.data().get("/mesh/dlq").ok()["total"], 0, "it leaves no letter");
    let depth = hub.data().get("/mesh/jobs?status=queued").ok()["jobs"].as_array().unwrap().len();
    assert_eq!(depth, 0, "it leaves nothing in the queue");
    hub.kill();
    let run = hub.run(&["smoke"]);
    assert_eq!(run.code, Some(1));
    assert!(run.stderr.contains("no hub answers") && run.stderr.contains("sheratan-hub serve"), "{}", run.stderr);
}

#[test]
fn smoke_says_that_a_hub_keeps_no_letters_and_fails_where_a_requeue_does_not_work() {
    let hub = Hub::start_with(&["--dlq-enabled", "0"]);
    let run = hub.run(&["smoke"]);
    assert_eq!(run.code, Some(0), "{}", run.stdout);
    assert!(run.stdout.contains("skipped: this hub keeps no dead letters"), "{}", run.stdout);

    let hub = Hub::start();
    let proxy = Proxy::to(hub.data);
    proxy.fail("/requeue", u64::MAX, Fault::Answer(404, r#"{"ok":false,"error":"unknown_path","status":404}"#));
    let (control, data) = (hub.control.to_string(), proxy.addr.to_string());
    let mut smoke = command(&["smoke", "--control", &control, "--data", &data]);
    let run = Run::from(smoke.env("SHERATAN_HUB_TOKEN", hub.token()).output().unwrap());
    assert_eq!(run.code, Some(1), "{}", run.stdout);
    assert!(run.stdout.contains("once it is requeued: the hub refused with 404 unknown_path"), "{}", run.stdout);
    assert_eq!(hub.data().get("/mesh/dlq").ok()["total"], 0, "it discards its letter");
}

#[test]
fn smoke_says_what_it_cannot_see_on_a_hub_with_a_long_node_ttl() {
    let hub = Hub::start();
    let run = hub.run(&["smoke"]);
    assert_eq!(run.code, Some(0), "{}", run.stdout);
    assert!(run.stdout.contains("node TTL is 120 s, start the hub with --node-ttl-sec 2 to see it"), "{}", run.stdout);
}

#[test]
fn smoke_does_not_fail_where_events_are_only_counted() {
    let hub = Hub::start();
    let mut intruder = Client::new(hub.control, None);
    for _ in 0..120 {
        assert_eq!(intruder.get("/mesh/jobs").status, 410);
    }
    let run = hub.run(&["smoke"]);
    assert_eq!(run.code, Some(0), "{}", run.stdout);
    for event in ["AUTH_FAILURE", "PORT_MISMATCH"] {
        let line = run.stdout.lines().find(|line| line.contains(event)).unwrap();
        assert!(line.contains("skipped: many requests without a token came from one address: until 2"), "{line}");
    }
}

/// A folder of small files.
fn folder(files: usize) -> TempDir {
    let folder = TempDir::new().unwrap();
    for number in 0..files {
        fs::write(folder.path().join(format!("file-{number:03}")), format!("{number}\n").repeat(number)).unwrap();
    }
    folder
}

/// Starts `demo` with a folder of its own for temporary files.
fn demo(folder: &Path, temp: &Path, args: &[&str]) -> std::process::Command {
    let mut command = command(&[&["demo", folder.to_str().unwrap()], args].concat());
    command.env("TMPDIR", temp).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

#[test]
fn the_demo_makes_a_result_of_each_file_and_leaves_nothing_behind() {
    let (folder, temp) = (folder(30), TempDir::new().unwrap());
    let run = Run::from(demo(folder.path(), temp.path(), &[]).output().unwrap());
    assert_eq!(run.code, Some(0), "{}{}", run.stdout, run.stderr);
    assert!(run.stdout.contains("… and 10 more"), "{}", run.stdout);
    assert!(run.stdout.contains("✓ 30 jobs are completed"), "{}", run.stdout);
    assert_eq!(fs::read_dir(temp.path()).unwrap().count(), 0);
}

#[test]
fn a_demo_whose_hub_is_killed_in_the_middle_gets_every_result_once() {
    let (folder, temp) = (folder(60), TempDir::new().unwrap());
    let run = Run::from(demo(folder.path(), temp.path(), &["--crash"]).output().unwrap());
    assert_eq!(run.code, Some(0), "{}{}", run.stdout, run.stderr);
    assert!(run.stdout.contains("the hub was killed after 20 of 60 results"), "{}", run.stdout);
    assert!(run.stdout.contains("✓ 60 jobs are completed"), "{}", run.stdout);
}

#[test]
fn an_interrupted_demo_stops_its_children_and_removes_its_folder() {
    let (folder, temp) = (folder(60), TempDir::new().unwrap());
    let mut child = demo(folder.path(), temp.path(), &["--crash"]).spawn().unwrap();
    until("the demo's workers are there", || children_of(child.id()).len() == 4);
    let children = children_of(child.id());
    let pid = rustix::process::Pid::from_raw(child.id() as i32).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(1));
    assert!(children.iter().all(|child| !is_running(*child)));
    assert_eq!(fs::read_dir(temp.path()).unwrap().count(), 0);
}

#[test]
fn the_children_of_a_demo_that_is_killed_end_with_it() {
    let (folder, temp) = (folder(60), TempDir::new().unwrap());
    let mut child = demo(folder.path(), temp.path(), &["--crash"]).spawn().unwrap();
    until("the demo's workers are there", || children_of(child.id()).len() == 4);
    let children = children_of(child.id());
    child.kill().unwrap();
    child.wait().unwrap();
    until("the children end", || children.iter().all(|child| !is_running(*child)));
}

/// The processes whose parent is this one.
fn children_of(parent: u32) -> Vec<u32> {
    let stats = fs::read_dir("/proc").unwrap().filter_map(|entry| {
        let pid: u32 = entry.ok()?.file_name().to_str()?.parse().ok()?;
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let fields: Vec<_> = stat.rsplit_once(')')?.1.split_whitespace().map(str::to_owned).collect();
        (fields[1].parse() == Ok(parent) && fields[0] != "Z").then_some(pid)
    });
    stats.collect()
}

fn is_running(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with('Z'))
}

#[test]
fn a_command_line_that_is_not_understood_has_exit_code_2() {
    for args in [&["worker"][..], &["submit"], &["submit", "k", "hello"], &["nonsense"], &["smoke", "--nonsense"]] {
        assert_eq!(hub::run(args).code, Some(2), "{args:?}");
    }
}
