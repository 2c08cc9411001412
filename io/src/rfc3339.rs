//! Instants as the wire contract writes them: RFC 3339, UTC, milliseconds.

use jiff::fmt::temporal::DateTimeParser;
use sheratan_core::time::Timestamp;
use std::fmt;

/// An instant as text: `2026-01-15T20:52:03.348Z`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rfc3339(Timestamp);

/// A text is no instant.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ParseError;

/// The last instant that the calendar's library knows; "never" is shown as it.
const LAST_MILLIS: u64 = 253_402_207_200_000;

const PARSER: DateTimeParser = DateTimeParser::new();

impl Rfc3339 {
    /// The instant, to be written.
    pub const fn new(at: Timestamp) -> Self {
        Rfc3339(at)
    }
}

impl fmt::Display for Rfc3339 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.0.as_millis().min(LAST_MILLIS);
        let at = jiff::Timestamp::from_millisecond(millis.cast_signed()).expect("it is in the calendar");
        let at = jiff::tz::Offset::UTC.to_datetime(at);
        write!(
            f,
            "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z",
            at.year(),
            at.month(),
            at.day(),
            at.hour(),
            at.minute(),
            at.second(),
            at.millisecond()
        )
    }
}

/// The instant that a text names, with any offset; what is below a millisecond is cut.
pub fn parse(text: &str) -> Result<Timestamp, ParseError> {
    let at = PARSER.parse_timestamp(text).map_err(|_| ParseError)?;
    u64::try_from(at.as_millisecond()).map(Timestamp::from_millis).map_err(|_| ParseError)
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("expected an RFC 3339 instant such as 2026-01-15T20:52:03.348Z, from 1970 on")
    }
}

impl std::error::Error for ParseError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instant_is_written_in_utc_with_milliseconds() {
        let table = [
            (0, "1970-01-01T00:00:00.000Z"),
            (1_768_510_323_348, "2026-01-15T20:52:03.348Z"),
            (951_827_696_789, "2000-02-29T12:34:56.789Z"),
            (LAST_MILLIS, "9999-12-30T22:00:00.000Z"),
            (u64::MAX, "9999-12-30T22:00:00.000Z"),
        ];
        for (millis, text) in table {
            assert_eq!(Rfc3339::new(Timestamp::from_millis(millis)).to_string(), text);
        }
    }

    #[test]
    fn an_instant_is_read_with_any_offset_and_any_precision() {
        let expected = Timestamp::from_millis(1_768_510_323_348);
        for text in ["2026-01-15T20:52:03.348Z", "2026-01-15T22:52:03.348+02:00", "2026-01-15t20:52:03.348999z"] {
            assert_eq!(parse(text), Ok(expected), "{text}");
        }
        for text in ["", "soon", "2026-01-15", "2026-01-15T20:52:03", "2026-13-15T20:52:03Z", "1969-12-31T23:59:59Z"] {
            assert_eq!(parse(text), Err(ParseError), "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn what_was_written_reads_back(millis in 0..=LAST_MILLIS) {
            let at = Timestamp::from_millis(millis);
            proptest::prop_assert_eq!(parse(&Rfc3339::new(at).to_string()), Ok(at));
        }
    }
}
