//! Drops: whose requests were refused with `backpressure`. The hub reports a refusal and does not know of requests; the
//! audit log's line says from which address and for which path it was.

use std::collections::VecDeque;
use std::net::IpAddr;

/// The sources of the refusals that the hub has not reported yet, in their order. Bounded by the refusals of a round.
#[derive(Default, Debug)]
pub struct Drops(VecDeque<Option<Source>>);

/// The sender of a request that was refused.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Source {
    pub ip: IpAddr,
    /// The path, as the audit log shows it.
    pub path: String,
}

impl Drops {
    /// A command was refused; its source is not known yet.
    pub fn add(&mut self) {
        self.0.push_back(None);
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The refusals from that position on are of this source.
    pub fn name(&mut self, from: usize, source: &Source) {
        self.0.range_mut(from..).for_each(|unknown| *unknown = Some(source.clone()));
    }

    /// The source of the first refusal; `None` if no request was its cause: a long poll's pull is repeated later.
    pub fn pop(&mut self) -> Option<Source> {
        self.0.pop_front().flatten()
    }
}
