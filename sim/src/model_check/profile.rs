//! Profile: the character of a run, drawn once.
//!
//! Runs that draw everything alike meet the same middle of the space again and again. So each seed first draws what its
//! run is like: which commands are common and which never come, how small the limits are, how time moves, how often
//! it crashes ("swarm testing", Groce et al. 2012). Most limits and vocabularies are tiny, since what is worth seeing
//! happens at their edges.

use crate::draw::{Draw, Stream};
use sheratan_core::Millis;
use sheratan_core::limits::Limits;

/// How many acts there are.
const ACTS: usize = 17;

/// A step that can be drawn next, apart from the journal's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Act {
    /// A job is submitted.
    Submit,
    /// A node pulls.
    Pull,
    /// A node submits a result.
    Complete,
    /// A node extends leases.
    Extend,
    /// A node sends a heartbeat.
    Heartbeat,
    /// Unchanged heartbeats, journaled together.
    NodesSeen,
    /// The limits change.
    Configure,
    /// Time is recorded, or a version of the rules is adopted.
    Other,
    /// Time passes and nothing else.
    Advance,
    /// A long poll is parked.
    Park,
    /// A long poll's client disconnects.
    Unpark,
    /// A job is cancelled.
    Cancel,
    /// A node gives leases back.
    Release,
    /// An operator sets the rules of a kind.
    SetKind,
    /// An operator requeues or discards dead letters.
    Letter,
    /// An operator takes a node out of service, lets it work again, or has it forgotten.
    Drain,
    /// A result comes for an unknown job, or an operator looks after such results.
    Orphan,
}

impl Act {
    /// All of them, in the order of their weights.
    pub const ALL: [Act; ACTS] = [
        Act::Submit,
        Act::Pull,
        Act::Complete,
        Act::Extend,
        Act::Heartbeat,
        Act::NodesSeen,
        Act::Configure,
        Act::Other,
        Act::Advance,
        Act::Park,
        Act::Unpark,
        Act::Cancel,
        Act::Release,
        Act::SetKind,
        Act::Letter,
        Act::Drain,
        Act::Orphan,
    ];
    /// How common each is on average.
    const COMMON: [u32; ACTS] = [30, 25, 40, 16, 6, 3, 1, 1, 6, 5, 2, 2, 2, 2, 5, 2, 2];
}

/// How far time moves before a step.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pace {
    /// Not at all.
    Still,
    /// A few milliseconds.
    Milliseconds,
    /// Up to some seconds.
    Seconds,
    /// Up to an hour.
    Minutes,
    /// Up to ten days.
    Days,
    /// To the hub's next deadline, or one millisecond before or after it.
    Deadline,
}

impl Pace {
    /// All of them, in the order of their weights.
    pub const ALL: [Pace; 6] =
        [Pace::Still, Pace::Milliseconds, Pace::Seconds, Pace::Minutes, Pace::Days, Pace::Deadline];
    const COMMON: [u32; 6] = [20, 30, 15, 4, 1, 30];
}

/// The parameters of a run.
#[derive(Clone, PartialEq, Debug)]
pub struct Profile {
    /// The weight of each [`Act`].
    pub acts: [u32; ACTS],
    /// The weight of each [`Pace`].
    pub paces: [u32; 6],
    /// The limits at the start.
    pub limits: Limits,
    /// Nodes that take part.
    pub nodes: u64,
    /// Kinds of jobs.
    pub kinds: u64,
    /// Zones besides the default one.
    pub zones: u64,
    /// Capabilities that nodes may have and jobs may require.
    pub capabilities: u64,
    /// Idempotency keys in use.
    pub keys: u64,
    /// Submits with a key, out of a thousand.
    pub keyed_permille: u64,
    /// Members of a command that ask for something extreme, out of a thousand.
    pub extreme_permille: u64,
    /// Commands whose instant is earlier than the last one's, out of a thousand.
    pub backwards_permille: u64,
    /// How often the shell settles after a command, out of a thousand; else more commands are applied first.
    pub settle_permille: u64,
    /// The disk has synced, out of a thousand steps.
    pub sync_permille: u64,
    /// A snapshot is made, out of a thousand steps.
    pub snapshot_permille: u64,
    /// The hub dies, out of a thousand steps.
    pub crash_permille: u64,
    /// How often more classes of jobs than the hub has room for are submitted.
    pub floods: u64,
    /// Whether the run's last part reaches the end of time.
    pub reaches_end_of_time: bool,
    /// Whether jobs take turns or age, and when the limits change begin to, or stop.
    pub is_fair: bool,
    /// How often a silent node extends a lease for longer than the hub remembers silent nodes.
    pub vigils: u64,
}

