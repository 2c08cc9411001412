//! Integrity: the checksum, and with a key the signature, that a worker sends with a result.

use crate::secret::Secret;
use serde::Serialize;
use serde_json::value::RawValue;
use sheratan_core::integrity::checksum::{self, Mode};
use sheratan_core::integrity::json::{self, Value};
use std::fmt;

/// A checksum or signature over a result.
#[derive(Clone, Default, Serialize, Debug)]
pub struct Integrity {
    /// `sha256` or `hmac`.
    pub mode: &'static str,
    /// In hex.
    pub sha256: String,
    /// In hex.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sig: Option<String>,
}

/// Makes checksums, and signatures if it has the hub's key for results.
#[derive(Clone, Default)]
pub struct Signer {
    key: Option<Secret>,
}

impl Signer {
    /// A signer with a key; without one it makes checksums only.
    pub fn new(key: Option<Secret>) -> Self {
        Signer { key }
    }

    /// The integrity of a result, independent of its JSON's spelling.
    pub fn sign(&self, error: Option<&RawValue>, job_id: &str, ok: bool, result: Option<&RawValue>) -> Integrity {
        let (error, result) = (error.map(value_of), result.map(value_of));
        let sha256 = hex::encode(checksum::result_sha256(error, job_id, ok, result));
        let sig = self.key.as_ref().map(|key| {
            let signature = checksum::result_signature(key.expose(), error, job_id, ok, result);
            hex::encode(signature)
        });
        let mode = if sig.is_some() { Mode::Hmac } else { Mode::Sha256 };
        Integrity { mode: mode.as_str(), sha256, sig }
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signer({})", if self.key.is_some() { "with a key" } else { "without a key" })
    }
}

/// Bytes as JSON that the hub accepts, unchanged; `None` otherwise. Duplicate keys and the like are JSON to some
/// readers and not to others: the hub refuses them.
pub fn as_json(bytes: &[u8]) -> Option<Box<RawValue>> {
    let value = json::parse(bytes).ok()?;
    RawValue::from_string(value.text().to_owned()).ok()
}

fn value_of(raw: &RawValue) -> Value<'_> {
    json::parse(raw.get().as_bytes()).expect("results and errors are made by `as_json` or by serde")
}

#[cfg(test)]
mod tests {
    use super::*;
    use sheratan_core::integrity::checksum::{Claimed, verify_result};

    #[test]
    fn what_is_signed_here_is_what_the_hub_verifies() {
        let result = as_json(br#" {"b": 1.0, "a": [1e3, "\u00e4"]} "#).unwrap();
        let error = as_json(b"null").unwrap();
        for (key, mode) in [(None, Mode::Sha256), (Some("k3y"), Mode::Hmac)] {
            let signer = Signer::new(key.map(Secret::new));
            let integrity = signer.sign(Some(&error), "job_1", true, Some(&result));
            assert_eq!(integrity.mode, mode.as_str());
            let claimed = Claimed { sha256: Some(integrity.sha256.into()), sig: integrity.sig.map(Into::into) };
            let value = json::parse(result.get().as_bytes()).unwrap();
            let key = key.map(str::as_bytes);
            let keys = key.as_slice();
            assert!(verify_result(mode, keys, &claimed, None, "job_1", true, Some(value)).is_ok());
            assert!(verify_result(mode, keys, &claimed, None, "job_1", false, Some(value)).is_err());
        }
    }

    #[test]
    fn only_json_that_the_hub_takes_is_json() {
        assert_eq!(as_json(b" {\"a\": 1} \n").unwrap().get(), "{\"a\": 1}");
        for text in ["{\"a\":1,\"a\":2}", "\"\\ud800\"", "1 2", "", "hello"] {
            assert!(as_json(text.as_bytes()).is_none(), "{text}");
        }
    }

    #[test]
    fn a_signer_never_shows_its_key() {
        let signer = Signer::new(Some(Secret::new("k3y")));
        assert_eq!(format!("{signer:?}"), "Signer(with a key)");
    }
}
