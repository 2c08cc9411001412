//! The operating system: what differs between systems, each side written.

use std::io;
use std::path::Path;
use std::process::{Child, Command};

/// Raises the number of files that this process and its children may hold open to what the system grants, and returns
/// it. `None` where no such limit is known.
#[cfg(unix)]
pub fn raise_open_files() -> io::Result<Option<u64>> {
    rlimit::increase_nofile_limit(u64::MAX).map(Some)
}

/// Raises the number of files that this process may hold open: Windows has no such limit for sockets.
#[cfg(not(unix))]
pub fn raise_open_files() -> io::Result<Option<u64>> {
    Ok(None)
}

/// Whether files of the folder live in memory, where a sync costs nothing and a figure would mean nothing.
#[cfg(target_os = "linux")]
pub fn is_in_memory(folder: &Path) -> io::Result<bool> {
    // statfs(2): the magic numbers of tmpfs and ramfs.
    const IN_MEMORY: [i64; 2] = [0x0102_1994, 0x8584_58f6];
    let kind = rustix::fs::statfs(folder)?.f_type;
    #[allow(clippy::unnecessary_cast, reason = "the field is 32 bits wide on some systems")]
    Ok(IN_MEMORY.contains(&(kind as i64)))
}

/// Whether files of the folder live in memory: not known here.
#[cfg(not(target_os = "linux"))]
pub fn is_in_memory(_folder: &Path) -> io::Result<bool> {
    Ok(false)
}

/// Asks a child to stop.
#[cfg(unix)]
pub fn ask_to_stop(child: &mut Child) -> io::Result<()> {
    Ok(rustix::process::kill_process(pid(child), rustix::process::Signal::TERM)?)
}

/// Asks a child to stop: without signals there is no asking, so it is ended.
#[cfg(not(unix))]
pub fn ask_to_stop(child: &mut Child) -> io::Result<()> {
    child.kill()
}

/// Makes a process to be started the first of a group of its own, which signals of the terminal do not reach.
#[cfg(unix)]
pub fn lead_a_group(command: &mut Command) {
    std::os::unix::process::CommandExt::process_group(command, 0);
}

/// Process groups are Unix'.
#[cfg(not(unix))]
pub fn lead_a_group(_command: &mut Command) {}

/// Asks the group that a child leads to stop.
#[cfg(unix)]
pub fn ask_group_to_stop(child: &mut Child) -> io::Result<()> {
    Ok(rustix::process::kill_process_group(pid(child), rustix::process::Signal::TERM)?)
}

/// Asks a child to stop: it is ended, what it started is not.
#[cfg(not(unix))]
pub fn ask_group_to_stop(child: &mut Child) -> io::Result<()> {
    child.kill()
}

/// Ends the group that a child leads.
#[cfg(unix)]
pub fn kill_group(child: &mut Child) -> io::Result<()> {
    Ok(rustix::process::kill_process_group(pid(child), rustix::process::Signal::KILL)?)
}

/// Ends a child.
#[cfg(not(unix))]
pub fn kill_group(child: &mut Child) -> io::Result<()> {
    child.kill()
}

#[cfg(unix)]
fn pid(child: &Child) -> rustix::process::Pid {
    rustix::process::Pid::from_raw(child.id().cast_signed()).expect("a child has a number above zero")
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn a_folder_in_memory_is_distinguished_from_one_on_a_disk() {
        assert!(is_in_memory(Path::new("/dev/shm")).expect("it can be asked"));
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        assert!(!is_in_memory(here).expect("it can be asked"), "the sources lie on a disk");
    }

    #[test]
    fn the_limit_on_open_files_is_the_highest_granted() {
        let granted = raise_open_files().expect("raising to the maximum is allowed");
        assert_eq!(rustix::process::getrlimit(rustix::process::Resource::Nofile).current, granted);
    }
}
