//! The mesh on the command line: one run or many, reported as text, JSON or a page, and made smaller if it fails.

mod words;

use super::interrupt::{Interrupt, ended_by};
use super::scenario::DEFAULT;
use super::terminal::{bar, ended, failed, line, note};
use super::watch::Watch;
use serde_json::{Value, json};
use sheratan_sim::agenda::{Micros, SECOND};
use sheratan_sim::mesh::oracle::Violation;
use sheratan_sim::mesh::page::{End, Run};
use sheratan_sim::mesh::plan::{MINUTES_DEFAULT, Plan};
use sheratan_sim::mesh::run::{Failure, PROGRESS_STEPS, Report, Stopped, Totals, run_while};
use sheratan_sim::mesh::shrink::shrink;
use sheratan_sim::mesh::timeline::Timeline;
use sheratan_sim::mesh::world::WARM_UP_US;
use sheratan_sim::model_check::check::SeedRange;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;
use std::{fs, thread};

/// The default seed.
const SEED_DEFAULT: u64 = 0;

/// Where the plans of runs come from: each seed has its own, or a file has one for all.
#[derive(Clone)]
pub struct Source {
    word: String,
    plan: Option<Plan>,
    minutes: Option<u64>,
}

impl Source {
    /// The plans of what that word names: the mesh's usual run, or a file with a plan. `minutes` of chaos, if they are
    /// to be others than it says.
    pub fn new(word: &str, plan: Option<Plan>, minutes: Option<u64>) -> Self {
        Source { word: word.to_owned(), plan, minutes }
    }

    /// The plan of a seed; of its own one if there is none.
    pub fn plan(&self, seed: Option<u64>) -> Plan {
        let Some(plan) = &self.plan else {
            return Plan::of(seed.unwrap_or(SEED_DEFAULT), self.minutes.unwrap_or(MINUTES_DEFAULT));
        };
        Plan { seed: seed.unwrap_or(plan.seed), minutes: self.minutes.unwrap_or(plan.minutes), ..plan.clone() }
    }

    /// The command that runs a seed again.
    fn again(&self, seed: u64) -> String {
        let minutes = match (&self.plan, self.minutes) {
            (Some(_), None) => String::new(),
            (_, minutes) => format!(" --minutes {}", minutes.unwrap_or(MINUTES_DEFAULT)),
        };
        format!("{} --seed {seed}{minutes}", self.command())
    }

    /// The command that goes on with other seeds.
    fn onward(&self, seeds: &SeedRange) -> String {
        let minutes = self.minutes.map(|minutes| format!(" --minutes {minutes}")).unwrap_or_default();
        format!("{} --seeds {}..{}{minutes}", self.command(), seeds.first(), seeds.end())
    }

    fn command(&self) -> String {
        // What a shell would split or expand is quoted; the rest is easier to read as it is.
        let is_plain = |character: char| character.is_alphanumeric() || "./_-+:@".contains(character);
        let word = match self.word.chars().all(is_plain) {
            true => self.word.clone(),
            false => format!("'{}'", self.word.replace('\'', r"'\''")),
        };
        format!("sheratan-sim run --scenario {word}")
    }
}

/// How runs are made and reported.
#[derive(Clone, Copy)]
pub struct How {
    /// Run each seed twice and compare.
    pub is_twice: bool,
    /// Report as JSON.
    pub is_json: bool,
    /// Run all of many seeds, even if some fail.
    pub keeps_going: bool,
}

/// Runs of the mesh, one after the other or in parallel, until they are interrupted.
pub struct Runner {
    how: How,
    watch: Watch,
    interrupt: Interrupt,
    /// What runs now, for the report of a panic or of a step without an end.
    current: Arc<Mutex<Source>>,
}

/// How a run ended; an error if it was interrupted.
type Ended = Result<Result<Report, Box<Failure>>, Stopped>;

/// The report of a run that ended by itself.
pub struct Described {
    /// Whether there was no violation.
    pub is_well: bool,
    /// A summary, or the whole report if it failed.
    pub text: String,
    /// The report as JSON.
    pub json: Value,
}

