//! Draws: what a run is like, and the commands in it. Most are what honest clients send; some are late, foreign, absurd.

use crate::dice::Dice;
use sheratan_core::command::{
    Complete, Extend, Health, Heartbeat, Idempotency, OnDuplicate, OnFailed, Priority, Pull, Submit,
};
use sheratan_core::ids::{JobSeq, LeaseRef};
use sheratan_core::limits::Limits;
use sheratan_core::name::Name;
use sheratan_core::payload::Payload;
use sheratan_core::time::{Millis, Timestamp};

/// What a run is like.
#[derive(Clone, Debug)]
pub struct Profile {
    /// Nodes, by number.
    pub nodes: u64,
    kinds: u64,
    zones: u64,
    capabilities: u64,
    keys: u64,
    /// One step in so many crashes the hub.
    pub crash_every: u64,
    /// One step in so many lets days pass.
    pub leap_every: u64,
    /// One step in so many sets other limits.
    pub configure_every: u64,
    is_tight: bool,
}

/// A lease that some node was given, and may have lost since.
#[derive(Clone, Debug)]
pub struct Held {
    /// The lease.
    pub lease: LeaseRef,
    /// The node.
    pub node: Name,
}

impl Profile {
    /// A run's own mix.
    pub fn draw(dice: &mut Dice) -> Self {
        Profile {
            nodes: 1 + dice.below(12),
            kinds: 1 + dice.below(4),
            zones: 1 + dice.below(3),
            capabilities: dice.below(4),
            keys: 1 + dice.below(20),
            crash_every: *dice.pick(&[20, 100, 1_000]),
            leap_every: *dice.pick(&[30, 300]),
            configure_every: *dice.pick(&[100, 1_000]),
            is_tight: dice.once_in(2),
        }
    }

    /// Limits: tight ones are met often.
    pub fn limits(&self, dice: &mut Dice) -> Limits {
        let default = Limits::default();
        if !self.is_tight {
            return default;
        }
        Limits {
            queue_depth_max: 1 + dice.below(40),
            queue_bytes_max: 2_000 + dice.below(20_000),
            inflight_max: 1 + dice.below(20),
            leases_per_node_max: 1 + dice.below(6),
            lease_duration_ms: Millis::from_secs(1 + dice.below(60)),
            attempts_max: 1 + dice.below(4) as u32,
            retry_delay_ms_base: Millis::new(1 + dice.below(1_000)),
            retry_delay_ms_cap: Millis::new(1_000 + dice.below(10_000)),
            node_ttl_ms: Millis::from_secs(1 + dice.below(60)),
            node_dead_ms: Millis::from_secs(60 + dice.below(60)),
            job_retention_ms: Millis::from_secs(1 + dice.below(600)),
            retained_jobs_max: dice.below(40),
            retained_bytes_max: dice.below(40_000),
            idempotency_ttl_ms: Millis::from_secs(1 + dice.below(600)),
            idempotency_cached_bytes_max: dice.below(60),
            idempotency_keys_max: 1 + dice.below(20),
        }
    }

    /// A node's name.
    pub fn node(&self, dice: &mut Dice) -> Name {
        name("node", dice.below(self.nodes))
    }

    /// A node that says what it is.
    pub fn heartbeat(&self, dice: &mut Dice) -> Heartbeat {
        Heartbeat {
            node: self.node(dice),
            zone: self.zone(dice),
            capabilities: self.capabilities(dice),
            health: *dice.pick(&[Health::Green, Health::Yellow, Health::Red]),
            endpoint: None,
            labels: Payload::ABSENT,
        }
    }

    /// A job.
    pub fn submit(&self, dice: &mut Dice, now: Timestamp) -> Submit {
        let params = payload(dice);
        let idempotency = dice.maybe(|dice| Idempotency {
            key: name("key", dice.below(self.keys)),
            payload_hash: [dice.below(3) as u8; 32],
            on_duplicate: *dice.pick(&[OnDuplicate::SameResult, OnDuplicate::LatestWins]),
            on_failed: *dice.pick(&[OnFailed::SameResult, OnFailed::NewJob]),
        });
        Submit {
            kind: name("kind", dice.below(self.kinds)),
            params,
            priority: *dice.pick(&[Priority::Critical, Priority::High, Priority::Normal, Priority::Low]),
            zone: self.zone(dice),
            requires: self.capabilities(dice),
            delay_ms: if dice.once_in(4) { span(dice) } else { Millis::ZERO },
            run_at: if dice.once_in(8) { now + span(dice) } else { Timestamp::ZERO },
            ttl_ms: if dice.once_in(4) { Some(span(dice)) } else { None },
            attempts_max: dice.maybe(|dice| 1 + dice.below(5) as u32),
            retry_budget_ms: if dice.once_in(4) { Some(span(dice)) } else { None },
            lease_duration_ms: dice.maybe(|dice| Millis::from_secs(1 + dice.below(100))),
            idempotency,
        }
    }

