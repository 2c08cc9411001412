//! The hub's process: the engine that production runs, on one thread whose work takes time, and a journal that commits
//! in groups.
//!
//! This is the loop around the engine: a round reads the requests that arrived while the thread was busy, takes the
//! time that the scenario says for them, and sends its replies at its end, as the event loop of the shell does with
//! sockets. The engine decides in which order requests are read, applied, made durable and answered.

use super::event::{Agenda, Event, LineId, Micros};
use super::scenario::{HubCosts, Scenario};
use sheratan_core::Hub as Core;
use sheratan_core::{Calendar, Command, HubKey, Timestamp};
use sheratan_io::http::{Connection, Limits};
use sheratan_io::service::{Plane, Service, Settings};
use sheratan_io::shell::committer::Report;
use sheratan_io::shell::engine::Engine;
use sheratan_io::shell::held::Patience;
use sheratan_io::shell::sockets::Socket;
use sheratan_io::shell::timekeeper::{Reading, Timekeeper};
use sheratan_io::shell::wire::Wire;
use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

/// When runs begin.
const START_MS: u64 = 1_768_500_000_000;

/// The address of all clients and nodes.
const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// Connections that one round reads: as many events as the loop of the shell polls at once.
const EVENTS_MAX: usize = 1_024;

/// Bytes of a reply that left the hub.
#[derive(Debug)]
pub struct Sent {
    /// When they were sent.
    pub at: Micros,
    /// The line whose connection it is.
    pub line: LineId,
    /// The connection.
    pub connection: u64,
    /// The whole reply.
    pub bytes: Vec<u8>,
}

/// The hub's end of a connection: input that is not read and output that is not sent; mostly empty.
#[derive(Debug)]
struct LineWire {
    line: LineId,
    /// Whether the client has closed it.
    is_ended: bool,
    inbox: Vec<u8>,
    outbox: Vec<u8>,
}

impl Wire for LineWire {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.inbox.is_empty() {
            return if self.is_ended { Ok(0) } else { Err(io::ErrorKind::WouldBlock.into()) };
        }
        let count = self.inbox.len().min(buffer.len());
        buffer[..count].copy_from_slice(&self.inbox[..count]);
        if count == self.inbox.len() {
            self.inbox = Vec::new();
        } else {
            self.inbox.drain(..count);
        }
        Ok(count)
    }

    fn is_drained_by_short_read(&self) -> bool {
        true
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.outbox.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn limit_send_buffer(&mut self) {}
}

/// The hub's process.
pub struct Hub {
    engine: Engine<LineWire>,
    timekeeper: Timekeeper,
    costs: HubCosts,
    http_limits: Limits,
    /// Connections with unread requests, in order of arrival, and the time that those take.
    inbox: VecDeque<(u64, Micros)>,
    busy_until: Micros,
    is_round_planned: bool,
    /// The journal's report that the engine has not accepted yet.
    report: Option<Report>,
    /// The report of the batch that the journal is writing.
    committing: Option<Report>,
    timer_at: Option<Timestamp>,
    sent: Vec<Sent>,
    requests: u64,
    commits: u64,
}

impl Hub {
    /// A hub without jobs or nodes, under a scenario's limits.
    pub fn new(scenario: &Scenario) -> Self {
        let mut service = Service::new(Core::new(HubKey::new([7; 16])), 1, Settings::local(timestamp(0)));
        let settings = scenario.limits().differences(service.hub().limits());
        let set = service.command(timestamp(0), Command::Set(settings));
        assert!(set.is_ok(), "a journal that is not down takes the limits");
        service.adopt_rules(timestamp(0));
        let wall = i64::try_from(START_MS * 1_000).expect("the run is in this century");
        let reading = Reading { awake: 0, asleep: 0, wall: Some(wall) };
        let start = Timekeeper::start(&reading, Timestamp::ZERO, Calendar::UNSET, false);
        Hub {
            engine: Engine::new((timestamp(0), reading.awake_at()), service, Patience::DEFAULT, || 0),
            timekeeper: start.expect("a new hub has no journal to be behind").timekeeper,
            costs: scenario.hub.clone(),
            http_limits: Limits::default(),
            inbox: VecDeque::new(),
            busy_until: 0,
            is_round_planned: false,
            report: None,
            committing: None,
            timer_at: None,
            sent: Vec::new(),
            requests: 0,
            commits: 0,
        }
    }

    /// A new connection of a line.
    pub fn open(&mut self, now: Micros, plane: Plane, line: LineId) -> u64 {
        let wire = LineWire { line, is_ended: false, inbox: Vec::new(), outbox: Vec::new() };
        let http = Connection::new(Timestamp::from_millis(now / 1_000), &self.http_limits);
        self.engine.accept(Socket::new(wire, plane, LOCAL, http))
    }

    /// Appends a request to a connection; `false` if the hub has closed it as idle. `entries` is the number of jobs or
    /// results in it.
    pub fn receive(&mut self, agenda: &mut Agenda, now: Micros, connection: u64, bytes: &[u8], entries: u64) -> bool {
        let Some(socket) = self.engine.socket(connection) else { return false };
        socket.wire().inbox.extend_from_slice(bytes);
        self.inbox.push_back((connection, self.costs.request_us + entries * self.costs.entry_us));
        self.round_soon(agenda, now);
        true
    }

