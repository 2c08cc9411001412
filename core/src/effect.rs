//! Effects: what else follows from a command, for the shell to carry out. A hub that only follows a journal has none.

use crate::ids::JobSeq;
use crate::name::Name;
use crate::outcome::DropReason;
use crate::queue::EndedJob;
use crate::queue::waiter::WaiterId;
use crate::time::{Millis, Timestamp};

/// One thing for the shell to do.
#[derive(Debug)]
pub enum Effect {
    /// Write this into the audit log.
    Audit(Timestamp, Audit),
    /// Repeat this long poll's pull: there is a job for it. The poll is no longer parked.
    Wake(WaiterId),
    /// Answer those who wait for this job's end.
    Ended {
        job: JobSeq,
        /// The job itself, if its retention took it at once: the hub does not know it any more.
        gone: Option<Box<EndedJob>>,
    },
}

/// What goes into the audit log.
#[derive(Clone, PartialEq, Debug)]
pub enum Audit {
    /// Something was refused because too much is there already.
    BackpressureDrop {
        /// Of what.
        reason: DropReason,
        /// How much of it there is.
        held: u64,
        /// How much there may be.
        max: u64,
        /// Jobs that wait.
        queue_depth: u64,
    },
    /// A pull got nothing because too much is under lease.
    InflightSaturated {
        /// The node that asked.
        node: Name,
        /// Jobs under lease in the hub.
        inflight: u64,
    },
    /// A lease ended without a result.
    LeaseReap {
        /// The job.
        job: JobSeq,
        /// The node that held it.
        node: Name,
        /// Which attempt.
        attempt: u32,
    },
    /// A job will be tried again.
    RetryScheduled {
        /// The job.
        job: JobSeq,
        /// Which attempt failed.
        attempt: u32,
        /// How long until the next.
        delay_ms: Millis,
    },
    /// A job's attempts or time for retries are spent.
    RetryExhausted {
        /// The job.
        job: JobSeq,
        /// How many attempts it had.
        attempts: u32,
    },
    /// A submit repeated an earlier one.
    IdempotencyHit {
        /// The job that it refers to.
        job: JobSeq,
        /// Whether that job has ended.
        is_final: bool,
    },
    /// A key came with another payload.
    IdempotencyKeyCollision {
        /// The key: whether its beginning may be shown, only the shell can tell.
        key: Name,
        /// The first bytes of the known payload's hash.
        old_hash_prefix: [u8; 4],
        /// The first bytes of the refused payload's hash.
        new_hash_prefix: [u8; 4],
    },
    /// A node was heard of for the first time.
    NodeRegistered {
        /// The node.
        node: Name,
    },
    /// A stale or dead node was heard of again.
    NodeOnline {
        /// The node.
        node: Name,
    },
    /// A node was not heard of for its time to live.
    NodeStale {
        /// The node.
        node: Name,
    },
    /// A node was not heard of for so long that it counts as gone.
    NodeDead {
        /// The node.
        node: Name,
    },
}
