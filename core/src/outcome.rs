//! Outcomes: the state machine's answers to commands, refusals included.

use crate::ids::{JobSeq, LeaseRef, NodeIndex};
use crate::integrity::stored::ResultIntegrity;
use crate::limits::{CLASSES_MAX, CLASSES_PER_ZONE_MAX};
use crate::name::Name;
use crate::payload::Payload;
use crate::policy::{Denial, PolicyError};
use crate::time::{Millis, Timestamp};
use crate::tokens::TokenRefusal;
use crate::zone::Zone;

/// The answer to a command.
#[derive(Clone, PartialEq, Debug)]
pub enum Outcome {
    /// Done; the answer has no content.
    Done,
    /// A heartbeat was accepted.
    Heard {
        node: NodeIndex,
    },
    /// A submit was accepted, or recognised as a repeat.
    Submitted(Submitted),
    Pulled(Pulled),
    /// The answers for the leases of an extend, in its order.
    Extended(Vec<Extended>),
    /// A result was accepted, or recognised as a repeat.
    Completed(Completed),
    /// The jobs of the leases that were taken back, in the order of the command.
    Reclaimed(Vec<JobSeq>),
    /// The answers for the leases of a release, in its order.
    Released(Vec<Released>),
    /// The rules of a kind were set, and have this version now; 0 if they were removed.
    KindSet {
        version: u64,
    },
    /// An act on many dead letters began; so many match.
    ActBegun {
        act: u32,
        matched: u64,
    },
    /// A result of an unknown job is kept.
    Parked {
        orphan: u64,
        is_duplicate: bool,
    },
    /// A policy is held.
    PolicyAdded {
        version: u64,
        /// It was held before.
        is_duplicate: bool,
    },
    /// A policy is active.
    PolicyActivated {
        version: u64,
        /// The one that was active before; the same if nothing changed.
        previous: u64,
    },
    /// Nothing was changed.
    Refused(Refusal),
}

/// The answer to a submit.
#[derive(Clone, PartialEq, Debug)]
pub enum Submitted {
    /// A new job.
    Accepted {
        job: JobSeq,
        /// The unfinished job under the same key whose place this one took.
        supersedes: Option<JobSeq>,
        /// The final job under the same key that this one replaces.
        replaces: Option<JobSeq>,
    },
    /// The key's job is not final yet.
    InProgress { job: JobSeq },
    /// The key's job is final.
    Final {
        job: JobSeq,
        status: FinalStatus,
        /// Absent if it was too large to be remembered, or was dropped.
        result: Option<Payload>,
        /// Absent if it was too large to be remembered, or was dropped.
        error: Option<Payload>,
        /// The checksum of both; absent if one of them is not remembered.
        integrity: Option<ResultIntegrity>,
        /// Where the result or error is that is not remembered; absent if both are.
        left_out: Option<LeftOut>,
    },
}

/// Where the result and the error of a final job are that are not remembered with its key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LeftOut {
    /// The job has them.
    InJob,
    /// Nowhere: the job is not retained any more. They went at this instant, if it is known.
    Gone(Option<Timestamp>),
}

/// How a job ended.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum FinalStatus {
    /// An attempt succeeded.
    Completed,
    /// No attempt succeeded; the job is not a dead letter.
    Failed,
    /// No attempt succeeded; the job is a dead letter.
    Dead,
    /// A client or an operator cancelled it.
    Cancelled,
    /// Its time to live was over.
    Expired,
    /// A newer job under the same key took its place.
    Superseded,
}

/// The jobs that a pull leased.
#[derive(Clone, PartialEq, Debug)]
pub struct Pulled {
    /// The node that leased jobs; absent if there were none.
    pub node: Option<NodeIndex>,
    /// One for each job, in the order to run them.
    pub leases: Vec<Leased>,
    /// Zero unless too many jobs are under lease ([`Hub::defer_for`](crate::Hub::defer_for) says how long to wait), or the
    /// node gets none.
    pub defer_ms: Millis,
    /// Why the node gets no jobs, whatever is ready.
    pub withheld: Option<Withheld>,
}

impl Pulled {
    pub(crate) fn nothing(defer_ms: Millis, withheld: Option<Withheld>) -> Pulled {
        Pulled { node: None, leases: Vec::new(), defer_ms, withheld }
    }
}

/// Why a node gets no jobs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Withheld {
    /// An operator drained it.
    Drained,
    /// It is in quarantine.
    Quarantined,
    /// The active policy denies it all that is ready.
    PolicyDenied,
}

impl Withheld {
    pub const fn as_str(self) -> &'static str {
        match self {
            Withheld::Drained => "drained",
            Withheld::Quarantined => "quarantined",
            Withheld::PolicyDenied => "policy_denied",
        }
    }
}

/// A job under a new lease. The shell reads the payload from the hub: it is not copied here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Leased {
    /// The lease; its generation is the attempt's number.
    pub lease: LeaseRef,
    /// When it ends.
    pub until: Timestamp,
}

