//! A position in a JSON text that was checked: reading from it cannot fail.

use super::text::plain_end;

/// A position in a checked text. Each method that reads something expects the cursor at its first byte, and moves it
/// behind the last one.
#[derive(Clone)]
pub(super) struct Cursor<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Cursor<'a> {
    /// The start of a checked value's text.
    pub(super) fn new(text: &'a str) -> Self {
        Cursor { text, at: 0 }
    }

    /// The byte at the cursor.
    pub(super) fn peek(&self) -> u8 {
        self.text.as_bytes()[self.at]
    }

    /// Skips the bracket that opens an array or object.
    pub(super) fn open(&mut self) {
        self.at += 1;
    }

    /// Moves to the next element or key. If there is none, skips the closing bracket and returns `false`.
    pub(super) fn next_item(&mut self) -> bool {
        self.skip_white_space();
        if self.peek() == b',' {
            self.at += 1;
            self.skip_white_space();
        }
        let is_closed = matches!(self.peek(), b']' | b'}');
        self.at += usize::from(is_closed);
        !is_closed
    }

    /// Reads a key and its colon; returns the text between the key's quotes.
    pub(super) fn key(&mut self) -> &'a str {
        let key = self.string();
        self.skip_white_space();
        self.at += 1;
        self.skip_white_space();
        key
    }

    /// Reads a string; returns the text between its quotes.
    pub(super) fn string(&mut self) -> &'a str {
        let start = self.at + 1;
        self.skip_string();
        &self.text[start..self.at - 1]
    }

    /// Reads a number, `true`, `false` or `null`.
    pub(super) fn scalar(&mut self) -> &'a str {
        let start = self.at;
        self.skip_scalar();
        &self.text[start..self.at]
    }

    /// Reads a value of any kind; returns its text.
    pub(super) fn value(&mut self) -> &'a str {
        let start = self.at;
        match self.peek() {
            b'"' => self.skip_string(),
            b'{' | b'[' => self.skip_nested(),
            _ => self.skip_scalar(),
        }
        &self.text[start..self.at]
    }

    fn skip_string(&mut self) {
        self.at += 1;
        loop {
            self.at = plain_end(self.text.as_bytes(), self.at);
            match self.peek() {
                b'"' => {
                    self.at += 1;
                    return;
                }
                _ => self.at += 2,
            }
        }
    }

    fn skip_nested(&mut self) {
        let mut depth = 0;
        loop {
            match self.peek() {
                b'"' => {
                    self.skip_string();
                    continue;
                }
                b'{' | b'[' => depth += 1,
                b'}' | b']' => depth -= 1,
                _ => {}
            }
            self.at += 1;
            if depth == 0 {
                return;
            }
        }
    }

    fn skip_scalar(&mut self) {
        let rest = &self.text.as_bytes()[self.at..];
        let is_end = |byte: &u8| matches!(byte, b',' | b']' | b'}' | b' ' | b'\t' | b'\n' | b'\r');
        self.at += rest.iter().position(is_end).unwrap_or(rest.len());
    }

    fn skip_white_space(&mut self) {
        while matches!(self.peek(), b' ' | b'\t' | b'\n' | b'\r') {
            self.at += 1;
        }
    }
}
