//! Differences: what becomes allowed and denied as one policy follows another.
//!
//! Both decide the same requests: all combinations of what either names, each axis with one value that neither names. A
//! glob stands for one name that it matches, so a difference between two names of one glob may stay unseen. Classes that
//! the hub asks about without a zone, kind or node are compared without them.

use super::compiled::Policy;
use super::glob::Globs;
use super::limits::{DIFF_LISTED_MAX, DIFF_REQUESTS_MAX};
use super::snapshot::{CaseRequest, Rule};
use super::words::{AttestationStatus, Operation, Role, Roles, Word};
use crate::envelope::Origin;
use crate::name::Name;
use std::collections::BTreeSet;

/// The differences between two policies.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Diff {
    /// Requests that the second allows and the first does not; at most [`DIFF_LISTED_MAX`].
    pub allowed: Vec<CaseRequest>,
    pub allowed_count: u64,
    /// Requests that the first allows and the second does not; at most [`DIFF_LISTED_MAX`].
    pub denied: Vec<CaseRequest>,
    pub denied_count: u64,
    /// How many requests were decided under both.
    pub compared: u64,
    /// How many there are. Where that is more than [`DIFF_REQUESTS_MAX`], those compared are spread evenly over them.
    pub total: u128,
}

/// The values of each part of a request, for one class.
struct Axes {
    operation: Operation,
    zones: Vec<Option<String>>,
    kinds: Vec<Option<String>>,
    capabilities: Vec<Option<String>>,
    nodes: Vec<Option<String>>,
    attestations: Vec<Option<AttestationStatus>>,
    is_signed: Vec<bool>,
}

const ORIGINS: [Origin; 3] = [Origin::Loopback, Origin::LocalNetwork, Origin::Anywhere];

impl Diff {
    /// Compares two policies. At most [`DIFF_REQUESTS_MAX`] requests are decided, each twice.
    pub fn between(before: &Policy, after: &Policy) -> Diff {
        let by_class: Vec<Axes> = Operation::ALL.iter().map(|operation| Axes::new(*operation, before, after)).collect();
        let total = by_class.iter().map(Axes::count).fold(0, u128::saturating_add);
        let mut diff = Diff { allowed: vec![], allowed_count: 0, denied: vec![], denied_count: 0, compared: 0, total };
        // A step that shares no factor with an axis visits all of its values.
        let mut step = total.div_ceil(DIFF_REQUESTS_MAX.into()).max(1);
        while step > 1 && !by_class.iter().flat_map(Axes::counts).all(|count| is_coprime(step, count)) {
            step += 1;
        }
        for axes in &by_class {
            let mut index = 0;
            while index < axes.count() && diff.compared < DIFF_REQUESTS_MAX {
                diff.compare(before, after, axes.request(index));
                index += step;
            }
        }
        diff
    }

    fn compare(&mut self, before: &Policy, after: &Policy, request: CaseRequest) {
        self.compared += 1;
        let is_allowed = |policy: &Policy| policy.decide_case(&request).is_allowed();
        let (count, list) = match (is_allowed(before), is_allowed(after)) {
            (false, true) => (&mut self.allowed_count, &mut self.allowed),
            (true, false) => (&mut self.denied_count, &mut self.denied),
            _ => return,
        };
        *count += 1;
        if list.len() < DIFF_LISTED_MAX {
            list.push(request);
        }
    }
}

impl Axes {
    fn new(operation: Operation, before: &Policy, after: &Policy) -> Axes {
        use Operation::{Extend, Heartbeat, Pull, Result, Submit};
        let policies = [before, after];
        let rules = || policies.iter().flat_map(|policy| &policy.snapshot().document().rules);
        let names = |is_asked: bool, list: fn(&Rule) -> &Option<Globs>| {
            if !is_asked {
                return vec![None];
            }
            let mut names: BTreeSet<String> = rules()
                .filter_map(|rule| list(rule).as_ref())
                .flat_map(Globs::iter)
                .map(|glob| glob.example())
                .collect();
            let mut other = "other".to_owned();
            while names.contains(&other) {
                other.push('~');
            }
            names.insert(other);
            names.into_iter().map(Some).collect()
        };
        let is_nodes = matches!(operation, Pull | Extend | Result | Heartbeat);
        let is_about_work = is_nodes || operation == Submit;
        let is_attested = is_nodes
            && (rules().any(|rule| rule.attestation.is_some()) || policies.iter().any(|policy| asks_for_more(policy)));
        let all_attestations = || AttestationStatus::ALL.iter().copied().map(Some).chain([None]).collect();
        Axes {
            operation,
            zones: names(is_about_work, |rule| &rule.zones),
            kinds: names(is_about_work && operation != Heartbeat, |rule| &rule.kinds),
            capabilities: names(is_about_work, |rule| &rule.capabilities),
            nodes: names(is_nodes, |rule| &rule.nodes),
            attestations: if is_attested { all_attestations() } else { vec![None] },
            is_signed: if policies.iter().any(|policy| asks_for_more(policy)) {
                vec![false, true]
            } else {
                vec![false]
            },
        }
    }

    fn counts(&self) -> [u128; 8] {
        let Axes { operation: _, zones, kinds, capabilities, nodes, attestations, is_signed } = self;
        let own = [zones.len(), kinds.len(), capabilities.len(), nodes.len(), attestations.len(), is_signed.len()];
        let [zones, kinds, capabilities, nodes, attestations, is_signed] = own.map(|count| count as u128);
        [Role::ALL.len() as u128, ORIGINS.len() as u128, zones, kinds, capabilities, nodes, attestations, is_signed]
    }

    fn count(&self) -> u128 {
        self.counts().into_iter().fold(1, u128::saturating_mul)
    }

    /// The request of an index below the count: its digits are the indices of the values.
    fn request(&self, index: u128) -> CaseRequest {
        let mut rest = index;
        let [role, origin, zone, kind, capability, node, attestation, signed] = self.counts().map(|count| {
            let digit = (rest % count) as usize;
            rest /= count;
            digit
        });
        let capability = self.capabilities[capability].as_deref().and_then(|name| Name::new(name).ok());
        CaseRequest {
            operation: self.operation,
            roles: Roles::from_iter([Role::ALL[role]]),
            origin: ORIGINS[origin],
            zone: self.zones[zone].clone(),
            kind: self.kinds[kind].clone(),
            capabilities: capability.into_iter().collect(),
            node: self.nodes[node].clone(),
            attestation: self.attestations[attestation],
            is_signed: self.is_signed[signed],
        }
    }
}

/// Whether a policy has gates that look at more than roles and origins.
fn asks_for_more(policy: &Policy) -> bool {
    use super::gates::Gate;
    let gates = &policy.snapshot().document().gates;
    let mut all = Operation::ALL.iter().flat_map(|operation| gates.of(*operation));
    all.any(|gate| matches!(gate, Gate::AttestationOk | Gate::SignedIdentity))
}

fn is_coprime(a: u128, b: u128) -> bool {
    let (mut a, mut b) = (a, b);
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a == 1
}
