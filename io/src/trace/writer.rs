//! The trace's thread: appends traced records to the newest file and removes the oldest files.

use super::Segment;
use super::counts::{Counts, Tally};
use super::format::Gap;
use super::format::{self, GAP_BYTES, HEADER_BYTES, Header, Place, What};
use super::pending::Pending;
use super::rules;
use crate::disk::{Disk, DiskFile, RealDisk};
use crate::journal::HubId;
use crate::thread::{self, END_MAX, Thread};
use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use sheratan_core::{Millis, Timestamp};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Rounds that may wait for the thread.
const ROUNDS_MAX: usize = 1_024;

/// Records of several rounds are sent together, so that a hub that refuses most of what it is asked does not wake the
/// thread for each: when there are so many bytes of them, or the first is so old.
const SEND_BYTES_MIN: usize = 64 << 10;
const SEND_AFTER: Millis = Millis::new(100);

/// Bytes that may wait for the thread: enough for a disk that is slow for a moment, a bound for a disk that hangs.
const WAITING_BYTES_MAX: usize = 16 << 20;

/// The ring's files: each removal drops a sixteenth of the history.
const FILES: u64 = 16;

/// Files kept at most, even if they are small: each start makes one.
const FILES_MAX: usize = 1_024;

/// The trace's folder and its largest size.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Settings {
    /// The folder.
    pub folder: PathBuf,
    /// Bytes of all files.
    pub bytes_max: u64,
}

/// The loop's handle to the trace's thread.
#[derive(Debug)]
pub struct Trace {
    sender: Option<Sender<Message>>,
    waiting_bytes: Arc<AtomicUsize>,
    /// Records that were not sent yet.
    held: Pending,
    /// Dropped records that no file records as a gap yet.
    gap: Option<Gap>,
    tally: Tally,
    thread: Option<Thread<()>>,
}

#[derive(Debug)]
enum Message {
    Pending(Pending),
    End(Place),
}

impl Trace {
    /// Starts the thread for a hub whose journal's last record is `after_seq`. The thread opens and writes the files: a
    /// failure is logged and does not stop the hub.
    pub fn start(settings: Settings, hub_id: HubId, after_seq: u64, now: Timestamp) -> io::Result<Self> {
        let (sender, messages) = bounded(ROUNDS_MAX);
        let waiting_bytes = Arc::new(AtomicUsize::new(0));
        let (tally, waiting) = (Tally::default(), waiting_bytes.clone());
        let of_thread = tally.clone();
        let run = move || {
            let begins = Place { after_seq, now };
            let writer = Writer::begin(Arc::new(RealDisk), settings, hub_id, begins, of_thread);
            writer.run(&messages, &waiting);
        };
        let thread = thread::spawn("trace", run)?;
        Ok(Trace {
            sender: Some(sender),
            waiting_bytes,
            held: Pending::default(),
            gap: None,
            tally,
            thread: Some(thread),
        })
    }

    /// Adds the records of a round. Call [`Trace::send_due`] at [`Trace::due_at`].
    pub fn record(&mut self, pending: Pending) {
        self.tally.dropped(pending.gap.map_or(0, |gap| gap.records));
        self.held.append(pending);
        if self.held.bytes.len() >= SEND_BYTES_MIN {
            self.send();
        }
    }

    /// When records have to be sent that were not.
    pub fn due_at(&self) -> Option<Timestamp> {
        self.held.span.map(|(first, _)| first.now + SEND_AFTER)
    }

    /// Sends the records that are due.
    pub fn send_due(&mut self, now: Timestamp) {
        if self.due_at().is_some_and(|at| at <= now) {
            self.send();
        }
    }

    /// Sends the records to the thread; never blocks.
    pub(super) fn send(&mut self) {
        let mut pending = std::mem::take(&mut self.held);
        if pending.is_empty() {
            return;
        }
        if let Some(gap) = self.gap.take() {
            pending.add_gap(gap);
        }
        let bytes = pending.bytes.len();
        if self.waiting_bytes.load(Ordering::Relaxed) + bytes > WAITING_BYTES_MAX {
            return self.drop_all(pending);
        }
        self.waiting_bytes.fetch_add(bytes, Ordering::Relaxed);
        let sender = self.sender.as_ref().expect("it is open until it is dropped");
        if let Err(TrySendError::Full(message) | TrySendError::Disconnected(message)) =
            sender.try_send(Message::Pending(pending))
        {
            self.waiting_bytes.fetch_sub(bytes, Ordering::Relaxed);
            if let Message::Pending(pending) = message {
                self.drop_all(pending);
            }
        }
    }

    fn drop_all(&mut self, pending: Pending) {
        self.tally.dropped(pending.records);
        self.gap = pending.into_gap();
    }

