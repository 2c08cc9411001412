//! The hub in the world: its processes start, run, and end by a stop, a kill or a power cut.

use super::{Event, SLOW_READ_US, START_AGAIN_US, WALL_START_US, World};
use crate::agenda::{Micros, SECOND};
use crate::mesh::fault::Fault;
use crate::mesh::oracle::{Violation, holds};
use crate::mesh::process::{Clocks, Committed, Committer, Process};
use crate::mesh::wire::VirtualWire;
use sheratan_io::journal::{Notice, OpenError};
use sheratan_io::shell::committer::{LOOK_AT_LEADER_EVERY, OVERTAKE_AFTER};
use std::path::Path;

/// After this long the loop is taken from a thread that commits: the follower looks that often, and waits that long.
const OVERTAKE_US: Micros = (OVERTAKE_AFTER.as_micros() + LOOK_AT_LEADER_EVERY.as_micros()) as Micros;

impl World {
    /// What the clocks of the hub's machine show.
    fn clocks(&self) -> Clocks {
        let wall = (WALL_START_US + self.now + self.asleep_us) as i64;
        Clocks { awake: self.now, asleep: self.asleep_us, wall: wall + self.wall_offset_us }
    }

    pub(super) fn start(&mut self) -> Result<(), Violation> {
        if self.process.is_some() {
            return Ok(());
        }
        if self.is_chaos && self.draws.hub.below(3_600) < self.plan.rate(Fault::CrashInCommit) * 4 {
            self.crash_later("crash_in_recovery");
        }
        let start = (self.clocks(), self.process_id);
        let started = Process::start(&self.plan, &self.disk, self.identity, start, &self.handed, &mut self.oracle)?;
        if self.disk.is_dead() {
            drop(started);
            self.mark("hub died in recovery");
            self.power_off();
            return Ok(());
        }
        match started {
            Ok((process, report)) => {
                let opened = self.logs.start(self.identity.hub_id, report.next_seq - 1, process.place().0)?;
                if self.logs.is_dead() {
                    drop(process);
                    self.die_at_logs();
                    return Ok(());
                }
                if opened.is_err() {
                    drop(process);
                    self.mark("start failed without an audit log");
                    self.kill();
                    return Ok(());
                }
                self.process_id += 1;
                self.note_hindered(0);
                for notice in &report.notices {
                    self.mark(match notice {
                        Notice::Torn(_) => "recovered: torn tail cut",
                        Notice::SnapshotBad { .. } => "recovered: bad snapshot set aside",
                        Notice::JournalBehind { .. } => "recovered: journal behind snapshot",
                        Notice::Unreadable(_) => "recovered: unreadable bytes behind the records",
                        Notice::SnapshotUnreadable { .. } => "recovered: unreadable snapshot passed over",
                        Notice::NoSpace(_) => "recovered: without room for a segment",
                    });
                }
                if report.snapshot_seq.is_some() {
                    self.mark("recovered from a snapshot");
                }
                if process.is_far_behind {
                    self.mark("start with a clock that is far behind the journal");
                }
                self.process = Some(process);
                self.handed.clear();
                self.agenda.plan(self.now + SECOND, Event::Background { process_id: self.process_id });
                self.round_soon();
            }
            Err(error) => {
                // A damaged journal must be refused; other errors go away by themselves.
                let is_refused = matches!(error, OpenError::BadRecord(_));
                let may_be_damaged = self.flips > 0 || self.has_bad_sector;
                holds(!is_refused || may_be_damaged, "an undamaged journal opens", || error.to_string())?;
                if is_refused {
                    self.mark("damage refused at the start");
                    self.disk.unflip();
                    self.disk.heal();
                    (self.flips, self.has_bad_sector) = (0, false);
                } else {
                    self.mark("start failed for now");
                }
                self.disk.kill();
                self.agenda.plan(self.now + START_AGAIN_US, Event::Start);
            }
        }
        Ok(())
    }

    /// Ends the process and its connections, and schedules the next start.
    pub(super) fn die(&mut self, down_us: Micros) {
        // A process that dies before it was ready had handed nothing to the journal.
        if let Some(process) = self.process.take() {
            self.handed = process.into_handed();
        }
        self.handed.append(&mut self.second_handed);
        self.second = None;
        for (id, conn) in self.network.close_all() {
            self.channels[conn.channel].inbox.clear();
            if self.channels[conn.channel].conn == Some(id) {
                self.agenda.plan(self.now + 1_000, Event::CloseAtActor { conn: id });
            }
        }
        self.committing_until = self.now;
        self.agenda.plan(self.now + down_us, Event::Start);
    }

