//! Process: one process of the hub, from its start on a data folder to its stop, kill or power cut.
//!
//! The threads of production are steps here: the loop's [`Process::round`], [`Process::commit`] in the loop's thread or
//! in the other one, the background's [`Process::snapshot`]. Between any two of them, and within the disk's work of each, the process may
//! die.

use super::logs::Logs;
use super::oracle::{Oracle, Violation, holds};
use super::plan::Plan;
use super::wire::VirtualWire;
use crate::agenda::{Alarm, Micros, SECOND};
use crate::disk::VirtualDisk;
use sheratan_core::{Command, Hub, Millis, Name, Salt, Timestamp};
use sheratan_io::http;
use sheratan_io::journal::{self, Appender, Identity, OpenError, Options, RecoveryReport, Store};
use sheratan_io::redact::Redactor;
use sheratan_io::secret::Secret;
use sheratan_io::service::{Handover, Plane, Service, Settings};
use sheratan_io::shared_token::SharedToken;
use sheratan_io::shell::committer::{Attempt, Commit, Report};
use sheratan_io::shell::engine::Engine;
use sheratan_io::shell::held::Patience;
use sheratan_io::shell::reader::PageRequest;
use sheratan_io::shell::snapshots;
use sheratan_io::shell::sockets::Socket;
use sheratan_io::shell::timekeeper::{Changes, Reading, Start, Timekeeper};
use sheratan_io::token::Token;
use std::collections::BTreeMap;
use std::mem;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// The mesh's token.
pub const TOKEN: &str = "a-token-of-the-simulated-mesh";

/// Where the data folder is on the virtual disk.
pub const DATA: &str = "/data";

/// Shorter than in production, so that clients still wait for their answers when it ends.
const PATIENCE: Patience = Patience { commit_ms_max: Millis::from_secs(1), held_ms_max: Millis::from_secs(4) };

/// One process of the hub.
pub struct Process {
    engine: Engine<VirtualWire>,
    appender: Appender,
    store: Store,
    timekeeper: Timekeeper,
    /// What the machine's clocks showed at the start.
    started: Clocks,
    http_limits: http::Limits,
    /// The batch that is being written to disk.
    in_flight: Option<Commit>,
    /// When it was handed to the journal.
    handed_at: Micros,
    /// The loop's thread writes it, and no other has taken the loop.
    is_committing_here: bool,
    /// The loop's thread has written it, in the middle of a round.
    is_round_open: bool,
    /// Requests for pages of the logs.
    pages: Vec<PageRequest>,
    segment_bytes: u64,
    /// The last record of the sealed segments, up to which a snapshot may be made.
    sealed: Option<u64>,
    /// When it was looked at last whether the data folder is still this hub's, and whether it was not.
    looked_at: Micros,
    is_not_ours: bool,
    /// When the calendar was changed last.
    stepped_at: Micros,
    /// Whether the machine's clock was far behind the journal at the start.
    pub is_far_behind: bool,
    /// The next round.
    pub round: Alarm,
}

/// The clocks of the hub's machine.
#[derive(Clone, Copy, Debug)]
pub struct Clocks {
    /// Virtual time: the machine is awake in it.
    pub awake: Micros,
    /// How long the machine slept, besides.
    pub asleep: Micros,
    /// Its wall time.
    pub wall: i64,
}

/// Records that were handed to the journal, by their numbers.
pub type Handed = BTreeMap<u64, Vec<u8>>;

/// Where a batch that was handed over in a round is committed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Committer {
    /// In the loop's thread: the loop stands still meanwhile.
    Here,
    /// In the other thread.
    Other,
}

/// The result of a commit.
#[derive(Debug)]
pub enum Committed {
    /// The batch is durable.
    Done,
    /// The batch has to be tried again after a pause.
    Again(Micros),
    /// The process died in the step.
    Dead,
}

