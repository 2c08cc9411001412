//! Reading: returns records in order across segments, and classifies the end of the last one.
//!
//! A segment is read whole (64 MiB, one reused buffer), so records are returned as slices of it without a copy, and the
//! bytes after a bad record can be searched. Two rules decide which records count:
//! - Where two segments hold the same sequence numbers, the newer one's count: a batch whose write or sync failed was
//!   written again in a new segment, and its first copy may be torn or whole.
//! - A batch is written only when the one before it is durable. So if the last segment has a bad record and after it a
//!   record of a *later* batch with a valid checksum, the bad one had been acknowledged: the journal is damaged. If
//!   nothing or only records of the *same* batch follow, that batch was never acknowledged: its tail is torn, and is
//!   cut.

use super::build::Build;
use super::folder::{Folder, SegmentFile};
use super::format::{
    self, Entry, HEADER_BYTES, HEADER_USED, Header, HeaderError, Identity, RECORD_HEADER_BYTES, Seed, WrongVersion,
};
use super::tail::{Tail, TornTail};
use crate::bytes::u32_at;
use sheratan_core::Timestamp;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::{fmt, io};

/// Reads records in order: [`Reader::next`] until it returns `None`; then [`Reader::tail`] is how the journal ends.
#[derive(Debug)]
pub struct Reader {
    segments: Vec<SegmentFile>,
    /// The open segment, or the next one to open.
    at: usize,
    open: Option<Open>,
    buffer: Vec<u8>,
    /// What the disk does not give of the open segment.
    holes: Vec<Range<usize>>,
    /// What it does not give behind the records of all segments that were read.
    unreadable: Vec<Unreadable>,
    identity: Option<Identity>,
    epoch_last: u64,
    /// The first record to return.
    from: u64,
    /// The last record to return.
    to: u64,
    next_seq: u64,
    last_batch: Option<LastBatch>,
    tail: Option<Tail>,
}

/// An item of the journal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Item<'a> {
    /// A record.
    Record(Record<'a>),
    /// A place where the hub that wrote the journal recorded its outcome hash: a segment's start, or its seal.
    Mark(Mark),
}

/// A record as it was appended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Record<'a> {
    /// Its number.
    pub seq: u64,
    /// The instant it was applied at.
    pub now: Timestamp,
    /// Whether a batch starts with it.
    pub is_batch_start: bool,
    /// The encoded command.
    pub payload: &'a [u8],
}

/// The outcome hash after a record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mark {
    /// The record; 0 before the first.
    pub seq: u64,
    /// The hash of all outcomes up to it.
    pub outcome_hash: [u8; 16],
    /// The build that recorded it.
    pub written_by: Build,
}

/// A place in the journal without a valid record.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize)]
pub struct BadRecord {
    /// The segment.
    pub file: PathBuf,
    /// Where in it.
    pub offset: u64,
    /// The record that should be there.
    pub seq: u64,
    /// What is wrong.
    pub reason: Reason,
}

/// Bytes of a segment that the disk does not give, and that no record is in.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize)]
pub struct Unreadable {
    /// The segment.
    pub file: PathBuf,
    /// Where in it.
    pub offset: u64,
    /// How many.
    pub bytes: u64,
}

/// Why a record is bad.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The segment's header cannot be read.
    Header(String),
    /// The segment has another format version: it is not damaged, but only another build can read it.
    Version(u32),
    /// The segment contradicts its name or its neighbours.
    Foreign(&'static str),
    /// There is no whole record, but one of a later batch follows.
    Damaged {
        /// The later record.
        next_seq: u64,
        /// Where it is.
        next_offset: u64,
    },
    /// The disk does not give bytes that the record is in, or may be in.
    Unreadable {
        /// Where they begin.
        offset: u64,
        /// How many.
        bytes: u64,
    },
    /// There is no whole record, and the next segment begins with a later one.
    Hole {
        /// The next segment's first record.
        next_seq: u64,
    },
    /// No segment holds the record.
    Missing {
        /// The first record that there is; 0 if there is none.
        first_seq: u64,
    },
}