impl Profile {
    /// The profile of a seed's run.
    pub fn of(seed: u64) -> Self {
        let draw = &mut Draw::new(seed, Stream::Profile);
        let mut profile = Profile {
            acts: vary(draw, Act::COMMON),
            paces: vary(draw, Pace::COMMON),
            limits: limits(draw),
            nodes: draw.between(1, 6),
            kinds: draw.between(1, 4),
            zones: draw.between(0, 2),
            capabilities: draw.between(0, 3),
            keys: 1 + draw.magnitude(31),
            keyed_permille: *draw.pick(&[0, 200, 600, 1_000]),
            extreme_permille: *draw.pick(&[0, 10, 50, 300]),
            backwards_permille: *draw.pick(&[0, 0, 50, 300]),
            settle_permille: *draw.pick(&[150, 600, 1_000]),
            sync_permille: *draw.pick(&[20, 200, 800]),
            snapshot_permille: *draw.pick(&[0, 10, 40]),
            crash_permille: *draw.pick(&[0, 5, 15, 40]),
            floods: if draw.chance(20) { 2 } else { 0 },
            reaches_end_of_time: draw.chance(40),
            is_fair: false,
            vigils: if draw.chance(50) { 2 } else { 0 },
        };
        if draw.chance(30) {
            profile.begin_retry_storm();
        }
        if draw.chance(250) {
            profile.is_fair = true;
            (profile.floods, profile.acts[Act::Configure as usize]) = (0, 4);
            profile.limits = fair(profile.limits, draw);
        }
        profile
    }

    /// Many jobs of several kinds fail again and again within a small budget for retries, so that they wait for credits
    /// beside each other.
    fn begin_retry_storm(&mut self) {
        (self.kinds, self.zones, self.capabilities) = (4, 0, 0);
        self.limits = Limits {
            attempts_max: 10,
            retry_delay_ms_base: Millis::new(1),
            retry_delay_ms_cap: Millis::new(5),
            retry_share_percent: 0,
            retries_per_sec_min: 1,
            ..Limits::default()
        };
        for act in [Act::Submit, Act::Pull, Act::Complete] {
            self.acts[act as usize] = 2 * Act::COMMON[act as usize];
        }
        self.paces = [20, 60, 1, 0, 0, 0];
    }
}

/// The usual weights, some of them many times as large, some zero. The first two acts and all paces stay possible: a
/// run without submits or time shows nothing.
fn vary<const N: usize>(draw: &mut Draw, common: [u32; N]) -> [u32; N] {
    let mut weights = common;
    for (index, weight) in weights.iter_mut().enumerate() {
        *weight *= *draw.pick(&[0, 1, 1, 1, 2, 5]);
        if index < 2 {
            *weight = (*weight).max(common[index]);
        }
    }
    weights
}

/// The limits with turns or ageing, or neither. A job that gets a turn has room for it.
pub fn fair(limits: Limits, draw: &mut Draw) -> Limits {
    let fair_by = *draw.pick(&[0, 1, 1, 2, 2, 3]);
    let priority_age_ms = Millis::new(*draw.pick(&[0, 0, 1, 50, 1_000, 20_000]));
    Limits { fair_by, priority_age_ms, queue_bytes_max: Limits::default().queue_bytes_max, ..limits }
}

