//! Traffic: what clients, nodes, clock and disk do next.
//!
//! It reads of the hub what clients can know (their leases and jobs) and its next deadline, because a state machine
//! with timers goes wrong at, just before and just after a deadline.

mod crowd;
mod operator;
mod rotation;

pub use rotation::{TOKENS, token};

use crate::draw::{Draw, Stream};
use crate::model_check::profile::{self, Act, Pace, Profile};
use sheratan_core::integrity::stored::{Origin, ResultIntegrity};
use sheratan_core::limits::{ATTEMPT_ERROR_BYTES_MAX, CLASSES_PER_ZONE_MAX, LEASE_DURATION_MAX, NODE_FORGET_MS};
use sheratan_core::{
    Calendar, Command, Complete, Extend, Health, Heartbeat, Hub, Idempotency, JobSeq, JobView, LeaseRef, Limits,
    Millis, Name, NameSet, NodeIndex, OnDuplicate, OnFailed, Payload, Priority, Pull, Release, ResultMark,
    RulesVersion, Salt, Setting, Submit, Timestamp, TokenConfig, Utc, WaiterId, Weight, Zone,
};
use sheratan_history::{SnapshotOf, Source, Step};
use std::collections::VecDeque;

/// Leases and results that are remembered, to be used again after they have expired.
const MEMORY_MAX: usize = 48;

/// Classes of jobs in a flood: more than one zone may have.
const FLOOD_CLASSES: u64 = CLASSES_PER_ZONE_MAX as u64 + 8;

/// Numbers that a job's id can spell.
const SEQS: u64 = 1 << 48;

/// When runs begin: 2026-01-15, so that instants look real.
const BEGIN: Timestamp = Timestamp::from_millis(1_768_500_000_000);

/// How long before the end of time a run that reaches it arrives.
const LAST_STRETCH: Millis = Millis::from_secs(20 * 86_400);

/// How far time moves at once while an act runs.
const ACT_WAITS_MAX: Millis = Millis::from_secs(86_400);
/// The longest sleep of a machine in a run that does not reach the end of time.
const SLEEP_MAX: Millis = Millis::from_secs(20 * 86_400);

/// The source of a run's steps.
#[derive(Debug)]
pub struct Traffic {
    profile: Profile,
    draw: Draw,
    /// Of its own, so that runs without a crowd stay as they are.
    crowd_draw: Draw,
    crowd_left: bool,
    /// Of its own as well: in some runs bytes under lease have a limit.
    bytes_draw: Draw,
    limits_bytes: bool,
    /// Of its own as well: in some runs the token is rotated.
    token_draw: Draw,
    rotates_token: bool,
    /// What the configuration said last.
    configured: TokenConfig,
    clock: Timestamp,
    calendar: Calendar,
    steps_drawn: u64,
    steps_planned: u64,
    floods_left: u64,
    vigils_left: u64,
    leases: VecDeque<(Name, LeaseRef)>,
    results: VecDeque<Complete>,
    next_waiter: u64,
    /// Steps that are drawn already.
    ahead: VecDeque<Step>,
}

impl Traffic {
    /// The traffic of a seed's run, which is planned to be that long.
    pub fn new(seed: u64, steps_planned: u64) -> Self {
        let mut profile = Profile::of(seed);
        let mut bytes_draw = Draw::new(seed, Stream::LeasedBytes);
        // The model sums them anew for each lease, which a flood of jobs makes slow.
        let limits_bytes = bytes_draw.chance(150) && profile.floods == 0;
        if limits_bytes {
            profile.limits.inflight_bytes_max = profile::leased_bytes(&mut bytes_draw);
        }
        let start = Step::Apply(BEGIN, Command::Set(Setting::all(&profile.limits)));
        // Some runs begin under earlier rules.
        let rules = match seed % 8 {
            0 => RulesVersion::FIRST,
            4 => RulesVersion::new(2),
            _ => RulesVersion::NEWEST,
        };
        let adopt = Step::Apply(BEGIN, Command::AdoptRules(rules));
        let mut crowd_draw = Draw::new(seed, Stream::Crowd);
        let crowd_left = profile.is_fair && crowd_draw.chance(100);
        let mut token_draw = Draw::new(seed, Stream::Tokens);
        let rotates_token = token_draw.chance(250);
        let (floods_left, vigils_left) = (profile.floods, profile.vigils);
        Traffic {
            profile,
            draw: Draw::new(seed, Stream::Traffic),
            crowd_draw,
            crowd_left,
            bytes_draw,
            limits_bytes,
            token_draw,
            rotates_token,
            configured: TokenConfig::default(),
            clock: BEGIN,
            calendar: Calendar::UNSET,
            steps_drawn: 0,
            steps_planned,
            floods_left,
            vigils_left,
            leases: VecDeque::new(),
            results: VecDeque::new(),
            next_waiter: 1,
            ahead: VecDeque::from([start, adopt]),
        }
    }

