//! Checksums and signatures of results, and hashes of payloads.
//!
//! A result's checksum is SHA-256 over `canonical({"error":…,"job_id":…,"ok":…,"result":…})`, its signature HMAC-SHA256
//! (RFC 2104) over the same text; absent members count as `null`. Either canonical form is accepted.

use super::canonical::{self, Rule};
use super::json::Value;
use super::stored::{Origin, ResultIntegrity};
use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};
use std::borrow::Cow;
use subtle::ConstantTimeEq;

/// How the integrity of results is checked.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Mode {
    /// By the checksum: detects accidental corruption.
    #[default]
    Sha256,
    /// By checksum and signature: also detects forgery by others who have the token.
    Hmac,
}

/// The checksum and signature that were sent with a result.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Claimed<'a> {
    /// In hex.
    pub sha256: Option<Cow<'a, str>>,
    /// In hex.
    pub sig: Option<Cow<'a, str>>,
}

/// A result that passed the check.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Verified {
    /// Its checksum over the form with numbers as sent, whichever form the client used, so that a repeat of the same
    /// result has the same checksum.
    pub sha256: [u8; 32],
    /// The checksum that was sent, and whether a signature came with it.
    pub integrity: ResultIntegrity,
    /// Which of the keys the signature is by, if there is one.
    pub signed_with: Option<usize>,
}

/// Why a result failed the check.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Failure {
    /// The checksum is missing, or the signature where one is required.
    MissingIntegrity,
    /// The checksum is wrong.
    ShaMismatch,
    /// The signature is wrong, or there is no key to check it with.
    SigMismatch,
}

