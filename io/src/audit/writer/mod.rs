//! The audit log's thread: receives events, writes lines. When a write fails, it keeps the events and logs the failure;
//! when too many wait, the hub refuses what would add to them until they are written: an event is never dropped.
//!
//! Events that are queued together are written together, a chunk of lines by one write. No line is delayed for that:
//! when the channel is empty, everything is written.

use super::Event;
use super::Link;
use super::chain::torn_tail;
use super::coalescer::Coalescer;
use super::feed::Tap;
use super::rules;
use crate::disk::{Disk, RealDisk};
use crate::rotated::RotatedFile;
use crate::stall::WriteWatch;
use crate::thread::{self, END_MAX, Thread};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TrySendError, bounded};
use sheratan_core::{Calendar, Millis, Timestamp};
use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Events that may wait for the thread.
const EVENTS_MAX: usize = 16_384;

/// With less room in the channel, requests that would only leave an event are refused.
const ROOM_MIN: usize = 4_096;

/// Events that wait in the loop when the channel is full, before requests that may leave one are refused. What time
/// alone brings about comes on top: it is bounded by the jobs and nodes that there are.
const BACKLOG_MAX: usize = 65_536;

/// Events that may wait for the disk in the thread: they take about 300 bytes each.
const HELD_MAX: usize = 65_536;

/// Bytes of one write: some 200 lines, whose hashes cost far more than the system call.
const CHUNK_BYTES: u64 = 64 << 10;

/// How long the thread waits for events before it checks its windows and retries a failed write.
const TICK: Duration = Duration::from_millis(500);

/// The audit log's path, and the size and number of its files.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The newest file.
    pub path: PathBuf,
    /// Bytes of one file.
    pub bytes_max: u64,
    /// Older files that are kept.
    pub kept: u32,
}

/// The hub's handle to the audit log's thread.
#[derive(Debug)]
pub struct Audit {
    events: Option<Sender<Event>>,
    /// Events that did not fit into the channel.
    backlog: VecDeque<Event>,
    thread: Option<Thread<()>>,
}

/// Whether there is room for more events.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Debug)]
pub enum Room {
    /// For all.
    #[default]
    Free,
    /// For those of requests that do something, not for those of requests that are refused.
    Scarce,
    /// For what time alone brings about.
    None,
}

impl Audit {
    /// Opens the log, continues its chain and starts the thread. `tap` gets the lines that were written.
    pub fn start(settings: &Settings, tap: Option<Tap>, watch: WriteWatch) -> io::Result<Self> {
        let mut writer = Writer::open(Arc::new(RealDisk), settings, tap)?;
        writer.watch = watch;
        let (sender, receiver) = bounded(EVENTS_MAX);
        let thread = thread::spawn("audit", move || writer.run(&receiver))?;
        Ok(Audit { events: Some(sender), backlog: VecDeque::new(), thread: Some(thread) })
    }

    /// Sends an event to the thread; never blocks.
    pub fn record(&mut self, event: Event) {
        self.backlog.push_back(event);
        self.send_backlog();
    }

    /// Sends as many events as fit to the thread.
    pub fn send_backlog(&mut self) {
        let events = self.events.as_ref().expect("it is open until it is dropped");
        while let Some(event) = self.backlog.pop_front() {
            match events.try_send(event) {
                Ok(()) => {}
                Err(TrySendError::Full(event)) => return self.backlog.push_front(event),
                Err(TrySendError::Disconnected(_)) => {
                    tracing::error!("the audit log's thread has ended: an event is lost");
                }
            }
        }
    }

    /// Whether events wait in the loop.
    pub fn has_backlog(&self) -> bool {
        !self.backlog.is_empty()
    }

    /// Whether there is room for more events.
    pub fn room(&self) -> Room {
        let free = self.events.as_ref().map_or(0, |events| EVENTS_MAX - events.len());
        match (free >= ROOM_MIN, self.backlog.len() < BACKLOG_MAX) {
            (true, _) => Room::Free,
            (false, true) => Room::Scarce,
            (false, false) => Room::None,
        }
    }
}

