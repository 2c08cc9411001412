//! Segment format: the bytes of headers, records and seals, without any file.
//!
//! The layout, field by field, is in `docs/journal-format.md`. All numbers are little-endian.

use super::build::{BUILD_BYTES, Build};
use crate::bytes::{bytes_at, crc_around, u32_at, u64_at};
use sheratan_core::{HubKey, Timestamp};
use std::fmt;
use std::ops::Range;

/// A segment's header takes a block of its own, so that no later write touches the page it is on.
pub(crate) const HEADER_BYTES: usize = 4096;
/// The bytes of the header that its checksum covers; those after the build, and the rest of the block, are reserved and
/// zero.
pub(crate) const HEADER_USED: usize = 256;
/// The offset of the build.
const BUILD_AT: usize = 96;
/// Bytes before a record's payload.
pub(crate) const RECORD_HEADER_BYTES: usize = 28;
/// Records start at multiples of this, so that a search for one need not try every byte.
const ALIGNMENT: usize = 4;
/// The seal at a full segment's end.
pub(crate) const SEAL_BYTES: usize = RECORD_HEADER_BYTES + 16;

const MAGIC: [u8; 8] = *b"SHERjrnl";
/// The version of the format that is written.
pub const FORMAT_VERSION: u32 = 2;
/// Flags of a header.
const FLAG_RECYCLED: u8 = 1;
const FLAG_HASH_UNKNOWN: u8 = 2;
/// Marks a seal in the field that holds a record's length.
const SEAL_FLAG: u32 = 1 << 31;
const SEAL_WORD: u32 = SEAL_FLAG | 16;

const _: () = assert!(HEADER_BYTES.is_multiple_of(ALIGNMENT) && SEAL_BYTES.is_multiple_of(ALIGNMENT));
const _: () = assert!(RECORD_HEADER_BYTES.is_multiple_of(ALIGNMENT) && HEADER_USED <= HEADER_BYTES);
const _: () = assert!(BUILD_AT + BUILD_BYTES <= HEADER_USED);

/// Which hub a data folder belongs to: 16 random bytes, which are not secret.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct HubId(pub [u8; 16]);

/// The part of every file of a data folder that identifies its hub, with the key of the hub's ids.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Identity {
    /// The hub.
    pub hub_id: HubId,
    /// The hub's key; secret, hence the files' mode 0600.
    pub key: HubKey,
}

/// A segment's header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Header {
    pub identity: Identity,
    /// Grows with each segment that is created, never reused: part of every record's checksum.
    pub epoch: u64,
    pub first_seq: u64,
    /// The hash of all outcomes before the first record; `None` after a repair, which knows no outcomes.
    pub outcome_hash: Option<[u8; 16]>,
    /// The file's size when it was made; it never changes.
    pub segment_bytes: u64,
    /// Whether an older segment's records may follow this one's.
    pub is_recycled: bool,
    /// The build that made the segment and all its records, except a last batch that was rewritten from another
    /// segment.
    pub written_by: Build,
}

/// Why a block is not a valid header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum HeaderError {
    Short,
    Magic,
    Version(u32),
    Checksum,
    Build,
    /// The disk does not give it.
    Unreadable,
}

/// The initial state of a segment's record checksums: it covers the hub and the epoch.
#[derive(Clone)]
pub(crate) struct Seed(crc32fast::Hasher);

/// What is at an offset of a segment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Entry {
    Record {
        seq: u64,
        now: Timestamp,
        /// The record's place in its batch, from 0.
        index: u32,
        payload: Range<usize>,
        /// Where the next one starts.
        end: usize,
    },
    Seal {
        last_seq: u64,
        outcome_hash: [u8; 16],
        end: usize,
    },
}

