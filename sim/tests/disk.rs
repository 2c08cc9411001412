//! The real journal on a virtual disk: what was acknowledged is there after every end, whatever the disk did.

use sheratan_sim::journal_check::run_seed;
use std::collections::BTreeMap;

const SEEDS: u64 = 300;
/// Seeds beyond those that found something once.
const KNOWN_SEEDS: [u64; 2] = [615, 972];

#[test]
fn what_was_acknowledged_survives_every_power_cut_at_every_operation() {
    let (mut tally, mut recoveries, mut records, mut refused) = (BTreeMap::new(), 0, 0, 0);
    for seed in (0..SEEDS).chain(KNOWN_SEEDS) {
        let survived = run_seed(seed);
        for (what, count) in survived.disk {
            *tally.entry(what).or_insert(0) += count;
        }
        recoveries += survived.recoveries;
        records += survived.records;
        refused += survived.refused_for_sectors;
    }
    assert!(refused > SEEDS / 10, "starts are hardly refused for a bad sector: {refused}");
    println!("{recoveries} recoveries, {records} records, {tally:?}");
    for what in [
        "crash point",
        "power cut",
        "process kill",
        "sync error",
        "write error",
        "bad sector",
        "failed open",
        "failed rename",
    ] {
        assert!(tally.get(what).is_some_and(|count| *count > SEEDS / 3), "{what} hardly happens: {tally:?}");
    }
}

#[test]
fn a_run_is_the_same_run_every_time() {
    assert_eq!(run_seed(7), run_seed(7));
}