/// Why the journal cannot be read.
#[derive(Debug)]
pub enum ReadError {
    /// A record is bad before the journal's end.
    Bad(BadRecord),
    /// A file cannot be read.
    Io {
        /// The file.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
}

#[derive(Debug)]
struct Open {
    header: Header,
    seed: Seed,
    offset: usize,
}

/// The last batch that was read of the open segment.
#[derive(Clone, Copy, Debug)]
struct LastBatch {
    first_seq: u64,
    offset: usize,
}

/// Where a journal ends, from which the appender continues.
pub(crate) struct End {
    pub next_seq: u64,
    pub tail: Tail,
    /// The last segment, if any was read.
    pub segment: Option<(SegmentFile, Header)>,
    /// Whether the disk does not give a part of that segment.
    pub has_holes: bool,
    /// What the disk does not give, behind the records.
    pub unreadable: Vec<Unreadable>,
    pub offset: usize,
    /// The first record of the last batch of that segment (as far as it was returned), and its bytes up to `offset`.
    pub last_batch: Option<(u64, Vec<u8>)>,
}

enum Step {
    Record { seq: u64, now: Timestamp, index: u32, payload: Range<usize> },
    Mark(Mark),
    End,
}

impl Reader {
    /// A reader of the records `from..=to` of a folder.
    pub(crate) fn new(folder: &Folder, identity: Option<Identity>, from: u64, to: u64) -> Result<Reader, ReadError> {
        let segments = folder.segments().map_err(|source| ReadError::Io { file: folder.journal(), source })?;
        let Some(at) = segments.iter().rposition(|segment| segment.first_seq <= from) else {
            let first = segments.first();
            return Err(ReadError::Bad(BadRecord {
                file: folder.segment_path(from),
                offset: 0,
                seq: from,
                reason: Reason::Missing { first_seq: first.map_or(0, |segment| segment.first_seq) },
            }));
        };
        Ok(Reader::over(segments, at, identity, from, to))
    }

    /// A reader of segments that were listed before, from the one at `at` on.
    pub(crate) fn over(
        segments: Vec<SegmentFile>,
        at: usize,
        identity: Option<Identity>,
        from: u64,
        to: u64,
    ) -> Reader {
        let next_seq = segments[at].first_seq;
        Reader {
            segments,
            at,
            open: None,
            buffer: Vec::new(),
            holes: Vec::new(),
            unreadable: Vec::new(),
            identity,
            epoch_last: 0,
            from,
            to,
            next_seq,
            last_batch: None,
            tail: None,
        }
    }

    /// The next item; `None` at the end. Allocates only a segment's buffer, once.
    #[allow(clippy::should_implement_trait, reason = "an iterator cannot lend")]
    pub fn next(&mut self) -> Result<Option<Item<'_>>, ReadError> {
        Ok(match self.step()? {
            Step::Record { seq, now, index, payload } => {
                let payload = &self.buffer[payload];
                Some(Item::Record(Record { seq, now, is_batch_start: index == 0, payload }))
            }
            Step::Mark(mark) => Some(Item::Mark(mark)),
            Step::End => None,
        })
    }

    /// The first record that is returned.
    pub(crate) fn from(&self) -> u64 {
        self.from
    }

    /// How the journal ends; `None` before the reader has reached the end.
    pub fn tail(&self) -> Option<&Tail> {
        self.tail.as_ref()
    }

    /// The number after the last record that was read.
    pub fn next_seq(&self) -> u64 {
        self.next_seq
    }

    /// The segment that is read.
    pub fn file(&self) -> &Path {
        &self.segments[self.at.min(self.segments.len() - 1)].path
    }

    /// What the disk does not give behind the records of the segments that were read.
    pub fn unreadable(&self) -> &[Unreadable] {
        &self.unreadable
    }

