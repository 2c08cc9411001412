//! The audit log as an operator reads it: `audit verify`, `tail` and `query` beside a running hub and on a log of its
//! own.
#![cfg(unix)]
// The lists in `clippy.toml` are for the core.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use sheratan_tests::{Client, Hub, Run, command, run, until};
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, channel};
use tempfile::TempDir;

/// Asks the control plane for a path of the data plane: each time a line of the audit log.
fn mismatch(hub: &Hub, times: usize) {
    let mut control = Client::new(hub.control, None);
    for _ in 0..times {
        assert_eq!(control.get("/mesh/jobs").status, 410);
    }
}

fn log(hub: &Hub) -> PathBuf {
    hub.folder().join("logs/hub_security_audit.jsonl")
}

fn json_lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

fn json_of(run: &Run) -> Value {
    serde_json::from_str(&run.stdout).unwrap_or_else(|error| panic!("{error}: {}{}", run.stdout, run.stderr))
}

/// A hub whose audit log has `mismatches` lines about wrong ports, in several files.
fn hub_with(mismatches: usize) -> Hub {
    let hub = Hub::start_with(&["--audit-file-bytes", "4KiB"]);
    mismatch(&hub, mismatches);
    until("all are in the log", || {
        json_of(&hub.run(&["audit", "query", "--count", "--json"]))["PORT_MISMATCH"] == mismatches
    });
    hub
}

/// `audit tail -f` as a process.
struct Tail {
    child: Child,
    lines: Receiver<String>,
    seen: Vec<String>,
}

impl Tail {
    fn start(hub: &Hub, args: &[&str]) -> Tail {
        let folder = hub.folder().to_str().expect("a temporary folder's path is text");
        let mut command = command(&[&["audit", "tail", "-f", "--data-dir", folder], args].concat());
        let mut child = command.stdout(Stdio::piped()).spawn().expect("the binary starts");
        let stdout = BufReader::new(child.stdout.take().expect("it is a pipe"));
        let (sender, lines) = channel();
        std::thread::spawn(move || stdout.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Tail { child, lines, seen: Vec::new() }
    }

    fn await_lines(&mut self, count: usize) {
        until("the lines are shown", || {
            self.seen.extend(self.lines.try_iter());
            self.seen.len() >= count
        });
    }

    fn interrupt(&mut self) -> Option<i32> {
        let pid = Pid::from_raw(self.child.id() as i32).expect("a process has a number");
        kill_process(pid, Signal::INT).expect("it runs");
        until("it ends", || self.child.try_wait().expect("it was started here").is_some());
        self.child.wait().expect("it was started here").code()
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        // It may have ended before; what matters is that it is not left behind.
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

#[test]
fn verify_says_what_the_chain_holds_and_names_the_first_line_that_is_broken() {
    let mut hub = hub_with(60);
    let run = hub.run(&["audit", "verify"]);
    assert_eq!(run.code, Some(0), "{}{}", run.stdout, run.stderr);
    assert!(run.stdout.contains("the chain holds: seq 1 to 60; lines 60, torn lines 0"), "{}", run.stdout);
    assert!(hub.stop().success());
    let older = log(&hub).with_extension("jsonl.2");
    let mut bytes = fs::read(&older).unwrap();
    let third_start = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'\n').nth(1).unwrap().0 + 1;
    // A byte of the third line's path: the line is still JSON, and the fourth has the hash of the original.
    let at = third_start + bytes[third_start..].windows(5).position(|text| text == b"/mesh").unwrap() + 1;
    bytes[at] = b'M';
    fs::write(&older, bytes).unwrap();
    let run = hub.run(&["audit", "verify"]);
    assert_eq!(run.code, Some(1));
    let expected = "broken at ".to_owned() + older.to_str().unwrap() + " line 4: the line before it is not the one";
    assert!(run.stdout.contains(&expected), "{}", run.stdout);
    let run = hub.run(&["audit", "verify", "--json"]);
    let found = json_of(&run);
    assert_eq!((run.code, &found["ok"], &found["line"]), (Some(1), &json!(false), &json!(4)));
    assert_eq!(found["file"], older.to_str().unwrap());
}

#[test]
fn verify_holds_beside_a_hub_that_writes_and_rotates() {
    let hub = hub_with(20);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| mismatch(&hub, 80));
        while !writer.is_finished() {
            let run = hub.run(&["audit", "verify", "--json"]);
            assert_eq!(run.code, Some(0), "{}", run.stdout);
        }
    });
}

