//! Lanes: the ready jobs of one class and kind, in the order to run them.
//!
//! Sequence numbers only grow, so a fresh job is pushed to the end of its priority's queue: O(1), 8 bytes. A job that
//! is retried, was delayed, or took the place of an older one is stored by rank in a tree of late ones: O(log n). A job
//! that is removed from the middle of a queue leaves a tombstone, which is removed when it reaches the front or when
//! half of the queue is tombstones.

use crate::command::Priority;
use crate::ids::JobSeq;
use crate::rules;
use std::collections::{BTreeMap, VecDeque};

/// The order to run jobs in: by priority, then by order of submission (that of the job whose place it took, if any).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Rank(u64);

/// The ready jobs of one class and kind.
#[derive(Default, Debug)]
pub(super) struct Lane {
    fresh: [Fifo; 4],
    late: BTreeMap<Rank, JobSeq>,
    ready: u64,
    /// Unfinished jobs of this class and kind, ready or not. The lane exists while there are any.
    pub jobs: u64,
}

/// Sequence numbers in ascending order. The first one is never a tombstone.
#[derive(Default, Debug)]
struct Fifo {
    seqs: VecDeque<u64>,
    tombstones: usize,
}

/// The bit of a number whose job was removed.
const TOMBSTONE: u64 = 1 << 63;
const PRIORITY_SHIFT: u32 = 56;

/// A queue's capacity is not reduced below so many numbers.
const CAPACITY_MIN: usize = 8;

impl Rank {
    /// The rank of a job of that priority with the place of `seq`.
    pub fn new(priority: Priority, seq: JobSeq) -> Rank {
        Rank((priority as u64) << PRIORITY_SHIFT | seq.get())
    }

    fn priority(self) -> usize {
        (self.0 >> PRIORITY_SHIFT) as usize
    }

    /// The place in the order of submission.
    pub fn seq(self) -> JobSeq {
        JobSeq::new(self.0 & ((1 << PRIORITY_SHIFT) - 1))
    }
}

impl Lane {
    /// Ready jobs.
    pub fn ready(&self) -> u64 {
        self.ready
    }

    /// Adds a ready job.
    pub fn push(&mut self, rank: Rank, seq: JobSeq) {
        let fresh = &mut self.fresh[rank.priority()];
        if rank.seq() != seq || !fresh.push(seq.get()) {
            let old = self.late.insert(rank, seq);
            assert!(old.is_none(), "a job is ready once");
        }
        self.ready += 1;
    }

    /// Removes a job that is no longer ready. O(log n).
    pub fn remove(&mut self, rank: Rank) {
        if self.late.remove(&rank).is_none() {
            self.fresh[rank.priority()].remove(rank.seq().get());
        }
        self.ready -= 1;
    }

    /// The job to run first.
    pub fn head(&self) -> Option<(Rank, JobSeq)> {
        let fresh = self.fresh.iter().enumerate().find_map(|(priority, fifo)| {
            let seq = *fifo.seqs.front()?;
            Some((Rank((priority as u64) << PRIORITY_SHIFT | seq), JobSeq::new(seq)))
        });
        let late = self.late.first_key_value().map(|(rank, seq)| (*rank, *seq));
        rules::first_of(fresh, late)
    }
}

impl Fifo {
    /// Pushes a number to the end; `false` if it is not above the last one.
    fn push(&mut self, seq: u64) -> bool {
        let is_last = self.seqs.back().is_none_or(|last| last & !TOMBSTONE < seq);
        if is_last {
            // A long queue grows by a quarter: doubled, a queue of a million would hold capacity for two.
            if self.seqs.len() == self.seqs.capacity() {
                let len = self.seqs.len();
                self.seqs.reserve_exact((len / 4).max(len.min(64)).max(4));
            }
            self.seqs.push_back(seq);
        }
        is_last
    }

    fn remove(&mut self, seq: u64) {
        if self.seqs.front() == Some(&seq) {
            self.seqs.pop_front();
            self.drop_tombstones_in_front();
            return;
        }
        let index = self.seqs.binary_search_by_key(&seq, |other| other & !TOMBSTONE);
        let index = index.expect("only a ready job is removed");
        assert!(self.seqs[index] & TOMBSTONE == 0, "a job is removed once");
        self.seqs[index] |= TOMBSTONE;
        self.tombstones += 1;
        if self.tombstones * 2 > self.seqs.len() {
            self.seqs.retain(|seq| seq & TOMBSTONE == 0);
            self.tombstones = 0;
            self.shrink();
        }
    }

    fn drop_tombstones_in_front(&mut self) {
        while self.tombstones > 0 && self.seqs.front().is_some_and(|seq| seq & TOMBSTONE != 0) {
            self.seqs.pop_front();
            self.tombstones -= 1;
        }
        self.shrink();
    }

    /// Reduces the capacity when little of it is used, as after a burst.
    fn shrink(&mut self) {
        if self.seqs.capacity() > CAPACITY_MIN && self.seqs.len() < self.seqs.capacity() / 4 {
            self.seqs.shrink_to(self.seqs.len() * 2);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    const PRIORITIES: [Priority; 4] = [Priority::Critical, Priority::High, Priority::Normal, Priority::Low];

    #[test]
    fn jobs_are_ordered_by_priority_then_by_place() {
        let mut lane = Lane::default();
        for (priority, seq) in
            [(Priority::Low, 1), (Priority::Normal, 2), (Priority::Critical, 3), (Priority::Normal, 4)]
        {
            lane.push(Rank::new(priority, JobSeq::new(seq)), JobSeq::new(seq));
        }
        // Job 5 took the place of the first one.
        lane.push(Rank::new(Priority::Normal, JobSeq::new(1)), JobSeq::new(5));
        let mut order = Vec::new();
        while let Some((rank, seq)) = lane.head() {
            lane.remove(rank);
            order.push(seq.get());
        }
        assert_eq!(order, [3, 5, 2, 4, 1]);
    }

    proptest! {
        /// Against a sorted set: after any push or removal the head has the smallest rank.
        #[test]
        fn the_head_is_the_smallest_rank(steps in prop::collection::vec((0..4_usize, 0..3_u8, any::<u16>()), 1..300)) {
            let mut lane = Lane::default();
            let mut set = BTreeSet::new();
            let mut left = Vec::new();
            let mut next = 1;
            for (priority, step, pick) in steps {
                match step {
                    0 | 1 if step == 0 || left.is_empty() => {
                        let rank = Rank::new(PRIORITIES[priority], JobSeq::new(next));
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