    /// The counts of written and dropped records.
    pub fn counts(&self) -> Counts {
        self.tally.get()
    }

    /// Bytes that the thread has yet to write.
    #[cfg(test)]
    pub(super) fn waiting_bytes(&self) -> usize {
        self.waiting_bytes.load(Ordering::Relaxed)
    }

    /// Writes the run's end record, with the journal's last record.
    pub fn end(mut self, after_seq: u64, now: Timestamp) {
        self.send();
        if let Some(gap) = self.gap.take() {
            let at = Place { after_seq, now };
            self.held = Pending { span: Some((at, at)), gap: Some(gap), ..Pending::default() };
            self.send();
        }
        let sender = self.sender.as_ref().expect("it is open until it is dropped");
        // If the channel is full, the file ends as after a crash: some of the last records may be missing.
        _ = sender.try_send(Message::End(Place { after_seq, now }));
    }
}

impl Drop for Trace {
    /// Waits until everything is written, for a limited time.
    fn drop(&mut self) {
        if self.sender.is_some() {
            self.send();
        }
        self.sender = None;
        self.thread.take().map(|thread| thread.join(END_MAX));
    }
}

/// The trace without its thread: [`take`](Writer::take) each round's records; at the end [`finish`](Writer::finish).
#[derive(Debug)]
pub struct Writer {
    disk: Arc<dyn Disk>,
    settings: Settings,
    file_bytes: u64,
    hub_id: HubId,
    /// The number of this run's first file.
    run_id: Option<u64>,
    run_begins: Place,
    /// The place of the last written record.
    last: Place,
    open: Option<Open>,
    /// Dropped records that no file records as a gap yet.
    gap: Option<Gap>,
    is_failing: bool,
    tally: Tally,
}

#[derive(Debug)]
struct Open {
    file: Box<dyn DiskFile>,
    bytes: u64,
}

impl Writer {
    /// Begins the trace of a run, as [`Trace::start`] does. After a failure, each write tries again.
    pub fn open(disk: Arc<dyn Disk>, settings: Settings, hub_id: HubId, after_seq: u64, now: Timestamp) -> Self {
        Writer::begin(disk, settings, hub_id, Place { after_seq, now }, Tally::default())
    }

    fn begin(disk: Arc<dyn Disk>, settings: Settings, hub_id: HubId, begins: Place, tally: Tally) -> Self {
        let mut writer = Writer {
            disk,
            // Room for the record of a gap, however small the ring is.
            file_bytes: (settings.bytes_max / FILES).max((HEADER_BYTES + GAP_BYTES) as u64),
            settings,
            hub_id,
            run_id: None,
            run_begins: begins,
            last: begins,
            open: None,
            gap: None,
            is_failing: false,
            tally,
        };
        // A file without records shows a reader that nothing was refused; a missing file would not.
        let opened = writer.open_next();
        writer.report(opened.err());
        writer
    }

    fn run(mut self, messages: &Receiver<Message>, waiting_bytes: &AtomicUsize) {
        for message in messages {
            match message {
                Message::Pending(pending) => {
                    let bytes = pending.bytes.len();
                    self.take(pending);
                    waiting_bytes.fetch_sub(bytes, Ordering::Relaxed);
                }
                Message::End(at) => self.write(Pending::default(), Some(at)),
            }
        }
    }

    /// Writes the records of a round.
    pub fn take(&mut self, pending: Pending) {
        self.write(pending, None);
    }

    /// The number of this run's first file, which holds where the run begins; `None` while there is no such file.
    pub fn run_id(&self) -> Option<u64> {
        self.run_id
    }

    /// Dropped records that no file records as a gap yet.
    pub fn gap(&self) -> Option<Gap> {
        self.gap
    }

    /// Writes the run's end record, with the journal's last record. Returns the [`run_id`](Writer::run_id).
    pub fn finish(mut self, after_seq: u64, now: Timestamp) -> Option<u64> {
        self.write(Pending::default(), Some(Place { after_seq, now }));
        self.run_id
    }

    fn write(&mut self, mut pending: Pending, end: Option<Place>) {
        if let Some(gap) = self.gap.take() {
            pending.add_gap(gap);
        }
        let mut bytes = std::mem::take(&mut pending.bytes);
        if let Some(gap) = pending.gap {
            let mut gap_bytes = Vec::with_capacity(GAP_BYTES);
            let after_seq = pending.span.map_or(self.last.after_seq, |(first, _)| first.after_seq);
            format::put_gap(&mut gap_bytes, after_seq, &gap);
            bytes = rules::after_gap(gap_bytes, bytes);
        }
        if let Some(at) = end {
            format::put_end(&mut bytes, at);
        }
        format::seal(&mut bytes);
        let mut rest = bytes.as_slice();
        let result = self.append(&mut rest);
        if result.is_err() {
            self.undo_write();
            self.add_to_gap(rest);
        }
        self.report(result.err());
    }

