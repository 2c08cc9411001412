//! Denials: what a caller is told whom a policy denies something.

use super::compiled::{DeniedBy, Policy};
use super::words::Operation;
use std::fmt;

/// Why a policy denies a request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Denial {
    /// That of the policy.
    pub version: u64,
    pub operation: Operation,
    /// The id of the rule that denies it, if one does.
    pub rule: Option<String>,
    pub reason: String,
}

impl Policy {
    /// What a caller is told about a decision of this policy.
    pub fn denial(&self, operation: Operation, by: DeniedBy) -> Denial {
        let rule = match by {
            DeniedBy::Rule(index) => Some(self.rule(index)),
            _ => None,
        };
        let reason = match by {
            DeniedBy::Rule(_) => {
                let given = rule.and_then(|rule| rule.reason.clone());
                given.unwrap_or_else(|| format!("a rule denies {operation}"))
            }
            DeniedBy::Floor => format!("{operation} is for callers on the hub's own machine"),
            DeniedBy::Roles => format!("no role of the caller may {operation}"),
            DeniedBy::Gate(gate) => format!("{operation} requires {gate}"),
            DeniedBy::Default => format!("no rule allows {operation}"),
        };
        Denial { version: self.version(), operation, rule: rule.map(|rule| rule.id.clone()), reason }
    }
}

impl fmt::Display for Denial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Denial { version, rule, reason, .. } = self;
        match rule {
            Some(rule) => write!(f, "policy version {version}, rule {rule}: {reason}"),
            None => write!(f, "policy version {version}: {reason}"),
        }
    }
}
