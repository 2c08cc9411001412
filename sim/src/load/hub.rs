//! The hub's process: the engine that production runs, on one thread whose work takes time, and a journal that commits in
//! groups.
//!
//! What is here is the loop around the engine: a round takes in what has come while the thread was busy, costs what the
//! scenario says for the requests in it, and lets its replies leave at its end, as the event loop of the shell does with
//! sockets. In which order things are read, done, made durable and told is the engine's affair.

use super::event::{Agenda, Event, LineNo, Micros};
use super::scenario::{HubCosts, Scenario};
use sheratan_core::Hub as Core;
use sheratan_core::{Command, HubKey, Timestamp};
use sheratan_io::http::{Connection, Limits};
use sheratan_io::service::{Plane, Service, Settings};
use sheratan_io::shell::committer::Report;
use sheratan_io::shell::engine::Engine;
use sheratan_io::shell::sockets::Socket;
use sheratan_io::shell::wire::Wire;
use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

/// When runs begin.
const START_MS: u64 = 1_768_500_000_000;

/// Everybody's address.
const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// Connections that one round looks at: as many events as the loop of the shell asks of the system at once.
const EVENTS_MAX: usize = 1_024;

/// Bytes of a reply that left the hub.
#[derive(Debug)]
pub struct Sent {
    /// When they left.
    pub at: Micros,
    /// The line whose connection it is.
    pub line: LineNo,
    /// The connection.
    pub connection: u64,
    /// The whole reply.
    pub bytes: Vec<u8>,
}

/// The hub's end of a connection. What is in it was sent and not read, or written and not sent: nothing, most of the time.
#[derive(Debug)]
struct LineWire {
    line: LineNo,
    /// The client sends no more.
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
    costs: HubCosts,
    http_limits: Limits,
    /// Connections with something that has come and was not taken in, in its order, and what that costs.
    inbox: VecDeque<(u64, Micros)>,
    busy_until: Micros,
    is_round_planned: bool,
    /// What the journal said and was not heard.
    report: Option<Report>,
    /// The same, while the journal writes.
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
        Hub {
            engine: Engine::new(timestamp(0), service, || 0),
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
    pub fn open(&mut self, now: Micros, plane: Plane, line: LineNo) -> u64 {
        let wire = LineWire { line, is_ended: false, inbox: Vec::new(), outbox: Vec::new() };
        let http = Connection::new(timestamp(now), &self.http_limits);
        self.engine.accept(Socket::new(wire, plane, LOCAL, http))
    }

    /// A request reached a connection; `false` if the hub has closed that for its silence. `entries` are the jobs or results
    /// in it.
    pub fn receive(&mut self, agenda: &mut Agenda, now: Micros, connection: u64, bytes: &[u8], entries: u64) -> bool {
        let Some(socket) = self.engine.socket(connection) else { return false };
        socket.wire().inbox.extend_from_slice(bytes);
        self.inbox.push_back((connection, self.costs.request_us + entries * self.costs.entry_us));
        self.round_soon(agenda, now);
        true
    }

    /// A round of the loop: what has come is done, what was done is handed to the journal, what may be told leaves.
    pub fn turn(&mut self, agenda: &mut Agenda, now: Micros) {
        self.is_round_planned = false;
        let at = timestamp(now);
        let Hub { engine, inbox, .. } = self;
        engine.set_now(at);
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
        engine.read(|| false);
        engine.fire_timers();
        engine.settle();
        engine.service().events().clear();
        engine.service().alert_lines().clear();
        if let Some(mut handover) = engine.hand_over() {
            let up_to = handover.batch.last_seq().expect("a batch that is handed over has records");
            handover.batch.clear();
            let took = Duration::from_micros(self.costs.commit_us);
            self.committing = Some(Report::Durable { up_to, spare: handover.batch, took, sealed_through: None });
            agenda.plan(self.busy_until + self.costs.commit_us, Event::Commit);
        }
        self.tell();
        // What waits for the journal to catch up goes on with its report.
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

    /// The journal holds what it was given.
    pub fn committed(&mut self, agenda: &mut Agenda, now: Micros) {
        self.report = self.committing.take();
        assert!(self.report.is_some(), "a commit was planned when it began");
        self.commits += 1;
        self.round_soon(agenda, now);
    }

    /// Something falls due in the service, or at a connection.
    pub fn handle_timer(&mut self, agenda: &mut Agenda, now: Micros) {
        self.timer_at = self.timer_at.filter(|timer_at| *timer_at > timestamp(now));
        self.round_soon(agenda, now);
    }

    /// The client closes a connection. A request that has come is carried out all the same.
    pub fn cut(&mut self, agenda: &mut Agenda, now: Micros, connection: u64) {
        let Some(socket) = self.engine.socket(connection) else { return };
        let wire = socket.wire();
        wire.is_ended = true;
        // Its end is seen with what came before it.
        if wire.inbox.is_empty() {
            self.inbox.push_back((connection, 0));
            self.round_soon(agenda, now);
        }
    }

    /// What left since the last call.
    pub fn take_sent(&mut self) -> Vec<Sent> {
        std::mem::take(&mut self.sent)
    }

    /// The state machine, to look at.
    pub fn core(&self) -> &Core {
        self.engine.service_ref().hub()
    }

    /// Requests taken in, and group commits.
    pub fn served(&self) -> (u64, u64) {
        (self.requests, self.commits)
    }

    /// Replies leave when the round's work is done.
    fn tell(&mut self) {
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

    /// The loop is woken: now, or when its thread has done what it is at.
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

fn micros(at: Timestamp) -> Micros {
    (at.as_millis() - START_MS) * 1_000
}