impl Drop for Audit {
    /// Waits until everything is written, for a limited time.
    fn drop(&mut self) {
        let until = Instant::now() + END_MAX;
        if let Some(events) = self.events.take() {
            for event in self.backlog.drain(..) {
                if events.send_deadline(event, until).is_err() {
                    break;
                }
            }
        }
        self.thread.take().map(|thread| thread.join(until.saturating_duration_since(Instant::now())));
    }
}

/// The audit log without its thread: [`take`](Writer::take) events, [`advance`](Writer::advance) the time,
/// [`flush`](Writer::flush); at the end [`finish`](Writer::finish).
#[derive(Debug)]
pub struct Writer {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    file: RotatedFile,
    link: Link,
    coalescer: Coalescer,
    /// The latest known instant, and what the calendar showed at the latest event.
    now: Timestamp,
    calendar: Calendar,
    /// Events to be written.
    pending: VecDeque<Event>,
    /// Lines under construction.
    lines: Vec<u8>,
    is_failing: bool,
    /// Whether torn bytes may follow the last line: the next line must report them, in the same file.
    is_tail_unreported: bool,
    tap: Option<Tap>,
    watch: WriteWatch,
}

impl Writer {
    /// Opens the log and continues its chain. `tap` gets the lines that were written.
    pub fn open(disk: Arc<dyn Disk>, settings: &Settings, tap: Option<Tap>) -> io::Result<Self> {
        let path = settings.path.clone();
        let file = RotatedFile::open_on(disk.clone(), &path, settings.bytes_max, settings.kept)?.synced_when_full();
        let link = rules::resumed_link(Link::find(&*disk, &path)?);
        let (coalescer, pending, lines) = (Coalescer::default(), VecDeque::new(), Vec::new());
        let (now, calendar) = (Timestamp::ZERO, Calendar::UNSET);
        let is_tail_unreported = rules::must_report_torn(torn_tail(&*disk, &path)?.as_deref());
        let is_failing = false;
        let watch = WriteWatch::default();
        Ok(Writer {
            disk,
            path,
            file,
            link,
            coalescer,
            now,
            calendar,
            pending,
            lines,
            is_failing,
            is_tail_unreported,
            tap,
            watch,
        })
    }

    /// Adds an event; it is written by the next [`flush`](Writer::flush), or counted with those that it repeats.
    pub fn take(&mut self, event: Event) {
        self.now = self.now.max(event.ts);
        self.calendar = event.calendar;
        self.coalescer.add(event, &mut self.pending);
    }

    /// Sets the time; summaries of windows that are over become pending.
    pub fn advance(&mut self, now: Timestamp) {
        self.now = self.now.max(now);
        self.coalescer.drain_due((self.now, self.calendar), &mut self.pending);
    }

    /// Writes everything that is left, summaries of open windows included. Returns how many events could not be
    /// written.
    pub fn finish(mut self) -> usize {
        self.coalescer.drain_all((self.now, self.calendar), &mut self.pending);
        self.flush();
        self.pending.len()
    }

    fn run(mut self, events: &Receiver<Event>) {
        loop {
            let mut now = self.now;
            match self.next(events) {
                Ok(event) => {
                    self.take(event);
                    // At most as many as fit into the channel, so that a constant flood does not delay the write.
                    for event in events.try_iter().take(EVENTS_MAX.min(self.room())) {
                        self.take(event);
                    }
                }
                // No event carries the time, but it passes.
                Err(RecvTimeoutError::Timeout) => now = now + Millis::new(TICK.as_millis() as u64),
                Err(RecvTimeoutError::Disconnected) => break,
            }
            self.advance(now);
            self.flush();
        }
        let lost = self.finish();
        if lost > 0 {
            tracing::error!(events = lost, "the audit log could not be written at the end: events are lost");
        }
    }