impl Runner {
    /// A runner before its first run.
    pub fn new(how: How, interrupt: Interrupt) -> Self {
        let current = Arc::new(Mutex::new(Source::new(DEFAULT, None, None)));
        let source = Arc::clone(&current);
        let again = move |seed| source.lock().expect("no thread panics with it").again(seed);
        Runner { how, watch: Watch::start(again), interrupt, current }
    }

    /// The wish that it ends.
    pub fn interrupt(&self) -> &Interrupt {
        &self.interrupt
    }

    /// One run with its whole report; its page is written to `html`.
    pub fn one(&self, source: &Source, seed: Option<u64>, html: Option<&Path>) -> ExitCode {
        self.begin(source);
        let plan = source.plan(seed);
        let again = source.again(plan.seed);
        let mut timeline = html.map(|_| Timeline::default());
        let (ended_as, seconds) = self.under_bar(&plan, timeline.as_mut());
        let result = match ended_as {
            Ok(result) => result,
            Err(Stopped(tally)) => {
                if let (Some(file), Some(timeline)) = (html, &mut timeline) {
                    timeline.end(&tally);
                    let run = Run { plan: &plan, tally: &tally, end: End::Interrupted, timeline, again: &again };
                    if let Err(reason) = write_page(file, &run) {
                        return failed(reason, 1);
                    }
                }
                return self.interrupted_at(&plan, tally.virtual_us);
            }
        };
        let text = match (&result, self.how.is_json) {
            (Ok(report), false) => words::report_text(report, seconds),
            (Ok(report), true) => words::report_json(report, seconds).to_string(),
            (Err(failure), false) => words::failure_text(failure, &again),
            (Err(failure), true) => words::failure_json(failure, &again).to_string(),
        };
        let written = match (html, &mut timeline) {
            (Some(file), Some(timeline)) => {
                timeline.end(result.as_ref().map_or_else(|failure| &failure.tally, |report| &report.tally));
                write_page(file, &Run::ended(result.as_ref().map_err(AsRef::as_ref), timeline, &again))
            }
            _ => Ok(()),
        };
        // If standard output is closed this ends the process, so the page is written before.
        line(text);
        written.map_or_else(|reason| failed(reason, 1), |()| ended(result.is_ok()))
    }

    /// One run of several; `None` if it was interrupted.
    pub fn one_of_several(&self, source: &Source, seed: Option<u64>) -> Option<Described> {
        self.begin(source);
        let plan = source.plan(seed);
        let again = source.again(plan.seed);
        let (result, seconds) = self.under_bar(&plan, None);
        Some(match result.ok()? {
            Ok(report) => Described {
                is_well: true,
                text: format!("{} events", report.tally.events),
                json: words::report_json(&report, seconds),
            },
            Err(failure) => Described {
                is_well: false,
                text: words::failure_text(&failure, &again),
                json: words::failure_json(&failure, &again),
            },
        })
    }

    /// The smallest scenario that fails as this one does.
    pub fn shrink(&self, source: &Source, seed: Option<u64>) -> ExitCode {
        self.begin(source);
        let plan = source.plan(seed);
        let failure = match self.under_bar(&plan, None).0 {
            Err(Stopped(tally)) => return self.interrupted_at(&plan, tally.virtual_us),
            Ok(Ok(report)) => {
                line(format_args!("# seed {} does not fail: {} events", plan.seed, report.tally.events));
                return ended(false);
            }
            Ok(Err(failure)) => *failure,
        };
        let tries = bar(0, "{spinner} {pos} tries, {elapsed}; fails with {msg}");
        tries.set_message(size(&failure.plan));
        let run = |plan: &Plan| {
            tries.inc(1);
            self.run(plan, |_| {}, None).ok()
        };
        let smallest = shrink(failure, run, |plan| {
            tries.suspend(|| note(format_args!("still fails: {}", size(plan))));
            tries.set_message(size(plan));
        });
        tries.finish_and_clear();
        line(format_args!("# {}\n{}", smallest.violation, smallest.plan));
        if self.interrupt.is_asked() {
            return ended_by("it may go smaller");
        }
        ended(true)
    }

