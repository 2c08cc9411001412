//! Explaining: why a job does not run now, from the same predicates that gate its lease.
//!
//! Each reason names what lifts it, so that acting on it is enough: with all reasons lifted the job is leased by the next
//! pull of its turn. Only what is decided later may follow: a retry asks its budget when its delay ends, and prefers another
//! node when it is ready. The simulator's model check holds explanations to that by acting on them.
//!
//! An estimate of the start is the time until the jobs before it are leased at the rate of the last minute; it is absent
//! where a reason has no end of its own, or the job's time to live ends earlier. O(ready jobs of its class + reserved jobs +
//! nodes examined).

use crate::hub::Hub;
use crate::ids::JobSeq;
use crate::ledger::Account;
use crate::limits::EXPLAIN_NODES_MAX;
use crate::name::Name;
use crate::outcome::FinalStatus;

use crate::policy::PolicyState;
use crate::queue::job::{JobView, State};
use crate::queue::kind_rules::Gate;
use crate::registry::node::{Liveness, Node};
use crate::room;
use crate::rules;
use crate::time::{Timestamp, Utc};

/// Why a job does not run, and when it may.
#[derive(Clone, PartialEq, Debug)]
pub struct Explanation {
    /// All that hold now, in the order in which they are asked.
    pub reasons: Vec<Reason>,
    /// Ready jobs that are leased before it, of those that the same nodes may run; only of a ready job.
    pub ahead: Option<u64>,
    /// When it is expected to start, unless its time to live ends before that.
    pub starts_at: Option<Timestamp>,
}

/// One reason why a job does not run.
#[derive(Clone, PartialEq, Debug)]
pub enum Reason {
    Ended(FinalStatus),
    /// It runs.
    Leased {
        node: Name,
        until: Timestamp,
    },
    /// It waits for an instant of the calendar.
    RunAt {
        until: Utc,
    },
    /// It waits until its delay is over.
    Delayed {
        until: Timestamp,
    },
    /// It waits for the end of an older job of its key, whose lease is not taken away any more.
    PreviousRun {
        job: JobSeq,
    },
    /// A retry that waits for its delay.
    Backoff {
        until: Timestamp,
        attempts: u32,
    },
    /// A node gave it back more than once.
    Released {
        until: Timestamp,
    },
    /// A retry that waits for a credit of the retry budget; `ahead` of its kind wait longer.
    RetryBudget {
        ahead: u64,
        credit_at: Timestamp,
    },
    /// A retry that is not for the node of its last attempt before an instant.
    Reserved {
        node: Name,
        until: Timestamp,
    },
    KindPaused {
        reason: Option<Name>,
        until: Timestamp,
    },
    KindFull {
        leased: u64,
        max: u64,
    },
    KindRate {
        until: Timestamp,
    },
    HubFull {
        leased: u64,
        max: u64,
    },
    /// It does not fit beside the bytes of the jobs under lease.
    HubBytesFull {
        bytes: u64,
        bytes_max: u64,
    },
    ZoneFull {
        leased: u64,
        max: u64,
    },
    /// No node may take it. `kept_by` is one of all that keep the nodes which are nearest to taking it; `None` if no node
    /// has what it requires.
    NoNode {
        nodes: Nodes,
        kept_by: Option<Hindrance>,
    },
    /// It is ready, and nodes may take it: others come first, or none has asked yet.
    Turn {
        nodes: u64,
    },
}

/// What keeps a node from taking a job that it could run. The nearest to taking it are those that fewest keep; among them
/// those whose greatest is the least, in this order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Hindrance {
    /// It has as many leases as it may.
    Full,
    Drained,
    Quarantined,
    Offline,
}

/// The nodes of a job's zone, and why none of them takes it.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Nodes {
    /// Nodes of its zone that were examined, up to [`EXPLAIN_NODES_MAX`].
    pub in_zone: u64,
    /// Online nodes of the zone that lack a requirement, by requirement.
    pub lacking: Vec<(Name, u64)>,
    /// Nodes that could run it and are not online. One that is drained or full as well is counted there too.
    pub offline: u64,
    /// Nodes that could run it and are drained.
    pub drained: u64,
    /// Nodes that could run it and are in quarantine.
    pub quarantined: u64,
    /// Nodes that could run it and have as many leases as they may.
    pub full: u64,
}

