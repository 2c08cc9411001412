//! The progress of an act on many dead letters, until it has ended.

use super::act;
use crate::cli::answer::AnswerArgs;
use crate::cli::failure::Failure;
use crate::cli::link::Link;
use crate::cli::patience::Patience;
use crate::cli::terminal;
use crate::client::Plane;
use crate::client::document::Document;
use crossbeam_channel::{Receiver, RecvTimeoutError};
use indicatif::{ProgressBar, ProgressStyle};
use std::process::ExitCode;
use std::time::Duration;

/// How often a running act is looked at.
const POLL_INTERVAL: Duration = Duration::from_millis(200);

/// Waits until an act has ended, and prints it. An interrupt ends the wait, and not the act.
pub fn follow(args: &AnswerArgs, begun: Document, interrupts: &Receiver<()>) -> Result<ExitCode, Failure> {
    let link = Link::new(args.target.clone())?;
    let id = begun.members.object("act").number("act_id").and_then(|id| u32::try_from(id).ok());
    let id = id.ok_or_else(|| Failure::Local("the hub's answer names no act".to_owned()))?;
    let bar = progress_bar();
    let (mut document, mut patience) = (begun, Patience::default());
    let mut wait = POLL_INTERVAL;
    loop {
        let act = document.members.object("act");
        let count = |name: &str| act.number(name).unwrap_or(0);
        bar.set_length(count("matched"));
        bar.set_position(count("done") + count("skipped"));
        if act.text("status") != "running" {
            break;
        }
        if interrupts.recv_timeout(wait) != Err(RecvTimeoutError::Timeout) {
            bar.finish_and_clear();
            args.show(&document, act::print);
            terminal::note(format_args!(
                "act {id} goes on at the hub: `sheratan-hub dlq acts watch {id}` shows it, `sheratan-hub dlq acts cancel \
                 {id}` ends it"
            ));
            return Ok(ExitCode::FAILURE);
        }
        match link.client().read(Plane::Data, &act::path(id), Duration::ZERO) {
            Ok(answer) => {
                (document, wait) = (answer, POLL_INTERVAL);
                patience.answered();
            }
            // The act is in the journal: it goes on where a hub that restarts stopped.
            Err(error) => {
                bar.set_message(error.summary());
                wait = patience.after(&link, error)?;
            }
        }
    }
    bar.finish_and_clear();
    args.show(&document, act::print);
    let act = document.members.object("act");
    let skipped = act.number("skipped").unwrap_or(0);
    if skipped > 0 {
        terminal::note(format_args!(
            "{skipped} letter(s) were skipped and stay: another job has their idempotency key by now"
        ));
    }
    Ok(if skipped == 0 && act.text("status") == "done" { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn progress_bar() -> ProgressBar {
    let bar = ProgressBar::new(0);
    let template = "{wide_bar} {human_pos}/{human_len}  {per_sec}  {msg}";
    bar.set_style(ProgressStyle::with_template(template).expect("the template is well formed"));
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}
