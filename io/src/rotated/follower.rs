//! The follower: reads a rotated file line by line, from file to file, and continues as lines are appended.
//!
//! Call [`Follower::next_line`] until it returns `None`, then again after a while. The identity of an open file is
//! unique, so the follower can check whether the path still leads to it and, if not, which number it was renamed to.
//! Lines that were appended before the rename are read first; then the files that were rotated meanwhile, in the order
//! of their numbers.
//!
//! Other programs may rotate too. A file that was renamed elsewhere or replaced is read to its end and the new one from
//! its start; a missing file is waited for; an emptied one is read from its start. Lines that the writer appends to a
//! file after another one has its path are not read.

use super::end::LastLines;
use super::{Part, TRIES_MAX, found, newest_first, numbered, older_numbers};
use crate::disk::{Disk, DiskReader, RealDisk};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// Bytes of one read of a file.
const READ_BYTES: usize = 64 << 10;

/// The longest line: a file without a line end in this many bytes is refused.
const LINE_BYTES_MAX: u64 = 16 << 20;

/// Bytes of a file's start by which a file that was emptied and rewritten is distinguished from one whose end was cut.
/// The start of a log contains a time.
const HEAD_BYTES: usize = 64;

/// Where to begin.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Start {
    /// With the oldest existing line.
    Oldest,
    /// With this many of the last whole lines.
    Last(usize),
    /// With the line that is written next.
    End,
}

/// A reader that follows a rotated file.
#[derive(Debug)]
pub struct Follower {
    path: PathBuf,
    current: Option<Current>,
    /// The highest number among the files older than the current one; the next file's number is above it.
    passed: u64,
}

/// The file that is read.
#[derive(Debug)]
struct Current {
    reader: BufReader<Box<dyn DiskReader>>,
    /// Bytes that were read.
    position: u64,
    /// The bytes read of a line whose end was not read yet.
    line: Vec<u8>,
    /// The file's first bytes.
    head: Vec<u8>,
    /// Its number. A numbered file is not appended to any more.
    number: Option<u64>,
    /// Whether it is not the newest file any more.
    is_finished: bool,
}

impl Follower {
    /// A follower of the file at `path`, which need not exist yet.
    pub fn open(path: &Path, start: Start) -> io::Result<Self> {
        let mut follower = Follower { path: path.to_owned(), current: None, passed: 0 };
        let mut missing = match start {
            Start::Oldest => return Ok(follower),
            Start::Last(count) => count,
            Start::End => 0,
        };
        let parts = newest_first(&RealDisk, path)?;
        let highest = parts.iter().find_map(|part| part.number).unwrap_or(0);
        follower.passed = highest;
        for part in parts {
            if part.number.is_some() && missing == 0 {
                break;
            }
            // The oldest may be removed meanwhile.
            let Some(mut file) = part.open()? else { break };
            let last = LastLines::find(&mut *file, missing, part.number.is_some())?;
            missing -= last.count;
            follower.passed = part.number.map_or(highest, |number| number - 1);
            follower.current = Some(Current::open(file, last.start, part.number)?);
        }
        Ok(follower)
    }

    /// The next line, without its end; `None` if there is none now. A line without an end is returned when its end was
    /// written, or when its file is not the newest any more.
    pub fn next_line(&mut self) -> io::Result<Option<Vec<u8>>> {
        loop {
            let Some(current) = &mut self.current else {
                self.current = self.open_next()?;
                if self.current.is_none() {
                    return Ok(None);
                }
                continue;
            };
            if let Some(line) = current.read_line()? {
                return Ok(Some(line));
            }
            if !current.is_finished {
                if self.may_have_more()? {
                    continue;
                }
                return Ok(None);
            }
            let rest = std::mem::take(&mut current.line);
            if let Some(number) = current.number {
                self.passed = number;
            }
            self.current = None;
            if !rest.is_empty() {
                return Ok(Some(rest));
            }
        }
    }

    /// Checks the current file, which was read to its end. If it is not the newest any more, lines that were appended
    /// before the rename may follow; if it was cut, it must be read from there.
    fn may_have_more(&mut self) -> io::Result<bool> {
        let Some(current) = &mut self.current else { return Ok(true) };
        let Some(is_newest) = found(current.reader.get_ref().is_at(&self.path))? else {
            // Between a rotation's steps, or removed: the writer may still have it open.
            return Ok(false);
        };
        if is_newest {
            return current.was_cut();
        }
        for number in older_numbers(&RealDisk, &self.path)?.into_iter().rev() {
            if found(current.reader.get_ref().is_at(&numbered(&self.path, number)))? == Some(true) {
                current.number = Some(number);
                break;
            }
        }
        current.is_finished = true;
        Ok(true)
    }

