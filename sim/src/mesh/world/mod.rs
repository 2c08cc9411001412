//! World: the state of a run, and its event loop.

mod chaos;
mod hub;
mod second;
mod traffic;

use super::admin::{self, ADMIN_LANES, Admin};
use super::client::Client;
use super::fault::{Fault, Injected};
use super::http::get;
use super::listener::Listener;
use super::logs::Logs;
use super::network::Network;
use super::node::{LANES, Node};
use super::oracle::{Done, Observation, Oracle, Violation, holds};
use super::plan::Plan;
use super::process::{Handed, Process, TOKEN};
use super::reader::{self, READER_LANES, Reader};
use super::scene::{Answer, Call, Scene, Timer};
use super::second::Second;
use super::trail::Trail;
use crate::agenda::{Agenda, Alarm, MINUTE, Micros, SECOND};
use crate::disk::{Faults, VirtualDisk};
use crate::draw::{Draw, Stream};
use sheratan_core::HubKey;
use sheratan_io::journal::{HubId, Identity};
use sheratan_io::service::Plane;
use std::collections::{BTreeMap, VecDeque};

/// Wall time at the start: 2026-01-15.
pub(super) const WALL_START_US: Micros = 1_768_500_000_000_000;

/// How long the warm-up lasts, in which no faults are injected.
pub const WARM_UP_US: Micros = 20 * SECOND;

/// How often the faults whose rates are per hour are drawn.
const FAULT_TICK_US: Micros = SECOND;

/// How often the operator reads the metrics.
const SCRAPE_US: Micros = 15 * SECOND;

/// How long the cool-down may last: the longest lease and backoff, and the second for each job that is held at its
/// start.
const COOL_DOWN_US: Micros = 10 * MINUTE;
const COOL_DOWN_PER_JOB_US: Micros = 2 * SECOND;

/// How many bytes a slow reader reads at once, and how often.
const SLOW_READ_BYTES: usize = 512;
const SLOW_READ_US: Micros = 300_000;

/// How long after a failed start the hub is started again.
const START_AGAIN_US: Micros = 2 * SECOND;

/// A participant of the run other than the hub.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Actor {
    Node(usize),
    Client(usize),
    Reader(usize),
    Listener(usize),
    /// Acts.
    Admin,
    /// Reads the metrics.
    Operator,
}

/// One of an actor's connections, and the calls on it.
#[derive(Debug)]
struct Channel {
    actor: Actor,
    lane: usize,
    plane: Plane,
    conn: Option<u64>,
    /// The calls that are not answered yet, in the order in which they were sent.
    calls: VecDeque<PendingCall>,
    /// Fires when the first of them times out, or earlier.
    timeout: Alarm,
    inbox: Vec<u8>,
}

/// A call that is not answered yet.
#[derive(Clone, Copy, Debug)]
struct PendingCall {
    asked_at: Micros,
    /// When it times out.
    times_out_at: Micros,
    /// How long the request allows the hub to wait before it answers.
    hub_wait: Micros,
}

#[derive(Debug)]
enum Event {
    /// Bytes arrive at the hub.
    ToHub { conn: u64, bytes: Vec<u8> },
    /// The hub is notified that a connection was closed.
    CloseAtHub { conn: u64 },
    /// Bytes arrive at an actor.
    ToActor { conn: u64, bytes: Vec<u8> },
    /// An actor is notified that a connection was closed.
    CloseAtActor { conn: u64 },
    /// A slow reader reads the next bytes.
    SlowRead { conn: u64 },
    /// A channel's timeout alarm fires.
    CallTimeout { channel: usize },
    /// The hub's loop runs its next round.
    Round { process_id: u64 },
    /// The disk has finished a batch, or has failed.
    Commit { process_id: u64 },
    /// The background thread checks for work.
    Background { process_id: u64 },
    /// The hub is started.
    Start,
    /// An actor's timer fires.
    Wake { actor: Actor, incarnation: u64, timer: Timer },
    /// A node is started.
    StartNode(usize),
    /// A client gets a job to submit.
    Arrival,
    /// The faults whose rates are per hour are drawn.
    FaultTick,
    /// The operator reads the metrics.
    Scrape,
    /// The chaos begins.
    Chaos,
    /// The chaos ends.
    Cool,
    /// The drain of an orderly stop is over.
    Stopped { process_id: u64 },
    /// The power is cut.
    PowerCut { process_id: u64 },
    /// A second hub is started on the data folder.
    SecondStarts { process_id: u64 },
    /// The second hub has recovered, and writes.
    SecondWrites { process_id: u64 },
    /// The operator sees that the hub has lost its folder, and starts it again.
    Replaced { process_id: u64 },
}

