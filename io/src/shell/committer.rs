//! The committer: makes a batch durable, and reports it. Group commit follows: while the disk works on one batch, the
//! loop fills the next.
//!
//! There are two threads, and two ways. One thread leads: it runs the event loop. Where the disk is fast
//! ([`Pace`](super::pace::Pace)), it commits by itself, without waking anybody. Where the disk is slow, the other thread,
//! the follower, commits, and the loop goes on.
//!
//! No disk stays fast for certain. So the leader, while it commits, leaves the loop on the [`Desk`]. If its commit takes
//! longer than [`OVERTAKE_AFTER`], the follower takes the loop and leads; the other one follows when its disk has
//! answered. (Schmidt, O'Ryan, Kircher, Pyarali, Buschmann: "Leader/Followers", 2000.)
//!
//! Once a second the follower looks whether the data folder is still the hub's: what is written into files that were
//! removed or replaced is lost, and another process may be writing. Until they are the hub's again nothing is written.
//!
//! When an append fails, that is reported once, and the follower retries the same batch until it succeeds or the hub
//! stops: an applied command is never left out of the journal.

use crate::journal::{AppendError, Appender, Batch};
use crate::service::Handover;
use crossbeam_channel::{Receiver, Sender, bounded};
use mio::Waker;
use std::mem;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// The first and the longest pause before a batch is retried: disk space may be freed at any moment, and a try costs
/// one failed system call.
const RETRY_FIRST: Duration = Duration::from_millis(50);
const RETRY_LONGEST: Duration = Duration::from_secs(1);

/// How often the follower looks whether the data folder is still the hub's.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How long the leader's commit may take before the follower takes the loop.
pub const OVERTAKE_AFTER: Duration = Duration::from_millis(5);

/// How often the follower looks at the leader's commits while there are some.
pub const LOOK_AT_LEADER_EVERY: Duration = Duration::from_millis(10);

/// How long the end waits for the appender, whose last batch was waited for before.
const FINISH_MAX: Duration = Duration::from_secs(1);

/// A report of a commit.
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
        /// Whether the loop's thread wrote it.
        is_in_loop: bool,
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

/// What the two threads share. `L` is the loop.
pub struct Committer<L> {
    desk: Mutex<Desk<L>>,
    changed: Condvar,
    reports: Sender<Report>,
    received: Receiver<Report>,
    waker: Arc<Waker>,
}

/// What one thread leaves for the other.
struct Desk<L> {
    /// `None` while a thread uses it.
    appender: Option<Appender>,
    /// A batch for the follower.
    work: Option<Work>,
    /// The loop while its thread commits, and since when it does.
    parked: Option<(L, Instant)>,
    /// How many batches the leader has committed: it is at work if the number grows.
    commits: u64,
    /// The follower sleeps so long that it would notice a leader's commit too late.
    is_dozing: bool,
    /// The data folder is not the hub's: the leader must not write.
    is_down: bool,
    /// The follower has not got the appender to look at the data folder: it gets the leader's next batch.
    is_look_due: bool,
    is_ending: bool,
}

struct Work {
    commit: Commit,
    began: Instant,
}

impl<L> Committer<L> {
    /// `waker` wakes the loop when the follower has a report.
    pub fn new(appender: Appender, waker: Arc<Waker>) -> Self {
        // A batch is reported once, and what happens to the data folder is reported when it changes.
        let (reports, received) = bounded(4);
        let desk = Desk {
            appender: Some(appender),
            work: None,
            parked: None,
            commits: 0,
            is_dozing: false,
            is_down: false,
            is_look_due: false,
            is_ending: false,
        };
        Committer { desk: Mutex::new(desk), changed: Condvar::new(), reports, received, waker }
    }

