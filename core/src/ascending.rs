//! Ascending queues: keys that arrive in ascending order and leave in any order, most of them from the front.
//!
//! A key that is above the last one is pushed to the end: O(1), and no memory but its own. A key that is removed from the
//! middle is replaced by a tombstone; tombstones are dropped when they reach the front, and all of them when they are more
//! than half of the queue. So a removal is O(log n) amortised, and O(1) for the first key.

use std::collections::VecDeque;

/// A key that can be marked as removed.
pub(crate) trait AscendingKey: Copy + Ord {
    /// The key, marked as removed.
    fn tombstone(self) -> Self;
    /// The key without the mark.
    fn without_tombstone(self) -> Self;
}

/// Keys in ascending order. The first one is never a tombstone. The capacity is not reduced below `CAPACITY_MIN`.
#[derive(Debug)]
pub(crate) struct AscendingQueue<K, const CAPACITY_MIN: usize> {
    keys: VecDeque<K>,
    tombstones: usize,
}

impl<K: AscendingKey, const CAPACITY_MIN: usize> AscendingQueue<K, CAPACITY_MIN> {
    /// The smallest key.
    pub fn first(&self) -> Option<K> {
        self.keys.front().copied()
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.keys.len() - self.tombstones
    }

    /// How many keys are smaller than this one. O(n) in those, if any were removed from among them.
    pub fn before(&self, key: K) -> usize {
        let index = self.keys.partition_point(|other| other.without_tombstone() < key);
        if self.tombstones == 0 { index } else { self.keys.range(..index).filter(|key| !is_tombstone(**key)).count() }
    }

    /// Pushes a key to the end; `false` if it is not above the last one.
    pub fn push(&mut self, key: K) -> bool {
        let is_last = self.keys.back().is_none_or(|last| last.without_tombstone() < key);
        if is_last {
            // A long queue grows by a quarter: doubled, a queue of a million would hold capacity for two.
            if self.keys.len() == self.keys.capacity() {
                let len = self.keys.len();
                self.keys.reserve_exact((len / 4).max(len.min(64)).max(4));
            }
            self.keys.push_back(key);
        }
        is_last
    }

    /// Removes a key if it is the first one; whether it was.
    pub fn remove_first(&mut self, key: K) -> bool {
        if self.keys.front() != Some(&key) {
            return false;
        }
        self.keys.pop_front();
        while self.tombstones > 0 && self.keys.front().is_some_and(|key| is_tombstone(*key)) {
            self.keys.pop_front();
            self.tombstones -= 1;
        }
        self.compact();
        true
    }

    /// Removes a key; whether it was in the queue.
    pub fn remove(&mut self, key: K) -> bool {
        if self.remove_first(key) {
            return true;
        }
        let Ok(index) = self.keys.binary_search_by_key(&key, |other| other.without_tombstone()) else { return false };
        if self.keys[index] != key {
            return false;
        }
        self.keys[index] = key.tombstone();
        self.tombstones += 1;
        self.compact();
        true
    }

    /// Drops tombstones that are more than half of the queue, and reduces the capacity when little of it is used, as after
    /// a burst.
    fn compact(&mut self) {
        if self.tombstones * 2 > self.keys.len() {
            self.keys.retain(|key| !is_tombstone(*key));
            self.tombstones = 0;
        }
        if self.keys.capacity() > CAPACITY_MIN && self.keys.len() < self.keys.capacity() / 8 {
            self.keys.shrink_to((self.keys.len() * 2).max(CAPACITY_MIN));
        }
    }
}

impl<K, const CAPACITY_MIN: usize> Default for AscendingQueue<K, CAPACITY_MIN> {
    fn default() -> Self {
        AscendingQueue { keys: VecDeque::new(), tombstones: 0 }
    }
}

fn is_tombstone<K: AscendingKey>(key: K) -> bool {
    key != key.without_tombstone()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    const REMOVED: u16 = 1 << 15;

    impl AscendingKey for u16 {
        fn tombstone(self) -> u16 {
            self | REMOVED
        }
        fn without_tombstone(self) -> u16 {
            self & !REMOVED
        }
    }

    #[test]
    fn tombstones_are_never_more_than_half_and_capacity_is_reduced() {
        let mut queue = AscendingQueue::<u16, 16>::default();
        assert!((0..1_000).all(|key| queue.push(key)));
        for (removed, key) in (1..1_000).rev().enumerate() {
            assert!(queue.remove(key) && !queue.remove(key));
            let left = 999 - removed;
            assert!(queue.keys.len() <= 2 * left, "{} of {left}", queue.keys.len());
            assert!(queue.keys.capacity() <= (8 * queue.keys.len()).max(16) + 8, "{} of {left}", queue.keys.capacity());
        }
        assert_eq!(queue.first(), Some(0));
    }

    #[test]
    fn a_key_that_was_removed_from_the_end_may_not_be_pushed_again() {
        let mut queue = AscendingQueue::<u16, 16>::default();
        assert!((0..4).all(|key| queue.push(key)));
        assert!(queue.remove(3));
        assert!(!queue.push(3) && !queue.push(2));
        assert!(queue.push(4) && queue.remove(4));
    }

    proptest! {
        /// Beside a sorted set: whatever is pushed and removed, the first key is the smallest.
        #[test]
        fn the_first_key_is_the_smallest(steps in prop::collection::vec((0..4_u8, 0..60_u16), 1..300)) {
            let (mut queue, mut set) = (AscendingQueue::<u16, 16>::default(), BTreeSet::new());
            let mut last = 0;
            for (step, pick) in steps {
                match step {
                    0 | 1 => {
                        last += pick;
                        let is_pushed = queue.push(last);
                        prop_assert!(!is_pushed || set.insert(last));
                    }
                    2 => {
                        let key = set.iter().nth(usize::from(pick) % set.len().max(1)).copied().unwrap_or(7);
                        prop_assert_eq!(queue.remove(key), set.remove(&key));
                        prop_assert!(!queue.remove(key));
                    }
                    _ => {
                        let key = set.first().copied().unwrap_or(7);
                        prop_assert_eq!(queue.remove_first(key), set.remove(&key));
                    }
                }
                prop_assert_eq!(queue.first(), set.first().copied());
                prop_assert!(queue.tombstones * 2 <= queue.keys.len());
            }
        }
    }
}
