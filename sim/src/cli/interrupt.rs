//! Interrupts: requests to end a run: ctrl-C, SIGTERM, a terminal that closes. The results so far are still reported; a
//! second interrupt ends the program at once.

use super::terminal::{WARN, note};
use sheratan_io::platform;
use std::fmt::Display;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The exit code after an interrupt: that of a command that SIGINT ended.
const INTERRUPTED: u8 = 130;

/// Whether the run is requested to end.
#[derive(Clone)]
pub struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// From now on an interrupt is only recorded, and does not end the process.
    pub fn listen() -> Result<Self, String> {
        let wish = Arc::new(AtomicBool::new(false));
        let heard = Arc::clone(&wish);
        platform::on_signals(move |_| {
            if heard.swap(true, Ordering::Relaxed) {
                std::process::exit(i32::from(INTERRUPTED));
            }
        })
        .map_err(|error| format!("signals cannot be received: {error}"))?;
        Ok(Interrupt(wish))
    }

    /// Whether the run should end.
    pub fn is_asked(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Reports that the command was interrupted, and what that means.
pub fn ended_by(what: impl Display) -> ExitCode {
    note(format_args!("{WARN}interrupted{WARN:#}: {what}"));
    ExitCode::from(INTERRUPTED)
}
