//! The registry: which nodes there are, what they can do, and when they were last heard of.
//!
//! A node gets a number when the hub first hears of it, by heartbeat or by a pull that leased a job. Numbers are never
//! reused. Liveness is looked at by timers: each node has exactly one, set for the earliest instant at which its status
//! could change had it not been heard of since; a heartbeat leaves the timer alone, and a timer that fires too early
//! sets itself again. So a heartbeat costs no timer work, and a node costs at most one firing per time to live.

pub mod node;

use crate::command::Heartbeat;
use crate::context::Context;
use crate::effect::Audit;
use crate::ids::NodeNo;
use crate::limits::NODES_MAX;
use crate::name::Name;
use crate::outcome::Refusal;
use crate::time::Timestamp;
use crate::timers::{Timer, Timers};
use node::{Liveness, Node};
use std::collections::BTreeMap;

/// All nodes.
#[derive(Debug)]
pub struct Registry {
    nodes: BTreeMap<NodeNo, Node>,
    /// O(log n) by name; a tree, so that no choice of names makes it slow.
    numbers: BTreeMap<Name, NodeNo>,
    next_no: u32,
    liveness_counts: [u64; 3],
    nodes_max: u64,
}

impl Default for Registry {
    fn default() -> Self {
        Registry {
            nodes: BTreeMap::new(),
            numbers: BTreeMap::new(),
            next_no: 0,
            liveness_counts: [0; 3],
            nodes_max: NODES_MAX,
        }
    }
}

impl Registry {
    /// The node of that name.
    pub fn by_name(&self, name: &str) -> Option<&Node> {
        self.numbers.get(name).map(|no| &self.nodes[no])
    }

    /// The node of that number.
    pub fn get(&self, no: NodeNo) -> Option<&Node> {
        self.nodes.get(&no)
    }

