//! A hub on loopback as most tests want it.

use sheratan_core::hub::Hub;
use sheratan_core::ids::HubKey;
use sheratan_core::integrity::checksum::Mode;
use sheratan_core::time::Timestamp;
use sheratan_io::redact::Redactor;
use sheratan_io::service::{PlaneAddrs, Service, Settings};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

pub const NOW: Timestamp = Timestamp::from_millis(1_768_500_000_000);
pub const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// Settings of a hub that asks for no token and takes results without integrity.
pub fn settings() -> Settings {
    Settings {
        addrs: PlaneAddrs { control: (LOCAL, 8787).into(), data: (LOCAL, 8788).into() },
        token: None,
        auth_failures_max: 60,
        integrity_mode: Mode::Sha256,
        is_integrity_required: false,
        result_hmac_key: None,
        backpressure_status: 429,
        is_metrics_public: false,
        started_at: NOW,
        redactor: Arc::new(Redactor::new(&[])),
    }
}

/// A service with an empty hub.
pub fn service(settings: Settings) -> Service {
    Service::new(Hub::new(HubKey::new([7; 16])), 1, settings)
}
