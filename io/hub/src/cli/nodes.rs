//! `sheratan-hub nodes list|show|drain|resume|accept|quarantine|release|rekey|remove`: the nodes of a running hub.

use super::answer::{self, AnswerArgs};
use super::failure::Failure;
use super::instant;
use super::interrupt;
use super::link::Link;
use super::listing::{Listing, ListingArgs, Resource};
use super::names;
use super::patience::Patience;
use super::query::{Query, segment};
use super::table::{Table, cell, print_members, state};
use super::terminal::{self, printable};
use crate::client::document::{Act, Document, Members};
use crate::client::{Client, Plane};
use clap::Subcommand;
use crossbeam_channel::RecvTimeoutError;
use serde_json::{Map, Value};
use sheratan_core::Millis;
use std::process::ExitCode;
use std::time::Duration;

/// How often a node that drains is looked at.
const POLL_INTERVAL: Duration = Duration::from_millis(200);

const EXAMPLES: &str = "\
Examples:
  sheratan-hub nodes list
  sheratan-hub nodes show gpu-1
  sheratan-hub nodes drain gpu-1 --reason 'new disk' --wait    no more jobs; returns when it has none
  sheratan-hub nodes drain gpu-1 --deadline 10m                what still runs then is given to others
  sheratan-hub nodes resume gpu-1
  sheratan-hub nodes accept gpu-1 --build b42                  what it attests now is right, if it is build b42
  sheratan-hub nodes quarantine gpu-1 --for 2h --reason 'odd results'
  sheratan-hub nodes release gpu-1                             ends any quarantine, and a warning
  sheratan-hub nodes rekey gpu-1                               the next key that signs its heartbeats is pinned
  sheratan-hub nodes remove gpu-1                              forgotten, once it is not online any more

A drained node stays drained over restarts and heartbeats until it is resumed. accept, rekey and remove are allowed \
from the hub's own machine only.

Exit code 0 if the hub did what was asked, 1 if it refused, or --wait was interrupted, 2 for an invalid command line.";

/// The arguments of `nodes`.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// List nodes by name
    #[command(after_help = EXAMPLES)]
    List {
        #[command(flatten)]
        listing: ListingArgs,
        #[command(flatten)]
        answer: AnswerArgs,
    },
    /// Show a node
    #[command(after_help = EXAMPLES)]
    Show(NodeArgs),
    /// Lease a node no more jobs; those that it has may finish
    #[command(after_help = EXAMPLES)]
    Drain {
        /// When leases that still run are taken back, uncharged: 30s, 15m, 2h from now [default: they run to their end]
        #[arg(long, value_name = "DURATION", value_parser = instant::parse_duration)]
        deadline: Option<Millis>,
        /// Why; shown with the node
        #[arg(long, value_name = "TEXT", value_parser = names::name)]
        reason: Option<String>,
        /// Wait until the node has no lease
        #[arg(long)]
        wait: bool,
        #[command(flatten)]
        node: NodeArgs,
    },
    /// Lease a drained node jobs again
    #[command(after_help = EXAMPLES)]
    Resume(NodeArgs),
    /// Make what a node attests its baseline: it drifts no more
    #[command(after_help = EXAMPLES)]
    Accept {
        /// Only if it attests this build
        #[arg(long, value_name = "BUILD", value_parser = names::name)]
        build: Option<String>,
        /// Only if it attests this capability hash
        #[arg(long, value_name = "HASH", value_parser = names::name)]
        capability_hash: Option<String>,
        /// Also if its capability hash changes so often that two programs may use its name
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        node: NodeArgs,
    },
    /// Lease a node no jobs for some time
    #[command(after_help = EXAMPLES)]
    Quarantine {
        /// For how long: 30m, 2h, up to a week, in whole minutes
        #[arg(long = "for", value_name = "DURATION", default_value = "10m", value_parser = instant::parse_duration)]
        duration: Millis,
        /// Why; shown with the node
        #[arg(long, value_name = "TEXT", value_parser = names::name)]
        reason: Option<String>,
        #[command(flatten)]
        node: NodeArgs,
    },
    /// End a node's quarantine, or the warning about it
    #[command(after_help = EXAMPLES)]
    Release(NodeArgs),
    /// Pin a node's key, or have it forgotten: what was signed before counts no more
    #[command(after_help = EXAMPLES)]
    Rekey {
        /// The Ed25519 public key, 64 hex digits [default: the next one whose signature verifies]
        #[arg(long, value_name = "HEX", value_parser = names::not_blank)]
        key: Option<String>,
        #[command(flatten)]
        node: NodeArgs,
    },
    /// Forget a node that is not online and has no leases
    #[command(after_help = EXAMPLES)]
    Remove(NodeArgs),
}