/// A run in numbers.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Tally {
    /// Events.
    pub events: u64,
    /// Requests.
    pub requests: u64,
    /// Virtual time.
    pub virtual_us: Micros,
    /// Starts of the hub.
    pub hub_starts: u64,
    /// Records in the journal.
    pub records: u64,
    /// Submits that were acknowledged.
    pub acknowledged: u64,
    /// Jobs that ended.
    pub ended: u64,
    /// Lines of the audit log.
    pub audit_lines: u64,
    /// Faults that were injected, by name.
    pub injected: Injected,
    /// Events that were counted by name.
    pub marks: BTreeMap<&'static str, u64>,
}

/// The state of a run.
#[derive(Debug)]
pub struct World {
    plan: Plan,
    now: Micros,
    agenda: Agenda<Event>,
    network: Network,
    disk: VirtualDisk,
    process: Option<Process>,
    /// What the last process had handed to the journal when it died: records that may be there without an
    /// acknowledgement.
    handed: Handed,
    /// A second hub that has locked the data folder, and what it may have written without an acknowledgement.
    second: Option<Second>,
    second_handed: Handed,
    /// Counts the hub's processes; the id of the current or last one.
    process_id: u64,
    identity: Identity,
    /// Microseconds by which wall time is off.
    wall_offset_us: i64,
    /// How long the hub's machine slept. The others' time does not pass meanwhile: to the hub it is as if all slept.
    asleep_us: Micros,
    channels: Vec<Channel>,
    nodes: Vec<Node>,
    clients: Vec<Client>,
    readers: Vec<Reader>,
    listeners: Vec<Listener>,
    admin: Option<Admin>,
    /// Until when an actor's requests are lost, by node index.
    cut_to_hub: BTreeMap<usize, Micros>,
    /// Until when the replies to an actor are lost, by node index.
    cut_from_hub: BTreeMap<usize, Micros>,
    burst_until: Micros,
    slow_until: Micros,
    /// Until when no sync of the journal returns.
    hung_until: Micros,
    full_until: Micros,
    /// Until when the hub's loop does not run.
    stalled_until: Micros,
    /// The loop's thread commits until then, or until the loop is taken from it.
    committing_until: Micros,
    /// Until when a stall, a slow disk or a start may delay the hub's answers.
    hindered_until: Micros,
    /// Bits that flipped at rest and were not detected yet.
    flips: u64,
    /// Whether a sector may be unreadable.
    has_bad_sector: bool,
    is_chaos: bool,
    is_cool: bool,
    cool_until: Micros,
    draws: Draws,
    calls: u64,
    /// How many jobs were assigned to readers.
    jobs_assigned: usize,
    oracle: Oracle,
    logs: Logs,
    trail: Trail,
    injected: Injected,
    marks: BTreeMap<&'static str, u64>,
}

/// The actors.
struct Cast<'a> {
    nodes: &'a mut [Node],
    clients: &'a mut [Client],
    readers: &'a mut [Reader],
    listeners: &'a mut [Listener],
    admin: Option<&'a mut Admin>,
}

/// A random stream for each purpose, so that removing one fault leaves the draws of the others as they were.
#[derive(Debug)]
struct Draws {
    actors: Draw,
    arrivals: Draw,
    faults: Draw,
    hub: Draw,
}

