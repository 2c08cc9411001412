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
mod tests {
    use super::super::{ChainCheck, page, verify};
    use super::*;
    use std::fs;

    fn settings(folder: &tempfile::TempDir) -> Settings {
        Settings { path: folder.path().join("logs/audit.jsonl"), bytes_max: 2_000, kept: 100 }
    }

    fn tear(path: &PathBuf, bytes: u64) {
        let file = fs::OpenOptions::new().write(true).open(path).unwrap();
        file.set_len(file.metadata().unwrap().len() - bytes).unwrap();
    }

    fn event(n: u64) -> Event {
        let details = format!(r#"{{"n":{n}}}"#).into_bytes();
        let ts = Timestamp::from_millis(n);
        Event { ts, calendar: Calendar::UNSET, event: "AUTH_FAILURE", details, is_count: false }
    }

    fn record(settings: &Settings, events: std::ops::Range<u64>) {
        let mut audit = Audit::start(settings, None, WriteWatch::default()).unwrap();
        events.for_each(|n| audit.record(event(n)));
    }

    fn writer(settings: &Settings) -> Writer {
        Writer::open(Arc::new(RealDisk), settings, None).unwrap()
    }

    fn files(path: &std::path::Path) -> Vec<String> {
        let text = |part: crate::rotated::Part| io::read_to_string(part.open().unwrap().unwrap()).unwrap();
        crate::rotated::newest_first(&RealDisk, path).unwrap().into_iter().map(text).collect()
    }

    #[test]
    fn the_chain_continues_across_rotations_and_restarts() {
        let folder = tempfile::tempdir().unwrap();
        let settings = settings(&folder);
        record(&settings, 0..50);
        record(&settings, 50..80);
        let report = verify(&RealDisk, &settings.path).unwrap();
        assert_eq!((report.lines, report.first_seq, report.last_seq), (80, 1, 80));
        assert!(crate::rotated::newest_first(&RealDisk, &settings.path).unwrap().len() > 3);
        let text = fs::read_to_string(&settings.path).unwrap();
        let line: serde_json::Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
        assert_eq!((&line["event"], &line["details"]["n"]), (&"AUTH_FAILURE".into(), &79.into()));
        assert_eq!(line["ts"], "1970-01-01T00:00:00.079Z");
    }

    #[test]
    fn without_its_thread_the_log_is_written_on_flush() {
        let folder = tempfile::tempdir().unwrap();
        let settings = settings(&folder);
        let mut writer = writer(&settings);
        (0..3).for_each(|n| writer.take(event(n)));
        assert_eq!(fs::read_to_string(&settings.path).unwrap(), "");
        writer.advance(Timestamp::from_millis(1_000));
        writer.flush();
        assert_eq!(verify(&RealDisk, &settings.path).unwrap().lines, 3);
        writer.take(event(2_000));
        assert_eq!(writer.finish(), 0);
        assert_eq!(verify(&RealDisk, &settings.path).unwrap().lines, 4);
    }

    #[test]
    fn a_changed_or_missing_line_is_detected() {
        let folder = tempfile::tempdir().unwrap();
        let settings = Settings { bytes_max: 1 << 20, ..settings(&folder) };
        record(&settings, 0..5);
        let text = fs::read_to_string(&settings.path).unwrap();
        let without_third: Vec<_> = text.lines().enumerate().filter(|(at, _)| *at != 2).map(|(_, line)| line).collect();
        for changed in [text.replace(r#""n":2"#, r#""n":7"#), without_third.join("\n") + "\n"] {
            fs::write(&settings.path, changed).unwrap();
            assert!(verify(&RealDisk, &settings.path).is_err());
        }
    }

    #[test]
    fn a_log_that_is_rotated_and_shortened_while_it_is_read_is_one_chain() {
        let folder = tempfile::tempdir().unwrap();
        let settings = Settings { bytes_max: 500, kept: 3, ..settings(&folder) };
        record(&settings, 0..1);
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| {
                let mut writer = writer(&settings);
                for n in 1..2_000 {
                    writer.pending.push_back(event(n));
                    writer.flush();
                }
            });
            while !writer.is_finished() {
                if let Err(error) = verify(&RealDisk, &settings.path) {
                    panic!("{error}");
                }
            }
        });
        assert_eq!(verify(&RealDisk, &settings.path).unwrap().last_seq, 2_000);
    }

    #[test]
    fn a_torn_line_is_reported_and_the_chain_covers_it() {
        let folder = tempfile::tempdir().unwrap();
        for bytes_max in [1 << 20, 700] {
            for whole in [0, 3] {
                let settings =
                    Settings { bytes_max, path: folder.path().join(format!("{bytes_max}-{whole}")), kept: 9 };
                record(&settings, 0..whole + 1);
                tear(&settings.path, 20);
                let report = verify(&RealDisk, &settings.path).unwrap();
                assert_eq!((report.lines, report.is_tail_torn), (whole, true));
                record(&settings, 4..6);
                let report = verify(&RealDisk, &settings.path).unwrap();
                assert_eq!((report.lines, report.torn, report.is_tail_torn), (whole + 3, 1, false));
                let lines = page(&RealDisk, &settings.path, None, 3).unwrap();
                assert!(lines[0].contains(r#""event":"AUDIT_LINE_TORN""#), "{}", lines[0]);
                assert!(lines[2].contains(r#""n":5"#));
            }
        }
    }

    #[test]
    fn a_line_that_reports_a_torn_one_may_be_torn_as_well() {
        let folder = tempfile::tempdir().unwrap();
        for (name, again) in [("end", "\n"), ("part", "\n{\"ts\":\"2026"), ("zeros", "\0\0"), ("blank", "\n\n")] {
            let settings = Settings { bytes_max: 700, path: folder.path().join(name), kept: 9 };
            record(&settings, 0..4);
            tear(&settings.path, 20);
            let torn = fs::read_to_string(&settings.path).unwrap() + again;
            fs::write(&settings.path, torn).unwrap();
            let report = verify(&RealDisk, &settings.path).unwrap();
            assert_eq!((report.lines, report.is_tail_torn), (3, true), "{name}");
            record(&settings, 4..6);
            let report = verify(&RealDisk, &settings.path).unwrap();
            assert_eq!((report.lines, report.torn, report.is_tail_torn), (6, 1, false), "{name}");
            let changed = |part: crate::rotated::Part| {
                let text = fs::read_to_string(&part.path).unwrap();
                fs::write(&part.path, text.replacen(r#""n":3"#, r#""n":7"#, 1)).unwrap();
            };
            crate::rotated::newest_first(&RealDisk, &settings.path).unwrap().into_iter().for_each(changed);
            assert!(verify(&RealDisk, &settings.path).is_err(), "{name}: what is torn is in the chain too");
        }
    }

    #[test]
    fn a_page_is_checked_across_a_torn_line_that_it_leaves_out() {
        let folder = tempfile::tempdir().unwrap();
        let settings = settings(&folder);
        record(&settings, 0..4);
        tear(&settings.path, 20);
        record(&settings, 4..7);
        let check = |lines: &[String]| {
            let mut check = ChainCheck::of_page();
            lines.iter().try_for_each(|line| check.line(line.as_bytes())).map(|()| check.report().lines)
        };
        let lines = page(&RealDisk, &settings.path, None, 100).unwrap();
        for start in 0..lines.len() {
            assert_eq!(check(&lines[start..]), Ok((lines.len() - start) as u64));
        }
        for at in 1..lines.len() - 1 {
            let (mut missing, mut changed, mut torn) = (lines.clone(), lines.clone(), lines.clone());
            missing.remove(at);
            changed[at] = changed[at].replacen("1970", "1971", 1);
            torn[at].pop();
            assert!([missing, changed, torn].iter().all(|lines| check(lines).is_err()), "line {at}");
        }
    }

    #[test]
    fn a_line_that_only_lacks_its_end_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let settings = settings(&folder);
        record(&settings, 0..3);
        tear(&settings.path, 1);
        record(&settings, 3..4);
        let report = verify(&RealDisk, &settings.path).unwrap();
        assert_eq!((report.lines, report.torn), (4, 0));
    }

    #[test]
    fn a_torn_line_that_was_inserted_or_removed_is_detected() {
        let folder = tempfile::tempdir().unwrap();
        let settings = Settings { bytes_max: 1 << 20, ..settings(&folder) };
        record(&settings, 0..3);
        tear(&settings.path, 20);
        record(&settings, 3..4);
        let text = fs::read_to_string(&settings.path).unwrap();
        let lines: Vec<_> = text.lines().collect();
        let changed = [
            [lines[0], lines[1], lines[3], lines[4]].to_vec(),
            [lines[0], "", lines[1], lines[2], lines[3], lines[4]].to_vec(),
            [lines[0], lines[2], lines[3], lines[4]].to_vec(),
            [lines[0], lines[1], lines[2], lines[4]].to_vec(),
        ];
        for lines in changed {
            fs::write(&settings.path, lines.join("\n") + "\n").unwrap();
            assert!(
                matches!(verify(&RealDisk, &settings.path), Err(super::super::ChainError::Broken { .. })),
                "{lines:?}"
            );
        }
    }

    /// A renamed folder, in which no file can be rotated, takes the place of a full disk.
    #[test]
    fn events_are_kept_while_writes_fail() {
        let folder = tempfile::tempdir().unwrap();
        let settings = Settings { bytes_max: 1_000, ..settings(&folder) };
        let mut writer = writer(&settings);
        let (logs, away) = (folder.path().join("logs"), folder.path().join("away"));
        fs::rename(&logs, &away).unwrap();
        fs::write(&logs, "").unwrap();
        for n in 0..20 {
            writer.pending.push_back(event(n));
            if n % 3 == 0 {
                writer.flush();
            }
        }
        assert!(writer.is_failing && writer.pending.len() > 10);
        fs::remove_file(&logs).unwrap();
        fs::rename(&away, &logs).unwrap();
        writer.pending.push_back(event(20));
        writer.flush();
        assert!(!writer.is_failing && writer.pending.is_empty());
        assert_eq!(verify(&RealDisk, &settings.path).unwrap().lines, 21);
    }

    #[test]
    fn events_written_together_result_in_the_same_files_as_events_written_one_by_one() {
        let folder = tempfile::tempdir().unwrap();
        for (bytes_max, events) in [(100, 50), (1_000, 200), (3 * CHUNK_BYTES / 2, 1_500)] {
            let settings = ["together", "one-by-one"].map(|name| Settings {
                bytes_max,
                path: folder.path().join(format!("{name}-{bytes_max}")),
                kept: 9_999,
            });
            let [mut together, mut one_by_one] = settings.each_ref().map(writer);
            for n in 0..events {
                together.pending.push_back(event(n));
                one_by_one.pending.push_back(event(n));
                one_by_one.flush();
            }
            together.flush();
            assert!(files(&settings[0].path).len() > 2 && together.link == one_by_one.link);
            assert_eq!(files(&settings[0].path), files(&settings[1].path));
            assert_eq!(verify(&RealDisk, &settings[0].path).unwrap().lines, events);
        }
    }

    /// A write of only a part of the lines takes the place of a failed write whose part could not be truncated.
    #[test]
    fn lines_that_a_failed_write_left_in_the_file_are_not_written_again() {
        let folder = tempfile::tempdir().unwrap();
        let settings = Settings { bytes_max: 1 << 20, ..settings(&folder) };
        let mut all = writer(&settings);
        all.pending.extend((0..5).map(event));
        all.flush();
        let text = fs::read_to_string(&settings.path).unwrap();
        let second_end = text.match_indices('\n').nth(1).unwrap().0;
        for (left, torn) in
            [(0, 0), (40, 1), (second_end - 1, 1), (second_end, 0), (second_end + 1, 0), (second_end + 9, 1)]
        {
            fs::remove_file(&settings.path).unwrap();
            let mut writer = writer(&settings);
            writer.pending.extend((0..5).map(event));
            writer.lines = text.as_bytes().to_vec();
            writer.file.write(&text.as_bytes()[..left]).unwrap();
            let count = writer.keep_left(left);
            writer.pending.drain(..count);
            writer.file = RotatedFile::open(&settings.path, settings.bytes_max, settings.kept).unwrap();
            writer.flush();
            let report = verify(&RealDisk, &settings.path).unwrap();
            assert_eq!((report.lines, report.torn), (5 + torn, torn), "{left} bytes left");
        }
    }

    #[test]
    fn the_chain_begins_with_zeros() {
        let folder = tempfile::tempdir().unwrap();
        let settings = settings(&folder);
        record(&settings, 0..1);
        let text = fs::read_to_string(&settings.path).unwrap();
        assert!(text.contains(&format!(r#""seq":1,"prev":"{}""#, "0".repeat(64))), "{text}");
        fs::write(&settings.path, text.replace("0000\"}", "0001\"}")).unwrap();
        assert!(verify(&RealDisk, &settings.path).is_err());
    }
}
