//! Lanes: the jobs that are ready to run, in the order to run them.
//!
//! A **class** is a pair of zone and requirements: all that decides whether a node may run a job. In a class each kind
//! has a **lane**, a tree of ranks (priority, then sequence). A class keeps the heads of its lanes in a tree of their own,
//! so a node that takes all kinds finds the first job of a class in O(log lanes), and one that names kinds looks at those
//! lanes only. A pull asks each class once whether the node may serve it (at most [`CLASSES_MAX`]), then takes job after
//! job in O(log n).

use crate::command::Priority;
use crate::ids::JobSeq;
use crate::limits::CLASSES_MAX;
use crate::mutants::{self, Mutant};
use crate::name::Name;
use crate::queue::waiter::{Waiter, WaiterId, Waiters};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Where a job stands: first by priority, then by order of submission.
pub(crate) type Rank = (Priority, JobSeq);

/// Which nodes may run a job.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct ClassKey {
    /// Nodes of this zone; the default zone if absent.
    pub zone: Option<Name>,
    /// Nodes that have all of these; sorted.
    pub requires: Vec<Name>,
}

/// A class's place in the table of classes. Derived: two replays of one journal may number classes alike, but nothing
/// durable depends on it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct ClassNo(u16);

#[cfg(test)]
impl ClassNo {
    pub const FIRST: ClassNo = ClassNo(0);
}

/// The ready jobs of all classes, and the long polls that wait for some.
#[derive(Default, Debug)]
pub(crate) struct Lanes {
    classes: Vec<Class>,
    numbers: BTreeMap<Arc<ClassKey>, ClassNo>,
    waiters: Waiters,
}

#[derive(Debug)]
struct Class {
    key: Arc<ClassKey>,
    /// Unfinished jobs of this class; a class without any may make room for another.
    jobs: u64,
    lanes: BTreeMap<Name, BTreeSet<Rank>>,
    heads: BTreeMap<Rank, Name>,
}

/// Which jobs a node may take.
pub(crate) struct Profile<'a> {
    pub zone: Option<&'a Name>,
    pub capabilities: &'a [Name],
    /// Empty: all kinds.
    pub kinds: &'a [Name],
}

/// The zone of nodes and jobs that name none.
pub const ZONE_DEFAULT: &str = "default";

impl ClassKey {
    /// The zone, spelled out.
    pub fn zone_name(&self) -> &str {
        self.zone.as_deref().unwrap_or(ZONE_DEFAULT)
    }

    /// Whether a node of that zone with those (sorted) capabilities may run jobs of this class.
    pub fn admits(&self, zone: Option<&Name>, capabilities: &[Name]) -> bool {
        self.zone_name() == zone.map_or(ZONE_DEFAULT, |name| name)
            && self.requires.iter().all(|name| capabilities.binary_search(name).is_ok())
    }
}

impl Lanes {
    /// Whether a job finds or makes its class, once a job of the class `leaving` is gone. O(1) unless all classes are taken.
    pub fn has_room_for(&self, zone: Option<&Name>, requires: &[Name], leaving: Option<ClassNo>) -> bool {
        if self.classes.len() < CLASSES_MAX {
            return true;
        }
        let is_free = |no, class: &Class| class.jobs == u64::from(leaving == Some(no));
        let key = ClassKey { zone: zone.cloned(), requires: requires.to_vec() };
        self.numbers.contains_key(&key) || self.numbered().any(|(no, class)| is_free(no, class))
    }

    /// Counts a job into its class, which is made if there is none; `None` if all classes are in use.
    pub fn enter_class(&mut self, zone: Option<Name>, requires: Vec<Name>) -> Option<(ClassNo, Arc<ClassKey>)> {
        let key = ClassKey { zone, requires };
        let no = match self.numbers.get(&key) {
            Some(no) => *no,
            None => self.add_class(key)?,
        };
        let class = self.class_mut(no);
        class.jobs += 1;
        Some((no, Arc::clone(&class.key)))
    }

    /// The class of a job that is final already and is shown only: it takes no room among the classes in use.
    pub fn recall_class(&self, zone: Option<Name>, requires: Vec<Name>) -> (ClassNo, Arc<ClassKey>) {
        let key = ClassKey { zone, requires };
        match self.numbers.get_key_value(&key) {
            Some((key, no)) => (*no, Arc::clone(key)),
            None => (ClassNo(0), Arc::new(key)),
        }
    }

    /// A job of this class is final.
    pub fn leave_class(&mut self, no: ClassNo) {
        let class = self.class_mut(no);
        class.jobs = class.jobs.checked_sub(1).expect("only jobs that entered a class leave it");
    }

    /// A job is ready; the long poll that it is for, if one waits.
    pub fn push(&mut self, no: ClassNo, kind: &Name, rank: Rank) -> Option<WaiterId> {
        self.class_mut(no).push(kind, rank);
        self.waiters.take_for(no, kind)
    }

    /// A job is no longer ready.
    pub fn remove(&mut self, no: ClassNo, kind: &Name, rank: Rank) {
        self.class_mut(no).remove(kind, rank);
    }

