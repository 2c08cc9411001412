//! Store: the background's operations on the data folder: spares, snapshots, truncation.

use super::append;
use super::folder::{Folder, Options};
use super::format::Identity;
use super::read::{ReadError, Reader};
use super::replay::{self, Progress, ReplayError};
use super::snapshot::{SnapshotError, SnapshotReport};
use serde::Serialize;
use sheratan_core::Hub;
use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

/// A locked data folder. Cheap to clone; the lock is held until the last clone and the appender are gone.
#[derive(Clone, Debug)]
pub struct Store {
    pub(crate) folder: Arc<Folder>,
    pub(crate) options: Options,
    pub(crate) identity: Identity,
    /// Snapshots that the disk did not give at the start.
    passed_over: Arc<Mutex<BTreeSet<PathBuf>>>,
}

/// What a truncation did.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Truncated {
    /// Segments kept as spares.
    pub recycled: usize,
    /// Segments deleted.
    pub deleted: usize,
    /// Snapshots deleted.
    pub snapshots_deleted: usize,
}

impl Store {
    pub(crate) fn new(folder: Arc<Folder>, options: Options, identity: Identity) -> Store {
        Store { folder, options, identity, passed_over: Arc::default() }
    }

    /// The snapshot does not count among those that are kept: the disk does not give it.
    pub(crate) fn pass_over(&self, snapshot: &Path) {
        self.passed_over.lock().unwrap_or_else(PoisonError::into_inner).insert(snapshot.to_path_buf());
    }

    /// The identity of the data folder's hub.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The folder.
    pub fn data_folder(&self) -> &Path {
        self.folder.root()
    }

    /// Prepares the next segment before it is needed. Returns `true` if one was made, which takes about 50 ms of disk
    /// time: once after the start and after each roll.
    pub fn prepare_spare(&self) -> io::Result<bool> {
        self.folder.check_ours().map_err(io::Error::other)?;
        if !self.folder.spares()?.is_empty() || self.options.spares_max == 0 {
            return Ok(false);
        }
        let temporary = self.folder.journal().join("spare.tmp");
        append::make_spare(self.folder.disk(), &temporary, &self.free_spare_path()?, self.options.segment_bytes)?;
        Ok(true)
    }

    /// A reader of the records from `from` on, up to `to`.
    pub fn reader(&self, from: u64, to: u64) -> Result<Reader, ReadError> {
        Reader::new(&self.folder, Some(self.identity), from, to)
    }

    /// Writes a snapshot of a hub at a clean stop, after the record `covered_seq`, which must be durable. It is read
    /// back byte by byte, but not restored, since a second hub may not fit into memory.
    pub fn write_snapshot(&self, covered_seq: u64, hub: &Hub) -> Result<SnapshotReport, SnapshotError> {
        let report = replay::write(&self.folder, &self.identity, covered_seq, hub)?;
        let mut reader = super::SnapshotReader::open(self.folder.disk(), &report.file)?;
        while reader.next()?.is_some() {}
        Ok(report)
    }

    /// The size of the journal that a start would replay up to the record `through`, and of the newest snapshot: both
    /// in bytes on disk.
    pub fn growth(&self, through: u64) -> io::Result<(u64, u64)> {
        let newest = self.folder.snapshot_files()?.into_iter().find(|snapshot| snapshot.covered_seq <= through);
        let covered_seq = newest.as_ref().map_or(0, |snapshot| snapshot.covered_seq);
        let snapshot_bytes = newest.map_or(Ok(0), |snapshot| self.folder.disk().len(&snapshot.path))?;
        let mut journal_bytes = 0;
        for segment in self.folder.segments()? {
            if segment.first_seq > covered_seq && segment.first_seq <= through {
                journal_bytes += segment.bytes()?;
            }
        }
        Ok((journal_bytes, snapshot_bytes))
    }

    /// Makes a snapshot without the hub: replays the journal from the last snapshot to the record `through`
    /// ([`Appender::sealed_through`]) and compares the outcome hash at each segment. `progress` returns `false` to
    /// stop. The snapshot is then restored from the disk, and its digest compared.
    pub fn snapshot_by_replay(
        &self,
        through: u64,
        progress: &mut dyn FnMut(Progress) -> bool,
    ) -> Result<SnapshotReport, ReplayError> {
        replay::snapshot_by_replay(&self.folder, &self.identity, through, progress)
    }

    /// Removes all snapshots but the newest ones, and the segments that the *oldest* kept snapshot covers in full, so
    /// that the records after it are available if the newest cannot be read. With only one snapshot the fallback is the
    /// first record, and all segments are kept.
    ///
    /// It needs the report of a snapshot that was just verified; nothing else may truncate a journal.
    pub fn truncate(&self, proven: &SnapshotReport) -> io::Result<Truncated> {
        self.folder.check_ours().map_err(io::Error::other)?;
        let disk = self.folder.disk();
        let mut truncated = Truncated::default();
        let passed_over = self.passed_over.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let all = self.folder.snapshot_files()?;
        let snapshots: Vec<_> = all.iter().filter(|snapshot| !passed_over.contains(&snapshot.path)).collect();
        let Some(newest) = snapshots.first().filter(|newest| newest.covered_seq == proven.covered_seq) else {
            return Ok(truncated);
        };
        let kept = self.options.snapshots_max.max(1);
        let oldest_kept = snapshots.get(kept - 1).map(|oldest| oldest.covered_seq);
        for snapshot in all.iter().filter(|snapshot| oldest_kept.is_some_and(|oldest| snapshot.covered_seq < oldest)) {
            disk.remove(&snapshot.path)?;
            truncated.snapshots_deleted += 1;
        }
        // Before the segments are removed: a snapshot that reappears without its records would look like damage.
        disk.sync_folder(&self.folder.snapshots())?;
        let oldest = if kept == 1 { Some(newest) } else { snapshots.get(kept - 1) };
        let Some(oldest) = oldest else { return Ok(truncated) };
        let segments = self.folder.segments()?;
        for pair in segments.windows(2).take_while(|pair| pair[1].first_seq <= oldest.covered_seq + 1) {
            let segment = &pair[0];
            let is_whole = segment.bytes()? == self.options.segment_bytes;
            if is_whole && self.folder.spares()?.len() < self.options.spares_max {
                disk.rename(&segment.path, &self.free_spare_path()?)?;
                truncated.recycled += 1;
            } else {
                disk.remove(&segment.path)?;
                truncated.deleted += 1;
            }
        }
        disk.sync_folder(&self.folder.journal())?;
        Ok(truncated)
    }

    /// An unused name for a spare: only the background makes spares, so it stays unused meanwhile.
    fn free_spare_path(&self) -> io::Result<std::path::PathBuf> {
        let spares = self.folder.spares()?;
        let free = (0..=spares.len()).map(|number| self.folder.spare_path(number)).find(|path| !spares.contains(path));
        Ok(free.expect("one more name than there are spares"))
    }
}
