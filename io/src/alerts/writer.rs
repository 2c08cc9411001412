//! The alerts' thread: appends lines to `alerts.jsonl` and passes them to the webhook.
//!
//! Alerts are few (one a rule and group while it is open, one line a cool-down), so each line is a write of its own. A
//! line whose write failed is kept and retried; a line that does not fit into the channel is counted and logged.

use super::line::AlertLine;
use super::webhook::{Post, Webhook, WebhookUrl};
use crate::rotated::RotatedFile;
use crate::stall::WriteWatch;
use crate::thread::{self, END_MAX, Thread};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use sheratan_core::alerts::{Change, State};
use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Lines that may wait for the thread.
const LINES_MAX: usize = 1_024;

/// Lines kept while writes fail; the oldest is dropped first, since the newest shows the current state.
const HELD_MAX: usize = 4_096;

/// How long until a failed write is retried.
const RETRY: Duration = Duration::from_millis(500);

/// The alerts' file and webhook.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The newest file.
    pub path: PathBuf,
    /// Bytes of one file.
    pub bytes_max: u64,
    /// Older files that are kept.
    pub kept: u32,
    /// The webhook, if one is configured.
    pub webhook: Option<WebhookUrl>,
}

/// The hub's handle to the alerts' thread.
#[derive(Debug)]
pub struct AlertLog {
    lines: Option<Sender<AlertLine>>,
    /// Lines that were not written, and posts that were not accepted.
    lost: Arc<AtomicU64>,
    thread: Option<Thread<()>>,
}

impl AlertLog {
    /// Opens the file and starts the threads. `source` is a URL that identifies the hub in alerts; `post` posts to the
    /// webhook, if one is configured.
    pub fn start(settings: &Settings, source: &str, watch: WriteWatch, post: Post) -> io::Result<Self> {
        let file = RotatedFile::open(&settings.path, settings.bytes_max, settings.kept)?;
        let lost = Arc::new(AtomicU64::new(0));
        let webhook =
            settings.webhook.clone().map(|url| Webhook::start(url, source, lost.clone(), post)).transpose()?;
        let (sender, lines) = bounded(LINES_MAX);
        let writer = Writer { file, webhook, held: VecDeque::new(), lost: lost.clone(), is_failing: false, watch };
        let thread = thread::spawn("alerts", move || writer.run(&lines))?;
        Ok(AlertLog { lines: Some(sender), lost, thread: Some(thread) })
    }

    /// Sends a line to the thread; never blocks.
    pub fn record(&self, line: AlertLine) {
        let lines = self.lines.as_ref().expect("it is open until it is dropped");
        if lines.try_send(line).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
            tracing::error!("an alert is not written: {LINES_MAX} wait for the disk already");
        }
    }

    /// How many changes of alerts were not written or not posted.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }
}

impl Drop for AlertLog {
    /// Waits until everything is written, for a limited time.
    fn drop(&mut self) {
        self.lines = None;
        self.thread.take().map(|thread| thread.join(END_MAX));
    }
}

struct Writer {
    file: RotatedFile,
    webhook: Option<Webhook>,
    held: VecDeque<Vec<u8>>,
    lost: Arc<AtomicU64>,
    is_failing: bool,
    watch: WriteWatch,
}

impl Writer {
    fn run(mut self, lines: &Receiver<AlertLine>) {
        loop {
            let wait = if self.held.is_empty() { Duration::MAX } else { RETRY };
            match lines.recv_timeout(wait) {
                Ok(AlertLine { change, calendar, line }) => {
                    if let Some(change) = change {
                        log(&change);
                        if let Some(webhook) = &self.webhook {
                            webhook.post(&change, calendar);
                        }
                    }
                    self.hold(line);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            self.flush();
        }
        self.flush();
        if !self.held.is_empty() {
            tracing::error!(alerts = self.held.len(), "the alerts could not be written at the end: they are lost");
        }
        if let Some(webhook) = self.webhook {
            webhook.finish();
        }
    }

    fn hold(&mut self, mut line: Vec<u8>) {
        line.push(b'\n');
        if self.held.len() == HELD_MAX {
            self.held.pop_front();
            self.lost.fetch_add(1, Ordering::Relaxed);
            tracing::error!("an alert is lost: {HELD_MAX} wait for the disk");
        }
        self.held.push_back(line);
    }

    fn flush(&mut self) {
        while let Some(line) = self.held.front() {
            if let Err(error) = self.watch.watch(|| self.file.write(line)).map_err(io::Error::from) {
                if !std::mem::replace(&mut self.is_failing, true) {
                    tracing::error!(%error, "alerts cannot be written; they are kept until they can");
                }
                return;
            }
            self.held.pop_front();
        }
        if std::mem::take(&mut self.is_failing) {
            tracing::info!("alerts are written again");
        }
    }
}

/// Logs a change for the log's readers.
fn log(change: &Change) {
    let alert = &change.alert;
    let (rule, total) = (&alert.rule, alert.total);
    let top = alert.top.first().map_or_else(|| "-".to_owned(), |(ip, _)| ip.to_string());
    let text = format!("{} events of {} s", alert.event, alert.window.as_secs_ceil());
    match change.state {
        State::Opened => tracing::warn!(rule, count = alert.count, threshold = alert.threshold, top, "a burst: {text}"),
        State::Updated => tracing::warn!(rule, count = alert.count, total, top, "a burst goes on: {text}"),
        State::Resolved => tracing::info!(rule, total, "a burst is over: {text}"),
    }
}
