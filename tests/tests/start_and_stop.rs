//! Starting, being refused to start, and stopping.
// The lists in `clippy.toml` are for the core.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use serde_json::{Value, json};
use sheratan_tests::client::result;
use sheratan_tests::{Hub, Run, command, run, until};
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::process::Stdio;
use tempfile::TempDir;

/// A start that must fail: one line on standard error, nothing left running.
#[track_caller]
fn refused(args: &[&str], variables: &[(&str, &str)]) -> String {
    let folder = TempDir::new().unwrap();
    let data_dir = folder.path().join("data");
    let mut hub = command(&["serve", "--control-addr", "127.0.0.1:0", "--data-addr", "127.0.0.1:0", "--data-dir"]);
    hub.arg(&data_dir).args(args).current_dir(folder.path()).envs(variables.iter().copied());
    let run = Run::from(hub.output().unwrap());
    assert!(matches!(run.code, Some(1 | 2)), "{run:?}");
    assert_eq!(run.stderr.trim_end().lines().count(), 1, "{}", run.stderr);
    assert_eq!(run.stdout, "");
    run.stderr
}

/// The same flag twice: the later one wins where the tool sets a first.
fn with(args: &[&str]) -> Vec<String> {
    args.iter().map(|arg| (*arg).to_owned()).collect()
}

#[test]
fn the_first_start_says_where_everything_is_and_what_to_do_next() {
    let folder = TempDir::new().unwrap();
    let data_dir = folder.path().join("data");
    let mut hub = command(&["serve", "--control-addr", "127.0.0.1:0", "--data-addr", "127.0.0.1:0", "--data-dir"]);
    let mut child = hub.arg(&data_dir).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = Vec::new();
    for line in BufReader::new(child.stderr.take().unwrap()).lines() {
        lines.push(line.unwrap());
        if lines.last().unwrap().contains("try next") {
            break;
        }
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let said = lines.join("\n");
    for word in ["control plane  http://127.0.0.1:", "data plane     http://127.0.0.1:", "sheratan-hub smoke"] {
        assert!(said.contains(word), "{said}");
    }
    assert!(said.contains(data_dir.join("secrets/hub_token").to_str().unwrap()), "{said}");
    assert!(!said.contains('\u{1b}'), "no colours in a pipe");
}

#[test]
fn a_taken_port_is_named_with_the_flag_that_chooses_another() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap().to_string();
    let folder = TempDir::new().unwrap();
    let run = run(&["serve", "--control-addr", &addr, "--data-dir", folder.path().to_str().unwrap()]);
    assert_eq!(run.code, Some(1));
    assert!(run.stderr.contains(&format!("the control plane cannot listen on {addr}: the port is taken")), "{run:?}");
    assert!(run.stderr.contains("--control-addr"));
}

#[test]
fn a_second_hub_on_the_same_folder_is_refused_with_the_first_ones_process() {
    let hub = Hub::start();
    let folder = hub.folder().to_str().unwrap();
    let run = run(&["serve", "--control-addr", "127.0.0.1:0", "--data-addr", "127.0.0.1:0", "--data-dir", folder]);
    assert_eq!(run.code, Some(1));
    assert!(run.stderr.contains(&hub.pid().to_string()) && run.stderr.contains(folder), "{run:?}");
    assert_eq!(hub.data().get("/readyz").status, 200, "the first goes on");
}

#[test]
fn settings_that_are_not_understood_are_refused_in_one_line() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("hub.toml");
    std::fs::write(&file, "max_queue_dept = 5\n").unwrap();
    let message = refused(&["--config", file.to_str().unwrap()], &[]);
    assert!(message.contains("max_queue_dept") && message.contains("did you mean max_queue_depth?"), "{message}");
    let message = refused(&["--node-ttl-sec", "soon"], &[]);
    assert!(message.contains("--node-ttl-sec must be a whole number from 1 to"), "{message}");
    let message = refused(&["--config", "nowhere.toml"], &[]);
    assert!(message.contains("nowhere.toml cannot be read"), "{message}");
    let message = refused(&[], &[("SHERATAN_HUB_TOKEN_NEXT", "0123456789abcdef0123")]);
    assert!(message.contains("set hub_token_rotation_until") && !message.contains("0123456789"), "{message}");
}

#[test]
fn an_address_that_others_reach_needs_a_token() {
    let folder = TempDir::new().unwrap();
    let data_dir = folder.path().to_str().unwrap();
    let args = with(&["serve", "--control-addr", "127.0.0.1:0", "--data-addr", "0.0.0.0:0", "--data-dir", data_dir]);
    let run = Run::from(command(&args).output().unwrap());
    assert_eq!(run.code, Some(2), "{run:?}");
    assert!(run.stderr.contains("is not a loopback address: set a token of at least 16 bytes"), "{run:?}");
}

#[test]
fn a_data_folder_that_cannot_be_made_is_named() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    let run = run(&[
        "serve",
        "--control-addr",
        "127.0.0.1:0",
        "--data-addr",
        "127.0.0.1:0",
        "--data-dir",
        file.to_str().unwrap(),
    ]);
    assert_eq!(run.code, Some(1));
    assert!(run.stderr.contains(file.to_str().unwrap()), "{run:?}");
}

#[test]
fn hub_toml_in_the_working_folder_is_read() {
    let folder = TempDir::new().unwrap();
    std::fs::write(folder.path().join("hub.toml"), "max_queue_depth = 7\n").unwrap();
    let run = Run::from(command(&["config", "--json"]).current_dir(folder.path()).output().unwrap());
    let settings: Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!(settings["max_queue_depth"], json!({"value": "7", "source": "hub.toml"}));
    assert_eq!(settings["node_ttl_sec"], json!({"value": "120", "source": "default"}));
}

