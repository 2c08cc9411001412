//! History: reads a journal's records from the oldest restorable state, for tools. It takes no lock and changes
//! nothing, so it works on a copy or on a running hub's folder.

use super::folder::Folder;
use super::format::Identity;
use super::read::{Item, ReadError, Reader};
use super::replay;
use super::verify::{self, VerifyReport};
use crate::disk::RealDisk;
use sheratan_core::Hub;
use std::path::Path;
use std::{fmt, io};

/// A journal's history.
#[derive(Debug)]
pub struct History {
    /// The identity of its hub.
    pub identity: Identity,
    /// Whether a hub runs on the folder: then the history ends with the records that existed when it was opened.
    pub is_in_use: bool,
    /// The last record of the snapshot that it begins with; `None` if it begins with the hub's first record.
    pub snapshot_seq: Option<u64>,
    /// The state that it begins with.
    pub hub: Hub,
    /// The last record.
    pub last_seq: u64,
    reader: Reader,
}

/// Why a journal's history cannot be read.
#[derive(Debug)]
pub enum HistoryError {
    /// The folder cannot be read.
    Io(io::Error),
    /// It is damaged or empty.
    Damaged(Box<VerifyReport>),
}

impl History {
    /// Checks a data folder and opens its history.
    pub fn open(data_folder: &Path) -> Result<History, HistoryError> {
        let report = verify::verify(data_folder, false).map_err(HistoryError::Io)?;
        let folder = Folder::unlocked(data_folder);
        let segments = folder.segments().map_err(HistoryError::Io)?;
        let identity = segments.iter().rev().find_map(verify::header).map(|header| header.identity);
        let (true, Some(identity)) = (report.is_ok(), identity) else {
            return Err(HistoryError::Damaged(Box::new(report)));
        };
        let from_start = report.segments.first().is_some_and(|segment| segment.first_seq == 1);
        let (hub, snapshot_seq) = match report.snapshots.last().filter(|_| !from_start) {
            Some(snapshot) => {
                let loaded = replay::load(&RealDisk, &snapshot.file, &identity);
                let (hub, seq) = loaded.map_err(|error| HistoryError::Io(io::Error::other(error.to_string())))?;
                (hub, Some(seq))
            }
            None => (Hub::new(identity.key), None),
        };
        let last_seq = report.last_seq();
        let reader = Reader::new(&folder, Some(identity), snapshot_seq.unwrap_or(0) + 1, last_seq);
        let reader = reader.map_err(|error| HistoryError::Io(io::Error::other(error.to_string())))?;
        Ok(History { identity, is_in_use: report.is_in_use, snapshot_seq, hub, last_seq, reader })
    }

    /// The next record or mark; `None` at the end.
    #[allow(clippy::should_implement_trait, reason = "an iterator cannot lend")]
    pub fn next(&mut self) -> Result<Option<Item<'_>>, ReadError> {
        self.reader.next()
    }
}

impl fmt::Display for HistoryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HistoryError::Io(error) => error.fmt(f),
            HistoryError::Damaged(report) => report.fmt(f),
        }
    }
}

impl std::error::Error for HistoryError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            HistoryError::Io(error) => Some(error),
            HistoryError::Damaged(_) => None,
        }
    }
}
