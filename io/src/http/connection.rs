//! A connection: one client's bytes in, its requests out, replies in, bytes out, all without a socket.
//!
//! How to drive it:
//! - [`Connection::received`] with the bytes that came, while [`Connection::wants_read`]; [`Connection::received_end`]
//!   when the client sends no more.
//! - [`Connection::next_request`] until it gives none; [`Connection::reply`] to each request, in any order: replies leave
//!   in the order of their requests.
//! - [`Connection::output`] is to be written, [`Connection::wrote`] says how far; then [`Connection::is_done`] says
//!   whether to close, and [`Connection::wants_shutdown`] whether to close for writing only.
//! - [`Connection::handle_timeout`] at [`Connection::next_timeout`].
//!
//! A request is handed out when it is whole, and borrows from the connection: nothing is copied. An idle connection holds
//! no buffer. A request that cannot be understood is refused in its turn; then what the client still sends is thrown away
//! for a moment, so that it reads the refusal and not a reset.

use super::chunked::Chunked;
use super::head::{self, BodyLength, Head, Method, Refused};
use super::limits::{BODY_BYTES_PER_SEC, Limits};
use super::reply::{Reply, problem};
use sheratan_core::time::{Millis, Timestamp};
use std::collections::VecDeque;

/// The number of a request on its connection.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct RequestNo(u64);

/// A whole request.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    no: RequestNo,
    head: &'a Head,
    head_bytes: &'a [u8],
    body: &'a [u8],
}

/// One client's connection.
#[derive(Debug)]
pub struct Connection {
    limits: Limits,
    /// What came and was not handed out; the request under way starts at `start`.
    input: Vec<u8>,
    start: usize,
    reading: Reading,
    /// The head of the request that was handed out last, which it borrows.
    head: Option<Head>,
    exchanges: VecDeque<Exchange>,
    next_no: u64,
    output: Vec<u8>,
    written: usize,
    phase: Phase,
    has_ended: bool,
    /// When the connection began to do what it does: to be idle, to receive a head, or a body.
    since: Timestamp,
    wrote_at: Timestamp,
}

/// How far the request under way is.
#[derive(Debug)]
enum Reading {
    /// Its head is not whole; so many bytes were looked at.
    Head { scanned: usize },
    /// Its body is not whole.
    Body { head: Head, chunked: Option<Chunked>, continues: bool },
    /// It is whole: the body's bytes, and those of the request in all.
    Ready { head: Head, body_bytes: usize, total_bytes: usize },
    /// Nothing more is read.
    Over,
}

/// Where the connection is in its life.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    Open,
    /// No new requests; what is there is answered.
    Draining,
    /// The last reply is being written.
    Closing,
    /// All is written; what still comes is thrown away until then.
    Lingering(Timestamp),
    Done,
}

/// A request that was handed out or refused, and its reply.
#[derive(Debug)]
struct Exchange {
    is_head: bool,
    is_http_10: bool,
    is_last: bool,
    /// The connection itself answers it.
    is_refused: bool,
    reply: Option<Reply>,
}

impl<'a> Request<'a> {
    /// Its number, by which it is answered.
    pub fn no(&self) -> RequestNo {
        self.no
    }

    /// The method.
    pub fn method(&self) -> Method {
        self.head.method
    }

    /// The path as it was sent, without the query.
    pub fn path(&self) -> &'a str {
        text(&self.head_bytes[self.head.path.clone()])
    }

    /// What stands behind the path's `?`.
    pub fn query(&self) -> Option<&'a str> {
        self.head.query.clone().map(|range| text(&self.head_bytes[range]))
    }

    /// The first header of that name.
    pub fn header(&self, name: &str) -> Option<&'a [u8]> {
        let is_it = |key: &[u8]| key.eq_ignore_ascii_case(name.as_bytes());
        let found = self.head.headers.iter().find(|(key, _)| is_it(&self.head_bytes[key.clone()]));
        found.map(|(_, value)| self.head_bytes[value.clone()].trim_ascii())
    }

    /// The body; empty if there is none.
    pub fn body(&self) -> &'a [u8] {
        self.body
    }
}

fn text(target: &[u8]) -> &str {
    std::str::from_utf8(target).expect("targets were checked to be ASCII")
}

