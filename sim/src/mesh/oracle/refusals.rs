//! Refusals: a command that was answered as not done is never done later. Clients put a mark of their own into each try
//! of a submit without a key.

use super::{Violation, holds};
use memchr::memmem;
use std::collections::BTreeSet;

/// What precedes a mark in params.
pub const MARK: &str = "\"u\":\"";

/// The marks of submits.
#[derive(Debug, Default)]
pub struct Refusals {
    /// Those whose jobs are durable.
    done: BTreeSet<String>,
    /// Those that were answered as not done.
    refused: BTreeSet<String>,
    /// Those that the network repeated: one copy may be refused and the other done.
    repeated: BTreeSet<String>,
}

impl Refusals {
    /// A job became durable.
    pub fn done(&mut self, params: &[u8]) -> Result<(), Violation> {
        marks_in(params).try_for_each(|mark| {
            self.done.insert(mark.clone());
            self.check(&mark)
        })
    }

    /// A submit was answered as not done.
    pub fn refused(&mut self, params: &[u8]) -> Result<(), Violation> {
        marks_in(params).try_for_each(|mark| {
            self.refused.insert(mark.clone());
            self.check(&mark)
        })
    }

    /// The network repeats a request.
    pub fn repeated(&mut self, request: &[u8]) {
        self.repeated.extend(marks_in(request));
    }

    fn check(&self, mark: &str) -> Result<(), Violation> {
        let is_both = self.done.contains(mark) && self.refused.contains(mark) && !self.repeated.contains(mark);
        holds(!is_both, "what was refused is not done", || format!("submit {mark} was answered as not done, and is"))
    }
}

fn marks_in(bytes: &[u8]) -> impl Iterator<Item = String> {
    memmem::find_iter(bytes, MARK).map(|at| {
        let rest = &bytes[at + MARK.len()..];
        let end = rest.iter().position(|byte| *byte == b'"').unwrap_or(rest.len());
        String::from_utf8_lossy(&rest[..end]).into_owned()
    })
}
