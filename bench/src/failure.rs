//! Failures: why a figure could not be measured. A figure of a run with an error would mean nothing, so all end the run.

use std::fmt;
use std::io;

/// What went wrong.
#[derive(Debug)]
pub enum Failure {
    /// The system refused something.
    System {
        /// What was tried, as in "cannot open ...".
        what: String,
        /// What the system said.
        error: io::Error,
    },
}

impl Failure {
    /// Turns the system's error into a failure to do `what`.
    pub fn system(what: impl Into<String>) -> impl FnOnce(io::Error) -> Failure {
        let what = what.into();
        move |error| Failure::System { what, error }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::System { what, error } => write!(f, "cannot {what}: {error}"),
        }
    }
}

impl std::error::Error for Failure {}
