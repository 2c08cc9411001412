//! Spelling: names of members and parameters that are ours but for case, separators, brackets or plural.
//!
//! Unknown names are ignored, so that clients may send what a later hub understands. But `kinds[]=a` is how some
//! libraries spell a list: ignored, it would give a worker jobs of all kinds.

use super::problem::Problem;

/// Longer names are no misspellings of ours.
const NAME_BYTES_MAX: usize = 64;

/// Refuses a name that is none of `known`, but was surely meant as one of them.
pub fn check(name: &str, known: &[&str]) -> Result<(), Problem> {
    match meant(name, known) {
        None => Ok(()),
        Some(known) => Err(Problem::bad_request(format!(
            "{known} is misspelled: it is written {known}, in lower case and without brackets"
        ))),
    }
}

fn meant<'k>(name: &str, known: &[&'k str]) -> Option<&'k str> {
    if name.len() > NAME_BYTES_MAX || known.contains(&name) {
        return None;
    }
    let name = plain(name);
    known.iter().copied().find(|known| {
        let known = plain(known);
        name == known || is_plural(&name, &known) || is_plural(&known, &name)
    })
}

/// A name in lower case, without separators and without what brackets follow it.
fn plain(name: &str) -> String {
    let name = name.split('[').next().unwrap_or_default();
    name.chars().filter(|character| !matches!(character, '_' | '-')).map(|c| c.to_ascii_lowercase()).collect()
}

fn is_plural(plural: &str, singular: &str) -> bool {
    let Some(stem) = plural.strip_suffix('s') else { return false };
    !singular.is_empty()
        && (stem == singular
            || stem.strip_suffix('e') == Some(singular)
            || stem.strip_suffix("ie").zip(singular.strip_suffix('y')).is_some_and(|(a, b)| a == b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_ours_but_for_its_spelling_is_told_from_an_unknown_one() {
        let known = ["kinds", "wait_ms", "status", "capabilities", "lease_sec"];
        let table = [
            ("kinds", None),
            ("kinds[]", Some("kinds")),
            ("kinds[0]", Some("kinds")),
            ("Kinds", Some("kinds")),
            ("kind", Some("kinds")),
            ("kind[]", Some("kinds")),
            ("waitMs", Some("wait_ms")),
            ("wait-ms", Some("wait_ms")),
            ("WAIT_MS", Some("wait_ms")),
            ("statuses", Some("status")),
            ("capability", Some("capabilities")),
            ("lease_secs", Some("lease_sec")),
            ("kindness", None),
            ("lease", None),
            ("wait", None),
            ("s", None),
            ("", None),
            ("[]", None),
        ];
        for (name, expected) in table {
            assert_eq!(meant(name, &known), expected, "{name}");
        }
        assert!(check("kinds[a secret]", &known).unwrap_err().detail.starts_with("kinds is misspelled"));
        assert!(check("kinds", &known).is_ok());
    }
}
