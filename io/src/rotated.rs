//! Rotated files: `name`, which is written, and the older `name.1`, `name.2` and so on, of which the highest number is the
//! latest.
//!
//! An older file keeps its name until it is removed: a rotation is one renaming however many files are kept, readers need
//! no lock, and what was archived under a name is what that name says. Lines are appended whole, and what goes wrong must
//! not end the log: a disk that is full takes the rest of a line back out, a rotation that fails half-way is finished by
//! the next, and a file that somebody moved or removed is made again.

use crate::platform;
use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// A file that lines are appended to.
#[derive(Debug)]
pub struct RotatedFile {
    path: PathBuf,
    file: File,
    bytes: u64,
    bytes_max: u64,
    /// Older files that stay.
    kept: u32,
    /// Whether the file ends within a line: the next one must first end it.
    is_torn: bool,
}

impl RotatedFile {
    /// Opens the file at its end; makes it, with its folder, if it is not there.
    pub fn open(path: &Path, bytes_max: u64, kept: u32) -> io::Result<Self> {
        let mut file = append_to(path)?;
        let bytes = file.seek(SeekFrom::End(0))?;
        let is_torn = bytes > 0 && last_byte(path)? != b'\n';
        Ok(RotatedFile { path: path.to_owned(), file, bytes, bytes_max, kept, is_torn })
    }

    /// Appends whole lines; begins a new file first if they would make this one too large.
    ///
    /// # Errors
    /// Nothing of the lines is in the file, unless [`RotatedFile::is_torn`] says that a part of them could not be taken
    /// out again.
    pub fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        if self.bytes > 0 && self.bytes + lines.len() as u64 > self.bytes_max {
            self.rotate()?;
        }
        let before = self.bytes;
        match self.append(lines) {
            Ok(()) => Ok(()),
            Err(error) => {
                // A disk that is full can always be given back what it took.
                let was_cut = self.file.set_len(before).is_ok();
                self.bytes = if was_cut { before } else { self.file.metadata()?.len() };
                self.is_torn |= self.bytes > before;
                Err(error)
            }
        }
    }

    /// Whether the file ends within a line; [`RotatedFile::write`] ends it before its own.
    pub fn is_torn(&self) -> bool {
        self.is_torn
    }

    fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        if self.is_torn {
            self.file.write_all(b"\n")?;
            self.bytes += 1;
        }
        self.file.write_all(lines)?;
        self.bytes += lines.len() as u64;
        self.is_torn = false;
        Ok(())
    }

    /// Gives the file the next number and begins a new one. If the last step failed before, or somebody took the file away,
    /// there is nothing to rename.
    fn rotate(&mut self) -> io::Result<()> {
        if self.path.try_exists()? {
            let mut older = older_numbers(&self.path)?;
            let next = older.last().map_or(1, |last| last + 1);
            fs::rename(&self.path, numbered(&self.path, next))?;
            older.push(next);
            for number in &older[..older.len().saturating_sub(self.kept as usize)] {
                // A file that cannot be removed now stays until the next rotation; the log has to go on.
                _ = fs::remove_file(numbered(&self.path, *number));
            }
        }
        self.file = append_to(&self.path)?;
        (self.bytes, self.is_torn) = (0, false);
        Ok(())
    }
}

/// One file of a rotated one.
#[derive(Debug)]
pub struct Part {
    /// Its path when it was found.
    pub path: PathBuf,
    /// The newest is opened when it is found: its path will be another file's.
    file: Option<File>,
}

impl Part {
    /// The file, at its start; none if it is one of the oldest and was removed meanwhile.
    pub fn open(&self) -> io::Result<Option<File>> {
        let opened = match &self.file {
            Some(file) => file.try_clone().and_then(|mut file| file.rewind().map(|()| file)),
            None => File::open(&self.path),
        };
        match opened {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            file => file.map(Some),
        }
    }
}

/// All files of a rotated one that exist, the newest first. If it is rotated meanwhile, files may come twice or in another
/// order, but none between two is left out. O(files in the folder).
pub fn newest_first(path: &Path) -> io::Result<Vec<Part>> {
    let newest = Part { path: path.to_owned(), file: None }.open()?;
    let newest = newest.map(|file| Part { path: path.to_owned(), file: Some(file) });
    let older = older_numbers(path)?.into_iter().rev();
    Ok(newest.into_iter().chain(older.map(|number| Part { path: numbered(path, number), file: None })).collect())
}

