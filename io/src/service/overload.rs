//! Overload: what was refused because the shell holds too much: connections, bytes, long polls. Each is counted, and
//! the audit log gets one event for those of a tenth of a second.

use super::{Caller, Service};
use sheratan_core::{Millis, Timestamp};
use std::net::IpAddr;

/// What there was no room for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Overload {
    /// A connection: its address has too many, or the last ones are kept for this machine.
    Address,
    /// A submit or a long poll on one more connection: those hold their share.
    ConnectionsShare,
    /// A submit: bytes beyond the share of submits.
    BytesShare,
    /// A request: all connections hold too many bytes.
    Bytes,
    /// A long poll: too many are parked.
    LongPolls,
}

/// Refusals by what there was no room for.
#[derive(Default, Debug)]
pub struct Overloads {
    totals: [u64; Overload::ALL.len()],
    /// Those for which no event was made yet, and the address of the latest.
    pending: [(u64, Option<IpAddr>); Overload::ALL.len()],
    events_at: Option<Timestamp>,
}

/// Events of one cause are so far apart.
const EVENTS_APART: Millis = Millis::new(100);

impl Overload {
    pub const ALL: [Overload; 5] =
        [Overload::Address, Overload::ConnectionsShare, Overload::BytesShare, Overload::Bytes, Overload::LongPolls];

    /// The word in metrics and in the audit log.
    pub const fn as_str(self) -> &'static str {
        match self {
            Overload::Address => "connections_of_address",
            Overload::ConnectionsShare => "connections_of_submits_and_polls",
            Overload::BytesShare => "bytes_of_submits",
            Overload::Bytes => "bytes",
            Overload::LongPolls => "long_polls",
        }
    }
}

impl Overloads {
    fn add(&mut self, what: Overload, ip: IpAddr) {
        self.totals[what as usize] += 1;
        let (count, address) = &mut self.pending[what as usize];
        (*count, *address) = (*count + 1, Some(ip));
    }

    /// The counts since the start.
    pub fn totals(&self) -> [(&'static str, u64); Overload::ALL.len()] {
        Overload::ALL.map(|what| (what.as_str(), self.totals[what as usize]))
    }

    /// When events are to be made.
    pub fn due_at(&self) -> Option<Timestamp> {
        let is_any = self.pending.iter().any(|(count, _)| *count > 0);
        is_any.then(|| self.events_at.unwrap_or(Timestamp::ZERO))
    }
}

impl Service {
    /// A request or a connection is refused, since there is no room for it.
    pub fn note_overload(&mut self, what: Overload, ip: IpAddr) {
        self.overloads.add(what, ip);
    }

    /// The next request may not wait for anything, or may: long polls hold all connections that they may hold.
    pub fn set_may_wait(&mut self, may_wait: bool) {
        self.may_wait = may_wait;
    }

    /// Notes that a long poll is refused that found no room among the connections.
    pub(super) fn note_unparked(&mut self, caller: &Caller) {
        self.note_overload(Overload::ConnectionsShare, caller.ip);
    }

    /// Adds the events of refusals that are due, or of all at the end.
    pub(super) fn add_overloads(&mut self, now: Timestamp, is_last: bool) {
        if !self.overloads.due_at().is_some_and(|at| at <= now || is_last) {
            return;
        }
        self.overloads.events_at = Some(now + EVENTS_APART);
        let pending = std::mem::take(&mut self.overloads.pending);
        for (what, (count, ip)) in Overload::ALL.into_iter().zip(pending) {
            let Some(ip) = ip.filter(|_| count > 0) else { continue };
            self.audit_times(now, "OVERLOADED", count, |out| _ = out.plain("what", what.as_str()).plain("ip", ip));
        }
    }
}
