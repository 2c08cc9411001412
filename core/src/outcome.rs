//! Outcomes: what the state machine answers to a command, refusals included.

use crate::ids::{JobSeq, LeaseRef, NodeIndex};
use crate::limits::{BACKPRESSURE_RETRY_MS, CLASSES_MAX, CLASSES_PER_ZONE_MAX};
use crate::payload::Payload;
use crate::time::{Millis, Timestamp};
use crate::zone::Zone;

/// The answer to a command.
#[derive(Clone, PartialEq, Debug)]
pub enum Outcome {
    /// Done; there is nothing to say.
    Done,
    /// A heartbeat was taken.
    Heard {
        /// The node's number.
        node: NodeIndex,
    },
    /// A submit was taken or recognised.
    Submitted(Submitted),
    /// A pull was answered.
    Pulled(Pulled),
    /// Leases were looked at, in the order they were named.
    Extended(Vec<Extended>),
    /// A result was taken or recognised.
    Completed(Completed),
    /// Nothing was changed, and why.
    Refused(Refusal),
}

/// What came of a submit.
#[derive(Clone, PartialEq, Debug)]
pub enum Submitted {
    /// A new job.
    Accepted {
        /// The job.
        job: JobSeq,
        /// The older job under the same key that this one took the place of.
        supersedes: Option<JobSeq>,
        /// The job under the same key that had ended without success.
        replaces: Option<JobSeq>,
    },
    /// The key's job is not final yet.
    InProgress {
        /// The key's job.
        job: JobSeq,
    },
    /// The key's job is final.
    Final {
        /// The key's job.
        job: JobSeq,
        /// How it ended.
        status: FinalStatus,
        /// What came of it; absent if it was too large to remember, or is forgotten.
        result: Option<Payload>,
        /// What went wrong; absent if it was too large to remember, or is forgotten.
        error: Option<Payload>,
    },
}

/// How a job ended.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum FinalStatus {
    /// Done.
    Completed,
    /// Not done, and not kept for a second look.
    Failed,
    /// Not done, kept with the dead letters.
    Dead,
    /// Taken back by a client or an operator.
    Cancelled,
    /// Its time to live was over.
    Expired,
    /// A newer job under the same key took its place.
    Superseded,
}

/// The jobs that a pull leased.
#[derive(Clone, PartialEq, Debug)]
pub struct Pulled {
    /// The node that got jobs; absent if there were none.
    pub node: Option<NodeIndex>,
    /// One entry a job, in the order to run them.
    pub leases: Vec<Leased>,
    /// How long to wait before the next pull; zero if there is no reason to.
    pub defer_ms: Millis,
}

/// A job under a new lease. The shell reads the payload from the hub, so nothing is copied here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Leased {
    /// The lease; its generation is the attempt's number.
    pub lease: LeaseRef,
    /// When it ends.
    pub until: Timestamp,
}

/// What came of a lease's extension.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Extended {
    /// It lasts until then.
    Until(Timestamp),
    /// It has ended, or another lease took its place.
    LeaseLost,
    /// The job was cancelled.
    Cancelled,
}

/// What came of a result.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Completed {
    /// The job.
    pub job: JobSeq,
    /// What became of it.
    pub status: CompletedStatus,
    /// Whether this very result had been taken before.
    pub is_duplicate: bool,
}

/// What became of a job when its result came in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CompletedStatus {
    /// It is final.
    Final(FinalStatus),
    /// It will be tried again then.
    RetryScheduled(Timestamp),
}

/// Why a command changed nothing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// As many jobs wait as may.
    QueueFull {
        /// Jobs that wait.
        depth: u64,
        /// Jobs that may.
        depth_max: u64,
    },
    /// Unfinished jobs have as many bytes as they may.
    QueueBytesFull {
        /// Bytes that they have.
        bytes: u64,
        /// Bytes that they may have.
        bytes_max: u64,
        /// Jobs that wait.
        depth: u64,
    },
    /// The names of kinds, zones and requirements have as many bytes as they may.
    SharedBytesFull {
        /// Bytes that they have.
        bytes: u64,
        /// Bytes that they may have.
        bytes_max: u64,
    },
    /// Too many distinct pairs of zone and requirements have unfinished jobs: in all, or in this zone.
    ClassesFull {
        /// How many there are.
        classes: u64,
        /// The job's zone.
        zone: Zone,
        /// How many there are in it.
        zone_classes: u64,
    },
    /// As many nodes are known as may be, and none of them is dead without leases.
    NodesFull {
        /// Nodes that are known.
        nodes: u64,
        /// Nodes that may be.
        nodes_max: u64,
    },
    /// What nodes say of themselves has as many bytes as it may.
    NodeBytesFull {
        /// Bytes that it has.
        bytes: u64,
        /// Bytes that it may have.
        bytes_max: u64,
    },
    /// As many idempotency keys are held as may be, and none of them may go yet.
    KeysFull {
        /// Keys that are held.
        keys: u64,
        /// Keys that may be.
        keys_max: u64,
    },
    /// The rules are older than those that the hub has, or newer than those that this build knows.
    RulesNotTaken,
    /// The key belongs to a job with another payload.
    KeyCollision {
        /// That job.
        job: JobSeq,
        /// The first bytes of that job's payload hash.
        old_hash_prefix: [u8; 4],
    },
    /// The hub knows no such job (any more).
    UnknownJob,
    /// The job is not under this lease (any more).
    LeaseLost,
    /// The job ended in another way before.
    AlreadyFinal {
        /// How.
        status: FinalStatus,
    },
}