    /// Many runs on `jobs` threads: reports the failure of the lowest seed, or the totals.
    pub fn many(&self, source: &Source, seeds: &SeedRange, jobs: usize) -> ExitCode {
        self.begin(source);
        let bar = bar(seeds.count(), "{wide_bar} {pos}/{len} seeds, {per_sec}, {eta} left");
        let started = Instant::now();
        let next = AtomicU64::new(seeds.first());
        // The first seed that was begun and interrupted.
        let interrupted = AtomicU64::new(u64::MAX);
        let is_over = AtomicBool::new(false);
        let totals = Mutex::new(Totals::default());
        let found = Mutex::new(Found::default());
        thread::scope(|scope| {
            for _ in 0..jobs {
                scope.spawn(|| {
                    while !is_over.load(Ordering::Relaxed) && !self.interrupt.is_asked() {
                        let seed = next.fetch_add(1, Ordering::Relaxed);
                        if seed >= seeds.end() {
                            return;
                        }
                        match self.run(&source.plan(Some(seed)), |_| {}, None) {
                            Err(_) => _ = interrupted.fetch_min(seed, Ordering::Relaxed),
                            Ok(Ok(report)) => totals.lock().expect("no thread panics with it").add(&report),
                            Ok(Err(failure)) => {
                                if self.how.keeps_going {
                                    bar.suspend(|| note(&failure));
                                } else {
                                    is_over.store(true, Ordering::Relaxed);
                                }
                                found.lock().expect("no thread panics with it").add(failure);
                            }
                        }
                        bar.inc(1);
                    }
                });
            }
        });
        bar.finish_and_clear();
        let seconds = started.elapsed().as_secs_f64();
        let found = found.into_inner().expect("no thread panics with it");
        if let (Some(failure), false) = (found.lowest(), self.how.keeps_going) {
            let again = source.again(failure.plan.seed);
            match self.how.is_json {
                true => line(words::failure_json(failure, &again)),
                false => line(words::failure_text(failure, &again)),
            }
            return ended(false);
        }
        let totals = totals.into_inner().expect("no thread panics with it");
        let onward = interrupted.into_inner().min(next.into_inner());
        let left = (onward < seeds.end()).then(|| SeedRange::new(onward, seeds.end()));
        match self.how.is_json {
            true => line(words::totals_json(&totals, seconds, left.as_ref().map(SeedRange::first), &found, source)),
            false => line(words::totals_text(&totals, seconds, jobs, &found, source)),
        }
        match left {
            None => ended(found.is_empty()),
            Some(left) => {
                let further = if self.how.keeps_going { " --keep-going" } else { "" };
                ended_by(format_args!("go on with: {}{further}", source.onward(&left)))
            }
        }
    }

    fn begin(&self, source: &Source) {
        *self.current.lock().expect("no thread panics with it") = source.clone();
    }

    /// Runs a plan under a bar of virtual time: how it ended, and how many seconds it took.
    fn under_bar(&self, plan: &Plan, timeline: Option<&mut Timeline>) -> (Ended, f64) {
        let chaos_end = WARM_UP_US + plan.chaos_us();
        let bar = bar(chaos_end / SECOND, "{wide_bar} {pos}/{len} virtual seconds{msg}, {eta} left");
        let started = Instant::now();
        let progress = |now: Micros| {
            bar.set_position(now.min(chaos_end) / SECOND);
            if now > chaos_end {
                bar.set_message(format!(" and {} of the cool-down", (now - chaos_end) / SECOND));
            }
        };
        let result = self.run(plan, progress, timeline);
        bar.finish_and_clear();
        (result, started.elapsed().as_secs_f64())
    }

    /// Runs a plan, twice if that is requested. `progress` is called with the virtual time now and then.
    fn run(&self, plan: &Plan, progress: impl FnMut(Micros), timeline: Option<&mut Timeline>) -> Ended {
        let report = match self.run_once(plan, progress, timeline)? {
            Ok(report) if self.how.is_twice => report,
            result => return Ok(result),
        };
        let other = match self.run_once(plan, |_| {}, None) {
            Ok(Ok(other)) => other,
            Ok(failure) => return Ok(failure),
            // The first run was complete, so its numbers are reported.
            Err(_) => return Err(Stopped(Box::new(report.tally))),
        };
        if other == report {
            return Ok(Ok(report));
        }
        let (one, two) = (report.trail_hash, other.trail_hash);
        let detail = format!("the first run's events have the hash {one:032x}, the second's {two:032x}");
        let violation = Violation { invariant: "a seed means one run", detail };
        Ok(Err(Box::new(Failure { plan: plan.clone(), tally: other.tally, violation, last: Vec::new() })))
    }

