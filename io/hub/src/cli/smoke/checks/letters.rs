//! A dead letter: kept with its error, requeued by an operator, completed like any other job.

use super::{ASK_EVERY, AUDIT_MAX, Checks, LEASE_SEC, NODE, Verdict, entries, expect_refusal, is_now, said};
use crate::client::Plane;
use crate::client::calls::{JobResult, LeasedJob, Pull};
use crate::client::document::Act;
use serde_json::value::RawValue;
use std::time::{Duration, Instant};

/// What the job dies of.
const ERROR: &str = r#"{"error":"sheratan_smoke"}"#;

impl Checks {
    pub(super) fn letter(&mut self) -> Verdict {
        let job = match self.fail_one() {
            Ok((job, status)) if status == "dead" => job,
            Ok((_, status)) => {
                return Verdict::Skipped(format!("this hub keeps no dead letters: the failed job is {status}"));
            }
            Err(reason) => return Verdict::Failed(reason),
        };
        match self.requeue(&job.job_id) {
            Ok(detail) => Verdict::Passed(detail),
            Err(reason) => {
                // The smoke leaves no letter; if this fails too, the reason says what is wrong with the hub.
                let _ = self.client.act(Plane::Data, &path(&job.job_id), Act::Delete);
                Verdict::Failed(reason)
            }
        }
    }

    /// Fails a job that has one attempt; returns it, and what became of it.
    fn fail_one(&self) -> Result<(LeasedJob, String), String> {
        let answers = self.client.submit_many(&[self.submit("normal", None)]).map_err(said)?;
        if let Some(refused) = answers.iter().find(|answer| !answer.ok) {
            return Err(format!("a submit was refused: {refused:?}"));
        }
        let job = self.pull_one()?;
        let error = RawValue::from_string(ERROR.to_owned()).expect("it is JSON");
        let failure = JobResult {
            ok: false,
            integrity: self.signer.sign(Some(&error), &job.job_id, false, None),
            result: None,
            error: Some(error),
            retryable: false,
            ..self.result_of(&job, "null")
        };
        let status = self.client.submit_result(&failure).map_err(said)?.status;
        Ok((job, status))
    }

    fn requeue(&self, job_id: &str) -> Result<String, String> {
        let letter = self.client.read(Plane::Data, &path(job_id), Duration::ZERO).map_err(said)?;
        let letter = letter.members.object("job");
        let attempts = letter.objects("attempts");
        if letter.text("error") != ERROR || attempts.first().is_none_or(|first| first.text("node_id") != NODE) {
            return Err(format!("the letter has the error {} and {} attempts", letter.text("error"), attempts.len()));
        }
        let requeue = || self.client.act(Plane::Data, &format!("{}/requeue", path(job_id)), Act::Post("{}"));
        requeue().map_err(said)?;
        expect_refusal(requeue().map(|_| ()), 409, "not_dead")?;
        let job = self.pull_one()?;
        if job.job_id != job_id {
            return Err(format!("{} was leased, not the requeued {job_id}", job.job_id));
        }
        self.client.submit_result(&self.result_of(&job, "1")).map_err(said)?;
        let job = self.client.job(job_id, Duration::ZERO).map_err(said)?;
        if !job.is_completed() || job.attempts.len() != 2 {
            return Err(format!("{}, with {} attempts", is_now(&job.status), job.attempts.len()));
        }
        self.in_audit_log(job_id)
    }

    fn pull_one(&self) -> Result<LeasedJob, String> {
        let (node_id, kinds) = (NODE.to_owned(), vec![self.run.clone()]);
        let pull = Pull { node_id, max: 1, kinds, wait_ms: 1_000, lease_sec: LEASE_SEC };
        self.client.pull(&pull).map_err(said)?.jobs.into_iter().next().ok_or("the job is not leased".to_owned())
    }

    /// What happened to the letter is in the audit log.
    fn in_audit_log(&self, job_id: &str) -> Result<String, String> {
        let started = Instant::now();
        loop {
            let (page, _) = self.audit_page()?;
            let of_job =
                |event: &str| entries(&page).any(|line| line["event"] == event && line["details"]["job_id"] == job_id);
            let missing: Vec<_> = ["DLQ_ENQUEUE", "DLQ_REQUEUE"].into_iter().filter(|event| !of_job(event)).collect();
            if missing.is_empty() {
                return Ok("with its error; completed by its second attempt, and both are in the audit log".to_owned());
            }
            if started.elapsed() > AUDIT_MAX {
                let missing = missing.join(" and no ");
                return Err(format!("no {missing} of the job in the audit log within {} s", AUDIT_MAX.as_secs()));
            }
            std::thread::sleep(ASK_EVERY);
        }
    }
}

fn path(job_id: &str) -> String {
    format!("/mesh/dlq/{job_id}")
}
