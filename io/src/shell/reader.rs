//! The log reader: reads pages of the audit log and of the alerts in a thread of its own, since the loop never waits
//! for a file.

use crate::audit;
use crate::disk::{Disk, RealDisk};
use crate::http::Reply;
use crate::rotated::last_lines;
use crate::service::{Origin, Page, Problem};
use crossbeam_channel::{Receiver, Sender, bounded};
use mio::Waker;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Page requests that may be queued; operators send them, not programs.
const PAGES_MAX: usize = 64;

/// A page of a log that a client requested.
pub struct PageRequest {
    /// The request to answer.
    pub origin: Origin,
    /// The page.
    pub page: Page,
}

/// The paths of the logs.
pub struct LogPaths {
    /// The audit log.
    pub audit: PathBuf,
    /// The alerts.
    pub alerts: PathBuf,
}

/// The loop's handle to the reader's thread.
pub struct LogReader {
    requests: Sender<PageRequest>,
    replies: Receiver<(Origin, Reply)>,
}

impl LogReader {
    /// Starts the thread, which ends when the handle is dropped. `waker` wakes the loop when there is a reply.
    pub fn start(paths: LogPaths, waker: Arc<Waker>) -> io::Result<Self> {
        let (requests, request_receiver) = bounded::<PageRequest>(PAGES_MAX);
        // Room for all queued requests and the one being read: sending a reply never blocks.
        let (reply_sender, replies) = bounded(PAGES_MAX + 1);
        std::thread::Builder::new().name("log-reader".into()).spawn(move || {
            for PageRequest { origin, page } in request_receiver {
                let reply = read(&paths, page);
                if reply_sender.send((origin, reply)).is_err() || waker.wake().is_err() {
                    return;
                }
            }
        })?;
        Ok(LogReader { requests, replies })
    }

    /// Queues a request. If the queue is full, returns the reply that refuses it.
    pub fn ask(&self, request: PageRequest) -> Result<(), Reply> {
        self.requests.try_send(request).map_err(|_| {
            Problem::new(503, "not_ready", format!("{PAGES_MAX} pages of the logs are being read; ask again"))
                .into_reply()
        })
    }

    /// The next page that was read, if there is one.
    pub fn reply(&self) -> Option<(Origin, Reply)> {
        self.replies.try_recv().ok()
    }
}

fn read(paths: &LogPaths, page: Page) -> Reply {
    match page {
        Page::Audit { after, limit } => audit_page(&RealDisk, &paths.audit, after, limit),
        Page::Alerts { open, limit } => {
            let mut body = br#"{"ok":true,"open":"#.to_vec();
            body.extend_from_slice(&open);
            body.extend_from_slice(br#","alerts":["#);
            match last_lines(&paths.alerts, limit) {
                // A line that a power cut tore is left out.
                Ok(lines) => push_all(&mut body, lines.iter().map(Vec::as_slice).filter(|line| is_json(line))),
                Err(error) => return unreadable("the alerts' file", &error),
            }
            Reply::json(200, body)
        }
    }
}

/// A page of the audit log: at most `limit` lines with numbers above `after`, or the latest ones without `after`.
pub fn audit_page(disk: &dyn Disk, path: &Path, after: Option<u64>, limit: usize) -> Reply {
    let mut body = br#"{"ok":true,"events":["#.to_vec();
    match audit::page(disk, path, after, limit) {
        Ok(lines) => push_all(&mut body, lines.iter().map(String::as_bytes)),
        Err(error) => return unreadable("the audit log", &error),
    }
    Reply::json(200, body)
}

/// Appends the lines as an array's elements and closes the array and its object.
fn push_all<'a>(body: &mut Vec<u8>, lines: impl Iterator<Item = &'a [u8]>) {
    for (index, line) in lines.enumerate() {
        if index > 0 {
            body.push(b',');
        }
        body.extend_from_slice(line);
    }
    body.extend_from_slice(b"]}");
}

fn is_json(line: &[u8]) -> bool {
    serde_json::from_slice::<serde::de::IgnoredAny>(line).is_ok()
}

fn unreadable(what: &str, error: &io::Error) -> Reply {
    tracing::error!(%error, "{what} cannot be read");
    Problem::new(503, "not_ready", format!("{what} cannot be read: {error}")).into_reply()
}
