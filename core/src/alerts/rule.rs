//! Rules: how many events of one name, in which time, are a burst.

use crate::time::Millis;
use ipnet::IpNet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;

/// Events that are not a burst yet; with 0 each one is. A rule has to keep one event more than this.
pub const THRESHOLDS: RangeInclusive<u64> = 0..=10_000;

/// The time in which events are counted, in seconds: up to a day.
pub const WINDOW_SECS: RangeInclusive<u64> = 1..=86_400;

/// How long an alert stays open after the burst, in seconds.
pub const COOLDOWN_SECS: RangeInclusive<u64> = 0..=86_400;

/// Bytes of a rule's name, event and group member: they are part of every line about the rule.
pub const WORD_BYTES_MAX: usize = 64;

/// Networks that one rule ignores: each of its events is compared with each.
pub const IGNORED_MAX: usize = 64;

/// When events of one name are a burst.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rule {
    /// One word.
    pub name: String,
    /// The events that it counts, by their name in the audit log.
    pub event: String,
    /// More than so many in the window are a burst.
    pub threshold: u64,
    /// The time in which they are counted.
    pub window: Millis,
    /// The member of the events' details by which they are grouped: each value is counted separately.
    pub group_by: Option<String>,
    /// Events of these addresses are not counted.
    pub ignore: Vec<IpNet>,
    /// How long an alert stays open after the burst: another burst in that time belongs to it.
    pub cooldown: Millis,
}

/// Why a rule is invalid.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RuleError {
    /// A name, an event or a group member is empty, too long, or has characters that a word may not have.
    Word { member: &'static str },
    /// A number is out of its range.
    Number { member: &'static str, range: RangeInclusive<u64> },
    /// It ignores more networks than it may.
    TooManyIgnored,
}

impl Rule {
    /// The default rules: more than 20 failed authentications in a minute from other machines, and more than 20
    /// requests for a path of the other plane; each stored result that no longer matches its checksum; more than 20
    /// dead letters of a kind in ten minutes; and what is bad only if it lasts, which is one event each.
    pub fn built_in() -> Vec<Rule> {
        let rule = |name: &str, event: &str| Rule {
            name: name.into(),
            event: event.into(),
            threshold: 20,
            window: Millis::from_secs(60),
            group_by: None,
            ignore: Rule::ignored_by_default(event),
            cooldown: Millis::from_secs(300),
        };
        let corrupt = Rule { threshold: 0, ..rule("result_corrupt", "RESULT_CORRUPT") };
        let of_kind = Some("kind".to_owned());
        let letters = Rule {
            window: Millis::from_secs(600),
            cooldown: Millis::from_secs(900),
            group_by: of_kind.clone(),
            ..rule("dead_letters_growing", "DLQ_ENQUEUE")
        };
        // These events are repeated every ten minutes while what they report lasts.
        let lasting = |name, event| Rule { threshold: 0, cooldown: Millis::from_secs(900), ..rule(name, event) };
        let failing = Rule { group_by: of_kind, ..lasting("kind_only_fails", "KIND_ONLY_FAILS") };
        let quarantined =
            Rule { group_by: Some("node_id".to_owned()), ..lasting("node_quarantined", "POLICY_QUARANTINED") };
        // Many nodes that drift to the same build are a deployment: one alert, and a line in the audit log for each.
        let deployed = Rule {
            threshold: 4,
            window: Millis::from_secs(600),
            group_by: Some("new_build".to_owned()),
            ..lasting("deploy_wave", "ATTESTATION_DRIFT")
        };
        vec![
            rule("auth_failure_burst", "AUTH_FAILURE"),
            rule("port_mismatch_burst", "PORT_MISMATCH"),
            corrupt,
            letters,
            lasting("dead_letters_nearly_full", "DLQ_NEARLY_FULL"),
            lasting("backpressure_lasts", "BACKPRESSURE_LASTS"),
            lasting("no_progress", "NO_PROGRESS"),
            failing,
            quarantined,
            deployed,
        ]
    }

    /// The networks that a rule for this event ignores by default: for failed authentications the hub's own machine,
    /// where a mistyped token is not an attack.
    pub fn ignored_by_default(event: &str) -> Vec<IpNet> {
        if event != "AUTH_FAILURE" {
            return Vec::new();
        }
        let net = |address: IpAddr, prefix| IpNet::new(address, prefix).expect("these are prefixes of addresses");
        vec![net(Ipv4Addr::new(127, 0, 0, 0).into(), 8), net(Ipv6Addr::LOCALHOST.into(), 128)]
    }

    /// Whether the rule is valid.
    pub fn check(&self) -> Result<(), RuleError> {
        let words = [("name", Some(&self.name)), ("event", Some(&self.event)), ("group_by", self.group_by.as_ref())];
        for (member, word) in words {
            let is_word = |word: &String| {
                (1..=WORD_BYTES_MAX).contains(&word.len())
                    && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte))
            };
            if !word.is_none_or(is_word) {
                return Err(RuleError::Word { member });
            }
        }
        let numbers = [
            ("threshold", self.threshold, THRESHOLDS),
            ("window_sec", self.window.as_secs_ceil(), WINDOW_SECS),
            ("cooldown_sec", self.cooldown.as_secs_ceil(), COOLDOWN_SECS),
        ];
        for (member, number, range) in numbers {
            if !range.contains(&number) {
                return Err(RuleError::Number { member, range });
            }
        }
        if self.ignore.len() > IGNORED_MAX { Err(RuleError::TooManyIgnored) } else { Ok(()) }
    }

    /// Whether events of the address are not counted.
    pub(super) fn ignores(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.ignore.iter().any(|net| net.contains(&address))
    }
}