    /// Takes up to `jobs_max` jobs for a node, in the order of their ranks over all that it may run.
    pub fn take(&mut self, profile: &Profile, jobs_max: usize) -> Vec<JobSeq> {
        let mut first = self.sources(profile);
        let mut taken = Vec::new();
        while taken.len() < jobs_max
            && let Some((rank, no, kind)) = first.pop_first()
        {
            let class = self.class_mut(no);
            class.remove(&kind, rank);
            taken.push(rank.1);
            let next = if profile.kinds.is_empty() { class.head() } else { class.head_of(&kind) };
            first.extend(next.map(|(rank, kind)| (rank, no, kind)));
        }
        taken
    }

    /// Whether there is a job that the node could take.
    pub fn has_any(&self, profile: &Profile) -> bool {
        !self.sources(profile).is_empty()
    }

    /// Parks a long poll; it is woken once, by the first job that it could take.
    pub fn park(&mut self, id: WaiterId, waiter: Waiter) -> bool {
        let classes = self.numbered().filter(|(_, class)| waiter.admits(&class.key)).map(|(no, _)| no).collect();
        self.waiters.park(id, waiter, classes)
    }

    /// Forgets a long poll: it was answered, or its client went away.
    pub fn unpark(&mut self, id: WaiterId) {
        self.waiters.unpark(id);
    }

    /// The long polls of a node, taken out: what the node may run has changed.
    pub fn take_waiters_of(&mut self, node: &str) -> Vec<WaiterId> {
        self.waiters.take_of_node(node)
    }

    /// The long polls that stand first for ready jobs, taken out: for when a woken one may have left its job. There may be
    /// more of them; ask again until there is none. O(lines of waiters), however many jobs are ready.
    pub fn take_waiters_with_jobs(&mut self) -> Vec<WaiterId> {
        let lines = self.waiters.lines();
        let has_job = |(no, kind): &(ClassNo, Option<Name>)| {
            let class = &self.classes[usize::from(no.0)];
            kind.as_ref().map_or(!class.heads.is_empty(), |kind| class.lanes.contains_key(kind))
        };
        let ready: Vec<_> = lines.into_iter().filter(has_job).collect();
        ready.into_iter().filter_map(|(no, kind)| self.waiters.take_first(no, kind.as_ref())).collect()
    }

    /// How many long polls are parked.
    pub fn waiter_count(&self) -> usize {
        self.waiters.len()
    }

    /// The first job of each class (or of each kind asked for in it) that the node may serve.
    fn sources(&self, profile: &Profile) -> BTreeSet<(Rank, ClassNo, Name)> {
        // A set: a pull that names a kind twice has one source for it.
        let mut first = BTreeSet::new();
        for (no, class) in self.numbered() {
            if class.heads.is_empty() || !class.key.admits(profile.zone, profile.capabilities) {
                continue;
            }
            if profile.kinds.is_empty() {
                first.extend(class.head().map(|(rank, kind)| (rank, no, kind)));
            } else {
                let heads = profile.kinds.iter().filter_map(|kind| class.head_of(kind));
                first.extend(heads.map(|(rank, kind)| (rank, no, kind)));
            }
        }
        first
    }

    fn add_class(&mut self, key: ClassKey) -> Option<ClassNo> {
        let class = Class { key: Arc::new(key), jobs: 0, lanes: BTreeMap::new(), heads: BTreeMap::new() };
        let key = Arc::clone(&class.key);
        let index = if self.classes.len() < CLASSES_MAX {
            self.classes.push(class);
            self.classes.len() - 1
        } else {
            let index = self.classes.iter().position(|class| class.jobs == 0)?;
            let old = std::mem::replace(&mut self.classes[index], class);
            self.numbers.remove(&old.key);
            self.waiters.drop_class(ClassNo(index as u16));
            index
        };
        let no = ClassNo(index as u16);
        self.waiters.add_class(no, &key);
        self.numbers.insert(key, no);
        Some(no)
    }

    fn numbered(&self) -> impl Iterator<Item = (ClassNo, &Class)> {
        self.classes.iter().enumerate().map(|(index, class)| (ClassNo(index as u16), class))
    }

    fn class_mut(&mut self, no: ClassNo) -> &mut Class {
        &mut self.classes[usize::from(no.0)]
    }
}

impl Class {
    fn push(&mut self, kind: &Name, rank: Rank) {
        let lane = self.lanes.entry(kind.clone()).or_default();
        let old_head = lane.first().copied();
        assert!(lane.insert(rank), "a job is ready once");
        if old_head.is_none_or(|head| rank < head) {
            if let Some(head) = old_head {
                self.heads.remove(&head);
            }
            self.heads.insert(rank, kind.clone());
        }
    }

    fn remove(&mut self, kind: &Name, rank: Rank) {
        let lane = self.lanes.get_mut(kind).expect("a ready job has a lane");
        let was_head = lane.first() == Some(&rank);
        assert!(lane.remove(&rank), "only a ready job is taken out");
        if was_head {
            let kind = self.heads.remove(&rank).expect("the first of a lane is among the heads");
            match lane.first() {
                Some(next) => _ = self.heads.insert(*next, kind),
                None => _ = self.lanes.remove(&kind),
            }
        }
    }

    fn head(&self) -> Option<(Rank, Name)> {
        if mutants::is_active(Mutant::LaneOrderReversed) {
            return self.heads.last_key_value().map(|(rank, kind)| (*rank, kind.clone()));
        }
        self.heads.first_key_value().map(|(rank, kind)| (*rank, kind.clone()))
    }

    fn head_of(&self, kind: &Name) -> Option<(Rank, Name)> {
        self.lanes.get(kind)?.first().map(|rank| (*rank, kind.clone()))
    }
}
