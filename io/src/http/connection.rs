//! Connections: parses one client's bytes into requests, and encodes its replies in the requests' order.

use super::output::Output;
use super::reader::Reader;
use super::reply::Persistence;
use super::unsent::{self, UnsentLeases};
use super::{Limits, Method, Refusal, Reply, Request, RequestId};
use sheratan_core::{Calendar, LeaseRef, Timestamp};
use std::collections::VecDeque;
use std::mem;

/// One client's connection, without its socket.
///
/// How to drive it:
/// - While [`Connection::wants_read`], read the socket into any buffer and pass the bytes to [`Connection::received`];
///   at the end of the stream call [`Connection::received_end`]. When it does not want to read, leave the bytes in the
///   socket: that is the backpressure.
/// - Then call [`Connection::next_request`] until there is none. A request borrows from the connection; keep its
///   [`RequestId`] and answer by it with [`Connection::reply`], at once or later, in any order.
/// - Write [`Connection::output`] to the socket and report the written bytes with [`Connection::wrote`], until it is
///   empty.
/// - A reply whose body has no end yet begins with [`Connection::begin_stream`] and grows with [`Connection::push`],
///   until [`Connection::end_stream`]. It is the connection's last: its body ends where the connection does.
/// - Call [`Connection::handle_timeout`] at [`Connection::next_timeout`].
/// - After each of these: if [`Connection::has_request`], get it (a reply or a write may have made room for it); if
///   [`Connection::wants_shutdown`], shut the socket down for writing, so that the client sees the end at once; if
///   [`Connection::is_done`], close the socket.
///
/// It takes 536 bytes, and no heap while it is idle: 10,000 idle connections take 5 MB. A long poll adds one slot of
/// the pipeline, 384 bytes. A request of 350 bytes and its reply take about 0.6 µs.
///
/// No bytes from a client make it panic. `now` should not go back; if it does, timeouts are late by as much.
#[derive(Debug)]
pub struct Connection {
    limits: Limits,
    calendar: Calendar,
    reader: Reader,
    /// The requests that were returned and whose replies are not in the output, in order.
    slots: VecDeque<Slot>,
    /// The id of the first of them.
    first_id: u64,
    /// Bytes of replies that wait for an earlier one.
    held_bytes: usize,
    output: Output,
    unsent: UnsentLeases,
    /// When the connection was opened, output began to wait, or some of it was written: the start of the idle and the
    /// write timeout.
    active_at: Timestamp,
    ending: Ending,
    stream: Stream,
    refusal: Option<Refusal>,
    has_input_ended: bool,
    is_draining: bool,
}

/// The last reply, if its body has no end yet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stream {
    /// There is none, or its body is complete.
    None,
    /// Earlier replies are not in the output: pushed bytes are kept with it, in the last slot.
    Waiting,
    /// It is in the output, after this many bytes of earlier replies: pushed bytes follow.
    Open { bytes_ahead: usize },
}

/// A request whose reply is not in the output.
#[derive(Debug)]
struct Slot {
    is_head: bool,
    is_http10: bool,
    reply: Option<Reply>,
}

/// How a connection ends once there are no more requests and all output was written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Ending {
    /// At once.
    Close,
    /// Its input is discarded for a while: closing a socket with unread input resets the connection, and the client may
    /// lose the last reply (RFC 9112, section 9.6).
    Linger { bytes_max: usize },
    /// Its input is being discarded.
    Lingering { until: Timestamp, bytes_left: usize },
    /// Without another byte: the client reads none.
    Abort,
}

impl Connection {
    /// A connection that was just accepted.
    pub fn new(now: Timestamp, limits: &Limits) -> Self {
        Connection {
            limits: *limits,
            calendar: Calendar::UNSET,
            reader: Reader::new(),
            slots: VecDeque::new(),
            first_id: 0,
            held_bytes: 0,
            output: Output::default(),
            unsent: UnsentLeases::default(),
            active_at: now,
            ending: Ending::Close,
            stream: Stream::None,
            refusal: None,
            has_input_ended: false,
            is_draining: false,
        }
    }

