//! Limits of a policy document: each is a refusal of the check, and bounds what a decision costs.

/// Bytes of a document: it is a record of the journal, which stays below 1 MiB.
pub const DOCUMENT_BYTES_MAX: usize = 256 * 1024;

/// 2^53 - 1: the greatest number that all readers of JSON have exactly.
pub const VERSION_MAX: u64 = (1 << 53) - 1;

/// Rules of a document: a decision looks at each once.
pub const RULES_MAX: usize = 1_000;

/// Globs of one list.
pub const GLOBS_MAX: usize = 100;

/// Characters of a glob: no name is longer.
pub const GLOB_CHARS_MAX: usize = crate::limits::NAME_BYTES_MAX;

/// Characters of a rule's id: it stands in replies and in lines of the audit log.
pub const ID_CHARS_MAX: usize = 64;

/// Characters of a description or a reason.
pub const TEXT_CHARS_MAX: usize = 1_000;

/// Cases of a document.
pub const CASES_MAX: usize = 1_000;

/// Quarantines of a node grow this often: the first, one soon after another, and any later one.
pub const QUARANTINE_STEPS: usize = 3;

/// The longest quarantine, in minutes: a week.
pub const QUARANTINE_MIN_MAX: u64 = 7 * 24 * 60;

/// The longest `defer_ms`: ten minutes.
pub const DEFER_MS_MAX: u64 = 600_000;

/// The shortest `defer_ms`: a node that is told to wait must not ask in a circle.
pub const DEFER_MS_MIN: u64 = 100;

/// Verdicts that a row remembers: about 60 bytes each, beside the names.
pub const ROW_VERDICTS_MAX: usize = 1_024;

/// Requests that a comparison of two policies decides under both: less than a second with few rules.
pub const DIFF_REQUESTS_MAX: u64 = 100_000;

/// Requests that a comparison lists; the others are only counted.
pub const DIFF_LISTED_MAX: usize = 1_000;

const _: () = assert!(RULES_MAX <= u16::MAX as usize, "a rule's index has 16 bits");
const _: () = assert!(DOCUMENT_BYTES_MAX < 1 << 20, "a record of the journal stays below 1 MiB");
