//! Globs: patterns of names, and lists of them.
//!
//! A glob matches a whole name, and case counts. `*` stands for any characters, none included, `?` for exactly one; all
//! others stand for themselves, and nothing escapes them. A match takes the leftmost place of each part between two `*`,
//! which suffices, so nothing is tried twice: O(name) for globs without `?`, and at most name times part with it, both of
//! which have a limit.

/// A pattern of names.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Glob {
    text: Box<str>,
    shape: Shape,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Shape {
    /// Without special characters: the text itself.
    Literal,
    /// `*`.
    Any,
    /// Without `*`, with `?`.
    Whole(Part),
    /// What is before the first `*`, between two, and after the last.
    Parts { first: Part, between: Box<[Part]>, last: Part },
}

/// A stretch of a glob without `*`.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Part {
    Text(Box<str>),
    /// With `?`, each of which is a gap.
    Gaps(Box<[Option<char>]>),
}

impl Glob {
    pub fn new(text: &str) -> Self {
        let mut parts: Vec<Part> = text.split('*').map(Part::new).collect();
        let last = parts.pop().expect("a split has a part");
        let shape = if parts.is_empty() {
            if text.contains('?') { Shape::Whole(last) } else { Shape::Literal }
        } else if text.bytes().all(|byte| byte == b'*') {
            Shape::Any
        } else {
            let first = parts.remove(0);
            parts.retain(|part| *part != Part::Text("".into()));
            Shape::Parts { first, between: parts.into(), last }
        };
        Glob { text: text.into(), shape }
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    pub fn is_literal(&self) -> bool {
        self.shape == Shape::Literal
    }

    pub fn matches(&self, name: &str) -> bool {
        match &self.shape {
            Shape::Literal => *self.text == *name,
            Shape::Any => true,
            Shape::Whole(part) => part.strip_from(name) == Some(""),
            Shape::Parts { first, between, last } => {
                let Some(rest) = first.strip_from(name).and_then(|rest| last.strip_end_from(rest)) else {
                    return false;
                };
                between.iter().try_fold(rest, |rest, part| part.skip_in(rest)).is_some()
            }
        }
    }

    /// A name that it matches: each `*` is left out, unless nothing remains, and each `?` is `x`.
    pub fn example(&self) -> String {
        let example = self.text.replace('*', "").replace('?', "x");
        if example.is_empty() { "x".to_owned() } else { example }
    }
}

impl Part {
    fn new(text: &str) -> Self {
        if text.contains('?') {
            Part::Gaps(text.chars().map(|char| (char != '?').then_some(char)).collect())
        } else {
            Part::Text(text.into())
        }
    }

    /// What follows the part at the beginning of `name`.
    fn strip_from<'n>(&self, name: &'n str) -> Option<&'n str> {
        match self {
            Part::Text(text) => name.strip_prefix(&**text),
            Part::Gaps(places) => {
                let mut chars = name.chars();
                places.iter().all(|place| chars.next().is_some_and(|char| fits(*place, char))).then_some(chars.as_str())
            }
        }
    }

    /// What precedes the part at the end of `name`.
    fn strip_end_from<'n>(&self, name: &'n str) -> Option<&'n str> {
        match self {
            Part::Text(text) => name.strip_suffix(&**text),
            Part::Gaps(places) => {
                let mut chars = name.chars();
                let is_end = |place: &Option<char>| chars.next_back().is_some_and(|char| fits(*place, char));
                places.iter().rev().all(is_end).then_some(chars.as_str())
            }
        }
    }

    /// What follows the leftmost place of the part in `name`.
    fn skip_in<'n>(&self, name: &'n str) -> Option<&'n str> {
        match self {
            Part::Text(text) => name.find(&**text).map(|at| &name[at + text.len()..]),
            Part::Gaps(_) => name.char_indices().find_map(|(at, _)| self.strip_from(&name[at..])),
        }
    }
}

/// Whether a character stands where a glob has this one, or a gap.
fn fits(place: Option<char>, char: char) -> bool {
    place.is_none_or(|expected| expected == char)
}

/// A list of globs; it is not empty.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Globs {
    globs: Box<[Glob]>,
    /// Those without special characters, sorted, so that a name is looked up among them.
    literals: Box<[Box<str>]>,
    /// The others, by their index.
    patterns: Box<[u8]>,
    /// Whether it lists the word `none`.
    has_none: bool,
}

/// What a list of a deny rule names for requests without the attribute. It is a glob as well: for a name `none`.
pub const NONE: &str = "none";

