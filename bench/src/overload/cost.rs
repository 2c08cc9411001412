//! What a refused submit costs the hub, compared with an accepted one: its processor time (user and system), over real
//! sockets.
//!
//! Two hubs take the same requests in turns: one whose queue has room for all, and one whose queue is full.

use super::PAYLOAD_BYTES;
use crate::client::answer::has;
use crate::client::connection::Connection;
use crate::client::latency::Call;
use crate::client::request::{self, Requests, Target};
use crate::cpu;
use crate::failure::Failure;
use crate::hub::{self, Hub};
use crate::interrupt::Interrupt;
use crate::sample::Samples;
use indicatif::ProgressBar;
use mio::{Events, Poll, Token};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// Microseconds of processor time, accepted and refused.
#[derive(Default)]
pub struct Costs {
    pub accepted_us: Samples,
    pub refused_us: Samples,
}

impl Costs {
    /// Refused to accepted, the middle one of the rounds.
    pub fn ratio(&self) -> f64 {
        self.refused_us.paired_ratio(&self.accepted_us)
    }
}

/// The costs of a submit as a request of its own, and as an entry of a batch.
#[derive(Default)]
pub struct Figures {
    pub request: Costs,
    pub entry: Costs,
}

/// How often each hub has its turn.
const ROUNDS: u32 = 3;
const CONNECTIONS: usize = 16;
/// Requests of a turn: the processor's time is counted in hundredths of a second, and they take some 30 of these.
const REQUESTS: u64 = 30_000;
const ENTRIES: usize = 1_000;
/// Batches of a turn.
const BATCHES: u64 = 150;
/// A refused entry's answer has fewer bytes.
const ENTRY_ANSWER_BYTES_MAX: usize = 600;
const KIND: &str = "cost";
const WAIT_MAX: Duration = Duration::from_secs(30);
/// Room for all that is submitted.
const ROOMY: &[(&str, &str)] = &[("SHERATAN_MAX_QUEUE_DEPTH", "10000000"), ("SHERATAN_MAX_QUEUE_BYTES", "4294967296")];
/// One job may wait.
const FULL: &[(&str, &str)] = &[("SHERATAN_MAX_QUEUE_DEPTH", "1")];

struct Side {
    hub: Hub,
    requests: Clients,
    batches: Clients,
}

/// Connections that send one request after another.
struct Clients {
    poll: Poll,
    connections: Vec<Connection>,
    request: Vec<u8>,
}

/// Starts both hubs, and compares.
pub fn measure(own: &hub::Settings, interrupt: &Interrupt, progress: &ProgressBar) -> Result<Figures, Failure> {
    let mut roomy = Side::start(own, ROOMY, interrupt)?;
    let mut full = Side::start(own, FULL, interrupt)?;
    full.fill()?;
    let mut figures = Figures::default();
    for round in 0..=ROUNDS {
        // The first round warms both up. The second of a round finds the machine as the first left it.
        let order = if round % 2 == 0 { [false, true] } else { [true, false] };
        for is_full in order {
            interrupt.check()?;
            let side = if is_full { &mut full } else { &mut roomy };
            let (request_us, entry_us) = side.take_turn(is_full)?;
            let push = |costs: &mut Costs, us| match is_full {
                true => costs.refused_us.push(us),
                false => costs.accepted_us.push(us),
            };
            if round > 0 {
                push(&mut figures.request, request_us);
                push(&mut figures.entry, entry_us);
            }
        }
        progress.inc(1);
    }
    roomy.hub.stop()?;
    full.hub.stop()?;
    Ok(figures)
}

impl Side {
    fn start(own: &hub::Settings, env: &[(&str, &str)], interrupt: &Interrupt) -> Result<Self, Failure> {
        let hub = Hub::start_with(own, env, interrupt)?;
        let target = Target { host: hub.data.to_string(), token: hub.token.clone(), payload_bytes: PAYLOAD_BYTES };
        let requests = Clients::connect(hub.data, CONNECTIONS, PAYLOAD_BYTES, Requests::new(&target, KIND).submit)?;
        let answer_bytes_max = ENTRIES * ENTRY_ANSWER_BYTES_MAX;
        let batches = Clients::connect(hub.data, 1, answer_bytes_max, request::batch(&target, KIND, ENTRIES))?;
        Ok(Side { hub, requests, batches })
    }

    fn fill(&mut self) -> Result<(), Failure> {
        self.requests.send(1, &|_, _| true)
    }

    /// Microseconds of the hub's processor time for a request and for an entry.
    fn take_turn(&mut self, is_full: bool) -> Result<(f64, f64), Failure> {
        let Side { hub, requests, batches } = self;
        let time_of = |act: &mut dyn FnMut() -> Result<(), Failure>| {
            let clock = Instant::now();
            let used = || hub.pid().and_then(cpu::time).unwrap_or_else(|| clock.elapsed());
            let before = used();
            act()?;
            Ok(used().saturating_sub(before).as_secs_f64() * 1e6)
        };
        let status = if is_full { 429 } else { 200 };
        let of_requests = time_of(&mut || requests.send(REQUESTS, &|answered, _| answered == status))?;
        let refused = |body: &[u8]| has(body, r#""error":"backpressure""#);
        let of_batches =
            time_of(&mut || batches.send(BATCHES, &|answered, body| answered == 200 && refused(body) == is_full))?;
        Ok((of_requests / REQUESTS as f64, of_batches / (BATCHES * ENTRIES as u64) as f64))
    }
}

impl Clients {
    fn connect(address: SocketAddr, count: usize, body_bytes_max: usize, request: Vec<u8>) -> Result<Self, Failure> {
        let poll = Poll::new().map_err(Failure::system("create a poll"))?;
        let mut connections = Vec::with_capacity(count);
        for number in 0..count {
            let mut connection = Connection::open(address, body_bytes_max)?;
            connection.register(poll.registry(), Token(number)).map_err(Failure::system("watch a connection"))?;
            connections.push(connection);
        }
        Ok(Clients { poll, connections, request })
    }

    /// Sends the request so many times, and waits for the answers, which have to be as expected.
    fn send(&mut self, count: u64, is_expected: &dyn Fn(u16, &[u8]) -> bool) -> Result<(), Failure> {
        let (mut to_send, mut open) = (count, 0u64);
        for connection in self.connections.iter_mut().take(count.min(CONNECTIONS as u64) as usize) {
            connection.send(&self.request)?;
            (to_send, open) = (to_send - 1, open + 1);
        }
        let mut is_open = vec![true; open as usize];
        is_open.resize(self.connections.len(), false);
        let mut events = Events::with_capacity(CONNECTIONS);
        while open > 0 {
            self.poll.poll(&mut events, Some(WAIT_MAX)).map_err(Failure::system("wait for answers"))?;
            if events.is_empty() {
                return Err(Failure::Silence(WAIT_MAX));
            }
            for number in events.iter().map(|event| event.token().0) {
                if !is_open[number] {
                    continue;
                }
                let connection = &mut self.connections[number];
                let Some((status, body)) = connection.receive()? else { continue };
                if !is_expected(status, body) {
                    let body = String::from_utf8_lossy(&body[..body.len().min(500)]).into_owned();
                    return Err(Failure::Answer { call: Call::Submit, status, body });
                }
                if to_send > 0 {
                    connection.send(&self.request)?;
                    to_send -= 1;
                } else {
                    is_open[number] = false;
                    open -= 1;
                }
            }
        }
        Ok(())
    }
}
