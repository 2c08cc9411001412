//! The lobby: answers requests that arrive while the hub recovers, in a thread of its own, so that it does not delay
//! the recovery and no client waits without a reply.
//!
//! It owns the planes' sockets and a poll, and speaks the same HTTP as the loop. Each reply closes its connection,
//! since the reply is soon outdated. When the hub is ready, the lobby passes on the sockets and all open connections as
//! they are: the hub answers the requests that are still to come, and writes the rest of the lobby's replies.

use super::clock;
use super::listener::Listeners;
use super::sockets::{Socket, Sockets};
use super::{EVENTS_MAX, FIRST_SOCKET, WAKER};
use crate::http;
use crate::journal::Progress;
use crate::service::{Caller, Origin, Recorded, Recovering, Replayed};
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token, Waker};
use sheratan_core::{Calendar, Timestamp};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// Connections at a time; more wait in the kernel's queue. Each gets one reply.
pub const LOBBY_CONNECTIONS_MAX: usize = 1_024;

/// Bytes read at once; bytes beyond the request are discarded.
const READ_BYTES: usize = 16 * 1024;

/// The longest wait in one poll.
const POLL_MS_MAX: u64 = 1_000;

/// The value of `segments_left` before the first progress report.
const UNREPORTED: u64 = u64::MAX;

/// The recovery's handle to the lobby's thread.
pub struct Lobby {
    shared: Arc<Shared>,
    waker: Waker,
    thread: Option<JoinHandle<io::Result<Arrivals>>>,
}

/// What the lobby passes on to the event loop.
pub struct Arrivals {
    /// The planes' sockets.
    pub listeners: Listeners,
    /// The open connections.
    pub sockets: Vec<Socket<TcpStream>>,
    /// Events for the audit log, each with its count.
    pub events: Vec<(Recorded, u64)>,
}

struct Shared {
    records: AtomicU64,
    segments_left: AtomicU64,
    is_closing: AtomicBool,
}

impl Shared {
    fn progress(&self) -> Option<Replayed> {
        let segments_left = self.segments_left.load(Ordering::Relaxed);
        let records = self.records.load(Ordering::Relaxed);
        (segments_left != UNREPORTED).then_some(Replayed { records, segments_left })
    }
}

/// The state of the lobby's thread.
struct Doorkeeper {
    shared: Arc<Shared>,
    poll: Poll,
    listeners: Listeners,
    sockets: Sockets<TcpStream>,
    recovering: Recovering,
    http_limits: http::Limits,
    connections_max: usize,
    now: Timestamp,
    buffer: Box<[u8]>,
}

impl Lobby {
    /// Starts to answer on the planes' sockets, with up to `connections_max` connections at a time.
    pub fn open(
        mut listeners: Listeners,
        recovering: Recovering,
        http_limits: http::Limits,
        connections_max: usize,
    ) -> io::Result<Lobby> {
        let poll = Poll::new()?;
        let waker = Waker::new(poll.registry(), WAKER)?;
        listeners.register(poll.registry())?;
        let shared = Arc::new(Shared {
            records: AtomicU64::new(0),
            segments_left: AtomicU64::new(UNREPORTED),
            is_closing: AtomicBool::new(false),
        });
        let doorkeeper = Doorkeeper {
            shared: shared.clone(),
            poll,
            listeners,
            sockets: Sockets::default(),
            recovering,
            http_limits,
            connections_max: connections_max.min(LOBBY_CONNECTIONS_MAX),
            now: clock::awake_at(),
            buffer: vec![0; READ_BYTES].into_boxed_slice(),
        };
        let thread = std::thread::Builder::new().name("lobby".into()).spawn(move || doorkeeper.run())?;
        Ok(Lobby { shared, waker, thread: Some(thread) })
    }

    /// Sets the recovery's progress, which replies show. Costs two stores.
    pub fn set_progress(&self, progress: Progress) {
        self.shared.records.store(progress.records, Ordering::Relaxed);
        self.shared.segments_left.store(progress.segments_left as u64, Ordering::Relaxed);
    }

    /// Ends the lobby when the hub is ready; returns its sockets, connections and events.
    pub fn close(mut self) -> io::Result<Arrivals> {
        self.end().expect("it is closed once")
    }

    fn end(&mut self) -> Option<io::Result<Arrivals>> {
        let thread = self.thread.take()?;
        self.shared.is_closing.store(true, Ordering::SeqCst);
        if let Err(error) = self.waker.wake() {
            return Some(Err(error));
        }
        Some(thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    }
}

impl Drop for Lobby {
    /// The hub does not start: the lobby's connections are closed.
    fn drop(&mut self) {
        // The caller that drops the lobby reports why the hub does not start.
        _ = self.end();
    }
}

impl Doorkeeper {
    fn run(mut self) -> io::Result<Arrivals> {
        let mut events = Events::with_capacity(EVENTS_MAX);
        while !self.shared.is_closing.load(Ordering::SeqCst) {
            match self.poll.poll(&mut events, self.timeout()) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                result => result?,
            }
            self.now = clock::awake_at().max(self.now);
            self.recovering.set_progress(self.shared.progress());
            self.note_events(&events);
            self.accept_connections();
            self.fire_timers();
        }
        self.into_arrivals()
    }

