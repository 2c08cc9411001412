//! Integrity of results: the checksum or signature that a node sends with a result, checked before the hub gets it.

use crate::secret::Secret;
use crate::service::problem::{Problem, SignatureKeys};
use crate::service::{Caller, Service, rules};
use sha2::{Digest, Sha256};
use sheratan_core::integrity::checksum::{self, Claimed};
use sheratan_core::integrity::json::Value;
use sheratan_core::integrity::stored::{Origin, ResultIntegrity};
use sheratan_core::telemetry::Observation;
use sheratan_core::{Name, Timestamp};

/// A result as it was sent: what its checksum is over, and what came with it.
pub(super) struct SentResult<'a> {
    pub claimed: Claimed<'a>,
    pub error: Option<Value<'a>>,
    pub job_id: &'a str,
    pub ok: bool,
    pub result: Option<Value<'a>>,
    pub node: Option<&'a Name>,
}

impl Service {
    /// Checks a result's checksum or signature; returns the start of the hash that distinguishes it from other results,
    /// and the checksum to store it with.
    pub(super) fn check_integrity(
        &mut self,
        now: Timestamp,
        caller: &Caller,
        sent: &SentResult,
    ) -> Result<(u64, ResultIntegrity), Problem> {
        let SentResult { claimed, error, job_id, ok, result, node } = sent;
        let (error, ok, result) = (*error, *ok, *result);
        if claimed.sha256.is_none() && claimed.sig.is_none() && !self.settings.is_integrity_required {
            self.hub.observe(now, Observation::IntegrityMissing);
            let mut hasher = Sha256::new();
            hasher.update([u8::from(ok)]);
            hasher.update(result.map_or(&b"null"[..], |value| value.as_bytes()));
            hasher.update(error.map_or(&b"null"[..], |value| value.as_bytes()));
            let own = stored_as(error, job_id, ok, result);
            return Ok((first_bytes(&hasher.finalize().into()), own));
        }
        let mode = self.settings.integrity_mode;
        self.end_rotation(now);
        let keys: Vec<_> = self.settings.result_keys.accepted().collect();
        let (roles, keys): (Vec<_>, Vec<_>) = keys.into_iter().map(|(role, key)| (role, key.expose())).unzip();
        match rules::verify_result(mode, &keys, claimed, error, job_id, ok, result) {
            Ok(verified) => {
                self.hub.observe(now, Observation::IntegrityVerified);
                if let Some(index) = verified.signed_with {
                    self.note_signed(now, caller, *node, roles[index]);
                }
                // The error of a success is not stored, so the worker's checksum would not be of what is.
                let is_stored = !ok || error.is_none();
                let own = || stored_as(error, job_id, ok, result);
                Ok((first_bytes(&verified.sha256), if is_stored { verified.integrity } else { own() }))
            }
            Err(failure) => {
                let replaced = self.settings.result_keys.replaced().map(Secret::expose);
                let is_by_replaced = failure == checksum::Failure::SigMismatch
                    && checksum::verify_result(mode, replaced.as_slice(), claimed, error, job_id, ok, result).is_ok();
                let refuser = match (is_by_replaced, self.settings.result_keys.is_empty()) {
                    (true, _) => SignatureKeys::Replaced,
                    (false, true) => SignatureKeys::None,
                    (false, false) => SignatureKeys::Other,
                };
                let is_missing = failure == checksum::Failure::MissingIntegrity;
                let observation = if is_missing { Observation::IntegrityMissing } else { Observation::IntegrityFailed };
                self.hub.observe(now, observation);
                self.audit(now, "RESULT_INTEGRITY_FAIL", |out| {
                    out.text("job_id", job_id).plain("mode", mode.as_str());
                    out.plain("reason", failure.as_str()).plain("ip", caller.ip);
                    if is_by_replaced {
                        out.flag("old_key", true);
                    }
                });
                Err(Problem::integrity(failure, refuser))
            }
        }
    }
}

/// The hub's own checksum of what it stores of a result.
fn stored_as(error: Option<Value>, job_id: &str, ok: bool, result: Option<Value>) -> ResultIntegrity {
    let sha256 = checksum::result_sha256(error.filter(|_| !ok), job_id, ok, result);
    ResultIntegrity { origin: Origin::Hub, sha256 }
}

/// The first eight bytes of a hash, as a number.
pub(super) fn first_bytes(sha256: &[u8; 32]) -> u64 {
    u64::from_le_bytes(*sha256.first_chunk().expect("a hash has 32 bytes"))
}
