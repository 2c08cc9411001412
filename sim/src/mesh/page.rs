//! Page: a run of the mesh as one HTML page: its result, its timeline, its plan and numbers.

use super::fault::{Injected, Per, Place};
use super::plan::Plan;
use super::run::{Failure, Report};
use super::timeline::{Sample, State, Timeline};
use super::world::{Tally, WARM_UP_US};
use crate::agenda::{MINUTE, Micros, SECOND};
use crate::report::html::{Page, Part};
use crate::report::lanes::{Bar, Lane, Lanes, Look};
use crate::report::svg::{Chart, Series};
use std::collections::BTreeMap;

/// An hour.
const HOUR: Micros = 60 * MINUTE;

/// Points of a rate: a run of some minutes has a second or less between two samples, in which little happens.
const RATE_POINTS: usize = 120;

/// A run, as a page shows it.
#[derive(Clone, Copy, Debug)]
pub struct Run<'a> {
    /// The plan.
    pub plan: &'a Plan,
    /// The run in numbers.
    pub tally: &'a Tally,
    /// How it ended.
    pub end: End<'a>,
    /// The run over time.
    pub timeline: &'a Timeline,
    /// The command that runs it again.
    pub again: &'a str,
}

/// How a run ended.
#[derive(Clone, Copy, Debug)]
pub enum End<'a> {
    /// Without a violation, with the hash of all events.
    Well(u128),
    /// An invariant was violated.
    Failed(&'a Failure),
    /// It was interrupted, without a violation so far.
    Interrupted,
}

impl<'a> Run<'a> {
    /// A run that ended by itself.
    pub fn ended(result: Result<&'a Report, &'a Failure>, timeline: &'a Timeline, again: &'a str) -> Self {
        let (plan, tally, end) = match result {
            Ok(report) => (&report.plan, &report.tally, End::Well(report.trail_hash)),
            Err(failure) => (&failure.plan, &failure.tally, End::Failed(failure)),
        };
        Run { plan, tally, end, timeline, again }
    }

    /// The page.
    pub fn to_page(&self) -> Page {
        let plan = self.plan;
        let reached = self.tally.virtual_us as f64 / 1e6;
        let mut parts = Vec::new();
        let verdict = match self.end {
            End::Well(_) => "No invariant was violated.".to_owned(),
            End::Interrupted => format!("It was interrupted after {reached:.0} s. No invariant was violated so far."),
            End::Failed(failure) => {
                let text = failure.violation.detail.clone();
                parts.push(Part::Text { title: format!("Violated: {}", failure.violation.invariant), text });
                format!("It failed after {reached:.6} s.")
            }
        };
        parts.push(self.timeline_part());
        parts.push(self.depth_chart());
        parts.push(self.goodput_chart());
        parts.push(self.reply_chart());
        if let End::Failed(failure) = self.end {
            let last: Vec<_> = failure.last.iter().map(ToString::to_string).collect();
            parts.push(Part::Text { title: "The last events".to_owned(), text: last.join("\n") });
        }
        parts.push(self.figures());
        parts.push(self.faults());
        parts.push(self.marks());
        parts.push(Part::Text { title: "Plan".to_owned(), text: plan.to_string() });
        let left_out = self.timeline.bands_left_out();
        let mut lead = vec![verdict, format!("Run it again: {}", self.again)];
        if left_out > 0 {
            lead.push(format!("The first processes of the hub are shown; {left_out} later changes are left out."));
        }
        Page { title: format!("Mesh: seed {}, {} minutes of chaos", plan.seed, plan.minutes), lead, parts }
    }

    /// The run's phases, the hub's processes, and when which faults were injected, by place.
    fn timeline_part(&self) -> Part {
        let mut rows = vec![self.row("run", self.phases())];
        let is_journal = |state| state == State::JournalDown;
        let bars = |is_wanted: &dyn Fn(State) -> bool| {
            let bands = self.timeline.bands().iter().filter(|band| is_wanted(band.state));
            bands.map(|band| (band.from, band.to, of_state(band.state))).collect()
        };
        rows.push(self.row("hub", bars(&|state| !is_journal(state))));
        rows.push(self.row("journal", bars(&is_journal)));
        rows.extend(Place::ALL.map(|place| self.row(place.name(), self.fault_spells(place))));
        let title = "The hub, and what went wrong where".to_owned();
        let x_max = self.tally.virtual_us as f64 / self.unit().1;
        Part::Lanes(Lanes { title, x_label: self.x_label(), x_max, rows })
    }

