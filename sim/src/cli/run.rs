//! `sheratan-sim run`: seeds of a scenario, in virtual time.

use super::watch::Watch;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::json;
use sheratan_io::client::integrity::hex;
use sheratan_sim::agenda::MINUTE;
use sheratan_sim::mesh::plan::{MINUTES_DEFAULT, Plan};
use sheratan_sim::mesh::run::{self as mesh, Failure, Report, Totals};
use sheratan_sim::mesh::shrink::shrink;
use sheratan_sim::model_check::check::SeedRange;
use std::io::{self, Write};
use std::num::NonZero;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;
use std::{fs, thread};

/// What `sheratan-sim run --help` says at its end.
const EXAMPLES: &str = "\
Examples:
  sheratan-sim run --seed 7                        one run, with what it was like
  sheratan-sim run --seeds 0..2000                 many; stops at the first that fails
  sheratan-sim run --seeds 0..2000 --twice         each twice, to see that a seed means one run
  sheratan-sim run --scenario sim/regressions/a.toml   what was found before
  sheratan-sim run --seed 7 --shrink               the smallest scenario that fails as seed 7 does";

/// Which runs.
#[derive(clap::Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// `default`, the scenario with everything in it, or scenario files.
    #[arg(long, value_name = "NAME|FILE", num_args = 1.., default_value = "default")]
    scenario: Vec<String>,
    /// The seed of a single run.
    #[arg(long, default_value_t = 0, conflicts_with = "seeds")]
    seed: u64,
    /// Many seeds, the last one excluded: `0..1000`.
    #[arg(long, value_name = "A..B")]
    seeds: Option<SeedRange>,
    /// Minutes of chaos in each run.
    #[arg(long, default_value_t = MINUTES_DEFAULT)]
    minutes: u64,
    /// Threads; as many as there are cores if absent.
    #[arg(long)]
    jobs: Option<NonZero<usize>>,
    /// Run each seed twice and compare everything that happened.
    #[arg(long)]
    twice: bool,
    /// Make a run that fails as small as it goes, and print it as a scenario file.
    #[arg(long, conflicts_with = "seeds")]
    shrink: bool,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// Runs; whether all went well.
pub fn run(args: &Args) -> io::Result<bool> {
    let minutes = args.minutes;
    let watch = &Watch::start(move |seed| format!("sheratan-sim run --seed {seed} --minutes {minutes}"));
    let out = &mut io::stdout().lock();
    let is_default = args.scenario == ["default"];
    match &args.seeds {
        Some(seeds) if is_default => many(out, watch, args, seeds),
        _ if is_default => one(out, watch, args, &Plan::of(args.seed, args.minutes)),
        _ => files(out, watch, args),
    }
}

fn files(out: &mut impl Write, watch: &Watch, args: &Args) -> io::Result<bool> {
    let mut are_all_well = true;
    for name in &args.scenario {
        let plan = fs::read_to_string(PathBuf::from(name)).map_err(|error| error.to_string());
        let plan = plan.and_then(|text| toml::from_str::<Plan>(&text).map_err(|error| error.to_string()));
        let plan = match plan {
            Ok(plan) => plan,
            Err(error) => {
                writeln!(out, "{name}: {error}")?;
                are_all_well = false;
                continue;
            }
        };
        match mesh::run(&plan, |_| watch.step(plan.seed, 0)) {
            Ok(_) => writeln!(out, "{name}: well")?,
            Err(failure) => {
                writeln!(out, "{name}: {failure}\n{}", last(&failure))?;
                are_all_well = false;
            }
        }
    }
    Ok(are_all_well)
}

