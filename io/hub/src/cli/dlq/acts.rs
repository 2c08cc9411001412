//! `dlq acts`: the hub's acts on many dead letters.

use super::act::{path, print};
use super::progress;
use crate::cli::answer::{self, AnswerArgs};
use crate::cli::failure::Failure;
use crate::cli::interrupt;
use crate::cli::table::{Table, cell, state};
use crate::client::Plane;
use crate::client::document::{Act, Members};
use clap::Subcommand;
use std::process::ExitCode;
use std::time::Duration;

/// The arguments of `dlq acts`.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// List the acts that run, and those that ended lately
    #[command(after_help = super::EXAMPLES)]
    List {
        #[command(flatten)]
        answer: AnswerArgs,
    },
    /// Show an act
    #[command(after_help = super::EXAMPLES)]
    Show(ActArgs),
    /// Show the progress of an act until it ends
    #[command(after_help = super::EXAMPLES)]
    Watch(ActArgs),
    /// End an act; what it has done stays done
    #[command(after_help = super::EXAMPLES)]
    Cancel(ActArgs),
}

#[derive(clap::Args)]
struct ActArgs {
    /// The act
    #[arg(value_name = "ACT")]
    id: u32,
    #[command(flatten)]
    answer: AnswerArgs,
}

/// Lists, shows, watches, cancels.
pub fn run(args: Args) -> Result<ExitCode, Failure> {
    match args.what {
        What::List { answer } => {
            let acts = answer.client()?.read(Plane::Data, "/mesh/dlq/acts", Duration::ZERO)?;
            answer.show(&acts, |acts| print_all(&acts.members));
        }
        What::Show(ActArgs { id, answer }) => {
            let act = answer.client()?.read(Plane::Data, &path(id), Duration::ZERO)?;
            answer.show(&act, print);
        }
        What::Watch(ActArgs { id, answer }) => {
            let interrupts = interrupt::listen()?;
            let act = answer.client()?.read(Plane::Data, &path(id), Duration::ZERO)?;
            return progress::follow(&answer, act, &interrupts);
        }
        What::Cancel(ActArgs { id, answer }) => {
            let cancelled = answer.client()?.act(Plane::Data, &format!("{}/cancel", path(id)), Act::Post("{}"));
            let act = cancelled.map_err(|error| answer::failed_act(error, &format!("dlq acts show {id}")))?;
            answer.show(&act, print);
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn print_all(acts: &Members) {
    let mut table =
        Table::new(&[">ACT", "WHAT", "STATUS", "FILTER", ">MATCHED", ">DONE", ">SKIPPED", "BEGAN", "ENDED"]);
    for act in acts.objects("acts") {
        let filter: Vec<_> = act.object("filter").0.iter().map(|(name, value)| format!("{name}={value}")).collect();
        table.add([
            cell(act.text("act_id")),
            cell(act.text("act")),
            state(&act.text("status")),
            cell(if filter.is_empty() { "all".to_owned() } else { filter.join(" ") }),
            cell(act.text("matched")),
            cell(act.text("done")),
            cell(act.text("skipped")),
            cell(act.text("began_utc")),
            cell(act.text("ended_utc")),
        ]);
    }
    table.print("no act runs, and none ended lately");
}
