//! Each check can fail: a world that is tampered with has a violation.

use super::*;
use sheratan_core::{Complete, Heartbeat, JobSeq, NameSet, Payload, ResultMark, Submit, Zone};
use sheratan_history::SnapshotOf;

fn name(text: &str) -> Name {
    Name::new(text).expect("a name")
}

fn at(ms: u64) -> Timestamp {
    Timestamp::from_millis(ms)
}

fn submit() -> Command {
    Command::Submit(Box::new(Submit::new(name("kind"), Some(Payload::new(b"1")))))
}

fn pull() -> Pull {
    Pull { node: name("node"), jobs_max: 1, kinds: NameSet::default(), lease_duration_ms: None }
}

fn complete(mark: u64) -> Command {
    let job = JobSeq::FIRST;
    Command::Complete(Complete {
        job,
        lease: Some(LeaseRef { job, generation: 1 }),
        node: Some(name("node")),
        ok: true,
        result: None,
        error: None,
        is_retryable: true,
        mark: ResultMark::Content(mark),
        integrity: None,
        retry_after_ms: None,
    })
}

/// A world in which one job was submitted and another one completed.
fn world() -> World {
    let mut world = World::new(HubKey::new([7; 16]));
    for command in [submit(), submit(), Command::Pull(pull()), complete(1)] {
        world.step(&Step::Apply(at(1_000), command)).expect("the hub is well");
    }
    world.step(&Step::Sync).expect("the hub is well");
    world
}

fn kind_of(result: Result<(), Violation>) -> &'static str {
    result.expect_err("this is not well").kind()
}

#[test]
fn a_world_that_is_left_alone_is_well() {
    let mut world = world();
    world.finish().expect("the hub is well");
    assert_eq!((world.ledger().accepted(), world.ledger().completed()), (2, 1));
}

#[test]
fn a_record_that_was_acknowledged_and_lost_shows_at_the_crash() {
    let mut world = world();
    world.log.truncate(3);
    assert_eq!(kind_of(world.step(&Step::Crash { kept: 0, from: Source::Log })), "replay");
}

#[test]
fn a_command_that_was_not_journaled_shows_at_the_crash() {
    let mut world = world();
    world.model.apply(at(2_000), &submit(), world.hub.ids());
    world.hub.apply(at(2_000), submit());
    world.hub.settle(&mut Vec::new());
    assert_eq!(kind_of(world.step(&Step::Crash { kept: 0, from: Source::Log })), "replay");
}

#[test]
fn a_snapshot_of_another_state_shows_at_the_crash() {
    let mut world = world();
    let mut other = Hub::new(world.key);
    other.apply(at(1_000), submit());
    world.log.make_snapshot(SnapshotOf::Live, &other).expect("it can be written");
    assert_eq!(kind_of(world.step(&Step::Crash { kept: 0, from: Source::Snapshot })), "replay");
}

#[test]
fn another_answer_than_the_models_shows_at_once() {
    let mut world = world();
    world.hub.apply(at(1_000), Command::Pull(pull()));
    assert_eq!(kind_of(world.step(&Step::Apply(at(1_000), Command::Pull(pull())))), "answer");
}

#[test]
fn a_row_that_the_model_does_not_have_shows_at_the_next_check() {
    let mut world = world();
    let heartbeat = Heartbeat {
        node: name("stranger"),
        zone: Zone::default(),
        capabilities: NameSet::default(),
        health: Default::default(),
        endpoint: None,
        labels: None,
        attestation: None,
        signing: None,
    };
    world.hub.apply(at(1_000), Command::Heartbeat(heartbeat));
    assert_eq!(kind_of(world.check()), "rows");
}

#[test]
fn a_job_that_ends_twice_shows_in_the_ledger() {
    let mut world = world();
    assert_eq!(
        kind_of(world.check_ends_and_wakes(vec![Effect::Ended { job: JobSeq::FIRST, gone: None }])),
        "invariant"
    );
}

#[test]
fn a_job_that_vanishes_shows_in_the_ledger() {
    let mut world = world();
    let other = World::new(world.key);
    (world.hub, world.model) = (other.hub, other.model);
    assert_eq!(kind_of(world.check()), "invariant");
}

#[test]
fn a_long_poll_that_is_not_woken_shows_at_the_next_check() {
    let mut world = world();
    let parked = Parked { pull: pull(), is_patient: true, until: at(9_000) };
    world.parked.insert(WaiterId(1), parked);
    assert_eq!(kind_of(world.check()), "wake");
}

#[test]
fn a_long_poll_that_is_woken_without_waiting_shows_at_once() {
    let mut world = world();
    assert_eq!(kind_of(world.check_ends_and_wakes(vec![Effect::Wake(WaiterId(1))])), "wake");
}
