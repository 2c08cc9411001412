//! Violation: what a run found wrong.

use std::fmt;

/// A promise of the hub that a run saw broken. The texts say what was expected and what was there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Violation {
    /// The hub answered a command otherwise than the model.
    Answer(String),
    /// The hub's rows are not the model's.
    Rows(String),
    /// What must hold of every state does not hold of this one.
    Invariant(String),
    /// A rebuilt hub is not the hub that was lost.
    Replay(String),
    /// A long poll was woken twice, for nothing, or not at all.
    Wake(String),
    /// The hub panicked.
    Panic(String),
}

/// Goes on if `is_so`; else the violation of an invariant, which `what` describes.
pub fn holds(is_so: bool, what: impl FnOnce() -> String) -> Result<(), Violation> {
    if is_so { Ok(()) } else { Err(Violation::Invariant(what())) }
}

impl Violation {
    /// The word for its kind; a minimised run must show the same.
    pub const fn kind(&self) -> &'static str {
        match self {
            Violation::Answer(_) => "answer",
            Violation::Rows(_) => "rows",
            Violation::Invariant(_) => "invariant",
            Violation::Replay(_) => "replay",
            Violation::Wake(_) => "wake",
            Violation::Panic(_) => "panic",
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Violation::Answer(text)
        | Violation::Rows(text)
        | Violation::Invariant(text)
        | Violation::Replay(text)
        | Violation::Wake(text)
        | Violation::Panic(text)) = self;
        write!(f, "{}: {text}", self.kind())
    }
}

impl std::error::Error for Violation {}
