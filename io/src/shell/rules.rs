//! Rules of replies: which may be sent, given which records are durable.

use crate::http::Reply;

/// Whether a reply that shows the state up to record `seq` may be sent when all records up to `durable` are durable.
pub(crate) fn may_leave(seq: u64, durable: u64) -> bool {
    seq <= durable
}

/// Whether a reply without a record of its own acknowledges earlier records that are not durable yet: its request may
/// repeat one that changed the state, or it shows jobs, whose changes a crash may undo.
pub(crate) fn acknowledges_earlier(is_read: bool, shows_jobs: bool) -> bool {
    !is_read || shows_jobs
}

/// What is sent for a held reply when the journal failed: the refusal for an acknowledgement, the reply itself
/// otherwise.
pub(crate) fn reply_after_failure(reply: Reply, is_acknowledgement: bool, refusal: impl FnOnce() -> Reply) -> Reply {
    if is_acknowledgement { refusal() } else { reply }
}