    fn phases(&self) -> Vec<Spell> {
        let (chaos_from, end) = (WARM_UP_US, self.tally.virtual_us);
        let chaos_to = chaos_from + self.plan.chaos_us();
        let phase = |from: Micros, to: Micros, look, label: &str| {
            (from.min(end), to.min(end), Shown { look, label: label.to_owned(), title: label.to_owned() })
        };
        let phases = [
            phase(0, chaos_from, Look::Plain, "warm-up"),
            phase(chaos_from, chaos_to, Look::Harsh, "chaos"),
            phase(chaos_to, end, Look::Plain, "cool-down"),
        ];
        let title = match self.end {
            End::Well(_) => None,
            End::Failed(failure) => Some(format!("failed: {}", failure.violation.invariant)),
            End::Interrupted => Some("interrupted".to_owned()),
        };
        let early = title.map(|title| (end, end, Shown { look: Look::Bad, label: String::new(), title }));
        phases.into_iter().filter(|(from, to, _)| from < to).chain(early).collect()
    }

    /// When faults of a place came, between two samples.
    fn fault_spells(&self, place: Place) -> Vec<Spell> {
        let pairs = self.timeline.samples().windows(2);
        let strikes = pairs.filter_map(|pair| {
            let came = came(&pair[0], &pair[1], place);
            let title: Vec<_> = came.iter().map(|(name, count)| format!("{name} {count}")).collect();
            let shown = Shown { look: Look::Bad, label: String::new(), title: title.join(", ") };
            // Within this time; drawn as a tick at its beginning.
            (!came.is_empty()).then_some((pair[0].at, pair[0].at, shown))
        });
        strikes.collect()
    }

    fn row(&self, name: &str, spells: Vec<Spell>) -> Lane {
        let unit_us = self.unit().1;
        let bars = spells.into_iter().map(|(from, to, Shown { look, label, title })| {
            let title = match from == to {
                true => format!("{title} ({:.0} s)", from as f64 / SECOND as f64),
                false => format!("{title} ({:.3} s to {:.3} s)", from as f64 / 1e6, to as f64 / 1e6),
            };
            Bar { from: from as f64 / unit_us, to: to as f64 / unit_us, look, label, title }
        });
        Lane { name: name.to_owned(), bars: bars.collect() }
    }

    fn depth_chart(&self) -> Part {
        let (_, unit_us) = self.unit();
        let samples = self.timeline.samples();
        let line = |name: &str, value: fn(&Sample) -> u64| Series {
            name: name.to_owned(),
            points: samples.iter().map(|sample| (sample.at as f64 / unit_us, Some(value(sample) as f64))).collect(),
        };
        let series = vec![line("waiting", |sample| sample.waiting), line("under lease", |sample| sample.leased)];
        self.chart("Jobs in the hub", "jobs", series)
    }

    fn goodput_chart(&self) -> Part {
        let series =
            vec![self.rate("acknowledged", |sample| sample.acknowledged), self.rate("ended", |sample| sample.ended)];
        self.chart("Goodput", "jobs/s", series)
    }

    fn reply_chart(&self) -> Part {
        let series = vec![
            self.rate("2xx", |sample| sample.replies[0]),
            self.rate("4xx", |sample| sample.replies[1]),
            self.rate("5xx", |sample| sample.replies[2]),
            self.rate("no reply", |sample| sample.lost),
        ];
        self.chart("Requests by result", "requests/s", series)
    }

    /// How often a second a count goes up.
    fn rate(&self, name: &str, count: fn(&Sample) -> u64) -> Series {
        let (_, unit_us) = self.unit();
        let samples = self.timeline.samples();
        let every = samples.len().div_ceil(RATE_POINTS).max(1);
        // The last sample ends the last interval, however short that is.
        let mut ends: Vec<_> = samples.iter().step_by(every).collect();
        ends.extend(samples.last().filter(|_| !(samples.len().max(1) - 1).is_multiple_of(every)));
        let points = ends.windows(2).filter(|pair| pair[0].at < pair[1].at).map(|pair| {
            let seconds = (pair[1].at - pair[0].at) as f64 / SECOND as f64;
            let rate = (count(pair[1]) - count(pair[0])) as f64 / seconds;
            (pair[1].at as f64 / unit_us, Some(rate))
        });
        Series { name: name.to_owned(), points: points.collect() }
    }

