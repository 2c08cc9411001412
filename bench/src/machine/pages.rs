//! What it costs to find a page of jobs in a hub with many: filters that match few jobs, the oldest, and filters that
//! match none.

use crate::report::{Bound, Report, grouped};
use crate::sample::Samples;
use serde_json::json;
use sheratan_core::limits::Limits;
use sheratan_core::{
    Command, Complete, Filter, FinalStatus, Hub, HubKey, JobSeq, Millis, Name, NameSet, Outcome, Payload, Pull,
    ResultMark, Setting, Status, Submit, Timestamp,
};
use std::time::Instant;

const NOW: Timestamp = Timestamp::from_millis(1_768_500_000_000);
const PAGE_MS_MAX: f64 = 5.0;
/// Jobs in each of the rare states, the oldest of all.
const RARE: u64 = 10;

/// Jobs on a page.
const PAGE_JOBS: usize = 1_000;

/// The pages that are asked for: what they are of, by which filter, and how many jobs there are to find.
fn pages() -> [(&'static str, Filter<'static>, u64); 11] {
    let all = Filter::default();
    let of = |status| Filter { status: Some(status), ..all };
    [
        ("the newest 1,000", all, PAGE_JOBS as u64),
        ("the 10 leased", of(Status::Leased), RARE),
        ("the 10 scheduled", of(Status::Scheduled), RARE),
        ("the 10 dead", of(Status::Final(FinalStatus::Dead)), RARE),
        ("none is cancelled", of(Status::Final(FinalStatus::Cancelled)), 0),
        ("the 30 of one kind", Filter { kind: Some("rare"), ..all }, 3 * RARE),
        ("none of this kind", Filter { kind: Some("unknown"), ..all }, 0),
        ("none in this zone", Filter { zone: Some("unknown"), ..all }, 0),
        ("none of this node", Filter { node: Some("unknown"), ..all }, 0),
        ("none with this error", Filter { error: Some("unknown"), ..all }, 0),
        ("none of this kind with this error", Filter { kind: Some("usual"), error: Some("unknown"), ..all }, 0),
    ]
}

pub fn measure(report: &mut Report, jobs: u64, rounds: u32) {
    let hub = filled(jobs);
    let pages = pages();
    let mut costs = pages.map(|_| Samples::default());
    for _ in 0..rounds {
        for (samples, (what, filter, count)) in costs.iter_mut().zip(&pages) {
            // The newest jobs are queued; those that ended before them take a scan to other memory.
            let halves = [hub.queue().next_seq(), JobSeq::new(jobs / 2)];
            let times = halves.map(|newest| find(&hub, filter, newest));
            let found = times.iter().map(|(found, _)| *found).max();
            assert!(found.is_some_and(|found| found >= (*count).min(jobs / 4)), "{what}: {found:?} jobs were found");
            samples.push(times.iter().map(|(_, ms)| *ms).fold(0.0, f64::max));
        }
    }
    let (mut rows, mut figures, mut worst) = (Vec::new(), serde_json::Map::new(), 0.0f64);
    for ((what, ..), samples) in pages.iter().zip(&costs) {
        let (median, (_, most)) = (samples.median(), samples.range());
        worst = worst.max(median);
        rows.push(vec![(*what).to_owned(), format!("{median:.2} ms"), format!("{most:.2} ms")]);
        figures.insert((*what).to_owned(), json!({"median_ms": median, "most_ms": most}));
    }
    let title = format!("A page of jobs among {} ({rounds} rounds)", grouped(jobs as f64));
    report.table(title, &["", "median", "most"], rows);
    report.figure("page_of_jobs", figures);
    report.target("ms for the most expensive page of jobs", worst, Bound::AtMost(PAGE_MS_MAX));
}

/// A hub with jobs in the rare states, then as many completed as queued ones.
fn filled(jobs: u64) -> Hub {
    let limits = Limits {
        queue_depth_max: u64::MAX,
        queue_bytes_max: u64::MAX,
        inflight_max: u64::MAX,
        leases_per_node_max: u64::MAX,
        retained_jobs_max: u64::MAX,
        retained_bytes_max: u64::MAX,
        ..Limits::default()
    };
    let mut hub = Hub::new(HubKey::new([7; 16]));
    hub.apply(NOW, Command::Set(Setting::all(&limits)));
    let submit = |hub: &mut Hub, kind: &str, attempts_max, delay_ms| {
        let params = Some(Payload::new(br#"{"n":1}"#));
        let submit = Submit { attempts_max, delay_ms: Millis::new(delay_ms), ..Submit::new(name(kind), params) };
        assert!(hub.apply(NOW, Command::Submit(Box::new(submit))).is_durable());
    };
    (0..RARE).for_each(|_| submit(&mut hub, "rare", Some(1), 0));
    end_all(&mut hub, false);
    (0..RARE).for_each(|_| submit(&mut hub, "rare", Some(1), 0));
    pull(&mut hub);
    (0..RARE).for_each(|_| submit(&mut hub, "rare", None, 1 << 40));
    (0..jobs / 2).for_each(|_| submit(&mut hub, "usual", None, 0));
    end_all(&mut hub, true);
    (0..jobs / 2).for_each(|_| submit(&mut hub, "usual", None, 0));
    hub
}

fn pull(hub: &mut Hub) -> Vec<sheratan_core::LeaseRef> {
    let pull = Pull { node: name("worker"), jobs_max: 1_000, kinds: NameSet::EMPTY, lease_duration_ms: None };
    let Outcome::Pulled(pulled) = hub.apply(NOW, Command::Pull(pull)) else { panic!("a pull is answered") };
    pulled.leases.into_iter().map(|leased| leased.lease).collect()
}

/// Ends all jobs that wait for a node.
fn end_all(hub: &mut Hub, ok: bool) {
    while let leases @ [_, ..] = &pull(hub)[..] {
        for lease in leases {
            let complete = Complete {
                job: lease.job,
                lease: Some(*lease),
                node: Some(name("worker")),
                ok,
                result: ok.then(|| Payload::new(br#"{"n":1}"#)),
                error: (!ok).then(|| Payload::new(br#"{"code":"E_DISK"}"#)),
                is_retryable: true,
                mark: ResultMark::Content(1),
                retry_after_ms: None,
                integrity: None,
            };
            assert!(hub.apply(NOW, Command::Complete(complete)).is_durable());
        }
    }
}

/// How many jobs a page has, and the milliseconds that it takes to find them.
fn find(hub: &Hub, filter: &Filter<'_>, newest: JobSeq) -> (u64, f64) {
    let start = Instant::now();
    let found = hub.queue().scan(filter, (JobSeq::FIRST, newest), PAGE_JOBS);
    let took = start.elapsed();
    (found.jobs.len() as u64, took.as_secs_f64() * 1e3)
}

fn name(text: &str) -> Name {
    Name::new(text).expect("a valid name")
}
