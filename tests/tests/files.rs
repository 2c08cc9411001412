//! What the hub writes besides its journal: the audit log and the logs, when their files may not grow and when the hub
//! is killed.
#![cfg(target_os = "linux")]
// The lists in `clippy.toml` are for the core.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, prlimit};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use sheratan_tests::{Client, Hub, Options, Run, command, until};
use std::fs;
use std::path::Path;
use tempfile::TempDir;

fn pid(hub: &Hub) -> Pid {
    Pid::from_raw(hub.pid() as i32).unwrap()
}

/// Limits the size of the files that a running hub may write.
fn limit_files(hub: &Hub, bytes: Option<u64>) {
    prlimit(Some(pid(hub)), Resource::Fsize, Rlimit { current: bytes, maximum: None }).unwrap();
}

/// Asks the control plane for a path of the data plane: each time a line of the audit log.
fn mismatch(hub: &Hub, times: u64) {
    let mut control = Client::new(hub.control, None);
    for _ in 0..times {
        assert_eq!(control.get("/mesh/jobs").status, 410);
    }
}

/// All lines of the audit log, complete or not, the oldest first. Repeated if the hub rotated the log meanwhile.
fn audit_lines(folder: &Path) -> Vec<String> {
    let name = "hub_security_audit.jsonl";
    let logs = folder.join("logs");
    let older = || {
        let names = fs::read_dir(&logs).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let number = |file: &String| file.strip_prefix(name)?.strip_prefix('.')?.parse::<u64>().ok();
        let mut older: Vec<_> = names.filter_map(|file| Some((number(&file)?, file))).collect();
        older.sort();
        older
    };
    loop {
        let before = older();
        let files = before.iter().map(|(_, file)| file.as_str()).chain([name]);
        let texts: Result<String, _> = files.map(|file| fs::read_to_string(logs.join(file))).collect();
        match texts {
            Ok(text) if older() == before => return text.lines().map(str::to_owned).collect(),
            // Between a rotation's rename and the new file.
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => panic!("{error}"),
            _ => {}
        }
    }
}

