//! JSON texts: validated once as a whole, then read member by member where they lie.
//!
//! There is no tree. [`parse`] walks the text once (RFC 8259, strictly) and refuses what two readers could understand
//! differently: duplicate keys at any depth, lone surrogates, bytes after the end. After that every [`Value`] is a piece
//! of a valid text, and reading it cannot fail. Validation costs one pass, and O(k log k) for the k keys of an object.

use std::borrow::Cow;
use std::fmt;

/// Nesting that a text may have: deeper ones exhaust the stacks of other readers.
pub const DEPTH_MAX: usize = 128;

/// Objects of so few keys are checked for duplicates pair by pair, which is faster than sorting.
const FEW_KEYS: usize = 8;

/// A value: its exact text, without white space around it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Value<'a> {
    text: &'a str,
}

/// An object, its members looked up by name.
#[derive(Clone, Debug)]
pub struct Object<'a> {
    members: Vec<(Cow<'a, str>, Value<'a>)>,
}

/// A text is no JSON that the hub takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct JsonError {
    /// What is wrong.
    pub reason: Reason,
    /// The byte at which it shows.
    pub offset: usize,
}

/// What is wrong with a text.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reason {
    /// Not UTF-8.
    Encoding,
    /// A value is missing or is none.
    Value,
    /// It ends too early.
    End,
    /// There is more after the value.
    Trailing,
    /// A comma or a closing bracket is missing.
    Separator,
    /// An object's key is no string, or has no colon.
    Key,
    /// A number is not one of JSON's.
    Number,
    /// A string has a control character or an unknown escape.
    Text,
    /// Half of a surrogate pair stands alone.
    Surrogate,
    /// A key comes twice.
    Duplicate,
    /// It is nested too deep.
    Depth,
    /// It is JSON, but no object.
    NotAnObject,
}

/// Validates a text; gives its value.
pub fn parse(bytes: &[u8]) -> Result<Value<'_>, JsonError> {
    let text = std::str::from_utf8(bytes)
        .map_err(|error| JsonError { reason: Reason::Encoding, offset: error.valid_up_to() })?;
    let mut checker = Checker { text, at: 0 };
    checker.white_space();
    let start = checker.at;
    checker.value(DEPTH_MAX)?;
    let end = checker.at;
    checker.white_space();
    if checker.at < text.len() {
        return checker.fail(Reason::Trailing);
    }
    Ok(Value { text: &text[start..end] })
}

/// Validates a text that must be an object.
pub fn parse_object(bytes: &[u8]) -> Result<Object<'_>, JsonError> {
    parse(bytes)?.as_object().ok_or(JsonError { reason: Reason::NotAnObject, offset: 0 })
}

impl<'a> Value<'a> {
    /// The text.
    pub fn as_bytes(&self) -> &'a [u8] {
        self.text.as_bytes()
    }

    /// The text.
    pub fn text(&self) -> &'a str {
        self.text
    }

    /// Whether it is `null`.
    pub fn is_null(&self) -> bool {
        self.text == "null"
    }

    /// The truth value.
    pub fn as_bool(&self) -> Option<bool> {
        match self.text {
            "true" => Some(true),
            "false" => Some(false),
            _ => None,
        }
    }

    /// The characters of a string; borrowed if it has no escapes.
    pub fn as_str(&self) -> Option<Cow<'a, str>> {
        let inner = self.text.strip_prefix('"')?;
        Some(unescape(&inner[..inner.len() - 1]))
    }

    /// A whole number, written without fraction or exponent.
    pub fn as_u64(&self) -> Option<u64> {
        self.text.parse().ok()
    }

    /// A number, to the nearest double.
    pub fn as_f64(&self) -> Option<f64> {
        // Rust's own reader takes more than JSON does ("inf"); what starts as a number here is one of JSON's.
        if self.is_number() { self.text.parse().ok() } else { None }
    }

    /// Whether it is a number.
    pub fn is_number(&self) -> bool {
        self.text.starts_with(|first: char| first == '-' || first.is_ascii_digit())
    }

    /// The elements of an array.
    pub fn as_array(&self) -> Option<Elements<'a>> {
        self.text.starts_with('[').then(|| Elements { rest: &self.text[1..] })
    }

    /// The members of an object, in the order they stand in.
    pub fn members(&self) -> Option<Members<'a>> {
        self.text.starts_with('{').then(|| Members { rest: &self.text[1..] })
    }

    /// The members of an object, to be looked up by name.
    pub fn as_object(&self) -> Option<Object<'a>> {
        Some(Object { members: self.members()?.collect() })
    }
}

