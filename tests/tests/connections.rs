//! Many connections, idle and slow, and how they affect the others.
// The lists in `clippy.toml` are for the core.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use serde_json::json;
use sheratan_tests::client::result;
#[cfg(target_os = "linux")]
use sheratan_tests::tools::skipped;
use sheratan_tests::{Client, Hub};
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

const IDLE: usize = 10_000;

/// What the connections, the hub's own files and the tests' need in each process.
const FILES: u64 = IDLE as u64 + 200;

fn connect(addr: SocketAddr) -> TcpStream {
    TcpStream::connect(addr).expect("the hub accepts")
}

fn lifecycle(data: &mut Client, node: &str) {
    data.post("/mesh/submit_request", &json!({"kind": node})).ok();
    let jobs = data.post("/mesh/pull_requests", &json!({"node_id": node, "kinds": [node]})).ok();
    data.post("/mesh/submit_result", &result(&jobs["jobs"][0], node, &json!(1))).ok();
}

/// Resident memory of a process in KiB.
#[cfg(target_os = "linux")]
fn resident_kib(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[cfg(target_os = "linux")]
#[test]
fn ten_thousand_idle_connections_and_a_slow_loris_do_not_slow_other_clients() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if limit.maximum.is_some_and(|maximum| maximum < FILES) {
        return skipped(&format!("{FILES} open files are needed, and the hard limit is {:?}", limit.maximum));
    }
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }).unwrap();
    let hub = Hub::start();
    let mut data = hub.data();
    lifecycle(&mut data, "before");
    let before = resident_kib(hub.pid());
    let idle: Vec<_> = (0..IDLE).map(|_| connect(hub.data)).collect();
    // Half a head, which is never completed.
    let mut loris = connect(hub.data);
    loris.write_all(b"POST /mesh/submit_request HTTP/1.1\r\nHost: localhost\r\nX-").unwrap();
    for n in 0..50 {
        lifecycle(&mut data, "n");
        loris.write_all(b"y").unwrap();
        // Others connect and disconnect meanwhile.
        assert_eq!(Client::new(hub.control, None).get("/health").status, 200, "{n}");
    }
    // Memory of the start may have been released meanwhile.
    let grown = resident_kib(hub.pid()).saturating_sub(before);
    assert!(grown < IDLE as u64 * 4, "{grown} KiB for {IDLE} idle connections: more than 4 KiB each");
    // An idle connection still works.
    let mut last = idle.into_iter().next_back().unwrap();
    last.write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let mut answer = [0; 15];
    last.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200 OK");
}

#[test]
fn a_head_that_trickles_is_refused_when_its_time_is_over() {
    let hub = Hub::start();
    let mut slow = Client::new(hub.data, None);
    slow.send(b"GET /health HT").unwrap();
    let refused = slow.receive().unwrap();
    assert_eq!((refused.status, refused.error().as_str()), (408, "request_timeout"));
}

#[test]
fn requests_in_one_write_are_answered_in_their_order() {
    let hub = Hub::start();
    let token = hub.token();
    let mut client = hub.data();
    let head = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nX-Sheratan-Token: {token}\r\n\r\n");
    // The first waits for a job, and the requests behind it wait for its reply.
    let wire = head("/mesh/pull_requests/n?wait_ms=300") + &head("/mesh/jobs") + &head("/nowhere") + &head("/health");
    client.send(wire.as_bytes()).unwrap();
    let statuses: Vec<_> = (0..4).map(|_| client.receive().unwrap().status).collect();
    assert_eq!(statuses, [200, 200, 404, 200]);
}

#[test]
fn connections_beyond_the_limit_wait_until_there_is_room() {
    let hub = Hub::start_with(&["--max-connections", "3"]);
    let mut held: Vec<_> = (0..3).map(|_| Client::new(hub.data, None)).collect();
    for client in &mut held {
        assert_eq!(client.get("/health").status, 200);
    }
    let mut waiting = Client::new(hub.data, None);
    waiting.send(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    assert_eq!(held[0].get("/health").status, 200);
    held.pop();
    assert_eq!(waiting.receive().unwrap().status, 200);
}

#[test]
fn a_burst_of_failures_of_this_machine_never_locks_it_out_unless_a_limit_is_set() {
    let hub = Hub::start();
    for _ in 0..70 {
        assert_eq!(Client::new(hub.data, Some("wrong".into())).get("/mesh/jobs").status, 403, "loopback is exempt");
    }
    assert_eq!(hub.data().get("/mesh/jobs").status, 200);
}
