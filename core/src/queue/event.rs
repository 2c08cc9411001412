//! Events: what happened to a job. The queue reports them; the hub passes them on, in one place.

use crate::dedup::KeyPlace;
use crate::ids::{JobSeq, LeaseRef, NodeIndex};
use crate::outcome::FinalStatus;
use crate::queue::kind::KindIndex;
use crate::queue::lease::Toll;
use crate::time::Millis;

/// One thing that happened to a job.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Event {
    Submitted {
        kind: KindIndex,
    },
    Leased {
        node: NodeIndex,
        /// From ready to leased.
        waited: Millis,
    },
    /// An attempt ended, for whatever reason.
    AttemptEnded {
        lease: LeaseRef,
        node: NodeIndex,
        ran: Millis,
        /// Whether the lease expired.
        is_reaped: bool,
        toll: Toll,
    },
    /// A lease counts no more. It may be later than its attempt's end, if it was held.
    LeaseFreed {
        node: NodeIndex,
    },
    RetryScheduled {
        lease: LeaseRef,
        delay: Millis,
    },
    /// Its attempts or its retry budget are exhausted, or its error is not retryable.
    Exhausted {
        job: JobSeq,
        attempts: u32,
    },
    Ended {
        job: JobSeq,
        kind: KindIndex,
        status: FinalStatus,
        /// The idempotency key that was bound to the job, to be spent now.
        key: Option<KeyPlace>,
    },
    /// A job is no dead letter any more.
    LetterLeft {
        job: JobSeq,
        kind: KindIndex,
        how: LetterLeft,
        /// Its former number in the order of ending, if it stays final and has got another one.
        renumbered_from: Option<u64>,
    },
}

/// How a dead letter left.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum LetterLeft {
    /// An operator requeued it.
    Requeued,
    /// An operator discarded it.
    Discarded,
    /// An act on many requeued or discarded it; whether it was requeued.
    ByAct { is_requeued: bool },
    /// Another letter needed the room.
    Evicted,
    /// It was kept for as long as letters are.
    Aged,
    /// A result came after all.
    Completed,
}
