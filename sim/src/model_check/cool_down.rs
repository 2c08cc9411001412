//! Cool-down: when no more work comes, the operators' gates are open and nodes go on pulling, every job ends. Held on a copy
//! of the hub at the end of a run; the model is not asked.

use crate::model_check::copy::copy_of;
use crate::model_check::explain::takes_time;
use crate::model_check::violation::{Violation, holds};
use sheratan_core::{
    ClassKey, Command, Complete, Health, Heartbeat, Hub, JobSeq, JobView, KindRules, Millis, Name, NameSet, Outcome,
    Pull, ResultMark, SetKind, Setting, State, Timestamp,
};
use std::collections::BTreeSet;

/// The longest time between two rounds of pulls: a month.
const STEP_MAX: Millis = Millis::from_secs(30 * 86_400);
/// Rounds beside one for each job: enough for the time between them to grow to [`STEP_MAX`], and for some years after.
const ROUNDS: usize = 300;
/// A hub that is so near to the end of time has none left.
const TIME_LEFT_MIN: Millis = Millis::from_secs(200 * 366 * 86_400);
/// Jobs that a node pulls at once.
const PULLED_MAX: u32 = 100;

/// Checks that every job ends, but for those that are for later.
pub fn check_cool_down(hub: &Hub) -> Result<(), Violation> {
    if hub.now() + TIME_LEFT_MIN == Timestamp::NEVER {
        return Ok(());
    }
    let mut copy = copy_of(hub);
    open(&mut copy);
    let classes: BTreeSet<ClassKey> = unfinished(&copy).map(|job| job.class().clone()).collect();
    let nodes: Vec<(Name, ClassKey)> = classes.into_iter().enumerate().map(|(n, class)| (name(n), class)).collect();
    let mut step = Millis::new(1);
    let mut rounds_left = unfinished(&copy).count() + ROUNDS;
    while let Some(seq) = left(&copy) {
        holds(rounds_left > 0, || {
            let job = copy.queue().get(seq).expect("it was just found");
            let reasons = copy.explain(seq).map(|explanation| explanation.reasons);
            format!("job {} is {} when all work is done, for {reasons:?}", seq.get(), job.status())
        })?;
        rounds_left -= 1;
        nodes.iter().for_each(|(node, class)| work(&mut copy, node, class));
        step = Millis::new(step.get() * 2).min(STEP_MAX);
        let at = copy.now() + step;
        copy.advance(at);
    }
    Ok(())
}

/// The first job that has not ended and should.
fn left(copy: &Hub) -> Option<JobSeq> {
    unfinished(copy).map(|job| job.seq()).find(|seq| !is_for_later(copy, *seq))
}

/// Opens what an operator may keep closed for ever: limits of nothing, kinds that are paused, a budget without a floor. Acts on
/// letters, which bring work, end.
fn open(copy: &mut Hub) {
    let limits = copy.limits();
    let at_least_one = [
        Setting::InflightMax(limits.inflight_max.max(1)),
        Setting::LeasesPerNodeMax(limits.leases_per_node_max.max(1)),
        Setting::LeasesPerZoneMax(limits.leases_per_zone_max.max(1)),
        Setting::RetriesPerSecMin(limits.retries_per_sec_min.max(1)),
    ];
    let room = [Setting::NodesMax(u64::MAX), Setting::NodesBytesMax(u64::MAX)];
    copy.apply(copy.now(), Command::Set(at_least_one.into_iter().chain(room).collect()));
    let acts: Vec<_> = copy.acts().iter().filter(|act| act.is_running()).map(|act| act.id).collect();
    acts.into_iter().for_each(|act| _ = copy.apply(copy.now(), Command::CancelAct(act)));
    let ruled: Vec<_> = copy.queue().ruled_kinds().map(|(kind, rules, _)| (kind.clone(), rules.clone())).collect();
    for (kind, rules) in ruled {
        let inflight_max = rules.inflight_max.map(|max| max.max(1));
        let leases_per_1000_sec = rules.leases_per_1000_sec.map(|rate| rate.max(1));
        let burst = rules.burst.map(|burst| burst.max(1));
        let rules = KindRules { pause: None, inflight_max, leases_per_1000_sec, burst, ..rules };
        let set = SetKind { kind, rules, expected: None, configured: None };
        copy.apply(copy.now(), Command::SetKind(Box::new(set)));
    }
}

/// A node that can do all of a class pulls, and completes what it gets.
fn work(copy: &mut Hub, node: &Name, class: &ClassKey) {
    let heartbeat = Heartbeat {
        node: node.clone(),
        zone: class.zone.clone(),
        capabilities: class.requires.clone(),
        health: Health::Green,
        endpoint: None,
        labels: None,
        attestation: None,
        signing: None,
    };
    copy.apply(copy.now(), Command::Heartbeat(heartbeat));
    let pull = Pull { node: node.clone(), jobs_max: PULLED_MAX, kinds: NameSet::default(), lease_duration_ms: None };
    let Outcome::Pulled(pulled) = copy.apply(copy.now(), Command::Pull(pull)) else { return };
    for leased in pulled.leases {
        let complete = Complete {
            job: leased.lease.job,
            lease: Some(leased.lease),
            node: Some(node.clone()),
            ok: true,
            result: None,
            error: None,
            is_retryable: true,
            mark: ResultMark::Content(0),
            integrity: None,
            retry_after_ms: None,
        };
        copy.apply(copy.now(), Command::Complete(complete));
    }
}

fn unfinished(copy: &Hub) -> impl Iterator<Item = JobView<'_>> {
    copy.queue().iter_from(JobSeq::FIRST).filter(|job| !matches!(job.state(), State::Final { .. }))
}

/// Whether it waits for an instant that was named for it, which may be in a thousand years.
fn is_for_later(copy: &Hub, seq: JobSeq) -> bool {
    let explanation = copy.explain(seq).expect("it is known");
    explanation
        .reasons
        .iter()
        .any(|reason| takes_time(reason) && reason.until(copy).is_none_or(|until| until > copy.now() + STEP_MAX))
}

fn name(number: usize) -> Name {
    Name::new(&format!("cool-{number}")).expect("it is a name")
}
