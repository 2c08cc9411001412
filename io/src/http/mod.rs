//! HTTP/1.1 (RFC 9110, RFC 9112) without a socket: bytes to requests, replies to bytes.
//!
//! [`Connection`] is the state machine of one client; the loop, the tests and the fuzzer drive the same one.

mod chunked;
mod connection;
mod date;
mod head;
mod limits;
mod reply;

#[cfg(test)]
mod tests;

pub use connection::{Connection, Request, RequestNo};
pub use head::Method;
pub use limits::Limits;
pub use reply::{Reply, problem};
