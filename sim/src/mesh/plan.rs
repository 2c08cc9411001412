//! Plan: what a run is like: who takes part, under which limits, and what goes wrong how often.
//!
//! Each seed draws a plan of its own ("swarm testing", Groce et al. 2012): some faults are gone, some are common, most
//! limits are small, since what is worth seeing happens at their edges. A plan is also a scenario file: what the
//! shrinker writes is the plan of a seed with as little in it as still fails.

use super::fault::{Fault, Per, Rates};
use crate::agenda::{MINUTE, Micros};
use crate::draw::{Draw, Stream};
use crate::scenario::{ScenarioError, between, parsed, wrong};
use serde::{Deserialize, Serialize};
use sheratan_core::limits::Limits;
use sheratan_core::{KindRules, Millis};
use std::collections::BTreeMap;
use std::fmt;

/// Minutes of chaos of a run that does not say.
pub const MINUTES_DEFAULT: u64 = 2;

/// Minutes of chaos at most: a year.
pub const MINUTES_MAX: u64 = 366 * 24 * 60;

/// Nodes or clients at most: each has connections, and an address of its own.
const ACTORS_MAX: u64 = 10_000;

/// What a run is like.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// The seed of all chance in the run.
    pub seed: u64,
    /// Minutes of chaos.
    pub minutes: u64,
    /// Nodes that take part.
    pub nodes: u64,
    /// Connections that submit.
    pub clients: u64,
    /// Zones; each has a node that can do everything.
    pub zones: u64,
    /// Submits a minute.
    pub submits_per_min: u64,
    /// Submits with an idempotency key, out of a hundred.
    pub keyed_percent: u64,
    /// Submits with a time to live, out of a hundred.
    pub ttl_percent: u64,
    /// Milliseconds between two heartbeats of a node.
    pub heartbeat_ms: u64,
    /// Jobs that a node takes at once.
    pub slots: u64,
    /// How long a pull waits for jobs.
    pub pull_wait_ms: u64,
    /// Milliseconds that most jobs take, at most.
    pub work_ms: u64,
    /// Milliseconds that a message takes at least, and how much more it may take.
    pub latency_ms: [u64; 2],
    /// Microseconds that the disk takes for a batch.
    pub commit_us: u64,
    /// Bytes of a journal's segment.
    pub segment_bytes: u64,
    /// Whether results need a checksum.
    pub is_integrity_required: bool,
    /// The hub's limits.
    pub limits: PlanLimits,
    /// Traffic beyond one submit, one pull and one result at a time.
    #[serde(default)]
    pub traffic: PlanTraffic,
    /// An operator who acts on jobs, kinds and nodes.
    #[serde(default)]
    pub operator: PlanOperator,
    /// What workers do beside completing and failing jobs.
    #[serde(default)]
    pub workers: PlanWorkers,
    /// What the hub's configuration says of kinds.
    #[serde(default)]
    pub kinds: BTreeMap<String, PlanKind>,
    /// What it says of them at each second start, if that is something else.
    #[serde(default)]
    pub kinds_later: BTreeMap<String, PlanKind>,
    /// How often each fault comes: out of ten thousand, or an hour.
    pub faults: Rates,
}

/// Traffic beyond one submit, one pull and one result at a time. What is zero is absent.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PlanTraffic {
    /// Who reads jobs.
    pub readers: u64,
    /// Reads a minute of each.
    pub reads_per_min: u64,
    /// How long a reader waits for a job's end, at most.
    pub read_wait_ms: u64,
    /// Reads with which a page of the audit log is read, out of a hundred.
    pub audit_percent: u64,
    /// Submits and results of one request, at most.
    pub batch_max: u64,
    /// Members of a batch that are none, out of a hundred.
    pub faulty_percent: u64,
    /// Results that come with a pull, out of a hundred.
    pub then_pull_percent: u64,
    /// Requests that an actor sends on one connection before the first reply, at most.
    pub pipeline_max: u64,
    /// Who listens to what happens.
    pub listeners: u64,
    /// Listeners that do not read, out of a hundred.
    pub deaf_percent: u64,
    /// Bytes of a stream that may wait; the default if zero.
    pub stream_bytes_max: u64,
}

impl PlanTraffic {
    fn check(&self) -> Result<(), (&'static str, String)> {
        between("readers", self.readers, 0, ACTORS_MAX)?;
        between("reads_per_min", self.reads_per_min, 0, 60_000)?;
        // The hub's limits of a wait, of a batch and of listeners.
        between("read_wait_ms", self.read_wait_ms, 0, 60_000)?;
        between("audit_percent", self.audit_percent, 0, 100)?;
        between("batch_max", self.batch_max, 0, 1_000)?;
        between("faulty_percent", self.faulty_percent, 0, 99)?;
        between("then_pull_percent", self.then_pull_percent, 0, 100)?;
        between("pipeline_max", self.pipeline_max, 0, 1_000)?;
        between("listeners", self.listeners, 0, 64)?;
        between("deaf_percent", self.deaf_percent, 0, 100)?;
        between("stream_bytes_max", self.stream_bytes_max, 0, 1 << 30)
    }
}