    /// The file after those that were passed: the one with the next number, else the newest; `None` if it does not
    /// exist.
    fn open_next(&self) -> io::Result<Option<Current>> {
        let next_number = || {
            Ok::<_, io::Error>(older_numbers(&RealDisk, &self.path)?.into_iter().find(|number| *number > self.passed))
        };
        for _ in 0..TRIES_MAX {
            if let Some(number) = next_number()? {
                if let Some(file) = Part::older(&RealDisk, &self.path, number).open()? {
                    return Current::open(file, 0, Some(number)).map(Some);
                }
                // It was removed: the next try finds the ones that exist.
                continue;
            }
            let Some(file) = found(RealDisk.open_to_read(&self.path))? else { return Ok(None) };
            // If others were rotated meanwhile, they precede it.
            if next_number()?.is_none() && found(file.is_at(&self.path))? == Some(true) {
                return Current::open(file, 0, None).map(Some);
            }
        }
        Ok(None)
    }
}

impl Current {
    fn open(mut file: Box<dyn DiskReader>, position: u64, number: Option<u64>) -> io::Result<Self> {
        let head = head(&mut *file)?;
        file.seek(SeekFrom::Start(position))?;
        let reader = BufReader::with_capacity(READ_BYTES, file);
        Ok(Current { reader, position, line: Vec::new(), head, number, is_finished: number.is_some() })
    }

    /// The next line that has an end.
    fn read_line(&mut self) -> io::Result<Option<Vec<u8>>> {
        let room = LINE_BYTES_MAX - self.line.len() as u64;
        self.position += self.reader.by_ref().take(room).read_until(b'\n', &mut self.line)? as u64;
        if self.line.last() == Some(&b'\n') {
            self.line.pop();
            return Ok(Some(std::mem::take(&mut self.line)));
        }
        if self.line.len() as u64 == LINE_BYTES_MAX {
            let text = format!("it has no line end within {} MiB: it is no file of lines", LINE_BYTES_MAX >> 20);
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        Ok(None)
    }

    /// If the file is shorter than the bytes read, seeks back: to its end if a writer with a full disk truncated a
    /// failed write, to its start if its beginning differs from before. The buffer is empty then.
    fn was_cut(&mut self) -> io::Result<bool> {
        let file = self.reader.get_mut();
        let length = file.seek(SeekFrom::End(0))?;
        let was_cut = length < self.position;
        if was_cut {
            let head = head(&mut **file)?;
            let common = head.len().min(self.head.len());
            let is_same = common > 0 && head[..common] == self.head[..common];
            self.position = if is_same { length.min(self.position - self.line.len() as u64) } else { 0 };
            self.line.clear();
            self.head = head;
        } else if self.head.len() < HEAD_BYTES && length > self.head.len() as u64 {
            self.head = head(&mut **file)?;
        }
        self.reader.seek(SeekFrom::Start(self.position))?;
        Ok(was_cut)
    }
}

/// Reads a file's first bytes; its position is after them.
fn head(file: &mut dyn DiskReader) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    file.rewind()?;
    file.take(HEAD_BYTES as u64).read_to_end(&mut head)?;
    Ok(head)
}

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

#[cfg(test)]
mod tests {
    use super::super::RotatedFile;
    use super::*;
    use std::fs;

    /// A rotated file, and all lines that were written into it.
    struct Written {
        folder: tempfile::TempDir,
        file: RotatedFile,
        lines: Vec<String>,
    }

    impl Written {
        fn new(bytes_max: u64, kept: u32) -> Self {
            let folder = tempfile::tempdir().unwrap();
            let file = RotatedFile::open(&folder.path().join("x"), bytes_max, kept).unwrap();
            Written { folder, file, lines: Vec::new() }
        }

        fn path(&self) -> PathBuf {
            self.folder.path().join("x")
        }

        fn add(&mut self, count: usize) {
            for _ in 0..count {
                let line = format!("line {}", self.lines.len());
                self.file.write(format!("{line}\n").as_bytes()).unwrap();
                self.lines.push(line);
            }
        }

        fn follow(&self, start: Start) -> Follower {
            Follower::open(&self.path(), start).unwrap()
        }
    }

    fn read(follower: &mut Follower) -> Vec<String> {
        std::iter::from_fn(|| follower.next_line().unwrap()).map(|line| String::from_utf8(line).unwrap()).collect()
    }

