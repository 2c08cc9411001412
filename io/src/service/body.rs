//! Bodies: the clients' JSON, turned into typed values once, at the edge.
//!
//! A reader's error names the member that is wrong and the values that are allowed; it never echoes the value. A member
//! that is `null` counts as absent. The JSON is validated as a whole before any member is read. Unknown members are
//! ignored, unless they are misspelled ones of ours.

use super::problem::Problem;
use super::spelling;
use crate::rfc3339;
use sheratan_core::integrity::json::{self, Member, Object, Value};
use sheratan_core::limits::CAPABILITIES_MAX;
use sheratan_core::{Millis, Name, NameSet, Payload, Utc};
use std::borrow::Cow;
use std::ops::RangeInclusive;

/// The longest name of a member that is shown.
const SHOWN_BYTES_MAX: usize = 32;

/// The members of a request.
pub struct Fields<'a> {
    object: Object<'a>,
}

impl<'a> Fields<'a> {
    /// The members of a body, of which the route knows `known`; O(length), in one pass.
    pub fn parse(body: &'a [u8], known: &[&str]) -> Result<Self, Problem> {
        let object = json::parse_object(body)
            .map_err(|error| Problem::bad_request(format!("the body is not a JSON object: {error}")))?;
        Fields::of(object, known)
    }

    /// The members of an object of which `known` are known.
    pub fn of(object: Object<'a>, known: &[&str]) -> Result<Self, Problem> {
        object.members().iter().try_for_each(|(name, _)| spelling::check(name, known))?;
        Ok(Fields { object })
    }

    /// As [`Fields::parse`], but any member that is not known is refused: where it would mean more than was understood.
    pub fn parse_strict(body: &'a [u8], known: &[&str]) -> Result<Self, Problem> {
        let fields = Fields::parse(body, known)?;
        match fields.object.members().iter().find(|(name, _)| !known.contains(&&**name)) {
            None => Ok(fields),
            Some((name, _)) => {
                let known = known.join(", ");
                Err(Problem::bad_request(format!("{} is not known here; known are {known}", member_named(name))))
            }
        }
    }

    /// Whether there is no member.
    pub fn is_empty(&self) -> bool {
        self.object.members().is_empty()
    }

    /// Whether a member is there, also if it is `null`.
    pub fn has(&self, key: &str) -> bool {
        self.object.get(key).is_some()
    }

    /// All members as they were sent, those that are `null` or unknown included.
    pub fn members(&self) -> &[Member<'a>] {
        self.object.members()
    }

