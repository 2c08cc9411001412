//! Batches: the entries of a list are found whatever they contain, and one that is not JSON spoils no other.

use crate::spelling::{choices, spell, values};
use proptest::prelude::*;
use sheratan_core::integrity::batch::{Batch, TooMany};
use sheratan_core::integrity::json;

fn entries(body: &[u8]) -> Option<Vec<String>> {
    let batch = Batch::split(body, "list", 8).expect("few entries")?;
    Some(batch.entries.iter().map(|entry| String::from_utf8_lossy(entry).into_owned()).collect())
}

#[test]
fn entries_are_told_apart_whatever_they_contain() {
    let table: [(&[u8], &[&str]); 8] = [
        (br#"{"list":[]}"#, &[]),
        (b" { \"list\" : [ 1 , {} ] , \"a\" : [2] } ", &["1", "{}"]),
        (br#"{"a":{"list":[9]},"list":["]",{"b":",[{"}]}"#, &[r#""]""#, r#"{"b":",[{"}"#]),
        (br#"{"list":["\"]",2]}"#, &[r#""\"]""#, "2"]),
        (br#"{"list":[{"a":1,"a":2},"\ud800",nul,1 2,01]}"#, &[r#"{"a":1,"a":2}"#, r#""\ud800""#, "nul", "1 2", "01"]),
        (b"{\"list\":[\"\xff\",2]}", &["\"\u{fffd}\"", "2"]),
        (b"{\"list\":[\"a\nb\",2]}", &["\"a\nb\"", "2"]),
        (br#"{"list":3,"list":[4]}"#, &["4"]),
    ];
    for (body, expected) in table {
        let found = entries(body).unwrap_or_else(|| panic!("{}", String::from_utf8_lossy(body)));
        assert_eq!(found, expected, "{}", String::from_utf8_lossy(body));
    }
}

#[test]
fn a_body_whose_entries_cannot_be_told_apart_has_none() {
    for body in [
        "",
        "[]",
        "{}",
        r#"{"list":7}"#,
        r#"{"other":[1]}"#,
        r#"{"list":[1,,2]}"#,
        r#"{"list":[1,]}"#,
        r#"{"list":[,1]}"#,
        r#"{"list":["a]}"#,
        r#"{"list":["a\"#,
        r#"{"list":[{"a":1]}"#,
        r#"{"list":[1}"#,
        r#"{"list":[{]},2]}"#,
        r#"{"list":[1"#,
        r#"{"list":["#,
    ] {
        assert_eq!(entries(body.as_bytes()), None, "{body}");
    }
}

#[test]
fn the_rest_is_the_body_without_the_entries_and_its_bytes_are_found_in_the_body() {
    let body = br#"{"a":1,"list":[10,20],"b":!}"#;
    let batch = Batch::split(body, "list", 2).unwrap().unwrap();
    assert_eq!(batch.rest, br#"{"a":1,"list":[],"b":!}"#);
    let error = json::parse(&batch.rest).unwrap_err();
    assert_eq!(body[batch.offset_in_body(error.offset)], b'!');
    assert_eq!(batch.offset_in_body(5), 5);
    assert_eq!(Batch::split(body, "list", 1), Err(TooMany));
}

proptest! {
    #[test]
    fn a_batch_has_the_entries_that_a_reader_of_the_whole_body_finds(
        list in prop::collection::vec(values(), 0..6),
        other in values(),
        choices in choices(),
    ) {
        let body = spell(&serde_json::json!({"a": other, "list": list, "z": other}), &choices);
        let object = json::parse_object(body.as_bytes()).unwrap();
        let expected: Vec<_> = object.get("list").unwrap().as_array().unwrap().map(|entry| entry.text().to_owned()).collect();
        // The key may be spelled with escapes: then the body is read as a whole.
        match entries(body.as_bytes()) {
            Some(found) => prop_assert_eq!(found, expected),
            None => prop_assert!(!body.contains("\"list\"")),
        }
    }

    #[test]
    fn any_bytes_are_split_without_a_panic(bytes in prop::collection::vec(prop::sample::select(b"{}[]\",:\\ 1list\xff".to_vec()), 0..40)) {
        let body = [b"{\"list\":[".as_slice(), &bytes, b"]}"].concat();
        if let Some(batch) = Batch::split(&body, "list", 100).unwrap() {
            prop_assert!(batch.entries.iter().all(|entry| !entry.is_empty()));
            prop_assert_eq!(batch.rest.len() + batch.offset_in_body(usize::from(b'x')) - usize::from(b'x'), body.len());
        }
    }
}