    fn append(path: &Path, text: &str) {
        use std::io::Write;
        fs::OpenOptions::new().append(true).create(true).open(path).unwrap().write_all(text.as_bytes()).unwrap();
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]
        /// For any writes and rotations between two reads, all written lines are read, in order, once.
        #[test]
        fn all_lines_that_were_written_are_read(bursts in proptest::collection::vec(0..30usize, 1..30), start in 0..9usize) {
            let mut written = Written::new(40, 10_000);
            written.add(start * 3);
            let mut all = written.follow(Start::Oldest);
            let mut last = written.follow(Start::Last(start));
            let mut new = written.follow(Start::End);
            let (mut from_all, mut from_last, mut from_new) = (Vec::new(), Vec::new(), Vec::new());
            for burst in bursts {
                written.add(burst);
                from_all.extend(read(&mut all));
                if burst % 2 == 0 {
                    from_last.extend(read(&mut last));
                }
                if burst % 3 == 0 {
                    from_new.extend(read(&mut new));
                }
            }
            from_last.extend(read(&mut last));
            from_new.extend(read(&mut new));
            proptest::prop_assert_eq!(&from_all, &written.lines);
            proptest::prop_assert_eq!(&from_last[..], &written.lines[start * 2..]);
            proptest::prop_assert_eq!(&from_new[..], &written.lines[start * 3..]);
        }
    }

    #[test]
    fn all_lines_are_read_while_a_thread_writes_and_rotates() {
        const LINES: usize = 300;
        // A file for each line, so that most reads fall into a rotation.
        let mut written = Written::new(1, 10_000);
        let mut follower = written.follow(Start::End);
        let lines = std::thread::scope(|scope| {
            let writer = scope.spawn(|| written.add(LINES));
            let mut lines = Vec::new();
            while lines.len() < LINES && !writer.is_finished() {
                lines.extend(read(&mut follower));
            }
            lines
        });
        let lines: Vec<_> = lines.into_iter().chain(read(&mut follower)).collect();
        assert_eq!(lines, written.lines);
    }

    #[test]
    fn a_line_without_an_end_is_read_when_it_has_one_or_its_file_is_not_the_newest_any_more() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        let mut follower = Follower::open(&path, Start::Oldest).unwrap();
        assert_eq!(read(&mut follower), [""; 0], "the file is not there yet");
        append(&path, "a\nb");
        assert_eq!(read(&mut follower), ["a"]);
        append(&path, "c\nd");
        assert_eq!(read(&mut follower), ["bc"]);
        fs::rename(&path, folder.path().join("x.1")).unwrap();
        assert_eq!(read(&mut follower), [""; 0], "between a rotation's steps");
        append(&path, "e\n");
        assert_eq!(read(&mut follower), ["d", "e"]);
    }

    #[test]
    fn files_that_are_removed_before_they_were_read_are_skipped() {
        let mut written = Written::new(40, 2);
        written.add(1);
        let mut follower = written.follow(Start::Oldest);
        assert_eq!(read(&mut follower), ["line 0"]);
        written.add(99);
        let lines = read(&mut follower);
        let (own, latest) = lines.split_at(4);
        assert_eq!(own, &written.lines[1..5], "the open file is read to its end although it was removed");
        assert!(latest.len() > 8 && latest == &written.lines[100 - latest.len()..], "{latest:?}");
    }

    #[test]
    fn a_file_that_others_replaced_removed_or_emptied_is_followed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        append(&path, "a 1\na 2\n");
        let mut follower = Follower::open(&path, Start::End).unwrap();
        append(&path, "a 3\n");
        fs::rename(&path, folder.path().join("elsewhere")).unwrap();
        append(&folder.path().join("elsewhere"), "a 4\n");
        append(&path, "b 1\n");
        assert_eq!(read(&mut follower), ["a 3", "a 4", "b 1"], "replaced");
        fs::remove_file(&path).unwrap();
        assert_eq!(read(&mut follower), [""; 0]);
        append(&path, "c 1\nc 2\n");
        assert_eq!(read(&mut follower), ["c 1", "c 2"], "taken away for a while");
        fs::write(&path, "d 1\n").unwrap();
        assert_eq!(read(&mut follower), ["d 1"], "emptied and written anew");
        fs::write(&path, "").unwrap();
        assert_eq!(read(&mut follower), [""; 0]);
        append(&path, "e 1\n");
        assert_eq!(read(&mut follower), ["e 1"], "emptied");
    }

    #[test]
    fn a_truncated_failed_write_does_not_restart_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        append(&path, "a 1\na 2\nha");
        let mut follower = Follower::open(&path, Start::Oldest).unwrap();
        assert_eq!(read(&mut follower), ["a 1", "a 2"]);
        // First only what had no end, then a line that was handed out as well.
        for more in ["a 3\n", "a 4\n"] {
            append(&path, "lf of it");
            assert_eq!(read(&mut follower), [""; 0]);
            fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(8).unwrap();
            assert_eq!(read(&mut follower), [""; 0]);
            append(&path, more);
            assert_eq!(read(&mut follower), [more.trim_end()]);
        }
    }

    #[test]
    fn a_file_without_lines_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        fs::File::create(&path).unwrap().set_len(LINE_BYTES_MAX + 1).unwrap();
        let error = Follower::open(&path, Start::Oldest).unwrap().next_line().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
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
