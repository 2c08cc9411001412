//! The journal's thread: takes a batch, has it durable, says so. Group commit comes of itself: while the disk works on
//! one batch, the loop fills the next.
//!
//! When the disk takes nothing, the thread says why once and tries the same batch again until it is taken or the hub
//! stops: nothing that was applied is ever dropped from the journal's order.

use crate::journal::{AppendError, Appender, Batch};
use crate::service::Handover;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use mio::Waker;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// The first and the longest pause before a batch is tried again: room may come back at any moment, and a try costs one
/// failed system call.
const RETRY_FIRST: Duration = Duration::from_millis(50);
const RETRY_LONGEST: Duration = Duration::from_secs(1);

/// How long the thread looks for the next batch before it sleeps: a client that waits for each answer sends its next
/// request within this time, and to wake a thread on an idle core takes as long as a quarter of a fast disk's sync.
const LOOK_OUT: Duration = Duration::from_micros(50);

/// What the journal's thread says.
#[derive(Debug)]
pub enum Report {
    /// All up to this record is durable. The batch comes back empty, to be filled again.
    Durable {
        /// The last durable record.
        up_to: u64,
        /// An empty batch with room.
        spare: Batch,
        /// How long the disk took, failed tries included.
        took: Duration,
        /// If a segment was sealed on the way, its last record: a snapshot can take its place.
        sealed_through: Option<u64>,
    },
    /// The disk does not take the batch; it is tried again.
    Down {
        /// Why.
        reason: String,
    },
}

/// The loop's end of the journal's thread.
pub struct Committer {
    work: Option<Sender<Handover>>,
    reports: Receiver<Report>,
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<Appender>>,
}

impl Committer {
    /// Starts the thread. `waker` tells the loop that there is a report.
    pub fn start(appender: Appender, waker: Arc<Waker>) -> std::io::Result<Self> {
        // One batch is on the disk's way at a time, so neither channel is ever full.
        let (work, work_receiver) = bounded(1);
        let (report_sender, reports) = bounded(4);
        let (stop, stop_receiver) = bounded(0);
        let thread = std::thread::Builder::new()
            .name("journal".into())
            .spawn(move || run(appender, &work_receiver, &report_sender, &stop_receiver, &waker))?;
        Ok(Committer { work: Some(work), reports, stop: Some(stop), thread: Some(thread) })
    }

    /// Hands over a batch. The one before must have been reported durable.
    pub fn append(&self, handover: Handover) {
        let work = self.work.as_ref().expect("nothing is appended after the end");
        work.try_send(handover).expect("one batch is under way at a time");
    }

    /// What the thread said, if anything.
    pub fn report(&self) -> Option<Report> {
        self.reports.try_recv().ok()
    }

    /// Whether the thread said something.
    pub fn has_report(&self) -> bool {
        !self.reports.is_empty()
    }

    /// Waits for what the thread says next.
    pub fn wait(&self, timeout: Duration) -> Option<Report> {
        self.reports.recv_timeout(timeout).ok()
    }

    /// Ends the thread; a batch that the disk does not take is given up.
    pub fn finish(mut self) -> Appender {
        self.work = None;
        self.stop = None;
        let thread = self.thread.take().expect("it runs until the end");
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

fn run(
    mut appender: Appender,
    work: &Receiver<Handover>,
    reports: &Sender<Report>,
    stop: &Receiver<()>,
    waker: &Waker,
) -> Appender {
    while let Some(handover) = next(work) {
        let started = Instant::now();
        let mut commit = Commit::new(handover, &appender);
        let (up_to, sealed_through) = loop {
            match commit.attempt(&mut appender) {
                Ok(Attempt::Done { up_to, sealed_through }) => break (up_to, sealed_through),
                Ok(Attempt::Again { pause, down }) => {
                    if let Some(reason) = down {
                        tracing::error!(error = %reason, "the journal cannot be written; nothing is acknowledged until it can");
                        tell(reports, waker, Report::Down { reason });
                    }
                    // The loop drops its end when the hub stops, which ends the wait.
                    if stop.recv_timeout(pause) == Err(RecvTimeoutError::Disconnected) {
                        return appender;
                    }
                }
                Err(error) => panic!("{error}"),
            }
        };
        if commit.is_told {
            tracing::info!("the journal is written again");
        }
        let report = Report::Durable { up_to, spare: commit.into_spare(), took: started.elapsed(), sealed_through };
        tell(reports, waker, report);
    }
    appender
}

/// A batch on its way to the disk: tried again until it is taken.
#[derive(Debug)]
pub struct Commit {
    handover: Handover,
    sealed_before: u64,
    pause: Duration,
    is_told: bool,
}

/// What came of a try.
#[derive(Debug)]
pub enum Attempt {
    /// The batch is durable.
    Done {
        /// The last durable record.
        up_to: u64,
        /// If a segment was sealed on the way, its last record.
        sealed_through: Option<u64>,
    },
    /// The disk did not take it.
    Again {
        /// How long to wait before the next try.
        pause: Duration,
        /// Why, if this is the first try that failed: it is to be told.
        down: Option<String>,
    },
}

impl Commit {
    /// A batch that was just handed over.
    pub fn new(handover: Handover, appender: &Appender) -> Self {
        Commit { handover, sealed_before: appender.sealed_through(), pause: RETRY_FIRST, is_told: false }
    }

    /// Tries. An error, [`AppendError::Fenced`], means that the journal is another's: nothing must be done any more.
    pub fn attempt(&mut self, appender: &mut Appender) -> Result<Attempt, AppendError> {
        let Handover { batch, first_seq, hash_before } = &mut self.handover;
        match appender.append(*first_seq, batch, *hash_before) {
            Ok(up_to) => {
                let sealed = appender.sealed_through();
                Ok(Attempt::Done { up_to, sealed_through: (sealed != self.sealed_before).then_some(sealed) })
            }
            Err(error @ AppendError::Fenced { .. }) => Err(error),
            Err(error) => {
                let pause = self.pause;
                self.pause = (pause * 2).min(RETRY_LONGEST);
                let is_first = !std::mem::replace(&mut self.is_told, true);
                Ok(Attempt::Again { pause, down: is_first.then(|| error.to_string()) })
            }
        }
    }

    /// What was handed over.
    pub fn handover(&self) -> &Handover {
        &self.handover
    }

    /// The batch, empty, to be filled again.
    pub fn into_spare(self) -> Batch {
        let mut batch = self.handover.batch;
        batch.clear();
        batch
    }
}

/// The next batch; `None` when there will be none.
fn next(work: &Receiver<Handover>) -> Option<Handover> {
    let until = Instant::now() + LOOK_OUT;
    while work.is_empty() && Instant::now() < until {
        std::thread::yield_now();
    }
    work.recv().ok()
}

/// The loop may have ended; then nobody needs the report.
fn tell(reports: &Sender<Report>, waker: &Waker, report: Report) {
    if reports.send(report).is_ok()
        && let Err(error) = waker.wake()
    {
        tracing::error!(%error, "the event loop cannot be woken");
    }
}
