//! Cases: the examples of a document, decided by its policy.

use super::compiled::{Decision, Policy, Request};
use super::place::At;
use super::snapshot::{Case, CaseRequest, TokenRoles};
use super::words::{Effect, Operation};
use super::{PolicyError, parse};
use crate::integrity::json;
use std::fmt;

/// A case that is decided in another way than it expects.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CaseFailure {
    /// Its index in the document.
    pub index: usize,
    pub name: String,
    pub expected: Effect,
    pub expected_rule: Option<String>,
    pub decided: Effect,
    /// The id of the rule that decided, if one did.
    pub decided_by: Option<String>,
}

impl Policy {
    /// Decides the cases of the document; returns those that fail. O(cases · rules).
    pub fn run_cases(&self) -> Vec<CaseFailure> {
        let cases = self.snapshot().document().cases.iter().enumerate();
        cases.filter_map(|(index, case)| self.failure(index, case)).collect()
    }

    fn failure(&self, index: usize, case: &Case) -> Option<CaseFailure> {
        let decision = self.decide_case(&case.request);
        let decided = if decision.is_allowed() { Effect::Allow } else { Effect::Deny };
        let decided_by = decision.rule().map(|rule| self.rule(rule).id.clone());
        let is_right = decided == case.expect && (case.rule.is_none() || case.rule == decided_by);
        (!is_right).then(|| CaseFailure {
            index,
            name: case.name.clone(),
            expected: case.expect,
            expected_rule: case.rule.clone(),
            decided,
            decided_by,
        })
    }

    /// Decides about a request. For a heartbeat the claims count as well: it is allowed if it is taken and everything that it claims is granted.
    pub fn decide_case(&self, case: &CaseRequest) -> Decision {
        let request = case.request();
        let decision = self.decide(&request);
        let Some(zone) = request.zone else { return decision };
        if request.operation != Operation::Heartbeat || !decision.is_allowed() {
            return decision;
        }
        let capabilities = request.capabilities.iter().map(|name| Some(&**name));
        let mut granted = [None].into_iter().chain(capabilities).map(|claim| self.grant(&request, zone, claim));
        let of_zone = self.grant(&request, zone, None);
        granted.find(|decision| !decision.is_allowed()).unwrap_or(of_zone)
    }
}

impl CaseRequest {
    /// Reads a request as the cases of documents have it. Without roles it has those of `default` at its origin.
    ///
    /// # Errors
    /// For what no case may have as its request.
    pub fn parse(json: &[u8], default: &TokenRoles) -> Result<CaseRequest, PolicyError> {
        let whole = |reason: String| PolicyError { pointer: String::new(), reason };
        let value = json::parse(json).map_err(|error| whole(format!("is not JSON as it must be: {error}")))?;
        parse::request(At::root(value), Some(default))
    }

    pub(super) fn request(&self) -> Request<'_> {
        let zone = self.zone.as_deref();
        Request {
            operation: self.operation,
            roles: self.roles,
            origin: self.origin,
            zone,
            node_zone: zone.filter(|_| self.operation == Operation::Pull),
            capabilities: &self.capabilities,
            kind: self.kind.as_deref(),
            node: self.node.as_deref(),
            attestation: self.attestation,
            is_signed: self.is_signed,
        }
    }
}

impl fmt::Display for CaseFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let CaseFailure { index, name, expected, decided, .. } = self;
        write!(f, "/cases/{index} ({name}): expected {expected}")?;
        if let Some(rule) = &self.expected_rule {
            write!(f, " by {rule}")?;
        }
        write!(f, ", decided {decided}")?;
        match &self.decided_by {
            Some(rule) => write!(f, " by {rule}"),
            None => f.write_str(" by no rule"),
        }
    }
}
