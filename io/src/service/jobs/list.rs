//! Lists of jobs: a page of those that a query asks for, the newest first.
//!
//! A page is found by the states, kinds and instants that the core keeps in order, by the table of keys, or by a scan of
//! bounded cost. A page that such a scan ended may have few jobs or none, and goes on at its cursor all the same.

use super::read::{Shown, write_job};
use crate::http::{Reply, Request};
use crate::rfc3339;
use crate::service::long_polls::Read;
use crate::service::problem::Problem;
use crate::service::query::Query;
use crate::service::{Answer, Caller, Service, body, reply};
use sheratan_core::{Filter, Found, JobSeq, Name, Status, Timestamp, Utc};

/// The most jobs on one page.
const PAGE_JOBS_MAX: u64 = 1_000;

/// The parameters of a page. `key` is short for `idempotency_key`.
const PAGE_QUERY: &[&str] = &[
    "status",
    "kind",
    "node",
    "zone",
    "error",
    "after_utc",
    "before_utc",
    "idempotency_key",
    "key",
    "limit",
    "cursor",
];

/// Bytes of a part of an error.
const ERROR_BYTES_MAX: usize = 256;

/// What a query asks for.
struct Asked {
    status: Option<Status>,
    kind: Option<Name>,
    zone: Option<Name>,
    node: Option<Name>,
    error: Option<String>,
    since: Option<Utc>,
    until: Option<Utc>,
    key: Option<Name>,
    limit: usize,
    /// Only older jobs than this one.
    before: Option<JobSeq>,
}

impl Service {
    pub(super) fn list_jobs(&mut self, now: Timestamp, caller: &Caller, request: &Request) -> Result<Answer, Problem> {
        self.read_asked(request.query())?;
        Ok(self.show(now, caller, Read::Page(request.query().map(str::to_owned))))
    }

    pub(in crate::service) fn page_reply(&self, query: Option<&str>) -> Result<Reply, Problem> {
        if let Some(reason) = self.uncommitted.hidden_because(self.hub.ended_at()) {
            return Err(Problem::not_durable(reason));
        }
        let Found { jobs, scanned, passed } = self.find_jobs(&self.read_asked(query)?);
        let ids = self.hub.ids();
        Ok(reply::ok(|out| {
            out.flag("ok", true).array("jobs", jobs, |out, job| write_job(out, &self.hub, job, Shown::Row));
            match passed {
                Some(passed) => out.plain("next_cursor", ids.job_id(passed)),
                None => out.raw("next_cursor", b"null"),
            };
            out.number("scanned", scanned);
        }))
    }

    fn find_jobs(&self, asked: &Asked) -> Found<'_> {
        let (queue, calendar) = (self.hub.queue(), self.hub.calendar());
        let nothing = Found { jobs: Vec::new(), scanned: 0, passed: None };
        let newest = asked.before.map_or(queue.next_seq(), |before| before).get() - 1;
        let mut range = (JobSeq::FIRST, JobSeq::new(newest));
        if asked.since.is_some() || asked.until.is_some() {
            let since = asked.since.map_or(Timestamp::ZERO, |since| calendar.instant(since));
            let until = asked.until.map_or(Timestamp::NEVER, |until| calendar.instant(until));
            let Some((oldest, newest)) = queue.submitted_between(since, until) else { return nothing };
            range = (range.0.max(oldest), range.1.min(newest));
        }
        if let Some(key) = &asked.key {
            let Some(job) = self.hub.job_of_key(key) else { return nothing };
            range = (range.0.max(job), range.1.min(job));
        }
        let Asked { status, kind, zone, node, error, limit, .. } = asked;
        let filter = Filter {
            status: *status,
            kind: kind.as_deref(),
            zone: zone.as_deref(),
            node: node.as_deref(),
            error: error.as_deref(),
        };
        queue.scan(&filter, range, *limit)
    }

    fn read_asked(&self, query: Option<&str>) -> Result<Asked, Problem> {
        let query = Query::parse(query, PAGE_QUERY)?;
        let instant = |name: &str| {
            let text = query.get(name)?;
            let parsed = text.map(rfc3339::parse).transpose();
            parsed.map_err(|error| Problem::bad_request(format!("{name}: {error}")))
        };
        let before = query.get("cursor")?.map(|text| {
            let before = self.hub.ids().parse_job_id(text).filter(|before| *before >= JobSeq::FIRST);
            before.ok_or_else(|| Problem::bad_request("cursor must be the next_cursor of a page"))
        });
        Ok(Asked {
            status: read_status(&query)?,
            kind: query.name("kind")?,
            zone: query.name("zone")?,
            node: query.name("node")?,
            error: read_error(&query)?,
            since: instant("after_utc")?,
            until: instant("before_utc")?,
            key: read_key(&query)?,
            limit: query.number("limit", 1..=PAGE_JOBS_MAX)?.unwrap_or(100) as usize,
            before: before.transpose()?,
        })
    }
}

/// The state that the jobs have.
fn read_status(query: &Query) -> Result<Option<Status>, Problem> {
    let Some(word) = query.get("status")? else { return Ok(None) };
    Status::from_word(word).map(Some).ok_or_else(|| {
        let words = Status::ALL.map(Status::as_str).join(", ");
        Problem::bad_request(format!("status must be one of {words}"))
    })
}

/// What the last errors contain.
fn read_error(query: &Query) -> Result<Option<String>, Problem> {
    match query.get("error")? {
        Some("") => Err(Problem::bad_request("error must not be empty")),
        Some(text) if text.len() > ERROR_BYTES_MAX => {
            Err(Problem::bad_request(format!("error must have at most {ERROR_BYTES_MAX} bytes")))
        }
        text => Ok(text.map(str::to_owned)),
    }
}

/// The idempotency key that the job was submitted under.
fn read_key(query: &Query) -> Result<Option<Name>, Problem> {
    let (name, text) = match (query.get("idempotency_key")?, query.get("key")?) {
        (Some(_), Some(_)) => {
            return Err(Problem::bad_request("idempotency_key and key are the same parameter, and both are given"));
        }
        (Some(text), None) => ("idempotency_key", text),
        (None, Some(text)) => ("key", text),
        (None, None) => return Ok(None),
    };
    let key = body::key(name, text)?;
    key.map(Some).ok_or_else(|| Problem::bad_request(format!("{name} must not be blank")))
}
