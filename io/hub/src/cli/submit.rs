//! `submit`: one job from the command line, or one for each line of standard input.
//!
//! Lines are sent in batches of all available lines, up to [`BATCH_JOBS_MAX`]. If the queue is full, the command waits.
//! A request that may have arrived is repeated, since each of its jobs has an idempotency key, by which the hub recognizes
//! a repeat: the user's own, else one that is used only for this and is forgotten soon.
//!
//! A line that the hub would not take for JSON is refused before it is sent, by the hub's own reader: one bad line does
//! not take its batch with it.

use super::ended::{self, Awaited};
use super::ends::{self, EXIT_CORRUPT, Ends};
use super::failure::Failure;
use super::link::Link;
use super::names;
use super::patience::PATIENCE;
use super::target::TargetArgs;
use super::terminal;
use crate::client::calls::{Submit, SubmitAnswer};
use crate::client::{Applied, CallError};
use crossbeam_channel::{Receiver, Sender};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use sheratan_core::integrity::json;
use sheratan_io::backoff::Backoff;
use std::io::{self, BufRead, IsTerminal};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Jobs of one request: half of the hub's limit, so that a batch delays other clients by a millisecond.
const BATCH_JOBS_MAX: usize = 500;

/// Bytes of one request: below the hub's default limit of 1 MiB for a body.
const BATCH_BYTES_MAX: usize = 768 << 10;

/// Bytes of a job in a request besides its params.
const JOB_BYTES: usize = 256;

/// The longest line that is read; the hub's own limit of a request (`max_body_bytes`) is usually lower.
const LINE_BYTES_MAX: usize = 64 << 20;

/// How long the hub remembers a key that this command made after its job ended: longer than a repeat may come.
const OWN_KEY_TTL_SEC: u64 = 2 * PATIENCE.as_secs();

/// Lines read ahead.
const LINES_MAX: usize = 2 * BATCH_JOBS_MAX;

/// Long polls for the ends of jobs.
const WATCHES: usize = 4;

const EXAMPLES: &str = "\
Examples:
  sheratan-hub submit echo_test '{\"msg\":\"hello\"}' --wait
  sheratan-hub submit resize - --key-from-line < files.jsonl
  seq 1 1000 | sheratan-hub submit count - --wait > results.jsonl

Each line of standard input is the params of one job, as JSON. A line that is refused is named by its number; the \
others are submitted. With --key-from-line equal lines are one job, so the command can be repeated after a failure and \
no job is done twice.

A request without an answer (the hub restarts, a proxy answers 502) is sent again for a minute, and no job is taken \
twice: each has an idempotency key. If the answer never comes, the message says how many jobs may have been taken.

With --wait each result is compared with the checksum that its worker sent. One that does not match was changed on its way \
or where the hub stores it: it is not printed, its line has the status corrupt, and the exit code is 3.

Exit code 0 if all jobs were accepted (with --wait: completed), 1 if one was not, 2 for an invalid command line, 3 if a \
result does not match its checksum.";

