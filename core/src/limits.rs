//! Limits: how much a hub holds at most and how long it waits, in one place.
//!
//! [`Limits`] are the operator's settings. They are part of the durable state (a change is a command in the journal),
//! so a replay decides as the hub did, and "what if" is the same journal under other limits. Their defaults belong to
//! the rules version: a snapshot stores only the settings that differ from them. The constants are the program's own
//! bounds.
//!
//! The byte limits are those of the accounts of [`crate::ledger`]; with the defaults they sum to less than 4 GiB.

use crate::time::Millis;

/// The operator's limits, with the defaults of the wire contract.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Waiting jobs (queued or scheduled); one more is refused with `backpressure`.
    pub queue_depth_max: u64,
    /// Bytes of unfinished jobs, waiting and leased; beyond it a submit is refused with `backpressure`.
    pub queue_bytes_max: u64,
    /// Jobs under lease in the whole hub; at it a pull gets no jobs and a `defer_ms`.
    pub inflight_max: u64,
    /// Bytes of jobs under lease; a job that would exceed it is not leased, unless nothing else is. A submit of a job that
    /// alone is larger is refused.
    pub inflight_bytes_max: u64,
    /// Jobs under lease at one node; at it that node's pull gets no jobs and a `defer_ms`.
    pub leases_per_node_max: u64,
    /// How long a lease lasts if neither the job nor the pull specifies it.
    pub lease_duration_ms: Millis,
    /// Attempts of a job that does not specify them.
    pub attempts_max: u32,
    /// The first retry's delay.
    pub retry_delay_ms_base: Millis,
    /// The longest retry delay.
    pub retry_delay_ms_cap: Millis,
    /// A node becomes stale this long after it was last seen.
    pub node_ttl_ms: Millis,
    /// A node becomes dead this long after it was last seen.
    pub node_dead_ms: Millis,
    /// How long a final job stays readable.
    pub job_retention_ms: Millis,
    /// Final jobs that stay readable, dead ones not counted.
    pub retained_jobs_max: u64,
    /// Bytes of final jobs that stay readable, dead ones not counted.
    pub retained_bytes_max: u64,
    /// Dead jobs that stay readable.
    pub dead_jobs_max: u64,
    /// Bytes of dead jobs that stay readable.
    pub dead_bytes_max: u64,
    /// How long an idempotency key is remembered after its job became final.
    pub idempotency_ttl_ms: Millis,
    /// A spent key that is younger is not evicted for a new one.
    pub idempotency_floor_ms: Millis,
    /// The largest result or error, in bytes, that is remembered with a key.
    pub idempotency_cached_bytes_max: u64,
    /// Idempotency keys held. The oldest spent key is evicted for a new one; if none may be, a keyed submit is refused.
    pub idempotency_keys_max: u64,
    /// Bytes of keys and their answers; beyond it the oldest answers are dropped, but not their keys.
    pub answers_bytes_max: u64,
    /// Registered nodes. The dead node that was seen longest ago is evicted for a new one; if none may be, the new one
    /// is refused.
    pub nodes_max: u64,
    /// Bytes that nodes report of themselves; beyond it a heartbeat that needs more is refused.
    pub nodes_bytes_max: u64,
    /// Jobs under lease in one zone; at it the pulls of its nodes get no jobs and a `defer_ms`.
    pub leases_per_zone_max: u64,
    /// Leases of a job that may be lost (they expire, or their nodes die); at it the job is dead.
    pub losses_max: u32,
    /// The longest `retry_after_ms` of a failed attempt that is honoured.
    pub retry_after_ms_cap: Millis,
    /// Retries that become ready, in percent of the fresh jobs of the same kind.
    pub retry_share_percent: u32,
    /// Retries that become ready each second in any case, over all kinds.
    pub retries_per_sec_min: u32,
    /// 1: jobs that fail for good are dead letters; 0: they end as failed.
    pub dead_letters_enabled: u32,
    /// How long a dead letter is kept.
    pub dead_retention_ms: Millis,
    /// What happens when there is no room for a further dead letter. 0: the oldest of the kind with the most is evicted;
    /// 1: submits are refused in good time, so that a dying job always finds room.
    pub dead_full_refuses: u32,
    /// Results of unknown jobs that are kept.
    pub orphans_max: u64,
    /// Bytes of results of unknown jobs.
    pub orphans_bytes_max: u64,
    /// Which jobs take turns with others of the same priority: 0: none; 1: those of a client; 2: those of a kind;
    /// 3: those of a zone, which is the same as none, since each node works for one zone.
    pub fair_by: u32,
    /// A job that has been ready for so long counts one priority higher, and another one each time again; 0: it never
    /// does.
    pub priority_age_ms: Millis,
    /// Within this time a node's capability hash may change fewer than `flip_threshold` times.
    pub flip_window_ms: Millis,
    /// So many changes make a node suspect of being several: 1 to [`FLIP_THRESHOLD_MAX`].
    pub flip_threshold: u32,
}

