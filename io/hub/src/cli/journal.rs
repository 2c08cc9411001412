//! `sheratan-hub journal verify|repair`: checks that the journal is complete, and repairs it.

use super::failure::Failure;
use super::terminal;
use clap::Subcommand;
use sheratan_core::Calendar;
use sheratan_io::journal::{self, Options};
use sheratan_io::shell;
use std::path::PathBuf;
use std::process::ExitCode;

const EXAMPLES: &str = "\
Examples:
  sheratan-hub journal verify                           read everything and change nothing; the hub may run
  sheratan-hub journal verify --replay                  also replay all commands and compare the outcomes
  sheratan-hub journal repair --data-dir /var/lib/hub   cut at the first bad record, move the rest to quarantine/
  sheratan-hub journal repair --from-snapshot           report which records a return to the newest snapshot loses
  sheratan-hub journal repair --from-snapshot --accept-loss
                                                        return to it, move the later records to quarantine/

Exit code 0 if the journal is intact or was repaired, 1 if it is damaged, was not repaired or cannot be read, 2 for an \
invalid command line.";

/// The arguments.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand, Debug)]
enum What {
    /// Read all records and snapshots and report damage; exit code 1 if there is any
    #[command(after_help = EXAMPLES)]
    Verify {
        /// Also replay all commands and compare their outcomes with the recorded ones
        #[arg(long)]
        replay: bool,
        #[command(flatten)]
        common: Common,
    },
    /// Cut the journal at its first bad record, so that the hub can start; what is cut is moved to quarantine/
    #[command(after_help = EXAMPLES)]
    Repair {
        /// Return to the newest readable snapshot instead, if this build cannot replay the records. If that loses
        /// records and --accept-loss is not given, nothing is changed and the exit code is 1
        #[arg(long)]
        from_snapshot: bool,
        /// Drop the records after the snapshot or, without --from-snapshot, all records if none can be kept; their
        /// files are moved to quarantine/
        #[arg(long)]
        accept_loss: bool,
        #[command(flatten)]
        common: Common,
    },
}

#[derive(clap::Args, Debug)]
struct Common {
    /// Data folder of the hub
    #[arg(long, value_name = "FOLDER", env = "SHERATAN_DATA_DIR", value_parser = super::names::data_dir(), default_value = ".sheratan")]
    data_dir: PathBuf,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Verifies or repairs.
pub fn run(args: &Args) -> Result<ExitCode, Failure> {
    match &args.what {
        What::Verify { replay, common } => verify(common, *replay),
        What::Repair { from_snapshot: true, accept_loss, common } => rewind(common, *accept_loss),
        What::Repair { accept_loss, common, .. } => repair(common, *accept_loss),
    }
}

fn verify(common: &Common, is_replayed: bool) -> Result<ExitCode, Failure> {
    let report = journal::verify(&common.data_dir, is_replayed)
        .map_err(|error| Failure::local(format!("{} cannot be read", common.data_dir.display()), error))?;
    let is_ok = report.is_ok();
    show(common, &report)?;
    Ok(if is_ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn repair(common: &Common, is_loss_accepted: bool) -> Result<ExitCode, Failure> {
    let now = Calendar::UNSET.instant(shell::wall_time());
    let report = journal::repair(&common.data_dir, Options::default(), now, is_loss_accepted)
        .map_err(|error| Failure::Local(error.to_string()))?;
    show(common, &report)?;
    Ok(ExitCode::SUCCESS)
}

fn rewind(common: &Common, is_loss_accepted: bool) -> Result<ExitCode, Failure> {
    let report = journal::rewind(
        &common.data_dir,
        Options::default(),
        Calendar::UNSET.instant(shell::wall_time()),
        is_loss_accepted,
    )
    .map_err(|error| Failure::Local(error.to_string()))?;
    show(common, &report)?;
    let is_refused = report.lost.is_some() && !report.is_done;
    Ok(if is_refused { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn show(common: &Common, report: &(impl serde::Serialize + std::fmt::Display)) -> Result<(), Failure> {
    if common.json {
        let text = serde_json::to_string(report).map_err(|error| Failure::local("the report", error))?;
        terminal::json(text);
    } else {
        terminal::line(report);
    }
    Ok(())
}
