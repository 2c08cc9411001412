//! Instants on the command line: absolute, or relative to now.

use sheratan_core::{Millis, Utc};
use sheratan_io::rfc3339;
use std::str::FromStr;

/// An instant as it is written on the command line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Instant {
    /// `2026-01-15T20:52:03Z`
    At(Utc),
    /// `15m`: this long before now.
    Ago(Millis),
}

impl Instant {
    /// The instant, if it is `now`.
    pub fn resolve(self, now: Utc) -> Utc {
        match self {
            Instant::At(at) => at,
            Instant::Ago(duration) => now - duration,
        }
    }
}

impl FromStr for Instant {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(ago) = duration(text) {
            return Ok(Instant::Ago(ago));
        }
        let expected = "expected an RFC 3339 instant such as 2026-01-15T20:52:03Z, or how long ago: 30s, 15m, 2h, 7d";
        rfc3339::parse(text).map(Instant::At).map_err(|_| expected.to_owned())
    }
}

/// A duration on the command line: `90s`, `15m`, `2h`, `7d`.
pub fn parse_duration(text: &str) -> Result<Millis, String> {
    duration(text).ok_or_else(|| "expected a duration such as 90s, 15m, 2h, 7d".to_owned())
}

fn duration(text: &str) -> Option<Millis> {
    let digits_end = text.find(|letter: char| !letter.is_ascii_digit())?;
    let (digits, unit) = text.split_at(digits_end);
    let secs = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return None,
    };
    Some(Millis::from_secs(digits.parse::<u64>().ok()?.checked_mul(secs)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instant_is_absolute_or_relative_to_now() {
        let now = Utc::from_millis(1_768_510_323_348);
        let table = [
            ("0s", 1_768_510_323_348),
            ("90s", 1_768_510_233_348),
            ("15m", 1_768_509_423_348),
            ("2h", 1_768_503_123_348),
            ("7d", 1_767_905_523_348),
            ("99999999d", 0),
            ("2026-01-15T20:52:03Z", 1_768_510_323_000),
            ("2026-01-15T22:52:03.348+02:00", 1_768_510_323_348),
        ];
        for (text, millis) in table {
            let at = text.parse::<Instant>().map(|instant| instant.resolve(now));
            assert_eq!(at, Ok(Utc::from_millis(millis)), "{text}");
        }
    }

    #[test]
    fn any_other_text_is_refused_with_examples() {
        for text in ["", "15", "m", "15 m", "1.5h", "-2h", "2w", "15min", "99999999999999999999d", "2026-01-15", "now"]
        {
            assert!(text.parse::<Instant>().unwrap_err().contains("15m"), "{text}");
        }
    }
}
