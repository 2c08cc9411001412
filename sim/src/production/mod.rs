//! Replay of production: what a real hub recorded, applied again as it was, or under other limits.
//!
//! - [`history::Recording`] merges a data folder's journal and trace into the order in which the hub was given the
//!   commands.
//! - [`replay::replay`] applies it as it was: state, timeline and digest, at the end or at any moment.
//! - [`what_if::what_if`] applies it to two hubs side by side, one as it was and one under other limits.
//!
//! Nothing here locks or changes the folder, so it may be a copy or a running hub's.

pub mod history;
pub mod replay;
pub mod timeline;
pub mod what_if;

use sheratan_core::{DecodeError, RestoreError};
use sheratan_io::config::ConfigError;
use sheratan_io::journal::{HistoryError, ReadError};
use std::fmt;
use std::io;

/// Why a recording cannot be replayed.
#[derive(Debug)]
pub enum ReplayError {
    /// The data folder cannot be read, or its journal is damaged.
    History(HistoryError),
    /// The journal cannot be read further.
    Read(ReadError),
    /// The trace cannot be read.
    Trace(io::Error),
    /// A record is not a command of this version.
    Undecodable {
        /// The record; for an entry of the trace, the record before it.
        seq: u64,
        /// Why.
        source: DecodeError,
    },
    /// The state at the recording's start cannot be copied.
    Restore(RestoreError),
    /// The changed limits contradict each other or the recorded ones.
    Limits(ConfigError),
}

impl fmt::Display for ReplayError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReplayError::History(error) => error.fmt(f),
            ReplayError::Read(error) => error.fmt(f),
            ReplayError::Trace(error) => write!(f, "the trace cannot be read: {error}"),
            ReplayError::Undecodable { seq, source } => write!(f, "record {seq} cannot be applied: {source}"),
            ReplayError::Restore(error) => error.fmt(f),
            ReplayError::Limits(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for ReplayError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            ReplayError::History(error) => Some(error),
            ReplayError::Read(error) => Some(error),
            ReplayError::Trace(error) => Some(error),
            ReplayError::Undecodable { source, .. } => Some(source),
            ReplayError::Restore(error) => Some(error),
            ReplayError::Limits(error) => Some(error),
        }
    }
}
