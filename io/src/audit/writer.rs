//! The audit log's thread: takes events, writes lines. When the disk takes nothing it keeps them and says so; when too
//! many wait, the hub reads no more requests until they are written: an event is never dropped.

use super::chain::Link;
use super::coalescer::Coalescer;
use crate::rotated::RotatedFile;
use crate::service::Event;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use sheratan_core::time::Timestamp;
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
    /// Opens the log and goes on with its chain.
    pub fn start(settings: &Settings) -> io::Result<Self> {
        let mut file = RotatedFile::open(&settings.path, settings.bytes_max, Some(settings.kept))?;
        end_torn_line(settings, &mut file)?;
        let writer = Writer {
            link: Link::find(&settings.path)?,
            file,
            coalescer: Coalescer::default(),
            pending: Vec::new(),
            pending_events: 0,
            is_failing: false,
        };
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
    file: RotatedFile,
    link: Link,
    coalescer: Coalescer,
    /// Lines that are to be written.
    pending: Vec<u8>,
    pending_events: usize,
    is_failing: bool,
}

impl Writer {
    fn run(mut self, events: &Receiver<Event>) {
        let mut now = Timestamp::ZERO;
        loop {
            match self.next(events) {
                Ok(event) => {
                    now = now.max(event.ts);
                    self.take(event);
                    while self.pending_events < HELD_MAX
                        && let Ok(event) = events.try_recv()
                    {
                        now = now.max(event.ts);
                        self.take(event);
                    }
                }
                // The hub is quiet: its clock is not told, but passes.
                Err(RecvTimeoutError::Timeout) => {
                    now = now + sheratan_core::time::Millis::new(TICK.as_millis() as u64);
                }
                Err(RecvTimeoutError::Disconnected) => break,
            }
            let due = self.coalescer.take_due(now);
            due.into_iter().for_each(|event| self.line(&event));
            self.flush();
        }
        let held = self.coalescer.take_all(now);
        held.into_iter().for_each(|event| self.line(&event));
        self.flush();
    }

    /// The next event; none while the disk is so far behind that all hands are full.
    fn next(&self, events: &Receiver<Event>) -> Result<Event, RecvTimeoutError> {
        if self.pending_events >= HELD_MAX {
            std::thread::sleep(TICK);
            return Err(RecvTimeoutError::Timeout);
        }
        events.recv_timeout(TICK)
    }

    fn take(&mut self, event: Event) {
        if let Some(event) = self.coalescer.take(event) {
            self.line(&event);
        }
    }

    fn line(&mut self, event: &Event) {
        self.link.write(event, &mut self.pending);
        self.pending_events += 1;
    }

    /// Writes what waits. A part of it may be on the disk already after a failure; the rest follows it.
    fn flush(&mut self) {
        let mut start = 0;
        while start < self.pending.len() {
            // Line by line into the file, so that each rotates where it must; a line is the most that can be torn.
            let length = self.pending[start..].iter().position(|byte| *byte == b'\n').expect("each line ends") + 1;
            let before = self.file.bytes();
            match self.file.write(&self.pending[start..start + length]) {
                Ok(()) => {
                    start += length;
                    self.pending_events -= 1;
                }
                Err(error) => {
                    if !std::mem::replace(&mut self.is_failing, true) {
                        tracing::error!(%error, "the audit log cannot be written; its events are kept until it can");
                    }
                    let torn = self.file.bytes().saturating_sub(before) as usize;
                    self.pending.drain(..start + torn.min(length - 1));
                    return;
                }
            }
        }
        self.pending.clear();
        if std::mem::take(&mut self.is_failing) {
            tracing::info!("the audit log is written again");
        }
    }
}

/// Ends a line that a power cut tore, so that the next one starts a line of its own.
fn end_torn_line(settings: &Settings, file: &mut RotatedFile) -> io::Result<()> {
    use std::io::{Read, Seek, SeekFrom};
    if file.bytes() == 0 {
        return Ok(());
    }
    let mut reader = std::fs::File::open(&settings.path)?;
    reader.seek(SeekFrom::End(-1))?;
    let mut last = [0];
    reader.read_exact(&mut last)?;
    if last != *b"\n" {
        tracing::warn!(path = %settings.path.display(), "the last line of the audit log is torn");
        file.write(b"\n")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::{page, verify};
    use super::*;
    use std::fs;

    fn settings(folder: &tempfile::TempDir) -> Settings {
        Settings { path: folder.path().join("logs/audit.jsonl"), bytes_max: 2_000, kept: 100 }
    }

    fn record(settings: &Settings, events: std::ops::Range<u64>) {
        let audit = Audit::start(settings).unwrap();
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
        assert!(crate::rotated::rotated_paths(&settings.path).len() > 3);
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
    fn a_torn_line_is_ended_and_the_log_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let settings = Settings { bytes_max: 1 << 20, ..settings(&folder) };
        record(&settings, 0..3);
        let text = fs::read_to_string(&settings.path).unwrap();
        fs::write(&settings.path, &text[..text.len() - 20]).unwrap();
        record(&settings, 3..5);
        let lines = page(&settings.path, 0, 10).unwrap();
        assert_eq!(lines.len(), 4, "two from before, two after");
        assert!(lines[3].contains(r#""seq":4"#));
    }

    #[test]
    fn a_page_begins_after_a_number_or_ends_with_the_latest() {
        let folder = tempfile::tempdir().unwrap();
        let settings = settings(&folder);
        record(&settings, 0..40);
        let seqs = |after, limit| -> Vec<u64> {
            let lines = page(&settings.path, after, limit).unwrap();
            let seq = |line: &String| serde_json::from_str::<serde_json::Value>(line).unwrap()["seq"].as_u64().unwrap();
            lines.iter().map(seq).collect()
        };
        assert_eq!(seqs(0, 3), [38, 39, 40]);
        assert_eq!(seqs(5, 3), [6, 7, 8]);
        assert_eq!(seqs(39, 3), [40]);
        assert_eq!(seqs(40, 3), [0; 0]);
    }
}