/// The arguments of `submit`.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Kind of the job; workers select jobs by kind
    #[arg(value_parser = names::name)]
    kind: String,
    /// Params of the job, as JSON; `-` reads them from standard input, one job per line
    #[arg(allow_hyphen_values = true)]
    params: Option<String>,
    /// Wait until the jobs are final, verify their results and print a line of JSON for each; exit code 1 if one did not
    /// complete, 3 if one was changed
    #[arg(long)]
    wait: bool,
    /// Print the hub's answers as lines of JSON
    #[arg(long)]
    json: bool,
    /// Priority; jobs of a higher one are leased first [default: normal]
    #[arg(long, value_parser = ["critical", "high", "normal", "low"])]
    priority: Option<String>,
    /// Idempotency key; a submit with the key of an earlier job returns that job
    #[arg(long, value_name = "KEY", conflicts_with = "key_from_line", value_parser = names::name)]
    idempotency_key: Option<String>,
    /// Use a digest of the kind and the line as idempotency key, so that the command can be repeated
    #[arg(long)]
    key_from_line: bool,
    /// Milliseconds until the job may be leased [default: 0]
    #[arg(long, value_name = "MS")]
    delay_ms: Option<u64>,
    /// Seconds after which an unfinished job expires [default: never]
    #[arg(long, value_name = "SEC")]
    ttl_sec: Option<u64>,
    /// Maximum number of attempts [default: the hub's retry_max_attempts]
    #[arg(long, value_name = "N")]
    max_attempts: Option<u32>,
    /// Capabilities that a worker must have
    #[arg(long, value_name = "A,B", value_delimiter = ',', value_parser = names::name)]
    requires: Vec<String>,
    /// Zone whose workers may run the job
    #[arg(long, value_parser = names::name)]
    zone: Option<String>,
    #[command(flatten)]
    target: TargetArgs,
}

/// One job with the number of its line.
struct Entry {
    line: u64,
    submit: Submit,
}

/// A line of standard input with its number, or why it cannot be read.
type Line = (u64, Result<Vec<u8>, Unread>);

/// Why a line cannot be read.
enum Unread {
    /// It is too long; the next one can be read.
    TooLong,
    /// The input cannot be read any more.
    Input(io::Error),
}

/// Lines to be sent.
struct Batches {
    lines: Receiver<Line>,
    held: Option<Line>,
}

/// Sends jobs to the hub.
struct Submission {
    link: Arc<Link>,
    is_json: bool,
    /// Whether the keys are the user's: then a job may have been known before this command.
    is_keyed: bool,
    is_single: bool,
    progress: ProgressBar,
    watched: Option<Sender<Awaited>>,
    accepted: u64,
    known: u64,
    refused: u64,
    /// Of those, by how many the hub found a stored result changed.
    corrupt: u64,
}

