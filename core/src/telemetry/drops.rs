//! Drops: what was refused because a limit is reached, counted by limit until it is reported.
//!
//! An overloaded hub refuses more than it accepts, so a refusal only counts here: the audit log's event is made once for
//! all of a round.

use crate::effect::Audit;
use crate::outcome::{DropReason, Full};
use crate::time::Timestamp;

/// What was refused since the last report.
#[derive(Default, Debug)]
pub(crate) struct Drops {
    by_reason: [Option<Dropped>; DropReason::ALL.len()],
    is_any: bool,
}

/// The refusals for one limit.
#[derive(Clone, Copy, Debug)]
struct Dropped {
    /// When the latest was.
    at: Timestamp,
    full: Full,
    queue_depth: u64,
    count: u64,
}

impl Drops {
    /// Counts refusals, all for the same reason; `queue_depth` is the number of waiting jobs.
    pub fn add(&mut self, at: Timestamp, full: Full, queue_depth: u64, count: u64) {
        self.is_any = true;
        let dropped = &mut self.by_reason[full.reason as usize];
        let before = dropped.as_ref().map_or(0, |dropped| dropped.count);
        *dropped = Some(Dropped { at, full, queue_depth, count: before + count });
    }

    /// Removes and returns an event for each limit, with the latest refusal's figures.
    pub fn drain(&mut self) -> impl Iterator<Item = (Timestamp, Audit)> {
        let drained = self.is_any.then(|| std::mem::take(self).by_reason);
        drained.into_iter().flatten().flatten().map(|Dropped { at, full, queue_depth, count }| {
            let Full { reason, held, max } = full;
            (at, Audit::BackpressureDrop { reason, held, max, queue_depth, count })
        })
    }
}