    /// A node that asks for jobs.
    pub fn pull(&self, dice: &mut Dice) -> Pull {
        let mut kinds: Vec<_> = (0..dice.below(3)).map(|_| name("kind", dice.below(self.kinds))).collect();
        kinds.sort();
        kinds.dedup();
        Pull {
            node: self.node(dice),
            jobs_max: *dice.pick(&[0, 1, 1, 1, 3, 10, u32::MAX]),
            kinds,
            lease_duration_ms: dice.maybe(|dice| Millis::from_secs(1 + dice.below(100))),
        }
    }

    /// A node that keeps leases; some are not its own, or long over.
    pub fn extend(&self, dice: &mut Dice, held: &[Held]) -> Extend {
        let leases: Vec<_> = (0..dice.below(4)).filter_map(|_| pick_held(dice, held)).collect();
        let node = leases.first().map_or_else(|| self.node(dice), |held| held.node.clone());
        let leases = leases.iter().map(|held| held.lease).collect();
        Extend { node, leases, lease_duration_ms: dice.maybe(span) }
    }

    /// A result: mostly of a lease that was given, sometimes without one, repeated, foreign or invented.
    pub fn complete(&self, dice: &mut Dice, held: &[Held], last: JobSeq) -> Complete {
        let given = pick_held(dice, held);
        let invented = LeaseRef { job: JobSeq::new(dice.below(last.get() + 2)), generation: dice.below(4) as u32 };
        let (lease, node) = match given {
            Some(held) if !dice.once_in(10) => (held.lease, held.node),
            _ => (invented, self.node(dice)),
        };
        let ok = !dice.once_in(3);
        Complete {
            job: if dice.once_in(30) { JobSeq::new(dice.below(last.get() + 2)) } else { lease.job },
            lease: if dice.once_in(8) { None } else { Some(lease) },
            node: dice.maybe(|_| node),
            ok,
            result: if ok { payload(dice) } else { Payload::ABSENT },
            error: if ok { Payload::ABSENT } else { payload(dice) },
            is_retryable: !dice.once_in(5),
            mark: dice.below(3),
        }
    }

    /// How much time passes, with the deadlines that matter and their neighbours.
    pub fn pass(&self, dice: &mut Dice, now: Timestamp, next: Option<Timestamp>) -> Timestamp {
        if dice.once_in(self.leap_every) {
            return now + Millis::from_secs(dice.below(3 * 86_400));
        }
        match (dice.below(10), next) {
            (0..3, _) => now,
            (3..6, _) => now + Millis::new(dice.below(50)),
            (6, _) => now + Millis::new(dice.below(20_000)),
            (7, _) => now - Millis::new(dice.below(5_000)),
            // A deadline that is far off is left to the leaps.
            (_, Some(next)) if next.since(now) < Millis::from_secs(3_600) => {
                *dice.pick(&[next - Millis::new(1), next, next, next + Millis::new(1)])
            }
            _ => now + Millis::new(1),
        }
    }

    fn zone(&self, dice: &mut Dice) -> Option<Name> {
        let zone = dice.below(self.zones + 2);
        (zone < self.zones).then(|| name("zone", zone))
    }

    fn capabilities(&self, dice: &mut Dice) -> Vec<Name> {
        (0..self.capabilities).filter(|_| dice.once_in(2)).map(|n| name("can", n)).collect()
    }
}

fn pick_held(dice: &mut Dice, held: &[Held]) -> Option<Held> {
    if held.is_empty() {
        return None;
    }
    // The latest ones are more likely to be alive.
    let recent = &held[held.len().saturating_sub(20)..];
    let from = if dice.once_in(4) { held } else { recent };
    Some(dice.pick(from).clone())
}

fn span(dice: &mut Dice) -> Millis {
    match dice.below(12) {
        0 => Millis::ZERO,
        1 => Millis::MAX,
        2..5 => Millis::new(dice.below(100)),
        _ => Millis::new(dice.below(60_000)),
    }
}

fn payload(dice: &mut Dice) -> Payload {
    match dice.below(6) {
        0 => Payload::ABSENT,
        1 => Payload::new(&vec![b'1'; 1 + dice.below(300) as usize]),
        n => Payload::new(format!("[{n}]").as_bytes()),
    }
}

fn name(of: &str, n: u64) -> Name {
    Name::new(&format!("{of}-{n}")).expect("it is short and plain")
}
