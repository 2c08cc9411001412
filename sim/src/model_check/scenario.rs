//! Scenario: a run written down, a step a line.
//!
//! ```text
//! # A superseded job frees its own bytes, not all that the new one needs.
//! key 12
//! apply 1768500000000 0100...  # Configure(...)
//! ```
//! `key` names the seed from which the hub's key is made: it decides how retries are spread. All after `#` is a remark;
//! the first line says what the scenario shows.

use crate::model_check::step::{Step, StepError};
use std::fmt;

/// A run written down.
#[derive(Clone, PartialEq, Debug)]
pub struct Scenario {
    /// The seed of the hub's key.
    pub key_seed: u64,
    /// What happens.
    pub steps: Vec<Step>,
}

/// A text is no scenario.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ScenarioError {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub error: StepError,
}

impl Scenario {
    /// The scenario that a text describes.
    pub fn parse(text: &str) -> Result<Self, ScenarioError> {
        let mut scenario = Scenario { key_seed: 0, steps: Vec::new() };
        for (index, line) in text.lines().enumerate() {
            let failed = |error| ScenarioError { line: index + 1, error };
            if let Some(seed) = line.strip_prefix("key ") {
                let malformed = |_| failed(StepError::Malformed("seed", seed.to_owned()));
                scenario.key_seed = seed.trim().parse().map_err(malformed)?;
            } else {
                scenario.steps.extend(Step::parse(line).map_err(failed)?);
            }
        }
        Ok(scenario)
    }
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "key {}", self.key_seed)?;
        self.steps.iter().try_for_each(|step| writeln!(f, "{step}"))
    }
}

impl fmt::Display for ScenarioError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.error)
    }
}

impl std::error::Error for ScenarioError {}

#[cfg(test)]
mod tests {
    use super::*;
    use sheratan_core::Timestamp;

    #[test]
    fn a_scenario_reads_back_as_it_was_written() {
        let steps = vec![Step::Advance(Timestamp::from_millis(1)), Step::Sync];
        let scenario = Scenario { key_seed: 7, steps };
        let text = format!("# What it shows.\n\n{scenario}");
        assert_eq!(Scenario::parse(&text), Ok(scenario));
    }

    #[test]
    fn a_wrong_line_is_named_by_its_number() {
        let error = Scenario::parse("# one\nkey 1\njump\n").expect_err("there is no such step");
        assert_eq!(error.line, 3);
        assert!(error.to_string().starts_with("line 3: `jump` is no step"), "{error}");
        assert_eq!(Scenario::parse("key x").expect_err("no number").line, 1);
    }
}
