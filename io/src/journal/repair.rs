//! Repairing: makes a damaged data folder startable again, and reports the lost records.
//!
//! Nothing is deleted: removed files, and the original copies of rewritten ones, move to `quarantine/<time>/`. Damage
//! that the newest snapshot covers costs nothing; damage after it costs the records from the first bad one on, since a
//! command can only be replayed on the state before it. `rewind.rs` goes back to a snapshot on purpose.

use super::append::{AppendError, Appender, Start};
use super::build::Build;
use super::folder::{self, Folder, LockError, Options, SegmentFile, SnapshotFile};
use super::format::{self, HEADER_BYTES, Header, HeaderError, Identity, WrongVersion};
use super::lost::Lost;
use super::read::{BadRecord, ReadError, Reader};
use super::snapshot::{SnapshotError, SnapshotReader};
use super::verify::{self, SegmentStatus};
use crate::disk::{self, Disk};
use serde::Serialize;
use sheratan_core::{Hub, Timestamp};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fmt, io};

/// What a loss means for those who have ids.
pub(crate) const ORPHANED_IDS: &str =
    "; ids of lost jobs and leases name nothing from now on (404 unknown_job, 409 lease_lost), and are not given again";

/// What a repair did.
#[derive(Clone, Debug, Serialize)]
pub struct RepairReport {
    /// The damage; `None` if there was none and nothing was done.
    pub damage: Option<BadRecord>,
    /// The folder of the removed files; `None` if there are none.
    pub quarantine: Option<PathBuf>,
    /// The files in it.
    pub moved: Vec<PathBuf>,
    /// The records that are lost; `None` if a snapshot covers the damage.
    pub lost: Option<Lost>,
    /// The number of the next record.
    pub next_seq: u64,
    /// Snapshots that had been set aside, are whole, and have their names again.
    pub put_back: Vec<PathBuf>,
}

/// Why a data folder cannot be repaired.
#[derive(Debug)]
pub enum RepairError {
    /// The folder cannot be locked.
    Lock(LockError),
    /// No segment and no snapshot is readable, so the folder's hub is unknown.
    NothingReadable(PathBuf),
    /// A file has another format version: it is not damaged, but only another build can read and repair it.
    Version {
        /// The file.
        file: PathBuf,
        /// Its format version.
        version: u32,
    },
    /// A snapshot is whole, but this build cannot restore it.
    Snapshot(SnapshotError),
    /// No record and no snapshot would be left, and that was not accepted. Nothing was changed.
    LosesAll {
        /// Why.
        damage: Box<BadRecord>,
        /// The records.
        lost: Lost,
    },
    /// There is no state to go back to.
    NoSnapshot {
        /// The data folder.
        folder: PathBuf,
        /// Why each existing snapshot cannot be read.
        problems: Vec<String>,
        /// The build that made the newest segment.
        written_by: Option<Build>,
    },
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

/// Cuts the journal at its first bad record and moves the rest to the quarantine, which is named after `now`. Refuses
/// to leave nothing, unless `is_loss_accepted`.
pub fn repair(
    data_folder: &Path,
    options: Options,
    now: Timestamp,
    is_loss_accepted: bool,
) -> Result<RepairReport, RepairError> {
    let folder = lock(data_folder, &options)?;
    let put_back = put_good_snapshots_back(&folder)?;
    let mut repair = Repair::new(folder, now)?;
    repair.report.put_back = put_back;
    if !is_loss_accepted {
        repair.refuse_to_lose_all()?;
    }
    repair.set_bad_snapshots_aside()?;
    repair.drop_damage_before_snapshot()?;
    if let Some(damage) = repair.first_damage()? {
        repair.cut(damage, options)?;
    }
    repair.report.next_seq = repair.next_seq()?;
    Ok(repair.report)
}

/// Locks a data folder; refuses any other folder.
pub(crate) fn lock(data_folder: &Path, options: &Options) -> Result<Arc<Folder>, RepairError> {
    if !Folder::unlocked_on(options.disk.clone(), data_folder).is_data_folder() {
        return Err(RepairError::NothingReadable(data_folder.to_path_buf()));
    }
    Folder::lock(options.disk.clone(), data_folder).map(Arc::new).map_err(RepairError::Lock)
}

/// A data folder that is being repaired.
pub(crate) struct Repair {
    pub folder: Arc<Folder>,
    pub identity: Identity,
    /// The highest epoch of any segment, removed ones included.
    epoch_last: u64,
    /// The newest readable snapshot's last record, and the outcome hash after it.
    pub covered_seq: u64,
    pub covered_hash: [u8; 16],
    quarantine: PathBuf,
    pub report: RepairReport,
}

impl Repair {
    pub fn new(folder: Arc<Folder>, now: Timestamp) -> Result<Repair, RepairError> {
        let segments = segments(&folder)?;
        refuse_other_versions(&folder, &segments)?;
        let headers: Vec<_> = segments.iter().filter_map(verify::header).collect();
        let mut identity = headers.last().map(|header| header.identity);
        let epoch_last = headers.iter().map(|header| header.epoch).max().unwrap_or(0);
        let mut covered = None;
        let snapshots = snapshot_files(&folder)?;
        for file in &snapshots {
            if let Some(info) = readable(folder.disk(), &file.path)? {
                identity = identity.or(Some(info.identity));
                covered = Some((info.covered_seq, info.outcome_hash));
                break;
            }
        }
        let identity = identity.ok_or_else(|| RepairError::NothingReadable(folder.root().to_path_buf()))?;
        let (covered_seq, covered_hash) = covered.unwrap_or_else(|| (0, Hub::new(identity.key).outcome_hash()));
        let quarantine = unused_quarantine(&folder, now);
        let report = RepairReport {
            damage: None,
            quarantine: None,
            moved: Vec::new(),
            lost: None,
            next_seq: 0,
            put_back: Vec::new(),
        };
        Ok(Repair { folder, identity, epoch_last, covered_seq, covered_hash, quarantine, report })
    }

