//! `sheratan-hub orphans list|show|adopt|discard`: results of jobs that the hub does not know.

use super::answer::{self, AnswerArgs};
use super::failure::Failure;
use super::listing::{Listing, ListingArgs, Resource};
use super::names;
use super::query::Query;
use super::table::{Table, cell, print_members};
use super::terminal::{self, printable};
use crate::client::Plane;
use crate::client::document::Act;
use clap::Subcommand;
use serde_json::json;
use std::process::ExitCode;
use std::time::Duration;

const EXAMPLES: &str = "\
Examples:
  sheratan-hub orphans list
  sheratan-hub orphans show 7                    with its result
  sheratan-hub orphans adopt 7                   it becomes the result of the job that it was sent for
  sheratan-hub orphans adopt 7 --job job_…       or of this one
  sheratan-hub orphans discard 7 8 9

Exit code 0 if the hub did what was asked, 1 if it refused, 2 for an invalid command line.";

/// The arguments of `orphans`.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// List orphans, the oldest first
    #[command(after_help = EXAMPLES)]
    List {
        #[command(flatten)]
        listing: ListingArgs,
        #[command(flatten)]
        answer: AnswerArgs,
    },
    /// Show an orphan with its result
    #[command(after_help = EXAMPLES)]
    Show {
        /// The orphan
        #[arg(value_name = "ORPHAN")]
        id: u64,
        #[command(flatten)]
        answer: AnswerArgs,
    },
    /// Make an orphan the result of a job
    #[command(after_help = EXAMPLES)]
    Adopt {
        /// The orphan
        #[arg(value_name = "ORPHAN")]
        id: u64,
        /// The job [default: the one that the result was sent for]
        #[arg(long, value_name = "JOB", value_parser = names::name)]
        job: Option<String>,
        #[command(flatten)]
        answer: AnswerArgs,
    },
    /// Drop orphans for good
    #[command(after_help = EXAMPLES)]
    Discard {
        /// The orphans
        #[arg(value_name = "ORPHAN", required = true, value_parser = number)]
        ids: Vec<String>,
        #[command(flatten)]
        answer: AnswerArgs,
    },
}

/// Lists, shows, adopts, discards.
pub fn run(args: Args) -> Result<ExitCode, Failure> {
    match args.what {
        What::List { listing, answer } => list(&listing, &answer),
        What::Show { id, answer } => {
            let orphan = answer.client()?.read(Plane::Data, &path(id), Duration::ZERO)?;
            answer.show(&orphan, |document| {
                let first = ["orphan_id", "job_id", "node_id", "result_ok", "received_utc", "result", "error"];
                print_members(&document.members.object("orphan"), &first, &[]);
            });
            Ok(ExitCode::SUCCESS)
        }
        What::Adopt { id, job, answer } => {
            let body = job.map_or(json!({}), |job| json!({"job_id": job})).to_string();
            let adopted = answer.client()?.act(Plane::Data, &format!("{}/adopt", path(id)), Act::Post(&body));
            let adopted = adopted.map_err(|error| answer::failed_act(error, &format!("orphans show {id}")))?;
            answer.show(&adopted, |adopted| {
                let (job, status) = (adopted.members.text("job_id"), adopted.members.text("status"));
                terminal::line(format_args!("{} {}", printable(&job), printable(&status)));
            });
            Ok(ExitCode::SUCCESS)
        }
        What::Discard { ids, answer } => discard(&answer, &ids),
    }
}

fn path(id: impl std::fmt::Display) -> String {
    format!("/mesh/orphans/{id}")
}

fn list(listing: &ListingArgs, args: &AnswerArgs) -> Result<ExitCode, Failure> {
    let orphans = Resource { plane: Plane::Data, path: "/mesh/orphans", member: "orphans", is_by_name: false };
    let listing = Listing::fetch(&args.client()?, orphans, &Query::default(), listing)?;
    if args.json {
        terminal::json(listing.json());
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = Table::new(&[">ORPHAN", "JOB", "NODE", "OK", "RECEIVED"]);
    for (_, orphan) in listing.entries() {
        table.add([
            cell(orphan.text("orphan_id")),
            cell(orphan.text("job_id")),
            cell(orphan.text("node_id")),
            cell(if orphan.flag("result_ok") { "yes" } else { "no" }),
            cell(orphan.text("received_utc")),
        ]);
    }
    table.print("there are no orphans");
    listing.note_more();
    Ok(ExitCode::SUCCESS)
}

fn discard(args: &AnswerArgs, ids: &[String]) -> Result<ExitCode, Failure> {
    let client = args.client()?;
    let is_good = answer::each(ids, |id| {
        let discarded = client.act(Plane::Data, &path(id), Act::Delete);
        let answer = discarded.map_err(|error| answer::failed_act(error, &format!("orphans show {id}")))?;
        args.show(&answer, |_| terminal::line(format_args!("{id} discarded")));
        Ok(())
    })?;
    Ok(if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A number, as text.
fn number(text: &str) -> Result<String, String> {
    text.trim().parse::<u64>().map(|id| id.to_string()).map_err(|error| error.to_string())
}
