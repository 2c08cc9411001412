//! Heads: the first ready job of each lane of a class, and which of these comes first.
//!
//! An indexed binary heap (Sedgewick and Wayne, *Algorithms*, 4th ed., section 2.4): each lane knows the position of
//! its head, so that a changed head is moved in place. To find the first is O(1), to change one O(log n) in the lanes
//! with ready jobs, without an allocation for each. A head takes 32 bytes.

use crate::ids::JobSeq;
use crate::queue::class::LaneIndex;
use crate::queue::kind::KindIndex;
use crate::queue::lane::Rank;

/// The heads of a class's lanes. No two have the same rank.
#[derive(Default, Debug)]
pub(super) struct Heads {
    heap: Vec<Head>,
}

/// The first ready job of a lane.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Head {
    pub rank: Rank,
    pub job: JobSeq,
    pub kind: KindIndex,
    pub lane: LaneIndex,
}

/// The position of each lane's head in its class's heap.
#[derive(Default, Debug)]
pub(super) struct HeadPositions(Vec<u32>);

/// A heap's capacity is not reduced below so many heads.
const CAPACITY_MIN: usize = 16;

impl Heads {
    /// The head of the smallest rank.
    pub fn first(&self) -> Option<&Head> {
        self.heap.first()
    }

    /// Adds the head of a lane that had none.
    pub fn insert(&mut self, positions: &mut HeadPositions, head: Head) {
        self.heap.push(head);
        positions.extend_to(head.lane);
        self.rise(positions, self.heap.len() - 1);
    }

    /// Replaces the head of the same lane.
    pub fn replace(&mut self, positions: &mut HeadPositions, head: Head) {
        let position = positions.get(head.lane);
        let old = std::mem::replace(&mut self.heap[position], head);
        assert!(old.lane == head.lane, "a lane knows the position of its head");
        if head.rank < old.rank {
            self.rise(positions, position);
        } else {
            self.sink(positions, position);
        }
    }

    /// Removes the head of a lane that has no ready jobs any more.
    pub fn remove(&mut self, positions: &mut HeadPositions, lane: LaneIndex) {
        let position = positions.get(lane);
        let old = self.heap.swap_remove(position);
        assert!(old.lane == lane, "a lane knows the position of its head");
        if position < self.heap.len() {
            self.rise(positions, position);
            self.sink(positions, position);
        }
        if self.heap.capacity() > CAPACITY_MIN && self.heap.len() < self.heap.capacity() / 4 {
            self.heap.shrink_to(self.heap.len() * 2);
        }
    }

    fn rise(&mut self, positions: &mut HeadPositions, mut position: usize) {
        let head = self.heap[position];
        while position > 0 {
            let parent = (position - 1) / 2;
            if self.heap[parent].rank < head.rank {
                break;
            }
            self.put(positions, position, self.heap[parent]);
            position = parent;
        }
        self.put(positions, position, head);
    }

    fn sink(&mut self, positions: &mut HeadPositions, mut position: usize) {
        let head = self.heap[position];
        loop {
            let left = 2 * position + 1;
            let Some(mut child) = self.heap.get(left) else { break };
            let mut next = left;
            if let Some(right) = self.heap.get(left + 1).filter(|right| right.rank < child.rank) {
                (child, next) = (right, left + 1);
            }
            if head.rank < child.rank {
                break;
            }
            self.put(positions, position, *child);
            position = next;
        }
        self.put(positions, position, head);
    }

    #[inline]
    fn put(&mut self, positions: &mut HeadPositions, position: usize, head: Head) {
        self.heap[position] = head;
        positions.set(head.lane, position);
    }
}

impl HeadPositions {
    fn get(&self, lane: LaneIndex) -> usize {
        self.0[lane.0 as usize] as usize
    }

    fn set(&mut self, lane: LaneIndex, position: usize) {
        self.0[lane.0 as usize] = position as u32;
    }

    fn extend_to(&mut self, lane: LaneIndex) {
        if lane.0 as usize >= self.0.len() {
            self.0.resize(lane.0 as usize + 1, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn head(lane: u32, job: u64) -> Head {
        let job = JobSeq::new(job);
        Head { rank: Rank::new(2, 0, job), job, kind: KindIndex(lane), lane: LaneIndex(lane) }
    }

    proptest! {
        /// Against a map by lane: after any insertion, change or removal the first head has the smallest rank.
        #[test]
        fn the_first_head_has_the_smallest_rank(steps in prop::collection::vec((0..24_u32, 0..4_u8, any::<u16>()), 1..300)) {
            let (mut heads, mut positions, mut by_lane) = (Heads::default(), HeadPositions::default(), BTreeMap::new());
            for (number, (lane, step, pick)) in steps.into_iter().enumerate() {
                // A unique number, above or below the others.
                let new = head(lane, (u64::from(pick) << 16) + number as u64 + 1);
                match by_lane.get(&lane) {
                    None => heads.insert(&mut positions, new),
                    Some(_) if step == 0 => heads.remove(&mut positions, LaneIndex(lane)),
                    Some(_) => heads.replace(&mut positions, new),
                }
                if by_lane.contains_key(&lane) && step == 0 {
                    by_lane.remove(&lane);
                } else {
                    by_lane.insert(lane, new);
                }
                prop_assert_eq!(heads.first(), by_lane.values().min_by_key(|head| head.rank));
                let mut kinds: Vec<_> = heads.heap.iter().map(|head| head.kind.0).collect();
                kinds.sort_unstable();
                prop_assert!(kinds.iter().eq(by_lane.keys()));
            }
        }
    }
}
