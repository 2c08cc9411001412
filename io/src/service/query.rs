//! Queries: the parameters of a request's query string (`application/x-www-form-urlencoded`), and what a path encodes.
//!
//! A parameter that the route does not know is ignored; one that it knows and cannot be understood as the client meant
//! it is refused: a text that is not well encoded, a single value that is given twice, a name that is misspelled.

use super::body;
use super::problem::Problem;
use super::spelling;
use percent_encoding::percent_decode_str;
use sheratan_core::{Name, NameSet};
use std::borrow::Cow;
use std::ops::RangeInclusive;

/// The known parameters of a query, in their order.
pub struct Query<'a> {
    values: Vec<(&'static str, Cow<'a, str>)>,
}

impl<'a> Query<'a> {
    /// The parameters of a query string, which follows the path's `?`. O(length).
    pub fn parse(query: Option<&'a str>, known: &'static [&'static str]) -> Result<Self, Problem> {
        let mut values = Vec::new();
        for pair in query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let Some(name) = decode_form(name) else { continue };
            match known.iter().find(|known| **known == name) {
                Some(known) => {
                    let value = decode_form(value);
                    let value = value.ok_or_else(|| Problem::bad_request(format!("{known} is not well encoded")))?;
                    values.push((*known, value));
                }
                None => spelling::check(&name, known)?,
            }
        }
        Ok(Query { values })
    }

    /// The value of a parameter.
    pub fn get(&self, key: &str) -> Result<Option<&str>, Problem> {
        let mut all = self.all(key);
        let first = all.next();
        match all.next() {
            None => Ok(first),
            Some(_) => Err(Problem::bad_request(format!("{key} is given more than once"))),
        }
    }

    /// A parameter that is a whole number in a range.
    pub fn number(&self, key: &str, range: RangeInclusive<u64>) -> Result<Option<u64>, Problem> {
        let Some(text) = self.get(key)? else { return Ok(None) };
        let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
        body::number(key, text.parse().ok().filter(|_| is_number), range).map(Some)
    }

    /// A parameter that is a name.
    pub fn name(&self, key: &str) -> Result<Option<Name>, Problem> {
        self.get(key)?.map(|text| body::name(key, text)).transpose()
    }

    /// A parameter that is a list of texts: repeated, separated by commas, or both.
    pub fn list(&self, key: &str) -> impl Iterator<Item = &str> {
        self.all(key).flat_map(|value| value.split(','))
    }

    /// A parameter that is a list of names.
    pub fn names(&self, key: &str, names_max: usize) -> Result<NameSet, Problem> {
        if self.all(key).any(|value| value.starts_with('[') && value.ends_with(']')) {
            return Err(Problem::bad_request(format!("{key} is a list of names with commas between them, not JSON")));
        }
        let names: Vec<_> = self.list(key).map(|text| body::name(key, text)).collect::<Result<_, _>>()?;
        if names.len() > names_max {
            return Err(Problem::bad_request(format!("{key} must have at most {names_max} entries")));
        }
        Ok(names.into())
    }

    fn all(&self, key: &str) -> impl Iterator<Item = &str> {
        self.values.iter().filter(move |(name, _)| *name == key).map(|(_, value)| &**value)
    }
}

/// Decodes a segment of a path, in which `+` is itself (RFC 3986, section 3.3); `None` if it is not well encoded.
pub fn decode_segment(text: &str) -> Option<Cow<'_, str>> {
    // The library leaves a `%` without two digits as it is.
    let has_digits =
        |rest: &str| rest.as_bytes().get(..2).is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit));
    let is_well_encoded = text.split('%').skip(1).all(has_digits);
    is_well_encoded.then(|| percent_decode_str(text).decode_utf8().ok()).flatten()
}

/// Decodes a name or value of a query, in which `+` is a space.
fn decode_form(text: &str) -> Option<Cow<'_, str>> {
    if !text.contains('+') {
        return decode_segment(text);
    }
    let text = text.replace('+', " ");
    decode_segment(&text).map(|decoded| Cow::Owned(decoded.into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: &[&str] = &["max", "kinds", "node", "flag", "bad"];

    fn parse(query: &str) -> Query<'_> {
        Query::parse(Some(query), KNOWN).unwrap_or_else(|problem| panic!("{}", problem.detail))
    }

    fn refusal(query: &str) -> String {
        Query::parse(Some(query), KNOWN).err().expect("it is refused").detail
    }

    #[test]
    fn parameters_are_found_and_decoded() {
        let query = parse("max=5&node=x+y%2B&flag&unknown=%zz&%zz=1&&=");
        assert_eq!(query.number("max", 1..=10).unwrap(), Some(5));
        assert!(query.number("max", 6..=10).unwrap_err().detail.contains("from 6 to 10"));
        assert_eq!(query.get("node").unwrap(), Some("x y+"));
        assert_eq!(query.get("flag").unwrap(), Some(""));
        assert_eq!(query.get("bad").unwrap(), None);
        assert_eq!(parse("m%61x=7").number("max", 1..=10).unwrap(), Some(7));
    }

    #[test]
    fn a_list_is_repeated_or_separated_by_commas_and_has_no_empty_entry() {
        for text in ["kinds=a&kinds=b&kinds=c", "kinds=a%2Cb,c", "kinds=a,b&kinds=c", "kinds=+a+,b,+c"] {
            let kinds: Vec<_> = parse(text).names("kinds", 3).unwrap().iter().map(ToString::to_string).collect();
            assert_eq!(kinds, ["a", "b", "c"], "{text}");
            assert!(parse(text).names("kinds", 2).is_err());
        }
        assert!(parse("").names("kinds", 2).unwrap().is_empty());
        for text in ["kinds=%5B%22a%22%2C%22b%22%5D", "kinds=b&kinds=[]", "kinds=[a]"] {
            let refused = parse(text).names("kinds", 3).unwrap_err();
            assert_eq!(refused.detail, "kinds is a list of names with commas between them, not JSON", "{text}");
        }
        for text in ["kinds=", "kinds", "kinds=a,,b", "kinds=a&kinds=", "kinds=,"] {
            assert_eq!(parse(text).names("kinds", 3).unwrap_err().detail, "kinds must not be empty", "{text}");
        }
    }

    #[test]
    fn what_is_not_understood_is_refused_with_the_name_of_its_parameter() {
        for text in ["max=3&max=1", "max=3&max=3", "max&max=1"] {
            assert_eq!(parse(text).number("max", 1..=10).unwrap_err().detail, "max is given more than once", "{text}");
        }
        for text in ["max=", "max=x", "max=1.0", "max=%2B5", "max=-1", "max=5,6", "max=18446744073709551616"] {
            let refused = parse(text).number("max", 1..=10).unwrap_err().detail;
            assert_eq!(refused, "max must be a whole number from 1 to 10", "{text}");
        }
        for text in ["bad=%G1", "bad=%", "bad=%4", "bad=%%41", "bad=%+1", "bad=%ff"] {
            assert_eq!(refusal(text), "bad is not well encoded", "{text}");
        }
        for text in ["kinds[]=a", "kinds%5B%5D=a", "Kinds=a", "kind=a", "kinds=a&kind=b"] {
            assert!(refusal(text).starts_with("kinds is misspelled"), "{text}");
        }
    }

    #[test]
    fn a_plus_is_itself_in_a_path() {
        assert_eq!(decode_segment("gpu+1").as_deref(), Some("gpu+1"));
        assert_eq!(decode_segment("gpu%2B1%20%2f").as_deref(), Some("gpu+1 /"));
        assert_eq!(decode_segment("%zz"), None);
    }
}
