//! The audit log's ledger: the hash of each line that was reported as written, and checks of the files against them.

use super::{AUDIT_FILES_KEPT, Ending, Violation, holds};
use crate::disk::VirtualDisk;
use sheratan_io::audit::{ChainCheck, ChainReport, Feed, Link, Settings, seq_of, verify};
use sheratan_io::disk::Disk;
use sheratan_io::rotated::newest_first;
use std::io::Read;
use std::path::Path;

const CHAIN: &str = "the audit chain holds";

/// The lines that were reported as written.
#[derive(Debug, Default)]
pub struct AuditLedger {
    /// The hash of each line, the first one's first.
    lines: Vec<[u8; 32]>,
    /// Lines that were written, including those that a power cut lost.
    written: u64,
}

/// A page of the log, as requested and answered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LogPage {
    /// The line after which it begins; if `None`, it ends with the latest.
    pub after: Option<u64>,
    /// Lines, at most.
    pub limit: u64,
    /// The last line that was reported as written when the page was requested.
    pub known: u64,
    /// The lines.
    pub lines: Vec<String>,
}

impl AuditLedger {
    /// Adds the lines that were written since the last call, and calls `on_lines` with them.
    pub fn written(&mut self, feed: &mut Feed, mut on_lines: impl FnMut(&[u8])) -> Result<(), Violation> {
        while let Some(lines) = feed.take() {
            on_lines(&lines);
            for line in lines.split_inclusive(|byte| *byte == b'\n') {
                let line = line.strip_suffix(b"\n").unwrap_or(line);
                let next = self.lines.len() as u64 + 1;
                holds(self.push(line), CHAIN, || {
                    format!("line {next} is reported as {}", String::from_utf8_lossy(line))
                })?;
            }
        }
        Ok(())
    }

    /// Adds a line; false if it is not the next one.
    fn push(&mut self, line: &[u8]) -> bool {
        let after = Link::after(line).filter(|after| after.seq == self.lines.len() as u64 + 2);
        self.lines.extend(after.as_ref().map(|after| after.prev));
        self.written += u64::from(after.is_some());
        after.is_some()
    }

    /// Lines that were written.
    pub fn lines(&self) -> u64 {
        self.written
    }

    /// The last line that was reported as written.
    pub fn last_line(&self) -> u64 {
        self.lines.len() as u64
    }

    /// Checks that a page has the requested lines: as written, without a gap, up to its limit or to the last line that
    /// was known. True if it begins later because older files were removed.
    pub fn check_page(&self, disk: &VirtualDisk, path: &Path, page: &LogPage) -> Result<bool, Violation> {
        const PAGE: &str = "a page of the audit log leaves no line out";
        let LogPage { after, limit, known, lines } = page;
        let mut seqs = Vec::new();
        for line in lines {
            let seq = seq_of(line.as_bytes()).unwrap_or(0);
            let hash = Link::after(line.as_bytes()).map(|link| link.prev);
            let is_written = seq > 0 && hash.as_ref() == self.lines.get(seq as usize - 1);
            holds(is_written, "a line that is read from the audit log was written to it", || {
                format!("in a page: {line}")
            })?;
            seqs.push(seq);
        }
        let (first, last) = (seqs.first().copied(), seqs.last().copied());
        let detail = || format!("lines {first:?} to {last:?} after {after:?}, at most {limit}, of {known} and more");
        holds(seqs.windows(2).all(|pair| pair[1] == pair[0] + 1) && seqs.len() as u64 <= *limit, PAGE, detail)?;
        let is_full = seqs.len() as u64 == *limit;
        holds(is_full || last.or(*after).unwrap_or(0) >= *known, PAGE, detail)?;
        let (Some(first), false) = (first, after.is_none() && is_full) else { return Ok(false) };
        let wanted = after.map_or(1, |after| after + 1);
        if first > wanted {
            let oldest = read(disk, path)?
                .into_iter()
                .rev()
                .find_map(|(_, bytes)| bytes.split(|byte| *byte == b'\n').find_map(seq_of));
            holds(oldest.is_some_and(|oldest| first <= oldest), PAGE, detail)?;
        }
        holds(first >= wanted, PAGE, detail)?;
        Ok(first > wanted)
    }

