//! Lease: keeps the lease of a job until its result is delivered, and knows by this machine's clock when it ends.
//!
//! A thread extends it, since a call may hang for as long as the network does. The job's thread hears of extensions and
//! of the hub's word that the lease has ended; if it hears nothing, it stops the command before the lease ends, because
//! the hub then gives the job to another worker. How long a lease lasts is what the hub says: the rules of a kind, or a
//! drain of the node, may end it before the time that was asked for, and then the last extension says so.
//!
//! The progress that a command reports goes with extensions, which come earlier for it, once in [`PROGRESS_INTERVAL`] at
//! most: each is a record of the hub's journal.

use super::Worker;
use super::report::Reports;
use crate::client::calls::{LeaseState, LeasedJob, Report};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TrySendError};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The longest part of a lease that is left for the command to end in.
const STOP_GRACE_MAX: Duration = Duration::from_secs(5);

/// How long the answer to an extension may take at least.
const ANSWER_MIN: Duration = Duration::from_secs(1);

/// How often progress is passed on at most.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);

/// A lease that is being extended, until it is dropped.
pub struct Lease {
    until: Instant,
    duration: Duration,
    is_last: bool,
    news: Receiver<News>,
    /// Its drop ends the thread.
    _kept: Sender<()>,
}

/// What is heard of a lease.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum News {
    /// It holds until then, and is not extended further if `is_last`.
    Extended { until: Instant, is_last: bool },
    /// The hub says that it has ended, with this code.
    Ended(String),
}

impl Lease {
    /// The lease of a job that was granted just now.
    pub fn keep(worker: &Arc<Worker>, job: &LeasedJob, reports: &Arc<Reports>) -> Self {
        let duration = job.lease_ms.map_or(Duration::from_secs(worker.lease_sec), Duration::from_millis);
        let (kept, dropped) = crossbeam_channel::bounded(0);
        let (sender, news) = crossbeam_channel::bounded(1);
        let keeper = Keeper {
            worker: Arc::clone(worker),
            reports: Arc::clone(reports),
            lease_id: job.lease_id.clone(),
            third: duration / 3,
        };
        let until = Instant::now() + duration;
        std::thread::spawn(move || keeper.run(&dropped, &sender));
        Lease { until, duration, is_last: false, news, _kept: kept }
    }

    /// Receives extensions and the end.
    pub fn news(&self) -> &Receiver<News> {
        &self.news
    }

    /// The lease was extended.
    pub fn extend(&mut self, until: Instant, is_last: bool) {
        // The last one may end earlier than the lease did before: a drain has a deadline.
        self.until = if is_last { until } else { self.until.max(until) };
        self.is_last = is_last;
    }

    /// Whether the hub said that it is not extended further.
    pub fn is_last(&self) -> bool {
        self.is_last
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

/// Extends a lease until the job has ended, the lease has, or the hub extends it no further.
struct Keeper {
    worker: Arc<Worker>,
    reports: Arc<Reports>,
    lease_id: String,
    /// A third of the time that the lease was granted for.
    third: Duration,
}

impl Keeper {
    fn run(&self, dropped: &Receiver<()>, news: &Sender<News>) {
        let Keeper { worker, third, .. } = self;
        let mut due_at = Instant::now() + *third;
        // What could not be passed on yet.
        let mut report = Report::default();
        while self.wait(due_at, dropped, &mut report) {
            let asked = Instant::now();
            // Several tries fit into the rest of the lease; a hub with a slow disk needs a moment for each.
            let client = worker.link.client().with_answer_max((*third / 2).max(ANSWER_MIN));
            let answer = client.extend(&worker.heartbeat.node_id, &self.lease_id, worker.lease_sec, &report);
            let said = match answer {
                Ok(LeaseState::Done { lease_ms, is_last }) => {
                    worker.say_back();
                    report = Report::default();
                    let duration = lease_ms.map_or(*third * 3, Duration::from_millis);
                    due_at = asked + (duration / 3).min(*third);
                    // The hub counts from a later instant than this.
                    News::Extended { until: asked + duration, is_last }
                }
                Ok(LeaseState::Ended(code)) => News::Ended(code),
                // The lease is worth more than what the command says of its job.
                Err(error) if error.code() == Some("bad_request") && report != Report::default() => {
                    report = Report::default();
                    continue;
                }
                Err(error) => {
                    worker.say_away(&error);
                    due_at = Instant::now() + error.retry_after().unwrap_or_default().clamp(*third / 10, *third);
                    continue;
                }
            };
            let is_over = matches!(said, News::Ended(_) | News::Extended { is_last: true, .. });
            // While the result is delivered nobody reads the news, and the lease is kept all the same.
            if matches!(news.try_send(said), Err(TrySendError::Disconnected(_))) {
                return;
            }
            if is_over {
                // The job's thread waits for news as long as it runs.
                _ = dropped.recv();
                return;
            }
        }
    }

    /// Waits until the next extension is due, or progress is to be passed on; `false` if the job has ended.
    fn wait(&self, due_at: Instant, dropped: &Receiver<()>, report: &mut Report) -> bool {
        let earliest = Instant::now() + PROGRESS_INTERVAL;
        loop {
            crossbeam_channel::select! {
                recv(dropped) -> _ => return false,
                recv(crossbeam_channel::at(due_at)) -> _ => return true,
                recv(self.reports.news()) -> _ => {
                    let Some(progress) = self.reports.progress() else { continue };
                    *report = Report { progress: Some(progress.percent), note: progress.note };
                    if dropped.recv_deadline(earliest.min(due_at)) != Err(RecvTimeoutError::Timeout) {
                        return false;
                    }
                    if let Some(progress) = self.reports.progress() {
                        *report = Report { progress: Some(progress.percent), note: progress.note };
                    }
                    return true;
                }
            }
        }
    }
}
