//! Batches: requests that carry many entries, each of which is answered on its own.

use super::body::{self, Fields};
use super::problem::Problem;
use super::rules;
use crate::object::{Object, object};
use sheratan_core::integrity::json::Value;

/// Entries of a batch: a thousand jobs of a kilobyte fill the default body limit.
const ENTRIES_MAX: usize = 1_000;

/// The entries of a batch, in the order in which they are applied.
pub fn read_entries<'a>(fields: &Fields<'a>, key: &str) -> Result<Vec<Value<'a>>, Problem> {
    let entries = fields.array(key)?.ok_or_else(|| body::missing(key))?;
    if entries.len() > ENTRIES_MAX {
        return Err(Problem::bad_request(format!("{key} must have at most {ENTRIES_MAX} entries")));
    }
    Ok(rules::entries_in_order(entries))
}

/// The members of an entry.
pub fn read_entry(entry: Value) -> Result<Fields, Problem> {
    Fields::of(entry).ok_or_else(|| Problem::bad_request("an entry must be an object"))
}

/// The answers to a batch's entries, as the reply's body.
pub struct Answers {
    body: Vec<u8>,
    is_empty: bool,
}

impl Answers {
    pub fn new() -> Self {
        Answers { body: br#"{"ok":true,"results":["#.to_vec(), is_empty: true }
    }

    /// Adds the answer to the next entry; `fill` writes what was answered.
    pub fn push<T>(&mut self, answer: Result<T, Problem>, fill: impl FnOnce(&mut Object, T)) {
        if !std::mem::take(&mut self.is_empty) {
            self.body.push(b',');
        }
        object(&mut self.body, |out| match answer {
            Ok(answer) => {
                fill(out, answer);
                out.number("status_code", 200);
            }
            Err(problem) => write_refused(out, &problem),
        });
    }

    pub fn into_body(mut self) -> Vec<u8> {
        self.body.extend_from_slice(b"]}");
        self.body
    }
}

fn write_refused(out: &mut Object, problem: &Problem) {
    out.flag("ok", false).plain("error", problem.code).text("detail", &problem.detail);
    out.number("status_code", u64::from(problem.status));
    if let Some(wait) = problem.retry_after_ms {
        out.number("retry_after_ms", wait.get());
    }
}
