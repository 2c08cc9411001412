//! A node's state: normal, warned about, or in quarantine, where it gets no jobs.
//!
//! It follows the node's attestation and identity when they change, as the active policy says: as it ships, drift and a
//! signature that is missing or wrong are warnings, which are shown and change nothing; suspicion and another key put the
//! node in quarantine, for longer if they come again. A quarantine ends when both its time and its cause are over; one for
//! another key at once when the node's own key signs, since an impostor must not harm the node. An operator may quarantine a
//! node, release it, and clear its state; what an operator did counts no step further.

use crate::encoding::{members, numbered};
use crate::envelope::Principal;
use crate::limits::{QUARANTINE_DAY_MS, QUARANTINE_HOUR_MS, QUARANTINES_COUNTED_MAX, STATE_BYTES};
use crate::name::Name;
use crate::policy::{AttestationStatus, Cause, IdentityStatus, NodeStates, PolicyState};
use crate::time::{Millis, Timestamp};

/// Why a node is not in the normal state.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StateReason {
    Drift,
    SpoofSuspect,
    /// An operator's order.
    Admin,
    KeyMismatch,
    InvalidSignature,
    MissingSignature,
    MissingIdentity,
    /// It attests nothing.
    Missing,
    /// No key is pinned.
    Unpinned,
}

/// What a node's state follows.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Standing {
    pub attestation: AttestationStatus,
    pub identity: IdentityStatus,
}

/// The state of a node that was not always normal.
#[derive(Clone, PartialEq, Debug)]
pub struct NodeState {
    pub state: PolicyState,
    /// Absent in the normal state.
    pub reason: Option<StateReason>,
    /// When a quarantine ends; absent if it lasts for as long as its cause.
    pub until: Option<Timestamp>,
    /// How often it was warned about or put in quarantine.
    pub hits: u32,
    pub updated_at: Timestamp,
    /// Who changed it last.
    pub by: Principal,
    /// What an operator wrote.
    pub note: Option<Name>,
    /// When the latest quarantines began that no operator ordered, the oldest first.
    begun: Vec<Timestamp>,
}

members!(NodeState {
    1 state,
    2 reason,
    3 until,
    4 hits,
    5 updated_at: required,
    6 by,
    7 note,
    8 begun,
});
numbered!(PolicyState { 0 Normal, 1 Warn, 2 Quarantined });
numbered!(StateReason {
    1 Drift,
    2 SpoofSuspect,
    3 Admin,
    4 KeyMismatch,
    5 InvalidSignature,
    6 MissingSignature,
    7 MissingIdentity,
    8 Missing,
    9 Unpinned,
});

/// A state that was entered, for the audit log.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Entered {
    Warn(StateReason),
    Quarantine(StateReason),
    /// Normal again.
    Normal,
}

impl StateReason {
    pub const fn as_str(self) -> &'static str {
        match self {
            StateReason::Drift => "DRIFT",
            StateReason::SpoofSuspect => "SPOOF_SUSPECT",
            StateReason::Admin => "ADMIN",
            StateReason::KeyMismatch => "KEY_MISMATCH",
            StateReason::InvalidSignature => "INVALID_SIGNATURE",
            StateReason::MissingSignature => "MISSING_SIGNATURE",
            StateReason::MissingIdentity => "MISSING_IDENTITY",
            StateReason::Missing => "MISSING",
            StateReason::Unpinned => "UNPINNED",
        }
    }

    /// What a state comes from; nothing that is as it should be is a reason.
    fn of(cause: Cause) -> Option<StateReason> {
        match cause {
            Cause::Attestation(AttestationStatus::Ok) | Cause::Identity(IdentityStatus::Valid) => None,
            Cause::Attestation(AttestationStatus::Missing) => Some(StateReason::Missing),
            Cause::Attestation(AttestationStatus::Drift) => Some(StateReason::Drift),
            Cause::Attestation(AttestationStatus::SpoofSuspect) => Some(StateReason::SpoofSuspect),
            Cause::Identity(IdentityStatus::KeyMismatch) => Some(StateReason::KeyMismatch),
            Cause::Identity(IdentityStatus::InvalidSignature) => Some(StateReason::InvalidSignature),
            Cause::Identity(IdentityStatus::MissingSignature) => Some(StateReason::MissingSignature),
            Cause::Identity(IdentityStatus::MissingIdentity) => Some(StateReason::MissingIdentity),
            Cause::Identity(IdentityStatus::Unpinned) => Some(StateReason::Unpinned),
        }
    }
}

