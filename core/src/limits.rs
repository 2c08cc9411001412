//! Limits: what a hub holds at most and how long it waits, in one place.
//!
//! [`Limits`] are the operator's settings. They are part of the durable state (a change is a command in the journal), so
//! a replay decides as the hub did, and "what if" is the same journal under other limits. The constants are the
//! program's own bounds.

use crate::time::Millis;
use serde::{Deserialize, Serialize};

/// The operator's limits, with the defaults of the wire contract.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Limits {
    /// Jobs that wait (queued or scheduled); one more is refused with `backpressure`.
    pub queue_depth_max: u64,
    /// Bytes of payload that wait; beyond it a submit is refused with `backpressure`.
    pub queue_bytes_max: u64,
    /// Jobs under lease in the whole hub; at it a pull gets no jobs and a `defer_ms`.
    pub inflight_max: u64,
    /// Jobs under lease at one node; at it that node's pull gets no jobs and a `defer_ms`.
    pub leases_per_node_max: u64,
    /// How long a lease lasts when neither the job nor the pull says.
    pub lease_duration_ms: Millis,
    /// Attempts of a job that does not say.
    pub attempts_max: u32,
    /// The first retry's delay.
    pub retry_delay_ms_base: Millis,
    /// The longest retry delay.
    pub retry_delay_ms_cap: Millis,
    /// A node is stale when it was last seen this long ago.
    pub node_ttl_ms: Millis,
    /// A node is dead when it was last seen this long ago.
    pub node_dead_ms: Millis,
    /// How long a final job stays readable.
    pub job_retention_ms: Millis,
    /// How many final jobs stay readable.
    pub retained_jobs_max: u64,
    /// How many bytes of final jobs stay readable.
    pub retained_bytes_max: u64,
    /// How long an idempotency key is remembered after its job became final.
    pub idempotency_ttl_ms: Millis,
    /// The largest result that is remembered with a key beyond its job's retention.
    pub idempotency_cached_bytes_max: u64,
    /// Idempotency keys held; when all of them belong to jobs that are not final, one more is refused.
    pub idempotency_keys_max: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            queue_depth_max: 100_000,
            queue_bytes_max: 1 << 30,
            inflight_max: 10_000,
            leases_per_node_max: 1_000,
            lease_duration_ms: Millis::from_secs(300),
            attempts_max: 5,
            retry_delay_ms_base: Millis::new(500),
            retry_delay_ms_cap: Millis::new(15_000),
            node_ttl_ms: Millis::from_secs(120),
            node_dead_ms: Millis::from_secs(600),
            job_retention_ms: Millis::from_secs(86_400),
            retained_jobs_max: 1_000_000,
            retained_bytes_max: 1 << 30,
            idempotency_ttl_ms: Millis::from_secs(86_400),
            idempotency_cached_bytes_max: 16_384,
            idempotency_keys_max: 1_000_000,
        }
    }
}

/// Nodes known at once, unless the operator says otherwise. A record is about 500 bytes: 50 MB.
pub const NODES_MAX: u64 = 100_000;

/// A dead node without leases is forgotten after a week: longer than any holiday of a laptop that comes back.
pub const NODE_FORGET_MS: Millis = Millis::from_secs(7 * 86_400);

/// Distinct (zone, requirements) pairs with unfinished jobs. A pull looks at each once: 1,024 take about 20 µs.
pub const CLASSES_MAX: usize = 1_024;

/// Jobs that one pull may lease.
pub const PULL_JOBS_MAX: u32 = 1_000;

/// Kinds that one pull may name.
pub const PULL_KINDS_MAX: usize = 64;

/// Long polls parked at once: one per connection that the shell may hold.
pub const WAITERS_MAX: usize = 65_536;

/// Attempts that a job may ask for. Each leaves a record of about 64 bytes on the job.
pub const ATTEMPTS_MAX: u32 = 100;

/// Bytes of an attempt's error that stay in the job's history; a longer one is kept only as the final job's own error.
pub const ATTEMPT_ERROR_BYTES_MAX: usize = 4_096;

/// Bytes of a node id, kind, zone, capability or idempotency key. Ids appear in logs and paths; nobody's is longer.
pub const NAME_BYTES_MAX: usize = 256;

/// Capabilities of a node, and requirements of a job.
pub const CAPABILITIES_MAX: usize = 64;

/// The longest lease and the longest long-lived promise to a client: a day.
pub const LEASE_DURATION_MAX: Millis = Millis::from_secs(86_400);

/// The shortest lease: below a second a lease ends before its answer has crossed a slow network.
pub const LEASE_DURATION_MIN: Millis = Millis::from_secs(1);

/// What a saturated pull is told to wait: half a second keeps 1,000 nodes at 2,000 requests a second.
pub const DEFER_MS: Millis = Millis::new(500);

/// What a refused submit is told to wait.
pub const BACKPRESSURE_RETRY_MS: Millis = Millis::new(1_000);

/// Addresses whose authentication failures are counted; the one that failed longest ago makes room.
pub const GUARDED_ADDRESSES_MAX: usize = 10_000;

/// Kinds of jobs that are counted one by one in the metrics: each is a dozen lines of every scrape.
pub const METRIC_KINDS_MAX: usize = 200;

/// What a job costs in memory besides its payloads: the record, its rank in a lane, a timer, its place in the table.
pub const JOB_OVERHEAD_BYTES: u64 = 512;

const _: () = assert!(LEASE_DURATION_MIN.get() < LEASE_DURATION_MAX.get());
const _: () = assert!(PULL_JOBS_MAX as u64 <= 10_000, "one pull stays within the default inflight limit");
const _: () = assert!(CLASSES_MAX <= u16::MAX as usize);
