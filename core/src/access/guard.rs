//! The guard: an address that fails authentication too often in a minute is turned away before its token is looked at.
//!
//! Ephemeral and bounded: a fixed window of a minute per address, at most [`GUARDED_ADDRESSES_MAX`] addresses, of which
//! the one whose window started first makes room. O(log n) per failure.

use crate::limits::GUARDED_ADDRESSES_MAX;
use crate::time::{Millis, Timestamp};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

const WINDOW: Millis = Millis::from_secs(60);

/// Failures by address.
#[derive(Debug)]
pub struct AuthGuard {
    failures_max: u32,
    is_loopback_exempt: bool,
    windows: BTreeMap<IpAddr, Window>,
    oldest: BTreeSet<(Timestamp, IpAddr)>,
}

#[derive(Clone, Copy, Debug)]
struct Window {
    started_at: Timestamp,
    failures: u32,
}

impl AuthGuard {
    /// A guard that allows `failures_max` failures a minute from one address.
    pub fn new(failures_max: u32, is_loopback_exempt: bool) -> Self {
        AuthGuard { failures_max, is_loopback_exempt, windows: BTreeMap::new(), oldest: BTreeSet::new() }
    }

    /// How long the address has to wait; `None` if it may go on.
    pub fn blocked_for(&self, now: Timestamp, address: IpAddr) -> Option<Millis> {
        let window = self.windows.get(&address)?;
        let ends_at = window.started_at + WINDOW;
        (window.failures >= self.failures_max && now < ends_at).then(|| ends_at.since(now))
    }

    /// The address failed.
    pub fn failed(&mut self, now: Timestamp, address: IpAddr) {
        if self.is_loopback_exempt && address.is_loopback() {
            return;
        }
        if let Some(window) = self.windows.get_mut(&address)
            && now < window.started_at + WINDOW
        {
            window.failures = window.failures.saturating_add(1);
            return;
        }
        self.forget(address);
        if self.windows.len() >= GUARDED_ADDRESSES_MAX
            && let Some((_, oldest)) = self.oldest.first().copied()
        {
            self.forget(oldest);
        }
        self.windows.insert(address, Window { started_at: now, failures: 1 });
        self.oldest.insert((now, address));
    }

    fn forget(&mut self, address: IpAddr) {
        if let Some(window) = self.windows.remove(&address) {
            self.oldest.remove(&(window.started_at, address));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FAR: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
    const NEAR: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn at(ms: u64) -> Timestamp {
        Timestamp::from_millis(ms)
    }

    #[test]
    fn an_address_is_blocked_at_the_limit_and_until_its_minute_is_over() {
        let mut guard = AuthGuard::new(3, true);
        for ms in [1_000, 2_000] {
            guard.failed(at(ms), FAR);
            assert_eq!(guard.blocked_for(at(ms), FAR), None);
        }
        guard.failed(at(3_000), FAR);
        assert_eq!(guard.blocked_for(at(3_000), FAR), Some(Millis::new(58_000)));
        assert_eq!(guard.blocked_for(at(60_999), FAR), Some(Millis::new(1)));
        assert_eq!(guard.blocked_for(at(61_000), FAR), None);
    }

    #[test]
    fn loopback_is_exempt_only_where_the_operator_did_not_say_otherwise() {
        for (is_exempt, blocked) in [(true, None), (false, Some(WINDOW))] {
            let mut guard = AuthGuard::new(1, is_exempt);
            guard.failed(at(0), NEAR);
            assert_eq!(guard.blocked_for(at(0), NEAR), blocked);
        }
    }

    #[test]
    fn a_flood_of_addresses_takes_bounded_room() {
        let mut guard = AuthGuard::new(1, true);
        for n in 0..GUARDED_ADDRESSES_MAX as u32 + 10 {
            guard.failed(at(u64::from(n)), IpAddr::V4(std::net::Ipv4Addr::from_bits(0x0a00_0000 + n)));
        }
        assert_eq!(guard.windows.len(), GUARDED_ADDRESSES_MAX);
        assert_eq!(guard.oldest.len(), GUARDED_ADDRESSES_MAX);
    }
}
