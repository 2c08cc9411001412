//! Values: how names, payloads, numbers and instants are spelled, both ways.
//!
//! A value that has other characters than plain ones is quoted as a whole.

use crate::words::{Kind, word_len};
use sheratan_core::integrity::stored::{self, ResultIntegrity};
use sheratan_core::{Calendar, JobSeq, LeaseRef, Millis, Name, NameSet, Payload, PublicKey, Timestamp, Utc, Zone};

pub(crate) const NAME: Kind<Name> =
    Kind { expected: "a name: 1 to 256 bytes without control characters, quoted if not plain", read: read_name };
pub(crate) const NAMES: Kind<NameSet> =
    Kind { expected: "names with commas between them", read: |text| read_list(text, read_name).map(NameSet::from) };
pub(crate) const ZONE: Kind<Zone> = Kind { expected: NAME.expected, read: |text| read_name(text).map(Zone::new) };
pub(crate) const NUMBER: Kind<u64> = Kind { expected: "a number", read: |text| read_digits(text) };
pub(crate) const NUMBER_32: Kind<u32> =
    Kind { expected: "a number of 32 bits", read: |text| read_digits(text)?.try_into().ok() };
pub(crate) const NUMBER_8: Kind<u8> =
    Kind { expected: "a number of 8 bits", read: |text| read_digits(text)?.try_into().ok() };
pub(crate) const NUMBER_16: Kind<u16> =
    Kind { expected: "a number of 16 bits", read: |text| read_digits(text)?.try_into().ok() };
pub(crate) const INSTANT: Kind<Timestamp> =
    Kind { expected: "an instant in milliseconds, or NEVER", read: |text| read_ms(text).map(Timestamp::from_millis) };
pub(crate) const UTC: Kind<Utc> = Kind { expected: INSTANT.expected, read: |text| read_ms(text).map(Utc::from_millis) };
pub(crate) const CALENDAR: Kind<Calendar> = Kind {
    expected: "how far the calendar is ahead of the hub's time, in milliseconds, as +N or -N",
    read: read_calendar,
};
pub(crate) const DURATION: Kind<Millis> =
    Kind { expected: "a duration in milliseconds, or NEVER", read: |text| read_ms(text).map(Millis::new) };
pub(crate) const SETTING_VALUE: Kind<u64> = Kind { expected: "a number, or NEVER", read: read_ms };
pub(crate) const JOB: Kind<JobSeq> =
    Kind { expected: "a job's number", read: |text| read_digits(text).map(JobSeq::new) };
pub(crate) const LEASE: Kind<LeaseRef> = Kind { expected: "a lease as JOB@GENERATION", read: read_lease };
pub(crate) const PAYLOAD: Kind<Payload> = Kind {
    expected: "JSON without spaces outside its strings, text:\"…\", bytes:N (so many digits 1), or hex:…",
    read: read_payload,
};
pub(crate) const HASH_8: Kind<[u8; 8]> =
    Kind { expected: "16 hex digits", read: |text| read_hex(text)?.try_into().ok() };
pub(crate) const HASH_32: Kind<[u8; 32]> =
    Kind { expected: "64 hex digits, or a number up to 255 that all 32 bytes have", read: read_hash };
pub(crate) const KEY: Kind<PublicKey> =
    Kind { expected: HASH_32.expected, read: |text| read_hash(text).map(PublicKey::new) };

pub(crate) const INTEGRITY: Kind<ResultIntegrity> = Kind {
    expected: "sha256, hmac or hub, then a colon and a hash as 64 hex digits or a number up to 255",
    read: |text| {
        let (mode, sha256) = text.split_once(':')?;
        Some(ResultIntegrity { origin: stored::Origin::from_mode(mode)?, sha256: read_hash(sha256)? })
    },
};

