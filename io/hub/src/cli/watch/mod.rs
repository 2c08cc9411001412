//! `sheratan-hub watch`: the hub's alert rules over an audit log, from outside the hub.
//!
//! The same engine as in the hub, with the same ids, but time comes from the lines: an old log raises the alerts that
//! it would have raised then. It changes nothing in the hub; a watch may start and stop at any time.

mod report;

use super::failure::Failure;
use super::instant::Instant;
use super::interrupt;
use super::terminal;
use crate::client::webhook;
use crossbeam_channel::{Receiver, RecvTimeoutError};
use report::Report;
use serde::Deserialize;
use serde_json::value::RawValue;
use sheratan_core::alerts::{Alerts, Change};
use sheratan_core::{Calendar, Millis, Timestamp};
use sheratan_io::alerts::{self, Webhook, WebhookUrl};
use sheratan_io::audit;
use sheratan_io::rfc3339;
use sheratan_io::rotated::{self, Follower, RotatedFile, Start};
use sheratan_io::secret::Secret;
use sheratan_io::shell;
use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{self, Duration};

const EXAMPLES: &str = "\
Examples:
  sheratan-hub watch                                  follow the log of the hub in .sheratan, until ctrl-C
  sheratan-hub watch --once                           the alerts of all lines that are in the log
  sheratan-hub watch --once --since 7d --rules new_rules.json
                                                      try other rules on the last week
  sheratan-hub watch --file /mnt/copy/hub_security_audit.jsonl --once --json
  sheratan-hub watch --alerts /var/log/alerts.jsonl --webhook-url-file /etc/sheratan/webhook

The hub applies its own rules and writes <data-dir>/logs/alerts.jsonl; this command is for other rules, other \
machines and old logs.

Exit code 0, whatever was raised; 1 if the log or the rules cannot be read, 2 for an invalid command line.";

/// How often a followed log is read.
const POLL_INTERVAL: Duration = Duration::from_millis(250);

/// The hub writes a line within a second of its event, so only a log that is quiet for longer shows that nothing
/// happened.
const QUIET_MARGIN: Millis = Millis::from_secs(2);

/// Bytes and number of the files of `--alerts`, as the hub's own.
const ALERT_FILE_BYTES: u64 = 4 << 20;
const ALERT_FILES_KEPT: u32 = 16;

/// The arguments.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Data folder of the hub
    #[arg(long, value_name = "FOLDER", env = "SHERATAN_DATA_DIR", value_parser = super::names::data_dir(), default_value = ".sheratan")]
    data_dir: PathBuf,
    /// Audit log to read instead of the data folder's; its rotated files are FILE.1, FILE.2 and so on
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// File of alert rules [default: <data-dir>/alert_rules.json if it exists, else the built-in rules]
    #[arg(long, value_name = "FILE")]
    rules: Option<PathBuf>,
    /// File to which each change of an alert is appended, as a line of JSON
    #[arg(long, value_name = "FILE")]
    alerts: Option<PathBuf>,
    /// File with a URL to which alerts are posted; alerts of lines from before the start are not posted
    #[arg(long, value_name = "FILE")]
    webhook_url_file: Option<PathBuf>,
    /// Skip lines before this instant: RFC 3339, or how long ago (30s, 15m, 2h, 7d)
    #[arg(long, value_name = "TIME")]
    since: Option<Instant>,
    /// Stop at the end of the log [default: follow it until ctrl-C]
    #[arg(long)]
    once: bool,
    /// Print each change as a line of JSON, as in the alerts' file
    #[arg(long)]
    json: bool,
}

/// Watches.
pub fn run(args: &Args) -> Result<ExitCode, Failure> {
    let rules = read_rules(args)?;
    let path = args.file.clone().unwrap_or_else(|| audit::path(&args.data_dir));
    let local = |error| Failure::local(path.display(), error);
    if !rotated::exists(&path).map_err(local)? {
        if args.once {
            return Err(Failure::Local(format!(
                "there is no audit log at {}: name a hub's data folder with --data-dir, or a log with --file",
                path.display()
            )));
        }
        terminal::note(format_args!("waiting for {}", terminal::printable(&path.to_string_lossy())));
    }
    let follower = Follower::open(&path, Start::Oldest).map_err(local)?;
    let mut watch = Watch {
        follower,
        since: args.since.map_or(Timestamp::ZERO, |since| LOG_TIME.instant(since.resolve(shell::wall_time()))),
        alerts: rules,
        output: Output::open(args, &path)?,
        path,
        latest_at: Timestamp::ZERO,
        read_at: time::Instant::now(),
    };
    if args.once {
        watch.read_all()?;
    } else {
        watch.follow(&interrupt::listen()?)?;
    }
    if let Some(webhook) = watch.output.webhook {
        webhook.finish();
    }
    watch.output.report.end(&watch.alerts);
    Ok(ExitCode::SUCCESS)
}

/// The rules run on the log's own time: the instants of its lines.
const LOG_TIME: Calendar = Calendar::UNSET;

/// The engine between a log and the alerts' outputs.
struct Watch {
    path: PathBuf,
    follower: Follower,
    since: Timestamp,
    alerts: Alerts,
    output: Output,
    /// The instant of the latest line, and when it was read.
    latest_at: Timestamp,
    read_at: time::Instant,
}

