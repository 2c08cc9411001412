//! The platform: what the command line needs of the system, with an implementation for each.

pub mod guard;
pub mod init;
pub mod process;

use std::io;
use std::path::Path;

/// Raises the limit of open files as far as the system allows; returns the limit.
#[cfg(unix)]
pub fn raise_open_files_max() -> u64 {
    let raised = rlimit::increase_nofile_limit(u64::MAX);
    // A limit that cannot be raised still is one.
    raised.or_else(|_| rlimit::Resource::NOFILE.get_soft()).unwrap_or(u64::MAX)
}

/// Windows has no such limit for sockets.
#[cfg(not(unix))]
pub fn raise_open_files_max() -> u64 {
    u64::MAX
}

/// Makes a write beyond the limit of a file's size (`ulimit -f`) fail as on a full disk, instead of ending the process:
/// SIGXFSZ ends a process that does not handle it.
#[cfg(unix)]
pub fn survive_file_size_limit() -> io::Result<()> {
    use signal_hook::consts::SIGXFSZ;
    // The signal itself is ignored: the write fails as well.
    signal_hook::flag::register(SIGXFSZ, std::sync::Arc::default()).map(drop)
}

/// Windows has no such limit.
#[cfg(not(unix))]
pub fn survive_file_size_limit() -> io::Result<()> {
    Ok(())
}

/// The space of a file system.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DiskSpace {
    /// The total bytes.
    pub bytes: u64,
    /// The bytes that are available to this user.
    pub bytes_available: u64,
}

/// The space of the file system that a path is on.
#[cfg(unix)]
pub fn disk_space(path: &Path) -> io::Result<DiskSpace> {
    let stat = rustix::fs::statvfs(path)?;
    Ok(DiskSpace { bytes: stat.f_blocks * stat.f_frsize, bytes_available: stat.f_bavail * stat.f_frsize })
}

/// The space of the file system that a path is on.
#[cfg(windows)]
pub fn disk_space(path: &Path) -> io::Result<DiskSpace> {
    Ok(DiskSpace { bytes: fs4::total_space(path)?, bytes_available: fs4::available_space(path)? })
}

/// The system's kernel and its release.
#[cfg(unix)]
pub fn kernel() -> Option<String> {
    let name = rustix::system::uname();
    Some(format!("{} {}", name.sysname().to_string_lossy(), name.release().to_string_lossy()))
}

/// On Windows only the command `ver` prints it.
#[cfg(not(unix))]
pub fn kernel() -> Option<String> {
    None
}

/// Bytes of the machine's memory.
#[cfg(target_os = "linux")]
pub fn memory_bytes() -> Option<u64> {
    let info = rustix::system::sysinfo();
    Some(u64::from(info.mem_unit) * info.totalram as u64)
}

/// Elsewhere none of the libraries in use provides it.
#[cfg(not(target_os = "linux"))]
pub fn memory_bytes() -> Option<u64> {
    None
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn a_disk_has_more_space_than_is_available() {
        let folder = tempfile::tempdir().unwrap();
        let space = disk_space(folder.path()).unwrap();
        assert!(space.bytes >= space.bytes_available && space.bytes > 0, "{space:?}");
        assert!(disk_space(&folder.path().join("none")).is_err());
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn the_limit_of_open_files_is_raised_to_the_hard_one_and_stays() {
        use rustix::process::{Resource, getrlimit};
        let raised = raise_open_files_max();
        let limit = getrlimit(Resource::Nofile);
        assert_eq!((limit.current.unwrap_or(u64::MAX), raised), (raised, limit.maximum.unwrap_or(u64::MAX)));
        assert_eq!(raise_open_files_max(), raised);
    }
}