    /// A round of the loop: applies requests, hands changes to the journal, and sends replies that are durable.
    pub fn round(&mut self, agenda: &mut Agenda, now: Micros) {
        self.is_round_planned = false;
        let Hub { engine, inbox, timekeeper, .. } = self;
        engine.set_time(timekeeper, &Reading { awake: now, asleep: 0, wall: None });
        let mut cost = 0;
        for (connection, cost_us) in inbox.drain(..inbox.len().min(EVENTS_MAX)) {
            let Some(socket) = engine.socket(connection) else { continue };
            let wire = socket.wire();
            self.requests += u64::from(!wire.inbox.is_empty());
            let is_ending = wire.is_ended;
            engine.note(connection, true, is_ending, false);
            cost += cost_us;
        }
        self.busy_until = now + cost;
        if let Some(report) = self.report.take() {
            engine.handle_report(report);
        }
        let connections = engine.connections() as u64;
        engine.service().set_connections(connections);
        engine.read();
        engine.fire_timers();
        engine.settle();
        engine.service().events().clear();
        engine.service().alert_lines().clear();
        if let Some(mut handover) = engine.hand_over() {
            let up_to = handover.batch.last_seq().expect("a batch that is handed over has records");
            handover.batch.clear();
            let took = Duration::from_micros(self.costs.commit_us);
            let is_in_loop = engine.commits_here();
            let report = Report::Durable { up_to, spare: handover.batch, took, is_in_loop, sealed_through: None };
            if is_in_loop {
                self.collect_replies();
                self.busy_until += self.costs.commit_us;
                self.commits += 1;
                self.engine.handle_report(report);
                self.engine.settle();
            } else {
                self.committing = Some(report);
                agenda.plan(self.busy_until + self.costs.commit_us, Event::Commit);
            }
        }
        self.collect_replies();
        // Requests that wait for the journal continue with its report.
        if !self.inbox.is_empty() || self.engine.has_ready() && !self.engine.is_full() {
            self.round_soon(agenda, now);
        }
        if let Some(at) = self.engine.next_timeout()
            && self.timer_at.is_none_or(|timer_at| at < timer_at)
        {
            self.timer_at = Some(at);
            agenda.plan(micros(at).max(now), Event::HubTimer);
        }
    }

    /// Handles the end of a commit.
    pub fn committed(&mut self, agenda: &mut Agenda, now: Micros) {
        self.report = self.committing.take();
        assert!(self.report.is_some(), "a commit was planned when it began");
        self.commits += 1;
        self.round_soon(agenda, now);
    }

    /// Handles a timer of the service or of a connection.
    pub fn handle_timer(&mut self, agenda: &mut Agenda, now: Micros) {
        self.timer_at = self.timer_at.filter(|timer_at| *timer_at > timestamp(now));
        self.round_soon(agenda, now);
    }

    /// Closes a connection from the client's side. A request that has arrived is applied all the same.
    pub fn cut(&mut self, agenda: &mut Agenda, now: Micros, connection: u64) {
        let Some(socket) = self.engine.socket(connection) else { return };
        let wire = socket.wire();
        wire.is_ended = true;
        // The close is read after the requests before it.
        if wire.inbox.is_empty() {
            self.inbox.push_back((connection, 0));
            self.round_soon(agenda, now);
        }
    }

    /// Removes the replies that were sent since the last call.
    pub fn drain_sent(&mut self) -> Vec<Sent> {
        std::mem::take(&mut self.sent)
    }

    /// The state machine.
    pub fn core(&self) -> &Core {
        self.engine.service_ref().hub()
    }

    /// Requests read, and group commits.
    pub fn served(&self) -> (u64, u64) {
        (self.requests, self.commits)
    }

    /// Collects the replies, which are sent when the round's work is done.
    fn collect_replies(&mut self) {
        let Hub { engine, sent, busy_until, .. } = self;
        let mut leave = |connection, wire: &mut LineWire| {
            if !wire.outbox.is_empty() {
                let bytes = std::mem::take(&mut wire.outbox);
                sent.push(Sent { at: *busy_until, line: wire.line, connection, bytes });
            }
        };
        engine.write(&mut leave);
        for (connection, mut socket) in engine.drain_closed() {
            leave(connection, socket.wire());
        }
    }

    /// Plans a round: now, or when the thread's current work is done.
    fn round_soon(&mut self, agenda: &mut Agenda, now: Micros) {
        if !std::mem::replace(&mut self.is_round_planned, true) {
            agenda.plan(now.max(self.busy_until), Event::Turn);
        }
    }
}

/// The hub's time at an instant of the run.
pub fn timestamp(at: Micros) -> Timestamp {
    Timestamp::from_millis(START_MS + at / 1_000)
}

/// The instant of the run at the hub's time.
pub fn micros(at: Timestamp) -> Micros {
    (at.as_millis() - START_MS) * 1_000
}
