//! `sheratan-hub policy list|show|add|activate|history|explain`: the policies of a running hub.

use super::documents;
use crate::cli::answer::{self, AnswerArgs};
use crate::cli::failure::Failure;
use crate::cli::names;
use crate::cli::table::{Table, cell, print_members};
use crate::cli::terminal::{self, printable};
use crate::client::document::{Act, Document, Members};
use crate::client::{Client, Plane};
use serde_json::{Map, Value};
use sheratan_core::policy::{Diff, Policy, Snapshot};
use std::io::{self, BufRead, IsTerminal};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

const PATH: &str = "/api/policies";

/// The arguments of `policy explain`.
#[derive(clap::Args)]
pub struct ExplainArgs {
    /// What is asked for: read, submit, pull, extend, result, heartbeat, operate or admin
    #[arg(long, value_name = "OPERATION")]
    operation: String,
    /// From where: local, lan or any
    #[arg(long, value_name = "ORIGIN", default_value = "local")]
    origin: String,
    /// A role of the caller [default: those of the shared token at the origin]
    #[arg(long = "role", value_name = "ROLE")]
    roles: Vec<String>,
    /// The zone of the job, or the one that a heartbeat names
    #[arg(long, value_name = "ZONE", value_parser = names::name)]
    zone: Option<String>,
    /// The kind of the job
    #[arg(long, value_name = "KIND", value_parser = names::name)]
    kind: Option<String>,
    /// The node in whose name it is asked
    #[arg(long, value_name = "NODE", value_parser = names::name)]
    node: Option<String>,
    /// A capability that the node has, or the job requires
    #[arg(long = "capability", value_name = "NAME", value_parser = names::name)]
    capabilities: Vec<String>,
    /// The node's attestation: OK, MISSING, DRIFT, SPOOF_SUSPECT or none
    #[arg(long, value_name = "STATUS")]
    attestation: Option<String>,
    /// The request itself is signed
    #[arg(long)]
    signed: bool,
    /// The version that is asked [default: the active one]
    #[arg(long = "policy", value_name = "VERSION")]
    version: Option<u64>,
    #[command(flatten)]
    answer: AnswerArgs,
}

pub fn list(args: &AnswerArgs) -> Result<ExitCode, Failure> {
    let document = read(&args.client()?, PATH)?;
    args.show(&document, |document| {
        let mut table = Table::new(&["VERSION", "ACTIVE", "ADDED", "BY", ">BYTES", "SHA256"]);
        for held in document.members.objects("policies") {
            let is_active = if held.flag("active") { "active" } else { "" };
            let texts = [held.text("version"), is_active.to_owned(), held.text("added_utc"), held.text("by")];
            let sha256 = held.text("sha256").chars().take(16).collect();
            table.add(texts.into_iter().chain([held.text("bytes"), sha256]).map(cell));
        }
        table.print("no policies");
    });
    Ok(ExitCode::SUCCESS)
}

pub fn history(args: &AnswerArgs) -> Result<ExitCode, Failure> {
    let document = read(&args.client()?, PATH)?;
    args.show(&document, |document| {
        let mut table = Table::new(&["ACTIVATED", "VERSION", "BEFORE", "BY"]);
        for activation in document.members.objects("history") {
            table.add(["activated_utc", "version", "previous", "by"].map(|member| cell(activation.text(member))));
        }
        table.print("no policy was activated: version 1 is built in");
    });
    Ok(ExitCode::SUCCESS)
}

pub fn show(args: &AnswerArgs, version: u64, is_document: bool) -> Result<ExitCode, Failure> {
    let shown = read(&args.client()?, &path(version))?;
    if is_document {
        let document = shown.members.raw("document").map_or("", |raw| raw.get());
        terminal::line(document);
        return Ok(ExitCode::SUCCESS);
    }
    args.show(&shown, |shown| {
        print_members(&shown.members, &["version", "active", "sha256", "added_utc", "by", "bytes"], &["document"]);
        let description = shown.members.object("document").text("description");
        if !description.is_empty() {
            terminal::line(printable(&description));
        }
    });
    Ok(ExitCode::SUCCESS)
}

pub fn add(args: &AnswerArgs, file: &Path) -> Result<ExitCode, Failure> {
    // What is wrong is said before a hub is asked.
    let text = documents::read_text(file)?;
    let done = args.client()?.act(Plane::Control, PATH, Act::Post(&text));
    let done = done.map_err(|error| answer::failed_act(error, "policy list"))?;
    args.show(&done, |done| {
        let (version, is_duplicate) = (done.members.text("version"), done.members.flag("duplicate"));
        let said = if is_duplicate { "was there already" } else { "is added" };
        terminal::line(format_args!("policy {} {said}", printable(&version)));
        if !done.members.flag("active") {
            terminal::note(format_args!("not active yet: `sheratan-hub policy activate {}`", printable(&version)));
        }
    });
    Ok(ExitCode::SUCCESS)
}

