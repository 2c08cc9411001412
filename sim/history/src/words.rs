//! Words: how a line is cut into them, read one by one, and put together.
//!
//! A quote protects spaces, so a word is found without knowing what it means: `labels={"rack": 1}` would be two words,
//! `labels={"rack 1":1}` is one.

use std::collections::BTreeMap;
use std::fmt::{self, Write};

/// A word of a line is not what has to stand there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WordError {
    /// Which word, from 1.
    pub place: usize,
    /// The word; `None` if the line ends before it.
    pub word: Option<String>,
    /// What has to stand there.
    pub expected: String,
}

/// A line cut into its parts.
pub(crate) struct Cut<'a> {
    /// The words of the input.
    pub words: Vec<&'a str>,
    /// The text of the input.
    pub input: &'a str,
    /// The text behind `->`.
    pub answer: Option<&'a str>,
    /// The text from `#` on.
    pub remark: Option<&'a str>,
}

/// Words that are read one by one.
pub(crate) struct Words<'a> {
    words: &'a [&'a str],
    next: usize,
}

/// The words of the form `name=value`, and those that are only there or not.
pub(crate) struct Options<'a> {
    values: BTreeMap<&'a str, (usize, &'a str)>,
    flags: Vec<&'a str>,
}

/// How a value is read, and what is expected where it is not one.
pub(crate) struct Kind<T> {
    pub expected: &'static str,
    pub read: fn(&str) -> Option<T>,
}

impl<'a> Cut<'a> {
    /// Cuts a line; it ends at a word that begins with `#`.
    pub fn new(line: &'a str) -> Result<Self, WordError> {
        let (mut words, mut input_end, mut answer_from, mut rest_from) = (Vec::new(), 0, None, line.len());
        let mut at = 0;
        let mut place = 0;
        loop {
            at += line[at..].len() - line[at..].trim_start_matches([' ', '\t']).len();
            if at == line.len() {
                break;
            }
            if line[at..].starts_with('#') {
                rest_from = at;
                break;
            }
            place += 1;
            let len = word_len(&line[at..]).ok_or_else(|| WordError {
                place,
                word: Some(line[at..].to_owned()),
                expected: "a quote that ends".to_owned(),
            })?;
            let word = &line[at..at + len];
            at += len;
            if answer_from.is_some() {
                continue;
            }
            if word == "->" {
                answer_from = Some(at);
            } else {
                words.push(word);
                input_end = at;
            }
        }
        Ok(Cut {
            words,
            input: line[..input_end].trim_start_matches([' ', '\t']),
            answer: answer_from.map(|from| line[from..rest_from].trim_matches([' ', '\t'])),
            remark: Some(&line[rest_from..]).filter(|remark| !remark.is_empty()),
        })
    }
}

/// Where the word that `text` begins with ends; `None` if a quote in it does not end.
pub(crate) fn word_len(text: &str) -> Option<usize> {
    let mut chars = text.char_indices();
    while let Some((at, char)) = chars.next() {
        match char {
            ' ' | '\t' => return Some(at),
            '"' => loop {
                match chars.next()?.1 {
                    '\\' => _ = chars.next()?,
                    '"' => break,
                    _ => {}
                }
            },
            _ => {}
        }
    }
    Some(text.len())
}

