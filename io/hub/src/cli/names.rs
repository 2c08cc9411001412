//! Names on the command line: trimmed, and refused if they are empty or hold what nobody sees.
//!
//! A variable of a script may be empty, a list may have a space behind its comma: the hub would take ` b` for another
//! kind than `b`, and nobody would see why its jobs wait.

use super::terminal::printable;
use clap::builder::{OsStringValueParser, TypedValueParser};
use std::path::PathBuf;

/// A name: of a kind, a node, a zone, a capability.
pub fn name(text: &str) -> Result<String, String> {
    let name = text.trim();
    match printable(name) {
        _ if name.is_empty() => Err("a name is empty (leave the flag out for its default)".to_owned()),
        shown if shown != name => Err(format!("{shown} has a letter that is not shown")),
        _ => Ok(name.to_owned()),
    }
}

/// A text that is not blank, unchanged.
pub fn not_blank(text: &str) -> Result<String, String> {
    if text.trim().is_empty() { Err("it is empty".to_owned()) } else { Ok(text.to_owned()) }
}

/// A path, which may be empty: a variable that is set and empty names nothing.
pub fn path() -> impl TypedValueParser<Value = PathBuf> {
    OsStringValueParser::new().map(PathBuf::from)
}

/// A data folder; the default if the variable is set and empty.
pub fn data_dir() -> impl TypedValueParser<Value = PathBuf> {
    OsStringValueParser::new().map(|path| if path.is_empty() { PathBuf::from(".sheratan") } else { path.into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_trimmed_and_never_empty_or_invisible() {
        for (text, expected) in [("a", "a"), (" b\t", "b"), ("\u{a0}ä 1\r\n", "ä 1")] {
            assert_eq!(name(text).as_deref(), Ok(expected), "{text:?}");
        }
        for text in ["", " ", "\u{200b}", "a\u{200b}", "a\u{202e}b", "a\nb", "\u{feff}a"] {
            assert!(name(text).is_err(), "{text:?}");
        }
        assert!(not_blank(" \n").is_err());
        assert_eq!(not_blank(" x ").as_deref(), Ok(" x "));
    }
}
