//! The redactor's tests: each form of a secret, in each kind of text.

use super::*;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use proptest::prelude::*;

const TOKEN: &[u8] = br#"cor"rect\horse?battery>staple"#;

fn redactor(secrets: &[&[u8]]) -> Redactor {
    let secrets: Vec<_> = secrets.iter().map(|secret| Secret::new(*secret)).collect();
    Redactor::new(&secrets.iter().collect::<Vec<_>>())
}

fn shown(secret: &[u8]) -> String {
    Secret::new(secret).to_string()
}

#[test]
fn a_text_without_a_secret_is_not_copied() {
    for redactor in [redactor(&[]), redactor(&[TOKEN])] {
        for text in ["", "correct horse", "100%", "%41%zz", "{\"a\":\"%63or\"}"] {
            assert!(matches!(redactor.redact(text.as_bytes()), Cow::Borrowed(_)), "{text}");
            assert!(matches!(redactor.redact_json(text.as_bytes()), Cow::Borrowed(_)), "{text}");
            assert!(!redactor.contains(text.as_bytes()));
        }
    }
}

#[test]
fn a_secret_after_a_name_in_basic_authentication_is_found_at_each_alignment() {
    let redactor = redactor(&[TOKEN]);
    for user in ["", "u", "us", "use", "user"] {
        for end in ["", "!", "!!"] {
            let text = [user.as_bytes(), b":", TOKEN, end.as_bytes()].concat();
            for encoded in [STANDARD.encode(&text), URL_SAFE.encode(&text), URL_SAFE_NO_PAD.encode(&text)] {
                let header = format!("Authorization: Basic {encoded}");
                assert!(redactor.contains(header.as_bytes()), "{header}");
                let redacted = redactor.redact_text(&header).into_owned();
                assert!(redacted.starts_with("Authorization: Basic ") && redacted.contains(&shown(TOKEN)));
            }
        }
    }
}

#[test]
fn a_path_with_some_characters_encoded_is_replaced_whole() {
    let redactor = redactor(&[b"abc-def-ghi"]);
    for path in ["/mesh/jobs/%61bc-def-gh%69", "/mesh/jobs/abc%2Ddef%2dghi", "/x/%2561bc-def-ghi", "/%252561bc-def-ghi"]
    {
        assert_eq!(redactor.redact_text(path), shown(b"abc-def-ghi"), "{path}");
    }
    assert_eq!(redactor.redact_text("INFO %61bc-def-ghi\n"), format!("{}\n", shown(b"abc-def-ghi")));
    assert_eq!(redactor.redact_text("/a/abc-def-ghi/b"), format!("/a/{}/b", shown(b"abc-def-ghi")));
}

#[test]
fn a_secret_with_quotes_is_found_in_json_and_in_json_within_json() {
    let redactor = redactor(&[TOKEN]);
    let text = std::str::from_utf8(TOKEN).unwrap();
    let line = serde_json::json!({"a": text, "b": format!("node {text:?}"), "c": 1}).to_string();
    let expected = format!("node \"{}\"", shown(TOKEN));
    let redacted: Value = serde_json::from_slice(&redactor.redact_json(line.as_bytes())).unwrap();
    assert_eq!(redacted, serde_json::json!({"a": shown(TOKEN), "b": expected, "c": 1}));
    assert!(!redactor.contains(&redactor.redact(line.as_bytes())));
}