    pub(super) fn kill(&mut self) {
        self.disk.kill();
        self.logs.kill();
        let down = 10_000 + self.draws.hub.below(3 * SECOND);
        self.die(down);
    }

    pub(super) fn power_off(&mut self) {
        self.disk.crash(&mut self.draws.hub);
        self.logs.power_off();
        if self.is_chaos && self.draws.hub.below(3_600) < self.plan.rate(Fault::BitFlip) * 20 {
            self.flip();
        }
        let sectors = self.plan.rate(Fault::BadSector) * 20;
        if self.is_chaos && sectors > 0 && self.draws.hub.below(3_600) < sectors {
            self.spoil();
        }
        // A machine whose clock has no battery.
        let jumps = self.plan.rate(Fault::ClockJump) * 100;
        if self.is_chaos && jumps > 0 && self.draws.hub.below(3_600) < jumps {
            self.count_fault(Fault::ClockJump.name());
            self.jump();
        }
        let down = 10_000 + self.draws.hub.below(5 * SECOND);
        self.die(down);
    }

    pub(super) fn spoil(&mut self) {
        let is_kept = |path: &Path| path.extension().is_some_and(|name| name == "seg" || name == "snap");
        if !self.has_bad_sector && self.disk.spoil_sector_of(&mut self.draws.hub, is_kept).is_some() {
            self.has_bad_sector = true;
            self.count_fault(Fault::BadSector.name());
        }
    }

    pub(super) fn flip(&mut self) {
        // One at a time: the journal's checksums are certain to detect one.
        if self.flips == 0 && self.disk.flip_bit(&mut self.draws.hub).is_some() {
            self.flips = 1;
            self.count_fault(Fault::BitFlip.name());
        }
        if self.logs.flip() {
            self.count_fault("bit_flip_in_logs");
        }
    }

    /// Ends the process at an operation of the logs' disk.
    pub(super) fn die_at_logs(&mut self) {
        self.mark("hub died at a log");
        if self.logs.was_killed() { self.kill() } else { self.power_off() }
    }

    /// Plans the hub's death at one of the disk's next operations.
    pub(super) fn crash_later(&mut self, what: &'static str) {
        let at = self.disk.ops() + 1 + self.draws.hub.below(40);
        if !self.logs.crash_later() {
            self.disk.crash_at(at);
        }
        self.count_fault(what);
    }

    /// Stops the hub in an orderly way.
    pub(super) fn stop(&mut self) -> Result<(), Violation> {
        if let Some(process) = &mut self.process {
            process.flush();
        }
        self.commit_all()?;
        if let Some(process) = &self.process {
            let (now, last_seq) = process.place();
            self.logs.finish(last_seq, now)?;
            self.kill();
        }
        Ok(())
    }

