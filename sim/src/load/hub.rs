//! The hub's process: connections, one thread that serves requests one after another, and a journal that commits in groups.
//!
//! It does what the event loop of the shell does with sockets and files, and in the same order: a request is answered, long
//! polls are settled, a batch goes to the journal when that has nothing to do, and a reply that speaks of what the journal
//! does not hold is held until it does.

use super::event::{Agenda, Event, LineNo, Micros};
use super::scenario::{HubCosts, Scenario};
use sheratan_core::command::Command;
use sheratan_core::hub::Hub as Core;
use sheratan_core::ids::HubKey;
use sheratan_core::integrity::checksum::Mode;
use sheratan_core::time::Timestamp;
use sheratan_io::http::{Connection, Limits, Reply};
use sheratan_io::journal::Batch;
use sheratan_io::redact::Redactor;
use sheratan_io::service::{Answer, Caller, Origin, Plane, PlaneAddrs, Service, Settings};
use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

/// When runs begin.
const START_MS: u64 = 1_768_500_000_000;

/// Everybody's address.
const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

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

/// A place for a connection. Its number and the count of connections that had it before name one for ever.
#[derive(Debug)]
struct Place {
    generation: u32,
    line: LineNo,
    plane: Plane,
    wire: Option<Box<Connection>>,
    /// Its request waits for the hub's thread.
    is_in_inbox: bool,
    /// The client is gone, and the hub has not looked yet.
    is_cut: bool,
}

/// A reply that waits for the journal.
struct Held {
    seq: u64,
    origin: Origin,
    reply: Reply,
}

/// The hub's process.
pub struct Hub {
    service: Service,
    costs: HubCosts,
    http_limits: Limits,
    places: Vec<Place>,
    free: Vec<u32>,
    inbox: VecDeque<(u64, Micros)>,
    busy_until: Micros,
    is_turn_planned: bool,
    held: VecDeque<Held>,
    durable: u64,
    /// The last record of the batch that the journal is writing.
    committing: Option<u64>,
    spare: Batch,
    timer_at: Option<Timestamp>,
    sent: Vec<Sent>,
    requests: u64,
    commits: u64,
}

impl Hub {
    /// A hub without jobs or nodes, under a scenario's limits.
    pub fn new(scenario: &Scenario) -> Self {
        let settings = Settings {
            addrs: PlaneAddrs { control: (LOCAL, 8787).into(), data: (LOCAL, 8788).into() },
            token: None,
            auth_failures_max: 60,
            integrity_mode: Mode::Sha256,
            is_integrity_required: false,
            result_hmac_key: None,
            backpressure_status: 429,
            is_metrics_public: false,
            started_at: timestamp(0),
            redactor: Arc::new(Redactor::new(&[])),
        };
        let mut service = Service::new(Core::new(HubKey::new([7; 16])), 1, settings);
        let configured = service.command(timestamp(0), Command::Configure(Box::new(scenario.limits())));
        assert!(configured.is_ok(), "a journal that is not down takes the limits");
        if let Some(nodes_max) = scenario.limits.max_nodes {
            let limited = service.command(timestamp(0), Command::LimitNodes(nodes_max));
            assert!(limited.is_ok(), "a journal that is not down takes the limits");
        }
        Hub {
            service,
            costs: scenario.hub.clone(),
            http_limits: Limits::default(),
            places: Vec::new(),
            free: Vec::new(),
            inbox: VecDeque::new(),
            busy_until: 0,
            is_turn_planned: false,
            held: VecDeque::new(),
            durable: 0,
            committing: None,
            spare: Batch::new(),
            timer_at: None,
            sent: Vec::new(),
            requests: 0,
            commits: 0,
        }
    }

    /// A new connection of a line.
    pub fn open(&mut self, now: Micros, plane: Plane, line: LineNo) -> u64 {
        let wire = Some(Box::new(Connection::new(timestamp(now), &self.http_limits)));
        let place = Place { generation: 1, line, plane, wire, is_in_inbox: false, is_cut: false };
        match self.free.pop() {
            Some(no) => {
                let generation = self.places[no as usize].generation + 1;
                self.places[no as usize] = Place { generation, ..place };
                number(generation, no)
            }
            None => {
                self.places.push(place);
                number(1, (self.places.len() - 1) as u32)
            }
        }
    }

    /// A request reached a connection; `false` if the hub has closed that for its silence. `entries` are the jobs or results
    /// in it.
    pub fn receive(&mut self, agenda: &mut Agenda, now: Micros, connection: u64, bytes: &[u8], entries: u64) -> bool {
        let at = timestamp(now);
        let place = self.place(connection).expect("a client knows when it has cut its connection");
        let wire = place.wire.as_mut().expect("a place with this generation has one");
        if wire.next_timeout().is_some_and(|timeout| timeout <= at) {
            wire.handle_timeout(at);
        }
        if wire.is_done() {
            self.close(connection);
            return false;
        }
        wire.received(at, bytes);
        place.is_in_inbox = true;
        let cost = self.costs.request_us + entries * self.costs.entry_us;
        self.inbox.push_back((connection, cost));
        if !self.is_turn_planned {
            self.turn(agenda, now);
        }
        true
    }

    /// Serves the requests for which the thread has time.
    pub fn turn(&mut self, agenda: &mut Agenda, now: Micros) {
        self.is_turn_planned = false;
        while self.busy_until <= now {
            let Some((connection, cost)) = self.inbox.pop_front() else { break };
            self.busy_until = now + cost;
            self.answer(now, connection);
            self.end_round(agenda, now);
        }
        if !self.inbox.is_empty() {
            self.is_turn_planned = true;
            agenda.plan(self.busy_until, Event::Turn);
        }
    }

