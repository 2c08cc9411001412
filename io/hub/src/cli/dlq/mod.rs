//! `sheratan-hub dlq list|show|requeue|discard|acts`: the dead letters of a running hub.

mod act;
mod acts;
mod filter;
mod progress;

use super::answer::{self, AnswerArgs};
use super::failure::Failure;
use super::interrupt;
use super::jobs::show;
use super::listing::{Listing, ListingArgs, Resource};
use super::names;
use super::query::{Query, segment};
use super::table::{Table, cell, state};
use super::terminal::{self, printable};
use crate::client::Plane;
use crate::client::document::{Act, Document};
use clap::Subcommand;
use filter::FilterArgs;
use std::process::ExitCode;
use std::time::Duration;

const EXAMPLES: &str = "\
Examples:
  sheratan-hub dlq list --kind resize --since 1d        what died, in the order in which it ended
  sheratan-hub dlq show job_…                           every attempt, with its error
  sheratan-hub dlq requeue job_… job_…                  these
  sheratan-hub dlq requeue --error timeout --dry-run    how many would be requeued
  sheratan-hub dlq requeue --error timeout --rate 50    all of them, 50 a second
  sheratan-hub dlq discard --kind resize --until 7d --max-count 1000
  sheratan-hub dlq requeue --all --no-wait              all there are; returns at once
  sheratan-hub dlq acts list                            what runs, and what was done
  sheratan-hub dlq acts cancel 3

requeue and discard take jobs, or a filter, or --all. With a filter the hub does it, also if this command ends: ctrl-C only \
stops waiting, and `dlq acts cancel` ends the act. Letters that die after it began are not part of it; those whose \
idempotency key belongs to another job by now are skipped and stay. A requeued job has fresh attempts and keeps its history.

Exit code 0 if the hub did what was asked, 1 if it refused, skipped a letter, or was not waited for to the end, 2 for an \
invalid command line, 3 if what is shown does not match its checksum.";

/// The arguments of `dlq`.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// List dead letters in the order in which they ended; all filters that are given hold
    #[command(after_help = EXAMPLES)]
    List {
        #[command(flatten)]
        filter: FilterArgs,
        #[command(flatten)]
        listing: ListingArgs,
        #[command(flatten)]
        answer: AnswerArgs,
    },
    /// Show a dead letter: its attempts with their errors, its params
    #[command(after_help = EXAMPLES)]
    Show {
        /// The job
        #[arg(value_name = "JOB", value_parser = names::name)]
        id: String,
        #[command(flatten)]
        answer: AnswerArgs,
    },
    /// Let dead jobs run again, with fresh attempts
    #[command(after_help = EXAMPLES)]
    Requeue(ActArgs),
    /// Drop dead jobs for good
    #[command(after_help = EXAMPLES)]
    Discard(ActArgs),
    /// Acts on many dead letters: list, show, watch or cancel them
    #[command(after_help = EXAMPLES)]
    Acts(acts::Args),
}

/// Which letters are acted on, and how.
#[derive(clap::Args)]
struct ActArgs {
    /// These jobs
    #[arg(value_name = "JOB", conflicts_with_all = ["kind", "error", "reason", "since", "until", "all", "max_count", "rate"], value_parser = names::name)]
    ids: Vec<String>,
    #[command(flatten)]
    filter: FilterArgs,
    /// All dead letters
    #[arg(long, conflicts_with_all = ["kind", "error", "reason", "since", "until"])]
    all: bool,
    /// Only say how many there are
    #[arg(long)]
    dry_run: bool,
    /// Do nothing if more than this many match
    #[arg(long, value_name = "N")]
    max_count: Option<u32>,
    /// Letters a second [default: as fast as the hub does it]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    rate: Option<u32>,
    /// Return when the act has begun
    #[arg(long, conflicts_with = "dry_run")]
    no_wait: bool,
    #[command(flatten)]
    answer: AnswerArgs,
}

/// What is done with letters.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Verb {
    Requeue,
    Discard,
}

impl Verb {
    /// The word in a path.
    const fn word(self) -> &'static str {
        match self {
            Verb::Requeue => "requeue",
            Verb::Discard => "discard",
        }
    }

    const fn done(self) -> &'static str {
        match self {
            Verb::Requeue => "requeued",
            Verb::Discard => "discarded",
        }
    }
}

/// Lists, shows, requeues, discards.
pub fn run(args: Args) -> Result<ExitCode, Failure> {
    match args.what {
        What::List { filter, listing, answer } => list(&filter, &listing, &answer),
        What::Show { id, answer } => show::show(&answer, &path(&id), &id),
        What::Requeue(args) => act(Verb::Requeue, &args),
        What::Discard(args) => act(Verb::Discard, &args),
        What::Acts(args) => acts::run(args),
    }
}

