//! Pending: the records that one round of the loop traced, as the bytes to write.

use super::format::{self, Entry, Gap, Place, RECORD_HEADER_BYTES};
use sheratan_core::Timestamp;

/// Bytes that one round may trace: a flood of large, refused submits must not fill the memory. Further records are
/// dropped and counted.
const BYTES_MAX: usize = 8 << 20;

/// Records for the trace, in order.
#[derive(Default, Debug)]
pub struct Pending {
    pub(super) bytes: Vec<u8>,
    pub(super) records: u64,
    pub(super) span: Option<(Place, Place)>,
    pub(super) gap: Option<Gap>,
}

impl Pending {
    /// Adds an encoded command that changed nothing, when `after_seq` was the journal's last record.
    pub fn push(&mut self, after_seq: u64, now: Timestamp, command: &[u8]) {
        let at = Place { after_seq, now };
        self.span = Some((self.span.map_or(at, |(first, _)| first), at));
        if self.bytes.len() + RECORD_HEADER_BYTES + command.len() > BYTES_MAX {
            return self.add_gap(Gap { from: now, to: now, records: 1 });
        }
        format::put_command(&mut self.bytes, at, command);
        self.records += 1;
    }

    /// Adds the records of a later round.
    pub(super) fn append(&mut self, later: Pending) {
        self.bytes.extend_from_slice(&later.bytes);
        self.records += later.records;
        self.span = match (self.span, later.span) {
            (Some((first, _)), Some((_, last))) => Some((first, last)),
            (span, later) => span.or(later),
        };
        if let Some(gap) = later.gap {
            self.add_gap(gap);
        }
    }

    /// Whether there are neither records nor a gap.
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

    /// Adds dropped records to the gap.
    pub(super) fn add_gap(&mut self, gap: Gap) {
        self.gap = Some(self.gap.map_or(gap, |known| known.and(gap)));
    }

    /// The gap that is left if all records are dropped.
    pub(super) fn into_gap(self) -> Option<Gap> {
        let lost = self.span.map(|(first, last)| Gap { from: first.now, to: last.now, records: self.records });
        match (lost, self.gap) {
            (Some(lost), Some(gap)) => Some(lost.and(gap)),
            (lost, gap) => lost.or(gap),
        }
    }
}
