//! Showing one job, living or dead: its members, its attempts, its payloads.

use crate::cli::answer::AnswerArgs;
use crate::cli::ends::EXIT_CORRUPT;
use crate::cli::failure::Failure;
use crate::cli::table::{Table, cell, print_members, state};
use crate::cli::terminal::{self, BAD, DIM, printable, styled};
use crate::client::Plane;
use crate::client::calls::JobView;
use crate::client::document::{Document, Members};
use crate::client::integrity::Integrity;
use std::process::ExitCode;
use std::time::Duration;

/// The members that are shown first, in this order.
const FIRST: &[&str] = &[
    "job_id",
    "kind",
    "status",
    "reason",
    "priority",
    "zone",
    "requires",
    "node_id",
    "progress",
    "note",
    "attempt",
    "attempts_max",
    "losses",
    "submitted_utc",
    "run_at_utc",
    "queued_utc",
    "lease_until_utc",
    "final_utc",
    "expires_utc",
];

/// The members that are shown below the others.
const PAYLOADS: &[&str] = &["params", "result", "error"];

/// Shows the job of this id at a path. Its result is compared with the checksum that its worker sent.
pub fn show(args: &AnswerArgs, path: &str, id: &str) -> Result<ExitCode, Failure> {
    let document = match args.client()?.read(Plane::Data, path, Duration::ZERO) {
        Err(error) if error.code() == Some("result_corrupt") => {
            terminal::failure(&error);
            return Ok(ExitCode::from(EXIT_CORRUPT));
        }
        document => document?,
    };
    let integrity = integrity_of(&document, id);
    args.show(&document, |document| print(document.members.object("job"), integrity));
    if integrity != Integrity::Changed {
        return Ok(ExitCode::SUCCESS);
    }
    terminal::note(format_args!(
        "{}: what the hub shows does not match the checksum that the worker sent: do not use it",
        styled(BAD, "corrupt")
    ));
    Ok(ExitCode::from(EXIT_CORRUPT))
}

/// What the checksum says; nothing, if this is not a job as this release knows it.
fn integrity_of(document: &Document, id: &str) -> Integrity {
    let job = document.members.raw("job").and_then(|raw| serde_json::from_str::<JobView>(raw.get()).ok());
    job.map_or(Integrity::Unknown, |job| job.integrity_as(id))
}

/// Prints a job for people.
fn print(mut job: Members, integrity: Integrity) {
    if job.raw("integrity").is_some() {
        let checksum = job.object("integrity");
        let word = if integrity == Integrity::Whole { "verified" } else { "does not match" };
        job.set_text("integrity", &format!("{} {} ({word})", checksum.text("mode"), checksum.text("sha256")));
    }
    print_members(&job, FIRST, &[PAYLOADS, &["attempts"]].concat());
    let attempts = job.objects("attempts");
    if !attempts.is_empty() {
        terminal::line("");
        let mut table = Table::new(&[">ATTEMPT", "NODE", "OUTCOME", "START", "END", "ERROR"]);
        for attempt in &attempts {
            let (outcome, reason) = (attempt.text("outcome"), attempt.text("reason"));
            let outcome = if reason.is_empty() { outcome } else { format!("{outcome} ({reason})") };
            table.add([
                cell(attempt.text("attempt")),
                cell(attempt.text("node_id")),
                state(&outcome),
                cell(attempt.text("start_utc")),
                cell(attempt.text("end_utc")),
                cell(attempt.text("error")),
            ]);
        }
        table.print("");
    }
    for (index, name) in PAYLOADS.iter().filter(|name| job.raw(name).is_some()).enumerate() {
        if index == 0 {
            terminal::line("");
        }
        let json = job.raw(name).map_or("", |raw| raw.get());
        terminal::line(format_args!("{}  {}", styled(DIM, format_args!("{name:6}")), printable(json)));
    }
}
