//! Rules of replies: which may leave, given what the journal holds.

use crate::http::Reply;

/// Whether a reply that shows the state up to record `seq` may leave when the journal holds all up to `durable`.
pub(crate) fn may_leave(seq: u64, durable: u64) -> bool {
    seq <= durable
}

/// Whether a reply for which nothing was recorded acknowledges records that are not durable yet: its request may repeat one
/// that changed something, or it shows jobs, which a crash may take back.
pub(crate) fn acknowledges_earlier(is_read: bool, shows_jobs: bool) -> bool {
    !is_read || shows_jobs
}

/// What a held reply becomes when the journal failed: one that acknowledges is a refusal now, any other leaves as it is.
pub(crate) fn reply_after_failure(reply: Reply, is_acknowledgement: bool, refusal: impl FnOnce() -> Reply) -> Reply {
    if is_acknowledgement { refusal() } else { reply }
}