    /// The build that made that segment; `None` before it was opened and after its end.
    pub fn written_by(&self) -> Option<Build> {
        self.open.as_ref().map(|open| open.header.written_by)
    }

    /// Where in that segment the next record is.
    pub fn offset(&self) -> u64 {
        self.open.as_ref().map_or(0, |open| open.offset as u64)
    }

    /// Bytes of segments that are still to be read, the open one included.
    pub(crate) fn segments_left(&self) -> usize {
        self.segments.len() - self.at
    }

    pub(crate) fn into_end(self) -> End {
        let Reader { mut segments, at, open, buffer, holes, unreadable, next_seq, last_batch, tail, .. } = self;
        let has_holes = !holes.is_empty();
        let offset = open.as_ref().map_or(0, |open| open.offset);
        let last_batch = last_batch.map(|batch| (batch.first_seq, buffer[batch.offset..offset].to_vec()));
        let segment = open.map(|open| (segments.swap_remove(at), open.header));
        let tail = tail.expect("the end is asked for when the reader is there");
        End { next_seq, tail, segment, has_holes, unreadable, offset, last_batch }
    }

    fn step(&mut self) -> Result<Step, ReadError> {
        while self.tail.is_none() {
            let Some(open) = &mut self.open else {
                match self.open_next()? {
                    Some(mark) if mark.seq + 1 >= self.from => return Ok(Step::Mark(mark)),
                    _ => continue,
                }
            };
            let limit = self.segments.get(self.at + 1).map(|next| next.first_seq);
            let next_seq = self.next_seq;
            match format::entry_at(&self.buffer, open.offset, &open.seed) {
                Some(Entry::Seal { last_seq, outcome_hash, .. }) if last_seq + 1 == next_seq => {
                    let written_by = open.header.written_by;
                    self.close(Tail::Sealed);
                    if next_seq >= self.from {
                        return Ok(Step::Mark(Mark { seq: last_seq, outcome_hash, written_by }));
                    }
                }
                _ if limit == Some(next_seq) => self.close(Tail::Sealed),
                _ if next_seq > self.to => self.tail = Some(Tail::Unread),
                Some(Entry::Record { seq, now, index, payload, end }) if seq == next_seq => {
                    let offset = std::mem::replace(&mut open.offset, end);
                    self.next_seq += 1;
                    if seq < self.from {
                        continue;
                    }
                    if index == 0 || self.last_batch.is_none() {
                        self.last_batch = Some(LastBatch { first_seq: seq, offset });
                    }
                    return Ok(Step::Record { seq, now, index, payload });
                }
                _ => {
                    self.tail = Some(self.examine_tail(limit)?);
                    self.note_unreadable();
                }
            }
        }
        Ok(Step::End)
    }

    /// Notes which unreadable bytes of the open segment are behind its records.
    fn note_unreadable(&mut self) {
        let file = self.file().to_path_buf();
        let noted = self.holes.iter().map(|hole| {
            let (offset, bytes) = (hole.start as u64, hole.len() as u64);
            Unreadable { file: file.clone(), offset, bytes }
        });
        self.unreadable.extend(noted);
    }

    /// Closes the open segment; `tail` is the journal's if it is the last one.
    fn close(&mut self, tail: Tail) {
        self.note_unreadable();
        if self.at + 1 == self.segments.len() {
            self.tail = Some(tail);
        } else {
            self.open = None;
            self.at += 1;
        }
    }

