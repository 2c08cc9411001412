//! The audit log's reader: pages are read in a thread of their own, since the loop waits for no file.

use crate::audit;
use crate::http::Reply;
use crate::service::{Origin, Problem};
use crossbeam_channel::{Receiver, Sender, bounded};
use mio::Waker;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

/// Pages that may be asked for at once; operators ask, not programs.
const PAGES_MAX: usize = 64;

/// A page that a client asked for.
pub struct PageRequest {
    /// Where the reply goes.
    pub origin: Origin,
    /// Lines after this sequence number; the latest ones if absent.
    pub after: Option<u64>,
    /// At most so many.
    pub limit: usize,
}

/// The loop's end of the reader's thread.
pub struct AuditReader {
    requests: Sender<PageRequest>,
    replies: Receiver<(Origin, Reply)>,
}

impl AuditReader {
    /// Starts the thread, which ends with its requests. `waker` tells the loop that there is a reply.
    pub fn start(path: PathBuf, waker: Arc<Waker>) -> io::Result<Self> {
        let (requests, request_receiver) = bounded::<PageRequest>(PAGES_MAX);
        // As many replies as requests, and one in the making: a reply never waits for the loop.
        let (reply_sender, replies) = bounded(PAGES_MAX + 1);
        std::thread::Builder::new().name("audit-reader".into()).spawn(move || {
            for PageRequest { origin, after, limit } in request_receiver {
                let reply = page(&path, after, limit);
                if reply_sender.send((origin, reply)).is_err() || waker.wake().is_err() {
                    return;
                }
            }
        })?;
        Ok(AuditReader { requests, replies })
    }

    /// Asks for a page; the reply, if there are too many such requests.
    pub fn ask(&self, request: PageRequest) -> Result<(), Reply> {
        self.requests.try_send(request).map_err(|_| {
            Problem::new(503, "not_ready", format!("{PAGES_MAX} pages of the audit log are being read; ask again"))
                .into_reply()
        })
    }

    /// A page that was read.
    pub fn reply(&self) -> Option<(Origin, Reply)> {
        self.replies.try_recv().ok()
    }
}

fn page(path: &std::path::Path, after: Option<u64>, limit: usize) -> Reply {
    match audit::page(path, after, limit) {
        Ok(lines) => {
            let mut body = br#"{"ok":true,"events":["#.to_vec();
            for (index, line) in lines.iter().enumerate() {
                if index > 0 {
                    body.push(b',');
                }
                body.extend_from_slice(line.as_bytes());
            }
            body.extend_from_slice(b"]}");
            Reply::json(200, body)
        }
        Err(error) => {
            tracing::error!(%error, "the audit log cannot be read");
            Problem::new(503, "not_ready", format!("the audit log cannot be read: {error}")).into_reply()
        }
    }
}
