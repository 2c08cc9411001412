//! The journal's thread: receives a batch, makes it durable, reports it. Group commit follows: while the disk works on
//! one batch, the loop fills the next.
//!
//! Once a second it looks whether the data folder is still the hub's: what is written into files that were removed or
//! replaced is lost, and another process may be writing. Until they are the hub's again nothing is written.
//!
//! When an append fails, the thread reports why once and retries the same batch until it succeeds or the hub stops: an
//! applied command is never left out of the journal.

use crate::journal::{AppendError, Appender, Batch};
use crate::service::Handover;
use crate::thread::{self, Thread};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use mio::Waker;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The first and the longest pause before a batch is retried: disk space may be freed at any moment, and a try costs
/// one failed system call.
const RETRY_FIRST: Duration = Duration::from_millis(50);
const RETRY_LONGEST: Duration = Duration::from_secs(1);

/// How often the thread looks whether the data folder is still the hub's.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How long the thread spins for the next batch before it sleeps: a client that waits for each answer sends its next
/// request within this time, and to wake a thread on an idle core takes as long as a quarter of a fast disk's sync.
const SPIN: Duration = Duration::from_micros(50);

/// How long the end waits for the thread, whose last batch was waited for before.
const FINISH_MAX: Duration = Duration::from_secs(1);

/// A report of the journal's thread.
#[derive(Debug)]
pub enum Report {
    /// All records up to this one are durable. The batch is returned empty, to be filled again.
    Durable {
        /// The last durable record.
        up_to: u64,
        /// The batch, empty, with its capacity.
        spare: Batch,
        /// How long the disk took, failed tries included.
        took: Duration,
        /// If a segment was sealed, its last record: a snapshot can replace the segment.
        sealed_through: Option<u64>,
    },
    /// The append failed and is retried, or the data folder is not the hub's any more.
    Down {
        /// Why.
        reason: String,
    },
    /// The data folder is the hub's again; no batch had to be written meanwhile.
    Up,
}

/// The loop's handle to the journal's thread.
pub struct Committer {
    work: Option<Sender<Handover>>,
    reports: Receiver<Report>,
    stop: Option<Sender<()>>,
    thread: Thread<Appender>,
}

impl Committer {
    /// Starts the thread. `waker` wakes the loop when there is a report.
    pub fn start(appender: Appender, waker: Arc<Waker>) -> std::io::Result<Self> {
        // One batch is in flight at a time, so neither channel is ever full.
        let (work, work_receiver) = bounded(1);
        let (report_sender, reports) = bounded(4);
        let (stop, stop_receiver) = bounded(0);
        let run = move || run(appender, &work_receiver, &report_sender, &stop_receiver, &waker);
        let thread = thread::spawn("journal", run)?;
        Ok(Committer { work: Some(work), reports, stop: Some(stop), thread })
    }

    /// Sends a batch to the thread. The previous one must have been reported durable.
    pub fn append(&self, handover: Handover) {
        let work = self.work.as_ref().expect("nothing is appended after the end");
        work.try_send(handover).expect("one batch is in flight at a time");
    }

    /// The next report, if there is one.
    pub fn report(&self) -> Option<Report> {
        self.reports.try_recv().ok()
    }

    /// Whether there is a report.
    pub fn has_report(&self) -> bool {
        !self.reports.is_empty()
    }

    /// Waits for the next report.
    pub fn wait(&self, timeout: Duration) -> Option<Report> {
        self.reports.recv_timeout(timeout).ok()
    }

    /// Ends the thread; a batch whose append keeps failing is abandoned. The appender is lost if a disk that hangs has
    /// it.
    pub fn finish(mut self) -> Option<Appender> {
        self.work = None;
        self.stop = None;
        self.thread.join(FINISH_MAX)
    }
}

fn run(
    mut appender: Appender,
    work: &Receiver<Handover>,
    reports: &Sender<Report>,
    stop: &Receiver<()>,
    waker: &Waker,
) -> Appender {
    let mut watch = Watch { looked_at: Instant::now(), is_down: false };
    loop {
        let handover = match next(work) {
            Ok(handover) => handover,
            Err(RecvTimeoutError::Timeout) => {
                watch.look(&appender, reports, waker);
                continue;
            }
            Err(RecvTimeoutError::Disconnected) => return appender,
        };
        let started = Instant::now();
        let mut commit = Commit::new(handover, &appender);
        let (up_to, sealed_through) = loop {
            let attempt = match watch.check(&appender) {
                Ok(()) => commit.attempt(&mut appender),
                Err(error) => Ok(commit.postpone(&error)),
            };
            match attempt {
                Ok(Attempt::Done { up_to, sealed_through }) => break (up_to, sealed_through),
                Ok(Attempt::Again { pause, down }) => {
                    if let Some(reason) = down {
                        tracing::error!(error = %reason, "the journal cannot be written; nothing is acknowledged until it can");
                        send(reports, waker, Report::Down { reason });
                    }
                    // The loop drops its end when the hub stops, which ends the wait.
                    if stop.recv_timeout(pause) == Err(RecvTimeoutError::Disconnected) {
                        return appender;
                    }
                }
                Err(error) => panic!("{error}"),
            }
        };
        if commit.is_reported_down {
            tracing::info!("the journal is written again");
        }
        let report = Report::Durable { up_to, spare: commit.into_spare(), took: started.elapsed(), sealed_through };
        send(reports, waker, report);
    }
}

