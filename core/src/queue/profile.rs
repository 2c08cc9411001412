//! Profiles: what nodes can do, and which ready jobs they may run.
//!
//! Nodes of one zone with the same capabilities share a profile: a handful for 100,000 nodes. A profile has a bit for
//! each class that says whether it may serve it. The bits are updated on use, for the slots that got another class
//! since. So a new class costs nothing, and neither does a class for a pull of a node that may not serve it.
//!
//! A **view** holds, for one profile and one kind (or all kinds), the heads of the lanes (or classes) that the profile
//! may serve, by rank. Views are notified at once of a head that becomes more urgent; that a head was leased or removed
//! is noticed when it reaches the front of a view. So a pull takes O(log n) in the classes that its node may serve.
//! Views are a cache: a view is built by the first pull that needs it, in O(classes), and dropped when it was notified
//! of more heads than pulls use.

use crate::limits::{VIEW_HEADS_MAX, VIEWS_MAX};
use crate::name_set::NameSet;
use crate::queue::class::{Classes, Slot};
use crate::queue::kind::{KindIndex, Kinds};
use crate::queue::lane::Rank;
use crate::queue::rows::Rows;
use crate::zone::Zone;
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::collections::binary_heap::{BinaryHeap, PeekMut};

/// A profile's row. Derived.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct ProfileIndex(u32);

impl ProfileIndex {
    pub const FIRST: ProfileIndex = ProfileIndex(0);
    pub const LAST: ProfileIndex = ProfileIndex(u32::MAX);
}

/// One kind, or any.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Wanted {
    Any,
    Kind(KindIndex),
}

/// All profiles.
#[derive(Debug)]
pub(crate) struct Profiles {
    by_key: BTreeMap<(Zone, NameSet), ProfileIndex>,
    rows: Rows<Profile>,
    views: BTreeMap<(Wanted, ProfileIndex), View>,
    /// Heads in all views.
    heads: usize,
}

#[derive(Debug)]
struct Profile {
    zone: Zone,
    capabilities: NameSet,
    /// Nodes and parked long polls that have it.
    users: u64,
    /// A bit for each slot.
    may_serve: Vec<u64>,
    /// The assignments of slots that the bits reflect.
    assigned_count: u64,
}

/// The heads that a profile may lease. The rank of a slot is that of its head, or a smaller one.
#[derive(Default, Debug)]
struct View {
    by_slot: BTreeMap<Slot, Rank>,
    /// Each slot with its rank, and stale ranks that it had: they are removed when they reach the front.
    by_rank: BinaryHeap<Reverse<(Rank, Slot)>>,
    /// Notifications since the last pull.
    notified_count: usize,
}

/// A view that no pull uses is dropped after as many notifications as it has heads, and so many more.
const NOTIFIED_MAX: usize = 64;

/// A view's capacity is not reduced below so many heads.
const CAPACITY_MIN: usize = 16;

/// A view's stale ranks are removed when they are more than its slots and so many more.
const STALE_MAX: usize = 8;

impl Wanted {
    pub fn kind(self) -> Option<KindIndex> {
        match self {
            Wanted::Any => None,
            Wanted::Kind(kind) => Some(kind),
        }
    }
}

impl Default for Profiles {
    fn default() -> Self {
        let mut profiles =
            Profiles { by_key: BTreeMap::new(), rows: Rows::default(), views: BTreeMap::new(), heads: 0 };
        let unknown = profiles.acquire(&Zone::DEFAULT, &NameSet::EMPTY);
        assert_eq!(unknown, Profiles::UNKNOWN);
        profiles
    }
}

impl Profiles {
    /// The profile of a node that sent no heartbeat: of the default zone, without capabilities. It is never removed.
    pub const UNKNOWN: ProfileIndex = ProfileIndex(0);

