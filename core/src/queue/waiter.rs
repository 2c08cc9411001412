//! Waiters: the long polls that wait for a job. Ephemeral: a restart loses them, and their clients poll again.
//!
//! A waiter has a place in one line for each kind that it names (or in the one for any kind); a line is shared by
//! waiters of one profile. The head of a line for a node is that node's longest waiting one; a node without room for a
//! lease has no heads until it may have room again. A job that becomes ready only marks its lane for waking. When the
//! shell settles, as many waiters are woken as there are jobs for them and room for leases, the longest waiting first:
//! O(lines) for a lane, then O(log n) for each woken waiter and each node found without room, however many are parked.

use crate::ledger::{Account, Ledger};
use crate::limits::{PLACE_BYTES, WAITER_BYTES, WAITER_LINES_MAX, WAITER_PLACES_MAX, WAITERS_MAX};
use crate::name::Name;
use crate::queue::class::{Classes, Slot};
use crate::queue::kind::KindIndex;
use crate::queue::profile::{ProfileIndex, Profiles, Wanted};
use crate::zone::Zone;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::ops::Bound;

/// A long poll's number, given by the shell; the one with the smaller number has waited longer.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct WaiterId(pub u64);

/// A parked long poll.
#[derive(Debug)]
pub(crate) struct Waiter {
    pub node: Name,
    pub profile: ProfileIndex,
    /// Without repeats.
    pub wanted: Vec<Wanted>,
    pub jobs_max: u64,
}

/// All parked long polls.
#[derive(Default, Debug)]
pub(crate) struct Waiters {
    parked: BTreeMap<WaiterId, Waiter>,
    lines: BTreeMap<(Wanted, ProfileIndex), Line>,
    /// What the polls of each node wait for.
    by_node: BTreeSet<(Name, Wanted, WaiterId)>,
    places: usize,
    /// Lanes with ready jobs for which waiters may have to be woken.
    marked_lanes: BTreeSet<(Slot, KindIndex)>,
    /// Marked lanes of zones that have no room for a lease.
    lanes_of_full_zones: BTreeMap<Zone, BTreeSet<(Slot, KindIndex)>>,
    /// Nodes with waiters that may have room for a lease which they did not have before.
    freed_nodes: BTreeSet<Name>,
    /// Nodes with waiters that were found without room: lines have no heads for them.
    full_nodes: BTreeSet<Name>,
}

/// The waiters of one profile that wait for one kind, or for any.
#[derive(Default, Debug)]
struct Line {
    /// Occupied places.
    places: usize,
    /// The longest waiting one of each node that is not full.
    heads: BTreeSet<(WaiterId, Name)>,
}

/// The result of offering jobs to a waiter.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Offer {
    /// It is woken.
    Accepted,
    /// It is not woken: others of its node were woken for all the room of the node.
    PassedOver,
    /// Its node has no room.
    NodeFull,
    /// No jobs are left.
    NoneLeft,
}

impl Waiters {
    /// Whether one more may be parked that waits for `known`, and for `unknown_count` kinds that have no row yet.
    pub fn has_room_for(&self, profile: ProfileIndex, known: &[Wanted], unknown_count: usize) -> bool {
        let new_lines = known.iter().filter(|wanted| !self.lines.contains_key(&(**wanted, profile))).count();
        self.parked.len() < WAITERS_MAX
            && self.places + known.len() + unknown_count <= WAITER_PLACES_MAX
            && self.lines.len() + new_lines + unknown_count <= WAITER_LINES_MAX
    }

