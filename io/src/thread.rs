//! Threads whose end is waited for only so long: a disk that hangs must not keep the process from ending.

use crossbeam_channel::{Receiver, RecvTimeoutError, bounded};
use std::io;
use std::thread::Builder;
use std::time::Duration;

/// How long the end of the process waits for a thread that writes to a disk.
pub const END_MAX: Duration = Duration::from_secs(10);

/// A thread's handle.
#[derive(Debug)]
pub struct Thread<T> {
    name: &'static str,
    /// Disconnected when the thread panics.
    result: Receiver<T>,
}

/// Starts a thread.
pub fn spawn<T: Send + 'static>(name: &'static str, run: impl FnOnce() -> T + Send + 'static) -> io::Result<Thread<T>> {
    let (sender, result) = bounded(1);
    Builder::new().name(name.into()).spawn(move || {
        // If the handle is dropped, nobody waits for the result.
        _ = sender.send(run());
    })?;
    Ok(Thread { name, result })
}

impl<T> Thread<T> {
    /// Waits for the thread's end, at most for `wait`. A thread that hangs or has panicked is logged and gives nothing.
    pub fn join(self, wait: Duration) -> Option<T> {
        let name = self.name;
        match self.result.recv_timeout(wait) {
            Ok(result) => return Some(result),
            Err(RecvTimeoutError::Timeout) => {
                tracing::error!("the {name} thread does not end: its disk hangs; what it has not written is lost");
            }
            Err(RecvTimeoutError::Disconnected) => tracing::error!("the {name} thread has panicked"),
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_hangs_is_not_waited_for_and_one_that_ends_gives_its_result() {
        let (release, gate) = bounded::<()>(0);
        let hanging = spawn("hanging", move || gate.recv()).unwrap();
        assert_eq!(hanging.join(Duration::from_millis(1)), None);
        drop(release);
        assert_eq!(spawn("ending", || 7).unwrap().join(END_MAX), Some(7));
        assert_eq!(spawn("panicking", || -> u8 { panic!("on purpose") }).unwrap().join(END_MAX), None);
    }
}
