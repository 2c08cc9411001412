//! Verifying: reads everything in a data folder, changes nothing, and reports each segment and snapshot.
//!
//! It takes no lock, so a running hub's journal can be verified; concurrent appends and truncations are not reported.

use super::build::Build;
use super::divergence::Divergence;
use super::folder::{Folder, SegmentFile};
use super::format::{Header, Identity};
use super::read::{BadRecord, Item, ReadError, Reader, Reason, Unreadable};
use super::replay::{self, ReplayError, Replica};
use super::snapshot::{self, SnapshotReader};
use super::tail::{Tail, TornTail};
use crate::disk::Disk;
use serde::Serialize;
use sheratan_core::Hub;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fmt, io};

/// How often the newest segment of a running hub is read again if it seems damaged: reading takes longer than several
/// appends, so its later blocks may be newer than its earlier ones.
const RUNNING_ATTEMPTS: usize = 5;

/// What is in a data folder.
#[derive(Clone, Debug, Serialize)]
pub struct VerifyReport {
    /// The folder.
    pub data_folder: PathBuf,
    /// The hub it belongs to, in hex; `None` if nothing could be read.
    pub hub_id: Option<String>,
    /// Whether a hub runs on it.
    pub is_in_use: bool,
    /// Oldest first.
    pub segments: Vec<SegmentReport>,
    /// Newest first.
    pub snapshots: Vec<SnapshotCheck>,
    /// Why a hub could not start on it, if so; also set for damage that a snapshot covers.
    pub problem: Option<BadRecord>,
    /// The result of a replay, if one was asked for and nothing else was wrong.
    pub replay: Option<ReplayCheck>,
}

/// A segment.
#[derive(Clone, Debug, Serialize)]
pub struct SegmentReport {
    /// Its file.
    pub file: PathBuf,
    /// Its epoch; `None` if the header cannot be read.
    pub epoch: Option<u64>,
    /// The build that made it; `None` if the header cannot be read.
    pub written_by: Option<Build>,
    /// Its first record.
    pub first_seq: u64,
    /// Whole records, up to the next segment's first.
    pub records: u64,
    /// The file's size.
    pub bytes: u64,
    /// How it ends.
    pub status: SegmentStatus,
    /// What the disk does not give of it behind its records.
    pub unreadable: Vec<Unreadable>,
}

/// How a segment ends.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SegmentStatus {
    /// With its seal.
    Sealed,
    /// Without a seal, at the next segment's beginning: after a failed write, or a torn tail.
    Superseded,
    /// It is the last one, and a hub writes to it or will.
    Open,
    /// It is the last one, and its last batch was never acknowledged.
    Torn(TornTail),
    /// A record is damaged or missing.
    Bad(BadRecord),
    /// The system could not read it.
    Unreadable(String),
}

/// A snapshot.
#[derive(Clone, Debug, Serialize)]
pub struct SnapshotCheck {
    /// Its file.
    pub file: PathBuf,
    /// The last record in it.
    pub covered_seq: u64,
    /// The build that made it; `None` if the header cannot be read.
    pub written_by: Option<Build>,
    /// Its records.
    pub records: u64,
    /// The file's size.
    pub bytes: u64,
    /// What is wrong with it; `None` if it is intact.
    pub problem: Option<String>,
}

/// The result of a replay of the whole journal.
#[derive(Clone, Debug, Serialize)]
pub struct ReplayCheck {
    /// Records applied.
    pub records: u64,
    /// The hub's digest after them, in hex.
    pub digest: String,
    /// How the replay diverged from the hub's decisions; `None` if it did not.
    pub problem: Option<String>,
    /// The divergence in its parts, unless a file could not be read.
    pub divergence: Option<Box<Divergence>>,
}

/// Reads all segments and snapshots; with `is_replayed` also replays them from the oldest restorable state, and
/// compares each outcome hash. Fails only if the folder itself cannot be read.
pub fn verify(data_folder: &Path, is_replayed: bool) -> io::Result<VerifyReport> {
    read_all(&Folder::unlocked(data_folder), is_replayed).map(|(report, _)| report)
}