/// Limits for a hub: the usual ones, tiny ones, none at all, or boundless ones, each drawn on its own.
pub fn limits(draw: &mut Draw) -> Limits {
    let usual = Limits::default();
    let is_tame = draw.chance(150);
    let dead_letters_enabled = *draw.pick(&[1, 1, 1, 0]);
    let dead_full_refuses = *draw.pick(&[0, 0, 0, 0, 0, 1]);
    let mut one = |usual: u64, tiny_max: u64| match if is_tame { 0 } else { draw.below(10) } {
        0..=3 => usual,
        4..=7 => draw.between(1, tiny_max),
        8 => draw.magnitude(usual.saturating_mul(4)),
        _ => *draw.pick(&[0, 1, u64::MAX]),
    };
    Limits {
        queue_depth_max: one(usual.queue_depth_max, 12),
        queue_bytes_max: one(usual.queue_bytes_max, 4_000),
        inflight_max: one(usual.inflight_max, 8),
        // In some runs, by `leased_bytes`.
        inflight_bytes_max: u64::MAX,
        leases_per_node_max: one(usual.leases_per_node_max, 4),
        lease_duration_ms: Millis::new(one(usual.lease_duration_ms.get(), 3_000)),
        attempts_max: narrow(one(usual.attempts_max.into(), 4)),
        retry_delay_ms_base: Millis::new(one(usual.retry_delay_ms_base.get(), 10)),
        retry_delay_ms_cap: Millis::new(one(usual.retry_delay_ms_cap.get(), 50)),
        node_ttl_ms: Millis::new(one(usual.node_ttl_ms.get(), 2_000)),
        node_dead_ms: Millis::new(one(usual.node_dead_ms.get(), 5_000)),
        job_retention_ms: Millis::new(one(usual.job_retention_ms.get(), 3_000)),
        retained_jobs_max: one(usual.retained_jobs_max, 10),
        retained_bytes_max: one(usual.retained_bytes_max, 8_000),
        dead_jobs_max: one(usual.dead_jobs_max, 6),
        dead_bytes_max: one(usual.dead_bytes_max, 4_000),
        idempotency_ttl_ms: Millis::new(one(usual.idempotency_ttl_ms.get(), 3_000)),
        idempotency_cached_bytes_max: one(usual.idempotency_cached_bytes_max, 20),
        idempotency_keys_max: one(usual.idempotency_keys_max, 6),
        idempotency_floor_ms: Millis::new(one(usual.idempotency_floor_ms.get(), 2_000)),
        answers_bytes_max: one(usual.answers_bytes_max, 1_500),
        nodes_max: one(usual.nodes_max, 5),
        nodes_bytes_max: one(usual.nodes_bytes_max, 8_000),
        leases_per_zone_max: one(usual.leases_per_zone_max, 6),
        losses_max: narrow(one(usual.losses_max.into(), 3)),
        retry_after_ms_cap: Millis::new(one(usual.retry_after_ms_cap.get(), 3_000)),
        retry_share_percent: narrow(one(usual.retry_share_percent.into(), 60)),
        retries_per_sec_min: narrow(one(usual.retries_per_sec_min.into(), 2)),
        dead_letters_enabled,
        dead_retention_ms: Millis::new(one(usual.dead_retention_ms.get(), 5_000)),
        dead_full_refuses,
        orphans_max: one(usual.orphans_max, 4),
        orphans_bytes_max: one(usual.orphans_bytes_max, 1_500),
        // In some runs, by `fair`.
        fair_by: 0,
        priority_age_ms: Millis::ZERO,
        flip_window_ms: usual.flip_window_ms,
        flip_threshold: usual.flip_threshold,
    }
}

/// A limit of bytes under lease: of a job or some, of none, or none at all.
pub fn leased_bytes(draw: &mut Draw) -> u64 {
    match draw.below(8) {
        0 => u64::MAX,
        1 => *draw.pick(&[0, 1, u64::MAX - 1]),
        _ => draw.between(200, 2_500),
    }
}

fn narrow(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
