//! Replies: a status, a few headers, a body.

use super::date::HttpDate;
use serde_json::Value;
use sheratan_core::time::Timestamp;
use std::io::Write;

/// What a request is answered with.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reply {
    status: u16,
    content_type: &'static str,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
}

impl Reply {
    /// A JSON body.
    pub fn json(status: u16, body: Vec<u8>) -> Self {
        Reply { status, content_type: "application/json", headers: Vec::new(), body }
    }

    /// A body of another type.
    pub fn new(status: u16, content_type: &'static str, body: Vec<u8>) -> Self {
        Reply { status, content_type, headers: Vec::new(), body }
    }

    /// One more header. What would end the header's line is taken out of the value, so that no text of a client ever
    /// becomes a header of its own.
    pub fn with_header(mut self, name: &'static str, mut value: String) -> Self {
        value.retain(|character| !character.is_control());
        self.headers.push((name, value));
        self
    }

    /// The status.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// The body.
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// Appends the reply as bytes; `is_head` leaves out the body, not its length.
    pub(super) fn write(&self, now: Timestamp, is_head: bool, connection: Option<&str>, out: &mut Vec<u8>) {
        out.reserve(256 + self.body.len());
        let mut line = |arguments: std::fmt::Arguments| out.write_fmt(arguments).expect("a buffer takes all");
        line(format_args!("HTTP/1.1 {} {}\r\nDate: {}\r\n", self.status, reason(self.status), HttpDate(now)));
        line(format_args!("Content-Type: {}\r\nContent-Length: {}\r\n", self.content_type, self.body.len()));
        for (name, value) in &self.headers {
            line(format_args!("{name}: {value}\r\n"));
        }
        if let Some(connection) = connection {
            line(format_args!("Connection: {connection}\r\n"));
        }
        out.extend_from_slice(b"\r\n");
        if !is_head {
            out.extend_from_slice(&self.body);
        }
    }
}

/// A problem (RFC 9457) with the frozen members `ok` and `error`; `extra` is written as it is, `,"name":value` for each.
pub fn problem(status: u16, code: &'static str, detail: &str, extra: &str) -> Reply {
    let detail = Value::from(detail);
    let title = reason(status);
    let body = format!(
        r#"{{"type":"about:blank","title":"{title}","status":{status},"detail":{detail},"ok":false,"error":"{code}"{extra}}}"#
    );
    Reply::new(status, "application/problem+json", body.into_bytes())
}

/// The status' usual words.
fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        409 => "Conflict",
        410 => "Gone",
        413 => "Content Too Large",
        414 => "URI Too Long",
        415 => "Unsupported Media Type",
        417 => "Expectation Failed",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        503 => "Service Unavailable",
        505 => "HTTP Version Not Supported",
        _ => "Unknown",
    }
}
