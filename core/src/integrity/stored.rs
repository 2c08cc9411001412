//! The integrity that is stored with a result: the checksum that came with it, by which every later reader, the
//! submitter included, finds out whether it is still what its worker sent.
//!
//! It costs [`INTEGRITY_BYTES`](crate::limits::INTEGRITY_BYTES) of memory with a final job and as much with the answer of
//! its key, 34 bytes of the journal, and a SHA-256 of the result for each read.

use super::canonical::Rule;
use super::checksum::{result_sha256, result_text, sha256_of};
use super::json::{self, Value};
use crate::encoding::{DecodeError, Encoded, Reader, numbered};
use crate::limits::INTEGRITY_BYTES;
use crate::payload::Payload;

/// The checksum that a result is stored with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ResultIntegrity {
    pub origin: Origin,
    /// Over `canonical({"error":…,"job_id":…,"ok":…,"result":…})`, in either form.
    pub sha256: [u8; 32],
}

/// Who made a stored checksum.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Origin {
    /// The worker.
    Worker,
    /// The worker, and its signature was verified.
    Signed,
    /// The hub, when it accepted a result that came without one.
    Hub,
}

impl ResultIntegrity {
    /// The hub's own checksum of these members, as they are stored; `None` if a text is not JSON.
    pub fn of_hub(error: Option<&Payload>, job_id: &str, ok: bool, result: Option<&Payload>) -> Option<Self> {
        // The error of a success is not stored.
        let error = error.filter(|_| !ok);
        let (error, result) = (value_of(error).ok()?, value_of(result).ok()?);
        Some(ResultIntegrity { origin: Origin::Hub, sha256: result_sha256(error, job_id, ok, result) })
    }

    /// Whether this is the checksum of these members. Texts that are not JSON any more have none.
    pub fn is_of(&self, error: Option<&Payload>, job_id: &str, ok: bool, result: Option<&Payload>) -> bool {
        let (Ok(error), Ok(result)) = (value_of(error), value_of(result)) else { return false };
        // Nearly all texts have the same form under both rules.
        [Rule::AsSent, Rule::Jcs].into_iter().any(|rule| {
            let text = result_text(rule, error, job_id, ok, result);
            sha256_of(&text) == self.sha256
        })
    }

    /// Bytes of memory that it takes.
    pub(crate) fn bytes_of(integrity: &Option<Box<ResultIntegrity>>) -> u64 {
        if integrity.is_some() { INTEGRITY_BYTES } else { 0 }
    }
}

fn value_of(payload: Option<&Payload>) -> Result<Option<Value<'_>>, json::JsonError> {
    payload.map(|payload| json::parse(payload.as_bytes())).transpose()
}

impl Origin {
    const ALL: [Origin; 3] = [Origin::Worker, Origin::Signed, Origin::Hub];

    /// The `mode` that readers see.
    pub const fn mode(self) -> &'static str {
        match self {
            Origin::Worker => "sha256",
            Origin::Signed => "hmac",
            Origin::Hub => "hub",
        }
    }

    /// The inverse of [`Origin::mode`].
    pub fn from_mode(mode: &str) -> Option<Self> {
        Origin::ALL.into_iter().find(|origin| origin.mode() == mode)
    }
}

impl Encoded for ResultIntegrity {
    fn encode(&self, out: &mut Vec<u8>) {
        self.origin.encode(out);
        self.sha256.encode(out);
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(ResultIntegrity { origin: Encoded::decode(from)?, sha256: Encoded::decode(from)? })
    }
}

numbered!(Origin { 0 Worker, 1 Signed, 2 Hub });

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hubs_own_checksum_is_of_one_job_and_of_what_is_stored() {
        let (result, error) = (Payload::new(&b"{\"b\": 1.0}"[..]), Payload::new(&b"\"no\""[..]));
        let of_hub = ResultIntegrity::of_hub(Some(&error), "job_1", true, Some(&result)).expect("they are JSON");
        assert!(of_hub.is_of(None, "job_1", true, Some(&result)), "the error of a success is not stored");
        assert!(!of_hub.is_of(None, "job_2", true, Some(&result)));
        assert_eq!(of_hub.origin, Origin::Hub);
        let failed = ResultIntegrity::of_hub(Some(&error), "job_1", false, None).expect("it is JSON");
        assert!(failed.is_of(Some(&error), "job_1", false, None));
        assert_eq!(ResultIntegrity::of_hub(None, "job_1", true, Some(&Payload::new(&b"{"[..]))), None);
    }
}
