//! `smoke`: checks that a running hub keeps the guarantees of the baseline, with a line for each.
//!
//! It registers a node of its own and submits a few jobs of a kind of its own that only this node can run, so real work
//! is not disturbed. What it provokes on purpose (refused tokens, wrong ports) is in the audit log afterwards.

mod checks;

use super::failure::Failure;
use super::target::{self, TargetArgs};
use super::terminal::{BAD, DIM, GOOD, WARN, json, line, printable, styled};
use checks::{Checks, Verdict};
use serde::Serialize;
use std::process::ExitCode;
use std::time::{Duration, Instant};

const EXAMPLES: &str = "\
Examples:
  sheratan-hub smoke
  sheratan-hub smoke --control hub.lan:8787 --data hub.lan:8788 --token-file token
  sheratan-hub smoke --json | jq 'select(.outcome == \"failed\")'

Exit code 0 if no check failed, 1 if one did or no hub answers, 2 for an invalid command line. The checks send a wrong token and requests to the wrong plane, which the audit log \
records.";

/// The arguments of `smoke`.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Seconds to wait for a silent node to become STALE; the check is skipped if the hub's node_ttl_sec is longer
    #[arg(long, value_name = "SEC", default_value_t = 15)]
    ttl_wait_sec: u64,
    /// Print a line of JSON for each check
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: TargetArgs,
}

/// One line of `--json`.
#[derive(Serialize)]
struct CheckLine<'a> {
    check: &'a str,
    outcome: &'a str,
    detail: &'a str,
    ms: u64,
}

/// The last line of `--json`.
#[derive(Serialize)]
struct Summary {
    passed: usize,
    failed: usize,
    skipped: usize,
}

/// Checks a running hub.
pub fn run(args: Args) -> Result<ExitCode, Failure> {
    let client = args.target.client()?;
    let mut checks = Checks::new(client, target::signer()?, Duration::from_secs(args.ttl_wait_sec));
    // An unreachable hub is one clear error, not twenty failed checks.
    checks.reach()?;
    let mut summary = Summary { passed: 0, failed: 0, skipped: 0 };
    for (name, check) in checks::ALL {
        let started = Instant::now();
        let verdict = check(&mut checks);
        *match verdict {
            Verdict::Passed(_) => &mut summary.passed,
            Verdict::Failed(_) => &mut summary.failed,
            Verdict::Skipped(_) => &mut summary.skipped,
        } += 1;
        show(name, &verdict, started.elapsed(), args.json);
    }
    let Summary { passed, failed, skipped } = summary;
    if args.json {
        json(serde_json::to_string(&summary).expect("numbers are always JSON"));
    } else {
        let style = if failed == 0 { GOOD.bold() } else { BAD.bold() };
        line(styled(style, format_args!("{passed} passed, {failed} failed, {skipped} skipped")));
    }
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn show(check: &str, verdict: &Verdict, took: Duration, is_json: bool) {
    let (outcome, mark, detail) = match verdict {
        Verdict::Passed(detail) => ("passed", styled(GOOD, "✓"), detail),
        Verdict::Failed(detail) => ("failed", styled(BAD, "✗"), detail),
        Verdict::Skipped(detail) => ("skipped", styled(WARN, "–"), detail),
    };
    if is_json {
        let ms = took.as_millis() as u64;
        let text = serde_json::to_string(&CheckLine { check, outcome, detail, ms });
        return json(text.expect("texts and numbers are always JSON"));
    }
    let detail = printable(detail);
    match verdict {
        Verdict::Passed(_) => line(format_args!("{mark} {check}  {}", styled(DIM, detail))),
        Verdict::Failed(_) => line(format_args!("{mark} {check}: {detail}")),
        Verdict::Skipped(_) => line(format_args!("{mark} {check}: skipped: {detail}")),
    }
}
