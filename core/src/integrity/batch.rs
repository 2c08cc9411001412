//! Batches: finds the entries of a list in a body without checking them, so that each can be checked by itself and one
//! that is not JSON is refused alone.
//!
//! Only strings and brackets are followed, in one pass over the bytes, which need not be UTF-8: a byte of a longer
//! character is never a quote or a bracket. Where the entries cannot be told apart (a string or a bracket that is not
//! closed, an entry that is missing) there is no batch, and the check of the whole body says what is wrong with it.

use super::scanner::Scanner;
use super::text::plain_end;

/// A body in two parts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Batch<'a> {
    /// The body with an empty list in the place of the entries.
    pub rest: Vec<u8>,
    /// The bytes of each entry, in order, without white space around them.
    pub entries: Vec<&'a [u8]>,
    /// Where the entries begin in the body, and how many bytes they take.
    entries_at: usize,
    entries_bytes: usize,
}

/// The list has more entries than allowed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TooMany;

impl<'a> Batch<'a> {
    /// Takes the entries of the list `key` out of a body; `None` if the body has no such list, or its entries cannot be
    /// told apart. O(body).
    pub fn split(body: &'a [u8], key: &str, entries_max: usize) -> Result<Option<Self>, TooMany> {
        let mut scanner = Scanner::new(body);
        if scanner.find_list(key.as_bytes()).is_none() {
            return Ok(None);
        }
        let entries_at = scanner.at;
        let mut entries = Vec::new();
        while let Some(entry) = scanner.entry() {
            if entries.len() == entries_max {
                return Err(TooMany);
            }
            entries.push(entry);
            scanner.consume(b',');
        }
        // The entry that follows a comma may be missing.
        let is_whole = scanner.peek() == Some(b']') && body[..scanner.at].trim_ascii_end().last() != Some(&b',');
        if !is_whole {
            return Ok(None);
        }
        let rest = [&body[..entries_at], &body[scanner.at..]].concat();
        Ok(Some(Batch { rest, entries, entries_at, entries_bytes: scanner.at - entries_at }))
    }

    /// Where a byte of the rest is in the body.
    pub fn offset_in_body(&self, offset_in_rest: usize) -> usize {
        offset_in_rest + if offset_in_rest < self.entries_at { 0 } else { self.entries_bytes }
    }
}

impl<'a> Scanner<'a> {
    /// Moves behind the opening bracket of the root object's list `key`.
    fn find_list(&mut self, key: &[u8]) -> Option<()> {
        self.skip_white_space();
        self.consume(b'{').then_some(())?;
        loop {
            self.skip_white_space();
            let name = self.string()?;
            self.skip_white_space();
            self.consume(b':').then_some(())?;
            self.skip_white_space();
            if name == key && self.consume(b'[') {
                return Some(());
            }
            self.skip_value()?;
            self.consume(b',').then_some(())?;
        }
    }

    /// The next entry, up to its comma or the list's end; `None` if none begins here or it does not end.
    fn entry(&mut self) -> Option<&'a [u8]> {
        self.skip_white_space();
        let start = self.at;
        self.skip_value()?;
        let entry = self.bytes[start..self.at].trim_ascii_end();
        (!entry.is_empty()).then_some(entry)
    }

    /// Skips a value, up to the comma or bracket that ends it.
    fn skip_value(&mut self) -> Option<()> {
        let mut depth = 0_usize;
        loop {
            match self.peek()? {
                b'"' => {
                    self.string()?;
                    continue;
                }
                b'{' | b'[' => depth += 1,
                b',' | b'}' | b']' if depth == 0 => return Some(()),
                b'}' | b']' => depth -= 1,
                _ => {}
            }
            self.at += 1;
        }
    }

    /// Skips a string; returns the bytes between its quotes.
    fn string(&mut self) -> Option<&'a [u8]> {
        self.consume(b'"').then_some(())?;
        let start = self.at;
        loop {
            self.at = plain_end(self.bytes, self.at);
            match self.peek()? {
                b'"' => {
                    self.at += 1;
                    return Some(&self.bytes[start..self.at - 1]);
                }
                b'\\' => self.at = (self.at + 2).min(self.bytes.len()),
                _ => self.at += 1,
            }
        }
    }
}
