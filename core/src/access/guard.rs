//! The guard: an address that fails authentication too often in a minute is blocked, without a check of its token.
//!
//! An IPv6 address is counted together with all others of its /64, since a client usually owns the whole network; an
//! IPv4-mapped address counts as the IPv4 address.
//!
//! Ephemeral and bounded: a fixed window of a minute per address, at most [`GUARDED_ADDRESSES_MAX`] addresses. At the
//! limit a window that is over is evicted first, then the oldest of an address that is not blocked: a blocked address
//! is evicted only if all are blocked. O(log n) per failure.

use crate::limits::GUARDED_ADDRESSES_MAX;
use crate::time::{Millis, Timestamp};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr};

const WINDOW: Millis = Millis::from_secs(60);

/// The part of an IPv6 address that names its network.
const IPV6_NETWORK: u128 = !0 << 64;

/// Failures by address.
#[derive(Debug)]
pub struct AuthGuard {
    failures_max: u32,
    is_loopback_exempt: bool,
    /// By the address that failures are counted under.
    windows: BTreeMap<IpAddr, Window>,
    /// The windows of addresses that are not blocked, and of those that are, each by when it started.
    open: BTreeSet<(Timestamp, IpAddr)>,
    blocked: BTreeSet<(Timestamp, IpAddr)>,
}

#[derive(Clone, Copy, Debug)]
struct Window {
    started_at: Timestamp,
    failures: u32,
}

impl Window {
    fn ends_at(&self) -> Timestamp {
        self.started_at + WINDOW
    }
}

impl AuthGuard {
    /// A guard that allows `failures_max` failures per minute and address.
    pub fn new(failures_max: u32, is_loopback_exempt: bool) -> Self {
        AuthGuard {
            failures_max,
            is_loopback_exempt,
            windows: BTreeMap::new(),
            open: BTreeSet::new(),
            blocked: BTreeSet::new(),
        }
    }

    /// How long the address is still blocked; `None` if it is not.
    pub fn blocked_for(&self, now: Timestamp, address: IpAddr) -> Option<Millis> {
        let window = self.windows.get(&self.counted_under(address)?)?;
        (window.failures >= self.failures_max && now < window.ends_at()).then(|| window.ends_at().since(now))
    }

    pub fn record_failure(&mut self, now: Timestamp, address: IpAddr) {
        let Some(counted) = self.counted_under(address) else { return };
        let window = match self.remove(counted) {
            Some(window) if now < window.ends_at() => Window { failures: window.failures.saturating_add(1), ..window },
            _ => Window { started_at: now, failures: 1 },
        };
        if self.windows.len() >= GUARDED_ADDRESSES_MAX {
            self.evict(now);
        }
        self.order_of(&window).insert((window.started_at, counted));
        self.windows.insert(counted, window);
        assert_eq!(self.windows.len(), self.open.len() + self.blocked.len(), "each window is in one order");
        assert!(self.windows.len() <= GUARDED_ADDRESSES_MAX);
    }

