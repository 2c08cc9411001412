//! Disk: the file system operations that the hub's files need.
//!
//! It is a trait with two implementors: the machine's disk, and the simulator's, which loses unsynced bytes when its
//! power fails. Only operations that make a system call go through it, so its cost cannot be measured.
//!
//! Everything is created private (files 0600, folders 0700 on Unix; elsewhere the folder's permissions apply), and a
//! new name is durable only after its folder was synced. In tests every operation of the machine's disk can be made to
//! fail.

use crate::platform;
use same_file::Handle;
use std::ffi::OsString;
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::Path;
use std::process;
use std::thread;
use std::time::Duration;

/// Zeros are written in pieces of this size: large enough that the cost of system calls is negligible.
const FILL_BYTES: usize = 1 << 20;
/// A file with unreadable parts is read in pieces of this size, and a piece that fails in blocks.
const PIECE_BYTES: usize = 1 << 20;
const BLOCK_BYTES: usize = 4096;

/// A file system.
pub trait Disk: fmt::Debug + Send + Sync {
    /// Creates a folder, and those above it, for its owner only.
    fn create_folder(&self, path: &Path) -> io::Result<()>;

    /// Locks a file, and creates it if it does not exist: the one that the path leads to when it is locked. The lock is
    /// held until the guard is dropped or the process ends.
    fn lock(&self, path: &Path) -> Result<Box<dyn Lock>, LockFailure>;

    /// Locks a folder, which cannot be removed while it has files. Where the system or the file system has no such
    /// locks, the guard only knows the folder.
    fn lock_folder(&self, path: &Path) -> Result<Box<dyn Lock>, LockFailure>;

    /// Waits before a lock is tried again.
    fn pause(&self, pause: Duration);

    /// Whether the lock is held at the moment.
    fn is_locked(&self, path: &Path) -> bool;

    /// Creates a file for its owner only; an existing one is emptied.
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;

