//! Sockets: the connections that the loop holds, each a socket, its HTTP state and a timer.
//!
//! A connection's number holds its slot and how often the slot was used before, so that a late reply never reaches the
//! next client in the slot. Timers are lazy: each connection has at most one, set for the earliest instant it was ever
//! asked for; when it fires too early it is set again. 10,000 idle connections cost one firing each per idle limit.

use crate::http::{self, Reply, RequestNo};
use crate::service::Plane;
use mio::event::Event;
use mio::net::TcpStream;
use sheratan_core::time::Timestamp;
use socket2::SockRef;
use std::collections::BTreeSet;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Shutdown};

/// What the system may hold of a stream besides the stream's own limit. At 100 ms of round trip it lets 300 kB/s through.
const STREAM_SEND_BUFFER_BYTES: usize = 32 << 10;

/// One client's connection.
pub struct Socket {
    stream: TcpStream,
    /// The plane that it came to.
    pub plane: Plane,
    /// The peer's address.
    pub ip: IpAddr,
    /// Bytes to requests, replies to bytes.
    pub http: http::Connection,
    /// The socket may hold bytes that were not read; edge-triggered readiness is told once.
    pub is_readable: bool,
    /// The peer closed its side: what is in the socket is all there will be, and its end raises no event of its own.
    pub is_ending: bool,
    /// The socket was closed for writing.
    is_shut_down: bool,
    armed_at: Option<Timestamp>,
}

/// All connections.
#[derive(Default)]
pub struct Sockets {
    slots: Vec<Slot>,
    free: Vec<u32>,
    timers: BTreeSet<(Timestamp, u64)>,
    count: usize,
}

#[derive(Default)]
struct Slot {
    uses: u32,
    socket: Option<Box<Socket>>,
}

impl Socket {
    /// A connection that was just accepted.
    pub fn new(stream: TcpStream, plane: Plane, ip: IpAddr, http: http::Connection) -> Self {
        // A reply is one write: waiting for more of it would only delay it. A socket that refuses is closed already.
        _ = stream.set_nodelay(true);
        Socket { stream, plane, ip, http, is_readable: false, is_ending: false, is_shut_down: false, armed_at: None }
    }

    /// The poll says that it is ready to be read, or written; whether it may be read.
    pub fn note(&mut self, event: &Event) -> bool {
        let may_read = event.is_readable() || event.is_read_closed() || event.is_error();
        self.is_readable |= may_read;
        self.is_ending |= event.is_read_closed();
        may_read
    }

    /// Reads once into `buffer` and hands it to the HTTP connection.
    pub fn read(&mut self, now: Timestamp, buffer: &mut [u8]) -> io::Result<()> {
        match self.stream.read(buffer) {
            Ok(0) => {
                self.is_readable = false;
                self.http.received_end(now);
            }
            Ok(count) => {
                // A read that does not fill the buffer emptied the socket: the next bytes raise a new event.
                self.is_readable = count == buffer.len() || self.is_ending;
                self.http.received(now, &buffer[..count]);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.is_readable = false;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Writes what is there to write, as far as the socket takes it.
    pub fn write(&mut self, now: Timestamp) -> io::Result<()> {
        while !self.http.output().is_empty() {
            match self.stream.write(self.http.output()) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => self.http.wrote(now, count),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        if self.http.wants_shutdown() && !std::mem::replace(&mut self.is_shut_down, true) {
            self.stream.shutdown(Shutdown::Write)?;
        }
        Ok(())
    }

    /// Answers a request with a reply that goes on. The system keeps little of it for a client that does not read: what it
    /// would take by itself, 2.5 MiB on Linux, is neither seen here nor bounded by the stream's limit.
    pub fn begin_stream(&mut self, now: Timestamp, no: RequestNo, beginning: Reply) {
        if let Err(error) = SockRef::from(&self.stream).set_send_buffer_size(STREAM_SEND_BUFFER_BYTES) {
            tracing::debug!(%error, "a stream's send buffer keeps its size");
        }
        self.http.begin_stream(now, no, beginning);
    }

    /// The socket, to register it.
    pub fn stream(&mut self) -> &mut TcpStream {
        &mut self.stream
    }
}

impl Sockets {
    /// Takes a connection in; gives its number.
    pub fn insert(&mut self, socket: Socket) -> u64 {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            u32::try_from(self.slots.len() - 1).expect("there are fewer descriptors than that")
        });
        self.count += 1;
        let entry = &mut self.slots[slot as usize];
        entry.socket = Some(Box::new(socket));
        number(slot, entry.uses)
    }

    /// The connection of that number, if it is still there.
    pub fn get(&mut self, id: u64) -> Option<&mut Socket> {
        let entry = self.slots.get_mut(slot_of(id) as usize)?;
        if entry.uses == uses_of(id) { entry.socket.as_deref_mut() } else { None }
    }

    /// The number of the connection in a slot.
    pub fn id_at(&self, slot: usize) -> Option<u64> {
        let entry = self.slots.get(slot)?;
        entry.socket.as_ref().map(|_| number(slot as u32, entry.uses))
    }

    /// Takes a connection out.
    pub fn remove(&mut self, id: u64) -> Option<Box<Socket>> {
        let entry = self.slots.get_mut(slot_of(id) as usize).filter(|entry| entry.uses == uses_of(id))?;
        let mut socket = entry.socket.take()?;
        entry.uses = entry.uses.wrapping_add(1);
        self.free.push(slot_of(id));
        self.count -= 1;
        if let Some(at) = socket.armed_at.take() {
            self.timers.remove(&(at, id));
        }
        Some(socket)
    }

    /// Sets the connection's timer, unless an earlier one stands.
    pub fn arm(&mut self, id: u64) {
        let Some(socket) = self.get(id) else { return };
        let Some(at) = socket.http.next_timeout() else { return };
        if socket.armed_at.is_some_and(|armed_at| armed_at <= at) {
            return;
        }
        if let Some(later) = socket.armed_at.replace(at) {
            self.timers.remove(&(later, id));
        }
        self.timers.insert((at, id));
    }

    /// Takes out a connection's timer that is due.
    pub fn take_due(&mut self, now: Timestamp) -> Option<u64> {
        let (at, id) = self.timers.first().copied()?;
        if at > now {
            return None;
        }
        self.timers.pop_first();
        self.get(id).expect("timers go with their connection").armed_at = None;
        Some(id)
    }

    /// When the next timer fires.
    pub fn next_timeout(&self) -> Option<Timestamp> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// How many connections there are.
    pub fn len(&self) -> usize {
        self.count
    }

    /// The slot of a connection.
    pub fn slot(id: u64) -> usize {
        slot_of(id) as usize
    }

    /// The numbers of all connections.
    pub fn ids(&self) -> Vec<u64> {
        (0..self.slots.len()).filter_map(|slot| self.id_at(slot)).collect()
    }
}

fn number(slot: u32, uses: u32) -> u64 {
    u64::from(uses) << 32 | u64::from(slot)
}

fn slot_of(id: u64) -> u32 {
    id as u32
}

fn uses_of(id: u64) -> u32 {
    (id >> 32) as u32
}