/// Payloads are the clients' own: their size is all that is shown.
impl fmt::Debug for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Value({} bytes)", self.text.len())
    }
}

impl<'a> Object<'a> {
    /// The member of that name. O(members): requests have a dozen.
    pub fn get(&self, key: &str) -> Option<Value<'a>> {
        self.members.iter().find(|(name, _)| name == key).map(|(_, value)| *value)
    }
}

/// The elements of an array.
#[derive(Clone, Debug)]
pub struct Elements<'a> {
    rest: &'a str,
}

/// The members of an object.
#[derive(Clone, Debug)]
pub struct Members<'a> {
    rest: &'a str,
}

impl<'a> Iterator for Elements<'a> {
    type Item = Value<'a>;
    fn next(&mut self) -> Option<Value<'a>> {
        let rest = skip_to_item(self.rest)?;
        let end = value_end(rest);
        self.rest = &rest[end..];
        Some(Value { text: &rest[..end] })
    }
}

impl<'a> Iterator for Members<'a> {
    type Item = (Cow<'a, str>, Value<'a>);
    fn next(&mut self) -> Option<Self::Item> {
        let rest = skip_to_item(self.rest)?;
        let key_end = value_end(rest);
        let key = unescape(&rest[1..key_end - 1]);
        let value = rest[key_end..].trim_start_matches(|c: char| c == ':' || is_white(c));
        let end = value_end(value);
        self.rest = &value[end..];
        Some((key, Value { text: &value[..end] }))
    }
}

/// The rest from the next element or key on; `None` at the closing bracket.
fn skip_to_item(rest: &str) -> Option<&str> {
    let rest = rest.trim_start_matches(|c: char| c == ',' || is_white(c));
    (!rest.starts_with([']', '}'])).then_some(rest)
}

/// Where the value that a valid text starts with ends.
fn value_end(text: &str) -> usize {
    let bytes = text.as_bytes();
    match bytes[0] {
        b'"' => string_end(bytes, 0),
        b'{' | b'[' => {
            let (mut at, mut depth) = (0, 0usize);
            loop {
                match bytes[at] {
                    b'"' => {
                        at = string_end(bytes, at);
                        continue;
                    }
                    b'{' | b'[' => depth += 1,
                    b'}' | b']' if depth == 1 => return at + 1,
                    b'}' | b']' => depth -= 1,
                    _ => {}
                }
                at += 1;
            }
        }
        _ => bytes
            .iter()
            .position(|byte| matches!(byte, b',' | b']' | b'}' | b':') || is_white(*byte as char))
            .unwrap_or(bytes.len()),
    }
}