    /// Runs rounds and commits until all commands are durable or the disk fails.
    pub(super) fn commit_all(&mut self) -> Result<(), Violation> {
        for _ in 0..8 {
            let process_id = self.process_id;
            self.round(process_id)?;
            self.commit(process_id)?;
            if self.process.as_ref().is_none_or(Process::is_durable) {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Notes that the hub's answers may be late for that long.
    pub(super) fn note_hindered(&mut self, duration: Micros) {
        self.hindered_until = self.hindered_until.max(self.now + duration);
    }

    pub(super) fn round_soon(&mut self) {
        let at = (self.now + 20).max(self.stalled_until).max(self.committing_until);
        self.round_at(at);
    }

    pub(super) fn round_at(&mut self, at: Micros) {
        let Some(process) = &mut self.process else { return };
        if process.round.at().is_none_or(|before| at < before) && process.round.set(at) {
            self.agenda.plan(at, Event::Round { process_id: self.process_id });
        }
    }

    pub(super) fn round(&mut self, process_id: u64) -> Result<(), Violation> {
        if process_id != self.process_id {
            return Ok(());
        }
        let clocks = self.clocks();
        let Some(process) = &mut self.process else { return Ok(()) };
        process.round.clear();
        let held_until = self.stalled_until.max(self.committing_until);
        if self.now < held_until {
            self.round_at(held_until);
            return Ok(());
        }
        let mut out: Vec<(u64, u64, Vec<u8>, bool)> = Vec::new();
        let mut slow = Vec::new();
        let network = &mut self.network;
        let mut full = Vec::new();
        let mut wrote = |id: u64, wire: &mut VirtualWire| {
            if !wire.has_output() && !wire.is_shut_down {
                return;
            }
            if network.get(wire.conn).is_some_and(|conn| conn.is_slow) && wire.has_output() {
                slow.push(wire.conn);
            } else {
                if wire.is_full() {
                    full.push(id);
                }
                out.push((id, wire.conn, wire.take_output(usize::MAX), wire.is_shut_down));
            }
        };
        let (oracle, has_listeners) = (&mut self.oracle, !self.listeners.is_empty());
        let written = |lines: &[u8]| {
            if has_listeners {
                oracle.written(lines);
            }
        };
        let mut ended = Vec::new();
        let closed = |wire: &mut VirtualWire| ended.push((wire.conn, wire.take_output(usize::MAX)));
        let committer = process.round(clocks, &mut self.logs, written, &mut wrote, closed)?;
        self.oracle.logged(self.logs.take_reported());
        if self.logs.is_dead() {
            self.die_at_logs();
            return Ok(());
        }
        let has_room = !full.is_empty();
        full.into_iter().for_each(|id| process.note_writable(id));
        let wakes_at = process.wakes_at(self.now);
        self.oracle.note_hub_clock(process.hub().now());
        if let Some(committer) = committer {
            let slow = if self.now < self.slow_until { 200 * self.draws.hub.between(1, 10) } else { 1 };
            let takes = 1 + self.plan.commit_us * slow;
            if slow > 1 {
                self.note_hindered(takes);
            }
            if committer == Committer::Here {
                self.mark("committed in the loop's thread");
                // Its report comes first.
                self.committing_until = self.now + (takes + 1).min(OVERTAKE_US);
                if takes > OVERTAKE_US {
                    self.mark("the loop was taken over from a commit");
                }
            }
            self.agenda.plan(self.now + takes, Event::Commit { process_id });
        }
        for (_, conn, bytes, is_shut_down) in out {
            self.send_to_actor(conn, bytes, is_shut_down)?;
        }
        for conn in slow {
            if let Some(entry) = self.network.get(conn)
                && entry.deaf_since.is_none()
                && !std::mem::replace(&mut entry.is_draining, true)
            {
                self.agenda.plan(self.now + SLOW_READ_US, Event::SlowRead { conn });
            }
        }
        for (conn, bytes) in ended {
            self.send_to_actor(conn, bytes, true)?;
        }
        self.round_at(wakes_at);
        if has_room {
            self.round_soon();
        }
        let Some(process) = &self.process else { return Ok(()) };
        let sockets_max = self.channels.len() * 40;
        holds(process.connections() <= sockets_max, "closed connections are released", || {
            format!("the hub holds {} connections of {} channels", process.connections(), self.channels.len())
        })
    }

    pub(super) fn commit(&mut self, process_id: u64) -> Result<(), Violation> {
        if process_id != self.process_id {
            return Ok(());
        }
        if self.now < self.hung_until {
            if self.process.as_ref().is_some_and(Process::is_committing_here) {
                self.committing_until = self.committing_until.max(self.hung_until.min(self.now + OVERTAKE_US));
            }
            self.agenda.plan(self.hung_until, Event::Commit { process_id });
            return Ok(());
        }
        let Some(process) = &mut self.process else { return Ok(()) };
        // Whoever holds the loop goes on.
        self.committing_until = self.now;
        match process.commit(self.now, &self.disk, &mut self.oracle)? {
            Committed::Done => {
                // A crash between the disk's answer and the replies.
                if self.is_chaos && self.draws.hub.below(36_000) < self.plan.rate(Fault::CrashInCommit) {
                    self.count_fault("crash_after_sync");
                    self.power_off();
                } else {
                    self.round_soon();
                }
            }
            Committed::Again(pause) => {
                self.mark("journal down");
                self.note_hindered(pause);
                self.agenda.plan(self.now + pause, Event::Commit { process_id });
                self.round_soon();
            }
            Committed::Dead => {
                self.mark("hub died in a commit");
                self.power_off();
            }
        }
        Ok(())
    }

    pub(super) fn background(&mut self, process_id: u64) -> Result<(), Violation> {
        if process_id != self.process_id {
            return Ok(());
        }
        let Some(process) = &mut self.process else { return Ok(()) };
        self.logs.pass_second();
        process.look(self.now);
        let is_made = process.snapshot();
        if self.disk.is_dead() {
            self.mark("hub died in a snapshot");
            self.power_off();
            return Ok(());
        }
        if is_made? {
            self.mark("snapshot made");
        }
        self.agenda.plan(self.now + SECOND, Event::Background { process_id });
        Ok(())
    }
}