/// An operator who acts on jobs, kinds and nodes. What is zero is absent.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PlanOperator {
    /// Acts a minute.
    pub acts_per_min: u64,
}

/// What workers do beside completing and failing jobs, out of a hundred jobs. What is zero is absent.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PlanWorkers {
    /// Jobs that are given back.
    pub release_percent: u64,
    /// Jobs that fail, and no retry will help.
    pub hopeless_percent: u64,
    /// Failures that say when to retry.
    pub retry_after_percent: u64,
    /// Extensions with progress and a note.
    pub told_percent: u64,
    /// Jobs that are extended for ever.
    pub endless_percent: u64,
}

/// The hub's limits, by the names of its configuration.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlanLimits {
    /// Jobs that wait.
    pub max_queue_depth: u64,
    /// Jobs under lease.
    pub max_inflight: u64,
    /// Jobs under lease at one node.
    pub max_leases_per_node: u64,
    /// How long a lease lasts.
    pub lease_ms: u64,
    /// Attempts of a job.
    pub max_attempts: u32,
    /// The first retry's delay.
    pub backoff_base_ms: u64,
    /// A node is stale after so long.
    pub node_ttl_ms: u64,
    /// A node is dead after so long.
    pub node_dead_ms: u64,
    /// How long final jobs stay readable.
    pub job_retention_ms: u64,
    /// How many final jobs stay readable.
    pub retained_jobs_max: u64,
    /// How many dead jobs stay readable.
    #[serde(default = "dead_jobs_max")]
    pub dead_jobs_max: u64,
    /// How long a key lives after its job's end.
    pub idempotency_ttl_ms: u64,
    /// Keys held.
    pub idempotency_keys_max: u64,
    /// A spent key that is younger makes no room for another.
    #[serde(default = "idempotency_floor_ms")]
    pub idempotency_floor_ms: u64,
    /// Who take turns: zones (0), clients (1) or kinds (2).
    #[serde(default)]
    pub fair_by: u32,
    /// How long a job waits until it counts as one of the next priority; 0: for ever.
    #[serde(default)]
    pub priority_age_ms: u64,
    /// How many results of unknown jobs are kept.
    #[serde(default = "orphans_max")]
    pub orphans_max: u64,
}

/// What the hub's configuration says of a kind. What is zero is absent.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PlanKind {
    /// Dead letters of the kind.
    pub max_letters: u64,
    /// How long an attempt may take.
    pub max_run_ms: u64,
}

impl PlanKind {
    /// The core's rules.
    pub fn to_core(&self) -> KindRules {
        let some = |number: u64| (number > 0).then_some(number);
        KindRules {
            letters_max: some(self.max_letters),
            max_run_ms: some(self.max_run_ms).map(Millis::new),
            ..KindRules::NONE
        }
    }
}

impl PlanLimits {
    /// The core's limits.
    pub fn to_core(&self) -> Limits {
        Limits {
            queue_depth_max: self.max_queue_depth,
            inflight_max: self.max_inflight,
            leases_per_node_max: self.max_leases_per_node,
            lease_duration_ms: Millis::new(self.lease_ms),
            attempts_max: self.max_attempts,
            retry_delay_ms_base: Millis::new(self.backoff_base_ms),
            node_ttl_ms: Millis::new(self.node_ttl_ms),
            node_dead_ms: Millis::new(self.node_dead_ms),
            job_retention_ms: Millis::new(self.job_retention_ms),
            retained_jobs_max: self.retained_jobs_max,
            dead_jobs_max: self.dead_jobs_max,
            idempotency_ttl_ms: Millis::new(self.idempotency_ttl_ms),
            idempotency_keys_max: self.idempotency_keys_max,
            idempotency_floor_ms: Millis::new(self.idempotency_floor_ms),
            fair_by: self.fair_by,
            priority_age_ms: Millis::new(self.priority_age_ms),
            orphans_max: self.orphans_max,
            ..Limits::default()
        }
    }
}

