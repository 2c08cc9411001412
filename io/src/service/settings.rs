//! Settings: the service's configuration, apart from the hub's limits.

use super::plane::PlaneAddrs;
use crate::redact::Redactor;
use crate::result_keys::ResultKeys;
use crate::shared_token::SharedToken;
use sheratan_core::integrity::checksum::Mode;
use sheratan_core::{Millis, Timestamp};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

/// The service's configuration, apart from the hub's limits.
pub struct Settings {
    /// The addresses that the planes listen on.
    pub addrs: PlaneAddrs,
    /// The token; `None` if the operator disabled it on loopback.
    pub token: Option<SharedToken>,
    /// Authentication failures a minute from one address.
    pub auth_failures_max: u32,
    /// Whether this machine is exempt from that limit.
    pub is_loopback_exempt: bool,
    /// Names of this hub, in lower case, beside those of this machine.
    pub host_names: Vec<String>,
    /// How a result's integrity is checked.
    pub integrity_mode: Mode,
    /// Whether a result without integrity is refused.
    pub is_integrity_required: bool,
    /// The keys of results' signatures.
    pub result_keys: ResultKeys,
    /// The status of `backpressure`: 429 or 503.
    pub backpressure_status: u16,
    /// The time to live of a job that names none.
    pub job_ttl: Option<Millis>,
    /// Whether idempotency keys are looked at.
    pub is_idempotency_enabled: bool,
    /// Whether other machines reach the hub with a token that is shorter than it should be.
    pub has_short_token: bool,
    /// Whether other machines may read the metrics without the token.
    pub is_metrics_public: bool,
    /// When the hub's process started.
    pub started_at: Timestamp,
    /// Redacts the process's secrets in audit events.
    pub redactor: Arc<Redactor>,
}

impl Settings {
    /// The defaults of a hub on this machine's default ports, without a token, where results need no checksum or
    /// signature.
    pub fn local(started_at: Timestamp) -> Self {
        let local = IpAddr::V4(Ipv4Addr::LOCALHOST);
        Settings {
            addrs: PlaneAddrs { control: (local, 8787).into(), data: (local, 8788).into() },
            token: None,
            auth_failures_max: 60,
            is_loopback_exempt: true,
            host_names: vec!["hub".into()],
            integrity_mode: Mode::Sha256,
            is_integrity_required: false,
            result_keys: ResultKeys::default(),
            backpressure_status: 429,
            job_ttl: None,
            is_idempotency_enabled: true,
            has_short_token: false,
            is_metrics_public: false,
            started_at,
            redactor: Arc::new(Redactor::new(&[])),
        }
    }
}
