//! Rules: `alert_rules.json`, read as a whole or not at all.
//!
//! ```json
//! {"rules":[{"name":"login_storm","event":"AUTH_FAILURE","threshold":50,"window_sec":60,"group_by":"ip",
//!            "ignore":["127.0.0.0/8","192.0.2.7"],"cooldown_sec":600,"enabled":true}]}
//! ```
//! `name`, `event` and `threshold` are required. A rule with the name of a built-in one replaces it, or with
//! `"enabled":false` removes it; all others are added.

use ipnet::IpNet;
use serde::Deserialize;
use sheratan_core::Millis;
use sheratan_core::alerts::{Alerts, IGNORED_MAX, RULES_MAX, Rule};
use std::fmt;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

/// The most bytes of the file: a hundred times the size of the most rules.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Rules that cannot be used: one line with the file, what is wrong, and what is allowed.
#[derive(Debug)]
pub struct RulesError {
    path: PathBuf,
    reason: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    rules: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    #[serde(default)]
    event: Option<String>,
    #[serde(default)]
    threshold: Option<u64>,
    #[serde(default)]
    window_sec: Option<u64>,
    #[serde(default)]
    group_by: Option<String>,
    #[serde(default)]
    ignore: Option<Vec<String>>,
    #[serde(default)]
    cooldown_sec: Option<u64>,
    #[serde(default = "yes")]
    enabled: bool,
}

fn yes() -> bool {
    true
}

/// Reads a file's rules; returns an engine for them and for the built-in ones that they do not replace.
pub fn read(path: &Path) -> Result<Alerts, RulesError> {
    let error = |reason: String| RulesError { path: path.to_owned(), reason };
    let text = read_text(path).map_err(|cause| error(format!("cannot be read: {cause}")))?;
    parse(&text).map_err(error)
}

/// As [`read`]; an engine for the built-in rules if the file does not exist.
pub fn read_if_there(path: &Path) -> Result<Alerts, RulesError> {
    if path.exists() { read(path) } else { Ok(built_in()) }
}

/// An engine for the built-in rules.
pub fn built_in() -> Alerts {
    Alerts::new(Rule::built_in()).expect("the built-in rules can be followed")
}

fn read_text(path: &Path) -> io::Result<String> {
    if std::fs::metadata(path)?.len() > FILE_BYTES_MAX {
        return Err(io::Error::other(format!("it has more than {FILE_BYTES_MAX} bytes: is it the right file?")));
    }
    let text = std::fs::read_to_string(path)?;
    // Editors of some systems begin a text with a byte order mark.
    Ok(text.strip_prefix('\u{feff}').map_or(text.clone(), str::to_owned))
}

fn parse(text: &str) -> Result<Alerts, String> {
    let file: File = serde_json::from_str(text).map_err(|error| format!("is not what it must be: {error}"))?;
    let mut rules = Rule::built_in();
    let mut names: Vec<String> = Vec::new();
    for entry in file.rules {
        if names.contains(&entry.name) {
            return Err(format!("has two rules that are called {:?}", entry.name));
        }
        names.push(entry.name.clone());
        rules.retain(|rule| rule.name != entry.name);
        if entry.enabled {
            let name = entry.name.clone();
            rules.push(rule(entry).map_err(|reason| format!("has a rule {name:?} that cannot be followed: {reason}"))?);
        }
    }
    if rules.len() > RULES_MAX {
        return Err(format!("makes {} rules with the built-in ones; at most {RULES_MAX} can be followed", rules.len()));
    }
    let called: Vec<_> = rules.iter().map(|rule| rule.name.clone()).collect();
    let named = |(index, error)| format!("has a rule {:?} that cannot be followed: {error}", called[index]);
    Alerts::new(rules).map_err(named)
}

fn rule(entry: Entry) -> Result<Rule, String> {
    let event = entry.event.ok_or("event is missing")?;
    let ignore = match entry.ignore {
        None => Rule::ignored_by_default(&event),
        Some(texts) if texts.len() > IGNORED_MAX => {
            return Err(format!("ignore must have at most {IGNORED_MAX} entries"));
        }
        Some(texts) => texts.iter().map(|text| network(text)).collect::<Result<_, _>>()?,
    };
    Ok(Rule {
        name: entry.name,
        threshold: entry.threshold.ok_or("threshold is missing")?,
        window: Millis::from_secs(entry.window_sec.unwrap_or(60)),
        group_by: entry.group_by,
        cooldown: Millis::from_secs(entry.cooldown_sec.unwrap_or(300)),
        ignore,
        event,
    })
}

