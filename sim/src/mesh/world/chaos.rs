//! Chaos: the faults whose rates are per hour, the cool-down, and the final checks.

use super::{COOL_DOWN_PER_JOB_US, COOL_DOWN_US, Event, FAULT_TICK_US, WALL_START_US, World};
use crate::agenda::SECOND;
use crate::disk::Faults;
use crate::mesh::client::{Client, GIVE_UP_US, KEYS, WAITING_MAX};
use crate::mesh::fault::{Fault, Per};
use crate::mesh::node::LANES;
use crate::mesh::oracle::{Violation, holds};
use crate::mesh::process::{DATA, options};
use sheratan_io::journal;
use std::path::Path;

impl World {
    pub(super) fn fault_tick(&mut self) -> Result<(), Violation> {
        if !self.is_chaos {
            return Ok(());
        }
        self.agenda.plan(self.now + FAULT_TICK_US, Event::FaultTick);
        for fault in Fault::ALL {
            // Plans from before these faults draw nothing for them, so that they run as they did.
            if matches!(fault, Fault::DiskHang | Fault::SecondHub) && self.plan.rate(*fault) == 0 {
                continue;
            }
            if fault.per() == Per::Hour && self.draws.faults.below(3_600) < self.plan.rate(*fault) {
                self.inject_fault(*fault)?;
            }
        }
        if self.full_until > 0 && self.now >= self.full_until {
            self.full_until = 0;
            self.disk.set_full(false);
            self.logs.set_full(false);
        }
        Ok(())
    }

    pub(super) fn inject_fault(&mut self, fault: Fault) -> Result<(), Violation> {
        let node = self.draws.faults.below(self.nodes.len() as u64) as usize;
        let duration = self.draws.faults.between(SECOND, 60 * SECOND);
        // A bit flips only where there is a file at rest.
        if !matches!(fault, Fault::BitFlip | Fault::BadSector) {
            self.count_fault(fault.name());
        }
        match fault {
            Fault::PartitionToHub => _ = self.cut_to_hub.insert(node, self.now + duration),
            Fault::PartitionFromHub => _ = self.cut_from_hub.insert(node, self.now + duration),
            Fault::NodeCrash => {
                self.nodes[node].crash();
                for lane in 0..LANES {
                    let channel = &mut self.channels[node * LANES + lane];
                    channel.calls.clear();
                    channel.inbox.clear();
                    if let Some(conn) = channel.conn.take() {
                        self.agenda.plan(self.now + 1, Event::CloseAtHub { conn });
                    }
                }
                self.agenda.plan(self.now + duration / 2, Event::StartNode(node));
            }
            Fault::NodeHang => self.nodes[node].hung_until = self.now + duration,
            Fault::HubKill if self.process.is_some() => self.kill(),
            Fault::PowerCut if self.process.is_some() => self.power_off(),
            Fault::CrashInCommit => self.crash_later("crash_in_disk_operation"),
            Fault::HubRestart => {
                if let Some(process) = &mut self.process {
                    process.begin_drain();
                    self.agenda.plan(self.now + SECOND, Event::Stopped { process_id: self.process_id });
                    self.note_hindered(SECOND);
                    self.round_soon();
                }
            }
            Fault::DiskFull => {
                self.disk.set_full(true);
                self.logs.set_full(true);
                self.full_until = self.now + duration / 2;
            }
            Fault::SlowDisk => self.slow_until = self.now + duration / 2,
            Fault::DiskHang => {
                self.hung_until = self.now + duration / 2;
                self.note_hindered(duration / 2);
            }
            // Only while no process runs, which might hold the file's bytes in memory.
            Fault::BitFlip if self.process.is_none() => self.flip(),
            Fault::BadSector if self.process.is_none() => self.spoil(),
            Fault::ClockJump => self.jump(),
            Fault::Sleep => self.asleep_us += 1_000 * (1_000 + self.draws.faults.magnitude(3 * 86_400_000)),
            Fault::Stall => {
                self.stalled_until = self.now + duration;
                self.note_hindered(duration);
                self.round_at(self.stalled_until);
            }
            Fault::SecondHub if self.process.is_some() && self.second.is_none() => self.remove_lock(),
            Fault::Burst => self.burst_until = self.now + duration / 2,
            _ => {}
        }
        Ok(())
    }

