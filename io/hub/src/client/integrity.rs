//! The integrity of a final job: whether what the hub shows is what the job's worker sent.

use super::calls::{JobIntegrity, JobView};
use sheratan_core::Payload;
use sheratan_core::integrity::stored::{Origin, ResultIntegrity};

/// What a job's checksum says of its result.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Integrity {
    /// It is of this result.
    Whole,
    /// There is none: no result ended the job, or the hub is of an earlier release.
    Unknown,
    /// It is not of this result.
    Changed,
}

impl JobView {
    /// Whether the result and the error are what the checksum is of. `job_id` is the job that was asked for: the reply
    /// may be of another.
    pub fn integrity_as(&self, job_id: &str) -> Integrity {
        let Some(JobIntegrity { sha256, .. }) = &self.integrity else { return Integrity::Unknown };
        let mut bytes = [0; 32];
        if hex::decode_to_slice(sha256, &mut bytes).is_err() {
            return Integrity::Changed;
        }
        let payload =
            |raw: &Option<Box<serde_json::value::RawValue>>| raw.as_ref().map(|raw| Payload::new(raw.get().as_bytes()));
        let (error, result) = (payload(&self.error), payload(&self.result));
        let integrity = ResultIntegrity { origin: Origin::Worker, sha256: bytes };
        let is_whole = integrity.is_of(error.as_ref(), job_id, self.is_completed(), result.as_ref());
        if is_whole { Integrity::Whole } else { Integrity::Changed }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn job(change: impl FnOnce(&mut serde_json::Value)) -> JobView {
        let result = sheratan_io::integrity::as_json(b"{\"sum\": 41}").unwrap();
        let sent = sheratan_io::integrity::Signer::default().sign(None, "job_1", true, Some(&result));
        let mut job = json!({"job_id": "job_1", "kind": "k", "status": "completed", "result": {"sum": 41},
            "error": null, "integrity": {"mode": "sha256", "sha256": sent.sha256}});
        change(&mut job);
        serde_json::from_value(job).unwrap()
    }

    #[test]
    fn a_result_is_whole_only_as_its_worker_sent_it_and_as_that_of_the_job_that_was_asked_for() {
        assert_eq!(job(|_| {}).integrity_as("job_1"), Integrity::Whole);
        assert_eq!(job(|job| job["integrity"]["mode"] = json!("a later one")).integrity_as("job_1"), Integrity::Whole);
        let changed: [(&str, serde_json::Value); 4] =
            [("result", json!({"sum": 42})), ("result", json!(null)), ("error", json!("e")), ("status", json!("dead"))];
        for (member, value) in changed {
            assert_eq!(job(|job| job[member] = value).integrity_as("job_1"), Integrity::Changed, "{member}");
        }
        assert_eq!(job(|_| {}).integrity_as("job_2"), Integrity::Changed);
        assert_eq!(job(|job| job["integrity"]["sha256"] = json!("12")).integrity_as("job_1"), Integrity::Changed);
        assert_eq!(job(|job| job["integrity"] = json!(null)).integrity_as("job_1"), Integrity::Unknown);
    }
}
