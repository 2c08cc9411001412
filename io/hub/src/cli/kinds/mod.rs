//! `sheratan-hub kinds list|show|set|pause|resume`: the rules of kinds at a running hub.

mod rules;

use super::answer::{self, AnswerArgs};
use super::failure::Failure;
use super::instant;
use super::listing::{Listing, ListingArgs, Resource};
use super::names;
use super::query::{Query, segment};
use super::table::{Table, cell, print_members, state};
use super::terminal::{self, DIM, printable, styled};
use crate::client::document::{Act, Document, Members};
use crate::client::{Client, Plane};
use clap::Subcommand;
use rules::RuleArgs;
use serde_json::{Map, Value, json};
use sheratan_core::Millis;
use sheratan_io::rfc3339::{self, Rfc3339};
use sheratan_io::shell;
use std::process::ExitCode;
use std::time::Duration;

const EXAMPLES: &str = "\
Examples:
  sheratan-hub kinds list
  sheratan-hub kinds set resize --max-inflight 20 --rate-per-sec 5
  sheratan-hub kinds set resize --max-inflight default          back to the hub's own setting
  sheratan-hub kinds set resize --if-version 3 --priority low   only if nobody changed it since
  sheratan-hub kinds pause resize --reason 'disk full' --for 2h
  sheratan-hub kinds resume resize

Rules that are not named stay. A pause lets leases finish. Changes are in the journal and in the audit log.

Exit code 0 if the hub did what was asked, 1 if it refused (412: the kind has another version than --if-version), 2 for an \
invalid command line.";

/// The arguments of `kinds`.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// List the kinds that have rules or jobs
    #[command(after_help = EXAMPLES)]
    List {
        #[command(flatten)]
        listing: ListingArgs,
        #[command(flatten)]
        answer: AnswerArgs,
    },
    /// Show the rules of a kind, and whether its jobs are leased
    #[command(after_help = EXAMPLES)]
    Show(KindArgs),
    /// Set rules of a kind
    #[command(after_help = EXAMPLES)]
    Set {
        #[command(flatten)]
        rules: RuleArgs,
        #[command(flatten)]
        version: VersionArgs,
        #[command(flatten)]
        kind: KindArgs,
    },
    /// Lease no more jobs of a kind
    #[command(after_help = EXAMPLES)]
    Pause {
        /// Why; shown with the kind, and by `jobs explain`
        #[arg(long, value_name = "TEXT", value_parser = names::name)]
        reason: Option<String>,
        /// When the pause ends by itself: 30s, 15m, 2h, 7d from now
        #[arg(long = "for", value_name = "DURATION", conflicts_with = "until", value_parser = instant::parse_duration)]
        duration: Option<Millis>,
        /// When the pause ends by itself, RFC 3339
        #[arg(long, value_name = "TIME", value_parser = parse_instant)]
        until: Option<String>,
        #[command(flatten)]
        version: VersionArgs,
        #[command(flatten)]
        kind: KindArgs,
    },
    /// Lease jobs of a kind again
    #[command(after_help = EXAMPLES)]
    Resume {
        #[command(flatten)]
        version: VersionArgs,
        #[command(flatten)]
        kind: KindArgs,
    },
}

#[derive(clap::Args)]
struct KindArgs {
    /// The kind
    #[arg(value_parser = names::name)]
    kind: String,
    #[command(flatten)]
    answer: AnswerArgs,
}

#[derive(clap::Args)]
struct VersionArgs {
    /// Change nothing unless the kind's rules have this version
    #[arg(long, value_name = "N")]
    if_version: Option<u64>,
}