    /// Sets wall time back or ahead: by hours, to 1970, to 2100, or to what it should be.
    pub(super) fn jump(&mut self) {
        let by = (self.draws.faults.magnitude(2 * 3_600 * 1_000) * 1_000) as i64;
        let should_be = (WALL_START_US + self.now + self.asleep_us) as i64;
        self.wall_offset_us = match self.draws.faults.below(10) {
            0 => by - should_be,
            1 => 74 * 365 * 86_400 * SECOND as i64 + by,
            2..=4 => 0,
            5..=7 => self.wall_offset_us + by,
            _ => self.wall_offset_us - by,
        };
    }

    /// Begins the cool-down: no more faults, and all actors work at full speed.
    pub(super) fn cool(&mut self) {
        (self.is_chaos, self.is_cool) = (false, true);
        self.network.is_chaos = false;
        self.disk.set_faults(Faults::default());
        self.disk.set_full(false);
        self.logs.set_faults(0);
        self.logs.set_full(false);
        (self.slow_until, self.burst_until, self.stalled_until) = (0, 0, self.now);
        self.hung_until = 0;
        // Jobs may wait for an instant that a wrong clock would not show for years.
        self.wall_offset_us = 0;
        self.cut_to_hub.clear();
        self.cut_from_hub.clear();
        for index in 0..self.nodes.len() {
            self.nodes[index].hung_until = self.now;
            if !self.nodes[index].is_up() {
                self.agenda.plan(self.now, Event::StartNode(index));
            }
        }
        let counts = self.oracle.shadow().counts();
        // An act may requeue all dead letters.
        let letters = if self.admin.is_some() { counts.dead } else { 0 };
        let held = counts.waiting() + counts.leased + letters;
        let submits: u64 = WAITING_MAX as u64 * self.clients.len() as u64;
        // Where keys are few and young ones are not evicted, submits are refused until their clients give up.
        let limits = &self.plan.limits;
        let are_keys_full =
            limits.idempotency_floor_ms > 0 && limits.idempotency_keys_max < KEYS * self.clients.len() as u64;
        let gives_up_us = if are_keys_full { WAITING_MAX as u64 * GIVE_UP_US } else { 0 };
        self.cool_until = self.now + COOL_DOWN_US + (held + submits) * COOL_DOWN_PER_JOB_US + gives_up_us;
        self.round_soon();
    }

    /// Whether all work has ended.
    pub(super) fn is_quiet(&self) -> bool {
        let counts = self.oracle.shadow().counts();
        let live = self.process.as_ref().map(|process| process.hub().counts());
        self.clients.iter().all(Client::is_idle)
            && counts.waiting() + counts.leased == 0
            && live.is_some_and(|live| live.waiting() + live.leased == 0)
    }

    /// The final checks: the live hub against the journal, and one more start. False if the hub died before: a crash
    /// that was planned in the chaos may happen now.
    pub(super) fn finish(&mut self) -> Result<bool, Violation> {
        self.commit_all()?;
        let Some(process) = &mut self.process else { return Ok(false) };
        holds(process.is_durable(), "the journal recovers", || {
            "all faults are over and it accepts no records".to_owned()
        })?;
        let (now, last_seq) = process.place();
        let lost = self.logs.finish(last_seq, now)?;
        if self.logs.is_dead() {
            self.die_at_logs();
            return Ok(false);
        }
        holds(lost == 0, "the audit log recovers", || {
            format!("all faults are over and {lost} events are not written")
        })?;
        // No command follows: the comparison advances the shadow's time.
        let digest = self.oracle.shadow().digest();
        self.oracle.compare(process.hub())?;
        self.logs.final_check(self.identity.hub_id, last_seq)?;
        self.process = None;
        self.disk.crash(&mut self.draws.hub);
        let from_start = journal::recover(Path::new(DATA), options(&self.plan, &self.disk, self.identity), &mut |_| {});
        let recovery = from_start
            .map_err(|error| Violation { invariant: "an undamaged journal opens", detail: error.to_string() })?;
        let mut hub = recovery.hub;
        holds(hub.digest() == digest, "replay gives the same state", || "after the last start".to_owned())?;
        let at = hub.now();
        // What timers did since the last record is in no record: both hubs are advanced to the same instant.
        hub.advance(self.oracle.shadow().now());
        holds(hub.digest() == self.oracle.shadow().digest(), "replay gives the same state", || {
            format!("at the last instant, {} ms after the last record", hub.now().since(at).get())
        })?;
        Ok(true)
    }
}
