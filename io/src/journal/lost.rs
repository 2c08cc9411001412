//! Lost records: which ones damage, a repair or going back to a snapshot loses.

use super::folder::SegmentFile;
use super::format::{self, HEADER_BYTES, Header};
use super::read::{BadRecord, Reason};
use crate::rfc3339::Rfc3339;
use serde::Serialize;
use sheratan_core::{Calendar, Timestamp};
use std::fmt;
use std::ops::Range;

/// Lost records are searched for up to this many after the first bad one.
const LOST_SEARCHED: u64 = 1 << 32;

/// A range of records that are lost, or would be.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct Lost {
    /// The first.
    pub first_seq: u64,
    /// The last known one.
    pub last_seq: u64,
    /// When the first readable one was applied.
    pub first_at: Option<Rfc3339>,
    /// When the last readable one was applied.
    pub last_at: Option<Rfc3339>,
}

impl Lost {
    /// The lost records of the segments `cut` from `from` on, which is damaged or precedes the damage.
    pub(crate) fn with(damage: &BadRecord, cut: &[SegmentFile], from: u64) -> Option<Lost> {
        let hinted_seq = match damage.reason {
            Reason::Damaged { next_seq, .. } => next_seq,
            Reason::Hole { next_seq } => next_seq - 1,
            _ => damage.seq,
        };
        let hinted = Lost { first_seq: from, last_seq: hinted_seq, first_at: None, last_at: None };
        match Lost::known(cut, from) {
            Some(known) => Some(Lost { last_seq: known.last_seq.max(hinted_seq), ..known }),
            None => (hinted_seq >= from).then_some(hinted),
        }
    }

    /// The known records from `from` on in these segments, gaps included. Of a record that occurs twice, the newer
    /// segment's counts. Reads each segment whole.
    pub(crate) fn known(segments: &[SegmentFile], from: u64) -> Option<Lost> {
        let mut found = None::<Lost>;
        for (at, segment) in segments.iter().enumerate() {
            let end = segments.get(at + 1).map_or(from.saturating_add(LOST_SEARCHED), |next| next.first_seq);
            let named_seq = Some(segment.first_seq - 1).filter(|seq| *seq >= from);
            let known = (end > from).then(|| known_records(segment, from..end)).flatten();
            let (first_at, last_seq, last_at) = match (known, named_seq) {
                (Some(known), _) => known,
                (None, Some(last_seq)) => (None, last_seq, None),
                (None, None) => continue,
            };
            let first_at = found.map_or(first_at, |found| found.first_at.or(first_at));
            let last_at = last_at.or(found.and_then(|found| found.last_at));
            found = Some(Lost { first_seq: from, last_seq, first_at, last_at });
        }
        found
    }
}

/// For the records of a segment in a range: the first one's instant, and the last one's number and instant.
fn known_records(segment: &SegmentFile, seqs: Range<u64>) -> Option<(Option<Rfc3339>, u64, Option<Rfc3339>)> {
    let mut bytes = Vec::new();
    segment.read_into(&mut bytes).ok()?;
    let seed = Header::decode(&bytes).ok()?.seed();
    let (mut offset, mut first_at, mut last) = (HEADER_BYTES, None, None::<(u64, Option<Rfc3339>)>);
    let end = format::end_of_content(&bytes, offset);
    while let Some((_, entry)) = format::search(&bytes, offset..end, &seed, seqs.clone()) {
        let (seq, at, end) = match entry {
            format::Entry::Record { seq, now, end, .. } => (seq, Some(by_hub_time(now)), end),
            format::Entry::Seal { last_seq, end, .. } => (last_seq, None, end),
        };
        first_at = first_at.or(at);
        last = Some((seq, at.or(last.and_then(|(_, at)| at))));
        offset = end;
    }
    last.map(|(seq, at)| (first_at, seq, at))
}

/// A record's instant by the hub's time. It differs from the calendar by all steps of the machine's clock so far, which
/// only a replay knows.
fn by_hub_time(now: Timestamp) -> Rfc3339 {
    Rfc3339::new(Calendar::UNSET.utc(now))
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Lost { first_seq, last_seq, first_at, last_at } = self;
        match last_seq - first_seq {
            0 => write!(f, "1 record, {first_seq}")?,
            more => write!(f, "{} records, {first_seq} to {last_seq}", more + 1)?,
        }
        match (first_at, last_at) {
            (Some(first_at), Some(last_at)) => write!(f, " ({first_at} to {last_at})"),
            _ => Ok(()),
        }
    }
}
