//! Redaction: removes known secrets from the texts that leave the process (log lines, the audit log, alerts, the
//! diagnose bundle), in every form that a text may carry them.
//!
//! A secret in a path is percent-encoded, in a header `Authorization: Basic` it is base64 after a name, in a JSON line
//! its quotes are escaped. So each secret is searched for in all these forms, in one pass over the text (Aho-Corasick):
//! about a nanosecond a byte, without a copy if nothing is found. There are too many mixtures of encoded and plain
//! characters to list: a text with a `%` is decoded and searched once more.
//!
//! A secret is replaced by the form in which a [`Secret`] shows itself: the start of its digest.

use crate::secret::Secret;
use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use percent_encoding::percent_decode;
use serde_json::{Map, Value};
use std::borrow::Cow;
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, PoisonError, RwLock};
use zeroize::Zeroizing;

/// A shorter secret cannot be distinguished from ordinary text: every log contains `123`. Only a hub on loopback
/// accepts a token that short.
pub const SECRET_BYTES_MIN: usize = 8;

/// How often a text is percent-decoded: proxies may encode an encoded text again, but not often.
const DECODINGS_MAX: usize = 3;

/// How deep texts with escaped quotes may be nested: a JSON line with an error that quotes a name.
const ESCAPES_MAX: usize = 2;

/// Bytes of a base64 group before the secret begins: the secret's bits then begin within a character.
const BASE64_OFFSETS: Range<usize> = 0..3;

/// Finds secrets in texts, in all their forms, and replaces them by the start of their digest.
pub struct Redactor {
    /// Replaced as a whole when there are more secrets.
    search: RwLock<Arc<Search>>,
}

/// A search for all forms of some secrets.
///
/// The forms are wiped after the construction; the automaton made from them, and the secrets themselves, live as long
/// as the redactor, which is as long as the process.
struct Search {
    secrets: Vec<Secret>,
    too_short: usize,
    search: Option<AhoCorasick>,
    /// The secret of each pattern of the search.
    owners: Vec<usize>,
}

impl Redactor {
    /// A redactor of these secrets. Those with fewer than [`SECRET_BYTES_MIN`] bytes are left out and counted.
    pub fn new(secrets: &[&Secret]) -> Self {
        Redactor { search: RwLock::new(Arc::new(Search::new(secrets))) }
    }

