//! The platform: functions that differ between Linux, macOS and Windows, with an implementation for each.

use std::fs::{self, OpenOptions};
use std::io;
use std::path::Path;

/// A request of the operator to a running hub.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Signal {
    /// Stop: SIGTERM, ctrl-C.
    Stop,
    /// Reload the settings that can be reloaded: SIGHUP.
    Reload,
}

/// Creates a folder, and those above it, that only its owner can read.
pub fn create_private_dir(path: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path).map_err(|error| match obstacle(path) {
        Some(obstacle) => io::Error::new(error.kind(), obstacle),
        None => error,
    })
}

/// What is in the way of a folder: the system's error does not name it.
fn obstacle(path: &Path) -> Option<String> {
    let found = path.ancestors().find_map(|part| Some((part, fs::symlink_metadata(part).ok()?)));
    let (part, metadata) = found.filter(|(part, _)| !part.is_dir())?;
    let target = fs::read_link(part).ok().filter(|_| metadata.is_symlink());
    Some(match target {
        Some(target) if part.exists() => {
            format!("{} is a link to {}, which is no folder", part.display(), target.display())
        }
        Some(target) => format!("{} is a link to {}, which does not exist", part.display(), target.display()),
        None => format!("{} is a file, not a folder", part.display()),
    })
}

/// Options that create a file that only its owner can read.
pub fn private_file_options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

/// Creates a file that only its owner can read, in place of what has its name. It is never opened through a link: the
/// name is removed, and the file must be new (`O_EXCL`).
pub fn create_new_private(path: &Path) -> io::Result<fs::File> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    private_file_options().create_new(true).open(path)
}

/// Whether users other than a file's owner can read it.
#[cfg(unix)]
pub fn is_open_to_others(path: &Path) -> io::Result<bool> {
    use std::os::unix::fs::PermissionsExt;
    Ok(fs::metadata(path)?.permissions().mode() & 0o044 != 0)
}

/// On Windows a file has the permissions of its folder, which its owner chose.
#[cfg(not(unix))]
pub fn is_open_to_others(_path: &Path) -> io::Result<bool> {
    Ok(false)
}

/// Why others than this user decide what is at a path: it is theirs, or they can write it. `None` if they do not, or if
/// nothing is there.
#[cfg(unix)]
pub fn foreign(path: &Path) -> Option<String> {
    use std::os::unix::fs::MetadataExt;
    let metadata = fs::metadata(path).ok()?;
    let user = rustix::process::geteuid().as_raw();
    if metadata.uid() != user {
        return Some(format!("belongs to another user (uid {}, yours is {user})", metadata.uid()));
    }
    (metadata.mode() & 0o022 != 0).then(|| format!("can be written by others (mode {:04o})", metadata.mode() & 0o7777))
}

/// On Windows a file has the permissions of its folder, which its owner chose.
#[cfg(not(unix))]
pub fn foreign(_path: &Path) -> Option<String> {
    None
}

/// Removes all permissions of a file but its owner's. Returns `true` if there were any.
#[cfg(unix)]
pub fn make_private(path: &Path) -> io::Result<bool> {
    use std::os::unix::fs::PermissionsExt;
    let mode = fs::metadata(path)?.permissions().mode();
    if mode & 0o077 == 0 {
        return Ok(false);
    }
    fs::set_permissions(path, fs::Permissions::from_mode(mode & 0o700))?;
    Ok(true)
}

/// On Windows a file has the permissions of its folder, which is the user's own.
#[cfg(not(unix))]
pub fn make_private(_path: &Path) -> io::Result<bool> {
    Ok(false)
}

/// Renames a file; an existing file with the new name is replaced.
#[cfg(not(windows))]
pub fn rename(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)
}

/// Renames a file; an existing file with the new name is replaced. A file that another process has open, a reader or a
/// virus scanner, cannot be replaced on all file systems and releases of Windows: it is tried again for a second.
#[cfg(windows)]
pub fn rename(from: &Path, to: &Path) -> io::Result<()> {
    use std::time::{Duration, Instant};
    const ERROR_SHARING_VIOLATION: i32 = 32;
    let started = Instant::now();
    loop {
        match fs::rename(from, to) {
            Err(error)
                if error.kind() == io::ErrorKind::PermissionDenied
                    || error.raw_os_error() == Some(ERROR_SHARING_VIOLATION) =>
            {
                if started.elapsed() > Duration::from_secs(1) {
                    return Err(error);
                }
                std::thread::sleep(Duration::from_millis(10));
            }
            renamed => return renamed,
        }
    }
}

