//! JSON texts: checked once as a whole, then read member by member where they lie.
//!
//! There is no tree. [`parse`] walks the text once (RFC 8259, strictly) and refuses what two readers could understand
//! differently: duplicate keys at any depth, lone surrogates, bytes after the end. After that every [`Value`] is a
//! piece of a valid text, and reading it cannot fail. The check costs one pass, O(k log k) for an object of more than
//! eight keys that did not come sorted, and one buffer: 40 bytes for each member of the objects open at a time.

use super::check::Checker;
use super::cursor::Cursor;
use super::text::unescape;
use std::borrow::Cow;
use std::fmt;

/// Nesting that a text may have: deeper ones exhaust the stacks of other readers.
pub const DEPTH_MAX: usize = 128;

/// The whole numbers that a double tells from their neighbours end here.
const EXACT_MAX: f64 = 9_007_199_254_740_992.0;

/// A value: its exact text, without white space around it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Value<'a> {
    text: &'a str,
}

/// An object, its members looked up by name.
#[derive(Clone, Debug)]
pub struct Object<'a> {
    members: Vec<Member<'a>>,
}

/// A key and its value.
pub type Member<'a> = (Cow<'a, str>, Value<'a>);

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
    /// A key comes twice in the object that begins there.
    Duplicate,
    /// It is nested too deep.
    Depth,
    /// It is JSON, but no object.
    NotAnObject,
}

/// Checks a text; gives its value.
pub fn parse(bytes: &[u8]) -> Result<Value<'_>, JsonError> {
    Checker::check(bytes).map(|(value, _)| value)
}

/// Checks a text that must be an object; gives its members.
pub fn parse_object(bytes: &[u8]) -> Result<Object<'_>, JsonError> {
    let (value, members) = Checker::check(bytes)?;
    if value.kind() == Kind::Object {
        Ok(Object { members })
    } else {
        Err(JsonError { reason: Reason::NotAnObject, offset: value.text.as_ptr().addr() - bytes.as_ptr().addr() })
    }
}

/// What a value is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool,
    /// A number.
    Number,
    /// A string.
    String,
    /// An array.
    Array,
    /// An object.
    Object,
}

impl<'a> Value<'a> {
    /// A piece of a text that was checked.
    pub(super) fn checked(text: &'a str) -> Self {
        Value { text }
    }

    /// The start of the text.
    pub(super) fn cursor(&self) -> Cursor<'a> {
        Cursor::new(self.text)
    }

    /// What it is.
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

    /// A whole number from 0 to 2^64 - 1.
    ///
    /// `5.0` and `5e0` are 5: there are languages that know one kind of number. Beyond 2^53 a whole number must be
    /// written without fraction and exponent, since what was meant is not certain any more.
    pub fn as_u64(&self) -> Option<u64> {
        self.text.parse().ok().or_else(|| {
            let number = self.as_f64()?;
            ((0.0..=EXACT_MAX).contains(&number) && number.fract() == 0.0).then_some(number as u64)
        })
    }

    /// A number, to the nearest double; `None` beyond the doubles (`1e999`).
    pub fn as_f64(&self) -> Option<f64> {
        // Rust's own reader takes more than JSON does ("inf"); what is a number here is one of JSON's.
        if self.is_number() { self.text.parse().ok().filter(|number: &f64| number.is_finite()) } else { None }
    }

    /// Whether it is a number.
    pub fn is_number(&self) -> bool {
        self.kind() == Kind::Number
    }

    /// The elements of an array.
    pub fn as_array(&self) -> Option<Elements<'a>> {
        (self.kind() == Kind::Array).then(|| Elements { cursor: self.opened() })
    }

    /// The members of an object, in the order they stand in.
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
