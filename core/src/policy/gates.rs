//! Gates: what a request must have, besides being allowed by a rule, before it is carried out.

use super::words::{AttestationStatus, Operation, Role, Word};
use crate::envelope::Origin;
use std::fmt;

/// One requirement.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Gate {
    /// It comes from the hub's own machine.
    Local,
    /// Its caller has the role.
    Role(Role),
    /// The node's attestation is `OK`.
    AttestationOk,
    /// The request itself is signed, or comes with a token of its node: that a node's heartbeats are signed does not
    /// count, since whoever knows its name could borrow that.
    SignedIdentity,
}

impl Gate {
    /// All gates, with their names in documents.
    pub(super) const ALL: [(&'static str, Gate); 8] = [
        ("local", Gate::Local),
        ("role:observer", Gate::Role(Role::Observer)),
        ("role:submitter", Gate::Role(Role::Submitter)),
        ("role:node", Gate::Role(Role::Node)),
        ("role:operator", Gate::Role(Role::Operator)),
        ("role:admin", Gate::Role(Role::Admin)),
        ("attestation_ok", Gate::AttestationOk),
        ("signed_identity", Gate::SignedIdentity),
    ];

    pub fn as_str(self) -> &'static str {
        let (name, _) = Gate::ALL.iter().find(|(_, gate)| *gate == self).expect("all gates are listed");
        name
    }
}

impl fmt::Display for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The gates of each class of requests: all of a class must hold.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Gates {
    by_operation: [Vec<Gate>; Operation::ALL.len()],
}

/// What gates look at.
#[derive(Clone, Copy, Debug)]
pub(super) struct Credentials {
    pub roles: super::Roles,
    pub origin: Origin,
    pub attestation: Option<AttestationStatus>,
    pub is_signed: bool,
}

impl Gates {
    pub fn of(&self, operation: Operation) -> &[Gate] {
        &self.by_operation[usize::from(operation.number())]
    }

    pub(super) fn set(&mut self, operation: Operation, gates: Vec<Gate>) {
        self.by_operation[usize::from(operation.number())] = gates;
    }

    /// The first gate of a class that a request does not meet.
    pub(super) fn first_unmet(&self, operation: Operation, with: Credentials) -> Option<Gate> {
        self.of(operation).iter().copied().find(|gate| !with.meet(*gate))
    }
}

impl Credentials {
    fn meet(self, gate: Gate) -> bool {
        match gate {
            Gate::Local => self.origin == Origin::Loopback,
            Gate::Role(role) => self.roles.contains(role),
            Gate::AttestationOk => self.attestation == Some(AttestationStatus::Ok),
            Gate::SignedIdentity => self.is_signed,
        }
    }
}
