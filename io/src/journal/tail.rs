//! The tail: how a journal ends.

use std::fmt;
use std::path::PathBuf;

/// How the journal ends.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Tail {
    /// With a seal: the next record begins a new segment.
    Sealed,
    /// With its last record.
    Clean,
    /// With an incomplete batch, which was never acknowledged.
    Torn(TornTail),
    /// At the last record that the reader was asked for.
    Unread,
}

/// The remains of a batch after the last whole record.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize)]
pub struct TornTail {
    /// The segment.
    pub file: PathBuf,
    /// Where the remains start.
    pub offset: u64,
    /// How many bytes they have, as far as is known.
    pub bytes: u64,
    /// The sequence number of the first record that is lost.
    pub seq: u64,
    /// Whether the file is shorter than when it was made: it was cut, since a crash does not shorten it.
    pub is_file_cut: bool,
}

impl fmt::Display for TornTail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let TornTail { file, offset, bytes, seq, is_file_cut } = self;
        write!(f, "{} ends torn at offset {offset}: {bytes} bytes from record {seq} on", file.display())?;
        if *is_file_cut {
            return f.write_str(
                "; the file is shorter than it was made, which no crash does: acknowledged records may be gone",
            );
        }
        f.write_str(" were never acknowledged")
    }
}