#[derive(clap::Args)]
struct NodeArgs {
    /// The node
    #[arg(value_name = "NODE", value_parser = names::name)]
    id: String,
    #[command(flatten)]
    answer: AnswerArgs,
}

/// Lists, shows, drains, resumes, removes.
pub fn run(args: Args) -> Result<ExitCode, Failure> {
    match args.what {
        What::List { listing, answer } => list(&listing, &answer),
        What::Show(NodeArgs { id, answer }) => {
            let node = read(&answer.client()?, &id)?;
            answer.show(&node, |document| print(&id, document));
            Ok(ExitCode::SUCCESS)
        }
        What::Drain { node, deadline, reason, wait } => {
            let mut body = Map::new();
            body.extend(deadline.map(|ms| ("deadline_sec".to_owned(), ms.as_secs_ceil().into())));
            body.extend(reason.map(|reason| ("reason".to_owned(), reason.into())));
            let body = Value::Object(body).to_string();
            match wait {
                true => drain_and_wait(&node, &body),
                false => operate(&node, "/drain", Act::Post(&body)),
            }
        }
        What::Resume(node) => operate(&node, "/resume", Act::Post("{}")),
        What::Accept { build, capability_hash, force, node } => accept(&node, build, capability_hash, force),
        What::Quarantine { duration, reason, node } => {
            let minutes = duration.as_secs_ceil().div_ceil(60);
            let mut body = Map::from_iter([("minutes".to_owned(), minutes.into())]);
            body.extend(reason.map(|reason| ("reason".to_owned(), reason.into())));
            operate(&node, "/quarantine", Act::Post(&Value::Object(body).to_string()))
        }
        What::Release(node) => operate(&node, "/release", Act::Post("{}")),
        What::Rekey { key, node } => {
            let body = Map::from_iter(key.map(|key| ("public_key".to_owned(), key.into())));
            operate(&node, "/rekey", Act::Post(&Value::Object(body).to_string()))
        }
        What::Remove(node) => operate(&node, "", Act::Delete),
    }
}

fn path(id: &str) -> String {
    format!("/api/nodes/{}", segment(id))
}

fn read(client: &Client, id: &str) -> Result<Document, Failure> {
    Ok(client.read(Plane::Control, &path(id), Duration::ZERO)?)
}

/// A node in an answer, which has it by its name.
fn node_of(document: &Document, id: &str) -> Members {
    document.members.object("nodes").object(id)
}

fn list(listing: &ListingArgs, args: &AnswerArgs) -> Result<ExitCode, Failure> {
    let nodes = Resource { plane: Plane::Control, path: "/api/registry", member: "nodes", is_by_name: true };
    let listing = Listing::fetch(&args.client()?, nodes, &Query::default(), listing)?;
    if args.json {
        terminal::json(listing.json());
        return Ok(ExitCode::SUCCESS);
    }
    let columns = [
        "NODE",
        "STATUS",
        "HEALTH",
        "ATTESTATION",
        "IDENTITY",
        "STATE",
        "ZONE",
        ">LEASES",
        "DRAINED",
        "CAPABILITIES",
        "LAST SEEN",
    ];
    let mut table = Table::new(&columns);
    for (id, node) in listing.entries() {
        let capabilities: Vec<String> =
            node.raw("capabilities").and_then(|raw| serde_json::from_str(raw.get()).ok()).unwrap_or_default();
        table.add([
            cell(id),
            state(&node.text("status")),
            state(&node.text("health")),
            state(&node.object("attestation").text("status")),
            state(&node.object("identity").text("status")),
            state(&node.text("policy_state")),
            cell(node.text("zone")),
            cell(node.text("leases")),
            cell(drained(&node)),
            cell(capabilities.join(",")),
            cell(node.text("last_seen_utc")),
        ]);
    }
    table.print("no node is registered");
    listing.note_more();
    Ok(ExitCode::SUCCESS)
}

/// Whether a node is drained, and why.
fn drained(node: &Members) -> String {
    let reason = node.text("drain_reason");
    match (node.flag("drained"), reason.is_empty()) {
        (false, _) => "no".to_owned(),
        (true, true) => "yes".to_owned(),
        (true, false) => format!("yes: {reason}"),
    }
}