impl World {
    /// A run before its first event.
    pub fn new(plan: Plan) -> Self {
        let seed = plan.seed;
        let mut key = *b"sheratan-sim-key";
        key[..8].copy_from_slice(&seed.to_le_bytes());
        let identity = Identity { hub_id: HubId(key), key: HubKey::new(key) };
        let mut actors = Draw::new(seed, Stream::Actors);
        let nodes: Vec<_> = (0..plan.nodes).map(|index| Node::new(&plan, index, &mut actors)).collect();
        let clients: Vec<_> = (0..plan.clients).map(Client::new).collect();
        let readers: Vec<_> = (0..plan.traffic.readers).map(Reader::new).collect();
        let listeners: Vec<_> = (0..plan.traffic.listeners).map(Listener::new).collect();
        let admin = (plan.operator.acts_per_min > 0).then(|| Admin::new(seed));
        let mut channels = Vec::new();
        let channel = |actor, lane, plane| {
            let (calls, inbox) = (VecDeque::new(), Vec::new());
            Channel { actor, lane, plane, conn: None, calls, timeout: Alarm::default(), inbox }
        };
        for index in 0..nodes.len() {
            for lane in 0..LANES {
                let plane = if lane == 0 { Plane::Control } else { Plane::Data };
                channels.push(channel(Actor::Node(index), lane, plane));
            }
        }
        channels.extend((0..clients.len()).map(|index| channel(Actor::Client(index), 0, Plane::Data)));
        for index in 0..readers.len() {
            channels.extend((0..READER_LANES).map(|lane| channel(Actor::Reader(index), lane, reader::plane(lane))));
        }
        if admin.is_some() {
            channels.extend((0..ADMIN_LANES).map(|lane| channel(Actor::Admin, lane, admin::plane(lane))));
        }
        channels.extend((0..listeners.len()).map(|index| channel(Actor::Listener(index), 0, Plane::Control)));
        channels.push(channel(Actor::Operator, 0, Plane::Data));
        let mut agenda = Agenda::default();
        agenda.plan(0, Event::Start);
        for index in 0..nodes.len() {
            agenda.plan(actors.below(5 * SECOND), Event::StartNode(index));
        }
        for index in 0..readers.len() {
            let wake = Event::Wake { actor: Actor::Reader(index), incarnation: 0, timer: Timer::Read };
            agenda.plan(SECOND, wake);
        }
        for index in 0..listeners.len() {
            let wake = Event::Wake { actor: Actor::Listener(index), incarnation: 0, timer: Timer::Listen };
            agenda.plan(2 * SECOND, wake);
        }
        if admin.is_some() {
            agenda.plan(WARM_UP_US, Event::Wake { actor: Actor::Admin, incarnation: 0, timer: Timer::Act });
        }
        agenda.plan(SECOND, Event::Arrival);
        agenda.plan(SCRAPE_US, Event::Scrape);
        agenda.plan(WARM_UP_US, Event::Chaos);
        agenda.plan(WARM_UP_US + plan.chaos_us(), Event::Cool);
        World {
            now: 0,
            agenda,
            network: Network::new(&plan, Draw::new(seed, Stream::Network)),
            disk: VirtualDisk::new(Draw::new(seed, Stream::Disk)),
            process: None,
            handed: Handed::default(),
            second: None,
            second_handed: Handed::default(),
            process_id: 0,
            identity,
            wall_offset_us: 0,
            asleep_us: 0,
            channels,
            nodes,
            clients,
            readers,
            listeners,
            admin,
            cut_to_hub: BTreeMap::new(),
            cut_from_hub: BTreeMap::new(),
            burst_until: 0,
            slow_until: 0,
            hung_until: 0,
            full_until: 0,
            stalled_until: 0,
            committing_until: 0,
            hindered_until: 0,
            flips: 0,
            has_bad_sector: false,
            is_chaos: false,
            is_cool: false,
            cool_until: Micros::MAX,
            draws: Draws {
                actors,
                arrivals: Draw::new(seed, Stream::Arrivals),
                faults: Draw::new(seed, Stream::Faults),
                hub: Draw::new(seed, Stream::Hub),
            },
            calls: 0,
            jobs_assigned: 0,
            oracle: Oracle::new(identity.key),
            logs: Logs::new(seed),
            trail: Trail::default(),
            injected: Injected::new(),
            marks: BTreeMap::new(),
            plan,
        }
    }

    /// Handles the next event. False when the run is over.
    pub fn step(&mut self) -> Result<bool, Violation> {
        let Some((at, event)) = self.agenda.next(Micros::MAX) else { return Ok(false) };
        self.now = at.max(self.now);
        self.oracle.set_now(self.now);
        let (name, which) = self.handle(event)?;
        self.trail.note(self.now, name, which);
        if !self.is_cool {
            return Ok(true);
        }
        if self.is_quiet() && self.finish()? {
            return Ok(false);
        }
        holds(self.now < self.cool_until, "no job starves", || {
            let counts = self.oracle.shadow().counts();
            format!("{} s after the chaos: {counts:?}", (self.now - WARM_UP_US - self.plan.chaos_us()) / SECOND)
        })?;
        Ok(true)
    }

