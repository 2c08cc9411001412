//! World: everything that takes part in a run, and what happens when.

use super::client::Client;
use super::fault::{Fault, Injected};
use super::http::{get, take_reply};
use super::network::{Fate, Network};
use super::node::{Answer, LANES, Node, Scene, Timer};
use super::oracle::{Oracle, Told, Violation, holds};
use super::plan::Plan;
use super::process::{AuditLog, Committed, Handed, Process, TOKEN};
use super::trail::Trail;
use super::wire::WINDOW_BYTES;
use crate::agenda::{Agenda, MINUTE, Micros, SECOND};
use crate::disk::{Faults, VirtualDisk};
use crate::draw::{Draw, Stream};
use sheratan_core::ids::HubKey;
use sheratan_io::journal::{HubId, Identity, OpenError};
use sheratan_io::service::Plane;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

/// Wall time at the start: 2026-01-15.
const WALL_START_US: Micros = 1_768_500_000_000_000;

/// The mesh comes up before anything goes wrong.
const WARM_UP_US: Micros = 20 * SECOND;

/// How often the faults that come by the hour are drawn.
const FAULT_TICK_US: Micros = SECOND;

/// How often the operator looks at the metrics.
const SCRAPE_US: Micros = 15 * SECOND;

/// What the cool-down takes at most, and more for each job that is held at its start: the longest lease and backoff, and
/// then work at full speed.
const COOL_DOWN_US: Micros = 10 * MINUTE;
const COOL_DOWN_PER_JOB_US: Micros = 2 * SECOND;

/// A reader that is slow takes so much, so often.
const SLOW_BITE_BYTES: usize = 512;
const SLOW_BITE_US: Micros = 300_000;

/// How long a hub that cannot start stays down.
const START_AGAIN_US: Micros = 2 * SECOND;

/// Who takes part.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Actor {
    Node(usize),
    Client(usize),
    Operator,
}

/// A connection that an actor keeps, and the call on it.
#[derive(Debug)]
struct Channel {
    actor: Actor,
    lane: usize,
    plane: Plane,
    conn: Option<u64>,
    /// The call under way; its number tells a late timeout from its own.
    call: Option<u64>,
    inbox: Vec<u8>,
}

#[derive(Debug)]
enum Event {
    /// Bytes arrive at the hub.
    ToHub { conn: u64, bytes: Vec<u8> },
    /// The hub is told that a connection is over.
    GoneToHub { conn: u64 },
    /// Bytes arrive at an actor.
    ToActor { conn: u64, bytes: Vec<u8> },
    /// An actor is told that a connection is over.
    GoneToActor { conn: u64 },
    /// A slow reader takes its next bite.
    Bite { conn: u64 },
    /// A call has taken too long.
    Patience { channel: usize, call: u64 },
    /// The loop's next round.
    Round { life: u64 },
    /// The disk is done with a batch, or has failed.
    Commit { life: u64 },
    /// The background looks for something to do.
    Background { life: u64 },
    /// The hub is started.
    Start,
    /// An actor wakes up.
    Wake { actor: Actor, incarnation: u64, timer: Timer },
    /// A node is started.
    StartNode(usize),
    /// A job is submitted.
    Arrival,
    /// Faults are drawn.
    FaultTick,
    /// The operator looks.
    Scrape,
    /// The chaos begins.
    Chaos,
    /// The chaos ends.
    Cool,
    /// An orderly stop is over.
    Stopped { life: u64 },
}

/// What a run was, in numbers.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Tally {
    /// Events.
    pub events: u64,
    /// Requests.
    pub requests: u64,
    /// Virtual time.
    pub virtual_us: Micros,
    /// Starts of the hub.
    pub lives: u64,
    /// Records in the journal.
    pub records: u64,
    /// Jobs that clients were told of.
    pub acknowledged: u64,
    /// Jobs that ended.
    pub ended: u64,
    /// Lines of the audit log.
    pub audit_lines: u64,
    /// Faults that came.
    pub injected: Injected,
    /// What was seen.
    pub marks: BTreeMap<&'static str, u64>,
}

