//! The bound: the most memory that a hub takes, whatever its clients do, while a second hub is restored from its
//! snapshot.

use crate::driver::{Driver, KEY, failure, heartbeat, job, keyed, name, payload, pull, success, zone};
use sheratan_core::limits::{Limits, SHARED_BYTES_MAX, WAITER_PLACES_MAX, WAITERS_BYTES_MAX, WAITERS_MAX};
use sheratan_core::{Account, Complete, Heartbeat, Ledger, Millis, Pull, Restore, Submit};

/// All limits are divided by this; bounds that cannot be set are filled to this fraction.
const PART: u64 = 64;

/// Divides the operator's limits. Times are not changed.
fn narrow(limits: &mut Limits) {
    for max in [
        &mut limits.queue_depth_max,
        &mut limits.queue_bytes_max,
        &mut limits.inflight_max,
        &mut limits.retained_jobs_max,
        &mut limits.retained_bytes_max,
        &mut limits.dead_jobs_max,
        &mut limits.dead_bytes_max,
        &mut limits.idempotency_keys_max,
        &mut limits.answers_bytes_max,
        &mut limits.nodes_max,
        &mut limits.nodes_bytes_max,
    ] {
        *max /= PART;
    }
}

/// The limit of each account, and whether it is durable: then the second hub has it as well.
fn account_limits(limits: &Limits) -> [(&'static str, u64, bool); 7] {
    [
        ("unfinished", limits.queue_bytes_max, true),
        ("retained", limits.retained_bytes_max, true),
        ("dead", limits.dead_bytes_max, true),
        ("answers", limits.answers_bytes_max, true),
        ("nodes", limits.nodes_bytes_max, true),
        ("shared", SHARED_BYTES_MAX / PART, true),
        ("waiters", WAITERS_BYTES_MAX / PART, false),
    ]
}

fn on_account(ledger: &Ledger, what: &str) -> u64 {
    match what {
        "unfinished" => ledger.unfinished(),
        what => ledger.get(*Account::ALL.iter().find(|account| account.as_str() == what).expect("it is an account")),
    }
}

#[test]
fn a_hub_whose_accounts_are_full_and_a_second_one_restored_from_it_stay_within_the_bound() {
    let mut driver = Driver::with(narrow);
    let limits = driver.hub.limits().clone();
    // The sum of all limits, twice for those of durable accounts.
    let bound: u64 =
        account_limits(&limits).iter().map(|(_, max, is_durable)| if *is_durable { 2 * max } else { *max }).sum();

    // Nodes with labels, half of them with a profile of their own.
    let mut known = 0;
    loop {
        let mut of_node = Heartbeat { labels: payload(1_200), ..heartbeat(&format!("{known:0200}")) };
        if known % 2 == 0 {
            of_node.capabilities = [name(&format!("host {known}"))].into_iter().collect();
        }
        if !driver.heartbeat(of_node) {
            break;
        }
        known += 1;
    }
    let node = format!("{:0200}", 1);
    // Jobs that succeeded (with keys, for their answers) or are dead; more than are retained.
    for round in 0..20_000 {
        let (is_dead, kind) = (round % 8 == 0, if round % 8 == 0 { "dead" } else { "done" });
        let submit = Submit { attempts_max: Some(1), ..job(kind, 200) };
        let submit = if is_dead { submit } else { keyed(&format!("key {round}"), submit) };
        driver.now_ms += 100;
        if !driver.submit(submit) {
            // The oldest key is too young to be evicted.
            assert!(!is_dead);
            driver.now_ms += limits.idempotency_floor_ms.get();
            continue;
        }
        let lease = driver.pull(&node, 1)[0].lease;
        let complete = if is_dead { failure(lease, 2_200) } else { success(lease, 450 + round % 100) };
        driver.complete(Complete { is_retryable: false, ..complete });
    }
    // Jobs under their third lease, and waiting jobs, each with a kind of its own, in many classes.
    let day = Millis::from_secs(86_400);
    let mut waiting = 0;
    let mut submit_one = |driver: &mut Driver, bytes: usize| {
        let requires = [name(&format!("requires {}", waiting % 300))].into_iter().collect();
        let delay_ms = if waiting % 2 == 0 { Millis::ZERO } else { day };
        let submit = Submit {
            requires,
            zone: zone("west"),
            delay_ms,
            ttl_ms: Some(day),
            ..job(&format!("{waiting:0250}"), bytes)
        };
        waiting += 1;
        driver.submit(submit)
    };
    for _ in 0..limits.inflight_max {
        assert!(driver.submit(job("runs", 6_000)));
    }
    for attempt in 1..=3 {
        let mut leases = Vec::new();
        while let [leased] = driver.pull(&node, 1)[..] {
            leases.push(leased.lease);
        }
        assert_eq!(leases.len() as u64, limits.inflight_max);
        if attempt < 3 {
            leases.into_iter().for_each(|lease| driver.complete(failure(lease, 1_000)));
            driver.now_ms += limits.retry_delay_ms_cap.get();
        }
    }
    while submit_one(&mut driver, 9_000) {}
    while submit_one(&mut driver, 500) {}
    // Long polls, each of another node and for other kinds.
    let (polls, places) = (WAITERS_MAX / PART as usize, WAITER_PLACES_MAX / WAITERS_MAX);
    for poll in 0..polls {
        let kinds = (0..places).map(|place| name(&format!("{:0240}", poll * places + place))).collect();
        assert!(driver.park(poll as u64, &Pull { kinds, ..pull(&format!("poll {poll:0240}"), 1) }));
    }

    for (what, max, _) in account_limits(&limits) {
        let held = on_account(driver.hub.ledger(), what);
        println!("{what:12} {held:9} of {max:9} bytes");
        assert!(held <= max && held * 4 >= max * 3, "{what}: {held} of {max} bytes");
    }
    assert_eq!(driver.hub.recount(), *driver.hub.ledger());
    // What is held before and during the restore.
    let held = driver.held();
    let mut restore = Restore::new(KEY);
    driver.hub.snapshot(|record| restore.record(record).expect("a record that was just written can be read"));
    let second = restore.finish().expect("the snapshot is whole");
    let peak = driver.peak();
    println!("{held} bytes are held, {peak} at the peak, {:.2} of the bound of {bound}", peak as f64 / bound as f64);
    assert_eq!(second.digest(), driver.hub.digest());
    assert!(peak <= bound, "{peak} bytes, and the bound is {bound}");
    assert!(peak as f64 >= 0.6 * bound as f64, "{peak} bytes, and the bound is {bound}: it says nothing");
}
