//! Rows: what one node may pull, by the zone and kind of the jobs.
//!
//! Jobs of one zone and kind are decided alike, and a pull looks at many: a row finds out once which rules are about the
//! node, decides about each zone and kind by those that remain, and remembers the verdict. What a job requires is not
//! looked at: the node has it, or it would not be offered the job.

use super::compiled::{Decision, DeniedBy, Policy, Request, RuleIndex};
use super::limits::ROW_VERDICTS_MAX;
use super::words::{AttestationStatus, Effect, Operation, Roles};
use crate::envelope::Origin;
use crate::name::Name;
use std::collections::BTreeMap;

/// What is known of a node that pulls.
#[derive(Clone, Copy, Debug)]
pub struct NodeProfile<'a> {
    pub node: Option<&'a str>,
    /// Zone and capabilities are those that were granted, not those that it claims.
    pub zone: Option<&'a str>,
    pub capabilities: &'a [Name],
    /// The caller's.
    pub roles: Roles,
    pub origin: Origin,
    pub attestation: Option<AttestationStatus>,
    pub is_signed: bool,
}

/// The verdicts about one node. It holds for as long as its policy and what it was made of.
#[derive(Clone, Debug)]
pub struct Row {
    policy: Policy,
    deny: Vec<Remaining>,
    allow: Vec<Remaining>,
    /// What denies every pull that no rule denies.
    barred_by: Option<DeniedBy>,
    /// By zone, then kind: most jobs of a node have its zone.
    verdicts: BTreeMap<Box<str>, BTreeMap<Box<str>, Decision>>,
    verdicts_count: usize,
}

/// A rule that is about the node; what is left to be looked at is the job.
#[derive(Clone, Copy, Debug)]
struct Remaining {
    rule: RuleIndex,
    /// Whether it matches jobs of any zone, as far as this node is concerned.
    any_zone: bool,
}

impl NodeProfile<'_> {
    /// The request of this node for a job.
    fn request<'a>(&'a self, zone: Option<&'a str>, kind: Option<&'a str>) -> Request<'a> {
        let NodeProfile { node, zone: node_zone, capabilities, roles, origin, attestation, is_signed } = *self;
        let operation = Operation::Pull;
        Request { operation, roles, origin, zone, node_zone, capabilities, kind, node, attestation, is_signed }
    }
}

impl Row {
    pub(super) fn new(policy: Policy, node: &NodeProfile) -> Row {
        let request = node.request(None, None);
        let remaining = |rule: &RuleIndex| {
            let of = policy.rule(*rule);
            if !of.matches_caller(&request) || !of.matches_capabilities(node.capabilities) {
                return None;
            }
            let matches_node = of.matches_zone(node.zone);
            let any_zone = match of.effect {
                Effect::Allow if !matches_node => return None,
                Effect::Allow => of.zones.is_none(),
                Effect::Deny => matches_node,
            };
            Some(Remaining { rule: *rule, any_zone })
        };
        let rules = policy.candidates(Operation::Pull);
        let deny = rules.deny.iter().filter_map(remaining).collect();
        let allow = rules.allow.iter().filter_map(remaining).collect();
        let barred_by = policy.bars(&request, true);
        Row { deny, allow, barred_by, policy, verdicts: BTreeMap::new(), verdicts_count: 0 }
    }

    /// What it decides about every job of a zone, if the kind does not matter. O(rules about the node).
    pub fn decide_zone(&self, zone: &str) -> Option<Decision> {
        let mut remaining = self.deny.iter().chain(&self.allow);
        let looks_at_kind = remaining.any(|remaining| self.policy.rule(remaining.rule).kinds.is_some());
        (!looks_at_kind).then(|| self.decide_anew(zone, ""))
    }

    /// Decides whether the node may have a job. O(log n) in the verdicts that it remembers; for the first job of a zone
    /// and kind O(rules about the node).
    pub fn decide(&mut self, zone: &str, kind: &str) -> Decision {
        if let Some(decision) = self.verdicts.get(zone).and_then(|kinds| kinds.get(kind)) {
            return *decision;
        }
        let decision = self.decide_anew(zone, kind);
        // All at once: what was asked for most is soon there again, and nothing has to be kept about its use.
        if self.verdicts_count == ROW_VERDICTS_MAX {
            self.verdicts.clear();
            self.verdicts_count = 0;
        }
        self.verdicts.entry(zone.into()).or_default().insert(kind.into(), decision);
        self.verdicts_count += 1;
        decision
    }

    /// As [`Row::decide`], without what it remembers.
    pub fn decide_anew(&self, zone: &str, kind: &str) -> Decision {
        let first = |list: &[Remaining]| {
            let matches = |remaining: &&Remaining| {
                let rule = self.policy.rule(remaining.rule);
                (remaining.any_zone || rule.matches_zone(Some(zone))) && rule.matches_kind(Some(kind))
            };
            list.iter().find(matches).map(|remaining| remaining.rule)
        };
        if let Some(rule) = first(&self.deny) {
            return Decision::Deny { by: DeniedBy::Rule(rule) };
        }
        if let Some(by) = self.barred_by {
            return Decision::Deny { by };
        }
        match first(&self.allow) {
            None if self.policy.denies_by_default(Operation::Pull) => Decision::Deny { by: DeniedBy::Default },
            rule => Decision::Allow { rule },
        }
    }

    /// How many verdicts it remembers; at most [`ROW_VERDICTS_MAX`].
    pub fn verdicts_count(&self) -> usize {
        self.verdicts_count
    }
}