/// A run.
#[derive(Debug)]
pub struct World {
    plan: Plan,
    now: Micros,
    agenda: Agenda<Event>,
    network: Network,
    disk: VirtualDisk,
    process: Option<Process>,
    /// What the last process had handed to the journal when it died: all that may be there without having been told.
    handed: Handed,
    life: u64,
    identity: Identity,
    /// How far wall time is off.
    wall_off: i64,
    channels: Vec<Channel>,
    nodes: Vec<Node>,
    clients: Vec<Client>,
    /// Actors are cut off from the hub, or the hub from them, until then.
    cut_to_hub: BTreeMap<usize, Micros>,
    cut_from_hub: BTreeMap<usize, Micros>,
    burst_until: Micros,
    slow_until: Micros,
    full_until: Micros,
    /// The loop stands still until then.
    stalled_until: Micros,
    /// Bits that flipped at rest and were not found yet.
    flips: u64,
    is_chaos: bool,
    is_cool: bool,
    cool_until: Micros,
    draws: Draws,
    calls: u64,
    oracle: Oracle,
    audit: AuditLog,
    trail: Trail,
    injected: Injected,
    marks: BTreeMap<&'static str, u64>,
}

/// Chance, by what it is for: less of one fault leaves the others as they were.
#[derive(Debug)]
struct Draws {
    actors: Draw,
    arrivals: Draw,
    faults: Draw,
    hub: Draw,
}

impl World {
    /// The beginning of a run.
    pub fn new(plan: Plan) -> Self {
        let seed = plan.seed;
        let mut key = *b"sheratan-sim-key";
        key[..8].copy_from_slice(&seed.to_le_bytes());
        let identity = Identity { hub_id: HubId(key), key: HubKey::new(key) };
        let mut actors = Draw::new(seed, Stream::Actors);
        let nodes: Vec<_> = (0..plan.nodes).map(|no| Node::new(&plan, no, &mut actors)).collect();
        let clients: Vec<_> = (0..plan.clients).map(Client::new).collect();
        let mut channels = Vec::new();
        let channel = |actor, lane, plane| Channel { actor, lane, plane, conn: None, call: None, inbox: Vec::new() };
        for index in 0..nodes.len() {
            for lane in 0..LANES {
                let plane = if lane == 0 { Plane::Control } else { Plane::Data };
                channels.push(channel(Actor::Node(index), lane, plane));
            }
        }
        channels.extend((0..clients.len()).map(|index| channel(Actor::Client(index), 0, Plane::Data)));
        channels.push(channel(Actor::Operator, 0, Plane::Data));
        let mut agenda = Agenda::default();
        agenda.plan(0, Event::Start);
        for index in 0..nodes.len() {
            agenda.plan(actors.below(5 * SECOND), Event::StartNode(index));
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
            life: 0,
            identity,
            wall_off: 0,
            channels,
            nodes,
            clients,
            cut_to_hub: BTreeMap::new(),
            cut_from_hub: BTreeMap::new(),
            burst_until: 0,
            slow_until: 0,
            full_until: 0,
            stalled_until: 0,
            flips: 0,
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
            oracle: Oracle::new(identity.key),
            audit: AuditLog::default(),
            trail: Trail::default(),
            injected: Injected::new(),
            marks: BTreeMap::new(),
            plan,
        }
    }