impl Connection {
    /// A connection that was just made.
    pub fn new(now: Timestamp, limits: &Limits) -> Self {
        Connection {
            limits: *limits,
            input: Vec::new(),
            start: 0,
            reading: Reading::Head { scanned: 0 },
            head: None,
            exchanges: VecDeque::new(),
            next_no: 0,
            output: Vec::new(),
            written: 0,
            phase: Phase::Open,
            has_ended: false,
            since: now,
            wrote_at: now,
        }
    }

    /// Whether it takes more bytes now. If not, the socket is left alone: that is the client's backpressure.
    pub fn wants_read(&self) -> bool {
        match self.phase {
            Phase::Done | Phase::Draining => false,
            Phase::Closing | Phase::Lingering(_) => !self.has_ended,
            Phase::Open => {
                let is_waiting = matches!(self.reading, Reading::Ready { .. } | Reading::Over);
                !is_waiting && !self.has_ended && !self.is_pipeline_full()
            }
        }
    }

    /// Takes the bytes that came. O(bytes).
    pub fn received(&mut self, now: Timestamp, bytes: &[u8]) {
        if self.has_ended || matches!(self.reading, Reading::Over) {
            return;
        }
        if self.input.len() == self.start && matches!(self.reading, Reading::Head { .. }) {
            self.since = now;
        }
        self.drop_consumed();
        self.input.extend_from_slice(bytes);
        self.read_on(now);
    }

    /// The client sends no more; it may still read.
    pub fn received_end(&mut self, now: Timestamp) {
        self.has_ended = true;
        match self.phase {
            Phase::Lingering(_) => self.finish(),
            _ => self.give_up_partial_request(now),
        }
    }

