//! Shrink: finds a smaller plan that violates the same invariant.
//!
//! Each part of a run draws from a random stream of its own, so a smaller plan gives a similar run: the nodes that are
//! left do the same. Each step leaves something out (a fault, half of the nodes, of the clients, of the time, of the
//! traffic) and is kept if the same invariant is violated. A smaller plan may need other draws to fail, so each is
//! tried with a few seeds.

use super::plan::{Plan, PlanOperator, PlanTraffic, PlanWorkers};
use super::run::{Failure, Report};
use std::collections::BTreeMap;

/// Seeds that a smaller plan is tried with, its own first.
const SEEDS: u64 = 8;

/// A run's result; `None` if it was stopped.
type Ended = Option<Result<Report, Box<Failure>>>;

/// Makes a failing plan smaller. `run` runs a plan; if it returns `None` the search ends. `progress` is called with
/// each smaller plan that still fails.
pub fn shrink(failure: Failure, run: impl Fn(&Plan) -> Ended, mut progress: impl FnMut(&Plan)) -> Failure {
    let mut best = failure;
    while let Some(found) = next(&best, &run) {
        best = found;
        progress(&best.plan);
    }
    best
}

/// A smaller plan that fails as `best` does; `None` if there is none, or the search was stopped.
fn next(best: &Failure, run: &impl Fn(&Plan) -> Ended) -> Option<Failure> {
    for plan in smaller(&best.plan) {
        for offset in 0..SEEDS {
            let plan = Plan { seed: plan.seed.wrapping_add(offset), ..plan.clone() };
            if let Err(failure) = run(&plan)?
                && failure.violation.invariant == best.violation.invariant
            {
                return Some(*failure);
            }
        }
    }
    None
}

/// Plans with less in them, the largest steps first.
fn smaller(plan: &Plan) -> Vec<Plan> {
    let mut plans = Vec::new();
    if plan.faults.len() > 1 {
        let faults: Vec<_> = plan.faults.iter().map(|(fault, rate)| (*fault, *rate)).collect();
        let (first, second) = faults.split_at(faults.len() / 2);
        for half in [first, second] {
            plans.push(Plan { faults: half.iter().copied().collect(), ..plan.clone() });
        }
    }
    for fault in plan.faults.keys() {
        let mut faults = plan.faults.clone();
        faults.remove(fault);
        plans.push(Plan { faults, ..plan.clone() });
    }
    let half = |number: u64| (number > 1).then_some(number / 2);
    plans.extend(half(plan.minutes).map(|minutes| Plan { minutes, ..plan.clone() }));
    plans.extend(half(plan.nodes).map(|nodes| Plan { nodes, zones: plan.zones.min(nodes), ..plan.clone() }));
    plans.extend(half(plan.clients).map(|clients| Plan { clients, ..plan.clone() }));
    plans.extend(half(plan.submits_per_min).map(|submits_per_min| Plan { submits_per_min, ..plan.clone() }));
    plans.extend(half(plan.slots).map(|slots| Plan { slots, ..plan.clone() }));
    plans.extend(less_traffic(&plan.traffic).into_iter().map(|traffic| Plan { traffic, ..plan.clone() }));
    if plan.operator != PlanOperator::default() {
        plans.push(Plan { operator: PlanOperator::default(), ..plan.clone() });
    }
    if plan.workers != PlanWorkers::default() {
        plans.push(Plan { workers: PlanWorkers::default(), ..plan.clone() });
    }
    if !plan.kinds.is_empty() {
        plans.push(Plan { kinds: BTreeMap::new(), ..plan.clone() });
    }
    if !plan.kinds_later.is_empty() {
        plans.push(Plan { kinds_later: BTreeMap::new(), ..plan.clone() });
    }
    if plan.ttl_percent > 0 {
        plans.push(Plan { ttl_percent: 0, ..plan.clone() });
    }
    if plan.keyed_percent > 0 {
        plans.push(Plan { keyed_percent: 0, ..plan.clone() });
    }
    plans
}

/// Traffic with one kind less in it.
fn less_traffic(traffic: &PlanTraffic) -> Vec<PlanTraffic> {
    let less: [fn(&mut PlanTraffic); 7] = [
        |traffic| traffic.readers = traffic.readers.saturating_sub(1),
        |traffic| traffic.read_wait_ms = 0,
        |traffic| traffic.audit_percent = 0,
        |traffic| (traffic.batch_max, traffic.faulty_percent) = (0, 0),
        |traffic| traffic.then_pull_percent = 0,
        |traffic| traffic.pipeline_max = 0,
        |traffic| traffic.listeners = traffic.listeners.saturating_sub(1),
    ];
    let plans = less.iter().map(|less| {
        let mut smaller = traffic.clone();
        less(&mut smaller);
        smaller
    });
    plans.filter(|smaller| smaller != traffic).collect()
}