#[test]
fn tail_shows_the_last_lines_and_follows_the_log_over_rotations_until_it_is_interrupted() {
    let hub = hub_with(30);
    let run = hub.run(&["audit", "tail", "-n", "25", "--json"]);
    let lines = json_lines(&run.stdout);
    assert_eq!((run.code, lines.len()), (Some(0), 25));
    assert!(fs::read_to_string(log(&hub)).unwrap().lines().count() < 25, "they are from two files");
    let mut tail = Tail::start(&hub, &["-n", "25", "--json"]);
    tail.await_lines(25);
    mismatch(&hub, 60);
    tail.await_lines(85);
    assert_eq!(tail.interrupt(), Some(0));
    let seqs: Vec<_> = json_lines(&tail.seen.join("\n")).iter().map(|line| line["seq"].as_u64().unwrap()).collect();
    assert_eq!(seqs, (6..=90).collect::<Vec<_>>());
}

#[test]
fn lines_are_shown_for_a_person_without_colours_in_a_pipe() {
    let hub = hub_with(2);
    let run = hub.run(&["audit", "tail"]);
    let line = run.stdout.lines().next().unwrap();
    let (time, rest) = line.split_once("  ").unwrap();
    assert!(time.len() == 24 && time.ends_with('Z'), "{line}");
    let (control, data) = (hub.control.port(), hub.data.port());
    assert_eq!(rest, format!("PORT_MISMATCH expected={data} ip=127.0.0.1 path=/mesh/jobs port={control}"));
}

#[test]
fn query_finds_lines_by_event_node_address_and_time_in_all_files() {
    let hub = hub_with(40);
    let heartbeat = |node: &str| hub.control().post("/mesh/heartbeat", &json!({"node_id": node})).ok();
    heartbeat("node-a");
    heartbeat("node-b");
    assert_eq!(Client::new(hub.control, None).get("/api/registry").status, 403);
    let query = |args: &[&str]| hub.run(&[&["audit", "query", "--json"], args].concat());
    let count = |args: &[&str]| json_lines(&query(args).stdout).len();
    until("all are in the log", || count(&[]) == 43);
    let table: [(&[&str], usize); 9] = [
        (&["--event", "PORT_MISMATCH"], 40),
        (&["--event", "AUTH_FAILURE,NODE_*"], 3),
        (&["--event", "NO_SUCH_EVENT"], 0),
        (&["--node", "node-b"], 1),
        (&["--ip", "127.0.0.1"], 41),
        (&["--since", "1h"], 43),
        (&["--until", "1h"], 0),
        (&["--since", "2026-01-15T20:52:03Z", "--until", "9999-01-01T00:00:00Z"], 43),
        (&["--event", "PORT_*", "--limit", "7"], 7),
    ];
    for (args, expected) in table {
        assert_eq!(count(args), expected, "{args:?}");
    }
    let whole = query(&[]).stdout;
    let seqs: Vec<_> = json_lines(&whole).iter().map(|line| line["seq"].as_u64().unwrap()).collect();
    assert_eq!(seqs, (1..=43).collect::<Vec<_>>(), "the oldest first");
    assert!(whole.ends_with(&fs::read_to_string(log(&hub)).unwrap()), "lines are printed as they are");
}

