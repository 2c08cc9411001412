//! Filters of dead letters, as queries, bodies and the audit log write them.

use super::body::{self, Fields};
use super::problem::Problem;
use super::query::Query;
use crate::object::Object;
use crate::rfc3339;
use sheratan_core::{Calendar, EndReason, LetterFilter};

/// The members of a filter.
pub const MEMBERS: [&str; 5] = ["kind", "error", "reason", "before_utc", "after_utc"];

const REASONS: &str = "attempts, not_retryable, retry_budget, lost or expired";

/// The filter of a query; empty if it has no parameter of one.
pub fn of_query(query: &Query, calendar: Calendar) -> Result<LetterFilter, Problem> {
    let instant = |key: &str| {
        let Some(text) = query.get(key)? else { return Ok(None) };
        let utc = rfc3339::parse(text).map_err(|error| Problem::bad_request(format!("{key}: {error}")))?;
        Ok(Some(calendar.instant(utc)))
    };
    let reason = query.get("reason")?.map(|word| {
        EndReason::from_word(word).ok_or_else(|| Problem::bad_request(format!("reason must be {REASONS}")))
    });
    Ok(LetterFilter {
        kind: query.name("kind")?,
        error: query.get("error")?.map(|text| body::key("error", text)).transpose()?.flatten(),
        reason: reason.transpose()?,
        before: instant("before_utc")?,
        after: instant("after_utc")?,
    })
}

/// The filter of a body. An empty value is refused: it matches nothing, or everything, and is meant as neither.
pub fn of_body(fields: &Fields, calendar: Calendar) -> Result<LetterFilter, Problem> {
    let error = match fields.text("error")? {
        Some(text) => Some(body::key("error", &text)?.ok_or_else(|| Problem::bad_request("error must not be empty"))?),
        None => None,
    };
    let instant = |key| Ok(fields.instant(key)?.map(|utc| calendar.instant(utc)));
    Ok(LetterFilter {
        kind: fields.name("kind")?,
        error,
        reason: fields.word("reason", REASONS, EndReason::from_word)?,
        before: instant("before_utc")?,
        after: instant("after_utc")?,
    })
}

/// The members of a filter that are set.
pub fn write(out: &mut Object, filter: &LetterFilter, calendar: Calendar) {
    let LetterFilter { kind, error, reason, before, after } = filter;
    for (key, text) in [("kind", kind), ("error", error)] {
        if let Some(text) = text {
            out.text(key, text);
        }
    }
    if let Some(reason) = reason {
        out.plain("reason", reason.as_str());
    }
    for (key, at) in [("before_utc", before), ("after_utc", after)] {
        if let Some(at) = at {
            out.time(key, calendar.utc(*at));
        }
    }
}