impl Header {
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut block = [0; HEADER_BYTES];
        block[0..8].copy_from_slice(&MAGIC);
        block[8..12].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        block[16..32].copy_from_slice(&self.identity.hub_id.0);
        block[32..48].copy_from_slice(self.identity.key.as_bytes());
        block[48..56].copy_from_slice(&self.epoch.to_le_bytes());
        block[56..64].copy_from_slice(&self.first_seq.to_le_bytes());
        block[64..80].copy_from_slice(&self.outcome_hash.unwrap_or_default());
        block[80..88].copy_from_slice(&self.segment_bytes.to_le_bytes());
        block[88] =
            (u8::from(self.is_recycled) * FLAG_RECYCLED) | (u8::from(self.outcome_hash.is_none()) * FLAG_HASH_UNKNOWN);
        block[BUILD_AT..BUILD_AT + BUILD_BYTES].copy_from_slice(self.written_by.as_bytes());
        let crc = header_crc(&block);
        block[12..16].copy_from_slice(&crc.to_le_bytes());
        block
    }

    pub fn decode(block: &[u8]) -> Result<Header, HeaderError> {
        let block: &[u8; HEADER_BYTES] = block.first_chunk().ok_or(HeaderError::Short)?;
        if block[0..8] != MAGIC {
            return Err(HeaderError::Magic);
        }
        if u32_at(block, 12) != header_crc(block) {
            return Err(HeaderError::Checksum);
        }
        // Checked after the checksum: a newer format keeps the checksum of these first 256 bytes in its place.
        let version = u32_at(block, 8);
        if version != FORMAT_VERSION {
            return Err(HeaderError::Version(version));
        }
        Ok(Header {
            identity: Identity { hub_id: HubId(bytes_at(block, 16)), key: HubKey::new(bytes_at(block, 32)) },
            epoch: u64_at(block, 48),
            first_seq: u64_at(block, 56),
            outcome_hash: (block[88] & FLAG_HASH_UNKNOWN == 0).then(|| bytes_at(block, 64)),
            segment_bytes: u64_at(block, 80),
            is_recycled: block[88] & FLAG_RECYCLED != 0,
            written_by: Build::decode(bytes_at(block, BUILD_AT)).ok_or(HeaderError::Build)?,
        })
    }

    /// CRC-32 is a bijection of its state: with the epoch first, the bytes of a record under one epoch never have the
    /// checksum that they had under another (less than 2^32 epochs away).
    pub fn seed(&self) -> Seed {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&self.identity.hub_id.0);
        hasher.update(self.identity.key.as_bytes());
        hasher.update(&self.epoch.to_le_bytes());
        Seed(hasher)
    }
}

impl Seed {
    fn crc(&self, record: &[u8]) -> u32 {
        crc_around(self.0.clone(), record, 4)
    }
}

/// Writes the header of a record whose payload has yet to come, without its checksum.
pub(crate) fn begin_record(buffer: &mut Vec<u8>, seq: u64, now: Timestamp, index: u32) {
    buffer.extend_from_slice(&[0; 8]);
    buffer.extend_from_slice(&seq.to_le_bytes());
    buffer.extend_from_slice(&now.as_millis().to_le_bytes());
    buffer.extend_from_slice(&index.to_le_bytes());
}

/// Fixes the length of the record that starts at `start` and ends with the buffer, and fills up to the next boundary.
pub(crate) fn end_record(buffer: &mut Vec<u8>, start: usize) {
    let payload_bytes = buffer.len() - start - RECORD_HEADER_BYTES;
    let len = u32::try_from(payload_bytes).ok().filter(|len| len & SEAL_FLAG == 0);
    let len = len.expect("a payload is at most PAYLOAD_BYTES_MAX, which the batch checked");
    buffer[start..start + 4].copy_from_slice(&len.to_le_bytes());
    buffer.resize(start + padded(buffer.len() - start), 0);
}

/// The first record of a batch that is still in memory: number, instant and payload.
pub(crate) fn record_of_batch(bytes: &[u8]) -> (u64, Timestamp, &[u8]) {
    let end = RECORD_HEADER_BYTES + u32_at(bytes, 0) as usize;
    (u64_at(bytes, 8), Timestamp::from_millis(u64_at(bytes, 16)), &bytes[RECORD_HEADER_BYTES..end])
}

