//! Rotated files: `name`, which is written, and the older `name.1`, `name.2` and so on, of which the highest number is
//! the latest.
//!
//! An older file keeps its name until it is removed: a rotation is one rename, independent of the number of files,
//! readers need no lock, and an archived file keeps its meaning. Lines are appended whole, and no failure ends the log:
//! a line that was written in part is truncated, a rotation that fails half-way is completed by the next one, and a
//! file that was moved or removed is created again.

mod end;
mod follower;

pub use follower::{Follower, Start, last_lines};

use crate::disk::{Disk, DiskFile, DiskReader, RealDisk};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A file that lines are appended to.
#[derive(Debug)]
pub struct RotatedFile {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    file: Box<dyn DiskFile>,
    bytes: u64,
    bytes_max: u64,
    /// How many older files are kept.
    kept: u32,
    /// Whether the file ends within a line: the next write must first end it.
    is_torn: bool,
    /// Whether a full file is synced before the next one begins.
    is_synced_when_full: bool,
}

impl RotatedFile {
    /// Opens the file at its end; creates it, with its folder, if it does not exist.
    pub fn open(path: &Path, bytes_max: u64, kept: u32) -> io::Result<Self> {
        RotatedFile::open_on(Arc::new(RealDisk), path, bytes_max, kept)
    }

    /// As [`RotatedFile::open`], on any disk.
    pub fn open_on(disk: Arc<dyn Disk>, path: &Path, bytes_max: u64, kept: u32) -> io::Result<Self> {
        let file = append_to(&*disk, path)?;
        let bytes = file.len()?;
        let is_torn = bytes > 0 && last_byte(&*disk, path)? != b'\n';
        Ok(RotatedFile {
            disk,
            path: path.to_owned(),
            file,
            bytes,
            bytes_max,
            kept,
            is_torn,
            is_synced_when_full: false,
        })
    }

    /// Syncs a full file before the next one begins: a power cut then loses lines only at the end of all files
    /// together, never between them.
    pub fn synced_when_full(self) -> Self {
        RotatedFile { is_synced_when_full: true, ..self }
    }

    /// Bytes that fit into the newest file; a larger write begins a new one.
    pub fn room(&self) -> u64 {
        self.bytes_max.saturating_sub(self.bytes)
    }

    /// Appends whole lines, by one write; begins a new file first if they would make this one too large. A torn line is
    /// ended in place.
    ///
    /// # Errors
    /// None of the bytes are in the file, or [`WriteError::left`] of them.
    pub fn write(&mut self, lines: &[u8]) -> Result<(), WriteError> {
        if !self.is_torn && self.bytes > 0 && self.bytes + lines.len() as u64 > self.bytes_max {
            self.rotate()?;
        }
        self.write_here(lines)
    }

    /// As [`RotatedFile::write`], but without a rotation, even if the file becomes too large.
    pub fn write_here(&mut self, lines: &[u8]) -> Result<(), WriteError> {
        self.follow_path()?;
        // One write: a crash between two would leave a torn line that looks like a whole one.
        let ended = if self.is_torn { [b"\n", lines].concat() } else { Vec::new() };
        let bytes = if self.is_torn { &ended } else { lines };
        let Err(error) = self.file.write_all(bytes) else {
            self.bytes += bytes.len() as u64;
            self.is_torn = false;
            return Ok(());
        };
        // A full disk can still truncate.
        let was_cut = self.file.set_len(self.bytes).is_ok();
        let taken = if was_cut { 0 } else { self.file.len()?.saturating_sub(self.bytes) as usize };
        let left = taken.saturating_sub(bytes.len() - lines.len());
        self.bytes += taken as u64;
        if taken > 0 {
            self.is_torn = bytes.get(taken - 1) != Some(&b'\n');
        }
        Err(WriteError { error, left })
    }

    /// Opens what the path leads to, if the file was removed or replaced: lines that are written into a file without a
    /// name are in no log.
    fn follow_path(&mut self) -> io::Result<()> {
        if self.file.is_at(&self.path)? {
            return Ok(());
        }
        self.file = append_to(&*self.disk, &self.path)?;
        self.bytes = self.file.len()?;
        self.is_torn = self.bytes > 0 && last_byte(&*self.disk, &self.path)? != b'\n';
        tracing::warn!(file = %self.path.display(), "a log file was removed or replaced; the log goes on in the file of that name");
        Ok(())
    }

