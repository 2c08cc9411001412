//! A client: one keep-alive connection, requests written as bytes, replies read as bytes.

use serde_json::Value;
use sha2::{Digest, Sha256};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// The longest that a reply may take; long polls of the tests are shorter.
const REPLY_TIMEOUT: Duration = Duration::from_secs(30);

/// One connection to a plane.
#[derive(Debug)]
pub struct Client {
    addr: SocketAddr,
    token: Option<String>,
    stream: Option<TcpStream>,
    buffer: Vec<u8>,
}

/// A reply.
#[derive(Clone, Debug)]
pub struct Response {
    /// The status.
    pub status: u16,
    /// Names in lower case, values as they came.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Response {
    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("no JSON ({error}): {:?}", String::from_utf8_lossy(&self.body)))
    }

    /// The first header of that name (in lower case).
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The problem's code. No member of a problem comes twice: readers differ in which they take, or refuse both.
    pub fn error(&self) -> String {
        let Names(mut names) = serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("no problem: {self:?}"));
        names.sort();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count, "a member comes twice: {}", String::from_utf8_lossy(&self.body));
        self.json()["error"].as_str().unwrap_or_else(|| panic!("no problem: {self:?}")).to_owned()
    }

    /// The JSON of a reply that must be 200.
    #[track_caller]
    pub fn ok(self) -> Value {
        assert_eq!(self.status, 200, "{}", String::from_utf8_lossy(&self.body));
        self.json()
    }
}

/// The names of an object's members, as they come.
struct Names(Vec<String>);

impl<'de> serde::Deserialize<'de> for Names {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Names;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<M: serde::de::MapAccess<'de>>(self, mut map: M) -> Result<Names, M::Error> {
                let mut names = Vec::new();
                while let Some((name, serde::de::IgnoredAny)) = map.next_entry()? {
                    names.push(name);
                }
                Ok(Names(names))
            }
        }
        deserializer.deserialize_map(Visitor)
    }
}

impl Client {
    /// A client of the plane at that address; it connects when it must.
    pub fn new(addr: SocketAddr, token: Option<String>) -> Self {
        Client { addr, token, stream: None, buffer: Vec::new() }
    }

    /// `GET path`.
    pub fn get(&mut self, path: &str) -> Response {
        self.try_request("GET", path, None).expect("the hub answers")
    }

    /// A request without a body and with these headers besides.
    pub fn ask(&mut self, method: &str, path: &str, headers: &[(&str, &str)]) -> Response {
        self.send_with(method, path, headers, None).and_then(|()| self.receive_to(method)).expect("the hub answers")
    }

    /// `POST path` with a JSON body.
    pub fn post(&mut self, path: &str, body: &Value) -> Response {
        self.try_request("POST", path, Some(body)).expect("the hub answers")
    }

    /// A request whose connection may break, as in a test that kills the hub.
    pub fn try_request(&mut self, method: &str, path: &str, body: Option<&Value>) -> io::Result<Response> {
        self.send_request(method, path, body)?;
        self.receive_to(method)
    }

    /// `PUT path` with a JSON body, and with `If-Match` if a version is expected.
    pub fn put(&mut self, path: &str, body: &Value, if_match: Option<&str>) -> Response {
        let header = if_match.map(|tag| ("If-Match", tag));
        let sent = self.send_with("PUT", path, header.as_slice(), Some(body));
        sent.and_then(|()| self.receive_to("PUT")).expect("the hub answers")
    }

    /// `DELETE path`.
    pub fn delete(&mut self, path: &str) -> Response {
        self.try_request("DELETE", path, None).expect("the hub answers")
    }

    /// Sends a request whose reply is received later.
    pub fn send_request(&mut self, method: &str, path: &str, body: Option<&Value>) -> io::Result<()> {
        self.send_with(method, path, &[], body)
    }