#[test]
fn a_stop_answers_what_is_in_flight_and_leaves_a_snapshot() {
    let mut hub = Hub::start();
    let mut data = hub.data();
    data.post("/mesh/submit_request", &json!({"kind": "k"})).ok();
    let mut node = hub.data();
    node.send_request(
        "POST",
        "/mesh/pull_requests",
        Some(&json!({"node_id": "n", "wait_ms": 60_000, "kinds": ["other"]})),
    )
    .unwrap();
    // A later request is answered, so the long poll has arrived.
    data.post("/mesh/submit_request", &json!({"kind": "k"})).ok();
    hub.terminate();
    let answer = node.receive().unwrap();
    assert!(answer.status == 200 && answer.json()["jobs"] == json!([]), "{answer:?}");
    // It is not asked again: that would end it at once.
    let mut ended = None;
    until("the hub has ended", || {
        ended = hub.exited();
        ended.is_some()
    });
    assert_eq!(ended.and_then(|status| status.code()), Some(0));
    assert!(!hub.folder().join("hub.addr").exists());
    let snapshots = std::fs::read_dir(hub.folder().join("snapshots")).unwrap().count();
    assert_eq!(snapshots, 1);
    hub.restart();
    let recovered = || {
        let log = hub.log();
        // The hub may be writing the last line.
        let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.filter(|line| line["message"] == "recovered").collect::<Vec<_>>()
    };
    until("the log reports both starts", || recovered().len() == 2);
    let recovered = &recovered()[1];
    assert_eq!((&recovered["records"], &recovered["jobs"]), (&json!(0), &json!(2)), "from the snapshot alone");
}

#[test]
fn logs_are_json_lines_and_rotate_by_size() {
    let mut hub = Hub::start_with(&["--log-file-bytes", "4096", "--log-files-kept", "2"]);
    let logs = hub.folder().join("logs");
    for _ in 0..30 {
        hub.stop();
        hub.restart();
    }
    // The last lines are written when it has ended.
    hub.stop();
    let names = std::fs::read_dir(&logs).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut older: Vec<u64> = names.filter_map(|name| name.strip_prefix("hub.jsonl.")?.parse().ok()).collect();
    older.sort_unstable();
    assert_eq!(older.len(), 2, "{older:?}");
    assert!(older[0] > 1 && older[1] == older[0] + 1, "the latest of the older ones stay: {older:?}");
    for name in ["hub.jsonl".to_owned(), format!("hub.jsonl.{}", older[0]), format!("hub.jsonl.{}", older[1])] {
        let text = std::fs::read_to_string(logs.join(&name)).unwrap();
        assert!(text.len() <= 4096, "{name}");
        for line in text.lines() {
            let line: Value = serde_json::from_str(line).unwrap();
            assert!(line["level"].is_string() && line["timestamp"].is_string() && line["message"].is_string());
        }
    }
}

#[test]
fn the_audit_log_is_paged_over_the_api_and_its_chain_continues_over_a_restart() {
    let mut hub = Hub::start();
    let wrong = |hub: &Hub| sheratan_tests::Client::new(hub.control, Some("wrong".into())).get("/api/registry").status;
    assert_eq!(wrong(&hub), 403);
    hub.stop();
    hub.restart();
    assert_eq!(wrong(&hub), 403);
    until("both are in the audit log", || hub.audit("AUTH_FAILURE").len() == 2);
    let lines = hub.audit("AUTH_FAILURE");
    assert_eq!((&lines[0]["seq"], &lines[1]["seq"]), (&json!(1), &json!(2)));
    assert_eq!(lines[0]["prev"], "0".repeat(64));
    assert_ne!(lines[1]["prev"], lines[0]["prev"]);
    let page = hub.control().get("/api/audit?after=1&limit=5").ok();
    assert_eq!(page["events"], json!([lines[1]]));
}

#[test]
fn a_client_that_hangs_up_during_a_long_poll_gets_no_job() {
    let hub = Hub::start();
    let mut gone = hub.data();
    gone.send_request("POST", "/mesh/pull_requests", Some(&json!({"node_id": "gone", "wait_ms": 60_000}))).unwrap();
    gone.stream().shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(gone.receive().unwrap().ok()["jobs"], json!([]), "who closed for writing only is answered");
    let mut data = hub.data();
    data.post("/mesh/submit_request", &json!({"kind": "k"})).ok();
    let jobs = data.post("/mesh/pull_requests", &json!({"node_id": "here"})).ok();
    data.post("/mesh/submit_result", &result(&jobs["jobs"][0], "here", &json!(1))).ok();
}

#[test]
#[cfg(unix)]
fn the_logs_level_is_reloaded_on_sighup_and_a_wrong_one_changes_nothing() {
    let place = TempDir::new().unwrap();
    let settings = place.path().join("hub.toml");
    let set = |text: &str| std::fs::write(&settings, text).unwrap();
    set("log_level = \"warn\"");
    let hub = Hub::start_with(&["--config", settings.to_str().unwrap()]);
    let hang_up = |expected: &str| {
        let pid = rustix::process::Pid::from_raw(hub.pid() as i32).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::HUP).unwrap();
        until("the log says so", || hub.said().contains(expected));
    };
    assert!(!hub.said().contains("listening"), "{}", hub.said());
    set("log_level = \"info\"");
    hang_up("the log's level was read again log_level=\"info\"");
    set("log_level = \"loud\"");
    hang_up("everything stays as it was");
    set("log_level = \"info\"\nmax_queue_depth = 1");
    hang_up("the alert rules were read again");
}