/// Makes the names in a folder durable: after a power cut, a new file exists only if its folder was synced. An empty
/// path is the current folder.
pub fn sync_dir(path: &Path) -> io::Result<()> {
    sync_opened_dir(if path.as_os_str().is_empty() { Path::new(".") } else { path })
}

#[cfg(all(unix, not(target_vendor = "apple")))]
fn sync_opened_dir(path: &Path) -> io::Result<()> {
    fs::File::open(path)?.sync_all()
}

/// `F_FULLFSYNC`, which SMB and exFAT do not have for folders: there fsync is all that they offer.
#[cfg(target_vendor = "apple")]
fn sync_opened_dir(path: &Path) -> io::Result<()> {
    let folder = fs::File::open(path)?;
    folder.sync_all().or_else(|_| Ok(rustix::fs::fsync(&folder)?))
}

/// `FlushFileBuffers` of the folder (`FILE_FLAG_BACKUP_SEMANTICS` opens it). File systems that do not flush folders
/// refuse it; then names are as durable as the file system makes them.
#[cfg(windows)]
fn sync_opened_dir(path: &Path) -> io::Result<()> {
    use std::os::windows::fs::OpenOptionsExt;
    const FILE_FLAG_BACKUP_SEMANTICS: u32 = 0x0200_0000;
    /// ERROR_INVALID_FUNCTION, ERROR_ACCESS_DENIED, ERROR_INVALID_HANDLE, ERROR_NOT_SUPPORTED, ERROR_INVALID_PARAMETER.
    const REFUSED: [i32; 5] = [1, 5, 6, 50, 87];
    let folder = OpenOptions::new().write(true).custom_flags(FILE_FLAG_BACKUP_SEMANTICS).open(path);
    match folder.and_then(|folder| folder.sync_all()) {
        Err(error) if error.raw_os_error().is_some_and(|code| REFUSED.contains(&code)) => {
            tracing::debug!(folder = %path.display(), %error, "this file system does not flush folders");
            Ok(())
        }
        synced => synced,
    }
}

/// Microseconds of a clock that runs while the machine sleeps. The monotonic clock of [`std::time::Instant`] stands
/// still then.
#[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
pub fn sleepless_us() -> Option<u64> {
    use rustix::time::{ClockId, clock_gettime};
    #[cfg(not(target_vendor = "apple"))]
    let now = clock_gettime(ClockId::Boottime);
    #[cfg(target_vendor = "apple")]
    let now = clock_gettime(ClockId::Monotonic);
    Some(now.tv_sec as u64 * 1_000_000 + now.tv_nsec as u64 / 1_000)
}

/// Other systems are not asked: a sleep is a step of the machine's clock there, or on Windows passes as time awake.
#[cfg(not(any(target_os = "linux", target_os = "android", target_vendor = "apple")))]
pub fn sleepless_us() -> Option<u64> {
    None
}

/// Lowers the calling thread's priority below all others, for work that may be slow.
#[cfg(target_os = "linux")]
pub fn lower_thread_priority() -> io::Result<()> {
    // On Linux a thread has a niceness of its own.
    rustix::process::nice(10)?;
    Ok(())
}

/// Elsewhere niceness applies to the whole process, whose other threads must keep their priority.
#[cfg(not(target_os = "linux"))]
pub fn lower_thread_priority() -> io::Result<()> {
    Ok(())
}

/// Starts a thread that calls `handle` for each signal.
#[cfg(unix)]
pub fn on_signals(mut handle: impl FnMut(Signal) + Send + 'static) -> io::Result<()> {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    let mut signals = signal_hook::iterator::Signals::new([SIGTERM, SIGINT, SIGHUP])?;
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        for signal in signals.forever() {
            handle(if signal == SIGHUP { Signal::Reload } else { Signal::Stop });
        }
    })?;
    Ok(())
}

/// Calls `handle` for each ctrl-C, ctrl-Break and console that closes.
#[cfg(windows)]
pub fn on_signals(mut handle: impl FnMut(Signal) + Send + 'static) -> io::Result<()> {
    ctrlc::set_handler(move || handle(Signal::Stop)).map_err(io::Error::other)
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn only_their_owner_can_read_private_files_and_folders() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("a/b");
        create_private_dir(&inner).unwrap();
        assert_eq!(mode(&inner), 0o700);
        let file = inner.join("f");
        private_file_options().create_new(true).open(&file).unwrap();
        assert_eq!(mode(&file), 0o600);
        assert!(!make_private(&file).unwrap() && !is_open_to_others(&file).unwrap());
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(is_open_to_others(&file).unwrap());
        assert!(make_private(&file).unwrap());
        assert_eq!(mode(&file), 0o600);
        sync_dir(&inner).unwrap();
    }
}
