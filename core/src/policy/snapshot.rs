//! Snapshots: policy documents as they were read, one version each. A snapshot is never edited.

use super::gates::Gates;
use super::glob::Globs;
use super::node_states::NodeStates;
use super::parse;
use super::words::{AttestationStatus, Effect, Operation, Origins, Pinning, Role, Roles, WordSet};
use super::{PolicyError, limits};
use crate::envelope::Origin;
use crate::integrity::canonical::{self, Rule as Form};
use crate::integrity::json;
use crate::name::Name;
use sha2::{Digest, Sha256};
use std::sync::Arc;

/// A policy document. Shared, so that a copy costs nothing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Snapshot {
    document: Arc<Document>,
    sha256: [u8; 32],
}

/// What a document says.
#[derive(PartialEq, Eq, Debug)]
pub struct Document {
    pub version: u64,
    pub description: Option<String>,
    /// What becomes of requests that no rule matches.
    pub default: Effect,
    pub rules: Vec<Rule>,
    pub gates: Gates,
    pub node_states: NodeStates,
    /// The roles of the token that all callers share.
    pub hub_token: TokenRoles,
    /// The roles of callers without a token, where the operator requires none.
    pub no_token: TokenRoles,
    pub pinning: Pinning,
    pub cases: Vec<Case>,
}

/// A rule. A list that is absent matches everything.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rule {
    pub id: String,
    pub effect: Effect,
    pub zones: Option<Globs>,
    pub capabilities: Option<Globs>,
    pub kinds: Option<Globs>,
    pub nodes: Option<Globs>,
    pub operations: Option<Operations>,
    pub roles: Option<Roles>,
    pub origins: Option<Origins>,
    pub attestation: Option<Attestations>,
    /// What a caller is told whom the rule denies.
    pub reason: Option<String>,
}

/// The classes that a rule is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Operations {
    /// All that it matches.
    pub matched: WordSet<Operation>,
    /// Those whose names it lists in full, without a glob.
    pub named: WordSet<Operation>,
}

/// The attestations that a rule is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Attestations {
    pub words: WordSet<AttestationStatus>,
    /// Whether it is also about nodes, and callers other than nodes, that have no attestation; for a deny only.
    pub none: bool,
}

/// The roles of a token.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TokenRoles {
    /// From other machines.
    pub elsewhere: Roles,
    /// From loopback.
    pub local: Roles,
}

/// A request and what the policy must answer: an example that the document brings along.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Case {
    pub name: String,
    pub request: CaseRequest,
    pub expect: Effect,
    /// The id of the rule that must decide it.
    pub rule: Option<String>,
}

/// The request of a case. For a pull, `zone` is the zone of both the job and the node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CaseRequest {
    pub operation: Operation,
    pub roles: Roles,
    pub origin: Origin,
    pub zone: Option<String>,
    pub capabilities: Vec<Name>,
    pub kind: Option<String>,
    pub node: Option<String>,
    pub attestation: Option<AttestationStatus>,
    pub is_signed: bool,
}

impl Snapshot {
    /// Reads a document. O(bytes), and O(n log n) in the rules for their ids.
    ///
    /// # Errors
    /// For a document that is no JSON object, too large, or has any member that is unknown, of the wrong type or beyond
    /// its limit; the error names the place.
    pub fn parse(bytes: &[u8]) -> Result<Snapshot, PolicyError> {
        let whole = |reason: String| PolicyError { pointer: String::new(), reason };
        if bytes.len() > limits::DOCUMENT_BYTES_MAX {
            return Err(whole(format!("must have at most {} bytes, has {}", limits::DOCUMENT_BYTES_MAX, bytes.len())));
        }
        let value = json::parse(bytes).map_err(|error| whole(format!("is not JSON as it must be: {error}")))?;
        let document = parse::document(value)?;
        let mut text = Vec::with_capacity(bytes.len());
        canonical::write(value, Form::Jcs, &mut text);
        Ok(Snapshot { document: Arc::new(document), sha256: Sha256::digest(&text).into() })
    }

    /// The SHA-256 of the document's canonical form (RFC 8785): the same however it is formatted.
    pub fn sha256(&self) -> &[u8; 32] {
        &self.sha256
    }

    pub fn version(&self) -> u64 {
        self.document.version
    }

    pub fn document(&self) -> &Document {
        &self.document
    }
}

impl TokenRoles {
    /// The roles of requests from an origin.
    pub fn at(&self, origin: Origin) -> Roles {
        if origin == Origin::Loopback { self.local } else { self.elsewhere }
    }

    /// The shared token's, where a document does not say: what it always was on the hub's machine, and elsewhere
    /// everything but an administrator's.
    pub(super) fn of_hub_token() -> Self {
        let elsewhere = [Role::Submitter, Role::Node, Role::Operator].into_iter().collect();
        TokenRoles { elsewhere, local: WordSet::all() }
    }

    /// Those of callers without a token, where a document does not say.
    pub(super) fn of_no_token() -> Self {
        TokenRoles { elsewhere: Roles::EMPTY, local: Roles::EMPTY }
    }
}
