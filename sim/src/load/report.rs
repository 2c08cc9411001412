//! Report: the result of a run under load, as text, JSON and a page. It has no wall time, so two runs of a seed give
//! the same bytes; the caller adds how fast the run was.

use super::event::Micros;
use super::hub::Hub;
use super::scenario::Scenario;
use super::tally::{Sample, Tally, Waits};
use crate::report::html::{Page, Part};
use crate::report::svg::{Chart, Series};
use serde_json::{Value, json};
use sheratan_core::telemetry::Counter;
use sheratan_core::{Account, FinalStatus, Ledger};
use std::collections::BTreeMap;
use std::fmt;

/// The hub's own counts at the end.
#[derive(Clone, PartialEq, Debug)]
pub struct Held {
    /// Jobs that it accepted.
    pub submitted: u64,
    /// Jobs that ended with a result.
    pub completed: u64,
    /// Jobs without attempts left.
    pub dead: u64,
    /// Jobs that ended otherwise.
    pub expired: u64,
    /// Jobs that wait.
    pub waiting: u64,
    /// Jobs under lease.
    pub leased: u64,
    /// Attempts after which a retry was scheduled.
    pub retries: u64,
    /// Leases that expired.
    pub reaped: u64,
    /// Leases that came back and are not charged.
    pub returned: u64,
    /// Final jobs that can still be read.
    pub retained: u64,
    /// Bytes that it keeps, and what for.
    pub ledger: Ledger,
    /// Nodes known.
    pub nodes: u64,
}

/// The result of a run.
#[derive(Debug)]
pub struct Report {
    /// What the scenario shows.
    pub shows: String,
    /// The seed.
    pub seed: u64,
    /// How long it lasted, in virtual seconds.
    pub seconds: u64,
    /// The counts of clients and nodes.
    pub tally: Tally,
    /// The counts of the hub.
    pub hub: Held,
    /// Jobs that are sent or waiting, without an answer yet.
    pub pending: u64,
    /// Jobs that run at nodes, or whose result the hub has not acknowledged.
    pub under_way: u64,
    /// Requests that the hub answered.
    pub requests: u64,
    /// Group commits of its journal.
    pub commits: u64,
}

/// How fast a run was, and what it took of the machine.
#[derive(Clone, Copy, Debug)]
pub struct Speed {
    /// Seconds of the wall clock.
    pub wall_secs: f64,
    /// The most memory that the process had; where the system says.
    pub peak_rss_bytes: Option<u64>,
}

impl Report {
    /// The report of a run that has ended.
    pub(super) fn new(scenario: &Scenario, seed: u64, tally: Tally, hub: &Hub, pending: u64, under_way: u64) -> Self {
        let core = hub.core();
        let counts = core.counts();
        let total = |counter| core.telemetry().total(counter);
        let kinds = core.telemetry().kinds();
        let ended = |status: FinalStatus| -> u64 {
            kinds
                .iter()
                .map(|(_, counts)| counts)
                .chain(kinds.other())
                .map(|counts| counts.ended[status as usize])
                .sum()
        };
        let (completed, dead) = (ended(FinalStatus::Completed), ended(FinalStatus::Dead));
        let (requests, commits) = hub.served();
        let held = Held {
            submitted: total(Counter::Submitted),
            completed,
            dead,
            expired: FinalStatus::ALL.into_iter().map(ended).sum::<u64>() - completed - dead,
            waiting: counts.waiting(),
            leased: counts.leased,
            retries: total(Counter::RetryScheduled),
            reaped: total(Counter::LeaseReaped),
            returned: total(Counter::LeaseReturned),
            retained: counts.retained + counts.dead,
            ledger: core.ledger().clone(),
            nodes: core.registry().iter().count() as u64,
        };
        let (shows, seconds) = (scenario.shows.clone(), scenario.seconds);
        Report { shows, seed, seconds, tally, hub: held, pending, under_way, requests, commits }
    }

