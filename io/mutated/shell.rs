//! The rules of replies and sockets, with mutants.

#[path = "../src/shell/rules.rs"]
mod real;

use crate::http::Reply;
use crate::service::Applied;
use sheratan_core::LeaseRef;
use sheratan_mutants::{Mutant, is_active};

pub(crate) fn may_leave(seq: u64, durable: u64) -> bool {
    real::may_leave(seq, durable) || is_active(Mutant::ReplyNotHeld)
}

pub(crate) fn acknowledges_earlier(is_read: bool, shows_state: bool) -> bool {
    real::acknowledges_earlier(is_read, shows_state && !is_active(Mutant::HeldReadShown))
}

pub(crate) fn applied_after_failure() -> Applied {
    if is_active(Mutant::UnknownRefused) { Applied::No } else { real::applied_after_failure() }
}

pub(crate) fn leases_to_reclaim(reply: &mut Reply, is_connected: bool) -> Box<[LeaseRef]> {
    real::leases_to_reclaim(reply, is_connected && !is_active(Mutant::SentLeaseReclaimed))
}

pub(crate) fn reply_after_failure(reply: Reply, is_acknowledgement: bool, refusal: impl FnOnce() -> Reply) -> Reply {
    real::reply_after_failure(reply, is_acknowledgement && !is_active(Mutant::FailureAcknowledged), refusal)
}

pub(crate) fn may_hold_more(is_short: bool, is_drained_by_short_read: bool) -> bool {
    real::may_hold_more(is_short, is_drained_by_short_read || is_active(Mutant::ShortReadDrains))
}
