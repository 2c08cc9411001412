//! Heads: the first ready job of each lane of a class, and which of these comes first.
//!
//! An indexed binary heap (Sedgewick and Wayne, *Algorithms*, 4th ed., section 2.4): each lane knows where its head is, so
//! that one that changes is moved in place. To find the first is O(1), to change one O(log n) in the lanes with ready jobs,
//! without an allocation for each. A head takes 24 bytes.

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

/// Where each lane's head is in its class's heap.
#[derive(Default, Debug)]
pub(super) struct HeadPlaces(Vec<u32>);

/// Heads for which a heap keeps its room when it has few.
const ROOM_KEPT: usize = 16;

impl Heads {
    /// The head that comes first.
    pub fn first(&self) -> Option<&Head> {
        self.heap.first()
    }

    /// Kinds of the lanes with ready jobs, in no order that means something.
    pub fn kinds(&self) -> impl Iterator<Item = KindIndex> {
        self.heap.iter().map(|head| head.kind)
    }

    /// A lane without ready jobs has one.
    pub fn insert(&mut self, places: &mut HeadPlaces, head: Head) {
        self.heap.push(head);
        places.make_room_for(head.lane);
        self.rise(places, self.heap.len() - 1);
    }

    /// Another job of the same lane is its first one.
    pub fn replace(&mut self, places: &mut HeadPlaces, head: Head) {
        let place = places.get(head.lane);
        let old = std::mem::replace(&mut self.heap[place], head);
        assert!(old.lane == head.lane, "a head is where its lane says");
        if head.rank < old.rank {
            self.rise(places, place);
        } else {
            self.sink(places, place);
        }
    }

    /// A lane has no ready jobs any more.
    pub fn remove(&mut self, places: &mut HeadPlaces, lane: LaneIndex) {
        let place = places.get(lane);
        let old = self.heap.swap_remove(place);
        assert!(old.lane == lane, "a head is where its lane says");
        if place < self.heap.len() {
            self.rise(places, place);
            self.sink(places, place);
        }
        if self.heap.capacity() > ROOM_KEPT && self.heap.len() < self.heap.capacity() / 4 {
            self.heap.shrink_to(self.heap.len() * 2);
        }
    }

    fn rise(&mut self, places: &mut HeadPlaces, mut place: usize) {
        let head = self.heap[place];
        while place > 0 {
            let parent = (place - 1) / 2;
            if self.heap[parent].rank < head.rank {
                break;
            }
            self.put(places, place, self.heap[parent]);
            place = parent;
        }
        self.put(places, place, head);
    }

    fn sink(&mut self, places: &mut HeadPlaces, mut place: usize) {
        let head = self.heap[place];
        loop {
            let left = 2 * place + 1;
            let Some(mut child) = self.heap.get(left) else { break };
            let mut next = left;
            if let Some(right) = self.heap.get(left + 1).filter(|right| right.rank < child.rank) {
                (child, next) = (right, left + 1);
            }
            if head.rank < child.rank {
                break;
            }
            self.put(places, place, *child);
            place = next;
        }
        self.put(places, place, head);
    }

    #[inline]
    fn put(&mut self, places: &mut HeadPlaces, place: usize, head: Head) {
        self.heap[place] = head;
        places.set(head.lane, place);
    }
}

impl HeadPlaces {
    fn get(&self, lane: LaneIndex) -> usize {
        self.0[lane.0 as usize] as usize
    }

    fn set(&mut self, lane: LaneIndex, place: usize) {
        self.0[lane.0 as usize] = place as u32;
    }

    fn make_room_for(&mut self, lane: LaneIndex) {
        if lane.0 as usize >= self.0.len() {
            self.0.resize(lane.0 as usize + 1, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::Priority;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn head(lane: u32, job: u64) -> Head {
        let job = JobSeq::new(job);
        Head { rank: Rank::new(Priority::Normal, job), job, kind: KindIndex(lane), lane: LaneIndex(lane) }
    }

    proptest! {
        /// Beside a map by lane: whichever head comes, changes or goes, the first is the one of the smallest rank.
        #[test]
        fn the_first_head_has_the_smallest_rank(steps in prop::collection::vec((0..24_u32, 0..4_u8, any::<u16>()), 1..300)) {
            let (mut heads, mut places, mut by_lane) = (Heads::default(), HeadPlaces::default(), BTreeMap::new());
            for (number, (lane, step, pick)) in steps.into_iter().enumerate() {
                // A number of its own, above or below the others.
                let new = head(lane, (u64::from(pick) << 16) + number as u64 + 1);
                match by_lane.get(&lane) {
                    None => heads.insert(&mut places, new),
                    Some(_) if step == 0 => heads.remove(&mut places, LaneIndex(lane)),
                    Some(_) => heads.replace(&mut places, new),
                }
                if by_lane.contains_key(&lane) && step == 0 {
                    by_lane.remove(&lane);
                } else {
                    by_lane.insert(lane, new);
                }
                prop_assert_eq!(heads.first(), by_lane.values().min_by_key(|head| head.rank));
                let mut kinds: Vec<_> = heads.kinds().map(|kind| kind.0).collect();
                kinds.sort_unstable();
                prop_assert!(kinds.iter().eq(by_lane.keys()));
            }
        }
    }
}
