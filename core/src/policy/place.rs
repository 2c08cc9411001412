//! Places in a document: readers of values that know where they are, so that every refusal names the place.

use super::PolicyError;
use super::words::Word;
use crate::integrity::json::{Kind, Object, Value};
use std::fmt::Display;
use std::ops::RangeInclusive;

/// Where a value is, from the document down.
#[derive(Clone, Copy)]
enum Step<'p> {
    Root,
    Member(&'p Place<'p>, &'p str),
    Element(&'p Place<'p>, usize),
}

/// A place in a document; its text is a JSON Pointer (RFC 6901).
#[derive(Clone, Copy)]
struct Place<'p>(Step<'p>);

/// A value and its place.
#[derive(Clone, Copy)]
pub(super) struct At<'p, 'v> {
    value: Value<'v>,
    place: Place<'p>,
}

/// An object whose members were checked by name.
pub(super) struct Members<'p, 'v> {
    object: Object<'v>,
    place: Place<'p>,
}

impl Place<'_> {
    fn write(&self, pointer: &mut String) {
        match self.0 {
            Step::Root => {}
            Step::Member(parent, name) => {
                parent.write(pointer);
                pointer.push('/');
                pointer.push_str(&name.replace('~', "~0").replace('/', "~1"));
            }
            Step::Element(parent, index) => {
                parent.write(pointer);
                pointer.push('/');
                pointer.push_str(&index.to_string());
            }
        }
    }

    fn error(&self, reason: impl Display) -> PolicyError {
        let mut pointer = String::new();
        self.write(&mut pointer);
        PolicyError { pointer, reason: reason.to_string() }
    }
}

impl<'v> At<'_, 'v> {
    pub fn root(value: Value<'v>) -> At<'static, 'v> {
        At { value, place: Place(Step::Root) }
    }

    /// The error for this place.
    pub fn error(&self, reason: impl Display) -> PolicyError {
        self.place.error(reason)
    }

    /// The members of an object, each of which has one of the names.
    pub fn object(&self, names: &[&str]) -> Result<Members<'_, 'v>, PolicyError> {
        let object = self.value.as_object().ok_or_else(|| self.error("must be an object"))?;
        for (name, _) in object.members() {
            if !names.contains(&&**name) {
                let reason =
                    format_args!("is not a member of this object, whose members are {}", Listed(names)).to_string();
                return Err(Place(Step::Member(&self.place, name)).error(reason));
            }
        }
        Ok(Members { object, place: self.place })
    }

    /// A string of 1 to `chars_max` characters without control characters.
    pub fn text(&self, chars_max: usize) -> Result<String, PolicyError> {
        let text = self.value.as_str().ok_or_else(|| self.error("must be a string"))?;
        if !(1..=chars_max).contains(&text.chars().count()) {
            return Err(self.error(format_args!("must have 1 to {chars_max} characters")));
        }
        if text.chars().any(char::is_control) {
            return Err(self.error("must not contain control characters"));
        }
        Ok(text.into_owned())
    }

    /// A word of a list.
    pub fn word<T: Word>(&self) -> Result<T, PolicyError> {
        self.one_of(T::ALL.iter().map(|word| (word.as_str(), *word)))
    }

    /// One of some strings; returns what stands beside it.
    pub fn one_of<T>(&self, words: impl Iterator<Item = (&'static str, T)> + Clone) -> Result<T, PolicyError> {
        let text = self.value.as_str();
        let found = words.clone().find(|(word, _)| text.as_deref() == Some(*word));
        found.map(|(_, value)| value).ok_or_else(|| {
            let names: Vec<&str> = words.map(|(word, _)| word).collect();
            self.error(format_args!("must be one of {}", Listed(&names)))
        })
    }

    /// A whole number.
    pub fn number(&self, range: RangeInclusive<u64>) -> Result<u64, PolicyError> {
        let number = self.value.as_u64().filter(|number| self.value.is_number() && range.contains(number));
        number
            .ok_or_else(|| self.error(format_args!("must be a whole number from {} to {}", range.start(), range.end())))
    }

    pub fn boolean(&self) -> Result<bool, PolicyError> {
        self.value.as_bool().ok_or_else(|| self.error("must be true or false"))
    }

    pub fn is_string(&self) -> bool {
        self.value.kind() == Kind::String
    }

    /// The elements of a list of at most `count_max`.
    pub fn list<T>(
        &self,
        count_max: usize,
        mut read: impl FnMut(At<'_, 'v>) -> Result<T, PolicyError>,
    ) -> Result<Vec<T>, PolicyError> {
        let elements = self.value.as_array().ok_or_else(|| self.error("must be a list"))?;
        let mut list = Vec::new();
        for (index, value) in elements.enumerate() {
            if index == count_max {
                return Err(self.error(format_args!("must have at most {count_max} elements")));
            }
            list.push(read(At { value, place: Place(Step::Element(&self.place, index)) })?);
        }
        Ok(list)
    }

    /// A list as [`At::list`], which is not empty: absent means any, so an empty list would be read both ways.
    pub fn filled_list<T>(
        &self,
        count_max: usize,
        read: impl FnMut(At<'_, 'v>) -> Result<T, PolicyError>,
    ) -> Result<Vec<T>, PolicyError> {
        let list = self.list(count_max, read)?;
        if list.is_empty() { Err(self.error("must not be empty: leave it out where any will do")) } else { Ok(list) }
    }
}

impl<'v> Members<'_, 'v> {
    /// Reads a member if there is one. `null` is a value like others, and none that a policy has.
    pub fn optional<T>(
        &self,
        name: &str,
        read: impl FnOnce(At<'_, 'v>) -> Result<T, PolicyError>,
    ) -> Result<Option<T>, PolicyError> {
        let Some(value) = self.object.get(name) else { return Ok(None) };
        read(At { value, place: Place(Step::Member(&self.place, name)) }).map(Some)
    }

    /// Reads a member that there must be.
    pub fn required<T>(
        &self,
        name: &str,
        read: impl FnOnce(At<'_, 'v>) -> Result<T, PolicyError>,
    ) -> Result<T, PolicyError> {
        self.optional(name, read)?.ok_or_else(|| self.place.error(format_args!("must have the member {name}")))
    }

    pub fn has(&self, name: &str) -> bool {
        self.object.get(name).is_some()
    }

    /// The error for a member, or the place where it would be.
    pub fn error(&self, name: &str, reason: impl Display) -> PolicyError {
        Place(Step::Member(&self.place, name)).error(reason)
    }
}

/// Names as a sentence lists them.
pub(super) struct Listed<'a>(pub &'a [&'a str]);

impl Display for Listed<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0.join(", "))
    }
}
