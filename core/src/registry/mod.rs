//! The registry: which nodes there are, what they can do, and when they were last seen.
//!
//! A node is registered, with a number, by its first heartbeat or by its first pull that leases a job. Numbers are
//! never reused. Timers check liveness: each node has exactly one, set for the earliest instant at which its liveness
//! could change if it were not seen again. A heartbeat does not move the timer; a timer that fires too early is set
//! again. So a heartbeat costs no timer work, and a node costs at most one firing per `node_ttl_ms`.
//!
//! A dead node without leases is forgotten after a week, or earlier if its room is needed: the one that was seen
//! longest ago is evicted first.

pub(crate) mod attestation;
pub(crate) mod identity;
pub(crate) mod node;
pub(crate) mod node_state;
mod online;

use crate::command::{Accept, Attestation, Health, Heartbeat, Quarantine, RekeyNode, Signing};
use crate::effect::Audit;
use crate::envelope::Principal;
use crate::ids::NodeIndex;
use crate::ledger::{Account, Ledger};
use crate::limits::Limits;
use crate::name::Name;
use crate::outcome::Refusal;
use crate::policy::{AttestationStatus, IdentityStatus, NodeStates, PolicyState};
use crate::queue::class::ClassKey;
use crate::time::{Millis, Timestamp};
use crate::timers::{Timer, Timers};
use attestation::Attested;
use identity::{Identified, Judgement};
use node::{Drained, Liveness, Node, NodeRecord};
use node_state::{Entered, NodeState, Standing, StateReason};
use online::OnlineNodes;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

/// All nodes.
#[derive(Default, Debug)]
pub struct Registry {
    nodes: BTreeMap<NodeIndex, Node>,
    /// How many of them are drained.
    drained: u64,
    /// A tree, so that no choice of names makes it slow.
    indexes: BTreeMap<Name, NodeIndex>,
    /// Dead nodes without leases by last-seen time: the next one to be evicted is first.
    idle: BTreeSet<(Timestamp, NodeIndex)>,
    next_index: u32,
    /// Nodes by liveness and health.
    counts: [[u64; 3]; 3],
    /// Nodes by the status of their attestation.
    attestations: [u64; 4],
    /// Nodes by the status of their identity.
    identities: [u64; 6],
    /// Nodes by their states.
    states: [u64; 3],
    online: OnlineNodes,
}

/// What became of a heartbeat.
#[derive(Clone, Copy)]
pub(crate) struct Heard {
    pub node: NodeIndex,
    /// Whether it is the node's own, which thereby was seen.
    pub is_own: bool,
    /// Whether its zone or capabilities changed.
    pub is_changed: bool,
}

