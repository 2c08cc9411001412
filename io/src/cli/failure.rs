//! Failures: why a command ended without doing what it was told.

use super::target::TargetError;
use crate::client::CallError;
use std::fmt;
use std::process::ExitCode;

/// Why a command ended.
#[derive(Debug)]
pub enum Failure {
    /// The command line says something that cannot be meant.
    Usage(String),
    /// Which hub is meant cannot be told.
    Target(TargetError),
    /// The hub did not do it.
    Call(CallError),
    /// Something on this machine did not do it.
    Local(String),
}

impl Failure {
    /// 2 for a command line that is not understood, else 1.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Failure::Usage(_) => ExitCode::from(2),
            Failure::Target(_) | Failure::Call(_) | Failure::Local(_) => ExitCode::FAILURE,
        }
    }

    /// What was tried on this machine, and what came of it.
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
