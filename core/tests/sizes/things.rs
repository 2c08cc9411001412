//! Things that the ledger charges: thousands of each, and the memory that one of them takes.

use crate::driver::{Driver, KEY, failure, heartbeat, job, keyed, name, payload, pull, success, zone};
use sheratan_core::{
    Attestation, Command, Heartbeat, Leased, Millis, NameSet, PublicKey, Pull, Restore, RulesVersion, Setting, Signing,
    Submit, Timestamp, Verdict,
};

/// Numbers of things between powers of two: vectors that double have some, the most, and little spare capacity.
const COUNTS: [u64; 3] = [6_000, 8_200, 16_000];

/// Builds some of one thing in a hub; returns for each count the bytes held and the bytes charged, both for one thing.
fn measure(what: &str, prepare: impl Fn(&mut Driver), build: impl Fn(&mut Driver, u64)) -> Vec<(f64, f64)> {
    let mut found = Vec::new();
    for count in COUNTS {
        let mut driver = Driver::without_limits();
        prepare(&mut driver);
        let (held, charged) = (driver.held(), driver.hub.ledger().total());
        build(&mut driver, count);
        assert_eq!(driver.hub.recount(), *driver.hub.ledger());
        let held = (driver.held() as f64 - held as f64) / count as f64;
        let charged = (driver.hub.ledger().total() as f64 - charged as f64) / count as f64;
        println!("{what:32} {count:6} {held:8.1} held {charged:8.1} charged {:.2}", held / charged);
        found.push((held, charged));
    }
    found
}

/// The errors of all things that a test measures.
#[derive(Default)]
struct Table {
    wrong: Vec<String>,
    /// The documented size of the things that are checked next.
    held_max: Option<f64>,
}

impl Table {
    /// Checks that no more is held than is charged, and no less than the fraction `least` of it.
    fn check(&mut self, what: &str, least: f64, prepare: impl Fn(&mut Driver), build: impl Fn(&mut Driver, u64)) {
        for (held, charged) in measure(what, prepare, build) {
            if self.held_max.is_some_and(|held_max| held > held_max) {
                self.wrong.push(format!("{what}: {held:.1} bytes are held"));
            }
            if held > charged || held < least * charged {
                self.wrong.push(format!("{what}: {held:.1} bytes are held and {charged:.1} are charged"));
            }
        }
    }

    fn end(self) {
        assert!(self.wrong.is_empty(), "{:#?}", self.wrong);
    }
}

fn nothing(_: &mut Driver) {}

fn forget_at_once(driver: &mut Driver) {
    driver.set(Setting::RetainedJobsMax(0));
}

fn submit(count: u64, of: impl Fn(u64) -> Submit) -> impl Fn(&mut Driver) {
    move |driver| (0..count).for_each(|n| assert!(driver.submit(of(n))))
}

fn lease_all(driver: &mut Driver, node: &str) -> Vec<Leased> {
    let mut leases = Vec::new();
    loop {
        let pulled = driver.pull(node, 1_000);
        if pulled.is_empty() {
            return leases;
        }
        leases.extend(pulled);
    }
}

