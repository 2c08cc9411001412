//! Corrupt results: a stored result is compared with the checksum that it is stored with whenever it is shown. Memory
//! and disks have checksums of their own, which cover less: from the worker to the reader only this one does.
//!
//! A read costs one SHA-256 of the result, about 3 ms for a MiB.

use crate::object::Object;
use crate::service::Service;
use sheratan_core::integrity::stored::ResultIntegrity;
use sheratan_core::telemetry::Observation;
use sheratan_core::{FinalStatus, Ids, JobSeq, JobView, Millis, Payload, State, Submitted, Timestamp};
use sheratan_core::{Name, Orphan};
use std::collections::BTreeMap;

/// How often the audit log gets a line about a job's result.
const REPORT_EVERY: Millis = Millis::from_secs(3_600);

/// Jobs whose reads are counted; beyond it the one that was reported first is forgotten.
const REPORTED_MAX: usize = 1_024;

/// A stored result that is not what its checksum is of.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Corrupt {
    of: Of,
    mode: &'static str,
    stored_in: &'static str,
}

/// Whose result it is.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Of {
    Job(JobSeq),
    /// A job that the hub does not know, and the orphan's id.
    Orphan(u64, Name),
}

/// Corrupt results that the audit log has a line about.
#[derive(Default, Debug)]
pub struct CorruptResults {
    reported: BTreeMap<Of, Reported>,
}

#[derive(Clone, Copy, Debug)]
struct Reported {
    at: Timestamp,
    /// Reads since then.
    reads: u64,
}

/// What is wrong with a job's result.
pub fn of_job(ids: &Ids, job: JobView<'_>) -> Option<Corrupt> {
    let State::Final { status, result, error, integrity: Some(integrity), .. } = job.state() else { return None };
    check(ids, job.seq(), status, (result.as_ref(), error.as_ref()), integrity, "job")
}

/// What is wrong with the answer that is remembered with a key.
pub fn of_repeat(ids: &Ids, submitted: &Submitted) -> Option<Corrupt> {
    let Submitted::Final { job, status, result, error, integrity: Some(integrity), .. } = submitted else {
        return None;
    };
    check(ids, *job, *status, (result.as_ref(), error.as_ref()), *integrity, "answer")
}

/// What is wrong with the result of an unknown job.
pub fn of_orphan(orphan: &Orphan) -> Option<Corrupt> {
    let integrity = orphan.parked.integrity.as_ref().filter(|_| !orphan.parked.is_whole())?;
    let of = Of::Orphan(orphan.id, orphan.parked.job_id.clone());
    Some(Corrupt { of, mode: integrity.origin.mode(), stored_in: "orphan" })
}

fn check(
    ids: &Ids,
    job: JobSeq,
    status: FinalStatus,
    (result, error): (Option<&Payload>, Option<&Payload>),
    integrity: ResultIntegrity,
    stored_in: &'static str,
) -> Option<Corrupt> {
    let is_whole = integrity.is_of(error, &ids.job_id(job).to_string(), status == FinalStatus::Completed, result);
    (!is_whole).then(|| Corrupt { of: Of::Job(job), mode: integrity.origin.mode(), stored_in })
}

/// The checksum of a result, as readers see it.
pub fn write_integrity(out: &mut Object, integrity: Option<&ResultIntegrity>) {
    match integrity {
        Some(ResultIntegrity { origin, sha256 }) => out.object("integrity", |out| {
            out.plain("mode", origin.mode()).plain("sha256", hex::encode(sha256));
        }),
        None => out.raw("integrity", b"null"),
    };
}

impl CorruptResults {
    /// Counts a read of a corrupt result; returns how many there were since the last line, if it is time for one.
    fn read(&mut self, now: Timestamp, of: Of) -> Option<u64> {
        if let Some(reported) = self.reported.get_mut(&of) {
            reported.reads += 1;
            if now < reported.at + REPORT_EVERY {
                return None;
            }
        } else if self.reported.len() == REPORTED_MAX {
            let oldest = self.reported.iter().min_by_key(|(_, reported)| reported.at).map(|(of, _)| of.clone());
            self.reported.remove(&oldest.expect("it is full"));
        }
        let before = self.reported.insert(of, Reported { at: now, reads: 0 });
        Some(before.map_or(1, |before| before.reads))
    }
}

impl Service {
    /// Reports a corrupt result that was found by a read. While the audit log takes no lines, a later read reports it.
    pub fn note_corrupt(&mut self, corrupt: Option<Corrupt>) {
        let Some(Corrupt { of, mode, stored_in }) = corrupt else { return };
        let now = self.hub.now();
        self.hub.observe(now, Observation::ResultCorrupt);
        if !self.stalls.is_audit_free() {
            return;
        }
        let Some(reads) = self.corrupt_results.read(now, of.clone()) else { return };
        let (job_id, orphan) = match of {
            Of::Job(job) => (self.hub.ids().job_id(job).to_string(), None),
            Of::Orphan(orphan, job_id) => (job_id.to_string(), Some(orphan)),
        };
        tracing::error!(%job_id, stored_in, "a stored result no longer matches its checksum: check memory and disk");
        self.audit(now, "RESULT_CORRUPT", |out| {
            out.text("job_id", &job_id);
            if let Some(orphan) = orphan {
                out.number("orphan_id", orphan);
            }
            out.plain("mode", mode).plain("stored_in", stored_in).number("reads", reads);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_has_one_line_an_hour_with_the_reads_since_the_last_one() {
        let mut results = CorruptResults::default();
        let mut read = |ms: u64, job| results.read(Timestamp::from_millis(ms), Of::Job(JobSeq::new(job)));
        assert_eq!([read(0, 1), read(1, 1), read(1, 2), read(3_599_999, 1)], [Some(1), None, Some(1), None]);
        assert_eq!([read(3_600_000, 1), read(3_600_001, 1), read(3_600_001, 2)], [Some(3), None, Some(1)]);
    }

    #[test]
    fn the_job_that_was_reported_first_is_forgotten_for_one_too_many() {
        let mut results = CorruptResults::default();
        for job in 1..=REPORTED_MAX as u64 + 1 {
            assert_eq!(results.read(Timestamp::from_millis(job), Of::Job(JobSeq::new(job))), Some(1));
        }
        assert_eq!(results.reported.len(), REPORTED_MAX);
        let now = Timestamp::from_millis(5_000);
        assert_eq!([1, 3].map(|job| results.read(now, Of::Job(JobSeq::new(job)))), [Some(1), None]);
    }
}
