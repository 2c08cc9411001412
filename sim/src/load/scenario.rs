//! Scenario: the parameters of a run under load, read from TOML.
//!
//! The first line of a file is a comment that says what the scenario shows. Names of limits are those of `hub.toml`.
//! Unknown members are refused, and every error names its line.

use super::arrivals::Rate;
use crate::scenario::{ScenarioError, between, parsed, wrong};
use serde::Deserialize;
use sheratan_core::Millis;
use sheratan_core::limits::{Limits, PULL_JOBS_MAX};

/// Entries of one submit that the hub accepts.
const BATCH_MAX: u64 = 1_000;

/// The parameters of a run.
#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// The first line of the file, without its `#`.
    #[serde(skip)]
    pub shows: String,
    /// How long the run lasts, in virtual seconds.
    pub seconds: u64,
    /// The times that the hub's machine takes.
    #[serde(default)]
    pub hub: HubCosts,
    /// The operator's limits.
    #[serde(default)]
    pub limits: LimitsAsked,
    /// The jobs that are submitted.
    pub arrivals: Option<Arrivals>,
    /// What the jobs are like.
    #[serde(default)]
    pub jobs: Jobs,
    /// The nodes that run them.
    pub nodes: Nodes,
    /// When the hub cannot be reached.
    pub outage: Option<Outage>,
}

/// The times that the hub's machine takes.
#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HubCosts {
    /// The thread's time for a request.
    pub request_us: u64,
    /// The thread's time for each job or result in it.
    pub entry_us: u64,
    /// One group commit.
    pub commit_us: u64,
    /// One way through the network.
    pub network_us: u64,
}

impl Default for HubCosts {
    /// About what `docs/benchmarks.md` measured on a laptop's disk.
    fn default() -> Self {
        HubCosts { request_us: 10, entry_us: 4, commit_us: 2_000, network_us: 250 }
    }
}

/// Limits that differ from the hub's defaults.
#[derive(Clone, PartialEq, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LimitsAsked {
    /// Jobs that wait.
    pub max_queue_depth: Option<u64>,
    /// Bytes that wait.
    pub max_queue_bytes: Option<u64>,
    /// Jobs under lease.
    pub max_inflight: Option<u64>,
    /// Nodes that may be known.
    pub max_nodes: Option<u64>,
    /// Jobs under lease at one node.
    pub max_leases_per_node: Option<u64>,
    /// How long a lease lasts.
    pub lease_timeout_sec: Option<u64>,
    /// Attempts of a job.
    pub retry_max_attempts: Option<u32>,
    /// The first retry's delay.
    pub retry_backoff_base_ms: Option<u64>,
    /// The longest one's.
    pub retry_backoff_cap_ms: Option<u64>,
    /// How long a final job stays readable.
    pub job_retention_sec: Option<u64>,
    /// How many final jobs stay readable.
    pub retained_jobs_max: Option<u64>,
    /// Keys that are remembered.
    pub idempotency_store_max_items: Option<u64>,
    /// Whose jobs take turns.
    pub fair_by: Option<FairBy>,
    /// When a waiting job counts one priority higher.
    pub priority_age_sec: Option<u64>,
}

/// Whose jobs take turns.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FairBy {
    /// All wait in one order.
    None,
    /// Those of a client.
    Client,
}

/// A priority, as clients name it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Priority {
    /// Before jobs of the default priority.
    High,
    /// After all others.
    Low,
}

impl Priority {
    /// Its name in a request.
    pub fn name(self) -> &'static str {
        match self {
            Priority::High => "high",
            Priority::Low => "low",
        }
    }
}

