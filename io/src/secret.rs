//! Secrets: texts that are used and never shown. Instead of one, the start of its digest is shown.

use sha2::{Digest, Sha256};
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// A token or a key.
#[derive(Clone)]
pub struct Secret {
    bytes: Zeroizing<Vec<u8>>,
    digest: [u8; 32],
}

/// The most bytes of a file that holds a secret: a page, twice the longest tokens in use. A wrong path may lead to a
/// large file or a device, which must not be read to its end.
const FILE_BYTES_MAX: u64 = 4_096;

/// Why a file holds no secret. The message follows the file's path.
#[derive(Debug)]
pub enum SecretFileError {
    /// It cannot be read.
    Read(io::Error),
    /// It contains only white space.
    Empty,
    /// It is too large to be a secret.
    Size,
    /// It is a text in UTF-16.
    Utf16,
}

impl Secret {
    /// The secret in a file, without the white space around it.
    pub fn read(path: &Path) -> Result<Self, SecretFileError> {
        let mut bytes = Zeroizing::new(Vec::with_capacity(FILE_BYTES_MAX as usize + 1));
        let file = File::open(path).map_err(SecretFileError::Read)?;
        file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(SecretFileError::Read)?;
        if bytes.len() as u64 > FILE_BYTES_MAX {
            return Err(SecretFileError::Size);
        }
        // Editors of some systems begin a text with a byte order mark.
        match bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes).trim_ascii() {
            [] => Err(SecretFileError::Empty),
            [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => Err(SecretFileError::Utf16),
            secret => Ok(Secret::new(secret)),
        }
    }

    /// The secret of these bytes.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        let bytes = Zeroizing::new(bytes.into());
        let digest = Sha256::digest(&*bytes).into();
        Secret { bytes, digest }
    }

    /// The secret's bytes.
    pub fn expose(&self) -> &[u8] {
        &self.bytes
    }

    /// How many bytes it has.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Whether both are equal, compared by digest in constant time, so that neither length nor start can be found out
    /// by trying.
    pub fn is(&self, other: &[u8]) -> bool {
        let digest: [u8; 32] = Sha256::digest(other).into();
        digest.ct_eq(&self.digest).into()
    }
}

impl fmt::Display for SecretFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SecretFileError::Read(error) => write!(f, "cannot be read: {error}"),
            SecretFileError::Empty => f.write_str("is empty"),
            SecretFileError::Utf16 => f.write_str("is UTF-16: save it as UTF-8 or ASCII"),
            SecretFileError::Size => write!(f, "has more than {FILE_BYTES_MAX} bytes: is it the right file?"),
        }
    }
}

impl std::error::Error for SecretFileError {}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sha256:")?;
        f.write_str(&hex::encode(&self.digest[..4]))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_distinguished_and_never_shown() {
        let secret = Secret::new(*b"correct horse battery");
        assert!(secret.is(b"correct horse battery"));
        for other in [&b""[..], b"correct horse batter", b"correct horse battery ", b"Correct horse battery"] {
            assert!(!secret.is(other));
        }
        let shown = format!("{secret} {secret:?}");
        assert_eq!(shown.len(), "sha256:00000000 Secret(sha256:00000000)".len());
        assert!(!shown.contains("horse"));
    }

    #[test]
    fn a_secret_is_read_without_the_white_space_around_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        let said = || Secret::read(&path).unwrap_err().to_string();
        assert!(said().starts_with("cannot be read: "));
        for (text, secret) in [("abc", "abc"), ("abc\n", "abc"), ("\t abc d \r\n", "abc d"), ("\u{feff}abc\r\n", "abc")]
        {
            std::fs::write(&path, text).unwrap();
            assert!(Secret::read(&path).unwrap().is(secret.as_bytes()), "{text:?}");
        }
        std::fs::write(&path, " \n").unwrap();
        assert_eq!(said(), "is empty");
        std::fs::write(&path, b"\xff\xfea\0b\0").unwrap();
        assert_eq!(said(), "is UTF-16: save it as UTF-8 or ASCII");
        std::fs::write(&path, "x".repeat(4_096)).unwrap();
        assert_eq!(Secret::read(&path).unwrap().len(), 4_096);
        std::fs::write(&path, "x".repeat(4_097)).unwrap();
        assert_eq!(said(), "has more than 4096 bytes: is it the right file?");
    }
}
