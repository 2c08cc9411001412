//! Rules of the audit log: how its lines are chained, and in which file a page begins.

use crate::audit::Link;
use sha2::{Digest, Sha256};

/// The link after a line that was written with `link`.
pub(crate) fn next_link(link: &Link, line: &[u8]) -> Link {
    Link { seq: link.seq + 1, prev: Sha256::digest(line).into() }
}

/// The link that a start continues with, given the one after the last whole line that it found.
pub(crate) fn resumed_link(found: Option<Link>) -> Link {
    found.unwrap_or_default()
}

/// Whether the next line must report bytes after the last whole line.
pub(crate) fn must_report_torn(torn: Option<&[u8]>) -> bool {
    torn.is_some()
}

/// Whether the line after number `after` is in a file that begins with `first_seq` or in a newer one, so that a page
/// needs no older file.
pub(crate) fn page_begins_here(first_seq: u64, after: u64) -> bool {
    first_seq <= after.saturating_add(1)
}
