//! Snapshots on disk: a hub's durable state as checksummed records, complete or absent.
//!
//! Written to a temporary file, synced, renamed, the folder synced. Each record has a CRC-32, so that damage is
//! located; the footer has the count and the SHA-256 of all records, which is the hub's digest.
//! `docs/journal-format.md` has the layout.

use super::append;
use super::build::{BUILD_BYTES, Build};
use super::folder::Folder;
use super::format::{FORMAT_VERSION, HubId, Identity, WrongVersion};
use crate::bytes::{bytes_at, crc_around, u32_at, u64_at};
use crate::disk::{self, Disk, DiskFile, DiskReader};
use serde::Serialize;
use sha2::{Digest, Sha256};
use sheratan_core::{HubKey, SNAPSHOT_FORMAT};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::{fmt, mem};

const MAGIC: [u8; 8] = *b"SHERsnap";
/// The checksum covers all of it; the bytes after the build are reserved and zero.
const HEADER_BYTES: usize = 256;
const BUILD_AT: usize = 80;
/// The format of its records; 0 is read as 1.
const RECORD_FORMAT_AT: usize = 72;
const FOOTER_BYTES: usize = 4 + 8 + 32;
/// In place of a record's length: the footer follows.
const FOOTER_MARK: u32 = u32::MAX;
/// Records are read and written through a buffer of this size.
const BUFFER_BYTES: usize = 1 << 20;
/// A snapshot is synced each time so much of it was written: else the disk would get all of it at once, and the
/// journal's syncs would wait for it.
const SYNC_BYTES: u64 = 8 << 20;
/// The largest record: two payloads of the largest body, and the job's other members.
const RECORD_BYTES_MAX: usize = 3 * super::PAYLOAD_BYTES_MAX;

/// A snapshot's header.
#[derive(Clone, Debug)]
pub struct SnapshotInfo {
    /// The file.
    pub file: PathBuf,
    /// The hub of the state.
    pub identity: Identity,
    /// The last record that is in it.
    pub covered_seq: u64,
    /// The outcome hash after that record.
    pub outcome_hash: [u8; 16],
    /// The build that made it.
    pub written_by: Build,
}

/// A snapshot that was written and read back.
#[derive(Clone, Debug, Serialize)]
pub struct SnapshotReport {
    /// The file.
    pub file: PathBuf,
    /// The last record that is in it.
    pub covered_seq: u64,
    /// Its records: nodes, jobs, idempotency keys.
    pub records: u64,
    /// Its size.
    pub bytes: u64,
    /// How many journal records were applied to make it.
    pub replayed: u64,
    /// The digest of the hub that it holds, in hex.
    pub digest: String,
}

/// Why a snapshot cannot be written or read.
#[derive(Debug)]
pub enum SnapshotError {
    /// The disk fails.
    Io {
        /// The file.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The snapshot has another format version: it is not damaged, but only another build can read it.
    Version {
        /// The file.
        file: PathBuf,
        /// Its format version.
        version: u32,
    },
    /// Its checksums match and this build cannot restore it: it is not damaged, and another build may.
    Unrestorable {
        /// The file.
        file: PathBuf,
        /// The build that made it.
        written_by: Build,
        /// Why.
        reason: String,
    },
    /// The file is damaged: a checksum does not match, or its end is missing.
    Bad {
        /// The file.
        file: PathBuf,
        /// The offset of the problem.
        offset: u64,
        /// What is wrong.
        reason: String,
    },
}

/// Writes a snapshot: [`put`](SnapshotWriter::put) each record, then [`finish`](SnapshotWriter::finish). Dropped before
/// that, it leaves nothing.
#[derive(Debug)]
pub struct SnapshotWriter<'a> {
    disk: &'a dyn Disk,
    out: Option<BufWriter<Box<dyn DiskFile>>>,
    temporary: PathBuf,
    path: PathBuf,
    hasher: Sha256,
    records: u64,
    bytes: u64,
    synced_bytes: u64,
    failed: Option<io::Error>,
}

/// Reads a snapshot record by record.
#[derive(Debug)]
pub struct SnapshotReader {
    input: BufReader<Box<dyn DiskReader>>,
    info: SnapshotInfo,
    record: Vec<u8>,
    hasher: Sha256,
    records: u64,
    offset: u64,
    /// Whether the footer was read, and matches.
    is_at_footer: bool,
}

