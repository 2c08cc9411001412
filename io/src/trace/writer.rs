//! The trace's thread: takes what the loop traced and appends it to the newest file; the oldest ones make room.

use super::Segment;
use super::counts::{Counts, Tally};
use super::format::{self, GAP_BYTES, HEADER_BYTES, Header, Place, What};
use super::pending::{Gap, Pending};
use super::rules;
use crate::disk::{Disk, DiskFile, RealDisk};
use crate::journal::HubId;
use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use sheratan_core::time::Timestamp;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;

/// Rounds that may wait for the thread.
const ROUNDS_MAX: usize = 1_024;

/// Bytes that may wait for the thread: a disk that is slow for a moment loses nothing, one that hangs costs no more memory.
const WAITING_BYTES_MAX: usize = 16 << 20;

/// The ring's files: with each that goes a sixteenth of the history goes.
const FILES: u64 = 16;

/// Files kept, however small they are: each start makes one.
const FILES_MAX: usize = 1_024;

/// Where the trace lies, and how large it may become.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Settings {
    /// The folder.
    pub folder: PathBuf,
    /// Bytes of all files.
    pub bytes_max: u64,
}

/// The loop's end of the trace.
#[derive(Debug)]
pub struct Trace {
    sender: Option<Sender<Message>>,
    waiting_bytes: Arc<AtomicUsize>,
    /// What is in no file and no file says so yet.
    gap: Option<Gap>,
    tally: Tally,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
enum Message {
    Pending(Pending),
    End(Place),
}

impl Trace {
    /// Starts the thread for a hub whose journal's last record is `after_seq`. The files are the thread's own business: a
    /// trace that cannot be written is told in the log and stops nothing.
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
        let thread = std::thread::Builder::new().name("trace".into()).spawn(run)?;
        Ok(Trace { sender: Some(sender), waiting_bytes, gap: None, tally, thread: Some(thread) })
    }

    /// Hands over what a round traced; never waits.
    pub fn record(&mut self, mut pending: Pending) {
        self.tally.dropped(pending.gap.map_or(0, |gap| gap.records));
        if let Some(gap) = self.gap.take() {
            pending.miss(gap);
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

    /// What became of what was traced.
    pub fn counts(&self) -> Counts {
        self.tally.get()
    }

    /// Bytes that the thread has yet to write.
    #[cfg(test)]
    pub(super) fn waiting_bytes(&self) -> usize {
        self.waiting_bytes.load(Ordering::Relaxed)
    }

    /// The hub ends in good order, with that last record in its journal.
    pub fn end(mut self, after_seq: u64, now: Timestamp) {
        if self.gap.is_some() {
            self.record(Pending {
                span: Some((Place { after_seq, now }, Place { after_seq, now })),
                ..Pending::default()
            });
        }
        let sender = self.sender.as_ref().expect("it is open until it is dropped");
        // Where the thread has so much to do, the file ends as after a crash: some of the last records may be missing.
        _ = sender.try_send(Message::End(Place { after_seq, now }));
    }
}

impl Drop for Trace {
    /// Waits until all is written.
    fn drop(&mut self) {
        self.sender = None;
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the trace's thread has panicked");
        }
    }
}

/// The trace without its thread: [`take`](Writer::take) what was traced; at the end [`finish`](Writer::finish).
#[derive(Debug)]
pub struct Writer {
    disk: Arc<dyn Disk>,
    settings: Settings,
    file_bytes: u64,
    hub_id: HubId,
    /// The number of this life's first file.
    life: Option<u64>,
    life_begins: Place,
    /// Where what was traced ends.
    last: Place,
    open: Option<Open>,
    /// What is missing and no file says so yet.
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
    /// Begins the trace of a life, as [`Trace::start`] does. A disk that takes nothing is tried again with each write.
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
            life: None,
            life_begins: begins,
            last: begins,
            open: None,
            gap: None,
            is_failing: false,
            tally,
        };
        // A reader is to know that nothing was refused, and not only that nothing is there.
        let opened = writer.open_next();
        writer.tell(opened.err());
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

