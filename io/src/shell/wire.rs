//! Wire: a connection's byte stream, a socket or, in the simulator, a virtual one.

use mio::net::TcpStream;
use socket2::SockRef;
use std::io::{self, Read, Write};
use std::net::Shutdown;

/// Bytes of an event stream that the system may buffer. At a round trip of 100 ms this allows 300 kB/s.
const STREAM_SEND_BUFFER_BYTES: usize = 32 << 10;

/// A non-blocking byte stream whose readiness is reported once, when it changes.
pub trait Wire {
    /// Reads available bytes; 0 at the end, [`io::ErrorKind::WouldBlock`] if none are available yet.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize>;
    /// Whether a read that does not fill the buffer has emptied the socket, so that the next bytes raise an event. It is
    /// so with epoll and kqueue; on Windows mio raises the next event only after a read that would block.
    fn is_drained_by_short_read(&self) -> bool;
    /// Writes as many bytes as fit; [`io::ErrorKind::WouldBlock`] if none do.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize>;
    /// Closes the writing side.
    fn shutdown_write(&mut self) -> io::Result<()>;
    /// Bounds the system's send buffer before an event stream begins: bytes that wait there are neither counted nor
    /// bounded by the connection (Linux would buffer up to 2.5 MiB).
    fn limit_send_buffer(&mut self);
}

impl Wire for TcpStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        Read::read(self, buffer)
    }

    fn is_drained_by_short_read(&self) -> bool {
        !cfg!(windows)
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Write::write(self, bytes)
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        self.shutdown(Shutdown::Write)
    }

    fn limit_send_buffer(&mut self) {
        if let Err(error) = SockRef::from(&*self).set_send_buffer_size(STREAM_SEND_BUFFER_BYTES) {
            tracing::debug!(%error, "a stream's send buffer keeps its size");
        }
    }
}