    /// Parks a waiter for which there is room.
    pub fn park(&mut self, ledger: &mut Ledger, id: WaiterId, waiter: Waiter) {
        ledger.charge(Account::Waiters, waiter.bytes());
        self.places += waiter.wanted.len();
        let is_full = self.full_nodes.contains(&waiter.node);
        for wanted in &waiter.wanted {
            let old_head = self.first_place_for(&waiter.node, *wanted);
            let line = self.lines.entry((*wanted, waiter.profile)).or_default();
            line.places += 1;
            if !is_full && old_head.is_none_or(|old| id < old) {
                if let Some(old) = old_head {
                    line.heads.remove(&(old, waiter.node.clone()));
                }
                line.heads.insert((id, waiter.node.clone()));
            }
            self.by_node.insert((waiter.node.clone(), *wanted, id));
        }
        let old = self.parked.insert(id, waiter);
        assert!(old.is_none(), "a waiter is parked once");
    }

    /// Removes a waiter; `None` if it is not parked (any more).
    pub fn unpark(&mut self, ledger: &mut Ledger, id: WaiterId) -> Option<Waiter> {
        let waiter = self.parked.remove(&id)?;
        ledger.release(Account::Waiters, waiter.bytes());
        self.places -= waiter.wanted.len();
        for wanted in &waiter.wanted {
            self.by_node.remove(&(waiter.node.clone(), *wanted, id));
            let next_head = self.first_place_for(&waiter.node, *wanted);
            let key = (*wanted, waiter.profile);
            let line = self.lines.get_mut(&key).expect("a parked waiter has its lines");
            line.places -= 1;
            if line.heads.remove(&(id, waiter.node.clone())) {
                line.heads.extend(next_head.map(|next| (next, waiter.node.clone())));
            }
            if line.places == 0 {
                self.lines.remove(&key);
            }
        }
        if self.first_place(&waiter.node).is_none() {
            self.full_nodes.remove(&waiter.node);
            self.freed_nodes.remove(&waiter.node);
        }
        Some(waiter)
    }

    /// The waiters of a node, the longest waiting first.
    pub fn of_node(&self, node: &Name) -> Vec<WaiterId> {
        let from = (node.clone(), Wanted::Any, WaiterId(0));
        let places = self.by_node.range(from..).take_while(|(of, _, _)| of == node);
        let ids: BTreeSet<_> = places.map(|(_, _, id)| *id).collect();
        ids.into_iter().collect()
    }

    /// Marks a lane that has one more ready job.
    pub fn mark_lane(&mut self, slot: Slot, kind: KindIndex) {
        if !self.parked.is_empty() {
            self.marked_lanes.insert((slot, kind));
        }
    }

    /// A node's lease ended: it may have room.
    pub fn note_freed(&mut self, node: &Name) {
        if self.parked.is_empty() && self.full_nodes.is_empty() {
            return;
        }
        if self.full_nodes.remove(node) {
            self.insert_heads(node);
        }
        if self.first_place(node).is_some() {
            self.freed_nodes.insert(node.clone());
        }
    }

    /// A node was found without room: its waiters are skipped until it may have some. O(kinds they wait for · log n).
    pub fn note_full(&mut self, node: &Name) {
        if self.full_nodes.insert(node.clone()) {
            for (key, id) in self.heads_of(node) {
                self.line_mut(key).heads.remove(&(id, node.clone()));
            }
        }
    }

    /// The limits changed: every node with waiters may have room.
    pub fn note_all_freed(&mut self) {
        self.mark_lanes_of_all_zones();
        std::mem::take(&mut self.full_nodes).iter().for_each(|node| self.insert_heads(node));
        self.freed_nodes = self.by_node.iter().map(|(node, _, _)| node.clone()).collect();
    }

    pub fn drain_freed_nodes(&mut self) -> BTreeSet<Name> {
        std::mem::take(&mut self.freed_nodes)
    }

    /// The longest waiting one of a node for which a job `is_ready`. O(kinds they wait for · log n).
    pub fn first_of_node(
        &self,
        node: &Name,
        mut is_ready: impl FnMut(ProfileIndex, Wanted) -> bool,
    ) -> Option<WaiterId> {
        let mut first: Option<WaiterId> = None;
        let mut next = self.first_place(node);
        while let Some((_, wanted, id)) = next {
            if first.is_none_or(|first| *id < first) && is_ready(self.parked[id].profile, *wanted) {
                first = Some(*id);
            }
            next = self.place_of_node(node, Bound::Excluded((node.clone(), *wanted, WaiterId(u64::MAX))));
        }
        first
    }

