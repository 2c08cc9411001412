//! Snapshots: the durable state as a sequence of records, and back.
//!
//! Only what cannot be derived is written: lanes, timers, counts and indexes are rebuilt. Records come in a fixed order
//! (head, nodes by number, jobs by sequence, idempotency keys by hash), so equal states give equal bytes and
//! [`Hub::digest`] is the SHA-256 over them. Encoding and reading back take about a microsecond a job.

use crate::dedup::Entry;
use crate::hub::Hub;
use crate::ids::{HubKey, JobSeq};
use crate::limits::{Limits, NODES_MAX};
use crate::queue::JobRecord;
use crate::registry::node::Node;
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fmt;

/// One record of a snapshot. Like commands, variants are only ever appended.
#[derive(Serialize, Deserialize)]
enum Record {
    Head(Box<Head>),
    Node(Box<Node>),
    Job(Box<JobRecord>),
    Key(u128, Box<Entry>),
    /// Ends the snapshot, so that a shorter one is never taken for whole.
    End,
    /// How many nodes may be known, behind the head; absent while it is the default, so that the digests and snapshots of
    /// hubs that never set it stay as they were.
    NodesMax(u64),
}

#[derive(Serialize, Deserialize)]
struct Head {
    now: Timestamp,
    outcome_chain: u128,
    limits: Limits,
    next_node: u32,
    next_numbers: (JobSeq, u64),
}

/// A snapshot cannot be read back.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RestoreError {
    /// A record is not one, or not of this version.
    Malformed(postcard::Error),
    /// Records come in an order that no hub writes.
    OutOfOrder,
    /// The last record is missing.
    Incomplete,
    /// A record contradicts another.
    Contradiction(&'static str),
}

/// Reads a snapshot record by record.
pub struct Restore {
    hub: Hub,
    stage: Stage,
}

#[derive(Clone, Copy, PartialEq, PartialOrd)]
enum Stage {
    Head,
    Nodes,
    Jobs,
    Keys,
    Ended,
}

impl Hub {
    /// Hands each record of the durable state to `sink`. O(n) in nodes, jobs and keys.
    pub fn snapshot(&self, mut sink: impl FnMut(&[u8])) {
        let mut buffer = Vec::new();
        let mut put = |record: Record| {
            buffer.clear();
            buffer = postcard::to_extend(&record, std::mem::take(&mut buffer))
                .expect("records have no types that postcard cannot encode");
            sink(&buffer);
        };
        put(Record::Head(Box::new(Head {
            now: self.now,
            outcome_chain: self.outcome_chain,
            limits: self.limits.clone(),
            next_node: self.registry.next_no(),
            next_numbers: self.queue.next_numbers(),
        })));
        if self.registry.nodes_max() != NODES_MAX {
            put(Record::NodesMax(self.registry.nodes_max()));
        }
        self.registry.in_order().for_each(|node| put(Record::Node(Box::new(node.clone()))));
        self.queue.records().for_each(|job| put(Record::Job(Box::new(job))));
        self.dedup.iter().for_each(|(key, entry)| put(Record::Key(key, Box::new(entry.clone()))));
        put(Record::End);
    }

    /// SHA-256 over the durable state. Same journal, same digest, on every machine and in every build. O(n).
    pub fn digest(&self) -> [u8; 32] {
        let mut hasher = Sha256::new();
        self.snapshot(|record| {
            hasher.update((record.len() as u64).to_le_bytes());
            hasher.update(record);
        });
        hasher.finalize().into()
    }
}

impl Restore {
    /// Starts to read the snapshot of the hub with that key.
    pub fn new(key: HubKey) -> Self {
        Restore { hub: Hub::new(key), stage: Stage::Head }
    }

    /// Takes the next record.
    pub fn record(&mut self, bytes: &[u8]) -> Result<(), RestoreError> {
        let record = postcard::from_bytes(bytes).map_err(RestoreError::Malformed)?;
        let stage = match &record {
            Record::Head(_) => Stage::Head,
            Record::NodesMax(_) | Record::Node(_) => Stage::Nodes,
            Record::Job(_) => Stage::Jobs,
            Record::Key(..) => Stage::Keys,
            Record::End => Stage::Ended,
        };
        let is_in_order = match self.stage {
            Stage::Head => stage == Stage::Head,
            Stage::Ended => false,
            _ => stage >= self.stage && stage != Stage::Head,
        };
        if !is_in_order {
            return Err(RestoreError::OutOfOrder);
        }
        self.stage = if stage == Stage::Head { Stage::Nodes } else { stage };
        self.put(record)
    }

    /// The hub, when the last record was taken.
    pub fn finish(mut self) -> Result<Hub, RestoreError> {
        if self.stage != Stage::Ended {
            return Err(RestoreError::Incomplete);
        }
        self.hub.queue.restored();
        Ok(self.hub)
    }

    fn put(&mut self, record: Record) -> Result<(), RestoreError> {
        let (mut cx, parts) = self.hub.split();
        match record {
            Record::Node(node) => parts.registry.restore(&mut cx, *node),
            Record::Job(job) => {
                parts.queue.restore(&mut cx, parts.registry, *job).map_err(RestoreError::Contradiction)?;
            }
            Record::Key(key, entry) => parts.dedup.restore(&mut cx, key, *entry),
            Record::End => {}
            Record::NodesMax(nodes_max) => parts.registry.limit(nodes_max),
            Record::Head(head) => {
                parts.registry.restore_next_no(head.next_node);
                parts.queue.restore_next_numbers(head.next_numbers);
                self.hub.limits = head.limits;
                self.hub.now = head.now;
                self.hub.outcome_chain = head.outcome_chain;
            }
        }
        Ok(())
    }
}

impl fmt::Display for RestoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RestoreError::Malformed(error) => write!(f, "a record of the snapshot cannot be read: {error}"),
            RestoreError::OutOfOrder => f.write_str("the records of the snapshot are out of order"),
            RestoreError::Incomplete => f.write_str("the snapshot ends before its last record"),
            RestoreError::Contradiction(what) => write!(f, "the snapshot contradicts itself: {what}"),
        }
    }
}

impl std::error::Error for RestoreError {}