    /// The profile of a new user: a node or a parked long poll.
    pub fn acquire(&mut self, zone: &Zone, capabilities: &NameSet) -> ProfileIndex {
        let key = (zone.clone(), capabilities.clone());
        if let Some(profile) = self.by_key.get(&key) {
            let profile = *profile;
            self.acquire_again(profile);
            return profile;
        }
        let profile = ProfileIndex(self.rows.insert(Profile {
            zone: key.0.clone(),
            capabilities: key.1.clone(),
            users: 1,
            may_serve: Vec::new(),
            assigned_count: 0,
        }));
        self.by_key.insert(key, profile);
        profile
    }

    /// Counts one more user of a profile.
    pub fn acquire_again(&mut self, profile: ProfileIndex) {
        self.row_mut(profile).users += 1;
    }

    /// Uncounts a user of a profile, and removes the profile with the last one.
    pub fn release(&mut self, profile: ProfileIndex) {
        if profile == Profiles::UNKNOWN {
            return;
        }
        let row = self.row_mut(profile);
        row.users -= 1;
        if row.users == 0 {
            let row = self.rows.remove(profile.0);
            self.by_key.remove(&(row.zone, row.capabilities));
            // Rare: the last node of its profile changed or was forgotten.
            let unused: Vec<_> = self.views.keys().filter(|(_, of)| *of == profile).copied().collect();
            unused.into_iter().for_each(|key| self.drop_view(key));
        }
    }

    /// Whether nodes of a profile may run jobs of the class in a slot.
    pub fn may_serve(&mut self, classes: &Classes, profile: ProfileIndex, slot: Slot) -> bool {
        let row = self.row_mut(profile);
        row.update_bits(classes);
        row.has_bit(slot)
    }

    /// The rank and slot of the first job that a node of a profile may lease. O(log n), or O(classes) to build the
    /// view.
    pub fn first(
        &mut self,
        classes: &Classes,
        kinds: &Kinds,
        profile: ProfileIndex,
        wanted: Wanted,
    ) -> Option<(Rank, Slot)> {
        let key = (wanted, profile);
        if (self.views.len() >= VIEWS_MAX || self.heads >= VIEW_HEADS_MAX) && !self.views.contains_key(&key) {
            self.drop_all_views();
        }
        let row = self.rows.get_mut(profile.0);
        row.update_bits(classes);
        let view = self.views.entry(key).or_insert_with(|| {
            let view = row.build_view(classes, kinds, wanted);
            self.heads += view.by_slot.len();
            view
        });
        let before = view.by_slot.len();
        view.notified_count = 0;
        let first =
            view.first(|slot| classes.head(slot, wanted.kind()).filter(|_| row.has_bit(slot)).map(|(rank, _)| rank));
        self.heads -= before - view.by_slot.len();
        first
    }

    /// Notifies the views of a head of a lane or class that became more urgent.
    pub fn notify_views(&mut self, classes: &Classes, wanted: Wanted, slot: Slot, rank: Rank) {
        let mut unused = Vec::new();
        let range = (wanted, ProfileIndex::FIRST)..=(wanted, ProfileIndex::LAST);
        for (key, view) in self.views.range_mut(range) {
            let row = self.rows.get_mut(key.1.0);
            row.update_bits(classes);
            if row.has_bit(slot) {
                self.heads += usize::from(view.lower_head(slot, rank));
            }
            // A notification costs the same if the profile may not serve the slot.
            view.notified_count += 1;
            if view.notified_count > NOTIFIED_MAX + view.by_slot.len() {
                unused.push(*key);
            }
        }
        unused.into_iter().for_each(|key| self.drop_view(key));
        if self.heads > VIEW_HEADS_MAX {
            self.drop_all_views();
        }
    }

    /// Drops the views of a kind that was removed.
    pub fn drop_views_of(&mut self, kind: KindIndex) {
        let wanted = Wanted::Kind(kind);
        let range = (wanted, ProfileIndex::FIRST)..=(wanted, ProfileIndex::LAST);
        let keys: Vec<_> = self.views.range(range).map(|(key, _)| *key).collect();
        keys.into_iter().for_each(|key| self.drop_view(key));
    }

    fn drop_all_views(&mut self) {
        self.views.clear();
        self.heads = 0;
    }

