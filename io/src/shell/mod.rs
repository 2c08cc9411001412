//! The shell: one loop that reads what is ready, lets the service answer, hands what changed to the journal's thread,
//! and writes the replies that the journal allows.
//!
//! ```text
//!  sockets ─read─► http::Connection ─► Service ─► batch ─► journal's thread ─► disk
//!     ▲                                  │ reply, with the number of the last record
//!     └────────write──── HeldReplies ◄───┘ … until the disk has that record
//! ```
//! [`engine`] is all of that but the sockets themselves, the clock and the threads, which [`run`] adds and the simulator
//! replaces. While the hub recovers, [`lobby`] has the sockets.
//!
//! A round costs one `poll`, one read and one write for each connection that is ready, and one hand-over of a batch.

pub mod clock;
pub mod committer;
pub mod engine;
mod event_loop;
mod held;
mod listener;
pub mod lobby;
pub mod reader;
#[cfg_attr(feature = "sim-mutants", path = "../../mutated/shell.rs")]
mod rules;
pub mod snapshots;
pub mod sockets;
pub mod wire;

use crate::alerts::AlertLog;
use crate::audit::{Audit, Feed};
use crate::http;
use crate::journal::Appender;
use crate::service::{Plane, PlaneAddrs, Service};
use crate::trace::Trace;
use clock::Clock;
use crossbeam_channel::{Receiver, Sender};
use event_loop::EventLoop;
pub use listener::{BindError, Listeners};
use lobby::Arrivals;
use mio::{Events, Poll, Token, Waker};
use reader::LogReader;
use sheratan_core::Timestamp;
use sheratan_core::alerts::Alerts;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Events that one `poll` may bring.
const EVENTS_MAX: usize = 1_024;

const WAKER: Token = Token(0);
const LISTENERS: [(Token, Plane); 2] = [(Token(1), Plane::Control), (Token(2), Plane::Data)];

/// What the first connection's slot is called; the slots count from there.
const FIRST_SOCKET: usize = 3;

/// Tells the loop to stop, from any thread.
#[derive(Default)]
pub struct StopFlag(AtomicUsize);

impl StopFlag {
    /// The hub is to stop: at the first call when all is answered, at the second at once.
    pub fn stop(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }

    fn stops(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

/// What the loop is started with.
pub struct Parts {
    /// The poll that everything is registered with.
    pub poll: Poll,
    /// Wakes the poll.
    pub waker: Arc<Waker>,
    /// The planes' sockets, and who came by them before the hub was ready.
    pub arrivals: Arrivals,
    /// The hub behind them.
    pub service: Service,
    /// The journal's end.
    pub appender: Appender,
    /// The audit log.
    pub audit: Audit,
    /// What is written to it.
    pub audit_feed: Feed,
    /// The alerts' file and webhook.
    pub alerts: AlertLog,
    /// What the hub refuses and what finds nothing goes there, if anywhere.
    pub trace: Option<Trace>,
    /// Who reads pages of the logs.
    pub log_reader: LogReader,
    /// Limits of a connection.
    pub http_limits: http::Limits,
    /// Connections at once.
    pub connections_max: usize,
    /// Tells the loop to stop.
    pub stop: Arc<StopFlag>,
    /// Alert rules to follow from now on.
    pub alert_rules: Receiver<Alerts>,
    /// Is told the last record of the segments that are sealed.
    pub sealed: Sender<u64>,
}

/// What is left when the loop has ended.
pub struct Ended {
    /// The hub's last state.
    pub service: Service,
    /// The journal's end.
    pub appender: Appender,
    /// Whether all that was done is durable.
    pub is_durable: bool,
}

/// A poll, and the planes' sockets on it.
pub fn bind(asked: &PlaneAddrs) -> Result<(Listeners, PlaneAddrs), BindError> {
    Listeners::bind(asked, LISTENERS)
}

/// Wall time now.
pub fn wall_time() -> Timestamp {
    Clock::new().now().0
}

/// A poll with its waker.
pub fn poll() -> io::Result<(Poll, Arc<Waker>)> {
    let poll = Poll::new()?;
    let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
    Ok((poll, waker))
}

/// Serves until told to stop, then answers what is in flight.
pub fn run(parts: Parts) -> io::Result<Ended> {
    let mut event_loop = EventLoop::new(parts)?;
    let mut events = Events::with_capacity(EVENTS_MAX);
    event_loop.act(&events);
    while !event_loop.is_over() {
        event_loop.round(&mut events)?;
    }
    Ok(event_loop.end())
}