    /// The run's profile.
    pub fn profile(&self) -> &Profile {
        &self.profile
    }

    /// Remembers leases that were granted to nodes.
    pub fn note_granted(&mut self, leases: Vec<(Name, LeaseRef)>) {
        self.leases.extend(leases);
        while self.leases.len() > MEMORY_MAX {
            self.leases.pop_front();
        }
    }

    /// Whether the run is over. The steps of a flood or a vigil are not counted.
    pub fn is_over(&self) -> bool {
        self.ahead.is_empty() && self.steps_drawn >= self.steps_planned
    }

    /// Draws the next step.
    pub fn next(&mut self, hub: &Hub) -> Step {
        if let Some(step) = self.ahead.pop_front() {
            return step;
        }
        self.steps_drawn += 1;
        self.move_to_end_of_time();
        if let Some(step) = self.begin_crowd() {
            return step;
        }
        if let Some(step) = self.token_order(hub) {
            return step;
        }
        if let Some(step) = self.disk() {
            return step;
        }
        let act = Act::ALL[self.draw.weighted(&self.profile.acts)];
        self.pass_time(hub);
        if self.draw.chance(self.profile.settle_permille) {
            self.ahead.push_back(Step::Settle);
        }
        let at = self.instant();
        let command = match act {
            Act::Submit if self.floods_left > 0 && self.draw.chance(10) => return self.flood(),
            Act::Submit => Command::Submit(Box::new(self.submit())),
            Act::Pull => Command::Pull(self.pull()),
            // Without a lease most results are refused, which shows little.
            Act::Complete | Act::Extend if self.leases.is_empty() && self.draw.chance(900) => {
                Command::Pull(self.pull())
            }
            Act::Extend if self.vigils_left > 0 && self.draw.chance(100) => return self.vigil(hub),
            Act::Complete => Command::Complete(self.complete(hub)),
            Act::Extend => Command::Extend(self.extend(hub)),
            Act::Heartbeat => Command::Heartbeat(self.heartbeat()),
            Act::NodesSeen => Command::NodesSeen(self.nodes_seen()),
            Act::Configure if self.profile.is_fair && self.draw.chance(500) => Command::SetWeights(self.weights()),
            Act::Configure => Command::Set(self.settings(hub)),
            Act::Other if self.draw.chance(500) => {
                let count = self.draw.below(4);
                Command::Reclaim((0..count).map(|_| self.lease(hub).1).collect())
            }
            Act::Other if self.draw.chance(300) => Command::Tick,
            Act::Other if self.draw.chance(300) => {
                Command::BeginSalt(Salt::new(self.draw.below(u64::MAX).to_le_bytes()))
            }
            Act::Other if self.draw.chance(200) => Command::SetCalendar(self.calendar()),
            Act::Other if self.draw.chance(300) => {
                let duration = self.sometimes(1_000, 86_400_000).unwrap_or_default();
                // The end of time comes only when it is planned.
                let duration = match self.profile.reaches_end_of_time {
                    _ if is_acting(hub) => duration.min(ACT_WAITS_MAX),
                    true => duration,
                    false => duration.min(SLEEP_MAX),
                };
                self.clock = at + duration;
                Command::Slept(duration)
            }
            Act::Other => {
                let newest = RulesVersion::NEWEST.get();
                Command::AdoptRules(RulesVersion::new(self.draw.below(u64::from(newest) + 1) as u16))
            }
            Act::Cancel => Command::Cancel(self.job(hub)),
            Act::Release => Command::Release(self.release(hub)),
            Act::SetKind => Command::SetKind(Box::new(self.set_kind(hub))),
            // Hubs adopt the newest rules when they start, before any operator's command.
            Act::Letter if hub.rules() == RulesVersion::NEWEST => self.letter(hub),
            Act::Letter => Command::Tick,
            Act::Drain => self.drain(),
            Act::Orphan => self.orphan(hub),
            Act::Advance => return Step::Advance(at),
            Act::Park => {
                let id = WaiterId(self.next_waiter);
                self.next_waiter += 1;
                return Step::Park { id, pull: self.pull(), is_patient: self.draw.chance(800) };
            }
            Act::Unpark => return Step::Unpark(WaiterId(self.draw.below(self.next_waiter) + 1)),
        };
        Step::Apply(at, command)
    }

