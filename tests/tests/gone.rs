//! Clients that have gone: what they asked for and was not done yet is not done, and nobody is given a job in vain.
#![cfg(unix)]
// The lists in `clippy.toml` are for the core.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use rustix::process::Signal;
use serde_json::{Value, json};
use sheratan_tests::stall::{Call, Stall};
use sheratan_tests::tools::skipped;
use sheratan_tests::{Client, Hub, Options, until};
use std::io::Write;
use std::net::{Shutdown, TcpStream};
use tempfile::TempDir;

/// Requests in one write.
const PIPELINED: usize = 50;

fn submits(hub: &Hub) -> Vec<u8> {
    let (token, body) = (hub.token(), r#"{"kind":"k"}"#);
    let head = format!("POST /mesh/submit_request HTTP/1.1\r\nHost: hub\r\nX-Sheratan-Token: {token}\r\n");
    format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()).repeat(PIPELINED).into_bytes()
}

/// A connection with a reply that is not read: the kernel resets it when it is closed.
fn unread(hub: &Hub) -> TcpStream {
    let mut stream = TcpStream::connect(hub.data).unwrap();
    stream.write_all(b"GET /livez HTTP/1.1\r\nHost: hub\r\n\r\n").unwrap();
    assert_eq!(stream.peek(&mut [0]).unwrap(), 1);
    stream
}

/// A pull of this node, which waits.
fn pull(hub: &Hub, node: &str) -> Vec<u8> {
    let body = format!(r#"{{"node_id":"{node}","wait_ms":60000}}"#);
    let head = format!("POST /mesh/pull_requests HTTP/1.1\r\nHost: hub\r\nX-Sheratan-Token: {}\r\n", hub.token());
    format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

fn sample(hub: &Hub, line: &str) -> bool {
    let body = hub.data().ask("GET", "/metrics", &[("Accept", "text/plain")]).body;
    String::from_utf8(body).unwrap().lines().any(|other| other == line)
}

fn metrics(hub: &Hub) -> Value {
    hub.data().get("/metrics").ok()
}

#[test]
fn what_a_client_sent_before_it_reset_its_connection_is_not_done() {
    let hub = Hub::start();
    let mut stream = unread(&hub);
    let mut probe = Client::new(hub.data, None);
    assert_eq!(probe.get("/livez").status, 200);
    hub.signal(Signal::STOP);
    stream.write_all(&submits(&hub)).unwrap();
    drop(stream);
    hub.signal(Signal::CONT);
    // The hub reads in the order in which its sockets became ready, so it has seen the reset when this is answered.
    assert_eq!(probe.get("/livez").status, 200);
    assert_eq!(probe.get("/livez").status, 200);
    assert_eq!(metrics(&hub)["queue_depth"], 0);
}

#[test]
fn a_client_that_closes_its_writing_side_reads_all_answers() {
    let hub = Hub::start();
    let mut client = hub.data();
    client.send(&submits(&hub)).unwrap();
    client.stream().shutdown(Shutdown::Write).unwrap();
    for n in 0..PIPELINED {
        assert_eq!(client.receive().unwrap().status, 200, "{n}");
    }
    assert_eq!(metrics(&hub)["queue_depth"], PIPELINED);
}

#[test]
fn a_parked_poll_ends_with_its_connection_and_its_node_gets_no_job() {
    for is_reset in [false, true] {
        let hub = Hub::start();
        let mut stream = if is_reset { unread(&hub) } else { TcpStream::connect(hub.data).unwrap() };
        stream.write_all(&pull(&hub, "n")).unwrap();
        let parked = || sample(&hub, "sheratan_hub_long_polls 1");
        until("the poll is parked", parked);
        drop(stream);
        until("the poll is unparked", || !parked());
        let job_id = hub.submit(json!({"kind": "k"}));
        assert_eq!((&hub.job(&job_id)["status"], &hub.job(&job_id)["attempt"]), (&json!("queued"), &json!(0)));
    }
}

#[test]
fn a_lease_whose_reply_found_nobody_goes_back_uncharged() {
    let Some(stall) = Stall::build() else { return skipped("there is no C compiler") };
    let hub = Hub::start_in(TempDir::new().unwrap(), Options { args: Vec::new(), env: stall.env() });
    let job_id = hub.submit(json!({"kind": "k", "max_attempts": 1}));
    stall.begin(Call::Sync);
    let mut stream = unread(&hub);
    stream.write_all(&pull(&hub, "n")).unwrap();
    until("the job is leased", || metrics(&hub)["inflight"] == 1);
    drop(stream);
    until("the connection has ended", || sample(&hub, "sheratan_hub_connections 1"));
    stall.end(Call::Sync);
    until("the job waits again", || hub.job(&job_id)["status"] == "queued");
    let again = hub.data().post("/mesh/pull_requests", &json!({"node_id": "m"})).ok();
    assert_eq!(again["jobs"][0]["job_id"], json!(job_id), "its only attempt was not charged");
}