/// As [`verify`], of a folder on any disk.
pub fn verify_on(disk: Arc<dyn Disk>, data_folder: &Path, is_replayed: bool) -> io::Result<VerifyReport> {
    read_all(&Folder::unlocked_on(disk, data_folder), is_replayed).map(|(report, _)| report)
}

/// As [`verify`] with a replay; also returns the replayed hub, if nothing was wrong.
pub fn inspect(data_folder: &Path) -> io::Result<(VerifyReport, Option<Hub>)> {
    read_all(&Folder::unlocked(data_folder), true)
}

/// Whether a hub runs on a data folder at the moment.
pub fn is_in_use(data_folder: &Path) -> bool {
    Folder::unlocked(data_folder).is_locked()
}

fn read_all(folder: &Folder, is_replayed: bool) -> io::Result<(VerifyReport, Option<Hub>)> {
    if folder.disk().names(&folder.journal()).is_err_and(|error| is_no_folder(&error)) {
        let detail = format!("{} is no data folder: there is no folder journal in it", folder.root().display());
        return Err(io::Error::new(io::ErrorKind::NotFound, detail));
    }
    let is_in_use = folder.is_locked();
    let files = folder.segments()?;
    let identity = files.iter().rev().find_map(header).map(|header| header.identity);
    let segments: Vec<_> = (0..files.len()).filter_map(|at| check_segment(&files, at, identity, is_in_use)).collect();
    let snapshots: Vec<_> = folder
        .snapshot_files()?
        .into_iter()
        .map(|file| check_snapshot(folder.disk(), &file.path, file.covered_seq))
        .collect();
    let problem = problem(folder, &segments, &snapshots);
    let mut report = VerifyReport {
        data_folder: folder.root().to_path_buf(),
        hub_id: identity.map(|identity| identity.hub_id.to_string()),
        is_in_use,
        segments,
        snapshots,
        problem,
        replay: None,
    };
    let mut hub = None;
    if let (true, true, Some(identity)) = (is_replayed, report.is_ok(), identity) {
        let (check, replayed) = replay_all(folder, &identity, &report);
        (report.replay, hub) = (Some(check), replayed);
    }
    Ok((report, hub))
}

impl VerifyReport {
    /// Whether a hub can start on it and nothing is damaged.
    pub fn is_ok(&self) -> bool {
        self.problem.is_none()
            && self.snapshots.iter().all(|snapshot| snapshot.problem.is_none())
            && self.replay.as_ref().is_none_or(|replay| replay.problem.is_none())
            && !self.segments.iter().any(|segment| matches!(segment.status, SegmentStatus::Unreadable(_)))
    }

    /// The last record that can be read without a gap; 0 if there is none.
    pub fn last_seq(&self) -> u64 {
        let bad = |segment: &&SegmentReport| matches!(segment.status, SegmentStatus::Bad(_));
        let last = self.segments.iter().find(bad).or(self.segments.last());
        last.map_or(0, |segment| (segment.first_seq + segment.records).saturating_sub(1))
    }
}