impl Reason {
    /// The reason as one word.
    pub const fn code(&self) -> &'static str {
        match self {
            Reason::Ended(_) => "final",
            Reason::Leased { .. } => "leased",
            Reason::RunAt { .. } => "run_at",
            Reason::Delayed { .. } => "delay",
            Reason::PreviousRun { .. } => "previous_run",
            Reason::Backoff { .. } => "backoff",
            Reason::Released { .. } => "released",
            Reason::RetryBudget { .. } => "retry_budget",
            Reason::Reserved { .. } => "reserved",
            Reason::KindPaused { .. } => "kind_paused",
            Reason::KindFull { .. } => "kind_full",
            Reason::KindRate { .. } => "kind_rate",
            Reason::HubFull { .. } => "hub_full",
            Reason::HubBytesFull { .. } => "hub_bytes_full",
            Reason::ZoneFull { .. } => "zone_full",
            Reason::NoNode { kept_by: Some(Hindrance::Full), .. } => "nodes_full",
            Reason::NoNode { kept_by: Some(Hindrance::Drained), .. } => "nodes_drained",
            Reason::NoNode { kept_by: Some(Hindrance::Quarantined), .. } => "nodes_quarantined",
            Reason::NoNode { kept_by: Some(Hindrance::Offline), .. } => "nodes_offline",
            Reason::NoNode { kept_by: None, .. } => "no_node",
            Reason::Turn { .. } => "turn",
        }
    }

    /// When it ends by itself, on the hub's time; `None` if something else has to happen.
    pub fn until(&self, hub: &Hub) -> Option<Timestamp> {
        let until = match self {
            Reason::RunAt { until } => hub.calendar().instant(*until),
            Reason::Delayed { until }
            | Reason::Backoff { until, .. }
            | Reason::Released { until }
            | Reason::KindPaused { until, .. }
            | Reason::KindRate { until } => *until,
            Reason::RetryBudget { credit_at, .. } => *credit_at,
            _ => return None,
        };
        rules::reason_ends_at(until)
    }
}

impl Hub {
    /// Why a job does not run now; `None` if it is unknown.
    pub fn explain(&self, seq: JobSeq) -> Option<Explanation> {
        let job = self.queue().get(seq)?;
        let only = |reason| Some(Explanation { reasons: vec![reason], ahead: None, starts_at: None });
        match job.state() {
            State::Final { status, .. } => return only(Reason::Ended(status)),
            State::Leased { until, .. } => {
                let node = job.leased_to().expect("a leased job has a node").clone();
                return only(Reason::Leased { node, until });
            }
            _ => {}
        }
        let mut reasons: Vec<_> = self.waits_of(job).collect();
        let is_ready = matches!(job.state(), State::Queued { .. });
        reasons.extend(self.gates_of(job));
        let nodes_reasons = self.nodes_for(job);
        let has_nodes = matches!(nodes_reasons[..], [Reason::Turn { .. }]);
        if !has_nodes || (reasons.is_empty() && is_ready) {
            reasons.extend(nodes_reasons);
        }
        let ahead = is_ready.then(|| self.queue().ahead_of(seq));
        let starts_at = self.start_of(&reasons, ahead.unwrap_or(0)).filter(|at| *at < job.expires_at());
        Some(Explanation { reasons, ahead, starts_at })
    }

    /// What a job that is not ready waits for, or for which node a ready one does.
    fn waits_of(&self, job: JobView<'_>) -> impl Iterator<Item = Reason> {
        let delayed = |until| Reason::Delayed { until };
        let (wait, delay) = match job.state() {
            State::Dated { run_at } => {
                let until = self.timers.not_before(run_at, job.seq());
                let outlasts_date = until > self.calendar().instant(run_at).max(self.now());
                (Some(Reason::RunAt { until: run_at }), outlasts_date.then(|| delayed(until)))
            }
            State::Scheduled { due_at: Timestamp::NEVER } if self.queue().waits_for(job.seq()).is_some() => {
                (None, None)
            }
            State::Scheduled { due_at } => (
                Some(match job.attempts().next_back() {
                    None => delayed(due_at),
                    Some(attempt) if attempt.end.is_returned() => Reason::Released { until: due_at },
                    Some(_) => Reason::Backoff { until: due_at, attempts: job.attempts_charged() },
                }),
                None,
            ),
            State::Postponed { .. } => {
                let (ahead, credit_at) = self.queue().budget_wait(self.limits(), job.seq());
                (Some(Reason::RetryBudget { ahead, credit_at }), None)
            }
            State::Queued { .. } => {
                let reserved = |(node, until): (&Name, _)| Reason::Reserved { node: node.clone(), until };
                (job.withheld_from().map(reserved), None)
            }
            State::Leased { .. } | State::Final { .. } => (None, None),
        };
        let previous = self.queue().waits_for(job.seq()).map(|job| Reason::PreviousRun { job });
        wait.into_iter().chain(delay).chain(previous)
    }

    /// Which limits keep any job of its kind and zone from being leased.
    fn gates_of(&self, job: JobView<'_>) -> Vec<Reason> {
        let (queue, limits) = (self.queue(), self.limits());
        let mut reasons = Vec::new();
        let kind = job.kind();
        let rules_of_kind = queue.kind_rules(kind).0;
        reasons.extend(queue.kind_closed(self.now(), kind).map(|gate| match gate {
            Gate::Open => unreachable!("what closes a kind is not that it is open"),
            Gate::Paused(until) => {
                let reason = rules_of_kind.pause.as_ref().and_then(|pause| pause.reason.clone());
                Reason::KindPaused { reason, until }
            }
            Gate::Full => {
                Reason::KindFull { leased: queue.leases_of_kind(kind), max: rules_of_kind.inflight_max.unwrap_or(0) }
            }
            Gate::RateLimited(until) => Reason::KindRate { until },
        }));
        let leased = queue.counts().leased;
        if rules::is_room_used_up(rules::room_in_hub(limits.inflight_max, leased)) {
            reasons.push(Reason::HubFull { leased, max: limits.inflight_max });
        }
        if self.waits_for_bytes(job) {
            let (bytes, bytes_max) = (self.ledger().get(Account::Leased), limits.inflight_bytes_max);
            reasons.push(Reason::HubBytesFull { bytes, bytes_max });
        }
        let in_zone = queue.leases_in_zone(&job.class().zone);
        if rules::is_room_used_up(rules::room_in_zone(limits.leases_per_zone_max, in_zone)) {
            reasons.push(Reason::ZoneFull { leased: in_zone, max: limits.leases_per_zone_max });
        }
        reasons
    }