impl Limits {
    /// Bytes of the largest job that may be submitted.
    pub(crate) fn job_bytes_max(&self) -> u64 {
        self.queue_bytes_max.min(self.inflight_bytes_max)
    }
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            queue_depth_max: 100_000,
            queue_bytes_max: 1 << 30,
            inflight_max: 10_000,
            inflight_bytes_max: u64::MAX,
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
            leases_per_zone_max: u64::MAX,
            losses_max: 5,
            retry_after_ms_cap: Millis::from_secs(3_600),
            retry_share_percent: 20,
            retries_per_sec_min: 10,
            dead_letters_enabled: 1,
            dead_retention_ms: Millis::from_secs(14 * 86_400),
            dead_full_refuses: 0,
            orphans_max: 10_000,
            orphans_bytes_max: 64 << 20,
            fair_by: 0,
            priority_age_ms: Millis::ZERO,
            flip_window_ms: Millis::from_secs(120),
            flip_threshold: 3,
        }
    }
}

/// Leases in a row that newer jobs of a key take from older ones; the next one is left to its end.
pub const REVOCATIONS_MAX: u8 = 3;
/// Clients or kinds with jobs that wait for turns, at one level of one class; beyond it some share.
pub const GROUPS_MAX: usize = 256;
/// Weights of clients and kinds.
pub const WEIGHTS_MAX: usize = 10_000;
/// Ready jobs that follow a change of fairness or ageing in one step, of a millisecond each: about a third of it.
pub const VISITED_JOBS_MAX: usize = 1_000;

/// A dead node without leases is forgotten after a week: a laptop that is off for a few days is still known.
pub const NODE_FORGET_MS: Millis = Millis::from_secs(7 * 86_400);

/// Distinct pairs of zone and requirements with unfinished jobs. What a node may run is a bit for each.
pub const CLASSES_MAX: usize = 4_096;

/// Distinct sets of requirements with unfinished jobs in one zone, so that no zone uses up [`CLASSES_MAX`].
pub const CLASSES_PER_ZONE_MAX: usize = 1_024;

/// Kinds with rules of their own.
pub const RULED_KINDS_MAX: usize = 1_024;

/// Parts of a lease in which the rates of kinds are counted: one thousandth of a lease in 1,000 seconds is one a
/// millisecond.
pub const RATE_UNITS: u64 = 1_000_000;

/// Nodes that are examined to explain why a job does not run: about 2 ms.
pub const EXPLAIN_NODES_MAX: usize = 10_000;

/// Parts of a credit for a retry.
pub const CREDIT_UNITS: u64 = 1_000_000;

/// How many seconds of the floor of the retry budget are saved at most.
pub const RETRY_FLOOR_SAVED_SECS: u64 = 10;

/// Acts on many dead letters that run at once.
pub const ACTS_RUNNING_MAX: usize = 16;

/// Acts that are kept, those included that ended.
pub const ACTS_KEPT_MAX: usize = 100;

/// Letters that one step of an act without a rate changes: about 0.2 ms.
pub const ACT_STEP_LETTERS: u64 = 200;

/// Letters that one step of an act looks at.
pub const ACT_STEP_EXAMINED: usize = 4_000;

