//! What a client may hold open, and for how long.

use sheratan_core::time::Millis;

/// Bounds of one connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Bytes of a request's head; beyond it `431`. Twice what browsers with many cookies send.
    pub head_bytes_max: usize,
    /// Bytes of a request's target; beyond it `414`.
    pub target_bytes_max: usize,
    /// Bytes of a request's body; beyond it `413`.
    pub body_bytes_max: usize,
    /// Requests that are handed out and not answered; beyond it nothing is read.
    pub pipeline_max: usize,
    /// Bytes that wait to be written; beyond it nothing is read.
    pub output_bytes_max: usize,
    /// How long a head may take from its first byte: one that trickles does not get longer. Then `408`.
    pub head_timeout_ms: Millis,
    /// How long a body may take, besides a second for each 16 KiB that came. Then `408`.
    pub body_timeout_ms: Millis,
    /// How long a connection may be idle; then it is closed without a word. Above the 60 s of common clients' pools.
    pub idle_timeout_ms: Millis,
    /// How long the client may take none of the bytes that wait for it.
    pub write_timeout_ms: Millis,
    /// How long the rest of what a refused client sends is thrown away, so that it reads the refusal and no reset.
    pub linger_ms: Millis,
}

/// Headers of a request; beyond it `431`.
pub const HEADERS_MAX: usize = 100;

/// Bytes of a body that buy it one more second.
pub const BODY_BYTES_PER_SEC: u64 = 16 * 1024;

impl Default for Limits {
    fn default() -> Self {
        Limits {
            head_bytes_max: 16 * 1024,
            target_bytes_max: 8 * 1024,
            body_bytes_max: 1 << 20,
            pipeline_max: 32,
            output_bytes_max: 1 << 20,
            head_timeout_ms: Millis::from_secs(10),
            body_timeout_ms: Millis::from_secs(30),
            idle_timeout_ms: Millis::from_secs(75),
            write_timeout_ms: Millis::from_secs(30),
            linger_ms: Millis::from_secs(1),
        }
    }
}
