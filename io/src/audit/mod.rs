//! The audit log: events that an auditor may ask about later. One JSON object a line, `{"ts","event","details","seq",
//! "prev"}`; `prev` is the SHA-256 of the previous line, so that a changed or removed line is detected.
//!
//! The loop sends events to a thread and waits for no file. Repeated events are written once and then counted
//! ([`coalescer`]).

mod chain;
mod coalescer;
mod event;
mod feed;
mod link;
mod page;
#[cfg_attr(feature = "sim-mutants", path = "../../mutated/audit.rs")]
mod rules;
mod writer;

pub use chain::{ChainCheck, ChainError, ChainReport, seq_of, verify};
pub use coalescer::Coalescer;
pub use event::Event;
pub use feed::{Feed, Tap};
pub use link::Link;
pub use page::page;
pub use writer::{Audit, Room, Settings, Writer};

use std::path::{Path, PathBuf};

/// The path of the audit log in a data folder.
pub fn path(data_dir: &Path) -> PathBuf {
    data_dir.join("logs").join("hub_security_audit.jsonl")
}
