//! Strangers: how many lines of the audit log are written of requests that need no token.
//!
//! Anybody may send such requests without end, so their lines could turn over the log's ring, and with it what is known
//! of an intruder. An address (of IPv6, a network of 64 bits) gets [`LINES_MAX`] lines an hour; further requests are
//! counted, without being formatted, and one line for each kind says how many they were: 10 s after the first, each
//! further one after four times as long, and at the end of the hour. Alert rules see each of them.
//!
//! Bounded: [`ADDRESSES_MAX`] addresses, the others share one allowance; and [`LINES_IN_ALL_MAX`] lines in an hour of all
//! addresses, beside the counts. With some 350 bytes for a line, 10 MB an hour at most: a ring of 1 GiB holds four days of
//! a flood from a thousand addresses, and years of one from one address. O(log addresses) for each request.

use crate::audit::Event;
use sheratan_core::{Millis, Timestamp};
use std::collections::{BTreeMap, BTreeSet};
use std::mem;
use std::net::{IpAddr, Ipv6Addr};

/// Lines of an address in an hour, of all kinds together.
pub const LINES_MAX: u32 = 100;

/// In which lines are counted, from an address's first one.
pub const WINDOW: Millis = Millis::from_secs(3_600);

/// After the first request that is only counted, its count is written so much later.
const REPORT_FIRST: Millis = Millis::from_secs(10);

/// Each further count is written after so many times as long as the one before.
const REPORT_FACTOR: u64 = 4;

/// Addresses with an allowance of their own: about 300 kB.
const ADDRESSES_MAX: usize = 1_024;

/// Lines of all addresses in an hour.
const LINES_IN_ALL_MAX: u32 = 10_000;

const _: () = assert!(LINES_MAX <= LINES_IN_ALL_MAX);

/// The part of an IPv6 address that names its network.
const IPV6_NETWORK: u128 = !0 << 64;

/// What is recorded of a request that needs no token.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Kind {
    PortMismatch,
    AuthFailure,
    TokenRetired,
    ForeignOrigin,
}

/// Lines and counts of all addresses.
#[derive(Default, Debug)]
pub struct Strangers {
    /// By address or network; `None` is shared by those that have no window of their own.
    windows: BTreeMap<Option<IpAddr>, Window>,
    /// When each window's counts are to be written next.
    due: BTreeSet<(Timestamp, Option<IpAddr>)>,
    /// Lines of all addresses since an instant.
    lines_in_all: (Timestamp, u32),
}

/// An hour of an address.
#[derive(Debug)]
struct Window {
    ends_at: Timestamp,
    /// Its place among those that are due.
    due_at: Timestamp,
    /// How long counts are collected before they are written; `None` before the first.
    report_after: Option<Millis>,
    lines: u32,
    counted: BTreeMap<Kind, Counted>,
}

/// Requests that were only counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Counted {
    pub count: u64,
    pub first_at: Timestamp,
}

/// Requests of a kind that were only counted since the last such count of the address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Closing {
    pub kind: Kind,
    /// `None` for the addresses that share an allowance.
    pub address: Option<IpAddr>,
    pub counted: Counted,
}

/// How a request is recorded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Record {
    /// By a line.
    Line,
    /// By a line, the last one before this instant: later requests of the address are counted.
    LastLine(Timestamp),
    /// By a count.
    Count,
}

/// A request that was refused, for the audit log.
#[derive(Clone, Debug)]
pub struct Recorded {
    pub kind: Kind,
    pub address: IpAddr,
    /// Whether it presented a token.
    pub is_token_present: bool,
    pub event: Event,
}

impl Kind {
    /// The event's name.
    pub const fn event(self) -> &'static str {
        match self {
            Kind::PortMismatch => "PORT_MISMATCH",
            Kind::AuthFailure => "AUTH_FAILURE",
            Kind::TokenRetired => "TOKEN_RETIRED",
            Kind::ForeignOrigin => "FOREIGN_ORIGIN",
        }
    }
}

impl Strangers {
    /// Whether the next request of an address is recorded by a line.
    pub fn has_line(&self, now: Timestamp, address: IpAddr) -> bool {
        let (since, lines_in_all) = self.lines_in_all;
        let window = self.windows.get(&self.counted_under(address));
        let is_open = window.is_none_or(|window| window.lines < LINES_MAX);
        is_open && (lines_in_all < LINES_IN_ALL_MAX || since + WINDOW <= now)
    }

    /// Records a request, after [`Strangers::pop_due`] returned nothing more.
    pub fn record(&mut self, now: Timestamp, address: IpAddr, kind: Kind) -> Record {
        let (has_line, counted_under) = (self.has_line(now, address), self.counted_under(address));
        if self.lines_in_all.0 + WINDOW <= now {
            self.lines_in_all = (now, 0);
        }
        let due = &mut self.due;
        let window = self.windows.entry(counted_under).or_insert_with(|| {
            let ends_at = now + WINDOW;
            due.insert((ends_at, counted_under));
            Window { ends_at, due_at: ends_at, report_after: None, lines: 0, counted: BTreeMap::new() }
        });
        if has_line {
            window.lines += 1;
            self.lines_in_all.1 += 1;
            return if window.lines < LINES_MAX { Record::Line } else { Record::LastLine(window.ends_at) };
        }
        window.counted.entry(kind).or_insert(Counted { count: 0, first_at: now }).count += 1;
        if window.report_after.is_none() {
            due.remove(&(window.due_at, counted_under));
            window.plan_report(now, REPORT_FIRST);
            due.insert((window.due_at, counted_under));
        }
        Record::Count
    }

