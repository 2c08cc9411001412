//! Replies: a status, headers and a body, and how they are written (RFC 9112, section 4; problems: RFC 9457).

use super::grammar::is_token;
use super::output::Output;
use crate::object::object;
use jiff::fmt::rfc2822::DateTimePrinter;
use sheratan_core::{LeaseRef, Utc};
use std::io::Write;

/// Headers that the connection writes itself: a second one would make a reply ambiguous.
const OWN_HEADERS: [&str; 7] = [
    "cache-control",
    "connection",
    "content-length",
    "content-type",
    "date",
    "transfer-encoding",
    "x-content-type-options",
];

/// The answer to a request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reply {
    status: u16,
    content_type: &'static str,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
    leases: Box<[LeaseRef]>,
}

/// How the connection continues after a reply.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Persistence {
    /// It stays open, the default of HTTP/1.1.
    KeepAlive,
    /// It stays open, with the header that HTTP/1.0 needs.
    KeepAliveHttp10,
    /// It closes.
    Close,
}

impl Reply {
    /// A reply with a JSON body.
    pub fn json(status: u16, body: Vec<u8>) -> Self {
        Reply::text(status, "application/json", body)
    }

    /// A reply with a body of another type. The status is a final one, 200 to 599.
    pub fn text(status: u16, content_type: &'static str, body: Vec<u8>) -> Self {
        assert!((200..600).contains(&status), "a reply's status is final, not {status}");
        assert!(content_type.bytes().all(is_header_text), "a content type is written in the program: {content_type:?}");
        Reply { status, content_type, headers: Vec::new(), body, leases: Box::default() }
    }

    /// Adds a header. Bytes that would end the header (CR, LF, NUL) or are invalid in it become blanks: a value may
    /// contain a client's text, which can never begin another header. The name must be a constant.
    pub fn with_header(mut self, name: &'static str, value: String) -> Self {
        let is_own = OWN_HEADERS.iter().any(|own| name.eq_ignore_ascii_case(own));
        assert!(!name.is_empty() && name.bytes().all(is_token) && !is_own, "not a header of a reply: {name:?}");
        let value = match value.bytes().all(is_header_text) {
            true => value,
            false => value.chars().map(|c| if c.is_ascii() && is_header_text(c as u8) { c } else { ' ' }).collect(),
        };
        self.headers.push((name, value));
        self
    }

    /// Adds the leases that the reply grants: who cannot send it gives them back.
    pub fn with_leases(mut self, leases: impl Iterator<Item = LeaseRef>) -> Self {
        self.leases = leases.collect();
        self
    }

    /// Removes the leases that the reply grants.
    pub fn take_leases(&mut self) -> Box<[LeaseRef]> {
        std::mem::take(&mut self.leases)
    }

    /// The status.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// The body.
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// About how many bytes of memory it holds while it waits.
    pub fn bytes(&self) -> usize {
        self.body.len() + self.headers.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>()
    }

    /// Adds to the body.
    pub(super) fn extend(&mut self, bytes: &[u8]) {
        self.body.extend_from_slice(bytes);
    }

    /// Writes the reply. A HEAD gets the same head without the body.
    pub(super) fn write(self, now: Utc, output: &mut Output, persistence: Persistence, is_to_head: bool) {
        let length = self.has_body().then_some(self.body.len());
        self.write_head(now, output, persistence, length);
        if !is_to_head && self.has_body() {
            output.push(self.body);
        }
    }

    /// Writes the head of a stream, and the beginning of its body, which ends with the connection.
    pub(super) fn write_unended(self, now: Utc, output: &mut Output, is_to_head: bool) {
        self.write_head(now, output, Persistence::Close, None);
        if !is_to_head {
            output.push(self.body);
        }
    }

    /// RFC 9110, sections 15.3.5 and 15.4.5: these have no body, and 204 no length either.
    fn has_body(&self) -> bool {
        self.status != 204 && self.status != 304
    }

    fn write_head(&self, now: Utc, output: &mut Output, persistence: Persistence, length: Option<usize>) {
        output.write(|out| {
            out.reserve(256);
            write!(out, "HTTP/1.1 {} {}\r\nDate: ", self.status, reason_phrase(self.status)).expect(TAKES_ALL);
            write_date(out, now);
            if self.has_body() {
                write!(out, "\r\nContent-Type: {}", self.content_type).expect(TAKES_ALL);
            }
            if let Some(length) = length {
                write!(out, "\r\nContent-Length: {length}").expect(TAKES_ALL);
            }
            // No browser guesses what a reply is, and no cache keeps it.
            out.extend_from_slice(b"\r\nX-Content-Type-Options: nosniff\r\nCache-Control: no-store");
            for (name, value) in &self.headers {
                write!(out, "\r\n{name}: {value}").expect(TAKES_ALL);
            }
            out.extend_from_slice(match persistence {
                Persistence::KeepAlive => b"\r\n\r\n".as_slice(),
                Persistence::KeepAliveHttp10 => b"\r\nConnection: keep-alive\r\n\r\n",
                Persistence::Close => b"\r\nConnection: close\r\n\r\n",
            });
        });
    }
}

/// A refusal as `application/problem+json`: the members of RFC 9457, `ok`, `error`, then `extra_members` as they are
/// (`,"name":value` for each).
pub fn problem(status: u16, code: &'static str, detail: &str, extra_members: &str) -> Reply {
    let mut body = Vec::with_capacity(192 + detail.len() + extra_members.len());
    object(&mut body, |out| {
        out.raw("type", br#""about:blank""#).text("title", reason_phrase(status)).number("status", status.into());
        out.text("detail", detail).flag("ok", false).text("error", code).more(extra_members);
    });
    Reply::text(status, "application/problem+json", body)
}

const TAKES_ALL: &str = "a vector takes all bytes";

fn is_header_text(byte: u8) -> bool {
    byte == b'\t' || byte == b' ' || byte.is_ascii_graphic()
}

/// The instant as an IMF-fixdate (RFC 9110, section 5.6.7); about 30 ns, so that nothing needs to be cached.
fn write_date(out: &mut Vec<u8>, now: Utc) {
    let latest = jiff::Timestamp::MAX;
    let millis = i64::try_from(now.as_millis()).unwrap_or(i64::MAX);
    let instant = jiff::Timestamp::from_millisecond(millis).unwrap_or(latest);
    DateTimePrinter::new().print_timestamp_rfc9110(&instant, out).expect("the years 1970 to 9999 have a date");
}

/// The words for a status (RFC 9110, section 15; RFC 6585).
fn reason_phrase(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        204 => "No Content",
        206 => "Partial Content",
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        304 => "Not Modified",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        408 => "Request Timeout",
        409 => "Conflict",
        410 => "Gone",
        411 => "Length Required",
        412 => "Precondition Failed",
        413 => "Content Too Large",
        414 => "URI Too Long",
        415 => "Unsupported Media Type",
        417 => "Expectation Failed",
        422 => "Unprocessable Content",
        428 => "Precondition Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        // RFC 9112, section 4: the words may be absent; the status class is better than nothing.
        _ => match status / 100 {
            2 => "Success",
            3 => "Redirection",
            4 => "Client Error",
            _ => "Server Error",
        },
    }
}
