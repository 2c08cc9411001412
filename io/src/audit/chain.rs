//! The chain: each line of the audit log carries its number and the hash of the line before.
//!
//! The chain shows lines that were changed, removed or inserted. It cannot show that the newest lines were cut off or
//! that the whole log was rewritten: for that, the last `prev` must be kept elsewhere.
//!
//! A crash may leave an incomplete line. It is kept, the next line is a [`TORN`] event that reports it, and the chain
//! covers both: `prev` is the hash of the incomplete bytes, and the details have the hash of the last whole line. If
//! that next line is torn as well, the one after it reports all bytes after the last whole line, and its `prev` is the
//! hash of all these.

use super::Event;
use super::{Link, rules};
use crate::disk::{Disk, DiskReader};
use crate::object::object;
use crate::rotated::{Part, newest_first};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::fmt;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};

/// Bytes of one read of a file: a log is read from its start to its end.
const READ_BYTES: usize = 64 << 10;

/// The event that reports incomplete bytes before it.
pub const TORN: &str = "AUDIT_LINE_TORN";

/// The result of checking a chain that is intact.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ChainReport {
    /// Files.
    pub files: u64,
    /// Whole lines in all files.
    pub lines: u64,
    /// The first line's number: above 1 if older files were removed.
    pub first_seq: u64,
    /// The last line's number.
    pub last_seq: u64,
    /// Torn lines, each with a line after it that reports it.
    pub torn: u64,
    /// Whether incomplete bytes follow the last line: they are being written, or the next line will report them.
    pub is_tail_torn: bool,
}

/// Why a chain is not intact.
#[derive(Debug)]
pub enum ChainError {
    /// A file cannot be read.
    Io(PathBuf, io::Error),
    /// A line was changed, or one is missing before it.
    Broken {
        /// The file.
        path: PathBuf,
        /// The line in it, from 1.
        line: u64,
        /// What is wrong.
        reason: &'static str,
    },
}

impl Link {
    /// The link after the last whole line of a log's files; `None` if there is no line. O(the newest file).
    pub fn find(disk: &dyn Disk, path: &Path) -> io::Result<Option<Self>> {
        for part in newest_first(disk, path)? {
            let mut last = None;
            each_line(&part, |line| {
                last = Link::after(line).or(last.take());
                true
            })?;
            if last.is_some() {
                return Ok(last);
            }
        }
        Ok(None)
    }

    /// The link after a line; `None` if the line is not whole.
    pub fn after(line: &[u8]) -> Option<Self> {
        seq_of(line).map(|seq| Link { seq: seq + 1, prev: Sha256::digest(line).into() })
    }

    /// Appends the event's line to `out`, with its line end; returns the link after it.
    pub fn write(&self, event: &Event, out: &mut Vec<u8>) -> Link {
        let start = out.len();
        object(out, |line| {
            line.time("ts", event.utc()).plain("event", event.event).raw("details", &event.details);
            line.number("seq", self.seq).plain("prev", hex::encode(self.prev));
        });
        let next = rules::next_link(self, &out[start..]);
        out.push(b'\n');
        next
    }

    /// Extends the chain over the torn bytes after the last whole line; returns the event to write before `event`.
    pub fn pass(&mut self, torn: &[u8], event: &Event) -> Event {
        let mut details = Vec::new();
        object(&mut details, |out| _ = out.number("bytes", torn.len() as u64).plain("before", hex::encode(self.prev)));
        self.prev = Sha256::digest(torn).into();
        Event { event: TORN, details, ..event.clone() }
    }
}

/// The bytes after the last whole line of the newest file, without a line end; `None` if there are none. O(that file).
pub fn torn_tail(disk: &dyn Disk, path: &Path) -> io::Result<Option<Vec<u8>>> {
    let mut tail = None::<Vec<u8>>;
    each_line_of(disk.open_to_read(path)?, |line| {
        match &mut tail {
            // The last line may lack only its line end, which the file knows.
            _ if seq_of(line).is_some() => tail = None,
            Some(torn) => {
                torn.push(b'\n');
                torn.extend_from_slice(line);
            }
            None => tail = Some(line.to_vec()),
        }
        true
    })?;
    Ok(tail)
}

/// Checks the whole chain. O(lines).
pub fn verify(disk: &dyn Disk, path: &Path) -> Result<ChainReport, ChainError> {
    let parts = newest_first(disk, path).map_err(|error| ChainError::Io(path.to_owned(), error))?;
    let mut check = ChainCheck::default();
    for part in parts.into_iter().rev() {
        let unreadable = |error| ChainError::Io(part.path.clone(), error);
        let Some(file) = part.open().map_err(unreadable)? else {
            // It was removed meanwhile, and so were the older ones: the chain begins after them.
            check = ChainCheck::default();
            continue;
        };
        let (mut number, mut reason) = (0, None);
        each_line_of(file, |line| {
            number += 1;
            reason = check.line(line).err();
            reason.is_none()
        })
        .map_err(unreadable)?;
        if let Some(reason) = reason {
            return Err(ChainError::Broken { path: part.path, line: number, reason });
        }
        check.files += 1;
        check.place = (part.path, number);
    }
    // Only after the very last line may there be incomplete bytes that no line reports yet.
    if check.is_torn && check.place.0 != path {
        let (path, line) = check.place;
        return Err(ChainError::Broken { path, line, reason: NO_LINE });
    }
    Ok(check.report())
}