/// Activates a version, compared with the active one first. If another one becomes active meanwhile, the hub refuses.
pub fn activate(
    args: &AnswerArgs,
    version: u64,
    expect_active: Option<u64>,
    is_sure: bool,
) -> Result<ExitCode, Failure> {
    if !is_sure && !io::stdin().is_terminal() {
        return Err(Failure::Usage(format!("standard input is no terminal: activate {version} with --yes")));
    }
    let client = args.client()?;
    let active = read(&client, PATH)?.members.number("active").unwrap_or(1);
    let next = read(&client, &path(version))?;
    // What the hub refuses is not worth a question.
    let is_change = version != active && expect_active.is_none_or(|expected| expected == active);
    if is_change && !args.json {
        let before = read(&client, &path(active))?;
        let diff = Diff::between(&policy_of(&before.members)?, &policy_of(&next.members)?);
        terminal::note(format_args!("version {version} instead of {active}:"));
        documents::show_diff(&diff, false);
    }
    if !is_sure && is_change && !is_confirmed(version)? {
        terminal::note("nothing was changed");
        return Ok(ExitCode::FAILURE);
    }
    let body = Map::from_iter([
        ("expect_active".to_owned(), expect_active.unwrap_or(active).into()),
        ("sha256".to_owned(), next.members.text("sha256").into()),
    ]);
    let body = Value::Object(body).to_string();
    let done = client.act(Plane::Control, &format!("{}/activate", path(version)), Act::Post(&body));
    let done = done.map_err(|error| answer::failed_act(error, "policy history"))?;
    args.show(&done, |done| {
        let previous = done.members.text("previous");
        terminal::line(format_args!("policy {version} is active"));
        if previous != version.to_string() {
            terminal::note(format_args!("back: `sheratan-hub policy activate {}`", printable(&previous)));
        }
    });
    Ok(ExitCode::SUCCESS)
}

pub fn explain(args: &ExplainArgs) -> Result<ExitCode, Failure> {
    let mut request = Map::from_iter([
        ("operation".to_owned(), args.operation.clone().into()),
        ("origin".to_owned(), args.origin.clone().into()),
    ]);
    let texts = [("zone", &args.zone), ("kind", &args.kind), ("node", &args.node), ("attestation", &args.attestation)];
    request.extend(texts.into_iter().filter_map(|(name, text)| Some((name.to_owned(), text.clone()?.into()))));
    let lists = [("roles", &args.roles), ("capabilities", &args.capabilities)];
    let lists = lists.into_iter().filter(|(_, list)| !list.is_empty());
    request.extend(lists.map(|(name, list)| (name.to_owned(), list.clone().into())));
    if args.signed {
        request.insert("signed".to_owned(), true.into());
    }
    let mut body = Map::from_iter([("request".to_owned(), Value::Object(request))]);
    body.extend(args.version.map(|version| ("version".to_owned(), version.into())));
    let body = Value::Object(body).to_string();
    let said = args.answer.client()?.act(Plane::Control, &format!("{PATH}/explain"), Act::Post(&body))?;
    let is_allowed = said.members.flag("allowed");
    args.answer.show(&said, |said| {
        let of = |member| said.members.text(member);
        let (rule, version) = (of("rule"), of("policy_version"));
        let by = if rule.is_empty() { "no rule".to_owned() } else { format!("rule {rule}") };
        let verdict = if is_allowed { "allowed" } else { "denied" };
        terminal::line(printable(&format!("{verdict} by {by} of policy {version}: {}", of("reason"))));
        if of("node_state") == "QUARANTINED" {
            terminal::note("the node is in quarantine: it gets no jobs, whatever the rules allow");
        }
    });
    Ok(if is_allowed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn path(version: u64) -> String {
    format!("{PATH}/{version}")
}

fn read(client: &Client, path: &str) -> Result<Document, Failure> {
    Ok(client.read(Plane::Control, path, Duration::ZERO)?)
}

/// The policy that the hub's answer has.
fn policy_of(shown: &Members) -> Result<Policy, Failure> {
    let document = shown.raw("document").map_or("", |raw| raw.get());
    let snapshot = Snapshot::parse(document.as_bytes())
        .map_err(|error| Failure::Local(format!("policy {} cannot be read: {error}", shown.text("version"))))?;
    Ok(Policy::compile(&snapshot))
}

/// Asks whoever sits at the terminal.
fn is_confirmed(version: u64) -> Result<bool, Failure> {
    terminal::note(format_args!("activate version {version}? [y/N]"));
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line).map_err(|error| Failure::Local(format!("standard input: {error}")))?;
    Ok(matches!(line.trim(), "y" | "yes"))
}
