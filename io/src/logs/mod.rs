//! Logs: readable lines on the terminal, and JSON lines in `<data-dir>/logs/hub.jsonl`.
//!
//! Each of the two has a thread that writes, so that the loop waits for neither: a terminal that is stopped with ctrl-S
//! or a disk that hangs must not stop the hub. Lines that do not fit into a thread's channel, or whose write fails, are
//! counted, and the count is written as soon as possible. (Only the audit log never loses a line.)

pub mod sink;

use crate::redact::Redactor;
use crate::rfc3339::Rfc3339;
use crate::rotated::RotatedFile;
use crate::stall::{Watches, WriteWatch};
use sheratan_core::Utc;
use sink::{LineWriter, Sink};
use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tracing::Subscriber;
use tracing_subscriber::filter::{EnvFilter, ParseError};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::layer;
use tracing_subscriber::fmt::time::FormatTime;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Registry, reload};

/// How long the end of the process waits for unwritten lines: long enough for a slow disk, and a stopped terminal does
/// not keep the hub from ending.
const FLUSH_MAX: Duration = Duration::from_secs(2);

/// The logs' files and level.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The newest file.
    pub path: PathBuf,
    /// Bytes of one file.
    pub bytes_max: u64,
    /// Older files that are kept.
    pub kept: u32,
    /// `error`, `warn`, `info`, `debug`, `trace`, or a list such as `info,sheratan_io::journal=debug`.
    pub level: String,
}

/// The logs' threads. Dropping it waits, for a limited time, until everything is written.
#[derive(Debug)]
pub struct Logs {
    terminal: Sink,
    file: Sink,
    level: Level,
    watches: Watches,
}

/// The log level, which can be changed while the process runs.
#[derive(Clone, Debug)]
pub struct Level(reload::Handle<EnvFilter, Registry>);

impl Level {
    /// Changes the level.
    ///
    /// # Errors
    /// The level is invalid; then nothing changes.
    pub fn set(&self, level: &str) -> io::Result<()> {
        self.0.reload(filter(level).map_err(io::Error::other)?).map_err(io::Error::other)
    }
}

impl Logs {
    /// The watches of the two, and of what is not opened yet.
    pub fn watches(&self) -> Watches {
        self.watches.clone()
    }

    /// The handle that changes the level.
    pub fn level(&self) -> Level {
        self.level.clone()
    }
}

/// Starts to log.
///
/// # Errors
/// The level is invalid, or the process logs already. A file that cannot be opened is said on the terminal, and tried
/// again for each line: what is only said does not keep a hub from starting.
pub fn start(settings: &Settings, redactor: &Arc<Redactor>) -> io::Result<Logs> {
    let filter = filter(&settings.level).map_err(io::Error::other)?;
    let watches = Watches::default();
    let to_file = watched(watches.log.clone(), telling_failures(settings.clone(), redactor.clone()));
    let to_terminal = watched(watches.stderr.clone(), redacting(redactor.clone(), io::stderr()));
    let file = Sink::start("logs", lost_as_json, to_file)?;
    let terminal = Sink::start("terminal", lost_as_text, to_terminal)?;
    let is_coloured = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let (subscriber, level) = subscriber(filter, terminal.writer(), is_coloured, file.writer());
    subscriber.try_init().map_err(io::Error::other)?;
    Ok(Logs { terminal, file, level, watches })
}

/// Parses a level.
pub fn filter(level: &str) -> Result<EnvFilter, ParseError> {
    EnvFilter::builder().parse(level)
}

/// Writes under a watch.
fn watched(watch: WriteWatch, mut write: impl FnMut(&[u8]) -> io::Result<()>) -> impl FnMut(&[u8]) -> io::Result<()> {
    move |line| watch.watch(|| write(line))
}

/// Redacts the secrets in lines and writes them.
fn redacting(redactor: Arc<Redactor>, mut out: impl Write) -> impl FnMut(&[u8]) -> io::Result<()> {
    move |line| out.write_all(&redactor.redact(line))
}

/// Writes to the file, redacted. The first failure is written to the terminal, since logging it would lead back here.
fn telling_failures(settings: Settings, redactor: Arc<Redactor>) -> impl FnMut(&[u8]) -> io::Result<()> {
    let mut file = None;
    let mut is_failing = false;
    move |line| {
        let written = match &mut file {
            Some(_) => Ok(()),
            none => {
                RotatedFile::open(&settings.path, settings.bytes_max, settings.kept).map(|opened| *none = Some(opened))
            }
        };
        let written = written.and_then(|()| {
            let file = file.as_mut().expect("it was just opened");
            file.write(&redactor.redact_json(line)).map_err(io::Error::from)
        });
        if let Err(error) = &written
            && !is_failing
        {
            let path = settings.path.display();
            // A terminal that cannot be written either must not end the hub.
            _ = writeln!(io::stderr(), "{}  WARN the log file {path} cannot be written: {error}", now());
        }
        is_failing = written.is_err();
        written
    }
}

fn subscriber(
    filter: EnvFilter,
    terminal: LineWriter,
    is_coloured: bool,
    file: LineWriter,
) -> (impl Subscriber + Send + Sync, Level) {
    let (filter, level) = reload::Layer::new(filter);
    let terminal = layer().with_timer(Clock).with_ansi(is_coloured).with_target(false).with_writer(terminal);
    let json = layer().json().flatten_event(true).with_current_span(false).with_span_list(false);
    let json = json.with_timer(Clock).with_writer(file);
    (tracing_subscriber::registry().with(filter).with(terminal).with(json), Level(level))
}

