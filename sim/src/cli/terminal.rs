//! Terminal: lines, colours and progress bars. Colours are left out where the stream is no terminal or `NO_COLOR` is
//! set, bars where standard error is none.
//!
//! All that the command line prints passes here: nobody panics because a stream is closed or full.

use anstyle::{AnsiColor, Style};
use indicatif::{ProgressBar, ProgressStyle};
use std::fmt::Display;
use std::io::{self, Write};
use std::process::ExitCode;

/// What matters.
pub const BOLD: Style = Style::new().bold();
/// What is less important.
pub const DIM: Style = Style::new().dimmed();
/// What went well.
pub const GOOD: Style = AnsiColor::Green.on_default();
/// What went wrong.
pub const BAD: Style = AnsiColor::Red.on_default();
/// What needs attention.
pub const WARN: Style = AnsiColor::Yellow.on_default();

/// The exit code of a command line that makes no sense.
pub const MISUSED: u8 = 2;

/// Prints a line on standard output. If that is closed (`| head`) the process ends quietly, as `cat` does.
pub fn line(text: impl Display) {
    if let Err(error) = writeln!(anstream::stdout(), "{text}") {
        let is_gone = error.kind() == io::ErrorKind::BrokenPipe;
        if !is_gone {
            failed(unwritten(&error), 1);
        }
        std::process::exit(if is_gone { 0 } else { 1 });
    }
}

/// Prints a line on standard error.
pub fn note(text: impl Display) {
    // A failure to write to standard error cannot be reported anywhere.
    _ = writeln!(anstream::stderr(), "{text}");
}

/// Reports why the command ends.
pub fn failed(reason: impl Display, exit_code: u8) -> ExitCode {
    let bad = BAD.bold();
    note(format_args!("{bad}error{bad:#}: {reason}"));
    ExitCode::from(exit_code)
}

/// Why a command ends that cannot print.
pub fn unwritten(error: &io::Error) -> String {
    format!("the output cannot be written: {error}")
}

/// Whether all was well, as an exit code.
pub fn ended(is_well: bool) -> ExitCode {
    if is_well { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// A bar of so many of something, shown on a terminal only.
pub fn bar(length: u64, template: &str) -> ProgressBar {
    let style = ProgressStyle::with_template(template);
    ProgressBar::new(length).with_style(style.expect("the template is one"))
}