#[test]
fn a_job_takes_what_it_is_charged() {
    let mut table = Table::default();
    let soon = Millis::new(1_000);
    table.held_max = Some(160.0);
    table.check("queued", 0.5, nothing, |driver, count| submit(count, |_| job("k", 0))(driver));
    table.held_max = None;
    table.check("queued with 100 bytes", 0.6, nothing, |driver, count| submit(count, |_| job("k", 100))(driver));
    table.check("scheduled", 0.5, nothing, |driver, count| {
        submit(count, |_| Submit { delay_ms: soon, ..job("k", 0) })(driver);
    });
    table.check("scheduled in any order", 0.6, nothing, |driver, count| {
        submit(count, |n| Submit { delay_ms: Millis::new(1 + n * 7_919 % count), ..job("k", 0) })(driver);
    });
    table.check("late in its lane", 0.6, nothing, |driver, count| {
        submit(count, |n| Submit { delay_ms: Millis::new(count + 1 - n), ..job("k", 0) })(driver);
        driver.now_ms += count + 2;
        driver.hub.advance(sheratan_core::Timestamp::from_millis(driver.now_ms));
    });
    let ages = |driver: &mut Driver| {
        driver.apply(Command::AdoptRules(RulesVersion::NEWEST));
        driver.set(Setting::PriorityAge(Millis::from_secs(60)));
        driver.hub.advance(Timestamp::from_millis(1));
        driver.now_ms = 1;
    };
    table.check("queued and ageing", 0.5, ages, |driver, count| submit(count, |_| job("k", 0))(driver));
    table.check("aged once", 0.5, ages, |driver, count| {
        submit(count, |_| job("k", 0))(driver);
        driver.now_ms += 60_000;
        driver.hub.advance(Timestamp::from_millis(driver.now_ms));
    });
    table.check("late and ageing", 0.5, ages, |driver, count| {
        submit(count, |n| Submit { delay_ms: Millis::new(count + 1 - n), ..job("k", 0) })(driver);
        driver.now_ms += count + 2;
        driver.hub.advance(Timestamp::from_millis(driver.now_ms));
    });
    table.check("late and ageing with terms", 0.5, ages, |driver, count| {
        let ttl_ms = |n| Some(Millis::new(1_000_000 + n * 7_919 % count));
        submit(count, |n| Submit { ttl_ms: ttl_ms(n), delay_ms: Millis::new(1 + n * 7_919 % count), ..job("k", 0) })(
            driver,
        );
        driver.now_ms += count + 2;
        driver.hub.advance(Timestamp::from_millis(driver.now_ms));
    });
    let ages_in_turns = |driver: &mut Driver| {
        driver.set(Setting::FairBy(1));
        ages(driver);
    };
    table.check("late and ageing in turns", 0.5, ages_in_turns, |driver, count| {
        submit(count, |n| Submit { delay_ms: Millis::new(1 + n * 7_919 % count), ..job("k", 0) })(driver);
        driver.now_ms += count + 2;
        driver.hub.advance(Timestamp::from_millis(driver.now_ms));
    });
    for (what, attempts) in [("a ready retry that ages", 1), ("a third one", 3)] {
        table.check(what, 0.5, ages, |driver, count| {
            driver.set(Setting::RetriesPerSecMin(u32::MAX));
            submit(count / 4, |_| Submit { attempts_max: Some(9), ..job("k", 0) })(driver);
            for _ in 0..attempts {
                lease_all(driver, "a").iter().for_each(|leased| driver.complete(failure(leased.lease, 20)));
                driver.now_ms += 45_000;
                driver.hub.advance(Timestamp::from_millis(driver.now_ms));
            }
            assert_eq!(driver.hub.counts().queued, count / 4);
        });
    }
    table.check("queued with terms", 0.6, nothing, |driver, count| {
        submit(count, |n| Submit { ttl_ms: Some(Millis::new(1 + n * 7_919 % count)), ..job("k", 0) })(driver);
    });
    table.check("with a client each", 0.5, nothing, |driver, count| {
        submit(count, |n| Submit { client: Some(name(&format!("client {n}"))), ..job("k", 0) })(driver);
    });
    table.held_max = Some(268.0);
    table.check("keyed with ttl", 0.6, nothing, |driver, count| {
        submit(count, |n| Submit { ttl_ms: Some(soon), ..keyed(&format!("key {n}"), job("k", 0)) })(driver);
    });
    table.end();
}

#[test]
fn a_lease_and_an_end_take_what_they_are_charged() {
    let mut table = Table::default();
    table.check("leased", 0.6, nothing, |driver, count| {
        submit(count, |_| job("k", 0))(driver);
        lease_all(driver, "a");
    });
    table.check("leased with terms", 0.6, nothing, |driver, count| {
        submit(count, |_| Submit { ttl_ms: Some(Millis::from_secs(1)), ..job("k", 0) })(driver);
        lease_all(driver, "a");
    });
    table.check("completed", 0.6, nothing, |driver, count| {
        submit(count, |_| job("k", 0))(driver);
        lease_all(driver, "a").iter().for_each(|leased| driver.complete(success(leased.lease, 10)));
    });
    table.check("completed with a client each", 0.5, nothing, |driver, count| {
        submit(count, |n| Submit { client: Some(name(&format!("client {n}"))), ..job("k", 0) })(driver);
        lease_all(driver, "a").iter().for_each(|leased| driver.complete(success(leased.lease, 10)));
    });
    table.check("expired", 0.6, nothing, |driver, count| {
        submit(count, |_| Submit { ttl_ms: Some(Millis::ZERO), ..job("k", 0) })(driver);
    });
    for (what, attempts) in [("one attempt", 1), ("two attempts", 2), ("five attempts", 5), ("seventeen attempts", 17)]
    {
        table.check(what, 0.5, nothing, |driver, count| {
            submit(count / 4, |_| Submit { attempts_max: Some(attempts), ..job("k", 0) })(driver);
            for _ in 0..attempts {
                lease_all(driver, "a").iter().for_each(|leased| driver.complete(failure(leased.lease, 20)));
                driver.now_ms += 15_000;
            }
            assert_eq!(driver.hub.counts().dead, count / 4);
        });
    }
    table.end();
}

