//! The tape: the journal of a simulated hub, and its snapshots, in memory; and what comes of reading them again.

use sheratan_core::command::Command;
use sheratan_core::hub::Hub;
use sheratan_core::ids::HubKey;
use sheratan_core::snapshot::Restore;
use sheratan_core::time::Timestamp;

/// One record.
#[derive(Clone, Debug)]
struct Entry {
    now: Timestamp,
    command: Vec<u8>,
    /// What the hub's outcome hash was after it.
    hash: [u8; 16],
}

/// A snapshot, and the records that it covers.
#[derive(Clone, Debug)]
struct Snapshot {
    covered: usize,
    records: Vec<Vec<u8>>,
}

/// A journal.
#[derive(Clone, Debug)]
pub struct Tape {
    key: HubKey,
    entries: Vec<Entry>,
    snapshot: Option<Snapshot>,
}

impl Tape {
    /// The empty journal of a hub.
    pub fn new(key: HubKey) -> Self {
        Tape { key, entries: Vec::new(), snapshot: None }
    }

    /// Records a command, as it is applied next.
    pub fn begin(command: &Command) -> Vec<u8> {
        let mut bytes = Vec::new();
        command.encode(&mut bytes);
        bytes
    }

    /// Keeps a command that changed something.
    pub fn push(&mut self, now: Timestamp, command: Vec<u8>, hash: [u8; 16]) {
        self.entries.push(Entry { now, command, hash });
    }

    /// How many records there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Keeps the hub's state.
    pub fn snapshot(&mut self, hub: &Hub) {
        let mut records = Vec::new();
        hub.snapshot(|record| records.push(record.to_vec()));
        self.snapshot = Some(Snapshot { covered: self.entries.len(), records });
    }

    /// Loses the last records, as a crash does before they are durable; at most those behind the snapshot.
    pub fn lose(&mut self, count: usize) {
        let covered = self.snapshot.as_ref().map_or(0, |snapshot| snapshot.covered);
        let kept = self.entries.len().saturating_sub(count).max(covered);
        self.entries.truncate(kept);
    }

    /// The hub that the whole journal makes.
    pub fn replay(&self) -> Result<Hub, String> {
        self.replay_onto(Hub::new(self.key), 0)
    }

    /// The hub that the last snapshot and the records behind it make.
    pub fn recover(&self) -> Result<Hub, String> {
        let Some(snapshot) = &self.snapshot else { return self.replay() };
        let mut restore = Restore::new(self.key);
        for record in &snapshot.records {
            restore.record(record).map_err(|error| format!("the snapshot cannot be read: {error}"))?;
        }
        let hub = restore.finish().map_err(|error| format!("the snapshot cannot be read: {error}"))?;
        self.replay_onto(hub, snapshot.covered)
    }

    fn replay_onto(&self, mut hub: Hub, from: usize) -> Result<Hub, String> {
        for (at, entry) in self.entries.iter().enumerate().skip(from) {
            let command = Command::decode(&entry.command).map_err(|error| format!("record {at}: {error}"))?;
            let outcome = hub.apply(entry.now, command);
            hub.effects().clear();
            if !outcome.is_durable() {
                return Err(format!("record {at} changed something when it was written, and nothing when replayed"));
            }
            if hub.outcome_hash() != entry.hash {
                return Err(format!("record {at} was decided otherwise when replayed"));
            }
        }
        Ok(hub)
    }
}
