//! The driver: handles one event after the other, until the scenario's time is over.

use super::clients::Clients;
use super::event::{Agenda, Event, LineId, Micros};
use super::fleet::{Fleet, LINES};
use super::hub::{Hub, Sent};
use super::operator::{Act, Operator};
use super::report::Report;
use super::scenario::Scenario;
use super::tally::Tally;
use super::wire::{self, Asked, Said};
use sheratan_core::telemetry::Counter;
use sheratan_io::service::Plane;

/// Points of a timeline: one for each pixel or two of a chart.
const SAMPLES: u64 = 400;

/// The id of an absent connection. (Eight bytes less than an `Option`, for millions of lines.)
const NO_CONNECTION: u64 = u64::MAX;

/// One client's or node's slot for a request under way.
struct Line {
    /// The id of its connection, or [`NO_CONNECTION`].
    connection: u64,
    is_busy: bool,
    /// The reply that is in flight.
    said: Option<Box<Said>>,
}

impl Default for Line {
    fn default() -> Self {
        Line { connection: NO_CONNECTION, is_busy: false, said: None }
    }
}

/// The network between the hub and its clients and nodes, and the agenda.
pub struct Network {
    /// The events to come.
    pub agenda: Agenda,
    hub: Hub,
    lines: Vec<Line>,
    node_lines: u32,
    operator_line: Option<LineId>,
    network_us: Micros,
    is_out: bool,
    opened: u64,
}

/// A run under way.
pub struct Driver {
    net: Network,
    fleet: Fleet,
    clients: Option<Clients>,
    operator: Option<Operator>,
    tally: Tally,
    scenario: Scenario,
    seed: u64,
    until: Micros,
    sample_every: Micros,
    now: Micros,
    request: Vec<u8>,
    body: Vec<u8>,
}

impl Network {
    /// Sends the request of a line, which is written when it reaches the hub; returns the connection's id. `None` if
    /// the line waits for a reply, or in an outage.
    pub fn send(&mut self, now: Micros, line: LineId) -> Option<u64> {
        if !self.can_send(line) {
            return None;
        }
        self.lines[line as usize].is_busy = true;
        let mut connection = self.lines[line as usize].connection;
        if connection == NO_CONNECTION {
            connection = self.open(now, line);
        }
        self.agenda.plan(now + self.network_us, Event::Arrive(line, connection));
        Some(connection)
    }

    /// Whether the line has no request under way, and there is no outage.
    pub fn can_send(&self, line: LineId) -> bool {
        !self.is_out && !self.lines[line as usize].is_busy
    }

    /// Closes the connection of a line; a reply that is in flight is lost.
    pub fn cut(&mut self, now: Micros, line: LineId) {
        let line = std::mem::take(&mut self.lines[line as usize]);
        if line.connection != NO_CONNECTION {
            self.hub.cut(&mut self.agenda, now, line.connection);
        }
    }

    /// Whether there is an outage.
    pub fn is_out(&self) -> bool {
        self.is_out
    }

    fn open(&mut self, now: Micros, line: LineId) -> u64 {
        let is_control = line < self.node_lines && line.is_multiple_of(LINES) || self.operator_line == Some(line);
        let plane = if is_control { Plane::Control } else { Plane::Data };
        self.opened += 1;
        let connection = self.hub.open(now, plane, line);
        self.lines[line as usize].connection = connection;
        connection
    }
}

impl Driver {
    /// A run before its first event.
    pub fn new(scenario: &Scenario, seed: u64) -> Self {
        let node_lines = scenario.nodes.count as u32 * LINES;
        let lines = node_lines + scenario.arrivals.as_ref().map_or(0, |arrivals| arrivals.clients as u32);
        let mut net = Network {
            agenda: Agenda::default(),
            hub: Hub::new(scenario),
            lines: (0..=lines).map(|_| Line::default()).collect(),
            node_lines,
            operator_line: scenario.nodes.rolling_drain.map(|_| lines),
            network_us: scenario.hub.network_us,
            is_out: false,
            opened: 0,
        };
        let fleet = Fleet::new(&mut net, seed, &scenario.nodes, &scenario.jobs);
        let clients = scenario
            .arrivals
            .as_ref()
            .map(|arrivals| Clients::new(&mut net, seed, arrivals, &scenario.jobs, scenario.seconds, node_lines));
        let drain = scenario.nodes.rolling_drain;
        let operator = drain.map(|drain| Operator::new(&mut net, drain, lines, scenario.nodes.count as u32));
        if let Some(outage) = scenario.outage {
            net.agenda.plan(outage.from_sec * 1_000_000, Event::OutageBegins);
            net.agenda.plan((outage.from_sec + outage.for_sec) * 1_000_000, Event::OutageEnds);
        }
        let until = scenario.seconds * 1_000_000;
        // Whole seconds, so that counts are rates a reader can check.
        let sample_every = scenario.seconds.div_ceil(SAMPLES) * 1_000_000;
        net.agenda.plan(sample_every, Event::Sample);
        Driver {
            net,
            fleet,
            clients,
            operator,
            tally: Tally::default(),
            scenario: scenario.clone(),
            seed,
            until,
            sample_every,
            now: 0,
            request: Vec::new(),
            body: Vec::new(),
        }
    }

    /// The current virtual time.
    pub fn now(&self) -> Micros {
        self.now
    }

    /// Handles the next event; `false` if the time is over.
    pub fn step(&mut self) -> bool {
        let Some((now, event)) = self.net.agenda.next(self.until) else { return false };
        self.now = now;
        self.handle(now, event);
        for sent in self.net.hub.drain_sent() {
            self.plan_reply(sent);
        }
        true
    }

