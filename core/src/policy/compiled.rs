//! Compiled policies: what a policy decides about a request, and by which of its rules.
//!
//! The order of a decision: a deny rule that matches; the floor under administration; the roles of the caller; the gates
//! of the class; an allow rule that matches; the default. So a deny always wins, and the order of the rules decides only
//! which one is named: the first.
//!
//! Work that a node holds is never lost by the way. [`Operation::Extend`] and [`Operation::Result`] are denied only by
//! rules that list their names in full, and not by the default. A heartbeat is denied by roles and gates only: what rules
//! deny is left out of what the node is granted, see [`Policy::grant`].

use super::gates::{Credentials, Gate};
use super::glob::Globs;
use super::limits::RULES_MAX;
use super::row::{NodeProfile, Row};
use super::snapshot::{Rule, Snapshot};
use super::words::{AttestationStatus, Effect, Operation, Roles, Word};
use crate::envelope::Origin;
use crate::name::Name;
use std::sync::Arc;

/// What a policy looks at. What is absent satisfies no rule that allows and no gate, and a rule that denies only where
/// its list has the word `none`.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    pub operation: Operation,
    /// The caller's.
    pub roles: Roles,
    pub origin: Origin,
    /// The zone of the job that is submitted or pulled.
    pub zone: Option<&'a str>,
    /// The zone that was granted to the node; for a pull only.
    pub node_zone: Option<&'a str>,
    /// Those that were granted to the node; for a submit those that the job requires. None at all count as absent.
    pub capabilities: &'a [Name],
    /// The job's.
    pub kind: Option<&'a str>,
    /// The node in whose name it is made.
    pub node: Option<&'a str>,
    pub attestation: Option<AttestationStatus>,
    /// Whether the request itself is signed, or comes with a token of its node.
    pub is_signed: bool,
}

/// What a policy decides.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Decision {
    /// By the first rule that allows it, or by none: by the default, or because nothing denies it.
    Allow {
        rule: Option<RuleIndex>,
    },
    Deny {
        by: DeniedBy,
    },
}

/// What denies a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DeniedBy {
    Rule(RuleIndex),
    /// Administration from another machine: only a rule that names it and the origin literally allows it.
    Floor,
    /// No role of the caller may make requests of the class.
    Roles,
    /// The first gate of the class that is not met.
    Gate(Gate),
    Default,
}

/// The index of a rule in its document.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct RuleIndex(u16);

/// A policy that decides. Shared, so that a copy costs nothing.
#[derive(Clone, Debug)]
pub struct Policy {
    compiled: Arc<Compiled>,
}

#[derive(Debug)]
struct Compiled {
    snapshot: Snapshot,
    by_operation: [Candidates; Operation::ALL.len()],
}

/// The rules that may match requests of a class, in order.
#[derive(Debug, Default)]
pub(super) struct Candidates {
    pub deny: Vec<RuleIndex>,
    pub allow: Vec<RuleIndex>,
}

impl Decision {
    pub fn is_allowed(self) -> bool {
        matches!(self, Decision::Allow { .. })
    }

    /// The rule that decided.
    pub fn rule(self) -> Option<RuleIndex> {
        match self {
            Decision::Allow { rule } => rule,
            Decision::Deny { by: DeniedBy::Rule(rule) } => Some(rule),
            Decision::Deny { .. } => None,
        }
    }
}

impl RuleIndex {
    pub fn get(self) -> usize {
        self.0.into()
    }
}

impl Policy {
    /// O(rules).
    pub fn compile(snapshot: &Snapshot) -> Policy {
        let rules = &snapshot.document().rules;
        assert!(rules.len() <= RULES_MAX, "the check refuses more");
        let mut by_operation: [Candidates; Operation::ALL.len()] = Default::default();
        for (rule, index) in rules.iter().zip(0..) {
            for operation in Operation::ALL {
                let candidates = &mut by_operation[usize::from(operation.number())];
                match rule.effect {
                    Effect::Deny if rule.denies(*operation) => candidates.deny.push(RuleIndex(index)),
                    Effect::Allow if rule.is_about(*operation) => candidates.allow.push(RuleIndex(index)),
                    _ => {}
                }
            }
        }
        Policy { compiled: Arc::new(Compiled { snapshot: snapshot.clone(), by_operation }) }
    }

