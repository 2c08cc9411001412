//! Payloads: JSON texts of clients, stored byte for byte as received.
//!
//! A payload is validated once at the edge and never parsed or re-serialised again. A job and the answer remembered for
//! its idempotency key share one copy.

use crate::encoding::{DecodeError, Encoded, Reader, put_bytes};
use crate::limits::HEAP_HEADER_BYTES;
use std::fmt;
use std::sync::Arc;

/// An immutable JSON text. An absent member is `None` in an `Option<Payload>`.
#[derive(Clone, PartialEq, Eq)]
pub struct Payload(Arc<[u8]>);

impl Payload {
    /// Copies the text once.
    pub fn new(json: &[u8]) -> Self {
        Payload(Arc::from(json))
    }

    /// The JSON text.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Length in bytes.
    #[expect(clippy::len_without_is_empty, reason = "no JSON text is empty")]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Bytes of memory that a payload takes, its reference counts included; 0 if it is absent.
    pub(crate) fn bytes_of(payload: &Option<Payload>) -> u64 {
        payload.as_ref().map_or(0, |payload| HEAP_HEADER_BYTES + payload.len() as u64)
    }
}

/// Payloads belong to clients and may be secret: only their size is shown.
impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Payload({} bytes)", self.len())
    }
}

impl Encoded for Payload {
    fn encode(&self, out: &mut Vec<u8>) {
        put_bytes(&self.0, out);
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        from.bytes().map(Payload::new)
    }
}
