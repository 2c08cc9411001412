//! Scans find what a walk over all jobs finds, within their bounds.

use crate::replay::{histories, start};
use crate::scene::{Scene, at, job, name, success, zone};
use proptest::prelude::*;
use sheratan_core::limits::{SCAN_COST_JOB, SCAN_COST_MAX};
use sheratan_core::{Complete, Filter, FinalStatus, Hub, JobSeq, JobView, Payload, Status, Submit, Tally, Timestamp};
use std::collections::BTreeMap;

const ALL: (JobSeq, JobSeq) = (JobSeq::FIRST, JobSeq::new(1 << 40));

/// All pages of a scan, and how many there are.
fn scan(hub: &Hub, filter: &Filter<'_>, (oldest, newest): (JobSeq, JobSeq), limit: usize) -> (Vec<u64>, usize) {
    let (mut found, mut newest, mut pages) = (Vec::new(), newest, 0);
    loop {
        let page = hub.queue().scan(filter, (oldest, newest), limit);
        assert!(page.jobs.len() <= limit && page.scanned <= SCAN_COST_MAX);
        found.extend(page.jobs.iter().map(|job| job.seq().get()));
        pages += 1;
        match page.passed {
            Some(passed) => newest = JobSeq::new(passed.get() - 1),
            None => return (found, pages),
        }
    }
}

/// The same by a walk.
fn walk(hub: &Hub, filter: &Filter<'_>, (oldest, newest): (JobSeq, JobSeq)) -> Vec<u64> {
    let matches = |job: &JobView<'_>| {
        filter.status.is_none_or(|status| job.status() == status.as_str())
            && filter.kind.is_none_or(|kind| **job.kind() == *kind)
            && filter.zone.is_none_or(|zone| job.class().zone.as_str() == zone)
            && filter.node.is_none_or(|node| job.attempts().next_back().is_some_and(|last| *last.node == *node))
            && filter.error.is_none_or(|part| {
                let text = job.last_error().map(|error| String::from_utf8(error.as_bytes().to_vec()).unwrap());
                text.is_some_and(|text| text.contains(part))
            })
    };
    let jobs = hub.queue().iter_back_from(newest).take_while(|job| job.seq() >= oldest);
    jobs.filter(matches).map(|job| job.seq().get()).collect()
}

fn filters() -> impl Strategy<Value = Filter<'static>> {
    let status = prop::option::of(prop::sample::select(Status::ALL.to_vec()));
    let some = |words: &'static [&'static str]| prop::option::weighted(0.3, prop::sample::select(words));
    (
        status,
        some(&["x", "y", "z"]),
        some(&["default", "elsewhere"]),
        some(&["a", "b", "d"]),
        some(&["e", "lease", "?"]),
    )
        .prop_map(|(status, kind, zone, node, error)| Filter { status, kind, zone, node, error })
}

proptest! {
    /// Any history, filter, range and page size. The counts by kind are those of a walk, too.
    #[test]
    fn a_scan_finds_what_a_walk_finds(
        history in histories(), filter in filters(), limit in 1..5_usize, from in 1..30_u64, to in 1..60_u64,
    ) {
        let (mut hub, mut now) = (start(), 0);
        for (step, command) in history {
            now += step;
            hub.apply(at(now), command);
        }
        for range in [ALL, (JobSeq::new(from), JobSeq::new(to))] {
            prop_assert_eq!(scan(&hub, &filter, range, limit).0, walk(&hub, &filter, range));
        }
        let mut counts: BTreeMap<_, BTreeMap<&str, u64>> = BTreeMap::new();
        for job in hub.queue().iter_from(JobSeq::FIRST) {
            *counts.entry(job.kind()).or_default().entry(job.status()).or_default() += 1;
        }
        let counted: BTreeMap<_, BTreeMap<_, _>> =
            hub.queue().kind_counts().map(|(kind, tally)| (kind, by_status(tally))).collect();
        prop_assert_eq!(counted, counts);
        let instants: Vec<_> = hub.queue().iter_from(JobSeq::FIRST).map(|job| job.submitted_at()).collect();
        for since in [0, now / 3, now / 2, now].map(at) {
            let between = hub.queue().submitted_between(since, at(now));
            let expected: Vec<_> = instants.iter().filter(|instant| (since..at(now)).contains(instant)).collect();
            let found = between.map_or(Vec::new(), |range| walk(&hub, &Filter::default(), range));
            prop_assert_eq!(found.len(), expected.len());
        }
    }
}

fn by_status(tally: &Tally) -> BTreeMap<&'static str, u64> {
    Status::ALL.into_iter().map(|status| (status.as_str(), tally.get(status))).filter(|(_, count)| *count > 0).collect()
}

