//! Copies of a hub, on which checks try what becomes of it.

use sheratan_core::{Hub, HubKey, Restore};
use sheratan_history::records_of;

/// A hub in the same state. O(n).
pub fn copy_of(hub: &Hub) -> Hub {
    restored(*hub.key(), &records_of(hub))
}

/// The hub of a snapshot's records.
pub fn restored(key: HubKey, records: &[Vec<u8>]) -> Hub {
    let mut restore = Restore::new(key);
    let read = records.iter().try_for_each(|record| restore.record(record));
    read.and_then(|()| restore.finish()).expect("a snapshot that was just written is read")
}
