//! Profiles: what nodes can do, and which ready jobs that makes theirs.
//!
//! Nodes of one zone with the same capabilities share a profile: a handful for 100,000 nodes. A profile knows the classes
//! that it may serve as a row of bits, which it brings up to date when it is asked, for the slots that got another class
//! since. So a class costs nothing when it is made, and a pull nothing for classes that its node may not serve.
//!
//! A **view** is what a profile sees of one kind, or of all: the heads of the lanes (or classes) that it may serve, by
//! rank. A head that becomes more urgent is told to the views at once; one that was taken or left is noticed when it
//! comes to the front of a view. So a pull takes O(log n) in the classes that its node may serve. Views are a cache: one
//! is made at the first pull that needs it, in O(classes), and dropped when more heads were told to it than are worth
//! telling.

use crate::limits::{VIEW_HEADS_MAX, VIEWS_MAX};
use crate::name_set::NameSet;
use crate::queue::class::{Classes, Slot};
use crate::queue::kind::{KindIndex, Kinds};
use crate::queue::lane::Rank;
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

/// One kind, or all.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Wanted {
    Any,
    Kind(KindIndex),
}

/// All profiles.
#[derive(Debug)]
pub(crate) struct Profiles {
    by_key: BTreeMap<(Zone, NameSet), ProfileIndex>,
    rows: Vec<Option<Profile>>,
    free: Vec<ProfileIndex>,
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
    /// A bit a slot.
    may_serve: Vec<u64>,
    /// How many assignments of slots the bits take into account.
    assigned_count: u64,
}

/// The heads that a profile may take, by rank. A rank is the head's or an earlier one.
#[derive(Default, Debug)]
struct View {
    by_slot: BTreeMap<Slot, Rank>,
    /// Each slot with its rank, and earlier ones that it had: those are noticed at the front.
    by_rank: BinaryHeap<Reverse<(Rank, Slot)>>,
    /// Heads told since the last pull.
    told: usize,
}

/// So many heads are told to a view that nobody pulls from before it is dropped, beside as many as it has.
const TOLD_MAX: usize = 64;

/// Heads for which a view keeps its room when it has few.
const ROOM_KEPT: usize = 16;

/// Ranks that a view's slots no longer have, beside as many as it has slots, before it is cleared of them.
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
            Profiles { by_key: BTreeMap::new(), rows: Vec::new(), free: Vec::new(), views: BTreeMap::new(), heads: 0 };
        let unknown = profiles.enter(&Zone::DEFAULT, &NameSet::EMPTY);
        assert_eq!(unknown, Profiles::UNKNOWN);
        profiles
    }
}

impl Profiles {
    /// The profile of a node that never said what it is: of the default zone, without capabilities. It is always there.
    pub const UNKNOWN: ProfileIndex = ProfileIndex(0);

    /// A node or long poll has this profile.
    pub fn enter(&mut self, zone: &Zone, capabilities: &NameSet) -> ProfileIndex {
        let key = (zone.clone(), capabilities.clone());
        if let Some(profile) = self.by_key.get(&key) {
            let profile = *profile;
            self.enter_again(profile);
            return profile;
        }
        let row = Some(Profile {
            zone: key.0.clone(),
            capabilities: key.1.clone(),
            users: 1,
            may_serve: Vec::new(),
            assigned_count: 0,
        });
        let profile = match self.free.pop() {
            Some(profile) => {
                self.rows[profile.0 as usize] = row;
                profile
            }
            None => {
                self.rows.push(row);
                ProfileIndex(u32::try_from(self.rows.len() - 1).expect("profiles are fewer than nodes"))
            }
        };
        self.by_key.insert(key, profile);
        profile
    }

    /// One more node or long poll has a profile that is there.
    pub fn enter_again(&mut self, profile: ProfileIndex) {
        self.row_mut(profile).users += 1;
    }

    /// A node or long poll no longer has this profile.
    pub fn leave(&mut self, profile: ProfileIndex) {
        if profile == Profiles::UNKNOWN {
            return;
        }
        let row = self.row_mut(profile);
        row.users -= 1;
        if row.users == 0 {
            let row = self.rows[profile.0 as usize].take().expect("it was just there");
            self.by_key.remove(&(row.zone, row.capabilities));
            self.free.push(profile);
            // Rare: the last node of its profile changed or went.
            let gone: Vec<_> = self.views.keys().filter(|(_, of)| *of == profile).copied().collect();
            gone.into_iter().for_each(|key| self.drop_view(key));
        }
    }

    /// Whether nodes of a profile may run jobs of the class in a slot.
    pub fn may_serve(&mut self, classes: &Classes, profile: ProfileIndex, slot: Slot) -> bool {
        let row = self.row_mut(profile);
        row.follow(classes);
        row.has_bit(slot)
    }

