//! Reach: whether anyone could activate another policy under this one.

use super::compiled::{Policy, Request};
use super::words::{Operation, Roles};
use crate::envelope::{Caller, Origin, Principal};

impl Policy {
    /// Whether the shared token may administrate from the hub's own machine, or a token with one of these roles.
    ///
    /// Without that nobody could take back the activation of this policy while the hub runs. A token of a node does not
    /// belong among them: it says nothing of zones, nodes and attestation, nor would a person who has to act at once.
    pub fn can_recover(&self, admin_tokens: &[Roles]) -> bool {
        let shared = self.snapshot().document().hub_token.at(Origin::Loopback);
        [shared].iter().chain(admin_tokens).any(|roles| self.administrates(*roles, Origin::Loopback))
    }

    /// Whether the principal that activates it could activate another: without a token, callers have other roles.
    pub(crate) fn can_be_left_by(&self, by: Principal) -> bool {
        match by {
            Principal::Anonymous => {
                let roles = self.snapshot().document().no_token.at(Origin::Loopback);
                self.administrates(roles, Origin::Loopback)
            }
            Principal::SharedToken | Principal::Hub | Principal::Config => self.can_recover(&[]),
        }
    }

    /// The roles of a caller. The hub itself has all.
    pub fn roles_of(&self, caller: Caller) -> Roles {
        let document = self.snapshot().document();
        match caller.by {
            Principal::SharedToken => document.hub_token.at(caller.origin),
            Principal::Anonymous => document.no_token.at(caller.origin),
            Principal::Hub | Principal::Config => Roles::all(),
        }
    }

    /// Whether all requests of a class are allowed to callers with these roles, whatever else they are: no rule, gate or
    /// default denies any. O(1).
    pub fn allows_all(&self, operation: Operation, roles: Roles) -> bool {
        self.candidates(operation).deny.is_empty()
            && self.snapshot().document().gates.of(operation).is_empty()
            && !self.denies_by_default(operation)
            && operation != Operation::Admin
            && roles.iter().any(|role| role.may(operation))
    }

    /// Whether a caller with nothing but roles may administrate.
    pub(super) fn administrates(&self, roles: Roles, origin: Origin) -> bool {
        let request = Request {
            operation: Operation::Admin,
            roles,
            origin,
            zone: None,
            node_zone: None,
            capabilities: &[],
            kind: None,
            node: None,
            attestation: None,
            is_signed: false,
        };
        self.decide(&request).is_allowed()
    }
}
