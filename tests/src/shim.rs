//! Shim: a library between the hub and its C library, with which a disk, a file system or the machine's clocks do what
//! they do on a bad day.

use crate::tools::{skipped, tool};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// The built library, and the files that its clocks read, removed with this value.
#[derive(Debug)]
pub struct Shim {
    folder: TempDir,
}

impl Shim {
    /// Builds it; `None`, and the test is skipped, where there is no C compiler or the system has no such libraries.
    pub fn build() -> Option<Shim> {
        if !cfg!(target_os = "linux") {
            skipped("only Linux preloads the library: the simulator has the same faults");
            return None;
        }
        let folder = TempDir::new().expect("a temporary folder");
        let shim = Shim { folder };
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("shim.c");
        let mut cc = Command::new(tool("cc", "gcc")?);
        cc.args(["-shared", "-fPIC", "-O1", "-o"]).arg(shim.library()).arg(&source);
        assert!(cc.status().expect("it is there").success(), "{} is compiled", source.display());
        Some(shim)
    }

    /// The variables with which reads of these bytes of a file fail, under whatever name it is.
    #[cfg(unix)]
    pub fn unreadable(&self, file: &Path, from: u64, bytes: u64) -> Vec<(String, String)> {
        let inode = std::os::unix::fs::MetadataExt::ino(&file.metadata().expect("the file exists"));
        let faults = [("SHIM_INODE", inode), ("SHIM_FROM", from), ("SHIM_BYTES", bytes)];
        self.with(faults.map(|(name, value)| (name, value.to_string())))
    }

    /// The variables with which the file cannot be opened.
    pub fn unopenable(&self, file: &Path, errno: u32) -> Vec<(String, String)> {
        self.with([("SHIM_FILE", name_of(file)), ("SHIM_OPEN", errno.to_string())])
    }

    /// The variables with which no permissions can be changed.
    pub fn unchangeable(&self, errno: u32) -> Vec<(String, String)> {
        self.with([("SHIM_CHMOD", errno.to_string())])
    }

    /// The variables with which the clocks show what [`set_clock`](Self::set_clock) and [`sleep`](Self::sleep) say.
    pub fn clocks(&self) -> Vec<(String, String)> {
        let path = |name: &str| text(self.folder.path().join(name));
        self.with([("SHIM_CLOCK", path("clock")), ("SHIM_SLEPT", path("slept"))])
    }

    /// Sets wall time to so many seconds ahead of what it is.
    pub fn set_clock(&self, secs: i64) {
        self.write("clock", secs);
    }

    /// The machine has slept for so long.
    pub fn sleep(&self, secs: i64) {
        self.write("slept", secs);
    }

    /// Replaces a file as a whole: a running hub reads it.
    fn write(&self, name: &str, secs: i64) {
        let (new, path) = (self.folder.path().join("new"), self.folder.path().join(name));
        fs::write(&new, secs.to_string()).expect("its folder takes a file");
        fs::rename(new, path).expect("its folder takes a name");
    }

    fn with<const N: usize>(&self, faults: [(&str, String); N]) -> Vec<(String, String)> {
        let preload = [("LD_PRELOAD".to_owned(), text(self.library()))];
        preload.into_iter().chain(faults.map(|(name, value)| (name.to_owned(), value))).collect()
    }

    fn library(&self) -> PathBuf {
        self.folder.path().join("shim.so")
    }
}

fn text(path: PathBuf) -> String {
    path.into_os_string().into_string().expect("a temporary folder's path is text")
}

fn name_of(file: &Path) -> String {
    format!("/{}", file.file_name().and_then(|name| name.to_str()).expect("a file of the hub has a name"))
}
