//! The data plane: jobs in, jobs out, results in.

use super::asked;
use super::body::{self, Fields, Query};
use super::parked::{PULL_HEAD, Parked, Waiting};
use super::problem::Problem;
use super::render;
use super::{Answer, Caller, Service};
use crate::http::{Reply, Request};
use crate::object::{Object, object};
use crate::secret::Secret;
use sha2::{Digest, Sha256};
use sheratan_core::command::{Command, Complete, Extend, Pull, Submit};
use sheratan_core::ids::JobSeq;
use sheratan_core::integrity::checksum::{self, Claimed};
use sheratan_core::integrity::json::Value;
use sheratan_core::limits::PULL_JOBS_MAX;
use sheratan_core::outcome::{Completed, Outcome, Pulled, Submitted};
use sheratan_core::queue::job::Job;
use sheratan_core::telemetry::Observation;
use sheratan_core::time::{Millis, Timestamp};

/// Jobs of one page.
const PAGE_JOBS_MAX: u64 = 1_000;

/// Jobs looked at for one page: a filter that few jobs pass costs a page at most this, about 5 ms.
const PAGE_SCAN_MAX: usize = 20_000;

impl Service {
    pub(super) fn submit_one(&mut self, now: Timestamp, request: &Request) -> Result<Reply, Problem> {
        let fields = Fields::parse(request.body())?;
        let submit = asked::read_submit(&fields, request.header("idempotency-key"))?;
        let submitted = self.submit(now, submit)?;
        Ok(reply(|out| render::submitted(out, self.hub.key(), &submitted)))
    }

    pub(super) fn submit_many(&mut self, now: Timestamp, request: &Request) -> Result<Reply, Problem> {
        let fields = Fields::parse(request.body())?;
        let entries = asked::batch(&fields, "requests")?;
        let mut answers = Vec::new();
        for (index, entry) in entries.into_iter().enumerate() {
            let answer = self.submit_entry(now, entry);
            self.write_entry(&mut answers, index, answer, |out, service, submitted| {
                render::submitted(out, service.hub.key(), submitted);
            });
        }
        Ok(batch_reply(&answers))
    }

    pub(super) fn pull(
        &mut self,
        now: Timestamp,
        caller: &Caller,
        request: &Request,
        node: Option<&str>,
    ) -> Result<Answer, Problem> {
        let (pull, wait_ms) = asked::read_pull(request, node)?;
        self.pull_or_park(now, caller, pull, wait_ms, PULL_HEAD.to_vec())
    }

    pub(super) fn extend_lease(&mut self, now: Timestamp, request: &Request) -> Result<Reply, Problem> {
        let fields = Fields::parse(request.body())?;
        let node = fields.required_name("node_id")?;
        let lease_duration_ms = asked::read_lease_duration(&fields)?;
        let texts = fields.array("leases")?.ok_or_else(|| body::missing("leases"))?;
        if texts.len() > PULL_JOBS_MAX as usize {
            return Err(Problem::bad_request(format!("leases must have at most {PULL_JOBS_MAX} entries")));
        }
        let texts: Vec<_> = texts
            .iter()
            .map(|text| text.as_str().ok_or_else(|| Problem::bad_request("leases must be a list of strings")))
            .collect::<Result<_, _>>()?;
        // A text that is no lease of this hub is a lost lease; the command carries the others only.
        let parsed: Vec<_> = texts.iter().map(|text| self.hub.key().parse_lease_id(text)).collect();
        let leases = parsed.iter().flatten().copied().collect();
        let outcome = self.execute(now, Command::Extend(Extend { node, leases, lease_duration_ms }))?;
        let Outcome::Extended(extended) = outcome else { unreachable!("an extension is answered as one") };
        let mut extended = extended.into_iter();
        Ok(reply(|out| {
            out.flag("ok", true).array("leases", texts.iter().zip(&parsed), |out, (text, parsed)| {
                let outcome = match parsed {
                    Some(_) => extended.next().expect("one answer for each lease of the command"),
                    None => sheratan_core::outcome::Extended::LeaseLost,
                };
                render::extended(out, text, outcome);
            });
        }))
    }