fn one(out: &mut impl Write, watch: &Watch, args: &Args, plan: &Plan) -> io::Result<bool> {
    let started = Instant::now();
    watch.step(plan.seed, 0);
    let result = mesh::run(plan, |_| watch.step(plan.seed, 0));
    watch.done(plan.seed);
    let seconds = started.elapsed().as_secs_f64();
    match result {
        Ok(report) if args.shrink => {
            writeln!(out, "# seed {} does not fail: {} events", plan.seed, report.tally.events)?;
            Ok(false)
        }
        Err(failure) if args.shrink => {
            let smallest = shrink(*failure, |plan| {
                watch.step(plan.seed, 0);
                eprintln!("still fails: {} faults, {} nodes, {} minutes", plan.faults.len(), plan.nodes, plan.minutes);
            });
            writeln!(out, "# {}\n{}", smallest.violation, smallest.plan)?;
            Ok(true)
        }
        Ok(report) => {
            match args.json {
                true => writeln!(out, "{}", report_json(&report, seconds))?,
                false => writeln!(out, "{}", report_text(&report, seconds))?,
            }
            Ok(true)
        }
        Err(failure) => {
            match args.json {
                true => writeln!(out, "{}", failure_json(&failure))?,
                false => writeln!(out, "{}", failure_text(args, &failure))?,
            }
            Ok(false)
        }
    }
}

fn many(out: &mut impl Write, watch: &Watch, args: &Args, seeds: &SeedRange) -> io::Result<bool> {
    let jobs = args.jobs.or(thread::available_parallelism().ok()).map_or(1, NonZero::get);
    let style = ProgressStyle::with_template("{wide_bar} {pos}/{len} seeds, {per_sec}, {eta} left");
    let bar = ProgressBar::with_draw_target(Some(seeds.count()), ProgressDrawTarget::stderr())
        .with_style(style.expect("the template is one"));
    let started = Instant::now();
    let next = AtomicU64::new(seeds.first());
    let is_over = AtomicBool::new(false);
    let totals = Mutex::new(Totals::default());
    let failed = Mutex::new(None::<Box<Failure>>);
    thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end() || is_over.load(Ordering::Relaxed) {
                        return;
                    }
                    let plan = Plan::of(seed, args.minutes);
                    watch.step(seed, 0);
                    let result = mesh::run(&plan, |_| watch.step(seed, 0))
                        .and_then(|report| if args.twice { again(&plan, report) } else { Ok(report) });
                    watch.done(seed);
                    match result {
                        Ok(report) => totals.lock().expect("no thread panics with it").add(&report),
                        Err(failure) => {
                            is_over.store(true, Ordering::Relaxed);
                            let mut failed = failed.lock().expect("no thread panics with it");
                            if failed.as_ref().is_none_or(|other| other.plan.seed > seed) {
                                *failed = Some(failure);
                            }
                        }
                    }
                    bar.inc(1);
                }
            });
        }
    });
    bar.finish_and_clear();
    let seconds = started.elapsed().as_secs_f64();
    let totals = totals.into_inner().expect("no thread panics with it");
    if let Some(failure) = failed.into_inner().expect("no thread panics with it") {
        match args.json {
            true => writeln!(out, "{}", failure_json(&failure))?,
            false => writeln!(out, "{}", failure_text(args, &failure))?,
        }
        return Ok(false);
    }
    match args.json {
        true => writeln!(out, "{}", totals_json(&totals, seconds))?,
        false => writeln!(out, "{}", totals_text(&totals, seconds, jobs))?,
    }
    Ok(true)
}

/// The same plan once more: everything must happen again.
fn again(plan: &Plan, report: Report) -> Result<Report, Box<Failure>> {
    let other = mesh::run(plan, |_| {})?;
    if other == report {
        return Ok(report);
    }
    let detail =
        format!("everything that happened has the hash {:032x}, and then {:032x}", report.trail_hash, other.trail_hash);
    let violation = sheratan_sim::mesh::oracle::Violation { invariant: "a seed means one run", detail };
    Err(Box::new(Failure { plan: plan.clone(), tally: other.tally, violation, last: Vec::new() }))
}