    /// The current virtual time.
    pub fn now(&self) -> Micros {
        self.now
    }

    /// The id of the hub process that is running.
    pub fn process_id(&self) -> Option<u64> {
        self.process.is_some().then_some(self.process_id)
    }

    /// Whether the hub knows that its journal does not accept records.
    pub fn is_journal_down(&self) -> bool {
        self.process.as_ref().is_some_and(Process::is_journal_down)
    }

    /// Jobs that wait, and jobs under lease, in the durable state.
    pub fn held(&self) -> (u64, u64) {
        let counts = self.oracle.shadow().counts();
        (counts.waiting(), counts.leased)
    }

    /// The events so far.
    pub fn trail(&self) -> &Trail {
        &self.trail
    }

    /// The run in numbers.
    pub fn tally(&self) -> Tally {
        let (acknowledged, ended) = self.oracle.counts();
        let mut injected = self.injected.clone();
        for (name, count) in self.network.injected().iter().chain(&self.disk.tally()).chain(&self.logs.tally()) {
            *injected.entry(name).or_default() += count;
        }
        let mut marks = self.marks.clone();
        marks.extend(self.oracle.sightings().iter());
        marks.extend(self.logs.marks());
        Tally {
            events: self.trail.count(),
            requests: self.calls,
            virtual_us: self.now,
            hub_starts: self.process_id,
            records: self.oracle.seq(),
            acknowledged,
            ended,
            audit_lines: self.logs.lines(),
            injected,
            marks,
        }
    }

    /// The digest of the durable state.
    pub fn digest(&self) -> [u8; 32] {
        self.oracle.shadow().digest()
    }

    fn handle(&mut self, event: Event) -> Result<(&'static str, [u64; 2]), Violation> {
        Ok(match event {
            Event::ToHub { conn, bytes } => {
                let len = bytes.len() as u64;
                self.trail.bytes(&bytes);
                self.deliver_to_hub(conn, &bytes);
                ("bytes reach the hub: connection, count", [conn, len])
            }
            Event::CloseAtHub { conn } => {
                if let Some(conn) = self.network.close(conn)
                    && let Some(id) = conn.hub
                    && let Some(process) = &mut self.process
                {
                    process.update_wire(id, true, |wire| wire.reset());
                    self.round_soon();
                }
                ("a connection is gone for the hub", [conn, 0])
            }
            Event::ToActor { conn, bytes } => {
                let len = bytes.len() as u64;
                self.trail.bytes(&bytes);
                self.deliver_to_actor(conn, &bytes)?;
                ("bytes reach an actor: connection, count", [conn, len])
            }
            Event::CloseAtActor { conn } => {
                if let Some(index) = self.channels.iter().position(|channel| channel.conn == Some(conn)) {
                    self.disconnect(index)?;
                }
                ("a connection is gone for its actor", [conn, 0])
            }
            Event::SlowRead { conn } => {
                self.read_slowly(conn)?;
                ("a slow reader reads", [conn, 0])
            }
            Event::CallTimeout { channel } => {
                match self.channels[channel].timeout.handle_event(self.now) {
                    Ok(()) => self.time_out_call(channel)?,
                    Err(Some(at)) => self.agenda.plan(at, Event::CallTimeout { channel }),
                    Err(None) => {}
                }
                ("an actor looks at its calls", [channel as u64, 0])
            }
            Event::Round { process_id } => {
                match self
                    .process
                    .as_mut()
                    .filter(|_| process_id == self.process_id)
                    .map(|process| process.round.handle_event(self.now))
                {
                    Some(Ok(())) => self.round(process_id)?,
                    Some(Err(Some(at))) => self.agenda.plan(at, Event::Round { process_id }),
                    Some(Err(None)) | None => {}
                }
                ("round", [process_id, 0])
            }
            Event::Commit { process_id } => {
                self.commit(process_id)?;
                ("commit", [process_id, self.oracle.seq()])
            }
            Event::Background { process_id } => {
                self.background(process_id)?;
                ("background", [process_id, 0])
            }
            Event::Start => {
                self.start()?;
                ("start", [self.process_id, u64::from(self.process.is_some())])
            }
            Event::Wake { actor, incarnation, timer } => {
                self.wake(actor, incarnation, timer)?;
                ("an actor wakes", [self.calls, incarnation])
            }
            Event::StartNode(index) => {
                if !self.nodes[index].is_up() {
                    self.run_actor(Actor::Node(index), |all, scene| all.nodes[index].start(scene))?;
                }
                ("a node starts", [index as u64, 0])
            }
            Event::Arrival => {
                self.arrival()?;
                ("a submit is wanted", [0, 0])
            }
            Event::FaultTick => {
                self.fault_tick()?;
                ("faults are drawn", [0, 0])
            }
            Event::Scrape => {
                let channel = self.channels.len() - 1;
                if self.channels[channel].calls.is_empty() {
                    let bytes = get("/api/metrics", TOKEN);
                    self.call(channel, Call { lane: 0, bytes, timeout: 5 * SECOND, hub_wait: 0 });
                }
                if !self.is_cool {
                    self.agenda.plan(self.now + SCRAPE_US, Event::Scrape);
                }
                self.check_listeners()?;
                ("a scrape", [0, 0])
            }
            Event::Chaos => {
                self.is_chaos = true;
                self.network.is_chaos = true;
                let [write_error, sync_error] =
                    [Fault::WriteError, Fault::SyncError].map(|fault| self.plan.rate(fault));
                // Out of a thousand operations, which are far fewer than messages.
                self.disk.set_faults(Faults {
                    write_permille: write_error / 10,
                    sync_permille: sync_error / 10,
                    name_permille: self.plan.rate(Fault::NameError) / 10,
                });
                self.logs.set_faults(write_error / 10);
                self.agenda.plan(self.now + FAULT_TICK_US, Event::FaultTick);
                ("the chaos begins", [0, 0])
            }
            Event::Cool => {
                self.cool();
                ("the chaos ends", [0, 0])
            }
            Event::Stopped { process_id } => {
                if process_id == self.process_id && self.process.is_some() {
                    self.stop()?;
                }
                ("the hub has stopped", [process_id, 0])
            }
            Event::PowerCut { process_id } => {
                if process_id == self.process_id && self.process.is_some() {
                    self.count_fault("crash_after_reply");
                    self.power_off();
                }
                ("the power is cut", [process_id, 0])
            }
            Event::SecondStarts { process_id } => {
                self.start_second(process_id)?;
                ("a second hub starts", [process_id, u64::from(self.second.is_some())])
            }
            Event::SecondWrites { process_id } => {
                self.write_second(process_id)?;
                ("a second hub writes", [process_id, self.oracle.seq()])
            }
            Event::Replaced { process_id } => {
                if process_id == self.process_id && self.process.is_some() {
                    self.kill();
                }
                ("the hub is started again", [process_id, 0])
            }
        })
    }

