//! Pages of the audit log, read from its end: older files that the page does not need are not read.

use super::chain::{each_line, seq_of};
use super::rules;
use crate::disk::Disk;
use crate::rotated::{Part, newest_first};
use serde::de::IgnoredAny;
use std::collections::VecDeque;
use std::io;
use std::path::Path;

/// At most `limit` lines with numbers above `after`, the oldest first; without `after` the latest ones. O(one file, and
/// the start of each newer one).
///
/// The log may be written and rotated meanwhile. A page never omits a line between two that it has: it ends early
/// instead, and the next page continues.
pub fn page(disk: &dyn Disk, path: &Path, after: Option<u64>, limit: usize) -> io::Result<Vec<String>> {
    let lines = match after {
        None => latest(disk, path, limit)?,
        Some(after) => following(disk, path, after, limit)?,
    };
    // The number was read from the line's end only; a line on a page must be valid JSON as a whole.
    let text = |(_, line): (u64, Vec<u8>)| String::from_utf8(line).ok();
    Ok(lines.into_iter().filter_map(text).filter(|line| serde_json::from_str::<IgnoredAny>(line).is_ok()).collect())
}

type Lines = VecDeque<(u64, Vec<u8>)>;

/// The latest lines, read from the newest file backwards.
fn latest(disk: &dyn Disk, path: &Path, limit: usize) -> io::Result<Lines> {
    let mut found = Lines::new();
    for part in newest_first(disk, path)? {
        let missing = limit - found.len();
        if missing == 0 {
            break;
        }
        let before = found.front().map_or(u64::MAX, |(seq, _)| *seq);
        let mut older = Lines::new();
        each_line(&part, |line| {
            if let Some(seq) = seq_of(line).filter(|seq| *seq < before) {
                if older.len() == missing {
                    older.pop_front();
                }
                older.push_back((seq, line.to_vec()));
            }
            true
        })?;
        older.append(&mut found);
        found = older;
    }
    Ok(found)
}

/// The lines after a number, as they are read.
struct Following {
    lines: Lines,
    last_seq: u64,
    limit: usize,
    is_complete: bool,
}

