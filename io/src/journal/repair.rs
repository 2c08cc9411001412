//! Repairing: makes a damaged data folder startable again, and says what that costs.
//!
//! Nothing is deleted: what is taken out, and the untouched copy of what is rewritten, moves to `quarantine/<time>/`.
//! Damage that the newest snapshot covers costs nothing; damage behind it costs the records from the first bad one on,
//! since a command can only be replayed on the state before it.

use super::append::{AppendError, Appender, Start};
use super::folder::{Folder, LockError, Options, SegmentFile};
use super::format::{self, HEADER_BYTES, Header, Identity};
use super::read::{BadRecord, ReadError, Reader, Reason};
use super::snapshot::SnapshotReader;
use super::verify::{self, SegmentStatus};
use crate::disk::Disk;
use serde::Serialize;
use sheratan_core::Timestamp;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fmt, io};

/// Lost records are looked for up to so many behind the first bad one.
const LOST_SEARCHED: u64 = 1 << 32;

/// What a repair did.
#[derive(Clone, Debug, Serialize)]
pub struct RepairReport {
    /// The damage; `None` if there was none and nothing was done.
    pub damage: Option<BadRecord>,
    /// Where everything went that was taken out; `None` if nothing was.
    pub quarantine: Option<PathBuf>,
    /// The files in it.
    pub moved: Vec<PathBuf>,
    /// The records that are lost; `None` if a snapshot had all that was damaged.
    pub lost: Option<Lost>,
    /// The number of the next record.
    pub next_seq: u64,
}

/// A range of records.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct Lost {
    /// The first.
    pub first_seq: u64,
    /// The last that is known of.
    pub last_seq: u64,
}

/// A data folder cannot be repaired.
#[derive(Debug)]
pub enum RepairError {
    /// A hub runs on it, or the lock cannot be had.
    Lock(LockError),
    /// No segment and no snapshot says whose folder it is.
    NothingReadable(PathBuf),
    /// A file cannot be read, written or moved.
    Io {
        /// The file or folder.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The new segment cannot be written.
    Append(AppendError),
}

/// Cuts the journal at its first bad record and moves what is cut to the quarantine, which is named after `now`.
pub fn repair(data_folder: &Path, options: Options, now: Timestamp) -> Result<RepairReport, RepairError> {
    let folder = Arc::new(Folder::lock(options.disk.clone(), data_folder).map_err(RepairError::Lock)?);
    let mut repair = Repair::new(folder, now)?;
    repair.set_bad_snapshots_aside()?;
    repair.drop_damage_before_snapshot()?;
    if let Some(damage) = repair.first_damage()? {
        repair.cut(damage, options)?;
    }
    repair.report.next_seq = repair.next_seq()?;
    Ok(repair.report)
}

struct Repair {
    folder: Arc<Folder>,
    identity: Identity,
    /// The highest epoch of any segment, also of those that are taken out.
    epoch_last: u64,
    /// The newest readable snapshot's last record, and the outcome hash after it.
    covered_seq: u64,
    covered_hash: [u8; 16],
    quarantine: PathBuf,
    report: RepairReport,
}

impl Repair {
    fn new(folder: Arc<Folder>, now: Timestamp) -> Result<Repair, RepairError> {
        let segments = segments(&folder)?;
        let headers: Vec<_> = segments.iter().filter_map(verify::header).collect();
        let mut identity = headers.last().map(|header| header.identity);
        let epoch_last = headers.iter().map(|header| header.epoch).max().unwrap_or(0);
        let (mut covered_seq, mut covered_hash) = (0, [0; 16]);
        let snapshots =
            folder.snapshot_files().map_err(|source| RepairError::Io { file: folder.snapshots(), source })?;
        if let Some(info) = snapshots.iter().find_map(|file| readable(folder.disk(), &file.path)) {
            identity = identity.or(Some(info.identity));
            (covered_seq, covered_hash) = (info.covered_seq, info.outcome_hash);
        }
        let identity = identity.ok_or_else(|| RepairError::NothingReadable(folder.root().to_path_buf()))?;
        let quarantine = folder.root().join("quarantine").join(name_of(now));
        let report = RepairReport { damage: None, quarantine: None, moved: Vec::new(), lost: None, next_seq: 0 };
        Ok(Repair { folder, identity, epoch_last, covered_seq, covered_hash, quarantine, report })
    }

