//! `sheratan-hub jobs list|show|explain|cancel|watch`: the jobs of a running hub.

mod explain;
pub mod show;
mod watch;

use super::answer::{self, AnswerArgs};
use super::failure::Failure;
use super::instant::Instant;
use super::listing::{Listing, ListingArgs, Resource};
use super::names;
use super::query::{Query, segment};
use super::table::{Table, cell, state};
use super::terminal;
use crate::client::Plane;
use crate::client::document::{Act, Members};
use clap::Subcommand;
use sheratan_core::Status;
use sheratan_io::rfc3339::Rfc3339;
use sheratan_io::shell;
use std::process::ExitCode;

const EXAMPLES: &str = "\
Examples:
  sheratan-hub jobs list --status dead --since 2h       what died in the last two hours
  sheratan-hub jobs list --kind resize --json | jq '.jobs[].job_id'
  sheratan-hub jobs show job_…                          attempts, params, result
  sheratan-hub jobs explain job_…                       why it is not running
  sheratan-hub jobs watch job_…                         each change until it has ended
  sheratan-hub jobs cancel job_… job_…
  sheratan-hub jobs list --kind old --json | jq -r '.jobs[].job_id' | xargs sheratan-hub jobs cancel

Exit code 0 if the hub did what was asked, 1 if it refused or a job did not complete, 2 for an invalid command line, 3 \
if a result does not match its checksum.";

/// The arguments of `jobs`.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// List jobs, the newest first; all filters that are given hold
    #[command(after_help = EXAMPLES)]
    List(ListArgs),
    /// Show a job: its attempts, params and result, which is compared with the checksum that its worker sent
    #[command(after_help = EXAMPLES)]
    Show(JobArgs),
    /// Say why a job is not running, and what would change that
    #[command(after_help = EXAMPLES)]
    Explain(JobArgs),
    /// Cancel jobs; the worker of a leased one learns it at its next extension
    #[command(after_help = EXAMPLES)]
    Cancel {
        /// The jobs
        #[arg(value_name = "JOB", required = true, value_parser = names::name)]
        ids: Vec<String>,
        #[command(flatten)]
        answer: AnswerArgs,
    },
    /// Print each change of jobs until all have ended; exit code 1 if one did not complete
    #[command(after_help = EXAMPLES)]
    Watch {
        /// The jobs
        #[arg(value_name = "JOB", required = true, num_args = 1..=watch::JOBS_MAX, value_parser = names::name)]
        ids: Vec<String>,
        #[command(flatten)]
        answer: AnswerArgs,
    },
}

#[derive(clap::Args)]
struct ListArgs {
    /// Only jobs in this state
    #[arg(long, value_parser = Status::ALL.map(Status::as_str))]
    status: Option<String>,
    /// Only jobs of this kind
    #[arg(long, value_parser = names::name)]
    kind: Option<String>,
    /// Only jobs whose current or last attempt is at this node
    #[arg(long, value_name = "ID", value_parser = names::name)]
    node: Option<String>,
    /// Only jobs of this zone
    #[arg(long, value_parser = names::name)]
    zone: Option<String>,
    /// Only jobs whose last error contains this text
    #[arg(long, value_name = "TEXT", value_parser = names::not_blank)]
    error: Option<String>,
    /// Only the job that this idempotency key is bound to
    #[arg(long, value_name = "KEY", value_parser = names::name)]
    key: Option<String>,
    /// Only jobs that were submitted at this instant or later: RFC 3339, or how long ago (30s, 15m, 2h, 7d)
    #[arg(long, value_name = "TIME")]
    since: Option<Instant>,
    /// Only jobs that were submitted before this instant
    #[arg(long, value_name = "TIME")]
    until: Option<Instant>,
    #[command(flatten)]
    listing: ListingArgs,
    #[command(flatten)]
    answer: AnswerArgs,
}

#[derive(clap::Args)]
struct JobArgs {
    /// The job
    #[arg(value_name = "JOB", value_parser = names::name)]
    id: String,
    #[command(flatten)]
    answer: AnswerArgs,
}

/// Lists, shows, explains, cancels or watches.
pub fn run(args: Args) -> Result<ExitCode, Failure> {
    match args.what {
        What::List(args) => list(&args),
        What::Show(JobArgs { id, answer }) => show::show(&answer, &path(&id), &id),
        What::Explain(JobArgs { id, answer }) => explain::explain(&answer, &id),
        What::Cancel { ids, answer } => cancel(&answer, &ids),
        What::Watch { ids, answer } => watch::watch(answer, ids),
    }
}

/// The path of a job.
fn path(id: &str) -> String {
    format!("/mesh/jobs/{}", segment(id))
}

fn list(args: &ListArgs) -> Result<ExitCode, Failure> {
    let now = shell::wall_time();
    let instant = |instant: Option<Instant>| instant.map(|instant| Rfc3339::new(instant.resolve(now)));
    let mut query = Query::default();
    let texts = [
        ("status", &args.status),
        ("kind", &args.kind),
        ("node", &args.node),
        ("zone", &args.zone),
        ("error", &args.error),
        ("key", &args.key),
    ];
    texts.into_iter().for_each(|(name, text)| query.add_some(name, text.as_ref()));
    query.add_some("after_utc", instant(args.since));
    query.add_some("before_utc", instant(args.until));
    let jobs = Resource { plane: Plane::Data, path: "/mesh/jobs", member: "jobs", is_by_name: false };
    let listing = Listing::fetch(&args.answer.client()?, jobs, &query, &args.listing)?;
    if args.answer.json {
        terminal::json(listing.json());
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = Table::new(&["JOB", "KIND", "STATUS", "PRIORITY", ">ATTEMPT", "NODE", "SUBMITTED"]);
    for (_, job) in listing.entries() {
        table.add([
            cell(job.text("job_id")),
            cell(job.text("kind")),
            state(&status(&job)),
            cell(job.text("priority")),
            cell(format!("{}/{}", job.text("attempt"), job.text("attempts_max"))),
            cell(job.text("node_id")),
            cell(job.text("submitted_utc")),
        ]);
    }
    table.print("no job matches");
    listing.note_more();
    Ok(ExitCode::SUCCESS)
}

/// The state of a job in a few words.
fn status(job: &Members) -> String {
    let status = job.text("status");
    let progress = job.number("progress").filter(|_| status == "leased").map(|percent| format!("{percent} %"));
    let reason = Some(job.text("reason")).filter(|reason| !reason.is_empty()).map(|reason| format!("({reason})"));
    let postponed = job.raw("postponed_utc").map(|_| "(postponed)".to_owned());
    let more = progress.or(reason).or(postponed);
    more.map_or(status.clone(), |more| format!("{status} {more}"))
}

fn cancel(args: &AnswerArgs, ids: &[String]) -> Result<ExitCode, Failure> {
    let client = args.client()?;
    let is_good = answer::each(ids, |id| {
        let cancelled = client.act(Plane::Data, &format!("{}/cancel", path(id)), Act::Post("{}"));
        let answer = cancelled.map_err(|error| answer::failed_act(error, &format!("jobs show {id}")))?;
        args.show(&answer, |answer| {
            let (id, status) = (answer.members.text("job_id"), answer.members.text("status"));
            terminal::line(format_args!("{} {}", terminal::printable(&id), terminal::printable(&status)));
        });
        Ok(())
    })?;
    Ok(if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
