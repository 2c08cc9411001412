//! Which texts are accepted as JSON, and that values are the same as in another parser.

use crate::spelling::{choices, spell, values};
use proptest::prelude::*;
use sheratan_core::integrity::json::{self, DEPTH_MAX, Kind, Reason, Value};

fn reason(text: &[u8]) -> Option<(Reason, usize)> {
    json::parse(text).err().map(|error| (error.reason, error.offset))
}

#[test]
fn a_text_that_is_not_json_is_refused_with_the_reason_and_the_offset() {
    let table: &[(&[u8], Reason, usize)] = &[
        (b"", Reason::End, 0),
        (b" \n", Reason::End, 2),
        (b"x", Reason::Value, 0),
        (b"nul", Reason::Value, 0),
        (b"truE", Reason::Value, 0),
        (b"NaN", Reason::Value, 0),
        (b"Infinity", Reason::Value, 0),
        (b"'a'", Reason::Value, 0),
        (b"\xef\xbb\xbf{}", Reason::Value, 0),
        (b"{\"a\":\"\xff\"}", Reason::Encoding, 6),
        (b"\"\xed\xa0\x80\"", Reason::Encoding, 1),
        (b"{} {}", Reason::Trailing, 3),
        (b"1,", Reason::Trailing, 1),
        (b"[1,]", Reason::Value, 3),
        (b"[1 2]", Reason::Separator, 3),
        (b"[1", Reason::End, 2),
        (b"[1}", Reason::Separator, 2),
        (b"[,1]", Reason::Value, 1),
        (b"{", Reason::End, 1),
        (b"{\"a\"", Reason::Key, 4),
        (b"{\"a\" 1}", Reason::Key, 5),
        (b"{\"a\":}", Reason::Value, 5),
        (b"{\"a\":1,}", Reason::Key, 7),
        (b"{a:1}", Reason::Key, 1),
        (b"{1:1}", Reason::Key, 1),
        (b"{\"a\":1", Reason::End, 6),
        (b"01", Reason::Number, 1),
        (b"-", Reason::Number, 1),
        (b"-01", Reason::Number, 2),
        (b"+1", Reason::Value, 0),
        (b".5", Reason::Value, 0),
        (b"1.", Reason::Number, 2),
        (b"1.e1", Reason::Number, 2),
        (b"1e", Reason::Number, 2),
        (b"1e+", Reason::Number, 3),
        (b"0x10", Reason::Trailing, 1),
        (b"\"a", Reason::End, 2),
        (b"\"a\nb\"", Reason::Text, 2),
        (b"\"12345678\x1f\"", Reason::Text, 9),
        (b"\"\\x\"", Reason::Text, 1),
        (b"\"\\", Reason::Text, 1),
        (b"\"\\u12g4\"", Reason::Text, 1),
        (b"\"\\u12", Reason::Text, 1),
        (b"\"\\u+123\"", Reason::Text, 1),
        (b"\"\\ud800\"", Reason::Surrogate, 1),
        (b"\"\\udc00\"", Reason::Surrogate, 1),
        (b"\"\\ud800\\n\"", Reason::Surrogate, 1),
        (b"\"\\ud800\\ud800\"", Reason::Surrogate, 1),
        (b"\"\\udc00\\ud800\"", Reason::Surrogate, 1),
        (b"{\"\\ud800\":1}", Reason::Surrogate, 2),
    ];
    for (text, expected, offset) in table {
        assert_eq!(reason(text), Some((*expected, *offset)), "{}", String::from_utf8_lossy(text));
    }
}

