//! A hub that recovers: what it answers meanwhile, and that early connections are kept.
//!
//! A named pipe in place of the newest snapshot blocks the recovery until the test opens the pipe's other end.
#![cfg(unix)]
// The lists in `clippy.toml` are for the core.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use rustix::fs::{CWD, FileType, Mode, mknodat};
use serde_json::json;
use sheratan_tests::{Client, Hub, until};
use std::fs::{self, OpenOptions};
use std::path::PathBuf;
use std::thread;

/// A hub that was killed with some jobs in its journal and is blocked in its recovery, and the pipe that it reads.
fn recovering(args: &[&str]) -> (Hub, PathBuf) {
    let mut hub = Hub::start_with(args);
    let mut data = hub.data();
    for _ in 0..3 {
        data.post("/mesh/submit_request", &json!({"kind": "k"})).ok();
    }
    hub.kill();
    let pipe = hub.folder().join("snapshots/snapshot-00000001000000000000.snap");
    mknodat(CWD, &pipe, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    hub.begin_restart();
    (hub, pipe)
}

/// Unblocks the recovery: it reads an empty snapshot.
fn unblock(hub: &Hub, pipe: &PathBuf) {
    drop(OpenOptions::new().write(true).open(pipe).unwrap());
    until("the hub is ready", || {
        hub.control().try_request("GET", "/readyz", None).is_ok_and(|reply| reply.status == 200)
    });
}

#[test]
fn a_recovering_hub_says_so_and_then_serves() {
    let (hub, pipe) = recovering(&[]);
    for (mut client, method, path) in [
        (hub.control(), "GET", "/readyz"),
        (hub.data(), "GET", "/readyz"),
        (hub.data(), "POST", "/mesh/submit_request"),
        (hub.control(), "GET", "/api/registry"),
    ] {
        let reply =
            client.try_request(method, path, (method == "POST").then(|| json!({"kind": "k"})).as_ref()).unwrap();
        assert_eq!((reply.status, reply.error().as_str()), (503, "not_ready"), "{path}");
        assert_eq!((reply.header("retry-after"), reply.header("connection")), (Some("1"), Some("close")));
        assert!(reply.json()["detail"].as_str().unwrap().contains("the hub is recovering"), "{reply:?}");
    }
    for addr in [hub.control, hub.data] {
        assert_eq!(Client::new(addr, None).get("/livez").ok()["status"], "alive");
        assert_eq!(Client::new(addr, None).get("/health").ok()["status"], "ok");
    }
    let gone = Client::new(hub.data, None).get("/api/registry");
    assert_eq!((gone.status, &gone.json()["expected_port"]), (410, &json!(hub.control.port())));
    let smoke = hub.run(&["smoke"]);
    assert_eq!(smoke.code, Some(1));
    assert!((smoke.stdout + &smoke.stderr).contains("the hub is recovering"));

    unblock(&hub, &pipe);
    assert_eq!(
        hub.data().get("/mesh/jobs").ok()["jobs"].as_array().unwrap().len(),
        3,
        "nothing was submitted meanwhile"
    );
    assert!(pipe.with_extension("bad").exists(), "the snapshot that cannot be read is set aside");
    until("who asked the wrong plane is in the audit log", || hub.audit("PORT_MISMATCH").len() == 1);
    until("the log says why", || hub.log().contains("the file ends before its header"));
}

#[test]
fn a_recovering_hub_needs_the_token_where_it_needs_it_afterwards() {
    let (hub, pipe) = recovering(&[]);
    let asked = || {
        let paths = [(hub.control, "/health"), (hub.data, "/health"), (hub.data, "/mesh/jobs"), (hub.data, "/nowhere")];
        let ask = |token: Option<&str>| {
            paths.map(|(addr, path)| {
                let status = Client::new(addr, token.map(str::to_owned)).get(path).status;
                // With the token, what is there differs: it is the recovery that does not show it yet.
                if status == 403 { "refused" } else { "admitted" }
            })
        };
        (ask(None), ask(Some("wrong")), ask(Some(&hub.token())))
    };
    let during = asked();
    assert_eq!(during, (["admitted", "admitted", "refused", "refused"], ["refused"; 4], ["admitted"; 4]));
    unblock(&hub, &pipe);
    assert_eq!(asked(), during);
    until("the refusals of both are in the audit log", || hub.audit("AUTH_FAILURE").len() == 12);
}

#[test]
fn a_connection_opened_during_the_recovery_is_served_when_the_hub_is_ready() {
    let (hub, pipe) = recovering(&[]);
    let (mut silent, mut halfway) = (hub.data(), hub.data());
    silent.send(b"\r\n").unwrap();
    let head = format!("GET /mesh/jobs HTTP/1.1\r\nHost: h\r\nX-Sheratan-Token: {}\r\n", hub.token());
    halfway.send(head.as_bytes()).unwrap();
    // A later connection was answered, so both have arrived.
    assert_eq!(hub.data().get("/readyz").status, 503);
    unblock(&hub, &pipe);
    halfway.send(b"\r\n").unwrap();
    assert_eq!(halfway.receive().unwrap().ok()["jobs"].as_array().unwrap().len(), 3);
    assert_eq!(silent.get("/mesh/jobs").status, 200);
    assert_eq!(silent.get("/mesh/jobs").status, 200, "it stays open");
}

#[test]
fn requests_during_the_handover_from_the_recovery_are_answered() {
    let (hub, pipe) = recovering(&[]);
    let ask = |addr| {
        let mut statuses = Vec::new();
        while statuses.last() != Some(&200) {
            let reply = Client::new(addr, None).try_request("GET", "/readyz", None);
            statuses.push(reply.expect("an answer, and no reset").status);
        }
        statuses
    };
    let askers: Vec<_> = (0..8).map(|n| if n % 2 == 0 { hub.control } else { hub.data }).collect();
    let askers: Vec<_> = askers.into_iter().map(|addr| thread::spawn(move || ask(addr))).collect();
    assert_eq!(hub.data().get("/readyz").status, 503);
    unblock(&hub, &pipe);
    for asker in askers {
        let statuses = asker.join().unwrap();
        assert!(statuses.iter().all(|status| [200, 503].contains(status)), "{statuses:?}");
    }
}

#[test]
fn connections_beyond_the_limit_wait_during_a_recovery_too() {
    let (hub, pipe) = recovering(&["--max-connections", "2"]);
    let mut held: Vec<_> = (0..2).map(|_| Client::new(hub.data, None)).collect();
    held.iter_mut().for_each(|client| client.send(b"GET /readyz HTTP/1.1\r\n").unwrap());
    let mut waiting = Client::new(hub.data, None);
    waiting.send(b"GET /readyz HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    held[0].send(b"Host: h\r\n\r\n").unwrap();
    assert_eq!(held[0].receive().unwrap().status, 503);
    held.pop();
    assert_eq!(waiting.receive().unwrap().status, 503);
    drop((held, waiting));
    unblock(&hub, &pipe);
}

#[test]
fn a_hub_that_cannot_start_leaves_no_address_behind() {
    let (mut hub, pipe) = recovering(&[]);
    let segments = fs::read_dir(hub.folder().join("journal")).unwrap().map(|entry| entry.unwrap().path());
    let segment = segments.filter(|path| path.extension().is_some_and(|end| end == "seg")).min().unwrap();
    let mut bytes = fs::read(&segment).unwrap();
    // The first record, after the header's block and before other records.
    bytes[4_096 + 30] ^= 1;
    fs::write(&segment, bytes).unwrap();
    drop(OpenOptions::new().write(true).open(pipe).unwrap());
    until("the start has failed", || hub.exited().is_some());
    assert_eq!(hub.exited().unwrap().code(), Some(1));
    assert!(!hub.folder().join("hub.addr").exists());
}