/// Which jobs are submitted, and how.
#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Arrivals {
    /// Jobs per second, over time.
    pub rate: Rate,
    /// No job is submitted after this.
    pub until_sec: Option<u64>,
    /// The most jobs that are submitted.
    pub jobs_max: Option<u64>,
    /// Jobs of one request.
    #[serde(default = "one")]
    pub batch: u64,
    /// Connections of clients.
    #[serde(default = "fifty")]
    pub clients: u64,
    /// Whether each job has an idempotency key.
    #[serde(default)]
    pub keys: bool,
    /// Jobs in a thousand that are a quiet client's; all others are a noisy one's. Without it no client is named.
    pub quiet_permille: Option<u64>,
    /// The priority of the quiet client's jobs, if not the default.
    pub quiet_priority: Option<Priority>,
    /// How often each job is submitted, all at once; more than once with keys only.
    #[serde(default = "one")]
    pub copies: u64,
    /// How often a refused job is tried again.
    #[serde(default)]
    pub tries_max: u32,
    /// The delay of the first retry.
    #[serde(default = "thousand")]
    pub retry_ms: u64,
    /// The factor by which the delay grows each time.
    #[serde(default = "one")]
    pub retry_factor: u64,
    /// How long a client waits for a reply before it sends again, on a new connection; for ever if absent.
    pub timeout_ms: Option<u64>,
}

/// What the jobs are like.
#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Jobs {
    /// How long one takes.
    pub time: Duration,
    /// Attempts in a thousand that fail.
    pub fail_permille: u64,
    /// Jobs in a thousand that kill their worker.
    pub poison_permille: u64,
    /// Bytes of params beside what the simulator itself needs.
    pub params_bytes: u64,
}

impl Default for Jobs {
    fn default() -> Self {
        Jobs { time: Duration::Constant { ms: 100 }, fail_permille: 0, poison_permille: 0, params_bytes: 0 }
    }
}

/// A distribution of times.
#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(tag = "shape", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Duration {
    /// Always the same.
    Constant {
        /// How long.
        ms: u64,
    },
    /// Any in a range.
    Uniform {
        /// The shortest.
        min_ms: u64,
        /// The longest.
        max_ms: u64,
    },
    /// Many short and few long ones.
    Exponential {
        /// Their mean.
        mean_ms: u64,
        /// The longest.
        max_ms: u64,
    },
}

/// The nodes.
#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Nodes {
    /// How many.
    pub count: u64,
    /// Jobs that one does at once; 0 only sends heartbeats.
    pub slots: u64,
    /// From one heartbeat to the next.
    #[serde(default = "ten_thousand")]
    pub heartbeat_ms: u64,
    /// How they pull.
    #[serde(default)]
    pub pull: PullStyle,
    /// Nodes in a thousand that are slow.
    #[serde(default)]
    pub slow_permille: u64,
    /// How many times as long a slow one takes.
    #[serde(default = "one")]
    pub slow_factor: u64,
    /// How long one that died is away.
    #[serde(default = "thousand")]
    pub restart_ms: u64,
    /// No node asks for jobs before this.
    #[serde(default)]
    pub from_sec: u64,
    /// Nodes that are taken out of service one after the other, and restarted.
    pub rolling_drain: Option<RollingDrain>,
}

/// How nodes are taken out of service.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RollingDrain {
    /// From one node to the next.
    pub every_sec: u64,
    /// How long their leases may be extended.
    pub deadline_sec: u64,
}

/// How nodes ask for jobs.
#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(tag = "style", rename_all = "kebab-case", deny_unknown_fields)]
pub enum PullStyle {
    /// A request that waits at the hub.
    Wait {
        /// For so long.
        ms: u64,
    },
    /// A request every so often.
    Every {
        /// How often.
        ms: u64,
    },
}

impl Default for PullStyle {
    fn default() -> Self {
        PullStyle::Wait { ms: 30_000 }
    }
}

/// When the hub cannot be reached: all connections are cut at its beginning, and reopened at its end.
#[derive(Clone, Copy, PartialEq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Outage {
    /// Its beginning.
    pub from_sec: u64,
    /// How long it lasts.
    pub for_sec: u64,
}

const fn one() -> u64 {
    1
}

const fn fifty() -> u64 {
    50
}

const fn thousand() -> u64 {
    1_000
}

const fn ten_thousand() -> u64 {
    10_000
}

