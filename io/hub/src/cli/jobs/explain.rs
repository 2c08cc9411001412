//! Why a job is not running.

use super::path;
use crate::cli::answer::AnswerArgs;
use crate::cli::failure::Failure;
use crate::cli::table::state;
use crate::cli::terminal::{self, BOLD, DIM, printable, styled};
use crate::client::Plane;
use crate::client::document::Members;
use std::process::ExitCode;
use std::time::Duration;

/// Says why a job is not running.
pub fn explain(args: &AnswerArgs, id: &str) -> Result<ExitCode, Failure> {
    let document = args.client()?.read(Plane::Data, &format!("{}/explain", path(id)), Duration::ZERO)?;
    args.show(&document, |document| print(&document.members));
    Ok(ExitCode::SUCCESS)
}

fn print(explained: &Members) {
    let (id, status) = (explained.text("job_id"), explained.text("status"));
    terminal::line(format_args!("{} is {}", styled(BOLD, printable(&id)), state(&status).content()));
    let reasons = explained.objects("reasons");
    for reason in &reasons {
        let (code, detail) = (reason.text("code"), reason.text("detail"));
        terminal::line(format_args!("  {}: {}", styled(BOLD, printable(&code)), printable(&detail)));
        let (lifted_by, until) = (reason.text("lifted_by"), reason.text("until_utc"));
        let until = if until.is_empty() { String::new() } else { format!(" (at {until})") };
        if !lifted_by.is_empty() || !until.is_empty() {
            let text = format!("    lifted by {lifted_by}{until}");
            terminal::line(styled(DIM, printable(&text)));
        }
    }
    if let Some(ahead) = explained.number("ahead") {
        terminal::line(format_args!("  {ahead} job(s) are ahead of it"));
    }
    let start = explained.text("estimated_start_utc");
    if !start.is_empty() {
        terminal::line(format_args!("  it starts at about {} (an estimate)", printable(&start)));
    }
}
