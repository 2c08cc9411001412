//! The engine over pipes in memory: the journal's reports, the clock and the clients' ends are the test's.

use crate::scene;
use sheratan_core::{Calendar, Millis, Timestamp};
use sheratan_io::http::{Connection, Limits};
use sheratan_io::service::{Handover, Plane, Settings};
use sheratan_io::shell::committer::Report;
use sheratan_io::shell::engine::Engine;
use sheratan_io::shell::held::Patience;
use sheratan_io::shell::sockets::Socket;
use sheratan_io::shell::timekeeper::{Reading, Timekeeper};
use sheratan_io::shell::wire::Wire;
use std::cell::RefCell;
use std::io;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

/// The bytes under way on a connection.
#[derive(Default)]
struct Pipe {
    to_hub: Vec<u8>,
    from_hub: Vec<u8>,
    /// The client is gone: reads and writes fail.
    is_reset: bool,
    /// The client sends no more.
    is_ended: bool,
    /// The client reads nothing.
    is_blocked: bool,
    /// Bytes raise an event only after a read that would block, as on Windows.
    is_rearmed_by_would_block: bool,
    /// The hub was told of bytes since its last read that would block.
    is_told: bool,
}

/// The hub's end of a pipe.
pub struct End(Rc<RefCell<Pipe>>);

impl Wire for End {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut pipe = self.0.borrow_mut();
        if pipe.is_reset {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        let count = pipe.to_hub.len().min(buffer.len());
        if count == 0 && pipe.is_ended {
            return Ok(0);
        }
        if count == 0 {
            pipe.is_told = false;
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let bytes: Vec<u8> = pipe.to_hub.drain(..count).collect();
        buffer[..count].copy_from_slice(&bytes);
        Ok(count)
    }

    fn is_drained_by_short_read(&self) -> bool {
        !self.0.borrow().is_rearmed_by_would_block
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut pipe = self.0.borrow_mut();
        match (pipe.is_reset, pipe.is_blocked) {
            (true, _) => Err(io::ErrorKind::ConnectionReset.into()),
            (false, true) => Err(io::ErrorKind::WouldBlock.into()),
            (false, false) => {
                pipe.from_hub.extend_from_slice(bytes);
                Ok(bytes.len())
            }
        }
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn limit_send_buffer(&mut self) {}
}

/// A client's end of a connection.
pub struct Client {
    id: u64,
    pipe: Rc<RefCell<Pipe>>,
}

/// An engine, its time, and the batch that its journal has.
pub struct Stage {
    pub engine: Engine<End>,
    pub limits: Limits,
    now: Timestamp,
    timekeeper: Timekeeper,
    batch: Option<Handover>,
}

/// What the machine's clocks show: it is awake, and its clock is right.
fn reading(now: Timestamp) -> Reading {
    let micros = |duration: Millis| duration.get() * 1_000;
    let wall = Some(now.as_millis() as i64 * 1_000);
    Reading { awake: micros(now.since(scene::NOW)), asleep: 0, wall }
}

impl Stage {
    pub fn new(settings: Settings) -> Stage {
        let service = scene::service(settings);
        let reading = reading(scene::NOW);
        let engine = Engine::new((scene::NOW, reading.awake_at()), service, Patience::DEFAULT, || 0);
        let start = Timekeeper::start(&reading, Timestamp::ZERO, Calendar::UNSET, false);
        let timekeeper = start.expect("a new hub has no journal to be behind").timekeeper;
        Stage { engine, limits: Limits::DEFAULT, now: scene::NOW, timekeeper, batch: None }
    }

    pub fn connect(&mut self) -> Client {
        self.connect_from(Plane::Data, scene::LOCAL)
    }

    pub fn connect_from(&mut self, plane: Plane, ip: IpAddr) -> Client {
        let pipe = Rc::new(RefCell::new(Pipe::default()));
        let http = Connection::new(reading(self.now).awake_at(), &self.limits);
        let id = self.engine.accept(Socket::new(End(Rc::clone(&pipe)), plane, ip, http));
        Client { id, pipe }
    }

    /// Puts bytes on a connection, without a round.
    pub fn put(&mut self, client: &Client, bytes: &str) {
        let mut pipe = client.pipe.borrow_mut();
        pipe.to_hub.extend_from_slice(bytes.as_bytes());
        let is_raised = !(pipe.is_rearmed_by_would_block && pipe.is_told);
        pipe.is_told = true;
        drop(pipe);
        self.engine.note(client.id, is_raised, false, false);
    }

    /// The client closes its writing side, without a round.
    pub fn end(&mut self, client: &Client) {
        client.pipe.borrow_mut().is_ended = true;
        self.engine.note(client.id, true, true, false);
    }

    /// Sends a request and runs a round.
    pub fn send(&mut self, client: &Client, method: &str, path: &str, body: &str) {
        self.put(client, &request(method, path, body));
        self.round();
    }

    /// A round of the loop; a batch goes to the journal, which keeps it.
    pub fn round(&mut self) {
        self.engine.set_time(&mut self.timekeeper, &reading(self.now));
        self.engine.read();
        self.engine.fire_timers();
        self.engine.settle();
        if let Some(handover) = self.engine.hand_over() {
            self.batch = Some(handover);
        }
        self.engine.write(|_, _| {});
        drop(self.engine.drain_closed());
    }

    /// The journal makes all batches durable.
    pub fn commit(&mut self) {
        while let Some(Handover { mut batch, first_seq, .. }) = self.batch.take() {
            let up_to = first_seq + batch.iter().count() as u64 - 1;
            batch.clear();
            let took = Duration::ZERO;
            let report = Report::Durable { up_to, spare: batch, took, is_in_loop: false, sealed_through: None };
            self.engine.handle_report(report);
            self.round();
        }
    }

    /// The journal cannot write its batch.
    pub fn fail(&mut self) {
        self.engine.handle_report(Report::Down { reason: "the disk is full".into() });
        self.round();
    }

    pub fn pass(&mut self, time: Millis) {
        self.now = self.now + time;
        self.round();
    }

    /// The client resets its connection.
    pub fn reset(&mut self, client: &Client) {
        client.pipe.borrow_mut().is_reset = true;
        self.engine.note(client.id, true, true, true);
        self.round();
    }
}

impl Client {
    /// What the hub has sent since the last call.
    pub fn received(&self) -> String {
        String::from_utf8(std::mem::take(&mut self.pipe.borrow_mut().from_hub)).expect("replies are UTF-8")
    }

    /// The statuses of the replies that were sent since the last call.
    pub fn statuses(&self) -> Vec<u16> {
        let text = self.received();
        let replies = text.split("HTTP/1.1 ").skip(1);
        replies.map(|reply| reply[..3].parse::<u16>().expect("a reply begins with its status")).collect()
    }

    /// The engine's id of its connection.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The client stops or starts to read.
    pub fn block(&self, is_blocked: bool) {
        self.pipe.borrow_mut().is_blocked = is_blocked;
    }

    /// From now on bytes raise an event only after a read that would block.
    pub fn rearm_by_would_block(&self) {
        self.pipe.borrow_mut().is_rearmed_by_would_block = true;
    }

    /// The connection's next writes fail, and no event says so.
    pub fn vanish(&self) {
        self.pipe.borrow_mut().is_reset = true;
    }
}

pub fn request(method: &str, path: &str, body: &str) -> String {
    format!("{method} {path} HTTP/1.1\r\nHost: hub\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}
