//! Names: the short texts that clients give to nodes, kinds, zones and capabilities.

use crate::encoding::{DecodeError, Encoded, Reader, put_bytes};
use crate::limits::{HEAP_HEADER_BYTES, NAME_BYTES_MAX};
use std::borrow::Borrow;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

/// A name: 1 to 256 bytes of UTF-8 without control characters. Shared, so that a million jobs of a kind hold one copy.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Name(Arc<str>);

/// Why a text is not a valid name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NameError {
    Empty,
    /// It has more than [`NAME_BYTES_MAX`] bytes.
    TooLong,
    /// It has a control character (a line break would forge a log line).
    ControlCharacter,
}

impl Name {
    /// O(length).
    pub fn new(text: &str) -> Result<Self, NameError> {
        if text.is_empty() {
            return Err(NameError::Empty);
        }
        if text.len() > NAME_BYTES_MAX {
            return Err(NameError::TooLong);
        }
        if text.chars().any(char::is_control) {
            return Err(NameError::ControlCharacter);
        }
        Ok(Name(Arc::from(text)))
    }

    /// Bytes of memory that the text takes, its reference counts included.
    pub(crate) fn bytes(&self) -> u64 {
        HEAP_HEADER_BYTES + self.len() as u64
    }
}

impl Deref for Name {
    type Target = str;
    fn deref(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NameError::Empty => f.write_str("must not be empty"),
            NameError::TooLong => write!(f, "must have at most {NAME_BYTES_MAX} bytes"),
            NameError::ControlCharacter => f.write_str("must not contain control characters"),
        }
    }
}

impl std::error::Error for NameError {}

impl Encoded for Name {
    fn encode(&self, out: &mut Vec<u8>) {
        put_bytes(self.as_bytes(), out);
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let text = std::str::from_utf8(from.bytes()?).map_err(|_| DecodeError::Malformed("name"))?;
        Name::new(text).map_err(|_| DecodeError::Malformed("name"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_between_one_byte_and_the_limit_and_no_control_character() {
        assert_eq!(Name::new("").unwrap_err(), NameError::Empty);
        assert!(Name::new(&"a".repeat(NAME_BYTES_MAX)).is_ok());
        assert_eq!(Name::new(&"a".repeat(NAME_BYTES_MAX + 1)).unwrap_err(), NameError::TooLong);
        for bad in ["a\nb", "\u{7f}", "\u{0}", "\u{85}"] {
            assert_eq!(Name::new(bad).unwrap_err(), NameError::ControlCharacter, "{bad:?}");
        }
        assert_eq!(&*Name::new("gpu:false é").unwrap(), "gpu:false é");
    }
}
