//! Wire: what carries a connection's bytes: a socket, and in the simulator a virtual one.

use mio::net::TcpStream;
use socket2::SockRef;
use std::io::{self, Read, Write};
use std::net::Shutdown;

/// What the system may hold of a stream besides the stream's own limit. At 100 ms of round trip it lets 300 kB/s through.
const STREAM_SEND_BUFFER_BYTES: usize = 32 << 10;

/// A non-blocking byte stream whose readiness is told once, when it changes.
pub trait Wire {
    /// Reads what is there; 0 at the end, [`io::ErrorKind::WouldBlock`] if nothing is there yet.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize>;
    /// Writes as much as is taken; [`io::ErrorKind::WouldBlock`] if nothing is.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize>;
    /// Nothing more will be written.
    fn shutdown_write(&mut self) -> io::Result<()>;
    /// A reply that goes on begins: little of it may wait outside the connection, where it is neither seen nor bounded (on
    /// Linux the system would take 2.5 MiB by itself).
    fn limit_send_buffer(&mut self);
}

impl Wire for TcpStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        Read::read(self, buffer)
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