    /// From now on these secrets are replaced as well. Secrets that are not in use any more are replaced on: a client may
    /// send them still.
    pub fn learn<'a>(&self, secrets: impl Iterator<Item = &'a Secret>) {
        let (before, more): (_, Vec<&Secret>) = (self.search(), secrets.collect());
        let learnt = Search::new(&before.secrets.iter().chain(more).collect::<Vec<_>>());
        if learnt.secrets.len() > before.secrets.len() {
            *self.search.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(learnt);
        }
    }

    /// How many secrets are searched for.
    pub fn secrets(&self) -> usize {
        self.search().secrets.len()
    }

    /// How many forms are searched for.
    pub fn forms(&self) -> usize {
        self.search().owners.len()
    }

    /// How many secrets are too short to be searched for.
    pub fn too_short(&self) -> usize {
        self.search().too_short
    }

    /// Whether the text contains a secret in any form. O(length).
    pub fn contains(&self, text: &[u8]) -> bool {
        self.search().contains(text)
    }

    /// Whether the text is a part of a secret, and too long to be one by chance.
    pub fn is_part(&self, text: &[u8]) -> bool {
        self.search().is_part(text)
    }

    /// The text with each secret replaced. If a secret is found only in the percent-decoded text, the whole text except
    /// its line end is replaced. O(length).
    pub fn redact<'a>(&self, text: &'a [u8]) -> Cow<'a, [u8]> {
        self.search().redact(text)
    }

    /// As [`Redactor::redact`], for a text of characters.
    pub fn redact_text<'a>(&self, text: &'a str) -> Cow<'a, str> {
        self.search().redact_text(text)
    }

    /// As [`Redactor::redact`], for JSON, which stays JSON: each text and name in it is redacted by itself, so that an
    /// encoded one does not affect the others. A number that is a secret becomes a text.
    pub fn redact_json<'a>(&self, json: &'a [u8]) -> Cow<'a, [u8]> {
        self.search().redact_json(json)
    }

    /// As [`Redactor::redact_json`], for a tree.
    pub fn redact_value(&self, value: Value) -> Value {
        self.search().redact_value(value)
    }

    fn search(&self) -> Arc<Search> {
        Arc::clone(&self.search.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Search {
    fn new(secrets: &[&Secret]) -> Self {
        let mut distinct: Vec<&Secret> = Vec::new();
        for secret in secrets.iter().filter(|secret| !secret.is_empty()) {
            if !distinct.iter().any(|known| known.is(secret.expose())) {
                distinct.push(secret);
            }
        }
        let (secrets, short): (Vec<_>, Vec<_>) =
            distinct.into_iter().partition(|secret| secret.len() >= SECRET_BYTES_MIN);
        let each =
            |(owner, secret): (usize, &&Secret)| forms_of(secret.expose()).into_iter().map(move |form| (form, owner));
        let mut forms: Vec<_> = secrets.iter().enumerate().flat_map(each).collect();
        forms.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        forms.dedup_by(|(a, _), (b, _)| a == b);
        let search = (!forms.is_empty()).then(|| {
            let patterns = forms.iter().map(|(form, _)| form.as_slice());
            // On lines of some hundred bytes as fast as the larger kinds, with a fraction of their memory and build
            // time.
            let kind = Some(AhoCorasickKind::ContiguousNFA);
            let search = AhoCorasick::builder().match_kind(MatchKind::Standard).kind(kind).build(patterns);
            search.expect("a few secrets of some kilobytes fit into an automaton")
        });
        let owners = forms.into_iter().map(|(_, owner)| owner).collect();
        Search { secrets: secrets.into_iter().cloned().collect(), too_short: short.len(), search, owners }
    }

    fn contains(&self, text: &[u8]) -> bool {
        let Some(search) = &self.search else { return false };
        search.is_match(text) || self.encoded(search, text).is_some()
    }

    fn is_part(&self, text: &[u8]) -> bool {
        let is_in = |secret: &Secret| secret.expose().windows(text.len()).any(|part| part == text);
        text.len() >= SECRET_BYTES_MIN && self.secrets.iter().any(is_in)
    }

    fn redact<'a>(&self, text: &'a [u8]) -> Cow<'a, [u8]> {
        let Some(search) = &self.search else { return Cow::Borrowed(text) };
        let text = if search.is_match(text) { Cow::Owned(self.replaced(search, text)) } else { Cow::Borrowed(text) };
        match self.encoded(search, &text) {
            Some(secret) => Cow::Owned(with_line_end_of(&text, secret.to_string().into_bytes())),
            None => text,
        }
    }

    fn redact_text<'a>(&self, text: &'a str) -> Cow<'a, str> {
        match self.redact(text.as_bytes()) {
            Cow::Borrowed(_) => Cow::Borrowed(text),
            // A form that ends within a character is extended to the character's end.
            Cow::Owned(redacted) => Cow::Owned(String::from_utf8_lossy(&redacted).into_owned()),
        }
    }

    fn redact_json<'a>(&self, json: &'a [u8]) -> Cow<'a, [u8]> {
        if !self.contains(json) {
            return Cow::Borrowed(json);
        }
        let redacted = serde_json::from_slice::<Value>(json).ok().map(|value| self.redact_value(value));
        let line = match redacted.map(|value| value.to_string().into_bytes()) {
            Some(line) if !self.contains(&line) => line,
            // It is not JSON, or the secret matches JSON punctuation.
            _ => br#"{"redacted":true}"#.to_vec(),
        };
        Cow::Owned(with_line_end_of(json, line))
    }

    fn redact_value(&self, value: Value) -> Value {
        let text = |text: String| match self.redact_text(&text) {
            Cow::Borrowed(_) => text,
            Cow::Owned(redacted) => redacted,
        };
        match value {
            Value::String(value) => Value::String(text(value)),
            Value::Array(values) => Value::Array(values.into_iter().map(|value| self.redact_value(value)).collect()),
            Value::Object(members) => {
                let members = members.into_iter().map(|(name, value)| (text(name), self.redact_value(value)));
                Value::Object(members.collect::<Map<_, _>>())
            }
            Value::Number(number) => match self.redact_text(&number.to_string()) {
                Cow::Borrowed(_) => Value::Number(number),
                Cow::Owned(redacted) => Value::String(redacted),
            },
            Value::Null | Value::Bool(_) => value,
        }
    }

    /// The text with each secret replaced by its digest. Overlapping forms are replaced as one, since the rest of a
    /// longer form that overlaps a shorter one would be a part of a secret.
    fn replaced(&self, search: &AhoCorasick, text: &[u8]) -> Vec<u8> {
        let mut spans: Vec<(Range<usize>, usize)> = search
            .find_overlapping_iter(text)
            .map(|found| (found.range(), self.owners[found.pattern().as_usize()]))
            .collect();
        spans.sort_by_key(|(span, _)| (span.start, std::cmp::Reverse(span.end)));
        let mut out = Vec::with_capacity(text.len());
        let mut end = 0;
        for (span, owner) in spans {
            if span.start >= end {
                out.extend_from_slice(&text[end..span.start]);
                out.extend_from_slice(self.secrets[owner].to_string().as_bytes());
            }
            end = end.max(span.end);
        }
        out.extend_from_slice(&text[end..]);
        out
    }

    /// The secret in the percent-decoded text, if there is one.
    fn encoded(&self, search: &AhoCorasick, text: &[u8]) -> Option<&Secret> {
        let found = decodings(text).find_map(|decoded| search.find(&decoded))?;
        Some(&self.secrets[self.owners[found.pattern().as_usize()]])
    }
}

