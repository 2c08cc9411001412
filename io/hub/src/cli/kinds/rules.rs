//! The rules of a kind as flags: one for each rule of the hub, which judges the values.

use clap::builder::NonEmptyStringValueParser;
use serde_json::{Map, Value};

/// A rule: its member on the wire, of which the flag is made, what its value is, and what it does.
struct Rule {
    member: &'static str,
    value_name: &'static str,
    help: &'static str,
}

/// The word that stands for the hub's own setting.
const DEFAULT: &str = "default";

const HEADING: &str = "Rules (`default` for the hub's own setting)";

const RULES: &[Rule] = &[
    Rule { member: "max_inflight", value_name: "N", help: "Jobs of the kind under lease at once" },
    Rule { member: "rate_per_sec", value_name: "RATE", help: "Leases a second, to a thousandth" },
    Rule { member: "burst", value_name: "N", help: "Leases that may come at once below the rate" },
    Rule {
        member: "priority",
        value_name: "WORD",
        help: "Priority of jobs that name none: critical, high, normal, low",
    },
    Rule { member: "lease_sec", value_name: "SEC", help: "Duration of a lease where neither job nor pull names one" },
    Rule { member: "ttl_sec", value_name: "SEC", help: "Time to live of jobs that name none" },
    Rule { member: "max_attempts", value_name: "N", help: "Attempts of jobs that name none" },
    Rule { member: "max_losses", value_name: "N", help: "Lost leases of a job until it is dead" },
    Rule {
        member: "max_run_sec",
        value_name: "SEC",
        help: "Longest time from a lease to its end, with all extensions",
    },
    Rule { member: "backoff_base_ms", value_name: "MS", help: "Delay of the first retry" },
    Rule { member: "backoff_cap_ms", value_name: "MS", help: "Longest delay of a retry" },
    Rule {
        member: "on_exhausted",
        value_name: "WORD",
        help: "What becomes of a job without attempts left: park, drop",
    },
    Rule { member: "max_letters", value_name: "N", help: "Dead letters of the kind" },
    Rule {
        member: "on_letters_full",
        value_name: "WORD",
        help: "What happens beyond that: evict (the oldest), refuse",
    },
];

/// The rules that were named, by member.
#[derive(Clone, Debug)]
pub struct RuleArgs(pub Map<String, Value>);

impl clap::FromArgMatches for RuleArgs {
    fn from_arg_matches(matches: &clap::ArgMatches) -> Result<Self, clap::Error> {
        let mut rules = RuleArgs(Map::new());
        rules.update_from_arg_matches(matches)?;
        Ok(rules)
    }

    fn update_from_arg_matches(&mut self, matches: &clap::ArgMatches) -> Result<(), clap::Error> {
        for rule in RULES {
            if let Some(text) = matches.get_one::<String>(rule.member) {
                self.0.insert(rule.member.to_owned(), value_of(text));
            }
        }
        Ok(())
    }
}

impl clap::Args for RuleArgs {
    fn augment_args(command: clap::Command) -> clap::Command {
        RULES.iter().fold(command, |command, rule| {
            let arg = clap::Arg::new(rule.member).long(rule.member.replace('_', "-")).value_name(rule.value_name);
            command.arg(arg.help(rule.help).help_heading(HEADING).value_parser(NonEmptyStringValueParser::new()))
        })
    }

    fn augment_args_for_update(command: clap::Command) -> clap::Command {
        RuleArgs::augment_args(command)
    }
}

/// A value as JSON: a number, `null` for the hub's own setting, else a word.
fn value_of(text: &str) -> Value {
    let text = text.trim();
    match serde_json::from_str(text) {
        Ok(Value::Number(number)) => Value::Number(number),
        _ if text == DEFAULT => Value::Null,
        _ => Value::String(text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_is_a_number_a_word_or_the_hubs_own_setting() {
        let command = <RuleArgs as clap::Args>::augment_args(clap::Command::new("set"));
        let args = ["set", "--max-inflight", "5", "--rate-per-sec", "0.25", "--priority", "low", "--burst", "default"];
        let matches = command.try_get_matches_from(args).unwrap();
        let RuleArgs(rules) = clap::FromArgMatches::from_arg_matches(&matches).unwrap();
        assert_eq!(
            Value::Object(rules),
            serde_json::json!({"max_inflight": 5, "rate_per_sec": 0.25, "priority": "low", "burst": null})
        );
    }
}