    /// Draws a step of the disk, if any.
    fn disk(&mut self) -> Option<Step> {
        let Profile { sync_permille, snapshot_permille, crash_permille, .. } = self.profile;
        if self.draw.chance(crash_permille) {
            // Most often all unsynced records are lost, or none; else a part of them.
            let kept = *self.draw.pick(&[0, u64::MAX, 1, 2, 5, 20]);
            let from = *self.draw.pick(&[Source::Log, Source::Snapshot]);
            return Some(Step::Crash { kept, from });
        }
        if self.draw.chance(snapshot_permille) {
            return Some(Step::Snapshot(*self.draw.pick(&[SnapshotOf::Live, SnapshotOf::Replay])));
        }
        // A sync ends most batches, so it must not replace other steps too often.
        (self.draw.chance(sync_permille) && self.draw.chance(250)).then_some(Step::Sync)
    }

    fn pass_time(&mut self, hub: &Hub) {
        // A crash may have taken the hub back by ages, in which nodes and acts would be looked at again and again.
        if !self.is_at_the_end_of_time() {
            self.clock = self.clock.min(hub.now() + SLEEP_MAX);
        }
        self.move_clock(hub);
        if is_acting(hub) {
            self.clock = self.clock.min(hub.now() + ACT_WAITS_MAX);
        }
    }

    fn move_clock(&mut self, hub: &Hub) {
        let pace = Pace::ALL[self.draw.weighted(&self.profile.paces)];
        let passed = match pace {
            Pace::Still => 0,
            Pace::Milliseconds => self.draw.magnitude(200),
            Pace::Seconds => self.draw.magnitude(20_000),
            Pace::Minutes => self.draw.magnitude(3_600_000),
            Pace::Days => self.draw.magnitude(10 * 86_400_000),
            Pace::Deadline => {
                let Some(at) = hub.next_due_at() else { return };
                let off = *self.draw.pick(&[0, 0, 1, 2]);
                // One millisecond before it, at it, or after it, unless the deadline is at the end of time.
                let target = (at - Millis::new(1)) + Millis::new(off);
                if target < Timestamp::NEVER - LAST_STRETCH || self.is_at_the_end_of_time() {
                    self.clock = self.clock.max(target);
                }
                return;
            }
        };
        self.clock = self.clock + Millis::new(passed);
    }

    /// The instant of the next command: now, or an earlier one from a clock that was set back.
    fn instant(&mut self) -> Timestamp {
        let is_back = self.draw.chance(self.profile.backwards_permille);
        let back = self.draw.magnitude(self.clock.as_millis());
        if is_back { self.clock - Millis::new(back) } else { self.clock }
    }

    fn move_to_end_of_time(&mut self) {
        if self.is_at_the_end_of_time() {
            self.clock = self.clock.max(Timestamp::NEVER - LAST_STRETCH);
        }
    }

    fn is_at_the_end_of_time(&self) -> bool {
        let is_last_part = self.steps_drawn * 4 >= self.steps_planned * 3;
        self.profile.reaches_end_of_time && is_last_part
    }

    /// A job in each of more classes than there may be, under limits that accept them. They expire soon, so that a
    /// second flood finds the first one's classes empty but not removed.
    fn flood(&mut self) -> Step {
        self.floods_left -= 1;
        let Limits { queue_depth_max, queue_bytes_max, .. } = Limits::default();
        let limits = Limits { queue_depth_max, queue_bytes_max, ..self.profile.limits.clone() };
        self.ahead.clear();
        self.ahead.push_back(Step::Apply(self.clock, Command::Set(Setting::all(&limits))));
        let ttl_ms = Some(Millis::new(1 + self.draw.magnitude(20_000)));
        let first = self.floods_left * FLOOD_CLASSES;
        for class in first..first + FLOOD_CLASSES {
            let (zone, requires) = (Zone::new(name("flood", 0)), NameSet::from(vec![name("flood", class)]));
            let submit = Submit { zone, requires, params: None, ttl_ms, idempotency: None, ..self.submit() };
            self.ahead.push_back(Step::Apply(self.clock, Command::Submit(Box::new(submit))));
        }
        self.ahead.pop_front().expect("a flood has many steps")
    }

