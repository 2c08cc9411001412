//! Folder: the journal's files by their names, and the lock that excludes a second hub.

use super::format::{HEADER_BYTES, Header, HeaderError, Identity};
use super::rules;
use crate::disk::{self, Disk, Lock, LockFailure, RealDisk};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use std::{fmt, io};

/// How the journal uses the disk.
#[derive(Clone, Debug)]
pub struct Options {
    /// The size of a segment's file. A larger batch gets a segment of its own.
    pub segment_bytes: u64,
    /// Old segments kept for reuse; more are deleted.
    pub spares_max: usize,
    /// Snapshots kept; the older ones are used if the newest cannot be read.
    pub snapshots_max: usize,
    /// The disk of the data folder.
    pub disk: Arc<dyn Disk>,
    /// The identity of a journal that is created; `None` for a random id and key.
    pub new_identity: Option<Identity>,
}

impl Default for Options {
    /// 64 MiB is about 200,000 jobs; with two spares, one is ready at a roll while the background fills the next.
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
    /// Held while the hub runs; the system releases them even if the process is killed.
    locks: Option<Mutex<Locks>>,
}

/// The two locks that exclude a second hub: the folder `journal` cannot be removed while it has files, and any system
/// locks the file `lock`.
#[derive(Debug)]
struct Locks {
    folder: Box<dyn Lock>,
    /// Only to know it again: without its snapshots a truncated journal cannot be read.
    snapshots: Box<dyn Lock>,
    file: Box<dyn Lock>,
    /// Why another process may be writing to the folder: then it is not this hub's again.
    lost: Option<String>,
}

/// Another process may own the data folder, or it is gone.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NotOurs(pub String);

/// A segment's file, and the number in its name.
#[derive(Clone, Debug)]
pub(crate) struct SegmentFile {
    pub disk: Arc<dyn Disk>,
    pub path: PathBuf,
    pub first_seq: u64,
}

/// A snapshot's file, and the number in its name.
#[derive(Clone, Debug)]
pub(crate) struct SnapshotFile {
    pub path: PathBuf,
    pub covered_seq: u64,
}

/// Why the data folder cannot be locked.
#[derive(Debug)]
pub enum LockError {
    /// Another process holds the lock.
    Held {
        /// The data folder.
        folder: PathBuf,
        /// The process, if the lock file names it.
        pid: Option<u32>,
    },
    /// The disk refuses a step.
    Io {
        /// What was tried.
        step: Step,
        /// On what.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// A step on the way to a locked folder.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// A folder is created.
    Create,
    /// The names in a folder are made durable.
    Sync,
    /// A file or a folder is locked.
    Lock,
}

/// How often, and after which pause, a lock file that another process holds is tried again.
const LOCK_TRIES: usize = 3;
const LOCK_PAUSE: Duration = Duration::from_millis(20);

/// Digits of a sequence number in a file's name: all of a `u64`, so that names sort as numbers do.
const DIGITS: usize = 20;

impl Folder {
    /// Creates the folder if it does not exist, locks it, and makes the names of its files durable.
    pub fn lock(disk: Arc<dyn Disk>, root: &Path) -> Result<Folder, LockError> {
        let path = root.join("lock");
        let failed_at = |step, path: &Path| {
            let path = path.to_owned();
            move |source| LockError::Io { step, path, source }
        };
        create_durably(&*disk, root).map_err(failed_at(Step::Create, root))?;
        let (journal, snapshots) = (root.join("journal"), root.join("snapshots"));
        for folder in [&journal, &snapshots] {
            disk.create_folder(folder).map_err(failed_at(Step::Create, folder))?;
        }
        disk.sync_folder(root).map_err(failed_at(Step::Sync, root))?;
        let failed = |failure, path: &Path| match failure {
            LockFailure::Held(pid) => LockError::Held { folder: root.to_path_buf(), pid },
            LockFailure::Io(source) => failed_at(Step::Lock, path)(source),
        };
        // The folder first: a hub that is refused must not have made another lock file in place of a removed one.
        let folder_lock = disk.lock_folder(&journal).map_err(|failure| match failure {
            LockFailure::Held(_) => LockError::Held { folder: root.to_path_buf(), pid: owner(&*disk, &path) },
            failure => failed(failure, &journal),
        })?;
        let snapshots_lock = disk.lock_folder(&snapshots).map_err(|failure| failed(failure, &snapshots))?;
        let file_lock = disk.lock(&path).map_err(|failure| failed(failure, &path))?;
        if let Err(error) = file_lock.name_owner() {
            tracing::warn!(file = %path.display(), %error, "the lock file does not name this process");
        }
        let locks = Locks { folder: folder_lock, snapshots: snapshots_lock, file: file_lock, lost: None };
        let folder = Folder { disk, root: root.to_path_buf(), locks: Some(Mutex::new(locks)) };
        // A killed hub may have renamed a file without syncing the name, and the start relies on the files it finds.
        for folder_of_files in [&journal, &snapshots] {
            folder.disk.sync_folder(folder_of_files).map_err(failed_at(Step::Sync, folder_of_files))?;
        }
        Ok(folder)
    }

