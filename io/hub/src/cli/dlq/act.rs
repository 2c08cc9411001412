//! One act on many dead letters: where it is, and how it is shown.

use crate::cli::table::print_members;
use crate::client::document::Document;

/// The path of an act.
pub fn path(id: u32) -> String {
    format!("/mesh/dlq/acts/{id}")
}

/// Prints an act for people.
pub fn print(document: &Document) {
    let first = ["act_id", "act", "status", "filter", "rate_per_sec", "matched", "done", "skipped"];
    print_members(&document.members.object("act"), &first, &[]);
}
