//! Submitting: turns bodies into jobs, one in a request or up to a thousand.

use crate::http::{Reply, Request};
use crate::object::Object;
use crate::service::batch::{self, Answers, Batch};
use crate::service::body::{self, Fields};
use crate::service::corrupt;
use crate::service::header;
use crate::service::problem::Problem;
use crate::service::{Caller, Service, leases, notifications, reply};
use memchr::memmem::Finder;
use sheratan_core::integrity::checksum;
use sheratan_core::limits::ATTEMPTS_MAX;
use sheratan_core::{
    Caller as Asker, Command, DropReason, FinalStatus, Hub, Idempotency, JobSeq, LeftOut, Millis, Name, OnDuplicate,
    OnFailed, Outcome, Priority, Refusal, Submit, Submitted, Timestamp, Utc,
};

/// The longest delay and time to live: ten years, longer than any queue is used and far from the end of the calendar.
const FAR_SECS: u64 = 10 * 365 * 86_400;

/// The header that is the member `idempotency_key` of a single job.
const KEY_HEADER: &str = "Idempotency-Key";

/// The members of a job to submit.
const MEMBERS: &[&str] = &[
    "kind",
    "params",
    "priority",
    "zone",
    "requires",
    "delay_ms",
    "run_at_utc",
    "ttl_sec",
    "max_attempts",
    "retry_budget_sec",
    "lease_sec",
    "idempotency_key",
    "idempotency_ttl_sec",
    "on_duplicate",
    "on_failed",
    "client",
    "max_run_sec",
];

impl Service {
    pub(super) fn submit_one(&mut self, now: Timestamp, caller: &Caller, request: &Request) -> Result<Reply, Problem> {
        let fields = Fields::parse(request.body(), MEMBERS)?;
        let submit = read_submit(&fields, header::single(request, KEY_HEADER)?)?;
        let submitted = self.submit(now, self.asker(caller), submit)?;
        Ok(reply::ok(|out| write_submitted(out, &self.hub, &submitted)))
    }

    pub(super) fn submit_many(&mut self, now: Timestamp, caller: &Caller, request: &Request) -> Result<Reply, Problem> {
        if header::single(request, KEY_HEADER)?.is_some() {
            let detail = format!("{KEY_HEADER} belongs to one job: give each of the requests an idempotency_key");
            return Err(Problem::bad_request(detail));
        }
        let batch = Batch::read(request.body(), "requests")?;
        let entries = batch.entries(&batch.fields(&["requests"])?)?;
        let mut answers = Answers::new("requests");
        let mut full: Option<(Refusal, Problem)> = None;
        let mut unread_count = 0;
        let key_finder = Finder::new("idempotency_key");
        for entry in entries {
            if let Some((_, problem)) = &full
                && !may_have_key(&key_finder, entry)
            {
                // Until this request is answered nobody leaves the queue. An entry costs a tenth of one that is read.
                unread_count += 1;
                answers.refuse(problem);
                continue;
            }
            match self.submit_entry(now, self.asker(caller), entry) {
                Ok(Err(refusal)) => {
                    let problem = self.problem_of_refusal(now, &refusal);
                    answers.refuse(&problem);
                    if matches!(refusal, Refusal::QueueFull { .. }) {
                        full.get_or_insert((refusal, problem));
                    }
                }
                Ok(Ok(submitted)) => {
                    answers.push(Ok(submitted), |out, submitted| write_submitted(out, &self.hub, &submitted));
                }
                Err(problem) => answers.refuse(&problem),
            }
        }
        if let Some((refusal, _)) = full.filter(|_| unread_count > 0) {
            self.hub.refuse_unread(&refusal, unread_count);
            self.note_drops(DropReason::QueueDepth, unread_count.into());
        }
        Ok(Reply::json(200, answers.into_body()))
    }

    fn submit_entry(
        &mut self,
        now: Timestamp,
        asker: Asker,
        entry: &[u8],
    ) -> Result<Result<Submitted, Refusal>, Problem> {
        let submit = read_submit(&batch::read_entry(entry, MEMBERS)?, None)?;
        self.try_submit(now, asker, submit)
    }

    fn submit(&mut self, now: Timestamp, asker: Asker, submit: Submit) -> Result<Submitted, Problem> {
        self.try_submit(now, asker, submit)?.map_err(|refusal| self.problem_of_refusal(now, &refusal))
    }

    fn try_submit(
        &mut self,
        now: Timestamp,
        asker: Asker,
        mut submit: Submit,
    ) -> Result<Result<Submitted, Refusal>, Problem> {
        submit.ttl_ms = submit.ttl_ms.or(self.settings.job_ttl);
        if !self.settings.is_idempotency_enabled {
            submit.idempotency = None;
        }
        match self.execute(now, asker, Command::Submit(Box::new(submit)))? {
            Outcome::Submitted(submitted) => self.check_repeat(submitted).map(Ok),
            Outcome::Refused(refusal) => Ok(Err(refusal)),
            other => unreachable!("a submit is answered in kind or refused, not with {other:?}"),
        }
    }
}

impl Service {
    /// A remembered answer is shown only if it still is what its job ended with.
    fn check_repeat(&mut self, submitted: Submitted) -> Result<Submitted, Problem> {
        let Some(corrupt) = corrupt::of_repeat(self.hub.ids(), &submitted) else { return Ok(submitted) };
        self.note_corrupt(Some(corrupt));
        let Submitted::Final { job, status, .. } = submitted else { unreachable!("only a final job has an answer") };
        let (ids, status) = (self.hub.ids(), status.as_str());
        let (request_id, job_id) = (ids.request_id(job), ids.job_id(job));
        let ids = format!(",\"request_id\":\"{request_id}\",\"job_id\":\"{job_id}\",\"dedup\":true");
        Err(Problem::result_corrupt(format!("{ids},\"job_status\":\"{status}\"")))
    }
}

