//! The shell: one loop that reads ready connections, lets the service answer their requests, hands uncommitted commands
//! to the journal, and writes the replies whose records are durable.
//!
//! ```text
//!  sockets ─read─► http::Connection ─► Service ─► batch ─► Appender ─► disk
//!     ▲                                  │ reply, with the number of the last record
//!     └────────write──── HeldReplies ◄───┘ … until the disk has that record
//! ```
//! [`engine`] is all of that except the sockets, the clock and the threads, which [`run`] adds and the simulator
//! replaces. While the hub recovers, [`lobby`] owns the sockets.
//!
//! A round costs one `poll`, one read and one write for each ready connection, and one hand-over of a batch.

pub mod addresses;
pub mod clock;
pub mod committer;
pub mod engine;
mod event_loop;
pub mod held;
mod listener;
pub mod lobby;
pub mod pace;
pub mod reader;
#[cfg_attr(feature = "sim-mutants", path = "../../mutated/shell.rs")]
mod rules;
pub mod share;
pub mod snapshots;
pub mod sockets;
pub mod timekeeper;
mod turns;
pub mod wire;

use crate::alerts::AlertLog;
use crate::audit::{Audit, Feed};
use crate::http;
use crate::journal::Appender;
use crate::result_keys::ResultKeys;
use crate::service::{Plane, PlaneAddrs, Service};
use crate::shared_token::SharedToken;
use crate::stall::Watches;
use crate::trace::Trace;
use addresses::ConnectionLimits;
use clock::Clock;
pub use clock::wall_time;
use committer::Committer;
use crossbeam_channel::{Receiver, Sender, bounded};
use event_loop::EventLoop;
pub use listener::{BindError, Listeners};
use lobby::Arrivals;
use mio::{Events, Poll, Token, Waker};
use reader::LogReader;
use sheratan_core::alerts::Alerts;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::Builder;
use timekeeper::Timekeeper;

/// Events that one `poll` may return.
const EVENTS_MAX: usize = 1_024;

/// The stack of the threads that serve: as large as a process's first one has.
const STACK_BYTES: usize = 8 << 20;

const WAKER: Token = Token(0);
const LISTENERS: [(Token, Plane); 2] = [(Token(1), Plane::Control), (Token(2), Plane::Data)];

/// The token of the first connection's slot; the token of slot `n` is `FIRST_SOCKET + n`.
const FIRST_SOCKET: usize = 3;

/// Asks the loop to stop, from any thread.
#[derive(Default)]
pub struct StopFlag(AtomicUsize);

impl StopFlag {
    /// Asks the hub to stop: the first call lets it answer the requests in flight, the second stops it at once.
    pub fn stop(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }

    /// Whether it was asked to stop before.
    pub fn is_stopping(&self) -> bool {
        self.stop_requests() > 0
    }

    fn stop_requests(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

/// What the loop is started with.
pub struct Parts {
    /// The poll that everything is registered with.
    pub poll: Poll,
    /// Wakes the poll.
    pub waker: Arc<Waker>,
    /// The planes' sockets, and the connections that were accepted before the hub was ready.
    pub arrivals: Arrivals,
    /// The machine's clocks, and the hub's time on top of them.
    pub clock: Clock,
    pub timekeeper: Timekeeper,
    /// The service that answers their requests.
    pub service: Service,
    /// Appends to the journal; the threads that serve share it.
    pub appender: Appender,
    /// The audit log.
    pub audit: Audit,
    /// The lines that were written to the audit log, for event streams.
    pub audit_feed: Feed,
    /// The alerts' file and webhook.
    pub alerts: AlertLog,
    /// Records the commands that were refused or found nothing, unless it is disabled.
    pub trace: Option<Trace>,
    /// Reads pages of the logs.
    pub log_reader: LogReader,
    /// Whether the logs' writes return.
    pub watches: Watches,
    /// Limits of a connection.
    pub http_limits: http::Limits,
    /// Limits of the connections together.
    pub connection_limits: ConnectionLimits,
    /// Bytes that all connections together may hold.
    pub buffered_bytes_max: usize,
    /// Asks the loop to stop.
    pub stop: Arc<StopFlag>,
    /// What was read again while the hub runs.
    pub reloaded: Receiver<Reloaded>,
    /// Receives the last record of each sealed segment.
    pub sealed: Sender<u64>,
}

/// What a reload gives to the loop.
#[derive(Debug)]
pub enum Reloaded {
    AlertRules(Alerts),
    ResultKeys(ResultKeys),
    SharedToken(Box<SharedToken>),
}

/// What is left when the loop has ended.
pub struct Ended {
    /// The service with the hub's last state.
    pub service: Service,
    /// The journal, which no thread uses any more, if all commands are durable.
    pub appender: Option<Appender>,
}

/// Binds the planes' listening sockets; returns them and their addresses.
pub fn bind(asked: &PlaneAddrs) -> Result<(Listeners, PlaneAddrs), BindError> {
    Listeners::bind(asked, LISTENERS)
}

/// A poll with its waker.
pub fn poll() -> io::Result<(Poll, Arc<Waker>)> {
    let poll = Poll::new()?;
    let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
    Ok((poll, waker))
}

/// Serves until it is asked to stop, then answers the requests in flight. Two threads take turns at leading: see
/// [`committer`].
pub fn run(parts: Parts) -> io::Result<Ended> {
    let event_loop = Box::new(EventLoop::new(parts)?);
    let committer = event_loop.committer().clone();
    let (sender, result) = bounded(2);
    for (name, event_loop) in [("loop", Some(event_loop)), ("journal", None)] {
        let (committer, sender) = (committer.clone(), sender.clone());
        Builder::new().name(name.into()).stack_size(STACK_BYTES).spawn(move || {
            let served = catch_unwind(AssertUnwindSafe(|| serve(&committer, event_loop)));
            if let Some(result) = served.transpose() {
                // Of two that end by a panic only the first is reported.
                _ = sender.try_send(result);
            }
        })?;
    }
    match result.recv().expect("a thread that ends says so") {
        Ok(ended) => ended,
        Err(panic) => resume_unwind(panic),
    }
}

/// Leads while there is a loop, and follows while there is none. Returns how the loop ended, if it ended here.
fn serve(committer: &Committer<Box<EventLoop>>, mut event_loop: Option<Box<EventLoop>>) -> Option<io::Result<Ended>> {
    let mut events = Events::with_capacity(EVENTS_MAX);
    loop {
        let first = match event_loop.take() {
            Some(event_loop) => event_loop,
            None => {
                let mut taken = committer.follow()?;
                taken.take_over();
                taken
            }
        };
        events.clear();
        let mut led = first.act(&events);
        while let Some(event_loop) = led {
            if event_loop.is_over() {
                return Some(Ok(event_loop.end()));
            }
            led = match event_loop.round(&mut events) {
                Ok(led) => led,
                Err(error) => return Some(Err(error)),
            };
        }
    }
}
