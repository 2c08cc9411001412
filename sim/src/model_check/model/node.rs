//! Nodes in the model: a row each, in the order of their numbers.

use sheratan_core::limits::{Limits, NODE_FORGET_MS, NODES_MAX};
use sheratan_core::{Liveness, Name, NodeIndex, Refusal, Timestamp};

/// One node.
#[derive(Clone, Debug)]
pub struct ModelNode {
    /// Its number.
    pub no: NodeIndex,
    /// Its name.
    pub name: Name,
    /// Its zone; the default zone if absent.
    pub zone: Option<Name>,
    /// What it can do.
    pub capabilities: Vec<Name>,
    /// When it was last heard of.
    pub last_seen_at: Timestamp,
    /// What it was when it was last looked at.
    pub liveness: Liveness,
    /// When it is looked at next.
    pub looked_at_next: Timestamp,
}

#[derive(Default, Debug)]
pub(super) struct ModelNodes {
    rows: Vec<ModelNode>,
    next_no: u32,
    /// How many may be known; the default if it was never set.
    nodes_max: Option<u64>,
}

impl ModelNodes {
    pub fn limit(&mut self, nodes_max: u64) {
        self.nodes_max = Some(nodes_max);
    }

    pub fn rows(&self) -> &[ModelNode] {
        &self.rows
    }

    pub fn get(&self, name: &Name) -> Option<&ModelNode> {
        self.rows.iter().find(|node| node.name == *name)
    }

    /// The node of that name, heard of now, perhaps for the first time.
    pub fn heard_of(&mut self, now: Timestamp, limits: &Limits, name: &Name) -> Result<&mut ModelNode, Refusal> {
        let known = self.rows.iter().position(|node| node.name == *name);
        let at = match known {
            Some(at) => at,
            None if self.rows.len() as u64 >= self.nodes_max.unwrap_or(NODES_MAX) => return Err(Refusal::NodesFull),
            None => {
                self.rows.push(ModelNode {
                    no: NodeIndex::new(self.next_no),
                    name: name.clone(),
                    zone: None,
                    capabilities: Vec::new(),
                    last_seen_at: now,
                    liveness: Liveness::Online,
                    looked_at_next: now + limits.node_ttl_ms,
                });
                self.next_no += 1;
                self.rows.len() - 1
            }
        };
        let no = self.rows[at].no;
        self.seen(now, limits, no);
        Ok(&mut self.rows[at])
    }

    pub fn seen(&mut self, now: Timestamp, limits: &Limits, no: NodeIndex) {
        for node in self.rows.iter_mut().filter(|node| node.no == no) {
            node.last_seen_at = now;
            if node.liveness != Liveness::Online {
                node.liveness = Liveness::Online;
                node.looked_at_next = now + limits.node_ttl_ms;
            }
        }
    }

    /// Other limits are in force: each node is looked at.
    pub fn look_at_all(&mut self, now: Timestamp) {
        self.rows.iter_mut().for_each(|node| node.looked_at_next = now);
    }

    /// It may have become stale or dead, or be forgotten: a dead one without leases, a week later.
    pub fn look_at(&mut self, now: Timestamp, limits: &Limits, no: NodeIndex, is_idle: bool) {
        let at = self.rows.iter().position(|node| node.no == no).expect("a node that is looked at is known");
        let node = &mut self.rows[at];
        let dead_at = node.last_seen_at + limits.node_dead_ms.max(limits.node_ttl_ms);
        let forget_at = dead_at + NODE_FORGET_MS;
        let is_long_dead = now >= forget_at;
        if node.liveness == Liveness::Dead && is_idle && is_long_dead {
            self.rows.remove(at);
            return;
        }
        node.liveness = liveness_at(now, limits, node.last_seen_at);
        node.looked_at_next = match node.liveness {
            Liveness::Online => node.last_seen_at + limits.node_ttl_ms,
            Liveness::Stale => dead_at,
            Liveness::Dead if now < forget_at => forget_at,
            Liveness::Dead => now + NODE_FORGET_MS,
        };
    }
}

/// What a node is that was last heard of then: the wire contract's sentence.
pub fn liveness_at(now: Timestamp, limits: &Limits, last_seen_at: Timestamp) -> Liveness {
    let stale_at = last_seen_at + limits.node_ttl_ms;
    let dead_at = last_seen_at + limits.node_dead_ms.max(limits.node_ttl_ms);
    match () {
        () if now < stale_at => Liveness::Online,
        () if now < dead_at => Liveness::Stale,
        () => Liveness::Dead,
    }
}
