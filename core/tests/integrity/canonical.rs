//! The canonical forms, against the examples of the RFC and the output of Python and of an ECMAScript engine.

use crate::spelling::{choices, spell, values};
use proptest::prelude::*;
use sheratan_core::integrity::canonical::{self, Rule};
use sheratan_core::integrity::json::{self, DEPTH_MAX};

const RULES: [Rule; 3] = [Rule::Jcs, Rule::Exact, Rule::AsSent];

fn form(text: &str, rule: Rule) -> String {
    let mut out = Vec::new();
    canonical::write(json::parse(text.as_bytes()).expect("a test's text is JSON"), rule, &mut out);
    String::from_utf8(out).expect("a form is UTF-8")
}

fn vectors(lines: &str) -> Vec<serde_json::Value> {
    lines.lines().map(|line| serde_json::from_str(line).expect("a vector is JSON")).collect()
}

/// RFC 8785, appendix B.
#[test]
fn numbers_are_printed_as_in_the_table_of_rfc_8785() {
    let table: [(u64, &str); 24] = [
        (0x0000000000000000, "0"),
        (0x8000000000000000, "0"),
        (0x0000000000000001, "5e-324"),
        (0x8000000000000001, "-5e-324"),
        (0x7fefffffffffffff, "1.7976931348623157e+308"),
        (0xffefffffffffffff, "-1.7976931348623157e+308"),
        (0x4340000000000000, "9007199254740992"),
        (0xc340000000000000, "-9007199254740992"),
        (0x4430000000000000, "295147905179352830000"),
        (0x44b52d02c7e14af5, "9.999999999999997e+22"),
        (0x44b52d02c7e14af6, "1e+23"),
        (0x44b52d02c7e14af7, "1.0000000000000001e+23"),
        (0x444b1ae4d6e2ef4e, "999999999999999700000"),
        (0x444b1ae4d6e2ef4f, "999999999999999900000"),
        (0x444b1ae4d6e2ef50, "1e+21"),
        (0x3eb0c6f7a0b5ed8c, "9.999999999999997e-7"),
        (0x3eb0c6f7a0b5ed8d, "0.000001"),
        (0x41b3de4355555553, "333333333.3333332"),
        (0x41b3de4355555554, "333333333.33333325"),
        (0x41b3de4355555555, "333333333.3333333"),
        (0x41b3de4355555556, "333333333.3333334"),
        (0x41b3de4355555557, "333333333.33333343"),
        (0xbecbf647612f3696, "-0.0000033333333333333333"),
        (0x43143ff3c1cb0959, "1424953923781206.2"),
    ];
    for (bits, expected) in table {
        // 17 digits with an exponent, so that the text is never the shortest form already.
        let text = format!("{:.16e}", f64::from_bits(bits));
        assert_eq!(form(&text, Rule::Jcs), expected);
    }
}

/// RFC 8785, sections 3.2.2 and 3.2.3.
#[test]
fn the_samples_of_rfc_8785_have_the_forms_that_it_gives() {
    let sample = r#"{
      "numbers": [333333333.33333329, 1E30, 4.50, 2e-3, 0.000000000000000000000000001],
      "string": "\u20ac$\u000F\u000aA'\u0042\u0022\u005c\\\"\/",
      "literals": [null, true, false]
    }"#;
    let expected = concat!(
        r#"{"literals":[null,true,false],"numbers":[333333333.3333333,1e+30,4.5,0.002,1e-27],"#,
        r#""string":"€$\u000f\nA'B\"\\\\\"/"}"#
    );
    assert_eq!(form(sample, Rule::Jcs), expected);
    let keys = r#"{"\u20ac":"Euro Sign","\r":"Carriage Return","\ufb33":"Hebrew Letter Dalet With Dagesh","1":"One",
      "\ud83d\ude00":"Emoji: Grinning Face","\u0080":"Control","\u00f6":"Latin Small Letter O With Diaeresis"}"#;
    let expected = concat!(
        r#"{"\r":"Carriage Return","1":"One",""#,
        "\u{80}\":\"Control\",\"ö\":\"Latin Small Letter O With Diaeresis\",\"€\":\"Euro Sign\",",
        "\"😀\":\"Emoji: Grinning Face\",\"\u{fb33}\":\"Hebrew Letter Dalet With Dagesh\"}"
    );
    assert_eq!(form(keys, Rule::Jcs), expected);
}

