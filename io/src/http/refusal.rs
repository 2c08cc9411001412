//! Refusals: requests that the connection refuses before any route gets them, with status, code and text.

use super::Limits;
use super::reply::{self, Reply};
use std::fmt;

/// Why the connection refused a request. It is closed after each refusal: the start of the next request is unknown, or
/// not worth waiting for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// Not HTTP/1.1, or ambiguous.
    BadHttp(Fault),
    /// CONNECT: the hub is no proxy.
    ConnectMethod,
    /// A head or a body that did not arrive in time.
    RequestTimeout {
        /// What did not arrive.
        awaited: Awaited,
    },
    /// A body above the limit.
    PayloadTooLarge {
        /// The limit.
        bytes_max: usize,
    },
    /// A target above the limit.
    UriTooLong {
        /// The limit.
        bytes_max: usize,
    },
    /// A head, or a chunked body's trailers, above the limit in bytes.
    HeadTooLarge {
        /// The limit.
        bytes_max: usize,
    },
    /// More headers than the limit.
    TooManyHeaders {
        /// The limit.
        headers_max: usize,
    },
    /// An expectation other than `100-continue`.
    UnknownExpectation,
    /// A transfer coding other than `chunked`.
    UnknownCoding,
    /// A version other than 1.0 and 1.1.
    UnknownVersion,
}

/// What a client took too long to send.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Awaited {
    /// The rest of a head.
    Head,
    /// The rest of a body.
    Body,
}

/// What makes a request bad HTTP.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// A line ends with LF alone.
    BareLineFeed,
    /// A CR that no LF follows.
    BareCarriageReturn,
    /// A NUL in the head.
    Nul,
    /// A header goes on in the next line (obsolete folding).
    FoldedHeader,
    /// Empty lines where a request should begin.
    EmptyRequestLine,
    /// The first line is no `METHOD target HTTP/1.1`.
    RequestLine,
    /// A method longer than any.
    MethodTooLong,
    /// The target has bytes that a URI cannot have.
    TargetBytes,
    /// The target is neither a path nor an absolute URI.
    TargetForm,
    /// A header's name is empty, no token, or apart from its colon.
    HeaderName,
    /// A header's value has control characters.
    HeaderValue,
    /// No Host, several, or one that names no host.
    Host,
    /// Content-Length is no single decimal number.
    ContentLength,
    /// Both Content-Length and Transfer-Encoding.
    BothLengths,
    /// A Transfer-Encoding that does not end the body, or several.
    TransferEncoding,
    /// Transfer-Encoding in HTTP/1.0.
    TransferEncodingInHttp10,
    /// A chunk's size is no hexadecimal number of up to 16 digits.
    ChunkSize,
    /// Chunk extensions are too long or have control characters.
    ChunkExtension,
    /// A chunk's data is not as long as was said.
    ChunkEnd,
    /// A trailer is no header.
    Trailer,
}

impl Refusal {
    /// The HTTP status.
    pub const fn status(self) -> u16 {
        match self {
            Refusal::BadHttp(_) => 400,
            Refusal::ConnectMethod => 405,
            Refusal::RequestTimeout { .. } => 408,
            Refusal::PayloadTooLarge { .. } => 413,
            Refusal::UriTooLong { .. } => 414,
            Refusal::UnknownExpectation => 417,
            Refusal::HeadTooLarge { .. } | Refusal::TooManyHeaders { .. } => 431,
            Refusal::UnknownCoding => 501,
            Refusal::UnknownVersion => 505,
        }
    }

