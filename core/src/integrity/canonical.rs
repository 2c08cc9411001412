//! Canonical JSON: one text for all texts with the same meaning, to be hashed.
//!
//! Two rules are in use and both are accepted (see the wire contract). They differ in numbers and in the order of keys
//! beyond the Basic Multilingual Plane; most texts have the same form under both.
//!
//! The form is written in one pass over the text, with members in their original order. Only if that is not the
//! canonical order, an object's members are rearranged afterwards, as slices of what was written: no byte is parsed
//! twice, however deeply it is nested.

use super::cursor::Cursor;
use super::json::{Member, Value};
use super::text::{by_utf16, unescape, write_utf8};
use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt::Write as _;
use std::ops::Range;

/// How numbers and strings are written and keys are sorted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rule {
    /// RFC 8785 (JCS): numbers as ECMAScript prints the double, keys by UTF-16 code units.
    Jcs,
    /// As [`Rule::Jcs`], but a whole number that ECMAScript would print as a different one keeps its digits:
    /// 9007199254740993 and 9007199254740992 are different payloads, 1000000000000000000000 and 1e21 the same.
    Exact,
    /// Numbers as they were sent, keys by code point: Python's `json.dumps` with `sort_keys=True`, `ensure_ascii=False`
    /// and separators without spaces.
    AsSent,
}

/// Whole numbers with up to so many digits are exact as doubles, and ECMAScript prints them unchanged.
const PLAIN_DIGITS_MAX: usize = 15;

/// Appends the canonical text of a value. O(n) in the text; for an object whose k keys are in another order also
/// O(k log k) and a copy of the object.
pub fn write(value: Value, rule: Rule, out: &mut Vec<u8>) {
    let mut writer = Writer { rule, out, members: Vec::new() };
    writer.value(&mut value.cursor());
}

/// Appends the canonical text of an object with these members, but for the one that is `skipped`: a signature is no part
/// of what it signs. O(n) in the text, and O(k log k) for k members.
pub fn write_object(members: &[Member<'_>], skipped: &str, rule: Rule, out: &mut Vec<u8>) {
    let mut members: Vec<_> = members.iter().filter(|(key, _)| key != skipped).collect();
    members.sort_unstable_by(|a, b| rule.order(&a.0, &b.0));
    out.push(b'{');
    for (index, (key, value)) in members.into_iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        write_utf8(key, out);
        out.push(b':');
        write(*value, rule, out);
    }
    out.push(b'}');
}

/// A canonical text with all characters that are not printable ASCII as four hex digits after a backslash and a `u`, as
/// Python writes it by default. The order of keys stays: it is that of the characters. `None` if there is no such
/// character, and the text is its own escaped form.
pub fn escape_non_ascii(canonical: &str) -> Option<String> {
    let is_plain = |character: char| matches!(character, ' '..='~');
    if canonical.chars().all(is_plain) {
        return None;
    }
    let mut escaped = String::with_capacity(canonical.len() * 2);
    for character in canonical.chars() {
        if is_plain(character) {
            escaped.push(character);
            continue;
        }
        for unit in character.encode_utf16(&mut [0; 2]) {
            write!(escaped, "\\u{unit:04x}").expect("a text takes what is written to it");
        }
    }
    Some(escaped)
}

/// Appends a text as a JSON string with the shortest escapes.
pub fn write_text(text: &str, out: &mut Vec<u8>) {
    write_utf8(text, out);
}

impl Rule {
    fn order(self, a: &str, b: &str) -> Ordering {
        match self {
            Rule::Jcs | Rule::Exact => by_utf16(a, b),
            Rule::AsSent => a.cmp(b),
        }
    }
}

struct Writer<'a, 'o> {
    rule: Rule,
    out: &'o mut Vec<u8>,
    /// The members of all objects that are open, the outermost first, in one buffer.
    members: Vec<Written<'a>>,
}

/// A member, and its range in the output.
struct Written<'a> {
    key: Cow<'a, str>,
    place: Range<usize>,
}

