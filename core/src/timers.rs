//! Timers: what falls due when. Part of the state, so that time passes in a replay as it did in production.

use crate::ids::{JOB_SEQ_MAX, JobSeq, NodeIndex};
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
    NodeLiveness(NodeIndex),
    /// An idempotency key with a time of its own is forgotten: its place in the table of keys.
    KeyExpires(u32),
}

/// A set of timers ordered by instant. All operations are O(log n) in the timers set; a timer takes 16 bytes.
#[derive(Default, Debug)]
pub(crate) struct Timers {
    due: BTreeSet<(Timestamp, Packed)>,
}

/// A timer in eight bytes, in the order of [`Timer`]: eight bits of variant, 56 of number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Packed(u64);

const NUMBER_BITS: u32 = 56;
const _: () = assert!(JOB_SEQ_MAX < 1 << NUMBER_BITS);

impl Timers {
    /// Sets a timer; one at [`Timestamp::NEVER`] is not kept.
    pub fn set(&mut self, at: Timestamp, timer: Timer) {
        if at != Timestamp::NEVER {
            let is_new = self.due.insert((at, Packed::of(timer)));
            assert!(is_new, "a timer is set once: {timer:?}");
        }
    }

    /// Takes back a timer that was set for `at`.
    pub fn cancel(&mut self, at: Timestamp, timer: Timer) {
        if at != Timestamp::NEVER {
            let was_set = self.due.remove(&(at, Packed::of(timer)));
            assert!(was_set, "only a timer that is set is cancelled: {timer:?}");
        }
    }

    /// When the next one falls due.
    pub fn next_at(&self) -> Option<Timestamp> {
        self.due.first().map(|(at, _)| *at)
    }

    /// Takes the next one.
    pub fn pop(&mut self) -> Option<(Timestamp, Timer)> {
        self.due.pop_first().map(|(at, packed)| (at, packed.unpack()))
    }

    /// How many are set.
    pub fn len(&self) -> usize {
        self.due.len()
    }
}

impl Packed {
    fn of(timer: Timer) -> Packed {
        let (variant, number) = match timer {
            Timer::JobExpires(seq) => (0, seq.get()),
            Timer::LeaseEnds(seq) => (1, seq.get()),
            Timer::JobDue(seq) => (2, seq.get()),
            Timer::NodeLiveness(node) => (3, node.get().into()),
            Timer::KeyExpires(place) => (4, place.into()),
        };
        Packed(variant << NUMBER_BITS | number)
    }

    fn unpack(self) -> Timer {
        let number = self.0 & ((1 << NUMBER_BITS) - 1);
        match self.0 >> NUMBER_BITS {
            0 => Timer::JobExpires(JobSeq::new(number)),
            1 => Timer::LeaseEnds(JobSeq::new(number)),
            2 => Timer::JobDue(JobSeq::new(number)),
            3 => Timer::NodeLiveness(NodeIndex::new(number as u32)),
            4 => Timer::KeyExpires(number as u32),
            _ => unreachable!("a timer has one of five variants"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timer_is_unpacked_as_it_was_packed_and_keeps_its_order() {
        let seqs = [JobSeq::new(1), JobSeq::new(JOB_SEQ_MAX)];
        let indexes = [NodeIndex::new(0), NodeIndex::new(u32::MAX)];
        let jobs =
            seqs.map(Timer::JobExpires).into_iter().chain(seqs.map(Timer::LeaseEnds)).chain(seqs.map(Timer::JobDue));
        let nodes = indexes.map(Timer::NodeLiveness).into_iter().chain([0, u32::MAX].map(Timer::KeyExpires));
        let timers: Vec<_> = jobs.chain(nodes).collect();
        assert!(timers.is_sorted());
        assert!(timers.is_sorted_by_key(|timer| Packed::of(*timer)));
        for timer in timers {
            assert_eq!(Packed::of(timer).unpack(), timer);
        }
    }

    #[test]
    fn a_timer_takes_16_bytes() {
        assert_eq!(size_of::<(Timestamp, Packed)>(), 16);
    }
}