    /// The journal holds what it was given.
    pub fn committed(&mut self, agenda: &mut Agenda, now: Micros) {
        self.durable = self.committing.take().expect("a commit was planned when it began");
        self.commits += 1;
        self.service.set_durable(self.durable);
        while self.held.front().is_some_and(|held| held.seq <= self.durable) {
            let Held { origin, reply, .. } = self.held.pop_front().expect("there is a first one");
            self.deliver(now, now, origin, reply);
        }
        self.end_round(agenda, now);
    }

    /// Something falls due in the service.
    pub fn handle_timer(&mut self, agenda: &mut Agenda, now: Micros) {
        let at = timestamp(now);
        self.timer_at = self.timer_at.filter(|timer_at| *timer_at > at);
        if self.service.next_timeout().is_some_and(|timeout| timeout <= at) {
            self.service.handle_timeout(at);
        }
        self.end_round(agenda, now);
    }

    /// The client closes a connection, or the network does. A request that has come is carried out all the same.
    pub fn cut(&mut self, agenda: &mut Agenda, now: Micros, connection: u64) {
        let Some(place) = self.place(connection) else { return };
        if place.is_in_inbox {
            place.is_cut = true;
        } else {
            self.service.end_waits(connection);
            self.close(connection);
            self.end_round(agenda, now);
        }
    }

    /// What left since the last call.
    pub fn take_sent(&mut self) -> Vec<Sent> {
        std::mem::take(&mut self.sent)
    }

    /// The state machine, to look at.
    pub fn core(&self) -> &Core {
        self.service.hub()
    }

    /// Requests answered, and group commits.
    pub fn served(&self) -> (u64, u64) {
        (self.requests, self.commits)
    }

    fn answer(&mut self, now: Micros, connection: u64) {
        let at = timestamp(now);
        let (generation, no) = parts(connection);
        let place = &mut self.places[no as usize];
        assert_eq!(place.generation, generation, "a connection with a request in the inbox keeps its place");
        place.is_in_inbox = false;
        let wire = place.wire.as_mut().expect("a connection with a request in the inbox is open");
        let request = wire.next_request(at).expect("a whole request came");
        self.requests += 1;
        let origin = Origin { connection, request: request.no() };
        let caller = Caller { plane: place.plane, ip: LOCAL, origin };
        let answer = self.service.handle(at, &caller, &request);
        let seq = self.service.last_seq();
        match answer {
            Answer::Reply(reply) if seq > self.durable => self.held.push_back(Held { seq, origin, reply }),
            Answer::Reply(reply) | Answer::Now(reply) => self.deliver(now, self.busy_until, origin, reply),
            Answer::Parked => {}
            Answer::Stream(_) | Answer::Page(_) => unreachable!("nobody asks for a log"),
        }
        if self.places[no as usize].is_cut {
            self.service.end_waits(connection);
            self.close(connection);
        }
    }

    /// What the loop does at the end of each round.
    fn end_round(&mut self, agenda: &mut Agenda, now: Micros) {
        self.service.settle(timestamp(now));
        let seq = self.service.last_seq();
        for (origin, reply) in std::mem::take(self.service.late_replies()) {
            match seq <= self.durable {
                true => self.deliver(now, now.max(self.busy_until), origin, reply),
                false => self.held.push_back(Held { seq, origin, reply }),
            }
        }
        self.service.events().clear();
        self.service.alert_lines().clear();
        if self.committing.is_none()
            && let Some(mut handover) = self.service.take_batch(std::mem::take(&mut self.spare))
        {
            self.committing = handover.batch.last_seq();
            handover.batch.clear();
            self.spare = handover.batch;
            agenda.plan(now.max(self.busy_until) + self.costs.commit_us, Event::Commit);
        }
        if let Some(at) = self.service.next_timeout()
            && self.timer_at.is_none_or(|timer_at| at < timer_at)
        {
            self.timer_at = Some(at);
            agenda.plan(micros(at).max(now), Event::HubTimer);
        }
    }

    /// Hands a reply to its connection, if that is there, and takes the bytes off it.
    fn deliver(&mut self, now: Micros, leaves_at: Micros, origin: Origin, reply: Reply) {
        let connection = origin.connection;
        let Some(place) = self.place(connection) else { return };
        let line = place.line;
        let wire = place.wire.as_mut().expect("a place with this generation has one");
        wire.reply(timestamp(now), origin.request, reply);
        let mut bytes = Vec::new();
        while !wire.output().is_empty() {
            let count = wire.output().len();
            bytes.extend_from_slice(wire.output());
            wire.wrote(timestamp(now), count);
        }
        self.sent.push(Sent { at: leaves_at, line, connection, bytes });
    }

    fn close(&mut self, connection: u64) {
        let (_, no) = parts(connection);
        let place = &mut self.places[no as usize];
        place.wire = None;
        // No connection has this number any more: the next to take the place has a higher generation.
        place.generation += 1;
        self.free.push(no);
        self.service.forget(connection);
    }

    fn place(&mut self, connection: u64) -> Option<&mut Place> {
        let (generation, no) = parts(connection);
        self.places.get_mut(no as usize).filter(|place| place.generation == generation)
    }
}

/// The hub's time at an instant of the run.
pub fn timestamp(at: Micros) -> Timestamp {
    Timestamp::from_millis(START_MS + at / 1_000)
}

fn micros(at: Timestamp) -> Micros {
    (at.as_millis() - START_MS) * 1_000
}

fn number(generation: u32, no: u32) -> u64 {
    u64::from(generation) << 32 | u64::from(no)
}

fn parts(connection: u64) -> (u32, u32) {
    ((connection >> 32) as u32, connection as u32)
}