    /// Checks that the counts of clients, nodes and hub agree: no job may be lost or invented between them.
    pub fn check(&self) -> Result<(), String> {
        let (hub, tally) = (&self.hub, &self.tally);
        let held = hub.waiting + hub.leased;
        let known = tally.accepted + tally.dropped + tally.abandoned + self.pending;
        // Submits that were sent and never answered may be in the hub or not.
        let unsure = tally.abandoned + self.pending;
        let refused: u64 = tally.refused.values().sum();
        let books = [
            (
                hub.submitted == hub.completed + hub.dead + hub.expired + held,
                "accepted = completed + dead + expired + held",
            ),
            (tally.offered == known, "offered = accepted + dropped + abandoned + pending"),
            (
                (tally.accepted..=tally.accepted + unsure).contains(&hub.submitted),
                "the hub has what it acknowledged, and nothing that was not sent",
            ),
            (
                (tally.accepted + tally.copied + refused + tally.unanswered
                    ..=tally.accepted + tally.copied + refused + tally.unanswered + self.pending)
                    .contains(&tally.sent),
                "sent = accepted + copied + refused + unanswered",
            ),
            (tally.completed <= hub.completed, "no result is acknowledged that the hub does not have"),
        ];
        match books.iter().find(|(is_so, _)| !is_so) {
            Some((_, law)) => Err(format!("the books do not balance: it does not hold that {law}")),
            None => Ok(()),
        }
    }

    /// Completed jobs a second.
    pub fn goodput(&self) -> f64 {
        self.hub.completed as f64 / self.seconds as f64
    }

    /// The bytes of the state, by the core's ledger.
    pub fn state_bytes(&self) -> u64 {
        self.hub.ledger.total()
    }

    /// The report as one JSON object.
    pub fn to_json(&self) -> Value {
        let Report { tally, hub, .. } = self;
        let waits = |waits: &Waits| {
            json!({
                "count": waits.count(),
                "p50_us": waits.quantile(0.5),
                "p99_us": waits.quantile(0.99),
                "p999_us": waits.quantile(0.999),
                "max_us": waits.max(),
            })
        };
        let sample = |sample: &Sample| {
            json!({
                "at_sec": sample.at / 1_000_000,
                "queue_depth": sample.depth,
                "leased": sample.leased,
                "accepted": sample.accepted,
                "completed": sample.completed,
                "refused": sample.refused,
                "queue_wait_p99_us": sample.queue_wait_p99_us,
            })
        };
        json!({
            "shows": self.shows,
            "seed": self.seed,
            "virtual_sec": self.seconds,
            "requests": self.requests,
            "commits": self.commits,
            "goodput_per_sec": self.goodput(),
            "clients": {
                "offered": tally.offered,
                "accepted": tally.accepted,
                "dropped": tally.dropped,
                "abandoned": tally.abandoned,
                "pending": self.pending,
                "sent": tally.sent,
                "repeated": tally.repeated,
                "unanswered": tally.unanswered,
                "refused": tally.refused,
            },
            "hub": {
                "submitted": hub.submitted,
                "completed": hub.completed,
                "dead": hub.dead,
                "expired": hub.expired,
                "waiting": hub.waiting,
                "leased": hub.leased,
                "retries": hub.retries,
                "leases_reaped": hub.reaped,
                "leases_returned": hub.returned,
                "retained": hub.retained,
                "nodes": hub.nodes,
            },
            "nodes": {
                "results": tally.completed,
                "late_results": tally.late_results,
                "killed": tally.killed,
                "restarted_by_operator": tally.restarted,
                "refused": tally.nodes_refused,
                "under_way": self.under_way,
            },
            "reconnects": tally.reconnects,
            "waits": {
                "queue": waits(&tally.queue_wait),
                "until_done": waits(&tally.until_done),
                "answer": waits(&tally.answer),
                "heartbeat": waits(&tally.heartbeat),
                "queue_of_quiet_client": waits(&tally.quiet_wait),
            },
            "promises": {
                "count": tally.promises.count(),
                "p10": tally.promises.quantile(0.1),
                "p50": tally.promises.quantile(0.5),
                "p90": tally.promises.quantile(0.9),
            },
            "memory": {
                "state_bytes": self.state_bytes(),
                "accounts": Account::ALL.map(|account| (account.as_str(), hub.ledger.get(account))).into_iter().collect::<BTreeMap<_, _>>(),
            },
            "timeline": tally.samples.iter().map(sample).collect::<Vec<_>>(),
        })
    }

