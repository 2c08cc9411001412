//! Log: the journal and snapshot of a run in memory, and hubs rebuilt from them.
//!
//! It follows the rules of the shell: a command that changed something is written, encoded, with the later of its
//! instant and the hub's; synced records survive a crash, written ones may or may not. Each record is stored with the
//! live hub's hashes right after it, so that a rebuilt hub is compared at every record and not only at the last.

use crate::model_check::violation::Violation;
use sheratan_core::{Command, Envelope, Hub, HubKey, Restore, Timestamp};
use sheratan_history::{SnapshotOf, Source, records_of};

/// How many records there are between two digests of the whole state; a digest costs as much as some hundred commands.
const DIGEST_EVERY: usize = 16;

/// Rebuilt digests are compared for so many of the last records.
const DIGESTS_COMPARED: usize = 48;

/// An in-memory journal with its snapshot.
#[derive(Debug)]
pub struct Log {
    key: HubKey,
    records: Vec<Record>,
    synced: usize,
    snapshot: Option<Snapshot>,
}

/// A journaled command, and the live hub after it.
#[derive(Debug)]
struct Record {
    now: Timestamp,
    bytes: Vec<u8>,
    outcome_hash: [u8; 16],
    digest: Option<[u8; 32]>,
}

/// A snapshot of the state after the first `after` records.
#[derive(Debug)]
struct Snapshot {
    after: usize,
    records: Vec<Vec<u8>>,
}

impl Log {
    /// An empty log of the hub with that key.
    pub fn new(key: HubKey) -> Self {
        Log { key, records: Vec::new(), synced: 0, snapshot: None }
    }

    /// Writes a command; `hub` has just applied it at `now`.
    pub fn append(&mut self, now: Timestamp, bytes: Vec<u8>, hub: &Hub) {
        let is_remembered = self.records.len().is_multiple_of(DIGEST_EVERY);
        let digest = is_remembered.then(|| hub.digest());
        self.records.push(Record { now, bytes, outcome_hash: hub.outcome_hash(), digest });
    }

    /// Makes all written records durable.
    pub fn sync(&mut self) {
        self.synced = self.records.len();
    }

    /// How many records were written.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether nothing was written.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// How many records are left after a crash that keeps `kept` of those not yet synced.
    pub fn left_after_crash(&self, kept: u64) -> usize {
        self.synced + (self.records.len() - self.synced).min(usize::try_from(kept).unwrap_or(usize::MAX))
    }

    /// Makes a snapshot. Of the live hub only with everything synced, as at a clean stop.
    pub fn make_snapshot(&mut self, of: SnapshotOf, live: &Hub) -> Result<(), Violation> {
        let (after, records) = match of {
            SnapshotOf::Live => {
                self.sync();
                (self.records.len(), records_of(live))
            }
            SnapshotOf::Replay => (self.synced, records_of(&self.rebuild(self.synced, Source::Snapshot)?)),
        };
        self.snapshot = Some(Snapshot { after, records });
        Ok(())
    }

    /// Drops the records after the first `left`.
    pub fn truncate(&mut self, left: usize) {
        self.records.truncate(left);
        self.synced = left;
    }

    /// The commands, as a reader of the journal finds them.
    pub fn commands(&self) -> impl Iterator<Item = Result<(Timestamp, Command), Violation>> {
        self.records.iter().enumerate().map(|(index, record)| Ok((record.now, self.decode(index)?)))
    }

    /// A hub rebuilt from the first `left` records, or from the snapshot and those after it. Fails if at some record it
    /// differs from the live hub.
    pub fn rebuild(&self, left: usize, from: Source) -> Result<Hub, Violation> {
        let (first, mut hub) = match (&self.snapshot, from) {
            (Some(snapshot), Source::Snapshot) => (snapshot.after, self.restore(snapshot)?),
            _ => (0, Hub::new(self.key)),
        };
        for index in first..left {
            let record = &self.records[index];
            let outcome = hub.apply(record.now, self.decode(index)?);
            if !outcome.is_durable() || hub.outcome_hash() != record.outcome_hash {
                let text = format!("from {from:?}, record {} of {left} had another outcome: {outcome:?}", index + 1);
                return Err(Violation::Replay(text));
            }
            let digest = record.digest.filter(|_| index + DIGESTS_COMPARED >= left);
            if digest.is_some_and(|digest| digest != hub.digest()) {
                let text = format!("from {from:?}, the state after record {} of {left} is another", index + 1);
                return Err(Violation::Replay(text));
            }
        }
        Ok(hub)
    }

    fn restore(&self, snapshot: &Snapshot) -> Result<Hub, Violation> {
        let failed = |error| Violation::Replay(format!("the snapshot cannot be read: {error}"));
        let mut restore = Restore::new(self.key);
        for record in &snapshot.records {
            restore.record(record).map_err(failed)?;
        }
        let hub = restore.finish().map_err(failed)?;
        if records_of(&hub) != snapshot.records {
            return Err(Violation::Replay("a restored hub writes another snapshot than it was read from".to_owned()));
        }
        Ok(hub)
    }

    fn decode(&self, index: usize) -> Result<Command, Violation> {
        Envelope::decode(&self.records[index].bytes)
            .map(|envelope| envelope.command)
            .map_err(|error| Violation::Replay(format!("record {} cannot be read: {error}", index + 1)))
    }
}
