//! `sheratan-hub token status|rotate|extend|finish|abort`: the shared token of a running hub, and its rotation.

use super::answer::{self, AnswerArgs};
use super::failure::Failure;
use super::instant;
use super::table::{Table, cell};
use super::terminal::{self, printable};
use crate::client::Plane;
use crate::client::document::{Act, Document, Members};
use clap::Subcommand;
use serde_json::{Map, Value};
use sheratan_core::Millis;
use sheratan_io::rfc3339::{self, Rfc3339};
use sheratan_io::secret::Secret;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

const PATH: &str = "/api/tokens";

const EXAMPLES: &str = "\
Examples:
  sheratan-hub token rotate --for 24h              makes a token and prints it once; both are accepted for a day
  sheratan-hub token rotate --until 2026-02-01T00:00:00Z --next-token-file next.txt
  sheratan-hub token status                        who uses which token, and which nodes have not switched
  sheratan-hub token rotate --dry-run              the same list alone: nodes that have not switched
  sheratan-hub token extend --for 48h              both are accepted until 48 hours from now
  sheratan-hub token finish                        the next token alone is accepted from now on
  sheratan-hub token abort                         the active token stays, and the next one is forgotten

While a rotation is under way both tokens are accepted; at its end the next one alone. The token before is then refused for \
good (403 old_token_after_rotation), whatever the settings say. finish refuses while some still use the old token, and abort \
while some use the next one; --force does it all the same. All but status is allowed from the hub's own machine only.

Exit code 0 if the hub did what was asked, 1 if it refused, 2 for an invalid command line.";

/// The arguments of `token`.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Show the rotation, who uses which token, and which nodes have not switched
    #[command(after_help = EXAMPLES)]
    Status(AnswerArgs),
    /// Begin to replace the token
    #[command(after_help = EXAMPLES)]
    Rotate {
        #[command(flatten)]
        window: Window,
        /// File with the next token [default: the hub makes one, which is printed once]
        #[arg(long, value_name = "FILE")]
        next_token_file: Option<PathBuf>,
        /// Only list the nodes of the last day that were not seen with the next token
        #[arg(long, conflicts_with_all = ["until", "duration", "next_token_file"])]
        dry_run: bool,
        #[command(flatten)]
        answer: AnswerArgs,
    },
    /// Move the end of the rotation
    #[command(after_help = EXAMPLES)]
    Extend {
        #[command(flatten)]
        window: Window,
        #[command(flatten)]
        answer: AnswerArgs,
    },
    /// End the rotation now: the next token alone is accepted
    #[command(after_help = EXAMPLES)]
    Finish(ForcedArgs),
    /// Take the rotation back: the active token stays
    #[command(after_help = EXAMPLES)]
    Abort(ForcedArgs),
}

/// How long both tokens are accepted.
#[derive(clap::Args)]
struct Window {
    /// Until when both tokens are accepted, as RFC 3339
    #[arg(long, value_name = "INSTANT", value_parser = instant, conflicts_with = "duration")]
    until: Option<String>,
    /// For how long from now: 30m, 24h, 7d
    #[arg(long = "for", value_name = "DURATION", value_parser = instant::parse_duration)]
    duration: Option<Millis>,
}

#[derive(clap::Args)]
struct ForcedArgs {
    /// Although some use the token that is not accepted any more afterwards
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    answer: AnswerArgs,
}

