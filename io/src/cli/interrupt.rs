//! Interrupts: the operator's wish that a command ends, however the system spells it.

use super::failure::Failure;
use crate::platform;
use crossbeam_channel::Receiver;

/// Interrupts that nobody looked at yet: the third press of ctrl-C says no more than the second.
const INTERRUPTS_MAX: usize = 4;

/// From now on an interrupt (ctrl-C, SIGTERM, a closed terminal) is a message, and does not end the process.
pub fn listen() -> Result<Receiver<()>, Failure> {
    let (sender, receiver) = crossbeam_channel::bounded(INTERRUPTS_MAX);
    platform::on_signals(move |_| {
        // A full channel means that the wish is known.
        let _ = sender.try_send(());
    })
    .map_err(|error| Failure::local("signals cannot be received", error))?;
    Ok(receiver)
}