    /// Adds records that were not written to the gap.
    fn add_to_gap(&mut self, records: &[u8]) {
        let mut rest = records;
        while let Some((record, len)) = format::decode(rest) {
            rest = &rest[len..];
            let gap = match record.what {
                What::Command(_) => {
                    self.tally.dropped(1);
                    Gap { from: record.at.now, to: record.at.now, records: 1 }
                }
                What::Gap(gap) => gap,
                What::End => continue,
            };
            self.gap = Some(self.gap.map_or(gap, |known| known.and(gap)));
        }
    }

    /// Truncates what a failed write left. If that fails too, the next write begins a new file.
    fn undo_write(&mut self) {
        let Some(open) = &mut self.open else { return };
        let result = open.file.set_len(open.bytes).and_then(|()| open.file.seek_to(open.bytes));
        if result.is_err() {
            self.open = None;
        }
    }

    /// Logs the first of several failures, and the recovery.
    fn report(&mut self, failure: Option<io::Error>) {
        let was_failing = std::mem::replace(&mut self.is_failing, failure.is_some());
        match failure {
            Some(error) if !was_failing => {
                tracing::warn!(%error, "the trace cannot be written: commands that are refused meanwhile are missing in it");
            }
            None if was_failing => tracing::info!("the trace is written again"),
            _ => {}
        }
    }

    /// Appends records to the newest file, and to further files as needed; a record that fits no file is added to the
    /// gap. `records` is left with the records that were not handled.
    fn append(&mut self, records: &mut &[u8]) -> io::Result<()> {
        while let Some(first) = format::first_record(records) {
            let room = self.open.as_ref().map_or(0, |open| self.file_bytes.saturating_sub(open.bytes));
            let (mut chunk, mut count) = (0, 0);
            let mut last = self.last;
            while let Some(record) = format::first_record(&records[chunk..])
                && (chunk + record.len()) as u64 <= room
            {
                (chunk, count) = (chunk + record.len(), count + 1);
                last = last.max(format::place_of(record));
            }
            if chunk > 0 {
                let open = self.open.as_mut().expect("there is room in it");
                open.file.write_all(&records[..chunk])?;
                open.bytes += chunk as u64;
                self.tally.written(count, chunk as u64);
                self.last = last;
                *records = &records[chunk..];
            } else if (HEADER_BYTES + first.len()) as u64 > self.file_bytes {
                self.add_to_gap(first);
                *records = &records[first.len()..];
            } else {
                self.open_next()?;
            }
        }
        Ok(())
    }

    /// Begins the next file, and removes the oldest ones.
    fn open_next(&mut self) -> io::Result<()> {
        self.disk.create_folder(&self.settings.folder)?;
        let segments = Segment::list(&*self.disk, &self.settings.folder)?;
        let number = segments.last().map_or(1, |segment| segment.number + 1);
        let run_id = self.run_id.unwrap_or(number);
        self.remove_oldest(&segments)?;
        let path = Segment::new(&self.settings.folder, number).path;
        let mut file = self.disk.create(&path)?;
        let (hub_id, run_begins, begins) = (self.hub_id, self.run_begins, self.last);
        let header = Header { hub_id, run_id, run_begins, begins }.encode();
        let written = file.write_all(&header).and_then(|()| match self.run_id {
            // Where this run begins shows which records of an earlier run lie beyond the journal's surviving records.
            None => file.sync().and_then(|()| self.disk.sync_folder(&self.settings.folder)),
            Some(_) => Ok(()),
        });
        if let Err(error) = written {
            // A full disk must not fill the folder with empty files that count as history.
            _ = self.disk.remove(&path);
            return Err(error);
        }
        self.run_id = Some(run_id);
        self.open = Some(Open { file, bytes: HEADER_BYTES as u64 });
        Ok(())
    }

    fn remove_oldest(&self, segments: &[Segment]) -> io::Result<()> {
        let sizes = segments.iter().map(|segment| self.disk.len(&segment.path));
        let sizes = sizes.collect::<io::Result<Vec<_>>>()?;
        let mut bytes: u64 = sizes.iter().sum();
        for (at, (segment, size)) in segments.iter().zip(sizes).enumerate() {
            if bytes + self.file_bytes <= self.settings.bytes_max && segments.len() - at < FILES_MAX {
                return Ok(());
            }
            self.disk.remove(&segment.path)?;
            bytes -= size;
        }
        Ok(())
    }
}
