//! Bodies and queries: the clients' JSON and query strings, turned into typed values once, at the edge.
//!
//! A reader's error names the member that is wrong and the values that are allowed; it never echoes the value. A member
//! that is `null` counts as absent. The JSON is validated as a whole before any member is read.

use super::problem::Problem;
use crate::rfc3339;
use sheratan_core::integrity::json::{self, Object, Value};
use sheratan_core::limits::{CAPABILITIES_MAX, NAME_BYTES_MAX};
use sheratan_core::{Millis, Name, NameSet, Payload, Timestamp};
use std::borrow::Cow;
use std::ops::RangeInclusive;

/// The members of a request.
pub struct Fields<'a> {
    object: Object<'a>,
}

impl<'a> Fields<'a> {
    /// The members of a body; O(length), in one pass.
    pub fn parse(body: &'a [u8]) -> Result<Self, Problem> {
        let object = json::parse_object(body)
            .map_err(|error| Problem::bad_request(format!("the body is not a JSON object: {error}")))?;
        Ok(Fields { object })
    }

    /// The members of an object that is a value in a body.
    pub fn of(value: Value<'a>) -> Option<Self> {
        value.as_object().map(|object| Fields { object })
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
    pub fn instant(&self, key: &str) -> Result<Option<Timestamp>, Problem> {
        let Some(text) = self.text(key)? else { return Ok(None) };
        rfc3339::parse(&text).map(Some).map_err(|error| Problem::bad_request(format!("{key}: {error}")))
    }

    /// A member that is a name.
    pub fn name(&self, key: &str) -> Result<Option<Name>, Problem> {
        self.text(key)?.map(|text| name(key, &text)).transpose()
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

    /// A member that is an object.
    pub fn object(&self, key: &str) -> Result<Option<Fields<'a>>, Problem> {
        self.read(key, "an object", Fields::of)
    }

    fn read<T>(&self, key: &str, what: &str, read: impl Fn(Value<'a>) -> Option<T>) -> Result<Option<T>, Problem> {
        let Some(value) = self.raw(key) else { return Ok(None) };
        read(value).map(Some).ok_or_else(|| Problem::bad_request(format!("{key} must be {what}")))
    }
}

/// The parameters of a query string (`application/x-www-form-urlencoded`).
pub struct Query<'a>(&'a str);

impl<'a> Query<'a> {
    /// The parameters of a query string, which follows the path's `?`.
    pub fn new(query: Option<&'a str>) -> Self {
        Query(query.unwrap_or(""))
    }

    /// The first parameter with this name, decoded.
    pub fn get(&self, key: &str) -> Result<Option<Cow<'a, str>>, Problem> {
        let found = self.0.split('&').find_map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (name == key).then_some(value)
        });
        found
            .map(|value| decode(value).ok_or_else(|| Problem::bad_request(format!("{key} is not well encoded"))))
            .transpose()
    }

    /// A parameter that is a whole number in a range.
    pub fn number(&self, key: &str, range: RangeInclusive<u64>) -> Result<Option<u64>, Problem> {
        let Some(text) = self.get(key)? else { return Ok(None) };
        number(key, text.parse().ok(), range).map(Some)
    }

    /// A parameter that is a list of names, separated by commas.
    pub fn names(&self, key: &str, names_max: usize) -> Result<NameSet, Problem> {
        let Some(text) = self.get(key)? else { return Ok(NameSet::EMPTY) };
        let names: Vec<_> =
            text.split(',').filter(|part| !part.is_empty()).map(|part| name(key, part)).collect::<Result<_, _>>()?;
        if names.len() > names_max {
            return Err(Problem::bad_request(format!("{key} must have at most {names_max} entries")));
        }
        Ok(names.into())
    }
}

/// Decodes a percent-encoded text; `None` if the encoding is invalid.
pub fn decode(text: &str) -> Option<Cow<'_, str>> {
    if !text.bytes().any(|byte| byte == b'%' || byte == b'+') {
        return Some(Cow::Borrowed(text));
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digit = |byte: Option<u8>| (byte? as char).to_digit(16);
                (digit(rest.next())? * 16 + digit(rest.next())?) as u8
            }
            other => other,
        });
    }
    String::from_utf8(bytes).ok().map(Cow::Owned)
}

/// Parses a name; the error names the member.
pub fn name(key: &str, text: &str) -> Result<Name, Problem> {
    Name::new(text).map_err(|error| Problem::bad_request(format!("{key} {error}")))
}

/// The problem of a missing required member.
pub fn missing(key: &str) -> Problem {
    Problem::bad_request(format!("{key} is missing"))
}

fn number(key: &str, value: Option<u64>, range: RangeInclusive<u64>) -> Result<u64, Problem> {
    let (min, max) = (range.start(), range.end());
    value
        .filter(|value| range.contains(value))
        .ok_or_else(|| Problem::bad_request(format!("{key} must be a whole number from {min} to {max}")))
}

const _: () = assert!(NAME_BYTES_MAX <= 1024, "a list of names fits a request's head");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_found_and_decoded() {
        let query = Query::new(Some("max=5&kinds=a%2Cb,c&node=x+y&flag&bad=%G1"));
        assert_eq!(query.number("max", 1..=10).unwrap(), Some(5));
        assert!(query.number("max", 6..=10).unwrap_err().detail.contains("from 6 to 10"));
        assert_eq!(query.get("node").unwrap().as_deref(), Some("x y"));
        assert_eq!(query.get("flag").unwrap().as_deref(), Some(""));
        assert_eq!(query.get("none").unwrap(), None);
        assert!(query.get("bad").is_err());
        let kinds: Vec<_> = query.names("kinds", 3).unwrap().iter().map(ToString::to_string).collect();
        assert_eq!(kinds, ["a", "b", "c"]);
        assert!(query.names("kinds", 2).is_err());
    }

    #[test]
    fn an_invalid_member_is_named_with_its_allowed_values() {
        let body = br#"{"s":"x","n":3,"f":1.5,"neg":-1,"list":["b","a","a"],"null":null,"time":"soon"}"#;
        let fields = Fields::parse(body).unwrap();
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
        assert!(Fields::parse(b"[1]").is_err());
    }
}
