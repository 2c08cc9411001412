//! JSON strings: reading and writing of escapes, and the two orders by which keys are sorted.

use super::json::Reason;
use std::borrow::Cow;
use std::cmp::Ordering;

/// The index of the first byte from `at` on that a string cannot contain unescaped: a quote, a backslash or a control
/// character; the length if there is none. Examines eight bytes at a time: most of a request is strings.
pub(super) fn plain_end(bytes: &[u8], mut at: usize) -> usize {
    while let Some(word) = bytes.get(at..).and_then(|rest| rest.first_chunk()) {
        let special = special_bytes(u64::from_le_bytes(*word));
        if special != 0 {
            return at + special.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    let rest = &bytes[at..];
    at + rest.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..0x20)).unwrap_or(rest.len())
}

/// Sets the high bit of each byte that is a quote, a backslash or below 0x20. A borrow may set it in higher bytes too,
/// so only the lowest one is meaningful.
const fn special_bytes(word: u64) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    let quote = word ^ (ONES * b'"' as u64);
    let backslash = word ^ (ONES * b'\\' as u64);
    let control = word.wrapping_sub(ONES * 0x20) & !word;
    (control | (quote.wrapping_sub(ONES) & !quote) | (backslash.wrapping_sub(ONES) & !backslash)) & (ONES * 0x80)
}

/// Unescapes the text between the quotes of a valid string; borrowed if it has no escapes.
pub(super) fn unescape(inner: &str) -> Cow<'_, str> {
    let Some(first) = inner.find('\\') else { return Cow::Borrowed(inner) };
    let mut text = String::with_capacity(inner.len());
    let mut rest = inner;
    let mut next = Some(first);
    while let Some(at) = next {
        text.push_str(&rest[..at]);
        let (character, length) = escape(&rest[at..]).expect("the text was validated");
        text.push(character);
        rest = &rest[at + length..];
        next = rest.find('\\');
    }
    text.push_str(rest);
    Cow::Owned(text)
}

/// The character that the escape at the start of a text represents, and the escape's length.
pub(super) fn escape(text: &str) -> Result<(char, usize), Reason> {
    let simple = match text.as_bytes().get(1) {
        Some(b'"') => '"',
        Some(b'\\') => '\\',
        Some(b'/') => '/',
        Some(b'b') => '\u{8}',
        Some(b'f') => '\u{c}',
        Some(b'n') => '\n',
        Some(b'r') => '\r',
        Some(b't') => '\t',
        Some(b'u') => return unicode_escape(text),
        _ => return Err(Reason::Text),
    };
    Ok((simple, 2))
}

fn unicode_escape(text: &str) -> Result<(char, usize), Reason> {
    let high = hex4(text, 2).ok_or(Reason::Text)?;
    if !(0xd800..0xe000).contains(&high) {
        return char::from_u32(high).map(|character| (character, 6)).ok_or(Reason::Surrogate);
    }
    let is_pair = high < 0xdc00 && text.as_bytes().get(6..8) == Some(b"\\u");
    let low = if is_pair { hex4(text, 8) } else { None };
    match low {
        Some(low @ 0xdc00..0xe000) => {
            let code = 0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00);
            char::from_u32(code).map(|character| (character, 12)).ok_or(Reason::Surrogate)
        }
        _ => Err(Reason::Surrogate),
    }
}

fn hex4(text: &str, at: usize) -> Option<u32> {
    let digits = text.as_bytes().get(at..at + 4)?;
    digits.iter().try_fold(0, |code, digit| Some(code << 4 | (*digit as char).to_digit(16)?))
}

/// Appends a text as a JSON string with the shortest escapes.
pub(super) fn write_utf8(text: &str, out: &mut Vec<u8>) {
    let bytes = text.as_bytes();
    out.push(b'"');
    let mut from = 0;
    loop {
        let end = plain_end(bytes, from);
        out.extend_from_slice(&bytes[from..end]);
        let Some(byte) = bytes.get(end) else { break };
        write_escape(*byte, out);
        from = end + 1;
    }
    out.push(b'"');
}

fn write_escape(byte: u8, out: &mut Vec<u8>) {
    let short = match byte {
        b'"' => b'"',
        b'\\' => b'\\',
        0x08 => b'b',
        0x0c => b'f',
        b'\n' => b'n',
        b'\r' => b'r',
        b'\t' => b't',
        _ => return write_unit(u16::from(byte), out),
    };
    out.extend_from_slice(&[b'\\', short]);
}

fn write_unit(unit: u16, out: &mut Vec<u8>) {
    let digit = |shift: u16| b"0123456789abcdef"[usize::from(unit >> shift & 0xf)];
    out.extend_from_slice(&[b'\\', b'u', digit(12), digit(8), digit(4), digit(0)]);
}

/// The order by UTF-16 code units.
/// It is the order of the UTF-8 bytes except for characters beyond the Basic Multilingual Plane, whose surrogates
/// (U+D800 to U+DFFF) sort before U+E000 to U+FFFF. In UTF-8 the latter begin with 0xEE or 0xEF and the former with
/// 0xF0 to 0xF4, and these bytes do not occur anywhere else.
pub(super) fn by_utf16(a: &str, b: &str) -> Ordering {
    let rank = |byte: u8| if matches!(byte, 0xee | 0xef) { byte + 0x10 } else { byte };
    let (a, b) = (a.as_bytes(), b.as_bytes());
    match a.iter().zip(b).find(|(a, b)| a != b) {
        Some((a, b)) => rank(*a).cmp(&rank(*b)),
        None => a.len().cmp(&b.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Characters on both sides of every boundary at which the two orders may differ.
    fn borders() -> impl Strategy<Value = String> {
        let border = prop::sample::select(
            "a\u{7f}\u{80}\u{7ff}\u{800}\u{d7ff}\u{e000}\u{efff}\u{f000}\u{ffff}\u{10000}\u{10ffff}"
                .chars()
                .collect::<Vec<_>>(),
        );
        prop::collection::vec(border, 0..4).prop_map(String::from_iter)
    }

    proptest! {
        #[test]
        fn the_order_by_utf16_is_that_of_the_code_units(a in borders(), b in borders()) {
            prop_assert_eq!(by_utf16(&a, &b), a.encode_utf16().cmp(b.encode_utf16()));
        }

        #[test]
        fn the_plain_end_is_the_first_special_byte(
            bytes in prop::collection::vec(prop_oneof![8 => any::<u8>(), 1 => 0x1e..0x24_u8, 1 => 0x5b..0x5e_u8], 0..40),
            from in 0..40_usize,
        ) {
            let from = from.min(bytes.len());
            let is_special = |byte: &u8| *byte < 0x20 || *byte == b'"' || *byte == b'\\';
            let expected = bytes[from..].iter().position(is_special).map_or(bytes.len(), |at| from + at);
            prop_assert_eq!(plain_end(&bytes, from), expected);
        }
    }
}