/// What the registry needs while a command or timer is handled.
pub(crate) struct NodeContext<'a> {
    pub now: Timestamp,
    pub limits: &'a Limits,
    /// What the active policy makes of attestations.
    pub states: &'a NodeStates,
    pub timers: &'a mut Timers,
    pub ledger: &'a mut Ledger,
    /// Events for the audit log.
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

    /// The nodes whose names are greater than this one, in the order of their names. O(log n), and O(1) for each.
    pub fn iter_after(&self, name: &str) -> impl Iterator<Item = &Node> {
        let after = self.indexes.range::<str, _>((Bound::Excluded(name), Bound::Unbounded));
        after.map(|(_, index)| &self.nodes[index])
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
        self.counts[liveness as usize].iter().sum()
    }

    /// How many nodes have an attestation of that status.
    pub fn count_attested(&self, status: AttestationStatus) -> u64 {
        self.attestations[status as usize]
    }

    /// How many nodes have an identity of that status.
    pub fn count_identified(&self, status: IdentityStatus) -> u64 {
        self.identities[status as usize]
    }

    /// How many nodes are in that state.
    pub fn count_in(&self, state: PolicyState) -> u64 {
        self.states[state as usize]
    }

    /// How many online nodes have that health.
    pub fn count_online(&self, health: Health) -> u64 {
        self.counts[Liveness::Online as usize][health as usize]
    }

    /// Whether the node of that name is online, and another one that may run jobs of this class.
    pub(crate) fn has_alternative_to(&self, name: &Name, class: &ClassKey) -> bool {
        let node = self.by_name(name).filter(|node| node.liveness() == Liveness::Online);
        node.is_some_and(|node| self.online.has_other(class, node))
    }

    /// How many nodes are drained.
    pub fn drained_count(&self) -> u64 {
        self.drained
    }

    /// The node, if it is online and the heartbeat repeats its last one: then only its last-seen time changes, and the
    /// shell may put several such heartbeats into one [`Command::NodesSeen`](crate::Command::NodesSeen).
    pub fn repeats(&self, now: Timestamp, limits: &Limits, heartbeat: &Heartbeat) -> Option<NodeIndex> {
        let node = self.by_name(&heartbeat.node)?;
        (node.liveness() == Liveness::Online && node.matches(now, limits, heartbeat)).then_some(node.index())
    }

    /// Whether the heartbeat is that of the node that it names, as far as can be known, and a new one.
    pub fn is_own(&self, heartbeat: &Heartbeat) -> bool {
        self.by_name(&heartbeat.node).is_none_or(|node| node.is_own(heartbeat))
    }

    /// Whether the heartbeat is not the node's own, or not a new one, and changes nothing: then it needs no record, and the
    /// node was not seen.
    pub fn ignores(&self, heartbeat: &Heartbeat) -> bool {
        self.by_name(&heartbeat.node).is_some_and(|node| node.ignores(heartbeat))
    }

    /// Accepts a heartbeat. One that is not the node's own changes what is known of its identity, and nothing else.
    pub(crate) fn heartbeat(&mut self, cx: &mut NodeContext, mut heartbeat: Heartbeat) -> Result<Heard, Refusal> {
        let known = self.by_name(&heartbeat.node);
        let identity = known.and_then(Node::identity);
        let judgement = Judgement::of(identity, heartbeat.signing.as_deref());
        if let Some(node) = known.filter(|_| !judgement.is_own(identity)) {
            let (index, standing) = (node.index(), node.standing());
            self.identify(cx, index, judgement, heartbeat.signing);
            self.follow(cx, index, standing);
            self.update_idle(index);
            return Ok(Heard { node: index, is_own: false, is_changed: false });
        }
        let (before, after) = (known.map(Node::bytes), Node::bytes_after(known, &heartbeat));
        self.make_room(cx, &heartbeat.node, before, after)?;
        let index = self.find_or_insert(cx, &heartbeat.node);
        self.note_seen(cx, index);
        let standing = self.nodes[&index].standing();
        let (attestation, signing) = (heartbeat.attestation.take(), heartbeat.signing.take());
        let is_changed = self.change(cx.ledger, index, |node| node.update(heartbeat));
        self.identify(cx, index, judgement, signing);
        self.attest(cx, index, attestation);
        self.follow(cx, index, standing);
        Ok(Heard { node: index, is_own: true, is_changed })
    }

    /// A heartbeat came that is signed so, and judged.
    fn identify(
        &mut self,
        cx: &mut NodeContext,
        index: NodeIndex,
        judgement: Judgement,
        signing: Option<Box<Signing>>,
    ) {
        if signing.is_none() && self.nodes[&index].identity().is_none() {
            return;
        }
        let (now, utc_now) = (cx.now, cx.timers.calendar().utc(cx.now));
        let audits = &mut *cx.audits;
        self.change(cx.ledger, index, |node| {
            let name = node.name().clone();
            let identity = &mut node.trust_mut().identity;
            let identity = identity.get_or_insert_with(|| Box::new(Identified::new(now)));
            identity.observe((now, utc_now), &name, (judgement, signing.as_deref()), audits);
        });
    }

    /// Pins a node's key, or has it forgotten, by an operator's order.
    pub(crate) fn rekey(&mut self, cx: &mut NodeContext, by: Principal, rekey: &RekeyNode) -> Result<(), Refusal> {
        let RekeyNode { node, key } = rekey;
        let known = self.by_name(node).ok_or(Refusal::UnknownNode)?;
        let (index, standing, now) = (known.index(), known.standing(), cx.now);
        if known.identity().is_none() && key.is_none() {
            return Ok(());
        }
        let is_changed = self.change(cx.ledger, index, |node| {
            let identity = &mut node.trust_mut().identity;
            let identity = identity.get_or_insert_with(|| Box::new(Identified::new(now)));
            identity.rekey(now, *key, by)
        });
        if is_changed {
            let status = IdentityStatus::Unpinned;
            cx.audits.push(Audit::IdentityRekeyed { node: node.clone(), key: *key, status, by });
        }
        self.follow(cx, index, standing);
        self.update_idle(index);
        Ok(())
    }

    /// A heartbeat came with this attestation, or without one.
    fn attest(&mut self, cx: &mut NodeContext, index: NodeIndex, attestation: Option<Box<Attestation>>) {
        if attestation.is_none() && self.nodes[&index].attested.is_none() {
            return;
        }
        let (now, limits) = (cx.now, cx.limits);
        let audits = &mut *cx.audits;
        self.change(cx.ledger, index, |node| {
            let name = node.name().clone();
            match (&mut node.attested, attestation) {
                (None, first) => {
                    let first = *first.expect("a node that never attested does so now");
                    let (build_id, capability_hash) = (first.build_id.clone(), first.capability_hash.clone());
                    node.attested = Some(Box::new(Attested::first(now, first)));
                    audits.push(Audit::AttestationFirstSeen { node: name, build_id, capability_hash });
                }
                (Some(attested), attestation) => {
                    attested.observe((now, limits), &name, attestation.map(|boxed| *boxed), audits);
                }
            }
        });
    }

    /// If a node stands otherwise than before, its state follows.
    fn follow(&mut self, cx: &mut NodeContext, index: NodeIndex, before: Standing) {
        let (node, now) = (&self.nodes[&index], cx.now);
        let standing = node.standing();
        // A node that was always normal has no state; what never attested is normal unless a policy says otherwise.
        let states = cx.states;
        let is_new = standing != before || node.state().is_none();
        if is_new && (node.state().is_some() || standing.state(states) != PolicyState::Normal) {
            self.move_state(cx, index, |state, standing| state.follow((now, states), standing));
        }
    }

    /// Another policy is active, and `before` is what the former one made of attestations: the states of the nodes
    /// follow. Returns the nodes that get no jobs from now on. O(n), rare.
    pub(crate) fn follow_policy(&mut self, cx: &mut NodeContext, before: &NodeStates) -> Vec<Name> {
        let states = cx.states;
        if before.has_same_states(states) {
            return Vec::new();
        }
        let changed = |node: &&Node| node.standing().state(before) != node.standing().state(states);
        let changed: Vec<_> = self.nodes.values().filter(changed).map(Node::index).collect();
        let now = cx.now;
        changed.iter().for_each(|index| {
            self.move_state(cx, *index, |state, standing| state.follow((now, states), standing));
        });
        changed
            .iter()
            .map(|index| &self.nodes[index])
            .filter(|node| node.withheld().is_some())
            .map(Node::name)
            .cloned()
            .collect()
    }

    /// Makes what a node attests its baseline.
    pub(crate) fn accept(&mut self, cx: &mut NodeContext, by: Principal, accept: &Accept) -> Result<(), Refusal> {
        let known = self.by_name(&accept.node).ok_or(Refusal::UnknownNode)?;
        let (index, standing, now) = (known.index(), known.standing(), cx.now);
        let drift = self.change(cx.ledger, index, |node| {
            let attested = node.attested.as_mut().ok_or(Refusal::NeverAttested)?;
            attested.accept(now, by, accept.expected.as_ref(), accept.is_forced)
        })?;
        cx.audits.push(Audit::AttestationAccepted { node: accept.node.clone(), drift: Box::new(drift), by });
        self.follow(cx, index, standing);
        Ok(())
    }

    /// Puts a node in quarantine by an operator's order.
    pub(crate) fn quarantine(&mut self, cx: &mut NodeContext, by: Principal, order: Quarantine) -> Result<(), Refusal> {
        let Quarantine { node, duration_ms, reason } = order;
        let (index, now) = (self.by_name(&node).ok_or(Refusal::UnknownNode)?.index(), cx.now);
        let until = now + duration_ms;
        let note = reason.clone();
        self.move_state(cx, index, |state, _| {
            state.quarantine(now, until, by, note);
            None
        });
        let attestation = self.nodes[&index].attestation_status();
        let (reason, note) = (StateReason::Admin, reason);
        cx.audits.push(Audit::NodeQuarantined { node, reason, attestation, until: Some(until), note, by });
        self.update_idle(index);
        Ok(())
    }

    /// Ends a node's quarantine, or the warning about it, by an operator's order.
    pub(crate) fn clear(&mut self, cx: &mut NodeContext, by: Principal, node: &Name) -> Result<(), Refusal> {
        let (index, now) = (self.by_name(node).ok_or(Refusal::UnknownNode)?.index(), cx.now);
        if self.nodes[&index].state().is_some() {
            self.move_state(cx, index, |state, _| {
                state.clear(now, by);
                None
            });
        }
        cx.audits.push(Audit::NodeCleared { node: node.clone(), by });
        self.update_idle(index);
        Ok(())
    }

    /// The time of a node's quarantine is over.
    pub(crate) fn end_quarantine(&mut self, cx: &mut NodeContext, index: NodeIndex) {
        let now = cx.now;
        let states = cx.states;
        self.move_state(cx, index, |state, standing| state.end((now, states), standing));
        self.update_idle(index);
    }

    /// Changes a node's state, and keeps its timer, its count and what it is charged.
    fn move_state(
        &mut self,
        cx: &mut NodeContext,
        index: NodeIndex,
        change: impl FnOnce(&mut NodeState, Standing) -> Option<Entered>,
    ) {
        let now = cx.now;
        let timer = Timer::QuarantineEnds(index);
        let (before, after, entered) = self.change(cx.ledger, index, |node| {
            let standing = node.standing();
            let state = node.trust_mut().state.get_or_insert_with(|| NodeState::normal(now));
            let before = state.until;
            let entered = change(state, standing);
            (before, state.until, entered)
        });
        if before != after {
            if let Some(before) = before.filter(|before| *before > now) {
                cx.timers.cancel(before, timer);
            }
            if let Some(after) = after {
                cx.timers.set(after, timer);
            }
        }
        let node = &self.nodes[&index];
        let (name, attestation) = (node.name().clone(), node.attestation_status());
        let Some((entered, state)) = entered.zip(node.state()) else { return };
        let (until, by) = (state.until, state.by);
        cx.audits.push(match entered {
            Entered::Warn(reason) => Audit::NodeWarned { node: name, reason, attestation },
            Entered::Quarantine(reason) => {
                Audit::NodeQuarantined { node: name, reason, attestation, until, note: None, by }
            }
            Entered::Normal => Audit::NodeNormal { node: name, attestation },
        });
    }

    /// Changes a node, and keeps the counts and what it is charged.
    fn change<T>(&mut self, ledger: &mut Ledger, index: NodeIndex, change: impl FnOnce(&mut Node) -> T) -> T {
        let mut node = self.nodes.remove(&index).expect("the caller found it");
        let before = node.bytes();
        self.uncount(&node);
        let answer = change(&mut node);
        self.count_in_all(&node);
        ledger.transfer((Account::Nodes, before), (Account::Nodes, node.bytes()));
        self.nodes.insert(index, node);
        answer
    }

    fn count_in_all(&mut self, node: &Node) {
        self.online.add(node);
        self.counts[node.liveness() as usize][node.health() as usize] += 1;
        self.attestations[node.attestation_status() as usize] += 1;
        self.identities[node.identity_status() as usize] += 1;
        self.states[node.policy_state() as usize] += 1;
        self.drained += u64::from(node.drain().is_some());
    }

    fn uncount(&mut self, node: &Node) {
        self.online.remove(node);
        self.counts[node.liveness() as usize][node.health() as usize] -= 1;
        self.attestations[node.attestation_status() as usize] -= 1;
        self.identities[node.identity_status() as usize] -= 1;
        self.states[node.policy_state() as usize] -= 1;
        self.drained -= u64::from(node.drain().is_some());
    }

    /// The number of the node of that name; registers it if it is unknown.
    pub(crate) fn register(&mut self, cx: &mut NodeContext, name: &Name) -> Result<NodeIndex, Refusal> {
        if !self.indexes.contains_key(name) {
            self.make_room(cx, name, None, Node::bytes_of_name(name))?;
        }
        Ok(self.find_or_insert(cx, name))
    }

    /// A node sent a heartbeat, so that its silence means something from now on.
    pub(crate) fn note_heartbeat(&mut self, now: Timestamp, index: NodeIndex) {
        if let Some(node) = self.nodes.get_mut(&index) {
            node.note_heartbeat(now);
        }
    }

    /// Drains a node, or lets it work again.
    pub(crate) fn set_drain(&mut self, ledger: &mut Ledger, index: NodeIndex, drain: Option<Drained>) {
        self.change(ledger, index, |node| node.set_drain(drain));
        self.update_idle(index);
    }

    /// Forgets a node without leases at once.
    pub(crate) fn forget(&mut self, cx: &mut NodeContext, index: NodeIndex) {
        self.evict(cx, index);
    }

    pub(crate) fn note_seen(&mut self, cx: &mut NodeContext, index: NodeIndex) {
        let Some(node) = self.nodes.get_mut(&index) else { return };
        let before = node.liveness();
        if before == Liveness::Online {
            node.note_seen(cx.now, cx.limits);
            return;
        }
        self.idle.remove(&(node.last_seen_at(), index));
        // The timer of a node that was not online is set for a later change of liveness: move it to the next one.
        cx.timers.cancel(node.check_at(), Timer::NodeLiveness(index));
        node.note_seen(cx.now, cx.limits);
        cx.timers.set(node.check_at(), Timer::NodeLiveness(index));
        cx.audits.push(Audit::NodeOnline { node: node.name().clone() });
        let health = node.health();
        self.online.add(node);
        self.move_count(health, before, Liveness::Online);
    }

    /// A node's timer fired.
    pub(crate) fn check_liveness(&mut self, cx: &mut NodeContext, index: NodeIndex) {
        let node = self.nodes.get_mut(&index).expect("a node with a timer is known");
        let before = node.liveness();
        if node.is_forgettable(cx.now, cx.limits) {
            self.remove(cx, index);
            return;
        }
        self.online.remove(node);
        node.check_liveness(cx.now, cx.limits);
        self.online.add(node);
        let after = node.liveness();
        cx.timers.set(node.check_at(), Timer::NodeLiveness(index));
        if after != before {
            let name = node.name().clone();
            cx.audits.push(match after {
                // A raised limit makes a stale node online again.
                Liveness::Online => Audit::NodeOnline { node: name },
                Liveness::Stale => Audit::NodeStale { node: name },
                Liveness::Dead => Audit::NodeDead { node: name },
            });
            let health = node.health();
            self.move_count(health, before, after);
        }
        self.update_idle(index);
    }

    /// The node was seen before, or is of a snapshot.
    pub(crate) fn add_lease(&mut self, index: NodeIndex) {
        self.nodes.get_mut(&index).expect("leases are given to known nodes").add_lease();
    }

    /// Returns the node.
    pub(crate) fn remove_lease(&mut self, index: NodeIndex) -> &Node {
        let node = self.nodes.get_mut(&index).expect("a node with leases is not forgotten");
        node.remove_lease();
        if node.is_idle_and_dead() {
            self.idle.insert((node.last_seen_at(), index));
        }
        node
    }

    /// The limits changed: the liveness of each node is checked at once. O(n log n), rare.
    pub(crate) fn reconfigure(&mut self, timers: &mut Timers, now: Timestamp) {
        for (index, node) in &mut self.nodes {
            timers.cancel(node.check_at(), Timer::NodeLiveness(*index));
            node.rearm(now);
            timers.set(node.check_at(), Timer::NodeLiveness(*index));
        }
    }

    /// The machine slept for `duration`: the nodes were not unseen in that time. O(n log n), rare.
    pub(crate) fn postpone_checks(&mut self, timers: &mut Timers, duration: Millis) {
        for (index, node) in &mut self.nodes {
            timers.cancel(node.check_at(), Timer::NodeLiveness(*index));
            node.postpone(duration);
            timers.set(node.check_at(), Timer::NodeLiveness(*index));
        }
        self.idle = self.idle.iter().map(|(seen_at, index)| (*seen_at + duration, *index)).collect();
    }

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

    pub(crate) fn restore_next_index(&mut self, next_index: u32) {
        self.next_index = next_index;
    }

    /// Restores a node of a snapshot and sets its timer.
    pub(crate) fn restore(&mut self, timers: &mut Timers, ledger: &mut Ledger, node: Node) -> Result<(), &'static str> {
        if self.indexes.contains_key(node.name()) || self.nodes.contains_key(&node.index()) {
            return Err("two nodes have the same name or number");
        }
        if node.index().get() >= self.next_index {
            return Err("a node has a number that the hub has not given yet");
        }
        timers.set(node.check_at(), Timer::NodeLiveness(node.index()));
        if let Some(until) = node.state().and_then(|state| state.until) {
            timers.set(until, Timer::QuarantineEnds(node.index()));
        }
        self.insert(ledger, node);
        Ok(())
    }

    /// All jobs of a snapshot are restored, and with them the nodes' leases.
    pub(crate) fn restored(&mut self) {
        let indexes: Vec<_> = self.nodes.keys().copied().collect();
        indexes.into_iter().for_each(|index| self.update_idle(index));
    }

    /// What the nodes are charged, recomputed. O(n).
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

    /// Evicts dead nodes until there is room for a node that takes `after` bytes, or `before` so far if it is known.
    /// A refusal changes nothing. If a limit was lowered below what is held, each new node evicts at least one.
    fn make_room(&mut self, cx: &mut NodeContext, name: &Name, before: Option<u64>, after: u64) -> Result<(), Refusal> {
        let (nodes, nodes_max) = (self.nodes.len() as u64, cx.limits.nodes_max);
        let (bytes, bytes_max) = (cx.ledger.get(Account::Nodes), cx.limits.nodes_bytes_max);
        let is_one_too_many = before.is_none() && nodes >= nodes_max;
        let before = before.unwrap_or(0);
        if after > before && after > bytes_max {
            return Err(Refusal::NodeTooLarge { bytes: after, bytes_max });
        }
        let more = bytes - before + after;
        let lacks_bytes = |freed: u64| after > before && more.saturating_sub(freed) > bytes_max;
        if !is_one_too_many && !lacks_bytes(0) {
            return Ok(());
        }
        let (mut evicted, mut freed) = (Vec::new(), 0);
        for (_, index) in self.idle.iter().filter(|(_, index)| self.nodes[index].name() != name) {
            if !evicted.is_empty() && !lacks_bytes(freed) {
                break;
            }
            freed += self.nodes[index].bytes();
            evicted.push(*index);
        }
        if is_one_too_many && evicted.is_empty() {
            return Err(Refusal::NodesFull { nodes, nodes_max });
        }
        if lacks_bytes(freed) {
            return Err(Refusal::NodeBytesFull { bytes, bytes_max });
        }
        evicted.into_iter().for_each(|index| self.evict(cx, index));
        Ok(())
    }

    fn evict(&mut self, cx: &mut NodeContext, index: NodeIndex) {
        let check_at = self.nodes[&index].check_at();
        cx.timers.cancel(check_at, Timer::NodeLiveness(index));
        self.remove(cx, index);
    }

    /// Removes a node whose timer has fired or is cancelled.
    fn remove(&mut self, cx: &mut NodeContext, index: NodeIndex) {
        let node = self.nodes.remove(&index).expect("a node that is forgotten was known");
        self.uncount(&node);
        self.idle.remove(&(node.last_seen_at(), index));
        self.indexes.remove(node.name());
        if let Some(until) = node.state().and_then(|state| state.until) {
            cx.timers.cancel(until, Timer::QuarantineEnds(index));
        }
        cx.ledger.release(Account::Nodes, node.bytes());
        cx.forgotten.push(node);
    }

    fn insert(&mut self, ledger: &mut Ledger, node: Node) {
        ledger.charge(Account::Nodes, node.bytes());
        self.count_in_all(&node);
        self.indexes.insert(node.name().clone(), node.index());
        self.nodes.insert(node.index(), node);
    }

    fn update_idle(&mut self, index: NodeIndex) {
        let node = &self.nodes[&index];
        let key = (node.last_seen_at(), index);
        if node.is_idle_and_dead() {
            self.idle.insert(key);
        } else {
            self.idle.remove(&key);
        }
    }

    fn move_count(&mut self, health: Health, before: Liveness, after: Liveness) {
        self.counts[before as usize][health as usize] -= 1;
        self.counts[after as usize][health as usize] += 1;
    }
}
