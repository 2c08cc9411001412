//! Divergence: a replay that decides differently than the hub that wrote the journal, and the ways out of it.
//!
//! It stops every replay, a start above all: after the first record that is decided differently, later records may
//! refer to other jobs than before, results may complete the wrong ones, and acknowledged jobs may be lost silently.
//! Nothing is changed then: the build that wrote the journal still starts on it.

use super::build::Build;
use super::folder::Folder;
use super::lost::Lost;
use serde::Serialize;
use std::fmt;
use std::ops::RangeInclusive;
use std::path::PathBuf;

/// Where and how a replay diverged, and what can be done.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Divergence {
    /// The segment that holds the last of the records in question.
    pub file: PathBuf,
    /// The first record that may have been decided differently: the one after the last mark at which both agreed.
    pub first_seq: u64,
    /// The last one; below the first if the state differed before any record was replayed.
    pub last_seq: u64,
    /// What differs.
    pub cause: Cause,
    /// The build that wrote the record, or the outcome hash.
    pub written_by: Build,
    /// The build that replayed it.
    pub read_by: Build,
    /// The last record of the newest snapshot that this build can read; `None` without one.
    pub snapshot_seq: Option<u64>,
    /// The records after that snapshot, which going back to it loses.
    pub lost: Option<Lost>,
}

/// How a replay diverged.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// This build cannot decode the record.
    Undecodable(String),
    /// The record was decided under another rules version than the replayed state has there.
    OtherRules {
        /// The rules version in the record.
        recorded: u16,
        /// That of the replayed state.
        replayed: u16,
    },
    /// The record changed the state when it was written and does not now; the text is the decision of the replay.
    ChangesNothing(String),
    /// The outcomes up to a mark differ. In hex.
    OutcomeHash {
        /// The hash that the hub that wrote the journal recorded.
        recorded: String,
        /// The hash of the replay.
        replayed: String,
    },
}

impl Divergence {
    /// `snapshot_seq` is the last record of the newest readable snapshot. Reads the journal after it, to count the
    /// records that going back would lose.
    pub(crate) fn new(
        folder: &Folder,
        records: RangeInclusive<u64>,
        cause: Cause,
        written_by: Build,
        snapshot_seq: Option<u64>,
    ) -> Divergence {
        let (first_seq, last_seq) = records.into_inner();
        // Files that cannot be listed or read are not counted: the divergence must be reported in any case.
        let segments = folder.segments().unwrap_or_default();
        let holds = segments.iter().rev().find(|segment| segment.first_seq <= last_seq.max(1));
        let file = holds.map_or_else(|| folder.segment_path(last_seq), |segment| segment.path.clone());
        let lost = snapshot_seq.and_then(|seq| Lost::known(&segments, seq + 1));
        Divergence { file, first_seq, last_seq, cause, written_by, read_by: Build::THIS, snapshot_seq, lost }
    }
}

impl fmt::Display for Divergence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Divergence { first_seq: first, last_seq: last, written_by, read_by, .. } = self;
        let file = self.file.display();
        match &self.cause {
            Cause::Undecodable(reason) => write!(
                f,
                "record {last} in {file}, which build {written_by} wrote, cannot be read by this build, {read_by}: {reason}"
            )?,
            Cause::OtherRules { recorded, replayed } => write!(
                f,
                "record {last} in {file}, which build {written_by} wrote, was decided under rules version {recorded}, but the state there has version {replayed}"
            )?,
            Cause::ChangesNothing(decided) => write!(
                f,
                "record {last} in {file} is decided otherwise: it changed the hub's state when build {written_by} wrote it, this build, {read_by}, {decided}"
            )?,
            Cause::OutcomeHash { recorded, replayed } => {
                match last.checked_sub(*first) {
                    None => write!(f, "the state after record {last} in {file} differs")?,
                    Some(0) => write!(f, "record {last} in {file} is decided otherwise")?,
                    Some(_) => write!(f, "of the records {first} to {last} in {file} one is decided otherwise")?,
                }
                write!(
                    f,
                    ": build {written_by} noted the outcome hash {recorded} there, this build, {read_by}, has {replayed}"
                )?;
            }
        }
        f.write_str("; nothing was changed. ")?;
        self.write_ways_out(f)
    }
}

impl Divergence {
    fn write_ways_out(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.written_by == self.read_by {
            f.write_str("Both are the same build, so keep a copy of the data folder and report it")?;
        } else {
            write!(f, "Start build {} on this data folder", self.written_by)?;
        }
        match (self.snapshot_seq, &self.lost) {
            (None, _) => f.write_str("; no snapshot can be read, so there is no state to go back to"),
            (Some(seq), None) => write!(f, "; nothing is known behind the snapshot of record {seq}"),
            (Some(seq), Some(lost)) => write!(
                f,
                ", or go back to the snapshot of record {seq} and lose {lost}: `sheratan-hub journal repair --from-snapshot --accept-loss`"
            ),
        }
    }
}

impl std::error::Error for Divergence {}
