//! Folder: the journal's files by their names, and the lock that keeps a second hub out.

use super::file;
use super::format::{HEADER_BYTES, Header, HeaderError};
use std::fs::{self, File};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::{fmt, process};

/// How the journal uses the disk.
#[derive(Clone, Debug)]
pub struct Options {
    /// The size of a segment's file. A batch that is larger than that gets a segment of its own.
    pub segment_bytes: u64,
    /// Old segments kept for reuse; more are deleted.
    pub spares_max: usize,
    /// Snapshots kept; the older ones are for the day when the newest cannot be read.
    pub snapshots_max: usize,
}

impl Default for Options {
    /// 64 MiB: about 200,000 jobs; two spares, so that a roll finds one while the background fills the next.
    fn default() -> Self {
        Options { segment_bytes: 64 << 20, spares_max: 2, snapshots_max: 2 }
    }
}

/// A data folder, whose journal is in `journal/` and whose snapshots are in `snapshots/`.
#[derive(Debug)]
pub(crate) struct Folder {
    root: PathBuf,
    /// Held as long as the hub runs; the system releases it however the process ends.
    _lock: Option<File>,
}

/// A segment's file, and what its name says.
#[derive(Clone, Debug)]
pub(crate) struct SegmentFile {
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
    /// Makes the folder if there is none and takes its lock.
    pub fn lock(root: &Path) -> Result<Folder, LockError> {
        let path = root.join("lock");
        let error = |source| LockError::Io { file: path.clone(), source };
        [root.to_path_buf(), root.join("journal"), root.join("snapshots")]
            .iter()
            .try_for_each(|folder| file::create_folder(folder))
            .map_err(error)?;
        let mut lock = file::open_lock(&path).map_err(error)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => {
                let mut text = String::new();
                // Windows does not let others read a locked file: then the process stays unnamed.
                let pid = lock.read_to_string(&mut text).ok().and_then(|_| text.trim().parse().ok());
                return Err(LockError::Held { folder: root.to_path_buf(), pid });
            }
            Err(fs::TryLockError::Error(source)) => return Err(error(source)),
        }
        lock.set_len(0).and_then(|()| lock.rewind()).map_err(error)?;
        writeln!(lock, "{}", process::id()).map_err(error)?;
        Ok(Folder { root: root.to_path_buf(), _lock: Some(lock) })
    }

    /// The folder without its lock, to look only.
    pub fn unlocked(root: &Path) -> Folder {
        Folder { root: root.to_path_buf(), _lock: None }
    }

    /// Whether a hub has the lock at the moment.
    pub fn is_locked(&self) -> bool {
        File::open(self.root.join("lock"))
            .is_ok_and(|lock| matches!(lock.try_lock_shared(), Err(fs::TryLockError::WouldBlock)))
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
        let numbered = numbered(&self.journal(), "journal-", ".seg")?;
        Ok(numbered.into_iter().map(|(first_seq, path)| SegmentFile { path, first_seq }).collect())
    }

    /// The snapshots, newest first.
    pub fn snapshot_files(&self) -> io::Result<Vec<SnapshotFile>> {
        let numbered = numbered(&self.snapshots(), "snapshot-", ".snap")?;
        Ok(numbered.into_iter().rev().map(|(covered_seq, path)| SnapshotFile { path, covered_seq }).collect())
    }

    /// Segments that wait to be used.
    pub fn spares(&self) -> io::Result<Vec<PathBuf>> {
        names(&self.journal(), |name| name.starts_with("spare-") && name.ends_with(".seg"))
    }

    /// Files that were being made when a hub stopped.
    pub fn leftovers(&self) -> io::Result<Vec<PathBuf>> {
        let mut paths = names(&self.journal(), |name| name.ends_with(".tmp"))?;
        paths.extend(names(&self.snapshots(), |name| name.ends_with(".tmp"))?);
        Ok(paths)
    }
}

impl SegmentFile {
    /// The segment's header alone.
    pub fn header(&self) -> io::Result<Result<Header, HeaderError>> {
        let mut block = Vec::with_capacity(HEADER_BYTES);
        File::open(&self.path)?.take(HEADER_BYTES as u64).read_to_end(&mut block)?;
        Ok(Header::decode(&block))
    }
}

/// The files of a folder that match, in order of their names; none if there is no folder.
fn names(folder: &Path, matches: impl Fn(&str) -> bool) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut paths = Vec::new();
    for entry in entries {
        let entry = entry?;
        if entry.file_name().to_str().is_some_and(&matches) {
            paths.push(entry.path());
        }
    }
    paths.sort();
    Ok(paths)
}

fn numbered(folder: &Path, prefix: &str, suffix: &str) -> io::Result<Vec<(u64, PathBuf)>> {
    let number = |name: &str| {
        let digits = name.strip_prefix(prefix)?.strip_suffix(suffix)?;
        (digits.len() == DIGITS && digits.bytes().all(|byte| byte.is_ascii_digit())).then(|| digits.parse().ok())?
    };
    let paths = names(folder, |name| number(name).is_some())?;
    let number_of = |path: &PathBuf| path.file_name()?.to_str().and_then(number);
    Ok(paths.into_iter().filter_map(|path| Some((number_of(&path)?, path))).collect())
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
