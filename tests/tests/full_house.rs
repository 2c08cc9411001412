//! A full house: as many connections as the hub accepts, and clients that wait for room.
#![cfg(unix)]
// The lists in `clippy.toml` are for the core.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use rustix::process::Signal;
use sheratan_tests::{Client, Hub, Options, binary, until};
use std::fs;
use std::net::TcpStream;
use std::process::Command;
use tempfile::TempDir;

/// A hub that accepts so many connections.
fn hub(connections_max: usize) -> Hub {
    let env = vec![("SHERATAN_MAX_CONNECTIONS".to_owned(), connections_max.to_string())];
    Hub::start_in(TempDir::new().unwrap(), Options { args: Vec::new(), env })
}

/// A client whose connection the hub has accepted.
fn inside(hub: &Hub) -> Client {
    let mut client = Client::new(hub.data, None);
    assert_eq!(client.get("/livez").status, 200);
    client
}

#[test]
fn who_waits_for_room_is_served_when_the_others_leave_together() {
    for connections_max in [1, 4] {
        let hub = hub(connections_max);
        let others: Vec<_> = (0..connections_max).map(|_| inside(&hub)).collect();
        let mut waiting = Client::new(hub.data, None);
        waiting.send(b"GET /livez HTTP/1.1\r\nHost: hub\r\n\r\n").unwrap();
        // The hub sees all ends in one look.
        hub.signal(Signal::STOP);
        drop(others);
        hub.signal(Signal::CONT);
        assert_eq!(waiting.receive().unwrap().status, 200, "{connections_max}");
    }
}

/// `serve` with this limit of open files, until it ends.
fn serve_with_files(files_max: u32) -> (Option<i32>, String) {
    let folder = TempDir::new().unwrap();
    let addrs = "--control-addr 127.0.0.1:0 --data-addr 127.0.0.1:0";
    let script = format!("ulimit -n {files_max} && exec \"$0\" serve --data-dir \"$1\" {addrs} 2> \"$1/said\"");
    let mut child = Command::new("sh").args(["-c", &script]).arg(binary()).arg(folder.path()).spawn().unwrap();
    let mut code = None;
    until("the hub has ended, or is ready", || {
        code = child.try_wait().unwrap().map(|status| status.code());
        let addrs = fs::read_to_string(folder.path().join("hub.addr")).unwrap_or_default();
        code.is_some() || addrs.contains(r#""ready":true"#)
    });
    // It may have ended before.
    _ = child.kill();
    _ = child.wait();
    (code.flatten(), fs::read_to_string(folder.path().join("said")).unwrap())
}

#[test]
fn a_hub_that_could_accept_no_connection_does_not_start() {
    let (code, said) = serve_with_files(64);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("may open 64 files") && said.contains("ulimit -n"), "{said}");
}

/// A client that asks for much and reads nothing.
fn deaf(hub: &Hub) -> TcpStream {
    use std::io::Write;
    let mut stream = TcpStream::connect(hub.data).unwrap();
    let request = "GET /metrics HTTP/1.1\r\nHost: hub\r\nAccept: text/plain\r\n\r\n".repeat(2_000);
    stream.write_all(request.as_bytes()).unwrap();
    stream
}

#[test]
fn a_reply_that_nobody_reads_does_not_keep_a_hub_from_stopping() {
    let mut hub = hub(8);
    let _deaf = deaf(&hub);
    inside(&hub);
    assert_eq!(hub.stop().code(), Some(0));
}
