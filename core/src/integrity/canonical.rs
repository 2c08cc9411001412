//! Canonical JSON: one text for all texts that mean the same, so that a hash can be taken of it.
//!
//! Two number rules are in use and both are accepted (see the wire contract). They differ in numbers and in the order
//! of keys beyond the Basic Multilingual Plane; most texts have neither, and one form for both.
//!
//! The form is written in one pass over the text, members in the order they came. Only where that was not the canonical
//! order are an object's members put in order afterwards, as pieces of what was written: no byte is parsed twice,
//! however deep it lies.

use super::cursor::Cursor;
use super::json::Value;
use super::text::{by_utf16, unescape, write_utf8};
use std::borrow::Cow;
use std::cmp::Ordering;
use std::ops::Range;

/// How numbers and strings are written and keys are sorted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rule {
    /// RFC 8785 (JCS): numbers as ECMAScript prints the double, keys by UTF-16 code units.
    Jcs,
    /// As [`Rule::Jcs`], but a whole number that ECMAScript would print as another one keeps its digits:
    /// 9007199254740993 is another payload than 9007199254740992, and 1000000000000000000000 is the same as 1e21.
    Exact,
    /// Numbers as they were sent, keys by code point: Python's `json.dumps` with `sort_keys=True`, `ensure_ascii=False`
    /// and separators without spaces.
    AsSent,
}

/// Whole numbers of so many digits are doubles, and ECMAScript prints them as they are.
const PLAIN_DIGITS_MAX: usize = 15;

/// Appends the canonical text of a value. O(n) in the text, O(k log k) more for an object whose k keys came in another
/// order, and a copy of that object.
pub fn write(value: Value, rule: Rule, out: &mut Vec<u8>) {
    let mut writer = Writer { rule, out, members: Vec::new() };
    writer.value(&mut value.cursor());
}

/// Appends a text as a string with the shortest escapes.
pub fn write_text(text: &str, out: &mut Vec<u8>) {
    write_utf8(text, out);
}

struct Writer<'a, 'o> {
    rule: Rule,
    out: &'o mut Vec<u8>,
    /// The members of the objects that are open, the outermost first: one buffer for all.
    members: Vec<Written<'a>>,
}

/// A member, and where it stands in what was written.
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
            is_sorted &= self.members[first..].last().is_none_or(|last| self.order(&last.key, &key).is_lt());
            let from = self.out.len();
            write_utf8(&key, self.out);
            self.out.push(b':');
            self.value(cursor);
            self.members.push(Written { key, place: from..self.out.len() });
        }
        if !is_sorted {
            self.put_in_order(first, start);
        }
        self.members.truncate(first);
        self.out.push(b'}');
    }

    /// Puts the members from `first` on in order; they were written from `start` on.
    fn put_in_order(&mut self, first: usize, start: usize) {
        let mut members = self.members.split_off(first);
        members.sort_unstable_by(|a, b| self.order(&a.key, &b.key));
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
        // Beyond the doubles RFC 8785 has no form: what was sent is as good as any.
        let printed = if number.is_finite() { buffer.format_finite(number) } else { lexeme };
        let keeps_digits = self.rule == Rule::Exact && number != 0.0 && is_whole(lexeme) && !is_same(lexeme, printed);
        self.out.extend_from_slice(if keeps_digits { lexeme } else { printed }.as_bytes());
    }

    fn order(&self, a: &str, b: &str) -> Ordering {
        match self.rule {
            Rule::Jcs | Rule::Exact => by_utf16(a, b),
            Rule::AsSent => a.cmp(b),
        }
    }
}

/// Whether a number is whole, short and not -0: ECMAScript prints such as they are.
fn is_plain(lexeme: &str) -> bool {
    lexeme.len() <= PLAIN_DIGITS_MAX && lexeme != "-0" && is_whole(lexeme)
}

/// Whether a number is written as a whole one: without a fraction and an exponent.
fn is_whole(lexeme: &str) -> bool {
    lexeme.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-')
}

/// Whether ECMAScript printed a double with the value that the whole number has which was read as this double. Below
/// 10^21 it prints all digits, from there on the shortest mantissa and the exponent: -1.5e+21. Asking for the double's
/// own value instead would not do: 9223372036854775808 is 2^63, printed as 9223372036854776000, which is another
/// number.
fn is_same(whole: &str, printed: &str) -> bool {
    let Some((mantissa, exponent)) = printed.split_once("e+") else { return whole == printed };
    let exponent: usize = exponent.parse().expect("ECMAScript's exponents are numbers");
    let digits = whole.trim_start_matches('-');
    let significant = mantissa.bytes().filter(u8::is_ascii_digit);
    digits.len() == exponent + 1 && digits.trim_end_matches('0').bytes().eq(significant)
}