#[test]
fn a_key_and_an_answer_take_what_they_are_charged() {
    let mut table = Table::default();
    table.check("keys of unfinished jobs", 0.5, nothing, |driver, count| {
        submit(count, |n| keyed(&format!("key {n}"), job("k", 0)))(driver);
    });
    let spend = |result: usize| {
        move |driver: &mut Driver, count: u64| {
            driver.set(Setting::RetainedJobsMax(0));
            submit(count, |n| keyed(&format!("key {n}"), job("k", 0)))(driver);
            lease_all(driver, "a").iter().for_each(|leased| driver.complete(success(leased.lease, result)));
            assert_eq!(driver.hub.queue().len(), 0);
        }
    };
    table.check("spent keys", 0.6, nothing, spend(0));
    table.check("answers", 0.6, nothing, spend(10));
    table.check("answers of 300 bytes", 0.6, nothing, spend(300));
    table.end();
}

#[test]
fn a_node_takes_what_it_is_charged() {
    let mut table = Table::default();
    table.check("nodes", 0.55, nothing, |driver, count| {
        (0..count).for_each(|n| assert!(driver.heartbeat(heartbeat(&format!("node-{n}")))));
    });
    table.check("nodes with labels", 0.6, nothing, |driver, count| {
        (0..count).for_each(|n| {
            let of_node = heartbeat(&format!("node-{n}"));
            assert!(driver.heartbeat(Heartbeat { labels: payload(300), endpoint: Some(name("e")), ..of_node }));
        });
    });
    let attests = |n: u64, build: &str, capabilities: u64| {
        let (build_id, capability_hash) = (Some(name(build)), Some(name(&format!("{capabilities:064x}"))));
        let attestation = Attestation { build_id, capability_hash, runtime: payload(100) };
        Heartbeat { attestation: Some(Box::new(attestation)), ..heartbeat(&format!("node-{n}")) }
    };
    // Baseline, latest and first change share their texts until the node drifts.
    table.check("nodes that attest", 0.45, nothing, |driver, count| {
        (0..count).for_each(|n| assert!(driver.heartbeat(attests(n, "b", 0))));
    });
    table.check("nodes that drift", 0.6, nothing, |driver, count| {
        for build in 0..20 {
            (0..count).for_each(|n| assert!(driver.heartbeat(attests(n, &format!("build-{build}"), 0))));
        }
    });
    table.check("nodes in quarantine", 0.5, nothing, |driver, count| {
        for flip in 0..20 {
            (0..count).for_each(|n| assert!(driver.heartbeat(attests(n, "b", flip))));
        }
    });
    table.check("nodes that sign", 0.5, nothing, |driver, count| {
        (0..count).for_each(|n| {
            let key = Some(PublicKey::new([7; 32]));
            let signing = Signing { key, verdict: Verdict::Valid, ..Signing::default() };
            let of_node = heartbeat(&format!("node-{n}"));
            assert!(driver.heartbeat(Heartbeat { signing: Some(Box::new(signing)), ..of_node }));
        });
    });
    let of_its_own = |n: u64| {
        let capabilities: NameSet = [name(&format!("host-{n}"))].into_iter().collect();
        Heartbeat { capabilities, ..heartbeat(&format!("node-{n}")) }
    };
    // All classes that may exist: a profile that is used has a bit for each.
    let classes = |driver: &mut Driver| {
        for n in 0..4_096 {
            let requires = [name(&format!("r-{n}"))].into_iter().collect();
            assert!(driver.submit(Submit { requires, zone: zone(&format!("z-{}", n / 1_024)), ..job("k", 0) }));
        }
    };
    table.check("nodes unlike others", 0.3, classes, |driver, count| {
        (0..count).for_each(|n| assert!(driver.heartbeat(of_its_own(n))));
    });
    table.check("nodes unlike others that pull", 0.6, classes, |driver, count| {
        (0..count).for_each(|n| {
            assert!(driver.heartbeat(of_its_own(n)));
            assert!(driver.pull(&format!("node-{n}"), 1).is_empty());
        });
    });
    table.check("nodes with a lease", 0.5, nothing, |driver, count| {
        submit(count, |_| job("k", 0))(driver);
        (0..count).for_each(|n| assert_eq!(driver.pull(&format!("node-{n}"), 1).len(), 1));
    });
    table.end();
}

