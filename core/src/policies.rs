//! The policies that the hub holds: every version that was added, which one is active, and who activated which when.
//!
//! Version 1 is part of the hub: it is always there, and active until another one is activated. A version is never
//! edited or removed, so going back is one more activation of an earlier one. Documents are kept byte for byte; only the
//! active one is compiled. The limits stop what grows: an activation needs no room, and of the history the oldest entry
//! makes room.

use crate::encoding::members;
use crate::envelope::{Caller, Principal};
use crate::limits::{ACTIVATIONS_KEPT_MAX, POLICIES_BYTES_MAX, POLICIES_MAX};
use crate::outcome::Refusal;
use crate::payload::Payload;
use crate::policy::{BUILT_IN, NodeStates, Policy, Snapshot};
use crate::time::Timestamp;
use std::collections::{BTreeMap, VecDeque};

/// A version that the hub holds.
#[derive(Clone, PartialEq, Debug)]
pub struct HeldPolicy {
    pub version: u64,
    /// Of the document's canonical form.
    pub sha256: [u8; 32],
    /// As it was added.
    pub document: Payload,
    pub added_at: Timestamp,
    pub by: Principal,
}

/// A version is to be active from now on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ActivatePolicy {
    pub version: u64,
    /// That of the document that was looked at.
    pub sha256: [u8; 32],
    /// Only if this version is active, so that two operators do not undo each other's activations.
    pub expect_active: Option<u64>,
}

/// A version became active.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Activation {
    pub at: Timestamp,
    pub version: u64,
    /// The one that was active before.
    pub previous: u64,
    pub by: Principal,
}

members!(HeldPolicy { 1 version: required, 2 sha256: required, 3 document: required, 4 added_at: required, 5 by });
members!(ActivatePolicy { 1 version: required, 2 sha256: required, 3 expect_active });
members!(Activation { 1 at: required, 2 version: required, 3 previous: required, 4 by });

/// All policies of a hub.
#[derive(Debug)]
pub struct Policies {
    by_version: BTreeMap<u64, HeldPolicy>,
    /// Of the documents, without the built-in one.
    bytes: u64,
    active: Policy,
    /// The latest activations, the oldest first.
    history: VecDeque<Activation>,
}

/// A version was added, or was there already with the same content.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Added {
    pub version: u64,
    pub sha256: [u8; 32],
    pub is_duplicate: bool,
}

impl Default for Policies {
    fn default() -> Self {
        let document = Payload::new(BUILT_IN.as_bytes());
        let active = compile(&document).expect("the built-in document is valid");
        let (version, sha256) = (active.version(), *active.snapshot().sha256());
        let built_in = HeldPolicy { version, sha256, document, added_at: Timestamp::ZERO, by: Principal::Hub };
        Policies { by_version: BTreeMap::from([(version, built_in)]), bytes: 0, active, history: VecDeque::new() }
    }
}

impl Policies {
    /// The version of the built-in document.
    pub const BUILT_IN_VERSION: u64 = 1;

    pub fn active(&self) -> &Policy {
        &self.active
    }

    /// Since when the active one has been active; [`Timestamp::ZERO`] if no other ever was.
    pub fn activated_at(&self) -> Timestamp {
        self.history.back().map_or(Timestamp::ZERO, |activation| activation.at)
    }

