//! The queue against a model that is obviously right.
//!
//! Both get the same random history of submits, pulls, extensions, results and time; after each step their answers, the
//! state of every job and the counts must be the same. Limits are narrow, so that refusals are as frequent as leases. The
//! retry delay is fixed at a millisecond: what is random in it is tested where it is made.

mod model;

use model::{Model, NODES, RETRY_DELAY};
use proptest::prelude::*;
use proptest::sample::Index;
use sheratan_core::command::{Command, Complete, Extend, Health, Heartbeat, Priority, Pull, Submit};
use sheratan_core::hub::Hub;
use sheratan_core::ids::{HubKey, JobSeq, LeaseRef};
use sheratan_core::limits::Limits;
use sheratan_core::name::Name;
use sheratan_core::outcome::Outcome;
use sheratan_core::payload::Payload;
use sheratan_core::time::{Millis, Timestamp};

fn limits() -> Limits {
    Limits {
        queue_depth_max: 8,
        queue_bytes_max: 50,
        inflight_max: 5,
        leases_per_node_max: 3,
        lease_duration_ms: Millis::new(2_000),
        attempts_max: 2,
        retry_delay_ms_base: RETRY_DELAY,
        retry_delay_ms_cap: RETRY_DELAY,
        retained_jobs_max: 6,
        ..Limits::default()
    }
}

/// A step of a history. Leases are named by their place among those given so far, so that most of them mean something.
#[derive(Clone, Debug)]
enum Step {
    Pass(u64),
    Submit(Box<Submit>),
    Pull(Pull),
    Extend { node: Name, leases: Vec<(Index, u32)>, lease_duration_ms: Option<Millis> },
    Complete { lease: (Index, u32), has_lease: bool, is_crossed: bool, complete: Complete },
}

fn name(text: &str) -> Name {
    Name::new(text).expect("a test's name is valid")
}

fn names(text: &'static str) -> Vec<Name> {
    text.split(' ').filter(|word| !word.is_empty()).map(name).collect()
}