/// How long an act waits while the queue has no room.
pub const ACT_WAIT_MS: Millis = Millis::from_secs(1);

/// Bytes of a result of an unknown job in addition to its texts and payloads.
pub const ORPHAN_BYTES: u64 = 256;

/// Jobs that one pull may lease.
pub const PULL_JOBS_MAX: u32 = 1_000;

/// Kinds that one pull may name.
pub const PULL_KINDS_MAX: usize = 64;

/// Salts of ids that are kept, 2 MiB of them. Only starts after which ids were given count: ten a day for 18 years.
pub const SALTS_MAX: usize = 1 << 16;

/// Long polls parked at once: one per connection that the shell may hold.
pub const WAITERS_MAX: usize = 65_536;

/// Places of parked long polls: one for each kind that a poll names, one for a poll that names none.
pub const WAITER_PLACES_MAX: usize = 2 * WAITERS_MAX;

/// Lines of parked long polls: distinct pairs of a profile of nodes and a kind that is waited for. When a job becomes
/// ready, the first poll of each line for its kind and for any kind is examined: about 60 ns for a line, half a
/// millisecond if all of them wait for one kind.
pub const WAITER_LINES_MAX: usize = 8_192;

/// Views of ready jobs. Together with [`VIEW_HEADS_MAX`] about 40 MiB; beyond either all views are dropped and rebuilt.
pub const VIEWS_MAX: usize = 65_536;
/// Heads of lanes and classes in all views.
pub const VIEW_HEADS_MAX: usize = 500_000;

/// The largest `attempts_max` of a job.
pub const ATTEMPTS_MAX: u32 = 100;

/// Leases of a job that end uncharged because their reply never left the hub. One is a client that went away, or a
/// journal that failed; after three the reply itself may be what no connection survives.
pub const RECLAIMS_MAX: u32 = 3;

/// How long a job waits after its second release by a node; each further one twice as long.
pub const RELEASE_DELAY_MS_BASE: Millis = Millis::from_secs(1);

/// How long the first retry of a job is reserved for other nodes than that of its last attempt; each further one twice
/// as long. Nodes that work ask within seconds, and a job that waits in vain is late by this much.
pub const RESERVATION_MS_BASE: Millis = Millis::from_secs(5);

/// The longest reservation of a retry.
pub const RESERVATION_MS_CAP: Millis = Millis::from_secs(60);

/// Retries that are reserved at once, about 160 bytes each; one more is for all nodes at once.
pub const RESERVED_JOBS_MAX: usize = 4_096;

/// Reserved retries that a pull examines, the most urgent first: about 3 µs.
pub const RESERVED_EXAMINED_MAX: usize = 64;

/// Sets of capabilities of a zone's online nodes that are examined to find out whether another node could run a retry:
/// about 10 µs, for each retry.
pub const PROFILES_EXAMINED_MAX: usize = 256;

/// The cost of a scan for a page of jobs, after which the page ends: 5 ms at most. To pass a block of jobs or a job in
/// another state or of another kind costs 1, to examine a job [`SCAN_COST_JOB`], and 16 bytes of its error 1 more.
pub const SCAN_COST_MAX: u64 = 80_000;

/// The cost of a job that is examined: 20,000 jobs at most.
pub const SCAN_COST_JOB: u64 = 4;

/// The latest attempts of a job that are kept; earlier ones are only counted.
pub const ATTEMPTS_KEPT_MAX: usize = 16;

/// Bytes of an attempt's error that is kept in the job's history. A longer one, or one for which the account of
/// unfinished jobs has no room, is kept only if it becomes the error of the final job.
pub const ATTEMPT_ERROR_BYTES_MAX: usize = 4_096;

/// Bytes of a node id, kind, zone, capability or idempotency key: names appear in logs and paths.
pub const NAME_BYTES_MAX: usize = 256;

/// Capabilities of a node, or requirements of a job.
pub const CAPABILITIES_MAX: usize = 64;

/// The longest lease: a day.
pub const LEASE_DURATION_MAX: Millis = Millis::from_secs(86_400);

