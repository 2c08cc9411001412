//! HTTP/1.1 as a state machine without sockets: bytes in, requests out; replies in, bytes out (RFC 9110, RFC 9112).
//!
//! [`Connection`] is all that the loop drives; its doc says in which order. The rooms behind it: `reader` reads requests,
//! with `head` for their heads and `chunked` for bodies without a length; `reply` writes, and `output` holds what is
//! written; `refusal` is what the connection says no to on its own.
//!
//! What one request costs: its bytes are copied once into the connection's buffer, looked at once for the end of the head,
//! and once by the parser; a body is handed out where it lies. A reply's small body is copied behind its head, so that
//! pipelined replies leave in one write; a large one is moved. An idle connection holds no heap at all.

mod chunked;
mod connection;
mod grammar;
mod head;
mod input;
mod limits;
mod output;
mod reader;
mod refusal;
mod reply;
mod request;

#[cfg(test)]
mod tests;

pub use connection::Connection;
pub use limits::{HEADERS_MAX, Limits};
pub use refusal::{Awaited, Fault, Refusal};
pub use reply::{Reply, problem};
pub use request::{Method, Request, RequestId};
