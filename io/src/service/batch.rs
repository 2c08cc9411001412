//! Batches: requests that carry many entries, each of which is read and answered on its own: one that is not JSON, or
//! nested too deeply, is refused alone.

use super::body::{self, Fields};
use super::problem::Problem;
use super::rules;
use crate::object::{Object, object};
use sheratan_core::integrity::batch::Batch as Parts;
use sheratan_core::integrity::json::{self, JsonError, Value};

/// Entries of a batch: a thousand jobs of a kilobyte fill the default body limit.
const ENTRIES_MAX: usize = 1_000;

/// A batch's body: its entries, and the members beside them.
pub struct Batch<'a> {
    key: &'static str,
    parts: Option<Parts<'a>>,
    body: &'a [u8],
}

impl<'a> Batch<'a> {
    /// The batch in a body whose entries are the list `key`.
    pub fn read(body: &'a [u8], key: &'static str) -> Result<Self, Problem> {
        let parts = Parts::split(body, key, ENTRIES_MAX);
        Ok(Batch { key, parts: parts.map_err(|_| too_many(key))?, body })
    }

    /// The members beside the entries, of which `known` are known. If the entries cannot be told apart, what is wrong
    /// with the body.
    pub fn fields(&self, known: &[&str]) -> Result<Fields<'_>, Problem> {
        let Some(parts) = &self.parts else { return Fields::parse(self.body, known) };
        let object = json::parse_object(&parts.rest).map_err(|error| {
            let offset = parts.offset_in_body(error.offset);
            Problem::bad_request(format!("the body is not a JSON object: {}", JsonError { offset, ..error }))
        })?;
        Fields::of(object, known)
    }

    /// The entries, unchecked, in the order in which they are applied. `fields` are the members beside them.
    pub fn entries<'b>(&'b self, fields: &Fields<'b>) -> Result<Vec<&'b [u8]>, Problem> {
        let entries = match &self.parts {
            Some(parts) => parts.entries.clone(),
            // The body is JSON, and spells the key with escapes.
            None => {
                let entries = fields.array(self.key)?.ok_or_else(|| body::missing(self.key))?;
                entries.iter().map(Value::as_bytes).collect()
            }
        };
        if entries.len() > ENTRIES_MAX {
            return Err(too_many(self.key));
        }
        Ok(rules::entries_in_order(entries))
    }
}

fn too_many(key: &str) -> Problem {
    Problem::bad_request(format!("{key} must have at most {ENTRIES_MAX} entries"))
}

/// The members of an entry, of which `known` are known. An entry is checked as if it were a request's body.
pub fn read_entry<'a>(entry: &'a [u8], known: &[&str]) -> Result<Fields<'a>, Problem> {
    let object = json::parse_object(entry)
        .map_err(|error| Problem::bad_request(format!("the entry is not a JSON object: {error} of the entry")))?;
    Fields::of(object, known)
}

/// The answers to a batch's entries, as the reply's body.
pub struct Answers {
    key: &'static str,
    body: Vec<u8>,
    count: usize,
}

impl Answers {
    /// The answers to the entries of the list `key`.
    pub fn new(key: &'static str) -> Self {
        Answers { key, body: br#"{"ok":true,"results":["#.to_vec(), count: 0 }
    }

    /// Adds the answer to the next entry; `fill` writes what was answered.
    pub fn push<T>(&mut self, answer: Result<T, Problem>, fill: impl FnOnce(&mut Object, T)) {
        let index = self.begin();
        object(&mut self.body, |out| match answer {
            Ok(answer) => {
                fill(out, answer);
                out.number("status_code", 200);
            }
            Err(problem) => write_refused(out, self.key, index, &problem),
        });
    }

    /// Adds the refusal of the next entry.
    pub fn refuse(&mut self, problem: &Problem) {
        let index = self.begin();
        object(&mut self.body, |out| write_refused(out, self.key, index, problem));
    }

    fn begin(&mut self) -> usize {
        if self.count > 0 {
            self.body.push(b',');
        }
        self.count += 1;
        self.count - 1
    }

    pub fn into_body(mut self) -> Vec<u8> {
        self.body.extend_from_slice(b"]}");
        self.body
    }
}

fn write_refused(out: &mut Object, key: &str, index: usize, problem: &Problem) {
    out.flag("ok", false).text("error", problem.code).text_at("detail", (key, index), &problem.detail);
    out.number("index", index as u64).number("status_code", u64::from(problem.status)).more(problem.extra());
    if let Some(wait) = problem.retry_after_ms {
        out.number("retry_after_ms", wait.get());
    }
}