impl Plan {
    /// The plan of a seed.
    pub fn of(seed: u64, minutes: u64) -> Self {
        let draw = &mut Draw::new(seed, Stream::Plan);
        let lease_ms = *draw.pick(&[2_000, 5_000, 20_000, 60_000]);
        let heartbeat_ms = *draw.pick(&[2_000, 5_000, 10_000, 30_000]);
        let limits = PlanLimits {
            max_queue_depth: *draw.pick(&[5, 20, 100, 100_000]),
            max_inflight: *draw.pick(&[3, 20, 10_000]),
            max_leases_per_node: *draw.pick(&[1, 3, 1_000]),
            lease_ms,
            max_attempts: *draw.pick(&[1, 3, 5, 20]),
            backoff_base_ms: *draw.pick(&[1, 500, 5_000]),
            node_ttl_ms: heartbeat_ms * draw.between(2, 12),
            node_dead_ms: heartbeat_ms * draw.between(13, 60),
            job_retention_ms: *draw.pick(&[10_000, 120_000, 86_400_000]),
            retained_jobs_max: *draw.pick(&[3, 50, 1_000_000]),
            dead_jobs_max: dead_jobs_max(),
            idempotency_ttl_ms: *draw.pick(&[20_000, 86_400_000]),
            idempotency_keys_max: *draw.pick(&[20, 1_000_000]),
            idempotency_floor_ms: idempotency_floor_ms(),
            fair_by: 0,
            priority_age_ms: 0,
            orphans_max: orphans_max(),
        };
        let nodes = *draw.pick(&[1, 2, 3, 5, 10, 25, 50]);
        let slots = *draw.pick(&[1, 1, 3, 8]);
        let mut plan = Plan {
            seed,
            minutes,
            nodes,
            clients: draw.between(1, 6),
            zones: draw.between(1, 2).min(nodes),
            submits_per_min: *draw.pick(&[6, 30, 60, 120]),
            keyed_percent: *draw.pick(&[0, 50, 100]),
            ttl_percent: *draw.pick(&[0, 0, 20, 60]),
            heartbeat_ms,
            slots,
            pull_wait_ms: *draw.pick(&[0, 1_000, 20_000, 30_000]),
            work_ms: *draw.pick(&[5, 500, 3_000, 10_000]),
            latency_ms: *draw.pick(&[[0, 1], [0, 20], [1, 5], [20, 200]]),
            commit_us: *draw.pick(&[50, 1_000, 10_000]),
            // The header takes 4 KiB: some ten records to more than a hundred.
            segment_bytes: *draw.pick(&[5 << 10, 8 << 10, 16 << 10, 64 << 10]),
            is_integrity_required: draw.chance(500),
            limits,
            traffic: PlanTraffic::default(),
            operator: PlanOperator::default(),
            workers: PlanWorkers::default(),
            kinds: BTreeMap::new(),
            kinds_later: BTreeMap::new(),
            faults: faults(draw),
        };
        plan.traffic = traffic(draw);
        operate(&mut plan);
        plan.limits.dead_jobs_max = *draw.pick(&[2, 20, dead_jobs_max()]);
        plan.limits.idempotency_floor_ms = *draw.pick(&[0, 5_000, idempotency_floor_ms()]);
        plan
    }

    /// The plan that a file describes.
    pub fn parse(text: &str) -> Result<Self, ScenarioError> {
        let plan: Plan = parsed(text)?;
        plan.check().map_err(|(member, reason)| wrong(text, member, reason))?;
        Ok(plan)
    }

    /// The first member that no run can be made of, and why.
    fn check(&self) -> Result<(), (&'static str, String)> {
        between("minutes", self.minutes, 0, MINUTES_MAX)?;
        between("nodes", self.nodes, 1, ACTORS_MAX)?;
        between("clients", self.clients, 1, ACTORS_MAX)?;
        between("zones", self.zones, 1, self.nodes)?;
        between("keyed_percent", self.keyed_percent, 0, 100)?;
        between("ttl_percent", self.ttl_percent, 0, 100)?;
        between("heartbeat_ms", self.heartbeat_ms, 1, 3_600_000)?;
        self.traffic.check()?;
        between("acts_per_min", self.operator.acts_per_min, 0, 6_000)?;
        let PlanWorkers { release_percent, hopeless_percent, retry_after_percent, told_percent, endless_percent } =
            self.workers;
        between("release_percent", release_percent, 0, 100)?;
        between("hopeless_percent", hopeless_percent, 0, 100)?;
        between("retry_after_percent", retry_after_percent, 0, 100)?;
        between("told_percent", told_percent, 0, 100)?;
        between("endless_percent", endless_percent, 0, 100)?;
        for (fault, rate) in &self.faults {
            let (last, of) = match fault.per() {
                Per::TenThousand => (10_000, "out of ten thousand"),
                Per::Hour => (3_600, "an hour"),
            };
            between(fault.name(), u64::from(*rate), 0, last).map_err(|(name, why)| (name, format!("{why} {of}")))?;
        }
        Ok(())
    }

    /// What the configuration says of kinds at a start; the first one's number is 0.
    pub fn kinds_of(&self, start_number: u64) -> &BTreeMap<String, PlanKind> {
        let is_later = start_number % 2 == 1 && !self.kinds_later.is_empty();
        if is_later { &self.kinds_later } else { &self.kinds }
    }