fn is_no_folder(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// Reads one segment up to the start of the next one. `None` if a running hub removed it.
pub(crate) fn check_segment(
    files: &[SegmentFile],
    at: usize,
    identity: Option<Identity>,
    is_in_use: bool,
) -> Option<SegmentReport> {
    let file = &files[at];
    let is_last = at + 1 == files.len();
    let mut attempts_left = if is_in_use && is_last { RUNNING_ATTEMPTS } else { 1 };
    let (records, status, unreadable) = loop {
        attempts_left -= 1;
        let (records, status, unreadable) = read_segment(files, at, identity);
        match status {
            SegmentStatus::Torn(_) | SegmentStatus::Bad(_) if attempts_left > 0 => {}
            // The remains that look torn are being written.
            SegmentStatus::Torn(_) if is_in_use => break (records, SegmentStatus::Open, unreadable),
            status => break (records, status, unreadable),
        }
    };
    let bytes = match file.bytes() {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound && is_in_use => return None,
        Err(_) => 0,
    };
    let (epoch, written_by) = header(file).map(|header| (header.epoch, header.written_by)).unzip();
    let (file, first_seq) = (file.path.clone(), file.first_seq);
    Some(SegmentReport { file, epoch, written_by, first_seq, records, bytes, status, unreadable })
}

fn read_segment(files: &[SegmentFile], at: usize, identity: Option<Identity>) -> (u64, SegmentStatus, Vec<Unreadable>) {
    let first_seq = files[at].first_seq;
    let next = files.get(at + 1);
    let to = next.map_or(u64::MAX, |next| next.first_seq - 1);
    let alone: Vec<_> = files[at..].iter().take(2).cloned().collect();
    let mut reader = Reader::over(alone, 0, identity, first_seq, to);
    let mut sealed_seq = None;
    let mut records = 0;
    let error = loop {
        match reader.next() {
            Ok(Some(Item::Record(_))) => records += 1,
            // The first mark, before any record, is the header's.
            Ok(Some(Item::Mark(mark))) => sealed_seq = Some(mark.seq),
            Ok(None) => break None,
            Err(error) => break Some(error),
        }
    };
    let status = match (error, reader.tail()) {
        (Some(ReadError::Bad(bad)), _) => SegmentStatus::Bad(bad),
        (Some(error), _) => SegmentStatus::Unreadable(error.to_string()),
        (None, Some(Tail::Torn(torn))) => SegmentStatus::Torn(torn.clone()),
        (None, Some(Tail::Clean)) => SegmentStatus::Open,
        (None, _) if records > 0 && sealed_seq == Some(first_seq + records - 1) => SegmentStatus::Sealed,
        (None, _) => SegmentStatus::Superseded,
    };
    (records, status, reader.unreadable().to_vec())
}

fn check_snapshot(disk: &dyn Disk, path: &Path, covered_seq: u64) -> SnapshotCheck {
    let bytes = disk.len(path).unwrap_or(0);
    let (mut records, mut written_by) = (0, None);
    let read = || -> Result<(), snapshot::SnapshotError> {
        let mut reader = SnapshotReader::open(disk, path)?;
        written_by = Some(reader.info().written_by);
        if reader.info().covered_seq != covered_seq {
            return Err(reader.bad("its header covers another record than its name says"));
        }
        while reader.next()?.is_some() {
            records = reader.records();
        }
        Ok(())
    };
    let mut read = read;
    let problem = read().err().map(|error| error.to_string());
    SnapshotCheck { file: path.to_path_buf(), covered_seq, written_by, records, bytes, problem }
}

/// The first damage, or the gap between the newest snapshot and the oldest segment.
fn problem(folder: &Folder, segments: &[SegmentReport], snapshots: &[SnapshotCheck]) -> Option<BadRecord> {
    let covered_seq = snapshots.iter().find(|s| s.problem.is_none()).map_or(0, |snapshot| snapshot.covered_seq);
    let bad = segments.iter().find_map(|segment| match &segment.status {
        SegmentStatus::Bad(bad) => Some(bad.clone()),
        _ => None,
    });
    let first_seq = segments.first().map(|segment| segment.first_seq);
    if first_seq.is_some_and(|first_seq| first_seq <= covered_seq + 1) {
        return bad;
    }
    let reason = Reason::Missing { first_seq: first_seq.unwrap_or(0) };
    Some(BadRecord { file: folder.segment_path(covered_seq + 1), offset: 0, seq: covered_seq + 1, reason })
}

fn replay_all(folder: &Folder, identity: &Identity, report: &VerifyReport) -> (ReplayCheck, Option<Hub>) {
    let from_start = report.segments.first().is_some_and(|segment| segment.first_seq == 1);
    let oldest = report.snapshots.last().filter(|_| !from_start);
    let newest_seq = report.snapshots.first().map(|snapshot| snapshot.covered_seq);
    let run = || -> Result<Replica, (u64, ReplayError)> {
        let (hub, covered_seq) = match oldest {
            Some(snapshot) => replay::load(folder.disk(), &snapshot.file, identity)
                .map_err(|error| (0, ReplayError::Snapshot(error)))?,
            None => (Hub::new(identity.key), 0),
        };
        let mut replica = Replica::new(hub);
        let mut reader = Reader::new(folder, Some(*identity), covered_seq + 1, report.last_seq())
            .map_err(|error| (0, ReplayError::Read(error)))?;
        replay::follow(&mut replica, &mut reader, folder, newest_seq, &mut |_| true)
            .map_err(|stopped| (replica.records, stopped.into()))?;
        Ok(replica)
    };
    match run() {
        Ok(Replica { hub, records, .. }) => {
            let digest = hex::encode(hub.digest());
            (ReplayCheck { records, digest, problem: None, divergence: None }, Some(hub))
        }
        Err((records, error)) => {
            let problem = Some(error.to_string());
            let divergence = match error {
                ReplayError::Diverged(divergence) => Some(divergence),
                _ => None,
            };
            (ReplayCheck { records, digest: String::new(), problem, divergence }, None)
        }
    }
}

/// A segment's header, if it can be read.
pub(crate) fn header(file: &SegmentFile) -> Option<Header> {
    file.header().ok()?.ok()
}

impl fmt::Display for VerifyReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hub = self.hub_id.as_deref().unwrap_or("unknown");
        let in_use = if self.is_in_use { ", in use by a running hub" } else { "" };
        writeln!(f, "{}: hub {hub}{in_use}", self.data_folder.display())?;
        for snapshot in &self.snapshots {
            let SnapshotCheck { file, covered_seq, written_by, records, bytes, problem } = snapshot;
            let build = written_by.map_or_else(String::new, |build| format!(", build {build}"));
            let state = problem.as_deref().unwrap_or("ok");
            let name = file_name(file);
            writeln!(f, "  {name}  covers record {covered_seq}, {records} entries, {bytes} bytes{build}: {state}")?;
        }
        for segment in &self.segments {
            writeln!(f, "  {segment}")?;
        }
        if let Some(replay) = &self.replay {
            let state = replay.problem.as_deref().unwrap_or("agrees with what the hub decided");
            writeln!(f, "  replay of {} records: {state}", replay.records)?;
        }
        match &self.problem {
            Some(bad) if !bad.reason.is_damage() => bad.fmt(f),
            Some(bad) => {
                write!(f, "damaged: {bad}: {}", bad.reason.advice())
            }
            None if self.is_ok() => write!(f, "ok: records up to {}", self.last_seq()),
            None => f.write_str("damaged: see above"),
        }
    }
}

impl fmt::Display for SegmentReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let SegmentReport { file, epoch, written_by, first_seq, records, bytes, status, unreadable } = self;
        write!(f, "{}  records {first_seq} to {}, ", file_name(file), (first_seq + records).saturating_sub(1))?;
        if let Some(epoch) = epoch {
            write!(f, "epoch {epoch}, ")?;
        }
        write!(f, "{bytes} bytes")?;
        if let Some(build) = written_by {
            write!(f, ", build {build}")?;
        }
        f.write_str(": ")?;
        match status {
            SegmentStatus::Sealed => f.write_str("sealed"),
            SegmentStatus::Superseded => f.write_str("ok, goes on in the next"),
            SegmentStatus::Open => f.write_str("open"),
            SegmentStatus::Torn(torn) => torn.fmt(f),
            SegmentStatus::Bad(bad) => bad.fmt(f),
            SegmentStatus::Unreadable(error) => f.write_str(error),
        }?;
        unreadable.iter().try_for_each(|Unreadable { offset, bytes, .. }| {
            write!(f, "; the disk does not give the {bytes} bytes at offset {offset}, behind the records")
        })
    }
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
