//! Long polls through the real connection and service, without a socket: every interleaving can be written down.

use crate::scene::{self, LOCAL, NOW};
use sheratan_io::http::{Connection, Limits};
use sheratan_io::service::{Answer, Caller, Origin, Plane, Service};

fn service() -> Service {
    scene::service(scene::settings())
}

/// Sends a request on a connection of its own; `true` if it is parked.
fn post(service: &mut Service, connection: u64, path: &str, body: &str) -> bool {
    let mut wire = Connection::new(NOW, &Limits::default());
    let head = format!("POST {path} HTTP/1.1\r\nHost: hub\r\nContent-Length: {}\r\n\r\n", body.len());
    wire.received(NOW, head.as_bytes());
    wire.received(NOW, body.as_bytes());
    let request = wire.next_request(NOW).expect("a whole request came");
    let plane = if path == "/mesh/heartbeat" { Plane::Control } else { Plane::Data };
    let caller = Caller { plane, ip: LOCAL, origin: Origin { connection, request: request.id() } };
    match service.handle(NOW, &caller, &request) {
        Answer::Parked => true,
        Answer::Reply(reply) | Answer::Now(reply) => {
            assert_eq!(reply.status(), 200, "{path}: {}", String::from_utf8_lossy(reply.body()));
            false
        }
        Answer::Stream(_) | Answer::Page(_) => unreachable!("nobody asked for a log"),
    }
}

fn park(service: &mut Service, connection: u64, node: &str, kinds: &str) {
    let body = format!(r#"{{"node_id":"{node}","wait_ms":30000,"kinds":{kinds}}}"#);
    assert!(post(service, connection, "/mesh/pull_requests", &body), "nothing is there for {node}, so it waits");
}

/// Settles; returns which connections were answered.
fn answered(service: &mut Service) -> Vec<u64> {
    service.settle(NOW);
    let mut connections: Vec<_> = service.late_replies().drain(..).map(|late| late.origin.connection).collect();
    connections.sort();
    connections
}

#[test]
fn a_long_poll_that_takes_a_more_urgent_job_leaves_its_own_to_another() {
    let mut service = service();
    park(&mut service, 1, "both", r#"["a","b"]"#);
    park(&mut service, 2, "only-a", r#"["a"]"#);
    let jobs = r#"{"requests":[{"kind":"a","priority":"low"},{"kind":"b","priority":"high"}]}"#;
    post(&mut service, 3, "/mesh/submit_requests", jobs);
    assert_eq!(answered(&mut service), [1, 2]);
    assert_eq!((service.hub().counts().leased, service.hub().counts().queued), (2, 0));
}

#[test]
fn a_long_poll_of_a_node_that_moved_leaves_its_job_to_another() {
    let mut service = service();
    park(&mut service, 1, "moving", "[]");
    park(&mut service, 2, "staying", "[]");
    post(&mut service, 3, "/mesh/submit_request", r#"{"kind":"a"}"#);
    post(&mut service, 4, "/mesh/heartbeat", r#"{"node_id":"moving","zone":"elsewhere"}"#);
    assert_eq!(answered(&mut service), [2]);
    assert_eq!(service.hub().queue().waiter_count(), 1, "the one that moved waits for jobs of its new zone");
}

/// The result that a long poll submitted is in a batch whose append fails: its reply says nothing of the failure, since
/// the result was applied, and waits for the journal.
#[test]
fn a_long_poll_that_submitted_a_result_waits_for_a_journal_that_failed() {
    let mut service = service();
    post(&mut service, 1, "/mesh/submit_request", r#"{"kind":"a"}"#);
    post(&mut service, 2, "/mesh/pull_requests", r#"{"node_id":"n"}"#);
    let job = service.hub().ids().job_id(sheratan_core::JobSeq::new(1));
    park(&mut service, 3, "other", "[]");
    let result = format!(r#"{{"job_id":"{job}","node_id":"n","ok":true,"pull":{{"wait_ms":30000}}}}"#);
    assert!(post(&mut service, 4, "/mesh/submit_result", &result), "there is no other job, so it waits");
    service.journal_failed("the disk is full".into());
    assert_eq!(answered(&mut service), [0; 0]);
    service.handle_timeout(NOW + sheratan_core::Millis::from_secs(30));
    let mut late: Vec<_> = service.late_replies().drain(..).collect();
    late.sort_by_key(|late| late.origin);
    let late: Vec<_> =
        late.iter().map(|late| (late.origin.connection, late.reply.status(), late.is_acknowledgement)).collect();
    assert_eq!(late, [(3, 200, false), (4, 200, true)]);
}