    /// The folder on this machine's disk without its lock, read-only.
    pub fn unlocked(root: &Path) -> Folder {
        Folder::unlocked_on(Arc::new(RealDisk), root)
    }

    /// The folder without its lock, read-only.
    pub fn unlocked_on(disk: Arc<dyn Disk>, root: &Path) -> Folder {
        Folder { disk, root: root.to_path_buf(), locks: None }
    }

    /// Whether it contains a journal's or a snapshots' folder: any other folder is left unchanged.
    pub fn is_data_folder(&self) -> bool {
        let is_missing = |folder: PathBuf| {
            let error = self.disk.names(&folder).err().map(|error| error.kind());
            matches!(error, Some(io::ErrorKind::NotFound | io::ErrorKind::NotADirectory))
        };
        !(is_missing(self.journal()) && is_missing(self.snapshots()))
    }

    /// Whether a hub holds a lock at the moment.
    pub fn is_locked(&self) -> bool {
        self.disk.is_locked(&self.root.join("lock")) || self.disk.is_locked(&self.journal())
    }

    /// Whether the snapshots are still there.
    pub fn check_snapshots(&self) -> Result<(), NotOurs> {
        let Some(locks) = &self.locks else { return Ok(()) };
        let path = self.snapshots();
        match is_at(locks.lock().expect("no check panics").snapshots.is_at(&path), &path)? {
            true => Ok(()),
            false => Err(NotOurs(format!(
                "the folder {} was removed or replaced while the hub runs: put it back, or stop the hub, which then writes a snapshot",
                path.display()
            ))),
        }
    }

