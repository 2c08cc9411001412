//! Sockets: the loop's connections, each a socket, its HTTP state and a timer.
//!
//! A connection's id holds its slot and how often the slot was used before, so that a late reply never reaches the next
//! client in the slot. Timers are lazy: each connection has at most one, armed for the earliest deadline since it last
//! fired; when it fires too early it is armed again. 10,000 idle connections cost one firing each per idle limit.

use super::rules;
use super::turns::{Order, Place};
use super::wire::Wire;
use crate::http::{self, Reply, RequestId};
use crate::service::Plane;
use sheratan_core::Timestamp;
use std::collections::BTreeSet;
use std::io;
use std::mem;
use std::net::IpAddr;

/// One client's connection.
pub struct Socket<W> {
    wire: W,
    /// The plane that it was accepted on.
    pub plane: Plane,
    /// The peer's address.
    pub ip: IpAddr,
    /// Parses requests and writes replies.
    pub http: http::Connection,
    /// The socket may hold unread bytes; edge-triggered readiness is reported once.
    pub is_readable: bool,
    /// The peer closed its side: no more bytes will arrive, and the end itself raises no further event.
    pub is_ending: bool,
    /// The socket was closed for writing.
    is_shut_down: bool,
    armed_at: Option<Timestamp>,
    /// It is among those that have something to write or are to be closed.
    pub is_dirty: bool,
    /// Where it waits for its turn.
    pub place: Place,
    /// Who it waits among.
    pub order: Order,
    /// It counts on the share of submits and long polls.
    pub is_in_share: bool,
    /// The request that is arriving finishes work: it is read also where memory is scarce.
    pub is_finishing: bool,
    /// The bytes that it holds, as last counted.
    counted_bytes: usize,
}

/// All connections.
pub struct Sockets<W> {
    slots: Vec<Slot<W>>,
    free: Vec<u32>,
    timers: BTreeSet<(Timestamp, u64)>,
    count: usize,
    /// The bytes that all of them hold, as last counted.
    buffered_bytes: usize,
}

struct Slot<W> {
    uses: u32,
    socket: Option<Box<Socket<W>>>,
}

impl<W> Default for Sockets<W> {
    fn default() -> Self {
        Sockets { slots: Vec::new(), free: Vec::new(), timers: BTreeSet::new(), count: 0, buffered_bytes: 0 }
    }
}

impl<W: Wire> Socket<W> {
    /// A connection that was just accepted.
    pub fn new(wire: W, plane: Plane, ip: IpAddr, http: http::Connection) -> Self {
        Socket {
            wire,
            plane,
            ip,
            http,
            is_readable: false,
            is_ending: false,
            is_shut_down: false,
            armed_at: None,
            is_dirty: false,
            place: Place::None,
            order: Order::Others,
            is_in_share: false,
            is_finishing: false,
            counted_bytes: 0,
        }
    }

    /// Adds the connection to those that have something to write or are to be closed, once.
    pub fn mark_dirty(&mut self, id: u64, dirty: &mut Vec<u64>) {
        if !mem::replace(&mut self.is_dirty, true) {
            dirty.push(id);
        }
    }

