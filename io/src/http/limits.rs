//! Limits of one connection: how much memory a client can make the hub hold, and how long.

use sheratan_core::Millis;
/// The most headers for any settings: their positions are parsed into an array of this length on the stack.
pub const HEADERS_MAX: usize = 128;

/// Bytes of a method; the longest registered one (`UPDATEREDIRECTREF`) has 17.
pub(super) const METHOD_BYTES_MAX: usize = 32;

/// The limits of one connection. It holds at most: a head, a body, one read of the loop, the waiting replies
/// (`output_bytes_max` and one more reply for each request in the pipeline), and a stream's bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Bytes of a head, from the request line to the empty line; one more is `431 headers_too_large`. Browsers send up
    /// to 8 KiB of cookies to localhost; a head of the hub's clients has 200 bytes.
    pub head_bytes_max: usize,
    /// Bytes of a request's target; one more is `414 uri_too_long`. RFC 9112 asks for at least 8,000.
    pub target_bytes_max: usize,
    /// Headers of a request, up to [`HEADERS_MAX`]; one more is `431 headers_too_large`. As Apache's default.
    pub headers_max: u32,
    /// Bytes of a body, decoded; one more is `413 payload_too_large`. The operator's setting.
    pub body_bytes_max: usize,
    /// Requests that are not answered; at the limit nothing more is read. A client that pipelines 32 deep fills
    /// a round trip of 30 ms at 1,000 requests a second.
    pub pipeline_max: u32,
    /// Bytes of replies that wait to be sent; above it no request is read: a client that sends and never reads must not
    /// fill the memory. Four socket buffers.
    pub output_bytes_max: usize,
    /// Bytes of a stream that wait to be sent; with one more, the client is disconnected, since the memory is the
    /// hub's. This is 500 lines of the audit log: as many as arrive in ten seconds while several kinds of events flood.
    /// 64 streams hold 16 MiB.
    pub stream_bytes_max: usize,
    /// From a head's first byte to its last; then `408 request_timeout`. Measured from the first byte and not from the
    /// last one received, so that a byte every nine seconds (slow-loris) does not hold a connection.
    pub head_timeout_ms: Millis,
    /// A body must arrive within this time, and
    pub body_timeout_ms: Millis,
    /// this time again for each
    pub body_step_ms: Millis,
    /// this many bytes that arrived; then `408 request_timeout`. 16 KiB/s is a phone at the edge of its network.
    pub body_step_bytes: usize,
    /// Silence after which a connection with nothing in flight is closed. Longer than the 60 s that proxies in common
    /// use keep one, so that the proxy closes, and no request meets a closing connection.
    pub idle_timeout_ms: Millis,
    /// A client that reads nothing of its replies for this long is disconnected.
    pub write_timeout_ms: Millis,
    /// How long input is discarded after a refusal, so that the client reads the reply instead of a reset.
    pub linger_ms: Millis,
    /// Bytes discarded then. A client that exceeds the body limit tenfold still reads the refusal.
    pub linger_bytes_max: usize,
    /// Bytes discarded after a body was refused that was not admitted: a client without a token that goes on sending is
    /// not worth more. What its and the hub's socket buffers hold is sent before it can read the refusal.
    pub unadmitted_bytes_max: usize,
}

impl Limits {
    /// The defaults.
    pub const DEFAULT: Limits = Limits {
        head_bytes_max: 16 << 10,
        target_bytes_max: 8 << 10,
        headers_max: 100,
        body_bytes_max: 1 << 20,
        pipeline_max: 32,
        output_bytes_max: 1 << 20,
        stream_bytes_max: 256 << 10,
        head_timeout_ms: Millis::from_secs(10),
        body_timeout_ms: Millis::from_secs(30),
        body_step_ms: Millis::from_secs(1),
        body_step_bytes: 16 << 10,
        idle_timeout_ms: Millis::from_secs(75),
        write_timeout_ms: Millis::from_secs(30),
        linger_ms: Millis::from_secs(1),
        linger_bytes_max: 16 << 20,
        unadmitted_bytes_max: 256 << 10,
    };

    /// Bytes of a request line with the longest method and target, its end included: `M SP target SP HTTP/1.1 CR LF`.
    pub(super) const fn request_line_bytes_max(&self) -> usize {
        METHOD_BYTES_MAX + 1 + self.target_bytes_max + " HTTP/1.1\r\n".len()
    }
}

impl Default for Limits {
    fn default() -> Self {
        Limits::DEFAULT
    }
}

const _: () = assert!(Limits::DEFAULT.headers_max as usize <= HEADERS_MAX);
const _: () = assert!(
    Limits::DEFAULT.request_line_bytes_max() + 512 <= Limits::DEFAULT.head_bytes_max,
    "the longest request line leaves room for headers"
);
const _: () = assert!(Limits::DEFAULT.pipeline_max > 0 && Limits::DEFAULT.body_step_bytes > 0);
