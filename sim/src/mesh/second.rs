//! A second hub on the same data folder, started by mistake after the lock file of the first was removed.
//!
//! If the folder itself is locked, or the first hub has noticed and locked the file again, it is refused. Otherwise it
//! waits, locks the folder, reads it, begins its run with a record of its own, and is stopped. A start takes longer than
//! the second within which the first hub looks: one that is faster may miss what the first acknowledges meanwhile.

use super::oracle::{Oracle, Violation, holds};
use super::plan::Plan;
use super::process::{self, DATA, Handed};
use crate::agenda::Micros;
use crate::disk::VirtualDisk;
use sheratan_core::{Caller, Command, Envelope, Salt};
use sheratan_io::journal::{Batch, Identity, LockError, OpenError, Recovered, Recovery, Store};
use std::path::Path;

/// A second hub that has locked the folder and has not read it yet.
#[derive(Debug)]
pub struct Second(Recovered);

impl Second {
    /// Locks the folder. `None` if it is refused, or fails for another reason.
    pub fn lock(
        plan: &Plan,
        disk: &VirtualDisk,
        identity: Identity,
        are_folders_locked: bool,
    ) -> Result<Option<Second>, Violation> {
        let open = || Store::open(Path::new(DATA), process::options(plan, disk, identity));
        let opened = if are_folders_locked { open() } else { disk.without_folder_locks(open) };
        holds(!are_folders_locked || opened.is_err(), "a second hub is refused", || {
            "it has locked a folder that is locked".to_owned()
        })?;
        Ok(match opened {
            Ok((_, recovered)) => Some(Second(recovered)),
            Err(OpenError::Lock(LockError::Held { .. })) => None,
            // Damage, or an open that fails by chance.
            Err(_) => None,
        })
    }

    /// Recovers all that the first hub has acknowledged, and makes a record of its own durable. Returns it if that
    /// fails: then it may be there.
    pub fn write(
        self,
        disk: &VirtualDisk,
        now: Micros,
        handed: &Handed,
        oracle: &mut Oracle,
    ) -> Result<Handed, Violation> {
        let Ok(Recovery { hub, mut appender, store, report }) = self.0.replay(&mut |_| {}) else {
            return Ok(Handed::new());
        };
        oracle.unfollow_log();
        if report.next_seq > oracle.seq() + 1 {
            disk.observe(|| process::note_unreported(&store, report.next_seq, handed, oracle))?;
        }
        oracle.recovered(&hub, report.next_seq, "the second hub")?;
        // Another one than that of a start at the same instant.
        let salt = Salt::new((now | 1 << 63).to_le_bytes());
        let mut batch = Batch::new();
        let buffer = batch.begin(report.next_seq, hub.now());
        Envelope::encode(hub.rules(), Caller::HUB, &Command::BeginSalt(salt), buffer);
        batch.commit();
        if appender.append(report.next_seq, &mut batch, hub.outcome_hash()).is_err() {
            return Ok(batch.iter().map(|(seq, _, payload)| (seq, payload.to_vec())).collect());
        }
        batch.iter().try_for_each(|(seq, now, payload)| oracle.durable(seq, now, payload))?;
        Ok(Handed::new())
    }
}
