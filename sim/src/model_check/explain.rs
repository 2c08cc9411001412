//! Explain: an explanation is held by acting on it.
//!
//! On copies of the hub, what the reasons name is done: time passes up to an instant, a pause is lifted, leases end, a node
//! registers. Then a node pulls that may run the job, after all other jobs that wait were cancelled, so that it is the
//! job's turn. With all reasons lifted the job is leased; with all but one, and up to the millisecond before the instant
//! that this one names, it is not. So a reason that is left out, one that does not hold, and a wrong instant are found.

mod trial;

use crate::model_check::violation::{Violation, holds};
use sheratan_core::explain::Reason;
use sheratan_core::{Hub, JobSeq, JobView, KindRules, Millis, Setting, State, Timestamp};
use std::collections::BTreeSet;
pub use trial::takes_time;
use trial::{Copies, Way};

/// How often other reasons may begin when all are lifted.
const ROUNDS_MAX: usize = 4;

/// Whether a job waits, so that its explanation names what would have to change.
pub fn is_waiting(job: &JobView<'_>) -> bool {
    !job.is_final() && !matches!(job.state(), State::Leased { .. })
}

/// Checks the explanation of a job that waits. O(n) for each reason.
pub fn check_explanation(hub: &Hub, seq: JobSeq) -> Result<(), Violation> {
    let job = hub.queue().get(seq).expect("a job that waits is held");
    let explanation = hub.explain(seq).expect("it is known");
    let latest = explanation.reasons.iter().filter_map(|reason| reason.until(hub)).max().unwrap_or(hub.now());
    let is_in_time = |at: Timestamp| latest <= at && (at < job.expires_at() || at == Timestamp::NEVER);
    holds(explanation.starts_at.is_none_or(is_in_time), || {
        format!("job {} ends at {:?} and waits for {explanation:?}", seq.get(), job.expires_at())
    })?;
    if hub.limits().node_ttl_ms == Millis::ZERO {
        // No node is ever online.
        return Ok(());
    }
    let copies = Copies::of(hub);
    check_together(&copies, seq)?;
    (0..explanation.reasons.len()).try_for_each(|at| check_each(&copies, seq, &explanation.reasons, at))?;
    match (&explanation.reasons[..], explanation.ahead) {
        ([Reason::Turn { nodes }], Some(ahead)) => {
            check_nodes(&copies, seq, *nodes)?;
            check_ahead(&copies, seq, ahead)
        }
        _ => Ok(()),
    }
}

/// With all reasons lifted the job is leased by the next pull of its turn.
fn check_together(copies: &Copies, seq: JobSeq) -> Result<(), Violation> {
    let mut trial = copies.trial(seq);
    let mut named = Vec::new();
    for _ in 0..ROUNDS_MAX {
        let reasons = trial.reasons();
        named.push(reasons.clone());
        let is_possible = trial.lift(&reasons, Way::AsNamed);
        if !is_possible || !trial.is_waiting() || trial.pull_by_any() {
            return Ok(());
        }
        if let Some(omitted) = trial.reasons().iter().find(|reason| !may_follow(&reasons, reason)) {
            return Err(lie(seq, &named.concat(), &format!("all were lifted, and then it waited for {omitted:?}")));
        }
    }
    Err(lie(seq, &named.concat(), "all were lifted, and it was not leased"))
}

/// Whether a reason can begin only after those that were lifted: the retry budget is asked when a delay ends, another node
/// is preferred when the job is ready, and while time passes a node that is silent is forgotten; a node that comes may have a
/// longer name than fits.
fn may_follow(lifted: &[Reason], reason: &Reason) -> bool {
    let has = |is_it: fn(&Reason) -> bool| lifted.iter().any(is_it);
    match reason {
        Reason::RetryBudget { .. } => has(|one| takes_time(one) || matches!(one, Reason::PreviousRun { .. })),
        Reason::Reserved { .. } => has(|one| takes_time(one) || matches!(one, Reason::PreviousRun { .. })),
        // The node that comes has a name, which counts under lease.
        Reason::HubBytesFull { .. } => has(|one| matches!(one, Reason::NoNode { .. })),
        Reason::NoNode { .. } => has(takes_time) && has(|one| matches!(one, Reason::NoNode { .. })),
        _ => false,
    }
}