/// Whether an entry may have an idempotency key, whose job may be known: a full queue answers that all the same. A name
/// that is spelled with escapes has a backslash.
fn may_have_key(key_finder: &Finder, entry: &[u8]) -> bool {
    memchr::memchr(b'\\', entry).is_some() || key_finder.find(entry).is_some()
}

/// Reads a job to submit.
fn read_submit(fields: &Fields, header_key: Option<&[u8]>) -> Result<Submit, Problem> {
    let kind = fields.required_name("kind")?;
    let params = fields.payload("params");
    let idempotency = read_idempotency(fields, header_key, &kind)?;
    Ok(Submit {
        priority: read_priority(fields)?,
        zone: fields.name("zone")?.into(),
        requires: fields.capabilities("requires")?,
        delay_ms: Millis::new(fields.number("delay_ms", 0..=FAR_SECS * 1000)?.unwrap_or(0)),
        run_at: fields.instant("run_at_utc")?.unwrap_or(Utc::ZERO),
        ttl_ms: fields.seconds("ttl_sec", 1..=FAR_SECS)?,
        attempts_max: fields.number("max_attempts", 1..=u64::from(ATTEMPTS_MAX))?.map(|n| n as u32),
        retry_budget_ms: fields.seconds("retry_budget_sec", 0..=FAR_SECS)?,
        lease_duration_ms: leases::read_lease_duration(fields)?,
        idempotency,
        client: read_client(fields)?,
        max_run_ms: fields.seconds("max_run_sec", 1..=FAR_SECS)?,
        kind,
        params,
    })
}

/// The priority, if it is given.
fn read_priority(fields: &Fields) -> Result<Option<Priority>, Problem> {
    fields.word("priority", "critical, high, normal or low", Priority::from_word)
}

/// The node that a submit names as its sender.
fn read_client(fields: &Fields) -> Result<Option<Name>, Problem> {
    let Some(client) = fields.object("client", &["node_id"])? else { return Ok(None) };
    client.text("node_id")?.map(|text| body::name("client.node_id", &text)).transpose()
}

fn read_idempotency(fields: &Fields, header_key: Option<&[u8]>, kind: &Name) -> Result<Option<Idempotency>, Problem> {
    let member = fields.key("idempotency_key")?;
    let header = header_key.map_or(Ok(None), |bytes| {
        let text = std::str::from_utf8(bytes);
        body::key(KEY_HEADER, text.map_err(|_| Problem::bad_request(format!("{KEY_HEADER} must be UTF-8")))?)
    })?;
    if let (Some(member), Some(header)) = (&member, &header)
        && member != header
    {
        return Err(Problem::bad_request("Idempotency-Key and idempotency_key are both set and differ"));
    }
    let on_duplicate = fields.word("on_duplicate", "same_result or latest_wins", |word| match word {
        "same_result" => Some(OnDuplicate::SameResult),
        "latest_wins" => Some(OnDuplicate::LatestWins),
        _ => None,
    })?;
    let on_failed = fields.word("on_failed", "same_result or new_job", |word| match word {
        "same_result" => Some(OnFailed::SameResult),
        "new_job" => Some(OnFailed::NewJob),
        _ => None,
    })?;
    let ttl_ms = fields.seconds("idempotency_ttl_sec", 1..=FAR_SECS)?;
    Ok(member.or(header).map(|key| Idempotency {
        key,
        payload_hash: checksum::payload_hash(kind, fields.raw("params")),
        on_duplicate: on_duplicate.unwrap_or_default(),
        on_failed: on_failed.unwrap_or_default(),
        ttl_ms,
    }))
}

/// The members of the reply to a submit.
fn write_submitted(out: &mut Object, hub: &Hub, submitted: &Submitted) {
    let ids = hub.ids();
    let write_ids = |out: &mut Object, job: JobSeq, is_repeat: bool| {
        out.flag("ok", true).plain("request_id", ids.request_id(job)).plain("job_id", ids.job_id(job));
        out.flag("dedup", is_repeat);
    };
    match submitted {
        Submitted::Accepted { job, supersedes, replaces } => {
            write_ids(out, *job, false);
            out.plain("status", "accepted");
            for (member, older) in [("supersedes", supersedes), ("replaces", replaces)] {
                if let Some(older) = older {
                    out.plain(member, ids.job_id(*older));
                }
            }
        }
        Submitted::InProgress { job } => {
            write_ids(out, *job, true);
            out.plain("status", "in_progress");
        }
        Submitted::Final { job, status, result, error, integrity, left_out } => {
            write_ids(out, *job, true);
            let is_completed = *status == FinalStatus::Completed;
            out.plain("status", notifications::submit_status(Some(*status)));
            // A dead letter may have left the dead letters since.
            let status_now = hub.queue().get(*job).filter(|job| job.is_final()).map(|job| job.status());
            out.plain("job_status", status_now.unwrap_or(status.as_str()));
            if result.is_some() || left_out.is_none() {
                out.payload("result", result.as_ref());
            }
            if !is_completed {
                out.payload("job_error", error.as_ref());
            }
            match left_out {
                None => {}
                Some(LeftOut::InJob) => _ = out.plain("result_ref", format_args!("/mesh/jobs/{}", ids.job_id(*job))),
                Some(LeftOut::Gone(at)) => {
                    out.raw("result_ref", b"null");
                    match at {
                        Some(at) => out.time("result_gone_utc", hub.calendar().utc(*at)),
                        None => out.raw("result_gone_utc", b"null"),
                    };
                }
            }
            if integrity.is_some() {
                corrupt::write_integrity(out, integrity.as_ref());
            }
        }
    }
}
