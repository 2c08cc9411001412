//! Nodes in the model: a row each, in the order of their numbers.

use sheratan_core::limits::{HEAP_HEADER_BYTES, Limits, NODE_BYTES, NODE_FORGET_MS, PROFILE_BYTES};
use sheratan_core::{Drain, Heartbeat, Liveness, Millis, Name, NameSet, NodeIndex, Refusal, Timestamp, Zone};

/// One node.
#[derive(Clone, Debug)]
pub struct ModelNode {
    /// Its number.
    pub index: NodeIndex,
    /// Its name.
    pub name: Name,
    /// Its zone.
    pub zone: Zone,
    /// What it can do.
    pub capabilities: NameSet,
    /// The bytes that it is charged for what it says.
    pub bytes: u64,
    /// When it was last heard of.
    pub last_seen_at: Timestamp,
    /// Its liveness at the last check.
    pub liveness: Liveness,
    /// When it is checked next.
    pub next_check_at: Timestamp,
    /// When it sent its latest heartbeat, if it sent one.
    pub heartbeat_at: Option<Timestamp>,
    /// The operator's order that takes it out of service, and until when its leases may be extended.
    pub drain: Option<(Drain, Option<Timestamp>)>,
}

impl ModelNode {
    /// The bytes that it is charged.
    pub fn all_bytes(&self) -> u64 {
        let reason = self.drain.as_ref().and_then(|(drain, _)| drain.reason.as_ref());
        self.bytes + reason.map_or(0, |reason| HEAP_HEADER_BYTES + reason.len() as u64)
    }
}

#[derive(Default, Debug)]
pub(super) struct ModelNodes {
    rows: Vec<ModelNode>,
    next_index: u32,
}

impl ModelNodes {
    pub fn rows(&self) -> &[ModelNode] {
        &self.rows
    }

    pub fn get(&self, name: &Name) -> Option<&ModelNode> {
        self.rows.iter().find(|node| node.name == *name)
    }

    /// Notes that a node was heard from, and adds it if it is new; it is charged `bytes`. `is_idle` returns whether the
    /// node of an index has no leases.
    pub fn note_heard(
        &mut self,
        now: Timestamp,
        limits: &Limits,
        name: &Name,
        bytes: Option<u64>,
        is_idle: impl Fn(NodeIndex) -> bool,
    ) -> Result<&mut ModelNode, Refusal> {
        let known = self.get(name);
        let of_drain = known.map_or(0, |node| node.all_bytes() - node.bytes);
        let (before, known) = (known.map(ModelNode::all_bytes), known.map(|node| node.bytes));
        let bytes = bytes.or(known).unwrap_or(bytes_of_name(name));
        self.make_room(limits, name, before, bytes + of_drain, is_idle)?;
        if known.is_none() {
            self.rows.push(ModelNode {
                index: NodeIndex::new(self.next_index),
                name: name.clone(),
                zone: Zone::DEFAULT,
                capabilities: NameSet::EMPTY,
                bytes,
                last_seen_at: now,
                liveness: Liveness::Online,
                next_check_at: now + limits.node_ttl_ms,
                heartbeat_at: None,
                drain: None,
            });
            self.next_index += 1;
        }
        let at = self.rows.iter().position(|node| node.name == *name).expect("it is there now");
        self.seen(now, limits, self.rows[at].index);
        self.rows[at].bytes = bytes;
        Ok(&mut self.rows[at])
    }

    /// Removes dead nodes without leases, those that were seen longest ago first, until there is room; none if that
    /// would not make enough.
    fn make_room(
        &mut self,
        limits: &Limits,
        name: &Name,
        known: Option<u64>,
        bytes: u64,
        is_idle: impl Fn(NodeIndex) -> bool,
    ) -> Result<(), Refusal> {
        let (nodes, held) = (self.rows.len() as u64, self.bytes());
        let (nodes_max, bytes_max) = (limits.nodes_max, limits.nodes_bytes_max);
        let may_go = |node: &&ModelNode| {
            node.liveness == Liveness::Dead && is_idle(node.index) && node.drain.is_none() && node.name != *name
        };
        let mut idle: Vec<_> = self.rows.iter().filter(may_go).collect();
        idle.sort_by_key(|node| (node.last_seen_at, node.index));
        if bytes > known.unwrap_or(0) && bytes > bytes_max {
            return Err(Refusal::NodeTooLarge { bytes, bytes_max });
        }
        let is_one_too_many = known.is_none() && nodes >= nodes_max;
        for count in 0..=idle.len() {
            let freed: u64 = idle[..count].iter().map(|node| node.all_bytes()).sum();
            let is_number_right = !is_one_too_many || count > 0;
            let before = known.unwrap_or(0);
            let are_bytes_right = bytes <= before || held - before + bytes - freed <= bytes_max;
            if is_number_right && are_bytes_right {
                let gone: Vec<_> = idle[..count].iter().map(|node| node.index).collect();
                self.rows.retain(|node| !gone.contains(&node.index));
                return Ok(());
            }
        }
        if is_one_too_many && idle.is_empty() {
            return Err(Refusal::NodesFull { nodes, nodes_max });
        }
        Err(Refusal::NodeBytesFull { bytes: held, bytes_max })
    }

