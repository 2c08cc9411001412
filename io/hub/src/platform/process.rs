//! Processes: how they are started, asked to stop and killed, with an implementation for each system.

use std::ffi::OsStr;
#[cfg(unix)]
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};

/// The shell's command for a line.
#[cfg(unix)]
pub fn shell(line: &str) -> Command {
    let mut command = Command::new("sh");
    command.arg("-c").arg(line);
    command
}

/// `cmd` parses its line by its own rules: the line must be passed unquoted.
#[cfg(windows)]
pub fn shell(line: &str) -> Command {
    use std::os::windows::process::CommandExt;
    let mut command = Command::new("cmd");
    command.raw_arg("/D /S /C \"").raw_arg(line).raw_arg("\"");
    command
}

/// Runs a command in a process group of its own: ctrl-C in the terminal does not reach it, and [`kill_group`] reaches
/// its children.
#[cfg(unix)]
pub fn in_own_group(command: &mut Command) {
    std::os::unix::process::CommandExt::process_group(command, 0);
}

/// Runs a command in a process group of its own: ctrl-C in the console does not reach it (`CREATE_NEW_PROCESS_GROUP`).
#[cfg(windows)]
pub fn in_own_group(command: &mut Command) {
    std::os::windows::process::CommandExt::creation_flags(command, 0x0000_0200);
}

/// Kills a process that runs in a group of its own, and its children.
#[cfg(unix)]
pub fn kill_group(id: u32) {
    use rustix::process::{Signal, kill_process_group};
    // A group without members is fine: it has ended.
    let _ = kill_process_group(pid(id), Signal::KILL);
}

/// Kills a process and its children.
#[cfg(windows)]
pub fn kill_group(id: u32) {
    let mut command = Command::new("taskkill");
    command.args(["/T", "/F", "/PID", &id.to_string()]).stdout(Stdio::null()).stderr(Stdio::null());
    // A tree without members is fine: it has ended.
    let _ = command.status();
}

/// Asks a process that runs in a group of its own, and its children, to end.
#[cfg(unix)]
pub fn terminate_group(id: u32) {
    use rustix::process::{Signal, kill_process_group};
    // A group without members is fine: it has ended.
    let _ = kill_process_group(pid(id), Signal::TERM);
}

/// Windows has no request to end that a process without a console could get.
#[cfg(windows)]
pub fn terminate_group(_: u32) {}

/// Whether a program can be found as `exec` does: by its path, or in the folders of `PATH`.
#[cfg(unix)]
pub fn finds(program: &OsStr) -> bool {
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::PermissionsExt;
    let is_program = |path: &Path| {
        path.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
    };
    if program.as_bytes().contains(&b'/') {
        return is_program(Path::new(program));
    }
    let folders = std::env::var_os("PATH").unwrap_or_else(|| "/bin:/usr/bin".into());
    std::env::split_paths(&folders).any(|folder| is_program(&folder.join(program)))
}

/// Windows also looks elsewhere, and adds extensions: what is missing shows when it is started.
#[cfg(windows)]
pub fn finds(_: &OsStr) -> bool {
    true
}

/// Whether the shell finds a command of this name: a program, a function of its own, a reserved word.
#[cfg(unix)]
pub fn shell_finds(word: &OsStr) -> bool {
    let mut command = Command::new("sh");
    command.args(["-c", "command -v -- \"$1\"", "sh"]).arg(word);
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    // A shell that cannot be started is found missing when it is to run a job.
    status.map_or(true, |status| status.success())
}

/// What is missing shows when it is started.
#[cfg(windows)]
pub fn shell_finds(_: &OsStr) -> bool {
    true
}

/// Asks a child that was not waited for to stop; whether it could be asked.
#[cfg(unix)]
pub fn ask_to_stop(child: &Child) -> bool {
    rustix::process::kill_process(pid(child.id()), rustix::process::Signal::TERM).is_ok()
}

/// Windows has no request to stop that a process without a console could get.
#[cfg(windows)]
pub fn ask_to_stop(_: &Child) -> bool {
    false
}

/// The signal that ended a process.
#[cfg(unix)]
pub fn signal_of(status: &ExitStatus) -> Option<i32> {
    std::os::unix::process::ExitStatusExt::signal(status)
}

/// Windows has exit codes only.
#[cfg(windows)]
pub fn signal_of(_: &ExitStatus) -> Option<i32> {
    None
}

/// This machine's name.
#[cfg(unix)]
pub fn host_name() -> Option<String> {
    let name = rustix::system::uname().nodename().to_str().ok()?.to_owned();
    Some(name).filter(|name| !name.is_empty())
}

/// This machine's name.
#[cfg(windows)]
pub fn host_name() -> Option<String> {
    std::env::var("COMPUTERNAME").ok()
}

/// A process' number as the system calls take it.
#[cfg(unix)]
pub(super) fn pid(id: u32) -> rustix::process::Pid {
    let id = i32::try_from(id).ok().and_then(rustix::process::Pid::from_raw);
    id.expect("a process has a number that is neither 0 nor negative")
}
