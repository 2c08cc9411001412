//! Objects: the JSON of replies and log lines, written directly into a buffer, member by member, without a tree.

use crate::rfc3339::Rfc3339;
use sheratan_core::{Payload, Utc};
use std::fmt::Display;
use std::io::Write;

/// A JSON object under construction at the end of a buffer.
pub struct Object<'a> {
    out: &'a mut Vec<u8>,
    is_empty: bool,
}

impl<'a> Object<'a> {
    /// Opens an object; [`Object::end`] closes it.
    pub fn open(out: &'a mut Vec<u8>) -> Self {
        out.push(b'{');
        Object { out, is_empty: true }
    }

    /// A member whose value is a text.
    pub fn text(&mut self, key: &str, value: &str) -> &mut Self {
        write_text(self.key(key), value);
        self
    }

    /// A member whose value is a text, or null.
    pub fn text_or_null(&mut self, key: &str, value: Option<&str>) -> &mut Self {
        match value {
            Some(value) => self.text(key, value),
            None => self.raw(key, b"null"),
        }
    }

    /// A member whose value is a text about an entry of a list: `list[index]: value`.
    pub fn text_at(&mut self, key: &str, (list, index): (&str, usize), value: &str) -> &mut Self {
        let out = self.key(key);
        out.push(b'"');
        out.extend_from_slice(list.as_bytes());
        out.push(b'[');
        write_number(out, index as u64);
        out.extend_from_slice(b"]: ");
        // The value's own opening quote is removed.
        let quote_at = out.len();
        write_text(out, value);
        out.copy_within(quote_at + 1.., quote_at);
        out.pop();
        self
    }

    /// A member whose value is a text that needs no escapes: an id or a fixed word.
    pub fn plain(&mut self, key: &str, value: impl Display) -> &mut Self {
        write!(self.key(key), "\"{value}\"").expect("a buffer takes all");
        self
    }

    /// A member whose value is a number.
    pub fn number(&mut self, key: &str, value: u64) -> &mut Self {
        write_number(self.key(key), value);
        self
    }

    /// A member whose value is `true` or `false`.
    pub fn flag(&mut self, key: &str, value: bool) -> &mut Self {
        self.raw(key, if value { b"true" } else { b"false" })
    }

    /// A member whose value is an instant.
    pub fn time(&mut self, key: &str, value: Utc) -> &mut Self {
        self.plain(key, Rfc3339::new(value))
    }

    /// A member whose value is JSON already.
    pub fn raw(&mut self, key: &str, json: &[u8]) -> &mut Self {
        self.key(key).extend_from_slice(json);
        self
    }

    /// Members that are written already: `,"name":value` for each. They cannot be the first.
    pub fn more(&mut self, members: &str) -> &mut Self {
        assert!(!self.is_empty, "the members begin with a comma");
        self.out.extend_from_slice(members.as_bytes());
        self
    }

    /// A member whose value is a client's JSON, unchanged; `null` if it is absent.
    pub fn payload(&mut self, key: &str, payload: Option<&Payload>) -> &mut Self {
        self.raw(key, payload.map_or(b"null", Payload::as_bytes))
    }

    /// A member whose value is an array; `each` writes one element.
    pub fn array<T>(
        &mut self,
        key: &str,
        items: impl IntoIterator<Item = T>,
        mut each: impl FnMut(&mut Vec<u8>, T),
    ) -> &mut Self {
        let out = self.key(key);
        out.push(b'[');
        for (index, item) in items.into_iter().enumerate() {
            if index > 0 {
                out.push(b',');
            }
            each(out, item);
        }
        out.push(b']');
        self
    }

    /// A member whose value is an object; `fill` writes its members.
    pub fn object(&mut self, key: &str, fill: impl FnOnce(&mut Object)) -> &mut Self {
        let mut inner = Object::open(self.key(key));
        fill(&mut inner);
        inner.end();
        self
    }

    /// Closes the object.
    pub fn end(&mut self) {
        self.out.push(b'}');
    }

    fn key(&mut self, key: &str) -> &mut Vec<u8> {
        if !self.is_empty {
            self.out.push(b',');
        }
        self.is_empty = false;
        // Some members are named by clients: nodes, for one.
        write_text(self.out, key);
        self.out.push(b':');
        self.out
    }
}

/// Writes one object.
pub fn object(out: &mut Vec<u8>, fill: impl FnOnce(&mut Object)) {
    let mut object = Object::open(out);
    fill(&mut object);
    object.end();
}

/// Writes a JSON string.
pub fn write_text(out: &mut Vec<u8>, text: &str) {
    // Without an early end the compiler makes vector instructions of it.
    let has_escapes = text.bytes().fold(false, |found, byte| found | (byte < 0x20 || byte == b'"' || byte == b'\\'));
    if !has_escapes {
        out.push(b'"');
        out.extend_from_slice(text.as_bytes());
        out.push(b'"');
    } else {
        serde_json::to_writer(out, text).expect("a buffer takes all, and a text is always JSON");
    }
}

/// Writes a number in decimal: some 3 ns, where the formatter takes 15.
fn write_number(out: &mut Vec<u8>, number: u64) {
    let (mut digits, mut at, mut rest) = ([0; 20], 20, number);
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_reads_back_as_it_was_written() {
        let mut out = Vec::new();
        object(&mut out, |members| {
            members.flag("ok", true).text("text", "a\"b\\c\nd é").number("n", u64::MAX);
            members.time("at_utc", Utc::ZERO).raw("raw", b"[1,{}]").plain("id", 5);
            members.array("list", [1, 2], |out, n| write!(out, "{n}").unwrap());
            members.array("empty", [0; 0], |_, _| {});
            members.text_at("at", ("list", 10), "a\"b").text_at("plain", ("l", 0), "c").number("zero", 0);
            members.object("inner", |inner| _ = inner.flag("no", false)).number("a \"node\"", 1);
        });
        let value: serde_json::Value = serde_json::from_slice(&out).unwrap();
        let expected = serde_json::json!({
            "ok": true, "text": "a\"b\\c\nd é", "n": u64::MAX, "at_utc": "1970-01-01T00:00:00.000Z",
            "raw": [1, {}], "id": "5", "list": [1, 2], "empty": [],
            "at": "list[10]: a\"b", "plain": "l[0]: c", "zero": 0, "inner": {"no": false}, "a \"node\"": 1
        });
        assert_eq!(value, expected);
    }
}