    /// Reads once into `buffer` and passes the bytes to the HTTP connection.
    pub fn read(&mut self, now: Timestamp, buffer: &mut [u8]) -> io::Result<()> {
        match self.wire.read(buffer) {
            Ok(0) => {
                self.is_readable = false;
                self.http.received_end(now);
            }
            Ok(count) => {
                let is_short = count < buffer.len();
                self.is_readable =
                    rules::may_hold_more(is_short, self.wire.is_drained_by_short_read()) || self.is_ending;
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

    /// Writes the queued bytes until the socket would block.
    pub fn write(&mut self, now: Timestamp) -> io::Result<()> {
        while !self.http.output().is_empty() {
            match self.wire.write(self.http.output()) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => self.http.wrote(now, count),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        if self.http.wants_shutdown() && !mem::replace(&mut self.is_shut_down, true) {
            self.wire.shutdown_write()?;
        }
        Ok(())
    }

    /// Answers a request with a reply that stays open.
    pub fn begin_stream(&mut self, now: Timestamp, id: RequestId, beginning: Reply) {
        self.wire.limit_send_buffer();
        self.http.begin_stream(now, id, beginning);
    }

    /// The connection's byte stream.
    pub fn wire(&mut self) -> &mut W {
        &mut self.wire
    }
}

impl<W: Wire> Sockets<W> {
    /// Adds a connection and returns its id.
    pub fn insert(&mut self, socket: Socket<W>) -> u64 {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot { uses: 0, socket: None });
            u32::try_from(self.slots.len() - 1).expect("there are fewer descriptors than that")
        });
        self.count += 1;
        let entry = &mut self.slots[slot as usize];
        entry.socket = Some(Box::new(socket));
        number(slot, entry.uses)
    }

    /// The connection with this id, if it is still open.
    pub fn get(&mut self, id: u64) -> Option<&mut Socket<W>> {
        let entry = self.slots.get_mut(slot_of(id) as usize)?;
        if entry.uses == uses_of(id) { entry.socket.as_deref_mut() } else { None }
    }

    /// The id of the connection in a slot.
    pub fn id_at(&self, slot: usize) -> Option<u64> {
        let entry = self.slots.get(slot)?;
        entry.socket.as_ref().map(|_| number(slot as u32, entry.uses))
    }

    /// Removes and returns a connection.
    pub fn remove(&mut self, id: u64) -> Option<Box<Socket<W>>> {
        let entry = self.slots.get_mut(slot_of(id) as usize).filter(|entry| entry.uses == uses_of(id))?;
        let mut socket = entry.socket.take()?;
        entry.uses = entry.uses.wrapping_add(1);
        self.free.push(slot_of(id));
        self.count -= 1;
        self.buffered_bytes -= mem::take(&mut socket.counted_bytes);
        if let Some(at) = socket.armed_at.take() {
            self.timers.remove(&(at, id));
        }
        Some(socket)
    }

    /// Counts the bytes that a connection holds.
    pub fn recount(&mut self, id: u64) {
        let Some(socket) = self.get(id) else { return };
        let now = socket.http.buffered_bytes();
        let before = mem::replace(&mut socket.counted_bytes, now);
        self.buffered_bytes = self.buffered_bytes + now - before;
    }

    /// The bytes that all connections hold.
    pub fn buffered_bytes(&self) -> usize {
        self.buffered_bytes
    }

    /// The connections that hold bytes, those with the most first. O(n log n).
    pub fn by_buffered_bytes(&mut self) -> Vec<u64> {
        let ids = self.ids();
        let counted = ids.into_iter().map(|id| (self.get(id).map_or(0, |socket| socket.counted_bytes), id));
        let mut counted: Vec<_> = counted.filter(|(bytes, _)| *bytes > 0).collect();
        counted.sort_unstable_by(|a, b| b.cmp(a));
        counted.into_iter().map(|(_, id)| id).collect()
    }

    /// Arms the connection's timer, unless an earlier one is armed.
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

    /// Removes the earliest due timer and returns its connection's id.
    pub fn pop_due(&mut self, now: Timestamp) -> Option<u64> {
        let (at, id) = self.timers.first().copied()?;
        if at > now {
            return None;
        }
        self.timers.pop_first();
        self.get(id).expect("a timer is removed with its connection").armed_at = None;
        Some(id)
    }

    /// When the next timer is due.
    pub fn next_timeout(&self) -> Option<Timestamp> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// How many connections there are.
    pub fn count(&self) -> usize {
        self.count
    }

    /// The ids of all connections.
    pub fn ids(&self) -> Vec<u64> {
        (0..self.slots.len()).filter_map(|slot| self.id_at(slot)).collect()
    }
}

/// The slot of a connection.
pub fn slot(id: u64) -> usize {
    slot_of(id) as usize
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