/// Shows, rotates.
pub fn run(args: Args) -> Result<ExitCode, Failure> {
    match args.what {
        What::Status(answer) => answer.show(&read(&answer)?, |document| print(&document.members)),
        What::Rotate { dry_run: true, answer, .. } => {
            answer.show(&read(&answer)?, |document| print_not_switched(&document.members));
        }
        What::Rotate { window, next_token_file, answer, .. } => {
            let mut body = window.members()?;
            if let Some(path) = next_token_file {
                let named = |error| Failure::Usage(format!("--next-token-file {} {error}", path.display()));
                let secret = Secret::read(&path).map_err(named)?;
                body.insert("next_token".to_owned(), String::from_utf8_lossy(secret.expose()).into());
            } else if read(&answer)?.members.raw("rotation").is_some() {
                let extend = "a rotation is under way: `sheratan-hub token extend` moves its end";
                return Err(Failure::Local(extend.to_owned()));
            }
            act(&answer, "rotate", body)?;
        }
        What::Extend { window, answer } => {
            let body = window.members()?;
            if read(&answer)?.members.raw("rotation").is_none() {
                return Err(Failure::Local("no rotation is under way".to_owned()));
            }
            act(&answer, "rotate", body)?;
        }
        What::Finish(ForcedArgs { force, answer }) => act(&answer, "finalize", forced(force))?,
        What::Abort(ForcedArgs { force, answer }) => act(&answer, "abort", forced(force))?,
    }
    Ok(ExitCode::SUCCESS)
}

impl Window {
    /// The members of the request.
    fn members(self) -> Result<Map<String, Value>, Failure> {
        match (self.until, self.duration) {
            (Some(until), _) => Ok(Map::from_iter([("rotation_until_utc".to_owned(), until.into())])),
            (None, Some(duration)) => Ok(Map::from_iter([("for_sec".to_owned(), duration.as_secs_ceil().into())])),
            (None, None) => {
                Err(Failure::Usage("name until when both tokens are accepted: --until or --for".to_owned()))
            }
        }
    }
}

fn instant(text: &str) -> Result<String, String> {
    let parsed = rfc3339::parse(text).map_err(|_| "expected an RFC 3339 instant such as 2026-01-15T20:52:03Z")?;
    Ok(Rfc3339::new(parsed).to_string())
}

fn forced(is_forced: bool) -> Map<String, Value> {
    Map::from_iter([("force".to_owned(), is_forced.into())])
}

fn read(answer: &AnswerArgs) -> Result<Document, Failure> {
    Ok(answer.client()?.read(Plane::Control, PATH, Duration::ZERO)?)
}

fn act(answer: &AnswerArgs, what: &str, body: Map<String, Value>) -> Result<(), Failure> {
    let body = Value::Object(body).to_string();
    let done = answer.client()?.act(Plane::Control, &format!("{PATH}/{what}"), Act::Post(&body));
    let done = done.map_err(|error| answer::failed_act(error, "token status"))?;
    answer.show(&done, |done| {
        let made = done.members.text("next_token");
        if !made.is_empty() {
            // On standard output alone, so that it can be kept: it is not shown again.
            terminal::line(format_args!("{}", printable(&made)));
        }
        note_rotation(&done.members);
    });
    Ok(())
}

fn note_rotation(members: &Members) {
    let rotation = members.object("rotation");
    let until = rotation.text("rotation_until_utc");
    match until.is_empty() {
        true => terminal::note(format_args!("the active token is {}", printable(&members.text("active")))),
        false => terminal::note(format_args!(
            "token {} replaces {}: both are accepted until {}",
            printable(&rotation.text("next")),
            printable(&members.text("active")),
            printable(&until)
        )),
    }
}

fn print(members: &Members) {
    note_rotation(members);
    let mut table = Table::new(&["TOKEN", "NODE", "ADDRESS", ">REQUESTS", "LAST USED"]);
    for user in members.objects("usage") {
        let columns = ["token", "node_id", "ip", "requests", "last_utc"];
        table.add(columns.map(|column| cell(user.text(column))));
    }
    table.print("nobody used a token of a rotation since this start");
    if members.raw("rotation").is_some() {
        print_not_switched(members);
    }
}

fn print_not_switched(members: &Members) {
    let nodes: Vec<String> =
        members.raw("not_switched").and_then(|raw| serde_json::from_str(raw.get()).ok()).unwrap_or_default();
    match (members.raw("rotation").is_some(), nodes.is_empty()) {
        (false, _) => terminal::note(format_args!("no rotation is under way")),
        (true, true) => terminal::note(format_args!("all nodes of the last day were seen with the next token")),
        (true, false) => {
            terminal::note(format_args!("nodes of the last day that were not seen with the next token:"));
            nodes.iter().for_each(|node| terminal::line(format_args!("{}", printable(node))));
        }
    }
}
