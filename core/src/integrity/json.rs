//! JSON texts: checked once as a whole, then read member by member in place.
//!
//! No tree is built. [`parse`] checks the text in one pass (RFC 8259, strictly) and refuses what two parsers could
//! interpret differently: duplicate keys at any depth, lone surrogates, bytes after the end. After that every [`Value`]
//! is a slice of a valid text, and reading it cannot fail. The check costs one pass, O(k log k) for an object of more
//! than eight keys that are not sorted, and one buffer: 40 bytes for each member of the objects that are open at a
//! time.

use super::check::Checker;
use super::cursor::Cursor;
use super::text::unescape;
use std::borrow::Cow;
use std::fmt;

/// The greatest nesting of a text: deeper ones exhaust the stacks of other parsers.
pub const DEPTH_MAX: usize = 128;

/// 2^53: up to it a double represents every whole number.
const EXACT_MAX: f64 = 9_007_199_254_740_992.0;

/// A value: its exact text, without white space around it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Value<'a> {
    text: &'a str,
}

/// An object whose members are looked up by name.
#[derive(Clone, Debug)]
pub struct Object<'a> {
    members: Vec<Member<'a>>,
}

/// A key and its value.
pub type Member<'a> = (Cow<'a, str>, Value<'a>);

/// Why a text is not JSON that the hub accepts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct JsonError {
    pub reason: Reason,
    /// The byte at which the error was found.
    pub offset: usize,
}

/// What is wrong with a text.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reason {
    /// Not UTF-8.
    Encoding,
    /// A value is missing or invalid.
    Value,
    /// It ends too early.
    End,
    /// Bytes follow the value.
    Trailing,
    /// A comma or a closing bracket is missing.
    Separator,
    /// An object's key is not a string, or has no colon.
    Key,
    /// A number is not written as JSON allows.
    Number,
    /// A string has a control character or an unknown escape.
    Text,
    /// A surrogate is not part of a pair.
    Surrogate,
    /// The object that begins at the offset has a key twice.
    Duplicate,
    /// It is nested too deeply.
    Depth,
    /// It is JSON, but not an object.
    NotAnObject,
}

/// Checks a text; returns its value.
pub fn parse(bytes: &[u8]) -> Result<Value<'_>, JsonError> {
    Checker::check(bytes).map(|(value, _)| value)
}

/// Checks a text that must be an object; returns its members.
pub fn parse_object(bytes: &[u8]) -> Result<Object<'_>, JsonError> {
    let (value, members) = Checker::check(bytes)?;
    if value.kind() == Kind::Object {
        Ok(Object { members })
    } else {
        Err(JsonError { reason: Reason::NotAnObject, offset: value.text.as_ptr().addr() - bytes.as_ptr().addr() })
    }
}

/// The type of a value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Null,
    Bool,
    Number,
    String,
    Array,
    Object,
}

impl<'a> Value<'a> {
    /// A value in a text that was checked.
    pub(super) fn checked(text: &'a str) -> Self {
        Value { text }
    }

    pub(super) fn cursor(&self) -> Cursor<'a> {
        Cursor::new(self.text)
    }

    pub fn kind(&self) -> Kind {
        match self.text.as_bytes()[0] {
            b'n' => Kind::Null,
            b't' | b'f' => Kind::Bool,
            b'"' => Kind::String,
            b'[' => Kind::Array,
            b'{' => Kind::Object,
            _ => Kind::Number,
        }
    }

    pub fn as_bytes(&self) -> &'a [u8] {
        self.text.as_bytes()
    }

    pub fn text(&self) -> &'a str {
        self.text
    }

    pub fn is_null(&self) -> bool {
        self.text == "null"
    }

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

    /// A whole number from 0 to 2^64 - 1.
    /// `5.0` and `5e0` are 5: some languages have only one type of numbers. Beyond 2^53 a whole number must be written
    /// without fraction and exponent, since its exact value is not certain otherwise.
    pub fn as_u64(&self) -> Option<u64> {
        self.text.parse().ok().or_else(|| {
            let number = self.as_f64()?;
            ((0.0..=EXACT_MAX).contains(&number) && number.fract() == 0.0).then_some(number as u64)
        })
    }

    /// A number as the nearest double; `None` beyond the range of doubles (`1e999`).
    pub fn as_f64(&self) -> Option<f64> {
        // Rust's own parser accepts more than JSON ("inf"), so the value must be a JSON number first.
        if self.is_number() { self.text.parse().ok().filter(|number: &f64| number.is_finite()) } else { None }
    }

    pub fn is_number(&self) -> bool {
        self.kind() == Kind::Number
    }

    /// The elements of an array.
    pub fn as_array(&self) -> Option<Elements<'a>> {
        (self.kind() == Kind::Array).then(|| Elements { cursor: self.opened() })
    }

    /// The members of an object, in their order in the text.
    pub fn members(&self) -> Option<Members<'a>> {
        (self.kind() == Kind::Object).then(|| Members { cursor: self.opened() })
    }

    /// The members of an object, to be looked up by name.
    pub fn as_object(&self) -> Option<Object<'a>> {
        Some(Object { members: self.members()?.collect() })
    }

    fn opened(&self) -> Option<Cursor<'a>> {
        let mut cursor = self.cursor();
        cursor.open();
        Some(cursor)
    }
}

/// Payloads belong to clients and may be secret: only their size is shown.
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

    /// All members, in any order.
    pub fn members(&self) -> &[Member<'a>] {
        &self.members
    }
}

/// The elements of an array.
#[derive(Clone)]
pub struct Elements<'a> {
    /// `None` at the end.
    cursor: Option<Cursor<'a>>,
}

/// The members of an object.
#[derive(Clone)]
pub struct Members<'a> {
    /// `None` at the end.
    cursor: Option<Cursor<'a>>,
}

impl<'a> Iterator for Elements<'a> {
    type Item = Value<'a>;
    fn next(&mut self) -> Option<Value<'a>> {
        let cursor = self.cursor.as_mut()?;
        if !cursor.next_item() {
            self.cursor = None;
            return None;
        }
        Some(Value { text: cursor.value() })
    }
}

impl<'a> Iterator for Members<'a> {
    type Item = Member<'a>;
    fn next(&mut self) -> Option<Self::Item> {
        let cursor = self.cursor.as_mut()?;
        if !cursor.next_item() {
            self.cursor = None;
            return None;
        }
        let key = unescape(cursor.key());
        Some((key, Value { text: cursor.value() }))
    }
}

impl fmt::Display for JsonError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.reason {
            Reason::Encoding => "it is not UTF-8",
            Reason::Value => "a value is missing or invalid",
            Reason::End => "it ends too early",
            Reason::Trailing => "bytes follow the value",
            Reason::Separator => "a comma or a closing bracket is missing",
            Reason::Key => "a key is not a string, or has no colon",
            Reason::Number => "a number is not written as JSON allows",
            Reason::Text => "a string has a control character or an unknown escape",
            Reason::Surrogate => "a surrogate is not part of a pair",
            Reason::Duplicate => "an object has a key twice",
            Reason::Depth => "it is nested deeper than 128 levels",
            Reason::NotAnObject => "it is JSON, but not an object",
        };
        write!(f, "{what} (byte {})", self.offset)
    }
}

impl std::error::Error for JsonError {}

const _: () = assert!(DEPTH_MAX == 128, "the message names it");
