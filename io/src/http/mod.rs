//! HTTP/1.1 as a state machine without sockets: bytes in, requests out; replies in, bytes out (RFC 9110, RFC 9112).
//!
//! The loop drives [`Connection`]; its doc has the order of calls. Its parts: `reader` reads requests, with `head` for
//! their heads and `chunked` for bodies without a length; `reply` encodes replies, and `output` holds the encoded
//! bytes; `refusal` lists the requests that the connection refuses by itself.
//!
//! Cost of a request: its bytes are copied once into the connection's buffer, searched once for the end of the head,
//! and parsed once; a body is passed on in place. A reply's small body is copied after its head, so that pipelined
//! replies are sent in one write; a large one is moved. An idle connection holds no heap memory.

mod chunked;
mod connection;
mod grammar;
mod head;
mod input;
mod limits;
mod method;
mod output;
mod reader;
mod refusal;
mod reply;
mod request;
mod unsent;

#[cfg(test)]
mod tests;

pub use connection::Connection;
pub use limits::{HEADERS_MAX, Limits};
pub use method::Method;
pub use refusal::{Awaited, Fault, Refusal};
pub use reply::{Reply, problem};
pub use request::{Request, RequestId};
