//! Node states: what a policy makes of a node's attestation and identity, how long a quarantine lasts, and how long a
//! node in it is told to wait between pulls.

use super::limits::QUARANTINE_STEPS;
use super::words::{AttestationStatus, IdentityStatus, PolicyState, Word};
use crate::time::Millis;

/// The states of nodes, and the times of quarantine.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NodeStates {
    pub(super) attestation: [PolicyState; AttestationStatus::ALL.len()],
    pub(super) identity: [PolicyState; IdentityStatus::ALL.len()],
    pub(super) quarantine: [Millis; QUARANTINE_STEPS],
    pub(super) defer_first: Millis,
    pub(super) defer_step: Millis,
    pub(super) defer_max: Millis,
}

/// What a node's state comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cause {
    Attestation(AttestationStatus),
    Identity(IdentityStatus),
}

impl Cause {
    pub fn as_str(self) -> &'static str {
        match self {
            Cause::Attestation(word) => word.as_str(),
            Cause::Identity(word) => word.as_str(),
        }
    }
}

impl NodeStates {
    /// Words of documents that may have a state: what is as it should be has none.
    pub(super) const ATTESTATION_NAMES: [&'static str; 3] = ["MISSING", "DRIFT", "SPOOF_SUSPECT"];
    pub(super) const IDENTITY_NAMES: [&'static str; 5] =
        ["KEY_MISMATCH", "INVALID_SIGNATURE", "MISSING_SIGNATURE", "MISSING_IDENTITY", "UNPINNED"];

    /// The graver state of the two that a node has, and what it comes from; the attestation where both are as grave.
    pub fn state_of(
        &self,
        attestation: Option<AttestationStatus>,
        identity: Option<IdentityStatus>,
    ) -> (PolicyState, Option<Cause>) {
        let by_attestation =
            attestation.map(|word| (self.attestation[usize::from(word.number())], Some(Cause::Attestation(word))));
        let by_identity = identity.map(|word| (self.identity[usize::from(word.number())], Some(Cause::Identity(word))));
        let states = [by_attestation, by_identity].into_iter().flatten();
        states
            .filter(|(state, _)| *state > PolicyState::Normal)
            .rev()
            .max_by_key(|(state, _)| *state)
            .unwrap_or((PolicyState::Normal, None))
    }

    /// Whether nodes have the same states under both.
    pub fn has_same_states(&self, other: &NodeStates) -> bool {
        (self.attestation, self.identity) == (other.attestation, other.identity)
    }

    /// How long a quarantine lasts before which the node had so many that still count.
    pub fn quarantine(&self, earlier: usize) -> Millis {
        self.quarantine[earlier.min(QUARANTINE_STEPS - 1)]
    }

    /// What a node in quarantine is told to wait after so many pulls in it.
    pub fn defer(&self, earlier_pulls: u32) -> Millis {
        let grown = self.defer_step.get().saturating_mul(u64::from(earlier_pulls));
        Millis::new(self.defer_first.get().saturating_add(grown)).min(self.defer_max)
    }
}

/// The field's: see the wire contract.
impl Default for NodeStates {
    fn default() -> Self {
        use PolicyState::{Normal, Quarantined, Warn};
        NodeStates {
            attestation: [Normal, Normal, Warn, Quarantined],
            identity: [Normal, Quarantined, Warn, Warn, Warn, Normal],
            quarantine: [10, 30, 120].map(|minutes| Millis::from_secs(minutes * 60)),
            defer_first: Millis::new(2_000),
            defer_step: Millis::new(1_500),
            defer_max: Millis::new(10_000),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_graver_of_two_states_counts_and_names_its_cause() {
        use AttestationStatus::{Drift, Missing, Ok, SpoofSuspect};
        use IdentityStatus::{InvalidSignature, KeyMismatch, Unpinned, Valid};
        use PolicyState::{Normal, Quarantined, Warn};
        let states = NodeStates::default();
        for (attestation, identity, state, cause) in [
            (None, None, Normal, None),
            (Some(Ok), Some(Valid), Normal, None),
            (Some(Missing), Some(Unpinned), Normal, None),
            (Some(Drift), Some(Valid), Warn, Some("DRIFT")),
            (Some(Ok), Some(InvalidSignature), Warn, Some("INVALID_SIGNATURE")),
            (Some(Drift), Some(InvalidSignature), Warn, Some("DRIFT")),
            (Some(Drift), Some(KeyMismatch), Quarantined, Some("KEY_MISMATCH")),
            (Some(SpoofSuspect), Some(InvalidSignature), Quarantined, Some("SPOOF_SUSPECT")),
            (None, Some(KeyMismatch), Quarantined, Some("KEY_MISMATCH")),
        ] {
            let (is, by) = states.state_of(attestation, identity);
            assert_eq!((is, by.map(Cause::as_str)), (state, cause), "{attestation:?} {identity:?}");
        }
    }

    #[test]
    fn quarantines_and_waits_grow_to_their_last_step() {
        let states = NodeStates::default();
        let minutes = [0, 1, 2, 3, usize::MAX].map(|earlier| states.quarantine(earlier).get() / 60_000);
        assert_eq!(minutes, [10, 30, 120, 120, 120]);
        let waits = [0, 1, 2, 5, 6, u32::MAX].map(|pulls| states.defer(pulls).get());
        assert_eq!(waits, [2_000, 3_500, 5_000, 9_500, 10_000, 10_000]);
    }
}
