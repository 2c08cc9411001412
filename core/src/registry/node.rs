//! A node: how it describes itself, and when it was last seen.

use crate::command::{Health, Heartbeat};
use crate::encoding::{members, numbered};
use crate::ids::NodeIndex;
use crate::limits::{HEAP_HEADER_BYTES, Limits, NODE_BYTES, NODE_FORGET_MS, PROFILE_BYTES};
use crate::name::Name;
use crate::name_set::NameSet;
use crate::payload::Payload;
use crate::queue::profile::{ProfileIndex, Profiles};
use crate::rules;
use crate::time::{Millis, Timestamp};
use crate::zone::Zone;

/// How long ago a node was seen, in steps.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Liveness {
    /// Within `node_ttl_ms`.
    Online,
    /// Longer ago than `node_ttl_ms`.
    Stale,
    /// Longer ago than `node_dead_ms`.
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
    /// Absent if it reports neither. Boxed: most nodes do not.
    told: Option<Box<Told>>,
    registered_at: Timestamp,
    last_seen_at: Timestamp,
    liveness: Liveness,
    /// When its timer fires.
    check_at: Timestamp,
    /// When it sent its latest heartbeat; [`Timestamp::ZERO`] if it sent none.
    heartbeat_at: Timestamp,
    drain: Option<Box<Drained>>,
    /// Derived from the jobs when a snapshot is read.
    leases: u32,
    /// Derived from zone and capabilities.
    profile: ProfileIndex,
}

/// What a node reports of itself that is only shown.
#[derive(Clone, PartialEq, Debug)]
struct Told {
    endpoint: Option<Name>,
    labels: Option<Payload>,
}

impl Told {
    fn new(endpoint: Option<Name>, labels: Option<Payload>) -> Option<Box<Told>> {
        (endpoint.is_some() || labels.is_some()).then(|| Box::new(Told { endpoint, labels }))
    }
}

/// A node gets no jobs, by an operator's order.
#[derive(Clone, PartialEq, Debug)]
pub struct Drained {
    pub since: Timestamp,
    /// Until then its leases may be extended; not at all if absent.
    pub until: Option<Timestamp>,
    pub reason: Option<Name>,
}

members!(Drained { 1 since: required, 2 until, 3 reason });

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
    heartbeat_at: Timestamp,
    drain: Option<Box<Drained>>,
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
    12 heartbeat_at,
    13 drain,
});

numbered!(Liveness { 0 Online, 1 Stale, 2 Dead });

impl NodeRecord {
    /// The node without leases: these are added with the jobs that follow in the snapshot.
    pub fn into_node(self) -> Node {
        Node {
            index: self.index,
            name: self.name,
            zone: self.zone,
            capabilities: self.capabilities,
            health: self.health,
            told: Told::new(self.endpoint, self.labels),
            registered_at: self.registered_at,
            last_seen_at: self.last_seen_at,
            liveness: self.liveness,
            check_at: self.check_at,
            heartbeat_at: self.heartbeat_at,
            drain: self.drain,
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
            told: None,
            registered_at: now,
            last_seen_at: now,
            liveness: Liveness::Online,
            check_at: rules::stale_at(now, limits.node_ttl_ms),
            heartbeat_at: Timestamp::ZERO,
            drain: None,
            leases: 0,
            profile: Profiles::UNKNOWN,
        }
    }

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

    pub fn capabilities(&self) -> &NameSet {
        &self.capabilities
    }

    /// Its health as it reports it.
    pub fn health(&self) -> Health {
        self.health
    }

    /// Where it can be reached, as it reports.
    pub fn endpoint(&self) -> Option<&Name> {
        self.told.as_ref()?.endpoint.as_ref()
    }

    /// Its labels, a JSON object.
    pub fn labels(&self) -> Option<&Payload> {
        self.told.as_ref()?.labels.as_ref()
    }

    pub fn registered_at(&self) -> Timestamp {
        self.registered_at
    }

    pub fn last_seen_at(&self) -> Timestamp {
        self.last_seen_at
    }

    pub fn liveness(&self) -> Liveness {
        self.liveness
    }

    /// How many jobs it holds under lease.
    pub fn leases(&self) -> u64 {
        self.leases.into()
    }

    /// When it sent its latest heartbeat, if it sent one.
    pub fn heartbeat_at(&self) -> Option<Timestamp> {
        (self.heartbeat_at != Timestamp::ZERO).then_some(self.heartbeat_at)
    }

    /// Whether and until when it is drained.
    pub fn drain(&self) -> Option<&Drained> {
        self.drain.as_deref()
    }

    /// Until when its leases may be extended, if it is drained.
    pub(crate) fn extensions_end_at(&self, now: Timestamp) -> Option<Timestamp> {
        self.drain.as_ref().map(|drain| drain.until.unwrap_or(now))
    }

    pub(crate) fn set_drain(&mut self, drain: Option<Drained>) {
        self.drain = drain.map(Box::new);
    }

    pub(crate) fn note_heartbeat(&mut self, now: Timestamp) {
        self.heartbeat_at = now;
    }

    /// When its timer fires.
    pub(crate) fn check_at(&self) -> Timestamp {
        self.check_at
    }

    /// Its zone and capabilities, as the queue knows them.
    pub(crate) fn profile(&self) -> ProfileIndex {
        self.profile
    }

    pub(crate) fn set_profile(&mut self, profile: ProfileIndex) {
        self.profile = profile;
    }

