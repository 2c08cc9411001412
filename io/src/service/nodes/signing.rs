//! Signatures of heartbeats: who signed one, as far as its bytes show.
//!
//! What is signed is the canonical form of all members but the signature, as they were sent. Clients write numbers and
//! characters beyond ASCII in different ways, so up to four forms are tried; most bodies have one. A verification costs
//! about 50 us, so a thousand nodes that beat every ten seconds cost half a percent of a core.

use crate::rfc3339;
use crate::service::body::Fields;
use crate::service::problem::Problem;
use ed25519_dalek::{Signature, VerifyingKey};
use sheratan_core::integrity::canonical::{self, Rule};
use sheratan_core::{PublicKey, Signing, Utc, Verdict};

/// The bytes of a key that are shown: eight hex digits.
const PREFIX_BYTES: usize = 4;

/// How a heartbeat is signed; none if it has neither a key nor a signature. It is never refused for that: a key that is
/// none counts as absent, and a signature that is none is invalid.
pub(super) fn read(fields: &Fields) -> Option<Signing> {
    let key = read_hex(fields, "public_key").map(PublicKey::new);
    let is_signed = fields.raw("signature").is_some_and(|value| value.text() != "\"\"");
    if !is_signed {
        return key.map(|key| Signing { key: Some(key), ..Signing::default() });
    }
    let signature: Option<[u8; 64]> = read_hex(fields, "signature");
    let verified = key.zip(signature).filter(|(key, signature)| is_signed_by(fields, key, signature));
    let Some((_, signature)) = verified else {
        return Some(Signing { key, verdict: Verdict::Invalid, ..Signing::default() });
    };
    Some(Signing {
        key,
        verdict: Verdict::Valid,
        signed_at: read_instant(fields, "ts_utc").or_else(|| read_instant(fields, "timestamp")),
        counter: fields.raw("counter").and_then(|value| value.as_u64()),
        mark: u64::from_be_bytes(*signature.first_chunk().expect("it has 64 bytes")),
        next: read_strong_key(fields, "next_public_key"),
    })
}

/// A key that an operator names.
pub(super) fn read_key(fields: &Fields, member: &str) -> Result<Option<PublicKey>, Problem> {
    if fields.raw(member).is_none() {
        return Ok(None);
    }
    let problem =
        || Problem::bad_request(format!("{member} must be an Ed25519 public key: 64 hex digits, and not weak"));
    read_strong_key(fields, member).map(Some).ok_or_else(problem)
}

/// The beginning of a key, as hex.
pub fn key_prefix(key: &PublicKey) -> String {
    hex::encode(&key.as_bytes()[..PREFIX_BYTES])
}

fn read_strong_key(fields: &Fields, member: &str) -> Option<PublicKey> {
    let key = verifying_key(&read_hex(fields, member)?)?;
    Some(PublicKey::new(key.to_bytes()))
}

fn read_hex<const N: usize>(fields: &Fields, member: &str) -> Option<[u8; N]> {
    hex::decode(&*fields.raw(member)?.as_str()?).ok()?.try_into().ok()
}

fn read_instant(fields: &Fields, member: &str) -> Option<Utc> {
    rfc3339::parse(&fields.raw(member)?.as_str()?).ok()
}

/// The key, unless it is no point of the curve, or a weak one: a signature of such a key fits any text.
fn verifying_key(bytes: &[u8; 32]) -> Option<VerifyingKey> {
    VerifyingKey::from_bytes(bytes).ok().filter(|key| !key.is_weak())
}

