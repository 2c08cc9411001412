//! Input: the received bytes that were not consumed.
//!
//! Offsets count from the first unconsumed byte, so they stay valid when the bytes are moved to the front. Bytes are
//! moved only when at least as many were consumed: O(1) for each received byte. When all are consumed, the memory is
//! released.

/// The unconsumed bytes of one connection.
#[derive(Default, Debug)]
pub struct Input {
    buffer: Vec<u8>,
    start: usize,
}

impl Input {
    /// The unconsumed bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.buffer[self.start..]
    }

    /// The unconsumed bytes, to decode in place.
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

    /// Consumes the first `count` bytes.
    pub fn consume(&mut self, count: usize) {
        self.start += count;
        assert!(self.start <= self.buffer.len(), "only what was received is used up");
        if self.start == self.buffer.len() {
            self.clear();
        }
    }

    /// Drops all but the first `count` bytes.
    pub fn truncate(&mut self, count: usize) {
        self.buffer.truncate(self.start + count);
    }

    /// Drops all bytes and releases the memory.
    pub fn clear(&mut self) {
        *self = Input::default();
    }

    /// Whether all bytes are consumed.
    pub fn is_empty(&self) -> bool {
        self.start == self.buffer.len()
    }

    /// The bytes of memory held.
    #[cfg(test)]
    pub fn capacity(&self) -> usize {
        self.buffer.capacity()
    }
}