    /// The lane was removed. O(zones without room).
    pub fn unmark_lane(&mut self, slot: Slot, kind: KindIndex) {
        self.marked_lanes.remove(&(slot, kind));
        self.lanes_of_full_zones.retain(|_, lanes| {
            lanes.remove(&(slot, kind));
            !lanes.is_empty()
        });
    }

    /// The zone of a marked lane has no room: it is marked again when the zone may have some.
    pub fn set_aside(&mut self, zone: &Zone, lane: (Slot, KindIndex)) {
        self.lanes_of_full_zones.entry(zone.clone()).or_default().insert(lane);
    }

    /// A lease in the zone ended: it may have room.
    pub fn mark_lanes_of_zone(&mut self, zone: &Zone) {
        if !self.lanes_of_full_zones.is_empty()
            && let Some(lanes) = self.lanes_of_full_zones.remove(zone)
        {
            self.marked_lanes.extend(lanes);
        }
    }

    /// The limits changed: any zone may have room.
    fn mark_lanes_of_all_zones(&mut self) {
        self.marked_lanes.extend(std::mem::take(&mut self.lanes_of_full_zones).into_values().flatten());
    }

    pub fn pop_marked_lane(&mut self) -> Option<(Slot, KindIndex)> {
        self.marked_lanes.pop_first()
    }

    /// No poll is parked, so none is to be woken.
    pub fn clear_marked_lanes(&mut self) {
        self.lanes_of_full_zones.clear();
        self.marked_lanes.clear();
    }

    /// Offers jobs of a lane to waiters, the longest waiting first, until `offer` returns [`Offer::NoneLeft`].
    pub fn offer_jobs(
        &self,
        classes: &Classes,
        profiles: &mut Profiles,
        (slot, kind): (Slot, KindIndex),
        mut offer: impl FnMut(WaiterId, &Waiter) -> Offer,
    ) {
        let mut fronts = BinaryHeap::new();
        for wanted in [Wanted::Any, Wanted::Kind(kind)] {
            for (key, line) in self.lines_of(wanted) {
                if profiles.may_serve(classes, key.1, slot) {
                    fronts.extend(line.heads.first().map(|(id, _)| Reverse((*id, *key, true))));
                }
            }
        }
        while let Some(Reverse((id, key, is_head))) = fronts.pop() {
            let waiter = &self.parked[&id];
            let offered = offer(id, waiter);
            if offered == Offer::NoneLeft {
                return;
            }
            let after = |id| Bound::Excluded((waiter.node.clone(), key.0, id));
            if offered == Offer::Accepted
                && let Some((_, wanted, next)) = self.place_of_node(&waiter.node, after(id))
                && *wanted == key.0
            {
                fronts.push(Reverse((*next, key, false)));
            }
            if is_head {
                let after = Bound::Excluded((id, waiter.node.clone()));
                let next = self.lines[&key].heads.range((after, Bound::Unbounded)).next();
                fronts.extend(next.map(|(id, _)| Reverse((*id, key, true))));
            }
        }
    }

    pub fn len(&self) -> usize {
        self.parked.len()
    }

    pub fn is_empty(&self) -> bool {
        self.parked.is_empty()
    }

    /// What the parked ones are charged, recomputed. O(n).
    pub fn bytes(&self) -> u64 {
        self.parked.values().map(Waiter::bytes).sum()
    }

    fn first_place(&self, node: &Name) -> Option<&(Name, Wanted, WaiterId)> {
        self.place_of_node(node, Bound::Included((node.clone(), Wanted::Any, WaiterId(0))))
    }

    fn place_of_node(&self, node: &Name, from: Bound<(Name, Wanted, WaiterId)>) -> Option<&(Name, Wanted, WaiterId)> {
        self.by_node.range((from, Bound::Unbounded)).next().filter(|(of, _, _)| of == node)
    }

