//! Drops: whose requests were refused with `backpressure`. The hub reports refusals once a round and does not know of
//! requests; the audit log's line says from which address and for which path they were.
//!
//! An overloaded hub refuses more than it accepts, so a refusal only counts here: a path is looked at for secrets, and
//! copied, once for all refusals of a tenth of a second.

use sheratan_core::{Audit, DropReason, Millis, Timestamp};
use std::net::IpAddr;

/// The sources of the refusals that the hub has not reported yet.
#[derive(Debug)]
pub struct Drops {
    /// Those of the request that is being answered.
    current: Vec<(DropReason, u64)>,
    named: Vec<Named>,
    /// What the hub has reported and no event was made of, once for each reason: the latest report's figures, and the
    /// sum of the counts.
    reported: Vec<(Timestamp, Audit)>,
    /// Events are made no earlier.
    events_at: Timestamp,
}

/// Refusals of one source for one reason.
#[derive(Debug)]
struct Named {
    reason: DropReason,
    source: Source,
    /// The path as the client sent it.
    raw_path: Box<str>,
    count: u64,
}

/// The sender of requests that were refused.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Source {
    pub ip: IpAddr,
    /// The path, as the audit log shows it.
    pub path: String,
}

/// One event at most is made in this time for each reason and source: writing one costs more than a refusal.
const EVENTS_APART: Millis = Millis::new(100);

/// Sources that are told apart at a time: those of further ones are counted without a name.
const SOURCES_MAX: usize = 64;

impl Default for Drops {
    fn default() -> Self {
        Drops { current: Vec::new(), named: Vec::new(), reported: Vec::new(), events_at: Timestamp::ZERO }
    }
}

impl Drops {
    /// The request that is being answered was refused, `count` times.
    pub fn add(&mut self, reason: DropReason, count: u64) {
        match self.current.iter_mut().find(|(known, _)| *known == reason) {
            Some((_, before)) => *before += count,
            None => self.current.push((reason, count)),
        }
    }

    /// What was refused since the last call was of a request for this path; `shown` makes the path that the audit log
    /// shows.
    pub fn name(&mut self, ip: IpAddr, raw_path: &str, shown: impl Fn() -> String) {
        for (reason, count) in self.current.drain(..) {
            let is_same =
                |named: &&mut Named| named.reason == reason && named.source.ip == ip && *named.raw_path == *raw_path;
            if let Some(named) = self.named.iter_mut().rfind(is_same) {
                named.count += count;
            } else if self.named.len() < SOURCES_MAX {
                let source = Source { ip, path: shown() };
                self.named.push(Named { reason, source, raw_path: raw_path.into(), count });
            }
        }
    }

    /// Whether the request that is being answered was refused.
    pub fn has_current(&self) -> bool {
        !self.current.is_empty()
    }

    /// The hub reports refusals.
    pub fn report(&mut self, at: Timestamp, audit: &Audit) {
        let Audit::BackpressureDrop { reason, count, .. } = *audit else {
            unreachable!("it reports nothing else here")
        };
        self.current.clear();
        let before = self
            .reported
            .iter()
            .position(|(_, known)| matches!(known, Audit::BackpressureDrop { reason: known, .. } if *known == reason));
        let before = before.map(|index| self.reported.swap_remove(index).1);
        let mut audit = audit.clone();
        if let (Some(Audit::BackpressureDrop { count: before, .. }), Audit::BackpressureDrop { count: sum, .. }) =
            (before, &mut audit)
        {
            *sum = before + count;
        }
        self.reported.push((at, audit));
    }

    /// When events are to be made of what was reported.
    pub fn due_at(&self) -> Option<Timestamp> {
        (!self.reported.is_empty()).then_some(self.events_at)
    }

    /// What was reported, to make events of it now.
    pub fn take_reported(&mut self, now: Timestamp) -> Vec<(Timestamp, Audit)> {
        self.events_at = now + EVENTS_APART;
        std::mem::take(&mut self.reported)
    }

