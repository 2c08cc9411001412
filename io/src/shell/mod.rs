//! The shell: one loop that reads what is ready, lets the service answer, hands what changed to the journal's thread,
//! and writes the replies that the journal allows.
//!
//! ```text
//!  sockets ─read─► http::Connection ─► Service ─► batch ─► journal's thread ─► disk
//!     ▲                                  │ reply, with the number of the last record
//!     └────────write──── HeldReplies ◄───┘ … until the disk has that record
//! ```
//! A round costs one `poll`, one read and one write for each connection that is ready, and one hand-over of a batch.

mod clock;
mod committer;
mod held;
mod listener;
pub mod reader;
pub mod snapshots;
mod sockets;

use crate::audit::Audit;
use crate::http::{self, Reply};
use crate::journal::{Appender, Batch};
use crate::service::{Answer, Caller, Origin, Plane, PlaneAddrs, Problem, Service};
use clock::{Clock, Jump};
use committer::{Committer, Report};
use crossbeam_channel::Sender;
use held::HeldReplies;
pub use listener::{BindError, Listeners};
use mio::{Events, Interest, Poll, Token, Waker};
use reader::{AuditReader, PageRequest};
use sheratan_core::time::{Millis, Timestamp};
use sockets::{Socket, Sockets};
use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// Bytes read at once, from one connection, into the buffer that all share: a batch of results fits.
const READ_BYTES: usize = 64 * 1024;

/// Bytes that may wait for the journal before the loop stops reading: a disk that is slow for a second at 1 GiB/s of
/// network must not fill the memory.
const BATCH_BYTES_MAX: usize = 8 << 20;

/// How long clients may take to read their last replies when the hub stops.
const DRAIN_MS: Millis = Millis::from_secs(10);

/// How long the last batch may take at the end.
const LAST_BATCH_WAIT: Duration = Duration::from_secs(10);

/// The pause of a loop that waits for another thread to catch up.
const FULL_PAUSE: Duration = Duration::from_millis(5);

/// The longest wait in one poll.
const POLL_MS_MAX: u64 = 1_000;

/// Connections accepted in one round: a flood of them must not keep the others waiting.
const ACCEPTS_MAX: usize = 256;

const WAKER: Token = Token(0);
const LISTENERS: [(Token, Plane); 2] = [(Token(1), Plane::Control), (Token(2), Plane::Data)];
const FIRST_SOCKET: usize = 3;

/// Tells the loop to stop, from any thread.
#[derive(Default)]
pub struct StopFlag(AtomicUsize);

impl StopFlag {
    /// The hub is to stop: at the first call when all is answered, at the second at once.
    pub fn stop(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }

    fn stops(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

/// What the loop is started with.
pub struct Parts {
    /// The poll that everything is registered with.
    pub poll: Poll,
    /// Wakes the poll.
    pub waker: Arc<Waker>,
    /// The planes' sockets.
    pub listeners: Listeners,
    /// The hub behind them.
    pub service: Service,
    /// The journal's end.
    pub appender: Appender,
    /// The audit log.
    pub audit: Audit,
    /// Who reads pages of the audit log.
    pub audit_reader: AuditReader,
    /// Limits of a connection.
    pub http_limits: http::Limits,
    /// Connections at once.
    pub connections_max: usize,
    /// Tells the loop to stop.
    pub stop: Arc<StopFlag>,
    /// Is told the last record of the segments that are sealed.
    pub sealed: Sender<u64>,
}

/// What is left when the loop has ended.
pub struct Ended {
    /// The hub's last state.
    pub service: Service,
    /// The journal's end.
    pub appender: Appender,
    /// Whether all that was done is durable.
    pub is_durable: bool,
}

/// A poll, and the planes' sockets on it.
pub fn bind(asked: &PlaneAddrs) -> Result<(Listeners, PlaneAddrs), BindError> {
    Listeners::bind(asked, LISTENERS)
}

/// Wall time now.
pub fn wall_time() -> Timestamp {
    Clock::new().now().0
}

/// A poll with its waker.
pub fn poll() -> io::Result<(Poll, Arc<Waker>)> {
    let poll = Poll::new()?;
    let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
    Ok((poll, waker))
}

/// Serves until told to stop, then answers what is in flight.
pub fn run(parts: Parts) -> io::Result<Ended> {
    let mut event_loop = Loop::new(parts)?;
    let mut events = Events::with_capacity(1_024);
    while !event_loop.is_over() {
        event_loop.round(&mut events)?;
    }
    Ok(event_loop.end())
}

struct Loop {
    poll: Poll,
    listeners: Listeners,
    sockets: Sockets,
    service: Service,
    committer: Committer,
    held: HeldReplies,
    /// The journal holds all records up to this one.
    durable: u64,
    /// The empty batch to fill next; `None` while the journal's thread has it.
    spare: Option<Batch>,
    is_journal_down: bool,
    audit: Audit,
    audit_reader: AuditReader,
    http_limits: http::Limits,
    connections_max: usize,
    stop: Arc<StopFlag>,
    sealed: Sender<u64>,
    clock: Clock,
    now: Timestamp,
    /// Connections to be looked at: they may have bytes to read or requests to answer.
    ready: VecDeque<u64>,
    /// Connections with something to write, or done.
    dirty: BTreeSet<u64>,
    buffer: Box<[u8]>,
    drain_until: Option<Timestamp>,
}

impl Loop {
    fn new(parts: Parts) -> io::Result<Self> {
        let Parts { poll, waker, mut listeners, service, appender, audit, audit_reader, .. } = parts;
        listeners.register(poll.registry())?;
        let mut clock = Clock::new();
        let (now, _) = clock.now();
        Ok(Loop {
            poll,
            listeners,
            sockets: Sockets::default(),
            durable: service.last_seq(),
            service,
            committer: Committer::start(appender, waker)?,
            held: HeldReplies::default(),
            spare: Some(Batch::new()),
            is_journal_down: false,
            audit,
            audit_reader,
            http_limits: parts.http_limits,
            connections_max: parts.connections_max,
            stop: parts.stop,
            sealed: parts.sealed,
            clock,
            now,
            ready: VecDeque::new(),
            dirty: BTreeSet::new(),
            buffer: vec![0; READ_BYTES].into_boxed_slice(),
            drain_until: None,
        })
    }

    fn round(&mut self, events: &mut Events) -> io::Result<()> {
        match self.poll.poll(events, self.timeout()) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => result?,
        }
        self.read_clock();
        self.note_events(events);
        self.take_reports();
        self.begin_drain_if_told();
        self.accept();
        self.read();
        self.let_time_pass();
        self.settle();
        self.hand_over();
        self.write();
        Ok(())
    }

    /// How long to wait for something to happen.
    fn timeout(&self) -> Option<Duration> {
        if self.is_full() {
            // The journal's report wakes the loop; the audit log's thread does not.
            return Some(FULL_PAUSE);
        }
        if !self.ready.is_empty() {
            return Some(Duration::ZERO);
        }
        let next = self.sockets.next_timeout().into_iter();
        let next = next.chain(self.service.next_timeout()).chain(self.drain_until);
        let at = next.chain(self.listeners.next_timeout(self.now)).min()?;
        // One more millisecond, so that the instant has come when the poll returns. A timer that is far away is asked
        // for again: the clock may run faster than the poll's.
        Some(Duration::from_millis((at.since(self.now).get() + 1).min(POLL_MS_MAX)))
    }

    fn read_clock(&mut self) {
        let (now, jump) = self.clock.now();
        self.now = now.max(self.now);
        match jump {
            Some(Jump::Ahead(by)) => {
                tracing::warn!(by_ms = by.get(), "wall time jumped ahead; the hub's clock runs faster until it agrees");
            }
            Some(Jump::Back(by)) => {
                tracing::warn!(by_ms = by.get(), "wall time jumped back; the hub's clock runs slower until it agrees");
            }
            None => {}
        }
    }

    fn note_events(&mut self, events: &Events) {
        for event in events {
            let Some(slot) = event.token().0.checked_sub(FIRST_SOCKET) else {
                self.listeners.ready(event.token());
                continue;
            };
            let Some(id) = self.sockets.id_at(slot) else { continue };
            let socket = self.sockets.get(id).expect("its number was just asked for");
            if event.is_readable() || event.is_read_closed() || event.is_error() {
                socket.is_readable = true;
                socket.is_ending |= event.is_read_closed();
                self.ready.push_back(id);
            }
            if event.is_writable() {
                self.dirty.insert(id);
            }
        }
    }

    /// What the other threads said.
    fn take_reports(&mut self) {
        while let Some(report) = self.committer.report() {
            self.take_report(report);
        }
        while let Some((origin, reply)) = self.audit_reader.reply() {
            self.deliver(origin, reply);
        }
    }

    fn take_report(&mut self, report: Report) {
        match report {
            Report::Durable { up_to, spare, sealed_through } => {
                self.durable = up_to;
                self.spare = Some(spare);
                if std::mem::take(&mut self.is_journal_down) {
                    self.service.journal_recovered();
                }
                while let Some((origin, reply)) = self.held.release(up_to) {
                    self.deliver(origin, reply);
                }
                if let Some(seq) = sealed_through {
                    // A full channel: the snapshots' thread is behind; the next segment's end tells it more.
                    _ = self.sealed.try_send(seq);
                }
            }
            Report::Down { reason } => {
                self.is_journal_down = true;
                while let Some((origin, reply, is_acknowledgement)) = self.held.give_up() {
                    let refusal = || Problem::journal_unavailable(&reason).into_reply();
                    self.deliver(origin, if is_acknowledgement { refusal() } else { reply });
                }
                self.service.journal_failed(reason);
            }
        }
    }

    fn accept(&mut self) {
        for _ in 0..ACCEPTS_MAX {
            if self.sockets.len() >= self.connections_max {
                return;
            }
            let Some((stream, peer, plane)) = self.listeners.accept(self.now) else { return };
            // A reply is one write: waiting for more of it would only delay it. A socket that refuses is closed already.
            _ = stream.set_nodelay(true);
            let http = http::Connection::new(self.now, &self.http_limits);
            let id = self.sockets.insert(Socket::new(stream, plane, peer.ip(), http));
            let token = Token(FIRST_SOCKET + Sockets::slot(id));
            let stream = self.sockets.get(id).expect("inserted above").stream();
            if let Err(error) = self.poll.registry().register(stream, token, Interest::READABLE | Interest::WRITABLE) {
                tracing::warn!(%error, "a connection cannot be registered");
                self.sockets.remove(id);
                continue;
            }
            self.sockets.arm(id);
        }
    }

    /// Reads once from each connection that is ready, so that none keeps the others waiting, and answers its requests.
    fn read(&mut self) {
        for _ in 0..self.ready.len() {
            if self.is_full() {
                return;
            }
            let Some(id) = self.ready.pop_front() else { return };
            self.read_one(id);
        }
    }

    fn read_one(&mut self, id: u64) {
        let Some(socket) = self.sockets.get(id) else { return };
        if socket.is_readable && socket.http.wants_read() {
            if socket.read(self.now, &mut self.buffer).is_err() {
                return self.close(id);
            }
            if socket.http.has_input_ended() {
                // Whoever hung up must get no job; whoever closed for writing only is answered now.
                self.service.end_waits(id);
            }
            // Even what asks for no reply may change the connection: its end, or a request that is none.
            self.dirty.insert(id);
        }
        self.answer(id);
        if let Some(socket) = self.sockets.get(id)
            && socket.is_readable
            && socket.http.wants_read()
        {
            self.ready.push_back(id);
        }
    }

    /// Answers the requests that a connection has received.
    fn answer(&mut self, id: u64) {
        let Loop { sockets, service, held, durable, now, dirty, audit_reader, is_journal_down, .. } = self;
        let Some(socket) = sockets.get(id) else { return };
        while let Some(request) = socket.http.next_request(*now) {
            let origin = Origin { connection: id, request: request.no() };
            let before = service.last_seq();
            let answer = service.handle(*now, &Caller { plane: socket.plane, ip: socket.ip, origin }, &request);
            let seq = service.last_seq();
            let reply = match answer {
                // While the journal is down nothing is done, so a reply speaks of what was known before.
                Answer::Reply(reply) if seq <= *durable || *is_journal_down => reply,
                Answer::Reply(reply) => {
                    held.hold(seq, origin, reply, seq > before);
                    continue;
                }
                Answer::Now(reply) => reply,
                Answer::Parked => continue,
                Answer::AuditPage { after, limit } => match audit_reader.ask(PageRequest { origin, after, limit }) {
                    Ok(()) => continue,
                    Err(reply) => reply,
                },
            };
            socket.http.reply(*now, origin.request, reply);
            dirty.insert(id);
        }
    }

    fn let_time_pass(&mut self) {
        while let Some(id) = self.sockets.take_due(self.now) {
            let socket = self.sockets.get(id).expect("timers go with their connection");
            if socket.http.next_timeout().is_some_and(|at| at <= self.now) {
                socket.http.handle_timeout(self.now);
                self.dirty.insert(id);
            }
            self.sockets.arm(id);
        }
        if self.service.next_timeout().is_some_and(|at| at <= self.now) {
            self.service.handle_timeout(self.now);
        }
    }

    /// Answers long polls, and tells the audit log.
    fn settle(&mut self) {
        self.service.settle(self.now);
        let seq = self.service.last_seq();
        for (origin, reply) in std::mem::take(self.service.late_replies()) {
            if seq <= self.durable || self.is_journal_down {
                self.deliver(origin, reply);
            } else {
                self.held.hold(seq, origin, reply, true);
            }
        }
        for event in self.service.events().drain(..) {
            self.audit.record(event);
        }
    }

    /// Gives the journal's thread what was done, if it has nothing to do.
    fn hand_over(&mut self) {
        if !self.service.has_batch() {
            return;
        }
        let Some(spare) = self.spare.take() else { return };
        self.committer.append(self.service.take_batch(spare).expect("there is one"));
    }

    fn deliver(&mut self, origin: Origin, reply: Reply) {
        // The client may be gone.
        let Some(socket) = self.sockets.get(origin.connection) else { return };
        socket.http.reply(self.now, origin.request, reply);
        self.dirty.insert(origin.connection);
    }

    /// Writes what there is to write; a connection whose replies went out may have more requests in its buffer.
    fn write(&mut self) {
        for id in std::mem::take(&mut self.dirty) {
            let Some(socket) = self.sockets.get(id) else { continue };
            if socket.write(self.now).is_err() || socket.http.is_done() {
                self.close(id);
                continue;
            }
            if socket.http.has_request() || socket.is_readable && socket.http.wants_read() {
                self.ready.push_back(id);
            }
            self.sockets.arm(id);
        }
    }

    fn close(&mut self, id: u64) {
        self.service.forget(id);
        if let Some(mut socket) = self.sockets.remove(id) {
            // The descriptor is closed next, which takes it out of the poll as well.
            _ = self.poll.registry().deregister(socket.stream());
        }
    }

    /// Whether a thread that the loop feeds is behind: then nothing is read until it has caught up.
    fn is_full(&self) -> bool {
        self.service.batch_bytes() > BATCH_BYTES_MAX || self.audit.is_full()
    }

    fn begin_drain_if_told(&mut self) {
        if self.drain_until.is_some() || self.stop.stops() == 0 {
            return;
        }
        tracing::info!(connections = self.sockets.len(), "stopping: what is in flight is answered first");
        self.drain_until = Some(self.now + DRAIN_MS);
        self.listeners.close();
        self.service.begin_drain();
        for id in self.sockets.ids() {
            let socket = self.sockets.get(id).expect("its number was just asked for");
            socket.http.begin_drain(self.now);
            self.dirty.insert(id);
        }
    }

    fn is_over(&self) -> bool {
        let is_drained = self.sockets.len() == 0 && self.spare.is_some() && !self.service.has_batch();
        let is_told_twice = self.stop.stops() > 1;
        self.drain_until.is_some_and(|until| is_drained || is_told_twice || self.now >= until)
    }

    /// Hands over the last batch and waits for it.
    fn end(mut self) -> Ended {
        self.service.flush(self.now);
        self.settle();
        let until = std::time::Instant::now() + LAST_BATCH_WAIT;
        while self.service.has_batch() || self.spare.is_none() {
            self.hand_over();
            let left = until.saturating_duration_since(std::time::Instant::now());
            match self.committer.wait(left) {
                Some(report) => self.take_report(report),
                None => break,
            }
            if self.is_journal_down {
                break;
            }
        }
        let is_durable = self.spare.is_some() && !self.service.has_batch();
        Ended { service: self.service, appender: self.committer.finish(), is_durable }
    }
}