    pub fn snapshot(&self) -> &Snapshot {
        &self.compiled.snapshot
    }

    pub fn version(&self) -> u64 {
        self.compiled.snapshot.version()
    }

    /// A rule of a decision of this policy.
    ///
    /// # Panics
    /// If the index is another policy's and this one has fewer rules.
    pub fn rule(&self, index: RuleIndex) -> &Rule {
        &self.compiled.snapshot.document().rules[index.get()]
    }

    pub(super) fn candidates(&self, operation: Operation) -> &Candidates {
        &self.compiled.by_operation[usize::from(operation.number())]
    }

    /// Decides about a request. O(rules of its class); each of their lists costs a search among its literals and a match
    /// of each of its other globs.
    ///
    /// That a heartbeat is allowed says only that it is taken: [`Policy::grant`] says what of its claims counts.
    pub fn decide(&self, request: &Request) -> Decision {
        let rules = self.candidates(request.operation);
        if request.operation == Operation::Heartbeat {
            return match self.bars(request, true) {
                Some(by) => Decision::Deny { by },
                None => Decision::Allow { rule: None },
            };
        }
        let first = |list: &[RuleIndex]| list.iter().copied().find(|index| self.rule(*index).matches(request));
        if let Some(rule) = first(&rules.deny) {
            return Decision::Deny { by: DeniedBy::Rule(rule) };
        }
        let is_above_floor = || {
            rules.allow.iter().any(|index| {
                let rule = self.rule(*index);
                rule.lifts_floor() && rule.matches(request)
            })
        };
        if let Some(by) = self.bars(request, is_above_floor()) {
            return Decision::Deny { by };
        }
        let allowed_by = first(&rules.allow);
        match allowed_by {
            None if self.denies_by_default(request.operation) => Decision::Deny { by: DeniedBy::Default },
            rule => Decision::Allow { rule },
        }
    }

    /// What denies a request whatever rules allow it.
    pub(super) fn bars(&self, request: &Request, is_above_floor: bool) -> Option<DeniedBy> {
        let Request { operation, roles, origin, attestation, is_signed, .. } = *request;
        if operation == Operation::Admin && origin != Origin::Loopback && !is_above_floor {
            return Some(DeniedBy::Floor);
        }
        if !roles.iter().any(|role| role.may(operation)) {
            return Some(DeniedBy::Roles);
        }
        let with = Credentials { roles, origin, attestation, is_signed };
        self.snapshot().document().gates.first_unmet(operation, with).map(DeniedBy::Gate)
    }

    pub(super) fn denies_by_default(&self, operation: Operation) -> bool {
        self.snapshot().document().default == Effect::Deny && !operation.is_held_work()
    }

    /// Decides whether a claim of a heartbeat counts: that the node is in `zone`, or there has `capability`. The claims
    /// of the request itself are not looked at, only what is known of the node and its caller.
    ///
    /// A rule that allows heartbeats grants its zones, and in them its capabilities. One that denies them and lists
    /// capabilities denies those; one that lists none denies the zone, with all capabilities in it.
    pub fn grant(&self, heartbeat: &Request, zone: &str, capability: Option<&str>) -> Decision {
        let rules = self.candidates(Operation::Heartbeat);
        let matches_claim = |index: &RuleIndex| {
            let rule = self.rule(*index);
            rule.matches_caller(heartbeat) && rule.matches_claim(zone, capability, heartbeat.kind)
        };
        if let Some(rule) = rules.deny.iter().copied().find(matches_claim) {
            return Decision::Deny { by: DeniedBy::Rule(rule) };
        }
        match rules.allow.iter().copied().find(matches_claim) {
            None if self.denies_by_default(Operation::Heartbeat) => Decision::Deny { by: DeniedBy::Default },
            rule => Decision::Allow { rule },
        }
    }

