//! Folder: the journal's files by their names, and the lock that keeps a second hub out.

use super::format::{HEADER_BYTES, Header, HeaderError, Identity};
use crate::disk::{Disk, Lock, LockFailure, RealDisk};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fmt, io};

/// How the journal uses the disk, and which.
#[derive(Clone, Debug)]
pub struct Options {
    /// The size of a segment's file. A batch that is larger than that gets a segment of its own.
    pub segment_bytes: u64,
    /// Old segments kept for reuse; more are deleted.
    pub spares_max: usize,
    /// Snapshots kept; the older ones are for the day when the newest cannot be read.
    pub snapshots_max: usize,
    /// Where the data folder is.
    pub disk: Arc<dyn Disk>,
    /// Whose journal it is, if there is none yet; `None` for a random id and key.
    pub new_identity: Option<Identity>,
}

impl Default for Options {
    /// 64 MiB: about 200,000 jobs; two spares, so that a roll finds one while the background fills the next.
    fn default() -> Self {
        Options {
            segment_bytes: 64 << 20,
            spares_max: 2,
            snapshots_max: 2,
            disk: Arc::new(RealDisk),
            new_identity: None,
        }
    }
}

/// A data folder, whose journal is in `journal/` and whose snapshots are in `snapshots/`.
#[derive(Debug)]
pub(crate) struct Folder {
    disk: Arc<dyn Disk>,
    root: PathBuf,
    /// Held as long as the hub runs; the system releases it however the process ends.
    _lock: Option<Box<dyn Lock>>,
}

/// A segment's file, and what its name says.
#[derive(Clone, Debug)]
pub(crate) struct SegmentFile {
    pub disk: Arc<dyn Disk>,
    pub path: PathBuf,
    pub first_seq: u64,
}

/// A snapshot's file, and what its name says.
#[derive(Clone, Debug)]
pub(crate) struct SnapshotFile {
    pub path: PathBuf,
    pub covered_seq: u64,
}