    fn set_bad_snapshots_aside(&mut self) -> Result<(), RepairError> {
        let snapshots = self.folder.snapshot_files();
        let snapshots = snapshots.map_err(|source| RepairError::Io { file: self.folder.snapshots(), source })?;
        let folder = self.folder.clone();
        let is_bad = |path: &Path| readable(folder.disk(), path).is_none();
        snapshots.iter().filter(|file| is_bad(&file.path)).try_for_each(|file| self.set_aside(&file.path))
    }

    /// Damage in segments that the newest snapshot covers in full: they go, with the older ones and with the snapshots
    /// that would have needed them. No record is lost.
    fn drop_damage_before_snapshot(&mut self) -> Result<(), RepairError> {
        let segments = segments(&self.folder)?;
        let covered = segments.windows(2).take_while(|pair| pair[1].first_seq <= self.covered_seq + 1).count();
        let bad = (0..covered).rev().find_map(|at| {
            let report = verify::check_segment(&segments, at, Some(self.identity), false)?;
            match report.status {
                SegmentStatus::Bad(bad) => Some((at, bad)),
                _ => None,
            }
        });
        let Some((at, bad)) = bad else { return Ok(()) };
        for segment in &segments[..=at] {
            self.set_aside(&segment.path)?;
        }
        let snapshots = self.folder.snapshot_files();
        let snapshots = snapshots.map_err(|source| RepairError::Io { file: self.folder.snapshots(), source })?;
        let first_kept = segments[at + 1].first_seq;
        for snapshot in snapshots.iter().filter(|snapshot| snapshot.covered_seq + 1 < first_kept) {
            self.set_aside(&snapshot.path)?;
        }
        self.report.damage = Some(bad);
        Ok(())
    }

    /// What would stop a start.
    fn first_damage(&self) -> Result<Option<BadRecord>, RepairError> {
        match self.read_on() {
            Ok(_) => Ok(None),
            Err(ReadError::Bad(bad)) => Ok(Some(bad)),
            Err(ReadError::Io { file, source }) => Err(RepairError::Io { file, source }),
        }
    }

    /// The number behind the last record that a start would read.
    fn read_on(&self) -> Result<u64, ReadError> {
        let mut reader = Reader::new(&self.folder, Some(self.identity), self.covered_seq + 1, u64::MAX)?;
        while reader.next()?.is_some() {}
        Ok(reader.next_seq().max(self.covered_seq + 1))
    }

    fn next_seq(&self) -> Result<u64, RepairError> {
        self.read_on().map_err(|error| match error {
            ReadError::Io { file, source } => RepairError::Io { file, source },
            ReadError::Bad(bad) => {
                RepairError::Io { file: bad.file.clone(), source: io::Error::other(bad.to_string()) }
            }
        })
    }

    /// Takes out the segment with the damage and all behind it, and puts back what can be kept of the first.
    fn cut(&mut self, damage: BadRecord, options: Options) -> Result<(), RepairError> {
        let needed_seq = self.covered_seq + 1;
        let all = segments(&self.folder)?;
        // The segment in which reading began and, unless the damage is in a later one, ended.
        let damaged = all.iter().find(|segment| segment.path == damage.file);
        let from = damaged.map_or(0, |damaged| damaged.first_seq);
        let cut: Vec<_> = all.into_iter().filter(|segment| segment.first_seq >= from).collect();
        let mut kept = damaged_rest(&cut, &damage, needed_seq);
        let end_seq = kept.as_ref().map_or(damage.seq.max(needed_seq), |kept| kept.end_seq);
        let last_seq = cut.iter().filter_map(|segment| last_known_seq(segment, end_seq)).max();
        let hinted_seq = match damage.reason {
            Reason::Damaged { next_seq, .. } => next_seq,
            Reason::Hole { next_seq } => next_seq - 1,
            _ => damage.seq,
        };
        let last_seq = last_seq.unwrap_or(0).max(hinted_seq);
        if last_seq >= end_seq {
            self.report.lost = Some(Lost { first_seq: end_seq, last_seq });
        }
        self.replace(&cut, kept.take(), end_seq, options)?;
        self.report.damage = Some(damage);
        Ok(())
    }

