//! Timers: which one fires when. Part of the state, so that time passes in a replay as it did in production.
//!
//! Most timers of one variant are set for later than all earlier ones: leases last equally long, jobs live equally
//! long. Such a timer is pushed to the end of its variant's queue in O(1), and the one that fires first is in front.
//! Any other is stored in a tree.

use crate::ascending::{AscendingKey, AscendingQueue};
use crate::ids::{JOB_SEQ_MAX, JobSeq, NodeIndex};
use crate::time::Timestamp;
use std::collections::BTreeSet;

/// What is due. The order of the variants breaks ties between timers of the same instant, in every replay alike.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Timer {
    /// A job's time to live is over. First, so that a job whose lease ends or that becomes ready at the same instant
    /// has expired already.
    JobExpires(JobSeq),
    /// A lease ends.
    LeaseEnds(JobSeq),
    /// A scheduled job becomes ready.
    JobDue(JobSeq),
    /// A node's liveness has to be checked.
    NodeLiveness(NodeIndex),
    /// A spent idempotency key with a time to live of its own expires: its place in the slab of keys.
    KeyExpires(u32),
}

/// A set of timers ordered by instant. All operations are O(log n) in the timers set at most, and O(1) for a timer at
/// the end or in front of its queue. A timer takes 16 bytes.
#[derive(Debug)]
pub(crate) struct Timers {
    /// One for each variant.
    queues: [AscendingQueue<Key, CAPACITY_MIN>; VARIANTS],
    /// Timers that were set for earlier than the last one of their queue.
    late: BTreeSet<Key>,
    /// The first of all; [`Timers::NONE`] if none is set.
    first: Key,
    len: usize,
}

/// A timer's instant, and the timer.
type Key = (Timestamp, Packed);

/// A timer in eight bytes, ordered as [`Timer`]: eight bits of variant, 56 of number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Packed(u64);

const VARIANTS: usize = 5;
/// Capacity that each queue keeps with few timers.
const CAPACITY_MIN: usize = 1_024;
const NUMBER_BITS: u32 = 56;
/// The bit of a timer that was cancelled.
const TOMBSTONE: u64 = 1 << 63;
const _: () = assert!(JOB_SEQ_MAX < 1 << NUMBER_BITS);
const _: () = assert!((VARIANTS as u64) << NUMBER_BITS < TOMBSTONE);

impl Default for Timers {
    fn default() -> Self {
        Timers { queues: Default::default(), late: BTreeSet::new(), first: Timers::NONE, len: 0 }
    }
}

impl Timers {
    /// After all timers.
    const NONE: Key = (Timestamp::NEVER, Packed(u64::MAX));

    /// Sets a timer; does nothing at [`Timestamp::NEVER`].
    pub fn set(&mut self, at: Timestamp, timer: Timer) {
        if at == Timestamp::NEVER {
            return;
        }
        let key = (at, Packed::of(timer));
        if !self.queues[key.1.variant()].push(key) {
            let is_new = self.late.insert(key);
            assert!(is_new, "a timer is set once: {timer:?}");
        }
        self.first = self.first.min(key);
        self.len += 1;
    }

    /// Cancels a timer that was set for `at`.
    pub fn cancel(&mut self, at: Timestamp, timer: Timer) {
        if at == Timestamp::NEVER {
            return;
        }
        let key = (at, Packed::of(timer));
        let was_set = self.remove(key);
        assert!(was_set, "only a timer that is set is cancelled: {timer:?}");
    }

    /// When the next one fires.
    pub fn next_at(&self) -> Option<Timestamp> {
        (self.first != Timers::NONE).then_some(self.first.0)
    }

    pub fn pop(&mut self) -> Option<(Timestamp, Timer)> {
        self.next_at()?;
        let (at, packed) = self.first;
        let was_set = self.remove(self.first);
        assert!(was_set, "the first timer is set");
        Some((at, packed.unpack()))
    }

    pub fn len(&self) -> usize {
        self.len
    }

    fn remove(&mut self, key: Key) -> bool {
        let queue = &mut self.queues[key.1.variant()];
        let was_set = queue.remove_first(key) || self.late.remove(&key) || queue.remove(key);
        if was_set {
            self.len -= 1;
            if key == self.first {
                let firsts = self.queues.iter().map(AscendingQueue::first).chain([self.late.first().copied()]);
                self.first = firsts.flatten().min().unwrap_or(Timers::NONE);
            }
        }
        was_set
    }
}

impl AscendingKey for Key {
    fn tombstone(self) -> Key {
        (self.0, Packed(self.1.0 | TOMBSTONE))
    }

    fn without_tombstone(self) -> Key {
        (self.0, Packed(self.1.0 & !TOMBSTONE))
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

    fn variant(self) -> usize {
        (self.0 >> NUMBER_BITS) as usize
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
    use proptest::prelude::*;

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
        assert_eq!(size_of::<Key>(), 16);
    }

    #[test]
    fn a_timer_at_never_is_not_set() {
        let mut timers = Timers::default();
        timers.set(Timestamp::NEVER, Timer::KeyExpires(1));
        assert_eq!((timers.next_at(), timers.pop(), timers.len()), (None, None, 0));
    }

    #[test]
    fn a_timer_that_was_cancelled_is_set_for_the_same_instant_again() {
        let mut timers = Timers::default();
        let (at, timer) = (Timestamp::from_millis, |seq| Timer::LeaseEnds(JobSeq::new(seq)));
        (1..=10).for_each(|seq| timers.set(at(1), timer(seq)));
        for _ in 0..4 {
            timers.set(at(2), timer(11));
            timers.cancel(at(2), timer(11));
        }
        timers.set(at(2), timer(11));
        let expected = (1..=10).map(|seq| (at(1), timer(seq))).chain([(at(2), timer(11))]);
        assert!(expected.eq(std::iter::from_fn(|| timers.pop())));
        assert_eq!(timers.len(), 0);
    }

    proptest! {
        /// Against a sorted set: after any timers are set, cancelled and popped, the next one is the smallest.
        #[test]
        fn the_next_timer_is_the_earliest(
            steps in prop::collection::vec((0..6_u8, 0..3_u64, any::<u16>()), 1..400),
        ) {
            let (mut timers, mut set, mut now) = (Timers::default(), BTreeSet::new(), 0);
            for (number, (step, ahead, pick)) in steps.into_iter().enumerate() {
                now += ahead;
                match step {
                    0..4 => {
                        // Two variants, most of them set equally far ahead.
                        let at = Timestamp::from_millis(now + if step == 0 { u64::from(pick % 50) } else { 20 });
                        let seq = JobSeq::new(1_000 - number as u64);
                        let timer = if pick % 2 == 0 { Timer::LeaseEnds(seq) } else { Timer::JobDue(seq) };
                        timers.set(at, timer);
                        set.insert((at, timer));
                    }
                    4 => {
                        let Some(one) = set.iter().nth(usize::from(pick) % set.len().max(1)).copied() else { continue };
                        set.remove(&one);
                        timers.cancel(one.0, one.1);
                    }
                    _ => prop_assert_eq!(timers.pop(), set.pop_first()),
                }
                prop_assert_eq!(timers.next_at(), set.first().map(|(at, _)| *at));
                prop_assert_eq!(timers.len(), set.len());
            }
        }
    }
}
