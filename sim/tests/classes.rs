//! Classes of jobs at their limit, where a scenario as text would have a thousand lines.

use sheratan_core::limits::CLASSES_MAX;
use sheratan_core::{
    Command, Complete, Heartbeat, Idempotency, JobSeq, LeaseRef, Name, NameSet, OnDuplicate, OnFailed, Pull,
    ResultMark, RulesVersion, Submit, Timestamp, Zone,
};
use sheratan_history::{Source, Step};
use sheratan_sim::model_check::run::{Report, run_steps};

/// One job in each class that the hub has room for, two of them in the first; the second of these has a key.
fn classes_taken() -> Vec<Step> {
    let mut steps: Vec<_> = (0..CLASSES_MAX).map(|class| submit(class, None)).collect();
    steps.push(submit(0, Some(1)));
    steps
}

/// A submit of that class, with a key and this hash of its payload if given.
fn submit(class: usize, keyed_hash: Option<u8>) -> Step {
    let idempotency = keyed_hash.map(|hash| Idempotency {
        key: Name::new("key").expect("a name"),
        payload_hash: [hash; 32],
        on_duplicate: OnDuplicate::LatestWins,
        on_failed: OnFailed::SameResult,
        ttl_ms: None,
    });
    let submit = Submit {
        zone: Zone::new(Name::new(&format!("zone{class}")).expect("a name")),
        idempotency,
        ..Submit::new(Name::new("kind").expect("a name"), None)
    };
    Step::Apply(Timestamp::from_millis(1), Command::Submit(Box::new(submit)))
}

fn run(steps: &[Step]) -> Report {
    run_steps(0, steps).unwrap_or_else(|failure| panic!("{failure}"))
}

#[test]
fn a_submit_that_is_refused_for_its_class_supersedes_nothing() {
    let mut steps = classes_taken();
    steps.push(submit(CLASSES_MAX, Some(2)));
    steps.push(Step::Crash { kept: u64::MAX, from: Source::Log });
    let report = run(&steps);
    assert_eq!((report.accepted, report.tally.refused), (CLASSES_MAX as u64 + 1, 1));
}

#[test]
fn a_superseded_job_that_was_the_last_of_its_class_makes_room_for_another_class() {
    let mut steps = classes_taken();
    steps.remove(0);
    steps.push(submit(CLASSES_MAX, Some(2)));
    steps.push(Step::Crash { kept: u64::MAX, from: Source::Snapshot });
    let report = run(&steps);
    assert_eq!((report.accepted, report.tally.refused), (CLASSES_MAX as u64 + 1, 0));
}

#[test]
fn a_result_for_a_dead_letter_is_refused_while_no_further_class_may_have_jobs() {
    let (now, job) = (Timestamp::from_millis(1), JobSeq::FIRST);
    let name = |text: &str| Name::new(text).expect("a name");
    let node = name("node");
    let result = |ok, lease| {
        let (result, error, mark) = (None, None, ResultMark::Content(u64::from(ok)));
        let node = Some(node.clone());
        let (is_retryable, integrity, retry_after_ms) = (false, None, None);
        let complete = Complete { job, lease, node, ok, result, error, is_retryable, mark, integrity, retry_after_ms };
        Step::Apply(now, Command::Complete(complete))
    };
    let heartbeat = Heartbeat {
        node: node.clone(),
        zone: Zone::new(name(&format!("zone{CLASSES_MAX}"))),
        capabilities: NameSet::EMPTY,
        health: Default::default(),
        endpoint: None,
        labels: None,
        attestation: None,
        signing: None,
    };
    let pull = Pull { node: node.clone(), jobs_max: 1, kinds: NameSet::EMPTY, lease_duration_ms: None };
    let mut steps = vec![
        Step::Apply(now, Command::AdoptRules(RulesVersion::NEWEST)),
        Step::Apply(now, Command::Heartbeat(heartbeat)),
        submit(CLASSES_MAX, None),
        Step::Apply(now, Command::Pull(pull)),
        result(false, Some(LeaseRef { job, generation: 1 })),
    ];
    steps.extend(classes_taken());
    steps.push(result(true, None));
    let refused = run(&steps);
    assert_eq!((refused.tally.refused, refused.sightings.of("refused: already final")), (1, 1));
    steps.remove(6);
    let accepted = run(&steps);
    assert_eq!((accepted.tally.refused, accepted.sightings.of("dead letter completed")), (0, 1));
}
