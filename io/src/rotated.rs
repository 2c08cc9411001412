//! Files that are rotated by size: `name`, then `name.1` (the latest of the older ones), `name.2`, and so on.

use crate::platform;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// A file that lines are appended to.
#[derive(Debug)]
pub struct RotatedFile {
    path: PathBuf,
    file: File,
    bytes: u64,
    bytes_max: u64,
    /// Older files that are kept; all if `None`.
    kept: Option<u32>,
}

impl RotatedFile {
    /// Opens the file at its end; makes it, with its folder, if it is not there.
    pub fn open(path: &Path, bytes_max: u64, kept: Option<u32>) -> io::Result<Self> {
        platform::create_private_dir(path.parent().unwrap_or(Path::new(".")))?;
        let file = append_to(path)?;
        let bytes = file.metadata()?.len();
        Ok(RotatedFile { path: path.to_owned(), file, bytes, bytes_max, kept })
    }

    /// Appends whole lines; begins a new file first if they would make this one too large.
    pub fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        if self.bytes > 0 && self.bytes + lines.len() as u64 > self.bytes_max {
            self.rotate()?;
        }
        let result = self.file.write_all(lines);
        // After a failed write nobody knows how much of it is there.
        self.bytes = if result.is_ok() { self.bytes + lines.len() as u64 } else { self.file.metadata()?.len() };
        result
    }

    /// How large the file is.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    fn rotate(&mut self) -> io::Result<()> {
        let mut last = 0;
        while rotated_path(&self.path, last + 1).exists() {
            last += 1;
        }
        for number in (1..=last).rev() {
            let from = rotated_path(&self.path, number);
            if self.kept.is_some_and(|kept| number >= kept) {
                fs::remove_file(from)?;
            } else {
                fs::rename(from, rotated_path(&self.path, number + 1))?;
            }
        }
        if self.kept != Some(0) {
            fs::rename(&self.path, rotated_path(&self.path, 1))?;
        } else {
            fs::remove_file(&self.path)?;
        }
        self.file = append_to(&self.path)?;
        self.bytes = 0;
        Ok(())
    }
}

/// The path of the older file of that number.
pub fn rotated_path(path: &Path, number: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    PathBuf::from(name)
}

/// All files of a rotated one that exist, the oldest first.
pub fn rotated_paths(path: &Path) -> Vec<PathBuf> {
    let older = (1..).map(|number| rotated_path(path, number)).take_while(|path| path.exists());
    let mut all: Vec<_> = older.collect();
    all.reverse();
    all.extend(path.exists().then(|| path.to_owned()));
    all
}

fn append_to(path: &Path) -> io::Result<File> {
    platform::private_file_options().append(true).create(true).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contents(path: &Path) -> Vec<String> {
        rotated_paths(path).iter().map(|path| fs::read_to_string(path).unwrap()).collect()
    }

    #[test]
    fn a_line_that_would_not_fit_goes_into_a_new_file_and_the_oldest_go() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("logs/x.jsonl");
        let mut file = RotatedFile::open(&path, 10, Some(2)).unwrap();
        for line in ["aaaa\n", "bbbb\n", "cccc\n", "dddddddddddddddd\n", "ee\n", "ff\n", "ggggg\n"] {
            file.write(line.as_bytes()).unwrap();
        }
        assert_eq!(contents(&path), ["dddddddddddddddd\n", "ee\nff\n", "ggggg\n"]);
    }

    #[test]
    fn a_file_is_gone_on_with_and_all_are_kept_where_none_may_go() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        for line in ["1\n", "2\n", "3\n", "4\n"] {
            RotatedFile::open(&path, 4, None).unwrap().write(line.as_bytes()).unwrap();
        }
        assert_eq!(contents(&path), ["1\n2\n", "3\n4\n"]);
    }
}
