//! Lease: keeps the lease of a job until its result is delivered, and knows by this machine's clock when it ends.
//!
//! A thread extends it, since a call may hang for as long as the network does. The job's thread hears of extensions and
//! of the hub's word that the lease has ended; if it hears nothing, it stops the command before the lease ends, because
//! the hub then gives the job to another worker.

use super::Worker;
use crate::client::calls::LeaseState;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TrySendError};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The longest part of a lease that is left for the command to end in.
const STOP_GRACE_MAX: Duration = Duration::from_secs(5);

/// How long the answer to an extension may take at least.
const ANSWER_MIN: Duration = Duration::from_secs(1);

/// A lease that is being extended, until it is dropped.
pub struct Lease {
    until: Instant,
    duration: Duration,
    news: Receiver<News>,
    /// Its drop ends the thread.
    _kept: Sender<()>,
}

/// What is heard of a lease.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum News {
    /// It holds until then.
    Extended(Instant),
    /// The hub says that it has ended, with this code.
    Ended(String),
}

impl Lease {
    /// A lease that was granted just now.
    pub fn keep(worker: &Arc<Worker>, lease_id: &str) -> Self {
        let duration = Duration::from_secs(worker.lease_sec);
        let (kept, dropped) = crossbeam_channel::bounded(0);
        let (sender, news) = crossbeam_channel::bounded(1);
        let (worker, lease_id) = (Arc::clone(worker), lease_id.to_owned());
        let until = Instant::now() + duration;
        std::thread::spawn(move || extend(&worker, &lease_id, duration, &dropped, &sender));
        Lease { until, duration, news, _kept: kept }
    }

    /// Receives extensions and the end.
    pub fn news(&self) -> &Receiver<News> {
        &self.news
    }

    /// The lease was extended.
    pub fn extend(&mut self, until: Instant) {
        self.until = self.until.max(until);
    }

    /// When it ends by this machine's clock.
    pub fn until(&self) -> Instant {
        self.until
    }

    /// When the command must be asked to stop, so that it has stopped when the lease ends.
    pub fn stop_at(&self) -> Instant {
        self.until - (self.duration / 6).min(STOP_GRACE_MAX)
    }
}

/// Extends a lease until the job has ended (`dropped` is disconnected) or the lease has.
fn extend(worker: &Worker, lease_id: &str, duration: Duration, dropped: &Receiver<()>, news: &Sender<News>) {
    let third = duration / 3;
    let mut wait = third;
    while dropped.recv_timeout(wait) == Err(RecvTimeoutError::Timeout) {
        let asked = Instant::now();
        // Several tries fit into the rest of the lease; a hub with a slow disk needs a moment for each.
        let client = worker.link.client().with_answer_max((third / 2).max(ANSWER_MIN));
        let answer = client.extend(&worker.heartbeat.node_id, lease_id, worker.lease_sec);
        let said = match answer {
            Ok(LeaseState::Done) => {
                worker.say_back();
                wait = third;
                // The hub counts from a later instant than this.
                News::Extended(asked + duration)
            }
            Ok(LeaseState::Ended(code)) => News::Ended(code),
            Err(error) => {
                worker.say_away(&error);
                wait = error.retry_after().unwrap_or_default().clamp(third / 10, third);
                continue;
            }
        };
        let is_end = matches!(said, News::Ended(_));
        // While the result is delivered nobody reads the news, and the lease is kept all the same.
        if matches!(news.try_send(said), Err(TrySendError::Disconnected(_))) || is_end {
            return;
        }
    }
}
