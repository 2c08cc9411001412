//! The feed: lines of the audit log on their way to those who listen, once they are in the file.
//!
//! The log's thread waits for nobody: what has no room is counted instead. While nobody listens, a line costs it one load.

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

/// Pieces that may wait for the loop; it takes all that there are each time it comes round.
const PIECES_MAX: usize = 1_024;

/// Bytes that may wait for the loop: some two thousand lines, and more than a listener's own limit lets through at once.
const BYTES_MAX: usize = 1 << 20;

/// The loop's end.
#[derive(Debug)]
pub struct Feed {
    shared: Arc<Shared>,
    pieces: Receiver<Vec<u8>>,
    is_wanted: bool,
}

/// The end of the log's thread.
pub struct Tap {
    shared: Arc<Shared>,
    pieces: Sender<Vec<u8>>,
    wake: Box<dyn Fn() + Send>,
}

#[derive(Default, Debug)]
struct Shared {
    is_wanted: AtomicBool,
    waiting_bytes: AtomicUsize,
    lost: AtomicU64,
}

impl Feed {
    /// Both ends. `wake` tells the loop that there is something.
    pub fn new(wake: impl Fn() + Send + 'static) -> (Tap, Feed) {
        let shared = Arc::new(Shared::default());
        let (sender, pieces) = bounded(PIECES_MAX);
        let tap = Tap { shared: shared.clone(), pieces: sender, wake: Box::new(wake) };
        (tap, Feed { shared, pieces, is_wanted: false })
    }

    /// Whether somebody listens: from now on lines come, or come no more. Called each round, so it does nothing while it
    /// is told the same.
    pub fn want(&mut self, is_wanted: bool) {
        if self.is_wanted == is_wanted {
            return;
        }
        // What was on its way to those who listened before is none of the next ones' business.
        while self.take().is_some() {}
        self.shared.lost.store(0, Ordering::Relaxed);
        self.is_wanted = is_wanted;
        self.shared.is_wanted.store(is_wanted, Ordering::Relaxed);
    }

    /// The next lines, whole, each with its line end.
    pub fn take(&mut self) -> Option<Vec<u8>> {
        let piece = self.pieces.try_recv().ok()?;
        self.shared.waiting_bytes.fetch_sub(piece.len(), Ordering::Relaxed);
        Some(piece)
    }

    /// How many lines had no room since it was last asked.
    pub fn take_lost(&mut self) -> u64 {
        // Read before it is written: it is 0 but for the rarest of rounds.
        if self.shared.lost.load(Ordering::Relaxed) == 0 { 0 } else { self.shared.lost.swap(0, Ordering::Relaxed) }
    }
}

impl Tap {
    /// These lines are in the file.
    pub fn written(&self, lines: &[u8]) {
        let shared = &self.shared;
        if !shared.is_wanted.load(Ordering::Relaxed) {
            return;
        }
        let has_room = shared.waiting_bytes.fetch_add(lines.len(), Ordering::Relaxed) + lines.len() <= BYTES_MAX;
        let sent = if has_room { self.pieces.try_send(lines.to_vec()) } else { Err(TrySendError::Full(Vec::new())) };
        if sent.is_err() {
            shared.waiting_bytes.fetch_sub(lines.len(), Ordering::Relaxed);
            let lines = lines.iter().filter(|byte| **byte == b'\n').count();
            shared.lost.fetch_add(lines as u64, Ordering::Relaxed);
        }
        (self.wake)();
    }
}

impl fmt::Debug for Tap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tap").field("shared", &self.shared).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_in_order_while_they_are_wanted() {
        let wakes = Arc::new(AtomicUsize::new(0));
        let counter = wakes.clone();
        let (tap, mut feed) = Feed::new(move || _ = counter.fetch_add(1, Ordering::Relaxed));
        tap.written(b"0\n");
        assert_eq!((feed.take(), wakes.load(Ordering::Relaxed)), (None, 0));
        feed.want(true);
        tap.written(b"1\n2\n");
        tap.written(b"3\n");
        assert_eq!(wakes.load(Ordering::Relaxed), 2);
        assert_eq!((feed.take(), feed.take(), feed.take()), (Some(b"1\n2\n".to_vec()), Some(b"3\n".to_vec()), None));
        feed.want(false);
        tap.written(b"4\n");
        assert_eq!((feed.take(), feed.take_lost()), (None, 0));
    }

    #[test]
    fn what_has_no_room_is_counted_and_room_comes_back() {
        for (lines, room) in [(b"1\n2\n".to_vec(), PIECES_MAX), ([b'x'; 99_999].to_vec(), BYTES_MAX / 100_000)] {
            let piece = [lines, b"\n".to_vec()].concat();
            let (tap, mut feed) = Feed::new(|| {});
            feed.want(true);
            (0..room + 3).for_each(|_| tap.written(&piece));
            let lines = piece.iter().filter(|byte| **byte == b'\n').count() as u64;
            assert_eq!((feed.take_lost(), feed.take_lost()), (3 * lines, 0));
            assert_eq!(std::iter::from_fn(|| feed.take()).count(), room);
            (0..room).for_each(|_| tap.written(&piece));
            assert_eq!((feed.take_lost(), std::iter::from_fn(|| feed.take()).count()), (0, room));
        }
    }
}
