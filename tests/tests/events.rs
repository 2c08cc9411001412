//! Server-sent events: what listeners are sent, and that none of them delays other clients.
// The lists in `clippy.toml` are for the core.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use serde_json::json;
use sheratan_tests::{Client, Event, Events, Hub, until};
use socket2::{Domain, SockAddr, Socket, Type};
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

fn listen(hub: &Hub, topics: &str) -> Events {
    hub.control().events(&format!("/api/events?events={topics}")).expect("a stream")
}

#[track_caller]
fn next(events: &mut Events) -> Event {
    events.receive().expect("the hub sends").expect("the stream goes on")
}

/// An audit event of its own for each path.
fn fail_to_authenticate(client: &mut Client, path: &str) {
    assert_eq!(client.get(path).status, 403);
}

#[test]
fn lines_of_the_audit_log_arrive_as_they_are_in_the_file_with_their_numbers_in_order() {
    let hub = Hub::start();
    let mut wrong = Client::new(hub.control, Some("wrong".into()));
    fail_to_authenticate(&mut wrong, "/before");
    until("it is in the file", || hub.audit("AUTH_FAILURE").len() == 1);
    let (mut one, mut all) = (listen(&hub, "audit"), hub.control().events("/api/events").unwrap());
    assert_eq!(one.head.header("cache-control"), Some("no-store"));
    assert_eq!(one.head.header("content-length"), None);
    for path in ["/a", "/b", "/c"] {
        fail_to_authenticate(&mut wrong, path);
    }
    let heard: Vec<_> = (0..3).map(|_| next(&mut one)).collect();
    let text = fs::read_to_string(hub.folder().join("logs/hub_security_audit.jsonl")).unwrap();
    let lines: Vec<_> = text.lines().skip(1).collect();
    assert_eq!(heard.iter().map(|event| event.data.as_str()).collect::<Vec<_>>(), lines);
    let ids: Vec<_> = heard.iter().map(|event| event.id.as_deref().unwrap()).collect();
    assert_eq!((ids, heard[0].event.as_str()), (vec!["2", "3", "4"], "audit"));
    let also: Vec<_> =
        std::iter::repeat_with(|| next(&mut all)).filter(|event| event.event == "audit").take(3).collect();
    assert_eq!(also, heard);
    let page = hub.control().get("/api/audit?after=2").ok();
    assert_eq!(page["events"][0]["seq"], json!(3), "an id is where a page of the log goes on");
}

#[test]
fn counters_come_at_once_and_follow_what_happens() {
    let hub = Hub::start();
    let mut counters = listen(&hub, "counters");
    let first = next(&mut counters);
    assert_eq!((first.event.as_str(), &first.json()["queue_depth"]), ("counters", &json!(0)));
    for name in ["queue_bytes", "inflight", "scheduled", "nodes_online", "nodes_stale", "nodes_dead"] {
        assert_eq!(first.json()[name], json!(0), "{name}");
    }
    hub.data().post("/mesh/submit_request", &json!({"kind": "k", "idempotency_key": "a"})).ok();
    hub.control().post("/mesh/heartbeat", &json!({"node_id": "n"})).ok();
    let later = std::iter::repeat_with(|| next(&mut counters)).take(2).last().unwrap().json();
    assert_eq!((&later["queue_depth"], &later["nodes_online"]), (&json!(1), &json!(1)));
    assert_eq!(later["idempotency_store_size"], json!(1));
}

#[test]
fn a_client_that_does_not_read_is_dropped_and_others_are_not_affected() {
    let hub = Hub::start_with(&["--event-stream-bytes", "4096"]);
    let mut slow = connect_with_a_small_window(&hub);
    let head = format!("GET /api/events HTTP/1.1\r\nHost: h\r\nX-Sheratan-Token: {}\r\n\r\n", hub.token());
    slow.write_all(head.as_bytes()).unwrap();
    let mut start = [0; 15];
    slow.read_exact(&mut start).unwrap();
    assert_eq!(&start, b"HTTP/1.1 200 OK");
    let mut other = listen(&hub, "audit");
    let (mut wrong, mut control, mut data) =
        (Client::new(hub.control, Some("wrong".into())), hub.control(), hub.data());
    let mut seqs = Vec::new();
    // A hundred lines of requests without a token, with paths as long as a line keeps, and as many of a kind that may
    // have a hundred of its own in ten seconds. The other client receives each before the next is made, so that it is
    // never far behind.
    for n in 0..100 {
        if n % 2 == 0 {
            fail_to_authenticate(&mut wrong, &format!("/{n}{}", "x".repeat(250)));
        } else {
            assert_eq!(data.get(&format!("/api/policies/{}", "x".repeat(250))).status, 410);
        }
        seqs.push(next(&mut other).json()["seq"].as_u64().unwrap());
        let node = format!("{n}-{}", "x".repeat(100));
        control.post("/mesh/heartbeat", &json!({"host_id": node, "status": "online"})).ok();
        seqs.push(next(&mut other).json()["seq"].as_u64().unwrap());
        assert_eq!(data.get("/readyz").status, 200);
    }
    assert_eq!(seqs, (1..=200).collect::<Vec<_>>());
    until("the log reports that the slow one was dropped", || hub.log().contains("an event stream was dropped"));
}

fn connect_with_a_small_window(hub: &Hub) -> TcpStream {
    let socket = Socket::new(Domain::for_address(hub.control), Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(4_096).unwrap();
    socket.connect(&SockAddr::from(hub.control)).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream
}

#[cfg(unix)]
#[test]
fn a_stop_ends_streams_in_order() {
    let mut hub = Hub::start();
    let mut events = listen(&hub, "audit,counters");
    assert_eq!(next(&mut events).event, "counters");
    assert_eq!(hub.stop().code(), Some(0));
    while let Some(event) = events.receive().expect("an end, and no reset") {
        assert_eq!(event.event, "counters");
    }
}

#[test]
fn one_stream_too_many_is_refused_until_another_is_closed() {
    let hub = Hub::start();
    let mut open: Vec<_> = (0..64).map(|_| listen(&hub, "alert")).collect();
    let refused = hub.control().events("/api/events").unwrap_err();
    assert_eq!((refused.status, refused.error().as_str()), (503, "not_ready"));
    assert!(refused.header("retry-after").is_some() && refused.json()["detail"].as_str().unwrap().contains("64"));
    open.pop();
    until("there is room again", || hub.control().events("/api/events").is_ok());
    assert_eq!(hub.data().get("/readyz").status, 200);
}

#[test]
fn the_token_and_the_topics_are_checked_first() {
    let hub = Hub::start();
    let stranger = Client::new(hub.control, None).events("/api/events").unwrap_err();
    assert_eq!((stranger.status, stranger.error().as_str()), (403, "auth_failure"));
    assert_eq!(hub.data().events("/api/events").unwrap_err().status, 410);
    let unknown = hub.control().events("/api/events?events=audit,jobs").unwrap_err();
    assert_eq!((unknown.status, unknown.error().as_str()), (400, "bad_request"));
    assert!(unknown.json()["detail"].as_str().unwrap().contains("audit, alert, counters"));
    assert_eq!(hub.control().post("/api/events", &json!({})).status, 405);
    let head = hub.control().try_request("HEAD", "/api/events", None).unwrap();
    assert_eq!((head.status, head.header("content-type")), (200, Some("text/event-stream")));
}
