//! Wire: the hub's end of a virtual connection.

use sheratan_io::shell::wire::Wire;
use std::io;

/// Bytes that a usual reader leaves unread before the hub's writes block.
pub const WINDOW_BYTES: usize = 64 << 10;

/// The hub's end: input that the hub has not read, and output that the client has not read.
#[derive(Debug)]
pub struct VirtualWire {
    /// The connection.
    pub conn: u64,
    inbox: Vec<u8>,
    at: usize,
    is_ended: bool,
    is_reset: bool,
    outbox: Vec<u8>,
    window_bytes: usize,
    /// Whether an event is raised only after a read that would block, as on Windows; otherwise with all bytes that arrive.
    is_rearmed_by_would_block: bool,
    /// Whether the next bytes raise an event.
    is_armed: bool,
    /// Whether the hub has shut down its writing side.
    pub is_shut_down: bool,
}

impl VirtualWire {
    /// A connection that was just accepted, whose client leaves at most `window_bytes` unread.
    pub fn new(conn: u64, window_bytes: usize) -> Self {
        VirtualWire {
            conn,
            inbox: Vec::new(),
            at: 0,
            is_ended: false,
            is_reset: false,
            outbox: Vec::new(),
            window_bytes,
            is_rearmed_by_would_block: conn % 4 == 3,
            is_armed: true,
            is_shut_down: false,
        }
    }

    /// Appends bytes that arrive at the hub. Returns whether that raises an event.
    pub fn arrive(&mut self, bytes: &[u8]) -> bool {
        self.inbox.extend_from_slice(bytes);
        let is_raised = self.is_armed;
        self.is_armed = !self.is_rearmed_by_would_block;
        is_raised
    }

    /// Notes that the client sends no more.
    pub fn end(&mut self) {
        self.is_ended = true;
    }

    /// Resets the connection: reads and writes fail.
    pub fn reset(&mut self) {
        self.is_reset = true;
    }

    /// Removes up to `bytes_max` of the output.
    pub fn take_output(&mut self, bytes_max: usize) -> Vec<u8> {
        if self.outbox.len() <= bytes_max {
            return std::mem::take(&mut self.outbox);
        }
        let rest = self.outbox.split_off(bytes_max);
        std::mem::replace(&mut self.outbox, rest)
    }

    /// Whether the window is full.
    pub fn is_full(&self) -> bool {
        self.outbox.len() >= self.window_bytes
    }

    /// Whether there is output.
    pub fn has_output(&self) -> bool {
        !self.outbox.is_empty()
    }
}

impl Wire for VirtualWire {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.is_reset {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        let rest = &self.inbox[self.at..];
        if rest.is_empty() {
            self.is_armed = true;
            return if self.is_ended { Ok(0) } else { Err(io::ErrorKind::WouldBlock.into()) };
        }
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        self.at += count;
        if self.at == self.inbox.len() {
            self.inbox.clear();
            self.at = 0;
        }
        Ok(count)
    }

    fn is_drained_by_short_read(&self) -> bool {
        !self.is_rearmed_by_would_block
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.is_reset {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let count = bytes.len().min(self.window_bytes.saturating_sub(self.outbox.len()));
        if count == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.outbox.extend_from_slice(&bytes[..count]);
        Ok(count)
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        self.is_shut_down = true;
        Ok(())
    }

    fn limit_send_buffer(&mut self) {
        self.window_bytes = self.window_bytes.min(32 << 10);
    }
}