    /// The next whole request. It borrows from the connection: keep its number, and drop it before the reply.
    pub fn next_request(&mut self, now: Timestamp) -> Option<Request<'_>> {
        if !self.has_request() {
            return None;
        }
        let ready = std::mem::replace(&mut self.reading, Reading::Head { scanned: 0 });
        let Reading::Ready { head, body_bytes, total_bytes } = ready else { unreachable!("it was just asked for") };
        let is_last = !head.is_keep_alive;
        self.exchanges.push_back(Exchange {
            is_head: head.method == Method::Head,
            is_http_10: head.is_http_10,
            is_last,
            is_refused: false,
            reply: None,
        });
        let no = RequestNo(self.next_no);
        self.next_no += 1;
        let request_start = self.start;
        self.start += total_bytes;
        self.since = now;
        if is_last {
            self.reading = Reading::Over;
        } else {
            // What follows is looked at now, since the request borrows the connection from here on.
            self.read_on(now);
            if (self.has_ended || self.phase == Phase::Draining) && !matches!(self.reading, Reading::Ready { .. }) {
                self.reading = Reading::Over;
            }
        }
        let head = self.head.insert(head);
        let body_start = request_start + head.length;
        Some(Request {
            no,
            head,
            head_bytes: &self.input[request_start..body_start],
            body: &self.input[body_start..body_start + body_bytes],
        })
    }

    /// Whether [`Connection::next_request`] has one.
    pub fn has_request(&self) -> bool {
        matches!(self.reading, Reading::Ready { .. }) && !self.is_pipeline_full() && self.phase != Phase::Done
    }

    /// Answers a request; each is answered once.
    pub fn reply(&mut self, now: Timestamp, no: RequestNo, reply: Reply) {
        let first = self.next_no - self.exchanges.len() as u64;
        let Some(exchange) = no.0.checked_sub(first).and_then(|at| self.exchanges.get_mut(at as usize)) else {
            // The connection gave up meanwhile.
            assert!(self.phase == Phase::Done, "a request is answered once");
            return;
        };
        assert!(exchange.reply.is_none() && !exchange.is_refused, "a request is answered once");
        exchange.reply = Some(reply);
        self.flush(now);
    }

    /// What is to be written.
    pub fn output(&self) -> &[u8] {
        &self.output[self.written..]
    }

    /// So many bytes of the output were written.
    pub fn wrote(&mut self, now: Timestamp, count: usize) {
        assert!(count <= self.output().len(), "only what is there can be written");
        self.written += count;
        self.wrote_at = now;
        if self.written == self.output.len() {
            self.written = 0;
            self.output = Vec::new();
            if self.phase == Phase::Closing { self.end(now) } else { self.flush(now) }
        }
    }

    /// Whether the socket is to be closed.
    pub fn is_done(&self) -> bool {
        self.phase == Phase::Done
    }

    /// Whether all is written and the socket is to be closed for writing, while what still comes is thrown away.
    pub fn wants_shutdown(&self) -> bool {
        matches!(self.phase, Phase::Lingering(_))
    }

    /// No new requests: those that came whole are answered, then the connection is done.
    pub fn begin_drain(&mut self, now: Timestamp) {
        if self.phase == Phase::Open {
            self.phase = Phase::Draining;
            self.give_up_partial_request(now);
        }
    }

    /// When time will have run out for what the client does, or does not do.
    pub fn next_timeout(&self) -> Option<Timestamp> {
        let limits = &self.limits;
        let write_at = (!self.output.is_empty()).then(|| self.wrote_at + limits.write_timeout_ms);
        let read_at = match (self.phase, &self.reading) {
            (Phase::Done, _) => return None,
            (Phase::Lingering(until), _) => Some(until),
            (_, Reading::Head { .. }) if self.input.len() > self.start => Some(self.since + limits.head_timeout_ms),
            (_, Reading::Head { .. }) if self.exchanges.is_empty() && self.output.is_empty() => {
                Some(self.since + limits.idle_timeout_ms)
            }
            (_, Reading::Body { .. }) => {
                let bonus = (self.input.len() - self.start) as u64 / BODY_BYTES_PER_SEC;
                Some(self.since + limits.body_timeout_ms + Millis::from_secs(bonus))
            }
            _ => None,
        };
        read_at.into_iter().chain(write_at).min()
    }

    /// Time has run out, if [`Connection::next_timeout`] is not later than `now`.
    pub fn handle_timeout(&mut self, now: Timestamp) {
        if self.next_timeout().is_none_or(|at| at > now) {
            return;
        }
        let is_idle = self.input.len() == self.start && matches!(self.reading, Reading::Head { .. });
        let is_writing_late = !self.output.is_empty() && self.wrote_at + self.limits.write_timeout_ms <= now;
        match (self.phase, &self.reading) {
            (Phase::Open, Reading::Head { .. } | Reading::Body { .. }) if !is_idle && !is_writing_late => {
                let detail = "the request did not come whole in time".to_owned();
                self.refuse(now, Refused { status: 408, code: "request_timeout", detail });
            }
            _ => self.finish(),
        }
    }

    /// A request that is not whole never will be.
    fn give_up_partial_request(&mut self, now: Timestamp) {
        if !matches!(self.reading, Reading::Ready { .. }) {
            self.reading = Reading::Over;
        }
        self.flush(now);
    }

    fn is_pipeline_full(&self) -> bool {
        self.exchanges.len() >= self.limits.pipeline_max || self.output().len() >= self.limits.output_bytes_max
    }

    /// Looks at what came, up to the end of the next request.
    fn read_on(&mut self, now: Timestamp) {
        if let Err(refused) = self.try_read_on(now) {
            self.refuse(now, refused);
        }
    }

    fn try_read_on(&mut self, now: Timestamp) -> Result<(), Refused> {
        loop {
            match std::mem::replace(&mut self.reading, Reading::Over) {
                Reading::Head { scanned } => {
                    if scanned == 0 {
                        self.skip_empty_lines();
                    }
                    let bytes = &self.input[self.start..];
                    let Some(length) = head::find_end(bytes, scanned, &self.limits)? else {
                        self.reading = Reading::Head { scanned: bytes.len() };
                        return Ok(());
                    };
                    let head = head::parse(&bytes[..length], &self.limits)?;
                    let chunked = (head.body == BodyLength::Chunked).then(Chunked::default);
                    let continues = head.expects_continue;
                    self.since = now;
                    self.reading = Reading::Body { head, chunked, continues };
                }
                Reading::Body { head, mut chunked, continues } => {
                    let whole = self.read_body(&head, chunked.as_mut())?;
                    let Some((body_bytes, total_bytes)) = whole else {
                        self.reading = Reading::Body { head, chunked, continues };
                        self.flush(now);
                        return Ok(());
                    };
                    self.reading = Reading::Ready { head, body_bytes, total_bytes };
                    return Ok(());
                }
                other => {
                    self.reading = other;
                    return Ok(());
                }
            }
        }
    }

    /// Empty lines before a request are from clients that end a body with one (RFC 9112, section 2.2).
    fn skip_empty_lines(&mut self) {
        while self.input[self.start..].starts_with(b"\r\n") {
            self.start += 2;
        }
    }

    /// The bytes of the body and of the whole request, if it is whole.
    fn read_body(&mut self, head: &Head, chunked: Option<&mut Chunked>) -> Result<Option<(usize, usize)>, Refused> {
        let body_start = self.start + head.length;
        let (Some(chunked), BodyLength::Chunked) = (chunked, head.body) else {
            let BodyLength::Known(bytes) = head.body else { unreachable!("a chunked body has a decoder") };
            let is_whole = self.input.len() - body_start >= bytes;
            return Ok(is_whole.then_some((bytes, head.length + bytes)));
        };
        if chunked.decode(&mut self.input[body_start..], &self.limits)? {
            return Ok(Some((chunked.decoded, head.length + chunked.raw)));
        }
        // Sizes between the data take room too: many small chunks must not hold many times their data.
        self.input.drain(body_start + chunked.decoded..body_start + chunked.raw);
        chunked.raw = chunked.decoded;
        Ok(None)
    }

    fn drop_consumed(&mut self) {
        if self.start == self.input.len() {
            self.input.clear();
        } else {
            self.input.drain(..self.start);
        }
        self.start = 0;
    }

    /// Answers what cannot be understood, in its turn, and reads no more.
    fn refuse(&mut self, now: Timestamp, refused: Refused) {
        self.reading = Reading::Over;
        let reply = problem(refused.status, refused.code, &refused.detail, "");
        self.exchanges.push_back(Exchange {
            is_head: false,
            is_http_10: false,
            is_last: true,
            is_refused: true,
            reply: Some(reply),
        });
        self.next_no += 1;
        self.flush(now);
    }

    /// Writes the replies whose turn it is, and ends what has come to its end.
    fn flush(&mut self, now: Timestamp) {
        if !matches!(self.phase, Phase::Open | Phase::Draining) {
            return;
        }
        while let Some(Exchange { reply: Some(_), .. }) = self.exchanges.front() {
            let Exchange { is_head, is_http_10, is_last, reply, .. } =
                self.exchanges.pop_front().expect("it has a front");
            let is_end = self.exchanges.is_empty() && self.is_at_end();
            let connection = if is_last || is_end {
                Some("close")
            } else if is_http_10 {
                Some("keep-alive")
            } else {
                None
            };
            if self.output.is_empty() {
                self.wrote_at = now;
            }
            reply.expect("its reply is there").write(now, is_head, connection, &mut self.output);
            if is_last || is_end {
                return self.end(now);
            }
        }
        if self.exchanges.is_empty() {
            self.invite_body(now);
            if self.is_at_end() && self.output.is_empty() {
                self.end(now);
            } else if self.output.is_empty() && self.start == self.input.len() {
                // Idle: nothing is held for a client that does nothing.
                self.input = Vec::new();
                self.start = 0;
                self.head = None;
                if matches!(self.reading, Reading::Head { .. }) {
                    self.since = now;
                }
            }
        }
    }

    /// Nothing comes after what was answered.
    fn is_at_end(&self) -> bool {
        match self.phase {
            Phase::Draining => !matches!(self.reading, Reading::Ready { .. }),
            Phase::Open => matches!(self.reading, Reading::Over),
            Phase::Closing | Phase::Lingering(_) | Phase::Done => true,
        }
    }

    /// Tells a client that waits before it sends its body to send it, once all before it is answered.
    fn invite_body(&mut self, now: Timestamp) {
        if let (Phase::Open, Reading::Body { continues, .. }) = (self.phase, &mut self.reading)
            && std::mem::take(continues)
        {
            if self.output.is_empty() {
                self.wrote_at = now;
            }
            self.output.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
        }
    }

    /// The last reply is in the output, or written.
    fn end(&mut self, now: Timestamp) {
        let is_new = matches!(self.phase, Phase::Open | Phase::Draining) && self.output.is_empty();
        self.reading = Reading::Over;
        self.exchanges.clear();
        self.input = Vec::new();
        self.start = 0;
        if !self.output.is_empty() {
            self.phase = Phase::Closing;
        } else if is_new || self.has_ended {
            self.finish();
        } else {
            self.phase = Phase::Lingering(now + self.limits.linger_ms);
        }
    }

    fn finish(&mut self) {
        self.phase = Phase::Done;
        self.reading = Reading::Over;
        self.exchanges.clear();
        self.input = Vec::new();
        self.output = Vec::new();
        (self.start, self.written) = (0, 0);
    }
}