    fn open_next(&mut self) -> Result<Option<Mark>, ReadError> {
        if self.next_seq > self.to {
            self.tail = Some(Tail::Unread);
            return Ok(None);
        }
        let segment = &self.segments[self.at];
        if segment.first_seq != self.next_seq {
            let before = &self.segments[self.at - 1];
            let reason = Reason::Hole { next_seq: segment.first_seq };
            let file = before.path.clone();
            return Err(ReadError::Bad(BadRecord {
                file,
                offset: self.buffer.len() as u64,
                seq: self.next_seq,
                reason,
            }));
        }
        let holes = segment.read_into(&mut self.buffer);
        self.holes = holes.map_err(|source| ReadError::Io { file: segment.path.clone(), source })?;
        let bad = |reason| {
            ReadError::Bad(BadRecord { file: segment.path.clone(), offset: 0, seq: segment.first_seq, reason })
        };
        if let Some(hole) = self.holes.iter().find(|hole| hole.start < HEADER_USED) {
            return Err(bad(Reason::of_hole(hole)));
        }
        let header = Header::decode(&self.buffer).map_err(|error| bad(Reason::of_header(error)))?;
        if self.identity.is_some_and(|identity| identity != header.identity) {
            return Err(bad(Reason::Foreign("it belongs to another hub")));
        }
        if header.first_seq != segment.first_seq {
            return Err(bad(Reason::Foreign("its header begins at another record than its name")));
        }
        if header.epoch <= self.epoch_last {
            return Err(bad(Reason::Foreign("it was made before the segment in front of it")));
        }
        self.identity = Some(header.identity);
        self.epoch_last = header.epoch;
        self.last_batch = None;
        let seq = header.first_seq.saturating_sub(1);
        let written_by = header.written_by;
        let mark = header.outcome_hash.map(|outcome_hash| Mark { seq, outcome_hash, written_by });
        self.open = Some(Open { seed: header.seed(), header, offset: HEADER_BYTES });
        Ok(mark)
    }

    /// No whole record follows. In the last segment this is an end, clean or torn, or damage; in an earlier one,
    /// damage.
    fn examine_tail(&self, limit: Option<u64>) -> Result<Tail, ReadError> {
        let open = self.open.as_ref().expect("a segment is open while its records are read");
        let file = self.file().to_path_buf();
        let (offset, seq) = (open.offset as u64, self.next_seq);
        if let Some(hole) = self.hole_in_next(open) {
            let reason = Reason::of_hole(hole);
            return Err(ReadError::Bad(BadRecord { file, offset, seq, reason }));
        }
        if let Some(next_seq) = limit {
            let reason = Reason::Hole { next_seq };
            return Err(ReadError::Bad(BadRecord { file, offset, seq, reason }));
        }
        let records_max = ((self.buffer.len() - open.offset) / RECORD_HEADER_BYTES) as u64 + 1;
        let content_end = format::end_of_content(&self.buffer, open.offset);
        let mut end = open.offset;
        while let Some((at, entry)) =
            format::search(&self.buffer, end..content_end, &open.seed, seq..seq.saturating_add(records_max))
        {
            let (found_seq, batch_first_seq, found_end) = match entry {
                Entry::Record { seq, index, end, .. } => (seq, seq - u64::from(index), end),
                // A seal is written when all batches before it are durable.
                Entry::Seal { last_seq, end, .. } => (last_seq, u64::MAX, end),
            };
            if batch_first_seq > seq {
                let reason = Reason::Damaged { next_seq: found_seq, next_offset: at as u64 };
                return Err(ReadError::Bad(BadRecord { file, offset, seq, reason }));
            }
            end = found_end;
        }
        let is_file_cut = (self.buffer.len() as u64) < open.header.segment_bytes;
        let end = end.max(self.end_of_remains(open, content_end));
        if end == open.offset && !is_file_cut {
            return Ok(Tail::Clean);
        }
        Ok(Tail::Torn(TornTail { file, offset, bytes: end as u64 - offset, seq, is_file_cut }))
    }