    /// The code, `error` on the wire.
    pub const fn code(self) -> &'static str {
        match self {
            Refusal::BadHttp(_) | Refusal::UnknownExpectation | Refusal::UnknownCoding | Refusal::UnknownVersion => {
                "bad_http"
            }
            Refusal::ConnectMethod => "method_not_allowed",
            Refusal::RequestTimeout { .. } => "request_timeout",
            Refusal::PayloadTooLarge { .. } => "payload_too_large",
            Refusal::UriTooLong { .. } => "uri_too_long",
            Refusal::HeadTooLarge { .. } | Refusal::TooManyHeaders { .. } => "headers_too_large",
        }
    }

    /// The reply.
    pub(super) fn reply(self) -> Reply {
        let reply = reply::problem(self.status(), self.code(), &self.to_string(), "");
        match self {
            Refusal::ConnectMethod => reply.with_header("Allow", "GET, HEAD, POST, DELETE".to_owned()),
            _ => reply,
        }
    }

    pub(super) const fn payload_too_large(limits: &Limits) -> Self {
        Refusal::PayloadTooLarge { bytes_max: limits.body_bytes_max }
    }

    pub(super) const fn head_too_large(limits: &Limits) -> Self {
        Refusal::HeadTooLarge { bytes_max: limits.head_bytes_max }
    }

    pub(super) const fn uri_too_long(limits: &Limits) -> Self {
        Refusal::UriTooLong { bytes_max: limits.target_bytes_max }
    }
}

impl From<Fault> for Refusal {
    fn from(fault: Fault) -> Self {
        Refusal::BadHttp(fault)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::BadHttp(fault) => fault.fmt(out),
            Refusal::ConnectMethod => out.write_str("the hub is no proxy: it does not take CONNECT"),
            Refusal::RequestTimeout { awaited: Awaited::Head } => {
                out.write_str("the request's head did not arrive in time; send it at once and whole")
            }
            Refusal::RequestTimeout { awaited: Awaited::Body } => {
                out.write_str("the request's body did not arrive in time; send it faster, or in several requests")
            }
            Refusal::PayloadTooLarge { bytes_max } => {
                write!(out, "the body is longer than {bytes_max} bytes; send less at once, or raise max_body_bytes")
            }
            Refusal::UriTooLong { bytes_max } => write!(out, "the request's target is longer than {bytes_max} bytes"),
            Refusal::HeadTooLarge { bytes_max } => {
                write!(out, "the request's head or trailers are longer than {bytes_max} bytes; send fewer headers")
            }
            Refusal::TooManyHeaders { headers_max } => write!(out, "the request has more than {headers_max} headers"),
            Refusal::UnknownExpectation => out.write_str("the hub meets no expectation but 100-continue"),
            Refusal::UnknownCoding => out.write_str("the hub decodes no transfer coding but chunked"),
            Refusal::UnknownVersion => out.write_str("the hub speaks HTTP/1.1 and HTTP/1.0"),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Fault::BareLineFeed => "a line ends with LF alone; lines end with CR LF",
            Fault::BareCarriageReturn => "a CR stands alone; lines end with CR LF",
            Fault::Nul => "the head has a NUL in it",
            Fault::FoldedHeader => "a line begins with white space; a header is one line",
            Fault::EmptyRequestLine => "empty lines stand where a request should begin",
            Fault::RequestLine => "the first line must be METHOD, a space, the target, a space, HTTP/1.1",
            Fault::MethodTooLong => "the method is longer than any",
            Fault::TargetBytes => "the request's target has characters that must be percent-encoded",
            Fault::TargetForm => "the request's target must be a path that begins with /, or an absolute http URI",
            Fault::HeaderName => {
                "a header's name is empty, has characters that a name cannot have, or stands apart from its colon"
            }
            Fault::HeaderValue => "a header's value has control characters",
            Fault::Host => "there must be one Host header that names the host",
            Fault::ContentLength => "there must be at most one Content-Length, a decimal number of up to 19 digits",
            Fault::BothLengths => "Content-Length and Transfer-Encoding exclude each other",
            Fault::TransferEncoding => "Transfer-Encoding must be chunked, once",
            Fault::TransferEncodingInHttp10 => "HTTP/1.0 has no Transfer-Encoding",
            Fault::ChunkSize => "a chunk's size must be a hexadecimal number of up to 16 digits",
            Fault::ChunkExtension => "chunk extensions are too long or have control characters",
            Fault::ChunkEnd => "CR LF must follow a chunk's data, which is as long as its size says",
            Fault::Trailer => "a trailer must be one line, a name, a colon and a value",
        })
    }
}