    /// The next event; none while too many wait for the disk.
    fn next(&self, events: &Receiver<Event>) -> Result<Event, RecvTimeoutError> {
        if self.room() == 0 {
            std::thread::sleep(TICK);
            return Err(RecvTimeoutError::Timeout);
        }
        events.recv_timeout(TICK)
    }

    /// Events that may be added before some are written; each adds at most two pending ones.
    fn room(&self) -> usize {
        HELD_MAX.saturating_sub(self.pending.len()) / 2
    }

    /// Writes the pending events, until a write fails.
    pub fn flush(&mut self) {
        while !self.pending.is_empty() {
            let watch = self.watch.clone();
            if let Err(error) = watch.watch(|| self.write_chunk()) {
                if !std::mem::replace(&mut self.is_failing, true) {
                    tracing::error!(%error, "the audit log cannot be written; its events are kept until it can");
                }
                return;
            }
        }
        if std::mem::take(&mut self.is_failing) {
            tracing::info!("the audit log is written again");
        }
    }

    /// Writes the lines of the first pending events: as many as fit into a chunk and into the newest file, at least
    /// one. If torn bytes precede them, a line that reports these is written first.
    fn write_chunk(&mut self) -> io::Result<()> {
        if self.is_tail_unreported {
            self.report_torn_tail()?;
        }
        let (mut link, mut count) = (self.link.clone(), 0);
        let lines_max = self.file.room().min(CHUNK_BYTES) as usize;
        self.lines.clear();
        for event in &self.pending {
            let start = self.lines.len();
            let next = link.write(event, &mut self.lines);
            if start > 0 && self.lines.len() > lines_max {
                self.lines.truncate(start);
                break;
            }
            (link, count) = (next, count + 1);
        }
        match self.file.write(&self.lines) {
            Ok(()) => {
                self.link = link;
                self.pending.drain(..count);
                self.feed_written(self.lines.len());
                Ok(())
            }
            Err(failed) => {
                let count = self.keep_left(failed.left);
                self.pending.drain(..count);
                Err(failed.error)
            }
        }
    }

    /// Passes the first `bytes` of the lines, which are in the file now, to the feed.
    fn feed_written(&self, bytes: usize) {
        if let Some(tap) = &self.tap
            && bytes > 0
        {
            tap.written(&self.lines[..bytes]);
        }
    }

    fn report_torn_tail(&mut self) -> io::Result<()> {
        let Some(event) = self.pending.front() else { return Ok(()) };
        if let Some(torn) = torn_tail(&*self.disk, &self.path)? {
            self.lines.clear();
            let mut link = self.link.clone();
            let event = link.pass(&torn, event);
            let next = link.write(&event, &mut self.lines);
            if let Err(failed) = self.file.write_here(&self.lines) {
                // If nothing of the line was written, the earlier torn bytes are still unreported.
                self.is_tail_unreported = self.keep_left(failed.left) == 0;
                return Err(failed.error);
            }
            self.link = next;
            self.feed_written(self.lines.len());
            tracing::warn!(path = %self.path.display(), "a line of the audit log is torn; the next one reports it");
        }
        self.is_tail_unreported = false;
        Ok(())
    }

    /// Keeps the lines that are whole in the file although their write failed, because `left` bytes could not be
    /// truncated. Returns how many lines.
    fn keep_left(&mut self, left: usize) -> usize {
        let (mut count, mut end) = (0, 0);
        for line in self.lines[..left].split(|byte| *byte == b'\n') {
            // The last line may lack only its line end, which the file knows.
            let Some(next) = Link::after(line) else {
                self.is_tail_unreported |= !line.is_empty();
                break;
            };
            (self.link, count, end) = (next, count + 1, end + line.len() + 1);
        }
        self.feed_written(end);
        count
    }
}

#[cfg(test)]
mod tests;