    fn set_bad_snapshots_aside(&mut self) -> Result<(), RepairError> {
        for file in snapshot_files(&self.folder)? {
            if readable(self.folder.disk(), &file.path)?.is_none() {
                self.set_aside(&file.path)?;
            }
        }
        Ok(())
    }

    /// An error if the repair would leave neither a record nor a snapshot.
    fn refuse_to_lose_all(&self) -> Result<(), RepairError> {
        let Some(damage) = self.first_damage()?.filter(|_| self.covered_seq == 0) else { return Ok(()) };
        let Cut { cut, kept, end_seq } = self.plan_cut(&damage)?;
        match Lost::with(&damage, &cut, end_seq) {
            Some(lost) if kept.is_none_or(|kept| kept.first_seq == kept.end_seq) && end_seq == 1 => {
                Err(RepairError::LosesAll { damage: Box::new(damage), lost })
            }
            _ => Ok(()),
        }
    }

    /// Removes damaged segments that the newest snapshot covers in full, with the older segments and the snapshots that
    /// need them. No record is lost.
    pub fn drop_damage_before_snapshot(&mut self) -> Result<(), RepairError> {
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
        let first_kept = segments[at + 1].first_seq;
        for snapshot in snapshot_files(&self.folder)?.iter().filter(|snapshot| snapshot.covered_seq + 1 < first_kept) {
            self.set_aside(&snapshot.path)?;
        }
        self.report.damage = Some(bad);
        Ok(())
    }

    /// The first damage that would prevent a start.
    pub fn first_damage(&self) -> Result<Option<BadRecord>, RepairError> {
        match self.read_on() {
            Ok(_) => Ok(None),
            Err(ReadError::Bad(bad)) => Ok(Some(bad)),
            Err(ReadError::Io { file, source }) => Err(RepairError::Io { file, source }),
        }
    }

    /// The number after the last record that a start would read.
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

    /// Removes the segment with the damage and all later ones, and puts back the records of the first that can be kept.
    fn cut(&mut self, damage: BadRecord, options: Options) -> Result<(), RepairError> {
        let Cut { cut, kept, end_seq } = self.plan_cut(&damage)?;
        self.report.lost = Lost::with(&damage, &cut, end_seq);
        self.replace(&cut, kept, end_seq, None, options)?;
        self.report.damage = Some(damage);
        Ok(())
    }

    fn plan_cut(&self, damage: &BadRecord) -> Result<Cut, RepairError> {
        let needed_seq = self.covered_seq + 1;
        let all = segments(&self.folder)?;
        // The segment in which reading began and, unless the damage is in a later one, ended.
        let damaged = all.iter().find(|segment| segment.path == damage.file);
        let from = damaged.map_or(0, |damaged| damaged.first_seq);
        let cut: Vec<_> = all.into_iter().filter(|segment| segment.first_seq >= from).collect();
        let kept = damaged_rest(&cut, damage, needed_seq);
        let end_seq = kept.as_ref().map_or(damage.seq.max(needed_seq), |kept| kept.end_seq);
        Ok(Cut { cut, kept, end_seq })
    }

