//! A line of the audit log, parsed, and as text: time, event, `key=value`.

use super::super::terminal::{BAD, BOLD, DIM, WARN, printable, styled};
use anstyle::Style;
use serde::Deserialize;
use serde_json::{Map, Value};
use std::borrow::Cow;

/// Events that indicate an attack or a fault; a `*` matches any ending.
const ALARMING: [&str; 6] =
    ["AUTH_FAILURE", "RESULT_INTEGRITY_FAIL", "ATTESTATION_SPOOF*", "IDENTITY_*", "AUDIT_LINE_TORN", "NODE_DEAD"];

/// Events that deserve attention.
const NOTABLE: [&str; 13] = [
    "PORT_MISMATCH",
    "BACKPRESSURE_DROP",
    "INFLIGHT_SATURATED",
    "OVERLOADED",
    "IDEMPOTENCY_KEY_COLLISION",
    "RETRY_EXHAUSTED",
    "RESULT_ORPHANED",
    "NODE_STALE",
    "ATTESTATION_DRIFT",
    "ATTESTATION_MISSING",
    "DLQ_ENQUEUE",
    "TOKEN_*",
    "ADMIN_*",
];

/// A parsed line.
#[derive(Deserialize)]
pub struct Line<'a> {
    /// When, as the line says it.
    #[serde(borrow)]
    pub ts: Cow<'a, str>,
    /// What.
    #[serde(borrow)]
    pub event: Cow<'a, str>,
    /// Particulars.
    #[serde(default)]
    pub details: Map<String, Value>,
}

impl<'a> Line<'a> {
    /// Parses a line; `None` if it is not a line of an audit log.
    pub fn parse(line: &'a [u8]) -> Option<Self> {
        serde_json::from_slice(line).ok()
    }

    /// How many events the line counts: repeated events share a line.
    pub fn count(&self) -> u64 {
        self.details.get("count").and_then(Value::as_u64).unwrap_or(1)
    }
}

/// A line as text. A line that cannot be parsed is shown unchanged.
pub fn shown(line: &[u8]) -> String {
    let Some(parsed) = Line::parse(line) else {
        return styled(DIM, printable(&String::from_utf8_lossy(line)));
    };
    let event = styled(style(&parsed.event), printable(&parsed.event));
    let mut text = format!("{}  {event}", styled(DIM, printable(&parsed.ts)));
    for (key, value) in &parsed.details {
        text += &format!(" {}{}", styled(DIM, format_args!("{}=", printable(key))), detail(value));
    }
    text
}

/// The colour of an event.
pub fn style(event: &str) -> Style {
    let is_of = |names: &[&str]| names.iter().any(|name| fits(name, event));
    match () {
        () if is_of(&ALARMING) => BAD,
        () if is_of(&NOTABLE) => WARN,
        () => BOLD,
    }
}

/// Whether an event's name matches, up to a `*` at the pattern's end.
pub fn fits(name: &str, event: &str) -> bool {
    name.strip_suffix('*').map_or(name == event, |start| event.starts_with(start))
}

fn detail(value: &Value) -> String {
    match value {
        // So that the end of the value is visible.
        Value::String(text) if text.is_empty() || text.contains([' ', '"']) => {
            printable(&Value::to_string(value)).into()
        }
        Value::String(text) => printable(text).into(),
        other => printable(&other.to_string()).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(line: &str) -> String {
        anstream::adapter::strip_str(&shown(line.as_bytes())).to_string()
    }

    #[test]
    fn a_line_is_shown_as_time_event_and_details() {
        let line = r#"{"ts":"2026-01-15T20:52:03.348Z","event":"X","details":{"ip":"::1","n":3,"none":null,"text":"a b",
            "empty":"","list":[1,"x"]},"seq":1,"prev":"00"}"#;
        let expected = r#"2026-01-15T20:52:03.348Z  X empty="" ip=::1 list=[1,"x"] n=3 none=null text="a b""#;
        assert_eq!(plain(line), expected);
        assert_eq!(plain(r#"{"ts":"t","event":"X"}"#), "t  X");
    }

    #[test]
    fn nothing_in_a_line_reaches_the_terminal_as_a_command() {
        let line =
            "{\"ts\":\"t\",\"event\":\"X\\u001b[2J\",\"details\":{\"path\":\"/\\u001b]0;x\\u0007\\u009b\\u202e\"}}";
        assert_eq!(plain(line), r"t  X\u{1b}[2J path=/\u{1b}]0;x\u{7}\u{9b}\u{202e}");
        assert_eq!(plain("half of\x1b[1m a line é"), r"half of\u{1b}[1m a line é");
    }

    #[test]
    fn events_have_the_colour_of_what_they_mean() {
        let table = [
            ("AUTH_FAILURE", BAD),
            ("ATTESTATION_SPOOF_SUSPECT", BAD),
            ("PORT_MISMATCH", WARN),
            ("TOKEN_RETIRED", WARN),
            ("NODE_ONLINE", BOLD),
            ("AUTH_FAILURES", BOLD),
        ];
        for (event, expected) in table {
            assert_eq!(style(event), expected, "{event}");
        }
    }

    #[test]
    fn a_line_with_a_count_stands_for_that_many_events() {
        for (details, count) in [("{}", 1), (r#"{"count":7}"#, 7), (r#"{"count":"7"}"#, 1)] {
            let line = format!(r#"{{"ts":"t","event":"X","details":{details}}}"#);
            assert_eq!(Line::parse(line.as_bytes()).unwrap().count(), count);
        }
    }
}
