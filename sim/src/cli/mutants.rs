//! `sheratan-sim mutants`: checks that the simulator finds each mutant.

#[cfg(not(feature = "sim-mutants"))]
use super::terminal::note;
use sheratan_mutants::Mutant;
use sheratan_sim::model_check::check::SeedRange;
use std::num::NonZero;

/// What `sheratan-sim mutants --help` says at its end.
const EXAMPLES: &str = "\
Examples:
  cargo run -p sheratan-sim --features sim-mutants -- mutants      all of them; what CI runs
  sheratan-sim mutants --only retry-delay-ignored --seeds 0..500   one of them, over these seeds
  sheratan-sim mutants --json                                      one JSON object";

#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The seeds, the last one excluded.
    #[arg(long, value_name = "A..B", default_value = "0..2000")]
    seeds: SeedRange,
    /// Threads; as many as there are cores if absent.
    #[arg(long)]
    jobs: Option<NonZero<usize>>,
    /// The one mutant to hunt.
    #[arg(long, value_name = "NAME", value_parser = parse_name)]
    only: Option<Mutant>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// The mutant of that name.
pub fn parse_name(name: &str) -> Result<Mutant, String> {
    let all = Mutant::ALL;
    all.iter().copied().find(|mutant| mutant.name() == name).ok_or_else(|| {
        let names: Vec<_> = all.iter().map(|mutant| mutant.name()).collect();
        format!("there is no such mutant; these are: {}", names.join(", "))
    })
}

/// How to build the simulator with mutants in it.
#[cfg(not(feature = "sim-mutants"))]
const WITHOUT: &str =
    "this simulator was built without mutants; run `cargo run -p sheratan-sim --features sim-mutants -- …`";

/// Reports how to build the simulator with mutants in it.
#[cfg(not(feature = "sim-mutants"))]
pub fn run(Args { seeds: _, jobs: _, only: _, json: _ }: Args) -> std::io::Result<bool> {
    note(WITHOUT);
    Ok(false)
}

/// Switches a mutant on for all runs of this process.
#[cfg(not(feature = "sim-mutants"))]
pub fn switch_on(_mutant: Mutant) -> Result<(), &'static str> {
    Err(WITHOUT)
}

/// Switches a mutant on for all runs of this process.
#[cfg(feature = "sim-mutants")]
pub fn switch_on(mutant: Mutant) -> Result<(), &'static str> {
    sheratan_mutants::activate(Some(mutant));
    Ok(())
}

#[cfg(feature = "sim-mutants")]
pub use hunting::run;

#[cfg(feature = "sim-mutants")]
mod hunting {
    use super::Args;
    use crate::cli::terminal::{bar, note};
    use serde_json::{Value, json};
    use sheratan_mutants::Mutant;
    use sheratan_sim::mutation::{HUNTERS, Verdict, hunt};
    use std::io::{self, Write};
    use std::num::NonZero;
    use std::thread;
    use std::time::Instant;

    /// Hunts mutants one after the other; returns whether all that some hunter sees were found.
    pub fn run(Args { seeds, jobs, only, json }: Args) -> io::Result<bool> {
        if cfg!(panic = "abort") {
            note("a mutated hub may panic, which ends this build: hunt in the dev profile");
            return Ok(false);
        }
        // Each panic is caught and counts as a find; its message would be printed between the lines of the table.
        std::panic::set_hook(Box::new(|_| ()));
        let jobs = jobs.or(thread::available_parallelism().ok()).map_or(1, NonZero::get);
        let mutants = only.map_or(Mutant::ALL.to_vec(), |mutant| vec![mutant]);
        let bar = bar(mutants.len() as u64, "{wide_bar} {pos}/{len} mutants, {msg}");
        let mut rows = Vec::new();
        for mutant in mutants {
            bar.set_message(mutant.name());
            let started = Instant::now();
            let verdict = hunt(HUNTERS, mutant, &seeds, jobs);
            rows.push(Row { mutant, verdict, seconds: started.elapsed().as_secs_f64() });
            bar.inc(1);
        }
        bar.finish_and_clear();
        let is_all_found = rows.iter().all(|row| matches!(row.verdict, Verdict::Found { .. } | Verdict::Unhunted));
        let mut out = io::stdout().lock();
        if json {
            let rows: Vec<_> = rows.iter().map(Row::json).collect();
            writeln!(out, "{}", json!({ "ok": is_all_found, "mutants": rows }))?;
        } else {
            write_table(&mut out, &rows)?;
        }
        Ok(is_all_found)
    }

    /// The result of one hunt.
    struct Row {
        mutant: Mutant,
        verdict: Verdict,
        seconds: f64,
    }

    impl Row {
        fn json(&self) -> Value {
            let Row { mutant, verdict, seconds } = self;
            let mut row = json!({
                "mutant": mutant.name(),
                "description": mutant.description(),
                "verdict": word(verdict),
                "seconds": seconds,
            });
            if let Verdict::Found { by, seed, seeds, what } = verdict {
                row["by"] = (*by).into();
                row["seed"] = (*seed).into();
                row["seeds_needed"] = (*seeds).into();
                row["what"] = what.as_str().into();
            }
            row
        }
    }

    fn write_table(out: &mut impl Write, rows: &[Row]) -> io::Result<()> {
        writeln!(out, "{:<28} {:<8} {:<8} {:>6} {:>6} {:>7}", "mutant", "", "by", "seed", "seeds", "seconds")?;
        for Row { mutant, verdict, seconds } in rows {
            let (by, seed, needed) = match verdict {
                Verdict::Found { by, seed, seeds, .. } => (*by, seed.to_string(), seeds.to_string()),
                Verdict::Unclear { by, seed, .. } => (*by, seed.to_string(), String::new()),
                Verdict::Missed | Verdict::Unhunted => ("", String::new(), String::new()),
            };
            let (name, word) = (mutant.name(), word(verdict));
            writeln!(out, "{name:<28} {word:<8} {by:<8} {seed:>6} {needed:>6} {seconds:>7.1}")?;
            if let Verdict::Found { what, .. } | Verdict::Unclear { what, .. } = verdict {
                writeln!(out, "    {}", start_of(what))?;
            }
        }
        let count = |is: fn(&Verdict) -> bool| rows.iter().filter(|row| is(&row.verdict)).count();
        writeln!(
            out,
            "{} found, {} missed, {} unclear (the seed fails without the mutant too), {} pending (no simulator sees them)",
            count(|verdict| matches!(verdict, Verdict::Found { .. })),
            count(|verdict| *verdict == Verdict::Missed),
            count(|verdict| matches!(verdict, Verdict::Unclear { .. })),
            count(|verdict| *verdict == Verdict::Unhunted),
        )
    }

    const fn word(verdict: &Verdict) -> &'static str {
        match verdict {
            Verdict::Found { .. } => "found",
            Verdict::Unclear { .. } => "UNCLEAR",
            Verdict::Missed => "MISSED",
            Verdict::Unhunted => "pending",
        }
    }

    /// The start of a text, as much as a line of a terminal holds; texts say first what differs.
    fn start_of(what: &str) -> String {
        const CHARS_MAX: usize = 110;
        match what.char_indices().nth(CHARS_MAX) {
            Some((end, _)) => format!("{}…", &what[..end]),
            None => what.to_owned(),
        }
    }
}