    /// First writes the kept records and a segment for the next ones, then moves the rest aside, newest first. If it is
    /// interrupted at any point, the folder is either still damaged, and another run repairs it, or repaired.
    /// `outcome_hash` is the one before the record `next_seq`, if it is known.
    pub fn replace(
        &mut self,
        cut: &[SegmentFile],
        kept: Option<Kept>,
        next_seq: u64,
        outcome_hash: Option<[u8; 16]>,
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
        // Its epoch is above those of the removed segments, in case they are put back.
        appender.rewrite(next_seq, outcome_hash, &mut []).map_err(RepairError::Append)?;
        for (_, segment) in cut.iter().enumerate().rev().filter(|(at, _)| Some(*at) != replaced) {
            self.set_aside(&segment.path)?;
        }
        Ok(())
    }

    /// Links a file that is about to be replaced into the quarantine.
    fn copy_aside(&mut self, path: &Path) -> Result<(), RepairError> {
        self.keep(path, |disk, target| disk.copy(path, target))
    }

    /// Copies the bytes of a file that stays, and may be overwritten later, to the quarantine.
    pub fn copy_bytes_aside(&mut self, path: &Path) -> Result<(), RepairError> {
        self.keep(path, |disk, target| {
            let mut bytes = Vec::new();
            disk.read_into(path, &mut bytes)?;
            let mut file = disk.create(target)?;
            disk::write(&mut *file, &bytes)?;
            file.sync()
        })
    }

    pub fn set_aside(&mut self, path: &Path) -> Result<(), RepairError> {
        self.keep(path, |disk, target| disk.rename(path, target))?;
        let folder = path.parent().expect("a file of the data folder is in a folder");
        let synced = self.folder.disk().sync_folder(folder);
        synced.map_err(|source| RepairError::Io { file: path.to_path_buf(), source })
    }