/// A hub with a hundred thousand queued jobs, the first of them leased and the second dead.
fn many() -> Scene {
    let mut scene = Scene::new();
    scene.limit(|limits| limits.queue_depth_max = 1 << 20);
    scene.submit(Submit { zone: zone("z"), ..job("old") });
    scene.submit(Submit { attempts_max: Some(1), ..job("old") });
    let dead = scene.lease("n").lease;
    let error = Some(Payload::new(br#"{"code":"E_DISK","message":"no space"}"#));
    assert!(scene.complete(Complete { ok: false, error, ..success(dead) }).is_ok());
    (0..100_000).for_each(|_| _ = scene.submit(job("new")));
    scene
}

#[test]
fn rare_states_and_kinds_are_found_without_examining_the_others() {
    let mut scene = many();
    scene.heartbeat(sheratan_core::Heartbeat { zone: zone("z"), ..crate::scene::heartbeat("of z") });
    assert_eq!(scene.pull_jobs("of z", 1), [JobSeq::FIRST]);
    let rare = [
        (Filter { status: Some(Status::Leased), ..Filter::default() }, vec![1]),
        (Filter { status: Some(Status::Final(FinalStatus::Dead)), ..Filter::default() }, vec![2]),
        (Filter { status: Some(Status::Scheduled), ..Filter::default() }, vec![]),
        (Filter { kind: Some("old"), ..Filter::default() }, vec![2, 1]),
        (Filter { kind: Some("unknown"), ..Filter::default() }, vec![]),
    ];
    for (filter, expected) in rare {
        let found = scene.hub.queue().scan(&filter, ALL, 10);
        let jobs: Vec<_> = found.jobs.iter().map(|job| job.seq().get()).collect();
        assert_eq!((jobs, found.passed), (expected, None), "{filter:?}");
        assert!(found.scanned <= 4_096, "{filter:?}: {} jobs were examined", found.scanned);
    }
}

#[test]
fn a_filter_that_matches_nothing_ends_at_the_bound_and_goes_on_from_there() {
    let scene = many();
    for filter in [
        Filter { zone: Some("nowhere"), ..Filter::default() },
        Filter { node: Some("nobody"), ..Filter::default() },
        Filter { error: Some("E_NET"), ..Filter::default() },
    ] {
        let page = scene.hub.queue().scan(&filter, ALL, 10);
        let examined = SCAN_COST_MAX / SCAN_COST_JOB;
        assert!(page.jobs.is_empty() && (examined - 10..=examined).contains(&page.scanned), "{}", page.scanned);
        assert_eq!(page.passed, Some(JobSeq::new(100_003 - page.scanned)));
        assert_eq!(scan(&scene.hub, &filter, ALL, 10), (vec![], 6));
    }
    let found = |error| scan(&scene.hub, &Filter { error: Some(error), ..Filter::default() }, ALL, 10).0;
    assert_eq!([found("E_DISK"), found("no space"), found("no place")], [vec![2], vec![2], vec![]]);
}

#[test]
fn long_errors_count_towards_the_bound() {
    let mut scene = Scene::new();
    let error = Some(Payload::new(format!("\"{}\"", "x".repeat(SCAN_COST_MAX as usize * 4)).as_bytes()));
    for _ in 0..5 {
        scene.submit(Submit { attempts_max: Some(1), ..job("k") });
        let lease = scene.lease("n").lease;
        assert!(scene.complete(Complete { ok: false, error: error.clone(), ..success(lease) }).is_ok());
    }
    let filter = Filter { error: Some("y"), ..Filter::default() };
    let page = scene.hub.queue().scan(&filter, ALL, 10);
    assert_eq!((page.scanned, page.passed), (4, Some(JobSeq::new(2))));
    assert_eq!(scan(&scene.hub, &filter, ALL, 10), (vec![], 2));
}

#[test]
fn submits_are_found_by_their_instants_across_pages_that_are_gone() {
    let mut scene = Scene::new();
    for n in 0..1_000 {
        scene.at(n * 10).submit(job(if n % 100 == 0 { "kept" } else { "dropped" }));
    }
    scene.limit(|limits| limits.retained_jobs_max = 0);
    let pull = sheratan_core::Pull { kinds: [name("dropped")].into_iter().collect(), ..crate::scene::pull("n", 1_000) };
    for leased in scene.pull_as(pull).leases {
        scene.succeed(leased.lease);
    }
    assert_eq!(scene.hub.queue().len(), 10);
    let between = |since, until| {
        let range = scene.hub.queue().submitted_between(Timestamp::from_millis(since), Timestamp::from_millis(until));
        range.map_or(Vec::new(), |range| walk(&scene.hub, &Filter::default(), range))
    };
    assert_eq!(between(1_000, 3_000), [201, 101]);
    assert_eq!(between(1_001, 3_001), [301, 201]);
    assert_eq!(between(0, 1), [1]);
    assert_eq!((between(9_001, 10_000), between(1_001, 2_000), between(3_000, 3_000)), (vec![], vec![], vec![]));
    assert_eq!(between(0, 1 << 40).len(), 10);
}
