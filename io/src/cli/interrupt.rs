//! Interrupts: the operator's wish that a command ends, however the system spells it.

use super::failure::Failure;
use crossbeam_channel::Receiver;

/// Interrupts that nobody looked at yet: the third press of ctrl-C says no more than the second.
const INTERRUPTS_MAX: usize = 4;

/// From now on an interrupt (ctrl-C, SIGTERM, a closed terminal) is a message, and does not end the process.
#[cfg(unix)]
pub fn listen() -> Result<Receiver<()>, Failure> {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    let (sender, receiver) = crossbeam_channel::bounded(INTERRUPTS_MAX);
    let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM, SIGHUP])
        .map_err(|error| Failure::local("signals cannot be received", error))?;
    std::thread::spawn(move || {
        for _ in signals.forever() {
            // A full channel means that the wish is known.
            let _ = sender.try_send(());
        }
    });
    Ok(receiver)
}

/// From now on an interrupt (ctrl-C, ctrl-Break, a closed console) is a message, and does not end the process.
#[cfg(windows)]
pub fn listen() -> Result<Receiver<()>, Failure> {
    let (sender, receiver) = crossbeam_channel::bounded(INTERRUPTS_MAX);
    ctrlc::set_handler(move || {
        // A full channel means that the wish is known.
        let _ = sender.try_send(());
    })
    .map_err(|error| Failure::local("console events cannot be received", error))?;
    Ok(receiver)
}
