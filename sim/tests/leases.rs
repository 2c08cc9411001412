//! Leases kept for longer than a random run goes on.

use sheratan_core::limits::{LEASE_DURATION_MAX, NODE_FORGET_MS};
use sheratan_core::{Command, Extend, JobSeq, LeaseRef, Millis, Name, NameSet, Pull, Submit, Timestamp};
use sheratan_history::Step;
use sheratan_sim::model_check::run::run_steps;

fn submit() -> Command {
    Command::Submit(Box::new(Submit {
        attempts_max: Some(1),
        lease_duration_ms: Some(LEASE_DURATION_MAX),
        ..Submit::new(Name::new("kind").expect("a name"), None)
    }))
}

#[test]
fn a_silent_node_that_extends_its_lease_is_dropped_after_the_lease() {
    let node = Name::new("keeper").expect("a name");
    let begin = Timestamp::from_millis(1_768_500_000_000);
    let pull = Pull { node: node.clone(), jobs_max: 1, kinds: NameSet::EMPTY, lease_duration_ms: None };
    let mut steps = vec![Step::Apply(begin, submit()), Step::Apply(begin, Command::Pull(pull.clone()))];
    let leases = vec![LeaseRef { job: JobSeq::FIRST, generation: 1 }];
    let mut now = begin;
    while now < begin + NODE_FORGET_MS + NODE_FORGET_MS {
        now = now + Millis::new(LEASE_DURATION_MAX.get() - 1);
        let extend =
            Extend { node: node.clone(), leases: leases.clone(), lease_duration_ms: None, progress: None, note: None };
        steps.push(Step::Apply(now, Command::Extend(extend)));
    }
    steps.push(Step::Advance(now + LEASE_DURATION_MAX));
    // Its record gone, the node gets another number with its next job.
    let later = now + NODE_FORGET_MS + NODE_FORGET_MS;
    steps.push(Step::Apply(later, submit()));
    steps.push(Step::Apply(later, Command::Pull(pull)));
    let report = run_steps(0, &steps).unwrap_or_else(|failure| panic!("{failure}"));
    assert_eq!(report.sightings.of("lease reaped"), 1);
    assert_eq!(report.sightings.of("lease extended"), steps.len() as u64 - 5);
    assert_eq!(report.sightings.of("node registered"), 2);
}
