//! Instants as text in the wire contract's format: RFC 3339, UTC, milliseconds.
//!
//! Each reply has several, so writing one is plain arithmetic into a fixed buffer: no allocation, no formatting
//! machinery. Reading is rarer and must accept all spellings of the standard: a library does it.

use jiff::civil::DateTime;
use jiff::fmt::temporal::DateTimeParser;
use serde::{Serialize, Serializer};
use sheratan_core::Utc;
use std::fmt;

/// An instant as text: `2026-01-15T20:52:03.348Z`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rfc3339(Utc);

/// The error for a text that is not an instant.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ParseError;

/// The last instant with a year of four digits; "never" is shown as this.
const LAST_MILLIS: u64 = 253_402_300_799_999;

const DAY_MILLIS: u64 = 86_400_000;

const PARSER: DateTimeParser = DateTimeParser::new();

impl Rfc3339 {
    /// The instant, to be written.
    pub const fn new(at: Utc) -> Self {
        Rfc3339(at)
    }
}

impl fmt::Display for Rfc3339 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.0.as_millis().min(LAST_MILLIS);
        let (year, month, day) = civil_date(millis / DAY_MILLIS);
        let of_day = millis % DAY_MILLIS;
        let mut text = *b"0000-00-00T00:00:00.000Z";
        let fields = [
            (0..4, year),
            (5..7, month),
            (8..10, day),
            (11..13, of_day / 3_600_000),
            (14..16, of_day / 60_000 % 60),
            (17..19, of_day / 1_000 % 60),
            (20..23, of_day % 1_000),
        ];
        for (place, mut number) in fields {
            for digit in text[place].iter_mut().rev() {
                *digit = b'0' + (number % 10) as u8;
                number /= 10;
            }
        }
        f.write_str(std::str::from_utf8(&text).expect("it is of digits"))
    }
}

impl Serialize for Rfc3339 {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Year, month and day of a day counted from 1970-01-01, by the Gregorian calendar. The year is taken to begin in
/// March: then the leap day is its last, and the months' lengths follow one line (Howard Hinnant, `chrono`-Compatible
/// Low-Level Date Algorithms, `civil_from_days`).
const fn civil_date(day: u64) -> (u64, u64, u64) {
    const DAYS_TO_1970_FROM_MARCH_0000: u64 = 719_468;
    const DAYS_OF_400_YEARS: u64 = 146_097;
    let day = day + DAYS_TO_1970_FROM_MARCH_0000;
    let (era, day_of_era) = (day / DAYS_OF_400_YEARS, day % DAYS_OF_400_YEARS);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day_of_month = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + (month <= 2) as u64;
    (year, month, day_of_month)
}

/// Parses an instant with any offset; fractions of a millisecond are cut.
///
/// # Errors
/// The text is not an instant with an offset, or is before 1970 or after 9999.
pub fn parse(text: &str) -> Result<Utc, ParseError> {
    // In pieces, since the library's instants end a day before the calendar does, and "never" must read back.
    let pieces = PARSER.parse_pieces(text).map_err(|_| ParseError)?;
    let (Some(time), Some(offset)) = (pieces.time(), pieces.to_numeric_offset()) else { return Err(ParseError) };
    let civil = DateTime::from_parts(pieces.date(), time);
    let local = civil.duration_since(DateTime::constant(1970, 1, 1, 0, 0, 0, 0)).as_millis();
    let millis = local - i128::from(offset.seconds()) * 1_000;
    u64::try_from(millis).ok().filter(|millis| *millis <= LAST_MILLIS).map(Utc::from_millis).ok_or(ParseError)
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
            (4_107_542_399_999, "2100-02-28T23:59:59.999Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
            (LAST_MILLIS, "9999-12-31T23:59:59.999Z"),
            (LAST_MILLIS + 1, "9999-12-31T23:59:59.999Z"),
            (u64::MAX, "9999-12-31T23:59:59.999Z"),
        ];
        for (millis, text) in table {
            assert_eq!(Rfc3339::new(Utc::from_millis(millis)).to_string(), text);
        }
    }

    #[test]
    fn an_instant_is_read_with_any_offset_and_any_precision() {
        let expected = Utc::from_millis(1_768_510_323_348);
        let same = [
            "2026-01-15T20:52:03.348Z",
            "2026-01-15T22:52:03.348+02:00",
            "2026-01-15T12:22:03.348-08:30",
            "2026-01-15t20:52:03.348999z",
        ];
        for text in same {
            assert_eq!(parse(text), Ok(expected), "{text}");
        }
        assert_eq!(parse("1970-01-01T01:00:00+01:00"), Ok(Utc::ZERO));
    }

    #[test]
    fn a_text_that_is_not_an_instant_of_the_calendar_is_refused() {
        let table = [
            "",
            "soon",
            "2026-01-15",
            "2026-01-15T20:52:03",
            "2026-13-15T20:52:03Z",
            "2026-02-29T00:00:00Z",
            "1969-12-31T23:59:59Z",
            "1970-01-01T00:59:59+01:00",
            "9999-12-31T23:59:59.999-00:01",
            "2026-01-15T20:52:03Z and more",
            "2026-01-15T20:52:03[Europe/Berlin]",
        ];
        for text in table {
            assert_eq!(parse(text), Err(ParseError), "{text}");
        }
        assert!(ParseError.to_string().starts_with("expected an RFC 3339 instant"));
    }

    #[test]
    fn every_day_of_the_calendar_equals_that_of_another_implementation() {
        let mut date = jiff::civil::date(1970, 1, 1);
        for day in 0..=LAST_MILLIS / DAY_MILLIS {
            let (year, month, day_of_month) = civil_date(day);
            assert_eq!((year as i16, month as i8, day_of_month as i8), (date.year(), date.month(), date.day()));
            date = date.tomorrow().unwrap_or(date);
        }
    }

    proptest::proptest! {
        #[test]
        fn what_was_written_reads_back(millis in 0..=LAST_MILLIS) {
            let at = Utc::from_millis(millis);
            proptest::prop_assert_eq!(parse(&Rfc3339::new(at).to_string()), Ok(at));
        }
    }
}