    /// Opens an existing file to overwrite its bytes.
    fn open_to_write(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;

    /// Opens a file to append to it; creates it, for its owner only, if it does not exist.
    fn open_to_append(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;

    /// Opens a file to read it from its start, piece by piece.
    fn open_to_read(&self, path: &Path) -> io::Result<Box<dyn DiskReader>>;

    /// Reads a whole file into `buffer`, whose capacity is reused. Returns the ranges that the disk does not give
    /// ([`is_unreadable`]), which are zeros in the buffer.
    fn read_into(&self, path: &Path, buffer: &mut Vec<u8>) -> io::Result<Vec<Range<usize>>>;

    /// The first `bytes_max` bytes of a file, or all of a shorter one.
    fn read_start(&self, path: &Path, bytes_max: usize) -> io::Result<Vec<u8>>;

    /// The size of a file.
    fn len(&self, path: &Path) -> io::Result<u64>;

    /// The names in a folder, in no order.
    fn names(&self, folder: &Path) -> io::Result<Vec<OsString>>;

    /// Renames a file; an existing file with the new name is replaced. Durable when the folders are synced.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Links a file under a second name, or copies it where links are not possible.
    fn copy(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file. Durable when its folder is synced.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Makes the names in a folder durable.
    fn sync_folder(&self, path: &Path) -> io::Result<()>;
}

/// A file that is being written.
#[allow(clippy::len_without_is_empty, reason = "nobody asks whether a file is empty")]
pub trait DiskFile: Write + fmt::Debug + Send {
    /// Returns when all written bytes are durable: fdatasync, on macOS F_FULLFSYNC, on Windows FlushFileBuffers.
    fn sync(&mut self) -> io::Result<()>;

    /// Fills a new file with zeros up to `bytes` and syncs it: overwriting such blocks later needs no allocation, so
    /// neither a full disk nor the file system's own journal stands in the way of an append.
    fn fill_with_zeros(&mut self, bytes: u64) -> io::Result<()>;

    /// Sets the position of the next write.
    fn seek_to(&mut self, offset: u64) -> io::Result<()>;

    /// Truncates the file to this many bytes.
    fn set_len(&mut self, bytes: u64) -> io::Result<()>;

    /// The file's size.
    fn len(&self) -> io::Result<u64>;

    /// Whether a path leads to this file. `false` if nothing exists there.
    fn is_at(&self, path: &Path) -> io::Result<bool>;
}

/// A file that is being read.
pub trait DiskReader: Read + Seek + fmt::Debug + Send {
    /// The same file from its start, even if its path leads to another file by now. Only one of both may be read at a
    /// time.
    fn again(&self) -> io::Result<Box<dyn DiskReader>>;

    /// Whether a path leads to this file; an error if nothing exists there.
    fn is_at(&self, path: &Path) -> io::Result<bool>;
}

/// A held lock, released when it is dropped.
pub trait Lock: fmt::Debug + Send + Sync {
    /// Whether a path leads to what is locked. `false` if nothing exists there.
    fn is_at(&self, path: &Path) -> io::Result<bool>;

    /// Writes the process' id into the locked file, for those that are refused.
    fn name_owner(&self) -> io::Result<()>;
}

/// Why a file cannot be locked.
#[derive(Debug)]
pub enum LockFailure {
    /// Another process holds it, with its id if the file names it.
    Held(Option<u32>),
    /// The file cannot be created or read.
    Io(io::Error),
}

/// Writes all of `bytes` at the file's position.
pub(crate) fn write(file: &mut dyn DiskFile, bytes: &[u8]) -> io::Result<()> {
    if let Err(error) = faults::check(faults::Operation::Write) {
        // A failing disk may write a part.
        file.write_all(&bytes[..bytes.len() / 2])?;
        return Err(error);
    }
    file.write_all(bytes)
}

/// Renames a synced file, replacing a file of the new name, and syncs the folder.
pub(crate) fn rename_durably(disk: &dyn Disk, from: &Path, to: &Path) -> io::Result<()> {
    faults::check(faults::Operation::Rename)?;
    disk.rename(from, to)?;
    let folder = to.parent().expect("a file that is renamed is in a folder");
    disk.sync_folder(folder)
}

/// Whether an error means that there is no space: the disk, the user's quota, or the process's limit on file sizes.
pub(crate) fn is_no_space(error: &io::Error) -> bool {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge)
}

/// Whether an error means that the disk does not give these bytes: an unreadable sector, or a checksum of the file
/// system that does not match. Any other error (too many open files, no permission) says nothing about the bytes.
pub(crate) fn is_unreadable(error: &io::Error) -> bool {
    error.raw_os_error().is_some_and(|code| UNREADABLE.contains(&code))
}

/// The error of a disk that does not give some bytes, for a simulated one.
pub fn unreadable() -> io::Error {
    io::Error::from_raw_os_error(UNREADABLE[0])
}

/// EIO, ENODATA (a medium error as the block layer reports it), EBADMSG and EUCLEAN (checksums of file systems).
#[cfg(target_os = "linux")]
const UNREADABLE: &[i32] = &[5, 61, 74, 117];
/// EIO.
#[cfg(all(unix, not(target_os = "linux")))]
const UNREADABLE: &[i32] = &[5];
/// ERROR_CRC, ERROR_SECTOR_NOT_FOUND, ERROR_READ_FAULT, ERROR_IO_DEVICE.
#[cfg(not(unix))]
const UNREADABLE: &[i32] = &[23, 27, 30, 1117];

/// Reads a file of which the disk does not give all bytes, piece by piece; the ranges that it does not give are zeros.
/// Pieces that fail are tried again in blocks, so that a hole is no larger than what is unreadable.
fn read_around_holes(file: &mut File, bytes: usize, buffer: &mut Vec<u8>) -> io::Result<Vec<Range<usize>>> {
    buffer.clear();
    buffer.resize(bytes, 0);
    let mut holes: Vec<Range<usize>> = Vec::new();
    let mut at = 0;
    let mut piece_bytes = PIECE_BYTES;
    while at < bytes {
        let piece = at..(at + piece_bytes).min(bytes);
        let read = file.seek(SeekFrom::Start(at as u64)).and_then(|_| file.read_exact(&mut buffer[piece.clone()]));
        match read {
            Ok(()) => {}
            Err(error) if is_unreadable(&error) && piece_bytes > BLOCK_BYTES => {
                piece_bytes = BLOCK_BYTES;
                continue;
            }
            Err(error) if is_unreadable(&error) => {
                buffer[piece.clone()].fill(0);
                match holes.last_mut().filter(|hole| hole.end == piece.start) {
                    Some(hole) => hole.end = piece.end,
                    None => holes.push(piece.clone()),
                }
            }
            Err(error) => return Err(error),
        }
        at = piece.end;
        if at.is_multiple_of(PIECE_BYTES) {
            piece_bytes = PIECE_BYTES;
        }
    }
    Ok(holes)
}

/// The machine's file system.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealDisk;

/// To open a pipe would wait, for ever perhaps, until somebody reads it.
fn refuse_pipe(path: &Path) -> io::Result<()> {
    #[cfg(unix)]
    if let Ok(found) = fs::metadata(path)
        && std::os::unix::fs::FileTypeExt::is_fifo(&found.file_type())
    {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is a named pipe, which no log is written to"));
    }
    #[cfg(not(unix))]
    let _ = path;
    Ok(())
}

impl Disk for RealDisk {
    fn create_folder(&self, path: &Path) -> io::Result<()> {
        platform::create_private_dir(path)
    }

    fn lock(&self, path: &Path) -> Result<Box<dyn Lock>, LockFailure> {
        loop {
            let mut lock = private().read(true).write(true).truncate(false).open(path).map_err(LockFailure::Io)?;
            match lock.try_lock() {
                Ok(()) => {}
                Err(fs::TryLockError::WouldBlock) => {
                    let mut text = String::new();
                    // Windows does not let others read a locked file: then the process remains unknown.
                    let pid = lock.read_to_string(&mut text).ok().and_then(|_| text.trim().parse().ok());
                    return Err(LockFailure::Held(pid));
                }
                Err(fs::TryLockError::Error(source)) => return Err(LockFailure::Io(source)),
            }
            // The file may have been removed or replaced between the two calls: its lock then excludes nobody.
            if is_same(&lock, path).map_err(LockFailure::Io)? {
                return Ok(Box::new(FileLock(lock)));
            }
        }
    }

    #[cfg(unix)]
    fn lock_folder(&self, path: &Path) -> Result<Box<dyn Lock>, LockFailure> {
        loop {
            let folder = File::open(path).map_err(LockFailure::Io)?;
            match folder.try_lock() {
                Ok(()) => {}
                Err(fs::TryLockError::WouldBlock) => return Err(LockFailure::Held(None)),
                // A network file system may lock files only; the lock of the file excludes a second hub.
                Err(fs::TryLockError::Error(error)) => {
                    tracing::debug!(folder = %path.display(), %error, "this file system does not lock folders");
                }
            }
            if is_same(&folder, path).map_err(LockFailure::Io)? {
                return Ok(Box::new(FileLock(folder)));
            }
        }
    }

    #[cfg(not(unix))]
    fn lock_folder(&self, _path: &Path) -> Result<Box<dyn Lock>, LockFailure> {
        Ok(Box::new(NoLock))
    }

    fn pause(&self, pause: Duration) {
        thread::sleep(pause);
    }

    fn is_locked(&self, path: &Path) -> bool {
        File::open(path).is_ok_and(|lock| matches!(lock.try_lock_shared(), Err(fs::TryLockError::WouldBlock)))
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        faults::check(faults::Operation::Create)?;
        Ok(Box::new(private().write(true).truncate(true).open(path)?))
    }

    fn open_to_write(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(OpenOptions::new().write(true).open(path)?))
    }

    fn open_to_append(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        refuse_pipe(path)?;
        Ok(Box::new(private().append(true).open(path)?))
    }

    fn open_to_read(&self, path: &Path) -> io::Result<Box<dyn DiskReader>> {
        Ok(Box::new(File::open(path)?))
    }

    fn read_into(&self, path: &Path, buffer: &mut Vec<u8>) -> io::Result<Vec<Range<usize>>> {
        buffer.clear();
        let mut file = File::open(path)?;
        let bytes = file.metadata()?.len() as usize;
        buffer.reserve(bytes);
        match file.read_to_end(buffer) {
            Ok(_) => Ok(Vec::new()),
            Err(error) if is_unreadable(&error) => read_around_holes(&mut file, bytes, buffer),
            Err(error) => Err(error),
        }
    }

    fn read_start(&self, path: &Path, bytes_max: usize) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::with_capacity(bytes_max);
        File::open(path)?.take(bytes_max as u64).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn len(&self, path: &Path) -> io::Result<u64> {
        fs::metadata(path).map(|metadata| metadata.len())
    }

    fn names(&self, folder: &Path) -> io::Result<Vec<OsString>> {
        fs::read_dir(folder)?.map(|entry| Ok(entry?.file_name())).collect()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        platform::rename(from, to)
    }

    fn copy(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::hard_link(from, to).or_else(|_| fs::copy(from, to).map(drop))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        platform::sync_dir(path)
    }
}

impl DiskFile for File {
    fn sync(&mut self) -> io::Result<()> {
        faults::check(faults::Operation::Sync)?;
        self.sync_data()
    }