    fn answered(&mut self, index: usize, answer: Answer) -> Result<(), Violation> {
        let (actor, lane) = (self.channels[index].actor, self.channels[index].lane);
        match actor {
            Actor::Node(index) => self.run_actor(actor, |all, scene| all.nodes[index].answered(lane, answer, scene)),
            Actor::Client(index) => self.run_actor(actor, |all, scene| all.clients[index].answered(answer, scene)),
            Actor::Reader(index) => {
                self.run_actor(actor, |all, scene| all.readers[index].answered(lane, answer, scene))
            }
            Actor::Listener(index) => self.run_actor(actor, |all, scene| all.listeners[index].answered(answer, scene)),
            Actor::Admin => self.run_actor(actor, |all, scene| {
                all.admin.as_mut().expect("it has called").answered(lane, answer, scene);
            }),
            Actor::Operator => Ok(()),
        }
    }

    fn wake(&mut self, actor: Actor, incarnation: u64, timer: Timer) -> Result<(), Violation> {
        if let Actor::Node(index) = actor {
            if self.nodes[index].incarnation != incarnation {
                return Ok(());
            }
            let hung_until = self.nodes[index].hung_until;
            if self.now < hung_until {
                self.agenda.plan(hung_until, Event::Wake { actor, incarnation, timer });
                return Ok(());
            }
        }
        self.run_actor(actor, |all, scene| match actor {
            Actor::Node(index) => all.nodes[index].wake(timer, scene),
            Actor::Client(index) => all.clients[index].wake(timer, scene),
            Actor::Reader(index) => all.readers[index].wake(scene),
            Actor::Listener(index) => all.listeners[index].wake(scene),
            Actor::Admin => all.admin.as_mut().expect("it has a timer").wake(scene),
            Actor::Operator => {}
        })
    }

