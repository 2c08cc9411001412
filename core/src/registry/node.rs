//! A node: what it said of itself, and how long ago.

use crate::command::{Health, Heartbeat};
use crate::ids::NodeNo;
use crate::limits::{Limits, NODE_FORGET_MS};
use crate::mutants::{self, Mutant};
use crate::name::Name;
use crate::payload::Payload;
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};

/// Whether a node was heard of lately.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Liveness {
    /// Within its time to live.
    Online,
    /// Not within its time to live.
    Stale,
    /// Not for so long that it counts as gone.
    Dead,
}

/// One node's record.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Node {
    no: NodeNo,
    name: Name,
    zone: Option<Name>,
    capabilities: Vec<Name>,
    health: Health,
    endpoint: Option<Name>,
    labels: Payload,
    registered_at: Timestamp,
    last_seen_at: Timestamp,
    liveness: Liveness,
    /// When its timer fires.
    check_at: Timestamp,
    /// Counted again from the jobs when a snapshot is read.
    #[serde(skip)]
    leases: u64,
}

impl Node {
    pub(crate) fn new(no: NodeNo, name: Name, now: Timestamp, limits: &Limits) -> Self {
        Node {
            no,
            name,
            zone: None,
            capabilities: Vec::new(),
            health: Health::Green,
            endpoint: None,
            labels: Payload::ABSENT,
            registered_at: now,
            last_seen_at: now,
            liveness: Liveness::Online,
            check_at: now + limits.node_ttl_ms,
            leases: 0,
        }
    }

    /// The node's number.
    pub fn no(&self) -> NodeNo {
        self.no
    }

    /// The node's name, `node_id` on the wire.
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// The zone whose jobs it may run; the default zone if absent.
    pub fn zone(&self) -> Option<&Name> {
        self.zone.as_ref()
    }

    /// What it can do, sorted.
    pub fn capabilities(&self) -> &[Name] {
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
    pub fn labels(&self) -> &Payload {
        &self.labels
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
            self.check_at = now + limits.node_ttl_ms;
        }
    }

    /// The timer fired: what is it now, and when to look again.
    pub(crate) fn check(&mut self, now: Timestamp, limits: &Limits) {
        if mutants::is_active(Mutant::NodeNeverStale) {
            self.check_at = now + NODE_FORGET_MS;
            return;
        }
        let stale_at = self.last_seen_at + limits.node_ttl_ms;
        let dead_at = self.dead_at(limits);
        (self.liveness, self.check_at) = if now < stale_at {
            (Liveness::Online, stale_at)
        } else if now < dead_at {
            (Liveness::Stale, dead_at)
        } else {
            let forget_at = dead_at + NODE_FORGET_MS;
            // One that still holds leases is looked at again after as long.
            (Liveness::Dead, if now < forget_at { forget_at } else { now + NODE_FORGET_MS })
        };
    }

    /// Other limits hold from now on: look at once what they make of it.
    pub(crate) fn rearm(&mut self, now: Timestamp) {
        self.check_at = now;
    }

    /// Whether a node that is looked at now is dead for so long that its record may go.
    pub(crate) fn is_forgettable(&self, now: Timestamp, limits: &Limits) -> bool {
        let is_idle = self.leases == 0 || mutants::is_active(Mutant::NodeForgottenWithLeases);
        self.liveness == Liveness::Dead && is_idle && now >= self.dead_at(limits) + NODE_FORGET_MS
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
