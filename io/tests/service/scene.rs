//! A hub on loopback as most tests want it.

use sheratan_core::{Hub, HubKey, Timestamp};
use sheratan_io::http::{Connection, Limits, Reply};
use sheratan_io::service::{Answer, Caller, Origin, Plane, Service, Settings};
use std::net::{IpAddr, Ipv4Addr};

pub const NOW: Timestamp = Timestamp::from_millis(1_768_500_000_000);
pub const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// Settings of a hub that needs no token and accepts results without integrity.
pub fn settings() -> Settings {
    Settings::local(NOW)
}

/// A service with an empty hub.
pub fn service(settings: Settings) -> Service {
    let mut service = Service::new(Hub::new(HubKey::new([7; 16])), 1, settings);
    service.begin_tokens(NOW);
    service
}

/// Sends a request on a connection of its own; the reply, or `None` if the request is parked.
pub fn ask(service: &mut Service, method: &str, path: &str, body: &str) -> Option<(u16, String)> {
    ask_at(NOW, service, method, path, body)
}

pub fn ask_at(now: Timestamp, service: &mut Service, method: &str, path: &str, body: &str) -> Option<(u16, String)> {
    let mut wire = Connection::new(now, &Limits::default());
    let head = format!("{method} {path} HTTP/1.1\r\nHost: hub\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    wire.received(now, head.as_bytes());
    let request = wire.next_request(now).expect("a whole request came");
    let caller = Caller { plane: Plane::Data, ip: LOCAL, origin: Origin { connection: 1, request: request.id() } };
    match service.handle(now, &caller, &request) {
        Answer::Parked => None,
        Answer::Reply(reply) | Answer::Now(reply) => Some(text_of(&reply)),
        Answer::Stream(_) | Answer::Page(_) => unreachable!("nobody asked for a log"),
    }
}

fn text_of(reply: &Reply) -> (u16, String) {
    (reply.status(), String::from_utf8(reply.body().to_vec()).expect("replies are JSON"))
}
