//! Limits: what a hub holds at most and how long it waits, in one place.
//!
//! [`Limits`] are the operator's settings. They are part of the durable state (a change is a command in the journal),
//! so a replay decides as the hub did, and "what if" is the same journal under other limits. Their defaults belong to
//! the rules version: a snapshot holds only what differs from them. The constants are the program's own bounds.
//!
//! The byte limits are those of the accounts of [`crate::ledger`]; with the defaults they sum to less than 4 GiB.

use crate::time::Millis;

/// The operator's limits, with the defaults of the wire contract.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Jobs that wait (queued or scheduled); one more is refused with `backpressure`.
    pub queue_depth_max: u64,
    /// Bytes of unfinished jobs, waiting and leased; beyond it a submit is refused with `backpressure`.
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
    /// How many final jobs stay readable, dead ones not counted.
    pub retained_jobs_max: u64,
    /// How many bytes of final jobs stay readable, dead ones not counted.
    pub retained_bytes_max: u64,
    /// How many dead jobs stay readable.
    pub dead_jobs_max: u64,
    /// How many bytes of dead jobs stay readable.
    pub dead_bytes_max: u64,
    /// How long an idempotency key is remembered after its job became final.
    pub idempotency_ttl_ms: Millis,
    /// A spent key that is younger does not make room for a new one.
    pub idempotency_floor_ms: Millis,
    /// The largest result that is remembered with a key beyond its job's retention.
    pub idempotency_cached_bytes_max: u64,
    /// Idempotency keys held. The oldest spent key makes room for a new one; where none may, a keyed submit is refused.
    pub idempotency_keys_max: u64,
    /// Bytes of keys and of the answers remembered with them; beyond it the oldest answers are forgotten, their keys
    /// not.
    pub answers_bytes_max: u64,
    /// Nodes known at once. The node that has been dead longest makes room for a new one; where none may, it is
    /// refused.
    pub nodes_max: u64,
    /// Bytes of what nodes say of themselves; beyond it a heartbeat that says more is refused.
    pub nodes_bytes_max: u64,
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
            dead_jobs_max: 100_000,
            dead_bytes_max: 256 << 20,
            idempotency_ttl_ms: Millis::from_secs(86_400),
            idempotency_floor_ms: Millis::from_secs(600),
            idempotency_cached_bytes_max: 16_384,
            idempotency_keys_max: 1_000_000,
            answers_bytes_max: 512 << 20,
            nodes_max: 100_000,
            nodes_bytes_max: 256 << 20,
        }
    }
}

/// A dead node without leases is forgotten after a week: longer than any holiday of a laptop that comes back.
pub const NODE_FORGET_MS: Millis = Millis::from_secs(7 * 86_400);

/// Distinct pairs of zone and requirements with unfinished jobs. What a node may run is a bit for each.
pub const CLASSES_MAX: usize = 4_096;

/// Distinct sets of requirements with unfinished jobs in one zone, so that no zone takes the place of all others.
pub const CLASSES_PER_ZONE_MAX: usize = 1_024;

/// Jobs that one pull may lease.
pub const PULL_JOBS_MAX: u32 = 1_000;

/// Kinds that one pull may name.
pub const PULL_KINDS_MAX: usize = 64;

/// Long polls parked at once: one per connection that the shell may hold.
pub const WAITERS_MAX: usize = 65_536;

/// Places of parked long polls: one for each kind that a poll names, one for a poll that names none.
pub const WAITER_PLACES_MAX: usize = 2 * WAITERS_MAX;

/// Lines of parked long polls: distinct pairs of what nodes can do and a kind that is waited for. For a job that
/// becomes ready the first poll of each line for its kind and for any kind is looked at: some 60 ns a line, half a
/// millisecond if all of them wait for one kind.
pub const WAITER_LINES_MAX: usize = 8_192;

/// Views of ready jobs that are kept at once, and heads in all of them: some 40 MiB. Beyond them all are made anew.
pub const VIEWS_MAX: usize = 65_536;
/// Heads of lanes and classes in all views.
pub const VIEW_HEADS_MAX: usize = 500_000;

/// Attempts that a job may ask for.
pub const ATTEMPTS_MAX: u32 = 100;

/// Ended attempts that a job's history keeps, the latest ones; of those before it knows how many there were.
pub const ATTEMPTS_KEPT_MAX: usize = 16;

