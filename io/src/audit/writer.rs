//! The audit log's thread: takes events, writes lines. When the disk takes nothing it keeps them and says so; when too
//! many wait, the hub reads no more requests until they are written: an event is never dropped.

use super::chain::Link;
use super::coalescer::Coalescer;
use super::feed::Tap;
use crate::rotated::RotatedFile;
use crate::service::Event;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use sheratan_core::time::{Millis, Timestamp};
use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::thread::JoinHandle;
use std::time::Duration;

/// Events that may wait for the thread; a full channel stops the loop's reading.
const EVENTS_MAX: usize = 16_384;

/// Below this much room the loop stops reading: one round of requests must still fit.
const ROOM_MIN: usize = 4_096;

/// Events that may wait for the disk in the thread's own hands: they take about 300 bytes each.
const HELD_MAX: usize = 65_536;

/// How long the thread waits for events before it looks at its windows, and at a disk that took nothing.
const TICK: Duration = Duration::from_millis(500);

/// Where the audit log lies, and how large its files become.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The newest file.
    pub path: PathBuf,
    /// Bytes of one file.
    pub bytes_max: u64,
    /// Older files that are kept.
    pub kept: u32,
}

/// The hub's end of the audit log.
#[derive(Debug)]
pub struct Audit {
    events: Option<Sender<Event>>,
    thread: Option<JoinHandle<()>>,
}

impl Audit {
    /// Opens the log and goes on with its chain. `tap` is told what was written.
    pub fn start(settings: &Settings, tap: Option<Tap>) -> io::Result<Self> {
        let file = RotatedFile::open(&settings.path, settings.bytes_max, settings.kept)?;
        let link = Link::find(&settings.path)?;
        let writer = Writer { tap, ..Writer::new(settings.path.clone(), file, link) };
        let (sender, receiver) = bounded(EVENTS_MAX);
        let thread = std::thread::Builder::new().name("audit".into()).spawn(move || writer.run(&receiver))?;
        Ok(Audit { events: Some(sender), thread: Some(thread) })
    }

    /// Hands an event over. Waits only if [`Audit::is_full`] was not heeded for thousands of events.
    pub fn record(&self, event: Event) {
        let events = self.events.as_ref().expect("it is open until it is dropped");
        if events.send(event).is_err() {
            tracing::error!("the audit log's thread has ended: an event is lost");
        }
    }

    /// Whether the disk is so far behind that no more requests should be read.
    pub fn is_full(&self) -> bool {
        self.events.as_ref().is_some_and(|events| EVENTS_MAX - events.len() < ROOM_MIN)
    }
}

impl Drop for Audit {
    /// Waits until all is written.
    fn drop(&mut self) {
        self.events = None;
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the audit log's thread has panicked");
        }
    }
}

struct Writer {
    path: PathBuf,
    file: RotatedFile,
    link: Link,
    coalescer: Coalescer,
    /// Events that are to be written.
    pending: VecDeque<Event>,
    /// A line under construction.
    line: Vec<u8>,
    is_failing: bool,
    tap: Option<Tap>,
}

impl Writer {
    fn new(path: PathBuf, file: RotatedFile, link: Link) -> Self {
        let (coalescer, pending, line) = (Coalescer::default(), VecDeque::new(), Vec::new());
        Writer { path, file, link, coalescer, pending, line, is_failing: false, tap: None }
    }

    fn run(mut self, events: &Receiver<Event>) {
        let mut now = Timestamp::ZERO;
        loop {
            match self.next(events) {
                Ok(event) => {
                    now = now.max(event.ts);
                    self.coalescer.take(event, &mut self.pending);
                    while !self.is_laden()
                        && let Ok(event) = events.try_recv()
                    {
                        now = now.max(event.ts);
                        self.coalescer.take(event, &mut self.pending);
                    }
                }
                // The hub is quiet: its clock is not told, but passes.
                Err(RecvTimeoutError::Timeout) => now = now + Millis::new(TICK.as_millis() as u64),
                Err(RecvTimeoutError::Disconnected) => break,
            }
            self.coalescer.take_due(now, &mut self.pending);
            self.flush();
        }
        self.coalescer.take_all(now, &mut self.pending);
        self.flush();
        if !self.pending.is_empty() {
            tracing::error!(
                events = self.pending.len(),
                "the audit log could not be written at the end: events are lost"
            );
        }
    }

    /// The next event; none while the disk is so far behind that all hands are full.
    fn next(&self, events: &Receiver<Event>) -> Result<Event, RecvTimeoutError> {
        if self.is_laden() {
            std::thread::sleep(TICK);
            return Err(RecvTimeoutError::Timeout);
        }
        events.recv_timeout(TICK)
    }

    fn is_laden(&self) -> bool {
        self.pending.len() >= HELD_MAX
    }

