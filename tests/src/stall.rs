//! A disk that hangs: a preloaded library whose writes and syncs do not return while a file exists. Linux only.

use crate::tools::tool;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use tempfile::TempDir;

const SOURCE: &str = r#"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>
static void wait_for(const char *what) {
    const char *folder = getenv("STALL_FOLDER");
    char gate[4096];
    if (!folder) return;
    snprintf(gate, sizeof gate, "%s/%s", folder, what);
    while (access(gate, F_OK) == 0) usleep(1000);
}
int fdatasync(int file) {
    wait_for("sync");
    if (getenv("STALL_FAST")) return 0;
    return syscall(SYS_fdatasync, file);
}
ssize_t write(int file, const void *bytes, size_t count) {
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t len = readlink(link, path, sizeof path - 1);
    if (file == 2) {
        wait_for("stderr");
    } else if (len > 0) {
        path[len] = 0;
        if (strstr(path, "hub_security_audit")) wait_for("audit");
        if (strstr(path, "alerts.jsonl")) wait_for("alerts");
        if (strstr(path, "hub.jsonl")) wait_for("log");
    }
    return syscall(SYS_write, file, bytes, count);
}
"#;

/// The library, and the folder of the files that it looks for.
pub struct Stall {
    folder: TempDir,
    library: PathBuf,
}

/// What does not return.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Call {
    /// The journal's syncs.
    Sync,
    /// Writes to the audit log.
    Audit,
    /// Writes to the alerts' file.
    Alerts,
    /// Writes to the log file.
    Log,
    /// Writes to standard error.
    Stderr,
}

impl Stall {
    /// Builds the library; nothing where there is no C compiler.
    pub fn build() -> Option<Stall> {
        let compiler = tool("cc", "gcc")?;
        let folder = TempDir::new().expect("a temporary folder");
        let (source, library) = (folder.path().join("stall.c"), folder.path().join("stall.so"));
        fs::write(&source, SOURCE).expect("the folder is writable");
        let built = Command::new(compiler).args(["-shared", "-fPIC", "-o"]).args([&library, &source]).status();
        assert!(built.expect("the compiler starts").success());
        Some(Stall { folder, library })
    }

    /// The variables of a hub that runs with the library.
    pub fn env(&self) -> Vec<(String, String)> {
        let text = |path: &std::path::Path| path.to_str().expect("a temporary folder's path is text").to_owned();
        vec![("LD_PRELOAD".to_owned(), text(&self.library)), ("STALL_FOLDER".to_owned(), text(self.folder.path()))]
    }

    /// The variables of a hub whose disk confirms at once what it is given to sync, until it hangs.
    pub fn env_of_fast_disk(&self) -> Vec<(String, String)> {
        [self.env(), vec![("STALL_FAST".to_owned(), "1".to_owned())]].concat()
    }

    /// From now on these calls do not return.
    pub fn begin(&self, call: Call) {
        fs::write(self.gate(call), "").expect("the folder is writable");
    }

    /// They return again.
    pub fn end(&self, call: Call) {
        fs::remove_file(self.gate(call)).expect("it was made before");
    }

    fn gate(&self, call: Call) -> PathBuf {
        self.folder.path().join(match call {
            Call::Sync => "sync",
            Call::Audit => "audit",
            Call::Alerts => "alerts",
            Call::Log => "log",
            Call::Stderr => "stderr",
        })
    }
}