impl Globs {
    pub(super) fn new(globs: Vec<Glob>) -> Self {
        const { assert!(super::limits::GLOBS_MAX <= u8::MAX as usize, "an index has 8 bits") };
        assert!(!globs.is_empty() && globs.len() <= super::limits::GLOBS_MAX, "the check refuses other lists");
        let mut literals: Vec<Box<str>> =
            globs.iter().filter(|glob| glob.is_literal()).map(|glob| glob.text.clone()).collect();
        literals.sort_unstable();
        let is_pattern = |index: &u8| !globs[usize::from(*index)].is_literal();
        let patterns = (0..globs.len() as u8).filter(is_pattern).collect();
        let has_none = globs.iter().any(|glob| *glob.text == *NONE);
        Globs { literals: literals.into(), patterns, has_none, globs: globs.into() }
    }

    pub fn iter(&self) -> impl Iterator<Item = &Glob> {
        self.globs.iter()
    }

    /// Whether one of the globs matches. O(log literals + patterns).
    pub fn matches(&self, name: &str) -> bool {
        self.patterns.iter().any(|index| self.globs[usize::from(*index)].matches(name))
            || self.literals.binary_search_by(|literal| (**literal).cmp(name)).is_ok()
    }

    /// Whether the list of a deny rule matches an attribute.
    pub(super) fn matches_or_none(&self, name: Option<&str>) -> bool {
        name.map_or(self.has_none, |name| self.matches(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Obviously right: each `*` tries every length.
    fn matches_naively(glob: &[char], name: &[char]) -> bool {
        match (glob.split_first(), name.split_first()) {
            (None, None) => true,
            (Some(('*', rest)), _) => (0..=name.len()).any(|taken| matches_naively(rest, &name[taken..])),
            (Some((expected, rest)), Some((is, others))) => {
                (*expected == '?' || expected == is) && matches_naively(rest, others)
            }
            _ => false,
        }
    }

    fn is_same(glob: &str, name: &str) {
        let chars = |text: &str| text.chars().collect::<Vec<_>>();
        let expected = matches_naively(&chars(glob), &chars(name));
        assert_eq!(Glob::new(glob).matches(name), expected, "{glob:?} {name:?}");
        let list = Globs::new(vec![Glob::new("other"), Glob::new(glob)]);
        assert_eq!(list.matches(name), expected || name == "other", "the list with {glob:?} {name:?}");
    }

    #[test]
    fn every_short_glob_matches_as_the_naive_matcher_says() {
        fn texts(letters: &[&str], length_max: usize) -> Vec<String> {
            let mut all = vec![String::new()];
            let mut longest = all.clone();
            for _ in 0..length_max {
                longest =
                    longest.iter().flat_map(|text| letters.iter().map(move |letter| text.clone() + letter)).collect();
                all.extend(longest.iter().cloned());
            }
            all
        }
        for glob in texts(&["*", "?", "a", "é"], 5) {
            for name in texts(&["a", "é"], 5) {
                is_same(&glob, &name);
            }
        }
    }

    proptest! {
        #[test]
        fn a_glob_matches_as_the_naive_matcher_says(glob in "[ab*?]{0,9}", name in "[abA]{0,9}") {
            is_same(&glob, &name);
        }

        #[test]
        fn an_example_is_matched(glob in "[a-c*?é]{1,12}") {
            let glob = Glob::new(&glob);
            prop_assert!(glob.matches(&glob.example()));
        }
    }

    #[test]
    fn a_glob_matches_whole_names_and_nothing_but_two_characters_is_special() {
        for (glob, name, expected) in [
            ("secret/foo", "secret/foo", true),
            ("secret/foo", "secret/foo000", false),
            ("foo", "secret/foo", false),
            ("GPU", "gpu", false),
            ("gpu:*", "gpu:", true),
            ("a*b*c", "a-b-b-c", true),
            ("*ab", "aab", true),
            ("ab*ba", "aba", false),
            ("[ab]", "a", false),
            ("[ab]", "[ab]", true),
            ("\\*", "\\anything", true),
            ("{a,b}", "a", false),
            ("?", "é", true),
            ("?", "", false),
            ("none", "none", true),
        ] {
            assert_eq!(Glob::new(glob).matches(name), expected, "{glob} {name}");
        }
    }

    #[test]
    fn only_the_word_none_itself_matches_an_absent_attribute() {
        let list = |globs: &[&str]| Globs::new(globs.iter().map(|glob| Glob::new(glob)).collect());
        assert!(list(&["a", "none"]).matches_or_none(None));
        assert!(list(&["a", "none"]).matches_or_none(Some("none")));
        for glob in ["*", "?", "non*", "NONE"] {
            assert!(!list(&[glob]).matches_or_none(None), "{glob}");
        }
    }
}
