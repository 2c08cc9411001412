//! The mesh: seeds of it go well, show what they should, and mean one run each.

use sheratan_sim::mesh::library;
use sheratan_sim::mesh::plan::Plan;
use sheratan_sim::mesh::run::{Totals, run};

/// Minutes of chaos: enough for each fault of a plan to come.
const MINUTES: u64 = 2;

#[test]
fn seeds_of_the_mesh_go_well_and_see_what_can_go_wrong() {
    let mut totals = Totals::default();
    for seed in 0..200 {
        match run(&Plan::of(seed, MINUTES), |_| {}) {
            Ok(report) => totals.add(&report),
            Err(failure) => panic!("{failure}\nreproduce it: sheratan-sim run --seed {seed} --minutes {MINUTES}"),
        }
    }
    // Commands that change nothing (repeats, wakes of long polls) are not in the journal: the actors' marks stand for
    // them.
    let expected = [
        "attempt retried",
        "attempts exhausted",
        "audit page read",
        "audit page read: nothing new",
        "audit page read: what it should begin with has gone",
        "batch answered in part",
        "batch of results answered",
        "event heard: audit",
        "event heard: counters",
        "event stream dropped: its listener does not read",
        "honest result taken after a tampered one",
        "hub died in a commit",
        "hub died in a snapshot",
        "journal down",
        "lease extended",
        "lease reaped",
        "node dead",
        "operator: act done",
        "operator: act done at once",
        "operator: act runs",
        "operator: dead letters",
        "operator: job cancelled",
        "operator: kind paused",
        "operator: kind set",
        "operator: letter discarded",
        "operator: letter requeued",
        "operator: letters counted",
        "operator: node drained",
        "operator: node resumed",
        "operator: refused for an older version",
        "operator: weights set",
        "page read",
        "pull with a result answered",
        "read: a job that has ended",
        "read: a job that has not ended",
        "read: no such job",
        "read: refused while the journal fails",
        "recovered from a snapshot",
        "recovered: torn tail cut",
        "reply lost",
        "request pipelined",
        "snapshot made",
        "status 403",
        "status 409",
        "status 410",
        "status 429",
        "status 503",
        "submitted: replacing",
        "tampered result refused",
        "wait for an end: it came",
        "wait for an end: its time was over",
        "worker: lease released",
    ];
    let missing: Vec<_> = expected.iter().filter(|mark| !totals.marks.contains_key(**mark)).collect();
    assert!(missing.is_empty(), "never seen: {missing:?}; seen: {:?}", totals.marks);
}

#[test]
fn a_tampered_result_is_refused_and_the_honest_one_is_taken_after_it() {
    let plan = Plan::parse(library::find("tamper").expect("it is there")).expect("it is one");
    let mut totals = Totals::default();
    for seed in 1..=5 {
        let report = run(&Plan { seed, ..plan.clone() }, |_| {});
        totals.add(&report.unwrap_or_else(|failure| panic!("{failure}")));
    }
    let count = |mark: &str| totals.marks.get(mark).copied().unwrap_or(0);
    let [refused, taken] = ["tampered result refused", "honest result taken after a tampered one"].map(count);
    // A kill of the hub, or a lease that ends meanwhile, takes a few.
    assert!(refused > 200 && taken * 10 > refused * 9, "{refused} were refused, {taken} were taken after that");
}

#[test]
fn a_seed_means_one_run() {
    for seed in [3, 17, 40] {
        let plan = Plan::of(seed, MINUTES);
        let [one, other] = [(), ()].map(|()| run(&plan, |_| {}));
        assert_eq!(one, other);
    }
    let plan = Plan::of(3, MINUTES);
    let [one, other] = [3, 4].map(|seed| run(&Plan { seed, ..plan.clone() }, |_| {}).expect("it goes well"));
    assert_ne!(one.trail_hash, other.trail_hash, "another seed is another run");
}
