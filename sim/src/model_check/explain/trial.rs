//! Trial: a copy of a hub, on which what an explanation names is done.

use super::is_waiting;
use crate::model_check::copy::restored;
use sheratan_core::explain::{Hindrance, Reason};
use sheratan_core::{
    Command, Complete, Health, Heartbeat, Hub, HubKey, JobSeq, JobView, KindRules, LeaseRef, Liveness, Millis, Name,
    NameSet, Node, Outcome, PolicyState, Pull, Release, ResultMark, SetKind, Setting, State, Timestamp, Zone,
};
use sheratan_history::records_of;

/// How reasons are lifted that end by an act or with time.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// In one of the ways that are named.
    AsNamed,
    /// Before time passes, and without the end of a lease, which may lift more than one.
    AtOnce,
}

/// The longest time that passes on a copy: half a century.
const WAIT_MAX: Millis = Millis::from_secs(50 * 366 * 86_400);

/// Whether nobody lifts a reason before its instant.
pub fn takes_time(reason: &Reason) -> bool {
    matches!(
        reason,
        Reason::RunAt { .. }
            | Reason::Delayed { .. }
            | Reason::Backoff { .. }
            | Reason::Released { .. }
            | Reason::RetryBudget { .. }
    )
}

/// A hub that is copied for each trial.
pub struct Copies {
    key: HubKey,
    records: Vec<Vec<u8>>,
}

impl Copies {
    pub fn of(hub: &Hub) -> Self {
        Copies { key: *hub.key(), records: records_of(hub) }
    }

    /// A copy, to try what becomes of a job.
    pub fn trial(&self, seq: JobSeq) -> Trial {
        let hub = restored(self.key, &self.records);
        let mut trial = Trial { hub, seq, able: None, kept_by: Vec::new() };
        trial.kept_by = hindrances_in(&trial.reasons());
        // A held lease ends when its job is dropped; a node that was forgotten comes back.
        trial.set(vec![
            Setting::RetainedJobsMax(u64::MAX),
            Setting::RetainedBytesMax(u64::MAX),
            Setting::NodesMax(u64::MAX),
            Setting::NodesBytesMax(u64::MAX),
        ]);
        // One that waits for room tries again every second.
        let acts: Vec<_> = trial.hub.acts().iter().filter(|act| act.is_running()).map(|act| act.id).collect();
        acts.into_iter().for_each(|act| _ = trial.apply(Command::CancelAct(act)));
        trial.able = trial.find_node();
        trial
    }
}

pub struct Trial {
    hub: Hub,
    seq: JobSeq,
    /// A node that may take the job, which may have been forgotten meanwhile.
    able: Option<Heartbeat>,
    /// What kept the nearest nodes at the start.
    kept_by: Vec<Hindrance>,
}

impl Trial {
    pub fn hub(&self) -> &Hub {
        &self.hub
    }