/// Gives every record of a batch its checksum under a segment's seed.
pub(crate) fn seal_records(records: &mut [u8], seed: &Seed) {
    let mut start = 0;
    while start < records.len() {
        let end = start + RECORD_HEADER_BYTES + u32_at(records, start) as usize;
        let crc = seed.crc(&records[start..end]);
        records[start + 4..start + 8].copy_from_slice(&crc.to_le_bytes());
        start = padded(end);
    }
}

/// The seal of a segment whose last record is `last_seq`.
pub(crate) fn seal(seed: &Seed, last_seq: u64, outcome_hash: [u8; 16]) -> [u8; SEAL_BYTES] {
    let mut bytes = [0; SEAL_BYTES];
    bytes[0..4].copy_from_slice(&SEAL_WORD.to_le_bytes());
    bytes[8..16].copy_from_slice(&last_seq.to_le_bytes());
    bytes[RECORD_HEADER_BYTES..].copy_from_slice(&outcome_hash);
    let crc = seed.crc(&bytes);
    bytes[4..8].copy_from_slice(&crc.to_le_bytes());
    bytes
}

/// The entry at `start`, if its checksum proves that it was written there in this epoch.
pub(crate) fn entry_at(segment: &[u8], start: usize, seed: &Seed) -> Option<Entry> {
    let head = segment.get(start..start.checked_add(RECORD_HEADER_BYTES)?)?;
    let word = u32_at(head, 0);
    let end = start.checked_add(RECORD_HEADER_BYTES + (word & !SEAL_FLAG) as usize)?;
    let bytes = segment.get(start..end)?;
    if u32_at(head, 4) != seed.crc(bytes) {
        return None;
    }
    let seq = u64_at(head, 8);
    if word & SEAL_FLAG != 0 {
        let outcome_hash = *bytes[RECORD_HEADER_BYTES..].first_chunk()?;
        return (word == SEAL_WORD).then_some(Entry::Seal { last_seq: seq, outcome_hash, end });
    }
    let index = u32_at(head, 24);
    let next = padded(end);
    let is_whole = u64::from(index) < seq && next <= segment.len();
    is_whole.then(|| Entry::Record {
        seq,
        now: Timestamp::from_millis(u64_at(head, 16)),
        index,
        payload: start + RECORD_HEADER_BYTES..end,
        end: next,
    })
}

/// The sequence number that the bytes at `start` claim, true or not.
pub(crate) fn claimed_seq(segment: &[u8], start: usize) -> Option<u64> {
    segment.get(start..start + RECORD_HEADER_BYTES).map(|head| u64_at(head, 8))
}

/// The first proven entry that starts at a place of `starts` (up to [`end_of_content`] is enough) and has a sequence
/// number of `seqs`. O(places), since only those whose number is in range have their checksum computed.
pub(crate) fn search(segment: &[u8], starts: Range<usize>, seed: &Seed, seqs: Range<u64>) -> Option<(usize, Entry)> {
    let end = starts.end.min((segment.len() + 1).saturating_sub(RECORD_HEADER_BYTES));
    (starts.start.next_multiple_of(ALIGNMENT)..end)
        .step_by(ALIGNMENT)
        .filter(|at| seqs.contains(&u64_at(segment, at + 8)))
        .find_map(|at| entry_at(segment, at, seed).map(|entry| (at, entry)))
}

/// Where the zeros at a segment's end begin, but not before `start`. Compared block by block, which costs no more than
/// reading the memory: most of a segment is zeros at most starts.
pub(crate) fn end_of_content(segment: &[u8], start: usize) -> usize {
    const BLOCK: usize = 4096;
    let mut end = segment.len();
    while end >= start + BLOCK && segment[end - BLOCK..end] == [0; BLOCK] {
        end -= BLOCK;
    }
    segment[start..end].iter().rposition(|byte| *byte != 0).map_or(start, |last| start + last + 1)
}

