//! Timers: what falls due when. Part of the state, so that time passes in a replay as it did in production.
//!
//! Most timers of one sort are set for later than all before them: leases last equally long, jobs live equally long. Such a
//! timer goes to the end of its sort's row in O(1), and the one that ends first is in front. Any other stands in a tree. A
//! timer in a row that is cancelled leaves a mark, which goes when it comes to the front or when half of the row is marks.

use crate::ids::{JOB_SEQ_MAX, JobSeq, NodeIndex};
use crate::time::Timestamp;
use std::collections::{BTreeSet, VecDeque};

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

/// A set of timers ordered by instant. All operations are O(log n) in the timers set at most, and O(1) for one that is set
/// last or due first in its row. A timer takes 16 bytes.
#[derive(Debug)]
pub(crate) struct Timers {
    /// One for each sort.
    rows: [Row; SORTS],
    late: BTreeSet<Key>,
    /// The first of all; [`Timers::NONE`] if there is none.
    first: Key,
    len: usize,
}

/// When, and what.
type Key = (Timestamp, Packed);

/// Timers in ascending order, with marks where some were. The first one is never a mark.
#[derive(Default, Debug)]
struct Row {
    keys: VecDeque<Key>,
    marks: usize,
}

/// A timer in eight bytes, in the order of [`Timer`]: eight bits of variant, 56 of number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Packed(u64);

const SORTS: usize = 5;
const NUMBER_BITS: u32 = 56;
/// The bit of a timer that was cancelled.
const MARK: u64 = 1 << 63;
const _: () = assert!(JOB_SEQ_MAX < 1 << NUMBER_BITS);
const _: () = assert!((SORTS as u64) << NUMBER_BITS < MARK);

impl Default for Timers {
    fn default() -> Self {
        Timers { rows: Default::default(), late: BTreeSet::new(), first: Timers::NONE, len: 0 }
    }
}

impl Timers {
    /// After all timers.
    const NONE: Key = (Timestamp::NEVER, Packed(u64::MAX));

    /// Sets a timer; one at [`Timestamp::NEVER`] is not kept.
    pub fn set(&mut self, at: Timestamp, timer: Timer) {
        if at == Timestamp::NEVER {
            return;
        }
        let key = (at, Packed::of(timer));
        if !self.rows[key.1.sort()].push(key) {
            let is_new = self.late.insert(key);
            assert!(is_new, "a timer is set once: {timer:?}");
        }
        self.first = self.first.min(key);
        self.len += 1;
    }

    /// Takes back a timer that was set for `at`.
    pub fn cancel(&mut self, at: Timestamp, timer: Timer) {
        if at == Timestamp::NEVER {
            return;
        }
        let key = (at, Packed::of(timer));
        let was_set = self.remove(key);
        assert!(was_set, "only a timer that is set is cancelled: {timer:?}");
    }

    /// When the next one falls due.
    pub fn next_at(&self) -> Option<Timestamp> {
        (self.first != Timers::NONE).then_some(self.first.0)
    }

    /// Takes the next one.
    pub fn pop(&mut self) -> Option<(Timestamp, Timer)> {
        self.next_at()?;
        let (at, packed) = self.first;
        let was_set = self.remove(self.first);
        assert!(was_set, "the first timer is set");
        Some((at, packed.unpack()))
    }

    /// How many are set.
    pub fn len(&self) -> usize {
        self.len
    }

    fn remove(&mut self, key: Key) -> bool {
        let row = &mut self.rows[key.1.sort()];
        let was_set = row.remove_first(key) || self.late.remove(&key) || row.remove(key);
        if was_set {
            self.len -= 1;
            if key == self.first {
                let firsts = self.rows.iter().map(|row| row.keys.front()).chain([self.late.first()]);
                self.first = firsts.flatten().copied().min().unwrap_or(Timers::NONE);
            }
        }
        was_set
    }
}

impl Row {
    /// Puts a timer at the end; `false` if it is not later than the last one.
    fn push(&mut self, key: Key) -> bool {
        let is_last = self.keys.back().is_none_or(|(at, last)| (*at, last.without_mark()) < key);
        if is_last {
            self.keys.push_back(key);
        }
        is_last
    }

    /// Takes out the timer in front, if it is this one. O(1) over all.
    fn remove_first(&mut self, key: Key) -> bool {
        if self.keys.front() != Some(&key) {
            return false;
        }
        self.keys.pop_front();
        while self.marks > 0 && self.keys.front().is_some_and(|(_, packed)| packed.has_mark()) {
            self.keys.pop_front();
            self.marks -= 1;
        }
        // A burst's room is given back when little of it is used.
        if self.keys.capacity() > 1_024 && self.keys.len() < self.keys.capacity() / 8 {
            self.keys.shrink_to(self.keys.len() * 2);
        }
        true
    }

    /// Leaves a mark for a timer that is not in front; `false` if it is not there.
    fn remove(&mut self, key: Key) -> bool {
        let Ok(index) = self.keys.binary_search_by_key(&key, |(at, packed)| (*at, packed.without_mark())) else {
            return false;
        };
        if self.keys[index] != key {
            return false;
        }
        self.keys[index].1.0 |= MARK;
        self.marks += 1;
        if self.marks * 2 > self.keys.len() {
            self.keys.retain(|(_, packed)| !packed.has_mark());
            self.marks = 0;
        }
        true
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

    fn sort(self) -> usize {
        (self.0 >> NUMBER_BITS) as usize
    }

    fn without_mark(self) -> Packed {
        Packed(self.0 & !MARK)
    }

    fn has_mark(self) -> bool {
        self.0 & MARK != 0
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
    fn no_timer_comes_next_where_none_is_set() {
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
        /// Beside a sorted set: whatever is set, cancelled and taken, the next one is the smallest.
        #[test]
        fn the_next_timer_is_the_earliest(
            steps in prop::collection::vec((0..6_u8, 0..3_u64, any::<u16>()), 1..400),
        ) {
            let (mut timers, mut set, mut now) = (Timers::default(), BTreeSet::new(), 0);
            for (number, (step, ahead, pick)) in steps.into_iter().enumerate() {
                now += ahead;
                match step {
                    0..4 => {
                        // Two sorts, which mostly end equally far ahead.
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
