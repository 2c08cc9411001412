//! Watching jobs: a line for each change that is seen, until all have ended.
//!
//! A thread for each job holds a long poll of a second: its end is heard at once, anything else within that second.

use super::{path, status};
use crate::cli::answer::AnswerArgs;
use crate::cli::ends::EXIT_CORRUPT;
use crate::cli::failure::Failure;
use crate::cli::interrupt;
use crate::cli::link::Link;
use crate::cli::patience::Patience;
use crate::cli::terminal::{self, DIM, Output, printable, styled};
use crate::client::calls::JobView;
use crate::client::document::{Document, Members};
use crate::client::integrity::Integrity;
use crate::client::{CallError, Plane};
use crossbeam_channel::{Receiver, Sender};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

/// The most jobs that are watched at once: each is a thread and a long poll.
pub const JOBS_MAX: usize = 100;

/// How long a long poll waits, and so how late a change is seen.
const WAIT: Duration = Duration::from_secs(1);

/// What is heard of one job.
enum News {
    /// It is now like this.
    Changed(Box<Document>),
    /// It has ended.
    Ended(End),
    /// It is not known what became of it.
    Unknown(CallError),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Completed,
    Failed,
    Corrupt,
}

/// Prints each change of the jobs until all have ended.
pub fn watch(args: AnswerArgs, ids: Vec<String>) -> Result<ExitCode, Failure> {
    let interrupts = interrupt::listen()?;
    let link = Arc::new(Link::new(args.target.clone())?);
    let (sender, news) = crossbeam_channel::bounded(JOBS_MAX);
    let mut open = ids.len();
    for id in ids {
        let (link, sender) = (Arc::clone(&link), sender.clone());
        std::thread::spawn(move || follow(&link, &id, &sender));
    }
    // The channel ends with the last thread.
    drop(sender);
    let (mut is_good, mut is_corrupt) = (true, false);
    while let Some(news) = next(&news, &interrupts) {
        match news {
            News::Changed(document) => args.show(&document, |document| print(&document.members.object("job"))),
            News::Ended(end) => {
                open -= 1;
                is_good &= end == End::Completed;
                is_corrupt |= end == End::Corrupt;
            }
            News::Unknown(error) => {
                open -= 1;
                is_good = false;
                is_corrupt |= error.code() == Some("result_corrupt");
                terminal::failure(&error);
            }
        }
        if terminal::output() != Output::Whole {
            break;
        }
    }
    if open > 0 && terminal::output() == Output::Whole {
        terminal::note(format_args!("{open} job(s) have not ended; they go on"));
    }
    Ok(match (is_corrupt, is_good && open == 0) {
        (true, _) => ExitCode::from(EXIT_CORRUPT),
        (false, true) => ExitCode::SUCCESS,
        (false, false) => ExitCode::FAILURE,
    })
}

/// The next news; `None` when all jobs have ended, or the user wants no more.
fn next(news: &Receiver<News>, interrupts: &Receiver<()>) -> Option<News> {
    crossbeam_channel::select! {
        recv(news) -> news => news.ok(),
        recv(interrupts) -> _ => None,
    }
}

/// Follows one job to its end.
fn follow(link: &Link, id: &str, news: &Sender<News>) {
    let (mut patience, mut seen) = (Patience::default(), None);
    // The first answer comes at once.
    let mut wait = Duration::ZERO;
    loop {
        let path = format!("{}?wait_ms={}", path(id), wait.as_millis());
        let document = match link.client().read(Plane::Data, &path, wait) {
            Ok(document) => document,
            // A hub that was never reached is not waited for.
            Err(error @ CallError::Unreachable { may_have_arrived: false, .. }) if seen.is_none() => {
                // Without a receiver the command is ending.
                let _ = news.send(News::Unknown(error));
                return;
            }
            Err(error) => match patience.after(link, error) {
                Ok(wait) => {
                    std::thread::sleep(wait);
                    continue;
                }
                Err(error) => {
                    let _ = news.send(News::Unknown(error));
                    return;
                }
            },
        };
        patience.answered();
        wait = WAIT;
        let end = end_of(&document, id);
        let now = Some(shape(&document.members.object("job")));
        if now != seen {
            seen = now;
            if news.send(News::Changed(Box::new(document))).is_err() {
                return;
            }
        }
        if let Some(end) = end {
            let _ = news.send(News::Ended(end));
            return;
        }
    }
}

/// What counts as a change.
fn shape(job: &Members) -> [String; 6] {
    ["status", "attempt", "node_id", "progress", "note", "postponed_utc"].map(|name| job.text(name))
}

fn end_of(document: &Document, id: &str) -> Option<End> {
    let job: JobView = serde_json::from_str(document.members.raw("job")?.get()).ok()?;
    if !job.is_final() {
        return None;
    }
    Some(match (job.integrity_as(id), job.is_completed()) {
        (Integrity::Changed, _) => End::Corrupt,
        (_, true) => End::Completed,
        (_, false) => End::Failed,
    })
}

fn print(job: &Members) {
    let now = format!("{:.0}", jiff::Timestamp::now());
    let (id, node, note) = (job.text("job_id"), job.text("node_id"), job.text("note"));
    let attempt = job.number("attempt").filter(|attempt| *attempt > 0);
    let attempt = attempt.map_or(String::new(), |attempt| format!("  attempt {attempt}"));
    let node = if node.is_empty() { String::new() } else { format!(" at {node}") };
    let note = if note.is_empty() { String::new() } else { format!("  {note}") };
    let text = format!("{id}  {}{attempt}{node}{note}", status(job));
    terminal::line(format_args!("{}  {}", styled(DIM, &now[11..]), printable(&text)));
}
