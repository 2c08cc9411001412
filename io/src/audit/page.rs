//! Pages of the audit log, read from its end: of a gigabyte of older files none is touched that the page does not need.

use super::chain::{each_line, lines_of, seq_of};
use crate::rotated::newest_first;
use serde::de::IgnoredAny;
use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufReader, Seek, SeekFrom};
use std::path::Path;

/// The lines after the one of that number, at most `limit`, the oldest first; with `after` 0 the latest ones.
/// O(one file, and the start of each that is newer).
///
/// The log is written and rotated meanwhile. A page never leaves out a line between two that it has: rather it ends, and
/// the next one goes on.
pub fn page(path: &Path, after: u64, limit: usize) -> io::Result<Vec<String>> {
    let lines = if after == 0 { latest(path, limit)? } else { following(path, after, limit)? };
    // The number was read from the line's end; what is handed out must be JSON as a whole.
    let text = |(_, line): (u64, Vec<u8>)| String::from_utf8(line).ok();
    Ok(lines.into_iter().filter_map(text).filter(|line| serde_json::from_str::<IgnoredAny>(line).is_ok()).collect())
}

type Lines = VecDeque<(u64, Vec<u8>)>;

/// From the newest file back. A rotation meanwhile shows a file twice, under its new name; its lines are known by then.
fn latest(path: &Path, limit: usize) -> io::Result<Lines> {
    let mut found = Lines::new();
    for file in newest_first(path)? {
        let missing = limit - found.len();
        if missing == 0 {
            break;
        }
        let before = found.front().map_or(u64::MAX, |(seq, _)| *seq);
        let mut older = Lines::new();
        let read = each_line(&file, |line| {
            if let Some(seq) = seq_of(line).filter(|seq| *seq < before) {
                if older.len() == missing {
                    older.pop_front();
                }
                older.push_back((seq, line.to_vec()));
            }
            true
        });
        unless_gone(read)?;
        older.append(&mut found);
        found = older;
    }
    Ok(found)
}

/// The lines after a number, while they are found.
struct Following {
    lines: Lines,
    last_seq: u64,
    limit: usize,
    is_complete: bool,
}

impl Following {
    /// Takes a line; whether there may be more.
    fn take(&mut self, line: &[u8]) -> bool {
        let Some(seq) = seq_of(line).filter(|seq| *seq > self.last_seq) else { return true };
        let is_gap = !self.lines.is_empty() && seq != self.last_seq + 1;
        if !is_gap {
            self.lines.push_back((seq, line.to_vec()));
            self.last_seq = seq;
        }
        self.is_complete = is_gap || self.lines.len() == self.limit;
        !self.is_complete
    }
}

fn following(path: &Path, after: u64, limit: usize) -> io::Result<Lines> {
    // The file that has the first line is held open: a rotation renames it, and it is the right one still.
    let mut first = None;
    let mut newer = Vec::new();
    for file in newest_first(path)? {
        let Some((reader, first_seq)) = open_at_first(&file)? else { continue };
        newer.extend(first.replace((reader, file)).map(|(_, file)| file));
        if first_seq <= after.saturating_add(1) {
            break;
        }
    }
    let mut following = Following { lines: Lines::new(), last_seq: after, limit, is_complete: limit == 0 };
    let Some((mut reader, _)) = first.filter(|_| limit > 0) else { return Ok(following.lines) };
    lines_of(&mut reader, |line| following.take(line))?;
    for file in newer.into_iter().rev() {
        if following.is_complete {
            break;
        }
        unless_gone(each_line(&file, |line| following.take(line)))?;
    }
    Ok(following.lines)
}

/// A file that was rotated away since its name was read is no failure.
fn unless_gone(read: io::Result<()>) -> io::Result<()> {
    read.or_else(|error| if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) })
}

/// A file and its first line's number; none if it has no line, or has gone.
fn open_at_first(path: &Path) -> io::Result<Option<(BufReader<File>, u64)>> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    let mut reader = BufReader::new(file);
    let mut first_seq = None;
    lines_of(&mut reader, |line| {
        first_seq = seq_of(line);
        first_seq.is_none()
    })?;
    reader.seek(SeekFrom::Start(0))?;
    Ok(first_seq.map(|seq| (reader, seq)))
}