fn read_digits(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

fn read_ms(text: &str) -> Option<u64> {
    if text == "NEVER" { Some(u64::MAX) } else { read_digits(text) }
}

fn read_lease(text: &str) -> Option<LeaseRef> {
    let (job, generation) = text.split_once('@')?;
    Some(LeaseRef { job: (JOB.read)(job)?, generation: (NUMBER_32.read)(generation)? })
}

fn read_name(text: &str) -> Option<Name> {
    if text.starts_with('"') {
        return Name::new(&unquote(text)?).ok();
    }
    if text.chars().all(is_plain) { Name::new(text).ok() } else { None }
}

/// Whether a character is allowed in a name that is not quoted.
fn is_plain(char: char) -> bool {
    char.is_alphanumeric() || "_-.:/+%".contains(char)
}

/// Values with commas between them. An empty text has none.
pub(crate) fn read_list<T>(text: &str, read: fn(&str) -> Option<T>) -> Option<Vec<T>> {
    let (mut values, mut rest) = (Vec::new(), text);
    loop {
        let end = item_len(rest)?;
        values.push(read(&rest[..end])?);
        match rest[end..].strip_prefix(',') {
            Some(others) => rest = others,
            None => return Some(values),
        }
    }
}

/// The length of the value that `text` begins with.
fn item_len(text: &str) -> Option<usize> {
    let from = if text.starts_with('"') { quoted_len(text)? } else { 0 };
    Some(text[from..].find(',').map_or(text.len(), |at| from + at))
}

/// The length of the quoted text that `text` begins with.
fn quoted_len(text: &str) -> Option<usize> {
    let mut chars = text.char_indices().skip(1);
    loop {
        match chars.next()? {
            (_, '\\') => _ = chars.next()?,
            (at, '"') => return Some(at + 1),
            _ => {}
        }
    }
}

fn unquote(text: &str) -> Option<String> {
    let inner = text.strip_prefix('"')?.strip_suffix('"').filter(|_| quoted_len(text) == Some(text.len()))?;
    let (mut plain, mut chars) = (String::new(), inner.chars());
    while let Some(char) = chars.next() {
        plain.push(match char {
            '\\' => match chars.next()? {
                'n' => '\n',
                'r' => '\r',
                't' => '\t',
                '0' => '\0',
                'u' => {
                    let (digits, rest) = chars.as_str().strip_prefix('{')?.split_once('}')?;
                    chars = rest.chars();
                    char::from_u32(u32::from_str_radix(digits, 16).ok()?)?
                }
                char @ ('"' | '\\' | '\'') => char,
                _ => return None,
            },
            char => char,
        });
    }
    Some(plain)
}

fn read_payload(text: &str) -> Option<Payload> {
    if let Some(quoted) = text.strip_prefix("text:") {
        return unquote(quoted).map(|text| Payload::new(text.as_bytes()));
    }
    if let Some(count) = text.strip_prefix("bytes:") {
        let count = usize::try_from(read_digits(count)?).ok().filter(|count| *count <= PAYLOAD_ONES_MAX)?;
        return Some(Payload::new(&vec![b'1'; count]));
    }
    if let Some(digits) = text.strip_prefix("hex:") {
        return read_hex(digits).map(|bytes| Payload::new(&bytes));
    }
    (!text.is_empty()).then(|| Payload::new(text.as_bytes()))
}

/// The largest N of `bytes:N`, so that a mistyped number does not exhaust memory: 1 GiB.
const PAYLOAD_ONES_MAX: usize = 1 << 30;

/// From so many digits on a payload of ones is printed as `bytes:N`.
const PAYLOAD_ONES_MIN: usize = 5;

fn read_hex(digits: &str) -> Option<Vec<u8>> {
    let is_hex = digits.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'));
    (is_hex && digits.len().is_multiple_of(2)).then(|| {
        let pairs = (0..digits.len()).step_by(2).map(|at| &digits[at..at + 2]);
        pairs.map(|pair| u8::from_str_radix(pair, 16).expect("two hex digits")).collect()
    })
}

fn read_hash(text: &str) -> Option<[u8; 32]> {
    if text.len() == 64 {
        return read_hex(text)?.try_into().ok();
    }
    read_digits(text).and_then(|byte| u8::try_from(byte).ok()).map(|byte| [byte; 32])
}

/// A name as it is spelled.
pub(crate) fn name(name: &str) -> String {
    if name.chars().all(is_plain) { name.to_owned() } else { quote(name) }
}

pub(crate) fn names(names: &NameSet) -> String {
    list(names.iter().map(|text| name(text)))
}

pub(crate) fn zone(zone: &Zone) -> String {
    name(zone.as_str())
}

pub(crate) fn list(items: impl Iterator<Item = String>) -> String {
    items.collect::<Vec<_>>().join(",")
}

pub(crate) fn instant(at: Timestamp) -> String {
    ms(at.as_millis())
}

pub(crate) fn utc(at: Utc) -> String {
    ms(at.as_millis())
}

pub(crate) fn calendar(calendar: Calendar) -> String {
    format!("{:+}", calendar.offset_ms())
}

fn read_calendar(text: &str) -> Option<Calendar> {
    let digits = text.strip_prefix(['+', '-'])?;
    read_digits(digits)?;
    text.parse().ok().map(Calendar::from_offset_ms)
}

pub(crate) fn duration(duration: Millis) -> String {
    ms(duration.get())
}

fn ms(ms: u64) -> String {
    if ms == u64::MAX { "NEVER".to_owned() } else { ms.to_string() }
}

pub(crate) fn lease(lease: LeaseRef) -> String {
    format!("{}@{}", lease.job.get(), lease.generation)
}

pub(crate) fn integrity(integrity: &ResultIntegrity) -> String {
    format!("{}:{}", integrity.origin.mode(), hash(&integrity.sha256))
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(crate) fn key(key: &PublicKey) -> String {
    hash(key.as_bytes())
}

pub(crate) fn hash(hash: &[u8; 32]) -> String {
    if hash.iter().all(|byte| *byte == hash[0]) { hash[0].to_string() } else { hex(hash) }
}

/// A payload as it is spelled: as it is, if it is one word that reads as nothing else.
pub(crate) fn payload(payload: &Payload) -> String {
    let bytes = payload.as_bytes();
    if bytes.len() >= PAYLOAD_ONES_MIN && bytes.iter().all(|byte| *byte == b'1') {
        return format!("bytes:{}", bytes.len());
    }
    let Ok(text) = std::str::from_utf8(bytes) else { return format!("hex:{}", hex(bytes)) };
    let is_word = !text.chars().any(|char| char.is_control() || is_hidden(char))
        && word_len(text) == Some(text.len())
        && !["text:", "bytes:", "hex:"].iter().any(|prefix| text.starts_with(prefix));
    if is_word && !text.is_empty() { text.to_owned() } else { format!("text:{}", quote(text)) }
}

/// Whether a character cannot be seen where it stands (it may even turn the text around).
fn is_hidden(char: char) -> bool {
    char != '\'' && char != '"' && char != '\\' && char.escape_debug().len() > 1
}

fn quote(text: &str) -> String {
    let mut quoted = "\"".to_owned();
    for char in text.chars() {
        if char == '\'' {
            quoted.push(char);
        } else {
            quoted.extend(char.escape_debug());
        }
    }
    quoted.push('"');
    quoted
}