    /// Whether it does not fit under the limit of bytes, at whichever node: a lease holds the node's name.
    fn waits_for_bytes(&self, job: JobView<'_>) -> bool {
        if self.limits().inflight_bytes_max == u64::MAX {
            return false;
        }
        let nodes = self.registry().iter().take(EXPLAIN_NODES_MAX);
        let able = nodes.filter(|node| job.class().admits(node.zone(), node.capabilities()));
        let name_bytes = able.map(|node| node.name().bytes()).min().unwrap_or(0);
        !self.queue().fits_under_lease((self.limits(), self.ledger()), job.seq(), name_bytes)
    }

    /// Whether a node may take it: one that is online, matches, is not drained and has room. Otherwise all that keep the
    /// nearest of those that match.
    fn nodes_for(&self, job: JobView<'_>) -> Vec<Reason> {
        let (class, mut nodes, mut free) = (job.class(), Nodes::default(), 0);
        let mut nearest: Option<Vec<Hindrance>> = None;
        let mut gets_it_later = false;
        let mut lacking: Vec<_> = class.requires.iter().map(|name| (name.clone(), 0)).collect();
        let withheld_from = job.withheld_from().map(|(node, _)| node);
        for node in self.registry().iter().take(EXPLAIN_NODES_MAX) {
            if *node.zone() != class.zone {
                continue;
            }
            nodes.in_zone += 1;
            let is_online = node.liveness() == Liveness::Online;
            if !class.admits(node.zone(), node.capabilities()) {
                let lacks = |name: &Name| !node.capabilities().iter().any(|own| own == name);
                lacking.iter_mut().filter(|(name, _)| is_online && lacks(name)).for_each(|(_, count)| *count += 1);
                continue;
            }
            let kept_by = self.hindrances_of(node);
            for hindrance in &kept_by {
                match hindrance {
                    Hindrance::Full => nodes.full += 1,
                    Hindrance::Drained => nodes.drained += 1,
                    Hindrance::Quarantined => nodes.quarantined += 1,
                    Hindrance::Offline => nodes.offline += 1,
                }
            }
            if !kept_by.is_empty() {
                let distance = |kept_by: &Vec<Hindrance>| (kept_by.len(), kept_by.clone());
                nearest = nearest.into_iter().chain([kept_by]).min_by_key(distance);
            } else if withheld_from == Some(node.name()) {
                gets_it_later = true;
            } else {
                free += 1;
            }
        }
        if free > 0 || gets_it_later {
            return vec![Reason::Turn { nodes: free }];
        }
        lacking.retain(|(_, count)| *count > 0);
        nodes.lacking = lacking;
        match nearest {
            None => vec![Reason::NoNode { nodes, kept_by: None }],
            Some(kept_by) => {
                let reason = |hindrance| Reason::NoNode { nodes: nodes.clone(), kept_by: Some(hindrance) };
                kept_by.into_iter().map(reason).collect()
            }
        }
    }

    /// The greatest first.
    fn hindrances_of(&self, node: &Node) -> Vec<Hindrance> {
        let is_full = rules::is_room_used_up(rules::room_at_node(self.limits().leases_per_node_max, node.leases()));
        let all = [
            (Hindrance::Offline, node.liveness() != Liveness::Online),
            (Hindrance::Quarantined, node.policy_state() == PolicyState::Quarantined),
            (Hindrance::Drained, node.drain().is_some()),
            (Hindrance::Full, is_full),
        ];
        all.into_iter().filter(|(_, holds)| *holds).map(|(hindrance, _)| hindrance).collect()
    }

    /// When a job is expected to start: when its last reason has ended, and those ahead of it are leased at the rate of
    /// the last minute.
    fn start_of(&self, reasons: &[Reason], ahead: u64) -> Option<Timestamp> {
        let mut at = self.now();
        for reason in reasons {
            match reason {
                Reason::Turn { .. } => {}
                // Another node may take it at once.
                Reason::Reserved { .. } => {}
                // A place becomes free as leases end.
                Reason::KindFull { max: 1.., .. } | Reason::HubFull { max: 1.., .. } => {}
                Reason::ZoneFull { max: 1.., .. } | Reason::HubBytesFull { .. } => {}
                Reason::NoNode { kept_by: Some(Hindrance::Full), .. } if self.limits().leases_per_node_max > 0 => {}
                reason => at = at.max(reason.until(self)?),
            }
        }
        Some(at + room::time_to_lease(self.telemetry(), self.now(), ahead + 1)?)
    }
}