/// The answer for one lease of an extend.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Extended {
    Until {
        /// It lasts until then.
        until: Timestamp,
        /// It will not be extended beyond that: its attempt has taken too long by then, its node is to be drained, or its
        /// job expired.
        is_last: bool,
    },
    /// It has ended, or another node holds it.
    LeaseLost,
    /// The job was cancelled: the lease counted until now.
    Cancelled,
    /// It was lost to a newer job: it counted until now.
    Revoked,
}

/// The answer for one lease of a release.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Released {
    /// It was given back: its job waits again.
    Given,
    /// It had ended, and counts no more.
    Acknowledged,
    /// It has ended, or another node holds it.
    LeaseLost,
}

/// The answer to a result.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Completed {
    pub job: JobSeq,
    pub status: CompletedStatus,
    /// Whether the same result was accepted before.
    pub is_duplicate: bool,
}

/// The state of a job after its result was accepted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CompletedStatus {
    Final(FinalStatus),
    /// The next attempt may start then.
    RetryScheduled(Timestamp),
    /// The job had ended, and the lease of the result counts no more: it is answered as lost.
    Acknowledged,
}

/// Why a command changed nothing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// The limit of waiting jobs is reached.
    QueueFull {
        depth: u64,
        depth_max: u64,
    },
    /// The limit of bytes of unfinished jobs is reached.
    QueueBytesFull {
        bytes: u64,
        bytes_max: u64,
        /// Waiting jobs.
        depth: u64,
        /// How many bytes too many there would be with the job.
        over: u64,
    },
    /// The job alone has more bytes than all unfinished jobs may have.
    JobTooLarge {
        bytes: u64,
        bytes_max: u64,
    },
    /// The limit of bytes of names of kinds, zones and requirements is reached.
    SharedBytesFull {
        bytes: u64,
        bytes_max: u64,
    },
    /// Too many distinct pairs of zone and requirements have unfinished jobs: in total, or in this zone.
    ClassesFull {
        /// Such pairs in total.
        classes: u64,
        /// The zone of the submit.
        zone: Zone,
        /// Such pairs in this zone.
        zone_classes: u64,
    },
    /// The limit of nodes is reached, and none of them is dead without leases.
    NodesFull {
        nodes: u64,
        nodes_max: u64,
    },
    /// The limit of bytes that nodes report is reached.
    NodeBytesFull {
        bytes: u64,
        bytes_max: u64,
    },
    /// The node alone reports more bytes than all nodes may.
    NodeTooLarge {
        bytes: u64,
        bytes_max: u64,
    },
    /// So many jobs are dead letters or may become such that one more might find no room.
    LettersFull {
        letters: u64,
        letters_max: u64,
        /// The kind of whose own limit this is so; absent if it is that of the hub.
        kind: Option<Name>,
    },
    /// The dead letters and the jobs that may become such have as many bytes as dead letters may have.
    LetterBytesFull {
        bytes: u64,
        bytes_max: u64,
    },
    /// The limit of idempotency keys is reached, and none of them may be evicted yet.
    KeysFull {
        keys: u64,
        keys_max: u64,
    },
    /// The rules are older than those that the hub has, or newer than those that this build knows.
    RulesNotTaken,
    /// The key is bound to a job with another payload.
    KeyCollision {
        job: JobSeq,
        /// The first bytes of that job's payload hash.
        old_hash_prefix: [u8; 4],
    },
    /// The hub holds no such job (any more).
    UnknownJob,
    /// The job is not under this lease (any more).
    LeaseLost,
    /// The job ended with another result, or without one.
    AlreadyFinal {
        status: FinalStatus,
    },
    /// The job is not a dead letter: it has not ended.
    NotDead,
    /// The rules of the kind have another version than expected.
    KindChanged {
        version: u64,
    },
    /// The limit of kinds with rules is reached.
    RuledKindsFull {
        kinds: u64,
    },
    /// The hub knows no such node.
    UnknownNode,
    /// The node never attested.
    NeverAttested,
    /// The node attests something else than the operator saw.
    AttestationChanged,
    /// The node is suspect of being several.
    SpoofSuspect,
    /// The node has leases, or is online.
    NodeInUse {
        leases: u64,
    },
    /// More dead letters match than the operator expects.
    TooManyLetters {
        matched: u64,
        max: u64,
    },
    /// The limit of acts that run at once is reached.
    TooManyActs {
        running: u64,
    },
    UnknownAct,
    /// The act has ended.
    ActEnded,
    UnknownOrphan,
    /// An order about the shared token.
    Token(TokenRefusal),
    /// The active policy denies it.
    PolicyDenied(Box<Denial>),
    /// The document is no policy.
    PolicyMalformed(Box<PolicyError>),
    /// A policy of that version is held, and has another content.
    PolicyVersionExists {
        version: u64,
        /// That of the one that is held.
        sha256: [u8; 32],
    },
    /// A new policy has a version above all that the hub has seen.
    PolicyVersionTooLow {
        version: u64,
        highest: u64,
    },
    /// The limit of policies is reached.
    PoliciesFull {
        policies: u64,
        bytes: u64,
    },
    UnknownPolicy,
    /// Another policy is active than the operator expects.
    PolicyNotActive {
        active: u64,
    },
    /// Under the policy nobody could activate another.
    PolicyLocksOut,
}