impl<'a> SnapshotWriter<'a> {
    /// Begins the snapshot of a state after the record `covered_seq`.
    pub(crate) fn create(
        folder: &'a Folder,
        identity: &Identity,
        covered_seq: u64,
        outcome_hash: [u8; 16],
    ) -> Result<SnapshotWriter<'a>, SnapshotError> {
        let disk = folder.disk();
        let path = folder.snapshot_path(covered_seq);
        let temporary = path.with_extension("tmp");
        let mut header = [0; HEADER_BYTES];
        header[0..8].copy_from_slice(&MAGIC);
        header[8..12].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        header[16..32].copy_from_slice(&identity.hub_id.0);
        header[32..48].copy_from_slice(identity.key.as_bytes());
        header[48..56].copy_from_slice(&covered_seq.to_le_bytes());
        header[56..72].copy_from_slice(&outcome_hash);
        header[RECORD_FORMAT_AT] = SNAPSHOT_FORMAT;
        header[BUILD_AT..BUILD_AT + BUILD_BYTES].copy_from_slice(Build::THIS.as_bytes());
        let crc = header_crc(&header);
        header[12..16].copy_from_slice(&crc.to_le_bytes());
        // It may have been removed since the start.
        let file = disk.create_folder(&folder.snapshots()).and_then(|()| disk.create(&temporary));
        let file = file.map_err(|source| SnapshotError::Io { file: temporary.clone(), source })?;
        let out = Some(BufWriter::with_capacity(BUFFER_BYTES, file));
        let hasher = Sha256::new();
        let mut writer =
            SnapshotWriter { disk, out, temporary, path, hasher, records: 0, bytes: 0, synced_bytes: 0, failed: None };
        writer.write(&[&header]);
        Ok(writer)
    }

    /// Writes the next record. [`finish`](SnapshotWriter::finish) returns a failure.
    pub fn put(&mut self, record: &[u8]) {
        assert!(record.len() <= RECORD_BYTES_MAX, "a snapshot's record has at most {RECORD_BYTES_MAX} bytes");
        let len = (record.len() as u32).to_le_bytes();
        let crc = crc32fast::hash(record).to_le_bytes();
        self.hasher.update((record.len() as u64).to_le_bytes());
        self.hasher.update(record);
        self.records += 1;
        self.write(&[&len, &crc, record]);
    }

    /// Makes the snapshot durable under its name. Returns its size, its records and its digest.
    pub(crate) fn finish(mut self) -> Result<(PathBuf, u64, u64, [u8; 32]), SnapshotError> {
        let digest: [u8; 32] = mem::take(&mut self.hasher).finalize().into();
        let mut footer = [0; FOOTER_BYTES];
        footer[0..4].copy_from_slice(&FOOTER_MARK.to_le_bytes());
        footer[4..12].copy_from_slice(&self.records.to_le_bytes());
        footer[12..].copy_from_slice(&digest);
        self.bytes += FOOTER_BYTES as u64;
        let out = self.out.take().expect("it is taken here only");
        let result = match self.failed.take() {
            Some(error) => Err(error),
            None => out.into_inner().map_err(io::IntoInnerError::into_error).and_then(|mut file| {
                disk::write(&mut *file, &footer)?;
                file.sync()?;
                disk::rename_durably(self.disk, &self.temporary, &self.path)
            }),
        };
        result.map_err(|source| SnapshotError::Io { file: self.path.clone(), source })?;
        Ok((self.path.clone(), self.bytes, self.records, digest))
    }

    fn write(&mut self, parts: &[&[u8]]) {
        let out = self.out.as_mut().expect("it is there until the snapshot is finished");
        for part in parts {
            self.bytes += part.len() as u64;
            if self.failed.is_none() {
                self.failed = out.write_all(part).err();
            }
        }
        if self.bytes - self.synced_bytes >= SYNC_BYTES && self.failed.is_none() {
            self.synced_bytes = self.bytes;
            self.failed = out.flush().and_then(|()| out.get_mut().sync()).err();
        }
    }
}

impl Drop for SnapshotWriter<'_> {
    fn drop(&mut self) {
        // After a successful finish the temporary file no longer exists.
        if let Some(out) = self.out.take() {
            // The buffer belongs to an abandoned snapshot: it is not written.
            drop(out.into_parts());
        }
        append::remove(self.disk, &self.temporary);
    }
}