    /// A node that only extends its lease, day after day, for twice as long as the hub remembers silent nodes.
    fn vigil(&mut self, hub: &Hub) -> Step {
        self.vigils_left -= 1;
        let (node, lease) = self.lease(hub);
        let lease_duration_ms = Some(LEASE_DURATION_MAX);
        let extend = Extend { node, leases: vec![lease], lease_duration_ms, progress: None, note: None };
        self.ahead.clear();
        for _ in 0..=2 * NODE_FORGET_MS.get() / LEASE_DURATION_MAX.get() {
            self.ahead.push_back(Step::Apply(self.clock, Command::Extend(extend.clone())));
            self.clock = self.clock + Millis::new(LEASE_DURATION_MAX.get() - 1);
        }
        self.ahead.pop_front().expect("a vigil has many steps")
    }

    /// Draws all limits anew, or a few of them.
    fn settings(&mut self, hub: &Hub) -> Vec<Setting> {
        let limits = profile::limits(&mut self.draw);
        let limits = if self.profile.is_fair { profile::fair(limits, &mut self.draw) } else { limits };
        let inflight_bytes_max =
            if self.limits_bytes { profile::leased_bytes(&mut self.bytes_draw) } else { limits.inflight_bytes_max };
        let limits = Limits { inflight_bytes_max, ..limits };
        let differences = limits.differences(hub.limits());
        if self.draw.chance(500) {
            return differences;
        }
        differences.into_iter().filter(|_| self.draw.chance(200)).collect()
    }

    /// Weights of some clients and kinds.
    fn weights(&mut self) -> Vec<Weight> {
        let count = self.draw.below(4);
        let weights = (0..count).map(|_| {
            let group = match self.draw.chance(500) {
                true => name("client", self.draw.below(3)),
                false => name("kind", self.draw.below(self.profile.kinds)),
            };
            Weight { group, weight: *self.draw.pick(&[0, 1, 2, 3, 7, 100, 1_000]) }
        });
        weights.collect()
    }

    /// The calendar after the clock was set: by a little or by years, back or ahead, or to what it was at first.
    fn calendar(&mut self) -> Calendar {
        let by = self.draw.magnitude(40 * 365 * 86_400_000) as i64;
        let offset = match self.draw.below(6) {
            0 => 0,
            1 if self.is_extreme() => *self.draw.pick(&[i64::MIN, i64::MAX]),
            1..=3 => self.calendar.offset_ms().saturating_add(by),
            _ => self.calendar.offset_ms().saturating_sub(by),
        };
        self.calendar = Calendar::from_offset_ms(offset);
        self.calendar
    }

    fn submit(&mut self) -> Submit {
        let variant = self.draw.below(3);
        let params = self.payload(variant);
        let idempotency = self.draw.chance(self.profile.keyed_permille).then(|| Idempotency {
            key: name("key", self.draw.below(self.profile.keys)),
            payload_hash: [variant as u8; 32],
            on_duplicate: *self.draw.pick(&[OnDuplicate::SameResult, OnDuplicate::LatestWins, OnDuplicate::LatestWins]),
            on_failed: *self.draw.pick(&[OnFailed::SameResult, OnFailed::NewJob]),
            ttl_ms: self.sometimes(200, 5_000),
        });
        let today = self.calendar.utc(self.clock);
        let run_at = match self.draw.below(10) {
            0 => today + Millis::new(self.draw.magnitude(10_000)),
            1 => today - Millis::new(self.draw.magnitude(10_000)),
            2 if self.draw.chance(300) => today + Millis::new(self.draw.magnitude(40 * 365 * 86_400_000)),
            _ => Utc::ZERO,
        };
        Submit {
            kind: self.kind(),
            params,
            priority: self.draw.chance(900).then(|| self.priority()),
            zone: self.zone(),
            requires: self.capabilities(200),
            delay_ms: self.sometimes(200, 5_000).unwrap_or(Millis::ZERO),
            run_at: if self.is_extreme() { Utc::NEVER } else { run_at },
            ttl_ms: self.sometimes(350, 20_000),
            attempts_max: self.sometimes(400, 4).map(|attempts| u32::try_from(attempts.get()).unwrap_or(u32::MAX)),
            retry_budget_ms: self.sometimes(200, 20_000),
            lease_duration_ms: self.sometimes(300, 4_000),
            idempotency,
            client: (variant > 0).then(|| name("client", variant)),
            max_run_ms: self.sometimes(100, 6_000),
        }
    }

