//! Addresses: how many connections each address has, so that no one of them takes all.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};

/// Connections that are kept for clients of this machine, where there are enough: an operator must be able to look at a
/// hub that strangers fill.
const LOOPBACK_MAX: usize = 64;

/// Bits of an IPv6 address that one customer of a network has.
const NETWORK_BITS: u32 = 64;

/// The limits of connections.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ConnectionLimits {
    /// Of both planes together.
    pub connections_max: usize,
    /// From one address; of IPv6, from one network of 64 bits. Loopback is exempt.
    pub per_address_max: usize,
}

/// The connections by address.
#[derive(Default, Debug)]
pub struct Addresses {
    counts: HashMap<IpAddr, usize>,
}

impl ConnectionLimits {
    /// Limits for so many connections; one address gets a quarter unless the operator says otherwise.
    pub fn new(connections_max: usize, per_address_max: Option<usize>) -> Self {
        let quarter = connections_max.div_ceil(4);
        ConnectionLimits { connections_max, per_address_max: per_address_max.unwrap_or(quarter) }
    }

    /// Connections that are kept for this machine.
    fn kept_for_loopback(&self) -> usize {
        LOOPBACK_MAX.min(self.connections_max / 4)
    }
}

impl Addresses {
    /// Whether one more connection from this address is accepted, beside `open` others.
    pub fn admits(&self, ip: IpAddr, open: usize, limits: &ConnectionLimits) -> bool {
        let ip = network_of(ip);
        let count = self.counts.get(&ip).copied().unwrap_or(0);
        ip.is_loopback() || count < limits.per_address_max && open < limits.connections_max - limits.kept_for_loopback()
    }

    pub fn add(&mut self, ip: IpAddr) {
        *self.counts.entry(network_of(ip)).or_default() += 1;
    }

    pub fn remove(&mut self, ip: IpAddr) {
        let ip = network_of(ip);
        let count = self.counts.get_mut(&ip).expect("it was added");
        *count -= 1;
        if *count == 0 {
            self.counts.remove(&ip);
        }
    }
}

/// The address, or of IPv6 the network; an IPv4 address that is mapped into IPv6 is itself.
fn network_of(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(ip) if !ip.is_loopback() => {
            IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() >> NETWORK_BITS << NETWORK_BITS))
        }
        ip => ip,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn an_address_has_a_limit_and_loopback_has_none() {
        let limits = ConnectionLimits::new(8, None);
        let mut addresses = Addresses::default();
        for (near, far) in [("192.0.2.1", "192.0.2.2"), ("2001:db8::1", "2001:db8:0:1::1")] {
            (0..2).for_each(|_| addresses.add(ip(near)));
            assert!(!addresses.admits(ip(near), 4, &limits) && addresses.admits(ip(far), 4, &limits), "{near}");
        }
        assert!(!addresses.admits(ip("::ffff:192.0.2.1"), 4, &limits), "a mapped address is the same");
        assert!(!addresses.admits(ip("2001:db8::ffff"), 4, &limits), "it is the same network");
        for local in ["127.0.0.1", "127.0.0.2", "::1", "::ffff:127.0.0.1"] {
            (0..3).for_each(|_| addresses.add(ip(local)));
            assert!(addresses.admits(ip(local), 7, &limits), "{local}");
        }
        addresses.remove(ip("192.0.2.1"));
        assert!(addresses.admits(ip("192.0.2.1"), 4, &limits));
    }

    #[test]
    fn the_last_connections_are_kept_for_this_machine() {
        for (connections_max, kept) in [(8, 2), (1_000, 64), (1, 0)] {
            let limits = ConnectionLimits::new(connections_max, Some(connections_max));
            let addresses = Addresses::default();
            let (last, full) = (connections_max - kept - 1, connections_max - kept);
            assert!(addresses.admits(ip("192.0.2.1"), last, &limits), "{connections_max}");
            assert!(!addresses.admits(ip("192.0.2.1"), full, &limits), "{connections_max}");
        }
    }
}