impl SnapshotReader {
    /// Opens a snapshot and checks its header.
    pub fn open(disk: &dyn Disk, path: &Path) -> Result<SnapshotReader, SnapshotError> {
        let io = |source| SnapshotError::Io { file: path.to_path_buf(), source };
        let bad = |reason: &str| SnapshotError::Bad { file: path.to_path_buf(), offset: 0, reason: reason.to_owned() };
        // Not larger than the file: a new buffer is filled with zeros.
        let buffer_bytes = disk.len(path).map_err(io)?.min(BUFFER_BYTES as u64) as usize;
        let mut input = BufReader::with_capacity(buffer_bytes, disk.open_to_read(path).map_err(io)?);
        let mut header = [0; HEADER_BYTES];
        input.read_exact(&mut header).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => bad("the file ends before its header"),
            _ => io(error),
        })?;
        if header[0..8] != MAGIC || u32_at(&header, 12) != header_crc(&header) {
            return Err(bad("the header's checksum does not match"));
        }
        let version = u32_at(&header, 8);
        if version != FORMAT_VERSION {
            return Err(SnapshotError::Version { file: path.to_path_buf(), version });
        }
        let written_by = Build::decode(bytes_at(&header, BUILD_AT)).ok_or_else(|| bad("it names no build"))?;
        let record_format = header[RECORD_FORMAT_AT].max(1);
        if record_format > SNAPSHOT_FORMAT {
            let reason = format!("its records have format {record_format}, this hub reads {SNAPSHOT_FORMAT}");
            return Err(SnapshotError::Unrestorable { file: path.to_path_buf(), written_by, reason });
        }
        let info = SnapshotInfo {
            file: path.to_path_buf(),
            identity: Identity { hub_id: HubId(bytes_at(&header, 16)), key: HubKey::new(bytes_at(&header, 32)) },
            covered_seq: u64_at(&header, 48),
            outcome_hash: bytes_at(&header, 56),
            written_by,
        };
        let offset = HEADER_BYTES as u64;
        Ok(SnapshotReader {
            input,
            info,
            record: Vec::new(),
            hasher: Sha256::new(),
            records: 0,
            offset,
            is_at_footer: false,
        })
    }

    /// The header.
    pub fn info(&self) -> &SnapshotInfo {
        &self.info
    }

    /// The next record; `None` at the footer, if it matches the records.
    #[allow(clippy::should_implement_trait, reason = "an iterator cannot lend")]
    pub fn next(&mut self) -> Result<Option<&[u8]>, SnapshotError> {
        let len = u32::from_le_bytes(self.read()?);
        if len == FOOTER_MARK {
            let records = u64::from_le_bytes(self.read()?);
            let digest: [u8; 32] = self.read()?;
            let found: [u8; 32] = self.hasher.clone().finalize().into();
            self.is_at_footer = records == self.records && digest == found;
            return match self.is_at_footer {
                true => Ok(None),
                false => Err(self.bad("the footer does not match the records")),
            };
        }
        if len as usize > RECORD_BYTES_MAX {
            return Err(self.bad("a record's length is out of bounds"));
        }
        let crc = u32::from_le_bytes(self.read()?);
        let mut record = mem::take(&mut self.record);
        record.clear();
        // Read in steps, so that a damaged length costs no more memory than the file has bytes.
        let read = (&mut self.input).take(u64::from(len)).read_to_end(&mut record);
        let read = read.map_err(|source| SnapshotError::Io { file: self.info.file.clone(), source })?;
        if read != len as usize || crc32fast::hash(&record) != crc {
            return Err(self.bad("a record's checksum does not match"));
        }
        self.offset += u64::from(len);
        self.records += 1;
        self.hasher.update(u64::from(len).to_le_bytes());
        self.hasher.update(&record);
        self.record = record;
        Ok(Some(&self.record))
    }

    /// Records read so far.
    pub fn records(&self) -> u64 {
        self.records
    }

    /// Why the snapshot, of which a record cannot be restored, is not used: it is damaged, or of another build. Reads
    /// the rest, since only the footer's checksum shows that all is as it was written.
    pub(crate) fn unrestorable(mut self, reason: &str) -> SnapshotError {
        while !self.is_at_footer {
            if let Err(error) = self.next() {
                return error;
            }
        }
        let SnapshotInfo { file, written_by, .. } = self.info;
        SnapshotError::Unrestorable { file, written_by, reason: reason.to_owned() }
    }

    pub(crate) fn bad(&self, reason: &str) -> SnapshotError {
        SnapshotError::Bad { file: self.info.file.clone(), offset: self.offset, reason: reason.to_owned() }
    }

    fn read<const N: usize>(&mut self) -> Result<[u8; N], SnapshotError> {
        let mut bytes = [0; N];
        match self.input.read_exact(&mut bytes) {
            Ok(()) => {
                self.offset += N as u64;
                Ok(bytes)
            }
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                Err(self.bad("the file ends before its footer"))
            }
            Err(source) => Err(SnapshotError::Io { file: self.info.file.clone(), source }),
        }
    }
}

fn header_crc(header: &[u8; HEADER_BYTES]) -> u32 {
    crc_around(crc32fast::Hasher::new(), header, 12)
}

impl SnapshotError {
    /// Whether the file is of no use any more: proven damaged, or not given by the disk. Any other error says nothing
    /// about its contents.
    pub(crate) fn is_lost(&self) -> bool {
        match self {
            SnapshotError::Bad { .. } => true,
            SnapshotError::Io { source, .. } => disk::is_unreadable(source),
            SnapshotError::Version { .. } | SnapshotError::Unrestorable { .. } => false,
        }
    }
}

impl fmt::Display for SnapshotError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SnapshotError::Io { file, source } => write!(f, "the snapshot {}: {source}", file.display()),
            SnapshotError::Version { file, version } => {
                write!(f, "the snapshot {} has {}", file.display(), WrongVersion(*version))
            }
            SnapshotError::Unrestorable { file, written_by, reason } => write!(
                f,
                "the snapshot {} is whole, and this hub cannot restore it: {reason}; nothing was changed: start build {written_by}, which made it, or a newer one on this data folder",
                file.display()
            ),
            SnapshotError::Bad { file, offset, reason } => {
                write!(f, "the snapshot {} is bad at offset {offset}: {reason}", file.display())
            }
        }
    }
}

impl std::error::Error for SnapshotError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            SnapshotError::Io { source, .. } => Some(source),
            SnapshotError::Version { .. } | SnapshotError::Unrestorable { .. } | SnapshotError::Bad { .. } => None,
        }
    }
}
