//! The audit log: what happened that somebody may ask about later. One JSON object a line, `{"ts","event","details",
//! "seq","prev"}`; `prev` is the SHA-256 of the line before, so that a line that was changed or taken out shows.
//!
//! The loop hands events over and waits for no file. What repeats is told once and then counted ([`coalescer`]).

mod chain;
mod coalescer;
mod feed;
mod page;
#[cfg_attr(feature = "sim-mutants", path = "../../mutated/audit.rs")]
mod rules;
mod writer;

pub use chain::{ChainCheck, ChainError, ChainReport, Link, seq_of, verify};
pub use coalescer::Coalescer;
pub use feed::{Feed, Tap};
pub use page::page;
pub use writer::{Audit, Settings, Writer};

use std::path::{Path, PathBuf};

/// Where the audit log of a data folder is.
pub fn path(data_dir: &Path) -> PathBuf {
    data_dir.join("logs").join("hub_security_audit.jsonl")
}