/// A check of the chain, line by line, the oldest first.
#[derive(Default)]
pub struct ChainCheck {
    /// Whether torn lines are left out of the lines.
    is_page: bool,
    /// The next line's number; `None` before the first.
    next_seq: Option<u64>,
    /// The hash of the last line, whole or not; `None` before the first.
    prev: Option<[u8; 32]>,
    /// Whether torn bytes follow the last line, until the next line reports them.
    is_torn: bool,
    /// The hash of the torn bytes so far.
    tail: Sha256,
    /// The hash of the line before the torn bytes.
    before_torn: Option<[u8; 32]>,
    lines: u64,
    first_seq: u64,
    torn: u64,
    files: u64,
    /// The last file, and how many lines it has.
    place: (PathBuf, u64),
}

const NO_LINE: &str = "it is no line of the audit log";
const UNREPORTED: &str = "the line before it is no line of the audit log, and this one does not say why";

impl ChainCheck {
    /// A check of a page, which has whole lines only: a line that reports torn bytes must match the line before those.
    pub fn of_page() -> Self {
        ChainCheck { is_page: true, ..ChainCheck::default() }
    }

    /// Checks the next line, without its end.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn line(&mut self, line: &[u8]) -> Result<(), &'static str> {
        let value = serde_json::from_slice::<Value>(line).ok();
        let Some((value, seq)) = value.and_then(|value| value["seq"].as_u64().map(|seq| (value, seq))) else {
            if self.is_page {
                return Err(NO_LINE);
            }
            if std::mem::replace(&mut self.is_torn, true) {
                self.tail.update(b"\n");
            } else {
                (self.before_torn, self.tail) = (self.prev.take(), Sha256::new());
            }
            self.tail.update(line);
            self.prev = Some(self.tail.clone().finalize().into());
            return Ok(());
        };
        if self.next_seq.is_some_and(|next| next != seq) {
            return Err("its number does not follow the one before");
        }
        if self.is_page && value["event"] == TORN {
            // Its `prev` is the torn line's hash, and that line is not on the page.
            self.before_torn = self.prev.take();
            self.is_torn = true;
        }
        let start = (seq == 1).then_some([0; 32]).filter(|_| !self.is_torn);
        if self.prev.or(start).is_some_and(|prev| value["prev"] != hex::encode(prev)) {
            return Err("the line before it is not the one that was there when it was written");
        }
        if std::mem::take(&mut self.is_torn) {
            let before = self.before_torn.take().or((seq == 1).then_some([0; 32]));
            if value["event"] != TORN || before.is_some_and(|before| value["details"]["before"] != hex::encode(before))
            {
                return Err(UNREPORTED);
            }
            self.torn += 1;
        }
        if self.lines == 0 {
            self.first_seq = seq;
        }
        self.lines += 1;
        (self.next_seq, self.prev) = (Some(seq + 1), Some(Sha256::digest(line).into()));
        Ok(())
    }

    /// The result for the lines so far.
    pub fn report(&self) -> ChainReport {
        ChainReport {
            files: self.files,
            lines: self.lines,
            first_seq: self.first_seq.max(1),
            last_seq: self.next_seq.map_or(0, |next| next - 1),
            torn: self.torn,
            is_tail_torn: self.is_torn,
        }
    }
}

/// Calls `take` with each line of a file, without its end, until it returns `false`. A removed file has no lines. A
/// line without an end is the last one: the rest of a line that is being written is not read as a line.
pub fn each_line(part: &Part, take: impl FnMut(&[u8]) -> bool) -> io::Result<()> {
    let Some(file) = part.open()? else { return Ok(()) };
    each_line_of(file, take)
}

/// As [`each_line`], for an open file.
fn each_line_of(file: Box<dyn DiskReader>, mut take: impl FnMut(&[u8]) -> bool) -> io::Result<()> {
    let mut reader = BufReader::with_capacity(READ_BYTES, file);
    let mut line = Vec::new();
    while reader.read_until(b'\n', &mut line)? > 0 {
        let whole = line.strip_suffix(b"\n");
        if !take(whole.unwrap_or(&line)) || whole.is_none() {
            return Ok(());
        }
        line.clear();
    }
    Ok(())
}

/// The number of a whole line, which [`Link::write`] puts near its end: only the end is read.
pub fn seq_of(line: &[u8]) -> Option<u64> {
    let (rest, hash) = line.strip_suffix(b"\"}")?.split_last_chunk::<64>()?;
    let rest = rest.strip_suffix(b",\"prev\":\"")?;
    let digits_start = rest.iter().rposition(|byte| !byte.is_ascii_digit())? + 1;
    let (rest, digits) = rest.split_at(digits_start);
    let is_whole =
        rest.starts_with(b"{\"ts\":\"") && rest.ends_with(b",\"seq\":") && hash.iter().all(u8::is_ascii_hexdigit);
    is_whole.then(|| std::str::from_utf8(digits).ok()?.parse().ok())?
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