/// The shortest lease: a shorter one could end before its answer has crossed a slow network.
pub const LEASE_DURATION_MIN: Millis = Millis::from_secs(1);

/// The `defer_ms` in the outcome of a pull that gets no jobs because too many are under lease. What the node is told is
/// [`Hub::defer_for`](crate::Hub::defer_for).
pub const DEFER_MS: Millis = Millis::new(500);

/// The shortest wait that a saturated node is told: 1,000 nodes make 10,000 requests a second at most.
pub const DEFER_MS_MIN: Millis = Millis::new(100);

/// The longest: a node that was told so is late by this much if room comes sooner.
pub const DEFER_MS_MAX: Millis = Millis::new(10_000);

/// The `defer_ms` of a pull of a node that gets no jobs: its operator resumes it by hand.
pub const DRAINED_DEFER_MS: Millis = Millis::new(5_000);

/// The longest `Retry-After` of what is refused because a limit is reached: clients must notice within minutes that a
/// hub whose workers were away drains again.
pub const RETRY_AFTER_SECS_MAX: u64 = 300;

/// Addresses whose authentication failures are counted. At the limit an address whose minute is over is evicted first,
/// then the oldest that is not blocked; a blocked one only if all are blocked.
pub const GUARDED_ADDRESSES_MAX: usize = 10_000;

/// Kinds of jobs with metrics of their own: each is a dozen lines of every scrape.
pub const METRIC_KINDS_MAX: usize = 200;

/// Bytes of kinds and classes that jobs share. While kinds and classes with final jobs only take more than half, final
/// jobs are dropped early (waiting jobs never cause that); beyond the limit a submit that needs a new kind or class is
/// refused.
pub const SHARED_BYTES_MAX: u64 = 128 << 20;

/// Bytes of a shared allocation in addition to its content: two reference counts, and rounding by the allocator.
pub const HEAP_HEADER_BYTES: u64 = 24;

/// Bytes of a job in addition to its payloads: its record, and its place in a lane or its timer. This is for a job that
/// is left alone in its page of the table; in a full page it takes half of it.
pub const JOB_BYTES: u64 = 184;

/// Additional bytes of a job with a time to live, a retry budget, a lease duration, an idempotency key or a client: a box
/// and a timer.
pub const TERMS_BYTES: u64 = 72;

/// Additional bytes of a job that names its client: a row and its place in the index of names, which jobs of one client
/// share, and the job's place among the client's results.
pub const CLIENT_BYTES: u64 = 144;
/// Bytes of what a node says about its work, in addition to the text.
pub const REPORT_BYTES: u64 = 48;

/// Additional bytes of a job with a bound on its run time, that was requeued, or that has a turn.
pub const RARE_TERMS_BYTES: u64 = 56;

/// Additional bytes of a ready job whose priority grows with time: its place among those.
pub const AGEING_BYTES: u64 = 40;

/// Additional bytes of a leased or final job: the node, the instants, the outcome.
pub const RUN_BYTES: u64 = 192;

/// Bytes of an ended attempt in a job's history, in addition to its error.
pub const ATTEMPT_BYTES: u64 = 96;

/// Bytes of an idempotency key: its entry, and its places in the table and in the queue of spent keys.
pub const KEY_BYTES: u64 = 128;

/// Bytes of a remembered answer in addition to its payloads.
pub const ANSWER_BYTES: u64 = 48;

/// Bytes of the checksum that a result or an answer is stored with: a box of its own.
pub const INTEGRITY_BYTES: u64 = 48;

/// The greatest `flip_threshold`: so many instants are kept of a node.
pub const FLIP_THRESHOLD_MAX: u32 = 16;

/// Changes of a node's attestation that are kept, the latest.
pub const ATTESTATION_CHANGES_MAX: usize = 16;

/// Bytes of a node's attestation in addition to its texts and changes: its record, room for
/// [`FLIP_THRESHOLD_MAX`] instants.
pub const ATTESTATION_BYTES: u64 = 448;

/// Bytes of a change of a node's attestation in addition to its texts. Room grows by doubling.
pub const ATTESTATION_CHANGE_BYTES: u64 = 96;