    /// How long the chaos lasts.
    pub fn chaos_us(&self) -> Micros {
        self.minutes * MINUTE
    }

    /// How often a fault comes.
    pub fn rate(&self, fault: Fault) -> u64 {
        u64::from(self.faults.get(&fault).copied().unwrap_or(0))
    }
}

fn dead_jobs_max() -> u64 {
    Limits::default().dead_jobs_max
}

fn orphans_max() -> u64 {
    Limits::default().orphans_max
}

fn idempotency_floor_ms() -> u64 {
    Limits::default().idempotency_floor_ms.get()
}

/// Each kind of traffic is gone in half of the runs.
fn traffic(draw: &mut Draw) -> PlanTraffic {
    let mut traffic = PlanTraffic::default();
    if draw.chance(500) {
        traffic.readers = draw.between(1, 3);
        traffic.reads_per_min = *draw.pick(&[6, 30, 120]);
        traffic.read_wait_ms = *draw.pick(&[0, 2_000, 20_000, 60_000]);
    }
    if draw.chance(500) {
        traffic.batch_max = *draw.pick(&[2, 5, 30]);
        traffic.faulty_percent = *draw.pick(&[0, 0, 10]);
    }
    if draw.chance(400) {
        traffic.then_pull_percent = *draw.pick(&[20, 100]);
    }
    if draw.chance(500) {
        traffic.pipeline_max = *draw.pick(&[2, 4, 40]);
    }
    if draw.chance(400) {
        traffic.listeners = draw.between(1, 3);
        traffic.deaf_percent = *draw.pick(&[0, 0, 50]);
        traffic.stream_bytes_max = *draw.pick(&[0, 4 << 10]);
    }
    if traffic.readers > 0 {
        traffic.audit_percent = *draw.pick(&[0, 10, 50]);
    }
    traffic
}

/// Half of the runs have an operator who acts, and workers who do all that workers may. Drawn from a stream of its own: without one a run is as it was before.
fn operate(plan: &mut Plan) {
    let draw = &mut Draw::new(plan.seed, Stream::AdminPlan);
    if !draw.chance(500) {
        return;
    }
    plan.operator = PlanOperator { acts_per_min: *draw.pick(&[6, 30, 120]) };
    plan.workers = PlanWorkers {
        release_percent: *draw.pick(&[0, 5, 30]),
        hopeless_percent: *draw.pick(&[0, 10, 50]),
        retry_after_percent: *draw.pick(&[0, 50]),
        told_percent: *draw.pick(&[0, 50]),
        endless_percent: *draw.pick(&[0, 5]),
    };
    plan.limits.fair_by = *draw.pick(&[0, 0, 1, 2]);
    plan.limits.priority_age_ms = *draw.pick(&[0, 0, 1_000, 60_000]);
    plan.limits.orphans_max = *draw.pick(&[0, 2, orphans_max()]);
    plan.kinds = kinds(draw);
    if draw.chance(500) {
        plan.kinds_later = kinds(draw);
    }
}

fn kinds(draw: &mut Draw) -> BTreeMap<String, PlanKind> {
    let rules = ["k0", "k1"].map(|kind| {
        let rules = PlanKind { max_letters: *draw.pick(&[0, 1, 3]), max_run_ms: *draw.pick(&[0, 0, 4_000, 60_000]) };
        (kind.to_owned(), rules)
    });
    rules.into_iter().filter(|(_, rules)| *rules != PlanKind::default()).collect()
}

/// A third of the faults is gone in a run, the rest has rates of different orders.
fn faults(draw: &mut Draw) -> Rates {
    let mut rates = Rates::new();
    if draw.chance(30) {
        // Without any fault nothing must go wrong either.
        return rates;
    }
    for fault in Fault::ALL {
        let rate = match fault.per() {
            Per::TenThousand => *draw.pick(&[0, 0, 0, 10, 50, 200, 1_000]),
            Per::Hour => *draw.pick(&[0, 0, 0, 6, 12, 30, 60]),
        };
        if rate > 0 {
            rates.insert(*fault, rate);
        }
    }
    rates
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&toml::to_string(self).expect("a plan is plain data"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_reads_back_as_it_was_written() {
        for seed in 0..20 {
            let plan = Plan::of(seed, 3);
            assert_eq!(toml::from_str::<Plan>(&plan.to_string()), Ok(plan));
        }
    }

    #[test]
    fn faults_are_called_alike_in_files_and_reports() {
        for fault in Fault::ALL {
            let text = serde_json::to_string(fault).expect("a name");
            assert_eq!(text, format!("\"{}\"", fault.name()));
        }
    }
}
