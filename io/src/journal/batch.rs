//! Batch: the records that become durable together, as the bytes to write.
//!
//! The loop encodes each command straight into the batch, so a record is written once in memory; checksums are left to
//! the appender, whose thread has the time.

use super::format::{self, RECORD_HEADER_BYTES};
use sheratan_core::Timestamp;

/// The largest payload of a record: far above any body limit, and small enough that a damaged length is refused.
pub const PAYLOAD_BYTES_MAX: usize = 1 << 28;

/// The capacity that a cleared batch keeps: a batch of usual size, so that one large burst does not hold memory for
/// ever.
const KEPT_BYTES: usize = 4 << 20;

/// Records with dense sequence numbers, in order.
///
/// For each: [`begin`](Batch::begin), encode the command into the buffer it gives, then [`commit`](Batch::commit) or
/// [`abort`](Batch::abort). [`clear`](Batch::clear) makes it ready for the next ones and keeps its memory.
#[derive(Debug, Default)]
pub struct Batch {
    bytes: Vec<u8>,
    first_seq: u64,
    count: u32,
    /// The offset of the record that was begun and not committed.
    begun_at: Option<usize>,
}

impl Batch {
    /// A batch without records.
    pub fn new() -> Self {
        Batch::default()
    }

    /// Begins the record `seq`, one above the batch's last; append its payload to what this returns, and nothing else.
    pub fn begin(&mut self, seq: u64, now: Timestamp) -> &mut Vec<u8> {
        assert!(self.begun_at.is_none(), "a record is begun when the one before it was committed or aborted");
        assert!(seq > 0, "sequence numbers start at 1");
        if self.count == 0 {
            self.first_seq = seq;
        }
        assert_eq!(seq, self.first_seq + u64::from(self.count), "sequence numbers of a batch are dense");
        self.begun_at = Some(self.bytes.len());
        format::begin_record(&mut self.bytes, seq, now, self.count);
        &mut self.bytes
    }

    /// Ends the record that was begun.
    pub fn commit(&mut self) {
        let start = self.begun_at.take().expect("a record was begun");
        let payload_bytes = self.bytes.len().checked_sub(start + RECORD_HEADER_BYTES);
        let payload_bytes = payload_bytes.expect("the payload was appended to the buffer, and nothing taken from it");
        assert!(payload_bytes <= PAYLOAD_BYTES_MAX, "a payload has at most {PAYLOAD_BYTES_MAX} bytes");
        format::end_record(&mut self.bytes, start);
        self.count += 1;
    }

    /// The payload of the record that was begun, as appended so far.
    pub fn begun(&self) -> &[u8] {
        let start = self.begun_at.expect("a record was begun");
        &self.bytes[start + RECORD_HEADER_BYTES..]
    }

    /// Drops the record that was begun.
    pub fn abort(&mut self) {
        let start = self.begun_at.take().expect("a record was begun");
        self.bytes.truncate(start);
    }

    /// Whether the batch has no record.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// How many records it has.
    pub fn records(&self) -> u32 {
        self.count
    }

    /// The sequence number of the first record; `None` without records.
    pub fn first_seq(&self) -> Option<u64> {
        (self.count > 0).then_some(self.first_seq)
    }

    /// The sequence number of the last record; `None` without records.
    pub fn last_seq(&self) -> Option<u64> {
        self.first_seq().map(|first| first + u64::from(self.count) - 1)
    }

    /// The bytes that an append writes.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// The records, in order: number, instant and payload.
    pub fn iter(&self) -> impl Iterator<Item = (u64, Timestamp, &[u8])> {
        assert!(self.begun_at.is_none(), "a batch is read when its last record was committed");
        let mut rest = self.bytes.as_slice();
        std::iter::from_fn(move || {
            if rest.is_empty() {
                return None;
            }
            let (seq, now, payload) = format::record_of_batch(rest);
            rest = &rest[format::padded(RECORD_HEADER_BYTES + payload.len())..];
            Some((seq, now, payload))
        })
    }

    /// Drops the records and keeps the capacity, up to [`KEPT_BYTES`].
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.bytes.shrink_to(KEPT_BYTES);
        self.count = 0;
        self.begun_at = None;
    }

    /// The records, for the appender to give them their checksums under a segment's seed.
    pub(crate) fn records_mut(&mut self) -> &mut [u8] {
        assert!(self.begun_at.is_none(), "a batch is appended when its last record was committed");
        &mut self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(batch: &mut Batch, seq: u64, payload: &[u8]) {
        batch.begin(seq, Timestamp::from_millis(seq)).extend_from_slice(payload);
        batch.commit();
    }

    #[test]
    fn an_aborted_record_leaves_nothing_behind() {
        let mut batch = Batch::new();
        put(&mut batch, 4, b"one");
        let bytes = batch.bytes();
        batch.begin(5, Timestamp::ZERO).extend_from_slice(b"lost");
        batch.abort();
        assert_eq!((batch.bytes(), batch.records(), batch.last_seq()), (bytes, 1, Some(4)));
        put(&mut batch, 5, b"two");
        assert_eq!((batch.first_seq(), batch.last_seq()), (Some(4), Some(5)));
    }

    #[test]
    fn a_batch_gives_its_records_back() {
        let mut batch = Batch::new();
        for (seq, payload) in [(7, &b"one"[..]), (8, b""), (9, b"three and more")] {
            put(&mut batch, seq, payload);
        }
        let records: Vec<_> = batch.iter().map(|(seq, now, payload)| (seq, now.as_millis(), payload)).collect();
        assert_eq!(records, [(7, 7, &b"one"[..]), (8, 8, b""), (9, 9, b"three and more")]);
    }

    #[test]
    fn a_cleared_batch_starts_anywhere_and_does_not_keep_a_burst() {
        let mut batch = Batch::new();
        put(&mut batch, 1, &vec![0; 3 * KEPT_BYTES]);
        batch.clear();
        assert!(batch.is_empty() && batch.last_seq().is_none());
        assert!(batch.bytes.capacity() <= KEPT_BYTES);
        put(&mut batch, 77, b"x");
        assert_eq!(batch.last_seq(), Some(77));
    }

    #[test]
    #[should_panic(expected = "dense")]
    fn a_gap_in_a_batch_is_a_programming_error() {
        let mut batch = Batch::new();
        put(&mut batch, 1, b"");
        put(&mut batch, 3, b"");
    }
}
