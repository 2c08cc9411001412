//! Folder: the files that the demo makes jobs of.

use std::path::{Path, PathBuf};

/// Generated files and folders. In a worktree of Git `.git` is a file.
const SKIPPED: [&str; 4] = [".git", "target", "node_modules", ".sheratan"];

/// The files of a folder.
#[derive(Debug)]
pub struct Files {
    /// In the order of their names.
    pub paths: Vec<PathBuf>,
    /// Whether the folder has more files than `files_max`.
    pub is_cut: bool,
    /// The number of files whose names are not Unicode and cannot be written as JSON.
    pub unnamed: usize,
}

/// The regular files below `folder`, at most `files_max`. Links are not followed.
pub fn files(folder: &Path, files_max: usize) -> Result<Files, walkdir::Error> {
    let mut files = Files { paths: Vec::new(), is_cut: false, unnamed: 0 };
    let walk = walkdir::WalkDir::new(folder).sort_by_file_name().into_iter().filter_entry(|entry| {
        let is_skipped = SKIPPED.iter().any(|name| entry.file_name() == *name);
        entry.depth() == 0 || !is_skipped
    });
    for entry in walk {
        let entry = match entry {
            Ok(entry) => entry,
            Err(error) if error.depth() == 0 => return Err(error),
            // An unreadable folder or a file that was removed meanwhile is skipped.
            Err(_) => continue,
        };
        if !entry.file_type().is_file() {
            continue;
        }
        if files.paths.len() == files_max {
            files.is_cut = true;
            break;
        }
        match entry.path().to_str() {
            Some(_) => files.paths.push(entry.into_path()),
            None => files.unnamed += 1,
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_found_in_order_without_generated_ones() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["b/two", "a", "c", "target/made", ".git/made", "b/node_modules/made", "b/.git"] {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "x").unwrap();
        }
        let found = files(dir.path(), 10).unwrap();
        let names: Vec<_> = found.paths.iter().map(|path| path.strip_prefix(dir.path()).unwrap()).collect();
        assert_eq!(names, ["a", "b/two", "c"].map(Path::new));
        assert!(!found.is_cut);

        let found = files(dir.path(), 2).unwrap();
        assert_eq!((found.paths.len(), found.is_cut), (2, true));
        assert!(!files(dir.path(), 3).unwrap().is_cut, "as many files as the limit");
        assert!(files(&dir.path().join("none"), 3).is_err());
    }
}
