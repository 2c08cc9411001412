//! Integrity: the checksum that a worker sends with a result.

use super::calls::Integrity;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use std::fmt::Write;

/// The checksum over a result, as the wire contract wants it.
///
/// `result` and `error` must be canonical JSON themselves: [`canonical`] makes them so.
pub fn integrity_of(error: Option<&RawValue>, job_id: &str, ok: bool, result: Option<&RawValue>) -> Integrity {
    let text = |value: Option<&RawValue>| value.map_or("null".to_owned(), |value| value.get().to_owned());
    let job_id = serde_json::Value::from(job_id);
    let signed = format!(r#"{{"error":{},"job_id":{job_id},"ok":{ok},"result":{}}}"#, text(error), text(result));
    Integrity { mode: "sha256", sha256: hex(&Sha256::digest(signed)), sig: None }
}

/// A JSON text with its keys sorted and without white space; `None` if it is not JSON.
pub fn canonical(text: &[u8]) -> Option<Box<RawValue>> {
    let value: serde_json::Value = serde_json::from_slice(text).ok()?;
    serde_json::value::to_raw_value(&value).ok()
}

/// Bytes as lower-case hex digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a string takes all");
        text
    })
}
