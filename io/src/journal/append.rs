//! Appending: one write and one sync a batch, and the recovery when either fails.
//!
//! After a failed write or sync nothing can be known about that file's last pages (the system may have dropped them and
//! call the next sync a success; Rebello et al., "Can Applications Recover from fsync Failures?", 2020). So the segment
//! is abandoned and the batch is written to a new one, whose header names the same first record: readers then use the
//! new copy and ignore the old. Segments are filled with zeros before use, so a full disk is detected when a segment is
//! made, before any record is written.

use super::batch::Batch;
use super::build::Build;
use super::folder::{self, Folder, NotOurs, Options};
use super::format::{self, HEADER_BYTES, Header, Identity, SEAL_BYTES, Seed};
use crate::disk::{self, Disk, DiskFile};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The one writer of a journal.
///
/// [`append`](Appender::append) is the only operation that matters; it may be repeated with the same batch after an
/// error.
#[derive(Debug)]
pub struct Appender {
    folder: Arc<Folder>,
    options: Options,
    identity: Identity,
    epoch_last: u64,
    next_seq: u64,
    sealed_through: u64,
    segment: Option<Segment>,
    owed: Option<Owed>,
}

/// A segment that a start could not make: it begins with these records of another one.
#[derive(Debug)]
struct Owed {
    first_seq: u64,
    hash_before: Option<[u8; 16]>,
    records: Vec<u8>,
}

/// The current segment.
#[derive(Debug)]
struct Segment {
    file: Box<dyn DiskFile>,
    path: PathBuf,
    seed: Seed,
    /// The offset of the next record, which is also the file's position.
    offset: u64,
    capacity_bytes: u64,
}

/// Where an appender starts.
pub(crate) struct Start {
    pub epoch_last: u64,
    pub next_seq: u64,
    pub sealed_through: u64,
}

