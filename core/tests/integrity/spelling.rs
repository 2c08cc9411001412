//! JSON values, and the many texts that represent the same value.

use proptest::prelude::*;
use serde_json::Value;

/// Values with strings and numbers at the boundaries of escapes, planes, integers and doubles.
pub fn values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        (-20_i64..20).prop_map(Value::from),
        prop::num::f64::NORMAL.prop_map(Value::from),
        (-1000_i32..1000).prop_map(|n| Value::from(f64::from(n) / 8.0)),
        texts().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 60, 12, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::btree_map(texts(), inner, 0..12).prop_map(|members| members.into_iter().collect()),
        ]
    })
}

/// Short texts of characters that are treated differently by one rule or another.
pub fn texts() -> impl Strategy<Value = String> {
    let characters = "ab\"\\/\u{0}\u{8}\u{c}\n\r\t\u{1f}\u{7f}é€\u{2028}\u{d7ff}\u{e000}\u{ffff}\u{10000}😀\u{10ffff}";
    let character = prop::sample::select(characters.chars().collect::<Vec<_>>());
    prop_oneof![
        4 => prop::collection::vec(character, 0..5).prop_map(String::from_iter),
        1 => "[a-z]{0,30}",
    ]
}

/// Bytes that decide how a value is written, reused from the start when they are exhausted.
pub fn choices() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 1..200)
}

/// One of the texts that represent a value; numbers are written in one way only.
pub fn spell(value: &Value, choices: &[u8]) -> String {
    let mut speller = Speller { choices, used: 0, out: String::new() };
    speller.space();
    speller.value(value);
    speller.space();
    speller.out
}

struct Speller<'a> {
    choices: &'a [u8],
    used: usize,
    out: String,
}

impl Speller<'_> {
    fn choose(&mut self, bound: usize) -> usize {
        self.used += 1;
        usize::from(self.choices[self.used % self.choices.len()]) % bound
    }

    fn space(&mut self) {
        let space = ["", "", "", " ", "\n", "\t \r\n"][self.choose(6)];
        self.out.push_str(space);
    }

    fn value(&mut self, value: &Value) {
        match value {
            Value::String(text) => self.string(text),
            Value::Array(elements) => {
                self.list('[', ']', elements, Self::value);
            }
            Value::Object(members) => {
                let mut members: Vec<_> = members.iter().collect();
                for at in (1..members.len()).rev() {
                    let other = self.choose(at + 1);
                    members.swap(at, other);
                }
                self.list('{', '}', &members, |speller, (key, value)| {
                    speller.string(key);
                    speller.space();
                    speller.out.push(':');
                    speller.space();
                    speller.value(value);
                });
            }
            other => self.out.push_str(&other.to_string()),
        }
    }

    fn list<T>(&mut self, open: char, close: char, items: &[T], each: impl Fn(&mut Self, &T)) {
        self.out.push(open);
        for (index, item) in items.iter().enumerate() {
            if index > 0 {
                self.out.push(',');
            }
            self.space();
            each(self, item);
            self.space();
        }
        if items.is_empty() {
            self.space();
        }
        self.out.push(close);
    }

    fn string(&mut self, text: &str) {
        self.out.push('"');
        for character in text.chars() {
            let mut units = [0; 2];
            match self.choose(6) {
                0 => character.encode_utf16(&mut units).iter().for_each(|unit| self.out += &format!("\\u{unit:04x}")),
                1 => character.encode_utf16(&mut units).iter().for_each(|unit| self.out += &format!("\\u{unit:04X}")),
                2 if character == '/' => self.out.push_str("\\/"),
                _ => {
                    let string = Value::from(character.to_string()).to_string();
                    self.out.push_str(&string[1..string.len() - 1]);
                }
            }
        }
        self.out.push('"');
    }
}
