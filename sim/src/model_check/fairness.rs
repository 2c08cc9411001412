//! Fairness: what turns and ageing promise, held by acting on copies of the hub and counting leases. It knows of no clocks
//! and no steps, unlike the model.
//!
//! **Shares.** Weights are set, so that all jobs that are ready get turns anew, and a node pulls one job after the other. While
//! two groups of a class and level both have jobs, each has a turn every 1/w of a round, so in a stretch of length t a group
//! has at least tw − 1 and at most tw + 1 leases. For the leases a and b of two groups that is |a/wa − b/wb| ≤ 1/wa + 1/wb in
//! each stretch. Within a group and level jobs are leased in the order of their numbers, but for those that were reserved, which
//! keep the turns that they had.
//!
//! **Ageing.** After as many ages as there are priorities a job is leased before all that come later, of whatever priority, of
//! its own group. So when workers go on pulling, no job is passed for ever.

use crate::model_check::copy;
use crate::model_check::model::Model;
use crate::model_check::violation::{Violation, holds};
use sheratan_core::{
    Command, Health, Heartbeat, Hub, JobSeq, JobView, KindRules, Millis, Name, NameSet, Outcome, Priority, Pull,
    RulesVersion, Setting, State, Submit, Submitted, Timestamp, Weight,
};
use std::collections::{BTreeMap, BTreeSet};

/// Enough for all visits, and for all ages of a millisecond.
const MEANWHILE: Millis = Millis::new(50);
/// Jobs that come later than one that ages.
const LATER_JOBS: usize = 3;
/// Weights divide this, as far as they do.
const ROUND: i64 = 1_024;

/// Checks both for a job. A hub under earlier rules, and one whose kinds have gates, promises less.
pub fn check_fairness(hub: &Hub, model: &Model, seq: JobSeq) -> Result<(), Violation> {
    let has_gate = |rules: &KindRules| {
        rules.inflight_max.is_some() || rules.leases_per_1000_sec.is_some() || rules.pause.is_some()
    };
    let is_free = |job: &JobView<'_>| matches!(job.state(), State::Queued { .. }) && job.withheld_from().is_none();
    let is_plain = hub.limits().fair_by == 0 && hub.limits().priority_age_ms == Millis::ZERO;
    if is_plain
        || hub.rules() != RulesVersion::NEWEST
        || hub.now() + MEANWHILE == Timestamp::NEVER
        || hub.queue().ruled_kinds().any(|(_, rules, _)| has_gate(rules))
        || !hub.queue().get(seq).is_some_and(|job| is_free(&job))
    {
        return Ok(());
    }
    check_shares(hub, model, seq)?;
    check_ageing(hub, seq)
}

/// A copy without limits.
fn copy_of(hub: &Hub, settings: &[Setting]) -> Hub {
    let mut copy = copy::copy_of(hub);
    let unlimited = [
        Setting::InflightMax(u64::MAX),
        Setting::InflightBytesMax(u64::MAX),
        Setting::LeasesPerZoneMax(u64::MAX),
        Setting::LeasesPerNodeMax(u64::MAX),
        Setting::NodesMax(u64::MAX),
        Setting::NodesBytesMax(u64::MAX),
        Setting::QueueBytesMax(u64::MAX / 2),
        Setting::QueueDepthMax(u64::MAX),
    ];
    copy.apply(copy.now(), Command::Set(unlimited.iter().chain(settings).copied().collect()));
    copy
}

/// A node of that job's class pulls one job after the other, until none is left.
fn leased_in_order(hub: &mut Hub, seq: JobSeq) -> Vec<JobSeq> {
    let node = Name::new("the-node-that-pulls").expect("a name");
    let class = hub.queue().get(seq).expect("it is known").class().clone();
    let (zone, capabilities, health) = (class.zone, class.requires, Health::Green);
    let heartbeat = Heartbeat {
        node: node.clone(),
        zone,
        capabilities,
        health,
        endpoint: None,
        labels: None,
        attestation: None,
        signing: None,
    };
    hub.apply(hub.now(), Command::Heartbeat(heartbeat));
    let pull = Pull { node, jobs_max: 1, kinds: NameSet::default(), lease_duration_ms: Some(Millis::from_secs(600)) };
    let mut order = Vec::new();
    while let Outcome::Pulled(pulled) = hub.apply(hub.now(), Command::Pull(pull.clone()))
        && let Some(leased) = pulled.leases.first()
    {
        // One whose attempts may take no time is leased again at once.
        if !order.contains(&leased.lease.job) {
            order.push(leased.lease.job);
        }
    }
    order
}

fn group_of(job: &JobView<'_>, fair_by: u32) -> Option<Name> {
    if fair_by == 1 { job.client().cloned() } else { Some(job.kind().clone()) }
}

