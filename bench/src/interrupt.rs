//! Interruption: ctrl-C ends a run through its usual way out, so that the hub is stopped and its folder removed.

use crate::failure::Failure;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether the run was interrupted.
#[derive(Clone, Default)]
pub struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Listens for the signals that end a program.
    #[cfg(unix)]
    pub fn on_signals() -> Result<Self, Failure> {
        let interrupt = Interrupt::default();
        for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
            signal_hook::flag::register(signal, Arc::clone(&interrupt.0))
                .map_err(Failure::system("listen for signals"))?;
        }
        Ok(interrupt)
    }

    /// Without signals a run is not interrupted.
    #[cfg(not(unix))]
    pub fn on_signals() -> Result<Self, Failure> {
        Ok(Interrupt::default())
    }

    /// Interrupts the run, as a signal does.
    #[cfg(all(test, unix))]
    pub fn raise(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// An error if the run was interrupted.
    pub fn check(&self) -> Result<(), Failure> {
        if self.0.load(Ordering::Relaxed) { Err(Failure::Interrupted) } else { Ok(()) }
    }
}