/// Accepts what a node attests. What is not named is whatever the node attests when it is looked at, so that nothing is
/// accepted that changes meanwhile.
fn accept(
    node: &NodeArgs,
    build: Option<String>,
    capability_hash: Option<String>,
    is_forced: bool,
) -> Result<ExitCode, Failure> {
    let document = read(&node.answer.client()?, &node.id)?;
    let latest = node_of(&document, &node.id).object("attestation").object("last_seen");
    let or_latest = |named: Option<String>, key: &str| {
        let latest = latest.text(key);
        named.map_or(if latest.is_empty() { Value::Null } else { latest.into() }, Value::String)
    };
    let expect = Map::from_iter([
        ("build_id".to_owned(), or_latest(build, "build_id")),
        ("capability_hash".to_owned(), or_latest(capability_hash, "capability_hash")),
    ]);
    let body = Map::from_iter([("expect".to_owned(), Value::Object(expect)), ("force".to_owned(), is_forced.into())]);
    operate(node, "/accept", Act::Post(&Value::Object(body).to_string()))
}

fn print(id: &str, document: &Document) {
    let mut node = node_of(document, id);
    node.set_text("node_id", id);
    let first = [
        "node_id",
        "status",
        "health",
        "policy_state",
        "policy_reason",
        "zone",
        "capabilities",
        "leases",
        "drained",
        "drain_reason",
    ];
    // What v1.5 had and this hub does not.
    let hidden = ["meta", "project_id", "current_bundle_id", "queue"];
    print_members(&node, &first, &hidden);
}

fn operate(node: &NodeArgs, suffix: &str, act: Act) -> Result<ExitCode, Failure> {
    let NodeArgs { id, answer } = node;
    let done = answer.client()?.act(Plane::Control, &format!("{}{suffix}", path(id)), act);
    let done = done.map_err(|error| answer::failed_act(error, &format!("nodes show '{id}'")))?;
    answer.show(&done, |done| {
        let (is_drained, leases) = (done.members.flag("drained"), done.members.text("leases"));
        let until = done.members.text("policy_until_utc");
        let said = match (done.members.raw("drained").is_some(), done.members.text("policy_state").as_str()) {
            (false, _) => "is removed".to_owned(),
            (true, _) if is_drained => format!("is drained; {leases} lease(s) are left"),
            (true, "QUARANTINED") if until.is_empty() => "is in quarantine".to_owned(),
            (true, "QUARANTINED") => format!("is in quarantine until {until}"),
            (true, "WARN") => format!("is in service, with a warning: {}", done.members.text("policy_reason")),
            (true, _) => "is in service".to_owned(),
        };
        terminal::line(format_args!("{} {}", printable(id), printable(&said)));
    });
    Ok(ExitCode::SUCCESS)
}

/// Drains a node, and waits until it has no lease. An interrupt ends the wait, and not the drain.
fn drain_and_wait(node: &NodeArgs, body: &str) -> Result<ExitCode, Failure> {
    let NodeArgs { id, answer } = node;
    // An interrupt from now on must not hide that the node is drained.
    let (interrupts, link) = (interrupt::listen()?, Link::new(answer.target.clone())?);
    let drained = link.client().act(Plane::Control, &format!("{}/drain", path(id)), Act::Post(body));
    drained.map_err(|error| answer::failed_act(error, &format!("nodes show '{id}'")))?;
    let (mut said, mut patience) = (None, Patience::default());
    loop {
        let document = match link.client().read(Plane::Control, &path(id), Duration::ZERO) {
            Ok(document) => document,
            Err(error) => {
                let wait = patience.after(&link, error)?;
                if interrupts.recv_timeout(wait) != Err(RecvTimeoutError::Timeout) {
                    terminal::note(format_args!("{} stays drained; the hub does not answer", printable(id)));
                    return Ok(ExitCode::FAILURE);
                }
                continue;
            }
        };
        patience.answered();
        let record = node_of(&document, id);
        let leases = record.number("leases").unwrap_or(0);
        let is_over = leases == 0 || !record.flag("drained");
        if is_over {
            answer.show(&document, |document| print(id, document));
            return Ok(if leases == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
        if said.replace(leases) != Some(leases) {
            terminal::note(format_args!("{} has {leases} lease(s) left", printable(id)));
        }
        if interrupts.recv_timeout(POLL_INTERVAL) != Err(RecvTimeoutError::Timeout) {
            terminal::note(format_args!("{} stays drained; {leases} lease(s) are left", printable(id)));
            return Ok(ExitCode::FAILURE);
        }
    }
}
