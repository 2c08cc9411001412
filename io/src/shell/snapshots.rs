//! Snapshots: made in a thread of their own by replaying the sealed segments, so that the loop never stops for one.
//!
//! The cost of a snapshot depends on the size of the state, not on what has changed: about 4 µs a job, three times
//! (restored, written, verified). So the next snapshot waits until the journal after the last one is as large as that
//! snapshot and at least [`JOURNAL_BYTES_MIN`]: then all snapshots together cost about as much as writing the journal,
//! and a start replays at most twice what it restores.
//!
//! Each replay compares the outcome hash with the one that the live hub wrote at each segment's end: production checks
//! its own determinism all the time. Segments are deleted only after the snapshot was restored from the disk.

use crate::journal::{Progress, ReplayError, SnapshotReport, Store};
use crate::platform;
use crate::thread::{self, END_MAX, Thread};
use crossbeam_channel::{Receiver, Sender, bounded};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A start replays this much in a second or two, so a snapshot is not worth it.
const JOURNAL_BYTES_MIN: u64 = 256 << 20;

/// With small segments, which tests use, this many of them are enough.
const SEGMENTS_MIN: u64 = 4;

/// The handle to the snapshots' thread.
pub struct Snapshots {
    sealed: Option<Sender<u64>>,
    is_stopping: Arc<AtomicBool>,
    thread: Option<Thread<()>>,
}

impl Snapshots {
    /// Starts the thread; it prepares a spare segment first.
    pub fn start(store: Store, segment_bytes: u64) -> io::Result<Self> {
        let (sealed, receiver) = bounded(1);
        let is_stopping = Arc::new(AtomicBool::new(false));
        let flag = is_stopping.clone();
        let thread = thread::spawn("snapshots", move || {
            if let Err(error) = platform::lower_thread_priority() {
                tracing::debug!(%error, "the snapshots' thread keeps its priority");
            }
            run(&store, segment_bytes, &receiver, &flag);
        })?;
        Ok(Snapshots { sealed: Some(sealed), is_stopping, thread: Some(thread) })
    }

    /// Where the loop sends the last record of each sealed segment.
    pub fn sealed(&self) -> Sender<u64> {
        self.sealed.clone().expect("it is dropped at the end only")
    }

    /// Ends the thread; a snapshot in progress is abandoned.
    pub fn finish(mut self) {
        self.is_stopping.store(true, Ordering::SeqCst);
        self.sealed = None;
        self.thread.take().map(|thread| thread.join(END_MAX));
    }
}

fn run(store: &Store, segment_bytes: u64, sealed: &Receiver<u64>, is_stopping: &AtomicBool) {
    prepare_spare(store);
    for through in sealed {
        if is_stopping.load(Ordering::SeqCst) {
            return;
        }
        match follow(store, through, segment_bytes, &mut |_| !is_stopping.load(Ordering::SeqCst)) {
            Ok(Some(report)) => tracing::info!(
                covered_seq = report.covered_seq,
                records = report.records,
                bytes = report.bytes,
                replayed = report.replayed,
                "a snapshot was made, and the replay agreed with the hub"
            ),
            Ok(None) => {}
            Err(ReplayError::Cancelled) => return,
            Err(error @ ReplayError::Diverged(_)) => {
                tracing::error!(alert = "REPLAY_DIVERGED", "{error}");
            }
            Err(error) => tracing::error!("no snapshot could be made: {error}"),
        }
    }
}

/// Acts on sealed segments, whose last record is `through`: prepares the next segment and, if a snapshot is worth its
/// cost, makes one and truncates the journal that it covers. `progress` returns `false` to stop.
pub fn follow(
    store: &Store,
    through: u64,
    segment_bytes: u64,
    progress: &mut dyn FnMut(Progress) -> bool,
) -> Result<Option<SnapshotReport>, ReplayError> {
    prepare_spare(store);
    if !is_due(store, through, segment_bytes) {
        return Ok(None);
    }
    let report = store.snapshot_by_replay(through, &mut |so_far| {
        // A snapshot takes longer than the segments that fill meanwhile: without a spare each roll makes its file.
        prepare_spare(store);
        progress(so_far)
    })?;
    match store.truncate(&report) {
        Ok(truncated) => tracing::debug!(?truncated, "the journal was truncated"),
        Err(error) => tracing::error!(%error, "the journal cannot be truncated"),
    }
    Ok(Some(report))
}

/// Whether the journal has grown enough that a snapshot is worth its cost.
fn is_due(store: &Store, through: u64, segment_bytes: u64) -> bool {
    match store.growth(through) {
        Ok((journal_bytes, snapshot_bytes)) => {
            journal_bytes >= snapshot_bytes.max(JOURNAL_BYTES_MIN.min(SEGMENTS_MIN * segment_bytes))
        }
        Err(error) => {
            tracing::error!(%error, "the journal's folder cannot be read");
            false
        }
    }
}

/// Prepares the next segment before it is needed; without it the journal makes one, which delays a batch.
fn prepare_spare(store: &Store) {
    if let Err(error) = store.prepare_spare() {
        tracing::warn!(%error, "no spare segment can be prepared");
    }
}