    fn chart(&self, title: &str, y_label: &str, series: Vec<Series>) -> Part {
        Part::Chart(Chart { title: title.to_owned(), x_label: self.x_label(), y_label: y_label.to_owned(), series })
    }

    /// The unit of the horizontal axes, and its microseconds.
    fn unit(&self) -> (&'static str, f64) {
        match self.tally.virtual_us {
            to if to > 10 * HOUR => ("h", HOUR as f64),
            to if to > 30 * MINUTE => ("min", MINUTE as f64),
            _ => ("s", SECOND as f64),
        }
    }

    fn x_label(&self) -> String {
        format!("virtual time ({})", self.unit().0)
    }

    fn figures(&self) -> Part {
        let tally = self.tally;
        let mut rows = vec![
            ("virtual time", format!("{:.1} s", tally.virtual_us as f64 / 1e6)),
            ("events", tally.events.to_string()),
            ("requests", tally.requests.to_string()),
            ("records in the journal", tally.records.to_string()),
            ("lines of the audit log", tally.audit_lines.to_string()),
            ("starts of the hub", tally.hub_starts.to_string()),
            ("jobs acknowledged", tally.acknowledged.to_string()),
            ("jobs ended", tally.ended.to_string()),
        ];
        if let End::Well(trail_hash) = self.end {
            rows.push(("trail", format!("{trail_hash:032x}")));
        }
        let rows = rows.into_iter().map(|(name, value)| vec![name.to_owned(), value]).collect();
        table("Figures", &["", ""], rows)
    }

    /// What the plan has and what came, by place.
    fn faults(&self) -> Part {
        let mut all = counted(&self.tally.injected);
        for fault in self.plan.faults.keys() {
            all.entry((fault.place(), in_words(fault.name()))).or_default();
        }
        let rows = all.into_iter().map(|((place, name), count)| {
            let planned = self.plan.faults.iter().find(|(fault, _)| fault.is_called(&name));
            let planned = match planned {
                Some((fault, rate)) if fault.per() == Per::Hour => format!("{rate} an hour"),
                Some((_, rate)) => format!("{:.1} %", f64::from(*rate) / 100.0),
                None => "-".to_owned(),
            };
            vec![format!("{}: {name}", place.name()), planned, count.to_string()]
        });
        table("Faults", &["", "planned", "came"], rows.collect())
    }

    fn marks(&self) -> Part {
        let marks = &self.tally.marks;
        let rows = marks.iter().map(|(name, count)| vec![(*name).to_owned(), count.to_string()]);
        table("What was seen", &["", "times"], rows.collect())
    }
}

/// From when to when, and how that is shown.
type Spell = (Micros, Micros, Shown);

struct Shown {
    look: Look,
    label: String,
    title: String,
}

fn of_state(state: State) -> Shown {
    let (look, label, title) = match state {
        State::Up(process_id) => {
            let look = if process_id % 2 == 1 { Look::Well } else { Look::WellToo };
            (look, process_id.to_string(), format!("hub process {process_id}"))
        }
        State::Down => (Look::Bad, String::new(), "down".to_owned()),
        State::JournalDown => (Look::Bad, "down".to_owned(), "the journal takes nothing".to_owned()),
    };
    Shown { look, label, title }
}

/// The faults of a place that came between two samples.
fn came(before: &Sample, after: &Sample, place: Place) -> Vec<(String, u64)> {
    let before = counted(&before.injected);
    let of_place = counted(&after.injected).into_iter().filter(|((at, _), _)| *at == place);
    let grown = of_place.map(|(key, count)| {
        let more = count - before.get(&key).copied().unwrap_or(0);
        (key.1, more)
    });
    grown.filter(|(_, more)| *more > 0).collect()
}

/// Faults by where they came and what they are called. The same may be counted where it is drawn and where it strikes:
/// the higher count has all of it.
fn counted(injected: &Injected) -> BTreeMap<(Place, String), u64> {
    let mut counts = BTreeMap::new();
    for (name, count) in injected {
        let entry = counts.entry((Place::of(name), in_words(name))).or_insert(0);
        *entry = (*entry).max(*count);
    }
    counts
}

fn in_words(name: &str) -> String {
    name.replace('_', " ")
}

