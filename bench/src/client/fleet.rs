//! A fleet: workers with a connection each, driven by one thread.

use super::connection::Connection;
use super::latency::Latencies;
use super::request::{Requests, Target};
use super::worker::{Progress, Worker};
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use mio::{Events, Poll, Token};
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// Workers that run lifecycles at the same time.
pub struct Fleet {
    poll: Poll,
    events: Events,
    workers: Vec<Worker>,
    interrupt: Interrupt,
}

/// What a fleet did in a stretch of time.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Stretch {
    /// Lifecycles that were started and finished in it.
    pub lifecycles: u64,
    /// From the first start to the last finish.
    pub time: Duration,
}

/// Events taken from the poll at a time.
const EVENTS_MAX: usize = 1024;
/// No answer for so long: the hub hangs.
const SILENCE_MAX: Duration = Duration::from_secs(30);
/// How soon an interruption is noticed while nothing comes in.
const POLL_MAX: Duration = Duration::from_millis(500);

impl Fleet {
    /// So many workers, connected to the data plane. No two fleets have workers of the same name.
    pub fn connect(
        address: SocketAddr,
        target: &Target,
        connections: usize,
        interrupt: Interrupt,
    ) -> Result<Self, Failure> {
        let poll = Poll::new().map_err(Failure::system("create a poll"))?;
        let process = std::process::id();
        let mut workers = Vec::with_capacity(connections);
        for no in 0..connections {
            let mut connection = Connection::open(address, target.payload_bytes)?;
            connection.register(poll.registry(), Token(no)).map_err(Failure::system("watch a connection"))?;
            workers.push(Worker::new(connection, Requests::new(target, &format!("bench-{process}-{no}"))));
        }
        Ok(Fleet { poll, events: Events::with_capacity(EVENTS_MAX), workers, interrupt })
    }

    /// Runs lifecycle after lifecycle on each connection; none is started after `time`, and all are finished.
    pub fn run(&mut self, time: Duration, latencies: &mut Latencies) -> Result<Stretch, Failure> {
        let before = latencies.lifecycles();
        let start = Instant::now();
        let end = start + time;
        for worker in &mut self.workers {
            worker.start(Instant::now())?;
        }
        let mut at_work = self.workers.len();
        let mut last_answer_at = start;
        while at_work > 0 {
            self.wait()?;
            for event in &self.events {
                let worker = &mut self.workers[event.token().0];
                if worker.ready(latencies)? == Progress::Waiting {
                    continue;
                }
                last_answer_at = Instant::now();
                if last_answer_at < end {
                    worker.start(last_answer_at)?;
                } else {
                    at_work -= 1;
                }
            }
            if last_answer_at.elapsed() > SILENCE_MAX {
                return Err(Failure::Silence(SILENCE_MAX));
            }
        }
        Ok(Stretch { lifecycles: latencies.lifecycles() - before, time: last_answer_at - start })
    }

    fn wait(&mut self) -> Result<(), Failure> {
        self.interrupt.check()?;
        match self.poll.poll(&mut self.events, Some(POLL_MAX)) {
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(()),
            done => done.map_err(Failure::system("wait for answers")),
        }
    }
}

impl Stretch {
    /// Lifecycles a second.
    pub fn rate(&self) -> f64 {
        self.lifecycles as f64 / self.time.as_secs_f64()
    }
}
