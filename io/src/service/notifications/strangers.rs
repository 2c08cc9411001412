//! Strangers: how many lines of the audit log are written of requests that need no token.
//!
//! Anybody may send such requests without end, so their lines could turn over the log's ring, and with it what is known
//! of an intruder. An address (of IPv6, a network of 64 bits) gets [`LINES_MAX`] lines an hour; further requests are
//! counted, without being formatted, and one line for each kind says at the end of the hour how many they were. Alert
//! rules see each of them.
//!
//! Bounded: [`ADDRESSES_MAX`] addresses, the others share one allowance; and [`LINES_IN_ALL_MAX`] lines in an hour of all
//! addresses. With some 350 bytes for a line, 5 MB an hour at most: a ring of 1 GiB holds more than a week of a flood
//! from a thousand addresses, and years of one from one address. O(log addresses) for each request.

use crate::audit::Event;
use sheratan_core::{Millis, Timestamp};
use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Ipv6Addr};

/// Lines of an address in an hour, of all kinds together.
pub const LINES_MAX: u32 = 100;

/// In which lines are counted, from an address's first one.
pub const WINDOW: Millis = Millis::from_secs(3_600);

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
    ForeignOrigin,
}

/// Lines and counts of all addresses.
#[derive(Default, Debug)]
pub struct Strangers {
    /// By address or network; `None` is shared by those that have no window of their own.
    windows: BTreeMap<Option<IpAddr>, Window>,
    /// The windows, the first to end in front.
    order: VecDeque<(Timestamp, Option<IpAddr>)>,
    /// Lines of all addresses since an instant.
    lines_in_all: (Timestamp, u32),
}

/// An hour of an address.
#[derive(Default, Debug)]
struct Window {
    lines: u32,
    counted: BTreeMap<Kind, Counted>,
}

/// Requests that were only counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Counted {
    pub count: u64,
    pub first_at: Timestamp,
}

/// The end of an address's hour, in which requests of a kind were only counted.
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
        let window = self.windows.entry(counted_under).or_insert_with(|| {
            self.order.push_back((now + WINDOW, counted_under));
            Window::default()
        });
        if has_line {
            window.lines += 1;
            self.lines_in_all.1 += 1;
            if window.lines < LINES_MAX {
                return Record::Line;
            }
            let ends_at = self.order.iter().find(|(_, of)| *of == counted_under).map_or(now, |(at, _)| *at);
            return Record::LastLine(ends_at);
        }
        window.counted.entry(kind).or_insert(Counted { count: 0, first_at: now }).count += 1;
        Record::Count
    }

    fn counted_under(&self, address: IpAddr) -> Option<IpAddr> {
        let own = Some(network_of(address));
        own.filter(|_| self.windows.contains_key(&own) || self.windows.len() < ADDRESSES_MAX)
    }

    /// When the next window ends.
    pub fn next_end(&self) -> Option<Timestamp> {
        self.order.front().map(|(at, _)| *at)
    }

    /// Ends the first window that is over at `now`; returns its counts.
    pub fn pop_due(&mut self, now: Timestamp) -> Option<Vec<Closing>> {
        let (_, address) = self.order.front().copied().filter(|(at, _)| *at <= now)?;
        self.order.pop_front();
        let window = self.windows.remove(&address).expect("a window in the order is held");
        let closing = |(kind, counted)| Closing { kind, address, counted };
        Some(window.counted.into_iter().map(closing).collect())
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
        assert_eq!((strangers.next_end(), strangers.pop_due(hour(1) - Millis::new(1))), (Some(hour(1)), None));
        let closing =
            |kind, count, ms| Closing { kind, address: Some(address(1)), counted: Counted { count, first_at: at(ms) } };
        assert_eq!(
            strangers.pop_due(hour(1)),
            Some(vec![closing(PortMismatch, 30, 100), closing(AuthFailure, 1, 140)])
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
            assert!(strangers.windows.len() <= ADDRESSES_MAX + 1 && strangers.order.len() <= ADDRESSES_MAX + 1);
        }
        assert_eq!(lines, u64::from(LINES_IN_ALL_MAX));
        tally(&mut strangers, hour(2));
        assert_eq!((lines + counted, strangers.next_end()), (u64::from(requests), None));
    }
}