/// Whether the data folder is still the hub's.
struct Watch {
    looked_at: Instant,
    is_down: bool,
}

impl Watch {
    /// Looks if a second has passed since the last time, or if the folder was not the hub's then.
    fn check(&mut self, appender: &Appender) -> Result<(), AppendError> {
        if !self.is_down && self.looked_at.elapsed() < LOOK_EVERY {
            return Ok(());
        }
        self.looked_at = Instant::now();
        let found = appender.check_ours();
        self.is_down = found.is_err();
        found
    }

    /// Looks while there is nothing to write, and reports what has changed.
    fn look(&mut self, appender: &Appender, reports: &Sender<Report>, waker: &Waker) {
        let was_down = self.is_down;
        match self.check(appender) {
            Err(error) if !was_down => {
                let reason = error.to_string();
                tracing::error!(error = %reason, "the journal cannot be written; nothing is acknowledged until it can");
                send(reports, waker, Report::Down { reason });
            }
            Ok(()) if was_down => {
                tracing::info!("the journal can be written again");
                send(reports, waker, Report::Up);
            }
            _ => {}
        }
    }
}

/// A batch to append, retried until it is durable.
#[derive(Debug)]
pub struct Commit {
    handover: Handover,
    sealed_before: u64,
    pause: Duration,
    is_reported_down: bool,
}

/// The result of one try.
#[derive(Debug)]
pub enum Attempt {
    /// The batch is durable.
    Done {
        /// The last durable record.
        up_to: u64,
        /// If a segment was sealed, its last record.
        sealed_through: Option<u64>,
    },
    /// The append failed.
    Again {
        /// How long to wait before the next try.
        pause: Duration,
        /// Why, to be reported, if this is the first try that failed.
        down: Option<String>,
    },
}

impl Commit {
    /// The first try of a batch is still to come.
    pub fn new(handover: Handover, appender: &Appender) -> Self {
        Commit { handover, sealed_before: appender.sealed_through(), pause: RETRY_FIRST, is_reported_down: false }
    }

    /// Tries once. The error [`AppendError::Fenced`] means that another hub owns the journal: it must not be written
    /// any more.
    pub fn attempt(&mut self, appender: &mut Appender) -> Result<Attempt, AppendError> {
        let Handover { batch, first_seq, hash_before } = &mut self.handover;
        match appender.append(*first_seq, batch, *hash_before) {
            Ok(up_to) => {
                let sealed = appender.sealed_through();
                Ok(Attempt::Done { up_to, sealed_through: (sealed != self.sealed_before).then_some(sealed) })
            }
            Err(error @ AppendError::Fenced { .. }) => Err(error),
            Err(error) => Ok(self.postpone(&error)),
        }
    }

    /// The next try is after a pause.
    fn postpone(&mut self, error: &AppendError) -> Attempt {
        let pause = self.pause;
        self.pause = (pause * 2).min(RETRY_LONGEST);
        let is_first = !std::mem::replace(&mut self.is_reported_down, true);
        Attempt::Again { pause, down: is_first.then(|| error.to_string()) }
    }

    /// The batch and its place in the journal.
    pub fn handover(&self) -> &Handover {
        &self.handover
    }

    /// The batch, emptied, to be filled again.
    pub fn into_spare(self) -> Batch {
        let mut batch = self.handover.batch;
        batch.clear();
        batch
    }
}

/// The next batch, if there is one within a second; disconnected when the loop has ended.
fn next(work: &Receiver<Handover>) -> Result<Handover, RecvTimeoutError> {
    let until = Instant::now() + SPIN;
    while work.is_empty() && Instant::now() < until {
        std::thread::yield_now();
    }
    work.recv_timeout(LOOK_EVERY)
}

/// Sends a report and wakes the loop. If the loop has ended, the report is not needed.
fn send(reports: &Sender<Report>, waker: &Waker, report: Report) {
    if reports.send(report).is_ok()
        && let Err(error) = waker.wake()
    {
        tracing::error!(%error, "the event loop cannot be woken");
    }
}
