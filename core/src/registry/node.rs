//! A node: what it said of itself, and how long ago.

use crate::command::{Health, Heartbeat};
use crate::encoding::{members, numbered};
use crate::ids::NodeIndex;
use crate::limits::{Limits, NODE_BYTES, NODE_FORGET_MS, PROFILE_BYTES};
use crate::name::Name;
use crate::name_set::NameSet;
use crate::payload::Payload;
use crate::queue::profile::{ProfileIndex, Profiles};
use crate::rules;
use crate::time::Timestamp;
use crate::zone::Zone;

/// Whether a node was heard of lately.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Liveness {
    /// Within its time to live.
    Online,
    /// Not within its time to live.
    Stale,
    /// Not for so long that it counts as gone.
    Dead,
}

/// One node's record.
#[derive(Clone, PartialEq, Debug)]
pub struct Node {
    index: NodeIndex,
    name: Name,
    zone: Zone,
    capabilities: NameSet,
    health: Health,
    endpoint: Option<Name>,
    labels: Option<Payload>,
    registered_at: Timestamp,
    last_seen_at: Timestamp,
    liveness: Liveness,
    /// When its timer fires.
    check_at: Timestamp,
    /// Counted again from the jobs when a snapshot is read.
    leases: u64,
    /// Follows from zone and capabilities.
    profile: ProfileIndex,
}

/// A node as a snapshot holds it.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct NodeRecord {
    index: NodeIndex,
    name: Name,
    zone: Zone,
    capabilities: NameSet,
    health: Health,
    endpoint: Option<Name>,
    labels: Option<Payload>,
    registered_at: Timestamp,
    last_seen_at: Timestamp,
    liveness: Liveness,
    check_at: Timestamp,
}

members!(NodeRecord {
    1 index: required,
    2 name: required,
    3 zone,
    4 capabilities,
    5 health,
    6 endpoint,
    7 labels,
    8 registered_at: required,
    9 last_seen_at: required,
    10 liveness: required,
    11 check_at: required,
});

numbered!(Liveness { 0 Online, 1 Stale, 2 Dead });

impl NodeRecord {
    /// The node without leases: the jobs that follow bring them.
    pub fn into_node(self) -> Node {
        Node {
            index: self.index,
            name: self.name,
            zone: self.zone,
            capabilities: self.capabilities,
            health: self.health,
            endpoint: self.endpoint,
            labels: self.labels,
            registered_at: self.registered_at,
            last_seen_at: self.last_seen_at,
            liveness: self.liveness,
            check_at: self.check_at,
            leases: 0,
            profile: Profiles::UNKNOWN,
        }
    }
}

impl Node {
    pub(crate) fn new(index: NodeIndex, name: Name, now: Timestamp, limits: &Limits) -> Self {
        Node {
            index,
            name,
            zone: Zone::DEFAULT,
            capabilities: NameSet::EMPTY,
            health: Health::Green,
            endpoint: None,
            labels: None,
            registered_at: now,
            last_seen_at: now,
            liveness: Liveness::Online,
            check_at: rules::stale_at(now, limits.node_ttl_ms),
            leases: 0,
            profile: Profiles::UNKNOWN,
        }
    }

    /// The node's number in the hub.
    pub fn index(&self) -> NodeIndex {
        self.index
    }

    /// The node's name, `node_id` on the wire.
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// The zone whose jobs it may run.
    pub fn zone(&self) -> &Zone {
        &self.zone
    }

    /// What it can do.
    pub fn capabilities(&self) -> &NameSet {
        &self.capabilities
    }

    /// Its health as it says.
    pub fn health(&self) -> Health {
        self.health
    }

    /// Where it says it can be reached.
    pub fn endpoint(&self) -> Option<&Name> {
        self.endpoint.as_ref()
    }

    /// Its labels, a JSON object.
    pub fn labels(&self) -> Option<&Payload> {
        self.labels.as_ref()
    }

    /// When the hub first heard of it.
    pub fn registered_at(&self) -> Timestamp {
        self.registered_at
    }

    /// When the hub last heard of it.
    pub fn last_seen_at(&self) -> Timestamp {
        self.last_seen_at
    }

    /// Whether the hub heard of it lately.
    pub fn liveness(&self) -> Liveness {
        self.liveness
    }

    /// How many jobs it holds under lease.
    pub fn leases(&self) -> u64 {
        self.leases
    }

    /// When its timer fires.
    pub(crate) fn check_at(&self) -> Timestamp {
        self.check_at
    }

    /// What it can do, as the queue knows it.
    pub(crate) fn profile(&self) -> ProfileIndex {
        self.profile
    }

    pub(crate) fn set_profile(&mut self, profile: ProfileIndex) {
        self.profile = profile;
    }

    /// Bytes of memory that the node takes.
    pub(crate) fn bytes(&self) -> u64 {
        bytes(&self.name, &self.zone, &self.capabilities, self.endpoint.as_ref(), &self.labels)
    }

