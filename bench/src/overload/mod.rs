//! Overload: more jobs than the workers can do, and more requests than the hub's own processor can answer.
//!
//! 1. The hub's own peak: whole lifecycles as fast as they go.
//! 2. Workers that take a fixed time for each job set the capacity, to a twentieth of that peak or less. Half of it, all
//!    of it, twice and ten times as much is offered in turns, to one hub.
//! 3. What a refused submit costs the hub, compared with an accepted one.
//! 4. Workers that take no time, and more submits than the hub can answer.

mod cost;
mod flood;
mod load;
pub mod running;

use crate::client::fleet::Fleet;
use crate::client::latency::Latencies;
use crate::client::request::{Requests, Target};
use crate::failure::Failure;
use crate::hub::{self, Hub};
use crate::interrupt::Interrupt;
use crate::machine;
use crate::platform;
use crate::report::{Bound, Report, grouped};
use cost::Figures as CostFigures;
use flood::Flood;
use indicatif::{ProgressBar, ProgressStyle};
use load::{Counts, Load};
use serde_json::{Map, json};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// What the help shows.
pub const EXAMPLES: &str = "\
Examples:
  sheratan-bench overload                       all figures, in about a minute
  sheratan-bench overload --duration 120        longer phases: steadier figures
  sheratan-bench overload --capacity 500        workers that do 500 jobs a second
  sheratan-bench overload --json --check        for a program; exits with 1 if a target is missed
  sheratan-bench overload --hub other/sheratan-hub   another build";

/// What to measure.
#[derive(clap::Args)]
pub struct Settings {
    /// Seconds of load, in turns at each level.
    #[arg(long, default_value_t = 36, value_parser = clap::value_parser!(u64).range(4..=3_600))]
    duration: u64,
    /// Jobs a second that the workers can do [default: a twentieth of the hub's own peak].
    #[arg(long, value_parser = clap::value_parser!(u32).range(10..=5_000))]
    capacity: Option<u32>,
    /// The program of the hubs to start [default: sheratan-hub beside this program].
    #[arg(long, value_name = "PATH")]
    hub: Option<PathBuf>,
    /// Where the data folders are made; on a disk [default: the folder of this program].
    #[arg(long, value_name = "FOLDER")]
    dir: Option<PathBuf>,
}

/// Offered load, as a multiple of the capacity.
const LEVELS: [f64; 4] = [0.5, 1.0, 2.0, 10.0];
/// How often each level has its turn.
const ROUNDS: u32 = 3;
/// A worker takes so long for a job.
const SERVICE_TIME: Duration = Duration::from_millis(50);
/// The workers' capacity is at most this share of the hub's own peak.
const CAPACITY_SHARE: f64 = 1.0 / 20.0;
/// Jobs that may wait: so many seconds of the workers' capacity.
const QUEUE_SECS: f64 = 0.5;
/// Connections of those who submit at a rate.
const SUBMITTERS: usize = 128;
/// Workers and connections of the last part.
const BEYOND_WORKERS: usize = 64;
const FLOOD_CONNECTIONS: usize = 128;
const PEAK_CONNECTIONS: usize = 64;
const PEAK_TIME: Duration = Duration::from_secs(2);
const WARM: Duration = Duration::from_millis(500);
/// Bytes of each job's params and result.
const PAYLOAD_BYTES: usize = 200;

const GOODPUT_SHARE_MIN: f64 = 0.9;
const LATENCY_RATIO_MAX: f64 = 2.0;
const REQUEST_RATIO_MAX: f64 = 0.5;
const ENTRY_RATIO_MAX: f64 = 0.15;

struct Figures {
    peak: f64,
    workers: usize,
    queue_depth_max: u64,
    levels: Vec<Counts>,
    costs: CostFigures,
    beyond: Beyond,
}

/// What happened beyond the hub's own processor.
struct Beyond {
    alone: f64,
    flooded: f64,
    statuses: BTreeMap<u16, u64>,
    time: Duration,
}

/// Starts the hubs, and measures.
pub fn measure(settings: &Settings) -> Result<Report, Failure> {
    platform::raise_open_files().map_err(Failure::system("raise the limit on open files"))?;
    let interrupt = Interrupt::on_signals()?;
    let own = hub::Settings::of_our_own(settings.hub.clone(), settings.dir.clone());
    let progress = progress_bar();
    progress.set_message("the hub's own peak");
    let peak = measure_peak(&own, &interrupt)?;
    progress.inc(1);
    let capacity = settings.capacity.map_or(peak * CAPACITY_SHARE, f64::from);
    let workers = ((capacity * SERVICE_TIME.as_secs_f64()) as usize).max(1);
    let capacity = workers as f64 / SERVICE_TIME.as_secs_f64();
    let queue_depth_max = ((capacity * QUEUE_SECS) as u64).max(1);
    let levels = offer_levels(&own, (workers, queue_depth_max), settings.duration, &interrupt, &progress)?;
    progress.set_message("what a refusal costs");
    let costs = cost::measure(&own, &interrupt, &progress)?;
    progress.set_message("beyond the hub's own processor");
    let beyond = measure_beyond(&own, queue_depth_max, &interrupt)?;
    progress.inc(1);
    let mut report = describe(&Figures { peak, workers, queue_depth_max, levels, costs, beyond });
    progress.set_message("a refusal in the core alone");
    machine::refusals(&mut report);
    progress.finish_and_clear();
    Ok(report)
}