    /// What this node may pull. O(rules).
    pub fn row(&self, node: &NodeProfile) -> Row {
        Row::new(self.clone(), node)
    }
}

impl Rule {
    /// Whether it is about requests of a class.
    fn is_about(&self, operation: Operation) -> bool {
        self.operations.is_none_or(|operations| operations.matched.contains(operation))
    }

    /// Whether a deny rule is about requests of a class: about held work only if it names it.
    fn denies(&self, operation: Operation) -> bool {
        let is_named = || self.operations.is_some_and(|operations| operations.named.contains(operation));
        self.is_about(operation) && (!operation.is_held_work() || is_named())
    }

    /// Whether an allow rule names administration and other machines, both literally.
    fn lifts_floor(&self) -> bool {
        self.operations.is_some_and(|operations| operations.named.contains(Operation::Admin))
            && self.origins.is_some_and(|origins| origins.local_network || origins.anywhere)
    }

    fn matches(&self, request: &Request) -> bool {
        self.matches_caller(request)
            && self.matches_capabilities(request.capabilities)
            && self.matches_kind(request.kind)
            && self.matches_zones(request)
    }

    /// For a pull the zones of both job and node are looked at: an allow rule lists both, a deny rule either.
    fn matches_zones(&self, request: &Request) -> bool {
        let matches_job = self.matches_zone(request.zone);
        match (request.operation, self.effect) {
            (Operation::Pull, Effect::Allow) => matches_job && self.matches_zone(request.node_zone),
            (Operation::Pull, Effect::Deny) => matches_job || self.matches_zone(request.node_zone),
            _ => matches_job,
        }
    }

    /// Who asks, from where, in which node's name.
    pub(super) fn matches_caller(&self, request: &Request) -> bool {
        self.roles.is_none_or(|roles| roles.intersects(request.roles))
            && self.origins.is_none_or(|origins| origins.contains(request.origin))
            && self
                .attestation
                .is_none_or(|listed| request.attestation.map_or(listed.none, |word| listed.words.contains(word)))
            && self.matches_list(&self.nodes, request.node)
    }

    /// All that an allow rule lists must be there; for a deny rule one is enough.
    pub(super) fn matches_capabilities(&self, capabilities: &[Name]) -> bool {
        let Some(globs) = &self.capabilities else { return true };
        match self.effect {
            Effect::Allow => globs.iter().all(|glob| capabilities.iter().any(|name| glob.matches(name))),
            Effect::Deny if capabilities.is_empty() => globs.matches_or_none(None),
            Effect::Deny => capabilities.iter().any(|name| globs.matches(name)),
        }
    }

    pub(super) fn matches_kind(&self, kind: Option<&str>) -> bool {
        self.matches_list(&self.kinds, kind)
    }

    pub(super) fn matches_zone(&self, zone: Option<&str>) -> bool {
        self.matches_list(&self.zones, zone)
    }

    fn matches_claim(&self, zone: &str, capability: Option<&str>, kind: Option<&str>) -> bool {
        let matches_capability = match (self.effect, capability, &self.capabilities) {
            (Effect::Allow, None, _) | (_, _, None) => true,
            (Effect::Deny, None, Some(globs)) => globs.matches_or_none(None),
            (_, Some(capability), Some(globs)) => globs.matches(capability),
        };
        matches_capability && self.matches_zone(Some(zone)) && self.matches_kind(kind)
    }

    fn matches_list(&self, list: &Option<Globs>, name: Option<&str>) -> bool {
        list.as_ref().is_none_or(|globs| match self.effect {
            Effect::Allow => name.is_some_and(|name| globs.matches(name)),
            Effect::Deny => globs.matches_or_none(name),
        })
    }
}