    /// Bytes of memory that a node takes which says this.
    pub(crate) fn bytes_of(heartbeat: &Heartbeat) -> u64 {
        let Heartbeat { node, zone, capabilities, endpoint, labels, health: _ } = heartbeat;
        bytes(node, zone, capabilities, endpoint.as_ref(), labels)
    }

    /// Bytes of memory that a node takes which said nothing of itself.
    pub(crate) fn bytes_of_name(name: &Name) -> u64 {
        bytes(name, &Zone::DEFAULT, &NameSet::EMPTY, None, &None)
    }

    /// The node for the snapshot.
    pub(crate) fn record(&self) -> NodeRecord {
        NodeRecord {
            index: self.index,
            name: self.name.clone(),
            zone: self.zone.clone(),
            capabilities: self.capabilities.clone(),
            health: self.health,
            endpoint: self.endpoint.clone(),
            labels: self.labels.clone(),
            registered_at: self.registered_at,
            last_seen_at: self.last_seen_at,
            liveness: self.liveness,
            check_at: self.check_at,
        }
    }

    /// Whether a heartbeat repeats what is known.
    pub(crate) fn says_the_same(&self, heartbeat: &Heartbeat) -> bool {
        self.zone == heartbeat.zone
            && self.capabilities == heartbeat.capabilities
            && self.health == heartbeat.health
            && self.endpoint == heartbeat.endpoint
            && self.labels == heartbeat.labels
    }

    /// Takes over what a heartbeat says; whether that changes which jobs the node may run.
    pub(crate) fn update(&mut self, heartbeat: Heartbeat) -> bool {
        let is_other = self.zone != heartbeat.zone || self.capabilities != heartbeat.capabilities;
        self.zone = heartbeat.zone;
        self.capabilities = heartbeat.capabilities;
        self.health = heartbeat.health;
        self.endpoint = heartbeat.endpoint;
        self.labels = heartbeat.labels;
        is_other
    }

    /// Heard of now. The timer of an online node stays where it is and sets itself again when it fires.
    pub(crate) fn seen(&mut self, now: Timestamp, limits: &Limits) {
        self.last_seen_at = now;
        if self.liveness != Liveness::Online {
            self.liveness = Liveness::Online;
            self.check_at = rules::stale_at(now, limits.node_ttl_ms);
        }
    }

    /// The timer fired: what it is now, and when to look again.
    pub(crate) fn check(&mut self, now: Timestamp, limits: &Limits) {
        let (stale_at, dead_at) = (rules::stale_at(self.last_seen_at, limits.node_ttl_ms), self.dead_at(limits));
        self.liveness = if now < stale_at {
            Liveness::Online
        } else if now < dead_at {
            Liveness::Stale
        } else {
            Liveness::Dead
        };
        let forget_at = dead_at + NODE_FORGET_MS;
        self.check_at = match self.liveness {
            Liveness::Online => stale_at,
            Liveness::Stale => dead_at,
            Liveness::Dead if now < forget_at => forget_at,
            // One that still holds leases is looked at again after as long.
            Liveness::Dead => now + NODE_FORGET_MS,
        };
    }

    /// Other limits hold from now on: look at once what they make of it.
    pub(crate) fn rearm(&mut self, now: Timestamp) {
        self.check_at = now;
    }

    /// Whether its record may go as soon as another node needs the room.
    pub(crate) fn is_idle_and_dead(&self) -> bool {
        self.liveness == Liveness::Dead && rules::may_forget(self.leases)
    }

    /// Whether a node that is looked at now is dead for so long that its record may go.
    pub(crate) fn is_forgettable(&self, now: Timestamp, limits: &Limits) -> bool {
        self.is_idle_and_dead() && now >= self.dead_at(limits) + NODE_FORGET_MS
    }

    fn dead_at(&self, limits: &Limits) -> Timestamp {
        self.last_seen_at + limits.node_dead_ms.max(limits.node_ttl_ms)
    }

    pub(crate) fn lease_given(&mut self) {
        self.leases += 1;
    }

    pub(crate) fn lease_ended(&mut self) {
        self.leases = self.leases.checked_sub(1).expect("only leases that were given end");
    }
}

fn bytes(name: &Name, zone: &Zone, capabilities: &NameSet, endpoint: Option<&Name>, labels: &Option<Payload>) -> u64 {
    let texts = name.bytes() + zone.bytes() + capabilities.bytes() + endpoint.map_or(0, Name::bytes);
    // As if no other node had its profile: what a node is charged does not depend on others.
    let is_plain = *zone == Zone::DEFAULT && *capabilities == NameSet::EMPTY;
    let profile = if is_plain { 0 } else { PROFILE_BYTES };
    NODE_BYTES + texts + profile + Payload::bytes_of(labels)
}

impl Liveness {
    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Liveness::Online => "ONLINE",
            Liveness::Stale => "STALE",
            Liveness::Dead => "DEAD",
        }
    }
}
