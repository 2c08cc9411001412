//! Filters of dead letters: which of them an operator means.

use crate::encoding::members;
use crate::name::Name;
use crate::queue::job::{EndReason, JobView, State};
use crate::time::Timestamp;

/// Which dead letters are meant: those that all present members match.
#[derive(Clone, PartialEq, Default, Debug)]
pub struct LetterFilter {
    pub kind: Option<Name>,
    /// A text that the error contains, as JSON.
    pub error: Option<Name>,
    pub reason: Option<EndReason>,
    /// Those that ended before this.
    pub before: Option<Timestamp>,
    /// Those that ended at this or after it.
    pub after: Option<Timestamp>,
}

members!(LetterFilter { 1 kind, 2 error, 3 reason, 4 before, 5 after });

impl LetterFilter {
    /// Whether it matches a final job. O(bytes of its error).
    pub fn matches(&self, job: &JobView<'_>) -> bool {
        let State::Final { at, error, .. } = job.state() else { return false };
        self.kind.as_ref().is_none_or(|kind| kind == job.kind())
            && self.reason.is_none_or(|reason| job.end_reason() == Some(reason))
            && self.before.is_none_or(|before| at < before)
            && self.after.is_none_or(|after| at >= after)
            && self
                .error
                .as_ref()
                .is_none_or(|text| error.as_ref().is_some_and(|error| contains(error.as_bytes(), text.as_bytes())))
    }
}

fn contains(bytes: &[u8], text: &[u8]) -> bool {
    bytes.windows(text.len().max(1)).any(|window| window == text)
}