    fn timeout(&self) -> Option<Duration> {
        if self.sockets.count() < self.connections_max && self.listeners.is_ready(self.now) {
            // A timer made room after the last look, and the event of those who wait is spent.
            return Some(Duration::ZERO);
        }
        let at = self.sockets.next_timeout().into_iter().chain(self.listeners.next_timeout(self.now)).min()?;
        Some(Duration::from_millis((at.since(self.now).get() + 1).min(POLL_MS_MAX)))
    }

    fn note_events(&mut self, events: &Events) {
        for event in events {
            let Some(slot) = event.token().0.checked_sub(FIRST_SOCKET) else {
                self.listeners.ready(event.token());
                continue;
            };
            let Some(id) = self.sockets.id_at(slot) else { continue };
            let socket = self.sockets.get(id).expect("the id was just listed");
            socket.is_readable |= event.is_readable() || event.is_read_closed() || event.is_error();
            socket.is_ending |= event.is_read_closed();
            self.serve(id);
        }
    }

    fn accept_connections(&mut self) {
        while self.sockets.count() < self.connections_max {
            let Some((stream, peer, plane)) = self.listeners.accept(self.now) else { return };
            let mut http = http::Connection::new(self.now, &self.http_limits);
            http.check_heads();
            http.set_calendar(calendar(self.now));
            let id = self.sockets.insert(Socket::new(stream, plane, peer.ip(), http));
            let token = Token(FIRST_SOCKET + super::sockets::slot(id));
            let stream = self.sockets.get(id).expect("inserted above").wire();
            if self.poll.registry().register(stream, token, Interest::READABLE | Interest::WRITABLE).is_err() {
                self.sockets.remove(id);
                continue;
            }
            self.sockets.arm(id);
        }
    }

    /// Reads, answers and writes one connection until it would block.
    fn serve(&mut self, id: u64) {
        let Doorkeeper { sockets, recovering, now, buffer, .. } = self;
        let Some(socket) = sockets.get(id) else { return };
        loop {
            if socket.is_readable && socket.http.wants_read() && socket.read(*now, buffer).is_err() {
                return self.close(id);
            }
            // A body changes nothing about the answer, so it is not read.
            if let Some(head) = socket.http.unadmitted_request() {
                let origin = Origin { connection: id, request: head.id() };
                let reply = recovering.refuse_body(
                    (*now, calendar(*now)),
                    &Caller { plane: socket.plane, ip: socket.ip, origin },
                    &head,
                );
                socket.http.refuse_body(*now, reply);
            }
            while let Some(request) = socket.http.next_request(*now) {
                let origin = Origin { connection: id, request: request.id() };
                let reply = recovering.handle(
                    (*now, calendar(*now)),
                    &Caller { plane: socket.plane, ip: socket.ip, origin },
                    &request,
                );
                socket.http.begin_drain(*now);
                socket.http.reply(*now, origin.request, reply);
            }
            if socket.write(*now).is_err() || socket.http.is_done() {
                return self.close(id);
            }
            let has_more = socket.is_readable && socket.http.wants_read() || socket.http.has_request();
            if !has_more {
                return sockets.arm(id);
            }
        }
    }

    fn fire_timers(&mut self) {
        while let Some(id) = self.sockets.pop_due(self.now) {
            let socket = self.sockets.get(id).expect("a timer is removed with its connection");
            if socket.http.next_timeout().is_some_and(|at| at <= self.now) {
                socket.http.handle_timeout(self.now);
            }
            self.serve(id);
        }
    }

    fn close(&mut self, id: u64) {
        if let Some(mut socket) = self.sockets.remove(id) {
            // The descriptor is closed next, which deregisters it as well.
            _ = self.poll.registry().deregister(socket.wire());
        }
    }

    fn into_arrivals(mut self) -> io::Result<Arrivals> {
        let registry = self.poll.registry();
        self.listeners.deregister(registry)?;
        let mut sockets = Vec::with_capacity(self.sockets.count());
        for id in self.sockets.ids() {
            let mut socket = self.sockets.remove(id).expect("the id was just listed");
            // A connection that cannot be deregistered here cannot be registered with another poll.
            if registry.deregister(socket.wire()).is_ok() {
                sockets.push(*socket);
            }
        }
        Ok(Arrivals { listeners: self.listeners, sockets, events: self.recovering.into_events() })
    }
}

/// The calendar of connections while the hub's own is not known.
fn calendar(now: Timestamp) -> Calendar {
    Calendar::showing(clock::wall_time(), now)
}