/// The limit that was reached when something was refused with `backpressure`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum DropReason {
    /// Waiting jobs.
    QueueDepth,
    /// Bytes of unfinished jobs.
    QueueBytes,
    /// Distinct pairs of zone and requirements.
    Classes,
    /// Idempotency keys.
    Keys,
    Nodes,
    /// Bytes of names that jobs share.
    SharedBytes,
    /// Bytes that nodes report.
    NodeBytes,
    /// Dead letters, and jobs that may become such.
    DeadLetters,
}

impl DropReason {
    pub const ALL: [DropReason; 8] = [
        DropReason::QueueDepth,
        DropReason::QueueBytes,
        DropReason::Classes,
        DropReason::Keys,
        DropReason::Nodes,
        DropReason::SharedBytes,
        DropReason::NodeBytes,
        DropReason::DeadLetters,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            DropReason::QueueDepth => "queue_depth",
            DropReason::QueueBytes => "queue_bytes",
            DropReason::Classes => "classes",
            DropReason::Keys => "idempotency_store",
            DropReason::Nodes => "nodes",
            DropReason::SharedBytes => "shared_bytes",
            DropReason::NodeBytes => "node_bytes",
            DropReason::DeadLetters => "dead_letters",
        }
    }
}

/// A limit that is reached, with what is held and the limit's value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Full {
    pub reason: DropReason,
    pub held: u64,
    pub max: u64,
}

impl Refusal {
    /// The limit that is reached, if that is the reason.
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
            Refusal::LettersFull { letters, letters_max, .. } => (DropReason::DeadLetters, letters, letters_max),
            Refusal::LetterBytesFull { bytes, bytes_max } => (DropReason::DeadLetters, bytes, bytes_max),
            Refusal::JobTooLarge { .. }
            | Refusal::NodeTooLarge { .. }
            | Refusal::RulesNotTaken
            | Refusal::KeyCollision { .. }
            | Refusal::UnknownJob
            | Refusal::LeaseLost
            | Refusal::AlreadyFinal { .. }
            | Refusal::NotDead
            | Refusal::KindChanged { .. }
            | Refusal::RuledKindsFull { .. }
            | Refusal::UnknownNode
            | Refusal::NeverAttested
            | Refusal::AttestationChanged
            | Refusal::SpoofSuspect
            | Refusal::NodeInUse { .. }
            | Refusal::TooManyLetters { .. }
            | Refusal::TooManyActs { .. }
            | Refusal::UnknownAct
            | Refusal::ActEnded
            | Refusal::UnknownOrphan
            | Refusal::Token(_)
            | Refusal::PolicyDenied(_)
            | Refusal::PolicyMalformed(_)
            | Refusal::PolicyVersionExists { .. }
            | Refusal::PolicyVersionTooLow { .. }
            | Refusal::PoliciesFull { .. }
            | Refusal::UnknownPolicy
            | Refusal::PolicyNotActive { .. }
            | Refusal::PolicyLocksOut => return None,
        };
        Some(Full { reason, held, max })
    }
}

impl Outcome {
    /// Whether durable state changed, so that the command has to be journaled.
    pub fn is_durable(&self) -> bool {
        match self {
            Outcome::Done | Outcome::Heard { .. } => true,
            Outcome::Submitted(submitted) => matches!(submitted, Submitted::Accepted { .. }),
            Outcome::Pulled(pulled) => !pulled.leases.is_empty(),
            Outcome::Extended(leases) => leases.iter().any(|lease| !matches!(lease, Extended::LeaseLost)),
            Outcome::Completed(completed) => !completed.is_duplicate,
            Outcome::Reclaimed(jobs) => !jobs.is_empty(),
            Outcome::Released(leases) => leases.iter().any(|lease| !matches!(lease, Released::LeaseLost)),
            Outcome::KindSet { .. } | Outcome::ActBegun { .. } => true,
            Outcome::Parked { is_duplicate, .. } | Outcome::PolicyAdded { is_duplicate, .. } => !is_duplicate,
            Outcome::PolicyActivated { version, previous } => version != previous,
            Outcome::Refused(_) => false,
        }
    }
}

impl FinalStatus {
    /// In the order of their numbers.
    pub const ALL: [FinalStatus; 6] = [
        FinalStatus::Completed,
        FinalStatus::Failed,
        FinalStatus::Dead,
        FinalStatus::Cancelled,
        FinalStatus::Expired,
        FinalStatus::Superseded,
    ];

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
