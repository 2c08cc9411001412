//! Checksums and signatures of results, hashes of payloads.

use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};
use sheratan_core::integrity::checksum::{
    Claimed, Failure, Mode, payload_hash, result_sha256, result_signature, verify_result,
};
use sheratan_core::integrity::json::{self, Value};

const KEY: &[u8] = b"vectors' own key";
const JOB: &str = "job_00000000000100000000";

fn value(text: &str) -> Value<'_> {
    json::parse(text.as_bytes()).expect("a test's text is JSON")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn sha256(text: &str) -> String {
    hex(&Sha256::digest(text))
}

fn sign(text: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(KEY).unwrap();
    mac.update(text.as_bytes());
    hex(&mac.finalize().into_bytes())
}

fn claimed<'a>(sha256: Option<&'a str>, sig: Option<&'a str>) -> Claimed<'a> {
    Claimed { sha256: sha256.map(Into::into), sig: sig.map(Into::into) }
}

#[test]
fn results_hashed_and_signed_by_python_are_accepted() {
    for line in include_str!("../data/canonical_vectors.jsonl").lines() {
        let vector: serde_json::Value = serde_json::from_str(line).unwrap();
        let field = |name: &str| vector[name].as_str().unwrap();
        let (error, result) = (Some(value(field("error"))), Some(value(field("text"))));
        let (job_id, ok) = (field("job_id"), vector["ok"].as_bool().unwrap());
        assert_eq!(hex(&result_sha256(error, job_id, ok, result)), field("sha256"));
        assert_eq!(hex(&result_signature(KEY, error, job_id, ok, result)), field("sig"));
        let claimed = claimed(Some(field("sha256")), Some(field("sig")));
        for mode in [Mode::Sha256, Mode::Hmac] {
            assert!(verify_result(mode, &[KEY], &claimed, error, job_id, ok, result).is_ok());
            let failure = verify_result(mode, &[KEY], &claimed, error, job_id, !ok, result);
            assert_eq!(failure, Err(Failure::ShaMismatch));
        }
    }
}

/// A result whose two forms differ, and the text of each.
const RESULT: &str = r#"{"b": 1.0, "a": [2E2]}"#;
const AS_SENT: &str = r#"{"error":null,"job_id":"job_00000000000100000000","ok":true,"result":{"a":[2E2],"b":1.0}}"#;
const JCS: &str = r#"{"error":null,"job_id":"job_00000000000100000000","ok":true,"result":{"a":[200],"b":1}}"#;
const OTHER: &str = r#"{"error":null,"job_id":"job_00000000000100000000","ok":true,"result":{"a":[200],"b":2}}"#;

#[test]
fn checksum_and_signature_are_checked_as_the_mode_requires() {
    use Failure::*;
    let (sent, jcs, other) = (sha256(AS_SENT), sha256(JCS), sha256(OTHER));
    let (sent_sig, jcs_sig, other_sig) = (sign(AS_SENT), sign(JCS), sign(OTHER));
    let (sent, jcs, other) = (Some(&*sent), Some(&*jcs), Some(&*other));
    let (sent_sig, jcs_sig, other_sig) = (Some(&*sent_sig), Some(&*jcs_sig), Some(&*other_sig));
    let table = [
        (Mode::Sha256, sent, None, Ok(())),
        (Mode::Sha256, jcs, None, Ok(())),
        (Mode::Sha256, sent, sent_sig, Ok(())),
        (Mode::Sha256, sent, other_sig, Err(SigMismatch)),
        (Mode::Sha256, sent, Some("12"), Err(SigMismatch)),
        (Mode::Sha256, other, None, Err(ShaMismatch)),
        (Mode::Sha256, Some("12"), None, Err(ShaMismatch)),
        (Mode::Sha256, Some(""), None, Err(ShaMismatch)),
        (Mode::Sha256, None, None, Err(MissingIntegrity)),
        (Mode::Sha256, None, sent_sig, Err(MissingIntegrity)),
        (Mode::Hmac, sent, sent_sig, Ok(())),
        (Mode::Hmac, jcs, jcs_sig, Ok(())),
        (Mode::Hmac, sent, jcs_sig, Ok(())),
        (Mode::Hmac, jcs, sent_sig, Ok(())),
        (Mode::Hmac, sent, other_sig, Err(SigMismatch)),
        (Mode::Hmac, sent, sent, Err(SigMismatch)),
        (Mode::Hmac, sent, Some("12"), Err(SigMismatch)),
        (Mode::Hmac, other, other_sig, Err(ShaMismatch)),
        (Mode::Hmac, other, sent_sig, Err(ShaMismatch)),
        (Mode::Hmac, sent, None, Err(MissingIntegrity)),
        (Mode::Hmac, None, sent_sig, Err(MissingIntegrity)),
        (Mode::Hmac, None, None, Err(MissingIntegrity)),
    ];
    for (mode, sha256, sig, expected) in table {
        let verified = verify_result(mode, &[KEY], &claimed(sha256, sig), None, JOB, true, Some(value(RESULT)));
        assert_eq!(verified.map(|_| ()), expected, "{mode:?} {sha256:?} {sig:?}");
    }
}

