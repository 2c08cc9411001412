//! `submit`: one job from the command line, or one for each line of standard input.
//!
//! Lines are sent in batches of all available lines, up to [`BATCH_JOBS_MAX`]. If the queue is full, the command waits.
//! A request that may have arrived is never repeated unless its jobs have keys, by which the hub recognizes a repeat.

use super::ended::{self, Awaited, Ended, PATIENCE};
use super::failure::Failure;
use super::target::TargetArgs;
use super::terminal;
use crate::backoff::Backoff;
use crate::client::calls::{Submit, SubmitAnswer};
use crate::client::{CallError, Client};
use crossbeam_channel::{Receiver, Sender};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use std::io::{BufRead, IsTerminal};
use std::process::ExitCode;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Jobs of one request: half of the hub's limit, so that a batch delays other clients by a millisecond.
const BATCH_JOBS_MAX: usize = 500;

/// Bytes of one request: below the hub's default limit of 1 MiB for a body.
const BATCH_BYTES_MAX: usize = 768 << 10;

/// Bytes of a job in a request besides its params.
const JOB_BYTES: usize = 256;

/// Lines read ahead.
const LINES_MAX: usize = 2 * BATCH_JOBS_MAX;

/// Long polls for the ends of jobs.
const WATCHES: usize = 4;

const EXAMPLES: &str = "\
Examples:
  sheratan-hub submit echo_test '{\"msg\":\"hello\"}' --wait
  sheratan-hub submit resize - --key-from-line < files.jsonl
  seq 1 1000 | sheratan-hub submit count - --wait > results.jsonl

Each line of standard input is the params of one job, as JSON. With --key-from-line equal lines are one \
job, so the command can be repeated after a failure and no job is done twice.";

/// The arguments of `submit`.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Kind of the job; workers select jobs by kind
    kind: String,
    /// Params of the job, as JSON; `-` reads them from standard input, one job per line
    #[arg(allow_hyphen_values = true)]
    params: Option<String>,
    /// Wait until the jobs are final and print a line of JSON for each; exit code 1 if one did not complete
    #[arg(long)]
    wait: bool,
    /// Print the hub's answers as lines of JSON
    #[arg(long)]
    json: bool,
    /// Priority; jobs of a higher one are leased first [default: normal]
    #[arg(long, value_parser = ["critical", "high", "normal", "low"])]
    priority: Option<String>,
    /// Idempotency key; a submit with the key of an earlier job returns that job
    #[arg(long, value_name = "KEY", conflicts_with = "key_from_line")]
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
    #[arg(long, value_name = "A,B", value_delimiter = ',')]
    requires: Vec<String>,
    /// Zone whose workers may run the job
    #[arg(long)]
    zone: Option<String>,
    #[command(flatten)]
    target: TargetArgs,
}

/// One line of what `--wait` prints.
#[derive(Serialize)]
struct EndLine<'a> {
    line: u64,
    job_id: &'a str,
    ok: bool,
    status: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
    attempts: usize,
}

/// One job with the number of its line.
struct Entry {
    line: u64,
    submit: Submit,
}

/// A line of standard input with its number, or why it cannot be read.
type Line = (u64, std::io::Result<String>);

/// Lines to be sent.
struct Batches {
    lines: Receiver<Line>,
    held: Option<Line>,
}

/// Sends jobs to the hub.
struct Submission {
    client: Client,
    is_json: bool,
    is_keyed: bool,
    is_single: bool,
    progress: ProgressBar,
    watched: Option<Sender<Awaited>>,
    accepted: u64,
    known: u64,
    refused: u64,
}

