//! Event streams through the real connection and service, without a socket, with a time that the test sets.

use crate::scene::{self, LOCAL};
use sheratan_core::{Millis, Timestamp};
use sheratan_io::http::{Connection, Limits};
use sheratan_io::service::streams::{COUNTERS_EVERY_MS, KEEP_ALIVE_MS};
use sheratan_io::service::{Answer, Caller, Origin, Plane, Service};

const START: Timestamp = scene::NOW;

/// A hub with one client's connection, whose socket accepts all output.
struct Scene {
    service: Service,
    wire: Connection,
}

impl Scene {
    fn new() -> Self {
        let service = scene::service(scene::settings());
        Scene { service, wire: Connection::new(START, &Limits::default()) }
    }

    /// Requests a stream; returns the status of a reply that is not a stream.
    fn listen(&mut self, topics: &str) -> Result<(), u16> {
        let head = format!("GET /api/events?events={topics} HTTP/1.1\r\nHost: hub\r\n\r\n");
        self.wire.received(START, head.as_bytes());
        let request = self.wire.next_request(START).expect("a whole request came");
        let origin = Origin { connection: 1, request: request.id() };
        let caller = Caller { plane: Plane::Control, ip: LOCAL, origin };
        match self.service.handle(START, &caller, &request) {
            Answer::Stream(beginning) => {
                self.wire.begin_stream(START, origin.request, beginning);
                Ok(())
            }
            Answer::Reply(reply) => Err(reply.status()),
            other => unreachable!("not an answer to this: {other:?}"),
        }
    }

    /// The bytes that the client was sent up to `now`.
    fn sent(&mut self, now: Timestamp) -> String {
        for sendout in self.service.streams().take(now) {
            assert_eq!(sendout.to, [1]);
            self.wire.push(now, &sendout.bytes);
        }
        let mut sent = Vec::new();
        while !self.wire.output().is_empty() {
            let count = self.wire.output().len();
            sent.extend_from_slice(self.wire.output());
            self.wire.wrote(now, count);
        }
        String::from_utf8(sent).expect("events are text")
    }

    /// Advances to the next timer; returns its instant, and the bytes that were sent.
    fn step(&mut self) -> (Millis, String) {
        let at = self.service.next_timeout().expect("something falls due");
        self.service.handle_timeout(at);
        self.service.settle(at);
        (at.since(START), self.sent(at))
    }
}

#[test]
fn counters_are_sent_every_two_seconds_of_the_time_passed_to_the_service() {
    let mut scene = Scene::new();
    scene.listen("counters").unwrap();
    let beginning = scene.sent(START);
    assert!(beginning.contains("\r\n\r\nretry: 3000\n\nevent: counters\ndata: {\"ts\":"), "{beginning}");
    for n in 1..5 {
        let (at, sent) = scene.step();
        assert_eq!(at.get(), n * COUNTERS_EVERY_MS.get());
        assert!(sent.starts_with("event: counters\ndata: {") && sent.ends_with("}\n\n"), "{sent}");
    }
}

#[test]
fn a_silent_stream_sends_keep_alives_until_its_client_disconnects() {
    let mut scene = Scene::new();
    scene.listen("audit,alert").unwrap();
    scene.sent(START);
    assert_eq!(scene.step(), (KEEP_ALIVE_MS, ": keep-alive\n\n".to_owned()));
    scene.service.streams().alert(b"{\"event\":\"BURST_AUTH_FAILURE\"}");
    let later = START + Millis::new(20_000);
    assert_eq!(scene.sent(later), "event: alert\ndata: {\"event\":\"BURST_AUTH_FAILURE\"}\n\n");
    assert_eq!(scene.service.next_timeout(), Some(later + KEEP_ALIVE_MS));
    scene.service.end_waits(1);
    assert_eq!(scene.service.next_timeout(), None);
}

#[test]
fn a_hub_that_stops_opens_no_stream() {
    let mut scene = Scene::new();
    scene.service.begin_drain();
    assert_eq!(scene.listen("audit"), Err(503));
}
