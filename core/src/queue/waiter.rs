//! Waiters: the long polls that wait for a job. Ephemeral: a restart forgets them, and their clients ask again.
//!
//! A waiter stands in one line for each kind that it names (or in the one for any kind), with the others of its profile.
//! Jobs that become ready do not wake anybody by themselves: their lanes are noted, and when the shell settles, as many
//! waiters are woken as there are jobs for them and room for leases, the longest waiting first. O(lines) a lane, then
//! O(log n) a waiter, however many are parked.

use crate::ledger::{Account, Ledger};
use crate::limits::{PLACE_BYTES, WAITER_BYTES, WAITER_LINES_MAX, WAITER_PLACES_MAX, WAITERS_MAX};
use crate::name::Name;
use crate::queue::class::{Classes, Slot};
use crate::queue::kind::KindIndex;
use crate::queue::profile::{ProfileIndex, Profiles, Wanted};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::ops::Bound;

/// A long poll's number, given by the shell; the smaller one waits longer.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct WaiterId(pub u64);

/// A parked long poll.
#[derive(Debug)]
pub(crate) struct Waiter {
    pub node: Name,
    pub profile: ProfileIndex,
    /// Each once.
    pub wanted: Vec<Wanted>,
    pub jobs_max: u64,
}

/// All parked long polls.
#[derive(Default, Debug)]
pub(crate) struct Waiters {
    parked: BTreeMap<WaiterId, Waiter>,
    lines: BTreeMap<(Wanted, ProfileIndex), BTreeSet<WaiterId>>,
    /// What the polls of each node wait for.
    by_node: BTreeSet<(Name, Wanted, WaiterId)>,
    places: usize,
    /// Lanes with jobs for which nobody was looked for yet, or more may be woken.
    stirred: BTreeSet<(Slot, KindIndex)>,
    /// Nodes that have waiters and room for a lease that they may not have had before.
    freed: BTreeSet<Name>,
}

impl Waiters {
    /// Whether one more may be parked that waits for this and for some kinds that nothing names yet.
    pub fn has_room_for(&self, profile: ProfileIndex, known: &[Wanted], unknown_count: usize) -> bool {
        let new_lines = known.iter().filter(|wanted| !self.lines.contains_key(&(**wanted, profile))).count();
        self.parked.len() < WAITERS_MAX
            && self.places + known.len() + unknown_count <= WAITER_PLACES_MAX
            && self.lines.len() + new_lines + unknown_count <= WAITER_LINES_MAX
    }

    /// Parks a waiter that has room.
    pub fn park(&mut self, ledger: &mut Ledger, id: WaiterId, waiter: Waiter) {
        ledger.charge(Account::Waiters, waiter.bytes());
        self.places += waiter.wanted.len();
        for wanted in &waiter.wanted {
            self.lines.entry((*wanted, waiter.profile)).or_default().insert(id);
        }
        self.by_node.extend(waiter.wanted.iter().map(|wanted| (waiter.node.clone(), *wanted, id)));
        let old = self.parked.insert(id, waiter);
        assert!(old.is_none(), "a waiter is parked once");
    }