    fn pull(&mut self) -> Pull {
        let kinds_max = if self.draw.chance(400) { self.profile.kinds } else { 0 };
        let kinds = (0..kinds_max).filter(|_| self.draw.chance(500)).map(|kind| name("kind", kind)).collect();
        let jobs_max =
            if self.is_extreme() { *self.draw.pick(&[0, u32::MAX]) } else { 1 + self.draw.magnitude(7) as u32 };
        Pull { node: self.node(), jobs_max, kinds, lease_duration_ms: self.sometimes(300, 4_000) }
    }

    fn heartbeat(&mut self) -> Heartbeat {
        Heartbeat {
            node: self.node(),
            zone: self.zone(),
            capabilities: self.capabilities(600),
            health: *self.draw.pick(&[Health::Green, Health::Yellow, Health::Red]),
            endpoint: self.draw.chance(200).then(|| name("http://node", self.draw.below(3))),
            labels: self.draw.chance(200).then(|| Payload::new(b"{\"rack\":1}")),
            attestation: None,
            signing: None,
        }
    }

    /// Indices of nodes, some of which may be dropped or never assigned.
    fn nodes_seen(&mut self) -> Vec<NodeIndex> {
        let index_max = self.profile.nodes * 2;
        (0..self.draw.below(4)).map(|_| NodeIndex::new(self.draw.below(index_max) as u32)).collect()
    }

    fn extend(&mut self, hub: &Hub) -> Extend {
        let (node, first) = self.lease(hub);
        let mut leases = vec![first];
        for _ in 0..self.draw.magnitude(3) {
            leases.push(self.lease(hub).1);
        }
        let node = if self.draw.chance(100) { self.node() } else { node };
        let lease_duration_ms = self.sometimes(500, 8_000);
        let progress = self.draw.chance(200).then(|| self.draw.below(101) as u8);
        let note = self.draw.chance(100).then(|| name("note", self.draw.below(30)));
        Extend { node, leases, lease_duration_ms, progress, note }
    }

    fn complete(&mut self, hub: &Hub) -> Complete {
        if !self.results.is_empty() && self.draw.chance(120) {
            let at = self.draw.below(self.results.len() as u64) as usize;
            return self.results[at].clone();
        }
        let (node, lease) = self.lease(hub);
        let job = match self.draw.below(20) {
            0 => JobSeq::new(self.draw.below(hub.queue().next_seq().get() + 2)),
            1 => JobSeq::new(self.draw.number() % SEQS),
            _ => lease.job,
        };
        let ok = self.draw.chance(600);
        let variant = self.draw.below(3);
        let complete = Complete {
            job,
            lease: self.draw.chance(850).then_some(lease),
            node: match self.draw.below(10) {
                0 => None,
                1 => Some(self.node()),
                _ => Some(node),
            },
            ok,
            result: self.payload(variant),
            error: if ok { None } else { self.error() },
            is_retryable: self.draw.chance(800),
            mark: match self.draw.below(6) {
                mark @ 0..=2 => ResultMark::Content(mark),
                3 => ResultMark::Id(self.draw.below(3)),
                _ => ResultMark::IdAndContent { id: self.draw.below(3) as u32, content: self.draw.below(2) },
            },
            integrity: self.draw.chance(700).then(|| {
                let origin = [Origin::Worker, Origin::Signed, Origin::Hub][self.draw.below(3) as usize];
                Box::new(ResultIntegrity { origin, sha256: [self.draw.below(4) as u8; 32] })
            }),
            retry_after_ms: if ok { None } else { self.sometimes(250, 60_000) },
        };
        self.results.push_back(complete.clone());
        if self.results.len() > MEMORY_MAX {
            self.results.pop_front();
        }
        complete
    }

    /// A job: most often one that was leased, else any.
    fn job(&mut self, hub: &Hub) -> JobSeq {
        match self.draw.below(10) {
            0 => JobSeq::new(self.draw.below(hub.queue().next_seq().get() + 2)),
            _ => self.lease(hub).1.job,
        }
    }