impl Standing {
    /// The graver state of those that follow from attestation and identity.
    pub fn state(self, states: &NodeStates) -> PolicyState {
        states.state_of(Some(self.attestation), Some(self.identity)).0
    }

    /// What that state comes from: the attestation, if both lead to it.
    fn reason(self, states: &NodeStates) -> Option<StateReason> {
        StateReason::of(states.state_of(Some(self.attestation), Some(self.identity)).1?)
    }
}

impl NodeState {
    pub(super) fn normal(now: Timestamp) -> NodeState {
        NodeState {
            state: PolicyState::Normal,
            reason: None,
            until: None,
            hits: 0,
            updated_at: now,
            by: Principal::Hub,
            note: None,
            begun: Vec::new(),
        }
    }

    /// The status of the node's attestation or identity changed.
    pub(super) fn follow(&mut self, (now, states): (Timestamp, &NodeStates), standing: Standing) -> Option<Entered> {
        if self.state == PolicyState::Quarantined && !self.is_over((now, states), standing) {
            let is_for_another_cause = self.reason == Some(StateReason::KeyMismatch) || self.until.is_none();
            if is_for_another_cause && standing.state(states) == PolicyState::Quarantined {
                self.reason = standing.reason(states);
            }
            return None;
        }
        self.enter((now, states), standing)
    }

    /// The quarantine's time is over.
    pub(super) fn end(&mut self, (now, states): (Timestamp, &NodeStates), standing: Standing) -> Option<Entered> {
        self.until = None;
        if self.reason != Some(StateReason::Admin) && standing.state(states) == PolicyState::Quarantined {
            // Until its cause is over.
            self.reason = standing.reason(states);
            return None;
        }
        self.enter((now, states), standing)
    }

    /// An operator's order.
    pub(super) fn quarantine(&mut self, now: Timestamp, until: Timestamp, by: Principal, note: Option<Name>) {
        let hits = self.hits.saturating_add(1);
        let begun = std::mem::take(&mut self.begun);
        let (state, reason) = (PolicyState::Quarantined, Some(StateReason::Admin));
        *self = NodeState { state, reason, until: Some(until), hits, updated_at: now, by, note, begun };
    }

    /// An operator ends a quarantine: from then on the state follows what changes.
    pub(super) fn clear(&mut self, now: Timestamp, by: Principal) {
        let begun = std::mem::take(&mut self.begun);
        *self = NodeState { hits: self.hits, by, begun, ..NodeState::normal(now) };
    }

    /// Whether a quarantine is over when the node stands so.
    fn is_over(&self, (now, states): (Timestamp, &NodeStates), standing: Standing) -> bool {
        let is_cleared = self.reason == Some(StateReason::KeyMismatch) && !standing.identity.is_fault();
        self.reason != Some(StateReason::Admin)
            && standing.state(states) != PolicyState::Quarantined
            && (is_cleared || self.until.is_none_or(|until| until <= now))
    }

    fn enter(&mut self, (now, states): (Timestamp, &NodeStates), standing: Standing) -> Option<Entered> {
        let (before, after) = (self.state, standing.state(states));
        self.state = after;
        self.reason = standing.reason(states);
        self.until = None;
        self.note = None;
        if after == before {
            return None;
        }
        (self.updated_at, self.by) = (now, Principal::Hub);
        let Some(reason) = self.reason else { return Some(Entered::Normal) };
        self.hits = self.hits.saturating_add(1);
        if after == PolicyState::Warn {
            return Some(Entered::Warn(reason));
        }
        self.until = Some(now + self.length((now, states)));
        if self.begun.len() >= QUARANTINES_COUNTED_MAX {
            self.begun.remove(0);
        }
        self.begun.push(now);
        Some(Entered::Quarantine(reason))
    }

    /// How long a quarantine lasts that begins now.
    fn length(&self, (now, states): (Timestamp, &NodeStates)) -> Millis {
        let within = |window: Millis| self.begun.iter().filter(|at| now < **at + window).count();
        states.quarantine(match (within(QUARANTINE_DAY_MS), within(QUARANTINE_HOUR_MS)) {
            (2.., _) => 2,
            (_, 1..) => 1,
            _ => 0,
        })
    }

    /// Bytes of memory that it takes.
    pub(super) fn bytes(&self) -> u64 {
        STATE_BYTES + self.note.as_ref().map_or(0, Name::bytes)
    }
}