/// The events of a log whose chain holds; panics if it does not.
fn checked_events(folder: &Path) -> Vec<Value> {
    let mut prev = "0".repeat(64);
    let mut seq = 1;
    let mut events = Vec::new();
    for line in audit_lines(folder) {
        if let Ok(value) = serde_json::from_str::<Value>(&line) {
            assert_eq!((value["seq"].as_u64(), value["prev"].as_str()), (Some(seq), Some(&*prev)), "{line}");
            seq += 1;
            events.push(value);
        }
        prev = Sha256::digest(line.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
    }
    events
}

fn count(events: &[Value]) -> u64 {
    let mismatches = events.iter().filter(|event| event["event"] == "PORT_MISMATCH");
    mismatches.map(|event| event["details"]["count"].as_u64().unwrap_or(1)).sum()
}

#[test]
fn a_hub_whose_files_may_not_grow_stays_up_refuses_changes_and_recovers() {
    let mut hub = Hub::start();
    let mut data = hub.data();
    let submit = json!({"kind": "k", "params": 1});
    assert_eq!(data.post("/mesh/submit_request", &submit).status, 200);
    mismatch(&hub, 3);
    limit_files(&hub, Some(0));
    mismatch(&hub, 20);
    let refused = data.post("/mesh/submit_request", &submit);
    assert_eq!((refused.status, &*refused.error()), (503, "journal_unavailable"));
    assert_eq!(data.get("/livez").status, 200);
    limit_files(&hub, None);
    until("it takes submits again", || data.post("/mesh/submit_request", &submit).status == 200);
    until("the audit log has what happened meanwhile", || count(&hub.audit("PORT_MISMATCH")) == 23);
    assert!(hub.stop().success());
    assert_eq!(count(&checked_events(hub.folder())), 23);
}

#[test]
fn the_audit_log_is_one_chain_over_kills_rotations_and_a_line_that_is_not_whole() {
    let mut hub = Hub::start_with(&["--audit-file-bytes", "4KiB"]);
    let mut expected = 0;
    for round in 0..3 {
        mismatch(&hub, 30);
        expected += 30;
        until("all are in the log", || count(&checked_events(hub.folder())) == expected);
        hub.kill();
        let path = hub.folder().join("logs/hub_security_audit.jsonl");
        let text = fs::read_to_string(&path).unwrap();
        // As after a power cut: half of a line that was being written.
        fs::write(&path, format!("{text}{}", &text.lines().next().unwrap()[..40 + round])).unwrap();
        hub.restart();
    }
    mismatch(&hub, 1);
    until("the last one is in the log", || count(&checked_events(hub.folder())) == expected + 1);
    let events = checked_events(hub.folder());
    assert_eq!(events.iter().filter(|event| event["event"] == "AUDIT_LINE_TORN").count(), 3);
    let page = hub.control().get("/api/audit?after=1&limit=1000").ok();
    assert_eq!(page["events"].as_array().unwrap()[..], events[1..]);
}

#[test]
fn a_hub_keeps_running_when_its_log_files_are_moved_away() {
    let hub = Hub::start_with(&["--audit-file-bytes", "4KiB"]);
    mismatch(&hub, 1);
    until("there is a log", || count(&hub.audit("PORT_MISMATCH")) == 1);
    fs::remove_dir_all(hub.folder().join("logs")).unwrap();
    // Until the moved file is full, lines are written to it.
    mismatch(&hub, 60);
    until("there is a log again", || !hub.audit("PORT_MISMATCH").is_empty());
    assert_eq!(hub.control().get("/api/audit?limit=1").status, 200);
}

#[test]
fn sighup_does_not_stop_a_hub() {
    let mut hub = Hub::start();
    kill_process(pid(&hub), Signal::HUP).unwrap();
    until("the log reports it", || hub.log().contains("SIGHUP"));
    assert_eq!(hub.data().get("/readyz").status, 200);
    assert!(hub.stop().success());
}

/// A data folder whose log of that name is a named pipe that nobody reads, or a folder.
fn folder_with_log(name: &str, is_pipe: bool) -> TempDir {
    let folder = TempDir::new().unwrap();
    let logs = folder.path().join("logs");
    fs::create_dir(&logs).unwrap();
    if is_pipe {
        mknodat(CWD, logs.join(name), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    } else {
        fs::create_dir(logs.join(name)).unwrap();
    }
    folder
}

#[test]
fn a_log_file_that_cannot_be_written_does_not_keep_a_hub_from_starting() {
    for is_pipe in [true, false] {
        let folder = folder_with_log("hub.jsonl", is_pipe);
        let log = folder.path().join("logs").join("hub.jsonl");
        let mut hub = Hub::start_in(folder, Options::default());
        hub.data().post("/mesh/submit_request", &json!({"kind": "k"})).ok();
        until("the terminal says which file it is", || {
            hub.said().contains(&format!("WARN the log file {} cannot be written: ", log.display()))
        });
        // It is tried again when something is to be logged.
        let removed = if is_pipe { fs::remove_file(&log) } else { fs::remove_dir(&log) };
        removed.unwrap();
        until("the file is written", || {
            hub.reload();
            fs::metadata(&log).is_ok_and(|file| file.len() > 0)
        });
        assert!(hub.stop().success());
    }
}

#[test]
fn an_audit_log_that_is_a_named_pipe_is_refused() {
    let folder = folder_with_log("hub_security_audit.jsonl", true);
    let mut hub = command(&["serve", "--control-addr", "127.0.0.1:0", "--data-addr", "127.0.0.1:0", "--data-dir"]);
    let run = Run::from(hub.arg(folder.path()).output().unwrap());
    assert_eq!(run.code, Some(1), "{run:?}");
    assert!(run.stderr.contains("it is a named pipe, which no log is written to"), "{run:?}");
}
