//! A hub on loopback as most tests want it.

use sheratan_core::{Hub, HubKey, Timestamp};
use sheratan_io::service::{Service, Settings};
use std::net::{IpAddr, Ipv4Addr};

pub const NOW: Timestamp = Timestamp::from_millis(1_768_500_000_000);
pub const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// Settings of a hub that needs no token and accepts results without integrity.
pub fn settings() -> Settings {
    Settings::local(NOW)
}

/// A service with an empty hub.
pub fn service(settings: Settings) -> Service {
    Service::new(Hub::new(HubKey::new([7; 16])), 1, settings)
}
