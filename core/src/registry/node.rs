//! A node: how it describes itself, and when it was last seen.

use super::attestation::Attested;
use super::identity::{Identified, Judgement};
use super::node_state::{NodeState, Standing};
use crate::command::{Attestation, Health, Heartbeat};
use crate::encoding::{members, numbered};
use crate::ids::NodeIndex;
use crate::limits::{HEAP_HEADER_BYTES, Limits, NODE_BYTES, NODE_FORGET_MS, PROFILE_BYTES};
use crate::name::Name;
use crate::name_set::NameSet;
use crate::outcome::Withheld;
use crate::payload::Payload;
use crate::policy::{AttestationStatus, IdentityStatus, PolicyState};
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
    /// As it reports it.
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
    /// Absent if it never attested.
    pub(super) attested: Option<Box<Attested>>,
    /// Absent if it was always normal and never presented a key or a signature.
    trust: Option<Box<Trust>>,
    /// Derived from the jobs when a snapshot is read.
    leases: u32,
    /// Derived from zone and capabilities.
    profile: ProfileIndex,
}

/// What became of a node that was not always normal, or that presented a key. In one box: each word of a node is one of all
/// nodes.
#[derive(Clone, PartialEq, Default, Debug)]
pub(super) struct Trust {
    /// Absent if it was always normal.
    pub state: Option<NodeState>,
    /// Absent if it never presented a key or a signature. Boxed: most nodes that have a state sign nothing.
    pub identity: Option<Box<Identified>>,
}

impl Trust {
    fn new(state: Option<NodeState>, identity: Option<Box<Identified>>) -> Option<Box<Trust>> {
        (state.is_some() || identity.is_some()).then(|| Box::new(Trust { state, identity }))
    }
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
    attested: Option<Box<Attested>>,
    state: Option<NodeState>,
    identity: Option<Box<Identified>>,
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
    14 attested,
    15 state,
    16 identity,
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
            attested: self.attested,
            trust: Trust::new(self.state, self.identity),
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
            attested: None,
            trust: None,
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

    /// Its health as it reports it, or yellow if that is green and its attestation or identity is not.
    pub fn health(&self) -> Health {
        let standing = self.standing();
        let is_odd = matches!(standing.attestation, AttestationStatus::Drift | AttestationStatus::SpoofSuspect)
            || standing.identity.is_fault();
        if self.health == Health::Green && is_odd { Health::Yellow } else { self.health }
    }

    /// What it attested, if it ever did.
    pub fn attested(&self) -> Option<&Attested> {
        self.attested.as_deref()
    }

    pub fn attestation_status(&self) -> AttestationStatus {
        self.attested.as_ref().map_or(AttestationStatus::Missing, |attested| attested.status)
    }

    /// What is known of its key, if it ever presented one.
    pub fn identity(&self) -> Option<&Identified> {
        self.trust.as_ref()?.identity.as_deref()
    }

    pub fn identity_status(&self) -> IdentityStatus {
        self.identity().map_or(IdentityStatus::Unpinned, |identity| identity.status)
    }

    /// What its state follows.
    pub(super) fn standing(&self) -> Standing {
        Standing { attestation: self.attestation_status(), identity: self.identity_status() }
    }

    pub(super) fn trust_mut(&mut self) -> &mut Trust {
        self.trust.get_or_insert_default()
    }

    /// Its state and how it came to it; absent if it was always normal.
    pub fn state(&self) -> Option<&NodeState> {
        self.trust.as_ref()?.state.as_ref()
    }

    pub fn policy_state(&self) -> PolicyState {
        self.state().map_or(PolicyState::Normal, |state| state.state)
    }

