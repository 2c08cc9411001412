//! Integrity of results: the checksum or signature that a node sends with a result, checked before the hub gets it.

use crate::secret::Secret;
use crate::service::problem::Problem;
use crate::service::{Caller, Service};
use sha2::{Digest, Sha256};
use sheratan_core::integrity::checksum::{self, Claimed};
use sheratan_core::integrity::json::Value;
use sheratan_core::telemetry::Observation;
use sheratan_core::{ResultMark, Timestamp};

impl Service {
    /// Checks a result's checksum or signature; returns the mark that distinguishes it from other results.
    #[expect(clippy::too_many_arguments, reason = "the members that the checksum is over, each once")]
    pub(super) fn check_integrity(
        &mut self,
        now: Timestamp,
        caller: &Caller,
        claimed: &Claimed,
        error: Option<Value>,
        job_id: &str,
        ok: bool,
        result: Option<Value>,
    ) -> Result<ResultMark, Problem> {
        if claimed.sha256.is_none() && claimed.sig.is_none() && !self.settings.is_integrity_required {
            self.hub.observe(now, Observation::IntegrityMissing);
            let mut hasher = Sha256::new();
            hasher.update([u8::from(ok)]);
            hasher.update(result.map_or(&b"null"[..], |value| value.as_bytes()));
            hasher.update(error.map_or(&b"null"[..], |value| value.as_bytes()));
            return Ok(mark_of(&hasher.finalize().into()));
        }
        let mode = self.settings.integrity_mode;
        let key = self.settings.result_hmac_key.as_ref().map(Secret::expose);
        match checksum::verify_result(mode, key, claimed, error, job_id, ok, result) {
            Ok(verified) => {
                self.hub.observe(now, Observation::IntegrityVerified);
                Ok(mark_of(&verified.sha256))
            }
            Err(failure) => {
                let is_missing = failure == checksum::Failure::MissingIntegrity;
                let observation = if is_missing { Observation::IntegrityMissing } else { Observation::IntegrityFailed };
                self.hub.observe(now, observation);
                self.audit(now, "RESULT_INTEGRITY_FAIL", |out| {
                    out.text("job_id", job_id).plain("mode", mode.as_str());
                    out.plain("reason", failure.as_str()).plain("ip", caller.ip);
                });
                Err(Problem::integrity(failure, self.settings.result_hmac_key.is_some()))
            }
        }
    }
}

fn mark_of(sha256: &[u8; 32]) -> ResultMark {
    ResultMark::Content(first_bytes(sha256))
}

/// The first eight bytes of a hash, as a number.
pub(super) fn first_bytes(sha256: &[u8; 32]) -> u64 {
    u64::from_le_bytes(*sha256.first_chunk().expect("a hash has 32 bytes"))
}