/// Within which a quarantine counts as the second, and as the third: the active policy says how long each lasts.
pub const QUARANTINE_HOUR_MS: Millis = Millis::from_secs(3_600);
pub const QUARANTINE_DAY_MS: Millis = Millis::from_secs(86_400);

/// Quarantines of a node whose beginnings are kept: as many as count.
pub const QUARANTINES_COUNTED_MAX: usize = 2;

/// Policies that are held, the built-in one among them: a version is never removed.
pub const POLICIES_MAX: u64 = 64;

/// Bytes of their documents.
pub const POLICIES_BYTES_MAX: u64 = 4 << 20;

/// Activations of policies that are kept, the latest.
pub const ACTIVATIONS_KEPT_MAX: usize = 64;

/// Tokens that rotations replaced: as many are never forgotten for their age, which is [`RETIRED_TOKENS_MS`], and no more than
/// [`RETIRED_TOKENS_MAX`] are kept.
pub const RETIRED_TOKENS_KEPT: usize = 32;
pub const RETIRED_TOKENS_MAX: usize = 1_024;
/// 400 days.
pub const RETIRED_TOKENS_MS: u64 = 400 * 86_400_000;

/// Bytes of what is known of a node's identity: its record, and the box that it shares with the node's state.
pub const IDENTITY_BYTES: u64 = 400;

/// How far the highest time that a node signed may be ahead of the hub's.
pub const SIGNED_AHEAD_MS_MAX: Millis = Millis::from_secs(5 * 60);

/// Bytes of a node's state in addition to an operator's note.
pub const STATE_BYTES: u64 = 160;

/// Bytes of a node in addition to its texts: its record, its place in the index of names, a timer.
pub const NODE_BYTES: u64 = 512;

/// Additional bytes of a node with a zone or capabilities: its profile, with a bit for each class. Each node is charged
/// for it, also if several share a profile.
pub const PROFILE_BYTES: u64 = 736;

/// Bytes of a kind in addition to its name: its record, its list of lanes.
pub const KIND_BYTES: u64 = 368;

/// Bytes of a kind's rules in addition to their texts.
pub const KIND_RULES_BYTES: u64 = 288;

/// Bytes of a lane in addition to its ready jobs.
pub const LANE_BYTES: u64 = 320;

/// Bytes of a class in addition to its texts.
pub const CLASS_BYTES: u64 = 392;

/// Bytes of a parked long poll in addition to its places.
pub const WAITER_BYTES: u64 = 256;
/// Bytes of a place of a parked long poll.
pub const PLACE_BYTES: u64 = 96;

const _: () = assert!(LEASE_DURATION_MIN.get() < LEASE_DURATION_MAX.get());
const _: () = assert!(DEFER_MS_MIN.get() <= DEFER_MS.get() && DEFER_MS.get() <= DEFER_MS_MAX.get());
const _: () = assert!(ACTS_RUNNING_MAX < ACTS_KEPT_MAX);
const _: () = assert!(RESERVATION_MS_BASE.get() < RESERVATION_MS_CAP.get());
const _: () = assert!(RESERVED_EXAMINED_MAX <= RESERVED_JOBS_MAX);
const _: () = assert!(PULL_JOBS_MAX as u64 <= 10_000, "one pull stays within the default inflight limit");
const _: () = assert!(CLASSES_MAX <= u16::MAX as usize && CLASSES_PER_ZONE_MAX <= CLASSES_MAX);
const _: () = assert!(WAITERS_MAX <= WAITER_PLACES_MAX && WAITER_PLACES_MAX <= WAITERS_MAX * PULL_KINDS_MAX);
/// The most bytes that parked long polls can take: each of another node, each place for another kind, all names of the
/// greatest length.
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
            + limits.orphans_bytes_max
            + SHARED_BYTES_MAX
            + WAITERS_BYTES_MAX;
        assert!(sum <= 4 << 30, "{sum} bytes");
        assert!(limits.idempotency_keys_max * KEY_BYTES <= limits.answers_bytes_max);
    }
}