fn is_signed_by(fields: &Fields, key: &PublicKey, signature: &[u8; 64]) -> bool {
    let Some(key) = verifying_key(key.as_bytes()) else { return false };
    let signature = Signature::from_bytes(signature);
    let mut tried: Vec<String> = Vec::new();
    for rule in [Rule::AsSent, Rule::Jcs] {
        let mut text = Vec::new();
        canonical::write_object(fields.members(), "signature", rule, &mut text);
        let text = String::from_utf8(text).expect("a canonical text is UTF-8");
        if tried.contains(&text) {
            continue;
        }
        let escaped = canonical::escape_non_ascii(&text);
        let forms = [Some(&text), escaped.as_ref()];
        if forms.into_iter().flatten().any(|form| key.verify_strict(form.as_bytes(), &signature).is_ok()) {
            return true;
        }
        tried.push(text);
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use ed25519_dalek::{Signer, SigningKey};

    const KEY: &str = "03a107bff3ce10be1d70dd18e74bc09967e4d6309ba50d5f1ddc8664125531b8";
    const FIRST: &str = "32f0bbbf388171a0cfe4eb650af845b1ae85e5b7192be966d4a768b4bcdf7133\
                         f149982f4cb06c8071233ceba99ce6a5da865a28634f9467b3e3c2ada3575c0b";
    const SECOND: &str = "ead32d086766c9eb3dff1fb21deea8e2345fd53f5fbaa62797c5c95658e70ae1\
                          c9f3c1d7be9df26adf76aaa2928c264023a286b6935dc1b8e024a9440ab6060a";

    fn reading(body: &str) -> Option<Signing> {
        read(&Fields::parse(body.as_bytes(), &[]).expect("JSON"))
    }

    fn verdict(body: &str) -> Verdict {
        reading(body).map_or(Verdict::Unsigned, |signing| signing.verdict)
    }

    fn first(status: &str, signature: &str) -> String {
        format!(
            r#"{{"host_id":"n1","status":"{status}","timestamp":"2026-01-15T20:52:03.348248Z","public_key":"{KEY}",
            "attestation":{{"build_id":"b1","capability_hash":"h1"}},"signature":"{signature}"}}"#
        )
    }

    fn second(number: &str, name: &str, endpoint: &str) -> String {
        format!(
            r#"{{"signature":"{SECOND}","public_key":"{KEY}","host_id":"{name}","status":"online",
            "timestamp":"2026-01-15T20:52:03.348248Z","endpoint":{endpoint},
            "attestation":{{"build_id":"b1","capability_hash":"h1","runtime":{{"python":3.1,"n":{number}}}}}}}"#
        )
    }

    /// Signed by a client in the field.
    #[test]
    fn signatures_of_the_field_verify_and_no_byte_of_what_is_signed_may_differ() {
        assert_eq!(verdict(&first("online", FIRST)), Verdict::Valid);
        assert_eq!(verdict(&first("offline", FIRST)), Verdict::Invalid);
        assert_eq!(verdict(&first("online", SECOND)), Verdict::Invalid);
        for name in ["knoten-ü😀", r"knoten-\u00fc\ud83d\ude00"] {
            assert_eq!(verdict(&second("1e-07", name, "null")), Verdict::Valid, "{name}");
        }
        assert_eq!(verdict(&second("1e-7", "knoten-ü😀", "null")), Verdict::Invalid, "numbers are signed as sent");
        assert_eq!(verdict(&second("1e-07", "knoten-ü", "null")), Verdict::Invalid);
        assert_eq!(verdict(&second("1e-07", "knoten-ü😀", r#""""#)), Verdict::Invalid);
    }

    #[test]
    fn what_is_signed_is_told_with_a_valid_signature_only() {
        let signing = reading(&first("online", FIRST)).expect("it is signed");
        let signed_at = rfc3339::parse("2026-01-15T20:52:03.348Z").ok();
        assert_eq!((signing.signed_at, signing.mark), (signed_at, 0x32f0_bbbf_3881_71a0));
        let signing = reading(&first("offline", FIRST)).expect("it is signed");
        assert_eq!((signing.signed_at, signing.mark), (None, 0));
    }

    #[test]
    fn number_rule_and_escaping_combine_freely() {
        let key = SigningKey::from_bytes(&[7; 32]);
        let public = hex::encode(key.verifying_key().to_bytes());
        let verdict_of = |signed: &str| {
            let signature = hex::encode(key.sign(signed.replace("KEY", &public).as_bytes()).to_bytes());
            verdict(&format!(
                r#"{{"public_key":"{public}","node_id":"ü","x":{{"\uffee":1.50,"😀":null}},"signature":"{signature}"}}"#
            ))
        };
        for signed in [
            "{\"node_id\":\"ü\",\"public_key\":\"KEY\",\"x\":{\"\u{ffee}\":1.50,\"😀\":null}}",
            r#"{"node_id":"\u00fc","public_key":"KEY","x":{"\uffee":1.50,"\ud83d\ude00":null}}"#,
            "{\"node_id\":\"ü\",\"public_key\":\"KEY\",\"x\":{\"😀\":null,\"\u{ffee}\":1.5}}",
            r#"{"node_id":"\u00fc","public_key":"KEY","x":{"\ud83d\ude00":null,"\uffee":1.5}}"#,
        ] {
            assert_eq!(verdict_of(signed), Verdict::Valid, "{signed}");
        }
        let mixed = r#"{"node_id":"ü","public_key":"KEY","x":{"\uffee":1.5,"\ud83d\ude00":null}}"#;
        assert_eq!(verdict_of(mixed), Verdict::Invalid);
    }

    /// The key of order one: under the plain equation this signature fits any text.
    #[test]
    fn a_weak_key_signs_nothing() {
        let weak = format!("01{}", "00".repeat(31));
        let signature = format!("01{}", "00".repeat(63));
        let body = format!(r#"{{"node_id":"n","public_key":"{weak}","signature":"{signature}"}}"#);
        assert_eq!(verdict(&body), Verdict::Invalid);
        assert!(read_key(&Fields::parse(body.as_bytes(), &[]).expect("JSON"), "public_key").is_err());
    }

    #[test]
    fn a_heartbeat_without_key_and_signature_is_unsigned_and_odd_ones_are_no_error() {
        for body in ["{}", r#"{"public_key":null,"signature":null}"#, r#"{"public_key":"","signature":""}"#] {
            assert_eq!(reading(body), None, "{body}");
        }
        assert_eq!(reading(r#"{"public_key":7}"#), None);
        for signature in [r#""00""#, r#""zz""#, "7", "{}"] {
            let body = format!(r#"{{"public_key":"{KEY}","signature":{signature}}}"#);
            assert_eq!(verdict(&body), Verdict::Invalid, "{signature}");
        }
        let keyed = reading(&format!(r#"{{"public_key":"{}"}}"#, KEY.to_uppercase())).expect("it has a key");
        assert_eq!((keyed.verdict, keyed.key.is_some()), (Verdict::Unsigned, true));
    }
}