    /// Bytes of memory that the node takes.
    pub(crate) fn bytes(&self) -> u64 {
        bytes(&self.name, &self.zone, &self.capabilities, self.endpoint(), self.labels()) + self.bytes_of_drain()
    }

    /// Those of them that a heartbeat does not change.
    pub(crate) fn bytes_of_drain(&self) -> u64 {
        let reason = self.drain.as_ref().and_then(|drain| drain.reason.as_ref());
        reason.map_or(0, Name::bytes)
    }

    /// Bytes of memory that a node takes after this heartbeat.
    pub(crate) fn bytes_of(heartbeat: &Heartbeat) -> u64 {
        let Heartbeat { node, zone, capabilities, endpoint, labels, health: _ } = heartbeat;
        bytes(node, zone, capabilities, endpoint.as_ref(), labels.as_ref())
    }

    /// Bytes of memory that a node takes before its first heartbeat.
    pub(crate) fn bytes_of_name(name: &Name) -> u64 {
        bytes(name, &Zone::DEFAULT, &NameSet::EMPTY, None, None)
    }

    pub(crate) fn record(&self) -> NodeRecord {
        NodeRecord {
            index: self.index,
            name: self.name.clone(),
            zone: self.zone.clone(),
            capabilities: self.capabilities.clone(),
            health: self.health,
            endpoint: self.endpoint().cloned(),
            labels: self.labels().cloned(),
            registered_at: self.registered_at,
            last_seen_at: self.last_seen_at,
            liveness: self.liveness,
            check_at: self.check_at,
            heartbeat_at: self.heartbeat_at,
            drain: self.drain.clone(),
        }
    }

    /// Whether a heartbeat changes nothing but the last-seen time.
    pub(crate) fn matches(&self, heartbeat: &Heartbeat) -> bool {
        self.zone == heartbeat.zone
            && self.capabilities == heartbeat.capabilities
            && self.health == heartbeat.health
            && self.endpoint() == heartbeat.endpoint.as_ref()
            && self.labels() == heartbeat.labels.as_ref()
    }

    /// Stores what a heartbeat reports; returns whether that changes which jobs the node may run.
    pub(crate) fn update(&mut self, heartbeat: Heartbeat) -> bool {
        let is_changed = self.zone != heartbeat.zone || self.capabilities != heartbeat.capabilities;
        self.zone = heartbeat.zone;
        self.capabilities = heartbeat.capabilities;
        self.health = heartbeat.health;
        self.told = Told::new(heartbeat.endpoint, heartbeat.labels);
        is_changed
    }

    /// The timer of an online node is not moved: it is set again when it fires.
    pub(crate) fn note_seen(&mut self, now: Timestamp, limits: &Limits) {
        self.last_seen_at = now;
        if self.liveness != Liveness::Online {
            self.liveness = Liveness::Online;
            self.check_at = rules::stale_at(now, limits.node_ttl_ms);
        }
    }

    /// The timer fired: updates the liveness, and when to check it next.
    pub(crate) fn check_liveness(&mut self, now: Timestamp, limits: &Limits) {
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
            // A node that still holds leases is checked again after the same time.
            Liveness::Dead => now + NODE_FORGET_MS,
        };
    }

    /// The limits changed: the timer fires at once, to check the liveness under the new ones.
    pub(crate) fn rearm(&mut self, now: Timestamp) {
        self.check_at = now;
    }

    /// The machine slept: the node counts as seen that much later.
    pub(crate) fn postpone(&mut self, duration: Millis) {
        self.last_seen_at = self.last_seen_at + duration;
        self.check_at = self.check_at + duration;
    }

    /// Whether it may be evicted as soon as another node needs the room. A drained one is not: its name would come back
    /// undrained.
    pub(crate) fn is_idle_and_dead(&self) -> bool {
        self.liveness == Liveness::Dead && rules::may_forget(self.leases()) && self.drain.is_none()
    }

    /// Whether it is idle and has been dead for so long that it is forgotten.
    pub(crate) fn is_forgettable(&self, now: Timestamp, limits: &Limits) -> bool {
        self.is_idle_and_dead() && now >= self.dead_at(limits) + NODE_FORGET_MS
    }

    fn dead_at(&self, limits: &Limits) -> Timestamp {
        self.last_seen_at + limits.node_dead_ms.max(limits.node_ttl_ms)
    }

    pub(crate) fn add_lease(&mut self) {
        self.leases += 1;
    }

    pub(crate) fn remove_lease(&mut self) {
        self.leases = self.leases.checked_sub(1).expect("a lease that ends was added");
    }
}

fn bytes(name: &Name, zone: &Zone, capabilities: &NameSet, endpoint: Option<&Name>, labels: Option<&Payload>) -> u64 {
    let texts = name.bytes() + zone.bytes() + capabilities.bytes() + endpoint.map_or(0, Name::bytes);
    // Charged as if no other node had the same profile: what a node is charged does not depend on others.
    let is_plain = *zone == Zone::DEFAULT && *capabilities == NameSet::EMPTY;
    let profile = if is_plain { 0 } else { PROFILE_BYTES };
    NODE_BYTES + texts + profile + labels.map_or(0, |labels| HEAP_HEADER_BYTES + labels.len() as u64)
}

impl Liveness {
    pub const fn as_str(self) -> &'static str {
        match self {
            Liveness::Online => "ONLINE",
            Liveness::Stale => "STALE",
            Liveness::Dead => "DEAD",
        }
    }
}
