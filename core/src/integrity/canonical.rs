//! Canonical JSON: one text for all texts that mean the same, so that a hash can be taken of it.
//!
//! Two number rules are in use and both are accepted (see the wire contract). They differ in numbers and in the order of
//! keys beyond the Basic Multilingual Plane; most texts have neither, and one form for both.

use super::json::Value;
use std::borrow::Cow;
use std::cmp::Ordering;

/// How numbers are written and keys are sorted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rule {
    /// RFC 8785 (JCS): numbers as ECMAScript prints the double, keys by UTF-16 code units.
    Jcs,
    /// Numbers as they were sent, keys by code point: Python's `json.dumps` with `sort_keys=True`, `ensure_ascii=False`
    /// and separators without spaces.
    AsSent,
}

/// Appends the canonical text of a value. O(n log n) in the members of its largest object; nothing is sorted that came
/// sorted.
pub fn write(value: Value, rule: Rule, out: &mut Vec<u8>) {
    if let Some(members) = value.members() {
        write_object(members.collect(), rule, out);
    } else if let Some(elements) = value.as_array() {
        out.push(b'[');
        for (index, element) in elements.enumerate() {
            if index > 0 {
                out.push(b',');
            }
            write(element, rule, out);
        }
        out.push(b']');
    } else if let Some(text) = value.as_str() {
        write_text(&text, out);
    } else if value.is_number() {
        write_number(value, rule, out);
    } else {
        out.extend_from_slice(value.as_bytes());
    }
}

/// Appends a text as a string with the shortest escapes.
pub fn write_text(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    let mut plain_from = 0;
    for (at, byte) in text.bytes().enumerate() {
        let short = match byte {
            b'"' => b'"',
            b'\\' => b'\\',
            0x08 => b'b',
            0x0c => b'f',
            b'\n' => b'n',
            b'\r' => b'r',
            b'\t' => b't',
            0..0x20 => b'u',
            _ => continue,
        };
        out.extend_from_slice(&text.as_bytes()[plain_from..at]);
        out.extend_from_slice(&[b'\\', short]);
        if short == b'u' {
            let digit = |nibble: u8| b"0123456789abcdef"[usize::from(nibble)];
            out.extend_from_slice(&[b'0', b'0', digit(byte >> 4), digit(byte & 0xf)]);
        }
        plain_from = at + 1;
    }
    out.extend_from_slice(&text.as_bytes()[plain_from..]);
    out.push(b'"');
}

fn write_object(mut members: Vec<(Cow<str>, Value)>, rule: Rule, out: &mut Vec<u8>) {
    let order = |a: &str, b: &str| match rule {
        Rule::AsSent => a.cmp(b),
        Rule::Jcs => by_utf16(a, b),
    };
    if !members.is_sorted_by(|(a, _), (b, _)| order(a, b) == Ordering::Less) {
        members.sort_unstable_by(|(a, _), (b, _)| order(a, b));
    }
    out.push(b'{');
    for (index, (key, value)) in members.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        write_text(key, out);
        out.push(b':');
        write(*value, rule, out);
    }
    out.push(b'}');
}

fn write_number(value: Value, rule: Rule, out: &mut Vec<u8>) {
    let number = value.as_f64().filter(|number| rule == Rule::Jcs && number.is_finite());
    match number {
        Some(number) => out.extend_from_slice(ryu_js::Buffer::new().format_finite(number).as_bytes()),
        // Beyond the doubles RFC 8785 has no form: what was sent is as good as any.
        None => out.extend_from_slice(value.as_bytes()),
    }
}

/// UTF-16 order differs from UTF-8 order only where a surrogate meets U+E000 to U+FFFF.
fn by_utf16(a: &str, b: &str) -> Ordering {
    a.encode_utf16().cmp(b.encode_utf16())
}
