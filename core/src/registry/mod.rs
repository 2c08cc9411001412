//! The registry: which nodes there are, what they can do, and when they were last heard of.
//!
//! A node gets a number when the hub first hears of it, by heartbeat or by a pull that leased a job. Numbers are never
//! reused. Liveness is looked at by timers: each node has exactly one, set for the earliest instant at which its status
//! could change had it not been heard of since; a heartbeat leaves the timer alone, and a timer that fires too early
//! sets itself again. So a heartbeat costs no timer work, and a node costs at most one firing per time to live.
//!
//! A dead node without leases is remembered for a week, and less if its room is needed: of those the one that was seen
//! longest ago goes first.

pub(crate) mod node;

use crate::command::Heartbeat;
use crate::effect::Audit;
use crate::ids::NodeIndex;
use crate::ledger::{Account, Ledger};
use crate::limits::Limits;
use crate::name::Name;
use crate::outcome::Refusal;
use crate::time::Timestamp;
use crate::timers::{Timer, Timers};
use node::{Liveness, Node, NodeRecord};
use std::collections::{BTreeMap, BTreeSet};

/// All nodes.
#[derive(Default, Debug)]
pub struct Registry {
    nodes: BTreeMap<NodeIndex, Node>,
    /// O(log n) by name; a tree, so that no choice of names makes it slow.
    indexes: BTreeMap<Name, NodeIndex>,
    /// Dead nodes without leases, the one that was seen longest ago first.
    idle: BTreeSet<(Timestamp, NodeIndex)>,
    next_index: u32,
    liveness_counts: [u64; 3],
}

/// What a room of nodes needs while a command is handled.
pub(crate) struct NodeContext<'a> {
    pub now: Timestamp,
    pub limits: &'a Limits,
    pub timers: &'a mut Timers,
    pub ledger: &'a mut Ledger,
    /// What the audit log is to have.
    pub audits: &'a mut Vec<Audit>,
    /// Nodes that were forgotten.
    pub forgotten: &'a mut Vec<Node>,
}

impl Registry {
    /// The node of that name. O(log n).
    pub fn by_name(&self, name: &str) -> Option<&Node> {
        self.indexes.get(name).map(|index| &self.nodes[index])
    }

    /// The node of that number. O(log n).
    pub fn get(&self, index: NodeIndex) -> Option<&Node> {
        self.nodes.get(&index)
    }

