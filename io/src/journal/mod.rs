//! The journal: the commands that the hub acknowledged, in order, on disk.
//!
//! How to use it, from start to stop:
//! 1. [`recover`] locks the data folder, restores the newest readable snapshot, replays the records after it and
//!    returns a [`Hub`](sheratan_core::Hub), an [`Appender`] and a [`Store`]. ([`Store::open`] is its first step, the
//!    lock; it also reads the records without a hub.)
//! 2. The loop fills a [`Batch`] with the commands that changed the state; the journal's thread passes it to
//!    [`Appender::append`]: one write, one fdatasync. Appended records are durable; their replies may be sent.
//! 3. A failed append may be repeated with the same batch as often as needed: each try uses a new segment.
//! 4. A background thread calls [`Store::prepare_spare`], and when [`Appender::sealed_through`] has grown,
//!    [`Store::snapshot_by_replay`] and then [`Store::truncate`].
//! 5. [`verify`] reads everything and reports; [`repair`] cuts the journal at the first bad record and moves the rest
//!    aside; [`rewind`] goes back to the newest snapshot and moves the later records aside; [`History`] reads the
//!    recorded commands for tools.
//!
//! `docs/journal-format.md` has the format, and how a torn tail is distinguished from damage.
//!
//! Cost: 28 bytes a record besides its command, one system call to write and one to sync a batch; reading checks about
//! eight million records a second; applying them to a hub takes about six times as long.

mod append;
mod batch;
mod build;
mod divergence;
mod folder;
mod format;
mod history;
mod lost;
mod read;
mod recover;
mod repair;
mod replay;
mod rewind;
#[cfg_attr(feature = "sim-mutants", path = "../../mutated/journal.rs")]
mod rules;
mod snapshot;
mod store;
mod tail;
#[cfg(test)]
mod tests;
mod verify;

pub use append::{AppendError, Appender};
pub use batch::{Batch, PAYLOAD_BYTES_MAX};
pub use build::{BUILD_BYTES, Build};
pub use divergence::{Cause, Divergence};
pub use folder::{LockError, NotOurs, Options};
pub use format::{FORMAT_VERSION, HubId, Identity};
pub use history::{History, HistoryError};
pub use lost::Lost;
pub use read::{BadRecord, Item, Mark, ReadError, Reader, Reason, Record, Unreadable};
pub use recover::{Notice, OpenError, Recovered, Recovery, RecoveryReport, random_salt, recover};
pub use repair::{RepairError, RepairReport, repair};
pub use replay::{Progress, ReplayError};
pub use rewind::{RewindReport, RewindTarget, rewind};
pub use snapshot::{SnapshotError, SnapshotInfo, SnapshotReader, SnapshotReport, SnapshotWriter};
pub use store::{Store, Truncated};
pub use tail::{Tail, TornTail};
pub use verify::{
    ReplayCheck, SegmentReport, SegmentStatus, SnapshotCheck, VerifyReport, inspect, is_in_use, verify, verify_on,
};
