//! The check of a JSON text: one pass over it, after which reading it cannot fail.

use super::json::{DEPTH_MAX, JsonError, Member, Reason, Value};
use super::scanner::Scanner;
use super::text::{escape, plain_end, unescape};

/// Objects with up to so many keys are checked for duplicates pair by pair, which is faster than sorting.
const FEW_KEYS: usize = 8;

/// The initial capacity for the members of the root object: a request has about a dozen.
const ROOT_MEMBERS: usize = 16;

/// A pass over a text.
pub(super) struct Checker<'a> {
    text: &'a str,
    scanner: Scanner<'a>,
    /// The members of all objects that are open, the outermost first, in one buffer.
    members: Vec<Member<'a>>,
}

impl<'a> Checker<'a> {
    /// Checks a text; returns its value, and the members in any order if it is an object.
    pub(super) fn check(bytes: &'a [u8]) -> Result<(Value<'a>, Vec<Member<'a>>), JsonError> {
        let text = std::str::from_utf8(bytes)
            .map_err(|error| JsonError { reason: Reason::Encoding, offset: error.valid_up_to() })?;
        let mut checker = Checker { text, scanner: Scanner::new(bytes), members: Vec::with_capacity(ROOT_MEMBERS) };
        checker.scanner.skip_white_space();
        let value = checker.value(DEPTH_MAX)?;
        checker.scanner.skip_white_space();
        if checker.scanner.at < text.len() {
            return checker.fail(Reason::Trailing);
        }
        Ok((value, checker.members))
    }

    /// Checks a value. The members of an object are left in `members`.
    fn value(&mut self, depth: usize) -> Result<Value<'a>, JsonError> {
        let start = self.scanner.at;
        match self.scanner.peek() {
            Some(b'"') => _ = self.string()?,
            Some(b'{') => self.object(depth)?,
            Some(b'[') => self.array(depth)?,
            Some(b'-' | b'0'..=b'9') => self.number()?,
            Some(b't') => self.literal("true")?,
            Some(b'f') => self.literal("false")?,
            Some(b'n') => self.literal("null")?,
            Some(_) => return self.fail(Reason::Value),
            None => return self.fail(Reason::End),
        }
        Ok(Value::checked(&self.text[start..self.scanner.at]))
    }

    fn array(&mut self, depth: usize) -> Result<(), JsonError> {
        let outer_count = self.members.len();
        self.open(depth)?;
        if self.scanner.consume(b']') {
            return Ok(());
        }
        loop {
            self.value(depth - 1)?;
            self.members.truncate(outer_count);
            self.scanner.skip_white_space();
            if self.scanner.consume(b']') {
                return Ok(());
            }
            self.separator()?;
        }
    }

    fn object(&mut self, depth: usize) -> Result<(), JsonError> {
        let start = self.scanner.at;
        let outer_count = self.members.len();
        self.open(depth)?;
        if self.scanner.consume(b'}') {
            return Ok(());
        }
        loop {
            let key = self.key()?;
            let inner_count = self.members.len();
            let value = self.value(depth - 1)?;
            self.members.truncate(inner_count);
            self.members.push((unescape(key), value));
            self.scanner.skip_white_space();
            if self.scanner.consume(b'}') {
                break;
            }
            self.separator()?;
        }
        if has_duplicate(&mut self.members[outer_count..]) {
            return Err(JsonError { reason: Reason::Duplicate, offset: start });
        }
        Ok(())
    }

    fn open(&mut self, depth: usize) -> Result<(), JsonError> {
        if depth == 0 {
            return self.fail(Reason::Depth);
        }
        self.scanner.at += 1;
        self.scanner.skip_white_space();
        Ok(())
    }

    fn separator(&mut self) -> Result<(), JsonError> {
        match self.scanner.peek() {
            Some(b',') => {
                self.scanner.at += 1;
                self.scanner.skip_white_space();
                Ok(())
            }
            Some(_) => self.fail(Reason::Separator),
            None => self.fail(Reason::End),
        }
    }

    fn key(&mut self) -> Result<&'a str, JsonError> {
        match self.scanner.peek() {
            Some(b'"') => {}
            Some(_) => return self.fail(Reason::Key),
            None => return self.fail(Reason::End),
        }
        let key = self.string()?;
        self.scanner.skip_white_space();
        if !self.scanner.consume(b':') {
            return self.fail(Reason::Key);
        }
        self.scanner.skip_white_space();
        Ok(key)
    }

    /// Checks a string; returns the text between its quotes.
    fn string(&mut self) -> Result<&'a str, JsonError> {
        self.scanner.at += 1;
        let start = self.scanner.at;
        loop {
            self.scanner.at = plain_end(self.scanner.bytes, self.scanner.at);
            match self.scanner.peek() {
                Some(b'"') => {
                    self.scanner.at += 1;
                    return Ok(&self.text[start..self.scanner.at - 1]);
                }
                Some(b'\\') => match escape(&self.text[self.scanner.at..]) {
                    Ok((_, length)) => self.scanner.at += length,
                    Err(reason) => return self.fail(reason),
                },
                Some(_) => return self.fail(Reason::Text),
                None => return self.fail(Reason::End),
            }
        }
    }

    fn number(&mut self) -> Result<(), JsonError> {
        self.scanner.consume(b'-');
        if self.scanner.consume(b'0') {
            if matches!(self.scanner.peek(), Some(b'0'..=b'9')) {
                return self.fail(Reason::Number);
            }
        } else {
            self.digits()?;
        }
        if self.scanner.consume(b'.') {
            self.digits()?;
        }
        if self.scanner.consume(b'e') || self.scanner.consume(b'E') {
            if !self.scanner.consume(b'+') {
                self.scanner.consume(b'-');
            }
            self.digits()?;
        }
        Ok(())
    }

    fn digits(&mut self) -> Result<(), JsonError> {
        let start = self.scanner.at;
        while matches!(self.scanner.peek(), Some(b'0'..=b'9')) {
            self.scanner.at += 1;
        }
        if self.scanner.at == start { self.fail(Reason::Number) } else { Ok(()) }
    }

    fn literal(&mut self, literal: &str) -> Result<(), JsonError> {
        if !self.text[self.scanner.at..].starts_with(literal) {
            return self.fail(Reason::Value);
        }
        self.scanner.at += literal.len();
        Ok(())
    }

    fn fail<T>(&self, reason: Reason) -> Result<T, JsonError> {
        Err(JsonError { reason, offset: self.scanner.at })
    }
}

/// O(k log k) for k keys: clients choose the keys, and to compare all pairs of 100,000 would stop the hub for seconds.
fn has_duplicate(members: &mut [Member]) -> bool {
    if members.len() <= FEW_KEYS {
        return (1..members.len()).any(|at| members[..at].iter().any(|(key, _)| *key == members[at].0));
    }
    if members.is_sorted_by(|(a, _), (b, _)| a < b) {
        return false;
    }
    members.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
    members.windows(2).any(|pair| pair[0].0 == pair[1].0)
}