    fn run_once(&self, plan: &Plan, mut progress: impl FnMut(Micros), mut timeline: Option<&mut Timeline>) -> Ended {
        let mut steps = 0u64;
        self.watch.step(plan.seed, 0);
        let result = run_while(plan, |world| {
            if let Some(timeline) = &mut timeline {
                timeline.update(world);
            }
            steps += 1;
            if !steps.is_multiple_of(PROGRESS_STEPS) {
                return true;
            }
            self.watch.step(plan.seed, steps);
            progress(world.now());
            !self.interrupt.is_asked()
        });
        self.watch.done(plan.seed);
        result
    }

    fn interrupted_at(&self, plan: &Plan, reached: Micros) -> ExitCode {
        let seconds = reached as f64 / 1e6;
        if self.how.is_json {
            line(json!({ "ok": false, "interrupted": true, "seed": plan.seed, "virtual_sec": seconds }));
        }
        ended_by(format_args!("seed {} was well for {seconds:.0} virtual seconds", plan.seed))
    }
}

fn write_page(file: &Path, run: &Run) -> Result<(), String> {
    fs::write(file, run.to_page().to_html()).map_err(|error| format!("{} cannot be written: {error}", file.display()))
}

/// Failures of many runs, by the invariant that they violate.
#[derive(Default)]
pub struct Found(BTreeMap<&'static str, Kind>);

/// Failures of one kind.
struct Kind {
    seeds: u64,
    /// The one with the lowest seed.
    first: Box<Failure>,
}

impl Found {
    fn add(&mut self, failure: Box<Failure>) {
        match self.0.entry(failure.violation.invariant) {
            Entry::Vacant(place) => _ = place.insert(Kind { seeds: 1, first: failure }),
            Entry::Occupied(mut known) => {
                let kind = known.get_mut();
                kind.seeds += 1;
                if failure.plan.seed < kind.first.plan.seed {
                    kind.first = failure;
                }
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Seeds that failed.
    fn seeds(&self) -> u64 {
        self.0.values().map(|kind| kind.seeds).sum()
    }

    fn lowest(&self) -> Option<&Failure> {
        self.0.values().map(|kind| &*kind.first).min_by_key(|failure| failure.plan.seed)
    }
}

/// The size of a plan in words.
fn size(plan: &Plan) -> String {
    let Plan { nodes, clients, submits_per_min, minutes, .. } = plan;
    let faults = plan.faults.len();
    format!("{faults} faults, {nodes} nodes, {clients} clients, {submits_per_min} submits/min, {minutes} min")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_of_a_run_names_all_that_its_plan_comes_from() {
        let plan = Some(Plan::of(6, 5));
        let table = [
            (Source::new(DEFAULT, None, None), "--scenario default --seed 3 --minutes 2"),
            (Source::new(DEFAULT, None, Some(5)), "--scenario default --seed 3 --minutes 5"),
            (Source::new("a/b-1.toml", plan.clone(), None), "--scenario a/b-1.toml --seed 3"),
            (Source::new("a/b.toml", plan.clone(), Some(9)), "--scenario a/b.toml --seed 3 --minutes 9"),
            (Source::new("it's $1.toml", plan, None), r"--scenario 'it'\''s $1.toml' --seed 3"),
        ];
        for (source, arguments) in table {
            assert_eq!(source.again(3), format!("sheratan-sim run {arguments}"));
        }
    }

    #[test]
    fn a_file_is_one_plan_for_all_seeds_and_the_usual_run_one_for_each() {
        let plan = Plan::of(6, 5);
        let file = Source::new("a.toml", Some(plan.clone()), None);
        assert_eq!(file.plan(None), plan);
        assert_eq!(file.plan(Some(7)), Plan { seed: 7, ..plan.clone() });
        let usual = Source::new(DEFAULT, None, Some(5));
        assert_eq!((usual.plan(Some(6)), usual.plan(None)), (plan, Plan::of(0, 5)));
    }
}