/// The members of a line that the engine needs.
#[derive(Deserialize)]
struct Line<'a> {
    #[serde(borrow)]
    ts: Cow<'a, str>,
    #[serde(borrow)]
    event: Cow<'a, str>,
    #[serde(borrow)]
    details: Option<&'a RawValue>,
}

impl Watch {
    /// Reads the available lines.
    fn read_all(&mut self) -> Result<(), Failure> {
        while let Some(line) = self.follower.next_line().map_err(|error| Failure::local(self.path.display(), error))? {
            self.line(&line)?;
        }
        Ok(())
    }

    fn follow(&mut self, interrupts: &Receiver<()>) -> Result<(), Failure> {
        loop {
            self.read_all()?;
            self.output.is_live = true;
            self.pass()?;
            // The listener lives as long as the process.
            let is_interrupted = interrupts.recv_timeout(POLL_INTERVAL) != Err(RecvTimeoutError::Timeout);
            if is_interrupted || self.output.is_over() {
                return Ok(());
            }
        }
    }

    fn line(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let parsed = serde_json::from_slice::<Line>(bytes).ok();
        let instant = |line: &Line| rfc3339::parse(&line.ts).ok().map(|ts| LOG_TIME.instant(ts));
        let Some((line, ts)) = parsed.and_then(|line| instant(&line).map(|ts| (line, ts))) else {
            self.output.report.unread += 1;
            return Ok(());
        };
        if ts < self.since {
            return Ok(());
        }
        self.output.report.lines += 1;
        (self.latest_at, self.read_at) = (self.latest_at.max(ts), time::Instant::now());
        let mut changes = Vec::new();
        let details = line.details.map_or("{}", RawValue::get);
        self.alerts.event(ts, &line.event, details.as_bytes(), &mut changes);
        // Every line carries the time, even if no rule matches its event.
        self.alerts.advance(ts, &mut changes);
        changes.iter().try_for_each(|change| self.output.change(change))
    }

    /// The log is quiet: the time since its latest line was read is added to that line's instant.
    fn pass(&mut self) -> Result<(), Failure> {
        if self.latest_at == Timestamp::ZERO {
            return Ok(());
        }
        let quiet = Millis::new(u64::try_from(self.read_at.elapsed().as_millis()).unwrap_or(u64::MAX));
        let mut changes = Vec::new();
        self.alerts.advance((self.latest_at + quiet) - QUIET_MARGIN, &mut changes);
        changes.iter().try_for_each(|change| self.output.change(change))
    }
}

/// The outputs of alerts.
struct Output {
    report: Report,
    is_json: bool,
    file: Option<(PathBuf, RotatedFile)>,
    webhook: Option<Webhook>,
    /// Whether all lines that the log had at the start were read.
    is_live: bool,
}

impl Output {
    /// Opens the outputs that the arguments name; `log` is the alerts' source.
    fn open(args: &Args, log: &Path) -> Result<Self, Failure> {
        let open = |path: &PathBuf| {
            let file = RotatedFile::open(path, ALERT_FILE_BYTES, ALERT_FILES_KEPT);
            file.map(|file| (path.clone(), file)).map_err(|error| Failure::local(path.display(), error))
        };
        let webhook = |path: &PathBuf| {
            let named = |error: &dyn std::fmt::Display| Failure::Usage(format!("{}: {error}", path.display()));
            let url = Secret::read(path).map_err(|error| named(&error))?;
            let url = WebhookUrl::new(url).map_err(|error| named(&format!("the URL in it {error}")))?;
            Webhook::start(url, &format!("file://{}", log.display()), Arc::default(), webhook::post())
                .map_err(|error| Failure::local("a thread", error))
        };
        Ok(Output {
            report: Report::default(),
            is_json: args.json,
            file: args.alerts.as_ref().map(open).transpose()?,
            webhook: args.webhook_url_file.as_ref().map(webhook).transpose()?,
            is_live: false,
        })
    }

    /// Whether nobody gets the alerts any more: without a file or a webhook, standard output is all there is.
    fn is_over(&self) -> bool {
        self.file.is_none() && self.webhook.is_none() && terminal::output() != terminal::Output::Whole
    }

    fn change(&mut self, change: &Change) -> Result<(), Failure> {
        self.report.change(change);
        let mut line = Vec::new();
        alerts::line::write(&mut line, LOG_TIME, change);
        match self.is_json {
            true => terminal::json(&line),
            false => terminal::line(report::shown(change)),
        }
        if let Some((path, file)) = &mut self.file {
            line.push(b'\n');
            let written = file.write(&line).map_err(std::io::Error::from);
            written.map_err(|error| Failure::local(format!("{} cannot be written", path.display()), error))?;
        }
        if let Some(webhook) = self.webhook.as_ref().filter(|_| self.is_live) {
            webhook.post(change, LOG_TIME);
        }
        Ok(())
    }
}

fn read_rules(args: &Args) -> Result<Alerts, Failure> {
    let rules = match &args.rules {
        Some(path) => alerts::rules::read(path),
        None => alerts::rules::read_if_there(&alerts::rules_path(&args.data_dir)),
    };
    rules.map_err(|error| Failure::Usage(error.to_string()))
}