impl Scenario {
    /// The scenario that a text describes.
    pub fn parse(text: &str) -> Result<Self, ScenarioError> {
        let first = text.lines().next().and_then(|line| line.strip_prefix('#')).map(str::trim).unwrap_or_default();
        if first.is_empty() {
            let reason = "the first line must be a comment that says what the scenario shows".to_owned();
            return Err(ScenarioError { line: 1, reason });
        }
        let mut scenario: Scenario = parsed(text)?;
        scenario.shows = first.to_owned();
        scenario.check().map_err(|(member, reason)| wrong(text, member, reason))?;
        Ok(scenario)
    }

    /// The same load at another size: so many times the nodes, clients, jobs and places in the queue, on a hub that is
    /// as many times as fast. Times stay as they are, and so does the curve.
    pub fn scaled(&self, factor: f64) -> Self {
        let size = |n: u64| if n == 0 { 0 } else { ((n as f64 * factor).round() as u64).max(1) };
        let cost = |us: u64| (us as f64 / factor).round() as u64;
        let mut scaled = self.clone();
        scaled.nodes.count = size(self.nodes.count);
        scaled.hub.request_us = cost(self.hub.request_us);
        scaled.hub.entry_us = cost(self.hub.entry_us);
        let limits = &mut scaled.limits;
        for limit in [&mut limits.max_queue_depth, &mut limits.max_queue_bytes, &mut limits.max_inflight] {
            *limit = limit.map(size);
        }
        if let Some(arrivals) = &mut scaled.arrivals {
            arrivals.rate = arrivals.rate.scaled(factor);
            arrivals.clients = size(arrivals.clients);
            arrivals.jobs_max = arrivals.jobs_max.map(size);
        }
        scaled
    }

    /// The operator's limits.
    pub fn limits(&self) -> Limits {
        let mut limits = Limits::default();
        let asked = &self.limits;
        let numbers = [
            (&mut limits.queue_depth_max, asked.max_queue_depth),
            (&mut limits.queue_bytes_max, asked.max_queue_bytes),
            (&mut limits.inflight_max, asked.max_inflight),
            (&mut limits.leases_per_node_max, asked.max_leases_per_node),
            (&mut limits.nodes_max, asked.max_nodes),
            (&mut limits.retained_jobs_max, asked.retained_jobs_max),
            (&mut limits.idempotency_keys_max, asked.idempotency_store_max_items),
        ];
        for (limit, asked) in numbers {
            *limit = asked.unwrap_or(*limit);
        }
        let times = [
            (&mut limits.lease_duration_ms, asked.lease_timeout_sec.map(Millis::from_secs)),
            (&mut limits.retry_delay_ms_base, asked.retry_backoff_base_ms.map(Millis::new)),
            (&mut limits.retry_delay_ms_cap, asked.retry_backoff_cap_ms.map(Millis::new)),
            (&mut limits.job_retention_ms, asked.job_retention_sec.map(Millis::from_secs)),
        ];
        for (limit, asked) in times {
            *limit = asked.unwrap_or(*limit);
        }
        limits.fair_by = u32::from(asked.fair_by == Some(FairBy::Client));
        limits.priority_age_ms = Millis::from_secs(asked.priority_age_sec.unwrap_or(0));
        limits.attempts_max = asked.retry_max_attempts.unwrap_or(limits.attempts_max);
        limits
    }

