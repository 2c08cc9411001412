//! Counts of traced records since the hub started. The loop and the trace's thread count, the metrics read.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// How many records were written and dropped.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// Records that were written, records of gaps included.
    pub records: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Records in no file: a round traced too many bytes, the thread was behind, or a write failed.
    pub dropped: u64,
}

/// The counts, shared between the threads that count.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    records: AtomicU64,
    bytes: AtomicU64,
    dropped: AtomicU64,
}

impl Tally {
    pub fn written(&self, records: u64, bytes: u64) {
        self.0.records.fetch_add(records, Ordering::Relaxed);
        self.0.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub fn dropped(&self, records: u64) {
        self.0.dropped.fetch_add(records, Ordering::Relaxed);
    }

    pub fn get(&self) -> Counts {
        let [records, bytes, dropped] =
            [&self.0.records, &self.0.bytes, &self.0.dropped].map(|count| count.load(Ordering::Relaxed));
        Counts { records, bytes, dropped }
    }
}