/// What was full when something was refused with `backpressure`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum DropReason {
    /// Jobs that wait.
    QueueDepth,
    /// Bytes of unfinished jobs.
    QueueBytes,
    /// Distinct pairs of zone and requirements.
    Classes,
    /// Idempotency keys.
    Keys,
    /// Nodes.
    Nodes,
    /// Bytes of names that jobs share.
    SharedBytes,
    /// Bytes of what nodes say of themselves.
    NodeBytes,
}

impl DropReason {
    /// All of them.
    pub const ALL: [DropReason; 7] = [
        DropReason::QueueDepth,
        DropReason::QueueBytes,
        DropReason::Classes,
        DropReason::Keys,
        DropReason::Nodes,
        DropReason::SharedBytes,
        DropReason::NodeBytes,
    ];

    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            DropReason::QueueDepth => "queue_depth",
            DropReason::QueueBytes => "queue_bytes",
            DropReason::Classes => "classes",
            DropReason::Keys => "idempotency_store",
            DropReason::Nodes => "nodes",
            DropReason::SharedBytes => "shared_bytes",
            DropReason::NodeBytes => "node_bytes",
        }
    }
}

/// What is full: why, how much of it there is, and how much there may be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Full {
    pub reason: DropReason,
    pub held: u64,
    pub max: u64,
}

impl Refusal {
    /// What is full, if that is why.
    pub fn full(&self) -> Option<Full> {
        let (reason, held, max) = match *self {
            Refusal::QueueFull { depth, depth_max } => (DropReason::QueueDepth, depth, depth_max),
            Refusal::QueueBytesFull { bytes, bytes_max, .. } => (DropReason::QueueBytes, bytes, bytes_max),
            Refusal::SharedBytesFull { bytes, bytes_max } => (DropReason::SharedBytes, bytes, bytes_max),
            Refusal::ClassesFull { classes, zone_classes, .. } => {
                if zone_classes >= CLASSES_PER_ZONE_MAX as u64 {
                    (DropReason::Classes, zone_classes, CLASSES_PER_ZONE_MAX as u64)
                } else {
                    (DropReason::Classes, classes, CLASSES_MAX as u64)
                }
            }
            Refusal::NodesFull { nodes, nodes_max } => (DropReason::Nodes, nodes, nodes_max),
            Refusal::NodeBytesFull { bytes, bytes_max } => (DropReason::NodeBytes, bytes, bytes_max),
            Refusal::KeysFull { keys, keys_max } => (DropReason::Keys, keys, keys_max),
            Refusal::RulesNotTaken
            | Refusal::KeyCollision { .. }
            | Refusal::UnknownJob
            | Refusal::LeaseLost
            | Refusal::AlreadyFinal { .. } => return None,
        };
        Some(Full { reason, held, max })
    }

    /// How long the client should wait before it asks again; `None` if waiting does not help.
    pub fn retry_after_ms(&self) -> Option<Millis> {
        self.full().map(|_| BACKPRESSURE_RETRY_MS)
    }
}

impl Outcome {
    /// Whether durable state changed, so that the command belongs into the journal.
    pub fn is_durable(&self) -> bool {
        match self {
            Outcome::Done | Outcome::Heard { .. } => true,
            Outcome::Submitted(submitted) => matches!(submitted, Submitted::Accepted { .. }),
            Outcome::Pulled(pulled) => !pulled.leases.is_empty(),
            Outcome::Extended(leases) => leases.iter().any(|lease| matches!(lease, Extended::Until(_))),
            Outcome::Completed(completed) => !completed.is_duplicate,
            Outcome::Refused(_) => false,
        }
    }
}

impl FinalStatus {
    /// All of them, in the order of their numbers.
    pub const ALL: [FinalStatus; 6] = [
        FinalStatus::Completed,
        FinalStatus::Failed,
        FinalStatus::Dead,
        FinalStatus::Cancelled,
        FinalStatus::Expired,
        FinalStatus::Superseded,
    ];

    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            FinalStatus::Completed => "completed",
            FinalStatus::Failed => "failed",
            FinalStatus::Dead => "dead",
            FinalStatus::Cancelled => "cancelled",
            FinalStatus::Expired => "expired",
            FinalStatus::Superseded => "superseded",
        }
    }
}