fn progress_bar() -> ProgressBar {
    let style = ProgressStyle::with_template("{wide_bar} {msg} [{elapsed}]");
    // The peak, the levels, the rounds of the costs, what is beyond.
    let bar = ProgressBar::new(1 + u64::from(ROUNDS) * LEVELS.len() as u64 + 4 + 1);
    let bar = bar.with_style(style.expect("the template is right"));
    bar.enable_steady_tick(Duration::from_secs(1));
    bar
}

fn target_of(hub: &Hub) -> Target {
    Target { host: hub.data.to_string(), token: hub.token.clone(), payload_bytes: PAYLOAD_BYTES }
}

/// Lifecycles a second, as fast as they go.
fn measure_peak(own: &hub::Settings, interrupt: &Interrupt) -> Result<f64, Failure> {
    let hub = Hub::start_with(own, &[], interrupt)?;
    let mut fleet = Fleet::connect(hub.data, &target_of(&hub), PEAK_CONNECTIONS, interrupt.clone())?;
    fleet.run(WARM, &mut Latencies::default())?;
    let rate = fleet.run(PEAK_TIME, &mut Latencies::default())?.rate();
    hub.stop()?;
    Ok(rate)
}

/// What happened at each level.
fn offer_levels(
    own: &hub::Settings,
    (workers, queue_depth_max): (usize, u64),
    duration: u64,
    interrupt: &Interrupt,
    progress: &ProgressBar,
) -> Result<Vec<Counts>, Failure> {
    let hub = Hub::start_with(own, &[("SHERATAN_MAX_QUEUE_DEPTH", &queue_depth_max.to_string())], interrupt)?;
    let target = target_of(&hub);
    let mut load = Load::connect(hub.data, &target, (workers, SERVICE_TIME), SUBMITTERS, interrupt.clone())?;
    let capacity = workers as f64 / SERVICE_TIME.as_secs_f64();
    let slice = Duration::from_secs(duration) / ROUNDS / LEVELS.len() as u32;
    let mut levels: Vec<_> = LEVELS.iter().map(|_| Counts::new()).collect();
    for _ in 0..ROUNDS {
        for (level, sum) in LEVELS.iter().zip(&mut levels) {
            progress.set_message(format!("{level} times what the workers can do"));
            load.offer(capacity * level, WARM)?;
            sum.add(&load.offer(capacity * level, slice)?);
            load.drain()?;
            progress.inc(1);
        }
    }
    hub.stop()?;
    Ok(levels)
}

/// Workers that take no time, without and with a flood of submits.
fn measure_beyond(own: &hub::Settings, queue_depth_max: u64, interrupt: &Interrupt) -> Result<Beyond, Failure> {
    let hub = Hub::start_with(own, &[("SHERATAN_MAX_QUEUE_DEPTH", &queue_depth_max.to_string())], interrupt)?;
    let target = target_of(&hub);
    let measure = |connections| -> Result<_, Failure> {
        let mut load = Load::connect(hub.data, &target, (BEYOND_WORKERS, Duration::ZERO), 0, interrupt.clone())?;
        let submit = Requests::of_kind(&target, &load::kind(), &load::kind(), 0).submit;
        let flood = Flood::begin(hub.data, &submit, connections)?;
        load.run(WARM)?;
        let counts = load.run(PEAK_TIME)?;
        Ok((counts, flood.end()?))
    };
    let (alone, _) = measure(1)?;
    let (flooded, statuses) = measure(FLOOD_CONNECTIONS)?;
    hub.stop()?;
    Ok(Beyond { alone: alone.goodput(), flooded: flooded.goodput(), statuses, time: WARM + PEAK_TIME })
}

fn statuses_text(statuses: &BTreeMap<u16, u64>) -> String {
    statuses
        .iter()
        .map(|(status, count)| format!("{status}: {}", grouped(*count as f64)))
        .collect::<Vec<_>>()
        .join(", ")
}

