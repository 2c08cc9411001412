//! Two builds of the hub under the same load, in turns: how many lifecycles each does, and what its processor time for
//! one is.

use super::Settings;
use crate::client::fleet::{Fleet, Stretch};
use crate::client::latency::Latencies;
use crate::client::request::Target;
use crate::cpu;
use crate::failure::Failure;
use crate::hub::{self, Hub};
use crate::interrupt::Interrupt;
use crate::report::{Report, grouped};
use crate::sample::Samples;
use serde_json::json;
use std::path::Path;
use std::time::Duration;

/// How often each build has its turn.
const ROUNDS: u32 = 6;
/// The load before the first turn, which is not counted.
const WARM: Duration = Duration::from_secs(1);

/// A build with its clients.
struct Side {
    hub: Hub,
    fleet: Fleet,
    rates: Samples,
    /// Microseconds of the hub's processor time for each lifecycle; empty where the system does not tell.
    cpu_us: Samples,
    latencies: Latencies,
}

impl Side {
    fn start(settings: &Settings, hub: &hub::Settings, interrupt: &Interrupt) -> Result<Side, Failure> {
        let hub = Hub::find_or_start(hub, interrupt)?;
        let payload_bytes = settings.payload_bytes as usize;
        let target = Target { host: hub.data.to_string(), token: hub.token.clone(), payload_bytes };
        let mut fleet = Fleet::connect(hub.data, &target, settings.connections as usize, interrupt.clone())?;
        fleet.run(WARM, &mut Latencies::default())?;
        let (rates, cpu_us, latencies) = (Samples::default(), Samples::default(), Latencies::default());
        Ok(Side { hub, fleet, rates, cpu_us, latencies })
    }

    fn take_turn(&mut self, time: Duration) -> Result<(), Failure> {
        let cpu = || self.hub.pid().and_then(cpu::time);
        let before = cpu();
        let stretch: Stretch = self.fleet.run(time, &mut self.latencies)?;
        self.rates.push(stretch.rate());
        if let (Some(before), Some(after)) = (before, cpu()) {
            self.cpu_us.push((after - before).as_secs_f64() * 1e6 / stretch.lifecycles.max(1) as f64);
        }
        Ok(())
    }
}

/// Runs both builds in turns.
pub fn measure(settings: &Settings, other: &Path, interrupt: &Interrupt) -> Result<Report, Failure> {
    let mut new = Side::start(settings, &settings.hub, interrupt)?;
    let mut old = Side::start(settings, &settings.hub.with_program(other), interrupt)?;
    let time = Duration::from_secs(settings.duration) / ROUNDS / 2;
    for round in 0..ROUNDS {
        // Who begins changes, so that a pace that only falls or rises favours neither.
        let (first, second) = if round % 2 == 0 { (&mut new, &mut old) } else { (&mut old, &mut new) };
        first.take_turn(time)?;
        second.take_turn(time)?;
    }
    let report = describe(settings, &new, &old);
    new.hub.stop()?;
    old.hub.stop()?;
    Ok(report)
}

fn describe(settings: &Settings, new: &Side, old: &Side) -> Report {
    let mut report = Report::default();
    let mut rows = Vec::new();
    let mut compare = |name: &str, unit: &str, new: &Samples, old: &Samples| {
        let ratios = new.ratios(old);
        let (least, most) = ratios.range();
        let shown = |value: f64| if unit.is_empty() { grouped(value) } else { format!("{value:.1} {unit}") };
        let ratio = format!("{:.2} ({least:.2} to {most:.2})", ratios.median());
        rows.push(vec![name.to_owned(), shown(new.median()), shown(old.median()), ratio]);
        json!({ "new": new.median(), "old": old.median(), "ratio": ratios.median(), "least": least, "most": most })
    };
    report.figure("connections", settings.connections);
    report.figure("lifecycles_per_second", compare("lifecycles/s", "", &new.rates, &old.rates));
    if !new.cpu_us.is_empty() && !old.cpu_us.is_empty() {
        report.figure(
            "cpu_us_per_lifecycle",
            compare("the hub's processor time for a lifecycle", "µs", &new.cpu_us, &old.cpu_us),
        );
    }
    report.figure("latency", json!({ "new": new.latencies.to_json(), "old": old.latencies.to_json() }));
    let title = format!("Two builds in turns, {ROUNDS} times, at {} connections", settings.connections);
    report.table(title, &["", "this build", "the other", "ratio"], rows);
    report.table("What a client of this build waited", &["call", "p50", "p99", "longest"], new.latencies.rows());
    report.table("What a client of the other waited", &["call", "p50", "p99", "longest"], old.latencies.rows());
    report
}
