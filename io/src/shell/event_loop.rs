//! The event loop: drives the engine with real sockets, the machine's clock and threads, one round after another.

use super::addresses::{Addresses, ConnectionLimits};
use super::clock::{self, Clock};
use super::committer::{Committer, Report};
use super::engine::Engine;
use super::held::Patience;
use super::listener::Listeners;
use super::lobby::Arrivals;
use super::reader::LogReader;
use super::sockets::Socket;
use super::timekeeper::{Changes, Timekeeper};
use super::{Ended, FIRST_SOCKET, Parts, Reloaded, StopFlag};
use crate::alerts::AlertLog;
use crate::audit::{Audit, Feed};
use crate::http;
use crate::service::{CLOCK_STEP_MS, Handover, Overload};
use crate::stall::Watches;
use crate::trace::Trace;
use crossbeam_channel::{Receiver, Sender};
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use sheratan_core::telemetry::Observation;
use sheratan_core::{Millis, Timestamp};
use std::io::{self, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long clients may take to read their last replies when the hub stops.
const DRAIN_MS: Millis = Millis::from_secs(10);

/// How long the last batch may take at the end.
const LAST_BATCH_WAIT: Duration = Duration::from_secs(10);

/// How long the loop pauses while another thread is behind.
const FULL_PAUSE: Duration = Duration::from_millis(5);

/// The longest wait in one poll.
const POLL_MS_MAX: u64 = 1_000;

/// Connections accepted in one round: a flood of them must not keep the others waiting.
const ACCEPTS_MAX: usize = 256;

/// What a client is answered whose address has too many connections.
const TOO_MANY_CONNECTIONS: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/problem+json\r\nRetry-After: 1\r\nConnection: close\r\nContent-Length: 78\r\n\r\n{\"ok\":false,\"error\":\"overloaded\",\"status\":503,\"detail\":\"too many connections\"}";

/// The state of the loop's thread.
pub(super) struct EventLoop {
    poll: Poll,
    listeners: Listeners,
    engine: Engine<TcpStream>,
    committer: Arc<Committer<Box<EventLoop>>>,
    audit: Audit,
    audit_feed: Feed,
    alerts: AlertLog,
    trace: Option<Trace>,
    reloaded: Receiver<Reloaded>,
    log_reader: LogReader,
    watches: Watches,
    http_limits: http::Limits,
    limits: ConnectionLimits,
    addresses: Addresses,
    stop: Arc<StopFlag>,
    sealed: Sender<u64>,
    clock: Clock,
    timekeeper: Timekeeper,
    drain_until: Option<Timestamp>,
}

impl EventLoop {
    /// Registers the planes' sockets and the lobby's connections.
    pub fn new(parts: Parts) -> io::Result<Self> {
        let Parts { poll, waker, arrivals, mut service, appender, audit, alerts, log_reader, .. } = parts;
        let Arrivals { mut listeners, sockets, events } = arrivals;
        listeners.register(poll.registry())?;
        events.into_iter().for_each(|(event, count)| service.record_before_start(event, count));
        let (mut clock, timekeeper) = (parts.clock, parts.timekeeper);
        let reading = clock.read();
        let times = (timekeeper.now(&reading), reading.awake_at());
        let mut event_loop = EventLoop {
            poll,
            listeners,
            engine: Engine::new(times, service, Patience::DEFAULT, clock::awake_us),
            committer: Arc::new(Committer::new(appender, waker)),
            audit,
            audit_feed: parts.audit_feed,
            alerts,
            trace: parts.trace,
            reloaded: parts.reloaded,
            log_reader,
            watches: parts.watches,
            http_limits: parts.http_limits,
            limits: parts.connection_limits,
            addresses: Addresses::default(),
            stop: parts.stop,
            sealed: parts.sealed,
            clock,
            timekeeper,
            drain_until: None,
        };
        event_loop.engine.set_buffered_bytes_max(parts.buffered_bytes_max);
        event_loop.engine.set_connections_max(parts.connection_limits.connections_max);
        for mut socket in sockets {
            socket.is_readable = true;
            event_loop.add(socket);
        }
        Ok(event_loop)
    }

    /// What the loop's thread shares with the other one.
    pub fn committer(&self) -> &Arc<Committer<Box<EventLoop>>> {
        &self.committer
    }

    /// One round: waits for an event or a timer, then acts. `None` if the other thread has taken the loop meanwhile.
    pub fn round(mut self: Box<Self>, events: &mut Events) -> io::Result<Option<Box<Self>>> {
        match self.poll.poll(events, self.timeout()) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => events.clear(),
            result => result?,
        }
        Ok(self.act(events))
    }

    /// This thread has taken the loop from one that is still at the disk.
    pub fn take_over(&mut self) {
        let now = self.engine.now();
        self.engine.service().observe(now, Observation::LoopTakenOver);
        tracing::debug!("a commit takes long: the loop goes on in the other thread");
    }

    /// Does everything that can be done now. A thread that begins to lead calls it before the first wait: the start may
    /// have changed limits, clients of the lobby have waited long enough, and who led before may have been in the middle
    /// of a round.
    pub fn act(mut self: Box<Self>, events: &Events) -> Option<Box<Self>> {
        self.read_clock();
        self.note_events(events);
        self.handle_reports();
        self.begin_drain_if_asked();
        self.accept_connections();
        let buffered_bytes = self.engine.buffered_bytes() as u64;
        self.engine.service().set_buffered_bytes(buffered_bytes);
        let connections = self.engine.connections() as u64;
        self.engine.service().set_connections(connections);
        self.engine.service().set_alerts_lost(self.alerts.lost());
        if let Some(trace) = &self.trace {
            self.engine.service().set_traced(trace.counts());
        }
        self.report_stalls();
        self.audit.send_backlog();
        self.engine.service().set_audit_room(self.audit.room());
        self.engine.read();
        self.request_pages();
        self.engine.fire_timers();
        self.engine.settle();
        self.record();
        if let Some(handover) = self.engine.hand_over() {
            if self.engine.commits_here() {
                self = self.commit_here(handover)?;
            } else {
                self.committer.append(handover);
            }
        }
        self.engine.write(|_, _| {});
        self.drop_closed();
        Some(self)
    }

    /// Commits in this thread. What does not wait for the disk is written before.
    fn commit_here(mut self: Box<Self>, handover: Handover) -> Option<Box<Self>> {
        self.engine.write(|_, _| {});
        let committer = self.committer.clone();
        let (mut event_loop, report) = committer.commit_here(self, handover)?;
        if let Some(report) = report {
            event_loop.handle_report(report);
            event_loop.engine.settle();
            event_loop.record();
        }
        Some(event_loop)
    }

    /// How long to wait for events; `None` without a limit.
    fn timeout(&self) -> Option<Duration> {
        if self.engine.is_full() {
            return Some(FULL_PAUSE);
        }
        if self.engine.has_ready() {
            return Some(Duration::ZERO);
        }
        let awake = self.engine.awake();
        if self.engine.connections() < self.limits.connections_max && self.listeners.is_ready(awake) {
            // Room was made after the last look, and the event of those who wait is spent.
            return Some(Duration::ZERO);
        }
        if self.audit.has_backlog() {
            // The audit log's thread does not wake the loop.
            return Some(FULL_PAUSE);
        }
        let own = self.drain_until.into_iter().chain(self.listeners.next_timeout(awake));
        let of_trace = self.trace.as_ref().and_then(Trace::due_at);
        let of_engine = self.engine.next_timeout().into_iter().chain(of_trace).min();
        let of_engine = of_engine.map(|at| at.since(self.engine.now()));
        let wait = own.map(|at| at.since(awake)).chain(of_engine).min();
        let capped = |wait: Millis| Duration::from_millis((wait.get() + 1).min(POLL_MS_MAX + 1));
        if self.watches.ages().iter().any(|age| !age.is_zero()) {
            // A write may be about to take too long, and its end does not wake the loop.
            return Some(capped(wait.unwrap_or(Millis::new(POLL_MS_MAX))));
        }
        // One more millisecond, so that the timer is due when the poll returns. The wait is capped, since the machine's
        // clock may be set meanwhile.
        wait.map(capped)
    }

    fn read_clock(&mut self) {
        let reading = self.clock.read();
        let Changes { slept, stepped_ms } = self.engine.set_time(&mut self.timekeeper, &reading);
        if let Some(slept) = slept {
            tracing::info!(slept_ms = slept.get(), "the machine slept: leases get the time that was left");
        }
        if let Some(by_ms) = stepped_ms.filter(|by_ms| by_ms.unsigned_abs() >= CLOCK_STEP_MS) {
            let direction = if by_ms > 0 { "ahead" } else { "back" };
            tracing::warn!(
                by_ms = by_ms.unsigned_abs(),
                "wall time jumped {direction}: jobs with run_at_utc follow it, durations are not affected"
            );
        }
    }

    fn note_events(&mut self, events: &Events) {
        for event in events {
            let Some(slot) = event.token().0.checked_sub(FIRST_SOCKET) else {
                self.listeners.ready(event.token());
                continue;
            };
            let Some(id) = self.engine.id_at(slot) else { continue };
            if event.is_error() || event.is_write_closed() {
                // A reset, or both directions are closed. Linux still gives what had arrived before it.
                self.engine.note_gone(id);
                continue;
            }
            let may_read = event.is_readable() || event.is_read_closed();
            self.engine.note(id, may_read, event.is_read_closed(), event.is_writable());
        }
    }

    /// Handles the reports and replies of the other threads.
    fn handle_reports(&mut self) {
        while let Some(report) = self.committer.report() {
            self.handle_report(report);
        }
        while let Some((origin, reply)) = self.log_reader.reply() {
            self.engine.deliver(origin, reply);
        }
        let now = self.engine.now();
        while let Ok(reloaded) = self.reloaded.try_recv() {
            match reloaded {
                Reloaded::AlertRules(rules) => self.engine.service().set_alerts(now, rules),
                Reloaded::ResultKeys(keys) => self.engine.service().set_result_keys(now, keys),
                Reloaded::SharedToken(token) => self.engine.service().set_shared_token(now, *token),
            }
        }
        while let Some(lines) = self.audit_feed.take() {
            self.engine.service().streams().audit(&lines);
        }
        match self.audit_feed.take_lost() {
            0 => {}
            count => self.engine.service().streams().lost(count),
        }
    }

    fn handle_report(&mut self, report: Report) {
        if let Some(seq) = self.engine.handle_report(report) {
            // A full channel means that the snapshots' thread is behind; the next sealed segment covers this one.
            _ = self.sealed.try_send(seq);
        }
    }

    fn accept_connections(&mut self) {
        for _ in 0..ACCEPTS_MAX {
            let open = self.engine.connections();
            if open >= self.limits.connections_max {
                return;
            }
            let now = self.engine.awake();
            let Some((mut stream, peer, plane)) = self.listeners.accept(now) else { return };
            if !self.addresses.admits(peer.ip(), open, &self.limits) {
                self.engine.service().count_refused_connection();
                self.engine.service().note_overload(Overload::Address, peer.ip());
                // Best effort: a client that has sent its request already may see a reset instead.
                _ = stream.write(TOO_MANY_CONNECTIONS);
                continue;
            }
            let http = http::Connection::new(now, &self.http_limits);
            self.add(Socket::new(stream, plane, peer.ip(), http));
        }
    }

    /// Adds a connection and registers it with the poll; closes it if it cannot be registered.
    fn add(&mut self, socket: Socket<TcpStream>) {
        let ip = socket.ip;
        let id = self.engine.accept(socket);
        let token = Token(FIRST_SOCKET + super::sockets::slot(id));
        let stream = self.engine.socket(id).expect("it was just accepted").wire();
        if let Err(error) = self.poll.registry().register(stream, token, Interest::READABLE | Interest::WRITABLE) {
            tracing::warn!(%error, "a connection cannot be registered");
            self.engine.remove(id);
            return;
        }
        self.addresses.add(ip);
    }

    fn request_pages(&mut self) {
        for request in self.engine.drain_page_requests() {
            let origin = request.origin;
            if let Err(reply) = self.log_reader.ask(request) {
                self.engine.deliver(origin, reply);
            }
        }
    }

    /// Reports writes of the logs that do not return.
    fn report_stalls(&mut self) {
        let now = self.engine.now();
        self.engine.service().set_write_ages(now, self.watches.ages());
    }

    /// Records events in the audit log, the alerts and the trace, and pushes them to event streams.
    fn record(&mut self) {
        let now = self.engine.now();
        let service = self.engine.service();
        for event in service.events().drain(..) {
            self.audit.record(event);
        }
        for line in service.alert_lines().drain(..) {
            self.alerts.record(line);
        }
        if let (Some(trace), Some(pending)) = (&mut self.trace, service.take_trace()) {
            trace.record(pending);
        }
        if let Some(trace) = &mut self.trace {
            trace.send_due(now);
        }
        self.audit_feed.set_wanted(service.is_audit_wanted());
        self.engine.push_events();
    }

    /// Deregisters the closed connections and closes their descriptors.
    fn drop_closed(&mut self) {
        for (_, mut socket) in self.engine.drain_closed() {
            // Closing the descriptor deregisters it as well.
            _ = self.poll.registry().deregister(socket.wire());
            self.addresses.remove(socket.ip);
        }
    }

    fn begin_drain_if_asked(&mut self) {
        if self.drain_until.is_some() || self.stop.stop_requests() == 0 {
            return;
        }
        tracing::info!(connections = self.engine.connections(), "stopping: requests in flight are answered first");
        self.drain_until = Some(self.engine.awake() + DRAIN_MS);
        self.listeners.close();
        self.engine.begin_drain();
    }

    /// Whether the hub was asked to stop and has answered everything or run out of time.
    pub fn is_over(&self) -> bool {
        let is_drained = self.engine.connections() == 0 && self.engine.is_durable();
        let is_asked_twice = self.stop.stop_requests() > 1;
        self.drain_until.is_some_and(|until| is_drained || is_asked_twice || self.engine.awake() >= until)
    }

    /// Hands over the last batch and waits until it is durable, at most [`LAST_BATCH_WAIT`].
    pub fn end(mut self) -> Ended {
        let now = self.engine.now();
        self.engine.close_all();
        self.engine.service().flush(now);
        self.engine.settle();
        self.record();
        if let Some(trace) = self.trace.take() {
            trace.end(self.engine.service_ref().last_seq(), now);
        }
        let until = Instant::now() + LAST_BATCH_WAIT;
        while !self.engine.is_durable() {
            if let Some(handover) = self.engine.hand_over() {
                self.committer.append(handover);
            }
            let left = until.saturating_duration_since(Instant::now());
            match self.committer.wait(left) {
                Some(report) => self.handle_report(report),
                None => break,
            }
            if self.engine.is_journal_down() {
                break;
            }
        }
        let is_durable = self.engine.is_durable();
        let appender = self.committer.end().filter(|_| is_durable);
        Ended { service: self.engine.into_service(), appender }
    }
}
