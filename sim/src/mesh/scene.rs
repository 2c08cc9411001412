//! Scene: what an actor sees of the world while it acts, and what it asks of it.

use super::fault::{Fault, Injected};
use super::http::Reply;
use super::logs::LogPage;
use super::oracle::Told;
use super::plan::Plan;
use crate::agenda::Micros;
use crate::draw::Draw;

/// What an actor can ask of the world, and what it is given.
#[derive(Debug)]
pub struct Scene<'a> {
    /// Now.
    pub now: Micros,
    /// What the run is like.
    pub plan: &'a Plan,
    /// Chance.
    pub draw: &'a mut Draw,
    /// Faults come.
    pub is_chaos: bool,
    /// Work must come to an end.
    pub is_cool: bool,
    /// The last line of the audit log that the hub has told.
    pub logged: u64,
    /// Calls to make.
    pub calls: Vec<Call>,
    /// When to be woken, and what for.
    pub timers: Vec<(Micros, Timer)>,
    /// For the oracle.
    pub told: Vec<Told>,
    /// For the logs: pages of the audit log that the actor was given.
    pub leafed: Vec<LogPage>,
    /// Faults that came.
    pub injected: &'a mut Injected,
    /// What was seen.
    pub marks: Vec<&'static str>,
    /// The actor ends its connection.
    pub hangs_up: bool,
    /// The actor reads no more.
    pub is_deafened: bool,
}

/// A request to make.
#[derive(Debug)]
pub struct Call {
    /// On which of the actor's connections.
    pub lane: usize,
    /// The request.
    pub bytes: Vec<u8>,
    /// How long to wait for the reply.
    pub patience: Micros,
    /// For so long the hub may wait with it.
    pub waits: Micros,
}

impl Scene<'_> {
    /// Asks for something that is answered at once.
    pub fn call(&mut self, lane: usize, bytes: Vec<u8>, patience: Micros) {
        self.calls.push(Call { lane, bytes, patience, waits: 0 });
    }

    /// Whether a fault comes now.
    pub fn comes(&mut self, fault: Fault) -> bool {
        let rate = self.plan.rate(fault);
        let is_so = self.is_chaos && rate > 0 && self.draw.below(10_000) < rate;
        if is_so {
            *self.injected.entry(fault.name()).or_default() += 1;
        }
        is_so
    }
}

/// What an actor wants to be woken for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Timer {
    /// The next heartbeat.
    Heartbeat,
    /// The next pull.
    Pull,
    /// A job is done.
    Done(u64),
    /// A lease is to be extended.
    Extend(u64),
    /// Results wait to be sent.
    Send,
    /// A client's submit is tried again.
    Retry,
    /// A reader's next read.
    Read,
    /// A listener comes, perhaps again.
    Listen,
}

/// What came of a call.
#[derive(Debug)]
pub enum Answer {
    /// A reply, and how it came.
    Reply(Reply, Passage),
    /// The connection or the patience ended first.
    Lost,
}

/// How a reply came.
#[derive(Clone, Copy, Debug)]
pub struct Passage {
    /// When its request was sent.
    pub asked_at: Micros,
    /// When the hub last sent something on the connection: the reply, if nothing was asked behind it.
    pub left_at: Micros,
    /// Neither the network nor the hub was hindered meanwhile.
    pub is_smooth: bool,
}
