//! Quiet nodes: those that were seen and said nothing new. They are collected and journaled together, once a second, so that
//! what 100,000 nodes say costs one record and not 100,000.

use crate::service::Service;
use crate::service::problem::Problem;
use sheratan_core::command::Command;
use sheratan_core::ids::NodeNo;
use sheratan_core::registry::node::Node;
use sheratan_core::time::{Millis, Timestamp};
use std::collections::BTreeMap;

/// How long quiet nodes are collected before they are journaled together.
const COLLECTED_MS: Millis = Millis::from_secs(1);

/// Nodes that were seen since the last record of quiet nodes.
#[derive(Debug)]
pub struct QuietNodes {
    seen_at: BTreeMap<NodeNo, Timestamp>,
    /// When the first was added, or when journaling them failed last.
    since: Timestamp,
}

impl Default for QuietNodes {
    fn default() -> Self {
        QuietNodes { seen_at: BTreeMap::new(), since: Timestamp::ZERO }
    }
}

impl QuietNodes {
    /// A node was seen. O(log n) in the quiet nodes.
    pub fn add(&mut self, now: Timestamp, node: NodeNo) {
        if self.seen_at.is_empty() {
            self.since = now;
        }
        self.seen_at.insert(node, now);
    }

    /// A node was journaled by itself.
    pub fn remove(&mut self, node: NodeNo) {
        self.seen_at.remove(&node);
    }

    /// When a node was seen, which may be later than its record says.
    pub fn seen_at(&self, node: &Node) -> Timestamp {
        self.seen_at.get(&node.no()).copied().unwrap_or(node.last_seen_at())
    }

    /// Whether they are to be journaled now.
    pub fn is_due(&self, now: Timestamp) -> bool {
        self.next_timeout().is_some_and(|at| at <= now)
    }

    /// When they are to be journaled, if there are any.
    pub fn next_timeout(&self) -> Option<Timestamp> {
        (!self.seen_at.is_empty()).then(|| self.since + COLLECTED_MS)
    }

    /// They could not be journaled: they are due again after as long as at first.
    pub fn postpone(&mut self, now: Timestamp) {
        self.since = now;
    }
}

impl Service {
    /// Journals the quiet nodes, if there are any.
    pub(in crate::service) fn record_quiet_nodes(&mut self, now: Timestamp) -> Result<(), Problem> {
        if !self.quiet_nodes.seen_at.is_empty() {
            let nodes = self.quiet_nodes.seen_at.keys().copied().collect();
            self.execute(now, Command::NodesSeen(nodes))?;
            self.quiet_nodes.seen_at.clear();
        }
        Ok(())
    }
}
