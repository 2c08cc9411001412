//! Timers: which one fires when. Part of the state, so that time passes in a replay as it did in production.
//!
//! Most timers of one variant are set for later than all earlier ones: leases last equally long, jobs live equally
//! long. Such a timer is pushed to the end of its variant's queue in O(1), and the one that fires first is in front.
//! Any other is stored in a tree.
//!
//! Jobs that are scheduled for an instant of the calendar are stored by that instant, and converted when they are
//! looked at: when the machine's clock is set, none of them has to be moved.

use crate::ascending::{AscendingKey, AscendingQueue};
use crate::ids::{JOB_SEQ_MAX, JobSeq, NodeIndex};
use crate::queue::kind::KindIndex;
use crate::rules;
use crate::time::{Calendar, Timestamp, Utc};
use std::collections::{BTreeMap, BTreeSet};

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
    /// The calendar shows the instant that a job is scheduled for; it becomes ready unless its delay ends later.
    /// Ordered as [`Timer::JobDue`]. Set by [`Timers::set_dated`] alone.
    JobDated(JobSeq, Timestamp),
    /// A node's liveness has to be checked.
    NodeLiveness(NodeIndex),
    /// A spent idempotency key with a time to live of its own expires: its place in the slab of keys.
    KeyExpires(u32),
    /// A retry is for all nodes from now on, that of its last attempt included.
    ReservationEnds(JobSeq),
    /// The gate of a kind opens: its pause ends, or its rate allows one more lease.
    KindOpens(KindIndex),
    /// A postponed retry got its credit. At the instant at which it is set.
    JobReleased(JobSeq),
    /// The retry budget has one more credit for postponed retries.
    RetryCredit,
    /// An act on dead letters goes on.
    ActSteps(u32),
    /// The next ready jobs follow a change of fairness or ageing.
    JobsVisited,
    /// A ready job counts one priority higher.
    JobsAge,
    /// The time of a node's quarantine is over.
    QuarantineEnds(NodeIndex),
}

/// A set of timers ordered by instant. All operations are O(log n) in the timers set at most, and O(1) for a timer at
/// the end or in front of its queue. A timer takes 16 bytes.
#[derive(Debug)]
pub(crate) struct Timers {
    /// One for each variant.
    queues: [AscendingQueue<Key, CAPACITY_MIN>; VARIANTS],
    /// Timers that were set for earlier than the last one of their queue.
    late: BTreeSet<Key>,
    /// Jobs by the instant of the calendar that they are scheduled for, each with the instant at which its delay ends.
    dated: BTreeMap<(Utc, JobSeq), Timestamp>,
    calendar: Calendar,
    /// The first of all; [`Timers::NONE`] if none is set.
    first: Key,
    len: usize,
}

/// A timer's instant, and the timer.
type Key = (Timestamp, Packed);

/// A timer in eight bytes, ordered as [`Timer`]: eight bits of variant, 56 of number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Packed(u64);

const VARIANTS: usize = 13;
/// Capacity that each queue keeps with few timers.
const CAPACITY_MIN: usize = 1_024;
const NUMBER_BITS: u32 = 56;
/// The bit of a timer that was cancelled.
const TOMBSTONE: u64 = 1 << 63;
const _: () = assert!(JOB_SEQ_MAX < 1 << NUMBER_BITS);
const _: () = assert!((VARIANTS as u64) << NUMBER_BITS < TOMBSTONE);