    pub(super) fn result_one(&mut self, now: Timestamp, caller: &Caller, request: &Request) -> Result<Answer, Problem> {
        let fields = Fields::parse(request.body())?;
        let then_pull = asked::read_then_pull(&fields)?;
        let completed = self.complete(now, caller, &fields)?;
        let mut body = Vec::new();
        object(&mut body, |out| render::completed(out, self.hub.key(), &completed));
        self.answer_then_pull(now, caller, body, then_pull)
    }

    pub(super) fn result_many(
        &mut self,
        now: Timestamp,
        caller: &Caller,
        request: &Request,
    ) -> Result<Answer, Problem> {
        let fields = Fields::parse(request.body())?;
        let then_pull = asked::read_then_pull(&fields)?;
        let entries = asked::batch(&fields, "results")?;
        let mut answers = Vec::new();
        for (index, entry) in entries.into_iter().enumerate() {
            let fields = Fields::of(entry).ok_or_else(|| Problem::bad_request("an entry must be an object"));
            let answer = fields.and_then(|fields| self.complete(now, caller, &fields));
            self.write_entry(&mut answers, index, answer, |out, service, completed| {
                render::completed(out, service.hub.key(), completed);
            });
        }
        self.answer_then_pull(now, caller, batch_body(&answers), then_pull)
    }

    pub(super) fn one_job(
        &mut self,
        now: Timestamp,
        caller: &Caller,
        request: &Request,
        id: &str,
    ) -> Result<Answer, Problem> {
        let wait_ms = Query::new(request.query()).number("wait_ms", 0..=asked::WAIT_MS_MAX)?.unwrap_or(0);
        let seq = self.hub.key().parse_job_id(id).ok_or_else(Problem::unknown_job)?;
        let job = self.hub.queue().get(seq).ok_or_else(|| self.unknown_job())?;
        let is_final = matches!(job.state(), sheratan_core::queue::job::State::Final { .. });
        if is_final || wait_ms == 0 || self.is_draining {
            return Ok(Answer::Reply(self.job_reply(seq)));
        }
        let id = self.parked.next_id();
        let until = now + Millis::new(wait_ms);
        self.parked.insert(id, Parked { origin: caller.origin, until, waiting: Waiting::ForEnd(seq) });
        Ok(Answer::Parked)
    }

    /// The reply that shows a job as it is now.
    pub(super) fn job_reply(&self, seq: JobSeq) -> Reply {
        let Some(job) = self.hub.queue().get(seq) else { return self.unknown_job().into_reply() };
        if let Some(reason) = self.uncommitted.job_hidden_because(job) {
            return Problem::not_durable(reason).into_reply();
        }
        let mut shown = Vec::new();
        render::job(&mut shown, self.hub.key(), job, true);
        reply(|out| _ = out.flag("ok", true).raw("job", &shown))
    }

    /// A job is not there. While something that is not durable was done that may be why: a job that ended pushes out
    /// another.
    fn unknown_job(&self) -> Problem {
        self.uncommitted.hidden_because().map_or_else(Problem::unknown_job, Problem::not_durable)
    }

    pub(super) fn jobs(&self, request: &Request) -> Result<Reply, Problem> {
        if let Some(reason) = self.uncommitted.hidden_because() {
            return Err(Problem::not_durable(reason));
        }
        let query = Query::new(request.query());
        let limit = query.number("limit", 1..=PAGE_JOBS_MAX)?.unwrap_or(100) as usize;
        let (status, kind, node) = (query.get("status")?, query.get("kind")?, query.get("node")?);
        let last = match query.get("cursor")? {
            None => JobSeq::new(self.hub.queue().next_seq().get() - 1),
            Some(text) => {
                let before = self.hub.key().parse_job_id(&text);
                let before = before.ok_or_else(|| Problem::bad_request("cursor must be the next_cursor of a page"))?;
                JobSeq::new(before.get() - 1)
            }
        };
        let is_asked_for = |job: &&Job| {
            let is_of_node = |node: &str| job.attempts().last().is_some_and(|attempt| *attempt.node == *node);
            status.as_deref().is_none_or(|status| job.status() == status)
                && kind.as_deref().is_none_or(|kind| &**job.kind() == kind)
                && node.as_deref().is_none_or(is_of_node)
        };
        let mut page = Vec::new();
        let mut oldest = None;
        let mut is_cut = false;
        for (scanned, job) in self.hub.queue().iter_back_from(last).enumerate() {
            if page.len() == limit || scanned == PAGE_SCAN_MAX {
                is_cut = true;
                break;
            }
            oldest = Some(job.seq());
            page.extend(Some(job).filter(is_asked_for));
        }
        let key = self.hub.key();
        Ok(reply(|out| {
            out.flag("ok", true).array("jobs", page, |out, job| render::job(out, key, job, false));
            match oldest.filter(|_| is_cut) {
                Some(oldest) => out.plain("next_cursor", key.job_id(oldest)),
                None => out.raw("next_cursor", b"null"),
            };
        }))
    }

