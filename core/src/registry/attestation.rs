//! Attestation: what a node says it consists of, beside what it said first.
//!
//! The first attestation is the baseline. One that differs is drift, until the node is back at its baseline or an operator
//! makes the present state the baseline. A capability hash that changes [too often](crate::Limits) within a window makes the
//! node suspect of being several: a program that uses another one's name. It stays so until none of these changes is within
//! the window, or an operator accepts it. Silence heals nothing: a node that stops attesting keeps drift and suspicion.
//!
//! Nothing here blocks a node: [`super::node_state`] decides what follows. A node that never attested costs nothing.

use crate::command::Attestation;
use crate::effect::Audit;
use crate::encoding::{members, numbered};
use crate::envelope::Principal;
use crate::limits::{
    ATTESTATION_BYTES, ATTESTATION_CHANGE_BYTES, ATTESTATION_CHANGES_MAX, FLIP_THRESHOLD_MAX, HEAP_HEADER_BYTES, Limits,
};
use crate::name::Name;
use crate::outcome::Refusal;
use crate::policy::AttestationStatus;
use crate::time::Timestamp;

/// What is known of a node that attested.
#[derive(Clone, PartialEq, Debug)]
pub struct Attested {
    pub baseline: Attestation,
    /// When it was attested first, or accepted.
    pub baseline_at: Timestamp,
    pub latest: Attestation,
    /// When the latest differed from that before.
    pub latest_at: Timestamp,
    pub status: AttestationStatus,
    /// When the status changed last.
    pub changed_at: Timestamp,
    /// How many attestations were drift and new.
    pub drifts: u32,
    /// How often the capability hash changed.
    pub flips: u32,
    /// Who accepted the baseline, if anyone did.
    pub accepted_by: Option<Principal>,
    /// The latest changes, the oldest first.
    pub changes: Vec<Change>,
    /// Since when its heartbeats have had none.
    pub silent_since: Option<Timestamp>,
    /// Those of its flips that may be within the window, the oldest first.
    recent_flips: Vec<Timestamp>,
}

/// An attestation that differed from the one before.
#[derive(Clone, PartialEq, Debug)]
pub struct Change {
    pub at: Timestamp,
    pub status: AttestationStatus,
    pub build_id: Option<Name>,
    pub capability_hash: Option<Name>,
}

/// Builds and capability hashes before and after.
#[derive(Clone, PartialEq, Debug)]
pub struct Drift {
    pub old_build: Option<Name>,
    pub new_build: Option<Name>,
    pub old_capability_hash: Option<Name>,
    pub new_capability_hash: Option<Name>,
}

members!(Change { 1 at: required, 2 status, 3 build_id, 4 capability_hash });
members!(Attested {
    1 baseline: required,
    2 baseline_at: required,
    3 latest: required,
    4 latest_at: required,
    5 status,
    6 changed_at: required,
    7 drifts,
    8 flips,
    9 accepted_by,
    10 changes,
    11 recent_flips,
    12 silent_since,
});
numbered!(AttestationStatus { 0 Missing, 1 Ok, 2 Drift, 3 SpoofSuspect });

impl Attested {
    /// The first attestation of a node.
    pub(super) fn first(now: Timestamp, attestation: Attestation) -> Attested {
        let change = Change::of(now, AttestationStatus::Ok, &attestation);
        Attested {
            baseline: attestation.clone(),
            baseline_at: now,
            latest: attestation,
            latest_at: now,
            status: AttestationStatus::Ok,
            changed_at: now,
            drifts: 0,
            flips: 0,
            accepted_by: None,
            changes: vec![change],
            silent_since: None,
            recent_flips: Vec::new(),
        }
    }

    /// Whether a heartbeat with this attestation changes nothing.
    pub(super) fn is_settled(&self, now: Timestamp, limits: &Limits, attestation: Option<&Attestation>) -> bool {
        match attestation {
            None => self.silent_since.is_some(),
            Some(_) if self.silent_since.is_some() => false,
            Some(attestation) => *attestation == self.latest && self.status_at(now, limits, self.status) == self.status,
        }
    }

    /// A heartbeat came, with or without an attestation. The events go to `audits`.
    pub(super) fn observe(
        &mut self,
        (now, limits): (Timestamp, &Limits),
        node: &Name,
        attestation: Option<Attestation>,
        audits: &mut Vec<Audit>,
    ) {
        let Some(attestation) = attestation else {
            if self.silent_since.is_none() {
                self.silent_since = Some(now);
                audits.push(Audit::AttestationMissing { node: node.clone() });
            }
            if self.status == AttestationStatus::Ok {
                self.set_status(now, AttestationStatus::Missing);
            }
            return;
        };
        self.silent_since = None;
        let is_new = attestation != self.latest;
        if attestation.capability_hash != self.latest.capability_hash {
            self.flips = self.flips.saturating_add(1);
            if self.recent_flips.len() >= FLIP_THRESHOLD_MAX as usize {
                self.recent_flips.remove(0);
            }
            self.recent_flips.push(now);
        }
        self.recent_flips.retain(|at| is_within(*at, now, limits));
        let before = self.status;
        self.latest = attestation;
        let after = self.status_at(now, limits, before);
        if is_new {
            self.latest_at = now;
            self.note_change(now, after);
        }
        if !self.is_at_baseline() && (is_new || before == AttestationStatus::Ok) {
            self.drifts = self.drifts.saturating_add(1);
            let drift = Drift::between(&self.baseline, &self.latest);
            audits.push(Audit::AttestationDrift { node: node.clone(), drift: Box::new(drift) });
        }
        if after == before {
            return;
        }
        self.set_status(now, after);
        match after {
            AttestationStatus::SpoofSuspect => {
                audits.push(Audit::AttestationSpoofSuspect { node: node.clone(), flips: self.flips });
            }
            AttestationStatus::Ok => audits.push(Audit::AttestationRestored { node: node.clone() }),
            AttestationStatus::Drift | AttestationStatus::Missing => {}
        }
    }

