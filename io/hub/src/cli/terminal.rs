//! Terminal: lines and colours on the standard streams.
//!
//! All that the command line prints passes here, and nothing that cannot be printed ends a process: the lints
//! `print_stdout` and `print_stderr` hold in the whole crate. Colours are left out if the stream is not a terminal or
//! `NO_COLOR` is set.

use anstyle::{AnsiColor, Style};
use std::borrow::Cow;
use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicU8, Ordering};

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

/// Prints a line on standard output.
pub fn line(text: impl Display) {
    remember(out(format!("{text}\n").as_bytes()));
}

/// Prints a line of JSON on standard output: unchanged, unless that is a terminal. There what it could take for a
/// command is escaped, which JSON allows.
pub fn json(line: impl AsRef<[u8]>) {
    let line = line.as_ref();
    let mut out = io::stdout().lock();
    let written = match std::str::from_utf8(line) {
        Ok(text) if out.is_terminal() => writeln!(out, "{}", shown_json(text)),
        _ => out.write_all(line).and_then(|()| out.write_all(b"\n")),
    };
    remember(written);
}

/// Writes bytes to standard output, with colours if it is a terminal.
pub fn out(bytes: &[u8]) -> io::Result<()> {
    let mut out = anstream::stdout().lock();
    out.write_all(bytes).and_then(|()| out.flush())
}

/// What became of standard output.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Output {
    /// Everything was written.
    Whole,
    /// Its reader has gone (`| head`): nobody wants more.
    Closed,
    /// It could not be written.
    Failed,
}

/// 0 whole, 1 closed, 2 failed. What is only said never ends the process; a command asks for this where output is all
/// that it does.
static OUTPUT: AtomicU8 = AtomicU8::new(0);

/// What became of standard output so far.
pub fn output() -> Output {
    match OUTPUT.load(Ordering::Relaxed) {
        0 => Output::Whole,
        1 => Output::Closed,
        _ => Output::Failed,
    }
}

fn remember(written: io::Result<()>) {
    let Err(error) = written else { return };
    let is_closed = error.kind() == io::ErrorKind::BrokenPipe;
    if OUTPUT.swap(if is_closed { 1 } else { 2 }, Ordering::Relaxed) == 0 && !is_closed {
        note(format_args!("{}: standard output cannot be written: {error}", styled(BAD.bold(), "error")));
    }
}

/// Prints a line on standard error.
pub fn note(text: impl Display) {
    // A failure to write to standard error cannot be reported anywhere.
    _ = writeln!(anstream::stderr(), "{text}");
}

/// Prints a warning on standard error.
pub fn warning(text: impl Display) {
    note(format_args!("{}: {text}", styled(WARN.bold(), "warning")));
}

/// Prints why the command failed.
pub fn failure(failure: impl Display) {
    let text = failure.to_string();
    let lines: Vec<_> = text.lines().map(printable).collect();
    note(format_args!("{}: {}", styled(BAD.bold(), "error"), lines.join("\n")));
}

/// A text without what a terminal takes for a command or does not show: names, paths, messages of jobs and of hubs come
/// from others.
pub fn printable(text: &str) -> Cow<'_, str> {
    if text.chars().all(is_shown) {
        return Cow::Borrowed(text);
    }
    let escape = |letter: char| if is_shown(letter) { letter.to_string() } else { letter.escape_default().to_string() };
    Cow::Owned(text.chars().map(escape).collect())
}

/// JSON with what is not shown escaped. Such letters stand only in its strings.
fn shown_json(text: &str) -> Cow<'_, str> {
    if text.chars().all(is_shown) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len());
    for letter in text.chars() {
        if is_shown(letter) || letter == '\t' {
            shown.push(letter);
        } else {
            letter.encode_utf16(&mut [0; 2]).iter().for_each(|unit| shown += &format!("\\u{unit:04x}"));
        }
    }
    Cow::Owned(shown)
}

/// Whether a terminal shows a letter as itself. Not so: controls, white space that looks like a space, and what Unicode
/// calls format characters (which reorder text or are invisible), fillers, variation selectors and tags.
fn is_shown(letter: char) -> bool {
    const HIDDEN: [RangeInclusive<char>; 24] = [
        '\u{ad}'..='\u{ad}',
        '\u{34f}'..='\u{34f}',
        '\u{600}'..='\u{605}',
        '\u{61c}'..='\u{61c}',
        '\u{6dd}'..='\u{6dd}',
        '\u{70f}'..='\u{70f}',
        '\u{8e2}'..='\u{8e2}',
        '\u{115f}'..='\u{1160}',
        '\u{17b4}'..='\u{17b5}',
        '\u{180b}'..='\u{180f}',
        '\u{200b}'..='\u{200f}',
        '\u{202a}'..='\u{202e}',
        '\u{2060}'..='\u{206f}',
        '\u{2800}'..='\u{2800}',
        '\u{3164}'..='\u{3164}',
        '\u{fe00}'..='\u{fe0f}',
        '\u{feff}'..='\u{feff}',
        '\u{ffa0}'..='\u{ffa0}',
        '\u{fff0}'..='\u{fffb}',
        '\u{110bd}'..='\u{110cd}',
        '\u{13430}'..='\u{1345f}',
        '\u{1bca0}'..='\u{1bca3}',
        '\u{1d173}'..='\u{1d17a}',
        '\u{e0000}'..='\u{e0fff}',
    ];
    letter == ' '
        || !(letter.is_control() || letter.is_whitespace() || HIDDEN.iter().any(|range| range.contains(&letter)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_takes_for_a_command_or_hides_is_escaped() {
        for (text, shown) in [
            ("plain ä 漢 ✓ …", "plain ä 漢 ✓ …"),
            ("\u{1b}[2J\u{7}\u{9b}1m", r"\u{1b}[2J\u{7}\u{9b}1m"),
            ("a\u{202e}b\u{200b}c\u{feff}\u{2066}", r"a\u{202e}b\u{200b}c\u{feff}\u{2066}"),
            ("a\tb\nc\u{a0}\u{3164}\u{e0041}", r"a\tb\nc\u{a0}\u{3164}\u{e0041}"),
        ] {
            assert_eq!(printable(text), shown);
        }
    }

    #[test]
    fn json_on_a_terminal_is_the_same_json() {
        let text = "{\"a\":\"\u{9b}2J\u{202e}\u{e0041}ä\"}";
        let shown = shown_json(text);
        assert!(shown.chars().all(is_shown), "{shown}");
        let value = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
        assert_eq!(value(&shown), value(text));
    }
}
