//! Payloads: JSON texts of clients, kept as the bytes that came.
//!
//! A payload was validated once at the edge and is never parsed or re-serialised again. It is shared, not copied,
//! between a job and the answers that are remembered for its idempotency key.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::fmt;
use std::sync::Arc;

/// An immutable JSON text; empty means that the member was absent.
#[derive(Clone, PartialEq, Eq)]
pub struct Payload(Option<Arc<[u8]>>);

impl Payload {
    /// No payload: the member was absent.
    pub const ABSENT: Payload = Payload(None);

    /// The payload's bytes in one copy.
    pub fn new(json: &[u8]) -> Self {
        if json.is_empty() { Payload::ABSENT } else { Payload(Some(Arc::from(json))) }
    }

    /// The JSON text; empty if absent.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_deref().unwrap_or(&[])
    }

    /// The JSON text, `null` if absent.
    pub fn as_json(&self) -> &[u8] {
        self.0.as_deref().unwrap_or(b"null")
    }

    /// Length in bytes.
    pub fn len(&self) -> usize {
        self.as_bytes().len()
    }

    /// Whether the member was absent.
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }
}

/// Payloads are the clients' own and may be secret: their size is all that is shown.
impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Payload({} bytes)", self.len())
    }
}

impl Serialize for Payload {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.as_bytes())
    }
}

impl<'de> Deserialize<'de> for Payload {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Payload;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("bytes")
            }
            fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Payload, E> {
                Ok(Payload::new(bytes))
            }
        }
        deserializer.deserialize_bytes(Visitor)
    }
}