fn statuses_json(statuses: &BTreeMap<u16, u64>) -> Map<String, serde_json::Value> {
    statuses.iter().map(|(status, count)| (status.to_string(), json!(count))).collect()
}

fn describe(figures: &Figures) -> Report {
    let Figures { peak, workers, queue_depth_max, levels, costs, beyond } = figures;
    let mut report = Report::default();
    let best = levels.iter().map(Counts::goodput).fold(0.0, f64::max);
    let rows = LEVELS.iter().zip(levels).map(|(level, counts)| {
        vec![
            format!("{level}"),
            grouped(counts.offered as f64 / counts.time.as_secs_f64()),
            grouped(counts.goodput()),
            format!("{:.2}", counts.goodput() / best),
            format!("{:.3}", counts.latency_ms(0.5)),
            format!("{:.3}", counts.latency_ms(0.99)),
            statuses_text(&counts.statuses),
        ]
    });
    let capacity = *workers as f64 / SERVICE_TIME.as_secs_f64();
    let title = format!(
        "{workers} workers that take {} ms a job ({} jobs/s; the hub's own peak is {}), {queue_depth_max} may wait",
        SERVICE_TIME.as_millis(),
        grouped(capacity),
        grouped(*peak)
    );
    let heads = ["offered, times", "submits/s", "jobs done/s", "of the most", "p50 ms", "p99 ms", "answers to submits"];
    report.table(title, &heads, rows.collect());
    let row = |what: &str, costs: &cost::Costs| {
        let [accepted, refused] = [&costs.accepted_us, &costs.refused_us].map(|us| format!("{:.2} µs", us.median()));
        vec![what.to_owned(), accepted, refused, format!("{:.2}", costs.ratio())]
    };
    let rows = vec![row("a request", &costs.request), row("an entry of a batch", &costs.entry)];
    report.table("The hub's processor time for a submit", &["", "accepted", "refused", "ratio"], rows);
    let submits = beyond.statuses.values().sum::<u64>() as f64 / beyond.time.as_secs_f64();
    let rows = vec![vec![
        grouped(beyond.alone),
        grouped(beyond.flooded),
        format!("{:.2}", beyond.flooded / beyond.alone),
        grouped(submits),
        statuses_text(&beyond.statuses),
    ]];
    let title = format!(
        "{BEYOND_WORKERS} workers that take no time: one client submits, or {FLOOD_CONNECTIONS} do without a pause"
    );
    let heads = ["jobs done/s by one", "by all", "ratio", "submits/s of all", "answers"];
    report.table(title, &heads, rows);
    add_figures(&mut report, figures);
    let [half, .., tenfold] = &levels[..] else { unreachable!("there are four levels") };
    report.target(
        "goodput at ten times the capacity, of its peak",
        tenfold.goodput() / best,
        Bound::AtLeast(GOODPUT_SHARE_MIN),
    );
    let ratio = tenfold.latency_ms(0.99) / half.latency_ms(0.99);
    report.target("p99 of answers to submits, ten times to half", ratio, Bound::AtMost(LATENCY_RATIO_MAX));
    report.target("a refused request to an accepted one", costs.request.ratio(), Bound::AtMost(REQUEST_RATIO_MAX));
    report.target("a refused entry of a batch to an accepted one", costs.entry.ratio(), Bound::AtMost(ENTRY_RATIO_MAX));
    report
}

fn add_figures(report: &mut Report, figures: &Figures) {
    let Figures { peak, workers, queue_depth_max, levels, costs, beyond } = figures;
    report.figure("own_peak_per_second", *peak);
    report.figure("workers", *workers);
    report.figure("service_ms", SERVICE_TIME.as_millis() as u64);
    report.figure("queue_depth_max", *queue_depth_max);
    let level = |(level, counts): (&f64, &Counts)| {
        json!({
            "offered_times": level, "offered": counts.offered, "seconds": counts.time.as_secs_f64(),
            "goodput_per_second": counts.goodput(), "statuses": statuses_json(&counts.statuses),
            "p50_ms": counts.latency_ms(0.5), "p99_ms": counts.latency_ms(0.99),
        })
    };
    report.figure("levels", LEVELS.iter().zip(levels).map(level).collect::<Vec<_>>());
    let cost = |costs: &cost::Costs| {
        json!({
            "accepted_us": costs.accepted_us.median(), "refused_us": costs.refused_us.median(), "ratio": costs.ratio(),
        })
    };
    report.figure("cost_of_a_request", cost(&costs.request));
    report.figure("cost_of_an_entry", cost(&costs.entry));
    report.figure(
        "beyond",
        json!({
            "goodput_alone": beyond.alone, "goodput_flooded": beyond.flooded,
            "statuses": statuses_json(&beyond.statuses),
        }),
    );
}
