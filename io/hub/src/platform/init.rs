//! Init: what the first process of a container has to do.
//!
//! The system gives the first process of a PID namespace all orphans, and expects it to wait for them; a worker's
//! commands may leave some behind. So a first process starts itself once more as a child, passes signals on to it, waits
//! for whatever ends, and ends with the child. Then the system ends all that is left in the namespace.

use std::io;
use std::process::ExitCode;

/// If this process is the first of its namespace: runs it as a child, and returns the child's exit code.
#[cfg(unix)]
pub fn stand_in() -> io::Result<Option<ExitCode>> {
    use rustix::process::{Pid, getpid};
    if getpid() == Pid::INIT { run().map(Some) } else { Ok(None) }
}

#[cfg(unix)]
fn run() -> io::Result<ExitCode> {
    use rustix::process::{Signal, WaitOptions, kill_process, wait};
    use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM};
    let mut signals = signal_hook::iterator::Signals::new([SIGCHLD, SIGTERM, SIGINT, SIGHUP, SIGQUIT])?;
    let mut command = std::process::Command::new(std::env::current_exe()?);
    command.args(std::env::args_os().skip(1));
    // An interrupt of the terminal reaches the child once, from here.
    super::process::in_own_group(&mut command);
    let child = super::process::pid(command.spawn()?.id());
    for signal in signals.forever() {
        if signal != SIGCHLD {
            let signal = match signal {
                SIGINT => Signal::INT,
                SIGHUP => Signal::HUP,
                SIGQUIT => Signal::QUIT,
                _ => Signal::TERM,
            };
            // It may have ended just now.
            _ = kill_process(child, signal);
            continue;
        }
        while let Ok(Some((ended, status))) = wait(WaitOptions::NOHANG) {
            if ended == child {
                let code = status.exit_status().unwrap_or_else(|| 128 + status.terminating_signal().unwrap_or(0));
                return Ok(ExitCode::from(u8::try_from(code).unwrap_or(1)));
            }
        }
    }
    Ok(ExitCode::FAILURE)
}

/// Windows has no such process.
#[cfg(not(unix))]
pub fn stand_in() -> io::Result<Option<ExitCode>> {
    Ok(None)
}
