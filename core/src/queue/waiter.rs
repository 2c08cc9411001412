//! Waiters: the long polls that wait for a job. Ephemeral: a restart forgets them, and their clients ask again.
//!
//! A waiter stands in line in each class that its node may serve, under each kind that it asked for. A job that becomes
//! ready takes the waiter that stands there longest, out of all lines at once: one job wakes one waiter, and none that
//! could not take it. O(classes) to park, O(log n) to wake.

use crate::limits::WAITERS_MAX;
use crate::name::Name;
use crate::queue::lane::{ClassKey, ClassNo};
use std::collections::{BTreeMap, BTreeSet};

/// A long poll's number, given by the shell; the smaller one waits longer.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct WaiterId(pub u64);

/// A parked long poll.
#[derive(Clone, Debug)]
pub(crate) struct Waiter {
    pub node: Name,
    pub zone: Option<Name>,
    pub capabilities: Vec<Name>,
    pub kinds: Vec<Name>,
}

/// All parked long polls.
#[derive(Default, Debug)]
pub(crate) struct Waiters {
    parked: BTreeMap<WaiterId, (Waiter, Vec<ClassNo>)>,
    lines: BTreeMap<ClassNo, Line>,
}

/// Who waits for jobs of one class.
#[derive(Default, Debug)]
struct Line {
    any_kind: BTreeSet<WaiterId>,
    by_kind: BTreeMap<Name, BTreeSet<WaiterId>>,
}

impl Waiter {
    pub fn admits(&self, class: &ClassKey) -> bool {
        class.admits(self.zone.as_ref(), &self.capabilities)
    }
}

impl Waiters {
    /// Parks a waiter in those classes; `false` if there are too many.
    pub fn park(&mut self, id: WaiterId, waiter: Waiter, classes: Vec<ClassNo>) -> bool {
        if self.parked.len() >= WAITERS_MAX {
            return false;
        }
        for no in &classes {
            self.lines.entry(*no).or_default().join(id, &waiter.kinds);
        }
        let old = self.parked.insert(id, (waiter, classes));
        assert!(old.is_none(), "a waiter is parked once");
        true
    }

    /// Takes a waiter out; nothing if it is not parked (any more).
    pub fn unpark(&mut self, id: WaiterId) {
        let Some((waiter, classes)) = self.parked.remove(&id) else { return };
        for no in &classes {
            self.lines.get_mut(no).expect("a waiter's classes have lines").leave(id, &waiter.kinds);
        }
    }

    /// Takes out the waiter that stands longest for a job of that class and kind.
    pub fn take_for(&mut self, no: ClassNo, kind: &str) -> Option<WaiterId> {
        let id = self.lines.get(&no)?.first_for(kind)?;
        self.unpark(id);
        Some(id)
    }

    /// The lines in which somebody stands: a class, and the kind that is waited for if it is not any.
    pub fn lines(&self) -> Vec<(ClassNo, Option<Name>)> {
        let of_line = |(no, line): (&ClassNo, &Line)| {
            let any = (!line.any_kind.is_empty()).then_some((*no, None));
            let named: Vec<_> = line.by_kind.keys().map(|kind| (*no, Some(kind.clone()))).collect();
            any.into_iter().chain(named)
        };
        self.lines.iter().flat_map(of_line).collect()
    }

    /// Takes out the waiter that stands first in one of those lines, if somebody still does.
    pub fn take_first(&mut self, no: ClassNo, kind: Option<&Name>) -> Option<WaiterId> {
        let line = self.lines.get(&no)?;
        let waiters = kind.map_or(Some(&line.any_kind), |kind| line.by_kind.get(kind));
        let id = waiters.and_then(BTreeSet::first).copied()?;
        self.unpark(id);
        Some(id)
    }

    /// Takes out the waiters of a node. O(waiters), on a rare change.
    pub fn take_of_node(&mut self, node: &str) -> Vec<WaiterId> {
        let ids: Vec<_> =
            self.parked.iter().filter(|(_, (waiter, _))| &*waiter.node == node).map(|(id, _)| *id).collect();
        for id in &ids {
            self.unpark(*id);
        }
        ids
    }

    /// A class was made: who could serve it stands in its line. O(waiters), at most [`super::lane::Lanes`] classes times.
    pub fn add_class(&mut self, no: ClassNo, key: &ClassKey) {
        for (id, (waiter, classes)) in &mut self.parked {
            if waiter.admits(key) {
                classes.push(no);
                self.lines.entry(no).or_default().join(*id, &waiter.kinds);
            }
        }
    }

    /// A class is no more.
    pub fn drop_class(&mut self, no: ClassNo) {
        self.lines.remove(&no);
        for (_, classes) in self.parked.values_mut() {
            classes.retain(|class| *class != no);
        }
    }

    pub fn len(&self) -> usize {
        self.parked.len()
    }
}

impl Line {
    fn join(&mut self, id: WaiterId, kinds: &[Name]) {
        if kinds.is_empty() {
            self.any_kind.insert(id);
        }
        for kind in kinds {
            self.by_kind.entry(kind.clone()).or_default().insert(id);
        }
    }

    fn leave(&mut self, id: WaiterId, kinds: &[Name]) {
        self.any_kind.remove(&id);
        for kind in kinds {
            // A kind that is named twice has been left at its first mention.
            let Some(line) = self.by_kind.get_mut(kind) else { continue };
            line.remove(&id);
            if line.is_empty() {
                self.by_kind.remove(kind);
            }
        }
    }

    fn first_for(&self, kind: &str) -> Option<WaiterId> {
        let any = self.any_kind.first();
        let named = self.by_kind.get(kind).and_then(BTreeSet::first);
        any.into_iter().chain(named).min().copied()
    }
}