/// The last lines of a rotated file, at most `count`, the oldest first, without their ends. O(the files that hold them).
pub fn last_lines(path: &Path, count: usize) -> io::Result<Vec<Vec<u8>>> {
    let mut found: VecDeque<Vec<u8>> = VecDeque::new();
    for part in newest_first(path)? {
        let missing = count - found.len();
        if missing == 0 {
            break;
        }
        let Some(file) = part.open()? else { continue };
        let mut lines = VecDeque::new();
        for line in BufReader::new(file).split(b'\n') {
            if lines.len() == missing {
                lines.pop_front();
            }
            lines.push_back(line?);
        }
        lines.append(&mut found);
        found = lines;
    }
    Ok(found.into())
}

/// What stands behind the last line end of a file: a line that was not written whole. O(the file's last line).
pub fn torn_line(path: &Path) -> io::Result<Vec<u8>> {
    const STEP: u64 = 4_096;
    let mut file = File::open(path)?;
    let mut start = file.seek(SeekFrom::End(0))?;
    let mut tail = Vec::new();
    while start > 0 {
        let length = start.min(STEP);
        start -= length;
        let mut step = vec![0; length as usize];
        file.seek(SeekFrom::Start(start))?;
        file.read_exact(&mut step)?;
        let line_start = step.iter().rposition(|byte| *byte == b'\n').map(|end| end + 1);
        tail.splice(..0, step.drain(line_start.unwrap_or(0)..));
        if line_start.is_some() {
            break;
        }
    }
    Ok(tail)
}

fn last_byte(path: &Path) -> io::Result<u8> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::End(-1))?;
    let mut byte = [0];
    file.read_exact(&mut byte)?;
    Ok(byte[0])
}

/// The numbers of the older files, ascending.
fn older_numbers(path: &Path) -> io::Result<Vec<u64>> {
    let name = path.file_name().expect("a rotated file has a name");
    let mut numbers = Vec::new();
    for entry in fs::read_dir(folder(path))? {
        let entry = entry?.file_name();
        let ending = entry.as_encoded_bytes().strip_prefix(name.as_encoded_bytes());
        let digits = ending.and_then(|ending| std::str::from_utf8(ending.strip_prefix(b".")?).ok());
        let Some(number) = digits.and_then(|digits| digits.parse::<u64>().ok()) else { continue };
        // A number of ours, as we write it: no file is counted twice, and the next number is one as well.
        if (1..u64::MAX).contains(&number) && digits == Some(&number.to_string()) {
            numbers.push(number);
        }
    }
    numbers.sort_unstable();
    Ok(numbers)
}

fn numbered(path: &Path, number: u64) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    PathBuf::from(name)
}

fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn append_to(path: &Path) -> io::Result<File> {
    platform::create_private_dir(folder(path))?;
    platform::private_file_options().append(true).create(true).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contents(path: &Path) -> Vec<String> {
        let read = |part: Part| io::read_to_string(part.open().unwrap().unwrap()).unwrap();
        newest_first(path).unwrap().into_iter().map(read).collect()
    }

    fn names(path: &Path) -> Vec<String> {
        let name = |part: &Part| part.path.file_name().unwrap().to_str().unwrap().to_owned();
        newest_first(path).unwrap().iter().map(name).collect()
    }

    #[test]
    fn a_line_that_would_not_fit_goes_into_a_new_file_and_the_oldest_go() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("logs/x.jsonl");
        let mut file = RotatedFile::open(&path, 10, 2).unwrap();
        for line in ["aaaa\n", "bbbb\n", "cccc\n", "dddddddddddddddd\n", "ee\n", "ff\n", "ggggg\n"] {
            file.write(line.as_bytes()).unwrap();
        }
        assert_eq!(contents(&path), ["ggggg\n", "ee\nff\n", "dddddddddddddddd\n"]);
        assert_eq!(names(&path), ["x.jsonl", "x.jsonl.4", "x.jsonl.3"]);
    }

    #[test]
    fn a_file_is_filled_to_its_last_byte_and_not_beyond() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        let mut file = RotatedFile::open(&path, 10, 9).unwrap();
        file.write(b"12345\n").unwrap();
        file.write(b"123\n").unwrap();
        assert_eq!(contents(&path), ["12345\n123\n"]);
        file.write(b"\n").unwrap();
        assert_eq!(contents(&path), ["\n", "12345\n123\n"]);
    }

    #[test]
    fn a_file_is_gone_on_with_after_a_restart_and_fewer_may_be_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        for line in ["1\n", "2\n", "3\n", "4\n", "5\n"] {
            RotatedFile::open(&path, 2, 9).unwrap().write(line.as_bytes()).unwrap();
        }
        assert_eq!(contents(&path), ["5\n", "4\n", "3\n", "2\n", "1\n"]);
        RotatedFile::open(&path, 2, 2).unwrap().write(b"6\n").unwrap();
        assert_eq!(contents(&path), ["6\n", "5\n", "4\n"]);
        RotatedFile::open(&path, 2, 0).unwrap().write(b"7\n").unwrap();
        assert_eq!(contents(&path), ["7\n"]);
    }

    #[test]
    fn a_file_that_somebody_took_away_is_made_again_when_it_would_have_been_full() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("logs/x");
        let mut file = RotatedFile::open(&path, 2, 9).unwrap();
        file.write(b"1\n").unwrap();
        file.write(b"2\n").unwrap();
        fs::remove_file(&path).unwrap();
        file.write(b"3\n").unwrap();
        assert_eq!(contents(&path), ["3\n", "1\n"]);
        fs::remove_dir_all(path.parent().unwrap()).unwrap();
        file.write(b"4\n").unwrap();
        assert_eq!(contents(&path), ["4\n"]);
    }

    #[test]
    fn only_its_own_older_files_are_counted_and_none_is_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        for name in ["x", "x.1", "x.9", "x.10", "x.a", "x.011", "x.+12", "x.13.gz", "x.18446744073709551615", "y.14"] {
            fs::write(folder.path().join(name), format!("{name}\n")).unwrap();
        }
        RotatedFile::open(&path, 2, 3).unwrap().write(b"new\n").unwrap();
        assert_eq!(names(&path), ["x", "x.11", "x.10", "x.9"]);
        assert_eq!(contents(&path), ["new\n", "x\n", "x.10\n", "x.9\n"]);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 4 + 6);
    }

    #[test]
    fn a_torn_line_is_found_and_ended() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        let long = "o".repeat(10_000);
        for (text, torn) in [("", ""), ("a\n", ""), ("a\nb", "b"), ("b", "b"), (&*format!("a\n{long}"), &*long)] {
            fs::write(&path, text).unwrap();
            assert_eq!(torn_line(&path).unwrap(), torn.as_bytes());
            let mut file = RotatedFile::open(&path, 100_000, 9).unwrap();
            assert_eq!(file.is_torn(), !torn.is_empty());
            file.write(b"c\n").unwrap();
            assert!(!file.is_torn());
            let end = if torn.is_empty() { "" } else { "\n" };
            assert_eq!(contents(&path), [format!("{text}{end}c\n")]);
        }
    }

    #[test]
    fn the_last_lines_are_found_over_several_files() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        assert_eq!(last_lines(&path, 3).unwrap(), [[0_u8; 0]; 0]);
        let mut file = RotatedFile::open(&path, 6, 9).unwrap();
        for n in 0..10 {
            file.write(format!("{n}\n").as_bytes()).unwrap();
        }
        for count in [0, 1, 3, 4, 10, 11] {
            let expected: Vec<_> = (10_usize.saturating_sub(count)..10).map(|n| n.to_string().into_bytes()).collect();
            assert_eq!(last_lines(&path, count).unwrap(), expected, "{count}");
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_disk_that_takes_nothing_is_an_error_each_time() {
        let mut file = RotatedFile {
            path: "/dev/full".into(),
            file: append_to(Path::new("/dev/full")).unwrap(),
            bytes: 0,
            bytes_max: 100,
            kept: 1,
            is_torn: false,
        };
        for _ in 0..2 {
            assert_eq!(file.write(b"a\n").unwrap_err().kind(), io::ErrorKind::StorageFull);
        }
    }
}