impl fmt::Display for RuleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RuleError::Word { member } => {
                write!(f, "{member} must be a word of 1 to {WORD_BYTES_MAX} letters, digits, _, - or .")
            }
            RuleError::Number { member, range } => {
                write!(f, "{member} must be a whole number from {} to {}", range.start(), range.end())
            }
            RuleError::TooManyIgnored => write!(f, "ignore must have at most {IGNORED_MAX} entries"),
        }
    }
}

impl std::error::Error for RuleError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_rules_are_valid() {
        for rule in Rule::built_in() {
            assert_eq!(rule.check(), Ok(()));
        }
    }

    #[test]
    fn numbers_are_checked_at_their_edges() {
        let rule = || Rule::built_in().remove(0);
        let table = [
            (Rule { threshold: 0, ..rule() }, None),
            (Rule { threshold: 10_000, ..rule() }, None),
            (Rule { threshold: 10_001, ..rule() }, Some("threshold must be a whole number from 0 to 10000")),
            (Rule { window: Millis::ZERO, ..rule() }, Some("window_sec must be a whole number from 1 to 86400")),
            (Rule { cooldown: Millis::ZERO, ..rule() }, None),
            (Rule { cooldown: Millis::from_secs(86_401), ..rule() }, Some("cooldown_sec must be")),
            (Rule { name: "a b".into(), ..rule() }, Some("name must be a word")),
            (Rule { group_by: Some(String::new()), ..rule() }, Some("group_by must be a word")),
            (Rule { ignore: vec![rule().ignore[0]; 65], ..rule() }, Some("ignore must have at most 64")),
        ];
        for (rule, expected) in table {
            let is = rule.check().err().map(|error| error.to_string());
            assert_eq!(is.is_some(), expected.is_some(), "{rule:?}");
            assert!(is.unwrap_or_default().starts_with(expected.unwrap_or_default()));
        }
    }

    #[test]
    fn this_machine_is_ignored_by_default_for_failed_authentications_only() {
        let mut rules = Rule::built_in().into_iter();
        let (auth, port) = (rules.next().expect("the first"), rules.next().expect("the second"));
        for (address, is_ignored) in [
            ("127.0.0.1", true),
            ("127.9.9.9", true),
            ("::1", true),
            ("::ffff:127.0.0.1", true),
            ("128.0.0.1", false),
            ("192.0.2.1", false),
            ("::2", false),
        ] {
            let address: IpAddr = address.parse().unwrap();
            assert_eq!((auth.ignores(address), port.ignores(address)), (is_ignored, false), "{address}");
        }
    }
}