    /// Writes what waits, until the disk takes no more.
    fn flush(&mut self) {
        while let Some(event) = self.pending.pop_front() {
            if let Err(error) = self.write(&event) {
                self.pending.push_front(event);
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

    /// Writes one event's line, after one about a torn line that is in the way.
    fn write(&mut self, event: &Event) -> io::Result<()> {
        if self.file.is_torn() {
            let mut link = self.link.clone();
            if let Some(torn) = link.pass_torn_line(event.ts, &self.path)? {
                self.write_line(&link, &torn)?;
                tracing::warn!(path = %self.path.display(), "a line of the audit log is torn; the next one says so");
            }
        }
        self.write_line(&self.link.clone(), event)
    }

    fn write_line(&mut self, link: &Link, event: &Event) -> io::Result<()> {
        self.line.clear();
        let next = link.write(event, &mut self.line);
        self.file.write(&self.line)?;
        self.link = next;
        if let Some(tap) = &self.tap {
            tap.written(&self.line);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::{page, verify};
    use super::*;
    use std::fs;

    fn settings(folder: &tempfile::TempDir) -> Settings {
        Settings { path: folder.path().join("logs/audit.jsonl"), bytes_max: 2_000, kept: 100 }
    }

    fn tear(path: &PathBuf, bytes: u64) {
        let file = fs::OpenOptions::new().write(true).open(path).unwrap();
        file.set_len(file.metadata().unwrap().len() - bytes).unwrap();
    }

    fn record(settings: &Settings, events: std::ops::Range<u64>) {
        let audit = Audit::start(settings, None).unwrap();
        for n in events {
            let details = format!(r#"{{"n":{n}}}"#).into_bytes();
            audit.record(Event { ts: Timestamp::from_millis(n), event: "AUTH_FAILURE", details });
        }
    }

    #[test]
    fn the_chain_goes_on_over_rotations_and_restarts() {
        let folder = tempfile::tempdir().unwrap();
        let settings = settings(&folder);
        record(&settings, 0..50);
        record(&settings, 50..80);
        let report = verify(&settings.path).unwrap();
        assert_eq!((report.lines, report.first_seq, report.last_seq), (80, 1, 80));
        assert!(crate::rotated::newest_first(&settings.path).unwrap().len() > 3);
        let text = fs::read_to_string(&settings.path).unwrap();
        let line: serde_json::Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
        assert_eq!((&line["event"], &line["details"]["n"]), (&"AUTH_FAILURE".into(), &79.into()));
        assert_eq!(line["ts"], "1970-01-01T00:00:00.079Z");
    }

    #[test]
    fn a_changed_or_missing_line_shows() {
        let folder = tempfile::tempdir().unwrap();
        let settings = Settings { bytes_max: 1 << 20, ..settings(&folder) };
        record(&settings, 0..5);
        let text = fs::read_to_string(&settings.path).unwrap();
        let without_third: Vec<_> = text.lines().enumerate().filter(|(at, _)| *at != 2).map(|(_, line)| line).collect();
        for changed in [text.replace(r#""n":2"#, r#""n":7"#), without_third.join("\n") + "\n"] {
            fs::write(&settings.path, changed).unwrap();
            assert!(verify(&settings.path).is_err());
        }
    }

    #[test]
    fn a_torn_line_is_told_and_the_chain_goes_over_it() {
        let folder = tempfile::tempdir().unwrap();
        for bytes_max in [1 << 20, 700] {
            for whole in [0, 3] {
                let settings =
                    Settings { bytes_max, path: folder.path().join(format!("{bytes_max}-{whole}")), kept: 9 };
                record(&settings, 0..whole + 1);
                tear(&settings.path, 20);
                let report = verify(&settings.path).unwrap();
                assert_eq!((report.lines, report.is_tail_torn), (whole, true));
                record(&settings, 4..6);
                let report = verify(&settings.path).unwrap();
                assert_eq!((report.lines, report.torn, report.is_tail_torn), (whole + 3, 1, false));
                let lines = page(&settings.path, None, 3).unwrap();
                assert!(lines[0].contains(r#""event":"AUDIT_LINE_TORN""#), "{}", lines[0]);
                assert!(lines[2].contains(r#""n":5"#));
            }
        }
    }

    #[test]
    fn a_line_that_only_lacks_its_end_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let settings = settings(&folder);
        record(&settings, 0..3);
        tear(&settings.path, 1);
        record(&settings, 3..4);
        let report = verify(&settings.path).unwrap();
        assert_eq!((report.lines, report.torn), (4, 0));
    }

    #[test]
    fn a_torn_line_that_was_put_in_or_taken_out_shows() {
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
            assert!(matches!(verify(&settings.path), Err(super::super::ChainError::Broken { .. })), "{lines:?}");
        }
    }

    /// For a disk that fills up and is given room again stands a folder that is away: nothing can be rotated in it.
    #[test]
    fn events_are_kept_while_the_disk_takes_none() {
        let folder = tempfile::tempdir().unwrap();
        let settings = Settings { bytes_max: 1_000, ..settings(&folder) };
        let file = RotatedFile::open(&settings.path, settings.bytes_max, settings.kept).unwrap();
        let mut writer = Writer::new(settings.path.clone(), file, Link::default());
        let (logs, away) = (folder.path().join("logs"), folder.path().join("away"));
        fs::rename(&logs, &away).unwrap();
        fs::write(&logs, "").unwrap();
        let add = |writer: &mut Writer, n: u64| {
            let details = format!(r#"{{"n":{n}}}"#).into_bytes();
            writer.pending.push_back(Event { ts: Timestamp::from_millis(n), event: "AUTH_FAILURE", details });
            writer.flush();
        };
        (0..20).for_each(|n| add(&mut writer, n));
        assert!(writer.is_failing && writer.pending.len() > 10);
        fs::remove_file(&logs).unwrap();
        fs::rename(&away, &logs).unwrap();
        add(&mut writer, 20);
        assert!(!writer.is_failing && writer.pending.is_empty());
        assert_eq!(verify(&settings.path).unwrap().lines, 21);
    }

    #[test]
    fn the_chain_begins_with_zeros() {
        let folder = tempfile::tempdir().unwrap();
        let settings = settings(&folder);
        record(&settings, 0..1);
        let text = fs::read_to_string(&settings.path).unwrap();
        assert!(text.contains(&format!(r#""seq":1,"prev":"{}""#, "0".repeat(64))), "{text}");
        fs::write(&settings.path, text.replace("0000\"}", "0001\"}")).unwrap();
        assert!(verify(&settings.path).is_err());
    }
}