#[test]
fn without_the_key_or_with_another_one_no_signature_is_accepted() {
    let (sha256, sig) = (sha256(AS_SENT), sign(AS_SENT));
    let claimed = claimed(Some(&sha256), Some(&sig));
    for key in [None, Some(&b"another key"[..]), Some(&b""[..])] {
        let verified = verify_result(Mode::Hmac, key.as_slice(), &claimed, None, JOB, true, Some(value(RESULT)));
        assert_eq!(verified, Err(Failure::SigMismatch));
    }
    // Any client can sign with an empty key.
    let sig = hex(&result_signature(b"", None, JOB, true, Some(value(RESULT))));
    for key in [None, Some(&b""[..])] {
        let claimed = Claimed { sig: Some(sig.as_str().into()), ..claimed.clone() };
        let verified = verify_result(Mode::Hmac, key.as_slice(), &claimed, None, JOB, true, Some(value(RESULT)));
        assert_eq!(verified, Err(Failure::SigMismatch));
    }
}

#[test]
fn hex_is_accepted_in_either_case() {
    let (sha256, sig) = (sha256(AS_SENT).to_uppercase(), sign(AS_SENT).to_uppercase());
    let claimed = claimed(Some(&sha256), Some(&sig));
    assert!(verify_result(Mode::Hmac, &[KEY], &claimed, None, JOB, true, Some(value(RESULT))).is_ok());
}

#[test]
fn a_result_has_one_checksum_whichever_rule_its_client_used() {
    let verify = |sha256: &str| {
        verify_result(Mode::Sha256, &[], &claimed(Some(sha256), None), None, JOB, true, Some(value(RESULT))).unwrap()
    };
    let (as_sent, jcs) = (verify(&sha256(AS_SENT)), verify(&sha256(JCS)));
    assert_eq!(as_sent.sha256, jcs.sha256);
    assert_eq!(as_sent.sha256, result_sha256(None, JOB, true, Some(value(RESULT))));
}

#[test]
fn every_member_of_a_result_counts_and_an_absent_one_is_null() {
    let of = result_sha256;
    let first = of(None, JOB, true, None);
    assert_eq!(of(Some(value("null")), JOB, true, Some(value("null"))), first);
    let others = [
        of(Some(value("1")), JOB, true, None),
        of(None, JOB, true, Some(value("1"))),
        of(None, JOB, false, None),
        of(None, "job_00000000000200000000", true, None),
        of(None, "job\"", true, None),
    ];
    for (at, other) in others.iter().enumerate() {
        assert_ne!(*other, first);
        assert!(!others[..at].contains(other));
    }
}

#[test]
fn a_payload_has_one_hash_however_it_is_written_and_other_payloads_have_others() {
    let hash = |kind: &str, params: &str| payload_hash(kind, Some(value(params)));
    let first = hash("k", r#"{"a":1,"b":[1.5]}"#);
    assert_eq!(hex(&first), sha256(r#"{"kind":"k","params":{"a":1,"b":[1.5]}}"#));
    assert_eq!(hash("k", r#" {"b" :[15e-1], "\u0061":1.0 }"#), first);
    assert_eq!(payload_hash("k", None), hash("k", "null"));
    let pairs = [
        (hash("l", r#"{"a":1,"b":[1.5]}"#), first),
        (hash("k", r#"{"a":1,"b":[1.6]}"#), first),
        (hash("k", "[]"), hash("k", "{}")),
        (hash("k", "1"), hash("k", "\"1\"")),
        (hash("k", "9007199254740993"), hash("k", "9007199254740992")),
        (hash("k\",\"params\":1", "2"), hash("k", "1")),
    ];
    for (one, other) in pairs {
        assert_ne!(one, other);
    }
}

#[test]
fn words_name_modes_and_failures() {
    for mode in [Mode::Sha256, Mode::Hmac] {
        assert_eq!(Mode::from_word(mode.as_str()), Some(mode));
    }
    assert_eq!(Mode::from_word("SHA256"), None);
    let words = [Failure::MissingIntegrity, Failure::ShaMismatch, Failure::SigMismatch].map(Failure::as_str);
    assert_eq!(words, ["missing_integrity", "sha_mismatch", "sig_mismatch"]);
}
