//! Rewinding: continues from the newest snapshot that this build can restore, and moves the later records aside.
//!
//! It is for a journal that this build cannot replay when no other build is available. It loses every record after the
//! snapshot, so it is done only if that is accepted.
//!
//! It survives a power cut at any point. First the records to lose are copied durably; then one rename puts a new
//! segment after the snapshot, whose first record replaces all older copies; then the later segments are moved away,
//! newest first. Before the rename the folder is unchanged; after it a start is refused (records are missing between
//! the new segment and the later ones) until another run has moved the rest: a hub never starts with a part of the
//! records to lose.

use super::build::Build;
use super::folder::Options;
use super::lost::Lost;
use super::repair::{self, ORPHANED_IDS, Repair, RepairError};
use super::replay;
use super::snapshot::SnapshotReader;
use super::verify;
use crate::rfc3339::Rfc3339;
use serde::Serialize;
use sheratan_core::Timestamp;
use std::fmt;
use std::path::{Path, PathBuf};

/// What a rewind did, or would do.
#[derive(Clone, Debug, Serialize)]
pub struct RewindReport {
    /// The snapshot that it goes back to.
    pub snapshot: RewindTarget,
    /// The records after the snapshot; `None` if none are known, so that nothing needs to be done.
    pub lost: Option<Lost>,
    /// Whether it was done: nothing is changed if records would be lost and the loss was not accepted.
    pub is_done: bool,
    /// The folder of the removed files; `None` if there are none.
    pub quarantine: Option<PathBuf>,
    /// The files in it.
    pub moved: Vec<PathBuf>,
    /// The number of the first record after the snapshot.
    pub next_seq: u64,
}

/// The snapshot from which the journal continues.
#[derive(Clone, Debug, Serialize)]
pub struct RewindTarget {
    /// Its file.
    pub file: PathBuf,
    /// The last record in it.
    pub covered_seq: u64,
    /// What its calendar shows.
    pub at: Rfc3339,
    /// The build that made it.
    pub written_by: Build,
}

/// Goes back to the newest snapshot that can be restored, if `is_loss_accepted` or no record is lost. Removed files
/// move to the quarantine, which is named after `now`. Restores the snapshot to check it: about a microsecond and half
/// a kilobyte a job.
pub fn rewind(
    data_folder: &Path,
    options: Options,
    now: Timestamp,
    is_loss_accepted: bool,
) -> Result<RewindReport, RepairError> {
    let mut repair = Repair::new(repair::lock(data_folder, &options)?, now)?;
    let snapshot = newest_restorable(&mut repair)?;
    let covered_seq = snapshot.covered_seq;
    let next_seq = covered_seq + 1;
    let segments = repair::segments(&repair.folder)?;
    let lost = match repair.first_damage()? {
        Some(damage) => Lost::with(&damage, &segments, next_seq),
        None => Lost::known(&segments, next_seq),
    };
    let is_done = lost.is_some() && is_loss_accepted;
    if is_done {
        for newer in repair::snapshot_files(&repair.folder)?.iter().filter(|file| file.covered_seq > covered_seq) {
            repair.set_aside(&newer.path)?;
        }
        let (covered, behind): (Vec<_>, Vec<_>) =
            segments.into_iter().partition(|segment| segment.first_seq <= covered_seq);
        // It ends after the snapshot, unless the next one begins there; the older snapshot needs its other records.
        if let Some(last) = covered.last().filter(|_| behind.first().is_none_or(|next| next.first_seq > next_seq)) {
            repair.copy_bytes_aside(&last.path)?;
        }
        let covered_hash = repair.covered_hash;
        repair.replace(&behind, None, next_seq, Some(covered_hash), options)?;
        repair.drop_damage_before_snapshot()?;
    }
    let (quarantine, moved) = (repair.report.quarantine, repair.report.moved);
    Ok(RewindReport { snapshot, lost, is_done, quarantine, moved, next_seq })
}

/// The newest snapshot that can be restored. The repair continues after it.
fn newest_restorable(repair: &mut Repair) -> Result<RewindTarget, RepairError> {
    let disk = repair.folder.disk();
    let mut problems = Vec::new();
    for snapshot in repair::snapshot_files(&repair.folder)? {
        let loaded = replay::load(disk, &snapshot.path, &repair.identity);
        let opened = loaded.and_then(|(hub, _)| Ok((hub, SnapshotReader::open(disk, &snapshot.path)?)));
        match opened {
            Ok((hub, reader)) => {
                let info = reader.info();
                let (file, at) = (info.file.clone(), Rfc3339::new(hub.calendar().utc(hub.now())));
                let target = RewindTarget { file, covered_seq: info.covered_seq, at, written_by: info.written_by };
                (repair.covered_seq, repair.covered_hash) = (info.covered_seq, info.outcome_hash);
                return Ok(target);
            }
            Err(error) => problems.push(error.to_string()),
        }
    }
    let written_by = repair::segments(&repair.folder)?.iter().rev().find_map(verify::header);
    let written_by = written_by.map(|header| header.written_by);
    Err(RepairError::NoSnapshot { folder: repair.folder.root().to_path_buf(), problems, written_by })
}

impl fmt::Display for RewindReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let RewindTarget { covered_seq, at, written_by, .. } = &self.snapshot;
        let snapshot = format!("the snapshot of record {covered_seq} ({at}, by build {written_by})");
        let Some(lost) = &self.lost else {
            return write!(f, "nothing to go back over: no record is known behind {snapshot}");
        };
        if !self.is_done {
            return write!(
                f,
                "going back to {snapshot} loses {lost}; nothing was changed: with --accept-loss it is done"
            );
        }
        if let Some(quarantine) = &self.quarantine {
            writeln!(f, "{} files are now in {}", self.moved.len(), quarantine.display())?;
        }
        let next_seq = self.next_seq;
        write!(f, "lost: {lost}; the journal goes on at record {next_seq}, behind {snapshot}{ORPHANED_IDS}")
    }
}