fn header_crc(block: &[u8; HEADER_BYTES]) -> u32 {
    crc_around(crc32fast::Hasher::new(), &block[..HEADER_USED], 12)
}

pub(crate) fn padded(bytes: usize) -> usize {
    bytes.next_multiple_of(ALIGNMENT)
}

impl fmt::Debug for HubId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HubId({self})")
    }
}

impl fmt::Display for HubId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

/// A format version that is not this build's, and which build to start instead.
pub(crate) struct WrongVersion(pub u32);

impl fmt::Display for WrongVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let WrongVersion(version) = self;
        let which = if *version > FORMAT_VERSION { "a newer sheratan-hub" } else { "the sheratan-hub that wrote it" };
        write!(
            f,
            "format version {version}, this hub reads version {FORMAT_VERSION}: start {which} on this data folder"
        )
    }
}

impl fmt::Display for HeaderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HeaderError::Short => write!(f, "the file ends before its header of {HEADER_BYTES} bytes"),
            HeaderError::Magic => f.write_str("the file does not begin as a segment does"),
            HeaderError::Version(version) => write!(f, "the segment has {}", WrongVersion(*version)),
            HeaderError::Checksum => f.write_str("the header's checksum does not match"),
            HeaderError::Build => f.write_str("the header names no build"),
            HeaderError::Unreadable => f.write_str("the disk does not give the header"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(epoch: u64) -> Header {
        Header {
            identity: Identity { hub_id: HubId([3; 16]), key: HubKey::new([4; 16]) },
            epoch,
            first_seq: 9,
            outcome_hash: Some([5; 16]),
            segment_bytes: 8192,
            is_recycled: true,
            written_by: Build::new("1.0.0+test"),
        }
    }

    #[test]
    fn a_header_reads_back_and_a_flipped_bit_is_noticed() {
        let block = header(7).encode();
        assert_eq!(Header::decode(&block), Ok(header(7)));
        for bit in 0..HEADER_USED * 8 {
            let mut flipped = block;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(Header::decode(&flipped).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn a_record_of_another_epoch_is_none() {
        let mut bytes = Vec::new();
        begin_record(&mut bytes, 9, Timestamp::from_millis(1), 0);
        bytes.extend_from_slice(b"hello");
        end_record(&mut bytes, 0);
        seal_records(&mut bytes, &header(7).seed());
        assert!(entry_at(&bytes, 0, &header(7).seed()).is_some());
        for epoch in (0..2000).filter(|epoch| *epoch != 7) {
            assert_eq!(entry_at(&bytes, 0, &header(epoch).seed()), None, "epoch {epoch}");
        }
    }

    #[test]
    fn a_header_of_another_format_says_which_build_reads_it() {
        for (version, which) in
            [(FORMAT_VERSION + 1, "start a newer sheratan-hub"), (1, "the sheratan-hub that wrote it")]
        {
            let mut block = header(7).encode();
            block[8..12].copy_from_slice(&version.to_le_bytes());
            let crc = header_crc(&block);
            block[12..16].copy_from_slice(&crc.to_le_bytes());
            let error = Header::decode(&block).unwrap_err();
            assert_eq!(error, HeaderError::Version(version));
            assert!(error.to_string().contains(which), "{error}");
        }
    }

    #[test]
    fn a_search_finds_the_next_record_in_range_and_no_other() {
        let seed = header(1).seed();
        let mut bytes = vec![0xAA; 8];
        for (seq, payload) in [(5, "a"), (6, "bb"), (7, "ccccc")] {
            let start = bytes.len();
            begin_record(&mut bytes, seq, Timestamp::ZERO, 0);
            bytes.extend_from_slice(payload.as_bytes());
            end_record(&mut bytes, start);
        }
        seal_records(&mut bytes[8..], &seed);
        let found = |seqs| search(&bytes, 0..bytes.len(), &seed, seqs).map(|(at, _)| at);
        assert_eq!(found(5..100), Some(8));
        assert_eq!(found(6..100), Some(8 + 32));
        assert_eq!(found(8..100), None);
    }
}
