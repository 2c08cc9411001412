//! Timers: what falls due when. Part of the state, so that time passes in a replay as it did in production.

use crate::ids::{JobSeq, NodeNo};
use crate::time::Timestamp;
use std::collections::BTreeSet;

/// What falls due. The order of the variants breaks ties between timers of one instant, in every replay alike.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Timer {
    /// A job's time to live is over. Before the others: what ends or starts at that instant meets an expired job.
    JobExpires(JobSeq),
    /// A lease ends.
    LeaseEnds(JobSeq),
    /// A scheduled job may run.
    JobDue(JobSeq),
    /// A node's liveness has to be looked at.
    NodeLiveness(NodeNo),
    /// An idempotency key is forgotten.
    KeyExpires(u128),
}

/// A set of timers ordered by instant. All operations are O(log n) in the timers set.
#[derive(Default, Debug)]
pub(crate) struct Timers {
    due: BTreeSet<(Timestamp, Timer)>,
}

impl Timers {
    /// Sets a timer; one at [`Timestamp::NEVER`] is not kept.
    pub fn set(&mut self, at: Timestamp, timer: Timer) {
        if at != Timestamp::NEVER {
            let is_new = self.due.insert((at, timer));
            assert!(is_new, "a timer is set once: {timer:?}");
        }
    }

    /// Takes back a timer that was set for `at`.
    pub fn cancel(&mut self, at: Timestamp, timer: Timer) {
        if at != Timestamp::NEVER {
            let was_set = self.due.remove(&(at, timer));
            assert!(was_set, "only a timer that is set is cancelled: {timer:?}");
        }
    }

    /// When the next one falls due.
    pub fn next_at(&self) -> Option<Timestamp> {
        self.due.first().map(|(at, _)| *at)
    }

    /// Takes the next one.
    pub fn pop(&mut self) -> Option<(Timestamp, Timer)> {
        self.due.pop_first()
    }

    /// How many are set.
    pub fn len(&self) -> usize {
        self.due.len()
    }
}