    fn drop_view(&mut self, key: (Wanted, ProfileIndex)) {
        if let Some(view) = self.views.remove(&key) {
            self.heads -= view.by_slot.len();
        }
    }

    fn row_mut(&mut self, profile: ProfileIndex) -> &mut Profile {
        self.rows.get_mut(profile.0)
    }
}

impl Profile {
    /// O(slots that got another class since the last call).
    fn update_bits(&mut self, classes: &Classes) {
        let assigned_count = classes.assigned_count();
        if self.assigned_count == assigned_count {
            return;
        }
        self.may_serve.resize(classes.slot_count().div_ceil(64), 0);
        match classes.assigned_since(self.assigned_count) {
            Some(slots) => slots.for_each(|slot| self.update_bit(classes, slot)),
            None => (0..classes.slot_count()).for_each(|slot| self.update_bit(classes, slot as Slot)),
        }
        self.assigned_count = assigned_count;
    }

    fn update_bit(&mut self, classes: &Classes, slot: Slot) {
        let may_serve = classes.key_in(slot).is_some_and(|key| key.admits(&self.zone, &self.capabilities));
        let (word, bit) = (usize::from(slot / 64), slot % 64);
        self.may_serve[word] = self.may_serve[word] & !(1 << bit) | u64::from(may_serve) << bit;
    }

    fn has_bit(&self, slot: Slot) -> bool {
        self.may_serve.get(usize::from(slot / 64)).is_some_and(|word| word >> (slot % 64) & 1 == 1)
    }

    /// Builds the view of the heads that nodes of this profile may lease.
    fn build_view(&self, classes: &Classes, kinds: &Kinds, wanted: Wanted) -> View {
        let mut view = View::default();
        let mut add = |slot: Slot| {
            if self.has_bit(slot)
                && let Some((rank, _)) = classes.head(slot, wanted.kind())
            {
                view.lower_head(slot, rank);
            }
        };
        match wanted {
            Wanted::Kind(kind) => kinds.row(kind).lanes().iter().copied().for_each(&mut add),
            Wanted::Any => {
                for (index, word) in self.may_serve.iter().enumerate() {
                    let mut word = *word;
                    while word != 0 {
                        add((index * 64) as Slot + word.trailing_zeros() as Slot);
                        word &= word - 1;
                    }
                }
            }
        }
        view
    }
}

impl View {
    /// Lowers the rank of a slot to that of its head; returns whether the slot is new to the view.
    fn lower_head(&mut self, slot: Slot, rank: Rank) -> bool {
        let known = self.by_slot.get(&slot);
        if known.is_some_and(|known| *known <= rank) {
            return false;
        }
        let is_new = known.is_none();
        self.by_slot.insert(slot, rank);
        self.by_rank.push(Reverse((rank, slot)));
        if self.by_rank.len() > STALE_MAX + 2 * self.by_slot.len() {
            self.by_rank = self.by_slot.iter().map(|(slot, rank)| Reverse((*rank, *slot))).collect();
        }
        is_new
    }

    /// The first head, after the stale ones before it are removed or updated. `head` returns a slot's current head.
    fn first(&mut self, head: impl Fn(Slot) -> Option<Rank>) -> Option<(Rank, Slot)> {
        loop {
            let mut top = self.by_rank.peek_mut()?;
            let Reverse((rank, slot)) = *top;
            let Some(known) = self.by_slot.get_mut(&slot).filter(|known| **known == rank) else {
                PeekMut::pop(top);
                self.shrink();
                continue;
            };
            match head(slot) {
                Some(now) if now == rank => return Some((rank, slot)),
                Some(now) => {
                    assert!(now > rank, "views are notified of a head that becomes more urgent");
                    *known = now;
                    *top = Reverse((now, slot));
                }
                None => {
                    self.by_slot.remove(&slot);
                    PeekMut::pop(top);
                    self.shrink();
                }
            }
        }
    }

    fn shrink(&mut self) {
        if self.by_rank.capacity() > CAPACITY_MIN && self.by_rank.len() < self.by_rank.capacity() / 4 {
            self.by_rank.shrink_to(self.by_rank.len() * 2);
        }
    }
}
