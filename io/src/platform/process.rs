//! Processes: how they are started, asked to stop and killed, with an implementation for each system.

use std::process::{Child, Command, ExitStatus};

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
    use std::process::Stdio;
    let mut command = Command::new("taskkill");
    command.args(["/T", "/F", "/PID", &id.to_string()]).stdout(Stdio::null()).stderr(Stdio::null());
    // A tree without members is fine: it has ended.
    let _ = command.status();
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

#[cfg(unix)]
fn pid(id: u32) -> rustix::process::Pid {
    let id = i32::try_from(id).ok().and_then(rustix::process::Pid::from_raw);
    id.expect("a process has a number that is neither 0 nor negative")
}