/// The journal's options in a run.
pub fn options(plan: &Plan, disk: &VirtualDisk, identity: Identity) -> Options {
    Options {
        segment_bytes: plan.segment_bytes,
        disk: Arc::new(disk.clone()),
        new_identity: Some(identity),
        ..Options::default()
    }
}

impl Clocks {
    /// What a process that started at `start` reads.
    fn since(self, start: Clocks) -> Reading {
        Reading { awake: self.awake - start.awake, asleep: self.asleep - start.asleep, wall: Some(self.wall) }
    }
}

impl Process {
    /// Starts on the data folder, for the `start_number`th time. The oracle is given the records that it does not have yet, and compares the state.
    pub fn start(
        plan: &Plan,
        disk: &VirtualDisk,
        identity: Identity,
        (clocks, start_number): (Clocks, u64),
        handed: &Handed,
        oracle: &mut Oracle,
    ) -> Result<Result<(Process, RecoveryReport), OpenError>, Violation> {
        let recovery = match journal::recover(Path::new(DATA), options(plan, disk, identity), &mut |_| {}) {
            Ok(recovery) => recovery,
            Err(OpenError::Diverged(divergence)) => {
                return Err(Violation { invariant: "replay agrees", detail: divergence.to_string() });
            }
            Err(error) => return Ok(Err(error)),
        };
        let journal::Recovery { hub, appender, store, report } = recovery;
        oracle.unfollow_log();
        // A batch that was in flight when the hub died may be there, in part or whole, without an acknowledgement.
        if report.next_seq > oracle.seq() + 1 {
            disk.observe(|| note_unreported(&store, report.next_seq, handed, oracle))?;
        }
        oracle.recovered(&hub, report.next_seq, "the recovered hub")?;
        oracle.begin_recount();
        let reading = clocks.since(clocks);
        let start = |is_accepted| Timekeeper::start(&reading, hub.now(), hub.calendar(), is_accepted);
        // The operator of a hub that does not start, since its machine's clock is far behind the journal, accepts that.
        let is_far_behind = start(false).is_err();
        let Start { timekeeper, calendar, .. } = start(true).expect("any clock is accepted");
        let at = timekeeper.now(&reading);
        let mut service = Service::new(hub, report.next_seq, settings(plan, at));
        service.begin_trace();
        if service.hub().calendar() != calendar {
            service.set_calendar(at, calendar).expect("the journal has not failed yet");
        }
        // No two starts are at the same instant.
        service.begin_ids(at, Salt::new(clocks.awake.to_le_bytes()));
        let settings = plan.limits.to_core().differences(service.hub().limits());
        if !settings.is_empty() {
            let done = service.command(at, Command::Set(settings));
            done.expect("the journal has not failed yet");
        }
        service.adopt_rules(at);
        service.begin_tokens(at);
        if !plan.kinds.is_empty() || !plan.kinds_later.is_empty() {
            let kinds = plan.kinds_of(start_number).iter();
            let kinds = kinds.map(|(kind, rules)| (Name::new(kind).expect("it is a name"), rules.to_core())).collect();
            service.configure_kinds(at, &kinds);
            oracle.check_configured(&kinds, service.hub())?;
        }
        let process = Process {
            engine: Engine::new((at, reading.awake_at()), service, PATIENCE, || 0),
            appender,
            store,
            timekeeper,
            started: clocks,
            http_limits: http_limits(plan),
            in_flight: None,
            handed_at: 0,
            is_committing_here: false,
            is_round_open: false,
            pages: Vec::new(),
            segment_bytes: plan.segment_bytes,
            sealed: None,
            looked_at: clocks.awake,
            is_not_ours: false,
            stepped_at: 0,
            is_far_behind,
            round: Alarm::default(),
        };
        Ok(Ok((process, report)))
    }

    /// Accepts a connection, and returns the hub's id for it.
    pub fn accept(&mut self, conn: u64, plane: Plane, ip: IpAddr, window_bytes: usize) -> u64 {
        let http = http::Connection::new(self.engine.awake(), &self.http_limits);
        self.engine.accept(Socket::new(VirtualWire::new(conn, window_bytes), plane, ip, http))
    }

