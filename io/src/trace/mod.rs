//! The trace: commands that were refused or found nothing. They changed nothing and are not in the journal, but "what
//! if the limit had been higher" can only be answered with the commands that were refused.
//!
//! The trace is a ring of files in `<data-dir>/trace`, whose oldest are removed first. A thread of its own writes them,
//! and the loop never waits for it. Only a run's first file is synced, once, so that earlier records are never
//! attributed to this run's history. Records that the thread or the disk cannot keep up with are dropped, and a gap
//! record holds how many and when, so that a reader knows what is covered. `format.rs` has the files' layout.
//!
//! Cost: 28 bytes a record besides its command, one copy of the command in the loop, one write a round.

mod counts;
mod format;
mod pending;
mod read;
#[cfg_attr(feature = "sim-mutants", path = "../../mutated/trace.rs")]
mod rules;
mod writer;

pub use counts::Counts;
pub use format::{Entry, Gap, HEADER_BYTES};
pub use pending::Pending;
pub use read::{Coverage, Reader};
pub use writer::{Settings, Trace, Writer};

use crate::disk::Disk;
use std::io;
use std::path::{Path, PathBuf};

/// The trace's folder in a data folder.
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

    /// The files of a folder, oldest first; empty if there is no folder.
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