    fn send_with(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&Value>,
    ) -> io::Result<()> {
        let mut head = format!("{method} {path} HTTP/1.1\r\nHost: {}\r\n", self.addr);
        if let Some(token) = &self.token {
            head += &format!("X-Sheratan-Token: {token}\r\n");
        }
        headers.iter().for_each(|(name, value)| head += &format!("{name}: {value}\r\n"));
        let body = body.map(|body| body.to_string()).unwrap_or_default();
        if !body.is_empty() {
            head += &format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len());
        }
        self.send(format!("{head}\r\n{body}").as_bytes())
    }

    /// Sends bytes as they are.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.stream.is_none() {
            let stream = TcpStream::connect(self.addr)?;
            stream.set_read_timeout(Some(REPLY_TIMEOUT))?;
            stream.set_nodelay(true)?;
            self.stream = Some(stream);
            self.buffer.clear();
        }
        let sent = self.stream.as_mut().expect("connected above").write_all(bytes);
        if sent.is_err() {
            self.stream = None;
        }
        sent
    }

    /// Opens an event stream; the reply, if it is not one.
    pub fn events(mut self, path: &str) -> Result<Events, Response> {
        self.send_request("GET", path, None).expect("the hub takes it");
        let head = self.read_head().expect("the hub answers");
        if head.header("content-type") == Some("text/event-stream") {
            return Ok(Events { head, client: self });
        }
        let length = head.header("content-length").expect("a reply that ends has a length").parse().expect("a number");
        while self.buffer.len() < length {
            self.read_more().expect("the whole reply");
        }
        Err(Response { body: self.buffer[..length].to_vec(), ..head })
    }

    /// Reads the next reply.
    pub fn receive(&mut self) -> io::Result<Response> {
        self.receive_to("GET")
    }

    /// Whether the hub closes the connection without another byte.
    pub fn is_closed(&mut self) -> bool {
        let stream = self.stream.as_mut().expect("something was sent");
        matches!(stream.read(&mut [0; 16]), Ok(0)) && self.buffer.is_empty()
    }

    /// The socket, for what the methods above do not do.
    pub fn stream(&mut self) -> &mut TcpStream {
        self.stream.as_mut().expect("something was sent")
    }

    fn receive_to(&mut self, method: &str) -> io::Result<Response> {
        let result = self.read_response(method);
        match &result {
            Ok(response) if response.header("connection") != Some("close") => {}
            _ => self.stream = None,
        }
        result
    }

    fn read_response(&mut self, method: &str) -> io::Result<Response> {
        let mut response = self.read_head()?;
        let length: usize = response.header("content-length").unwrap_or("0").parse().map_err(io::Error::other)?;
        let body_bytes = if method == "HEAD" { 0 } else { length };
        while self.buffer.len() < body_bytes {
            self.read_more()?;
        }
        response.body = self.buffer.drain(..body_bytes).collect();
        Ok(response)
    }

    /// Reads the next response's head; what follows it stays in the buffer.
    fn read_head(&mut self) -> io::Result<Response> {
        loop {
            let mut headers = [httparse::EMPTY_HEADER; 64];
            let mut head = httparse::Response::new(&mut headers);
            let parsed = head.parse(&self.buffer).map_err(|error| io::Error::other(error.to_string()))?;
            let httparse::Status::Complete(head_bytes) = parsed else {
                self.read_more()?;
                continue;
            };
            let status = head.code.expect("a complete head has a status");
            let headers: Vec<_> = head
                .headers
                .iter()
                .map(|header| (header.name.to_lowercase(), String::from_utf8_lossy(header.value).into_owned()))
                .collect();
            self.buffer.drain(..head_bytes);
            if status != 100 {
                return Ok(Response { status, headers, body: Vec::new() });
            }
        }
    }

    fn read_more(&mut self) -> io::Result<()> {
        let stream = self.stream.as_mut().ok_or(io::ErrorKind::NotConnected)?;
        let mut chunk = [0; 16 * 1024];
        match stream.read(&mut chunk)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            count => {
                self.buffer.extend_from_slice(&chunk[..count]);
                Ok(())
            }
        }
    }
}

/// An event stream that is open.
#[derive(Debug)]
pub struct Events {
    /// How the reply began.
    pub head: Response,
    client: Client,
}

/// One event of a stream.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Event {
    /// Its name.
    pub event: String,
    /// Its id, if it has one.
    pub id: Option<String>,
    /// Its data.
    pub data: String,
}

impl Event {
    /// The data as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.data).unwrap_or_else(|error| panic!("no JSON ({error}): {}", self.data))
    }
}

impl Events {
    /// The next event; none when the stream has ended. Comments are skipped.
    pub fn receive(&mut self) -> io::Result<Option<Event>> {
        let mut event = Event::default();
        loop {
            let Some(line) = self.line()? else { return Ok(None) };
            match line.split_once(": ") {
                Some(("event", value)) => value.clone_into(&mut event.event),
                Some(("id", value)) => event.id = Some(value.to_owned()),
                Some(("data", value)) => event.data += value,
                // A block without data is not an event.
                None if line.is_empty() && !event.data.is_empty() => return Ok(Some(event)),
                _ => {}
            }
        }
    }

    fn line(&mut self) -> io::Result<Option<String>> {
        loop {
            if let Some(end) = self.client.buffer.iter().position(|byte| *byte == b'\n') {
                let line = String::from_utf8(self.client.buffer.drain(..=end).collect()).map_err(io::Error::other)?;
                return Ok(Some(line.trim_end_matches('\n').to_owned()));
            }
            match self.client.read_more() {
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
                result => result?,
            }
        }
    }
}

/// A result's body for `/mesh/submit_result`, with its checksum.
pub fn result(job: &Value, node: &str, result: &Value) -> Value {
    outcome(job, node, true, result, &Value::Null)
}

/// A failure's body for `/mesh/submit_result`, with its checksum.
pub fn failure(job: &Value, node: &str, error: &Value) -> Value {
    outcome(job, node, false, &Value::Null, error)
}

fn outcome(job: &Value, node: &str, ok: bool, result: &Value, error: &Value) -> Value {
    let job_id = &job["job_id"];
    serde_json::json!({
        "job_id": job_id, "node_id": node, "lease_id": job["lease_id"], "ok": ok, "result": result, "error": error,
        "integrity": {"mode": "sha256", "sha256": checksum(job_id, ok, result, error)},
    })
}

/// SHA-256 over the canonical JSON; for values without floats, which both number rules print alike.
pub fn checksum(job_id: &Value, ok: bool, result: &Value, error: &Value) -> String {
    // serde_json keeps an object's members sorted.
    let canonical = serde_json::json!({"error": error, "job_id": job_id, "ok": ok, "result": result}).to_string();
    Sha256::digest(canonical).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// HMAC-SHA256 in hex.
pub fn hmac(key: &[u8], message: &[u8]) -> String {
    use hmac::Mac;
    let mut mac = hmac::Hmac::<Sha256>::new_from_slice(key).expect("any key will do");
    mac.update(message);
    mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}