/// Behind the closing quote of the string that starts at `at`.
fn string_end(bytes: &[u8], mut at: usize) -> usize {
    at += 1;
    loop {
        match bytes[at] {
            b'"' => return at + 1,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

fn is_white(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r')
}

/// The characters that a valid string's inside stands for.
fn unescape(inner: &str) -> Cow<'_, str> {
    if !inner.contains('\\') {
        return Cow::Borrowed(inner);
    }
    let mut text = String::with_capacity(inner.len());
    let mut rest = inner;
    while let Some(at) = rest.find('\\') {
        text.push_str(&rest[..at]);
        let (character, length) = escape(&rest[at..]).expect("the text was validated");
        text.push(character);
        rest = &rest[at + length..];
    }
    text.push_str(rest);
    Cow::Owned(text)
}

/// The character that an escape stands for, and the escape's length.
fn escape(text: &str) -> Result<(char, usize), Reason> {
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

/// Walks a text once.
struct Checker<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Checker<'a> {
    fn value(&mut self, depth: usize) -> Result<(), JsonError> {
        match self.peek() {
            Some(b'"') => self.string(),
            Some(b'{') => self.object(depth),
            Some(b'[') => self.array(depth),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b't') => self.word("true"),
            Some(b'f') => self.word("false"),
            Some(b'n') => self.word("null"),
            Some(_) => self.fail(Reason::Value),
            None => self.fail(Reason::End),
        }
    }

    fn array(&mut self, depth: usize) -> Result<(), JsonError> {
        self.open(depth)?;
        if self.take(b']') {
            return Ok(());
        }
        loop {
            self.value(depth - 1)?;
            self.white_space();
            if self.take(b']') {
                return Ok(());
            }
            self.separator()?;
        }
    }

    fn object(&mut self, depth: usize) -> Result<(), JsonError> {
        let start = self.at;
        self.open(depth)?;
        if self.take(b'}') {
            return Ok(());
        }
        let mut keys = Vec::new();
        loop {
            let key_start = self.at;
            if self.peek() != Some(b'"') {
                return self.fail(Reason::Key);
            }
            self.string()?;
            keys.push(unescape(&self.text[key_start + 1..self.at - 1]));
            self.white_space();
            if !self.take(b':') {
                return self.fail(Reason::Key);
            }
            self.white_space();
            self.value(depth - 1)?;
            self.white_space();
            if self.take(b'}') {
                break;
            }
            self.separator()?;
        }
        if has_duplicate(&mut keys) { Err(JsonError { reason: Reason::Duplicate, offset: start }) } else { Ok(()) }
    }

    fn open(&mut self, depth: usize) -> Result<(), JsonError> {
        if depth == 0 {
            return self.fail(Reason::Depth);
        }
        self.at += 1;
        self.white_space();
        Ok(())
    }

    fn separator(&mut self) -> Result<(), JsonError> {
        match self.peek() {
            Some(b',') => {
                self.at += 1;
                self.white_space();
                Ok(())
            }
            Some(_) => self.fail(Reason::Separator),
            None => self.fail(Reason::End),
        }
    }

    fn string(&mut self) -> Result<(), JsonError> {
        self.at += 1;
        loop {
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(());
                }
                Some(b'\\') => match escape(&self.text[self.at..]) {
                    Ok((_, length)) => self.at += length,
                    Err(reason) => return self.fail(reason),
                },
                Some(0..0x20) => return self.fail(Reason::Text),
                Some(_) => self.at += 1,
                None => return self.fail(Reason::End),
            }
        }
    }

    fn number(&mut self) -> Result<(), JsonError> {
        self.take(b'-');
        if self.take(b'0') {
            if matches!(self.peek(), Some(b'0'..=b'9')) {
                return self.fail(Reason::Number);
            }
        } else {
            self.digits()?;
        }
        if self.take(b'.') {
            self.digits()?;
        }
        if self.take(b'e') || self.take(b'E') {
            if !self.take(b'+') {
                self.take(b'-');
            }
            self.digits()?;
        }
        Ok(())
    }

    fn digits(&mut self) -> Result<(), JsonError> {
        let start = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        if self.at == start { self.fail(Reason::Number) } else { Ok(()) }
    }

    fn word(&mut self, word: &str) -> Result<(), JsonError> {
        if !self.text[self.at..].starts_with(word) {
            return self.fail(Reason::Value);
        }
        self.at += word.len();
        match self.peek() {
            Some(byte) if byte.is_ascii_alphanumeric() => self.fail(Reason::Value),
            _ => Ok(()),
        }
    }

    fn white_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn take(&mut self, byte: u8) -> bool {
        let is_next = self.peek() == Some(byte);
        self.at += usize::from(is_next);
        is_next
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn fail<T>(&self, reason: Reason) -> Result<T, JsonError> {
        Err(JsonError { reason, offset: self.at })
    }
}

fn has_duplicate(keys: &mut [Cow<str>]) -> bool {
    if keys.len() <= FEW_KEYS {
        return (1..keys.len()).any(|at| keys[..at].contains(&keys[at]));
    }
    keys.sort_unstable();
    keys.windows(2).any(|pair| pair[0] == pair[1])
}

impl fmt::Display for JsonError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.reason {
            Reason::Encoding => "it is not UTF-8",
            Reason::Value => "a value is missing or is none",
            Reason::End => "it ends too early",
            Reason::Trailing => "there is more after the value",
            Reason::Separator => "a comma or a closing bracket is missing",
            Reason::Key => "a key is no string, or has no colon",
            Reason::Number => "a number is not one of JSON's",
            Reason::Text => "a string has a control character or an unknown escape",
            Reason::Surrogate => "half of a surrogate pair stands alone",
            Reason::Duplicate => "a key comes twice in one object",
            Reason::Depth => "it is nested deeper than 128 levels",
            Reason::NotAnObject => "it is JSON of another kind",
        };
        write!(f, "{what} (byte {})", self.offset)
    }
}

impl std::error::Error for JsonError {}
const _: () = assert!(DEPTH_MAX == 128, "the message names it");