    pub fn job(&self) -> Option<JobView<'_>> {
        self.hub.queue().get(self.seq)
    }

    pub fn is_waiting(&self) -> bool {
        self.job().is_some_and(|job| is_waiting(&job))
    }

    pub fn reasons(&self) -> Vec<Reason> {
        self.hub.explain(self.seq).map_or(Vec::new(), |explanation| explanation.reasons)
    }

    pub fn set(&mut self, settings: Vec<Setting>) {
        self.apply(Command::Set(settings));
    }

    /// Time passes, unless it is more than half a century.
    pub fn advance(&mut self, at: Timestamp) -> bool {
        let is_near = at.since(self.hub.now()) <= WAIT_MAX;
        if is_near {
            self.hub.advance(at);
        }
        is_near
    }

    /// Does what the reasons name; `false` if time does not lift one of them, or in half a century only.
    pub fn lift(&mut self, reasons: &[Reason], way: Way) -> bool {
        // None of them joins the retries that wait for credits.
        let is_other = |job: &JobView<'_>| !matches!(job.state(), State::Postponed { .. });
        self.cancel_others(is_other);
        if reasons.iter().any(|reason| matches!(reason, Reason::RetryBudget { .. })) {
            let leased: Vec<_> = self.jobs(|job| matches!(job.state(), State::Leased { .. }));
            leased.into_iter().for_each(|job| _ = self.apply(Command::Cancel(job)));
        }
        // Half of the jobs wait for what others can end at once.
        let waits = way == Way::AsNamed && self.seq.get().is_multiple_of(2);
        let mut latest = self.hub.now();
        for reason in reasons {
            match reason.until(&self.hub) {
                Some(until) if takes_time(reason) || waits => latest = latest.max(until),
                // Without a floor, and without fresh jobs, a larger budget lifts it.
                None if matches!(reason, Reason::RetryBudget { .. }) => {
                    self.set(vec![Setting::RetriesPerSecMin(1_000)]);
                    let until = self.reasons().first().and_then(|reason| reason.until(&self.hub));
                    latest = latest.max(until.unwrap_or_default());
                }
                None if takes_time(reason) => return false,
                _ => self.end(reason, way),
            }
        }
        let online: Vec<_> = self.online_nodes().map(Node::index).collect();
        if !self.advance(latest) {
            return false;
        }
        // Meanwhile the nodes sent heartbeats: that they fall silent is another story.
        let known = online.into_iter().filter(|node| self.hub.registry().get(*node).is_some()).collect();
        self.apply(Command::NodesSeen(known));
        if !self.is_waiting() {
            return true;
        }
        if reasons.iter().any(|reason| matches!(reason, Reason::NoNode { .. })) {
            self.serve(&hindrances_in(reasons), way);
        }
        let reserved = reasons.iter().find_map(|reason| match reason {
            Reason::Reserved { until, .. } => Some(*until),
            _ => None,
        });
        match reserved {
            Some(_) if way == Way::AtOnce && self.find_node().is_none() => _ = self.register(),
            Some(until) if waits || self.find_node().is_none() => self.hub.advance(until),
            _ => {}
        }
        true
    }

    /// A node that may take the job pulls: whether it got it.
    pub fn pull_by_any(&mut self) -> bool {
        if let Some(able) = self.able.clone()
            && self.hub.registry().by_name(&able.node).is_none()
        {
            self.apply(Command::Heartbeat(able));
        }
        self.find_node().is_some_and(|able| self.pull(&able.node))
    }

    /// A node pulls when it is the job's turn: whether it got it.
    pub fn pull(&mut self, node: &Name) -> bool {
        self.cancel_others(|_| true);
        self.pull_first(node) == Some(self.seq)
    }

    /// A node pulls: which job it got.
    pub fn pull_first(&mut self, node: &Name) -> Option<JobSeq> {
        let pull = Pull { node: node.clone(), jobs_max: 1, kinds: NameSet::default(), lease_duration_ms: None };
        match self.apply(Command::Pull(pull)) {
            Outcome::Pulled(pulled) => pulled.leases.first().map(|leased| leased.lease.job),
            _ => None,
        }
    }

    /// The nodes that are online.
    pub fn online(&self) -> Vec<Name> {
        self.online_nodes().map(|node| node.name().clone()).collect()
    }

    fn online_nodes(&self) -> impl Iterator<Item = &Node> {
        self.hub.registry().iter().filter(|node| node.liveness() == Liveness::Online)
    }

    /// A new node registers that has what the job requires, and no more.
    pub fn register(&mut self) -> Name {
        let class = self.job().expect("it waits").class().clone();
        let node = Name::new("the-node-it-waits-for").expect("a name");
        let heartbeat = heartbeat(node.clone(), class.zone, class.requires);
        self.apply(Command::Heartbeat(heartbeat));
        node
    }

    fn apply(&mut self, command: Command) -> Outcome {
        self.hub.apply(self.hub.now(), command)
    }

    fn jobs(&self, is_meant: impl Fn(&JobView<'_>) -> bool) -> Vec<JobSeq> {
        let others = self.hub.queue().iter_from(JobSeq::FIRST).filter(|job| job.seq() != self.seq);
        others.filter(is_meant).map(|job| job.seq()).collect()
    }

    fn cancel_others(&mut self, is_meant: impl Fn(&JobView<'_>) -> bool) {
        let others = self.jobs(|job| is_waiting(job) && is_meant(job));
        others.into_iter().for_each(|job| _ = self.apply(Command::Cancel(job)));
    }

    /// Ends what an operator or a node can end.
    fn end(&mut self, reason: &Reason, way: Way) {
        let kind = self.job().expect("it waits").kind().clone();
        let by_leases = way == Way::AsNamed;
        match reason {
            Reason::KindPaused { .. } => self.set_kind(&kind, |rules| rules.pause = None),
            Reason::KindRate { .. } => self.set_kind(&kind, |rules| rules.leases_per_1000_sec = None),
            Reason::KindFull { max: 1.., .. } if by_leases => {
                self.end_leases(|hub| hub.queue().leases_of_kind(&kind), |job| *job.kind() == kind, reason);
            }
            Reason::KindFull { .. } => self.set_kind(&kind, |rules| rules.inflight_max = None),
            Reason::HubFull { max: 1.., .. } if by_leases => {
                self.end_leases(|hub| hub.counts().leased, |_| true, reason);
            }
            Reason::HubFull { .. } => self.set(vec![Setting::InflightMax(u64::MAX)]),
            Reason::ZoneFull { max: 1.., .. } if by_leases => {
                let zone = self.job().expect("it waits").class().zone.clone();
                let is_in_zone = |job: &JobView<'_>| job.class().zone == zone;
                self.end_leases(|hub| hub.queue().leases_in_zone(&zone), is_in_zone, reason);
            }
            Reason::ZoneFull { .. } => self.set(vec![Setting::LeasesPerZoneMax(u64::MAX)]),
            Reason::HubBytesFull { .. } if by_leases => {
                // A job fits in any case once no other is under lease.
                let leased = self.jobs(|job| matches!(job.state(), State::Leased { .. }));
                leased.into_iter().for_each(|job| self.release(job));
            }
            Reason::HubBytesFull { .. } => self.set(vec![Setting::InflightBytesMax(u64::MAX)]),
            Reason::PreviousRun { job } => self.complete(*job),
            _ => {}
        }
    }

    /// What is named is lifted from the nearest node: all that keeps it, in the way that is named for half of the jobs, or a
    /// new one comes; or a part.
    fn serve(&mut self, lifted: &[Hindrance], way: Way) {
        if self.find_node().is_some() {
            return;
        }
        let are_all = way == Way::AsNamed || self.kept_by.iter().all(|hindrance| lifted.contains(hindrance));
        let kept_by = if are_all { lifted.to_vec() } else { self.kept_by.clone() };
        let is_new = way == Way::AtOnce || self.seq.get().is_multiple_of(3);
        let max = self.hub.limits().leases_per_node_max;
        // No new node has room then.
        if max == 0 && (kept_by.is_empty() || lifted.contains(&Hindrance::Full)) {
            self.set(vec![Setting::LeasesPerNodeMax(1)]);
        }
        let nearest = self.hub.registry().iter().find(|node| self.fits(node) && self.keeps(node, max) == kept_by);
        let nearest = nearest.map(|node| (node.name().clone(), node.index()));
        let Some((node, index)) = nearest.filter(|_| !(are_all && is_new)) else {
            if are_all {
                self.register();
            }
            return;
        };
        for hindrance in lifted {
            match hindrance {
                // To give a lease back would show that the node is there.
                Hindrance::Full if kept_by.contains(&Hindrance::Offline) && !are_all => {
                    let leases = self.hub.queue().leases_of(index).len() as u64;
                    self.set(vec![Setting::LeasesPerNodeMax(leases + 1)]);
                }
                Hindrance::Full => {
                    let leases = self.hub.queue().leases_of(index).to_vec();
                    let count = (leases.len() + 1).saturating_sub(self.hub.limits().leases_per_node_max as usize);
                    leases.into_iter().take(count).for_each(|job| self.release(job));
                }
                Hindrance::Drained => _ = self.apply(Command::Resume(node.clone())),
                Hindrance::Quarantined => _ = self.apply(Command::ClearNode(node.clone())),
                Hindrance::Offline => {
                    self.apply(Command::NodesSeen(vec![index]));
                    self.able = self.hub.registry().by_name(&node).map(heartbeat_of);
                }
            }
        }
    }

    /// What keeps a node from taking jobs, the greatest first.
    fn keeps(&self, node: &Node, leases_max: u64) -> Vec<Hindrance> {
        let mut keeps = Vec::new();
        if node.liveness() != Liveness::Online {
            keeps.push(Hindrance::Offline);
        }
        if node.policy_state() == PolicyState::Quarantined {
            keeps.push(Hindrance::Quarantined);
        }
        if node.drain().is_some() {
            keeps.push(Hindrance::Drained);
        }
        if node.leases() >= leases_max {
            keeps.push(Hindrance::Full);
        }
        keeps
    }

    /// Whether a node has what the job requires.
    fn fits(&self, node: &Node) -> bool {
        let class = self.job().expect("it waits").class();
        *node.zone() == class.zone
            && class.requires.iter().all(|name| node.capabilities().iter().any(|own| own == name))
    }

    /// A node that may take the job now, better one that is online.
    fn find_node(&self) -> Option<Heartbeat> {
        let job = self.job().filter(is_waiting)?;
        let has_room = |node: &&Node| node.leases() < self.hub.limits().leases_per_node_max && node.drain().is_none();
        let is_for = |node: &&Node| job.withheld_from().is_none_or(|(from, _)| from != node.name());
        let able = self.hub.registry().iter().filter(|node| self.fits(node)).filter(has_room).filter(is_for);
        able.max_by_key(|node| node.liveness() == Liveness::Online).map(heartbeat_of)
    }

    fn set_kind(&mut self, kind: &Name, change: impl FnOnce(&mut KindRules)) {
        let mut rules = self.hub.queue().kind_rules(kind).0.clone();
        change(&mut rules);
        self.apply(Command::SetKind(Box::new(SetKind { kind: kind.clone(), rules, expected: None, configured: None })));
    }

    /// Ends leases until there is room for one.
    fn end_leases(&mut self, leased: impl Fn(&Hub) -> u64, is_meant: impl Fn(&JobView<'_>) -> bool, reason: &Reason) {
        let (Reason::KindFull { max, .. } | Reason::HubFull { max, .. } | Reason::ZoneFull { max, .. }) = reason else {
            unreachable!("it is a limit of leases")
        };
        let counts = |job: &JobView<'_>| job.held_by().is_some() || matches!(job.state(), State::Leased { .. });
        for job in self.jobs(|job| counts(job) && is_meant(job)) {
            if leased(&self.hub) < *max {
                return;
            }
            self.release(job);
        }
    }

    /// The node of a lease gives it back.
    fn release(&mut self, seq: JobSeq) {
        let Some((node, lease)) = self.lease_of(seq) else { return };
        self.apply(Command::Release(Release { node, leases: vec![lease] }));
        let is_back = |job: JobView<'_>| is_waiting(&job);
        if self.hub.queue().get(seq).is_some_and(is_back) {
            self.apply(Command::Cancel(seq));
        }
    }

    fn complete(&mut self, job: JobSeq) {
        let Some((node, lease)) = self.lease_of(job) else { return };
        self.apply(Command::Complete(Complete {
            job,
            lease: Some(lease),
            node: Some(node),
            ok: true,
            result: None,
            error: None,
            is_retryable: true,
            mark: ResultMark::Content(0),
            integrity: None,
            retry_after_ms: None,
        }));
    }

    fn lease_of(&self, seq: JobSeq) -> Option<(Name, LeaseRef)> {
        let job = self.hub.queue().get(seq)?;
        let node = match job.state() {
            State::Leased { node, .. } => node,
            _ => job.held_by()?,
        };
        Some((self.hub.registry().get(node)?.name().clone(), job.lease()))
    }
}

fn hindrances_in(reasons: &[Reason]) -> Vec<Hindrance> {
    let kept_by = |reason: &Reason| match reason {
        Reason::NoNode { kept_by, .. } => *kept_by,
        _ => None,
    };
    reasons.iter().filter_map(kept_by).collect()
}

fn heartbeat_of(node: &Node) -> Heartbeat {
    heartbeat(node.name().clone(), node.zone().clone(), node.capabilities().clone())
}

fn heartbeat(node: Name, zone: Zone, capabilities: NameSet) -> Heartbeat {
    Heartbeat {
        node,
        zone,
        capabilities,
        health: Health::Green,
        endpoint: None,
        labels: None,
        attestation: None,
        signing: None,
    }
}