    /// The address that failures are counted under; `None` if they are not counted.
    fn counted_under(&self, address: IpAddr) -> Option<IpAddr> {
        let address = address.to_canonical();
        if self.is_loopback_exempt && address.is_loopback() {
            return None;
        }
        Some(match address {
            IpAddr::V4(_) => address,
            IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & IPV6_NETWORK)),
        })
    }

    fn evict(&mut self, now: Timestamp) {
        let oldest_blocked = self.blocked.first().copied();
        let is_over = oldest_blocked.is_some_and(|(started_at, _)| now >= started_at + WINDOW);
        let oldest_open = self.open.first().copied().filter(|_| !is_over);
        let (_, address) = oldest_open.or(oldest_blocked).expect("a full table has a window");
        self.remove(address).expect("an ordered window is in the table");
    }

    fn remove(&mut self, counted: IpAddr) -> Option<Window> {
        let window = self.windows.remove(&counted)?;
        let was_ordered = self.order_of(&window).remove(&(window.started_at, counted));
        assert!(was_ordered, "a window is in the order that its failures determine");
        Some(window)
    }

    fn order_of(&mut self, window: &Window) -> &mut BTreeSet<(Timestamp, IpAddr)> {
        if window.failures >= self.failures_max { &mut self.blocked } else { &mut self.open }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    const FAR: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
    const NEAR: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    fn at(ms: u64) -> Timestamp {
        Timestamp::from_millis(ms)
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("a test's address is one")
    }

    /// One of many addresses.
    fn flood(index: u32) -> IpAddr {
        IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 + index))
    }

    #[test]
    fn an_address_is_blocked_at_the_limit_and_until_its_minute_is_over() {
        let mut guard = AuthGuard::new(3, true);
        for ms in [1_000, 2_000] {
            guard.record_failure(at(ms), FAR);
            assert_eq!(guard.blocked_for(at(ms), FAR), None);
        }
        guard.record_failure(at(3_000), FAR);
        assert_eq!(guard.blocked_for(at(3_000), FAR), Some(Millis::new(58_000)));
        assert_eq!(guard.blocked_for(at(60_999), FAR), Some(Millis::new(1)));
        assert_eq!(guard.blocked_for(at(61_000), FAR), None);
    }

    #[test]
    fn loopback_is_exempt_only_if_the_guard_exempts_it() {
        for (is_exempt, blocked) in [(true, None), (false, Some(WINDOW))] {
            let mut guard = AuthGuard::new(1, is_exempt);
            guard.record_failure(at(0), NEAR);
            assert_eq!(guard.blocked_for(at(0), NEAR), blocked);
        }
    }

    #[test]
    fn the_addresses_of_one_ipv6_network_are_counted_together() {
        let mut guard = AuthGuard::new(3, true);
        for host in ["2001:db8:0:1::1", "2001:db8:0:1:ffff:ffff:ffff:ffff", "2001:db8:0:1:0:0:0:2"] {
            assert_eq!(guard.blocked_for(at(0), ip(host)), None);
            guard.record_failure(at(0), ip(host));
        }
        assert_eq!(guard.blocked_for(at(0), ip("2001:db8:0:1::99")), Some(WINDOW));
        assert_eq!(guard.blocked_for(at(0), ip("2001:db8:0:2::1")), None, "another network");
    }

    #[test]
    fn a_mapped_address_counts_as_its_ipv4_address() {
        let mut guard = AuthGuard::new(2, true);
        guard.record_failure(at(0), ip("::ffff:192.0.2.1"));
        guard.record_failure(at(0), FAR);
        for same in [FAR, ip("::ffff:192.0.2.1")] {
            assert_eq!(guard.blocked_for(at(0), same), Some(WINDOW));
        }
        assert_eq!(guard.blocked_for(at(0), ip("::ffff:192.0.2.2")), None, "mapped addresses are not one network");
    }

    #[test]
    fn loopback_is_exempt_in_each_of_its_forms() {
        for near in ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"] {
            let mut guard = AuthGuard::new(1, true);
            guard.record_failure(at(0), ip(near));
            assert_eq!(guard.blocked_for(at(0), ip(near)), None, "{near}");
            assert_eq!(guard.windows.len(), 0, "{near}");
        }
        let mut guard = AuthGuard::new(1, true);
        guard.record_failure(at(0), ip("::2"));
        assert_eq!(guard.blocked_for(at(0), ip("::1")), None, "it shares a network with the one that failed");
    }

    #[test]
    fn a_flood_of_addresses_takes_bounded_memory() {
        for failures_max in [1, 2] {
            let mut guard = AuthGuard::new(failures_max, true);
            for index in 0..GUARDED_ADDRESSES_MAX as u32 + 10 {
                guard.record_failure(at(0), flood(index));
                assert_eq!(guard.windows.len(), guard.open.len() + guard.blocked.len());
                assert!(guard.windows.len() <= GUARDED_ADDRESSES_MAX);
            }
            assert_eq!(guard.windows.len(), GUARDED_ADDRESSES_MAX);
        }
    }

    #[test]
    fn a_blocked_address_stays_blocked_in_a_flood_of_others() {
        let mut guard = AuthGuard::new(2, true);
        guard.record_failure(at(0), FAR);
        guard.record_failure(at(0), FAR);
        for index in 0..GUARDED_ADDRESSES_MAX as u32 * 2 {
            guard.record_failure(at(1), flood(index));
        }
        assert_eq!(guard.blocked_for(at(1), FAR), Some(Millis::new(59_999)));
        assert_eq!(guard.windows.len(), GUARDED_ADDRESSES_MAX);
    }

    #[test]
    fn among_blocked_addresses_only_the_oldest_is_evicted() {
        let mut guard = AuthGuard::new(1, true);
        for index in 0..GUARDED_ADDRESSES_MAX as u32 {
            guard.record_failure(at(u64::from(index)), flood(index));
        }
        let now = at(GUARDED_ADDRESSES_MAX as u64);
        guard.record_failure(now, FAR);
        assert_eq!(guard.blocked_for(now, flood(0)), None);
        assert!(guard.blocked_for(now, flood(1)).is_some());
        assert_eq!(guard.blocked_for(now, FAR), Some(WINDOW));
    }

    #[test]
    fn an_address_whose_minute_is_over_is_evicted_before_one_that_is_counted() {
        let mut guard = AuthGuard::new(2, true);
        guard.record_failure(at(0), FAR);
        guard.record_failure(at(0), FAR);
        // All but one have their first failure after the blocked one's; then its minute ends, and theirs goes on.
        for index in 0..GUARDED_ADDRESSES_MAX as u32 - 1 {
            guard.record_failure(at(1), flood(index));
        }
        guard.record_failure(at(60_000), ip("192.0.2.2"));
        guard.record_failure(at(60_000), flood(0));
        assert_eq!(guard.blocked_for(at(60_000), flood(0)), Some(Millis::new(1)), "its first failure still counts");
        assert_eq!(guard.windows.len(), GUARDED_ADDRESSES_MAX);
    }
}
