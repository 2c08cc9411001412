//! Quiet nodes: nodes whose heartbeats change nothing but when they were last seen. They are collected and journaled
//! together, once a second, so that the heartbeats of 100,000 nodes cost one record and not 100,000.

use crate::service::Service;
use crate::service::nodes::heartbeat::QUIET_MARGIN_MS;
use crate::service::problem::Problem;
use sheratan_core::{Caller as Asker, Command, Millis, Node, NodeIndex, Timestamp};
use std::collections::BTreeMap;

/// How long quiet nodes are collected before they are journaled together.
const COLLECTED_MS: Millis = Millis::from_secs(1);

/// Nodes that were seen since the last record of quiet nodes.
#[derive(Debug)]
pub struct QuietNodes {
    seen_at: BTreeMap<NodeIndex, Timestamp>,
    /// When the first was added, or when journaling them last failed.
    since: Timestamp,
}

impl Default for QuietNodes {
    fn default() -> Self {
        QuietNodes { seen_at: BTreeMap::new(), since: Timestamp::ZERO }
    }
}

impl QuietNodes {
    /// Adds a node that was seen. O(log n) in the quiet nodes.
    pub fn add(&mut self, now: Timestamp, node: NodeIndex) {
        if self.seen_at.is_empty() {
            self.since = now;
        }
        self.seen_at.insert(node, now);
    }

    /// Removes a node whose heartbeat was journaled by itself.
    pub fn remove(&mut self, node: NodeIndex) {
        self.seen_at.remove(&node);
    }

    /// When a node was seen, which may be later than its record says.
    pub fn seen_at(&self, node: &Node) -> Timestamp {
        self.seen_at.get(&node.index()).copied().unwrap_or(node.last_seen_at())
    }

    /// Whether they are due to be journaled.
    pub fn is_due(&self, now: Timestamp) -> bool {
        self.next_timeout().is_some_and(|at| at <= now)
    }

    /// When they are due to be journaled, if there are any.
    pub fn next_timeout(&self) -> Option<Timestamp> {
        (!self.seen_at.is_empty()).then(|| self.since + COLLECTED_MS)
    }

    /// They could not be journaled: they are due again after [`COLLECTED_MS`].
    pub fn postpone(&mut self, now: Timestamp) {
        self.since = now;
    }
}

impl Service {
    /// Notes that a node is alive after a request of its own that changed nothing. It is journaled with others, or at
    /// once if the node would be stale by then.
    pub(in crate::service) fn note_liveness(&mut self, now: Timestamp, node: &str) {
        let Some(node) = self.hub.registry().by_name(node) else { return };
        let index = node.index();
        let is_far_from_stale = node.last_seen_at() + self.hub.limits().node_ttl_ms > now + QUIET_MARGIN_MS;
        if is_far_from_stale {
            self.quiet_nodes.add(now, index);
        } else if self.execute(now, Asker::HUB, Command::NodesSeen(vec![index])).is_err() {
            // A failed journal has reported its failure; collected nodes are journaled when it can be written again.
            self.quiet_nodes.add(now, index);
        }
    }

    /// Journals the quiet nodes, if there are any.
    pub(in crate::service) fn record_quiet_nodes(&mut self, now: Timestamp) -> Result<(), Problem> {
        if !self.quiet_nodes.seen_at.is_empty() {
            let nodes = self.quiet_nodes.seen_at.keys().copied().collect();
            self.execute(now, Asker::HUB, Command::NodesSeen(nodes))?;
            self.quiet_nodes.seen_at.clear();
        }
        Ok(())
    }
}