/// A network, or one address.
fn network(text: &str) -> Result<IpNet, String> {
    let address = || text.parse::<IpAddr>().map(IpNet::from);
    text.parse::<IpNet>()
        .or_else(|_| address())
        .map_err(|_| format!("{text:?} in ignore is no address and no network, such as 192.0.2.7 or 10.0.0.0/8"))
}

impl fmt::Display for RulesError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the alert rules {} {}", self.path.display(), self.reason)
    }
}

impl std::error::Error for RulesError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str) -> Vec<String> {
        parse(text).unwrap().rules().map(|(rule, ..)| rule.name.clone()).collect()
    }

    #[test]
    fn rules_are_added_to_the_built_in_ones_or_replace_them() {
        let added = r#"{"rules":[{"name":"mine","event":"LEASE_REAP","threshold":5}]}"#;
        let built_in: Vec<_> = Rule::built_in().into_iter().map(|rule| rule.name).collect();
        let and = |without: &str, last: &str| -> Vec<String> {
            let kept = built_in.iter().filter(|name| *name != without).cloned();
            kept.chain(Some(last.to_owned()).filter(|last| !last.is_empty())).collect()
        };
        assert_eq!(names(added), and("", "mine"));
        let replaced = r#"{"rules":[{"name":"auth_failure_burst","event":"AUTH_FAILURE","threshold":5}]}"#;
        assert_eq!(names(replaced), and("auth_failure_burst", "auth_failure_burst"));
        let removed = r#"{"rules":[{"name":"port_mismatch_burst","enabled":false}]}"#;
        assert_eq!(names(removed), and("port_mismatch_burst", ""));
    }

    #[test]
    fn optional_members_of_a_rule_have_defaults() {
        let text = r#"{"rules":[{"name":"a","event":"AUTH_FAILURE","threshold":5},
            {"name":"b","event":"AUTH_FAILURE","threshold":5,"window_sec":10,"group_by":"ip","ignore":["10.0.0.0/8","::2"],"cooldown_sec":0},
            {"name":"c","event":"AUTH_FAILURE","threshold":5,"ignore":[]}]}"#;
        let alerts = parse(text).unwrap();
        let rules: Vec<_> = alerts.rules().map(|(rule, ..)| rule).skip(Rule::built_in().len()).collect();
        assert_eq!((rules[0].window, rules[0].cooldown), (Millis::from_secs(60), Millis::from_secs(300)));
        assert_eq!(rules[0].ignore, Rule::ignored_by_default("AUTH_FAILURE"));
        assert_eq!(rules[1].ignore.iter().map(ToString::to_string).collect::<Vec<_>>(), ["10.0.0.0/8", "::2/128"]);
        assert_eq!((rules[1].cooldown, rules[1].group_by.as_deref()), (Millis::ZERO, Some("ip")));
        assert!(rules[2].ignore.is_empty());
    }

    #[test]
    fn an_invalid_file_is_refused_with_the_rule_that_is_wrong() {
        let table = [
            ("", "is not what it must be"),
            (r#"{"rules":[{"name":"a","treshold":5}]}"#, "unknown field `treshold`"),
            (r#"{"rules":[{"name":"a","threshold":5}]}"#, "\"a\" that cannot be followed: event is missing"),
            (r#"{"rules":[{"name":"a","event":"E"}]}"#, "threshold is missing"),
            (r#"{"rules":[{"name":"a","event":"E","threshold":10001}]}"#, "threshold must be a whole number from 0 to"),
            (r#"{"rules":[{"name":"a b","event":"E","threshold":1}]}"#, "name must be a word"),
            (r#"{"rules":[{"name":"a","event":"E","threshold":1,"ignore":["x"]}]}"#, "\"x\" in ignore is no address"),
            (r#"{"rules":[{"name":"a","enabled":false},{"name":"a","enabled":false}]}"#, "two rules"),
        ];
        for (text, expected) in table {
            let reason = parse(text).map(drop).unwrap_err();
            assert!(reason.contains(expected), "{text}: {reason}");
        }
        let many: Vec<_> = (0..RULES_MAX).map(|n| format!(r#"{{"name":"r{n}","event":"E","threshold":1}}"#)).collect();
        assert!(parse(&format!("{{\"rules\":[{}]}}", many.join(","))).map(drop).unwrap_err().contains("at most 48"));
    }
}
