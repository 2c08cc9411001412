//! Replay: applying the journal's records to a core of its own, and comparing what it decides with what the hub decided.
//!
//! This is how a hub starts, how snapshots are made without stopping the loop, and how production proves all day that
//! the state machine is deterministic.

use super::folder::Folder;
use super::format::Identity;
use super::read::{Item, Mark, ReadError, Reader, Record};
use super::recover::Progress;
use super::rules;
use super::snapshot::{SnapshotError, SnapshotReader, SnapshotReport, SnapshotWriter};
use crate::disk::Disk;
use sheratan_core::command::{Command, DecodeError};
use sheratan_core::hub::Hub;
use sheratan_core::snapshot::Restore;
use std::fmt;
use std::path::{Path, PathBuf};

/// Records between two reports of progress: a few milliseconds.
const PROGRESS_RECORDS: u64 = 4_096;

/// A snapshot could not be made by replay.
#[derive(Debug)]
pub enum ReplayError {
    /// The replayed core decided otherwise than the hub did: one of them is wrong, and the journal says which commands
    /// led there. Nothing was written.
    Diverged {
        /// The segment that says what the hub decided.
        file: PathBuf,
        /// The record after which they differ, at the latest.
        seq: u64,
        /// The hub's outcome hash, in hex.
        expected: String,
        /// The replay's outcome hash, in hex.
        found: String,
    },
    /// The caller asked to stop.
    Cancelled,
    /// The journal cannot be read.
    Read(ReadError),
    /// A record is no command of this version.
    Undecodable {
        /// The record.
        seq: u64,
        /// Why.
        source: DecodeError,
    },
    /// The snapshot cannot be written, or not read back.
    Snapshot(SnapshotError),
}

/// A core that follows the journal.
pub(crate) struct Replica {
    pub hub: Hub,
    /// The outcome hash before the last batch.
    pub hash_before_batch: [u8; 16],
    pub records: u64,
}

impl Replica {
    pub fn new(hub: Hub) -> Replica {
        let hash_before_batch = hub.outcome_hash();
        Replica { hub, hash_before_batch, records: 0 }
    }

    pub fn apply(&mut self, record: &Record<'_>) -> Result<(), DecodeError> {
        if record.is_batch_start {
            self.hash_before_batch = self.hub.outcome_hash();
        }
        self.hub.apply(record.now, Command::decode(record.payload)?);
        // Long polls, audit lines and alerts of the past are nobody's business now.
        self.hub.effects().clear();
        self.records += 1;
        Ok(())
    }

    pub fn agrees_with(&self, mark: Mark) -> bool {
        self.hub.outcome_hash() == mark.outcome_hash
    }

    /// Whether it is time to report progress.
    pub fn is_report_due(&self) -> bool {
        self.records.is_multiple_of(PROGRESS_RECORDS)
    }
}

/// The hub that a snapshot holds, and the last record in it.
pub(crate) fn load(disk: &dyn Disk, path: &Path, identity: &Identity) -> Result<(Hub, u64), SnapshotError> {
    let mut reader = SnapshotReader::open(disk, path)?;
    if reader.info().identity != *identity {
        return Err(reader.bad("it belongs to another hub"));
    }
    let mut restore = Restore::new(identity.key);
    while let Some(record) = reader.next()? {
        if let Err(error) = restore.record(record) {
            return Err(reader.bad(&error.to_string()));
        }
    }
    let hub = restore.finish().map_err(|error| reader.bad(&error.to_string()))?;
    if hub.outcome_hash() != reader.info().outcome_hash {
        return Err(reader.bad("its state has another outcome hash than its header"));
    }
    Ok((hub, reader.info().covered_seq))
}

/// Writes a hub's snapshot.
pub(crate) fn write(
    folder: &Folder,
    identity: &Identity,
    covered_seq: u64,
    hub: &Hub,
) -> Result<SnapshotReport, SnapshotError> {
    let mut writer = SnapshotWriter::create(folder, identity, covered_seq, hub.outcome_hash())?;
    hub.snapshot(|record| writer.put(record));
    let (file, bytes, records, digest) = writer.finish()?;
    Ok(SnapshotReport { file, covered_seq, records, bytes, replayed: 0, digest: hex::encode(digest) })
}