    /// The longest waiting one of a node that waits for this.
    fn first_place_for(&self, node: &Name, wanted: Wanted) -> Option<WaiterId> {
        let place = self.place_of_node(node, Bound::Included((node.clone(), wanted, WaiterId(0))));
        place.filter(|(_, of, _)| *of == wanted).map(|(_, _, id)| *id)
    }

    /// The longest waiting one of a node in each of its lines.
    fn heads_of(&self, node: &Name) -> Vec<((Wanted, ProfileIndex), WaiterId)> {
        let mut heads = Vec::new();
        let mut next = self.first_place(node);
        while let Some((_, wanted, id)) = next {
            heads.push(((*wanted, self.parked[id].profile), *id));
            next = self.place_of_node(node, Bound::Excluded((node.clone(), *wanted, WaiterId(u64::MAX))));
        }
        heads
    }

    fn insert_heads(&mut self, node: &Name) {
        for (key, id) in self.heads_of(node) {
            self.line_mut(key).heads.insert((id, node.clone()));
        }
    }

    fn line_mut(&mut self, key: (Wanted, ProfileIndex)) -> &mut Line {
        self.lines.get_mut(&key).expect("a parked waiter has its lines")
    }

    fn lines_of(&self, wanted: Wanted) -> impl Iterator<Item = (&(Wanted, ProfileIndex), &Line)> {
        self.lines.range((wanted, ProfileIndex::FIRST)..=(wanted, ProfileIndex::LAST))
    }
}

impl Waiter {
    fn bytes(&self) -> u64 {
        WAITER_BYTES + self.node.bytes() + self.wanted.len() as u64 * PLACE_BYTES
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name_set::NameSet;
    use crate::queue::class::ClassKey;
    use crate::queue::kind::Kinds;
    use crate::zone::Zone;

    const A_FULL: fn(&Name) -> Offer = |node| if **node == *"a" { Offer::NodeFull } else { Offer::Accepted };

    #[test]
    fn the_waiters_of_a_full_node_are_skipped_at_once_until_it_has_room() {
        let (mut waiters, mut classes, mut kinds) = (Waiters::default(), Classes::default(), Kinds::default());
        let (mut profiles, mut ledger) = (Profiles::default(), Ledger::default());
        let name = |text: &str| Name::new(text).expect("a name");
        let kind = kinds.add_job(&mut ledger, None, &name("k"));
        let key = ClassKey { zone: Zone::DEFAULT, requires: NameSet::EMPTY };
        classes.add_unfinished(&mut ledger, &mut kinds, None, key, kind);
        let profile = profiles.acquire(&Zone::DEFAULT, &NameSet::EMPTY);
        for (id, node) in (1..=1_000).map(|id| (id, "a")).chain([(2_000, "b"), (2_001, "b")]) {
            let waiter = Waiter { node: name(node), profile, wanted: vec![Wanted::Any], jobs_max: 1 };
            waiters.park(&mut ledger, WaiterId(id), waiter);
        }
        let mut offered = |waiters: &Waiters, answer: fn(&Name) -> Offer| {
            let mut ids = Vec::new();
            waiters.offer_jobs(&classes, &mut profiles, (0, kind), |id, waiter| {
                ids.push(id.0);
                answer(&waiter.node)
            });
            ids
        };
        assert_eq!(offered(&waiters, A_FULL), [1, 2_000, 2_001]);
        waiters.note_full(&name("a"));
        assert_eq!(offered(&waiters, A_FULL), [2_000, 2_001]);
        waiters.unpark(&mut ledger, WaiterId(1));
        waiters.note_freed(&name("a"));
        assert_eq!(offered(&waiters, |_| Offer::PassedOver), [2, 2_000]);
        waiters.note_full(&name("b"));
        waiters.note_all_freed();
        assert_eq!(offered(&waiters, |_| Offer::Accepted).len(), 1_001);
    }
}
