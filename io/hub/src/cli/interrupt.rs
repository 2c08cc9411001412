//! Interrupts: the operator's request that a command ends, on every system.

use super::failure::Failure;
use crossbeam_channel::Receiver;
use sheratan_io::platform;

/// Unread interrupts: a third press of ctrl-C means the same as the second.
const INTERRUPTS_MAX: usize = 4;

/// Turns interrupts (ctrl-C, SIGTERM, a closed terminal) into messages, which do not end the process.
pub fn listen() -> Result<Receiver<()>, Failure> {
    let (sender, receiver) = crossbeam_channel::bounded(INTERRUPTS_MAX);
    platform::on_signals(move |_| {
        // A full channel means that the request is known.
        let _ = sender.try_send(());
    })
    .map_err(|error| Failure::local("signals cannot be received", error))?;
    Ok(receiver)
}