    fn desk(&self) -> MutexGuard<'_, Desk<L>> {
        self.desk.lock().expect("no thread panics while it looks at the desk")
    }

    /// Leaves a batch for the follower. The previous one must have been reported durable.
    pub fn append(&self, handover: Handover) {
        let mut desk = self.desk();
        assert!(desk.work.is_none(), "one batch is in flight at a time");
        desk.work = Some(Work { commit: Commit::new(handover), began: Instant::now() });
        self.changed.notify_all();
    }

    /// Commits a batch in the leader's thread, which gives the loop away meanwhile. Returns the loop with a report, if
    /// there is one already; `None` if the follower has taken the loop: then this thread follows.
    pub fn commit_here(&self, event_loop: L, handover: Handover) -> Option<(L, Option<Report>)> {
        let mut work = Work { commit: Commit::new(handover), began: Instant::now() };
        let mut desk = self.desk();
        let bytes = work.commit.handover().batch.bytes();
        let may_write = !desk.is_down
            && !desk.is_look_due
            && desk.appender.as_ref().is_some_and(|appender| appender.has_room(bytes));
        let appender = if may_write { desk.appender.take() } else { None };
        let Some(mut appender) = appender else {
            desk.work = Some(work);
            self.changed.notify_all();
            return Some((event_loop, None));
        };
        desk.parked = Some((event_loop, work.began));
        if mem::take(&mut desk.is_dozing) {
            self.changed.notify_all();
        }
        drop(desk);
        let attempt = work.commit.try_once(&mut appender);
        let mut desk = self.desk();
        desk.commits += 1;
        let Some((event_loop, _)) = desk.parked.take() else {
            drop(desk);
            let report = self.finish(work, Some(attempt), &mut appender, &mut Watch::new());
            self.put_back(appender, report);
            return None;
        };
        desk.appender = Some(appender);
        let report = match attempt {
            Attempt::Done { up_to, sealed_through } => Some(work.durable(up_to, sealed_through, true)),
            Attempt::Again { down, .. } => {
                desk.work = Some(work);
                self.changed.notify_all();
                down.map(down_report)
            }
        };
        Some((event_loop, report))
    }

    /// Works as the follower until there is a loop to take, or the hub ends.
    pub fn follow(&self) -> Option<L> {
        let mut watch = Watch::new();
        let mut commits_seen = 0;
        let mut desk = self.desk();
        while !desk.is_ending {
            if desk.appender.is_some()
                && let Some(work) = desk.work.take()
            {
                let mut appender = desk.appender.take().expect("it was just seen");
                drop(desk);
                let report = self.finish(work, None, &mut appender, &mut watch);
                self.put_back(appender, report);
                desk = self.desk();
                desk.is_down = watch.is_down;
                desk.is_look_due = watch.is_due();
                continue;
            }
            desk.is_look_due = watch.is_due();
            if desk.is_look_due
                && let Some(appender) = desk.appender.take()
            {
                drop(desk);
                let report = watch.look(&appender);
                // Before the appender is back: until then the leader does not write.
                self.desk().is_down = watch.is_down;
                self.put_back(appender, report);
                desk = self.desk();
                continue;
            }
            if desk.parked.as_ref().is_some_and(|(_, since)| since.elapsed() >= OVERTAKE_AFTER) {
                return desk.parked.take().map(|(event_loop, _)| event_loop);
            }
            let is_leader_at_work = desk.parked.is_some() || desk.commits != commits_seen;
            commits_seen = desk.commits;
            desk.is_dozing = !is_leader_at_work;
            let wait = if is_leader_at_work { LOOK_AT_LEADER_EVERY } else { LOOK_EVERY };
            desk = self.changed.wait_timeout(desk, wait).expect("no thread panics while it looks at the desk").0;
            desk.is_dozing = false;
        }
        None
    }

    /// Tries until the batch is durable, which it returns as a report, or the hub ends.
    fn finish(
        &self,
        mut work: Work,
        mut tried: Option<Attempt>,
        appender: &mut Appender,
        watch: &mut Watch,
    ) -> Option<Report> {
        loop {
            let attempt = match tried.take() {
                Some(attempt) => attempt,
                None => match watch.check(appender) {
                    Ok(()) => work.commit.try_once(appender),
                    Err(error) => work.commit.postpone(&error),
                },
            };
            match attempt {
                Attempt::Done { up_to, sealed_through } => return Some(work.durable(up_to, sealed_through, false)),
                Attempt::Again { pause, down } => {
                    if let Some(reason) = down {
                        self.send(down_report(reason));
                    }
                    let waited = self.changed.wait_timeout_while(self.desk(), pause, |desk| !desk.is_ending);
                    if waited.expect("no thread panics while it looks at the desk").0.is_ending {
                        return None;
                    }
                }
            }
        }
    }

    /// Leaves the appender on the desk, then reports.
    fn put_back(&self, appender: Appender, report: Option<Report>) {
        let mut desk = self.desk();
        desk.appender = Some(appender);
        if desk.is_ending {
            self.changed.notify_all();
        }
        drop(desk);
        if let Some(report) = report {
            self.send(report);
        }
    }

    /// Sends a report and wakes the loop. If the loop has ended, the report is not needed.
    fn send(&self, report: Report) {
        if self.reports.send(report).is_ok()
            && let Err(error) = self.waker.wake()
        {
            tracing::error!(%error, "the event loop cannot be woken");
        }
    }

    /// The next report of the follower, if there is one.
    pub fn report(&self) -> Option<Report> {
        self.received.try_recv().ok()
    }

    /// Waits for the next report of the follower.
    pub fn wait(&self, timeout: Duration) -> Option<Report> {
        self.received.recv_timeout(timeout).ok()
    }

    /// Ends the follower; a batch whose append keeps failing is abandoned. The appender is lost if a disk that hangs
    /// has it.
    pub fn end(&self) -> Option<Appender> {
        let mut desk = self.desk();
        desk.is_ending = true;
        self.changed.notify_all();
        let waited = self.changed.wait_timeout_while(desk, FINISH_MAX, |desk| desk.appender.is_none());
        waited.expect("no thread panics while it looks at the desk").0.appender.take()
    }
}