    /// An operator makes the latest attestation the baseline, if it is the one that is `expected`. Returns how the baseline
    /// changed.
    pub(super) fn accept(
        &mut self,
        now: Timestamp,
        by: Principal,
        expected: Option<&Attestation>,
        is_forced: bool,
    ) -> Result<Drift, Refusal> {
        let differs = |expected: &Attestation| {
            expected.build_id != self.latest.build_id || expected.capability_hash != self.latest.capability_hash
        };
        if expected.is_some_and(differs) {
            return Err(Refusal::AttestationChanged);
        }
        if self.status == AttestationStatus::SpoofSuspect && !is_forced {
            return Err(Refusal::SpoofSuspect);
        }
        let drift = Drift::between(&self.baseline, &self.latest);
        self.baseline = self.latest.clone();
        self.baseline_at = now;
        self.accepted_by = Some(by);
        self.recent_flips.clear();
        let is_silent = self.silent_since.is_some();
        self.set_status(now, if is_silent { AttestationStatus::Missing } else { AttestationStatus::Ok });
        Ok(drift)
    }

    /// Its status after the latest attestation, if it was `before`.
    fn status_at(&self, now: Timestamp, limits: &Limits, before: AttestationStatus) -> AttestationStatus {
        let flips = self.recent_flips.iter().filter(|at| is_within(**at, now, limits)).count() as u64;
        let is_suspect = match before {
            AttestationStatus::SpoofSuspect => flips > 0,
            _ => flips >= u64::from(limits.flip_threshold.clamp(1, FLIP_THRESHOLD_MAX)),
        };
        match is_suspect {
            true => AttestationStatus::SpoofSuspect,
            false if self.is_at_baseline() => AttestationStatus::Ok,
            false => AttestationStatus::Drift,
        }
    }

    fn is_at_baseline(&self) -> bool {
        self.latest.build_id == self.baseline.build_id && self.latest.capability_hash == self.baseline.capability_hash
    }

    fn set_status(&mut self, now: Timestamp, status: AttestationStatus) {
        if status != self.status {
            self.status = status;
            self.changed_at = now;
        }
    }

    fn note_change(&mut self, now: Timestamp, status: AttestationStatus) {
        if self.changes.len() >= ATTESTATION_CHANGES_MAX {
            self.changes.remove(0);
        }
        self.changes.push(Change::of(now, status, &self.latest));
    }

    /// Bytes of memory that it takes.
    pub(super) fn bytes(&self) -> u64 {
        let of_changes: u64 = self.changes.iter().map(Change::bytes).sum();
        ATTESTATION_BYTES + bytes_of(&self.baseline) + bytes_of(&self.latest) + of_changes
    }

    /// Bytes that it takes at most after a heartbeat with this attestation.
    pub(super) fn bytes_with(known: Option<&Attested>, attestation: Option<&Attestation>) -> u64 {
        let own = known.map_or(0, Attested::bytes);
        match (known, attestation) {
            (_, None) => own,
            (Some(known), Some(attestation)) if known.latest == *attestation => own,
            (Some(known), Some(attestation)) => {
                let change = Change::of(Timestamp::ZERO, AttestationStatus::Ok, attestation).bytes();
                own - bytes_of(&known.latest) + bytes_of(attestation) + change
            }
            (None, Some(attestation)) => Attested::first(Timestamp::ZERO, attestation.clone()).bytes(),
        }
    }
}

impl Drift {
    fn between(old: &Attestation, new: &Attestation) -> Drift {
        Drift {
            old_build: old.build_id.clone(),
            new_build: new.build_id.clone(),
            old_capability_hash: old.capability_hash.clone(),
            new_capability_hash: new.capability_hash.clone(),
        }
    }
}

impl Change {
    fn of(at: Timestamp, status: AttestationStatus, attestation: &Attestation) -> Change {
        let Attestation { build_id, capability_hash, .. } = attestation;
        Change { at, status, build_id: build_id.clone(), capability_hash: capability_hash.clone() }
    }

    fn bytes(&self) -> u64 {
        ATTESTATION_CHANGE_BYTES + name_bytes(&self.build_id) + name_bytes(&self.capability_hash)
    }
}

fn is_within(at: Timestamp, now: Timestamp, limits: &Limits) -> bool {
    now < at + limits.flip_window_ms
}

fn bytes_of(attestation: &Attestation) -> u64 {
    let Attestation { build_id, capability_hash, runtime } = attestation;
    let runtime = runtime.as_ref().map_or(0, |runtime| HEAP_HEADER_BYTES + runtime.len() as u64);
    name_bytes(build_id) + name_bytes(capability_hash) + runtime
}

fn name_bytes(name: &Option<Name>) -> u64 {
    name.as_ref().map_or(0, Name::bytes)
}