#[test]
fn names_that_jobs_share_take_what_they_are_charged() {
    let mut table = Table::default();
    table.check("kinds", 0.4, nothing, |driver, count| submit(count, |n| job(&format!("kind {n}"), 0))(driver));
    table.check("kinds of jobs in all priorities", 0.4, nothing, |driver, count| {
        use sheratan_core::Priority::{Critical, High, Low, Normal};
        for priority in [Critical, High, Low, Normal] {
            submit(count / 4, |n| Submit { priority: Some(priority), ..job(&format!("kind {n}"), 0) })(driver);
        }
    });
    table.check("kinds of final jobs", 0.45, nothing, |driver, count| {
        submit(count, |n| Submit { ttl_ms: Some(Millis::ZERO), ..job(&format!("kind {n}"), 0) })(driver);
    });
    table.check("classes", 0.4, nothing, |driver, count| {
        let count = count.min(4_096);
        submit(count, |n| {
            let requires = [name(&format!("r-{n}"))].into_iter().collect();
            Submit { requires, zone: zone(&format!("z-{}", n / 1_024)), ..job("k", 0) }
        })(driver);
    });
    table.check("lanes", 0.4, nothing, |driver, count| {
        submit(count, |n| {
            let requires = [name(&format!("r-{}", n % 100))].into_iter().collect();
            Submit { requires, ..job(&format!("k {}", n / 100), 0) }
        })(driver);
    });
    table.end();
}

#[test]
fn a_parked_long_poll_takes_what_it_is_charged() {
    let mut table = Table::default();
    table.check("polls of one node", 0.4, nothing, |driver, count| {
        (0..count).for_each(|n| assert!(driver.park(n, &pull("a", 1))));
    });
    table.check("polls of many nodes", 0.6, nothing, |driver, count| {
        (0..count).for_each(|n| assert!(driver.park(n, &pull(&format!("node {n}"), 1))));
    });
    table.check("polls for kinds of their own", 0.4, nothing, |driver, count| {
        (0..count.min(8_000)).for_each(|n| {
            let kinds = [name(&format!("kind {n}"))].into_iter().collect();
            assert!(driver.park(n, &Pull { kinds, ..pull(&format!("node {n}"), 1) }));
        });
    });
    table.check("places in existing lines", 0.4, nothing, |driver, count| {
        let kinds: NameSet = (0..64).map(|n| name(&format!("kind {n}"))).collect();
        (0..count / 64).for_each(|n| assert!(driver.park(n, &Pull { kinds: kinds.clone(), ..pull("a", 1) })));
    });
    table.end();
}

