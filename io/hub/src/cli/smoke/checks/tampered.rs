//! A result that is changed on its way: nothing of its job changes, and the operator learns of it.

use super::{
    ASK_EVERY, AUDIT_MAX, Checks, JOB_TTL_SEC, NODE, Verdict, entries, expect, expect_refusal, is_now, parse, said,
    verdict,
};
use crate::client::calls::{JobResult, LeaseState, Report};
use crate::client::{Auth, Plane};
use serde_json::Value;
use serde_json::value::RawValue;
use std::time::{Duration, Instant};

const EVENT: &str = "RESULT_INTEGRITY_FAIL";

impl Checks {
    /// The next check submits the honest result.
    pub(super) fn tampered(&mut self) -> Verdict {
        verdict(self.refuse_tampered().and_then(|job_id| self.reported(&job_id)))
    }

    /// Submits two tampered results; returns the job's id.
    fn refuse_tampered(&self) -> Result<String, String> {
        let [first, second] = self.leased()?;
        let honest = self.result_of(first, r#"{"echo":[1,"ä"]}"#);
        let other = RawValue::from_string(r#"{"echo":[2,"ä"]}"#.to_owned()).expect("it is JSON");
        let of_another_job = self.result_of(second, r#"{"echo":[1,"ä"]}"#).integrity;
        let tampered =
            [JobResult { result: Some(other), ..honest.clone() }, JobResult { integrity: of_another_job, ..honest }];
        for tampered in tampered {
            let answer = self.client.submit_result(&tampered).map(|_| ());
            expect_refusal(answer, 403, "result_integrity_fail")?;
        }
        let job = self.client.job(&first.job_id, Duration::ZERO).map_err(said)?;
        if job.status != "leased" || job.attempts.len() != 1 {
            return Err(format!("{}, with {} attempts", is_now(&job.status), job.attempts.len()));
        }
        let extended = self.client.extend(NODE, &first.lease_id, JOB_TTL_SEC, &Report::default()).map_err(said)?;
        if !matches!(extended, LeaseState::Done { .. }) {
            return Err(format!("its lease is not the same: {extended:?}"));
        }
        Ok(first.job_id.clone())
    }

    fn reported(&self, job_id: &str) -> Result<String, String> {
        let metrics = self.exchange(Plane::Data, None, "/api/metrics", Auth::Own)?;
        expect(&metrics, 200)?;
        let counted = parse::<Value>(&metrics)?["integrity_fail_1m"].as_u64().unwrap_or(0);
        if counted < 2 {
            return Err(format!("two results were refused, and integrity_fail_1m is {counted}"));
        }
        let started = Instant::now();
        loop {
            let (page, _) = self.audit_page()?;
            let lines = || entries(&page).filter(|line| line["event"] == EVENT);
            match lines().filter(|line| line["details"]["job_id"] == job_id).count() {
                0 if lines().any(|line| !line["count"].is_null() || !line["details"]["count"].is_null()) => {
                    return Ok("and the job stays leased; the audit log has only a count".to_owned());
                }
                0 if started.elapsed() > AUDIT_MAX => {
                    return Err(format!("no {EVENT} of the job within {} s", AUDIT_MAX.as_secs()));
                }
                0 => std::thread::sleep(ASK_EVERY),
                _ => return Ok("and the job stays leased, under the same lease".to_owned()),
            }
        }
    }
}
