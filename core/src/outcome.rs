//! Outcomes: what the state machine answers to a command, refusals included.

use crate::ids::{JobSeq, LeaseRef, NodeNo};
use crate::payload::Payload;
use crate::time::{Millis, Timestamp};

/// The answer to a command.
#[derive(Clone, PartialEq, Debug)]
pub enum Outcome {
    /// Done; there is nothing to say.
    Done,
    /// A heartbeat was taken.
    Heard {
        /// The node's number.
        node: NodeNo,
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
        /// What came of it; absent if it was too large to remember.
        result: Payload,
        /// What went wrong; absent if it was too large to remember.
        error: Payload,
    },
}

/// How a job ended.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, serde::Serialize, serde::Deserialize)]
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
    /// As many bytes of payload wait as may.
    QueueBytesFull {
        /// Bytes that wait.
        bytes: u64,
        /// Bytes that may.
        bytes_max: u64,
        /// Jobs that wait.
        depth: u64,
    },
    /// Too many distinct pairs of zone and requirements.
    ClassesFull,
    /// Too many nodes.
    NodesFull,
    /// Too many idempotency keys of jobs that are not final.
    KeysFull {
        /// Keys that may be held.
        keys_max: u64,
    },
    /// The key belongs to a job with another payload.
    KeyCollision {
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
    /// Bytes that wait.
    QueueBytes,
    /// Distinct pairs of zone and requirements.
    Classes,
    /// Idempotency keys.
    Keys,
    /// Nodes.
    Nodes,
}

impl DropReason {
    /// All of them.
    pub const ALL: [DropReason; 5] =
        [DropReason::QueueDepth, DropReason::QueueBytes, DropReason::Classes, DropReason::Keys, DropReason::Nodes];

    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            DropReason::QueueDepth => "queue_depth",
            DropReason::QueueBytes => "queue_bytes",
            DropReason::Classes => "classes",
            DropReason::Keys => "idempotency_keys",
            DropReason::Nodes => "nodes",
        }
    }
}

impl Refusal {
    /// What is full, if that is why.
    pub fn drop_reason(&self) -> Option<DropReason> {
        match self {
            Refusal::QueueFull { .. } => Some(DropReason::QueueDepth),
            Refusal::QueueBytesFull { .. } => Some(DropReason::QueueBytes),
            Refusal::ClassesFull => Some(DropReason::Classes),
            Refusal::KeysFull { .. } => Some(DropReason::Keys),
            Refusal::NodesFull => Some(DropReason::Nodes),
            Refusal::KeyCollision { .. } | Refusal::UnknownJob | Refusal::LeaseLost | Refusal::AlreadyFinal { .. } => {
                None
            }
        }
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

    /// A few numbers that two runs of the same command agree on only if they decided the same.
    pub(crate) fn fingerprint(&self) -> [u64; 3] {
        match self {
            Outcome::Done => [1, 0, 0],
            Outcome::Heard { node } => [2, u64::from(node.get()), 0],
            Outcome::Submitted(Submitted::Accepted { job, supersedes, replaces }) => {
                [3, job.get(), supersedes.or(*replaces).map_or(0, JobSeq::get)]
            }
            Outcome::Submitted(Submitted::InProgress { job } | Submitted::Final { job, .. }) => [4, job.get(), 0],
            Outcome::Pulled(pulled) => {
                let jobs = pulled.leases.iter().fold(0u64, |mix, leased| mix.rotate_left(7) ^ leased.lease.job.get());
                let until = pulled.leases.first().map_or(0, |leased| leased.until.as_millis());
                [5, jobs, until]
            }
            Outcome::Extended(leases) => {
                let lost = leases.iter().fold(0u64, |mix, lease| (mix << 1) ^ u64::from(*lease == Extended::LeaseLost));
                [6, leases.len() as u64, lost]
            }
            Outcome::Completed(completed) => match completed.status {
                CompletedStatus::Final(status) => [7, completed.job.get(), status as u64],
                CompletedStatus::RetryScheduled(at) => [8, completed.job.get(), at.as_millis()],
            },
            Outcome::Refused(_) => [9, 0, 0],
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
