//! Reach: whether anyone could activate another policy under this one.

use super::compiled::{Policy, Request};
use super::words::{Operation, Roles};
use crate::envelope::Origin;

impl Policy {
    /// Whether the shared token may administrate from the hub's own machine, or a token with one of these roles.
    ///
    /// Without that nobody could take back the activation of this policy while the hub runs. A token of a node does not
    /// belong among them: it says nothing of zones, nodes and attestation, nor would a person who has to act at once.
    pub fn can_recover(&self, admin_tokens: &[Roles]) -> bool {
        let shared = self.snapshot().document().hub_token.at(Origin::Loopback);
        [shared].iter().chain(admin_tokens).any(|roles| self.administrates(*roles, Origin::Loopback))
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