    /// The report as a page.
    pub fn to_page(&self, name: &str, speed: Option<Speed>) -> Page {
        let mut rows = self.figures();
        rows.extend(speed.iter().flat_map(|speed| speed.figures(self)));
        let rows = rows.into_iter().map(|(name, value)| vec![name.to_owned(), value]).collect();
        let table = |title: &str, columns: &[&str], rows| Part::Table {
            title: title.to_owned(),
            columns: columns.iter().map(|column| (*column).to_owned()).collect(),
            rows,
        };
        let waits = self.waits().map(|(name, waits)| {
            let quantiles = [waits.quantile(0.5), waits.quantile(0.99), waits.quantile(0.999), waits.max()];
            [name.to_owned()].into_iter().chain(quantiles.map(time)).collect()
        });
        Page {
            title: format!("Load: {name}"),
            lead: vec![self.shows.clone(), format!("Seed {}, {} virtual seconds.", self.seed, self.seconds)],
            parts: vec![
                table("Figures", &["", ""], rows),
                table("Waits", &["", "p50", "p99", "p99.9", "longest"], waits.into()),
                Part::Chart(self.depth_chart()),
                Part::Chart(self.rate_chart()),
                Part::Chart(self.wait_chart()),
            ],
        }
    }

    fn waits(&self) -> [(&'static str, &Waits); 5] {
        let tally = &self.tally;
        [
            ("until the first lease", &tally.queue_wait),
            ("of the quiet client's jobs", &tally.quiet_wait),
            ("until done", &tally.until_done),
            ("until a submit is answered", &tally.answer),
            ("until a heartbeat is", &tally.heartbeat),
        ]
    }

    /// Names and values, most wanted first.
    fn figures(&self) -> Vec<(&'static str, String)> {
        let Report { tally, hub, .. } = self;
        let codes = |codes: &std::collections::BTreeMap<Box<str>, u64>| match codes.is_empty() {
            true => "0".to_owned(),
            false => codes.iter().map(|(code, n)| format!("{} {code}", count(*n))).collect::<Vec<_>>().join(", "),
        };
        vec![
            ("goodput", format!("{:.1} jobs/s", self.goodput())),
            ("jobs offered", count(tally.offered)),
            ("accepted", format!("{} ({} answers repeated)", count(tally.accepted), count(tally.repeated))),
            ("given up", format!("{} refused, {} not answered", count(tally.dropped), count(tally.abandoned))),
            ("pending at clients", count(self.pending)),
            ("sends", format!("{} ({} not answered)", count(tally.sent), count(tally.unanswered))),
            ("refusals of jobs", codes(&tally.refused)),
            ("refusals of nodes", codes(&tally.nodes_refused)),
            ("completed", count(hub.completed)),
            ("dead, expired", format!("{}, {}", count(hub.dead), count(hub.expired))),
            ("held at the end", format!("{} wait, {} leased", count(hub.waiting), count(hub.leased))),
            ("retries", format!("{} ({} leases expired)", count(hub.retries), count(hub.reaped))),
            ("leases returned", count(hub.returned)),
            ("promised by real start", promises(tally)),
            ("late results", count(tally.late_results)),
            ("workers killed", count(tally.killed)),
            ("restarted by the operator", count(tally.restarted)),
            ("nodes", count(hub.nodes)),
            ("requests", format!("{} ({} connections opened anew)", count(self.requests), count(tally.reconnects))),
            ("group commits", count(self.commits)),
            ("state", format!("{} ({} final jobs kept)", bytes(self.state_bytes()), count(hub.retained))),
        ]
    }

    fn depth_chart(&self) -> Chart {
        let series = vec![
            self.line("waiting", |sample| Some(sample.depth as f64)),
            self.line("under lease", |sample| Some(sample.leased as f64)),
        ];
        self.chart("Jobs in the hub", "jobs", series)
    }

    fn rate_chart(&self) -> Chart {
        let every = self.tally.samples.first().map_or(1.0, |sample| sample.at as f64 / 1e6);
        let series = vec![
            self.line("accepted", |sample| Some(sample.accepted as f64 / every)),
            self.line("completed", |sample| Some(sample.completed as f64 / every)),
            self.line("refused", |sample| Some(sample.refused as f64 / every)),
        ];
        self.chart("Rates", "jobs/s", series)
    }

    fn wait_chart(&self) -> Chart {
        let longest = self.tally.samples.iter().filter_map(|sample| sample.queue_wait_p99_us).max();
        let (unit, unit_us) = if longest > Some(10_000_000) { ("s", 1e6) } else { ("ms", 1e3) };
        let p99 = self.line("p99", |sample| sample.queue_wait_p99_us.map(|wait_us| wait_us as f64 / unit_us));
        self.chart("Wait until the first lease", unit, vec![p99])
    }

    fn chart(&self, title: &str, unit: &str, series: Vec<Series>) -> Chart {
        let x_label = format!("virtual time ({})", self.time_unit().0);
        Chart { title: title.to_owned(), x_label, y_label: unit.to_owned(), series }
    }

    /// The unit of the charts' horizontal axes, and its microseconds.
    fn time_unit(&self) -> (&'static str, f64) {
        if self.seconds > 3 * 3_600 { ("h", 3.6e9) } else { ("s", 1e6) }
    }

    fn line(&self, name: &str, value: impl Fn(&Sample) -> Option<f64>) -> Series {
        let (_, unit_us) = self.time_unit();
        let points = self.tally.samples.iter().map(|sample| (sample.at as f64 / unit_us, value(sample)));
        Series { name: name.to_owned(), points: points.collect() }
    }
}

impl Speed {
    /// Names and values.
    pub fn figures(&self, report: &Report) -> Vec<(&'static str, String)> {
        let per_sec = |n: u64| n as f64 / self.wall_secs.max(1e-9);
        let mut figures = vec![
            ("wall time", format!("{:.2} s", self.wall_secs)),
            ("virtual per wall", format!("{:.1} s/s", per_sec(report.seconds))),
            ("requests per wall", format!("{} /s", count(per_sec(report.requests) as u64))),
        ];
        figures.extend(self.peak_rss_bytes.map(|peak| ("peak memory", bytes(peak))));
        figures
    }