/// Lists, shows, sets, pauses, resumes.
pub fn run(args: Args) -> Result<ExitCode, Failure> {
    match args.what {
        What::List { listing, answer } => list(&listing, &answer)?,
        What::Show(KindArgs { kind, answer }) => {
            let kind = read(&answer.client()?, &kind)?;
            answer.show(&kind, |kind| print_one(&kind.members));
        }
        What::Set { kind, version, rules } => {
            if rules.0.is_empty() {
                return Err(Failure::Usage("no rule is named: see `sheratan-hub kinds set --help`".to_owned()));
            }
            set(&kind, &version, rules.0)?;
        }
        What::Pause { kind, version, reason, duration, until } => {
            // A pause that ends by the hub's clock, which is nearly this one.
            let until = until.or(duration.map(|ms| Rfc3339::new(shell::wall_time() + ms).to_string()));
            let members = json!({"paused": true, "pause_reason": reason, "paused_until_utc": until});
            let Value::Object(members) = members else { unreachable!("it is written as one") };
            set(&kind, &version, members)?;
        }
        What::Resume { kind, version } => {
            set(&kind, &version, Map::from_iter([("paused".to_owned(), false.into())]))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn path(kind: &str) -> String {
    format!("/mesh/kinds/{}", segment(kind))
}

fn read(client: &Client, kind: &str) -> Result<Document, Failure> {
    Ok(client.read(Plane::Data, &path(kind), Duration::ZERO)?)
}

/// Sets rules; says from which version to which, and what changed.
fn set(args: &KindArgs, version: &VersionArgs, members: Map<String, Value>) -> Result<(), Failure> {
    let KindArgs { kind, answer } = args;
    let client = answer.client()?;
    let before = read(&client, kind)?;
    let body = Value::Object(members).to_string();
    let put = client.act(Plane::Data, &path(kind), Act::Put { body: &body, if_match: version.if_version });
    let after = put.map_err(|error| answer::failed_act(error, &format!("kinds show '{kind}'")))?;
    answer.show(&after, |after| print_change(&before.members, &after.members));
    Ok(())
}

fn list(listing: &ListingArgs, args: &AnswerArgs) -> Result<(), Failure> {
    let kinds = Resource { plane: Plane::Data, path: "/mesh/kinds", member: "kinds", is_by_name: false };
    let listing = Listing::fetch(&args.client()?, kinds, &Query::default(), listing)?;
    if args.json {
        terminal::json(listing.json());
        return Ok(());
    }
    let header = ["KIND", ">VERSION", "GATE", ">QUEUED", ">LEASED", ">DEAD", "RULES", "PAUSED UNTIL", "REASON"];
    let mut table = Table::new(&header);
    for (_, kind) in listing.entries() {
        let jobs = kind.object("jobs");
        let count = |status: &str| cell(jobs.number(status).unwrap_or(0).to_string());
        table.add([
            cell(kind.text("kind")),
            cell(kind.text("version")),
            state(&kind.text("gate")),
            count("queued"),
            count("leased"),
            count("dead"),
            cell(listed(&kind.object("rules"))),
            cell(if kind.flag("paused") { or_dash(kind.text("paused_until_utc")) } else { String::new() }),
            cell(kind.text("pause_reason")),
        ]);
    }
    table.print("no kind has rules or jobs");
    listing.note_more();
    Ok(())
}

fn or_dash(text: String) -> String {
    if text.is_empty() { "-".to_owned() } else { text }
}

fn listed(rules: &Members) -> String {
    let rules: Vec<_> = rules.0.keys().map(|name| format!("{name}={}", rules.text(name))).collect();
    rules.join(" ")
}

fn print_one(kind: &Members) {
    let first =
        ["kind", "version", "gate", "opens_utc", "inflight", "jobs", "paused", "pause_reason", "paused_until_utc"];
    print_members(kind, &first, &["rules", "configured"]);
    terminal::line("");
    let rules = kind.object("rules");
    match rules.0.is_empty() {
        true => terminal::line("no rules: the hub's own settings hold"),
        false => print_members(&rules, &[], &[]),
    }
    let configured = kind.object("configured");
    if !configured.0.is_empty() {
        terminal::line("");
        terminal::line("in hub.toml; what was set since holds until the file says something else:");
        print_members(&configured, &[], &[]);
    }
}

fn print_change(before: &Members, after: &Members) {
    let (from, to) = (before.text("version"), after.text("version"));
    let kind = after.text("kind");
    terminal::line(format_args!("{}: version {from} → {to}", printable(&kind)));
    let flat = |kind: &Members| {
        let mut members = kind.object("rules");
        let pause = ["paused", "pause_reason", "paused_until_utc"];
        members.0.extend(pause.iter().filter_map(|name| Some(((*name).to_owned(), kind.raw(name)?.to_owned()))));
        members
    };
    let (before, after) = (flat(before), flat(after));
    let mut names: Vec<_> = before.0.keys().chain(after.0.keys()).collect();
    names.sort();
    names.dedup();
    for name in names {
        let absent = if name.starts_with("pause") { "none" } else { "default" };
        let text = |members: &Members| members.raw(name).map_or(absent.to_owned(), |_| members.text(name));
        let (from, to) = (text(&before), text(&after));
        if from != to {
            let change = format!("{from} → {to}");
            terminal::line(format_args!("  {}  {}", styled(DIM, name), printable(&change)));
        }
    }
}

/// An instant, as the hub writes it.
fn parse_instant(text: &str) -> Result<String, String> {
    rfc3339::parse(text).map(|at| Rfc3339::new(at).to_string()).map_err(|error| error.to_string())
}