/// Follows the journal from the newest snapshot to the record `through` and writes a snapshot there, which is then
/// restored from the disk and has to have the same digest. One core in memory at a time.
pub(crate) fn snapshot_by_replay(
    folder: &Folder,
    identity: &Identity,
    through: u64,
    progress: &mut dyn FnMut(Progress) -> bool,
) -> Result<SnapshotReport, ReplayError> {
    let newest = folder.snapshot_files().map_err(|source| io(folder.snapshots(), source))?.into_iter();
    let newest = newest
        .filter(|snapshot| snapshot.covered_seq <= through)
        .find_map(|s| load(folder.disk(), &s.path, identity).ok());
    let (hub, covered_seq) = newest.unwrap_or_else(|| (Hub::new(identity.key), 0));
    let mut replica = Replica::new(hub);
    let mut reader = Reader::new(folder, Some(*identity), covered_seq + 1, through).map_err(ReplayError::Read)?;
    follow(&mut replica, &mut reader, progress)?;
    if reader.next_seq() != through + 1 {
        let seq = reader.next_seq();
        let bad = super::BadRecord {
            file: reader.file().to_path_buf(),
            offset: reader.offset(),
            seq,
            reason: super::Reason::Missing { first_seq: 0 },
        };
        return Err(ReplayError::Read(ReadError::Bad(bad)));
    }
    let covered_seq = rules::covered_seq(reader.next_seq());
    let report = write(folder, identity, covered_seq, &replica.hub).map_err(ReplayError::Snapshot)?;
    let replayed = replica.records;
    drop(replica);
    prove(folder.disk(), &report, identity).map_err(ReplayError::Snapshot)?;
    Ok(SnapshotReport { replayed, ..report })
}

/// Applies all that the reader gives and compares at each mark.
pub(crate) fn follow(
    replica: &mut Replica,
    reader: &mut Reader,
    progress: &mut dyn FnMut(Progress) -> bool,
) -> Result<(), ReplayError> {
    loop {
        let mark = match reader.next().map_err(ReplayError::Read)? {
            None => return Ok(()),
            Some(Item::Mark(mark)) => mark,
            Some(Item::Record(record)) => {
                let seq = record.seq;
                replica.apply(&record).map_err(|source| ReplayError::Undecodable { seq, source })?;
                if replica.is_report_due() && !progress(Progress::of(reader, replica.records)) {
                    return Err(ReplayError::Cancelled);
                }
                continue;
            }
        };
        if !replica.agrees_with(mark) {
            return Err(ReplayError::Diverged {
                file: reader.file().to_path_buf(),
                seq: mark.seq,
                expected: hex::encode(mark.outcome_hash),
                found: hex::encode(replica.hub.outcome_hash()),
            });
        }
    }
}

/// Restores a snapshot from the disk: what cannot be restored must not let the journal be truncated.
fn prove(disk: &dyn Disk, report: &SnapshotReport, identity: &Identity) -> Result<(), SnapshotError> {
    let (hub, _) = load(disk, &report.file, identity)?;
    let digest = hex::encode(hub.digest());
    if digest == report.digest {
        return Ok(());
    }
    let reason = format!("restored, the hub has the digest {digest}, not {}", report.digest);
    Err(SnapshotError::Bad { file: report.file.clone(), offset: 0, reason })
}

fn io(file: PathBuf, source: std::io::Error) -> ReplayError {
    ReplayError::Snapshot(SnapshotError::Io { file, source })
}

impl fmt::Display for ReplayError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReplayError::Diverged { file, seq, expected, found } => write!(
                f,
                "replayed up to record {seq}, the core has the outcome hash {found}, but {} says {expected}: keep the data folder and report it; `sheratan-hub journal verify --replay` shows it again",
                file.display()
            ),
            ReplayError::Cancelled => f.write_str("the replay was cancelled"),
            ReplayError::Read(error) => error.fmt(f),
            ReplayError::Undecodable { seq, source } => write!(f, "record {seq} cannot be applied: {source}"),
            ReplayError::Snapshot(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for ReplayError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            ReplayError::Diverged { .. } | ReplayError::Cancelled => None,
            ReplayError::Read(error) => Some(error),
            ReplayError::Undecodable { source, .. } => Some(source),
            ReplayError::Snapshot(error) => Some(error),
        }
    }
}