    /// Bytes arrive on a connection, which the system may say by an event.
    pub fn arrive(&mut self, id: u64, bytes: &[u8]) {
        if let Some(socket) = self.engine.socket(id) {
            let may_read = socket.wire().arrive(bytes);
            self.engine.note(id, may_read, false, false);
        }
    }

    /// Changes the wire of a connection, and marks it ready for the next round.
    pub fn update_wire(&mut self, id: u64, is_ending: bool, act: impl FnOnce(&mut VirtualWire)) {
        if let Some(socket) = self.engine.socket(id) {
            act(socket.wire());
            self.engine.note(id, true, is_ending, false);
        }
    }

    /// Notes that a connection is writable again: its client read a full window.
    pub fn note_writable(&mut self, id: u64) {
        self.engine.note(id, false, false, true);
    }

    /// Up to `bytes_max` of a connection's output, as its client reads it, and whether there is more.
    pub fn take_output(&mut self, id: u64, bytes_max: usize) -> Option<(Vec<u8>, bool)> {
        let wire = self.engine.socket(id)?.wire();
        let bytes = wire.take_output(bytes_max);
        let has_more = wire.has_output();
        self.engine.note(id, false, false, true);
        Some((bytes, has_more))
    }

    /// One round of the loop, or the rest of the one in which the loop's thread has committed. `wrote` is called with
    /// each connection that has output, `closed` with each that was closed and may have some left, `written` with each
    /// line of the audit log. Returns where the batch is committed that was handed to the journal.
    pub fn round(
        &mut self,
        clocks: Clocks,
        logs: &mut Logs,
        mut written: impl FnMut(&[u8]),
        mut wrote: impl FnMut(u64, &mut VirtualWire),
        mut closed: impl FnMut(&mut VirtualWire),
    ) -> Result<Option<Committer>, Violation> {
        // Who takes the loop over from a thread that does not return begins a round.
        self.is_committing_here = false;
        if !mem::take(&mut self.is_round_open) {
            self.begin_round(clocks, logs)?;
        }
        let engine = &mut self.engine;
        engine.settle();
        let (at, traced) = (engine.now(), engine.service().take_trace());
        let events = engine.service().events().drain(..).collect();
        logs.record(at, events, traced, |lines| {
            engine.service().streams().audit(lines);
            written(lines);
        })?;
        engine.service().alert_lines().clear();
        engine.push_events();
        let mut committer = None;
        if let Some(handover) = engine.hand_over() {
            self.in_flight = Some(Commit::new(handover));
            self.handed_at = clocks.awake;
            self.is_committing_here = engine.commits_here();
            committer = Some(if self.is_committing_here { Committer::Here } else { Committer::Other });
        }
        engine.write(&mut wrote);
        for (_, mut socket) in engine.drain_closed() {
            closed(socket.wire());
        }
        Ok(committer)
    }

    /// The first half of a round: what has happened is read and applied.
    fn begin_round(&mut self, clocks: Clocks, logs: &mut Logs) -> Result<(), Violation> {
        let before = self.engine.now();
        let reading = clocks.since(self.started);
        let changes = self.engine.set_time(&mut self.timekeeper, &reading);
        let at = self.engine.now();
        holds(at >= before, "time never goes back", || {
            format!("the clock shows {} after {}", at.as_millis(), before.as_millis())
        })?;
        self.check_calendar(clocks, changes)?;
        let engine = &mut self.engine;
        let connections = engine.connections() as u64;
        engine.service().set_connections(connections);
        // The log reader's thread answers them after the round in which they were requested.
        for PageRequest { origin, page } in self.pages.drain(..) {
            engine.deliver(origin, logs.page(page));
        }
        engine.read();
        self.pages = engine.drain_page_requests();
        engine.fire_timers();
        Ok(())
    }

