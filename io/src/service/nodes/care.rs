//! What operators do about what nodes attest and sign: accept it, put a node in quarantine, release it, change its key.

use super::operate::{fields_of, node_of};
use super::signing::read_key;
use super::standing::write_state;
use crate::http::Request;
use crate::service::body;
use crate::service::problem::Problem;
use crate::service::{Answer, Caller, Service, reply};
use sheratan_core::{Accept, Attestation, Command, Millis, Node, PolicyState, Quarantine, RekeyNode, Timestamp};

/// How long an operator may put a node in quarantine: a week.
const QUARANTINE_MINUTES: std::ops::RangeInclusive<u64> = 1..=7 * 24 * 60;

/// How long a quarantine lasts if the operator does not say.
const QUARANTINE_MINUTES_DEFAULT: u64 = 10;

/// The most nodes in the list of those that are not normal.
const LISTED_NODES_MAX: usize = 5_000;

impl Service {
    pub(super) fn accept_node(
        &mut self,
        now: Timestamp,
        caller: &Caller,
        request: &Request,
        node: &str,
    ) -> Result<Answer, Problem> {
        self.require_local(caller)?;
        let fields = fields_of(request, &["expect", "force"])?;
        let node = node_of(node)?;
        let expected = match fields.object("expect", &["build_id", "capability_hash"])? {
            None => None,
            Some(expect) => {
                let (build_id, capability_hash) = (expect.name("build_id")?, expect.name("capability_hash")?);
                Some(Attestation { build_id, capability_hash, runtime: None })
            }
        };
        let is_forced = fields.flag("force")?.unwrap_or(false);
        let accept = Accept { node: node.clone(), expected, is_forced };
        self.operate_node(now, caller, node, Command::Accept(Box::new(accept)))
    }

    pub(super) fn quarantine_node(
        &mut self,
        now: Timestamp,
        caller: &Caller,
        request: &Request,
        node: &str,
    ) -> Result<Answer, Problem> {
        let fields = fields_of(request, &["minutes", "reason"])?;
        let node = node_of(node)?;
        let minutes = fields.number("minutes", QUARANTINE_MINUTES)?.unwrap_or(QUARANTINE_MINUTES_DEFAULT);
        let duration_ms = Millis::from_secs(minutes * 60);
        let order = Quarantine { node: node.clone(), duration_ms, reason: fields.key("reason")? };
        self.operate_node(now, caller, node, Command::Quarantine(order))
    }

    pub(super) fn release_node(&mut self, now: Timestamp, caller: &Caller, node: &str) -> Result<Answer, Problem> {
        let node = node_of(node)?;
        self.operate_node(now, caller, node.clone(), Command::ClearNode(node))
    }

    pub(super) fn rekey_node(
        &mut self,
        now: Timestamp,
        caller: &Caller,
        request: &Request,
        node: &str,
    ) -> Result<Answer, Problem> {
        self.require_local(caller)?;
        let fields = fields_of(request, &["public_key"])?;
        let node = node_of(node)?;
        let rekey = RekeyNode { node: node.clone(), key: read_key(&fields, "public_key")? };
        self.operate_node(now, caller, node, Command::RekeyNode(rekey))
    }

    /// As [`Service::release_node`], for clients in the field.
    pub(super) fn clear_policy(
        &mut self,
        now: Timestamp,
        caller: &Caller,
        request: &Request,
    ) -> Result<Answer, Problem> {
        self.require_local(caller)?;
        let fields = fields_of(request, &["host_id", "node_id"])?;
        let named = fields.name("host_id")?.or(fields.name("node_id")?);
        let node = named.ok_or_else(|| body::missing("host_id"))?;
        self.operate_node(now, caller, node.clone(), Command::ClearNode(node))
    }

    /// The nodes that are not normal, as a bare list.
    pub(super) fn list_policies(&self) -> Answer {
        let calendar = self.hub.calendar();
        let is_normal = |node: &&Node| node.policy_state() == PolicyState::Normal;
        let nodes = self.hub.registry().iter().filter(|node| !is_normal(node)).take(LISTED_NODES_MAX);
        Answer::Reply(reply::list(nodes, |out, node| {
            out.text("id", node.name());
            write_state(out, node, calendar);
        }))
    }
}
