//! Tests of the connection, by what they are about; here is what they share: a client's view of it.

mod bytes;
mod limits;
mod memory;
mod order;
mod replies;
mod requests;
mod smuggling;
mod splits;
mod streams;
mod timeouts;

use super::{Connection, Limits, Refusal, Reply, Request, RequestId};
use sheratan_core::{Millis, Timestamp};

/// Thu, 15 Jan 2026 20:52:03.348 GMT.
const START: Timestamp = Timestamp::from_millis(1_768_510_323_348);

fn after(ms: u64) -> Timestamp {
    START + Millis::new(ms)
}

fn connection() -> Connection {
    Connection::new(START, &Limits::DEFAULT)
}

/// What a route would see of a request, copied out.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Seen {
    id: RequestId,
    method: String,
    path: String,
    query: Option<String>,
    tag: Option<Vec<u8>>,
    body: Vec<u8>,
}

impl Seen {
    fn of(request: &Request) -> Self {
        Seen {
            id: request.id(),
            method: request.method().as_str().to_owned(),
            path: request.path().to_owned(),
            query: request.query().map(str::to_owned),
            tag: request.header("X-Tag").map(<[u8]>::to_vec),
            body: request.body().to_vec(),
        }
    }
}

/// Takes all requests out, unanswered.
fn take(connection: &mut Connection, now: Timestamp) -> Vec<Seen> {
    std::iter::from_fn(|| connection.next_request(now).map(|request| Seen::of(&request))).collect()
}

/// Receives bytes and takes all requests out, unanswered.
fn receive(connection: &mut Connection, now: Timestamp, bytes: impl AsRef<[u8]>) -> Vec<Seen> {
    connection.received(now, bytes.as_ref());
    take(connection, now)
}

/// The socket takes all output.
fn send(connection: &mut Connection, now: Timestamp) -> Vec<u8> {
    let mut sent = Vec::new();
    while !connection.output().is_empty() {
        let count = connection.output().len();
        sent.extend_from_slice(connection.output());
        connection.wrote(now, count);
    }
    sent
}

fn reply_ok(connection: &mut Connection, now: Timestamp, id: RequestId, body: &str) {
    connection.reply(now, id, Reply::json(200, body.as_bytes().to_vec()));
}

/// A response as a client reads it.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Response {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Response {
    fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.iter().filter(|header| header.0.eq_ignore_ascii_case(name));
        let value = values.next().map(|header| header.1.as_str());
        assert!(values.next().is_none(), "{name} twice");
        value
    }

    fn closes(&self) -> bool {
        self.header("connection") == Some("close")
    }
}

/// Reads all responses; nothing may be left over. `has_body` says which of them have one.
fn responses(mut bytes: &[u8], has_body: impl Fn(usize) -> bool) -> Vec<Response> {
    let mut all = Vec::new();
    while !bytes.is_empty() {
        let mut headers = [httparse::EMPTY_HEADER; 32];
        let mut parsed = httparse::Response::new(&mut headers);
        let status = parsed.parse(bytes).expect("a response");
        let httparse::Status::Complete(head_len) = status else { panic!("half a response: {bytes:?}") };
        let text = |value: &[u8]| String::from_utf8(value.to_vec()).expect("ASCII");
        let headers: Vec<_> = parsed.headers.iter().map(|h| (h.name.to_owned(), text(h.value))).collect();
        let mut response = Response { status: parsed.code.expect("complete"), headers, body: Vec::new() };
        bytes = &bytes[head_len..];
        if response.status >= 200 && has_body(all.len()) {
            let len = response.header("content-length").expect("a length").parse().expect("a number");
            let (body, rest) = bytes.split_at(len);
            response.body = body.to_vec();
            bytes = rest;
        }
        all.push(response);
    }
    all
}

/// The only response in the output.
fn response(connection: &mut Connection, now: Timestamp) -> Response {
    let mut all = responses(&send(connection, now), |_| true);
    assert_eq!(all.len(), 1, "{all:?}");
    all.remove(0)
}

/// The connection refused with this status and code, said why, closes, and takes no further request.
#[track_caller]
fn assert_refused(connection: &mut Connection, now: Timestamp, status: u16, code: &str) {
    let response = response(connection, now);
    let problem: serde_json::Value = serde_json::from_slice(&response.body).expect("JSON");
    assert_eq!((response.status, problem["error"].as_str()), (status, Some(code)), "{problem}");
    assert_eq!(connection.refusal().map(Refusal::status), Some(status));
    assert_eq!(problem["ok"], false);
    assert_eq!(problem["detail"].as_str(), connection.refusal().map(|refusal| refusal.to_string()).as_deref());
    assert_eq!(response.header("content-type"), Some("application/problem+json"));
    assert!(response.closes());
    assert_eq!(receive(connection, now, "GET / HTTP/1.1\r\nHost: h\r\n\r\n"), []);
    assert!(!connection.has_request() && connection.output().is_empty());
    connection.received_end(now);
    assert!(connection.is_done());
}