    /// Renames the file to the next number and begins a new one. If an earlier rotation failed after the rename, or the
    /// file was removed, there is nothing to rename.
    fn rotate(&mut self) -> io::Result<()> {
        if found(self.disk.len(&self.path))?.is_some() {
            if self.is_synced_when_full {
                self.file.sync()?;
            }
            let mut older = older_numbers(&*self.disk, &self.path)?;
            let next = older.last().map_or(1, |last| last + 1);
            self.disk.rename(&self.path, &numbered(&self.path, next))?;
            older.push(next);
            for number in &older[..older.len().saturating_sub(self.kept as usize)] {
                // A file that cannot be removed now is kept until the next rotation, with those after it, so that none
                // is missing between two; the log must continue.
                if self.disk.remove(&numbered(&self.path, *number)).is_err() {
                    break;
                }
            }
        }
        self.file = append_to(&*self.disk, &self.path)?;
        (self.bytes, self.is_torn) = (0, false);
        Ok(())
    }
}

/// A write that failed.
#[derive(Debug)]
pub struct WriteError {
    /// Why.
    pub error: io::Error,
    /// How many of its bytes are in the file, because they could not be truncated.
    pub left: usize,
}

impl From<io::Error> for WriteError {
    fn from(error: io::Error) -> Self {
        WriteError { error, left: 0 }
    }
}

impl From<WriteError> for io::Error {
    fn from(failed: WriteError) -> Self {
        failed.error
    }
}

/// How often the folder is listed until no rotation disturbs it. A file full of lines is written between two rotations,
/// so a second try is rare.
const TRIES_MAX: usize = 100;

/// One of the files of a rotated file.
#[derive(Debug)]
pub struct Part<'d> {
    disk: &'d dyn Disk,
    /// Its path when it was found.
    pub path: PathBuf,
    /// Its number; the newest has none.
    number: Option<u64>,
    /// The newest is opened when it is found, since its path will lead to another file.
    file: Option<Box<dyn DiskReader>>,
}

impl<'d> Part<'d> {
    fn older(disk: &'d dyn Disk, path: &Path, number: u64) -> Self {
        Part { disk, path: numbered(path, number), number: Some(number), file: None }
    }

    /// Opens the file at its start; `None` if it is one of the oldest and was removed meanwhile.
    pub fn open(&self) -> io::Result<Option<Box<dyn DiskReader>>> {
        found(match &self.file {
            Some(file) => file.again(),
            None => self.disk.open_to_read(&self.path),
        })
    }
}

/// Whether any file of a rotated file exists.
pub fn exists(path: &Path) -> io::Result<bool> {
    match newest_first(&RealDisk, path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        parts => Ok(!parts?.is_empty()),
    }
}

/// All existing files of a rotated file, the newest first, as they were at one instant. O(files in the folder).
pub fn newest_first<'d>(disk: &'d dyn Disk, path: &Path) -> io::Result<Vec<Part<'d>>> {
    for _ in 0..TRIES_MAX {
        let newest = found(disk.open_to_read(path))?;
        let older = older_numbers(disk, path)?;
        // A numbered file is never renamed again: it was there all the time, or it is removed now.
        let was_rotated = match &newest {
            Some(file) => found(file.is_at(path))? != Some(true),
            None => found(disk.len(path))?.is_some(),
        };
        if !was_rotated {
            let newest = newest.map(|file| Part { disk, path: path.to_owned(), number: None, file: Some(file) });
            let older = older.into_iter().rev().map(|number| Part::older(disk, path, number));
            return Ok(newest.into_iter().chain(older).collect());
        }
    }
    Err(io::Error::new(io::ErrorKind::TimedOut, "it is rotated faster than it can be read"))
}

/// The opened file; `None` if it does not exist.
fn found<T>(opened: io::Result<T>) -> io::Result<Option<T>> {
    match opened {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        opened => opened.map(Some),
    }
}