    /// The members that JSON has for it.
    pub fn to_json(&self, report: &Report) -> Value {
        json!({
            "wall_sec": self.wall_secs,
            "virtual_sec_per_wall_sec": report.seconds as f64 / self.wall_secs.max(1e-9),
            "requests_per_wall_sec": report.requests as f64 / self.wall_secs.max(1e-9),
            "peak_rss_bytes": self.peak_rss_bytes,
        })
    }
}

/// As aligned text.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.shows)?;
        writeln!(f, "seed {}, {} virtual seconds\n", self.seed, self.seconds)?;
        for (name, value) in self.figures() {
            writeln!(f, "{name:<28}{value}")?;
        }
        writeln!(f, "\n{:<28}{:>10}{:>10}{:>10}{:>10}", "waits", "p50", "p99", "p99.9", "longest")?;
        for (name, waits) in self.waits() {
            let [p50, p99, p999] = [0.5, 0.99, 0.999].map(|part| time(waits.quantile(part)));
            writeln!(f, "{name:<28}{p50:>10}{p99:>10}{p999:>10}{:>10}", time(waits.max()))?;
        }
        Ok(())
    }
}

/// By how much the hub was wrong about the start of jobs.
fn promises(tally: &Tally) -> String {
    match [0.1, 0.5, 0.9].map(|part| tally.promises.quantile(part)) {
        [Some(p10), Some(p50), Some(p90)] => {
            format!("median {p50:.2} ({p10:.2} to {p90:.2}) of {} jobs", count(tally.promises.count() as u64))
        }
        _ => "-".to_owned(),
    }
}

/// A time in the unit in which it has few digits.
fn time(us: Option<Micros>) -> String {
    match us {
        None => "-".to_owned(),
        Some(us) if us < 10_000 => format!("{:.1} ms", us as f64 / 1e3),
        Some(us) if us < 10_000_000 => format!("{} ms", us / 1_000),
        Some(us) => format!("{:.1} s", us as f64 / 1e6),
    }
}

/// A count with its thousands apart.
fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

fn bytes(n: u64) -> String {
    match n {
        n if n < 1 << 20 => format!("{:.1} KiB", n as f64 / 1024.0),
        n if n < 1 << 30 => format!("{:.1} MiB", n as f64 / 1048576.0),
        n => format!("{:.2} GiB", n as f64 / 1073741824.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_short_and_have_their_units() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(count), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!([2_048, 3 << 20, 5 << 30].map(bytes), ["2.0 KiB", "3.0 MiB", "5.00 GiB"]);
        assert_eq!([None, Some(1_500), Some(25_000), Some(12_000_000)].map(time), ["-", "1.5 ms", "25 ms", "12.0 s"]);
    }
}
