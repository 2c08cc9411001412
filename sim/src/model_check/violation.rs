//! Violation: a broken promise of the hub.

use std::fmt;

/// A broken promise of the hub. The texts say what was expected and what was found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Violation {
    /// The hub answered a command otherwise than the model.
    Answer(String),
    /// The hub's rows differ from the model's.
    Rows(String),
    /// An invariant of every state does not hold.
    Invariant(String),
    /// A rebuilt hub differs from the hub that crashed.
    Replay(String),
    /// A long poll was woken twice, for nothing, or not at all.
    Wake(String),
    /// The hub panicked.
    Panic(String),
}

/// Returns a violation of an invariant, which `what` describes, unless `is_so`.
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
