//! What is asked: the members of submits and pulls as typed values.

use super::body::{self, Fields, Query};
use super::problem::Problem;
use super::rules;
use crate::http::Request;
use sheratan_core::command::{Idempotency, OnDuplicate, OnFailed, Priority, Pull, Submit};
use sheratan_core::integrity::checksum;
use sheratan_core::integrity::json::Value;
use sheratan_core::limits::{ATTEMPTS_MAX, LEASE_DURATION_MAX, LEASE_DURATION_MIN, PULL_JOBS_MAX, PULL_KINDS_MAX};
use sheratan_core::name::Name;
use sheratan_core::time::{Millis, Timestamp};

/// Entries of a batch: a thousand jobs of a kilobyte fill the default body limit.
const BATCH_ENTRIES_MAX: usize = 1_000;

/// The longest long poll: below the idle limits of the proxies in common use.
pub const WAIT_MS_MAX: u64 = 60_000;

/// Delays and times to live: ten years, longer than any queue's life and far from the end of the calendar.
const FAR_SECS: u64 = 10 * 365 * 86_400;

/// A job as its members say it.
pub fn read_submit(fields: &Fields, header_key: Option<&[u8]>) -> Result<Submit, Problem> {
    let kind = fields.required_name("kind")?;
    let params = fields.payload("params");
    let idempotency = read_idempotency(fields, header_key, &kind)?;
    Ok(Submit {
        priority: fields.word("priority", "critical, high, normal or low", Priority::from_word)?.unwrap_or_default(),
        zone: fields.name("zone")?,
        requires: fields.capabilities("requires")?,
        delay_ms: Millis::new(fields.number("delay_ms", 0..=FAR_SECS * 1000)?.unwrap_or(0)),
        run_at: fields.instant("run_at_utc")?.unwrap_or(Timestamp::ZERO),
        ttl_ms: fields.seconds("ttl_sec", 1..=FAR_SECS)?,
        attempts_max: fields.number("max_attempts", 1..=u64::from(ATTEMPTS_MAX))?.map(|n| n as u32),
        retry_budget_ms: fields.seconds("retry_budget_sec", 0..=FAR_SECS)?,
        lease_duration_ms: read_lease_duration(fields)?,
        idempotency,
        kind,
        params,
    })
}

fn read_idempotency(fields: &Fields, header_key: Option<&[u8]>, kind: &Name) -> Result<Option<Idempotency>, Problem> {
    let member = fields.name("idempotency_key")?;
    let header = header_key
        .map(|bytes| {
            let text = std::str::from_utf8(bytes).map_err(|_| Problem::bad_request("Idempotency-Key must be UTF-8"))?;
            body::name("Idempotency-Key", text)
        })
        .transpose()?;
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
    Ok(member.or(header).map(|key| Idempotency {
        key,
        payload_hash: checksum::payload_hash(kind, fields.raw("params")),
        on_duplicate: on_duplicate.unwrap_or_default(),
        on_failed: on_failed.unwrap_or_default(),
    }))
}

/// A pull by path, query or body, and how long it may wait.
pub fn read_pull(request: &Request, path_node: Option<&str>) -> Result<(Pull, u64), Problem> {
    let query = Query::new(request.query());
    let fields = if request.body().is_empty() { Fields::parse(b"{}")? } else { Fields::parse(request.body())? };
    let node = match path_node {
        Some(encoded) => {
            let text = body::decode(encoded).ok_or_else(|| Problem::bad_request("the path is not well encoded"))?;
            body::name("node_id", &text)?
        }
        None => fields.required_name("node_id")?,
    };
    let asked = read_asked(&fields)?;
    let mut kinds = asked.kinds;
    if kinds.is_empty() {
        kinds = query.names("kinds", PULL_KINDS_MAX)?;
    }
    let jobs_max =
        asked.jobs_max.map_or_else(|| query.number("max", 1..=u64::from(PULL_JOBS_MAX)), |max| Ok(Some(max)))?;
    let wait_ms = asked.wait_ms.map_or_else(|| query.number("wait_ms", 0..=WAIT_MS_MAX), |wait| Ok(Some(wait)))?;
    let lease_secs = query.number("lease_sec", LEASE_SECS)?;
    let lease_duration_ms = asked.lease_duration_ms.or(lease_secs.map(Millis::from_secs));
    Ok((Pull { node, jobs_max: jobs_max.unwrap_or(1) as u32, kinds, lease_duration_ms }, wait_ms.unwrap_or(0)))
}

/// The pull that may come with a result.
pub fn read_then_pull(fields: &Fields) -> Result<Option<(Pull, u64)>, Problem> {
    let Some(pull) = fields.object("pull")? else { return Ok(None) };
    let node = match pull.name("node_id")? {
        Some(node) => node,
        None => fields.required_name("node_id")?,
    };
    let asked = read_asked(&pull)?;
    let Asked { jobs_max, kinds, lease_duration_ms, wait_ms } = asked;
    Ok(Some((Pull { node, jobs_max: jobs_max.unwrap_or(1) as u32, kinds, lease_duration_ms }, wait_ms.unwrap_or(0))))
}

/// What a pull asks for in its body.
struct Asked {
    jobs_max: Option<u64>,
    kinds: Vec<Name>,
    lease_duration_ms: Option<Millis>,
    wait_ms: Option<u64>,
}

fn read_asked(fields: &Fields) -> Result<Asked, Problem> {
    Ok(Asked {
        jobs_max: fields.number("max", 1..=u64::from(PULL_JOBS_MAX))?,
        kinds: fields.names("kinds", PULL_KINDS_MAX)?,
        lease_duration_ms: read_lease_duration(fields)?,
        wait_ms: fields.number("wait_ms", 0..=WAIT_MS_MAX)?,
    })
}

const LEASE_SECS: std::ops::RangeInclusive<u64> = LEASE_DURATION_MIN.get() / 1000..=LEASE_DURATION_MAX.get() / 1000;

/// How long leases last, if it is said.
pub fn read_lease_duration(fields: &Fields) -> Result<Option<Millis>, Problem> {
    fields.seconds("lease_sec", LEASE_SECS)
}

/// The entries of a batch.
pub fn batch<'a>(fields: &Fields<'a>, key: &str) -> Result<Vec<Value<'a>>, Problem> {
    let entries = fields.array(key)?.ok_or_else(|| body::missing(key))?;
    if entries.len() > BATCH_ENTRIES_MAX {
        return Err(Problem::bad_request(format!("{key} must have at most {BATCH_ENTRIES_MAX} entries")));
    }
    Ok(rules::entries_in_order(entries))
}