    /// First what is kept and a segment for what comes, then the rest out of the way, newest first: interrupted at any
    /// point, the folder is either still damaged, and repaired by another run, or done.
    fn replace(
        &mut self,
        cut: &[SegmentFile],
        kept: Option<Kept>,
        next_seq: u64,
        options: Options,
    ) -> Result<(), RepairError> {
        let kept = kept.filter(|kept| kept.first_seq < kept.end_seq);
        let replaced_seq = kept.as_ref().map_or(next_seq, |kept| kept.first_seq);
        let replaced = cut.iter().position(|segment| segment.first_seq == replaced_seq);
        if let Some(at) = replaced {
            self.copy_aside(&cut[at].path)?;
        }
        let start = Start { epoch_last: self.epoch_last, next_seq, sealed_through: next_seq - 1 };
        let mut appender = Appender::new(self.folder.clone(), options, self.identity, start);
        if let Some(mut kept) = kept {
            let is_at_snapshot = kept.first_seq == self.covered_seq + 1 && self.covered_seq > 0;
            let hash = if is_at_snapshot { Some(self.covered_hash) } else { kept.outcome_hash };
            appender.rewrite(kept.first_seq, hash, &mut kept.records).map_err(RepairError::Append)?;
        }
        // Its epoch is above all that are taken out, should somebody put them back.
        appender.rewrite(next_seq, None, &mut []).map_err(RepairError::Append)?;
        for (_, segment) in cut.iter().enumerate().rev().filter(|(at, _)| Some(*at) != replaced) {
            self.set_aside(&segment.path)?;
        }
        Ok(())
    }

    /// Keeps a file that is about to be replaced.
    fn copy_aside(&mut self, path: &Path) -> Result<(), RepairError> {
        let target = self.quarantine.join(path.file_name().expect("a file of the data folder has a name"));
        let disk = self.folder.disk();
        disk.create_folder(&self.quarantine)
            .and_then(|()| disk.copy(path, &target))
            .and_then(|()| disk.sync_folder(&self.quarantine))
            .map_err(|source| RepairError::Io { file: path.to_path_buf(), source })?;
        self.report.quarantine = Some(self.quarantine.clone());
        self.report.moved.push(target);
        Ok(())
    }

