//! Input: the bytes that were received and not used up.
//!
//! Offsets count from the first unused byte, so they hold when the bytes are moved to the front. Bytes are moved only
//! when at least as many were used up: O(1) for each byte received. When all are used up the memory is given back.

/// The bytes of one connection that wait.
#[derive(Default, Debug)]
pub struct Input {
    buffer: Vec<u8>,
    start: usize,
}

impl Input {
    /// The bytes that wait.
    pub fn bytes(&self) -> &[u8] {
        &self.buffer[self.start..]
    }

    /// The same, to decode in place.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.buffer[self.start..]
    }

    /// Adds bytes at the end.
    pub fn append(&mut self, bytes: &[u8]) {
        if self.start > 0 && self.start >= self.buffer.len() - self.start {
            self.buffer.copy_within(self.start.., 0);
            self.buffer.truncate(self.buffer.len() - self.start);
            self.start = 0;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// Uses up the first `count` bytes.
    pub fn consume(&mut self, count: usize) {
        self.start += count;
        assert!(self.start <= self.buffer.len(), "only what was received is used up");
        if self.start == self.buffer.len() {
            self.clear();
        }
    }

    /// Forgets all but the first `count` bytes.
    pub fn truncate(&mut self, count: usize) {
        self.buffer.truncate(self.start + count);
    }

    /// Forgets all bytes and gives the memory back.
    pub fn clear(&mut self) {
        *self = Input::default();
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.start == self.buffer.len()
    }

    /// The bytes of memory held.
    #[cfg(test)]
    pub fn capacity(&self) -> usize {
        self.buffer.capacity()
    }
}