    /// All nodes in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = &Node> {
        self.indexes.values().map(|index| &self.nodes[index])
    }

    /// How many nodes there are.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// How many nodes have that liveness.
    pub fn count(&self, liveness: Liveness) -> u64 {
        self.liveness_counts[liveness as usize]
    }

    /// Whether a heartbeat says nothing new of an online node: then only its last-seen time changes, and the shell may
    /// put it with others into one [`Command::NodesSeen`](crate::Command::NodesSeen).
    pub fn repeats(&self, heartbeat: &Heartbeat) -> Option<NodeIndex> {
        let node = self.by_name(&heartbeat.node)?;
        (node.liveness() == Liveness::Online && node.says_the_same(heartbeat)).then_some(node.index())
    }

    /// Takes a heartbeat; whether the node's zone or capabilities changed comes with its number.
    pub(crate) fn heartbeat(
        &mut self,
        cx: &mut NodeContext,
        heartbeat: Heartbeat,
    ) -> Result<(NodeIndex, bool), Refusal> {
        let before = self.by_name(&heartbeat.node).map(Node::bytes);
        self.make_room(cx, &heartbeat.node, before, Node::bytes_of(&heartbeat))?;
        let index = self.find_or_insert(cx, &heartbeat.node);
        self.seen(cx, index);
        let node = self.nodes.get_mut(&index).expect("enrolled above");
        let before = node.bytes();
        let is_changed = node.update(heartbeat);
        cx.ledger.transfer((Account::Nodes, before), (Account::Nodes, node.bytes()));
        Ok((index, is_changed))
    }

    /// The number of the node of that name, which is made known if it was not.
    pub(crate) fn enrol(&mut self, cx: &mut NodeContext, name: &Name) -> Result<NodeIndex, Refusal> {
        if !self.indexes.contains_key(name) {
            self.make_room(cx, name, None, Node::bytes_of_name(name))?;
        }
        Ok(self.find_or_insert(cx, name))
    }

    /// The node was heard of now.
    pub(crate) fn seen(&mut self, cx: &mut NodeContext, index: NodeIndex) {
        let Some(node) = self.nodes.get_mut(&index) else { return };
        let before = node.liveness();
        if before == Liveness::Online {
            node.seen(cx.now, cx.limits);
            return;
        }
        self.idle.remove(&(node.last_seen_at(), index));
        // The timer of a node that was not online is set for a later change of status: move it to the first.
        cx.timers.cancel(node.check_at(), Timer::NodeLiveness(index));
        node.seen(cx.now, cx.limits);
        cx.timers.set(node.check_at(), Timer::NodeLiveness(index));
        cx.audits.push(Audit::NodeOnline { node: node.name().clone() });
        self.recount(before, Liveness::Online);
    }

    /// A node's timer fired.
    pub(crate) fn check_liveness(&mut self, cx: &mut NodeContext, index: NodeIndex) {
        let node = self.nodes.get_mut(&index).expect("a node with a timer is known");
        let before = node.liveness();
        if node.is_forgettable(cx.now, cx.limits) {
            self.remove(cx, index);
            return;
        }
        node.check(cx.now, cx.limits);
        let after = node.liveness();
        cx.timers.set(node.check_at(), Timer::NodeLiveness(index));
        if after != before {
            let name = node.name().clone();
            cx.audits.push(match after {
                // Under limits that were raised.
                Liveness::Online => Audit::NodeOnline { node: name },
                Liveness::Stale => Audit::NodeStale { node: name },
                Liveness::Dead => Audit::NodeDead { node: name },
            });
            self.recount(before, after);
        }
        self.note_idle(index);
    }

    /// The node got a lease: it was seen before, or comes from a snapshot.
    pub(crate) fn lease_given(&mut self, index: NodeIndex) {
        self.nodes.get_mut(&index).expect("leases are given to known nodes").lease_given();
    }

    /// A lease of the node ended; the node.
    pub(crate) fn lease_ended(&mut self, index: NodeIndex) -> &Node {
        let node = self.nodes.get_mut(&index).expect("a node with leases is not forgotten");
        node.lease_ended();
        if node.is_idle_and_dead() {
            self.idle.insert((node.last_seen_at(), index));
        }
        node
    }

    /// The limits change: each node is looked at again. O(n log n), rare.
    pub(crate) fn reconfigure(&mut self, timers: &mut Timers, now: Timestamp) {
        for (index, node) in &mut self.nodes {
            timers.cancel(node.check_at(), Timer::NodeLiveness(*index));
            node.rearm(now);
            timers.set(node.check_at(), Timer::NodeLiveness(*index));
        }
    }

    /// A node's row.
    pub(crate) fn get_mut(&mut self, index: NodeIndex) -> Option<&mut Node> {
        self.nodes.get_mut(&index)
    }

    /// The number that the next node gets.
    pub(crate) fn next_index(&self) -> u32 {
        self.next_index
    }

    /// The nodes in the order of their numbers, for the snapshot.
    pub(crate) fn records(&self) -> impl Iterator<Item = NodeRecord> {
        self.nodes.values().map(Node::record)
    }

    /// Puts back what a snapshot holds.
    pub(crate) fn restore_next_index(&mut self, next_index: u32) {
        self.next_index = next_index;
    }

    /// Puts back a node of a snapshot, with its timer.
    pub(crate) fn restore(&mut self, timers: &mut Timers, ledger: &mut Ledger, node: Node) -> Result<(), &'static str> {
        if self.indexes.contains_key(node.name()) || self.nodes.contains_key(&node.index()) {
            return Err("a node is there twice");
        }
        if node.index().get() >= self.next_index {
            return Err("a node has a number that is yet to come");
        }
        timers.set(node.check_at(), Timer::NodeLiveness(node.index()));
        self.insert(ledger, node);
        Ok(())
    }

    /// All jobs of a snapshot are back, and the nodes' leases with them.
    pub(crate) fn restored(&mut self) {
        let indexes: Vec<_> = self.nodes.keys().copied().collect();
        indexes.into_iter().for_each(|index| self.note_idle(index));
    }

    /// What the nodes are charged, walked.
    pub(crate) fn bytes(&self) -> u64 {
        self.nodes.values().map(Node::bytes).sum()
    }

    fn find_or_insert(&mut self, cx: &mut NodeContext, name: &Name) -> NodeIndex {
        if let Some(index) = self.indexes.get(name) {
            return *index;
        }
        let index = NodeIndex::new(self.next_index);
        self.next_index = self.next_index.checked_add(1).expect("four billion nodes were registered");
        let node = Node::new(index, name.clone(), cx.now, cx.limits);
        cx.timers.set(node.check_at(), Timer::NodeLiveness(index));
        cx.audits.push(Audit::NodeRegistered { node: name.clone() });
        self.insert(cx.ledger, node);
        index
    }

    /// Dead nodes go until a node has room that takes `after` bytes, instead of `before` if it is known. Nobody goes in
    /// vain: a refusal has changed nothing. (Where a limit was lowered below what is, one goes for each that comes.)
    fn make_room(&mut self, cx: &mut NodeContext, name: &Name, before: Option<u64>, after: u64) -> Result<(), Refusal> {
        let (nodes, nodes_max) = (self.nodes.len() as u64, cx.limits.nodes_max);
        let (bytes, bytes_max) = (cx.ledger.get(Account::Nodes), cx.limits.nodes_bytes_max);
        let is_one_too_many = before.is_none() && nodes >= nodes_max;
        let before = before.unwrap_or(0);
        let more = bytes - before + after;
        let lacks_bytes = |freed: u64| after > before && more.saturating_sub(freed) > bytes_max;
        if !is_one_too_many && !lacks_bytes(0) {
            return Ok(());
        }
        let (mut gone, mut freed) = (Vec::new(), 0);
        for (_, index) in self.idle.iter().filter(|(_, index)| self.nodes[index].name() != name) {
            if !gone.is_empty() && !lacks_bytes(freed) {
                break;
            }
            freed += self.nodes[index].bytes();
            gone.push(*index);
        }
        if is_one_too_many && gone.is_empty() {
            return Err(Refusal::NodesFull { nodes, nodes_max });
        }
        if lacks_bytes(freed) {
            return Err(Refusal::NodeBytesFull { bytes, bytes_max });
        }
        gone.into_iter().for_each(|index| self.forget_early(cx, index));
        Ok(())
    }

    fn forget_early(&mut self, cx: &mut NodeContext, index: NodeIndex) {
        let check_at = self.nodes[&index].check_at();
        cx.timers.cancel(check_at, Timer::NodeLiveness(index));
        self.remove(cx, index);
    }

    /// The node is forgotten; its timer is gone already.
    fn remove(&mut self, cx: &mut NodeContext, index: NodeIndex) {
        let node = self.nodes.remove(&index).expect("a node that is forgotten was known");
        self.idle.remove(&(node.last_seen_at(), index));
        self.indexes.remove(node.name());
        self.liveness_counts[node.liveness() as usize] -= 1;
        cx.ledger.release(Account::Nodes, node.bytes());
        cx.forgotten.push(node);
    }

    fn insert(&mut self, ledger: &mut Ledger, node: Node) {
        ledger.charge(Account::Nodes, node.bytes());
        self.liveness_counts[node.liveness() as usize] += 1;
        self.indexes.insert(node.name().clone(), node.index());
        self.nodes.insert(node.index(), node);
    }

    fn note_idle(&mut self, index: NodeIndex) {
        let node = &self.nodes[&index];
        let place = (node.last_seen_at(), index);
        if node.is_idle_and_dead() {
            self.idle.insert(place);
        } else {
            self.idle.remove(&place);
        }
    }

    fn recount(&mut self, before: Liveness, after: Liveness) {
        self.liveness_counts[before as usize] -= 1;
        self.liveness_counts[after as usize] += 1;
    }
}
