//! Scene: what an actor can read of the world while it acts, and the calls, timers and observations that it returns.

use super::fault::{Fault, Injected};
use super::http::Reply;
use super::logs::LogPage;
use super::oracle::Observation;
use super::plan::Plan;
use crate::agenda::Micros;
use crate::draw::Draw;

/// An actor's view of the world for one step, and what the step produced.
#[derive(Debug)]
pub struct Scene<'a> {
    /// The current virtual time.
    pub now: Micros,
    /// The run's plan.
    pub plan: &'a Plan,
    /// The actors' stream of random numbers.
    pub draw: &'a mut Draw,
    /// Whether faults are injected.
    pub is_chaos: bool,
    /// Whether the cool-down has begun, in which all work must end.
    pub is_cool: bool,
    /// The last line of the audit log that is known to be written.
    pub logged: u64,
    /// How many records are durable.
    pub durable: u64,
    /// Calls to make.
    pub calls: Vec<Call>,
    /// When to be woken, and what for.
    pub timers: Vec<(Micros, Timer)>,
    /// What the actor was answered or shown, for the oracle to check.
    pub observations: Vec<Observation>,
    /// Pages of the audit log that the actor was given, for the log ledger to check.
    pub log_pages: Vec<LogPage>,
    /// Faults that were injected, by name.
    pub injected: &'a mut Injected,
    /// Events to count under these names.
    pub marks: Vec<&'static str>,
    /// Whether the actor closes its first connection.
    pub hangs_up: bool,
    /// Whether the actor stops reading.
    pub is_deafened: bool,
}

/// A request to make.
#[derive(Debug)]
pub struct Call {
    /// Index of the actor's connection.
    pub lane: usize,
    /// The request.
    pub bytes: Vec<u8>,
    /// How long the actor waits for the reply before it closes the connection.
    pub timeout: Micros,
    /// How long the request allows the hub to wait before it answers.
    pub hub_wait: Micros,
}

impl Scene<'_> {
    /// Makes a request that the hub answers without waiting.
    pub fn call(&mut self, lane: usize, bytes: Vec<u8>, timeout: Micros) {
        self.calls.push(Call { lane, bytes, timeout, hub_wait: 0 });
    }

    /// Draws whether to inject a fault now, and counts it if so.
    pub fn draws_fault(&mut self, fault: Fault) -> bool {
        let rate = self.plan.rate(fault);
        let is_drawn = self.is_chaos && rate > 0 && self.draw.below(10_000) < rate;
        if is_drawn {
            *self.injected.entry(fault.name()).or_default() += 1;
        }
        is_drawn
    }
}

/// What a timer of an actor is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Timer {
    /// The next heartbeat.
    Heartbeat,
    /// The next pull.
    Pull,
    /// The work on a job is done.
    Done(u64),
    /// A lease has to be extended.
    Extend(u64),
    /// Collected results have to be sent.
    Send,
    /// A client sends its waiting submits.
    Retry,
    /// A reader's next read.
    Read,
    /// A listener opens its stream or checks that it is alive.
    Listen,
    /// An operator's next act.
    Act,
}

/// How a call ended.
#[derive(Debug)]
pub enum Answer {
    /// A reply, and how it was delivered.
    Reply(Reply, Passage),
    /// The connection was closed or the call timed out before a reply.
    Lost,
}

/// How a reply was delivered.
#[derive(Clone, Copy, Debug)]
pub struct Passage {
    /// When its request was sent.
    pub asked_at: Micros,
    /// When the hub last sent something on the connection: this reply, if no later request was pipelined.
    pub left_at: Micros,
    /// Whether neither a network fault nor a slow hub delayed it.
    pub is_smooth: bool,
}