    /// Repeats a parked pull: `Some` answers it.
    pub(super) fn repeat_pull(&mut self, now: Timestamp, pull: &Pull) -> Option<Result<Pulled, Problem>> {
        match self.lease(now, pull.clone()) {
            Ok(pulled) if pulled.leases.is_empty() && pulled.defer_ms == Millis::ZERO => None,
            answer => Some(answer),
        }
    }

    /// The reply to a pull; `head` is what the reply says before the jobs.
    pub(super) fn pull_reply(&self, head: Vec<u8>, pulled: &Pulled) -> Reply {
        let mut rest = Vec::new();
        object(&mut rest, |out| render::pulled(out, &self.hub, pulled));
        joined_reply(head, &rest)
    }

    /// The reply to a pull for which no job came in time.
    pub(super) fn empty_pull_reply(head: Vec<u8>) -> Reply {
        let mut rest = Vec::new();
        object(&mut rest, render::pulled_nothing);
        joined_reply(head, &rest)
    }

    fn pull_or_park(
        &mut self,
        now: Timestamp,
        caller: &Caller,
        pull: Pull,
        wait_ms: u64,
        head: Vec<u8>,
    ) -> Result<Answer, Problem> {
        match self.repeat_pull(now, &pull) {
            Some(pulled) => Ok(Answer::Reply(self.pull_reply(head, &pulled?))),
            None if wait_ms == 0 => Ok(Answer::Reply(Self::empty_pull_reply(head))),
            None => {
                let id = self.parked.next_id();
                if self.is_draining || !self.hub.park(id, &pull) {
                    return Ok(Answer::Reply(Self::empty_pull_reply(head)));
                }
                let until = now + Millis::new(wait_ms);
                let waiting = Waiting::ForJobs { pull, head };
                self.parked.insert(id, Parked { origin: caller.origin, until, waiting });
                Ok(Answer::Parked)
            }
        }
    }

    /// A result is taken; a pull that came with it is answered in the same reply, whatever becomes of the pull.
    fn answer_then_pull(
        &mut self,
        now: Timestamp,
        caller: &Caller,
        body: Vec<u8>,
        then_pull: Option<(Pull, u64)>,
    ) -> Result<Answer, Problem> {
        let Some((pull, wait_ms)) = then_pull else { return Ok(Answer::Reply(Reply::json(200, body))) };
        let head = body[1..body.len() - 1].to_vec();
        let answer = self.pull_or_park(now, caller, pull, wait_ms, head);
        answer.or_else(|_| Ok(Answer::Reply(Self::empty_pull_reply(body[1..body.len() - 1].to_vec()))))
    }

    fn submit_entry(&mut self, now: Timestamp, entry: Value) -> Result<Submitted, Problem> {
        let fields = Fields::of(entry).ok_or_else(|| Problem::bad_request("an entry must be an object"))?;
        let submit = asked::read_submit(&fields, None)?;
        self.submit(now, submit)
    }

    fn submit(&mut self, now: Timestamp, submit: Submit) -> Result<Submitted, Problem> {
        match self.execute(now, Command::Submit(Box::new(submit)))? {
            Outcome::Submitted(submitted) => Ok(submitted),
            outcome => Err(self.problem_of(outcome)),
        }
    }