    /// Why it gets no jobs, whatever is ready, if it gets none.
    pub fn withheld(&self) -> Option<Withheld> {
        let is_quarantined = self.policy_state() == PolicyState::Quarantined;
        let withheld = if self.drain.is_some() { Some(Withheld::Drained) } else { None };
        withheld.or_else(|| is_quarantined.then_some(Withheld::Quarantined))
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
        let told = bytes(&self.name, &self.zone, &self.capabilities, self.endpoint(), self.labels());
        let attested = self.attested().map_or(0, Attested::bytes);
        told + self.bytes_of_drain() + self.bytes_of_state() + attested + Identified::bytes_with(self.identity(), None)
    }

    fn bytes_of_drain(&self) -> u64 {
        let reason = self.drain.as_ref().and_then(|drain| drain.reason.as_ref());
        reason.map_or(0, Name::bytes)
    }

    fn bytes_of_state(&self) -> u64 {
        self.state().map_or(0, NodeState::bytes)
    }

    /// Bytes of memory that a node takes at most after this heartbeat; `known` is the node before it.
    pub(crate) fn bytes_after(known: Option<&Node>, heartbeat: &Heartbeat) -> u64 {
        let Heartbeat { node, zone, capabilities, endpoint, labels, attestation, signing, health: _ } = heartbeat;
        let told = bytes(node, zone, capabilities, endpoint.as_ref(), labels.as_ref());
        let attested = Attested::bytes_with(known.and_then(Node::attested), attestation.as_deref());
        let identity = Identified::bytes_with(known.and_then(Node::identity), signing.as_deref());
        told + attested + identity + known.map_or(0, |known| known.bytes_of_drain() + known.bytes_of_state())
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
            attested: self.attested.clone(),
            state: self.state().cloned(),
            identity: self.identity().cloned().map(Box::new),
        }
    }

    /// Whether a heartbeat changes nothing but the last-seen time.
    pub(crate) fn matches(&self, now: Timestamp, limits: &Limits, heartbeat: &Heartbeat) -> bool {
        let attestation = heartbeat.attestation.as_deref();
        self.is_identified_as_before(heartbeat)
            && self.attests_the_same(now, limits, attestation)
            && self.zone == heartbeat.zone
            && self.capabilities == heartbeat.capabilities
            && self.health == heartbeat.health
            && self.endpoint() == heartbeat.endpoint.as_ref()
            && self.labels() == heartbeat.labels.as_ref()
    }

    fn is_identified_as_before(&self, heartbeat: &Heartbeat) -> bool {
        let signing = heartbeat.signing.as_deref();
        let judgement = Judgement::of(self.identity(), signing);
        judgement.is_own(self.identity()) && Identified::is_settled(self.identity(), judgement, signing)
    }

    /// Whether a heartbeat under its name is its own.
    pub(crate) fn is_own(&self, heartbeat: &Heartbeat) -> bool {
        Judgement::of(self.identity(), heartbeat.signing.as_deref()).is_own(self.identity())
    }

    /// Whether a heartbeat under its name changes nothing at all: it is not its own, and repeats the fault or the
    /// heartbeat before.
    pub(crate) fn ignores(&self, heartbeat: &Heartbeat) -> bool {
        let signing = heartbeat.signing.as_deref();
        let judgement = Judgement::of(self.identity(), signing);
        !judgement.is_own(self.identity()) && Identified::is_settled(self.identity(), judgement, signing)
    }

    fn attests_the_same(&self, now: Timestamp, limits: &Limits, attestation: Option<&Attestation>) -> bool {
        match &self.attested {
            Some(attested) => attested.is_settled(now, limits, attestation),
            None => attestation.is_none(),
        }
    }

    /// Stores what a heartbeat reports, but for its attestation and identity; returns whether that changes which jobs the node may run.
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
    /// undrained; nor is one in quarantine before that ends. A quarantine that lasts only since the node is silent keeps no
    /// room, or whoever may send heartbeats could fill the registry for ever.
    pub(crate) fn is_idle_and_dead(&self) -> bool {
        let is_kept = self.drain.is_some() || self.state().is_some_and(|state| state.until.is_some());
        self.liveness == Liveness::Dead && rules::may_forget(self.leases()) && !is_kept
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
