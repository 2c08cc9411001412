//! Recovery: restores a hub from a data folder, in the state of its last durable record.

use super::append::{self, AppendError, Appender, Start};
use super::build::Build;
use super::divergence::Divergence;
use super::folder::{Folder, LockError, Options, SnapshotFile};
use super::format::{HubId, Identity};
use super::read::{BadRecord, End, Item, ReadError, Reader, Reason, Unreadable};
use super::replay::{self, Progress, Replica, Stopped};
use super::rules;
use super::snapshot::SnapshotError;
use super::store::Store;
use super::tail::{Tail, TornTail};
use serde::Serialize;
use sheratan_core::{Hub, HubKey, Salt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;
use std::{fmt, io};

/// Locks the data folder, restores the newest readable snapshot, replays the records after it, and makes the journal
/// ready for more: [`Store::open`], then [`Recovered::replay`].
pub fn recover(
    data_folder: &Path,
    options: Options,
    progress: &mut dyn FnMut(Progress),
) -> Result<Recovery, OpenError> {
    Store::open(data_folder, options)?.1.replay(progress)
}

/// A hub and its journal.
#[derive(Debug)]
pub struct Recovery {
    /// The state after the last record.
    pub hub: Hub,
    /// Appends after that record.
    pub appender: Appender,
    /// For the background threads.
    pub store: Store,
    /// What was found.
    pub report: RecoveryReport,
}

/// The findings of a start.
#[derive(Clone, Debug, Serialize)]
pub struct RecoveryReport {
    /// The last record of the snapshot that was restored; `None` without one.
    pub snapshot_seq: Option<u64>,
    /// Records replayed after it.
    pub records: u64,
    /// The number of the next record.
    pub next_seq: u64,
    /// Findings that the operator should know.
    pub notices: Vec<Notice>,
    /// How long it took.
    pub took_ms: u64,
}

/// A finding that did not prevent the start, but that the operator should know.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case", tag = "notice")]
pub enum Notice {
    /// A torn batch was cut, which was never acknowledged.
    Torn(TornTail),
    /// A snapshot could not be read; an older one, or the journal from its start, was used instead.
    SnapshotBad {
        /// Where it is now.
        file: PathBuf,
        /// Why.
        reason: String,
    },
    /// There is no room for the segment with which the journal continues; the hub serves reads until there is.
    NoSpace(String),
    /// The disk does not give a snapshot; an older one, or the journal from its start, was used instead.
    SnapshotUnreadable {
        /// The file.
        file: PathBuf,
        /// Why.
        reason: String,
    },
    /// The disk does not give some bytes behind a segment's records. Nothing is lost, and the disk is failing.
    Unreadable(Unreadable),
    /// The snapshot is newer than the journal's end, which must have been cut. Nothing is lost.
    JournalBehind {
        /// The last record in the snapshot.
        snapshot_seq: u64,
        /// The last record in the journal.
        journal_seq: u64,
    },
}

/// Why the hub cannot start on this data folder.
#[derive(Debug)]
pub enum OpenError {
    /// The folder cannot be locked.
    Lock(LockError),
    /// The journal is damaged before its end.
    BadRecord(BadRecord),
    /// A file cannot be read or written.
    Io {
        /// The file or folder.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The replay diverged from the hub that wrote the journal. Nothing was written or renamed.
    Diverged(Box<Divergence>),
    /// The newest snapshot has another build's format.
    Snapshot(SnapshotError),
    /// The journal cannot be written.
    Append(AppendError),
    /// The system provides no randomness for the hub's key.
    Randomness(getrandom::Error),
}

/// A journal that is being read: [`replay`](Recovered::replay) does everything. Its steps:
/// [`restore`](Recovered::restore), then [`next`](Recovered::next) until it returns `None`, then
/// [`finish`](Recovered::finish).
#[derive(Debug)]
pub struct Recovered {
    store: Store,
    epoch_last: u64,
    covered_seq: u64,
    reader: Option<Reader>,
    /// Snapshots that are of no use, and why: the damaged ones are set aside when the start succeeds.
    bad_snapshots: Vec<(PathBuf, SnapshotError)>,
}

impl Store {
    /// Locks a data folder and opens its journal, which is created on the first start: with an id and a key of its own,
    /// durable before the first record can be.
    pub fn open(data_folder: &Path, options: Options) -> Result<(Store, Recovered), OpenError> {
        let folder = Arc::new(Folder::lock(options.disk.clone(), data_folder).map_err(OpenError::Lock)?);
        let journal = folder.journal();
        let failed = |source| OpenError::Io { file: journal.clone(), source };
        let Some(newest) = folder.segments().map_err(failed)?.pop() else {
            append::remove_leftovers(&folder).map_err(failed)?;
            return Store::create(folder, options);
        };
        let header = newest.header().map_err(|source| OpenError::Io { file: newest.path.clone(), source })?;
        let header = header.map_err(|error| {
            let (file, seq) = (newest.path.clone(), newest.first_seq);
            OpenError::BadRecord(BadRecord { file, offset: 0, seq, reason: Reason::of_header(error) })
        })?;
        let store = Store::new(folder, options, header.identity);
        let recovered = Recovered::new(store.clone(), header.epoch);
        Ok((store, recovered))
    }

    fn create(folder: Arc<Folder>, options: Options) -> Result<(Store, Recovered), OpenError> {
        let snapshots = folder.snapshot_files().map_err(|source| OpenError::Io { file: folder.snapshots(), source })?;
        let set_aside = folder.set_aside_snapshots();
        let set_aside = set_aside.map_err(|source| OpenError::Io { file: folder.snapshots(), source })?;
        if !snapshots.is_empty() || !set_aside.is_empty() {
            let seq = snapshots.first().map_or(1, |newest| newest.covered_seq + 1);
            let reason = Reason::Missing { first_seq: 0 };
            let file = folder.segment_path(seq);
            return Err(OpenError::BadRecord(BadRecord { file, offset: 0, seq, reason }));
        }
        let identity = match options.new_identity {
            Some(identity) => identity,
            None => random_identity().map_err(OpenError::Randomness)?,
        };
        // Durable now: ids made with the key must never outlive it.
        let start = Start { epoch_last: 0, next_seq: 1, sealed_through: 0 };
        let mut appender = Appender::new(folder.clone(), options.clone(), identity, start);
        appender.rewrite(1, Some(Hub::new(identity.key).outcome_hash()), &mut []).map_err(OpenError::Append)?;
        let store = Store::new(folder, options, identity);
        let recovered = Recovered::new(store.clone(), 1);
        Ok((store, recovered))
    }
}

impl Recovered {
    pub(crate) fn new(store: Store, epoch_last: u64) -> Recovered {
        Recovered { store, epoch_last, covered_seq: 0, reader: None, bad_snapshots: Vec::new() }
    }

    /// Restores the newest readable snapshot, replays the records after it, and makes the journal ready for appending.
    ///
    /// `progress` is called every few thousand records. It takes about a microsecond for each job of the snapshot, and
    /// the time of [`Hub::apply`] for each record.
    pub fn replay(mut self, progress: &mut dyn FnMut(Progress)) -> Result<Recovery, OpenError> {
        let started_at = Instant::now();
        let store = self.store.clone();
        let hub = self.restore()?;
        let snapshot_seq = hub.is_some().then_some(self.covered_seq);
        let mut replica = Replica::new(hub.unwrap_or_else(|| Hub::new(store.identity().key)));
        let mut progress = |so_far| {
            progress(so_far);
            true
        };
        replay::follow(&mut replica, self.reader()?, &store.folder, snapshot_seq, &mut progress)?;
        let (records, hash) = (replica.records, replica.hub.outcome_hash());
        let (appender, notices) = self.finish(replica.hash_before_batch, hash)?;
        let took_ms = u64::try_from(started_at.elapsed().as_millis()).unwrap_or(u64::MAX);
        let report = RecoveryReport { snapshot_seq, records, next_seq: appender.next_seq(), notices, took_ms };
        Ok(Recovery { hub: replica.hub, appender, store, report })
    }

    /// The hub of the newest readable snapshot; [`next`](Recovered::next) then starts with the record after it. Without
    /// this call it starts with the first record.
    pub fn restore(&mut self) -> Result<Option<Hub>, OpenError> {
        let folder = &self.store.folder;
        let snapshots = folder.snapshot_files().map_err(|source| OpenError::Io { file: folder.snapshots(), source })?;
        for SnapshotFile { path, .. } in snapshots {
            match replay::load(folder.disk(), &path, self.store.identity()) {
                Ok((hub, covered_seq)) => {
                    self.covered_seq = covered_seq;
                    return Ok(Some(hub));
                }
                Err(error) if error.is_lost() => self.bad_snapshots.push((path, error)),
                Err(error) => return Err(OpenError::Snapshot(error)),
            }
        }
        Ok(None)
    }

    /// The next record or mark.
    #[allow(clippy::should_implement_trait, reason = "an iterator cannot lend")]
    pub fn next(&mut self) -> Result<Option<Item<'_>>, OpenError> {
        Ok(self.reader()?.next()?)
    }

    /// Makes the journal ready for appending; nothing is written or renamed before. The two outcome hashes, before the
    /// last batch that was read and after it, go into the header of a new segment, if one is needed.
    ///
    /// Whether the last batch had reached the disk is not known (it may have been read from the system's memory), so it
    /// is written once more: in its place, or, if a torn one followed or it is torn itself, at the start of a new
    /// segment. A segment of another build gets no further records: this build's records go into a segment that names
    /// this build.
    pub fn finish(mut self, hash_before_batch: [u8; 16], hash: [u8; 16]) -> Result<(Appender, Vec<Notice>), OpenError> {
        while self.next()?.is_some() {}
        let mut notices = self.set_bad_snapshots_aside()?;
        let Recovered { store, epoch_last, covered_seq, reader, .. } = self;
        let journal = store.folder.journal();
        append::remove_leftovers(&store.folder).map_err(|source| OpenError::Io { file: journal, source })?;
        let End { next_seq, tail, segment, has_holes, unreadable, offset, last_batch } =
            reader.expect("it was read to its end").into_end();
        notices.extend(unreadable.into_iter().map(Notice::Unreadable));
        let is_behind = next_seq <= covered_seq;
        if is_behind {
            notices.push(Notice::JournalBehind { snapshot_seq: covered_seq, journal_seq: next_seq - 1 });
        }
        let next_seq = next_seq.max(covered_seq + 1);
        let sealed_through = match &segment {
            Some((_, header)) if tail != Tail::Sealed => header.first_seq - 1,
            _ => next_seq - 1,
        };
        let start = Start { epoch_last, next_seq, sealed_through };
        let mut appender = Appender::new(store.folder, store.options, store.identity, start);
        match (tail, segment) {
            // Into a segment that the disk does not give back whole nothing more is written.
            (tail, Some((file, header))) if rules::may_resume(&tail) && !is_behind && !has_holes => {
                let records = rules::records_to_rewrite(last_batch);
                appender
                    .resume(&file.path, &header, offset as u64, &records)
                    .map_err(|source| OpenError::Io { file: file.path, source })?;
                if header.written_by != Build::THIS {
                    rewrite_or_owe(&mut appender, &mut notices, next_seq, Some(hash), Vec::new())?;
                }
            }
            (tail @ (Tail::Torn(_) | Tail::Clean), _) => {
                if let Tail::Torn(torn) = tail {
                    notices.push(Notice::Torn(torn));
                }
                let (first_seq, hash, records) = match last_batch {
                    Some((first_seq, records)) if !is_behind => (first_seq, hash_before_batch, records),
                    _ => (next_seq, hash, Vec::new()),
                };
                rewrite_or_owe(&mut appender, &mut notices, first_seq, Some(hash), records)?;
            }
            // The first append makes a new segment.
            _ => {}
        }
        Ok((appender, notices))
    }

    /// Moves damaged snapshots aside, which would otherwise count among the kept ones. One that the disk does not give
    /// may be intact: it stays, and does not count.
    fn set_bad_snapshots_aside(&mut self) -> Result<Vec<Notice>, OpenError> {
        let disk = self.store.folder.disk();
        let mut notices = Vec::new();
        for (path, error) in self.bad_snapshots.drain(..) {
            let reason = error.to_string();
            if !matches!(error, SnapshotError::Bad { .. }) {
                self.store.pass_over(&path);
                notices.push(Notice::SnapshotUnreadable { file: path, reason });
                continue;
            }
            let aside = path.with_extension("bad");
            disk.rename(&path, &aside).map_err(|source| OpenError::Io { file: path, source })?;
            notices.push(Notice::SnapshotBad { file: aside, reason });
        }
        Ok(notices)
    }

    fn reader(&mut self) -> Result<&mut Reader, OpenError> {
        if self.reader.is_none() {
            let identity = Some(*self.store.identity());
            self.reader = Some(Reader::new(&self.store.folder, identity, self.covered_seq + 1, u64::MAX)?);
        }
        Ok(self.reader.as_mut().expect("it was made above"))
    }
}

/// Begins a new segment with these records. On a full disk the start goes on without it: the first append tries again,
/// and until then the hub serves reads.
fn rewrite_or_owe(
    appender: &mut Appender,
    notices: &mut Vec<Notice>,
    first_seq: u64,
    hash: Option<[u8; 16]>,
    mut records: Vec<u8>,
) -> Result<(), OpenError> {
    match appender.rewrite(first_seq, hash, &mut records) {
        Err(error @ AppendError::NoSpace { .. }) => {
            notices.push(Notice::NoSpace(error.to_string()));
            appender.owe(first_seq, hash, records);
            Ok(())
        }
        rewritten => rewritten.map_err(OpenError::Append),
    }
}

/// An id and a key that no other hub has.
fn random_identity() -> Result<Identity, getrandom::Error> {
    let (mut hub_id, mut key) = ([0; 16], [0; 16]);
    getrandom::fill(&mut hub_id)?;
    getrandom::fill(&mut key)?;
    Ok(Identity { hub_id: HubId(hub_id), key: HubKey::new(key) })
}

/// A salt for a start's ids that no other start has.
pub fn random_salt() -> io::Result<Salt> {
    let mut salt = [0; 8];
    getrandom::fill(&mut salt).map_err(|error| io::Error::other(error.to_string()))?;
    Ok(Salt::new(salt))
}

impl From<LockError> for OpenError {
    fn from(error: LockError) -> Self {
        OpenError::Lock(error)
    }
}

impl From<ReadError> for OpenError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Bad(bad) => OpenError::BadRecord(bad),
            ReadError::Io { file, source } => OpenError::Io { file, source },
        }
    }
}