/// Bytes of an attempt's error that stay in the job's history; a longer one, or one for which the unfinished jobs'
/// account has no room, is kept only as the final job's own error.
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

/// Addresses whose authentication failures are counted. At the limit one whose minute is over is evicted first, then
/// the oldest that is not blocked; a blocked one only if all are blocked.
pub const GUARDED_ADDRESSES_MAX: usize = 10_000;

/// Kinds of jobs that are counted one by one in the metrics: each is a dozen lines of every scrape.
pub const METRIC_KINDS_MAX: usize = 200;

/// Bytes of kinds and classes that jobs share. Final jobs go early while those that only final jobs have take more than
/// half (others' waiting jobs never push them out); beyond all of it a submit that brings new ones is refused.
pub const SHARED_BYTES_MAX: u64 = 128 << 20;

/// What a shared allocation takes beside its bytes: two counts, and its rounding up to the allocator's grain.
pub const HEAP_HEADER_BYTES: u64 = 24;

/// What a job takes beside its payloads: its record, its place in a lane or a timer. It is that of a job which is left
/// alone in its page of the table; one among others takes half of it.
pub const JOB_BYTES: u64 = 184;

/// What a job takes in addition that has a time to live, a retry budget, a lease duration or an idempotency key of its
/// own: a box, a timer.
pub const TERMS_BYTES: u64 = 72;

/// What a leased or final job takes in addition: the node, the instants, the outcome.
pub const RUN_BYTES: u64 = 192;

/// What an ended attempt in a job's history takes beside its error.
pub const ATTEMPT_BYTES: u64 = 96;

/// What an idempotency key takes: its entry, its place in the table and in the order of spent keys.
pub const KEY_BYTES: u64 = 128;

/// What a remembered answer takes beside its payloads.
pub const ANSWER_BYTES: u64 = 48;

/// What a node takes beside its texts: its record, its name's place, a timer.
pub const NODE_BYTES: u64 = 512;

/// What a node takes in addition whose zone or capabilities are not those of every node: its profile, with a bit for
/// each class. Nodes with one profile are each charged it.
pub const PROFILE_BYTES: u64 = 736;

/// What a kind takes beside its name: its record, its lanes.
pub const KIND_BYTES: u64 = 368;

/// What a lane takes beside its ready jobs: the jobs of one kind in one class.
pub const LANE_BYTES: u64 = 320;

/// What a class takes beside its texts.
pub const CLASS_BYTES: u64 = 392;

/// What a parked long poll takes, and what each of its places does.
pub const WAITER_BYTES: u64 = 256;
/// What a place of a parked long poll takes.
pub const PLACE_BYTES: u64 = 96;

const _: () = assert!(LEASE_DURATION_MIN.get() < LEASE_DURATION_MAX.get());
const _: () = assert!(PULL_JOBS_MAX as u64 <= 10_000, "one pull stays within the default inflight limit");
const _: () = assert!(CLASSES_MAX <= u16::MAX as usize && CLASSES_PER_ZONE_MAX <= CLASSES_MAX);
const _: () = assert!(WAITERS_MAX <= WAITER_PLACES_MAX && WAITER_PLACES_MAX <= WAITERS_MAX * PULL_KINDS_MAX);
/// Bytes of parked long polls at most: each may be of a node of its own, and each place for a kind of its own, with the
/// longest names.
pub const WAITERS_BYTES_MAX: u64 = WAITERS_MAX as u64 * (WAITER_BYTES + HEAP_HEADER_BYTES + NAME_BYTES_MAX as u64)
    + WAITER_PLACES_MAX as u64 * (PLACE_BYTES + KIND_BYTES + HEAP_HEADER_BYTES + NAME_BYTES_MAX as u64);
const _: () = assert!(WAITERS_BYTES_MAX <= 128 << 20);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_accounts_of_a_default_hub_sum_to_less_than_4_gib() {
        let limits = Limits::default();
        let sum = limits.queue_bytes_max
            + limits.retained_bytes_max
            + limits.dead_bytes_max
            + limits.answers_bytes_max
            + limits.nodes_bytes_max
            + SHARED_BYTES_MAX
            + WAITERS_BYTES_MAX;
        assert!(sum <= 4 << 30, "{sum} bytes");
        assert!(limits.idempotency_keys_max * KEY_BYTES <= limits.answers_bytes_max);
    }
}
