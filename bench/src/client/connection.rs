//! A connection: one request out, its answer in, over a socket that never blocks.

use super::answer::{Answer, Unreadable};
use crate::failure::Failure;
use mio::event::Source;
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;

/// A connection to the hub. [`Connection::send`] a request, then [`Connection::receive`] each time the socket is ready
/// until the answer is whole, then send the next.
pub struct Connection {
    stream: TcpStream,
    /// Bytes that the socket has not accepted yet; nearly always empty.
    unsent: Vec<u8>,
    input: Vec<u8>,
    filled: usize,
    /// The end of the answer that was returned last.
    consumed: usize,
}

/// Bytes that an answer may have: a pull's has one job with its params.
const ANSWER_HEAD_BYTES_MAX: usize = 16 * 1024;

impl Connection {
    /// Connects, and accepts answers with bodies of up to `body_bytes_max`.
    pub fn open(address: SocketAddr, body_bytes_max: usize) -> Result<Self, Failure> {
        // Blocking until it is connected: over loopback that is a matter of microseconds.
        let stream = std::net::TcpStream::connect(address)
            .and_then(|stream| stream.set_nodelay(true).map(|()| stream))
            .and_then(|stream| stream.set_nonblocking(true).map(|()| stream))
            .map_err(Failure::system(format!("connect to {address}")))?;
        Ok(Connection {
            stream: TcpStream::from_std(stream),
            unsent: Vec::new(),
            input: vec![0; ANSWER_HEAD_BYTES_MAX + body_bytes_max],
            filled: 0,
            consumed: 0,
        })
    }

    /// Has the poll report when the socket is ready.
    pub fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        self.stream.register(registry, token, Interest::READABLE | Interest::WRITABLE)
    }

    /// Sends a request; the answer to the one before was received.
    pub fn send(&mut self, request: &[u8]) -> Result<(), Failure> {
        assert!(self.unsent.is_empty(), "one request at a time");
        assert_eq!(self.filled, self.consumed, "the hub says nothing that it was not asked");
        (self.filled, self.consumed) = (0, 0);
        let sent = write_ready(&mut self.stream, request).map_err(Failure::system("send a request"))?;
        self.unsent.extend_from_slice(&request[sent..]);
        Ok(())
    }

    /// Reads what has arrived; returns the answer's status and body once it is complete.
    pub fn receive(&mut self) -> Result<Option<(u16, &[u8])>, Failure> {
        if !self.unsent.is_empty() {
            let sent = write_ready(&mut self.stream, &self.unsent).map_err(Failure::system("send a request"))?;
            self.unsent.drain(..sent);
        }
        if !self.fill()? {
            return Ok(None);
        }
        let answer = Answer::parse(&self.input[..self.filled]).map_err(|error| match error {
            Unreadable::Head(error) => Failure::Unreadable(error.to_string()),
            Unreadable::Length => Failure::Unreadable("it has no content-length".into()),
        })?;
        let Some(Answer { status, body }) = answer else { return Ok(None) };
        self.consumed = body.end;
        Ok(Some((status, &self.input[body])))
    }

    /// Whether new bytes have arrived. The poll reports edges, so reading goes on until the socket is empty: a read
    /// that does not fill the buffer has emptied it (epoll(7), "Will I receive...", question 9).
    fn fill(&mut self) -> Result<bool, Failure> {
        let before = self.filled;
        loop {
            if self.filled == self.input.len() {
                return Err(Failure::Unreadable(format!("it is longer than {} bytes", self.input.len())));
            }
            match self.stream.read(&mut self.input[self.filled..]) {
                Ok(0) => return Err(Failure::Closed),
                Ok(bytes) => {
                    self.filled += bytes;
                    if self.filled < self.input.len() {
                        return Ok(true);
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(self.filled > before),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(Failure::system("read an answer")(error)),
            }
        }
    }
}

/// Writes as much as the socket accepts now.
fn write_ready(stream: &mut TcpStream, mut bytes: &[u8]) -> io::Result<usize> {
    let whole = bytes.len();
    while !bytes.is_empty() {
        match stream.write(bytes) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(written) => bytes = &bytes[written..],
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(whole - bytes.len())
}