    fn lease(&mut self, now: Timestamp, pull: Pull) -> Result<Pulled, Problem> {
        match self.execute(now, Command::Pull(pull))? {
            Outcome::Pulled(pulled) => Ok(pulled),
            outcome => Err(self.problem_of(outcome)),
        }
    }

    fn complete(&mut self, now: Timestamp, caller: &Caller, fields: &Fields) -> Result<Completed, Problem> {
        let complete = self.read_complete(now, caller, fields)?;
        match self.execute(now, Command::Complete(complete))? {
            Outcome::Completed(completed) => Ok(completed),
            outcome => Err(self.problem_of(outcome)),
        }
    }

    fn read_complete(&mut self, now: Timestamp, caller: &Caller, fields: &Fields) -> Result<Complete, Problem> {
        let job_id = fields.text("job_id")?.ok_or_else(|| body::missing("job_id"))?;
        let ok = fields.flag("ok")?.ok_or_else(|| body::missing("ok"))?;
        let lease_id = fields.text("lease_id")?;
        let (result, error) = (fields.raw("result"), fields.raw("error"));
        let claimed = match fields.object("integrity")? {
            Some(integrity) => Claimed { sha256: integrity.text("sha256")?, sig: integrity.text("sig")? },
            None => Claimed { sha256: None, sig: None },
        };
        let mark = self.check_integrity(now, caller, &claimed, error, &job_id, ok, result)?;
        let job = self.hub.key().parse_job_id(&job_id).ok_or_else(Problem::unknown_job)?;
        // A text that is no lease of this hub fences as surely as one that ended: generation 0 is never given.
        let no_lease = sheratan_core::ids::LeaseRef { job, generation: 0 };
        let lease = lease_id.map(|text| self.hub.key().parse_lease_id(&text).unwrap_or(no_lease));
        Ok(Complete {
            job,
            lease,
            node: fields.name("node_id")?,
            ok,
            result: fields.payload("result"),
            error: fields.payload("error"),
            is_retryable: fields.flag("retryable")?.unwrap_or(true),
            mark,
        })
    }

    /// Checks a result's checksum or signature; what tells this result from another.
    #[expect(clippy::too_many_arguments, reason = "the members that the checksum is over, each once")]
    fn check_integrity(
        &mut self,
        now: Timestamp,
        caller: &Caller,
        claimed: &Claimed,
        error: Option<Value>,
        job_id: &str,
        ok: bool,
        result: Option<Value>,
    ) -> Result<u64, Problem> {
        if claimed.sha256.is_none() && claimed.sig.is_none() && !self.settings.is_integrity_required {
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
                Err(Problem::integrity(failure.as_str()))
            }
        }
    }

    fn write_entry<T>(
        &self,
        answers: &mut Vec<u8>,
        index: usize,
        answer: Result<T, Problem>,
        render: impl Fn(&mut Object, &Service, &T),
    ) {
        if index > 0 {
            answers.push(b',');
        }
        object(answers, |out| match &answer {
            Ok(answer) => {
                render(out, self, answer);
                out.number("status_code", 200);
            }
            Err(problem) => render::refused_entry(out, problem),
        });
    }
}

fn batch_body(answers: &[u8]) -> Vec<u8> {
    let mut body = Vec::with_capacity(answers.len() + 32);
    body.extend_from_slice(br#"{"ok":true,"results":["#);
    body.extend_from_slice(answers);
    body.extend_from_slice(b"]}");
    body
}

fn batch_reply(answers: &[u8]) -> Reply {
    Reply::json(200, batch_body(answers))
}

fn reply(fill: impl FnOnce(&mut Object)) -> Reply {
    let mut body = Vec::with_capacity(256);
    object(&mut body, fill);
    Reply::json(200, body)
}

/// `{head, rest}` where rest is an object.
fn joined_reply(head: Vec<u8>, rest: &[u8]) -> Reply {
    let mut body = Vec::with_capacity(head.len() + rest.len() + 2);
    body.push(b'{');
    body.extend_from_slice(&head);
    body.push(b',');
    body.extend_from_slice(&rest[1..]);
    Reply::json(200, body)
}

fn mark_of(sha256: &[u8; 32]) -> u64 {
    u64::from_le_bytes(*sha256.first_chunk().expect("a hash has 32 bytes"))
}