#[test]
fn the_rules_differ_in_numbers_in_keys_beyond_the_first_plane_and_in_escapes() {
    let table = [
        ("1.0", ["1", "1", "1.0", "1.0"]),
        ("-0", ["0", "0", "-0", "-0"]),
        ("-0.0", ["0", "0", "-0.0", "-0.0"]),
        ("1E2", ["100", "100", "1E2", "1E2"]),
        ("999999999999999", ["999999999999999"; 4]),
        ("-99999999999999", ["-99999999999999"; 4]),
        ("9007199254740993", ["9007199254740992", "9007199254740993", "9007199254740993", "9007199254740993"]),
        (
            "-9007199254740993.0",
            ["-9007199254740992", "-9007199254740992", "-9007199254740993.0", "-9007199254740993.0"],
        ),
        ("1e999", ["1e999"; 4]),
        ("1000000000000000000000", ["1e+21", "1e+21", "1000000000000000000000", "1000000000000000000000"]),
        ("-1500000000000000000000", ["-1.5e+21", "-1.5e+21", "-1500000000000000000000", "-1500000000000000000000"]),
        ("999999999999999999999", ["1e+21", "999999999999999999999", "999999999999999999999", "999999999999999999999"]),
        // 2^63 and 2^70 are doubles, but ECMAScript prints the first 16 or 17 digits only.
        (
            "9223372036854775808",
            ["9223372036854776000", "9223372036854775808", "9223372036854775808", "9223372036854775808"],
        ),
        (
            "1180591620717411303424",
            ["1.1805916207174113e+21", "1180591620717411303424", "1180591620717411303424", "1180591620717411303424"],
        ),
        (r#""é\/😀\u007f""#, ["\"é/😀\u{7f}\"", "\"é/😀\u{7f}\"", "\"é/😀\u{7f}\"", r#""\u00e9/\ud83d\ude00\u007f""#]),
        (
            r#"{"\uffff":1,"\ud83d\ude00":2}"#,
            [
                "{\"😀\":2,\"\u{ffff}\":1}",
                "{\"😀\":2,\"\u{ffff}\":1}",
                "{\"\u{ffff}\":1,\"😀\":2}",
                r#"{"\uffff":1,"\ud83d\ude00":2}"#,
            ],
        ),
    ];
    for (text, expected) in table {
        for (rule, expected) in RULES.into_iter().zip(expected) {
            assert_eq!(form(text, rule), expected, "{text} by {rule:?}");
        }
    }
}

#[test]
fn the_form_as_sent_is_what_python_writes() {
    let vectors = vectors(include_str!("../data/canonical_vectors.jsonl"));
    assert_eq!(vectors.len(), 150);
    for vector in vectors {
        let text = vector["text"].as_str().unwrap();
        assert_eq!(form(text, Rule::AsSent), vector["as_sent"], "{text}");
    }
}

#[test]
fn the_jcs_form_is_what_an_ecmascript_engine_writes() {
    let vectors = vectors(include_str!("../data/jcs_vectors.jsonl"));
    assert_eq!(vectors.len(), 650);
    for vector in vectors {
        let text = vector["text"].as_str().unwrap();
        assert_eq!(form(text, Rule::Jcs), vector["jcs"], "{text}");
    }
}

#[test]
fn the_objects_of_the_deepest_text_are_all_sorted() {
    let mut text = "0".to_string();
    let mut expected = "0".to_string();
    for depth in 0..DEPTH_MAX {
        text = format!(r#"{{"b":{text},"a":{depth}}}"#);
        expected = format!(r#"{{"a":{depth},"b":{expected}}}"#);
    }
    for rule in RULES {
        assert_eq!(form(&text, rule), expected);
    }
}

#[test]
fn a_form_is_appended_to_the_buffer() {
    let mut out = b"before".to_vec();
    canonical::write(json::parse(br#"{"b":[1, 2],"a":{"d":3,"c":4}}"#).unwrap(), Rule::Jcs, &mut out);
    assert_eq!(out, br#"before{"a":{"c":4,"d":3},"b":[1,2]}"#);
}

/// The digits of a whole number that ECMAScript printed with or without an exponent.
#[test]
fn all_but_printable_ascii_is_escaped_as_python_does() {
    for (text, escaped) in [
        (r#"{"a":1}"#, None),
        (r#""\n""#, None),
        (r#""ü""#, Some(r#""\u00fc""#)),
        ("\"\u{7f}\u{2028}\"", Some(r#""\u007f\u2028""#)),
        (r#"["😀","a"]"#, Some(r#"["\ud83d\ude00","a"]"#)),
    ] {
        assert_eq!(canonical::escape_non_ascii(text).as_deref(), escaped, "{text}");
    }
}

#[test]
fn an_object_without_a_member_has_the_form_of_the_object_that_never_had_it() {
    let text = r#"{"z":[1.0],"s":"x","😀":{"s":2},"\uffee":null,"a":"ü"}"#;
    let bare = r#"{"z":[1.0],"😀":{"s":2},"\uffee":null,"a":"ü"}"#;
    let object = json::parse_object(text.as_bytes()).expect("it is an object");
    for rule in RULES {
        let mut out = Vec::new();
        canonical::write_object(object.members(), "s", rule, &mut out);
        assert_eq!(String::from_utf8(out).expect("a form is UTF-8"), form(bare, rule), "{rule:?}");
    }
}

fn whole_digits(printed: &str) -> String {
    let Some((mantissa, exponent)) = printed.split_once("e+") else { return printed.to_owned() };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let zeros = exponent.parse::<usize>().unwrap() - fraction.len();
    format!("{whole}{fraction}{:0<zeros$}", "")
}

proptest! {
    #[test]
    fn the_form_of_a_form_is_the_same(value in values(), choices in choices()) {
        let text = spell(&value, &choices);
        for rule in RULES {
            let once = form(&text, rule);
            prop_assert_eq!(form(&once, rule), once);
        }
    }

    #[test]
    fn two_spellings_of_a_value_have_one_form(value in values(), one in choices(), other in choices()) {
        let (one, other) = (spell(&value, &one), spell(&value, &other));
        for rule in RULES {
            prop_assert_eq!(form(&one, rule), form(&other, rule));
        }
    }

    #[test]
    fn a_form_means_what_the_text_means(value in values(), choices in choices()) {
        let text = spell(&value, &choices);
        // The other parser is not exact to the last bit, but it parses the same digits to the same double.
        let read = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
        prop_assert_eq!(read(&form(&text, Rule::AsSent)), read(&text));
    }

    #[test]
    fn a_whole_number_keeps_its_value_in_the_exact_form(
        digits in "[1-9][0-9]{0,17}", zeros in 0..12_usize, is_negative in any::<bool>()
    ) {
        let text = format!("{}{digits}{:0<zeros$}", if is_negative { "-" } else { "" }, "");
        prop_assert_eq!(whole_digits(&form(&text, Rule::Exact)), text);
    }

    #[test]
    fn a_whole_number_of_few_digits_has_one_exact_form_in_all_its_spellings(
        digits in "-?[1-9][0-9]{0,13}[1-9]", zeros in 0..280_usize
    ) {
        let plain = format!("{digits}{:0<zeros$}", "");
        let (first, rest) = digits.split_at(if digits.starts_with('-') { 2 } else { 1 });
        let exponent = zeros + rest.len();
        for other in [format!("{digits}e{zeros}"), format!("{first}.{rest}E+0{exponent}"), format!("{plain}.0")] {
            prop_assert_eq!(form(&other, Rule::Exact), form(&plain, Rule::Exact), "{} and {}", other, plain);
        }
    }

    #[test]
    fn a_double_keeps_its_value_by_rfc_8785(number in any::<f64>().prop_filter("JSON has no others", |n| n.is_finite())) {
        let printed = form(&format!("{number:e}"), Rule::Jcs);
        prop_assert_eq!(printed.parse::<f64>().unwrap(), number);
    }
}
