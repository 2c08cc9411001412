//! Format of a trace file: a header, then records to the file's end. All numbers are little-endian.
//!
//! | header | bytes | |
//! |---|---|---|
//! | 0 | 8 | `SHERtrce` |
//! | 8 | 4 | format version |
//! | 12 | 4 | CRC-32 of the header's other bytes |
//! | 16 | 16 | hub id |
//! | 32 | 8 | id of the run: the number of its first file; a run is one run of the hub's process |
//! | 40, 48 | 8, 8 | where the run begins: the journal's last record then, and the instant |
//! | 56, 64 | 8, 8 | where the file begins, likewise: later records are in this file or in a later one |
//!
//! | record | bytes | |
//! |---|---|---|
//! | 0 | 4 | length of the payload |
//! | 4 | 4 | CRC-32 of the record's other bytes |
//! | 8, 16 | 8, 8 | the journal's last record when it was made, and the instant |
//! | 24 | 4 | 1: the encoded command; 2: a gap, its first instant and its count of records; 3: the run's end |
//! | 28 | | payload |

use crate::bytes::{crc_around, u32_at, u64_at};
use crate::journal::HubId;
use crc32fast::Hasher;
use sheratan_core::Timestamp;

/// Bytes of a file's header, which identifies the hub, the run, and where the run begins.
pub const HEADER_BYTES: usize = 72;
pub const RECORD_HEADER_BYTES: usize = 28;
/// The bytes of a gap's record.
pub const GAP_BYTES: usize = RECORD_HEADER_BYTES + 16;

const MAGIC: [u8; 8] = *b"SHERtrce";
const FORMAT_VERSION: u32 = 1;

const COMMAND: u32 = 1;
const GAP: u32 = 2;
const END: u32 = 3;

/// A place in the hub's history: between a record of the journal and the next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place {
    pub after_seq: u64,
    pub now: Timestamp,
}

impl Place {
    /// The later place: a gap may end later than the records that follow the gap's record.
    pub fn max(self, other: Place) -> Place {
        Place { after_seq: self.after_seq.max(other.after_seq), now: self.now.max(other.now) }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    pub hub_id: HubId,
    /// The number of the run's first file.
    pub run_id: u64,
    pub run_begins: Place,
    pub begins: Place,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Record<'a> {
    pub at: Place,
    pub what: What<'a>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum What<'a> {
    Command(&'a [u8]),
    Gap(Gap),
    End,
}

/// Records that were dropped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Gap {
    /// The instant of the first.
    pub from: Timestamp,
    /// The instant of the last.
    pub to: Timestamp,
    /// How many.
    pub records: u64,
}

/// A command that changed nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entry<'a> {
    /// The journal's last record then.
    pub after_seq: u64,
    /// The instant.
    pub now: Timestamp,
    /// The encoded command.
    pub command: &'a [u8],
}

impl Header {
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[0..8].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        bytes[16..32].copy_from_slice(&self.hub_id.0);
        let places = [self.run_begins, self.begins].map(|place| [place.after_seq, place.now.as_millis()]);
        let numbers = [self.run_id].into_iter().chain(places.into_iter().flatten());
        for (number, to) in numbers.zip(bytes[32..].chunks_exact_mut(8)) {
            to.copy_from_slice(&number.to_le_bytes());
        }
        let crc = crc_around(Hasher::new(), &bytes, 12);
        bytes[12..16].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// The header of a file; `None` if it is damaged or of another version.
    pub fn decode(file: &[u8]) -> Option<Header> {
        let bytes = file.first_chunk::<HEADER_BYTES>()?;
        let is_known = bytes[0..8] == MAGIC && u32_at(bytes, 8) == FORMAT_VERSION;
        let place = |at| Place { after_seq: u64_at(bytes, at), now: Timestamp::from_millis(u64_at(bytes, at + 8)) };
        (is_known && u32_at(bytes, 12) == crc_around(Hasher::new(), bytes, 12)).then(|| Header {
            hub_id: HubId(*bytes[16..].first_chunk().expect("a header is longer")),
            run_id: u64_at(bytes, 32),
            run_begins: place(40),
            begins: place(56),
        })
    }
}

impl Gap {
    /// Both gaps as one.
    pub(super) fn and(self, other: Gap) -> Gap {
        Gap { from: self.from.min(other.from), to: self.to.max(other.to), records: self.records + other.records }
    }
}

/// Appends a command's record, without its checksum.
pub fn put_command(bytes: &mut Vec<u8>, at: Place, command: &[u8]) {
    put(bytes, at, COMMAND, &[command]);
}

/// Appends a gap's record, without its checksum.
pub fn put_gap(bytes: &mut Vec<u8>, after_seq: u64, gap: &Gap) {
    let at = Place { after_seq, now: gap.to };
    put(bytes, at, GAP, &[&gap.from.as_millis().to_le_bytes(), &gap.records.to_le_bytes()]);
}

/// Appends the record of a run's end, without its checksum.
pub fn put_end(bytes: &mut Vec<u8>, at: Place) {
    put(bytes, at, END, &[]);
}

fn put(bytes: &mut Vec<u8>, at: Place, kind: u32, payload: &[&[u8]]) {
    let payload_bytes: usize = payload.iter().map(|part| part.len()).sum();
    let len = u32::try_from(payload_bytes).expect("a payload is far below what may be pending");
    bytes.extend_from_slice(&len.to_le_bytes());
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(&at.after_seq.to_le_bytes());
    bytes.extend_from_slice(&at.now.as_millis().to_le_bytes());
    bytes.extend_from_slice(&kind.to_le_bytes());
    payload.iter().for_each(|part| bytes.extend_from_slice(part));
}

/// The first record's bytes, by its length; `None` if it is incomplete.
pub fn first_record(bytes: &[u8]) -> Option<&[u8]> {
    let head = bytes.get(..RECORD_HEADER_BYTES)?;
    bytes.get(..RECORD_HEADER_BYTES.checked_add(u32_at(head, 0) as usize)?)
}

/// Gives each record its checksum.
pub fn seal(bytes: &mut [u8]) {
    let mut start = 0;
    while let Some(record) = first_record(&bytes[start..]) {
        let (crc, end) = (crc_around(Hasher::new(), record, 4), start + record.len());
        bytes[start + 4..start + 8].copy_from_slice(&crc.to_le_bytes());
        start = end;
    }
}

/// The record at the start of `bytes`, and its length; `None` if it is incomplete or damaged.
pub fn decode(bytes: &[u8]) -> Option<(Record<'_>, usize)> {
    let record = first_record(bytes)?;
    if u32_at(record, 4) != crc_around(Hasher::new(), record, 4) {
        return None;
    }
    let at = place_of(record);
    let payload = &record[RECORD_HEADER_BYTES..];
    let what = match (u32_at(record, 24), payload.len()) {
        (COMMAND, _) => What::Command(payload),
        (GAP, 16) => {
            let from = Timestamp::from_millis(u64_at(payload, 0));
            What::Gap(Gap { from, to: at.now, records: u64_at(payload, 8) })
        }
        (END, 0) => What::End,
        _ => return None,
    };
    Some((Record { at, what }, record.len()))
}

/// Where a record was made.
pub fn place_of(record: &[u8]) -> Place {
    Place { after_seq: u64_at(record, 8), now: Timestamp::from_millis(u64_at(record, 16)) }
}
