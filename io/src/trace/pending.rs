//! Pending: what a round of the loop traced, as the bytes that go to the file.

use super::format::{self, Place, RECORD_HEADER_BYTES};
use super::read::Entry;
use sheratan_core::Timestamp;

/// Bytes that one round may trace: a flood of large submits that are refused must not fill the memory. More is dropped and
/// counted.
const BYTES_MAX: usize = 8 << 20;

/// Records that are in no file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Gap {
    /// When the first came.
    pub from: Timestamp,
    /// When the last came.
    pub to: Timestamp,
    /// How many.
    pub records: u64,
}

/// Records for the trace, in order.
#[derive(Default, Debug)]
pub struct Pending {
    pub(super) bytes: Vec<u8>,
    pub(super) records: u64,
    pub(super) span: Option<(Place, Place)>,
    pub(super) gap: Option<Gap>,
}

impl Pending {
    /// The hub changed nothing on this command, whose encoding this is, when `after_seq` was the journal's last record.
    pub fn push(&mut self, after_seq: u64, now: Timestamp, command: &[u8]) {
        let at = Place { after_seq, now };
        self.span = Some((self.span.map_or(at, |(first, _)| first), at));
        if self.bytes.len() + RECORD_HEADER_BYTES + command.len() > BYTES_MAX {
            return self.miss(Gap { from: now, to: now, records: 1 });
        }
        format::put_command(&mut self.bytes, at, command);
        self.records += 1;
    }

    /// Whether there is nothing for the trace.
    pub fn is_empty(&self) -> bool {
        self.records == 0 && self.gap.is_none()
    }

    /// Its records.
    pub fn entries(&self) -> impl Iterator<Item = Entry<'_>> {
        let mut rest = self.bytes.as_slice();
        std::iter::from_fn(move || {
            let record = format::first_record(rest)?;
            rest = &rest[record.len()..];
            let Place { after_seq, now } = format::place_of(record);
            Some(Entry { after_seq, now, command: &record[RECORD_HEADER_BYTES..] })
        })
    }

    /// Notes what is missing.
    pub(super) fn miss(&mut self, gap: Gap) {
        self.gap = Some(self.gap.map_or(gap, |known| known.and(gap)));
    }

    /// What is missing if this goes nowhere.
    pub(super) fn into_gap(self) -> Option<Gap> {
        let lost = self.span.map(|(first, last)| Gap { from: first.now, to: last.now, records: self.records });
        match (lost, self.gap) {
            (Some(lost), Some(gap)) => Some(lost.and(gap)),
            (lost, gap) => lost.or(gap),
        }
    }
}

impl Gap {
    /// Both, as one.
    pub(super) fn and(self, other: Gap) -> Gap {
        Gap { from: self.from.min(other.from), to: self.to.max(other.to), records: self.records + other.records }
    }
}
