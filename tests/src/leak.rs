//! Leaks: whether a secret is in a text, in any form that it may take on its way there.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};

/// The forms of a secret that are searched for, each with what it is.
pub fn forms(secret: &str) -> Vec<(&'static str, String)> {
    let quoted = |text: &str| {
        let quoted = serde_json::Value::from(text).to_string();
        quoted[1..quoted.len() - 1].to_owned()
    };
    let hex = |byte: u8| format!("{byte:02x}");
    let percent = |byte: u8| format!("%{byte:02x}");
    let unless_unreserved = |byte: u8, encoded: String| {
        let is_unreserved = byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
        if is_unreserved { char::from(byte).to_string() } else { encoded }
    };
    let each = |encode: &dyn Fn(u8) -> String| secret.bytes().map(encode).collect::<String>();
    let mut forms = vec![
        ("as it is", secret.to_owned()),
        ("in JSON", quoted(secret)),
        ("in JSON in JSON", quoted(&quoted(secret))),
        ("percent-encoded", each(&|byte| unless_unreserved(byte, percent(byte).to_uppercase()))),
        ("percent-encoded in lower case", each(&|byte| unless_unreserved(byte, percent(byte)))),
        ("percent-encoded as a whole", each(&percent)),
        ("percent-encoded as a whole, in upper case", each(&|byte| percent(byte).to_uppercase())),
        ("in hex", each(&hex)),
        ("in HEX", each(&hex).to_uppercase()),
    ];
    for before in ["", "x", "xy"] {
        // The last characters of base64 hold bits of what comes behind.
        let whole = (before.len() + secret.len()) * 8 / 6;
        for encoded in
            [STANDARD_NO_PAD.encode(format!("{before}{secret}")), URL_SAFE_NO_PAD.encode(format!("{before}{secret}"))]
        {
            forms.push(("in base64", encoded[(before.len() * 8).div_ceil(6)..whole].to_owned()));
        }
    }
    forms
}

/// The form in which a secret is in a text, if it is.
pub fn found(text: &[u8], secret: &str) -> Option<&'static str> {
    let is_in = |text: &[u8], form: &str| text.windows(form.len()).any(|part| part == form.as_bytes());
    if is_in(&percent_encoding::percent_decode(text).collect::<Vec<_>>(), secret) {
        return Some("percent-encoded in part");
    }
    forms(secret).into_iter().find(|(_, form)| is_in(text, form)).map(|(what, _)| what)
}

/// Panics if one of the secrets is in the text, with the form and the text.
#[track_caller]
pub fn assert_none(place: &str, text: &[u8], secrets: &[&str]) {
    for (index, secret) in secrets.iter().enumerate() {
        if let Some(form) = found(text, secret) {
            panic!("secret {index} is in {place}, {form}: {}", String::from_utf8_lossy(text));
        }
    }
}
