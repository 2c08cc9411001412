//! Pages: the latest lines of the audit log and of the alerts' file, which the shell reads.

use crate::alerts::line;
use crate::http::Request;
use crate::service::problem::Problem;
use crate::service::query::Query;
use sheratan_core::alerts::Alerts;
use sheratan_core::{Calendar, Timestamp};

/// Lines of one page of the audit log.
const AUDIT_LINES_MAX: u64 = 1_000;

/// Lines of the alerts' file in one answer.
const ALERT_LINES_MAX: u64 = 1_000;

/// A page of a log.
#[derive(Clone, PartialEq, Debug)]
pub enum Page {
    /// Of the audit log.
    Audit {
        /// Lines after this sequence number; the latest ones if absent.
        after: Option<u64>,
        /// The most lines.
        limit: usize,
    },
    /// The latest lines of the alerts' file.
    Alerts {
        /// The open alerts as a JSON array, which the reply has before the lines.
        open: Vec<u8>,
        /// The most lines.
        limit: usize,
    },
}

pub fn audit(request: &Request) -> Result<Page, Problem> {
    let query = Query::parse(request.query(), &["after", "limit"])?;
    let after = query.number("after", 0..=u64::MAX)?;
    let limit = query.number("limit", 1..=AUDIT_LINES_MAX)?.unwrap_or(100) as usize;
    Ok(Page::Audit { after, limit })
}

pub fn alerts(clock: (Timestamp, Calendar), request: &Request, alerts: &Alerts) -> Result<Page, Problem> {
    let query = Query::parse(request.query(), &["limit"])?;
    let limit = query.number("limit", 1..=ALERT_LINES_MAX)?.unwrap_or(100) as usize;
    let mut open = vec![b'['];
    for (index, alert) in alerts.open().enumerate() {
        if index > 0 {
            open.push(b',');
        }
        line::write_open(&mut open, clock, &alert);
    }
    open.push(b']');
    Ok(Page::Alerts { open, limit })
}