    /// Checks the files after a process has ended: the chain holds, and ends at the last line, or after a power cut at
    /// an earlier one. The lines that are there become the ledger's.
    pub fn check(&mut self, disk: &VirtualDisk, settings: &Settings, ending: Ending) -> Result<ChainReport, Violation> {
        let path = &settings.path;
        let broken = |detail| Violation { invariant: CHAIN, detail };
        if disk.names(path.parent().expect("it is in a folder")).is_err() {
            // Before the first start, or the power was cut before the folder's name was durable.
            let is_lost = ending == Ending::Power || self.lines.is_empty();
            holds(is_lost, CHAIN, || format!("the log is missing, with {} lines", self.lines.len()))?;
            self.lines.clear();
            return Ok(ChainCheck::default().report());
        }
        let report = verify(disk, path).map_err(|error| broken(error.to_string()))?;
        let link = Link::find(disk, path).map_err(|error| broken(error.to_string()))?.unwrap_or_default();
        let (known, there) = (self.lines.len() as u64, link.seq - 1);
        // Lines that were in flight when the process died are not in the ledger.
        let may_be_more = ending != Ending::Between;
        holds(there <= known || may_be_more, CHAIN, || format!("{there} lines are there, {known} were written"))?;
        holds(there >= known || ending == Ending::Power, "what was logged stays", || {
            format!("{there} lines of the audit log are there, {known} were written, and the power was not cut")
        })?;
        if there <= known && there > 0 {
            holds(link.prev == self.lines[there as usize - 1], "what was logged stays", || {
                format!("line {there} of the audit log is another than was written")
            })?;
        }
        // Files are removed from the oldest, and only when there are more than are kept.
        let is_whole = report.first_seq == 1 || report.files >= u64::from(AUDIT_FILES_KEPT);
        holds(is_whole, "what was logged stays", || {
            format!("the log begins with line {} in {} files", report.first_seq, report.files)
        })?;
        self.lines.truncate(there as usize);
        if there > known {
            self.add_written(disk, path)?;
        }
        Ok(report)
    }

    /// Adds the lines that were in flight when the process died, and were written.
    fn add_written(&mut self, disk: &VirtualDisk, path: &Path) -> Result<(), Violation> {
        for (_, bytes) in read(disk, path)?.iter().rev() {
            bytes.split(|byte| *byte == b'\n').for_each(|line| _ = self.push(line));
        }
        Ok(())
    }
}

/// Checks a log with a flipped bit: the chain's check names a line if a complete one follows, and a hub can continue
/// it.
pub fn check_damaged(disk: &VirtualDisk, path: &Path, flipped: &Path, at: u64) -> Result<(), Violation> {
    let files = read(disk, path)?;
    let newer = files.iter().position(|(file, _)| file == flipped).unwrap_or(0);
    let has_line = |bytes: &[u8]| bytes.split(|byte| *byte == b'\n').any(|line| seq_of(line).is_some());
    let rest = files.get(newer).and_then(|(_, bytes)| bytes.get(at as usize + 1..)).unwrap_or_default();
    let rest = rest.iter().position(|byte| *byte == b'\n').map_or(&[][..], |end| &rest[end + 1..]);
    let is_followed = has_line(rest) || files[..newer].iter().any(|(_, bytes)| has_line(bytes));
    let verified = verify(disk, path);
    holds(verified.is_err() || !is_followed, "damage of the audit log shows", || {
        format!("a bit of byte {at} of {} flipped: {verified:?}", flipped.display())
    })?;
    let found = Link::find(disk, path);
    holds(found.is_ok(), "a damaged log stops no start", || format!("{found:?}"))
}

/// All files, the newest first.
fn read(disk: &VirtualDisk, path: &Path) -> Result<Vec<(std::path::PathBuf, Vec<u8>)>, Violation> {
    let unreadable = |error: std::io::Error| Violation { invariant: CHAIN, detail: error.to_string() };
    let mut files = Vec::new();
    for part in newest_first(disk, path).map_err(unreadable)? {
        let mut bytes = Vec::new();
        if let Some(mut file) = part.open().map_err(unreadable)? {
            file.read_to_end(&mut bytes).map_err(unreadable)?;
        }
        files.push((part.path, bytes));
    }
    Ok(files)
}