    /// The JSON text of a member.
    pub fn raw(&self, key: &str) -> Option<Value<'a>> {
        self.object.get(key).filter(|value| !value.is_null())
    }

    /// A member of any type, as the client sent it.
    pub fn payload(&self, key: &str) -> Option<Payload> {
        self.raw(key).map(|value| Payload::new(value.as_bytes()))
    }

    /// A member that is a text.
    pub fn text(&self, key: &str) -> Result<Option<Cow<'a, str>>, Problem> {
        self.read(key, "a string", |value| value.as_str())
    }

    /// A member that is one of the words that `parse` knows.
    pub fn word<T>(&self, key: &str, words: &str, parse: impl Fn(&str) -> Option<T>) -> Result<Option<T>, Problem> {
        self.read(key, words, |value| parse(&value.as_str()?))
    }

    /// A member that is `true` or `false`.
    pub fn flag(&self, key: &str) -> Result<Option<bool>, Problem> {
        self.read(key, "true or false", |value| value.as_bool())
    }

    /// A member that is a whole number in a range.
    pub fn number(&self, key: &str, range: RangeInclusive<u64>) -> Result<Option<u64>, Problem> {
        let Some(value) = self.raw(key) else { return Ok(None) };
        number(key, value.as_u64(), range).map(Some)
    }

    /// A member that is a duration in seconds, whole or not.
    pub fn seconds(&self, key: &str, range: RangeInclusive<u64>) -> Result<Option<Millis>, Problem> {
        let Some(value) = self.raw(key) else { return Ok(None) };
        let (min, max) = (*range.start() as f64, *range.end() as f64);
        match value.as_f64() {
            Some(secs) if (min..=max).contains(&secs) => Ok(Some(Millis::new((secs * 1000.0).round() as u64))),
            _ => Err(Problem::bad_request(format!("{key} must be a number of seconds from {min} to {max}"))),
        }
    }

    /// A member that is an RFC 3339 instant.
    pub fn instant(&self, key: &str) -> Result<Option<Utc>, Problem> {
        let Some(text) = self.text(key)? else { return Ok(None) };
        rfc3339::parse(&text).map(Some).map_err(|error| Problem::bad_request(format!("{key}: {error}")))
    }

    /// A member that is a name.
    pub fn name(&self, key: &str) -> Result<Option<Name>, Problem> {
        self.text(key)?.map(|text| name(key, &text)).transpose()
    }

    /// A member that is a key or an id that a client chose; a blank one is none.
    pub fn key(&self, key: &str) -> Result<Option<Name>, Problem> {
        self.text(key)?.map_or(Ok(None), |text| self::key(key, &text))
    }

    /// A member that is a name and must be there.
    pub fn required_name(&self, key: &str) -> Result<Name, Problem> {
        self.name(key)?.ok_or_else(|| missing(key))
    }

    /// A member that is a list of names.
    pub fn names(&self, key: &str, names_max: usize) -> Result<NameSet, Problem> {
        let Some(items) = self.array(key)? else { return Ok(NameSet::EMPTY) };
        let mut names = Vec::new();
        for item in items {
            let text = item.as_str().ok_or_else(|| Problem::bad_request(format!("{key} must be a list of strings")))?;
            names.push(name(key, &text)?);
            if names.len() > names_max {
                return Err(Problem::bad_request(format!("{key} must have at most {names_max} entries")));
            }
        }
        Ok(names.into())
    }

    /// A member that is a list of capabilities or requirements.
    pub fn capabilities(&self, key: &str) -> Result<NameSet, Problem> {
        self.names(key, CAPABILITIES_MAX)
    }

    /// A member that is a list.
    pub fn array(&self, key: &str) -> Result<Option<Vec<Value<'a>>>, Problem> {
        self.read(key, "a list", |value| value.as_array().map(Iterator::collect))
    }

    /// A member that is an object, of whose members `known` are known.
    pub fn object(&self, key: &str, known: &[&str]) -> Result<Option<Fields<'a>>, Problem> {
        let object = self.read(key, "an object", |value| value.as_object())?;
        object.map(|object| Fields::of(object, known)).transpose()
    }

    fn read<T>(&self, key: &str, what: &str, read: impl Fn(Value<'a>) -> Option<T>) -> Result<Option<T>, Problem> {
        let Some(value) = self.raw(key) else { return Ok(None) };
        read(value).map(Some).ok_or_else(|| Problem::bad_request(format!("{key} must be {what}")))
    }
}

/// Parses a name, without the white space around it; the error names the member. Characters that are not seen are
/// refused: two names that look alike would be two nodes or kinds.
pub fn name(key: &str, text: &str) -> Result<Name, Problem> {
    let text = text.trim();
    if text.chars().any(is_unseen) {
        return Err(Problem::bad_request(format!("{key} must not contain zero-width or bidirectional characters")));
    }
    Name::new(text).map_err(|error| Problem::bad_request(format!("{key} {error}")))
}

/// Parses a key or an id that a client chose, without the white space around it; a blank one is none.
pub fn key(member: &str, text: &str) -> Result<Option<Name>, Problem> {
    let text = text.trim();
    if text.is_empty() {
        return Ok(None);
    }
    Name::new(text).map(Some).map_err(|error| Problem::bad_request(format!("{member} {error}")))
}

