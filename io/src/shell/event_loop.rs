//! The event loop: one round after another, each from what is ready to what is written.

use super::clock::{Clock, Jump, micros};
use super::committer::{Committer, Report};
use super::held::{HeldReplies, Released};
use super::listener::Listeners;
use super::lobby::Arrivals;
use super::reader::{LogReader, PageRequest};
use super::sockets::{Socket, Sockets};
use super::{Ended, FIRST_SOCKET, Parts, StopFlag};
use crate::alerts::AlertLog;
use crate::audit::{Audit, Feed};
use crate::http::{self, Reply};
use crate::journal::Batch;
use crate::service::streams::Sendout;
use crate::service::{Answer, Caller, Origin, Problem, Service};
use crate::trace::Trace;
use crossbeam_channel::{Receiver, Sender};
use mio::{Events, Interest, Poll, Token};
use sheratan_core::telemetry::Observation;
use sheratan_core::telemetry::alerts::Alerts;
use sheratan_core::time::{Millis, Timestamp};
use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

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

/// How long the loop looks for the disk's answer before it sleeps.
const LOOK_OUT: Duration = Duration::from_micros(200);

/// Connections accepted in one round: a flood of them must not keep the others waiting.
const ACCEPTS_MAX: usize = 256;

/// All that the loop's thread has.
pub(super) struct EventLoop {
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
    audit_feed: Feed,
    alerts: AlertLog,
    trace: Option<Trace>,
    alert_rules: Receiver<Alerts>,
    log_reader: LogReader,
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

impl EventLoop {
    /// Registers the planes' sockets and starts the journal's thread. Who came before the hub was ready is served next.
    pub fn new(parts: Parts) -> io::Result<Self> {
        let Parts { poll, waker, arrivals, mut service, appender, audit, alerts, log_reader, .. } = parts;
        let Arrivals { mut listeners, sockets, events } = arrivals;
        listeners.register(poll.registry())?;
        events.into_iter().for_each(|(event, count)| service.record_earlier(event, count));
        let mut clock = Clock::new();
        let (now, _) = clock.now();
        let mut event_loop = EventLoop {
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
            audit_feed: parts.audit_feed,
            alerts,
            trace: parts.trace,
            alert_rules: parts.alert_rules,
            log_reader,
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
        };
        for mut socket in sockets {
            socket.is_readable = true;
            if let Some(id) = event_loop.take_in(socket) {
                event_loop.ready.push_back(id);
                event_loop.dirty.insert(id);
            }
        }
        Ok(event_loop)
    }

    /// One round.
    pub fn round(&mut self, events: &mut Events) -> io::Result<()> {
        match self.wait(events) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => result?,
        }
        self.read_clock();
        self.note_events(events);
        self.take_reports();
        self.begin_drain_if_told();
        self.accept();
        self.service.set_connections(self.sockets.len() as u64);
        self.service.set_alerts_lost(self.alerts.lost());
        self.read();
        self.let_time_pass();
        self.settle();
        self.hand_over();
        self.write();
        Ok(())
    }

