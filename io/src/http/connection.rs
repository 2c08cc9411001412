//! Connections: one client's bytes to requests, and its replies to bytes, in the requests' order.

use super::chunked::Chunked;
use super::head::{Framing, Head, HeadEnd};
use super::input::Input;
use super::output::Output;
use super::refusal::Awaited;
use super::reply::Persistence;
use super::{Limits, Method, Refusal, Reply, Request, RequestNo};
use sheratan_core::time::{Millis, Timestamp};
use std::collections::VecDeque;

/// One client's connection, without its socket.
///
/// How to drive it:
/// - While [`Connection::wants_read`], read the socket into any buffer and hand the bytes to [`Connection::received`]; at
///   the end of the stream call [`Connection::received_end`]. When it does not want to read, leave the bytes in the
///   socket: that is the backpressure.
/// - Then call [`Connection::next_request`] until there is none. A request borrows from the connection; keep its
///   [`RequestNo`] and answer by it with [`Connection::reply`], at once or later, in any order.
/// - Write [`Connection::output`] to the socket and say with [`Connection::wrote`] how far that went, until it is empty.
/// - Call [`Connection::handle_timeout`] at [`Connection::next_timeout`].
/// - After each of these: if [`Connection::has_request`], ask for it (a reply or a write may have made room for it); if
///   [`Connection::wants_shutdown`], shut the socket down for writing, so that the client sees the end at once; if
///   [`Connection::is_done`], close the socket.
///
/// It takes about 490 bytes, and no heap while it is idle: 10,000 idle connections take 5 MB. A long poll adds one slot of
/// the pipeline, 400 bytes. A request of 350 bytes and its reply take about 0.6 µs.
///
/// No method panics on any input. `now` should not go back; if it does, timeouts are late by as much.
#[derive(Debug)]
pub struct Connection {
    limits: Limits,
    input: Input,
    reading: Reading,
    /// The requests that were handed out and whose replies have not left, in order.
    slots: VecDeque<Slot>,
    /// The number of the first of them.
    first_no: u64,
    /// Bytes of replies that wait for an earlier one.
    held_bytes: usize,
    output: Output,
    /// The connection was opened, output began to wait, or some of it was taken: what idleness and a stuck client are
    /// measured from.
    active_at: Timestamp,
    ending: Ending,
    refusal: Option<Refusal>,
    has_input_ended: bool,
    is_draining: bool,
}

/// Where in its input a connection is.
#[derive(Debug)]
enum Reading {
    /// Between requests, or in a head.
    Head(HeadEnd),
    /// In a body.
    Body(Body),
    /// A whole request lies at the front of the input.
    Ready(Message),
    /// It was handed out, and is used up at the next call.
    Taken(Message),
    /// There are no more requests.
    Ended,
}

/// A body that is arriving, behind its head.
#[derive(Debug)]
struct Body {
    head: Head,
    framing: BodyFraming,
    since: Timestamp,
    /// The client waits for `100 Continue`.
    is_awaited: bool,
}

#[derive(Debug)]
enum BodyFraming {
    Length(usize),
    Chunked(Chunked),
}

/// A whole request's place in the input.
#[derive(Debug)]
struct Message {
    head: Head,
    body_end: usize,
    end: usize,
}

/// A request that waits for its reply to leave.
#[derive(Debug)]
struct Slot {
    is_head: bool,
    is_http10: bool,
    reply: Option<Reply>,
}

/// How a connection ends once there are no more requests and all output was taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Ending {
    /// At once.
    Close,
    /// Its input is thrown away for a while: closing a socket whose input was not read resets the connection, and the
    /// client may lose the last reply by it (RFC 9112, section 9.6).
    Linger,
    /// That while has begun.
    Lingering { until: Timestamp, bytes_left: usize },
    /// Without another byte: the client does not take any.
    Abort,
}

impl Connection {
    /// A connection that was just accepted.
    pub fn new(now: Timestamp, limits: &Limits) -> Self {
        Connection {
            limits: *limits,
            input: Input::default(),
            reading: Reading::Head(HeadEnd::default()),
            slots: VecDeque::new(),
            first_no: 0,
            held_bytes: 0,
            output: Output::default(),
            active_at: now,
            ending: Ending::Close,
            refusal: None,
            has_input_ended: false,
            is_draining: false,
        }
    }

    /// Whether bytes of the socket are wanted now: not while a request waits to be handed out, the pipeline is full or
    /// too much output waits.
    pub fn wants_read(&self) -> bool {
        !self.has_input_ended
            && match self.reading {
                Reading::Head(_) | Reading::Body(_) => self.has_room(),
                Reading::Ready(_) | Reading::Taken(_) => false,
                Reading::Ended => matches!(self.ending, Ending::Lingering { .. }),
            }
    }

