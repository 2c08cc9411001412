//! `sheratan-hub audit verify|tail|query`: verifies, follows and searches the audit log.
//!
//! It reads the files and does not call the hub: it works beside a running hub, without a token, and on a copied log.

mod filter;
mod line;

use super::failure::Failure;
use super::interrupt;
use super::terminal::{self, BAD, DIM, GOOD, Output, WARN, printable, styled};
use clap::Subcommand;
use crossbeam_channel::RecvTimeoutError;
use filter::{Filter, FilterArgs};
use line::Line;
use sheratan_io::audit::{self, ChainError, ChainReport};
use sheratan_io::disk::RealDisk;
use sheratan_io::rotated::{self, Follower, Start};
use sheratan_io::shell;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

const EXAMPLES: &str = "\
Examples:
  sheratan-hub audit verify                          was a line changed, removed or inserted?
  sheratan-hub audit tail -n 50 -f                   the last 50 lines, then new ones
  sheratan-hub audit query --event 'AUTH_*,PORT_MISMATCH' --since 2h
  sheratan-hub audit query --node gpu-1 --json | jq .details
  sheratan-hub audit query --since 7d --count        how often each event happened
  sheratan-hub audit verify --file /mnt/copy/hub_security_audit.jsonl

The commands read the files; the hub may run or be down.

Exit code 0, 1 if the chain is broken or the log cannot be read, 2 for an invalid command line.";

/// How often a followed log is read: new lines appear without a noticeable delay.
const POLL_INTERVAL: Duration = Duration::from_millis(250);

/// The arguments.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand, Debug)]
enum What {
    /// Verify the hash chain over all files; if it is broken, print the first bad line and exit with code 1
    #[command(after_help = EXAMPLES)]
    Verify {
        #[command(flatten)]
        log: Log,
    },
    /// Show the last lines; with -f also new ones
    #[command(after_help = EXAMPLES)]
    Tail {
        /// Number of last lines to show
        #[arg(short = 'n', long, value_name = "N", default_value_t = 20)]
        lines: usize,
        /// Also show new lines as they are written, across rotations, until ctrl-C
        #[arg(short, long)]
        follow: bool,
        #[command(flatten)]
        log: Log,
    },
    /// Show the lines of all files that match the filters, the oldest first, or count them
    #[command(after_help = EXAMPLES)]
    Query {
        #[command(flatten)]
        filter: FilterArgs,
        /// Maximum number of lines to show [default: all]
        #[arg(long, value_name = "N")]
        limit: Option<u64>,
        /// Print how often each event happened instead of the lines; a line with a `count` counts that often
        #[arg(long, conflicts_with = "limit")]
        count: bool,
        #[command(flatten)]
        log: Log,
    },
}

/// The log.
#[derive(clap::Args, Debug)]
struct Log {
    /// Data folder of the hub
    #[arg(long, value_name = "FOLDER", env = "SHERATAN_DATA_DIR", value_parser = super::names::data_dir(), default_value = ".sheratan")]
    data_dir: PathBuf,
    /// Audit log to read instead of the data folder's; its rotated files are FILE.1, FILE.2 and so on
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Print JSON: lines as they are in the log; for verify and --count one object
    #[arg(long)]
    json: bool,
}

/// Verifies, shows or searches.
pub fn run(args: &Args) -> Result<ExitCode, Failure> {
    match &args.what {
        What::Verify { log } => verify(log),
        What::Tail { lines, follow, log } => tail(log, *lines, *follow),
        What::Query { filter, limit, count, log } => {
            let filter = filter.resolve(shell::wall_time());
            if *count { count_events(log, &filter) } else { query(log, &filter, limit.unwrap_or(u64::MAX)) }
        }
    }
}

