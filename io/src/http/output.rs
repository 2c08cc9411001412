//! Output: the bytes that wait to be sent.
//!
//! Small replies follow one another in one piece, so that a pipeline's replies are sent in one write. A large body is a
//! piece of its own that is moved and never copied.

use std::collections::VecDeque;

/// A body of this size is moved instead of copied: at 16 KiB a second `write` costs as much as the copy.
const LARGE_BYTES: usize = 16 << 10;

/// The bytes of one connection that wait to be sent.
#[derive(Default, Debug)]
pub struct Output {
    pieces: VecDeque<Vec<u8>>,
    /// Bytes of the first piece that were sent.
    sent: usize,
    bytes: usize,
}

impl Output {
    /// The next bytes to send: the first piece's rest. Empty when there are none.
    pub fn front(&self) -> &[u8] {
        self.pieces.front().map_or(&[], |piece| &piece[self.sent..])
    }

    /// Calls `write` to add bytes.
    pub fn write(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        if self.pieces.back().is_none_or(|piece| piece.len() >= LARGE_BYTES) {
            self.pieces.push_back(Vec::new());
        }
        let piece = self.pieces.back_mut().expect("one was just added");
        let before = piece.len();
        write(piece);
        self.bytes += piece.len() - before;
    }

    /// Adds a body.
    pub fn push(&mut self, body: Vec<u8>) {
        if body.is_empty() {
            return;
        }
        if body.len() < LARGE_BYTES {
            return self.write(|piece| piece.extend_from_slice(&body));
        }
        self.bytes += body.len();
        self.pieces.push_back(body);
    }

    /// Removes `count` bytes that were sent.
    pub fn consume(&mut self, count: usize) {
        self.sent += count;
        self.bytes -= count;
        let piece = self.pieces.front().expect("only what there is can be sent");
        assert!(self.sent <= piece.len(), "only what there is can be sent");
        if self.sent == piece.len() {
            self.pieces.pop_front();
            self.sent = 0;
        }
        if self.pieces.is_empty() {
            self.clear();
        }
    }

    /// How many bytes wait.
    pub fn len(&self) -> usize {
        self.bytes
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Drops all bytes and releases the memory.
    pub fn clear(&mut self) {
        *self = Output::default();
    }

    /// The bytes of memory held.
    #[cfg(test)]
    pub fn capacity(&self) -> usize {
        let pieces: usize = self.pieces.iter().map(Vec::capacity).sum();
        pieces + self.pieces.capacity() * size_of::<Vec<u8>>()
    }
}
