//! Failures: why a command failed.

use super::target::TargetError;
use crate::client::CallError;
use std::fmt;
use std::process::ExitCode;

/// Why a command failed.
#[derive(Debug)]
pub enum Failure {
    /// The command line is contradictory or invalid.
    Usage(String),
    /// The target hub or its token cannot be determined.
    Target(TargetError),
    /// The hub refused or could not be reached.
    Call(CallError),
    /// An operation on this machine failed.
    Local(String),
}

impl Failure {
    /// 2 for an invalid command line, else 1.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Failure::Usage(_) => ExitCode::from(2),
            Failure::Target(_) | Failure::Call(_) | Failure::Local(_) => ExitCode::FAILURE,
        }
    }

    /// A failed operation on this machine, and its error.
    pub fn local(what: impl fmt::Display, error: impl fmt::Display) -> Self {
        Failure::Local(format!("{what}: {error}"))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Usage(text) | Failure::Local(text) => f.write_str(text),
            Failure::Target(error) => error.fmt(f),
            Failure::Call(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for Failure {}

impl From<TargetError> for Failure {
    fn from(error: TargetError) -> Self {
        Failure::Target(error)
    }
}

impl From<CallError> for Failure {
    fn from(error: CallError) -> Self {
        Failure::Call(error)
    }
}
