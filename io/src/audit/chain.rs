//! The chain: each line of the audit log carries its number and the hash of the line before.

use crate::rotated::rotated_paths;
use crate::service::{Event, object};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::collections::VecDeque;
use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};

/// Where the chain stands: what the next line needs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Link {
    /// The next line's number, from 1.
    pub seq: u64,
    /// The hash of the last line; zeros before the first.
    pub prev: [u8; 32],
}

/// What a whole chain holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ChainReport {
    /// Lines in all files.
    pub lines: u64,
    /// The first line's number: above 1 when older files were taken away.
    pub first_seq: u64,
    /// The last line's number.
    pub last_seq: u64,
}

/// A chain that does not hold.
#[derive(Debug)]
pub enum ChainError {
    /// A file cannot be read.
    Io(PathBuf, io::Error),
    /// A line is not what was written, or one is missing before it.
    Broken {
        /// The file.
        path: PathBuf,
        /// The line in it, from 1.
        line: u64,
        /// What is wrong.
        reason: &'static str,
    },
}

impl Default for Link {
    fn default() -> Self {
        Link { seq: 1, prev: [0; 32] }
    }
}

impl Link {
    /// Where the chain in a log's files stands. O(the newest file).
    pub fn find(path: &Path) -> io::Result<Self> {
        for file in rotated_paths(path).iter().rev() {
            let mut last = None;
            for line in BufReader::new(File::open(file)?).split(b'\n') {
                let line = line?;
                if let Some(seq) = seq_of(&line) {
                    last = Some(Link { seq: seq + 1, prev: Sha256::digest(&line).into() });
                }
            }
            if let Some(link) = last {
                return Ok(link);
            }
        }
        Ok(Link::default())
    }

    /// Appends the event's line to `out`, and moves on.
    pub fn write(&mut self, event: &Event, out: &mut Vec<u8>) {
        let start = out.len();
        object(out, |line| {
            line.time("ts", event.ts).plain("event", event.event).raw("details", &event.details);
            line.number("seq", self.seq).plain("prev", hex(&self.prev));
        });
        *self = Link { seq: self.seq + 1, prev: Sha256::digest(&out[start..]).into() };
        out.push(b'\n');
    }
}

/// The lines after the one of that number, at most `limit`, the oldest first; with `after` 0 the latest ones.
pub fn page(path: &Path, after: u64, limit: usize) -> io::Result<Vec<String>> {
    let mut lines = VecDeque::new();
    for file in rotated_paths(path) {
        for line in BufReader::new(File::open(file)?).split(b'\n') {
            let line = line?;
            // A line that was torn by a power cut has no number, and is no JSON to hand out.
            let (Some(seq), Ok(line)) = (seq_of(&line), String::from_utf8(line)) else { continue };
            if seq <= after {
                continue;
            }
            lines.push_back(line);
            if after > 0 && lines.len() == limit {
                return Ok(lines.into());
            }
            if lines.len() > limit {
                lines.pop_front();
            }
        }
    }
    Ok(lines.into())
}

/// Checks the whole chain. O(lines).
pub fn verify(path: &Path) -> Result<ChainReport, ChainError> {
    let mut report: Option<ChainReport> = None;
    let mut prev: Option<String> = None;
    for file in rotated_paths(path) {
        let fail = |error| ChainError::Io(file.clone(), error);
        for (index, line) in BufReader::new(File::open(&file).map_err(fail)?).split(b'\n').enumerate() {
            let line = line.map_err(fail)?;
            let broken = |reason| ChainError::Broken { path: file.clone(), line: index as u64 + 1, reason };
            let value: Value = serde_json::from_slice(&line).map_err(|_| broken("it is no JSON"))?;
            let seq = value["seq"].as_u64().ok_or_else(|| broken("it has no number"))?;
            if prev.as_ref().is_some_and(|prev| value["prev"] != prev.as_str()) {
                return Err(broken("the line before it is not the one that was there when it was written"));
            }
            if report.as_ref().is_some_and(|report| report.last_seq + 1 != seq) {
                return Err(broken("its number does not follow the one before"));
            }
            let (lines, first_seq) = report.as_ref().map_or((0, seq), |report| (report.lines, report.first_seq));
            report = Some(ChainReport { lines: lines + 1, first_seq, last_seq: seq });
            prev = Some(hex(&Sha256::digest(&line).into()));
        }
    }
    Ok(report.unwrap_or(ChainReport { lines: 0, first_seq: 1, last_seq: 0 }))
}

/// The number of a whole line.
fn seq_of(line: &[u8]) -> Option<u64> {
    serde_json::from_slice::<Value>(line).ok()?["seq"].as_u64()
}

fn hex(hash: &[u8; 32]) -> String {
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl fmt::Display for ChainError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ChainError::Io(path, error) => write!(f, "{} cannot be read: {error}", path.display()),
            ChainError::Broken { path, line, reason } => {
                write!(f, "the audit log is broken at {} line {line}: {reason}", path.display())
            }
        }
    }
}

impl std::error::Error for ChainError {}