    /// The client sent these bytes. They are copied; the loop can read all sockets into one buffer.
    pub fn received(&mut self, now: Timestamp, bytes: &[u8]) {
        self.release();
        match self.reading {
            Reading::Ended => self.discard(bytes.len()),
            _ => self.input.append(bytes),
        }
        self.advance(now);
    }

    /// The client will send no more: what it asked before is answered, then the connection is done.
    pub fn received_end(&mut self, now: Timestamp) {
        self.has_input_ended = true;
        if matches!(self.ending, Ending::Linger | Ending::Lingering { .. }) {
            self.ending = Ending::Close;
        }
        self.advance(now);
    }

    /// Whether [`Connection::next_request`] would give a request.
    pub fn has_request(&self) -> bool {
        matches!(self.reading, Reading::Ready(_)) && self.has_room()
    }

    /// The next request, whole and checked.
    pub fn next_request(&mut self, now: Timestamp) -> Option<Request<'_>> {
        self.advance(now);
        if !self.has_request() {
            return None;
        }
        let Reading::Ready(message) = std::mem::replace(&mut self.reading, Reading::Ended) else {
            unreachable!("a request is there when its whole message is");
        };
        let no = RequestNo(self.first_no + self.slots.len() as u64);
        let is_head = *message.head.method() == Method::Head;
        self.slots.push_back(Slot { is_head, is_http10: message.head.is_http10, reply: None });
        self.reading = Reading::Taken(message);
        let Reading::Taken(Message { head, body_end, .. }) = &self.reading else { unreachable!("set above") };
        let (head_bytes, body) = self.input.bytes()[..*body_end].split_at(head.len);
        Some(Request::new(no, head, head_bytes, body))
    }

    /// Answers a request. The reply leaves when those to all earlier requests have.
    ///
    /// Each request is answered once. After a timeout closed the connection, replies are dropped.
    pub fn reply(&mut self, now: Timestamp, no: RequestNo, reply: Reply) {
        if self.ending == Ending::Abort {
            return;
        }
        // What follows in the input decides whether this is the last reply, and says so.
        self.advance(now);
        let index = no.0.checked_sub(self.first_no).expect("a request is answered once");
        let slot = self.slots.get_mut(index as usize).expect("a request is answered after it was handed out");
        assert!(slot.reply.is_none(), "a request is answered once");
        self.held_bytes += reply.bytes();
        slot.reply = Some(reply);
        self.emit(now);
        self.advance(now);
    }

    /// The bytes to send next; empty when there are none.
    pub fn output(&self) -> &[u8] {
        self.output.front()
    }

    /// The socket took the first `count` bytes of the output.
    pub fn wrote(&mut self, now: Timestamp, count: usize) {
        if count == 0 {
            return;
        }
        let was_stopped = !self.has_output_room();
        self.output.consume(count);
        self.active_at = now;
        if was_stopped && self.has_output_room() {
            self.restart_read_clock(now);
        }
        self.advance(now);
    }

    /// The hub stops: what was received whole is answered, the last reply says `Connection: close`, and an idle
    /// connection is done at once.
    pub fn begin_drain(&mut self, now: Timestamp) {
        self.is_draining = true;
        self.advance(now);
    }

    /// When [`Connection::handle_timeout`] is to be called; it changes with every other call.
    pub fn next_timeout(&self) -> Option<Timestamp> {
        let timeouts = [self.write_timeout(), self.read_timeout(), self.idle_timeout(), self.linger_timeout()];
        timeouts.into_iter().flatten().min()
    }

    /// Closes, or refuses what did not arrive, if its time is over at `now`.
    pub fn handle_timeout(&mut self, now: Timestamp) {
        let is_over = |at: Option<Timestamp>| at.is_some_and(|at| at <= now);
        if is_over(self.write_timeout()) {
            self.abort();
        } else if is_over(self.read_timeout()) {
            let awaited = if matches!(self.reading, Reading::Body(_)) { Awaited::Body } else { Awaited::Head };
            self.refuse(now, Refusal::RequestTimeout { awaited });
        } else if is_over(self.idle_timeout()) {
            self.reading = Reading::Ended;
        } else if is_over(self.linger_timeout()) {
            self.ending = Ending::Close;
        }
    }

    /// Whether the socket is to be closed now.
    pub fn is_done(&self) -> bool {
        match self.ending {
            Ending::Abort => true,
            Ending::Close => self.is_answered() && matches!(self.reading, Reading::Ended),
            Ending::Linger | Ending::Lingering { .. } => false,
        }
    }

    /// Whether the socket is to be shut down for writing: the last byte was sent, and the client may still be sending.
    pub fn wants_shutdown(&self) -> bool {
        matches!(self.ending, Ending::Lingering { .. })
    }

    /// How many requests were handed out and not answered.
    pub fn pending(&self) -> usize {
        self.slots.iter().filter(|slot| slot.reply.is_none()).count()
    }

    /// Whether nothing is in flight in either direction, and requests may come.
    pub fn is_idle(&self) -> bool {
        matches!(self.reading, Reading::Head(_)) && self.input.is_empty() && self.is_answered()
    }

    /// Whether the client has closed its end. It may have closed both: a reply may reach nobody.
    pub fn has_input_ended(&self) -> bool {
        self.has_input_ended
    }

    /// What the connection refused on its own; after it there are no more requests.
    pub fn refusal(&self) -> Option<Refusal> {
        self.refusal
    }

    /// Brings the input as far as it goes: uses up what was handed out, and reads on to the next whole request.
    fn advance(&mut self, now: Timestamp) {
        self.release();
        if let Err(refusal) = self.read_on(now) {
            self.refuse(now, refusal);
        }
        let is_last = self.has_input_ended || self.is_draining;
        let is_partial = match self.reading {
            Reading::Head(_) => self.has_room() || self.input.is_empty(),
            Reading::Body(_) => true,
            _ => false,
        };
        if is_last && is_partial {
            self.end_reading();
        }
        self.offer_continue(now);
        if self.ending == Ending::Linger && self.is_answered() {
            let until = now + self.limits.linger_ms;
            self.ending = Ending::Lingering { until, bytes_left: self.limits.linger_bytes_max };
        }
    }

    /// Uses up the request that was handed out.
    fn release(&mut self) {
        let Reading::Taken(message) = &self.reading else { return };
        let is_last = !message.head.is_keep_alive;
        self.input.consume(message.end);
        self.reading = Reading::Head(HeadEnd::default());
        if is_last {
            self.end_reading();
        }
    }

    fn read_on(&mut self, now: Timestamp) -> Result<(), Refusal> {
        if matches!(self.reading, Reading::Head(_)) && self.has_room() {
            self.read_head(now)?;
        }
        if matches!(self.reading, Reading::Body(_)) {
            self.read_body()?;
        }
        Ok(())
    }

    fn read_head(&mut self, now: Timestamp) -> Result<(), Refusal> {
        let Reading::Head(search) = &mut self.reading else { unreachable!("asked for in a head") };
        if !search.is_line_skipped && self.input.bytes().starts_with(b"\r\n") {
            self.input.consume(2);
            *search = HeadEnd::behind_empty_line();
        }
        let bytes = self.input.bytes();
        if bytes.is_empty() {
            return Ok(());
        }
        search.since.get_or_insert(now);
        let Some(len) = search.find(bytes, &self.limits)? else { return Ok(()) };
        let head = Head::parse(&bytes[..len], &self.limits)?;
        let has_body_begun = bytes.len() > len;
        let framing = match head.framing {
            Framing::Length(length) => BodyFraming::Length(length),
            Framing::Chunked => BodyFraming::Chunked(Chunked::new(len, &self.limits)),
        };
        let is_awaited = head.expects_continue && !has_body_begun;
        self.reading = Reading::Body(Body { head, framing, since: now, is_awaited });
        Ok(())
    }

    fn read_body(&mut self) -> Result<(), Refusal> {
        let Reading::Body(body) = &mut self.reading else { unreachable!("asked for in a body") };
        let head_len = body.head.len;
        let there = self.input.bytes().len();
        let ends = match &mut body.framing {
            BodyFraming::Length(length) => {
                (there >= head_len + *length).then_some((head_len + *length, head_len + *length))
            }
            BodyFraming::Chunked(chunked) => {
                let is_whole = chunked.decode(self.input.bytes_mut(), &self.limits)?;
                if !is_whole {
                    self.input.truncate(chunked.body_end());
                }
                is_whole.then(|| (chunked.body_end(), chunked.message_end()))
            }
        };
        body.is_awaited &= there == head_len;
        let Some((body_end, end)) = ends else { return Ok(()) };
        let Reading::Body(body) = std::mem::replace(&mut self.reading, Reading::Ended) else {
            unreachable!("as above")
        };
        self.reading = Reading::Ready(Message { head: body.head, body_end, end });
        Ok(())
    }

    /// Says `100 Continue` to a client that waits for it, once nothing else could be taken for the answer to it.
    fn offer_continue(&mut self, now: Timestamp) {
        let Reading::Body(body) = &mut self.reading else { return };
        if body.is_awaited && self.slots.is_empty() {
            body.is_awaited = false;
            body.since = now;
            self.begin_output(now);
            self.output.write(|out| out.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n"));
        }
    }

    /// Moves the replies whose turn it is to the output.
    fn emit(&mut self, now: Timestamp) {
        while let Some(reply) = self.slots.front_mut().and_then(|slot| slot.reply.take()) {
            let slot = self.slots.pop_front().expect("its reply was just taken");
            self.first_no += 1;
            self.held_bytes -= reply.bytes();
            let is_last = self.slots.is_empty() && matches!(self.reading, Reading::Ended);
            let persistence = match (is_last, slot.is_http10) {
                (true, _) => Persistence::Close,
                (false, true) => Persistence::KeepAliveHttp10,
                (false, false) => Persistence::KeepAlive,
            };
            self.begin_output(now);
            reply.write(now, &mut self.output, persistence, slot.is_head);
        }
        if self.slots.is_empty() {
            self.slots = VecDeque::new();
        }
    }

    fn begin_output(&mut self, now: Timestamp) {
        if self.output.is_empty() {
            self.active_at = now;
        }
    }

    /// Answers with a refusal in its turn, and reads no more requests.
    fn refuse(&mut self, now: Timestamp, refusal: Refusal) {
        self.refusal = Some(refusal);
        let is_head = self.input.bytes().starts_with(b"HEAD ");
        self.reading = Reading::Ended;
        self.input.clear();
        // A client that has closed its end sends nothing that would have to be waited for.
        self.ending = if self.has_input_ended { Ending::Close } else { Ending::Linger };
        let reply = refusal.reply();
        self.held_bytes += reply.bytes();
        self.slots.push_back(Slot { is_head, is_http10: false, reply: Some(reply) });
        self.emit(now);
    }

    /// No more requests: what is left of the input is thrown away. If a reply is on its way, and the client was sending or
    /// may be, the connection lingers.
    fn end_reading(&mut self) {
        let is_sending = !self.input.is_empty() || self.is_draining;
        if is_sending && !self.has_input_ended && !self.is_answered() {
            self.ending = Ending::Linger;
        }
        self.input.clear();
        self.reading = Reading::Ended;
    }

    fn discard(&mut self, count: usize) {
        self.ending = match self.ending {
            Ending::Lingering { until, bytes_left } if count <= bytes_left => {
                Ending::Lingering { until, bytes_left: bytes_left - count }
            }
            Ending::Lingering { .. } => Ending::Close,
            Ending::Close if !self.is_answered() => Ending::Linger,
            other => other,
        };
    }

    fn abort(&mut self) {
        self.reading = Reading::Ended;
        self.ending = Ending::Abort;
        self.input.clear();
        self.output.clear();
        self.slots = VecDeque::new();
        self.held_bytes = 0;
    }

    /// Nobody waits for a reply, and all replies were sent.
    fn is_answered(&self) -> bool {
        self.slots.is_empty() && self.output.is_empty()
    }

    fn has_room(&self) -> bool {
        self.slots.len() < self.limits.pipeline_max && self.has_output_room()
    }

    fn has_output_room(&self) -> bool {
        self.output.len() + self.held_bytes <= self.limits.output_bytes_max
    }

    /// The client could not be heard for a while; its time begins anew.
    fn restart_read_clock(&mut self, now: Timestamp) {
        match &mut self.reading {
            Reading::Head(search) => search.since = search.since.map(|_| now),
            Reading::Body(body) => body.since = now,
            _ => {}
        }
    }

    fn write_timeout(&self) -> Option<Timestamp> {
        (!self.output.is_empty()).then(|| self.active_at + self.limits.write_timeout_ms)
    }

    /// When the rest of a head or a body must have arrived.
    fn read_timeout(&self) -> Option<Timestamp> {
        if !self.has_room() {
            return None;
        }
        match &self.reading {
            Reading::Head(search) => Some(search.since? + self.limits.head_timeout_ms),
            Reading::Body(body) if !body.is_awaited => {
                let received = self.input.bytes().len() - body.head.len;
                let steps = (received / self.limits.body_step_bytes) as u64;
                let more = Millis::new(self.limits.body_step_ms.get().saturating_mul(steps));
                Some(body.since + self.limits.body_timeout_ms + more)
            }
            _ => None,
        }
    }

    fn idle_timeout(&self) -> Option<Timestamp> {
        self.is_idle().then(|| self.active_at + self.limits.idle_timeout_ms)
    }

    fn linger_timeout(&self) -> Option<Timestamp> {
        match self.ending {
            Ending::Lingering { until, .. } => Some(until),
            _ => None,
        }
    }

    /// The heap that it holds.
    #[cfg(test)]
    pub(super) fn heap(&self) -> Heap {
        Heap {
            input_bytes: self.input.capacity(),
            output_bytes: self.output.capacity() + self.held_bytes,
            slots: self.slots.capacity(),
        }
    }
}

/// The heap that a connection holds.
#[cfg(test)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Heap {
    pub(super) input_bytes: usize,
    pub(super) output_bytes: usize,
    pub(super) slots: usize,
}