fn with_line_end_of(text: &[u8], mut line: Vec<u8>) -> Vec<u8> {
    if text.ends_with(b"\n") {
        line.push(b'\n');
    }
    line
}

/// The text without a secret of one request only, plain or percent-encoded. O(length), without an automaton, since an
/// attacker can cause it at each request.
pub fn redact_one<'a>(secret: &Secret, text: &'a str) -> Cow<'a, str> {
    let Some(needle) = std::str::from_utf8(secret.expose()).ok().filter(|text| text.len() >= SECRET_BYTES_MIN) else {
        return Cow::Borrowed(text);
    };
    let is_in = |text: &[u8]| String::from_utf8_lossy(text).contains(needle);
    let redacted = match text.contains(needle) {
        true => Cow::Owned(text.replace(needle, &secret.to_string())),
        false => Cow::Borrowed(text),
    };
    let is_encoded = decodings(redacted.as_bytes()).any(|decoded| is_in(&decoded));
    if is_encoded { Cow::Owned(secret.to_string()) } else { redacted }
}

/// The text percent-decoded once, twice and so on.
fn decodings(text: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    let decoded = |text: &[u8]| match Cow::from(percent_decode(text)) {
        Cow::Borrowed(_) => None,
        Cow::Owned(decoded) => Some(decoded),
    };
    std::iter::successors(decoded(text), move |text| decoded(text)).take(DECODINGS_MAX)
}

impl fmt::Debug for Redactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Redactor({} secrets in {} forms)", self.secrets(), self.forms())
    }
}

/// All forms of a secret. For most secrets some are equal.
fn forms_of(secret: &[u8]) -> Vec<Zeroizing<Vec<u8>>> {
    let mut forms = vec![secret.to_vec()];
    let mut escaped = Zeroizing::new(String::from_utf8_lossy(secret).into_owned());
    for _ in 0..ESCAPES_MAX {
        let quoted = Zeroizing::new(Value::from(escaped.as_str()).to_string());
        *escaped = quoted[1..quoted.len() - 1].to_owned();
        forms.push(escaped.as_bytes().to_vec());
    }
    for is_unreserved_kept in [true, false] {
        forms.push(percent_encoded(secret, is_unreserved_kept, |byte| format!("%{byte:02X}")));
        forms.push(percent_encoded(secret, is_unreserved_kept, |byte| format!("%{byte:02x}")));
    }
    for offset in BASE64_OFFSETS {
        forms.push(base64_within(&STANDARD_NO_PAD, secret, offset));
        forms.push(base64_within(&URL_SAFE_NO_PAD, secret, offset));
    }
    forms.push(secret.iter().map(|byte| format!("{byte:02x}")).collect::<String>().into_bytes());
    forms.push(secret.iter().map(|byte| format!("{byte:02X}")).collect::<String>().into_bytes());
    forms.into_iter().map(Zeroizing::new).collect()
}

/// RFC 3986, section 2.3: unreserved characters need no encoding, and may have one.
fn percent_encoded(secret: &[u8], is_unreserved_kept: bool, encode: fn(u8) -> String) -> Vec<u8> {
    let is_kept = |byte: u8| is_unreserved_kept && (byte.is_ascii_alphanumeric() || b"-._~".contains(&byte));
    secret.iter().flat_map(|byte| if is_kept(*byte) { vec![*byte] } else { encode(*byte).into_bytes() }).collect()
}

/// The characters of a secret in a longer base64 text that do not depend on the text around it, if `offset` bytes of a
/// group of three precede it. A character holds six bits; the first and the last one may hold bits of the neighbours.
fn base64_within(engine: &impl Engine, secret: &[u8], offset: usize) -> Vec<u8> {
    let text = Zeroizing::new([&vec![0; offset][..], secret].concat());
    let encoded = Zeroizing::new(engine.encode(&*text));
    let (first, end) = ((offset * 8).div_ceil(6), text.len() * 8 / 6);
    encoded.as_bytes()[first..end].to_vec()
}

#[cfg(test)]
mod tests;
