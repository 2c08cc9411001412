//! Policies: who may do what, from where, and what a node's attestation and identity lead to.
//!
//! A document (`policies/policy.schema.json`) is read once into a [`Snapshot`], and that is compiled into a [`Policy`],
//! which decides. Nothing here knows the hub: it hands in [`Request`]s and keeps to the [`Decision`]s, which are taken
//! where the record is applied, so that a replay takes the same.
//!
//! A decision looks at each rule of its class once. A pull asks about many jobs in a row: [`Row`] remembers what it
//! decided about each zone and kind.

mod cases;
mod compiled;
mod denial;
mod diff;
mod gates;
mod glob;
pub mod limits;
mod node_states;
mod parse;
mod place;
mod reach;
mod row;
mod snapshot;
#[cfg(test)]
mod tests;
mod words;

pub use cases::CaseFailure;
pub use compiled::{Decision, DeniedBy, Policy, Request, RuleIndex};
pub use denial::Denial;
pub use diff::Diff;
pub use gates::{Gate, Gates};
pub use glob::{Glob, Globs};
pub use node_states::{Cause, NodeStates};
pub use row::{NodeProfile, Row};
pub use snapshot::{Attestations, Case, CaseRequest, Document, Operations, Rule, Snapshot, TokenRoles};
pub use words::{
    AttestationStatus, Effect, IdentityStatus, Operation, Origins, Pinning, PolicyState, Role, Roles, Word, WordSet,
};

use std::fmt;

/// The document of version 1, which is part of the hub: what holds where nobody activated another.
pub const BUILT_IN: &str = include_str!("../../../policies/policy_v1.json");

/// Why a document is refused.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PolicyError {
    /// Where, as a JSON Pointer (RFC 6901); empty for the document itself.
    pub pointer: String,
    /// What is expected there.
    pub reason: String,
}

impl fmt::Display for PolicyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = if self.pointer.is_empty() { "the document" } else { &self.pointer };
        write!(f, "{place} {}", self.reason)
    }
}

impl std::error::Error for PolicyError {}