fn check_shares(hub: &Hub, model: &Model, seq: JobSeq) -> Result<(), Violation> {
    let fair_by = hub.limits().fair_by;
    if !matches!(fair_by, 1 | 2) {
        return Ok(());
    }
    let class = hub.queue().get(seq).expect("it is known").class().clone();
    let level_of = |seq: JobSeq| model.jobs().iter().find(|job| job.seq == seq).map(|job| job.level());
    let level = level_of(seq);
    let mut copy = copy_of(hub, &[Setting::PriorityAge(Millis::ZERO)]);
    // Other weights than now, which are powers of two: their steps are whole.
    let mut groups: Vec<_> = hub.queue().iter_from(JobSeq::FIRST).filter_map(|job| group_of(&job, fair_by)).collect();
    groups.sort();
    groups.dedup();
    let weight = |at: usize| 1 << ((at as u64 + seq.get()) % 3);
    let mut weights: Vec<_> =
        groups.iter().enumerate().map(|(at, group)| Weight { group: group.clone(), weight: weight(at) }).collect();
    weights.push(Weight { group: Name::new("nobody").expect("a name"), weight: 1 + (seq.get() % 2) as u32 });
    let weight_of: BTreeMap<_, _> =
        weights.iter().map(|one| (Some(one.group.clone()), i64::from(one.weight))).collect();
    if copy.weights().len() == weights.len() {
        copy.apply(copy.now(), Command::SetWeights(Vec::new()));
    }
    copy.apply(copy.now(), Command::SetWeights(weights));
    let visited: Vec<_> = copy
        .queue()
        .iter_from(JobSeq::FIRST)
        .filter(|job| matches!(job.state(), State::Queued { .. }) && job.withheld_from().is_none())
        .filter(|job| *job.class() == class && level_of(job.seq()) == level)
        .map(|job| (job.seq(), group_of(&job, fair_by)))
        .collect();
    copy.advance(copy.now() + MEANWHILE);
    if copy.queue().get(seq).is_none() {
        return Ok(());
    }
    let order = leased_in_order(&mut copy, seq);
    // Those that ended meanwhile leave a gap in the turns of their groups.
    if !visited.iter().all(|(job, _)| order.contains(job)) {
        return Ok(());
    }
    let groups: BTreeMap<_, _> = visited.iter().cloned().collect();
    let order: Vec<_> = order.into_iter().filter_map(|job| Some((job, groups.get(&job)?.clone()))).collect();
    let mut of_groups = BTreeMap::<_, Vec<usize>>::new();
    for (at, (_, group)) in order.iter().enumerate() {
        of_groups.entry(group).or_default().push(at);
    }
    for (group, places) in &of_groups {
        holds(places.is_sorted_by_key(|at| order[*at].0), || format!("the jobs of {group:?} are leased as {order:?}"))?;
    }
    let all: Vec<_> = of_groups.iter().collect();
    for (index, (one, of_one)) in all.iter().enumerate() {
        for (other, of_other) in &all[index + 1..] {
            let step = |group: &Option<Name>| ROUND / weight_of.get(group).copied().unwrap_or(1);
            let (own, others) = (step(one), step(other));
            // While both wait: up to the last lease of one of them.
            let end = of_one.last().min(of_other.last()).copied().unwrap_or(0);
            let (mut lead, mut least, mut most) = (0, 0, 0);
            let both: BTreeSet<_> = of_one.iter().chain(of_other.iter()).copied().filter(|at| *at <= end).collect();
            for at in both {
                lead += if of_one.contains(&at) { own } else { -others };
                (least, most) = (lead.min(least), lead.max(most));
            }
            holds(most - least <= own + others, || {
                format!("{one:?} with steps of {own} and {other:?} with steps of {others} are leased as {order:?}")
            })?;
        }
    }
    Ok(())
}

fn check_ageing(hub: &Hub, seq: JobSeq) -> Result<(), Violation> {
    let age = if hub.limits().priority_age_ms == Millis::new(1) { 2 } else { 1 };
    let mut copy = copy_of(hub, &[Setting::PriorityAge(Millis::new(age))]);
    copy.advance(copy.now() + MEANWHILE);
    let Some(job) = copy.queue().get(seq).filter(|job| matches!(job.state(), State::Queued { .. })) else {
        return Ok(());
    };
    let submit = Submit {
        priority: Some(Priority::Critical),
        zone: job.class().zone.clone(),
        requires: job.class().requires.clone(),
        client: job.client().cloned(),
        ..Submit::new(job.kind().clone(), None)
    };
    let later: Vec<_> = (0..LATER_JOBS)
        .filter_map(|_| match copy.apply(copy.now(), Command::Submit(Box::new(submit.clone()))) {
            Outcome::Submitted(Submitted::Accepted { job, .. }) => Some(job),
            _ => None,
        })
        .collect();
    let order = leased_in_order(&mut copy, seq);
    let place = order.iter().position(|job| *job == seq);
    holds(place.is_some(), || format!("job {} has aged, and is not leased before the queue is empty", seq.get()))?;
    let passed_by = order.iter().take(place.unwrap_or(0)).find(|job| later.contains(job));
    holds(passed_by.is_none(), || format!("job {} has aged, and is passed by {passed_by:?}", seq.get()))
}