    /// Durable when it returns, the quarantine's own name included: lost records must stay available there.
    fn keep(&mut self, path: &Path, keep: impl FnOnce(&dyn Disk, &Path) -> io::Result<()>) -> Result<(), RepairError> {
        let target = self.quarantine.join(path.file_name().expect("a file of the data folder has a name"));
        let disk = self.folder.disk();
        folder::create_durably(disk, &self.quarantine)
            .and_then(|()| keep(disk, &target))
            .and_then(|()| disk.sync_folder(&self.quarantine))
            .map_err(|source| RepairError::Io { file: path.to_path_buf(), source })?;
        self.report.quarantine = Some(self.quarantine.clone());
        self.report.moved.push(target);
        Ok(())
    }
}

/// Where a repair cuts.
struct Cut {
    /// The segment with the damage and all later ones.
    cut: Vec<SegmentFile>,
    /// The records of the first of them that stay.
    kept: Option<Kept>,
    /// The number after the last record that stays.
    end_seq: u64,
}

/// Complete records of a damaged segment.
pub(crate) struct Kept {
    first_seq: u64,
    /// The number after the last one.
    end_seq: u64,
    outcome_hash: Option<[u8; 16]>,
    records: Vec<u8>,
}

/// The records of the first cut segment that can be kept: those before the damage or, if a snapshot covers the damage,
/// those that the snapshot does not have.
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

/// Refuses files of another format version: they cannot be read, but are not damaged.
fn refuse_other_versions(folder: &Folder, segments: &[SegmentFile]) -> Result<(), RepairError> {
    for segment in segments {
        if let Ok(Err(HeaderError::Version(version))) = segment.header() {
            return Err(RepairError::Version { file: segment.path.clone(), version });
        }
    }
    let mut snapshots: Vec<_> = snapshot_files(folder)?.into_iter().map(|file| file.path).collect();
    snapshots.extend(set_aside_snapshots(folder)?);
    for path in snapshots {
        match SnapshotReader::open(folder.disk(), &path) {
            Err(SnapshotError::Version { file, version }) => return Err(RepairError::Version { file, version }),
            Err(error @ SnapshotError::Unrestorable { .. }) => return Err(RepairError::Snapshot(error)),
            _ => {}
        }
    }
    Ok(())
}

/// A snapshot's header, if the whole snapshot can be read.
fn readable(disk: &dyn Disk, path: &Path) -> Result<Option<super::SnapshotInfo>, RepairError> {
    let read = || {
        let mut reader = SnapshotReader::open(disk, path)?;
        while reader.next()?.is_some() {}
        Ok(reader.info().clone())
    };
    match read() {
        Ok(info) => Ok(Some(info)),
        Err(error) if SnapshotError::is_lost(&error) => Ok(None),
        Err(SnapshotError::Io { file, source }) => Err(RepairError::Io { file, source }),
        Err(error) => Err(RepairError::Snapshot(error)),
    }
}

/// Gives snapshots that a start set aside their names again, if they are whole and of this hub: an earlier release set
/// them aside for any reason.
fn put_good_snapshots_back(folder: &Folder) -> Result<Vec<PathBuf>, RepairError> {
    let segments = segments(folder)?;
    refuse_other_versions(folder, &segments)?;
    let identity = segments.iter().rev().find_map(verify::header).map(|header| header.identity);
    let disk = folder.disk();
    let mut put_back = Vec::new();
    for path in set_aside_snapshots(folder)? {
        let Some(info) = readable(disk, &path)? else { continue };
        let target = folder.snapshot_path(info.covered_seq);
        let is_own = identity.is_none_or(|identity| identity == info.identity);
        if is_own && path.with_extension("snap") == target && disk.len(&target).is_err() {
            let renamed = disk::rename_durably(disk, &path, &target);
            renamed.map_err(|source| RepairError::Io { file: path, source })?;
            put_back.push(target);
        }
    }
    Ok(put_back)
}

fn set_aside_snapshots(folder: &Folder) -> Result<Vec<PathBuf>, RepairError> {
    folder.set_aside_snapshots().map_err(|source| RepairError::Io { file: folder.snapshots(), source })
}

pub(crate) fn segments(folder: &Folder) -> Result<Vec<SegmentFile>, RepairError> {
    folder.segments().map_err(|source| RepairError::Io { file: folder.journal(), source })
}

pub(crate) fn snapshot_files(folder: &Folder) -> Result<Vec<SnapshotFile>, RepairError> {
    folder.snapshot_files().map_err(|source| RepairError::Io { file: folder.snapshots(), source })
}

/// A folder that does not exist yet, so that no file of an earlier repair is overwritten.
fn unused_quarantine(folder: &Folder, now: Timestamp) -> PathBuf {
    let (all, name) = (folder.root().join("quarantine"), name_of(now));
    let names = (2..).map(|run| all.join(format!("{name}-{run}")));
    let mut names = std::iter::once(all.join(&name)).chain(names);
    names.find(|path| folder.disk().names(path).is_err()).expect("the names never end")
}

/// A folder's name for an instant, such as `20260115T205203.348Z`.
fn name_of(now: Timestamp) -> String {
    let instant = i64::try_from(now.as_millis()).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    instant.map_or_else(|| now.as_millis().to_string(), |instant| instant.strftime("%Y%m%dT%H%M%S%.3fZ").to_string())
}

impl fmt::Display for RepairReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for snapshot in &self.put_back {
            writeln!(f, "the snapshot {} had been set aside, is whole, and is used again", snapshot.display())?;
        }
        match &self.damage {
            None if self.moved.is_empty() && self.put_back.is_empty() => return f.write_str("nothing to repair"),
            None => {}
            Some(damage) => writeln!(f, "{damage}")?,
        }
        if let Some(quarantine) = &self.quarantine {
            writeln!(f, "{} files are now in {}", self.moved.len(), quarantine.display())?;
        }
        match &self.lost {
            None => f.write_str("no record is lost: a snapshot has them")?,
            Some(lost) => write!(f, "lost: {lost}")?,
        }
        write!(f, "; the journal goes on at record {}", self.next_seq)?;
        if self.lost.is_some() { f.write_str(ORPHANED_IDS) } else { Ok(()) }
    }
}

impl fmt::Display for RepairError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RepairError::Lock(error) => error.fmt(f),
            RepairError::NothingReadable(folder) => {
                write!(f, "nothing in {} can be read: no segment's header and no snapshot", folder.display())
            }
            RepairError::Version { file, version } => write!(f, "{} has {}", file.display(), WrongVersion(*version)),
            RepairError::Snapshot(error) => error.fmt(f),
            RepairError::LosesAll { damage, lost } => write!(
                f,
                "nothing was changed: {damage}; a repair would lose all records ({lost}) and leave an empty hub. Put back the missing files or a backup; if the loss of everything is acceptable: `sheratan-hub journal repair --accept-loss`"
            ),
            RepairError::NoSnapshot { folder, problems, written_by } => {
                write!(f, "no snapshot in {} can be read, so there is no state to go back to", folder.display())?;
                problems.iter().try_for_each(|problem| write!(f, " ({problem})"))?;
                match written_by {
                    Some(build) => write!(f, ": start build {build}, which wrote the journal, on this folder, ")?,
                    None => f.write_str(": ")?,
                }
                f.write_str("put back a backup, or move the folder away and start with an empty one")
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
            RepairError::NothingReadable(_)
            | RepairError::Version { .. }
            | RepairError::LosesAll { .. }
            | RepairError::NoSnapshot { .. } => None,
            RepairError::Snapshot(error) => Some(error),
            RepairError::Io { source, .. } => Some(source),
            RepairError::Append(error) => Some(error),
        }
    }
}