    /// The sources of `count` refusals for this reason, each with its own count. `None` is all others: no request was
    /// their cause (a long poll's pull is repeated later), or there were too many sources.
    pub fn take(&mut self, reason: DropReason, count: u64) -> Vec<(Option<Source>, u64)> {
        let mut rest = count;
        let mut sources = Vec::new();
        for named in self.named.extract_if(.., |named| named.reason == reason) {
            rest = rest.checked_sub(named.count).expect("the hub has counted each refusal");
            sources.push((Some(named.source), named.count));
        }
        if rest > 0 {
            sources.push((None, rest));
        }
        sources
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IP: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
    const OTHER: IpAddr = IpAddr::V6(std::net::Ipv6Addr::LOCALHOST);

    fn source(ip: IpAddr, path: &str) -> Option<Source> {
        Some(Source { ip, path: path.into() })
    }

    #[test]
    fn refusals_are_counted_by_reason_address_and_path_and_a_path_is_looked_at_once() {
        let mut drops = Drops::default();
        let shown_count = std::cell::Cell::new(0);
        let mut refuse = |ip, path: &'static str, reason, count| {
            drops.add(reason, count);
            drops.name(ip, path, || {
                shown_count.set(shown_count.get() + 1);
                path.to_uppercase()
            });
        };
        refuse(IP, "/a", DropReason::QueueDepth, 1);
        refuse(OTHER, "/a", DropReason::QueueDepth, 3);
        refuse(IP, "/a", DropReason::QueueDepth, 999);
        refuse(IP, "/a", DropReason::Keys, 1);
        drops.add(DropReason::QueueDepth, 5);
        drops.current.clear();
        assert_eq!(shown_count.get(), 3);
        let taken = drops.take(DropReason::QueueDepth, 1_008);
        assert_eq!(taken, [(source(IP, "/A"), 1_000), (source(OTHER, "/A"), 3), (None, 5)]);
        assert_eq!(drops.take(DropReason::QueueDepth, 0), []);
        assert_eq!(drops.take(DropReason::Keys, 1), [(source(IP, "/A"), 1)]);
    }

    #[test]
    fn what_is_reported_waits_until_the_last_events_are_a_tenth_of_a_second_old() {
        let at = Timestamp::from_millis;
        let reported = |reason, held, count| Audit::BackpressureDrop { reason, held, max: 9, queue_depth: held, count };
        let mut drops = Drops::default();
        assert_eq!(drops.due_at(), None);
        drops.report(at(5), &reported(DropReason::QueueDepth, 1, 1));
        assert_eq!(drops.due_at(), Some(at(0)));
        assert_eq!(drops.take_reported(at(5)), [(at(5), reported(DropReason::QueueDepth, 1, 1))]);
        assert_eq!(drops.due_at(), None);
        drops.report(at(6), &reported(DropReason::QueueDepth, 2, 10));
        drops.report(at(7), &reported(DropReason::Keys, 3, 1));
        drops.report(at(8), &reported(DropReason::QueueDepth, 4, 5));
        assert_eq!(drops.due_at(), Some(at(105)));
        let keys_first = [(at(7), reported(DropReason::Keys, 3, 1)), (at(8), reported(DropReason::QueueDepth, 4, 15))];
        assert_eq!(drops.take_reported(at(105)), keys_first);
    }

    #[test]
    fn sources_beyond_the_limit_are_counted_without_a_name() {
        let mut drops = Drops::default();
        for n in 0..SOURCES_MAX as u8 + 2 {
            drops.add(DropReason::QueueDepth, 1);
            drops.name(IpAddr::from([10, 0, 0, n]), "/a", || "/a".into());
        }
        let taken = drops.take(DropReason::QueueDepth, SOURCES_MAX as u64 + 2);
        assert_eq!(taken.len(), SOURCES_MAX + 1);
        assert_eq!(taken.last(), Some(&(None, 2)));
    }
}