impl Following {
    /// Adds a line; returns whether more may follow.
    fn add(&mut self, line: &[u8]) -> bool {
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

fn following(disk: &dyn Disk, path: &Path, after: u64, limit: usize) -> io::Result<Lines> {
    let mut parts = Vec::new();
    for part in newest_first(disk, path)? {
        let Some(first_seq) = first_seq(&part)? else { continue };
        parts.push(part);
        if rules::page_begins_here(first_seq, after) {
            break;
        }
    }
    let mut following = Following { lines: Lines::new(), last_seq: after, limit, is_complete: limit == 0 };
    for part in parts.iter().rev() {
        if following.is_complete {
            break;
        }
        each_line(part, |line| following.add(line))?;
    }
    Ok(following.lines)
}

/// The number of a file's first line; `None` if the file has no line or was removed.
fn first_seq(part: &Part) -> io::Result<Option<u64>> {
    let mut first_seq = None;
    each_line(part, |line| {
        first_seq = seq_of(line);
        first_seq.is_none()
    })?;
    Ok(first_seq)
}

#[cfg(test)]
mod tests {
    use super::super::{Audit, Settings, verify};
    use super::*;
    use crate::audit::Event;
    use crate::disk::RealDisk;
    use crate::rotated::newest_first;
    use sheratan_core::{Calendar, Timestamp};

    fn settings(folder: &tempfile::TempDir, bytes_max: u64, kept: u32) -> Settings {
        Settings { path: folder.path().join("logs/audit.jsonl"), bytes_max, kept }
    }

    /// Records events a second apart, so that each gets a line of its own.
    fn record(settings: &Settings, count: u64) {
        let mut audit = Audit::start(settings, None, crate::stall::WriteWatch::default()).unwrap();
        for n in 0..count {
            audit.record(Event {
                ts: Timestamp::from_millis(n * 1_000),
                calendar: Calendar::UNSET,
                event: "AUTH_FAILURE",
                details: b"{}".to_vec(),
                is_count: false,
                times: 1,
            });
        }
    }

    fn seqs(settings: &Settings, after: Option<u64>, limit: usize) -> Vec<u64> {
        let lines = page(&RealDisk, &settings.path, after, limit).unwrap();
        lines.iter().map(|line| seq_of(line.as_bytes()).unwrap()).collect()
    }

    #[test]
    fn a_page_begins_after_a_number_or_ends_with_the_latest() {
        let folder = tempfile::tempdir().unwrap();
        let settings = settings(&folder, 1_000, 100);
        record(&settings, 40);
        assert!(newest_first(&RealDisk, &settings.path).unwrap().len() > 5);
        for after in [None].into_iter().chain((0..=41).map(Some)) {
            for limit in [1_u64, 3, 40, 100] {
                let expected = match after {
                    None => (41 - limit.min(40)..41).collect::<Vec<u64>>(),
                    Some(after) => (after + 1..41).take(limit as usize).collect(),
                };
                assert_eq!(seqs(&settings, after, limit as usize), expected, "after {after:?}, at most {limit}");
            }
        }
        assert_eq!(seqs(&settings, Some(u64::MAX), 3), [0; 0]);
    }

    #[test]
    fn a_missing_or_empty_log_has_no_lines() {
        let folder = tempfile::tempdir().unwrap();
        let settings = settings(&folder, 1_000, 100);
        assert!(page(&RealDisk, &settings.path, None, 3).is_err(), "not even its folder is there");
        record(&settings, 0);
        assert_eq!(seqs(&settings, None, 3).len() + seqs(&settings, Some(1), 3).len(), 0);
    }

    #[test]
    fn pages_continue_after_removed_files() {
        let folder = tempfile::tempdir().unwrap();
        let settings = settings(&folder, 1_000, 100);
        record(&settings, 40);
        let (mut missing, mut all) = (Vec::new(), Vec::new());
        for (index, part) in newest_first(&RealDisk, &settings.path).unwrap().into_iter().enumerate() {
            if index % 2 == 1 {
                std::fs::remove_file(&part.path).unwrap();
                missing.push(part.path.extension().unwrap().to_owned());
            }
        }
        assert!(missing.len() > 2, "{missing:?}");
        let expected = seqs(&settings, None, 100);
        let mut after = 1;
        loop {
            let page = seqs(&settings, Some(after), 5);
            let Some(last) = page.last() else { break };
            assert!(page.windows(2).all(|pair| pair[0] + 1 == pair[1]), "{page:?}");
            after = *last;
            all.extend(page);
        }
        assert!(expected.len() < 40);
        assert_eq!(all, expected[1..]);
    }

    #[test]
    fn a_line_that_is_not_json_is_not_on_a_page() {
        let folder = tempfile::tempdir().unwrap();
        let settings = settings(&folder, 1 << 20, 100);
        record(&settings, 3);
        let text = std::fs::read_to_string(&settings.path).unwrap();
        std::fs::write(&settings.path, text.replacen("\"details\":{}", "\"details\":{]", 1)).unwrap();
        assert_eq!(seqs(&settings, None, 10), [2, 3]);
        assert!(verify(&RealDisk, &settings.path).is_err());
    }

    #[test]
    fn a_reader_misses_no_line_while_the_log_is_written_and_rotated() {
        const LINES: u64 = 3_000;
        let folder = tempfile::tempdir().unwrap();
        let settings = settings(&folder, 2_000, 10_000);
        record(&settings, 1);
        std::thread::scope(|scope| {
            scope.spawn(|| record(&settings, LINES));
            let mut last = 1;
            while last < LINES + 1 {
                for seq in seqs(&settings, Some(last), 50) {
                    assert_eq!(seq, last + 1);
                    last = seq;
                }
                let latest = seqs(&settings, None, 50);
                assert!(latest.windows(2).all(|pair| pair[0] + 1 == pair[1]), "{latest:?}");
            }
        });
        assert_eq!(verify(&RealDisk, &settings.path).unwrap().lines, LINES + 1);
    }
}
