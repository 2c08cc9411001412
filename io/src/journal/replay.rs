//! Replay: applies the journal's records to a core of its own, and compares its outcomes with those of the hub.
//!
//! This is how a hub starts, how snapshots are made without stopping the loop, and how production checks all the time
//! that the state machine is deterministic. Any difference stops the replay with a [`Divergence`].

use super::divergence::{Cause, Divergence};
use super::folder::Folder;
use super::format::Identity;
use super::read::{Item, Mark, ReadError, Reader, Record};
use super::rules;
use super::snapshot::{SnapshotError, SnapshotReader, SnapshotReport, SnapshotWriter};
use crate::disk::Disk;
use sheratan_core::{Envelope, Hub, Outcome, Restore};
use std::fmt;
use std::path::{Path, PathBuf};

/// The progress of a replay.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Progress {
    /// The next record's number.
    pub next_seq: u64,
    /// Records replayed.
    pub records: u64,
    /// Segments that are not replayed completely.
    pub segments_left: usize,
}

impl Progress {
    pub(crate) fn of(reader: &Reader, records: u64) -> Progress {
        Progress { next_seq: reader.next_seq(), records, segments_left: reader.segments_left() }
    }
}

/// Records between two reports of progress: a few milliseconds.
const PROGRESS_RECORDS: u64 = 4_096;

/// Why a snapshot could not be made by replay.
#[derive(Debug)]
pub enum ReplayError {
    /// The replayed core decided differently than the hub. Nothing was written.
    Diverged(Box<Divergence>),
    /// The caller asked to stop.
    Cancelled,
    /// The journal cannot be read.
    Read(ReadError),
    /// The snapshot cannot be written, or not read back.
    Snapshot(SnapshotError),
}

/// Why [`follow`] stopped before the end.
pub(crate) enum Stopped {
    Diverged(Box<Divergence>),
    Cancelled,
    Read(ReadError),
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

    /// Applies a record; the error is how its outcome differs from the one when it was written. This is the only place
    /// where a record is checked against the state. After an error the replica must not be used any more.
    pub fn apply(&mut self, record: &Record<'_>) -> Result<(), Cause> {
        let Envelope { rules, caller, command } =
            Envelope::decode(record.payload).map_err(|error| Cause::Undecodable(error.to_string()))?;
        if rules != self.hub.rules() {
            return Err(Cause::OtherRules { recorded: rules.get(), replayed: self.hub.rules().get() });
        }
        if record.is_batch_start {
            self.hash_before_batch = self.hub.outcome_hash();
        }
        let outcome = self.hub.apply_for(caller, record.now, command);
        self.records += 1;
        match outcome {
            Outcome::Refused(refusal) => Err(Cause::ChangesNothing(format!("refuses it ({refusal:?})"))),
            outcome if !outcome.is_durable() => Err(Cause::ChangesNothing("changes nothing by it".to_owned())),
            _ => Ok(()),
        }
    }

    /// Compares the outcome hash with the one that the hub recorded.
    pub fn compare(&self, mark: Mark) -> Result<(), Cause> {
        let found = self.hub.outcome_hash();
        if found == mark.outcome_hash {
            return Ok(());
        }
        Err(Cause::OutcomeHash { recorded: hex::encode(mark.outcome_hash), replayed: hex::encode(found) })
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
        return Err(reader.unrestorable("it belongs to another hub"));
    }
    let mut restore = Restore::new(identity.key);
    while let Some(record) = reader.next()? {
        if let Err(error) = restore.record(record) {
            return Err(reader.unrestorable(&error.to_string()));
        }
    }
    let hub = match restore.finish() {
        Ok(hub) => hub,
        Err(error) => return Err(reader.unrestorable(&error.to_string())),
    };
    if hub.outcome_hash() != reader.info().outcome_hash {
        return Err(reader.unrestorable("its state has another outcome hash than its header"));
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
    let not_ours = |error| SnapshotError::Io { file: folder.snapshots(), source: std::io::Error::other(error) };
    folder.check_ours().map_err(not_ours)?;
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
    let mut newest = None;
    for snapshot in folder.snapshot_files().map_err(|source| io(folder.snapshots(), source))? {
        if snapshot.covered_seq > through {
            continue;
        }
        match load(folder.disk(), &snapshot.path, identity) {
            Ok(loaded) => {
                newest = Some(loaded);
                break;
            }
            Err(error) if error.is_lost() => {}
            Err(error) => return Err(ReplayError::Snapshot(error)),
        }
    }
    let snapshot_seq = newest.as_ref().map(|(_, seq)| *seq);
    let (hub, covered_seq) = newest.unwrap_or_else(|| (Hub::new(identity.key), 0));
    let mut replica = Replica::new(hub);
    let mut reader = Reader::new(folder, Some(*identity), covered_seq + 1, through).map_err(ReplayError::Read)?;
    follow(&mut replica, &mut reader, folder, snapshot_seq, progress)?;
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

/// Applies all records of the reader to the replica, and compares at each mark. `snapshot_seq` is the newest readable
/// snapshot's last record, which a divergence offers as a way out.
pub(crate) fn follow(
    replica: &mut Replica,
    reader: &mut Reader,
    folder: &Folder,
    snapshot_seq: Option<u64>,
    progress: &mut dyn FnMut(Progress) -> bool,
) -> Result<(), Stopped> {
    let mut agreed_seq = reader.from() - 1;
    loop {
        let (records, cause, written_by) = match reader.next().map_err(Stopped::Read)? {
            None => return Ok(()),
            Some(Item::Mark(mark)) => match replica.compare(mark) {
                Ok(()) => {
                    agreed_seq = mark.seq;
                    continue;
                }
                Err(cause) => (agreed_seq + 1..=mark.seq, cause, mark.written_by),
            },
            Some(Item::Record(record)) => {
                let seq = record.seq;
                match replica.apply(&record) {
                    Ok(()) if replica.is_report_due() && !progress(Progress::of(reader, replica.records)) => {
                        return Err(Stopped::Cancelled);
                    }
                    Ok(()) => continue,
                    Err(cause) => {
                        let written_by = reader.written_by().expect("a record was just read from an open segment");
                        (seq..=seq, cause, written_by)
                    }
                }
            }
        };
        let divergence = Divergence::new(folder, records, cause, written_by, snapshot_seq);
        return Err(Stopped::Diverged(Box::new(divergence)));
    }
}

/// Restores a snapshot from the disk: the journal must not be truncated for a snapshot that cannot be restored.
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

impl From<Stopped> for ReplayError {
    fn from(stopped: Stopped) -> Self {
        match stopped {
            Stopped::Diverged(divergence) => ReplayError::Diverged(divergence),
            Stopped::Cancelled => ReplayError::Cancelled,
            Stopped::Read(error) => ReplayError::Read(error),
        }
    }
}

impl fmt::Display for ReplayError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReplayError::Diverged(divergence) => divergence.fmt(f),
            ReplayError::Cancelled => f.write_str("the replay was cancelled"),
            ReplayError::Read(error) => error.fmt(f),
            ReplayError::Snapshot(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for ReplayError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            ReplayError::Diverged(_) | ReplayError::Cancelled => None,
            ReplayError::Read(error) => Some(error),
            ReplayError::Snapshot(error) => Some(error),
        }
    }
}