    /// The unreadable bytes that the next record is in, or may be in: those that hold its header, if not all that is
    /// left of it shows that none was begun, or that hold the payload of a record that claims to be the next.
    fn hole_in_next(&self, open: &Open) -> Option<&Range<usize>> {
        let (bytes, offset) = (&self.buffer, open.offset);
        let header = offset..(offset + RECORD_HEADER_BYTES).min(bytes.len());
        let first = self.holes.iter().find(|hole| hole.end > offset)?;
        let begun = &bytes[header.start..header.end.min(first.start.max(header.start))];
        let is_header_hidden = first.start < header.end && (begun.is_empty() || begun.iter().any(|byte| *byte != 0));
        let claims_next = format::claimed_seq(bytes, offset) == Some(self.next_seq);
        let end = if claims_next { header.end + u32_at(bytes, offset) as usize } else { header.start };
        (is_header_hidden || first.start < end).then_some(first)
    }

    /// Where the remains of an incomplete record end. In a segment that was new, all unwritten bytes are zero; in a
    /// recycled one, only a record header with exactly the next sequence number identifies such remains.
    fn end_of_remains(&self, open: &Open, content_end: usize) -> usize {
        let (bytes, offset) = (&self.buffer, open.offset);
        if !open.header.is_recycled {
            content_end
        } else if format::claimed_seq(bytes, offset) == Some(self.next_seq) {
            (offset + RECORD_HEADER_BYTES + u32_at(bytes, offset) as usize).min(bytes.len())
        } else {
            offset
        }
    }
}

impl Reason {
    fn of_hole(hole: &Range<usize>) -> Reason {
        Reason::Unreadable { offset: hole.start as u64, bytes: hole.len() as u64 }
    }

    pub(crate) fn of_header(error: HeaderError) -> Reason {
        match error {
            HeaderError::Version(version) => Reason::Version(version),
            error => Reason::Header(error.to_string()),
        }
    }

    /// What an operator can do, and what it costs.
    pub(crate) fn advice(&self) -> &'static str {
        match self {
            Reason::Missing { .. } => {
                "nothing was changed. Put back the segments and snapshots that were moved or removed, or a backup: \
                 `sheratan-hub journal verify` lists those that are there, and `sheratan-hub journal repair` looks for \
                 snapshots that were set aside. What is in none of them is lost"
            }
            _ => {
                "nothing was changed. `sheratan-hub journal verify` shows what is left. Copy the data folder, or put \
                 back a backup; `sheratan-hub journal repair` cuts the journal there: it loses the records from there \
                 on that no snapshot has, and keeps their files aside"
            }
        }
    }

    /// Whether it is damage, which a repair cuts, rather than a format of another build.
    pub fn is_damage(&self) -> bool {
        !matches!(self, Reason::Version(_))
    }
}

impl fmt::Display for BadRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let BadRecord { file, offset, seq, reason } = self;
        write!(f, "bad record {seq} at offset {offset} of {}: {reason}", file.display())
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::Header(detail) => f.write_str(detail),
            Reason::Version(version) => write!(f, "the segment has {}", WrongVersion(*version)),
            Reason::Foreign(detail) => write!(f, "the segment is not this journal's: {detail}"),
            Reason::Damaged { next_seq, next_offset } => write!(
                f,
                "it is not whole, yet record {next_seq} at offset {next_offset} was written after it had been acknowledged"
            ),
            Reason::Unreadable { offset, bytes } => {
                write!(f, "the disk does not give the {bytes} bytes at offset {offset}")
            }
            Reason::Hole { next_seq } => write!(f, "it is not whole, and the next segment begins at record {next_seq}"),
            Reason::Missing { first_seq: 0 } => f.write_str("there is no segment"),
            Reason::Missing { first_seq } => write!(f, "the oldest segment begins at record {first_seq}"),
        }
    }
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReadError::Bad(bad) => bad.fmt(f),
            ReadError::Io { file, source } => write!(f, "{} cannot be read: {source}", file.display()),
        }
    }
}

impl std::error::Error for ReadError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            ReadError::Bad(_) => None,
            ReadError::Io { source, .. } => Some(source),
        }
    }
}

impl fmt::Debug for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seed(..)")
    }
}