    fn fill_with_zeros(&mut self, bytes: u64) -> io::Result<()> {
        faults::check(faults::Operation::Fill)?;
        reserve(self, bytes)?;
        let zeros = vec![0; FILL_BYTES];
        let mut left = bytes;
        while left > 0 {
            let piece = left.min(FILL_BYTES as u64);
            self.write_all(&zeros[..piece as usize])?;
            left -= piece;
        }
        self.sync_all()
    }

    fn seek_to(&mut self, offset: u64) -> io::Result<()> {
        self.seek(SeekFrom::Start(offset)).map(drop)
    }

    fn set_len(&mut self, bytes: u64) -> io::Result<()> {
        File::set_len(self, bytes)
    }

    fn len(&self) -> io::Result<u64> {
        self.metadata().map(|metadata| metadata.len())
    }

    fn is_at(&self, path: &Path) -> io::Result<bool> {
        is_same(self, path)
    }
}

impl DiskReader for File {
    fn again(&self) -> io::Result<Box<dyn DiskReader>> {
        let mut file = self.try_clone()?;
        file.rewind()?;
        Ok(Box::new(file))
    }

    fn is_at(&self, path: &Path) -> io::Result<bool> {
        Ok(Handle::from_path(path)? == Handle::from_file(self.try_clone()?)?)
    }
}

/// The system releases it even if the process is killed.
#[derive(Debug)]
struct FileLock(File);

impl Lock for FileLock {
    fn is_at(&self, path: &Path) -> io::Result<bool> {
        is_same(&self.0, path)
    }