    /// Runs to the end; `progress` is called with the virtual time now and then.
    pub fn run(self, mut progress: impl FnMut(Micros)) -> Report {
        let goes_on = |now| {
            progress(now);
            true
        };
        self.run_while(goes_on).expect("`goes_on` is always true")
    }

    /// Runs to the end, or until `goes_on`, which is called now and then, returns false: then there is no report.
    pub fn run_while(mut self, mut goes_on: impl FnMut(Micros) -> bool) -> Option<Report> {
        let mut steps = 0u32;
        while self.step() {
            steps = steps.wrapping_add(1);
            if steps.is_multiple_of(1 << 14) && !goes_on(self.now) {
                return None;
            }
        }
        Some(self.end())
    }

    fn end(mut self) -> Report {
        self.tally.reconnects =
            self.net.opened - self.net.lines.iter().filter(|line| line.connection != NO_CONNECTION).count() as u64;
        let pending = self.clients.as_ref().map_or(0, Clients::pending);
        let under_way = self.fleet.under_way();
        Report::new(&self.scenario, self.seed, self.tally, &self.net.hub, pending, under_way)
    }

    fn handle(&mut self, now: Micros, event: Event) {
        let Driver { net, fleet, clients, operator, tally, .. } = self;
        match event {
            Event::Arrive(line, connection) => self.deliver_request(now, line, connection),
            Event::Turn => net.hub.round(&mut net.agenda, now),
            Event::Commit => net.hub.committed(&mut net.agenda, now),
            Event::HubTimer => net.hub.handle_timer(&mut net.agenda, now),
            Event::Reply(line, connection) => {
                let place = &mut net.lines[line as usize];
                if place.connection != connection {
                    return;
                }
                let Some(said) = place.said.take() else { return };
                place.is_busy = false;
                if operator.as_ref().is_some_and(|operator| operator.has(line)) {
                    assert!(matches!(*said, Said::Done), "the operator is answered with {said:?}");
                    return;
                }
                match clients {
                    Some(clients) if !fleet.has(line) => clients.reply(net, tally, now, line, *said),
                    _ => fleet.reply(net, tally, now, line, *said),
                }
            }
            Event::GiveUp(line, connection) => {
                // A timeout of an earlier connection is ignored.
                let place = &net.lines[line as usize];
                if place.connection == connection
                    && place.is_busy
                    && let Some(clients) = clients
                    && clients.is_over(line, now)
                {
                    clients.time_out(net, tally, now, line);
                }
            }
            Event::Offer => self.clients.as_mut().expect("clients planned it").offer(net, tally, now),
            Event::Resend(index) => self.clients.as_mut().expect("clients planned it").resend(net, tally, now, index),
            Event::Beat(index) => fleet.beat(net, now, index),
            Event::Pull(index) => fleet.pull(net, now, index),
            Event::Done(index, incarnation, slot) => fleet.done(net, tally, now, (index, incarnation, slot)),
            Event::Restart(index) => fleet.restart(net, now, index),
            Event::Operate => {
                let operator = operator.as_mut().expect("the operator planned it");
                if let Act::Restart(index) = operator.operate(net, now) {
                    tally.restarted += 1;
                    fleet.stop(net, now, index);
                }
            }
            Event::OutageBegins => {
                (0..net.lines.len() as u32).for_each(|line| net.cut(now, line));
                net.is_out = true;
                fleet.begin_outage();
                if let Some(clients) = clients {
                    clients.begin_outage(tally);
                }
            }
            Event::OutageEnds => {
                net.is_out = false;
                fleet.end_outage(net, now);
                if let Some(clients) = clients {
                    clients.end_outage(net, tally, now);
                }
            }
            Event::Sample => {
                let core = net.hub.core();
                let counts = core.counts();
                let totals = [Counter::Submitted, Counter::Completed].map(|counter| core.telemetry().total(counter));
                tally.promises.look(core, now, totals[0]);
                tally.sample(now, (counts.waiting(), counts.leased), (totals[0], totals[1]));
                net.agenda.plan(now + self.sample_every, Event::Sample);
            }
        }
    }

    /// Delivers a request to the hub.
    fn deliver_request(&mut self, now: Micros, line: LineId, connection: u64) {
        let Driver { net, fleet, clients, operator, request, body, .. } = self;
        if net.lines[line as usize].connection != connection {
            return;
        }
        let of_operator = operator.as_mut().filter(|operator| operator.has(line));
        let entries = match (of_operator, clients) {
            (Some(operator), _) => {
                operator.write(request, body);
                0
            }
            (None, Some(clients)) if !fleet.has(line) => clients.write(line, request, body),
            _ => fleet.write(line, request, body),
        };
        if !net.hub.receive(&mut net.agenda, now, connection, request, entries) {
            // The hub closed the idle connection: the client opens another.
            let connection = net.open(now, line);
            let is_taken = net.hub.receive(&mut net.agenda, now, connection, request, entries);
            assert!(is_taken, "a new connection is open");
        }
    }

    /// Parses a reply that left the hub, and plans its arrival.
    fn plan_reply(&mut self, sent: Sent) {
        let Sent { at, line, connection, bytes } = sent;
        let place = &mut self.net.lines[line as usize];
        if place.connection != connection {
            return;
        }
        let asked = match &self.clients {
            _ if self.operator.as_ref().is_some_and(|operator| operator.has(line)) => Asked::Done,
            Some(clients) if !self.fleet.has(line) => clients.asked(line),
            _ => self.fleet.asked(line),
        };
        place.said = Some(Box::new(wire::read(asked, &bytes)));
        self.net.agenda.plan(at + self.net.network_us, Event::Reply(line, connection));
    }
}