/// SHA-256 over the RFC 8785 form of `{"kind":…,"params":…}`: `1.0` and `1` are the same payload, since clients in some
/// languages cannot distinguish them. Only whole numbers that a double would change keep their digits
/// ([`Rule::Exact`]): the hash distinguishes a repeated submit from another one, and orders whose ids differ in the
/// last digit are different.
pub fn payload_hash(kind: &str, params: Option<Value>) -> [u8; 32] {
    let mut text = br#"{"kind":"#.to_vec();
    canonical::write_text(kind, &mut text);
    text.extend_from_slice(br#","params":"#);
    write_or_null(params, Rule::Exact, &mut text);
    text.push(b'}');
    Sha256::digest(&text).into()
}

/// Checks a result against what was sent with it. A signature, which mode [`Mode::Hmac`] requires, must be by one of
/// `keys`; without a key every signature is refused, and so it is by an empty one, with which any client could sign.
pub fn verify_result(
    mode: Mode,
    keys: &[&[u8]],
    claimed: &Claimed,
    error: Option<Value>,
    job_id: &str,
    ok: bool,
    result: Option<Value>,
) -> Result<Verified, Failure> {
    let sha256 = claimed.sha256.as_deref().ok_or(Failure::MissingIntegrity)?;
    let sig = match mode {
        // A signature that comes is checked, or refused: whoever signs believes that it protects.
        Mode::Sha256 => claimed.sig.as_deref(),
        Mode::Hmac => Some(claimed.sig.as_deref().ok_or(Failure::MissingIntegrity)?),
    };
    let sha256 = from_hex(sha256).ok_or(Failure::ShaMismatch)?;
    let as_sent = result_text(Rule::AsSent, error, job_id, ok, result);
    let own = sha256_of(&as_sent);
    // The second form is written only if the first one does not match: nearly all texts have the same form under both.
    let jcs = || result_text(Rule::Jcs, error, job_id, ok, result);
    if !is_equal(&own, &sha256) && !is_equal(&sha256_of(&jcs()), &sha256) {
        return Err(Failure::ShaMismatch);
    }
    let mut signed_with = None;
    if let Some(sig) = sig {
        let sig = from_hex(sig).ok_or(Failure::SigMismatch)?;
        let is_by = |key: &[u8]| is_equal(&signature(key, &as_sent), &sig) || is_equal(&signature(key, &jcs()), &sig);
        let found = keys.iter().position(|key| !key.is_empty() && is_by(key));
        signed_with = Some(found.ok_or(Failure::SigMismatch)?);
    }
    let origin = if signed_with.is_some() { Origin::Signed } else { Origin::Worker };
    Ok(Verified { sha256: own, integrity: ResultIntegrity { origin, sha256 }, signed_with })
}

/// The checksum of a result with numbers as sent: what a worker sends.
pub fn result_sha256(error: Option<Value>, job_id: &str, ok: bool, result: Option<Value>) -> [u8; 32] {
    sha256_of(&result_text(Rule::AsSent, error, job_id, ok, result))
}

/// The signature of a result with numbers as sent: what a worker that has the key sends.
pub fn result_signature(key: &[u8], error: Option<Value>, job_id: &str, ok: bool, result: Option<Value>) -> [u8; 32] {
    signature(key, &result_text(Rule::AsSent, error, job_id, ok, result))
}

pub(super) fn result_text(rule: Rule, error: Option<Value>, job_id: &str, ok: bool, result: Option<Value>) -> Vec<u8> {
    let bytes = |value: Option<Value>| value.map_or(4, |value| value.as_bytes().len());
    let mut text = Vec::with_capacity(64 + job_id.len() + bytes(error) + bytes(result));
    text.extend_from_slice(br#"{"error":"#);
    write_or_null(error, rule, &mut text);
    text.extend_from_slice(br#","job_id":"#);
    canonical::write_text(job_id, &mut text);
    text.extend_from_slice(if ok { br#","ok":true,"result":"# } else { br#","ok":false,"result":"# });
    write_or_null(result, rule, &mut text);
    text.push(b'}');
    text
}

pub(super) fn sha256_of(text: &[u8]) -> [u8; 32] {
    Sha256::digest(text).into()
}

fn write_or_null(value: Option<Value>, rule: Rule, out: &mut Vec<u8>) {
    match value {
        Some(value) => canonical::write(value, rule, out),
        None => out.extend_from_slice(b"null"),
    }
}

fn signature(key: &[u8], text: &[u8]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(text);
    mac.finalize().into_bytes().into()
}

/// In constant time, so that the time does not reveal how much of a guess is right.
fn is_equal(a: &[u8; 32], b: &[u8; 32]) -> bool {
    a.ct_eq(b).into()
}

/// Accepts upper and lower case.
fn from_hex(text: &str) -> Option<[u8; 32]> {
    let digits: &[u8; 64] = text.as_bytes().try_into().ok()?;
    let mut bytes = [0; 32];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let nibble = |digit: u8| (digit as char).to_digit(16);
        *byte = (nibble(pair[0])? << 4 | nibble(pair[1])?) as u8;
    }
    Some(bytes)
}

impl Mode {
    pub const fn as_str(self) -> &'static str {
        match self {
            Mode::Sha256 => "sha256",
            Mode::Hmac => "hmac",
        }
    }

    /// The inverse of [`Mode::as_str`].
    pub fn from_word(word: &str) -> Option<Self> {
        [Mode::Sha256, Mode::Hmac].into_iter().find(|mode| mode.as_str() == word)
    }
}

impl Failure {
    pub const fn as_str(self) -> &'static str {
        match self {
            Failure::MissingIntegrity => "missing_integrity",
            Failure::ShaMismatch => "sha_mismatch",
            Failure::SigMismatch => "sig_mismatch",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 4231, test cases 1, 2 and 6.
    #[test]
    fn signatures_are_hmac_sha256() {
        let table: [(&[u8], &[u8], &str); 3] = [
            (&[0x0b; 20], b"Hi There", "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"),
            (
                b"Jefe",
                b"what do ya want for nothing?",
                "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
            ),
            (
                &[0xaa; 131],
                b"Test Using Larger Than Block-Size Key - Hash Key First",
                "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54",
            ),
        ];
        for (key, text, expected) in table {
            assert_eq!(signature(key, text), from_hex(expected).unwrap());
        }
    }

    #[test]
    fn hex_of_another_length_or_with_other_characters_is_refused() {
        assert!(from_hex(&"aB".repeat(32)).is_some());
        for text in ["", "00", &"0".repeat(63), &"0".repeat(65), &"g".repeat(64), &"é".repeat(32)] {
            assert_eq!(from_hex(text), None);
        }
    }
}
