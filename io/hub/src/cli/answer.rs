//! Answers of the hub to a command of an operator: as JSON, or for people.

use super::failure::Failure;
use super::target::TargetArgs;
use super::terminal;
use crate::client::document::Document;
use crate::client::{CallError, Client};

/// How the answer is shown, and whose.
#[derive(clap::Args, Clone, Debug)]
pub struct AnswerArgs {
    /// Print the hub's answer as JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub target: TargetArgs,
}

impl AnswerArgs {
    /// A client of the hub.
    pub fn client(&self) -> Result<Client, Failure> {
        Ok(self.target.client()?)
    }

    /// Prints a document as JSON if that is asked for, else by `print`.
    pub fn show(&self, document: &Document, print: impl FnOnce(&Document)) {
        if self.json { terminal::json(&document.text) } else { print(document) }
    }
}

/// The failure of a call that changes something: it may have been done all the same. `look` is the command that shows
/// whether it was.
pub fn failed_act(error: CallError, look: &str) -> Failure {
    // A hub that could not be reached at all has done nothing.
    match error.may_have_been_applied() {
        true => Failure::Local(format!("{error}\nit may have been done all the same: `sheratan-hub {look}` shows it")),
        false => error.into(),
    }
}

/// Does the same to each of several things; what fails is said at once, and does not keep the others from being done.
/// Returns whether all went well.
pub fn each<'a>(
    ids: impl IntoIterator<Item = &'a String>,
    mut act: impl FnMut(&'a str) -> Result<(), Failure>,
) -> Result<bool, Failure> {
    let ids: Vec<_> = ids.into_iter().collect();
    if let [id] = ids[..] {
        return act(id).map(|()| true);
    }
    let mut is_good = true;
    for id in ids {
        if let Err(failure) = act(id) {
            // Where no hub answers, none will for the others.
            if matches!(failure, Failure::Call(CallError::Unreachable { .. }) | Failure::Target(_)) {
                return Err(failure);
            }
            is_good = false;
            terminal::failure(format_args!("{id}: {failure}"));
        }
    }
    Ok(is_good)
}
