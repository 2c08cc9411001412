//! Files: what the journal asks of a file system, and nothing more.
//!
//! Everything is created private (files 0600, folders 0700 on Unix; elsewhere the folder's own rights decide), and a new
//! name counts only after its folder was synced. In tests every operation can be made to fail.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::Path;

/// Zeros are written in pieces of this size: large enough that system calls do not count.
const FILL_BYTES: usize = 1 << 20;

/// Creates a folder, and those above it, for its owner only.
pub(crate) fn create_folder(path: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

/// Creates a file for its owner only, empty even if there was one.
pub(crate) fn create(path: &Path) -> io::Result<File> {
    faults::check(faults::Operation::Create)?;
    private().write(true).truncate(true).open(path)
}

/// Opens the file that a lock is taken on, and creates it if there is none.
pub(crate) fn open_lock(path: &Path) -> io::Result<File> {
    private().read(true).write(true).truncate(false).open(path)
}

/// Opens a file that exists to write into it where its bytes are.
pub(crate) fn open_to_write(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).open(path)
}

/// Writes all of `bytes` at the file's position.
pub(crate) fn write(file: &mut File, bytes: &[u8]) -> io::Result<()> {
    if let Err(error) = faults::check(faults::Operation::Write) {
        // What a failing disk does: some of it arrives.
        file.write_all(&bytes[..bytes.len() / 2])?;
        return Err(error);
    }
    file.write_all(bytes)
}

/// Returns when what was written is on the disk: fdatasync, on macOS F_FULLFSYNC, on Windows FlushFileBuffers.
pub(crate) fn sync(file: &File) -> io::Result<()> {
    faults::check(faults::Operation::Sync)?;
    file.sync_data()
}

/// Fills a new file with zeros up to `bytes` and syncs it: overwriting such blocks later needs no allocation, so
/// neither a full disk nor the file system's own journal stands in the way of an append.
pub(crate) fn fill_with_zeros(file: &mut File, bytes: u64) -> io::Result<()> {
    faults::check(faults::Operation::Fill)?;
    reserve(file, bytes)?;
    let zeros = vec![0; FILL_BYTES];
    let mut left = bytes;
    while left > 0 {
        let piece = left.min(FILL_BYTES as u64);
        file.write_all(&zeros[..piece as usize])?;
        left -= piece;
    }
    file.sync_all()
}

/// Reads a whole file into `buffer`, whose memory is used again.
pub(crate) fn read_into(path: &Path, buffer: &mut Vec<u8>) -> io::Result<()> {
    buffer.clear();
    let mut file = File::open(path)?;
    buffer.reserve(file.metadata().map_or(0, |metadata| metadata.len() as usize));
    file.read_to_end(buffer).map(drop)
}

/// Gives a synced file its name, in the place of a file of that name, and syncs the folder.
pub(crate) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    faults::check(faults::Operation::Rename)?;
    fs::rename(from, to)?;
    sync_folder(to.parent().expect("a file of the journal is in a folder"))
}

/// Makes the names in a folder durable. Windows has no such call: NTFS journals names itself.
#[cfg(unix)]
pub(crate) fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Makes the names in a folder durable. Windows has no such call: NTFS journals names itself.
#[cfg(not(unix))]
pub(crate) fn sync_folder(_path: &Path) -> io::Result<()> {
    Ok(())
}

/// Whether an error says that there is no room: the disk, the user's quota, or the process' limit on file sizes.
pub(crate) fn is_no_space(error: &io::Error) -> bool {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge)
}

/// Asks for the blocks at once: a full disk shows before a byte is written, and they lie together.
#[cfg(target_os = "linux")]
fn reserve(file: &File, bytes: u64) -> io::Result<()> {
    use rustix::io::Errno;
    match rustix::fs::fallocate(file, rustix::fs::FallocateFlags::empty(), 0, bytes) {
        // The zeros that follow allocate them one by one on file systems that cannot.
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
    let mut options = OpenOptions::new();
    options.create(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
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

    /// Nothing fails any more on this thread.
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