#[test]
fn a_line_that_stands_for_many_events_counts_as_many() {
    let mut hub = Hub::start();
    mismatch(&hub, 150);
    assert!(hub.stop().success());
    let run = hub.run(&["audit", "query", "--count"]);
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    assert_eq!(run.stdout.split_whitespace().collect::<Vec<_>>(), ["PORT_MISMATCH", "150"]);
    assert!(fs::read_to_string(log(&hub)).unwrap().lines().count() < 150);
}

#[test]
fn a_log_elsewhere_is_read_and_one_that_is_not_there_is_an_error_with_what_to_do() {
    let mut hub = hub_with(50);
    assert!(hub.stop().success());
    let copy = TempDir::new().unwrap();
    for entry in fs::read_dir(log(&hub).parent().unwrap()).unwrap() {
        let path = entry.unwrap().path();
        if path.to_str().unwrap().contains("audit") {
            let name = path.file_name().unwrap().to_str().unwrap().replace("hub_security_audit", "copy");
            fs::copy(&path, copy.path().join(name)).unwrap();
        }
    }
    let copy = copy.path().join("copy.jsonl");
    let found = json_of(&run(&["audit", "verify", "--json", "--file", copy.to_str().unwrap()]));
    assert_eq!((&found["lines"], &found["first_seq"], &found["last_seq"]), (&json!(50), &json!(1), &json!(50)));
    // The oldest files are no longer there.
    fs::remove_file(copy.with_extension("jsonl.1")).unwrap();
    let verified = run(&["audit", "verify", "--file", copy.to_str().unwrap()]);
    assert_eq!(verified.code, Some(0));
    assert!(verified.stdout.contains("in files that are not here any more"), "{}", verified.stdout);
    for what in ["verify", "tail", "query"] {
        let missing = run(&["audit", what, "--file", "/nothing/here.jsonl"]);
        assert_eq!((missing.code, &*missing.stdout), (Some(1), ""), "{what}");
        assert!(missing.stderr.contains("no audit log at /nothing/here.jsonl"), "{}", missing.stderr);
        assert!(missing.stderr.contains("--data-dir"), "{}", missing.stderr);
    }
}

#[test]
fn invalid_arguments_are_refused_with_what_is_valid() {
    let table: [(&[&str], &str); 3] = [
        (&["query", "--since", "yesterday"], "RFC 3339 instant such as 2026-01-15T20:52:03Z, or how long ago"),
        (&["query", "--ip", "hub.lan"], "invalid IP address"),
        (&["query", "--count", "--limit", "3"], "cannot be used with"),
    ];
    for (args, expected) in table {
        let run = run(&[&["audit"], args].concat());
        assert_eq!(run.code, Some(2), "{args:?}");
        assert!(run.stderr.contains(expected), "{}", run.stderr);
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_write_that_fails_in_the_middle_leaves_the_chain_whole() {
    use rustix::process::{Resource, Rlimit, prlimit};
    let mut hub = Hub::start();
    // So many that the hub's own log, which is shorter, stays below the limit when this one reaches it.
    mismatch(&hub, 30);
    until("they are in the log", || hub.audit("PORT_MISMATCH").len() == 30);
    let limit = |bytes| {
        let pid = Pid::from_raw(hub.pid() as i32).unwrap();
        prlimit(Some(pid), Resource::Fsize, Rlimit { current: bytes, maximum: None }).unwrap()
    };
    let bytes = fs::metadata(log(&hub)).unwrap().len();
    limit(Some(bytes + 1_000));
    mismatch(&hub, 40);
    until("a write has failed", || hub.log().contains("the audit log cannot be written"));
    let count = || json_of(&hub.run(&["audit", "query", "--count", "--json"]))["PORT_MISMATCH"].as_u64().unwrap();
    assert!((30..35).contains(&count()), "the rest waits");
    limit(None);
    until("all are in the log", || count() == 70);
    assert!(hub.stop().success());
    let found = json_of(&hub.run(&["audit", "verify", "--json"]));
    assert_eq!((&found["lines"], &found["torn_lines"]), (&json!(70), &json!(0)), "{found}");
}
