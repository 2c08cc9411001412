//! Rules of the trace: in which order a write holds its records.

/// The bytes of one write: the gap's record precedes the records that follow the gap, since a crash that leaves a part
/// of the write leaves its beginning.
pub(crate) fn after_gap(gap: Vec<u8>, records: Vec<u8>) -> Vec<u8> {
    [gap, records].concat()
}