/// The data folder cannot be had.
#[derive(Debug)]
pub enum LockError {
    /// Another process has it.
    Held {
        /// The data folder.
        folder: PathBuf,
        /// The process, if it says so.
        pid: Option<u32>,
    },
    /// The lock file cannot be made or read.
    Io {
        /// The lock file.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Digits of a sequence number in a file's name: all of a `u64`, so that names sort as numbers do.
const DIGITS: usize = 20;

impl Folder {
    /// Makes the folder if there is none, takes its lock, and makes the names that are found durable.
    pub fn lock(disk: Arc<dyn Disk>, root: &Path) -> Result<Folder, LockError> {
        let path = root.join("lock");
        let error = |source| LockError::Io { file: path.clone(), source };
        create_durably(&*disk, root).map_err(error)?;
        [root.join("journal"), root.join("snapshots")]
            .iter()
            .try_for_each(|folder| disk.create_folder(folder))
            .and_then(|()| disk.sync_folder(root))
            .map_err(error)?;
        let lock = disk.lock(&path).map_err(|failure| match failure {
            LockFailure::Held(pid) => LockError::Held { folder: root.to_path_buf(), pid },
            LockFailure::Io(source) => error(source),
        })?;
        let folder = Folder { disk, root: root.to_path_buf(), _lock: Some(lock) };
        // A hub that was killed may have named a file and not synced the name: what is found is built on from here.
        [folder.journal(), folder.snapshots()]
            .iter()
            .try_for_each(|folder_of_files| folder.disk.sync_folder(folder_of_files))
            .map_err(error)?;
        Ok(folder)
    }

    /// The folder of this machine without its lock, to look only.
    pub fn unlocked(root: &Path) -> Folder {
        Folder::unlocked_on(Arc::new(RealDisk), root)
    }

    /// The folder without its lock, to look only.
    pub fn unlocked_on(disk: Arc<dyn Disk>, root: &Path) -> Folder {
        Folder { disk, root: root.to_path_buf(), _lock: None }
    }

    /// Whether there is a journal or a snapshot's folder in it: any other folder is left as it is.
    pub fn is_data_folder(&self) -> bool {
        let is_missing = |folder: PathBuf| {
            let error = self.disk.names(&folder).err().map(|error| error.kind());
            matches!(error, Some(io::ErrorKind::NotFound | io::ErrorKind::NotADirectory))
        };
        !(is_missing(self.journal()) && is_missing(self.snapshots()))
    }

    /// Whether a hub has the lock at the moment.
    pub fn is_locked(&self) -> bool {
        self.disk.is_locked(&self.root.join("lock"))
    }

    pub fn disk(&self) -> &dyn Disk {
        &*self.disk
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    pub fn journal(&self) -> PathBuf {
        self.root.join("journal")
    }

    pub fn snapshots(&self) -> PathBuf {
        self.root.join("snapshots")
    }

    pub fn segment_path(&self, first_seq: u64) -> PathBuf {
        self.journal().join(format!("journal-{first_seq:020}.seg"))
    }

    pub fn snapshot_path(&self, covered_seq: u64) -> PathBuf {
        self.snapshots().join(format!("snapshot-{covered_seq:020}.snap"))
    }

    pub fn spare_path(&self, number: usize) -> PathBuf {
        self.journal().join(format!("spare-{number}.seg"))
    }

    /// The segments, oldest first.
    pub fn segments(&self) -> io::Result<Vec<SegmentFile>> {
        let numbered = self.numbered(&self.journal(), "journal-", ".seg")?.into_iter();
        Ok(numbered.map(|(first_seq, path)| SegmentFile { disk: self.disk.clone(), path, first_seq }).collect())
    }

    /// The snapshots, newest first.
    pub fn snapshot_files(&self) -> io::Result<Vec<SnapshotFile>> {
        let numbered = self.numbered(&self.snapshots(), "snapshot-", ".snap")?;
        Ok(numbered.into_iter().rev().map(|(covered_seq, path)| SnapshotFile { path, covered_seq }).collect())
    }

    /// Segments that wait to be used.
    pub fn spares(&self) -> io::Result<Vec<PathBuf>> {
        self.names(&self.journal(), |name| name.starts_with("spare-") && name.ends_with(".seg"))
    }

    /// Files that were being made when a hub stopped.
    pub fn leftovers(&self) -> io::Result<Vec<PathBuf>> {
        let mut paths = self.names(&self.journal(), |name| name.ends_with(".tmp"))?;
        paths.extend(self.names(&self.snapshots(), |name| name.ends_with(".tmp"))?);
        Ok(paths)
    }

    /// The files of a folder that match, in order of their names; none if there is no folder.
    fn names(&self, folder: &Path, matches: impl Fn(&str) -> bool) -> io::Result<Vec<PathBuf>> {
        let names = match self.disk.names(folder) {
            Ok(names) => names,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut names: Vec<_> = names.into_iter().filter_map(|name| name.into_string().ok()).collect();
        names.retain(|name| matches(name));
        names.sort();
        Ok(names.iter().map(|name| folder.join(name)).collect())
    }

    fn numbered(&self, folder: &Path, prefix: &str, suffix: &str) -> io::Result<Vec<(u64, PathBuf)>> {
        let number = |name: &str| {
            let digits = name.strip_prefix(prefix)?.strip_suffix(suffix)?;
            (digits.len() == DIGITS && digits.bytes().all(|byte| byte.is_ascii_digit())).then(|| digits.parse().ok())?
        };
        let paths = self.names(folder, |name| number(name).is_some())?;
        let number_of = |path: &PathBuf| path.file_name()?.to_str().and_then(number);
        Ok(paths.into_iter().filter_map(|path| Some((number_of(&path)?, path))).collect())
    }
}

/// Creates a folder so that it stays: a synced file is lost all the same if the name of a folder above it is.
///
/// Level by level, each durable before the next is made; so only the deepest that was there may not be durable yet, made
/// by a start that was stopped.
pub(crate) fn create_durably(disk: &dyn Disk, folder: &Path) -> io::Result<()> {
    let is_missing = |path: &Path| disk.len(path).is_err_and(|error| error.kind() == io::ErrorKind::NotFound);
    let levels: Vec<_> = folder.ancestors().filter(|path| !path.as_os_str().is_empty()).collect();
    let missing = levels.iter().take_while(|path| is_missing(path)).count();
    for level in levels.iter().take(missing + 1).rev() {
        disk.create_folder(level)?;
        // The folder above may be another's, or on a file system that is only read: then the name is not ours to sync.
        if let Some(Err(error)) = level.parent().map(|above| disk.sync_folder(above)) {
            tracing::debug!(folder = %level.display(), %error, "the name of a folder could not be synced");
        }
    }
    Ok(())
}

impl SegmentFile {
    /// The segment's header alone.
    pub fn header(&self) -> io::Result<Result<Header, HeaderError>> {
        Ok(Header::decode(&self.disk.read_start(&self.path, HEADER_BYTES)?))
    }

    /// All of it, into `buffer`, whose memory is used again.
    pub fn read_into(&self, buffer: &mut Vec<u8>) -> io::Result<()> {
        self.disk.read_into(&self.path, buffer)
    }

    /// The file's size.
    pub fn bytes(&self) -> io::Result<u64> {
        self.disk.len(&self.path)
    }
}

impl fmt::Display for LockError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LockError::Held { folder, pid } => {
                let folder = folder.display();
                match pid {
                    Some(pid) => write!(f, "the data folder {folder} is in use by process {pid}")?,
                    None => write!(f, "the data folder {folder} is in use by another process")?,
                }
                f.write_str(": stop that hub, or choose another folder with --data-dir")
            }
            LockError::Io { file, source } => {
                write!(
                    f,
                    "the lock file {} cannot be had: {source}: check the folder's owner and rights",
                    file.display()
                )
            }
        }
    }
}

impl std::error::Error for LockError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            LockError::Held { .. } => None,
            LockError::Io { source, .. } => Some(source),
        }
    }
}