#[test]
fn a_duplicate_key_is_refused_at_every_depth_however_it_is_written() {
    let table = [
        (r#"{"a":1,"a":1}"#, 0),
        (r#"{"a":1,"b":2,"\u0061":3}"#, 0),
        (r#"{"\u00e9":1,"é":2}"#, 0),
        (r#"{"":1,"":2}"#, 0),
        (r#"[{"x":{"a":[{"k":1,"k":2}]}}]"#, 12),
        (r#"  {"a":1,"b":{},"a":1}"#, 2),
        (r#"{"1":0,"2":0,"3":0,"4":0,"5":0,"6":0,"7":0,"8":0,"9":0,"1":0}"#, 0),
        (r#"{"9":0,"8":0,"7":0,"6":0,"5":0,"4":0,"3":0,"2":0,"1":0,"\u0035":0}"#, 0),
    ];
    for (text, offset) in table {
        assert_eq!(reason(text.as_bytes()), Some((Reason::Duplicate, offset)), "{text}");
    }
    // The same key in two objects is not a duplicate, whether they are nested or siblings.
    for text in [r#"{"a":{"a":{"a":1}},"b":{"a":1}}"#, r#"[{"a":1},{"a":1}]"#, r#"{"a":[{"b":1},{"b":2}],"b":0}"#] {
        assert_eq!(reason(text.as_bytes()), None, "{text}");
    }
}

#[test]
fn nesting_is_accepted_up_to_the_limit_and_refused_beyond() {
    for (open, close) in [("[", "]"), (r#"{"a":"#, "}")] {
        let nested = |depth: usize| format!("{}0{}", open.repeat(depth), close.repeat(depth));
        assert!(json::parse(nested(DEPTH_MAX).as_bytes()).is_ok());
        let too_deep = nested(DEPTH_MAX + 1);
        assert_eq!(reason(too_deep.as_bytes()), Some((Reason::Depth, open.len() * DEPTH_MAX)));
    }
    assert_eq!(reason(&vec![b'['; 1 << 20]).map(|(reason, _)| reason), Some(Reason::Depth));
}

#[test]
fn a_value_that_is_not_an_object_is_refused_where_an_object_is_required() {
    for (text, offset) in [("[]", 0), (" 1", 1), ("\"{}\"", 0), ("null", 0)] {
        let error = json::parse_object(text.as_bytes()).unwrap_err();
        assert_eq!((error.reason, error.offset), (Reason::NotAnObject, offset), "{text}");
        assert_eq!(error.to_string(), format!("it is JSON, but not an object (byte {offset})"));
    }
    let empty = json::parse_object(b" { } ").unwrap();
    assert!(empty.members().is_empty());
    assert!(empty.get("").is_none());
}

#[test]
fn members_are_found_by_their_unescaped_keys() {
    let text = br#"{"a":{"x":[1,{"y":2}]}, "\u0062" : "t\u00e9xt" ,"c":[], "d":{"a":0}, "":null}"#;
    let object = json::parse_object(text).unwrap();
    assert_eq!(object.get("a").unwrap().as_bytes(), br#"{"x":[1,{"y":2}]}"#);
    assert_eq!(object.get("b").unwrap().as_str().as_deref(), Some("téxt"));
    assert_eq!(object.get("b").unwrap().as_bytes(), br#""t\u00e9xt""#);
    assert_eq!(object.get("c").unwrap().as_array().unwrap().count(), 0);
    assert!(object.get("").unwrap().is_null());
    assert!(object.get("x").is_none());
    assert!(object.get("\\u0062").is_none());
    let inner = object.get("a").unwrap().as_object().unwrap();
    let elements: Vec<_> = inner.get("x").unwrap().as_array().unwrap().collect();
    assert_eq!(elements[1].as_object().unwrap().get("y").unwrap().as_u64(), Some(2));
    let mut keys: Vec<_> = object.members().iter().map(|(key, _)| key.clone()).collect();
    keys.sort();
    assert_eq!(keys, ["", "a", "b", "c", "d"]);
}

#[test]
fn a_value_has_one_kind_only() {
    let table = [
        ("null", Kind::Null),
        ("true", Kind::Bool),
        ("false", Kind::Bool),
        ("-1.5e3", Kind::Number),
        ("\"null\"", Kind::String),
        ("[1]", Kind::Array),
        ("{\"a\":1}", Kind::Object),
    ];
    for (text, kind) in table {
        let value = json::parse(text.as_bytes()).unwrap();
        assert_eq!(value.kind(), kind);
        assert_eq!(value.is_null(), kind == Kind::Null);
        assert_eq!(value.as_bool().is_some(), kind == Kind::Bool);
        assert_eq!(value.as_f64().is_some(), kind == Kind::Number);
        assert_eq!(value.as_str().is_some(), kind == Kind::String);
        assert_eq!(value.as_array().is_some(), kind == Kind::Array);
        assert_eq!(value.as_object().is_some(), kind == Kind::Object);
    }
}

#[test]
fn a_whole_number_may_have_a_fraction_or_exponent_up_to_2_to_the_53() {
    let table = [
        ("0", Some(0)),
        ("5", Some(5)),
        ("5.0", Some(5)),
        ("5e0", Some(5)),
        ("50e-1", Some(5)),
        ("-0", Some(0)),
        ("-0.0", Some(0)),
        ("18446744073709551615", Some(u64::MAX)),
        ("9007199254740992.0", Some(1 << 53)),
        ("9007199254740994.0", None),
        ("18446744073709551616", None),
        ("5.5", None),
        ("-1", None),
        ("1e999", None),
        ("\"5\"", None),
        ("true", None),
    ];
    for (text, expected) in table {
        assert_eq!(json::parse(text.as_bytes()).unwrap().as_u64(), expected, "{text}");
    }
}

#[test]
fn a_number_beyond_the_range_of_doubles_is_json_but_not_a_double() {
    for text in ["1e999", "-1e999", &"9".repeat(400)] {
        let value = json::parse(text.as_bytes()).unwrap();
        assert!(value.is_number());
        assert_eq!(value.as_f64(), None);
    }
    assert_eq!(json::parse(b"1e-999").unwrap().as_f64(), Some(0.0));
}

#[test]
fn neither_an_error_nor_the_debug_text_of_a_value_shows_what_a_client_sent() {
    let error = json::parse(br#"{"password":"hunter2"#).unwrap_err();
    assert_eq!(error.to_string(), "it ends too early (byte 20)");
    assert!(!format!("{error:?}").contains("hunter2"));
    let value = json::parse(br#""hunter2""#).unwrap();
    assert_eq!(format!("{value:?}"), "Value(9 bytes)");
}

/// The value as a tree of another parser.
fn as_tree(value: Value) -> serde_json::Value {
    match value.kind() {
        Kind::Null => serde_json::Value::Null,
        Kind::Bool => value.as_bool().unwrap().into(),
        Kind::Number => serde_json::from_slice(value.as_bytes()).expect("its text is a number"),
        Kind::String => value.as_str().unwrap().into(),
        Kind::Array => value.as_array().unwrap().map(as_tree).collect(),
        Kind::Object => value.members().unwrap().map(|(key, value)| (key.into_owned(), as_tree(value))).collect(),
    }
}

/// Concatenated fragments of JSON, valid and broken.
fn fragments() -> impl Strategy<Value = Vec<u8>> {
    let pieces: &[&[u8]] = &[
        b"{",
        b"}",
        b"[",
        b"]",
        b":",
        b",",
        b" ",
        b"\n",
        b"\"a\"",
        b"\"b\":",
        b"\"c\":1",
        b"\"\\u0061\":",
        b"\"",
        b"\\",
        b"0",
        b"-",
        b"1",
        b".5",
        b"e3",
        b"E",
        b"true",
        b"false",
        b"null",
        b"nul",
        b"\\ud83d\\ude00",
        b"\\ud83d",
        b"\xc3",
        b"\xa9",
        b"\x00",
        b"\x1f",
        b"\x7f",
    ];
    prop::collection::vec(prop::sample::select(pieces), 0..24).prop_map(|pieces| pieces.concat())
}

/// Another strict parser accepts and refuses the same texts, except that it accepts duplicate keys, and refuses numbers
/// beyond the range of doubles.
fn agrees_with_serde(text: &[u8]) -> Result<(), TestCaseError> {
    let other = serde_json::from_slice::<serde_json::Value>(text).map_err(|error| error.to_string());
    match (json::parse(text), other) {
        (Err(error), _) if error.reason == Reason::Duplicate => {}
        (_, Err(error)) if error.starts_with("number out of range") => {}
        (Ok(_), Err(error)) => prop_assert!(false, "only the hub accepts it: {error}"),
        (Err(error), Ok(_)) => prop_assert!(false, "only the hub refuses it: {error}"),
        (Ok(_), Ok(_)) | (Err(_), Err(_)) => {}
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_bytes_are_accepted_or_refused_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        agrees_with_serde(&bytes)?;
    }

    #[test]
    fn fragments_of_json_are_accepted_if_and_only_if_another_parser_accepts_them(text in fragments()) {
        agrees_with_serde(&text)?;
    }
}

proptest! {
    #[test]
    fn a_text_with_a_changed_byte_is_accepted_if_and_only_if_another_parser_accepts_it(
        value in values(), choices in choices(), at in any::<prop::sample::Index>(), byte in any::<u8>(),
    ) {
        let mut text = spell(&value, &choices).into_bytes();
        let at = at.index(text.len());
        text[at] = byte;
        agrees_with_serde(&text)?;
        agrees_with_serde(&text[..at])?;
    }

    #[test]
    fn every_value_is_the_same_as_in_another_parser(value in values(), choices in choices()) {
        let text = spell(&value, &choices);
        let read = json::parse(text.as_bytes()).map_err(|error| TestCaseError::fail(format!("{error}: {text}")))?;
        prop_assert_eq!(as_tree(read), serde_json::from_str::<serde_json::Value>(&text).unwrap());
        prop_assert_eq!(read.text(), text.trim_matches([' ', '\n', '\r', '\t']));
        if let Some(object) = read.as_object() {
            let again = json::parse_object(text.as_bytes()).unwrap();
            prop_assert_eq!(object.members().len(), again.members().len());
            for (key, value) in object.members() {
                prop_assert_eq!(again.get(key), Some(*value));
            }
        }
    }

    #[test]
    fn numbers_are_the_same_as_in_another_parser(number in any::<u64>(), double in any::<f64>()) {
        let text = number.to_string();
        prop_assert_eq!(json::parse(text.as_bytes()).unwrap().as_u64(), Some(number));
        if double.is_finite() {
            let text = format!("{double:e}");
            let read = json::parse(text.as_bytes()).unwrap();
            prop_assert_eq!(read.as_f64().map(f64::to_bits), Some(double.to_bits()));
        }
    }
}