impl Drop for Logs {
    fn drop(&mut self) {
        self.terminal.finish(FLUSH_MAX);
        self.file.finish(FLUSH_MAX);
    }
}

/// The current time as in every other line.
struct Clock;

impl FormatTime for Clock {
    fn format_time(&self, out: &mut Writer<'_>) -> fmt::Result {
        write!(out, "{}", now())
    }
}

fn now() -> Rfc3339 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Rfc3339::new(Utc::from_millis(since_epoch.as_millis() as u64))
}

fn lost_as_json(count: u64) -> String {
    format!(
        "{{\"timestamp\":\"{}\",\"level\":\"WARN\",\"message\":\"log lines were lost\",\"count\":{count}}}\n",
        now()
    )
}

fn lost_as_text(count: u64) -> String {
    format!("{}  WARN {count} log lines were lost\n", now())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Secret;
    use serde_json::Value;
    use std::sync::Mutex;

    /// The lines on the terminal and in the file for the events of `log`.
    fn logged(level: &str, is_coloured: bool, log: impl FnOnce()) -> (String, String) {
        let (terminal, file) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(Vec::new())));
        let sink = |lines: &Arc<Mutex<Vec<u8>>>| {
            let lines = lines.clone();
            Sink::start("test", lost_as_json, move |line| lines.lock().unwrap().write_all(line)).unwrap()
        };
        let mut sinks = [sink(&terminal), sink(&file)];
        let [to_terminal, to_file] = sinks.each_ref().map(Sink::writer);
        tracing::subscriber::with_default(subscriber(filter(level).unwrap(), to_terminal, is_coloured, to_file).0, log);
        sinks.iter_mut().for_each(|sink| sink.finish(Duration::from_secs(60)));
        let text = |lines: Arc<Mutex<Vec<u8>>>| String::from_utf8(lines.lock().unwrap().clone()).unwrap();
        (text(terminal), text(file))
    }

    #[test]
    fn an_event_is_a_readable_line_and_a_json_line() {
        let (terminal, file) = logged("info", false, || tracing::warn!(jobs = 3, path = %"/a\nb", "look here"));
        assert!(terminal.contains(" WARN look here jobs=3 path=/a"), "{terminal}");
        assert_eq!(file.lines().count(), 1);
        let line: Value = serde_json::from_str(&file).unwrap();
        assert_eq!((&line["level"], &line["message"], &line["jobs"]), (&"WARN".into(), &"look here".into(), &3.into()));
        assert_eq!(line["path"], "/a\nb");
        let timestamp = line["timestamp"].as_str().unwrap();
        assert_eq!(timestamp.len(), "2026-01-15T20:52:03.348Z".len());
        assert!(crate::rfc3339::parse(timestamp).is_ok());
    }

    #[test]
    fn colours_are_for_a_terminal_only() {
        for is_coloured in [false, true] {
            let (terminal, file) = logged("info", is_coloured, || tracing::info!("x"));
            assert_eq!((terminal.contains('\u{1b}'), file.contains('\u{1b}')), (is_coloured, false));
        }
    }

    #[test]
    fn a_level_applies_to_all_targets_or_to_one() {
        let log = || {
            tracing::debug!(target: "sheratan_io::journal", "a");
            tracing::debug!(target: "sheratan_io::shell", "b");
            tracing::info!(target: "sheratan_io::shell", "c");
        };
        let table = [("error", 0), ("info", 1), ("debug", 3), ("info,sheratan_io::journal=debug", 2)];
        for (level, lines) in table {
            assert_eq!(logged(level, false, log).1.lines().count(), lines, "{level}");
        }
        assert!(filter("info,=").is_err());
    }

    #[test]
    fn a_secret_that_a_line_holds_by_accident_is_written_nowhere() {
        let folder = tempfile::tempdir().unwrap();
        let token = "s3\"cret\\token";
        let secret = Secret::new(token.as_bytes());
        let redactor = Arc::new(Redactor::new(&[&secret]));
        let node = format!("node {token:?}");
        let (to_terminal, to_file) = logged("info", false, || tracing::warn!(%node, path = "/s3%22cret%5Ctoken", "x"));
        let path = folder.path().join("x.jsonl");
        let settings = Settings { path: path.clone(), bytes_max: 1 << 20, kept: 1, level: "info".into() };
        telling_failures(settings, redactor.clone())(to_file.as_bytes()).unwrap();
        let line: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        assert_eq!(line["node"], format!("node \"{secret}\""));
        assert_eq!(line["path"], format!("/{secret}"));
        assert_eq!((&line["message"], &line["level"]), (&"x".into(), &"WARN".into()));
        let mut terminal = Vec::new();
        redacting(redactor.clone(), &mut terminal)(to_terminal.as_bytes()).unwrap();
        assert!(terminal.ends_with(b"\n") && !redactor.contains(&terminal));
        assert!(redactor.contains(to_terminal.as_bytes()) && redactor.contains(to_file.as_bytes()));
    }

    #[test]
    fn no_secret_is_in_a_line_that_shows_one() {
        let secret = Secret::new(*b"correct horse battery");
        let (terminal, file) = logged("info", false, || tracing::info!(%secret, again = ?secret, "shown"));
        for text in [terminal, file] {
            assert!(text.contains("sha256:") && !text.contains("horse"), "{text}");
        }
    }
}