impl Work {
    fn durable(self, up_to: u64, sealed_through: Option<u64>, is_in_loop: bool) -> Report {
        if self.commit.is_reported_down {
            tracing::info!("the journal is written again");
        }
        let took = self.began.elapsed();
        Report::Durable { up_to, took, spare: self.commit.into_spare(), sealed_through, is_in_loop }
    }
}

fn down_report(reason: String) -> Report {
    tracing::error!(error = %reason, "the journal cannot be written; nothing is acknowledged until it can");
    Report::Down { reason }
}

/// Whether the data folder is still the hub's.
struct Watch {
    looked_at: Instant,
    is_down: bool,
}

impl Watch {
    fn new() -> Self {
        Watch { looked_at: Instant::now(), is_down: false }
    }

    fn is_due(&self) -> bool {
        self.looked_at.elapsed() >= LOOK_EVERY
    }

    /// Looks if a second has passed since the last time, or if the folder was not the hub's then.
    fn check(&mut self, appender: &Appender) -> Result<(), AppendError> {
        if !self.is_down && !self.is_due() {
            return Ok(());
        }
        self.looked_at = Instant::now();
        let found = appender.check_ours();
        self.is_down = found.is_err();
        found
    }

    /// Looks while there is nothing to write, and returns what has changed.
    fn look(&mut self, appender: &Appender) -> Option<Report> {
        let was_down = self.is_down;
        match self.check(appender) {
            Err(error) if !was_down => Some(down_report(error.to_string())),
            Ok(()) if was_down => {
                tracing::info!("the journal can be written again");
                Some(Report::Up)
            }
            _ => None,
        }
    }
}

/// A batch to append, retried until it is durable.
#[derive(Debug)]
pub struct Commit {
    handover: Handover,
    /// The last record of the sealed segments before the first try.
    sealed_before: Option<u64>,
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
    pub fn new(handover: Handover) -> Self {
        Commit { handover, sealed_before: None, pause: RETRY_FIRST, is_reported_down: false }
    }

    fn try_once(&mut self, appender: &mut Appender) -> Attempt {
        self.attempt(appender).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Tries once. The error [`AppendError::Fenced`] means that another hub owns the journal: it must not be written
    /// any more.
    pub fn attempt(&mut self, appender: &mut Appender) -> Result<Attempt, AppendError> {
        let Handover { batch, first_seq, hash_before } = &mut self.handover;
        let sealed_before = *self.sealed_before.get_or_insert_with(|| appender.sealed_through());
        match appender.append(*first_seq, batch, *hash_before) {
            Ok(up_to) => {
                let sealed = appender.sealed_through();
                Ok(Attempt::Done { up_to, sealed_through: (sealed != sealed_before).then_some(sealed) })
            }
            Err(error @ AppendError::Fenced { .. }) => Err(error),
            Err(error) => Ok(self.postpone(&error)),
        }
    }

    /// The next try is after a pause.
    fn postpone(&mut self, error: &AppendError) -> Attempt {
        let pause = self.pause;
        self.pause = (pause * 2).min(RETRY_LONGEST);
        let is_first = !mem::replace(&mut self.is_reported_down, true);
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