    /// All nodes in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = &Node> {
        self.numbers.values().map(|no| &self.nodes[no])
    }

    /// How many nodes have that liveness.
    pub fn count(&self, liveness: Liveness) -> u64 {
        self.liveness_counts[liveness as usize]
    }

    /// How many nodes may be known. The operator may set it below what is: then nobody new is until others are forgotten.
    pub fn nodes_max(&self) -> u64 {
        self.nodes_max
    }

    /// Sets how many nodes may be known.
    pub(crate) fn limit(&mut self, nodes_max: u64) {
        self.nodes_max = nodes_max;
    }

    /// Whether a heartbeat says nothing new of an online node: then only its last-seen time changes, and the shell may
    /// put it with others into one [`Command::NodesSeen`](crate::command::Command::NodesSeen).
    pub fn is_quiet(&self, heartbeat: &Heartbeat) -> Option<NodeNo> {
        let node = self.by_name(&heartbeat.node)?;
        (node.liveness() == Liveness::Online && node.says_the_same(heartbeat)).then_some(node.no())
    }

    /// Takes a heartbeat; whether the node's zone or capabilities changed comes with its number.
    pub(crate) fn heartbeat(&mut self, cx: &mut Context, heartbeat: Heartbeat) -> Result<(NodeNo, bool), Refusal> {
        let no = self.enrol(cx, &heartbeat.node)?;
        self.seen(cx, no);
        let node = self.nodes.get_mut(&no).expect("enrolled above");
        let is_changed = node.update(heartbeat);
        Ok((no, is_changed))
    }

    /// The number of the node of that name, which is made known if it was not.
    pub(crate) fn enrol(&mut self, cx: &mut Context, name: &Name) -> Result<NodeNo, Refusal> {
        if let Some(no) = self.numbers.get(name) {
            return Ok(*no);
        }
        if self.nodes.len() as u64 >= self.nodes_max {
            return Err(Refusal::NodesFull);
        }
        let no = NodeNo(self.next_no);
        self.next_no = self.next_no.checked_add(1).expect("four billion nodes were registered");
        let node = Node::new(no, name.clone(), cx.now, cx.limits);
        cx.timers.set(node.check_at(), Timer::NodeLiveness(no));
        cx.audit(Audit::NodeRegistered { node: name.clone() });
        self.insert(node);
        Ok(no)
    }

    /// The node was heard of now.
    pub(crate) fn seen(&mut self, cx: &mut Context, no: NodeNo) {
        let Some(node) = self.nodes.get_mut(&no) else { return };
        let before = node.liveness();
        // The timer of a node that was not online is set for a later change of status: move it to the first.
        if before != Liveness::Online {
            cx.timers.cancel(node.check_at(), Timer::NodeLiveness(no));
        }
        node.seen(cx.now, cx.limits);
        if before != Liveness::Online {
            cx.timers.set(node.check_at(), Timer::NodeLiveness(no));
            cx.audit(Audit::NodeOnline { node: node.name().clone() });
            self.recount(before, Liveness::Online);
        }
    }

    /// A node's timer fired; the node's name if it is forgotten.
    pub(crate) fn check_liveness(&mut self, cx: &mut Context, no: NodeNo) -> Option<Name> {
        let node = self.nodes.get_mut(&no).expect("a node with a timer is known");
        let before = node.liveness();
        if node.is_forgettable(cx.now, cx.limits) {
            let name = node.name().clone();
            self.nodes.remove(&no);
            self.numbers.remove(&name);
            self.liveness_counts[before as usize] -= 1;
            return Some(name);
        }
        node.check(cx.now, cx.limits);
        let after = node.liveness();
        cx.timers.set(node.check_at(), Timer::NodeLiveness(no));
        if after != before {
            let node = node.name().clone();
            cx.audit(match after {
                // Under limits that were raised.
                Liveness::Online => Audit::NodeOnline { node },
                Liveness::Stale => Audit::NodeStale { node },
                Liveness::Dead => Audit::NodeDead { node },
            });
            self.recount(before, after);
        }
        None
    }

    /// The node got a lease.
    pub(crate) fn lease_given(&mut self, no: NodeNo) {
        self.nodes.get_mut(&no).expect("leases are given to known nodes").lease_given();
    }

    /// A lease of the node ended.
    pub(crate) fn lease_ended(&mut self, no: NodeNo) {
        self.nodes.get_mut(&no).expect("a node with leases is not forgotten").lease_ended();
    }

    /// The limits change: each node is looked at again. O(n log n), rare.
    pub(crate) fn reconfigure(&mut self, timers: &mut Timers, now: Timestamp) {
        for (no, node) in &mut self.nodes {
            timers.cancel(node.check_at(), Timer::NodeLiveness(*no));
            node.rearm(now);
            timers.set(node.check_at(), Timer::NodeLiveness(*no));
        }
    }

    /// The number that the next node gets.
    pub(crate) fn next_no(&self) -> u32 {
        self.next_no
    }

    /// The nodes in the order of their numbers, for the snapshot.
    pub(crate) fn in_order(&self) -> impl Iterator<Item = &Node> {
        self.nodes.values()
    }

    /// Puts back what a snapshot holds.
    pub(crate) fn restore_next_no(&mut self, next_no: u32) {
        self.next_no = next_no;
    }

    /// Puts back a node of a snapshot, with its timer.
    pub(crate) fn restore(&mut self, cx: &mut Context, node: Node) {
        cx.timers.set(node.check_at(), Timer::NodeLiveness(node.no()));
        self.insert(node);
    }

    fn insert(&mut self, node: Node) {
        self.liveness_counts[node.liveness() as usize] += 1;
        self.numbers.insert(node.name().clone(), node.no());
        self.nodes.insert(node.no(), node);
    }

    fn recount(&mut self, before: Liveness, after: Liveness) {
        self.liveness_counts[before as usize] -= 1;
        self.liveness_counts[after as usize] += 1;
    }
}
