//! Failures: why a figure could not be measured. A figure of a run with an error would mean nothing, so all end the
//! run.

use crate::client::latency::Call;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

/// Why a run failed.
#[derive(Debug)]
pub enum Failure {
    /// A system call failed.
    System {
        /// What was attempted, as in "cannot open ...".
        what: String,
        /// The system's error.
        error: io::Error,
    },
    /// The data folder is in memory, where a sync costs nothing.
    FolderInMemory(PathBuf),
    /// The hub's program is not where it should be.
    NoHub(PathBuf),
    /// The hub ended, or did not come up, or did not stop.
    Hub {
        /// What it did.
        what: String,
        /// The end of what it printed.
        output: String,
    },
    /// The hub's `hub.addr` is not what it should be.
    HubAddress(String),
    /// The hub answered with something else than success.
    Answer {
        /// The call.
        call: Call,
        /// The status code.
        status: u16,
        /// The body.
        body: String,
    },
    /// An answer cannot be parsed.
    Unreadable(String),
    /// The hub closed an active connection.
    Closed,
    /// The hub closed an idle connection.
    IdleClosed,
    /// The system does not grant as many open files as there are connections.
    OpenFiles {
        /// What it grants.
        granted: u64,
        /// What is needed.
        needed: u64,
    },
    /// No answer came.
    Silence(Duration),
    /// A program that is needed is not installed, or not where it should be.
    NoProgram(String),
    /// A program failed.
    Child {
        /// Its command line.
        what: String,
        /// How it ended.
        status: ExitStatus,
        /// The end of its output.
        output: String,
    },
    /// There is no such commit.
    NoCommit {
        /// Its name as given.
        name: String,
        /// Where it was searched.
        repository: PathBuf,
    },
    /// What a build measured cannot be read.
    Figures(String),
    /// The run was interrupted by a signal.
    Interrupted,
}

impl Failure {
    /// Turns the system's error into a failure to do `what`; nothing is allocated unless it is called.
    pub fn system(what: impl Into<String>) -> impl FnOnce(io::Error) -> Failure {
        move |error| Failure::System { what: what.into(), error }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::System { what, error } => write!(f, "cannot {what}: {error}"),
            Failure::FolderInMemory(folder) => write!(
                f,
                "{} is in memory, where a sync costs nothing: name a folder on a disk with --dir",
                folder.display()
            ),
            Failure::NoHub(path) => write!(
                f,
                "there is no hub at {}: build it with `cargo build --release -p sheratan-hub`, or name it with --hub",
                path.display()
            ),
            Failure::Hub { what, output } => write!(f, "the hub {what}; the end of its output:\n{output}"),
            Failure::HubAddress(what) => write!(f, "the hub's hub.addr cannot be used: {what}"),
            Failure::Answer { call, status, body } => {
                write!(f, "the hub answered {status} to {}: {body}", format!("{call:?}").to_lowercase())
            }
            Failure::Unreadable(what) => write!(f, "an answer of the hub cannot be read: {what}"),
            Failure::Closed => f.write_str("the hub closed a connection that waited for an answer"),
            Failure::IdleClosed => f.write_str("the hub closed an idle connection before the end of the slice"),
            Failure::OpenFiles { granted, needed } => write!(
                f,
                "{needed} open files are needed and {granted} are granted: raise the hard limit (ulimit -Hn) or ask for fewer connections"
            ),
            Failure::Silence(time) => write!(f, "the hub did not answer within {} s", time.as_secs()),
            Failure::NoProgram(program) => {
                write!(
                    f,
                    "cannot start {program}: it is not there; install it, or name a program that is built with --against-binary"
                )
            }
            Failure::Child { what, status, output } => write!(f, "`{what}` failed ({status}):\n{output}"),
            Failure::NoCommit { name, repository } => write!(
                f,
                "there is no commit {name} in {}: name one that `git log` shows, or fetch it",
                repository.display()
            ),
            Failure::Figures(what) => write!(f, "the builds cannot be compared: {what}"),
            Failure::Interrupted => f.write_str("interrupted"),
        }
    }
}

impl std::error::Error for Failure {}