    fn counted_under(&self, address: IpAddr) -> Option<IpAddr> {
        let own = Some(network_of(address));
        own.filter(|_| self.windows.contains_key(&own) || self.windows.len() < ADDRESSES_MAX)
    }

    /// When the next counts are due.
    pub fn next_due(&self) -> Option<Timestamp> {
        self.due.first().map(|(at, _)| *at)
    }

    /// The counts of the first address whose counts are due at `now`; its hour may be over with them.
    pub fn pop_due(&mut self, now: Timestamp) -> Option<Vec<Closing>> {
        let (at, address) = self.due.first().copied().filter(|(at, _)| *at <= now)?;
        self.due.pop_first();
        let window = self.windows.get_mut(&address).expect("a window that is due is held");
        let counted = mem::take(&mut window.counted);
        if window.ends_at <= now {
            self.windows.remove(&address);
        } else {
            let before = window.report_after.expect("a window is due before its end when something was counted");
            window.plan_report(at, Millis::new(before.get() * REPORT_FACTOR));
            self.due.insert((window.due_at, address));
        }
        Some(counted.into_iter().map(|(kind, counted)| Closing { kind, address, counted }).collect())
    }
}

impl Window {
    /// The next counts are written after so long, or at the end of the hour.
    fn plan_report(&mut self, now: Timestamp, after: Millis) {
        self.report_after = Some(after);
        self.due_at = (now + after).min(self.ends_at);
    }
}

/// The address; of IPv6, its network.
fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) if !address.is_loopback() => {
            IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & IPV6_NETWORK))
        }
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Kind::{AuthFailure, PortMismatch};
    use std::net::Ipv4Addr;

    fn at(ms: u64) -> Timestamp {
        Timestamp::from_millis(ms)
    }

    fn address(number: u32) -> IpAddr {
        Ipv4Addr::from_bits(0x0A00_0000 + number).into()
    }

    fn hour(hours: u64) -> Timestamp {
        at(hours * WINDOW.get())
    }

    #[test]
    fn an_address_gets_a_hundred_lines_an_hour_and_then_a_count_for_each_kind() {
        let mut strangers = Strangers::default();
        let mut record = |ms, kind| strangers.record(at(ms), address(1), kind);
        assert!((0..99).all(|ms| record(ms, PortMismatch) == Record::Line));
        assert_eq!(record(99, AuthFailure), Record::LastLine(hour(1)));
        assert!((100..130).all(|ms| record(ms, PortMismatch) == Record::Count));
        assert_eq!(record(140, AuthFailure), Record::Count);
        assert_eq!(strangers.record(at(150), address(2), AuthFailure), Record::Line, "another address");
        let closing =
            |kind, count, ms| Closing { kind, address: Some(address(1)), counted: Counted { count, first_at: at(ms) } };
        assert_eq!((strangers.next_due(), strangers.pop_due(at(10_099))), (Some(at(10_100)), None));
        assert_eq!(
            strangers.pop_due(at(10_100)),
            Some(vec![closing(PortMismatch, 30, 100), closing(AuthFailure, 1, 140)])
        );
        let mut written_at = Vec::new();
        while let Some(at) = strangers.next_due().filter(|at| *at <= hour(1)) {
            assert_eq!(strangers.record(at - Millis::new(1), address(1), PortMismatch), Record::Count);
            written_at.push(at.as_millis() / 1_000);
            assert_eq!(strangers.pop_due(at), Some(vec![closing(PortMismatch, 1, at.as_millis() - 1)]));
        }
        assert_eq!(
            written_at,
            [50, 210, 850, 3_410, 3_600],
            "each after four times as long, and at the end of the hour"
        );
        assert_eq!(strangers.record(hour(1), address(1), PortMismatch), Record::Line, "a new hour");
        assert_eq!(strangers.pop_due(hour(2)), Some(Vec::new()), "nothing of the other address was only counted");
    }

    #[test]
    fn addresses_of_one_ipv6_network_share_their_lines_and_a_mapped_address_is_that_of_ipv4() {
        let mut strangers = Strangers::default();
        let ip = |text: &str| text.parse().expect("an address");
        for number in 0..99 {
            strangers.record(at(0), ip(&format!("2001:db8:0:1::{number:x}")), PortMismatch);
        }
        assert_eq!(strangers.record(at(0), ip("2001:db8:0:1:ffff::"), PortMismatch), Record::LastLine(hour(1)));
        assert_eq!(strangers.record(at(0), ip("2001:db8:0:2::1"), PortMismatch), Record::Line);
        (0..100).for_each(|_| _ = strangers.record(at(0), ip("192.0.2.1"), PortMismatch));
        assert_eq!(strangers.record(at(0), ip("::ffff:192.0.2.1"), PortMismatch), Record::Count);
    }

    #[test]
    fn a_flood_from_many_addresses_has_a_bound_of_lines_and_of_memory_and_all_are_counted() {
        let mut strangers = Strangers::default();
        let (mut lines, mut counted) = (0, 0);
        let mut tally = |strangers: &mut Strangers, now| {
            while let Some(closings) = strangers.pop_due(now) {
                counted += closings.iter().map(|closing| closing.counted.count).sum::<u64>();
            }
        };
        let requests = 3_000 * 40;
        for number in 0..requests {
            let now = at(u64::from(number) / 100);
            tally(&mut strangers, now);
            lines += u64::from(strangers.record(now, address(number % 3_000), AuthFailure) != Record::Count);
            assert!(strangers.windows.len() <= ADDRESSES_MAX + 1 && strangers.due.len() == strangers.windows.len());
        }
        assert_eq!(lines, u64::from(LINES_IN_ALL_MAX));
        tally(&mut strangers, hour(2));
        assert_eq!((lines + counted, strangers.next_due()), (u64::from(requests), None));
    }
}