    /// The versions that are held, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &HeldPolicy> {
        self.by_version.values()
    }

    pub fn get(&self, version: u64) -> Option<&HeldPolicy> {
        self.by_version.get(&version)
    }

    /// The latest activations, the oldest first.
    pub fn history(&self) -> impl DoubleEndedIterator<Item = &Activation> {
        self.history.iter()
    }

    /// The greatest version that was ever added: none is removed.
    pub fn highest(&self) -> u64 {
        *self.by_version.keys().next_back().expect("the built-in version is held")
    }

    pub(crate) fn node_states(&self) -> &NodeStates {
        &self.active.snapshot().document().node_states
    }

    /// Adds a document. O(bytes).
    pub(crate) fn add(&mut self, now: Timestamp, by: Principal, document: Payload) -> Result<Added, Refusal> {
        let snapshot =
            Snapshot::parse(document.as_bytes()).map_err(|error| Refusal::PolicyMalformed(Box::new(error)))?;
        let (version, sha256) = (snapshot.version(), *snapshot.sha256());
        if let Some(known) = self.get(version) {
            let is_same = known.sha256 == sha256;
            let exists = Refusal::PolicyVersionExists { version, sha256: known.sha256 };
            return if is_same { Ok(Added { version, sha256, is_duplicate: true }) } else { Err(exists) };
        }
        let highest = self.highest();
        if version < highest {
            return Err(Refusal::PolicyVersionTooLow { version, highest });
        }
        let bytes = document.len() as u64;
        if self.by_version.len() as u64 >= POLICIES_MAX || self.bytes + bytes > POLICIES_BYTES_MAX {
            return Err(Refusal::PoliciesFull { policies: self.by_version.len() as u64, bytes: self.bytes });
        }
        self.insert(HeldPolicy { version, sha256, document, added_at: now, by });
        Ok(Added { version, sha256, is_duplicate: false })
    }

    /// Makes a version the active one. Returns the one that was active before; the same if nothing changes. O(bytes).
    pub(crate) fn activate(&mut self, now: Timestamp, caller: Caller, order: &ActivatePolicy) -> Result<u64, Refusal> {
        let (version, previous) = (order.version, self.active.version());
        let held = self.get(version).ok_or(Refusal::UnknownPolicy)?;
        if held.sha256 != order.sha256 {
            return Err(Refusal::PolicyVersionExists { version, sha256: held.sha256 });
        }
        if version == previous {
            return Ok(previous);
        }
        if order.expect_active.is_some_and(|expected| expected != previous) {
            return Err(Refusal::PolicyNotActive { active: previous });
        }
        let policy = compile(&held.document).map_err(|error| Refusal::PolicyMalformed(Box::new(error)))?;
        if !policy.can_be_left_by(caller.by) {
            return Err(Refusal::PolicyLocksOut);
        }
        self.active = policy;
        if self.history.len() >= ACTIVATIONS_KEPT_MAX {
            self.history.pop_front();
        }
        self.history.push_back(Activation { at: now, version, previous, by: caller.by });
        Ok(previous)
    }

    fn insert(&mut self, held: HeldPolicy) {
        self.bytes += held.document.len() as u64;
        self.by_version.insert(held.version, held);
    }

    /// Those that were added, for the snapshot.
    pub(crate) fn records(&self) -> impl Iterator<Item = &HeldPolicy> {
        self.by_version.values().filter(|held| held.version != Self::BUILT_IN_VERSION)
    }

    pub(crate) fn restore(&mut self, held: HeldPolicy) -> Result<(), &'static str> {
        if held.version <= self.highest() {
            return Err("policies are not in the order of their versions");
        }
        self.insert(held);
        Ok(())
    }

    /// Restores an activation; those of a snapshot are in order, after the versions.
    pub(crate) fn restore_activation(&mut self, activation: Activation) {
        self.history.push_back(activation);
    }

    /// All records of a snapshot are restored: the version of the latest activation is active.
    pub(crate) fn restored(&mut self) -> Result<(), &'static str> {
        let Some(activation) = self.history.back() else { return Ok(()) };
        let held = self.get(activation.version).ok_or("the active policy is not held")?;
        self.active = compile(&held.document).map_err(|_| "the active policy cannot be read")?;
        Ok(())
    }
}

fn compile(document: &Payload) -> Result<Policy, crate::policy::PolicyError> {
    Snapshot::parse(document.as_bytes()).map(|snapshot| Policy::compile(&snapshot))
}
