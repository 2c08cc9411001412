//! `sheratan-hub policy …`: documents on this machine, and the policies of a running hub.

mod documents;
mod held;

use super::answer::AnswerArgs;
use super::failure::Failure;
use clap::Subcommand;
use std::path::PathBuf;
use std::process::ExitCode;

const EXAMPLES: &str = "\
Examples:
  sheratan-hub policy check policies/policy_v2.json             is it valid, and do its cases hold
  sheratan-hub policy check policies/*.json --json              one line of JSON for each
  sheratan-hub policy test policies/policy_v2.json              each of its cases, and by which rule it is decided
  sheratan-hub policy diff policy_v2.json policy_v3.json        what becomes allowed, and what denied

A document is checked as a hub checks it: an error names its place (a JSON Pointer) and what is expected there. Its cases are \
decided, and whether the shared token may still activate another policy from the hub's own machine. diff decides combinations of \
what either document names, each with one value that neither names.

Exit code 0 if all is well (for diff: if nothing changes), 1 if not, 2 for an invalid command line.";

const HELD_EXAMPLES: &str = "\
Examples:
  sheratan-hub policy list
  sheratan-hub policy show 2 --document > policy_v3.json        as it was added
  sheratan-hub policy add policy_v3.json                        the hub keeps it; nothing changes yet
  sheratan-hub policy activate 3                                shows what changes, and asks
  sheratan-hub policy activate 3 --expect-active 2 --yes        only if nobody activated another one
  sheratan-hub policy activate 2                                back
  sheratan-hub policy history
  sheratan-hub policy explain --operation submit --kind batch --origin lan
  sheratan-hub policy explain --operation pull --node gpu-1 --kind train --policy 3

A version is never edited: a change is a new version, above all others. add and activate are allowed from the hub's own machine only. \
explain asks the active policy, or the version that --policy names; what is left open about a node is what the hub knows of it.

Exit code 0 if the hub did what was asked (for explain: if it is allowed), 1 if not, 2 for an invalid command line.";

/// The arguments of `policy`.
#[derive(clap::Args)]
#[command(after_help = HELD_EXAMPLES)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Check documents, and decide their cases
    #[command(after_help = EXAMPLES)]
    Check {
        /// The documents
        #[arg(value_name = "FILE", required = true)]
        files: Vec<PathBuf>,
        /// Print one line of JSON for each
        #[arg(long)]
        json: bool,
    },
    /// Decide the cases of a document, and show each
    #[command(after_help = EXAMPLES)]
    Test {
        /// The document
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// Print one line of JSON for each case
        #[arg(long)]
        json: bool,
    },
    /// Show what one document allows and denies that another does not
    #[command(after_help = EXAMPLES)]
    Diff {
        /// The document that holds
        #[arg(value_name = "BEFORE")]
        before: PathBuf,
        /// The one that would
        #[arg(value_name = "AFTER")]
        after: PathBuf,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// List the policies of a hub
    #[command(after_help = HELD_EXAMPLES)]
    List(AnswerArgs),
    /// Show a policy of a hub
    #[command(after_help = HELD_EXAMPLES)]
    Show {
        /// Its version
        #[arg(value_name = "VERSION")]
        version: u64,
        /// Print the document alone, byte for byte as it was added
        #[arg(long, conflicts_with = "json")]
        document: bool,
        #[command(flatten)]
        answer: AnswerArgs,
    },
    /// Have a hub keep a policy, without activating it
    #[command(after_help = HELD_EXAMPLES)]
    Add {
        /// The document
        #[arg(value_name = "FILE")]
        file: PathBuf,
        #[command(flatten)]
        answer: AnswerArgs,
    },
    /// Make a policy that a hub keeps the active one
    #[command(after_help = HELD_EXAMPLES)]
    Activate {
        /// Its version
        #[arg(value_name = "VERSION")]
        version: u64,
        /// Only if this version is active [default: the one with which the policy was compared]
        #[arg(long, value_name = "VERSION")]
        expect_active: Option<u64>,
        /// Do not ask
        #[arg(long)]
        yes: bool,
        #[command(flatten)]
        answer: AnswerArgs,
    },
    /// Show which policy was activated when, and by whom
    #[command(after_help = HELD_EXAMPLES)]
    History(AnswerArgs),
    /// Say what a policy decides about a request, by which rule, and why
    #[command(after_help = HELD_EXAMPLES)]
    Explain(held::ExplainArgs),
}

/// Checks or compares documents; lists, shows, adds, activates and asks policies.
pub fn run(args: Args) -> Result<ExitCode, Failure> {
    match args.what {
        What::Check { files, json } => Ok(documents::check_all(&files, json)),
        What::Test { file, json } => documents::test(&file, json),
        What::Diff { before, after, json } => documents::diff(&before, &after, json),
        What::List(answer) => held::list(&answer),
        What::Show { version, document, answer } => held::show(&answer, version, document),
        What::Add { file, answer } => held::add(&answer, &file),
        What::Activate { version, expect_active, yes, answer } => held::activate(&answer, version, expect_active, yes),
        What::History(answer) => held::history(&answer),
        What::Explain(args) => held::explain(&args),
    }
}
