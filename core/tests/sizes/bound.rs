//! The bound: what a hub holds at most whatever its clients do, while a snapshot makes a second one.

use crate::driver::{Driver, KEY, failure, heartbeat, job, keyed, name, payload, pull, success, zone};
use sheratan_core::limits::{Limits, SHARED_BYTES_MAX, WAITER_PLACES_MAX, WAITERS_BYTES_MAX, WAITERS_MAX};
use sheratan_core::{Account, Complete, Heartbeat, Ledger, Millis, Pull, Restore, Submit};

/// All limits are this part of their defaults; what cannot be set is filled to this part.
const PART: u64 = 64;

/// The operator's limits of the hub that is filled. Times stay as they are.
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

/// The most that each account may have, and whether it is durable: then a second hub has it as well.
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
fn a_hub_whose_accounts_are_full_and_its_snapshots_second_one_stay_within_the_bound() {
    let mut driver = Driver::with(narrow);
    let limits = driver.hub.limits().clone();
    // What the limits bound, twice where a second hub has it too.
    let bound: u64 =
        account_limits(&limits).iter().map(|(_, max, is_durable)| if *is_durable { 2 * max } else { *max }).sum();

    // Nodes with labels, half of them unlike all others.
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
    // Jobs that were done or not, with keys for their answers; more than are kept.
    for round in 0..20_000 {
        let (is_dead, kind) = (round % 8 == 0, if round % 8 == 0 { "dead" } else { "done" });
        let submit = Submit { attempts_max: Some(1), ..job(kind, 200) };
        let submit = if is_dead { submit } else { keyed(&format!("key {round}"), submit) };
        driver.now_ms += 100;
        if !driver.submit(submit) {
            // The oldest key is too young to go.
            assert!(!is_dead);
            driver.now_ms += limits.idempotency_floor_ms.get();
            continue;
        }
        let lease = driver.pull(&node, 1)[0].lease;
        let complete = if is_dead { failure(lease, 2_200) } else { success(lease, 450 + round % 100) };
        driver.complete(Complete { is_retryable: false, ..complete });
    }
    // Jobs that run, some for the third time, and jobs that wait, each with a kind of its own, in many classes.
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
    // Long polls, each of a node of its own and for kinds of its own.
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
    // What is held now, and what the snapshot adds.
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