    /// The first member that cannot be so, and why.
    fn check(&self) -> Result<(), (&'static str, String)> {
        between("seconds", self.seconds, 1, 7 * 86_400)?;
        between("count", self.nodes.count, 0, 10_000_000)?;
        between("slots", self.nodes.slots, 0, u64::from(PULL_JOBS_MAX))?;
        between("heartbeat_ms", self.nodes.heartbeat_ms, 100, 3_600_000)?;
        between("slow_permille", self.nodes.slow_permille, 0, 1_000)?;
        between("fail_permille", self.jobs.fail_permille, 0, 1_000)?;
        between("poison_permille", self.jobs.poison_permille, 0, 1_000)?;
        between("params_bytes", self.jobs.params_bytes, 0, 100_000)?;
        if let Some(drain) = self.nodes.rolling_drain {
            between("rolling_drain", drain.every_sec, drain.deadline_sec + 3, 3_600)?;
        }
        match self.nodes.pull {
            PullStyle::Wait { ms } => between("pull", ms, 1, 60_000)?,
            PullStyle::Every { ms } => between("pull", ms, 1, 3_600_000)?,
        }
        match self.jobs.time {
            Duration::Constant { .. } => {}
            Duration::Uniform { min_ms, max_ms } => between("time", min_ms, 0, max_ms)?,
            Duration::Exponential { mean_ms, max_ms } => between("time", mean_ms, 0, max_ms)?,
        }
        if let Some(arrivals) = &self.arrivals {
            between("batch", arrivals.batch, 1, BATCH_MAX)?;
            between("clients", arrivals.clients, 1, 1_000_000)?;
            between("quiet_permille", arrivals.quiet_permille.unwrap_or(0), 0, 1_000)?;
            between("retry_factor", arrivals.retry_factor, 1, 10)?;
            arrivals.rate.check().map_err(|reason| ("rate", reason))?;
            // What is sent again without a key may be two jobs.
            if !arrivals.keys && (self.outage.is_some() || arrivals.timeout_ms.is_some() || arrivals.copies > 1) {
                let reason =
                    "keys must be true where jobs are sent again: an outage, a timeout_ms, or copies".to_owned();
                return Err(("arrivals", reason));
            }
        }
        if let Some(outage) = &self.outage {
            between("for_sec", outage.from_sec + outage.for_sec, outage.from_sec + 1, self.seconds - 1)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODES: &str = "[nodes]\ncount = 3\nslots = 1\n";

    fn line_and_reason(text: &str) -> (usize, String) {
        let error = Scenario::parse(text).expect_err("the text is no scenario");
        (error.line, error.reason)
    }

    #[test]
    fn an_error_names_the_line_and_what_is_wrong_with_it() {
        let table = [
            (format!("seconds = 3\n{NODES}"), 1, "the first line must be a comment"),
            (format!("# It.\nseconds = 3\nminutes = 4\n{NODES}"), 3, "unknown field `minutes`"),
            (format!("# It.\nseconds = \"long\"\n{NODES}"), 2, "expected u64"),
            (format!("# It.\nseconds = 0\n{NODES}"), 2, "seconds must be from 1 to 604800, not 0"),
            (format!("# It.\nseconds = 1\n{NODES}pull = {{ style = \"often\" }}\n"), 6, "unknown variant `often`"),
            (format!("# It.\nseconds = 1\n{NODES}pull = {{ style = \"wait\", ms = 99999 }}\n"), 6, "from 1 to 60000"),
            (format!("# It.\nseconds = 1\n[limits]\nmax_depth = 1\n{NODES}"), 4, "unknown field `max_depth`"),
            (format!("# It.\nseconds = [\n{NODES}"), 4, "missing comma"),
        ];
        for (text, line, reason) in table {
            let found = line_and_reason(&text);
            assert_eq!(found.0, line, "{text}\n{found:?}");
            assert!(found.1.contains(reason), "{text}\n{found:?}");
        }
    }

    #[test]
    fn jobs_without_keys_are_not_sent_where_replies_may_be_lost() {
        let text = format!(
            "# It.\nseconds = 9\n{NODES}\n[arrivals]\nrate = {{ shape = \"constant\", per_sec = 1 }}\ntimeout_ms = 5\n"
        );
        let (line, reason) = line_and_reason(&text);
        assert_eq!(line, 7);
        assert!(reason.starts_with("keys must be true"), "{reason}");
        Scenario::parse(&text.replace("timeout_ms = 5", "timeout_ms = 5\nkeys = true")).expect("now it is one");
    }

    #[test]
    fn a_smaller_scenario_has_fewer_nodes_on_a_slower_hub() {
        let scenario =
            Scenario::parse(&format!("# It.\nseconds = 9\n[limits]\nmax_queue_depth = 50\n{NODES}")).unwrap();
        let half = scenario.scaled(0.5);
        assert_eq!((half.nodes.count, half.hub.request_us, half.hub.commit_us), (2, 20, 2_000));
        assert_eq!(half.limits().queue_depth_max, 25);
        assert_eq!(half.limits().queue_bytes_max, Limits::default().queue_bytes_max);
    }
}