fn last_byte(disk: &dyn Disk, path: &Path) -> io::Result<u8> {
    let mut file = disk.open_to_read(path)?;
    file.seek(SeekFrom::End(-1))?;
    let mut byte = [0];
    file.read_exact(&mut byte)?;
    Ok(byte[0])
}

/// The numbers of the older files, ascending.
fn older_numbers(disk: &dyn Disk, path: &Path) -> io::Result<Vec<u64>> {
    let name = path.file_name().expect("a rotated file has a name");
    let mut numbers = Vec::new();
    for entry in disk.names(folder(path))? {
        let ending = entry.as_encoded_bytes().strip_prefix(name.as_encoded_bytes());
        let digits = ending.and_then(|ending| std::str::from_utf8(ending.strip_prefix(b".")?).ok());
        let Some(number) = digits.and_then(|digits| digits.parse::<u64>().ok()) else { continue };
        // Only numbers as a rotation writes them: no file is counted twice, and the next number is valid as well.
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

fn append_to(disk: &dyn Disk, path: &Path) -> io::Result<Box<dyn DiskFile>> {
    disk.create_folder(folder(path))?;
    disk.open_to_append(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::faults;
    use std::fs;

    fn contents(path: &Path) -> Vec<String> {
        let read = |part: Part| io::read_to_string(part.open().unwrap().unwrap()).unwrap();
        newest_first(&RealDisk, path).unwrap().into_iter().map(read).collect()
    }

    fn names(path: &Path) -> Vec<String> {
        let name = |part: &Part| part.path.file_name().unwrap().to_str().unwrap().to_owned();
        newest_first(&RealDisk, path).unwrap().iter().map(name).collect()
    }

    #[test]
    fn a_line_that_does_not_fit_goes_into_a_new_file_and_the_oldest_are_removed() {
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
    fn a_file_is_continued_after_a_restart_and_fewer_may_be_kept() {
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
    fn a_file_that_was_removed_is_created_again_when_it_would_have_been_full() {
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
    fn a_full_file_is_synced_before_the_next_one_begins_if_that_is_set() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        let mut file = RotatedFile::open(&path, 2, 9).unwrap().synced_when_full();
        file.write(b"1\n").unwrap();
        faults::arm(faults::Operation::Sync, io::ErrorKind::Other);
        assert!(file.write(b"2\n").is_err());
        assert_eq!(contents(&path), ["1\n"]);
        file.write(b"2\n").unwrap();
        assert_eq!(contents(&path), ["2\n", "1\n"]);
    }

    /// A folder takes the place of a file that another process has open on Windows.
    #[test]
    fn no_old_file_is_removed_before_one_that_cannot_be_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        fs::create_dir(folder.path().join("x.1")).unwrap();
        let mut file = RotatedFile::open(&path, 2, 1).unwrap();
        ["2\n", "3\n", "4\n"].iter().for_each(|line| file.write(line.as_bytes()).unwrap());
        assert_eq!(names(&path), ["x", "x.3", "x.2", "x.1"]);
        fs::remove_dir(folder.path().join("x.1")).unwrap();
        file.write(b"5\n").unwrap();
        assert_eq!(contents(&path), ["5\n", "4\n"]);
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
            let mut file = RotatedFile::open(&path, 100_000, 9).unwrap();
            assert_eq!(file.is_torn, !torn.is_empty());
            file.write(b"c\n").unwrap();
            assert!(!file.is_torn);
            let end = if torn.is_empty() { "" } else { "\n" };
            assert_eq!(contents(&path), [format!("{text}{end}c\n")]);
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_failing_disk_is_an_error_each_time() {
        let mut file = RotatedFile {
            disk: Arc::new(RealDisk),
            path: "/dev/full".into(),
            file: RealDisk.open_to_append(Path::new("/dev/full")).unwrap(),
            bytes: 0,
            bytes_max: 100,
            kept: 1,
            is_torn: false,
            is_synced_when_full: false,
        };
        for _ in 0..2 {
            assert_eq!(file.write(b"a\n").unwrap_err().error.kind(), io::ErrorKind::StorageFull);
        }
    }
}
