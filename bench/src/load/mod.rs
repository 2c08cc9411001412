//! Load: whole lifecycles over real sockets, compared with the disk's own speed.
//!
//! The run is cut into slices: the disk is probed while the load is paused, before, between and after the slices of the
//! load. Each slice of the load is compared with the probes on either side of it.

mod turns;

use crate::client::fleet::{Fleet, Stretch};
use crate::client::latency::Latencies;
use crate::client::request::Target;
use crate::failure::Failure;
use crate::hub::{self, Hub};
use crate::interrupt::Interrupt;
use crate::platform;
use crate::probe::Probe;
use crate::report::{Bound, Report, grouped};
use crate::sample::Samples;
use serde_json::json;
use std::path::PathBuf;
use std::time::Duration;

/// What to measure.
#[derive(clap::Args)]
pub struct Settings {
    /// Connections, each with one lifecycle at a time.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    connections: u32,
    /// Seconds of load.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=3_600))]
    duration: u64,
    /// Bytes of each job's params, and of its result.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(11..=1_000_000))]
    payload_bytes: u32,
    /// Another build of the hub, to be measured beside this one, in turns.
    #[arg(long, value_name = "PATH", conflicts_with = "addr")]
    against_hub: Option<PathBuf>,
    #[command(flatten)]
    hub: hub::Settings,
}

/// Slices of the load; one more of the probe.
const SLICES: u32 = 4;
/// How long the disk is probed at a time.
const PROBE: Duration = Duration::from_millis(500);
/// A warm-up of at most a second, which is not counted: connections, pages and files are used for the first time.
const WARM_SHARE: u32 = 10;
/// With so many connections there is always a batch to commit.
const BATCHING_CONNECTIONS_MIN: u32 = 64;
/// Group commit at work: so many lifecycles for each sync that the disk can do.
const BATCHED_RATIO_MIN: f64 = 5.0;
/// With one connection each of a lifecycle's three calls waits for a sync of its own.
const SYNCS_PER_LIFECYCLE: f64 = 3.0;
/// The bound on what it waits for besides.
const ALONE_RATIO_MIN: f64 = 0.9;

/// What was measured.
struct Figures {
    slices: Vec<Stretch>,
    /// Syncs a second, one more than slices.
    probes: Vec<f64>,
    latencies: Latencies,
}

/// Starts or finds the hub, runs the load, and stops a hub that it started.
pub fn measure(settings: &Settings) -> Result<Report, Failure> {
    platform::raise_open_files().map_err(Failure::system("raise the limit on open files"))?;
    let interrupt = Interrupt::on_signals()?;
    if let Some(other) = &settings.against_hub {
        return turns::measure(settings, other, &interrupt);
    }
    let hub = Hub::find_or_start(&settings.hub, &interrupt)?;
    let figures = run(settings, &hub, interrupt)?;
    hub.stop()?;
    Ok(describe(settings, &figures))
}

fn run(settings: &Settings, hub: &Hub, interrupt: Interrupt) -> Result<Figures, Failure> {
    let target =
        Target { host: hub.data.to_string(), token: hub.token.clone(), payload_bytes: settings.payload_bytes as usize };
    let mut fleet = Fleet::connect(hub.data, &target, settings.connections as usize, interrupt)?;
    let mut probe = Probe::create(&hub.folder)?;
    let slice = Duration::from_secs(settings.duration) / SLICES;
    fleet.run((slice * SLICES / WARM_SHARE).min(Duration::from_secs(1)), &mut Latencies::default())?;
    let mut figures = Figures { slices: Vec::new(), probes: vec![probe.rate(PROBE)?], latencies: Latencies::default() };
    for _ in 0..SLICES {
        figures.slices.push(fleet.run(slice, &mut figures.latencies)?);
        figures.probes.push(probe.rate(PROBE)?);
    }
    Ok(figures)
}

impl Figures {
    /// Lifecycles a second over all slices.
    fn rate(&self) -> f64 {
        let lifecycles: u64 = self.slices.iter().map(|slice| slice.lifecycles).sum();
        let time: Duration = self.slices.iter().map(|slice| slice.time).sum();
        lifecycles as f64 / time.as_secs_f64()
    }

    /// Syncs a second: the middle one of the probes.
    fn syncs(&self) -> f64 {
        let mut samples = Samples::default();
        self.probes.iter().for_each(|rate| samples.push(*rate));
        samples.median()
    }

    /// Lifecycles for each sync that the disk could have done: the middle one of the slices' ratios to the probes
    /// around them.
    fn ratio(&self) -> f64 {
        let mut samples = Samples::default();
        for (slice, around) in self.slices.iter().zip(self.probes.windows(2)) {
            samples.push(slice.rate() / ((around[0] + around[1]) / 2.0));
        }
        samples.median()
    }
}

fn describe(settings: &Settings, figures: &Figures) -> Report {
    let mut report = Report::default();
    let (rate, syncs, ratio) = (figures.rate(), figures.syncs(), figures.ratio());
    let (connections, payload) = (settings.connections, settings.payload_bytes);
    let row = |what: &str, value: String| vec![what.to_owned(), value];
    let title = format!("Lifecycles (submit, pull, result) at {connections} connections, {payload} bytes of payload");
    let rows = vec![
        row("lifecycles/s", grouped(rate)),
        row("fdatasync/s of 4 KiB appends in the same folder", grouped(syncs)),
        row("lifecycles for each fdatasync", format!("{ratio:.2}")),
        row("lifecycles measured", grouped(figures.latencies.lifecycles() as f64)),
    ];
    report.table(title, &["", "figure"], rows);
    report.table("What a client waited", &["call", "p50", "p99", "longest"], figures.latencies.rows());
    report.figure("connections", connections);
    report.figure("payload_bytes", payload);
    report.figure("lifecycles_per_second", rate);
    report.figure("fdatasync_per_second", syncs);
    report.figure("ratio", ratio);
    report.figure("latency", figures.latencies.to_json());
    let slices = figures.slices.iter().map(|slice| json!(slice.rate())).collect::<Vec<_>>();
    report.figure("slices_lifecycles_per_second", slices);
    report.figure("slices_fdatasync_per_second", figures.probes.clone());
    if connections >= BATCHING_CONNECTIONS_MIN {
        report.target("lifecycles for each fdatasync", ratio, Bound::AtLeast(BATCHED_RATIO_MIN));
    } else if connections == 1 {
        let share = ratio * SYNCS_PER_LIFECYCLE;
        report.target("lifecycles for each three fdatasyncs", share, Bound::AtLeast(ALONE_RATIO_MIN));
    }
    report
}
