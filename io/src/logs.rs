//! Logs: for a person on the terminal, as JSON lines in `<data-dir>/logs/hub.jsonl`.
//!
//! A thread of its own writes the file. The loop never waits for it: what does not fit into the channel, or what the disk
//! does not take, is counted, and the count is told as soon as there is room. (The audit log is the one that loses nothing.)

use crate::rotated::RotatedFile;
use crossbeam_channel::{Receiver, Sender, bounded};
use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use tracing_subscriber::filter::{EnvFilter, ParseError};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// Lines that may wait for the thread.
const LINES_MAX: usize = 8_192;

/// How the logs are kept.
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

/// Keeps the log's file open; its end waits until all is written.
#[derive(Debug)]
pub struct Logs {
    lines: Option<Sender<Vec<u8>>>,
    thread: Option<JoinHandle<()>>,
}

/// Starts to log.
pub fn start(settings: &Settings) -> io::Result<Logs> {
    let file = RotatedFile::open(&settings.path, settings.bytes_max, settings.kept)?;
    let (lines, receiver) = bounded(LINES_MAX);
    let dropped = Arc::new(AtomicU64::new(0));
    let writer = LineWriter { lines: lines.clone(), dropped: dropped.clone() };
    let thread = std::thread::Builder::new().name("logs".into()).spawn(move || write(file, &receiver, &dropped))?;
    let filter = filter(&settings.level).map_err(io::Error::other)?;
    let is_coloured = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let terminal = tracing_subscriber::fmt::layer().with_writer(io::stderr).with_ansi(is_coloured).with_target(false);
    let json = tracing_subscriber::fmt::layer().json().flatten_event(true).with_writer(writer);
    tracing_subscriber::registry().with(filter).with(terminal).with(json).try_init().map_err(io::Error::other)?;
    Ok(Logs { lines: Some(lines), thread: Some(thread) })
}

/// What a level says.
pub fn filter(level: &str) -> Result<EnvFilter, ParseError> {
    EnvFilter::builder().parse(level)
}

impl Drop for Logs {
    fn drop(&mut self) {
        // The subscriber lives as long as the process and holds a sender too: an empty line says that it is the last.
        if let Some(lines) = self.lines.take() {
            // If the thread has ended there is nobody to wait for.
            _ = lines.send(Vec::new());
        }
        if let Some(thread) = self.thread.take() {
            // Its panic was reported when it happened; here is nobody left to tell.
            _ = thread.join();
        }
    }
}

/// Makes a writer for each line.
#[derive(Clone, Debug)]
struct LineWriter {
    lines: Sender<Vec<u8>>,
    dropped: Arc<AtomicU64>,
}

impl<'a> MakeWriter<'a> for LineWriter {
    type Writer = LineWriter;
    fn make_writer(&'a self) -> LineWriter {
        self.clone()
    }
}

impl Write for LineWriter {
    /// The formatter writes each event's line in one call.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if !line.is_empty() && self.lines.try_send(line.to_vec()).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn write(mut file: RotatedFile, lines: &Receiver<Vec<u8>>, dropped: &AtomicU64) {
    let mut is_failing = false;
    for line in lines {
        if line.is_empty() {
            return;
        }
        let lost = dropped.swap(0, Ordering::Relaxed);
        let result = if lost > 0 {
            let notice = format!("{{\"level\":\"WARN\",\"message\":\"log lines were lost\",\"count\":{lost}}}\n");
            file.write(&[notice.as_bytes(), &line].concat())
        } else {
            file.write(&line)
        };
        if let Err(error) = &result {
            dropped.fetch_add(lost + 1, Ordering::Relaxed);
            if !is_failing {
                // Logging it would come back here.
                eprintln!("the log file cannot be written: {error}");
            }
        }
        is_failing = result.is_err();
    }
}