    fn name_owner(&self) -> io::Result<()> {
        let mut file = &self.0;
        file.set_len(0)?;
        file.rewind()?;
        writeln!(file, "{}", process::id())
    }
}

/// In place of a lock that the system does not have.
#[cfg(not(unix))]
#[derive(Debug)]
struct NoLock;

#[cfg(not(unix))]
impl Lock for NoLock {
    fn is_at(&self, path: &Path) -> io::Result<bool> {
        fs::exists(path)
    }

    fn name_owner(&self) -> io::Result<()> {
        Ok(())
    }
}

/// Whether a path leads to an open file or folder. `false` if nothing exists there.
fn is_same(file: &File, path: &Path) -> io::Result<bool> {
    #[cfg(unix)]
    let is_same = {
        use std::os::unix::fs::MetadataExt;
        let open = file.metadata()?;
        fs::metadata(path).map(|named| (named.dev(), named.ino()) == (open.dev(), open.ino()))
    };
    #[cfg(not(unix))]
    let is_same = {
        let open = Handle::from_file(file.try_clone()?)?;
        Handle::from_path(path).map(|named| named == open)
    };
    match is_same {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(false),
        is_same => is_same,
    }
}

impl Drop for FileLock {
    /// Closing the file would leave the lock to a child that is just being forked, which has a copy until it executes
    /// another program (flock(2)).
    fn drop(&mut self) {
        // If that fails, the lock is released with the last copy.
        _ = self.0.unlock();
    }
}

/// Allocates the blocks at once: a full disk is detected before a byte is written, and the blocks are contiguous.
#[cfg(target_os = "linux")]
fn reserve(file: &File, bytes: u64) -> io::Result<()> {
    use rustix::io::Errno;
    match rustix::fs::fallocate(file, rustix::fs::FallocateFlags::empty(), 0, bytes) {
        // On file systems without this call, the zeros that follow allocate them one by one.
        Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Elsewhere the zeros themselves allocate the blocks.
#[cfg(not(target_os = "linux"))]
fn reserve(_file: &File, _bytes: u64) -> io::Result<()> {
    Ok(())
}

fn private() -> OpenOptions {
    let mut options = platform::private_file_options();
    options.create(true);
    options
}

/// Failures that a test arms for its own thread.
pub(crate) mod faults {
    use std::io;

    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub(crate) enum Operation {
        Create,
        Write,
        Sync,
        Fill,
        Rename,
    }

    #[cfg(not(test))]
    #[inline]
    pub(crate) fn check(_operation: Operation) -> io::Result<()> {
        Ok(())
    }

    #[cfg(test)]
    thread_local! {
        static ARMED: std::cell::RefCell<Vec<(Operation, io::ErrorKind)>> = const { std::cell::RefCell::new(Vec::new()) };
    }

    /// The next operation of that kind on this thread fails.
    #[cfg(test)]
    pub(crate) fn arm(operation: Operation, kind: io::ErrorKind) {
        ARMED.with_borrow_mut(|armed| armed.push((operation, kind)));
    }

    /// Disarms all failures on this thread.
    #[cfg(test)]
    pub(crate) fn disarm() {
        ARMED.with_borrow_mut(Vec::clear);
    }

    #[cfg(test)]
    pub(crate) fn check(operation: Operation) -> io::Result<()> {
        ARMED.with_borrow_mut(|armed| match armed.iter().position(|(armed, _)| *armed == operation) {
            Some(at) => Err(armed.remove(at).1.into()),
            None => Ok(()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_released_with_its_guard_although_a_child_that_is_being_forked_has_the_file_too() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let file = private().read(true).write(true).truncate(false).open(&path).unwrap();
        file.try_lock().unwrap();
        // As a forked child has it until it executes another program.
        let copy = file.try_clone().unwrap();
        drop(FileLock(file));
        assert!(RealDisk.lock(&path).is_ok());
        drop(copy);
    }
}