/// Why a batch is not durable. None of its records may be acknowledged; append it again.
#[derive(Debug)]
pub enum AppendError {
    /// The disk is full: no new segment can be made.
    NoSpace {
        /// The file that could not be written.
        file: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The disk fails.
    Io {
        /// The file that could not be written.
        file: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The data folder or the segment is gone, or another process may own it.
    NotOurs(NotOurs),
    /// The batch does not follow the last record: another writer is at work, or the caller lost count. Never repeat it.
    Fenced {
        /// The number that the next record must have.
        expected_seq: u64,
        /// The number that the caller gave.
        found_seq: u64,
    },
}

impl Appender {
    /// What has to be written before the next batch could not be, for lack of space: [`append`](Appender::append) tries
    /// it first.
    pub(crate) fn owe(&mut self, first_seq: u64, hash_before: Option<[u8; 16]>, records: Vec<u8>) {
        self.owed = Some(Owed { first_seq, hash_before, records });
    }

    pub(crate) fn new(folder: Arc<Folder>, options: Options, identity: Identity, start: Start) -> Appender {
        let Start { epoch_last, next_seq, sealed_through } = start;
        Appender { folder, options, identity, epoch_last, next_seq, sealed_through, segment: None, owed: None }
    }

    /// Makes a batch durable and returns the number of its last record. One write and one sync; a new segment
    /// every 64 MiB costs two syncs more, and about 50 ms if no spare is ready.
    ///
    /// `hash_before` is the hub's outcome hash before the batch's first command. After an error the batch is untouched:
    /// append it again, alone or with records added, until it succeeds.
    pub fn append(
        &mut self,
        expected_first_seq: u64,
        batch: &mut Batch,
        hash_before: [u8; 16],
    ) -> Result<u64, AppendError> {
        let first_seq = batch.first_seq().expect("a batch without records is not appended");
        for found_seq in [expected_first_seq, first_seq] {
            if found_seq != self.next_seq {
                return Err(AppendError::Fenced { expected_seq: self.next_seq, found_seq });
            }
        }
        if let Some(Owed { first_seq, hash_before, mut records }) = self.owed.take() {
            let rewritten = self.rewrite(first_seq, hash_before, &mut records);
            rewritten.inspect_err(|_| self.owe(first_seq, hash_before, records))?;
        }
        if !self.has_room(batch.bytes()) {
            self.check_ours()?;
            self.seal(hash_before);
        }
        // The segment is kept only if the append succeeded: after an error it is abandoned here.
        self.segment = Some(match self.segment.take() {
            Some(segment) => segment.append(batch.records_mut())?,
            None => self.new_segment(first_seq, Some(hash_before), batch.records_mut())?,
        });
        let last_seq = batch.last_seq().expect("it has a first record");
        self.next_seq = last_seq + 1;
        Ok(last_seq)
    }

    /// Whether a batch of so many bytes goes into the current segment: one write and one sync, and nothing else.
    pub fn has_room(&self, batch_bytes: usize) -> bool {
        let needed_bytes = (batch_bytes + SEAL_BYTES) as u64;
        self.owed.is_none() && self.segment.as_ref().is_some_and(|segment| segment.room_bytes() >= needed_bytes)
    }

    /// Seals the current segment at a clean stop, so that [`super::Store::snapshot_by_replay`] may cover it.
    /// `hash` is the hub's outcome hash after the last record.
    ///
    /// A seal is optional: if it cannot be written, the next segment's header holds the same facts.
    pub fn seal(&mut self, hash: [u8; 16]) {
        // The owed records are in an older segment, which must be read again by the next start.
        if self.owed.is_some() {
            return;
        }
        let Some(mut segment) = self.segment.take() else { return };
        let seal = format::seal(&segment.seed, self.next_seq - 1, hash);
        if let Err(error) = disk::write(&mut *segment.file, &seal).and_then(|()| segment.file.sync()) {
            tracing::warn!(file = %segment.path.display(), %error, "a segment of the journal could not be sealed");
        }
        self.sealed_through = self.next_seq - 1;
    }

    /// Whether the data folder and the open segment are still this hub's: what is written into files that nobody finds
    /// again is lost. Three system calls; the caller repeats it once a second.
    pub fn check_ours(&self) -> Result<(), AppendError> {
        self.folder.check_ours().and_then(|()| self.folder.check_snapshots()).map_err(AppendError::NotOurs)?;
        let Some(Segment { file, path, .. }) = &self.segment else { return Ok(()) };
        match folder::is_at(file.is_at(path), path).map_err(AppendError::NotOurs)? {
            true => Ok(()),
            false => Err(AppendError::NotOurs(NotOurs(format!(
                "the segment {} was removed or replaced while the hub runs: stop the hub, put the file back, start again",
                path.display()
            )))),
        }
    }

    /// The number that the next record must have.
    pub fn next_seq(&self) -> u64 {
        self.next_seq
    }

    /// The last record of the sealed segments, which a snapshot may cover.
    pub fn sealed_through(&self) -> u64 {
        self.sealed_through
    }

    /// Continues a segment after its last record. The last batch may not have reached the disk, so it is written once
    /// more.
    pub(crate) fn resume(&mut self, path: &Path, header: &Header, offset: u64, last_batch: &[u8]) -> io::Result<()> {
        let mut file = self.folder.disk().open_to_write(path)?;
        let capacity_bytes = file.len()?;
        file.seek_to(offset - last_batch.len() as u64)?;
        if !last_batch.is_empty() {
            disk::write(&mut *file, last_batch)?;
            file.sync()?;
        }
        self.segment = Some(Segment { file, path: path.to_path_buf(), seed: header.seed(), offset, capacity_bytes });
        Ok(())
    }

    /// Continues in a new segment that begins with these records of another one, which end before the next record.
    pub(crate) fn rewrite(
        &mut self,
        first_seq: u64,
        hash_before: Option<[u8; 16]>,
        records: &mut [u8],
    ) -> Result<(), AppendError> {
        self.segment = Some(self.new_segment(first_seq, hash_before, records)?);
        Ok(())
    }

    /// A new segment with its first records, durable before it is renamed. A segment of the same name is replaced: it
    /// began with the same batch, whose write or sync failed, so nothing in it was acknowledged.
    fn new_segment(
        &mut self,
        first_seq: u64,
        outcome_hash: Option<[u8; 16]>,
        records: &mut [u8],
    ) -> Result<Segment, AppendError> {
        self.folder.check_ours().map_err(AppendError::NotOurs)?;
        self.sealed_through = first_seq - 1;
        let path = self.folder.segment_path(first_seq);
        let bytes_min = (HEADER_BYTES + records.len() + SEAL_BYTES) as u64;
        let blank = self.take_blank(self.options.segment_bytes.max(bytes_min))?;
        // Spent even if making the segment fails: no two files ever share an epoch.
        self.epoch_last += 1;
        let header = Header {
            identity: self.identity,
            epoch: self.epoch_last,
            first_seq,
            outcome_hash,
            segment_bytes: blank.bytes,
            is_recycled: blank.is_recycled,
            written_by: Build::THIS,
        };
        let (seed, capacity_bytes) = (header.seed(), blank.bytes);
        format::seal_records(records, &seed);
        let mut file = blank.file;
        let named = disk::write(&mut *file, &header.encode())
            .and_then(|()| disk::write(&mut *file, records))
            .and_then(|()| file.sync())
            .and_then(|()| disk::rename_durably(self.folder.disk(), &blank.path, &path));
        if let Err(source) = named {
            remove(self.folder.disk(), &blank.path);
            return Err(AppendError::new(&path, source));
        }
        let offset = (HEADER_BYTES + records.len()) as u64;
        Ok(Segment { file, path, seed, offset, capacity_bytes })
    }

    /// A file of at least `bytes` bytes: a spare, or a new one full of zeros.
    fn take_blank(&self, bytes: u64) -> Result<Blank, AppendError> {
        let disk = self.folder.disk();
        let temporary = self.folder.journal().join("segment.tmp");
        let spares = self.folder.spares().map_err(|source| AppendError::new(&self.folder.journal(), source))?;
        for path in spares {
            match Blank::spare(disk, &path, bytes) {
                Ok(Some(blank)) => {
                    // A spare may have been a segment a moment ago: after a crash it must not reappear under that name.
                    // Nor may a later start find these records in a spare: if making this segment fails, that start
                    // spends the same epoch again. A start removes temporary files.
                    disk.rename(&path, &temporary)
                        .and_then(|()| disk.sync_folder(&self.folder.journal()))
                        .map_err(|source| AppendError::new(&path, source))?;
                    return Ok(Blank { path: temporary, ..blank });
                }
                Ok(None) => {}
                // Not fatal, since a new file can be made, but a spare that cannot be read is useless.
                Err(error) => {
                    tracing::warn!(file = %path.display(), %error, "a spare segment of the journal is dropped");
                    remove(disk, &path);
                }
            }
        }
        blank_file(disk, &temporary, bytes).map_err(|source| AppendError::new(&temporary, source))
    }
}

/// Bytes of a spare that show whether it was a segment before: a new spare is full of zeros.
const BEGINNING_BYTES: usize = 8;

/// A file that is ready to become a segment.
struct Blank {
    file: Box<dyn DiskFile>,
    path: PathBuf,
    bytes: u64,
    is_recycled: bool,
}

impl Blank {
    /// The spare at this path, if it is large enough.
    fn spare(disk: &dyn Disk, path: &Path, bytes_min: u64) -> io::Result<Option<Blank>> {
        let beginning = disk.read_start(path, BEGINNING_BYTES)?;
        if beginning.len() < BEGINNING_BYTES {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let file = disk.open_to_write(path)?;
        let bytes = file.len()?;
        let is_recycled = beginning != [0; BEGINNING_BYTES];
        Ok((bytes >= bytes_min).then(|| Blank { file, path: path.to_path_buf(), bytes, is_recycled }))
    }
}

/// Makes a file full of zeros. After a failure it is removed: on a full disk every block counts.
fn blank_file(disk: &dyn Disk, path: &Path, bytes: u64) -> io::Result<Blank> {
    let filled = disk.create(path).and_then(|mut file| {
        file.fill_with_zeros(bytes)?;
        file.seek_to(0)?;
        Ok(Blank { file, path: path.to_path_buf(), bytes, is_recycled: false })
    });
    filled.inspect_err(|_| remove(disk, path))
}

/// Makes a spare: a file full of zeros.
pub(crate) fn make_spare(disk: &dyn Disk, temporary: &Path, spare: &Path, bytes: u64) -> io::Result<()> {
    drop(blank_file(disk, temporary, bytes)?);
    disk::rename_durably(disk, temporary, spare).inspect_err(|_| remove(disk, temporary))
}

/// Removes temporary files of a stopped hub, durably: their epochs may be spent again from here on.
pub(crate) fn remove_leftovers(folder: &Folder) -> io::Result<()> {
    let leftovers = folder.leftovers()?;
    if leftovers.is_empty() {
        return Ok(());
    }
    leftovers.iter().try_for_each(|path| folder.disk().remove(path))?;
    [folder.journal(), folder.snapshots()].iter().try_for_each(|path| folder.disk().sync_folder(path))
}

/// Removes a file that is not needed any more; a failure is logged.
pub(crate) fn remove(disk: &dyn Disk, path: &Path) {
    if let Err(error) = disk.remove(path)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(file = %path.display(), %error, "a file could not be removed");
    }
}

impl Segment {
    fn room_bytes(&self) -> u64 {
        self.capacity_bytes.saturating_sub(self.offset)
    }

    /// Writes records and syncs them. Returns the segment only if both succeeded.
    fn append(mut self, records: &mut [u8]) -> Result<Segment, AppendError> {
        format::seal_records(records, &self.seed);
        disk::write(&mut *self.file, records)
            .and_then(|()| self.file.sync())
            .map_err(|source| AppendError::new(&self.path, source))?;
        self.offset += records.len() as u64;
        Ok(self)
    }
}

impl AppendError {
    fn new(file: &Path, source: io::Error) -> AppendError {
        let file = file.to_path_buf();
        if disk::is_no_space(&source) {
            AppendError::NoSpace { file, source }
        } else {
            AppendError::Io { file, source }
        }
    }
}

impl fmt::Display for AppendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AppendError::NoSpace { file, source } => {
                write!(f, "no room for the journal's segment {} ({source}): free some disk space", file.display())
            }
            AppendError::Io { file, source } => {
                write!(f, "the journal's segment {} cannot be written: {source}", file.display())
            }
            AppendError::NotOurs(error) => error.fmt(f),
            AppendError::Fenced { expected_seq, found_seq } => write!(
                f,
                "the batch begins at record {found_seq}, the journal goes on at {expected_seq}: another writer is at work"
            ),
        }
    }
}

impl std::error::Error for AppendError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            AppendError::NoSpace { source, .. } | AppendError::Io { source, .. } => Some(source),
            AppendError::NotOurs(_) | AppendError::Fenced { .. } => None,
        }
    }
}