#[test]
fn what_remains_after_a_burst_takes_what_it_is_charged() {
    let mut table = Table::default();
    let week = Millis::from_secs(7 * 86_400);
    let one_of_64 = |driver: &mut Driver, count: u64| {
        let ttl_ms = |n: u64| Some(if n.is_multiple_of(64) { week } else { Millis::ZERO });
        submit(count, |n| Submit { ttl_ms: ttl_ms(n), ..job("k", 0) })(driver);
    };
    // The last page has capacity for all of its jobs.
    let a_page = |driver: &mut Driver| {
        forget_at_once(driver);
        one_of_64(driver, 64);
    };
    table.check("one job of each 64", 0.6, a_page, |driver, count| one_of_64(driver, count * 8));
    table.check("every second job", 0.5, forget_at_once, |driver, count| {
        submit(count, |n| Submit { ttl_ms: Some(if n % 2 == 0 { week } else { Millis::ZERO }), ..job("k", 0) })(driver);
    });
    let burst = |driver: &mut Driver, node: &str, kind: &str| {
        submit(1_000, |_| job(kind, 0))(driver);
        lease_all(driver, node).iter().for_each(|leased| driver.complete(success(leased.lease, 0)));
    };
    // Memory that is kept for reuse is allocated by a first burst.
    let first = |driver: &mut Driver| {
        forget_at_once(driver);
        burst(driver, "a", "k");
    };
    table.check("lanes that were long", 0.3, first, |driver, count| {
        for n in 0..count / 100 {
            let kind = format!("kind {n}");
            burst(driver, "a", &kind);
            assert!(driver.submit(Submit { delay_ms: week, ..job(&kind, 0) }));
        }
    });
    table.check("nodes that had many leases", 0.3, first, |driver, count| {
        (0..count / 100).for_each(|n| burst(driver, &format!("node-{n}"), "k"));
    });
    table.check("one leased job of each 64", 0.5, forget_at_once, |driver, count| {
        for _ in 0..count / 8 {
            submit(64, |_| job("k", 0))(driver);
            let leases = driver.pull("a", 64);
            leases[1..].iter().for_each(|leased| driver.complete(success(leased.lease, 0)));
        }
    });
    table.end();
}

#[test]
fn what_remains_after_a_burst_takes_what_it_is_charged_after_a_restore() {
    let mut driver = Driver::without_limits();
    forget_at_once(&mut driver);
    let week = Millis::from_secs(7 * 86_400);
    let ttl_ms = |n: u64| Some(if n.is_multiple_of(64) { week } else { Millis::ZERO });
    submit(200_000, |n| Submit { ttl_ms: ttl_ms(n), ..keyed(&format!("key {n}"), job("k", 0)) })(&mut driver);
    let before = driver.held();
    let mut restore = Restore::new(KEY);
    driver.hub.snapshot(|record| restore.record(record).expect("a record that was just written can be read"));
    let second = restore.finish().expect("the snapshot is whole");
    let (held, charged) = (driver.held() - before, second.ledger().total());
    assert!(held <= charged, "{held} bytes are held and {charged} are charged");
}

#[test]
fn keys_that_are_gone_take_a_tenth_of_what_they_took() {
    let mut driver = Driver::without_limits();
    forget_at_once(&mut driver);
    let (count, kept) = (100_000, 1_000);
    let before = driver.held();
    let ttl_ms = |n: u64| Some(if n < count - kept { Millis::ZERO } else { Millis::from_secs(7 * 86_400) });
    submit(count, |n| Submit { ttl_ms: ttl_ms(n), ..keyed(&format!("key {n}"), job("k", 0)) })(&mut driver);
    driver.set(Setting::IdempotencyTtl(Millis::from_secs(60)));
    driver.now_ms += 60_000;
    driver.hub.advance(sheratan_core::Timestamp::from_millis(driver.now_ms));
    assert_eq!(driver.hub.dedup().len() as u64, kept);
    let (held, charged) = (driver.held() - before, driver.hub.ledger().total());
    assert!(held <= charged + count * 12, "{held} bytes are held and {charged} are charged");
}

#[test]
fn keys_that_are_gone_before_older_ones_take_a_tenth_of_what_they_took() {
    let mut driver = Driver::without_limits();
    forget_at_once(&mut driver);
    let (count, before) = (100_000, driver.held());
    for n in 0..count {
        let mut submit = Submit { ttl_ms: Some(Millis::ZERO), ..keyed(&format!("key {n}"), job("k", 0)) };
        submit.idempotency.as_mut().expect("it has a key").ttl_ms = (n > 0).then_some(Millis::from_secs(1));
        assert!(driver.submit(submit));
    }
    driver.now_ms += 1_000;
    driver.hub.advance(sheratan_core::Timestamp::from_millis(driver.now_ms));
    assert_eq!(driver.hub.dedup().len(), 1);
    let (held, charged) = (driver.held() - before, driver.hub.ledger().total());
    assert!(held <= charged + count * 12, "{held} bytes are held and {charged} are charged");
}

/// Builds so many of one thing.
type Burst<'a> = dyn Fn(&mut Driver, u64) + 'a;

