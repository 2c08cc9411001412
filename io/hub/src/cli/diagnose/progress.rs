//! Progress: on a terminal a spinner with the current step, and always a line for each file.

use super::Gathered;
use crate::cli::terminal::{DIM, GOOD, WARN, note, styled};
use indicatif::{ProgressBar, ProgressStyle};
use sheratan_io::redact::Redactor;
use std::time::Duration;

/// How often the spinner turns.
const TICK: Duration = Duration::from_millis(100);

/// Shows the progress.
pub struct Progress {
    /// Draws nothing if standard error is not a terminal.
    spinner: ProgressBar,
}

impl Progress {
    /// Begins to show.
    pub fn start() -> Self {
        let spinner = ProgressBar::new_spinner();
        spinner.set_style(ProgressStyle::with_template("{spinner:.green} {msg}").expect("the template is well formed"));
        spinner.enable_steady_tick(TICK);
        Progress { spinner }
    }

    /// Shows a step while it runs.
    pub fn with_message<T>(&self, what: &'static str, work: impl FnOnce() -> T) -> T {
        self.spinner.set_message(what);
        work()
    }

    /// Gathers a file and reports the result.
    pub fn step(&self, name: &'static str, redactor: &Redactor, gather: impl FnOnce() -> Gathered) -> Gathered {
        let content = self.with_message(name, gather);
        self.spinner.suspend(|| match &content {
            Ok(content) => {
                let bytes = styled(DIM, format_args!("{} bytes", content.bytes.len()));
                note(format_args!("{} {name}  {bytes}", styled(GOOD, "✓")));
            }
            Err(reason) => {
                note(format_args!("{} {name}  missing: {}", styled(WARN, "–"), redactor.redact_text(reason)));
            }
        });
        content
    }

    /// Removes the spinner.
    pub fn end(&self) {
        self.spinner.finish_and_clear();
    }
}

impl Drop for Progress {
    /// A failure's message must not stand beside a spinner.
    fn drop(&mut self) {
        self.end();
    }
}
