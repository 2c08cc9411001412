//! JSON and its canonical forms: what we read, others read too; a canonical form is its own canonical form, and both
//! rules mean the same value.
#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use sheratan_core::integrity::canonical::{self, Rule};
use sheratan_core::integrity::json;
use sheratan_fuzz::planted;

fn canonical_of(value: json::Value, rule: Rule) -> Vec<u8> {
    let mut out = Vec::new();
    canonical::write(value, rule, &mut out);
    out
}

fuzz_target!(|data: &[u8]| {
    let Ok(value) = json::parse(data) else { return };
    let theirs: Option<Value> = match serde_json::from_slice(data) {
        Ok(theirs) => Some(theirs),
        // They read no number beyond the doubles.
        Err(error) if error.to_string().starts_with("number out of range") => None,
        Err(error) => panic!("what we read is no JSON: {error}"),
    };
    for rule in [Rule::Jcs, Rule::AsSent] {
        let once = canonical_of(value, rule);
        let again = json::parse(&once).unwrap_or_else(|error| panic!("{rule:?} is not read again: {error:?}"));
        assert_eq!(canonical_of(again, rule), once, "{rule:?} is not stable");
        if let Some(theirs) = &theirs {
            let meant: Value = serde_json::from_slice(&once).expect("a canonical form is JSON");
            assert!(is_same(&meant, theirs), "{rule:?}: {meant} is not {theirs}");
        }
    }
    walk(value, 0);
});

/// Whether two texts mean the same, numbers as doubles.
fn is_same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => one.as_f64() == other.as_f64(),
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| is_same(one, other))
        }
        (Value::Object(one), Value::Object(other)) => {
            one.len() == other.len()
                && one.iter().all(|(key, value)| other.get(key).is_some_and(|other| is_same(value, other)))
        }
        _ => one == other,
    }
}

fn walk(value: json::Value, depth: usize) {
    let as_text = value.as_str();
    // A surrogate pair inside an object inside a list.
    planted(
        depth >= 2 && as_text.is_some_and(|text| text.chars().any(|c| c > '\u{ffff}') && value.text().contains("\\u")),
    );
    _ = (value.as_u64(), value.as_f64(), value.as_bool());
    for element in value.as_array().into_iter().flatten() {
        walk(element, depth + 1);
    }
    if let Some(object) = value.as_object() {
        for (key, value) in object.members() {
            assert!(object.get(key).is_some(), "a member is there under its key");
            walk(*value, depth + 1);
        }
    }
}