    /// The calendar shows wall time, unless the journal does not take its change, or the last one was just before.
    fn check_calendar(&mut self, clocks: Clocks, changes: Changes) -> Result<(), Violation> {
        if changes.stepped_ms.is_some() {
            self.stepped_at = clocks.awake;
        }
        let is_held = self.engine.is_journal_down() || clocks.awake < self.stepped_at + 1_000_000;
        let hub = self.engine.service_ref().hub();
        let shown = i128::from(self.engine.now().as_millis()) + i128::from(hub.calendar().offset_ms());
        let off_ms = (shown - i128::from(clocks.wall / 1_000)).unsigned_abs();
        holds(is_held || off_ms <= 2_001, "the calendar follows wall time", || format!("it is {off_ms} ms off"))
    }

    /// Looks whether the data folder is still this hub's, as the journal's thread does once a second, and before each
    /// try while it was not.
    pub fn look(&mut self, now: Micros) {
        if !self.is_not_ours && now < self.looked_at + SECOND {
            return;
        }
        self.looked_at = now;
        let was_not_ours = self.is_not_ours;
        match self.appender.check_ours() {
            Err(error) => {
                self.is_not_ours = true;
                if !was_not_ours {
                    self.engine.handle_report(Report::Down { reason: error.to_string() });
                }
            }
            Ok(()) => {
                self.is_not_ours = false;
                if was_not_ours && self.in_flight.is_none() {
                    self.engine.handle_report(Report::Up);
                }
            }
        }
    }

    /// Writes the batch in flight to disk.
    pub fn commit(&mut self, now: Micros, disk: &VirtualDisk, oracle: &mut Oracle) -> Result<Committed, Violation> {
        if self.in_flight.is_none() {
            return Ok(Committed::Done);
        }
        self.look(now);
        if self.is_not_ours {
            // The loop's thread leaves it to the other one, which looks again.
            self.is_round_open = mem::take(&mut self.is_committing_here);
            return Ok(Committed::Again(SECOND));
        }
        let Some(mut commit) = self.in_flight.take() else { return Ok(Committed::Done) };
        let Handover { first_seq, hash_before, .. } = commit.handover();
        holds(*hash_before == oracle.shadow().outcome_hash(), "the live hub is deterministic", || {
            format!("the live hub differs from the journal before record {first_seq}")
        })?;
        let attempt = commit.attempt(&mut self.appender);
        if disk.is_dead() {
            self.in_flight = Some(commit);
            return Ok(Committed::Dead);
        }
        let attempt = attempt.map_err(|error| Violation { invariant: "one writer", detail: error.to_string() })?;
        match attempt {
            Attempt::Done { up_to, sealed_through } => {
                for (seq, now, payload) in commit.handover().batch.iter() {
                    oracle.durable(seq, now, payload)?;
                }
                let spare = commit.into_spare();
                let took = Duration::from_micros(now - self.handed_at);
                self.is_round_open = mem::take(&mut self.is_committing_here);
                let is_in_loop = self.is_round_open;
                let report = Report::Durable { up_to, spare, took, is_in_loop, sealed_through };
                self.sealed = self.engine.handle_report(report).or(self.sealed);
                Ok(Committed::Done)
            }
            Attempt::Again { pause, down } => {
                if let Some(reason) = down {
                    self.engine.handle_report(Report::Down { reason });
                }
                self.in_flight = Some(commit);
                // The other thread tries again.
                self.is_round_open = mem::take(&mut self.is_committing_here);
                Ok(Committed::Again(pause.as_micros() as Micros))
            }
        }
    }

    /// Whether the loop stands still for a commit.
    pub fn is_committing_here(&self) -> bool {
        self.is_committing_here
    }

    /// Makes a snapshot of the sealed segments and removes those that it covers. True if one was made.
    pub fn snapshot(&mut self) -> Result<bool, Violation> {
        let Some(through) = self.sealed.take() else { return Ok(false) };
        match snapshots::follow(&self.store, through, self.segment_bytes, &mut |_| true) {
            Ok(report) => Ok(report.is_some()),
            Err(error @ journal::ReplayError::Diverged(_)) => {
                Err(Violation { invariant: "replay gives the same outcomes", detail: error.to_string() })
            }
            // The next one covers more.
            Err(_) => Ok(false),
        }
    }

