//! The checksum that a result is stored with: what it is of, and what it is not of.

use sheratan_core::Payload;
use sheratan_core::integrity::checksum::{Claimed, Mode, verify_result};
use sheratan_core::integrity::json;
use sheratan_core::integrity::stored::{Origin, ResultIntegrity};

const JOB: &str = "job_00000000000100000000";
/// The two forms of `{"b":1.0,"a":[2E2]}` differ.
const RESULT: &[u8] = br#"{"b": 1.0, "a": [2E2]}"#;
const AS_SENT: &str = r#"{"error":"e","job_id":"job_00000000000100000000","ok":false,"result":{"a":[2E2],"b":1.0}}"#;
const JCS: &str = r#"{"error":"e","job_id":"job_00000000000100000000","ok":false,"result":{"a":[200],"b":1}}"#;

fn sha256(text: &str) -> [u8; 32] {
    use sha2::{Digest, Sha256};
    Sha256::digest(text).into()
}

#[test]
fn a_stored_checksum_is_of_the_members_it_came_with_and_of_no_others() {
    let payload = |text: &[u8]| Some(Payload::new(text));
    let (error, result) = (payload(b"\"e\""), payload(RESULT));
    for text in [AS_SENT, JCS] {
        let integrity = ResultIntegrity { origin: Origin::Worker, sha256: sha256(text) };
        let is_of = |error: &Option<Payload>, job: &str, ok, result: &Option<Payload>| {
            integrity.is_of(error.as_ref(), job, ok, result.as_ref())
        };
        assert!(is_of(&error, JOB, false, &result), "{text}");
        assert!(is_of(&error, JOB, false, &payload(br#"{"a":[2E2],"b":1.0}"#)), "another spelling of the same");
        let others = [
            is_of(&payload(b"\"f\""), JOB, false, &result),
            is_of(&None, JOB, false, &result),
            is_of(&error, "job_00000000000200000000", false, &result),
            is_of(&error, JOB, true, &result),
            is_of(&error, JOB, false, &payload(br#"{"b": 1.0, "a": [2E3]}"#)),
            is_of(&error, JOB, false, &None),
            is_of(&error, JOB, false, &payload(br#"{"b": 1.0, "a": [2E2]"#)),
            is_of(&payload(b"\"\xff\""), JOB, false, &result),
        ];
        assert_eq!(others, [false; 8], "{text}");
    }
}

#[test]
fn what_is_stored_is_what_the_worker_sent_in_the_form_it_chose() {
    let key: &[u8] = b"a key of the workers";
    let (error, result) = (json::parse(b"\"e\"").unwrap(), json::parse(RESULT).unwrap());
    let hex = |bytes: [u8; 32]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let sig = hex(sheratan_core::integrity::checksum::result_signature(key, Some(error), JOB, false, Some(result)));
    for (text, sig, origin) in
        [(AS_SENT, None, Origin::Worker), (JCS, None, Origin::Worker), (JCS, Some(sig), Origin::Signed)]
    {
        let claimed = Claimed { sha256: Some(hex(sha256(text)).into()), sig: sig.map(Into::into) };
        let verified =
            verify_result(Mode::Sha256, &[b"another key", key], &claimed, Some(error), JOB, false, Some(result));
        let verified = verified.expect("it is right");
        assert_eq!(verified.integrity, ResultIntegrity { origin, sha256: sha256(text) });
        assert_eq!(verified.signed_with, (origin == Origin::Signed).then_some(1));
        assert_eq!(verified.sha256, sha256(AS_SENT), "a repeat is recognised in either form");
    }
}

#[test]
fn each_origin_has_a_mode_of_its_own() {
    for origin in [Origin::Worker, Origin::Signed, Origin::Hub] {
        assert_eq!(Origin::from_mode(origin.mode()), Some(origin));
    }
    assert_eq!(Origin::from_mode("md5"), None);
}