/// The path of a letter.
fn path(id: &str) -> String {
    format!("/mesh/dlq/{}", segment(id))
}

fn list(filter: &FilterArgs, listing: &ListingArgs, args: &AnswerArgs) -> Result<ExitCode, Failure> {
    let mut query = Query::default();
    filter.members().iter().for_each(|(name, text)| query.add(name, text));
    let letters = Resource { plane: Plane::Data, path: "/mesh/dlq", member: "letters", is_by_name: false };
    let listing = Listing::fetch(&args.client()?, letters, &query, listing)?;
    if args.json {
        terminal::json(listing.json());
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = Table::new(&["JOB", "KIND", "REASON", ">ATTEMPTS", "PRIORITY", "ZONE", "DIED"]);
    for (_, letter) in listing.entries() {
        table.add([
            cell(letter.text("job_id")),
            cell(letter.text("kind")),
            state(&letter.text("reason")),
            cell(letter.text("attempt")),
            cell(letter.text("priority")),
            cell(letter.text("zone")),
            cell(letter.text("final_utc")),
        ]);
    }
    table.print("no dead letter matches");
    listing.note_more();
    Ok(ExitCode::SUCCESS)
}

fn act(verb: Verb, args: &ActArgs) -> Result<ExitCode, Failure> {
    let has_filter = !args.filter.members().is_empty();
    match (args.ids.is_empty(), has_filter || args.all) {
        (false, _) => act_on_each(verb, args),
        (true, true) => act_on_many(verb, args),
        (true, false) => {
            let word = verb.word();
            Err(Failure::Usage(format!(
                "nothing says which letters: name jobs, or a filter (--kind, --error, --reason, --since, --until), or \
                 --all; `sheratan-hub dlq {word} --all --dry-run` says how many there are"
            )))
        }
    }
}

/// Acts on letters one by one.
fn act_on_each(verb: Verb, args: &ActArgs) -> Result<ExitCode, Failure> {
    let client = args.answer.client()?;
    let is_good = answer::each(&args.ids, |id| {
        let path = path(id);
        let document = match (args.dry_run, verb) {
            (true, _) => client.read(Plane::Data, &path, Duration::ZERO)?,
            (false, Verb::Requeue) => done(client.act(Plane::Data, &format!("{path}/requeue"), Act::Post("{}")), id)?,
            (false, Verb::Discard) => done(client.act(Plane::Data, &path, Act::Delete), id)?,
        };
        args.answer.show(&document, |_| {
            let said = if args.dry_run { format!("would be {}", verb.done()) } else { verb.done().to_owned() };
            terminal::line(format_args!("{} {said}", printable(id)));
        });
        Ok(())
    })?;
    Ok(if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn done(answer: Result<Document, crate::client::CallError>, id: &str) -> Result<Document, Failure> {
    answer.map_err(|error| answer::failed_act(error, &format!("jobs show {id}")))
}

/// Has the hub act on all letters that match.
fn act_on_many(verb: Verb, args: &ActArgs) -> Result<ExitCode, Failure> {
    let members = args.filter.members().into_iter().map(|(name, text)| (name.to_owned(), text.into()));
    let mut body: serde_json::Map<_, _> = members.collect();
    let numbers = [("max_count", args.max_count), ("rate_per_sec", args.rate)];
    body.extend(numbers.into_iter().filter_map(|(name, number)| Some((name.to_owned(), number?.into()))));
    let flags = [("all", args.all), ("dry_run", args.dry_run)];
    body.extend(flags.into_iter().filter(|(_, is_set)| *is_set).map(|(name, _)| (name.to_owned(), true.into())));
    let body = serde_json::Value::Object(body).to_string();
    // An interrupt from now on must not hide that the act began.
    let interrupts = if args.dry_run || args.no_wait { None } else { Some(interrupt::listen()?) };
    let client = args.answer.client()?;
    let path = format!("/mesh/dlq/{}", verb.word());
    let answer = client.act(Plane::Data, &path, Act::Post(&body));
    let answer = answer.map_err(|error| answer::failed_act(error, "dlq acts list"))?;
    if args.dry_run {
        let is_refused = answer.members.flag("exceeds_max_count");
        args.answer.show(&answer, |answer| {
            let matched = answer.members.text("matched");
            terminal::line(format_args!("{} dead letter(s) would be {}", printable(&matched), verb.done()));
            if is_refused {
                terminal::line("that is more than --max-count: the hub would refuse it");
            }
        });
        return Ok(if is_refused { ExitCode::FAILURE } else { ExitCode::SUCCESS });
    }
    match interrupts {
        None => {
            args.answer.show(&answer, act::print);
            Ok(ExitCode::SUCCESS)
        }
        Some(interrupts) => progress::follow(&args.answer, answer, &interrupts),
    }
}
