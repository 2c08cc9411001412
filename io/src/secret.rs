//! Secrets: texts that are used and never shown. What is shown of one is the start of its digest.

use sha2::{Digest, Sha256};
use std::fmt;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// A token or a key.
#[derive(Clone)]
pub struct Secret {
    bytes: Zeroizing<Vec<u8>>,
    digest: [u8; 32],
}

impl Secret {
    /// The secret of these bytes.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        let bytes = Zeroizing::new(bytes.into());
        let digest = Sha256::digest(&*bytes).into();
        Secret { bytes, digest }
    }

    /// The bytes, for what must have them.
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

    /// Whether it is the same: compared by digest in constant time, so that neither its length nor its start can be found
    /// out by trying.
    pub fn is(&self, other: &[u8]) -> bool {
        let digest: [u8; 32] = Sha256::digest(other).into();
        digest.ct_eq(&self.digest).into()
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sha256:")?;
        self.digest[..4].iter().try_for_each(|byte| write!(f, "{byte:02x}"))
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
    fn a_secret_is_told_apart_and_never_shown() {
        let secret = Secret::new(*b"correct horse battery");
        assert!(secret.is(b"correct horse battery"));
        for other in [&b""[..], b"correct horse batter", b"correct horse battery ", b"Correct horse battery"] {
            assert!(!secret.is(other));
        }
        let shown = format!("{secret} {secret:?}");
        assert_eq!(shown.len(), "sha256:00000000 Secret(sha256:00000000)".len());
        assert!(!shown.contains("horse"));
    }
}