    /// Sets what the calendar shows at the instants that the connection is given: replies have it as `Date`.
    pub fn set_calendar(&mut self, calendar: Calendar) {
        self.calendar = calendar;
    }

    /// From now on a body that does not come together with its head is read only after [`Connection::admit`]: whoever
    /// drives the connection looks at [`Connection::unadmitted_request`] after each call.
    pub fn check_heads(&mut self) {
        self.reader.check_heads();
    }

    /// The request whose head has arrived and whose body is to be admitted or refused; it has no body yet.
    pub fn unadmitted_request(&self) -> Option<Request<'_>> {
        if !self.has_room() {
            return None;
        }
        let (head, head_bytes) = self.reader.unadmitted()?;
        Some(Request::new(RequestId(self.first_id + self.slots.len() as u64), head, head_bytes, &[]))
    }

    /// Admits the body: it is read, and a client that waits for `100 Continue` gets it.
    pub fn admit(&mut self, now: Timestamp) {
        self.reader.admit();
        self.advance(now);
    }

    /// Refuses a request without its body. The connection closes: what follows is discarded, for a second or until
    /// `unadmitted_bytes_max`.
    pub fn refuse_body(&mut self, now: Timestamp, reply: Reply) {
        self.refuse_with(now, reply, self.limits.unadmitted_bytes_max);
    }

    /// Bytes that it holds: input that was not answered, and replies that were not sent.
    pub fn buffered_bytes(&self) -> usize {
        self.reader.len() + self.output.len() + self.held_bytes
    }

    /// Gives up what it holds, since all connections together hold too much: a request that is arriving is answered
    /// with `reply`, and a client that does not read is disconnected.
    pub fn shed(&mut self, now: Timestamp, reply: Reply) {
        if self.reader.has_bytes()
            && self.reader.wants_bytes()
            && self.output.len() + self.held_bytes < self.reader.len()
        {
            self.refuse_with(now, reply, self.limits.unadmitted_bytes_max);
        } else {
            self.abort();
        }
    }

    /// Whether the socket should be read now: not while a request waits to be returned, the pipeline is full or too
    /// much output waits. During a stream, input is discarded and only the client's end matters.
    pub fn wants_read(&self) -> bool {
        let has_use = match self.ending {
            Ending::Lingering { .. } => true,
            _ if self.stream != Stream::None => true,
            _ => self.reader.wants_bytes() && self.has_room(),
        };
        has_use && !self.has_input_ended
    }

    /// Adds bytes that the client sent. They are copied, so the loop can read all sockets into one buffer.
    pub fn received(&mut self, now: Timestamp, bytes: &[u8]) {
        self.release();
        match self.reader.is_ended() {
            true => self.discard(bytes.len()),
            false => self.reader.append(bytes),
        }
        self.advance(now);
    }

    /// The client closed its writing side: its earlier requests are answered, then the connection is done. A stream
    /// ends, since its client has disconnected.
    pub fn received_end(&mut self, now: Timestamp) {
        self.has_input_ended = true;
        self.stream = Stream::None;
        if matches!(self.ending, Ending::Linger { .. } | Ending::Lingering { .. }) {
            self.ending = Ending::Close;
        }
        self.advance(now);
    }

    /// Whether [`Connection::next_request`] would return a request.
    pub fn has_request(&self) -> bool {
        self.reader.is_whole() && self.has_room()
    }

    /// The path of the request that [`Connection::next_request`] would return: some requests can wait, and some cannot.
    pub fn next_path(&self) -> Option<&str> {
        if self.has_request() { self.reader.whole_path() } else { None }
    }

    /// The next complete, checked request.
    pub fn next_request(&mut self, now: Timestamp) -> Option<Request<'_>> {
        self.advance(now);
        if !self.has_request() {
            return None;
        }
        let id = RequestId(self.first_id + self.slots.len() as u64);
        let (head, head_bytes, body) = self.reader.take()?;
        let is_head = *head.method() == Method::Head;
        self.slots.push_back(Slot { is_head, is_http10: head.is_http10, reply: None });
        Some(Request::new(id, head, head_bytes, body))
    }

    /// Notes that the returned request is not looked at any more, so that the input after it can be read before it is
    /// answered. [`Connection::next_request`] does so too.
    pub fn finish_request(&mut self, now: Timestamp) {
        self.advance(now);
    }

    /// Answers a request. The reply is sent after those to all earlier requests.
    ///
    /// After a timeout closed the connection, replies are dropped.
    ///
    /// # Panics
    /// If the request was never returned, or is answered a second time.
    pub fn reply(&mut self, now: Timestamp, id: RequestId, mut reply: Reply) {
        if self.ending == Ending::Abort {
            return self.unsent.add(unsent::NEVER, reply.take_leases());
        }
        // The rest of the input decides whether this is the last reply, whose head says so.
        self.advance(now);
        let index = id.0.checked_sub(self.first_id).expect("a request is answered once");
        let slot = self.slots.get_mut(index as usize).expect("a request is answered after it was returned");
        assert!(slot.reply.is_none(), "a request is answered once");
        self.held_bytes += reply.bytes();
        slot.reply = Some(reply);
        self.emit(now);
        self.advance(now);
    }

    /// Answers a request with a stream: `reply` has the beginning of the body, [`Connection::push`] adds to it. The
    /// head has no length and `Connection: close`: the body ends with the connection (RFC 9112, section 6.3), so
    /// requests that the client pipelined after this one are discarded. A HEAD gets the head alone.
    ///
    /// As any reply, it is sent after the replies to all earlier requests; bytes pushed before are kept.
    ///
    /// # Panics
    /// As [`Connection::reply`]; and if a later request was returned.
    pub fn begin_stream(&mut self, now: Timestamp, id: RequestId, reply: Reply) {
        if self.ending == Ending::Abort {
            return;
        }
        self.reader.release();
        let index = id.0.checked_sub(self.first_id).expect("a request is answered once") as usize;
        if self.slots.len() > index + 1 && self.refusal.is_some() {
            // The refused input follows this request, so the client would never read the refusal.
            let refused = self.slots.pop_back().expect("there is a slot after the request's");
            self.held_bytes -= refused.reply.map_or(0, |reply| reply.bytes());
            self.refusal = None;
        }
        assert!(self.slots.len() <= index + 1, "a stream begins before a later request is handed out");
        let slot = self.slots.get_mut(index).expect("a request is answered after it was returned");
        assert!(slot.reply.is_none(), "a request is answered once");
        if !self.has_input_ended && !self.is_draining {
            self.stream = Stream::Waiting;
        }
        self.held_bytes += reply.bytes();
        slot.reply = Some(reply);
        self.end_reading();
        self.emit(now);
        self.advance(now);
    }

    /// Adds to the stream's body. Returns `false` if there is no stream any more: it was ended, its client has
    /// disconnected or does not read, or more than `stream_bytes_max` bytes of it would wait. In the last case the
    /// connection is done without another byte, since a client that reads too slowly is not waited for.
    pub fn push(&mut self, now: Timestamp, bytes: &[u8]) -> bool {
        let waiting = match self.stream {
            Stream::None => return false,
            Stream::Waiting => self.stream_slot().bytes(),
            Stream::Open { bytes_ahead } => self.output.len() - bytes_ahead,
        };
        if waiting + bytes.len() > self.limits.stream_bytes_max {
            self.abort();
            return false;
        }
        if self.stream == Stream::Waiting {
            self.stream_slot().extend(bytes);
            self.held_bytes += bytes.len();
        } else {
            self.begin_output(now);
            self.output.write(|out| out.extend_from_slice(bytes));
        }
        true
    }

    /// Ends the stream: pushed bytes are sent, then the connection is done.
    pub fn end_stream(&mut self, now: Timestamp) {
        self.stream = Stream::None;
        self.advance(now);
    }

    /// The bytes to send next; empty when there are none.
    pub fn output(&self) -> &[u8] {
        self.output.front()
    }

    /// The first `count` bytes of the output were written to the socket.
    pub fn wrote(&mut self, now: Timestamp, count: usize) {
        if count == 0 {
            return;
        }
        let was_stopped = !self.has_output_room();
        self.output.consume(count);
        self.unsent.sent(count);
        if let Stream::Open { bytes_ahead } = &mut self.stream {
            *bytes_ahead = bytes_ahead.saturating_sub(count);
        }
        self.active_at = now;
        if was_stopped && self.has_output_room() {
            self.reader.restart_clock(now);
        }
        self.advance(now);
    }

    /// Begins to stop: complete requests are answered, the last reply has `Connection: close`, and an idle connection
    /// is done at once. A stream ends after the pushed bytes.
    pub fn begin_drain(&mut self, now: Timestamp) {
        self.is_draining = true;
        self.stream = Stream::None;
        self.advance(now);
    }

    /// When to call [`Connection::handle_timeout`]; it changes with every other call.
    pub fn next_timeout(&self) -> Option<Timestamp> {
        let timeouts = [self.write_timeout(), self.read_timeout(), self.idle_timeout(), self.linger_timeout()];
        timeouts.into_iter().flatten().min()
    }

    /// Closes the connection, or refuses an incomplete request, if its deadline has passed.
    pub fn handle_timeout(&mut self, now: Timestamp) {
        let is_over = |at: Option<Timestamp>| at.is_some_and(|at| at <= now);
        if is_over(self.write_timeout()) {
            self.abort();
        } else if is_over(self.read_timeout()) {
            let awaited = self.reader.awaited();
            self.refuse(now, Refusal::RequestTimeout { awaited });
        } else if is_over(self.idle_timeout()) {
            self.reader.end();
        } else if is_over(self.linger_timeout()) {
            self.ending = Ending::Close;
        }
    }

    /// Whether the socket must be closed now.
    pub fn is_done(&self) -> bool {
        match self.ending {
            Ending::Abort => true,
            Ending::Close => self.is_answered() && self.reader.is_ended(),
            Ending::Linger { .. } | Ending::Lingering { .. } => false,
        }
    }

    /// Whether the socket is to be shut down for writing: the last byte was sent, and the client may still be sending.
    /// It stays so until the connection is done; once is enough.
    pub fn wants_shutdown(&self) -> bool {
        matches!(self.ending, Ending::Lingering { .. })
    }

    /// Whether the client was cut off because it did not take what was sent to it.
    pub fn is_aborted(&self) -> bool {
        self.ending == Ending::Abort
    }

    /// Removes the leases that are granted by replies of which no byte was sent, once the connection is closed.
    pub fn take_unsent_leases(&mut self) -> Vec<LeaseRef> {
        self.abort();
        self.unsent.take()
    }

    /// How many requests were handed out and not answered.
    pub fn pending(&self) -> usize {
        self.slots.iter().filter(|slot| slot.reply.is_none()).count()
    }

    /// Whether nothing is in flight in either direction, and requests may come.
    pub fn is_idle(&self) -> bool {
        self.reader.is_between() && self.is_answered()
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
        let has_room = self.has_room();
        if let Err(refusal) = self.reader.advance(now, &self.limits, has_room) {
            self.refuse(now, refusal);
        }
        let is_last = self.has_input_ended || self.is_draining;
        // Without room a whole request may lie there unread.
        let is_partial = self.reader.is_in_body() || self.reader.is_between() || self.reader.wants_bytes() && has_room;
        if is_last && is_partial {
            self.end_reading();
        }
        self.offer_continue(now);
        if let Ending::Linger { bytes_max } = self.ending
            && self.is_answered()
        {
            let until = now + self.limits.linger_ms;
            self.ending = Ending::Lingering { until, bytes_left: bytes_max };
        }
    }

    /// Uses up the request that was handed out.
    fn release(&mut self) {
        if self.reader.release() {
            self.end_reading();
        }
    }

    /// Says `100 Continue` to a client that waits for it, once nothing else could be taken for the answer to it.
    fn offer_continue(&mut self, now: Timestamp) {
        if self.reader.awaits_continue() && self.slots.is_empty() {
            self.reader.continued(now);
            self.begin_output(now);
            self.output.write(|out| out.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n"));
        }
    }

    /// Moves the replies whose turn it is to the output.
    fn emit(&mut self, now: Timestamp) {
        while let Some(mut reply) = self.slots.front_mut().and_then(|slot| slot.reply.take()) {
            let slot = self.slots.pop_front().expect("its reply was just taken");
            self.first_id += 1;
            self.held_bytes -= reply.bytes();
            let is_last = self.slots.is_empty() && self.reader.is_ended();
            let persistence = match (is_last, slot.is_http10) {
                (true, _) => Persistence::Close,
                (false, true) => Persistence::KeepAliveHttp10,
                (false, false) => Persistence::KeepAlive,
            };
            self.begin_output(now);
            self.unsent.add(self.output.len(), reply.take_leases());
            if is_last && self.stream == Stream::Waiting {
                let bytes_ahead = self.output.len();
                self.stream = if slot.is_head { Stream::None } else { Stream::Open { bytes_ahead } };
                reply.write_unended(self.calendar.utc(now), &mut self.output, slot.is_head);
            } else {
                reply.write(self.calendar.utc(now), &mut self.output, persistence, slot.is_head);
            }
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
        self.refuse_with(now, refusal.reply(), self.limits.linger_bytes_max);
    }

    fn refuse_with(&mut self, now: Timestamp, reply: Reply, bytes_max: usize) {
        let is_head = self.reader.is_at_head_request();
        self.reader.end();
        // A client that has closed its end sends nothing that would have to be waited for.
        self.ending = if self.has_input_ended { Ending::Close } else { Ending::Linger { bytes_max } };
        self.held_bytes += reply.bytes();
        self.slots.push_back(Slot { is_head, is_http10: false, reply: Some(reply) });
        self.emit(now);
    }

    /// No more requests: what is left of the input is thrown away. If a reply is on its way, and the client was sending
    /// or may be, the connection lingers.
    fn end_reading(&mut self) {
        let is_sending = self.reader.has_bytes() || self.is_draining;
        if is_sending && !self.has_input_ended && !self.is_answered() {
            self.ending = Ending::Linger { bytes_max: self.limits.linger_bytes_max };
        }
        self.reader.end();
    }

    fn discard(&mut self, count: usize) {
        self.ending = match self.ending {
            Ending::Lingering { until, bytes_left } if count <= bytes_left => {
                Ending::Lingering { until, bytes_left: bytes_left - count }
            }
            Ending::Lingering { .. } => Ending::Close,
            Ending::Close if !self.is_answered() => Ending::Linger { bytes_max: self.limits.linger_bytes_max },
            other => other,
        };
    }

    fn abort(&mut self) {
        self.reader.end();
        self.ending = Ending::Abort;
        self.stream = Stream::None;
        self.output.clear();
        for mut reply in mem::take(&mut self.slots).into_iter().filter_map(|slot| slot.reply) {
            self.unsent.add(unsent::NEVER, reply.take_leases());
        }
        self.held_bytes = 0;
    }

    /// Nobody waits for a reply, and all replies were sent to their end.
    fn is_answered(&self) -> bool {
        self.slots.is_empty() && self.output.is_empty() && self.stream == Stream::None
    }

    /// The stream's reply while it waits for its turn.
    fn stream_slot(&mut self) -> &mut Reply {
        let slot = self.slots.back_mut().expect("a stream that waits has the last slot");
        slot.reply.as_mut().expect("it was put there when the stream began")
    }

    fn has_room(&self) -> bool {
        self.slots.len() < self.limits.pipeline_max as usize && self.has_output_room()
    }

    fn has_output_room(&self) -> bool {
        self.output.len() + self.held_bytes <= self.limits.output_bytes_max
    }

    fn write_timeout(&self) -> Option<Timestamp> {
        (!self.output.is_empty()).then(|| self.active_at + self.limits.write_timeout_ms)
    }

    /// When the rest of a head or a body must have arrived.
    fn read_timeout(&self) -> Option<Timestamp> {
        if self.has_room() { self.reader.timeout(&self.limits) } else { None }
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
            input_bytes: self.reader.capacity(),
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
