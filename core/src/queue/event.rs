//! Events: what happened to a job. The queue reports them; the hub passes them on, in one place.

use crate::dedup::KeyPlace;
use crate::ids::{JobSeq, LeaseRef, NodeIndex};
use crate::outcome::FinalStatus;
use crate::queue::kind::KindIndex;
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
    /// A lease ended, for whatever reason.
    AttemptEnded {
        lease: LeaseRef,
        node: NodeIndex,
        ran: Millis,
        /// Whether the lease expired.
        is_reaped: bool,
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
}