/// With all reasons lifted but one, the job is not leased, up to the instant before the one that it names.
fn check_each(copies: &Copies, seq: JobSeq, reasons: &[Reason], at: usize) -> Result<(), Violation> {
    let mut trial = copies.trial(seq);
    let reason = &reasons[at];
    // What the job waits for with no node to take it is the same, whoever gets it later.
    let is_no_matter = |other: &Reason| matches!((reason, other), (Reason::NoNode { .. }, Reason::Reserved { .. }));
    let others = reasons.iter().filter(|other| *other != reason && !is_no_matter(other));
    let others: Vec<_> = others.cloned().collect();
    let until = match reason {
        Reason::Turn { .. } => return Ok(()),
        Reason::Reserved { until, .. } => Some(*until),
        reason => reason.until(trial.hub()),
    };
    let latest = until.map_or(trial.hub().now(), |until| until - Millis::new(1));
    // While more time passes leases end; and so they do with the older job's run.
    let ends_later = |other: &Reason| takes_time(other) && other.until(trial.hub()).is_none_or(|at| at > latest);
    let ends_leases = |other: &Reason| matches!(other, Reason::PreviousRun { .. });
    // Its turn for a credit comes earlier if a retry before it ends while it waits.
    let is_budget = matches!(reason, Reason::RetryBudget { .. });
    let ends_before = |job: &JobView<'_>| matches!(job.state(), State::Postponed { .. }) && job.expires_at() <= latest;
    let moves_up = is_budget && trial.hub().queue().iter_from(JobSeq::FIRST).any(|job| ends_before(&job));
    let is_apart = !moves_up && !others.iter().any(|other| ends_later(other) || ends_leases(other));
    if !is_apart || !trial.lift(&others, Way::AtOnce) || !trial.advance(latest) {
        return Ok(());
    }
    let is_leased = match reason {
        Reason::Reserved { node, .. } => trial.pull(node),
        Reason::NoNode { .. } => trial.online().iter().any(|node| trial.pull(node)),
        _ => trial.pull_by_any(),
    };
    if is_leased { Err(lie(seq, reasons, &format!("it was leased while this held: {reason:?}"))) } else { Ok(()) }
}

/// As many online nodes may take it as are named, each of them alone; bytes are not theirs to have.
fn check_nodes(copies: &Copies, seq: JobSeq, nodes: u64) -> Result<(), Violation> {
    let trial = || {
        let mut trial = copies.trial(seq);
        trial.set(vec![Setting::InflightBytesMax(u64::MAX)]);
        trial
    };
    let online = trial().online();
    let able = online.iter().filter(|node| trial().pull(node)).count() as u64;
    holds(able == nodes, || format!("job {} may be taken by {able} nodes, not {nodes}", seq.get()))
}

/// Without limits, as many jobs of its class are leased before it as are named, unless the gates of other kinds may close
/// meanwhile.
fn check_ahead(copies: &Copies, seq: JobSeq, ahead: u64) -> Result<(), Violation> {
    let mut trial = copies.trial(seq);
    let closes = |rules: &KindRules| rules.inflight_max.is_some() || rules.leases_per_1000_sec.is_some();
    if trial.hub().queue().ruled_kinds().any(|(_, rules, _)| closes(rules)) {
        return Ok(());
    }
    trial.set(vec![
        Setting::InflightMax(u64::MAX),
        Setting::InflightBytesMax(u64::MAX),
        Setting::LeasesPerZoneMax(u64::MAX),
        Setting::LeasesPerNodeMax(u64::MAX),
    ]);
    let class = trial.job().expect("it waits").class();
    let waiting = trial.hub().queue().iter_from(JobSeq::FIRST).filter(is_waiting);
    let mut of_class: BTreeSet<_> = waiting.filter(|job| job.class() == class).map(|job| job.seq()).collect();
    let (node, mut before) = (trial.register(), 0);
    while let Some(leased) = trial.pull_first(&node) {
        if leased == seq {
            return holds(before == ahead, || {
                format!("{before} jobs were leased before job {}, not {ahead}", seq.get())
            });
        }
        // One whose attempts may take no time is leased again at once.
        before += u64::from(of_class.remove(&leased));
    }
    Err(lie(seq, &trial.reasons(), "it was its turn, and it was not leased"))
}

fn lie(seq: JobSeq, reasons: &[Reason], what: &str) -> Violation {
    Violation::Invariant(format!("job {} was explained by {reasons:?}; {what}", seq.get()))
}
