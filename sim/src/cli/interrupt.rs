//! Interrupts: the wish that a run ends: ctrl-C, SIGTERM, a terminal that closes. What was reached is still said; the second
//! one ends the program at once.

use super::terminal::WARN;
use anstream::eprintln;
use sheratan_io::platform;
use std::fmt::Display;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The exit code of what was interrupted: that of a shell's command that SIGINT ended.
const INTERRUPTED: u8 = 130;

/// Whether somebody wishes that the run ends.
#[derive(Clone)]
pub struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// From now on an interrupt is a wish, and does not end the process.
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

    /// Whether the run is to end.
    pub fn is_asked(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Says that the command was interrupted, and what that means.
pub fn ended_by(what: impl Display) -> ExitCode {
    eprintln!("{WARN}interrupted{WARN:#}: {what}");
    ExitCode::from(INTERRUPTED)
}