impl Default for Timers {
    fn default() -> Self {
        Timers {
            queues: Default::default(),
            late: BTreeSet::new(),
            dated: BTreeMap::new(),
            calendar: Calendar::UNSET,
            first: Timers::NONE,
            len: 0,
        }
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

    /// Sets the timer of a job that waits until the calendar shows `run_at`, and that has a delay until `not_before`.
    /// Does nothing at [`Utc::NEVER`].
    pub fn set_dated(&mut self, run_at: Utc, seq: JobSeq, not_before: Timestamp) {
        if run_at == Utc::NEVER {
            return;
        }
        let before = self.dated.insert((run_at, seq), not_before);
        assert!(before.is_none(), "a timer is set once: {seq:?}");
        self.first = self.first.min(self.key_of_dated(run_at, seq));
        self.len += 1;
    }

    /// Cancels the timer of a job that waits for `run_at`.
    pub fn cancel_dated(&mut self, run_at: Utc, seq: JobSeq) {
        if run_at != Utc::NEVER {
            let was_set = self.remove_dated(run_at, seq);
            assert!(was_set.is_some(), "only a timer that is set is cancelled: {seq:?}");
        }
    }

    /// When the delay ends of a job that waits for `run_at`.
    pub fn not_before(&self, run_at: Utc, seq: JobSeq) -> Timestamp {
        self.dated.get(&(run_at, seq)).copied().unwrap_or_default()
    }

    pub fn calendar(&self) -> Calendar {
        self.calendar
    }

    /// The machine's clock was set: jobs that are scheduled for an instant of the calendar become due at another one.
    /// O(log n).
    pub fn set_calendar(&mut self, calendar: Calendar) {
        self.calendar = calendar;
        self.find_first();
    }

    /// When the next one fires. What the calendar shows only at the end of time never does.
    pub fn next_at(&self) -> Option<Timestamp> {
        (self.first.0 != Timestamp::NEVER).then_some(self.first.0)
    }

    pub fn pop(&mut self) -> Option<(Timestamp, Timer)> {
        self.next_at()?;
        let (at, packed) = self.first;
        if let Some((run_at, seq)) = self.first_dated().filter(|(key, _)| *key == self.first).map(|(_, dated)| dated) {
            let not_before = self.remove_dated(run_at, seq).expect("the first timer is set");
            return Some((at, Timer::JobDated(seq, not_before)));
        }
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
                self.find_first();
            }
        }
        was_set
    }

    fn remove_dated(&mut self, run_at: Utc, seq: JobSeq) -> Option<Timestamp> {
        let not_before = self.dated.remove(&(run_at, seq))?;
        self.len -= 1;
        if self.key_of_dated(run_at, seq) == self.first {
            self.find_first();
        }
        Some(not_before)
    }

    fn find_first(&mut self) {
        let firsts = self.queues.iter().map(AscendingQueue::first).chain([self.late.first().copied()]);
        let dated = self.first_dated().map(|(key, _)| key);
        self.first = firsts.flatten().chain(dated).min().unwrap_or(Timers::NONE);
    }

    fn first_dated(&self) -> Option<(Key, (Utc, JobSeq))> {
        let (run_at, seq) = *self.dated.first_key_value()?.0;
        Some((self.key_of_dated(run_at, seq), (run_at, seq)))
    }

    fn key_of_dated(&self, run_at: Utc, seq: JobSeq) -> Key {
        (rules::dated_at(self.calendar, run_at), Packed::of(Timer::JobDue(seq)))
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
            Timer::JobDue(seq) | Timer::JobDated(seq, _) => (2, seq.get()),
            Timer::NodeLiveness(node) => (3, node.get().into()),
            Timer::KeyExpires(place) => (4, place.into()),
            Timer::ReservationEnds(seq) => (5, seq.get()),
            Timer::KindOpens(kind) => (6, kind.0.into()),
            Timer::JobReleased(seq) => (7, seq.get()),
            Timer::RetryCredit => (8, 0),
            Timer::ActSteps(act) => (9, act.into()),
            Timer::JobsVisited => (10, 0),
            Timer::JobsAge => (11, 0),
            Timer::QuarantineEnds(node) => (12, node.get().into()),
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
            5 => Timer::ReservationEnds(JobSeq::new(number)),
            6 => Timer::KindOpens(KindIndex(number as u32)),
            7 => Timer::JobReleased(JobSeq::new(number)),
            8 => Timer::RetryCredit,
            9 => Timer::ActSteps(number as u32),
            10 => Timer::JobsVisited,
            11 => Timer::JobsAge,
            12 => Timer::QuarantineEnds(NodeIndex::new(number as u32)),
            _ => unreachable!("a timer has one of the variants"),
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
        let kinds = [0, u32::MAX].map(KindIndex).map(Timer::KindOpens);
        let timers = jobs.chain(nodes).chain(seqs.map(Timer::ReservationEnds)).chain(kinds);
        let more = seqs.map(Timer::JobReleased).into_iter().chain([
            Timer::RetryCredit,
            Timer::ActSteps(0),
            Timer::ActSteps(u32::MAX),
            Timer::JobsVisited,
            Timer::JobsAge,
            Timer::QuarantineEnds(NodeIndex::new(0)),
            Timer::QuarantineEnds(NodeIndex::new(u32::MAX)),
        ]);
        let timers: Vec<_> = timers.chain(more).collect();
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
    fn a_dated_job_beyond_the_end_of_time_is_never_due_until_the_calendar_shows_otherwise() {
        let mut timers = Timers::default();
        timers.set_calendar(Calendar::from_offset_ms(-100));
        timers.set_dated(Utc::from_millis(u64::MAX - 50), JobSeq::new(1), Timestamp::ZERO);
        assert_eq!((timers.next_at(), timers.pop()), (None, None));
        timers.set_calendar(Calendar::from_offset_ms(100));
        let due_at = Timestamp::from_millis(u64::MAX - 150);
        assert_eq!(timers.pop(), Some((due_at, Timer::JobDated(JobSeq::new(1), Timestamp::ZERO))));
    }

    #[test]
    fn a_dated_job_is_due_when_the_calendar_shows_its_instant() {
        let (at, seq, mut timers) = (Timestamp::from_millis, JobSeq::new, Timers::default());
        for (run_at, job) in [(100, 1), (300, 2), (200, 3), (u64::MAX, 4)] {
            timers.set_dated(Utc::from_millis(run_at), seq(job), at(job));
        }
        timers.set(at(150), Timer::JobDue(seq(5)));
        assert_eq!((timers.len(), timers.next_at()), (4, Some(at(100))));
        timers.set_calendar(Calendar::from_offset_ms(-100));
        assert_eq!(timers.pop(), Some((at(150), Timer::JobDue(seq(5)))));
        assert_eq!(timers.pop(), Some((at(200), Timer::JobDated(seq(1), at(1)))));
        timers.set_calendar(Calendar::from_offset_ms(250));
        assert_eq!(timers.not_before(Utc::from_millis(300), seq(2)), at(2));
        timers.cancel_dated(Utc::from_millis(200), seq(3));
        assert_eq!(timers.pop(), Some((at(50), Timer::JobDated(seq(2), at(2)))));
        assert_eq!((timers.len(), timers.next_at()), (0, None));
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
