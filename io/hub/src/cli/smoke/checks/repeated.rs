//! Submits that are repeated under one idempotency key: one job, whose ten answers say the same.

use super::{Checks, LEASE_SEC, NODE, expect, is_now, parse, said};
use crate::client::calls::{Pull, Submit};
use crate::client::{Auth, Plane};
use serde_json::Value;
use serde_json::value::to_raw_value;
use std::time::Duration;

/// How often a job is submitted.
const SUBMITS: usize = 10;

/// What the job says.
const RESULT: &str = "once";

impl Checks {
    pub(super) fn idempotency(&self) -> Result<String, String> {
        let checked = self.repeat_until_final();
        self.finish_open();
        checked
    }

    fn repeat_until_final(&self) -> Result<String, String> {
        let submit = self.submit("normal", Some(&self.run));
        let (first, open) = self.answers_to(&submit)?;
        if first["dedup"] != false || open["dedup"] != true || open["status"] != "in_progress" {
            return Err(format!("the first answer is {first}, the others are {open}"));
        }
        let other = Submit { params: Some(to_raw_value("other").expect("a text is JSON")), ..submit.clone() };
        let answers = self.client.submit_many(&[other]).map_err(said)?;
        match answers.first().and_then(|answer| answer.error.as_deref()) {
            Some("idempotency_key_collision") => {}
            code => return Err(format!("another payload under the same key was answered with {code:?}")),
        }
        let (node_id, kinds) = (NODE.to_owned(), vec![self.run.clone()]);
        let pull = Pull { node_id, max: 10, kinds, wait_ms: 1_000, lease_sec: LEASE_SEC };
        let jobs = self.client.pull(&pull).map_err(said)?.jobs;
        let [job] = &jobs[..] else { return Err(format!("one key has {} jobs", jobs.len())) };
        self.client.submit_result(&self.result_of(job, &format!(r#"{{"echo":"{RESULT}"}}"#))).map_err(said)?;
        let (done, again) = self.answers_to(&submit)?;
        let ids = |answer: &Value| (answer["job_id"].clone(), answer["request_id"].clone());
        if done != again || done["status"] != "completed" || [&open, &done].iter().any(|a| ids(a) != ids(&first)) {
            return Err(format!("after {first} and {open} the answers are {done} and {again}"));
        }
        // A hub that remembers no results says where this one is.
        if done["result"]["echo"] != RESULT && done["result_ref"].is_null() {
            return Err(format!("the answer has neither the result nor its place: {done}"));
        }
        let job = self.client.job(&job.job_id, Duration::ZERO).map_err(said)?;
        if job.attempts.len() != 1 {
            return Err(format!("{} after {} attempts", is_now(&job.status), job.attempts.len()));
        }
        Ok(format!("{SUBMITS} answers with the same ids, identical bytes once it is final; 409 for another payload"))
    }

    /// Submits a job ten times, one after the other; returns the first answer and the others, which must be the same
    /// bytes.
    fn answers_to(&self, submit: &Submit) -> Result<(Value, Value), String> {
        let body = serde_json::to_vec(submit).expect("a submit is JSON");
        let mut bodies = Vec::new();
        for _ in 0..SUBMITS {
            let answer = self.exchange(Plane::Data, Some(&body), "/mesh/submit_request", Auth::Own)?;
            expect(&answer, 200)?;
            bodies.push(answer);
        }
        let (first, others) = (parse(&bodies[0])?, &bodies[1..]);
        match others.iter().find(|other| other.body != others[0].body) {
            None => Ok((first, parse(&others[0])?)),
            Some(other) => {
                let [one, other] = [&others[0], other].map(|answer| String::from_utf8_lossy(&answer.body));
                Err(format!("two answers to one submit differ: {one} and {other}"))
            }
        }
    }
}