fn one_of(words: &[&'static str]) -> impl Strategy<Value = &'static str> + use<> {
    prop::sample::select(words.to_vec())
}

fn durations() -> impl Strategy<Value = Option<Millis>> {
    prop::option::of((500..4_000_u64).prop_map(Millis::new))
}

fn submits() -> impl Strategy<Value = Step> {
    let what = (one_of(&["x", "y", "z"]), 0..20_usize, one_of(&["", "", "default", "west"]), one_of(&["", "", "gpu"]));
    let priority = one_of(&["critical", "high", "normal", "normal", "low"]);
    let times = (prop_oneof![3 => Just(0), 1 => 0..2_000_u64], prop_oneof![3 => Just(0), 1 => 0..60_000_u64]);
    let ends =
        (prop::option::of(0..5_000_u64), prop::option::of(0..5_000_u64), prop::option::of(1..4_u32), durations());
    (what, priority, times, ends).prop_map(
        |((kind, bytes, zone, requires), priority, (delay, run_at), (ttl, budget, attempts_max, lease_duration_ms))| {
            Step::Submit(Box::new(Submit {
                kind: name(kind),
                params: Payload::new(&vec![b'1'; bytes]),
                priority: Priority::from_word(priority).expect("a priority"),
                zone: names(zone).pop(),
                requires: names(requires),
                delay_ms: Millis::new(delay),
                run_at: Timestamp::from_millis(run_at),
                ttl_ms: ttl.map(Millis::new),
                attempts_max,
                retry_budget_ms: budget.map(Millis::new),
                lease_duration_ms,
                idempotency: None,
            }))
        },
    )
}

fn steps() -> impl Strategy<Value = Step> {
    let node = || one_of(&["a", "b", "c"]).prop_map(name);
    // Mostly the lease itself, sometimes a later or an impossible generation of it.
    let lease = || (any::<Index>(), prop_oneof![6 => Just(0), 1 => Just(1), 1 => Just(u32::MAX)]);
    let pulls = (node(), 1..4_u32, one_of(&["", "", "x", "x z"]), durations()).prop_map(
        |(node, jobs_max, kinds, lease_duration_ms)| {
            Step::Pull(Pull { node, jobs_max, kinds: names(kinds), lease_duration_ms })
        },
    );
    let extends = (node(), prop::collection::vec(lease(), 0..3), durations())
        .prop_map(|(node, leases, lease_duration_ms)| Step::Extend { node, leases, lease_duration_ms });
    let flags =
        (prop::bool::weighted(0.6), prop::bool::weighted(0.7), prop::bool::weighted(0.8), prop::bool::weighted(0.1));
    let completes = (lease(), flags, prop::option::of(node()), 0..3_u64).prop_map(
        |(lease, (ok, has_lease, is_retryable, is_crossed), node, mark)| {
            let (result, error) = (Payload::ABSENT, Payload::ABSENT);
            let complete = Complete { job: JobSeq::FIRST, lease: None, node, ok, result, error, is_retryable, mark };
            Step::Complete { lease, has_lease, is_crossed, complete }
        },
    );
    let pass = prop_oneof![3 => 0..5_u64, 3 => 0..800_u64, 1 => 0..5_000_u64];
    prop_oneof![4 => pass.prop_map(Step::Pass), 5 => submits(), 5 => pulls, 2 => extends, 5 => completes]
}

impl Step {
    /// The command, now that leases have been given; `None` if only time passes.
    fn into_command(self, given: &[LeaseRef]) -> Option<Command> {
        let lease_of = |(index, later): (Index, u32)| match given {
            [] => LeaseRef { job: JobSeq::FIRST, generation: later },
            given => {
                let lease = given[index.index(given.len())];
                LeaseRef { generation: lease.generation.wrapping_add(later), ..lease }
            }
        };
        Some(match self {
            Step::Pass(_) => return None,
            Step::Submit(submit) => Command::Submit(submit),
            Step::Pull(pull) => Command::Pull(pull),
            Step::Extend { node, leases, lease_duration_ms } => {
                let leases = leases.into_iter().map(lease_of).collect();
                Command::Extend(Extend { node, leases, lease_duration_ms })
            }
            Step::Complete { lease, has_lease, is_crossed, complete } => {
                let lease = lease_of(lease);
                let job = JobSeq::new(lease.job.get() + u64::from(is_crossed));
                Command::Complete(Complete { job, lease: has_lease.then_some(lease), ..complete })
            }
        })
    }
}

fn hub() -> Hub {
    let mut hub = Hub::new(HubKey::new([3; 16]));
    hub.apply(Timestamp::ZERO, Command::Configure(Box::new(limits())));
    for (node, zone, capabilities) in NODES {
        hub.apply(
            Timestamp::ZERO,
            Command::Heartbeat(Heartbeat {
                node: name(node),
                zone: Some(name(zone)),
                capabilities: capabilities.iter().map(|text| name(text)).collect(),
                health: Health::Green,
                endpoint: None,
                labels: Payload::ABSENT,
            }),
        );
    }
    hub
}

/// Both have the same jobs in the same states, and count them alike.
fn agree(hub: &Hub, model: &Model) -> Result<(), TestCaseError> {
    let in_hub: Vec<_> = hub.queue().iter_from(JobSeq::FIRST).map(|job| (job.seq().get(), job.status())).collect();
    let in_model: Vec<_> = model.jobs.iter().map(|job| (job.seq, job.status(model.now))).collect();
    prop_assert_eq!(in_hub, in_model);
    let counts = hub.counts();
    prop_assert_eq!(counts.scheduled, model.count("scheduled"));
    prop_assert_eq!(counts.queued, model.count("queued"));
    prop_assert_eq!(counts.leased, model.count("leased"));
    prop_assert_eq!(counts.waiting_bytes, model.waiting_bytes());
    prop_assert_eq!(counts.retained, model.finals.len() as u64);
    for (node, ..) in NODES {
        let held = model.jobs.iter().filter(|job| job.is_held_by(&name(node))).count() as u64;
        prop_assert_eq!(hub.registry().by_name(node).map(|node| node.leases()), Some(held));
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn the_queue_answers_as_a_list_of_jobs_would(history in prop::collection::vec(steps(), 0..150)) {
        let mut hub = hub();
        let mut model = Model::new(limits());
        let mut given = Vec::new();
        for step in history {
            if let Step::Pass(ms) = step {
                let to = model.now + Millis::new(ms);
                model.pass(to);
                hub.advance(to);
            } else if let Some(command) = step.into_command(&given) {
                let expected = model.apply(&command);
                let outcome = hub.apply(model.now, command);
                if let Outcome::Pulled(pulled) = &outcome {
                    given.extend(pulled.leases.iter().map(|leased| leased.lease));
                }
                prop_assert_eq!(outcome, expected);
            }
            agree(&hub, &model)?;
        }
    }
}
