//! Terminal: lines and colours on the standard streams.
//!
//! Colours are left out if the stream is not a terminal or `NO_COLOR` is set.

use super::failure::Failure;
use anstyle::{AnsiColor, Style};
use std::fmt::Display;
use std::io::{self, Write};

/// Success.
pub const GOOD: Style = AnsiColor::Green.on_default();
/// Failure.
pub const BAD: Style = AnsiColor::Red.on_default();
/// Warning.
pub const WARN: Style = AnsiColor::Yellow.on_default();
/// Emphasis.
pub const BOLD: Style = Style::new().bold();
/// Unimportant.
pub const DIM: Style = Style::new().dimmed();

/// A text in a style.
pub fn styled(style: Style, text: impl Display) -> String {
    format!("{style}{text}{style:#}")
}

/// Prints a line on standard output. A closed pipe (`| head`) ends the process quietly, as it ends `cat`.
pub fn line(text: impl Display) {
    end_if_gone(writeln!(anstream::stdout(), "{text}"));
}

/// Prints a line on standard output unchanged.
pub fn bytes(line: &[u8]) {
    let mut out = io::stdout().lock();
    end_if_gone(out.write_all(line).and_then(|()| out.write_all(b"\n")));
}

fn end_if_gone(written: io::Result<()>) {
    if let Err(error) = written {
        let is_gone = error.kind() == io::ErrorKind::BrokenPipe;
        std::process::exit(if is_gone { 0 } else { 1 });
    }
}

/// Prints a line on standard error.
pub fn note(text: impl Display) {
    // A failure to write to standard error cannot be reported anywhere.
    let _ = writeln!(anstream::stderr(), "{text}");
}

/// Prints why the command failed.
pub fn failure(failure: &Failure) {
    note(format_args!("{}: {failure}", styled(BAD.bold(), "error")));
}
