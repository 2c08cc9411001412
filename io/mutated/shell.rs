//! The rules of replies, with mutants.

#[path = "../src/shell/rules.rs"]
mod real;

use crate::http::Reply;
use sheratan_mutants::{Mutant, is_active};

pub(crate) fn may_leave(seq: u64, durable: u64) -> bool {
    real::may_leave(seq, durable) || is_active(Mutant::ReplyNotHeld)
}

pub(crate) fn acknowledges_earlier(is_read: bool, shows_jobs: bool) -> bool {
    real::acknowledges_earlier(is_read, shows_jobs && !is_active(Mutant::HeldReadShown))
}

pub(crate) fn reply_after_failure(reply: Reply, is_acknowledgement: bool, refusal: impl FnOnce() -> Reply) -> Reply {
    real::reply_after_failure(reply, is_acknowledgement && !is_active(Mutant::FailureAcknowledged), refusal)
}