/// Whether a character has no width, or changes the direction of others (Unicode's general category Cf, and the line and
/// paragraph separators).
fn is_unseen(character: char) -> bool {
    matches!(
        character,
        '\u{ad}'
            | '\u{61c}'
            | '\u{180e}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e007f}'
    )
}

/// The problem of a missing required member.
pub fn missing(key: &str) -> Problem {
    Problem::bad_request(format!("{key} is missing"))
}

/// Checks a whole number; the error names the member and the range.
pub fn number(key: &str, value: Option<u64>, range: RangeInclusive<u64>) -> Result<u64, Problem> {
    let (min, max) = (range.start(), range.end());
    value
        .filter(|value| range.contains(value))
        .ok_or_else(|| Problem::bad_request(format!("{key} must be a whole number from {min} to {max}")))
}

/// A member that is not ours, by its name if that can be shown.
fn member_named(name: &str) -> String {
    let is_shown =
        name.len() <= SHOWN_BYTES_MAX && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if is_shown { format!("the member {name}") } else { "a member".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_invalid_member_is_named_with_its_allowed_values() {
        let body = br#"{"s":"x","n":3,"f":1.5,"neg":-1,"list":["b","a","a"],"null":null,"time":"soon"}"#;
        let fields = Fields::parse(body, &[]).unwrap();
        let detail = |problem: Problem| problem.detail;
        assert_eq!(fields.number("n", 0..=3).unwrap(), Some(3));
        assert_eq!(detail(fields.number("n", 0..=2).unwrap_err()), "n must be a whole number from 0 to 2");
        assert_eq!(detail(fields.number("neg", 0..=2).unwrap_err()), "neg must be a whole number from 0 to 2");
        assert_eq!(detail(fields.number("s", 0..=2).unwrap_err()), "s must be a whole number from 0 to 2");
        assert_eq!(fields.number("null", 0..=2).unwrap(), None);
        assert_eq!(fields.seconds("f", 1..=2).unwrap(), Some(Millis::new(1500)));
        assert_eq!(detail(fields.flag("s").unwrap_err()), "s must be true or false");
        assert_eq!(detail(fields.required_name("null").unwrap_err()), "null is missing");
        assert_eq!(fields.names("list", 2).unwrap_err().detail, "list must have at most 2 entries");
        assert_eq!(fields.names("list", 3).unwrap().len(), 2);
        assert!(fields.instant("time").unwrap_err().detail.starts_with("time: expected an RFC 3339 instant"));
        assert!(Fields::parse(b"[1]", &[]).is_err());
        let misspelled = Fields::parse(br#"{"Kinds":[]}"#, &["kinds"]).err().expect("it is refused");
        assert!(misspelled.detail.starts_with("kinds is misspelled"));
    }

    #[test]
    fn names_have_no_white_space_around_them_and_nothing_unseen_in_them() {
        for text in ["a b", " a b", "a b\t", "\u{a0}a b\u{3000}\n"] {
            assert_eq!(&*name("kind", text).unwrap(), "a b", "{text:?}");
        }
        for text in ["", " ", "\u{a0}"] {
            assert_eq!(name("kind", text).unwrap_err().detail, "kind must not be empty", "{text:?}");
        }
        for text in ["a\u{200b}", "\u{feff}a", "a\u{202e}b", "a\u{ad}b", "a\u{2028}b", "a\u{e0041}"] {
            let refused = name("kind", text).unwrap_err().detail;
            assert_eq!(refused, "kind must not contain zero-width or bidirectional characters", "{text:?}");
        }
        assert!(name("kind", "a\u{0}b").is_err());
        assert_eq!(key("k", " \t").unwrap(), None);
        assert_eq!(key("k", " a\u{200d}b ").unwrap().as_deref(), Some("a\u{200d}b"));
        assert!(key("k", "a\nb").is_err());
    }
}