#[test]
fn json_stays_json_for_any_secret() {
    let table: [(&[u8], &str, &str); 5] = [
        (b"12345678", r#"{"n":12345678,"m":1}"#, r#"{"m":1,"n":"sha256:ef797c81"}"#),
        (
            b"12345678",
            r#"{"12345678":[null,true,"x12345678"]}"#,
            r#"{"sha256:ef797c81":[null,true,"xsha256:ef797c81"]}"#,
        ),
        (b"abcdefgh\\", "{\"a\":\"abcdefgh\\\"\",\"b\":1}\n", "{\"redacted\":true}\n"),
        (b"\"event\":\"", r#"{"event":"x"}"#, r#"{"redacted":true}"#),
        (b"12345678", "12345678 is no JSON\n", "{\"redacted\":true}\n"),
    ];
    for (secret, json, expected) in table {
        let redactor = redactor(&[secret]);
        assert_eq!(String::from_utf8_lossy(&redactor.redact_json(json.as_bytes())), expected);
    }
}

#[test]
fn secrets_that_overlap_leave_no_part_of_either() {
    let redactor = redactor(&[b"abcdefghij", b"ghijklmnop", b"cdefghijkl"]);
    assert_eq!(redactor.redact_text("<abcdefghijklmnop>"), format!("<{}>", shown(b"abcdefghij")));
}

#[test]
fn short_secrets_are_left_out_and_counted_and_repeated_ones_count_once() {
    let redactor = redactor(&[b"", b"1234567", b"12345678", b"12345678"]);
    assert_eq!((redactor.secrets(), redactor.too_short()), (1, 1));
    assert!(redactor.contains(b"0123456789") && !redactor.contains(b"01234567"));
}

#[test]
fn a_secret_of_one_request_is_redacted_in_a_text() {
    let one = |secret: &str, text: &str| redact_one(&Secret::new(secret.as_bytes()), text).into_owned();
    assert_eq!(one("abc-def-ghi", "/x/abc-def-ghi/y"), format!("/x/{}/y", shown(b"abc-def-ghi")));
    assert_eq!(one("abc-def-ghi", "/x/abc%2ddef-gh%69/y"), shown(b"abc-def-ghi"));
    assert_eq!(one("abc-def-ghi", "/x/abc%252ddef-ghi"), shown(b"abc-def-ghi"));
    assert_eq!(one("abc-def-ghi", "/x/abc-def-gh%zz"), "/x/abc-def-gh%zz");
    assert_eq!(one("jobs", "/mesh/jobs"), "/mesh/jobs", "too short to be told from ordinary text");
}

#[test]
fn a_part_of_a_secret_is_recognized() {
    let redactor = redactor(&[TOKEN]);
    assert!(redactor.is_part(&TOKEN[..8]) && redactor.is_part(&TOKEN[3..20]));
    assert!(!redactor.is_part(&TOKEN[..7]) && !redactor.is_part(b"anything") && !redactor.is_part(b""));
}

#[test]
fn the_redactor_itself_shows_no_secret() {
    let redactor = redactor(&[TOKEN]);
    let forms = redactor.forms();
    assert_eq!(format!("{redactor:?}"), format!("Redactor(1 secrets in {forms} forms)"));
    assert!(forms > 10, "{forms}");
}

fn secrets() -> impl Strategy<Value = Vec<u8>> {
    // Visible ASCII, as tokens are, or any bytes, as a key in a file may be.
    prop_oneof![
        3 => proptest::collection::vec(b'!'..=b'~', SECRET_BYTES_MIN..40),
        1 => proptest::collection::vec(any::<u8>(), SECRET_BYTES_MIN..40),
    ]
}

/// A form, made by other means than the redactor's where there are some.
fn disguised(secret: &[u8], form: usize, mask: u64) -> Vec<u8> {
    let some_encoded = |byte: (usize, &u8)| match mask >> (byte.0 % 64) & 1 {
        0 if *byte.1 != b'%' => vec![*byte.1],
        _ if mask >> (63 - byte.0 % 64) & 1 == 0 => format!("%{:02x}", byte.1).into_bytes(),
        _ => format!("%{:02X}", byte.1).into_bytes(),
    };
    let within = [&b"xyz"[..(mask % 4) as usize], secret, &b"xyz"[..(mask / 4 % 4) as usize]].concat();
    match form {
        0 => secret.to_vec(),
        1 => serde_json::to_vec(&String::from_utf8_lossy(secret)).unwrap(),
        2 => secret.iter().enumerate().flat_map(some_encoded).collect(),
        3 => STANDARD.encode(within).into_bytes(),
        4 => URL_SAFE.encode(within).into_bytes(),
        5 => secret.iter().flat_map(|byte| format!("{byte:02x}").into_bytes()).collect(),
        _ => secret.iter().flat_map(|byte| format!("{byte:02X}").into_bytes()).collect(),
    }
}

proptest! {
    #[test]
    fn a_secret_in_any_form_within_any_text_is_found_and_gone_afterwards(
        secret in secrets(), form in 0..7_usize, mask in any::<u64>(), before in "\\PC{0,40}", after in "\\PC{0,40}",
    ) {
        let redactor = redactor(&[&secret]);
        let text = [before.as_bytes(), b" ", &disguised(&secret, form, mask), b" ", after.as_bytes()].concat();
        prop_assert!(redactor.contains(&text));
        let redacted = redactor.redact(&text);
        prop_assert!(!redactor.contains(&redacted));
        prop_assert!(String::from_utf8_lossy(&redacted).contains(&shown(&secret)));
    }

    #[test]
    fn a_secret_in_a_value_or_a_name_of_json_is_gone_afterwards_and_the_rest_is_there(
        secret in "[!-~]{8,40}", form in 0..7_usize, mask in any::<u64>(), other in "[a-z ]{0,20}",
    ) {
        let redactor = redactor(&[secret.as_bytes()]);
        let disguised = String::from_utf8(disguised(secret.as_bytes(), form, mask)).unwrap();
        let line = serde_json::json!({"a": disguised, "b": {disguised.clone(): [1]}, "other": other}).to_string();
        let redacted = redactor.redact_json(line.as_bytes());
        prop_assert!(!redactor.contains(&redacted));
        let value: Value = serde_json::from_slice(&redacted).unwrap();
        let is_whole = value == serde_json::json!({"redacted": true});
        prop_assert!(is_whole || value["other"] == other);
    }

    #[test]
    fn a_text_without_the_secret_is_unchanged(secret in secrets(), text in proptest::collection::vec(any::<u8>(), 0..200)) {
        let redactor = redactor(&[&secret]);
        prop_assume!(!redactor.contains(&text));
        prop_assert!(matches!(redactor.redact(&text), Cow::Borrowed(_)));
        prop_assert!(matches!(redactor.redact_json(&text), Cow::Borrowed(_)));
    }
}

#[test]
fn secrets_that_are_learnt_later_are_replaced_beside_the_first_ones() {
    let redactor = redactor(&[b"the-first-secret"]);
    let learnt = [Secret::new(*b"the-second-secret"), Secret::new(*b"short")];
    redactor.learn(learnt.iter());
    let text = redactor.redact_text("the-first-secret the-second-secret short");
    assert!(text.starts_with("sha256:") && text.ends_with(" short"), "{text}");
    assert!(!text.contains("first") && !text.contains("second"), "{text}");
    let forms = redactor.forms();
    redactor.learn(learnt.iter());
    assert_eq!((redactor.secrets(), redactor.forms()), (2, forms));
}
