//! A second hub in the world: the lock file is removed, and the second is started before or after the first has looked.

use super::{Event, World};
use crate::agenda::{Micros, SECOND};
use crate::mesh::oracle::Violation;
use crate::mesh::process::DATA;
use crate::mesh::second::Second;
use std::path::Path;

/// How long the operator lets the hub run that has lost its folder.
const REPLACED_AFTER_US: Micros = 5 * SECOND;

impl World {
    pub(super) fn remove_lock(&mut self) {
        self.disk.remove_lock(&Path::new(DATA).join("lock"));
        let at = self.now + self.draws.faults.below(2 * SECOND);
        self.agenda.plan(at, Event::SecondStarts { process_id: self.process_id });
    }

    pub(super) fn start_second(&mut self, process_id: u64) -> Result<(), Violation> {
        if process_id != self.process_id || self.process.is_none() {
            return Ok(());
        }
        let are_folders_locked = self.draws.faults.chance(300);
        self.second = Second::lock(&self.plan, &self.disk, self.identity, are_folders_locked)?;
        if self.disk.is_dead() {
            self.mark("a second hub died");
            self.power_off();
            return Ok(());
        }
        if self.second.is_none() {
            self.mark("a second hub was refused");
            return Ok(());
        }
        self.mark("a second hub locked the data folder");
        // Until then the first has looked.
        let takes = SECOND + self.draws.faults.between(1, SECOND);
        self.agenda.plan(self.now + takes, Event::SecondWrites { process_id });
        self.agenda.plan(self.now + takes + REPLACED_AFTER_US, Event::Replaced { process_id });
        self.note_hindered(takes + REPLACED_AFTER_US);
        Ok(())
    }

    pub(super) fn write_second(&mut self, process_id: u64) -> Result<(), Violation> {
        let Some(second) = self.second.take().filter(|_| process_id == self.process_id) else { return Ok(()) };
        let Some(process) = &self.process else { return Ok(()) };
        let handed = process.handed();
        self.second_handed = second.write(&self.disk, self.now, &handed, &mut self.oracle)?;
        if self.disk.is_dead() {
            self.mark("a second hub died");
            self.power_off();
        } else {
            self.mark("a second hub wrote");
        }
        Ok(())
    }
}