/// Submits the jobs of the arguments or of standard input.
pub fn run(args: Args) -> Result<ExitCode, Failure> {
    let is_stream = args.params.as_deref() == Some("-");
    if is_stream && args.idempotency_key.is_some() {
        let text = "--idempotency-key is one key, and the lines of standard input are many jobs: use --key-from-line";
        return Err(Failure::Usage(text.to_owned()));
    }
    let link = Arc::new(Link::new(args.target.clone())?);
    let progress = if is_stream { progress_bar(args.wait) } else { ProgressBar::hidden() };
    let (watched, printer) = match args.wait {
        true => {
            let (watched, ended) = ended::watch(&link, WATCHES);
            (Some(watched), Some(ends::print(ended, progress.clone())))
        }
        false => (None, None),
    };
    let mut submission = Submission {
        link,
        is_json: args.json && !args.wait,
        is_keyed: args.key_from_line || args.idempotency_key.is_some(),
        is_single: !is_stream,
        progress,
        watched,
        accepted: 0,
        known: 0,
        refused: 0,
        corrupt: 0,
    };
    let outcome = match is_stream {
        true => submission.stream(&args),
        false => submission.single(&args),
    };
    // The watches end when there are no more jobs; submitted jobs are waited for even if others failed.
    submission.watched = None;
    let ends = printer.map_or_else(Ends::default, |printer| printer.join().expect("printing does not panic"));
    submission.progress.finish_and_clear();
    outcome?;
    if is_stream {
        submission.summarise(ends.failed, args.wait);
    }
    if ends.note() || submission.corrupt > 0 {
        return Ok(ExitCode::from(EXIT_CORRUPT));
    }
    Ok(if submission.refused + ends.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

impl Submission {
    fn single(&mut self, args: &Args) -> Result<(), Failure> {
        let text = args.params.as_deref();
        let params = text.map(|text| {
            parse_params(text.as_bytes()).map_err(|error| {
                let hint = "a text needs quotes inside the shell's, as in '\"hello\"'";
                Failure::Usage(format!("the params are not JSON ({error}): {hint}"))
            })
        });
        let submit = submit_of(args, text.unwrap_or(""), &run_id(), 1, params.transpose()?);
        self.send(vec![Entry { line: 1, submit }])
    }

    fn stream(&mut self, args: &Args) -> Result<(), Failure> {
        let mut batches = Batches { lines: read_lines(), held: None };
        let run_id = run_id();
        while let Some(batch) = batches.next_batch() {
            let mut entries = Vec::with_capacity(batch.len());
            for (line, text) in batch {
                let params = match text {
                    Ok(bytes) => parse_params(&bytes).map_err(|error| format!("not JSON: {error}")),
                    Err(Unread::TooLong) => Err(format!("a line has at most {LINE_BYTES_MAX} bytes")),
                    Err(Unread::Input(error)) => {
                        self.send(entries)?;
                        return Err(Failure::local("standard input cannot be read", error));
                    }
                };
                match params {
                    Ok(params) => {
                        let submit = submit_of(args, params.get(), &run_id, line, Some(params.clone()));
                        entries.push(Entry { line, submit });
                    }
                    Err(reason) => self.refuse(line, &reason),
                }
            }
            self.send(entries)?;
        }
        Ok(())
    }

    /// Sends jobs until the hub has accepted or refused each.
    fn send(&mut self, mut entries: Vec<Entry>) -> Result<(), Failure> {
        let mut backoff = Backoff::default();
        let mut away_since = None;
        while !entries.is_empty() {
            let requests: Vec<_> = entries.iter().map(|entry| entry.submit.clone()).collect();
            let wait = match self.link.client().submit_many(&requests) {
                Ok(answers) => {
                    away_since = None;
                    backoff.reset();
                    let asked;
                    (entries, asked) = self.settle(entries, answers);
                    asked.map(|asked| backoff.next_wait(Some(asked)))
                }
                // What is wrong with one entry is told by sending each half alone.
                Err(error) if matches!(error.code(), Some("payload_too_large" | "bad_request")) => {
                    match entries.len() {
                        1 => {
                            self.refuse(entries[0].line, &error.to_string());
                            return Ok(());
                        }
                        many => {
                            let rest = entries.split_off(many / 2);
                            self.send(entries)?;
                            entries = rest;
                            None
                        }
                    }
                }
                Err(error) => {
                    self.check_repeat(&error, entries.len(), &mut away_since)?;
                    self.progress.set_message(error.summary());
                    Some(backoff.next_wait(error.retry_after()))
                }
            };
            if let Some(wait) = wait {
                std::thread::sleep(wait);
            }
        }
        self.progress.set_message("");
        Ok(())
    }

    /// Whether repeating a failed request is useful. It is safe, since each job has a key.
    fn check_repeat(&self, error: &CallError, jobs: usize, away_since: &mut Option<Instant>) -> Result<(), Failure> {
        let before = self.accepted + self.known;
        let is_moved = (error.is_transient() || error.code() == Some("auth_failure")) && self.link.look_again();
        // A hub that was never reached is not waited for; one that is full or restarts is.
        let is_never = matches!(error, CallError::Unreachable { may_have_arrived: false, .. }) && before == 0;
        if error.is_transient() && matches!(error, CallError::Refused(refused) if refused.applied == Applied::No) {
            *away_since = None;
            return Ok(());
        }
        let waited = away_since.get_or_insert_with(Instant::now).elapsed();
        if is_moved || (error.is_transient() && !is_never && waited < PATIENCE) {
            return Ok(());
        }
        if !error.may_have_been_applied() {
            return Err(error.clone().into());
        }
        let advice = match self.is_keyed {
            true => "repeating the command is safe",
            false => "with --key-from-line (or --idempotency-key) repeating the command would be safe",
        };
        Err(Failure::Local(format!(
            "{error}\nthe last {jobs} job(s) may or may not have been taken; {before} were before; {advice}"
        )))
    }

    /// Counts the answers; returns the jobs that did not fit into the queue, and how long to wait before a retry.
    fn settle(&mut self, entries: Vec<Entry>, answers: Vec<SubmitAnswer>) -> (Vec<Entry>, Option<Duration>) {
        let mut again = Vec::new();
        let mut asked = None;
        for (entry, answer) in entries.into_iter().zip(answers) {
            // Applied or not: the key makes the repeat safe.
            match answer.job_id.clone().filter(|_| answer.ok) {
                Some(job_id) => self.accept(entry.line, job_id, &answer),
                None if matches!(answer.status_code, 429 | 503) => {
                    asked = asked.max(Some(Duration::from_millis(answer.retry_after_ms.unwrap_or(1_000))));
                    self.progress.set_message(answer.detail.or(answer.error).unwrap_or_default());
                    again.push(entry);
                }
                None => {
                    let code = answer.error.as_deref().unwrap_or("refused");
                    // The answer that is remembered with the key.
                    self.corrupt += u64::from(code == "result_corrupt");
                    let detail = answer.detail.as_deref().unwrap_or("no reason given");
                    self.refuse(entry.line, &format!("{code}: {detail}"));
                }
            }
        }
        (again, asked)
    }

    fn accept(&mut self, line: u64, job_id: String, answer: &SubmitAnswer) {
        // Under a key of this command's own, a known job is one whose first answer was lost.
        match answer.dedup && self.is_keyed {
            true => self.known += 1,
            false => self.accepted += 1,
        }
        self.progress.inc(1);
        if self.is_json {
            let text = serde_json::to_string(answer).expect("an answer is always JSON");
            self.progress.suspend(|| terminal::json(text));
        } else if self.is_single && self.watched.is_none() {
            let status = terminal::printable(answer.status.as_deref().unwrap_or("accepted"));
            terminal::line(format_args!("{} {status}", terminal::printable(&job_id)));
        }
        if let Some(watched) = &self.watched {
            // Nobody waits any more once the ends cannot be printed.
            _ = watched.send(Awaited { number: line, job_id });
        }
    }

    fn refuse(&mut self, line: u64, reason: &str) {
        self.refused += 1;
        let place = if self.is_single { String::new() } else { format!("line {line}: ") };
        let reason = terminal::printable(reason);
        let text = format!("{}: {place}{reason}", terminal::styled(terminal::BAD, "refused"));
        self.progress.suspend(|| terminal::note(text));
    }

    fn summarise(&self, failed: u64, is_wait: bool) {
        let Submission { accepted, known, refused, .. } = self;
        let known = if *known > 0 { format!(", {known} known already") } else { String::new() };
        let refused = if *refused > 0 { format!(", {refused} refused") } else { String::new() };
        let failed = if failed > 0 { format!(", {failed} not completed") } else { String::new() };
        let word = if is_wait { "ended" } else { "submitted" };
        terminal::note(format_args!("{accepted} {word}{known}{refused}{failed}"));
    }
}

impl Batches {
    /// The available lines, at least one and at most as many as fit a request; `None` at the end. Only the first line
    /// is waited for: the lines of a slow source are sent as they arrive.
    fn next_batch(&mut self) -> Option<Vec<Line>> {
        let first = self.held.take().or_else(|| self.lines.recv().ok())?;
        let mut bytes = bytes_of(&first);
        let mut batch = vec![first];
        while batch.len() < BATCH_JOBS_MAX
            && let Ok(line) = self.lines.try_recv()
        {
            bytes += bytes_of(&line);
            if bytes > BATCH_BYTES_MAX {
                self.held = Some(line);
                break;
            }
            batch.push(line);
        }
        Some(batch)
    }
}

fn bytes_of((_, text): &Line) -> usize {
    text.as_ref().map_or(0, Vec::len) + JOB_BYTES
}

/// Lines of standard input that are not blank, read ahead by a thread.
fn read_lines() -> Receiver<Line> {
    if std::io::stdin().is_terminal() {
        terminal::note("one JSON value a line; ctrl-D ends");
    }
    let (sender, receiver) = crossbeam_channel::bounded(LINES_MAX);
    std::thread::spawn(move || {
        let mut input = io::stdin().lock();
        for number in 1.. {
            let line = match read_line(&mut input) {
                Ok(None) => return,
                Ok(Some(line)) if line.as_ref().is_ok_and(|line| line.trim_ascii().is_empty()) => continue,
                Ok(Some(line)) => line,
                Err(error) => Err(Unread::Input(error)),
            };
            let is_last = matches!(line, Err(Unread::Input(_)));
            // A byte order mark belongs to the file, not to its first line.
            let line = line.map(|line| match line.strip_prefix(b"\xef\xbb\xbf") {
                Some(rest) if number == 1 => rest.to_vec(),
                _ => line,
            });
            if sender.send((number, line)).is_err() || is_last {
                return;
            }
        }
    });
    receiver
}

/// The next line, without its end; `None` at the end of the input.
fn read_line(input: &mut impl BufRead) -> io::Result<Option<Result<Vec<u8>, Unread>>> {
    let (mut line, mut length) = (Vec::new(), 0_usize);
    loop {
        let available = match input.fill_buf() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            available => available?,
        };
        if available.is_empty() && length == 0 {
            return Ok(None);
        }
        let end = available.iter().position(|byte| *byte == b'\n');
        let part = &available[..end.unwrap_or(available.len())];
        if length + part.len() <= LINE_BYTES_MAX {
            line.extend_from_slice(part);
        }
        length += part.len();
        let used = part.len() + usize::from(end.is_some());
        input.consume(used);
        // At the end of the input nothing is used; an empty line has an end.
        if end.is_some() || used == 0 {
            return Ok(Some(if length > LINE_BYTES_MAX { Err(Unread::TooLong) } else { Ok(line) }));
        }
        length = length.max(1);
    }
}

/// JSON as it was written, unchanged, if it is JSON to the hub too.
fn parse_params(bytes: &[u8]) -> Result<Box<RawValue>, String> {
    let value = json::parse(bytes).map_err(|error| error.to_string())?;
    RawValue::from_string(value.text().to_owned()).map_err(|error| error.to_string())
}

/// What the keys of this run begin with.
fn run_id() -> String {
    let mut bytes = [0; 16];
    match getrandom::fill(&mut bytes) {
        Ok(()) => hex::encode(bytes),
        // Without randomness the process and the time have to tell runs apart.
        Err(_) => format!("{}-{}", std::process::id(), jiff::Timestamp::now().as_nanosecond()),
    }
}

fn submit_of(args: &Args, line: &str, run_id: &str, number: u64, params: Option<Box<RawValue>>) -> Submit {
    let key = args.key_from_line.then(|| key_of(&args.kind, line)).or_else(|| args.idempotency_key.clone());
    Submit {
        kind: args.kind.clone(),
        params,
        idempotency_ttl_sec: key.is_none().then_some(OWN_KEY_TTL_SEC),
        idempotency_key: Some(key.unwrap_or_else(|| format!("submit-{run_id}-{number}"))),
        priority: args.priority.clone(),
        zone: args.zone.clone(),
        requires: args.requires.clone(),
        delay_ms: args.delay_ms,
        ttl_sec: args.ttl_sec,
        max_attempts: args.max_attempts,
    }
}

/// The key of a line: equal for equal kinds and lines, regardless of white space around the line.
fn key_of(kind: &str, line: &str) -> String {
    let mut hasher = Sha256::new();
    hasher.update(kind.as_bytes());
    hasher.update(b"\n");
    hasher.update(line.trim().as_bytes());
    format!("line-{}", hex::encode(hasher.finalize()))
}

fn progress_bar(is_wait: bool) -> ProgressBar {
    let bar = ProgressBar::new_spinner();
    let note = if is_wait { "submitted, results below" } else { "submitted" };
    let template = format!("{{spinner}} {{human_pos}} {note}  {{per_sec}}  {{wide_msg}}");
    bar.set_style(ProgressStyle::with_template(&template).expect("the template is well formed"));
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_depends_on_kind_and_line_and_not_on_the_white_space_around_it() {
        let key = key_of("resize", r#"{"a":1}"#);
        assert_eq!(key, key_of("resize", " {\"a\":1} \r\n"));
        assert_ne!(key, key_of("resize", r#"{"a":2}"#));
        assert_ne!(key, key_of("other", r#"{"a":1}"#));
        assert_eq!(key.len(), "line-".len() + 64);
    }

    #[test]
    fn a_batch_has_the_available_lines_that_fit_a_request() {
        let (sender, lines) = crossbeam_channel::unbounded();
        let mut batches = Batches { lines, held: None };
        let mut sizes = |lengths: &[usize]| {
            for (line, length) in (1..).zip(lengths) {
                sender.send((line, Ok(vec![b'x'; *length]))).unwrap();
            }
            let mut sizes = Vec::new();
            while !batches.lines.is_empty() || batches.held.is_some() {
                sizes.push(batches.next_batch().unwrap().len());
            }
            sizes
        };
        assert_eq!(sizes(&[1, 2, 3]), [3]);
        assert_eq!(sizes(&vec![1; 2 * BATCH_JOBS_MAX + 1]), [BATCH_JOBS_MAX, BATCH_JOBS_MAX, 1]);
        let half = BATCH_BYTES_MAX / 2 - JOB_BYTES;
        assert_eq!(sizes(&[half, half]), [2]);
        assert_eq!(sizes(&[half, half + 1, 1]), [1, 2]);
        assert_eq!(
            sizes(&[BATCH_BYTES_MAX * 2, 1]),
            [1, 1],
            "a line that is too large goes alone, to be refused alone"
        );
        drop(sender);
        assert!(batches.next_batch().is_none());
    }

    #[test]
    fn params_are_sent_as_they_were_written() {
        for text in [r#"{"b":1.0,"a":1e400}"#, "12345678901234567890123", "\"ä\"", "null", " [1, 2] "] {
            assert_eq!(parse_params(text.as_bytes()).unwrap().get(), text.trim());
        }
        for text in ["", "hello", "{", "1 2", r#"{"a":1,"a":2}"#, r#""\ud83d""#, "\u{feff}1"] {
            assert!(parse_params(text.as_bytes()).is_err(), "{text}");
        }
        assert!(parse_params(b"\"\xff\"").is_err());
        let nested = |depth: usize| [vec![b'['; depth], vec![b']'; depth]].concat();
        assert!(parse_params(&nested(json::DEPTH_MAX)).is_ok());
        assert!(parse_params(&nested(json::DEPTH_MAX + 1)).is_err());
    }

    #[test]
    fn lines_are_read_whatever_they_hold() {
        let lines = |bytes: &[u8]| {
            let mut input = io::BufReader::with_capacity(3, bytes);
            let mut lines = Vec::new();
            while let Some(line) = read_line(&mut input).unwrap() {
                lines.push(line.map_err(|_| ()).unwrap());
            }
            lines
        };
        assert_eq!(lines(b"abcd\n\n\xff\r\nlast"), [&b"abcd"[..], b"", b"\xff\r", b"last"]);
        assert_eq!(lines(b"abc\n"), [b"abc"]);
        assert!(lines(b"").is_empty());
        let long = [vec![b'x'; LINE_BYTES_MAX + 1], b"\n1\n".to_vec()].concat();
        let mut input = &long[..];
        assert!(matches!(read_line(&mut input), Ok(Some(Err(Unread::TooLong)))));
        assert!(matches!(read_line(&mut input), Ok(Some(Ok(line))) if line == b"1"));
    }
}
