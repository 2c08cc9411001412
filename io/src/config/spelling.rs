//! Spelling: what files and shells of other systems leave around a value, and what in a value cannot be seen.

use super::table::ValueType;

/// The value without a byte order mark, the white space and the pair of quotes around it: env files of service managers
/// keep carriage returns and quotes. A secret keeps its quotes, which may be part of it.
pub fn plain(value_type: ValueType, text: &str) -> &str {
    let text = text.trim_start_matches('\u{feff}').trim();
    if value_type == ValueType::Secret {
        return text;
    }
    let unquoted = ['"', '\''].into_iter().find_map(|quote| text.strip_prefix(quote)?.strip_suffix(quote));
    unquoted.map_or(text, str::trim)
}

/// The first character of a refused value that is not seen, or looks like another one, escaped; with a blank in front.
pub fn unseen(text: &str) -> String {
    let odd = text.char_indices().find(|(_, character)| !character.is_ascii_graphic());
    odd.map_or_else(String::new, |(at, character)| {
        let number = text[..at].chars().count() + 1;
        format!(" (character {number} is {})", character.escape_unicode())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_surrounds_a_value_is_dropped_and_what_is_in_it_stays() {
        let number = ValueType::Number(1, 9);
        for text in ["500", "500\r", "500\r\n", " 500\t", "\"500\"", "'500'\r", "\u{feff}500", "\u{feff}\" 500\""] {
            assert_eq!(plain(number, text), "500", "{text:?}");
        }
        for text in ["\"500", "500'", "5 00", "\"500'"] {
            assert_eq!(plain(number, text), text);
        }
        assert_eq!(plain(ValueType::Secret, "\"abc\"\r\n"), "\"abc\"");
        assert_eq!(unseen("50\u{a0}0"), " (character 3 is \\u{a0})");
        assert_eq!(unseen("x\"y"), "");
    }
}