fn table(title: &str, columns: &[&str], rows: Vec<Vec<String>>) -> Part {
    let columns = columns.iter().map(|column| (*column).to_owned()).collect();
    Part::Table { title: title.to_owned(), columns, rows }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mesh::fault::Fault;
    use crate::mesh::oracle::Violation;
    use crate::mesh::run::run_while;
    use crate::mesh::trail::Note;
    use crate::report::html::tests::unclosed;

    /// A run with faults at each place, and its timeline.
    fn seen() -> (Report, Timeline) {
        let mut plan = Plan::of(6, 10);
        plan.faults.insert(Fault::NodeCrash, 60);
        let mut timeline = Timeline::default();
        let ended = run_while(&plan, |world| {
            timeline.update(world);
            true
        });
        let report = ended.expect("it is not stopped").unwrap_or_else(|failure| panic!("{failure}"));
        timeline.end(&report.tally);
        (report, timeline)
    }

    #[test]
    fn a_page_shows_the_processes_the_faults_by_place_and_the_numbers() {
        let (report, timeline) = seen();
        let html = Run::ended(Ok(&report), &timeline, "sheratan-sim run").to_page().to_html();
        assert_eq!(unclosed(&html), Vec::<String>::new());
        assert!(!html.contains("NaN"), "{html}");
        assert_eq!(html.matches("<svg").count(), 4);
        for row in ["run", "hub", "journal", "network", "nodes", "clients", "disk", "clock"] {
            assert!(html.contains(&format!(">{row}</text>")), "there is no row {row}");
        }
        let processes = html.matches("<title>hub process ").count() as u64;
        assert_eq!(processes, report.tally.hub_starts, "each process of the hub has its bar");
        assert!(html.contains("node crash 1 (") || html.contains("node crash 1, "), "a tick says what came");
        let crashes = report.tally.injected["node_crash"];
        assert!(html.contains(&format!(
            "<td>nodes: node crash</td><td class=\"n\">60 an hour</td><td class=\"n\">{crashes}</td>"
        )));
        assert_eq!(html.matches("disk: write error").count(), 1, "planned and counted are one row");
        assert!(html.contains("[faults]\n"), "the plan is there as a scenario file");
    }

    #[test]
    fn a_page_of_a_failure_shows_the_invariant_and_the_last_events() {
        let (report, timeline) = seen();
        let violation = Violation { invariant: "nothing is lost", detail: "job <7> is gone".to_owned() };
        let last = vec![Note { at: 2_500_000, what: "a round", which: [3, 4] }];
        let failure = Failure { plan: report.plan, tally: report.tally, violation, last };
        let html = Run::ended(Err(&failure), &timeline, "sheratan-sim run").to_page().to_html();
        assert_eq!(unclosed(&html), Vec::<String>::new());
        for text in ["<h2>Violated: nothing is lost</h2>", "job &lt;7&gt; is gone", "2.500000 s  a round 3 4"] {
            assert!(html.contains(text), "{text}");
        }
    }

    #[test]
    fn a_page_of_a_run_that_was_interrupted_shows_how_far_it_came() {
        let (plan, mut timeline) = (Plan::of(6, 10), Timeline::default());
        let ended = run_while(&plan, |world| {
            timeline.update(world);
            world.now() < 100 * SECOND
        });
        let tally = ended.expect_err("it is stopped").0;
        timeline.end(&tally);
        let html =
            Run { plan: &plan, tally: &tally, end: End::Interrupted, timeline: &timeline, again: "it" }.to_page();
        let html = html.to_html();
        assert_eq!(unclosed(&html), Vec::<String>::new());
        for text in ["It was interrupted after 100 s. No invariant", "<title>interrupted (100 s)", "<title>chaos ("] {
            assert!(html.contains(text), "{text}");
        }
        assert!(!html.contains("<title>cool-down") && !html.contains("NaN"));
    }

    #[test]
    fn rates_add_up_to_the_counts() {
        let (report, timeline) = seen();
        let run = Run::ended(Ok(&report), &timeline, "");
        let series = run.rate("ended", |sample| sample.ended);
        let mut before = 0.0;
        let sum: f64 = series
            .points
            .iter()
            .map(|(at, rate)| {
                let jobs = rate.expect("it has no gap") * (at - before);
                before = *at;
                jobs
            })
            .sum();
        assert!((sum - report.tally.ended as f64).abs() < 1.0, "{sum} jobs of {}", report.tally.ended);
        assert_eq!(before, report.tally.virtual_us as f64 / 1e6, "the last point is the end");
    }
}
