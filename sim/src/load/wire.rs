//! The wire: requests as clients and nodes write them, and what they read in the replies.

use super::event::Micros;
use super::scenario::Priority;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::io::Write;

/// A job as its client means it. The same plan is the same payload, however often it is sent.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Its number, from 0.
    pub number: u64,
    /// When it was there to be handed in.
    pub at: Micros,
    /// How long it takes.
    pub work_us: u64,
    /// Whether it kills its worker.
    pub is_poison: bool,
    /// Whether it is the quiet client's.
    pub is_quiet: bool,
}

/// A job that a node took.
#[derive(Clone, PartialEq, Debug)]
pub struct Taken {
    /// The job.
    pub job_id: Box<str>,
    /// The lease that fences it.
    pub lease_id: Box<str>,
    /// Which attempt this is, from 1.
    pub attempt: u64,
    /// When it was there to be handed in.
    pub at: Micros,
    /// How long it takes.
    pub work_us: u64,
    /// Whether it kills its worker.
    pub is_poison: bool,
    /// Whether it is the quiet client's.
    pub is_quiet: bool,
}

/// What became of a job that was handed in, or of a result.
#[derive(Clone, PartialEq, Debug)]
pub enum Entry {
    /// The status that the hub says: `accepted`, `completed`, `retry_scheduled`, …
    Ok(Status),
    /// The code of the refusal.
    Refused(Box<str>),
}

/// The statuses of jobs that the simulator distinguishes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Status {
    /// A new job.
    Accepted,
    /// A result ended its job well.
    Completed,
    /// Anything else.
    Other,
}

/// What a reply says.
#[derive(Clone, PartialEq, Debug)]
pub enum Said {
    /// Jobs, and how long to wait before the next pull.
    Jobs(Vec<Taken>, u64),
    /// One entry for each job or result.
    Entries(Vec<Entry>),
    /// The request was taken.
    Done,
    /// The request was refused with this code.
    Refused(Box<str>),
}

#[derive(Deserialize)]
struct EntryBody<'a> {
    ok: bool,
    /// A word, or a number in a refusal.
    #[serde(borrow)]
    status: Option<&'a RawValue>,
    error: Option<&'a str>,
    #[serde(default)]
    dedup: bool,
}

#[derive(Deserialize)]
struct EntriesBody<'a> {
    #[serde(borrow)]
    results: Vec<EntryBody<'a>>,
}

#[derive(Deserialize)]
struct JobsBody<'a> {
    #[serde(borrow)]
    jobs: Vec<JobBody<'a>>,
    defer_ms: u64,
}

#[derive(Deserialize)]
struct JobBody<'a> {
    job_id: &'a str,
    lease_id: &'a str,
    attempt: u64,
    params: Params,
}

#[derive(Deserialize)]
struct Params {
    at: Micros,
    work_us: u64,
    #[serde(default)]
    poison: bool,
    #[serde(default)]
    quiet: bool,
}

/// What a reply is read as.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Asked {
    /// Whether it was taken.
    Done,
    /// Jobs.
    Jobs,
    /// One entry.
    One,
    /// Many entries.
    Many,
}

/// Reads a whole reply.
///
/// # Panics
/// If it is not what the wire contract says.
pub fn read(asked: Asked, bytes: &[u8]) -> Said {
    let text = std::str::from_utf8(bytes).expect("replies are UTF-8");
    let (head, body) = text.split_once("\r\n\r\n").expect("a reply has a head and a body");
    let is_ok = head.as_bytes().get(9..12) == Some(b"200");
    let wrong = |error: serde_json::Error| -> ! { panic!("{asked:?} was answered with {text}: {error}") };
    if asked == Asked::One || !is_ok {
        let entry = serde_json::from_str(body).unwrap_or_else(|error| wrong(error));
        let entry = entry_of(entry);
        return match entry {
            Entry::Refused(code) if asked != Asked::One => Said::Refused(code),
            entry => Said::Entries(vec![entry]),
        };
    }
    match asked {
        Asked::Jobs => {
            let jobs: JobsBody = serde_json::from_str(body).unwrap_or_else(|error| wrong(error));
            let taken = jobs.jobs.into_iter().map(|job| Taken {
                job_id: job.job_id.into(),
                lease_id: job.lease_id.into(),
                attempt: job.attempt,
                at: job.params.at,
                work_us: job.params.work_us,
                is_poison: job.params.poison,
                is_quiet: job.params.quiet,
            });
            Said::Jobs(taken.collect(), jobs.defer_ms)
        }
        Asked::Many => {
            let entries: EntriesBody = serde_json::from_str(body).unwrap_or_else(|error| wrong(error));
            Said::Entries(entries.results.into_iter().map(entry_of).collect())
        }
        Asked::Done | Asked::One => Said::Done,
    }
}