    /// The bytes that all nodes are charged.
    pub fn bytes(&self) -> u64 {
        self.rows.iter().map(ModelNode::all_bytes).sum()
    }

    pub fn get_mut(&mut self, name: &Name) -> Option<&mut ModelNode> {
        self.rows.iter_mut().find(|node| node.name == *name)
    }

    pub fn of_index(&self, index: NodeIndex) -> Option<&ModelNode> {
        self.rows.iter().find(|node| node.index == index)
    }

    /// An operator has a node forgotten.
    pub fn remove(&mut self, name: &Name) {
        self.rows.retain(|node| node.name != *name);
    }

    /// A node sent a heartbeat.
    pub fn note_heartbeat(&mut self, now: Timestamp, index: NodeIndex) {
        let heard = self.rows.iter_mut().filter(|node| node.index == index);
        heard.for_each(|node| node.heartbeat_at = Some(now).filter(|at| *at != Timestamp::ZERO));
    }

    pub fn seen(&mut self, now: Timestamp, limits: &Limits, index: NodeIndex) {
        for node in self.rows.iter_mut().filter(|node| node.index == index) {
            node.last_seen_at = now;
            if node.liveness != Liveness::Online {
                node.liveness = Liveness::Online;
                node.next_check_at = now + limits.node_ttl_ms;
            }
        }
    }

    /// The machine slept: no node was unseen in that time.
    pub fn sleep(&mut self, duration: Millis) {
        for node in &mut self.rows {
            node.last_seen_at = node.last_seen_at + duration;
            node.next_check_at = node.next_check_at + duration;
        }
    }

    /// Schedules a check of each node, since the limits have changed.
    pub fn schedule_checks(&mut self, now: Timestamp) {
        self.rows.iter_mut().for_each(|node| node.next_check_at = now);
    }

    /// Checks a node: it may become stale or dead, or be dropped, a week after a dead one without leases was seen.
    /// Returns when a node that has died now sent its latest heartbeat.
    pub fn update_liveness(
        &mut self,
        now: Timestamp,
        limits: &Limits,
        index: NodeIndex,
        is_idle: bool,
    ) -> Option<Timestamp> {
        let at = self.rows.iter().position(|node| node.index == index).expect("a node that is checked is known");
        let node = &mut self.rows[at];
        let dead_at = node.last_seen_at + limits.node_dead_ms.max(limits.node_ttl_ms);
        let forget_at = dead_at + NODE_FORGET_MS;
        let is_long_dead = now >= forget_at;
        if node.liveness == Liveness::Dead && is_idle && is_long_dead && node.drain.is_none() {
            self.rows.remove(at);
            return None;
        }
        let was_dead = node.liveness == Liveness::Dead;
        node.liveness = liveness_at(now, limits, node.last_seen_at);
        node.next_check_at = match node.liveness {
            Liveness::Online => node.last_seen_at + limits.node_ttl_ms,
            Liveness::Stale => dead_at,
            Liveness::Dead if now < forget_at => forget_at,
            Liveness::Dead => now + NODE_FORGET_MS,
        };
        node.heartbeat_at.filter(|_| node.liveness == Liveness::Dead && !was_dead)
    }
}

/// The bytes of a node of which only the name is known.
fn bytes_of_name(name: &Name) -> u64 {
    NODE_BYTES + HEAP_HEADER_BYTES + name.len() as u64
}

/// The bytes of a node with this heartbeat.
pub(super) fn bytes_of(heartbeat: &Heartbeat) -> u64 {
    let name = |name: &Name| HEAP_HEADER_BYTES + name.len() as u64;
    let zone =
        if heartbeat.zone == Zone::DEFAULT { 0 } else { HEAP_HEADER_BYTES + heartbeat.zone.as_str().len() as u64 };
    let can: u64 = heartbeat.capabilities.iter().map(|one| name(one) + 16).sum();
    let labels = heartbeat.labels.as_ref().map_or(0, |labels| HEAP_HEADER_BYTES + labels.len() as u64);
    let is_plain = heartbeat.zone == Zone::DEFAULT && heartbeat.capabilities == NameSet::default();
    let profile = if is_plain { 0 } else { PROFILE_BYTES };
    bytes_of_name(&heartbeat.node) + profile + zone + can + heartbeat.endpoint.as_ref().map_or(0, name) + labels
}

/// The liveness of a node that was last seen then, by the wire contract's definition.
pub fn liveness_at(now: Timestamp, limits: &Limits, last_seen_at: Timestamp) -> Liveness {
    let stale_at = last_seen_at + limits.node_ttl_ms;
    let dead_at = last_seen_at + limits.node_dead_ms.max(limits.node_ttl_ms);
    match () {
        () if now < stale_at => Liveness::Online,
        () if now < dead_at => Liveness::Stale,
        () => Liveness::Dead,
    }
}
