//! Rules of replies, which may be sent, given which records are durable; and of sockets, which may be read.

use crate::http::Reply;
use crate::service::Applied;
use sheratan_core::LeaseRef;

/// Whether a reply that shows the state up to record `seq` may be sent when all records up to `durable` are durable.
pub(crate) fn may_leave(seq: u64, durable: u64) -> bool {
    seq <= durable
}

/// Whether a reply without a record of its own acknowledges earlier records that are not durable yet: its request may
/// repeat one that changed the state, or it shows state whose changes a crash may undo.
pub(crate) fn acknowledges_earlier(is_read: bool, shows_state: bool) -> bool {
    !is_read || shows_state
}

/// Whether what a held reply acknowledges was done, when the journal did not take it in time.
pub(crate) fn applied_after_failure() -> Applied {
    Applied::Unknown
}

/// The leases to take back of a reply: those that it grants, if there is no connection to send it on.
pub(crate) fn leases_to_reclaim(reply: &mut Reply, is_connected: bool) -> Box<[LeaseRef]> {
    if is_connected { Box::default() } else { reply.take_leases() }
}

/// What is sent for a reply that was held too long: the refusal for an acknowledgement, the reply itself otherwise.
pub(crate) fn reply_after_failure(reply: Reply, is_acknowledgement: bool, refusal: impl FnOnce() -> Reply) -> Reply {
    if is_acknowledgement { refusal() } else { reply }
}

/// Whether a socket may hold more bytes after a read that gave some: unless it did not fill the buffer, and that means
/// that the socket is drained.
pub(crate) fn may_hold_more(is_short: bool, is_drained_by_short_read: bool) -> bool {
    !is_short || !is_drained_by_short_read
}