    fn release(&mut self, hub: &Hub) -> Release {
        let Extend { node, leases, .. } = self.extend(hub);
        Release { node, leases }
    }

    fn kind(&mut self) -> Name {
        name("kind", self.draw.below(self.profile.kinds))
    }

    /// A lease and its holder: most often a current one, else an earlier one, sometimes one that was never granted.
    fn lease(&mut self, hub: &Hub) -> (Name, LeaseRef) {
        let is_held = |lease: &LeaseRef| {
            let counts = |job: &JobView| job.leased_to().is_some() || job.is_held();
            hub.queue().get(lease.job).is_some_and(|job| job.lease() == *lease && counts(&job))
        };
        if self.draw.chance(700) {
            let held: Vec<_> = self.leases.iter().filter(|(_, lease)| is_held(lease)).collect();
            if !held.is_empty() {
                return (*self.draw.pick(&held)).clone();
            }
        }
        let back = self.draw.magnitude(self.leases.len().saturating_sub(1) as u64) as usize;
        let known = self.leases.iter().rev().nth(back).cloned();
        let (node, mut lease) = known.unwrap_or_else(|| (self.node(), LeaseRef { job: JobSeq::FIRST, generation: 1 }));
        match self.draw.below(40) {
            0 => lease.generation = lease.generation.wrapping_add(1),
            1 => lease.generation = lease.generation.wrapping_sub(1),
            2 => lease.job = JobSeq::new(lease.job.get().wrapping_add(1)),
            3 => lease = LeaseRef { job: JobSeq::new(self.draw.number() % SEQS), generation: u32::MAX },
            _ => {}
        }
        (node, lease)
    }

    fn priority(&mut self) -> Priority {
        *self.draw.pick(&[Priority::Critical, Priority::High, Priority::Normal, Priority::Low])
    }

    fn node(&mut self) -> Name {
        name("node", self.draw.below(self.profile.nodes))
    }

    fn zone(&mut self) -> Zone {
        if self.profile.floods > 0 && self.draw.chance(300) {
            return Zone::new(name("flood", 0));
        }
        match self.draw.below(self.profile.zones * 2 + 2) {
            0 | 1 => Zone::DEFAULT,
            zone => Zone::new(name("zone", zone / 2)),
        }
    }

    fn capabilities(&mut self, permille: u64) -> NameSet {
        let all = 0..self.profile.capabilities;
        all.filter(|_| self.draw.chance(permille)).map(|capability| name("can", capability)).collect()
    }

    /// One of a few texts, of sizes around the small limits, and rarely a long one.
    fn payload(&mut self, variant: u64) -> Option<Payload> {
        let length = match variant {
            0 => 0,
            1 => self.draw.between(1, 24),
            _ => self.draw.magnitude(600),
        };
        (length > 0).then(|| Payload::new(&vec![b'0' + variant as u8; length as usize]))
    }

    /// An error of a node, sometimes just as long as is kept with the attempt, or longer.
    fn error(&mut self) -> Option<Payload> {
        let kept_max = ATTEMPT_ERROR_BYTES_MAX as u64;
        let length = match self.draw.below(30) {
            0 => kept_max,
            1 => kept_max + 1,
            _ => self.draw.below(30),
        };
        (length > 0).then(|| Payload::new(&vec![b'e'; length as usize]))
    }

    /// A duration up to `max`, in `permille` of a thousand cases; else `None`.
    fn sometimes(&mut self, permille: u64, max: u64) -> Option<Millis> {
        if !self.draw.chance(permille) {
            return None;
        }
        let is_extreme = self.is_extreme();
        Some(Millis::new(if is_extreme {
            *self.draw.pick(&[0, u64::MAX, u64::MAX - 1])
        } else {
            self.draw.magnitude(max)
        }))
    }

    fn is_extreme(&mut self) -> bool {
        self.draw.chance(self.profile.extreme_permille)
    }
}

fn name(stem: &str, number: u64) -> Name {
    Name::new(&format!("{stem}{number}")).expect("a stem and a number make a name")
}

/// Whether an act on many dead letters runs: one that waits for room tries again every second.
fn is_acting(hub: &Hub) -> bool {
    hub.acts().iter().any(|act| act.is_running())
}
