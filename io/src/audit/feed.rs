//! The feed: carries lines of the audit log to event streams, once they are in the file.
//!
//! The log's thread never blocks: lines that do not fit are counted instead. Without a listener, a line costs one load.

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

/// Pieces that may wait for the loop, which drains them all each round.
const PIECES_MAX: usize = 1_024;

/// Bytes that may wait for the loop: some two thousand lines, more than the limit of one listener's stream.
const BYTES_MAX: usize = 1 << 20;

/// The loop's end of the feed.
#[derive(Debug)]
pub struct Feed {
    shared: Arc<Shared>,
    pieces: Receiver<Vec<u8>>,
    is_wanted: bool,
}

/// The log thread's end of the feed.
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
    /// Both ends. `wake` wakes the loop when there are lines.
    pub fn new(wake: impl Fn() + Send + 'static) -> (Tap, Feed) {
        let shared = Arc::new(Shared::default());
        let (sender, pieces) = bounded(PIECES_MAX);
        let tap = Tap { shared: shared.clone(), pieces: sender, wake: Box::new(wake) };
        (tap, Feed { shared, pieces, is_wanted: false })
    }

    /// Turns the feed on while there is a listener, and off otherwise. Called each round, so it does nothing unless the
    /// value changes.
    pub fn set_wanted(&mut self, is_wanted: bool) {
        if self.is_wanted == is_wanted {
            return;
        }
        // Lines that were queued for earlier listeners are not sent to later ones.
        while self.take().is_some() {}
        self.shared.lost.store(0, Ordering::Relaxed);
        self.is_wanted = is_wanted;
        self.shared.is_wanted.store(is_wanted, Ordering::Relaxed);
    }

    /// The next whole lines, each with its line end.
    pub fn take(&mut self) -> Option<Vec<u8>> {
        let piece = self.pieces.try_recv().ok()?;
        self.shared.waiting_bytes.fetch_sub(piece.len(), Ordering::Relaxed);
        Some(piece)
    }

    /// How many lines did not fit since the last call.
    pub fn take_lost(&mut self) -> u64 {
        // A load before the swap: the count is 0 in almost every round.
        if self.shared.lost.load(Ordering::Relaxed) == 0 { 0 } else { self.shared.lost.swap(0, Ordering::Relaxed) }
    }
}

impl Tap {
    /// Sends lines that were written to the file.
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
    fn lines_arrive_in_order_while_they_are_wanted() {
        let wakes = Arc::new(AtomicUsize::new(0));
        let counter = wakes.clone();
        let (tap, mut feed) = Feed::new(move || _ = counter.fetch_add(1, Ordering::Relaxed));
        tap.written(b"0\n");
        assert_eq!((feed.take(), wakes.load(Ordering::Relaxed)), (None, 0));
        feed.set_wanted(true);
        tap.written(b"1\n2\n");
        tap.written(b"3\n");
        assert_eq!(wakes.load(Ordering::Relaxed), 2);
        assert_eq!((feed.take(), feed.take(), feed.take()), (Some(b"1\n2\n".to_vec()), Some(b"3\n".to_vec()), None));
        feed.set_wanted(false);
        tap.written(b"4\n");
        assert_eq!((feed.take(), feed.take_lost()), (None, 0));
    }

    #[test]
    fn lines_that_do_not_fit_are_counted_and_later_ones_fit_again() {
        for (lines, room) in [(b"1\n2\n".to_vec(), PIECES_MAX), ([b'x'; 99_999].to_vec(), BYTES_MAX / 100_000)] {
            let piece = [lines, b"\n".to_vec()].concat();
            let (tap, mut feed) = Feed::new(|| {});
            feed.set_wanted(true);
            (0..room + 3).for_each(|_| tap.written(&piece));
            let lines = piece.iter().filter(|byte| **byte == b'\n').count() as u64;
            assert_eq!((feed.take_lost(), feed.take_lost()), (3 * lines, 0));
            assert_eq!(std::iter::from_fn(|| feed.take()).count(), room);
            (0..room).for_each(|_| tap.written(&piece));
            assert_eq!((feed.take_lost(), std::iter::from_fn(|| feed.take()).count()), (0, room));
        }
    }
}
