//! The trace: what the hub refused, and what found nothing. Nothing of it is in the journal, since it changed nothing; but
//! "what if the limit had been higher" can only be answered by who knows what came and was turned away.
//!
//! A ring of files in `<data-dir>/trace`, oldest first to go, written by a thread of its own: never waited for, and only a
//! life's first file is synced, once, so that what came before is never taken for its history. What the thread or the disk
//! cannot take is dropped, and a record says how much that was and when, so that a reader knows what is covered. How a file
//! is laid out is in `format.rs`.
//!
//! Cost: 28 bytes a record besides its command, one copy of it in the loop, one write a round.

mod counts;
mod format;
mod pending;
mod read;
#[cfg_attr(feature = "sim-mutants", path = "../../mutated/trace.rs")]
mod rules;
mod writer;

pub use counts::Counts;
pub use format::HEADER_BYTES;
pub use pending::{Gap, Pending};
pub use read::{Coverage, Entry, Reader};
pub use writer::{Settings, Trace, Writer};

use crate::disk::Disk;
use std::io;
use std::path::{Path, PathBuf};

/// Where the trace of a data folder is.
pub fn path(data_dir: &Path) -> PathBuf {
    data_dir.join("trace")
}

/// A file of the ring.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Segment {
    number: u64,
    path: PathBuf,
}

impl Segment {
    fn new(folder: &Path, number: u64) -> Self {
        Segment { number, path: folder.join(format!("trace-{number:020}.seg")) }
    }

    /// The files of a folder, oldest first; none if there is no folder.
    fn list(disk: &dyn Disk, folder: &Path) -> io::Result<Vec<Segment>> {
        let names = match disk.names(folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            names => names?,
        };
        let mut segments = Vec::new();
        for name in names {
            let digits = name.to_str().and_then(|name| name.strip_prefix("trace-")?.strip_suffix(".seg"));
            let digits = digits.filter(|digits| digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit()));
            if let Some(number) = digits.and_then(|digits| digits.parse().ok()) {
                segments.push(Segment { number, path: folder.join(name) });
            }
        }
        segments.sort();
        Ok(segments)
    }
}

#[cfg(test)]
mod tests;