    /// The next event happens. False when the run is over.
    pub fn step(&mut self) -> Result<bool, Violation> {
        let Some((at, event)) = self.agenda.next(Micros::MAX) else { return Ok(false) };
        self.now = at.max(self.now);
        let what = self.happen(event)?;
        let (name, which) = what;
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

    /// How late it is.
    pub fn now(&self) -> Micros {
        self.now
    }

    /// What happened.
    pub fn trail(&self) -> &Trail {
        &self.trail
    }

    /// The run in numbers.
    pub fn tally(&self) -> Tally {
        let (acknowledged, ended) = self.oracle.counts();
        let mut injected = self.injected.clone();
        for (name, count) in self.network.injected().iter().chain(&self.disk.tally()) {
            *injected.entry(name).or_default() += count;
        }
        let mut marks = self.marks.clone();
        marks.extend(self.oracle.sightings().iter());
        Tally {
            events: self.trail.count(),
            requests: self.calls,
            virtual_us: self.now,
            lives: self.life,
            records: self.oracle.seq(),
            acknowledged,
            ended,
            audit_lines: self.audit.lines(),
            injected,
            marks,
        }
    }

    /// The state that is durable, as a digest.
    pub fn digest(&self) -> [u8; 32] {
        self.oracle.shadow().digest()
    }

    fn happen(&mut self, event: Event) -> Result<(&'static str, [u64; 2]), Violation> {
        Ok(match event {
            Event::ToHub { conn, bytes } => {
                let len = bytes.len() as u64;
                self.trail.bytes(&bytes);
                self.arrive(conn, &bytes);
                ("bytes reach the hub: connection, count", [conn, len])
            }
            Event::GoneToHub { conn } => {
                if let Some(conn) = self.network.close(conn)
                    && let Some(id) = conn.hub
                    && let Some(process) = &mut self.process
                {
                    process.touch(id, true, |wire| wire.reset());
                    self.round_soon();
                }
                ("a connection is gone for the hub", [conn, 0])
            }
            Event::ToActor { conn, bytes } => {
                let len = bytes.len() as u64;
                self.trail.bytes(&bytes);
                self.receive(conn, &bytes)?;
                ("bytes reach an actor: connection, count", [conn, len])
            }
            Event::GoneToActor { conn } => {
                if let Some(index) = self.channels.iter().position(|channel| channel.conn == Some(conn)) {
                    self.lose(index)?;
                }
                ("a connection is gone for its actor", [conn, 0])
            }
            Event::Bite { conn } => {
                self.bite(conn)?;
                ("a slow reader reads", [conn, 0])
            }
            Event::Patience { channel, call } => {
                if self.channels[channel].call == Some(call) {
                    self.mark("call timed out");
                    if let Some(conn) = self.channels[channel].conn {
                        self.agenda.plan(self.now + 1, Event::GoneToHub { conn });
                    }
                    self.lose(channel)?;
                }
                ("a call's time is over", [channel as u64, call])
            }
            Event::Round { life } => {
                // An earlier round may have taken this one's place.
                if self.process.as_ref().is_some_and(|process| process.round_at <= self.now) {
                    self.round(life)?;
                }
                ("round", [life, 0])
            }
            Event::Commit { life } => {
                self.commit(life)?;
                ("commit", [life, self.oracle.seq()])
            }
            Event::Background { life } => {
                self.background(life)?;
                ("background", [life, 0])
            }
            Event::Start => {
                self.start()?;
                ("start", [self.life, u64::from(self.process.is_some())])
            }
            Event::Wake { actor, incarnation, timer } => {
                self.wake(actor, incarnation, timer)?;
                ("an actor wakes", [self.calls, incarnation])
            }
            Event::StartNode(index) => {
                if !self.nodes[index].is_up() {
                    self.play(Actor::Node(index), |nodes, _, scene| nodes[index].start(scene))?;
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
                if self.channels[channel].call.is_none() {
                    self.call(channel, get("/api/metrics", TOKEN), 5 * SECOND);
                }
                if !self.is_cool {
                    self.agenda.plan(self.now + SCRAPE_US, Event::Scrape);
                }
                ("a scrape", [0, 0])
            }
            Event::Chaos => {
                self.is_chaos = true;
                self.network.is_chaos = true;
                let [write_error, sync_error] =
                    [Fault::WriteError, Fault::SyncError].map(|fault| self.plan.rate(fault));
                // Out of a thousand operations, which are far fewer than messages.
                self.disk.set_faults(Faults { write_permille: write_error / 10, sync_permille: sync_error / 10 });
                self.agenda.plan(self.now + FAULT_TICK_US, Event::FaultTick);
                ("the chaos begins", [0, 0])
            }
            Event::Cool => {
                self.cool();
                ("the chaos ends", [0, 0])
            }
            Event::Stopped { life } => {
                if life == self.life && self.process.is_some() {
                    self.stop()?;
                }
                ("the hub has stopped", [life, 0])
            }
        })
    }

    // --- the hub

    fn wall(&self) -> Micros {
        (WALL_START_US + self.now).saturating_add_signed(self.wall_off)
    }

    fn start(&mut self) -> Result<(), Violation> {
        if self.process.is_some() {
            return Ok(());
        }
        if self.is_chaos && self.draws.hub.below(3_600) < self.plan.rate(Fault::CrashInCommit) * 4 {
            self.crash_later("crash_in_recovery");
        }
        let clocks = (self.now, self.wall());
        let started = Process::start(&self.plan, &self.disk, self.identity, clocks, &self.handed, &mut self.oracle)?;
        if self.disk.is_dead() {
            drop(started);
            self.mark("hub died in recovery");
            self.power_off();
            return Ok(());
        }
        match started {
            Ok((process, report)) => {
                self.life += 1;
                for notice in &report.notices {
                    self.mark(match notice {
                        sheratan_io::journal::Notice::Torn(_) => "recovered: torn tail cut",
                        sheratan_io::journal::Notice::SnapshotBad { .. } => "recovered: bad snapshot set aside",
                        sheratan_io::journal::Notice::JournalBehind { .. } => "recovered: journal behind snapshot",
                        sheratan_io::journal::Notice::Diverged { .. } => "recovered: diverged",
                    });
                }
                if report.snapshot_seq.is_some() {
                    self.mark("recovered from a snapshot");
                }
                self.process = Some(process);
                self.handed.clear();
                self.agenda.plan(self.now + SECOND, Event::Background { life: self.life });
                self.round_soon();
            }
            Err(error) => {
                // Damage must be refused; everything else passes.
                let is_refused = matches!(error, OpenError::BadRecord(_));
                holds(!is_refused || self.flips > 0, "an undamaged journal opens", || error.to_string())?;
                if is_refused {
                    self.mark("damage refused at the start");
                    self.disk.unflip();
                    self.flips = 0;
                } else {
                    self.mark("start failed for now");
                }
                self.disk.kill();
                self.agenda.plan(self.now + START_AGAIN_US, Event::Start);
            }
        }
        Ok(())
    }

    /// The process is gone, and its connections with it.
    fn die(&mut self, down_us: Micros) {
        // Who dies before it was ready had handed over nothing.
        if let Some(process) = self.process.take() {
            self.handed = process.into_handed();
        }
        for (id, conn) in self.network.close_all() {
            self.channels[conn.channel].inbox.clear();
            if self.channels[conn.channel].conn == Some(id) {
                self.agenda.plan(self.now + 1_000, Event::GoneToActor { conn: id });
            }
        }
        self.agenda.plan(self.now + down_us, Event::Start);
    }

    fn kill(&mut self) {
        self.disk.kill();
        let down = 10_000 + self.draws.hub.below(3 * SECOND);
        self.die(down);
    }

    fn power_off(&mut self) {
        self.disk.crash(&mut self.draws.hub);
        if self.is_chaos && self.draws.hub.below(3_600) < self.plan.rate(Fault::BitFlip) * 20 {
            self.flip();
        }
        let down = 10_000 + self.draws.hub.below(5 * SECOND);
        self.die(down);
    }

    fn flip(&mut self) {
        // One at a time: the journal's checksums promise to find one.
        if self.flips == 0 && self.disk.flip_bit(&mut self.draws.hub).is_some() {
            self.flips = 1;
            self.inject(Fault::BitFlip.name());
        }
    }

    /// The hub dies at one of the disk's next operations.
    fn crash_later(&mut self, what: &'static str) {
        let at = self.disk.ops() + 1 + self.draws.hub.below(40);
        self.disk.crash_at(at);
        self.inject(what);
    }

    /// An orderly end.
    fn stop(&mut self) -> Result<(), Violation> {
        if let Some(process) = &mut self.process {
            process.flush();
        }
        self.run_dry()?;
        if self.process.is_some() {
            self.kill();
        }
        Ok(())
    }

    /// Rounds and commits at once, until all that was done is durable or the disk does not take it.
    fn run_dry(&mut self) -> Result<(), Violation> {
        for _ in 0..8 {
            let life = self.life;
            self.round(life)?;
            self.commit(life)?;
            if self.process.as_ref().is_none_or(Process::is_durable) {
                return Ok(());
            }
        }
        Ok(())
    }

    fn round_soon(&mut self) {
        let at = (self.now + 20).max(self.stalled_until);
        self.round_at(at);
    }

    fn round_at(&mut self, at: Micros) {
        let Some(process) = &mut self.process else { return };
        if at < process.round_at {
            process.round_at = at;
            self.agenda.plan(at, Event::Round { life: self.life });
        }
    }

    fn round(&mut self, life: u64) -> Result<(), Violation> {
        if life != self.life {
            return Ok(());
        }
        let clocks = (self.now, self.wall());
        let Some(process) = &mut self.process else { return Ok(()) };
        process.round_at = Micros::MAX;
        if self.now < self.stalled_until {
            self.round_at(self.stalled_until);
            return Ok(());
        }
        let mut out: Vec<(u64, u64, Vec<u8>, bool)> = Vec::new();
        let mut slow = Vec::new();
        let network = &mut self.network;
        let mut wrote = |id: u64, wire: &mut super::wire::VirtualWire| {
            if !wire.has_output() && !wire.is_shut_down {
                return;
            }
            if network.get(wire.conn).is_some_and(|conn| conn.is_slow) && wire.has_output() {
                slow.push(wire.conn);
            } else {
                out.push((id, wire.conn, wire.take_out(usize::MAX), wire.is_shut_down));
            }
        };
        let mut over = Vec::new();
        let closed = |wire: &mut super::wire::VirtualWire| over.push((wire.conn, wire.take_out(usize::MAX)));
        let has_handover = process.round(clocks, &mut self.audit, &mut wrote, closed)?;
        let wakes_at = process.wakes_at(self.now);
        if has_handover {
            let slow = if self.now < self.slow_until { 200 * self.draws.hub.between(1, 10) } else { 1 };
            let takes = 1 + self.plan.commit_us * slow;
            self.agenda.plan(self.now + takes, Event::Commit { life });
        }
        for (_, conn, bytes, is_shut_down) in out {
            self.send_to_actor(conn, bytes, is_shut_down)?;
        }
        for conn in slow {
            if let Some(entry) = self.network.get(conn)
                && !std::mem::replace(&mut entry.is_draining, true)
            {
                self.agenda.plan(self.now + SLOW_BITE_US, Event::Bite { conn });
            }
        }
        for (conn, bytes) in over {
            self.send_to_actor(conn, bytes, true)?;
        }
        self.round_at(wakes_at);
        let Some(process) = &self.process else { return Ok(()) };
        let sockets_max = self.channels.len() * 40;
        holds(process.connections() <= sockets_max, "connections are let go", || {
            format!("the hub holds {} connections of {} channels", process.connections(), self.channels.len())
        })
    }

    fn commit(&mut self, life: u64) -> Result<(), Violation> {
        if life != self.life {
            return Ok(());
        }
        let Some(process) = &mut self.process else { return Ok(()) };
        match process.commit(&self.disk, &mut self.oracle)? {
            Committed::Done => {
                // Between the disk's answer and the replies.
                if self.is_chaos && self.draws.hub.below(36_000) < self.plan.rate(Fault::CrashInCommit) {
                    self.inject("crash_after_sync");
                    self.power_off();
                } else {
                    self.round_soon();
                }
            }
            Committed::Again(pause) => {
                self.mark("journal down");
                self.agenda.plan(self.now + pause, Event::Commit { life });
                self.round_soon();
            }
            Committed::Dead => {
                self.mark("hub died in a commit");
                self.power_off();
            }
        }
        Ok(())
    }

    fn background(&mut self, life: u64) -> Result<(), Violation> {
        if life != self.life {
            return Ok(());
        }
        let Some(process) = &mut self.process else { return Ok(()) };
        let is_made = process.snapshot();
        if self.disk.is_dead() {
            self.mark("hub died in a snapshot");
            self.power_off();
            return Ok(());
        }
        if is_made? {
            self.mark("snapshot made");
        }
        self.agenda.plan(self.now + SECOND, Event::Background { life });
        Ok(())
    }

    // --- the network

    fn arrive(&mut self, id: u64, bytes: &[u8]) {
        let Some(process) = &mut self.process else { return };
        let Some(conn) = self.network.get(id) else { return };
        if conn.life != self.life {
            return;
        }
        let hub = match conn.hub {
            Some(hub) => hub,
            None => {
                let is_slow = conn.is_slow;
                let window = if is_slow { 2 * SLOW_BITE_BYTES } else { WINDOW_BYTES };
                let hub = process.accept(id, conn.plane, address(conn.channel), window);
                conn.hub = Some(hub);
                hub
            }
        };
        process.touch(hub, false, |wire| wire.arrive(bytes));
        self.round_soon();
    }

    fn send_to_actor(&mut self, id: u64, bytes: Vec<u8>, is_end: bool) -> Result<(), Violation> {
        self.oracle.left(&bytes)?;
        let Some(conn) = self.network.get(id) else { return Ok(()) };
        let channel = conn.channel;
        let is_cut_off = self.cut_from_hub.get(&owner(&self.channels[channel])).is_some_and(|until| self.now < *until);
        if !bytes.is_empty() {
            let fate = self.network.to_actor(&self.plan, self.now, id, bytes, is_cut_off);
            self.follow(id, fate, false);
        }
        if is_end {
            let at = self.now + self.network.latency() + 20 * SECOND * u64::from(is_cut_off);
            // After the last bytes.
            self.agenda.plan(at + 21 * SECOND * u64::from(self.is_chaos), Event::GoneToActor { conn: id });
        }
        Ok(())
    }

    fn follow(&mut self, conn: u64, fate: Fate, is_to_hub: bool) {
        for (at, bytes) in fate.arrivals {
            let event = if is_to_hub { Event::ToHub { conn, bytes } } else { Event::ToActor { conn, bytes } };
            self.agenda.plan(at, event);
        }
        if let Some(at) = fate.reset_at {
            self.agenda.plan(at, Event::GoneToHub { conn });
            self.agenda.plan(at, Event::GoneToActor { conn });
        }
    }

    fn bite(&mut self, id: u64) -> Result<(), Violation> {
        let Some(conn) = self.network.get(id) else { return Ok(()) };
        conn.is_draining = false;
        let (Some(hub), Some(process)) = (conn.hub, &mut self.process) else { return Ok(()) };
        let Some((bytes, has_more)) = process.take_out(hub, SLOW_BITE_BYTES) else { return Ok(()) };
        if has_more {
            self.network.get(id).expect("it is there").is_draining = true;
            self.agenda.plan(self.now + SLOW_BITE_US, Event::Bite { conn: id });
        }
        self.round_soon();
        self.send_to_actor(id, bytes, false)
    }

    /// An actor's call: on its connection, or on a new one.
    fn call(&mut self, channel: usize, bytes: Vec<u8>, patience: Micros) {
        self.calls += 1;
        let call = self.calls;
        let entry = &mut self.channels[channel];
        entry.call = Some(call);
        entry.inbox.clear();
        self.agenda.plan(self.now + patience, Event::Patience { channel, call });
        if self.process.is_none() {
            // Nobody listens: the call is refused at once.
            self.agenda.plan(self.now + 1_000, Event::Patience { channel, call });
            return;
        }
        let conn = match entry.conn {
            Some(conn) => conn,
            None => {
                let conn = self.network.open(&self.plan, channel, entry.plane, self.life);
                self.channels[channel].conn = Some(conn);
                conn
            }
        };
        let is_cut_off = self.cut_to_hub.get(&owner(&self.channels[channel])).is_some_and(|until| self.now < *until);
        let repeat = bytes.clone();
        let fate = self.network.to_hub(&self.plan, self.now, conn, bytes, is_cut_off);
        if fate.is_repeated {
            // Somebody on the way sends it again; whoever that is reads no reply.
            let plane = self.channels[channel].plane;
            let other = self.network.open(&self.plan, channel, plane, self.life);
            let at = self.now + self.network.latency() + self.draws.faults.below(3 * SECOND);
            self.agenda.plan(at, Event::ToHub { conn: other, bytes: repeat });
            self.agenda.plan(at + 30 * SECOND, Event::GoneToHub { conn: other });
        }
        self.follow(conn, fate, true);
    }

    fn receive(&mut self, conn: u64, bytes: &[u8]) -> Result<(), Violation> {
        let Some(entry) = self.network.get(conn) else { return Ok(()) };
        let index = entry.channel;
        let channel = &mut self.channels[index];
        if channel.conn != Some(conn) {
            return Ok(());
        }
        if let Actor::Node(node) = channel.actor
            && (self.now < self.nodes[node].hung_until)
        {
            let at = self.nodes[node].hung_until;
            self.agenda.plan(at, Event::ToActor { conn, bytes: bytes.to_vec() });
            return Ok(());
        }
        channel.inbox.extend_from_slice(bytes);
        let Some(reply) = take_reply(&mut channel.inbox) else { return Ok(()) };
        if channel.call.take().is_none() {
            return Ok(());
        }
        self.trail.bytes(&reply.status.to_le_bytes());
        self.mark(status_mark(reply.status));
        if reply.is_last {
            self.channels[index].conn = None;
            self.agenda.plan(self.now + 1, Event::GoneToHub { conn });
        }
        self.answered(index, Answer::Reply(reply))
    }

    /// A channel's connection is over, and with it the call.
    fn lose(&mut self, index: usize) -> Result<(), Violation> {
        let channel = &mut self.channels[index];
        if let Some(conn) = channel.conn.take() {
            self.agenda.plan(self.now + 1, Event::GoneToHub { conn });
        }
        channel.inbox.clear();
        if channel.call.take().is_some() {
            self.mark("reply lost");
            self.answered(index, Answer::Lost)?;
        }
        Ok(())
    }

    // --- actors

    fn answered(&mut self, index: usize, answer: Answer) -> Result<(), Violation> {
        let (actor, lane) = (self.channels[index].actor, self.channels[index].lane);
        match actor {
            Actor::Node(index) => self.play(actor, |nodes, _, scene| nodes[index].answered(lane, answer, scene)),
            Actor::Client(index) => self.play(actor, |_, clients, scene| clients[index].answered(answer, scene)),
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
        self.play(actor, |nodes, clients, scene| match actor {
            Actor::Node(index) => nodes[index].wake(timer, scene),
            Actor::Client(index) => clients[index].wake(timer, scene),
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
        self.play(Actor::Client(index), |_, clients, scene| clients[index].submit(scene))
    }

    /// An actor acts; what it wants of the world is done.
    fn play(
        &mut self,
        actor: Actor,
        act: impl FnOnce(&mut [Node], &mut [Client], &mut Scene),
    ) -> Result<(), Violation> {
        let mut scene = Scene {
            now: self.now,
            plan: &self.plan,
            draw: &mut self.draws.actors,
            is_chaos: self.is_chaos,
            is_cool: self.is_cool,
            calls: Vec::new(),
            timers: Vec::new(),
            told: Vec::new(),
            injected: &mut self.injected,
        };
        act(&mut self.nodes, &mut self.clients, &mut scene);
        let Scene { calls, timers, told, .. } = scene;
        let (first, incarnation) = match actor {
            Actor::Node(index) => (index * LANES, self.nodes[index].incarnation),
            Actor::Client(index) => (self.nodes.len() * LANES + index, 0),
            Actor::Operator => (self.channels.len() - 1, 0),
        };
        for (at, timer) in timers {
            self.agenda.plan(at, Event::Wake { actor, incarnation, timer });
        }
        for (lane, bytes, patience) in calls {
            self.call(first + lane, bytes, patience);
        }
        told.into_iter().try_for_each(|told: Told| self.oracle.told(told))
    }

    // --- faults

    fn fault_tick(&mut self) -> Result<(), Violation> {
        if !self.is_chaos {
            return Ok(());
        }
        self.agenda.plan(self.now + FAULT_TICK_US, Event::FaultTick);
        for fault in Fault::ALL {
            if fault.per() == super::fault::Per::Hour && self.draws.faults.below(3_600) < self.plan.rate(*fault) {
                self.strike(*fault)?;
            }
        }
        if self.full_until > 0 && self.now >= self.full_until {
            self.full_until = 0;
            self.disk.set_full(false);
        }
        Ok(())
    }

    fn strike(&mut self, fault: Fault) -> Result<(), Violation> {
        let node = self.draws.faults.below(self.nodes.len() as u64) as usize;
        let lasts = self.draws.faults.between(SECOND, 60 * SECOND);
        // A bit flips only where there is a file at rest.
        if fault != Fault::BitFlip {
            self.inject(fault.name());
        }
        match fault {
            Fault::PartitionToHub => _ = self.cut_to_hub.insert(node, self.now + lasts),
            Fault::PartitionFromHub => _ = self.cut_from_hub.insert(node, self.now + lasts),
            Fault::NodeCrash => {
                self.nodes[node].crash();
                for lane in 0..LANES {
                    let channel = &mut self.channels[node * LANES + lane];
                    channel.call = None;
                    channel.inbox.clear();
                    if let Some(conn) = channel.conn.take() {
                        self.agenda.plan(self.now + 1, Event::GoneToHub { conn });
                    }
                }
                self.agenda.plan(self.now + lasts / 2, Event::StartNode(node));
            }
            Fault::NodeHang => self.nodes[node].hung_until = self.now + lasts,
            Fault::HubKill if self.process.is_some() => self.kill(),
            Fault::PowerCut if self.process.is_some() => self.power_off(),
            Fault::CrashInCommit => self.crash_later("crash_in_disk_operation"),
            Fault::HubRestart => {
                if let Some(process) = &mut self.process {
                    process.begin_drain();
                    self.agenda.plan(self.now + SECOND, Event::Stopped { life: self.life });
                    self.round_soon();
                }
            }
            Fault::DiskFull => {
                self.disk.set_full(true);
                self.full_until = self.now + lasts / 2;
            }
            Fault::SlowDisk => self.slow_until = self.now + lasts / 2,
            // At rest: nobody has the file's bytes in hand.
            Fault::BitFlip if self.process.is_none() => self.flip(),
            Fault::ClockJump => {
                let by = self.draws.faults.magnitude(2 * 3_600 * SECOND) as i64;
                self.wall_off += if self.draws.faults.chance(500) { by } else { -by };
            }
            Fault::Stall => {
                self.stalled_until = self.now + lasts;
                self.round_at(self.stalled_until);
            }
            Fault::Burst => self.burst_until = self.now + lasts / 2,
            _ => {}
        }
        Ok(())
    }

    /// No more faults; everybody works as well as they can.
    fn cool(&mut self) {
        (self.is_chaos, self.is_cool) = (false, true);
        self.network.is_chaos = false;
        self.disk.set_faults(Faults::default());
        self.disk.set_full(false);
        (self.slow_until, self.burst_until, self.stalled_until) = (0, 0, self.now);
        self.cut_to_hub.clear();
        self.cut_from_hub.clear();
        for index in 0..self.nodes.len() {
            self.nodes[index].hung_until = self.now;
            if !self.nodes[index].is_up() {
                self.agenda.plan(self.now, Event::StartNode(index));
            }
        }
        let held = self.oracle.shadow().counts().waiting() + self.oracle.shadow().counts().leased;
        let submits: u64 = 200 * self.clients.len() as u64;
        self.cool_until = self.now + COOL_DOWN_US + (held + submits) * COOL_DOWN_PER_JOB_US;
        self.round_soon();
    }

    /// Whether all work has ended.
    fn is_quiet(&self) -> bool {
        let counts = self.oracle.shadow().counts();
        let live = self.process.as_ref().map(|process| process.hub().counts());
        self.clients.iter().all(Client::is_idle)
            && counts.waiting() + counts.leased == 0
            && live.is_some_and(|live| live.waiting() + live.leased == 0)
    }

    /// The last looks: the live hub against the journal, and one more start. False if the hub died before: a crash that was
    /// planned in the chaos may come now.
    fn finish(&mut self) -> Result<bool, Violation> {
        self.run_dry()?;
        let Some(process) = &mut self.process else { return Ok(false) };
        holds(process.is_durable(), "the journal recovers", || "all faults are over and it takes nothing".to_owned())?;
        let digest = self.oracle.shadow().digest();
        self.oracle.compare(process.hub())?;
        self.process = None;
        self.disk.crash(&mut self.draws.hub);
        let from_start = sheratan_io::journal::recover(
            std::path::Path::new(super::process::DATA),
            super::process::options(&self.plan, &self.disk, self.identity),
            &mut |_| {},
        );
        let recovery = from_start
            .map_err(|error| Violation { invariant: "an undamaged journal opens", detail: error.to_string() })?;
        let mut hub = recovery.hub;
        holds(hub.digest() == digest, "replay gives the same state", || "after the last start".to_owned())?;
        let at = hub.now();
        // What happened since the last record is in no record: the same time passes for both.
        hub.advance(self.oracle.shadow().now());
        hub.effects().clear();
        holds(hub.digest() == self.oracle.shadow().digest(), "replay gives the same state", || {
            format!("at the last instant, {} ms after the last record", hub.now().since(at).get())
        })?;
        Ok(true)
    }

    fn inject(&mut self, name: &'static str) {
        *self.injected.entry(name).or_default() += 1;
    }

    fn mark(&mut self, name: &'static str) {
        *self.marks.entry(name).or_default() += 1;
    }
}

/// The actor that a channel belongs to, for cuts: nodes by their number, the others beyond.
fn owner(channel: &Channel) -> usize {
    match channel.actor {
        Actor::Node(index) => index,
        Actor::Client(_) | Actor::Operator => usize::MAX,
    }
}

/// A channel's address.
fn address(channel: usize) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(10, 0, (channel / 250) as u8, (channel % 250) as u8 + 1))
}

fn status_mark(status: u16) -> &'static str {
    match status {
        200 => "status 200",
        400 => "status 400",
        403 => "status 403",
        404 => "status 404",
        408 => "status 408",
        409 => "status 409",
        410 => "status 410",
        429 => "status 429",
        503 => "status 503",
        _ => "another status",
    }
}
