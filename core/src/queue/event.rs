//! Events: what happened to a job. The queue tells it; the hub, in one place, tells those whom it concerns.

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
    /// A node got it under a lease, after it had been ready for so long.
    Leased {
        node: NodeIndex,
        waited: Millis,
    },
    /// A lease ended, however, after so long.
    AttemptEnded {
        lease: LeaseRef,
        node: NodeIndex,
        ran: Millis,
        is_reaped: bool,
    },
    /// It will be tried again.
    RetryScheduled {
        lease: LeaseRef,
        delay: Millis,
    },
    /// Its attempts or its time for retries are spent, or its error is final.
    Exhausted {
        job: JobSeq,
        attempts: u32,
    },
    /// It is final. The key is the one that was bound to it and now answers for it.
    Ended {
        job: JobSeq,
        kind: KindIndex,
        status: FinalStatus,
        key: Option<KeyPlace>,
    },
}