    fn arrival(&mut self) -> Result<(), Violation> {
        if self.is_cool {
            return Ok(());
        }
        let factor = if self.now < self.burst_until { 10 } else { 1 };
        let mean = MINUTE / (self.plan.submits_per_min * factor).max(1);
        let wait = 1 + self.draws.arrivals.below(2 * mean);
        self.agenda.plan(self.now + wait, Event::Arrival);
        let index = self.draws.arrivals.below(self.clients.len() as u64) as usize;
        self.run_actor(Actor::Client(index), |all, scene| all.clients[index].submit(scene))
    }

    /// Runs one step of an actor, then makes its calls, sets its timers and checks its observations.
    fn run_actor(&mut self, actor: Actor, act: impl FnOnce(&mut Cast, &mut Scene)) -> Result<(), Violation> {
        let mut scene = Scene {
            now: self.now,
            plan: &self.plan,
            draw: &mut self.draws.actors,
            is_chaos: self.is_chaos,
            is_cool: self.is_cool,
            logged: self.logs.last_line(),
            durable: self.oracle.seq(),
            calls: Vec::new(),
            timers: Vec::new(),
            observations: Vec::new(),
            log_pages: Vec::new(),
            injected: &mut self.injected,
            marks: Vec::new(),
            hangs_up: false,
            is_deafened: false,
        };
        let World { nodes, clients, readers, listeners, admin, .. } = self;
        act(&mut Cast { nodes, clients, readers, listeners, admin: admin.as_mut() }, &mut scene);
        let Scene { calls, timers, observations, log_pages, marks, hangs_up, is_deafened, .. } = scene;
        marks.into_iter().for_each(|mark| self.mark(mark));
        let (first, incarnation) = match actor {
            Actor::Node(index) => (index * LANES, self.nodes[index].incarnation),
            Actor::Client(index) => (self.nodes.len() * LANES + index, 0),
            Actor::Reader(index) => (self.nodes.len() * LANES + self.clients.len() + index * READER_LANES, 0),
            Actor::Listener(index) => (self.channels.len() - 1 - self.listeners.len() + index, 0),
            Actor::Admin => (self.channels.len() - 1 - self.listeners.len() - ADMIN_LANES, 0),
            Actor::Operator => (self.channels.len() - 1, 0),
        };
        for (at, timer) in timers {
            self.agenda.plan(at, Event::Wake { actor, incarnation, timer });
        }
        for call in calls {
            self.call(first + call.lane, call);
        }
        for observation in &observations {
            if let (Observation::Submitted { job_id, .. }, false) = (observation, self.readers.is_empty()) {
                self.jobs_assigned += 1;
                let index = self.jobs_assigned % self.readers.len();
                self.readers[index].add_job(job_id);
            }
        }
        // A crash must not undo what was just reported: that is when a power cut is most likely to show a bug.
        let crashes = self.plan.rate(Fault::CrashInCommit) * observations.iter().map(weight).sum::<u64>();
        if self.is_chaos && crashes > 0 && self.draws.hub.below(36_000) < crashes {
            self.agenda.plan(self.now + 1, Event::PowerCut { process_id: self.process_id });
        }
        observations.into_iter().try_for_each(|observation| self.oracle.observe(self.now, observation))?;
        log_pages.iter().try_for_each(|page| self.logs.check_page(page))?;
        if is_deafened && let Some(conn) = self.channels[first].conn.and_then(|conn| self.network.get(conn)) {
            (conn.is_slow, conn.deaf_since) = (true, Some(self.now));
        }
        if hangs_up { self.hang_up(first) } else { Ok(()) }
    }

    fn count_fault(&mut self, name: &'static str) {
        *self.injected.entry(name).or_default() += 1;
    }

    fn mark(&mut self, name: &'static str) {
        *self.marks.entry(name).or_default() += 1;
    }
}

/// How likely a power cut after an observation is to show a bug: most after an end by time alone, which has no command.
fn weight(observation: &Observation) -> u64 {
    match observation {
        Observation::JobShown { row, .. } if row.status == "expired" => 1_000,
        Observation::JobShown { .. } | Observation::WaitEnded(_) => 10,
        // In the middle of an act.
        Observation::OperatorDone { done: Done::ActShown { act, .. }, .. } if act.is_running => 300,
        _ => 1,
    }
}
