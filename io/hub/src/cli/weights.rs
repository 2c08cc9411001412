//! `sheratan-hub weights show|set`: how many turns clients or kinds have at a running hub.

use super::answer::{self, AnswerArgs};
use super::failure::Failure;
use super::names;
use super::table::{Table, cell};
use super::terminal::{self, DIM, printable, styled};
use crate::client::document::{Act, Document, Members};
use crate::client::{Client, Plane};
use clap::Subcommand;
use serde_json::{Value, json};
use sheratan_core::WEIGHT_MAX;
use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;
use std::time::Duration;

const PATH: &str = "/mesh/weights";

const EXAMPLES: &str = "\
Examples:
  sheratan-hub weights show
  sheratan-hub weights set batch=1 web=5
  sheratan-hub weights set web=default             back to the weight 1
  sheratan-hub weights set --replace web=5         all others back to 1
  sheratan-hub weights set --if-version 3 web=5    only if nobody changed them since

Where jobs take turns (the setting fair_by: client or kind), a client or kind has as many turns in a round as its weight, 1 to \
100. Weights that are not named stay. Those of the setting fair_weights are set at each start.

Exit code 0 if the hub did what was asked, 1 if it refused (412: the weights have another version than --if-version, or others \
set some meanwhile), 2 for an invalid command line.";

/// The arguments of `weights`.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Show the weights, and whose jobs take turns
    #[command(after_help = EXAMPLES)]
    Show(AnswerArgs),
    /// Set weights of clients or kinds
    #[command(after_help = EXAMPLES)]
    Set {
        /// Clients or kinds with their weights; `default` is 1
        #[arg(value_name = "NAME=WEIGHT", value_parser = parse_weight, required_unless_present = "replace")]
        weights: Vec<(String, Option<u32>)>,
        /// Give all that are not named the weight 1
        #[arg(long)]
        replace: bool,
        /// Change nothing unless the weights have this version
        #[arg(long, value_name = "N")]
        if_version: Option<u64>,
        #[command(flatten)]
        answer: AnswerArgs,
    },
}

/// Shows, sets.
pub fn run(args: Args) -> Result<ExitCode, Failure> {
    match args.what {
        What::Show(answer) => {
            let shown = read(&answer.client()?)?;
            answer.show(&shown, |shown| print(&shown.members));
        }
        What::Set { weights, replace, if_version, answer } => {
            let mut names = BTreeSet::new();
            if let Some((name, _)) = weights.iter().find(|(name, _)| !names.insert(name)) {
                return Err(Failure::Usage(format!("{} is named twice", printable(name))));
            }
            set(&answer, weights, replace, if_version)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn read(client: &Client) -> Result<Document, Failure> {
    Ok(client.read(Plane::Data, PATH, Duration::ZERO)?)
}

/// Sets weights; says what changed.
fn set(
    args: &AnswerArgs,
    named: Vec<(String, Option<u32>)>,
    is_replacing: bool,
    if_version: Option<u64>,
) -> Result<(), Failure> {
    let client = args.client()?;
    let before = read(&client)?;
    let mut weights = if is_replacing { BTreeMap::new() } else { weights_of(&before.members) };
    for (name, weight) in named {
        match weight {
            Some(weight) => _ = weights.insert(name, weight.into()),
            None => _ = weights.remove(&name),
        }
    }
    let body = json!({"weights": weights}).to_string();
    // What others set since those that stay were read would be undone.
    let if_match = if_version.or(before.members.number("version").filter(|_| !is_replacing));
    let put = client.act(Plane::Data, PATH, Act::Put { body: &body, if_match });
    let after = put.map_err(|error| answer::failed_act(error, "weights show"))?;
    args.show(&after, |after| print_change(&before.members, &after.members));
    Ok(())
}

fn weights_of(shown: &Members) -> BTreeMap<String, Value> {
    let weights = shown.object("weights");
    weights.0.iter().filter_map(|(name, raw)| Some((name.clone(), raw.get().parse::<u64>().ok()?.into()))).collect()
}

fn print(shown: &Members) {
    let by = shown.text("fair_by");
    let mut table = Table::new(&["NAME", ">WEIGHT"]);
    for (name, weight) in weights_of(shown) {
        table.add([cell(name), cell(weight.to_string())]);
    }
    table.print("no weights: all have 1");
    terminal::note(format_args!("version {}", printable(&shown.text("version"))));
    note_turns(&by);
}

fn print_change(before: &Members, after: &Members) {
    let (old, new) = (weights_of(before), weights_of(after));
    let names: BTreeSet<_> = old.keys().chain(new.keys()).collect();
    let text = |weights: &BTreeMap<_, Value>, name| weights.get(name).map_or("default".to_owned(), Value::to_string);
    for name in names {
        let (from, to) = (text(&old, name), text(&new, name));
        if from != to {
            terminal::line(format_args!("{}  {}", styled(DIM, printable(name)), format_args!("{from} → {to}")));
        }
    }
    note_turns(&after.text("fair_by"));
}

/// Weights without turns are set in vain.
fn note_turns(by: &str) {
    match by {
        "client" | "kind" => terminal::note(format_args!("jobs take turns by {by}")),
        by => terminal::note(format_args!("no jobs take turns: fair_by is {}", printable(by))),
    }
}

fn parse_weight(text: &str) -> Result<(String, Option<u32>), String> {
    let (name, weight) = text.rsplit_once('=').ok_or("expected NAME=WEIGHT")?;
    let weight = match weight.trim() {
        "default" => None,
        weight => match weight.parse() {
            Ok(weight) if (1..=WEIGHT_MAX).contains(&weight) => Some(weight),
            _ => return Err(format!("the weight must be a whole number from 1 to {WEIGHT_MAX}, or default")),
        },
    };
    Ok((names::name(name)?, weight))
}
