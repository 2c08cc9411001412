//! Build: which program wrote a file of the journal, so that a divergence can name both builds.

use serde::{Serialize, Serializer};
use std::fmt;

/// Bytes of a name in a header; a shorter name is padded with zeros.
pub const BUILD_BYTES: usize = 64;

/// A build's name: the package's version and, after a `+`, the value of `SHERATAN_BUILD` at compile time (usually a
/// commit). UTF-8 without control characters, never empty.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Build([u8; BUILD_BYTES]);

impl Build {
    /// This program.
    pub const THIS: Build = Build::new(env!("SHERATAN_BUILD_NAME"));

    /// A name of one to [`BUILD_BYTES`] bytes without control characters; panics on any other.
    pub const fn new(name: &str) -> Build {
        let name = name.as_bytes();
        assert!(!name.is_empty() && name.len() <= BUILD_BYTES, "a build's name has 1 to 64 bytes");
        let (mut bytes, mut at) = ([0; BUILD_BYTES], 0);
        while at < name.len() {
            assert!(name[at] >= b' ' && name[at] != 0x7f, "a build's name has no control characters");
            bytes[at] = name[at];
            at += 1;
        }
        Build(bytes)
    }

    /// Reads the name in a header; `None` if it is not valid.
    pub(crate) fn decode(bytes: [u8; BUILD_BYTES]) -> Option<Build> {
        let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(BUILD_BYTES);
        let name = std::str::from_utf8(&bytes[..end]).ok()?;
        let is_name = end > 0 && !name.contains(char::is_control) && bytes[end..].iter().all(|byte| *byte == 0);
        is_name.then_some(Build(bytes))
    }

    pub(crate) fn as_bytes(&self) -> &[u8; BUILD_BYTES] {
        &self.0
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        let end = self.0.iter().position(|byte| *byte == 0).unwrap_or(BUILD_BYTES);
        std::str::from_utf8(&self.0[..end]).expect("it was made of text, or checked when it was read")
    }
}

impl fmt::Display for Build {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Build {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Build({self})")
    }
}

impl Serialize for Build {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_reads_back_and_an_invalid_one_is_refused() {
        let longest = "x".repeat(BUILD_BYTES);
        for name in ["1.0.0", "1.0.0+0123abcd", "é", &longest] {
            let build = Build::new(name);
            assert_eq!((build.as_str(), Build::decode(*build.as_bytes())), (name, Some(build)));
        }
        let padded = |name: &[u8]| {
            let mut bytes = [0; BUILD_BYTES];
            bytes[..name.len()].copy_from_slice(name);
            bytes
        };
        for name in [&b""[..], b"1.0\n", b"1.0\0rc", b"\xff", b"\xc2\x85"] {
            assert_eq!(Build::decode(padded(name)), None, "{name:?}");
        }
    }

    #[test]
    fn this_build_begins_with_the_version_of_the_package() {
        assert!(Build::THIS.as_str().starts_with(env!("CARGO_PKG_VERSION")), "{}", Build::THIS);
    }
}