    /// Writes what a round traced.
    pub fn take(&mut self, pending: Pending) {
        self.write(pending, None);
    }

    /// The number of this life's first file, which says where it begins; none while there is no such file.
    pub fn life(&self) -> Option<u64> {
        self.life
    }

    /// What is missing and no file says so yet.
    pub fn gap(&self) -> Option<Gap> {
        self.gap
    }

    /// The hub ends in good order, with that last record in its journal. Gives the life, as [`life`](Writer::life) does.
    pub fn finish(mut self, after_seq: u64, now: Timestamp) -> Option<u64> {
        self.write(Pending::default(), Some(Place { after_seq, now }));
        self.life
    }

    fn write(&mut self, mut pending: Pending, end: Option<Place>) {
        if let Some(gap) = self.gap.take() {
            pending.miss(gap);
        }
        let mut bytes = std::mem::take(&mut pending.bytes);
        if let Some(gap) = pending.gap {
            let mut told = Vec::with_capacity(GAP_BYTES);
            let after_seq = pending.span.map_or(self.last.after_seq, |(first, _)| first.after_seq);
            format::put_gap(&mut told, after_seq, &gap);
            bytes = rules::after_gap(told, bytes);
        }
        if let Some(at) = end {
            format::put_end(&mut bytes, at);
        }
        format::seal(&mut bytes);
        let mut rest = bytes.as_slice();
        let result = self.append(&mut rest);
        if result.is_err() {
            self.take_back();
            self.miss(rest);
        }
        self.tell(result.err());
    }

    /// Notes that these records are in no file.
    fn miss(&mut self, records: &[u8]) {
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

    /// Takes out what a failed write left. Where even that fails the next write begins a new file.
    fn take_back(&mut self) {
        let Some(open) = &mut self.open else { return };
        let result = open.file.set_len(open.bytes).and_then(|()| open.file.seek_to(open.bytes));
        if result.is_err() {
            self.open = None;
        }
    }

    /// Tells of a failure once.
    fn tell(&mut self, failure: Option<io::Error>) {
        let was_failing = std::mem::replace(&mut self.is_failing, failure.is_some());
        match failure {
            Some(error) if !was_failing => {
                tracing::warn!(%error, "the trace cannot be written: what is refused meanwhile is missing in it");
            }
            None if was_failing => tracing::info!("the trace is written again"),
            _ => {}
        }
    }

    /// Appends records to the newest file, over as many as it takes; what no file has room for is missing. `records` are
    /// those that were not looked at yet.
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
                self.miss(first);
                *records = &records[first.len()..];
            } else {
                self.open_next()?;
            }
        }
        Ok(())
    }

    /// Begins the next file, and lets go of the oldest ones.
    fn open_next(&mut self) -> io::Result<()> {
        self.disk.create_folder(&self.settings.folder)?;
        let segments = Segment::list(&*self.disk, &self.settings.folder)?;
        let number = segments.last().map_or(1, |segment| segment.number + 1);
        let life = self.life.unwrap_or(number);
        self.make_room(&segments)?;
        let path = Segment::new(&self.settings.folder, number).path;
        let mut file = self.disk.create(&path)?;
        let (hub_id, life_begins, begins) = (self.hub_id, self.life_begins, self.last);
        let header = Header { hub_id, life, life_begins, begins }.encode();
        let written = file.write_all(&header).and_then(|()| match self.life {
            // What an earlier life traced beyond the journal that it left is known by where this one begins.
            None => file.sync().and_then(|()| self.disk.sync_folder(&self.settings.folder)),
            Some(_) => Ok(()),
        });
        if let Err(error) = written {
            // A full disk must not fill the folder with files that count as history.
            _ = self.disk.remove(&path);
            return Err(error);
        }
        self.life = Some(life);
        self.open = Some(Open { file, bytes: HEADER_BYTES as u64 });
        Ok(())
    }

    fn make_room(&self, segments: &[Segment]) -> io::Result<()> {
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
