//! Requests: a client's request as a view into its connection's buffer.

use super::head::Head;
use super::method::Method;
use std::fmt;

/// A request's id on its connection: ascending in the order of arrival, in which the replies are sent.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct RequestId(pub(super) u64);

/// A complete request: head and body have arrived and were checked.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    id: RequestId,
    head: &'a Head,
    head_bytes: &'a [u8],
    body: &'a [u8],
}

impl<'a> Request<'a> {
    pub(super) fn new(id: RequestId, head: &'a Head, head_bytes: &'a [u8], body: &'a [u8]) -> Self {
        Request { id, head, head_bytes, body }
    }

    /// Its id, by which it is answered.
    pub fn id(&self) -> RequestId {
        self.id
    }

    /// Its method.
    pub fn method(&self) -> &'a Method {
        self.head.method()
    }

    /// The target's path as it was sent, percent-encoded: visible ASCII that begins with `/`.
    pub fn path(&self) -> &'a str {
        self.head.path(self.head_bytes)
    }

    /// What follows the target's `?`, as it was sent.
    pub fn query(&self) -> Option<&'a str> {
        self.head.query(self.head_bytes)
    }

    /// The value of the first header with this name, in any case; O(headers).
    pub fn header(&self, name: &str) -> Option<&'a [u8]> {
        self.head.header(self.head_bytes, name)
    }

    /// The values of all headers with this name, in their order.
    pub fn headers(&self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        self.head.headers(self.head_bytes, name)
    }

    /// The body, decoded.
    pub fn body(&self) -> &'a [u8] {
        self.body
    }
}

/// Header values and bodies are left out: they hold tokens and payloads.
impl fmt::Debug for Request<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Request")
            .field("id", &self.id)
            .field("method", self.method())
            .field("path", &self.path())
            .field("body_bytes", &self.body.len())
            .finish_non_exhaustive()
    }
}
