//! The journal: what the hub has promised, in order, on disk.
//!
//! How to use it, from start to stop:
//! 1. [`recover`] locks the data folder, restores the newest readable snapshot, replays the records behind it and gives a
//!    [`Hub`](sheratan_core::Hub), an [`Appender`] and a [`Store`]. ([`Store::open`] is its first step, the lock; it
//!    also gives the records without a hub.)
//! 2. The loop fills a [`Batch`] with the commands that changed something; the journal's thread hands it to
//!    [`Appender::append`]: one write, one fdatasync. What was appended is durable; replies may leave.
//! 3. A failed append may be repeated with the same batch for as long as it takes: it goes to a new segment.
//! 4. A background thread calls [`Store::prepare_spare`], and when [`Appender::sealed_through`] has grown,
//!    [`Store::snapshot_by_replay`] and then [`Store::truncate`].
//! 5. [`verify`] reads everything and reports; [`repair`] cuts at the first bad record and moves what it cuts aside;
//!    [`rewind`] goes back to the newest snapshot and moves what is behind it aside; [`History`] gives what was recorded
//!    to who wants to go through it.
//!
//! What is on disk, and why a torn tail is told from a damaged one, is in `docs/journal-format.md`.
//!
//! Cost: 28 bytes a record besides its command, one system call to write and one to sync a batch; reading checks about
//! eight million records a second; applying them to a hub takes about six times as long.

mod append;
mod batch;
mod build;
mod divergence;
mod folder;
mod format;
mod look;
mod read;
mod recover;
mod repair;
mod replay;
mod rewind;
#[cfg_attr(feature = "sim-mutants", path = "../../mutated/journal.rs")]
mod rules;
mod snapshot;
mod store;
#[cfg(test)]
mod tests;
mod verify;

pub use append::{AppendError, Appender};
pub use batch::{Batch, PAYLOAD_BYTES_MAX};
pub use build::{BUILD_BYTES, Build};
pub use divergence::{Cause, Divergence};
pub use folder::{LockError, Options};
pub use format::{FORMAT_VERSION, HubId, Identity};
pub use look::{History, LookError};
pub use read::{BadRecord, Item, Mark, ReadError, Reader, Reason, Record, Tail, TornTail};
pub use recover::{Notice, OpenError, Progress, Recovered, Recovery, RecoveryReport, recover};
pub use repair::{Lost, RepairError, RepairReport, repair};
pub use replay::ReplayError;
pub use rewind::{RewindReport, RewindTarget, rewind};
pub use snapshot::{SnapshotError, SnapshotInfo, SnapshotReader, SnapshotReport, SnapshotWriter};
pub use store::{Store, Truncated};
pub use verify::{
    ReplayCheck, SegmentReport, SegmentStatus, SnapshotCheck, VerifyReport, inspect, is_in_use, verify, verify_on,
};