    /// The first job that a profile may take. O(log n), or O(classes) where no view is kept.
    pub fn first(
        &mut self,
        classes: &Classes,
        kinds: &Kinds,
        profile: ProfileIndex,
        wanted: Wanted,
    ) -> Option<(Rank, Slot)> {
        let row = self.rows[profile.0 as usize].as_mut().expect("a profile that is used has a row");
        row.follow(classes);
        let key = (wanted, profile);
        if (self.views.len() >= VIEWS_MAX || self.heads >= VIEW_HEADS_MAX) && !self.views.contains_key(&key) {
            self.views.clear();
            self.heads = 0;
        }
        let view = self.views.entry(key).or_insert_with(|| {
            let view = row.view(classes, kinds, wanted);
            self.heads += view.by_slot.len();
            view
        });
        let before = view.by_slot.len();
        view.told = 0;
        let first =
            view.first(|slot| classes.head(slot, wanted.kind()).filter(|_| row.has_bit(slot)).map(|(rank, _)| rank));
        self.heads -= before - view.by_slot.len();
        first
    }

    /// The head of a lane or class became more urgent: tells the views of those who want it and may serve it.
    pub fn tell(&mut self, classes: &Classes, wanted: Wanted, slot: Slot, rank: Rank) {
        let mut forgotten = Vec::new();
        let range = (wanted, ProfileIndex::FIRST)..=(wanted, ProfileIndex::LAST);
        for (key, view) in self.views.range_mut(range) {
            let row = self.rows[key.1.0 as usize].as_mut().expect("a profile with a view has a row");
            row.follow(classes);
            if row.has_bit(slot) {
                self.heads += usize::from(view.lower(slot, rank));
            }
            // A head that is none of its own costs a look all the same.
            view.told += 1;
            if view.told > TOLD_MAX + view.by_slot.len() {
                forgotten.push(*key);
            }
        }
        forgotten.into_iter().for_each(|key| self.drop_view(key));
    }

    fn drop_view(&mut self, key: (Wanted, ProfileIndex)) {
        if let Some(view) = self.views.remove(&key) {
            self.heads -= view.by_slot.len();
        }
    }

    fn row_mut(&mut self, profile: ProfileIndex) -> &mut Profile {
        self.rows[profile.0 as usize].as_mut().expect("a profile that is used has a row")
    }
}

impl Profile {
    /// Brings the bits up to date. O(slots that got another class since).
    fn follow(&mut self, classes: &Classes) {
        let assigned_count = classes.assigned_count();
        if self.assigned_count == assigned_count {
            return;
        }
        self.may_serve.resize(classes.slot_count().div_ceil(64), 0);
        match classes.assigned_since(self.assigned_count) {
            Some(slots) => slots.for_each(|slot| self.look_at(classes, slot)),
            None => (0..classes.slot_count()).for_each(|slot| self.look_at(classes, slot as Slot)),
        }
        self.assigned_count = assigned_count;
    }

    fn look_at(&mut self, classes: &Classes, slot: Slot) {
        let may_serve = classes.key_in(slot).is_some_and(|key| key.admits(&self.zone, &self.capabilities));
        let (word, bit) = (usize::from(slot / 64), slot % 64);
        self.may_serve[word] = self.may_serve[word] & !(1 << bit) | u64::from(may_serve) << bit;
    }

    fn has_bit(&self, slot: Slot) -> bool {
        self.may_serve.get(usize::from(slot / 64)).is_some_and(|word| word >> (slot % 64) & 1 == 1)
    }

    /// The heads that nodes of this profile may take.
    fn view(&self, classes: &Classes, kinds: &Kinds, wanted: Wanted) -> View {
        let mut view = View::default();
        let mut add = |slot: Slot| {
            if self.has_bit(slot)
                && let Some((rank, _)) = classes.head(slot, wanted.kind())
            {
                view.lower(slot, rank);
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
    /// A head has this rank, or an earlier one that is known; whether the slot is new here.
    fn lower(&mut self, slot: Slot, rank: Rank) -> bool {
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

    /// The first head, once those in front of it that are out of date were put right.
    fn first(&mut self, head: impl Fn(Slot) -> Option<Rank>) -> Option<(Rank, Slot)> {
        loop {
            let mut top = self.by_rank.peek_mut()?;
            let Reverse((rank, slot)) = *top;
            let Some(known) = self.by_slot.get_mut(&slot).filter(|known| **known == rank) else {
                PeekMut::pop(top);
                self.give_room_back();
                continue;
            };
            match head(slot) {
                Some(now) if now == rank => return Some((rank, slot)),
                Some(now) => {
                    assert!(now > rank, "a head that becomes more urgent is told");
                    *known = now;
                    *top = Reverse((now, slot));
                }
                None => {
                    self.by_slot.remove(&slot);
                    PeekMut::pop(top);
                    self.give_room_back();
                }
            }
        }
    }

    fn give_room_back(&mut self) {
        if self.by_rank.capacity() > ROOM_KEPT && self.by_rank.len() < self.by_rank.capacity() / 4 {
            self.by_rank.shrink_to(self.by_rank.len() * 2);
        }
    }
}
