//! Shim: a library between the hub and its C library, which makes a file's bytes unreadable as a failing disk does.

use crate::tools::{skipped, tool};
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// The built library, removed with this value.
#[derive(Debug)]
pub struct Shim {
    folder: TempDir,
}

impl Shim {
    /// Builds it; `None`, with words, where there is no C compiler or the system has no such libraries.
    pub fn build() -> Option<Shim> {
        let folder = TempDir::new().expect("a temporary folder");
        let shim = Shim { folder };
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("shim/bad_sector.c");
        if !cfg!(target_os = "linux") {
            skipped("only Linux preloads the library: the simulated disk has the same faults");
            return None;
        }
        let built = Command::new(tool("cc", "gcc")?)
            .args(["-shared", "-fPIC", "-O1", "-o"])
            .arg(shim.library())
            .arg(&source)
            .status();
        assert!(built.expect("it is there").success(), "{} is compiled", source.display());
        Some(shim)
    }

    /// The variables with which reads of these bytes of a file fail, under whatever name it is.
    #[cfg(unix)]
    pub fn unreadable(&self, file: &Path, from: u64, bytes: u64) -> Vec<(String, String)> {
        let inode = std::os::unix::fs::MetadataExt::ino(&file.metadata().expect("the file exists"));
        self.with(
            [("BAD_INODE", inode), ("BAD_FROM", from), ("BAD_BYTES", bytes)]
                .map(|(name, value)| (name, value.to_string())),
        )
    }

    /// The variables with which the file cannot be opened.
    pub fn unopenable(&self, file: &Path, errno: u32) -> Vec<(String, String)> {
        self.with([("BAD_FILE", name_of(file)), ("BAD_OPEN", errno.to_string())])
    }

    fn with<const N: usize>(&self, faults: [(&str, String); N]) -> Vec<(String, String)> {
        let library = self.library().to_str().expect("a temporary folder's path is text").to_owned();
        let preload = [("LD_PRELOAD".to_owned(), library)];
        preload.into_iter().chain(faults.map(|(name, value)| (name.to_owned(), value))).collect()
    }

    fn library(&self) -> PathBuf {
        self.folder.path().join("bad_sector.so")
    }
}

fn name_of(file: &Path) -> String {
    format!("/{}", file.file_name().and_then(|name| name.to_str()).expect("a file of the hub has a name"))
}
