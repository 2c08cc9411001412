//! Policies in the hub: added, activated, and asked about submits and pulls.
//!
//! Each decision is taken where its command is applied, by the policy that is active then and the caller of the record,
//! so that a replay takes the same. Where the active policy denies nothing of a class, as the built-in one does, a
//! decision costs a few loads.

use super::Hub;
use crate::command::{Pull, Submit};
use crate::effect::Audit;
use crate::envelope::{Caller, Principal};
use crate::name_set::NameSet;
use crate::outcome::{Outcome, Refusal};
use crate::payload::Payload;
use crate::policies::ActivatePolicy;
use crate::policy::{Decision, Denial, NodeProfile, Operation, Request};
use crate::registry::node::Node;
use crate::zone::Zone;

/// What a node may have of what it asks for.
pub(super) enum Permitted {
    All,
    /// Jobs of these kinds.
    Kinds(NameSet),
    /// No job at all, whatever is ready.
    Nothing,
}

impl Hub {
    pub(super) fn add_policy(&mut self, document: Payload) -> Outcome {
        let by = self.caller.by;
        if let Some(denial) = self.denial_of_admin() {
            return Outcome::Refused(Refusal::PolicyDenied(denial));
        }
        match self.policies.add(self.now, by, document) {
            Ok(added) => {
                let (version, is_duplicate) = (added.version, added.is_duplicate);
                if !is_duplicate {
                    self.audit(Audit::PolicyAdded { version, sha256: added.sha256, by });
                }
                Outcome::PolicyAdded { version, is_duplicate }
            }
            Err(refusal) => self.refuse_policy(refusal),
        }
    }

    pub(super) fn activate_policy(&mut self, order: &ActivatePolicy) -> Outcome {
        let (now, caller) = (self.now, self.caller);
        if let Some(denial) = self.denial_of_admin() {
            return Outcome::Refused(Refusal::PolicyDenied(denial));
        }
        let before = self.policies.node_states().clone();
        let previous = match self.policies.activate(now, caller, order) {
            Ok(previous) => previous,
            Err(refusal) => return self.refuse_policy(refusal),
        };
        let version = order.version;
        if version != previous {
            self.audit(Audit::PolicyActivated { version, sha256: order.sha256, previous, by: caller.by });
            let moved = self.with_registry(|registry, cx| registry.follow_policy(cx, &before));
            // Those of its long polls that are parked are answered why.
            moved.iter().for_each(|node| self.wake_waiters_of(node));
        }
        Outcome::PolicyActivated { version, previous }
    }

    fn refuse_policy(&mut self, refusal: Refusal) -> Outcome {
        if let Refusal::PolicyVersionExists { version, sha256 } = refusal {
            self.audit(Audit::PolicyTampered { version, sha256, by: self.caller.by });
        }
        Outcome::Refused(refusal)
    }

    /// Why the caller may not administrate. The hub itself may: it adds what it finds at a start.
    fn denial_of_admin(&self) -> Option<Box<Denial>> {
        let is_hub = matches!(self.caller.by, Principal::Hub | Principal::Config);
        (!is_hub).then(|| self.denial(&Request::of_caller(Operation::Admin, self.caller, self))).flatten()
    }

    /// Why the active policy denies a submit.
    pub(super) fn denial_of_submit(&self, submit: &Submit) -> Option<Box<Denial>> {
        let policy = self.policies.active();
        if policy.allows_all(Operation::Submit, policy.roles_of(self.caller)) {
            return None;
        }
        let client = submit.client.as_deref();
        self.denial(&Request {
            zone: Some(submit.zone.as_str()),
            capabilities: &submit.requires,
            kind: Some(&submit.kind),
            node: client,
            attestation: client.and_then(|client| self.registry.by_name(client)).map(Node::attestation_status),
            ..Request::of_caller(Operation::Submit, self.caller, self)
        })
    }

    fn denial(&self, request: &Request) -> Option<Box<Denial>> {
        let policy = self.policies.active();
        match policy.decide(request) {
            Decision::Allow { .. } => None,
            Decision::Deny { by } => Some(Box::new(policy.denial(request.operation, by))),
        }
    }

    /// What the active policy leaves of a pull. O(rules), and O(kinds it names), or O(kinds of the hub), if a rule about
    /// the node names kinds.
    pub(super) fn permitted_to(&self, pull: &Pull) -> Permitted {
        let policy = self.policies.active();
        let Caller { origin, .. } = self.caller;
        let roles = policy.roles_of(self.caller);
        if policy.allows_all(Operation::Pull, roles) {
            return Permitted::All;
        }
        let node = self.registry.by_name(&pull.node);
        let zone = node.map_or(&Zone::DEFAULT, Node::zone).as_str();
        let mut row = policy.row(&NodeProfile {
            node: Some(&pull.node),
            zone: Some(zone),
            capabilities: node.map_or(&[], |node| node.capabilities()),
            roles,
            origin,
            attestation: node.map(Node::attestation_status),
            is_signed: false,
        });
        // A node gets jobs of its own zone only, so the kind is all that is left to be looked at.
        match row.decide_zone(zone) {
            Some(Decision::Allow { .. }) => return Permitted::All,
            Some(Decision::Deny { .. }) => return Permitted::Nothing,
            None => {}
        }
        let mut is_any_denied = false;
        let mut is_allowed = |kind: &str| {
            let is_allowed = row.decide(zone, kind).is_allowed();
            is_any_denied |= !is_allowed;
            is_allowed
        };
        let kinds: NameSet = match pull.kinds.is_empty() {
            true => self.queue.kinds_from(None).filter(|kind| is_allowed(kind)).cloned().collect(),
            false => pull.kinds.iter().filter(|kind| is_allowed(kind)).cloned().collect(),
        };
        match is_any_denied {
            true => Permitted::Kinds(kinds),
            false => Permitted::All,
        }
    }
}

impl Request<'_> {
    /// A request of which nothing is known but its caller.
    fn of_caller(operation: Operation, caller: Caller, hub: &Hub) -> Self {
        Request {
            operation,
            roles: hub.policies.active().roles_of(caller),
            origin: caller.origin,
            zone: None,
            node_zone: None,
            capabilities: &[],
            kind: None,
            node: None,
            attestation: None,
            is_signed: false,
        }
    }
}