impl From<Stopped> for OpenError {
    fn from(stopped: Stopped) -> Self {
        match stopped {
            Stopped::Diverged(divergence) => OpenError::Diverged(divergence),
            Stopped::Cancelled => unreachable!("a start is not cancelled: its progress always says to go on"),
            Stopped::Read(error) => error.into(),
        }
    }
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Notice::Torn(torn) => write!(f, "the journal's end was cut: {torn}"),
            Notice::SnapshotBad { file, reason } => {
                write!(f, "{reason}; it was set aside as {} and the start went on without it", file.display())
            }
            Notice::NoSpace(reason) => write!(f, "{reason}; until then the hub only serves reads"),
            Notice::SnapshotUnreadable { reason, .. } => write!(
                f,
                "{reason}; it cannot be read, stays where it is, and the start went on without it: check the disk"
            ),
            Notice::Unreadable(Unreadable { file, offset, bytes }) => write!(
                f,
                "the disk does not give the {bytes} bytes at offset {offset} of {}: no record is lost, but check the disk",
                file.display()
            ),
            Notice::JournalBehind { snapshot_seq, journal_seq } => write!(
                f,
                "the journal ends at record {journal_seq}, before the snapshot's {snapshot_seq}: the start went on from the snapshot"
            ),
        }
    }
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OpenError::Lock(error) => error.fmt(f),
            OpenError::BadRecord(bad) if !bad.reason.is_damage() => bad.fmt(f),
            OpenError::BadRecord(bad) => write!(f, "{bad}: {}", bad.reason.advice()),
            OpenError::Io { file, source } => write!(f, "{}: {source}", file.display()),
            OpenError::Diverged(divergence) => write!(f, "the journal cannot be replayed: {divergence}"),
            OpenError::Snapshot(error) => error.fmt(f),
            OpenError::Append(error) => error.fmt(f),
            OpenError::Randomness(error) => write!(f, "the system gives no randomness for the hub's key: {error}"),
        }
    }
}

impl std::error::Error for OpenError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            OpenError::Lock(error) => Some(error),
            OpenError::BadRecord(_) | OpenError::Diverged(_) | OpenError::Randomness(_) => None,
            OpenError::Io { source, .. } => Some(source),
            OpenError::Snapshot(error) => Some(error),
            OpenError::Append(error) => Some(error),
        }
    }
}