    /// Whether the folder is still this hub's: the paths lead to what it has locked. A lock file that was removed or
    /// replaced is locked again; if another process holds it, that process may be writing, and the folder is not this
    /// hub's any more.
    pub fn check_ours(&self) -> Result<(), NotOurs> {
        let Some(locks) = &self.locks else { return Ok(()) };
        let mut locks = locks.lock().expect("no check panics");
        if let Some(lost) = &locks.lost {
            return Err(NotOurs(lost.clone()));
        }
        let journal = self.journal();
        if !is_at(locks.folder.is_at(&journal), &journal)? {
            return Err(NotOurs(format!(
                "the folder {} was removed or replaced while the hub runs: stop the hub, put the folder back, start again",
                journal.display()
            )));
        }
        let path = self.root.join("lock");
        if rules::is_still_locked(is_at(locks.file.is_at(&path), &path)?) {
            return Ok(());
        }
        for _ in 0..LOCK_TRIES {
            match self.disk.lock(&path) {
                Ok(lock) => {
                    tracing::warn!(file = %path.display(), "the lock file was removed or replaced; it is locked again");
                    if let Err(error) = lock.name_owner() {
                        tracing::warn!(file = %path.display(), %error, "the lock file does not name this process");
                    }
                    (locks.file, locks.lost) = (lock, None);
                    return Ok(());
                }
                // Somebody who only looks whether a hub runs holds it for an instant.
                Err(LockFailure::Held(pid)) => {
                    locks.lost = Some(match pid {
                        Some(pid) => format!("process {pid} has locked {} too: stop one of both", path.display()),
                        None => format!("another process has locked {} too: stop one of both", path.display()),
                    });
                    self.disk.pause(LOCK_PAUSE);
                }
                Err(LockFailure::Io(error)) => {
                    return Err(NotOurs(format!("the lock file {} cannot be locked again: {error}", path.display())));
                }
            }
        }
        Err(NotOurs(locks.lost.clone().expect("each try found it held")))
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

    /// Snapshots that a start set aside.
    pub fn set_aside_snapshots(&self) -> io::Result<Vec<PathBuf>> {
        self.names(&self.snapshots(), |name| name.starts_with("snapshot-") && name.ends_with(".bad"))
    }

    /// Spare segments.
    pub fn spares(&self) -> io::Result<Vec<PathBuf>> {
        self.names(&self.journal(), |name| name.starts_with("spare-") && name.ends_with(".seg"))
    }

    /// Temporary files of a hub that stopped.
    pub fn leftovers(&self) -> io::Result<Vec<PathBuf>> {
        let mut paths = self.names(&self.journal(), |name| name.ends_with(".tmp"))?;
        paths.extend(self.names(&self.snapshots(), |name| name.ends_with(".tmp"))?);
        Ok(paths)
    }

    /// The files of a folder whose names match, in order; empty if there is no folder.
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

/// The process that a lock file names.
fn owner(disk: &dyn Disk, lock: &Path) -> Option<u32> {
    let text = disk.read_start(lock, 20).ok()?;
    std::str::from_utf8(&text).ok()?.trim().parse().ok()
}

/// Whether a path leads to a file of this hub. Without an answer it may not.
pub(crate) fn is_at(found: io::Result<bool>, path: &Path) -> Result<bool, NotOurs> {
    found.map_err(|error| NotOurs(format!("whether {} is still this hub's cannot be seen: {error}", path.display())))
}

/// Creates a folder durably: a synced file is lost with the unsynced name of a folder above it.
///
/// Each level is durable before the next is made. So of the existing levels only the deepest may not be durable yet, if
/// a start was stopped after making it.
pub(crate) fn create_durably(disk: &dyn Disk, folder: &Path) -> io::Result<()> {
    let is_missing = |path: &Path| disk.len(path).is_err_and(|error| error.kind() == io::ErrorKind::NotFound);
    let levels: Vec<_> = folder.ancestors().filter(|path| !path.as_os_str().is_empty()).collect();
    let missing = levels.iter().take_while(|path| is_missing(path)).count();
    for level in levels.iter().take(missing + 1).rev() {
        disk.create_folder(level)?;
        // The parent may belong to another user or be on a read-only file system: then it cannot be synced.
        if let Some(Err(error)) = level.parent().map(|above| disk.sync_folder(above)) {
            tracing::debug!(folder = %level.display(), %error, "the name of a folder could not be synced");
        }
    }
    Ok(())
}

impl SegmentFile {
    /// Reads the segment's header only.
    pub fn header(&self) -> io::Result<Result<Header, HeaderError>> {
        match self.disk.read_start(&self.path, HEADER_BYTES) {
            Ok(block) => Ok(Header::decode(&block)),
            Err(error) if disk::is_unreadable(&error) => Ok(Err(HeaderError::Unreadable)),
            Err(error) => Err(error),
        }
    }

    /// Reads the whole file into `buffer`, whose capacity is reused; returns what the disk does not give.
    pub fn read_into(&self, buffer: &mut Vec<u8>) -> io::Result<Vec<Range<usize>>> {
        self.disk.read_into(&self.path, buffer)
    }

    /// The file's size.
    pub fn bytes(&self) -> io::Result<u64> {
        self.disk.len(&self.path)
    }
}

impl fmt::Display for NotOurs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for NotOurs {}

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
            LockError::Io { step, path, source } => {
                let what = match step {
                    Step::Create => "created",
                    Step::Sync => "synced",
                    Step::Lock => "locked",
                };
                write!(f, "{} cannot be {what}: {source}: ", path.display())?;
                f.write_str(match (step, source.kind()) {
                    _ if disk::is_unreadable(source) => "check the disk",
                    (_, io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem) => {
                        "check the folder's owner and rights"
                    }
                    (Step::Create, _) => "choose another folder with --data-dir",
                    (Step::Sync, _) => {
                        "a file system whose folders cannot be synced is none for a journal: put the data folder on a local disk"
                    }
                    (Step::Lock, _) => {
                        "a file system without locks is none for a journal: put the data folder on a local disk"
                    }
                })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_cannot_be_used_is_reported_with_the_step_that_failed() {
        use io::ErrorKind::{InvalidInput, PermissionDenied, Unsupported};
        let table = [
            (Step::Sync, InvalidInput, "cannot be synced", "on a local disk"),
            (Step::Sync, Unsupported, "cannot be synced", "on a local disk"),
            (Step::Lock, Unsupported, "cannot be locked", "on a local disk"),
            (Step::Lock, PermissionDenied, "cannot be locked", "owner and rights"),
            (Step::Create, PermissionDenied, "cannot be created", "owner and rights"),
        ];
        for (step, kind, what, advice) in table {
            let error = LockError::Io { step, path: "/data".into(), source: kind.into() }.to_string();
            assert!(error.starts_with(&format!("/data {what}: ")) && error.ends_with(advice), "{error}");
        }
        let failing = disk::unreadable();
        let error = LockError::Io { step: Step::Sync, path: "/data".into(), source: failing }.to_string();
        assert!(error.ends_with("check the disk"), "{error}");
    }

    #[test]
    fn what_is_in_the_way_of_a_folder_is_named() {
        let root = tempfile::tempdir().unwrap();
        std::fs::write(root.path().join("journal"), "a file").unwrap();
        let error = Folder::lock(Arc::new(RealDisk), root.path()).map(|_| ()).unwrap_err().to_string();
        assert!(error.contains("journal is a file, not a folder"), "{error}");
    }
}