fn report_text(report: &Report, seconds: f64) -> String {
    let tally = &report.tally;
    let virtual_s = tally.virtual_us as f64 / 1e6;
    format!(
        "{}\n\
         seed {}: well\n\
         virtual time  {virtual_s:.0} s in {seconds:.3} s ({:.0} virtual minutes a second)\n\
         events        {} ({:.0} a second), {} requests, {} records, {} audit lines\n\
         hub           {} lives\n\
         jobs          {} acknowledged, {} ended\n\
         faults        {}\n\
         marks         {}\n\
         trail         {:032x}\n\
         digest        {}",
        report.plan,
        report.plan.seed,
        virtual_s / 60.0 / seconds,
        tally.events,
        tally.events as f64 / seconds,
        tally.requests,
        tally.records,
        tally.audit_lines,
        tally.lives,
        tally.acknowledged,
        tally.ended,
        listed(tally.injected.iter()),
        listed(tally.marks.iter()),
        report.trail_hash,
        hex(&report.digest),
    )
}

fn report_json(report: &Report, seconds: f64) -> serde_json::Value {
    let tally = &report.tally;
    json!({
        "ok": true,
        "seed": report.plan.seed,
        "plan": report.plan,
        "virtual_sec": tally.virtual_us as f64 / 1e6,
        "wall_sec": seconds,
        "events": tally.events,
        "requests": tally.requests,
        "records": tally.records,
        "audit_lines": tally.audit_lines,
        "lives": tally.lives,
        "acknowledged": tally.acknowledged,
        "ended": tally.ended,
        "faults": tally.injected,
        "marks": tally.marks,
        "trail_hash": format!("{:032x}", report.trail_hash),
        "digest": hex(&report.digest),
    })
}

fn failure_text(args: &Args, failure: &Failure) -> String {
    let Plan { seed, .. } = failure.plan;
    let minutes = args.minutes;
    format!(
        "{}\n\n{}\n\n{failure}\n\
         reproduce it: sheratan-sim run --scenario default --seed {seed} --minutes {minutes}\n\
         shorten it:   sheratan-sim run --scenario default --seed {seed} --minutes {minutes} --shrink",
        failure.plan,
        last(failure),
    )
}

fn failure_json(failure: &Failure) -> serde_json::Value {
    json!({
        "ok": false,
        "seed": failure.plan.seed,
        "plan": failure.plan,
        "at_sec": failure.tally.virtual_us as f64 / 1e6,
        "invariant": failure.violation.invariant,
        "detail": failure.violation.detail,
        "last": failure.last.iter().map(ToString::to_string).collect::<Vec<_>>(),
    })
}

fn totals_text(totals: &Totals, seconds: f64, jobs: usize) -> String {
    let virtual_min = totals.virtual_us as f64 / MINUTE as f64;
    format!(
        "{} seeds well in {seconds:.1} s on {jobs} threads\n\
         virtual time  {virtual_min:.0} minutes ({:.0} a second and thread)\n\
         events        {} ({:.0} a second), {} requests\n\
         hub           {} lives\n\
         jobs          {} ended\n\
         faults        {}\n\
         marks         {}\n\
         trail         {:032x}",
        totals.runs,
        virtual_min / seconds / jobs as f64,
        totals.events,
        totals.events as f64 / seconds,
        totals.requests,
        totals.lives,
        totals.ended,
        listed(totals.injected.iter()),
        listed(totals.marks.iter()),
        totals.trail_hash,
    )
}

fn totals_json(totals: &Totals, seconds: f64) -> serde_json::Value {
    json!({
        "ok": true,
        "seeds": totals.runs,
        "wall_sec": seconds,
        "virtual_sec": totals.virtual_us as f64 / 1e6,
        "events": totals.events,
        "requests": totals.requests,
        "lives": totals.lives,
        "ended": totals.ended,
        "faults": totals.injected,
        "marks": totals.marks,
        "trail_hash": format!("{:032x}", totals.trail_hash),
    })
}

fn last(failure: &Failure) -> String {
    let lines: Vec<_> = failure.last.iter().map(ToString::to_string).collect();
    format!("the last events before it:\n{}", lines.join("\n"))
}

fn listed<'a>(counts: impl Iterator<Item = (&'a &'static str, &'a u64)>) -> String {
    let words: Vec<_> = counts.map(|(name, count)| format!("{name} {count}")).collect();
    if words.is_empty() { "none".to_owned() } else { words.join(", ") }
}