    fn set_aside(&mut self, path: &Path) -> Result<(), RepairError> {
        let name = path.file_name().expect("a file of the data folder has a name");
        let target = self.quarantine.join(name);
        let folder = path.parent().expect("and a folder");
        let disk = self.folder.disk();
        disk.create_folder(&self.quarantine)
            .and_then(|()| disk.rename(path, &target))
            .and_then(|()| disk.sync_folder(&self.quarantine))
            .and_then(|()| disk.sync_folder(folder))
            .map_err(|source| RepairError::Io { file: path.to_path_buf(), source })?;
        self.report.quarantine = Some(self.quarantine.clone());
        self.report.moved.push(target);
        Ok(())
    }
}

/// Whole records of a damaged segment.
struct Kept {
    first_seq: u64,
    /// Behind the last.
    end_seq: u64,
    outcome_hash: Option<[u8; 16]>,
    records: Vec<u8>,
}

/// What can be kept of the first segment that is cut: the records in front of the damage or, if a snapshot has those
/// around the damage, the records that the snapshot does not have.
fn damaged_rest(cut: &[SegmentFile], damage: &BadRecord, needed_seq: u64) -> Option<Kept> {
    let segment = cut.first().filter(|segment| segment.path == damage.file)?;
    let mut bytes = Vec::new();
    segment.read_into(&mut bytes).ok()?;
    let header = Header::decode(&bytes).ok().filter(|header| header.first_seq == segment.first_seq)?;
    let (start, first_seq, outcome_hash) = if damage.seq >= needed_seq {
        (HEADER_BYTES, header.first_seq, header.outcome_hash)
    } else {
        let wanted = needed_seq..needed_seq + 1;
        (format::search(&bytes, damage.offset as usize..bytes.len(), &header.seed(), wanted)?.0, needed_seq, None)
    };
    let (mut offset, mut end_seq) = (start, first_seq);
    while let Some(format::Entry::Record { seq, end, .. }) = format::entry_at(&bytes, offset, &header.seed())
        && seq == end_seq
    {
        (offset, end_seq) = (end, seq + 1);
    }
    Some(Kept { first_seq, end_seq, outcome_hash, records: bytes[start..offset].to_vec() })
}

/// The last record of a segment from `from` on, whatever lies between.
fn last_known_seq(segment: &SegmentFile, from: u64) -> Option<u64> {
    let mut bytes = Vec::new();
    segment.read_into(&mut bytes).ok()?;
    let seed = Header::decode(&bytes).ok()?.seed();
    let (mut offset, mut last_seq) = (HEADER_BYTES, None);
    let (end, seqs) = (format::end_of_content(&bytes, offset), from..from.saturating_add(LOST_SEARCHED));
    while let Some((_, entry)) = format::search(&bytes, offset..end, &seed, seqs.clone()) {
        let (seq, end) = match entry {
            format::Entry::Record { seq, end, .. } => (seq, end),
            format::Entry::Seal { last_seq, end, .. } => (last_seq, end),
        };
        last_seq = last_seq.max(Some(seq));
        offset = end;
    }
    last_seq
}

/// A snapshot's header, if all of it can be read.
fn readable(disk: &dyn Disk, path: &Path) -> Option<super::SnapshotInfo> {
    let mut reader = SnapshotReader::open(disk, path).ok()?;
    while reader.next().ok()?.is_some() {}
    Some(reader.info().clone())
}

fn segments(folder: &Folder) -> Result<Vec<SegmentFile>, RepairError> {
    folder.segments().map_err(|source| RepairError::Io { file: folder.journal(), source })
}

/// A folder's name for an instant, such as `20260115T205203.348Z`.
fn name_of(now: Timestamp) -> String {
    let instant = i64::try_from(now.as_millis()).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    instant.map_or_else(|| now.as_millis().to_string(), |instant| instant.strftime("%Y%m%dT%H%M%S%.3fZ").to_string())
}

impl fmt::Display for RepairReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.damage {
            None if self.moved.is_empty() => return f.write_str("nothing to repair"),
            None => {}
            Some(damage) => writeln!(f, "{damage}")?,
        }
        if let Some(quarantine) = &self.quarantine {
            writeln!(f, "{} files are now in {}", self.moved.len(), quarantine.display())?;
        }
        match &self.lost {
            None => f.write_str("no record is lost: a snapshot has them")?,
            Some(Lost { first_seq, last_seq }) => {
                let count = last_seq - first_seq + 1;
                write!(f, "{count} records are lost: {first_seq} to {last_seq}")?;
            }
        }
        write!(f, "; the journal goes on at record {}", self.next_seq)
    }
}

impl fmt::Display for RepairError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RepairError::Lock(error) => error.fmt(f),
            RepairError::NothingReadable(folder) => {
                write!(f, "nothing in {} can be read: no segment's header and no snapshot", folder.display())
            }
            RepairError::Io { file, source } => write!(f, "{}: {source}", file.display()),
            RepairError::Append(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for RepairError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            RepairError::Lock(error) => Some(error),
            RepairError::NothingReadable(_) => None,
            RepairError::Io { source, .. } => Some(source),
            RepairError::Append(error) => Some(error),
        }
    }
}