/// Submits the jobs of the arguments or of standard input.
pub fn run(args: Args) -> Result<ExitCode, Failure> {
    let is_stream = args.params.as_deref() == Some("-");
    if is_stream && args.idempotency_key.is_some() {
        let text = "--idempotency-key is one key, and the lines of standard input are many jobs: use --key-from-line";
        return Err(Failure::Usage(text.to_owned()));
    }
    let client = args.target.client()?;
    let progress = if is_stream { progress_bar(args.wait) } else { ProgressBar::hidden() };
    let (watched, printer) = match args.wait {
        true => {
            let (watched, ended) = ended::watch(&client, WATCHES);
            (Some(watched), Some(print_ends(ended, progress.clone())))
        }
        false => (None, None),
    };
    let mut submission = Submission {
        client,
        is_json: args.json && !args.wait,
        is_keyed: args.key_from_line || args.idempotency_key.is_some(),
        is_single: !is_stream,
        progress,
        watched,
        accepted: 0,
        known: 0,
        refused: 0,
    };
    let outcome = match is_stream {
        true => submission.stream(&args),
        false => submission.single(&args),
    };
    // The watches end when there are no more jobs; submitted jobs are waited for even if others failed.
    submission.watched = None;
    let failed = printer.map_or(0, |printer| printer.join().expect("printing does not panic"));
    submission.progress.finish_and_clear();
    outcome?;
    if is_stream {
        submission.summarise(failed, args.wait);
    }
    Ok(if submission.refused + failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

impl Submission {
    fn single(&mut self, args: &Args) -> Result<(), Failure> {
        let text = args.params.as_deref();
        let params = text.map(|text| {
            parse_params(text).map_err(|error| {
                let hint = "a text needs quotes inside the shell's, as in '\"hello\"'";
                Failure::Usage(format!("the params are not JSON ({error}): {hint}"))
            })
        });
        let submit = submit_of(args, text.unwrap_or(""), params.transpose()?);
        self.send(vec![Entry { line: 1, submit }])
    }

    fn stream(&mut self, args: &Args) -> Result<(), Failure> {
        let mut batches = Batches { lines: read_lines(), held: None };
        while let Some(batch) = batches.next_batch() {
            let mut entries = Vec::with_capacity(batch.len());
            for (line, text) in batch {
                let text = text.map_err(|error| Failure::local("standard input cannot be read", error))?;
                match parse_params(&text) {
                    Ok(params) => entries.push(Entry { line, submit: submit_of(args, &text, Some(params)) }),
                    Err(error) => self.refuse(line, &format!("not JSON: {error}")),
                }
            }
            self.send(entries)?;
        }
        Ok(())
    }

    /// Sends jobs until the hub has accepted or refused each.
    fn send(&mut self, mut entries: Vec<Entry>) -> Result<(), Failure> {
        let mut backoff = Backoff::new();
        let mut away_since = None;
        while !entries.is_empty() {
            let requests: Vec<_> = entries.iter().map(|entry| entry.submit.clone()).collect();
            let wait = match self.client.submit_many(&requests) {
                Ok(answers) => {
                    away_since = None;
                    backoff.reset();
                    let asked;
                    (entries, asked) = self.settle(entries, answers);
                    asked.map(|asked| backoff.next_wait(Some(asked)))
                }
                Err(error) if error.code() == Some("payload_too_large") => match entries.len() {
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
                },
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

    /// Whether repeating a failed request is useful and safe.
    fn check_repeat(&self, error: &CallError, jobs: usize, away_since: &mut Option<Instant>) -> Result<(), Failure> {
        if !error.is_transient() {
            return Err(error.clone().into());
        }
        let CallError::Unreachable { may_have_arrived, .. } = error else { return Ok(()) };
        if *may_have_arrived && !self.is_keyed {
            return Err(Failure::Local(format!(
                "{error}\nthe last {jobs} job(s) may or may not have been taken; {} were before. \
                 With --key-from-line (or --idempotency-key) repeating is safe",
                self.accepted + self.known
            )));
        }
        // A hub that was never reached is not waited for.
        let is_first = self.accepted + self.known == 0;
        if is_first || away_since.get_or_insert_with(Instant::now).elapsed() > PATIENCE {
            return Err(error.clone().into());
        }
        Ok(())
    }

    /// Counts the answers; returns the jobs that did not fit into the queue, and how long to wait before a retry.
    fn settle(&mut self, entries: Vec<Entry>, answers: Vec<SubmitAnswer>) -> (Vec<Entry>, Option<Duration>) {
        let mut again = Vec::new();
        let mut asked = None;
        for (entry, answer) in entries.into_iter().zip(answers) {
            match answer.job_id.clone().filter(|_| answer.ok) {
                Some(job_id) => self.accept(entry.line, job_id, &answer),
                None if matches!(answer.status_code, 429 | 503) => {
                    asked = asked.max(Some(Duration::from_millis(answer.retry_after_ms.unwrap_or(1_000))));
                    self.progress.set_message(answer.detail.or(answer.error).unwrap_or_default());
                    again.push(entry);
                }
                None => {
                    let code = answer.error.as_deref().unwrap_or("refused");
                    let detail = answer.detail.as_deref().unwrap_or("no reason given");
                    self.refuse(entry.line, &format!("{code}: {detail}"));
                }
            }
        }
        (again, asked)
    }

    fn accept(&mut self, line: u64, job_id: String, answer: &SubmitAnswer) {
        match answer.dedup {
            true => self.known += 1,
            false => self.accepted += 1,
        }
        self.progress.inc(1);
        if self.is_json {
            let text = serde_json::to_string(answer).expect("an answer is always JSON");
            self.progress.suspend(|| terminal::line(text));
        } else if self.is_single && self.watched.is_none() {
            terminal::line(format_args!("{job_id} {}", answer.status.as_deref().unwrap_or("accepted")));
        }
        if let Some(watched) = &self.watched {
            watched.send(Awaited { number: line, job_id }).expect("the watches wait for as long as jobs may come");
        }
    }

    fn refuse(&mut self, line: u64, reason: &str) {
        self.refused += 1;
        let place = if self.is_single { String::new() } else { format!("line {line}: ") };
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

/// Prints a line for each ended job; returns how many did not complete.
fn print_ends(ended: Receiver<Ended>, progress: ProgressBar) -> JoinHandle<u64> {
    std::thread::spawn(move || {
        let mut failed = 0;
        for ended in ended {
            let (text, is_completed) = end_line(&ended);
            failed += u64::from(!is_completed);
            progress.suspend(|| terminal::line(text));
        }
        failed
    })
}

fn end_line(ended: &Ended) -> (String, bool) {
    let Awaited { number, job_id } = &ended.awaited;
    let line = match &ended.outcome {
        Ok(job) => EndLine {
            line: *number,
            job_id,
            ok: job.is_completed(),
            status: &job.status,
            result: job.result.as_deref(),
            error: job.error.as_deref(),
            problem: None,
            attempts: job.attempts.len(),
        },
        Err(error) => EndLine {
            line: *number,
            job_id,
            ok: false,
            status: "unknown",
            result: None,
            error: None,
            problem: Some(error.to_string()),
            attempts: 0,
        },
    };
    (serde_json::to_string(&line).expect("a line of texts and JSON is always JSON"), line.ok)
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
    text.as_ref().map_or(0, String::len) + JOB_BYTES
}

/// Lines of standard input that are not blank, read ahead by a thread.
fn read_lines() -> Receiver<Line> {
    if std::io::stdin().is_terminal() {
        terminal::note("one JSON value a line; ctrl-D ends");
    }
    let (sender, receiver) = crossbeam_channel::bounded(LINES_MAX);
    std::thread::spawn(move || {
        for (line, text) in (1..).zip(std::io::stdin().lock().lines()) {
            let is_last = text.is_err();
            if text.as_ref().is_ok_and(|text| text.trim().is_empty()) {
                continue;
            }
            if sender.send((line, text)).is_err() || is_last {
                return;
            }
        }
    });
    receiver
}

/// JSON as it was written, unchanged.
fn parse_params(text: &str) -> Result<Box<RawValue>, serde_json::Error> {
    serde_json::from_str(text.trim())
}

fn submit_of(args: &Args, line: &str, params: Option<Box<RawValue>>) -> Submit {
    let key = args.key_from_line.then(|| key_of(&args.kind, line));
    Submit {
        kind: args.kind.clone(),
        params,
        idempotency_key: key.or_else(|| args.idempotency_key.clone()),
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
                sender.send((line, Ok("x".repeat(*length)))).unwrap();
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
            assert_eq!(parse_params(text).unwrap().get(), text.trim());
        }
        for text in ["", "hello", "{", "1 2"] {
            assert!(parse_params(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_line_of_an_ended_job_is_json_with_the_result_as_it_came() {
        let job: crate::client::calls::JobView = serde_json::from_str(
            r#"{"job_id":"job_1","kind":"k","status":"completed","result":{"b": 1.0},"error":null,
                "attempts":[{"node_id":"n","outcome":"completed"}]}"#,
        )
        .unwrap();
        let awaited = Awaited { number: 7, job_id: "job_1".to_owned() };
        let (text, is_completed) = end_line(&Ended { awaited, outcome: Ok(job) });
        assert!(is_completed);
        assert_eq!(
            text,
            r#"{"line":7,"job_id":"job_1","ok":true,"status":"completed","result":{"b": 1.0},"attempts":1}"#
        );
    }
}