    /// Waits for something to happen. While the disk works on a batch, it looks for a moment before it sleeps: a fast disk
    /// is done by then, and to wake up would take a tenth of its time again.
    fn wait(&mut self, events: &mut Events) -> io::Result<()> {
        let timeout = self.timeout();
        if self.spare.is_none() && timeout != Some(Duration::ZERO) {
            let until = Instant::now() + LOOK_OUT;
            while Instant::now() < until {
                self.poll.poll(events, Some(Duration::ZERO))?;
                if !events.is_empty() || self.committer.has_report() {
                    return Ok(());
                }
                std::thread::yield_now();
            }
        }
        self.poll.poll(events, timeout)
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
            if socket.note(event) {
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
        while let Some((origin, reply)) = self.log_reader.reply() {
            self.deliver(origin, reply);
        }
        while let Ok(rules) = self.alert_rules.try_recv() {
            self.service.set_alerts(self.now, rules);
        }
        while let Some(lines) = self.audit_feed.take() {
            self.service.streams().audit(&lines);
        }
        match self.audit_feed.take_lost() {
            0 => {}
            count => self.service.streams().lost(count),
        }
    }

    fn take_report(&mut self, report: Report) {
        match report {
            Report::Durable { up_to, spare, took, sealed_through } => {
                self.service.observe(self.now, Observation::JournalCommit { took_us: micros(took) });
                self.durable = up_to;
                self.service.set_durable(up_to);
                self.spare = Some(spare);
                if std::mem::take(&mut self.is_journal_down) {
                    self.service.journal_recovered();
                }
                let released_at = Instant::now();
                while let Some(released) = self.held.release(up_to) {
                    let took = released.came_at.map(|came_at| released_at - came_at);
                    self.deliver_after(released.origin, released.reply, took);
                }
                if let Some(seq) = sealed_through {
                    // A full channel: the snapshots' thread is behind; the next segment's end tells it more.
                    _ = self.sealed.try_send(seq);
                }
            }
            Report::Down { reason } => {
                self.is_journal_down = true;
                while let Some(Released { origin, reply, is_acknowledgement, .. }) = self.held.give_up() {
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
            let http = http::Connection::new(self.now, &self.http_limits);
            self.take_in(Socket::new(stream, plane, peer.ip(), http));
        }
    }

    /// Takes a connection in; gives its number, if it can be watched.
    fn take_in(&mut self, socket: Socket) -> Option<u64> {
        let id = self.sockets.insert(socket);
        let token = Token(FIRST_SOCKET + Sockets::slot(id));
        let stream = self.sockets.get(id).expect("inserted above").stream();
        if let Err(error) = self.poll.registry().register(stream, token, Interest::READABLE | Interest::WRITABLE) {
            tracing::warn!(%error, "a connection cannot be registered");
            self.sockets.remove(id);
            return None;
        }
        self.sockets.arm(id);
        Some(id)
    }

    /// Reads once from each connection that is ready, so that none keeps the others waiting, and answers its requests.
    fn read(&mut self) {
        for _ in 0..self.ready.len() {
            if self.audit.is_full() {
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
            && (socket.http.has_request() || socket.is_readable && socket.http.wants_read())
        {
            self.ready.push_back(id);
        }
    }

    /// Answers the requests that a connection has received. While the journal is behind only what looks is answered; the
    /// rest waits, one request a connection.
    fn answer(&mut self, id: u64) {
        let EventLoop { sockets, service, held, durable, now, dirty, log_reader, is_journal_down, .. } = self;
        let Some(socket) = sockets.get(id) else { return };
        loop {
            let is_behind = !*is_journal_down && service.batch_bytes() > BATCH_BYTES_MAX;
            if is_behind && !socket.http.next_path().is_some_and(|path| Service::is_only_looked_at(socket.plane, path))
            {
                break;
            }
            let Some(request) = socket.http.next_request(*now) else { break };
            let origin = Origin { connection: id, request: request.no() };
            let came_at = Instant::now();
            let before = service.last_seq();
            let answer = service.handle(*now, &Caller { plane: socket.plane, ip: socket.ip, origin }, &request);
            let seq = service.last_seq();
            let reply = match answer {
                // While the journal is down nothing is done, so a reply speaks of what was known before.
                Answer::Reply(reply) if seq <= *durable || *is_journal_down => reply,
                Answer::Reply(reply) => {
                    held.hold(seq, origin, reply, seq > before, Some(came_at));
                    continue;
                }
                Answer::Now(reply) => reply,
                Answer::Stream(beginning) => {
                    socket.begin_stream(*now, origin.request, beginning);
                    dirty.insert(id);
                    continue;
                }
                Answer::Parked => continue,
                Answer::Page(page) => match log_reader.ask(PageRequest { origin, page }) {
                    Ok(()) => continue,
                    Err(reply) => reply,
                },
            };
            service.answered(*now, socket.plane, micros(came_at.elapsed()));
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
                self.held.hold(seq, origin, reply, true, None);
            }
        }
        for event in self.service.events().drain(..) {
            self.audit.record(event);
        }
        for line in self.service.alert_lines().drain(..) {
            self.alerts.record(line);
        }
        if let (Some(trace), Some(pending)) = (&mut self.trace, self.service.take_trace()) {
            trace.record(pending);
        }
        self.push_events();
    }

    /// Sends those who listen what happened. Whoever has too much of it waiting is closed with the next write.
    fn push_events(&mut self) {
        self.audit_feed.want(self.service.is_audit_wanted());
        for Sendout { to, bytes } in self.service.streams().take(self.now) {
            for id in to {
                let Some(socket) = self.sockets.get(id) else { continue };
                socket.http.push(self.now, &bytes);
                self.dirty.insert(id);
            }
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
        self.deliver_after(origin, reply, None);
    }

    /// Hands a reply to its connection; `took` is counted, if it is there.
    fn deliver_after(&mut self, origin: Origin, reply: Reply, took: Option<Duration>) {
        // The client may be gone.
        let Some(socket) = self.sockets.get(origin.connection) else { return };
        if let Some(took) = took {
            self.service.answered(self.now, socket.plane, micros(took));
        }
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
        if let Some(mut socket) = self.sockets.remove(id) {
            if socket.http.is_aborted() && self.service.streams().drop_slow(id) {
                tracing::info!(ip = %socket.ip, "an event stream was dropped: its client reads too slowly");
            }
            // The descriptor is closed next, which takes it out of the poll as well.
            _ = self.poll.registry().deregister(socket.stream());
        }
        self.service.forget(id);
    }

    /// Whether a thread that the loop feeds is behind. Until the audit log has caught up nothing is read; until the journal
    /// has, only what looks is answered. While the journal is down commands are refused, so its batch grows no more.
    fn is_full(&self) -> bool {
        !self.is_journal_down && self.service.batch_bytes() > BATCH_BYTES_MAX || self.audit.is_full()
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

    /// Whether the hub was told to stop, and all is answered or time is over.
    pub fn is_over(&self) -> bool {
        let is_drained = self.sockets.len() == 0 && self.spare.is_some() && !self.service.has_batch();
        let is_told_twice = self.stop.stops() > 1;
        self.drain_until.is_some_and(|until| is_drained || is_told_twice || self.now >= until)
    }

    /// Hands over the last batch and waits for it.
    pub fn end(mut self) -> Ended {
        self.service.flush(self.now);
        self.settle();
        if let Some(trace) = self.trace.take() {
            trace.end(self.service.last_seq(), self.now);
        }
        let until = Instant::now() + LAST_BATCH_WAIT;
        while self.service.has_batch() || self.spare.is_none() {
            self.hand_over();
            let left = until.saturating_duration_since(Instant::now());
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
