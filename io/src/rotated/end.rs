//! The end of a file, read backwards: a few lines cost their own length, not the file's.

use super::{Follower, Start};
use crate::disk::DiskReader;
use std::io::{self, Read, SeekFrom};
use std::path::Path;

/// Bytes of one read: some hundred lines.
const STEP: u64 = 64 << 10;

/// The last whole lines of all files together, at most `count`, the oldest first, without their ends; empty if the file
/// does not exist. O(those lines), and a listing of the folder.
pub fn last_lines(path: &Path, count: usize) -> io::Result<Vec<Vec<u8>>> {
    let mut follower = Follower::open(path, Start::Last(count))?;
    let mut lines = Vec::new();
    while lines.len() < count
        && let Some(line) = follower.next_line()?
    {
        lines.push(line);
    }
    Ok(lines)
}

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
    use super::super::RotatedFile;
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

    #[test]
    fn the_last_lines_come_from_as_many_files_as_they_need() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        assert_eq!(last_lines(&path, 3).unwrap(), [[0; 0]; 0]);
        let mut file = RotatedFile::open(&path, 6, 9).unwrap();
        let lines: Vec<_> = (10..30).map(|n| n.to_string()).collect();
        lines.iter().for_each(|line| file.write(format!("{line}\n").as_bytes()).unwrap());
        fs::write(folder.path().join("x.3"), "torn").unwrap();
        fs::write(&path, "28\n29\nnot whole").unwrap();
        let expected: Vec<_> =
            ["10", "11", "12", "13", "torn"].into_iter().chain(lines[6..].iter().map(|s| &**s)).collect();
        for count in 0..30 {
            let found = last_lines(&path, count).unwrap();
            let texts: Vec<_> = found.iter().map(|line| std::str::from_utf8(line).unwrap()).collect();
            assert_eq!(texts, expected[expected.len() - count.min(expected.len())..]);
        }
    }
}