/// Builds a burst of things in a hub that had a small one before, and drops them; returns the share of the burst's memory
/// that is still held.
fn left_of_a_burst(burst: &Burst, drop: impl Fn(&mut Driver)) -> f64 {
    let mut driver = Driver::without_limits();
    burst(&mut driver, 100);
    drop(&mut driver);
    let before = driver.held();
    burst(&mut driver, 50_000);
    let took = driver.held() - before;
    drop(&mut driver);
    assert_eq!(driver.hub.recount(), *driver.hub.ledger());
    let left = driver.held().saturating_sub(before);
    left as f64 / took as f64
}

/// All jobs and keys expire, and all nodes are forgotten.
fn a_month_passes(driver: &mut Driver) {
    driver.now_ms += 30 * 86_400_000;
    driver.hub.advance(sheratan_core::Timestamp::from_millis(driver.now_ms));
    driver.hub.settle(&mut Vec::new());
}

#[test]
fn a_burst_that_is_gone_leaves_a_tenth_of_what_it_took() {
    let soon = Some(Millis::new(1_000));
    let bursts: [(&str, &Burst); 9] = [
        ("queued", &|driver, count| submit(count, |_| Submit { ttl_ms: soon, ..job("k", 0) })(driver)),
        ("scheduled", &|driver, count| {
            submit(count, |n| Submit { ttl_ms: soon, delay_ms: Millis::new(n % 977), ..job("k", 0) })(driver);
        }),
        ("leased", &|driver, count| {
            submit(count, |_| Submit { ttl_ms: soon, ..job("k", 0) })(driver);
            lease_all(driver, "a");
        }),
        ("retained", &|driver, count| {
            submit(count, |_| job("k", 0))(driver);
            lease_all(driver, "a").iter().for_each(|leased| driver.complete(success(leased.lease, 10)));
        }),
        ("dead", &|driver, count| {
            submit(count, |_| Submit { attempts_max: Some(1), ..job("k", 0) })(driver);
            lease_all(driver, "a").iter().for_each(|leased| driver.complete(failure(leased.lease, 10)));
        }),
        ("keyed", &|driver, count| {
            submit(count, |n| Submit { ttl_ms: soon, ..keyed(&format!("key {n}"), job("k", 0)) })(driver);
        }),
        ("kinds", &|driver, count| {
            submit(count / 10, |n| Submit { ttl_ms: soon, ..job(&format!("kind {n}"), 0) })(driver);
        }),
        ("classes", &|driver, count| {
            let count = count.min(sheratan_core::limits::CLASSES_PER_ZONE_MAX as u64);
            let requires = |n: u64| std::iter::once(name(&format!("capability {n}"))).collect::<NameSet>();
            submit(count, |n| Submit { ttl_ms: soon, requires: requires(n), ..job("k", 0) })(driver);
        }),
        ("nodes", &|driver, count| {
            (0..count / 10).for_each(|n| assert!(driver.heartbeat(heartbeat(&format!("node {n}")))));
        }),
    ];
    let mut wrong = Vec::new();
    for (what, burst) in bursts {
        let left = left_of_a_burst(burst, a_month_passes);
        if left > 0.1 {
            wrong.push(format!("{what}: {left:.3} is left"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn leases_that_ended_before_an_older_one_leave_nothing() {
    let mut driver = Driver::without_limits();
    forget_at_once(&mut driver);
    assert!(driver.submit(job("k", 0)));
    assert_eq!(driver.pull("a", 1).len(), 1);
    let before = driver.held();
    submit(50_000, |_| job("k", 0))(&mut driver);
    let took = driver.held() - before;
    driver.now_ms += 1;
    lease_all(&mut driver, "b").iter().for_each(|leased| driver.complete(success(leased.lease, 0)));
    driver.hub.settle(&mut Vec::new());
    let left = driver.held() - before;
    assert!(left < took / 20, "{left} bytes are left of {took}");
}

/// The subset of ten capabilities with this number.
fn subset(number: u64) -> NameSet {
    (0..10).filter(|bit| number >> bit & 1 == 1).map(|bit| name(&format!("c{bit}"))).collect()
}

#[test]
fn views_that_many_profiles_have_of_many_classes_take_no_more_than_they_may() {
    let mut driver = Driver::without_limits();
    let (nodes, kinds, classes) = (100, 64, 1_024);
    let kind_names: NameSet = (0..kinds).map(|kind| name(&format!("kind {kind}"))).collect();
    for kind in kind_names.iter() {
        assert!(driver.submit(Submit { zone: zone("elsewhere"), ..job(kind, 0) }));
    }
    for node in 0..nodes {
        let capabilities = subset(1_023).iter().cloned().chain([name(&format!("host {node}"))]).collect();
        assert!(driver.heartbeat(Heartbeat { capabilities, ..heartbeat(&format!("node {node}")) }));
        assert!(driver.pull_as(Pull { kinds: kind_names.clone(), ..pull(&format!("node {node}"), 1) }).is_empty());
    }
    let (held, charged) = (driver.held(), driver.hub.ledger().total());
    // The views that are there see each class that jobs are of from now on: 6.5 million heads.
    for class in 0..classes {
        for kind in kind_names.iter() {
            assert!(driver.submit(Submit { requires: subset(class), ..job(kind, 0) }));
        }
    }
    let (held, charged) = (driver.held() - held, driver.hub.ledger().total() - charged);
    assert!(held <= charged + (40 << 20), "{held} bytes are held and {charged} are charged");
}

#[test]
fn lanes_that_are_gone_are_marked_for_no_poll() {
    let mut driver = Driver::with(|limits| limits.inflight_max = 1);
    driver.hub.serve();
    forget_at_once(&mut driver);
    assert!(driver.submit(job("k", 0)));
    assert_eq!(driver.pull("a", 1).len(), 1);
    let week = Some(Millis::from_secs(7 * 86_400));
    submit(50, |n| Submit { requires: subset(n), ttl_ms: week, ..job("of each class", 0) })(&mut driver);
    // A full hub wakes no poll.
    assert!(driver.park(1, &Pull { kinds: std::iter::once(name("never")).collect(), ..pull("b", 1) }));
    driver.hub.settle(&mut Vec::new());
    let before = driver.held();
    for round in 0..50 {
        for n in 0..1_000 {
            let job = job(&format!("kind {n}"), 0);
            assert!(driver.submit(Submit { requires: subset(round), ttl_ms: Some(Millis::new(1)), ..job }));
        }
        driver.now_ms += 1;
        driver.hub.advance(sheratan_core::Timestamp::from_millis(driver.now_ms));
        driver.hub.settle(&mut Vec::new());
    }
    let left = driver.held().saturating_sub(before);
    // Of 200 kinds there are counts of the last minute.
    assert!(left < 300_000, "{left} bytes are left of 50,000 lanes");
}

#[test]
fn keys_after_a_burst_that_ended_in_another_order_take_what_they_are_charged() {
    let mut driver = Driver::without_limits();
    forget_at_once(&mut driver);
    let (count, before) = (50_000, driver.held());
    for n in 0..count {
        let mut submit = Submit { ttl_ms: Some(Millis::ZERO), ..keyed(&format!("key {n}"), job("k", 0)) };
        let key = submit.idempotency.as_mut().expect("it has a key");
        key.ttl_ms = Some(Millis::new(1 + n * 7_919 % count));
        assert!(driver.submit(submit));
    }
    driver.now_ms += count;
    driver.hub.advance(sheratan_core::Timestamp::from_millis(driver.now_ms));
    assert_eq!(driver.hub.dedup().len(), 0);
    submit(1_000, |n| keyed(&format!("another key {n}"), job("k", 0)))(&mut driver);
    let (held, charged) = (driver.held() - before, driver.hub.ledger().total());
    assert!(held <= charged + count * 12, "{held} bytes are held and {charged} are charged");
}

#[test]
fn views_of_kinds_that_are_gone_are_gone() {
    let mut driver = Driver::without_limits();
    forget_at_once(&mut driver);
    let burst = |driver: &mut Driver, count: u64| {
        let kind = |n: u64| format!("kind {n}");
        submit(count, |n| Submit { requires: subset(1), ttl_ms: Some(Millis::new(1)), ..job(&kind(n), 0) })(driver);
        for n in 0..count {
            let kinds = std::iter::once(name(&kind(n))).collect();
            assert!(driver.pull_as(Pull { kinds, ..pull("a", 1) }).is_empty());
        }
        driver.now_ms += 1;
        driver.hub.advance(sheratan_core::Timestamp::from_millis(driver.now_ms));
    };
    burst(&mut driver, 100);
    let before = driver.held();
    burst(&mut driver, 20_000);
    let left = driver.held().saturating_sub(before);
    assert!(left < 200_000, "{left} bytes are left of 20,000 views");
}
