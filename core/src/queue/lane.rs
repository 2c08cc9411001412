//! Lanes: the ready jobs of one class and kind, in the order to run them.
//!
//! Sequence numbers only grow, so a fresh job is pushed to the end of its level's queue: O(1), 8 bytes. A job that is
//! retried, was delayed, took the place of an older one, or has a turn is stored by rank in a tree of late ones: O(log n).

use crate::ascending::{AscendingKey, AscendingQueue};
use crate::ids::JobSeq;
use crate::rules;
use std::collections::BTreeMap;

/// The order to run jobs in: by level (the priority, or a higher one that it has aged into), then by turn if groups take
/// turns, then by order of submission (that of the job whose place it took, if any).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Rank {
    /// The level above the turn.
    turn: u64,
    place: u64,
}

/// The ready jobs of one class and kind.
#[derive(Default, Debug)]
pub(super) struct Lane {
    /// By level, without turns.
    fresh: [AscendingQueue<Ready, CAPACITY_MIN>; LEVELS],
    late: BTreeMap<Rank, JobSeq>,
    ready: u64,
    /// Whether its jobs are offered to nodes: whether the gate of its kind is open.
    pub is_open: bool,
    /// Unfinished jobs of this class and kind, ready or not. The lane exists while there are any.
    pub jobs: u64,
}

/// The number of a ready job, or of one that was removed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Ready(u64);

/// The bit of a number whose job was removed.
const TOMBSTONE: u64 = 1 << 63;
const LEVEL_SHIFT: u32 = 56;
/// No turn is later.
pub(super) const TURN_MAX: u64 = (1 << LEVEL_SHIFT) - 1;

/// A level for each priority.
pub(super) const LEVELS: usize = 4;

/// Capacity that each queue keeps with few jobs.
const CAPACITY_MIN: usize = 8;

impl Rank {
    /// The rank of a job of that level and turn with the place of `seq`. A turn of 0 is before all that are given.
    pub fn new(level: usize, turn: u64, seq: JobSeq) -> Rank {
        Rank { turn: (level as u64) << LEVEL_SHIFT | turn, place: seq.get() }
    }

    pub fn level(self) -> usize {
        (self.turn >> LEVEL_SHIFT) as usize
    }

    pub fn turn(self) -> u64 {
        self.turn & TURN_MAX
    }

    /// The place in the order of submission.
    pub fn seq(self) -> JobSeq {
        JobSeq::new(self.place)
    }
}

impl Lane {
    /// Ready jobs.
    pub fn ready(&self) -> u64 {
        self.ready
    }

    /// Adds a ready job.
    pub fn push(&mut self, rank: Rank, seq: JobSeq) {
        let fresh = &mut self.fresh[rank.level()];
        if rank.turn() != 0 || rank.seq() != seq || !fresh.push(Ready(seq.get())) {
            let old = self.late.insert(rank, seq);
            assert!(old.is_none(), "a job is ready once");
        }
        self.ready += 1;
    }

    /// Removes a job that is no longer ready. O(log n).
    pub fn remove(&mut self, rank: Rank) {
        if self.late.remove(&rank).is_none() {
            let was_ready = rank.turn() == 0 && self.fresh[rank.level()].remove(Ready(rank.seq().get()));
            assert!(was_ready, "only a ready job is removed");
        }
        self.ready -= 1;
    }

    /// Ready jobs that run before one of this rank. O(n) in those of its level.
    pub fn before(&self, rank: Rank) -> u64 {
        let higher = self.fresh[..rank.level()].iter().map(AscendingQueue::len).sum::<usize>();
        let own = &self.fresh[rank.level()];
        let same = if rank.turn() == 0 { own.before(Ready(rank.seq().get())) } else { own.len() };
        (higher + same + self.late.range(..rank).count()) as u64
    }

    /// The job to run first.
    pub fn head(&self) -> Option<(Rank, JobSeq)> {
        let fresh = self.fresh.iter().enumerate().find_map(|(level, queue)| {
            let Ready(seq) = queue.first()?;
            Some((Rank::new(level, 0, JobSeq::new(seq)), JobSeq::new(seq)))
        });
        let late = self.late.first_key_value().map(|(rank, seq)| (*rank, *seq));
        rules::first_of(fresh, late)
    }
}

impl AscendingKey for Ready {
    fn tombstone(self) -> Ready {
        Ready(self.0 | TOMBSTONE)
    }

    fn without_tombstone(self) -> Ready {
        Ready(self.0 & !TOMBSTONE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn jobs_are_ordered_by_level_then_by_turn_then_by_place() {
        let mut lane = Lane::default();
        for (level, turn, seq) in [(3, 0, 1), (2, 0, 2), (0, 0, 3), (2, 0, 4), (2, 9, 6), (2, 8, 7)] {
            lane.push(Rank::new(level, turn, JobSeq::new(seq)), JobSeq::new(seq));
        }
        // Job 5 took the place of the first one.
        lane.push(Rank::new(2, 0, JobSeq::new(1)), JobSeq::new(5));
        assert_eq!(lane.before(Rank::new(2, 8, JobSeq::new(7))), 4);
        let mut order = Vec::new();
        while let Some((rank, seq)) = lane.head() {
            lane.remove(rank);
            order.push(seq.get());
        }
        assert_eq!(order, [3, 5, 2, 4, 7, 6, 1]);
    }

    proptest! {
        /// Against a sorted set: after any push or removal the head has the smallest rank.
        #[test]
        fn the_head_is_the_smallest_rank(steps in prop::collection::vec((0..4_usize, 0..2_u64, 0..3_u8, any::<u16>()), 1..300)) {
            let mut lane = Lane::default();
            let mut set = BTreeSet::new();
            let mut left = Vec::new();
            let mut next = 1;
            for (level, turn, step, pick) in steps {
                match step {
                    0 | 1 if step == 0 || left.is_empty() => {
                        let rank = Rank::new(level, turn, JobSeq::new(next));
                        next += 1;
                        lane.push(rank, rank.seq());
                        set.insert(rank);
                    }
                    1 => {
                        // A job that was removed is ready again.
                        let rank: Rank = left.swap_remove(usize::from(pick) % left.len());
                        lane.push(rank, rank.seq());
                        set.insert(rank);
                    }
                    _ => {
                        let Some(rank) = set.iter().nth(usize::from(pick) % set.len().max(1)).copied() else { continue };
                        lane.remove(rank);
                        set.remove(&rank);
                        left.push(rank);
                    }
                }
                prop_assert_eq!(lane.head().map(|(rank, _)| rank), set.first().copied());
                prop_assert_eq!(lane.ready(), set.len() as u64);
            }
        }
    }
}