fn entry_of(entry: EntryBody) -> Entry {
    match (entry.ok, entry.status.map(RawValue::get), entry.error) {
        (true, Some("\"accepted\""), _) => Entry::Ok(Status::Accepted),
        (true, Some("\"completed\""), _) if !entry.dedup => Entry::Ok(Status::Completed),
        (true, ..) => Entry::Ok(Status::Other),
        (false, _, code) => Entry::Refused(code.unwrap_or("none").into()),
    }
}

/// Writes a request whose body `write` writes.
pub fn post(out: &mut Vec<u8>, body: &mut Vec<u8>, path: &str, write: impl FnOnce(&mut Vec<u8>)) {
    body.clear();
    write(body);
    out.clear();
    write!(
        out,
        "POST {path} HTTP/1.1\r\nHost: hub\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    )
    .expect("a buffer takes all");
    out.extend_from_slice(body);
}

/// Writes the list of `items`, with commas.
pub fn list<T>(out: &mut Vec<u8>, items: &[T], mut write: impl FnMut(&mut Vec<u8>, &T)) {
    out.push(b'[');
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        write(out, item);
    }
    out.push(b']');
}

/// What the jobs of a scenario say of themselves.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub has_key: bool,
    pub has_client: bool,
    /// The priority of the quiet client's jobs.
    pub quiet_priority: Option<Priority>,
    pub params_bytes: u64,
}

/// Writes a job to be handed in.
pub fn job(out: &mut Vec<u8>, plan: &Plan, shape: Shape) {
    let Plan { number, at, work_us, is_poison, is_quiet } = *plan;
    let put = |out: &mut Vec<u8>, text: std::fmt::Arguments| out.write_fmt(text).expect("a buffer takes all");
    put(out, format_args!("{{\"kind\":\"work\",\"params\":{{\"at\":{at},\"work_us\":{work_us}"));
    if is_poison {
        put(out, format_args!(",\"poison\":true"));
    }
    if is_quiet {
        put(out, format_args!(",\"quiet\":true"));
    }
    if shape.params_bytes > 0 {
        put(out, format_args!(",\"pad\":\""));
        out.resize(out.len() + shape.params_bytes as usize, b'x');
        out.push(b'"');
    }
    out.push(b'}');
    if shape.has_client {
        let client = if is_quiet { "quiet" } else { "noisy" };
        put(out, format_args!(",\"client\":{{\"node_id\":\"{client}\"}}"));
    }
    if let Some(priority) = shape.quiet_priority.filter(|_| is_quiet) {
        put(out, format_args!(",\"priority\":\"{}\"", priority.name()));
    }
    if shape.has_key {
        put(out, format_args!(",\"idempotency_key\":\"job-{number}\""));
    }
    out.push(b'}');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_are_read_by_what_was_asked() {
        let reply =
            |status: &str, body: &str| format!("HTTP/1.1 {status}\r\nContent-Length: 1\r\n\r\n{body}").into_bytes();
        let accepted = r#"{"ok":true,"job_id":"j","dedup":false,"status":"accepted"}"#;
        let again = r#"{"ok":true,"job_id":"j","dedup":true,"status":"completed","result":1}"#;
        assert_eq!(read(Asked::One, &reply("200 OK", accepted)), Said::Entries(vec![Entry::Ok(Status::Accepted)]));
        assert_eq!(read(Asked::One, &reply("200 OK", again)), Said::Entries(vec![Entry::Ok(Status::Other)]));
        let refused = r#"{"status":429,"ok":false,"error":"backpressure","detail":"full"}"#;
        let code: Box<str> = "backpressure".into();
        assert_eq!(read(Asked::One, &reply("429 x", refused)), Said::Entries(vec![Entry::Refused(code.clone())]));
        assert_eq!(read(Asked::Jobs, &reply("429 x", refused)), Said::Refused(code.clone()));
        let many = format!(r#"{{"ok":true,"results":[{accepted},{refused}]}}"#);
        let entries = vec![Entry::Ok(Status::Accepted), Entry::Refused(code)];
        assert_eq!(read(Asked::Many, &reply("200 OK", &many)), Said::Entries(entries));
    }

    #[test]
    fn a_job_has_as_many_bytes_of_params_as_a_scenario_may_ask_for() {
        let plan = Plan { number: 3, at: 5, work_us: 7, is_poison: false, is_quiet: true };
        let mut body = Vec::new();
        let shape =
            Shape { has_key: true, has_client: true, quiet_priority: Some(Priority::High), params_bytes: 100_000 };
        job(&mut body, &plan, shape);
        let body: serde_json::Value = serde_json::from_slice(&body).expect("it is JSON");
        assert_eq!(body["params"]["pad"].as_str().map(str::len), Some(100_000));
        assert_eq!((&body["idempotency_key"], &body["client"]["node_id"]), (&"job-3".into(), &"quiet".into()));
    }
}