    /// The records that were handed to the journal and not reported durable.
    pub fn handed(&self) -> Handed {
        let batch = self.in_flight.iter().flat_map(|commit| commit.handover().batch.iter());
        batch.map(|(seq, _, payload)| (seq, payload.to_vec())).collect()
    }

    /// Ends the process: the records that were handed to the journal and not reported durable.
    pub fn into_handed(self) -> Handed {
        self.handed()
    }

    /// Begins an orderly stop: pending requests are answered, the last batch is made durable.
    pub fn begin_drain(&mut self) {
        self.engine.begin_drain();
    }

    /// Whether it knows that its journal does not accept records.
    pub fn is_journal_down(&self) -> bool {
        self.engine.is_journal_down()
    }

    /// The loop's clock, and the last record that it has made, whether handed to the journal yet or not.
    pub fn place(&self) -> (Timestamp, u64) {
        (self.engine.now(), self.engine.service_ref().last_seq())
    }

    /// Whether all commands are durable.
    pub fn is_durable(&self) -> bool {
        self.in_flight.is_none() && self.engine.is_durable()
    }

    /// Journals the collected heartbeats, at an orderly stop.
    pub fn flush(&mut self) {
        let now = self.engine.now();
        self.engine.service().flush(now);
        self.engine.settle();
    }

    /// The hub.
    pub fn hub(&self) -> &Hub {
        self.engine.service_ref().hub()
    }

    /// Connections that the hub holds.
    pub fn connections(&self) -> usize {
        self.engine.connections()
    }

    /// When the loop wakes if no event comes before: at the latest in a second, as its clock may run at another speed.
    pub fn wakes_at(&self, now: Micros) -> Micros {
        if self.engine.has_ready() || !self.pages.is_empty() {
            return now + 10;
        }
        let second = now + 1_000_000;
        let Some(at) = self.engine.next_timeout() else { return second };
        (now + (at.since(self.engine.now()).get() + 1) * 1_000).min(second)
    }
}

impl std::fmt::Debug for Process {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Process({} connections, {:?})", self.engine.connections(), self.appender)
    }
}

/// Reads the records that were durable when the hub died and that it did not report.
pub fn note_unreported(store: &Store, next_seq: u64, handed: &Handed, oracle: &mut Oracle) -> Result<(), Violation> {
    let mut reader = match store.reader(oracle.seq() + 1, next_seq - 1) {
        Ok(reader) => reader,
        Err(error) => return Err(Violation { invariant: "readable journal", detail: error.to_string() }),
    };
    loop {
        match reader.next() {
            Ok(Some(journal::Item::Record(record))) => {
                let was_handed = handed.get(&record.seq).is_some_and(|payload| payload == record.payload);
                holds(was_handed, "what was cut stays cut", || {
                    format!("record {} was never handed over, or was another", record.seq)
                })?;
                oracle.durable(record.seq, record.now, record.payload)?;
            }

            Ok(Some(journal::Item::Mark(_))) => {}
            Ok(None) => break,
            Err(error) => return Err(Violation { invariant: "readable journal", detail: error.to_string() }),
        }
    }
    Ok(())
}

fn http_limits(plan: &Plan) -> http::Limits {
    match plan.traffic.stream_bytes_max {
        0 => http::Limits::DEFAULT,
        bytes => http::Limits { stream_bytes_max: bytes as usize, ..http::Limits::DEFAULT },
    }
}

fn settings(plan: &Plan, started_at: Timestamp) -> Settings {
    let secret = Secret::new(TOKEN.as_bytes());
    Settings {
        redactor: Arc::new(Redactor::new(&[&secret])),
        token: Some(SharedToken::single(&Token::new(secret).expect("it is long enough"))),
        is_integrity_required: plan.is_integrity_required,
        ..Settings::local(started_at)
    }
}
