//! The settings that simulated hubs have in common: what a configuration file without a line in it says, as far as the service
//! is concerned.

use sheratan_core::integrity::checksum::Mode;
use sheratan_core::time::Timestamp;
use sheratan_io::redact::Redactor;
use sheratan_io::service::{PlaneAddrs, Settings};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

/// Those of a hub without a token.
pub fn settings(started_at: Timestamp) -> Settings {
    let local = IpAddr::V4(Ipv4Addr::LOCALHOST);
    Settings {
        addrs: PlaneAddrs { control: (local, 8787).into(), data: (local, 8788).into() },
        redactor: Arc::new(Redactor::new(&[])),
        token: None,
        auth_failures_max: 60,
        integrity_mode: Mode::Sha256,
        is_integrity_required: false,
        result_hmac_key: None,
        backpressure_status: 429,
        is_metrics_public: false,
        started_at,
    }
}