fn verify(log: &Log) -> Result<ExitCode, Failure> {
    let path = log.path()?;
    let outcome = audit::verify(&RealDisk, &path);
    let is_ok = outcome.is_ok();
    if log.json {
        terminal::json(verified_as_json(&outcome).to_string());
    } else {
        match outcome {
            Ok(report) => show_report(&report),
            Err(error) => {
                terminal::line(format_args!("{} {}", styled(BAD, "✗"), printable(&error.to_string())));
                if matches!(error, ChainError::Broken { .. }) {
                    terminal::line("keep a copy of the files; the lines before that one are as they were written");
                }
            }
        }
    }
    Ok(if is_ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn show_report(report: &ChainReport) {
    let ChainReport { files, lines, first_seq, last_seq, torn, is_tail_torn } = report;
    terminal::line(format_args!(
        "{} the chain holds: seq {first_seq} to {last_seq}; lines {lines}, torn lines {torn}, files {files}",
        styled(GOOD, "✓")
    ));
    if *first_seq > 1 {
        terminal::line(styled(
            DIM,
            format_args!("the lines before seq {first_seq} are in files that are not here any more"),
        ));
    }
    if *is_tail_torn {
        let text = "the last line is incomplete: it is being written, or the hub's next start will record it as torn";
        terminal::line(styled(WARN, text));
    }
}

fn verified_as_json(outcome: &Result<ChainReport, ChainError>) -> serde_json::Value {
    match outcome {
        Ok(report) => serde_json::json!({
            "ok": true, "files": report.files, "lines": report.lines, "first_seq": report.first_seq,
            "last_seq": report.last_seq, "torn_lines": report.torn, "is_tail_torn": report.is_tail_torn,
        }),
        Err(ChainError::Broken { path, line, reason }) => {
            serde_json::json!({"ok": false, "file": path.display().to_string(), "line": line, "reason": reason})
        }
        Err(ChainError::Io(path, error)) => {
            serde_json::json!({"ok": false, "file": path.display().to_string(), "reason": error.to_string()})
        }
    }
}

fn tail(log: &Log, lines: usize, is_followed: bool) -> Result<ExitCode, Failure> {
    let mut reader = log.read(Start::Last(lines))?;
    if !is_followed {
        for _ in 0..lines {
            let Some(line) = reader.next()? else { break };
            log.show(&line);
        }
        return Ok(ExitCode::SUCCESS);
    }
    // Output is all that this command does.
    let interrupts = interrupt::listen()?;
    loop {
        let wait = match reader.next()? {
            Some(line) => {
                log.show(&line);
                Duration::ZERO
            }
            None => POLL_INTERVAL,
        };
        // The listener lives as long as the process.
        let is_interrupted = interrupts.recv_timeout(wait) != Err(RecvTimeoutError::Timeout);
        if is_interrupted || terminal::output() != Output::Whole {
            return Ok(ExitCode::SUCCESS);
        }
    }
}

fn query(log: &Log, filter: &Filter, limit: u64) -> Result<ExitCode, Failure> {
    let mut reader = log.read(Start::Oldest)?;
    let (mut shown, mut unread) = (0, 0);
    while shown < limit
        && terminal::output() == Output::Whole
        && let Some(line) = reader.next()?
    {
        match Line::parse(&line) {
            Some(parsed) if filter.fits(&parsed) => {
                log.show(&line);
                shown += 1;
            }
            Some(_) => {}
            None => unread += 1,
        }
    }
    warn_unread(unread);
    Ok(ExitCode::SUCCESS)
}

fn count_events(log: &Log, filter: &Filter) -> Result<ExitCode, Failure> {
    let mut reader = log.read(Start::Oldest)?;
    let (mut counts, mut unread) = (BTreeMap::<String, u64>::new(), 0);
    while let Some(line) = reader.next()? {
        match Line::parse(&line) {
            Some(parsed) if filter.fits(&parsed) => {
                let count = counts.entry(parsed.event.to_string()).or_default();
                *count = count.saturating_add(parsed.count());
            }
            Some(_) => {}
            None => unread += 1,
        }
    }
    if log.json {
        terminal::json(serde_json::json!(counts).to_string());
    } else {
        let width = counts.keys().map(String::len).max().unwrap_or(0);
        let mut counts: Vec<_> = counts.into_iter().collect();
        counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        for (event, count) in counts {
            let name = format!("{:width$}", printable(&event));
            terminal::line(format_args!("{} {count:>9}", styled(line::style(&event), name)));
        }
    }
    warn_unread(unread);
    Ok(ExitCode::SUCCESS)
}

fn warn_unread(count: u64) {
    if count > 0 {
        terminal::note(format_args!(
            "{}: {count} lines are not lines of an audit log; `sheratan-hub audit verify` says more",
            styled(WARN, "warning")
        ));
    }
}

impl Log {
    /// The newest file's path.
    fn path(&self) -> Result<PathBuf, Failure> {
        let path = self.file.clone().unwrap_or_else(|| audit::path(&self.data_dir));
        let unreadable = |error| Failure::local(format!("{} cannot be read", path.display()), error);
        if rotated::exists(&path).map_err(unreadable)? {
            return Ok(path);
        }
        Err(Failure::Local(format!(
            "there is no audit log at {}: a hub's first start makes it; name its data folder with --data-dir or \
             SHERATAN_DATA_DIR, or a log elsewhere with --file",
            path.display()
        )))
    }

    fn read(&self, start: Start) -> Result<Reader, Failure> {
        let path = self.path()?;
        let follower = Follower::open(&path, start);
        let follower = follower.map_err(|error| Failure::local(format!("{} cannot be read", path.display()), error))?;
        Ok(Reader { path, follower })
    }

    fn show(&self, line: &[u8]) {
        if self.json {
            terminal::json(line);
        } else {
            terminal::line(line::shown(line));
        }
    }
}

/// The lines of a log, with errors that name it.
struct Reader {
    path: PathBuf,
    follower: Follower,
}

impl Reader {
    fn next(&mut self) -> Result<Option<Vec<u8>>, Failure> {
        let line = self.follower.next_line();
        line.map_err(|error| Failure::local(format!("{} cannot be read", self.path.display()), error))
    }
}