impl<'a> Words<'a> {
    pub fn new(words: &'a [&'a str]) -> Self {
        Words { words, next: 0 }
    }

    /// The next word, if there is one.
    pub fn peek(&self) -> Option<&'a str> {
        self.words.get(self.next).copied()
    }

    /// The next word.
    pub fn word(&mut self, expected: &str) -> Result<&'a str, WordError> {
        let word = self.peek().ok_or_else(|| self.wrong_here(expected))?;
        self.next += 1;
        Ok(word)
    }

    /// The next word, read.
    pub fn take<T>(&mut self, kind: &Kind<T>) -> Result<T, WordError> {
        let wrong = self.wrong_here(kind.expected);
        let word = self.word(kind.expected)?;
        (kind.read)(word).ok_or(wrong)
    }

    /// The next word, if it can be read so.
    pub fn take_if<T>(&mut self, kind: &Kind<T>) -> Option<T> {
        let value = self.peek().and_then(kind.read)?;
        self.next += 1;
        Some(value)
    }

    /// The rest of the line: options by these names, and these flags.
    pub fn options(&mut self, names: &[&str], flags: &[&str]) -> Result<Options<'a>, WordError> {
        self.options_before("", names, flags)
    }

    /// The same up to the word `end`, or the rest of the line.
    pub fn options_before(&mut self, end: &str, names: &[&str], flags: &[&str]) -> Result<Options<'a>, WordError> {
        let expected = || {
            let names = names.iter().map(|name| format!("{name}=…")).chain(flags.iter().map(ToString::to_string));
            let names: Vec<_> = names.collect();
            if names.is_empty() { "the end of the line".to_owned() } else { format!("one of {}", names.join(", ")) }
        };
        let mut options = Options { values: BTreeMap::new(), flags: Vec::new() };
        while let Some(word) = self.peek().filter(|word| *word != end) {
            let is_first = match word.split_once('=') {
                Some((name, value)) if names.contains(&name) => {
                    options.values.insert(name, (self.next + 1, value)).is_none()
                }
                None if flags.contains(&word) => {
                    let is_first = !options.has(word);
                    options.flags.push(word);
                    is_first
                }
                _ => return Err(self.wrong_here(&expected())),
            };
            if !is_first {
                return Err(self.wrong_here("each option once"));
            }
            self.next += 1;
        }
        Ok(options)
    }

    /// The line has to end here.
    pub fn end(&self) -> Result<(), WordError> {
        if self.peek().is_none() { Ok(()) } else { Err(self.wrong_here("the end of the line")) }
    }

    /// The next word is not what is expected.
    pub fn wrong_here(&self, expected: &str) -> WordError {
        WordError { place: self.next + 1, word: self.peek().map(str::to_owned), expected: expected.to_owned() }
    }
}

impl Options<'_> {
    /// An option's value, if it is there.
    pub fn get<T>(&self, name: &str, kind: &Kind<T>) -> Result<Option<T>, WordError> {
        let Some((place, text)) = self.values.get(name) else { return Ok(None) };
        let value = (kind.read)(text).ok_or_else(|| WordError {
            place: *place,
            word: Some(format!("{name}={text}")),
            expected: format!("{name}= {}", kind.expected),
        })?;
        Ok(Some(value))
    }

    /// Whether a flag is there.
    pub fn has(&self, flag: &str) -> bool {
        self.flags.contains(&flag)
    }
}

/// A line that is made word by word.
pub(crate) struct Printed(String);

impl Printed {
    pub fn new(verb: &str) -> Self {
        Printed(verb.to_owned())
    }

    pub fn word(mut self, word: impl fmt::Display) -> Self {
        write!(self.0, " {word}").expect("a text takes what is written");
        self
    }

    pub fn option(self, name: &str, value: impl fmt::Display) -> Self {
        self.word(format_args!("{name}={value}"))
    }

    /// An option that is there if its value is not its default.
    pub fn unless<T: PartialEq>(self, default: &T, name: &str, value: &T, print: impl Fn(&T) -> String) -> Self {
        if value == default { self } else { self.option(name, print(value)) }
    }

    pub fn maybe<T>(self, name: &str, value: &Option<T>, print: impl Fn(&T) -> String) -> Self {
        match value {
            None => self,
            Some(value) => self.option(name, print(value)),
        }
    }

    pub fn flag(self, is_set: bool, flag: &str) -> Self {
        if is_set { self.word(flag) } else { self }
    }

    pub fn end(self) -> String {
        self.0
    }
}

impl fmt::Display for WordError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.word {
            Some(word) => write!(f, "word {} is `{word}`, expected {}", self.place, self.expected),
            None => write!(f, "the line ends before word {}, expected {}", self.place, self.expected),
        }
    }
}

impl std::error::Error for WordError {}
