//! Terminal: lines and colours on the standard streams.
//!
//! Colours are left out where the stream is no terminal or `NO_COLOR` is set.

use super::failure::Failure;
use anstyle::{AnsiColor, Style};
use std::fmt::Display;
use std::io::{self, Write};

/// What went well.
pub const GOOD: Style = AnsiColor::Green.on_default();
/// What went wrong.
pub const BAD: Style = AnsiColor::Red.on_default();
/// What needs a look.
pub const WARN: Style = AnsiColor::Yellow.on_default();
/// What matters.
pub const BOLD: Style = Style::new().bold();
/// What may be passed over.
pub const DIM: Style = Style::new().dimmed();

/// A text in a style.
pub fn styled(style: Style, text: impl Display) -> String {
    format!("{style}{text}{style:#}")
}

/// A line on standard output. A reader that has gone away (`| head`) ends the process quietly, as it ends `cat`.
pub fn line(text: impl Display) {
    end_if_gone(writeln!(anstream::stdout(), "{text}"));
}

/// A line on standard output, as it is: what is in it is not touched.
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

/// A line on standard error.
pub fn note(text: impl Display) {
    // Nobody is left to be told that nobody reads the notes.
    let _ = writeln!(anstream::stderr(), "{text}");
}

/// Why the command ends.
pub fn failure(failure: &Failure) {
    note(format_args!("{}: {failure}", styled(BAD.bold(), "error")));
}