    /// Takes a waiter out; `None` if it is not parked (any more).
    pub fn unpark(&mut self, ledger: &mut Ledger, id: WaiterId) -> Option<Waiter> {
        let waiter = self.parked.remove(&id)?;
        ledger.release(Account::Waiters, waiter.bytes());
        self.places -= waiter.wanted.len();
        for wanted in &waiter.wanted {
            let line = (*wanted, waiter.profile);
            let ids = self.lines.get_mut(&line).expect("a waiter stands in its lines");
            ids.remove(&id);
            if ids.is_empty() {
                self.lines.remove(&line);
            }
            self.by_node.remove(&(waiter.node.clone(), *wanted, id));
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

    /// A lane has one more ready job.
    pub fn stir(&mut self, slot: Slot, kind: KindIndex) {
        if !self.parked.is_empty() {
            self.stirred.insert((slot, kind));
        }
    }

    /// A node's lease ended.
    pub fn free(&mut self, node: &Name) {
        if self.first_place(node).is_some() {
            self.freed.insert(node.clone());
        }
    }

    /// Every node with waiters may have room that it did not have: the limits were changed.
    pub fn free_all(&mut self) {
        self.freed = self.by_node.iter().map(|(node, _, _)| node.clone()).collect();
    }

    /// Takes the nodes that may have room which they did not have.
    pub fn take_freed(&mut self) -> BTreeSet<Name> {
        std::mem::take(&mut self.freed)
    }

    /// The longest waiting poll of a node among those that wait for something that `is_there`. O(what they wait for · log n).
    pub fn first_of_node(
        &self,
        node: &Name,
        mut is_there: impl FnMut(ProfileIndex, Wanted) -> bool,
    ) -> Option<WaiterId> {
        let mut first: Option<WaiterId> = None;
        let mut next = self.first_place(node);
        while let Some((_, wanted, id)) = next {
            if first.is_none_or(|first| *id < first) && is_there(self.parked[id].profile, *wanted) {
                first = Some(*id);
            }
            next = self.place_of_node(node, Bound::Excluded((node.clone(), *wanted, WaiterId(u64::MAX))));
        }
        first
    }

    /// Takes the lanes that were noted.
    pub fn take_stirred(&mut self) -> BTreeSet<(Slot, KindIndex)> {
        std::mem::take(&mut self.stirred)
    }

    /// Waiters for jobs of a lane, the longest waiting first, until `take` says that there are enough.
    pub fn choose(
        &self,
        classes: &Classes,
        profiles: &mut Profiles,
        (slot, kind): (Slot, KindIndex),
        mut take: impl FnMut(WaiterId, &Waiter) -> bool,
    ) {
        let mut fronts = BinaryHeap::new();
        for wanted in [Wanted::Any, Wanted::Kind(kind)] {
            for (line, ids) in self.lines_of(wanted) {
                if profiles.may_serve(classes, line.1, slot) {
                    fronts.extend(ids.first().map(|id| Reverse((*id, *line))));
                }
            }
        }
        while let Some(Reverse((id, line))) = fronts.pop() {
            if !take(id, &self.parked[&id]) {
                return;
            }
            let next = self.lines[&line].range((Bound::Excluded(id), Bound::Unbounded)).next();
            fronts.extend(next.map(|id| Reverse((*id, line))));
        }
    }

    /// How many are parked.
    pub fn len(&self) -> usize {
        self.parked.len()
    }

    /// Whether none is parked.
    pub fn is_empty(&self) -> bool {
        self.parked.is_empty()
    }

    /// What the parked ones are charged, walked.
    pub fn bytes(&self) -> u64 {
        self.parked.values().map(Waiter::bytes).sum()
    }

    fn first_place(&self, node: &Name) -> Option<&(Name, Wanted, WaiterId)> {
        self.place_of_node(node, Bound::Included((node.clone(), Wanted::Any, WaiterId(0))))
    }

    fn place_of_node(&self, node: &Name, from: Bound<(Name, Wanted, WaiterId)>) -> Option<&(Name, Wanted, WaiterId)> {
        self.by_node.range((from, Bound::Unbounded)).next().filter(|(of, _, _)| of == node)
    }

    fn lines_of(&self, wanted: Wanted) -> impl Iterator<Item = (&(Wanted, ProfileIndex), &BTreeSet<WaiterId>)> {
        self.lines.range((wanted, ProfileIndex::FIRST)..=(wanted, ProfileIndex::LAST))
    }
}

impl Waiter {
    fn bytes(&self) -> u64 {
        WAITER_BYTES + self.node.bytes() + self.wanted.len() as u64 * PLACE_BYTES
    }
}
