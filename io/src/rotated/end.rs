//! The end of a file, read backwards: a few lines cost their own length, not the file's.

use crate::disk::DiskReader;
use std::io::{self, Read, SeekFrom};

/// Bytes of one read: some hundred lines.
const STEP: u64 = 64 << 10;

/// Where a file's last lines are.
pub struct LastLines {
    /// Where the first of them begins.
    pub start: u64,
    /// How many there are: fewer than asked for if the file has no more.
    pub count: usize,
}

impl LastLines {
    /// Finds the last `count` lines. Bytes after the last line end count as a line only if the file is `is_finished`.
    /// O(bytes of those lines).
    pub fn find(file: &mut dyn DiskReader, count: usize, is_finished: bool) -> io::Result<Self> {
        let end = file.seek(SeekFrom::End(0))?;
        // The line ends before the first of the lines is found: theirs and the one before.
        let mut missing = count + 1;
        let (mut start, mut lines) = (end, 0);
        let mut step = Vec::new();
        while start > 0 {
            let length = start.min(STEP);
            file.seek(SeekFrom::Start(start - length))?;
            step.clear();
            // A file that was cut meanwhile has fewer lines.
            file.take(length).read_to_end(&mut step)?;
            if start == end && is_finished && step.last().is_some_and(|last| *last != b'\n') {
                (missing, lines) = (missing - 1, lines + 1);
                if missing == 0 {
                    return Ok(LastLines { start: end, count: 0 });
                }
            }
            for (at, _) in step.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n') {
                missing -= 1;
                if missing == 0 {
                    return Ok(LastLines { start: start - length + at as u64 + 1, count });
                }
                lines += 1;
            }
            start -= length;
        }
        Ok(LastLines { start: 0, count: lines })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, File};

    #[test]
    fn the_last_lines_are_those_of_a_file_that_is_read_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        let long = "o".repeat(3 * STEP as usize / 2);
        let texts =
            ["", "a", "a\n", "\n\n", "a\nb", "a\n\nb\n", &format!("a\n{long}\nb\n"), &format!("{long}\n{long}")];
        for text in texts {
            fs::write(&path, text).unwrap();
            for (is_finished, count) in (0..8).map(|n| (n % 2 == 0, n / 2)) {
                // The naive model: all lines, of which the last has no end.
                let mut lines: Vec<&str> = text.split_inclusive('\n').collect();
                if !is_finished && !text.ends_with('\n') {
                    lines.pop();
                }
                let whole = lines.iter().map(|line| line.len()).sum::<usize>();
                let expected = &lines[lines.len() - count.min(lines.len())..];
                let found = LastLines::find(&mut File::open(&path).unwrap(), count, is_finished).unwrap();
                let bytes = expected.iter().map(|line| line.len()).sum::<usize>();
                assert_eq!(
                    (found.start, found.count),
                    ((whole - bytes) as u64, expected.len()),
                    "{count} of {text:.9?}"
                );
            }
        }
    }
}