impl<'a> Writer<'a, '_> {
    /// Recursion is bounded: checked texts are at most [`super::json::DEPTH_MAX`] deep.
    fn value(&mut self, cursor: &mut Cursor<'a>) {
        match cursor.peek() {
            b'{' => self.object(cursor),
            b'[' => self.array(cursor),
            b'"' => write_utf8(&unescape(cursor.string()), self.out),
            b'-' | b'0'..=b'9' => self.number(cursor.scalar()),
            _ => self.out.extend_from_slice(cursor.scalar().as_bytes()),
        }
    }

    fn array(&mut self, cursor: &mut Cursor<'a>) {
        cursor.open();
        self.out.push(b'[');
        let start = self.out.len();
        while cursor.next_item() {
            if self.out.len() > start {
                self.out.push(b',');
            }
            self.value(cursor);
        }
        self.out.push(b']');
    }

    fn object(&mut self, cursor: &mut Cursor<'a>) {
        cursor.open();
        self.out.push(b'{');
        let (first, start) = (self.members.len(), self.out.len());
        let mut is_sorted = true;
        while cursor.next_item() {
            if self.out.len() > start {
                self.out.push(b',');
            }
            let key = unescape(cursor.key());
            is_sorted &= self.members[first..].last().is_none_or(|last| self.rule.order(&last.key, &key).is_lt());
            let from = self.out.len();
            write_utf8(&key, self.out);
            self.out.push(b':');
            self.value(cursor);
            self.members.push(Written { key, place: from..self.out.len() });
        }
        if !is_sorted {
            self.sort_members(first, start);
        }
        self.members.truncate(first);
        self.out.push(b'}');
    }

    /// Sorts the members from `first` on, which were written from `start` on.
    fn sort_members(&mut self, first: usize, start: usize) {
        let mut members = self.members.split_off(first);
        members.sort_unstable_by(|a, b| self.rule.order(&a.key, &b.key));
        let written = self.out.split_off(start);
        for (index, member) in members.iter().enumerate() {
            if index > 0 {
                self.out.push(b',');
            }
            self.out.extend_from_slice(&written[member.place.start - start..member.place.end - start]);
        }
    }

    fn number(&mut self, lexeme: &str) {
        if self.rule == Rule::AsSent || is_plain(lexeme) {
            return self.out.extend_from_slice(lexeme.as_bytes());
        }
        let number: f64 = lexeme.parse().expect("the text was checked: it is a number");
        let mut buffer = ryu_js::Buffer::new();
        // RFC 8785 defines no form for numbers beyond the range of doubles: they are written as sent.
        let printed = if number.is_finite() { buffer.format_finite(number) } else { lexeme };
        let keeps_digits = self.rule == Rule::Exact && number != 0.0 && is_whole(lexeme) && !is_same(lexeme, printed);
        self.out.extend_from_slice(if keeps_digits { lexeme } else { printed }.as_bytes());
    }
}

/// Whether a number is whole, short and not -0: ECMAScript prints such a number unchanged.
fn is_plain(lexeme: &str) -> bool {
    lexeme.len() <= PLAIN_DIGITS_MAX && lexeme != "-0" && is_whole(lexeme)
}

/// Whether a number is written without fraction and exponent.
fn is_whole(lexeme: &str) -> bool {
    lexeme.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-')
}

/// Whether the text that ECMAScript prints for a double has the same value as the whole number that was parsed to this
/// double. ECMAScript prints all digits below 10^21, and above it the shortest mantissa with an exponent: -1.5e+21. To
/// compare with the double's own value is not enough: 9223372036854775808 is 2^63, but is printed as
/// 9223372036854776000.
fn is_same(whole: &str, printed: &str) -> bool {
    let Some((mantissa, exponent)) = printed.split_once("e+") else { return whole == printed };
    let exponent: usize = exponent.parse().expect("ECMAScript's exponents are numbers");
    let digits = whole.trim_start_matches('-');
    let significant = mantissa.bytes().filter(u8::is_ascii_digit);
    digits.len() == exponent + 1 && digits.trim_end_matches('0').bytes().eq(significant)
}
